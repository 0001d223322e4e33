/* What the package is made of and runs on; threads; memory; the operators' records for tools/document. */
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/build.h"
#include "core/memory.h"
#include "core/thread.h"

static void set(SEXP list, int i, SEXP value) { SET_VECTOR_ELT(list, i, value); }
static SEXP text_or_na(const char *text) {
  return Rf_ScalarString(text && *text ? Rf_mkCharCE(text, CE_UTF8) : NA_STRING);
}

SEXP ffi_build(void) {
  const char *names[] = {"compiler", "blas", "onednn", "cuda", "simd", "cores", "threads", "gpus", ""};
  mx_build b = mx_build_info();
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  set(out, 0, text_or_na(b.compiler));
  set(out, 1, text_or_na(b.blas));
  set(out, 2, text_or_na(b.onednn));
  set(out, 3, text_or_na(b.cuda));
  set(out, 4, text_or_na(b.simd));
  set(out, 5, Rf_ScalarInteger(b.cores));
  set(out, 6, Rf_ScalarInteger(b.threads));
  set(out, 7, Rf_ScalarInteger(b.gpus));
  UNPROTECT(1);
  return out;
}

/* Sets the number of threads unless n is NULL (0: the default); returns what was in force before. */
SEXP ffi_threads(SEXP n) {
  int before = mx_threads();
  if (n != R_NilValue) {
    int want = Rf_isNumeric(n) && XLENGTH(n) == 1 ? Rf_asInteger(n) : NA_INTEGER;
    if (want == NA_INTEGER || want < 0) mxr_stop_type("n", "a non-negative number", n);
    mx_threads_set(want);
  }
  return Rf_ScalarInteger(before);
}

SEXP ffi_memory(SEXP kind) {
  const char *names[] = {"used", "cached", "peak", "allocations", "blocks", ""};
  int k = Rf_asInteger(kind);
  if (k != MX_CPU && k != MX_GPU) mxr_stop(MX_ERR_VALUE, "`ctx` must be a context, such as mx.cpu().");
  mx_pool_stats s = mx_pool_statistics((mx_device_kind)k);
  SEXP out = PROTECT(Rf_mkNamed(REALSXP, names));
  REAL(out)[0] = (double)s.used_bytes;
  REAL(out)[1] = (double)s.cached_bytes;
  REAL(out)[2] = (double)s.peak_bytes;
  REAL(out)[3] = (double)s.allocations;
  REAL(out)[4] = (double)s.live_blocks;
  UNPROTECT(1);
  return out;
}

/* Gives cached memory back to the system. */
SEXP ffi_memory_trim(void) {
  mx_invoke_clear_cache();
  mx_pool_trim();
  return R_NilValue;
}

/* ---- operators ---- */

static SEXP strings(const char *const *v) {
  int n = 0;
  while (v && v[n]) n++;
  SEXP out = PROTECT(Rf_allocVector(STRSXP, n));
  for (int i = 0; i < n; i++) SET_STRING_ELT(out, i, Rf_mkCharCE(v[i], CE_UTF8));
  UNPROTECT(1);
  return out;
}

static SEXP param_record(const mx_param *p) {
  static const char *const kinds[] = {"bool",  "opt_bool", "int",   "opt_int", "float",  "opt_float", "enum",
                                      "dtype", "string",   "tuple", "ints",    "floats", "rest"};
  const char *names[] = {"name", "kind", "initial", "min", "max", "choices", "doc", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  set(out, 0, Rf_mkString(p->name));
  set(out, 1, Rf_mkString(kinds[p->kind]));
  set(out, 2, p->initial ? Rf_mkString(p->initial) : Rf_ScalarString(NA_STRING)); /* NA: required */
  set(out, 3, Rf_ScalarReal(p->min));
  set(out, 4, Rf_ScalarReal(p->max));
  set(out, 5, strings(p->choices));
  set(out, 6, text_or_na(p->doc));
  UNPROTECT(1);
  return out;
}

static SEXP record(const mx_op *op) {
  const char *names[] = {"name",   "aliases",    "family",   "doc",        "inputs",  "input.docs",
                         "source", "parameters", "variadic", "imperative", "outputs", ""};
  int n_params = 0, n_in = mxr_input_count(op);
  while (op->params && op->params[n_params].name) n_params++;
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  set(out, 0, Rf_mkString(op->name));
  set(out, 1, strings(op->aliases));
  set(out, 2, text_or_na(op->family));
  set(out, 3, text_or_na(op->doc));
  set(out, 4, Rf_allocVector(STRSXP, n_in));
  for (int i = 0; i < n_in; i++) SET_STRING_ELT(VECTOR_ELT(out, 4), i, Rf_mkChar(mxr_input_name(op, i)));
  set(out, 5, strings(op->in_doc));
  set(out, 6, text_or_na(op->source));
  set(out, 7, Rf_allocVector(VECSXP, n_params));
  for (int i = 0; i < n_params; i++) SET_VECTOR_ELT(VECTOR_ELT(out, 7), i, param_record(&op->params[i]));
  set(out, 8, op->num_args ? Rf_mkString(op->num_args) : Rf_ScalarString(NA_STRING));
  set(out, 9, Rf_ScalarLogical((op->flags & MX_OP_IMPERATIVE) != 0));
  set(out, 10, op->count_out || op->count_visible ? Rf_ScalarInteger(NA_INTEGER) : Rf_ScalarInteger(op->n_out));
  UNPROTECT(1);
  return out;
}

/* The records of all operators that users may call. */
SEXP ffi_operators(void) {
  int n = 0, k = 0;
  for (int i = 0; i < mx_op_count(); i++) n += !(mx_op_at(i)->flags & MX_OP_HIDDEN);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, n));
  for (int i = 0; i < mx_op_count(); i++)
    if (!(mx_op_at(i)->flags & MX_OP_HIDDEN)) SET_VECTOR_ELT(out, k++, record(mx_op_at(i)));
  UNPROTECT(1);
  return out;
}
