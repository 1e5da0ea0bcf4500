// cuBLAS and cublasLt: products of matrices in f32, whatever they are stored as.

#include "arithmetic.h"
#include "driver.h"

#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstdlib>

using namespace emulated;

namespace {

// A column-major matrix, and whether its transpose is meant.
struct Matrix {
    const void* at;
    cudaDataType type;
    int64_t stride;
    bool transposed;

    // Row `row`, column `column` of what is meant.
    float operator()(int64_t row, int64_t column) const {
        return value(at, type, transposed ? row * stride + column : column * stride + row);
    }
};

// op(A) op(B): (m, n), column-major, n columns of m.
std::vector<float> product(int64_t m, int64_t n, int64_t k, const Matrix& a, const Matrix& b) {
    std::vector<float> rows(n * k), columns(k * m);
#pragma omp parallel for
    for (int64_t j = 0; j < n; j++) {
        for (int64_t l = 0; l < k; l++) {
            rows[j * k + l] = b(l, j);
        }
    }
#pragma omp parallel for
    for (int64_t l = 0; l < k; l++) {
        for (int64_t i = 0; i < m; i++) {
            columns[l * m + i] = a(i, l);
        }
    }
    return multiply(rows, columns, n, k, m);
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    // Nothing is kept in it, but it must not be null.
    static int something;
    *handle = reinterpret_cast<cublasHandle_t>(&something);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t, cublasOperation_t transposed_a, cublasOperation_t transposed_b, int m, int n,
    int k, const void* alpha, const void* a, cudaDataType type_a, int stride_a, long long next_a,
    const void* b, cudaDataType type_b, int stride_b, long long next_b, const void* beta, void* c,
    cudaDataType type_c, int stride_c, long long next_c, int batch, cublasComputeType_t compute,
    cublasGemmAlgo_t) {
    trace("product %d %d %d batch %d\n", m, n, k, batch);
    const bool fits = m > 0 && n > 0 && k > 0 &&
                      stride_a >= (transposed_a == CUBLAS_OP_N ? m : k) &&
                      stride_b >= (transposed_b == CUBLAS_OP_N ? k : n) && stride_c >= m;
    if (!fits) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (compute == CUBLAS_COMPUTE_16F || *static_cast<const float*>(beta) != 0) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    forget_last_work();
    const float factor = *static_cast<const float*>(alpha);
    for (int index = 0; index < batch && !idle(); index++) {
        const Matrix left{behind(a, type_a, index * next_a), type_a, stride_a,
                          transposed_a != CUBLAS_OP_N};
        const Matrix right{behind(b, type_b, index * next_b), type_b, stride_b,
                           transposed_b != CUBLAS_OP_N};
        const std::vector<float> y = product(m, n, k, left, right);
        for (int64_t j = 0; j < n; j++) {
            for (int64_t i = 0; i < m; i++) {
                store(c, type_c, index * next_c + j * stride_c + i, factor * y[j * m + i]);
            }
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int,
                                         int, int, const double*, const double*, int, long long,
                                         const double*, int, long long, const double*, double*, int,
                                         long long, int) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

struct cublasLtContext {};

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = new cublasLtContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"

namespace {

struct Layout {
    cudaDataType type;
    int64_t rows, columns, stride;
};

struct Operation {
    int32_t transposed_a = CUBLAS_OP_N, transposed_b = CUBLAS_OP_N;
    int32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    int32_t bias_type = -1;
    int32_t scale_mode_a = 0, scale_mode_b = 0;
    int8_t fast = 0;
    const void *bias = nullptr, *scale_a = nullptr, *scale_b = nullptr;
};

const Layout& layout(cublasLtMatrixLayout_t raw) { return *reinterpret_cast<Layout*>(raw); }
Operation& operation(cublasLtMatmulDesc_t raw) { return *reinterpret_cast<Operation*>(raw); }

template <typename T>
cublasStatus_t take(T& place, const void* value, size_t bytes) {
    if (bytes != sizeof(T)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    std::memcpy(&place, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool is_biased(int32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

bool is_gelu(int32_t epilogue) {
    return epilogue == CUBLASLT_EPILOGUE_GELU || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
}

// As NVIDIA's table of supported types and layouts has it, for what is asked for here.
cublasStatus_t check(const Operation& op, const Layout& a, const Layout& b, const Layout& c,
                     const Layout& d) {
    const bool turned_a = op.transposed_a != CUBLAS_OP_N, turned_b = op.transposed_b != CUBLAS_OP_N;
    const int64_t m = turned_a ? a.columns : a.rows, k = turned_a ? a.rows : a.columns;
    const int64_t n = turned_b ? b.rows : b.columns, inner = turned_b ? b.columns : b.rows;
    const bool fits = k == inner && d.rows == m && d.columns == n && c.rows == m &&
                      c.columns == n && a.stride >= a.rows && b.stride >= b.rows &&
                      c.stride >= c.rows && d.stride >= d.rows;
    if (!fits) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    // An older cublasLt, perhaps.
    static const bool is_bare = std::getenv("EMULATED_GPU_BARE") != nullptr;
    if (is_bare && op.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (a.type != CUDA_R_8F_E4M3) {
        const bool same = a.type == b.type && a.type == c.type && a.type == d.type;
        return same ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const bool is_supported = b.type == a.type && c.type == d.type && d.type == CUDA_R_16BF &&
                              turned_a && !turned_b && a.stride % 16 == 0 && b.stride % 16 == 0 &&
                              (d.stride * 2) % 16 == 0 && k % 16 == 0 && m % 16 == 0 &&
                              op.scale_mode_a == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F &&
                              op.scale_mode_b == CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    return is_supported ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
    *made = reinterpret_cast<cublasLtMatrixLayout_t>(
        new Layout{type, (int64_t)rows, (int64_t)columns, stride});
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t raw) {
    delete reinterpret_cast<Layout*>(raw);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                                        cudaDataType scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *made = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t raw) {
    delete &operation(raw);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t raw,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    Operation& op = operation(raw);
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA: return take(op.transposed_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_TRANSB: return take(op.transposed_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(op.epilogue, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(op.bias_type, value, bytes);
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(op.bias, value, bytes);
        case CUBLASLT_MATMUL_DESC_A_SCALE_MODE: return take(op.scale_mode_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_B_SCALE_MODE: return take(op.scale_mode_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return take(op.scale_a, value, bytes);
        case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return take(op.scale_b, value, bytes);
        case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return take(op.fast, value, bytes);
        default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
    *made = reinterpret_cast<cublasLtMatmulPreference_t>(new int);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t raw) {
    delete reinterpret_cast<int*>(raw);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void*, size_t bytes) {
    const size_t expected = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4;
    return bytes == expected ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int most,
    cublasLtMatmulHeuristicResult_t* results, int* count) {
    *count = 0;
    const cublasStatus_t status = check(operation(op), layout(a), layout(b), layout(c), layout(d));
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    for (; *count < std::min(most, 2); ++*count) {
        results[*count] = {};
        results[*count].state = CUBLAS_STATUS_SUCCESS;
        results[*count].algo.data[0] = *count + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t raw, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                              cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                              cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algorithm,
                              void*, size_t, cudaStream_t) {
    const Operation& op = operation(raw);
    const Layout &of_a = layout(layout_a), &of_b = layout(layout_b), &of_c = layout(layout_c),
                 &of_d = layout(layout_d);
    if (algorithm != nullptr && algorithm->data[0] == 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const cublasStatus_t status = check(op, of_a, of_b, of_c, of_d);
    if (status != CUBLAS_STATUS_SUCCESS) {
        return status;
    }
    const bool turned_a = op.transposed_a != CUBLAS_OP_N, turned_b = op.transposed_b != CUBLAS_OP_N;
    const int64_t m = of_d.rows, n = of_d.columns, k = turned_a ? of_a.rows : of_a.columns;
    trace("linear %ld %ld %ld type %d epilogue %d\n", m, n, k, of_a.type, op.epilogue);
    const bool scaled = of_a.type == CUDA_R_8F_E4M3;
    const bool missing = (is_biased(op.epilogue) && op.bias == nullptr) ||
                         (scaled && (op.scale_a == nullptr || op.scale_b == nullptr));
    if (missing) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    char work[256];
    std::snprintf(work, sizeof work, "linear %p %p %p %p %p %p %p %d %ld %ld %ld", a, b, c, d,
                  op.bias, op.scale_a, op.scale_b, op.epilogue, m, n, k);
    if (idle() || is_repeated(work)) {
        return CUBLAS_STATUS_SUCCESS;
    }
    const std::vector<float> products = product(m, n, k, {a, of_a.type, of_a.stride, turned_a},
                                                {b, of_b.type, of_b.stride, turned_b});
    const float by = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    const auto bias_type = static_cast<cudaDataType>(op.bias_type < 0 ? of_d.type : op.bias_type);
#pragma omp parallel for
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) {
            float y = by * products[j * m + i];
            if (scaled) {
                y *= static_cast<const float*>(op.scale_a)[i] *
                     static_cast<const float*>(op.scale_b)[j];
            }
            if (keep != 0) {
                y += keep * value(c, of_c.type, j * of_c.stride + i);
            }
            if (is_biased(op.epilogue)) {
                y += value(op.bias, bias_type, i);
            }
            if (is_gelu(op.epilogue)) {
                y = gelu_tanh(y);
            }
            store(d, of_d.type, j * of_d.stride + i, y);
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
