// Queries, keys and values of one stream → its rows of the joint heads: queries and keys divided by
// their root mean square over a head's width, weighted, rotated; values as they are.
//
// qkv (rows, 3, heads, width) → q, k, v (joint rows, heads, width) each. Rows are those of several
// images, `each` of every one, `joint` of every one among the outputs. A head is shared by width / 8
// neighbouring lanes, a power of two up to 32, each with eight values.

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

template <typename T>
__device__ __forceinline__ void qk_norm_rope(const JoinHeads<T>& p) {
    const int lanes = p.width / 8;
    const int of_part = p.heads * lanes;
    const int of_row = of_part * (p.v == nullptr ? 2 : 3);
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int row = index / of_row;
    const int part = index % of_row / of_part;
    const int within = index % of_part;
    // No thread leaves early: all lanes of a warp take part in its sums.
    const bool inside = row < p.rows;

    Eight x{};
    if (inside) {
        x = load(p.qkv + ((long long)row * 3 + part) * of_part * 8 + within * 8);
    }
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        squares += x.at[i] * x.at[i];
    }
    squares = over_lanes<Add>(squares, lanes);
    if (!inside) {
        return;
    }
    const int of_image = row % p.each;
    T* to = part == 0 ? p.q : part == 1 ? p.k : p.v;
    if (part < 2) {
        const int lane = within % lanes;
        const float scale = rsqrtf(squares / p.width + (part == 0 ? p.eps_q : p.eps_k));
        const Eight weight = load((part == 0 ? p.weight_q : p.weight_k) + lane * 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            x.at[i] *= scale * weight.at[i];
        }
        const long long angle = (long long)of_image * (p.width / 2) + lane * 4;
        rotate(x, p.cos + angle, p.sin + angle);
    }
    const long long to_row = (long long)(row / p.each) * p.joint + of_image;
    store(to + to_row * of_part * 8 + within * 8, x);
}

extern "C" __global__ void qk_norm_rope_bf16(const JoinHeads<bf16> parameters) {
    qk_norm_rope(parameters);
}

extern "C" __global__ void qk_norm_rope_f32(const JoinHeads<float> parameters) {
    qk_norm_rope(parameters);
}
