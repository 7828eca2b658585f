// Around the experts: who goes where, and what comes back. The choice is LLaDA2.0's grouped top-k over sigmoid scores, or
// LLaDA2.2's pool of experts for a whole block. Ranks are counted instead of sorted: entry i comes before entry j when
// it is larger, or equal and earlier, so every thread finds its own place and no two find the same.
#pragma once
#include "weir.cuh"

namespace weir {

// How many of `keys[count]` come before entry `at`.
__device__ inline int rank_of(const int* keys, int count, int at) {
    int rank = 0;
    for (int i = 0; i < count; i++) rank += keys[i] > keys[at] || (keys[i] == keys[at] && i < at);
    return rank;
}

}  // namespace weir

// The experts admitted for each block of tokens: the `capacity` with the largest biased score over the block's rows
// block_begin[b] .. block_begin[b + 1]. logits[rows, experts] → admitted[blocks, experts], 1 or 0. grid (blocks), block
// 256, shared `experts` ints.
extern "C" __global__ void __launch_bounds__(256) admit(const float* logits, const float* bias, const int* block_begin,
                                                        int experts, int capacity, unsigned char* admitted) {
    WEIR_SHARED(shared4);
    int* best = reinterpret_cast<int*>(shared4);
    for (int expert = threadIdx.x; expert < experts; expert += blockDim.x) {
        float most = -INFINITY;
        for (int row = block_begin[blockIdx.x]; row < block_begin[blockIdx.x + 1]; row++) {
            const float score = weir::sigmoid(logits[(long long)row * experts + expert]);
            most = fmaxf(most, bias ? score + bias[expert] : score);
        }
        best[expert] = weir::ordered(most);
    }
    __syncthreads();
    for (int expert = threadIdx.x; expert < experts; expert += blockDim.x)
        admitted[(long long)blockIdx.x * experts + expert] = weir::rank_of(best, experts, expert) < capacity;
}

// logits[rows, experts] → choice[rows, kept] ascending by expert (-1 where there are fewer), weight[rows, kept]. With
// `admitted`, choices are within row r's pool, admitted[block_of[r]], and groups do not count. A group's score is the sum
// of its two largest biased scores. grid (rows), block 256, shared 3 * experts + 2 * groups + 2 * kept words.
extern "C" __global__ void __launch_bounds__(256)
    route(const float* logits, const float* bias, const unsigned char* admitted, const int* block_of, int experts,
          int groups, int groups_kept, int kept, int normalize, float scale, int* choice, float* weight) {
    WEIR_SHARED(shared4);
    float* score = reinterpret_cast<float*>(shared4);            // [experts], what the weight is made of
    float* biased = score + experts;                             // [experts], what the choice goes by
    int* key = reinterpret_cast<int*>(biased + experts);         // [experts]
    int* group_key = key + experts;                              // [groups]
    int* group_in = group_key + groups;                          // [groups]
    int* chosen = group_in + groups;                             // [kept], best first
    float* chosen_score = reinterpret_cast<float*>(chosen + kept);
    const long long row = blockIdx.x;
    const int group_size = experts / groups;
    for (int i = threadIdx.x; i < kept; i += blockDim.x) {
        chosen[i] = -1;
        chosen_score[i] = 0.0f;
    }
    for (int expert = threadIdx.x; expert < experts; expert += blockDim.x) {
        score[expert] = weir::sigmoid(logits[row * experts + expert]);
        biased[expert] = bias ? score[expert] + bias[expert] : score[expert];
        key[expert] = weir::ordered(biased[expert]);
    }
    __syncthreads();
    for (int group = threadIdx.x; group < groups; group += blockDim.x) {
        int first = -1, second = -1;
        for (int expert = group * group_size; expert < (group + 1) * group_size; expert++) {
            if (first < 0 || key[expert] > key[first]) {
                second = first;
                first = expert;
            } else if (second < 0 || key[expert] > key[second]) {
                second = expert;
            }
        }
        group_key[group] = weir::ordered(second < 0 ? biased[first] : biased[first] + biased[second]);
    }
    __syncthreads();
    for (int group = threadIdx.x; group < groups; group += blockDim.x)
        group_in[group] = weir::rank_of(group_key, groups, group) < groups_kept;
    __syncthreads();
    const unsigned char* pool = admitted ? admitted + (long long)block_of[row] * experts : nullptr;
    for (int expert = threadIdx.x; expert < experts; expert += blockDim.x) {
        if (pool ? !pool[expert] : !group_in[expert / group_size]) continue;
        int rank = 0;  // among the candidates
        for (int other = 0; other < experts && rank < kept; other++) {
            const bool is_candidate = pool ? pool[other] : group_in[other / group_size];
            rank += is_candidate && (key[other] > key[expert] || (key[other] == key[expert] && other < expert));
        }
        if (rank < kept) {
            chosen[rank] = expert;
            chosen_score[rank] = score[expert];
        }
    }
    __syncthreads();
    float sum = 0.0f;  // every thread for itself, best first, as the CPU adds
    for (int i = 0; i < kept; i++) sum += chosen_score[i];
    const float divisor = normalize ? sum + 1e-20f : 1.0f;
    for (int i = threadIdx.x; i < kept; i += blockDim.x) {
        int place = 0;  // by expert; the empty ones come last
        for (int other = 0; other < kept; other++) {
            const unsigned own = (unsigned)chosen[i], its = (unsigned)chosen[other];  // -1 is the largest
            place += its < own || (its == own && other < i);
        }
        choice[row * kept + place] = chosen[i];
        weight[row * kept + place] = chosen_score[i] / divisor * scale;
    }
}

// Sorts the choices[rows * kept] by expert: offsets[experts + 1] into the slots, row_of[slots] the token of each, and
// slot_of[rows * kept] the way back (-1 where there was no choice). Tokens of an expert stay in order. One block of 256,
// shared experts + 1 + 1024 ints.
extern "C" __global__ void __launch_bounds__(256) group_by_expert(const int* choice, int rows, int kept, int experts,
                                                                  int* offsets, int* row_of, int* slot_of) {
    WEIR_SHARED(shared4);
    int* next = reinterpret_cast<int*>(shared4);  // [experts + 1]
    int* part = next + experts + 1;               // [1024] choices at a time
    const int choices = rows * kept;
    // First round: how many each expert gets. Second round: where each goes.
    for (int round = 0; round < 2; round++) {
        for (int expert = threadIdx.x; round == 0 && expert <= experts; expert += blockDim.x) next[expert] = 0;
        for (int start = 0; start < choices; start += 1024) {
            const int count = min(1024, choices - start);
            __syncthreads();
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                part[i] = choice[start + i];
                if (round == 1 && part[i] < 0) slot_of[start + i] = -1;
            }
            __syncthreads();
            for (int expert = threadIdx.x; expert < experts; expert += blockDim.x) {
                int slot = next[expert];
                for (int i = 0; i < count; i++) {
                    if (part[i] != expert) continue;
                    if (round == 1) {
                        row_of[slot] = (start + i) / kept;
                        slot_of[start + i] = slot;
                    }
                    slot++;
                }
                next[expert] = slot;
            }
        }
        __syncthreads();
        if (round == 0 && threadIdx.x == 0) {
            int slot = 0;
            for (int expert = 0; expert <= experts; expert++) {
                const int own = next[expert];
                next[expert] = offsets[expert] = slot;
                slot += own;
            }
        }
        __syncthreads();
    }
}

// out[rows, d] = Σ weight * y[slot], ascending by expert, then the shared expert's result (unless null). grid (rows),
// block 256.
extern "C" __global__ void __launch_bounds__(256) combine(const float* y, const int* slot_of, const float* weight,
                                                          const float* shared_result, int kept, int d, float* out) {
    const long long row = blockIdx.x;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0.0f;
        for (int j = 0; j < kept; j++) {
            const int slot = slot_of[row * kept + j];
            if (slot >= 0) sum = fmaf(y[(long long)slot * d + i], weight[row * kept + j], sum);
        }
        if (shared_result) sum += shared_result[row * d + i];
        out[row * d + i] = sum;
    }
}
