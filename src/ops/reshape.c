/* Operators that give the same elements another shape: no work when input and output share memory. And those that tell
 * the shape. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

/* ---- Reshape ---- */

typedef struct reshape_params {
  mx_shape shape;
  bool reverse;
  mx_shape target_shape;
  bool keep_highest;
} reshape_params;

static const mx_param reshape_table[] = {
    MX_P_TUPLE(reshape_params, shape, "()", -4, (double)INT64_MAX,
               "New shape; 0 and negative numbers are codes, see the description."),
    MX_P_BOOL(reshape_params, reverse, "False", "Match the dimensions of data and the codes from the right."),
    MX_P_TUPLE(reshape_params, target_shape, "()", -1, (double)INT64_MAX,
               "Older way to say the shape: one dimension may be 0, it is inferred. Not used when shape is given."),
    MX_P_BOOL(reshape_params, keep_highest, "False", "With target_shape: the first dimension stays as it is."),
    MX_P_END};

static mx_status bad_spec(const mx_shape *spec, const mx_shape *in, const char *why, mx_error *err) {
  char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
  mx_tuple_text(spec->dim, spec->ndim, a);
  mx_shape_text(in, b);
  mx_fail(err, MX_ERR_SHAPE, "data of shape %s cannot get the shape %s: %s.", b, a, why);
  mx_error_set(err, argument, "shape");
  mx_error_set(err, actual, "%s", b);
  mx_error_set(err, expected, "%s", a);
  return MX_ERR_SHAPE;
}

/* INT64_MAX at most. */
static int64_t times(int64_t a, int64_t b) {
  int64_t product;
  if (a < 0 || b < 0) return MX_DIM_UNKNOWN;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* The dimension `at` of out, from the size of the input; stays unknown when that is not known yet. */
static mx_status fill_rest(const mx_shape *spec, const mx_shape *in, mx_shape *out, int at, mx_error *err) {
  int64_t rest = 1;
  for (int i = 0; i < out->ndim; i++)
    if (i != at) rest = times(rest, out->dim[i]);
  if (!mx_shape_known(in) || rest < 0) return MX_OK;
  int64_t size = mx_shape_size(in);
  if (rest == 0 || size % rest) return bad_spec(spec, in, "the dimension to infer would not be a whole number", err);
  out->dim[at] = size / rest;
  return MX_OK;
}

/* -4, a, b: splits dimension d into a x b; one of a and b may be -1. */
static mx_status split_dim(const mx_shape *spec, const mx_shape *in, int64_t d, int64_t a, int64_t b, int64_t part[2],
                           mx_error *err) {
  if (a == 0 || b == 0 || a < -1 || b < -1 || (a == -1 && b == -1))
    return bad_spec(spec, in, "-4 must be followed by two sizes, one of which may be -1", err);
  if (d >= 0 && a > 0 && b < 0) b = d % a ? -2 : d / a;
  if (d >= 0 && b > 0 && a < 0) a = d % b ? -2 : d / b;
  if (a < -1 || b < -1 || (d >= 0 && (d / a != b || d % a)))
    return bad_spec(spec, in, "the two sizes after -4 do not multiply to the dimension that they split", err);
  part[0] = a;
  part[1] = b;
  return MX_OK;
}

static void reversed(const mx_shape *s, mx_shape *out) {
  out->ndim = s->ndim;
  for (int i = 0; i < s->ndim; i++) out->dim[i] = s->dim[s->ndim - 1 - i];
}

/* Applies the codes to a shape whose number of dimensions is known. */
static mx_status apply_codes(const mx_shape *spec, const mx_shape *in, mx_shape *out, mx_error *err) {
  int at = 0, rest = -1;
  *out = (mx_shape){.ndim = 0};
  for (int k = 0; k < spec->ndim; k++) {
    int64_t code = spec->dim[k], part[MX_MAX_NDIM];
    int n = 1;
    if (code > 0) {
      part[0] = code;
      at++;
    } else if (code == -1) {
      if (rest >= 0) return bad_spec(spec, in, "-1 may stand once only", err);
      rest = out->ndim;
      part[0] = MX_DIM_UNKNOWN;
      at++;
    } else if (code == -2) {
      n = in->ndim > at ? in->ndim - at : 0;
      memcpy(part, in->dim + at, (size_t)n * sizeof(*part));
      at += n;
    } else {
      int need = code == -3 ? 2 : 1;
      if (at + need > in->ndim) return bad_spec(spec, in, "the codes ask for more dimensions than data has", err);
      if (code == 0) part[0] = in->dim[at];
      if (code == -3) part[0] = times(in->dim[at], in->dim[at + 1]);
      if (code == -4) {
        if (k + 2 >= spec->ndim) return bad_spec(spec, in, "-4 must be followed by two sizes", err);
        MX_TRY(split_dim(spec, in, in->dim[at], spec->dim[k + 1], spec->dim[k + 2], part, err));
        k += 2;
        n = 2;
      }
      at += need;
    }
    if (out->ndim + n > MX_MAX_NDIM) return bad_spec(spec, in, "it would have too many dimensions", err);
    memcpy(out->dim + out->ndim, part, (size_t)n * sizeof(*part));
    out->ndim += n;
  }
  MX_TRY(mx_shape_check_size(&(mx_shape){.ndim = 0}, 1, err));
  mx_shape known = *out;
  for (int i = 0; i < known.ndim; i++)
    if (known.dim[i] < 0) known.dim[i] = 1;
  MX_TRY(mx_shape_check_size(&known, 1, err));
  return rest >= 0 ? fill_rest(spec, in, out, rest, err) : MX_OK;
}

static mx_status apply_target(const reshape_params *p, const mx_shape *in, mx_shape *out, mx_error *err) {
  int rest = -1;
  *out = p->target_shape;
  if (p->keep_highest && out->ndim > 0 && in->ndim > 0) out->dim[0] = in->dim[0];
  for (int i = p->keep_highest ? 1 : 0; i < out->ndim; i++) {
    if (out->dim[i] > 0) continue;
    if (rest >= 0) return bad_spec(&p->target_shape, in, "one dimension only can be inferred", err);
    rest = i;
    out->dim[i] = MX_DIM_UNKNOWN;
  }
  mx_shape known = *out;
  for (int i = 0; i < known.ndim; i++)
    if (known.dim[i] < 0) known.dim[i] = 1;
  MX_TRY(mx_shape_check_size(&known, 1, err));
  return rest >= 0 ? fill_rest(&p->target_shape, in, out, rest, err) : MX_OK;
}

/* With both number of elements the same: one unknown dimension of `s` follows from the other shape. */
static mx_status fill_last_unknown(mx_shape *s, const mx_shape *other, const char *what, mx_error *err) {
  int unknown = -1;
  int64_t rest = 1;
  if (s->ndim < 0 || !mx_shape_known(other)) return MX_OK;
  MX_TRY(mx_shape_check_size(other, 1, err));
  for (int i = 0; i < s->ndim; i++) {
    if (s->dim[i] >= 0) {
      if (s->dim[i] > 0 && rest > ((int64_t)1 << 62) / s->dim[i]) return MX_OK;
      rest *= s->dim[i];
    } else if (unknown >= 0) {
      return MX_OK;
    } else {
      unknown = i;
    }
  }
  int64_t size = mx_shape_size(other);
  if (unknown >= 0 && rest > 0 && size % rest == 0) {
    s->dim[unknown] = size / rest;
    return MX_OK;
  }
  if (unknown >= 0 ? rest == 0 && size == 0 : rest == size) return MX_OK;
  char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
  mx_shape_text(s, a);
  mx_shape_text(other, b);
  mx_fail(err, MX_ERR_SHAPE, "%s of shape %s and %s do not have the same number of elements.", what, a, b);
  mx_error_set(err, argument, "%s", what);
  mx_error_set(err, actual, "%s", a);
  mx_error_set(err, expected, "%s", b);
  return MX_ERR_SHAPE;
}

/* Shape codes that say the output without knowledge of the input. */
static bool spec_stands_alone(const mx_shape *spec) {
  for (int i = 0; i < spec->ndim; i++)
    if (spec->dim[i] == 0 || spec->dim[i] < -1) return false;
  return spec->ndim > 0;
}

static mx_status reshape_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const reshape_params *p = params;
  mx_shape want = MX_SHAPE_UNKNOWN;
  if (p->shape.ndim > 0) {
    if (in[0].ndim >= 0 && p->reverse) {
      mx_shape spec, data, got;
      reversed(&p->shape, &spec);
      reversed(&in[0], &data);
      MX_TRY(apply_codes(&spec, &data, &got, err));
      reversed(&got, &want);
    } else if (in[0].ndim >= 0) {
      MX_TRY(apply_codes(&p->shape, &in[0], &want, err));
    } else if (spec_stands_alone(&p->shape)) {
      want = p->shape;
    }
  } else if (p->target_shape.ndim > 0 && in[0].ndim >= 0) {
    MX_TRY(apply_target(p, &in[0], &want, err));
  }
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  MX_TRY(fill_last_unknown(&out[0], &in[0], "output", err));
  return fill_last_unknown(&in[0], &out[0], "data", err);
}

/* ---- Flatten ---- */

static mx_status flatten_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  if (in[0].ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "data must have at least one dimension.");
  if (in[0].ndim > 0) {
    want.dim[0] = in[0].dim[0];
    mx_shape rest = mx_shape_make(in[0].ndim - 1, in[0].dim + 1);
    if (mx_shape_known(&rest)) {
      MX_TRY(mx_shape_check_size(&rest, 1, err));
      want.dim[1] = mx_shape_size(&rest);
    }
  }
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].dim[0] < 0) in[0].dim[0] = out[0].dim[0];
  return fill_last_unknown(&in[0], &out[0], "data", err);
}

/* ---- expand_dims ---- */

typedef struct axis_params {
  int64_t axis;
} axis_params;

static const mx_param expand_table[] = {
    MX_P_INT(axis_params, axis, NULL, MX_ANY,
             "Where the new dimension stands in the output, from 0; negative numbers count from the end."),
    MX_P_END};

static mx_status expand_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const axis_params *p = params;
  int ndim = in[0].ndim >= 0 ? in[0].ndim + 1 : out[0].ndim, axis;
  if (ndim < 0) return MX_OK;
  if (ndim > MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  if (ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "The output has at least one dimension.");
  MX_TRY(mx_axis_param(p->axis, ndim, "axis", &axis, err));
  mx_shape want = {.ndim = ndim}, data = {.ndim = ndim - 1};
  for (int i = 0; i < ndim; i++) want.dim[i] = i == axis ? 1 : MX_DIM_UNKNOWN;
  for (int i = 0; in[0].ndim >= 0 && i < ndim; i++)
    if (i != axis) want.dim[i] = in[0].dim[i - (i > axis)];
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  for (int i = 0; i < ndim - 1; i++) data.dim[i] = out[0].dim[i + (i >= axis)];
  return mx_shape_merge(&in[0], &data, "data", err);
}

/* ---- squeeze ---- */

typedef struct squeeze_params {
  mx_shape axis;
} squeeze_params;

static const mx_param squeeze_table[] = {
    MX_P_TUPLE(squeeze_params, axis, "None", -MX_MAX_NDIM, MX_MAX_NDIM - 1,
               "Dimensions to drop; each must have length 1. None: all that have length 1."),
    MX_P_END};

static mx_status squeeze_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const squeeze_params *p = params;
  bool drop[MX_MAX_NDIM] = {false};
  if (in[0].ndim < 0 || (p->axis.ndim < 0 && !mx_shape_known(&in[0]))) return MX_OK;
  for (int i = 0; i < in[0].ndim && p->axis.ndim < 0; i++) drop[i] = in[0].dim[i] == 1;
  for (int k = 0; k < p->axis.ndim; k++) {
    int axis;
    MX_TRY(mx_axis_param(p->axis.dim[k], in[0].ndim, "axis", &axis, err));
    if (drop[axis]) return mx_fail(err, MX_ERR_VALUE, "axis names dimension %d twice.", axis);
    if (in[0].dim[axis] < 0) in[0].dim[axis] = 1;
    if (in[0].dim[axis] != 1)
      return mx_fail(err, MX_ERR_SHAPE,
                     "Dimension %d has length %" PRId64 "; only dimensions of length 1 can be dropped.", axis,
                     in[0].dim[axis]);
    drop[axis] = true;
  }
  mx_shape want = {.ndim = 0};
  for (int i = 0; i < in[0].ndim; i++)
    if (!drop[i]) want.dim[want.ndim++] = in[0].dim[i];
  if (want.ndim == 0 && in[0].ndim > 0) want = mx_shape_of(1); /* there are no arrays without dimensions */
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  for (int i = 0, k = 0; i < in[0].ndim; i++)
    if (!drop[i]) in[0].dim[i] = out[0].dim[k++];
  return MX_OK;
}

/* ---- reshape_like ---- */

typedef struct like_params {
  mx_opt_int lhs_begin, lhs_end, rhs_begin, rhs_end;
} like_params;

static const mx_param like_table[] = {
    MX_P_OPT_INT(like_params, lhs_begin, "None", MX_ANY,
                 "First dimension of lhs that is replaced; None: the first of all."),
    MX_P_OPT_INT(like_params, lhs_end, "None", MX_ANY,
                 "End of the replaced dimensions, exclusive; None: all to the end."),
    MX_P_OPT_INT(like_params, rhs_begin, "None", MX_ANY,
                 "First dimension of rhs that is taken; None: the first of all."),
    MX_P_OPT_INT(like_params, rhs_end, "None", MX_ANY, "End of the dimensions taken, exclusive; None: all to the end."),
    MX_P_END};

static mx_status like_range(mx_opt_int begin, mx_opt_int end, int ndim, const char *what, int *b, int *e,
                            mx_error *err) {
  int64_t lo = begin.given ? begin.value : 0, hi = end.given ? end.value : ndim;
  if (lo < 0 && lo >= -ndim) lo += ndim;
  if (hi < 0 && hi >= -ndim) hi += ndim;
  if (lo < 0 || hi < lo || hi > ndim)
    return mx_fail(err, MX_ERR_VALUE, "%s_begin and %s_end do not name a range of the %d dimensions of %s.", what, what,
                   ndim, what);
  *b = (int)lo;
  *e = (int)hi;
  return MX_OK;
}

static mx_status like_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const like_params *p = params;
  bool whole = !p->lhs_begin.given && !p->lhs_end.given && !p->rhs_begin.given && !p->rhs_end.given;
  if (whole) {
    MX_TRY(mx_shape_merge(&out[0], &in[1], "output", err));
  } else {
    int lb, le, rb, re;
    if (in[0].ndim < 0 || in[1].ndim < 0) return MX_OK;
    MX_TRY(like_range(p->lhs_begin, p->lhs_end, in[0].ndim, "lhs", &lb, &le, err));
    MX_TRY(like_range(p->rhs_begin, p->rhs_end, in[1].ndim, "rhs", &rb, &re, err));
    mx_shape want = {.ndim = 0};
    if (in[0].ndim - (le - lb) + (re - rb) > MX_MAX_NDIM)
      return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
    for (int i = 0; i < lb; i++) want.dim[want.ndim++] = in[0].dim[i];
    for (int i = rb; i < re; i++) want.dim[want.ndim++] = in[1].dim[i];
    for (int i = le; i < in[0].ndim; i++) want.dim[want.ndim++] = in[0].dim[i];
    MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  }
  MX_TRY(fill_last_unknown(&out[0], &in[0], "output", err));
  return fill_last_unknown(&in[0], &out[0], "lhs", err);
}

/* ---- shape_array, size_array ---- */

static mx_status tells_infer(mx_shape *in, mx_shape *out, int64_t n, mx_error *err) {
  mx_shape want = mx_shape_of(n);
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status shape_array_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                   mx_error *err) {
  return in[0].ndim < 0 ? MX_OK : tells_infer(in, out, in[0].ndim, err);
}
static mx_status size_array_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return tells_infer(in, out, 1, err);
}
static mx_status tells_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = MX_INT64;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status shape_array_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->in[0].shape;
  if (c->req[0] == MX_NULL || s->ndim == 0) return MX_OK;
  return c->device->ops->copy_in(c->device, c->out[0].data, s->dim, (size_t)s->ndim * sizeof(int64_t), err);
}
static mx_status size_array_kernel(const mx_call *c, mx_error *err) {
  int64_t size = mx_shape_size(&c->in[0].shape);
  return c->req[0] == MX_NULL ? MX_OK : c->device->ops->copy_in(c->device, c->out[0].data, &size, sizeof(size), err);
}

#define VIEW                                                                                \
  .n_in = 1, .n_out = 1, .infer_dtype = mx_infer_dtype_first, .gradient = mx_view_gradient, \
  .aliases_mem = mx_alias_first, .flags = MX_OP_VIEW | MX_OP_PORTABLE, .kernel = mx_view_kernel
#define FAMILY .family = "Shape manipulation"

const mx_op mx_ops_reshape[] = {
    {.name = "Reshape",
     .aliases = MX_STRINGS("reshape"),
     FAMILY,
     .doc =
         "The elements of data, in their order, in another shape. Numbers in shape: positive, the length itself; "
         "0, the length of the dimension of data at this place; -1 (once), what is left; -2, all remaining dimensions "
         "of data; -3, the product of the next two; -4, followed by two lengths (one may be -1), splits the next one. "
         "With (2,3,4): (6,4), (0,-1) -> (2,12), (-3,0) -> (6,4), (-4,1,2,-2) -> (1,2,3,4). reverse = True matches "
         "from "
         "the right: data (10,5,4) and (-1,0) give (50,4) instead of (40,5).",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = reshape_table,
     .params_size = sizeof(reshape_params),
     .infer_shape = reshape_infer,
     VIEW},
    {.name = "Flatten",
     .aliases = MX_STRINGS("flatten"),
     FAMILY,
     .doc = "All dimensions but the first become one: (d1, d2, ..., dk) -> (d1, d2 * ... * dk).",
     .in_doc = MX_STRINGS("(batch, ...)."),
     .infer_shape = flatten_infer,
     VIEW},
    {.name = "expand_dims",
     FAMILY,
     .doc = "Inserts a dimension of length 1: (d1, d2) with axis = 1 -> (d1, 1, d2).",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = expand_table,
     .params_size = sizeof(axis_params),
     .infer_shape = expand_infer,
     VIEW},
    {.name = "squeeze",
     FAMILY,
     .doc = "Drops dimensions of length 1. When none is left the result has shape (1,).",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = squeeze_table,
     .params_size = sizeof(squeeze_params),
     .infer_shape = squeeze_infer,
     VIEW},
    {.name = "reshape_like",
     FAMILY,
     .doc =
         "lhs in the shape of rhs. With the ranges given, dimensions lhs_begin .. lhs_end - 1 of lhs are replaced by "
         "dimensions rhs_begin .. rhs_end - 1 of rhs. The values of rhs do not matter; its gradient is zero.",
     .in_doc = MX_STRINGS("Array whose elements are kept.", "Array whose shape is taken."),
     .in_names = MX_STRINGS("lhs", "rhs"),
     .params = like_table,
     .params_size = sizeof(like_params),
     .n_in = 2,
     .n_out = 1,
     .infer_shape = like_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = mx_view_gradient,
     .aliases_mem = mx_alias_first,
     .flags = MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = mx_view_kernel},
    {.name = "shape_array",
     FAMILY,
     .doc = "The lengths of the dimensions of data, in native order, as int64.",
     .in_doc = MX_STRINGS("Array of any shape and dtype."),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = shape_array_infer,
     .infer_dtype = tells_dtype,
     .flags = MX_OP_PORTABLE,
     .kernel = shape_array_kernel},
    {.name = "size_array",
     FAMILY,
     .doc = "The number of elements of data, as int64, in an array of shape (1,).",
     .in_doc = MX_STRINGS("Array of any shape and dtype."),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = size_array_infer,
     .infer_dtype = tells_dtype,
     .flags = MX_OP_PORTABLE,
     .kernel = size_array_kernel},
    {0}};
