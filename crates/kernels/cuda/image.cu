// Latents and images: unpacking, upsampling, conversion to bytes.

#include "vector.cuh"

// tokens (rows · columns, channels, 2, 2), f32 → latent pixels (2·rows, 2·columns, channels), divided
// by `scaling` and moved by `shift`.
template <typename T>
__device__ __forceinline__ void unpack(const float* tokens, T* pixels, int rows, int columns,
                                       int channels, float scaling, float shift) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= 4 * rows * columns * channels) {
        return;
    }
    const int channel = index % channels;
    const int x = index / channels % (2 * columns), y = index / channels / (2 * columns);
    const int token = y / 2 * columns + x / 2;
    const int from = (token * channels + channel) * 4 + y % 2 * 2 + x % 2;
    store_one(pixels + index, tokens[from] / scaling + shift);
}

extern "C" __global__ void unpack_bf16(const float* tokens, bf16* pixels, int rows, int columns,
                                       int channels, float scaling, float shift) {
    unpack(tokens, pixels, rows, columns, channels, scaling, shift);
}

extern "C" __global__ void unpack_f32(const float* tokens, float* pixels, int rows, int columns,
                                      int channels, float scaling, float shift) {
    unpack(tokens, pixels, rows, columns, channels, scaling, shift);
}

// x (height, width, vectors · 8) → each pixel twice each way: (2·height, 2·width, vectors · 8).
template <typename T>
__device__ __forceinline__ void upsample(const T* x, T* y, unsigned height, unsigned width, unsigned vectors) {
    const unsigned of_row = width * vectors;
    const unsigned all = height * of_row;
    const size_t right = vectors * 8, below = 2 * (size_t)of_row * 8;
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < all;
         i += gridDim.x * blockDim.x) {
        const unsigned row = i / of_row, pixel = i % of_row / vectors, vector = i % vectors;
        const Eight value = load(x + (size_t)i * 8);
        T* corner = y + ((size_t)(4 * row * width + 2 * pixel) * vectors + vector) * 8;
        store(corner, value);
        store(corner + right, value);
        store(corner + below, value);
        store(corner + below + right, value);
    }
}

extern "C" __global__ void upsample_bf16(const bf16* x, bf16* y, unsigned height, unsigned width,
                                        unsigned vectors) {
    upsample(x, y, height, width, vectors);
}

extern "C" __global__ void upsample_f32(const float* x, float* y, unsigned height, unsigned width,
                                       unsigned vectors) {
    upsample(x, y, height, width, vectors);
}

// −1 … 1 → 0 … 255, rounded half to even.
template <typename T>
__device__ __forceinline__ void to_bytes(const T* x, unsigned char* y, int values) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < values) {
        const float half = load_one(x + index) * 0.5f + 0.5f;
        y[index] = (unsigned char)rintf(fminf(fmaxf(half, 0.0f), 1.0f) * 255.0f);
    }
}

extern "C" __global__ void to_bytes_bf16(const bf16* x, unsigned char* y, int values) {
    to_bytes(x, y, values);
}

extern "C" __global__ void to_bytes_f32(const float* x, unsigned char* y, int values) {
    to_bytes(x, y, values);
}
