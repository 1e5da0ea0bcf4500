// CUDA's driver: one Hopper card whose memory is the host's, whose streams are never behind.

#include "driver.h"

#include <cuda.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "device.h"

namespace emulated {

namespace {

struct Memory {
    std::mutex mutex;
    std::map<CUdeviceptr, size_t> blocks;
    uint64_t used = 0, peak = 0;
} memory;

// An H200's, where EMULATED_GPU_BYTES does not say otherwise.
uint64_t total_bytes() {
    static const uint64_t bytes = [] {
        const char* said = std::getenv("EMULATED_GPU_BYTES");
        return said == nullptr ? 150754820096 : std::strtoull(said, nullptr, 10);
    }();
    return bytes;
}

bool holds(CUdeviceptr address, size_t bytes) {
    const std::lock_guard lock(memory.mutex);
    auto block = memory.blocks.upper_bound(address);
    if (block == memory.blocks.begin()) {
        return false;
    }
    --block;
    return address + bytes <= block->first + block->second;
}

CUresult allocate(CUdeviceptr* place, size_t bytes) {
    if (bytes == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    void* address = nullptr;
    if (posix_memalign(&address, 256, bytes) != 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    // NaN in every float, so that what is read before it is written shows.
    if (!idle()) {
        std::memset(address, 0xff, bytes);
    }
    const std::lock_guard lock(memory.mutex);
    if (memory.used + bytes > total_bytes()) {
        std::free(address);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memory.used += bytes;
    memory.peak = std::max(memory.peak, memory.used);
    *place = reinterpret_cast<CUdeviceptr>(address);
    memory.blocks[*place] = bytes;
    trace("allocate %zu\n", bytes);
    forget_last_work();
    return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr address) {
    const std::lock_guard lock(memory.mutex);
    const auto block = memory.blocks.find(address);
    if (block == memory.blocks.end()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    memory.used -= block->second;
    trace("free %zu\n", block->second);
    memory.blocks.erase(block);
    std::free(reinterpret_cast<void*>(address));
    return CUDA_SUCCESS;
}

struct Module {
    // Where it is PTX; machine code is not looked into.
    std::string ptx;
};

struct Function {
    std::string name;
    Call call;
};

struct Event {
    std::chrono::steady_clock::time_point at;
};

// Anything that is not null.
int something;

}  // namespace
}  // namespace emulated

using namespace emulated;

extern "C" {

CUresult cuInit(unsigned) { return CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int* version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult, const char** text) {
    *text = "refused by the emulated GPU";
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice) {
    std::snprintf(name, length, "emulated GPU");
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
    *bytes = total_bytes();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
        case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    *context = reinterpret_cast<CUcontext>(&something);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxDestroy_v2(CUcontext) { return CUDA_SUCCESS; }

static thread_local CUcontext current_context = nullptr;

CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = current_context;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    current_context = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    trace("synchronise context\n");
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
    *stream = reinterpret_cast<CUstream>(&something);
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream) { return CUDA_SUCCESS; }

CUresult cuStreamSynchronize(CUstream) {
    trace("synchronise\n");
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned) {
    trace("wait for event\n");
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned) {
    *event = reinterpret_cast<CUevent>(new Event{});
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
    delete reinterpret_cast<Event*>(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream) {
    reinterpret_cast<Event*>(event)->at = std::chrono::steady_clock::now();
    return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent) {
    trace("synchronise event\n");
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    const std::chrono::duration<float, std::milli> elapsed =
        reinterpret_cast<Event*>(end)->at - reinterpret_cast<Event*>(start)->at;
    *milliseconds = elapsed.count();
    return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr* place, size_t bytes, CUstream) {
    return allocate(place, bytes);
}
CUresult cuMemAlloc_v2(CUdeviceptr* place, size_t bytes) { return allocate(place, bytes); }
CUresult cuMemFreeAsync(CUdeviceptr address, CUstream) { return release(address); }
CUresult cuMemFree_v2(CUdeviceptr address) { return release(address); }

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice) {
    *pool = reinterpret_cast<CUmemoryPool>(&something);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    const std::lock_guard lock(memory.mutex);
    uint64_t& number = *static_cast<uint64_t*>(value);
    switch (attribute) {
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: number = memory.used; break;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH: number = memory.peak; break;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: number = memory.used; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool, CUmemPool_attribute attribute, void* value) {
    const std::lock_guard lock(memory.mutex);
    switch (attribute) {
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            if (*static_cast<uint64_t*>(value) != 0) {
                return CUDA_ERROR_INVALID_VALUE;
            }
            memory.peak = memory.used;
            return CUDA_SUCCESS;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream) {
    trace("upload %zu\n", bytes);
    forget_last_work();
    if (!holds(to, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    // Small ones are indices and sizes, which decide nothing here but may be looked at.
    if (!idle() || bytes < 4096) {
        std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream) {
    trace("download %zu\n", bytes);
    if (!holds(from, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!idle()) {
        std::memcpy(to, reinterpret_cast<void*>(from), bytes);
    } else if (bytes <= 16 << 20) {
        // Pictures. Weights are not looked at, and the host would not have room for them.
        std::memset(to, 0, bytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream) {
    trace("copy %zu\n", bytes);
    forget_last_work();
    if (!holds(to, bytes) || !holds(from, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!idle()) {
        std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuMemcpyPeerAsync(CUdeviceptr, CUcontext, CUdeviceptr, CUcontext, size_t, CUstream) {
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream) {
    trace("fill %zu\n", bytes);
    forget_last_work();
    if (!holds(to, bytes)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!idle()) {
        std::memset(reinterpret_cast<void*>(to), value, bytes);
    }
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    const char* text = static_cast<const char*>(image);
    // PTX is a string, machine code begins with a number.
    const bool is_text = text[0] == '/' || text[0] == '.' || text[0] == '\n';
    *module = reinterpret_cast<CUmodule>(new Module{is_text ? text : ""});
    return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule*, const char*) { return CUDA_ERROR_FILE_NOT_FOUND; }

CUresult cuModuleUnload(CUmodule module) {
    delete reinterpret_cast<Module*>(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    const std::string& ptx = reinterpret_cast<Module*>(module)->ptx;
    // candle's kernels come as PTX, ours as machine code.
    const auto known = kernels().find((ptx.empty() ? "own/" : "candle/") + std::string(name));
    const bool is_there =
        ptx.empty() ? known != kernels().end()
                    : ptx.find(std::string(".entry ") + name + "(") != std::string::npos;
    if (!is_there) {
        std::fprintf(stderr, "emulated GPU: no kernel %s\n", name);
        return CUDA_ERROR_NOT_FOUND;
    }
    const Call call = known == kernels().end() ? nullptr : known->second;
    *function = reinterpret_cast<CUfunction>(new Function{name, call});
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned blocks_x, unsigned blocks_y,
                        unsigned blocks_z, unsigned threads_x, unsigned threads_y,
                        unsigned threads_z, unsigned shared_bytes, CUstream, void** arguments,
                        void**) {
    const Function& called = *reinterpret_cast<Function*>(function);
    trace("launch %s %u,%u,%u %u,%u,%u %u\n", called.name.c_str(), blocks_x, blocks_y, blocks_z,
          threads_x, threads_y, threads_z, shared_bytes);
    const bool fits = blocks_x > 0 && blocks_x < 1u << 31 && blocks_y > 0 && blocks_y < 65536 &&
                      blocks_z > 0 && blocks_z < 65536 && threads_x > 0 && threads_y > 0 &&
                      threads_z > 0 && threads_z <= 64 &&
                      (uint64_t)threads_x * threads_y * threads_z <= 1024 &&
                      shared_bytes <= 48 << 10;
    if (!fits) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (called.call == nullptr) {
        std::fprintf(stderr, "emulated GPU: %s is not compiled in\n", called.name.c_str());
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    forget_last_work();
    if (!idle()) {
        launch({{blocks_x, blocks_y, blocks_z}, {threads_x, threads_y, threads_z}, shared_bytes},
               [&] { called.call(arguments); });
    }
    return CUDA_SUCCESS;
}

}  // extern "C"
