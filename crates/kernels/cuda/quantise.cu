// Rows of bf16 → rows of e4m3, and back. One block a row; a thread holds up to two vectors of eight, so that rows
// may have 16384 values.

#include "e4m3.cuh"

extern "C" __global__ void quantise_rows(const bf16* x, long long stride, e4m3* y,
                                         float* row_scales, int d) {
    const bf16* row = x + blockIdx.x * stride;
    const int first = threadIdx.x * 8, second = first + blockDim.x * 8;
    const Eight low = first < d ? load(row + first) : Eight{};
    const Eight high = second < d ? load(row + second) : Eight{};
    const float most = over_block<Max>(fmaxf(largest(low), largest(high)));
    const float scale = e4m3_scale(most);
    e4m3* to = y + (long long)blockIdx.x * d;
    if (first < d) {
        store_e4m3(to + first, low, scale);
    }
    if (second < d) {
        store_e4m3(to + second, high, scale);
    }
    if (threadIdx.x == 0) {
        row_scales[blockIdx.x] = scale;
    }
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
