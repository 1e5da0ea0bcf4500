// Kernels on rows: tokens and scores.

#pragma once

inline unsigned in_warps(unsigned threads) { return (threads + 31) / 32 * 32; }

// As the two kernels that it stands for, one after the other: to the last bit.
template <typename T>
void residual_norms(int rows, int each, int d) {
    const auto branch = Array<T>::random(rows * d, 2), residual = Array<T>::random(rows * d, 2, 3);
    const auto gate = Array<T>::random(rows / each * d);
    const auto scale = Array<T>::random(rows / each * d), shift = Array<T>::random(rows / each * d);
    Array<T> x(rows * d), y(rows * d), normal_of(rows * d);
    const Affine<T> by{scale->at, shift->at, each, d, 1.0f, 1e-6f};
    launch(rows, in_warps(d / 8), 0, [&] {
        residual_norm(Residual<T>{branch->at, gate->at, residual->at, x.at}, by, y.at);
    });
    compare("residual", rows * d, TOLERANCE<T>, [&](size_t i) { return x[i]; },
            [&](size_t i) { return (*residual)[i] + (*gate)[i / d / each * d + i % d] * (*branch)[i]; });
    launch(rows, in_warps(d / 8), 0, [&] { layer_norm(x.at, d, by, normal_of.at); });
    compare("residual + norm", rows * d, 1e-12, [&](size_t i) { return y[i]; },
            [&](size_t i) { return normal_of[i]; });
    if constexpr (std::is_same_v<T, bf16>) {
        Array<float> both[2] = {Array<float>(rows * d / 4 + 1), Array<float>(rows * d / 4 + 1)};
        Array<float> scales[2] = {Array<float>(rows), Array<float>(rows)};
        e4m3* of[2] = {reinterpret_cast<e4m3*>(both[0].at), reinterpret_cast<e4m3*>(both[1].at)};
        launch(rows, in_warps(d / 8), 0, [&] {
            residual_norm_e4m3(Residual<bf16>{branch->at, gate->at, residual->at, x.at}, by, of[0],
                               scales[0].at);
        });
        launch(rows, in_warps(d / 8), 0,
               [&] { layer_norm_e4m3(x.at, d, by, of[1], scales[1].at); });
        const auto value = [&](int which, size_t i) {
            return __half2float(__half(__nv_cvt_fp8_to_halfraw(of[which][i], __NV_E4M3))) *
                   scales[which][i / d];
        };
        compare("residual + quantised norm", rows * d, 1e-12, [&](size_t i) { return value(0, i); },
                [&](size_t i) { return value(1, i); });
    }
}

template <typename T>
void norms() {
    struct Shape {
        // Rows of each picture.
        int rows, each, d, stride;
    };
    for (const auto [rows, each, d, stride] :
         {Shape{3, 3, 3072, 3072}, {2, 1, 768, 800}, {6, 2, 64, 64}, {1, 1, 8192, 8192}, {2, 2, 8, 8}, {4, 2, 264, 272}}) {
        const auto x = Array<T>::random(rows * stride, 2, 3);
        const auto scale = Array<T>::random(rows / each * d);
        const auto shift = Array<T>::random(rows / each * d);
        std::vector<double> mean(rows), variance(rows), square(rows);
        for (int i = 0; i < rows * d; i++) {
            const double value = (*x)[i / d * stride + i % d];
            mean[i / d] += value / d;
            square[i / d] += value * value / d;
        }
        for (int i = 0; i < rows * d; i++) {
            variance[i / d] += std::pow((*x)[i / d * stride + i % d] - mean[i / d], 2) / d;
        }
        for (const float unit : {0.0f, 1.0f}) {
            Array<T> y(rows * d);
            launch(rows, in_warps(d / 8), 0, [&] {
                layer_norm(x->at, stride, Affine<T>{scale->at, shift->at, each, d, unit, 1e-6f}, y.at);
            });
            compare("layer norm", rows * d, TOLERANCE<T>, [&](size_t i) { return y[i]; },
                    [&](size_t i) {
                        const size_t row = i / d, column = i % d;
                        const double n = ((*x)[row * stride + column] - mean[row]) /
                                         std::sqrt(variance[row] + 1e-6);
                        const size_t by = row / each * d + column;
                        return n * (unit + (*scale)[by]) + (*shift)[by];
                    });
        }
        residual_norms<T>(rows, each, d);
        Array<T> y(rows * d);
        launch(rows, in_warps(d / 8), 0,
               [&] { rms_norm(x->at, stride, scale->at, y.at, d, 1e-6f); });
        compare("rms norm", rows * d, TOLERANCE<T>, [&](size_t i) { return y[i]; },
                [&](size_t i) {
                    return (*x)[i / d * stride + i % d] / std::sqrt(square[i / d] + 1e-6) *
                           (*scale)[i % d];
                });
    }
}

template <typename T>
void heads() {
    struct Shape {
        // This stream's rows of each picture, those of all streams, and where this one's begin.
        int pictures, each, joint, first, heads, width;
        bool values;
    };
    for (const auto [pictures, each, joint, first, count, width, values] :
         {Shape{1, 5, 5, 0, 24, 128, true}, {1, 7, 7, 0, 3, 64, false}, {3, 2, 5, 1, 2, 8, true},
          {2, 3, 4, 0, 1, 256, true}, {3, 11, 11, 0, 5, 16, false}}) {
        const int rows = pictures * each, all = rows * count * width;
        const auto qkv = Array<T>::random(3 * all);
        const auto weight_q = Array<T>::random(width), weight_k = Array<T>::random(width);
        const auto cos = Array<float>::random(each * width / 2);
        const auto sin = Array<float>::random(each * width / 2);
        const int joined = pictures * joint * count * width, behind = first * count * width;
        Array<T> q(joined), k(joined), v(joined);
        const JoinHeads<T> parameters{qkv->at, weight_q->at, weight_k->at, cos->at, sin->at,
                                      q.at + behind, k.at + behind, values ? v.at + behind : nullptr,
                                      rows, each, joint, count, width, 1e-6f, 1e-5f};
        // Where value i of this stream's rows comes to lie.
        const auto at = [&](size_t i) {
            const size_t of_row = count * width, row = i / of_row;
            return ((row / each * joint + first + row % each) * of_row) + i % of_row;
        };
        // Fewer threads than a row has vectors, too.
        launch(rows, std::min(in_warps(count * width / 8), 64u), 0, [&] { qk_norm_rope(parameters); });
        // Value i of part 0, 1 or 2, (row, head, place in the head).
        const auto from = [&](int part, size_t i) {
            const size_t of_row = count * width;
            return (*qkv)[(i / of_row * 3 + part) * of_row + i % of_row];
        };
        const auto expected = [&](int part, size_t i) {
            const size_t head = i / width * width, place = i % width;
            double square = 0;
            for (int j = 0; j < width; j++) {
                square += std::pow(from(part, head + j), 2) / width;
            }
            const auto& weight = part == 0 ? *weight_q : *weight_k;
            const double scale = 1 / std::sqrt(square + (part == 0 ? 1e-6 : 1e-5));
            const size_t even = place / 2 * 2;
            const double a = from(part, head + even) * scale * weight[even];
            const double b = from(part, head + even + 1) * scale * weight[even + 1];
            const size_t angle = i / (count * width) % each * (width / 2) + place / 2;
            const double c = (*cos)[angle], s = (*sin)[angle];
            return place % 2 == 0 ? a * c - b * s : b * c + a * s;
        };
        compare("queries", all, TOLERANCE<T>, [&](size_t i) { return q[at(i)]; },
                [&](size_t i) { return expected(0, i); });
        compare("keys", all, TOLERANCE<T>, [&](size_t i) { return k[at(i)]; },
                [&](size_t i) { return expected(1, i); });
        if (values) {
            compare("values", all, TOLERANCE<T>, [&](size_t i) { return v[at(i)]; },
                    [&](size_t i) { return from(2, i); });
        }
    }
}

inline double gelu(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

template <typename T>
void pointwise() {
    constexpr int pictures = 3, each = 13, rows = pictures * each;
    constexpr int columns = 5, width = columns * 8, all = rows * width;
    const auto gate = Array<T>::random(pictures * width), onto = Array<T>::random(all);
    const auto y = Array<T>::random(all, 2);
    const auto before = [&] {
        auto copy = std::make_unique<Array<T>>(all);
        std::copy(y->at, y->at + all, copy->at);
        return copy;
    };
    const auto gated = before(), added = before();
    launch(2, 64, 0, [&] {
        gate_onto(gated->at, gate->at, onto->at, rows * columns, each * columns, columns);
    });
    compare("gate", all, TOLERANCE<T>, [&](size_t i) { return (*gated)[i]; },
            [&](size_t i) {
                const size_t by = i / width / each * width + i % width;
                return (*onto)[i] + (*gate)[by] * (*y)[i];
            });
    launch(2, 64, 0, [&] { add_onto(added->at, onto->at, rows * columns); });
    compare("add", all, TOLERANCE<T>, [&](size_t i) { return (*added)[i]; },
            [&](size_t i) { return (*onto)[i] + (*y)[i]; });

    const std::function<double(double)> activations[] = {
        gelu,
        [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2))); },
        [](double x) { return x / (1 + std::exp(-1.702 * x)); },
        [](double x) { return std::max(x, 0.0); },
        [](double x) { return x / (1 + std::exp(-x)); },
    };
    const auto bias = Array<T>::random(width);
    for (int kind = -1; kind < 5; kind++) {
        for (const bool biased : {false, true}) {
            const auto activated = before();
            const T* const by = biased ? bias->at : nullptr;
            // All columns but the last vector's.
            launch(3, 64, 0, [&] {
                activate(activated->at, by, rows * (columns - 1), columns - 1, columns, kind);
            });
            compare("activation", all, TOLERANCE<T>, [&](size_t i) { return (*activated)[i]; },
                    [&](size_t i) {
                        if (i % width >= width - 8) {
                            return (*y)[i];
                        }
                        const double x = (*y)[i] + (biased ? (*bias)[i % width] : 0);
                        return kind < 0 ? x : activations[kind](x);
                    });
        }
    }

    const auto both = Array<T>::random(2 * all);
    Array<T> halves(all);
    launch(2, 64, 0, [&] { gated_gelu(both->at, halves.at, rows * columns, columns); });
    compare("gated gelu", all, TOLERANCE<T>, [&](size_t i) { return halves[i]; },
            [&](size_t i) {
                const size_t first = i / width * 2 * width + i % width;
                return gelu((*both)[first]) * (*both)[first + width];
            });
}

template <typename T>
void softmaxes() {
    struct Shape {
        int heads, queries, keys;
        bool biased, causal;
    };
    for (const auto [heads, queries, keys, biased, causal] :
         {Shape{2, 5, 256, true, false}, {3, 77, 77, false, true}, {1, 4, 1024, false, false}, {2, 3, 10, true, false}}) {
        const int rows = heads * queries;
        const auto x = Array<T>::random(rows * keys, 2);
        const auto bias = Array<float>::random(rows * keys);
        Array<T> y(rows * keys);
        launch((rows * 32 + 255) / 256, 256, 0, [&] {
            softmax(x->at, biased ? bias->at : nullptr, y.at, rows, queries, keys, 0.3f, causal);
        });
        const auto weight = [&](size_t row, int key) {
            const bool seen = !causal || key <= static_cast<int>(row % queries);
            const size_t i = row * keys + key;
            return seen ? std::exp((*x)[i] * 0.3 + (biased ? (*bias)[i] : 0.0)) : 0.0;
        };
        compare("softmax", rows * keys, TOLERANCE<T>, [&](size_t i) { return y[i]; },
                [&](size_t i) {
                    double sum = 0;
                    for (int key = 0; key < keys; key++) {
                        sum += weight(i / keys, key);
                    }
                    return weight(i / keys, i % keys) / sum;
                });
    }
}

template <typename T>
void long_softmaxes() {
    // Fewer keys than threads, more, and no multiple of them.
    for (const auto& [rows, keys] : {std::pair{2, 40}, {3, 1027}, {1, 4096}}) {
        const auto x = Array<T>::random(rows * keys, 2);
        Array<T> y(rows * keys);
        launch(rows, 512, 0, [&] { softmax_long(x->at, y.at, keys, 0.3f); });
        std::vector<double> sums(rows);
        for (int i = 0; i < rows * keys; i++) {
            sums[i / keys] += std::exp((*x)[i] * 0.3);
        }
        compare("long softmax", rows * keys, TOLERANCE<T>, [&](size_t i) { return y[i]; },
                [&](size_t i) { return std::exp((*x)[i] * 0.3) / sums[i / keys]; });
    }
}

inline double from_e4m3(__nv_fp8_storage_t bits) {
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(bits, __NV_E4M3)));
}

inline void quantisation() {
    struct Shape {
        int rows, d, stride;
    };
    for (const auto [rows, d, stride] :
         {Shape{2, 3072, 3072}, {2, 15360, 15360}, {2, 64, 72}, {2, 8, 8}, {1, 16384, 16384}}) {
        const auto x = Array<bf16>::random(rows * stride);
        Array<float> memory(rows * d / 4 + 1), scales(rows);
        auto* y = reinterpret_cast<__nv_fp8_storage_t*>(memory.at);
        const int each = d <= 4096 ? 2 : 8;
        launch(rows, in_warps((d / 8 + each - 1) / each), 0, [&] {
            (each == 2 ? quantise_rows_2 : quantise_rows_8)(x->at, stride, y, scales.at, d);
        });
        // Three bits behind the leading one.
        compare("quantisation", rows * d, 3.5e-2,
                [&](size_t i) { return from_e4m3(y[i]) * scales[i / d]; },
                [&](size_t i) { return (*x)[i / d * stride + i % d]; });
        Array<float> back(rows * d);
        launch(rows, 256, 0, [&] { dequantise_rows(y, scales.at, back.at, d); });
        compare("dequantisation", rows * d, 1e-6, [&](size_t i) { return back[i]; },
                [&](size_t i) { return from_e4m3(y[i]) * scales[i / d]; });
    }
}

// A row's values in e4m3 have an error of their own, and the largest decides how far apart its grid is.
inline void quantised_norms() {
    struct Shape {
        int rows, d, stride, each;
    };
    for (const auto [rows, d, stride, each] :
         {Shape{2, 3072, 3072, 2}, {4, 64, 72, 2}, {1, 8192, 8192, 1}, {3, 8, 8, 1}}) {
        const auto x = Array<bf16>::random(rows * stride);
        const auto scale = Array<bf16>::random(rows / each * d);
        const auto shift = Array<bf16>::random(rows / each * d);
        Array<float> exact(rows * d), memory(rows * d / 4 + 1), row_scales(rows);
        auto* y = reinterpret_cast<e4m3*>(memory.at);
        const Affine<bf16> by{scale->at, shift->at, each, d, 1.0f, 1e-6f};
        launch(rows, in_warps(d / 8), 0, [&] {
            const Eight values = normal(share(x->at + blockIdx.x * stride, d), by);
            if (int(threadIdx.x) * 8 < d) {
                store(exact.at + blockIdx.x * d + threadIdx.x * 8, values);
            }
        });
        launch(rows, in_warps(d / 8), 0, [&] {
            layer_norm_e4m3(x->at, stride, by, y, row_scales.at);
        });
        compare("quantised norm", rows * d, 3.5e-2,
                [&](size_t i) { return from_e4m3(y[i]) * row_scales[i / d]; },
                [&](size_t i) { return exact[i]; });
    }
}

// Every value that there is, the smallest ones and both zeros included.
inline void every_e4m3() {
    Array<float> memory(64), back(256), scales(1);
    auto* y = reinterpret_cast<e4m3*>(memory.at);
    for (int bits = 0; bits < 256; bits++) {
        // 0x7f and 0xff are no numbers, and are never stored.
        y[bits] = e4m3((bits & 0x7f) == 0x7f ? 0 : bits);
    }
    scales.at[0] = 1.0f;
    launch(1, 256, 0, [&] { dequantise_rows(y, scales.at, back.at, 256); });
    compare("every e4m3", 256, 1e-9, [&](size_t i) { return back[i]; },
            [&](size_t i) { return from_e4m3(y[i]); });
}
