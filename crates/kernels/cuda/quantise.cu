// Rows of bf16 → rows of e4m3, and back. One block a row of d values, a multiple of 8 and at most 16384.

#include "e4m3.cuh"

// A thread has up to VECTORS times eight values, blockDim.x · 8 apart, all of which it loads before it looks
// at one: few threads a row, so that many rows are on their way at once.
template <int VECTORS>
__device__ __forceinline__ void quantise(const bf16* row, e4m3* y, float* row_scales, int d) {
    Eight values[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int at = (threadIdx.x + i * blockDim.x) * 8;
        values[i] = at < d ? load(row + at) : Eight{};
    }
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        most = fmaxf(most, largest(values[i]));
    }
    const float scale = e4m3_scale(over_block<0, Max>(most));
    e4m3* to = y + (long long)blockIdx.x * d;
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        const int at = (threadIdx.x + i * blockDim.x) * 8;
        if (at < d) {
            store_e4m3(to + at, values[i], scale);
        }
    }
    if (threadIdx.x == 0) {
        row_scales[blockIdx.x] = scale;
    }
}

// Up to 256 threads each.
extern "C" __global__ void __launch_bounds__(256) quantise_rows_2(
        const bf16* x, long long stride, e4m3* y, float* row_scales, int d) {
    quantise<2>(x + blockIdx.x * stride, y, row_scales, d);
}

extern "C" __global__ void __launch_bounds__(256) quantise_rows_8(
        const bf16* x, long long stride, e4m3* y, float* row_scales, int d) {
    quantise<8>(x + blockIdx.x * stride, y, row_scales, d);
}

// Rows of e4m3 → f32. Its bits, moved to where an f32 has them, are the value · 2⁻¹²⁰, the smallest ones
// included.
extern "C" __global__ void dequantise_rows(const e4m3* x, const float* row_scales, float* y, int d) {
    const float scale = row_scales[blockIdx.x];
    const long long row = (long long)blockIdx.x * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const unsigned bits = x[row + i];
        const float value = __uint_as_float((bits & 0x80u) << 24 | (bits & 0x7fu) << 20);
        y[row + i] = value * 0x1p120f * scale;
    }
}
