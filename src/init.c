/* The table of functions that R may call, and what happens when the package is loaded and unloaded. */
#include <pthread.h>

#include "core/thread.h"
#include "r/ffi.h"
#include "r/glue.h"

#include <R_ext/Rdynload.h>
#include <R_ext/Utils.h>
#include <R_ext/Visibility.h>

SEXP mxr_namespace;

/* ---- interrupts: asked for on R's thread only, at most every 50 ms, since asking makes a context ---- */

static pthread_t main_thread;

static SEXP check_interrupt(void *unused) {
  R_CheckUserInterrupt();
  return R_NilValue;
}

static bool interrupted(void) {
  static double last;
  if (!pthread_equal(pthread_self(), main_thread)) return false;
  double now = mx_seconds();
  if (now - last < 0.05) return false;
  last = now;
  return !mxr_call(check_interrupt, NULL);
}

/* Called by .onLoad with the namespace and empty objects of the S4 classes. */
SEXP ffi_initialize(SEXP ns, SEXP symbol, SEXP executor) {
  mxr_namespace = ns;
  mxr_set_prototype(MXR_SYMBOL, symbol);
  mxr_set_prototype(MXR_EXECUTOR, executor);
  return R_NilValue;
}

#define ENTRY(name, n) \
  { #name, (DL_FUNC)(void (*)(void))name, n }
static const R_CallMethodDef entries[] = {
    ENTRY(ffi_build, 0),
    ENTRY(ffi_context_default, 2),
    ENTRY(ffi_exec_arrays, 2),
    ENTRY(ffi_exec_backward, 2),
    ENTRY(ffi_exec_bind, 5),
    ENTRY(ffi_exec_bind_shared, 5),
    ENTRY(ffi_exec_context, 1),
    ENTRY(ffi_exec_forward, 2),
    ENTRY(ffi_exec_memory, 1),
    ENTRY(ffi_symbol_memory, 4),
    ENTRY(ffi_exec_rest, 1),
    ENTRY(ffi_exec_simple_bind, 4),
    ENTRY(ffi_exec_symbol, 1),
    ENTRY(ffi_exec_update, 5),
    ENTRY(ffi_initialize, 3),
    ENTRY(ffi_live_objects, 0),
    ENTRY(ffi_release, 1),
    ENTRY(ffi_memory, 1),
    ENTRY(ffi_memory_trim, 0),
    ENTRY(ffi_nd_arith, 3),
    ENTRY(ffi_nd_array, 4),
    ENTRY(ffi_nd_as_array, 1),
    ENTRY(ffi_nd_assign, 3),
    ENTRY(ffi_nd_context, 1),
    ENTRY(ffi_nd_copyto, 2),
    ENTRY(ffi_nd_dim, 1),
    ENTRY(ffi_nd_dtype, 1),
    ENTRY(ffi_nd_head, 2),
    ENTRY(ffi_nd_length, 1),
    ENTRY(ffi_nd_load, 2),
    ENTRY(ffi_nd_operator, 3),
    ENTRY(ffi_nd_operator_each, 4),
    ENTRY(ffi_nd_reshape, 2),
    ENTRY(ffi_nd_save, 2),
    ENTRY(ffi_nd_slice, 3),
    ENTRY(ffi_nd_subset, 3),
    ENTRY(ffi_nd_unary, 2),
    ENTRY(ffi_nd_write, 2),
    ENTRY(ffi_nd_zeros, 3),
    ENTRY(ffi_operator_register, 5),
    ENTRY(ffi_operators, 0),
    ENTRY(ffi_profiler_start, 2),
    ENTRY(ffi_profiler_stop, 0),
    ENTRY(ffi_random_seed, 1),
    ENTRY(ffi_symbol_arguments, 1),
    ENTRY(ffi_symbol_attributes, 1),
    ENTRY(ffi_symbol_auxiliaries, 1),
    ENTRY(ffi_symbol_children, 1),
    ENTRY(ffi_symbol_compose, 3),
    ENTRY(ffi_symbol_describe, 1),
    ENTRY(ffi_symbol_from_json, 1),
    ENTRY(ffi_symbol_group, 1),
    ENTRY(ffi_symbol_infer_shape, 3),
    ENTRY(ffi_symbol_internals, 1),
    ENTRY(ffi_symbol_json, 1),
    ENTRY(ffi_symbol_nodes, 1),
    ENTRY(ffi_symbol_operator, 3),
    ENTRY(ffi_symbol_output, 2),
    ENTRY(ffi_symbol_outputs, 1),
    ENTRY(ffi_symbol_set_attributes, 2),
    ENTRY(ffi_symbol_variable, 1),
    ENTRY(ffi_text_save, 2),
    ENTRY(ffi_threads, 1),
    {NULL, NULL, 0},
};

void attribute_visible R_init_mxnet(DllInfo *dll) {
  R_registerRoutines(dll, NULL, entries, NULL, NULL);
  R_useDynamicSymbols(dll, FALSE);
  R_forceSymbols(dll, TRUE);
  mxr_pointer_init(dll);
  mxr_condition_init();
  mxr_custom_init();
  main_thread = pthread_self();
  mx_interrupt_handler(interrupted);
}

void attribute_visible R_unload_mxnet(DllInfo *dll) { mx_interrupt_handler(NULL); }
