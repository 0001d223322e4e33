/* BatchNorm: normalizes every channel with the mean and variance of the batch.
 *
 * A channel that has neighbours in memory (NCHW) is one thread's: sums and the output in one go, while it is in cache.
 * Where channels come last, blocks of rows are summed side by side and the sums are added up. As in the reference the
 * moving averages change in backward, and fix_gamma overwrites the argument gamma in forward. */
#include <math.h>
#include <string.h>

#include "ops/layer.h"
#include "ops/moments.h"

typedef struct batchnorm_params {
  double eps, momentum;
  bool fix_gamma, use_global_stats, output_mean_var, cudnn_off;
  int64_t axis;
  mx_opt_float min_calib_range, max_calib_range;
  bool v1; /* set by the check of BatchNorm_v1 */
} batchnorm_params;

enum { DATA, GAMMA, BETA, MOVING_MEAN, MOVING_VAR };

#define TABLE_HEAD                                                                                                   \
  MX_P_FLOAT(batchnorm_params, eps, "0.001", 0, INFINITY, "Added to the variance."),                                 \
      MX_P_FLOAT(batchnorm_params, momentum, "0.9", MX_ANY, "Weight of the old value in the moving averages."),      \
      MX_P_BOOL(batchnorm_params, fix_gamma, "True", "Keep gamma at 1 (it is set to 1) and its gradient at 0."),     \
      MX_P_BOOL(batchnorm_params, use_global_stats, "False", "Normalize with the moving averages in training too."), \
      MX_P_BOOL(batchnorm_params, output_mean_var, "False", "Also return the mean and variance that were used.")
static const mx_param batchnorm_table[] = {
    TABLE_HEAD,
    MX_P_INT(batchnorm_params, axis, "1", -MX_MAX_NDIM, MX_MAX_NDIM - 1, "The axis of the channels."),
    MX_P_BOOL(batchnorm_params, cudnn_off, "False", "Do without cuDNN."),
    MX_P_OPT_FLOAT(batchnorm_params, min_calib_range, "None", MX_ANY, "Accepted for compatibility; has no effect."),
    MX_P_OPT_FLOAT(batchnorm_params, max_calib_range, "None", MX_ANY, "Accepted for compatibility; has no effect."),
    MX_P_END};
static const mx_param batchnorm_v1_table[] = {TABLE_HEAD, MX_P_END};

static mx_status batchnorm_v1_check(void *params, mx_error *err) {
  batchnorm_params *p = params;
  p->v1 = true;
  p->axis = 1;
  return MX_OK;
}

static int batchnorm_visible(const void *params) { return ((const batchnorm_params *)params)->output_mean_var ? 3 : 1; }

static mx_status batchnorm_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  static const char *const names[] = {"data", "gamma", "beta", "moving_mean", "moving_var"};
  const batchnorm_params *p = params;
  MX_TRY(mx_layer_unify(&in[DATA], &out[0], "data", err));
  mx_shape channel = mx_shape_of(MX_DIM_UNKNOWN);
  int axis = 0;
  if (in[DATA].ndim >= 0) {
    MX_TRY(mx_axis_resolve(p->axis, in[DATA].ndim, &axis, err));
    channel.dim[0] = in[DATA].dim[axis];
  }
  for (int i = GAMMA; i < n_in; i++) {
    MX_TRY(mx_shape_merge(&channel, &in[i], names[i], err));
    MX_TRY(mx_shape_merge(&in[i], &channel, names[i], err));
  }
  for (int i = GAMMA; i < n_in; i++) in[i] = channel;
  for (int i = 1; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &channel, i == 1 ? "mean" : "var", err));
  if (in[DATA].ndim >= 0) {
    MX_TRY(mx_layer_set_dim(&in[DATA], axis, channel.dim[0], "data", err));
    out[0] = in[DATA];
  }
  return MX_OK;
}

/* Statistics and parameters are float32 when data is float16. `n_data` arrays at the front of in, and out[0], are data.
 */
static mx_status infer_dtype(mx_dtype *in, int n_in, mx_dtype *out, int n_out, int n_data, mx_error *err) {
  mx_dtype data[4], rest[8];
  int n = 0;
  for (int i = 0; i < n_data; i++) data[i] = in[i];
  MX_TRY(mx_layer_infer_float(NULL, data, n_data, out, 1, err));
  for (int i = 0; i < n_data; i++) in[i] = data[i];
  for (int i = n_data; i < n_in; i++) rest[n++] = in[i];
  for (int i = 1; i < n_out; i++) rest[n++] = out[i];
  mx_dtype stats = in[0] == MX_FLOAT16 ? MX_FLOAT32 : in[0];
  MX_TRY(mx_layer_infer_float(NULL, rest, n, &stats, 1, err));
  for (int i = n_data; i < n_in; i++) in[i] = stats;
  for (int i = 1; i < n_out; i++) out[i] = stats;
  return MX_OK;
}

static mx_status batchnorm_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return infer_dtype(in, n_in, out, n_out, 1, err);
}

static mx_status batchnorm_gradient(mx_grad *g, mx_error *err) {
  const batchnorm_params *p = g->params;
  const mx_entry *x = g->in, *y = g->out;
  mx_entry in[7] = {MX_NO_ENTRY, x[DATA], x[GAMMA], y[1], y[2], x[MOVING_MEAN], x[MOVING_VAR]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, p->v1 ? "_backward_BatchNorm_v1" : "_backward_BatchNorm", in, 7, 3, err);
}

/* ---- shared by forward and backward ---- */

/* data as (outer, channels, inner). Columns: channels come last, blocks of rows are summed apart. */
typedef struct view {
  int64_t outer, channels, inner, count;
  bool columns;
  int64_t blocks; /* of rows, with columns */
  mx_group group; /* a channel, without columns */
  mx_dtype dtype, stats;
} view;

enum { BLOCK_ROWS = 256, MAX_BLOCKS = 64, MAX_CELLS = 1 << 16 };

static view make_view(const batchnorm_params *p, const mx_tensor *data, mx_dtype stats) {
  int axis = (int)(p->axis < 0 ? p->axis + data->shape.ndim : p->axis);
  view v = {.outer = mx_shape_prod(&data->shape, 0, axis),
            .channels = data->shape.dim[axis],
            .inner = mx_shape_prod(&data->shape, axis + 1, data->shape.ndim),
            .dtype = data->dtype,
            .stats = stats};
  v.count = v.outer * v.inner;
  v.columns = v.inner == 1;
  v.blocks = v.outer / BLOCK_ROWS;
  if (v.blocks > MAX_BLOCKS) v.blocks = MAX_BLOCKS;
  if (v.channels > 0 && v.blocks > MAX_CELLS / v.channels) v.blocks = MAX_CELLS / v.channels;
  if (v.blocks < 1) v.blocks = 1;
  v.group = (mx_group){v.outer, v.channels * v.inner, v.inner};
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

/* One pass over data with channels last, shared out in blocks of rows and strips of channels. Sums go to
 * part[block][channel] and are then added up in part[0]; the second kind of sum that PASS_GRADIENT makes follows after
 * all blocks. */
enum { PASS_SUM, PASS_SQUARES, PASS_GRADIENT, PASS_AFFINE };

static void columns_pass(const view *v, int pass, const void *x, const void *dy, void *y, const double *center,
                         double *part, const mx_affine *f) {
  const int64_t strips = (v->channels + MX_LANES - 1) / MX_LANES, cells = v->blocks * v->channels;
#pragma omp parallel for num_threads(mx_threads_for(v->count * v->channels, MX_GRAIN))
  for (int64_t i = 0; i < v->blocks * strips; i++) {
    const int64_t block = i / strips, first = i % strips * MX_LANES;
    const int64_t lanes = v->channels - first < MX_LANES ? v->channels - first : MX_LANES;
    const int64_t from = v->outer * block / v->blocks, rows = v->outer * (block + 1) / v->blocks - from;
    const size_t at = (size_t)(from * v->channels + first) * mx_dtype_size(v->dtype);
    const void *xi = (const char *)x + at, *dyi = (const char *)dy + at;
    double *sum = part + block * v->channels + first;
    if (pass == PASS_AFFINE)
      mx_lanes_affine(v->dtype, xi, dyi, (char *)y + at, rows, v->channels, lanes, f + first);
    else if (pass == PASS_GRADIENT)
      mx_lanes_gradient(v->dtype, xi, dyi, rows, v->channels, lanes, center + first, sum, sum + cells);
    else
      mx_lanes_sum(v->dtype, xi, rows, v->channels, lanes, center ? center + first : NULL, pass == PASS_SQUARES, sum);
  }
  if (pass == PASS_AFFINE) return;
  for (int64_t b = 1; b < v->blocks; b++)
    for (int64_t j = 0; j < v->channels; j++) {
      part[j] += part[b * v->channels + j];
      if (pass == PASS_GRADIENT) part[cells + j] += part[cells + b * v->channels + j];
    }
}

/* ---- forward ---- */

static mx_status forward_prepare(mx_call *c, mx_error *err) {
  const view v = make_view(c->params, &c->in[DATA], c->in[GAMMA].dtype);
  if (v.columns)
    c->workspace_bytes =
        (size_t)((v.blocks + 1) * v.channels) * sizeof(double) + (size_t)v.channels * sizeof(mx_affine);
  return MX_OK;
}

/* Writes the outputs mean and var of a channel; returns how the channel is normalized. */
static mx_affine finish(const mx_call *c, const view *v, int64_t channel, double mean, double var) {
  const batchnorm_params *p = c->params;
  double inv = 1 / sqrt(var + p->eps), gamma = p->fix_gamma ? 1 : load(c->in[GAMMA].data, v->stats, channel);
  if (c->req[1] != MX_NULL) store(c->out[1].data, v->stats, channel, mean);
  if (c->req[2] != MX_NULL) store(c->out[2].data, v->stats, channel, p->v1 ? var : inv);
  return (mx_affine){.b = gamma * inv, .c = load(c->in[BETA].data, v->stats, channel), .center = mean};
}

static mx_affine finish_moving(const mx_call *c, const view *v, int64_t channel) {
  return finish(c, v, channel, load(c->in[MOVING_MEAN].data, v->stats, channel),
                load(c->in[MOVING_VAR].data, v->stats, channel));
}

static void forward_columns(const mx_call *c, const view *v, bool batch) {
  double *part = c->workspace, *mean = part + v->blocks * v->channels;
  mx_affine *f = (mx_affine *)(mean + v->channels);
  const void *x = c->in[DATA].data;
  if (batch) {
    columns_pass(v, PASS_SUM, x, x, NULL, NULL, part, NULL);
    for (int64_t j = 0; j < v->channels; j++) mean[j] = part[j] / (double)v->count;
    columns_pass(v, PASS_SQUARES, x, x, NULL, mean, part, NULL);
  }
  for (int64_t j = 0; j < v->channels; j++)
    f[j] = batch ? finish(c, v, j, mean[j], part[j] / (double)v->count) : finish_moving(c, v, j);
  if (c->req[0] != MX_NULL) columns_pass(v, PASS_AFFINE, x, x, c->out[0].data, NULL, part, f);
}

static void forward_channel(const mx_call *c, const view *v, bool batch, int64_t channel) {
  const size_t at = (size_t)(channel * v->inner) * mx_dtype_size(v->dtype);
  const void *x = (const char *)c->in[DATA].data + at;
  mx_affine f;
  if (batch) {
    double mean = mx_group_sum(v->dtype, x, v->group, 0, false) / (double)v->count;
    f = finish(c, v, channel, mean, mx_group_sum(v->dtype, x, v->group, mean, true) / (double)v->count);
  } else {
    f = finish_moving(c, v, channel);
  }
  if (c->req[0] != MX_NULL) mx_group_affine(v->dtype, x, x, (char *)c->out[0].data + at, v->group, f);
}

static mx_status batchnorm_forward(const mx_call *c, mx_error *err) {
  const batchnorm_params *p = c->params;
  const view v = make_view(p, &c->in[DATA], c->in[GAMMA].dtype);
  const bool batch = c->is_train && !p->use_global_stats && v.count > 0;
  if (p->fix_gamma && (c->is_train || p->v1))
    for (int64_t i = 0; i < v.channels; i++) store(c->in[GAMMA].data, v.stats, i, 1);
  if (v.columns) {
    forward_columns(c, &v, batch);
    return MX_OK;
  }
#pragma omp parallel for num_threads(mx_threads_for(v.count *v.channels, MX_GRAIN))
  for (int64_t i = 0; i < v.channels; i++) forward_channel(c, &v, batch, i);
  return MX_OK;
}

/* ---- backward: (gradient of the output, data, gamma, mean, var, moving_mean, moving_var) to (data, gamma, beta);
 * changes the moving averages ---- */

enum { GRAD, B_DATA, B_GAMMA, B_MEAN, B_VAR, B_MOVING_MEAN, B_MOVING_VAR };

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&out[0], &in[B_DATA], "data", err));
  for (int i = 1; i < 3; i++) MX_TRY(mx_layer_unify(&out[i], &in[B_GAMMA], i == 1 ? "gamma" : "beta", err));
  return MX_OK;
}

static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return infer_dtype(in, n_in, out, n_out, 2, err);
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  const view v = make_view(c->params, &c->in[B_DATA], c->in[B_GAMMA].dtype);
  if (v.columns)
    c->workspace_bytes =
        (size_t)((2 * v.blocks + 1) * v.channels) * sizeof(double) + (size_t)v.channels * sizeof(mx_affine);
  return MX_OK;
}

static double saved_inverse(const mx_call *c, const view *v, int64_t channel) {
  const batchnorm_params *p = c->params;
  double var = load(c->in[B_VAR].data, v->stats, channel);
  return p->v1 ? 1 / sqrt(var + p->eps) : var;
}

/* Takes the sums of a channel: writes the gradients of gamma and beta and moves the averages; returns how the gradient
 * of data is made. */
static mx_affine backward_finish(const mx_call *c, const view *v, int64_t channel, double sum_dy, double sum_dyx) {
  const batchnorm_params *p = c->params;
  const double inv = saved_inverse(c, v, channel), mean = load(c->in[B_MEAN].data, v->stats, channel);
  const double a = inv * (p->fix_gamma ? 1 : load(c->in[B_GAMMA].data, v->stats, channel));
  if (c->req[1] != MX_NULL) store(c->out[1].data, v->stats, channel, p->fix_gamma ? 0 : sum_dyx * inv);
  if (c->req[2] != MX_NULL) store(c->out[2].data, v->stats, channel, sum_dy);
  if (p->use_global_stats || v->count == 0) return (mx_affine){.a = a};
  void *moving_mean = c->in[B_MOVING_MEAN].data, *moving_var = c->in[B_MOVING_VAR].data;
  const double m = p->momentum;
  store(moving_mean, v->stats, channel, m * load(moving_mean, v->stats, channel) + (1 - m) * mean);
  store(moving_var, v->stats, channel, m * load(moving_var, v->stats, channel) + (1 - m) * (1 / (inv * inv) - p->eps));
  return (mx_affine){
      .a = a, .b = -a * inv * inv * sum_dyx / (double)v->count, .c = -a * sum_dy / (double)v->count, .center = mean};
}

static void backward_columns(const mx_call *c, const view *v) {
  double *part = c->workspace, *mean = part + 2 * v->blocks * v->channels;
  mx_affine *f = (mx_affine *)(mean + v->channels);
  const void *x = c->in[B_DATA].data, *dy = c->in[GRAD].data;
  for (int64_t j = 0; j < v->channels; j++) mean[j] = load(c->in[B_MEAN].data, v->stats, j);
  columns_pass(v, PASS_GRADIENT, x, dy, NULL, mean, part, NULL);
  for (int64_t j = 0; j < v->channels; j++) f[j] = backward_finish(c, v, j, part[j], part[v->blocks * v->channels + j]);
  if (c->req[0] != MX_NULL) columns_pass(v, PASS_AFFINE, x, dy, c->out[0].data, NULL, part, f);
}

static void backward_channel(const mx_call *c, const view *v, int64_t channel) {
  const size_t at = (size_t)(channel * v->inner) * mx_dtype_size(v->dtype);
  const void *x = (const char *)c->in[B_DATA].data + at, *dy = (const char *)c->in[GRAD].data + at;
  double sum_dy, sum_dyx;
  mx_group_gradient(v->dtype, x, dy, v->group, load(c->in[B_MEAN].data, v->stats, channel), &sum_dy, &sum_dyx);
  const mx_affine f = backward_finish(c, v, channel, sum_dy, sum_dyx);
  if (c->req[0] != MX_NULL) mx_group_affine(v->dtype, x, dy, (char *)c->out[0].data + at, v->group, f);
}

static mx_status batchnorm_backward(const mx_call *c, mx_error *err) {
  const view v = make_view(c->params, &c->in[B_DATA], c->in[B_GAMMA].dtype);
  if (v.columns) {
    backward_columns(c, &v);
    return MX_OK;
  }
#pragma omp parallel for num_threads(mx_threads_for(v.count *v.channels, MX_GRAIN))
  for (int64_t i = 0; i < v.channels; i++) backward_channel(c, &v, i);
  return MX_OK;
}

static const mx_alias forward_in_place[] = {{0, DATA}, {-1, -1}};
static const mx_alias backward_in_place[] = {{0, GRAD}, {0, B_DATA}, {-1, -1}};

#define BATCHNORM_RECORD(name_, table, ...)                                                                     \
  {                                                                                                             \
    .name = name_, .family = "Neural-network layers", .params = table, .params_size = sizeof(batchnorm_params), \
    .n_in = 5, .n_out = 3, .in_names = MX_STRINGS("data", "gamma", "beta", "moving_mean", "moving_var"),        \
    .in_init = MX_STRINGS("", "", "", "[\"zero\", {}]", "[\"one\", {}]"),                                       \
    .out_names = MX_STRINGS("output", "mean", "var"), .aux = 1u << MOVING_MEAN | 1u << MOVING_VAR,              \
    .mutates = 1u << GAMMA, .count_visible = batchnorm_visible, .infer_shape = batchnorm_infer,                 \
    .infer_dtype = batchnorm_dtype, .gradient = batchnorm_gradient, .aliases_mem = forward_in_place,            \
    .prepare = forward_prepare, .kernel = batchnorm_forward,                                                    \
    .in_doc = MX_STRINGS("Any shape with channels along `axis`.", "(channels,): scale.", "(channels,): shift.", \
                         "(channels,): moving average of means.", "(channels,): moving average of variances."), \
    __VA_ARGS__                                                                                                 \
  }
#define BATCHNORM_BACKWARD(name_, table, ...)                                                                          \
  {                                                                                                                    \
    .name = name_, .family = "Neural-network layers", .params = table, .params_size = sizeof(batchnorm_params),        \
    .n_in = 7, .n_out = 3,                                                                                             \
    .in_names = MX_STRINGS("out_grad", "data", "gamma", "mean", "var", "moving_mean", "moving_var"),                   \
    .mutates = 1u << B_MOVING_MEAN | 1u << B_MOVING_VAR, .infer_shape = backward_infer, .infer_dtype = backward_dtype, \
    .aliases_mem = backward_in_place, .flags = MX_OP_HIDDEN, .prepare = backward_prepare,                              \
    .kernel = batchnorm_backward, __VA_ARGS__                                                                          \
  }

const mx_op mx_ops_batchnorm[] = {
    BATCHNORM_RECORD(
        "BatchNorm", batchnorm_table,
        .doc =
            "Batch normalization: output = (data - mean) / sqrt(var + eps) * gamma + beta, with the mean and the "
            "(biased) "
            "variance of each channel over the batch. In inference, and with use_global_stats, the moving averages "
            "take their place. Backward of a training step updates them: moving = momentum * moving + (1 - momentum) * "
            "batch. The output var is 1 / sqrt(var + eps).",
        .source = "Ioffe and Szegedy, Batch normalization, ICML 2015"),
    BATCHNORM_RECORD(
        "BatchNorm_v1", batchnorm_v1_table,
        .doc = "The first version of BatchNorm, kept for saved models: channels are axis 1, fix_gamma sets gamma "
               "in inference too, and the output var is the variance.",
        .check = batchnorm_v1_check),
    BATCHNORM_BACKWARD("_backward_BatchNorm", batchnorm_table, .doc = "Gradient of BatchNorm."),
    BATCHNORM_BACKWARD("_backward_BatchNorm_v1", batchnorm_v1_table, .doc = "Gradient of BatchNorm_v1.",
                       .check = batchnorm_v1_check),
    {0}};
