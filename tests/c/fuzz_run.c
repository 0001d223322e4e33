/* Fuzzer of executors: small graphs that can be read and whose shapes become known are bound and run. Kernels must stay
 * inside of their arrays whatever the parameters say; any error is fine.
 *   make -C tests/c fuzz && build/fuzz/fuzz_run CORPUS_DIR */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "graph/executor.h"

enum { MAX_ARGS = 16, MAX_ELEMENTS = 20000 };
static mx_device *cpu;

/* Arrays of small numbers, with a few that are odd as indices and labels. */
static mx_status arrays_of(const mx_shape *shapes, int n, mx_array **out, mx_error *err) {
  static const float values[] = {0, 1, 2, 0.5f, -1, 3, 1e9f, 0.25f};
  for (int i = 0; i < n; i++) {
    MX_TRY(mx_array_new(cpu, &shapes[i], MX_FLOAT32, &out[i], err));
    float *x = mx_array_data(out[i]);
    for (int64_t k = 0; k < mx_array_size(out[i]); k++) x[k] = values[(k * 5 + i) % 8];
  }
  return MX_OK;
}

static bool small(const mx_shape *s, int n) {
  int64_t total = 0;
  mx_error err;
  for (int i = 0; i < n; i++) {
    if (!mx_shape_known(&s[i]) || mx_shape_check_size(&s[i], 8, &err) != MX_OK) return false;
    total += mx_shape_size(&s[i]);
    if (total > MAX_ELEMENTS) return false;
  }
  return true;
}

static mx_status run(const mx_symbol *s, const mx_symbol_shapes *shapes, mx_array **args, mx_array **grads,
                     mx_array **aux, mx_executor **e, mx_error *err) {
  mx_req reqs[MAX_ARGS];
  mx_array *heads[MAX_ARGS] = {NULL};
  for (int i = 0; i < shapes->n_args; i++) reqs[i] = i % 2 ? MX_WRITE : MX_ADD;
  MX_TRY(arrays_of(shapes->args, shapes->n_args, args, err));
  MX_TRY(arrays_of(shapes->args, shapes->n_args, grads, err));
  MX_TRY(arrays_of(shapes->aux, shapes->n_aux, aux, err));
  MX_TRY(mx_executor_bind(s, cpu, args, grads, reqs, aux, e, err));
  MX_TRY(mx_executor_forward(*e, false, err));
  MX_TRY(mx_executor_forward(*e, true, err));
  int n = mx_executor_count_outputs(*e);
  if (n > MAX_ARGS) return MX_OK;
  for (int i = 0; i < n; i++) heads[i] = mx_executor_output(*e, i);
  return mx_executor_backward(*e, heads, n, err);
}

/* With the first argument of that many dimensions. */
static void try_shape(const mx_symbol *s, const mx_symbol *internals, int ndim) {
  mx_error err;
  mx_names names;
  mx_shape given = mx_shape_of(2, 3, 4, 5);
  mx_symbol_shapes shapes, inner = {0};
  given.ndim = ndim;
  if (mx_symbol_arguments(s, &names, &err) != MX_OK) return;
  const char *first = names.n ? names.v[0] : NULL;
  mx_status status = mx_symbol_infer_shape(internals, &first, &given, first ? 1 : 0, &inner, &err);
  bool fits = status == MX_OK && inner.complete && small(inner.outs, inner.n_outs);
  mx_symbol_shapes_free(&inner);
  if (fits && mx_symbol_infer_shape(s, &first, &given, first ? 1 : 0, &shapes, &err) == MX_OK) {
    mx_array *args[MAX_ARGS] = {NULL}, *grads[MAX_ARGS] = {NULL}, *aux[MAX_ARGS] = {NULL};
    mx_executor *e = NULL;
    if (shapes.complete && shapes.n_args <= MAX_ARGS && shapes.n_aux <= MAX_ARGS)
      status = run(s, &shapes, args, grads, aux, &e, &err);
    mx_executor_release(e);
    for (int i = 0; i < MAX_ARGS; i++) {
      mx_array_release(args[i]);
      mx_array_release(grads[i]);
      mx_array_release(aux[i]);
    }
    mx_symbol_shapes_free(&shapes);
  }
  mx_names_free(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  mx_error err;
  mx_symbol *s, *internals;
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) abort();
  char *text = malloc(size + 1);
  memcpy(text, bytes, size);
  text[size] = 0;
  mx_status status = mx_symbol_from_json(text, &s, &err);
  free(text);
  if (status != MX_OK) return 0;
  if (mx_symbol_internals(s, &internals, &err) == MX_OK) {
    for (int ndim = 1; ndim <= 4 && internals->n < 64; ndim++) try_shape(s, internals, ndim);
    mx_symbol_release(internals);
  }
  mx_symbol_release(s);
  return 0;
}
