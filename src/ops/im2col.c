/* im2col and col2im as operators: the patches of a convolution as a matrix, and back. Each is the gradient of the
 * other. */
#include <stdio.h>
#include <string.h>

#include "ops/conv.h"

typedef struct im2col_params {
  mx_shape output_size, kernel, stride, dilate, pad;
} im2col_params;

#define TABLE_TAIL                                                                                    \
  MX_P_TUPLE(im2col_params, kernel, NULL, 1, INT32_MAX, "Size of the window."),                       \
      MX_P_TUPLE(im2col_params, stride, "()", 1, INT32_MAX, "Step of the window; 1 by default."),     \
      MX_P_TUPLE(im2col_params, dilate, "()", 1, INT32_MAX, "Distance of its points; 1 by default."), \
      MX_P_TUPLE(im2col_params, pad, "()", 0, INT32_MAX, "Zeros added on both sides; none by default."), MX_P_END
static const mx_param im2col_table[] = {TABLE_TAIL};
static const mx_param col2im_table[] = {
    MX_P_TUPLE(im2col_params, output_size, NULL, 0, INT32_MAX, "Size of the image."), TABLE_TAIL};

static mx_status im2col_check(void *params, mx_error *err) {
  im2col_params *p = params;
  if (p->kernel.ndim < 1 || p->kernel.ndim > 3)
    return mx_layer_fail(err, MX_ERR_VALUE, "kernel", "kernel must have 1, 2 or 3 entries.");
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->stride, 1, "stride", err));
  MX_TRY(mx_conv_check_tuple(&p->kernel, &p->dilate, 1, "dilate", err));
  return mx_conv_check_tuple(&p->kernel, &p->pad, 0, "pad", err);
}

static mx_status col2im_check(void *params, mx_error *err) {
  im2col_params *p = params;
  MX_TRY(im2col_check(p, err));
  return mx_conv_check_tuple(&p->kernel, &p->output_size, 1, "output_size", err);
}

/* Window places along axis i of an image; -1 when the window does not fit. */
static int64_t places(const im2col_params *p, int i, int64_t size) {
  const int64_t room = size + 2 * p->pad.dim[i] - (p->kernel.dim[i] - 1) * p->dilate.dim[i] - 1;
  return room < 0 ? -1 : room / p->stride.dim[i] + 1;
}

/* Fills image (batch, channels, space...) and matrix (batch, channels * kernel, places) from each other. */
static mx_status infer(const im2col_params *p, mx_shape *image, mx_shape *matrix, mx_error *err) {
  const int nd = p->kernel.ndim;
  mx_shape want_image = {.ndim = nd + 2}, want = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  int64_t kernel;
  for (int i = 0; i < nd + 2; i++) want_image.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(image, &want_image, "image", err));
  MX_TRY(mx_shape_merge(matrix, &want, "columns", err));
  MX_TRY(mx_layer_known_prod(&p->kernel, 0, nd, &kernel, err));
  if (image->dim[1] != MX_DIM_UNKNOWN) {
    mx_shape rows = mx_shape_of(image->dim[1], kernel);
    MX_TRY(mx_layer_known_prod(&rows, 0, 2, &want.dim[1], err));
  }
  mx_shape grid = {.ndim = nd};
  for (int i = 0; i < nd; i++) {
    grid.dim[i] = image->dim[2 + i];
    if (grid.dim[i] == MX_DIM_UNKNOWN) continue;
    grid.dim[i] = places(p, i, grid.dim[i]);
    if (grid.dim[i] < 0)
      return mx_layer_fail(err, MX_ERR_SHAPE, "kernel", "The window does not fit into an image of %lld places.",
                           (long long)image->dim[2 + i]);
  }
  MX_TRY(mx_layer_known_prod(&grid, 0, nd, &want.dim[2], err));
  want.dim[0] = image->dim[0];
  MX_TRY(mx_shape_merge(matrix, &want, "columns", err));
  MX_TRY(mx_layer_set_dim(image, 0, matrix->dim[0], "image", err));
  if (matrix->dim[1] == MX_DIM_UNKNOWN) return MX_OK;
  if (matrix->dim[1] % kernel != 0)
    return mx_layer_fail(err, MX_ERR_SHAPE, "data",
                         "data has %lld rows, which is not a multiple of the window's %lld places.",
                         (long long)matrix->dim[1], (long long)kernel);
  return mx_layer_set_dim(image, 1, matrix->dim[1] / kernel, "image", err);
}

static mx_status im2col_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return infer(params, &in[0], &out[0], err);
}

static mx_status col2im_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const im2col_params *p = params;
  mx_shape image = {.ndim = p->kernel.ndim + 2};
  image.dim[0] = image.dim[1] = MX_DIM_UNKNOWN;
  for (int i = 0; i < p->kernel.ndim; i++) image.dim[2 + i] = p->output_size.dim[i];
  MX_TRY(mx_shape_merge(&out[0], &image, "output", err));
  return infer(p, &out[0], &in[0], err);
}

static mx_conv view(const im2col_params *p, const mx_shape *image) {
  mx_shape grid = *image;
  for (int i = 0; i < p->kernel.ndim; i++) grid.dim[2 + i] = places(p, i, image->dim[2 + i]);
  return mx_conv_make(&p->kernel, &p->stride, &p->dilate, &p->pad, 1, false, image, &grid);
}

static mx_status im2col_forward(const mx_call *c, mx_error *err) {
  const mx_conv v = view(c->params, &c->in[0].shape);
  const size_t size = mx_dtype_size(c->out[0].dtype);
  const int64_t image = v.channels * mx_conv_in_size(&v),
                matrix = v.channels * mx_conv_kernel_size(&v) * mx_conv_out_size(&v);
  for (int64_t i = 0; c->req[0] != MX_NULL && i < v.batch; i++)
    mx_im2col(&v, c->out[0].dtype, (const char *)c->in[0].data + (size_t)(i * image) * size, 1, v.channels,
              (char *)c->out[0].data + (size_t)(i * matrix) * size);
  return MX_OK;
}

static mx_status col2im_forward(const mx_call *c, mx_error *err) {
  const mx_conv v = view(c->params, &c->out[0].shape);
  const size_t size = mx_dtype_size(c->out[0].dtype);
  const int64_t image = v.channels * mx_conv_in_size(&v),
                matrix = v.channels * mx_conv_kernel_size(&v) * mx_conv_out_size(&v);
  if (c->req[0] == MX_NULL) return MX_OK;
  memset(c->out[0].data, 0, (size_t)(v.batch * image) * size);
  for (int64_t i = 0; i < v.batch; i++)
    mx_col2im(&v, c->out[0].dtype, (const char *)c->in[0].data + (size_t)(i * matrix) * size, 1, v.channels,
              (char *)c->out[0].data + (size_t)(i * image) * size);
  return MX_OK;
}

static void tuple_text(const mx_shape *s, int from, char buf[MX_SHAPE_TEXT]) {
  mx_shape part = mx_shape_make(s->ndim - from, s->dim + from);
  mx_shape_text(&part, buf);
}

/* The other operator with the same windows. `image` gives output_size to col2im. */
static mx_status call_adjoint(mx_grad *g, const char *op, const mx_shape *image, mx_error *err) {
  const im2col_params *p = g->params;
  char text[5][MX_SHAPE_TEXT];
  tuple_text(&p->kernel, 0, text[0]), tuple_text(&p->stride, 0, text[1]), tuple_text(&p->dilate, 0, text[2]);
  tuple_text(&p->pad, 0, text[3]);
  if (image) tuple_text(image, 2, text[4]);
  const char *const attrs[] = {
      "kernel", text[0], "stride", text[1], "dilate", text[2], "pad", text[3], image ? "output_size" : NULL,
      text[4],  NULL};
  mx_entry head;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return mx_grad_call(g, op, attrs, &head, 1, &g->in_grad[0], err);
}
static mx_status im2col_gradient(mx_grad *g, mx_error *err) { return call_adjoint(g, "col2im", &g->in_shape[0], err); }
static mx_status col2im_gradient(mx_grad *g, mx_error *err) { return call_adjoint(g, "im2col", NULL, err); }

const mx_op mx_ops_im2col[] = {
    {.name = "im2col",
     .family = "Neural-network layers",
     .doc =
         "The patches under a sliding window as columns of a matrix: row (channel, window place), column (place of the "
         "window). Convolution is a product with this matrix.",
     .in_doc = MX_STRINGS("(batch, channels, space...); the output is (batch, channels * prod(kernel), places)."),
     .params = im2col_table,
     .params_size = sizeof(im2col_params),
     .check = im2col_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = im2col_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = im2col_gradient,
     .kernel = im2col_forward},
    {.name = "col2im",
     .family = "Neural-network layers",
     .doc = "The adjoint of im2col: every place of the image is the sum of the matrix elements that im2col would copy "
            "it to.",
     .in_doc = MX_STRINGS("(batch, channels * prod(kernel), places); the output is (batch, channels, output_size...)."),
     .params = col2im_table,
     .params_size = sizeof(im2col_params),
     .check = col2im_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = col2im_infer,
     .infer_dtype = mx_layer_infer_float,
     .gradient = col2im_gradient,
     .kernel = col2im_forward},
    {0}};
