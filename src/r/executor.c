/* Executors: binding, the arrays in use, forward, backward. */
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"
#include "io/params.h"

/* ---- the object ---- */

static mxr_exec *exec_new(int n_args, int n_aux) {
  mxr_exec *e = mx_calloc(1, sizeof(*e));
  if (!e) return NULL;
  e->n_args = n_args;
  e->n_aux = n_aux;
  e->args = mx_calloc((size_t)n_args + 1, sizeof(*e->args));
  e->grads = mx_calloc((size_t)n_args + 1, sizeof(*e->grads));
  e->reqs = mx_calloc((size_t)n_args + 1, sizeof(*e->reqs));
  e->aux = mx_calloc((size_t)n_aux + 1, sizeof(*e->aux));
  if (e->args && e->grads && e->reqs && e->aux) return e;
  mxr_exec_release(e);
  return NULL;
}

void mxr_exec_release(void *object) {
  mxr_exec *e = object;
  if (e->executor) mx_executor_release(e->executor);
  for (int i = 0; e->args && i < e->n_args; i++) mx_array_release(e->args[i]);
  for (int i = 0; e->grads && i < e->n_args; i++) mx_array_release(e->grads[i]);
  for (int i = 0; e->aux && i < e->n_aux; i++) mx_array_release(e->aux[i]);
  mx_free(e->args);
  mx_free(e->grads);
  mx_free(e->aux);
  mx_free(e->reqs);
  mx_free(e);
}

static mx_status exec_finish(mxr_exec *e, const mx_symbol *s, mx_error *err) {
  return mx_executor_bind(s, e->device, e->args, e->grads, e->reqs, e->aux, &e->executor, err);
}

/* ---- binding ---- */

static mx_req req_of(SEXP reqs, R_xlen_t i) {
  SEXP one = TYPEOF(reqs) == VECSXP ? VECTOR_ELT(reqs, i) : reqs;
  R_xlen_t at = TYPEOF(reqs) == VECSXP ? 0 : i;
  if (TYPEOF(one) != STRSXP || XLENGTH(one) <= at) mxr_stop_type("grad.reqs", "'null', 'write' or 'add'", one);
  const char *text = CHAR(STRING_ELT(one, at));
  if (!strcmp(text, "null")) return MX_NULL;
  if (!strcmp(text, "write")) return MX_WRITE;
  if (!strcmp(text, "add")) return MX_ADD;
  mxr_stop(MX_ERR_VALUE, "A gradient request must be 'null', 'write' or 'add', not '%.60s'.", text);
}

static mx_status bind_shapes(mxr_exec *e, const mx_symbol *s, const mx_symbol_shapes *found, bool bare, mx_error *err) {
  mx_status (*make)(mx_device *, const mx_shape *, mx_dtype, mx_array **, mx_error *) =
      bare ? mx_array_bare : mx_array_zeros;
  for (int i = 0; i < e->n_args; i++) {
    MX_TRY(make(e->device, &found->args[i], found->arg_dtypes[i], &e->args[i], err));
    if (e->reqs[i] != MX_NULL) MX_TRY(make(e->device, &found->args[i], found->arg_dtypes[i], &e->grads[i], err));
  }
  for (int i = 0; i < e->n_aux; i++) MX_TRY(make(e->device, &found->aux[i], found->aux_dtypes[i], &e->aux[i], err));
  return exec_finish(e, s, err);
}

/* Names the arguments that are missing a shape. */
static mx_status fail_incomplete(const mx_symbol *s, const mx_symbol_shapes *found, mx_error *err) {
  mx_names names = {0};
  MX_TRY(mx_symbol_arguments(s, &names, err));
  char list[512] = "";
  for (int i = 0; i < names.n && i < found->n_args; i++) {
    size_t used = strlen(list);
    if (!mx_shape_known(&found->args[i]) && used + strlen(names.v[i]) + 3 < sizeof(list)) {
      strcat(list, used ? ", " : "");
      strcat(list, names.v[i]);
    }
  }
  mx_names_free(&names);
  mx_fail(err, MX_ERR_SHAPE, "The given shapes do not determine all others; unknown: %s.", *list ? list : "outputs");
  mx_error_set(err, argument, "%.100s", list);
  return MX_ERR_SHAPE;
}

static mx_status simple_bind(const mx_symbol *s, mx_device *device, const char **key, const mx_shape *shape, int n,
                             const mx_req *reqs, int n_reqs, bool bare, mxr_exec **out, mx_error *err) {
  mx_symbol_shapes found;
  MX_TRY(mx_symbol_infer_shape(s, key, shape, n, &found, err));
  mx_status status = found.complete ? MX_OK : fail_incomplete(s, &found, err);
  mxr_exec *e = status == MX_OK ? exec_new(found.n_args, found.n_aux) : NULL;
  if (status == MX_OK && !e) status = mx_fail_memory(err, sizeof(*e));
  if (status == MX_OK && n_reqs != e->n_args)
    status = mx_fail(err, MX_ERR_VALUE, "There are %d gradient requests for %d arguments.", n_reqs, e->n_args);
  if (status == MX_OK) {
    e->device = device;
    memcpy(e->reqs, reqs, (size_t)n_reqs * sizeof(*reqs));
    status = bind_shapes(e, s, &found, bare, err);
  }
  mx_symbol_shapes_free(&found);
  if (status == MX_OK)
    *out = e;
  else if (e)
    mxr_exec_release(e);
  return status;
}

static mx_req *reqs_from_r(SEXP reqs, int *n) {
  *n = (int)Rf_xlength(reqs);
  mx_req *out = (mx_req *)R_alloc((size_t)*n + 1, sizeof(*out));
  for (int i = 0; i < *n; i++) out[i] = req_of(reqs, i);
  return out;
}

SEXP ffi_exec_simple_bind(SEXP symbol, SEXP ctx, SEXP reqs, SEXP shapes) {
  const mx_symbol *s = mxr_symbol(symbol, "symbol");
  mx_device *device;
  mx_error err;
  mx_status status;
  const char **key;
  mx_shape *shape;
  mxr_exec *e = NULL;
  int n_reqs;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  mx_req *req = reqs_from_r(reqs, &n_reqs);
  int n = mxr_shapes_from_r(shapes, &key, &shape);
  mxr_collect_if_needed();
  SEXP ptr = PROTECT(mxr_pointer_new(MXR_EXECUTOR));
  MXR_RETRY(status, simple_bind(s, device, key, shape, n, req, n_reqs, false, &e, &err));
  MXR_CHECK(status, err);
  mxr_pointer_set(ptr, MXR_EXECUTOR, e);
  SEXP out = mxr_wrap(ptr, MXR_EXECUTOR);
  UNPROTECT(1);
  return out;
}

static mx_status copy_of(mx_array *from, mx_device *device, mx_array **out, mx_error *err) {
  MX_TRY(mx_array_new(device, &from->shape, from->dtype, out, err));
  return mx_array_copy(*out, from, err);
}

static mx_status bind_copies(mxr_exec *e, const mx_symbol *s, mx_array **args, mx_array **aux, mx_error *err) {
  for (int i = 0; i < e->n_args; i++) {
    MX_TRY(copy_of(args[i], e->device, &e->args[i], err));
    if (e->reqs[i] != MX_NULL) MX_TRY(mx_array_zeros(e->device, &args[i]->shape, args[i]->dtype, &e->grads[i], err));
  }
  for (int i = 0; i < e->n_aux; i++) MX_TRY(copy_of(aux[i], e->device, &e->aux[i], err));
  return exec_finish(e, s, err);
}

static mx_array **arrays_from_r(SEXP list, const char *argument) {
  R_xlen_t n = Rf_xlength(list);
  mx_array **out = (mx_array **)R_alloc((size_t)n + 1, sizeof(*out));
  if (n && TYPEOF(list) != VECSXP) mxr_stop_type(argument, "a list of MXNDArray", list);
  for (R_xlen_t i = 0; i < n; i++) out[i] = mxr_ndarray(VECTOR_ELT(list, i), argument);
  return out;
}

/* Binds to copies of the given arrays, in the order of the symbol's arguments. */
SEXP ffi_exec_bind(SEXP symbol, SEXP ctx, SEXP args, SEXP aux, SEXP reqs) {
  const mx_symbol *s = mxr_symbol(symbol, "symbol");
  mx_device *device;
  mx_error err;
  int n_reqs;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  mx_array **arg_array = arrays_from_r(args, "arg.arrays"), **aux_array = arrays_from_r(aux, "aux.arrays");
  mx_req *req = reqs_from_r(reqs, &n_reqs);
  int n_args = LENGTH(PROTECT(ffi_symbol_arguments(symbol))), n_aux = LENGTH(PROTECT(ffi_symbol_auxiliaries(symbol)));
  UNPROTECT(2);
  if (Rf_xlength(args) != n_args || n_reqs != n_args || Rf_xlength(aux) != n_aux)
    mxr_stop(
        MX_ERR_VALUE,
        "The symbol has %d arguments and %d auxiliary states, but %d arrays, %d gradient requests and %d auxiliary "
        "arrays are given.",
        n_args, n_aux, (int)Rf_xlength(args), n_reqs, (int)Rf_xlength(aux));
  mxr_collect_if_needed();
  SEXP ptr = PROTECT(mxr_pointer_new(MXR_EXECUTOR));
  mxr_exec *e = exec_new(n_args, n_aux);
  if (!e) MXR_CHECK(mx_fail_memory(&err, sizeof(*e)), err);
  mxr_pointer_set(ptr, MXR_EXECUTOR, e); /* owned from here on, whatever happens */
  e->device = device;
  memcpy(e->reqs, req, (size_t)n_reqs * sizeof(*req));
  MXR_CHECK(bind_copies(e, s, arg_array, aux_array, &err), err);
  SEXP out = mxr_wrap(ptr, MXR_EXECUTOR);
  UNPROTECT(1);
  return out;
}

/* Binds to the given arrays themselves, which other executors may share; NULL gradients are not asked for. */
SEXP ffi_exec_bind_shared(SEXP symbol, SEXP ctx, SEXP args, SEXP grads, SEXP aux) {
  const mx_symbol *s = mxr_symbol(symbol, "symbol");
  mx_device *device;
  mx_error err;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  int n_args = LENGTH(PROTECT(ffi_symbol_arguments(symbol))), n_aux = LENGTH(PROTECT(ffi_symbol_auxiliaries(symbol)));
  UNPROTECT(2);
  if (TYPEOF(args) != VECSXP || TYPEOF(grads) != VECSXP || XLENGTH(args) != n_args || XLENGTH(grads) != n_args)
    mxr_stop(MX_ERR_VALUE, "The symbol has %d arguments: lists of as many arrays and gradients are needed.", n_args);
  mx_array **arg_array = arrays_from_r(args, "args"), **aux_array = arrays_from_r(aux, "aux");
  if (Rf_xlength(aux) != n_aux) mxr_stop(MX_ERR_VALUE, "The symbol has %d auxiliary states.", n_aux);
  for (int i = 0; i < n_args; i++)
    if (VECTOR_ELT(grads, i) != R_NilValue) (void)mxr_ndarray(VECTOR_ELT(grads, i), "grads");
  mxr_collect_if_needed();
  SEXP ptr = PROTECT(mxr_pointer_new(MXR_EXECUTOR));
  mxr_exec *e = exec_new(n_args, n_aux);
  if (!e) MXR_CHECK(mx_fail_memory(&err, sizeof(*e)), err);
  mxr_pointer_set(ptr, MXR_EXECUTOR, e); /* owned from here on, whatever happens */
  e->device = device;
  for (int i = 0; i < n_args; i++) {
    SEXP g = VECTOR_ELT(grads, i);
    e->args[i] = mx_array_retain(arg_array[i]);
    e->reqs[i] = g == R_NilValue ? MX_NULL : MX_WRITE;
    if (g != R_NilValue) e->grads[i] = mx_array_retain(mxr_ndarray(g, "grads"));
  }
  for (int i = 0; i < n_aux; i++) e->aux[i] = mx_array_retain(aux_array[i]);
  MXR_CHECK(exec_finish(e, s, &err), err);
  SEXP out = mxr_wrap(ptr, MXR_EXECUTOR);
  UNPROTECT(1);
  return out;
}

/* ---- the arrays in use ---- */

typedef enum part { ARGS, GRADS, AUX, OUTPUTS } part;

static int part_count(const mxr_exec *e, part p) {
  return p == AUX ? e->n_aux : p == OUTPUTS ? mx_executor_count_outputs(e->executor) : e->n_args;
}

static mx_array *part_array(const mxr_exec *e, part p, int i) {
  return p == ARGS ? e->args[i] : p == GRADS ? e->grads[i] : p == AUX ? e->aux[i] : mx_executor_output(e->executor, i);
}

static SEXP names_for(const mxr_exec *e, part p) {
  SEXP ptr = PROTECT(mxr_pointer_new(MXR_SYMBOL));
  mxr_pointer_set(ptr, MXR_SYMBOL, mx_symbol_retain((mx_symbol *)mx_executor_symbol(e->executor)));
  SEXP out = p == AUX       ? ffi_symbol_auxiliaries(ptr)
             : p == OUTPUTS ? ffi_symbol_outputs(ptr)
                            : ffi_symbol_arguments(ptr);
  UNPROTECT(1);
  return out;
}

/* The list of handles to the arrays in use; made once and kept with the pointer. `which`: 0 args, 1 grads, 2 aux, 3
 * out. */
SEXP ffi_exec_arrays(SEXP exec, SEXP which) {
  const mxr_exec *e = mxr_executor(exec, "exec");
  part p = (part)Rf_asInteger(which);
  SEXP list = mxr_pointer_cache(exec, (int)p);
  if (list != R_NilValue) return list;
  int n = part_count(e, p);
  list = PROTECT(Rf_allocVector(VECSXP, n));
  SEXP names = PROTECT(names_for(e, p));
  for (int i = 0; i < n; i++) {
    mx_array *a = part_array(e, p, i);
    if (!a) continue;
    SEXP nd = mxr_pointer_new(MXR_NDARRAY);
    SET_VECTOR_ELT(list, i, nd);
    mxr_pointer_set(nd, MXR_NDARRAY, mx_array_retain(a));
  }
  if (n) Rf_setAttrib(list, R_NamesSymbol, names);
  MARK_NOT_MUTABLE(list);
  mxr_pointer_set_cache(exec, (int)p, list);
  UNPROTECT(2);
  return list;
}

/* Copies values into arrays in use. All is checked before anything is written. */
SEXP ffi_exec_update(SEXP exec, SEXP which, SEXP arrays, SEXP match_name, SEXP skip_null) {
  const mxr_exec *e = mxr_executor(exec, "exec");
  part p = (part)Rf_asInteger(which);
  bool by_name = mxr_flag(match_name, "match.name"), skip = mxr_flag(skip_null, "skip.null");
  int n = (int)Rf_xlength(arrays), room = part_count(e, p);
  mx_error err;
  if (n == 0) return R_NilValue;
  if (TYPEOF(arrays) != VECSXP) mxr_stop_type("arg.arrays", "a list of MXNDArray", arrays);
  SEXP given = PROTECT(Rf_getAttrib(arrays, R_NamesSymbol)), names = PROTECT(by_name ? names_for(e, p) : R_NilValue);
  if (!by_name && n != room)
    mxr_stop(MX_ERR_VALUE, "%d arrays are given for %d; with match.name = TRUE some can be updated by name.", n, room);
  mx_array **from = (mx_array **)R_alloc((size_t)n, sizeof(*from)), **to = (mx_array **)R_alloc((size_t)n, sizeof(*to));
  for (int i = 0; i < n; i++) {
    SEXP v = VECTOR_ELT(arrays, i);
    int target = i;
    const char *name = given == R_NilValue ? "" : CHAR(STRING_ELT(given, i));
    if (by_name) {
      if (!*name) mxr_stop(MX_ERR_VALUE, "With match.name = TRUE every array needs a name; number %d has none.", i + 1);
      for (target = 0; target < room && strcmp(CHAR(STRING_ELT(names, target)), name); target++) continue;
      if (target == room) {
        mx_fail(&err, MX_ERR_VALUE, "The executor has no array named '%.100s'.", name);
        mx_error_set(&err, argument, "%s", name);
        mxr_raise(&err);
      }
    }
    from[i] = to[i] = NULL;
    if (v == R_NilValue && skip) continue;
    to[i] = part_array(e, p, target);
    if (v == R_NilValue && !to[i]) continue;
    if (v == R_NilValue)
      mxr_stop(MX_ERR_VALUE, "Array number %d is NULL; skip.null = TRUE leaves such ones alone.", i + 1);
    if (!to[i]) mxr_stop(MX_ERR_VALUE, "Array number %d has no place: no gradient was asked for there.", i + 1);
    from[i] = mxr_ndarray(v, *name ? name : "arg.arrays");
    if (!mx_shape_equal(&from[i]->shape, &to[i]->shape)) {
      char want[MX_SHAPE_TEXT], have[MX_SHAPE_TEXT];
      mx_shape r[2] = {mxr_shape_reversed(&to[i]->shape), mxr_shape_reversed(&from[i]->shape)};
      mx_shape_text(&r[0], want);
      mx_shape_text(&r[1], have);
      mx_fail(&err, MX_ERR_SHAPE, "Array %d%s%s%s has dim %s, but the executor was bound with %s.", i + 1,
              *name ? " ('" : "", name, *name ? "')" : "", have, want);
      mx_error_set(&err, argument, "%s", name);
      mx_error_set(&err, expected, "%s", want);
      mx_error_set(&err, actual, "%s", have);
      mxr_raise(&err);
    }
  }
  /* An array in use that is overwritten before its turn comes, as when two change places, is read from a copy. */
  SEXP copies = PROTECT(Rf_allocVector(VECSXP, n));
  for (int i = 0; i < n; i++) {
    int k = 0;
    while (k < i && !(from[k] && to[k] == from[i])) k++;
    if (!from[i] || k == i) continue;
    SEXP nd = mxr_pointer_new(MXR_NDARRAY);
    SET_VECTOR_ELT(copies, i, nd);
    mx_array *copy = NULL;
    mx_status status = copy_of(from[i], mx_array_device(from[i]), &copy, &err);
    if (copy) mxr_pointer_set(nd, MXR_NDARRAY, copy);
    MXR_CHECK(status, err);
    from[i] = copy;
  }
  for (int i = 0; i < n; i++)
    if (from[i]) MXR_CHECK(mx_array_copy(to[i], from[i], &err), err);
  UNPROTECT(3);
  return R_NilValue;
}

/* ---- running ---- */

SEXP ffi_exec_forward(SEXP exec, SEXP is_train) {
  mxr_exec *e = mxr_executor(exec, "exec");
  bool train = mxr_flag(is_train, "is.train");
  mx_error err;
  mx_status status;
  if (mx_executor_draws(e->executor)) mxr_random_begin();
  MXR_RETRY(status, mx_executor_forward(e->executor, train, &err));
  MXR_CHECK(status, err);
  return R_NilValue;
}

SEXP ffi_exec_backward(SEXP exec, SEXP heads) {
  mxr_exec *e = mxr_executor(exec, "exec");
  int n = (int)Rf_xlength(heads);
  mx_error err;
  mx_status status;
  mxr_check_list(heads, "head.grads", "a list of MXNDArray");
  mx_array **head = (mx_array **)R_alloc((size_t)n + 1, sizeof(*head));
  for (int i = 0; i < n; i++) {
    SEXP v = VECTOR_ELT(heads, i);
    head[i] = v == R_NilValue ? NULL : mxr_ndarray(v, "head gradient");
  }
  MXR_RETRY(status, mx_executor_backward(e->executor, head, n, &err));
  MXR_CHECK(status, err);
  return R_NilValue;
}

SEXP ffi_exec_rest(SEXP exec) {
  mx_executor_rest(mxr_executor(exec, "exec")->executor);
  return R_NilValue;
}

SEXP ffi_exec_symbol(SEXP exec) {
  const mxr_exec *e = mxr_executor(exec, "exec");
  SEXP ptr = PROTECT(mxr_pointer_new(MXR_SYMBOL));
  mxr_pointer_set(ptr, MXR_SYMBOL, mx_symbol_retain((mx_symbol *)mx_executor_symbol(e->executor)));
  SEXP out = mxr_wrap(ptr, MXR_SYMBOL);
  UNPROTECT(1);
  return out;
}

SEXP ffi_exec_context(SEXP exec) { return mxr_device_to_r(mxr_executor(exec, "exec")->device); }

static SEXP memory_to_r(const mx_executor_memory *use) {
  const char *names[] = {"inference", "training", "outputs", "workspace", "parameters", "gradients", ""};
  SEXP out = PROTECT(Rf_mkNamed(REALSXP, names));
  REAL(out)[0] = (double)use->inference_bytes;
  REAL(out)[1] = (double)use->training_bytes;
  REAL(out)[2] = (double)use->output_bytes;
  REAL(out)[3] = (double)use->workspace_bytes;
  REAL(out)[4] = (double)use->parameter_bytes;
  REAL(out)[5] = (double)use->gradient_bytes;
  UNPROTECT(1);
  return out;
}

SEXP ffi_exec_memory(SEXP exec) {
  mx_executor_memory use;
  mx_error err;
  MXR_CHECK(mx_executor_memory_use(mxr_executor(exec, "exec")->executor, &use, &err), err);
  return memory_to_r(&use);
}

/* What an executor would use, without one: arrays are described, not made. */
SEXP ffi_symbol_memory(SEXP symbol, SEXP ctx, SEXP reqs, SEXP shapes) {
  const mx_symbol *s = mxr_symbol(symbol, "symbol");
  mx_device *device;
  mx_error err;
  const char **key;
  mx_shape *shape;
  mxr_exec *e = NULL;
  mx_executor_memory use;
  int n_reqs;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  mx_req *req = reqs_from_r(reqs, &n_reqs);
  int n = mxr_shapes_from_r(shapes, &key, &shape);
  mx_status status = simple_bind(s, device, key, shape, n, req, n_reqs, true, &e, &err);
  if (status == MX_OK) status = mx_executor_memory_use(e->executor, &use, &err);
  if (e) mxr_exec_release(e);
  MXR_CHECK(status, err);
  return memory_to_r(&use);
}

/* ---- what a saved executor consists of: header, JSON, requests, arrays (with the outputs at the end) ---- */

enum { HEADER = 32 }; /* magic, version, device; then counts: arguments, auxiliaries, bytes of JSON */
static const char MAGIC[4] = {'M', 'X', 'E', 'X'};

static mx_status encode_arrays(const mxr_exec *e, void **bytes, size_t *size, mx_error *err) {
  int n = 0, n_out = mx_executor_count_outputs(e->executor);
  mx_array **all = mx_malloc(((size_t)e->n_args * 2 + (size_t)e->n_aux + (size_t)n_out + 1) * sizeof(*all));
  if (!all) return mx_fail_memory(err, sizeof(*all));
  for (int i = 0; i < e->n_args; i++) all[n++] = e->args[i];
  for (int i = 0; i < e->n_aux; i++) all[n++] = e->aux[i];
  for (int i = 0; i < e->n_args; i++)
    if (e->grads[i]) all[n++] = e->grads[i];
  for (int i = 0; i < n_out; i++) all[n++] = mx_executor_output(e->executor, i);
  mx_status status = mx_params_encode(all, NULL, n, bytes, size, err);
  mx_free(all);
  return status;
}

mx_status mxr_exec_encode(const void *object, void **bytes, size_t *size, mx_error *err) {
  const mxr_exec *e = object;
  char *json = NULL, *all = NULL;
  void *body = NULL;
  size_t n_body = 0;
  mx_status status;
  MX_TRY(mx_symbol_to_json(mx_executor_symbol(e->executor), &json, err));
  MX_TRY_GOTO(status, encode_arrays(e, &body, &n_body, err), done);
  int64_t count[3] = {e->n_args, e->n_aux, (int64_t)strlen(json) + 1};
  *size = HEADER + (size_t)count[2] + (size_t)e->n_args + n_body;
  all = mx_calloc(1, *size);
  if (!all) {
    status = mx_fail_memory(err, *size);
    goto done;
  }
  memcpy(all, MAGIC, 4);
  all[4] = 1;
  all[5] = (char)e->device->kind;
  all[6] = (char)(e->device->id & 255);
  all[7] = (char)(e->device->id >> 8 & 255);
  memcpy(all + 8, count, sizeof(count));
  memcpy(all + HEADER, json, (size_t)count[2]);
  for (int i = 0; i < e->n_args; i++) all[HEADER + count[2] + i] = (char)e->reqs[i];
  memcpy(all + HEADER + count[2] + e->n_args, body, n_body);
  *bytes = all;
done:
  mx_free(json);
  mx_free(body);
  return status;
}

static mx_status fail_bytes(mx_error *err) {
  return mx_fail(err, MX_ERR_FORMAT, "These are not the bytes of a saved executor.");
}

/* Whether the symbol has the arguments and auxiliary states that the file counts. */
static mx_status check_counts(const mxr_exec *e, const mx_symbol *s, mx_error *err) {
  mx_names args = {0}, aux = {0};
  mx_status status = mx_symbol_arguments(s, &args, err);
  if (status == MX_OK) status = mx_symbol_auxiliaries(s, &aux, err);
  bool fit = args.n == e->n_args && aux.n == e->n_aux;
  mx_names_free(&args);
  mx_names_free(&aux);
  return status != MX_OK ? status : fit ? MX_OK : fail_bytes(err);
}

/* Hands the arrays of the list to e, in the order in which they were written, and binds: the outputs are e's own. */
static mx_status take_arrays(mxr_exec *e, const mx_symbol *s, const mx_array_list *list, mx_error *err) {
  int n = 0, want = e->n_args + e->n_aux;
  for (int i = 0; i < e->n_args; i++) {
    if (e->reqs[i] != MX_NULL && e->reqs[i] != MX_WRITE && e->reqs[i] != MX_ADD) return fail_bytes(err);
    want += e->reqs[i] != MX_NULL;
  }
  if (list->n < want) return fail_bytes(err);
  for (int i = 0; i < e->n_args; i++) e->args[i] = mx_array_retain(list->array[n++]);
  for (int i = 0; i < e->n_aux; i++) e->aux[i] = mx_array_retain(list->array[n++]);
  for (int i = 0; i < e->n_args; i++)
    if (e->reqs[i] != MX_NULL) e->grads[i] = mx_array_retain(list->array[n++]);
  MX_TRY(exec_finish(e, s, err));
  int n_out = mx_executor_count_outputs(e->executor);
  if (list->n != want + n_out) return fail_bytes(err);
  for (int i = 0; i < n_out; i++) MX_TRY(mx_array_copy(mx_executor_output(e->executor, i), list->array[n++], err));
  return MX_OK;
}

mx_status mxr_exec_decode(const void *bytes, size_t size, void **object, mx_error *err) {
  const char *in = bytes;
  int64_t count[3];
  if (size < HEADER || memcmp(in, MAGIC, 4) || in[4] != 1) return fail_bytes(err);
  memcpy(count, in + 8, sizeof(count));
  int64_t left = (int64_t)size - HEADER;
  for (int i = 0; i < 3; i++)
    if (count[i] < 0 || count[i] > left) return fail_bytes(err);
  if (count[2] < 1 || count[2] + count[0] > left || in[HEADER + count[2] - 1]) return fail_bytes(err);
  mx_device *device;
  mx_symbol *s;
  mx_array_list list = {0};
  mx_status status;
  MX_TRY(mxr_saved_device(bytes, &device, err));
  MX_TRY(mx_symbol_from_json(in + HEADER, &s, err));
  mxr_exec *e = exec_new((int)count[0], (int)count[1]);
  if (!e) {
    mx_symbol_release(s);
    return mx_fail_memory(err, sizeof(*e));
  }
  e->device = device;
  for (int i = 0; i < e->n_args; i++) e->reqs[i] = (mx_req)in[HEADER + count[2] + i];
  size_t at = HEADER + (size_t)count[2] + (size_t)count[0];
  MX_TRY_GOTO(status, check_counts(e, s, err), done);
  MX_TRY_GOTO(status, mx_params_decode(in + at, size - at, device, &list, err), done);
  status = take_arrays(e, s, &list, err);
  mx_array_list_free(&list);
done:
  mx_symbol_release(s);
  if (status == MX_OK)
    *object = e;
  else
    mxr_exec_release(e);
  return status;
}
