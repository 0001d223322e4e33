/* Convolution by im2col and matrix products.
 *
 * Patches of a block of samples make a matrix of channels * kernel rows and samples * out columns; a block has enough
 * samples that the product is wide. Without channels last the product comes out as (filters, samples, out) and is moved
 * to (samples, filters, out) unless the block is a single sample. */
#include "ops/conv.h"

#include <string.h>

int mx_layout_spatial(int layout) {
  static const int8_t nd[] = {0, 2, 3, 2, 3, 1, 1};
  return nd[layout];
}

mx_status mx_conv_check_tuple(const mx_shape *kernel, mx_shape *tuple, int64_t fill, const char *name, mx_error *err) {
  if (tuple->ndim <= 0) {
    tuple->ndim = kernel->ndim;
    for (int i = 0; i < kernel->ndim; i++) tuple->dim[i] = fill;
  }
  if (tuple->ndim == kernel->ndim) return MX_OK;
  mx_status st = mx_fail(err, MX_ERR_VALUE, "%s has %d entries, but kernel has %d: there must be one per dimension.",
                         name, tuple->ndim, kernel->ndim);
  mx_error_set(err, argument, "%s", name);
  mx_error_set(err, expected, "%d entries", kernel->ndim);
  mx_error_set(err, actual, "%d entries", tuple->ndim);
  return st;
}

mx_status mx_conv_check_layout(int nd, int layout, const char *const *names, mx_error *err) {
  if (layout == MX_LAYOUT_NONE || mx_layout_spatial(layout) == nd) return MX_OK;
  return mx_layer_fail(err, MX_ERR_VALUE, "layout", "layout %s has %d spatial dimensions, but kernel has %d.",
                       names[layout], mx_layout_spatial(layout), nd);
}

mx_conv mx_conv_make(const mx_shape *kernel, const mx_shape *stride, const mx_shape *dilate, const mx_shape *pad,
                     int64_t groups, bool channels_last, const mx_shape *large, const mx_shape *small) {
  const int nd = kernel->ndim, channel = mx_conv_channel_axis(channels_last, nd + 2);
  mx_conv v = {.nd = nd,
               .channels_last = channels_last,
               .batch = large->dim[0],
               .groups = groups,
               .channels = large->dim[channel],
               .filters = small->dim[channel]};
  for (int i = 0; i < 3; i++) {
    const int j = i - (3 - nd), a = mx_conv_axis(channels_last, j);
    v.in[i] = j < 0 ? 1 : large->dim[a];
    v.out[i] = j < 0 ? 1 : small->dim[a];
    v.kernel[i] = j < 0 ? 1 : kernel->dim[j];
    v.stride[i] = j < 0 ? 1 : stride->dim[j];
    v.dilate[i] = j < 0 ? 1 : dilate->dim[j];
    v.pad[i] = j < 0 ? 0 : pad->dim[j];
  }
  return v;
}

/* ---- patches ---- */

void mx_conv_inside(const mx_conv *v, int i, int64_t k, int64_t *lo, int64_t *hi) {
  int64_t shift = k * v->dilate[i] - v->pad[i], s = v->stride[i]; /* input place = o * s + shift */
  int64_t first = shift >= 0 ? 0 : (-shift + s - 1) / s;
  int64_t last = shift >= v->in[i] ? 0 : (v->in[i] - shift + s - 1) / s;
  *lo = first < v->out[i] ? first : v->out[i];
  *hi = last < *lo ? *lo : last < v->out[i] ? last : v->out[i];
}

/* Memory of data: distance of channels and of neighbouring pixels. */
static int64_t channel_step(const mx_conv *v) { return v->channels_last ? 1 : mx_conv_in_size(v); }
static int64_t pixel_step(const mx_conv *v) { return v->channels_last ? v->channels : 1; }
static int64_t patch_row(const mx_conv *v, int64_t channels, int64_t c, int64_t k) {
  return v->channels_last ? k * channels + c : c * mx_conv_kernel_size(v) + k;
}

/* PATCHES defines, for an element type, one row of the patch matrix (all places of one sample for one channel and
 * kernel offset), and its adjoint with arithmetic. */
#define PATCH_ROW(U)                                                                                                   \
  MX_CLONES static void patch_row_##U(const mx_conv *v, const U *x, int64_t k, U *row) {                               \
    const int64_t kd = k / (v->kernel[1] * v->kernel[2]), kh = k / v->kernel[2] % v->kernel[1], kw = k % v->kernel[2], \
                  step = pixel_step(v), stride = v->stride[2] * step;                                                  \
    int64_t d0, d1, h0, h1, w0, w1;                                                                                    \
    mx_conv_inside(v, 0, kd, &d0, &d1), mx_conv_inside(v, 1, kh, &h0, &h1), mx_conv_inside(v, 2, kw, &w0, &w1);        \
    for (int64_t d = 0; d < v->out[0]; d++)                                                                            \
      for (int64_t h = 0; h < v->out[1]; h++, row += v->out[2]) {                                                      \
        if (d < d0 || d >= d1 || h < h0 || h >= h1 || w0 == w1) {                                                      \
          memset(row, 0, (size_t)v->out[2] * sizeof(U));                                                               \
          continue;                                                                                                    \
        }                                                                                                              \
        int64_t id = d * v->stride[0] + kd * v->dilate[0] - v->pad[0];                                                 \
        int64_t ih = h * v->stride[1] + kh * v->dilate[1] - v->pad[1];                                                 \
        const U *from =                                                                                                \
            x + ((id * v->in[1] + ih) * v->in[2] + w0 * v->stride[2] + kw * v->dilate[2] - v->pad[2]) * step;          \
        memset(row, 0, (size_t)w0 * sizeof(U));                                                                        \
        if (stride == 1)                                                                                               \
          memcpy(row + w0, from, (size_t)(w1 - w0) * sizeof(U));                                                       \
        else                                                                                                           \
          for (int64_t w = 0; w < w1 - w0; w++) row[w0 + w] = from[w * stride];                                        \
        memset(row + w1, 0, (size_t)(v->out[2] - w1) * sizeof(U));                                                     \
      }                                                                                                                \
  }
#define PATCH_ADD(T)                                                                                                   \
  MX_CLONES static void patch_add_##T(const mx_conv *v, T *x, int64_t k, const T *row) {                               \
    const int64_t kd = k / (v->kernel[1] * v->kernel[2]), kh = k / v->kernel[2] % v->kernel[1], kw = k % v->kernel[2], \
                  step = pixel_step(v), stride = v->stride[2] * step;                                                  \
    int64_t d0, d1, h0, h1, w0, w1;                                                                                    \
    mx_conv_inside(v, 0, kd, &d0, &d1), mx_conv_inside(v, 1, kh, &h0, &h1), mx_conv_inside(v, 2, kw, &w0, &w1);        \
    for (int64_t d = d0; d < d1 && w0 < w1; d++)                                                                       \
      for (int64_t h = h0; h < h1; h++) {                                                                              \
        int64_t id = d * v->stride[0] + kd * v->dilate[0] - v->pad[0];                                                 \
        int64_t ih = h * v->stride[1] + kh * v->dilate[1] - v->pad[1];                                                 \
        T *to = x + ((id * v->in[1] + ih) * v->in[2] + w0 * v->stride[2] + kw * v->dilate[2] - v->pad[2]) * step;      \
        const T *from = row + (d * v->out[1] + h) * v->out[2] + w0;                                                    \
        if (stride == 1) {                                                                                             \
          _Pragma("omp simd") for (int64_t w = 0; w < w1 - w0; w++) to[w] += from[w];                                  \
        } else {                                                                                                       \
          for (int64_t w = 0; w < w1 - w0; w++) to[w * stride] += from[w];                                             \
        }                                                                                                              \
      }                                                                                                                \
  }
PATCH_ROW(uint16_t)
PATCH_ROW(uint32_t)
PATCH_ROW(uint64_t)
PATCH_ADD(mx_half)
PATCH_ADD(float)
PATCH_ADD(double)

void mx_im2col(const mx_conv *v, mx_dtype dtype, const void *x, int64_t samples, int64_t channels, void *col) {
  const int64_t kernel = mx_conv_kernel_size(v), out = mx_conv_out_size(v), rows = channels * kernel;
  const int64_t size = (int64_t)mx_dtype_size(dtype), sample = v->channels * mx_conv_in_size(v);
  if (out == 0) return;
#pragma omp parallel for num_threads(mx_threads_for(samples *rows *out, MX_GRAIN))
  for (int64_t i = 0; i < samples * rows; i++) {
    int64_t s = i / rows, c = i % rows / kernel, k = i % kernel;
    const char *from = (const char *)x + (s * sample + c * channel_step(v)) * size;
    char *to = (char *)col + (patch_row(v, channels, c, k) * samples + s) * out * size;
    switch (size) {
      case 2:
        patch_row_uint16_t(v, (const uint16_t *)from, k, (uint16_t *)to);
        break;
      case 4:
        patch_row_uint32_t(v, (const uint32_t *)from, k, (uint32_t *)to);
        break;
      default:
        patch_row_uint64_t(v, (const uint64_t *)from, k, (uint64_t *)to);
        break;
    }
  }
}

void mx_col2im(const mx_conv *v, mx_dtype dtype, const void *col, int64_t samples, int64_t channels, void *x) {
  const int64_t kernel = mx_conv_kernel_size(v), out = mx_conv_out_size(v);
  const int64_t size = (int64_t)mx_dtype_size(dtype), sample = v->channels * mx_conv_in_size(v);
#pragma omp parallel for num_threads(mx_threads_for(samples *channels *kernel *out, MX_GRAIN))
  for (int64_t i = 0; i < samples * channels; i++) {
    int64_t s = i / channels, c = i % channels;
    char *to = (char *)x + (s * sample + c * channel_step(v)) * size;
    for (int64_t k = 0; k < kernel; k++) {
      const char *from = (const char *)col + (patch_row(v, channels, c, k) * samples + s) * out * size;
      switch (dtype) {
        case MX_FLOAT32:
          patch_add_float(v, (float *)to, k, (const float *)from);
          break;
        case MX_FLOAT64:
          patch_add_double(v, (double *)to, k, (const double *)from);
          break;
        default:
          patch_add_mx_half(v, (mx_half *)to, k, (const mx_half *)from);
          break;
      }
    }
  }
}

/* ---- products ---- */

/* One block of the computation: sizes of the product of one group. */
typedef struct conv_block {
  int64_t samples;      /* of a full block */
  int64_t depth, width; /* rows of the patch matrix of one group, filters of one group */
  int64_t in, out;      /* pixels */
  bool direct;          /* a patch matrix is data itself: kernel 1, stride 1, no padding */
} conv_block;

enum { BLOCK_COLUMNS = 512 };

static conv_block conv_split(const mx_conv *v) {
  conv_block b = {.depth = v->channels / v->groups * mx_conv_kernel_size(v), .width = v->filters / v->groups};
  b.in = mx_conv_in_size(v), b.out = mx_conv_out_size(v);
  b.samples = b.out >= BLOCK_COLUMNS || b.out == 0 ? 1 : (BLOCK_COLUMNS + b.out - 1) / b.out;
  if (b.samples > v->batch) b.samples = v->batch > 0 ? v->batch : 1;
  b.direct = mx_conv_kernel_size(v) == 1 && !v->channels_last && b.samples == 1;
  for (int i = 0; i < 3; i++) b.direct = b.direct && v->stride[i] == 1 && v->pad[i] == 0 && v->in[i] == v->out[i];
  return b;
}

static size_t patch_bytes(const conv_block *b, mx_dtype dtype) {
  return b->direct ? 0 : mx_align64((size_t)(b->depth * b->samples * b->out) * mx_dtype_size(dtype));
}

size_t mx_conv_workspace(const mx_conv *v, mx_dtype dtype) {
  conv_block b = conv_split(v);
  bool moved = !v->channels_last && b.samples > 1;
  return patch_bytes(&b, dtype) + (moved ? (size_t)(b.width * b.samples * b.out) * mx_dtype_size(dtype) : 0);
}

/* From (samples, all filters, out) to (filters, samples, out) of one group. */
static void gather_rows(const mx_conv *v, const conv_block *b, int64_t samples, size_t size, const char *y,
                        char *product) {
  const size_t row = (size_t)b->out * size;
#pragma omp parallel for num_threads(mx_threads_for(samples * b->width * b->out, MX_GRAIN))
  for (int64_t i = 0; i < samples * b->width; i++)
    memcpy(product + (size_t)i * row, y + (size_t)(i % samples * v->filters + i / samples) * row, row);
}

#define ADD_ROW(T)                                                              \
  MX_CLONES static void add_row_##T(T *to, const T *from, T bias, int64_t n) {  \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) to[i] = from[i] + bias; \
  }
ADD_ROW(float)
ADD_ROW(double)

/* The other way, with the group's bias (NULL: none) added. */
static void scatter_rows(const mx_conv *v, const conv_block *b, int64_t samples, mx_dtype dtype, const char *product,
                         const char *bias, char *y) {
  const size_t size = mx_dtype_size(dtype), row = (size_t)b->out * size;
#pragma omp parallel for num_threads(mx_threads_for(samples * b->width * b->out, MX_GRAIN))
  for (int64_t i = 0; i < samples * b->width; i++) {
    const char *from = product + (size_t)i * row;
    char *to = y + (size_t)(i % samples * v->filters + i / samples) * row;
    if (!bias)
      memcpy(to, from, row);
    else if (dtype == MX_FLOAT32)
      add_row_float((float *)to, (const float *)from, ((const float *)bias)[i / samples], b->out);
    else
      add_row_double((double *)to, (const double *)from, ((const double *)bias)[i / samples], b->out);
  }
}

#define FILL_ROW(T)                                                   \
  MX_CLONES static void fill_row_##T(T *y, T value, int64_t n) {      \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = value; \
  }
FILL_ROW(float)
FILL_ROW(double)

#define ADD_BIAS(T)                                                               \
  MX_CLONES static void add_bias_##T(T *y, const T *bias, int64_t n, bool each) { \
    if (each) {                                                                   \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] += bias[i];        \
    } else {                                                                      \
      const T b = *bias;                                                          \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] += b;              \
    }                                                                             \
  }
ADD_BIAS(float)
ADD_BIAS(double)

/* Starts an output: every place gets its channel's bias, or zero. */
static void fill_bias(mx_dtype dtype, void *y, const void *bias, int64_t samples, int64_t pixels, int64_t channels,
                      bool channels_last) {
  /* Rows of channels, or one row a channel. */
  const int64_t rows = samples * (channels_last ? pixels : channels), width = channels_last ? channels : pixels;
  const size_t size = mx_dtype_size(dtype), bytes = (size_t)width * size;
#pragma omp parallel for num_threads(mx_threads_for(rows *width, MX_GRAIN))
  for (int64_t i = 0; i < rows; i++) {
    char *to = (char *)y + (size_t)i * bytes;
    if (!bias)
      memset(to, 0, bytes);
    else if (channels_last)
      memcpy(to, bias, bytes);
    else if (dtype == MX_FLOAT32)
      fill_row_float((float *)to, ((const float *)bias)[i % channels], width);
    else
      fill_row_double((double *)to, ((const double *)bias)[i % channels], width);
  }
}

bool mx_conv_in_place(const mx_conv *v) {
  return !v->channels_last && mx_conv_kernel_size(v) > 1 &&
         v->channels * mx_conv_in_size(v) == v->filters * mx_conv_out_size(v);
}

/* Pointers of group g in the block that starts at sample s. */
#define AT(p, index) ((char *)(p) + (size_t)(index)*size)

mx_status mx_conv_forward(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *x, const void *w,
                          const void *bias, void *y, mx_error *err) {
  const conv_block b = conv_split(v);
  const size_t size = mx_dtype_size(dtype);
  char *patches = c->workspace, *product = patches + patch_bytes(&b, dtype);
  bool moved = b.samples > 1 && !v->channels_last; /* gets its bias on the way */
  if (bias && v->channels_last) fill_bias(dtype, y, bias, v->batch, b.out, v->filters, true);
  for (int64_t s = 0; s < v->batch; s += b.samples) {
    int64_t n = v->batch - s < b.samples ? v->batch - s : b.samples, columns = n * b.out;
    for (int64_t g = 0; g < v->groups; g++) {
      const char *xg = AT(x, s * v->channels * b.in + g * (v->channels / v->groups) * channel_step(v));
      const char *wg = AT(w, g * b.width * b.depth);
      if (!b.direct) mx_im2col(v, dtype, xg, n, v->channels / v->groups, patches);
      const void *col = b.direct ? xg : patches;
      if (v->channels_last) {
        MX_TRY(mx_layer_gemm(c, dtype, true, true, columns, b.width, b.depth, col, columns, wg, b.depth, bias != NULL,
                             AT(y, s * b.out * v->filters + g * b.width), v->filters, err));
        continue;
      }
      char *yg = AT(y, (s * v->filters + g * b.width) * b.out);
      /* not earlier: y may lie where x was */
      if (bias && !moved) fill_bias(dtype, yg, AT(bias, g * b.width), 1, b.out, b.width, false);
      MX_TRY(mx_layer_gemm(c, dtype, false, false, b.width, columns, b.depth, wg, b.depth, col, columns, bias && !moved,
                           moved ? product : yg, columns, err));
      if (moved) scatter_rows(v, &b, n, dtype, product, bias ? AT(bias, g * b.width) : NULL, yg);
    }
  }
  return MX_OK;
}

mx_status mx_conv_backward_data(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *dy, const void *w,
                                const void *bias, void *dx, mx_error *err) {
  const conv_block b = conv_split(v);
  const size_t size = mx_dtype_size(dtype);
  char *patches = c->workspace, *product = patches + patch_bytes(&b, dtype);
  if (!b.direct || bias) fill_bias(dtype, dx, bias, v->batch, b.in, v->channels, v->channels_last);
  for (int64_t s = 0; s < v->batch; s += b.samples) {
    int64_t n = v->batch - s < b.samples ? v->batch - s : b.samples, columns = n * b.out;
    for (int64_t g = 0; g < v->groups; g++) {
      char *xg = AT(dx, s * v->channels * b.in + g * (v->channels / v->groups) * channel_step(v));
      const char *wg = AT(w, g * b.width * b.depth);
      char *yg =
          AT(dy, v->channels_last ? s * b.out * v->filters + g * b.width : (s * v->filters + g * b.width) * b.out);
      if (v->channels_last) {
        MX_TRY(mx_layer_gemm(c, dtype, true, true, b.depth, columns, b.width, wg, b.depth, yg, v->filters, 0, patches,
                             columns, err));
      } else {
        if (b.samples > 1) gather_rows(v, &b, n, size, yg, product);
        MX_TRY(mx_layer_gemm(c, dtype, true, false, b.depth, columns, b.width, wg, b.depth,
                             b.samples > 1 ? product : yg, columns, b.direct && bias, b.direct ? xg : patches, columns,
                             err));
      }
      if (!b.direct) mx_col2im(v, dtype, patches, n, v->channels / v->groups, xg);
    }
  }
  return MX_OK;
}

mx_status mx_conv_backward_weight(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *x, const void *dy,
                                  void *dw, mx_error *err) {
  const conv_block b = conv_split(v);
  const size_t size = mx_dtype_size(dtype);
  char *patches = c->workspace, *product = patches + patch_bytes(&b, dtype);
  memset(dw, 0, (size_t)(v->filters * b.depth) * size);
  for (int64_t s = 0; s < v->batch; s += b.samples) {
    int64_t n = v->batch - s < b.samples ? v->batch - s : b.samples, columns = n * b.out;
    for (int64_t g = 0; g < v->groups; g++) {
      const char *xg = AT(x, s * v->channels * b.in + g * (v->channels / v->groups) * channel_step(v));
      char *wg = AT(dw, g * b.width * b.depth);
      if (!b.direct) mx_im2col(v, dtype, xg, n, v->channels / v->groups, patches);
      const void *col = b.direct ? xg : patches;
      if (v->channels_last) {
        MX_TRY(mx_layer_gemm(c, dtype, true, true, b.width, b.depth, columns,
                             AT(dy, s * b.out * v->filters + g * b.width), v->filters, col, columns, 1, wg, b.depth,
                             err));
        continue;
      }
      char *yg = AT(dy, (s * v->filters + g * b.width) * b.out);
      if (b.samples > 1) gather_rows(v, &b, n, size, yg, product);
      MX_TRY(mx_layer_gemm(c, dtype, false, true, b.width, b.depth, columns, b.samples > 1 ? product : yg, columns, col,
                           columns, 1, wg, b.depth, err));
    }
  }
  return MX_OK;
}

void mx_conv_add_bias(mx_dtype dtype, void *y, const void *bias, int64_t batch, int64_t channels, int64_t space,
                      bool channels_last) {
  /* Rows of channels, or one row a channel. */
  const int64_t rows = channels_last ? batch * space : batch * channels, width = channels_last ? channels : space;
#pragma omp parallel for num_threads(mx_threads_for(rows *width, MX_GRAIN))
  for (int64_t i = 0; i < rows; i++) {
    char *row = (char *)y + (size_t)(i * width) * mx_dtype_size(dtype);
    if (dtype == MX_FLOAT32)
      add_bias_float((float *)row, channels_last ? bias : (const float *)bias + i % channels, width, channels_last);
    else
      add_bias_double((double *)row, channels_last ? bias : (const double *)bias + i % channels, width, channels_last);
  }
}

#define CHANNEL_SUM(T)                                                                  \
  MX_CLONES static double row_sum_##T(const T *y, int64_t n) {                          \
    double total = 0;                                                                   \
    for (int64_t i = 0; i < n; i += 1024) {                                             \
      T s = 0;                                                                          \
      int64_t end = n - i < 1024 ? n : i + 1024;                                        \
      _Pragma("omp simd reduction(+ : s)") for (int64_t j = i; j < end; j++) s += y[j]; \
      total += s;                                                                       \
    }                                                                                   \
    return total;                                                                       \
  }
CHANNEL_SUM(float)
CHANNEL_SUM(double)

void mx_conv_channel_sum(mx_dtype dtype, const void *y, int64_t batch, int64_t channels, int64_t space, void *out) {
#pragma omp parallel for num_threads(mx_threads_for(batch *channels *space, MX_GRAIN))
  for (int64_t c = 0; c < channels; c++) {
    double sum = 0;
    for (int64_t s = 0; s < batch; s++) {
      int64_t at = (s * channels + c) * space;
      sum += dtype == MX_FLOAT32 ? row_sum_float((const float *)y + at, space)
                                 : row_sum_double((const double *)y + at, space);
    }
    if (dtype == MX_FLOAT32)
      ((float *)out)[c] = (float)sum;
    else
      ((double *)out)[c] = sum;
  }
}
