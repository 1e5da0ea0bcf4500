// What candle's kernels use of CUDA's device side beyond device.h, and what makes them think that they
// are compiled for Hopper.

#pragma once

#include <cuda/std/limits>

#include "device.h"

using std::max;
using std::min;
using std::isnan;
using std::signbit;
inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752); }

#define OF_HALF(name, formula)                                       \
    inline __half name(__half v) {                                   \
        const float x = __half2float(v);                             \
        return __float2half(formula);                                \
    }                                                                \
    inline __nv_bfloat16 name(__nv_bfloat16 v) {                     \
        const float x = __bfloat162float(v);                         \
        return __float2bfloat16(formula);                            \
    }
OF_HALF(hsqrt, std::sqrt(x))
OF_HALF(hcos, std::cos(x))
OF_HALF(hsin, std::sin(x))
OF_HALF(hlog, std::log(x))
OF_HALF(hexp, std::exp(x))

#define __CUDA_ARCH__ 900
