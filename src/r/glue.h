/* What the files of src/r share. They are the only ones, with init.c, that see an R header.
 *
 * Names: ffi_* is called from R by .Call, mxr_* is for this folder, mx_* is the core. An ffi_ function checks its
 * arguments, makes every R object that it returns, calls the core, frees C memory, and only then raises a condition. C
 * memory that must live across an allocation by R belongs to an R object (mxr_keeper). */
#ifndef MXR_GLUE_H
#define MXR_GLUE_H

#include <stdbool.h>

#define R_NO_REMAP
#define STRICT_R_HEADERS
#include <R_ext/Rdynload.h>
#include <Rinternals.h>

#include "core/array.h"
#include "core/error.h"
#include "graph/executor.h"
#include "graph/symbol.h"
#include "ops/op.h"

/* ---- condition.c: the only way from a core error to an R condition, and from the core to R code ---- */

/* Runs a function that may evaluate R code, from below the core: R's jumps (errors, interrupts, restarts) end here.
 * False if it jumped; then the core is left with MX_ERR_INTERRUPTED, and mxr_raise goes on to where R wanted to. */
bool mxr_call(SEXP (*function)(void *), void *data);
void mxr_condition_init(void);

/* Calls R's mx.raise, which signals a condition of class mxnet_<code>_error. The caller owns no C memory any more. */
__attribute__((noreturn)) void mxr_raise(const mx_error *err);
/* The same from a message. */
__attribute__((noreturn)) void mxr_stop(mx_status code, const char *fmt, ...) MX_PRINTF(2, 3);
/* "argument `x` must be an MXNDArray, not a character vector." */
__attribute__((noreturn)) void mxr_stop_type(const char *argument, const char *expected, SEXP actual);
mx_status mxr_fail_type(mx_error *err, const char *argument, const char *expected, SEXP actual);
/* "a numeric vector", "a list", ...: into buf. */
const char *mxr_describe(SEXP x, char *buf, size_t size);

#define MXR_CHECK(status, err)                \
  do {                                        \
    if ((status) != MX_OK) mxr_raise(&(err)); \
  } while (0)

/* Runs a core call; if memory is short, collects R's garbage (which may own arrays) and runs it once more. */
#define MXR_RETRY(status, expr)      \
  do {                               \
    (status) = (expr);               \
    if ((status) == MX_ERR_MEMORY) { \
      mxr_collect_garbage();         \
      (status) = (expr);             \
    }                                \
  } while (0)

/* ---- pointer.c: external pointers with a type, restored lazily after readRDS ---- */

/* What an executor's pointer points to: the executor and the arrays that it is bound to (one reference each). */
typedef struct mxr_exec {
  mx_executor *executor;
  mx_device *device;
  int n_args, n_aux;
  mx_array **args, **grads, **aux; /* grads[i] NULL where no gradient was asked for */
  mx_req *reqs;
} mxr_exec;

typedef enum mxr_type { MXR_NDARRAY, MXR_SYMBOL, MXR_EXECUTOR, MXR_TYPES } mxr_type;

/* An external pointer without an object yet; the class attribute of arrays is set. */
SEXP mxr_pointer_new(mxr_type type);
/* Gives the object (one reference) to the pointer. */
void mxr_pointer_set(SEXP ptr, mxr_type type, void *object);
/* The object behind an external pointer, or behind slot "ptr" of an S4 object. Restores it when its pointer comes from
 * a file or another process. `argument` is for the message. */
MX_NODISCARD mx_status mxr_pointer_get(SEXP x, mxr_type type, const char *argument, void **out, mx_error *err);
bool mxr_is(SEXP x, mxr_type type);
/* The S4 object around a pointer: Rcpp_MXSymbol, Rcpp_MXExecutor. */
SEXP mxr_wrap(SEXP ptr, mxr_type type);
void mxr_set_prototype(mxr_type type, SEXP object);
/* R objects that live as long as the pointer does and are not saved with it: slots 0 to 3. */
SEXP mxr_pointer_cache(SEXP x, int slot);
void mxr_pointer_set_cache(SEXP x, int slot, SEXP value);
SEXP mxr_pointer_of(SEXP x); /* the external pointer itself */

/* Raise on failure. */
mx_array *mxr_ndarray(SEXP x, const char *argument);
mx_symbol *mxr_symbol(SEXP x, const char *argument);
mxr_exec *mxr_executor(SEXP x, const char *argument);

/* What a saved object consists of, by type. `bytes` is mx_malloc'ed. */
mx_status mxr_ndarray_encode(const void *array, void **bytes, size_t *size, mx_error *err);
mx_status mxr_ndarray_decode(const void *bytes, size_t size, void **array, mx_error *err);
mx_status mxr_symbol_encode(const void *symbol, void **bytes, size_t *size, mx_error *err);
mx_status mxr_symbol_decode(const void *bytes, size_t size, void **symbol, mx_error *err);
mx_status mxr_exec_encode(const void *exec, void **bytes, size_t *size, mx_error *err);
mx_status mxr_exec_decode(const void *bytes, size_t size, void **exec, mx_error *err);
void mxr_exec_release(void *exec);

/* An R object that will own C memory: make it first, then R_SetExternalPtrAddr(keeper, block). Freed by mxr_release, or
 * by the collector when an R allocation jumps away. */
SEXP mxr_keeper(void (*release)(void *));
void mxr_release(SEXP keeper);

void mxr_pointer_init(DllInfo *dll);

/* Runs the collector when arrays have grown much since the last time. Call after making arrays, before making
 * executors: a collection makes old what is alive. */
void mxr_collect_if_needed(void);
void mxr_collect_garbage(void);

/* ---- convert.c: shapes, attributes, vectors ---- */

/* R's dim and the native shape are each other's reverse; this file is the only place that knows. */
MX_NODISCARD mx_status mxr_shape_from_r(SEXP dim, const char *argument, mx_shape *out, mx_error *err);
SEXP mxr_shape_to_r(const mx_shape *shape);         /* integer, double when a dimension is beyond 2^31 */
mx_shape mxr_shape_reversed(const mx_shape *shape); /* for messages that speak of dim */

/* The text of a parameter; raises when the value makes none. `p` may be NULL for attributes that are no parameters. The
 * text lives until the call from R returns (R_alloc), as does mxr_attrs. */
const char *mxr_attr_text(const char *op, const char *key, const mx_param *p, SEXP value);
typedef struct mxr_attrs {
  mx_dict dict; /* never freed: R's transient memory */
  int capacity;
} mxr_attrs;
void mxr_attrs_set(mxr_attrs *attrs, const char *key, const char *value);
/* The shortest decimal text that reads back as x, at least six digits if it has so many. */
void mxr_number_text(double x, char buf[32]);

SEXP mxr_names_to_r(const mx_names *names);
/* TRUE or FALSE, else raises. */
bool mxr_flag(SEXP x, const char *argument);
const char *mxr_string(SEXP x, const char *argument);     /* UTF-8; lives until the call from R returns */
const char *mxr_text(SEXP element, const char *argument); /* the same of one element of a character vector */
const char *mxr_path(SEXP x); /* of a file: in the locale's encoding, as the system wants it */
/* Raises unless x is a list. */
void mxr_check_list(SEXP x, const char *argument, const char *expected);

/* list(device =, id =) of an MXContext; NULL: the default context. */
MX_NODISCARD mx_status mxr_device(SEXP ctx, mx_device **out, mx_error *err);
/* "cpu(0)" */
MX_NODISCARD mx_status mxr_device_parse(const char *text, mx_device **out, mx_error *err);
SEXP mxr_device_to_r(const mx_device *device);

/* ---- ndarray.c ---- */

/* A new array from a numeric, logical or raw vector; NA becomes NaN. */
SEXP mxr_ndarray_from_r(SEXP x, const mx_shape *shape, mx_device *device, mx_dtype dtype);
/* The device that a saved object's first eight bytes name if this machine has it, else the CPU. */
mx_status mxr_saved_device(const unsigned char header[8], mx_device **out, mx_error *err);

/* ---- symbol.c ---- */

/* list(data = c(3, 5)) as names and shapes in R's transient memory; raises when a name is missing. */
int mxr_shapes_from_r(SEXP list, const char ***keys, mx_shape **shapes);

/* ---- random.c ---- */

/* Call before anything that draws: until mx.set.seed was called, takes a fresh key from R's generator. */
void mxr_random_begin(void);

/* ---- custom.c ---- */

void mxr_custom_init(void); /* installs the functions for operators written in R */

/* ---- operator.c ---- */

/* Runs an operator and returns an MXNDArray, or a list of them. `out`: NULL, or what to write into. `device` matters
 * for operators without inputs. Raises on failure. */
SEXP mxr_invoke(const mx_op *op, const mxr_attrs *attrs, mx_array **in, int n_in, SEXP out, mx_device *device);
const mx_op *mxr_operator(const char *name); /* raises when unknown */
/* The inputs that an R function for `op` has as arguments: names[0..n). A variadic operator has one. */
int mxr_input_count(const mx_op *op);
const char *mxr_input_name(const mx_op *op, int i);

/* ---- profiler.c ---- */

extern bool mxr_profiling;
void mxr_profile_call(const mx_op *op, double start, double seconds);

/* ---- init.c ---- */

extern SEXP mxr_namespace; /* the package's namespace */

#endif
