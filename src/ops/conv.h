/* The geometry of convolutions and their relatives, and convolution by im2col and matrix products: the path for every
 * floating-point type and for builds without oneDNN. */
#ifndef MX_OPS_CONV_H
#define MX_OPS_CONV_H

#include "ops/layer.h"

/* Layouts of spatial data. Records list a prefix of them (or all), so that one enum serves all operators. */
enum { MX_LAYOUT_NONE, MX_LAYOUT_NCHW, MX_LAYOUT_NCDHW, MX_LAYOUT_NHWC, MX_LAYOUT_NDHWC, MX_LAYOUT_NCW, MX_LAYOUT_NWC };
/* Spatial dimensions that a layout has; 0 for MX_LAYOUT_NONE. */
int mx_layout_spatial(int layout);
static inline bool mx_layout_channels_last(int layout) {
  return layout == MX_LAYOUT_NHWC || layout == MX_LAYOUT_NDHWC || layout == MX_LAYOUT_NWC;
}

/* Windows that slide over space; arrays have three entries, the first ones are neutral when there are fewer dimensions
 * (size 1, stride 1, pad 0). */
typedef struct mx_conv {
  int nd;
  bool channels_last;
  bool in_place; /* the result may lie where the data is: data is copied before the result is written */
  int64_t batch, groups;
  int64_t channels, filters; /* in all groups together */
  int64_t in[3], out[3], kernel[3], stride[3], dilate[3], pad[3];
} mx_conv;

static inline int64_t mx_conv_kernel_size(const mx_conv *v) { return v->kernel[0] * v->kernel[1] * v->kernel[2]; }
static inline int64_t mx_conv_in_size(const mx_conv *v) { return v->in[0] * v->in[1] * v->in[2]; }
static inline int64_t mx_conv_out_size(const mx_conv *v) { return v->out[0] * v->out[1] * v->out[2]; }
/* Extent of the window along one axis with its gaps. */
static inline int64_t mx_conv_extent(const mx_conv *v, int i) { return (v->kernel[i] - 1) * v->dilate[i] + 1; }

/* Output places [*lo, *hi) along axis i for which window place k lies inside of the input. */
void mx_conv_inside(const mx_conv *v, int i, int64_t k, int64_t *lo, int64_t *hi);

/* Checks the tuples of an operator: `kernel` has 1 to 3 entries, the others as many or none (then filled with `fill`).
 */
MX_NODISCARD mx_status mx_conv_check_tuple(const mx_shape *kernel, mx_shape *tuple, int64_t fill, const char *name,
                                           mx_error *err);
MX_NODISCARD mx_status mx_conv_check_layout(int nd, int layout, const char *const *names, mx_error *err);

/* The view for data of shape `large` whose windows give `small`; tuples have an entry per spatial dimension. */
mx_conv mx_conv_make(const mx_shape *kernel, const mx_shape *stride, const mx_shape *dilate, const mx_shape *pad,
                     int64_t groups, bool channels_last, const mx_shape *large, const mx_shape *small);

/* Spatial axis i of data, and its channel axis. */
static inline int mx_conv_axis(bool channels_last, int i) { return channels_last ? 1 + i : 2 + i; }
static inline int mx_conv_channel_axis(bool channels_last, int ndim) { return channels_last ? ndim - 1 : 1; }

/* Patches of `samples` samples of `channels` channels (of v->channels; `x` points to the first of them): a matrix of
 * channels * kernel rows and samples * out columns. Rows are ordered as weights of the layout are: (channel, kernel),
 * or (kernel, channel) with channels last. */
void mx_im2col(const mx_conv *v, mx_dtype dtype, const void *x, int64_t samples, int64_t channels, void *col);
/* The adjoint: adds to each place of x the patches that cover it. */
void mx_col2im(const mx_conv *v, mx_dtype dtype, const void *col, int64_t samples, int64_t channels, void *x);

/* Convolution, its adjoint and the gradient of its weights. x: data of v->channels, y: of v->filters, w: (filters,
 * channels / groups, kernel) in the layout's order. float32 and float64. `bias` may be NULL. */
size_t mx_conv_workspace(const mx_conv *v, mx_dtype dtype);
/* Whether y may lie where x is: a sample of both has the same bytes, and x is copied anyhow before y is written. */
bool mx_conv_in_place(const mx_conv *v);
MX_NODISCARD mx_status mx_conv_forward(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *x, const void *w,
                                       const void *bias, void *y, mx_error *err);
MX_NODISCARD mx_status mx_conv_backward_data(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *dy,
                                             const void *w, const void *bias, void *dx, mx_error *err);
MX_NODISCARD mx_status mx_conv_backward_weight(const mx_call *c, const mx_conv *v, mx_dtype dtype, const void *x,
                                               const void *dy, void *dw, mx_error *err);
/* y (of `channels` channels) += bias. */
void mx_conv_add_bias(mx_dtype dtype, void *y, const void *bias, int64_t batch, int64_t channels, int64_t space,
                      bool channels_last);
/* out[channel] = sum of y (batch, channels, space) over the rest: the gradient of a bias. With channels last it is a
 * mx_column_sum. */
void mx_conv_channel_sum(mx_dtype dtype, const void *y, int64_t batch, int64_t channels, int64_t space, void *out);

#endif
