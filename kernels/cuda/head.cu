// The confidence head: the likeliest token of each row and its probability, without ever writing logits. Each warp makes
// 32 logits of up to TOKENS rows and keeps their largest and Σ e^(logit - largest); `head_merge` joins those.
#pragma once
#include "weir.cuh"

namespace weir {

// x[rows, k], w[vocab, k] → largest, sum, index of each panel, [rows, panels]. grid (panels / 8, 1, tiles of TOKENS
// rows), block 256, shared WARPS * TOKENS * 32 floats. The `banned` tokens cannot win and have no probability.
template <class Format, int TOKENS>
__device__ inline void head(const unsigned char* bytes, const unsigned short* scales, const float* x, int rows, int vocab,
                            int k, const int* banned, int banned_count, float* largest, float* sums, int* index) {
    WEIR_SHARED(shared4);
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int panels = (vocab + LANES - 1) / LANES, blocks = (k + LANES - 1) / LANES;
    const int panel = (int)blockIdx.x * WARPS + warp;
    const int first = (int)blockIdx.z * TOKENS;
    if (panel >= panels) return;  // the whole warp; no barrier of the block follows
    const int count = min(TOKENS, rows - first);
    const Panel<Format> weights(bytes, scales, panel, blocks, lane);
    float* tile = reinterpret_cast<float*>(shared4) + warp * TOKENS * LANES;
    float sum[TOKENS];
#pragma unroll
    for (int t = 0; t < TOKENS; t++) sum[t] = 0.0f;
    for (int block = 0; block < blocks; block++) {
        __syncwarp();
        const int at = block * LANES + lane;
        for (int t = 0; t < count; t++) tile[t * LANES + lane] = at < k ? x[(long long)(first + t) * k + at] : 0.0f;
        __syncwarp();
        float w[LANES];
        weights.weights(block, w);
        multiply(w, tile, count, sum);
    }
    const int token = panel * LANES + lane;
    bool possible = token < vocab;
    for (int i = 0; i < banned_count; i++) possible = possible && banned[i] != token;
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        if (t < count) {
            const float logit = possible ? sum[t] : -INFINITY;
            const float most = warp_max(logit);
            // A NaN, or an infinite logit, makes the sum NaN, and that is how the merge finds out.
            const float total = warp_sum(logit == -INFINITY ? 0.0f : expf(logit - most));
            int winner = logit == most ? token : 0x7fffffff;
#pragma unroll
            for (int step = LANES / 2; step > 0; step /= 2) winner = min(winner, __shfl_xor_sync(ALL, winner, step));
            if (lane == 0) {
                const long long place = (long long)(first + t) * panels + panel;
                largest[place] = most;
                sums[place] = total;
                index[place] = winner;
            }
        }
    }
}

}  // namespace weir

// [rows, panels] → token[rows], probability[rows]. The lowest of equals wins; token -1 where there is none: a NaN, or a
// largest logit that is not finite. grid (rows), block 256, shared 3 * 256 words.
extern "C" __global__ void __launch_bounds__(256) head_merge(const float* largest, const float* sums, const int* index,
                                                             int panels, int* token, float* probability) {
    WEIR_SHARED(shared4);
    float* most_of = reinterpret_cast<float*>(shared4);
    float* sum_of = most_of + 256;
    int* winner_of = reinterpret_cast<int*>(sum_of + 256);
    const long long row = (long long)blockIdx.x * panels;
    const int thread = threadIdx.x;
    float most = -INFINITY;
    int winner = 0x7fffffff;
    for (int panel = thread; panel < panels; panel += 256) {
        const float other = largest[row + panel];
        if (other > most) {  // equals keep the lower panel
            most = other;
            winner = index[row + panel];
        }
    }
    most_of[thread] = most;
    winner_of[thread] = winner;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (thread < step) {
            const float other = most_of[thread + step];
            const int candidate = winner_of[thread + step];
            if (other > most_of[thread] || (other == most_of[thread] && candidate < winner_of[thread])) {
                most_of[thread] = other;
                winner_of[thread] = candidate;
            }
        }
        __syncthreads();
    }
    most = most_of[0];
    float sum = 0.0f;
    for (int panel = thread; panel < panels; panel += 256) {
        const float other = largest[row + panel];
        sum += other == -INFINITY ? sums[row + panel] : sums[row + panel] * expf(other - most);
    }
    sum_of[thread] = sum;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if (thread < step) sum_of[thread] += sum_of[thread + step];
        __syncthreads();
    }
    if (thread == 0) {
        const bool is_number = fabsf(most) < INFINITY && sum_of[0] < INFINITY;  // false for a NaN
        token[blockIdx.x] = is_number ? winner_of[0] : -1;
        probability[blockIdx.x] = is_number ? 1.0f / sum_of[0] : 0.0f;
    }
}

#define WEIR_HEAD(NAME, FORMAT, TOKENS)                                                                                \
    extern "C" __global__ void __launch_bounds__(256) head_##NAME(                                                     \
        const unsigned char* bytes, const unsigned short* scales, const float* x, int rows, int vocab, int k,          \
        const int* banned, int banned_count, float* largest, float* sums, int* index) {                                \
        weir::head<weir::FORMAT, TOKENS>(bytes, scales, x, rows, vocab, k, banned, banned_count, largest, sums,        \
                                         index);                                                                       \
    }

WEIR_HEAD(f32_8, F32, 8)
WEIR_HEAD(f32_32, F32, 32)
WEIR_HEAD(bf16_8, Bf16, 8)
WEIR_HEAD(bf16_32, Bf16, 32)
WEIR_HEAD(q8_8, Q8, 8)
WEIR_HEAD(q8_32, Q8, 32)
WEIR_HEAD(q4_8, Q4, 8)
WEIR_HEAD(q4_32, Q4, 32)
