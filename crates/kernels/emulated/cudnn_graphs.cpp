// cuDNN's graphs, as far as they are asked for here: attention; convolution, then addition.

#include "driver.h"
#include "tensors.h"

#include <cudnn_graph.h>

#include <map>
#include <memory>
#include <string>

using namespace emulated;

namespace {

thread_local std::string refusal;

cudnnStatus_t refuse(const char* why, cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED) {
    refusal = std::string("emulated cuDNN: ") + why;
    return status;
}

struct Descriptor {
    cudnnBackendDescriptorType_t kind;
    bool finished = false;
    std::map<cudnnBackendAttributeName_t, std::vector<char>> values;
    std::map<cudnnBackendAttributeName_t, std::vector<std::shared_ptr<Descriptor>>> parts;

    template <typename T>
    std::vector<T> all(cudnnBackendAttributeName_t name) const {
        const auto found = values.find(name);
        if (found == values.end()) {
            return {};
        }
        std::vector<T> list(found->second.size() / sizeof(T));
        std::memcpy(list.data(), found->second.data(), list.size() * sizeof(T));
        return list;
    }

    template <typename T>
    T one(cudnnBackendAttributeName_t name, T otherwise = {}) const {
        const auto found = values.find(name);
        if (found != values.end() && found->second.size() >= sizeof(T)) {
            std::memcpy(&otherwise, found->second.data(), sizeof(T));
        }
        return otherwise;
    }

    const Descriptor* part(cudnnBackendAttributeName_t name) const {
        const auto found = parts.find(name);
        return found == parts.end() || found->second.empty() ? nullptr : found->second[0].get();
    }
};

using Shared = std::shared_ptr<Descriptor>;

Shared& shared(cudnnBackendDescriptor_t raw) { return *static_cast<Shared*>(raw); }

// Where a run's tensors are.
struct Run {
    std::map<int64_t, void*> places;
    std::map<int64_t, std::vector<float>> between;

    Tensor tensor(const Descriptor& of) {
        Tensor made{};
        const auto dims = of.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
        const auto strides = of.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
        std::copy_n(dims.begin(), 4, made.dims.begin());
        std::copy_n(strides.begin(), 4, made.strides.begin());
        made.type = type_of(of.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE));
        const auto id = of.one<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
        if (of.one<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL)) {
            std::vector<float>& values = between[id];
            values.resize(dims[0] * dims[1] * dims[2] * dims[3]);
            made.at = values.data();
        } else {
            made.at = places.at(id);
        }
        return made;
    }
};

cudnnStatus_t run(const Descriptor& operation, Run& run) {
    const auto tensor = [&](cudnnBackendAttributeName_t name) {
        return run.tensor(*operation.part(name));
    };
    switch (operation.kind) {
        case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR: {
            const Tensor scale = tensor(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC);
            attend(tensor(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC),
                   tensor(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC),
                   tensor(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC),
                   tensor(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC), scale.get(0, 0, 0, 0));
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR: {
            const Descriptor& how =
                *operation.part(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
            const auto pair = [&](cudnnBackendAttributeName_t name) {
                const auto list = how.all<int64_t>(name);
                return std::array{list.at(0), list.at(1)};
            };
            convolve(tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                     tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                     tensor(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y),
                     {pair(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
                      pair(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
                      pair(CUDNN_ATTR_CONVOLUTION_DILATIONS)});
            return CUDNN_STATUS_SUCCESS;
        }
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: {
            const Descriptor& how = *operation.part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
            if (how.one<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE) != CUDNN_POINTWISE_ADD) {
                return refuse("this operation on single values");
            }
            const Tensor x = tensor(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
            const Tensor b = tensor(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
            const Tensor y = tensor(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
            for (int64_t n = 0; n < y.dims[0]; n++) {
                for (int64_t c = 0; c < y.dims[1]; c++) {
                    for (int64_t i = 0; i < y.dims[2] * y.dims[3]; i++) {
                        const int64_t row = i / y.dims[3], column = i % y.dims[3];
                        y.set(n, c, row, column, x.get(n, c, row, column) + b.get(n, c, row, column));
                    }
                }
            }
            return CUDNN_STATUS_SUCCESS;
        }
        default: return refuse("this operation");
    }
}

size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
        case CUDNN_TYPE_BOOLEAN:
        case CUDNN_TYPE_CHAR: return 1;
        case CUDNN_TYPE_INT64:
        case CUDNN_TYPE_HANDLE:
        case CUDNN_TYPE_VOID_PTR:
        case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
        default: return 4;
    }
}

}  // namespace

extern "C" {

struct cudnnContext {};

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    *handle = new cudnnContext;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }

void cudnnGetLastErrorString(char* text, size_t length) {
    std::snprintf(text, length, "%s", refusal.c_str());
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind,
                                           cudnnBackendDescriptor_t* made) {
    *made = new Shared(std::make_shared<Descriptor>(Descriptor{kind}));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t raw) {
    delete static_cast<Shared*>(raw);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t raw,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* values) {
    Descriptor& into = *shared(raw);
    if (into.finished) {
        return refuse("a finished descriptor", CUDNN_STATUS_BAD_PARAM);
    }
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        std::vector<Shared>& parts = into.parts[name];
        for (int64_t i = 0; i < count; i++) {
            parts.push_back(shared(static_cast<const cudnnBackendDescriptor_t*>(values)[i]));
            if (!parts.back()->finished) {
                return refuse("an unfinished part", CUDNN_STATUS_BAD_PARAM);
            }
        }
        return CUDNN_STATUS_SUCCESS;
    }
    const char* bytes = static_cast<const char*>(values);
    into.values[name].assign(bytes, bytes + count * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t raw) {
    shared(raw)->finished = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t raw,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t most, int64_t* count,
                                       void* values) {
    const Descriptor& from = *shared(raw);
    if (!from.finished) {
        return refuse("an unfinished descriptor", CUDNN_STATUS_BAD_PARAM);
    }
    switch (name) {
        case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
            *static_cast<int64_t*>(values) = WORKSPACE_BYTES;
            *count = 1;
            return CUDNN_STATUS_SUCCESS;
        case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
            // Two engines where it knows best, none of last resort.
            const bool knows = from.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) ==
                               CUDNN_HEUR_MODE_A;
            *count = knows ? std::min<int64_t>(most, 2) : 0;
            for (int64_t i = 0; i < *count; i++) {
                Descriptor& engine = *shared(static_cast<cudnnBackendDescriptor_t*>(values)[i]);
                engine.finished = true;
                engine.parts = from.parts;
            }
            return CUDNN_STATUS_SUCCESS;
        }
        default: return refuse("this attribute");
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
    const Descriptor& engine = *shared(plan)->part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const Descriptor& graph = *engine.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const std::vector<Shared>& operations = graph.parts.at(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const auto ids = shared(pack)->all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto places = shared(pack)->all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    Run with;
    std::string work = "graph";
    for (size_t i = 0; i < ids.size(); i++) {
        with.places[ids[i]] = places.at(i);
        work += ' ' + std::to_string(reinterpret_cast<uintptr_t>(places[i]));
    }
    trace("graph %d\n", operations[0]->kind);
    if (is_repeated(work)) {
        return CUDNN_STATUS_SUCCESS;
    }
    for (const Shared& operation : operations) {
        const cudnnStatus_t status = idle() ? CUDNN_STATUS_SUCCESS : run(*operation, with);
        if (status != CUDNN_STATUS_SUCCESS) {
            return status;
        }
    }
    return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
