// cuRAND: normal values.

#include "driver.h"

#include <curand.h>

#include <random>

using namespace emulated;

struct curandGenerator_st {
    std::mt19937_64 source;
};

template <typename T>
static curandStatus_t fill(curandGenerator_t generator, T* values, size_t count, T mean, T spread) {
    trace("normal %zu\n", count);
    forget_last_work();
    // As cuRAND's pseudorandom generators have it.
    if (count % 2 != 0) {
        return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
    }
    std::normal_distribution<T> normal(mean, spread);
    for (size_t i = 0; i < count && !idle(); i++) {
        values[i] = normal(generator->source);
    }
    return CURAND_STATUS_SUCCESS;
}

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t* made, curandRngType_t) {
    *made = new curandGenerator_st;
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
    delete generator;
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandSetStream(curandGenerator_t, cudaStream_t) { return CURAND_STATUS_SUCCESS; }

curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator,
                                                  unsigned long long seed) {
    generator->source.seed(seed);
    return CURAND_STATUS_SUCCESS;
}

curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* values, size_t count,
                                    float mean, float spread) {
    return fill(generator, values, count, mean, spread);
}

curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double* values, size_t count,
                                          double mean, double spread) {
    return fill(generator, values, count, mean, spread);
}

}  // extern "C"
