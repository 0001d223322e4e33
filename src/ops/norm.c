/* LayerNorm, RMSNorm and L2Normalization normalize along one axis; GroupNorm and InstanceNorm normalize groups of
 * channels that lie together.
 *
 * The first three are one computation: y = (x - mean) / scale * gamma + beta with scale = sqrt(sum of (x - mean)^2 /
 * divisor + eps), where the mean, gamma and beta may be absent. With h = dy * gamma the gradient of data is
 *   h / scale - mean(h) / scale - (x - mean) / scale^3 * sum(h * (x - mean)) / divisor. */
#include <math.h>
#include <string.h>

#include "ops/layer.h"
#include "ops/moments.h"

/* ---- along an axis ---- */

typedef struct axis_norm_params {
  int64_t axis;
  double eps;
  bool output_mean_var;
  int mode;
  int kind; /* set by the check of each operator */
} axis_norm_params;

enum { LAYER_NORM, RMS_NORM, L2_NORM };
enum { MODE_INSTANCE, MODE_CHANNEL, MODE_SPATIAL };
static const char *const modes[] = {"instance", "channel", "spatial", NULL};

static const mx_param layernorm_table[] = {
    MX_P_INT(axis_norm_params, axis, "-1", -MX_MAX_NDIM, MX_MAX_NDIM - 1, "The axis that is normalized."),
    MX_P_FLOAT(axis_norm_params, eps, "1e-05", 0, INFINITY, "Added to the variance."),
    MX_P_BOOL(axis_norm_params, output_mean_var, "False", "Also return the means and standard deviations."), MX_P_END};
static const mx_param rmsnorm_table[] = {
    MX_P_INT(axis_norm_params, axis, "-1", -MX_MAX_NDIM, MX_MAX_NDIM - 1, "The axis that is normalized."),
    MX_P_FLOAT(axis_norm_params, eps, "1e-06", 0, INFINITY, "Added to the mean of squares."), MX_P_END};
static const mx_param l2norm_table[] = {
    MX_P_FLOAT(axis_norm_params, eps, "1e-10", 0, INFINITY, "Added to the sum of squares."),
    MX_P_ENUM(axis_norm_params, mode, "instance", modes,
              "What has norm 1: a sample, the channels at each place, or the places of each channel."),
    MX_P_END};

static mx_status layernorm_check(void *p, mx_error *err) { return ((axis_norm_params *)p)->kind = LAYER_NORM, MX_OK; }
static mx_status rmsnorm_check(void *p, mx_error *err) { return ((axis_norm_params *)p)->kind = RMS_NORM, MX_OK; }
static mx_status l2norm_check(void *p, mx_error *err) { return ((axis_norm_params *)p)->kind = L2_NORM, MX_OK; }

static int layernorm_visible(const void *params) { return ((const axis_norm_params *)params)->output_mean_var ? 3 : 1; }
static int first_visible(const void *params) { return 1; }

/* Where the statistics go: LayerNorm has outputs mean and std, the others only the scale. */
static int scale_output(int kind) { return kind == LAYER_NORM ? 2 : 1; }

static mx_status axis_norm_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  static const char *const names[] = {"data", "gamma", "beta"};
  const axis_norm_params *p = params;
  mx_shape *data = &in[0];
  MX_TRY(mx_layer_unify(data, &out[0], "data", err));
  if (data->ndim < 0) return MX_OK;
  mx_shape stats = *data;
  if (p->kind == L2_NORM) {
    const int least = p->mode == MODE_INSTANCE ? 1 : p->mode == MODE_CHANNEL ? 2 : 3;
    if (data->ndim < least) {
      return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least %d dimensions in this mode.", least);
    }
    for (int i = p->mode == MODE_SPATIAL ? 2 : 1; i < data->ndim; i++)
      if (p->mode != MODE_CHANNEL || i == 1) stats.dim[i] = 1;
    return mx_shape_merge(&out[1], &stats, "norm", err);
  }
  int axis;
  MX_TRY(mx_axis_resolve(p->axis, data->ndim, &axis, err));
  mx_shape gamma = mx_shape_of(data->dim[axis]);
  for (int i = 1; i < n_in; i++) MX_TRY(mx_shape_merge(&gamma, &in[i], names[i], err));
  for (int i = 1; i < n_in; i++) MX_TRY(mx_shape_merge(&in[i], &gamma, names[i], err));
  MX_TRY(mx_layer_set_dim(data, axis, gamma.dim[0], "data", err));
  out[0] = *data;
  stats = *data;
  stats.dim[axis] = 1;
  for (int i = 1; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &stats, "mean", err));
  return MX_OK;
}

/* Arrays of one type; statistics of float16 data are float32. The last `n_stats` of in and all of out but the first
 * `n_data` are statistics. */
static mx_status norm_dtype(mx_dtype *in, int n_in, int n_stats, mx_dtype *out, int n_out, int n_data, mx_error *err) {
  MX_TRY(mx_layer_infer_float(NULL, in, n_in - n_stats, out, n_data, err));
  if (in[0] == MX_DTYPE_UNKNOWN) return MX_OK;
  mx_dtype stats = in[0] == MX_FLOAT16 ? MX_FLOAT32 : in[0];
  for (int i = n_in - n_stats; i < n_in; i++) in[i] = stats;
  for (int i = n_data; i < n_out; i++) out[i] = stats;
  return MX_OK;
}

static mx_status forward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return norm_dtype(in, n_in, 0, out, n_out, 1, err);
}

/* data as (outer, n, inner), normalized along n. */
typedef struct axis_view {
  int64_t outer, n, inner;
  double eps, divisor;
  bool center;
  mx_dtype dtype, stats;
  int64_t blocks; /* of rows, for the sums of gradients by gamma and beta */
} axis_view;

enum { BLOCK_ROWS = 16, MAX_BLOCKS = 64, MAX_CELLS = 1 << 18 };

static axis_view make_view(const axis_norm_params *p, const mx_tensor *data) {
  const mx_shape *s = &data->shape;
  int axis = (int)(p->axis < 0 ? p->axis + s->ndim : p->axis), end = axis + 1;
  if (p->kind == L2_NORM) axis = p->mode == MODE_SPATIAL ? 2 : 1, end = p->mode == MODE_CHANNEL ? 2 : s->ndim;
  axis_view v = {.outer = mx_shape_prod(s, 0, axis),
                 .n = mx_shape_prod(s, axis, end),
                 .inner = mx_shape_prod(s, end, s->ndim),
                 .eps = p->eps,
                 .center = p->kind == LAYER_NORM,
                 .dtype = data->dtype,
                 .stats = data->dtype == MX_FLOAT16 ? MX_FLOAT32 : data->dtype};
  v.divisor = p->kind == L2_NORM ? 1 : (double)v.n;
  v.blocks = v.outer / BLOCK_ROWS;
  if (v.blocks > MAX_BLOCKS) v.blocks = MAX_BLOCKS;
  if (v.n > 0 && v.blocks > MAX_CELLS / v.n) v.blocks = MAX_CELLS / v.n;
  if (v.blocks < 1) v.blocks = 1;
  return v;
}

static double load(const void *a, mx_dtype dtype, int64_t i) {
  return dtype == MX_FLOAT64 ? ((const double *)a)[i] : ((const float *)a)[i];
}
static void store(void *a, mx_dtype dtype, int64_t i, double value) {
  if (dtype == MX_FLOAT64)
    ((double *)a)[i] = value;
  else
    ((float *)a)[i] = (float)value;
}

/* One row: y = (x - mean) * inv * gamma + beta; beta may be NULL. */
MX_CLONES static void row_scale(mx_dtype dtype, const void *x_, const void *gamma_, const void *beta_, void *y_,
                                int64_t n, double mean_, double inv_){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      typedef MX_ACC(T) A;
                      const T *x = x_, *gamma = gamma_, *beta = beta_;
                      T *y = y_;
                      const A mean = (A)mean_, inv = (A)inv_;
                      if (beta) {
                        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] =
                            (T)(((A)x[j] - mean) * inv * (A)gamma[j] + (A)beta[j]);
                      } else {
                        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] =
                            (T)(((A)x[j] - mean) * inv * (A)gamma[j]);
                      }
                    })}

/* The same for lanes: groups side by side, whose elements are `inner` apart. gamma and beta may be NULL. */
MX_CLONES static void lanes_scale(mx_dtype dtype, const void *x_, const void *gamma_, const void *beta_, void *y_,
                                  int64_t n, int64_t inner, int64_t lanes, const double *mean_, const double *inv_) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    const T *x = x_, *gamma = gamma_, *beta = beta_;
    T *y = y_;
    A mean[MX_LANES], inv[MX_LANES];
    for (int64_t j = 0; j < lanes; j++) mean[j] = (A)mean_[j], inv[j] = (A)inv_[j];
    for (int64_t r = 0; r < n; r++, x += inner, y += inner) {
      const A g = gamma ? (A)gamma[r] : 1, b = beta ? (A)beta[r] : 0;
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) y[j] = (T)(((A)x[j] - mean[j]) * inv[j] * g + b);
    }
  })
}

static void row_forward(const axis_view *v, const void *x, const void *gamma, const void *beta, void *y, void *mean_out,
                        void *scale_out, int64_t row) {
  const mx_group g = {1, v->n, v->n};
  double mean = v->center ? mx_group_sum(v->dtype, x, g, 0, false) / (double)v->n : 0;
  double scale = sqrt(mx_group_sum(v->dtype, x, g, mean, true) / v->divisor + v->eps);
  if (mean_out) store(mean_out, v->stats, row, mean);
  if (scale_out) store(scale_out, v->stats, row, scale);
  if (!y) return;
  if (gamma)
    row_scale(v->dtype, x, gamma, beta, y, v->n, mean, 1 / scale);
  else
    mx_group_affine(v->dtype, x, x, y, g, (mx_affine){.b = 1 / scale, .center = mean});
}

static void lanes_forward(const axis_view *v, const void *x, const void *gamma, const void *beta, void *y,
                          void *mean_out, void *scale_out, int64_t first, int64_t lanes) {
  double mean[MX_LANES] = {0}, inv[MX_LANES];
  if (v->center) mx_lanes_sum(v->dtype, x, v->n, v->inner, lanes, NULL, false, mean);
  for (int64_t j = 0; j < lanes; j++) mean[j] /= (double)v->n;
  mx_lanes_sum(v->dtype, x, v->n, v->inner, lanes, mean, true, inv);
  for (int64_t j = 0; j < lanes; j++) {
    double scale = sqrt(inv[j] / v->divisor + v->eps);
    if (mean_out) store(mean_out, v->stats, first + j, mean[j]);
    if (scale_out) store(scale_out, v->stats, first + j, scale);
    inv[j] = 1 / scale;
  }
  if (y) lanes_scale(v->dtype, x, gamma, beta, y, v->n, v->inner, lanes, mean, inv);
}

static mx_status axis_norm_forward(const mx_call *c, mx_error *err) {
  const axis_norm_params *p = c->params;
  const axis_view v = make_view(p, &c->in[0]);
  const size_t size = mx_dtype_size(v.dtype);
  const void *gamma = c->n_in > 1 ? c->in[1].data : NULL, *beta = c->n_in > 2 ? c->in[2].data : NULL;
  const int scale_at = scale_output(p->kind);
  void *mean_out = v.center && c->req[1] != MX_NULL ? c->out[1].data : NULL;
  void *scale_out = c->req[scale_at] != MX_NULL ? c->out[scale_at].data : NULL;
  const int64_t strips = (v.inner + MX_LANES - 1) / MX_LANES;
  if (v.n == 0) return MX_OK;
#pragma omp parallel for num_threads(mx_threads_for(v.outer *v.n *v.inner, MX_GRAIN))
  for (int64_t i = 0; i < v.outer * strips; i++) {
    const int64_t row = i / strips, lane = i % strips * MX_LANES;
    const size_t at = (size_t)(row * v.n * v.inner + lane) * size;
    const void *x = (const char *)c->in[0].data + at;
    void *y = c->req[0] != MX_NULL ? (char *)c->out[0].data + at : NULL;
    if (v.inner == 1)
      row_forward(&v, x, gamma, beta, y, mean_out, scale_out, row);
    else
      lanes_forward(&v, x, gamma, beta, y, mean_out, scale_out, row * v.inner + lane,
                    v.inner - lane < MX_LANES ? v.inner - lane : MX_LANES);
  }
  return MX_OK;
}

/* Backward: (gradient of the output, data[, gamma][, mean], scale) to (data[, gamma][, beta]). */

static int backward_count_in(const void *params) {
  static const int count[] = {5, 4, 3};
  return count[((const axis_norm_params *)params)->kind];
}
static int backward_count_out(const void *params) {
  static const int count[] = {3, 2, 1};
  return count[((const axis_norm_params *)params)->kind];
}

static mx_status axis_norm_gradient(mx_grad *g, mx_error *err) {
  static const char *const ops[] = {"_backward_LayerNorm", "_backward_RMSNorm", "_backward_L2Normalization"};
  const axis_norm_params *p = g->params;
  mx_entry in[5] = {MX_NO_ENTRY, g->in[0]};
  int n = 2;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  if (p->kind != L2_NORM) in[n++] = g->in[1];
  if (p->kind == LAYER_NORM) in[n++] = g->out[1];
  in[n++] = g->out[scale_output(p->kind)];
  return mx_layer_backward(g, ops[p->kind], in, n, backward_count_out(p), err);
}

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&out[0], &in[1], "data", err));
  for (int i = 1; i < n_out; i++) MX_TRY(mx_layer_unify(&out[i], &in[2], "gamma", err));
  return MX_OK;
}

static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const int stats = ((const axis_norm_params *)params)->kind == LAYER_NORM ? 2 : 1;
  return norm_dtype(in, n_in, stats, out, n_out, n_out, err);
}

/* One row of the gradient; dgamma and dbeta (sums over rows, in the type of sums) and dx may be NULL. */
MX_CLONES static void row_backward(const axis_view *v, const void *x_, const void *dy_, const void *gamma_, void *dx_,
                                   double mean_, double inv_, void *dgamma_, void *dbeta_){MX_SWITCH_FLOAT(
    v->dtype, break,
    {
      typedef MX_ACC(T) A;
      const T *x = x_, *dy = dy_, *gamma = gamma_;
      T *dx = dx_;
      A *dgamma = dgamma_, *dbeta = dbeta_;
      const A mean = (A)mean_, inv = (A)inv_;
      if (dgamma) {
        _Pragma("omp simd") for (int64_t j = 0; j < v->n; j++) dgamma[j] += (A)dy[j] * ((A)x[j] - mean) * inv;
      }
      if (dbeta) {
        _Pragma("omp simd") for (int64_t j = 0; j < v->n; j++) dbeta[j] += (A)dy[j];
      }
      if (!dx) return;
      double sum = 0, sum_x = 0;
      for (int64_t from = 0; from < v->n; from += 4096) {
        const int64_t to = from + 4096 < v->n ? from + 4096 : v->n;
        A s = 0, sx = 0;
        if (gamma) {
          _Pragma("omp simd reduction(+ : s, sx)") for (int64_t j = from; j < to; j++) {
            A h = (A)dy[j] * (A)gamma[j];
            s += h;
            sx += h * ((A)x[j] - mean);
          }
        } else {
          _Pragma("omp simd reduction(+ : sx)") for (int64_t j = from; j < to; j++) sx += (A)dy[j] * ((A)x[j] - mean);
        }
        sum += s, sum_x += sx;
      }
      const A b = (A)(-inv_ * inv_ * inv_ * sum_x / v->divisor), c = v->center ? (A)(-inv_ * sum / (double)v->n) : 0;
      if (gamma) {
        _Pragma("omp simd") for (int64_t j = 0; j < v->n; j++) dx[j] =
            (T)(inv * (A)dy[j] * (A)gamma[j] + b * ((A)x[j] - mean) + c);
      } else {
        _Pragma("omp simd") for (int64_t j = 0; j < v->n; j++) dx[j] = (T)(inv * (A)dy[j] + b * ((A)x[j] - mean) + c);
      }
    })}

/* Gradient of data for lanes. */
MX_CLONES static void lanes_backward(const axis_view *v, const void *x_, const void *dy_, const void *gamma_, void *dx_,
                                     int64_t lanes, const double *mean_, const double *inv_){
    MX_SWITCH_FLOAT(v->dtype, break,
                    {
                      typedef MX_ACC(T) A;
                      const T *x = x_, *dy = dy_, *gamma = gamma_;
                      T *dx = dx_;
                      A mean[MX_LANES], inv[MX_LANES], b[MX_LANES], c[MX_LANES];
                      A sum[MX_LANES] = {0};
                      A sum_x[MX_LANES] = {0};
                      for (int64_t j = 0; j < lanes; j++) mean[j] = (A)mean_[j], inv[j] = (A)inv_[j];
                      for (int64_t r = 0; r < v->n; r++) {
                        const T *xr = x + r * v->inner, *dyr = dy + r * v->inner;
                        const A g = gamma ? (A)gamma[r] : 1;
                        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) {
                          A h = (A)dyr[j] * g;
                          sum[j] += h;
                          sum_x[j] += h * ((A)xr[j] - mean[j]);
                        }
                      }
                      for (int64_t j = 0; j < lanes; j++) {
                        b[j] = (A)(-inv_[j] * inv_[j] * inv_[j] * (double)sum_x[j] / v->divisor);
                        c[j] = v->center ? (A)(-inv_[j] * (double)sum[j] / (double)v->n) : 0;
                      }
                      for (int64_t r = 0; r < v->n; r++) {
                        const T *xr = x + r * v->inner, *dyr = dy + r * v->inner;
                        T *dxr = dx + r * v->inner;
                        const A g = gamma ? (A)gamma[r] : 1;
                        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) dxr[j] =
                            (T)(inv[j] * (A)dyr[j] * g + b[j] * ((A)xr[j] - mean[j]) + c[j]);
                      }
                    })}

/* Adds what `inner` groups side by side contribute to one element of the gradients of gamma and beta. */
MX_CLONES static void lanes_parameters(const axis_view *v, const void *x_, const void *dy_, const void *mean_,
                                       const void *scale_, double *dgamma, double *dbeta) {
  MX_SWITCH_FLOAT(v->dtype, break, {
    typedef MX_ACC(T) A;
    const T *x = x_, *dy = dy_;
    const A *mean = mean_, *scale = scale_; /* statistics have the type of sums */
    for (int64_t from = 0; from < v->inner; from += 1024) {
      const int64_t to = from + 1024 < v->inner ? from + 1024 : v->inner;
      A s = 0, sx = 0;
      _Pragma("omp simd reduction(+ : s, sx)") for (int64_t j = from; j < to; j++) {
        s += (A)dy[j];
        sx += (A)dy[j] * ((A)x[j] - (mean ? mean[j] : 0)) / scale[j];
      }
      *dgamma += sx, *dbeta += s;
    }
  })
}

typedef struct backward_arrays {
  const char *dy, *x, *gamma, *mean, *scale;
  char *dx, *dgamma, *dbeta;
} backward_arrays;

static backward_arrays backward_view(const mx_call *c) {
  const int kind = ((const axis_norm_params *)c->params)->kind;
  backward_arrays a = {.dy = c->in[0].data, .x = c->in[1].data, .scale = c->in[c->n_in - 1].data};
  if (kind != L2_NORM) a.gamma = c->in[2].data;
  if (kind == LAYER_NORM) a.mean = c->in[3].data;
  if (c->req[0] != MX_NULL) a.dx = c->out[0].data;
  if (c->n_out > 1 && c->req[1] != MX_NULL) a.dgamma = c->out[1].data;
  if (c->n_out > 2 && c->req[2] != MX_NULL) a.dbeta = c->out[2].data;
  return a;
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  const axis_view v = make_view(c->params, &c->in[1]);
  if (v.inner == 1) c->workspace_bytes = (size_t)(2 * v.blocks * v.n) * mx_dtype_size(v.stats);
  return MX_OK;
}

/* Rows in blocks; every block sums the gradients of gamma and beta apart. */
static void backward_rows(const axis_view *v, backward_arrays a, char *workspace) {
  const size_t size = mx_dtype_size(v->dtype), sum_size = mx_dtype_size(v->stats), cells = (size_t)v->n * sum_size;
  if (workspace && (a.dgamma || a.dbeta)) memset(workspace, 0, 2 * (size_t)v->blocks * cells);
#pragma omp parallel for num_threads(mx_threads_for(v->outer * v->n, MX_GRAIN))
  for (int64_t b = 0; b < v->blocks; b++) {
    char *dgamma = a.dgamma ? workspace + (size_t)b * cells : NULL;
    char *dbeta = a.dbeta ? workspace + (size_t)(v->blocks + b) * cells : NULL;
    for (int64_t r = v->outer * b / v->blocks; r < v->outer * (b + 1) / v->blocks; r++) {
      const size_t at = (size_t)(r * v->n) * size;
      row_backward(v, a.x + at, a.dy + at, a.gamma, a.dx ? a.dx + at : NULL, a.mean ? load(a.mean, v->stats, r) : 0,
                   1 / load(a.scale, v->stats, r), dgamma, dbeta);
    }
  }
  for (int k = 0; k < 2; k++) {
    char *to = k == 0 ? a.dgamma : a.dbeta;
    for (int64_t j = 0; to && j < v->n; j++) {
      double sum = 0;
      for (int64_t b = 0; b < v->blocks; b++) sum += load(workspace, v->stats, (k * v->blocks + b) * v->n + j);
      MX_SWITCH_FLOAT(v->dtype, break, ((T *)to)[j] = (T)sum;)
    }
  }
}

static void backward_lanes(const axis_view *v, backward_arrays a) {
  const size_t size = mx_dtype_size(v->dtype), stats_size = mx_dtype_size(v->stats);
  const int64_t strips = (v->inner + MX_LANES - 1) / MX_LANES, work = v->outer * v->n * v->inner;
  if (a.dgamma || a.dbeta) {
#pragma omp parallel for num_threads(mx_threads_for(work, MX_GRAIN))
    for (int64_t r = 0; r < v->n; r++) {
      double dgamma = 0, dbeta = 0;
      for (int64_t o = 0; o < v->outer; o++) {
        const size_t at = (size_t)((o * v->n + r) * v->inner) * size, stat = (size_t)(o * v->inner) * stats_size;
        lanes_parameters(v, a.x + at, a.dy + at, a.mean ? a.mean + stat : NULL, a.scale + stat, &dgamma, &dbeta);
      }
      MX_SWITCH_FLOAT(v->dtype, break, {
        if (a.dgamma) ((T *)a.dgamma)[r] = (T)dgamma;
        if (a.dbeta) ((T *)a.dbeta)[r] = (T)dbeta;
      })
    }
  }
  if (!a.dx) return;
#pragma omp parallel for num_threads(mx_threads_for(work, MX_GRAIN))
  for (int64_t i = 0; i < v->outer * strips; i++) {
    const int64_t o = i / strips, lane = i % strips * MX_LANES;
    const int64_t lanes = v->inner - lane < MX_LANES ? v->inner - lane : MX_LANES;
    const size_t at = (size_t)(o * v->n * v->inner + lane) * size;
    double mean[MX_LANES], inv[MX_LANES];
    for (int64_t j = 0; j < lanes; j++) {
      mean[j] = a.mean ? load(a.mean, v->stats, o * v->inner + lane + j) : 0;
      inv[j] = 1 / load(a.scale, v->stats, o * v->inner + lane + j);
    }
    lanes_backward(v, a.x + at, a.dy + at, a.gamma, a.dx + at, lanes, mean, inv);
  }
}

static mx_status axis_norm_backward(const mx_call *c, mx_error *err) {
  const axis_view v = make_view(c->params, &c->in[1]);
  if (v.inner == 1)
    backward_rows(&v, backward_view(c), c->workspace);
  else
    backward_lanes(&v, backward_view(c));
  return MX_OK;
}

/* ---- groups of channels ---- */

typedef struct group_norm_params {
  int64_t num_groups;
  double eps;
  bool output_mean_var;
  bool instance; /* set by the check of InstanceNorm: every channel is a group */
} group_norm_params;

static const mx_param groupnorm_table[] = {
    MX_P_INT(group_norm_params, num_groups, "1", 1, INT32_MAX, "Number of groups that the channels are split into."),
    MX_P_FLOAT(group_norm_params, eps, "1e-05", 0, INFINITY, "Added to the variance."),
    MX_P_BOOL(group_norm_params, output_mean_var, "False", "Also return the means and standard deviations."), MX_P_END};
static const mx_param instancenorm_table[] = {
    MX_P_FLOAT(group_norm_params, eps, "0.001", 0, INFINITY, "Added to the variance."), MX_P_END};

static mx_status instancenorm_check(void *p, mx_error *err) { return ((group_norm_params *)p)->instance = true, MX_OK; }

static int groupnorm_visible(const void *params) {
  return ((const group_norm_params *)params)->output_mean_var ? 3 : 1;
}

static mx_status group_norm_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const group_norm_params *p = params;
  mx_shape *data = &in[0];
  MX_TRY(mx_layer_unify(data, &out[0], "data", err));
  mx_shape gamma = mx_shape_of(p->instance ? MX_DIM_UNKNOWN : p->num_groups);
  if (data->ndim >= 0 && data->ndim < 2)
    return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least 2 dimensions: batch and channels.");
  if (data->ndim >= 2 && !p->instance && data->dim[1] != MX_DIM_UNKNOWN && data->dim[1] % p->num_groups != 0)
    return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data has %lld channels, which num_groups (%lld) does not divide.",
                         (long long)data->dim[1], (long long)p->num_groups);
  if (p->instance && data->ndim >= 2) gamma.dim[0] = data->dim[1];
  for (int i = 1; i < 3; i++) MX_TRY(mx_shape_merge(&gamma, &in[i], i == 1 ? "gamma" : "beta", err));
  for (int i = 1; i < 3; i++) MX_TRY(mx_shape_merge(&in[i], &gamma, i == 1 ? "gamma" : "beta", err));
  if (data->ndim < 2) return MX_OK;
  if (p->instance) MX_TRY(mx_layer_set_dim(data, 1, gamma.dim[0], "data", err));
  out[0] = *data;
  mx_shape stats = mx_shape_of(data->dim[0], gamma.dim[0]);
  for (int i = 1; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &stats, i == 1 ? "mean" : "std", err));
  return MX_OK;
}

typedef struct group_view {
  int64_t batch, groups;
  mx_group group;
  mx_dtype dtype, stats;
} group_view;

static group_view make_group_view(const group_norm_params *p, const mx_tensor *data) {
  group_view v = {.batch = data->shape.dim[0],
                  .groups = p->instance ? data->shape.dim[1] : p->num_groups,
                  .dtype = data->dtype,
                  .stats = data->dtype == MX_FLOAT16 ? MX_FLOAT32 : data->dtype};
  const int64_t width = v.groups > 0 ? mx_shape_prod(&data->shape, 1, data->shape.ndim) / v.groups : 0;
  v.group = (mx_group){1, width, width};
  return v;
}

static double parameter(const group_view *v, const void *a, int64_t i) {
  MX_SWITCH_FLOAT(v->dtype, break, return (double)((const T *)a)[i];)
  return 0;
}

static mx_status group_norm_forward(const mx_call *c, mx_error *err) {
  const group_norm_params *p = c->params;
  const group_view v = make_group_view(p, &c->in[0]);
  const size_t bytes = (size_t)v.group.width * mx_dtype_size(v.dtype);
  const double width = (double)v.group.width;
  if (v.group.width == 0) return MX_OK;
#pragma omp parallel for num_threads(mx_threads_for(v.batch *v.groups *v.group.width, MX_GRAIN))
  for (int64_t i = 0; i < v.batch * v.groups; i++) {
    const void *x = (const char *)c->in[0].data + (size_t)i * bytes;
    const double mean = mx_group_sum(v.dtype, x, v.group, 0, false) / width;
    const double std = sqrt(mx_group_sum(v.dtype, x, v.group, mean, true) / width + p->eps);
    const double gamma = parameter(&v, c->in[1].data, i % v.groups), beta = parameter(&v, c->in[2].data, i % v.groups);
    if (c->req[1] != MX_NULL) store(c->out[1].data, v.stats, i, mean);
    if (c->req[2] != MX_NULL) store(c->out[2].data, v.stats, i, std);
    if (c->req[0] != MX_NULL)
      mx_group_affine(v.dtype, x, x, (char *)c->out[0].data + (size_t)i * bytes, v.group,
                      (mx_affine){.b = gamma / std, .c = beta, .center = mean});
  }
  return MX_OK;
}

/* Backward: (gradient of the output, data, gamma, mean, std) to (data, gamma, beta). */

static mx_status group_norm_gradient(mx_grad *g, mx_error *err) {
  const char *op = ((const group_norm_params *)g->params)->instance ? "_backward_InstanceNorm" : "_backward_GroupNorm";
  mx_entry in[5] = {MX_NO_ENTRY, g->in[0], g->in[1], g->out[1], g->out[2]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, op, in, 5, 3, err);
}

static mx_status group_backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                      mx_error *err) {
  return norm_dtype(in, n_in, 2, out, n_out, n_out, err);
}

static mx_status group_backward_prepare(mx_call *c, mx_error *err) {
  const group_view v = make_group_view(c->params, &c->in[1]);
  c->workspace_bytes = (size_t)(2 * v.batch * v.groups) * sizeof(double);
  return MX_OK;
}

static mx_status group_norm_backward(const mx_call *c, mx_error *err) {
  const group_view v = make_group_view(c->params, &c->in[1]);
  const size_t bytes = (size_t)v.group.width * mx_dtype_size(v.dtype);
  const int64_t n = v.batch * v.groups;
  double *dgamma = c->workspace, *dbeta = dgamma + n;
#pragma omp parallel for num_threads(mx_threads_for(n *v.group.width, MX_GRAIN))
  for (int64_t i = 0; i < n; i++) {
    const void *dy = (const char *)c->in[0].data + (size_t)i * bytes,
               *x = (const char *)c->in[1].data + (size_t)i * bytes;
    const double mean = load(c->in[3].data, v.stats, i), inv = 1 / load(c->in[4].data, v.stats, i);
    const double a = inv * parameter(&v, c->in[2].data, i % v.groups), width = (double)v.group.width;
    double sum_dy, sum_dyx;
    mx_group_gradient(v.dtype, x, dy, v.group, mean, &sum_dy, &sum_dyx);
    dgamma[i] = sum_dyx * inv;
    dbeta[i] = sum_dy;
    if (c->req[0] != MX_NULL)
      mx_group_affine(
          v.dtype, x, dy, (char *)c->out[0].data + (size_t)i * bytes, v.group,
          (mx_affine){.a = a, .b = -a * inv * inv * sum_dyx / width, .c = -a * sum_dy / width, .center = mean});
  }
  for (int k = 1; k < 3; k++)
    for (int64_t g = 0; c->req[k] != MX_NULL && g < v.groups; g++) {
      double sum = 0;
      for (int64_t i = g; i < n; i += v.groups) sum += k == 1 ? dgamma[i] : dbeta[i];
      MX_SWITCH_FLOAT(v.dtype, break, ((T *)c->out[k].data)[g] = (T)sum;)
    }
  return MX_OK;
}

static const mx_alias forward_in_place[] = {{0, 0}, {-1, -1}};
static const mx_alias backward_in_place[] = {{0, 0}, {0, 1}, {-1, -1}};

#define FAMILY "Neural-network layers"
#define AXIS_NORM_RECORD(name_, table, check_, ...)                                                                \
  {                                                                                                                \
    .name = name_, .family = FAMILY, .params = table, .params_size = sizeof(axis_norm_params), .check = check_,    \
    .in_names = MX_STRINGS("data", "gamma", "beta"), .infer_shape = axis_norm_infer, .infer_dtype = forward_dtype, \
    .gradient = axis_norm_gradient, .aliases_mem = forward_in_place, .kernel = axis_norm_forward, __VA_ARGS__      \
  }
#define AXIS_NORM_BACKWARD(name_, table, check_, names, doc_)                                                          \
  {                                                                                                                    \
    .name = name_, .family = FAMILY, .doc = doc_, .params = table, .params_size = sizeof(axis_norm_params),            \
    .check = check_, .n_in = 5, .n_out = 3, .in_names = names, .count_in = backward_count_in,                          \
    .count_out = backward_count_out, .infer_shape = backward_infer, .infer_dtype = backward_dtype,                     \
    .aliases_mem = backward_in_place, .flags = MX_OP_HIDDEN, .prepare = backward_prepare, .kernel = axis_norm_backward \
  }
#define GROUP_NORM_RECORD(name_, table, ...)                                                                           \
  {                                                                                                                    \
    .name = name_, .family = FAMILY, .params = table, .params_size = sizeof(group_norm_params), .n_in = 3, .n_out = 3, \
    .in_names = MX_STRINGS("data", "gamma", "beta"), .infer_shape = group_norm_infer, .infer_dtype = forward_dtype,    \
    .gradient = group_norm_gradient, .aliases_mem = forward_in_place, .kernel = group_norm_forward, __VA_ARGS__        \
  }
#define GROUP_NORM_BACKWARD(name_, table, ...)                                                                         \
  {                                                                                                                    \
    .name = name_, .family = FAMILY, .params = table, .params_size = sizeof(group_norm_params), .n_in = 5, .n_out = 3, \
    .in_names = MX_STRINGS("out_grad", "data", "gamma", "mean", "std"), .infer_shape = backward_infer,                 \
    .infer_dtype = group_backward_dtype, .aliases_mem = backward_in_place, .flags = MX_OP_HIDDEN,                      \
    .prepare = group_backward_prepare, .kernel = group_norm_backward, __VA_ARGS__                                      \
  }

const mx_op mx_ops_norm[] = {
    AXIS_NORM_RECORD(
        "LayerNorm", layernorm_table, layernorm_check, .n_in = 3, .n_out = 3, .count_visible = layernorm_visible,
        .out_names = MX_STRINGS("output", "mean", "std"),
        .doc = "Layer normalization: output = (data - mean) / sqrt(var + eps) * gamma + beta, with mean and variance "
               "along the axis.",
        .in_doc = MX_STRINGS("Any shape.", "(size of the axis,): scale.", "(size of the axis,): shift."),
        .source = "Ba, Kiros and Hinton, Layer normalization, 2016"),
    AXIS_NORM_RECORD(
        "RMSNorm", rmsnorm_table, rmsnorm_check, .n_in = 2, .n_out = 2, .count_visible = first_visible,
        .out_names = MX_STRINGS("output", "rms"),
        .doc = "Root mean square normalization: output = data / sqrt(mean(data^2) + eps) * gamma, with the mean "
               "along the axis.",
        .in_doc = MX_STRINGS("Any shape.", "(size of the axis,): scale."),
        .source = "Zhang and Sennrich, Root mean square layer normalization, NeurIPS 2019"),
    AXIS_NORM_RECORD("L2Normalization", l2norm_table, l2norm_check, .n_in = 1, .n_out = 2,
                     .count_visible = first_visible, .out_names = MX_STRINGS("output", "norm"),
                     .doc =
                         "Divides by the Euclidean norm: output = data / sqrt(sum(data^2) + eps), with the sum over a "
                         "sample (instance), over axis 1 (channel), or over axes 2 and later (spatial).",
                     .in_doc = MX_STRINGS("(batch, channels, ...).")),
    GROUP_NORM_RECORD(
        "GroupNorm", groupnorm_table, .count_visible = groupnorm_visible,
        .out_names = MX_STRINGS("output", "mean", "std"),
        .doc = "Group normalization: the channels of a sample are split into num_groups groups, and output = (data "
               "- mean) / sqrt(var + eps) * gamma + beta with mean and variance of each group. gamma and beta "
               "have one element per group.",
        .in_doc = MX_STRINGS("(batch, channels, ...).", "(num_groups,): scale.", "(num_groups,): shift."),
        .source = "Wu and He, Group normalization, ECCV 2018"),
    GROUP_NORM_RECORD(
        "InstanceNorm", instancenorm_table, .count_visible = first_visible, .check = instancenorm_check,
        .out_names = MX_STRINGS("output", "mean", "std"),
        .doc = "Instance normalization: output = (data - mean) / sqrt(var + eps) * gamma + beta, with mean and "
               "variance of each channel of each sample.",
        .in_doc = MX_STRINGS("(batch, channels, ...).", "(channels,): scale.", "(channels,): shift."),
        .source = "Ulyanov, Vedaldi and Lempitsky, Instance normalization, 2016"),
    AXIS_NORM_BACKWARD("_backward_LayerNorm", layernorm_table, layernorm_check,
                       MX_STRINGS("out_grad", "data", "gamma", "mean", "std"), "Gradient of LayerNorm."),
    AXIS_NORM_BACKWARD("_backward_RMSNorm", rmsnorm_table, rmsnorm_check,
                       MX_STRINGS("out_grad", "data", "gamma", "rms"), "Gradient of RMSNorm."),
    AXIS_NORM_BACKWARD("_backward_L2Normalization", l2norm_table, l2norm_check, MX_STRINGS("out_grad", "data", "norm"),
                       "Gradient of L2Normalization."),
    GROUP_NORM_BACKWARD("_backward_GroupNorm", groupnorm_table, .doc = "Gradient of GroupNorm."),
    GROUP_NORM_BACKWARD("_backward_InstanceNorm", instancenorm_table, .doc = "Gradient of InstanceNorm.",
                        .check = instancenorm_check),
    {0}};
