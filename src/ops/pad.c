/* Pad and diag: what has elements of the input at some places and other values around them. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

/* ---- Pad ---- */

typedef struct pad_params {
  int mode;
  mx_ints pad_width;
  double constant_value;
} pad_params;

enum { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT };

static const mx_param pad_table[] = {
    MX_P_ENUM(
        pad_params, mode, NULL, MX_STRINGS("constant", "edge", "reflect"),
        "What stands in the padding: constant_value, the nearest element, or the array mirrored at its first and last "
        "element."),
    MX_P_INTS(pad_params, pad_width, NULL, 0, (double)INT64_MAX,
              "Two numbers per dimension, before and after: (b1, a1, b2, a2, ...)."),
    MX_P_FLOAT(pad_params, constant_value, "0", MX_ANY, "Value of the padding with mode = constant."), MX_P_END};

static mx_status pad_check(void *params, mx_error *err) {
  const pad_params *p = params;
  if (p->pad_width.n % 2 || p->pad_width.n > 2 * MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_VALUE, "pad_width has %d elements; expected two per dimension.", p->pad_width.n);
  return MX_OK;
}

static mx_status pad_ndim(const pad_params *p, int ndim, mx_error *err) {
  if (p->pad_width.n == 2 * ndim) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "pad_width has %d elements, but data has %d dimensions; expected two per dimension.",
          p->pad_width.n, ndim);
  mx_error_set(err, argument, "pad_width");
  return MX_ERR_VALUE;
}

/* small + pads = large, per dimension, both ways. */
static mx_status pad_shapes(const pad_params *p, mx_shape *small, mx_shape *large, const char *small_name,
                            const char *large_name, mx_error *err) {
  mx_shape unknown = {.ndim = p->pad_width.n / 2};
  for (int i = 0; i < unknown.ndim; i++) unknown.dim[i] = MX_DIM_UNKNOWN;
  if (small->ndim >= 0) MX_TRY(pad_ndim(p, small->ndim, err));
  MX_TRY(mx_shape_merge(small, &unknown, small_name, err));
  MX_TRY(mx_shape_merge(large, &unknown, large_name, err));
  mx_shape up = unknown, down = unknown;
  for (int i = 0; i < unknown.ndim; i++) {
    int64_t before = p->pad_width.v[2 * i], after = p->pad_width.v[2 * i + 1], n = small->dim[i];
    const int64_t limit = (int64_t)1 << 60;
    if (before > limit || after > limit || n > limit)
      return mx_fail(err, MX_ERR_SHAPE, "The output would have too many elements.");
    if (n >= 0) up.dim[i] = n + before + after;
    if (large->dim[i] >= before + after) down.dim[i] = large->dim[i] - before - after;
    if (n == 0 && p->mode != PAD_CONSTANT && before + after > 0)
      return mx_fail(err, MX_ERR_SHAPE, "Dimension %d has no elements that could be repeated in the padding.", i);
  }
  MX_TRY(mx_shape_merge(large, &up, large_name, err));
  return mx_shape_merge(small, &down, small_name, err);
}

static mx_status pad_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return pad_shapes(params, &in[0], &out[0], "data", "output", err);
}

/* Where the element at position `i` of the padded dimension comes from. */
static inline int64_t pad_source(int mode, int64_t i, int64_t before, int64_t n) {
  i -= before;
  if (mode == PAD_EDGE) return mx_clamp_index(i, n);
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1);
  if (i < 0) i = -i;            /* the element 0 is a mirror */
  if (i >= period) i %= period; /* far outside: the only place that has to divide */
  return i < n ? i : period - i;
}

/* Rows of the padded array along its last dimension; `row` counts them, leading dimensions first. */
typedef struct pad_rows {
  int mode, ndim;
  int64_t before[MX_MAX_NDIM], small[MX_MAX_NDIM], large[MX_MAX_NDIM];
  int64_t n, m, left; /* of the last dimension: elements of data, of the output, before */
} pad_rows;

static pad_rows pad_geometry(const pad_params *p, const mx_shape *small, const mx_shape *large) {
  pad_rows g = {.mode = p->mode, .ndim = small->ndim};
  for (int i = 0; i < small->ndim; i++)
    g.before[i] = p->pad_width.v[2 * i], g.small[i] = small->dim[i], g.large[i] = large->dim[i];
  int last = g.ndim - 1;
  g.n = g.small[last], g.m = g.large[last], g.left = g.before[last];
  return g;
}

/* The row of data that belongs to a row of the output; -1: none (constant padding). */
static int64_t pad_row(const pad_rows *g, int64_t row) {
  int64_t from = 0, stride = 1;
  for (int i = g->ndim - 2; i >= 0; i--) {
    int64_t at = row % g->large[i];
    row /= g->large[i];
    if (g->mode == PAD_CONSTANT) {
      at -= g->before[i];
      if (at < 0 || at >= g->small[i]) return -1;
    } else {
      at = pad_source(g->mode, at, g->before[i], g->small[i]);
    }
    from += at * stride;
    stride *= g->small[i];
  }
  return from;
}

#define PAD_ROW(bits)                                                                         \
  static void pad_row_##bits(const pad_rows *g, const void *src, void *dst, uint64_t value) { \
    const uint##bits##_t *s = src;                                                            \
    uint##bits##_t *d = dst, v = (uint##bits##_t)value;                                       \
    int64_t n = s ? g->n : 0, left = s ? g->left : g->m;                                      \
    if (n) memcpy(d + left, s, (size_t)n * sizeof(*d));                                       \
    if (g->mode == PAD_CONSTANT) {                                                            \
      for (int64_t i = 0; i < left; i++) d[i] = v;                                            \
      for (int64_t i = left + n; i < g->m; i++) d[i] = v;                                     \
    } else {                                                                                  \
      for (int64_t i = 0; i < left; i++) d[i] = s[pad_source(g->mode, i, left, n)];           \
      for (int64_t i = left + n; i < g->m; i++) d[i] = s[pad_source(g->mode, i, left, n)];    \
    }                                                                                         \
  }
PAD_ROW(8)
PAD_ROW(16)
PAD_ROW(32)
PAD_ROW(64)

static mx_status pad_kernel(const mx_call *c, mx_error *err) {
  const pad_params *p = c->params;
  size_t es = mx_dtype_size(c->out[0].dtype);
  uint64_t value = 0;
  int64_t size = mx_shape_size(&c->out[0].shape);
  if (c->req[0] == MX_NULL || size == 0) return MX_OK;
  if (c->out[0].shape.ndim == 0) return mx_view_kernel(c, err);
  pad_rows g = pad_geometry(p, &c->in[0].shape, &c->out[0].shape);
  int64_t rows = size / g.m;
  mx_convert(&p->constant_value, MX_FLOAT64, &value, c->out[0].dtype, 1);
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
  for (int64_t r = 0; r < rows; r++) {
    int64_t from = pad_row(&g, r);
    const char *src = from < 0 ? NULL : (const char *)c->in[0].data + (size_t)(from * g.n) * es;
    char *dst = (char *)c->out[0].data + (size_t)(r * g.m) * es;
    switch (es) {
      case 1:
        pad_row_8(&g, src, dst, value);
        break;
      case 2:
        pad_row_16(&g, src, dst, value);
        break;
      case 4:
        pad_row_32(&g, src, dst, value);
        break;
      default:
        pad_row_64(&g, src, dst, value);
        break;
    }
  }
  return MX_OK;
}

static mx_status pad_gradient(mx_grad *g, mx_error *err) {
  const pad_params *p = g->params;
  mx_entry head;
  if (!g->wanted[0] || mx_shape_size(&g->in_shape[0]) == 0) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  if (p->mode != PAD_CONSTANT) return mx_grad_backward(g, "_backward_Pad", &head, 1, &g->in_grad[0], err);
  int64_t begin[MX_MAX_NDIM], end[MX_MAX_NDIM];
  char b[MX_SHAPE_TEXT], e[MX_SHAPE_TEXT];
  int ndim = g->in_shape[0].ndim;
  for (int i = 0; i < ndim; i++) begin[i] = p->pad_width.v[2 * i], end[i] = begin[i] + g->in_shape[0].dim[i];
  return mx_grad_call(
      g, "slice",
      (const char *const[]){"begin", mx_tuple_text(begin, ndim, b), "end", mx_tuple_text(end, ndim, e), NULL}, &head, 1,
      &g->in_grad[0], err);
}

/* ---- backward of edge and reflect: every element sums up the places it was copied to ---- */

static mx_status pad_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return pad_shapes(params, &out[0], &in[0], "gradient of data", "gradient of the output", err);
}

/* Adds a row of the head gradient to the row of data it came from. */
#define PAD_ADD(T)                                                                                    \
  static void pad_add_##T(const pad_rows *g, const T *s, T *d) {                                      \
    for (int64_t i = 0; i < g->left; i++) d[pad_source(g->mode, i, g->left, g->n)] += s[i];           \
    _Pragma("omp simd") for (int64_t i = 0; i < g->n; i++) d[i] += s[g->left + i];                    \
    for (int64_t i = g->left + g->n; i < g->m; i++) d[pad_source(g->mode, i, g->left, g->n)] += s[i]; \
  }
PAD_ADD(float)
PAD_ADD(double)
PAD_ADD(mx_half)

/* Leading dimensions without padding are independent of each other: threads share them. Within one, rows come in order.
 */
static mx_status pad_back_kernel(const mx_call *c, mx_error *err) {
  int64_t size = mx_shape_size(&c->out[0].shape);
  size_t es = mx_dtype_size(c->out[0].dtype);
  if (c->req[0] == MX_NULL || size == 0) return MX_OK;
  if (c->out[0].shape.ndim == 0) return mx_view_kernel(c, err);
  pad_rows g = pad_geometry(c->params, &c->out[0].shape, &c->in[0].shape);
  MX_TRY(mx_zero_output(c, 0, err));
  int64_t rows = mx_shape_size(&c->in[0].shape) / g.m, groups = 1;
  for (int i = 0; i < g.ndim - 1 && g.small[i] == g.large[i]; i++) groups *= g.small[i];
  int64_t each = rows / groups;
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
  for (int64_t group = 0; group < groups; group++) {
    for (int64_t r = group * each; r < (group + 1) * each; r++) {
      const char *src = (const char *)c->in[0].data + (size_t)(r * g.m) * es;
      char *dst = (char *)c->out[0].data + (size_t)(pad_row(&g, r) * g.n) * es;
      switch (c->out[0].dtype) {
        case MX_FLOAT32:
          pad_add_float(&g, (const float *)src, (float *)dst);
          break;
        case MX_FLOAT64:
          pad_add_double(&g, (const double *)src, (double *)dst);
          break;
        default:
          pad_add_mx_half(&g, (const mx_half *)src, (mx_half *)dst);
          break;
      }
    }
  }
  return MX_OK;
}

/* ---- diag ---- */

typedef struct diag_params {
  int64_t k, axis1, axis2;
  mx_shape shape; /* of the backward operator: what the diagonal was taken from */
} diag_params;

#define DIAG_ROWS                                                                                              \
  MX_P_INT(diag_params, k, "0", MX_ANY, "Which diagonal: 0 the main one, positive above, negative below it."), \
      MX_P_INT(diag_params, axis1, "0", MX_ANY,                                                                \
               "First dimension of the matrices, when data has two or more dimensions."),                      \
      MX_P_INT(diag_params, axis2, "1", MX_ANY,                                                                \
               "Second dimension of the matrices, when data has two or more dimensions.")

static const mx_param diag_table[] = {DIAG_ROWS, MX_P_END};
static const mx_param diag_back_table[] = {
    DIAG_ROWS, MX_P_TUPLE(diag_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

/* A diagonal of the matrices in an array: `s` walks the other dimensions, then the diagonal, as the result has them.
 * `step` is the distance of its elements in the array, `offset` where it begins; count is -1 when it is not known yet.
 */
typedef struct diagonal {
  int axis1, axis2;
  int64_t count, offset, step;
} diagonal;

static mx_status find_diagonal(const diag_params *p, const mx_shape *in, diagonal *d, mx_error *err) {
  MX_TRY(mx_axis_param(p->axis1, in->ndim, "axis1", &d->axis1, err));
  MX_TRY(mx_axis_param(p->axis2, in->ndim, "axis2", &d->axis2, err));
  if (d->axis1 == d->axis2) return mx_fail(err, MX_ERR_VALUE, "axis1 and axis2 must be two different dimensions.");
  int64_t rows = in->dim[d->axis1], cols = in->dim[d->axis2];
  d->count = MX_DIM_UNKNOWN;
  d->offset = d->step = 0;
  if (rows < 0 || cols < 0) return MX_OK;
  int64_t row = p->k < 0 ? (p->k < -rows ? rows : -p->k) : 0, col = p->k > 0 ? (p->k > cols ? cols : p->k) : 0;
  d->count = rows - row < cols - col ? rows - row : cols - col;
  if (d->count <= 0 || !mx_shape_known(in) || mx_shape_size(in) == INT64_MAX) return MX_OK; /* too large to exist */
  int64_t stride[MX_MAX_NDIM];
  mx_shape_strides(in, stride);
  d->offset = row * stride[d->axis1] + col * stride[d->axis2];
  d->step = stride[d->axis1] + stride[d->axis2];
  return MX_OK;
}

static mx_shape diagonal_shape(const mx_shape *in, const diagonal *d) {
  mx_shape s = {.ndim = 0};
  for (int i = 0; i < in->ndim; i++)
    if (i != d->axis1 && i != d->axis2) s.dim[s.ndim++] = in->dim[i];
  s.dim[s.ndim++] = d->count;
  return s;
}

static mx_status diag_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const diag_params *p = params;
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim == 1) {
    const int64_t limit = (int64_t)1 << 31;
    if (p->k > limit || p->k < -limit || in[0].dim[0] > limit)
      return mx_fail(err, MX_ERR_SHAPE, "The output would have too many elements.");
    int64_t n = in[0].dim[0] < 0 ? MX_DIM_UNKNOWN : in[0].dim[0] + (p->k < 0 ? -p->k : p->k);
    mx_shape want = mx_shape_of(n, n);
    return mx_shape_merge(&out[0], &want, "output", err);
  }
  diagonal d;
  MX_TRY(find_diagonal(p, &in[0], &d, err));
  mx_shape want = diagonal_shape(&in[0], &d);
  return mx_shape_merge(&out[0], &want, "output", err);
}

/* Copies between the diagonals of `matrix` and the packed array of them. */
static mx_status diagonal_copy(const diag_params *p, const mx_shape *matrix, size_t element, void *array,
                               const void *packed, void *packed_out, mx_error *err) {
  diagonal d;
  int64_t stride[MX_MAX_NDIM], run = 1;
  MX_TRY(find_diagonal(p, matrix, &d, err));
  mx_shape small = diagonal_shape(matrix, &d);
  mx_shape_strides(matrix, stride);
  mx_strided s = {.ndim = small.ndim};
  for (int i = small.ndim - 1, k = matrix->ndim - 1; i >= 0; i--) {
    int64_t far = d.step;
    if (i < small.ndim - 1) {
      while (k == d.axis1 || k == d.axis2) k--;
      far = stride[k--];
    }
    s.dim[i] = small.dim[i];
    s.src[i] = packed_out ? far : run;
    s.dst[i] = packed_out ? run : far;
    run *= small.dim[i];
  }
  char *at = (char *)array + d.offset * (int64_t)element;
  mx_strided_copy(&s, element, packed_out ? at : packed, packed_out ? packed_out : at);
  return MX_OK;
}

static mx_status diag_kernel(const mx_call *c, mx_error *err) {
  const diag_params *p = c->params;
  size_t element = mx_dtype_size(c->out[0].dtype);
  if (c->req[0] == MX_NULL) return MX_OK;
  if (c->in[0].shape.ndim != 1)
    return diagonal_copy(p, &c->in[0].shape, element, c->in[0].data, NULL, c->out[0].data, err);
  diag_params matrix = {.k = p->k, .axis1 = 0, .axis2 = 1};
  MX_TRY(mx_zero_output(c, 0, err));
  return diagonal_copy(&matrix, &c->out[0].shape, element, c->out[0].data, c->in[0].data, NULL, err);
}

static mx_status diag_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const diag_params *p = params;
  diagonal d;
  MX_TRY(find_diagonal(p, &p->shape, &d, err));
  mx_shape small = diagonal_shape(&p->shape, &d);
  MX_TRY(mx_shape_merge(&in[0], &small, "gradient", err));
  return mx_shape_merge(&out[0], &p->shape, "output", err);
}

static mx_status diag_back_kernel(const mx_call *c, mx_error *err) {
  size_t element = mx_dtype_size(c->out[0].dtype);
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(mx_zero_output(c, 0, err));
  return diagonal_copy(c->params, &c->out[0].shape, element, c->out[0].data, c->in[0].data, NULL, err);
}

static mx_status diag_gradient(mx_grad *g, mx_error *err) {
  const diag_params *p = g->params;
  char k[MX_INT_TEXT], a[MX_INT_TEXT], b[MX_INT_TEXT], shape[MX_SHAPE_TEXT];
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  mx_int_text(p->k, k);
  mx_int_text(p->axis1, a);
  mx_int_text(p->axis2, b);
  if (g->in_shape[0].ndim == 1)
    return mx_grad_call(g, "diag", (const char *const[]){"k", k, NULL}, &head, 1, &g->in_grad[0], err);
  mx_tuple_text(g->in_shape[0].dim, g->in_shape[0].ndim, shape);
  return mx_grad_call(g, "_backward_diag", (const char *const[]){"k", k, "axis1", a, "axis2", b, "shape", shape, NULL},
                      &head, 1, &g->in_grad[0], err);
}
#define FAMILY .family = "Shape manipulation", .n_in = 1, .n_out = 1

const mx_op mx_ops_pad[] = {
    {.name = "Pad",
     .aliases = MX_STRINGS("pad"),
     FAMILY,
     .doc = "Makes an array larger at its borders. Dimension i gets pad_width[2 i] elements before and pad_width[2 i + "
            "1] after.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = pad_table,
     .params_size = sizeof(pad_params),
     .check = pad_check,
     .infer_shape = pad_infer,
     .gradient = pad_gradient,
     .kernel = pad_kernel},
    {.name = "_backward_Pad",
     FAMILY,
     .params = pad_table,
     .params_size = sizeof(pad_params),
     .check = pad_check,
     .infer_shape = pad_back_infer,
     .flags = MX_OP_HIDDEN,
     .kernel = pad_back_kernel},
    {.name = "diag",
     FAMILY,
     .doc = "Of a vector: the matrix that has it on diagonal k and zeros elsewhere. Of an array with two or more "
            "dimensions: the "
            "diagonals of its matrices over axis1 and axis2, as the last dimension of the output.",
     .in_doc = MX_STRINGS("Array with at least one dimension."),
     .params = diag_table,
     .params_size = sizeof(diag_params),
     .infer_shape = diag_infer,
     .gradient = diag_gradient,
     .kernel = diag_kernel},
    {.name = "_backward_diag",
     FAMILY,
     .params = diag_back_table,
     .params_size = sizeof(diag_params),
     .infer_shape = diag_back_infer,
     .flags = MX_OP_HIDDEN,
     .kernel = diag_back_kernel},
    {0}};
