/* RotaryEmbedding: positions as rotations of pairs of features (Su and others, "RoFormer", 2021).
 *
 * Pair i of a vector at position t is turned by the angle t base^(-2 i / dim). Backward turns the other way, so that
 * the gradient is the operator itself with `inverse` set. Without an input of positions the table of cosines and sines
 * is made once, when shapes are known. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "ops/op.h"

typedef struct rotary_params {
  double base;
  int64_t offset;
  mx_opt_int dim;
  bool interleaved, use_position, inverse;
} rotary_params;

static const mx_param rotary_table[] = {
    MX_P_FLOAT(rotary_params, base, "10000", 1, INFINITY, "Base of the geometric sequence of wavelengths."),
    MX_P_INT(rotary_params, offset, "0", -INFINITY, INFINITY, "Position of the first vector."),
    MX_P_OPT_INT(rotary_params, dim, "None", 0, 1 << 24,
                 "Number of leading features to rotate, even; None is all of them."),
    MX_P_BOOL(rotary_params, interleaved, "0",
              "Pairs are neighbours (0, 1), (2, 3), ...; otherwise feature i goes with feature i + dim / 2."),
    MX_P_BOOL(rotary_params, use_position, "0", "Take the positions from the input position; offset is added to them."),
    MX_P_BOOL(rotary_params, inverse, "0", "Rotate the other way."),
    MX_P_END};

static int rotary_count_in(const void *params) { return 1 + ((const rotary_params *)params)->use_position; }

static mx_status rotary_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const rotary_params *p = params;
  mx_shape *x = &in[0];
  MX_TRY(mx_shape_merge(x, &out[0], "data", err));
  MX_TRY(mx_shape_merge(&out[0], x, "output", err));
  if (x->ndim < 0) return MX_OK;
  if (x->ndim < 2) return mx_fail(err, MX_ERR_SHAPE, "data needs native shape (..., length, features).");
  int64_t length = x->dim[x->ndim - 2], features = x->dim[x->ndim - 1], dim = p->dim.given ? p->dim.value : features;
  if (features >= 0 && (dim > features || dim % 2 != 0)) {
    mx_fail(err, MX_ERR_VALUE, "%lld features cannot be rotated in pairs, of %lld.", (long long)dim,
            (long long)features);
    mx_error_set(err, argument, "dim");
    return MX_ERR_VALUE;
  }
  if (!p->use_position) return MX_OK;
  mx_shape each = x->ndim > 2 && in[1].ndim == 2 ? mx_shape_of(x->dim[0], length) : mx_shape_of(length);
  return mx_shape_merge(&in[1], &each, "position", err);
}
static mx_status rotary_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = in[0] != MX_DTYPE_UNKNOWN ? in[0] : out[0];
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  if (!mx_dtype_is_float(t) || (out[0] != MX_DTYPE_UNKNOWN && out[0] != t))
    return mx_fail(err, MX_ERR_TYPE, "data and output must be of one floating-point type.");
  in[0] = out[0] = t;
  if (n_in > 1 && in[1] == MX_DTYPE_UNKNOWN) in[1] = MX_FLOAT32;
  return MX_OK;
}

/* Rows of the table: one a position, `half` cosines and then `half` sines. */
typedef struct rotary_sizes {
  int64_t lead, length, features, half, rows, per_row; /* lead: product of the leading dimensions; per_row: of them,
                                                        * those that share positions */
} rotary_sizes;
static rotary_sizes sizes_of(const mx_call *c) {
  const rotary_params *p = c->params;
  const mx_shape *x = &c->in[0].shape;
  rotary_sizes s = {
      .lead = mx_shape_prod(x, 0, x->ndim - 2), .length = x->dim[x->ndim - 2], .features = x->dim[x->ndim - 1]};
  s.half = (p->dim.given ? p->dim.value : s.features) / 2;
  bool batched = p->use_position && c->in[1].shape.ndim == 2;
  s.rows = batched ? c->in[1].shape.dim[0] * s.length : s.length;
  s.per_row = batched && x->dim[0] > 0 ? s.lead / x->dim[0] : s.lead;
  return s;
}

static double position_at(const mx_tensor *t, int64_t i) {
  MX_SWITCH_ALL(t->dtype, return NAN, return (double)((const T *)t->data)[i];)
  return NAN;
}

static void fill_table(const rotary_params *p, const rotary_sizes *s, const mx_tensor *position, double *table) {
#pragma omp parallel for num_threads(mx_threads_for(s->rows * s->half * 64, MX_GRAIN))
  for (int64_t r = 0; r < s->rows; r++) {
    double t = (double)p->offset + (position ? position_at(position, r) : (double)r);
    for (int64_t i = 0; i < s->half; i++) {
      double angle = t * pow(p->base, -(double)i / (double)s->half);
      table[r * 2 * s->half + i] = cos(angle);
      table[r * 2 * s->half + s->half + i] = p->inverse ? -sin(angle) : sin(angle);
    }
  }
}

static mx_status rotary_prepare(mx_call *c, mx_error *err) {
  const rotary_params *p = c->params;
  rotary_sizes s = sizes_of(c);
  mx_shape shape = mx_shape_of(s.rows, 2 * s.half);
  MX_TRY(mx_shape_check_size(&shape, sizeof(double), err));
  size_t bytes = (size_t)(s.rows * 2 * s.half) * sizeof(double);
  if (p->use_position) {
    c->workspace_bytes = bytes;
    return MX_OK;
  }
  c->state = mx_malloc(bytes + sizeof(double)); /* never empty */
  if (!c->state) return mx_fail_memory(err, bytes);
  fill_table(p, &s, NULL, c->state);
  return MX_OK;
}

/* One vector. y may be x. */
MX_CLONES static void rotate(const void *x_, void *y_, const double *table, const rotary_sizes *s, bool interleaved,
                             mx_dtype dtype) {
  const int64_t half = s->half;
  const double *cosine = table, *sine = table + half;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef __typeof__((T)0 + 0.0f) A;
    const T *x = x_;
    T *y = y_;
    if (interleaved) {
      _Pragma("omp simd") for (int64_t i = 0; i < half; i++) {
        A a = (A)x[2 * i];
        A b = (A)x[2 * i + 1];
        y[2 * i] = (T)(a * (A)cosine[i] - b * (A)sine[i]);
        y[2 * i + 1] = (T)(b * (A)cosine[i] + a * (A)sine[i]);
      }
    } else {
      _Pragma("omp simd") for (int64_t i = 0; i < half; i++) {
        A a = (A)x[i];
        A b = (A)x[i + half];
        y[i] = (T)(a * (A)cosine[i] - b * (A)sine[i]);
        y[i + half] = (T)(b * (A)cosine[i] + a * (A)sine[i]);
      }
    }
    if (x != y) memcpy(y + 2 * half, x + 2 * half, (size_t)(s->features - 2 * half) * sizeof(T));
  })
}

static mx_status rotary_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const rotary_params *p = c->params;
  rotary_sizes s = sizes_of(c);
  if (p->use_position) fill_table(p, &s, &c->in[1], c->workspace);
  const double *table = p->use_position ? c->workspace : c->state;
  size_t bytes = (size_t)s.features * mx_dtype_size(c->out[0].dtype);
  int64_t vectors = s.lead * s.length;
#pragma omp parallel for num_threads(mx_threads_for(vectors *s.features, MX_GRAIN))
  for (int64_t v = 0; v < vectors; v++) {
    int64_t row = v / (s.per_row * s.length) * s.length + v % s.length;
    rotate((const char *)c->in[0].data + (size_t)v * bytes, (char *)c->out[0].data + (size_t)v * bytes,
           table + row * 2 * s.half, &s, p->interleaved, c->out[0].dtype);
  }
  return MX_OK;
}

static mx_status rotary_gradient(mx_grad *g, mx_error *err) {
  const rotary_params *p = g->params;
  if (!g->out_grad[0].node || !g->wanted[0]) return MX_OK;
  char base[32], offset[32], dim[32] = "None";
  snprintf(base, sizeof(base), "%.17g", p->base);
  snprintf(offset, sizeof(offset), "%lld", (long long)p->offset);
  if (p->dim.given) snprintf(dim, sizeof(dim), "%lld", (long long)p->dim.value);
  const char *attrs[] = {"base",
                         base,
                         "offset",
                         offset,
                         "dim",
                         dim,
                         "interleaved",
                         p->interleaved ? "True" : "False",
                         "use_position",
                         p->use_position ? "True" : "False",
                         "inverse",
                         p->inverse ? "False" : "True",
                         NULL};
  mx_entry in[2] = {g->out_grad[0], p->use_position ? g->in[1] : MX_NO_ENTRY};
  return mx_grad_call(g, "RotaryEmbedding", attrs, in, g->n_in, &g->in_grad[0], err);
}

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};

const mx_op mx_ops_rotary[] = {
    {.name = "RotaryEmbedding",
     .family = "Neural-network layers",
     .doc = "Rotary position embedding: pair i of the features of a vector at position t is turned by the angle t "
            "base^(-2 i / "
            "dim), so that products of queries and keys depend on the difference of their positions.",
     .in_doc = MX_STRINGS("Native shape (..., length, features).",
                          "Positions, native shape (length,) or (batch, length); with use_position only."),
     .source = "Su and others, RoFormer: Enhanced transformer with rotary position embedding, 2021",
     .params = rotary_table,
     .params_size = sizeof(rotary_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "position"),
     .count_in = rotary_count_in,
     .infer_shape = rotary_shape,
     .infer_dtype = rotary_dtype,
     .gradient = rotary_gradient,
     .aliases_mem = in_place,
     .prepare = rotary_prepare,
     .release = mx_free,
     .kernel = rotary_kernel},
    {0}};
