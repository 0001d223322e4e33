/* The product of matrices column by column: khatri_rao. */
#include <stdio.h>
#include <string.h>

#include "ops/linalg.h"

typedef struct khatri_params {
  int64_t num_args;
} khatri_params;
static const mx_param khatri_table[] = {MX_P_INT(khatri_params, num_args, "1", 1, 1 << 16, "Number of matrices."),
                                        MX_P_END};
static int khatri_count(const void *params) { return (int)((const khatri_params *)params)->num_args; }

static mx_status khatri_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want = mx_shape_of(1, MX_DIM_UNKNOWN);
  for (int i = 0; i < n_in; i++) {
    mx_shape matrix = mx_shape_of(MX_DIM_UNKNOWN, want.dim[1]);
    MX_TRY(mx_shape_merge(&in[i], &matrix, "a matrix", err));
    want.dim[1] = in[i].dim[1];
    if (want.dim[0] < 0 || in[i].dim[0] < 0) {
      want.dim[0] = MX_DIM_UNKNOWN;
    } else {
      mx_shape product = mx_shape_of(want.dim[0], in[i].dim[0]);
      MX_TRY(mx_shape_check_size(&product, sizeof(double), err));
      want.dim[0] *= in[i].dim[0];
    }
  }
  return mx_shape_merge(&out[0], &want, "output", err);
}
MX_CLONES static void multiply_row(const void *x_, void *y_, int64_t n, mx_dtype dtype) {
  MX_SWITCH_ALL(dtype, return, {
    const T *x = x_;
    T *y = y_;
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] = (T)(x[j] * y[j]);
  })
}
/* Row (i, j, ...) of the output is the elementwise product of rows i, j, ... of the inputs. */
static mx_status khatri_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  int64_t rows = c->out[0].shape.dim[0], cols = c->out[0].shape.dim[1];
  size_t bytes = (size_t)cols * mx_dtype_size(c->out[0].dtype);
#pragma omp parallel for num_threads(mx_threads_for(rows *cols * c->n_in, MX_GRAIN))
  for (int64_t r = 0; r < rows; r++) {
    char *y = (char *)c->out[0].data + (size_t)r * bytes;
    int64_t rest = r;
    for (int k = c->n_in - 1; k >= 0; k--) {
      int64_t n = c->in[k].shape.dim[0];
      const char *x = (const char *)c->in[k].data + (size_t)(rest % n) * bytes;
      rest /= n;
      if (k == c->n_in - 1)
        memcpy(y, x, bytes);
      else
        multiply_row(x, y, cols, c->out[0].dtype);
    }
  }
  return MX_OK;
}

/* `e` times the products of rows of the inputs [from, to), which are dimension `axis` of four. */
static mx_status khatri_times(mx_grad *g, int from, int to, int axis, mx_entry *e, mx_error *err) {
  mx_entry rows = g->in[from], pair[2] = {*e};
  mx_shape shape = mx_shape_of(1, 1, 1, g->in_shape[0].dim[1]);
  char text[MX_SHAPE_TEXT];
  for (int i = from; i < to; i++) shape.dim[axis] *= g->in_shape[i].dim[0];
  if (to - from > 1) {
    snprintf(text, sizeof(text), "%d", to - from);
    MX_TRY(mx_grad_call(g, "khatri_rao", (const char *const[]){"num_args", text, NULL}, g->in + from, to - from, &rows,
                        err));
  }
  MX_TRY(MX_LINALG_CALL(g, "Reshape", &pair[1], err,
                        ((const char *const[]){"shape", mx_shape_text(&shape, text), NULL}), rows));
  return mx_grad_call(g, "broadcast_mul", NULL, pair, 2, e, err);
}
/* A row of an input is in as many rows of the output as the other inputs have together: their products times the head,
 * summed over the inputs before and after it. */
static mx_status khatri_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node || mx_shape_size(&g->out_shape[0]) == 0) return MX_OK;
  int64_t rows = g->out_shape[0].dim[0], before = 1;
  for (int k = 0; k < g->n_in; k++) {
    int64_t n = g->in_shape[k].dim[0];
    mx_shape parts = mx_shape_of(before, n, rows / before / n, g->out_shape[0].dim[1]);
    char text[MX_SHAPE_TEXT];
    before *= n;
    if (!g->wanted[k]) continue;
    mx_entry head;
    MX_TRY(MX_LINALG_CALL(g, "Reshape", &head, err, ((const char *const[]){"shape", mx_shape_text(&parts, text), NULL}),
                          g->out_grad[0]));
    if (k > 0) MX_TRY(khatri_times(g, 0, k, 0, &head, err));
    if (k < g->n_in - 1) MX_TRY(khatri_times(g, k + 1, g->n_in, 2, &head, err));
    MX_TRY(MX_LINALG_CALL(g, "sum", &g->in_grad[k], err, ((const char *const[]){"axis", "(0, 2)", NULL}), head));
  }
  return MX_OK;
}

const mx_op mx_ops_khatri_rao[] = {
    {.name = "khatri_rao",
     .in_names = MX_STRINGS("args"), /* as the R argument is called */
     .family = "Linear algebra",
     .doc = "Column-wise Kronecker product: column j of the output is the Kronecker product of the columns j of the "
            "inputs.",
     .in_doc = MX_STRINGS("Matrices with one number of columns, native shape (rows, columns)."),
     .params = khatri_table,
     .params_size = sizeof(khatri_params),
     .n_in = 1,
     .n_out = 1,
     .num_args = "num_args",
     .count_in = khatri_count,
     .infer_shape = khatri_shape,
     .gradient = khatri_gradient,
     .kernel = khatri_kernel},
    {0}};
