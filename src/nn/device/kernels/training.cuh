// Training in padded rows, all in float: forward and backward pass of the operations between products, and the
// update of weights. Included by kernels.cu.
//
// The order of every sum depends only on shapes, so a run can be repeated bit for bit on one kind of GPU.

// Number of values for each thread of an element-wise kernel, a block's width apart.
#define SHARE 4
#define EACH(i, count)                                                                                         \
    for (u32 turn = 0, i = blockIdx.x * blockDim.x * SHARE + threadIdx.x; turn < SHARE && i < (count);         \
         ++turn, i += blockDim.x)
// Number of rows that a block of `column_sums` adds to one.
#define SUMMED_ROWS 128
// Number of values that a block of `squares` sums.
#define SQUARED 16384

// 0 or `scale` for the value at `index`: the hash of ops/residual.rs.
__device__ inline float kept(u32 index, u32 seed, u32 threshold, float scale) {
    u32 h = (index * 0x9e3779b1u) ^ seed;
    h = (h ^ (h >> 16)) * 0x7feb352du;
    h = (h ^ (h >> 15)) * 0x846ca68bu;
    h ^= h >> 16;
    return h < threshold ? 0.0f : scale;
}

__device__ inline float block_max(float value, float *scratch) {
    value = warp_max(value);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    float top = scratch[0];
    for (u32 warp = 1; warp < blockDim.x / 32; ++warp) top = fmaxf(top, scratch[warp]);
    __syncthreads();
    return top;
}

// Mean and 1 / standard deviation of a row.
__device__ inline void statistics(const float *x, u32 width, float eps, float *scratch, float &mean,
                                  float &scale) {
    float sum = 0, squares = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) sum += x[i];
    mean = block_sum(sum, scratch) / width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    scale = 1.0f / sqrtf(block_sum(squares, scratch) / width + eps);
}

// With n = (x - mean) · scale and d = grad · gain: dx = scale · (d - mean(d) - n · mean(d · n)), and
// product = grad · n, whose column sums are the gain's gradient. An output that is null is skipped. One block
// for each row.
__device__ inline void norm_gradient(const float *x, const float *gain, const float *grad, float *dx,
                                     float *product, u32 width, float eps) {
    __shared__ float scratch[32];
    const size_t row = (size_t)blockIdx.x * width;
    float mean, scale;
    statistics(x + row, width, eps, scratch, mean, scale);
    if (product)
        for (u32 i = threadIdx.x; i < width; i += blockDim.x)
            product[row + i] = grad[row + i] * ((x[row + i] - mean) * scale);
    if (!dx) return;
    float sum = 0, along = 0;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        const float delta = grad[row + i] * gain[i];
        sum += delta;
        along += delta * ((x[row + i] - mean) * scale);
    }
    const float mean_delta = block_sum(sum, scratch) / width, mean_along = block_sum(along, scratch) / width;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        const float normal = (x[row + i] - mean) * scale;
        dx[row + i] = scale * (grad[row + i] * gain[i] - mean_delta - normal * mean_along);
    }
}

// Attention weights from scores [sentences, heads, queries, keys]: softmax(scale · scores) over the keys that
// a query attends to, 0 for other keys and for padded queries. One warp for each row.
__device__ inline void attention_weights(const float *scores, const u32 *lengths, const u32 *key_lengths,
                                         float *weights, u32 heads, u32 queries, u32 keys, u32 causal,
                                         float scale) {
    const u32 sentence = blockIdx.x / (heads * queries), query = blockIdx.x % queries;
    scores += (size_t)blockIdx.x * keys;
    weights += (size_t)blockIdx.x * keys;
    u32 seen = key_lengths[sentence];
    if (causal && query + 1 < seen) seen = query + 1;
    if (query >= lengths[sentence]) seen = 0;
    float top = -INFINITY, sum = 0;
    for (u32 j = threadIdx.x; j < seen; j += 32) top = fmaxf(top, scores[j] * scale);
    top = warp_max(top);
    for (u32 j = threadIdx.x; j < seen; j += 32) sum += expf(scores[j] * scale - top);
    sum = warp_sum(sum);
    for (u32 j = threadIdx.x; j < keys; j += 32) weights[j] = j < seen ? expf(scores[j] * scale - top) / sum : 0.0f;
}

// dS = P ∘ (dP - rowsum(dP ∘ P)) · scale. One warp for each row.
__device__ inline void attention_gradient(const float *weights, const float *grad, float *dscores, u32 keys,
                                          float scale) {
    const size_t row = (size_t)blockIdx.x * keys;
    float mean = 0;
    for (u32 j = threadIdx.x; j < keys; j += 32)
        if (weights[row + j] != 0.0f) mean += weights[row + j] * grad[row + j];
    mean = warp_sum(mean);
    for (u32 j = threadIdx.x; j < keys; j += 32)
        dscores[row + j] = weights[row + j] != 0.0f ? weights[row + j] * (grad[row + j] - mean) * scale : 0.0f;
}

// The largest of x[from .. to], and the sum of e^(sharpness · (x - top)) over them.
__device__ inline void softmax_of(const float *x, u32 from, u32 to, float sharpness, float *scratch, float &top,
                                  float &sum) {
    float own = -INFINITY, added = 0;
    for (u32 i = from + threadIdx.x; i < to; i += blockDim.x) own = fmaxf(own, x[i]);
    top = block_max(own, scratch);
    for (u32 i = from + threadIdx.x; i < to; i += blockDim.x) added += expf((x[i] - top) * sharpness);
    sum = block_sum(added, scratch);
}

// (1 - ε) · nll(gold) + ε · mean nll over the classes from .. classes. One block for each row.
__device__ inline void cross_entropy(const float *logits, const u32 *gold, float *losses, u32 from, u32 classes,
                                     float smoothing) {
    __shared__ float scratch[32];
    logits += (size_t)blockIdx.x * classes;
    float top, sum, added = 0;
    softmax_of(logits, from, classes, 1.0f, scratch, top, sum);
    for (u32 i = from + threadIdx.x; i < classes; i += blockDim.x) added += logits[i] - top;
    const float mean = block_sum(added, scratch) / (classes - from), log_sum = logf(sum);
    if (threadIdx.x == 0)
        losses[blockIdx.x] =
            (1.0f - smoothing) * (log_sum - (logits[gold[blockIdx.x]] - top)) + smoothing * (log_sum - mean);
}

// (softmax - (1 - ε) · [gold] - ε / classes) · grad[row]
__device__ inline void cross_entropy_gradient(const float *logits, const u32 *gold, const float *grad, float *out,
                                              u32 from, u32 classes, float smoothing) {
    __shared__ float scratch[32];
    const size_t row = (size_t)blockIdx.x * classes;
    const float scale = grad[blockIdx.x], spread = smoothing / (classes - from);
    float top, sum;
    softmax_of(logits + row, from, classes, 1.0f, scratch, top, sum);
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        const float right = i == gold[blockIdx.x] ? 1.0f - smoothing : 0.0f;
        out[row + i] = i < from ? 0.0f : (expf(logits[row + i] - top) / sum - spread - right) * scale;
    }
}

// KL( softmax(sharpness · teacher) ‖ softmax(student) ) over the classes from .. classes. One block for each row.
__device__ inline void divergence(const float *student, const float *teacher, float *losses, u32 from, u32 classes,
                                  float sharpness) {
    __shared__ float scratch[32];
    student += (size_t)blockIdx.x * classes;
    teacher += (size_t)blockIdx.x * classes;
    float top, sum, teacher_top, teacher_sum, added = 0;
    softmax_of(student, from, classes, 1.0f, scratch, top, sum);
    softmax_of(teacher, from, classes, sharpness, scratch, teacher_top, teacher_sum);
    for (u32 i = from + threadIdx.x; i < classes; i += blockDim.x) {
        const float exponent = (teacher[i] - teacher_top) * sharpness;
        added += expf(exponent) * (exponent - (student[i] - top));
    }
    added = block_sum(added, scratch);
    if (threadIdx.x == 0) losses[blockIdx.x] = added / teacher_sum + logf(sum) - logf(teacher_sum);
}

// (softmax(student) - softmax(sharpness · teacher)) · grad[row]
__device__ inline void divergence_gradient(const float *student, const float *teacher, const float *grad,
                                           float *out, u32 from, u32 classes, float sharpness) {
    __shared__ float scratch[32];
    const size_t row = (size_t)blockIdx.x * classes;
    float top, sum, teacher_top, teacher_sum;
    softmax_of(student + row, from, classes, 1.0f, scratch, top, sum);
    softmax_of(teacher + row, from, classes, sharpness, scratch, teacher_top, teacher_sum);
    for (u32 i = threadIdx.x; i < classes; i += blockDim.x) {
        const float p = expf(student[row + i] - top) / sum;
        const float q = expf((teacher[row + i] - teacher_top) * sharpness) / teacher_sum;
        out[row + i] = i < from ? 0.0f : (p - q) * grad[blockIdx.x];
    }
}

// Sums of SUMMED_ROWS rows each, [blocks, width]. Grid (blocks, columns / threads).
__device__ inline void column_sums(const float *x, float *sums, u32 rows, u32 width) {
    const u32 column = blockIdx.y * blockDim.x + threadIdx.x, first = blockIdx.x * SUMMED_ROWS;
    if (column >= width) return;
    float sum = 0;
    for (u32 row = first; row < rows && row < first + SUMMED_ROWS; ++row) sum += x[(size_t)row * width + column];
    sums[(size_t)blockIdx.x * width + column] = sum;
}

// Σ x² of SQUARED values for each block.
__device__ inline void squares(const float *x, float *sums, u32 count) {
    __shared__ float scratch[32];
    const u32 first = blockIdx.x * SQUARED;
    float sum = 0;
    for (u32 i = threadIdx.x; i < SQUARED && first + i < count; i += blockDim.x) sum += x[first + i] * x[first + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  p ← keep · p − rate · m / (√v · second_scale + ε), where g is
// the given gradient times `gradient`.
__device__ inline void adamw(float *p, float *m, float *v, const float *grad, u32 count, float beta1, float beta2,
                             float eps, float rate, float second_scale, float gradient, float keep) {
    EACH(i, count) {
        const float g = grad[i] * gradient;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * (g * g);
        p[i] = p[i] * keep - m[i] / (sqrtf(v[i]) * second_scale + eps) * rate;
    }
}

// Entry points for KERNEL in kernels.cu.
#define TRAINING_KERNELS                                                                                       \
    KERNEL(dropout_f32, (const float *x, float *y, u32 count, u32 seed, u32 threshold, float scale),           \
           EACH(i, count) y[i] = x[i] * kept(i, seed, threshold, scale))                                       \
    KERNEL(residual_f32,                                                                                       \
           (const float *x, const float *branch, float *y, u32 count, u32 seed, u32 threshold, float scale),   \
           EACH(i, count) y[i] = x[i] + branch[i] * kept(i, seed, threshold, scale))                           \
    KERNEL(bias_f32, (const float *x, const float *bias, float *y, u32 width, float least),                    \
           for (u32 i = threadIdx.x; i < width; i += blockDim.x) {                                             \
               const float value = x[(size_t)blockIdx.x * width + i] + bias[i];                                \
               y[(size_t)blockIdx.x * width + i] = value < least ? least : value;                              \
           })                                                                                                  \
    KERNEL(relu_gradient_f32, (const float *grad, const float *y, float *dx, u32 count),                       \
           EACH(i, count) dx[i] = y[i] > 0.0f ? grad[i] : 0.0f)                                                \
    KERNEL(norm_gradient_f32,                                                                                  \
           (const float *x, const float *gain, const float *grad, float *dx, float *product, u32 width,        \
            float eps),                                                                                        \
           norm_gradient(x, gain, grad, dx, product, width, eps))                                              \
    KERNEL(attention_weights_f32,                                                                              \
           (const float *scores, const u32 *lengths, const u32 *key_lengths, float *weights, u32 heads,        \
            u32 queries, u32 keys, u32 causal, float scale),                                                   \
           attention_weights(scores, lengths, key_lengths, weights, heads, queries, keys, causal, scale))      \
    KERNEL(attention_gradient_f32, (const float *weights, const float *grad, float *dscores, u32 keys, float scale), \
           attention_gradient(weights, grad, dscores, keys, scale))                                            \
    KERNEL(cross_entropy_f32,                                                                                  \
           (const float *logits, const u32 *gold, float *losses, u32 from, u32 classes, float smoothing),      \
           cross_entropy(logits, gold, losses, from, classes, smoothing))                                      \
    KERNEL(cross_entropy_gradient_f32,                                                                         \
           (const float *logits, const u32 *gold, const float *grad, float *out, u32 from, u32 classes,        \
            float smoothing),                                                                                  \
           cross_entropy_gradient(logits, gold, grad, out, from, classes, smoothing))                          \
    KERNEL(divergence_f32,                                                                                     \
           (const float *student, const float *teacher, float *losses, u32 from, u32 classes, float sharpness), \
           divergence(student, teacher, losses, from, classes, sharpness))                                     \
    KERNEL(divergence_gradient_f32,                                                                            \
           (const float *student, const float *teacher, const float *grad, float *out, u32 from, u32 classes,  \
            float sharpness),                                                                                  \
           divergence_gradient(student, teacher, grad, out, from, classes, sharpness))                         \
    KERNEL(column_sums_f32, (const float *x, float *sums, u32 rows, u32 width), column_sums(x, sums, rows, width)) \
    KERNEL(squares_f32, (const float *x, float *sums, u32 count), squares(x, sums, count))                     \
    KERNEL(adamw_f32,                                                                                          \
           (float *p, float *m, float *v, const float *grad, u32 count, float beta1, float beta2, float eps,   \
            float rate, float second_scale, float gradient, float keep),                                       \
           adamw(p, m, v, grad, count, beta1, beta2, eps, rate, second_scale, gradient, keep))                 \
    KERNEL(ema_f32, (float *average, const float *weights, u32 count, float decay, float fresh),               \
           EACH(i, count) average[i] = decay * average[i] + fresh * weights[i])
