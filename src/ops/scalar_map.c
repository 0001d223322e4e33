/* Applies rows to whole arrays: conversion at the edges, broadcasting, threads.
 *
 * Dimensions are merged as far as all operands allow. What remains is walked in chunks whose borders depend on the
 * shape only, so that results do not depend on the number of threads. Where every operand is contiguous, or one value,
 * in the type that is computed in, the row's block function works on the arrays themselves; other operands are gathered
 * into blocks that stay in the L1 cache. */
#pragma GCC optimize("no-trapping-math")
#include <string.h>

#include "core/vmath.h"
#include "ops/scalar.h"

enum {
  CHUNK = 8192,   /* elements of the output that a thread takes at a time */
  DIRECT_RUN = 32 /* a run of the last dimension that repays a call of its own */
};

/* ---- conversion of blocks ---- */

#define PLAIN(x) (x)
#define NONZERO(x) ((x) != 0)
#define HALF(x) mx_half_bits_to_float(x)
#define HALF_NONZERO(x) (((x)&0x7fffu) != 0)

#define LOAD(kind, K, from, S, VALUE, TEST)                                                           \
  MX_CLONES static void kind##_from_##from(K *d, const S *s, int64_t stride, bool truth, int64_t n) { \
    if (truth && stride == 1) {                                                                       \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] = (K)TEST(s[i]);                       \
    } else if (truth) {                                                                               \
      for (int64_t i = 0; i < n; i++) d[i] = (K)TEST(s[i * stride]);                                  \
    } else if (stride == 1) {                                                                         \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] = (K)VALUE(s[i]);                      \
    } else if (stride == 0) {                                                                         \
      const K value = (K)VALUE(s[0]);                                                                 \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] = value;                               \
    } else {                                                                                          \
      for (int64_t i = 0; i < n; i++) d[i] = (K)VALUE(s[i * stride]);                                 \
    }                                                                                                 \
  }
#define LOADS(kind, K)                                                                                  \
  LOAD(kind, K, float, float, PLAIN, NONZERO)                                                           \
  LOAD(kind, K, double, double, PLAIN, NONZERO)                                                         \
  LOAD(kind, K, half, uint16_t, HALF, HALF_NONZERO)                                                     \
  LOAD(kind, K, uint8, uint8_t, PLAIN, NONZERO)                                                         \
  LOAD(kind, K, int32, int32_t, PLAIN, NONZERO)                                                         \
  LOAD(kind, K, int8, int8_t, PLAIN, NONZERO)                                                           \
  LOAD(kind, K, int64, int64_t, PLAIN, NONZERO)                                                         \
  static void load_##kind(K *d, const void *s, mx_dtype dtype, int64_t stride, bool truth, int64_t n) { \
    switch (dtype) {                                                                                    \
      case MX_FLOAT32:                                                                                  \
        kind##_from_float(d, s, stride, truth, n);                                                      \
        break;                                                                                          \
      case MX_FLOAT64:                                                                                  \
        kind##_from_double(d, s, stride, truth, n);                                                     \
        break;                                                                                          \
      case MX_FLOAT16:                                                                                  \
        kind##_from_half(d, s, stride, truth, n);                                                       \
        break;                                                                                          \
      case MX_INT32:                                                                                    \
        kind##_from_int32(d, s, stride, truth, n);                                                      \
        break;                                                                                          \
      case MX_INT8:                                                                                     \
        kind##_from_int8(d, s, stride, truth, n);                                                       \
        break;                                                                                          \
      case MX_INT64:                                                                                    \
        kind##_from_int64(d, s, stride, truth, n);                                                      \
        break;                                                                                          \
      default:                                                                                          \
        kind##_from_uint8(d, s, stride, truth, n);                                                      \
        break;                                                                                          \
    }                                                                                                   \
  }
LOADS(float, float)
LOADS(double, double)
LOADS(int, int64_t)

void mx_block_load(void *dst, mx_kind kind, const void *src, mx_dtype dtype, int64_t stride, bool truth, int64_t n) {
  if (kind == MX_KIND_FLOAT)
    load_float(dst, src, dtype, stride, truth, n);
  else if (kind == MX_KIND_DOUBLE)
    load_double(dst, src, dtype, stride, truth, n);
  else
    load_int(dst, src, dtype, stride, truth, n);
}

/* A number as an integer, without undefined cases: NaN is 0, what does not fit is the nearest. */
MX_INLINE int64_t cut(double x) { return x >= 0x1p63 ? INT64_MAX : x <= -0x1p63 ? INT64_MIN : x == x ? (int64_t)x : 0; }

#define STORE(name, D, K, VALUE, ADDED)                                                  \
  MX_CLONES static void name(D *d, const K *s, bool add, int64_t n) {                    \
    if (add) {                                                                           \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] = (D)(ADDED(d[i], s[i])); \
    } else {                                                                             \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] = (D)(VALUE(s[i]));       \
    }                                                                                    \
  }
#define SUM(x, y) ((x) + (y))
#define TO_HALF(x) mx_float_to_half_bits(x)
#define HALF_SUM(x, y) mx_float_to_half_bits(mx_half_bits_to_float(x) + (y))
#define CUT_SUM(x, y) ((uint64_t)(x) + (uint64_t)cut(y))
#define WRAP_SUM(x, y) ((uint64_t)(x) + (uint64_t)(y))
#define EITHER(x, y) ((x) != 0 || (y) != 0)
STORE(float_to_float, float, float, PLAIN, SUM)
STORE(float_to_half, uint16_t, float, TO_HALF, HALF_SUM)
STORE(double_to_double, double, double, PLAIN, SUM)
#define STORES(D, name)                                                              \
  STORE(double_to_##name, D, double, cut, CUT_SUM)                                   \
  STORE(int_to_##name, D, int64_t, PLAIN, WRAP_SUM)                                  \
  static void store_##name(D *d, const void *s, mx_kind kind, bool add, int64_t n) { \
    if (kind == MX_KIND_DOUBLE)                                                      \
      double_to_##name(d, s, add, n);                                                \
    else                                                                             \
      int_to_##name(d, s, add, n);                                                   \
  }
STORES(uint8_t, uint8)
STORES(int32_t, int32)
STORES(int8_t, int8)
STORES(int64_t, int64)
STORE(double_to_bool, uint8_t, double, NONZERO, EITHER)
STORE(int_to_bool, uint8_t, int64_t, NONZERO, EITHER)

void mx_block_store(void *dst, mx_dtype dtype, const void *src, mx_kind kind, bool add, int64_t n) {
  switch (dtype) {
    case MX_FLOAT32:
      float_to_float(dst, src, add, n);
      break;
    case MX_FLOAT64:
      double_to_double(dst, src, add, n);
      break;
    case MX_FLOAT16:
      float_to_half(dst, src, add, n);
      break;
    case MX_UINT8:
      store_uint8(dst, src, kind, add, n);
      break;
    case MX_INT32:
      store_int32(dst, src, kind, add, n);
      break;
    case MX_INT8:
      store_int8(dst, src, kind, add, n);
      break;
    case MX_INT64:
      store_int64(dst, src, kind, add, n);
      break;
    default:
      if (kind == MX_KIND_DOUBLE)
        double_to_bool(dst, src, add, n);
      else
        int_to_bool(dst, src, add, n);
      break;
  }
}

void mx_block_fill(void *dst, mx_kind kind, double value, int64_t n) {
  if (kind == MX_KIND_FLOAT)
    for (int64_t i = 0; i < n; i++) ((float *)dst)[i] = (float)value;
  else if (kind == MX_KIND_DOUBLE)
    for (int64_t i = 0; i < n; i++) ((double *)dst)[i] = value;
  else
    for (int64_t i = 0; i < n; i++) ((int64_t *)dst)[i] = cut(value);
}

mx_kind mx_row_kind(const mx_row *row, mx_dtype out) {
  if (out == MX_FLOAT32 || out == MX_FLOAT16) return MX_KIND_FLOAT;
  return out == MX_FLOAT64 || !row->block[MX_KIND_INT] ? MX_KIND_DOUBLE : MX_KIND_INT;
}

static bool is_native(mx_kind kind, mx_dtype dtype) {
  static const mx_dtype native[MX_KINDS] = {MX_FLOAT32, MX_FLOAT64, MX_INT64};
  return native[kind] == dtype;
}

/* ---- the walk over the output ---- */

void mx_operand_strides(mx_operand *o, const mx_shape *s, const mx_shape *out, int axis) {
  int64_t stride = 1;
  int first = axis > 0 ? axis - 1 : out->ndim - s->ndim;
  memset(o->stride, 0, sizeof(o->stride));
  for (int i = s->ndim - 1; i >= 0; i--) {
    int d = first + i;
    if (d >= 0 && d < out->ndim && s->dim[i] != 1) o->stride[d] = stride;
    stride *= s->dim[i];
  }
}

/* How an operand is read. */
typedef enum access {
  SINGLE,   /* one value for all elements, in `value` */
  DIRECT,   /* where the output is contiguous, it is; native */
  LINEAR,   /* the same, in another dtype */
  RUNS,     /* native, with stride 0 or 1 along the last dimension */
  PERIODIC, /* contiguous along the last dimensions and repeated along the others; `period` elements */
  REPEATED, /* each element of something contiguous stands `period` times */
  GATHERED  /* anything else */
} access;

typedef struct walk {
  const mx_row *row;
  mx_kind kind;
  size_t size; /* of an element of the kind */
  mx_dtype dtype;
  bool add, by_runs;
  char *out;
  int ndim;
  int64_t dim[MX_MAX_NDIM], n;
  mx_operand in[MX_MAX_OPERANDS];
  access how[MX_MAX_OPERANDS];
  int64_t period[MX_MAX_OPERANDS];
  double value[MX_MAX_OPERANDS]; /* a float, double or int64_t */
} walk;

/* Drops dimensions of 1 and merges neighbours that every operand walks with one stride. */
static void merge_dims(walk *w, const mx_shape *shape) {
  w->ndim = 0;
  w->n = mx_shape_size(shape);
  for (int d = 0; d < shape->ndim; d++) {
    if (shape->dim[d] == 1) continue;
    int last = w->ndim - 1;
    bool merges = last >= 0;
    for (int k = 0; merges && k < w->row->arity; k++)
      merges = !w->in[k].data || w->in[k].stride[last] == w->in[k].stride[d] * shape->dim[d];
    if (!merges) last = w->ndim++;
    w->dim[last] = merges ? w->dim[last] * shape->dim[d] : shape->dim[d];
    for (int k = 0; k < w->row->arity; k++) w->in[k].stride[last] = w->in[k].stride[d];
  }
  if (w->ndim == 0) { /* one element */
    w->ndim = 1;
    w->dim[0] = 1;
    for (int k = 0; k < w->row->arity; k++) w->in[k].stride[0] = 0;
  }
}

/* Elements of the last dimensions that operand k walks contiguously, when it does not change along all others; else 0.
 */
static int64_t period_of(const walk *w, int k) {
  int64_t dense = 1;
  int d = w->ndim - 1;
  for (; d >= 0 && w->in[k].stride[d] == dense; d--) dense *= w->dim[d];
  for (; d >= 0; d--)
    if (w->in[k].stride[d] != 0) return 0;
  return dense;
}

/* The length of the last dimension when operand k does not change along it and is contiguous otherwise; else 0. */
static int64_t repeats_of(const walk *w, int k) {
  int64_t dense = 1;
  if (w->in[k].stride[w->ndim - 1] != 0) return 0;
  for (int d = w->ndim - 2; d >= 0; d--) {
    if (w->in[k].stride[d] != dense) return 0;
    dense *= w->dim[d];
  }
  return w->dim[w->ndim - 1];
}

static access access_of(walk *w, int k) {
  mx_operand *o = &w->in[k];
  bool native = is_native(w->kind, o->dtype); /* rows ask of a truth whether it is 0 */
  int64_t last = o->stride[w->ndim - 1], period = period_of(w, k), repeats = repeats_of(w, k);
  if (!o->data) {
    mx_block_fill(&w->value[k], w->kind, o->value, 1);
    return SINGLE;
  }
  bool single = true;
  for (int d = 0; d < w->ndim; d++) single = single && o->stride[d] == 0;
  if (single) {
    mx_block_load(&w->value[k], w->kind, o->data, o->dtype, 0, o->truth, 1);
    return SINGLE;
  }
  if (period == w->n) return native ? DIRECT : LINEAR;
  if (native && (last == 0 || last == 1) && w->dim[w->ndim - 1] >= DIRECT_RUN) return RUNS;
  w->period[k] = period ? period : repeats;
  return period > 0 && period <= MX_ROW_BLOCK ? PERIODIC : repeats > 0 && repeats <= DIRECT_RUN ? REPEATED : GATHERED;
}

static void choose_access(walk *w) {
  bool any_runs = false, others = false;
  for (int k = 0; k < w->row->arity; k++) {
    w->how[k] = access_of(w, k);
    any_runs = any_runs || w->how[k] == RUNS;
    others = others || w->how[k] == LINEAR || w->how[k] > RUNS;
  }
  w->by_runs = any_runs && !others && is_native(w->kind, w->dtype) && !w->add;
}

/* Where element `begin` of the output is: indices, and the offset of each operand that needs them. */
typedef struct place {
  int64_t index[MX_MAX_NDIM], offset[MX_MAX_OPERANDS];
} place;

static void find_place(const walk *w, int64_t begin, place *p) {
  memset(p->offset, 0, sizeof(p->offset));
  for (int d = w->ndim - 1; d >= 0; d--) {
    p->index[d] = begin % w->dim[d];
    begin /= w->dim[d];
    for (int k = 0; k < w->row->arity; k++) p->offset[k] += p->index[d] * w->in[k].stride[d];
  }
}

/* Moves on by `step` elements, which do not leave the run of the last dimension. */
static void advance(const walk *w, int64_t step, place *p) {
  int d = w->ndim - 1;
  p->index[d] += step;
  for (int k = 0; k < w->row->arity; k++) p->offset[k] += step * w->in[k].stride[d];
  for (; d > 0 && p->index[d] == w->dim[d]; d--) {
    p->index[d] = 0;
    p->index[d - 1]++;
    for (int k = 0; k < w->row->arity; k++) p->offset[k] += w->in[k].stride[d - 1] - w->dim[d] * w->in[k].stride[d];
  }
}

/* Elements up to the end of the run, at most `most`. */
static int64_t run_length(const walk *w, const place *p, int64_t most) {
  int64_t rest = w->dim[w->ndim - 1] - p->index[w->ndim - 1];
  return rest < most ? rest : most;
}

/* Every operand is native and contiguous or single along the last dimension: one call a run. */
static void chunk_by_runs(const walk *w, int64_t begin, int64_t end) {
  place p;
  find_place(w, begin, &p);
  unsigned single = 0;
  for (int k = 0; k < w->row->arity; k++)
    if (w->how[k] == SINGLE || w->in[k].stride[w->ndim - 1] == 0) single |= 1u << k;
  for (int64_t i = begin; i < end;) {
    int64_t n = run_length(w, &p, end - i);
    const void *in[MX_MAX_OPERANDS];
    for (int k = 0; k < w->row->arity; k++)
      in[k] = w->how[k] == SINGLE ? (const void *)&w->value[k]
                                  : (const char *)w->in[k].data + (size_t)p.offset[k] * w->size;
    w->row->block[w->kind](w->out + (size_t)i * w->size, in, single, n);
    advance(w, n, &p);
    i += n;
  }
}

/* Fills block k with n elements from place `p` on (which is left as it was). */
static void gather(const walk *w, int k, const place *from, char *block, int64_t n) {
  const mx_operand *o = &w->in[k];
  place p = *from;
  int64_t last = o->stride[w->ndim - 1];
  for (int64_t done = 0; done < n;) {
    int64_t m = run_length(w, &p, n - done);
    mx_block_load(block + (size_t)done * w->size, w->kind,
                  (const char *)o->data + (size_t)p.offset[k] * mx_dtype_size(o->dtype), o->dtype, last, o->truth, m);
    advance(w, m, &p);
    done += m;
  }
}

/* Twice the pattern of a periodic operand and a block more, so that a block can begin anywhere in it. */
static void fill_periodic(const walk *w, int k, char *pattern) {
  const mx_operand *o = &w->in[k];
  int64_t period = w->period[k], have = period;
  mx_block_load(pattern, w->kind, o->data, o->dtype, 1, o->truth, period);
  while (have < period + MX_ROW_BLOCK) {
    int64_t more = have < period + MX_ROW_BLOCK - have ? have : period + MX_ROW_BLOCK - have;
    memcpy(pattern + (size_t)have * w->size, pattern, (size_t)more * w->size);
    have += more;
  }
}

/* Elements begin .. begin + n - 1 of an operand whose elements stand `period` times each. */
#define REPEAT(T)                                                                      \
  static void repeat_##T(T *d, const T *s, int64_t period, int64_t begin, int64_t n) { \
    int64_t at = 0, left = period - begin;                                             \
    for (int64_t i = 0; i < n; at++, left = period) {                                  \
      int64_t m = left < n - i ? left : n - i;                                         \
      for (const T v = s[at]; m > 0; m--) d[i++] = v;                                  \
    }                                                                                  \
  }
REPEAT(uint32_t)
REPEAT(uint64_t)

static void fill_repeated(const walk *w, int k, int64_t begin, char *block, int64_t n) {
  const mx_operand *o = &w->in[k];
  int64_t period = w->period[k], first = begin / period, count = (begin + n - 1) / period - first + 1;
  _Alignas(64) char element[MX_ROW_BLOCK * 8];
  mx_block_load(element, w->kind, (const char *)o->data + (size_t)first * mx_dtype_size(o->dtype), o->dtype, 1,
                o->truth, count);
  if (w->size == sizeof(uint32_t))
    repeat_uint32_t((uint32_t *)block, (const uint32_t *)element, period, begin % period, n);
  else
    repeat_uint64_t((uint64_t *)block, (const uint64_t *)element, period, begin % period, n);
}

/* Operand k for elements i .. i + n - 1 of the output, which begin at place `p`: where it is, or gathered in `block`.
 */
static const void *fetch(const walk *w, int k, int64_t i, int64_t n, const place *p, char *block) {
  const mx_operand *o = &w->in[k];
  switch (w->how[k]) {
    case SINGLE:
      return &w->value[k];
    case DIRECT:
      return (const char *)o->data + (size_t)i * w->size;
    case LINEAR:
      mx_block_load(block, w->kind, (const char *)o->data + (size_t)i * mx_dtype_size(o->dtype), o->dtype, 1, o->truth,
                    n);
      return block;
    case PERIODIC: /* filled once for the chunk */
      return block + (size_t)(i % w->period[k]) * w->size;
    case REPEATED:
      fill_repeated(w, k, i, block, n);
      return block;
    default:
      gather(w, k, p, block, n);
      return block;
  }
}

static void chunk_by_blocks(const walk *w, int64_t begin, int64_t end) {
  _Alignas(64) char block[MX_MAX_OPERANDS][2 * MX_ROW_BLOCK * 8], result[MX_ROW_BLOCK * 8];
  bool direct = is_native(w->kind, w->dtype) && !w->add;
  bool moves = false; /* some operand is gathered by place */
  unsigned single = 0;
  int64_t step = direct ? end - begin : MX_ROW_BLOCK;
  for (int k = 0; k < w->row->arity; k++) {
    moves = moves || w->how[k] == RUNS || w->how[k] == GATHERED;
    if (w->how[k] >= LINEAR) step = MX_ROW_BLOCK;
    if (w->how[k] == SINGLE) single |= 1u << k;
    if (w->how[k] == PERIODIC) fill_periodic(w, k, block[k]);
  }
  place p;
  if (moves) find_place(w, begin, &p);
  size_t out_size = mx_dtype_size(w->dtype);
  for (int64_t i = begin; i < end; i += step) {
    int64_t n = end - i < step ? end - i : step;
    const void *in[MX_MAX_OPERANDS];
    for (int k = 0; k < w->row->arity; k++) in[k] = fetch(w, k, i, n, &p, block[k]);
    char *out = w->out + (size_t)i * out_size;
    w->row->block[w->kind](direct ? out : result, in, single, n);
    if (!direct) mx_block_store(out, w->dtype, result, w->kind, w->add, n);
    for (int64_t left = moves ? n : 0; left > 0;) {
      int64_t m = run_length(w, &p, left);
      advance(w, m, &p);
      left -= m;
    }
  }
}

static void run_chunk(walk *w, bool same_bytes, int64_t i) {
  int64_t begin = i * CHUNK, end = begin + CHUNK < w->n ? begin + CHUNK : w->n;
  size_t size = mx_dtype_size(w->dtype);
  if (same_bytes)
    memcpy(w->out + (size_t)begin * size, (const char *)w->in[0].data + (size_t)begin * size,
           (size_t)(end - begin) * size);
  else if (w->by_runs)
    chunk_by_runs(w, begin, end);
  else
    chunk_by_blocks(w, begin, end);
}

void mx_row_apply(const mx_row *row, const mx_operand *in, const mx_shape *shape, void *out, mx_dtype dtype, bool add) {
  static const size_t sizes[MX_KINDS] = {sizeof(float), sizeof(double), sizeof(int64_t)};
  walk w = {.row = row, .kind = mx_row_kind(row, dtype), .dtype = dtype, .add = add, .out = out};
  w.size = sizes[w.kind];
  memcpy(w.in, in, (size_t)row->arity * sizeof(*in));
  merge_dims(&w, shape);
  if (w.n == 0) return;
  choose_access(&w);
  bool same_bytes =
      row == &mx_rows[MX_ROW_copy] && in->dtype == dtype && !add && w.how[0] != SINGLE && w.how[0] <= LINEAR;
  if (same_bytes && in->data == out) return;
  int64_t chunks = (w.n + CHUNK - 1) / CHUNK;
  if (chunks == 1) { /* entering a parallel region costs more than a small array */
    run_chunk(&w, same_bytes, 0);
    return;
  }
#pragma omp parallel for num_threads(mx_threads_for(w.n, MX_GRAIN))
  for (int64_t i = 0; i < chunks; i++) run_chunk(&w, same_bytes, i);
}
