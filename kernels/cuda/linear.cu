// Products with packed weights, one expert's tokens at a time: y = x · wᵀ, or silu(x · gateᵀ) * (x · upᵀ) in one pass.
// A block makes one panel of 32 outputs for up to TOKENS rows; its 8 warps share out the inputs, so that even a narrow
// matrix keeps the machine busy, and each weight is read once for all those rows. Dense layers are one group.
#pragma once
#include "weir.cuh"

namespace weir {

// Which rows of x meet which matrix.
struct Groups {
    const int* offsets;  // [groups + 1] into the slots; null: one group of `rows` slots
    const int* row_of;   // [slots] the row of x; null: slot s is row s
    int rows;
};

// x[rows, k] → y[slots, n]. grid (panels, groups, tiles of TOKENS slots), block 256,
// shared WARPS * TOKENS * 32 floats.
template <class Format, int TOKENS, bool GATED>
__device__ inline void linear(const unsigned char* bytes, const unsigned short* scales, const unsigned char* up_bytes,
                              const unsigned short* up_scales, const float* x, Groups groups, int n, int k, float* y) {
    WEIR_SHARED(shared4);
    float* shared = reinterpret_cast<float*>(shared4);
    const int group = blockIdx.y;
    const int end = groups.offsets ? groups.offsets[group + 1] : groups.rows;
    const int first = (groups.offsets ? groups.offsets[group] : 0) + (int)blockIdx.z * TOKENS;
    if (first >= end) return;  // the whole block
    const int count = min(TOKENS, end - first);
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int blocks = (k + LANES - 1) / LANES;
    const long long panel = (long long)group * gridDim.x + blockIdx.x;
    const Panel<Format> weights(bytes, scales, panel, blocks, lane);
    const Panel<Format> up_weights(GATED ? up_bytes : bytes, GATED ? up_scales : scales, panel, blocks, lane);
    float* tile = shared + warp * TOKENS * LANES;  // this warp's inputs, later its sums
    float sum[TOKENS], up_sum[GATED ? TOKENS : 1];
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        sum[t] = 0.0f;
        if (GATED) up_sum[t] = 0.0f;
    }
    for (int block = warp; block < blocks; block += WARPS) {
        __syncwarp();  // all lanes are done with the block before
        const int at = block * LANES + lane;
        for (int t = 0; t < count; t++) {
            const int row = groups.row_of ? groups.row_of[first + t] : first + t;
            tile[t * LANES + lane] = at < k ? x[(long long)row * k + at] : 0.0f;
        }
        __syncwarp();
        float w[LANES];
        weights.weights(block, w);
        multiply(w, tile, count, sum);
        if (GATED) {
            up_weights.weights(block, w);
            multiply(w, tile, count, reinterpret_cast<float(&)[TOKENS]>(up_sum));
        }
    }
    // Adds up the warps, in their order: first the gate, then, in the same memory, the up half.
    constexpr int OWN = TOKENS * LANES / (WARPS * LANES);  // outputs of a thread
    float total[OWN] = {};
    for (int half = 0; half < (GATED ? 2 : 1); half++) {
        if (half) __syncthreads();  // the gate's sums are read
        __syncwarp();
#pragma unroll
        for (int t = 0; t < TOKENS; t++) {
            tile[t * LANES + lane] = half ? up_sum[GATED ? t : 0] : sum[t];
        }
        __syncthreads();
#pragma unroll
        for (int own = 0; own < OWN; own++) {
            const int place = own * WARPS * LANES + threadIdx.x;  // token * 32 + output
            float s = 0.0f;
            for (int w = 0; w < WARPS; w++) s += shared[w * TOKENS * LANES + place];
            total[own] = half ? silu(total[own]) * s : s;
        }
    }
#pragma unroll
    for (int own = 0; own < OWN; own++) {
        const int place = own * WARPS * LANES + threadIdx.x;
        const int t = place / LANES, output = (int)blockIdx.x * LANES + place % LANES;
        if (t < count && output < n) y[(long long)(first + t) * n + output] = total[own];
    }
}

}  // namespace weir

#define WEIR_LINEAR(NAME, FORMAT, TOKENS)                                                                              \
    extern "C" __global__ void __launch_bounds__(256) linear_##NAME(                                                   \
        const unsigned char* bytes, const unsigned short* scales, const float* x, const int* offsets,                  \
        const int* row_of, int rows, int n, int k, float* y) {                                                         \
        weir::linear<weir::FORMAT, TOKENS, false>(bytes, scales, bytes, scales, x,                                     \
                                                  weir::Groups{offsets, row_of, rows}, n, k, y);                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) gated_##NAME(                                                    \
        const unsigned char* bytes, const unsigned short* scales, const unsigned char* up_bytes,                       \
        const unsigned short* up_scales, const float* x, const int* offsets, const int* row_of, int rows, int n,       \
        int k, float* y) {                                                                                             \
        weir::linear<weir::FORMAT, TOKENS, true>(bytes, scales, up_bytes, up_scales, x,                                \
                                                 weir::Groups{offsets, row_of, rows}, n, k, y);                        \
    }

WEIR_LINEAR(f32_8, F32, 8)
WEIR_LINEAR(f32_32, F32, 32)
WEIR_LINEAR(bf16_8, Bf16, 8)
WEIR_LINEAR(bf16_32, Bf16, 32)
WEIR_LINEAR(q8_8, Q8, 8)
WEIR_LINEAR(q8_32, Q8, 32)
WEIR_LINEAR(q4_8, Q4, 8)
WEIR_LINEAR(q4_32, Q4, 32)
