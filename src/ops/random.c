/* Random numbers: one distribution for a whole array (_random_*), of the shape of another (_random_*_like), or one per
 * element of parameter arrays (_sample_*); draws of classes, permutations, and unique samples.
 *
 * Every element has counters of its own in a stretch of the Philox sequence, so that the numbers depend neither on the
 * number of threads nor on the device. Rejection loops take further lanes of the same counter. Parameters outside of
 * the domain of a law give NaN where they come from arrays, and are refused where they are attributes.
 *
 * Long because all laws draw from the same sequences. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/vmath.h"
#include "ops/op.h"
#include "ops/scalar_math.h"

#define FAMILY "Random and sampling"

typedef enum law { UNIFORM, NORMAL, GAMMA, EXPONENTIAL, POISSON, NEGATIVE_BINOMIAL, GENERALIZED_NEGATIVE_BINOMIAL } law;

enum {
  BATCH = 64, /* neighbouring elements or blocks that are drawn together */
  AHEAD = 2   /* blocks of an element that are computed together with its neighbours' */
};

/* Philox for BATCH neighbouring counters, one vector lane each; `lane` as in mx_philox. */
MX_CLONES static void philox_batch(mx_random_span span, uint64_t first, uint32_t lane, uint32_t c[4][BATCH]) {
  _Pragma("omp simd") for (int j = 0; j < BATCH; j++) {
    uint64_t n = span.base + first + (uint64_t)j;
    c[0][j] = (uint32_t)n;
    c[1][j] = (uint32_t)(n >> 32);
    c[2][j] = lane;
    c[3][j] = 0;
  }
  uint32_t k0 = (uint32_t)span.key, k1 = (uint32_t)(span.key >> 32);
  for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    _Pragma("omp simd") for (int j = 0; j < BATCH; j++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c[0][j], p1 = (uint64_t)0xCD9E8D57u * c[2][j];
      c[0][j] = (uint32_t)(p1 >> 32) ^ c[1][j] ^ k0;
      c[2][j] = (uint32_t)(p0 >> 32) ^ c[3][j] ^ k1;
      c[1][j] = (uint32_t)p1;
      c[3][j] = (uint32_t)p0;
    }
  }
}

/* ---- the sequence of one element ---- */

typedef struct stream {
  mx_random_span span;
  uint64_t i;
  uint32_t lane;
  uint32_t word[4 * AHEAD];
  int used, have;
  double normal; /* what the first two uniform numbers make, where it is known */
  bool has_normal;
} stream;

static stream stream_of(mx_random_span span, uint64_t i) {
  stream s = {.span = span, .i = i, .lane = 1, .have = 4};
  mx_philox(span, i, 0, s.word);
  return s;
}
static uint64_t next_bits(stream *s) {
  if (s->used == s->have) {
    mx_philox(s->span, s->i, s->lane++, s->word);
    s->used = 0, s->have = 4;
  }
  uint64_t hi = s->word[s->used], lo = s->word[s->used + 1];
  s->used += 2;
  return hi << 32 | lo;
}
static double next_uniform(stream *s) {
  uint64_t u = next_bits(s);
  return mx_uniform_double((uint32_t)(u >> 32), (uint32_t)u);
}
static double next_normal(stream *s) {
  if (s->has_normal && s->lane == AHEAD && s->used == 0) {
    s->used = 4;
    return s->normal;
  }
  double r = sqrt(-2 * log(next_uniform(s)));
  return r * cos(6.283185307179586 * next_uniform(s));
}
/* Uniform on 0 .. range - 1, without bias (Lemire, "Fast random integer generation in an interval", 2019). */
static uint64_t next_below(stream *s, uint64_t range) {
  unsigned __int128 m = (unsigned __int128)next_bits(s) * range;
  if ((uint64_t)m < range)
    for (uint64_t least = -range % range; (uint64_t)m < least;) m = (unsigned __int128)next_bits(s) * range;
  return (uint64_t)(m >> 64);
}

/* ---- the sequences of BATCH neighbouring elements ---- */

MX_CLONES static void normal_batch(const uint32_t word[4][BATCH], double z[BATCH]) {
  _Pragma("omp simd") for (int j = 0; j < BATCH; j++) {
    double u = mx_uniform_double(word[0][j], word[1][j]), v = mx_uniform_double(word[2][j], word[3][j]);
    z[j] = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
  }
}
static void streams_of(mx_random_span span, uint64_t first, bool normal, stream s[BATCH]) {
  uint32_t word[AHEAD][4][BATCH];
  double z[BATCH];
  for (uint32_t lane = 0; lane < AHEAD; lane++) philox_batch(span, first, lane, word[lane]);
  if (normal) normal_batch(word[0], z);
  for (int j = 0; j < BATCH; j++) {
    s[j].span = span, s[j].i = first + (uint64_t)j, s[j].lane = AHEAD, s[j].used = 0, s[j].have = 4 * AHEAD;
    s[j].has_normal = normal, s[j].normal = normal ? z[j] : 0;
    for (int k = 0; k < 4 * AHEAD; k++) s[j].word[k] = word[k / 4][k % 4][j];
  }
}
/* As next_uniform and next_below for element `i`, whose first block is lane j of `word`. */
static double first_uniform(const uint32_t word[4][BATCH], int j) { return mx_uniform_double(word[0][j], word[1][j]); }
static uint64_t first_below(mx_random_span span, uint64_t i, const uint32_t word[4][BATCH], int j, uint64_t range) {
  unsigned __int128 m = (unsigned __int128)((uint64_t)word[0][j] << 32 | word[1][j]) * range;
  if ((uint64_t)m >= range) return (uint64_t)(m >> 64);
  stream s = stream_of(span, i);
  return next_below(&s, range);
}

/* ---- laws ---- */

/* Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; scale 1. */
static double draw_gamma(double alpha, stream *s) {
  double boost = 1;
  if (alpha < 1) {
    boost = pow(next_uniform(s), 1 / alpha);
    alpha += 1;
  }
  double d = alpha - 1.0 / 3, c = 1 / sqrt(9 * d);
  for (;;) {
    double x = next_normal(s), v = 1 + c * x;
    if (v <= 0) continue;
    v = v * v * v;
    double u = next_uniform(s);
    if (u < 1 - 0.0331 * (x * x) * (x * x)) return boost * d * v; /* implies the following */
    if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return boost * d * v;
  }
}

/* Small rates: inversion by multiplication. Large: Hormann, "The transformed rejection method for generating Poisson
 * random variables" (PTRS), 1993. Beyond 1e15 neighbouring integers are no longer told apart: normal. */
static double draw_poisson(double rate, stream *s) {
  if (rate < 10) {
    double limit = exp(-rate), product = next_uniform(s), k = 0;
    for (; product > limit; k++) product *= next_uniform(s);
    return k;
  }
  if (rate > 1e15) return floor(rate + sqrt(rate) * next_normal(s));
  double log_rate = log(rate), b = 0.931 + 2.53 * sqrt(rate), a = -0.059 + 0.02483 * b;
  double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), v_r = 0.9277 - 3.6224 / (b - 2);
  for (;;) {
    double u = next_uniform(s) - 0.5, v = next_uniform(s), us = 0.5 - fabs(u);
    double k = floor((2 * a / us + b) * u + rate + 0.43);
    if (us >= 0.07 && v <= v_r) return k;
    if (k < 0 || (us < 0.013 && v > us)) continue;
    int sign;
    if (log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_rate - rate - lgamma_r(k + 1, &sign)) return k;
  }
}

/* The laws whose first step is a normal number, as a rule. */
static bool begins_normal(law l) {
  return l == NORMAL || l == GAMMA || l == NEGATIVE_BINOMIAL || l == GENERALIZED_NEGATIVE_BINOMIAL;
}

/* a and b are the parameters in the order of the operator. */
static double draw(law l, double a, double b, stream *s) {
  switch (l) {
    case UNIFORM: {
      if (!(a <= b)) return NAN;
      double x = a + next_uniform(s) * (b - a);
      return x < b || a == b ? x : nextafter(b, a);
    }
    case NORMAL:
      return b >= 0 ? a + b * next_normal(s) : NAN;
    case GAMMA:
      return a > 0 && a < INFINITY && b > 0 ? b * draw_gamma(a, s) : NAN;
    case EXPONENTIAL:
      return a > 0 ? -log(next_uniform(s)) / a : NAN;
    case POISSON:
      return a >= 0 && a < INFINITY ? draw_poisson(a, s) : NAN;
    case NEGATIVE_BINOMIAL: /* failures before the a-th success of probability b */
      if (!(a >= 0 && a < INFINITY && b > 0 && b <= 1)) return NAN;
      return a == 0 || b == 1 ? 0 : draw_poisson(draw_gamma(a, s) * ((1 - b) / b), s);
    case GENERALIZED_NEGATIVE_BINOMIAL: /* mean a, dispersion b */
      if (!(a >= 0 && a < INFINITY && b >= 0 && b < INFINITY)) return NAN;
      return a == 0 ? 0 : draw_poisson(b == 0 ? a : draw_gamma(1 / b, s) * a * b, s);
  }
  return NAN;
}

static void store(void *out, mx_dtype dtype, int64_t i, double value) {
  MX_SWITCH_FLOAT(dtype, break, ((T *)out)[i] = (T)value;)
}

/* ---- uniform, normal and exponential numbers in float: whole blocks at a time, four elements each ---- */

/* Element 4 j + i of out comes from word i of block j; normal pairs from words (0, 1) and (2, 3). */
MX_CLONES static void fast_batch(law l, float a, float b, float top, uint32_t c[4][BATCH], float *out) {
  const float unit = 0x1p-32f;
  if (l == NORMAL) {
    for (int h = 0; h < 4; h += 2) {
      _Pragma("omp simd") for (int j = 0; j < BATCH; j++) {
        float sn, cs, r = sqrtf(-2.0f * mx_vlog_normal(((float)c[h][j] + 0.5f) * unit));
        mx_vsincos_turn((float)c[h + 1][j] * unit, &sn, &cs);
        out[4 * j + h] = a + b * (r * cs);
        out[4 * j + h + 1] = a + b * (r * sn);
      }
    }
    return;
  }
  for (int h = 0; h < 4; h++) {
    if (l == UNIFORM) {
      _Pragma("omp simd") for (int j = 0; j < BATCH; j++) {
        float x = a + (float)(c[h][j] >> 8) * 0x1p-24f * (b - a);
        out[4 * j + h] = x < top ? x : top;
      }
    } else {
      float scale = -1.0f / a;
      _Pragma("omp simd") for (int j = 0; j < BATCH; j++) out[4 * j + h] =
          scale * mx_vlog_normal(((float)c[h][j] + 0.5f) * unit);
    }
  }
}

/* The largest number of the type below `high`, so that rounding does not reach it; `low` when there is none between. */
static float largest_below(double low, double high, mx_dtype dtype) {
  if (!(high > low)) return (float)low;
  float f = (float)high;
  if (dtype == MX_FLOAT32) return (double)f < high ? f : nextafterf(f, -INFINITY);
  mx_half h = (mx_half)f;
  if ((double)h < high) return (float)h;
  int16_t bits;
  memcpy(&bits, &h, sizeof(bits));
  bits = (int16_t)(bits > 0 ? bits - 1 : bits == 0 ? (int16_t)0x8001 : bits + 1);
  memcpy(&h, &bits, sizeof(h));
  return (float)h;
}

static bool is_fast(law l, mx_dtype dtype) {
  return dtype != MX_FLOAT64 && (l == UNIFORM || l == NORMAL || l == EXPONENTIAL);
}

static void store_run(const mx_tensor *out, int64_t at, int64_t n, const float *x) {
  if (out->dtype == MX_FLOAT32) {
    memcpy((float *)out->data + at, x, (size_t)n * sizeof(float));
  } else {
    for (int64_t j = 0; j < n; j++) ((mx_half *)out->data)[at + j] = (mx_half)x[j];
  }
}

static void fill_fast(law l, double a, double b, mx_random_span span, int64_t n, const mx_tensor *out) {
  float top = largest_below(a, b, out->dtype);
  const int64_t step = 4 * BATCH;
#pragma omp parallel for num_threads(mx_threads_for(n * 4, MX_GRAIN))
  for (int64_t i = 0; i < n; i += step) {
    uint32_t words[4][BATCH];
    float x[4 * BATCH];
    philox_batch(span, (uint64_t)(i / 4), 0, words);
    fast_batch(l, (float)a, (float)b, top, words, x);
    int64_t len = n - i < step ? n - i : step;
    store_run(out, i, len, x);
  }
}

static mx_status fill(const mx_call *c, law l, double a, double b) {
  const mx_tensor *out = &c->out[0];
  int64_t n = mx_shape_size(&out->shape);
  if (c->req[0] == MX_NULL || n == 0) return MX_OK;
  if (is_fast(l, out->dtype)) {
    fill_fast(l, a, b, mx_random_take((uint64_t)(n + 3) / 4), n, out);
    return MX_OK;
  }
  mx_random_span span = mx_random_take((uint64_t)n);
#pragma omp parallel for num_threads(mx_threads_for(n * 64, MX_GRAIN))
  for (int64_t first = 0; first < n; first += BATCH) {
    stream s[BATCH];
    streams_of(span, (uint64_t)first, begins_normal(l), s);
    for (int64_t i = first; i < n && i < first + BATCH; i++)
      store(out->data, out->dtype, i, draw(l, a, b, &s[i - first]));
  }
  return MX_OK;
}

/* ---- _random_* and _random_*_like ---- */

/* One struct for all laws: a, b are the parameters in order, k the integer one of the negative binomial law. */
typedef struct random_params {
  double a, b;
  int64_t k, k_high;
  mx_shape shape;
  char *ctx;
  mx_dtype dtype;
} random_params;

static const char *const float_types[] = {"None", "float16", "float32", "float64", NULL};
#define NUMBER(name, field, initial, lo, doc) \
  { name, MX_PARAM_FLOAT, offsetof(random_params, field), initial, lo, INFINITY, NULL, doc }
#define SHAPE_ROW(initial, doc) \
  { "shape", MX_PARAM_TUPLE, offsetof(random_params, shape), initial, 0, INFINITY, NULL, doc }
#define DTYPE_ROW(initial, choices)                                                  \
  {                                                                                  \
    "dtype", MX_PARAM_DTYPE, offsetof(random_params, dtype), initial, 0, 0, choices, \
        "Type of the output; None is float32."                                       \
  }
#define OUTPUT_ROWS                                                                                                    \
  SHAPE_ROW("None", "Native shape of the output."),                                                                    \
      {"ctx", MX_PARAM_STRING, offsetof(random_params, ctx), "", 0, 0, NULL, "Device of the output, such as cpu(0)."}, \
      DTYPE_ROW("None", float_types)

#define UNIFORM_ROWS \
  NUMBER("low", a, "0", -INFINITY, "Lower bound."), NUMBER("high", b, "1", -INFINITY, "Upper bound, excluded.")
#define NORMAL_ROWS NUMBER("loc", a, "0", -INFINITY, "Mean."), NUMBER("scale", b, "1", 0, "Standard deviation.")
#define GAMMA_ROWS NUMBER("alpha", a, "1", 0, "Shape, above 0."), NUMBER("beta", b, "1", 0, "Scale, above 0.")
#define EXPONENTIAL_ROWS NUMBER("lam", a, "1", 0, "Rate, above 0.")
#define POISSON_ROWS NUMBER("lam", a, "1", 0, "Rate.")
#define NEGATIVE_BINOMIAL_ROWS                                                                             \
  {"k", MX_PARAM_INT, offsetof(random_params, k), "1", 0, INT32_MAX, NULL, "Number of successes."}, {      \
    "p", MX_PARAM_FLOAT, offsetof(random_params, b), "1", 0, 1, NULL, "Probability of a success, above 0." \
  }
#define GENERALIZED_NEGATIVE_BINOMIAL_ROWS \
  NUMBER("mu", a, "1", 0, "Mean."), NUMBER("alpha", b, "1", 0, "Dispersion: the variance is mu + alpha mu^2.")

static mx_status outside(const char *name, const char *condition, double actual, mx_error *err) {
  mx_fail(err, MX_ERR_VALUE, "%s must be %s, but is %g.", name, condition, actual);
  mx_error_set(err, argument, "%s", name);
  mx_error_set(err, expected, "%s", condition);
  mx_error_set(err, actual, "%g", actual);
  return MX_ERR_VALUE;
}
static mx_status check_law(law l, const random_params *p, mx_error *err) {
  if (l == UNIFORM && p->a > p->b) return outside("high", "at least low", p->b, err);
  if (l == GAMMA && p->b == 0) return outside("beta", "above 0", p->b, err);
  if ((l == GAMMA || l == EXPONENTIAL) && p->a == 0) return outside(l == GAMMA ? "alpha" : "lam", "above 0", p->a, err);
  if (l == NEGATIVE_BINOMIAL && p->b == 0) return outside("p", "above 0", p->b, err);
  return MX_OK;
}

static mx_status random_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const random_params *)params)->shape, "output", err);
}
static mx_status random_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = ((const random_params *)params)->dtype;
  if (t == MX_DTYPE_UNKNOWN) t = out[0] != MX_DTYPE_UNKNOWN ? out[0] : MX_FLOAT32;
  if (out[0] != MX_DTYPE_UNKNOWN && out[0] != t)
    return mx_fail(err, MX_ERR_TYPE, "The output is %s, but dtype says %s.", mx_dtype_name(out[0]), mx_dtype_name(t));
  if (!mx_dtype_is_float(t))
    return mx_fail(err, MX_ERR_TYPE, "The output must have a floating-point type, but it is %s.", mx_dtype_name(t));
  out[0] = t;
  return MX_OK;
}
static mx_status like_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  if (in[0] == MX_DTYPE_UNKNOWN) in[0] = out[0];
  if (in[0] == MX_DTYPE_UNKNOWN) return MX_OK;
  if (!mx_dtype_is_float(in[0]))
    return mx_fail(err, MX_ERR_TYPE, "data must have a floating-point type, but it is %s.", mx_dtype_name(in[0]));
  out[0] = in[0];
  return MX_OK;
}

/* ---- _sample_*: parameters from arrays ---- */

/* The parameter arrays have one shape; the output has the shape parameter's dimensions after it. */
static mx_status sample_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const mx_shape *extra = &((const random_params *)params)->shape;
  int n_extra = extra->ndim > 0 ? extra->ndim : 0;
  for (int i = 1; i < n_in; i++) {
    MX_TRY(mx_shape_merge(&in[0], &in[i], "the first parameter", err));
    MX_TRY(mx_shape_merge(&in[i], &in[0], "the second parameter", err));
  }
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim + n_extra > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE, "The output would have %d dimensions; at most %d are possible.",
                   in[0].ndim + n_extra, MX_MAX_NDIM);
  mx_shape s = in[0];
  for (int i = 0; i < n_extra; i++) s.dim[s.ndim++] = extra->dim[i];
  return mx_shape_merge(&out[0], &s, "output", err);
}
static mx_status sample_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_in; i++) {
    if (in[i] == MX_DTYPE_UNKNOWN) in[i] = in[n_in - 1 - i];
    if (in[i] != MX_DTYPE_UNKNOWN && !mx_dtype_is_float(in[i]))
      return mx_fail(err, MX_ERR_TYPE, "Parameters must have a floating-point type, but one is %s.",
                     mx_dtype_name(in[i]));
  }
  return random_dtype(params, in, n_in, out, n_out, err);
}

static double value_at(const mx_tensor *t, int64_t i) {
  MX_SWITCH_ALL(t->dtype, return NAN, return (double)((const T *)t->data)[i];)
  return NAN;
}

/* Numbers of the law with parameters a and b from those of the standard law. */
MX_CLONES static void scale_run(law l, float a, float b, float top, int64_t n, float *x) {
  const bool valid = l == UNIFORM ? a <= b : l == NORMAL ? b >= 0 : a > 0;
  const float width = b - a;
  if (!valid) {
    for (int64_t i = 0; i < n; i++) x[i] = NAN;
  } else if (l == UNIFORM) {
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {
      const float y = a + x[i] * width;
      x[i] = y < top ? y : top;
    }
  } else if (l == NORMAL) {
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) x[i] = a + b * x[i];
  } else {
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) x[i] /= a;
  }
}

static void sample_fast(const mx_call *c, law l, mx_random_span span, int64_t n, int64_t each) {
  const mx_tensor *out = &c->out[0];
  const int64_t step = 4 * BATCH;
#pragma omp parallel for num_threads(mx_threads_for(n * 4, MX_GRAIN))
  for (int64_t i = 0; i < n; i += step) {
    const int64_t end = n - i < step ? n : i + step;
    uint32_t words[4][BATCH];
    float x[4 * BATCH];
    philox_batch(span, (uint64_t)(i / 4), 0, words);
    fast_batch(l, l == EXPONENTIAL, 1, 1, words, x);
    for (int64_t k = i; k < end;) { /* what has the same parameters */
      const int64_t row = k / each, stop = (row + 1) * each < end ? (row + 1) * each : end;
      const double a = value_at(&c->in[0], row), b = c->n_in > 1 ? value_at(&c->in[1], row) : 0;
      scale_run(l, (float)a, (float)b, l == UNIFORM ? largest_below(a, b, out->dtype) : 0, stop - k, x + (k - i));
      k = stop;
    }
    store_run(out, i, end - i, x);
  }
}

static mx_status sample(const mx_call *c, law l) {
  const mx_tensor *out = &c->out[0];
  int64_t n = mx_shape_size(&out->shape), rows = mx_shape_size(&c->in[0].shape);
  if (c->req[0] == MX_NULL || n == 0) return MX_OK;
  int64_t each = n / rows;
  if (is_fast(l, out->dtype)) {
    sample_fast(c, l, mx_random_take((uint64_t)(n + 3) / 4), n, each);
    return MX_OK;
  }
  mx_random_span span = mx_random_take((uint64_t)n);
#pragma omp parallel for num_threads(mx_threads_for(n * 64, MX_GRAIN))
  for (int64_t first = 0; first < n; first += BATCH) {
    stream s[BATCH];
    streams_of(span, (uint64_t)first, begins_normal(l), s);
    for (int64_t i = first; i < n && i < first + BATCH; i++) {
      double a = value_at(&c->in[0], i / each), b = c->n_in > 1 ? value_at(&c->in[1], i / each) : 0;
      store(out->data, out->dtype, i, draw(l, a, b, &s[i - first]));
    }
  }
  return MX_OK;
}

#define LAW_FUNCTIONS(LAW, low)                                                           \
  static const mx_param low##_table[] = {LAW##_ROWS, OUTPUT_ROWS, MX_P_END};              \
  static const mx_param low##_like_table[] = {LAW##_ROWS, MX_P_END};                      \
  static mx_status low##_check(void *p, mx_error *err) { return check_law(LAW, p, err); } \
  static mx_status low##_fill(const mx_call *c, mx_error *err) {                          \
    const random_params *p = c->params;                                                   \
    return fill(c, LAW, LAW == NEGATIVE_BINOMIAL ? (double)p->k : p->a, p->b);            \
  }                                                                                       \
  static mx_status low##_sample(const mx_call *c, mx_error *err) { return sample(c, LAW); }
LAW_FUNCTIONS(UNIFORM, uniform)
LAW_FUNCTIONS(NORMAL, normal)
LAW_FUNCTIONS(GAMMA, gamma)
LAW_FUNCTIONS(EXPONENTIAL, exponential)
LAW_FUNCTIONS(POISSON, poisson)
LAW_FUNCTIONS(NEGATIVE_BINOMIAL, negative_binomial)
LAW_FUNCTIONS(GENERALIZED_NEGATIVE_BINOMIAL, generalized_negative_binomial)
static const mx_param sample_table[] = {
    SHAPE_ROW("[]", "Native shape of the draws from each distribution; empty for one draw."),
    DTYPE_ROW("None", float_types), MX_P_END};

/* ---- _random_randint ---- */

static const char *const int_types[] = {"None", "int32", "int64", NULL};
static const mx_param randint_table[] = {
    {"low", MX_PARAM_INT, offsetof(random_params, k), NULL, -INFINITY, INFINITY, NULL, "Lower bound."},
    {"high", MX_PARAM_INT, offsetof(random_params, k_high), NULL, -INFINITY, INFINITY, NULL, "Upper bound, excluded."},
    SHAPE_ROW("None", "Native shape of the output."),
    {"ctx", MX_PARAM_STRING, offsetof(random_params, ctx), "", 0, 0, NULL, "Device of the output, such as cpu(0)."},
    {"dtype", MX_PARAM_DTYPE, offsetof(random_params, dtype), "None", 0, 0, int_types,
     "Type of the output; None is int32."},
    MX_P_END};

static mx_status randint_check(void *params, mx_error *err) {
  const random_params *p = params;
  if (p->k >= p->k_high) return outside("high", "above low", (double)p->k_high, err);
  if (p->dtype != MX_INT64 && (p->k < INT32_MIN || p->k_high - 1 > INT32_MAX))
    return mx_fail(err, MX_ERR_VALUE, "The bounds %lld and %lld do not fit int32: ask for dtype int64.",
                   (long long)p->k, (long long)p->k_high);
  return MX_OK;
}
static mx_status randint_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = ((const random_params *)params)->dtype == MX_INT64 ? MX_INT64 : MX_INT32;
  if (out[0] != MX_DTYPE_UNKNOWN && out[0] != t)
    return mx_fail(err, MX_ERR_TYPE, "The output is %s, but dtype says %s.", mx_dtype_name(out[0]), mx_dtype_name(t));
  out[0] = t;
  return MX_OK;
}
static mx_status randint_kernel(const mx_call *c, mx_error *err) {
  const random_params *p = c->params;
  const mx_tensor *out = &c->out[0];
  int64_t n = mx_shape_size(&out->shape);
  if (c->req[0] == MX_NULL || n == 0) return MX_OK;
  uint64_t range = (uint64_t)p->k_high - (uint64_t)p->k;
  mx_random_span span = mx_random_take((uint64_t)n);
#pragma omp parallel for num_threads(mx_threads_for(n * 16, MX_GRAIN))
  for (int64_t first = 0; first < n; first += BATCH) {
    uint32_t word[4][BATCH];
    philox_batch(span, (uint64_t)first, 0, word);
    for (int64_t i = first; i < n && i < first + BATCH; i++) {
      int64_t x = (int64_t)((uint64_t)p->k + first_below(span, (uint64_t)i, word, (int)(i - first), range));
      if (out->dtype == MX_INT64)
        ((int64_t *)out->data)[i] = x;
      else
        ((int32_t *)out->data)[i] = (int32_t)x;
    }
  }
  return MX_OK;
}

/* ---- _sample_multinomial ---- */

typedef struct multinomial_params {
  mx_shape shape;
  bool get_prob;
  mx_dtype dtype;
} multinomial_params;

static const char *const class_types[] = {"float16", "float32", "float64", "int32", "uint8", NULL};
static const mx_param multinomial_table[] = {
    MX_P_TUPLE(multinomial_params, shape, "[]", 0, INFINITY,
               "Native shape of the draws from each row; empty for one draw."),
    MX_P_BOOL(multinomial_params, get_prob, "0",
              "Also return the logarithm of the probability of each draw, which has a gradient."),
    MX_P_DTYPE(multinomial_params, dtype, "int32", class_types, "Type of the drawn classes."), MX_P_END};

static int multinomial_outputs(const void *params) { return ((const multinomial_params *)params)->get_prob ? 2 : 1; }

static mx_status multinomial_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                   mx_error *err) {
  const mx_shape *extra = &((const multinomial_params *)params)->shape;
  int n_extra = extra->ndim > 0 ? extra->ndim : 0;
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "data must have native shape (rows..., classes).");
  mx_shape s = in[0];
  int64_t classes = s.dim[--s.ndim];
  if (s.ndim + n_extra > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE, "The output would have %d dimensions; at most %d are possible.", s.ndim + n_extra,
                   MX_MAX_NDIM);
  for (int i = 0; i < n_extra; i++) s.dim[s.ndim++] = extra->dim[i];
  if (s.ndim == 0) s.dim[s.ndim++] = 1;
  for (int i = 0; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &s, "output", err));
  if (!mx_shape_known(&s)) return MX_OK;
  MX_TRY(mx_shape_check_size(&s, sizeof(double), err));
  if (classes == 0 && mx_shape_size(&s) > 0) return mx_fail(err, MX_ERR_SHAPE, "data has no classes to draw from.");
  return MX_OK;
}
static mx_status multinomial_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                   mx_error *err) {
  if (n_out > 1 && in[0] == MX_DTYPE_UNKNOWN) in[0] = out[1];
  if (in[0] != MX_DTYPE_UNKNOWN && !mx_dtype_is_float(in[0]))
    return mx_fail(err, MX_ERR_TYPE, "data must have a floating-point type, but it is %s.", mx_dtype_name(in[0]));
  out[0] = ((const multinomial_params *)params)->dtype;
  if (n_out > 1) out[1] = in[0];
  return MX_OK;
}

static mx_status multinomial_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = (size_t)mx_shape_size(&c->in[0].shape) * sizeof(double); /* cumulative sums */
  return MX_OK;
}

/* The first class whose cumulative sum exceeds u times the total; the last class for rows without a positive total. */
static int64_t pick_class(const double *sums, int64_t classes, double u) {
  double target = u * sums[classes - 1];
  int64_t lo = 0, hi = classes - 1;
  while (lo < hi) {
    int64_t mid = lo + (hi - lo) / 2;
    if (sums[mid] > target)
      hi = mid;
    else
      lo = mid + 1;
  }
  return lo;
}

static mx_status multinomial_kernel(const mx_call *c, mx_error *err) {
  const mx_tensor *data = &c->in[0], *out = &c->out[0];
  int64_t n = mx_shape_size(&out->shape), classes = data->shape.dim[data->shape.ndim - 1];
  if (n == 0) return MX_OK;
  int64_t rows = mx_shape_size(&data->shape) / classes, each = n / rows;
  double *sums = c->workspace;
#pragma omp parallel for num_threads(mx_threads_for(rows *classes, MX_GRAIN))
  for (int64_t i = 0; i < rows; i++) {
    double sum = 0;
    for (int64_t j = i * classes; j < (i + 1) * classes; j++) sums[j] = sum += value_at(data, j);
  }
  mx_random_span span = mx_random_take((uint64_t)n);
  bool log_probability = c->n_out > 1 && c->req[1] != MX_NULL;
#pragma omp parallel for num_threads(mx_threads_for(n * 64, MX_GRAIN))
  for (int64_t first = 0; first < n; first += BATCH) {
    uint32_t word[4][BATCH];
    philox_batch(span, (uint64_t)first, 0, word);
    for (int64_t i = first; i < n && i < first + BATCH; i++) {
      int64_t row = i / each;
      int64_t k = pick_class(sums + row * classes, classes, first_uniform(word, (int)(i - first)));
      if (c->req[0] != MX_NULL) MX_SWITCH_ALL(out->dtype, break, ((T *)out->data)[i] = (T)k;)
      if (log_probability) store(c->out[1].data, c->out[1].dtype, i, log(value_at(data, row * classes + k)));
    }
  }
  return MX_OK;
}

static mx_status multinomial_gradient(mx_grad *g, mx_error *err) {
  if (g->n_out < 2 || !g->out_grad[1].node || !g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_sample_multinomial", (mx_entry[]){g->in[0], g->out[0], g->out_grad[1]}, 3,
                          &g->in_grad[0], err);
}
static mx_status multinomial_backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                            mx_error *err) {
  return mx_shape_merge(&out[0], &in[0], "the gradient", err);
}
static mx_status multinomial_backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                            mx_error *err) {
  out[0] = in[0];
  return MX_OK;
}
/* (data, drawn classes, gradient of the log probabilities): each draw adds its gradient over the probability. */
static mx_status multinomial_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_tensor *data = &c->in[0], *draws = &c->in[1], *head = &c->in[2];
  int64_t size = mx_shape_size(&data->shape), n = mx_shape_size(&draws->shape);
  memset(c->out[0].data, 0, (size_t)size * mx_dtype_size(data->dtype));
  if (n == 0) return MX_OK;
  int64_t classes = data->shape.dim[data->shape.ndim - 1], each = n / (size / classes);
  for (int64_t i = 0; i < n; i++) {
    double k = value_at(draws, i);
    if (!(k >= 0 && k < (double)classes)) continue;
    int64_t at = i / each * classes + (int64_t)k;
    store(c->out[0].data, data->dtype, at, value_at(&c->out[0], at) + value_at(head, i) / value_at(data, at));
  }
  return MX_OK;
}

/* ---- _shuffle ---- */

static mx_status shuffle_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = c->in[0].shape.ndim > 0 ? (size_t)c->in[0].shape.dim[0] * sizeof(int64_t) : 0;
  return MX_OK;
}
static mx_status shuffle_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *shape = &c->in[0].shape;
  if (c->req[0] == MX_NULL || mx_shape_size(shape) == 0) return MX_OK;
  int64_t n = shape->ndim > 0 ? shape->dim[0] : 1;
  size_t bytes = (size_t)(mx_shape_size(shape) / n) * mx_dtype_size(c->in[0].dtype);
  int64_t *order = c->workspace;
  mx_random_span span = mx_random_take((uint64_t)n);
  if (shape->ndim == 0) return c->device->ops->copy(c->device, c->out[0].data, c->in[0].data, bytes, err);
  for (int64_t first = 0; first < n; first += BATCH) { /* Fisher and Yates, from the front */
    uint32_t word[4][BATCH];
    philox_batch(span, (uint64_t)first, 0, word);
    for (int64_t i = first; i < n && i < first + BATCH; i++) {
      int64_t j = (int64_t)first_below(span, (uint64_t)i, word, (int)(i - first), (uint64_t)i + 1);
      order[i] = order[j];
      order[j] = i;
    }
  }
#pragma omp parallel for num_threads(mx_threads_for(n *(int64_t)bytes, MX_GRAIN * 16))
  for (int64_t i = 0; i < n; i++)
    memcpy((char *)c->out[0].data + (size_t)i * bytes, (const char *)c->in[0].data + (size_t)order[i] * bytes, bytes);
  return MX_OK;
}

/* ---- _sample_unique_zipfian ---- */

typedef struct zipfian_params {
  int64_t range_max;
  mx_shape shape;
} zipfian_params;

static const mx_param zipfian_table[] = {
    MX_P_INT(zipfian_params, range_max, NULL, 1, INT32_MAX, "Number of classes."),
    MX_P_TUPLE(zipfian_params, shape, "None", 0, INFINITY, "Native shape (rows, draws) of the output."), MX_P_END};

static mx_status zipfian_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const zipfian_params *p = params;
  MX_TRY(mx_shape_merge(&out[0], &p->shape, "output", err));
  if (out[0].ndim < 0) return MX_OK;
  if (out[0].ndim != 2) return mx_fail(err, MX_ERR_SHAPE, "shape must be (rows, draws).");
  if (out[0].dim[1] > p->range_max)
    return mx_fail(err, MX_ERR_VALUE, "shape asks for %lld different classes, but range_max is %lld.",
                   (long long)out[0].dim[1], (long long)p->range_max);
  mx_shape rows = mx_shape_of(out[0].dim[0]);
  return mx_shape_merge(&out[1], &rows, "the number of tries", err);
}
static mx_status zipfian_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  out[0] = out[1] = MX_INT64;
  return MX_OK;
}

static int64_t zipfian_slots(int64_t draws) {
  int64_t n = 16;
  while (n < 2 * draws) n *= 2;
  return n;
}
static mx_status zipfian_prepare(mx_call *c, mx_error *err) {
  c->workspace_bytes = (size_t)zipfian_slots(c->out[0].shape.dim[1]) * sizeof(int64_t);
  return MX_OK;
}
/* Draws with P(k) = log((k + 2) / (k + 1)) / log(range_max + 1) until there are enough different ones in every row. */
static mx_status zipfian_kernel(const mx_call *c, mx_error *err) {
  const zipfian_params *p = c->params;
  int64_t rows = c->out[0].shape.dim[0], draws = c->out[0].shape.dim[1], slots = zipfian_slots(draws);
  int64_t *seen = c->workspace; /* open addressing; holds class + 1 */
  double log_range = log((double)p->range_max + 1);
  mx_random_span span = mx_random_take((uint64_t)rows);
  for (int64_t i = 0; i < rows; i++) {
    stream s = stream_of(span, (uint64_t)i);
    int64_t tries = 0;
    memset(seen, 0, (size_t)slots * sizeof(int64_t));
    for (int64_t found = 0; found < draws; tries++) {
      int64_t k = (int64_t)exp(next_uniform(&s) * log_range) - 1;
      k = k < 0 ? 0 : k >= p->range_max ? p->range_max - 1 : k;
      int64_t at = (int64_t)((uint64_t)k * 0x9E3779B97F4A7C15u >> 20) & (slots - 1);
      while (seen[at] && seen[at] != k + 1) at = (at + 1) & (slots - 1);
      if (seen[at]) continue;
      seen[at] = k + 1;
      if (c->req[0] != MX_NULL) ((int64_t *)c->out[0].data)[i * draws + found] = k;
      found++;
    }
    if (c->req[1] != MX_NULL) ((int64_t *)c->out[1].data)[i] = tries;
  }
  return MX_OK;
}

/* ---- records ---- */

#define LAW_RECORDS(low, text, law_in, names, docs, ...)                                                         \
  {.name = "_random_" #low,                                                                                      \
   .aliases = MX_STRINGS("random_" #low, ##__VA_ARGS__),                                                         \
   .family = FAMILY,                                                                                             \
   .doc = "Random numbers, " #low ": independent draws of " text,                                                \
   .params = low##_table,                                                                                        \
   .params_size = sizeof(random_params),                                                                         \
   .check = low##_check,                                                                                         \
   .n_in = 0,                                                                                                    \
   .n_out = 1,                                                                                                   \
   .infer_shape = random_shape,                                                                                  \
   .infer_dtype = random_dtype,                                                                                  \
   .flags = MX_OP_RANDOM,                                                                                        \
   .kernel = low##_fill},                                                                                        \
      {.name = "_random_" #low "_like",                                                                          \
       .family = FAMILY,                                                                                         \
       .doc = "An array of the shape and type of data with independent draws of " text,                          \
       .in_doc = MX_STRINGS("Array whose shape and type the output has."),                                       \
       .params = low##_like_table,                                                                               \
       .params_size = sizeof(random_params),                                                                     \
       .check = low##_check,                                                                                     \
       .n_in = 1,                                                                                                \
       .n_out = 1,                                                                                               \
       .infer_dtype = like_dtype,                                                                                \
       .flags = MX_OP_RANDOM,                                                                                    \
       .kernel = low##_fill},                                                                                    \
  {                                                                                                              \
    .name = "_sample_" #low, .aliases = MX_STRINGS("sample_" #low), .family = FAMILY,                            \
    .doc = "Random rows, " #low ": for each element of the parameters, draws of " text                           \
           " The native shape of the output is that of the parameters followed by shape.",                       \
    .params = sample_table, .params_size = sizeof(random_params), .n_in = law_in, .n_out = 1, .in_names = names, \
    .in_doc = docs, .infer_shape = sample_shape, .infer_dtype = sample_dtype, .flags = MX_OP_RANDOM,             \
    .kernel = low##_sample                                                                                       \
  }

const mx_op mx_ops_random[] = {
    LAW_RECORDS(uniform, "the uniform law on [low, high).", 2, MX_STRINGS("low", "high"),
                MX_STRINGS("Lower bounds.", "Upper bounds, of the same shape."), "uniform"),
    LAW_RECORDS(normal, "the normal law with mean loc (mu) and standard deviation scale (sigma).", 2,
                MX_STRINGS("mu", "sigma"), MX_STRINGS("Means.", "Standard deviations, of the same shape."), "normal"),
    LAW_RECORDS(gamma, "the gamma law with shape alpha and scale beta (mean alpha beta).", 2,
                MX_STRINGS("alpha", "beta"), MX_STRINGS("Shapes.", "Scales, of the same shape.")),
    LAW_RECORDS(exponential, "the exponential law with rate lam (mean 1 / lam).", 1, MX_STRINGS("lam"),
                MX_STRINGS("Rates.")),
    LAW_RECORDS(poisson, "the Poisson law with rate lam, as floating-point numbers.", 1, MX_STRINGS("lam"),
                MX_STRINGS("Rates.")),
    LAW_RECORDS(negative_binomial,
                "the negative binomial law: failures before the k-th success, p being the probability of a success.", 2,
                MX_STRINGS("k", "p"),
                MX_STRINGS("Numbers of successes.", "Probabilities of a success, of the same shape.")),
    LAW_RECORDS(generalized_negative_binomial,
                "the negative binomial law with mean mu and variance mu + alpha mu^2; alpha = 0 is the Poisson law.", 2,
                MX_STRINGS("mu", "alpha"), MX_STRINGS("Means.", "Dispersions, of the same shape.")),
    {.name = "_random_randint",
     .aliases = MX_STRINGS("random_randint"),
     .family = FAMILY,
     .doc = "Random integers: independent draws of low, ..., high - 1, all equally likely.",
     .params = randint_table,
     .params_size = sizeof(random_params),
     .check = randint_check,
     .n_in = 0,
     .n_out = 1,
     .infer_shape = random_shape,
     .infer_dtype = randint_dtype,
     .flags = MX_OP_RANDOM,
     .kernel = randint_kernel},
    {.name = "_sample_multinomial",
     .aliases = MX_STRINGS("sample_multinomial"),
     .family = FAMILY,
     .doc =
         "Draws classes: with the probabilities in each row of data, divided by their sum. The native shape of the "
         "output is that of data without its last dimension, followed by shape. With get_prob the second output holds "
         "log(data[class]), and its gradient with respect to data is 1 / data[class].",
     .in_doc = MX_STRINGS("Probabilities, native shape (rows..., classes)."),
     .params = multinomial_table,
     .params_size = sizeof(multinomial_params),
     .n_in = 1,
     .n_out = 1,
     .count_out = multinomial_outputs,
     .infer_shape = multinomial_shape,
     .infer_dtype = multinomial_dtype,
     .gradient = multinomial_gradient,
     .flags = MX_OP_RANDOM,
     .prepare = multinomial_prepare,
     .kernel = multinomial_kernel},
    {.name = "_backward_sample_multinomial",
     .family = FAMILY,
     .doc = "Gradient of the log probabilities of _sample_multinomial.",
     .params = multinomial_table,
     .params_size = sizeof(multinomial_params),
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("data", "draws", "out_grad"),
     .infer_shape = multinomial_backward_shape,
     .infer_dtype = multinomial_backward_dtype,
     .flags = MX_OP_HIDDEN,
     .kernel = multinomial_backward},
    {.name = "_sample_unique_zipfian",
     .family = FAMILY,
     .doc = "Draws different classes from the approximately Zipfian law P(k) = log((k + 2) / (k + 1)) / log(range_max "
            "+ 1), "
            "k = 0, ..., range_max - 1. The second output counts the draws that each row took.",
     .params = zipfian_table,
     .params_size = sizeof(zipfian_params),
     .n_in = 0,
     .n_out = 2,
     .infer_shape = zipfian_shape,
     .infer_dtype = zipfian_dtype,
     .flags = MX_OP_RANDOM,
     .prepare = zipfian_prepare,
     .kernel = zipfian_kernel},
    {.name = "_shuffle",
     .aliases = MX_STRINGS("shuffle"),
     .family = FAMILY,
     .doc = "The rows of data (along the first native axis) in random order; every order is equally likely.",
     .in_doc = MX_STRINGS("Array with at least one dimension."),
     .n_in = 1,
     .n_out = 1,
     .flags = MX_OP_RANDOM,
     .prepare = shuffle_prepare,
     .kernel = shuffle_kernel},
    {0}};
