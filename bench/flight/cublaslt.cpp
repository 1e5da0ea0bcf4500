// What cublasLt offers at given shapes: which epilogues, with which scales, and how fast.
//
//     g++ -O2 cublaslt.cpp -o cublaslt -I…/include -ldl
//     cublaslt NAME ROWS INPUTS OUTPUTS [NAME ROWS INPUTS OUTPUTS …]
//
// For each shape, y (rows, outputs) = x (rows, inputs) W (outputs, inputs)ᵀ, in bf16 and in e4m3 with a
// scale for each row of both factors: plain, with a bias, with GELU, with both, added to C, added to C with
// a bias. A line of JSON for each; the driver and cublasLt are opened when it runs. Values are random.
#include <cublasLt.h>
#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

// A function of a library that is opened at run time.
#define OF(library, name) static const auto name##_ = reinterpret_cast<decltype(&::name)>(find(library, #name))

void* driver;
void* blas;

void* open(const char* name) {
    void* library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(1);
    }
    return library;
}

void* find(void* library, const char* name) {
    void* found = dlsym(library, name);
    if (found == nullptr) {
        std::fprintf(stderr, "%s is not there\n", name);
        std::exit(1);
    }
    return found;
}

void must(int status, const char* what) {
    if (status != 0) {
        std::fprintf(stderr, "%s: status %d\n", what, status);
        std::exit(1);
    }
}

struct Shape {
    std::string name;
    int64_t rows, inputs, outputs;
};

struct Variant {
    const char* name;
    cublasLtEpilogue_t epilogue;
    bool biased, accumulates;
};

const Variant VARIANTS[] = {
    {"plain", CUBLASLT_EPILOGUE_DEFAULT, false, false},
    {"bias", CUBLASLT_EPILOGUE_BIAS, true, false},
    {"gelu", CUBLASLT_EPILOGUE_GELU, false, false},
    {"bias gelu", CUBLASLT_EPILOGUE_GELU_BIAS, true, false},
    {"onto", CUBLASLT_EPILOGUE_DEFAULT, false, true},
    {"bias onto", CUBLASLT_EPILOGUE_BIAS, true, true},
};

constexpr size_t WORKSPACE_BYTES = 64 << 20;
constexpr int CANDIDATES = 6, RUNS = 8;

// Device memory full of random values.
struct Memory {
    CUdeviceptr values, other, y, onto, scales, bias, workspace;
};

CUdeviceptr allocate(size_t bytes) {
    static const auto cuMemAlloc_v2_ = reinterpret_cast<CUresult (*)(CUdeviceptr*, size_t)>(find(driver, "cuMemAlloc_v2"));
    CUdeviceptr made = 0;
    must(cuMemAlloc_v2_(&made, bytes), "allocation");
    return made;
}

void upload(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    static const auto copy = reinterpret_cast<CUresult (*)(CUdeviceptr, const void*, size_t, CUstream)>(
        find(driver, "cuMemcpyHtoDAsync_v2"));
    OF(driver, cuStreamSynchronize);
    must(copy(to, from, bytes, stream), "upload");
    must(cuStreamSynchronize_(stream), "upload");
}

uint32_t next_random() {
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return static_cast<uint32_t>(state >> 32);
}

// Values of about one: bf16 with a random sign and mantissa, e4m3 without its NaNs.
std::vector<uint16_t> random_bf16(size_t count) {
    std::vector<uint16_t> values(count);
    for (uint16_t& value : values) {
        const uint32_t bits = next_random();
        value = static_cast<uint16_t>((bits & 0x807f) | ((125 + (bits >> 8 & 3)) << 7));
    }
    return values;
}

std::vector<uint8_t> random_e4m3(size_t count) {
    std::vector<uint8_t> values(count);
    for (uint8_t& value : values) {
        value = static_cast<uint8_t>(next_random());
        value = (value & 0x7f) == 0x7f ? 0x38 : value;
    }
    return values;
}

const char* words(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
        case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
        default: return "other";
    }
}

// Milliseconds of a run, of several behind each other; below 0 where it does not run.
template <typename Run>
double milliseconds(CUstream stream, Run run) {
    OF(driver, cuEventCreate);
    OF(driver, cuEventRecord);
    OF(driver, cuEventSynchronize);
    static const auto elapsed = reinterpret_cast<CUresult (*)(float*, CUevent, CUevent)>(
        find(driver, "cuEventElapsedTime_v2"));
    static CUevent start = nullptr, end = nullptr;
    if (start == nullptr) {
        must(cuEventCreate_(&start, 0), "event");
        must(cuEventCreate_(&end, 0), "event");
    }
    if (!run()) {
        return -1;
    }
    cuEventRecord_(start, stream);
    for (int i = 0; i < RUNS; i++) {
        run();
    }
    cuEventRecord_(end, stream);
    float took = 0;
    if (cuEventSynchronize_(end) != CUDA_SUCCESS || elapsed(&took, start, end) != CUDA_SUCCESS) {
        return -1;
    }
    return took / RUNS;
}

void probe(cublasLtHandle_t lt, CUstream stream, const Shape& shape, const Variant& variant, bool in_8_bits,
           const Memory& memory) {
    OF(blas, cublasLtMatmulDescCreate);
    OF(blas, cublasLtMatmulDescDestroy);
    OF(blas, cublasLtMatmulDescSetAttribute);
    OF(blas, cublasLtMatrixLayoutCreate);
    OF(blas, cublasLtMatrixLayoutDestroy);
    OF(blas, cublasLtMatmulPreferenceCreate);
    OF(blas, cublasLtMatmulPreferenceDestroy);
    OF(blas, cublasLtMatmulPreferenceSetAttribute);
    OF(blas, cublasLtMatmulAlgoGetHeuristic);
    OF(blas, cublasLtMatmul);

    cublasLtMatmulDesc_t operation = nullptr;
    must(cublasLtMatmulDescCreate_(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "operation");
    cublasStatus_t refused = CUBLAS_STATUS_SUCCESS;
    const auto set = [&](cublasLtMatmulDescAttributes_t name, const auto& value) {
        const cublasStatus_t status = cublasLtMatmulDescSetAttribute_(operation, name, &value, sizeof value);
        refused = refused == CUBLAS_STATUS_SUCCESS ? status : refused;
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{CUBLAS_OP_T});
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<int32_t>(variant.epilogue));
    if (variant.biased) {
        set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t{CUDA_R_16BF});
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, memory.bias);
    }
    if (in_8_bits) {
        const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
        set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
        set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
        set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, memory.scales);
        set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, memory.scales);
        set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1});
    }
    const cudaDataType stored = in_8_bits ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    cublasLtMatrixLayout_t a, b, c;
    must(cublasLtMatrixLayoutCreate_(&a, stored, shape.inputs, shape.outputs, shape.inputs), "layout");
    must(cublasLtMatrixLayoutCreate_(&b, stored, shape.inputs, shape.rows, shape.inputs), "layout");
    must(cublasLtMatrixLayoutCreate_(&c, CUDA_R_16BF, shape.outputs, shape.rows, shape.outputs), "layout");
    cublasLtMatmulPreference_t preference;
    must(cublasLtMatmulPreferenceCreate_(&preference), "preference");
    const size_t most = WORKSPACE_BYTES;
    cublasLtMatmulPreferenceSetAttribute_(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);

    cublasLtMatmulHeuristicResult_t found[CANDIDATES] = {};
    int count = 0;
    cublasStatus_t status = refused;
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulAlgoGetHeuristic_(lt, operation, a, b, c, c, preference, CANDIDATES, found, &count);
    }
    const float one = 1, beta = variant.accumulates ? 1 : 0;
    double best = -1, first = -1;
    size_t workspace = 0;
    for (int i = 0; i < count; i++) {
        const double took = milliseconds(stream, [&] {
            return cublasLtMatmul_(lt, operation, &one, reinterpret_cast<void*>(memory.other), a,
                                   reinterpret_cast<void*>(memory.values), b, &beta,
                                   reinterpret_cast<void*>(variant.accumulates ? memory.onto : memory.y), c,
                                   reinterpret_cast<void*>(memory.y), c, &found[i].algo,
                                   reinterpret_cast<void*>(memory.workspace), WORKSPACE_BYTES,
                                   reinterpret_cast<cudaStream_t>(stream)) == CUBLAS_STATUS_SUCCESS;
        });
        first = i == 0 ? took : first;
        if (took >= 0 && (best < 0 || took < best)) {
            best = took;
            workspace = found[i].workspaceSize;
        }
    }
    const double operations = 2.0 * shape.rows * shape.inputs * shape.outputs;
    std::printf("{\"probe\": \"product\", \"name\": \"%s\", \"dtype\": \"%s\", \"variant\": \"%s\", "
                "\"status\": \"%s\", \"code\": %d, \"algorithms\": %d",
                shape.name.c_str(), in_8_bits ? "e4m3" : "bf16", variant.name, words(status), status, count);
    if (best > 0) {
        std::printf(", \"milliseconds\": %.5f, \"first_milliseconds\": %.5f, \"tflops\": %.1f, \"workspace_bytes\": %zu",
                    best, first, operations / best / 1e9, workspace);
    }
    std::printf("}\n");
    std::fflush(stdout);
    cublasLtMatmulPreferenceDestroy_(preference);
    cublasLtMatrixLayoutDestroy_(a);
    cublasLtMatrixLayoutDestroy_(b);
    cublasLtMatrixLayoutDestroy_(c);
    cublasLtMatmulDescDestroy_(operation);
}

}  // namespace

int main(int count, char** arguments) {
    driver = open("libcuda.so.1");
    blas = open("libcublasLt.so.13");
    OF(driver, cuInit);
    OF(driver, cuDeviceGet);
    OF(driver, cuDevicePrimaryCtxRetain);
    OF(driver, cuCtxSetCurrent);
    OF(driver, cuStreamCreate);
    OF(blas, cublasLtCreate);
    std::vector<Shape> shapes;
    for (int i = 1; i + 3 < count; i += 4) {
        shapes.push_back({arguments[i], std::atoll(arguments[i + 1]), std::atoll(arguments[i + 2]),
                          std::atoll(arguments[i + 3])});
    }
    CUdevice device = 0;
    CUcontext context = nullptr;
    CUstream stream = nullptr;
    must(cuInit_(0), "driver");
    must(cuDeviceGet_(&device, 0), "device");
    must(cuDevicePrimaryCtxRetain_(&context, device), "context");
    must(cuCtxSetCurrent_(context), "context");
    must(cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING), "stream");
    cublasLtHandle_t lt = nullptr;
    must(cublasLtCreate_(&lt), "cublasLt");

    size_t of_x = 0, of_weight = 0, of_y = 0, longest = 0;
    for (const Shape& shape : shapes) {
        of_x = std::max<size_t>(of_x, shape.rows * shape.inputs);
        of_weight = std::max<size_t>(of_weight, shape.outputs * shape.inputs);
        of_y = std::max<size_t>(of_y, shape.rows * shape.outputs);
        longest = std::max<size_t>({longest, size_t(shape.rows), size_t(shape.outputs)});
    }
    Memory memory{allocate(2 * of_x), allocate(2 * of_weight), allocate(2 * of_y), allocate(2 * of_y),
                  allocate(4 * longest), allocate(2 * longest), allocate(WORKSPACE_BYTES)};
    const std::vector<float> scales(longest, 0.01f);
    upload(memory.scales, scales.data(), 4 * longest, stream);
    upload(memory.bias, random_bf16(longest).data(), 2 * longest, stream);
    upload(memory.onto, random_bf16(of_y).data(), 2 * of_y, stream);
    for (const bool in_8_bits : {false, true}) {
        if (in_8_bits) {
            upload(memory.values, random_e4m3(of_x).data(), of_x, stream);
            upload(memory.other, random_e4m3(of_weight).data(), of_weight, stream);
        } else {
            upload(memory.values, random_bf16(of_x).data(), 2 * of_x, stream);
            upload(memory.other, random_bf16(of_weight).data(), 2 * of_weight, stream);
        }
        for (const Shape& shape : shapes) {
            for (const Variant& variant : VARIANTS) {
                probe(lt, stream, shape, variant, in_8_bits, memory);
            }
        }
    }
}
