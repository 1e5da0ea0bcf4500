// Queries, keys and values of one stream → its rows of the joint heads: queries and keys divided by
// their root mean square over a head's width, weighted, rotated; values as they are.
//
// qkv (rows, 3, heads, width) → q, k, v (joint rows, heads, width) each. Rows are those of several
// images, `each` of every one, `joint` of every one among the outputs. A block has a row; a thread the same
// eight values of its queries, keys and values, which share their angles. A head is shared by width / 8
// neighbouring lanes, a power of two up to 32.

#include "vector.cuh"

template <typename T>
struct JoinHeads {
    const T* qkv;
    const T* weight_q;
    const T* weight_k;
    // (each, width / 2) each, of this stream's first row on; as for the outputs.
    const float* cos;
    const float* sin;
    T* q;
    T* k;
    // Null where the values are used where they lie.
    T* v;
    int rows, each, joint, heads, width;
    float eps_q, eps_k;
};

// Each pair of neighbours (a, b) → (a cos − b sin, b cos + a sin).
__device__ __forceinline__ void rotate(Eight& x, const float* cos, const float* sin) {
    const float4 c = *reinterpret_cast<const float4*>(cos);
    const float4 s = *reinterpret_cast<const float4*>(sin);
    const float cosines[4] = {c.x, c.y, c.z, c.w}, sines[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float a = x.at[2 * i], b = x.at[2 * i + 1];
        x.at[2 * i] = a * cosines[i] - b * sines[i];
        x.at[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
}

// Divided by the root mean square of their head, of `lanes` lanes, and weighted.
template <typename T>
__device__ __forceinline__ Eight normalised(Eight x, const T* weight, int lanes, float eps) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        squares += x.at[i] * x.at[i];
    }
    const float scale = rsqrtf(over_lanes<Add>(squares, lanes) / (lanes * 8) + eps);
    const Eight by = load(weight + threadIdx.x % lanes * 8);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        x.at[i] *= scale * by.at[i];
    }
    return x;
}

template <typename T>
__device__ __forceinline__ void qk_norm_rope(const JoinHeads<T>& p) {
    const int lanes = p.width / 8, part = p.heads * p.width;
    const int row = blockIdx.x, of_image = row % p.each;
    const T* from = p.qkv + (long long)row * 3 * part;
    const long long to = ((long long)(row / p.each) * p.joint + of_image) * part;
    const long long angle = (long long)of_image * (p.width / 2) + threadIdx.x % lanes * 4;
    // A row is that of all heads' lanes, more than a block may have threads; no thread leaves early, since all
    // lanes of a warp take part in its sums.
    for (int first = 0; first < part; first += blockDim.x * 8) {
        const int at = first + threadIdx.x * 8;
        const bool inside = at < part;
        Eight q = inside ? load(from + at) : Eight{};
        Eight k = inside ? load(from + part + at) : Eight{};
        q = normalised(q, p.weight_q, lanes, p.eps_q);
        k = normalised(k, p.weight_k, lanes, p.eps_k);
        if (!inside) {
            continue;
        }
        rotate(q, p.cos + angle, p.sin + angle);
        rotate(k, p.cos + angle, p.sin + angle);
        store(p.q + to + at, q);
        store(p.k + to + at, k);
        if (p.v != nullptr) {
            store(p.v + to + at, load(from + 2 * part + at));
        }
    }
}

extern "C" __global__ void qk_norm_rope_bf16(const JoinHeads<bf16> parameters) {
    qk_norm_rope(parameters);
}

extern "C" __global__ void qk_norm_rope_f32(const JoinHeads<float> parameters) {
    qk_norm_rope(parameters);
}
