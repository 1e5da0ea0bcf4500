// Values of CUDA's types, and products of matrices.

#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include <library_types.h>

#include "device.h"

namespace emulated {

inline int64_t bytes_of(cudaDataType type) {
    switch (type) {
        case CUDA_R_32F: return 4;
        case CUDA_R_16BF:
        case CUDA_R_16F: return 2;
        case CUDA_R_8F_E4M3: return 1;
        default: __builtin_trap();
    }
}

inline const void* behind(const void* at, cudaDataType type, int64_t index) {
    return static_cast<const char*>(at) + index * bytes_of(type);
}

inline float value(const void* at, cudaDataType type, int64_t index) {
    switch (type) {
        case CUDA_R_32F: return static_cast<const float*>(at)[index];
        case CUDA_R_16BF:
            return same_bits<float>((uint32_t)static_cast<const uint16_t*>(at)[index] << 16);
        case CUDA_R_16F: return __half2float(static_cast<const __half*>(at)[index]);
        case CUDA_R_8F_E4M3:
            return static_cast<float>(static_cast<const __nv_fp8_e4m3*>(at)[index]);
        default: __builtin_trap();
    }
}

inline void store(void* at, cudaDataType type, int64_t index, float x) {
    switch (type) {
        case CUDA_R_32F: static_cast<float*>(at)[index] = x; break;
        case CUDA_R_16BF: static_cast<__nv_bfloat16*>(at)[index] = __float2bfloat16(x); break;
        case CUDA_R_16F: static_cast<__half*>(at)[index] = __float2half(x); break;
        default: __builtin_trap();
    }
}

inline float gelu_tanh(float x) {
    return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
}

// Row-major (rows, inner) times (inner, columns).
inline std::vector<float> multiply(const std::vector<float>& a, const std::vector<float>& b,
                                   int64_t rows, int64_t inner, int64_t columns) {
    constexpr int64_t TALL = 6, WIDE = 64;
    std::vector<float> y(rows * columns);
#pragma omp parallel for schedule(dynamic)
    for (int64_t right = 0; right < columns; right += WIDE) {
        const int64_t width = std::min(WIDE, columns - right);
        std::vector<float> panel(inner * WIDE);
        for (int64_t l = 0; l < inner; l++) {
            std::copy_n(&b[l * columns + right], width, &panel[l * WIDE]);
        }
        for (int64_t top = 0; top < rows; top += TALL) {
            const int64_t height = std::min(TALL, rows - top);
            float sum[TALL][WIDE] = {};
            for (int64_t l = 0; l < inner; l++) {
                for (int64_t i = 0; i < TALL; i++) {
                    const float by = a[(top + std::min(i, height - 1)) * inner + l];
                    for (int64_t j = 0; j < WIDE; j++) {
                        sum[i][j] += by * panel[l * WIDE + j];
                    }
                }
            }
            for (int64_t i = 0; i < height; i++) {
                std::copy_n(sum[i], width, &y[(top + i) * columns + right]);
            }
        }
    }
    return y;
}

}  // namespace emulated
