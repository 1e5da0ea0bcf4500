// What the emulated libraries share: what they were told to do with work, and the work they know.

#include "driver.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace emulated {

bool idle() {
    static const bool is_idle = std::getenv("EMULATED_GPU_IDLE") != nullptr;
    return is_idle;
}

void trace(const char* format, ...) {
    static FILE* const file = [] {
        const char* path = std::getenv("EMULATED_GPU_TRACE");
        return path == nullptr ? nullptr : std::fopen(path, "w");
    }();
    if (file != nullptr) {
        std::va_list values;
        va_start(values, format);
        std::vfprintf(file, format, values);
        va_end(values);
        std::fflush(file);
    }
}

namespace {
std::mutex last_mutex;
std::string last_work;
}  // namespace

bool is_repeated(const std::string& work) {
    const std::lock_guard lock(last_mutex);
    const bool same = work == last_work;
    last_work = work;
    return same;
}

void forget_last_work() {
    const std::lock_guard lock(last_mutex);
    last_work.clear();
}

std::map<std::string, Call>& kernels() {
    static std::map<std::string, Call> known;
    return known;
}

}  // namespace emulated
