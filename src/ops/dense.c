/* FullyConnected: y = x W' + b. The bias is written to the output first and the product is added to it, so that it
 * costs no pass of its own; gradients are two products and a sum over rows. */
#include <string.h>

#include "ops/layer.h"

typedef struct dense_params {
  int64_t num_hidden;
  bool no_bias;
  bool flatten;
} dense_params;

static const mx_param dense_table[] = {
    MX_P_INT(dense_params, num_hidden, NULL, 1, INT32_MAX, "Number of outputs per sample."),
    MX_P_BOOL(dense_params, no_bias, "False", "Leave the bias out."),
    MX_P_BOOL(dense_params, flatten, "True",
              "Treat all dimensions but the first as one; otherwise only the last dimension is transformed."),
    MX_P_END};

static int dense_count_in(const void *params) { return ((const dense_params *)params)->no_bias ? 2 : 3; }

/* rows x depth of the matrix that data is. */
static void dense_matrix(const dense_params *p, const mx_shape *data, int64_t *rows, int64_t *depth) {
  int split = p->flatten ? 1 : data->ndim - 1;
  *rows = mx_shape_prod(data, 0, split);
  *depth = mx_shape_prod(data, split, data->ndim);
}

static mx_status dense_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const dense_params *p = params;
  mx_shape *data = &in[0], *weight = &in[1];
  mx_shape want = mx_shape_of(p->num_hidden, MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(weight, &want, "weight", err));
  if (n_in > 2) {
    want = mx_shape_of(p->num_hidden);
    MX_TRY(mx_shape_merge(&in[2], &want, "bias", err));
  }
  if (data->ndim == 0) {
    return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least one dimension.");
  }
  if (data->ndim < 0 && !p->flatten && out[0].ndim > 0) {
    data->ndim = out[0].ndim;
    for (int i = 0; i < data->ndim; i++) data->dim[i] = MX_DIM_UNKNOWN;
  }
  if (data->ndim < 0) {
    want = mx_shape_of(MX_DIM_UNKNOWN, p->num_hidden);
    return p->flatten ? mx_shape_merge(&out[0], &want, "output", err) : MX_OK;
  }
  int last = data->ndim - 1;
  int64_t depth;
  MX_TRY(mx_layer_known_prod(data, p->flatten ? 1 : last, data->ndim, &depth, err));
  MX_TRY(mx_layer_set_dim(weight, 1, depth, "weight", err));
  if (!p->flatten || last == 1) MX_TRY(mx_layer_set_dim(data, last, weight->dim[1], "data", err));
  want = *data;
  if (p->flatten) want.ndim = 2;
  want.dim[want.ndim - 1] = p->num_hidden;
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  for (int i = 0; i < want.ndim - 1; i++) MX_TRY(mx_layer_set_dim(data, i, out[0].dim[i], "data", err));
  return MX_OK;
}

static mx_status dense_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_FullyConnected", in, 3, g->n_in, err);
}

#define DENSE_BIAS(T)                                                                        \
  MX_CLONES static void bias_rows_##T(T *y, const T *b, int64_t rows, int64_t n, bool add) { \
    for (int64_t i = 0; i < rows; i++, y += n) {                                             \
      if (add) {                                                                             \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] += b[j];                    \
      } else {                                                                               \
        memcpy(y, b, (size_t)n * sizeof(T));                                                 \
      }                                                                                      \
    }                                                                                        \
  }
DENSE_BIAS(float)
DENSE_BIAS(double)

static void dense_bias(const mx_tensor *out, const void *bias, int64_t rows, int64_t n, bool add) {
  if (out->dtype == MX_FLOAT32)
    bias_rows_float(out->data, bias, rows, n, add);
  else
    bias_rows_double(out->data, bias, rows, n, add);
}

static mx_status dense_prepare(mx_call *c, mx_error *err) {
  return mx_layer_is_half(c) ? mx_layer_half_prepare(c, NULL, err) : MX_OK;
}

static mx_status dense_forward(const mx_call *c, mx_error *err) {
  const dense_params *p = c->params;
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, dense_forward, err);
  int64_t m, k, n = p->num_hidden;
  dense_matrix(p, &c->in[0].shape, &m, &k);
  bool add = c->req[0] == MX_ADD;
  if (!p->no_bias) dense_bias(&c->out[0], c->in[2].data, m, n, add);
  return mx_layer_gemm(c, c->out[0].dtype, false, true, m, n, k, c->in[0].data, k, c->in[1].data, k, add || !p->no_bias,
                       c->out[0].data, n, err);
}

/* ---- backward: (gradient of the output, data, weight) to (data, weight, bias) ---- */

static mx_status dense_backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                      mx_error *err) {
  const dense_params *p = params;
  MX_TRY(mx_layer_unify(&out[0], &in[1], "data", err));
  MX_TRY(mx_layer_unify(&out[1], &in[2], "weight", err));
  mx_shape bias = mx_shape_of(p->num_hidden);
  return n_out > 2 ? mx_shape_merge(&out[2], &bias, "bias", err) : MX_OK;
}

static mx_status dense_backward_prepare(mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, dense_backward_prepare, err);
  int64_t m, k, n = ((const dense_params *)c->params)->num_hidden;
  dense_matrix(c->params, &c->in[1].shape, &m, &k);
  if (c->n_out > 2 && c->req[2] != MX_NULL) c->workspace_bytes = mx_column_sum_bytes(m, n, c->in[0].dtype);
  return MX_OK;
}

static mx_status dense_backward(const mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, dense_backward, err);
  const mx_tensor *dy = &c->in[0], *x = &c->in[1], *w = &c->in[2];
  int64_t m, k, n = ((const dense_params *)c->params)->num_hidden;
  dense_matrix(c->params, &x->shape, &m, &k);
  if (c->req[0] != MX_NULL)
    MX_TRY(mx_layer_gemm(c, x->dtype, false, false, m, k, n, dy->data, n, w->data, k, c->req[0] == MX_ADD,
                         c->out[0].data, k, err));
  if (c->req[1] != MX_NULL)
    MX_TRY(mx_layer_gemm(c, x->dtype, true, false, n, k, m, dy->data, n, x->data, k, c->req[1] == MX_ADD,
                         c->out[1].data, k, err));
  if (c->n_out > 2 && c->req[2] != MX_NULL)
    mx_column_sum(dy->data, m, n, c->out[2].data, dy->dtype, c->req[2] == MX_ADD, c->workspace);
  return MX_OK;
}

const mx_op mx_ops_dense[] = {
    {.name = "FullyConnected",
     .aliases = MX_STRINGS("_sparse_FullyConnected"),
     .family = "Neural-network layers",
     .doc = "Affine transformation: output = data * transpose(weight) + bias. With flatten = True data is seen as a "
            "matrix "
            "of shape (batch, everything else) and the output has shape (batch, num_hidden). With flatten = False the "
            "last dimension is transformed and the others are kept: (..., depth) becomes (..., num_hidden).",
     .in_doc = MX_STRINGS("(batch, ...) or, with flatten = False, (..., depth).", "(num_hidden, depth).",
                          "(num_hidden,); absent with no_bias = True."),
     .params = dense_table,
     .params_size = sizeof(dense_params),
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "weight", "bias"),
     .count_in = dense_count_in,
     .infer_shape = dense_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = dense_gradient,
     .flags = MX_OP_ADDS,
     .prepare = dense_prepare,
     .release = mx_layer_release,
     .kernel = dense_forward},
    {.name = "_backward_FullyConnected",
     .family = "Neural-network layers",
     .doc = "Gradients of FullyConnected.",
     .params = dense_table,
     .params_size = sizeof(dense_params),
     .n_in = 3,
     .n_out = 3,
     .in_names = MX_STRINGS("out_grad", "data", "weight"),
     .count_out = dense_count_in,
     .infer_shape = dense_backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .flags = MX_OP_ADDS | MX_OP_HIDDEN,
     .prepare = dense_backward_prepare,
     .release = mx_layer_release,
     .kernel = dense_backward},
    {0}};
