// Normalisations of rows, one block a row, each value read once: a thread holds its eight values in
// registers from the first sum to the result.
//
// (rows, d), d a multiple of 8 and at most 8192. x has a row stride of its own; y is contiguous. What a
// row is scaled and moved by changes every `each` rows.

#include "e4m3.cuh"

// (x − mean) / √(var + ε) of this thread's eight values. Threads behind the row's end pass zeros.
__device__ __forceinline__ Eight standardise(Eight x, bool inside, int d, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum += x.at[i];
    }
    const float mean = over_block<Add>(sum) / d;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] = inside ? x.at[i] - mean : 0.0f;
        squares += x.at[i] * x.at[i];
    }
    const float scale = rsqrtf(over_block<Add>(squares) / d + eps);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] *= scale;
    }
    return x;
}

// x / √(mean(x²) + ε)
__device__ __forceinline__ Eight by_root_mean_square(Eight x, int d, float eps) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        squares += x.at[i] * x.at[i];
    }
    const float scale = rsqrtf(over_block<Add>(squares) / d + eps);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] *= scale;
    }
    return x;
}

// n ∘ (unit + scale) + shift: unit is 1 for a modulation, 0 for weight and bias.
template <typename T>
__device__ __forceinline__ Eight affine(Eight n, const T* scale, const T* shift, float unit) {
    const Eight by = load(scale), to = load(shift);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        n.at[i] = n.at[i] * (unit + by.at[i]) + to.at[i];
    }
    return n;
}

// This thread's share of its block's row, scaled and moved; zeros behind the row's end.
template <typename T>
__device__ __forceinline__ Eight normal(const T* x, long long stride, const T* scale,
                                        const T* shift, int each, int d, float unit, float eps) {
    const int at = threadIdx.x * 8;
    const bool inside = at < d;
    const Eight values = inside ? load(x + blockIdx.x * stride + at) : Eight{};
    const Eight n = standardise(values, inside, d, eps);
    const long long by = (long long)(blockIdx.x / each) * d + at;
    return inside ? affine(n, scale + by, shift + by, unit) : Eight{};
}

template <typename T>
__device__ __forceinline__ void layer_norm(const T* x, long long stride, const T* scale,
                                           const T* shift, int each, int d, float unit, float eps,
                                           T* y) {
    const Eight values = normal(x, stride, scale, shift, each, d, unit, eps);
    const int at = threadIdx.x * 8;
    if (at < d) {
        store(y + (long long)blockIdx.x * d + at, values);
    }
}

extern "C" __global__ void layer_norm_bf16(const bf16* x, long long stride, const bf16* scale,
                                           const bf16* shift, int each, int d, float unit,
                                           float eps, bf16* y) {
    layer_norm(x, stride, scale, shift, each, d, unit, eps, y);
}

extern "C" __global__ void layer_norm_f32(const float* x, long long stride, const float* scale,
                                          const float* shift, int each, int d, float unit,
                                          float eps, float* y) {
    layer_norm(x, stride, scale, shift, each, d, unit, eps, y);
}

// The same, quantised before it is ever in memory.
extern "C" __global__ void layer_norm_e4m3(const bf16* x, long long stride, const bf16* scale,
                                           const bf16* shift, int each, int d, float unit,
                                           float eps, e4m3* y, float* row_scales) {
    const Eight values = normal(x, stride, scale, shift, each, d, unit, eps);
    const float row_scale = e4m3_scale(over_block<Max>(largest(values)));
    const int at = threadIdx.x * 8;
    if (at < d) {
        store_e4m3(y + (long long)blockIdx.x * d + at, values, row_scale);
    }
    if (threadIdx.x == 0) {
        row_scales[blockIdx.x] = row_scale;
    }
}

template <typename T>
__device__ __forceinline__ void rms_norm(const T* x, long long stride, const T* weight, T* y,
                                         int d, float eps) {
    const int at = threadIdx.x * 8;
    const bool inside = at < d;
    Eight values = inside ? load(x + blockIdx.x * stride + at) : Eight{};
    values = by_root_mean_square(values, d, eps);
    if (inside) {
        const Eight by = load(weight + at);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            values.at[i] *= by.at[i];
        }
        store(y + (long long)blockIdx.x * d + at, values);
    }
}

extern "C" __global__ void rms_norm_bf16(const bf16* x, long long stride, const bf16* weight,
                                         bf16* y, int d, float eps) {
    rms_norm(x, stride, weight, y, d, eps);
}

extern "C" __global__ void rms_norm_f32(const float* x, long long stride, const float* weight,
                                        float* y, int d, float eps) {
    rms_norm(x, stride, weight, y, d, eps);
}
