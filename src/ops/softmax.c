/* softmax, softmin, log_softmax and SoftmaxActivation. Forward is softmax_rows.c; here are their parameters, lengths,
 * output types and gradients. */
#include <math.h>
#include <string.h>

#include "core/array.h"
#include "core/vmath.h"
#include "ops/layer.h"
#include "ops/moments.h"
#include "ops/softmax_rows.h"

typedef struct softmax_params {
  int64_t axis;
  mx_opt_float temperature;
  mx_dtype dtype;
  int8_t use_length;
  /* set by the check of each operator */
  int sign; /* -1: softmin */
  bool log_;
  bool has_length; /* the operator has an input for it */
} softmax_params;

static const char *const dtypes[] = {"None", "float16", "float32", "float64", NULL};
static const mx_param softmax_table[] = {
    MX_P_INT(softmax_params, axis, "-1", -MX_MAX_NDIM, MX_MAX_NDIM - 1, "The axis that is normalized."),
    MX_P_OPT_FLOAT(softmax_params, temperature, "None", MX_ANY, "Data is divided by it first (None: 1)."),
    MX_P_DTYPE(softmax_params, dtype, "None", dtypes, "Type of the output (None: that of data)."),
    MX_P_OPT_BOOL(softmax_params, use_length, "False", "Normalize the first `length` elements only; the others are 0."),
    MX_P_END};

static mx_status check(softmax_params *p, int sign, bool log_, bool has_length, mx_error *err) {
  p->sign = sign;
  p->log_ = log_;
  p->has_length = has_length;
  if (!p->temperature.given || p->temperature.value != 0) return MX_OK;
  return mx_layer_fail(err, MX_ERR_VALUE, "temperature", "temperature must not be 0.");
}
static mx_status softmax_check(void *p, mx_error *err) { return check(p, 1, false, true, err); }
static mx_status softmin_check(void *p, mx_error *err) { return check(p, -1, false, false, err); }
static mx_status log_softmax_check(void *p, mx_error *err) { return check(p, 1, true, false, err); }

static bool with_length(const softmax_params *p) { return p->has_length && p->use_length == 1; }
static int softmax_count_in(const void *params) { return with_length(params) ? 2 : 1; }

static mx_status softmax_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const softmax_params *p = params;
  if (p->use_length == 1 && !p->has_length) {
    return mx_layer_fail(err, MX_ERR_VALUE, "use_length",
                         "Only softmax has an input for lengths: use_length must be False.");
  }
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  if (in[0].ndim < 0) return MX_OK;
  int axis;
  MX_TRY(mx_axis_resolve(p->axis, in[0].ndim, &axis, err));
  if (n_in < 2) return MX_OK;
  mx_shape length = {.ndim = in[0].ndim - 1};
  for (int i = 0; i < length.ndim; i++) length.dim[i] = in[0].dim[i < axis ? i : i + 1];
  return mx_shape_merge(&in[1], &length, "length", err);
}

static mx_status softmax_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const softmax_params *p = params;
  if (n_in > 1) {
    if (in[1] == MX_DTYPE_UNKNOWN) in[1] = MX_INT32;
    if (in[1] != MX_INT32 && in[1] != MX_INT64 && !mx_dtype_is_float(in[1])) {
      return mx_layer_fail(err, MX_ERR_TYPE, "length", "length must be int32, int64 or floating-point, but is %s.",
                           mx_dtype_name(in[1]));
    }
  }
  if (p->dtype == MX_DTYPE_UNKNOWN) return mx_layer_infer_float(params, in, 1, out, 1, err);
  mx_dtype want = p->dtype;
  MX_TRY(mx_layer_infer_float(params, &want, 1, out, 1, err));
  return mx_layer_infer_float(params, in, 1, NULL, 0, err);
}

static mx_softmax_view softmax_view(const softmax_params *p, const mx_shape *s) {
  int axis = (int)(p->axis < 0 ? p->axis + s->ndim : p->axis);
  return (mx_softmax_view){.outer = mx_shape_prod(s, 0, axis),
                           .classes = s->dim[axis],
                           .inner = mx_shape_prod(s, axis + 1, s->ndim),
                           .scale = p->sign / (p->temperature.given ? p->temperature.value : 1)};
}

static mx_status softmax_gradient(mx_grad *g, mx_error *err) {
  const softmax_params *p = g->params;
  const char *op = p->log_ ? "_backward_log_softmax" : p->sign < 0 ? "_backward_softmin" : "_backward_softmax";
  mx_entry in[2] = {MX_NO_ENTRY, g->out[0]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  MX_TRY(mx_layer_backward(g, op, in, 2, 1, err));
  if (!g->wanted[0] || g->in_dtype[0] == g->out_dtype[0]) return MX_OK;
  const char *const attrs[] = {"dtype", mx_dtype_name(g->in_dtype[0]), NULL};
  return mx_grad_call(g, "Cast", attrs, &g->in_grad[0], 1, &g->in_grad[0], err);
}

static int64_t length_at(const mx_tensor *length, int64_t i, int64_t classes) {
  double n = 0;
  switch (length->dtype) {
    case MX_INT32:
      n = ((const int32_t *)length->data)[i];
      break;
    case MX_INT64:
      n = (double)((const int64_t *)length->data)[i];
      break;
    case MX_FLOAT64:
      n = ((const double *)length->data)[i];
      break;
    case MX_FLOAT16:
      n = (double)((const mx_half *)length->data)[i];
      break;
    default:
      n = ((const float *)length->data)[i];
      break;
  }
  return n > 0 ? n < (double)classes ? (int64_t)n : classes : 0;
}

/* The first `k` of `classes` elements that are `step` apart; the others become 0. */
static void masked_row(mx_dtype dtype, const void *x_, void *y_, int64_t k, int64_t classes, int64_t step,
                       double scale) {
  MX_SWITCH_FLOAT(dtype, break, {
    const T *x = x_;
    T *y = y_;
    double m = -INFINITY, sum = 0;
    for (int64_t c = 0; c < k; c++) m = (double)x[c * step] * scale > m ? (double)x[c * step] * scale : m;
    for (int64_t c = 0; c < k; c++) sum += exp((double)x[c * step] * scale - m);
    for (int64_t c = 0; c < k; c++) y[c * step] = (T)(exp((double)x[c * step] * scale - m) / sum);
    for (int64_t c = k; c < classes; c++) y[c * step] = (T)0;
  })
}

static void softmax_run(const softmax_params *p, mx_softmax_view v, const mx_tensor *length, const void *x, void *y,
                        mx_dtype dtype) {
  if (!length) {
    if (p->log_)
      mx_log_softmax_forward(x, y, v, dtype);
    else
      mx_softmax_forward(x, y, v, dtype);
    return;
  }
  const size_t size = mx_dtype_size(dtype);
#pragma omp parallel for num_threads(mx_threads_for(v.outer *v.classes *v.inner, MX_GRAIN / 8))
  for (int64_t i = 0; i < v.outer * v.inner; i++) {
    const size_t at = (size_t)(i / v.inner * v.classes * v.inner + i % v.inner) * size;
    masked_row(dtype, (const char *)x + at, (char *)y + at, length_at(length, i, v.classes), v.classes, v.inner,
               v.scale);
  }
}

static bool narrows(const mx_call *c) { return mx_dtype_size(c->out[0].dtype) < mx_dtype_size(c->in[0].dtype); }

static mx_status softmax_prepare(mx_call *c, mx_error *err) {
  if (narrows(c)) c->workspace_bytes = (size_t)mx_shape_size(&c->in[0].shape) * mx_dtype_size(c->in[0].dtype);
  return MX_OK;
}

/* Computes in the wider one of the two types. */
static mx_status softmax_forward(const mx_call *c, mx_error *err) {
  const softmax_params *p = c->params;
  const mx_tensor *x = &c->in[0], *y = &c->out[0];
  const mx_softmax_view v = softmax_view(p, &x->shape);
  const mx_tensor *length = c->n_in > 1 ? &c->in[1] : NULL;
  const int64_t n = mx_shape_size(&x->shape);
  if (c->req[0] == MX_NULL || n == 0) return MX_OK;
  if (narrows(c)) {
    softmax_run(p, v, length, x->data, c->workspace, x->dtype);
    mx_convert(c->workspace, x->dtype, y->data, y->dtype, n);
    return MX_OK;
  }
  if (x->dtype != y->dtype) mx_convert(x->data, x->dtype, y->data, y->dtype, n);
  softmax_run(p, v, length, x->dtype != y->dtype ? y->data : x->data, y->data, y->dtype);
  return MX_OK;
}

/* ---- backward: (gradient of the output, output) to data, in the output's type ----
 * softmax: scale * y * (dy - sum of dy * y); log_softmax: scale * (dy - exp(y) * sum of dy) */

MX_CLONES static void backward_rows(mx_dtype dtype, const void *y_, const void *dy_, void *dx_, int64_t rows, int64_t k,
                                    double factor, bool log_){MX_SWITCH_FLOAT(
    dtype, break,
    {
      typedef MX_ACC(T) A;
      const T *y = y_, *dy = dy_;
      T *dx = dx_;
      const A f = (A)factor;
      for (int64_t i = 0; i < rows; i++, y += k, dy += k, dx += k) {
        A sum = 0;
        if (log_) {
          _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) sum += (A)dy[j];
          _Pragma("omp simd") for (int64_t j = 0; j < k; j++) dx[j] = (T)(f * ((A)dy[j] - mx_vexp((A)y[j]) * sum));
        } else {
          _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) sum += (A)dy[j] * (A)y[j];
          _Pragma("omp simd") for (int64_t j = 0; j < k; j++) dx[j] = (T)(f * (A)y[j] * ((A)dy[j] - sum));
        }
      }
    })}

MX_CLONES static void backward_lanes(mx_dtype dtype, const void *y_, const void *dy_, void *dx_, int64_t lanes,
                                     int64_t k, int64_t inner, double factor, bool log_) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    const T *y = y_, *dy = dy_;
    T *dx = dx_;
    const A f = (A)factor;
    A sum[MX_SOFTMAX_LANES] = {0};
    for (int64_t c = 0; c < k; c++) {
      const T *yc = y + c * inner, *dyc = dy + c * inner;
      if (log_) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] += (A)dyc[j];
      } else {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] += (A)dyc[j] * (A)yc[j];
      }
    }
    for (int64_t c = 0; c < k; c++) {
      const T *yc = y + c * inner, *dyc = dy + c * inner;
      T *dxc = dx + c * inner;
      if (log_) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) dxc[j] =
            (T)(f * ((A)dyc[j] - mx_vexp((A)yc[j]) * sum[j]));
      } else {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) dxc[j] = (T)(f * (A)yc[j] * ((A)dyc[j] - sum[j]));
      }
    }
  })
}

static void backward_run(mx_dtype dtype, mx_softmax_view v, bool log_, const void *y, const void *dy, void *dx) {
  const size_t size = mx_dtype_size(dtype);
  const int64_t n = v.outer * v.classes * v.inner, strips = (v.inner + MX_SOFTMAX_LANES - 1) / MX_SOFTMAX_LANES;
  if (n == 0) return;
  const int64_t block = v.inner > 1 ? 1 : v.classes < 512 ? 512 / v.classes : 1, blocks = (v.outer + block - 1) / block;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t i = 0; i < blocks * strips; i++) {
    const int64_t first = i / strips * block, lane = i % strips * MX_SOFTMAX_LANES;
    const size_t at = (size_t)(first * v.classes * v.inner + lane) * size;
    const void *yi = (const char *)y + at, *dyi = (const char *)dy + at;
    if (v.inner == 1)
      backward_rows(dtype, yi, dyi, (char *)dx + at, v.outer - first < block ? v.outer - first : block, v.classes,
                    v.scale, log_);
    else
      backward_lanes(dtype, yi, dyi, (char *)dx + at,
                     v.inner - lane < MX_SOFTMAX_LANES ? v.inner - lane : MX_SOFTMAX_LANES, v.classes, v.inner, v.scale,
                     log_);
  }
}

static int backward_count_in(const void *params) { return 2; }

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &in[1], "output", err));
  return mx_layer_unify(&in[0], &out[0], "data", err);
}

static mx_status softmax_backward(const mx_call *c, mx_error *err) {
  const softmax_params *p = c->params;
  if (c->req[0] == MX_NULL) return MX_OK;
  backward_run(c->out[0].dtype, softmax_view(p, &c->in[1].shape), p->log_, c->in[1].data, c->in[0].data,
               c->out[0].data);
  return MX_OK;
}

/* ---- SoftmaxActivation ---- */

typedef struct activation_params {
  int mode;
} activation_params;
enum { MODE_INSTANCE, MODE_CHANNEL };
static const char *const modes[] = {"instance", "channel", NULL};
static const mx_param activation_table[] = {
    MX_P_ENUM(activation_params, mode, "instance", modes,
              "Normalize over the last axis (instance), or over axis 1 at each place (channel)."),
    MX_P_END};

static mx_status activation_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  const int least = ((const activation_params *)params)->mode == MODE_CHANNEL ? 2 : 1;
  if (in[0].ndim < 0 || in[0].ndim >= least) return MX_OK;
  return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least %d dimensions in this mode.", least);
}

static mx_softmax_view activation_view(const activation_params *p, const mx_shape *s, bool backward) {
  /* The reference forgets in backward that `instance` goes along the last axis; what was trained with it expects that.
   */
  if (p->mode == MODE_CHANNEL || (backward && s->ndim > 2))
    return (mx_softmax_view){s->dim[0], s->dim[1], mx_shape_prod(s, 2, s->ndim), 1};
  return (mx_softmax_view){mx_shape_prod(s, 0, s->ndim - 1), s->dim[s->ndim - 1], 1, 1};
}

static mx_status activation_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->out[0]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_SoftmaxActivation", in, 2, 1, err);
}

static mx_status activation_forward(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    mx_softmax_forward(c->in[0].data, c->out[0].data, activation_view(c->params, &c->in[0].shape, false),
                       c->out[0].dtype);
  return MX_OK;
}

static mx_status activation_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    backward_run(c->out[0].dtype, activation_view(c->params, &c->in[1].shape, true), false, c->in[1].data,
                 c->in[0].data, c->out[0].data);
  return MX_OK;
}

static const mx_alias forward_in_place[] = {{0, 0}, {-1, -1}};
static const mx_alias backward_in_place[] = {{0, 0}, {0, 1}, {-1, -1}};

#define SOFTMAX_RECORD(name_, check_, ...)                                                                            \
  {                                                                                                                   \
    .name = name_, .family = "Neural-network layers", .params = softmax_table, .params_size = sizeof(softmax_params), \
    .check = check_, .n_in = 2, .n_out = 1, .in_names = MX_STRINGS("data", "length"), .count_in = softmax_count_in,   \
    .infer_shape = softmax_infer, .infer_dtype = softmax_dtype, .gradient = softmax_gradient,                         \
    .aliases_mem = forward_in_place, .prepare = softmax_prepare, .kernel = softmax_forward, __VA_ARGS__               \
  }
#define SOFTMAX_BACKWARD(name_, check_, doc_)                                                                   \
  {                                                                                                             \
    .name = name_, .family = "Neural-network layers", .doc = doc_, .params = softmax_table,                     \
    .params_size = sizeof(softmax_params), .check = check_, .n_in = 2, .n_out = 1,                              \
    .in_names = MX_STRINGS("out_grad", "output"), .count_in = backward_count_in, .infer_shape = backward_infer, \
    .infer_dtype = mx_layer_infer_float, .aliases_mem = backward_in_place, .flags = MX_OP_HIDDEN,               \
    .kernel = softmax_backward                                                                                  \
  }
#define DATA_DOC "Any shape with at least one dimension."

const mx_op mx_ops_softmax[] = {
    SOFTMAX_RECORD(
        "softmax", softmax_check,
        .doc = "Softmax along an axis: exp(data / temperature) divided by its sum over the axis. With use_length "
               "only the first `length` elements take part and the others become 0.",
        .in_doc = MX_STRINGS(DATA_DOC, "The shape of data without the axis; only with use_length = True.")),
    SOFTMAX_RECORD("softmin", softmin_check,
                   .doc = "Softmin along an axis: exp(-data / temperature) divided by its sum over the axis.",
                   .in_doc = MX_STRINGS(DATA_DOC)),
    SOFTMAX_RECORD(
        "log_softmax", log_softmax_check,
        .doc = "Logarithm of softmax along an axis: z - log(sum of exp(z) over the axis), z = data / temperature.",
        .in_doc = MX_STRINGS(DATA_DOC)),
    {.name = "SoftmaxActivation",
     .family = "Neural-network layers",
     .doc = "Softmax of an older interface: over the last axis, or over the channels at each place. Kept for saved "
            "models: softmax "
            "does "
            "the same along any axis.",
     .in_doc = MX_STRINGS("(..., classes), or (batch, channels, ...) with mode = channel."),
     .params = activation_table,
     .params_size = sizeof(activation_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = activation_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = activation_gradient,
     .aliases_mem = forward_in_place,
     .kernel = activation_forward},
    SOFTMAX_BACKWARD("_backward_softmax", softmax_check, "Gradient of softmax."),
    SOFTMAX_BACKWARD("_backward_softmin", softmin_check, "Gradient of softmin."),
    SOFTMAX_BACKWARD("_backward_log_softmax", log_softmax_check, "Gradient of log_softmax."),
    {.name = "_backward_SoftmaxActivation",
     .family = "Neural-network layers",
     .doc = "Gradient of SoftmaxActivation.",
     .params = activation_table,
     .params_size = sizeof(activation_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "output"),
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .aliases_mem = backward_in_place,
     .flags = MX_OP_HIDDEN,
     .kernel = activation_backward},
    {0}};
