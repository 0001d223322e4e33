/* Correlation: products (or distances) of patches of two images, for all displacements of the second within a window.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/manipulate.h"

typedef struct correlation_params {
  int64_t kernel_size, max_displacement, stride1, stride2, pad_size;
  bool is_multiply;
} correlation_params;

#define LIMIT (1 << 20)

static const mx_param correlation_table[] = {
    MX_P_INT(correlation_params, kernel_size, "1", 1, LIMIT, "Side length of the patches, odd."),
    MX_P_INT(correlation_params, max_displacement, "1", 0, LIMIT, "Largest displacement in each direction."),
    MX_P_INT(correlation_params, stride1, "1", 1, LIMIT, "Distance of neighbouring patches of data1."),
    MX_P_INT(correlation_params, stride2, "1", 1, LIMIT, "Distance of neighbouring displacements."),
    MX_P_INT(correlation_params, pad_size, "0", 0, LIMIT, "Zeros around both images."),
    MX_P_BOOL(correlation_params, is_multiply, "True", "Multiply; False: absolute differences."),
    MX_P_END};

static mx_status correlation_check(void *params, mx_error *err) {
  const correlation_params *p = params;
  if (p->kernel_size % 2 == 0)
    return mx_fail(err, MX_ERR_VALUE, "kernel_size must be odd, but is %" PRId64 ".", p->kernel_size);
  return MX_OK;
}

/* Sizes of everything. Places are counted in the images without padding, so they may be negative. */
typedef struct geometry {
  int64_t n, c, h, w;     /* of the images */
  int64_t shifts, oh, ow; /* displacements in one direction, size of the output */
  int64_t kernel, first, stride1, stride2, radius;
  bool multiply;
  double scale;
} geometry;

static mx_status make_geometry(const correlation_params *p, const mx_shape *data, geometry *g, mx_error *err) {
  int64_t border = p->max_displacement + (p->kernel_size - 1) / 2;
  *g = (geometry){.n = data->dim[0], .c = data->dim[1], .h = data->dim[2], .w = data->dim[3]};
  g->radius = p->max_displacement / p->stride2;
  g->shifts = 2 * g->radius + 1;
  g->kernel = p->kernel_size;
  g->first = p->max_displacement - p->pad_size;
  g->stride1 = p->stride1;
  g->stride2 = p->stride2;
  g->multiply = p->is_multiply;
  int64_t rows = g->h + 2 * p->pad_size - 2 * border, cols = g->w + 2 * p->pad_size - 2 * border;
  if (rows < 1 || cols < 1) {
    char text[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE,
            "Images of shape %s are too small for this kernel_size and max_displacement; increase pad_size.",
            mx_shape_text(data, text));
    mx_error_set(err, actual, "%s", text);
    return MX_ERR_SHAPE;
  }
  g->oh = (rows - 1) / p->stride1 + 1;
  g->ow = (cols - 1) / p->stride1 + 1;
  g->scale = 1 / ((double)g->kernel * (double)g->kernel * (double)(g->c > 0 ? g->c : 1));
  return MX_OK;
}

static mx_status pair_infer(const correlation_params *p, mx_shape *a, mx_shape *b, mx_shape *out, mx_error *err) {
  mx_shape four = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  geometry g;
  MX_TRY(mx_shape_merge(a, &four, "data1", err));
  MX_TRY(mx_layer_unify(a, b, "data2", err));
  if (!mx_shape_known(a)) return MX_OK;
  MX_TRY(mx_shape_check_size(a, 8, err));
  MX_TRY(make_geometry(p, a, &g, err));
  mx_shape want = mx_shape_of(g.n, g.shifts * g.shifts, g.oh, g.ow);
  return mx_shape_merge(out, &want, "output", err);
}

static mx_status correlation_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                   mx_error *err) {
  return pair_infer(params, &in[0], &in[1], &out[0], err);
}

/* For output (i, j) and displacement (sy, sx): the patch of the first image begins at (y, x), that of the second at (y
 * + sy, x + sx). Element of an image, 0 in the padding. */
#define PIXEL(image, y, x) ((y) >= 0 && (y) < g->h && (x) >= 0 && (x) < g->w ? (double)(image)[(y)*g->w + (x)] : 0)

#define DEFINE_CORRELATION(T)                                                                                        \
  /* One plane of the output: image n, displacement `shift`. */                                                      \
  static void correlate_##T(const geometry *g, const T *a, const T *b, int64_t shift, T *out) {                      \
    int64_t sy = (shift / g->shifts - g->radius) * g->stride2, sx = (shift % g->shifts - g->radius) * g->stride2;    \
    for (int64_t i = 0; i < g->oh; i++) {                                                                            \
      for (int64_t j = 0; j < g->ow; j++) {                                                                          \
        double sum = 0;                                                                                              \
        for (int64_t c = 0; c < g->c; c++) {                                                                         \
          const T *p = a + c * g->h * g->w, *q = b + c * g->h * g->w;                                                \
          for (int64_t u = 0; u < g->kernel; u++) {                                                                  \
            int64_t y = g->first + i * g->stride1 + u;                                                               \
            for (int64_t v = 0; v < g->kernel; v++) {                                                                \
              int64_t x = g->first + j * g->stride1 + v;                                                             \
              double r = PIXEL(p, y, x), s = PIXEL(q, y + sy, x + sx);                                               \
              sum += g->multiply ? r * s : fabs(r - s);                                                              \
            }                                                                                                        \
          }                                                                                                          \
        }                                                                                                            \
        out[i * g->ow + j] = (T)(sum * g->scale);                                                                    \
      }                                                                                                              \
    }                                                                                                                \
  }                                                                                                                  \
  /* Gradients of one channel of one image of both inputs, summed in da and db. */                                   \
  static void correlate_back_##T(const geometry *g, const T *p, const T *q, const T *head, double *da, double *db) { \
    for (int64_t shift = 0; shift < g->shifts * g->shifts; shift++) {                                                \
      int64_t sy = (shift / g->shifts - g->radius) * g->stride2, sx = (shift % g->shifts - g->radius) * g->stride2;  \
      for (int64_t i = 0; i < g->oh; i++) {                                                                          \
        for (int64_t j = 0; j < g->ow; j++) {                                                                        \
          double d = (double)head[(shift * g->oh + i) * g->ow + j] * g->scale;                                       \
          for (int64_t u = 0; u < g->kernel; u++) {                                                                  \
            int64_t y = g->first + i * g->stride1 + u;                                                               \
            for (int64_t v = 0; v < g->kernel; v++) {                                                                \
              int64_t x = g->first + j * g->stride1 + v;                                                             \
              double r = PIXEL(p, y, x), s = PIXEL(q, y + sy, x + sx), sign = r >= s ? 1 : -1;                       \
              if (y >= 0 && y < g->h && x >= 0 && x < g->w) da[y * g->w + x] += d * (g->multiply ? s : sign);        \
              if (y + sy >= 0 && y + sy < g->h && x + sx >= 0 && x + sx < g->w)                                      \
                db[(y + sy) * g->w + x + sx] += d * (g->multiply ? r : -sign);                                       \
            }                                                                                                        \
          }                                                                                                          \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
  }                                                                                                                  \
  static void store_##T(const double *sum, T *out, int64_t n) {                                                      \
    for (int64_t i = 0; i < n; i++) out[i] = (T)sum[i];                                                              \
  }
DEFINE_CORRELATION(float)
DEFINE_CORRELATION(double)
DEFINE_CORRELATION(mx_half)

static mx_status correlation_kernel(const mx_call *c, mx_error *err) {
  geometry g;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(make_geometry(c->params, &c->in[0].shape, &g, err));
  int64_t shifts = g.shifts * g.shifts, image = g.c * g.h * g.w, plane = g.oh * g.ow;
#pragma omp parallel for collapse(2) num_threads(mx_threads_for(g.n *shifts *plane *g.c *g.kernel *g.kernel, MX_GRAIN))
  for (int64_t n = 0; n < g.n; n++) {
    for (int64_t s = 0; s < shifts; s++) {
      int64_t from = n * image, to = (n * shifts + s) * plane;
      const void *a = c->in[0].data, *b = c->in[1].data;
      switch (c->in[0].dtype) {
        case MX_FLOAT32:
          correlate_float(&g, (const float *)a + from, (const float *)b + from, s, (float *)c->out[0].data + to);
          break;
        case MX_FLOAT64:
          correlate_double(&g, (const double *)a + from, (const double *)b + from, s, (double *)c->out[0].data + to);
          break;
        default:
          correlate_mx_half(&g, (const mx_half *)a + from, (const mx_half *)b + from, s,
                            (mx_half *)c->out[0].data + to);
          break;
      }
    }
  }
  return MX_OK;
}

static mx_status correlation_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_Correlation", in, 3, 2, err);
}

/* ---- backward: (head, data1, data2) to (data1, data2) ---- */

static mx_status back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(pair_infer(params, &in[1], &in[2], &in[0], err));
  MX_TRY(mx_layer_unify(&in[1], &out[0], "data1", err));
  return mx_layer_unify(&in[2], &out[1], "data2", err);
}

static int64_t back_work(const geometry *g) {
  return g->n * g->c * g->shifts * g->shifts * g->oh * g->ow * g->kernel * g->kernel;
}
static size_t plane_bytes(const geometry *g) { return mx_align64((size_t)(g->h * g->w) * sizeof(double)); }

static mx_status back_prepare(mx_call *c, mx_error *err) {
  geometry g;
  MX_TRY(make_geometry(c->params, &c->in[1].shape, &g, err));
  int64_t planes = g.n * g.c, threads = mx_threads_at_most(back_work(&g), MX_GRAIN);
  c->workspace_bytes = 2 * plane_bytes(&g) * (size_t)(threads < planes ? threads : planes);
  return MX_OK;
}

static void back_plane(const mx_call *c, const geometry *g, int64_t plane, double *da, double *db) {
  int64_t size = g->h * g->w, at = plane * size, head = plane / g->c * g->shifts * g->shifts * g->oh * g->ow;
  memset(da, 0, (size_t)size * sizeof(*da));
  memset(db, 0, (size_t)size * sizeof(*db));
  void *out[2] = {c->req[0] == MX_NULL ? NULL : c->out[0].data, c->req[1] == MX_NULL ? NULL : c->out[1].data};
  const double *sum[2] = {da, db};
  switch (c->in[1].dtype) {
    case MX_FLOAT32:
      correlate_back_float(g, (const float *)c->in[1].data + at, (const float *)c->in[2].data + at,
                           (const float *)c->in[0].data + head, da, db);
      for (int i = 0; i < 2; i++)
        if (out[i]) store_float(sum[i], (float *)out[i] + at, size);
      break;
    case MX_FLOAT64:
      correlate_back_double(g, (const double *)c->in[1].data + at, (const double *)c->in[2].data + at,
                            (const double *)c->in[0].data + head, da, db);
      for (int i = 0; i < 2; i++)
        if (out[i]) store_double(sum[i], (double *)out[i] + at, size);
      break;
    default:
      correlate_back_mx_half(g, (const mx_half *)c->in[1].data + at, (const mx_half *)c->in[2].data + at,
                             (const mx_half *)c->in[0].data + head, da, db);
      for (int i = 0; i < 2; i++)
        if (out[i]) store_mx_half(sum[i], (mx_half *)out[i] + at, size);
      break;
  }
}

/* A channel of an image belongs to one thread, which adds in a fixed order. */
static mx_status back_kernel(const mx_call *c, mx_error *err) {
  geometry g;
  MX_TRY(make_geometry(c->params, &c->in[1].shape, &g, err));
  int64_t planes = g.n * g.c;
  size_t each = plane_bytes(&g);
  if (planes == 0) return MX_OK;
  int threads = mx_threads_for(back_work(&g), MX_GRAIN), sets = (int)(c->workspace_bytes / (2 * each));
  if (threads > sets) threads = sets;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int w = 0; w < threads; w++) {
    double *da = (double *)((char *)c->workspace + 2 * each * (size_t)w), *db = (double *)((char *)da + each);
    for (int64_t p = planes * w / threads; p < planes * (w + 1) / threads; p++) back_plane(c, &g, p, da, db);
  }
  return MX_OK;
}

#define CORRELATION                                                                                          \
  .family = "Spatial and detection", .params = correlation_table, .params_size = sizeof(correlation_params), \
  .check = correlation_check, .infer_dtype = mx_layer_infer_float

const mx_op mx_ops_correlation[] = {
    {.name = "Correlation",
     CORRELATION,
     .doc = "Compares patches of two images: output channel k belongs to displacement k of data2, row by row from (-d, "
            "-d) to (d, "
            "d) in steps of stride2 with d = max_displacement; its value is the sum of products (or absolute "
            "differences) over the "
            "patch and all channels, divided by their number.",
     .in_doc = MX_STRINGS("(batch, channel, height, width).", "(batch, channel, height, width)."),
     .in_names = MX_STRINGS("data1", "data2"),
     .source = "Dosovitskiy et al., FlowNet: Learning optical flow with convolutional networks, ICCV 2015",
     .n_in = 2,
     .n_out = 1,
     .infer_shape = correlation_infer,
     .gradient = correlation_gradient,
     .kernel = correlation_kernel},
    {.name = "_backward_Correlation",
     CORRELATION,
     .in_names = MX_STRINGS("head", "data1", "data2"),
     .n_in = 3,
     .n_out = 2,
     .infer_shape = back_infer,
     .flags = MX_OP_HIDDEN,
     .prepare = back_prepare,
     .kernel = back_kernel},
    {0}};
