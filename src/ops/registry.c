/* The registry: all families' records, found by name through a hash table that is made at the first look-up. */
#include "ops/registry.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "ops/explain.h"
#ifdef MX_HAVE_CUDA
#include "cuda/kernels.h"
#endif

static const mx_op *const families[] = {
#define MX_FAMILY(name) mx_ops_##name,
#include "ops/families.def"
#undef MX_FAMILY
    NULL};

enum { SLOTS = 4096, MAX_OPS = 1024 }; /* names and aliases: some 700 */
static struct {
  const char *name;
  const mx_op *op;
} slot[SLOTS];
static const mx_op *all[MAX_OPS];
static int n_ops;

static unsigned hash(const char *s) {
  unsigned h = 2166136261u;
  for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
  return h;
}

static void add(const char *name, const mx_op *op) {
  unsigned i = hash(name) % SLOTS;
  while (slot[i].name) {
    if (!strcmp(slot[i].name, name)) return;
    i = (i + 1) % SLOTS;
  }
  slot[i].name = name;
  slot[i].op = op;
}

static void fill(void) {
  for (int f = 0; families[f]; f++)
    for (const mx_op *op = families[f]; op->name; op++) {
      if (n_ops < MAX_OPS) all[n_ops++] = op;
      add(op->name, op);
      for (const char *const *a = op->aliases; a && *a; a++) add(*a, op);
    }
}

static void ready(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, fill);
}

const mx_op *mx_op_find(const char *name) {
  ready();
  for (unsigned i = hash(name) % SLOTS; slot[i].name; i = (i + 1) % SLOTS)
    if (!strcmp(slot[i].name, name)) return slot[i].op;
  return NULL;
}

int mx_op_count(void) {
  ready();
  return n_ops;
}

const mx_op *mx_op_at(int i) {
  ready();
  return i >= 0 && i < n_ops ? all[i] : NULL;
}

mx_kernel mx_op_kernel(const mx_op *op, mx_device_kind kind) {
  if (kind == MX_CPU || op->flags & MX_OP_PORTABLE) return op->kernel;
#ifdef MX_HAVE_CUDA
  return mx_cuda_kernel(op);
#else
  return NULL;
#endif
}

int mx_op_count_in(const mx_op *op, const void *params) { return op->count_in ? op->count_in(params) : op->n_in; }
int mx_op_count_out(const mx_op *op, const void *params) { return op->count_out ? op->count_out(params) : op->n_out; }
int mx_op_count_visible(const mx_op *op, const void *params) {
  return op->count_visible ? op->count_visible(params) : mx_op_count_out(op, params);
}

bool mx_op_is_aux(const mx_op *op, const void *params, int i) {
  if (op->is_aux) return op->is_aux(params, i);
  return i < 32 && (op->aux >> i & 1);
}

bool mx_op_draws(const mx_op *op, const void *params) {
  return (op->flags & MX_OP_RANDOM) && (!op->draws || op->draws(params));
}

void mx_op_in_name(const mx_op *op, const void *params, int i, char *buf, size_t size) {
  if (op->in_name)
    op->in_name(params, i, buf, size);
  else if (op->num_args)
    snprintf(buf, size, "arg%d", i);
  else
    snprintf(buf, size, "%s", op->in_names ? op->in_names[i] : "data");
}

void mx_op_out_name(const mx_op *op, const void *params, int i, char *buf, size_t size) {
  if (op->out_name)
    op->out_name(params, i, buf, size);
  else if (op->out_names)
    snprintf(buf, size, "%s", op->out_names[i]);
  else if (mx_op_count_visible(op, params) == 1)
    snprintf(buf, size, "output");
  else
    snprintf(buf, size, "output%d", i);
}

mx_status mx_op_params_new(const mx_op *op, const mx_dict *attrs, void **out, mx_error *err) {
  void *params = op->params ? mx_calloc(1, op->params_size) : NULL;
  if (op->params && !params) return mx_fail_memory(err, op->params_size);
  mx_status st = mx_params_parse(op->params, op->name, attrs, params, err);
  if (st == MX_OK && op->check) {
    st = op->check(params, err);
    if (st != MX_OK) {
      mx_explain_params(op, attrs, err);
      mx_error_prefix(err, "%s", op->name);
      mx_params_free(op->params, params);
    }
  }
  if (st != MX_OK) {
    mx_error_set(err, op, "%s", op->name);
    mx_free(params);
    return st;
  }
  *out = params;
  return MX_OK;
}

void mx_op_params_free(const mx_op *op, void *params) {
  if (!params) return;
  if (op->release_params) op->release_params(params);
  mx_params_free(op->params, params);
  mx_free(params);
}

/* The name of an input where it stands; printing it into buf costs more than the rest of an inference. */
static const char *in_name(const mx_op *op, const void *params, int i, char *buf, size_t size) {
  if (!op->in_name && !op->num_args) return op->in_names ? op->in_names[i] : "data";
  mx_op_in_name(op, params, i, buf, size);
  return buf;
}

static mx_status same_shape(const mx_op *op, const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                            mx_error *err) {
  mx_shape s = MX_SHAPE_UNKNOWN;
  char name[MX_INPUT_NAME];
  /* each into its own, so that a message says of the later one that it does not fit */
  for (int i = 0; i < n_in; i++) {
    MX_TRY(mx_shape_merge(&in[i], &s, in_name(op, params, i, name, sizeof(name)), err));
    s = in[i];
  }
  for (int i = 0; i < n_out; i++) {
    MX_TRY(mx_shape_merge(&out[i], &s, "output", err));
    s = out[i];
  }
  for (int i = 0; i < n_in; i++) in[i] = s;
  for (int i = 0; i < n_out; i++) out[i] = s;
  return MX_OK;
}

static mx_status merge_dtype(mx_dtype *into, mx_dtype from, const char *what, mx_error *err) {
  if (from == MX_DTYPE_UNKNOWN) return MX_OK;
  if (*into == MX_DTYPE_UNKNOWN) *into = from;
  if (*into == from) return MX_OK;
  mx_fail(err, MX_ERR_TYPE, "%s is %s, but %s was expected.", what, mx_dtype_name(from), mx_dtype_name(*into));
  mx_error_set(err, argument, "%s", what);
  mx_error_set(err, actual, "%s", mx_dtype_name(from));
  mx_error_set(err, expected, "%s", mx_dtype_name(*into));
  return MX_ERR_TYPE;
}

static mx_status same_dtype(const mx_op *op, const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                            mx_error *err) {
  mx_dtype t = MX_DTYPE_UNKNOWN;
  char name[MX_INPUT_NAME];
  for (int i = 0; i < n_in; i++) MX_TRY(merge_dtype(&t, in[i], in_name(op, params, i, name, sizeof(name)), err));
  for (int i = 0; i < n_out; i++) MX_TRY(merge_dtype(&t, out[i], "output", err));
  for (int i = 0; i < n_in; i++) in[i] = t;
  for (int i = 0; i < n_out; i++) out[i] = t;
  return MX_OK;
}

static mx_status named(const mx_op *op, mx_status st, mx_error *err) {
  mx_error_prefix(err, "%s", op->name);
  mx_error_set(err, op, "%s", op->name);
  return st;
}

mx_status mx_op_infer_shape(const mx_op *op, const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                            mx_error *err) {
  mx_status st = op->infer_shape ? op->infer_shape(params, in, n_in, out, n_out, err)
                                 : same_shape(op, params, in, n_in, out, n_out, err);
  if (st == MX_OK) return st;
  mx_explain_inputs(op, params, in, NULL, n_in, err);
  return named(op, st, err);
}

mx_status mx_op_infer_dtype(const mx_op *op, const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                            mx_error *err) {
  mx_status st = op->infer_dtype ? op->infer_dtype(params, in, n_in, out, n_out, err)
                                 : same_dtype(op, params, in, n_in, out, n_out, err);
  if (st == MX_OK) return st;
  mx_explain_inputs(op, params, NULL, in, n_in, err);
  return named(op, st, err);
}
