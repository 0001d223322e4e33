/* Times one operator after another, without R, as bench/operators asks on standard input. A line is
 *   WAY <tab> OPERATOR <tab> KEY=VALUE ... <tab> INPUT <tab> ...     with INPUT = DIMS;KIND;LOW;HIGH;DTYPE;GRADIENT
 * and the answer a line: seconds of a forward, seconds of a backward (0: there is none), bytes of all outputs, bytes of
 * all gradients; or "error: MESSAGE". Ways: "symbol" (a bound executor in training), "invoke" (imperative, into arrays
 * that exist), "update" (imperative, into the first input). The operators "copy" and "triad" of way "memory" measure
 * the machine. Kinds of inputs: uniform, integer (in [low, high)), spd (symmetric positive definite matrices). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/array.h"
#include "core/memory.h"
#include "core/random.h"
#include "core/thread.h"
#include "graph/executor.h"
#include "graph/symbol.h"
#include "ops/op.h"

enum { MOST = 256 };
static mx_error err;
static mx_device *device;

/* With one thread the time of the process, which other programs disturb less. */
static double now(void) {
  struct timespec t;
  clock_gettime(mx_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call of f: the least over bursts of at least half a millisecond, for 40 ms or 3 bursts. */
static mx_status measure(mx_status (*f)(void *), void *data, double *best) {
  int calls = 1, bursts = 0;
  MX_TRY(f(data));
  *best = 1e9;
  for (double total = 0; total < 0.04 || bursts < 3;) {
    const double start = now();
    for (int i = 0; i < calls; i++) MX_TRY(f(data));
    const double t = now() - start;
    if (t < 5e-4) {
      calls *= 2;
      continue;
    }
    if (t / calls < *best) *best = t / calls;
    total += t;
    bursts++;
  }
  return MX_OK;
}

/* ---- arrays ---- */

typedef struct job {
  const mx_op *op;
  mx_dict attrs;
  bool is_update;
  int n_in, n_out, n_aux;
  mx_array *in[MOST], *grad[MOST], *out[MOST], *aux[MOST], *head[MOST];
  mx_req req[MOST];
  mx_executor *executor;
} job;

static uint32_t lcg = 1;
static double uniform(double low, double high) {
  return low + (high - low) * ((double)((lcg = lcg * 1664525u + 1013904223u) >> 8) * 0x1p-24);
}

static mx_status filled(const mx_shape *shape, mx_dtype dtype, const char *kind, double low, double high,
                        mx_array **out) {
  MX_TRY(mx_array_new(device, shape, dtype, out, &err));
  const int64_t n = mx_array_size(*out), side = shape->ndim ? shape->dim[shape->ndim - 1] : 1;
  double *x = malloc((size_t)(n + 1) * sizeof(double));
  if (!x) return mx_fail_memory(&err, (size_t)n * sizeof(double));
  for (int64_t i = 0; i < n; i++) x[i] = uniform(low, high);
  if (!strcmp(kind, "integer"))
    for (int64_t i = 0; i < n; i++) x[i] = (double)(int64_t)x[i];
  if (!strcmp(kind, "spd"))
    for (int64_t b = 0; b < n; b += side * side)
      for (int64_t i = 0; i < side; i++)
        for (int64_t j = 0; j <= i; j++)
          x[b + i * side + j] = x[b + j * side + i] = i == j ? (double)side + x[b + i * side + j] : x[b + i * side + j];
  mx_convert(x, MX_FLOAT64, mx_array_data(*out), dtype, n);
  free(x);
  return MX_OK;
}

static mx_status read_input(job *j, char *text) {
  char *part[6] = {NULL}, *dims;
  mx_shape shape = {0};
  mx_dtype dtype;
  const int i = j->n_in;
  for (int k = 0; k < 6 && text; k++) part[k] = strsep(&text, ";");
  if (!part[5] || i == MOST) return mx_fail(&err, MX_ERR_FORMAT, "An input has too few fields, or there are too many.");
  for (dims = part[0]; dims && *dims;) shape.dim[shape.ndim++] = atoll(strsep(&dims, ","));
  dtype = mx_dtype_parse(part[4]);
  MX_TRY(filled(&shape, dtype, part[1], atof(part[2]), atof(part[3]), &j->in[i]));
  j->n_in++;
  j->req[i] = atoi(part[5]) ? MX_WRITE : MX_NULL;
  if (j->req[i] == MX_NULL) return MX_OK;
  return mx_array_zeros(device, &shape, dtype, &j->grad[i], &err);
}

static double bytes_of(mx_array *const *a, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++)
    if (a[i]) sum += (double)mx_array_bytes(a[i]);
  return sum;
}

static void job_free(job *j) {
  mx_executor_release(j->executor);
  for (int i = 0; i < j->n_in; i++) mx_array_release(j->in[i]), mx_array_release(j->grad[i]);
  for (int i = 0; i < MOST; i++) mx_array_release(j->out[i]), mx_array_release(j->aux[i]), mx_array_release(j->head[i]);
  mx_dict_free(&j->attrs);
}

/* ---- ways of running ---- */

static mx_status forward(void *data) {
  job *j = data;
  return mx_executor_forward(j->executor, true, &err);
}
static mx_status backward(void *data) {
  job *j = data;
  return mx_executor_backward(j->executor, j->head, j->n_out, &err);
}
static mx_status invoke(void *data) {
  job *j = data;
  return mx_invoke(j->op, &j->attrs, j->in, j->n_in, j->out, j->n_out, device, false, &err);
}

/* All inputs become variables; the last ones may be auxiliary states. */
static mx_status bind(job *j) {
  mx_symbol *var[MOST], *s;
  char name[16];
  mx_names states;
  for (int i = 0; i < j->n_in; i++) {
    snprintf(name, sizeof(name), "in%d", i);
    MX_TRY(mx_symbol_variable(name, &var[i], &err));
  }
  MX_TRY(mx_symbol_apply(j->op, "op", "op", &j->attrs, NULL, var, j->n_in, &s, &err));
  for (int i = 0; i < j->n_in; i++) mx_symbol_release(var[i]);
  MX_TRY(mx_symbol_auxiliaries(s, &states, &err));
  const int n_args = j->n_in - states.n;
  for (int i = 0; i < states.n; i++) j->aux[i] = mx_array_retain(j->in[n_args + i]);
  mx_names_free(&states);
  MX_TRY(mx_executor_bind(s, device, j->in, j->grad, j->req, j->aux, &j->executor, &err));
  mx_symbol_release(s);
  MX_TRY(mx_executor_forward(j->executor, true, &err));
  j->n_out = mx_executor_count_outputs(j->executor);
  for (int i = 0; i < j->n_out; i++) {
    mx_array *y = mx_executor_output(j->executor, i);
    j->out[i] = mx_array_retain(y);
    MX_TRY(filled(&y->shape, y->dtype, "uniform", -1, 1, &j->head[i]));
  }
  return MX_OK;
}

static mx_status prepare_invoke(job *j) {
  void *params;
  MX_TRY(mx_op_params_new(j->op, &j->attrs, &params, &err));
  j->n_out = mx_op_count_visible(j->op, params);
  mx_op_params_free(j->op, params);
  if (j->is_update) j->out[0] = mx_array_retain(j->in[0]);
  return invoke(j);
}

static mx_status run(job *j, const char *way, char *inputs) {
  double t = 0, back = 0;
  while (inputs && *inputs) MX_TRY(read_input(j, strsep(&inputs, "\t")));
  if (!strcmp(way, "symbol")) {
    MX_TRY(bind(j));
    MX_TRY(measure(forward, j, &t));
    if (bytes_of(j->grad, j->n_in) > 0) MX_TRY(measure(backward, j, &back));
  } else {
    j->is_update = !strcmp(way, "update");
    MX_TRY(prepare_invoke(j));
    MX_TRY(measure(invoke, j, &t));
  }
  printf("%.9g %.9g %.0f %.0f\n", t, back, bytes_of(j->out, j->n_out), bytes_of(j->grad, j->n_in));
  return MX_OK;
}

/* ---- the machine ---- */

enum { MEMORY = 1 << 24 }; /* floats in each array: larger than caches */
typedef struct memory {
  float *a, *b, *c;
} memory;

static mx_status copy(void *data) {
  const memory *m = data;
  const int threads = mx_threads();
#pragma omp parallel for num_threads(threads)
  for (int k = 0; k < threads; k++) {
    const size_t begin = (size_t)MEMORY * (size_t)k / (size_t)threads;
    const size_t end = (size_t)MEMORY * (size_t)(k + 1) / (size_t)threads;
    memcpy(m->a + begin, m->b + begin, (end - begin) * sizeof(float));
  }
  return MX_OK;
}
MX_CLONES static void triad_block(float *restrict a, const float *restrict b, const float *restrict c, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + 3.0f * c[i];
}
static mx_status triad(void *data) {
  const memory *m = data;
#pragma omp parallel for schedule(static) num_threads(mx_threads())
  for (int k = 0; k < 64; k++) {
    const size_t at = (size_t)k * (MEMORY / 64);
    triad_block(m->a + at, m->b + at, m->c + at, MEMORY / 64);
  }
  return MX_OK;
}

static mx_status measure_memory(const char *what) {
  memory m;
  double t;
  float **array[3] = {&m.a, &m.b, &m.c};
  for (int k = 0; k < 3; k++) {
    *array[k] = malloc(MEMORY * sizeof(float));
    if (!*array[k]) return mx_fail_memory(&err, MEMORY * sizeof(float));
    for (int i = 0; i < MEMORY; i++) (*array[k])[i] = 1;
  }
  MX_TRY(measure(strcmp(what, "copy") ? triad : copy, &m, &t));
  printf("%.9g 0 %.0f 0\n", t, (strcmp(what, "copy") ? 3.0 : 2.0) * MEMORY * sizeof(float));
  for (int k = 0; k < 3; k++) free(*array[k]);
  return MX_OK;
}

static mx_status answer(char *line) {
  job j = {.attrs = MX_DICT_EMPTY};
  char *way = strsep(&line, "\t"), *name = strsep(&line, "\t"), *attrs = strsep(&line, "\t");
  if (!attrs) return mx_fail(&err, MX_ERR_FORMAT, "A line has too few fields.");
  if (!strcmp(way, "memory")) return measure_memory(name);
  j.op = mx_op_find(name);
  if (!j.op) return mx_fail(&err, MX_ERR_VALUE, "There is no operator %s.", name);
  while (attrs && *attrs) {
    char *key = strsep(&attrs, " "), *value = strchr(key, '=');
    if (!value) continue;
    *value++ = 0;
    MX_TRY(mx_dict_set(&j.attrs, key, value, &err));
  }
  const mx_status st = run(&j, way, line);
  job_free(&j);
  return st;
}

int main(void) {
  char *line = NULL;
  size_t room = 0;
  if (mx_device_get(MX_CPU, 0, &device, &err) != MX_OK) return 1;
  for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
    if (line[n - 1] == '\n') line[n - 1] = 0;
    if (answer(line) != MX_OK) printf("error: %s\n", err.message);
    fflush(stdout);
  }
  free(line);
  return 0;
}
