// Rows as e4m3 with a scale each: value ≈ stored · scale, where the row's largest value becomes 448,
// e4m3's largest.

#pragma once

#include <cuda_fp8.h>

#include "vector.cuh"

using e4m3 = __nv_fp8_storage_t;

__device__ __forceinline__ float largest(const Eight& values) {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        most = fmaxf(most, fabsf(values.at[i]));
    }
    return most;
}

// A row of zeros is stored with a scale of 1; so is one so close to it that the scale's inverse would
// overflow, and 0 times that be no number.
__device__ __forceinline__ float e4m3_scale(float most) {
    return most > 1e-30f ? most / 448.0f : 1.0f;
}

__device__ __forceinline__ void store_e4m3(e4m3* to, const Eight& values,
                                           float scale) {
    const float by = 1.0f / scale;
    unsigned words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = make_float2(values.at[2 * i] * by, values.at[2 * i + 1] * by);
        const unsigned two = __nv_cvt_float2_to_fp8x2(pair, __NV_SATFINITE, __NV_E4M3);
        words[i / 2] |= two << (16 * (i % 2));
    }
    *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
}
