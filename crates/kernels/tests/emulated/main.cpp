// Every kernel against its formula.

#include "compare.h"

#include "../../cuda/group_norm.cu"
#include "../../cuda/heads.cu"
#include "../../cuda/norm.cu"
#include "../../cuda/image.cu"
#include "../../cuda/pointwise.cu"
#include "../../cuda/quantise.cu"
#include "../../cuda/softmax.cu"

#include "images.h"
#include "rows.h"

template <typename T>
void all() {
    norms<T>();
    heads<T>();
    pointwise<T>();
    softmaxes<T>();
    long_softmaxes<T>();
    group_norms<T>();
    pictures<T>();
}

int main() {
    all<float>();
    all<bf16>();
    quantisation();
    every_e4m3();
    quantised_norms();
    std::printf("%d wrong\n", failures);
    return failures != 0;
}
