/* Arrays from nothing: zeros, ones, constants, ranges, the identity matrix; and filling arrays that exist. */
#include <inttypes.h>
#include <math.h>

#include "ops/manipulate.h"

static const char *const all_dtypes[] = {"bool",  "float16", "float32", "float64", "int32",
                                         "int64", "int8",    "uint8",   NULL};
static const char *const number_dtypes[] = {"float16", "float32", "float64", "int32", "int64", "int8", "uint8", NULL};

#define CTX_DOC "Device such as cpu(0); used by calls on arrays, a graph runs where it is bound."
#define SHAPE_DOC "Shape of the output; empty, or a length of 0: as the rest of the graph says."

static int64_t out_size(const mx_call *c) { return mx_shape_size(&c->out[0].shape); }

/* In saved graphs a length of 0 means "to be inferred". */
static mx_status given_shape(const mx_shape *given, mx_shape *out, mx_error *err) {
  mx_shape want = *given;
  if (want.ndim <= 0) return MX_OK;
  for (int i = 0; i < want.ndim; i++)
    if (want.dim[i] <= 0) want.dim[i] = MX_DIM_UNKNOWN;
  return mx_shape_merge(out, &want, "output", err);
}

/* ---- _zeros, _ones, _full ---- */

typedef struct fill_params {
  mx_shape shape;
  char *ctx;
  mx_dtype dtype;
  double value; /* of _full */
} fill_params;

#define FILL_ROWS(initial)                                                   \
  MX_P_TUPLE(fill_params, shape, initial, -1, (double)INT64_MAX, SHAPE_DOC), \
      MX_P_STRING(fill_params, ctx, "", CTX_DOC),                            \
      MX_P_DTYPE(fill_params, dtype, "float32", all_dtypes, "Element type of the output.")

static const mx_param fill_table[] = {FILL_ROWS("()"), MX_P_END};
static const mx_param full_table[] = {
    FILL_ROWS("None"), MX_P_FLOAT(fill_params, value, NULL, MX_ANY, "Value of every element."), MX_P_END};

static mx_status fill_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return given_shape(&((const fill_params *)params)->shape, &out[0], err);
}
static mx_status fill_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const fill_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}

static mx_status zeros_kernel(const mx_call *c, mx_error *err) {
  return c->req[0] == MX_NULL ? MX_OK : mx_zero_output(c, 0, err);
}
static mx_status ones_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL) mx_fill(c->out[0].data, c->out[0].dtype, out_size(c), 1);
  return MX_OK;
}
static mx_status full_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    mx_fill(c->out[0].data, c->out[0].dtype, out_size(c), ((const fill_params *)c->params)->value);
  return MX_OK;
}

/* Zeros of exactly the shape given, which may have no elements: gradients need them. */
static mx_status exact_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const fill_params *)params)->shape, "output", err);
}

typedef struct typeless_params {
  mx_shape shape;
  char *ctx;
  int64_t dtype;
} typeless_params;

static const mx_param typeless_table[] = {
    MX_P_TUPLE(typeless_params, shape, "None", -1, (double)INT64_MAX, SHAPE_DOC),
    MX_P_STRING(typeless_params, ctx, "", CTX_DOC),
    MX_P_INT(typeless_params, dtype, "-1", -1, MX_DTYPE_COUNT - 1,
             "Number of the element type; -1: as the rest of the graph says, float32 when it says nothing."),
    MX_P_END};

static mx_status typeless_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return given_shape(&((const typeless_params *)params)->shape, &out[0], err);
}
static mx_status typeless_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = (mx_dtype)((const typeless_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}

/* ---- ranges ---- */

/* first, first + step, ... with each number `repeat` times, in the element type of the output. */
static void write_range(const mx_tensor *out, double first, double step, int64_t repeat) {
  enum { BLOCK = 2048 };
  double block[BLOCK];
  int64_t n = mx_shape_size(&out->shape), k = 0, used = 0;
  for (int64_t at = 0; at < n; at += BLOCK) {
    int64_t len = n - at < BLOCK ? n - at : BLOCK;
    for (int64_t i = 0; i < len; i++) {
      block[i] = first + step * (double)k;
      if (++used == repeat) k++, used = 0;
    }
    mx_convert(block, MX_FLOAT64, (char *)out->data + (size_t)at * mx_dtype_size(out->dtype), out->dtype, len);
  }
}

typedef struct range_params {
  double start;
  mx_opt_float stop;
  double step;
  int64_t repeat;
  bool infer_range;
  char *ctx;
  mx_dtype dtype;
} range_params;

static const mx_param range_table[] = {
    MX_P_FLOAT(range_params, start, NULL, MX_ANY, "First number; without stop, the end of a range that begins at 0."),
    MX_P_OPT_FLOAT(range_params, stop, "None", MX_ANY, "End of the range, exclusive."),
    MX_P_FLOAT(range_params, step, "1", MX_ANY, "Distance of neighbours, not 0."),
    MX_P_INT(range_params, repeat, "1", 1, INT32_MAX, "How often each number is repeated."),
    MX_P_BOOL(range_params, infer_range, "False", "Take the length from the rest of the graph instead of stop."),
    MX_P_STRING(range_params, ctx, "", CTX_DOC),
    MX_P_DTYPE(range_params, dtype, "float32", number_dtypes, "Element type of the output."),
    MX_P_END};

static void range_ends(const range_params *p, double *first, double *end) {
  *first = p->stop.given || p->infer_range ? p->start : 0;
  *end = p->stop.given ? p->stop.value : p->start;
}

static mx_status range_check(void *params, mx_error *err) {
  const range_params *p = params;
  double first, end;
  range_ends(p, &first, &end);
  if (!isfinite(first) || !isfinite(end) || !isfinite(p->step))
    return mx_fail(err, MX_ERR_VALUE, "start, stop and step must be finite.");
  if (p->step == 0) return mx_fail(err, MX_ERR_VALUE, "step must not be 0.");
  return MX_OK;
}

static mx_status range_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const range_params *p = params;
  double first, end;
  mx_shape want = mx_shape_of(MX_DIM_UNKNOWN);
  range_ends(p, &first, &end);
  double count = ceil((end - first) / p->step) * (double)p->repeat;
  if (!p->infer_range && !(count < 0x1p53))
    return mx_fail(err, MX_ERR_VALUE, "The range from start to stop by step has too many elements.");
  if (!p->infer_range) want.dim[0] = count > 0 ? (int64_t)count : 0;
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status range_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const range_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status range_kernel(const mx_call *c, mx_error *err) {
  const range_params *p = c->params;
  double first, end;
  range_ends(p, &first, &end);
  if (c->req[0] != MX_NULL) write_range(&c->out[0], first, p->step, p->repeat);
  return MX_OK;
}

typedef struct linspace_params {
  double start, stop;
  int64_t num;
  bool endpoint;
  char *ctx;
  mx_dtype dtype;
} linspace_params;

static const mx_param linspace_table[] = {
    MX_P_FLOAT(linspace_params, start, NULL, MX_ANY, "First number."),
    MX_P_FLOAT(linspace_params, stop, NULL, MX_ANY, "Last number; with endpoint = False, the end that is not reached."),
    MX_P_INT(linspace_params, num, NULL, 0, (double)INT64_MAX, "How many numbers."),
    MX_P_BOOL(linspace_params, endpoint, "True", "The last number is stop."),
    MX_P_STRING(linspace_params, ctx, "", CTX_DOC),
    MX_P_DTYPE(linspace_params, dtype, "float32", number_dtypes, "Element type of the output."),
    MX_P_END};

static mx_status linspace_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want = mx_shape_of(((const linspace_params *)params)->num);
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status linspace_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const linspace_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status linspace_kernel(const mx_call *c, mx_error *err) {
  const linspace_params *p = c->params;
  int64_t gaps = p->endpoint ? p->num - 1 : p->num;
  if (c->req[0] == MX_NULL || p->num == 0) return MX_OK;
  write_range(&c->out[0], p->start, gaps > 0 ? (p->stop - p->start) / (double)gaps : 0, 1);
  if (p->endpoint && p->num > 1) { /* without the rounding of the sum */
    size_t element = mx_dtype_size(c->out[0].dtype);
    mx_convert(&p->stop, MX_FLOAT64, (char *)c->out[0].data + (size_t)(p->num - 1) * element, c->out[0].dtype, 1);
  }
  return MX_OK;
}

/* ---- _eye ---- */

typedef struct eye_params {
  int64_t N, M, k;
  char *ctx;
  mx_dtype dtype;
} eye_params;

static const mx_param eye_table[] = {
    MX_P_INT(eye_params, N, NULL, 0, (double)INT64_MAX, "Number of rows."),
    MX_P_INT(eye_params, M, "0", 0, (double)INT64_MAX, "Number of columns; 0: as many as rows."),
    MX_P_INT(eye_params, k, "0", MX_ANY, "Which diagonal: 0 the main one, positive above, negative below it."),
    MX_P_STRING(eye_params, ctx, "", CTX_DOC),
    MX_P_DTYPE(eye_params, dtype, "float32", number_dtypes, "Element type of the output."),
    MX_P_END};

static mx_status eye_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const eye_params *p = params;
  mx_shape want = mx_shape_of(p->N, p->M > 0 ? p->M : p->N);
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status eye_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const eye_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status eye_kernel(const mx_call *c, mx_error *err) {
  int64_t n = c->out[0].shape.dim[0], m = c->out[0].shape.dim[1], k = ((const eye_params *)c->params)->k;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(mx_zero_output(c, 0, err));
  if (k >= m || k <= -n) return MX_OK;
  int64_t row = k < 0 ? -k : 0, col = k > 0 ? k : 0, count = n - row < m - col ? n - row : m - col;
  size_t element = mx_dtype_size(c->out[0].dtype);
  uint64_t one = 0;
  mx_fill(&one, c->out[0].dtype, 1, 1);
  mx_strided s = {.ndim = 1, .dim = {count}, .src = {0}, .dst = {m + 1}};
  mx_strided_copy(&s, element, &one, (char *)c->out[0].data + (size_t)(row * m + col) * element);
  return MX_OK;
}

/* ---- filling what exists ---- */

typedef struct value_params {
  double src;
} value_params;

static const mx_param value_table[] = {MX_P_FLOAT(value_params, src, "0", MX_ANY, "The number that is written."),
                                       MX_P_END};

static mx_status open_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return MX_OK;
}
static mx_status open_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return MX_OK;
}
static mx_status value_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL)
    mx_fill(c->out[0].data, c->out[0].dtype, out_size(c), ((const value_params *)c->params)->src);
  return MX_OK;
}

typedef struct reset_params {
  int64_t num_arrays;
} reset_params;

static const mx_param reset_table[] = {MX_P_INT(reset_params, num_arrays, NULL, 1, 65536, "Number of arrays."),
                                       MX_P_END};

static int reset_count(const void *params) { return (int)((const reset_params *)params)->num_arrays; }
static mx_status reset_kernel(const mx_call *c, mx_error *err) {
  for (int i = 0; i < c->n_in; i++) {
    size_t bytes = (size_t)mx_shape_size(&c->in[i].shape) * mx_dtype_size(c->in[i].dtype);
    if (bytes > 0) MX_TRY(c->device->ops->zero(c->device, c->in[i].data, bytes, err));
  }
  return MX_OK;
}

#define FAMILY .family = "Casts and creation", .n_out = 1

const mx_op mx_ops_create[] = {
    {.name = "_zeros",
     FAMILY,
     .doc = "An array of zeros.",
     .params = fill_table,
     .params_size = sizeof(fill_params),
     .infer_shape = fill_infer,
     .infer_dtype = fill_dtype,
     .flags = MX_OP_PORTABLE,
     .kernel = zeros_kernel},
    {.name = "_ones",
     FAMILY,
     .doc = "An array of ones.",
     .params = fill_table,
     .params_size = sizeof(fill_params),
     .infer_shape = fill_infer,
     .infer_dtype = fill_dtype,
     .kernel = ones_kernel},
    {.name = "_full",
     FAMILY,
     .doc = "An array of one value.",
     .params = full_table,
     .params_size = sizeof(fill_params),
     .infer_shape = fill_infer,
     .infer_dtype = fill_dtype,
     .kernel = full_kernel},
    {.name = "_zeros_without_dtype",
     FAMILY,
     .doc = "An array of zeros whose element type may be left to the rest of the graph.",
     .params = typeless_table,
     .params_size = sizeof(typeless_params),
     .infer_shape = typeless_infer,
     .infer_dtype = typeless_dtype,
     .flags = MX_OP_PORTABLE,
     .kernel = zeros_kernel},
    {.name = "_backward_zeros",
     FAMILY,
     .params = fill_table,
     .params_size = sizeof(fill_params),
     .infer_shape = exact_infer,
     .infer_dtype = fill_dtype,
     .flags = MX_OP_HIDDEN | MX_OP_PORTABLE,
     .kernel = zeros_kernel},
    {.name = "_NoGradient",
     FAMILY,
     .doc = "Stands in graphs for a gradient that does not exist: zeros of the shape that is needed.",
     .infer_shape = open_infer,
     .infer_dtype = open_dtype,
     .flags = MX_OP_PORTABLE,
     .kernel = zeros_kernel},
    {.name = "_arange",
     FAMILY,
     .doc = "The numbers start, start + step, ... below stop (above it when step is negative), each repeat times.",
     .params = range_table,
     .params_size = sizeof(range_params),
     .check = range_check,
     .infer_shape = range_infer,
     .infer_dtype = range_dtype,
     .kernel = range_kernel},
    {.name = "_linspace",
     FAMILY,
     .doc = "num numbers at equal distances from start to stop.",
     .params = linspace_table,
     .params_size = sizeof(linspace_params),
     .infer_shape = linspace_infer,
     .infer_dtype = linspace_dtype,
     .kernel = linspace_kernel},
    {.name = "_eye",
     FAMILY,
     .doc = "A matrix of shape (N, M) with ones on a diagonal and zeros elsewhere.",
     .params = eye_table,
     .params_size = sizeof(eye_params),
     .infer_shape = eye_infer,
     .infer_dtype = eye_dtype,
     .kernel = eye_kernel},
    {.name = "_set_value",
     FAMILY,
     .doc = "Writes one number to every element of the output, which must be given.",
     .params = value_table,
     .params_size = sizeof(value_params),
     .infer_shape = open_infer,
     .infer_dtype = open_dtype,
     .flags = MX_OP_IMPERATIVE,
     .kernel = value_kernel},
    {.name = "reset_arrays",
     .family = "Casts and creation",
     .doc = "Writes zeros to all arrays given.",
     .in_doc = MX_STRINGS("Arrays of any shape and dtype; they are changed."),
     .params = reset_table,
     .params_size = sizeof(reset_params),
     .num_args = "num_arrays",
     .count_in = reset_count,
     .mutates = ~(uint32_t)0,
     .infer_shape = open_infer,
     .infer_dtype = open_dtype,
     .flags = MX_OP_IMPERATIVE | MX_OP_PORTABLE,
     .kernel = reset_kernel},
    {0}};
