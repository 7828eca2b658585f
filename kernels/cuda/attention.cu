// Attention of a few rows over a long paged prefix, by online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867).
// A row is one head of one token; rows that share a key/value head share each page that is read. The prefix is cut every
// 8 pages, counted from position 0, so that one short block keeps the machine busy and the sums of a row come out the
// same whoever is beside it; `attention_merge` joins the cuts.
#pragma once
#include "weir.cuh"

namespace weir {

constexpr int CUT = 8 * LANES;      // positions of a cut
constexpr int ROWS_PER_WARP = 4;
constexpr int ATTENTION_WARPS = 4;
constexpr int TILE = ROWS_PER_WARP * ATTENTION_WARPS;
constexpr int DIMS = 8;             // elements of a head that a lane sums: heads of up to 256

// q[rows, heads, d] → partial[rows * heads, cuts, d + 2]: Σ e^(score - largest) · value, then largest, then Σ e^(…).
// `tiles` say {first token, tokens, first row, table}: 16 rows of one request, counted token by token, head by head of
// the group; its pages are tables[table..]. Token t sees the first visible[t] positions, at least one.
// grid (tiles, kv_heads, cuts), block 128, shared 32 * (d + 1) + 16 * d + 16 * 32 floats.
template <class Kv>
__device__ inline void attention(const float* q, const Kv* pages, const int* tables, const int4* tiles, const int* visible,
                                 int heads, int kv_heads, int d, int layer, int layers, int cuts, float* partial) {
    WEIR_SHARED(shared4);
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int4 tile = tiles[blockIdx.x];
    const int kv_head = blockIdx.y, cut = blockIdx.z;
    const int group = heads / kv_heads, rows = tile.y * group;
    float* queries = reinterpret_cast<float*>(shared4);  // [16, d]
    float* weights = queries + TILE * d;                 // [16, 32]
    float* page = weights + TILE * LANES;                // keys [32, d + 1], then values [32, d]
    int furthest = 0;
    for (int r = 0; r < TILE && tile.z + r < rows; r++) furthest = max(furthest, visible[tile.x + (tile.z + r) / group]);
    const int begin = cut * CUT, end = min(furthest, begin + CUT);
    if (cut > 0 && begin >= furthest) {
        // Nobody looks here: say so, and the merge passes it over.
        for (int r = threadIdx.x; r < TILE && tile.z + r < rows; r += blockDim.x) {
            const int row = tile.z + r;
            const long long out = ((long long)(tile.x + row / group) * heads + kv_head * group + row % group) * cuts + cut;
            partial[out * (d + 2) + d] = -INFINITY;
            partial[out * (d + 2) + d + 1] = 0.0f;
        }
        return;  // the whole block
    }
    const float scale = 1.0f / sqrtf((float)d);
    int seen[ROWS_PER_WARP];
    long long place[ROWS_PER_WARP];  // of the row in q, in heads
    float largest[ROWS_PER_WARP], total[ROWS_PER_WARP], sum[ROWS_PER_WARP][DIMS];
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
        const int row = tile.z + warp * ROWS_PER_WARP + r;
        const int token = tile.x + row / group;
        seen[r] = row < rows ? visible[token] : 0;
        place[r] = (long long)token * heads + kv_head * group + row % group;
        largest[r] = -INFINITY;
        total[r] = 0.0f;
#pragma unroll
        for (int j = 0; j < DIMS; j++) sum[r][j] = 0.0f;
        for (int i = lane; i < d; i += LANES)
            queries[(warp * ROWS_PER_WARP + r) * d + i] = row < rows ? q[place[r] * d + i] : 0.0f;
    }
    for (int start = begin; start < end; start += LANES) {
        const long long block = ((long long)tables[tile.w + start / LANES] * layers + layer) * kv_heads + kv_head;
        const Kv* keys = pages + block * 2 * LANES * d;
        const Kv* values = keys + LANES * d;
        __syncthreads();  // the values of the page before are read
        for (int i = threadIdx.x; i < LANES * d; i += blockDim.x) {
            const int position = i / d;
            page[position * (d + 1) + i % d] = start + position < end ? load(keys + i) : 0.0f;
        }
        __syncthreads();
        float score[ROWS_PER_WARP];
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; r++) score[r] = 0.0f;
        for (int i = 0; i < d; i++) {
            const float key = page[lane * (d + 1) + i];
#pragma unroll
            for (int r = 0; r < ROWS_PER_WARP; r++)
                score[r] = fmaf(queries[(warp * ROWS_PER_WARP + r) * d + i], key, score[r]);
        }
        float keep[ROWS_PER_WARP];
#pragma unroll
        for (int r = 0; r < ROWS_PER_WARP; r++) {
            const bool sees = start + lane < seen[r];
            const float most = fmaxf(largest[r], warp_max(sees ? score[r] * scale : -INFINITY));
            // Nothing seen yet: there is nothing to keep and nothing to weigh.
            keep[r] = most == -INFINITY ? 1.0f : expf(largest[r] - most);
            const float weight = sees ? expf(score[r] * scale - most) : 0.0f;
            total[r] = total[r] * keep[r] + warp_sum(weight);
            largest[r] = most;
            weights[(warp * ROWS_PER_WARP + r) * LANES + lane] = weight;
        }
        __syncthreads();  // the keys are read, the weights are written
        for (int i = threadIdx.x; i < LANES * d; i += blockDim.x)
            page[i] = start + i / d < end ? load(values + i) : 0.0f;
        __syncthreads();
#pragma unroll
        for (int j = 0; j < DIMS; j++) {
            const int i = j * LANES + lane;
            if (i < d) {
#pragma unroll
                for (int r = 0; r < ROWS_PER_WARP; r++) {
                    float s = sum[r][j] * keep[r];
                    for (int position = 0; position < LANES; position++)
                        s = fmaf(weights[(warp * ROWS_PER_WARP + r) * LANES + position], page[position * d + i], s);
                    sum[r][j] = s;
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
        if (tile.z + warp * ROWS_PER_WARP + r < rows) {
            float* out = partial + (place[r] * cuts + cut) * (d + 2);
#pragma unroll
            for (int j = 0; j < DIMS; j++)
                if (j * LANES + lane < d) out[j * LANES + lane] = sum[r][j];
            if (lane == 0) {
                out[d] = largest[r];
                out[d + 1] = total[r];
            }
        }
    }
}

}  // namespace weir

extern "C" __global__ void __launch_bounds__(128)
    attention_f32(const float* q, const float* pages, const int* tables, const int4* tiles, const int* visible, int heads,
                  int kv_heads, int d, int layer, int layers, int cuts, float* partial) {
    weir::attention(q, pages, tables, tiles, visible, heads, kv_heads, d, layer, layers, cuts, partial);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_bf16(const float* q, const unsigned short* pages, const int* tables, const int4* tiles, const int* visible,
                   int heads, int kv_heads, int d, int layer, int layers, int cuts, float* partial) {
    weir::attention(q, pages, tables, tiles, visible, heads, kv_heads, d, layer, layers, cuts, partial);
}

// partial[rows * heads, cuts, d + 2] → out[rows * heads, d]. grid (rows * heads), block 128.
extern "C" __global__ void __launch_bounds__(128) attention_merge(const float* partial, int cuts, int d, float* out) {
    const long long row = blockIdx.x;
    partial += row * cuts * (d + 2);
    float most = -INFINITY, total = 0.0f;
    for (int cut = 0; cut < cuts; cut++) most = fmaxf(most, partial[cut * (d + 2) + d]);
    for (int cut = 0; cut < cuts; cut++) {
        const float* own = partial + cut * (d + 2);
        if (own[d] != -INFINITY) total += own[d + 1] * expf(own[d] - most);
    }
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = 0.0f;
        for (int cut = 0; cut < cuts; cut++) {
            const float* own = partial + cut * (d + 2);
            if (own[d] != -INFINITY) sum += own[i] * expf(own[d] - most);
        }
        out[row * d + i] = sum / total;
    }
}
