/* Elementwise operators, broadcasting and reductions with random shapes, dtypes and axes against loops that could not
 * be plainer, in double and int64_t.
 *
 *   test_naive [TEST ...]       MX_NAIVE_RUNS=100000 MX_NAIVE_SEED=7 for more, and others */
#include "call.h"
#include "ops/reduce.h"
#include "ops/scalar.h"

static uint64_t state;
static uint32_t dice(uint32_t n) { /* 0 .. n - 1 */
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)((state >> 33) % n);
}
static int64_t runs(void) {
  const char *text = getenv("MX_NAIVE_RUNS"), *seed = getenv("MX_NAIVE_SEED");
  state = seed ? (uint64_t)atoll(seed) : 1;
  return text ? atoll(text) : 400;
}

/* 1 to 6 dimensions, mostly small ones, 30000 elements at most; rarely an empty one. */
static mx_shape any_shape(void) {
  static const int dims[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 33, 64, 65, 100, 129, 513, 600, 1025, 5000};
  mx_shape s = {.ndim = 1 + (int)dice(6)};
  int64_t n = 1;
  for (int i = 0; i < s.ndim; i++) {
    int64_t d = dims[dice(dice(3) ? 7 : 19)];
    s.dim[i] = n * d > 30000 ? 1 : d;
    n *= s.dim[i];
  }
  if (dice(60) == 0) s.dim[dice((uint32_t)s.ndim)] = 0;
  return s;
}

static mx_dtype any_dtype(void) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT32, MX_FLOAT64, MX_FLOAT16,
                                   MX_INT32,   MX_UINT8,   MX_INT8,    MX_INT64};
  return types[dice(8)];
}

static mx_array *any_array(mx_dtype dtype, mx_shape shape, double low, double high, bool nan) {
  mx_array *a = call_random(dtype, shape, low, high, state);
  int64_t n = mx_array_size(a);
  for (int k = 0; k < 3 && nan && mx_dtype_is_float(dtype) && n > 0; k++) {
    const double value = NAN;
    char *at = (char *)mx_array_data(a) + (size_t)(dice((uint32_t)n)) * mx_dtype_size(dtype);
    mx_convert(&value, MX_FLOAT64, at, dtype, 1);
  }
  return a;
}

static int64_t integer_at(const mx_array *a, int64_t i) {
  int64_t v;
  mx_convert((char *)mx_array_data(a) + (size_t)i * mx_dtype_size(a->dtype), a->dtype, &v, MX_INT64, 1);
  return v;
}

static double roundoff(mx_dtype t) { return t == MX_FLOAT64 ? 1e-12 : t == MX_FLOAT32 ? 3e-6 : 2e-3; }

static bool close_to(double got, double want, double tolerance) {
  if (isnan(want)) return isnan(got);
  return got == want || fabs(got - want) <= tolerance;
}

/* Row-major index of element i of `shape` in an array of shape `s` that is broadcast to it. */
static int64_t broadcast_index(int64_t i, const mx_shape *shape, const mx_shape *s) {
  int64_t at = 0, stride = 1;
  for (int d = shape->ndim - 1; d >= 0; d--) {
    int64_t index = i % shape->dim[d];
    int k = d - (shape->ndim - s->ndim);
    i /= shape->dim[d];
    if (k < 0) continue;
    if (s->dim[k] != 1) at += index * stride;
    stride *= s->dim[k];
  }
  return at;
}

/* ---- elementwise ---- */

static const mx_op *any_elementwise(void) {
  for (;;) {
    const mx_op *op = mx_op_at((int)dice((uint32_t)mx_op_count()));
    if (!op->elementwise || op->flags & MX_OP_HIDDEN || op->n_in > 2) continue;
    bool number = op->params && !strcmp(op->family, "Scalar");
    if (op->params && !number) continue;
    return op;
  }
}

/* The row on one element, in the type that it computes in. */
static void one_element(const mx_row *row, mx_kind kind, const double *real, const int64_t *whole, double *as_real,
                        int64_t *as_whole) {
  float f[MX_MAX_OPERANDS], f_out;
  const void *in[MX_MAX_OPERANDS];
  for (int k = 0; k < row->arity; k++) {
    f[k] = (float)real[k];
    in[k] = kind == MX_KIND_FLOAT ? (const void *)&f[k] : kind == MX_KIND_DOUBLE ? (const void *)&real[k] : &whole[k];
  }
  if (kind == MX_KIND_FLOAT)
    row->block[kind](&f_out, in, 0, 1), *as_real = (double)f_out;
  else
    row->block[kind](kind == MX_KIND_DOUBLE ? (void *)as_real : as_whole, in, 0, 1);
}

static bool same_element(const mx_op *op, const mx_array *y, int64_t i, mx_array **in, int n_in, const mx_shape *shape,
                         double number) {
  const mx_elementwise *e = op->elementwise(op->params ? &(struct {
    double s;
    bool b;
  }){number, true}
                                                       : NULL);
  const mx_row *row = &mx_rows[e->row];
  mx_kind kind = mx_row_kind(row, y->dtype);
  double real[MX_MAX_OPERANDS], as_real = 0;
  int64_t whole[MX_MAX_OPERANDS], as_whole = 0;
  for (int k = 0, next = 0; k < row->arity; k++) {
    if (e->operand[k].kind == MX_FROM_INPUT) {
      const mx_array *a = in[next++];
      int64_t at = broadcast_index(i, shape, &a->shape);
      real[k] = call_value(a, at);
      whole[k] = mx_dtype_is_float(a->dtype) ? 0 : integer_at(a, at);
    } else {
      real[k] = mx_dtype_is_float(y->dtype) ? number : trunc(number);
      whole[k] = (int64_t)number;
    }
  }
  one_element(row, kind, real, whole, &as_real, &as_whole);
  if (mx_dtype_is_float(y->dtype)) {
    double got = call_value(y, i), limit = y->dtype == MX_FLOAT16 ? 65519 : y->dtype == MX_FLOAT32 ? 3.4e38 : INFINITY;
    if (fabs(as_real) > limit) return isinf(got);
    return close_to(got, as_real, roundoff(y->dtype) * fabs(as_real) + (y->dtype == MX_FLOAT16 ? 6e-8 : 1e-37));
  }
  if (kind == MX_KIND_DOUBLE)
    as_whole = !(fabs(as_real) < 9e18) ? (as_real > 0 ? INT64_MAX : as_real < 0 ? INT64_MIN : 0) : (int64_t)as_real;
  int64_t want;
  char narrow[8];
  mx_convert(&as_whole, MX_INT64, narrow, y->dtype, 1);
  mx_convert(narrow, y->dtype, &want, MX_INT64, 1);
  return integer_at(y, i) == want;
}

static void one_elementwise(void) {
  const mx_op *op = any_elementwise();
  bool number = op->params != NULL, spreads = !strcmp(op->family, "Broadcasting binary");
  mx_dtype dtype = any_dtype();
  mx_shape shape = any_shape(), s[2] = {shape, shape};
  for (int k = 0; spreads && k < 2; k++) { /* one of them keeps each dimension */
    for (int d = 0; d < shape.ndim; d++)
      if (dice(3) == 0 && s[1 - k].dim[d] == shape.dim[d] && shape.dim[d] > 0) s[k].dim[d] = 1;
    while (k == 1 && s[k].ndim > 1 && s[k].dim[0] == 1 && dice(2)) {
      memmove(s[k].dim, s[k].dim + 1, (size_t)--s[k].ndim * sizeof(int64_t));
    }
  }
  mx_array *in[2] = {any_array(dtype, s[0], -4, 9, true), op->n_in > 1 ? any_array(dtype, s[1], -3, 7, true) : NULL},
           *y = NULL;
  double scalar = (double)dice(12) / 2 - 2;
  char text[32];
  snprintf(text, sizeof(text), "%g", scalar);
  mx_status st = call_op(op->name, number ? ATTRS("scalar", text) : NULL, in, op->n_in, &y, 1);
  if (st != MX_OK) {
    check_report(__FILE__, __LINE__, "%s: %s", op->name, call_error.message);
  } else {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    for (int64_t i = 0, n = mx_array_size(y); i < n; i++) {
      if (same_element(op, y, i, in, op->n_in, &y->shape, scalar)) continue;
      check_report(__FILE__, __LINE__, "%s(%s %s%s) scalar %g: element %lld is %.9g", op->name, mx_dtype_name(dtype),
                   mx_shape_text(&s[0], a), op->n_in > 1 ? mx_shape_text(&s[1], b) : "", scalar, (long long)i,
                   call_value(y, i));
      break;
    }
  }
  call_release(in, op->n_in);
  call_release(&y, 1);
}

TEST(elementwise) {
  for (int64_t k = runs(); k > 0; k--) one_elementwise();
}

/* ---- reductions ---- */

typedef struct gathered { /* what a naive loop knows of one result */
  double sum, absolute, squares, product, magnitude, nansum, nanprod, max, min;
  int64_t count, whole_sum, whole_product, whole_max, whole_min, first_max, first_min;
  bool nan;
} gathered;

static void add_to(gathered *g, const mx_array *x, int64_t at, int64_t place) {
  double v = call_value(x, at);
  int64_t w = mx_dtype_is_float(x->dtype) ? 0 : integer_at(x, at);
  bool nan = isnan(v);
  if (g->count == 0 || (!g->nan && (v > g->max || nan))) g->max = v, g->first_max = place;
  if (g->count == 0 || (!g->nan && (v < g->min || nan))) g->min = v, g->first_min = place;
  if (g->count == 0) g->whole_max = g->whole_min = w;
  if (w > g->whole_max) g->whole_max = w;
  if (w < g->whole_min) g->whole_min = w;
  g->nan = g->nan || nan;
  g->count++;
  g->sum += v, g->absolute += fabs(v), g->squares += v * v, g->product *= v;
  g->nansum += nan ? 0 : v, g->nanprod *= nan ? 1 : v;
  g->whole_sum = (int64_t)((uint64_t)g->whole_sum + (uint64_t)w);
  g->whole_product = (int64_t)((uint64_t)g->whole_product * (uint64_t)w);
}

/* The place of element i of `shape` among the results, and among the elements of its result. */
static void places(int64_t i, const mx_shape *shape, const bool *reduced, int64_t *result, int64_t *element) {
  int64_t r_stride = 1, e_stride = 1;
  *result = *element = 0;
  for (int d = shape->ndim - 1; d >= 0; d--) {
    int64_t index = i % shape->dim[d];
    i /= shape->dim[d];
    if (reduced[d])
      *element += index * e_stride, e_stride *= shape->dim[d];
    else
      *result += index * r_stride, r_stride *= shape->dim[d];
  }
}

static double want_real(const char *op, const gathered *g, double *scale) {
  *scale = g->absolute;
  if (!strcmp(op, "sum")) return g->sum;
  if (!strcmp(op, "mean")) return *scale /= (double)g->count, g->sum / (double)g->count;
  if (!strcmp(op, "nansum")) return *scale = g->nansum == g->nansum ? INFINITY : 0, g->nansum;
  if (!strcmp(op, "_square_sum")) return *scale = g->squares, g->squares;
  if (!strcmp(op, "norm")) return *scale = sqrt(g->squares), sqrt(g->squares);
  if (!strcmp(op, "prod")) return *scale = fabs(g->product) * 10, g->product;
  if (!strcmp(op, "nanprod")) return *scale = fabs(g->nanprod) * 10, g->nanprod;
  *scale = 0;
  return !strcmp(op, "max") ? g->max : g->min;
}

static int64_t want_whole(const char *op, const gathered *g) {
  if (!strcmp(op, "sum") || !strcmp(op, "nansum")) return g->whole_sum;
  if (!strcmp(op, "mean")) return g->whole_sum / g->count;
  if (!strcmp(op, "prod") || !strcmp(op, "nanprod")) return g->whole_product;
  if (!strcmp(op, "_square_sum")) return (int64_t)g->squares;
  if (!strcmp(op, "norm")) return (int64_t)sqrt(g->squares);
  return !strcmp(op, "max") ? g->whole_max : g->whole_min;
}

static bool same_result(const char *op, const mx_array *y, int64_t i, const gathered *g) {
  if (mx_dtype_is_float(y->dtype)) {
    double scale, want = want_real(op, g, &scale), got = call_value(y, i);
    if (!strcmp(op, "nansum")) scale = g->nan ? fabs(g->nansum) + (double)g->count : g->absolute;
    if (y->dtype == MX_FLOAT16 && fabs(want) > 65000) return true;
    return close_to(got, want, roundoff(y->dtype) * scale + 1e-7);
  }
  int64_t all = want_whole(op, g), want;
  char narrow[8];
  mx_convert(&all, MX_INT64, narrow, y->dtype, 1);
  mx_convert(narrow, y->dtype, &want, MX_INT64, 1);
  return integer_at(y, i) == want;
}

static void text_of_axes(const mx_shape *axes, char *text) {
  int n = sprintf(text, "(");
  for (int i = 0; i < axes->ndim; i++) n += sprintf(text + n, "%lld,", (long long)axes->dim[i]);
  sprintf(text + n, ")");
}

static void one_reduction(void) {
  static const char *const ops[] = {"sum", "mean", "prod", "nansum", "nanprod", "max", "min", "norm", "_square_sum"};
  const char *op = ops[dice(9)];
  mx_dtype dtype = any_dtype();
  mx_shape shape = any_shape(), axes = {.ndim = 0};
  bool named[MX_MAX_NDIM] = {false}, reduced[MX_MAX_NDIM], exclude = dice(4) == 0 && strcmp(op, "norm"), keep = dice(2);
  for (int d = 0; d < shape.ndim; d++)
    if (dice(2)) axes.dim[axes.ndim++] = dice(2) ? d : d - shape.ndim, named[d] = true;
  for (int d = 0; d < shape.ndim; d++) reduced[d] = axes.ndim == 0 || named[d] != exclude;
  char text[128], s[MX_SHAPE_TEXT];
  text_of_axes(&axes, text);
  bool product = strstr(op, "prod") != NULL;
  mx_array *x = any_array(dtype, shape, product ? 0.9 : -5, product ? 1.1 : 5, dice(3) == 0), *y = NULL;
  const char *const *attrs = !strcmp(op, "norm")
                                 ? ATTRS("axis", text, "keepdims", keep ? "1" : "0")
                                 : ATTRS("axis", text, "keepdims", keep ? "1" : "0", "exclude", exclude ? "1" : "0");
  if (call_op(op, attrs, &x, 1, &y, 1) != MX_OK) {
    check_report(__FILE__, __LINE__, "%s: %s", op, call_error.message);
  } else {
    int64_t n = mx_array_size(y);
    mx_shape want = mx_reduce_shape(&shape, reduced, keep);
    CHECK(mx_shape_equal(&y->shape, &want));
    gathered *g = calloc((size_t)n + 1, sizeof(*g));
    for (int64_t i = 0; i < n; i++) g[i].product = g[i].nanprod = 1, g[i].whole_product = 1;
    for (int64_t i = 0; i < mx_array_size(x); i++) {
      int64_t result, element;
      places(i, &shape, reduced, &result, &element);
      add_to(&g[result], x, i, element);
    }
    for (int64_t i = 0; i < n; i++) {
      if (g[i].count == 0 || same_result(op, y, i, &g[i])) continue;
      double scale;
      check_report(__FILE__, __LINE__, "%s(%s %s, axis = %s, exclude = %d): result %lld is %.9g, not %.9g", op,
                   mx_dtype_name(dtype), mx_shape_text(&shape, s), text, exclude, (long long)i, call_value(y, i),
                   want_real(op, &g[i], &scale));
      break;
    }
    free(g);
  }
  mx_array_release(x);
  call_release(&y, 1);
}

TEST(reductions) {
  for (int64_t k = runs(); k > 0; k--) one_reduction();
}

/* ---- along one axis: argmax, argmin, cumsum ---- */

static void one_search(void) {
  mx_dtype dtype = any_dtype();
  mx_shape shape = any_shape();
  bool given = dice(4) > 0, largest = dice(2), reduced[MX_MAX_NDIM];
  int axis = (int)dice((uint32_t)shape.ndim);
  for (int d = 0; d < shape.ndim; d++) reduced[d] = !given || d == axis;
  char text[16], s[MX_SHAPE_TEXT];
  snprintf(text, sizeof(text), "%d", dice(2) ? axis : axis - shape.ndim);
  mx_array *x = any_array(dtype, shape, -9, 9, dice(3) == 0), *y = NULL, *sums = NULL;
  if (dice(2)) { /* ties */
    for (int64_t i = 0; i < mx_array_size(x); i++) {
      double v = trunc(call_value(x, i) / 3);
      mx_convert(&v, MX_FLOAT64, (char *)mx_array_data(x) + (size_t)i * mx_dtype_size(dtype), dtype, 1);
    }
  }
  const char *const *attrs = given ? ATTRS("axis", text) : NULL;
  int64_t n = mx_array_size(x);
  if (call_op(largest ? "argmax" : "argmin", attrs, &x, 1, &y, 1) != MX_OK ||
      call_op("cumsum", attrs, &x, 1, &sums, 1) != MX_OK) {
    check_report(__FILE__, __LINE__, "%s", call_error.message);
  } else {
    int64_t m = mx_array_size(y);
    gathered *g = calloc((size_t)m + 1, sizeof(*g));
    for (int64_t i = 0; i < n; i++) {
      int64_t result, element;
      places(i, &shape, reduced, &result, &element);
      add_to(&g[result], x, i, element);
      bool real = mx_dtype_is_float(dtype);
      int64_t want = 0;
      char narrow[8];
      mx_convert(&g[result].whole_sum, MX_INT64, narrow, dtype, 1);
      mx_convert(narrow, dtype, &want, MX_INT64, 1);
      double scale = roundoff(dtype) * g[result].absolute + 1e-7;
      bool same = real ? close_to(call_value(sums, i), g[result].sum, scale) : integer_at(sums, i) == want;
      if (same || (dtype == MX_FLOAT16 && g[result].absolute > 65000)) continue;
      check_report(__FILE__, __LINE__, "cumsum(%s %s, axis = %s): element %lld is %.9g, not %.9g", mx_dtype_name(dtype),
                   mx_shape_text(&shape, s), given ? text : "None", (long long)i, call_value(sums, i), g[result].sum);
      break;
    }
    for (int64_t i = 0; i < m; i++) {
      double want = (double)(largest ? g[i].first_max : g[i].first_min), narrow;
      char place[8];
      mx_convert(&want, MX_FLOAT64, place, dtype, 1);
      mx_convert(place, dtype, &narrow, MX_FLOAT64, 1);
      if (g[i].count == 0 || call_value(y, i) == narrow) continue;
      check_report(__FILE__, __LINE__, "%s(%s %s, axis = %s): result %lld is %.9g, not %.9g",
                   largest ? "argmax" : "argmin", mx_dtype_name(dtype), mx_shape_text(&shape, s), given ? text : "None",
                   (long long)i, call_value(y, i), narrow);
      break;
    }
    free(g);
  }
  mx_array_release(x);
  call_release(&y, 1);
  call_release(&sums, 1);
}

TEST(along_an_axis) {
  for (int64_t k = runs(); k > 0; k--) one_search();
}

/* ---- moments ---- */

static void one_moments(void) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  mx_dtype dtype = types[dice(3)];
  mx_shape shape = any_shape(), axes = {.ndim = 0};
  bool reduced[MX_MAX_NDIM];
  for (int d = 0; d < shape.ndim; d++)
    if (dice(2)) axes.dim[axes.ndim++] = d;
  for (int d = 0; d < shape.ndim; d++) reduced[d] = axes.ndim == 0;
  for (int i = 0; i < axes.ndim; i++) reduced[axes.dim[i]] = true;
  char text[128], s[MX_SHAPE_TEXT];
  text_of_axes(&axes, text);
  mx_array *x = any_array(dtype, shape, 20, 22, false), *y[2] = {NULL, NULL};
  if (call_op("moments", ATTRS("axes", text), &x, 1, y, 2) != MX_OK) {
    check_report(__FILE__, __LINE__, "moments: %s", call_error.message);
  } else {
    int64_t n = mx_array_size(y[0]), result, element;
    gathered *g = calloc((size_t)n + 1, sizeof(*g));
    double *squares = calloc((size_t)n + 1, sizeof(*squares));
    for (int64_t i = 0; i < mx_array_size(x); i++)
      places(i, &shape, reduced, &result, &element), add_to(&g[result], x, i, element);
    for (int64_t i = 0; i < mx_array_size(x); i++) {
      places(i, &shape, reduced, &result, &element);
      double off = call_value(x, i) - g[result].sum / (double)g[result].count;
      squares[result] += off * off;
    }
    for (int64_t i = 0; i < n; i++) {
      double count = (double)g[i].count, r = roundoff(dtype);
      if (count == 0 || (close_to(call_value(y[0], i), g[i].sum / count, r * 21) &&
                         close_to(call_value(y[1], i), squares[i] / count, r * squares[i] / count + 1e-7)))
        continue;
      check_report(__FILE__, __LINE__, "moments(%s %s, axes = %s): result %lld is %.9g, %.9g, not %.9g, %.9g",
                   mx_dtype_name(dtype), mx_shape_text(&shape, s), text, (long long)i, call_value(y[0], i),
                   call_value(y[1], i), g[i].sum / count, squares[i] / count);
      break;
    }
    free(g);
    free(squares);
  }
  mx_array_release(x);
  call_release(y, 2);
}

TEST(moments) {
  for (int64_t k = runs() / 4; k > 0; k--) one_moments();
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 1;
  RUN(elementwise);
  RUN(reductions);
  RUN(along_an_axis);
  RUN(moments);
  return check_finish();
}
