// NVIDIA's own cuDNN plans the graphs of a program that runs on the emulated GPU, for a card that is only
// described. Loaded before the emulated libraries: every call of cuDNN's graph API is made twice, to the
// emulated cuDNN, which can run a graph, and to the real one, which can only plan it. Where either refuses,
// the program is refused. Each plan is a line of JSON in REAL_CUDNN_LOG, with the names of the kernels that
// cuDNN asked the driver for, and of what it refused the reason.
//
// REAL_CUDNN is the real library, EMULATED_GPU the folder of the emulated ones, REAL_CUDNN_CARD h100 or h200.

#include <cuda.h>
#include <cudnn_graph.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {

const char* environment(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) {
        std::fprintf(stderr, "real cuDNN: %s is not set\n", name);
        std::exit(1);
    }
    return value;
}

void* open(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (library == nullptr) {
        std::fprintf(stderr, "real cuDNN: %s\n", dlerror());
        std::exit(1);
    }
    return library;
}

// A function of one of the two libraries, by the name that it has here.
template <typename F>
F* function(bool real, const char* name, F*) {
    static void* const theirs = open(environment("REAL_CUDNN"));
    static void* const emulated = open(std::string(environment("EMULATED_GPU")) + "/libcuda.so.1");
    void* found = dlsym(real ? theirs : emulated, name);
    if (found == nullptr) {
        std::fprintf(stderr, "real cuDNN: no %s\n", name);
        std::exit(1);
    }
    return reinterpret_cast<F*>(found);
}

#define REAL(name) function(true, #name, &::name)
#define EMULATED(name) function(false, #name, &::name)

// What cuDNN wants to know of a card. Sizes and clocks are the cards' own, the rest is Hopper's.
std::string description() {
    const bool is_h100 = std::string(environment("REAL_CUDNN_CARD")) == "h100";
    char text[1024];
    std::snprintf(text, sizeof text,
                  R"({"deviceName": "%s", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0,
        "pciDeviceId": %d, "isTccDriver": 0, "supportCoopLaunch": 1, "multiProcessorCount": 132,
        "smClockRateKHz": 1980000, "memClockRateKHz": %d, "totalGlobalMem": %ld, "l2CacheSize": %d,
        "warpSize": 32, "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
        "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32, "regsPerBlock": 65536,
        "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024})",
                  is_h100 ? "NVIDIA H100 80GB HBM3" : "NVIDIA H200", is_h100 ? 9008 : 9013,
                  is_h100 ? 2619000 : 3201000, is_h100 ? 85029158912 : 150754820096,
                  is_h100 ? 52428800 : 62914560);
    return text;
}

cudnnBackendDescriptor_t card() {
    static const cudnnBackendDescriptor_t described = [] {
        const std::string text = description();
        cudnnBackendDescriptor_t made = nullptr;
        const bool taken =
            REAL(cudnnBackendCreateDescriptor)(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &made) == 0 &&
            REAL(cudnnBackendSetAttribute)(made, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                           text.size(), text.data()) == 0 &&
            REAL(cudnnBackendFinalize)(made) == 0;
        if (!taken) {
            std::fprintf(stderr, "real cuDNN does not take the card's description\n");
            std::exit(1);
        }
        return made;
    }();
    return described;
}

// Of the real engines for a graph; behind each of them is an emulated one, which computes it.
constexpr int64_t MOST_ENGINES = 12;

// One of the program's descriptors, as each library has it.
struct Pair {
    cudnnBackendDescriptorType_t kind;
    cudnnBackendDescriptor_t real, emulated;
    // What is told of it: a tensor's sizes, then of what is made from it.
    std::string words;
};

Pair& pair(cudnnBackendDescriptor_t raw) { return *static_cast<Pair*>(raw); }

// The kernels that cuDNN asked the driver for since they were last told of.
std::vector<std::string> kernels;

void log(const std::string& line) {
    static std::FILE* const file = std::fopen(environment("REAL_CUDNN_LOG"), "a");
    std::fprintf(file, "%s\n", line.c_str());
    std::fflush(file);
}

std::string quoted(const std::string& text) {
    std::string made = "\"";
    for (const char c : text) {
        made += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c < ' ' ? ' ' : c);
    }
    return made + '"';
}

std::string last_words() {
    char text[1024] = "";
    REAL(cudnnGetLastErrorString)(text, sizeof text);
    return text;
}

const char* name_of(cudnnBackendDescriptorType_t kind) {
    switch (kind) {
        case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR: return "attention";
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: return "convolution";
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return "pointwise";
        default: return "";
    }
}

void tell(const Pair& of, cudnnStatus_t status) {
    int64_t workspace = -1, count = 0;
    if (status == CUDNN_STATUS_SUCCESS) {
        REAL(cudnnBackendGetAttribute)(of.real, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                       &count, &workspace);
    }
    std::string names;
    for (const std::string& name : kernels) {
        names += (names.empty() ? "" : ", ") + quoted(name);
    }
    kernels.clear();
    log("{\"kind\": " + std::string(of.kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? "\"plan\"" : "\"part\"") +
        ", \"of\": " + quoted(of.words) + ", \"status\": " + std::to_string(status) + ", \"reason\": " +
        quoted(status == CUDNN_STATUS_SUCCESS ? "" : last_words()) +
        ", \"workspace_bytes\": " + std::to_string(workspace) + ", \"kernels\": [" + names + "]}");
}

}  // namespace

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind, cudnnBackendDescriptor_t* made) {
    Pair both{kind, nullptr, nullptr, name_of(kind)};
    const cudnnStatus_t status = REAL(cudnnBackendCreateDescriptor)(kind, &both.real);
    const cudnnStatus_t other = EMULATED(cudnnBackendCreateDescriptor)(kind, &both.emulated);
    *made = new Pair(both);
    return status == CUDNN_STATUS_SUCCESS ? other : status;
}

// Some are part of others that live on, several engines are one emulated: their memory stays.
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t raw, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
    Pair& into = pair(raw);
    if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        if (name == CUDNN_ATTR_TENSOR_DIMENSIONS) {
            for (int64_t i = 0; i < count; i++) {
                into.words += (i == 0 ? "" : "x") + std::to_string(static_cast<const int64_t*>(values)[i]);
            }
        }
        const cudnnStatus_t status = EMULATED(cudnnBackendSetAttribute)(into.emulated, name, type, count, values);
        // There is no handle: what is planned for is described.
        const bool of_no_device = type == CUDNN_TYPE_HANDLE || into.kind == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR;
        if (status != CUDNN_STATUS_SUCCESS || of_no_device) {
            return status;
        }
        return REAL(cudnnBackendSetAttribute)(into.real, name, type, count, values);
    }
    std::vector<cudnnBackendDescriptor_t> real, emulated;
    for (int64_t i = 0; i < count; i++) {
        const Pair& part = pair(static_cast<const cudnnBackendDescriptor_t*>(values)[i]);
        real.push_back(part.real);
        emulated.push_back(part.emulated);
        into.words += (into.words.empty() || part.words.empty() ? "" : " ") + part.words;
    }
    const cudnnStatus_t status =
        EMULATED(cudnnBackendSetAttribute)(into.emulated, name, type, count, emulated.data());
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    return REAL(cudnnBackendSetAttribute)(into.real, name, type, count, real.data());
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t raw) {
    Pair& of = pair(raw);
    const cudnnStatus_t emulated = EMULATED(cudnnBackendFinalize)(of.emulated);
    if (emulated != CUDNN_STATUS_SUCCESS || of.kind == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR) {
        return emulated;
    }
    const cudnnBackendDescriptor_t described = card();
    if (of.kind == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
        REAL(cudnnBackendSetAttribute)(of.real, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                       1, &described);
    }
    const bool is_plan = of.kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    if (is_plan) {
        REAL(cudnnBackendSetAttribute)(of.real, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &described);
    }
    kernels.clear();
    const cudnnStatus_t status = REAL(cudnnBackendFinalize)(of.real);
    // A mode of the heuristics may know nothing of a graph; all else that is refused is worth telling.
    if (is_plan || (status != CUDNN_STATUS_SUCCESS && of.kind != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)) {
        tell(of, status);
    }
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t raw, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t most, int64_t* count,
                                       void* values) {
    Pair& from = pair(raw);
    if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        return REAL(cudnnBackendGetAttribute)(from.real, name, type, most, count, values);
    }
    std::vector<cudnnBackendDescriptor_t> real, emulated;
    for (int64_t i = 0; i < most; i++) {
        Pair& into = pair(static_cast<cudnnBackendDescriptor_t*>(values)[i]);
        into.words = from.words;
        real.push_back(into.real);
        emulated.push_back(into.emulated);
    }
    int64_t of_emulated = 0;
    const cudnnStatus_t status =
        REAL(cudnnBackendGetAttribute)(from.real, name, type, most, count, real.data());
    if (status != CUDNN_STATUS_SUCCESS) {
        return status;
    }
    EMULATED(cudnnBackendGetAttribute)(from.emulated, name, type, most, &of_emulated, emulated.data());
    *count = of_emulated == 0 ? 0 : std::min(*count, MOST_ENGINES);
    for (int64_t i = of_emulated; i < *count; i++) {
        pair(static_cast<cudnnBackendDescriptor_t*>(values)[i]).emulated = emulated[0];
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    return EMULATED(cudnnBackendExecute)(handle, pair(plan).emulated, pair(pack).emulated);
}

void cudnnGetLastErrorString(char* text, size_t length) {
    REAL(cudnnGetLastErrorString)(text, length);
    if (text[0] == 0) {
        EMULATED(cudnnGetLastErrorString)(text, length);
    }
}

// What the real cuDNN asks the driver for while it plans. A kernel is only looked for by its name.

static int something;

CUresult cuLibraryLoadData(CUlibrary* made, const void*, CUjit_option*, void**, unsigned, CUlibraryOption*,
                           void**, unsigned) {
    *made = reinterpret_cast<CUlibrary>(&something);
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel* made, CUlibrary, const char* name) {
    kernels.emplace_back(name);
    *made = reinterpret_cast<CUkernel>(&something);
    return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary) { return CUDA_SUCCESS; }

CUresult cuKernelGetFunction(CUfunction* made, CUkernel) {
    *made = reinterpret_cast<CUfunction>(&something);
    return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute, int, CUkernel, CUdevice) { return CUDA_SUCCESS; }

CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }

CUresult cuDeviceGetCount(int* count) {
    *count = 1;
    return CUDA_SUCCESS;
}

// It looks for cublasLt when it is opened, and asks nothing of it for these graphs.
size_t cublasLtGetVersion() { return 130000; }

// The runtime inside cuDNN does without.
CUresult cuGetExportTable(const void**, const CUuuid*) { return CUDA_ERROR_NOT_FOUND; }

}  // extern "C"
