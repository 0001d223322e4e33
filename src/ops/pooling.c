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
  int64_t fast_lo, fast_hi;     /* places of a row that max_inside does; none if equal */
  int fast_rows;                /* rows of a window then, and where they begin, in pixels from its start */
  int64_t fast_at[FAST_ROWS];
  int64_t pad_end[3]; /* places added behind; v.pad is in front */
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
  const int64_t window = g.v.kernel[0] * g.v.kernel[1]; /* rows of a window: those that max_inside knows */
  const bool known = k == 2 ? window == 1 || window == 2 || window == 4 : k == 3 && (window == 1 || window == 3);
  if (!g.v.channels_last && known && g.v.stride[2] == 2) {
    for (int64_t kd = 0; kd < g.v.kernel[0]; kd++)
      for (int64_t kh = 0; kh < g.v.kernel[1]; kh++) g.fast_at[g.fast_rows++] = (kd * g.v.in[1] + kh) * g.v.in[2];
    g.fast_lo = g.lo[0];
    g.fast_hi = g.hi[k - 1] > g.fast_lo ? g.hi[k - 1] : g.fast_lo;
  }
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

/* The same for windows of some rows of K places with step 2 that lie inside, n windows side by side (up to LANES): row
 * r of the first window begins at row##r. ROWS is DOWN or UP for a number of rows, with what is done for each. Places
 * (not needed in forward) are found by a second look, last one first, so that the first maximum wins: that makes two
 * loops without branches. */
#define DOWN1(F, K) F(0, K)
#define DOWN2(F, K) F(0, K) F(1, K)
#define DOWN3(F, K) DOWN2(F, K) F(2, K)
#define DOWN4(F, K) DOWN3(F, K) F(3, K)
#define UP1(F, K) F(0, K)
#define UP2(F, K) F(1, K) F(0, K)
#define UP3(F, K) F(2, K) UP2(F, K)
#define UP4(F, K) F(3, K) UP3(F, K)
#define LARGER(r, K)                                    \
  _Pragma("GCC unroll 3") for (int s = 0; s < K; s++) { \
    A u = (A)row##r[2 * j + s];                         \
    m = u > m ? u : m;                                  \
  }
#define FOUND(r, K) \
  _Pragma("GCC unroll 3") for (int s = K - 1; s >= 0; s--) { found = (A)row##r[2 * j + s] == m ? at##r + s : found; }
#define MAX_INSIDE(R, K)                                  \
  _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {   \
    A m = LOWEST(A);                                      \
    DOWN##R(LARGER, K) best[j] = m;                       \
  }                                                       \
  if (place) {                                            \
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) { \
      const A m = best[j];                                \
      int32_t found = -1;                                 \
      UP##R(FOUND, K) place[j] = found;                   \
    }                                                     \
  }

MX_CLONES static void max_inside(mx_dtype dtype, const void *x_, int rows, const int64_t *at, int64_t kernel, int64_t n,
                                 void *best_, int32_t *place) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    A *best = best_;
    T padded[FAST_ROWS][2 * LANES + 2];
    int64_t from[FAST_ROWS] = {0};
    for (int r = 0; r < rows; r++) from[r] = at[r];
    if (place && n % 16 != 0) { /* whole vectors only: the rest would be done one by one, with mispredicted branches */
      const int64_t used = 2 * (n - 1) + kernel, all = 2 * ((n + 15) / 16 * 16 - 1) + kernel;
      for (int r = 0; r < rows; r++) {
        memcpy(padded[r], x + at[r], (size_t)used * sizeof(T));
        memset(padded[r] + used, 0, (size_t)(all - used) * sizeof(T));
        from[r] = r * (2 * LANES + 2);
      }
      x = padded[0], n = (n + 15) / 16 * 16;
    }
    const T *row0 = x + from[0], *row1 = x + from[1], *row2 = x + from[2], *row3 = x + from[3];
    const int32_t at0 = (int32_t)at[0], at1 = (int32_t)at[1], at2 = (int32_t)at[2], at3 = (int32_t)at[3];
    switch (10 * rows + (int)kernel) {
      case 12:
        MAX_INSIDE(1, 2) break;
      case 13:
        MAX_INSIDE(1, 3) break;
      case 22:
        MAX_INSIDE(2, 2) break;
      case 33:
        MAX_INSIDE(3, 3) break;
      case 42:
        MAX_INSIDE(4, 2) break;
    }
  })
}

/* The lanes [*lo, *hi) of [from, to) for which the fast way is there: the windows at (d, h) lie inside. */
static void fast_lanes(const pool *g, int64_t d, int64_t h, int64_t from, int64_t to, int64_t *lo, int64_t *hi) {
  const mx_conv *v = &g->v;
  const int64_t id = d * v->stride[0] - v->pad[0], ih = h * v->stride[1] - v->pad[1];
  const bool inside = id >= 0 && id + v->kernel[0] <= v->in[0] && ih >= 0 && ih + v->kernel[1] <= v->in[1];
  *lo = !inside || g->fast_lo > to ? to : g->fast_lo < from ? from : g->fast_lo;
  *hi = g->fast_hi < *lo ? *lo : g->fast_hi > to ? to : g->fast_hi;
}

/* Maxima of lanes [from, to), the fast way where there is one. */
static void find_maxima(const pool *g, mx_dtype dtype, const void *x, int64_t d, int64_t h, int64_t w, int64_t from,
                        int64_t to, void *best, int32_t *place, bool places) {
  const mx_conv *v = &g->v;
  const size_t acc = dtype == MX_FLOAT64 ? sizeof(double) : sizeof(float);
  int64_t lo, hi;
  fast_lanes(g, d, h, from, to, &lo, &hi);
  if (from < lo) max_lanes(g, dtype, x, d, h, w, from, lo, best, place);
  if (lo < hi) {
    const int64_t id = d * v->stride[0] - v->pad[0], ih = h * v->stride[1] - v->pad[1];
    const int64_t first = (id * v->in[1] + ih) * v->in[2] + lo * 2 - v->pad[2];
    max_inside(dtype, (const char *)x + (size_t)first * mx_dtype_size(dtype), g->fast_rows, g->fast_at, v->kernel[2],
               hi - lo, (char *)best + (size_t)(lo - from) * acc, places ? place + (lo - from) : NULL);
  }
  if (hi < to) max_lanes(g, dtype, x, d, h, w, hi, to, (char *)best + (size_t)(hi - from) * acc, place + (hi - from));
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
  double buffer[LANES + 16]; /* max_inside rounds up */
  int32_t place[LANES + 16];
  if (g->type == POOL_MAX)
    find_maxima(g, dtype, x, d, h, w, from, to, buffer, place, false);
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

/* For n windows with two places a row and step 2 that lie inside: each place takes the gradient or 0, rather than one
 * place found by its number. */
MX_CLONES static void send_back(mx_dtype dtype, int rows, const int64_t *at, int64_t n, const int32_t *place,
                                const void *dy, void *dx_) {
  const int64_t all = (n + 15) / 16 * 16; /* as in max_inside; what is made for the rest is not used */
  MX_SWITCH_FLOAT(dtype, break, {
    T line[2 * LANES + 32];
    T u[LANES + 16];
    memcpy(u, dy, (size_t)n * sizeof(T));
    memset(u + n, 0, (size_t)(all - n) * sizeof(T));
    for (int r = 0; r < rows; r++) {
      const int32_t here = (int32_t)at[r];
      T *dx = (T *)dx_ + at[r];
      _Pragma("omp simd") for (int64_t j = 0; j < all; j++) {
        const T one = u[j];
        const int32_t p = place[j];
        line[2 * j] = p == here ? one : (T)0;
        line[2 * j + 1] = p == here + 1 ? one : (T)0;
      }
      _Pragma("omp simd") for (int64_t i = 0; i < 2 * n; i++) dx[i] += line[i];
    }
  })
}

/* Adds to a plane (or sample) dx what lanes [from, to) of the gradient dy send back. */
MX_CLONES static void backward_lanes(const pool *g, mx_dtype dtype, const void *x, const void *dy_, const void *y_,
                                     int64_t d, int64_t h, int64_t w, int64_t from, int64_t to, void *dx_) {
  const mx_conv *v = &g->v;
  double buffer[LANES + 16]; /* max_inside rounds up */
  int32_t place[LANES + 16];
  if (g->type == POOL_MAX) find_maxima(g, dtype, x, d, h, w, from, to, buffer, place, true);
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    A *best = (A *)buffer;
    const T *dy = dy_;
    T *dx = dx_;
    if (g->type == POOL_MAX) {
      FIX_V1(place[j] = -1)
      const int64_t row =
          ((d * v->stride[0] - v->pad[0]) * v->in[1] + h * v->stride[1] - v->pad[1]) * v->in[2] - v->pad[2];
      int64_t lo, hi;
      fast_lanes(g, d, h, from, to, &lo, &hi);
      if (v->kernel[2] != 2) hi = lo;
      for (int64_t j = 0; j < to - from; j++) {
        if (place[j] < 0 || (j >= lo - from && j < hi - from)) continue;
        int64_t at = v->channels_last ? (row + w * v->stride[2] + place[j]) * v->channels + from + j
                                      : row + (from + j) * v->stride[2] + place[j];
        dx[at] += dy[j];
      }
      if (lo < hi)
        send_back(dtype, g->fast_rows, g->fast_at, hi - lo, place + (lo - from), dy + (lo - from), dx + row + lo * 2);
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
  if (c->req[0] == MX_NULL) return MX_OK;
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
