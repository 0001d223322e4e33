/* Reductions that look for a place, and those that count: argmax, argmin, argmax_channel, _histogram, all_finite,
 * multi_all_finite, multi_sum_sq, cumsum. */
#pragma GCC optimize("no-trapping-math", "O3") /* O3: short loops inside of vector loops are unrolled */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/manipulate.h"
#include "ops/reduce.h"
#include "ops/scalar.h"

#define FAMILY "Reduction"

/* An array seen as (outer, length, inner) around one axis; a missing axis is all of it. */
typedef struct around {
  int64_t outer, length, inner;
} around;

static around around_axis(const mx_shape *s, int axis) {
  if (axis < 0) return (around){1, mx_shape_size(s), 1};
  return (around){mx_shape_prod(s, 0, axis), s->dim[axis], mx_shape_prod(s, axis + 1, s->ndim)};
}

/* ---- argmax, argmin ---- */

typedef struct arg_params {
  mx_opt_int axis;
  bool keepdims;
} arg_params;

static const mx_param arg_table[] = {
    MX_P_OPT_INT(arg_params, axis, "None", MX_ANY,
                 "Axis to search; negative ones count from the end. None: all elements."),
    MX_P_BOOL(arg_params, keepdims, "False", "Whether reduced axes stay as dimensions of 1."), MX_P_END};

static mx_status arg_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const arg_params *p = params;
  if (in[0].ndim < 0) return MX_OK;
  bool reduced[MX_MAX_NDIM];
  mx_shape axis = {.ndim = 0};
  if (p->axis.given) axis = mx_shape_of(p->axis.value);
  MX_TRY(mx_reduce_axes(&axis, false, in[0].ndim, reduced, err));
  mx_shape s = mx_reduce_shape(&in[0], reduced, p->keepdims);
  return mx_shape_merge(&out[0], &s, "output", err);
}

enum {
  LANES = 64,  /* columns that a contiguous run is seen as */
  GROUP = 8,   /* rows whose best is found before where it is matters */
  STRIP = 128, /* columns between which rows that come next are fetched */
  COLUMNS = 4096
};

/* The first of equal elements wins, and the first NaN over everything. What is remembered in the loops is the group of
 * rows that the best element is in; I is an integer as wide as T.
 * NAME_columns: best[j] and group[j] of neighbouring columns, with more rows, in groups from `first` on.
 * NAME_lane: the first group with the best of them all, which becomes best[0].
 * NAME_same: the place of the first of n elements that is best[0]. */
#define BEATS(WORSE, a, b) (!(a WORSE b) & (b == b)) /* NaN is not worse than anything */
#define SEARCH(name, T, I, BETTER, WORSE)                                                                             \
  MX_INLINE void name##_group_##T(T *best, I *group, const T *x, int64_t rows, int64_t stride, int64_t n, I number) { \
    T top[STRIP];                                                                                                     \
    if (rows == GROUP) {                                                                                              \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                           \
        T a = x[j];                                                                                                   \
        for (int k = 1; k < GROUP; k++) {                                                                             \
          T c = x[j + k * stride];                                                                                    \
          a = c BETTER a || c != c ? c : a;                                                                           \
        }                                                                                                             \
        top[j] = a;                                                                                                   \
      }                                                                                                               \
    } else {                                                                                                          \
      memcpy(top, x, (size_t)n * sizeof(T));                                                                          \
      for (int64_t k = 1; k < rows; k++) {                                                                            \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                         \
          T a = top[j], c = x[j + k * stride];                                                                        \
          top[j] = c BETTER a || c != c ? c : a;                                                                      \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                             \
      T a = top[j], b = best[j];                                                                                      \
      int better = BEATS(WORSE, a, b);                                                                                \
      best[j] = better ? a : b;                                                                                       \
      group[j] = better ? number : group[j];                                                                          \
    }                                                                                                                 \
  }                                                                                                                   \
  MX_CLONES static void name##_columns_##T(void *best_, void *group_, const void *x_, int64_t rows, int64_t stride,   \
                                           int64_t n, int64_t first) {                                                \
    T *best = best_;                                                                                                  \
    I *group = group_;                                                                                                \
    for (int64_t i = 0; i < rows; i += GROUP, first++) {                                                              \
      const T *x = (const T *)x_ + i * stride;                                                                        \
      const int64_t all = rows - i < GROUP ? rows - i : GROUP;                                                        \
      mx_ahead ahead = mx_ahead_of(x + (n == LANES ? 2 : 1) * GROUP * stride, n, stride, sizeof(T));                  \
      for (int64_t j = 0; j < n; j += STRIP) {                                                                        \
        const int64_t width = n - j < STRIP ? n - j : STRIP;                                                          \
        mx_ahead_fetch(&ahead, width *all *(int64_t)sizeof(T));                                                       \
        name##_group_##T(best + j, group + j, x + j, all, stride, width, (I)first);                                   \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
  MX_CLONES static int64_t name##_lane_##T(void *best_, void *group_) {                                               \
    T *best = best_;                                                                                                  \
    I *group = group_;                                                                                                \
    for (int half = LANES / 2; half > 0; half /= 2) {                                                                 \
      _Pragma("omp simd") for (int j = 0; j < half; j++) {                                                            \
        T a = best[j + half], b = best[j];                                                                            \
        I at = group[j + half], here = group[j];                                                                      \
        int better = BEATS(WORSE, a, b) | (!BEATS(WORSE, b, a) & (at < here));                                        \
        best[j] = better ? a : b;                                                                                     \
        group[j] = better ? at : here;                                                                                \
      }                                                                                                               \
    }                                                                                                                 \
    return (int64_t)group[0];                                                                                         \
  }                                                                                                                   \
  MX_CLONES static int64_t name##_same_##T(const void *best_, const void *x_, int64_t n, int64_t stride) {            \
    const T best = *(const T *)best_, *x = x_;                                                                        \
    int64_t i = 0;                                                                                                    \
    for (int found = 0; stride == 1 && i + LANES <= n; i += LANES) {                                                  \
      _Pragma("omp simd reduction(| : found)") for (int j = 0; j < LANES; j++) {                                      \
        T a = x[i + j];                                                                                               \
        found |= (a == best) | ((a != a) & (best != best));                                                           \
      }                                                                                                               \
      if (found) break;                                                                                               \
    }                                                                                                                 \
    while (i < n - 1 && x[i * stride] != best && !(x[i * stride] != x[i * stride] && best != best)) i++;              \
    return i;                                                                                                         \
  }
SEARCH(largest, float, uint32_t, >, <=)
SEARCH(largest, double, uint64_t, >, <=)
SEARCH(largest, int64_t, uint64_t, >, <=)
SEARCH(smallest, float, uint32_t, <, >=)
SEARCH(smallest, double, uint64_t, <, >=)
SEARCH(smallest, int64_t, uint64_t, <, >=)

typedef struct search {
  void (*columns)(void *best, void *group, const void *x, int64_t rows, int64_t stride, int64_t n, int64_t first);
  int64_t (*lane)(void *best, void *group);
  int64_t (*same)(const void *best, const void *x, int64_t n, int64_t stride);
} search;
#define FUNCTIONS(name)                                                    \
  {                                                                        \
    {name##_columns_float, name##_lane_float, name##_same_float},          \
        {name##_columns_double, name##_lane_double, name##_same_double}, { \
      name##_columns_int64_t, name##_lane_int64_t, name##_same_int64_t     \
    }                                                                      \
  }
static const search searches[2][MX_KINDS] = {FUNCTIONS(largest), FUNCTIONS(smallest)};

static mx_kind kind_of(mx_dtype t) {
  return t == MX_FLOAT64 ? MX_KIND_DOUBLE : mx_dtype_is_float(t) ? MX_KIND_FLOAT : MX_KIND_INT;
}

static bool is_native(mx_dtype t) { return t == MX_FLOAT32 || t == MX_FLOAT64 || t == MX_INT64; }

/* n elements of x in their kind: where they are, or converted into `block`. */
static const void *in_kind(const mx_tensor *x, int64_t at, int64_t n, mx_kind kind, void *block) {
  const char *data = (const char *)x->data + (size_t)at * mx_dtype_size(x->dtype);
  if (is_native(x->dtype)) return data;
  mx_block_load(block, kind, data, x->dtype, 1, false, n);
  return block;
}

/* Writes places as numbers of the output's dtype. */
static void store_places(const mx_call *c, int64_t first, const int64_t *where, int64_t n) {
  _Alignas(64) char block[MX_ROW_BLOCK * 8];
  const mx_tensor *out = &c->out[0];
  mx_kind kind = kind_of(out->dtype);
  mx_block_load(block, kind, where, MX_INT64, 1, false, n);
  mx_block_store((char *)out->data + (size_t)first * mx_dtype_size(out->dtype), out->dtype, block, kind,
                 c->req[0] == MX_ADD, n);
}

/* The place of the best of n neighbours, from element `at` on: columns of LANES, in blocks that are groups of rows. */
static int64_t search_run(const mx_tensor *x, int which, int64_t at, int64_t n) {
  _Alignas(64) char best[LANES * 8], group[LANES * 8] = {0}, block[GROUP * LANES * 8];
  const mx_kind kind = kind_of(x->dtype);
  const search *f = &searches[which][kind];
  const int64_t lanes = n < LANES ? n : LANES, step = is_native(x->dtype) ? n : GROUP * LANES;
  const size_t size = kind == MX_KIND_FLOAT ? sizeof(float) : 8;
  const char *data = in_kind(x, at, lanes, kind, block);
  for (int64_t i = 0; i < LANES; i += lanes)
    memcpy(best + (size_t)i * size, data, (size_t)(LANES - i < lanes ? LANES - i : lanes) * size);
  for (int64_t i = 0; i < n; i += step) {
    const int64_t m = n - i < step ? n - i : step, rows = m / LANES, rest = m % LANES;
    data = in_kind(x, at + i, m, kind, block);
    f->columns(best, group, data, rows, LANES, LANES, i / (GROUP * LANES));
    data += (size_t)(rows * LANES) * size;
    f->columns(best, group, data, 1, LANES, rest, i / (GROUP * LANES) + rows / GROUP);
  }
  const int64_t from = f->lane(best, group) * GROUP * LANES, m = n - from < GROUP * LANES ? n - from : GROUP * LANES;
  return from + f->same(best, in_kind(x, at + from, m, kind, block), m, 1);
}

/* The same in each of `width` columns of n rows; converted rows are groups of one. */
static void search_columns(const mx_tensor *x, int which, int64_t at, int64_t n, int64_t stride, int64_t width,
                           int64_t *where) {
  _Alignas(64) char best[COLUMNS * 8], group[COLUMNS * 8], block[MX_ROW_BLOCK * 8];
  const mx_kind kind = kind_of(x->dtype);
  const search *f = &searches[which][kind];
  const size_t size = kind == MX_KIND_FLOAT ? sizeof(float) : 8;
  const bool native = is_native(x->dtype);
  const int64_t step = native ? width : MX_ROW_BLOCK, together = native ? GROUP : 1;
  memset(group, 0, (size_t)width * size);
  for (int64_t j = 0; j < width; j += step) {
    const int64_t m = width - j < step ? width - j : step;
    char *best_j = best + (size_t)j * size, *group_j = group + (size_t)j * size;
    memcpy(best_j, in_kind(x, at + j, m, kind, block), (size_t)m * size);
    if (native)
      f->columns(best_j, group_j, in_kind(x, at, m, kind, block), n, stride, m, 0);
    else
      for (int64_t i = 1; i < n; i++)
        f->columns(best_j, group_j, in_kind(x, at + i * stride + j, m, kind, block), 1, stride, m, i);
  }
  for (int64_t j = 0; j < width; j++) {
    const int64_t g = kind == MX_KIND_FLOAT ? ((uint32_t *)group)[j] : (int64_t)((uint64_t *)group)[j];
    const int64_t from = g * together, m = n - from < together ? n - from : together;
    where[j] = from;
    if (native)
      where[j] += f->same(best + (size_t)j * size, in_kind(x, at + from * stride + j, 1, kind, block), m, stride);
  }
}

static mx_status arg_search(const mx_call *c, int which, int axis) {
  const mx_tensor *x = &c->in[0];
  if (c->req[0] == MX_NULL) return MX_OK;
  around a = around_axis(&x->shape, axis);
  if (a.length == 0) { /* nothing to find: place 0 */
    static const int64_t zeros[MX_ROW_BLOCK];
    for (int64_t i = 0, n = a.outer * a.inner; i < n; i += MX_ROW_BLOCK)
      store_places(c, i, zeros, n - i < MX_ROW_BLOCK ? n - i : MX_ROW_BLOCK);
    return MX_OK;
  }
  const int threads = mx_threads_for(a.outer * a.length * a.inner, MX_GRAIN);
  int64_t strip = ((a.inner + threads - 1) / threads + STRIP - 1) / STRIP * STRIP; /* wide, but one for each thread */
  strip = strip > COLUMNS ? COLUMNS : strip < 1 ? 1 : strip;
  const int64_t strips = (a.inner + strip - 1) / strip;
#pragma omp parallel for num_threads(threads)
  for (int64_t u = 0; u < a.outer * strips; u++) {
    int64_t o = u / strips, col = u % strips * strip, width = a.inner - col < strip ? a.inner - col : strip;
    int64_t where[COLUMNS], first = o * a.inner + col;
    if (a.inner == 1)
      where[0] = search_run(x, which, o * a.length, a.length);
    else
      search_columns(x, which, o * a.length * a.inner + col, a.length, a.inner, width, where);
    for (int64_t i = 0; i < width; i += MX_ROW_BLOCK)
      store_places(c, first + i, where + i, width - i < MX_ROW_BLOCK ? width - i : MX_ROW_BLOCK);
  }
  return MX_OK;
}

static mx_status arg_kernel(const mx_call *c, int which, mx_error *err) {
  const arg_params *p = c->params;
  int axis = -1;
  if (p->axis.given) MX_TRY(mx_axis_resolve(p->axis.value, c->in[0].shape.ndim, &axis, err));
  return arg_search(c, which, axis);
}
static mx_status argmax_kernel(const mx_call *c, mx_error *err) { return arg_kernel(c, 0, err); }
static mx_status argmin_kernel(const mx_call *c, mx_error *err) { return arg_kernel(c, 1, err); }

static mx_status channel_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const arg_params p = {.axis = {true, -1}};
  return arg_infer(&p, in, n_in, out, n_out, err);
}
static mx_status channel_kernel(const mx_call *c, mx_error *err) { return arg_search(c, 0, c->in[0].shape.ndim - 1); }

/* ---- cumsum ---- */

typedef struct cumsum_params {
  mx_opt_int axis;
  mx_dtype dtype;
} cumsum_params;

static const mx_param cumsum_table[] = {
    MX_P_OPT_INT(cumsum_params, axis, "None", MX_ANY,
                 "Axis along which to add; negative ones count from the end. None: all elements in their order, as a "
                 "vector."),
    MX_P_DTYPE(cumsum_params, dtype, "None",
               MX_STRINGS("None", "float16", "float32", "float64", "int32", "int64", "int8"),
               "dtype of the result; None: that of a."),
    MX_P_END};

static mx_status cumsum_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const cumsum_params *p = params;
  int axis;
  if (p->axis.given) {
    MX_TRY(mx_layer_unify(&in[0], &out[0], "output", err));
    return in[0].ndim < 0 ? MX_OK : mx_axis_resolve(p->axis.value, in[0].ndim, &axis, err);
  }
  if (!mx_shape_known(&in[0])) return MX_OK;
  mx_shape flat = mx_shape_of(mx_shape_size(&in[0]));
  return mx_shape_merge(&out[0], &flat, "output", err);
}

static mx_status cumsum_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = ((const cumsum_params *)params)->dtype;
  if (t == MX_DTYPE_UNKNOWN) return mx_dtype_unify(&in[0], &out[0], "output", err);
  return mx_dtype_unify(&t, &out[0], "output", err);
}

/* x[i][j] = sum[j] += x[i][j] for rows i, one after the other or from the last one on. */
#define SUM_ROWS(T)                                                                               \
  MX_CLONES static void sum_rows_##T(T *sum, T *x, int64_t rows, int64_t width, bool backwards) { \
    if (width == 1) { /* the sum in a register */                                                 \
      T total = *sum;                                                                             \
      if (backwards)                                                                              \
        for (int64_t i = rows - 1; i >= 0; i--) x[i] = total += x[i];                             \
      else                                                                                        \
        for (int64_t i = 0; i < rows; i++) x[i] = total += x[i];                                  \
      *sum = total;                                                                               \
      return;                                                                                     \
    }                                                                                             \
    for (int64_t i = 0; i < rows; i++) {                                                          \
      T *row = x + (backwards ? rows - 1 - i : i) * width;                                        \
      _Pragma("omp simd") for (int64_t j = 0; j < width; j++) row[j] = sum[j] += row[j];          \
    }                                                                                             \
  }
SUM_ROWS(double)
SUM_ROWS(uint64_t) /* wraps */

/* Sums along the axis of x, forwards or backwards, in double or int64_t. */
static void cumulate(const mx_call *c, around a, bool backwards) {
  const mx_tensor *x = &c->in[0], *y = &c->out[0];
  bool real = mx_dtype_is_float(y->dtype) || mx_dtype_is_float(x->dtype);
  mx_kind kind = real ? MX_KIND_DOUBLE : MX_KIND_INT;
  bool narrow = kind_of(y->dtype) == MX_KIND_FLOAT; /* the sums become floats before they are stored */
  size_t in_size = mx_dtype_size(x->dtype), out_size = mx_dtype_size(y->dtype);
  int64_t strips = (a.inner + MX_ROW_BLOCK - 1) / MX_ROW_BLOCK;
  int64_t rows = a.inner && a.inner < MX_ROW_BLOCK ? MX_ROW_BLOCK / a.inner : 1; /* in a block */
#pragma omp parallel for num_threads(mx_threads_for(a.outer *a.length *a.inner, MX_GRAIN))
  for (int64_t u = 0; u < a.outer * strips; u++) {
    _Alignas(64) char sum[MX_ROW_BLOCK * 8], block[MX_ROW_BLOCK * 8], converted[MX_ROW_BLOCK * 8];
    int64_t col = u % strips * MX_ROW_BLOCK;
    int64_t width = a.inner - col < MX_ROW_BLOCK ? a.inner - col : MX_ROW_BLOCK;
    int64_t base = u / strips * a.length * a.inner + col;
    memset(sum, 0, sizeof(sum));
    for (int64_t done = 0; done < a.length; done += rows) {
      int64_t n = a.length - done < rows ? a.length - done : rows;
      int64_t at = base + (backwards ? a.length - done - n : done) * a.inner;
      mx_block_load(block, kind, (const char *)x->data + (size_t)at * in_size, x->dtype, 1, false, n * width);
      if (real)
        sum_rows_double((double *)sum, (double *)block, n, width, backwards);
      else
        sum_rows_uint64_t((uint64_t *)sum, (uint64_t *)block, n, width, backwards);
      if (narrow) mx_block_load(converted, MX_KIND_FLOAT, block, MX_FLOAT64, 1, false, n * width);
      mx_block_store((char *)y->data + (size_t)at * out_size, y->dtype, narrow ? converted : block,
                     narrow ? MX_KIND_FLOAT : kind, c->req[0] == MX_ADD, n * width);
    }
  }
}

static mx_status cumsum_run(const mx_call *c, const mx_shape *shape, bool backwards, mx_error *err) {
  const cumsum_params *p = c->params;
  int axis = -1;
  if (p->axis.given) MX_TRY(mx_axis_resolve(p->axis.value, shape->ndim, &axis, err));
  if (c->req[0] != MX_NULL) cumulate(c, around_axis(shape, axis), backwards);
  return MX_OK;
}
static mx_status cumsum_kernel(const mx_call *c, mx_error *err) { return cumsum_run(c, &c->in[0].shape, false, err); }

/* The gradient: sums from the end, in the shape and dtype of a, which is the second input. */
static mx_status cumsum_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0] || !g->out_grad[0].node || !mx_dtype_is_float(g->in_dtype[0])) return MX_OK;
  return mx_grad_backward(g, "_backward_cumsum", (const mx_entry[]){g->out_grad[0], g->in[0]}, 2, &g->in_grad[0], err);
}
static mx_status cumsum_backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                       mx_error *err) {
  return mx_shape_merge(&out[0], &in[1], "output", err);
}
static mx_status cumsum_backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                       mx_error *err) {
  return mx_dtype_unify(&in[1], &out[0], "output", err);
}
static mx_status cumsum_backward(const mx_call *c, mx_error *err) { return cumsum_run(c, &c->out[0].shape, true, err); }

/* ---- _histogram ---- */

typedef struct histogram_params {
  mx_opt_int bin_cnt;
  mx_floats range;
} histogram_params;

static const mx_param histogram_table[] = {
    MX_P_OPT_INT(histogram_params, bin_cnt, "None", 1, INT32_MAX,
                 "Number of bins of equal width; None: bins are given."),
    MX_P_FLOATS(histogram_params, range, "()", MX_ANY, "Ends of the first and the last bin; only with bin_cnt."),
    MX_P_END};

static mx_status histogram_check(void *params, mx_error *err) {
  const histogram_params *p = params;
  if (!p->bin_cnt.given || (p->range.n == 2 && p->range.v[0] < p->range.v[1])) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "bin_cnt needs a range of two numbers, the smaller one first.");
  mx_error_set(err, argument, "range");
  return MX_ERR_VALUE;
}

static int histogram_inputs(const void *params) { return ((const histogram_params *)params)->bin_cnt.given ? 1 : 2; }

static mx_status histogram_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const histogram_params *p = params;
  int64_t bins = p->bin_cnt.given ? p->bin_cnt.value : MX_DIM_UNKNOWN;
  if (n_in > 1) {
    mx_shape edges = mx_shape_of(MX_DIM_UNKNOWN);
    MX_TRY(mx_layer_unify(&edges, &in[1], "bins", err));
    if (edges.dim[0] == MX_DIM_UNKNOWN) return MX_OK;
    bins = edges.dim[0] - 1;
    if (bins < 1) return mx_fail(err, MX_ERR_SHAPE, "bins has %lld numbers, but two are needed.", (long long)bins + 1);
  }
  mx_shape counts = mx_shape_of(bins), edges = mx_shape_of(bins + 1);
  MX_TRY(mx_shape_merge(&out[0], &counts, "output0", err));
  return mx_shape_merge(&out[1], &edges, "output1", err);
}

static mx_status histogram_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype counts = MX_INT64;
  MX_TRY(mx_dtype_unify(&counts, &out[0], "output0", err));
  if (n_in > 1) MX_TRY(mx_dtype_unify(&in[0], &in[1], "bins", err));
  return mx_dtype_unify(&in[0], &out[1], "output1", err);
}

/* The bin of v between edges[0] and edges[bins]: the last one that begins at or before it; the very end belongs to the
 * last bin. -1: outside. `per_unit` bins of equal width lie in an interval of 1; 0: any widths. */
static int64_t bin_of(double v, const double *edges, int64_t bins, double per_unit) {
  if (!(v >= edges[0] && v <= edges[bins])) return -1;
  int64_t low = 0, high = bins;
  if (per_unit > 0) { /* bins of equal width: rounding may have put the place in the next one */
    low = (int64_t)((v - edges[0]) * per_unit);
    if (low >= bins) low = bins - 1;
    while (low > 0 && v < edges[low]) low--;
    while (low < bins - 1 && v >= edges[low + 1]) low++;
    return low;
  }
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (v >= edges[middle])
      low = middle;
    else
      high = middle;
  }
  return low;
}

static mx_status histogram_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = (size_t)mx_shape_size(&c->out[1].shape) * sizeof(double);
  return MX_OK;
}

static mx_status histogram_kernel(const mx_call *c, mx_error *err) {
  const histogram_params *p = c->params;
  const mx_tensor *x = &c->in[0], *out = &c->out[1];
  int64_t *counts = c->out[0].data, n = mx_shape_size(&x->shape), n_edges = mx_shape_size(&out->shape);
  double *edges = c->workspace, per_unit = 0;
  if (p->bin_cnt.given) {
    double first = p->range.v[0], last = p->range.v[1];
    for (int64_t i = 0; i < n_edges; i++) edges[i] = first + (last - first) * (double)i / (double)(n_edges - 1);
    per_unit = (double)(n_edges - 1) / (last - first);
    if (!isnormal(per_unit)) per_unit = 0;
  } else {
    mx_block_load(edges, MX_KIND_DOUBLE, c->in[1].data, c->in[1].dtype, 1, false, n_edges);
  }
  if (c->req[1] != MX_NULL) {
    const mx_operand o = {.data = edges, .dtype = MX_FLOAT64, .stride = {1}};
    mx_row_apply(&mx_rows[MX_ROW_copy], &o, &out->shape, out->data, out->dtype, false);
  }
  if (c->req[0] == MX_NULL) return MX_OK;
  memset(counts, 0, (size_t)(n_edges - 1) * sizeof(*counts));
  for (int64_t begin = 0; begin < n; begin += MX_ROW_BLOCK) {
    double block[MX_ROW_BLOCK];
    int64_t m = n - begin < MX_ROW_BLOCK ? n - begin : MX_ROW_BLOCK;
    mx_block_load(block, MX_KIND_DOUBLE, (const char *)x->data + (size_t)begin * mx_dtype_size(x->dtype), x->dtype, 1,
                  false, m);
    for (int64_t i = 0; i < m; i++) {
      int64_t bin = bin_of(block[i], edges, n_edges - 1, per_unit);
      if (bin >= 0) counts[bin]++;
    }
  }
  return MX_OK;
}

/* ---- all_finite, multi_all_finite, multi_sum_sq ---- */

typedef struct finite_params {
  bool init_output;
} finite_params;
static const mx_param finite_table[] = {
    MX_P_BOOL(finite_params, init_output, "True", "Whether the output is set; otherwise it only changes from 1 to 0."),
    MX_P_END};

typedef struct multi_finite_params {
  int64_t num_arrays;
  bool init_output;
} multi_finite_params;
static const mx_param multi_finite_table[] = {
    MX_P_INT(multi_finite_params, num_arrays, "1", 1, INT32_MAX, "Number of arrays."),
    MX_P_BOOL(multi_finite_params, init_output, "True",
              "Whether the output is set; otherwise it only changes from 1 to 0."),
    MX_P_END};

typedef struct sum_sq_params {
  int64_t num_arrays;
} sum_sq_params;
static const mx_param sum_sq_table[] = {MX_P_INT(sum_sq_params, num_arrays, NULL, 1, INT32_MAX, "Number of arrays."),
                                        MX_P_END};

static int multi_finite_inputs(const void *params) { return (int)((const multi_finite_params *)params)->num_arrays; }
static int sum_sq_inputs(const void *params) { return (int)((const sum_sq_params *)params)->num_arrays; }

static void array_name(const void *params, int i, char *buf, size_t size) { snprintf(buf, size, "array_%d", i); }

static mx_status flag_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape one = mx_shape_of(1);
  return mx_shape_merge(&out[0], &one, "output", err);
}
static mx_status sum_sq_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape s = mx_shape_of(n_in);
  return mx_shape_merge(&out[0], &s, "output", err);
}
/* float32 from arrays of any floating-point dtype. */
static mx_status to_float_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_in; i++) {
    if (in[i] == MX_DTYPE_UNKNOWN || mx_dtype_is_float(in[i])) continue;
    mx_fail(err, MX_ERR_TYPE, "Array %d is %s, but floating-point numbers are expected.", i, mx_dtype_name(in[i]));
    mx_error_set(err, expected, "float32, float64 or float16");
    mx_error_set(err, actual, "%s", mx_dtype_name(in[i]));
    return MX_ERR_TYPE;
  }
  mx_dtype t = MX_FLOAT32;
  return mx_dtype_unify(&t, &out[0], "output", err);
}

#define COUNT_BAD(name, T, BAD)                                                              \
  MX_CLONES static int64_t bad_##name(const T *x, int64_t n) {                               \
    int64_t bad = 0;                                                                         \
    _Pragma("omp simd reduction(+ : bad)") for (int64_t i = 0; i < n; i++) bad += BAD(x[i]); \
    return bad;                                                                              \
  }
#define BAD_FLOAT(v) !(fabsf(v) <= FLT_MAX)
#define BAD_DOUBLE(v) !(fabs(v) <= DBL_MAX)
#define BAD_HALF(v) (((v)&0x7c00u) == 0x7c00u)
COUNT_BAD(float, float, BAD_FLOAT)
COUNT_BAD(double, double, BAD_DOUBLE)
COUNT_BAD(half, uint16_t, BAD_HALF)

static bool all_finite(const mx_tensor *x) {
  const int64_t block = 65536, n = mx_shape_size(&x->shape), blocks = (n + block - 1) / block;
  const size_t size = mx_dtype_size(x->dtype);
  int64_t bad = 0;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN)) reduction(+ : bad)
  for (int64_t b = 0; b < blocks; b++) {
    const void *p = (const char *)x->data + (size_t)(b * block) * size;
    int64_t m = n - b * block < block ? n - b * block : block;
    bad += x->dtype == MX_FLOAT64 ? bad_double(p, m) : x->dtype == MX_FLOAT32 ? bad_float(p, m) : bad_half(p, m);
  }
  return bad == 0;
}

static mx_status finite_run(const mx_call *c, bool init_output) {
  float *out = c->out[0].data;
  bool ok = init_output || *out != 0;
  for (int i = 0; i < c->n_in && ok; i++) ok = all_finite(&c->in[i]);
  if (c->req[0] != MX_NULL) *out = ok;
  return MX_OK;
}
static mx_status finite_kernel(const mx_call *c, mx_error *err) {
  return finite_run(c, ((const finite_params *)c->params)->init_output);
}
static mx_status multi_finite_kernel(const mx_call *c, mx_error *err) {
  return finite_run(c, ((const multi_finite_params *)c->params)->init_output);
}

static mx_reduce sum_sq_of(const mx_call *c, int i) {
  return (mx_reduce){.row = MX_REDUCE__square_sum,
                     .shape = mx_shape_of(mx_shape_size(&c->in[i].shape)),
                     .reduced = {true},
                     .in_dtype = c->in[i].dtype,
                     .out_dtype = MX_FLOAT32};
}
static mx_status sum_sq_prepare(mx_call *c, mx_error *err) {
  for (int i = 0; i < c->n_in; i++) {
    mx_reduce r = sum_sq_of(c, i);
    size_t bytes = mx_reduce_workspace(&r);
    if (bytes > c->workspace_bytes) c->workspace_bytes = bytes;
  }
  return MX_OK;
}
static mx_status sum_sq_kernel(const mx_call *c, mx_error *err) {
  for (int i = 0; i < c->n_in && c->req[0] != MX_NULL; i++) {
    mx_reduce r = sum_sq_of(c, i);
    mx_reduce_run(&r, c->in[i].data, (float *)c->out[0].data + i, c->req[0] == MX_ADD, NULL, c->workspace);
  }
  return MX_OK;
}
/* Twice the array times its element of the head. */
static mx_status sum_sq_gradient(mx_grad *g, mx_error *err) {
  for (int i = 0; i < g->n_in && g->out_grad[0].node; i++) {
    if (!g->wanted[i] || mx_shape_size(&g->in_shape[i]) == 0) continue;
    char begin[16], end[16], ones[MX_SHAPE_TEXT];
    mx_shape one = {.ndim = g->in_shape[i].ndim};
    mx_entry pair[2] = {g->in[i], g->out_grad[0]}, *factor = &pair[1];
    for (int d = 0; d < one.ndim; d++) one.dim[d] = 1;
    snprintf(begin, sizeof(begin), "%d", i);
    snprintf(end, sizeof(end), "%d", i + 1);
    const char *const slice[] = {"axis", "0", "begin", begin, "end", end, NULL};
    MX_TRY(mx_grad_call(g, "slice_axis", slice, factor, 1, factor, err));
    MX_TRY(mx_grad_call(g, "Reshape", (const char *const[]){"shape", mx_shape_text(&one, ones), NULL}, factor, 1,
                        factor, err));
    MX_TRY(mx_grad_call(g, "Cast", (const char *const[]){"dtype", mx_dtype_name(g->in_dtype[i]), NULL}, factor, 1,
                        factor, err));
    MX_TRY(mx_grad_call(g, "_mul_scalar", (const char *const[]){"scalar", "2", NULL}, factor, 1, factor, err));
    MX_TRY(mx_grad_call(g, "broadcast_mul", NULL, pair, 2, &g->in_grad[i], err));
  }
  return MX_OK;
}

/* ---- records ---- */

#define ARG_RECORD                                                                                              \
  .family = FAMILY, .in_doc = MX_STRINGS("Any shape."), .params = arg_table, .params_size = sizeof(arg_params), \
  .n_in = 1, .n_out = 1, .infer_shape = arg_infer, .flags = MX_OP_ADDS

const mx_op mx_ops_reduce_index[] = {
    {.name = "argmax",
     ARG_RECORD,
     .doc = "Place of the largest element along an axis: counted from 0, in the dtype of data. The first of equal "
            "elements "
            "wins, and the first NaN over everything.",
     .kernel = argmax_kernel},
    {.name = "argmin",
     ARG_RECORD,
     .doc = "Place of the smallest element along an axis: counted from 0, in the dtype of data. The first of equal "
            "elements "
            "wins, and the first NaN over everything.",
     .kernel = argmin_kernel},
    {.name = "argmax_channel",
     .family = FAMILY,
     .doc = "Place of the largest element along the last axis, counted from 0.",
     .in_doc = MX_STRINGS("(..., channels)."),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = channel_infer,
     .flags = MX_OP_ADDS,
     .kernel = channel_kernel},
    {.name = "_np_cumsum",
     .aliases = MX_STRINGS("cumsum"),
     .family = FAMILY,
     .doc = "Cumulative sums along an axis: element i is the sum of the elements 0 .. i.",
     .in_doc = MX_STRINGS("Any shape."),
     .in_names = MX_STRINGS("a"),
     .params = cumsum_table,
     .params_size = sizeof(cumsum_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = cumsum_infer,
     .infer_dtype = cumsum_dtype,
     .gradient = cumsum_gradient,
     .flags = MX_OP_ADDS,
     .kernel = cumsum_kernel},
    {.name = "_backward_cumsum",
     .family = FAMILY,
     .doc = "Gradient of cumsum.",
     .params = cumsum_table,
     .params_size = sizeof(cumsum_params),
     .n_in = 2,
     .n_out = 1,
     .infer_shape = cumsum_backward_infer,
     .infer_dtype = cumsum_backward_dtype,
     .flags = MX_OP_ADDS | MX_OP_HIDDEN,
     .kernel = cumsum_backward},
    {.name = "_histogram",
     .family = FAMILY,
     .doc =
         "Counts of elements in bins, and the edges of the bins. A bin holds its lower edge; the last one holds both. "
         "Elements outside and NaN are not counted.",
     .in_doc = MX_STRINGS("Any shape.", "(bins + 1,), increasing; absent when bin_cnt is given."),
     .in_names = MX_STRINGS("data", "bins"),
     .params = histogram_table,
     .params_size = sizeof(histogram_params),
     .check = histogram_check,
     .n_in = 2,
     .n_out = 2,
     .count_in = histogram_inputs,
     .infer_shape = histogram_infer,
     .infer_dtype = histogram_dtype,
     .prepare = histogram_prepare,
     .kernel = histogram_kernel},
    {.name = "all_finite",
     .family = FAMILY,
     .doc = "1 when every element is finite, 0 when there is an infinity or NaN.",
     .in_doc = MX_STRINGS("Any shape."),
     .params = finite_table,
     .params_size = sizeof(finite_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = flag_infer,
     .infer_dtype = to_float_dtype,
     .kernel = finite_kernel},
    {.name = "multi_all_finite",
     .family = FAMILY,
     .doc = "Whether all elements of several arrays are finite: 1, or 0 when there is an infinity or NaN.",
     .params = multi_finite_table,
     .params_size = sizeof(multi_finite_params),
     .num_args = "num_arrays",
     .count_in = multi_finite_inputs,
     .in_name = array_name,
     .n_out = 1,
     .infer_shape = flag_infer,
     .infer_dtype = to_float_dtype,
     .kernel = multi_finite_kernel},
    {.name = "multi_sum_sq",
     .family = FAMILY,
     .doc = "Sum of squares of each array.",
     .params = sum_sq_table,
     .params_size = sizeof(sum_sq_params),
     .num_args = "num_arrays",
     .count_in = sum_sq_inputs,
     .in_name = array_name,
     .n_out = 1,
     .infer_shape = sum_sq_infer,
     .infer_dtype = to_float_dtype,
     .gradient = sum_sq_gradient,
     .flags = MX_OP_ADDS,
     .prepare = sum_sq_prepare,
     .kernel = sum_sq_kernel},
    {0}};
