// CUDA's runtime, as programs need it to start that bring kernels for it and call none: candle has some for
// quantised language models.

#include <cstdlib>

extern "C" {

void* __cudaRegisterFatBinary(void* image) { return image; }
void __cudaRegisterFatBinaryEnd(void*) {}
void __cudaUnregisterFatBinary(void*) {}
void __cudaRegisterFunction() {}
void __cudaRegisterVar() {}

int __cudaGetKernel() { std::abort(); }
int __cudaLaunchKernel_ptsz() { std::abort(); }
int __cudaPushCallConfiguration() { std::abort(); }
int __cudaPopCallConfiguration() { std::abort(); }
int cudaFuncSetAttribute() { std::abort(); }
int cudaGetDevice() { std::abort(); }

}  // extern "C"
