// Inference in packed rows: the tokens of all sentences one after the other, without padding. The rows of a
// sentence are `starts[sentence] .. starts[sentence + 1]`.
//
// Weights and operands of products have type T (float, bf16 or f16); sums, norms, softmax and the residual
// stream `x` are float. The result for a row does not depend on other rows: the order of every sum depends
// only on its own sentence.
//
// With `emulated.h` the file is also valid C++, which tests run on the CPU.

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
typedef __nv_bfloat16 bf16;
typedef __half f16;
__device__ inline float wide(bf16 value) { return __bfloat162float(value); }
__device__ inline float wide(f16 value) { return __half2float(value); }
__device__ inline void narrow(float value, bf16 &to) { to = __float2bfloat16(value); }
__device__ inline void narrow(float value, f16 &to) { to = __float2half(value); }
// Shared memory of the block, whose size is given at launch.
#define SHARED_FLOATS(name) extern __shared__ __align__(16) float name[]
#define ENTRY(name)
#else
#include "emulated.h"
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

__device__ inline float wide(float value) { return value; }
__device__ inline void narrow(float value, float &to) { to = value; }

#define EVERY_LANE 0xffffffffu
// Number of keys in shared memory during attention: one for each lane of a warp.
#define TILE 32

__device__ inline float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(EVERY_LANE, value, step);
    return value;
}

__device__ inline float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(EVERY_LANE, value, step));
    return value;
}

// Sum over all threads of a block. `scratch` has a value for each warp and may be reused immediately.
__device__ inline float block_sum(float value, float *scratch) {
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0;
    for (u32 warp = 0; warp < blockDim.x / 32; ++warp) total += scratch[warp];
    __syncthreads();
    return total;
}

// x[row] = scale · (table[id] + positions[place]). One block for each row.
template <class T>
__device__ inline void embed(const T *table, const float *positions, const u32 *ids, const u32 *places, float *x,
                             u32 width, float scale) {
    const u32 row = blockIdx.x;
    const T *token = table + (size_t)ids[row] * width;
    const float *place = positions + (size_t)places[row] * width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x)
        x[(size_t)row * width + i] = (wide(token[i]) + place[i]) * scale;
}

// Layer norm of row `rows[block]` of x, or of row `block` if `rows` is null. Writes y, and float `states` if not
// null. One block for each row of y.
template <class T>
__device__ inline void norm(const float *x, const u32 *rows, const float *gain, const float *bias, T *y,
                            float *states, u32 width, float eps) {
    __shared__ float scratch[32];
    const size_t to = (size_t)blockIdx.x * width;
    x += (size_t)(rows ? rows[blockIdx.x] : blockIdx.x) * width;
    float sum = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) sum += x[i];
    const float mean = block_sum(sum, scratch) / width;
    float squares = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrtf(block_sum(squares, scratch) / width + eps);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        const float value = (x[i] - mean) * scale * gain[i] + bias[i];
        narrow(value, y[to + i]);
        if (states) states[to + i] = value;
    }
}

// softmax(scale · Q · Kᵀ) · V for one sentence and one head: grid (sentences, heads), one warp for each query
// of a group. Key and value of position j of the sentence are at `key_at` and `value_at` of row j of
//  * keys[sentence], which has key_lengths[sentence] rows, or
//  * own_keys from the sentence's first row, if `keys` is null.
// Rows are `query_stride` and `key_stride` values apart. COLUMNS · 32 is at least the head's width.
// Keys are read in tiles, with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867).
template <class T, int COLUMNS>
__device__ inline void attention(const T *queries, u32 query_stride, const u32 *starts, const T *own_keys,
                                 const u64 *keys, const u32 *key_lengths, u32 key_stride, u32 key_at,
                                 u32 value_at, T *out, u32 out_stride, u32 head, float scale) {
    SHARED_FLOATS(shared);
    const u32 sentence = blockIdx.x, start = blockIdx.y * head;
    const u32 first = starts[sentence], count = starts[sentence + 1] - first;
    // Graphs are recorded for more sentences than most passes have.
    if (count == 0) return;
    const T *base = keys ? (const T *)keys[sentence] : own_keys + (size_t)first * key_stride;
    const u32 seen = keys ? key_lengths[sentence] : count;
    const u32 warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // A pitch of one more value than a head keeps the lanes of a warp in different banks.
    const u32 pitch = head + 1;
    float *key_tile = shared, *value_tile = key_tile + TILE * pitch;
    float *query = value_tile + TILE * pitch + warp * (head + TILE), *weights = query + head;
    for (u32 group = 0; group < count; group += warps) {
        const bool mine = group + warp < count;
        const size_t row = first + group + warp;
        if (mine)
            for (u32 c = lane; c < head; c += 32)
                query[c] = wide(queries[row * query_stride + start + c]) * scale;
        float top = -INFINITY, sum = 0, mixed[COLUMNS] = {};
        for (u32 from = 0; from < seen; from += TILE) {
            const u32 here = seen - from < TILE ? seen - from : TILE;
            // A single tile is loaded once for all queries.
            if (group == 0 || seen > TILE) {
                __syncthreads();
                for (u32 i = threadIdx.x; i < here * head; i += blockDim.x) {
                    const u32 j = i / head, c = i % head;
                    const T *at = base + (size_t)(from + j) * key_stride + start + c;
                    key_tile[j * pitch + c] = wide(at[key_at]);
                    value_tile[j * pitch + c] = wide(at[value_at]);
                }
                __syncthreads();
            }
            __syncwarp();
            if (!mine) continue;
            float score = -INFINITY;
            if (lane < here) {
                score = 0;
                for (u32 c = 0; c < head; ++c) score += query[c] * key_tile[lane * pitch + c];
            }
            const float higher = fmaxf(top, warp_max(score));
            const float weight = lane < here ? expf(score - higher) : 0.0f;
            const float kept = expf(top - higher);
            sum = sum * kept + warp_sum(weight);
            top = higher;
            weights[lane] = weight;
            __syncwarp();
            for (int column = 0; column < COLUMNS; ++column) {
                const u32 c = lane + 32 * column;
                if (c >= head) break;
                mixed[column] *= kept;
                for (u32 j = 0; j < here; ++j) mixed[column] += weights[j] * value_tile[j * pitch + c];
            }
            __syncwarp();
        }
        if (!mine) continue;
        for (int column = 0; column < COLUMNS; ++column) {
            const u32 c = lane + 32 * column;
            if (c < head) narrow(mixed[column] / sum, out[row * out_stride + start + c]);
        }
    }
}

// The `count` best of the tokens `from .. to`, best first, and their log-probabilities among these; ties go to the
// lower id. If there are fewer tokens, the rest are `from` with minus infinity. The log-probability of a row with
// a NaN is NaN. One block for each row.
__device__ inline void best_tokens(const float *logits, u32 stride, u32 from, u32 to, u32 count, u32 *tokens,
                                   float *log_probs) {
    __shared__ float tops[32], scratch[32];
    __shared__ u32 places[32];
    logits += (size_t)blockIdx.x * stride;
    tokens += (size_t)blockIdx.x * count, log_probs += (size_t)blockIdx.x * count;
    float best = 0, log_sum = 0, before = INFINITY;
    u32 place_before = to;
    for (u32 found = 0; found < count; ++found) {
        float top = -INFINITY;
        u32 place = to;
        for (u32 i = from + threadIdx.x; i < to; i += blockDim.x) {
            const bool left = found == 0 || logits[i] < before || (logits[i] == before && i > place_before);
            if (left && logits[i] > top) top = logits[i], place = i;
        }
        for (int step = 16; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(EVERY_LANE, top, step);
            const u32 there = __shfl_xor_sync(EVERY_LANE, place, step);
            if (other > top || (other == top && there < place)) top = other, place = there;
        }
        if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = top, places[threadIdx.x / 32] = place;
        __syncthreads();
        for (u32 warp = 0; warp < blockDim.x / 32; ++warp)
            if (tops[warp] > top || (tops[warp] == top && places[warp] < place))
                top = tops[warp], place = places[warp];
        if (found == 0) {
            float sum = 0;
            for (u32 i = from + threadIdx.x; i < to; i += blockDim.x) sum += expf(logits[i] - top);
            log_sum = logf(block_sum(sum, scratch));
            best = top;
        }
        if (threadIdx.x == 0) {
            tokens[found] = place < to ? place : from;
            log_probs[found] = top - best - log_sum;
        }
        before = top, place_before = place;
        __syncthreads();
    }
}

// Log-probabilities of the length classes from the mean of a sentence's states; weights are
// [classes, width]. One block for each sentence.
__device__ inline void length_classes(const float *states, const u32 *starts, const float *weights,
                                      const float *bias, float *log_probs, u32 width, u32 classes) {
    SHARED_FLOATS(shared);
    float *scratch = shared, *mean = shared + 32, *scores = mean + width;
    const u32 first = starts[blockIdx.x], count = starts[blockIdx.x + 1] - first;
    if (count == 0) return;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float sum = 0;
        for (u32 row = first; row < first + count; ++row) sum += states[(size_t)row * width + i];
        mean[i] = sum / count;
    }
    __syncthreads();
    for (u32 c = threadIdx.x / 32; c < classes; c += blockDim.x / 32) {
        float score = 0;
        for (u32 i = threadIdx.x % 32; i < width; i += 32) score += mean[i] * weights[(size_t)c * width + i];
        score = warp_sum(score) + bias[c];
        if (threadIdx.x % 32 == 0) scores[c] = score;
    }
    __syncthreads();
    float top = -INFINITY, sum = 0;
    for (u32 c = 0; c < classes; ++c) top = fmaxf(top, scores[c]);
    for (u32 c = threadIdx.x; c < classes; c += blockDim.x) sum += expf(scores[c] - top);
    const float log_sum = logf(block_sum(sum, scratch));
    for (u32 c = threadIdx.x; c < classes; c += blockDim.x)
        log_probs[(size_t)blockIdx.x * classes + c] = scores[c] - top - log_sum;
}

#include "training.cuh"

// Entry points, by the names that the host uses.

#define KERNEL(name, parameters, ...)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name parameters { __VA_ARGS__; }                         \
    ENTRY(name)

#define ATTENTION(T, suffix, COLUMNS)                                                                          \
    KERNEL(attention##COLUMNS##_##suffix,                                                                      \
           (const T *queries, u32 query_stride, const u32 *starts, const T *own_keys, const u64 *keys,         \
            const u32 *key_lengths, u32 key_stride, u32 key_at, u32 value_at, T *out, u32 out_stride,          \
            u32 head, float scale),                                                                            \
           (attention<T, COLUMNS>(queries, query_stride, starts, own_keys, keys, key_lengths, key_stride,      \
                                  key_at, value_at, out, out_stride, head, scale)))

#define OF_TYPE(T, suffix)                                                                                     \
    KERNEL(embed_##suffix,                                                                                     \
           (const T *table, const float *positions, const u32 *ids, const u32 *places, float *x, u32 width,    \
            float scale),                                                                                      \
           embed(table, positions, ids, places, x, width, scale))                                              \
    KERNEL(norm_##suffix,                                                                                      \
           (const float *x, const u32 *rows, const float *gain, const float *bias, T *y, float *states,        \
            u32 width, float eps),                                                                             \
           norm(x, rows, gain, bias, y, states, width, eps))                                                   \
    ATTENTION(T, suffix, 1)                                                                                    \
    ATTENTION(T, suffix, 2)                                                                                    \
    ATTENTION(T, suffix, 4)

OF_TYPE(float, f32)
OF_TYPE(bf16, bf16)
OF_TYPE(f16, f16)

KERNEL(best_tokens_f32,
       (const float *logits, u32 stride, u32 from, u32 to, u32 count, u32 *tokens, float *log_probs),
       best_tokens(logits, stride, from, to, count, tokens, log_probs))
KERNEL(length_classes_f32,
       (const float *states, const u32 *starts, const float *weights, const float *bias, float *log_probs,
        u32 width, u32 classes),
       length_classes(states, starts, weights, bias, log_probs, width, classes))
TRAINING_KERNELS
