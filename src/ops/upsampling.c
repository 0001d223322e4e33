/* UpSampling: every place repeated (nearest), or interpolation as a deconvolution with one filter a channel (bilinear).
 */
#include <stdio.h>
#include <string.h>

#include "ops/conv.h"

enum { SAMPLE_NEAREST, SAMPLE_BILINEAR };
enum { INPUTS_CONCAT, INPUTS_SUM };

typedef struct upsampling_params {
  int64_t scale, num_filter, num_args, workspace;
  int sample_type, multi_input_mode;
} upsampling_params;

static const char *const sample_types[] = {"nearest", "bilinear", NULL};
static const char *const input_modes[] = {"concat", "sum", NULL};
static const mx_param upsampling_table[] = {
    MX_P_INT(upsampling_params, scale, NULL, 1, 1000, "Factor by which height and width grow."),
    MX_P_INT(upsampling_params, num_filter, "0", 0, INT32_MAX, "Number of channels; needed for bilinear only."),
    MX_P_ENUM(upsampling_params, sample_type, NULL, sample_types, "How places are filled."),
    MX_P_ENUM(upsampling_params, multi_input_mode, "concat", input_modes,
              "What is made of several inputs (nearest only): their channels are joined, or they are added."),
    MX_P_INT(upsampling_params, num_args, NULL, 1, INT32_MAX,
             "Number of inputs; for nearest, all grow to the size of the first one's output."),
    MX_P_INT(upsampling_params, workspace, "512", 0, INT32_MAX, "Accepted for compatibility; has no effect."),
    MX_P_END};

static bool bilinear(const void *params) { return ((const upsampling_params *)params)->sample_type == SAMPLE_BILINEAR; }

static mx_status upsampling_check(void *params, mx_error *err) {
  const upsampling_params *p = params;
  if (bilinear(p) && p->num_filter < 1)
    return mx_layer_fail(err, MX_ERR_VALUE, "num_filter", "num_filter must be given with sample_type bilinear.");
  return MX_OK;
}

static int upsampling_count_in(const void *params) {
  return bilinear(params) ? 2 : (int)((const upsampling_params *)params)->num_args;
}

static void upsampling_in_name(const void *params, int i, char *buf, size_t size) {
  if (bilinear(params))
    snprintf(buf, size, "%s", i == 0 ? "data" : "weight");
  else
    snprintf(buf, size, "arg%d", i);
}

/* The deconvolution that interpolates. */
static int64_t bilinear_kernel(int64_t scale) { return 2 * scale - scale % 2; }
static int64_t bilinear_pad(int64_t scale) { return scale / 2; }

static mx_status upsampling_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const upsampling_params *p = params;
  mx_shape any = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN), want = any;
  MX_TRY(mx_shape_merge(&out[0], &any, "output", err));
  for (int i = 0; i < n_in; i++) MX_TRY(mx_shape_merge(&in[i], &any, "input", err));
  for (int d = 2; d < 4; d++) {
    if (in[0].dim[d] > INT32_MAX)
      return mx_layer_fail(err, MX_ERR_SHAPE, "data", "data is too large: %lld places along one dimension.",
                           (long long)in[0].dim[d]);
    if (in[0].dim[d] != MX_DIM_UNKNOWN) want.dim[d] = in[0].dim[d] * p->scale;
  }
  want.dim[0] = in[0].dim[0];
  if (bilinear(p)) {
    const int64_t k = bilinear_kernel(p->scale);
    mx_shape weight = mx_shape_of(p->num_filter, 1, k, k);
    MX_TRY(mx_shape_merge(&in[1], &weight, "weight", err));
    MX_TRY(mx_layer_set_dim(&in[0], 1, p->num_filter, "data", err));
    want.dim[1] = p->num_filter;
    return mx_shape_merge(&out[0], &want, "output", err);
  }
  int64_t channels = 0;
  for (int i = 0; i < n_in; i++) {
    const bool sum = p->multi_input_mode == INPUTS_SUM;
    channels = in[i].dim[1] == MX_DIM_UNKNOWN || channels < 0 ? MX_DIM_UNKNOWN
               : sum                                          ? in[i].dim[1]
                                                              : channels + in[i].dim[1];
    if (sum) MX_TRY(mx_layer_set_dim(&in[i], 1, in[0].dim[1], "input", err));
    MX_TRY(mx_layer_set_dim(&in[i], 0, in[0].dim[0], "input", err));
    for (int d = 2; d < 4; d++)
      if (want.dim[d] > 0 && in[i].dim[d] != MX_DIM_UNKNOWN && (in[i].dim[d] == 0 || want.dim[d] % in[i].dim[d] != 0))
        return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                             "Input %d has %lld places along a dimension, which does not divide "
                             "the output's %lld.",
                             i, (long long)in[i].dim[d], (long long)want.dim[d]);
  }
  want.dim[1] = channels;
  return mx_shape_merge(&out[0], &want, "output", err);
}

/* ---- nearest ---- */

/* One plane of height x width, every place to sh x sw places: written, or added with `add`. */
MX_CLONES static void repeat_plane(mx_dtype dtype, const void *x_, int64_t height, int64_t width, int64_t sh,
                                   int64_t sw, void *y_, bool add){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      const T *x = x_;
                      T *y = y_;
                      for (int64_t h = 0; h < height * sh; h++, y += width * sw) {
                        const T *row = x + h / sh * width;
                        for (int64_t w = 0; w < width; w++)
                          for (int64_t k = 0; k < sw; k++) y[w * sw + k] = add ? (T)(y[w * sw + k] + row[w]) : row[w];
                      }
                    })}

/* The adjoint: x = sums of sh x sw places. */
MX_CLONES static void sum_plane(mx_dtype dtype, const void *y_, int64_t height, int64_t width, int64_t sh, int64_t sw,
                                void *x_) {
  MX_SWITCH_FLOAT(dtype, break, {
    const T *y = y_;
    T *x = x_;
    for (int64_t h = 0; h < height; h++)
      for (int64_t w = 0; w < width; w++) {
        __typeof__((T)0 + 0.0f) sum = 0;
        for (int64_t r = 0; r < sh; r++)
          for (int64_t k = 0; k < sw; k++) sum += y[(h * sh + r) * width * sw + w * sw + k];
        x[h * width + w] = (T)sum;
      }
  })
}

/* Runs over the planes of input i; `channel` is its first channel in the output. */
static void nearest_input(const mx_tensor *x, const mx_tensor *y, int64_t channel, bool add, bool backward) {
  const int64_t n = x->shape.dim[0], c = x->shape.dim[1], h = x->shape.dim[2], w = x->shape.dim[3];
  const int64_t oh = y->shape.dim[2], ow = y->shape.dim[3], all = y->shape.dim[1];
  const size_t size = mx_dtype_size(x->dtype);
  if (h == 0 || w == 0) return;
#pragma omp parallel for num_threads(mx_threads_for(n *c *oh *ow, MX_GRAIN))
  for (int64_t i = 0; i < n * c; i++) {
    char *xi = (char *)x->data + (size_t)(i * h * w) * size;
    char *yi = (char *)y->data + (size_t)((i / c * all + channel + i % c) * oh * ow) * size;
    if (backward)
      sum_plane(x->dtype, yi, h, w, oh / h, ow / w, xi);
    else
      repeat_plane(x->dtype, xi, h, w, oh / h, ow / w, yi, add);
  }
}

static mx_conv bilinear_view(const upsampling_params *p, const mx_shape *data, const mx_shape *output) {
  const int64_t k = bilinear_kernel(p->scale), pad = bilinear_pad(p->scale);
  const mx_shape kernel = mx_shape_of(k, k), stride = mx_shape_of(p->scale, p->scale), one = mx_shape_of(1, 1);
  const mx_shape pads = mx_shape_of(pad, pad);
  return mx_conv_make(&kernel, &stride, &one, &pads, p->num_filter, false, output, data);
}

static mx_status upsampling_prepare(mx_call *c, mx_error *err) {
  if (!bilinear(c->params)) return MX_OK;
  if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, upsampling_prepare, err);
  const mx_conv v = bilinear_view(c->params, &c->in[0].shape, &c->out[0].shape);
  c->workspace_bytes = mx_conv_workspace(&v, c->out[0].dtype);
  return MX_OK;
}

static mx_status upsampling_forward(const mx_call *c, mx_error *err) {
  const upsampling_params *p = c->params;
  if (c->req[0] == MX_NULL) return MX_OK;
  if (bilinear(p)) {
    if (mx_layer_is_half(c)) return mx_layer_half_run(c, upsampling_forward, err);
    const mx_conv v = bilinear_view(p, &c->in[0].shape, &c->out[0].shape);
    return mx_conv_backward_data(c, &v, c->out[0].dtype, c->in[0].data, c->in[1].data, NULL, c->out[0].data, err);
  }
  int64_t channel = 0;
  for (int i = 0; i < c->n_in; i++) {
    const bool sum = p->multi_input_mode == INPUTS_SUM;
    nearest_input(&c->in[i], &c->out[0], channel, sum && i > 0, false);
    channel += sum ? 0 : c->in[i].shape.dim[1];
  }
  return MX_OK;
}

/* ---- backward ---- */

static mx_status upsampling_gradient(mx_grad *g, mx_error *err) {
  const upsampling_params *p = g->params;
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], bilinear(p) ? g->in[1] : MX_NO_ENTRY}, out;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  if (bilinear(p)) {
    char kernel[64], stride[64], pad[64], filters[32];
    const long long k = bilinear_kernel(p->scale), b = bilinear_pad(p->scale), s = p->scale;
    snprintf(kernel, sizeof(kernel), "(%lld,%lld)", k, k), snprintf(stride, sizeof(stride), "(%lld,%lld)", s, s);
    snprintf(pad, sizeof(pad), "(%lld,%lld)", b, b),
        snprintf(filters, sizeof(filters), "%lld", (long long)p->num_filter);
    const char *const attrs[] = {"kernel",     kernel,  "stride",    stride,  "pad", pad,
                                 "num_filter", filters, "num_group", filters, NULL};
    MX_TRY(mx_grad_call(g, "_backward_Deconvolution", attrs, in, 3, &out, err));
    for (int i = 0; i < 2; i++)
      if (g->wanted[i]) g->in_grad[i] = (mx_entry){out.node, i};
    return MX_OK;
  }
  /* Each input in turn: its shape, and where its channels are. */
  for (int i = 0, channel = 0; i < g->n_in; i++) {
    char first[32];
    snprintf(first, sizeof(first), "%d", channel);
    if (p->multi_input_mode == INPUTS_CONCAT) channel += (int)g->in_shape[i].dim[1];
    if (!g->wanted[i]) continue;
    const char *const attrs[] = {"channel", first, NULL};
    in[1] = g->in[i];
    MX_TRY(mx_grad_call(g, "_backward_UpSampling", attrs, in, 2, &g->in_grad[i], err));
  }
  return MX_OK;
}

typedef struct backward_params {
  int64_t channel;
} backward_params;
static const mx_param backward_table[] = {
    MX_P_INT(backward_params, channel, "0", 0, INT32_MAX, "First channel of the input in the output."), MX_P_END};

static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_layer_unify(&in[1], &out[0], "data", err);
}

static mx_status upsampling_backward(const mx_call *c, mx_error *err) {
  const mx_tensor dy = c->in[0], dx = c->out[0];
  if (c->req[0] != MX_NULL) nearest_input(&dx, &dy, ((const backward_params *)c->params)->channel, false, true);
  return MX_OK;
}

const mx_op mx_ops_upsampling[] = {
    {.name = "UpSampling",
     .family = "Neural-network layers",
     .doc = "Makes images `scale` times as high and wide. nearest repeats every place; several inputs of different "
            "sizes all "
            "grow to the size of the first one's output and are joined along the channels or added. bilinear is a "
            "deconvolution with one filter a channel, kernel 2 * scale - scale % 2, stride scale and pad floor(scale / "
            "2): "
            "with the weights of mx.init.bilinear, or trained ones.",
     .in_doc = MX_STRINGS(
         "(batch, channels, height, width), one or more; with bilinear: data of that shape and weight of shape "
         "(num_filter, 1, kernel, kernel)."),
     .params = upsampling_table,
     .params_size = sizeof(upsampling_params),
     .check = upsampling_check,
     .n_in = 1,
     .n_out = 1,
     .num_args = "num_args",
     .count_in = upsampling_count_in,
     .in_name = upsampling_in_name,
     .infer_shape = upsampling_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = upsampling_gradient,
     .prepare = upsampling_prepare,
     .release = mx_layer_release,
     .kernel = upsampling_forward},
    {.name = "_backward_UpSampling",
     .family = "Neural-network layers",
     .doc = "Gradient of UpSampling by one input of nearest.",
     .params = backward_table,
     .params_size = sizeof(backward_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "data"),
     .infer_shape = backward_infer,
     .infer_dtype = mx_layer_infer_float,
     .flags = MX_OP_HIDDEN,
     .kernel = upsampling_backward},
    {0}};
