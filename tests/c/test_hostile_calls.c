/* Calls that nobody meant. The recorded calls of every operator, or made-up ones, are changed in one place: inputs too
 * many or too few, of another rank, size or type, empty, huge, full of odd numbers; every parameter with values in and
 * out of its range and with text that is none. Each is run imperatively and in an executor, forward and backward.
 *
 * Anything may be an error, but no internal one, and it names the operator. What succeeds writes all of its outputs,
 * whatever lay in their memory, nothing outside of them, and no input that the record does not list. Sanitizers watch.
 *
 *   test_hostile_calls [--op OPERATOR] [--verbose] */
#include <sys/stat.h>

#include "call.h"
#include "core/memory.h"
#include "golden.h"
#include "graph/symbol.h"

enum { MAX_ARRAYS = 80, GUARD = 64, MAX_ELEMENTS = 20000, CASES = 3 };
static const char *only;
static bool verbose;
static long calls, failures, successes;

/* What is called: of a recorded case, or changed. */
typedef struct attempt {
  const mx_op *op;
  const char *id, *change;
  mx_dict attrs;
  int n;
  mx_shape shape[MAX_ARRAYS];
  mx_dtype dtype[MAX_ARRAYS];
  const double *value[MAX_ARRAYS]; /* as many as the first shape had; repeated */
  int64_t n_value[MAX_ARRAYS];
  bool is_train;
} attempt;

static void complain(const attempt *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void complain(const attempt *a, const char *fmt, ...) {
  char text[1400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof(text), fmt, ap);
  va_end(ap);
  check_report(__FILE__, __LINE__, "%s, %s: %s", a->id, a->change, text);
  if (verbose) check_now.shown = 0;
}

/* ---- arrays between guards ---- */

typedef struct guarded {
  mx_array *base, *array;
  unsigned char fill;
} guarded;

static bool guarded_new(mx_dtype dtype, const mx_shape *shape, unsigned char fill, guarded *g) {
  size_t edge = GUARD * mx_dtype_size(dtype);
  mx_shape whole = mx_shape_of(mx_shape_size(shape) + 2 * GUARD);
  *g = (guarded){.fill = fill};
  if (mx_array_new(call_device, &whole, dtype, &g->base, &call_error) != MX_OK ||
      mx_array_view(g->base, GUARD, shape, &g->array, &call_error) != MX_OK)
    return false;
  memset(mx_array_data(g->base), 0xA5, edge);
  memset(mx_array_data(g->array), fill, mx_array_bytes(g->array));
  memset((char *)mx_array_data(g->array) + mx_array_bytes(g->array), 0xA5, edge);
  return true;
}
static bool guarded_intact(const guarded *g) {
  size_t edge = GUARD * mx_dtype_size(g->base->dtype);
  const unsigned char *head = mx_array_data(g->base), *tail = head + edge + mx_array_bytes(g->array);
  for (size_t i = 0; i < edge; i++)
    if (head[i] != 0xA5 || tail[i] != 0xA5) return false;
  return true;
}
static void guarded_free(guarded *g) {
  mx_array_release(g->array);
  mx_array_release(g->base);
  *g = (guarded){NULL};
}

static bool load(const attempt *a, int i, guarded *g) {
  if (!guarded_new(a->dtype[i], &a->shape[i], 0, g)) return false;
  char *to = mx_array_data(g->array);
  for (int64_t k = 0, n = mx_array_size(g->array); k < n && a->n_value[i]; k++)
    mx_convert(&a->value[i][k % a->n_value[i]], MX_FLOAT64, to + (size_t)k * mx_dtype_size(a->dtype[i]), a->dtype[i],
               1);
  return true;
}

/* ---- one call ---- */

static void check_error(const attempt *a, mx_status status) {
  failures++;
  if (status == MX_ERR_MEMORY) return;
  if (status == MX_ERR_INTERNAL) complain(a, "internal error: %s", call_error.message);
  if (!call_error.message[0] || call_error.code != status) complain(a, "no message");
  if (strcmp(call_error.op, a->op->name)) complain(a, "the error does not name the operator: %s", call_error.message);
  if (!call_error.argument[0] && !call_error.expected[0])
    complain(a, "the error names no argument: %s", call_error.message);
}

/* Shapes and types of all outputs; false when they cannot be, or are too large to be tried. */
static bool infer(const attempt *a, mx_shape *out, mx_dtype *type, int *n_visible) {
  void *params;
  mx_shape in[MAX_ARRAYS];
  mx_dtype in_type[MAX_ARRAYS];
  mx_status status = mx_op_params_new(a->op, &a->attrs, &params, &call_error);
  if (status != MX_OK) return check_error(a, status), false;
  int n_in = mx_op_count_in(a->op, params), n_out = mx_op_count_out(a->op, params);
  *n_visible = mx_op_count_visible(a->op, params);
  bool fits = n_in == a->n && n_out <= MAX_ARRAYS;
  for (int i = 0; i < a->n; i++) in[i] = a->shape[i], in_type[i] = a->dtype[i];
  for (int i = 0; i < n_out && fits; i++) out[i] = MX_SHAPE_UNKNOWN, type[i] = MX_DTYPE_UNKNOWN;
  if (fits) {
    status = mx_op_infer_dtype(a->op, params, in_type, n_in, type, n_out, &call_error);
    if (status == MX_OK) status = mx_op_infer_shape(a->op, params, in, n_in, out, n_out, &call_error);
    if (status != MX_OK) check_error(a, status);
  }
  mx_op_params_free(a->op, params);
  int64_t total = 0;
  for (int i = 0; status == MX_OK && fits && i < n_out; i++) {
    if (type[i] == MX_DTYPE_UNKNOWN) type[i] = MX_FLOAT32;
    fits = mx_shape_known(&out[i]) && mx_shape_check_size(&out[i], 8, &call_error) == MX_OK;
    if (fits) total += mx_shape_size(&out[i]);
    fits = fits && total <= MAX_ELEMENTS;
  }
  for (int i = 0; i < a->n; i++) /* huge inputs are inferred only */
    fits = fits && mx_shape_check_size(&a->shape[i], 8, &call_error) == MX_OK &&
           mx_shape_size(&a->shape[i]) <= MAX_ELEMENTS;
  return status == MX_OK && fits;
}

static bool may_change(const attempt *a, int i) {
  if (i < 32 && (a->op->mutates >> i & 1)) return true;
  void *params;
  if (mx_op_params_new(a->op, &a->attrs, &params, &call_error) != MX_OK) return true;
  bool aux = mx_op_is_aux(a->op, params, i);
  mx_op_params_free(a->op, params);
  return aux;
}

static guarded arrays[MAX_ARRAYS], results[MAX_ARRAYS];

/* Into outputs that are full of `fill`; their bytes go to *bytes (malloc'ed). */
static mx_status invoke(const attempt *a, const mx_shape *out, const mx_dtype *type, int n_out, unsigned char fill,
                        char **bytes, size_t *size) {
  mx_array *in[MAX_ARRAYS], *to[MAX_ARRAYS];
  bool ok = true;
  for (int i = 0; i < a->n; i++) ok = load(a, i, &arrays[i]) && ok, in[i] = arrays[i].array;
  for (int i = 0; i < n_out; i++) ok = guarded_new(type[i], &out[i], fill, &results[i]) && ok, to[i] = results[i].array;
  mx_random_seed(1);
  calls++;
  mx_status status =
      !ok ? MX_ERR_MEMORY : mx_invoke(a->op, &a->attrs, in, a->n, to, n_out, call_device, a->is_train, &call_error);
  *size = 0;
  for (int i = 0; ok && i < n_out; i++) {
    if (!guarded_intact(&results[i])) complain(a, "writes outside of output %d", i);
    *bytes = realloc(*bytes, *size + mx_array_bytes(to[i]) + 1);
    memcpy(*bytes + *size, mx_array_data(to[i]), mx_array_bytes(to[i]));
    *size += mx_array_bytes(to[i]);
  }
  for (int i = 0; ok && i < a->n; i++) {
    guarded before = {NULL};
    if (!guarded_intact(&arrays[i])) complain(a, "writes outside of input %d", i);
    if (!may_change(a, i) && load(a, i, &before) && mx_array_bytes(in[i]) &&
        memcmp(mx_array_data(before.array), mx_array_data(in[i]), mx_array_bytes(in[i])))
      complain(a, "changes input %d", i);
    guarded_free(&before);
  }
  for (int i = 0; i < a->n; i++) guarded_free(&arrays[i]);
  for (int i = 0; i < n_out; i++) guarded_free(&results[i]);
  return status;
}

/* The outputs must not depend on what lay in their memory. */
static void run_imperative(const attempt *a) {
  mx_shape out[MAX_ARRAYS];
  mx_dtype type[MAX_ARRAYS];
  int n_out;
  char *first = NULL, *second = NULL;
  size_t n_first, n_second;
  if (!infer(a, out, type, &n_out)) return;
  mx_status status = invoke(a, out, type, n_out, 0x11, &first, &n_first);
  if (status != MX_OK) {
    check_error(a, status);
  } else {
    successes++;
    status = invoke(a, out, type, n_out, 0x3c, &second, &n_second);
    if (status != MX_OK)
      complain(a, "fails the second time: %s", call_error.message);
    else if (n_first != n_second || (n_first && memcmp(first, second, n_first)))
      complain(a, "leaves a part of its outputs unwritten");
  }
  free(first);
  free(second);
}

/* ---- the same in an executor ---- */

static mx_status bind_and_run(const attempt *a, mx_symbol **s, mx_executor **e) {
  static guarded grads[MAX_ARRAYS];
  mx_array *args[MAX_ARRAYS], *grad[MAX_ARRAYS] = {NULL}, *aux[MAX_ARRAYS], *heads[MAX_ARRAYS];
  mx_req req[MAX_ARRAYS];
  mx_symbol *inputs[MAX_ARRAYS] = {NULL};
  void *params = NULL;
  int n_args = 0, n_aux = 0;
  mx_status status = mx_op_params_new(a->op, &a->attrs, &params, &call_error);
  for (int i = 0; status == MX_OK && i < a->n; i++) {
    char name[16];
    snprintf(name, sizeof(name), "in%d", i);
    status = mx_symbol_variable(name, &inputs[i], &call_error);
    if (status == MX_OK && !load(a, i, &arrays[i])) status = MX_ERR_MEMORY;
    if (status != MX_OK) break;
    if (i < mx_op_count_in(a->op, params) && mx_op_is_aux(a->op, params, i)) {
      aux[n_aux++] = arrays[i].array;
      continue;
    }
    req[n_args] = !mx_dtype_is_float(a->dtype[i]) ? MX_NULL : i % 2 ? MX_ADD : MX_WRITE;
    if (req[n_args] != MX_NULL && !guarded_new(a->dtype[i], &a->shape[i], 0x11, &grads[n_args])) status = MX_ERR_MEMORY;
    grad[n_args] = grads[n_args].array;
    args[n_args++] = arrays[i].array;
  }
  if (status == MX_OK) status = mx_symbol_apply(a->op, "x", "x", &a->attrs, NULL, inputs, a->n, s, &call_error);
  if (status == MX_OK && ((*s)->n > MAX_ARRAYS)) status = mx_fail(&call_error, MX_ERR_MEMORY, "Too many.");
  mx_names names = {0};
  if (status == MX_OK) status = mx_symbol_arguments(*s, &names, &call_error);
  if (status == MX_OK && names.n != n_args) { /* more variables were made for inputs that are missing */
    status = mx_fail(&call_error, MX_ERR_MEMORY, "Inputs are missing.");
  }
  mx_names_free(&names);
  if (status == MX_OK) status = mx_executor_bind(*s, call_device, args, grad, req, aux, e, &call_error);
  calls++;
  if (status == MX_OK) status = mx_executor_forward(*e, false, &call_error);
  if (status == MX_OK) status = mx_executor_forward(*e, true, &call_error);
  if (status == MX_OK) {
    int n = mx_executor_count_outputs(*e);
    for (int i = 0; i < n; i++) heads[i] = mx_executor_output(*e, i);
    status = mx_executor_backward(*e, heads, n, &call_error);
  }
  if (status != MX_OK) check_error(a, status);
  for (int i = 0; i < a->n; i++) {
    if (arrays[i].base && !guarded_intact(&arrays[i])) complain(a, "an executor writes outside of input %d", i);
    mx_symbol_release(inputs[i]);
    guarded_free(&arrays[i]);
  }
  for (int i = 0; i < n_args; i++) {
    if (grads[i].base && !guarded_intact(&grads[i])) complain(a, "writes outside of gradient %d", i);
    guarded_free(&grads[i]);
  }
  mx_op_params_free(a->op, params);
  return status;
}

static void run_executor(const attempt *a) {
  mx_shape out[MAX_ARRAYS];
  mx_dtype type[MAX_ARRAYS];
  int n_out;
  if (a->op->flags & (MX_OP_IMPERATIVE | MX_OP_HIDDEN) || !infer(a, out, type, &n_out)) return;
  mx_symbol *s = NULL;
  mx_executor *e = NULL;
  (void)bind_and_run(a, &s, &e);
  mx_executor_release(e);
  mx_symbol_release(s);
}

static void try(const attempt *a) {
  run_imperative(a);
  run_executor(a);
}

/* ---- changes ---- */

/* Imperative calls only check the number of inputs; it must be an error. */
static void wrong_counts(attempt *a) {
  int n = a->n, counts[] = {0, n - 1, n + 1};
  for (int k = 0; k < 3; k++) {
    mx_array *in[MAX_ARRAYS], *out[MAX_ARRAYS] = {NULL};
    void *params;
    if (counts[k] < 0 || counts[k] == n || counts[k] >= MAX_ARRAYS) continue;
    for (int i = 0; i < counts[k]; i++) {
      if (!load(a, i < n ? i : 0, &arrays[i])) return;
      in[i] = arrays[i].array;
    }
    if (mx_op_params_new(a->op, &a->attrs, &params, &call_error) != MX_OK) return;
    int n_out = mx_op_count_visible(a->op, params);
    mx_op_params_free(a->op, params);
    a->change = counts[k] < n ? "fewer inputs" : "more inputs";
    mx_status status = mx_invoke(a->op, &a->attrs, in, counts[k], out, n_out, call_device, a->is_train, &call_error);
    if (status == MX_OK)
      complain(a, "%d inputs are taken for %d", counts[k], n), call_release(out, n_out);
    else
      check_error(a, status);
    for (int i = 0; i < counts[k]; i++) guarded_free(&arrays[i]);
  }
}

static void wrong_inputs(attempt *a) {
  static const int64_t sizes[] = {0, 1, 2, 7, INT64_C(1) << 31, INT64_C(1) << 62};
  static const double odd[] = {NAN, INFINITY, -INFINITY, -1, 1e30, 0.5, -1e9, 3e38, 1e300};
  char change[80];
  a->change = change;
  for (int i = 0; i < a->n; i++) {
    mx_shape shape = a->shape[i];
    for (int d = 0; d < shape.ndim; d++) /* sizes */
      for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        a->shape[i].dim[d] = sizes[k];
        snprintf(change, sizeof(change), "dimension %d of input %d is %lld", d, i, (long long)sizes[k]);
        try(a);
        a->shape[i] = shape;
      }
    for (int ndim = 1; ndim <= MX_MAX_NDIM; ndim++) { /* ranks */
      for (int d = shape.ndim; d < ndim; d++) a->shape[i].dim[d] = 1;
      a->shape[i].ndim = ndim;
      snprintf(change, sizeof(change), "input %d has %d dimensions", i, ndim);
      if (ndim != shape.ndim) try(a);
      a->shape[i] = shape;
    }
    mx_dtype dtype = a->dtype[i];
    for (int t = 0; t < MX_DTYPE_COUNT; t++) { /* types */
      snprintf(change, sizeof(change), "input %d is %s", i, mx_dtype_name((mx_dtype)t));
      a->dtype[i] = (mx_dtype)t;
      if (a->dtype[i] != dtype) try(a);
    }
    a->dtype[i] = dtype;
    const double *value = a->value[i];
    int64_t n_value = a->n_value[i];
    a->value[i] = odd, a->n_value[i] = sizeof(odd) / sizeof(odd[0]);
    snprintf(change, sizeof(change), "input %d has odd numbers", i);
    try(a);
    a->value[i] = value, a->n_value[i] = n_value;
  }
  mx_shape all[MAX_ARRAYS];
  mx_dtype types[MAX_ARRAYS];
  memcpy(all, a->shape, sizeof(all));
  memcpy(types, a->dtype, sizeof(types));
  for (int t = 0; t < MX_DTYPE_COUNT; t++) {
    for (int i = 0; i < a->n; i++) a->dtype[i] = (mx_dtype)t;
    snprintf(change, sizeof(change), "all inputs are %s", mx_dtype_name((mx_dtype)t));
    try(a);
  }
  memcpy(a->dtype, types, sizeof(types));
  for (int d = 0; d < 3; d++) { /* empty in the same place */
    for (int i = 0; i < a->n; i++)
      if (d < a->shape[i].ndim) a->shape[i].dim[d] = 0;
    snprintf(change, sizeof(change), "dimension %d of all inputs is 0", d);
    try(a);
    memcpy(a->shape, all, sizeof(all));
  }
}

static void wrong_parameters(attempt *a) {
  static const char *const values[] = {"",
                                       " ",
                                       "0",
                                       "1",
                                       "2",
                                       "3",
                                       "7",
                                       "-1",
                                       "-2",
                                       "-7",
                                       "100000",
                                       "2147483647",
                                       "2147483648",
                                       "-2147483648",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "-9223372036854775808",
                                       "0.5",
                                       "-2.5",
                                       "1e-30",
                                       "1e30",
                                       "1e400",
                                       "nan",
                                       "inf",
                                       "-inf",
                                       "None",
                                       "True",
                                       "False",
                                       "bogus",
                                       "float16",
                                       "float32",
                                       "float64",
                                       "int32",
                                       "uint8",
                                       "full",
                                       "valid",
                                       "same",
                                       "()",
                                       "(0,)",
                                       "(1,)",
                                       "(-1,)",
                                       "(2, 2)",
                                       "(0, 0)",
                                       "(1, -1)",
                                       "(-1, -1)",
                                       "(3, 1, 2)",
                                       "(1, 1, 1, 1)",
                                       "(None, 1)",
                                       "(9223372036854775807, 2)",
                                       "(-9223372036854775808, 2)",
                                       "(3000000000, 3000000000)",
                                       "(1, 2, 3, 4, 5, 6, 7, 8)",
                                       "(1, 2, 3, 4, 5, 6, 7, 8, 9)",
                                       "(0, 1, 2, 3, 4, 5, 6)",
                                       "(1",
                                       "1)",
                                       "(1,,2)",
                                       "(nan,)",
                                       "(0.5, 0.25)",
                                       "[1, 2]",
                                       "1L"};
  char change[120];
  a->change = change;
  for (const mx_param *p = a->op->params; p && p->name; p++) {
    for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
      mx_dict attrs = a->attrs;
      if (p->kind == MX_PARAM_REST || mx_dict_copy(&a->attrs, &attrs, &call_error) != MX_OK) return;
      snprintf(change, sizeof(change), "%s = %s", p->name, values[v]);
      if (mx_dict_set(&a->attrs, p->name, values[v], &call_error) == MX_OK) try(a);
      mx_dict_free(&a->attrs);
      a->attrs = attrs;
    }
  }
  mx_dict attrs = a->attrs;
  if (mx_dict_copy(&a->attrs, &attrs, &call_error) != MX_OK) return;
  snprintf(change, sizeof(change), "an unknown parameter");
  void *params;
  if (mx_dict_set(&a->attrs, "no_such_parameter", "1", &call_error) == MX_OK) {
    mx_status status = mx_op_params_new(a->op, &a->attrs, &params, &call_error);
    if (status == MX_OK)
      complain(a, "is taken"), mx_op_params_free(a->op, params);
    else
      check_error(a, status);
  }
  mx_dict_free(&a->attrs);
  a->attrs = attrs;
}

/* ---- all operators ---- */

static mx_status read_case(const golden *g, const mx_op *op, attempt *a) {
  void *params;
  int n_args = count_names(g, "arguments"), n_aux = count_names(g, "auxiliary_states"), arg = 0, aux = 0;
  *a = (attempt){.op = op, .id = g->id, .change = "unchanged", .n = n_args + n_aux, .is_train = g->is_train};
  if (a->n >= MAX_ARRAYS) return mx_fail(&call_error, MX_ERR_FORMAT, "Too many inputs.");
  MX_TRY(attributes(g, &a->attrs, &call_error));
  MX_TRY(mx_op_params_new(op, &a->attrs, &params, &call_error));
  for (int i = 0; i < a->n; i++) {
    tensor t;
    bool state = aux < n_aux && mx_op_is_aux(op, params, i);
    const char *name = state ? name_at(g, "auxiliary_states", aux++) : name_at(g, "arguments", arg++);
    if (!find_tensor(g, state ? "aux" : "arg", name, 0, &t)) continue;
    a->shape[i] = t.shape, a->dtype[i] = t.dtype, a->n_value[i] = mx_shape_size(&t.shape);
    double *value = malloc((size_t)(a->n_value[i] + 1) * sizeof(double));
    mx_convert(t.data, t.dtype, value, MX_FLOAT64, a->n_value[i]);
    a->value[i] = value;
  }
  mx_op_params_free(op, params);
  return MX_OK;
}

static void change(attempt *a) {
  try(a);
  wrong_counts(a);
  wrong_inputs(a);
  wrong_parameters(a);
  a->change = "any change";
}

static void run_case(const golden *g, const mx_op *op) {
  static attempt a;
  if (read_case(g, op, &a) != MX_OK)
    complain(&a, "%s", call_error.message);
  else
    change(&a);
  for (int i = 0; i < a.n; i++) free((void *)a.value[i]);
  mx_dict_free(&a.attrs);
}

/* For operators without recorded cases: plausible parameters, and inputs that fit a first one of this shape. */
static mx_status make_case(const mx_op *op, const mx_shape *first, attempt *a) {
  static const char *const plausible[] = {"True", "True", "1", "1",      "0.5",  "0.5",
                                          "",     "",     "",  "(2, 3)", "(1,)", "(0.5,)"};
  static const double numbers[] = {0.2, 0.5, 0.9, 0.1, 0.7};
  void *params;
  mx_shape out[MAX_ARRAYS];
  mx_dtype type[MAX_ARRAYS];
  *a = (attempt){.op = op, .id = op->name, .change = "unchanged", .is_train = true};
  for (const mx_param *p = op->params; p && p->name; p++)
    if (!p->initial || !strcmp(p->name, "shape"))
      MX_TRY(mx_dict_set(&a->attrs, p->name, strstr("high range_max", p->name) ? "1000" : plausible[p->kind],
                         &call_error));
  MX_TRY(mx_op_params_new(op, &a->attrs, &params, &call_error));
  a->n = mx_op_count_in(op, params);
  int n_out = mx_op_count_out(op, params);
  for (int i = 0; i < a->n; i++) {
    a->shape[i] = i ? MX_SHAPE_UNKNOWN : *first, a->dtype[i] = i ? MX_DTYPE_UNKNOWN : MX_FLOAT32;
    a->value[i] = numbers, a->n_value[i] = 5;
  }
  for (int i = 0; i < n_out; i++) out[i] = MX_SHAPE_UNKNOWN, type[i] = MX_DTYPE_UNKNOWN;
  mx_status status = mx_op_infer_dtype(op, params, a->dtype, a->n, type, n_out, &call_error);
  if (status == MX_OK) status = mx_op_infer_shape(op, params, a->shape, a->n, out, n_out, &call_error);
  mx_op_params_free(op, params);
  for (int i = 0; i < a->n; i++) {
    if (!mx_shape_known(&a->shape[i])) a->shape[i] = *first;
    if (a->dtype[i] == MX_DTYPE_UNKNOWN) a->dtype[i] = MX_FLOAT32;
  }
  return status;
}

TEST(made_up_calls) {
  static attempt a;
  for (int i = 0; i < mx_op_count(); i++) {
    const mx_op *op = mx_op_at(i);
    char path[4096];
    struct stat st;
    snprintf(path, sizeof(path), "%s/golden/%s.json", MX_TESTS_DIR, op->name);
    /* the first has a test of its own; the shape of the second follows from where it stands */
    bool apart = !strcmp(op->name, "Custom") || !strcmp(op->name, "_NoGradient");
    if (op->flags & MX_OP_HIDDEN || apart || stat(path, &st) == 0 || (only && strcmp(only, op->name))) continue;
    long before = successes;
    for (int ndim = 1; ndim <= 4; ndim++) {
      mx_shape first = mx_shape_of(4, 3, 2, 2);
      first.ndim = ndim;
      if (verbose) printf("%s\n", op->name), fflush(stdout);
      if (make_case(op, &first, &a) == MX_OK) change(&a);
      mx_dict_free(&a.attrs);
    }
    if (successes == before) complain(&a, "never succeeds: %s", call_error.message);
  }
}

TEST(changed_calls) {
  int n, operators = 0;
  char **files = files_of(MX_TESTS_DIR "/golden", ".json", &n);
  for (int i = 0; i < n; i++) {
    golden_file f;
    if (!golden_open(MX_TESTS_DIR "/golden", files[i], &f)) continue;
    const mx_op *op = mx_op_find(f.op);
    bool wanted = op && f.data && (!only || !strcmp(only, f.op));
    for (int k = 0; wanted && k < f.n && k < CASES; k++) {
      golden g = golden_case(&f, k * (f.n > CASES ? f.n / CASES : 1));
      if (verbose) printf("%s\n", g.id), fflush(stdout);
      run_case(&g, op);
    }
    operators += wanted;
    mx_invoke_clear_cache();
    mx_pool_trim();
    golden_close(&f);
  }
  free_files(files, n);
  if (verbose) printf("%d operators, %ld calls, %ld errors, %ld answers\n", operators, calls, failures, successes);
  CHECK(only || (operators > 280 && successes > 40000));
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--verbose")) verbose = true;
    if (!strcmp(argv[i], "--op") && i + 1 < argc) only = argv[i + 1];
  }
  if (!call_start(1, argv)) return 1;
  RUN(changed_calls);
  RUN(made_up_calls);
  return check_finish();
}
