// Emulates CUDA in C++, so that kernels.cu runs on a CPU: one block after the other, with a fiber for each
// thread, which runs until it reaches a barrier. Slow but strict: a kernel that lacks a barrier gives another
// result when the fibers run in another order, and a barrier that not all threads reach is an error.

#pragma once
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static thread_local
#define SHARED_FLOATS(name) float *name = emulated::block.shared.data()
#define ENTRY(name) \
    extern "C" void name##_entry(void **arguments) { emulated::call(name, arguments); }

struct bf16 {
    uint16_t bits;
};
struct f16 {
    _Float16 value;
};
inline float wide(bf16 value) {
    const uint32_t bits = (uint32_t)value.bits << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
inline float wide(f16 value) { return (float)value.value; }
// Rounds to nearest, ties to even.
inline void narrow(float value, bf16 &to) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (value != value) to.bits = 0x7fff;
    else to.bits = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline void narrow(float value, f16 &to) { to.value = (_Float16)value; }

namespace emulated {
struct Index {
    unsigned x, y, z;
};
enum class At { Ready, Warp, Block, End };

struct Fiber {
    ucontext_t context;
    jmp_buf jump;
    std::vector<char> stack;
    bool begun = false;
    At at = At::Ready;
    // The value that the lane shares with its warp.
    uint32_t shown;
};

struct Block {
    void (*entry)(void **);
    void **arguments;
    std::vector<Fiber> fibers;
    std::vector<float> shared;
    jmp_buf scheduler;
    unsigned current;
};

inline thread_local Block block;
inline thread_local Index thread_index, block_index, block_size;

// Suspends the fiber until the others have reached the same barrier.
inline void wait(At at) {
    Fiber &fiber = block.fibers[block.current];
    fiber.at = at;
    if (!_setjmp(fiber.jump)) _longjmp(block.scheduler, 1);
}

inline void body() {
    block.entry(block.arguments);
    block.fibers[block.current].at = At::End;
    _longjmp(block.scheduler, 1);
}

inline void resume(unsigned index) {
    Fiber &fiber = block.fibers[index];
    block.current = index;
    thread_index = {index, 0, 0};
    if (_setjmp(block.scheduler)) return;
    if (fiber.begun) _longjmp(fiber.jump, 1);
    fiber.begun = true;
    getcontext(&fiber.context);
    fiber.stack.resize(1 << 16);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, body, 0);
    setcontext(&fiber.context);
}

// Resumes the fibers from `first` to `last` if all of them wait for the same barrier. Returns whether they do.
inline bool release(unsigned first, unsigned last, At at) {
    for (unsigned i = first; i < last; ++i)
        if (block.fibers[i].at != at) return false;
    for (unsigned i = first; i < last; ++i) block.fibers[i].at = At::Ready;
    return true;
}

// Runs one block. Returns false if its threads are deadlocked.
inline bool run_block(unsigned threads, bool backwards) {
    for (Fiber &fiber : block.fibers) fiber.begun = false, fiber.at = At::Ready;
    for (;;) {
        bool moved = false, ended = true;
        for (unsigned turn = 0; turn < threads; ++turn) {
            const unsigned index = backwards ? threads - 1 - turn : turn;
            if (block.fibers[index].at == At::Ready) resume(index), moved = true;
        }
        for (unsigned first = 0; first < threads; first += 32) moved |= release(first, first + 32, At::Warp);
        moved |= release(0, threads, At::Block);
        for (Fiber &fiber : block.fibers) ended &= fiber.at == At::End;
        if (ended) return true;
        if (!moved) return false;
    }
}

template <class T> T exchange(T value, unsigned lane) {
    static_assert(sizeof(T) == 4, "lanes exchange words");
    const unsigned own = thread_index.x;
    memcpy(&block.fibers[own].shown, &value, 4);
    wait(At::Warp);
    T other;
    memcpy(&other, &block.fibers[own / 32 * 32 + lane].shown, 4);
    wait(At::Warp);
    return other;
}

template <class... A, size_t... I>
void call_with(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*(A *)arguments[I]...);
}
template <class... A> void call(void (*kernel)(A...), void **arguments) {
    call_with(kernel, arguments, std::index_sequence_for<A...>());
}
}  // namespace emulated

#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size

inline void __syncthreads() { emulated::wait(emulated::At::Block); }
inline void __syncwarp() { emulated::wait(emulated::At::Warp); }
template <class T> T __shfl_xor_sync(unsigned, T value, int step) {
    return emulated::exchange(value, (threadIdx.x % 32) ^ (unsigned)step);
}

// Runs a grid of `width` by `height` blocks. Returns 0, or 1 if a block is deadlocked.
extern "C" int emulated_launch(void (*entry)(void **), unsigned width, unsigned height, unsigned threads,
                               unsigned shared_bytes, void **arguments, int backwards) {
    using namespace emulated;
    block.entry = entry;
    block.arguments = arguments;
    block.fibers.resize(threads);
    block_size = {threads, 1, 1};
    for (unsigned y = 0; y < height; ++y)
        for (unsigned x = 0; x < width; ++x) {
            block_index = {x, y, 0};
            // A block must not depend on values of an earlier one.
            block.shared.assign(shared_bytes / 4, NAN);
            if (!run_block(threads, backwards)) return 1;
        }
    return 0;
}
