/* Convolution and its gradients: oneDNN where there is one, im2col and matrix products otherwise. */
#include <string.h>

#include "ops/conv.h"
#include "ops/dnnl.h"

typedef struct convolution_params {
  mx_shape kernel, stride, dilate, pad;
  int64_t num_filter, num_group, workspace;
  bool no_bias;
  int cudnn_tune;
  bool cudnn_off;
  int layout;
} convolution_params;

static const char *const layouts[] = {"None", "NCHW", "NCDHW", "NHWC", "NDHWC", "NCW", NULL};
static const char *const layouts_v1[] = {"None", "NCHW", "NCDHW", "NHWC", "NDHWC", NULL};
static const char *const tunes[] = {"None", "off", "limited_workspace", "fastest", NULL};

#define CONVOLUTION_TABLE(layouts_)                                                                                  \
  {                                                                                                                  \
    MX_P_TUPLE(convolution_params, kernel, NULL, 1, INT32_MAX, "Size of the window: (w), (h, w) or (d, h, w)."),     \
        MX_P_TUPLE(convolution_params, stride, "()", 1, INT32_MAX,                                                   \
                   "Step of the window; 1 in each dimension by default."),                                           \
        MX_P_TUPLE(convolution_params, dilate, "()", 1, INT32_MAX,                                                   \
                   "Distance of the input points of a window; 1 in each dimension by default."),                     \
        MX_P_TUPLE(convolution_params, pad, "()", 0, INT32_MAX, "Zeros added on both sides; none by default."),      \
        MX_P_INT(convolution_params, num_filter, NULL, 1, INT32_MAX, "Number of filters: output channels."),         \
        MX_P_INT(convolution_params, num_group, "1", 1, INT32_MAX,                                                   \
                 "Channels and filters are split into this many groups that do not see each other."),                \
        MX_P_INT(convolution_params, workspace, "1024", 0, INT32_MAX, "Accepted for compatibility; has no effect."), \
        MX_P_BOOL(convolution_params, no_bias, "False", "Leave the bias out."),                                      \
        MX_P_ENUM(convolution_params, cudnn_tune, "None", tunes, "How cuDNN chooses its algorithm."),                \
        MX_P_BOOL(convolution_params, cudnn_off, "False", "Do without cuDNN."),                                      \
        MX_P_ENUM(convolution_params, layout, "None", layouts_,                                                      \
                  "Order of the dimensions of data; None is NCW, NCHW or NCDHW."),                                   \
        MX_P_END                                                                                                     \
  }
static const mx_param convolution_table[] = CONVOLUTION_TABLE(layouts);
static const mx_param convolution_v1_table[] = CONVOLUTION_TABLE(layouts_v1);

static mx_status convolution_check(void *params, mx_error *err) {
  convolution_params *p = params;
  if (p->kernel.ndim < 1 || p->kernel.ndim > 3) {
    return mx_layer_fail(err, MX_ERR_VALUE, "kernel", "kernel must have 1, 2 or 3 entries.");
  }
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->stride, 1, "stride", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->dilate, 1, "dilate", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->pad, 0, "pad", err));
  MX_TRY(mx_conv_check_layout(p->kernel.ndim, p->layout, layouts, err));
  if (p->num_filter % p->num_group == 0) return MX_OK;
  return mx_layer_fail(err, MX_ERR_VALUE, "num_filter", "num_filter (%lld) must be a multiple of num_group (%lld).",
                       (long long)p->num_filter, (long long)p->num_group);
}

static int convolution_count_in(const void *params) { return ((const convolution_params *)params)->no_bias ? 2 : 3; }

static mx_status convolution_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                   mx_error *err) {
  const convolution_params *p = params;
  const int nd = p->kernel.ndim;
  const bool last = mx_layout_channels_last(p->layout);
  const int channel = mx_conv_channel_axis(last, nd + 2);
  mx_shape *data = &in[0], *weight = &in[1], *output = &out[0];
  mx_shape want = {.ndim = nd + 2};
  for (int i = 0; i < nd + 2; i++) want.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(data, &want, "data", err));
  mx_shape want_weight = want, want_out = want;
  want_out.dim[channel] = p->num_filter;
  want_weight.dim[0] = p->num_filter;
  for (int i = 0; i < nd; i++) want_weight.dim[last ? 1 + i : 2 + i] = p->kernel.dim[i];
  MX_TRY(mx_shape_merge(output, &want_out, "output", err));
  MX_TRY(mx_shape_merge(weight, &want_weight, "weight", err));
  if (data->dim[channel] != MX_DIM_UNKNOWN) {
    if (data->dim[channel] % p->num_group != 0) {
      return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                           "data has %lld channels, which is not a multiple of num_group (%lld).",
                           (long long)data->dim[channel], (long long)p->num_group);
    }
    MX_TRY(mx_layer_set_dim(weight, channel, data->dim[channel] / p->num_group, "weight", err));
  } else if (weight->dim[channel] != MX_DIM_UNKNOWN && weight->dim[channel] <= INT64_MAX / p->num_group) {
    data->dim[channel] = weight->dim[channel] * p->num_group;
  }
  if (n_in > 2) {
    want = mx_shape_of(p->num_filter);
    MX_TRY(mx_shape_merge(&in[2], &want, "bias", err));
  }
  MX_TRY(mx_layer_set_dim(output, 0, data->dim[0], "output", err));
  MX_TRY(mx_layer_set_dim(data, 0, output->dim[0], "data", err));
  for (int i = 0; i < nd; i++) {
    const int a = mx_conv_axis(last, i);
    const int64_t extent = (p->kernel.dim[i] - 1) * p->dilate.dim[i] + 1;
    if (data->dim[a] == MX_DIM_UNKNOWN) {
      if (output->dim[a] != MX_DIM_UNKNOWN && p->stride.dim[i] == 1 && output->dim[a] + extent - 1 >= 2 * p->pad.dim[i])
        data->dim[a] = output->dim[a] + extent - 1 - 2 * p->pad.dim[i];
      continue;
    }
    const int64_t room = data->dim[a] + 2 * p->pad.dim[i] - extent;
    if (room < 0) {
      return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                           "The window covers %lld places, but data has only %lld with its padding.", (long long)extent,
                           (long long)(data->dim[a] + 2 * p->pad.dim[i]));
    }
    MX_TRY(mx_layer_set_dim(output, a, room / p->stride.dim[i] + 1, "output", err));
  }
  return MX_OK;
}

static mx_conv convolution_view(const convolution_params *p, const mx_shape *data, const mx_shape *output) {
  return mx_conv_make(&p->kernel, &p->stride, &p->dilate, &p->pad, p->num_group, mx_layout_channels_last(p->layout),
                      data, output);
}

static mx_status convolution_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_Convolution", in, 3, g->n_in, err);
}

static mx_conv forward_view(const mx_call *c) {
  mx_conv v = convolution_view(c->params, &c->in[0].shape, &c->out[0].shape);
  v.in_place = c->in_place;
  return v;
}

static bool convolution_in_place(const mx_call *c) {
  const mx_conv v = forward_view(c);
  return mx_conv_in_place(&v);
}

static mx_status build_forward(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err) {
  const mx_conv v = forward_view(c);
  return mx_dnnl_conv_forward(p, &v, MX_DNNL_IN(0), MX_DNNL_IN(1), c->n_in > 2 ? MX_DNNL_IN(2) : MX_DNNL_NONE,
                              MX_DNNL_OUT(0), declined, err);
}

static mx_status convolution_prepare(mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, convolution_prepare, err);
  MX_TRY(mx_dnnl_prepare(c, build_forward, err));
  if (c->state) return MX_OK;
  const mx_conv v = forward_view(c);
  c->workspace_bytes = mx_conv_workspace(&v, c->out[0].dtype);
  return MX_OK;
}

static mx_status convolution_forward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, convolution_forward, err);
  if (c->state) return mx_dnnl_run(c, err);
  const mx_conv v = forward_view(c);
  return mx_conv_forward(c, &v, c->out[0].dtype, c->in[0].data, c->in[1].data, c->n_in > 2 ? c->in[2].data : NULL,
                         c->out[0].data, err);
}

/* ---- backward: (gradient of the output, data, weight) to (data, weight, bias) ---- */

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&out[0], &in[1], "data", err));
  MX_TRY(mx_layer_unify(&out[1], &in[2], "weight", err));
  mx_shape bias = mx_shape_of(((const convolution_params *)params)->num_filter);
  return n_out > 2 ? mx_shape_merge(&out[2], &bias, "bias", err) : MX_OK;
}

static bool wants(const mx_call *c, int i) { return i < c->n_out && c->req[i] != MX_NULL; }

static mx_status build_backward(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err) {
  const mx_conv v = convolution_view(c->params, &c->in[1].shape, &c->in[0].shape);
  if (wants(c, 1))
    MX_TRY(mx_dnnl_conv_backward_weight(p, &v, MX_DNNL_IN(1), MX_DNNL_IN(0), MX_DNNL_OUT(1),
                                        wants(c, 2) ? MX_DNNL_OUT(2) : MX_DNNL_NONE, declined, err));
  if (wants(c, 0) && !*declined)
    MX_TRY(mx_dnnl_conv_backward_data(p, &v, MX_DNNL_IN(0), MX_DNNL_IN(2), MX_DNNL_OUT(0), declined, err));
  return MX_OK;
}

static mx_status backward_prepare(mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, backward_prepare, err);
  if (wants(c, 0) || wants(c, 1)) MX_TRY(mx_dnnl_prepare(c, build_backward, err));
  const mx_conv v = convolution_view(c->params, &c->in[1].shape, &c->in[0].shape);
  if (!c->state && (wants(c, 0) || wants(c, 1))) c->workspace_bytes = mx_conv_workspace(&v, c->in[0].dtype);
  size_t sum = mx_column_sum_bytes(v.batch * mx_conv_out_size(&v), v.filters, c->in[0].dtype);
  if (v.channels_last && wants(c, 2) && sum > c->workspace_bytes) c->workspace_bytes = sum;
  return MX_OK;
}

static mx_status convolution_backward(const mx_call *c, mx_error *err) {
  if (mx_layer_is_half(c)) return mx_layer_half_run(c, convolution_backward, err);
  const mx_tensor *dy = &c->in[0], *x = &c->in[1], *w = &c->in[2];
  const mx_conv v = convolution_view(c->params, &x->shape, &dy->shape);
  if (c->state) {
    MX_TRY(mx_dnnl_run(c, err));
    if (wants(c, 1)) return MX_OK; /* the bias came with the weights */
  } else {
    if (wants(c, 0)) MX_TRY(mx_conv_backward_data(c, &v, x->dtype, dy->data, w->data, NULL, c->out[0].data, err));
    if (wants(c, 1)) MX_TRY(mx_conv_backward_weight(c, &v, x->dtype, x->data, dy->data, c->out[1].data, err));
  }
  if (!wants(c, 2)) return MX_OK;
  const int64_t space = mx_conv_out_size(&v);
  if (v.channels_last)
    mx_column_sum(dy->data, v.batch * space, v.filters, c->out[2].data, dy->dtype, false, c->workspace);
  else
    mx_conv_channel_sum(dy->dtype, dy->data, v.batch, v.filters, space, c->out[2].data);
  return MX_OK;
}

#define CONVOLUTION_RECORD(name_, table, ...)                                                                     \
  {                                                                                                               \
    .name = name_, .family = "Neural-network layers", .params = table, .params_size = sizeof(convolution_params), \
    .check = convolution_check, .n_in = 3, .n_out = 1, .in_names = MX_STRINGS("data", "weight", "bias"),          \
    .count_in = convolution_count_in, .infer_shape = convolution_infer, .infer_dtype = mx_layer_infer_float,      \
    .gradient = convolution_gradient, .in_place = convolution_in_place, .prepare = convolution_prepare,           \
    .release = mx_layer_release, .kernel = convolution_forward, __VA_ARGS__                                       \
  }

const mx_op mx_ops_convolution[] = {
    CONVOLUTION_RECORD(
        "Convolution", convolution_table,
        .doc =
            "Convolution in one, two or three dimensions: output[n, f, x] = bias[f] + sum over channels c of the group "
            "of f and over window places k of weight[f, c, k] * data[n, c, x * stride + k * dilate - pad], with zeros "
            "outside of data. Along each dimension the output has floor((size + 2 * pad - dilate * (kernel - 1) - 1) / "
            "stride) + 1 places.",
        .in_doc =
            MX_STRINGS("(batch, channels, space...) in layouts NCW, NCHW, NCDHW; channels come last in NHWC, NDHWC.",
                       "(num_filter, channels / num_group, kernel...); channels come last where those of data do.",
                       "(num_filter,); absent with no_bias = True.")),
    CONVOLUTION_RECORD(
        "Convolution_v1", convolution_v1_table,
        .doc = "The first version of Convolution, kept for saved models. Computes the same.",
        .in_doc = MX_STRINGS("(batch, channels, space...).", "(num_filter, channels / num_group, kernel...).",
                             "(num_filter,); absent with no_bias = True.")),
    {.name = "_backward_Convolution",
     .family = "Neural-network layers",
     .doc = "Gradients of Convolution.",
     .params = convolution_table,
     .params_size = sizeof(convolution_params),
     .check = convolution_check,
     .n_in = 3,
     .n_out = 3,
     .in_names = MX_STRINGS("out_grad", "data", "weight"),
     .count_out = convolution_count_in,
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .flags = MX_OP_HIDDEN,
     .prepare = backward_prepare,
     .release = mx_layer_release,
     .kernel = convolution_backward},
    {0}};
