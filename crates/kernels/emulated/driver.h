// What the emulated libraries share.

#pragma once

#include <cstdarg>
#include <map>
#include <string>
#include <utility>

namespace emulated {

// Whether nothing is computed: EMULATED_GPU_IDLE is set. What the host does can then be watched at any size.
bool idle();

// A line in the file that EMULATED_GPU_TRACE names.
[[gnu::format(printf, 1, 2)]] void trace(const char* format, ...);

// Whether this is what was done last, so that its result is there already: who measures repeats himself.
bool is_repeated(const std::string& work);

// Something else is done, which may change what the last work was done with.
void forget_last_work();

// A kernel with its arguments where a launch has them.
using Call = void (*)(void** arguments);

// By where they come from and their names.
std::map<std::string, Call>& kernels();

template <auto kernel>
struct Entry;

template <typename... Arguments, void (*kernel)(Arguments...)>
struct Entry<kernel> {
    static void call(void** arguments) {
        [&]<size_t... i>(std::index_sequence<i...>) {
            kernel(*static_cast<std::remove_cv_t<Arguments>*>(arguments[i])...);
        }(std::index_sequence_for<Arguments...>{});
    }
};

}  // namespace emulated

// Makes a kernel known.
#define KERNEL(origin, name)               \
    static const bool name##_is_known =    \
        emulated::kernels().emplace(origin "/" #name, emulated::Entry<name>::call).second;
