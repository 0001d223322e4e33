/* What ran when: steps of executors and operators on arrays, collected between start and stop. */
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"

typedef struct event {
  char node[64], op[48];
  char kind; /* 'f' forward, 'b' backward, 'i' imperative */
  double start, seconds;
} event;

bool mxr_profiling;
static event *events;
static size_t n_events, capacity;

/* A record that finds no memory is left out. */
static void add(const char *node, const char *op, char kind, double start, double seconds) {
  if (n_events == capacity) {
    size_t more = capacity ? 2 * capacity : 1024;
    event *grown = mx_realloc(events, more * sizeof(*grown));
    if (!grown) return;
    events = grown;
    capacity = more;
  }
  event *e = &events[n_events++];
  memset(e, 0, sizeof(*e));
  strncpy(e->node, node, sizeof(e->node) - 1);
  strncpy(e->op, op, sizeof(e->op) - 1);
  e->kind = kind;
  e->start = start;
  e->seconds = seconds;
}

static void observe(void *data, const mx_node *node, bool backward, double start, double seconds) {
  add(node->name ? node->name : "", node->op ? node->op->name : "variable", backward ? 'b' : 'f', start, seconds);
}

void mxr_profile_call(const mx_op *op, double start, double seconds) { add("", op->name, 'i', start, seconds); }

SEXP ffi_profiler_start(SEXP symbolic, SEXP imperative) {
  n_events = 0;
  mx_executor_observe(mxr_flag(symbolic, "symbolic") ? observe : NULL, NULL);
  mxr_profiling = mxr_flag(imperative, "imperative");
  return R_NilValue;
}

/* Ends the collection; columns of a data frame. */
SEXP ffi_profiler_stop(void) {
  const char *names[] = {"node", "operator", "pass", "start", "seconds", ""};
  mx_executor_observe(NULL, NULL);
  mxr_profiling = false;
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  for (int k = 0; k < 5; k++) SET_VECTOR_ELT(out, k, Rf_allocVector(k < 3 ? STRSXP : REALSXP, (R_xlen_t)n_events));
  for (size_t i = 0; i < n_events; i++) {
    const event *e = &events[i];
    R_xlen_t at = (R_xlen_t)i;
    SET_STRING_ELT(VECTOR_ELT(out, 0), at, Rf_mkCharCE(e->node, CE_UTF8));
    SET_STRING_ELT(VECTOR_ELT(out, 1), at, Rf_mkChar(e->op));
    SET_STRING_ELT(VECTOR_ELT(out, 2), at,
                   Rf_mkChar(e->kind == 'f'   ? "forward"
                             : e->kind == 'b' ? "backward"
                                              : "imperative"));
    REAL(VECTOR_ELT(out, 3))[at] = e->start;
    REAL(VECTOR_ELT(out, 4))[at] = e->seconds;
  }
  mx_free(events);
  events = NULL;
  n_events = capacity = 0;
  UNPROTECT(1);
  return out;
}
