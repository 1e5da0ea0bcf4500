// Kernels on latents and pictures.

#pragma once

template <typename T>
void group_norms() {
    struct Shape {
        int pixels, channels, groups;
    };
    // Groups of 1, 2, 4, 8, 16 channels; more groups than threads in a row; the widths of both models.
    for (const auto [pixels, channels, groups] :
         {Shape{97, 128, 32}, {50, 512, 32}, {301, 16, 8}, {64, 64, 8}, {33, 256, 32}, {40, 8, 8}, {40, 24, 3}, {40, 8, 1}}) {
        const auto x = Array<T>::random(pixels * channels, 1, 5);
        const auto weight = Array<T>::random(channels), bias = Array<T>::random(channels);
        const int columns = channels / 8, rows = std::max(1, 256 / columns);
        const int of_group = channels / groups, slots = std::max(1, 8 / of_group);
        const int blocks = std::clamp((pixels + rows - 1) / rows, 1, 3);
        std::vector<Sums> partial(blocks * groups);
        std::vector<float2> statistics(groups);
        const double values = static_cast<double>(pixels) * of_group;
        launch(blocks, rows * columns, rows * columns * slots * sizeof(Sums),
               [&] { group_sums(x->at, partial.data(), pixels, columns, groups); });
        launch(groups, 32, 0, [&] {
            group_finish(partial.data(), statistics.data(), blocks, groups, values, 1e-6);
        });
        std::vector<double> mean(groups), variance(groups);
        for (int i = 0; i < pixels * channels; i++) {
            mean[i % channels / of_group] += (*x)[i] / values;
        }
        for (int i = 0; i < pixels * channels; i++) {
            const int group = i % channels / of_group;
            variance[group] += std::pow((*x)[i] - mean[group], 2) / values;
        }
        for (const int silu : {0, 1}) {
            Array<T> y(pixels * channels);
            launch(blocks, rows * columns, 0, [&] {
                group_apply(x->at, statistics.data(), weight->at, bias->at, y.at, pixels, columns,
                            groups, silu);
            });
            compare("group norm", pixels * channels, TOLERANCE<T>, [&](size_t i) { return y[i]; },
                    [&](size_t i) {
                        const size_t channel = i % channels, group = channel / of_group;
                        const double n = ((*x)[i] - mean[group]) /
                                             std::sqrt(variance[group] + 1e-6) *
                                             (*weight)[channel] +
                                         (*bias)[channel];
                        return silu ? n / (1 + std::exp(-n)) : n;
                    });
        }
    }
}

template <typename T>
void pictures() {
    constexpr int rows = 3, columns = 5, channels = 16, latents = 4 * rows * columns * channels;
    const auto tokens = Array<float>::random(latents);
    Array<T> pixels(latents);
    launch((latents + 255) / 256, 256, 0, [&] {
        unpack(tokens->at, pixels.at, rows, columns, channels, 0.3611f, 0.1159f);
    });
    compare("unpacking", latents, TOLERANCE<T>, [&](size_t i) { return pixels[i]; },
            [&](size_t i) {
                const size_t channel = i % channels, x = i / channels % (2 * columns);
                const size_t y = i / channels / (2 * columns);
                const size_t token = y / 2 * columns + x / 2;
                return (*tokens)[(token * channels + channel) * 4 + y % 2 * 2 + x % 2] / 0.3611 +
                       0.1159;
            });

    constexpr int height = 3, width = 5, vectors = 3, wide = vectors * 8;
    const auto x = Array<T>::random(height * width * wide);
    Array<T> large(4 * height * width * wide);
    launch(2, 64, 0, [&] { upsample(x->at, large.at, height, width, vectors); });
    compare("doubling", large.count, 1e-9, [&](size_t i) { return large[i]; },
            [&](size_t i) {
                const size_t row = i / wide / (2 * width), column = i / wide % (2 * width);
                return (*x)[(row / 2 * width + column / 2) * wide + i % wide];
            });

    constexpr int count = 999;
    const auto picture = Array<T>::random(count);
    std::vector<unsigned char> bytes(count);
    launch(4, 256, 0, [&] { to_bytes(picture->at, bytes.data(), count); });
    compare("bytes", count, 1e-9, [&](size_t i) { return bytes[i]; },
            [&](size_t i) {
                const float half = static_cast<float>((*picture)[i]) / 2.0f + 0.5f;
                return std::nearbyint(std::clamp(half, 0.0f, 1.0f) * 255.0f);
            });
}
