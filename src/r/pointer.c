/* External pointers with a type and a memory of their own.
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

/* ---- the state: data1 is the external pointer; data2 the holder of its object, or a list: R objects kept with it (0
 * to 3), the bytes (4), the holder (5) ---- */

enum { OUTPUTS = 3, BYTES = 4, HOLDER = 5, CACHE = 6 };

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

/* ---- how the collector frees objects ----
 *
 * A pointer has no finalizer: these run one by one after a collection, and registering one costs as much as a small
 * operation. Instead an R vector hangs on it (it is the state's data2, or in the list there), and the vector's
 * allocator frees the object with the vector. Nothing of R is called then. */

typedef struct block { /* what the allocator gives: R's copy of the allocator and the vector's header, and for us: */
  char of_r[192];
  void *object;
  mxr_type type;
} block;
static block *newest;
static int made;   /* holders, since the last collection */
static bool swept; /* the collector freed some */

static void *block_alloc(R_allocator_t *allocator, size_t bytes) {
  (void)allocator;
  (void)bytes;
  newest = mx_malloc(sizeof(*newest));
  if (newest) newest->object = NULL;
  return newest;
}

static void block_clear(block *b) {
  if (!b->object) return;
  live[b->type]--;
  types[b->type].release(b->object);
  b->object = NULL;
}

static void block_free(R_allocator_t *allocator, void *memory) {
  block_clear(memory);
  mx_free(memory);
  swept = true;
}

static SEXP new_holder(mxr_type type, void *object) {
  static R_allocator_t allocator = {block_alloc, block_free, NULL, NULL};
  SEXP holder = Rf_allocVector3(RAWSXP, 8, &allocator);
  newest->object = object;
  newest->type = type;
  memcpy(RAW(holder), &newest, sizeof(newest));
  if (object) live[type]++;
  made++;
  return holder;
}

static SEXP new_state(SEXP ptr) { return R_new_altrep(state_class, ptr, R_NilValue); }

SEXP mxr_pointer_new(mxr_type type) {
  SEXP ptr = PROTECT(R_MakeExternalPtr(NULL, tag_of[type], R_NilValue));
  R_SetExternalPtrProtected(ptr, new_state(ptr));
  if (type == MXR_NDARRAY) Rf_setAttrib(ptr, R_ClassSymbol, ndarray_class);
  UNPROTECT(1);
  return ptr;
}

void mxr_pointer_set(SEXP ptr, mxr_type type, void *object) {
  R_set_altrep_data2(R_ExternalPtrProtected(ptr), new_holder(type, object));
  R_SetExternalPtrAddr(ptr, object);
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
    return mx_fail(
        err, MX_ERR_STATE,
        "`%s` is %s whose contents are gone: it was saved by something that keeps no contents, or belonged to "
        "a training or prediction that has ended.",
        argument, types[type].expected);
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

/* Releases what the objects in `x` (one, or nested lists) point to: the collector may find them much later. They are no
 * good any more. An executor's arrays go with it, but for the outputs: others may have seen these. */
SEXP ffi_release(SEXP x) {
  if (TYPEOF(x) == VECSXP) {
    for (R_xlen_t i = 0; i < XLENGTH(x); i++) ffi_release(VECTOR_ELT(x, i));
    return R_NilValue;
  }
  SEXP ptr = mxr_pointer_of(x);
  if (ptr == R_NilValue || !R_ExternalPtrAddr(ptr) || type_of_pointer(ptr) == MXR_TYPES) return R_NilValue;
  SEXP holder = R_altrep_data2(R_ExternalPtrProtected(ptr));
  if (TYPEOF(holder) == VECSXP) {
    for (int i = 0; i < OUTPUTS; i++) ffi_release(VECTOR_ELT(holder, i));
    holder = VECTOR_ELT(holder, HOLDER);
  }
  block *b;
  memcpy(&b, RAW(holder), sizeof(b));
  R_ClearExternalPtr(ptr);
  block_clear(b);
  return R_NilValue;
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

/* ---- when collections are made ----
 *
 * R's collector knows nothing of the bytes of arrays. So it is started when these are about to become more than they
 * ever were: a loop uses the same memory again and again. It has three generations: young objects are collected first,
 * the middle generation if that did not help, all objects (which takes some fifty times as long) if that did not
 * either. The limit is raised when all that finds too little, or when it takes too much of the time: in fast loops over
 * large arrays. */

enum { YOUNG, MIDDLE, FULL, TIERS };
typedef struct tier { /* the last collection: */
  double ended, lasted;
  int64_t left; /* bytes in use after it */
} tier;
static tier tiers[TIERS];
static double share; /* of time that young collections take: mean over the last ones */
static int64_t limit;

static int64_t used_bytes(void) {
  return mx_pool_statistics(MX_CPU).used_bytes + mx_pool_statistics(MX_GPU).used_bytes;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Returns how many bytes R's vectors may still take before the next collection. */
static double collect_young(void) {
  static SEXP call;
  if (!call) {
    call = Rf_lang2(Rf_install("gc"), Rf_ScalarLogical(FALSE));
    R_PreserveObject(call);
    SET_TAG(CDR(call), Rf_install("full"));
  }
  SEXP table = Rf_eval(call, R_BaseEnv); /* 2 rows: cells, vectors; columns: used, in MB, limit, ... */
  return TYPEOF(table) == REALSXP && XLENGTH(table) > 5 ? (REAL(table)[5] - REAL(table)[1]) * 8 : 0;
}

/* R goes on to the next generation where a collection leaves little room. A vector that nobody touches takes it, unless
 * the room is so large that the system might refuse. */
static void collect_middle(void) {
  const double most = 1e9;
  double room = collect_young();
  PROTECT(Rf_allocVector(RAWSXP, (R_xlen_t)(room > 0 && room < most ? 0.9 * room : 0)));
  (void)collect_young();
  UNPROTECT(1);
  (void)collect_young();
}

static void collect(int which) {
  tier *t = &tiers[which];
  double start = now();
  if (which == YOUNG)
    (void)collect_young();
  else if (which == MIDDLE)
    collect_middle();
  else
    R_gc();
  double end = now(), took = end - start, usual = took < t->lasted ? took : t->lasted; /* R now and then does more */
  if (which == YOUNG) share += usual / (end - t->ended) / 4 - share / 4;
  if (which == MIDDLE) share /= 2;
  for (int i = 0; i <= which; i++) tiers[i].left = used_bytes();
  t->ended = end;
  t->lasted = took;
}

void mxr_collect_garbage(void) {
  collect(FULL);
  mx_pool_trim();
}

void mxr_collect_if_needed(void) {
  const int64_t step = 8 << 20, small = 16 << 20, most = 256 << 20;
  const int many = 1024;
  const double fine = 0.06, too_much = 0.12;
  int64_t used = used_bytes();
  if (limit > used + most) limit = used + most;
  if (swept) made = 0;
  swept = false;
  if (used <= limit) return;
  for (int i = limit ? YOUNG : FULL; i < TIERS; i++) { /* first all: R decides how much it will need */
    if (i > YOUNG && used - tiers[i].left <= (limit - tiers[i].left) / (i == FULL ? 2 : 4)) break; /* few became old */
    if (i == FULL && now() - tiers[FULL].ended < 20 * tiers[FULL].lasted) break;
    collect(i);
    used = used_bytes();
  }
  if (used > limit - limit / 8) {
    limit = used + (used / 4 > step ? used / 4 : step);
  } else if (share > too_much) {
    int64_t room = made > many ? small : most, wanted = (int64_t)((double)(limit - used) * share / fine);
    if (limit < used + room) limit = used + (wanted < room ? wanted : room);
    share = fine;
  }
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
