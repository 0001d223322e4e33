/* Operators that reduce over axes, and the gradients that spread a result over what it was made of. */
#include "ops/reduce.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/elementwise.h"
#include "ops/layer.h"

/* ---- axes ---- */

mx_status mx_reduce_axes(const mx_shape *axis, bool exclude, int ndim, bool reduced[MX_MAX_NDIM], mx_error *err) {
  bool all = axis->ndim <= 0;
  for (int d = 0; d < ndim; d++) reduced[d] = all || exclude;
  for (int i = 0; !all && i < axis->ndim; i++) {
    int d;
    MX_TRY(mx_axis_resolve(axis->dim[i], ndim, &d, err));
    if (reduced[d] != exclude) return mx_fail(err, MX_ERR_VALUE, "axis names dimension %d twice.", d);
    reduced[d] = !exclude;
  }
  return MX_OK;
}

mx_shape mx_reduce_shape(const mx_shape *in, const bool reduced[MX_MAX_NDIM], bool keepdims) {
  mx_shape s = {.ndim = 0};
  for (int d = 0; d < in->ndim; d++) {
    if (!reduced[d])
      s.dim[s.ndim++] = in->dim[d];
    else if (keepdims)
      s.dim[s.ndim++] = 1;
  }
  if (s.ndim == 0) s.dim[s.ndim++] = 1;
  return s;
}

/* ---- sum, mean, prod, nansum, nanprod, max, min ---- */

typedef struct reduce_params {
  mx_shape axis;
  bool keepdims, exclude;
} reduce_params;

static const mx_param reduce_table[] = {
    MX_P_TUPLE(reduce_params, axis, "None", MX_ANY,
               "Axes to reduce over; negative ones count from the end. None or an empty tuple: all."),
    MX_P_BOOL(reduce_params, keepdims, "False", "Whether reduced axes stay as dimensions of 1."),
    MX_P_BOOL(reduce_params, exclude, "False", "Reduces over the axes that are not named instead."), MX_P_END};

static mx_status reduce_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const reduce_params *p = params;
  bool reduced[MX_MAX_NDIM];
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(mx_reduce_axes(&p->axis, p->exclude, in[0].ndim, reduced, err));
  mx_shape s = mx_reduce_shape(&in[0], reduced, p->keepdims);
  return mx_shape_merge(&out[0], &s, "output", err);
}

static mx_reduce reduce_of(const mx_call *c, int row) {
  const reduce_params *p = c->params;
  mx_reduce r = {.row = row, .shape = c->in[0].shape, .in_dtype = c->in[0].dtype, .out_dtype = c->out[0].dtype};
  mx_error ignored; /* inference has checked the axes */
  if (mx_reduce_axes(&p->axis, p->exclude, r.shape.ndim, r.reduced, &ignored) != MX_OK) r.row = 0;
  return r;
}

static mx_status reduce_prepare(const mx_reduce *r, mx_call *c) {
  c->workspace_bytes = mx_reduce_workspace(r);
  return MX_OK;
}

static mx_status reduce_kernel(const mx_reduce *r, const mx_call *c) {
  if (c->req[0] != MX_NULL) mx_reduce_run(r, c->in[0].data, c->out[0].data, c->req[0] == MX_ADD, NULL, c->workspace);
  return MX_OK;
}

/* ---- gradients: every element is given its share of the gradient of the result ---- */

typedef struct spread_params {
  mx_shape shape, axis;
} spread_params;

static const mx_param spread_table[] = {
    MX_P_TUPLE(spread_params, shape, NULL, MX_ANY, "Shape that was reduced."),
    MX_P_TUPLE(spread_params, axis, NULL, MX_ANY, "Axes that were reduced, none when empty."), MX_P_END};

static mx_status spread_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const spread_params *)params)->shape, "output", err);
}

/* Strides of a result, with or without its reduced dimensions, along the dimensions of what was reduced. */
static void spread_strides(mx_operand *o, const mx_shape *shape, const bool reduced[MX_MAX_NDIM]) {
  int64_t stride = 1;
  for (int d = shape->ndim - 1; d >= 0; d--) {
    o->stride[d] = reduced[d] || shape->dim[d] == 1 ? 0 : stride;
    if (!reduced[d]) stride *= shape->dim[d];
  }
}

static void reduced_axes(const spread_params *p, bool reduced[MX_MAX_NDIM]) {
  memset(reduced, 0, MX_MAX_NDIM * sizeof(*reduced));
  for (int i = 0; i < p->axis.ndim; i++) reduced[p->axis.dim[i]] = true;
}

/* out = row(first inputs, more): input `element` has the shape of what was reduced, everything else is results. */
static void spread_apply(const mx_call *c, int row, int element, int n_in, const mx_operand *more, int n_more) {
  const spread_params *p = c->params;
  bool reduced[MX_MAX_NDIM];
  reduced_axes(p, reduced);
  mx_operand operand[MX_MAX_OPERANDS];
  memset(operand, 0, sizeof(operand));
  for (int k = 0; k < n_in + n_more; k++) {
    if (k < n_in)
      operand[k] = (mx_operand){.data = c->in[k].data, .dtype = c->in[k].dtype};
    else
      operand[k] = more[k - n_in];
    if (k == element)
      mx_operand_strides(&operand[k], &p->shape, &p->shape, 0);
    else if (operand[k].data)
      spread_strides(&operand[k], &p->shape, reduced);
  }
  if (c->req[0] != MX_NULL)
    mx_row_apply(&mx_rows[row], operand, &p->shape, c->out[0].data, c->out[0].dtype, c->req[0] == MX_ADD);
}

static mx_status spread(const mx_call *c, int row) {
  spread_apply(c, row, 1, c->n_in, NULL, 0);
  return MX_OK;
}

static size_t result_bytes(const mx_call *c) {
  return ((size_t)mx_shape_size(&c->in[0].shape) * sizeof(double) + 63) / 64 * 64;
}

/* mean: the gradient divided by the number of elements, which is done once a result, in the workspace. */
static mx_status mean_backward_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = result_bytes(c);
  return MX_OK;
}

static mx_status spread_mean(const mx_call *c) {
  const spread_params *p = c->params;
  const mx_tensor *g = &c->in[0];
  mx_operand share[] = {{.data = g->data, .dtype = g->dtype}, {.value = 1}};
  mx_operand quotient = {.data = c->workspace, .dtype = g->dtype == MX_FLOAT16 ? MX_FLOAT32 : g->dtype};
  for (int i = 0; i < p->axis.ndim; i++) share[1].value *= (double)p->shape.dim[p->axis.dim[i]];
  mx_operand_strides(&share[0], &g->shape, &g->shape, 0);
  mx_row_apply(&mx_rows[MX_ROW_div], share, &g->shape, c->workspace, quotient.dtype, false);
  spread_apply(c, MX_ROW_copy, -1, 0, &quotient, 1);
  return MX_OK;
}

/* prod, nanprod: the product of all others. Dividing the product by the element gives it, unless there is a 0 among
 * them, or the product was beyond what its type can hold. Then the workspace holds the products of what is not 0, the
 * numbers of zeros, and what the reductions need. */
static mx_reduce product_of(const mx_call *c, int row) {
  const spread_params *p = c->params;
  mx_reduce r = {.row = row, .shape = p->shape, .in_dtype = c->in[1].dtype, .out_dtype = MX_FLOAT64};
  reduced_axes(p, r.reduced);
  return r;
}

static mx_status product_prepare(mx_call *c, mx_error *err) {
  mx_reduce r = product_of(c, MX_REDUCE_zeros);
  c->workspace_bytes = 2 * result_bytes(c) + mx_reduce_workspace(&r);
  return MX_OK;
}

/* Whether all products have all digits of the type that is computed in, which float16 has not. */
static bool products_exact(const mx_tensor *t) {
  int64_t n = mx_shape_size(&t->shape), exact = 0;
  if (t->dtype == MX_FLOAT32)
    for (int64_t i = 0; i < n; i++) exact += isnormal(((const float *)t->data)[i]) != 0;
  else if (t->dtype == MX_FLOAT64)
    for (int64_t i = 0; i < n; i++) exact += isnormal(((const double *)t->data)[i]) != 0;
  return exact == n;
}

static mx_status spread_product(const mx_call *c, int nonzero_row, int row) {
  if (products_exact(&c->in[2])) {
    const mx_operand no_zeros = {.value = 0};
    spread_apply(c, row, 1, 3, &no_zeros, 1);
    return MX_OK;
  }
  mx_reduce nonzero = product_of(c, nonzero_row), zeros = product_of(c, MX_REDUCE_zeros);
  char *products = c->workspace, *counts = products + result_bytes(c), *rest = counts + result_bytes(c);
  mx_reduce_run(&nonzero, c->in[1].data, products, false, NULL, rest);
  mx_reduce_run(&zeros, c->in[1].data, counts, false, NULL, rest);
  const mx_operand more[] = {{.data = products, .dtype = MX_FLOAT64}, {.data = counts, .dtype = MX_FLOAT64}};
  spread_apply(c, row, 1, 2, more, 2);
  return MX_OK;
}

static mx_status spread_call(mx_grad *g, const char *backward, const mx_entry *in, int n_in,
                             const bool reduced[MX_MAX_NDIM], mx_error *err) {
  char shape[MX_SHAPE_TEXT], axis[MX_SHAPE_TEXT];
  mx_shape axes = {.ndim = 0};
  for (int d = 0; d < g->in_shape[0].ndim; d++)
    if (reduced[d]) axes.dim[axes.ndim++] = d;
  mx_shape_text(&g->in_shape[0], shape);
  mx_shape_text(&axes, axis);
  return mx_grad_call(g, backward, (const char *const[]){"shape", shape, "axis", axis, NULL}, in, n_in, &g->in_grad[0],
                      err);
}

/* Appends `backward` with (gradient, data, result), the first n_in of them. */
static mx_status spread_gradient(mx_grad *g, const char *backward, int n_in, const bool reduced[MX_MAX_NDIM],
                                 mx_error *err) {
  if (!g->wanted[0] || !g->out_grad[0].node || g->in_dtype[0] != g->out_dtype[0]) return MX_OK;
  const mx_entry in[] = {g->out_grad[0], g->in[0], g->out[0]};
  return spread_call(g, backward, in, n_in, reduced, err);
}

static mx_status reduce_gradient(mx_grad *g, const char *backward, int n_in, mx_error *err) {
  const reduce_params *p = g->params;
  bool reduced[MX_MAX_NDIM];
  MX_TRY(mx_reduce_axes(&p->axis, p->exclude, g->in_shape[0].ndim, reduced, err));
  return spread_gradient(g, backward, n_in, reduced, err);
}

/* ---- the operators with these parameters ---- */

/* X(name, aliases, inputs of the gradient, its kernel, its prepare, doc) */
#define REDUCTIONS(X)                                                                                                 \
  X(_square_sum, (), 2, spread(c, MX_ROW_square_sum_slope), NULL, "Sum of squares over axes.")                        \
  X(max, ("max_axis"), 3, spread(c, MX_ROW_extreme_slope), NULL,                                                      \
    "Largest element over axes; NaN when there is one. In backward all elements that are equal to it get the "        \
    "gradient.")                                                                                                      \
  X(mean, ("_sparse_mean"), 1, spread_mean(c), mean_backward_prepare,                                                 \
    "Mean over axes. The mean of integers is cut to an integer.")                                                     \
  X(min, ("min_axis"), 3, spread(c, MX_ROW_extreme_slope), NULL,                                                      \
    "Smallest element over axes; NaN when there is one. In backward all elements that are equal to it get the "       \
    "gradient.")                                                                                                      \
  X(nanprod, (), 3, spread_product(c, MX_REDUCE_nanprod_nonzero, MX_ROW_nanprod_slope), product_prepare,              \
    "Product over axes; NaN counts as 1.")                                                                            \
  X(nansum, (), 2, spread(c, MX_ROW_nansum_slope), NULL, "Sum over axes; NaN counts as 0.")                           \
  X(prod, (), 3, spread_product(c, MX_REDUCE_prod_nonzero, MX_ROW_prod_slope), product_prepare, "Product over axes.") \
  X(sum, ("_sparse_sum", "sum_axis"), 1, spread(c, MX_ROW_copy), NULL, "Sum over axes. Sums of integers wrap around.")

#define STRIP(...) __VA_ARGS__
#define ALIASES(...) \
  (const char *const[]) { __VA_ARGS__ __VA_OPT__(, ) NULL }
#define FUNCTIONS(name, aliases, inputs, backward, backward_prepare, doc) \
  static mx_status name##_prepare(mx_call *c, mx_error *err) {            \
    mx_reduce r = reduce_of(c, MX_REDUCE_##name);                         \
    return reduce_prepare(&r, c);                                         \
  }                                                                       \
  static mx_status name##_kernel(const mx_call *c, mx_error *err) {       \
    mx_reduce r = reduce_of(c, MX_REDUCE_##name);                         \
    return reduce_kernel(&r, c);                                          \
  }                                                                       \
  static mx_status name##_gradient(mx_grad *g, mx_error *err) {           \
    return reduce_gradient(g, "_backward_" #name, inputs, err);           \
  }                                                                       \
  static mx_status name##_backward(const mx_call *c, mx_error *err) { return backward; }
REDUCTIONS(FUNCTIONS)

/* ---- norm ---- */

typedef struct norm_params {
  int64_t ord;
  mx_shape axis;
  mx_dtype out_dtype;
  bool keepdims;
} norm_params;

static const mx_param norm_table[] = {
    MX_P_INT(norm_params, ord, "2", 1, 2, "Order of the norm: 1 for the sum of absolute values, 2 for Euclid's norm."),
    MX_P_TUPLE(norm_params, axis, "None", MX_ANY,
               "Axes to reduce over; negative ones count from the end. None or an empty tuple: all."),
    MX_P_DTYPE(norm_params, out_dtype, "None",
               MX_STRINGS("None", "float16", "float32", "float64", "int32", "int64", "int8"),
               "dtype of the result; None: that of data."),
    MX_P_BOOL(norm_params, keepdims, "False", "Whether reduced axes stay as dimensions of 1."), MX_P_END};

static mx_status norm_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const norm_params *p = params;
  const reduce_params q = {.axis = p->axis, .keepdims = p->keepdims};
  return reduce_infer(&q, in, n_in, out, n_out, err);
}

static mx_status norm_infer_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const norm_params *p = params;
  if (in[0] == MX_DTYPE_UNKNOWN) {
    if (p->out_dtype == MX_DTYPE_UNKNOWN) in[0] = out[0];
    return MX_OK;
  }
  mx_dtype t = p->out_dtype == MX_DTYPE_UNKNOWN ? in[0] : p->out_dtype;
  if (mx_dtype_is_float(t) != mx_dtype_is_float(in[0]) || (out[0] != MX_DTYPE_UNKNOWN && out[0] != t)) {
    mx_fail(err, MX_ERR_TYPE, "The norm of %s cannot be %s.", mx_dtype_name(in[0]),
            mx_dtype_name(out[0] == MX_DTYPE_UNKNOWN ? t : out[0]));
    mx_error_set(err, argument, "out_dtype");
    mx_error_set(err, expected, "%s", mx_dtype_name(in[0]));
    mx_error_set(err, actual, "%s", mx_dtype_name(out[0] == MX_DTYPE_UNKNOWN ? t : out[0]));
    return MX_ERR_TYPE;
  }
  out[0] = t;
  return MX_OK;
}

static mx_reduce norm_of(const mx_call *c) {
  const norm_params *p = c->params;
  mx_reduce r = {.row = p->ord == 1 ? MX_REDUCE_norm1 : MX_REDUCE_norm2,
                 .shape = c->in[0].shape,
                 .in_dtype = c->in[0].dtype,
                 .out_dtype = c->out[0].dtype};
  mx_error ignored;
  if (mx_reduce_axes(&p->axis, false, r.shape.ndim, r.reduced, &ignored) != MX_OK) r.row = 0;
  return r;
}

static mx_status norm_prepare(mx_call *c, mx_error *err) {
  mx_reduce r = norm_of(c);
  return reduce_prepare(&r, c);
}
static mx_status norm_kernel(const mx_call *c, mx_error *err) {
  mx_reduce r = norm_of(c);
  return reduce_kernel(&r, c);
}
static mx_status norm_gradient(mx_grad *g, mx_error *err) {
  const norm_params *p = g->params;
  bool reduced[MX_MAX_NDIM];
  MX_TRY(mx_reduce_axes(&p->axis, false, g->in_shape[0].ndim, reduced, err));
  return p->ord == 1 ? spread_gradient(g, "_backward_norm1", 2, reduced, err)
                     : spread_gradient(g, "_backward_norm2", 3, reduced, err);
}
static mx_status norm1_backward(const mx_call *c, mx_error *err) { return spread(c, MX_ROW_norm1_slope); }
static mx_status norm2_backward(const mx_call *c, mx_error *err) { return spread(c, MX_ROW_norm2_slope); }

/* ---- moments ---- */

typedef struct moments_params {
  mx_shape axes;
  bool keepdims;
} moments_params;

static const mx_param moments_table[] = {
    MX_P_TUPLE(moments_params, axes, "None", MX_ANY,
               "Axes to reduce over; negative ones count from the end. None or an empty tuple: all."),
    MX_P_BOOL(moments_params, keepdims, "False", "Whether reduced axes stay as dimensions of 1."), MX_P_END};

static mx_status moments_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const moments_params *p = params;
  const reduce_params q = {.axis = p->axes, .keepdims = p->keepdims};
  MX_TRY(reduce_infer(&q, in, n_in, &out[0], 1, err));
  MX_TRY(reduce_infer(&q, in, n_in, &out[1], 1, err));
  return MX_OK;
}

static mx_reduce moments_of(const mx_call *c, int row) {
  const moments_params *p = c->params;
  mx_reduce r = {.row = row, .shape = c->in[0].shape, .in_dtype = c->in[0].dtype, .out_dtype = c->out[0].dtype};
  mx_error ignored;
  if (mx_reduce_axes(&p->axes, false, r.shape.ndim, r.reduced, &ignored) != MX_OK) r.row = 0;
  return r;
}

/* The workspace holds the means in double, then that of the reductions. */
static size_t mean_bytes(const mx_call *c) {
  return ((size_t)mx_shape_size(&c->out[0].shape) * sizeof(double) + 63) / 64 * 64;
}

static mx_status moments_prepare(mx_call *c, mx_error *err) {
  mx_reduce r = moments_of(c, MX_REDUCE_mean);
  c->workspace_bytes = mean_bytes(c) + mx_reduce_workspace(&r);
  return MX_OK;
}

static mx_status moments_kernel(const mx_call *c, mx_error *err) {
  mx_reduce mean = moments_of(c, MX_REDUCE_mean), variance = moments_of(c, MX_REDUCE_variance);
  double *means = c->workspace;
  char *rest = (char *)c->workspace + mean_bytes(c);
  mean.out_dtype = MX_FLOAT64;
  mx_reduce_run(&mean, c->in[0].data, means, false, NULL, rest);
  if (c->req[1] != MX_NULL) mx_reduce_run(&variance, c->in[0].data, c->out[1].data, c->req[1] == MX_ADD, means, rest);
  if (c->req[0] != MX_NULL) {
    mx_operand o = {.data = means, .dtype = MX_FLOAT64};
    mx_operand_strides(&o, &c->out[0].shape, &c->out[0].shape, 0);
    mx_row_apply(&mx_rows[MX_ROW_copy], &o, &c->out[0].shape, c->out[0].data, c->out[0].dtype, c->req[0] == MX_ADD);
  }
  return MX_OK;
}

static mx_status scaled(mx_grad *g, mx_entry in, double factor, mx_entry *out, mx_error *err) {
  char text[32];
  snprintf(text, sizeof(text), "%.17g", factor);
  return mx_grad_call(g, "_mul_scalar", (const char *const[]){"scalar", text, NULL}, &in, 1, out, err);
}

/* d mean = 1 / n, d variance = 2 (x - mean) / n. */
static mx_status moments_gradient(mx_grad *g, mx_error *err) {
  const moments_params *p = g->params;
  bool reduced[MX_MAX_NDIM];
  MX_TRY(mx_reduce_axes(&p->axes, false, g->in_shape[0].ndim, reduced, err));
  double n = 1;
  for (int d = 0; d < g->in_shape[0].ndim; d++)
    if (reduced[d]) n *= (double)g->in_shape[0].dim[d];
  mx_entry in[4] = {MX_NO_ENTRY, MX_NO_ENTRY, g->in[0], g->out[0]};
  for (int i = 0; i < 2; i++) {
    MX_TRY(mx_grad_head(g, i, &in[i], err));
    MX_TRY(scaled(g, in[i], (i + 1) / n, &in[i], err));
  }
  return spread_call(g, "_backward_moments", in, 4, reduced, err);
}

static mx_status moments_backward(const mx_call *c, mx_error *err) {
  spread_apply(c, MX_ROW_moments_slope, 2, c->n_in, NULL, 0);
  return MX_OK;
}

/* ---- _reduce_to: undoes a broadcast ---- */

typedef struct reduce_to_params {
  mx_shape shape;
  int64_t axis;
} reduce_to_params;

static const mx_param reduce_to_table[] = {
    MX_P_TUPLE(reduce_to_params, shape, NULL, MX_ANY, "Shape of the result."),
    MX_P_INT(reduce_to_params, axis, "0", 0, MX_MAX_NDIM,
             "0: the last dimensions are aligned; k > 0: the first dimension of the result is dimension k - 1."),
    MX_P_END};

static mx_status reduce_to_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const reduce_to_params *)params)->shape, "output", err);
}

static mx_reduce reduce_to_of(const mx_call *c) {
  const reduce_to_params *p = c->params;
  mx_reduce r = {
      .row = MX_REDUCE_sum, .shape = c->in[0].shape, .in_dtype = c->in[0].dtype, .out_dtype = c->out[0].dtype};
  int first = p->axis > 0 ? (int)p->axis - 1 : r.shape.ndim - p->shape.ndim;
  for (int d = 0; d < r.shape.ndim; d++)
    r.reduced[d] = d < first || d - first >= p->shape.ndim || p->shape.dim[d - first] != r.shape.dim[d];
  return r;
}

static mx_status reduce_to_prepare(mx_call *c, mx_error *err) {
  mx_reduce r = reduce_to_of(c);
  return reduce_prepare(&r, c);
}
static mx_status reduce_to_kernel(const mx_call *c, mx_error *err) {
  mx_reduce r = reduce_to_of(c);
  return reduce_kernel(&r, c);
}

/* ---- records ---- */

#define FAMILY "Reduction"

#define SPREAD_RECORD(inputs, kernel_)                                                                               \
  .family = FAMILY, .doc = "Gradient of a reduction.", .params = spread_table, .params_size = sizeof(spread_params), \
  .n_in = inputs, .n_out = 1, .infer_shape = spread_infer, .flags = MX_OP_ADDS | MX_OP_HIDDEN, .kernel = kernel_

const mx_op mx_ops_reduce[] = {
#define RECORDS(name_, aliases_, inputs, backward, backward_prepare, doc_) \
  {.name = #name_,                                                         \
   .aliases = ALIASES aliases_,                                            \
   .family = FAMILY,                                                       \
   .doc = doc_,                                                            \
   .in_doc = MX_STRINGS("Any shape."),                                     \
   .params = reduce_table,                                                 \
   .params_size = sizeof(reduce_params),                                   \
   .n_in = 1,                                                              \
   .n_out = 1,                                                             \
   .infer_shape = reduce_infer,                                            \
   .gradient = name_##_gradient,                                           \
   .flags = MX_OP_ADDS,                                                    \
   .prepare = name_##_prepare,                                             \
   .kernel = name_##_kernel},                                              \
      {.name = "_backward_" #name_, SPREAD_RECORD(inputs, name_##_backward), .prepare = backward_prepare},
    REDUCTIONS(RECORDS)

        {.name = "norm",
         .aliases = MX_STRINGS("_sparse_norm"),
         .family = FAMILY,
         .doc = "Norm over axes: sum(|data|) for ord = 1, sqrt(sum(data^2)) for ord = 2. The gradient of the second is "
                "0 where "
                "the norm is 0.",
         .in_doc = MX_STRINGS("Any shape."),
         .params = norm_table,
         .params_size = sizeof(norm_params),
         .n_in = 1,
         .n_out = 1,
         .infer_shape = norm_infer,
         .infer_dtype = norm_infer_dtype,
         .gradient = norm_gradient,
         .flags = MX_OP_ADDS,
         .prepare = norm_prepare,
         .kernel = norm_kernel},
    {.name = "_backward_norm1", SPREAD_RECORD(2, norm1_backward)},
    {.name = "_backward_norm2", SPREAD_RECORD(3, norm2_backward)},
    {.name = "moments",
     .family = FAMILY,
     .doc = "Mean and variance over axes; the variance is the mean of (data - mean)^2.",
     .in_doc = MX_STRINGS("Any shape."),
     .params = moments_table,
     .params_size = sizeof(moments_params),
     .n_in = 1,
     .n_out = 2,
     .infer_shape = moments_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = moments_gradient,
     .flags = MX_OP_ADDS,
     .prepare = moments_prepare,
     .kernel = moments_kernel},
    {.name = "_backward_moments", SPREAD_RECORD(4, moments_backward)},
    {.name = "_reduce_to",
     .family = FAMILY,
     .doc = "Sum over the dimensions that a broadcast from `shape` has repeated.",
     .params = reduce_to_table,
     .params_size = sizeof(reduce_to_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = reduce_to_infer,
     .flags = MX_OP_ADDS | MX_OP_HIDDEN,
     .prepare = reduce_to_prepare,
     .kernel = reduce_to_kernel},
    {0}};
