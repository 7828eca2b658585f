// What all kernels share: how weights lie in memory, number formats, and the one inner product. Plain CUDA that is also
// C++ behind host/shim.h, so it uses no header of the toolkit, no tensor cores and no atomics. Must never depend on the
// order in which threads or blocks run: a row's bits are the same alone and in a batch, and on every run.
//
// Weights w[n, k] lie in panels of 32 outputs. A warp reads one panel, each lane one output; 32 inputs at a time, the
// "block" (k is filled up with zeros). A lane's 32 weights of a block are VECTORS pieces of 16 bytes:
//
//   bytes   [panel][block][vector][lane] of 16      so that a warp's loads are whole lines of memory
//   scales  [panel][block][lane] of f16             Q4 and Q8 only
#pragma once

#ifndef WEIR_HOST
#define WEIR_SHARED(NAME) extern __shared__ float4 NAME[]
#endif

namespace weir {

constexpr int LANES = 32;      // threads in a warp, outputs in a panel, inputs in a block, positions in a page
constexpr int WARPS = 8;       // of a block that multiplies
constexpr unsigned ALL = 0xffffffffu;

// An f16's value. The product scales a subnormal right, too; infinities do not occur in scales.
__device__ inline float f16_value(unsigned short bits) {
    const unsigned shifted = (bits & 0x7fffu) << 13;
    const float magnitude = __uint_as_float(shifted) * __uint_as_float(0x77800000u);  // * 2^112
    return bits & 0x8000u ? -magnitude : magnitude;
}

__device__ inline float bf16_value(unsigned bits) { return __uint_as_float(bits << 16); }

// To the nearest, ties to even; a NaN stays one.
__device__ inline unsigned short bf16_bits(float value) {
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)((bits >> 16) | 0x40u);
    return (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline float load(const float* at) { return *at; }
__device__ inline float load(const unsigned short* at) { return bf16_value(*at); }
__device__ inline void store(float* at, float value) { *at = value; }
__device__ inline void store(unsigned short* at, float value) { *at = bf16_bits(value); }

__device__ inline unsigned word(const uint4& vector, int i) {
    return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
}

// The four formats: a lane's 32 weights out of its vectors. Every value is exact in f32.
struct F32 {
    static constexpr int VECTORS = 8;
    static constexpr bool SCALED = false;
    __device__ static void unpack(const uint4 (&v)[VECTORS], float, float (&w)[LANES]) {
#pragma unroll
        for (int i = 0; i < LANES; i++) w[i] = __uint_as_float(word(v[i / 4], i % 4));
    }
};

struct Bf16 {
    static constexpr int VECTORS = 4;
    static constexpr bool SCALED = false;
    __device__ static void unpack(const uint4 (&v)[VECTORS], float, float (&w)[LANES]) {
#pragma unroll
        for (int i = 0; i < LANES; i++) w[i] = bf16_value((word(v[i / 8], i % 8 / 2) >> (i % 2 * 16)) & 0xffffu);
    }
};

// scale * q, q a signed byte.
struct Q8 {
    static constexpr int VECTORS = 2;
    static constexpr bool SCALED = true;
    __device__ static void unpack(const uint4 (&v)[VECTORS], float scale, float (&w)[LANES]) {
#pragma unroll
        for (int i = 0; i < LANES; i++) {
            const unsigned byte = (word(v[i / 16], i % 16 / 4) >> (i % 4 * 8)) & 0xffu;
            w[i] = scale * (float)(signed char)byte;
        }
    }
};

// scale * (q - 8); byte j of the 16 holds weight j in its low half and weight j + 16 in its high half.
struct Q4 {
    static constexpr int VECTORS = 1;
    static constexpr bool SCALED = true;
    __device__ static void unpack(const uint4 (&v)[VECTORS], float scale, float (&w)[LANES]) {
#pragma unroll
        for (int i = 0; i < LANES; i++) {
            const int byte = i % 16;
            const unsigned q = (word(v[0], byte / 4) >> (byte % 4 * 8 + i / 16 * 4)) & 0xfu;
            w[i] = scale * (float)((int)q - 8);
        }
    }
};

// One panel of weights and this lane's place in it.
template <class Format> struct Panel {
    const uint4* vectors;
    const unsigned short* scales;

    // `panel` counts through all matrices that lie one after the other; each panel has `blocks` blocks.
    __device__ Panel(const unsigned char* bytes, const unsigned short* all_scales, long long panel, int blocks, int lane) {
        vectors = reinterpret_cast<const uint4*>(bytes) + panel * blocks * Format::VECTORS * LANES + lane;
        scales = all_scales + (Format::SCALED ? panel * blocks * LANES + lane : 0);
    }

    __device__ void weights(int block, float (&w)[LANES]) const {
        uint4 v[Format::VECTORS];
#pragma unroll
        for (int i = 0; i < Format::VECTORS; i++) v[i] = vectors[((long long)block * Format::VECTORS + i) * LANES];
        const float scale = Format::SCALED ? f16_value(scales[(long long)block * LANES]) : 1.0f;
        Format::unpack(v, scale, w);
    }
};

// sum[t] += Σ_i w[i] * tile[t][i], i ascending: one chain for each token. `tile` is [count][32] in shared memory.
template <int TOKENS> __device__ inline void multiply(const float (&w)[LANES], const float* tile, int count, float (&sum)[TOKENS]) {
    const float4* rows = reinterpret_cast<const float4*>(tile);
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        if (t < count) {
            float s = sum[t];
#pragma unroll
            for (int i = 0; i < LANES / 4; i++) {
                const float4 a = rows[t * (LANES / 4) + i];
                s = fmaf(a.x, w[4 * i], s);
                s = fmaf(a.y, w[4 * i + 1], s);
                s = fmaf(a.z, w[4 * i + 2], s);
                s = fmaf(a.w, w[4 * i + 3], s);
            }
            sum[t] = s;
        }
    }
}

__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Larger float, larger int, whatever the float is: the total order of IEEE 754, as the CPU's choice of experts has it.
__device__ inline int ordered(float value) {
    const int bits = __float_as_int(value);
    return bits ^ (int)((unsigned)(bits >> 31) >> 1);
}

__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL, value, step);
    return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(ALL, value, step));
    return value;
}

}  // namespace weir
