/* Operators that repeat what is small: arithmetic with broadcasting, broadcast_axis, broadcast_to, broadcast_like,
 * where. Their rows stand in scalar.def. */
#include <math.h>

#include "ops/elementwise.h"
#include "ops/manipulate.h"

/* ---- two arrays ---- */

/* Dimension of a broadcast of x and y, either of which may be unknown: something larger than 1 decides. */
static int64_t wider(int64_t x, int64_t y) {
  if (x == MX_DIM_UNKNOWN) return y == 1 ? MX_DIM_UNKNOWN : y;
  if (y == MX_DIM_UNKNOWN) return x == 1 ? MX_DIM_UNKNOWN : x;
  return x == 1 ? y : x;
}

static mx_status broadcast_conflict(const mx_shape *a, const mx_shape *b, mx_error *err) {
  char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
  mx_shape_text(a, ta);
  mx_shape_text(b, tb);
  mx_fail(err, MX_ERR_SHAPE, "Shapes %s and %s cannot be broadcast: each dimension must be equal or 1.", ta, tb);
  mx_error_set(err, argument, "rhs");
  mx_error_set(err, expected, "a shape that broadcasts with %s", ta);
  mx_error_set(err, actual, "%s", tb);
  return MX_ERR_SHAPE;
}

mx_status mx_broadcast_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape all = in[0];
  for (int k = 1; k < n_in; k++) {
    const mx_shape *a = &all, *b = &in[k];
    if (a->ndim < 0 || b->ndim < 0) return MX_OK;
    mx_shape r = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
    for (int i = 0; i < r.ndim; i++) {
      int ia = i - (r.ndim - a->ndim), ib = i - (r.ndim - b->ndim);
      int64_t x = ia < 0 ? 1 : a->dim[ia], y = ib < 0 ? 1 : b->dim[ib];
      if (x > 1 && y >= 0 && y != 1 && x != y) return broadcast_conflict(a, b, err);
      if (y > 1 && x >= 0 && x != 1 && x != y) return broadcast_conflict(a, b, err);
      r.dim[i] = wider(x, y);
    }
    all = r;
  }
  MX_TRY(mx_shape_merge(&out[0], &all, "output", err));
  return MX_OK;
}

#define DOC(name, text) static const char doc_##name[] __attribute__((unused)) = text;
#define BINARY(name, ints, order, e, da, db, doc)                                                      \
  DOC(name, doc                                                                                        \
      ". Dimensions of 1 are repeated to match the other array; dimensions that are missing in front " \
      "count as 1.")
#define BROADCAST(name, row, ...) \
  MX_ELEMENTWISE(name, row, .backward = {"_backward_" #row "_lhs", "_backward_" #row "_rhs"})
#include "ops/scalar.def"

/* ---- broadcast_axis, broadcast_to, broadcast_like ---- */

#define SHAPES "Shape manipulation"

/* `from` repeated to `to`: the output, once `to` is known as far as it is. */
static mx_status repeat_infer(const mx_shape *from, const mx_shape *to, mx_shape *out, mx_error *err) {
  for (int i = 0; i < to->ndim; i++) {
    int k = i - (to->ndim - from->ndim);
    int64_t d = k < 0 ? 1 : from->dim[k];
    if (d == to->dim[i] || d == 1 || d < 0 || to->dim[i] < 0) continue;
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "An array of shape %s cannot be broadcast to %s: only dimensions of 1 are repeated.",
            mx_shape_text(from, a), mx_shape_text(to, b));
    mx_error_set(err, argument, "data");
    mx_error_set(err, expected, "a shape that broadcasts to %s", b);
    mx_error_set(err, actual, "%s", a);
    return MX_ERR_SHAPE;
  }
  if (mx_shape_known(to)) MX_TRY(mx_shape_check_size(to, sizeof(double), err));
  return mx_shape_merge(out, to, "output", err);
}

typedef struct axis_params {
  mx_shape axis, size;
} axis_params;
static const mx_param axis_table[] = {
    MX_P_TUPLE(axis_params, axis, "()", MX_ANY, "Dimensions of 1 to repeat; negative ones count from the end."),
    MX_P_TUPLE(axis_params, size, "()", 0, INFINITY, "What they become, as many as in axis."), MX_P_END};

static mx_status axis_check(void *params, mx_error *err) {
  axis_params *p = params;
  if (p->axis.ndim < 0) p->axis.ndim = 0;
  if (p->size.ndim < 0) p->size.ndim = 0;
  if (p->axis.ndim == p->size.ndim) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "axis has %d elements, but size has %d.", p->axis.ndim, p->size.ndim);
  mx_error_set(err, argument, "size");
  mx_error_set(err, expected, "%d elements", p->axis.ndim);
  mx_error_set(err, actual, "%d", p->size.ndim);
  return MX_ERR_VALUE;
}

static mx_status axis_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const axis_params *p = params;
  if (in[0].ndim < 0) return MX_OK;
  mx_shape to = in[0];
  for (int i = 0; i < p->axis.ndim; i++) {
    int d;
    MX_TRY(mx_axis_resolve(p->axis.dim[i], to.ndim, &d, err));
    to.dim[d] = p->size.dim[i];
  }
  return repeat_infer(&in[0], &to, &out[0], err);
}

typedef struct to_params {
  mx_shape shape;
} to_params;
static const mx_param to_table[] = {
    MX_P_TUPLE(to_params, shape, "()", 0, INFINITY, "Shape of the result; 0 keeps a dimension as it is."), MX_P_END};

static mx_status to_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape to = ((const to_params *)params)->shape;
  if (in[0].ndim < 0) return MX_OK;
  if (to.ndim < in[0].ndim) {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "shape is %s, but data has %d dimensions: %s.", mx_shape_text(&to, b), in[0].ndim,
            mx_shape_text(&in[0], a));
    mx_error_set(err, argument, "shape");
    mx_error_set(err, expected, "at least %d dimensions", in[0].ndim);
    mx_error_set(err, actual, "%s", b);
    return MX_ERR_SHAPE;
  }
  for (int i = 0; i < to.ndim; i++) {
    int k = i - (to.ndim - in[0].ndim);
    if (to.dim[i] == 0 && k >= 0) to.dim[i] = in[0].dim[k];
  }
  return repeat_infer(&in[0], &to, &out[0], err);
}

typedef struct like_params {
  mx_shape lhs_axes, rhs_axes;
} like_params;
static const mx_param like_table[] = {
    MX_P_TUPLE(like_params, lhs_axes, "None", MX_ANY, "Axes of lhs to repeat; None: as many as needed."),
    MX_P_TUPLE(like_params, rhs_axes, "None", MX_ANY, "Axes of rhs whose sizes they take, as many as in lhs_axes."),
    MX_P_END};

static mx_status like_check(void *params, mx_error *err) {
  const like_params *p = params;
  if (p->lhs_axes.ndim == p->rhs_axes.ndim) return MX_OK;
  return mx_fail(err, MX_ERR_VALUE, "lhs_axes and rhs_axes must name the same number of axes, or both be None.");
}

static mx_status like_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const like_params *p = params;
  if (in[0].ndim < 0 || in[1].ndim < 0) return MX_OK;
  mx_shape to = p->lhs_axes.ndim < 0 ? in[1] : in[0];
  for (int i = 0; i < p->lhs_axes.ndim; i++) {
    int l, r;
    MX_TRY(mx_axis_resolve(p->lhs_axes.dim[i], in[0].ndim, &l, err));
    MX_TRY(mx_axis_resolve(p->rhs_axes.dim[i], in[1].ndim, &r, err));
    to.dim[l] = in[1].dim[r];
  }
  if (to.ndim < in[0].ndim) {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    return mx_fail(err, MX_ERR_SHAPE, "lhs of shape %s cannot be broadcast to %s, which has fewer dimensions.",
                   mx_shape_text(&in[0], a), mx_shape_text(&to, b));
  }
  return repeat_infer(&in[0], &to, &out[0], err);
}

MX_ELEMENTWISE(repeat, copy)

/* ---- where ---- */

/* A condition with one dimension chooses rows: its dimension is the first of the output. Otherwise it has all of them.
 */
#define CONDITION \
  { .kind = MX_FROM_INPUT, .truth = true, .axis = 1 }
MX_ELEMENTWISE(where, where, .operand = {CONDITION}, .backward = {NULL, "_backward_where_x", "_backward_where_y"})
MX_ELEMENTWISE(where_x, where_db, .operand = {{MX_FROM_INPUT}, CONDITION})
MX_ELEMENTWISE(where_y, where_dc, .operand = {{MX_FROM_INPUT}, CONDITION})

static mx_status where_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape s = out[0];
  MX_TRY(mx_shape_merge(&s, &in[1], "x", err));
  MX_TRY(mx_shape_merge(&s, &in[2], "y", err));
  in[1] = in[2] = out[0] = s;
  if (in[0].ndim < 0 || s.ndim < 0) return MX_OK;
  if (in[0].ndim == 1 && s.ndim > 1) {
    mx_shape rows = mx_shape_make(1, s.dim);
    return mx_shape_merge(&in[0], &rows, "condition", err);
  }
  MX_TRY(mx_shape_merge(&in[0], &s, "condition", err));
  return MX_OK;
}

static mx_status where_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  MX_TRY(mx_dtype_unify(&out[0], &in[1], "x", err));
  MX_TRY(mx_dtype_unify(&out[0], &in[2], "y", err));
  return mx_dtype_unify(&out[0], &in[1], "x", err);
}

static mx_status where_gradient_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                      mx_error *err) {
  return mx_shape_merge(&out[0], &in[0], "output", err);
}

/* ---- records ---- */

/* Not over the condition, which may have another dtype. */
static const mx_alias where_alias[] = {{0, 1}, {0, 2}, {-1, -1}};

#define WHERE_GRADIENT(id)                                                                                            \
  {                                                                                                                   \
    .name = "_backward_" #id, .family = "Indexing and sorting", .n_in = 2, .n_out = 1,                                \
    .infer_shape = where_gradient_infer, .infer_dtype = mx_infer_dtype_first, .aliases_mem = mx_elementwise_alias[1], \
    .flags = MX_OP_ADDS | MX_OP_HIDDEN, .kernel = mx_elementwise_kernel, .elementwise = map_##id                      \
  }

#define ALIASES(...) \
  (const char *const[]) { __VA_ARGS__ __VA_OPT__(, ) NULL }

const mx_op mx_ops_broadcast[] = {
#define BROADCAST(name_, row, ...)                                                \
  {.name = #name_,                                                                \
   .aliases = ALIASES(__VA_ARGS__),                                               \
   .family = "Broadcasting binary",                                               \
   .doc = doc_##row,                                                              \
   .in_doc = MX_STRINGS("Any shape.", "A shape that can be broadcast with lhs."), \
   .in_names = MX_STRINGS("lhs", "rhs"),                                          \
   .infer_shape = mx_broadcast_infer,                                             \
   .gradient = mx_elementwise_gradient,                                           \
   MX_ELEMENTWISE_RECORD(name_, 2, 0)},
#include "ops/scalar.def"

    {.name = "broadcast_axis",
     .aliases = MX_STRINGS("broadcast_axes"),
     .family = SHAPES,
     .doc = "Repeats data along some dimensions: these must be 1: dimension axis[i] becomes "
            "size[i].",
     .in_doc = MX_STRINGS("Any shape with dimensions of 1."),
     .params = axis_table,
     .params_size = sizeof(axis_params),
     .check = axis_check,
     .infer_shape = axis_infer,
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(repeat, 1, 0)},
    {.name = "broadcast_to",
     .family = SHAPES,
     .doc = "Repeats data up to a shape: its dimensions of 1 become those of the shape.",
     .in_doc = MX_STRINGS("Any shape."),
     .params = to_table,
     .params_size = sizeof(to_params),
     .infer_shape = to_infer,
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(repeat, 1, 0)},
    {.name = "broadcast_like",
     .family = SHAPES,
     .doc = "Repeats lhs up to the shape of rhs: along its dimensions of 1, or only as far as "
            "lhs_axes and rhs_axes say.",
     .in_doc = MX_STRINGS("Any shape.", "The shape to take; its values are not read."),
     .in_names = MX_STRINGS("lhs", "rhs"),
     .params = like_table,
     .params_size = sizeof(like_params),
     .check = like_check,
     .infer_shape = like_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(repeat, 2, 0)},
    {.name = "where",
     .aliases = MX_STRINGS("_sparse_where"),
     .family = "Indexing and sorting",
     .doc = "Elements of x where the condition is not 0, and of y where it is. A condition with one dimension chooses "
            "whole "
            "rows.",
     .in_doc = MX_STRINGS("The shape of x, or its first dimension only; any dtype.", "Any shape.", "The shape of x."),
     .in_names = MX_STRINGS("condition", "x", "y"),
     .infer_shape = where_infer,
     .infer_dtype = where_dtype,
     .gradient = mx_elementwise_gradient,
     .n_in = 3,
     .n_out = 1,
     .aliases_mem = where_alias,
     .flags = MX_OP_ADDS,
     .kernel = mx_elementwise_kernel,
     .elementwise = map_where},
    WHERE_GRADIENT(where_x),
    WHERE_GRADIENT(where_y),
    {0}};
