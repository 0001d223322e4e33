/* External pointers with a type, a finalizer and a memory of their own.
 *
 * R saves an external pointer without what it points to, but with its "protected" slot. That slot holds an ALTREP raw
 * vector which knows the pointer: only when it is serialized does it encode the object, and what is read back is the
 * plain bytes. A pointer with a NULL address therefore still has its object: the first use decodes it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "r/ffi.h"
#include "r/glue.h"

#include <R_ext/Altrep.h>
#include <R_ext/Rallocators.h>

#include "core/memory.h"

typedef struct type_info {
  const char *tag;
  const char *expected; /* for messages */
  void (*release)(void *object);
  mx_status (*encode)(const void *object, void **bytes, size_t *size, mx_error *err); /* mx_malloc'ed */
  mx_status (*decode)(const void *bytes, size_t size, void **object, mx_error *err);
} type_info;

static void release_array(void *a) { mx_array_release(a); }
static void release_symbol(void *s) { mx_symbol_release(s); }

static const type_info types[MXR_TYPES] = {
    [MXR_NDARRAY] = {"mxnet:ndarray", "an MXNDArray", release_array, mxr_ndarray_encode, mxr_ndarray_decode},
    [MXR_SYMBOL] = {"mxnet:symbol", "an MXSymbol", release_symbol, mxr_symbol_encode, mxr_symbol_decode},
    [MXR_EXECUTOR] = {"mxnet:executor", "an MXExecutor", mxr_exec_release, mxr_exec_encode, mxr_exec_decode},
};
static SEXP tag_of[MXR_TYPES];
static SEXP prototype[MXR_TYPES]; /* S4 objects with an empty slot "ptr" */
static SEXP ndarray_class, ptr_slot;
static R_altrep_class_t state_class;
static int live[MXR_TYPES];

/* ---- the state: data1 is the external pointer; data2 the holder of an array, or a list: R objects kept with it (0 to
 * 3), the bytes (4), the holder (5) ---- */

enum { BYTES = 4, HOLDER = 5, CACHE = 6 };

static mxr_type type_of_pointer(SEXP ptr) {
  SEXP tag = R_ExternalPtrTag(ptr);
  mxr_type t = 0;
  while (t < MXR_TYPES && tag_of[t] != tag) t++;
  return t;
}

static SEXP encode(SEXP ptr) {
  mxr_type t = type_of_pointer(ptr);
  void *object = t < MXR_TYPES ? R_ExternalPtrAddr(ptr) : NULL;
  if (!object) return Rf_allocVector(RAWSXP, 0);
  void *bytes = NULL;
  size_t size = 0;
  mx_error err;
  SEXP keeper = PROTECT(mxr_keeper(mx_free));
  MXR_CHECK(types[t].encode(object, &bytes, &size, &err), err);
  R_SetExternalPtrAddr(keeper, bytes);
  SEXP raw = PROTECT(Rf_allocVector(RAWSXP, (R_xlen_t)size));
  memcpy(RAW(raw), bytes, size);
  mxr_release(keeper);
  UNPROTECT(2);
  return raw;
}

static SEXP cache_of(SEXP state) {
  SEXP cache = R_altrep_data2(state);
  if (TYPEOF(cache) != VECSXP) {
    SEXP holder = cache;
    cache = PROTECT(Rf_allocVector(VECSXP, CACHE));
    SET_VECTOR_ELT(cache, HOLDER, holder);
    R_set_altrep_data2(state, cache);
    UNPROTECT(1);
  }
  return cache;
}

static SEXP state_serialized(SEXP state) { return encode(R_altrep_data1(state)); }
static SEXP state_unserialize(SEXP klass, SEXP raw) { return raw; }

/* Format version 2 of R's serialization asks for length and data instead. */
static R_xlen_t state_length(SEXP state) {
  SEXP raw = PROTECT(encode(R_altrep_data1(state)));
  SET_VECTOR_ELT(cache_of(state), BYTES, raw);
  UNPROTECT(1);
  return XLENGTH(raw);
}
static void *state_dataptr(SEXP state, Rboolean writable) {
  SEXP cache = cache_of(state);
  if (VECTOR_ELT(cache, BYTES) == R_NilValue) (void)state_length(state);
  return RAW(VECTOR_ELT(cache, BYTES));
}
static const void *state_dataptr_or_null(SEXP state) { return NULL; }

/* ---- life ---- */

static void finalize(SEXP ptr) {
  void *object = R_ExternalPtrAddr(ptr);
  if (!object) return;
  mxr_type t = type_of_pointer(ptr);
  R_ClearExternalPtr(ptr);
  if (t == MXR_TYPES) return;
  live[t]--;
  types[t].release(object);
}

static SEXP new_state(SEXP ptr) {
  SEXP state = PROTECT(R_new_altrep(state_class, ptr, R_NilValue));
  if (R_ExternalPtrTag(ptr) != tag_of[MXR_NDARRAY]) R_RegisterCFinalizerEx(ptr, finalize, TRUE);
  UNPROTECT(1);
  return state;
}

/* ---- how the collector frees arrays ----
 *
 * An array's pointer has no finalizer: these run one by one after a collection, and registering one costs as much as a
 * small operation. Instead an R vector hangs on it (it is the state's data2, or in the list there), and the vector's
 * allocator frees the array with the vector. Nothing of R is called then. */

enum { HOLDER_BLOCK = 256 }; /* R's copy of the allocator and the header of a vector */
static R_allocator_t *newest;

static void *holder_alloc(R_allocator_t *allocator, size_t bytes) {
  (void)allocator;
  (void)bytes;
  return newest = mx_malloc(HOLDER_BLOCK);
}

static void holder_free(R_allocator_t *allocator, void *block) {
  if (allocator->data) {
    live[MXR_NDARRAY]--;
    types[MXR_NDARRAY].release(allocator->data);
  }
  mx_free(block);
}

static void hold(SEXP state, mx_array *a) {
  static R_allocator_t allocator = {holder_alloc, holder_free, NULL, NULL};
  SEXP holder = Rf_allocVector3(RAWSXP, 8, &allocator);
  R_set_altrep_data2(state, holder);
  newest->data = a;
}

/* The collector paces itself by the bytes of R vectors, and knows nothing of an array's. So R is asked for vectors that
 * nobody keeps or touches, of two bytes for each byte of new arrays: a loop collects every 30 MB or so and uses the
 * same memory again. These collections look at young objects only; they are cheap. */
static void press(size_t bytes) {
  enum { OFTEN = 256 << 10, MOST = 32 << 20 };
  static size_t waiting;
  waiting += bytes < MOST ? bytes : MOST;
  if (waiting < OFTEN) return;
  (void)Rf_allocVector(RAWSXP, (R_xlen_t)(waiting * 2 < MOST ? waiting * 2 : MOST));
  waiting = 0;
}

SEXP mxr_pointer_new(mxr_type type) {
  SEXP ptr = PROTECT(R_MakeExternalPtr(NULL, tag_of[type], R_NilValue));
  R_SetExternalPtrProtected(ptr, new_state(ptr));
  if (type == MXR_NDARRAY) Rf_setAttrib(ptr, R_ClassSymbol, ndarray_class);
  UNPROTECT(1);
  return ptr;
}

void mxr_pointer_set(SEXP ptr, mxr_type type, void *object) {
  R_SetExternalPtrAddr(ptr, object);
  live[type]++;
  if (type != MXR_NDARRAY) return;
  hold(R_ExternalPtrProtected(ptr), object);
  press(mx_array_bytes(object));
}

SEXP mxr_wrap(SEXP ptr, mxr_type type) {
  PROTECT(ptr);
  SEXP out = PROTECT(Rf_shallow_duplicate(prototype[type]));
  R_do_slot_assign(out, ptr_slot, ptr);
  UNPROTECT(2);
  return out;
}

void mxr_set_prototype(mxr_type type, SEXP object) {
  R_PreserveObject(object);
  prototype[type] = object;
}

SEXP mxr_pointer_of(SEXP x) {
  if (TYPEOF(x) == S4SXP && R_has_slot(x, ptr_slot)) x = R_do_slot(x, ptr_slot);
  return TYPEOF(x) == EXTPTRSXP ? x : R_NilValue;
}

bool mxr_is(SEXP x, mxr_type type) {
  x = mxr_pointer_of(x);
  return x != R_NilValue && R_ExternalPtrTag(x) == tag_of[type];
}

mx_status mxr_pointer_get(SEXP x, mxr_type type, const char *argument, void **out, mx_error *err) {
  SEXP ptr = mxr_pointer_of(x);
  if (ptr == R_NilValue || R_ExternalPtrTag(ptr) != tag_of[type])
    return mxr_fail_type(err, argument, types[type].expected, x);
  void *object = R_ExternalPtrAddr(ptr);
  if (object) {
    *out = object;
    return MX_OK;
  }
  SEXP saved = R_ExternalPtrProtected(ptr);
  if (TYPEOF(saved) != RAWSXP || ALTREP(saved) || XLENGTH(saved) == 0)
    return mx_fail(err, MX_ERR_STATE,
                   "`%s` is %s whose contents are gone: it was saved by something that keeps no contents.", argument,
                   types[type].expected);
  PROTECT(saved);
  SEXP state = PROTECT(new_state(ptr));
  mx_status status = types[type].decode(RAW(saved), (size_t)XLENGTH(saved), &object, err);
  if (status == MX_OK) {
    R_SetExternalPtrProtected(ptr, state);
    mxr_pointer_set(ptr, type, object);
    *out = object;
  } else {
    mx_error_prefix(err, "`%s` cannot be restored", argument);
  }
  UNPROTECT(2);
  return status;
}

static SEXP state_of(SEXP x) {
  SEXP ptr = mxr_pointer_of(x);
  return ptr == R_NilValue ? ptr : R_ExternalPtrProtected(ptr);
}

SEXP mxr_pointer_cache(SEXP x, int slot) {
  SEXP state = state_of(x);
  return ALTREP(state) && TYPEOF(R_altrep_data2(state)) == VECSXP ? VECTOR_ELT(R_altrep_data2(state), slot)
                                                                  : R_NilValue;
}

void mxr_pointer_set_cache(SEXP x, int slot, SEXP value) {
  SEXP state = state_of(x);
  if (ALTREP(state)) SET_VECTOR_ELT(cache_of(state), slot, value);
}

mx_array *mxr_ndarray(SEXP x, const char *argument) {
  void *p;
  mx_error err;
  MXR_CHECK(mxr_pointer_get(x, MXR_NDARRAY, argument, &p, &err), err);
  return p;
}

mx_symbol *mxr_symbol(SEXP x, const char *argument) {
  void *p;
  mx_error err;
  MXR_CHECK(mxr_pointer_get(x, MXR_SYMBOL, argument, &p, &err), err);
  return p;
}

mxr_exec *mxr_executor(SEXP x, const char *argument) {
  void *p;
  mx_error err;
  MXR_CHECK(mxr_pointer_get(x, MXR_EXECUTOR, argument, &p, &err), err);
  return p;
}

/* ---- keepers: C memory that an R object owns ---- */

typedef void (*release_function)(void *);

static void keeper_finalize(SEXP keeper) {
  void *block = R_ExternalPtrAddr(keeper);
  SEXP how = R_ExternalPtrProtected(keeper);
  if (!block) return;
  R_ClearExternalPtr(keeper);
  release_function release;
  memcpy(&release, RAW(how), sizeof(release));
  release(block);
}

SEXP mxr_keeper(void (*release)(void *)) {
  SEXP how = PROTECT(Rf_allocVector(RAWSXP, sizeof(release)));
  memcpy(RAW(how), &release, sizeof(release));
  SEXP keeper = PROTECT(R_MakeExternalPtr(NULL, R_NilValue, how));
  R_RegisterCFinalizerEx(keeper, keeper_finalize, TRUE);
  UNPROTECT(2);
  return keeper;
}

void mxr_release(SEXP keeper) { keeper_finalize(keeper); }

/* ---- the collector learns of native memory ---- */

static int64_t used_bytes(void) {
  return mx_pool_statistics(MX_CPU).used_bytes + mx_pool_statistics(MX_GPU).used_bytes;
}

static int64_t lowest;           /* bytes in use at the lowest point since the last collection */
static double collected, lasted; /* when that was, and how long it took, in processor time */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void collect(void) {
  double start = now();
  R_gc();
  collected = now();
  lasted = collected - start;
  lowest = used_bytes();
}

void mxr_collect_garbage(void) {
  collect();
  mx_pool_trim();
}

/* Objects that lived for a while, such as the arrays of a training run, are found by full collections only. One is made
 * when memory has grown and the last one was long enough ago to make their time a small part of the whole, or when it
 * has grown by much. */
void mxr_collect_if_needed(void) {
  enum { LITTLE = 8 << 20, MUCH = 256 << 20, REST = 12 };
  int64_t used = used_bytes();
  if (used < lowest) lowest = used;
  int64_t grown = used - lowest, much = lowest / 2 > MUCH ? lowest / 2 : MUCH;
  if (grown > much || (grown > LITTLE && now() - collected > REST * lasted)) collect();
}

/* Objects of each type that are alive: a test looks for leaks with it. */
SEXP ffi_live_objects(void) {
  static const char *const name[MXR_TYPES] = {"ndarray", "symbol", "executor"};
  SEXP out = PROTECT(Rf_allocVector(INTSXP, MXR_TYPES)), names = PROTECT(Rf_allocVector(STRSXP, MXR_TYPES));
  for (int t = 0; t < MXR_TYPES; t++) {
    INTEGER(out)[t] = live[t];
    SET_STRING_ELT(names, t, Rf_mkChar(name[t]));
  }
  Rf_setAttrib(out, R_NamesSymbol, names);
  UNPROTECT(2);
  return out;
}

void mxr_pointer_init(DllInfo *dll) {
  for (int t = 0; t < MXR_TYPES; t++) tag_of[t] = Rf_install(types[t].tag);
  ptr_slot = Rf_install("ptr");
  ndarray_class = Rf_mkString("MXNDArray");
  R_PreserveObject(ndarray_class);
  MARK_NOT_MUTABLE(ndarray_class);
  state_class = R_make_altraw_class("mxnet_state", "mxnet", dll);
  R_set_altrep_Serialized_state_method(state_class, state_serialized);
  R_set_altrep_Unserialize_method(state_class, state_unserialize);
  R_set_altrep_Length_method(state_class, state_length);
  R_set_altvec_Dataptr_method(state_class, state_dataptr);
  R_set_altvec_Dataptr_or_null_method(state_class, state_dataptr_or_null);
}
