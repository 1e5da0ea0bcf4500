// As much of a CUDA device as the kernels need: a block's threads are threads of the host, which meet
// at barriers; blocks run one after the other.

#pragma once

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#undef __global__
#undef __device__
#undef __forceinline__
#undef __shared__
#define __global__
#define __device__
#define __forceinline__ inline
// Blocks run one after the other, so what they share may as well be static.
#define __shared__ static

struct Index {
    unsigned x = 0, y = 1, z = 1;
};

inline thread_local Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

constexpr unsigned WARP_SIZE = 32;

struct Block {
    explicit Block(unsigned threads) : all(threads), exchanged(threads) {
        for (unsigned first = 0; first < threads; first += WARP_SIZE) {
            warps.push_back(std::make_unique<std::barrier<>>(std::min(WARP_SIZE, threads - first)));
        }
    }

    std::barrier<> all;
    std::vector<std::unique_ptr<std::barrier<>>> warps;
    std::vector<double> exchanged;
};

inline Block* block;
inline std::vector<char> dynamic_shared;

// `kernel()` in each thread of each block.
template <typename Kernel>
void launch(unsigned blocks, unsigned threads, size_t shared_bytes, Kernel kernel) {
    // Not zeros, which would hide what is read before it is written.
    dynamic_shared.assign(shared_bytes, 0x7f);
    for (unsigned index = 0; index < blocks; index++) {
        Block current(threads);
        block = &current;
        std::vector<std::thread> running;
        for (unsigned thread = 0; thread < threads; thread++) {
            running.emplace_back([&, thread] {
                threadIdx.x = thread;
                blockIdx.x = index;
                blockDim.x = threads;
                gridDim.x = blocks;
                kernel();
                // Those that are left do not wait for this one.
                current.all.arrive_and_drop();
                current.warps[thread / WARP_SIZE]->arrive_and_drop();
            });
        }
        for (std::thread& thread : running) {
            thread.join();
        }
    }
}

}  // namespace emulated

// How kernels declare shared memory whose size the launch decides.
#define DYNAMIC_SHARED(type, name) \
    type* name = reinterpret_cast<type*>(emulated::dynamic_shared.data())

inline void __syncthreads() { emulated::block->all.arrive_and_wait(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
    emulated::Block& block = *emulated::block;
    std::barrier<>& warp = *block.warps[threadIdx.x / emulated::WARP_SIZE];
    block.exchanged[threadIdx.x] = value;
    warp.arrive_and_wait();
    const T other = static_cast<T>(block.exchanged[threadIdx.x ^ distance]);
    warp.arrive_and_wait();
    return other;
}

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
