/* Repetition and mirroring: tile, repeat, reverse. Forward is a strided copy (repeating has stride 0, mirroring a
 * negative one); the gradients of repetitions are sums over the repeated dimension of a reshaped head gradient. */
#include <inttypes.h>

#include "ops/manipulate.h"

/* a * b of lengths that may be unknown; MX_ERR_SHAPE when it does not fit. */
static mx_status length_times(int64_t a, int64_t b, int64_t *out, mx_error *err) {
  *out = a < 0 ? MX_DIM_UNKNOWN : 0;
  if (a <= 0 || b == 0) return MX_OK;
  if (b > ((int64_t)1 << 62) / a) return mx_fail(err, MX_ERR_SHAPE, "The output would have too many elements.");
  *out = a * b;
  return MX_OK;
}

/* Sums `e`, seen as (outer, n, inner), over n. */
static mx_status sum_middle(mx_grad *g, mx_entry e, int64_t outer, int64_t n, int64_t inner, mx_entry *out,
                            mx_error *err) {
  mx_shape three = mx_shape_of(outer, n, inner);
  MX_TRY(mx_grad_reshape(g, e, &three, &e, err));
  return mx_grad_call(g, "sum", (const char *const[]){"axis", "1", NULL}, &e, 1, out, err);
}

/* ---- tile ---- */

typedef struct tile_params {
  mx_shape reps;
} tile_params;

static const mx_param tile_table[] = {MX_P_TUPLE(tile_params, reps, NULL, 0, (double)INT64_MAX,
                                                 "Number of copies per dimension; the shorter of reps and the shape of "
                                                 "data is filled up with ones on the left."),
                                      MX_P_END};

/* Dimension i of the output: `*d` elements of data, `*rep` times. */
static void tile_dim(const mx_shape *reps, const mx_shape *in, int ndim, int i, int64_t *d, int64_t *rep) {
  int r = i - (ndim - (reps->ndim > 0 ? reps->ndim : 0)), k = i - (ndim - in->ndim);
  *rep = r >= 0 ? reps->dim[r] : 1;
  *d = k >= 0 ? in->dim[k] : 1;
}

static mx_status tile_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const tile_params *p = params;
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = {.ndim = in[0].ndim > p->reps.ndim ? in[0].ndim : p->reps.ndim};
  for (int i = 0; i < want.ndim; i++) {
    int64_t d, rep;
    tile_dim(&p->reps, &in[0], want.ndim, i, &d, &rep);
    MX_TRY(length_times(d, rep, &want.dim[i], err));
  }
  return mx_shape_merge(&out[0], &want, "output", err);
}

static mx_status tile_kernel(const mx_call *c, mx_error *err) {
  const tile_params *p = c->params;
  const mx_shape *in = &c->in[0].shape;
  int ndim = c->out[0].shape.ndim;
  int64_t src = 1, dst = 1;
  mx_strided s = {.ndim = 2 * ndim};
  if (c->req[0] == MX_NULL) return MX_OK;
  for (int i = ndim - 1; i >= 0; i--) {
    int64_t d, rep;
    tile_dim(&p->reps, in, ndim, i, &d, &rep);
    s.dim[2 * i] = rep, s.src[2 * i] = 0, s.dst[2 * i] = dst * d;
    s.dim[2 * i + 1] = d, s.src[2 * i + 1] = src, s.dst[2 * i + 1] = dst;
    src *= d;
    dst *= d * rep;
  }
  mx_strided_copy(&s, mx_dtype_size(c->in[0].dtype), c->in[0].data, c->out[0].data);
  return MX_OK;
}

static mx_status tile_gradient(mx_grad *g, mx_error *err) {
  const tile_params *p = g->params;
  int ndim = g->out_shape[0].ndim;
  mx_entry e;
  if (!g->wanted[0] || mx_shape_size(&g->out_shape[0]) == 0) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &e, err));
  /* Seen with copies as dimensions of their own, which are summed over together: from the left, as many as a shape can
   * hold at a time. */
  int64_t done = 1, rest = mx_shape_size(&g->out_shape[0]);
  for (int i = 0; i < ndim;) {
    mx_shape seen = mx_shape_of(done), copies = {.ndim = 0};
    char axes[MX_SHAPE_TEXT];
    for (; i < ndim && seen.ndim + 3 <= MX_MAX_NDIM; i++) {
      int64_t d, rep;
      tile_dim(&p->reps, &g->in_shape[0], ndim, i, &d, &rep);
      if (rep > 1) {
        copies.dim[copies.ndim++] = seen.ndim;
        seen.dim[seen.ndim++] = rep;
        seen.dim[seen.ndim++] = d;
      } else {
        seen.dim[seen.ndim - 1] *= d;
      }
      done *= d;
      rest /= rep * d;
    }
    seen.dim[seen.ndim++] = rest;
    if (copies.ndim == 0) continue;
    mx_shape_text(&copies, axes);
    MX_TRY(mx_grad_reshape(g, e, &seen, &e, err));
    MX_TRY(mx_grad_call(g, "sum", (const char *const[]){"axis", axes, NULL}, &e, 1, &e, err));
  }
  return mx_grad_reshape(g, e, &g->in_shape[0], &g->in_grad[0], err);
}

/* ---- repeat ---- */

typedef struct repeat_params {
  int64_t repeats;
  mx_opt_int axis;
} repeat_params;

static const mx_param repeat_table[] = {
    MX_P_INT(repeat_params, repeats, NULL, 0, (double)INT64_MAX, "How often each element is repeated."),
    MX_P_OPT_INT(repeat_params, axis, "None", MX_ANY,
                 "Dimension along which; negative numbers count from the end. None: data is seen as a vector."),
    MX_P_END};

static mx_status repeat_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const repeat_params *p = params;
  int axis = 0;
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = in[0];
  if (p->axis.given) {
    MX_TRY(mx_axis_param(p->axis.value, in[0].ndim, "axis", &axis, err));
  } else {
    want = mx_shape_of(MX_DIM_UNKNOWN);
    if (mx_shape_known(&in[0])) {
      MX_TRY(mx_shape_check_size(&in[0], 1, err));
      want.dim[0] = mx_shape_size(&in[0]);
    }
  }
  MX_TRY(length_times(want.dim[axis], p->repeats, &want.dim[axis], err));
  return mx_shape_merge(&out[0], &want, "output", err);
}

/* data as (outer, inner), each row of inner elements repeated. */
static mx_status repeat_split(const repeat_params *p, const mx_shape *in, int64_t *outer, int64_t *inner,
                              mx_error *err) {
  int axis = in->ndim - 1;
  if (p->axis.given) MX_TRY(mx_axis_param(p->axis.value, in->ndim, "axis", &axis, err));
  *outer = mx_shape_prod(in, 0, axis + 1);
  *inner = mx_shape_prod(in, axis + 1, in->ndim);
  return MX_OK;
}

static mx_status repeat_kernel(const mx_call *c, mx_error *err) {
  const repeat_params *p = c->params;
  int64_t outer, inner;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(repeat_split(p, &c->in[0].shape, &outer, &inner, err));
  mx_strided s = {
      .ndim = 3, .dim = {outer, p->repeats, inner}, .src = {inner, 0, 1}, .dst = {p->repeats * inner, inner, 1}};
  if (mx_shape_size(&c->out[0].shape) > 0)
    mx_strided_copy(&s, mx_dtype_size(c->in[0].dtype), c->in[0].data, c->out[0].data);
  return MX_OK;
}

static mx_status repeat_gradient(mx_grad *g, mx_error *err) {
  const repeat_params *p = g->params;
  int64_t outer, inner;
  mx_entry e;
  if (!g->wanted[0] || mx_shape_size(&g->out_shape[0]) == 0) return MX_OK;
  MX_TRY(repeat_split(p, &g->in_shape[0], &outer, &inner, err));
  MX_TRY(mx_grad_head(g, 0, &e, err));
  if (p->repeats > 1) MX_TRY(sum_middle(g, e, outer, p->repeats, inner, &e, err));
  return mx_grad_reshape(g, e, &g->in_shape[0], &g->in_grad[0], err);
}

/* ---- reverse ---- */

typedef struct reverse_params {
  mx_shape axis;
} reverse_params;

static const mx_param reverse_table[] = {
    MX_P_TUPLE(reverse_params, axis, NULL, -MX_MAX_NDIM, MX_MAX_NDIM - 1,
               "Dimensions whose order is reversed; negative numbers count from the end."),
    MX_P_END};

static mx_status reverse_axes(const reverse_params *p, int ndim, bool *flip, mx_error *err) {
  for (int i = 0; i < ndim; i++) flip[i] = false;
  for (int k = 0; k < p->axis.ndim; k++) {
    int axis;
    MX_TRY(mx_axis_param(p->axis.dim[k], ndim, "axis", &axis, err));
    flip[axis] = true;
  }
  return MX_OK;
}

static mx_status reverse_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  bool flip[MX_MAX_NDIM];
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  return in[0].ndim < 0 ? MX_OK : reverse_axes(params, in[0].ndim, flip, err);
}

static mx_status reverse_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *in = &c->in[0].shape;
  size_t element = mx_dtype_size(c->in[0].dtype);
  bool flip[MX_MAX_NDIM];
  int64_t stride = 1, offset = 0;
  mx_strided s = {.ndim = in->ndim};
  if (c->req[0] == MX_NULL || mx_shape_size(in) == 0) return MX_OK;
  MX_TRY(reverse_axes(c->params, in->ndim, flip, err));
  for (int i = in->ndim - 1; i >= 0; i--) {
    s.dim[i] = in->dim[i];
    s.dst[i] = stride;
    s.src[i] = flip[i] ? -stride : stride;
    if (flip[i]) offset += (in->dim[i] - 1) * stride;
    stride *= in->dim[i];
  }
  mx_strided_copy(&s, element, (const char *)c->in[0].data + (size_t)offset * element, c->out[0].data);
  return MX_OK;
}

static mx_status reverse_gradient(mx_grad *g, mx_error *err) {
  const reverse_params *p = g->params;
  char text[MX_SHAPE_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  mx_tuple_text(p->axis.dim, p->axis.ndim > 0 ? p->axis.ndim : 0, text);
  return mx_grad_call(g, "reverse", (const char *const[]){"axis", text, NULL}, &head, 1, &g->in_grad[0], err);
}

#define FAMILY .family = "Shape manipulation", .n_in = 1, .n_out = 1, .in_doc = MX_STRINGS("Array of any shape.")

const mx_op mx_ops_tile[] = {{.name = "tile",
                              FAMILY,
                              .doc = "Copies of data side by side: dimension i of the output has reps[i] times the "
                                     "length. (2,3) with reps = (2,2) -> "
                                     "(4,6).",
                              .params = tile_table,
                              .params_size = sizeof(tile_params),
                              .infer_shape = tile_infer,
                              .gradient = tile_gradient,
                              .kernel = tile_kernel},
                             {.name = "repeat",
                              FAMILY,
                              .doc = "Repeats each element: [1, 2] with repeats = 2 -> [1, 1, 2, 2].",
                              .params = repeat_table,
                              .params_size = sizeof(repeat_params),
                              .infer_shape = repeat_infer,
                              .gradient = repeat_gradient,
                              .kernel = repeat_kernel},
                             {.name = "reverse",
                              .aliases = MX_STRINGS("flip"),
                              FAMILY,
                              .doc = "Reverses the order of the elements along dimensions.",
                              .params = reverse_table,
                              .params_size = sizeof(reverse_params),
                              .infer_shape = reverse_infer,
                              .gradient = reverse_gradient,
                              .kernel = reverse_kernel},
                             {0}};
