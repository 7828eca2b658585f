// The small steps between the products: embedding rows, residual sum with RMSNorm, and, in one pass over q, k and v, the
// norm of each head, the partial rotation, and the write into the pages.
#pragma once
#include "weir.cuh"

namespace weir {

// table[vocab, hidden] → x[rows, hidden]. grid (rows), block 256.
template <class Element> __device__ inline void embed(const Element* table, const int* tokens, int hidden, float* x) {
    const long long from = (long long)tokens[blockIdx.x] * hidden, to = (long long)blockIdx.x * hidden;
    for (int i = threadIdx.x; i < hidden; i += blockDim.x) x[to + i] = load(table + from + i);
}

// One warp for each head of each token. Queries and keys are normed over the head and their first 2 * half elements
// turned by the position's angles (element i with i + half); values pass. Queries go to q[rows, heads, d], keys and
// values into the token's place in its page: page[layers, kv_heads, keys or values, 32 positions, d].
// grid (rows, heads / 8), block 256, shared 8 * d floats.
template <class Kv>
__device__ inline void place_qkv(const float* qkv, const float* query_norm, const float* key_norm, float eps,
                                 const float* cos, const float* sin, int half, const int* page_of, const int* place_of,
                                 int heads, int kv_heads, int d, int layer, int layers, float* q, Kv* pages) {
    WEIR_SHARED(shared4);
    const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const int row = blockIdx.x, head = (int)blockIdx.y * WARPS + warp;
    if (head >= heads + 2 * kv_heads) return;  // the whole warp; no barrier of the block follows
    const float* from = qkv + ((long long)row * (heads + 2 * kv_heads) + head) * d;
    const bool is_value = head >= heads + kv_heads;
    if (is_value || head >= heads) {
        const int kv_head = head - heads - (is_value ? kv_heads : 0);
        const long long block = ((long long)page_of[row] * layers + layer) * kv_heads + kv_head;
        pages += ((block * 2 + (is_value ? 1 : 0)) * LANES + place_of[row]) * d;
    }
    if (is_value) {
        for (int i = lane; i < d; i += LANES) store(pages + i, from[i]);
        return;
    }
    float* normed = reinterpret_cast<float*>(shared4) + warp * d;
    float squares = 0.0f;
    for (int i = lane; i < d; i += LANES) squares = fmaf(from[i], from[i], squares);
    const float factor = 1.0f / sqrtf(warp_sum(squares) / (float)d + eps);
    const float* weight = head < heads ? query_norm : key_norm;
    for (int i = lane; i < d; i += LANES) normed[i] = weight[i] * (from[i] * factor);
    __syncwarp();
    cos += (long long)row * half;
    sin += (long long)row * half;
    for (int i = lane; i < d; i += LANES) {
        float value = normed[i];
        if (i < half) value = normed[i] * cos[i] - normed[i + half] * sin[i];
        else if (i < 2 * half) value = normed[i] * cos[i - half] + normed[i - half] * sin[i - half];
        if (head < heads) q[((long long)row * heads + head) * d + i] = value;
        else store(pages + i, value);
    }
}

}  // namespace weir

extern "C" __global__ void __launch_bounds__(256) embed_f32(const float* table, const int* tokens, int hidden, float* x) {
    weir::embed(table, tokens, hidden, x);
}

extern "C" __global__ void __launch_bounds__(256) embed_bf16(const unsigned short* table, const int* tokens, int hidden,
                                                             float* x) {
    weir::embed(table, tokens, hidden, x);
}

// x[rows, d] += delta (unless null), then normed = weight · x / sqrt(mean(x²) + eps). grid (rows), block 256, shared
// 256 floats.
extern "C" __global__ void __launch_bounds__(256) add_rms_norm(float* x, const float* delta, const float* weight,
                                                               float eps, int d, float* normed) {
    WEIR_SHARED(shared4);
    float* squares_of = reinterpret_cast<float*>(shared4);
    const long long row = (long long)blockIdx.x * d;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < d; i += 256) {
        float value = x[row + i];
        if (delta) x[row + i] = value = value + delta[row + i];
        squares = fmaf(value, value, squares);
    }
    squares_of[threadIdx.x] = squares;
    __syncthreads();
    for (int step = 128; step > 0; step /= 2) {
        if ((int)threadIdx.x < step) squares_of[threadIdx.x] += squares_of[threadIdx.x + step];
        __syncthreads();
    }
    const float factor = 1.0f / sqrtf(squares_of[0] / (float)d + eps);
    for (int i = threadIdx.x; i < d; i += 256) normed[row + i] = weight[i] * (x[row + i] * factor);
}

extern "C" __global__ void __launch_bounds__(256)
    place_qkv_f32(const float* qkv, const float* query_norm, const float* key_norm, float eps, const float* cos,
                  const float* sin, int half, const int* page_of, const int* place_of, int heads, int kv_heads, int d,
                  int layer, int layers, float* q, float* pages) {
    weir::place_qkv(qkv, query_norm, key_norm, eps, cos, sin, half, page_of, place_of, heads, kv_heads, d, layer, layers,
                    q, pages);
}

extern "C" __global__ void __launch_bounds__(256)
    place_qkv_bf16(const float* qkv, const float* query_norm, const float* key_norm, float eps, const float* cos,
                   const float* sin, int half, const int* page_of, const int* place_of, int heads, int kv_heads, int d,
                   int layer, int layers, float* q, unsigned short* pages) {
    weir::place_qkv(qkv, query_norm, key_norm, eps, cos, sin, half, page_of, place_of, heads, kv_heads, d, layer, layers,
                    q, pages);
}
