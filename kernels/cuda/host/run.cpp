// Runs the kernels on the host, one block after the other, for tests: the same sources that become PTX, behind shim.h.
// Threads and blocks run in ascending or in descending order, as the caller says: a kernel that gives other bits the
// other way round lacks a barrier or lets blocks depend on each other. Shared memory is filled with NaN before each block
// and must be untouched behind its end after it.
#include "shim.h"

#include "../weir.cu"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <ucontext.h>
#include <utility>

// Kernels that are wrong on purpose: tests see that this file finds them out.
extern "C" void wrong_without_barrier(int* out) {
    WEIR_SHARED(shared4);
    int* shared = reinterpret_cast<int*>(shared4);
    shared[threadIdx.x] = (int)threadIdx.x;
    out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];  // the neighbour may not have written yet
}
extern "C" void wrong_diverging(int* out) {
    if (threadIdx.x < 7) __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" void wrong_shared_size(int* out) {
    WEIR_SHARED(shared4);
    reinterpret_cast<int*>(shared4)[threadIdx.x + 1] = 1;
    out[threadIdx.x] = 1;
}

namespace {

constexpr int THREADS = 256;               // of a block, at most
constexpr std::size_t STACK = 64 << 10;
constexpr std::size_t SHARED = 160 << 10;  // bytes a block may have at most on sm_80
constexpr std::size_t GUARD = 256;
constexpr int LANES = 32;

enum State { RUNS, WAITS_FOR_BLOCK, WAITS_FOR_WARP, ENDED };

struct Thread {
    ucontext_t start;
    std::jmp_buf here;
    char* stack;
    bool begun;
    State state;
    int line;
};

Thread threads[THREADS];
ucontext_t caller_start;
std::jmp_buf caller;
int current;
unsigned words[THREADS];

void (*body)(void**);
void** arguments;
char message[256];

void wait(State state, int line) {
    threads[current].state = state;
    threads[current].line = line;
    if (!_setjmp(threads[current].here)) _longjmp(caller, 1);
}

// A coroutine lives as long as the program and runs one thread of one block after the other.
void live() {
    for (;;) {
        body(arguments);
        wait(ENDED, 0);
    }
}

void go_on(int thread) {
    current = thread;
    threadIdx = {(unsigned)thread, 0, 0};
    Thread& own = threads[thread];
    if (_setjmp(caller)) return;
    if (own.begun) _longjmp(own.here, 1);
    own.begun = true;
    if (!own.stack) own.stack = static_cast<char*>(std::malloc(STACK));
    getcontext(&own.start);
    own.start.uc_stack.ss_sp = own.stack;
    own.start.uc_stack.ss_size = STACK;
    own.start.uc_link = nullptr;
    makecontext(&own.start, live, 0);
    swapcontext(&caller_start, &own.start);
}

// Lets the threads from `first` on go when all of them wait at the same barrier; false when they can never meet.
bool release(int first, int count, State barrier, bool& moved) {
    int waiting = 0, gone = 0, line = 0;
    for (int t = first; t < first + count; t++) {
        gone += threads[t].state == ENDED;
        if (threads[t].state != barrier) continue;
        if (waiting > 0 && threads[t].line != line) gone++;  // it waits elsewhere
        line = threads[t].line;
        waiting++;
    }
    if (waiting == 0) return true;
    if (gone > 0) {
        std::snprintf(message, sizeof message, "threads %d to %d do not meet at one barrier, near line %d", first,
                      first + count - 1, line < 0 ? -line : line);
        return false;
    }
    if (waiting < count) return true;
    for (int t = first; t < first + count; t++) threads[t].state = RUNS;
    moved = true;
    return true;
}

// Runs a warp until it ends or waits for the others.
bool run_warp(int first, bool descending) {
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < LANES; i++) {
            const int t = first + (descending ? LANES - 1 - i : i);
            if (threads[t].state == RUNS) go_on(t);
        }
        if (!release(first, LANES, WAITS_FOR_WARP, moved)) return false;
    }
    return true;
}

// One warp after the other, each as far as it gets: the largest lead that warps can have over each other on a GPU.
bool run_block(int count, bool descending) {
    for (int t = 0; t < count; t++) threads[t].state = RUNS;
    for (bool moved = true; moved;) {
        moved = false;
        for (int first = 0; first < count; first += LANES)
            if (!run_warp(descending ? count - LANES - first : first, descending)) return false;
        if (!release(0, count, WAITS_FOR_BLOCK, moved)) return false;
    }
    for (int t = 0; t < count; t++) {
        if (threads[t].state == ENDED) continue;
        std::snprintf(message, sizeof message, "the threads wait for each other");
        return false;
    }
    return true;
}

template <class... Parameters, std::size_t... I>
void unpack(void (*kernel)(Parameters...), void** from, std::index_sequence<I...>) {
    kernel(*static_cast<Parameters*>(from[I])...);
}

template <class... Parameters> void spread(void (*kernel)(Parameters...), void** from) {
    unpack(kernel, from, std::index_sequence_for<Parameters...>());
}

template <auto KERNEL> void call(void** from) { spread(KERNEL, from); }

template <class... Parameters> constexpr int arity(void (*)(Parameters...)) { return sizeof...(Parameters); }

struct Entry {
    const char* name;
    void (*run)(void**);
    int parameters;
};

#define KERNEL(NAME) Entry{#NAME, call<NAME>, arity(NAME)}
#define FORMATS(NAME)                                                                                                  \
    KERNEL(NAME##_f32_8), KERNEL(NAME##_f32_32), KERNEL(NAME##_bf16_8), KERNEL(NAME##_bf16_32), KERNEL(NAME##_q8_8),   \
        KERNEL(NAME##_q8_32), KERNEL(NAME##_q4_8), KERNEL(NAME##_q4_32)

const Entry ENTRIES[] = {
    FORMATS(linear),       FORMATS(gated),        FORMATS(head),         KERNEL(head_merge),      KERNEL(embed_f32),
    KERNEL(embed_bf16),    KERNEL(add_rms_norm),  KERNEL(place_qkv_f32), KERNEL(place_qkv_bf16),  KERNEL(attention_f32),
    KERNEL(attention_bf16), KERNEL(attention_merge), KERNEL(admit),      KERNEL(route),           KERNEL(group_by_expert),
    KERNEL(combine),       KERNEL(wrong_without_barrier), KERNEL(wrong_diverging), KERNEL(wrong_shared_size),
};

std::mutex one_at_a_time;

}  // namespace

alignas(16) float4 shim_shared[(SHARED + GUARD) / sizeof(float4)];
Index threadIdx, blockIdx, blockDim, gridDim;

void shim_block_barrier(int line) { wait(WAITS_FOR_BLOCK, line); }
void shim_warp_barrier(int line) { wait(WAITS_FOR_WARP, line); }

unsigned shim_shuffle_xor(unsigned word, int mask, int line) {
    const int own = current;
    words[own] = word;
    wait(WAITS_FOR_WARP, line);
    const unsigned other = words[own ^ mask];
    wait(WAITS_FOR_WARP, -line);  // nobody writes the next word before all have read this one
    return other;
}

// Runs a kernel; null when it did, else what went wrong, until the next call.
extern "C" const char* weir_host_launch(const char* name, const unsigned grid[3], unsigned block, std::size_t shared,
                                        void** parameters, int count, int descending) {
    std::lock_guard<std::mutex> lock(one_at_a_time);
    const Entry* found = nullptr;
    for (const Entry& entry : ENTRIES)
        if (std::strcmp(entry.name, name) == 0) found = &entry;
    if (!found) return "no kernel has this name";
    if (found->parameters != count) return "the kernel takes another number of parameters";
    if (block == 0 || block > THREADS || block % LANES != 0) return "a block is whole warps, at most 256 threads";
    if (shared > SHARED) return "more shared memory than a block has";
    body = found->run;
    arguments = parameters;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block, 1, 1};
    unsigned char* bytes = reinterpret_cast<unsigned char*>(shim_shared);
    const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
    for (unsigned long long i = 0; i < blocks; i++) {
        const unsigned long long at = descending ? blocks - 1 - i : i;
        blockIdx = {(unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]), (unsigned)(at / grid[0] / grid[1])};
        std::memset(bytes, 0xff, shared + GUARD);  // as floats, NaN
        if (!run_block((int)block, descending != 0)) {
            for (Thread& thread : threads) thread.begun = false;  // they stand in the middle of the kernel
            return message;
        }
        for (std::size_t guard = 0; guard < GUARD; guard++)
            if (bytes[shared + guard] != 0xff) return "the kernel writes behind its shared memory";
    }
    return nullptr;
}
