// Fibers, and the blocks of a launch.

#include "device.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

namespace emulated {
namespace {

constexpr size_t STACK_BYTES = 64 << 10, MOST_THREADS = 1024;

// Saves the callee's registers on this stack, its pointer at `from`, and goes on where `to` was saved.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
    .text
    .globl emulated_switch
    .hidden emulated_switch
    .type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulated_switch, .-emulated_switch
)");

struct Barrier {
    unsigned running = 0, arrived = 0;
    uint64_t round = 0;
    bool complete() {
        if (running == 0 || arrived < running) {
            return false;
        }
        arrived = 0;
        round++;
        return true;
    }
};

// A host thread's block. A fiber runs one thread after the other until one of them has to wait; then the
// next fiber goes on with the threads that have not begun.
struct Block {
    Block() {
        void* memory = mmap(nullptr, MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            std::abort();
        }
        stacks = static_cast<char*>(memory);
    }
    ~Block() { munmap(stacks, MOST_THREADS * STACK_BYTES); }

    void run(const Grid& grid, const std::function<void()>& kernel);
    void begin_thread(unsigned thread);
    void end_thread();
    void wait(Barrier& barrier);
    static void run_fiber();

    char* stacks;
    const std::function<void()>* kernel = nullptr;
    unsigned threads = 0, begun = 0, ended = 0, current = 0;
    void* scheduler = nullptr;
    // Of a thread that waits: its fiber, and for what.
    struct Waiting {
        void* fiber;
        unsigned thread;
        Barrier* barrier;
        uint64_t round;
    };
    std::vector<Waiting> waiting;
    Barrier all, warps[MOST_THREADS / WARP_SIZE];
    uint64_t given[2][MOST_THREADS];
    std::vector<char> dynamic;
};

thread_local std::unique_ptr<Block> block;

void Block::begin_thread(unsigned thread) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                 thread / blockDim.x / blockDim.y};
}

void Block::end_thread() {
    ended++;
    Barrier& warp = warps[current / WARP_SIZE];
    // Those that are left do not wait for this one.
    all.running--;
    warp.running--;
    all.complete();
    warp.complete();
}

void Block::run_fiber() {
    Block& own = *block;
    // A thread that waited may have been taken up by others in between: what is next is asked each time.
    do {
        own.begin_thread(own.begun++);
        (*own.kernel)();
        own.end_thread();
    } while (own.begun < own.threads);
    void* nowhere;
    emulated_switch(&nowhere, own.scheduler);
    std::abort();
}

void Block::wait(Barrier& barrier) {
    barrier.arrived++;
    if (barrier.complete()) {
        return;
    }
    const unsigned thread = current;
    waiting.push_back({nullptr, thread, &barrier, barrier.round});
    emulated_switch(&waiting.back().fiber, scheduler);
    begin_thread(thread);
}

void Block::run(const Grid& grid, const std::function<void()>& kernel) {
    this->kernel = &kernel;
    threads = grid.threads.x * grid.threads.y * grid.threads.z;
    begun = ended = 0;
    // Not zeros, which would hide what is read before it is written.
    dynamic.assign(grid.shared_bytes, 0x7f);
    all = {threads};
    for (unsigned first = 0; first < threads; first += WARP_SIZE) {
        warps[first / WARP_SIZE] = {std::min(WARP_SIZE, threads - first)};
    }
    waiting.clear();
    waiting.reserve(2 * MOST_THREADS);
    for (unsigned fibers = 0; begun < threads; fibers++) {
        // As `emulated_switch` leaves a stack: six registers below where to go on. Functions are entered
        // with their stack eight bytes off a multiple of 16.
        void** top = reinterpret_cast<void**>(stacks + (fibers + 1) * STACK_BYTES) - 2;
        *top = reinterpret_cast<void*>(&Block::run_fiber);
        emulated_switch(&scheduler, top - 6);
    }
    while (ended < threads) {
        // In the order they came, those that may go on; each may come back behind the others.
        std::vector<Waiting> turn;
        turn.reserve(2 * MOST_THREADS);
        turn.swap(waiting);
        bool moved = false;
        for (const Waiting& next : turn) {
            if (next.barrier->round == next.round) {
                waiting.push_back(next);
                continue;
            }
            moved = true;
            emulated_switch(&scheduler, next.fiber);
        }
        if (!moved) {
            std::fprintf(stderr, "emulated GPU: a block's threads wait for each other for ever\n");
            std::abort();
        }
    }
}

}  // namespace

void wait_for_block() { block->wait(block->all); }

void wait_for_warp() { block->wait(block->warps[block->current / WARP_SIZE]); }

uint64_t* exchanged() { return block->given[block->warps[block->current / WARP_SIZE].round % 2]; }

char* dynamic_shared() { return block->dynamic.data(); }

void launch(const Grid& grid, const std::function<void()>& kernel) {
    const long blocks = (long)grid.blocks.x * grid.blocks.y * grid.blocks.z;
    if (grid.threads.x * grid.threads.y * grid.threads.z > MOST_THREADS) {
        std::abort();
    }
#pragma omp parallel
    {
        if (!block) {
            block = std::make_unique<Block>();
        }
        blockDim = grid.threads;
        gridDim = grid.blocks;
#pragma omp for schedule(dynamic, 16)
        for (long index = 0; index < blocks; index++) {
            blockIdx = {unsigned(index % grid.blocks.x),
                        unsigned(index / grid.blocks.x % grid.blocks.y),
                        unsigned(index / grid.blocks.x / grid.blocks.y)};
            block->run(grid, kernel);
        }
    }
}

}  // namespace emulated
