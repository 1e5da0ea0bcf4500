// What cuDNN computes, on tensors of four dimensions.

#pragma once

#include <cudnn.h>

#include <array>

#include "arithmetic.h"

namespace emulated {

// Of every plan and algorithm, so that who asks for one keeps one.
constexpr int64_t WORKSPACE_BYTES = 4096;

inline cudaDataType type_of(cudnnDataType_t type) {
    switch (type) {
        case CUDNN_DATA_FLOAT: return CUDA_R_32F;
        case CUDNN_DATA_BFLOAT16: return CUDA_R_16BF;
        case CUDNN_DATA_HALF: return CUDA_R_16F;
        default: __builtin_trap();
    }
}

// Four dimensions somewhere in memory.
struct Tensor {
    void* at;
    cudaDataType type;
    std::array<int64_t, 4> dims, strides;

    int64_t index(int64_t a, int64_t b, int64_t c, int64_t d) const {
        // What is broadcast has one value along a dimension.
        const auto along = [&](int i, int64_t x) { return dims[i] == 1 ? 0 : x * strides[i]; };
        return along(0, a) + along(1, b) + along(2, c) + along(3, d);
    }
    float get(int64_t a, int64_t b, int64_t c, int64_t d) const {
        return value(at, type, index(a, b, c, d));
    }
    void set(int64_t a, int64_t b, int64_t c, int64_t d, float x) const {
        store(at, type, index(a, b, c, d), x);
    }
};

// softmax(q kᵀ · scale) v of (batch, head, token, value).
inline void attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o, float scale) {
    const auto [batch, heads, queries, width] = q.dims;
    const int64_t keys = k.dims[2];
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t h = 0; h < heads; h++) {
            std::vector<float> left(queries * width), right(width * keys), values(keys * width);
            for (int64_t i = 0; i < queries; i++) {
                for (int64_t d = 0; d < width; d++) {
                    left[i * width + d] = q.get(b, h, i, d) * scale;
                }
            }
            for (int64_t j = 0; j < keys; j++) {
                for (int64_t d = 0; d < width; d++) {
                    right[d * keys + j] = k.get(b, h, j, d);
                    values[j * width + d] = v.get(b, h, j, d);
                }
            }
            std::vector<float> scores = multiply(left, right, queries, width, keys);
            for (int64_t i = 0; i < queries; i++) {
                float* row = &scores[i * keys];
                const float most = *std::max_element(row, row + keys);
                float sum = 0;
                for (int64_t j = 0; j < keys; j++) {
                    row[j] = std::exp(row[j] - most);
                    sum += row[j];
                }
                for (int64_t j = 0; j < keys; j++) {
                    // The kernels multiply in bf16.
                    row[j] = __bfloat162float(__float2bfloat16(row[j] / sum));
                }
            }
            const std::vector<float> y = multiply(scores, values, queries, keys, width);
            for (int64_t i = 0; i < queries; i++) {
                for (int64_t d = 0; d < width; d++) {
                    o.set(b, h, i, d, y[i * width + d]);
                }
            }
        }
    }
}

struct Window {
    std::array<int64_t, 2> padding, stride, dilation;
};

// y (n, out, h, w) = x (n, in, h, w) ∗ w (out, in, r, s), as a product of x's windows with w.
inline void convolve(const Tensor& x, const Tensor& w, const Tensor& y, const Window& by) {
    const auto [outputs, inputs, high, wide] = w.dims;
    const int64_t inner = inputs * high * wide, pixels = y.dims[2] * y.dims[3];
    std::vector<float> weights(inner * outputs);
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t l = 0; l < inner; l++) {
            weights[l * outputs + o] =
                w.get(o, l / (high * wide), l / wide % high, l % wide);
        }
    }
    for (int64_t n = 0; n < x.dims[0]; n++) {
        std::vector<float> windows(pixels * inner);
#pragma omp parallel for
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            for (int64_t l = 0; l < inner; l++) {
                const int64_t row = pixel / y.dims[3] * by.stride[0] - by.padding[0] +
                                    l / wide % high * by.dilation[0];
                const int64_t column = pixel % y.dims[3] * by.stride[1] - by.padding[1] +
                                       l % wide * by.dilation[1];
                const bool inside =
                    row >= 0 && row < x.dims[2] && column >= 0 && column < x.dims[3];
                windows[pixel * inner + l] =
                    inside ? x.get(n, l / (high * wide), row, column) : 0;
            }
        }
        const std::vector<float> sums = multiply(windows, weights, pixels, inner, outputs);
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            for (int64_t o = 0; o < outputs; o++) {
                y.set(n, o, pixel / y.dims[3], pixel % y.dims[3], sums[pixel * outputs + o]);
            }
        }
    }
}

}  // namespace emulated
