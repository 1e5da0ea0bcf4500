// Group normalisation of images with their channels last, x (pixels, c), in two passes over x:
// `group_sums` and `group_apply`, with `group_finish` between them over a few kilobytes.
//
// c is a multiple of 8; a group's channels divide eight, or eight divides them. A block's threads
// form rows of c / 8 threads, so that each thread stays with the same eight channels.
//
// Sums are taken of x − k, k the channels' first values, so that a large mean costs no digits, and
// are put together in f64 in a fixed order: the result is the same every time.

#include "vector.cuh"

// Sum and sum of squares.
struct Sums {
    double sum, squares;
};

__device__ __forceinline__ Sums operator+(const Sums& a, const Sums& b) {
    return {a.sum + b.sum, a.squares + b.squares};
}

// x (pixels, columns · 8) → partial (blocks, groups). `shared` holds `slots` sums of each thread:
// as many as eight channels touch groups.
template <typename T>
__device__ __forceinline__ void group_sums(const T* x, Sums* partial, int pixels, int columns,
                                           int groups) {
    DYNAMIC_SHARED(Sums, shared);
    const int of_group = columns * 8 / groups;
    const int slots = of_group >= 8 ? 1 : 8 / of_group;
    const int column = threadIdx.x % columns, row = threadIdx.x / columns;
    const int rows = blockDim.x / columns;

    const Eight k = load(x + column * 8);
    float sum[8] = {}, squares[8] = {};
    int count = 0;
    for (long long pixel = blockIdx.x * rows + row; pixel < pixels;
         pixel += (long long)gridDim.x * rows) {
        const Eight value = load(x + (pixel * columns + column) * 8);
        count++;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float off = value.at[i] - k.at[i];
            sum[i] += off;
            squares[i] += off * off;
        }
    }
    // Σx = Σ(x − k) + nk and Σx² = Σ(x − k)² + 2kΣ(x − k) + nk², each channel into its slot.
    for (int slot = 0; slot < slots; slot++) {
        Sums total = {0.0, 0.0};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (i * slots / 8 == slot) {
                const double off = sum[i], first = k.at[i];
                total.sum += off + count * first;
                total.squares += squares[i] + 2.0 * first * off + count * first * first;
            }
        }
        shared[threadIdx.x * slots + slot] = total;
    }
    __syncthreads();
    // Columns that share a group, or groups that share a column.
    const int shared_by = of_group >= 8 ? of_group / 8 : 1;
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        const int slot = group % slots, first = group / slots * shared_by;
        Sums total = {0.0, 0.0};
        for (int r = 0; r < rows; r++) {
            for (int c = first; c < first + shared_by; c++) {
                total = total + shared[(r * columns + c) * slots + slot];
            }
        }
        partial[(long long)blockIdx.x * groups + group] = total;
    }
}

extern "C" __global__ void group_sums_bf16(const bf16* x, Sums* partial, int pixels, int columns,
                                           int groups) {
    group_sums(x, partial, pixels, columns, groups);
}

extern "C" __global__ void group_sums_f32(const float* x, Sums* partial, int pixels, int columns,
                                          int groups) {
    group_sums(x, partial, pixels, columns, groups);
}

// partial (blocks, groups) → mean and 1 / √(var + ε) of each group; one warp a group.
extern "C" __global__ void group_finish(const Sums* partial, float2* statistics, int blocks,
                                        int groups, double values, double eps) {
    const int group = blockIdx.x;
    Sums total = {0.0, 0.0};
    for (int block = threadIdx.x; block < blocks; block += WARP) {
        total = total + partial[(long long)block * groups + group];
    }
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        total.sum += __shfl_xor_sync(ALL_LANES, total.sum, distance);
        total.squares += __shfl_xor_sync(ALL_LANES, total.squares, distance);
    }
    if (threadIdx.x == 0) {
        const double mean = total.sum / values;
        const double variance = fmax(total.squares / values - mean * mean, 0.0);
        statistics[group] = make_float2((float)mean, (float)(1.0 / sqrt(variance + eps)));
    }
}

// y = (x − mean) · rstd ∘ weight + bias, and then silu where asked.
template <typename T>
__device__ __forceinline__ void group_apply(const T* x, const float2* statistics, const T* weight,
                                            const T* bias, T* y, int pixels, int columns,
                                            int groups, int silu) {
    const int of_group = columns * 8 / groups;
    const int column = threadIdx.x % columns, row = threadIdx.x / columns;
    const int rows = blockDim.x / columns;
    Eight scale = load(weight + column * 8), shift = load(bias + column * 8), mean;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 group = statistics[(column * 8 + i) / of_group];
        mean.at[i] = group.x;
        scale.at[i] *= group.y;
    }
    for (long long pixel = blockIdx.x * rows + row; pixel < pixels;
         pixel += (long long)gridDim.x * rows) {
        const long long at = (pixel * columns + column) * 8;
        Eight value = load(x + at);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float normal = (value.at[i] - mean.at[i]) * scale.at[i] + shift.at[i];
            value.at[i] = silu ? normal / (1.0f + expf(-normal)) : normal;
        }
        store(y + at, value);
    }
}

extern "C" __global__ void group_apply_bf16(const bf16* x, const float2* statistics,
                                            const bf16* weight, const bf16* bias, bf16* y,
                                            int pixels, int columns, int groups, int silu) {
    group_apply(x, statistics, weight, bias, y, pixels, columns, groups, silu);
}

extern "C" __global__ void group_apply_f32(const float* x, const float2* statistics,
                                           const float* weight, const float* bias, float* y,
                                           int pixels, int columns, int groups, int silu) {
    group_apply(x, statistics, weight, bias, y, pixels, columns, groups, silu);
}
