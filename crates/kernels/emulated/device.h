// As much of CUDA's device side as kernels need on a CPU: a block's threads are fibers of one host thread,
// which take turns at barriers; blocks are spread over the host's cores. x86-64.

#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#undef __global__
#undef __device__
#undef __forceinline__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
// Internal names are not emitted where nothing else names them.
#define __global__ [[gnu::used]]
#define __device__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
// A host thread has one block at a time, so what a block shares is the host thread's.
#define __shared__ static thread_local

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

constexpr unsigned WARP_SIZE = 32;

struct Grid {
    Index blocks{1, 1, 1}, threads{1, 1, 1};
    size_t shared_bytes = 0;
};

// `kernel()` in each thread of each block. Returns when all have.
void launch(const Grid& grid, const std::function<void()>& kernel);

// Until all threads of the block that still run have come here, or those of the warp.
void wait_for_block();
void wait_for_warp();

// What the calling thread gives to its warp's others, eight bytes each; two rounds of them, so that who
// is ahead does not overwrite what others still read.
uint64_t* exchanged();

// Of the calling thread's block.
char* dynamic_shared();

inline unsigned thread_index() {
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

}  // namespace emulated

// How kernels declare shared memory whose size the launch decides.
#define DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(emulated::dynamic_shared())

inline void __syncthreads() { emulated::wait_for_block(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance, int = 32) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t* const given = emulated::exchanged();
    const unsigned own = emulated::thread_index();
    std::memcpy(&given[own], &value, sizeof value);
    emulated::wait_for_warp();
    T other;
    std::memcpy(&other, &given[own ^ distance], sizeof other);
    return other;
}

template <typename T, typename Change>
T atomically(T* at, Change change) {
    std::atomic_ref<T> value(*at);
    T old = value.load();
    while (!value.compare_exchange_weak(old, change(old))) {
    }
    return old;
}

template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> by) {
    return atomically(at, [&](T old) { return static_cast<T>(old + by); });
}

template <typename T>
T atomicMax(T* at, std::type_identity_t<T> by) {
    return atomically(at, [&](T old) { return old < by ? by : old; });
}

template <typename T>
T atomicMin(T* at, std::type_identity_t<T> by) {
    return atomically(at, [&](T old) { return by < old ? by : old; });
}

template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> desired) {
    std::atomic_ref<T>(*at).compare_exchange_strong(expected, desired);
    return expected;
}

template <typename To, typename From>
To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
inline float __int_as_float(int bits) { return same_bits<float>(bits); }
inline int __float_as_int(float value) { return same_bits<int>(value); }
inline double __longlong_as_double(long long bits) { return same_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return same_bits<long long>(value); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
