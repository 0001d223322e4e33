/* IdentityAttachKLSparseReg: passes activations on and adds, in backward, the gradient of a penalty on their mean. */
#include <string.h>

#include "ops/layer.h"

typedef struct sparsity_params {
  double sparseness_target, penalty, momentum;
} sparsity_params;

static const mx_param sparsity_table[] = {
    MX_P_FLOAT(sparsity_params, sparseness_target, "0.1", 0, 1, "The mean activation that is aimed at."),
    MX_P_FLOAT(sparsity_params, penalty, "0.001", 0, INFINITY, "Weight of the penalty."),
    MX_P_FLOAT(sparsity_params, momentum, "0.9", 0, 1, "Weight of the old value in the moving average."), MX_P_END};

static mx_status sparsity_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim < 1) return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data must have at least one dimension.");
  mx_shape average = mx_shape_of(MX_DIM_UNKNOWN);
  MX_TRY(mx_layer_known_prod(&in[0], 1, in[0].ndim, &average.dim[0], err));
  return mx_shape_merge(&in[1], &average, "moving_avg", err);
}

static mx_status sparsity_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_IdentityAttachKLSparseReg", in, 3, 1, err);
}

static mx_status sparsity_forward(const mx_call *c, mx_error *err) {
  const mx_tensor *x = &c->in[0];
  if (c->req[0] == MX_NULL || x->data == c->out[0].data) return MX_OK;
  return c->device->ops->copy(c->device, c->out[0].data, x->data,
                              (size_t)mx_shape_size(&x->shape) * mx_dtype_size(x->dtype), err);
}

/* (gradient of the output, data, moving_avg) to data; moves the average first. */
static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_layer_unify(&in[1], &out[0], "data", err);
}

static size_t sum_bytes(const mx_call *c, int64_t rows, int64_t width) {
  return mx_align64((size_t)width * mx_dtype_size(c->in[1].dtype)) + mx_column_sum_bytes(rows, width, c->in[1].dtype);
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  const mx_shape *s = &c->in[1].shape;
  c->workspace_bytes = sum_bytes(c, s->dim[0], mx_shape_prod(s, 1, s->ndim));
  return MX_OK;
}

static mx_status sparsity_backward(const mx_call *c, mx_error *err) {
  const sparsity_params *p = c->params;
  const mx_shape *s = &c->in[1].shape;
  const int64_t rows = s->dim[0], width = mx_shape_prod(s, 1, s->ndim);
  const mx_dtype dtype = c->in[1].dtype;
  if (rows == 0) return MX_OK;
  char *sum = c->workspace, *part = sum + mx_align64((size_t)width * mx_dtype_size(dtype));
  mx_column_sum(c->in[1].data, rows, width, sum, dtype, false, part);
  MX_SWITCH_FLOAT(dtype, break, {
    T *average = c->in[2].data, *push = (T *)sum, *dx = c->out[0].data;
    const T *dy = c->in[0].data;
    for (int64_t j = 0; j < width; j++) {
      double a = p->momentum * (double)average[j] + (1 - p->momentum) * (double)push[j] / (double)rows;
      average[j] = (T)a;
      push[j] = (T)(p->penalty * (-p->sparseness_target / a + (1 - p->sparseness_target) / (1 - a)));
    }
    if (c->req[0] == MX_NULL) return MX_OK;
    _Pragma("omp parallel for num_threads(mx_threads_for(rows * width, MX_GRAIN))")

        for (int64_t i = 0; i < rows; i++) for (int64_t j = 0; j < width; j++) dx[i * width + j] =
            (T)(dy[i * width + j] + push[j]);
  })
  return MX_OK;
}

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};

const mx_op mx_ops_sparsity[] = {
    {.name = "IdentityAttachKLSparseReg",
     .family = "Neural-network layers",
     .doc = "Returns data. In backward it adds the gradient of penalty * KL(sparseness_target || mean), the "
            "Kullback-Leibler "
            "divergence of the moving average of each unit's mean activation from the target: activations in (0, 1), "
            "as of a "
            "sigmoid, become sparse. The gradient is penalty * (-target / mean + (1 - target) / (1 - mean)).",
     .in_doc = MX_STRINGS("(batch, ...) with values in (0, 1).", "Moving average of the mean of each unit."),
     .params = sparsity_table,
     .params_size = sizeof(sparsity_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "moving_avg"),
     .aux = 1u << 1,
     .infer_shape = sparsity_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = sparsity_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_VIEW,
     .kernel = sparsity_forward},
    {.name = "_backward_IdentityAttachKLSparseReg",
     .family = "Neural-network layers",
     .doc = "Gradient of IdentityAttachKLSparseReg.",
     .params = sparsity_table,
     .params_size = sizeof(sparsity_params),
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "data", "moving_avg"),
     .mutates = 1u << 2,
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN,
     .prepare = backward_prepare,
     .kernel = sparsity_backward},
    {0}};
