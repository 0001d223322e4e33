/* Output layers: what forward shows is a prediction, what backward gives is the gradient of a loss.
 *
 * Regression outputs, SoftmaxOutput, SVMOutput and MakeLoss ignore the gradient of their output; softmax_cross_entropy
 * is an ordinary function of its inputs. Labels may have any type. A label that names no class matches none. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/vmath.h"
#include "ops/op.h"
#include "ops/softmax_rows.h"

#define FAMILY "Losses and outputs"
#define ACC(T) __typeof__((T)0 + 0.0f) /* computes in float for half and float */

/* ---- shared ---- */

/* data and output are of one floating-point type; the label has its own, by default the same. */
static mx_status loss_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = in[0] != MX_DTYPE_UNKNOWN ? in[0] : out[0];
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  if (!mx_dtype_is_float(t))
    return mx_fail(err, MX_ERR_TYPE, "data must have a floating-point type, but it is %s.", mx_dtype_name(t));
  if (out[0] != MX_DTYPE_UNKNOWN && out[0] != t)
    return mx_fail(err, MX_ERR_TYPE, "The output has the type of data, %s, but %s was asked for.", mx_dtype_name(t),
                   mx_dtype_name(out[0]));
  in[0] = out[0] = t;
  if (n_in > 1 && in[1] == MX_DTYPE_UNKNOWN) in[1] = t;
  return MX_OK;
}

/* Backward: the gradient (output 0) has the shape and the type of input 0. */
static mx_status backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &in[0], "the gradient", err);
}
static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  out[0] = in[0];
  return MX_OK;
}

static mx_status identity_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL || c->out[0].data == c->in[0].data) return MX_OK;
  size_t bytes = (size_t)mx_shape_size(&c->out[0].shape) * mx_dtype_size(c->out[0].dtype);
  return c->device->ops->copy(c->device, c->out[0].data, c->in[0].data, bytes, err);
}

/* Products of dimensions are safe after this, whatever was given; unknown ones count as 1. */
static mx_status check_extent(const mx_shape *s, mx_error *err) {
  mx_shape known = *s;
  for (int i = 0; i < known.ndim; i++)
    if (known.dim[i] < 0) known.dim[i] = 1;
  return s->ndim < 0 ? MX_OK : mx_shape_check_size(&known, 1, err);
}
static mx_status unify_data(mx_shape *in, mx_shape *out, mx_error *err) {
  MX_TRY(mx_shape_merge(&in[0], &out[0], "data", err));
  MX_TRY(mx_shape_merge(&out[0], &in[0], "output", err));
  if (in[0].ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "data must have at least one dimension.");
  MX_TRY(check_extent(&in[1], err));
  return check_extent(&in[0], err);
}

static mx_status label_mismatch(const mx_shape *label, const mx_shape *data, const char *expected, mx_error *err) {
  char tl[MX_SHAPE_TEXT], td[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE, "The label has native shape %s, which does not fit data of native shape %s: expected %s.",
          mx_shape_text(label, tl), mx_shape_text(data, td), expected);
  mx_error_set(err, argument, "label");
  mx_error_set(err, actual, "%s", tl);
  mx_error_set(err, expected, "%s", expected);
  return MX_ERR_SHAPE;
}

static double label_value(const mx_tensor *label, int64_t i) {
  MX_SWITCH_ALL(label->dtype, return NAN, return (double)((const T *)label->data)[i];)
  return NAN;
}
/* The class that a label names, or -1. Fractions are cut off, as everywhere in the reference. */
static int64_t class_of(double label, int64_t classes) {
  return label > -1.0 && label < (double)classes ? (int64_t)label : -1;
}

/* ---- regression outputs ---- */

typedef struct regression_params {
  double grad_scale;
} regression_params;

static const mx_param regression_table[] = {
    MX_P_FLOAT(regression_params, grad_scale, "1", MX_ANY, "The gradient is multiplied by this number."), MX_P_END};

static mx_status regression_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(unify_data(in, out, err));
  const mx_shape *d = &in[0];
  mx_shape *l = &in[1];
  if (d->ndim < 0) return MX_OK;
  if (l->ndim < 0) {
    *l = *d;
    if (d->ndim == 2 && d->dim[1] == 1) l->ndim = 1; /* one target a sample: a vector of labels */
    return MX_OK;
  }
  if (l->ndim == d->ndim) return mx_shape_merge(l, d, "label", err);
  if (!mx_shape_known(l) || !mx_shape_known(d)) return MX_OK;
  if (l->ndim == 0 || l->dim[0] != d->dim[0] || mx_shape_size(l) != mx_shape_size(d))
    return label_mismatch(l, d, "as many samples and as many elements", err);
  return MX_OK;
}

MX_CLONES static void sigmoid_range(const void *x_, void *y_, int64_t n, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    const T *x = x_;
    T *y = y_;
    typedef ACC(T) A;
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (T)mx_vsigmoid((A)x[i]);
  })
}

enum { BLOCK = 4096 }; /* elements a thread takes at a time */

static mx_status logistic_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  int64_t n = mx_shape_size(&c->out[0].shape);
  size_t element = mx_dtype_size(c->out[0].dtype);
#pragma omp parallel for num_threads(mx_threads_for(n * 8, MX_GRAIN))
  for (int64_t i = 0; i < n; i += BLOCK) {
    size_t at = (size_t)i * element;
    sigmoid_range((const char *)c->in[0].data + at, (char *)c->out[0].data + at, n - i < BLOCK ? n - i : BLOCK,
                  c->out[0].dtype);
  }
  return MX_OK;
}

/* Labels of a block as the type that the loop computes in. */
MX_CLONES static void read_labels(const mx_tensor *label, int64_t from, int64_t n, double *out){
    MX_SWITCH_ALL(label->dtype, break,
                  {
                    const T *l = (const T *)label->data + from;
                    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = (double)l[i];
                  })}

MX_CLONES static void regression_range(const void *y_, const double *label, void *dx_, int64_t n, double scale,
                                       bool absolute, bool add, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *y = y_;
    T *dx = dx_;
    if (add) { /* as recorded: the difference is added first, and the sum is scaled and added to itself */
      for (int64_t i = 0; i < n; i++) {
        A d = (A)y[i] - (A)label[i];
        d = (A)dx[i] + (absolute ? (A)(d > 0) - (A)(d < 0) : d);
        dx[i] = (T)(d + (A)scale * d);
      }
    } else if (absolute) {
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {
        A d = (A)y[i] - (A)label[i];
        dx[i] = (T)((A)scale * (d > 0 ? (A)1 : d < 0 ? (A)-1 : d));
      }
    } else {
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) dx[i] = (T)((A)scale * ((A)y[i] - (A)label[i]));
    }
  })
}

/* (output, label) to the gradient of data: scale * (y - label), or its sign, per target of a sample. */
static mx_status regression_backward(const mx_call *c, bool absolute) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_tensor *y = &c->in[0];
  int64_t n = mx_shape_size(&y->shape);
  if (n == 0) return MX_OK;
  double scale = ((const regression_params *)c->params)->grad_scale / (double)(n / y->shape.dim[0]);
  size_t element = mx_dtype_size(y->dtype);
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t i = 0; i < n; i += 256) {
    double label[256];
    int64_t len = n - i < 256 ? n - i : 256;
    read_labels(&c->in[1], i, len, label);
    regression_range((const char *)y->data + (size_t)i * element, label, (char *)c->out[0].data + (size_t)i * element,
                     len, scale, absolute, c->req[0] == MX_ADD, y->dtype);
  }
  return MX_OK;
}
static mx_status squared_backward(const mx_call *c, mx_error *err) { return regression_backward(c, false); }
static mx_status absolute_backward(const mx_call *c, mx_error *err) { return regression_backward(c, true); }

static mx_status squared_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_RegressionOutput", (mx_entry[]){g->out[0], g->in[1]}, 2, &g->in_grad[0], err);
}
static mx_status absolute_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_MAERegressionOutput", (mx_entry[]){g->out[0], g->in[1]}, 2, &g->in_grad[0],
                          err);
}

/* ---- SoftmaxOutput ---- */

typedef struct softmax_params {
  double grad_scale, ignore_label;
  bool multi_output, use_ignore, preserve_shape;
  int normalization;
  bool out_grad;
  double smooth_alpha;
} softmax_params;

enum { NORMALIZE_BATCH, NORMALIZE_NULL, NORMALIZE_VALID };
static const char *const normalizations[] = {"batch", "null", "valid", NULL};
static const mx_param softmax_table[] = {
    MX_P_FLOAT(softmax_params, grad_scale, "1", MX_ANY, "The gradient is multiplied by this number."),
    MX_P_FLOAT(softmax_params, ignore_label, "-1", MX_ANY,
               "Samples with this label have no gradient when use_ignore is set; they never count as valid."),
    MX_P_BOOL(softmax_params, multi_output, "0",
              "The classes are native axis 1, and there is one label for each position of the axes after it."),
    MX_P_BOOL(softmax_params, use_ignore, "0", "Leave samples whose label is ignore_label out of the gradient."),
    MX_P_BOOL(softmax_params, preserve_shape, "0",
              "The classes are the last native axis; otherwise all axes but the first are classes."),
    MX_P_ENUM(
        softmax_params, normalization, "null", normalizations,
        "Divides the gradient: null by nothing, batch by the number of samples, valid by the number of labels other "
        "than ignore_label."),
    MX_P_BOOL(softmax_params, out_grad, "0", "Multiply the gradient by the output, element by element."),
    MX_P_FLOAT(
        softmax_params, smooth_alpha, "0", 0, 1,
        "Label smoothing: this part of the probability is spread over the classes other than the label. Not with "
        "multi_output."),
    MX_P_END};

static mx_softmax_view softmax_view(const softmax_params *p, const mx_shape *s) {
  int n = s->ndim;
  if (p->multi_output && n > 1) return (mx_softmax_view){s->dim[0], s->dim[1], mx_shape_prod(s, 2, n)};
  if (p->preserve_shape) return (mx_softmax_view){mx_shape_prod(s, 0, n - 1), s->dim[n - 1], 1};
  return (mx_softmax_view){s->dim[0], mx_shape_prod(s, 1, n), 1};
}

/* With multi_output the label of data (n, classes, d...) may be (n, product of d), (n, d...) or (n, 1, d...). */
static mx_status multi_output_label(mx_shape *l, const mx_shape *d, mx_error *err) {
  if (d->ndim < 2) return label_mismatch(l, d, "data with at least two dimensions for multi_output", err);
  if (l->ndim < 0) {
    mx_shape flat = mx_shape_of(d->dim[0], 1);
    for (int i = 2; i < d->ndim; i++)
      flat.dim[1] = flat.dim[1] < 0 || d->dim[i] < 0 ? MX_DIM_UNKNOWN : flat.dim[1] * d->dim[i];
    *l = flat;
    return MX_OK;
  }
  if (!mx_shape_known(d) || !mx_shape_known(l)) return MX_OK;
  mx_shape same = {.ndim = d->ndim - 1}, one = *d;
  same.dim[0] = d->dim[0];
  for (int i = 2; i < d->ndim; i++) same.dim[i - 1] = d->dim[i];
  one.dim[1] = 1;
  mx_shape flat = mx_shape_of(d->dim[0], mx_shape_prod(d, 2, d->ndim));
  if (mx_shape_equal(l, &same) || mx_shape_equal(l, &one) || mx_shape_equal(l, &flat)) return MX_OK;
  char text[MX_SHAPE_TEXT];
  return label_mismatch(l, d, mx_shape_text(&same, text), err);
}

static mx_status softmax_output_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                      mx_error *err) {
  const softmax_params *p = params;
  MX_TRY(unify_data(in, out, err));
  const mx_shape *d = &in[0];
  mx_shape *l = &in[1];
  if (d->ndim < 0) return MX_OK;
  if (l->ndim == d->ndim && mx_shape_known(l) && mx_shape_equal(l, d)) return MX_OK; /* probabilities as label */
  if (p->multi_output) return multi_output_label(l, d, err);
  mx_shape lead = *d;
  if (lead.ndim > 1) lead.ndim--; /* a single dimension: as many samples with one class each */
  if (l->ndim < 0 || l->ndim == lead.ndim) return mx_shape_merge(l, &lead, "label", err);
  if (!mx_shape_known(l) || !mx_shape_known(d)) return MX_OK;
  char text[MX_SHAPE_TEXT];
  return label_mismatch(l, d, mx_shape_text(&lead, text), err);
}

static mx_status softmax_output_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  mx_softmax_forward(c->in[0].data, c->out[0].data, softmax_view(c->params, &c->in[0].shape), c->out[0].dtype);
  return MX_OK;
}

/* What the gradient is multiplied by. The label has one element a row, in the order of rows. */
static double softmax_scale(const softmax_params *p, mx_softmax_view v, const mx_tensor *label, bool probabilities) {
  if (probabilities) return p->grad_scale;
  int64_t rows = v.outer * v.inner;
  if (p->normalization == NORMALIZE_BATCH) return p->grad_scale / (double)v.inner / (double)(rows / v.inner);
  if (p->normalization == NORMALIZE_NULL) return p->grad_scale / (double)v.inner;
  int64_t valid = 0;
  for (int64_t i = 0; i < rows; i++) valid += trunc(label_value(label, i)) != trunc(p->ignore_label);
  return p->grad_scale / (double)(valid > 0 ? valid : 1);
}

/* One row of classes, `inner` elements apart: y minus the wanted distribution, scaled. dx may be y. */
MX_CLONES static void softmax_row_gradient(const void *y_, void *dx_, mx_softmax_view v, int64_t target, bool ignored,
                                           const softmax_params *p, double scale, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *y = y_;
    T *dx = dx_;
    int64_t step = v.inner;
    A s = ignored ? 0 : (A)scale;
    double alpha = p->multi_output ? 0 : p->smooth_alpha;
    A other = alpha > 0 && v.classes > 1 && target >= 0 ? (A)(alpha / (double)(v.classes - 1)) : 0;
    A hit = target >= 0 ? (A)y[target * step] : 0;
    if (ignored) {
      for (int64_t j = 0; j < v.classes; j++) dx[j * step] = 0;
    } else if (p->out_grad) {
      for (int64_t j = 0; j < v.classes; j++) dx[j * step] = (T)(((A)y[j * step] - other) * s * (A)y[j * step]);
    } else if (step == 1) {
      _Pragma("omp simd") for (int64_t j = 0; j < v.classes; j++) dx[j] = (T)(((A)y[j] - other) * s);
    } else {
      for (int64_t j = 0; j < v.classes; j++) dx[j * step] = (T)(((A)y[j * step] - other) * s);
    }
    if (target >= 0) dx[target * step] = (T)((hit - (A)(1 - alpha)) * s * (p->out_grad ? hit : (A)1));
  })
}

enum { STRIP = 256 };
/* The same for `lanes` neighbouring rows of a multi_output, whose classes are `inner` elements apart. */
MX_CLONES
static void softmax_lanes_gradient(const void *y_, void *dx_, mx_softmax_view v, int64_t lanes, const int64_t *target,
                                   const int32_t *ignored, double scale, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *y = y_;
    T *dx = dx_;
    const A s = (A)scale;
    A hit[STRIP];
    for (int64_t j = 0; j < lanes; j++) hit[j] = target[j] >= 0 ? (A)y[target[j] * v.inner + j] : 0;
    for (int64_t k = 0; k < v.classes; k++) {
      const T *yk = y + k * v.inner;
      T *dxk = dx + k * v.inner;
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) {
        const A g = (A)yk[j] * s;
        dxk[j] = ignored[j] ? (T)0 : (T)g;
      }
    }
    for (int64_t j = 0; j < lanes; j++)
      if (target[j] >= 0) dx[target[j] * v.inner + j] = (T)((hit[j] - 1) * s);
  })
}
static void softmax_strip_gradient(const mx_call *c, mx_softmax_view v, double scale, int64_t outer, int64_t lane) {
  const softmax_params *p = c->params;
  const int64_t lanes = v.inner - lane < STRIP ? v.inner - lane : STRIP;
  const size_t at = (size_t)(outer * v.classes * v.inner + lane) * mx_dtype_size(c->in[0].dtype);
  double label[STRIP];
  int64_t target[STRIP];
  int32_t ignored[STRIP];
  read_labels(&c->in[1], outer * v.inner + lane, lanes, label);
  for (int64_t j = 0; j < lanes; j++) {
    ignored[j] = p->use_ignore && trunc(label[j]) == trunc(p->ignore_label);
    target[j] = ignored[j] ? -1 : class_of(label[j], v.classes);
  }
  softmax_lanes_gradient((const char *)c->in[0].data + at, (char *)c->out[0].data + at, v, lanes, target, ignored,
                         scale, c->in[0].dtype);
}

/* (output, label) to the gradient of data. As recorded, a request to add to an argument's gradient writes. */
static mx_status softmax_output_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const softmax_params *p = c->params;
  const mx_tensor *y = &c->in[0], *label = &c->in[1];
  mx_softmax_view v = softmax_view(p, &y->shape);
  int64_t rows = v.outer * v.inner, size = rows * v.classes;
  if (size == 0) return MX_OK;
  size_t element = mx_dtype_size(y->dtype);
  bool probabilities = y->shape.ndim > 1 && mx_shape_equal(&label->shape, &y->shape);
  double scale = softmax_scale(p, v, label, probabilities);
  char *dx = c->out[0].data;
  if (probabilities) {
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
    for (int64_t i = 0; i < size; i += 256) {
      double l[256];
      int64_t len = size - i < 256 ? size - i : 256;
      read_labels(label, i, len, l);
      regression_range((const char *)y->data + (size_t)i * element, l, dx + (size_t)i * element, len, scale, false,
                       false, y->dtype);
    }
    return MX_OK;
  }
  if (v.inner > 1 && !p->out_grad) {
    const int64_t strips = (v.inner + STRIP - 1) / STRIP;
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
    for (int64_t i = 0; i < v.outer * strips; i++) softmax_strip_gradient(c, v, scale, i / strips, i % strips * STRIP);
    return MX_OK;
  }
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
  for (int64_t i = 0; i < rows; i++) {
    double l = label_value(label, i);
    bool ignored = p->use_ignore && trunc(l) == trunc(p->ignore_label);
    size_t at = (size_t)(i / v.inner * v.classes * v.inner + i % v.inner) * element;
    softmax_row_gradient((const char *)y->data + at, dx + at, v, ignored ? -1 : class_of(l, v.classes), ignored, p,
                         scale, y->dtype);
  }
  return MX_OK;
}

static mx_status softmax_output_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_SoftmaxOutput", (mx_entry[]){g->out[0], g->in[1]}, 2, &g->in_grad[0], err);
}

/* ---- SVMOutput ---- */

typedef struct svm_params {
  double margin, regularization_coefficient;
  bool use_linear;
} svm_params;

static const mx_param svm_table[] = {
    MX_P_FLOAT(svm_params, margin, "1", MX_ANY, "Distance that scores should keep from zero."),
    MX_P_FLOAT(svm_params, regularization_coefficient, "1", MX_ANY, "Weight of the loss."),
    MX_P_BOOL(svm_params, use_linear, "0", "Hinge loss; otherwise its square."), MX_P_END};

/* data (..., classes), label (...). */
static mx_status rows_label_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(unify_data(in, out, err));
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim < 2) return mx_fail(err, MX_ERR_SHAPE, "data must have native shape (samples..., classes).");
  mx_shape lead = in[0];
  lead.ndim--;
  return mx_shape_merge(&in[1], &lead, "label", err);
}

/* Each class is a two-class machine: the label's wants a score above margin, the others one below -margin. */
MX_CLONES static void svm_row(const void *x_, void *dx_, int64_t k, int64_t target, const svm_params *p,
                              mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    T *dx = dx_;
    A margin = (A)p->margin;
    A scale = (A)p->regularization_coefficient;
    for (int64_t j = 0; j < k; j++) {
      A sign = j == target ? (A)-1 : (A)1;
      A violation = margin + sign * (A)x[j];
      dx[j] = violation > 0 ? (T)(sign * scale * (p->use_linear ? (A)1 : 2 * violation)) : (T)0;
    }
  })
}

static mx_status svm_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_tensor *x = &c->in[0];
  int64_t k = x->shape.dim[x->shape.ndim - 1], rows = mx_shape_prod(&x->shape, 0, x->shape.ndim - 1);
  size_t bytes = (size_t)k * mx_dtype_size(x->dtype);
#pragma omp parallel for num_threads(mx_threads_for(rows *k, MX_GRAIN))
  for (int64_t i = 0; i < rows; i++)
    svm_row((const char *)x->data + (size_t)i * bytes, (char *)c->out[0].data + (size_t)i * bytes, k,
            class_of(label_value(&c->in[1], i), k), c->params, x->dtype);
  return MX_OK;
}

static mx_status svm_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_SVMOutput", g->in, 2, &g->in_grad[0], err);
}

/* ---- MakeLoss, make_loss ---- */

typedef struct make_loss_params {
  double grad_scale, valid_thresh;
  int normalization;
} make_loss_params;

static const mx_param make_loss_table[] = {
    MX_P_FLOAT(make_loss_params, grad_scale, "1", MX_ANY, "The gradient is this number."),
    MX_P_FLOAT(make_loss_params, valid_thresh, "0", MX_ANY, "Elements above it count as valid."),
    MX_P_ENUM(
        make_loss_params, normalization, "null", normalizations,
        "Divides the gradient: null by nothing, batch by the first native dimension, valid by the number of valid "
        "elements."),
    MX_P_END};

static mx_status constant_gradient(mx_grad *g, double value, mx_error *err) {
  char shape[MX_SHAPE_TEXT], text[32];
  snprintf(text, sizeof(text), "%.17g", value);
  return mx_grad_call(g, "_full",
                      (const char *const[]){"shape", mx_shape_text(&g->in_shape[0], shape), "dtype",
                                            mx_dtype_name(g->in_dtype[0]), "value", text, NULL},
                      NULL, 0, &g->in_grad[0], err);
}

static mx_status make_loss_gradient(mx_grad *g, mx_error *err) {
  const make_loss_params *p = g->params; /* NULL for make_loss */
  if (!g->wanted[0] || mx_shape_size(&g->in_shape[0]) == 0) return MX_OK;
  if (p && p->normalization == NORMALIZE_VALID)
    return mx_grad_backward(g, "_backward_MakeLoss", g->in, 1, &g->in_grad[0], err);
  double value = p ? p->grad_scale : 1;
  if (p && p->normalization == NORMALIZE_BATCH) value /= (double)g->in_shape[0].dim[0];
  return constant_gradient(g, value, err);
}

static mx_status make_loss_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const make_loss_params *p = c->params;
  int64_t n = mx_shape_size(&c->in[0].shape), valid = 0;
  MX_SWITCH_FLOAT(c->in[0].dtype, break, {
    const T *x = c->in[0].data;
    T *dx = c->out[0].data;
    for (int64_t i = 0; i < n; i++) valid += (double)x[i] > p->valid_thresh;
    T value = (T)(p->grad_scale / (double)(valid > 0 ? valid : 1));
    for (int64_t i = 0; i < n; i++) dx[i] = value;
  })
  return MX_OK;
}

/* ---- softmax_cross_entropy ---- */

static mx_status cross_entropy_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                     mx_error *err) {
  mx_shape matrix = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN), one = mx_shape_of(1);
  MX_TRY(mx_shape_merge(&in[0], &matrix, "data", err));
  mx_shape rows = mx_shape_of(in[0].dim[0]);
  MX_TRY(mx_shape_merge(&in[1], &rows, "label", err));
  in[0].dim[0] = in[1].dim[0];
  return mx_shape_merge(&out[0], &one, "output", err);
}

/* -log softmax(x)[label]; a label that names no class adds nothing. */
MX_CLONES static double cross_entropy_row(const void *x_, int64_t k, int64_t target, mx_dtype dtype) {
  if (target < 0) return 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    A m = -INFINITY, sum = 0;
    _Pragma("omp simd reduction(max : m)") for (int64_t j = 0; j < k; j++) m = (A)x[j] > m ? (A)x[j] : m;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) sum += mx_vexp((A)x[j] - m);
    return log((double)sum) + (double)m - (double)x[target];
  })
  return 0;
}

static mx_status cross_entropy_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_tensor *x = &c->in[0];
  int64_t rows = x->shape.dim[0], k = x->shape.dim[1];
  size_t bytes = (size_t)k * mx_dtype_size(x->dtype);
  enum { PARTS = 64, EACH = 16 }; /* sums of so many rows, which are added in order */
  double loss = 0, part[PARTS];
  for (int64_t at = 0; at < rows; at += PARTS * EACH) {
    const int64_t n = rows - at < PARTS * EACH ? rows - at : PARTS * EACH, parts = (n + EACH - 1) / EACH;
#pragma omp parallel for num_threads(mx_threads_for(n *k, MX_GRAIN))
    for (int64_t p = 0; p < parts; p++) {
      part[p] = 0;
      for (int64_t i = at + p * EACH; i < at + n && i < at + (p + 1) * EACH; i++)
        part[p] += cross_entropy_row((const char *)x->data + (size_t)i * bytes, k,
                                     class_of(label_value(&c->in[1], i), k), x->dtype);
    }
    for (int64_t p = 0; p < parts; p++) loss += part[p];
  }
  MX_SWITCH_FLOAT(x->dtype, break, *(T *)c->out[0].data = (T)loss;)
  return MX_OK;
}

/* (data, label, head gradient) to the gradient of data: head * (softmax - label). */
static mx_status cross_entropy_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_tensor *x = &c->in[0];
  mx_softmax_view v = {x->shape.dim[0], x->shape.dim[1], 1};
  size_t bytes = (size_t)v.classes * mx_dtype_size(x->dtype);
  double head = label_value(&c->in[2], 0);
  const softmax_params plain = {.grad_scale = 1};
  mx_softmax_forward(x->data, c->out[0].data, v, x->dtype);
#pragma omp parallel for num_threads(mx_threads_for(v.outer *v.classes, MX_GRAIN))
  for (int64_t i = 0; i < v.outer; i++) {
    int64_t target = class_of(label_value(&c->in[1], i), v.classes);
    char *row = (char *)c->out[0].data + (size_t)i * bytes;
    softmax_row_gradient(row, row, v, target, target < 0, &plain, head, x->dtype);
  }
  return MX_OK;
}

static mx_status cross_entropy_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0] || !g->out_grad[0].node) return MX_OK;
  return mx_grad_backward(g, "_backward_softmax_cross_entropy", (mx_entry[]){g->in[0], g->in[1], g->out_grad[0]}, 3,
                          &g->in_grad[0], err);
}

/* ---- records ---- */

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};

#define REGRESSION_IN_DOC                                  \
  MX_STRINGS(                                              \
      "Predictions, samples along the first native axis.", \
      "Targets with as many samples and elements as data; by default of its shape, a vector for one target a sample.")

const mx_op mx_ops_loss[] = {
    {.name = "LinearRegressionOutput",
     .aliases = MX_STRINGS("_sparse_LinearRegressionOutput"),
     .family = FAMILY,
     .doc =
         "Squared-error regression: forward returns data; the gradient is grad_scale (data - label) / m for m targets "
         "a sample, that of half the squared error.",
     .in_doc = REGRESSION_IN_DOC,
     .params = regression_table,
     .params_size = sizeof(regression_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = regression_shape,
     .infer_dtype = loss_dtype,
     .gradient = squared_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS | MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = identity_kernel},
    {.name = "LogisticRegressionOutput",
     .aliases = MX_STRINGS("_sparse_LogisticRegressionOutput"),
     .family = FAMILY,
     .doc =
         "Logistic regression: forward returns 1 / (1 + exp(-data)); the gradient is grad_scale (output - label) / m "
         "for m targets a sample, that of the cross entropy.",
     .in_doc = REGRESSION_IN_DOC,
     .params = regression_table,
     .params_size = sizeof(regression_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = regression_shape,
     .infer_dtype = loss_dtype,
     .gradient = squared_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS,
     .kernel = logistic_kernel},
    {.name = "MAERegressionOutput",
     .aliases = MX_STRINGS("_sparse_MAERegressionOutput"),
     .family = FAMILY,
     .doc = "Absolute-error regression: forward returns data; the gradient is grad_scale sign(data - label) / m for m "
            "targets a sample.",
     .in_doc = REGRESSION_IN_DOC,
     .params = regression_table,
     .params_size = sizeof(regression_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = regression_shape,
     .infer_dtype = loss_dtype,
     .gradient = absolute_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS | MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = identity_kernel},
    {.name = "MakeLoss",
     .family = FAMILY,
     .doc = "Makes any expression a loss: forward returns data, backward starts here with the gradient grad_scale, "
            "divided as normalization says, whatever the gradient of the output is.",
     .in_doc = MX_STRINGS("Losses of any shape, samples along the first native axis."),
     .params = make_loss_table,
     .params_size = sizeof(make_loss_params),
     .n_in = 1,
     .n_out = 1,
     .infer_dtype = loss_dtype,
     .gradient = make_loss_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS | MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = identity_kernel},
    {.name = "SVMOutput",
     .family = FAMILY,
     .doc =
         "Support vector machine, one against all: forward returns the scores; backward is the gradient of the hinge "
         "loss max(0, margin - s x) or of its square, where s is 1 for the class of the label and -1 for the others.",
     .in_doc =
         MX_STRINGS("Scores, native shape (samples, classes).", "Classes, counted from 0, native shape (samples,)."),
     .params = svm_table,
     .params_size = sizeof(svm_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = rows_label_shape,
     .infer_dtype = loss_dtype,
     .gradient = svm_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS | MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = identity_kernel},
    {.name = "SoftmaxOutput",
     .aliases = MX_STRINGS("Softmax"),
     .family = FAMILY,
     .doc =
         "Softmax with cross entropy: forward returns the probabilities softmax(data); the gradient of data is "
         "grad_scale (output - onehot(label)), whatever the gradient of the output is. A label that names no class "
         "gives the gradient of the output alone. A label of the shape of data is taken as the wanted probabilities.",
     .in_doc =
         MX_STRINGS("Scores, native shape (samples, classes); (samples, classes, positions...) with multi_output, "
                    "(..., classes) with preserve_shape.",
                    "Classes, counted from 0: one for each softmax, or probabilities of the shape of data."),
     .params = softmax_table,
     .params_size = sizeof(softmax_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = softmax_output_shape,
     .infer_dtype = loss_dtype,
     .gradient = softmax_output_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS,
     .kernel = softmax_output_kernel},
    {.name = "make_loss",
     .aliases = MX_STRINGS("_sparse_make_loss"),
     .family = FAMILY,
     .doc = "Makes any expression a loss: forward returns data, backward starts here with ones.",
     .in_doc = MX_STRINGS("Losses of any shape."),
     .n_in = 1,
     .n_out = 1,
     .out_names = MX_STRINGS("loss"),
     .gradient = make_loss_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_LOSS | MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = identity_kernel},
    {.name = "softmax_cross_entropy",
     .family = FAMILY,
     .doc = "Sum over the samples of -log(softmax(data)[label]). A label that names no class adds nothing.",
     .in_doc =
         MX_STRINGS("Scores, native shape (samples, classes).", "Classes, counted from 0, native shape (samples,)."),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = cross_entropy_shape,
     .infer_dtype = loss_dtype,
     .gradient = cross_entropy_gradient,
     .kernel = cross_entropy_kernel},
    {.name = "_backward_RegressionOutput",
     .family = FAMILY,
     .doc = "Gradient of LinearRegressionOutput and LogisticRegressionOutput.",
     .params = regression_table,
     .params_size = sizeof(regression_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("output", "label"),
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS_ALONE,
     .kernel = squared_backward},
    {.name = "_backward_MAERegressionOutput",
     .family = FAMILY,
     .doc = "Gradient of MAERegressionOutput.",
     .params = regression_table,
     .params_size = sizeof(regression_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("output", "label"),
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS_ALONE,
     .kernel = absolute_backward},
    {.name = "_backward_MakeLoss",
     .family = FAMILY,
     .doc = "Gradient of MakeLoss with normalization = \"valid\".",
     .params = make_loss_table,
     .params_size = sizeof(make_loss_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN,
     .kernel = make_loss_backward},
    {.name = "_backward_SVMOutput",
     .family = FAMILY,
     .doc = "Gradient of SVMOutput.",
     .params = svm_table,
     .params_size = sizeof(svm_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label"),
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN,
     .kernel = svm_backward},
    {.name = "_backward_SoftmaxOutput",
     .family = FAMILY,
     .doc = "Gradient of SoftmaxOutput.",
     .params = softmax_table,
     .params_size = sizeof(softmax_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("output", "label"),
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS_ALONE,
     .kernel = softmax_output_backward},
    {.name = "_backward_softmax_cross_entropy",
     .family = FAMILY,
     .doc = "Gradient of softmax_cross_entropy.",
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "label", "out_grad"),
     .infer_shape = backward_shape,
     .infer_dtype = backward_dtype,
     .flags = MX_OP_HIDDEN,
     .kernel = cross_entropy_backward},
    {0}};
