// Activations of single values, in f32.

#pragma once

// e^x and x / y with the fast approximations: 2 ulp each, behind which results are rounded to bf16, or an
// f32 comparison allows a hundred times as much. y may overflow: x / inf is 0.
__device__ __forceinline__ float sigmoid_of(float x, float y) {
    return __fdividef(x, 1.0f + __expf(-y));
}

// x · σ(2√(2/π)(x + 0.044715 x³)), which is GELU in its tanh form.
__device__ __forceinline__ float gelu_tanh(float x) {
    return sigmoid_of(x, 1.5957691216057308f * (x + 0.044715f * x * x * x));
}

// The kinds, as the caller numbers them; below 0, x itself.
__device__ __forceinline__ float activated(float x, int kind) {
    switch (kind) {
        case -1: return x;
        case 0: return gelu_tanh(x);
        case 1: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case 2: return sigmoid_of(x, 1.702f * x);
        case 3: return fmaxf(x, 0.0f);
        default: return sigmoid_of(x, x);
    }
}
