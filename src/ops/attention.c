/* DotProductAttention: softmax(scale Q K' + bias) V without the matrix of scores.
 *
 * Forward goes over blocks of queries; for each it goes over blocks of keys, keeps the maximum and the sum of every
 * row, and rescales what it has when the maximum grows (Milakov and Gimelshein, "Online normalizer calculation for
 * softmax", 2018; Dao and others, "FlashAttention", 2022). Only the logarithm of each row's sum is kept for backward,
 * which computes the scores of a block again. Blocks are computed in float, or double for double arrays.
 *
 * Heads may outnumber the heads of keys and values: consecutive ones then share a head (grouped queries). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/vmath.h"
#include "ops/block_gemm.h"
#include "ops/op.h"

typedef struct attention_params {
  mx_opt_float scale;
  bool causal, use_length, use_bias;
} attention_params;

static const mx_param attention_table[] = {
    MX_P_OPT_FLOAT(attention_params, scale, "None", MX_ANY, "Factor of the scores; None is 1 / sqrt(depth)."),
    MX_P_BOOL(attention_params, causal, "0",
              "Query i sees the keys up to i only; with more keys than queries the last query sees all of them."),
    MX_P_BOOL(attention_params, use_length, "0", "Take the number of valid keys of each sample from the input length."),
    MX_P_BOOL(attention_params, use_bias, "0", "Add the input bias to the scores."), MX_P_END};

static int attention_count_in(const void *params) {
  const attention_params *p = params;
  return 3 + p->use_length + p->use_bias;
}
static int attention_count_visible(const void *params) { return 1; }
static void attention_in_name(const void *params, int i, char *buf, size_t size) {
  static const char *const names[] = {"query", "key", "value", "length", "bias"};
  if (i == 3 && !((const attention_params *)params)->use_length) i = 4;
  snprintf(buf, size, "%s", names[i]);
}

/* ---- shapes ---- */

static mx_status set_dim(int64_t *d, int64_t want, const char *what, mx_error *err) {
  if (*d < 0) *d = want;
  if (want < 0 || *d == want) return MX_OK;
  mx_fail(err, MX_ERR_SHAPE, "%s is %lld, but %lld was expected.", what, (long long)*d, (long long)want);
  mx_error_set(err, actual, "%lld", (long long)*d);
  mx_error_set(err, expected, "%lld", (long long)want);
  return MX_ERR_SHAPE;
}
/* Both ways. */
static mx_status tie(int64_t *a, int64_t *b, const char *what, mx_error *err) {
  MX_TRY(set_dim(a, *b, what, err));
  return set_dim(b, *a, what, err);
}

static mx_status bias_shape(mx_shape *bias, const mx_shape *q, const mx_shape *k, mx_error *err) {
  int n = q->ndim;
  mx_shape want = *q;
  want.dim[n - 1] = k->dim[n - 2];
  if (bias->ndim < 0) {
    *bias = want;
    return MX_OK;
  }
  bool fits = bias->ndim == n;
  for (int i = 0; fits && i < n; i++)
    fits = bias->dim[i] < 0 || want.dim[i] < 0 || bias->dim[i] == want.dim[i] || (i < n - 2 && bias->dim[i] == 1);
  if (fits) return MX_OK;
  char tb[MX_SHAPE_TEXT], tw[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE,
          "bias has native shape %s, but %s was expected, where all but the last two dimensions may be 1.",
          mx_shape_text(bias, tb), mx_shape_text(&want, tw));
  mx_error_set(err, argument, "bias");
  mx_error_set(err, expected, "%s", tw);
  mx_error_set(err, actual, "%s", tb);
  return MX_ERR_SHAPE;
}

/* query (batch..., heads, nq, depth), key (batch..., groups, nk, depth), value (batch..., groups, nk, width). Outputs:
 * the result (batch..., heads, nq, width), the logarithms of the sums (batch..., heads, nq). */
static mx_status attention_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const attention_params *p = params;
  mx_shape *q = &in[0], *k = &in[1], *v = &in[2];
  if (q->ndim < 0) return MX_OK;
  int n = q->ndim;
  if (n < 3) {
    mx_fail(err, MX_ERR_SHAPE, "query needs at least three dimensions (heads, length, depth), but has %d.", n);
    mx_error_set(err, argument, "query");
    return MX_ERR_SHAPE;
  }
  mx_shape blank = {.ndim = n};
  for (int i = 0; i < n; i++) blank.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(k, &blank, "key", err));
  MX_TRY(mx_shape_merge(v, &blank, "value", err));
  for (int i = 0; i < n - 3; i++) MX_TRY(tie(&q->dim[i], &k->dim[i], "A batch dimension of key", err));
  for (int i = 0; i < n - 1; i++) MX_TRY(tie(&k->dim[i], &v->dim[i], "A dimension of value", err));
  MX_TRY(tie(&q->dim[n - 1], &k->dim[n - 1], "The depth of key", err));
  int64_t heads = q->dim[n - 3], groups = k->dim[n - 3];
  if (heads >= 0 && groups >= 0 && (groups == 0 ? heads != 0 : heads % groups != 0))
    return mx_fail(err, MX_ERR_SHAPE, "%lld heads of query cannot share %lld heads of key evenly.", (long long)heads,
                   (long long)groups);
  mx_shape y = *q, sums = *q, length = mx_shape_of(q->dim[0]);
  y.dim[n - 1] = v->dim[n - 1];
  sums.ndim--;
  MX_TRY(mx_shape_merge(&out[0], &y, "output", err));
  MX_TRY(mx_shape_merge(&out[1], &sums, "log_sum", err));
  if (p->use_length) MX_TRY(mx_shape_merge(&in[3], &length, "length", err));
  return p->use_bias ? bias_shape(&in[n_in - 1], q, k, err) : MX_OK;
}

static mx_dtype sum_type(mx_dtype t) { return t == MX_FLOAT64 ? MX_FLOAT64 : MX_FLOAT32; }
static mx_status attention_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const attention_params *p = params;
  mx_dtype t = out[0];
  for (int i = 0; i < 3 && t == MX_DTYPE_UNKNOWN; i++) t = in[i];
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  mx_dtype *same[5] = {&in[0], &in[1], &in[2], &out[0], p->use_bias ? &in[n_in - 1] : &out[0]};
  for (int i = 0; i < 5; i++) {
    if (*same[i] == MX_DTYPE_UNKNOWN) *same[i] = t;
    if (*same[i] != t || !mx_dtype_is_float(t))
      return mx_fail(err, MX_ERR_TYPE, "query, key, value and bias must be of one floating-point type, not %s and %s.",
                     mx_dtype_name(t), mx_dtype_name(*same[i]));
  }
  out[1] = sum_type(t);
  if (p->use_length && in[3] == MX_DTYPE_UNKNOWN) in[3] = t;
  return MX_OK;
}

/* ---- a run ---- */

enum { QUERIES = 64, KEYS = 64 }; /* rows and columns of a block of scores */

typedef struct attention_run {
  const attention_params *p;
  int64_t samples, heads, group, nq, nk, depth,
      width;          /* samples: product of the batch dimensions; group: heads a key */
  int64_t per_length; /* samples that share an entry of length */
  double scale;
  mx_dtype dtype;
  const mx_tensor *q, *k, *v, *length, *bias;
  int64_t bias_stride[MX_MAX_NDIM]; /* elements per step of each leading dimension; 0 where it is 1 */
} attention_run;

static attention_run run_of(const mx_call *c, const mx_tensor *q) {
  const mx_tensor *k = q + 1, *v = q + 2;
  attention_run r = {.p = c->params, .q = q, .k = k, .v = v, .dtype = q->dtype};
  int n = q->shape.ndim;
  r.samples = mx_shape_prod(&q->shape, 0, n - 3);
  r.per_length = n > 3 ? mx_shape_prod(&q->shape, 1, n - 3) : 1;
  r.heads = q->shape.dim[n - 3], r.nq = q->shape.dim[n - 2], r.depth = q->shape.dim[n - 1];
  r.nk = k->shape.dim[n - 2], r.width = v->shape.dim[n - 1];
  r.group = k->shape.dim[n - 3] > 0 ? r.heads / k->shape.dim[n - 3] : 1;
  r.scale = r.p->scale.given ? r.p->scale.value : 1 / sqrt(r.depth > 0 ? (double)r.depth : 1);
  if (r.p->use_length) r.length = q + 3;
  if (r.p->use_bias) {
    r.bias = q + 3 + r.p->use_length;
    int64_t stride = r.nq * r.nk;
    for (int i = n - 3; i >= 0; i--) {
      r.bias_stride[i] = r.bias->shape.dim[i] == 1 ? 0 : stride;
      stride *= r.bias->shape.dim[i];
    }
  }
  return r;
}

/* Keys that sample s has. */
static int64_t keys_of(const attention_run *r, int64_t s, int64_t h) {
  if (!r->length) return r->nk;
  int64_t i = r->q->shape.ndim > 3 ? s / r->per_length : h; /* three dimensions: the first one is the heads */
  double n = 0;
  MX_SWITCH_ALL(r->length->dtype, break, n = (double)((const T *)r->length->data)[i];)
  return n >= (double)r->nk ? r->nk : n > 0 ? (int64_t)n : 0;
}
/* Keys that query i sees, of `keys`. */
static int64_t visible(const attention_run *r, int64_t i, int64_t keys) {
  int64_t last = r->p->causal ? i + 1 + r->nk - r->nq : r->nk;
  return last < 0 ? 0 : last < keys ? last : keys;
}
/* Where the bias of sample s and head h starts. */
static int64_t bias_at(const attention_run *r, int64_t s, int64_t h) {
  int n = r->q->shape.ndim;
  int64_t at = h * r->bias_stride[n - 3];
  for (int i = n - 4; i >= 0; i--) {
    at += s % r->q->shape.dim[i] * r->bias_stride[i];
    s /= r->q->shape.dim[i];
  }
  return at;
}

/* Scratch memory of one thread, in elements of the type that blocks are computed in. */
typedef struct scratch {
  int64_t q, packed, scores, other, y, stats, d_q, d_k, d_v, size;
} scratch;
static int64_t aligned(int64_t n) { return (n + 31) / 32 * 32; }
/* Rows of blocks that products write are whole panels; that of float is the wider one. */
static int64_t padded(int64_t n) { return MX_PANEL_ROUND(n, float); }
static scratch scratch_of(const attention_run *r, bool backward) {
  int64_t wide = padded(r->depth > r->width ? r->depth : r->width), longest = wide > KEYS ? wide : KEYS;
  scratch s = {.q = 0};
  s.packed = s.q + aligned(QUERIES * wide);
  s.scores = s.packed + aligned(longest * longest);
  s.other = s.scores + aligned(QUERIES * KEYS);
  s.y = s.other + aligned(QUERIES * KEYS);
  s.stats = s.y + aligned(QUERIES * wide);
  s.d_q = s.stats + aligned(2 * QUERIES);
  s.d_k = s.d_q + (backward ? aligned(r->nq * padded(r->depth)) : 0);
  s.d_v = s.d_k + (backward ? aligned((r->nk + KEYS) * padded(r->depth)) : 0);
  s.size = s.d_v + (backward ? aligned((r->nk + KEYS) * padded(r->width)) : 0);
  return s;
}

static mx_status reserve_threads(mx_call *c, const attention_run *r, bool backward, mx_error *err) {
  mx_shape rough = mx_shape_of(r->nq + r->nk + 4 * QUERIES, r->depth + r->width + 4 * KEYS, 16 * (int64_t)mx_threads());
  MX_TRY(mx_shape_check_size(&rough, 8, err));
  c->workspace_bytes = (size_t)scratch_of(r, backward).size * mx_dtype_size(sum_type(r->dtype)) * (size_t)mx_threads();
  return MX_OK;
}
static int64_t threads_for(const mx_call *c, const attention_run *r, int64_t tasks, int64_t cost, bool backward) {
  int64_t slots = (int64_t)(c->workspace_bytes / mx_dtype_size(sum_type(r->dtype))) / scratch_of(r, backward).size;
  int64_t n = mx_threads_for(tasks * cost, MX_GRAIN * 4);
  n = n < slots ? n : slots;
  return n < tasks ? n : tasks > 0 ? tasks : 1;
}

/* The kernels below exist for the pairs (stored type T, computed type A) half and float, float and float, double and
 * double. */
#define PAIRS(X) X(mx_half, float, half) X(float, float, float) X(double, double, double)

#define LOADS(T, A, tag)                                                                                  \
  /* rows x n elements, converted, scaled, in rows of ld. */                                              \
  MX_CLONES static void load_##tag(const T *x, int64_t rows, int64_t n, A scale, A *out, int64_t ld) {    \
    for (int64_t i = 0; i < rows; i++, x += n, out += ld) {                                               \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) out[j] = (A)x[j] * scale;                       \
    }                                                                                                     \
  }                                                                                                       \
  MX_CLONES static void save_##tag(const A *x, int64_t ld, int64_t rows, int64_t n, T *out) {             \
    for (int64_t i = 0; i < rows; i++, x += ld, out += n) {                                               \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) out[j] = (T)x[j];                               \
    }                                                                                                     \
  }                                                                                                       \
  /* Adds the bias to a block of scores, whose rows are KEYS apart. */                                    \
  MX_CLONES static void add_bias_##tag(A *s, int64_t rows, int64_t cols, const T *bias, int64_t stride) { \
    for (int64_t i = 0; i < rows; i++, s += KEYS, bias += stride) {                                       \
      _Pragma("omp simd") for (int64_t j = 0; j < cols; j++) s[j] += (A)bias[j];                          \
    }                                                                                                     \
  }
PAIRS(LOADS)

#define pack_float block_pack_float
#define pack_double block_pack_double
/* Packing of halves converts. */
static void pack_half(int64_t k, int64_t n, const mx_half *b, int64_t rs, int64_t cs, float *out) {
  for (int64_t j = 0; j < n; j += MX_PANEL(float))
    for (int64_t p = 0; p < k; p++)
      for (int64_t q = j; q < j + MX_PANEL(float); q++) *out++ = q < n ? (float)b[p * rs + q * cs] : 0.0f;
}

#define FORWARD(T, A, tag)                                                                                             \
  /* One row of a block: s becomes exp(s - max); max and sum are brought up to date. Returns what y is scaled by. */   \
  MX_CLONES static A online_row_##tag(A *s, int64_t n, A *max, A *sum) {                                               \
    A m = *max, total = 0;                                                                                             \
    _Pragma("omp simd reduction(max : m)") for (int64_t j = 0; j < n; j++) m = s[j] > m ? s[j] : m;                    \
    A rescale = *max == m ? (A)1 : mx_vexp(*max - m);                                                                  \
    A shift = m == -INFINITY ? (A)0 : m;                                                                               \
    _Pragma("omp simd reduction(+ : total)") for (int64_t j = 0; j < n; j++) total += s[j] = mx_vexp(s[j] - shift);    \
    *sum = *sum * rescale + total;                                                                                     \
    *max = m;                                                                                                          \
    return rescale;                                                                                                    \
  }                                                                                                                    \
  MX_CLONES static void scale_row_##tag(A *y, int64_t n, A factor) {                                                   \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] *= factor;                                                \
  }                                                                                                                    \
  /* Queries [i0, i0 + rows) of head h of sample b. */                                                                 \
  static void forward_##tag(const attention_run *r, int64_t b, int64_t h, int64_t i0, int64_t rows, const mx_call *c,  \
                            A *memory) {                                                                               \
    scratch at = scratch_of(r, false);                                                                                 \
    A *q = memory + at.q, *packed = memory + at.packed, *s = memory + at.scores, *y = memory + at.y;                   \
    A *max = memory + at.stats, *sum = max + QUERIES;                                                                  \
    int64_t head = b * r->heads + h, kv = head / r->group, ld = padded(r->width), keys = keys_of(r, b, h);             \
    const T *k = (const T *)r->k->data + kv * r->nk * r->depth, *v = (const T *)r->v->data + kv * r->nk * r->width;    \
    load_##tag((const T *)r->q->data + (head * r->nq + i0) * r->depth, rows, r->depth, (A)r->scale, q, r->depth);      \
    for (int64_t i = 0; i < rows; i++) max[i] = -INFINITY, sum[i] = 0;                                                 \
    memset(y, 0, (size_t)(rows * ld) * sizeof(A));                                                                     \
    int64_t end = visible(r, i0 + rows - 1, keys);                                                                     \
    for (int64_t j0 = 0; j0 < end; j0 += KEYS) {                                                                       \
      int64_t cols = end - j0 < KEYS ? end - j0 : KEYS;                                                                \
      pack_##tag(r->depth, cols, k + j0 * r->depth, 1, r->depth, packed);                                              \
      block_gemm_##A(rows, cols, r->depth, q, r->depth, 1, packed, s, KEYS, false);                                    \
      if (r->bias)                                                                                                     \
        add_bias_##tag(s, rows, cols, (const T *)r->bias->data + bias_at(r, b, h) + i0 * r->nk + j0, r->nk);           \
      for (int64_t i = 0; i < rows; i++) {                                                                             \
        int64_t n = visible(r, i0 + i, keys) - j0;                                                                     \
        n = n < 0 ? 0 : n < cols ? n : cols;                                                                           \
        A rescale = online_row_##tag(s + i * KEYS, n, &max[i], &sum[i]);                                               \
        for (int64_t j = n; j < cols; j++) s[i * KEYS + j] = 0;                                                        \
        if (rescale != 1) scale_row_##tag(y + i * ld, r->width, rescale);                                              \
      }                                                                                                                \
      pack_##tag(cols, r->width, v + j0 * r->width, r->width, 1, packed);                                              \
      block_gemm_##A(rows, r->width, cols, s, KEYS, 1, packed, y, ld, true);                                           \
    }                                                                                                                  \
    for (int64_t i = 0; i < rows; i++) {                                                                               \
      scale_row_##tag(y + i * ld, r->width, sum[i] > 0 ? 1 / sum[i] : sum[i]);                                         \
      if (c->req[1] != MX_NULL) ((A *)c->out[1].data)[head * r->nq + i0 + i] = max[i] + (A)log((double)sum[i]);        \
    }                                                                                                                  \
    if (c->req[0] != MX_NULL) save_##tag(y, ld, rows, r->width, (T *)c->out[0].data + (head * r->nq + i0) * r->width); \
  }

/* What backward reads and writes; outputs are NULL where they are not wanted. */
typedef struct backward_io {
  const mx_tensor *dy, *y, *log_sum, *d_q, *d_k, *d_v, *d_bias;
} backward_io;

#define BACKWARD(T, A, tag)                                                                                           \
  /* Row of a block: p = exp(s - log_sum), and ds = p (dp - delta), in place of dp. */                                \
  MX_CLONES static void score_row_##tag(A *s, A *dp, int64_t n, A log_sum, A delta) {                                 \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                             \
      s[j] = mx_vexp(s[j] - log_sum);                                                                                 \
      dp[j] = s[j] * (dp[j] - delta);                                                                                 \
    }                                                                                                                 \
  }                                                                                                                   \
  MX_CLONES static A dot_row_##tag(const T *a, const T *b, int64_t n) {                                               \
    A sum = 0;                                                                                                        \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < n; j++) sum += (A)a[j] * (A)b[j];                  \
    return sum;                                                                                                       \
  }                                                                                                                   \
  MX_CLONES static void accumulate_##tag(const A *ds, int64_t rows, int64_t cols, T *out, int64_t stride) {           \
    for (int64_t i = 0; i < rows; i++, ds += KEYS, out += stride) {                                                   \
      _Pragma("omp simd") for (int64_t j = 0; j < cols; j++) out[j] = (T)((A)out[j] + ds[j]);                         \
    }                                                                                                                 \
  }                                                                                                                   \
  /* One block of scores of one head. in: query, key, value of the head, the gradient dy. */                          \
  static void backward_block_##tag(const attention_run *r, const backward_io *io, int64_t b, int64_t h, int64_t i0,   \
                                   int64_t rows, int64_t j0, int64_t cols, A *memory) {                               \
    scratch at = scratch_of(r, true);                                                                                 \
    A *q = memory + at.q, *packed = memory + at.packed, *s = memory + at.scores, *ds = memory + at.other;             \
    A *dy = memory + at.y;                                                                                            \
    int64_t head = b * r->heads + h, kv = head / r->group, keys = keys_of(r, b, h), first = head * r->nq + i0;        \
    int64_t ld_d = padded(r->depth), ld_w = padded(r->width);                                                         \
    const T *k = (const T *)r->k->data + (kv * r->nk + j0) * r->depth;                                                \
    const T *v = (const T *)r->v->data + (kv * r->nk + j0) * r->width;                                                \
    load_##tag((const T *)r->q->data + first * r->depth, rows, r->depth, (A)r->scale, q, r->depth);                   \
    load_##tag((const T *)io->dy->data + first * r->width, rows, r->width, 1, dy, r->width);                          \
    pack_##tag(r->depth, cols, k, 1, r->depth, packed);                                                               \
    block_gemm_##A(rows, cols, r->depth, q, r->depth, 1, packed, s, KEYS, false);                                     \
    if (r->bias) add_bias_##tag(s, rows, cols, (const T *)r->bias->data + bias_at(r, b, h) + i0 * r->nk + j0, r->nk); \
    pack_##tag(r->width, cols, v, 1, r->width, packed);                                                               \
    block_gemm_##A(rows, cols, r->width, dy, r->width, 1, packed, ds, KEYS, false);                                   \
    for (int64_t i = 0; i < rows; i++) {                                                                              \
      int64_t n = visible(r, i0 + i, keys) - j0;                                                                      \
      n = n < 0 ? 0 : n < cols ? n : cols;                                                                            \
      A log_sum = ((const A *)io->log_sum->data)[first + i];                                                          \
      if (log_sum == -INFINITY) n = 0; /* the bias hides every key */                                                 \
      A delta = dot_row_##tag((const T *)io->dy->data + (first + i) * r->width,                                       \
                              (const T *)io->y->data + (first + i) * r->width, r->width);                             \
      score_row_##tag(s + i * KEYS, ds + i * KEYS, n, log_sum, delta);                                                \
      for (int64_t j = n; j < cols; j++) s[i * KEYS + j] = ds[i * KEYS + j] = 0;                                      \
    }                                                                                                                 \
    if (io->d_bias)                                                                                                   \
      accumulate_##tag(ds, rows, cols, (T *)io->d_bias->data + bias_at(r, b, h) + i0 * r->nk + j0, r->nk);            \
    block_pack_##A(rows, r->width, dy, r->width, 1, packed); /* dV += P' dY */                                        \
    block_gemm_##A(cols, r->width, rows, s, 1, KEYS, packed, memory + at.d_v + j0 * ld_w, ld_w, true);                \
    block_pack_##A(rows, r->depth, q, r->depth, 1, packed); /* dK += dS' (scale Q) */                                 \
    block_gemm_##A(cols, r->depth, rows, ds, 1, KEYS, packed, memory + at.d_k + j0 * ld_d, ld_d, true);               \
    pack_##tag(cols, r->depth, k, r->depth, 1, packed); /* dQ += dS K; the scale comes last */                        \
    block_gemm_##A(rows, r->depth, cols, ds, KEYS, 1, packed, memory + at.d_q + i0 * ld_d, ld_d, true);               \
  }                                                                                                                   \
  /* All heads that share head `kv` of keys and values: nobody else touches their gradients. */                       \
  static void backward_##tag(const attention_run *r, const backward_io *io, int64_t kv, A *memory) {                  \
    scratch at = scratch_of(r, true);                                                                                 \
    int64_t ld_d = padded(r->depth), ld_w = padded(r->width);                                                         \
    A *d_q = memory + at.d_q, *d_k = memory + at.d_k, *d_v = memory + at.d_v;                                         \
    memset(d_k, 0, (size_t)(r->nk * ld_d) * sizeof(A));                                                               \
    memset(d_v, 0, (size_t)(r->nk * ld_w) * sizeof(A));                                                               \
    for (int64_t head = kv * r->group; head < (kv + 1) * r->group; head++) {                                          \
      int64_t b = head / r->heads, h = head % r->heads, keys = keys_of(r, b, h);                                      \
      memset(d_q, 0, (size_t)(r->nq * ld_d) * sizeof(A));                                                             \
      for (int64_t i0 = 0; i0 < r->nq; i0 += QUERIES) {                                                               \
        int64_t rows = r->nq - i0 < QUERIES ? r->nq - i0 : QUERIES, end = visible(r, i0 + rows - 1, keys);            \
        for (int64_t j0 = 0; j0 < end; j0 += KEYS)                                                                    \
          backward_block_##tag(r, io, b, h, i0, rows, j0, end - j0 < KEYS ? end - j0 : KEYS, memory);                 \
      }                                                                                                               \
      for (int64_t i = 0; i < r->nq; i++) scale_row_##tag(d_q + i * ld_d, r->depth, (A)r->scale);                     \
      if (io->d_q) save_##tag(d_q, ld_d, r->nq, r->depth, (T *)io->d_q->data + head * r->nq * r->depth);              \
    }                                                                                                                 \
    if (io->d_k) save_##tag(d_k, ld_d, r->nk, r->depth, (T *)io->d_k->data + kv * r->nk * r->depth);                  \
    if (io->d_v) save_##tag(d_v, ld_w, r->nk, r->width, (T *)io->d_v->data + kv * r->nk * r->width);                  \
  }

PAIRS(FORWARD)
PAIRS(BACKWARD)

/* ---- kernels ---- */

static mx_status forward_prepare(mx_call *c, mx_error *err) {
  attention_run r = run_of(c, c->in);
  return reserve_threads(c, &r, false, err);
}

static void forward_task(const attention_run *r, int64_t task, const mx_call *c, char *memory) {
  int64_t blocks = (r->nq + QUERIES - 1) / QUERIES, head = task / blocks, i0 = task % blocks * QUERIES;
  int64_t rows = r->nq - i0 < QUERIES ? r->nq - i0 : QUERIES, b = head / r->heads, h = head % r->heads;
  if (r->dtype == MX_FLOAT64)
    forward_double(r, b, h, i0, rows, c, (double *)memory);
  else if (r->dtype == MX_FLOAT32)
    forward_float(r, b, h, i0, rows, c, (float *)memory);
  else
    forward_half(r, b, h, i0, rows, c, (float *)memory);
}

static mx_status forward_kernel(const mx_call *c, mx_error *err) {
  attention_run r = run_of(c, c->in);
  int64_t tasks = r.samples * r.heads * ((r.nq + QUERIES - 1) / QUERIES);
  int64_t threads = threads_for(c, &r, tasks, QUERIES * r.nk * (r.depth + r.width), false);
  size_t bytes = (size_t)scratch_of(&r, false).size * mx_dtype_size(sum_type(r.dtype));
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t t = 0; t < threads; t++) /* blocks of early queries are shorter in causal attention: taken in turns */
    for (int64_t task = t; task < tasks; task += threads)
      forward_task(&r, task, c, (char *)c->workspace + (size_t)t * bytes);
  return MX_OK;
}

/* Backward: (dy, y, log_sum, query, key, value, length, bias) to (query, key, value, bias). */
enum { BACKWARD_FIRST = 3 };
static mx_status backward_prepare(mx_call *c, mx_error *err) {
  attention_run r = run_of(c, c->in + BACKWARD_FIRST);
  return reserve_threads(c, &r, true, err);
}
static void backward_task(const attention_run *r, const backward_io *io, int64_t kv, char *memory) {
  if (r->dtype == MX_FLOAT64)
    backward_double(r, io, kv, (double *)memory);
  else if (r->dtype == MX_FLOAT32)
    backward_float(r, io, kv, (float *)memory);
  else
    backward_half(r, io, kv, (float *)memory);
}
static const mx_tensor *wanted(const mx_call *c, int i) {
  return i < c->n_out && c->req[i] != MX_NULL ? &c->out[i] : NULL;
}
static mx_status backward_kernel(const mx_call *c, mx_error *err) {
  attention_run r = run_of(c, c->in + BACKWARD_FIRST);
  backward_io io = {.dy = &c->in[0], .y = &c->in[1], .log_sum = &c->in[2]};
  io.d_q = wanted(c, 0), io.d_k = wanted(c, 1), io.d_v = wanted(c, 2), io.d_bias = wanted(c, 3);
  int64_t tasks = r.group > 0 ? r.samples * r.heads / r.group : 0;
  int64_t threads = threads_for(c, &r, tasks, r.group * r.nq * r.nk * (r.depth + r.width), true);
  if (io.d_bias) {
    size_t bytes = (size_t)mx_shape_size(&io.d_bias->shape) * mx_dtype_size(r.dtype);
    if (bytes) memset(io.d_bias->data, 0, bytes);
    threads = 1; /* heads may share a bias, and the order of the sum must not change */
  }
  size_t bytes = (size_t)scratch_of(&r, true).size * mx_dtype_size(sum_type(r.dtype));
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t t = 0; t < threads; t++)
    for (int64_t task = t; task < tasks; task += threads)
      backward_task(&r, &io, task, (char *)c->workspace + (size_t)t * bytes);
  return MX_OK;
}

static mx_status attention_gradient(mx_grad *g, mx_error *err) {
  const attention_params *p = g->params;
  if (!g->out_grad[0].node) return MX_OK;
  mx_entry in[8] = {g->out_grad[0], g->out[0], {g->out[0].node, 1}}, out;
  for (int i = 0; i < g->n_in; i++) in[BACKWARD_FIRST + i] = g->in[i];
  MX_TRY(mx_grad_backward(g, "_backward_DotProductAttention", in, BACKWARD_FIRST + g->n_in, &out, err));
  for (int i = 0; i < 3; i++) g->in_grad[i] = (mx_entry){out.node, i};
  if (p->use_bias) g->in_grad[g->n_in - 1] = (mx_entry){out.node, 3};
  return MX_OK;
}

static int backward_count_in(const void *params) { return BACKWARD_FIRST + attention_count_in(params); }
static int backward_count_out(const void *params) { return 3 + ((const attention_params *)params)->use_bias; }
static void backward_in_name(const void *params, int i, char *buf, size_t size) {
  static const char *const names[] = {"out_grad", "output", "log_sum"};
  if (i < BACKWARD_FIRST)
    snprintf(buf, size, "%s", names[i]);
  else
    attention_in_name(params, i - BACKWARD_FIRST, buf, size);
}
static mx_status backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++)
    MX_TRY(mx_shape_merge(&out[i], i < 3 ? &in[BACKWARD_FIRST + i] : &in[n_in - 1], "a gradient", err));
  return MX_OK;
}
static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++) out[i] = in[BACKWARD_FIRST];
  return MX_OK;
}

const mx_op mx_ops_attention[] = {
    {.name = "DotProductAttention",
     .family = "Neural-network layers",
     .doc = "Attention: softmax(scale query transpose(key) + bias) value for every head, over the keys that a query "
            "sees. The "
            "matrix of scores is never formed. A query that sees no key gives 0. The number of heads of query may be a "
            "multiple of that of key and value, which consecutive heads then share.",
     .in_doc =
         MX_STRINGS("Native shape (batch..., heads, queries, depth).", "Native shape (batch..., heads, keys, depth).",
                    "Native shape (batch..., heads, keys, width).",
                    "Number of valid keys of each sample, native shape (batch,); with use_length only.",
                    "Added to the scores, native shape (batch..., heads, queries, keys), where all but the last two "
                    "may be 1; with use_bias only."),
     .source = "Vaswani and others, Attention is all you need, 2017; Dao and others, FlashAttention, 2022",
     .params = attention_table,
     .params_size = sizeof(attention_params),
     .n_in = 3,
     .n_out = 2,
     .out_names = MX_STRINGS("output", "log_sum"),
     .count_in = attention_count_in,
     .count_visible = attention_count_visible,
     .in_names = MX_STRINGS("query", "key", "value", "length", "bias"),
     .in_name = attention_in_name,
     .infer_shape = attention_shape,
     .infer_dtype = attention_dtype,
     .gradient = attention_gradient,
     .prepare = forward_prepare,
     .kernel = forward_kernel},
    {.name = "_backward_DotProductAttention",
     .family = "Neural-network layers",
     .doc = "Gradients of DotProductAttention.",
     .params = attention_table,
     .params_size = sizeof(attention_params),
     .n_in = 6,
     .n_out = 3,
     .count_in = backward_count_in,
     .count_out = backward_count_out,
     .in_name = backward_in_name,
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = backward_prepare,
     .kernel = backward_kernel},
    {0}};
