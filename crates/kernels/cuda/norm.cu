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
    const float mean = over_block<0, Add>(sum) / d;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] = inside ? x.at[i] - mean : 0.0f;
        squares += x.at[i] * x.at[i];
    }
    const float scale = rsqrtf(over_block<1, Add>(squares) / d + eps);
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
    const float scale = rsqrtf(over_block<0, Add>(squares) / d + eps);
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

// What a row is scaled and moved by, and the ε of its deviation.
template <typename T>
struct Affine {
    const T* scale;
    const T* shift;
    // Rows that share a scale and a shift.
    int each;
    int d;
    float unit;
    float eps;
};

// Eight values of this block's row, a thread's share, normalised, scaled and moved; zeros behind the row's
// end.
template <typename T>
__device__ __forceinline__ Eight normal(const Eight& x, const Affine<T>& by) {
    const int at = threadIdx.x * 8;
    const bool inside = at < by.d;
    const Eight n = standardise(x, inside, by.d, by.eps);
    const long long of_image = (long long)(blockIdx.x / by.each) * by.d + at;
    return inside ? affine(n, by.scale + of_image, by.shift + of_image, by.unit) : Eight{};
}

// This thread's share of its block's row, of d contiguous values; zeros behind its end.
template <typename T>
__device__ __forceinline__ Eight share(const T* row, int d) {
    const int at = threadIdx.x * 8;
    return at < d ? load(row + at) : Eight{};
}

template <typename T>
__device__ __forceinline__ void store_share(T* y, const Eight& values, int d) {
    const int at = threadIdx.x * 8;
    if (at < d) {
        store(y + (long long)blockIdx.x * d + at, values);
    }
}

// A row in e4m3, with its scale.
__device__ __forceinline__ void store_share(e4m3* y, float* row_scales, const Eight& values, int d) {
    const float row_scale = e4m3_scale(over_block<2, Max>(largest(values)));
    const int at = threadIdx.x * 8;
    if (at < d) {
        store_e4m3(y + (long long)blockIdx.x * d + at, values, row_scale);
    }
    if (threadIdx.x == 0) {
        row_scales[blockIdx.x] = row_scale;
    }
}

template <typename T>
__device__ __forceinline__ void layer_norm(const T* x, long long stride, const Affine<T>& by, T* y) {
    store_share(y, normal(share(x + blockIdx.x * stride, by.d), by), by.d);
}

extern "C" __global__ void layer_norm_bf16(const bf16* x, long long stride, const Affine<bf16> by,
                                           bf16* y) {
    layer_norm(x, stride, by, y);
}

extern "C" __global__ void layer_norm_f32(const float* x, long long stride, const Affine<float> by,
                                          float* y) {
    layer_norm(x, stride, by, y);
}

// The same, quantised before it is ever in memory.
extern "C" __global__ void layer_norm_e4m3(const bf16* x, long long stride, const Affine<bf16> by,
                                           e4m3* y, float* row_scales) {
    store_share(y, row_scales, normal(share(x + blockIdx.x * stride, by.d), by), by.d);
}

// A branch of a modulated block ends, and the next one begins: x ← residual + gate ∘ branch, then its layer
// norm, of x as it is stored. Rows of branch, residual and x are contiguous; gate has a row for every `each`.
template <typename T>
struct Residual {
    const T* branch;
    const T* gate;
    const T* residual;
    T* x;
};

template <typename T>
__device__ __forceinline__ Eight residual_sum(const Residual<T>& of, int each, int d) {
    const long long row = (long long)blockIdx.x * d;
    const Eight branch = share(of.branch + row, d), residual = share(of.residual + row, d);
    const Eight gate = share(of.gate + (long long)(blockIdx.x / each) * d, d);
    Eight x;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] = residual.at[i] + gate.at[i] * branch.at[i];
    }
    store_share(of.x, x, d);
    return rounded<T>(x);
}

template <typename T>
__device__ __forceinline__ void residual_norm(const Residual<T>& of, const Affine<T>& by, T* y) {
    store_share(y, normal(residual_sum(of, by.each, by.d), by), by.d);
}

extern "C" __global__ void residual_norm_bf16(const Residual<bf16> of, const Affine<bf16> by, bf16* y) {
    residual_norm(of, by, y);
}

extern "C" __global__ void residual_norm_f32(const Residual<float> of, const Affine<float> by, float* y) {
    residual_norm(of, by, y);
}

extern "C" __global__ void residual_norm_e4m3(const Residual<bf16> of, const Affine<bf16> by, e4m3* y,
                                              float* row_scales) {
    store_share(y, row_scales, normal(residual_sum(of, by.each, by.d), by), by.d);
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
