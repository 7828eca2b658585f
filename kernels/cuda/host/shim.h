// What the kernels use of CUDA, as C++ for the host. Each thread of a block is a coroutine; a barrier hands over to the
// next one. Stricter than a GPU on purpose: threads that wait at different barriers, or leave while others wait, end the
// launch with an error. Must never define anything that a GPU would do otherwise.
#pragma once
#define WEIR_HOST 1

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __launch_bounds__(threads)

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct Index { unsigned x, y, z; };

extern Index threadIdx, blockIdx, blockDim, gridDim;
extern float4 shim_shared[];
#define WEIR_SHARED(NAME) float4* NAME = shim_shared

// Waits for the block, or for the warp; `line` tells barriers apart.
void shim_block_barrier(int line);
void shim_warp_barrier(int line);
// This lane's word to the others of its warp, and the word of the lane `lane ^ mask`.
unsigned shim_shuffle_xor(unsigned word, int mask, int line);

#define __syncthreads() shim_block_barrier(__LINE__)
#define __syncwarp() shim_warp_barrier(__LINE__)
#define __shfl_xor_sync(all, value, mask) shim_shuffle_value(value, mask, __LINE__)

template <class Word> inline Word shim_shuffle_value(Word value, int mask, int line) {
    static_assert(sizeof(Word) == sizeof(unsigned), "a GPU's shuffle moves words");
    unsigned word;
    std::memcpy(&word, &value, sizeof word);
    word = shim_shuffle_xor(word, mask, line);
    std::memcpy(&value, &word, sizeof word);
    return value;
}

template <class To, class From> inline To shim_bits(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "");
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned bits) { return shim_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return shim_bits<unsigned>(value); }
inline int __float_as_int(float value) { return shim_bits<int>(value); }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
