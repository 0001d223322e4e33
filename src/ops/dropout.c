/* Dropout: element e of the mask comes from number e % 4 of block e / 4 of a stretch of the random sequence, so that
 * the mask depends neither on the number of threads nor on the device. The mask is kept as bytes for backward. */
#include <math.h>
#include <string.h>

#include "ops/layer.h"
#include "ops/moments.h"

enum { MODE_TRAINING, MODE_ALWAYS };
enum { CHUNK = 1024 };

typedef struct dropout_params {
  double p;
  int mode;
  mx_shape axes;
  int8_t cudnn_off;
} dropout_params;

static const char *const modes[] = {"training", "always", NULL};
static const mx_param dropout_table[] = {
    MX_P_FLOAT(dropout_params, p, "0.5", 0, 1, "Probability that an element is set to zero."),
    MX_P_ENUM(dropout_params, mode, "training", modes, "When to drop: in training, or in inference too."),
    MX_P_TUPLE(dropout_params, axes, "()", -MX_MAX_NDIM, MX_MAX_NDIM - 1,
               "Axes along which all elements share their fate."),
    MX_P_OPT_BOOL(dropout_params, cudnn_off, "False", "Do without cuDNN."), MX_P_END};

static mx_status dropout_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const dropout_params *p = params;
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape mask = in[0];
  for (int i = 0; i < p->axes.ndim; i++) {
    int axis;
    MX_TRY(mx_axis_resolve(p->axes.dim[i], in[0].ndim, &axis, err));
    if (mask.dim[axis] != 0) mask.dim[axis] = 1;
  }
  return mx_shape_merge(&out[1], &mask, "mask", err);
}

static mx_status dropout_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_infer_float(params, in, 1, out, 1, err));
  out[1] = MX_UINT8;
  return MX_OK;
}

static int dropout_visible(const void *params) { return 1; }

static mx_status dropout_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, {g->out[0].node, 1}};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  if (((const dropout_params *)g->params)->p > 0) return mx_layer_backward(g, "_backward_Dropout", in, 2, 1, err);
  g->in_grad[0] = in[0];
  return MX_OK;
}

/* Whether this call drops anything. */
static bool drops(const mx_call *c) {
  const dropout_params *p = c->params;
  return p->p > 0 && (c->is_train || p->mode == MODE_ALWAYS);
}
static double scale_of(const dropout_params *p) { return p->p < 1 ? 1 / (1 - p->p) : 0; }

/* mx_philox for `blocks` neighbouring blocks, round by round so that blocks are vector lanes: word[k][b] is number k of
 * block b. */
MX_INLINE void philox_blocks(mx_random_span span, uint64_t first, int64_t blocks, uint32_t word[4][CHUNK / 4]) {
  uint32_t *c0 = word[0], *c1 = word[1], *c2 = word[2], *c3 = word[3];
  uint32_t k0 = (uint32_t)span.key, k1 = (uint32_t)(span.key >> 32);
  for (int64_t b = 0; b < blocks; b++) {
    uint64_t n = span.base + first + (uint64_t)b;
    c0[b] = (uint32_t)n, c1[b] = (uint32_t)(n >> 32), c2[b] = c3[b] = 0;
  }
  for (int r = 0; r < 10; r++) {
    _Pragma("omp simd") for (int64_t b = 0; b < blocks; b++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0[b], p1 = (uint64_t)0xCD9E8D57u * c2[b];
      c0[b] = (uint32_t)(p1 >> 32) ^ c1[b] ^ k0;
      c2[b] = (uint32_t)(p0 >> 32) ^ c3[b] ^ k1;
      c1[b] = (uint32_t)p1;
      c3[b] = (uint32_t)p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

/* mask[0..n) for elements first .. first + n - 1; `first` is a multiple of 4, n at most CHUNK. */
MX_CLONES static void draw_mask(mx_random_span span, int64_t first, int64_t n, double p, uint8_t *mask) {
  const double limit = p * 4294967296.0;
  const uint32_t least = limit >= 4294967295.0 ? UINT32_MAX : (uint32_t)limit; /* keep numbers from here on */
  const uint32_t some = p < 1;
  uint32_t word[4][CHUNK / 4];
  philox_blocks(span, (uint64_t)(first / 4), (n + 3) / 4, word);
  /* Four flags at once, as the bytes of a number (the other way round on big-endian machines: as random). */
  uint32_t flags[CHUNK / 4];
  _Pragma("omp simd") for (int64_t b = 0; b < (n + 3) / 4; b++) {
    uint32_t f = (uint32_t)(word[0][b] >= least) | (uint32_t)(word[1][b] >= least) << 8 |
                 (uint32_t)(word[2][b] >= least) << 16 | (uint32_t)(word[3][b] >= least) << 24;
    flags[b] = f * some;
  }
  memcpy(mask, flags, (size_t)n);
}

MX_CLONES static void apply(mx_dtype dtype, const void *x_, const uint8_t *mask, int64_t step, double scale_, int64_t n,
                            void *y_) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    const T *x = x_;
    T *y = y_;
    const A scale = (A)scale_;
    if (step == 0) {
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = *mask ? (T)((A)x[i] * scale) : (T)0;
    } else {
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = mask[i] ? (T)((A)x[i] * scale) : (T)0;
    }
  })
}

/* y = x * mask * scale where the mask has extent 1 along some axes. */
static void apply_shared(const mx_tensor *x, const uint8_t *mask, const mx_shape *mask_shape, double scale, void *y) {
  const mx_shape *s = &x->shape;
  const int last = s->ndim - 1;
  const int64_t width = last < 0 ? 1 : s->dim[last], rows = last < 0 ? 1 : mx_shape_prod(s, 0, last);
  const size_t size = mx_dtype_size(x->dtype);
  const int64_t step = last >= 0 && mask_shape->dim[last] != 1;
  int64_t stride[MX_MAX_NDIM];
  mx_shape_strides(mask_shape, stride);
#pragma omp parallel for num_threads(mx_threads_for(rows *width, MX_GRAIN))
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = 0;
    for (int64_t i = last - 1, rest = r; i >= 0; rest /= s->dim[i], i--)
      if (mask_shape->dim[i] != 1) at += rest % s->dim[i] * stride[i];
    apply(x->dtype, (const char *)x->data + (size_t)(r * width) * size, mask + at, step, scale, width,
          (char *)y + (size_t)(r * width) * size);
  }
}

/* Of one shape: mask and output in one pass. Without `drawn` the mask is read; otherwise made, and written to `mask` if
 * that is not NULL. */
static void apply_whole(const mx_tensor *x, uint8_t *mask, const mx_random_span *drawn, double p, double scale,
                        void *y) {
  const int64_t n = mx_shape_size(&x->shape);
  const size_t size = mx_dtype_size(x->dtype);
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t i = 0; i < n; i += CHUNK) {
    const int64_t m = n - i < CHUNK ? n - i : CHUNK;
    uint8_t local[CHUNK], *here = mask ? mask + i : local;
    if (drawn) draw_mask(*drawn, i, m, p, here);
    apply(x->dtype, (const char *)x->data + (size_t)i * size, here, 1, scale, m, (char *)y + (size_t)i * size);
  }
}

static mx_status dropout_prepare(mx_call *c, mx_error *err) {
  const dropout_params *p = c->params;
  if (p->axes.ndim > 0 && drops(c) && c->req[1] == MX_NULL)
    c->workspace_bytes = (size_t)mx_shape_size(&c->out[1].shape);
  return MX_OK;
}

static mx_status dropout_forward(const mx_call *c, mx_error *err) {
  const dropout_params *p = c->params;
  const mx_tensor *x = &c->in[0], *y = &c->out[0];
  const int64_t cells = mx_shape_size(&c->out[1].shape);
  if (c->req[0] == MX_NULL && c->req[1] == MX_NULL) return MX_OK;
  if (!drops(c)) {
    if (c->req[1] != MX_NULL) memset(c->out[1].data, 1, (size_t)cells);
    if (c->req[0] == MX_NULL || x->data == y->data) return MX_OK;
    return c->device->ops->copy(c->device, y->data, x->data, (size_t)mx_shape_size(&x->shape) * mx_dtype_size(x->dtype),
                                err);
  }
  const mx_random_span span = mx_random_take((uint64_t)(cells + 3) / 4);
  uint8_t *mask = c->req[1] != MX_NULL ? c->out[1].data : c->workspace;
  if (p->axes.ndim <= 0 && c->req[0] != MX_NULL) {
    apply_whole(x, c->req[1] != MX_NULL ? mask : NULL, &span, p->p, scale_of(p), y->data);
    return MX_OK;
  }
#pragma omp parallel for num_threads(mx_threads_for(cells, MX_GRAIN))
  for (int64_t i = 0; i < cells; i += CHUNK) draw_mask(span, i, cells - i < CHUNK ? cells - i : CHUNK, p->p, mask + i);
  if (c->req[0] != MX_NULL) apply_shared(x, mask, &c->out[1].shape, scale_of(p), y->data);
  return MX_OK;
}

/* (gradient of the output, mask) to data. */
static mx_status backward_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_layer_unify(&in[0], &out[0], "data", err);
}

static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return mx_layer_infer_float(params, in, 1, out, 1, err);
}

static mx_status dropout_backward(const mx_call *c, mx_error *err) {
  const dropout_params *p = c->params;
  const mx_tensor *dy = &c->in[0], *mask = &c->in[1];
  if (c->req[0] == MX_NULL) return MX_OK;
  if (mx_shape_equal(&dy->shape, &mask->shape))
    apply_whole(dy, mask->data, NULL, p->p, scale_of(p), c->out[0].data);
  else
    apply_shared(dy, mask->data, &mask->shape, scale_of(p), c->out[0].data);
  return MX_OK;
}

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};

const mx_op mx_ops_dropout[] = {
    {.name = "Dropout",
     .family = "Neural-network layers",
     .doc = "Dropout: in training, sets each element to zero with probability p and multiplies the others by 1 / (1 - "
            "p), so that "
            "the expectation stays. In inference the output is data, unless mode is always.",
     .in_doc = MX_STRINGS("Any shape."),
     .source = "Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 2014",
     .params = dropout_table,
     .params_size = sizeof(dropout_params),
     .n_in = 1,
     .n_out = 2,
     .out_names = MX_STRINGS("output", "mask"),
     .count_visible = dropout_visible,
     .infer_shape = dropout_infer,
     .infer_dtype = dropout_dtype,
     .gradient = dropout_gradient,
     .aliases_mem = in_place,
     .flags = MX_OP_RANDOM,
     .prepare = dropout_prepare,
     .kernel = dropout_forward},
    {.name = "_backward_Dropout",
     .family = "Neural-network layers",
     .doc = "Gradient of Dropout.",
     .params = dropout_table,
     .params_size = sizeof(dropout_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "mask"),
     .infer_shape = backward_infer,
     .infer_dtype = backward_dtype,
     .aliases_mem = in_place,
     .flags = MX_OP_HIDDEN,
     .kernel = dropout_backward},
    {0}};
