// Rows of bf16 → rows of e4m3. One block a row; a thread holds up to two vectors of eight, so that rows
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
