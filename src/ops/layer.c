/* What the layers share: dtype rules, the wiring of backward operators, matrix products and sums over rows. */
#include "ops/layer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

mx_status mx_layer_infer_float(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype found = MX_DTYPE_UNKNOWN;
  for (int i = 0; i < n_in + n_out; i++) {
    mx_dtype t = i < n_in ? in[i] : out[i - n_in];
    if (t == MX_DTYPE_UNKNOWN) continue;
    if (!mx_dtype_is_float(t)) {
      mx_status st = mx_fail(err, MX_ERR_TYPE, "It computes on floating-point arrays, but %s %d is %s.",
                             i < n_in ? "input" : "output", i < n_in ? i : i - n_in, mx_dtype_name(t));
      mx_error_set(err, expected, "float32, float64 or float16");
      mx_error_set(err, actual, "%s", mx_dtype_name(t));
      return st;
    }
    if (found == MX_DTYPE_UNKNOWN) found = t;
    if (t != found) {
      mx_status st = mx_fail(err, MX_ERR_TYPE, "All arrays must have one dtype, but %s and %s were given.",
                             mx_dtype_name(found), mx_dtype_name(t));
      mx_error_set(err, expected, "%s", mx_dtype_name(found));
      mx_error_set(err, actual, "%s", mx_dtype_name(t));
      return st;
    }
  }
  for (int i = 0; i < n_in; i++) in[i] = found;
  for (int i = 0; i < n_out; i++) out[i] = found;
  return MX_OK;
}

mx_status mx_layer_fail(mx_error *err, mx_status code, const char *argument, const char *fmt, ...) {
  char text[sizeof(err->message)];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  mx_fail(err, code, "%s", text);
  mx_error_set(err, argument, "%s", argument);
  return code;
}

mx_status mx_layer_unify(mx_shape *a, mx_shape *b, const char *what, mx_error *err) {
  MX_TRY(mx_shape_merge(a, b, what, err));
  return mx_shape_merge(b, a, what, err);
}

mx_status mx_layer_set_dim(mx_shape *s, int axis, int64_t dim, const char *what, mx_error *err) {
  if (dim == MX_DIM_UNKNOWN || s->dim[axis] == dim) return MX_OK;
  if (s->dim[axis] == MX_DIM_UNKNOWN) {
    s->dim[axis] = dim;
    return MX_OK;
  }
  mx_shape expected = *s;
  expected.dim[axis] = dim;
  return mx_shape_merge(s, &expected, what, err);
}

mx_status mx_layer_known_prod(const mx_shape *s, int from, int to, int64_t *out, mx_error *err) {
  mx_shape part = mx_shape_make(to - from, s->dim + from);
  *out = MX_DIM_UNKNOWN;
  if (!mx_shape_known(&part)) return MX_OK;
  MX_TRY(mx_shape_check_size(&part, 1, err));
  *out = mx_shape_size(&part);
  return MX_OK;
}

mx_status mx_layer_backward(mx_grad *g, const char *op, const mx_entry *in, int n_in, int n_out, mx_error *err) {
  mx_entry e;
  MX_TRY(mx_grad_backward(g, op, in, n_in, &e, err));
  for (int i = 0; i < n_out && i < g->n_in; i++)
    if (g->wanted[i]) g->in_grad[i] = (mx_entry){e.node, i};
  return MX_OK;
}

mx_status mx_layer_gemm(const mx_call *call, mx_dtype dtype, bool trans_a, bool trans_b, int64_t m, int64_t n,
                        int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                        int64_t ldc, mx_error *err) {
  mx_gemm g = {.trans_a = trans_a,
               .trans_b = trans_b,
               .m = m,
               .n = n,
               .k = k,
               .alpha = 1,
               .beta = beta,
               .a = a,
               .b = b,
               .c = c,
               .lda = lda,
               .ldb = ldb,
               .ldc = ldc,
               .dtype = dtype};
  return call->device->ops->gemm(call->device, &g, err);
}

/* ---- states ---- */

void mx_layer_release(void *state) {
  if (state) ((mx_layer_state *)state)->release(state);
}

enum { HALF_ARRAYS = 4 };

typedef struct half_state {
  mx_layer_state base;
  mx_call inner; /* on float copies */
  mx_tensor in[HALF_ARRAYS], out[HALF_ARRAYS];
  size_t copies; /* bytes of the copies at the front of the workspace */
} half_state;

static void half_release(void *state) {
  half_state *h = state;
  mx_layer_release(h->inner.state);
  mx_free(h);
}

mx_status mx_layer_half_prepare(mx_call *c, mx_status (*prepare)(mx_call *c, mx_error *err), mx_error *err) {
  half_state *h = mx_calloc(1, sizeof(*h));
  if (!h) return mx_fail_memory(err, sizeof(*h));
  h->base.release = half_release;
  h->inner = *c;
  h->inner.in = h->in, h->inner.out = h->out;
  for (int i = 0; i < c->n_in + c->n_out; i++) {
    mx_tensor *t = i < c->n_in ? &h->in[i] : &h->out[i - c->n_in];
    *t = i < c->n_in ? c->in[i] : c->out[i - c->n_in];
    t->dtype = MX_FLOAT32;
    h->copies += mx_align64((size_t)mx_shape_size(&t->shape) * sizeof(float));
  }
  mx_status st = prepare ? prepare(&h->inner, err) : MX_OK;
  if (st != MX_OK) {
    half_release(h);
    return st;
  }
  c->state = h;
  c->workspace_bytes = h->copies + h->inner.workspace_bytes;
  return MX_OK;
}

mx_status mx_layer_half_run(const mx_call *c, mx_kernel kernel, mx_error *err) {
  half_state *h = c->state;
  char *at = c->workspace;
  h->inner.req = c->req;
  h->inner.is_train = c->is_train;
  h->inner.workspace = at + h->copies;
  for (int i = 0; i < c->n_in + c->n_out; i++) {
    mx_tensor *t = i < c->n_in ? &h->in[i] : &h->out[i - c->n_in];
    const int64_t n = mx_shape_size(&t->shape);
    t->data = at;
    at += mx_align64((size_t)n * sizeof(float));
    if (i < c->n_in || c->req[i - c->n_in] == MX_ADD)
      mx_convert(i < c->n_in ? c->in[i].data : c->out[i - c->n_in].data, MX_FLOAT16, t->data, MX_FLOAT32, n);
  }
  MX_TRY(kernel(&h->inner, err));
  for (int i = 0; i < c->n_out; i++)
    if (c->req[i] != MX_NULL)
      mx_convert(h->out[i].data, MX_FLOAT32, c->out[i].data, MX_FLOAT16, mx_shape_size(&h->out[i].shape));
  return MX_OK;
}

/* ---- sums over rows ---- */

enum { SUM_ROWS = 128, SUM_BLOCKS = 64, SUM_CELLS = 1 << 18 };

/* Blocks of rows: at least SUM_ROWS rows each, at most SUM_BLOCKS, and not more than SUM_CELLS partial sums. */
static int64_t sum_blocks(int64_t rows, int64_t cols) {
  int64_t blocks = rows / SUM_ROWS;
  if (blocks > SUM_BLOCKS) blocks = SUM_BLOCKS;
  if (cols > 0 && blocks > SUM_CELLS / cols) blocks = SUM_CELLS / cols;
  return blocks < 1 ? 1 : blocks;
}

size_t mx_column_sum_bytes(int64_t rows, int64_t cols, mx_dtype dtype) {
  size_t acc = dtype == MX_FLOAT64 ? sizeof(double) : sizeof(float);
  return (size_t)sum_blocks(rows, cols) * (size_t)cols * acc;
}

#define SUM_KERNELS(T, A)                                                                                             \
  MX_CLONES static void sum_rows_##T(const T *in, int64_t rows, int64_t stride, int64_t cols, A *acc) {               \
    for (int64_t j = 0; j < cols; j++) acc[j] = 0;                                                                    \
    for (int64_t i = 0; i < rows; i++) {                                                                              \
      const T *x = in + i * stride;                                                                                   \
      _Pragma("omp simd") for (int64_t j = 0; j < cols; j++) acc[j] += (A)x[j];                                       \
    }                                                                                                                 \
  }                                                                                                                   \
  static void column_sum_##T(const T *in, int64_t rows, int64_t cols, T *out, bool add, A *part) {                    \
    int64_t blocks = sum_blocks(rows, cols), strips = (cols + 255) / 256;                                             \
    _Pragma(                                                                                                          \
        "omp parallel for collapse(2) num_threads(mx_threads_for(rows * cols, MX_GRAIN))") for (int64_t b = 0;        \
                                                                                                b < blocks;           \
                                                                                                b++) for (int64_t s = \
                                                                                                              0;      \
                                                                                                          s < strips; \
                                                                                                          s++) {      \
      int64_t from = rows * b / blocks, to = rows * (b + 1) / blocks, col = s * 256;                                  \
      int64_t width = cols - col < 256 ? cols - col : 256;                                                            \
      sum_rows_##T(in + from * cols + col, to - from, cols, width, part + b * cols + col);                            \
    }                                                                                                                 \
    for (int64_t j = 0; j < cols; j++) {                                                                              \
      A s = 0;                                                                                                        \
      for (int64_t b = 0; b < blocks; b++) s += part[b * cols + j];                                                   \
      out[j] = (T)(add ? (A)out[j] + s : s);                                                                          \
    }                                                                                                                 \
  }
SUM_KERNELS(float, float)
SUM_KERNELS(double, double)
SUM_KERNELS(mx_half, float)

void mx_column_sum(const void *in, int64_t rows, int64_t cols, void *out, mx_dtype dtype, bool add, void *workspace) {
  switch (dtype) {
    case MX_FLOAT32:
      column_sum_float(in, rows, cols, out, add, workspace);
      break;
    case MX_FLOAT64:
      column_sum_double(in, rows, cols, out, add, workspace);
      break;
    default:
      column_sum_mx_half(in, rows, cols, out, add, workspace);
      break;
  }
}
