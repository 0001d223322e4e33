/* Permutations of dimensions: transpose, SwapAxis, and the block rearrangements depth_to_space and space_to_depth. All
 * are one strided copy. */
#include <inttypes.h>

#include "ops/manipulate.h"

/* Copies with the dimensions of a row-major source read in the order perm. */
static void permute(const mx_shape *in, const int *perm, size_t element, const void *src, void *dst) {
  int64_t stride[MX_MAX_NDIM];
  mx_strided s = {.ndim = in->ndim};
  int64_t step = 1;
  mx_shape_strides(in, stride);
  for (int i = in->ndim - 1; i >= 0; i--) {
    s.dim[i] = in->dim[perm[i]];
    s.src[i] = stride[perm[i]];
    s.dst[i] = step;
    step *= s.dim[i];
  }
  mx_strided_copy(&s, element, src, dst);
}

/* Output dimension i is input dimension perm[i]; fills what is unknown both ways. */
static mx_status permuted_infer(const int *perm, int ndim, mx_shape *in, mx_shape *out, mx_error *err) {
  mx_shape want = {.ndim = ndim}, data = {.ndim = ndim};
  if (in->ndim >= 0) {
    for (int i = 0; i < ndim; i++) want.dim[i] = in->dim[perm[i]];
    MX_TRY(mx_shape_merge(out, &want, "output", err));
  }
  if (out->ndim < 0) return MX_OK;
  for (int i = 0; i < ndim; i++) data.dim[perm[i]] = out->dim[i];
  return mx_shape_merge(in, &data, "data", err);
}

/* ---- transpose ---- */

typedef struct transpose_params {
  mx_shape axes;
} transpose_params;

static const mx_param transpose_table[] = {
    MX_P_TUPLE(transpose_params, axes, "()", -MX_MAX_NDIM, MX_MAX_NDIM - 1,
               "Dimension i of the output is dimension axes[i] of data. Empty: the order is reversed."),
    MX_P_END};

static mx_status transpose_perm(const transpose_params *p, int ndim, int *perm, mx_error *err) {
  bool used[MX_MAX_NDIM] = {false};
  for (int i = 0; i < ndim && p->axes.ndim <= 0; i++) perm[i] = ndim - 1 - i;
  if (p->axes.ndim <= 0) return MX_OK;
  if (p->axes.ndim != ndim)
    return mx_fail(err, MX_ERR_VALUE, "axes has %d elements, but data has %d dimensions.", p->axes.ndim, ndim);
  for (int i = 0; i < ndim; i++) {
    MX_TRY(mx_axis_param(p->axes.dim[i], ndim, "axes", &perm[i], err));
    if (used[perm[i]]) return mx_fail(err, MX_ERR_VALUE, "axes names dimension %d twice.", perm[i]);
    used[perm[i]] = true;
  }
  return MX_OK;
}

static mx_status transpose_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  int perm[MX_MAX_NDIM], ndim = in[0].ndim >= 0 ? in[0].ndim : out[0].ndim;
  if (ndim < 0) return MX_OK;
  MX_TRY(transpose_perm(params, ndim, perm, err));
  return permuted_infer(perm, ndim, &in[0], &out[0], err);
}

static mx_status transpose_kernel(const mx_call *c, mx_error *err) {
  int perm[MX_MAX_NDIM];
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(transpose_perm(c->params, c->in[0].shape.ndim, perm, err));
  permute(&c->in[0].shape, perm, mx_dtype_size(c->in[0].dtype), c->in[0].data, c->out[0].data);
  return MX_OK;
}

static mx_status transpose_gradient(mx_grad *g, mx_error *err) {
  int perm[MX_MAX_NDIM], ndim = g->in_shape[0].ndim;
  int64_t inverse[MX_MAX_NDIM];
  char text[MX_SHAPE_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(transpose_perm(g->params, ndim, perm, err));
  for (int i = 0; i < ndim; i++) inverse[perm[i]] = i;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return mx_grad_call(g, "transpose", (const char *const[]){"axes", mx_tuple_text(inverse, ndim, text), NULL}, &head, 1,
                      &g->in_grad[0], err);
}

/* ---- SwapAxis ---- */

typedef struct swap_params {
  int64_t dim1, dim2;
} swap_params;

static const mx_param swap_table[] = {
    MX_P_INT(swap_params, dim1, "0", MX_ANY, "One dimension; negative numbers count from the end."),
    MX_P_INT(swap_params, dim2, "0", MX_ANY, "The other one."), MX_P_END};

static mx_status swap_perm(const swap_params *p, int ndim, int *perm, mx_error *err) {
  int a, b;
  MX_TRY(mx_axis_param(p->dim1, ndim, "dim1", &a, err));
  MX_TRY(mx_axis_param(p->dim2, ndim, "dim2", &b, err));
  for (int i = 0; i < ndim; i++) perm[i] = i == a ? b : i == b ? a : i;
  return MX_OK;
}

static mx_status swap_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  int perm[MX_MAX_NDIM], ndim = in[0].ndim >= 0 ? in[0].ndim : out[0].ndim;
  if (ndim < 0) return MX_OK;
  MX_TRY(swap_perm(params, ndim, perm, err));
  return permuted_infer(perm, ndim, &in[0], &out[0], err);
}

static mx_status swap_kernel(const mx_call *c, mx_error *err) {
  int perm[MX_MAX_NDIM];
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(swap_perm(c->params, c->in[0].shape.ndim, perm, err));
  permute(&c->in[0].shape, perm, mx_dtype_size(c->in[0].dtype), c->in[0].data, c->out[0].data);
  return MX_OK;
}

static mx_status swap_gradient(mx_grad *g, mx_error *err) {
  const swap_params *p = g->params;
  char a[MX_INT_TEXT], b[MX_INT_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return mx_grad_call(g, "SwapAxis",
                      (const char *const[]){"dim1", mx_int_text(p->dim1, a), "dim2", mx_int_text(p->dim2, b), NULL},
                      &head, 1, &g->in_grad[0], err);
}

/* ---- depth_to_space, space_to_depth ---- */

typedef struct block_params {
  int64_t block_size;
} block_params;

static const mx_param block_table[] = {
    MX_P_INT(block_params, block_size, NULL, 1, 1 << 20, "Side length of the blocks."), MX_P_END};

/* deep is the side with many channels. */
static mx_status block_infer(int64_t b, mx_shape *deep, mx_shape *wide, const char *deep_name, const char *wide_name,
                             mx_error *err) {
  mx_shape four = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN), d, w;
  MX_TRY(mx_shape_merge(deep, &four, deep_name, err));
  MX_TRY(mx_shape_merge(wide, &four, wide_name, err));
  d = *deep;
  w = *wide;
  if (d.dim[1] >= 0 && d.dim[1] % (b * b))
    return mx_fail(err, MX_ERR_SHAPE,
                   "The number of channels %" PRId64 " is not a multiple of block_size squared, %" PRId64 ".", d.dim[1],
                   b * b);
  for (int i = 2; i < 4; i++)
    if (w.dim[i] >= 0 && w.dim[i] % b)
      return mx_fail(err, MX_ERR_SHAPE,
                     "Dimension %d of length %" PRId64 " is not a multiple of block_size %" PRId64 ".", i, w.dim[i], b);
  mx_shape from_deep = mx_shape_of(d.dim[0], d.dim[1] < 0 ? -1 : d.dim[1] / (b * b), d.dim[2] < 0 ? -1 : d.dim[2],
                                   d.dim[3] < 0 ? -1 : d.dim[3]);
  mx_shape from_wide =
      mx_shape_of(w.dim[0], w.dim[1], w.dim[2] < 0 ? -1 : w.dim[2] / b, w.dim[3] < 0 ? -1 : w.dim[3] / b);
  for (int i = 1; i < 4; i++) {
    int64_t factor = i == 1 ? b * b : b, *small = i == 1 ? &from_wide.dim[i] : &from_deep.dim[i];
    if (*small > ((int64_t)1 << 62) / factor)
      return mx_fail(err, MX_ERR_SHAPE, "The output would have too many elements.");
    if (*small > 0) *small *= factor;
  }
  MX_TRY(mx_shape_merge(wide, &from_deep, wide_name, err));
  return mx_shape_merge(deep, &from_wide, deep_name, err);
}

static mx_status depth_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return block_infer(((const block_params *)params)->block_size, &in[0], &out[0], "data", "output", err);
}
static mx_status space_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return block_infer(((const block_params *)params)->block_size, &out[0], &in[0], "output", "data", err);
}

/* Both sides seen as (n, by, bx, c, h, w): the deep one is so in memory, the wide one is (n, c, h, by, w, bx). */
static void block_copy(const mx_tensor *in, const mx_tensor *out, const mx_shape *deep, int64_t b, bool to_wide) {
  int64_t n = deep->dim[0], c = deep->dim[1] / (b * b), h = deep->dim[2], w = deep->dim[3];
  const int64_t dim[6] = {n, c, h, b, w, b}; /* in the order of the wide side */
  const int64_t deep_stride[6] = {b * b * c * h * w, h * w, w, b * c * h * w, 1, c * h * w};
  const int64_t wide_stride[6] = {c * h * b * w * b, h * b * w * b, b * w * b, w * b, b, 1};
  static const int deep_order[6] = {0, 3, 5, 1, 2, 4};
  mx_strided s = {.ndim = 6};
  for (int i = 0; i < 6; i++) {
    int k = to_wide ? i : deep_order[i];
    s.dim[i] = dim[k];
    s.src[i] = to_wide ? deep_stride[k] : wide_stride[k];
    s.dst[i] = to_wide ? wide_stride[k] : deep_stride[k];
  }
  mx_strided_copy(&s, mx_dtype_size(in->dtype), in->data, out->data);
}

static mx_status depth_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    block_copy(&c->in[0], &c->out[0], &c->in[0].shape, ((const block_params *)c->params)->block_size, true);
  return MX_OK;
}
static mx_status space_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    block_copy(&c->in[0], &c->out[0], &c->out[0].shape, ((const block_params *)c->params)->block_size, false);
  return MX_OK;
}

static mx_status block_gradient(mx_grad *g, const char *op, mx_error *err) {
  char text[MX_INT_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  mx_int_text(((const block_params *)g->params)->block_size, text);
  return mx_grad_call(g, op, (const char *const[]){"block_size", text, NULL}, &head, 1, &g->in_grad[0], err);
}
static mx_status depth_gradient(mx_grad *g, mx_error *err) { return block_gradient(g, "space_to_depth", err); }
static mx_status space_gradient(mx_grad *g, mx_error *err) { return block_gradient(g, "depth_to_space", err); }

const mx_op mx_ops_transpose[] = {
    {.name = "transpose",
     .family = "Shape manipulation",
     .doc =
         "Permutes the dimensions: output[i_axes[0], i_axes[1], ...] = data[i_0, i_1, ...]. A matrix without axes is "
         "transposed as usual.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = transpose_table,
     .params_size = sizeof(transpose_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = transpose_infer,
     .gradient = transpose_gradient,
     .kernel = transpose_kernel},
    {.name = "SwapAxis",
     .aliases = MX_STRINGS("swapaxes"),
     .family = "Shape manipulation",
     .doc = "Exchanges two dimensions.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = swap_table,
     .params_size = sizeof(swap_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = swap_infer,
     .gradient = swap_gradient,
     .kernel = swap_kernel},
    {.name = "depth_to_space",
     .family = "Shape manipulation",
     .doc = "Moves channels into space, b = block_size: (n, b * b * c, h, w) -> (n, c, h * b, w * b) with output[n, c, "
            "y * b + "
            "i, x * b + j] = data[n, (i * b + j) * c_total + c, y, x], where c_total is the number of channels of the "
            "output.",
     .in_doc = MX_STRINGS("(batch, channel, height, width)."),
     .params = block_table,
     .params_size = sizeof(block_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = depth_infer,
     .gradient = depth_gradient,
     .kernel = depth_kernel},
    {.name = "space_to_depth",
     .family = "Shape manipulation",
     .doc = "The inverse of depth_to_space: blocks of b x b neighbours become channels, (n, c, h, w) -> (n, b * b * c, "
            "h / b, w "
            "/ b).",
     .in_doc = MX_STRINGS("(batch, channel, height, width)."),
     .params = block_table,
     .params_size = sizeof(block_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = space_infer,
     .gradient = space_gradient,
     .kernel = space_kernel},
    {0}};
