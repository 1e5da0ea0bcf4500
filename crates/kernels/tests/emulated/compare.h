// Random input, poisoned output, and their distance from what a formula says.

#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "device.h"

using bf16 = __nv_bfloat16;

// `kernel()` in each thread of each block.
inline void launch(unsigned blocks, unsigned threads, size_t shared_bytes,
                   const std::function<void()>& kernel) {
    emulated::launch({{blocks, 1, 1}, {threads, 1, 1}, shared_bytes}, kernel);
}

inline std::mt19937 generator(std::random_device{}());
inline int failures = 0;

template <typename T>
T stored(float value) {
    if constexpr (std::is_same_v<T, bf16>) {
        return __float2bfloat16(value);
    } else {
        return value;
    }
}

// Values at a multiple of 16 bytes, and not a byte behind them: the sanitizer sees what reaches further.
template <typename T>
struct Array {
    explicit Array(size_t count)
        : count(count), at(static_cast<T*>(::operator new(count * sizeof(T), ALIGNMENT))) {
        std::fill(at, at + count, stored<T>(NAN));
    }

    ~Array() { ::operator delete(at, ALIGNMENT); }

    Array(const Array&) = delete;

    static std::unique_ptr<Array> random(size_t count, float spread = 1, float mean = 0) {
        auto array = std::make_unique<Array>(count);
        std::normal_distribution<float> normal(mean, spread);
        for (size_t i = 0; i < count; i++) {
            array->at[i] = stored<T>(normal(generator));
        }
        return array;
    }

    double operator[](size_t i) const { return static_cast<double>(static_cast<float>(at[i])); }

    static constexpr std::align_val_t ALIGNMENT{16};
    size_t count;
    T* at;
};

using Formula = std::function<double(size_t)>;

// ‖found − expected‖ / ‖expected‖ over `count` values.
inline void compare(const std::string& name, size_t count, double tolerance, const Formula& found,
                    const Formula& expected) {
    double distance = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        const double value = expected(i);
        distance += std::pow(found(i) - value, 2);
        length += value * value;
    }
    const double error = std::sqrt(distance / length);
    const bool agrees = error < tolerance;
    failures += !agrees;
    std::printf("%-28s %.1e %s\n", name.c_str(), error, agrees ? "" : "WRONG");
}

// What each dtype's kernels are allowed: rounding of results, and of f32 sums.
template <typename T>
constexpr double TOLERANCE = std::is_same_v<T, bf16> ? 3e-3 : 2e-6;
