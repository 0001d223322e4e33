/* LRN: local response normalization across neighbouring channels.
 *
 * With s = knorm + alpha / nsize * (sum of data^2 over nsize channels around) the output is data * s^-beta, and the
 * gradient dy * s^-beta - 2 * alpha * beta / nsize * data * (sum of dy * data * s^(-beta - 1) over the same channels).
 */
#include <math.h>
#include <string.h>

#include "core/vmath.h"
#include "ops/layer.h"
#include "ops/moments.h"

typedef struct lrn_params {
  double alpha, beta, knorm;
  int64_t nsize;
} lrn_params;

static const mx_param lrn_table[] = {
    MX_P_FLOAT(lrn_params, alpha, "0.0001", MX_ANY, "Weight of the sum of squares."),
    MX_P_FLOAT(lrn_params, beta, "0.75", MX_ANY, "Exponent."),
    MX_P_FLOAT(lrn_params, knorm, "2", MX_ANY, "Constant term."),
    MX_P_INT(lrn_params, nsize, NULL, 1, INT32_MAX, "Number of channels that are summed; odd."), MX_P_END};

static mx_status lrn_check(void *params, mx_error *err) {
  if (((const lrn_params *)params)->nsize % 2 == 1) return MX_OK;
  return mx_layer_fail(err, MX_ERR_VALUE, "nsize", "nsize must be odd, but is %lld.",
                       (long long)((const lrn_params *)params)->nsize);
}

static int lrn_visible(const void *params) { return 1; }

static mx_status lrn_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  if (in[0].ndim >= 0 && in[0].ndim < 2)
    return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least 2 dimensions: batch and channels.");
  return mx_layer_unify(&out[1], &in[0], "norm", err);
}

static mx_status lrn_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->out[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_LRN", in, 3, 1, err);
}

/* v^-beta for positive v; in float by short polynomials, which loops can vectorize. */
MX_INLINE float power_float(float v, double beta) { return mx_vexp_float(-(float)beta * mx_vlog_normal(v)); }
MX_INLINE double power_double(double v, double beta) { return pow(v, -beta); }
#define POWER(v, beta) _Generic((v), double : power_double, default : power_float)(v, beta)

/* `lanes` neighbouring places of one sample: `channels` rows, `step` apart. */
typedef struct strip {
  int64_t channels, step, lanes, half;
  double scale, knorm, beta;
} strip;

/* The channels [window_from, window_to) around channel c. */
MX_INLINE int64_t window_from(const strip *s, int64_t c) { return c > s->half ? c - s->half : 0; }
MX_INLINE int64_t window_to(const strip *s, int64_t c) {
  return s->channels - c > s->half ? c + s->half + 1 : s->channels;
}

MX_CLONES static void strip_forward(mx_dtype dtype, const strip *s, const void *x_, void *y_, void *norm_){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      typedef MX_ACC(T) A;
                      const T *x = x_;
                      T *y = y_, *norm = norm_;
                      const A scale = (A)s->scale, knorm = (A)s->knorm;
                      for (int64_t c = 0; c < s->channels; c++) {
                        A base[MX_LANES] = {0};
                        const int64_t at = c * s->step, to = window_to(s, c);
                        for (int64_t k = window_from(s, c); k < to; k++) {
                          const T *row = x + k * s->step;
                          _Pragma("omp simd") for (int64_t j = 0; j < s->lanes; j++) base[j] += (A)row[j] * (A)row[j];
                        }
                        for (int64_t j = 0; j < s->lanes; j++) base[j] = knorm + scale * base[j];
                        for (int64_t j = 0; norm && j < s->lanes; j++) norm[at + j] = (T)base[j];
                        if (!y) continue;
                        _Pragma("omp simd") for (int64_t j = 0; j < s->lanes; j++) y[at + j] =
                            (T)((A)x[at + j] * POWER(base[j], s->beta));
                      }
                    })}

/* `term` takes dy * data * norm^(-beta - 1) of the strip, in the type of sums. */
MX_CLONES static void strip_backward(mx_dtype dtype, const strip *s, const void *dy_, const void *x_, const void *norm_,
                                     void *dx_, void *term_) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    const T *dy = dy_, *x = x_, *norm = norm_;
    T *dx = dx_;
    A *term = term_;
    for (int64_t c = 0; c < s->channels; c++) {
      const int64_t at = c * s->step;
      _Pragma("omp simd") for (int64_t j = 0; j < s->lanes; j++) {
        A first = (A)dy[at + j] * POWER((A)norm[at + j], s->beta);
        term[at + j] = first * (A)x[at + j] / (A)norm[at + j];
        dx[at + j] = (T)first;
      }
    }
    const A factor = (A)(2 * s->scale * s->beta);
    for (int64_t c = 0; c < s->channels; c++) {
      const int64_t at = c * s->step, to = window_to(s, c);
      A sum[MX_LANES] = {0};
      for (int64_t k = window_from(s, c); k < to; k++) {
        const A *row = term + k * s->step;
        _Pragma("omp simd") for (int64_t j = 0; j < s->lanes; j++) sum[j] += row[j];
      }
      _Pragma("omp simd") for (int64_t j = 0; j < s->lanes; j++) dx[at + j] =
          (T)((A)dx[at + j] - factor * (A)x[at + j] * sum[j]);
    }
  })
}

static mx_status run(const mx_call *c, bool backward) {
  const lrn_params *p = c->params;
  const mx_tensor *x = &c->in[backward];
  const mx_shape *s = &x->shape;
  const int64_t space = mx_shape_prod(s, 2, s->ndim), strips = (space + MX_LANES - 1) / MX_LANES;
  const int64_t sample = s->dim[1] * space;
  const size_t size = mx_dtype_size(x->dtype), sum_size = size < sizeof(float) ? sizeof(float) : size;
#pragma omp parallel for num_threads(mx_threads_for(s->dim[0] * sample * p->nsize, MX_GRAIN))
  for (int64_t i = 0; i < s->dim[0] * strips; i++) {
    const int64_t place = i % strips * MX_LANES, element = i / strips * sample + place;
    const size_t at = (size_t)element * size;
    const strip t = {.channels = s->dim[1],
                     .step = space,
                     .lanes = space - place < MX_LANES ? space - place : MX_LANES,
                     .half = p->nsize / 2,
                     .scale = p->alpha / (double)p->nsize,
                     .knorm = p->knorm,
                     .beta = p->beta};
    const char *xi = (const char *)x->data + at;
    if (backward)
      strip_backward(x->dtype, &t, (const char *)c->in[0].data + at, xi, (const char *)c->in[2].data + at,
                     (char *)c->out[0].data + at, (char *)c->workspace + (size_t)element * sum_size);
    else
      strip_forward(x->dtype, &t, xi, c->req[0] != MX_NULL ? (char *)c->out[0].data + at : NULL,
                    c->req[1] != MX_NULL ? (char *)c->out[1].data + at : NULL);
  }
  return MX_OK;
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  const size_t size = mx_dtype_size(c->in[1].dtype);
  c->workspace_bytes = (size_t)mx_shape_size(&c->in[1].shape) * (size < sizeof(float) ? sizeof(float) : size);
  return MX_OK;
}

static mx_status lrn_forward(const mx_call *c, mx_error *err) { return run(c, false); }
static mx_status lrn_backward(const mx_call *c, mx_error *err) { return c->req[0] != MX_NULL ? run(c, true) : MX_OK; }

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_layer_unify(&in[1], &out[0], "data", err);
}

const mx_op mx_ops_lrn[] = {
    {.name = "LRN",
     .family = "Neural-network layers",
     .doc = "Local response normalization: output = data / (knorm + alpha / nsize * s)^beta, where s is the sum of "
            "squares over "
            "nsize neighbouring channels at the same place.",
     .in_doc = MX_STRINGS("(batch, channels, ...)."),
     .source =
         "Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, NIPS 2012",
     .params = lrn_table,
     .params_size = sizeof(lrn_params),
     .check = lrn_check,
     .n_in = 1,
     .n_out = 2,
     .out_names = MX_STRINGS("output", "norm"),
     .count_visible = lrn_visible,
     .infer_shape = lrn_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = lrn_gradient,
     .kernel = lrn_forward},
    {.name = "_backward_LRN",
     .family = "Neural-network layers",
     .doc = "Gradient of LRN.",
     .params = lrn_table,
     .params_size = sizeof(lrn_params),
     .check = lrn_check,
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "data", "norm"),
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .flags = MX_OP_HIDDEN,
     .prepare = backward_prepare,
     .kernel = lrn_backward},
    {0}};
