/* Rectangular parts of arrays, read (slice, slice_axis, slice_like, Crop) and written (_slice_assign,
 * _slice_assign_scalar). All are one strided copy; one backward operator serves those that read. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

/* A part of an array: begin[i] + k * step[i] for k < count[i], for every dimension. */
typedef struct region {
  int ndim;
  int64_t begin[MX_MAX_NDIM], step[MX_MAX_NDIM], count[MX_MAX_NDIM];
} region;

static region region_all(const mx_shape *s) {
  region r = {.ndim = s->ndim};
  for (int i = 0; i < s->ndim; i++) r.begin[i] = 0, r.step[i] = 1, r.count[i] = s->dim[i];
  return r;
}

static void region_shape(const region *r, mx_shape *out) { *out = mx_shape_make(r->ndim, r->count); }

/* Copies between the region of the large array and the whole of the small one. */
static void region_copy(const region *r, const mx_shape *large_shape, size_t element, void *large, const void *small,
                        void *small_out) {
  int64_t stride[MX_MAX_NDIM], offset = 0, packed = 1;
  mx_strided s = {.ndim = r->ndim};
  mx_shape_strides(large_shape, stride);
  for (int i = 0; i < r->ndim; i++)
    if (r->count[i] == 0) return;
  for (int i = r->ndim - 1; i >= 0; i--) {
    int64_t far = r->count[i] > 1 ? r->step[i] * stride[i] : 0; /* a single one may have any step */
    offset += r->begin[i] * stride[i];
    s.dim[i] = r->count[i];
    s.src[i] = small_out ? far : packed;
    s.dst[i] = small_out ? packed : far;
    packed *= r->count[i];
  }
  char *at = (char *)large + offset * (int64_t)element;
  if (small_out)
    mx_strided_copy(&s, element, at, small_out);
  else
    mx_strided_copy(&s, element, small, at);
}

/* Range of one dimension of length n, as Python slices: negative numbers count from the end, what lies outside is cut.
 */
static mx_status slice_range(int64_t begin, int64_t end, int64_t step, int64_t n, int64_t *first, int64_t *by,
                             int64_t *count, mx_error *err) {
  const int64_t big = (int64_t)1 << 61;
  if (step == MX_TUPLE_NONE) step = 1;
  if (step == 0) return mx_fail(err, MX_ERR_VALUE, "step must not be 0.");
  if (step > big) step = big;
  if (step < -big) step = -big;
  int64_t lo = step > 0 ? 0 : -1, hi = step > 0 ? n : n - 1; /* where begin and end may lie */
  if (begin == MX_TUPLE_NONE)
    begin = step > 0 ? lo : hi;
  else if (begin < 0)
    begin = begin < -n ? lo : begin + n;
  if (end == MX_TUPLE_NONE)
    end = step > 0 ? hi : lo;
  else if (end < 0)
    end = end < -n ? lo : end + n;
  begin = begin < lo ? lo : begin > hi ? hi : begin;
  end = end < lo ? lo : end > hi ? hi : end;
  *first = begin;
  *by = step;
  if (step > 0)
    *count = end > begin ? (end - begin - 1) / step + 1 : 0;
  else
    *count = begin > end ? (begin - end - 1) / -step + 1 : 0;
  if (*count == 0) *first = 0;
  return MX_OK;
}

/* ---- slice ---- */

typedef struct slice_params {
  mx_shape begin, end, step;
} slice_params;

#define SLICE_ROWS(S)                                                                                  \
  MX_P_TUPLE(S, begin, NULL, MX_ANY,                                                                   \
             "First index per dimension; None: from the start. Negative numbers count from the end."), \
      MX_P_TUPLE(S, end, NULL, MX_ANY, "End per dimension, exclusive; None: to the end."),             \
      MX_P_TUPLE(S, step, "()", MX_ANY, "Step per dimension, negative to go backwards; empty or None: 1.")

static const mx_param slice_table[] = {SLICE_ROWS(slice_params), MX_P_END};

static mx_status slice_check(void *params, mx_error *err) {
  const slice_params *p = params;
  if (p->begin.ndim < 0 || p->end.ndim != p->begin.ndim)
    return mx_fail(err, MX_ERR_VALUE, "begin has %d elements and end has %d; they must be the same number.",
                   p->begin.ndim, p->end.ndim);
  if (p->step.ndim > 0 && p->step.ndim != p->begin.ndim)
    return mx_fail(err, MX_ERR_VALUE, "step has %d elements, but begin has %d.", p->step.ndim, p->begin.ndim);
  for (int i = 0; i < p->step.ndim; i++)
    if (p->step.dim[i] == 0) return mx_fail(err, MX_ERR_VALUE, "step must not be 0.");
  return MX_OK;
}

/* Dimensions beyond those that begin names are taken whole; unknown ones have the count -1. */
static mx_status slice_region(const slice_params *p, const mx_shape *in, region *r, mx_error *err) {
  if (p->begin.ndim > in->ndim)
    return mx_fail(err, MX_ERR_VALUE, "begin has %d elements, but the array has %d dimensions.", p->begin.ndim,
                   in->ndim);
  *r = region_all(in);
  for (int i = 0; i < p->begin.ndim; i++) {
    int64_t step = i < p->step.ndim ? p->step.dim[i] : 1;
    if (in->dim[i] < 0)
      r->count[i] = MX_DIM_UNKNOWN;
    else
      MX_TRY(
          slice_range(p->begin.dim[i], p->end.dim[i], step, in->dim[i], &r->begin[i], &r->step[i], &r->count[i], err));
  }
  return MX_OK;
}

/* Merges the shape of a region into `out`, and where the dimension is taken whole, back into `in`. */
static mx_status region_infer(const region *r, const bool *whole, mx_shape *in, mx_shape *out, const char *what,
                              mx_error *err) {
  mx_shape want;
  region_shape(r, &want);
  MX_TRY(mx_shape_merge(out, &want, what, err));
  for (int i = 0; i < in->ndim; i++)
    if (whole[i] && in->dim[i] < 0) in->dim[i] = out->dim[i];
  return MX_OK;
}

static mx_status slice_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const slice_params *p = params;
  region r;
  bool whole[MX_MAX_NDIM];
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(slice_region(p, &in[0], &r, err));
  for (int i = 0; i < in[0].ndim; i++) whole[i] = i >= p->begin.ndim;
  return region_infer(&r, whole, &in[0], &out[0], "output", err);
}

static void read_region(const mx_call *c, const region *r) {
  if (c->req[0] != MX_NULL)
    region_copy(r, &c->in[0].shape, mx_dtype_size(c->in[0].dtype), c->in[0].data, NULL, c->out[0].data);
}

static mx_status slice_kernel(const mx_call *c, mx_error *err) {
  region r;
  MX_TRY(slice_region(c->params, &c->in[0].shape, &r, err));
  read_region(c, &r);
  return MX_OK;
}

/* The gradient of reading a region: the head gradient in its place, zeros around it. */
static mx_status region_gradient(mx_grad *g, const region *r, mx_error *err) {
  char begin[MX_SHAPE_TEXT], step[MX_SHAPE_TEXT], shape[MX_SHAPE_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  if (mx_shape_equal(mx_grad_shape(g, head), &g->in_shape[0])) {
    bool forward = true;
    for (int i = 0; i < r->ndim; i++) forward = forward && (r->step[i] > 0 || r->count[i] <= 1);
    if (forward) {
      g->in_grad[0] = head;
      return MX_OK;
    }
  }
  mx_tuple_text(r->begin, r->ndim, begin);
  mx_tuple_text(r->step, r->ndim, step);
  mx_tuple_text(g->in_shape[0].dim, r->ndim, shape);
  return mx_grad_call(g, "_backward_slice", (const char *const[]){"begin", begin, "step", step, "shape", shape, NULL},
                      &head, 1, &g->in_grad[0], err);
}

static mx_status slice_gradient(mx_grad *g, mx_error *err) {
  region r;
  MX_TRY(slice_region(g->params, &g->in_shape[0], &r, err));
  return region_gradient(g, &r, err);
}

/* ---- _backward_slice ---- */

typedef struct place_params {
  mx_shape begin, step, shape;
} place_params;

static const mx_param place_table[] = {
    MX_P_TUPLE(place_params, begin, NULL, 0, (double)INT64_MAX, "Where the first element goes."),
    MX_P_TUPLE(place_params, step, NULL, MX_ANY, "Distance of neighbours."),
    MX_P_TUPLE(place_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

static mx_status place_region(const place_params *p, const mx_shape *in, region *r, mx_error *err) {
  bool ok = in->ndim == p->shape.ndim && p->begin.ndim == in->ndim && p->step.ndim == in->ndim;
  *r = (region){.ndim = in->ndim};
  for (int i = 0; ok && i < in->ndim; i++) {
    int64_t n = p->shape.dim[i], count = in->dim[i], first = p->begin.dim[i], step = p->step.dim[i];
    r->begin[i] = first, r->step[i] = step, r->count[i] = count;
    if (count == 0) continue;
    ok = first >= 0 && first < n && step != MX_TUPLE_NONE && (step != 0 || count == 1);
    /* the last element must lie inside as well */
    if (ok && count > 1) ok = step > 0 ? (n - 1 - first) / step >= count - 1 : first / -step >= count - 1;
  }
  return ok ? MX_OK : mx_fail(err, MX_ERR_SHAPE, "The part does not fit into the shape.");
}

static mx_status place_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const place_params *p = params;
  region r;
  MX_TRY(mx_shape_merge(&out[0], &p->shape, "output", err));
  return mx_shape_known(&in[0]) ? place_region(p, &in[0], &r, err) : MX_OK;
}

/* Adds `small` to the region of the large array, row by row. */
static void region_add(const region *r, const mx_tensor *large, const mx_tensor *small) {
  int64_t stride[MX_MAX_NDIM], rows = 1, last = r->ndim - 1, n = last < 0 ? 1 : r->count[last];
  size_t es = mx_dtype_size(large->dtype);
  mx_shape_strides(&large->shape, stride);
  for (int i = 0; i < last; i++) rows *= r->count[i];
#pragma omp parallel for num_threads(mx_threads_for(rows *n, MX_GRAIN))
  for (int64_t row = 0; row < rows; row++) {
    int64_t at = last < 0 ? 0 : r->begin[last] * stride[last], rest = row;
    for (int i = (int)last - 1; i >= 0; i--) {
      at += (r->begin[i] + rest % r->count[i] * r->step[i]) * stride[i];
      rest /= r->count[i];
    }
    char *d = (char *)large->data + at * (int64_t)es;
    const char *s = (const char *)small->data + row * n * (int64_t)es;
    if (last < 0 || r->step[last] == 1) {
      mx_add_row(large->dtype, d, s, n);
    } else {
      int64_t step = r->step[last] * (int64_t)es;
      for (int64_t i = 0; i < n; i++) mx_add_row(large->dtype, d + i * step, s + i * (int64_t)es, 1);
    }
  }
}

static mx_status place_kernel(const mx_call *c, mx_error *err) {
  region r;
  size_t element = mx_dtype_size(c->out[0].dtype);
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(place_region(c->params, &c->in[0].shape, &r, err));
  if (c->req[0] == MX_ADD) {
    if (mx_shape_size(&c->in[0].shape) > 0) region_add(&r, &c->out[0], &c->in[0]);
    return MX_OK;
  }
  MX_TRY(mx_zero_output(c, 0, err));
  region_copy(&r, &c->out[0].shape, element, c->out[0].data, c->in[0].data, NULL);
  return MX_OK;
}

/* ---- slice_axis ---- */

typedef struct axis_params {
  int64_t axis;
  int64_t begin;
  mx_opt_int end;
} axis_params;

static const mx_param axis_table[] = {
    MX_P_INT(axis_params, axis, NULL, MX_ANY, "Dimension that is cut; negative numbers count from the end."),
    MX_P_INT(axis_params, begin, NULL, MX_ANY, "First index, from 0; negative numbers count from the end."),
    MX_P_OPT_INT(axis_params, end, NULL, MX_ANY, "End, exclusive; None: to the end."), MX_P_END};

static mx_status axis_region(const axis_params *p, const mx_shape *in, int *axis, region *r, mx_error *err) {
  MX_TRY(mx_axis_param(p->axis, in->ndim, "axis", axis, err));
  *r = region_all(in);
  int64_t n = in->dim[*axis], begin = p->begin, end = p->end.given ? p->end.value : n;
  r->count[*axis] = MX_DIM_UNKNOWN;
  if (n < 0) return MX_OK;
  if (begin < 0 && begin >= -n) begin += n;
  if (end < 0 && end >= -n) end += n;
  if (begin < 0 || end < begin || end > n) {
    mx_fail(err, MX_ERR_VALUE, "begin and end do not name a part of dimension %d, which has length %" PRId64 ".", *axis,
            n);
    mx_error_set(err, argument, "begin");
    mx_error_set(err, actual, "%" PRId64 " to %" PRId64, begin, end);
    mx_error_set(err, expected, "0 <= begin <= end <= %" PRId64, n);
    return MX_ERR_VALUE;
  }
  r->begin[*axis] = end > begin ? begin : 0;
  r->count[*axis] = end - begin;
  return MX_OK;
}

static mx_status axis_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  region r;
  int axis;
  bool whole[MX_MAX_NDIM];
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(axis_region(params, &in[0], &axis, &r, err));
  for (int i = 0; i < in[0].ndim; i++) whole[i] = i != axis;
  return region_infer(&r, whole, &in[0], &out[0], "output", err);
}

static mx_status axis_kernel(const mx_call *c, mx_error *err) {
  region r;
  int axis;
  MX_TRY(axis_region(c->params, &c->in[0].shape, &axis, &r, err));
  read_region(c, &r);
  return MX_OK;
}

static mx_status axis_gradient(mx_grad *g, mx_error *err) {
  region r;
  int axis;
  MX_TRY(axis_region(g->params, &g->in_shape[0], &axis, &r, err));
  return region_gradient(g, &r, err);
}

/* ---- slice_like ---- */

typedef struct like_params {
  mx_shape axes;
} like_params;

static const mx_param like_table[] = {
    MX_P_TUPLE(like_params, axes, "()", -MX_MAX_NDIM, MX_MAX_NDIM - 1,
               "Dimensions that are cut; empty: all, then both arrays must have the same number of dimensions."),
    MX_P_END};

static mx_status like_cut(const like_params *p, const mx_shape *in, const mx_shape *like, bool *cut, mx_error *err) {
  if (p->axes.ndim <= 0 && in->ndim != like->ndim)
    return mx_fail(err, MX_ERR_SHAPE,
                   "data has %d dimensions and shape_like has %d; without axes they must be the same number.", in->ndim,
                   like->ndim);
  for (int i = 0; i < in->ndim; i++) cut[i] = p->axes.ndim <= 0;
  for (int k = 0; k < p->axes.ndim; k++) {
    int axis;
    MX_TRY(mx_axis_param(p->axes.dim[k], in->ndim, "axes", &axis, err));
    if (axis >= like->ndim)
      return mx_fail(err, MX_ERR_SHAPE, "axes names dimension %d, but shape_like has %d dimensions.", axis, like->ndim);
    cut[axis] = true;
  }
  return MX_OK;
}

static mx_status like_region(const like_params *p, const mx_shape *in, const mx_shape *like, bool *cut, region *r,
                             mx_error *err) {
  MX_TRY(like_cut(p, in, like, cut, err));
  *r = region_all(in);
  for (int i = 0; i < in->ndim; i++) {
    if (!cut[i]) continue;
    if (in->dim[i] >= 0 && like->dim[i] > in->dim[i])
      return mx_fail(err, MX_ERR_SHAPE,
                     "shape_like has length %" PRId64 " in dimension %d, but data has only %" PRId64 " to cut from.",
                     like->dim[i], i, in->dim[i]);
    r->count[i] = like->dim[i];
  }
  return MX_OK;
}

static mx_status like_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  region r;
  bool cut[MX_MAX_NDIM];
  if (in[0].ndim < 0 || in[1].ndim < 0) return MX_OK;
  MX_TRY(like_region(params, &in[0], &in[1], cut, &r, err));
  for (int i = 0; i < in[0].ndim; i++) cut[i] = !cut[i];
  return region_infer(&r, cut, &in[0], &out[0], "output", err);
}

static mx_status like_kernel(const mx_call *c, mx_error *err) {
  region r;
  bool cut[MX_MAX_NDIM];
  MX_TRY(like_region(c->params, &c->in[0].shape, &c->in[1].shape, cut, &r, err));
  read_region(c, &r);
  return MX_OK;
}

static mx_status like_gradient(mx_grad *g, mx_error *err) {
  region r;
  bool cut[MX_MAX_NDIM];
  MX_TRY(like_region(g->params, &g->in_shape[0], &g->in_shape[1], cut, &r, err));
  return region_gradient(g, &r, err);
}

/* ---- Crop ---- */

typedef struct crop_params {
  int64_t num_args;
  mx_shape offset, h_w;
  bool center_crop;
} crop_params;

static const mx_param crop_table[] = {
    MX_P_INT(crop_params, num_args, NULL, 1, 2, "1: the size is h_w. 2: the size is that of the second array."),
    MX_P_TUPLE(crop_params, offset, "(0,0)", 0, (double)INT64_MAX, "Row and column where the part begins."),
    MX_P_TUPLE(crop_params, h_w, "(0,0)", 0, (double)INT64_MAX, "Height and width of the part, with one array."),
    MX_P_BOOL(crop_params, center_crop, "False", "Cut from the middle; offset is not used."), MX_P_END};

static mx_status crop_check(void *params, mx_error *err) {
  const crop_params *p = params;
  if (p->offset.ndim != 2 || p->h_w.ndim != 2)
    return mx_fail(err, MX_ERR_VALUE, "offset and h_w must have two elements.");
  if (p->num_args == 1 && (p->h_w.dim[0] == 0 || p->h_w.dim[1] == 0))
    return mx_fail(err, MX_ERR_VALUE, "With one array the height and the width of the part, h_w, must be given.");
  return MX_OK;
}

static int crop_count(const void *params) { return (int)((const crop_params *)params)->num_args; }

static mx_status crop_region(const crop_params *p, const mx_shape *in, int n_in, region *r, mx_error *err) {
  *r = region_all(&in[0]);
  for (int i = 0; i < 2; i++) {
    int64_t n = in[0].dim[2 + i], want = n_in > 1 ? in[1].dim[2 + i] : p->h_w.dim[i];
    r->count[2 + i] = want;
    if (n < 0 || want < 0) continue;
    if (want > n)
      return mx_fail(err, MX_ERR_SHAPE, "A part of %s %" PRId64 " cannot be cut from %" PRId64 ".",
                     i ? "width" : "height", want, n);
    int64_t begin = p->center_crop ? (n - want) / 2 : p->offset.dim[i];
    if (begin > n - want)
      return mx_fail(err, MX_ERR_VALUE,
                     "A part of %s %" PRId64 " that begins at %" PRId64 " leaves an array of %" PRId64 ".",
                     i ? "width" : "height", want, begin, n);
    r->begin[2 + i] = begin;
  }
  return MX_OK;
}

static mx_status crop_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  static const bool whole[MX_MAX_NDIM] = {true, true};
  mx_shape four = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  region r;
  MX_TRY(mx_shape_merge(&in[0], &four, "arg0", err));
  if (n_in > 1) MX_TRY(mx_shape_merge(&in[1], &four, "arg1", err));
  MX_TRY(crop_region(params, in, n_in, &r, err));
  return region_infer(&r, whole, &in[0], &out[0], "output", err);
}

static mx_status crop_kernel(const mx_call *c, mx_error *err) {
  mx_shape in[2] = {c->in[0].shape, c->n_in > 1 ? c->in[1].shape : c->in[0].shape};
  region r;
  MX_TRY(crop_region(c->params, in, c->n_in, &r, err));
  read_region(c, &r);
  return MX_OK;
}

static mx_status crop_gradient(mx_grad *g, mx_error *err) {
  region r;
  MX_TRY(crop_region(g->params, g->in_shape, g->n_in, &r, err));
  return region_gradient(g, &r, err);
}

/* ---- _slice_assign, _slice_assign_scalar ---- */

typedef struct assign_params {
  double scalar;
  slice_params slice;
} assign_params;

static const mx_param assign_scalar_table[] = {
    MX_P_FLOAT(assign_params, scalar, "0", MX_ANY, "The number that is written."),
    {"begin", MX_PARAM_TUPLE, offsetof(assign_params, slice.begin), NULL, MX_ANY, NULL,
     "First index per dimension; None: from the start. Negative numbers count from the end."},
    {"end", MX_PARAM_TUPLE, offsetof(assign_params, slice.end), NULL, MX_ANY, NULL,
     "End per dimension, exclusive; None: to the end."},
    {"step", MX_PARAM_TUPLE, offsetof(assign_params, slice.step), "()", MX_ANY, NULL,
     "Step per dimension, negative to go backwards; empty or None: 1."},
    MX_P_END};

static mx_status assign_scalar_check(void *params, mx_error *err) {
  return slice_check(&((assign_params *)params)->slice, err);
}

static mx_status assign_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  region r;
  mx_shape part;
  MX_TRY(mx_layer_unify(&in[0], &out[0], "lhs", err));
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(slice_region(params, &in[0], &r, err));
  region_shape(&r, &part);
  return mx_shape_merge(&in[1], &part, "rhs", err);
}

static mx_status assign_scalar_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                     mx_error *err) {
  region r;
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  return in[0].ndim < 0 ? MX_OK : slice_region(&((const assign_params *)params)->slice, &in[0], &r, err);
}

static mx_status assign_kernel(const mx_call *c, mx_error *err) {
  region r;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(slice_region(c->params, &c->in[0].shape, &r, err));
  MX_TRY(mx_copy_first(c, err));
  region_copy(&r, &c->out[0].shape, mx_dtype_size(c->out[0].dtype), c->out[0].data, c->in[1].data, NULL);
  return MX_OK;
}

static mx_status assign_scalar_kernel(const mx_call *c, mx_error *err) {
  const assign_params *p = c->params;
  region r;
  uint64_t value = 0;
  int64_t stride[MX_MAX_NDIM], offset = 0;
  size_t element = mx_dtype_size(c->out[0].dtype);
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(slice_region(&p->slice, &c->in[0].shape, &r, err));
  MX_TRY(mx_copy_first(c, err));
  mx_convert(&p->scalar, MX_FLOAT64, &value, c->out[0].dtype, 1);
  mx_shape_strides(&c->out[0].shape, stride);
  mx_strided s = {.ndim = r.ndim};
  for (int i = 0; i < r.ndim; i++) {
    s.dim[i] = r.count[i];
    s.dst[i] = r.count[i] > 1 ? r.step[i] * stride[i] : 0;
    offset += r.begin[i] * stride[i];
  }
  mx_strided_copy(&s, element, &value, (char *)c->out[0].data + offset * (int64_t)element);
  return MX_OK;
}

static mx_status assign_attrs_call(mx_grad *g, const slice_params *p, const char *op, mx_entry in, mx_entry *out,
                                   mx_error *err) {
  char b[MX_SHAPE_TEXT], e[MX_SHAPE_TEXT], s[MX_SHAPE_TEXT];
  mx_tuple_text(p->begin.dim, p->begin.ndim, b);
  mx_tuple_text(p->end.dim, p->end.ndim, e);
  mx_tuple_text(p->step.dim, p->step.ndim > 0 ? p->step.ndim : 0, s);
  return mx_grad_call(g, op, (const char *const[]){"begin", b, "end", e, "step", s, NULL}, &in, 1, out, err);
}

/* What was overwritten has no influence; what was written has the gradient of its place. */
static mx_status assign_gradient(mx_grad *g, mx_error *err) {
  mx_entry head;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  if (g->wanted[0]) MX_TRY(assign_attrs_call(g, g->params, "_slice_assign_scalar", head, &g->in_grad[0], err));
  return g->wanted[1] ? assign_attrs_call(g, g->params, "slice", head, &g->in_grad[1], err) : MX_OK;
}
static mx_status assign_scalar_gradient(mx_grad *g, mx_error *err) {
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return assign_attrs_call(g, &((const assign_params *)g->params)->slice, "_slice_assign_scalar", head, &g->in_grad[0],
                           err);
}

#define FAMILY .family = "Shape manipulation"

const mx_op mx_ops_slice[] = {
    {.name = "slice",
     .aliases = MX_STRINGS("crop", "_sparse_slice"),
     FAMILY,
     .doc = "The part data[begin[0]:end[0]:step[0], begin[1]:end[1]:step[1], ...] with the rules of Python: indices "
            "from 0, end "
            "exclusive, negative numbers count from the end, ends beyond the array are cut. Dimensions that are not "
            "named are "
            "taken whole.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = slice_table,
     .params_size = sizeof(slice_params),
     .check = slice_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = slice_infer,
     .gradient = slice_gradient,
     .kernel = slice_kernel},
    {.name = "slice_axis",
     FAMILY,
     .doc = "The part begin .. end - 1 of one dimension; the others are taken whole.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = axis_table,
     .params_size = sizeof(axis_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = axis_infer,
     .gradient = axis_gradient,
     .kernel = axis_kernel},
    {.name = "slice_like",
     FAMILY,
     .doc =
         "The first elements of data, as many as shape_like has: in every dimension, or those in axes. The values of "
         "shape_like do not matter; its gradient is zero.",
     .in_doc = MX_STRINGS("Array that is cut.", "Array whose lengths are taken."),
     .in_names = MX_STRINGS("data", "shape_like"),
     .params = like_table,
     .params_size = sizeof(like_params),
     .n_in = 2,
     .n_out = 1,
     .infer_shape = like_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = like_gradient,
     .kernel = like_kernel},
    {.name = "Crop",
     FAMILY,
     .doc = "Cuts a part out of images: of size h_w or of the height and width of the second array, at offset or in "
            "the middle.",
     .in_doc = MX_STRINGS("(batch, channel, height, width); the values of the second array do not matter."),
     .params = crop_table,
     .params_size = sizeof(crop_params),
     .check = crop_check,
     .num_args = "num_args",
     .count_in = crop_count,
     .n_out = 1,
     .infer_shape = crop_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = crop_gradient,
     .kernel = crop_kernel},
    {.name = "_slice_assign",
     .aliases = MX_STRINGS("_crop_assign"),
     .family = "Indexing and sorting",
     .doc = "lhs with the part that slice would read replaced by rhs.",
     .in_doc = MX_STRINGS("Array of any shape.", "Array of the shape of the part."),
     .in_names = MX_STRINGS("lhs", "rhs"),
     .params = slice_table,
     .params_size = sizeof(slice_params),
     .check = slice_check,
     .n_in = 2,
     .n_out = 1,
     .infer_shape = assign_infer,
     .gradient = assign_gradient,
     .aliases_mem = mx_alias_first,
     .kernel = assign_kernel},
    {.name = "_slice_assign_scalar",
     .aliases = MX_STRINGS("_crop_assign_scalar"),
     .family = "Indexing and sorting",
     .doc = "data with one number in the part that slice would read.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = assign_scalar_table,
     .params_size = sizeof(assign_params),
     .check = assign_scalar_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = assign_scalar_infer,
     .gradient = assign_scalar_gradient,
     .aliases_mem = mx_alias_first,
     .kernel = assign_scalar_kernel},
    {.name = "_backward_slice",
     FAMILY,
     .params = place_table,
     .params_size = sizeof(place_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = place_infer,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS,
     .kernel = place_kernel},
    {0}};
