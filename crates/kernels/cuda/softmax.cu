// Softmax over rows of attention scores x (heads, queries, keys).
//
// x and y may be the same.
//
// `softmax`: one warp a row of at most 1024 keys, each score read once: softmax(x · scale + bias),
// where the bias has x's shape or is not there, and where a causal row ends at its own index.
// `softmax_long`: one block a row of any length: softmax(x · scale).

#include "vector.cuh"

constexpr int MOST_OF_LANE = 32;

template <typename T>
__device__ __forceinline__ void softmax(const T* x, const float* bias, T* y, long long rows,
                                        int queries, int keys, float scale, int causal) {
    const long long row = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / WARP;
    const int lane = threadIdx.x % WARP;
    // Whole warps leave together.
    if (row >= rows) {
        return;
    }
    const int seen = causal ? (int)(row % queries) + 1 : keys;
    const long long start = row * keys;
    float value[MOST_OF_LANE];
    float most = -INFINITY;
#pragma unroll
    for (int i = 0; i < MOST_OF_LANE; i++) {
        const int key = lane + i * WARP;
        value[i] = -INFINITY;
        if (key < seen && key < keys) {
            value[i] = load_one(x + start + key) * scale;
            if (bias != nullptr) {
                value[i] += bias[start + key];
            }
        }
        most = fmaxf(most, value[i]);
    }
    most = over_lanes<Max>(most, WARP);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_OF_LANE; i++) {
        value[i] = expf(value[i] - most);
        sum += value[i];
    }
    const float by = 1.0f / over_lanes<Add>(sum, WARP);
#pragma unroll
    for (int i = 0; i < MOST_OF_LANE; i++) {
        const int key = lane + i * WARP;
        if (key < keys) {
            store_one(y + start + key, value[i] * by);
        }
    }
}

extern "C" __global__ void softmax_bf16(const bf16* x, const float* bias, bf16* y, long long rows,
                                        int queries, int keys, float scale, int causal) {
    softmax(x, bias, y, rows, queries, keys, scale, causal);
}

extern "C" __global__ void softmax_f32(const float* x, const float* bias, float* y, long long rows,
                                       int queries, int keys, float scale, int causal) {
    softmax(x, bias, y, rows, queries, keys, scale, causal);
}

// Three passes over a row, the second and third of which find it in a cache.
template <typename T>
__device__ __forceinline__ void softmax_long(const T* x, T* y, int keys, float scale) {
    const T* from = x + (long long)blockIdx.x * keys;
    T* to = y + (long long)blockIdx.x * keys;
    float most = -INFINITY;
    for (int key = threadIdx.x; key < keys; key += blockDim.x) {
        most = fmaxf(most, load_one(from + key) * scale);
    }
    most = over_block<0, Max>(most);
    float sum = 0.0f;
    for (int key = threadIdx.x; key < keys; key += blockDim.x) {
        sum += expf(load_one(from + key) * scale - most);
    }
    const float by = 1.0f / over_block<1, Add>(sum);
    for (int key = threadIdx.x; key < keys; key += blockDim.x) {
        store_one(to + key, expf(load_one(from + key) * scale - most) * by);
    }
}

extern "C" __global__ void softmax_long_bf16(const bf16* x, bf16* y, int keys, float scale) {
    softmax_long(x, y, keys, scale);
}

extern "C" __global__ void softmax_long_f32(const float* x, float* y, int keys, float scale) {
    softmax_long(x, y, keys, scale);
}
