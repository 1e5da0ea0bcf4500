// What all kernels share: eight neighbouring values at a time, and sums over warps and blocks.
//
// Eight bf16 are one access of 16 bytes, eight f32 two. All arithmetic is in f32; bf16 is how values
// are stored. Pointers are aligned to 16 bytes and row lengths are multiples of eight: the callers
// check both.

#pragma once

#include <cuda_bf16.h>

using bf16 = __nv_bfloat16;

// Shared memory whose size the launch decides.
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

struct Eight {
    float at[8];
};

__device__ __forceinline__ Eight load(const bf16* from) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    Eight values;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        // A bf16 is the upper half of the f32 of the same value.
        values.at[2 * i] = __uint_as_float(words[i] << 16);
        values.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
    return values;
}

__device__ __forceinline__ Eight load(const float* from) {
    const float4 low = reinterpret_cast<const float4*>(from)[0];
    const float4 high = reinterpret_cast<const float4*>(from)[1];
    return {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
}

__device__ __forceinline__ void store(bf16* to, const Eight& values) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __nv_bfloat162 pair =
            __floats2bfloat162_rn(values.at[2 * i], values.at[2 * i + 1]);
        words[i] = *reinterpret_cast<const unsigned*>(&pair);
    }
    *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ __forceinline__ void store(float* to, const Eight& values) {
    const float* v = values.at;
    reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}

// As they are stored.
template <typename T>
__device__ __forceinline__ Eight rounded(Eight values) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        values.at[i] = static_cast<float>(static_cast<T>(values.at[i]));
    }
    return values;
}

__device__ __forceinline__ float load_one(const bf16* from) { return __bfloat162float(*from); }
__device__ __forceinline__ float load_one(const float* from) { return *from; }
__device__ __forceinline__ void store_one(bf16* to, float value) { *to = __float2bfloat16(value); }
__device__ __forceinline__ void store_one(float* to, float value) { *to = value; }

struct Add {
    static __device__ float identity() { return 0.0f; }
    __device__ float operator()(float a, float b) const { return a + b; }
};

struct Max {
    static __device__ float identity() { return -INFINITY; }
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Over `lanes` neighbouring lanes (a power of two), in each of them. Every lane of the warp calls it.
template <typename Op>
__device__ __forceinline__ float over_lanes(float value, int lanes) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
        value = Op()(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// Over all threads of a block, in each of them. Every thread calls it; blocks are whole warps. Each
// reduction of a kernel has a number of its own, so that none overwrites what others still read.
template <int NUMBER, typename Op>
__device__ __forceinline__ float over_block(float value) {
    __shared__ float of_warps[WARP];
    value = over_lanes<Op>(value, WARP);
    const int lane = threadIdx.x % WARP;
    if (lane == 0) {
        of_warps[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    value = lane < blockDim.x / WARP ? of_warps[lane] : Op::identity();
    return over_lanes<Op>(value, WARP);
}
