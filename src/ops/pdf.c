/* Probability densities and mass functions of the laws in random.c, with gradients for samples and parameters.
 *
 * Everything is computed from the logarithm of the density in double; the rows (one set of parameters each) are shared
 * out among threads. */
#include <math.h>
#include <stdio.h>

#include "core/vmath.h"
#include "ops/op.h"
#include "ops/scalar_math.h"

#define FAMILY "Random and sampling"

typedef struct pdf_params {
  bool is_log;
} pdf_params;

static const mx_param pdf_table[] = {MX_P_BOOL(pdf_params, is_log, "0", "Return the logarithm of the density."),
                                     MX_P_END};

/* Digamma of a positive number. The recorded answers have the logarithm of its asymptotic series rounded to float; the
 * rounding (below 1.2e-7) is kept, because sums over a sample cancel and then show it. */
static double digamma(double x) {
  if (!(x > 0)) return NAN;
  double shift = 0;
  for (; x < 10; x += 1) shift += 1 / x;
  double z = 1 / (x * x);
  double series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132)))));
  return (double)(float)log(x) - 0.5 / x - series - shift;
}

/* The logarithm of the density at x, and where asked its derivatives: for x, then for the parameters. Returned as a
 * whole: variables whose addresses are taken keep loops from being vectorized. */
typedef struct density {
  double log, x, first, second;
} density;

MX_INLINE density uniform(double x, const double *p, bool slopes) {
  double width = p[1] - p[0];
  bool inside = x >= p[0] && x <= p[1];
  return (density){inside ? -log(width) : -INFINITY, 0, 1 / width, -1 / width};
}
MX_INLINE density normal(double x, const double *p, bool slopes) {
  double z = (x - p[0]) / p[1];
  return (density){-0.5 * z * z - log(p[1]) - 0.918938533204672742, /* log(2 pi) / 2 */
                   -z / p[1], z / p[1], (z * z - 1) / p[1]};
}
/* The second parameter is a rate here, the inverse of the scale of the sampler. */
MX_INLINE density gamma_rate(double x, const double *p, bool slopes) {
  double a = p[0], b = p[1];
  density d = {a * log(b) + (a - 1) * log(x) - b * x - mxs_lgamma_double(a), 0, 0, 0};
  if (slopes) d.x = (a - 1) / x - b, d.first = log(b) + log(x) - digamma(a), d.second = a / b - x;
  return d;
}
MX_INLINE density exponential(double x, const double *p, bool slopes) {
  return (density){log(p[0]) - p[0] * x, -p[0], 1 / p[0] - x, 0};
}
MX_INLINE density poisson(double x, const double *p, bool slopes) {
  return (density){x * log(p[0]) - p[0] - mxs_lgamma_double(x + 1), 0, x / p[0] - 1, 0};
}
MX_INLINE density negative_binomial(double x, const double *p, bool slopes) {
  double k = p[0], q = p[1];
  density d = {mxs_lgamma_double(x + k) - mxs_lgamma_double(k) - mxs_lgamma_double(x + 1) + k * log(q) + x * log1p(-q),
               0, 0, 0};
  if (slopes) d.first = digamma(x + k) - digamma(k) + log(q), d.second = k / q - x / (1 - q);
  return d;
}
/* Mean mu, dispersion alpha: r = 1 / alpha successes of probability 1 / (1 + mu alpha). */
MX_INLINE density generalized_negative_binomial(double x, const double *p, bool slopes) {
  double mu = p[0], alpha = p[1], r = 1 / alpha, s = 1 + mu * alpha;
  density d = {
      mxs_lgamma_double(x + r) - mxs_lgamma_double(r) - mxs_lgamma_double(x + 1) - r * log(s) + x * log(mu * alpha / s),
      0, 0, 0};
  if (slopes) {
    d.first = x / mu - (x + r) * alpha / s;
    d.second = -r * r * (digamma(x + r) - digamma(r) - log(s)) - r * mu / s + x / alpha - x * mu / s;
  }
  return d;
}

static double value_at(const mx_tensor *t, int64_t i) {
  MX_SWITCH_FLOAT(t->dtype, return NAN, return (double)((const T *)t->data)[i];)
  return NAN;
}
static void store(const mx_tensor *t, int64_t i, double x) {
  MX_SWITCH_FLOAT(t->dtype, break, ((T *)t->data)[i] = (T)x;)
}

enum { COST = 64, STRIP = 1024 }; /* one density counts as so many simple operations; samples taken at a time */

/* Loops of one law: densities, and gradients (dx NULL: not wanted) with the sums of those of the parameters. */
typedef void (*density_loop)(const void *x, const double *p, bool is_log, void *y, int64_t n, mx_dtype dtype);
typedef void (*gradient_loop)(const void *head, const void *x, const double *p, bool is_log, void *dx, double *sum,
                              int64_t n, mx_dtype dtype);

static mx_status forward(const mx_call *c, density_loop f) {
  if (c->req[0] == MX_NULL) return MX_OK;
  bool is_log = ((const pdf_params *)c->params)->is_log;
  int64_t n = mx_shape_size(&c->out[0].shape);
  if (n == 0) return MX_OK;
  int64_t rows = mx_shape_size(&c->in[1].shape), each = n / rows, strips = (each + STRIP - 1) / STRIP;
  size_t es = mx_dtype_size(c->out[0].dtype);
#pragma omp parallel for num_threads(mx_threads_for(n *COST, MX_GRAIN))
  for (int64_t i = 0; i < rows * strips; i++) {
    int64_t r = i / strips, begin = i % strips * STRIP, m = each - begin < STRIP ? each - begin : STRIP;
    double p[2] = {value_at(&c->in[1], r), c->n_in > 2 ? value_at(&c->in[2], r) : 0};
    size_t at = (size_t)(r * each + begin) * es;
    f((const char *)c->in[0].data + at, p, is_log, (char *)c->out[0].data + at, m, c->out[0].dtype);
  }
  return MX_OK;
}

/* (head gradient, sample, parameters...) to (sample, parameters...). */
static mx_status backward(const mx_call *c, gradient_loop f) {
  bool is_log = ((const pdf_params *)c->params)->is_log;
  int64_t rows = mx_shape_size(&c->in[2].shape), n = mx_shape_size(&c->in[1].shape);
  int64_t each = rows > 0 ? n / rows : 0;
  size_t es = mx_dtype_size(c->in[1].dtype);
#pragma omp parallel for num_threads(mx_threads_for(n *COST, MX_GRAIN))
  for (int64_t r = 0; r < rows; r++) {
    double p[2] = {value_at(&c->in[2], r), c->n_in > 3 ? value_at(&c->in[3], r) : 0}, sum[2] = {0, 0};
    size_t at = (size_t)(r * each) * es;
    f((const char *)c->in[0].data + at, (const char *)c->in[1].data + at, p, is_log,
      c->req[0] != MX_NULL ? (char *)c->out[0].data + at : NULL, sum, each, c->in[1].dtype);
    for (int k = 1; k < c->n_out; k++)
      if (c->req[k] != MX_NULL) store(&c->out[k], r, sum[k - 1]);
  }
  return MX_OK;
}

#define SLOPES(name, times)                                                          \
  _Pragma("omp simd reduction(+ : first, second)") for (int64_t i = 0; i < m; i++) { \
    const density d = name((double)x[i], p, true);                                   \
    const double g = (double)head[i] * (times);                                      \
    dx[i] = (T)(g * d.x);                                                            \
    first += g * d.first;                                                            \
    second += g * d.second;                                                          \
  }
#define LAW(name)                                                                                                  \
  MX_CLONES static void name##_loop(const void *x_, const double *p_, bool is_log, void *y_, int64_t n,            \
                                    mx_dtype dtype) {                                                              \
    const double p[2] = {p_[0], p_[1]};                                                                            \
    MX_SWITCH_FLOAT(dtype, return, {                                                                               \
      const T *x = x_;                                                                                             \
      T *y = y_;                                                                                                   \
      if (is_log) {                                                                                                \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (T)name((double)x[i], p, false).log;            \
      } else {                                                                                                     \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (T)mxs_exp(name((double)x[i], p, false).log);   \
      }                                                                                                            \
    })                                                                                                             \
  }                                                                                                                \
  MX_CLONES static void name##_slopes(const void *head_, const void *x_, const double *p_, bool is_log, void *dx_, \
                                      double *sum, int64_t n, mx_dtype dtype) {                                    \
    const double p[2] = {p_[0], p_[1]};                                                                            \
    double first = 0, second = 0;                                                                                  \
    MX_SWITCH_FLOAT(dtype, return, {                                                                               \
      T unused[STRIP];                                                                                             \
      for (int64_t at = 0; at < n; at += STRIP) {                                                                  \
        const int64_t m = n - at < STRIP ? n - at : STRIP;                                                         \
        const T *head = (const T *)head_ + at, *x = (const T *)x_ + at;                                            \
        T *dx = dx_ ? (T *)dx_ + at : unused;                                                                      \
        if (is_log)                                                                                                \
          SLOPES(name, 1)                                                                                          \
        else                                                                                                       \
          SLOPES(name, mxs_exp(d.log))                                                                             \
      }                                                                                                            \
    })                                                                                                             \
    sum[0] = first, sum[1] = second;                                                                               \
  }                                                                                                                \
  static mx_status name##_forward(const mx_call *c, mx_error *err) { return forward(c, name##_loop); }             \
  static mx_status name##_backward(const mx_call *c, mx_error *err) { return backward(c, name##_slopes); }
LAW(uniform)
LAW(normal)
LAW(gamma_rate)
LAW(exponential)
LAW(poisson)
LAW(negative_binomial)
LAW(generalized_negative_binomial)

/* ---- Dirichlet: samples and parameters are vectors ---- */

static mx_status dirichlet_forward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  bool is_log = ((const pdf_params *)c->params)->is_log;
  const mx_shape *a = &c->in[1].shape;
  int64_t n = mx_shape_size(&c->out[0].shape), k = a->dim[a->ndim - 1];
  if (n == 0) return MX_OK;
  int64_t each = n / mx_shape_prod(a, 0, a->ndim - 1);
#pragma omp parallel for num_threads(mx_threads_for(n *k *COST, MX_GRAIN))
  for (int64_t i = 0; i < n; i++) {
    double y = 0, total = 0;
    for (int64_t j = 0; j < k; j++) {
      double alpha = value_at(&c->in[1], i / each * k + j);
      y += (alpha - 1) * log(value_at(&c->in[0], i * k + j)) - mxs_lgamma_double(alpha);
      total += alpha;
    }
    y += mxs_lgamma_double(total);
    store(&c->out[0], i, is_log ? y : exp(y));
  }
  return MX_OK;
}

/* (head gradient, density, sample, alpha) to (sample, alpha). */
static mx_status dirichlet_backward(const mx_call *c, mx_error *err) {
  bool is_log = ((const pdf_params *)c->params)->is_log;
  const mx_shape *a = &c->in[3].shape;
  int64_t k = a->dim[a->ndim - 1], rows = mx_shape_prod(a, 0, a->ndim - 1), n = mx_shape_size(&c->in[0].shape);
  int64_t each = rows > 0 ? n / rows : 0;
#pragma omp parallel for num_threads(mx_threads_for(n *k *COST, MX_GRAIN))
  for (int64_t r = 0; r < rows; r++) {
    double total = 0;
    for (int64_t j = 0; j < k; j++) total += value_at(&c->in[3], r * k + j);
    for (int64_t j = 0; j < k; j++) {
      double alpha = value_at(&c->in[3], r * k + j), sum = 0, shift = digamma(total) - digamma(alpha);
      for (int64_t i = r * each; i < (r + 1) * each; i++) {
        double x = value_at(&c->in[2], i * k + j),
               head = value_at(&c->in[0], i) * (is_log ? 1 : value_at(&c->in[1], i));
        if (c->req[0] != MX_NULL) store(&c->out[0], i * k + j, head * (alpha - 1) / x);
        sum += head * (log(x) + shift);
      }
      if (c->req[1] != MX_NULL) store(&c->out[1], r * k + j, sum);
    }
  }
  return MX_OK;
}

/* ---- inference and gradients ---- */

/* The sample has the dimensions of the parameters and more after them; `vector` dimensions at the end belong together.
 */
static mx_status infer(mx_shape *in, int n_in, mx_shape *out, int vector, mx_error *err) {
  for (int i = 2; i < n_in; i++) {
    MX_TRY(mx_shape_merge(&in[1], &in[i], "the first parameter", err));
    MX_TRY(mx_shape_merge(&in[i], &in[1], "the second parameter", err));
  }
  const mx_shape *s = &in[0];
  mx_shape *p = &in[1];
  if (s->ndim < 0) return MX_OK;
  bool fits = s->ndim >= vector;
  if (p->ndim >= 0) {
    fits = fits && p->ndim >= vector && p->ndim <= s->ndim;
    for (int i = 0; fits && i < p->ndim; i++) {
      int64_t want = i < p->ndim - vector ? s->dim[i] : s->dim[s->ndim - p->ndim + i];
      fits = p->dim[i] < 0 || want < 0 || p->dim[i] == want;
    }
  }
  if (!fits) {
    char ts[MX_SHAPE_TEXT], tp[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE,
            "A sample of native shape %s does not go with parameters of native shape %s: its first "
            "dimensions must be theirs.",
            mx_shape_text(s, ts), mx_shape_text(p, tp));
    mx_error_set(err, argument, "sample");
    mx_error_set(err, expected, "%s", tp);
    mx_error_set(err, actual, "%s", ts);
    return MX_ERR_SHAPE;
  }
  mx_shape y = *s;
  y.ndim -= vector;
  if (y.ndim == 0) y = mx_shape_of(1);
  return mx_shape_merge(&out[0], &y, "output", err);
}
static mx_status scalar_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return infer(in, n_in, out, 0, err);
}
static mx_status vector_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return infer(in, n_in, out, 1, err);
}
static mx_status pdf_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = out[0];
  for (int i = 0; i < n_in && t == MX_DTYPE_UNKNOWN; i++) t = in[i];
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  for (int i = 0; i < n_in + n_out; i++) {
    mx_dtype *d = i < n_in ? &in[i] : &out[i - n_in];
    if (*d == MX_DTYPE_UNKNOWN) *d = t;
    if (*d != t || !mx_dtype_is_float(t))
      return mx_fail(err, MX_ERR_TYPE,
                     "Sample, parameters and output must be of one floating-point type, not %s and %s.",
                     mx_dtype_name(t), mx_dtype_name(*d));
  }
  return MX_OK;
}
/* The outputs have the shapes of the last inputs. */
static mx_status backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &in[n_in - n_out + i], "a gradient", err));
  return MX_OK;
}

static mx_status scalar_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node) return MX_OK;
  char name[96];
  snprintf(name, sizeof(name), "_backward%s", g->op->name);
  mx_entry in[4] = {g->out_grad[0], g->in[0], g->in[1], g->n_in > 2 ? g->in[2] : MX_NO_ENTRY}, out;
  MX_TRY(mx_grad_backward(g, name, in, 1 + g->n_in, &out, err));
  for (int i = 0; i < g->n_in; i++) g->in_grad[i] = (mx_entry){out.node, i};
  return MX_OK;
}
static mx_status dirichlet_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node) return MX_OK;
  mx_entry in[4] = {g->out_grad[0], g->out[0], g->in[0], g->in[1]}, out;
  MX_TRY(mx_grad_backward(g, "_backward_random_pdf_dirichlet", in, 4, &out, err));
  for (int i = 0; i < 2; i++) g->in_grad[i] = (mx_entry){out.node, i};
  return MX_OK;
}

/* ---- records ---- */

#define SAMPLE_DOC "Points, native shape that of the parameters followed by any more dimensions."
#define PDF(law, fn, n, names, text, back_names, ...)                                                          \
  {.name = "_random_pdf_" law,                                                                                 \
   .aliases = MX_STRINGS("random_pdf_" law),                                                                   \
   .family = FAMILY,                                                                                           \
   .doc = text,                                                                                                \
   .in_doc = MX_STRINGS(SAMPLE_DOC, __VA_ARGS__),                                                              \
   .params = pdf_table,                                                                                        \
   .params_size = sizeof(pdf_params),                                                                          \
   .n_in = n,                                                                                                  \
   .n_out = 1,                                                                                                 \
   .in_names = names,                                                                                          \
   .infer_shape = scalar_shape,                                                                                \
   .infer_dtype = pdf_dtype,                                                                                   \
   .gradient = scalar_gradient,                                                                                \
   .kernel = fn##_forward},                                                                                    \
  {                                                                                                            \
    .name = "_backward_random_pdf_" law, .family = FAMILY, .doc = "Gradients of _random_pdf_" law ".",         \
    .params = pdf_table, .params_size = sizeof(pdf_params), .n_in = 1 + n, .n_out = n, .in_names = back_names, \
    .infer_shape = backward_shape, .infer_dtype = pdf_dtype, .flags = MX_OP_HIDDEN, .kernel = fn##_backward    \
  }

const mx_op mx_ops_pdf[] = {
    PDF("uniform", uniform, 3, MX_STRINGS("sample", "low", "high"),
        "Density of the uniform law on [low, high]: 1 / (high - low) inside, 0 outside.",
        MX_STRINGS("out_grad", "sample", "low", "high"), "Lower bounds.", "Upper bounds, of the same shape."),
    PDF("normal", normal, 3, MX_STRINGS("sample", "mu", "sigma"),
        "Density of the normal law: exp(-(x - mu)^2 / (2 sigma^2)) / (sigma sqrt(2 pi)).",
        MX_STRINGS("out_grad", "sample", "mu", "sigma"), "Means.", "Standard deviations, of the same shape."),
    PDF("gamma", gamma_rate, 3, MX_STRINGS("sample", "alpha", "beta"),
        "Density of the gamma law with rate beta (the sampler takes a scale): beta^alpha x^(alpha - 1) exp(-beta x) / "
        "Gamma(alpha).",
        MX_STRINGS("out_grad", "sample", "alpha", "beta"), "Shapes.", "Rates, of the same shape."),
    PDF("exponential", exponential, 2, MX_STRINGS("sample", "lam"), "Density of the exponential law: lam exp(-lam x).",
        MX_STRINGS("out_grad", "sample", "lam"), "Rates."),
    PDF("poisson", poisson, 2, MX_STRINGS("sample", "lam"),
        "Probability of x under the Poisson law: lam^x exp(-lam) / x!.", MX_STRINGS("out_grad", "sample", "lam"),
        "Rates."),
    PDF("negative_binomial", negative_binomial, 3, MX_STRINGS("sample", "k", "p"),
        "Probability of x failures before the k-th success of probability p: Gamma(x + k) / (x! Gamma(k)) p^k (1 - "
        "p)^x.",
        MX_STRINGS("out_grad", "sample", "k", "p"), "Numbers of successes.", "Probabilities, of the same shape."),
    PDF("generalized_negative_binomial", generalized_negative_binomial, 3, MX_STRINGS("sample", "mu", "alpha"),
        "Negative binomial probability of x by mean mu and dispersion alpha: k = 1 / alpha, p = 1 / (1 "
        "+ mu "
        "alpha).",
        MX_STRINGS("out_grad", "sample", "mu", "alpha"), "Means.", "Dispersions, of the same shape."),
    {.name = "_random_pdf_dirichlet",
     .aliases = MX_STRINGS("random_pdf_dirichlet"),
     .family = FAMILY,
     .doc = "Density of the Dirichlet law: Gamma(sum of alpha) times the product of x_i^(alpha_i - 1) / Gamma(alpha_i) "
            "over "
            "the last native dimension.",
     .in_doc = MX_STRINGS("Points of the simplex, native shape (parameters' leading dimensions..., more..., k).",
                          "Concentrations, native shape (..., k)."),
     .params = pdf_table,
     .params_size = sizeof(pdf_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("sample", "alpha"),
     .infer_shape = vector_shape,
     .infer_dtype = pdf_dtype,
     .gradient = dirichlet_gradient,
     .kernel = dirichlet_forward},
    {.name = "_backward_random_pdf_dirichlet",
     .family = FAMILY,
     .doc = "Gradients of _random_pdf_dirichlet.",
     .params = pdf_table,
     .params_size = sizeof(pdf_params),
     .n_in = 4,
     .n_out = 2,
     .in_names = MX_STRINGS("out_grad", "output", "sample", "alpha"),
     .infer_shape = backward_shape,
     .infer_dtype = pdf_dtype,
     .flags = MX_OP_HIDDEN,
     .kernel = dirichlet_backward},
    {0}};
