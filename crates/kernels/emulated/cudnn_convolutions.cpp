// cuDNN's convolutions by its older calls, which are candle's.

#include "driver.h"
#include "tensors.h"

using namespace emulated;

extern "C" {

struct cudnnTensorStruct : Tensor {};
struct cudnnFilterStruct : Tensor {};
struct cudnnConvolutionStruct : Window {};

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* made) {
    *made = new cudnnTensorStruct{};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t tensor) {
    delete tensor;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* made) {
    *made = new cudnnFilterStruct{};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
    delete filter;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* made) {
    *made = new cudnnConvolutionStruct{};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t convolution) {
    delete convolution;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t tensor, cudnnDataType_t type,
                                           int n, int c, int h, int w, int of_n, int of_c, int of_h,
                                           int of_w) {
    static_cast<Tensor&>(*tensor) = {nullptr, type_of(type), {n, c, h, w}, {of_n, of_c, of_h, of_w}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
    if (format != CUDNN_TENSOR_NCHW) {
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    return cudnnSetTensor4dDescriptorEx(tensor, type, n, c, h, w, c * h * w, h * w, w, 1);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int o, int i, int h, int w) {
    if (format != CUDNN_TENSOR_NCHW) {
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    static_cast<Tensor&>(*filter) = {nullptr, type_of(type), {o, i, h, w}, {i * h * w, h * w, w, 1}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int pad_h,
                                              int pad_w, int stride_h, int stride_w, int dilation_h,
                                              int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t) {
    if (mode != CUDNN_CROSS_CORRELATION) {
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    static_cast<Window&>(*convolution) = {
        {pad_h, pad_w}, {stride_h, stride_w}, {dilation_h, dilation_w}};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const cudnnFilterDescriptor_t,
    const cudnnConvolutionDescriptor_t, const cudnnTensorDescriptor_t, int, int* count,
    cudnnConvolutionFwdAlgoPerf_t* found) {
    *count = 1;
    found[0] = {};
    found[0].algo = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t, const cudnnTensorDescriptor_t, const cudnnFilterDescriptor_t,
    const cudnnConvolutionDescriptor_t, const cudnnTensorDescriptor_t, cudnnConvolutionFwdAlgo_t,
    size_t* bytes) {
    *bytes = WORKSPACE_BYTES;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t, const void*, const cudnnTensorDescriptor_t x,
                                      const void* x_at, const cudnnFilterDescriptor_t w,
                                      const void* w_at, const cudnnConvolutionDescriptor_t by,
                                      cudnnConvolutionFwdAlgo_t, void*, size_t, const void*,
                                      const cudnnTensorDescriptor_t y, void* y_at) {
    trace("convolution\n");
    forget_last_work();
    const auto placed = [](Tensor tensor, const void* at) {
        tensor.at = const_cast<void*>(at);
        return tensor;
    };
    if (!idle()) {
        convolve(placed(*x, x_at), placed(*w, w_at), placed(*y, y_at), *by);
    }
    return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
