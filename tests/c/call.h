/* Calling operators from tests: arrays from numbers in double, imperative calls, and gradients against finite
 * differences. Every function reports failures by check_report and leaves its message in call_error. */
#ifndef MX_TESTS_CALL_H
#define MX_TESTS_CALL_H

#include <stdlib.h>

#include "check.h"
#include "core/array.h"
#include "core/random.h"
#include "core/thread.h"
#include "graph/executor.h"
#include "ops/op.h"

#define CALL_UNUSED __attribute__((unused))
static mx_device *call_device;
static mx_error call_error;

/* "key", "value", ...; no attributes: NULL. */
#define ATTRS(...) ((const char *const[]){__VA_ARGS__, NULL})

CALL_UNUSED static bool call_start(int argc, char **argv) {
  check_start(argc, argv);
  return mx_device_get(MX_CPU, 0, &call_device, &call_error) == MX_OK;
}

CALL_UNUSED static mx_array *call_array(mx_dtype dtype, mx_shape shape, const double *values) {
  mx_array *a = NULL;
  if (mx_array_new(call_device, &shape, dtype, &a, &call_error) != MX_OK) {
    check_report(__FILE__, __LINE__, "%s", call_error.message);
    return NULL;
  }
  if (values) mx_convert(values, MX_FLOAT64, mx_array_data(a), dtype, mx_array_size(a));
  return a;
}

/* Numbers in [low, high) that depend on `seed` only. */
CALL_UNUSED static void call_noise(double *x, int64_t n, double low, double high, uint64_t seed) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t w[4];
    mx_philox((mx_random_span){seed, 0}, (uint64_t)i, 0, w);
    x[i] = low + (high - low) * mx_uniform_double(w[0], w[1]);
  }
}
CALL_UNUSED static mx_array *call_random(mx_dtype dtype, mx_shape shape, double low, double high, uint64_t seed) {
  mx_array *a = call_array(dtype, shape, NULL);
  if (!a) return NULL;
  int64_t n = mx_array_size(a);
  double *x = malloc((size_t)(n + 1) * sizeof(double));
  call_noise(x, n, low, high, seed);
  mx_convert(x, MX_FLOAT64, mx_array_data(a), dtype, n);
  free(x);
  return a;
}

CALL_UNUSED static double call_value(const mx_array *a, int64_t i) {
  MX_SWITCH_ALL(a->dtype, return NAN, return (double)((const T *)mx_array_data(a))[i];)
  return NAN;
}

static mx_status call_attrs(const char *const *attrs, mx_dict *out) {
  *out = MX_DICT_EMPTY;
  for (int i = 0; attrs && attrs[i]; i += 2) MX_TRY(mx_dict_set(out, attrs[i], attrs[i + 1], &call_error));
  return MX_OK;
}

/* out[i] NULL: a new array; otherwise written into. */
CALL_UNUSED static mx_status call_op_train(const char *name, const char *const *attrs, mx_array **in, int n_in,
                                           mx_array **out, int n_out, bool is_train) {
  const mx_op *op = mx_op_find(name);
  if (!op) return mx_fail(&call_error, MX_ERR_VALUE, "There is no operator %s.", name);
  mx_dict d;
  mx_status status = call_attrs(attrs, &d);
  if (status == MX_OK) status = mx_invoke(op, &d, in, n_in, out, n_out, call_device, is_train, &call_error);
  mx_dict_free(&d);
  return status;
}
CALL_UNUSED static mx_status call_op(const char *name, const char *const *attrs, mx_array **in, int n_in,
                                     mx_array **out, int n_out) {
  return call_op_train(name, attrs, in, n_in, out, n_out, false);
}

CALL_UNUSED static void call_release(mx_array **a, int n) {
  for (int i = 0; i < n; i++) {
    mx_array_release(a[i]);
    a[i] = NULL;
  }
}

/* ---- gradients ---- */

enum { CALL_MAX = 16 };

typedef struct call_bound {
  mx_symbol *inputs[CALL_MAX], *symbol;
  mx_array *grads[CALL_MAX], *heads[CALL_MAX];
  mx_executor *executor;
  int n_in, n_out;
} call_bound;

/* Binds `name` to the inputs, with gradients for those whose bit in `wanted` is set. States are not bound here. */
CALL_UNUSED static mx_status call_bind(const char *name, const char *const *attrs, mx_array **in, int n_in,
                                       uint32_t wanted, call_bound *b) {
  memset(b, 0, sizeof(*b));
  b->n_in = n_in;
  const mx_op *op = mx_op_find(name);
  if (!op) return mx_fail(&call_error, MX_ERR_VALUE, "There is no operator %s.", name);
  mx_req reqs[CALL_MAX];
  for (int i = 0; i < n_in; i++) {
    char text[16];
    snprintf(text, sizeof(text), "in%d", i);
    MX_TRY(mx_symbol_variable(text, &b->inputs[i], &call_error));
    reqs[i] = wanted >> i & 1 ? MX_WRITE : MX_NULL;
    if (reqs[i] != MX_NULL) MX_TRY(mx_array_zeros(call_device, &in[i]->shape, in[i]->dtype, &b->grads[i], &call_error));
  }
  mx_dict d;
  mx_status status = call_attrs(attrs, &d);
  if (status == MX_OK) status = mx_symbol_apply(op, "x", "x", &d, NULL, b->inputs, n_in, &b->symbol, &call_error);
  mx_dict_free(&d);
  MX_TRY(status);
  MX_TRY(mx_executor_bind(b->symbol, call_device, in, b->grads, reqs, NULL, &b->executor, &call_error));
  b->n_out = mx_executor_count_outputs(b->executor);
  return MX_OK;
}
CALL_UNUSED static void call_unbind(call_bound *b) {
  mx_executor_release(b->executor);
  mx_symbol_release(b->symbol);
  for (int i = 0; i < b->n_in; i++) mx_symbol_release(b->inputs[i]);
  call_release(b->grads, b->n_in);
  call_release(b->heads, b->n_out);
  memset(b, 0, sizeof(*b));
}

/* The sum of all outputs, each weighted by its head gradient. */
static mx_status call_objective(call_bound *b, double *out) {
  MX_TRY(mx_executor_forward(b->executor, true, &call_error));
  *out = 0;
  for (int k = 0; k < b->n_out; k++) {
    const mx_array *y = mx_executor_output(b->executor, k);
    for (int64_t i = 0; i < mx_array_size(y); i++) *out += call_value(y, i) * call_value(b->heads[k], i);
  }
  return MX_OK;
}

/* Compares the gradients of float64 inputs with central differences of step `h`, at most 200 elements an input. The
 * head gradients are random; bit k of `silent` makes that of output k zero (an output without gradient). */
CALL_UNUSED static void call_check_gradient(const char *name, const char *const *attrs, mx_array **in, int n_in,
                                            uint32_t wanted, uint32_t silent, double h, double tolerance) {
  call_bound b;
  mx_status status = call_bind(name, attrs, in, n_in, wanted, &b);
  if (status == MX_OK) status = mx_executor_forward(b.executor, true, &call_error);
  for (int k = 0; status == MX_OK && k < b.n_out; k++) {
    const mx_array *y = mx_executor_output(b.executor, k);
    double scale = silent >> k & 1 ? 0 : 1;
    b.heads[k] = call_random(y->dtype, y->shape, -scale, scale, 900 + (uint64_t)k);
  }
  if (status == MX_OK) status = mx_executor_backward(b.executor, b.heads, b.n_out, &call_error);
  for (int i = 0; status == MX_OK && i < n_in; i++) {
    if (!(wanted >> i & 1)) continue;
    int64_t n = mx_array_size(in[i]), step = n / 200 + 1;
    double *x = mx_array_data(in[i]);
    for (int64_t j = 0; status == MX_OK && j < n; j += step) {
      double keep = x[j], up = 0, down = 0;
      x[j] = keep + h;
      status = call_objective(&b, &up);
      x[j] = keep - h;
      if (status == MX_OK) status = call_objective(&b, &down);
      x[j] = keep;
      double want = (up - down) / (2 * h), got = call_value(b.grads[i], j);
      if (status == MX_OK && !(fabs(got - want) <= tolerance * (1 + fabs(want))))
        check_report(__FILE__, __LINE__, "%s: gradient of input %d at %lld is %.9g, differences say %.9g", name, i,
                     (long long)j, got, want);
    }
  }
  if (status != MX_OK) check_report(__FILE__, __LINE__, "%s failed: %s", name, call_error.message);
  call_unbind(&b);
}

#endif
