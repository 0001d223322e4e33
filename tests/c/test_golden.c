/* Golden vectors: single operators against recorded answers (tests/golden/README.md).
 *
 *   test_golden [DIR] [OPERATOR ...] [--threads N] [--gpu] [--fail-alloc] [--verbose] [--table]
 *
 * A case of mode "symbol" is bound and run forward and backward, twice (the second time every allocation fails: plans
 * allocate nothing), and run once more as an imperative call into given outputs; all that again with one, two and three
 * threads, which must give the same bits. Every array lies between guard regions that must stay as they are. Then the
 * first, second, ... allocation of every operator's first case fails, until the case comes to its end: each failure
 * must be reported and must leave nothing behind (--fail-alloc does only that; it is left out when operators are
 * named). Cases of an operator that is not registered fail. MX_GOLDEN_OPS names operators too. --table counts operators
 * and cases by family. */
#include <stdlib.h>
#include <sys/stat.h>

#include "check.h"
#include "core/array.h"
#include "core/memory.h"
#include "core/thread.h"
#include "golden.h"
#include "graph/executor.h"
#include "graph/symbol.h"
#include "ops/op.h"

#define MAX_ARRAYS 64
#define GUARD 64 /* elements on each side of an array */
#define GUARD_BYTE 0xA5

static struct {
  const char *dir;
  const char *ops[512];
  int n_ops;
  bool verbose, fail_alloc, table;
  mx_device_kind device;
} options = {.dir = MX_TESTS_DIR "/golden", .device = MX_CPU};
static mx_device *device;

/* ---- arrays between guard regions ---- */

typedef struct guarded {
  mx_array *base, *array;
} guarded;

static mx_status guarded_new(mx_dtype dtype, const mx_shape *shape, guarded *out, mx_error *err) {
  int64_t n = mx_shape_size(shape);
  mx_shape whole = mx_shape_of(n + 2 * GUARD);
  MX_TRY(mx_array_new(device, &whole, dtype, &out->base, err));
  size_t bytes = mx_array_bytes(out->base);
  unsigned char *fill = malloc(bytes);
  memset(fill, GUARD_BYTE, bytes);
  mx_status status = mx_array_write(out->base, fill, bytes, err);
  free(fill);
  MX_TRY(status);
  return mx_array_view(out->base, GUARD, shape, &out->array, err);
}
static mx_status guarded_from(const tensor *t, guarded *out, mx_error *err) {
  MX_TRY(guarded_new(t->dtype, &t->shape, out, err));
  return mx_array_write(out->array, t->data, mx_array_bytes(out->array), err);
}
static void guarded_free(guarded *g) {
  mx_array_release(g->array);
  mx_array_release(g->base);
  *g = (guarded){NULL, NULL};
}
static bool guarded_intact(const guarded *g) {
  if (!g->base) return true;
  mx_error err;
  size_t bytes = mx_array_bytes(g->base), inner = mx_array_bytes(g->array), edge = (bytes - inner) / 2;
  unsigned char *all = malloc(bytes);
  bool ok = mx_array_read(g->base, all, bytes, &err) == MX_OK;
  for (size_t i = 0; ok && i < edge; i++) ok = all[i] == GUARD_BYTE && all[bytes - 1 - i] == GUARD_BYTE;
  free(all);
  return ok;
}

/* ---- comparison ---- */

static double tolerance_scale(const golden *g, mx_dtype dtype, bool gradient) {
  static const char *const loose[] = {"Deconvolution", "Convolution", "Convolution_v1", "RNN",    "Correlation",
                                      "LRN",           "erfinv",      "gamma",          "gammaln"};
  if (dtype == MX_FLOAT64 && gradient && strcmp(g->op, "gammaln") == 0)
    return 1000;                                                               /* the reference's digamma is short */
  if (dtype == MX_FLOAT64 && gradient && strcmp(g->op, "RNN") == 0) return 10; /* the reference sums biases in float */
  if (dtype != MX_FLOAT32) return 1;
  tensor data; /* the reference computes in the precision of data, whatever the type of the output */
  if (find_tensor(g, "arg", NULL, 0, &data) && data.dtype == MX_FLOAT16) return 50;
  for (size_t i = 0; i < sizeof(loose) / sizeof(loose[0]); i++)
    if (strcmp(g->op, loose[i]) == 0) return 10;
  if (gradient && strncmp(g->op, "_linalg_", 8) == 0) return 10;
  if (strcmp(g->tag, "large") == 0 && strstr(g->op, "softmax")) return 10;
  return 1;
}
/* What the reference computes there is one of its known defects. */
static bool not_to_copy(const golden *g) { return strncmp(g->tag, "the CPU of the reference ignores", 32) == 0; }

/* For numbers in more than one dimension the reference infers a shape that is too small and returns what lies in
 * memory. */
static bool nonsense(const golden *g) { return strcmp(g->id, "_unravel_index/1") == 0; }
/* Gradients that the reference adds wrongly with grad_req "add": the second operand's of a sum gets the first one's
 * too, clip overwrites, mean divides what was there before. */
static bool wrong_sum(const golden *g) {
  return strcmp(g->id, "elemwise_add/2") == 0 || strcmp(g->id, "clip/4") == 0 || strcmp(g->id, "mean/11") == 0;
}

static double value_at(const void *data, mx_dtype dtype, int64_t i) {
  MX_SWITCH_ALL(dtype, return NAN, return (double)((const T *)data)[i];)
  return NAN;
}

/* Compares an array with a recorded tensor; says the first difference in `diff` (kept when there is one already). */
static uint64_t fingerprint; /* of all bits that were compared in a run */

static void compare(const golden *g, const mx_array *got, const tensor *want, bool gradient, char *diff, size_t size) {
  if (diff[0] || nonsense(g) || (gradient && wrong_sum(g))) return;
  char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
  if (!got || got->dtype != want->dtype || !mx_shape_equal(&got->shape, &want->shape)) {
    snprintf(diff, size, "%s %s: %s %s, expected %s %s", want->role, want->name,
             got ? mx_dtype_name(got->dtype) : "nothing", got ? mx_shape_text(&got->shape, a) : "",
             mx_dtype_name(want->dtype), mx_shape_text(&want->shape, b));
    return;
  }
  mx_error err;
  size_t bytes = mx_array_bytes(got);
  void *host = malloc(bytes + 1);
  if (mx_array_read(got, host, bytes, &err) != MX_OK) {
    snprintf(diff, size, "cannot read: %s", err.message);
    free(host);
    return;
  }
  for (size_t i = 0; i < bytes; i++) fingerprint = (fingerprint ^ ((unsigned char *)host)[i]) * 1099511628211u;
  double scale = tolerance_scale(g, want->dtype, gradient);
  double rtol = want->dtype == MX_FLOAT32 ? 1e-4 : want->dtype == MX_FLOAT64 ? 1e-6 : 5e-3;
  double atol = want->dtype == MX_FLOAT32 ? 1e-5 : want->dtype == MX_FLOAT64 ? 1e-8 : 1e-3;
  int64_t n = mx_array_size(got), bad = 0, first = -1;
  for (int64_t i = 0; i < n && !not_to_copy(g); i++) {
    double x = value_at(host, want->dtype, i), y = value_at(want->data, want->dtype, i);
    bool same = mx_dtype_is_float(want->dtype)
                    ? x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= scale * (atol + rtol * fabs(y))
                    : memcmp((char *)host + i * (int64_t)mx_dtype_size(want->dtype),
                             (const char *)want->data + i * (int64_t)mx_dtype_size(want->dtype),
                             mx_dtype_size(want->dtype)) == 0;
    if (!same && bad++ == 0) first = i;
  }
  if (bad)
    snprintf(diff, size, "%s %s (%s %s): %lld of %lld differ, first at %lld: %.9g, expected %.9g", want->role,
             want->name, mx_dtype_name(want->dtype), mx_shape_text(&want->shape, a), (long long)bad, (long long)n,
             (long long)first, value_at(host, want->dtype, first), value_at(want->data, want->dtype, first));
  free(host);
}

/* ---- running ---- */

/* All that a case holds while it runs. */
typedef struct work {
  mx_dict attrs;
  int n_args, n_aux, n_out;
  guarded arg[MAX_ARRAYS], aux[MAX_ARRAYS], grad[MAX_ARRAYS], head[MAX_ARRAYS], out[MAX_ARRAYS];
  mx_symbol *input[2 * MAX_ARRAYS], *symbol;
  mx_names names;
  mx_executor *executor;
} work;

static void work_free(work *w) {
  mx_executor_release(w->executor);
  mx_names_free(&w->names);
  mx_symbol_release(w->symbol);
  for (int i = 0; i < 2 * MAX_ARRAYS; i++) mx_symbol_release(w->input[i]);
  for (int i = 0; i < MAX_ARRAYS; i++) {
    guarded_free(&w->arg[i]);
    guarded_free(&w->aux[i]);
    guarded_free(&w->grad[i]);
    guarded_free(&w->head[i]);
    guarded_free(&w->out[i]);
  }
  mx_dict_free(&w->attrs);
}

static void check_guards(const work *w, char *diff, size_t size) {
  const guarded *sets[] = {w->arg, w->aux, w->grad, w->head, w->out};
  static const char *const what[] = {"argument", "auxiliary state", "gradient", "head gradient", "output"};
  for (int s = 0; s < 5; s++)
    for (int i = 0; i < MAX_ARRAYS; i++)
      if (!guarded_intact(&sets[s][i]) && !diff[0])
        snprintf(diff, size, "memory outside of %s %d was written to", what[s], i);
}

/* Arguments and auxiliary states, new or with their first values again. */
static mx_status load_inputs(const golden *g, work *w, mx_error *err) {
  tensor t;
  w->n_args = count_names(g, "arguments");
  w->n_aux = count_names(g, "auxiliary_states");
  if (w->n_args > MAX_ARRAYS || w->n_aux > MAX_ARRAYS) return mx_fail(err, MX_ERR_INTERNAL, "Too many arrays.");
  for (int i = 0; i < w->n_args + w->n_aux; i++) {
    bool aux = i >= w->n_args;
    const char *name = aux ? name_at(g, "auxiliary_states", i - w->n_args) : name_at(g, "arguments", i);
    guarded *a = aux ? &w->aux[i - w->n_args] : &w->arg[i];
    if (!find_tensor(g, aux ? "aux" : "arg", name, 0, &t))
      return mx_fail(err, MX_ERR_FORMAT, "The case has no value for '%s'.", name);
    if (a->array)
      MX_TRY(mx_array_write(a->array, t.data, mx_array_bytes(a->array), err));
    else
      MX_TRY(guarded_from(&t, a, err));
  }
  return MX_OK;
}

static mx_req request_of(const golden *g, int i) {
  const char *r = text_of(json_object_get(g->json, "grad_req"), name_at(g, "arguments", i));
  return !g->has_gradient ? MX_NULL : strcmp(r, "write") == 0 ? MX_WRITE : strcmp(r, "add") == 0 ? MX_ADD : MX_NULL;
}

/* Gradient arrays: 77 everywhere for "write" (so a gradient has to be written), the recorded content for "add". */
static mx_status load_gradients(const golden *g, work *w, mx_error *err) {
  for (int i = 0; i < w->n_args; i++) {
    mx_req req = request_of(g, i);
    if (req == MX_NULL) continue;
    tensor t;
    if (!find_tensor(g, req == MX_ADD ? "grad_init" : "grad", name_at(g, "arguments", i), 0, &t))
      return mx_fail(err, MX_ERR_FORMAT, "The case has no gradient of '%s'.", name_at(g, "arguments", i));
    if (!w->grad[i].array) MX_TRY(guarded_new(t.dtype, &t.shape, &w->grad[i], err));
    size_t bytes = mx_array_bytes(w->grad[i].array);
    if (req == MX_ADD) {
      MX_TRY(mx_array_write(w->grad[i].array, t.data, bytes, err));
      continue;
    }
    char *fill = malloc(bytes + 1);
    int64_t n = mx_shape_size(&t.shape);
    MX_SWITCH_ALL(t.dtype, (void)0, for (int64_t k = 0; k < n; k++)((T *)fill)[k] = (T)77;)
    mx_status status = mx_array_write(w->grad[i].array, fill, bytes, err);
    free(fill);
    MX_TRY(status);
  }
  return MX_OK;
}

static void check_names(const mx_names *got, const golden *g, const char *list, char *diff, size_t size) {
  int n = count_names(g, list);
  /* Hidden outputs are listed by the reference in a few cases. */
  bool same = strcmp(list, "outputs") == 0 ? got->n <= n : got->n == n;
  for (int i = 0; same && i < got->n; i++) same = strcmp(got->v[i], name_at(g, list, i)) == 0;
  if (!same && !diff[0]) {
    int at = snprintf(diff, size, "%s are", list);
    for (int i = 0; i < got->n && at < (int)size; i++) at += snprintf(diff + at, size - (size_t)at, " %s", got->v[i]);
    if (at < (int)size) at += snprintf(diff + at, size - (size_t)at, ", expected");
    for (int i = 0; i < n && at < (int)size; i++)
      at += snprintf(diff + at, size - (size_t)at, " %s", name_at(g, list, i));
  }
}

/* The inputs of the operator in its own order, in which states may stand between arguments: order[i] counts arguments
 * first, then states. */
static mx_status input_order(const mx_op *op, const work *w, int order[], mx_error *err) {
  void *params;
  MX_TRY(mx_op_params_new(op, &w->attrs, &params, err));
  for (int i = 0, arg = 0, aux = 0; i < w->n_args + w->n_aux; i++)
    order[i] = aux < w->n_aux && mx_op_is_aux(op, params, i) ? w->n_args + aux++ : arg++;
  mx_op_params_free(op, params);
  return MX_OK;
}

static mx_status make_symbol(const golden *g, const mx_op *op, work *w, char *diff, size_t size, mx_error *err) {
  int n = w->n_args + w->n_aux, order[2 * MAX_ARRAYS];
  MX_TRY(input_order(op, w, order, err));
  for (int i = 0; i < n; i++) {
    int k = order[i];
    const char *name = k < w->n_args ? name_at(g, "arguments", k) : name_at(g, "auxiliary_states", k - w->n_args);
    MX_TRY(mx_symbol_variable(name, &w->input[i], err));
  }
  MX_TRY(mx_symbol_apply(op, "x", "x", &w->attrs, NULL, w->input, n, &w->symbol, err));
  MX_TRY(mx_symbol_arguments(w->symbol, &w->names, err));
  check_names(&w->names, g, "arguments", diff, size);
  mx_names_free(&w->names);
  MX_TRY(mx_symbol_auxiliaries(w->symbol, &w->names, err));
  check_names(&w->names, g, "auxiliary_states", diff, size);
  mx_names_free(&w->names);
  MX_TRY(mx_symbol_outputs(w->symbol, &w->names, err));
  check_names(&w->names, g, "outputs", diff, size);
  mx_names_free(&w->names);
  return MX_OK;
}

/* Changed arguments and auxiliary states; what is not listed must be as before. */
static void compare_inputs(const golden *g, const work *w, char *diff, size_t size) {
  tensor t;
  for (int i = 0; i < w->n_args; i++)
    if (find_tensor(g, "arg_after", name_at(g, "arguments", i), 0, &t) ||
        find_tensor(g, "arg", name_at(g, "arguments", i), 0, &t))
      compare(g, w->arg[i].array, &t, false, diff, size);
  for (int i = 0; i < w->n_aux; i++)
    if (find_tensor(g, "aux_after", name_at(g, "auxiliary_states", i), 0, &t))
      compare(g, w->aux[i].array, &t, false, diff, size);
}

static mx_status run_executor(const golden *g, work *w, bool steady, char *diff, size_t size, mx_error *err) {
  mx_array *heads[MAX_ARRAYS] = {NULL};
  tensor t;
  MX_TRY(load_inputs(g, w, err));
  MX_TRY(load_gradients(g, w, err));
  int n_out = mx_executor_count_outputs(w->executor);
  if (n_out > MAX_ARRAYS) return mx_fail(err, MX_ERR_INTERNAL, "Too many outputs.");
  for (int i = 0; i < n_out; i++) {
    if (!find_tensor(g, "head_grad", NULL, i, &t)) continue;
    if (!w->head[i].array) MX_TRY(guarded_from(&t, &w->head[i], err));
    heads[i] = w->head[i].array;
  }
  if (steady) mx_memory_fail_at(1);
  mx_status status = mx_executor_forward(w->executor, g->is_train, err);
  if (status == MX_OK && g->has_gradient) status = mx_executor_backward(w->executor, heads, n_out, err);
  if (steady) {
    mx_memory_fail_at(0);
    if (status == MX_ERR_MEMORY) mx_error_prefix(err, "The plan allocates while it runs");
  }
  MX_TRY(status);
  for (int i = 0; i < n_out; i++)
    if (find_tensor(g, "output", NULL, i, &t)) compare(g, mx_executor_output(w->executor, i), &t, false, diff, size);
  for (int i = 0; i < w->n_args; i++)
    if (w->grad[i].array && find_tensor(g, "grad", name_at(g, "arguments", i), 0, &t))
      compare(g, w->grad[i].array, &t, true, diff, size);
  compare_inputs(g, w, diff, size);
  check_guards(w, diff, size);
  return MX_OK;
}

/* The same case as a call on arrays, into outputs between guard regions. */
static mx_status run_into_outputs(const golden *g, const mx_op *op, work *w, char *diff, size_t size, mx_error *err) {
  mx_array *in[2 * MAX_ARRAYS], *out[MAX_ARRAYS];
  tensor t;
  MX_TRY(load_inputs(g, w, err));
  int n_out = 0, order[2 * MAX_ARRAYS];
  MX_TRY(input_order(op, w, order, err));
  for (int i = 0; i < w->n_args + w->n_aux; i++)
    in[i] = order[i] < w->n_args ? w->arg[order[i]].array : w->aux[order[i] - w->n_args].array;
  for (; n_out < MAX_ARRAYS && find_tensor(g, "output", NULL, n_out, &t); n_out++) {
    MX_TRY(guarded_new(t.dtype, &t.shape, &w->out[n_out], err));
    out[n_out] = w->out[n_out].array;
  }
  int recorded = n_out; /* the mask of LeakyReLU is an output that the reference leaves unwritten in inference */
  while (n_out < count_names(g, "outputs")) out[n_out++] = NULL;
  MX_TRY(mx_invoke(op, &w->attrs, in, w->n_args + w->n_aux, out, n_out, device, g->is_train, err));
  for (int i = recorded; i < n_out; i++) mx_array_release(out[i]);
  for (int i = 0; i < recorded; i++)
    if (find_tensor(g, "output", NULL, i, &t)) compare(g, out[i], &t, false, diff, size);
  check_guards(w, diff, size);
  return MX_OK;
}

static mx_status run_symbol(const golden *g, const mx_op *op, work *w, char *diff, size_t size, mx_error *err) {
  mx_array *args[MAX_ARRAYS] = {NULL}, *grads[MAX_ARRAYS] = {NULL}, *aux[MAX_ARRAYS] = {NULL};
  mx_req reqs[MAX_ARRAYS] = {MX_NULL};
  MX_TRY(load_inputs(g, w, err));
  MX_TRY(load_gradients(g, w, err));
  MX_TRY(make_symbol(g, op, w, diff, size, err));
  if (diff[0]) return MX_OK;
  for (int i = 0; i < w->n_args; i++)
    args[i] = w->arg[i].array, grads[i] = w->grad[i].array, reqs[i] = request_of(g, i);
  for (int i = 0; i < w->n_aux; i++) aux[i] = w->aux[i].array;
  MX_TRY(mx_executor_bind(w->symbol, device, args, grads, reqs, aux, &w->executor, err));
  MX_TRY(run_executor(g, w, false, diff, size, err));
  if (options.fail_alloc || diff[0]) return MX_OK;
  MX_TRY(run_executor(g, w, true, diff, size, err));
  if (diff[0] || nonsense(g)) return MX_OK;
  return run_into_outputs(g, op, w, diff, size, err);
}

/* A call that changes its arguments or is given outputs. An output that the reference wrote into an argument ("out =
 * weight") is recognised by its recorded content. */
static mx_status run_imperative(const golden *g, const mx_op *op, work *w, char *diff, size_t size, mx_error *err) {
  mx_array *in[MAX_ARRAYS], *out[MAX_ARRAYS] = {NULL};
  bool used[MAX_ARRAYS] = {false};
  tensor t, after;
  MX_TRY(load_inputs(g, w, err));
  for (int i = 0; i < w->n_args; i++) in[i] = w->arg[i].array;
  w->n_out = count_names(g, "outputs");
  for (int k = 0; k < w->n_out; k++) {
    if (find_tensor(g, "out_before", NULL, k, &t)) MX_TRY(guarded_from(&t, &w->out[k], err));
    if (!find_tensor(g, "output", NULL, k, &t)) return mx_fail(err, MX_ERR_FORMAT, "The case has no output %d.", k);
    for (int i = 0; i < w->n_args && !w->out[k].array; i++)
      if (!used[i] && find_tensor(g, "arg_after", name_at(g, "arguments", i), 0, &after) && after.dtype == t.dtype &&
          mx_shape_equal(&after.shape, &t.shape) &&
          memcmp(after.data, t.data, (size_t)mx_shape_size(&t.shape) * mx_dtype_size(t.dtype)) == 0) {
        used[i] = true;
        w->out[k].array = mx_array_retain(in[i]);
      }
    out[k] = w->out[k].array;
  }
  int n_in = w->n_args; /* an input that is the output is not recorded */
  if (!op->num_args && n_in < op->n_in && w->n_out > 0) in[n_in++] = out[0];
  mx_status status = mx_invoke(op, &w->attrs, in, n_in, out, w->n_out, device, g->is_train, err);
  for (int k = 0; k < w->n_out && status == MX_OK; k++) {
    if (!w->out[k].array) w->out[k].array = out[k];
    if (find_tensor(g, "output", NULL, k, &t)) compare(g, out[k], &t, false, diff, size);
  }
  MX_TRY(status);
  compare_inputs(g, w, diff, size);
  check_guards(w, diff, size);
  return MX_OK;
}

static mx_status run_once(const golden *g, const mx_op *op, char *diff, size_t size, mx_error *err) {
  static work w;
  memset(&w, 0, sizeof(w));
  diff[0] = 0;
  fingerprint = 0;
  mx_status status = attributes(g, &w.attrs, err);
  if (status == MX_OK)
    status = g->imperative ? run_imperative(g, op, &w, diff, size, err) : run_symbol(g, op, &w, diff, size, err);
  work_free(&w);
  return status;
}

/* Blocks that are alive once caches are empty. */
static int64_t live_blocks(void) {
  mx_invoke_clear_cache();
  mx_pool_trim();
  return mx_memory_live_blocks();
}

/* Fails each allocation of the case in turn. */
static mx_status run_failing(const golden *g, const mx_op *op, char *diff, size_t size, mx_error *err) {
  MX_TRY(run_once(g, op, diff, size, err)); /* what stays for the process's life is made here */
  int64_t before = live_blocks();
  for (int64_t n = 1; n < 100000; n++) {
    live_blocks();
    err->code = MX_OK, err->message[0] = 0;
    mx_memory_fail_at(n);
    mx_status status = run_once(g, op, diff, size, err);
    bool over = mx_memory_fail_pending() > 0; /* there were fewer allocations */
    mx_memory_fail_at(0);
    int64_t after = live_blocks();
    if (after != before) {
      snprintf(diff, size, "%lld blocks are left after allocation %lld failed", (long long)(after - before),
               (long long)n);
      return MX_OK;
    }
    if (over) {
      if (options.verbose) printf("%s: %lld allocations failed\n", g->id, (long long)n - 1);
      return status;
    }
    /* Success is fine: storage was found elsewhere. */
    if (status == MX_OK && diff[0]) return MX_OK;
    if (status != MX_OK && status != MX_ERR_MEMORY) {
      mx_error_prefix(err, "Allocation %lld failed", (long long)n);
      return status;
    }
  }
  return mx_fail(err, MX_ERR_INTERNAL, "The case does not come to an end.");
}

/* Any number of threads gives the same bits, even if every loop is shared out. */
static mx_status run_threaded(const golden *g, const mx_op *op, char *diff, size_t size, mx_error *err) {
  const int before = mx_threads();
  uint64_t one = 0;
  mx_status status = MX_OK;
  mx_threads_forced = true;
  for (int n = 1; n <= 3 && status == MX_OK && !diff[0]; n++) {
    mx_threads_set(n);
    mx_invoke_clear_cache();
    status = run_once(g, op, diff, size, err);
    if (n == 1) one = fingerprint;
    if (status == MX_OK && !diff[0] && fingerprint != one)
      snprintf(diff, size, "%d threads do not give the bits that one thread gives", n);
  }
  mx_threads_forced = false;
  mx_threads_set(before);
  return status;
}

static void run_case(golden *g, const mx_op *op) {
  char diff[1200] = "";
  mx_error err = {0};
  int64_t before = live_blocks();
  check_begin(g->id);
  mx_status status =
      options.fail_alloc ? run_failing(g, op, diff, sizeof(diff), &err) : run_once(g, op, diff, sizeof(diff), &err);
  if (status == MX_OK && !diff[0] && !options.fail_alloc && options.device == MX_CPU)
    status = run_threaded(g, op, diff, sizeof(diff), &err);
  int64_t left = live_blocks() - before;
  if (status == MX_OK && !diff[0] && left > 0) { /* made once for the process, or lost in every run? */
    status = run_once(g, op, diff, sizeof(diff), &err);
    left = live_blocks() - before - left;
  }
  if (status == MX_OK && !diff[0] && left > 0)
    snprintf(diff, sizeof(diff), "%lld blocks of memory are left", (long long)left);
  if (status != MX_OK || diff[0]) {
    check_now.broken = true;
    const char *why = status != MX_OK ? err.message : diff;
    printf("FAIL %s%s%s%s - %s\n", g->id, g->tag[0] ? " [" : "", g->tag, g->tag[0] ? "]" : "", why);
  } else if (options.verbose) {
    printf("ok   %s\n", g->id);
  }
  check_end();
}

/* ---- files ---- */

static int missing_ops, missing_cases, skipped;
static char missing_names[8192];

/* Counts by family. `excused`: cases of which a part is not compared, because the reference is wrong there. */
static struct {
  const char *family, *last;
  int ops, cases, passed, excused;
} row[64];
static int n_rows;

static void count(const mx_op *op, int passed, const golden_file *f) {
  int i = 0;
  while (i < n_rows && strcmp(row[i].family, op->family)) i++;
  if (i == 64) return;
  if (i == n_rows) row[n_rows++].family = op->family;
  row[i].ops += !row[i].last || strcmp(row[i].last, op->name);
  row[i].last = op->name;
  row[i].cases += f->n, row[i].passed += passed;
  for (int k = 0; k < f->n; k++) {
    golden g = golden_case(f, k);
    row[i].excused += nonsense(&g) || wrong_sum(&g) || not_to_copy(&g);
  }
}
static void print_table(void) {
  int ops = 0, cases = 0, passed = 0, excused = 0;
  printf("| family | operators | cases | passed | of these not compared in full |\n|---|---:|---:|---:|---:|\n");
  for (int i = 0; i < n_rows; i++) {
    printf("| %s | %d | %d | %d | %d |\n", row[i].family, row[i].ops, row[i].cases, row[i].passed, row[i].excused);
    ops += row[i].ops, cases += row[i].cases, passed += row[i].passed, excused += row[i].excused;
  }
  printf("| all | %d | %d | %d | %d |\n", ops, cases, passed, excused);
}

static void run_file(const golden_file *f) {
  const mx_op *op = mx_op_find(f->op);
  if (!f->data) {
    check_begin(f->op);
    check_report(__FILE__, __LINE__, "the numbers of %s cannot be read", f->op);
    check_end();
    return;
  }
  if (!op) {
    missing_ops++;
    missing_cases += f->n;
    size_t used = strlen(missing_names);
    snprintf(missing_names + used, sizeof(missing_names) - used, " %s", f->op);
    check_now.failed += f->n;
    return;
  }
  if (!mx_op_kernel(op, options.device)) {
    skipped += f->n;
    return;
  }
  int failed = check_now.failed;
  for (int i = 0; i < (options.fail_alloc ? 1 : f->n); i++) {
    golden g = golden_case(f, i);
    run_case(&g, op);
  }
  if (!options.fail_alloc) count(op, f->n - (check_now.failed - failed), f);
  if (options.verbose) printf("%s: %d of %d failed\n", f->op, check_now.failed - failed, f->n);
}

static void run_directory(void) {
  int n;
  char **names = files_of(options.dir, ".json", &n);
  for (int i = 0; i < n; i++) {
    golden_file f;
    if (!golden_open(options.dir, names[i], &f)) continue;
    bool wanted = options.n_ops == 0;
    for (int k = 0; k < options.n_ops; k++) wanted |= strcmp(options.ops[k], f.op) == 0;
    if (wanted) run_file(&f);
    golden_close(&f);
  }
  free_files(names, n);
  if (!n) printf("No golden vectors in %s\n", options.dir);
}

static bool read_options(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    struct stat st;
    if (strcmp(argv[i], "--verbose") == 0)
      options.verbose = true;
    else if (strcmp(argv[i], "--fail-alloc") == 0)
      options.fail_alloc = true;
    else if (strcmp(argv[i], "--table") == 0)
      options.table = true;
    else if (strcmp(argv[i], "--gpu") == 0)
      options.device = MX_GPU;
    else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
      mx_threads_set(atoi(argv[++i]));
    else if (argv[i][0] == '-')
      return printf("unknown option %s\n", argv[i]), false;
    else if (strchr(argv[i], '/') && stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
      options.dir = argv[i];
    else if (options.n_ops < 512)
      options.ops[options.n_ops++] = argv[i];
  }
  static char env[4096];
  snprintf(env, sizeof(env), "%s", getenv("MX_GOLDEN_OPS") ? getenv("MX_GOLDEN_OPS") : "");
  for (char *t = strtok(env, " ,"); t && options.n_ops < 512; t = strtok(NULL, " ,")) options.ops[options.n_ops++] = t;
  return true;
}

int main(int argc, char **argv) {
  check_start(1, argv);
  mx_error err = {0};
  if (!read_options(argc, argv)) return 2;
  if (mx_device_get(options.device, 0, &device, &err) != MX_OK) return printf("%s\n", err.message), 2;
  run_directory();
  if (options.table) print_table();
  if (!options.fail_alloc && !options.n_ops) {
    options.fail_alloc = true;
    run_directory();
  }
  if (missing_ops)
    printf("FAIL %d cases of %d operators that are not registered:%s\n", missing_cases, missing_ops, missing_names);
  if (skipped) printf("%d cases left out: their operators have no kernel for this device\n", skipped);
  printf("%d passed, %d failed\n", check_now.passed, check_now.failed);
  return check_now.failed > 0 || check_now.passed == 0;
}
