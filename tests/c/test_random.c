/* Random operators: the laws of tests/golden/samplers.json by Kolmogorov-Smirnov and chi-square tests and by their
 * moments, independence of the number of threads, and parameters outside of the domain. Seeds are fixed, so that a
 * test passes always or never. */
#include <jansson.h>
#include <stdlib.h>

#include "check.h"
#include "core/array.h"
#include "core/random.h"
#include "core/thread.h"
#include "ops/op.h"

enum { DRAWS = 100000 };
static mx_device *cpu;
static mx_error err;

/* ---- calling an operator with values in double ---- */

static mx_array *array_of(mx_dtype dtype, mx_shape shape, const double *values) {
  mx_array *a = NULL;
  if (mx_array_new(cpu, &shape, dtype, &a, &err) != MX_OK) return NULL;
  mx_convert(values, MX_FLOAT64, mx_array_data(a), dtype, mx_array_size(a));
  return a;
}
static double *values_of(const mx_array *a) {
  double *v = malloc((size_t)(mx_array_size(a) + 1) * sizeof(double));
  mx_convert(mx_array_data(a), a->dtype, v, MX_FLOAT64, mx_array_size(a));
  return v;
}
/* attrs: pairs of key and value, ended by NULL. Outputs are new arrays. */
static mx_status call(const char *op, const char *const *attrs, mx_array **in, int n_in, mx_array **out, int n_out) {
  mx_dict d = MX_DICT_EMPTY;
  mx_status status = MX_OK;
  for (int i = 0; status == MX_OK && attrs && attrs[i]; i += 2) status = mx_dict_set(&d, attrs[i], attrs[i + 1], &err);
  for (int i = 0; i < n_out; i++) out[i] = NULL;
  const mx_op *o = mx_op_find(op);
  if (status == MX_OK && !o) status = mx_fail(&err, MX_ERR_VALUE, "There is no operator %s.", op);
  if (status == MX_OK) status = mx_invoke(o, &d, in, n_in, out, n_out, cpu, false, &err);
  mx_dict_free(&d);
  return status;
}
#define ATTRS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- laws ---- */

/* Regularized lower incomplete gamma function. */
static double gamma_p(double a, double x) {
  if (x <= 0) return 0;
  double lead = exp(a * log(x) - x - lgamma(a));
  if (x < a + 1) {
    double term = 1 / a, sum = term;
    for (int n = 1; n < 1000; n++) sum += term *= x / (a + n);
    return lead * sum;
  }
  double b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
  for (int i = 1; i < 1000; i++) {
    double an = -i * (i - a);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    h *= d * c;
  }
  return 1 - lead * h;
}

typedef struct law {
  const char *name;
  double a, b;     /* parameters */
  const double *p; /* categorical: probabilities */
  int n_p;
} law;

static bool is_discrete(const law *l) {
  return strcmp(l->name, "uniform") && strcmp(l->name, "normal") && strcmp(l->name, "gamma") &&
         strcmp(l->name, "exponential");
}
static double distribution(const law *l, double x) {
  if (!strcmp(l->name, "uniform")) return fmin(fmax((x - l->a) / (l->b - l->a), 0), 1);
  if (!strcmp(l->name, "normal")) return 0.5 * erfc(-(x - l->a) / l->b / sqrt(2));
  if (!strcmp(l->name, "gamma")) return gamma_p(l->a, x / l->b);
  return x > 0 ? 1 - exp(-l->a * x) : 0; /* exponential */
}
static double negative_binomial(double k, double p, double x) {
  return exp(lgamma(x + k) - lgamma(k) - lgamma(x + 1) + k * log(p) + x * log1p(-p));
}
static double mass(const law *l, double x) {
  if (!strcmp(l->name, "poisson")) return exp(x * log(l->a) - l->a - lgamma(x + 1));
  if (!strcmp(l->name, "negative_binomial")) return negative_binomial(l->a, l->b, x);
  if (!strcmp(l->name, "generalized_negative_binomial")) return negative_binomial(1 / l->b, 1 / (1 + l->a * l->b), x);
  if (!strcmp(l->name, "discrete_uniform")) return x >= l->a && x < l->b ? 1 / (l->b - l->a) : 0;
  return x >= 0 && x < l->n_p ? l->p[(int)x] : 0; /* categorical */
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
/* The critical values are those of a probability of 0.001; `grain` is the step of the type, which KS cannot resolve. */
static void check_law(const law *l, double *x, int n, double grain) {
  if (!is_discrete(l)) {
    double worst = 0;
    qsort(x, (size_t)n, sizeof(double), ascending);
    for (int i = 0; i < n; i++) {
      double f = distribution(l, x[i]);
      worst = fmax(worst, fmax(fabs(f - (double)i / n), fabs(f - (i + 1.0) / n)));
    }
    if (!(worst * sqrt(n) < 1.95 + grain * sqrt(n)))
      check_report(__FILE__, __LINE__, "%s(%g, %g): distance %g of %d draws", l->name, l->a, l->b, worst, n);
    return;
  }
  double chi = 0, rest = 1, cells = 0;
  int outside = n;
  double from = !strcmp(l->name, "discrete_uniform") ? l->a : 0;
  int *count = calloc(100000, sizeof(int));
  for (int i = 0; i < n; i++) {
    if (!(x[i] >= from && x[i] < from + 100000 && x[i] == floor(x[i]))) {
      check_report(__FILE__, __LINE__, "%s gave %g", l->name, x[i]);
      continue;
    }
    count[(int)(x[i] - from)]++;
  }
  for (int k = 0; k < 100000; k++) {
    double p = mass(l, from + k);
    if (p * n < 10) continue; /* the rest is one cell */
    chi += (count[k] - p * n) * (count[k] - p * n) / (p * n);
    rest -= p;
    outside -= count[k];
    cells++;
  }
  if (rest * n > 5) chi += (outside - rest * n) * (outside - rest * n) / (rest * n), cells++;
  free(count);
  double dof = cells - 1, z = (cbrt(chi / dof) - (1 - 2 / (9 * dof))) / sqrt(2 / (9 * dof)); /* Wilson and Hilferty */
  if (!(z < 3.1))
    check_report(__FILE__, __LINE__, "%s(%g, %g): chi-square %g, %g cells", l->name, l->a, l->b, chi, cells);
  if (rest * n < 1e-6 && outside) check_report(__FILE__, __LINE__, "%s: %d draws are outside", l->name, outside);
}
static void check_moments(double mean, double variance, const double *x, int n) {
  double m = 0, v = 0;
  for (int i = 0; i < n; i++) m += x[i] / n;
  for (int i = 0; i < n; i++) v += (x[i] - m) * (x[i] - m) / n;
  CHECK_NEAR(m, mean, 4 * sqrt(variance / n) + 1e-4 * fabs(mean));
  CHECK_NEAR(v, variance, 4 * variance * sqrt(10.0 / n)); /* the heaviest tail has an excess kurtosis below 8 */
}

/* ---- the laws of samplers.json ---- */

static json_t *file_samplers(json_t **doc) {
  json_error_t je;
  *doc = json_load_file(MX_TESTS_DIR "/golden/samplers.json", 0, &je);
  return json_object_get(*doc, "samplers");
}
static double number(json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static law law_of(json_t *row, double p[16]) {
  json_t *q = json_object_get(row, "parameters"), *list = json_object_get(q, "probabilities"), *v;
  law l = {.name = json_string_value(json_object_get(row, "law"))};
  static const char *const names[][3] = {{"uniform", "low", "high"},
                                         {"normal", "mean", "sd"},
                                         {"gamma", "shape", "scale"},
                                         {"exponential", "rate", "rate"},
                                         {"poisson", "rate", "rate"},
                                         {"negative_binomial", "k", "p"},
                                         {"generalized_negative_binomial", "mean", "alpha"},
                                         {"discrete_uniform", "low", "high"}};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    if (!strcmp(names[i][0], l.name)) l.a = number(q, names[i][1]), l.b = number(q, names[i][2]);
  size_t i;
  json_array_foreach(list, i, v) p[i] = json_number_value(v);
  l.p = p, l.n_p = (int)json_array_size(list);
  return l;
}

/* Runs one entry with n draws a row: `dtype` is the attribute, NULL for none. */
static mx_status draw(json_t *s, const char *dtype, int n, mx_array **out) {
  const char *op = json_string_value(json_object_get(s, "op")), *key;
  json_t *v, *t;
  const char *attrs[16] = {NULL};
  int n_attrs = 0;
  json_object_foreach(json_object_get(s, "attrs"), key, v) {
    attrs[n_attrs++] = key;
    attrs[n_attrs++] = json_string_value(v);
  }
  bool like = strlen(op) > 5 && !strcmp(op + strlen(op) - 5, "_like");
  char shape[32];
  snprintf(shape, sizeof(shape), "(%d,)", n);
  if (!like) attrs[n_attrs++] = "shape", attrs[n_attrs++] = shape;
  if (dtype) attrs[n_attrs++] = "dtype", attrs[n_attrs++] = dtype;
  mx_array *in[2] = {NULL};
  int n_in = 0;
  size_t i, j, k;
  json_array_foreach(json_object_get(s, "inputs"), i, t) {
    mx_shape sh = {.ndim = 0};
    double values[64];
    int filled = 0;
    json_t *x;
    json_array_foreach(json_object_get(t, "shape"), j, v) sh.dim[sh.ndim++] = json_integer_value(v);
    json_array_foreach(json_object_get(t, "values"), j, v) {
      if (!json_is_array(v)) values[filled++] = json_number_value(v);
      json_array_foreach(v, k, x) values[filled++] = json_number_value(x);
    }
    in[n_in++] = array_of(MX_FLOAT32, sh, values);
  }
  mx_status status = MX_OK;
  if (like) {
    mx_shape flat = mx_shape_of(n);
    status = mx_array_zeros(cpu, &flat, MX_FLOAT32, &in[n_in++], &err);
  }
  if (status == MX_OK) status = call(op, attrs, in, n_in, out, 1);
  for (int m = 0; m < n_in; m++) mx_array_release(in[m]);
  return status;
}

static void check_sampler(json_t *s, const char *dtype) {
  json_t *rows = json_object_get(s, "rows");
  int n_rows = (int)json_array_size(rows), n = dtype && !strcmp(dtype, "float16") ? 20000 : DRAWS;
  mx_array *out = NULL;
  REQUIRE_OK(draw(s, dtype, n, &out), err);
  const char *want = dtype ? dtype : json_string_value(json_object_get(s, "default_dtype"));
  CHECK_TEXT(mx_dtype_name(out->dtype), want);
  CHECK_INT(mx_array_size(out), (int64_t)n * n_rows);
  double *x = values_of(out), p[16];
  double grain = out->dtype == MX_FLOAT16 ? 2e-3 : 1e-6;
  for (int r = 0; r < n_rows; r++) {
    json_t *row = json_array_get(rows, (size_t)r);
    law l = law_of(row, p);
    check_moments(number(row, "mean"), number(row, "variance"), x + r * n, n);
    if (out->dtype != MX_FLOAT16 || !is_discrete(&l)) check_law(&l, x + r * n, n, grain);
  }
  free(x);
  mx_array_release(out);
}

static void check_samplers(bool all_types) {
  json_t *doc, *s, *v, *list = file_samplers(&doc);
  size_t i, j;
  CHECK(json_array_size(list) > 40);
  mx_random_seed(7);
  json_array_foreach(list, i, s) {
    if (!all_types) check_sampler(s, NULL);
    if (all_types)
      json_array_foreach(json_object_get(s, "accepted_dtype"), j, v) check_sampler(s, json_string_value(v));
  }
  json_decref(doc);
}
TEST(laws_of_samplers) { check_samplers(false); }
TEST(laws_in_all_types) { check_samplers(true); }

/* Rates, shapes and dispersions where the algorithms change over. */
TEST(laws_at_other_parameters) {
  static const struct {
    const char *op, *attr, *value, *attr2, *value2;
    law l;
  } cases[] = {
      {"_random_poisson", "lam", "0.1", "shape", NULL, {"poisson", 0.1, 0}},
      {"_random_poisson", "lam", "9.9", "shape", NULL, {"poisson", 9.9, 0}},
      {"_random_poisson", "lam", "10", "shape", NULL, {"poisson", 10, 0}},
      {"_random_poisson", "lam", "500", "shape", NULL, {"poisson", 500, 0}},
      {"_random_gamma", "alpha", "0.05", "beta", "1", {"gamma", 0.05, 1}},
      {"_random_gamma", "alpha", "50", "beta", "0.1", {"gamma", 50, 0.1}},
      {"_random_negative_binomial", "k", "20", "p", "0.9", {"negative_binomial", 20, 0.9}},
      {"_random_generalized_negative_binomial", "mu", "30", "alpha", "2", {"generalized_negative_binomial", 30, 2}},
      {"_random_generalized_negative_binomial", "mu", "3", "alpha", "0", {"poisson", 3, 0}},
      {"_random_randint", "low", "-3", "high", "4", {"discrete_uniform", -3, 4}}};
  mx_random_seed(11);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    mx_array *out[1];
    const char *attrs[] = {cases[i].attr, cases[i].value, "shape", "(400, 250)", cases[i].attr2, cases[i].value2, NULL};
    if (!cases[i].value2) attrs[4] = NULL;
    REQUIRE_OK(call(cases[i].op, attrs, NULL, 0, out, 1), err);
    double *x = values_of(out[0]);
    check_law(&cases[i].l, x, DRAWS, 1e-6);
    free(x);
    mx_array_release(out[0]);
  }
}

/* ---- other properties ---- */

TEST(same_numbers_with_any_number_of_threads) {
  json_t *doc, *s, *list = file_samplers(&doc);
  size_t i;
  json_array_foreach(list, i, s) {
    mx_array *out[2] = {NULL};
    for (int t = 0; t < 2; t++) {
      mx_threads_set(t ? 3 : 1);
      mx_random_seed(3);
      CHECK_OK(draw(s, NULL, 123457, &out[t]), err);
    }
    if (out[0] && out[1] && memcmp(mx_array_data(out[0]), mx_array_data(out[1]), mx_array_bytes(out[0])))
      check_report(__FILE__, __LINE__, "%s depends on the threads", json_string_value(json_object_get(s, "op")));
    for (int t = 0; t < 2; t++) mx_array_release(out[t]);
  }
  mx_threads_set(0);
  json_decref(doc);
}

/* Each element with its probability, whole slices along `axes`; the rest is scaled; threads do not matter. */
TEST(dropout) {
  enum { ROWS = 1000, COLS = 203 };
  double *ones = malloc(ROWS * COLS * sizeof(double));
  for (int i = 0; i < ROWS * COLS; i++) ones[i] = 1;
  mx_array *x = array_of(MX_FLOAT32, mx_shape_of(ROWS, COLS), ones), *out[2];
  static const double rates[] = {0.1, 0.5, 0.75};
  for (int r = 0; r < 3; r++) {
    char p[16];
    snprintf(p, sizeof(p), "%g", rates[r]);
    for (int t = 0; t < 2; t++) {
      mx_threads_set(t ? 3 : 1);
      mx_random_seed(5);
      REQUIRE_OK(call("Dropout", ATTRS("p", p, "mode", "always"), &x, 1, &out[t], 1), err);
    }
    const float *y = mx_array_data(out[0]);
    int dropped = 0, pairs = 0;
    for (int i = 0; i < ROWS * COLS; i++) {
      CHECK(y[i] == 0 || fabs(y[i] - 1 / (1 - rates[r])) < 1e-6);
      dropped += y[i] == 0;
      pairs += i > 0 && y[i] == 0 && y[i - 1] == 0; /* neighbours are independent */
    }
    double n = ROWS * COLS, q = rates[r] * rates[r];
    CHECK_NEAR(dropped, n * rates[r], 4 * sqrt(n * rates[r] * (1 - rates[r])));
    CHECK_NEAR(pairs, n * q, 6 * sqrt(n * q));
    CHECK(!memcmp(y, mx_array_data(out[1]), mx_array_bytes(out[0])));
    mx_array_release(out[0]), mx_array_release(out[1]);
  }
  mx_threads_set(0);
  REQUIRE_OK(call("Dropout", ATTRS("p", "0.3", "mode", "always", "axes", "(1,)"), &x, 1, out, 1), err);
  const float *y = mx_array_data(out[0]);
  int rows = 0;
  for (int i = 0; i < ROWS; i++) {
    for (int k = 1; k < COLS; k++) CHECK(y[i * COLS + k] == y[i * COLS]);
    rows += y[i * COLS] == 0;
  }
  CHECK_NEAR(rows, 300, 60);
  mx_array_release(out[0]);
  REQUIRE_OK(call("Dropout", ATTRS("p", "0.3"), &x, 1, out, 1), err); /* not in inference */
  CHECK(!memcmp(mx_array_data(out[0]), mx_array_data(x), mx_array_bytes(x)));
  mx_array_release(out[0]);
  mx_array_release(x);
  free(ones);
}

TEST(successive_calls_differ_and_seeds_repeat) {
  mx_array *a[1], *b[1], *c[1];
  mx_random_seed(5);
  REQUIRE_OK(call("_random_normal", ATTRS("shape", "(1000,)"), NULL, 0, a, 1), err);
  REQUIRE_OK(call("_random_normal", ATTRS("shape", "(1000,)"), NULL, 0, b, 1), err);
  mx_random_seed(5);
  REQUIRE_OK(call("_random_normal", ATTRS("shape", "(1000,)"), NULL, 0, c, 1), err);
  CHECK(memcmp(mx_array_data(a[0]), mx_array_data(b[0]), 4000));
  CHECK(!memcmp(mx_array_data(a[0]), mx_array_data(c[0]), 4000));
  double *x = values_of(a[0]), *y = values_of(b[0]), sum = 0;
  for (int i = 0; i < 1000; i++) sum += x[i] * y[i];
  CHECK_NEAR(sum / 1000, 0, 0.12);
  free(x), free(y);
  mx_array_release(a[0]), mx_array_release(b[0]), mx_array_release(c[0]);
}

/* Rounding must not reach the excluded bound, whatever the type. */
TEST(uniform_stays_below_high) {
  static const char *const types[] = {"float16", "float32", "float64"};
  static const double bounds[][2] = {{0, 1}, {-1, 0}, {1, 1.001}, {-0.1, 0.1}, {16777216, 16777218}, {2, 2}};
  for (int t = 0; t < 3; t++)
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
      if (t == 0 && bounds[i][1] > 60000) continue;
      char low[32], high[32];
      snprintf(low, sizeof(low), "%.17g", bounds[i][0]);
      snprintf(high, sizeof(high), "%.17g", bounds[i][1]);
      mx_array *out[1];
      REQUIRE_OK(call("_random_uniform", ATTRS("low", low, "high", high, "shape", "(20000,)", "dtype", types[t]), NULL,
                      0, out, 1),
                 err);
      double *x = values_of(out[0]);
      for (int k = 0; k < 20000; k++)
        if (!(x[k] < bounds[i][1] || bounds[i][0] == bounds[i][1]))
          check_report(__FILE__, __LINE__, "%s in [%g, %g): %.17g", types[t], bounds[i][0], bounds[i][1], x[k]);
      free(x);
      mx_array_release(out[0]);
    }
}

TEST(shuffle_is_a_uniform_permutation) {
  double v[4] = {0, 1, 2, 3};
  int count[24] = {0};
  mx_array *in[1] = {array_of(MX_INT32, mx_shape_of(4), v)}, *out[1];
  mx_random_seed(1);
  for (int i = 0; i < 24000; i++) {
    REQUIRE_OK(call("_shuffle", NULL, in, 1, out, 1), err);
    const int32_t *p = mx_array_data(out[0]);
    int rank = 0, seen = 0;
    for (int a = 0; a < 4; a++) {
      int less = 0;
      for (int b = a + 1; b < 4; b++) less += p[b] < p[a];
      rank = rank * (4 - a) + less;
      seen |= 1 << p[a];
    }
    CHECK_INT(seen, 15);
    count[rank]++;
    mx_array_release(out[0]);
  }
  double chi = 0;
  for (int i = 0; i < 24; i++) chi += (count[i] - 1000) * (count[i] - 1000) / 1000.0;
  CHECK(chi < 49.7);
  mx_array_release(in[0]);
  double rows[6] = {1, 2, 3, 4, 5, 6}; /* rows stay together */
  in[0] = array_of(MX_FLOAT64, mx_shape_of(3, 2), rows);
  REQUIRE_OK(call("shuffle", NULL, in, 1, out, 1), err);
  const double *r = mx_array_data(out[0]);
  for (int i = 0; i < 3; i++) CHECK(r[2 * i + 1] == r[2 * i] + 1);
  CHECK(r[0] + r[2] + r[4] == 9);
  mx_array_release(in[0]), mx_array_release(out[0]);
}

TEST(multinomial_gives_log_probabilities) {
  double p[6] = {0.2, 0.3, 0.5, 2, 0, 2};
  mx_array *in[1] = {array_of(MX_FLOAT64, mx_shape_of(2, 3), p)}, *out[2];
  mx_random_seed(2);
  REQUIRE_OK(
      call("_sample_multinomial", ATTRS("shape", "(1000,)", "get_prob", "True", "dtype", "uint8"), in, 1, out, 2), err);
  CHECK_INT(out[0]->dtype, MX_UINT8);
  CHECK_INT(out[1]->dtype, MX_FLOAT64);
  const uint8_t *k = mx_array_data(out[0]);
  const double *lp = mx_array_data(out[1]);
  int ones = 0;
  for (int i = 0; i < 2000; i++) {
    CHECK(k[i] < 3 && (i < 1000 || k[i] != 1));
    CHECK_NEAR(lp[i], log(p[i / 1000 * 3 + k[i]]), 1e-12);
    ones += i < 1000 && k[i] == 1;
  }
  CHECK_NEAR(ones, 300, 60);
  mx_array_release(out[0]), mx_array_release(out[1]);
  double bad[3] = {NAN, 0, 0}; /* no total: the last class, never an index outside */
  mx_array *nan[1] = {array_of(MX_FLOAT32, mx_shape_of(3), bad)};
  REQUIRE_OK(call("_sample_multinomial", ATTRS("shape", "(5,)"), nan, 1, out, 1), err);
  for (int i = 0; i < 5; i++) CHECK_INT(((const int32_t *)mx_array_data(out[0]))[i], 2);
  mx_array_release(out[0]), mx_array_release(nan[0]), mx_array_release(in[0]);
}

TEST(zipfian_draws_are_different) {
  mx_array *out[2];
  mx_random_seed(4);
  REQUIRE_OK(call("_sample_unique_zipfian", ATTRS("range_max", "50", "shape", "(20, 50)"), NULL, 0, out, 2), err);
  const int64_t *k = mx_array_data(out[0]), *tries = mx_array_data(out[1]);
  for (int i = 0; i < 20; i++) {
    int64_t sum = 0;
    for (int j = 0; j < 50; j++) sum += k[i * 50 + j];
    CHECK_INT(sum, 49 * 25);
    CHECK(tries[i] >= 50);
  }
  mx_array_release(out[0]), mx_array_release(out[1]);
  REQUIRE_OK(call("_sample_unique_zipfian", ATTRS("range_max", "3", "shape", "(60000, 1)"), NULL, 0, out, 2), err);
  double p[3];
  for (int i = 0; i < 3; i++) p[i] = log((i + 2.0) / (i + 1)) / log(4);
  double *x = values_of(out[0]);
  check_law(&(law){.name = "categorical", .p = p, .n_p = 3}, x, 60000, 0);
  free(x);
  mx_array_release(out[0]), mx_array_release(out[1]);
}

TEST(empty_outputs) {
  mx_array *out[2], *in[2];
  REQUIRE_OK(call("_random_normal", ATTRS("shape", "(3, 0)"), NULL, 0, out, 1), err);
  mx_array_release(out[0]);
  REQUIRE_OK(call("_random_gamma", ATTRS("shape", "(0,)"), NULL, 0, out, 1), err);
  mx_array_release(out[0]);
  in[0] = array_of(MX_FLOAT32, mx_shape_of(0), NULL), in[1] = array_of(MX_FLOAT32, mx_shape_of(0), NULL);
  REQUIRE_OK(call("_sample_normal", ATTRS("shape", "(4,)"), in, 2, out, 1), err);
  CHECK_INT(out[0]->shape.ndim, 2);
  mx_array_release(out[0]);
  REQUIRE_OK(call("_shuffle", NULL, in, 1, out, 1), err);
  mx_array_release(out[0]), mx_array_release(in[0]), mx_array_release(in[1]);
  in[0] = array_of(MX_FLOAT32, mx_shape_of(0, 3), NULL);
  REQUIRE_OK(call("_sample_multinomial", ATTRS("shape", "(2,)"), in, 1, out, 1), err);
  mx_array_release(out[0]), mx_array_release(in[0]);
  REQUIRE_OK(call("_sample_unique_zipfian", ATTRS("range_max", "5", "shape", "(0, 3)"), NULL, 0, out, 2), err);
  mx_array_release(out[0]), mx_array_release(out[1]);
}

TEST(bad_parameters) {
  mx_array *out[2], *in[2];
  CHECK_FAILS(call("_random_uniform", ATTRS("low", "1", "high", "0", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE,
              err, "high must be at least low");
  CHECK_FAILS(call("_random_normal", ATTRS("scale", "-1", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE, err,
              "scale");
  CHECK_FAILS(call("_random_gamma", ATTRS("alpha", "0", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE, err, "alpha");
  CHECK_FAILS(call("_random_exponential", ATTRS("lam", "0", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE, err,
              "lam");
  CHECK_FAILS(call("_random_negative_binomial", ATTRS("p", "1.5", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE, err,
              "p");
  CHECK_FAILS(call("_random_uniform", ATTRS("dtype", "int32", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE, err,
              "dtype");
  CHECK_FAILS(call("_random_randint", ATTRS("low", "3", "high", "3", "shape", "(2,)"), NULL, 0, out, 1), MX_ERR_VALUE,
              err, "high");
  CHECK_FAILS(call("_random_randint", ATTRS("low", "0", "high", "5000000000", "shape", "(2,)"), NULL, 0, out, 1),
              MX_ERR_VALUE, err, "int64");
  CHECK_FAILS(call("_random_normal", ATTRS("shape", "(4611686018427387904, 4)"), NULL, 0, out, 1), MX_ERR_SHAPE, err,
              "too many");
  CHECK_FAILS(call("_sample_unique_zipfian", ATTRS("range_max", "2", "shape", "(1, 3)"), NULL, 0, out, 2), MX_ERR_VALUE,
              err, "3 different");
  in[0] = array_of(MX_FLOAT32, mx_shape_of(2, 0), NULL);
  CHECK_FAILS(call("_sample_multinomial", NULL, in, 1, out, 1), MX_ERR_SHAPE, err, "no classes");
  mx_array_release(in[0]);
  /* In arrays, a value outside of the domain gives NaN and leaves its neighbours alone. */
  double a[3] = {-1, 2, NAN}, b[3] = {1, 1, 1};
  static const char *const ops[] = {"_sample_gamma", "_sample_negative_binomial",
                                    "_sample_generalized_negative_binomial"};
  in[0] = array_of(MX_FLOAT32, mx_shape_of(3), a), in[1] = array_of(MX_FLOAT32, mx_shape_of(3), b);
  for (int i = 0; i < 3; i++) {
    REQUIRE_OK(call(ops[i], NULL, in, 2, out, 1), err);
    const float *x = mx_array_data(out[0]);
    CHECK(isnan(x[0]) && !isnan(x[1]) && isnan(x[2]));
    mx_array_release(out[0]);
  }
  for (int i = 0; i < 2; i++) mx_array_release(in[i]);
  REQUIRE_OK(
      call("_random_randint",
           ATTRS("low", "-9223372036854775808", "high", "9223372036854775807", "dtype", "int64", "shape", "(9,)"), NULL,
           0, out, 1),
      err);
  mx_array_release(out[0]);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return 2;
  RUN(laws_of_samplers);
  RUN(laws_in_all_types);
  RUN(laws_at_other_parameters);
  RUN(same_numbers_with_any_number_of_threads);
  RUN(dropout);
  RUN(successive_calls_differ_and_seeds_repeat);
  RUN(uniform_stays_below_high);
  RUN(shuffle_is_a_uniform_permutation);
  RUN(multinomial_gives_log_probabilities);
  RUN(zipfian_draws_are_different);
  RUN(empty_outputs);
  RUN(bad_parameters);
  return check_finish();
}
