/* Deconvolution: the adjoint of Convolution as a layer. With the output taken for the data of a convolution and data
 * for its output, forward is that convolution's gradient by data, and the gradient by data is the convolution. */
#include <string.h>

#include "ops/conv.h"
#include "ops/dnnl.h"

typedef struct deconvolution_params {
  mx_shape kernel, stride, dilate, pad, adj, target_shape;
  int64_t num_filter, num_group, workspace;
  bool no_bias;
  int cudnn_tune;
  bool cudnn_off;
  int layout;
} deconvolution_params;

static const char *const layouts[] = {"None", "NCHW", "NCDHW", "NHWC", "NDHWC", "NCW", NULL};
static const char *const tunes[] = {"None", "off", "limited_workspace", "fastest", NULL};

static const mx_param deconvolution_table[] = {
    MX_P_TUPLE(deconvolution_params, kernel, NULL, 1, INT32_MAX, "Size of the window: (w), (h, w) or (d, h, w)."),
    MX_P_TUPLE(deconvolution_params, stride, "()", 1, INT32_MAX, "Step of the window in the output; 1 by default."),
    MX_P_TUPLE(deconvolution_params, dilate, "()", 1, INT32_MAX, "Distance of the points of a window; 1 by default."),
    MX_P_TUPLE(deconvolution_params, pad, "()", 0, INT32_MAX,
               "Places cut off on both sides of the output; none by default."),
    MX_P_TUPLE(deconvolution_params, adj, "()", 0, INT32_MAX,
               "Places added at the end of the output; none by default."),
    MX_P_TUPLE(deconvolution_params, target_shape, "()", 0, INT32_MAX,
               "Size of the output; pad and adj are then chosen to fit."),
    MX_P_INT(deconvolution_params, num_filter, NULL, 1, INT32_MAX, "Number of output channels."),
    MX_P_INT(deconvolution_params, num_group, "1", 1, INT32_MAX,
             "Channels and filters are split into this many groups that do not see each other."),
    MX_P_INT(deconvolution_params, workspace, "512", 0, INT32_MAX, "Accepted for compatibility; has no effect."),
    MX_P_BOOL(deconvolution_params, no_bias, "True", "Leave the bias out."),
    MX_P_ENUM(deconvolution_params, cudnn_tune, "None", tunes, "How cuDNN chooses its algorithm."),
    MX_P_BOOL(deconvolution_params, cudnn_off, "False", "Do without cuDNN."),
    MX_P_ENUM(deconvolution_params, layout, "None", layouts,
              "Order of the dimensions of data; None is NCW, NCHW or NCDHW."),
    MX_P_END};

static mx_status deconvolution_check(void *params, mx_error *err) {
  deconvolution_params *p = params;
  if (p->kernel.ndim < 1 || p->kernel.ndim > 3)
    return mx_layer_fail(err, MX_ERR_VALUE, "kernel", "kernel must have 1, 2 or 3 entries.");
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->stride, 1, "stride", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->dilate, 1, "dilate", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->pad, 0, "pad", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->adj, 0, "adj", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->target_shape, 0, "target_shape", err));
  MX_TRY(mx_conv_check_layout(p->kernel.ndim, p->layout, layouts, err));
  if (p->num_filter % p->num_group == 0) return MX_OK;
  return mx_layer_fail(err, MX_ERR_VALUE, "num_filter", "num_filter (%lld) must be a multiple of num_group (%lld).",
                       (long long)p->num_filter, (long long)p->num_group);
}

static int deconvolution_count_in(const void *params) {
  return ((const deconvolution_params *)params)->no_bias ? 2 : 3;
}

/* Places that the windows of `in` places cover. */
static int64_t covered(const deconvolution_params *p, int i, int64_t in) {
  return (in - 1) * p->stride.dim[i] + (p->kernel.dim[i] - 1) * p->dilate.dim[i] + 1;
}

static bool has_target(const deconvolution_params *p) {
  for (int i = 0; i < p->target_shape.ndim; i++)
    if (p->target_shape.dim[i] > 0) return true;
  return false;
}

/* What is cut off at the front. */
static mx_shape front_pad(const deconvolution_params *p, const mx_shape *data) {
  mx_shape pad = p->pad;
  for (int i = 0; has_target(p) && i < pad.ndim; i++) {
    int64_t in = data->dim[mx_conv_axis(mx_layout_channels_last(p->layout), i)];
    pad.dim[i] = (covered(p, i, in) - p->target_shape.dim[i] + 1) / 2;
  }
  return pad;
}

static mx_status deconvolution_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                     mx_error *err) {
  const deconvolution_params *p = params;
  const int nd = p->kernel.ndim;
  const bool last = mx_layout_channels_last(p->layout), target = has_target(p);
  const int channel = mx_conv_channel_axis(last, nd + 2);
  mx_shape *data = &in[0], *weight = &in[1], *output = &out[0];
  mx_shape want = {.ndim = nd + 2};
  for (int i = 0; i < nd + 2; i++) want.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(data, &want, "data", err));
  mx_shape want_weight = want, want_out = want;
  want_out.dim[channel] = p->num_filter;
  want_weight.dim[channel] = p->num_filter / p->num_group;
  for (int i = 0; i < nd; i++) want_weight.dim[last ? 1 + i : 2 + i] = p->kernel.dim[i];
  MX_TRY(mx_shape_merge(output, &want_out, "output", err));
  MX_TRY(mx_shape_merge(weight, &want_weight, "weight", err));
  MX_TRY(mx_layer_set_dim(weight, 0, data->dim[channel], "weight", err));
  MX_TRY(mx_layer_set_dim(data, channel, weight->dim[0], "data", err));
  if (data->dim[channel] != MX_DIM_UNKNOWN && data->dim[channel] % p->num_group != 0)
    return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                         "data has %lld channels, which is not a multiple of num_group (%lld).",
                         (long long)data->dim[channel], (long long)p->num_group);
  if (n_in > 2) {
    want = mx_shape_of(p->num_filter);
    MX_TRY(mx_shape_merge(&in[2], &want, "bias", err));
  }
  MX_TRY(mx_layer_set_dim(output, 0, data->dim[0], "output", err));
  MX_TRY(mx_layer_set_dim(data, 0, output->dim[0], "data", err));
  for (int i = 0; i < nd; i++) {
    const int a = mx_conv_axis(last, i);
    if (data->dim[a] == MX_DIM_UNKNOWN) continue;
    if (data->dim[a] > (int64_t)1 << 30)
      return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data is too large: %lld places along one dimension.",
                           (long long)data->dim[a]);
    const int64_t size = data->dim[a] == 0 ? 0 : covered(p, i, data->dim[a]);
    const int64_t places = target ? p->target_shape.dim[i] : size - 2 * p->pad.dim[i] + p->adj.dim[i];
    if (places < 1 || (target && places > size))
      return mx_layer_fail(err, MX_ERR_SHAPE, target ? "target_shape" : "pad",
                           "An output of %lld places cannot be made from windows that cover %lld.", (long long)places,
                           (long long)size);
    MX_TRY(mx_layer_set_dim(output, a, places, "output", err));
  }
  return MX_OK;
}

static mx_conv deconvolution_view(const deconvolution_params *p, const mx_shape *data, const mx_shape *output) {
  const mx_shape pad = front_pad(p, data);
  return mx_conv_make(&p->kernel, &p->stride, &p->dilate, &pad, p->num_group, mx_layout_channels_last(p->layout),
                      output, data);
}

static mx_status deconvolution_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_Deconvolution", in, 3, g->n_in, err);
}

static mx_status build_forward(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err) {
  const mx_conv v = deconvolution_view(c->params, &c->in[0].shape, &c->out[0].shape);
  return mx_dnnl_conv_backward_data(p, &v, MX_DNNL_IN(0), MX_DNNL_IN(1), MX_DNNL_OUT(0), declined, err);
}

static mx_status deconvolution_prepare(mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, deconvolution_prepare, err);
  MX_TRY(mx_dnnl_prepare(c, build_forward, err));
  if (c->state) return MX_OK;
  const mx_conv v = deconvolution_view(c->params, &c->in[0].shape, &c->out[0].shape);
  c->workspace_bytes = mx_conv_workspace(&v, c->out[0].dtype);
  return MX_OK;
}

static mx_status deconvolution_forward(const mx_call *c, mx_error *err) {
  const mx_tensor *x = &c->in[0], *y = &c->out[0];
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, deconvolution_forward, err);
  const mx_conv v = deconvolution_view(c->params, &x->shape, &y->shape);
  const void *bias = c->n_in > 2 ? c->in[2].data : NULL;
  if (!c->state) return mx_conv_backward_data(c, &v, y->dtype, x->data, c->in[1].data, bias, y->data, err);
  MX_TRY(mx_dnnl_run(c, err));
  if (bias) mx_conv_add_bias(y->dtype, y->data, bias, v.batch, v.channels, mx_conv_in_size(&v), v.channels_last);
  return MX_OK;
}

/* ---- backward: (gradient of the output, data, weight) to (data, weight, bias) ---- */

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&out[0], &in[1], "data", err));
  MX_TRY(mx_layer_unify(&out[1], &in[2], "weight", err));
  mx_shape bias = mx_shape_of(((const deconvolution_params *)params)->num_filter);
  return n_out > 2 ? mx_shape_merge(&out[2], &bias, "bias", err) : MX_OK;
}

static bool wants(const mx_call *c, int i) { return i < c->n_out && c->req[i] != MX_NULL; }

static mx_status build_backward(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err) {
  const mx_conv v = deconvolution_view(c->params, &c->in[1].shape, &c->in[0].shape);
  if (wants(c, 1))
    MX_TRY(
        mx_dnnl_conv_backward_weight(p, &v, MX_DNNL_IN(0), MX_DNNL_IN(1), MX_DNNL_OUT(1), MX_DNNL_NONE, declined, err));
  if (wants(c, 0) && !*declined)
    MX_TRY(mx_dnnl_conv_forward(p, &v, MX_DNNL_IN(0), MX_DNNL_IN(2), MX_DNNL_NONE, MX_DNNL_OUT(0), declined, err));
  return MX_OK;
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, backward_prepare, err);
  if (wants(c, 0) || wants(c, 1)) MX_TRY(mx_dnnl_prepare(c, build_backward, err));
  const mx_conv v = deconvolution_view(c->params, &c->in[1].shape, &c->in[0].shape);
  if (!c->state && (wants(c, 0) || wants(c, 1))) c->workspace_bytes = mx_conv_workspace(&v, c->in[0].dtype);
  size_t sum = mx_column_sum_bytes(v.batch * mx_conv_in_size(&v), v.channels, c->in[0].dtype);
  if (v.channels_last && wants(c, 2) && sum > c->workspace_bytes) c->workspace_bytes = sum;
  return MX_OK;
}

static mx_status deconvolution_backward(const mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, deconvolution_backward, err);
  const mx_tensor *dy = &c->in[0], *x = &c->in[1], *w = &c->in[2];
  const mx_conv v = deconvolution_view(c->params, &x->shape, &dy->shape);
  if (c->state) {
    MX_TRY(mx_dnnl_run(c, err));
  } else {
    if (wants(c, 0)) MX_TRY(mx_conv_forward(c, &v, x->dtype, dy->data, w->data, NULL, c->out[0].data, err));
    if (wants(c, 1)) MX_TRY(mx_conv_backward_weight(c, &v, x->dtype, dy->data, x->data, c->out[1].data, err));
  }
  if (!wants(c, 2)) return MX_OK;
  const int64_t space = mx_conv_in_size(&v);
  if (v.channels_last)
    mx_column_sum(dy->data, v.batch * space, v.channels, c->out[2].data, dy->dtype, false, c->workspace);
  else
    mx_conv_channel_sum(dy->dtype, dy->data, v.batch, v.channels, space, c->out[2].data);
  return MX_OK;
}

const mx_op mx_ops_deconvolution[] = {
    {.name = "Deconvolution",
     .family = "Neural-network layers",
     .doc = "Transposed convolution in one, two or three dimensions: every element of data adds its window, weight "
            "times the "
            "element, to the output. Along each dimension the output has (size - 1) * stride + dilate * (kernel - 1) + "
            "1 - 2 * "
            "pad + adj places, or those of target_shape.",
     .in_doc =
         MX_STRINGS("(batch, channels, space...) in layouts NCW, NCHW, NCDHW; channels come last in NHWC, NDHWC.",
                    "(channels, num_filter / num_group, kernel...); filters come last where the channels of data do.",
                    "(num_filter,); only with no_bias = False."),
     .params = deconvolution_table,
     .params_size = sizeof(deconvolution_params),
     .check = deconvolution_check,
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "weight", "bias"),
     .count_in = deconvolution_count_in,
     .infer_shape = deconvolution_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = deconvolution_gradient,
     .prepare = deconvolution_prepare,
     .release = mx_layer_release,
     .kernel = deconvolution_forward},
    {.name = "_backward_Deconvolution",
     .family = "Neural-network layers",
     .doc = "Gradients of Deconvolution.",
     .params = deconvolution_table,
     .params_size = sizeof(deconvolution_params),
     .check = deconvolution_check,
     .n_in = 3,
     .n_out = 3,
     .in_names = MX_STRINGS("out_grad", "data", "weight"),
     .count_out = deconvolution_count_in,
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .flags = MX_OP_HIDDEN,
     .prepare = backward_prepare,
     .release = mx_layer_release,
     .kernel = deconvolution_backward},
    {0}};
