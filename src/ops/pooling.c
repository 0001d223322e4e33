/* Pooling: maximum, average, sum or p-norm of windows that slide over space.
 *
 * Work is done on lanes that lie together in the output: places of a row, or channels where they come last. A window
 * place contributes to a stretch of lanes at once. Backward finds the maxima again instead of keeping their places. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/conv.h"

enum { POOL_MAX, POOL_AVG, POOL_SUM, POOL_LP };
enum { POOL_VALID, POOL_FULL, POOL_SAME };
enum { LANES = 128 };

typedef struct pooling_params {
  mx_shape kernel, stride, pad;
  int pool_type, pooling_convention, layout;
  bool global_pool, cudnn_off;
  mx_opt_int p_value;
  int8_t count_include_pad;
  bool v1; /* set by the check of Pooling_v1 */
} pooling_params;

static const char *const types[] = {"max", "avg", "sum", "lp", NULL};
static const char *const types_v1[] = {"max", "avg", "sum", NULL};
static const char *const conventions[] = {"valid", "full", "same", NULL};
static const char *const conventions_v1[] = {"valid", "full", NULL};
static const char *const layouts[] = {"None", "NCHW", "NCDHW", "NHWC", "NDHWC", "NCW", "NWC", NULL};

#define TABLE_HEAD(types_)                                                                                    \
  MX_P_TUPLE(pooling_params, kernel, "()", 1, INT32_MAX, "Size of the window; not needed with global_pool."), \
      MX_P_ENUM(pooling_params, pool_type, "max", types_, "What is made of the values in a window."),         \
      MX_P_BOOL(pooling_params, global_pool, "False",                                                         \
                "One window that covers everything; kernel and stride are "                                   \
                "ignored.")
#define TABLE_REST(conventions_)                                                                                     \
  MX_P_ENUM(pooling_params, pooling_convention, "valid", conventions_,                                               \
            "Rounding of the output size: down (valid), up (full)."),                                                \
      MX_P_TUPLE(pooling_params, stride, "()", 1, INT32_MAX, "Step of the window; 1 in each dimension by default."), \
      MX_P_TUPLE(pooling_params, pad, "()", 0, INT32_MAX, "Places added on both sides; none by default.")
static const mx_param pooling_table[] = {
    TABLE_HEAD(types),
    MX_P_BOOL(pooling_params, cudnn_off, "False", "Do without cuDNN."),
    TABLE_REST(conventions),
    MX_P_OPT_INT(pooling_params, p_value, "None", 1, 3, "The p of pool_type = lp: 1, 2 or 3."),
    MX_P_OPT_BOOL(pooling_params, count_include_pad, "None", "Averages count padding as zeros (None: yes)."),
    MX_P_ENUM(pooling_params, layout, "None", layouts, "Order of the dimensions of data; None is NCW, NCHW or NCDHW."),
    MX_P_END};
static const mx_param pooling_v1_table[] = {TABLE_HEAD(types_v1), TABLE_REST(conventions_v1), MX_P_END};

static mx_status pooling_check(void *params, mx_error *err) {
  pooling_params *p = params;
  if (p->kernel.ndim > 3) return mx_layer_fail(err, MX_ERR_VALUE, "kernel", "kernel must have 1, 2 or 3 entries.");
  if (p->kernel.ndim < 1 && !p->global_pool)
    return mx_layer_fail(err, MX_ERR_VALUE, "kernel", "kernel must be given unless global_pool is True.");
  if (p->pool_type == POOL_LP && !p->p_value.given)
    return mx_layer_fail(err, MX_ERR_VALUE, "p_value", "p_value must be given with pool_type lp.");
  if (p->global_pool) return MX_OK;
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->stride, 1, "stride", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->pad, 0, "pad", err));
  for (int i = 0; p->pooling_convention == POOL_SAME && i < p->pad.ndim; i++)
    if (p->pad.dim[i] != 0)
      return mx_layer_fail(err, MX_ERR_VALUE, "pad",
                           "pooling_convention same chooses the padding itself: pad must be 0.");
  return mx_conv_check_layout(p->kernel.ndim, p->layout, layouts, err);
}

static mx_status pooling_v1_check(void *params, mx_error *err) {
  ((pooling_params *)params)->v1 = true;
  return pooling_check(params, err);
}

/* Output places along an axis; -1 when the window does not fit. */
static int64_t pooled(const pooling_params *p, int i, int64_t in) {
  const int64_t s = p->stride.dim[i], room = in + 2 * p->pad.dim[i] - p->kernel.dim[i];
  if (p->pooling_convention == POOL_SAME) return (in + s - 1) / s;
  if (room < 0) return -1;
  return (p->pooling_convention == POOL_FULL ? (room + s - 1) / s : room / s) + 1;
}

static mx_status pooling_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const pooling_params *p = params;
  mx_shape *data = &in[0], *output = &out[0];
  int nd = p->global_pool ? mx_layout_spatial(p->layout) : p->kernel.ndim;
  if (nd == 0 && data->ndim >= 0) nd = data->ndim - 2;
  if (nd == 0 && output->ndim >= 0) nd = output->ndim - 2;
  if (nd == 0 && data->ndim < 0) return MX_OK;
  if (nd < 1 || nd > 3) {
    return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have 3, 4 or 5 dimensions: batch, channels and space.");
  }
  const bool last = mx_layout_channels_last(p->layout);
  mx_shape want = {.ndim = nd + 2};
  for (int i = 0; i < nd + 2; i++) want.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(data, &want, "data", err));
  const int fixed[] = {0, mx_conv_channel_axis(last, nd + 2)};
  for (int i = 0; i < 2; i++) want.dim[fixed[i]] = data->dim[fixed[i]];
  for (int i = 0; i < nd; i++) {
    const int a = mx_conv_axis(last, i);
    if (p->global_pool) {
      want.dim[a] = 1;
    } else if (data->dim[a] != MX_DIM_UNKNOWN) {
      want.dim[a] = pooled(p, i, data->dim[a]);
      if (want.dim[a] >= 0) continue;
      return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                           "The window has %lld places, but data has only %lld with its padding.",
                           (long long)p->kernel.dim[i], (long long)(data->dim[a] + 2 * p->pad.dim[i]));
    }
  }
  MX_TRY(mx_shape_merge(output, &want, "output", err));
  for (int i = 0; i < 2; i++) MX_TRY(mx_layer_set_dim(data, fixed[i], output->dim[fixed[i]], "data", err));
  return MX_OK;
}

static mx_status pooling_gradient(mx_grad *g, mx_error *err) {
  const pooling_params *p = g->params;
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->out[0]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, p->v1 ? "_backward_Pooling_v1" : "_backward_Pooling", in, p->pool_type == POOL_LP ? 3 : 2,
                           1, err);
}

/* ---- windows ---- */

enum { TABLE = 16, FAST_ROWS = 4 };

typedef struct pool {
  mx_conv v;
  int64_t lo[TABLE], hi[TABLE]; /* mx_conv_inside along the last axis for the first places of a window */
  int fast_rows;                /* rows of a window if max_windows knows its maxima, else 0 */
  bool fast_back;               /* send_twos or send_threes knows the gradient */
  int64_t pad_end[3];           /* places added behind; v.pad is in front */
  int type, p;
  bool count_pad, v1, global; /* global: one contiguous window a plane */
} pool;

static pool pooling_view(const pooling_params *p, const mx_shape *data, const mx_shape *output) {
  const int nd = data->ndim - 2;
  pool g = {.type = p->pool_type, .p = (int)p->p_value.value, .count_pad = p->count_include_pad != 0, .v1 = p->v1};
  g.v = (mx_conv){.nd = nd, .channels_last = mx_layout_channels_last(p->layout), .batch = data->dim[0], .groups = 1};
  g.v.channels = g.v.filters = data->dim[mx_conv_channel_axis(g.v.channels_last, nd + 2)];
  for (int i = 0; i < 3; i++) {
    const int j = i - (3 - nd), a = mx_conv_axis(g.v.channels_last, j);
    g.v.in[i] = j < 0 ? 1 : data->dim[a];
    g.v.out[i] = j < 0 ? 1 : output->dim[a];
    g.v.kernel[i] = j < 0 ? 1 : p->global_pool ? data->dim[a] : p->kernel.dim[j];
    g.v.stride[i] = j < 0 || p->global_pool ? 1 : p->stride.dim[j];
    g.v.dilate[i] = 1;
    g.v.pad[i] = g.pad_end[i] = j < 0 || p->global_pool ? 0 : p->pad.dim[j];
    if (!p->global_pool && p->pooling_convention == POOL_SAME) {
      int64_t total = (g.v.out[i] - 1) * g.v.stride[i] + g.v.kernel[i] - g.v.in[i];
      g.v.pad[i] = total > 0 ? total / 2 : 0;
      g.pad_end[i] = total > 0 ? total - g.v.pad[i] : 0;
    }
  }
  for (int64_t k = 0; k < TABLE && k < g.v.kernel[2]; k++) mx_conv_inside(&g.v, 2, k, &g.lo[k], &g.hi[k]);
  const int64_t k = g.v.kernel[2];
  const int64_t window = g.v.kernel[0] * g.v.kernel[1];
  const bool known = k == 2 ? window == 1 || window == 2 || window == 4 : k == 3 && (window == 1 || window == 3);
  const bool zeros = g.v1 && g.v.pad[0] + g.v.pad[1] + g.v.pad[2] > 0; /* take part in maxima */
  if (!g.v.channels_last && known && g.v.stride[2] == 2 && !zeros && g.v.in[2] < INT32_MAX / 4)
    g.fast_rows = (int)window;
  g.fast_back = g.fast_rows > 0 && g.v.pad[2] < k;
  for (int i = 0; i < 3 && g.fast_back && k == 2; i++)
    g.fast_back = g.v.kernel[i] == g.v.stride[i] && g.v.pad[i] == 0 && g.v.out[i] * g.v.kernel[i] <= g.v.in[i];
  for (int i = 0; i < 2 && g.fast_back && k == 3; i++)
    g.fast_back = g.v.kernel[i] == 1 ? g.v.stride[i] == 1 && g.v.pad[i] == 0 : i == 1 && g.v.stride[i] == 2;
  g.global = !g.v.channels_last && mx_conv_out_size(&g.v) == 1;
  for (int i = 0; i < 3; i++) g.global = g.global && g.v.kernel[i] == g.v.in[i] && g.v.pad[i] == 0;
  return g;
}

/* Places of window o along axis i that are inside of the input, or of the padded input. */
static int64_t covered(const pool *g, int i, int64_t o, bool padded) {
  int64_t from = o * g->v.stride[i] - g->v.pad[i], to = from + g->v.kernel[i];
  int64_t lo = padded ? -g->v.pad[i] : 0, hi = g->v.in[i] + (padded ? g->pad_end[i] : 0);
  if (from < lo) from = lo;
  if (to > hi) to = hi;
  return to > from ? to - from : 0;
}

static double window_count(const pool *g, int64_t d, int64_t h, int64_t w, bool padded) {
  return (double)covered(g, 0, d, padded) * (double)covered(g, 1, h, padded) * (double)covered(g, 2, w, padded);
}

/* What a window's sum is multiplied with. */
static double window_scale(const pool *g, int64_t d, int64_t h, int64_t w) {
  if (g->type != POOL_AVG) return 1;
  double n = g->v1 ? (double)mx_conv_kernel_size(&g->v) : window_count(g, d, h, w, g->count_pad);
  return n > 0 ? 1 / n : 0;
}

/* The lanes [*lo, *hi) of [from, to) that place (kd, kh, kw) of the windows at (d, h, w) contributes to, the first
 * one's element of the input, and the distance of elements. Lanes are places w of the row, or channels of place w. */
MX_INLINE bool stretch(const pool *g, int64_t d, int64_t h, int64_t w, int64_t kd, int64_t kh, int64_t kw, int64_t from,
                       int64_t to, int64_t *lo, int64_t *hi, int64_t *at, int64_t *step) {
  const mx_conv *v = &g->v;
  const int64_t id = d * v->stride[0] + kd - v->pad[0], ih = h * v->stride[1] + kh - v->pad[1];
  if (id < 0 || id >= v->in[0] || ih < 0 || ih >= v->in[1]) return false;
  const int64_t row = (id * v->in[1] + ih) * v->in[2];
  if (v->channels_last) {
    const int64_t iw = w * v->stride[2] + kw - v->pad[2];
    *lo = from, *hi = to, *step = 1, *at = (row + iw) * v->channels + from;
    return iw >= 0 && iw < v->in[2];
  }
  if (kw < TABLE)
    *lo = g->lo[kw], *hi = g->hi[kw];
  else
    mx_conv_inside(v, 2, kw, lo, hi);
  if (*lo < from) *lo = from;
  if (*hi > to) *hi = to;
  *step = v->stride[2];
  *at = row + *lo * v->stride[2] + kw - v->pad[2];
  return *lo < *hi;
}

#define ACC(T) __typeof__((T)0 + 0.0f)
#define LOWEST(A) (sizeof(A) == sizeof(double) ? (A)-DBL_MAX : (A)-FLT_MAX)

/* Runs BODY with `u` a value of the stretch and `j` its lane; contiguous lanes are vectorized. */
#define EACH_LANE(...)                                    \
  if (step == 1) {                                        \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) { \
      A u = (A)value[j];                                  \
      __VA_ARGS__                                         \
    }                                                     \
  } else {                                                \
    for (int64_t j = 0; j < n; j++) {                     \
      A u = (A)value[j * step];                           \
      __VA_ARGS__                                         \
    }                                                     \
  }

/* All places of the windows at (d, h, w), lanes [from, to): BODY sees the stretch as value[0..n) with `step`, the lane
 * of its start as `lane`, and the place as pixels from the window's start as `here`. */
#define EACH_PLACE(...)                                                                 \
  for (int64_t kd = 0; kd < v->kernel[0]; kd++)                                         \
    for (int64_t kh = 0; kh < v->kernel[1]; kh++)                                       \
      for (int64_t kw = 0; kw < v->kernel[2]; kw++) {                                   \
        int64_t lo, hi, at, step;                                                       \
        if (!stretch(g, d, h, w, kd, kh, kw, from, to, &lo, &hi, &at, &step)) continue; \
        const int64_t n = hi - lo, lane = lo - from;                                    \
        __VA_ARGS__                                                                     \
      }

/* Maxima for the lanes [from, to) of the windows at (d, h, w), and their places as pixels from the start of the window
 * (-1: the window is empty). */
MX_CLONES static void max_lanes(const pool *g, mx_dtype dtype, const void *x_, int64_t d, int64_t h, int64_t w,
                                int64_t from, int64_t to, void *best_, int32_t *place_) {
  const mx_conv *v = &g->v;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *best = best_;
    for (int64_t j = 0; j < to - from; j++) best[j] = LOWEST(A), place_[j] = -1;
    EACH_PLACE({
      const T *value = (const T *)x_ + at;
      const int32_t here = (int32_t)((kd * v->in[1] + kh) * v->in[2] + kw);
      A *b = best + lane;
      int32_t *place = place_ + lane;
      EACH_LANE({
        place[j] = u > b[j] ? here : place[j];
        b[j] = u > b[j] ? u : b[j];
      })
    })
  })
}

/* ---- maxima of windows of K = 2 or 3 places in each of some rows, with step 2: without branches ----
 *
 * Lanes are taken in whole vectors: a rest would be done one by one. What is beyond the end of a row is read, too, and
 * written to if that is in the plane: results of lanes too many are not used, and they send zeros. */
enum { WHOLE = 16, MOST = LANES + WHOLE, LINE = 2 * MOST + 2, OUTSIDE = INT32_MIN };
#define WHOLE_LANES(n) ((n) <= WHOLE / 2 ? WHOLE / 2 : ((n) + WHOLE - 1) / WHOLE * WHOLE)

/* at[r]: the element of the plane that row r of the windows [w, w + n) at (d, h) begins with, or OUTSIDE. row[r]: the
 * row, or a copy among `lines` if it is not in the plane with all that is read. */
static void window_rows(const pool *g, mx_dtype dtype, const void *x, int64_t d, int64_t h, int64_t w, int64_t n,
                        void *lines, const void *row[FAST_ROWS], int64_t at[FAST_ROWS]) {
  const mx_conv *v = &g->v;
  const int64_t first = w * 2 - v->pad[2], read = 2 * WHOLE_LANES(n) + 2, plane = mx_conv_in_size(v);
  const int64_t size = (int64_t)mx_dtype_size(dtype), top = h * v->stride[1] - v->pad[1];
  int64_t id = d * v->stride[0] - v->pad[0], ih = top;
  for (int r = 0; r < g->fast_rows; r++) {
    const bool there = id >= 0 && id < v->in[0] && ih >= 0 && ih < v->in[1];
    at[r] = there ? (id * v->in[1] + ih) * v->in[2] + first : OUTSIDE;
    if (++ih == top + v->kernel[1]) ih = top, id++;
    row[r] = (const char *)x + at[r] * size;
    if (there && at[r] >= 0 && at[r] + read <= plane) continue;
    char *line = (char *)lines + r * LINE * size;
    MX_SWITCH_FLOAT(dtype, break, {
      for (int64_t i = 0; i < read; i++) ((T *)line)[i] = (T)-INFINITY;
    })
    const int64_t from = at[r] < 0 ? -at[r] : 0, to = at[r] + read > plane ? plane - at[r] : read;
    if (there && from < to)
      memcpy(line + from * size, (const char *)row[r] + from * size, (size_t)((to - from) * size));
    row[r] = line;
  }
}

/* ROWS is a number of rows, with what is done for each. */
#define ROWS1(F, K) F(0, K)
#define ROWS2(F, K) F(0, K) F(1, K)
#define ROWS3(F, K) ROWS2(F, K) F(2, K)
#define ROWS4(F, K) ROWS3(F, K) F(3, K)
/* Places beyond the row have the bound -infinity: larger values become the bound, NaN stays. Elements are read in
 * pairs: the fourth of a window of three is bound by `never`, -infinity, which the compiler does not know. */
#define BOUNDS                                                            \
  const int32_t col = column + 2 * j;                                     \
  const A bound[4] = {(uint32_t)col < width ? INFINITY : -INFINITY,       \
                      (uint32_t)(col + 1) < width ? INFINITY : -INFINITY, \
                      (uint32_t)(col + 2) < width ? INFINITY : -INFINITY, never};
#define VALUE(r) (bound[s] < (A)row##r[2 * j + s] ? bound[s] : (A)row##r[2 * j + s])
#define LARGER(r, K)                                                  \
  _Pragma("GCC unroll 4") for (int s = 0; s < (K + 1) / 2 * 2; s++) { \
    const A u = VALUE(r);                                             \
    m = u > m ? u : m;                                                \
  }
#define MAX_WINDOWS(R, K)                                 \
  _Pragma("omp simd") for (int32_t j = 0; j < all; j++) { \
    A m = LOWEST(A);                                      \
    BOUNDS ROWS##R(LARGER, K) best[j] = m;                \
  }

/* What the macros use. */
#define WINDOW_ROWS(d, h, w, n)                         \
  const int32_t all = (int32_t)WHOLE_LANES(n);          \
  const int32_t column = (int32_t)(2 * (w)-v->pad[2]);  \
  const uint32_t width = (uint32_t)v->in[2];            \
  const A never = v->nd > 3 ? INFINITY : -INFINITY;     \
  const void *row[FAST_ROWS] = {NULL};                  \
  T lines[FAST_ROWS * LINE];                            \
  window_rows(g, dtype, x, d, h, w, n, lines, row, at); \
  const T *row0 = row[0], *row1 = row[1], *row2 = row[2];

/* Maxima of windows [w, w + n) at (d, h). */
MX_CLONES static void max_windows(const pool *g, mx_dtype dtype, const void *x, int64_t d, int64_t h, int64_t w,
                                  int64_t n, void *best_) {
  const mx_conv *v = &g->v;
  int64_t at[FAST_ROWS];
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *best = best_;
    WINDOW_ROWS(d, h, w, n)
    const T *row3 = row[3];
    switch (10 * g->fast_rows + (int)v->kernel[2]) {
      case 12:
        MAX_WINDOWS(1, 2) break;
      case 13:
        MAX_WINDOWS(1, 3) break;
      case 22:
        MAX_WINDOWS(2, 2) break;
      case 33:
        MAX_WINDOWS(3, 3) break;
      case 42:
        MAX_WINDOWS(4, 2) break;
    }
  })
}

/* The first place that has the maximum takes what is `left` of the gradient: all or nothing. */
#define SEND(r, K)                                      \
  _Pragma("GCC unroll 3") for (int s = 0; s < K; s++) { \
    const A u = VALUE(r);                               \
    part[r][s][j + s / 2] = u == m ? left : 0;          \
    left = u == m ? 0 : left;                           \
  }
#define SEND_WINDOWS(R, K)                                   \
  _Pragma("omp simd") for (int32_t j = 0; j < all; j++) {    \
    A m = LOWEST(A);                                         \
    BOUNDS                                                   \
    ROWS##R(LARGER, K) A left = m > LOWEST(A) ? head[j] : 0; \
    ROWS##R(SEND, K)                                         \
  }
#define ADD_UP(op)                                                    \
  if (lo > 0 && begin + 2 * lo > 0) to[2 * lo - 1] op(T) odd[lo - 1]; \
  _Pragma("omp simd") for (int64_t j = lo; j < hi; j++) {             \
    to[2 * j] op(T)(even[j] + next[j]);                               \
    to[2 * j + 1] op(T) odd[j];                                       \
  }                                                                   \
  if (final && begin + 2 * hi < width) to[2 * hi] op(T)(even[hi] + next[hi]);
/* Gradient of a plane whose windows have three places, or three in each of three rows, and step 2. A pixel is written
 * first by the window before, which may be in the row before. Rows are added up one turn later, when the processor has
 * written the parts. */
MX_CLONES static void send_threes(const pool *g, mx_dtype dtype, const void *x, const void *dy_, void *dx_) {
  const mx_conv *v = &g->v;
  const int64_t chunks = (v->out[2] + LANES - 1) / LANES, rows = v->out[0] * v->out[1];
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *dy = dy_;
    A parts[2][3][3][MOST + 1]; /* of a row: even pixels, odd ones, and the even ones of the next window */
    int64_t start[2][FAST_ROWS];
    for (int64_t t = 0; t <= rows * chunks; t++) {
      const int64_t h = t / chunks, w = t % chunks * LANES, n = v->out[2] - w < LANES ? v->out[2] - w : LANES;
      int64_t *at = start[t % 2];
      A(*part)[3][MOST + 1] = parts[t % 2], (*before)[3][MOST + 1] = parts[1 - t % 2];
      if (h < rows) {
        WINDOW_ROWS(h / v->out[1], h % v->out[1], w, n)
        for (int r = 0; r < g->fast_rows; r++) part[r][2][0] = w > 0 ? before[r][2][LANES] : 0, part[r][0][all] = 0;
        A head[MOST];
        _Pragma("omp simd") for (int32_t j = 0; j < all; j++) head[j] = j < n ? (A)dy[j] : 0;
        if (g->fast_rows == 1) {
          SEND_WINDOWS(1, 3)
        } else {
          SEND_WINDOWS(3, 3)
        }
        dy += n;
      }
      if (t > 0) {
        const int64_t from = (t - 1) % chunks * LANES, begin = 2 * from - v->pad[2], width = v->in[2];
        const bool final = v->out[2] - from <= LANES, again = g->fast_rows > 1 && (t - 1) / chunks % v->out[1] > 0;
        const int64_t all = final ? WHOLE_LANES(v->out[2] - from) : LANES;
        const int64_t lo = begin < 0 ? (1 - begin) / 2 : 0, hi = begin + 2 * all < width ? all : (width - begin) / 2;
        at = start[1 - t % 2];
        for (int r = 0; r < g->fast_rows; r++) {
          const A *even = before[r][0], *odd = before[r][1], *next = before[r][2];
          T *to = (T *)dx_ + at[r];
          if (at[r] == OUTSIDE) continue;
          if (r == 0 && again) {
            ADD_UP(+=)
          } else {
            ADD_UP(=)
            for (int64_t i = 2 * hi + 1; final && i < width - begin; i++) to[i] = 0;
          }
        }
      }
    }
    const int64_t done = g->fast_rows == 1 ? v->in[1] : 2 * v->out[1] - v->pad[1] + 1; /* rows */
    for (int64_t d = 0; d < v->in[0] && done < v->in[1]; d++)
      memset((T *)dx_ + (d * v->in[1] + done) * v->in[2], 0, (size_t)((v->in[1] - done) * v->in[2]) * sizeof(T));
  })
}

/* Gradient of a plane that windows of two places in each of some rows cover side by side. The last lanes of a row are
 * done with some before them again, as a whole vector; a row that is shorter goes through `lines`. */
#define TILE_LARGER(r, K)                                   \
  const A u##r = (A)x##r[2 * j], v##r = (A)x##r[2 * j + 1]; \
  m = u##r > m ? u##r : m;                                  \
  m = v##r > m ? v##r : m;
#define TILE_SEND(r, K)                       \
  to##r[2 * j] = u##r == m ? left : (T)0;     \
  left = u##r == m ? (T)0 : left;             \
  to##r[2 * j + 1] = v##r == m ? left : (T)0; \
  left = v##r == m ? (T)0 : left;
#define TILES(R)                                                          \
  for (int64_t w = 0; w < n; w += WHOLE) {                                \
    const int64_t first = w + WHOLE < n ? w : n - WHOLE;                  \
    _Pragma("omp simd") for (int64_t j = first; j < first + WHOLE; j++) { \
      A m = LOWEST(A);                                                    \
      ROWS##R(TILE_LARGER, 2) T left = m > LOWEST(A) ? head[j] : (T)0;    \
      ROWS##R(TILE_SEND, 2)                                               \
    }                                                                     \
  }
MX_CLONES static void send_twos(const pool *g, mx_dtype dtype, const void *x_, const void *dy_, void *dx_) {
  const mx_conv *v = &g->v;
  const int64_t width = v->in[2], deep = v->in[1] * width, n = v->out[2] < WHOLE ? WHOLE : v->out[2];
  const int64_t second = v->kernel[1] == 2 ? width : deep; /* the distance to the second row of a window */
  const bool narrow = v->out[2] < WHOLE;
  const size_t used = (size_t)v->out[2] * mx_dtype_size(dtype);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *dy = dy_;
    T lines[2 * FAST_ROWS + 1][2 * WHOLE] = {{0}};
    bool whole = true;
    for (int i = 0; i < 3; i++) whole = whole && v->out[i] * v->kernel[i] == v->in[i];
    if (!whole) memset(dx_, 0, (size_t)(v->in[0] * deep) * sizeof(T));
    for (int64_t d = 0; d < v->out[0]; d++)
      for (int64_t h = 0; h < v->out[1]; h++, dy += v->out[2]) {
        const int64_t at = d * v->kernel[0] * deep + h * v->kernel[1] * width;
        const T *head = dy, *x0 = (const T *)x_ + at, *x1 = x0 + second, *x2 = x0 + deep, *x3 = x1 + deep;
        T *to0 = (T *)dx_ + at, *to1 = to0 + second, *to2 = to0 + deep, *to3 = to1 + deep;
        if (narrow) {
          const T *x[] = {x0, x1, x2, x3};
          for (int r = 0; r < g->fast_rows; r++) memcpy(lines[r], x[r], 2 * used);
          head = memcpy(lines[2 * FAST_ROWS], head, used);
          x0 = lines[0], x1 = lines[1], x2 = lines[2], x3 = lines[3];
          to0 = lines[4], to1 = lines[5], to2 = lines[6], to3 = lines[7];
        }
        if (g->fast_rows == 1) {
          TILES(1)
        } else if (g->fast_rows == 2) {
          TILES(2)
        } else {
          TILES(4)
        }
        if (narrow) {
          const int64_t to[] = {0, second, deep, second + deep};
          for (int r = 0; r < g->fast_rows; r++) memcpy((T *)dx_ + at + to[r], lines[FAST_ROWS + r], 2 * used);
        }
      }
  })
}

/* Maxima of lanes [from, to), and their places if the fast way does not know them. */
static void find_maxima(const pool *g, mx_dtype dtype, const void *x, int64_t d, int64_t h, int64_t w, int64_t from,
                        int64_t to, void *best, int32_t *place) {
  if (g->fast_rows > 0)
    max_windows(g, dtype, x, d, h, from, to - from, best);
  else
    max_lanes(g, dtype, x, d, h, w, from, to, best, place);
}

/* Sums of the values, or of the p-th powers of their sizes. */
MX_CLONES static void sum_lanes(const pool *g, mx_dtype dtype, const void *x_, int64_t d, int64_t h, int64_t w,
                                int64_t from, int64_t to, void *sum_) {
  const mx_conv *v = &g->v;
  const int power = g->type == POOL_LP ? g->p : 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *sum = sum_;
    for (int64_t j = 0; j < to - from; j++) sum[j] = 0;
    EACH_PLACE({
      const T *value = (const T *)x_ + at;
      A *s = sum + lane;
      switch (power) {
        case 0:
          EACH_LANE(s[j] += u;) break;
        case 1:
          EACH_LANE(s[j] += u < 0 ? -u : u;) break;
        case 2:
          EACH_LANE(s[j] += u * u;) break;
        default:
          EACH_LANE(s[j] += u * u * (u < 0 ? -u : u);) break;
      }
    })
  })
}

/* In Pooling_v1 padding takes part in a maximum as zero, and a window beyond it is minus infinity. */
#define FIX_V1(PLACE)                                                               \
  if (g->v1)                                                                        \
    for (int64_t j = 0; j < to - from; j++) {                                       \
      double all = window_count(g, d, h, v->channels_last ? w : from + j, true);    \
      double valid = window_count(g, d, h, v->channels_last ? w : from + j, false); \
      if (all == 0) best[j] = -INFINITY;                                            \
      if (valid < all && best[j] < 0) {                                             \
        best[j] = 0;                                                                \
        PLACE;                                                                      \
      }                                                                             \
    }

/* Lanes [from, to) of the output: y points to the first of them. */
static void forward_lanes(const pool *g, mx_dtype dtype, const void *x, int64_t d, int64_t h, int64_t w, int64_t from,
                          int64_t to, void *y_) {
  const mx_conv *v = &g->v;
  double buffer[MOST];
  int32_t place[LANES];
  if (g->type == POOL_MAX)
    find_maxima(g, dtype, x, d, h, w, from, to, buffer, place);
  else
    sum_lanes(g, dtype, x, d, h, w, from, to, buffer);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *best = (A *)buffer;
    T *y = y_;
    if (g->type == POOL_MAX) {
      FIX_V1((void)0)
    } else if (g->type == POOL_AVG) {
      for (int64_t j = 0; j < to - from; j++) best[j] *= (A)window_scale(g, d, h, v->channels_last ? w : from + j);
    } else if (g->type == POOL_LP && g->p > 1) {
      for (int64_t j = 0; j < to - from; j++) best[j] = (A)(g->p == 2 ? sqrt(best[j]) : cbrt(best[j]));
    }
    for (int64_t j = 0; j < to - from; j++) y[j] = (T)best[j];
  })
}

/* One window a plane. */
MX_CLONES static void forward_global(const pool *g, mx_dtype dtype, const void *x_, void *y) {
  const int64_t n = mx_conv_in_size(&g->v);
  const int power = g->type == POOL_LP ? g->p : 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    A result = g->type == POOL_MAX ? LOWEST(A) : 0;
    if (g->type == POOL_MAX) {
      _Pragma("omp simd reduction(max : result)") for (int64_t j = 0; j < n; j++) result =
          (A)x[j] > result ? (A)x[j] : result;
    } else if (power < 2) {
      _Pragma("omp simd reduction(+ : result)") for (int64_t j = 0; j < n; j++) result +=
          power == 1 && x[j] < 0 ? -(A)x[j] : (A)x[j];
    } else {
      _Pragma("omp simd reduction(+ : result)") for (int64_t j = 0; j < n; j++) {
        A u = x[j] < 0 ? -(A)x[j] : (A)x[j];
        result += power == 2 ? u * u : u * u * u;
      }
      result = (A)(power == 2 ? sqrt(result) : cbrt(result));
    }
    *(T *)y = (T)(result * (A)window_scale(g, 0, 0, 0));
  })
}

static mx_status pooling_forward(const mx_call *c, mx_error *err) {
  const pool g = pooling_view(c->params, &c->in[0].shape, &c->out[0].shape);
  const mx_conv *v = &g.v;
  const mx_dtype dtype = c->out[0].dtype;
  const size_t size = mx_dtype_size(dtype);
  const char *x = c->in[0].data;
  char *y = c->out[0].data;
  if (c->req[0] == MX_NULL || mx_shape_size(&c->out[0].shape) == 0) return MX_OK;
  const int64_t in = mx_conv_in_size(v), work = v->batch * v->channels * mx_conv_out_size(v) * mx_conv_kernel_size(v);
  const int64_t planes = v->channels_last ? v->batch : v->batch * v->channels;
  const int64_t plane = v->channels_last ? in * v->channels : in;
  /* A unit is a row of places, or the channels of a place. */
  const int64_t lanes = v->channels_last ? v->channels : v->out[2], columns = v->channels_last ? v->out[2] : 1;
  const int64_t rows = v->out[0] * v->out[1] * columns;
#pragma omp parallel for num_threads(mx_threads_for(work, MX_GRAIN))
  for (int64_t i = 0; i < planes; i++) {
    const char *from = x + (size_t)(i * plane) * size;
    if (g.global) {
      forward_global(&g, dtype, from, y + (size_t)i * size);
      continue;
    }
    for (int64_t r = 0; r < rows; r++)
      for (int64_t l = 0; l < lanes; l += LANES) {
        const int64_t w = r % columns, h = r / columns % v->out[1], d = r / columns / v->out[1];
        forward_lanes(&g, dtype, from, d, h, w, l, l + LANES < lanes ? l + LANES : lanes,
                      y + (size_t)((i * rows + r) * lanes + l) * size);
      }
  }
  return MX_OK;
}

/* ---- backward: (gradient of the output, data[, output]) to data ---- */

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  if (n_in > 2) MX_TRY(mx_layer_unify(&in[0], &in[2], "output", err));
  return mx_layer_unify(&out[0], &in[1], "data", err);
}

static int backward_count_in(const void *params) {
  return ((const pooling_params *)params)->pool_type == POOL_LP ? 3 : 2;
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  const pool g = pooling_view(c->params, &c->in[1].shape, &c->in[0].shape);
  if (g.type == POOL_MAX && mx_conv_in_size(&g.v) > INT32_MAX)
    return mx_fail(err, MX_ERR_SHAPE, "Max pooling of more than 2^31 places a channel has no gradient here.");
  return MX_OK;
}

/* Adds to a plane (or sample) dx what lanes [from, to) of the gradient dy send back. */
MX_CLONES static void backward_lanes(const pool *g, mx_dtype dtype, const void *x, const void *dy_, const void *y_,
                                     int64_t d, int64_t h, int64_t w, int64_t from, int64_t to, void *dx_) {
  const mx_conv *v = &g->v;
  double buffer[MOST];
  int32_t place[LANES];
  if (g->type == POOL_MAX) max_lanes(g, dtype, x, d, h, w, from, to, buffer, place);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *best = (A *)buffer;
    const T *dy = dy_;
    T *dx = dx_;
    if (g->type == POOL_MAX) {
      FIX_V1(place[j] = -1)
      const int64_t row =
          ((d * v->stride[0] - v->pad[0]) * v->in[1] + h * v->stride[1] - v->pad[1]) * v->in[2] - v->pad[2];
      for (int64_t j = 0; j < to - from; j++) {
        if (place[j] < 0) continue;
        int64_t at = v->channels_last ? (row + w * v->stride[2] + place[j]) * v->channels + from + j
                                      : row + (from + j) * v->stride[2] + place[j];
        dx[at] += dy[j];
      }
      break;
    }
    for (int64_t j = 0; j < to - from; j++) {
      best[j] = (A)dy[j] * (A)window_scale(g, d, h, v->channels_last ? w : from + j);
      if (g->type != POOL_LP || g->p == 1) continue;
      A root = (A)((const T *)y_)[j];
      best[j] = root > 0 ? best[j] / (g->p == 2 ? root : root * root) : 0;
    }
    EACH_PLACE({
      const A *share = best + lane;
      T *to_ = dx + at;
      const T *value = (const T *)x + at; /* read for norms only */
      if (g->type != POOL_LP) {
        for (int64_t j = 0; j < n; j++) to_[j * step] += (T)share[j];
      } else {
        for (int64_t j = 0; j < n; j++) {
          A u = (A)value[j * step], sign = u > 0 ? 1 : u < 0 ? -1 : 0;
          to_[j * step] += (T)(share[j] * (g->p == 1 ? sign : g->p == 2 ? u : u * u * sign));
        }
      }
    })
  })
}

/* One window a plane: averages and sums give every place the same. */
MX_CLONES static void backward_global(const pool *g, mx_dtype dtype, const void *dy, void *dx_) {
  const int64_t n = mx_conv_in_size(&g->v);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    T *dx = dx_, share = (T)((A) * (const T *)dy * (A)window_scale(g, 0, 0, 0));
    for (int64_t j = 0; j < n; j++) dx[j] = share;
  })
}

/* The first maximum of a plane takes the gradient. */
MX_CLONES static void backward_global_max(const pool *g, mx_dtype dtype, const void *x_, const void *dy, void *dx) {
  const int64_t n = mx_conv_in_size(&g->v);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    A best = LOWEST(A);
    _Pragma("omp simd reduction(max : best)") for (int64_t j = 0; j < n; j++) best = (A)x[j] > best ? (A)x[j] : best;
    memset(dx, 0, (size_t)n * sizeof(T));
    int64_t at = 0;
    while (best > LOWEST(A) && at < n && (A)x[at] != best) at++;
    if (best > LOWEST(A) && at < n) ((T *)dx)[at] = *(const T *)dy;
  })
}

static mx_status pooling_backward(const mx_call *c, mx_error *err) {
  const pool g = pooling_view(c->params, &c->in[1].shape, &c->in[0].shape);
  const mx_conv *v = &g.v;
  const mx_dtype dtype = c->out[0].dtype;
  const size_t size = mx_dtype_size(dtype);
  const char *dy = c->in[0].data, *x = c->in[1].data, *y = c->n_in > 2 ? c->in[2].data : NULL;
  char *dx = c->out[0].data;
  if (c->req[0] == MX_NULL || mx_shape_size(&c->out[0].shape) == 0) return MX_OK;
  const int64_t in = mx_conv_in_size(v), work = v->batch * v->channels * mx_conv_out_size(v) * mx_conv_kernel_size(v);
  const int64_t planes = v->channels_last ? v->batch : v->batch * v->channels;
  const int64_t plane = v->channels_last ? in * v->channels : in;
  const int64_t lanes = v->channels_last ? v->channels : v->out[2], columns = v->channels_last ? v->out[2] : 1;
  const int64_t rows = v->out[0] * v->out[1] * columns;
#pragma omp parallel for num_threads(mx_threads_for(work, MX_GRAIN))
  for (int64_t i = 0; i < planes; i++) {
    char *to = dx + (size_t)(i * plane) * size;
    if (g.global && (g.type == POOL_AVG || g.type == POOL_SUM)) {
      backward_global(&g, dtype, dy + (size_t)i * size, to);
      continue;
    }
    if (g.global && g.type == POOL_MAX && !g.v1) {
      backward_global_max(&g, dtype, x + (size_t)(i * plane) * size, dy + (size_t)i * size, to);
      continue;
    }
    if (g.type == POOL_MAX && g.fast_back) {
      (v->kernel[2] == 2 ? send_twos : send_threes)(&g, dtype, x + (size_t)(i * plane) * size,
                                                    dy + (size_t)(i * rows * lanes) * size, to);
      continue;
    }
    memset(to, 0, (size_t)plane * size);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t l = 0; l < lanes; l += LANES) {
        const int64_t w = r % columns, h = r / columns % v->out[1], d = r / columns / v->out[1];
        const size_t at = (size_t)((i * rows + r) * lanes + l) * size;
        backward_lanes(&g, dtype, x + (size_t)(i * plane) * size, dy + at, y ? y + at : NULL, d, h, w, l,
                       l + LANES < lanes ? l + LANES : lanes, to);
      }
  }
  return MX_OK;
}

#define POOLING_RECORD(name_, table, check_, ...)                                                              \
  {                                                                                                            \
    .name = name_, .family = "Neural-network layers", .params = table, .params_size = sizeof(pooling_params),  \
    .check = check_, .n_in = 1, .n_out = 1, .infer_shape = pooling_infer, .infer_dtype = mx_layer_infer_float, \
    .gradient = pooling_gradient, .kernel = pooling_forward, __VA_ARGS__                                       \
  }
#define POOLING_BACKWARD(name_, table, check_, doc_)                                           \
  {                                                                                            \
    .name = name_, .family = "Neural-network layers", .doc = doc_, .params = table,            \
    .params_size = sizeof(pooling_params), .check = check_, .n_in = 3, .n_out = 1,             \
    .in_names = MX_STRINGS("out_grad", "data", "output"), .count_in = backward_count_in,       \
    .infer_shape = backward_infer, .infer_dtype = mx_layer_infer_float, .flags = MX_OP_HIDDEN, \
    .prepare = backward_prepare, .kernel = pooling_backward                                    \
  }

const mx_op mx_ops_pooling[] = {
    POOLING_RECORD(
        "Pooling", pooling_table, pooling_check,
        .doc = "Pooling over windows in one, two or three dimensions. Along each dimension the output has floor((size "
               "+ 2 * "
               "pad - kernel) / stride) + 1 places (valid), the same rounded up (full), or ceil(size / stride) (same, "
               "where "
               "the padding is chosen to fit). lp is the p-norm of the window. Windows that reach beyond the padding "
               "are cut; a maximum never counts padding.",
        .in_doc =
            MX_STRINGS("(batch, channels, space...), or (batch, space..., channels) in layouts NWC, NHWC, NDHWC.")),
    POOLING_RECORD(
        "Pooling_v1", pooling_v1_table, pooling_v1_check,
        .doc =
            "The first version of Pooling, kept for saved models. Padding takes part in maxima as zero, and averages "
            "divide by the size of the window even where it is cut.",
        .in_doc = MX_STRINGS("(batch, channels, space...).")),
    POOLING_BACKWARD("_backward_Pooling", pooling_table, pooling_check, "Gradient of Pooling."),
    POOLING_BACKWARD("_backward_Pooling_v1", pooling_v1_table, pooling_v1_check, "Gradient of Pooling_v1."),
    {0}};
