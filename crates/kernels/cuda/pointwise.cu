// Operations on single values, eight at a time; `vectors` counts eights, at most 2³⁰ of them, so that
// indices divide in 32 bits. What ends in «in place» overwrites y.

#include "vector.cuh"

#define FOR_EACH_VECTOR(index, vectors)                                             \
    for (unsigned index = blockIdx.x * blockDim.x + threadIdx.x; index < (vectors); \
         index += gridDim.x * blockDim.x)

// Where vector `index` begins.
#define AT(pointer, index) ((pointer) + (size_t)(index) * 8)

// y ← onto + gate ∘ y in place; onto and y (rows, columns · 8), gate (n, columns · 8): a row for every
// `each` vectors.
template <typename T>
__device__ __forceinline__ void gate_onto(T* y, const T* gate, const T* onto, unsigned vectors,
                                          unsigned each, unsigned columns) {
    FOR_EACH_VECTOR(i, vectors) {
        Eight value = load(AT(y, i));
        const Eight by = load(AT(gate, i / each * columns + i % columns)), to = load(AT(onto, i));
#pragma unroll
        for (int j = 0; j < 8; j++) {
            value.at[j] = to.at[j] + by.at[j] * value.at[j];
        }
        store(AT(y, i), value);
    }
}

extern "C" __global__ void gate_onto_bf16(bf16* y, const bf16* gate, const bf16* onto,
                                          unsigned vectors, unsigned each, unsigned columns) {
    gate_onto(y, gate, onto, vectors, each, columns);
}

extern "C" __global__ void gate_onto_f32(float* y, const float* gate, const float* onto,
                                         unsigned vectors, unsigned each, unsigned columns) {
    gate_onto(y, gate, onto, vectors, each, columns);
}

// y ← onto + y in place.
template <typename T>
__device__ __forceinline__ void add_onto(T* y, const T* onto, unsigned vectors) {
    FOR_EACH_VECTOR(i, vectors) {
        Eight value = load(AT(y, i));
        const Eight to = load(AT(onto, i));
#pragma unroll
        for (int j = 0; j < 8; j++) {
            value.at[j] += to.at[j];
        }
        store(AT(y, i), value);
    }
}

extern "C" __global__ void add_onto_bf16(bf16* y, const bf16* onto, unsigned vectors) {
    add_onto(y, onto, vectors);
}

extern "C" __global__ void add_onto_f32(float* y, const float* onto, unsigned vectors) {
    add_onto(y, onto, vectors);
}

// x · σ(2√(2/π)(x + 0.044715 x³)), which is GELU in its tanh form.
__device__ __forceinline__ float gelu_tanh(float x) {
    const float inner = 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-inner));
}

// The kinds, as the caller numbers them; below 0, x itself.
__device__ __forceinline__ float activated(float x, int kind) {
    switch (kind) {
        case -1: return x;
        case 0: return gelu_tanh(x);
        case 1: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case 2: return x / (1.0f + expf(-1.702f * x));
        case 3: return fmaxf(x, 0.0f);
        default: return x / (1.0f + expf(-x));
    }
}

// y ← activation(y + bias) in place; rows of `columns` vectors, `stride` vectors apart. The bias is a row,
// or not there.
template <typename T>
__device__ __forceinline__ void activate(T* y, const T* bias, unsigned vectors, unsigned columns,
                                         unsigned stride, int kind) {
    FOR_EACH_VECTOR(i, vectors) {
        T* at = AT(y, (size_t)(i / columns) * stride + i % columns);
        Eight value = load(at);
        const Eight by = bias == nullptr ? Eight{} : load(AT(bias, i % columns));
#pragma unroll
        for (int j = 0; j < 8; j++) {
            value.at[j] = activated(value.at[j] + by.at[j], kind);
        }
        store(at, value);
    }
}

extern "C" __global__ void activate_bf16(bf16* y, const bf16* bias, unsigned vectors,
                                         unsigned columns, unsigned stride, int kind) {
    activate(y, bias, vectors, columns, stride, kind);
}

extern "C" __global__ void activate_f32(float* y, const float* bias, unsigned vectors,
                                        unsigned columns, unsigned stride, int kind) {
    activate(y, bias, vectors, columns, stride, kind);
}

// x (rows, 2, columns · 8) → gelu(first half) ∘ second half: (rows, columns · 8).
template <typename T>
__device__ __forceinline__ void gated_gelu(const T* x, T* y, unsigned vectors, unsigned columns) {
    FOR_EACH_VECTOR(i, vectors) {
        const T* from = AT(x, i / columns * 2 * columns + i % columns);
        Eight value = load(from);
        const Eight by = load(AT(from, columns));
#pragma unroll
        for (int j = 0; j < 8; j++) {
            value.at[j] = gelu_tanh(value.at[j]) * by.at[j];
        }
        store(AT(y, i), value);
    }
}

extern "C" __global__ void gated_gelu_bf16(const bf16* x, bf16* y, unsigned vectors,
                                           unsigned columns) {
    gated_gelu(x, y, vectors, columns);
}

extern "C" __global__ void gated_gelu_f32(const float* x, float* y, unsigned vectors,
                                          unsigned columns) {
    gated_gelu(x, y, vectors, columns);
}
