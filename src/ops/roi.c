/* ROIPooling: the largest value in each cell of a grid laid over regions of images. A hidden output keeps where it was
 * found. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/manipulate.h"

typedef struct roi_params {
  mx_shape pooled_size;
  double spatial_scale;
  mx_shape shape; /* of the backward operator: the shape of data */
} roi_params;

#define ROI_ROWS                                                                          \
  MX_P_TUPLE(roi_params, pooled_size, NULL, 1, 65536, "Height and width of the output."), \
      MX_P_FLOAT(                                                                         \
          roi_params, spatial_scale, NULL, MX_ANY,                                        \
          "Coordinates of the regions are multiplied by it: size of data over size of the image they refer to.")

static const mx_param roi_table[] = {ROI_ROWS, MX_P_END};
static const mx_param back_table[] = {
    ROI_ROWS, MX_P_TUPLE(roi_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

static mx_status roi_check(void *params, mx_error *err) {
  const roi_params *p = params;
  if (p->pooled_size.ndim != 2)
    return mx_fail(err, MX_ERR_VALUE, "pooled_size must have two elements, height and width.");
  if (!isfinite(p->spatial_scale)) return mx_fail(err, MX_ERR_VALUE, "spatial_scale must be finite.");
  return MX_OK;
}

static mx_status roi_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const roi_params *p = params;
  mx_shape data = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  mx_shape rois = mx_shape_of(MX_DIM_UNKNOWN, 5);
  MX_TRY(mx_shape_merge(&in[0], &data, "data", err));
  MX_TRY(mx_shape_merge(&in[1], &rois, "rois", err));
  if (in[0].dim[2] > INT32_MAX || in[0].dim[3] > INT32_MAX ||
      (in[0].dim[2] > 0 && in[0].dim[3] > INT32_MAX / in[0].dim[2]))
    return mx_fail(err, MX_ERR_SHAPE, "The images are too large.");
  mx_shape want = mx_shape_of(in[1].dim[0], in[0].dim[1], p->pooled_size.dim[0], p->pooled_size.dim[1]);
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  return mx_shape_merge(&out[1], &want, "argmax", err);
}

static mx_status roi_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype index = MX_INT32;
  MX_TRY(mx_layer_infer_float(params, in, n_in, out, 1, err));
  return mx_dtype_unify(&index, &out[1], "argmax", err);
}

static int one_visible(const void *params) { return 1; }

/* A region on the pixels: [top, top + rows) x [left, left + cols), which may stick out of the image. */
typedef struct region {
  int64_t image, top, left, rows, cols;
} region;

static int64_t rounded(double x) {
  double r = round(x);
  return r >= -0x1p40 && r <= 0x1p40 ? (int64_t)r : r > 0 ? (int64_t)1 << 40 : -((int64_t)1 << 40);
}

static region read_region(const mx_tensor *rois, int64_t i, double scale) {
  double v[5];
  mx_convert((const char *)rois->data + (size_t)(5 * i) * mx_dtype_size(rois->dtype), rois->dtype, v, MX_FLOAT64, 5);
  region r = {rounded(trunc(v[0])), rounded(v[2] * scale), rounded(v[1] * scale), 0, 0};
  r.rows = rounded(v[4] * scale) - r.top + 1;
  r.cols = rounded(v[3] * scale) - r.left + 1;
  if (r.rows < 1) r.rows = 1;
  if (r.cols < 1) r.cols = 1;
  return r;
}

/* Pixels of cell i of n along a region that begins at `begin`, cut to [0, size). */
static void cell_range(int64_t begin, int64_t length, int64_t i, int64_t n, int64_t size, int64_t *lo, int64_t *hi) {
  float cell = (float)length / (float)n; /* single precision decides, as it always has, which pixels a cell has */
  *lo = mx_clamp_index((int64_t)floorf((float)i * cell) + begin, size + 1);
  *hi = mx_clamp_index((int64_t)ceilf((float)(i + 1) * cell) + begin, size + 1);
}

#define DEFINE_POOL(T)                                                                                       \
  static void pool_##T(const region *r, const T *data, int64_t h, int64_t w, int64_t ph, int64_t pw, T *out, \
                       int32_t *argmax) {                                                                    \
    for (int64_t i = 0; i < ph; i++) {                                                                       \
      for (int64_t j = 0; j < pw; j++) {                                                                     \
        int64_t y0, y1, x0, x1, best = -1;                                                                   \
        T value = 0;                                                                                         \
        cell_range(r->top, r->rows, i, ph, h, &y0, &y1);                                                     \
        cell_range(r->left, r->cols, j, pw, w, &x0, &x1);                                                    \
        for (int64_t y = y0; y < y1; y++)                                                                    \
          for (int64_t x = x0; x < x1; x++)                                                                  \
            if (best < 0 || data[y * w + x] > value) {                                                       \
              best = y * w + x;                                                                              \
              value = data[best];                                                                            \
            }                                                                                                \
        if (out) out[i * pw + j] = value;                                                                    \
        if (argmax) argmax[i * pw + j] = (int32_t)best;                                                      \
      }                                                                                                      \
    }                                                                                                        \
  }
DEFINE_POOL(float)
DEFINE_POOL(double)
DEFINE_POOL(mx_half)

static mx_status check_images(const mx_call *c, int rois, int64_t images, double scale, mx_error *err) {
  for (int64_t i = 0; i < c->in[rois].shape.dim[0]; i++) {
    region r = read_region(&c->in[rois], i, scale);
    if (r.image >= 0 && r.image < images) continue;
    mx_fail(err, MX_ERR_VALUE, "Region %" PRId64 " is in image %" PRId64 ", but data has %" PRId64 " images.", i,
            r.image, images);
    mx_error_set(err, argument, "rois");
    return MX_ERR_VALUE;
  }
  return MX_OK;
}

static mx_status roi_kernel(const mx_call *c, mx_error *err) {
  const roi_params *p = c->params;
  const mx_shape *s = &c->in[0].shape;
  int64_t n = c->out[0].shape.dim[0], channels = s->dim[1], h = s->dim[2], w = s->dim[3];
  int64_t ph = p->pooled_size.dim[0], pw = p->pooled_size.dim[1];
  bool value = c->req[0] != MX_NULL;
  MX_TRY(check_images(c, 1, s->dim[0], p->spatial_scale, err));
#pragma omp parallel for collapse(2) num_threads(mx_threads_for(n *channels *ph *pw * 16, MX_GRAIN))
  for (int64_t i = 0; i < n; i++) {
    for (int64_t k = 0; k < channels; k++) {
      region r = read_region(&c->in[1], i, p->spatial_scale);
      int64_t from = (r.image * channels + k) * h * w, to = (i * channels + k) * ph * pw;
      int32_t *argmax = c->req[1] != MX_NULL ? (int32_t *)c->out[1].data + to : NULL;
      switch (c->in[0].dtype) {
        case MX_FLOAT32:
          pool_float(&r, (const float *)c->in[0].data + from, h, w, ph, pw, value ? (float *)c->out[0].data + to : NULL,
                     argmax);
          break;
        case MX_FLOAT64:
          pool_double(&r, (const double *)c->in[0].data + from, h, w, ph, pw,
                      value ? (double *)c->out[0].data + to : NULL, argmax);
          break;
        default:
          pool_mx_half(&r, (const mx_half *)c->in[0].data + from, h, w, ph, pw,
                       value ? (mx_half *)c->out[0].data + to : NULL, argmax);
          break;
      }
    }
  }
  return MX_OK;
}

static mx_status roi_gradient(mx_grad *g, mx_error *err) {
  const roi_params *p = g->params;
  mx_entry in[3] = {MX_NO_ENTRY, g->in[1], g->out[1]};
  char size[MX_SHAPE_TEXT], shape[MX_SHAPE_TEXT], scale[40];
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  mx_tuple_text(p->pooled_size.dim, 2, size);
  mx_tuple_text(g->in_shape[0].dim, 4, shape);
  snprintf(scale, sizeof(scale), "%.17g", p->spatial_scale);
  return mx_grad_call(g, "_backward_ROIPooling",
                      (const char *const[]){"pooled_size", size, "spatial_scale", scale, "shape", shape, NULL}, in, 3,
                      &g->in_grad[0], err);
}

/* ---- backward: (head, rois, argmax) to data ---- */

static mx_status back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &in[2], "argmax", err));
  return mx_shape_merge(&out[0], &((const roi_params *)params)->shape, "gradient of data", err);
}
static mx_status back_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype index = MX_INT32;
  MX_TRY(mx_dtype_unify(&index, &in[2], "argmax", err));
  return mx_dtype_unify(&in[0], &out[0], "output", err);
}

/* A channel of all images belongs to one thread; regions come in order. */
static mx_status back_kernel(const mx_call *c, mx_error *err) {
  const roi_params *p = c->params;
  const mx_shape *s = &c->out[0].shape;
  int64_t n = c->in[0].shape.dim[0], channels = s->dim[1], plane = s->dim[2] * s->dim[3];
  int64_t cells = p->pooled_size.dim[0] * p->pooled_size.dim[1];
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(check_images(c, 1, s->dim[0], p->spatial_scale, err));
  if (c->req[0] != MX_ADD) MX_TRY(mx_zero_output(c, 0, err));
#pragma omp parallel for num_threads(mx_threads_for(n *channels *cells, MX_GRAIN))
  for (int64_t k = 0; k < channels; k++) {
    for (int64_t i = 0; i < n; i++) {
      region r = read_region(&c->in[1], i, p->spatial_scale);
      int64_t to = (r.image * channels + k) * plane, from = (i * channels + k) * cells;
      const int32_t *argmax = (const int32_t *)c->in[2].data + from;
      MX_SWITCH_FLOAT(c->out[0].dtype, (void)0,
                      for (int64_t j = 0; j < cells; j++) if (argmax[j] >= 0 && argmax[j] < plane)(
                          (T *)c->out[0].data)[to + argmax[j]] += ((const T *)c->in[0].data)[from + j];)
    }
  }
  return MX_OK;
}

const mx_op mx_ops_roi[] = {
    {.name = "ROIPooling",
     .family = "Spatial and detection",
     .doc = "Max pooling of regions of interest to a fixed size: (batch, channel, h, w) and n regions -> (n, channel, "
            "pooled_size[0], pooled_size[1]). The corners of a region are multiplied by spatial_scale and rounded, "
            "both belong to "
            "it; it is divided into cells of equal size, which may overlap by a pixel. A cell without pixels gives 0.",
     .in_doc = MX_STRINGS("(batch, channel, height, width).", "(n, 5): image, x1, y1, x2, y2 of each region."),
     .in_names = MX_STRINGS("data", "rois"),
     .out_names = MX_STRINGS("output", "argmax"),
     .source = "Girshick, Fast R-CNN, ICCV 2015",
     .params = roi_table,
     .params_size = sizeof(roi_params),
     .check = roi_check,
     .n_in = 2,
     .n_out = 2,
     .count_visible = one_visible,
     .infer_shape = roi_infer,
     .infer_dtype = roi_dtype,
     .gradient = roi_gradient,
     .kernel = roi_kernel},
    {.name = "_backward_ROIPooling",
     .family = "Spatial and detection",
     .in_names = MX_STRINGS("head", "rois", "argmax"),
     .params = back_table,
     .params_size = sizeof(roi_params),
     .check = roi_check,
     .n_in = 3,
     .n_out = 1,
     .infer_shape = back_infer,
     .infer_dtype = back_dtype,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS,
     .kernel = back_kernel},
    {0}};
