/* Sampling images at computed places: GridGenerator makes the places, BilinearSampler reads there, SpatialTransformer
 * does both. A grid has shape (batch, 2, height, width): x, then y, where -1 is the centre of the first pixel and 1
 * that of the last.
 *
 * Gradients of an image sum up many points; threads share the planes (one image, one channel), and within a plane the
 * points come in order, so that results do not depend on the number of threads. */
#include <math.h>
#include <string.h>

#include "ops/manipulate.h"

/* ---- the four neighbours of points ---- */

typedef struct geometry {
  int64_t n, c, h, w, points;
} geometry;

static geometry make_geometry(const mx_shape *data, const mx_shape *grid) {
  return (geometry){data->dim[0], data->dim[1], data->dim[2], data->dim[3], grid->dim[2] * grid->dim[3]};
}

enum { POINTS = 512 }; /* that are taken at a time */

/* The neighbours of points in a plane: top left, top right, bottom left, bottom right. dx and dy are the fractions
 * within the cell. A neighbour outside counts as 0; its place is 0. */
typedef struct corners {
  int32_t at[4][POINTS], in[4][POINTS];
  double dx[POINTS], dy[POINTS];
  bool inside; /* all of them */
} corners;

/* For one image. sample: reads all channels at the points. back_data: adds up the gradient of one channel. back_grid:
 * makes the gradient of the grid. A is the type of sums.
 *
 * A neighbour outside has the weight 0, so that the pixel 0 may be read in its place if that is finite. */
#define DEFINE_SAMPLER(T, A)                                                                                          \
  MX_CLONES static void corners_##T(const geometry *g, const T *grid, int64_t lo, int64_t n, corners *k) {            \
    const double h = (double)g->h, w = (double)g->w;                                                                  \
    const int32_t ih = (int32_t)g->h, iw = (int32_t)g->w;                                                             \
    int32_t inside = 1;                                                                                               \
    _Pragma("omp simd reduction(& : inside)") for (int64_t p = 0; p < n; p++) {                                       \
      const double x = ((double)grid[lo + p] + 1) * (w - 1) / 2;                                                      \
      const double y = ((double)grid[g->points + lo + p] + 1) * (h - 1) / 2;                                          \
      const int32_t any = (x > -1) & (x < w) & (y > -1) & (y < h); /* not NaN */                                      \
      const double fx = floor(any ? x : 0), fy = floor(any ? y : 0);                                                  \
      const int32_t x0 = (int32_t)fx, y0 = (int32_t)fy, at = y0 * iw + x0;                                            \
      const int32_t left = any & (x0 >= 0), right = any & (x0 + 1 < iw);                                              \
      const int32_t top = y0 >= 0, bottom = y0 + 1 < ih;                                                              \
      k->dx[p] = any ? x - fx : 0;                                                                                    \
      k->dy[p] = any ? y - fy : 0;                                                                                    \
      k->in[0][p] = left & top;                                                                                       \
      k->in[1][p] = right & top;                                                                                      \
      k->in[2][p] = left & bottom;                                                                                    \
      k->in[3][p] = right & bottom;                                                                                   \
      k->at[0][p] = left & top ? at : 0;                                                                              \
      k->at[1][p] = right & top ? at + 1 : 0;                                                                         \
      k->at[2][p] = left & bottom ? at + iw : 0;                                                                      \
      k->at[3][p] = right & bottom ? at + iw + 1 : 0;                                                                 \
      inside &= left & right & top & bottom;                                                                          \
    }                                                                                                                 \
    k->inside = inside;                                                                                               \
  }                                                                                                                   \
  MX_CLONES static void weights_##T(const corners *k, int64_t n, A weight[4][POINTS]) {                               \
    _Pragma("omp simd") for (int64_t p = 0; p < n; p++) {                                                             \
      const double x = k->dx[p], y = k->dy[p];                                                                        \
      weight[0][p] = k->in[0][p] ? (A)((1 - x) * (1 - y)) : 0;                                                        \
      weight[1][p] = k->in[1][p] ? (A)(x * (1 - y)) : 0;                                                              \
      weight[2][p] = k->in[2][p] ? (A)((1 - x) * y) : 0;                                                              \
      weight[3][p] = k->in[3][p] ? (A)(x * y) : 0;                                                                    \
    }                                                                                                                 \
  }                                                                                                                   \
  MX_CLONES static void sample_##T(const geometry *g, const T *data, const T *grid, T *out, int64_t lo, int64_t hi) { \
    corners k;                                                                                                        \
    A weight[4][POINTS];                                                                                              \
    const int64_t plane = g->h * g->w, n = hi - lo;                                                                   \
    corners_##T(g, grid, lo, n, &k);                                                                                  \
    weights_##T(&k, n, weight);                                                                                       \
    for (int64_t c = 0; c < g->c; c++) {                                                                              \
      const T *s = data + c * plane;                                                                                  \
      T *o = out + c * g->points + lo;                                                                                \
      if (k.inside || isfinite((double)s[0])) {                                                                       \
        _Pragma("omp simd") for (int64_t p = 0; p < n; p++) o[p] =                                                    \
            (T)(weight[0][p] * (A)s[k.at[0][p]] + weight[1][p] * (A)s[k.at[1][p]] + weight[2][p] * (A)s[k.at[2][p]] + \
                weight[3][p] * (A)s[k.at[3][p]]);                                                                     \
      } else {                                                                                                        \
        for (int64_t p = 0; p < n; p++) {                                                                             \
          A v = 0;                                                                                                    \
          for (int i = 0; i < 4; i++) v += k.in[i][p] ? weight[i][p] * (A)s[k.at[i][p]] : 0;                          \
          o[p] = (T)v;                                                                                                \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
  static void sample_back_data_##T(const geometry *g, const T *grid, const T *head, int64_t channels, A *sum) {       \
    corners k;                                                                                                        \
    A weight[4][POINTS];                                                                                              \
    const int64_t plane = g->h * g->w;                                                                                \
    memset(sum, 0, (size_t)(channels * plane) * sizeof(*sum));                                                        \
    for (int64_t lo = 0; lo < g->points; lo += POINTS) {                                                              \
      const int64_t n = g->points - lo < POINTS ? g->points - lo : POINTS;                                            \
      corners_##T(g, grid, lo, n, &k);                                                                                \
      weights_##T(&k, n, weight);                                                                                     \
      for (int64_t c = 0; c < channels; c++) {                                                                        \
        const T *u = head + c * g->points + lo;                                                                       \
        A *s = sum + c * plane;                                                                                       \
        if (k.inside) {                                                                                               \
          for (int64_t p = 0; p < n; p++)                                                                             \
            _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) s[k.at[i][p]] += weight[i][p] * (A)u[p];              \
        } else {                                                                                                      \
          for (int64_t p = 0; p < n; p++)                                                                             \
            _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) if (k.in[i][p]) s[k.at[i][p]] +=                      \
                weight[i][p] * (A)u[p];                                                                               \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
  }                                                                                                                   \
  MX_CLONES static void sample_back_grid_##T(const geometry *g, const T *data, const T *grid, const T *head, T *out,  \
                                             int64_t lo, int64_t hi) {                                                \
    corners k;                                                                                                        \
    A sx[POINTS] = {0}, sy[POINTS] = {0}, dx[POINTS], dy[POINTS];                                                     \
    const int64_t plane = g->h * g->w, n = hi - lo;                                                                   \
    corners_##T(g, grid, lo, n, &k);                                                                                  \
    for (int64_t p = 0; p < n; p++) dx[p] = (A)k.dx[p], dy[p] = (A)k.dy[p];                                           \
    for (int64_t c = 0; c < g->c; c++) {                                                                              \
      const T *s = data + c * plane, *u = head + c * g->points + lo;                                                  \
      _Pragma("omp simd") for (int64_t p = 0; p < n; p++) {                                                           \
        A v[4];                                                                                                       \
        _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) v[i] = (A)s[k.at[i][p]];                                  \
        if (!k.inside) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) v[i] = k.in[i][p] ? v[i] : 0;              \
        sx[p] += (A)u[p] * ((v[1] - v[0]) * (1 - dy[p]) + (v[3] - v[2]) * dy[p]);                                     \
        sy[p] += (A)u[p] * ((v[2] - v[0]) * (1 - dx[p]) + (v[3] - v[1]) * dx[p]);                                     \
      }                                                                                                               \
    }                                                                                                                 \
    for (int64_t p = 0; p < n; p++) {                                                                                 \
      const bool any = k.in[0][p] | k.in[1][p] | k.in[2][p] | k.in[3][p];                                             \
      out[lo + p] = (T)(any ? sx[p] * (A)(g->w - 1) / 2 : 0);                                                         \
      out[g->points + lo + p] = (T)(any ? sy[p] * (A)(g->h - 1) / 2 : 0);                                             \
    }                                                                                                                 \
  }
DEFINE_SAMPLER(float, float)
DEFINE_SAMPLER(double, double)
DEFINE_SAMPLER(mx_half, float)

static void sample(const geometry *g, mx_dtype dtype, const void *data, const void *grid, void *out) {
  int64_t blocks = (g->points + POINTS - 1) / POINTS;
#pragma omp parallel for collapse(2) num_threads(mx_threads_for(g->n * g->points * (g->c + 4), MX_GRAIN / 4))
  for (int64_t n = 0; n < g->n; n++) {
    for (int64_t b = 0; b < blocks; b++) {
      int64_t lo = b * POINTS, hi = lo + POINTS < g->points ? lo + POINTS : g->points;
      int64_t d = n * g->c * g->h * g->w, q = n * 2 * g->points, o = n * g->c * g->points;
      switch (dtype) {
        case MX_FLOAT32:
          sample_float(g, (const float *)data + d, (const float *)grid + q, (float *)out + o, lo, hi);
          break;
        case MX_FLOAT64:
          sample_double(g, (const double *)data + d, (const double *)grid + q, (double *)out + o, lo, hi);
          break;
        default:
          sample_mx_half(g, (const mx_half *)data + d, (const mx_half *)grid + q, (mx_half *)out + o, lo, hi);
          break;
      }
    }
  }
}

/* ---- BilinearSampler ---- */

typedef struct sampler_params {
  int8_t cudnn_off;
} sampler_params;

#define CUDNN_DOC "Accepted and not used."
static const mx_param sampler_table[] = {MX_P_OPT_BOOL(sampler_params, cudnn_off, "None", CUDNN_DOC), MX_P_END};

static mx_shape four_dims(void) { return mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN); }

/* data, grid and what is sampled fit together. */
static mx_status sampler_shapes(mx_shape *data, mx_shape *grid, mx_shape *out, mx_error *err) {
  mx_shape d = four_dims(), g = four_dims();
  g.dim[1] = 2;
  MX_TRY(mx_shape_merge(data, &d, "data", err));
  MX_TRY(mx_shape_merge(grid, &g, "grid", err));
  g.dim[0] = data->dim[0];
  MX_TRY(mx_shape_merge(grid, &g, "grid", err));
  d.dim[0] = grid->dim[0];
  MX_TRY(mx_shape_merge(data, &d, "data", err));
  mx_shape want = mx_shape_of(data->dim[0], data->dim[1], grid->dim[2], grid->dim[3]);
  return mx_shape_merge(out, &want, "output", err);
}

static mx_status sampler_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return sampler_shapes(&in[0], &in[1], &out[0], err);
}

/* Pixels to read from are needed wherever there is a point. */
static mx_status check_pixels(const geometry *g, mx_error *err) {
  if (g->h > 0 && g->w > INT32_MAX / g->h)
    return mx_fail(err, MX_ERR_SHAPE, "data has more than 2^31 pixels an image: too many to sample from.");
  if (g->h > 0 && g->w > 0) return MX_OK;
  return g->n * g->c * g->points == 0 ? MX_OK : mx_fail(err, MX_ERR_SHAPE, "data has no pixels to sample from.");
}

static mx_status sampler_kernel(const mx_call *c, mx_error *err) {
  geometry g = make_geometry(&c->in[0].shape, &c->in[1].shape);
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(check_pixels(&g, err));
  sample(&g, c->in[0].dtype, c->in[0].data, c->in[1].data, c->out[0].data);
  return MX_OK;
}

static mx_status sampler_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[3] = {MX_NO_ENTRY, g->in[0], g->in[1]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_layer_backward(g, "_backward_BilinearSampler", in, 3, 2, err);
}

/* (head, data, grid) to the gradients of data and grid. */
static mx_status sampler_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                    mx_error *err) {
  MX_TRY(sampler_shapes(&in[1], &in[2], &in[0], err));
  MX_TRY(mx_layer_unify(&in[1], &out[0], "data", err));
  return mx_layer_unify(&in[2], &out[1], "grid", err);
}

static mx_status sampler_back_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = c->in[1].dtype == MX_FLOAT16 ? (size_t)mx_shape_size(&c->in[1].shape) * sizeof(float) : 0;
  return MX_OK;
}

/* Some channels of an image. Gradients in float16 are summed up in the workspace. */
static void back_channels(const geometry *g, mx_dtype t, const void *grid, const void *head, float *sum, void *out,
                          int64_t n, int64_t from, int64_t channels) {
  int64_t q = n * 2 * g->points, h = (n * g->c + from) * g->points, o = (n * g->c + from) * g->h * g->w;
  switch (t) {
    case MX_FLOAT32:
      sample_back_data_float(g, (const float *)grid + q, (const float *)head + h, channels, (float *)out + o);
      break;
    case MX_FLOAT64:
      sample_back_data_double(g, (const double *)grid + q, (const double *)head + h, channels, (double *)out + o);
      break;
    default:
      sample_back_data_mx_half(g, (const mx_half *)grid + q, (const mx_half *)head + h, channels, sum + o);
      mx_convert(sum + o, MX_FLOAT32, (mx_half *)out + o, MX_FLOAT16, channels * g->h * g->w);
      break;
  }
}

static void back_points(const geometry *g, mx_dtype t, const void *data, const void *grid, const void *head, void *out,
                        int64_t n, int64_t lo, int64_t hi) {
  int64_t d = n * g->c * g->h * g->w, q = n * 2 * g->points, h = n * g->c * g->points;
  switch (t) {
    case MX_FLOAT32:
      sample_back_grid_float(g, (const float *)data + d, (const float *)grid + q, (const float *)head + h,
                             (float *)out + q, lo, hi);
      break;
    case MX_FLOAT64:
      sample_back_grid_double(g, (const double *)data + d, (const double *)grid + q, (const double *)head + h,
                              (double *)out + q, lo, hi);
      break;
    default:
      sample_back_grid_mx_half(g, (const mx_half *)data + d, (const mx_half *)grid + q, (const mx_half *)head + h,
                               (mx_half *)out + q, lo, hi);
      break;
  }
}

static mx_status sampler_back_kernel(const mx_call *c, mx_error *err) {
  geometry g = make_geometry(&c->in[1].shape, &c->in[2].shape);
  mx_dtype t = c->in[1].dtype;
  const void *head = c->in[0].data, *data = c->in[1].data, *grid = c->in[2].data;
  MX_TRY(check_pixels(&g, err));
  if (c->req[0] != MX_NULL && g.h * g.w > 0) {
    const int64_t group = 8, groups = (g.c + group - 1) / group; /* of channels, which have the same points */
#pragma omp parallel for collapse(2) num_threads(mx_threads_for(g.n *g.c *(g.points + g.h * g.w), MX_GRAIN / 4))
    for (int64_t n = 0; n < g.n; n++)
      for (int64_t j = 0; j < groups; j++)
        back_channels(&g, t, grid, head, c->workspace, c->out[0].data, n, j * group,
                      g.c - j * group < group ? g.c - j * group : group);
  }
  if (c->req[1] != MX_NULL) {
    int64_t blocks = (g.points + POINTS - 1) / POINTS;
#pragma omp parallel for collapse(2) num_threads(mx_threads_for(g.n *g.points *(g.c + 4), MX_GRAIN / 4))
    for (int64_t n = 0; n < g.n; n++)
      for (int64_t b = 0; b < blocks; b++)
        back_points(&g, t, data, grid, head, c->out[1].data, n, b * POINTS,
                    (b + 1) * POINTS < g.points ? (b + 1) * POINTS : g.points);
  }
  return MX_OK;
}

/* ---- GridGenerator ---- */

typedef struct grid_params {
  int transform_type;
  mx_shape target_shape;
} grid_params;

enum { TRANSFORM_AFFINE, TRANSFORM_WARP };

static const mx_param grid_table[] = {
    MX_P_ENUM(grid_params, transform_type, NULL, MX_STRINGS("affine", "warp"),
              "affine: data are the six numbers of an affine map per image. warp: data are distances in pixels."),
    MX_P_TUPLE(grid_params, target_shape, "(0,0)", 0, (double)INT64_MAX, "Height and width of the grid, for affine."),
    MX_P_END};

static mx_status grid_check(void *params, mx_error *err) {
  const grid_params *p = params;
  if (p->transform_type == TRANSFORM_WARP) return MX_OK;
  if (p->target_shape.ndim != 2 || p->target_shape.dim[0] == 0 || p->target_shape.dim[1] == 0)
    return mx_fail(err, MX_ERR_VALUE, "An affine grid needs target_shape, its height and width.");
  return MX_OK;
}

/* `small` is the array that the grid is made of. */
static mx_status grid_shapes(const grid_params *p, mx_shape *small, mx_shape *grid, const char *small_name,
                             const char *grid_name, mx_error *err) {
  mx_shape g = mx_shape_of(MX_DIM_UNKNOWN, 2, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  if (p->transform_type == TRANSFORM_WARP) {
    MX_TRY(mx_shape_merge(small, &g, small_name, err));
    return mx_layer_unify(small, grid, grid_name, err);
  }
  mx_shape s = mx_shape_of(MX_DIM_UNKNOWN, 6);
  MX_TRY(mx_shape_merge(small, &s, small_name, err));
  g.dim[0] = small->dim[0];
  g.dim[2] = p->target_shape.dim[0];
  g.dim[3] = p->target_shape.dim[1];
  MX_TRY(mx_shape_merge(grid, &g, grid_name, err));
  small->dim[0] = grid->dim[0];
  return MX_OK;
}

static mx_status grid_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return grid_shapes(params, &in[0], &out[0], "data", "output", err);
}
static mx_status grid_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return grid_shapes(params, &out[0], &in[0], "gradient", "head", err);
}

/* Pixel i of n as a coordinate from -1 to 1, and half the number of gaps between pixels. */
static inline double half_gaps(int64_t n) { return (double)(n > 1 ? n - 1 : 1) / 2; }
static inline double coordinate(int64_t i, int64_t n) { return (double)i / half_gaps(n) - 1; }

#define DEFINE_GRID(T)                                                                               \
  static void affine_##T(const T *theta, T *grid, int64_t h, int64_t w) {                            \
    double a[6];                                                                                     \
    for (int i = 0; i < 6; i++) a[i] = (double)theta[i];                                             \
    for (int64_t y = 0; y < h; y++)                                                                  \
      for (int64_t x = 0; x < w; x++) {                                                              \
        double u = coordinate(x, w), v = coordinate(y, h);                                           \
        grid[y * w + x] = (T)(a[0] * u + a[1] * v + a[2]);                                           \
        grid[(h + y) * w + x] = (T)(a[3] * u + a[4] * v + a[5]);                                     \
      }                                                                                              \
  }                                                                                                  \
  static void affine_back_##T(const T *head, T *theta, int64_t h, int64_t w) {                       \
    double sum[6] = {0};                                                                             \
    for (int64_t y = 0; y < h; y++)                                                                  \
      for (int64_t x = 0; x < w; x++) {                                                              \
        double u = coordinate(x, w), v = coordinate(y, h);                                           \
        double p = (double)head[y * w + x], q = (double)head[(h + y) * w + x];                       \
        sum[0] += p * u, sum[1] += p * v, sum[2] += p;                                               \
        sum[3] += q * u, sum[4] += q * v, sum[5] += q;                                               \
      }                                                                                              \
    for (int i = 0; i < 6; i++) theta[i] = (T)sum[i];                                                \
  }                                                                                                  \
  static void warp_##T(const T *flow, T *grid, int64_t h, int64_t w) {                               \
    for (int64_t y = 0; y < h; y++)                                                                  \
      for (int64_t x = 0; x < w; x++) {                                                              \
        grid[y * w + x] = (T)(((double)flow[y * w + x] + (double)x) / half_gaps(w) - 1);             \
        grid[(h + y) * w + x] = (T)(((double)flow[(h + y) * w + x] + (double)y) / half_gaps(h) - 1); \
      }                                                                                              \
  }                                                                                                  \
  static void warp_back_##T(const T *head, T *flow, int64_t h, int64_t w) {                          \
    for (int64_t i = 0; i < h * w; i++) {                                                            \
      flow[i] = (T)((double)head[i] / half_gaps(w));                                                 \
      flow[h * w + i] = (T)((double)head[h * w + i] / half_gaps(h));                                 \
    }                                                                                                \
  }                                                                                                  \
  static void grid_image_##T(bool affine, bool back, const T *in, T *out, int64_t h, int64_t w) {    \
    if (affine)                                                                                      \
      back ? affine_back_##T(in, out, h, w) : affine_##T(in, out, h, w);                             \
    else                                                                                             \
      back ? warp_back_##T(in, out, h, w) : warp_##T(in, out, h, w);                                 \
  }
DEFINE_GRID(float)
DEFINE_GRID(double)
DEFINE_GRID(mx_half)

static void grid_images(bool affine, bool back, mx_dtype dtype, const void *in, void *out, int64_t n, int64_t h,
                        int64_t w) {
  int64_t small = affine ? 6 : 2 * h * w, from = back ? 2 * h * w : small, to = back ? small : 2 * h * w;
#pragma omp parallel for num_threads(mx_threads_for(n *h *w, MX_GRAIN))
  for (int64_t i = 0; i < n; i++) {
    switch (dtype) {
      case MX_FLOAT32:
        grid_image_float(affine, back, (const float *)in + i * from, (float *)out + i * to, h, w);
        break;
      case MX_FLOAT64:
        grid_image_double(affine, back, (const double *)in + i * from, (double *)out + i * to, h, w);
        break;
      default:
        grid_image_mx_half(affine, back, (const mx_half *)in + i * from, (mx_half *)out + i * to, h, w);
        break;
    }
  }
}

static mx_status grid_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->out[0].shape;
  if (c->req[0] != MX_NULL)
    grid_images(((const grid_params *)c->params)->transform_type == TRANSFORM_AFFINE, false, c->in[0].dtype,
                c->in[0].data, c->out[0].data, s->dim[0], s->dim[2], s->dim[3]);
  return MX_OK;
}
static mx_status grid_back_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->in[0].shape;
  if (c->req[0] != MX_NULL)
    grid_images(((const grid_params *)c->params)->transform_type == TRANSFORM_AFFINE, true, c->in[0].dtype,
                c->in[0].data, c->out[0].data, s->dim[0], s->dim[2], s->dim[3]);
  return MX_OK;
}
static mx_status grid_gradient(mx_grad *g, mx_error *err) {
  mx_entry head;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return mx_grad_backward(g, "_backward_GridGenerator", &head, 1, &g->in_grad[0], err);
}

/* ---- SpatialTransformer ---- */

typedef struct transformer_params {
  mx_shape target_shape;
  int transform_type, sampler_type;
  int8_t cudnn_off;
} transformer_params;

static const mx_param transformer_table[] = {
    MX_P_TUPLE(transformer_params, target_shape, "(0,0)", 0, (double)INT64_MAX,
               "Height and width of the output; 0: those of data."),
    MX_P_ENUM(transformer_params, transform_type, NULL, MX_STRINGS("affine"), "Kind of transformation."),
    MX_P_ENUM(transformer_params, sampler_type, NULL, MX_STRINGS("bilinear"), "Kind of interpolation."),
    MX_P_OPT_BOOL(transformer_params, cudnn_off, "None", CUDNN_DOC), MX_P_END};

static mx_status transformer_check(void *params, mx_error *err) {
  if (((const transformer_params *)params)->target_shape.ndim == 2) return MX_OK;
  return mx_fail(err, MX_ERR_VALUE, "target_shape must have two elements, height and width.");
}

static mx_status transformer_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                   mx_error *err) {
  const transformer_params *p = params;
  mx_shape d = four_dims();
  MX_TRY(mx_shape_merge(&in[0], &d, "data", err));
  mx_shape loc = mx_shape_of(in[0].dim[0], 6);
  MX_TRY(mx_shape_merge(&in[1], &loc, "loc", err));
  d.dim[0] = in[1].dim[0];
  MX_TRY(mx_shape_merge(&in[0], &d, "data", err));
  mx_shape want =
      mx_shape_of(in[0].dim[0], in[0].dim[1], p->target_shape.dim[0] > 0 ? p->target_shape.dim[0] : in[0].dim[2],
                  p->target_shape.dim[1] > 0 ? p->target_shape.dim[1] : in[0].dim[3]);
  return mx_shape_merge(&out[0], &want, "output", err);
}

/* The workspace holds the grid. */
static mx_status transformer_prepare(mx_call *c, mx_error *err) {
  const mx_shape *s = &c->out[0].shape;
  c->workspace_bytes = (size_t)(s->dim[0] * 2 * s->dim[2] * s->dim[3]) * mx_dtype_size(c->out[0].dtype);
  return MX_OK;
}

static mx_status transformer_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->out[0].shape;
  mx_shape grid = mx_shape_of(s->dim[0], 2, s->dim[2], s->dim[3]);
  geometry g = make_geometry(&c->in[0].shape, &grid);
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(check_pixels(&g, err));
  grid_images(true, false, c->in[1].dtype, c->in[1].data, c->workspace, s->dim[0], s->dim[2], s->dim[3]);
  sample(&g, c->in[0].dtype, c->in[0].data, c->workspace, c->out[0].data);
  return MX_OK;
}

/* The grid is made again: it is cheaper to compute than to keep. */
static mx_status transformer_gradient(mx_grad *g, mx_error *err) {
  mx_entry head, grid, back;
  char text[MX_SHAPE_TEXT];
  if (mx_shape_size(&g->out_shape[0]) == 0) return MX_OK;
  const char *const attrs[] = {"transform_type", "affine", "target_shape",
                               mx_tuple_text(g->out_shape[0].dim + 2, 2, text), NULL};
  MX_TRY(mx_grad_head(g, 0, &head, err));
  MX_TRY(mx_grad_call(g, "GridGenerator", attrs, &g->in[1], 1, &grid, err));
  mx_entry in[3] = {head, g->in[0], grid};
  MX_TRY(mx_grad_call(g, "_backward_BilinearSampler", NULL, in, 3, &back, err));
  if (g->wanted[0]) g->in_grad[0] = back;
  if (!g->wanted[1]) return MX_OK;
  back.index = 1;
  return mx_grad_call(g, "_backward_GridGenerator", attrs, &back, 1, &g->in_grad[1], err);
}

#define FAMILY .family = "Spatial and detection", .infer_dtype = mx_layer_infer_float
#define PAPER "Jaderberg et al., Spatial transformer networks, NeurIPS 2015"

const mx_op mx_ops_spatial[] = {
    {.name = "BilinearSampler",
     FAMILY,
     .doc = "Reads images at the points of a grid, with bilinear interpolation: (batch, channel, h, w) and (batch, 2, "
            "H, W) -> "
            "(batch, channel, H, W). Coordinates run from -1 (centre of the first pixel) to 1 (of the last), x in "
            "channel 0 of "
            "the grid and y in channel 1. Pixels outside count as 0.",
     .in_doc = MX_STRINGS("(batch, channel, height, width).", "(batch, 2, out_height, out_width)."),
     .in_names = MX_STRINGS("data", "grid"),
     .source = PAPER,
     .params = sampler_table,
     .params_size = sizeof(sampler_params),
     .n_in = 2,
     .n_out = 1,
     .infer_shape = sampler_infer,
     .gradient = sampler_gradient,
     .kernel = sampler_kernel},
    {.name = "_backward_BilinearSampler",
     FAMILY,
     .in_names = MX_STRINGS("head", "data", "grid"),
     .params = sampler_table,
     .params_size = sizeof(sampler_params),
     .n_in = 3,
     .n_out = 2,
     .infer_shape = sampler_back_infer,
     .flags = MX_OP_HIDDEN,
     .prepare = sampler_back_prepare,
     .kernel = sampler_back_kernel},
    {.name = "GridGenerator",
     FAMILY,
     .doc = "Makes grids for BilinearSampler. affine: x' = a x + b y + c, y' = d x + e y + f for every pixel (x, y) of "
            "the target, "
            "data = (a, b, c, d, e, f) per image. warp: data has the distance in pixels, x in channel 0 and y in "
            "channel 1, "
            "from which each pixel of the output is to be read.",
     .in_doc = MX_STRINGS("affine: (batch, 6). warp: (batch, 2, height, width)."),
     .source = PAPER,
     .params = grid_table,
     .params_size = sizeof(grid_params),
     .check = grid_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = grid_infer,
     .gradient = grid_gradient,
     .kernel = grid_kernel},
    {.name = "_backward_GridGenerator",
     FAMILY,
     .params = grid_table,
     .params_size = sizeof(grid_params),
     .check = grid_check,
     .n_in = 1,
     .n_out = 1,
     .infer_shape = grid_back_infer,
     .flags = MX_OP_HIDDEN,
     .kernel = grid_back_kernel},
    {.name = "SpatialTransformer",
     FAMILY,
     .doc = "Applies an affine map to images: GridGenerator with loc, then BilinearSampler.",
     .in_doc = MX_STRINGS("(batch, channel, height, width).", "(batch, 6): the affine map of each image."),
     .in_names = MX_STRINGS("data", "loc"),
     .source = PAPER,
     .params = transformer_table,
     .params_size = sizeof(transformer_params),
     .check = transformer_check,
     .n_in = 2,
     .n_out = 1,
     .infer_shape = transformer_infer,
     .gradient = transformer_gradient,
     .prepare = transformer_prepare,
     .kernel = transformer_kernel},
    {0}};
