/* MXNDArray: creation from R vectors, conversion back, indexing, files. */
#include <math.h>
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"
#include "core/thread.h"
#include "io/params.h"

/* ---- creation ---- */

static mx_dtype dtype_of(SEXP dtype) {
  const char *name = mxr_string(dtype, "dtype");
  mx_dtype t = mx_dtype_parse(name);
  if (t == MX_DTYPE_UNKNOWN)
    mxr_stop(MX_ERR_VALUE,
             "`dtype` must be float32, float64, float16, int8, int32, int64, uint8 or bool, not \"%.60s\".", name);
  return t;
}

MX_CLONES static int64_t count_na(const int *x, int64_t n) {
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; i++) count += x[i] == NA_INTEGER;
  return count;
}

MX_CLONES static int64_t count_nan(const double *x, int64_t n) {
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; i++) count += x[i] != x[i];
  return count;
}

static void set_nan(void *data, mx_dtype dtype, int64_t i) {
  if (dtype == MX_FLOAT32) ((float *)data)[i] = NAN;
  if (dtype == MX_FLOAT64) ((double *)data)[i] = NAN;
  if (dtype == MX_FLOAT16) ((mx_half *)data)[i] = (mx_half)NAN;
}

/* Elements of an atomic R vector as elements of `dtype`. NA becomes NaN, or is an error where there is none. */
static mx_status convert_from_r(SEXP x, mx_dtype dtype, void *data, mx_error *err) {
  int64_t n = XLENGTH(x), na = 0;
  const int *ints = NULL;
  switch (TYPEOF(x)) {
    case REALSXP:
      if (!mx_dtype_is_float(dtype)) na = count_nan(REAL(x), n);
      if (!na) mx_convert(REAL(x), MX_FLOAT64, data, dtype, n);
      break;
    case INTSXP:
    case LGLSXP:
      ints = TYPEOF(x) == INTSXP ? INTEGER(x) : LOGICAL(x);
      na = count_na(ints, n);
      mx_convert(ints, MX_INT32, data, dtype, n);
      break;
    case RAWSXP:
      mx_convert(RAW(x), MX_UINT8, data, dtype, n);
      break;
    default:
      return mxr_fail_type(err, "src.array", "a numeric or logical vector, matrix or array", x);
  }
  if (na && !mx_dtype_is_float(dtype))
    return mx_fail(err, MX_ERR_VALUE, "NA cannot be stored in an array of type %s.", mx_dtype_name(dtype));
  for (int64_t i = 0; na; i++)
    if (ints[i] == NA_INTEGER) {
      set_nan(data, dtype, i);
      na--;
    }
  return MX_OK;
}

/* Fills an array on any device from host memory that `fill` writes. */
static mx_status write_vector(mx_array *a, SEXP x, mx_error *err) {
  if (mx_array_device(a)->kind == MX_CPU) return convert_from_r(x, a->dtype, mx_array_data(a), err);
  size_t bytes = mx_array_bytes(a);
  void *host = mx_malloc_aligned(bytes ? bytes : 1);
  if (!host) return mx_fail_memory(err, bytes);
  mx_status status = convert_from_r(x, a->dtype, host, err);
  if (status == MX_OK) status = mx_array_write(a, host, bytes, err);
  mx_free_aligned(host);
  return status;
}

SEXP mxr_ndarray_from_r(SEXP x, const mx_shape *shape, mx_device *device, mx_dtype dtype) {
  mx_array *a = NULL;
  mx_error err;
  mx_status status;
  MXR_CHECK(mx_shape_check_size(shape, mx_dtype_size(dtype), &err), err);
  if (mx_shape_size(shape) != XLENGTH(x)) mxr_stop(MX_ERR_SHAPE, "The dimensions do not match the number of elements.");
  SEXP out = PROTECT(mxr_pointer_new(MXR_NDARRAY));
  MXR_RETRY(status, mx_array_new(device, shape, dtype, &a, &err));
  MXR_CHECK(status, err);
  mxr_pointer_set(out, MXR_NDARRAY, a);
  MXR_CHECK(write_vector(a, x, &err), err);
  mxr_collect_if_needed();
  UNPROTECT(1);
  return out;
}

SEXP ffi_nd_array(SEXP x, SEXP dim, SEXP ctx, SEXP dtype) {
  mx_dtype type = dtype_of(dtype);
  mx_shape shape;
  mx_device *device;
  mx_error err;
  MXR_CHECK(mxr_shape_from_r(dim, "dim", &shape, &err), err);
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  return mxr_ndarray_from_r(x, &shape, device, type);
}

SEXP ffi_nd_zeros(SEXP dim, SEXP ctx, SEXP dtype) {
  mx_dtype type = dtype_of(dtype);
  mx_shape shape;
  mx_device *device;
  mx_array *a = NULL;
  mx_error err;
  mx_status status;
  MXR_CHECK(mxr_shape_from_r(dim, "shape", &shape, &err), err);
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  SEXP out = PROTECT(mxr_pointer_new(MXR_NDARRAY));
  MXR_RETRY(status, mx_array_zeros(device, &shape, type, &a, &err));
  MXR_CHECK(status, err);
  mxr_pointer_set(out, MXR_NDARRAY, a);
  mxr_collect_if_needed();
  UNPROTECT(1);
  return out;
}

/* ---- what an array is ---- */

SEXP ffi_nd_dim(SEXP nd) { return mxr_shape_to_r(&mxr_ndarray(nd, "x")->shape); }

SEXP ffi_nd_length(SEXP nd) {
  int64_t n = mx_array_size(mxr_ndarray(nd, "x"));
  return n > INT32_MAX ? Rf_ScalarReal((double)n) : Rf_ScalarInteger((int)n);
}

SEXP ffi_nd_context(SEXP nd) { return mxr_device_to_r(mx_array_device(mxr_ndarray(nd, "nd"))); }

SEXP ffi_nd_dtype(SEXP nd) { return Rf_mkString(mx_dtype_name(mxr_ndarray(nd, "nd")->dtype)); }

/* ---- back to R ---- */

MX_CLONES static int64_t count_wide(const int64_t *x, int64_t n) {
  const int64_t limit = (int64_t)1 << 53;
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; i++) count += x[i] > limit || x[i] < -limit;
  return count;
}

/* The elements on the host: the array's own memory on a CPU, else a copy that `keeper` owns. */
static const void *host_data(const mx_array *a, SEXP keeper) {
  if (mx_array_device(a)->kind == MX_CPU) return mx_array_data(a);
  size_t bytes = mx_array_bytes(a);
  void *host = mx_malloc_aligned(bytes ? bytes : 1);
  mx_error err;
  if (!host) MXR_CHECK(mx_fail_memory(&err, bytes), err);
  R_SetExternalPtrAddr(keeper, host);
  MXR_CHECK(mx_array_read(a, host, bytes, &err), err);
  return host;
}

/* The owner of such a copy; a CPU needs none. */
static SEXP host_keeper(const mx_array *a) {
  return mx_array_device(a)->kind == MX_CPU ? R_NilValue : mxr_keeper(mx_free_aligned);
}

static void host_release(SEXP keeper) {
  if (keeper != R_NilValue) mxr_release(keeper);
}

/* Elements begin .. begin + count - 1 as doubles, without dimensions. */
static SEXP doubles(const mx_array *a, int64_t begin, int64_t count) {
  SEXP keeper = PROTECT(host_keeper(a)), out = PROTECT(Rf_allocVector(REALSXP, count));
  const char *host = host_data(a, keeper);
  host += (size_t)begin * mx_dtype_size(a->dtype);
  mx_advise_large_pages(REAL(out), (size_t)count * sizeof(double));
  mx_convert(host, a->dtype, REAL(out), MX_FLOAT64, count);
  bool wide = a->dtype == MX_INT64 && count_wide((const int64_t *)host, count) > 0;
  host_release(keeper);
  if (wide) Rf_warning("integers beyond 2^53 lose digits as R numbers");
  UNPROTECT(2);
  return out;
}

SEXP ffi_nd_as_array(SEXP nd) {
  mx_array *a = mxr_ndarray(nd, "x");
  SEXP out = PROTECT(doubles(a, 0, mx_array_size(a)));
  if (a->shape.ndim > 1) {
    SEXP dim = PROTECT(mxr_shape_to_r(&a->shape));
    if (TYPEOF(dim) != INTSXP) mxr_stop(MX_ERR_SHAPE, "An R array cannot have a dimension beyond 2^31 - 1.");
    Rf_setAttrib(out, R_DimSymbol, dim);
    UNPROTECT(1);
  }
  UNPROTECT(1);
  return out;
}

/* The first `count` elements: print and str need no more of a large array. */
SEXP ffi_nd_head(SEXP nd, SEXP count) {
  mx_array *a = mxr_ndarray(nd, "x");
  int64_t n = mx_array_size(a), k = (int64_t)Rf_asReal(count);
  return doubles(a, 0, k < n ? k : n);
}

/* ---- copies ---- */

static SEXP copy_as(mx_array *a, const mx_shape *shape, mx_device *device) {
  mx_array *copy = NULL;
  mx_array view = *a; /* the same elements in another shape; only read from */
  mx_error err;
  mx_status status;
  SEXP out = PROTECT(mxr_pointer_new(MXR_NDARRAY));
  MXR_RETRY(status, mx_array_new(device, shape, a->dtype, &copy, &err));
  MXR_CHECK(status, err);
  mxr_pointer_set(out, MXR_NDARRAY, copy);
  view.shape = *shape;
  MXR_CHECK(mx_array_copy(copy, &view, &err), err);
  mxr_collect_if_needed();
  UNPROTECT(1);
  return out;
}

SEXP ffi_nd_copyto(SEXP nd, SEXP ctx) {
  mx_array *a = mxr_ndarray(nd, "src");
  mx_device *device;
  mx_error err;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  return copy_as(a, &a->shape, device);
}

/* Copies values into an array that exists. */
SEXP ffi_nd_write(SEXP to, SEXP from) {
  mx_array *dst = mxr_ndarray(to, "to"), *src = mxr_ndarray(from, "from");
  mx_error err;
  MXR_CHECK(mx_array_copy(dst, src, &err), err);
  return to;
}

SEXP ffi_nd_reshape(SEXP nd, SEXP dim) {
  mx_array *a = mxr_ndarray(nd, "x");
  mx_shape shape;
  mx_error err;
  MXR_CHECK(mxr_shape_from_r(dim, "dim", &shape, &err), err);
  MXR_CHECK(mx_shape_check_size(&shape, 1, &err), err);
  if (mx_shape_size(&shape) != mx_array_size(a))
    mxr_stop(MX_ERR_SHAPE, "These dimensions make %lld elements, but the array has %lld.",
             (long long)mx_shape_size(&shape), (long long)mx_array_size(a));
  return copy_as(a, &shape, mx_array_device(a));
}

/* Elements begin to end - 1 of the last dimension, which is the first native one: a view of the same storage. */
SEXP ffi_nd_slice(SEXP nd, SEXP begin, SEXP end) {
  mx_array *a = mxr_ndarray(nd, "nd"), *view = NULL;
  double from = Rf_asReal(begin), to = Rf_asReal(end);
  mx_shape shape = a->shape;
  mx_error err;
  if (shape.ndim < 1) mxr_stop(MX_ERR_SHAPE, "An array without dimensions has no slices.");
  if (!(from >= 0 && from < to && to <= (double)shape.dim[0]))
    mxr_stop(MX_ERR_VALUE, "The slice from %g to %g is not within the %lld elements of the last dimension.", from, to,
             (long long)shape.dim[0]);
  int64_t rows = shape.dim[0];
  shape.dim[0] = (int64_t)to - (int64_t)from;
  SEXP out = PROTECT(mxr_pointer_new(MXR_NDARRAY));
  MXR_CHECK(mx_array_view(a, mx_array_size(a) / rows * (int64_t)from, &shape, &view, &err), err);
  mxr_pointer_set(out, MXR_NDARRAY, view);
  UNPROTECT(1);
  return out;
}

/* ---- indexing: a box of index vectors, R order, one per dimension ---- */

typedef struct box {
  int n;
  int64_t count[MX_MAX_NDIM], stride[MX_MAX_NDIM]; /* first dimension fastest */
  const double *index[MX_MAX_NDIM];                /* from 1; NULL: all */
} box;

/* `index` is a list of NULLs and double vectors that R code has checked against `dim`. */
static int64_t box_make(const mx_array *a, SEXP index, box *b, mx_shape *shape) {
  int64_t stride = 1, total = 1;
  bool flat = XLENGTH(index) == 1 && a->shape.ndim != 1;
  b->n = flat ? 1 : a->shape.ndim;
  if (XLENGTH(index) != b->n) mxr_stop(MX_ERR_VALUE, "Incorrect number of dimensions.");
  shape->ndim = b->n;
  for (int i = 0; i < b->n; i++) {
    int64_t dim = flat ? mx_array_size(a) : a->shape.dim[b->n - 1 - i];
    SEXP v = VECTOR_ELT(index, i);
    b->index[i] = v == R_NilValue ? NULL : REAL(v);
    b->count[i] = v == R_NilValue ? dim : XLENGTH(v);
    for (int64_t k = 0; b->index[i] && k < b->count[i]; k++)
      if (!(b->index[i][k] >= 1 && b->index[i][k] <= (double)dim)) mxr_stop(MX_ERR_VALUE, "Subscript out of bounds.");
    b->stride[i] = stride;
    stride *= dim;
    total *= b->count[i];
    shape->dim[b->n - 1 - i] = b->count[i];
  }
  return total;
}

static int64_t box_offset(const box *b, int i, int64_t k) {
  return (b->index[i] ? (int64_t)b->index[i][k] - 1 : k) * b->stride[i];
}

/* Moves between the box's elements of `whole` and `part`, which is dense or, when shorter, repeated. */
static void box_move(const box *b, char *whole, char *part, int64_t part_n, size_t size, bool gather) {
  int64_t at[MX_MAX_NDIM] = {0}, p = 0, run = b->count[0];
  for (int i = 0; i < b->n; i++)
    if (b->count[i] == 0) return;
  for (;;) {
    int64_t base = 0;
    for (int i = 1; i < b->n; i++) base += box_offset(b, i, at[i]);
    if (!b->index[0] && gather) {
      memcpy(part + (size_t)p * size, whole + (size_t)base * size, (size_t)run * size);
      p += run;
    } else {
      for (int64_t k = 0; k < run; k++) {
        char *w = whole + (size_t)(base + box_offset(b, 0, k)) * size, *q = part + (size_t)p * size;
        if (gather)
          memcpy(q, w, size);
        else
          memcpy(w, q, size);
        if (++p == part_n && !gather) p = 0;
      }
    }
    int i = 1;
    while (i < b->n && ++at[i] == b->count[i]) at[i++] = 0;
    if (i >= b->n) return;
  }
}

SEXP ffi_nd_subset(SEXP nd, SEXP index, SEXP drop) {
  mx_array *a = mxr_ndarray(nd, "x"), *part = NULL;
  box b;
  mx_shape shape, kept = {0};
  mx_error err;
  mx_status status;
  int64_t n = box_make(a, index, &b, &shape);
  if (mxr_flag(drop, "drop")) {
    for (int i = 0; i < shape.ndim; i++)
      if (shape.dim[i] != 1) kept.dim[kept.ndim++] = shape.dim[i];
    if (kept.ndim == 0) kept.dim[kept.ndim++] = 1;
    shape = kept;
  }
  SEXP keeper = PROTECT(host_keeper(a)), out = PROTECT(mxr_pointer_new(MXR_NDARRAY)), scratch = PROTECT(host_keeper(a));
  char *host = (char *)host_data(a, keeper);
  MXR_RETRY(status, mx_array_new(mx_array_device(a), &shape, a->dtype, &part, &err));
  MXR_CHECK(status, err);
  mxr_pointer_set(out, MXR_NDARRAY, part);
  size_t size = mx_dtype_size(a->dtype);
  if (mx_array_device(a)->kind == MX_CPU) {
    box_move(&b, host, mx_array_data(part), n, size, true);
  } else {
    void *dense = mx_malloc_aligned((size_t)n * size + 1);
    if (!dense) MXR_CHECK(mx_fail_memory(&err, (size_t)n * size), err);
    R_SetExternalPtrAddr(scratch, dense);
    box_move(&b, host, dense, n, size, true);
    MXR_CHECK(mx_array_write(part, dense, (size_t)n * size, &err), err);
  }
  host_release(keeper);
  host_release(scratch);
  mxr_collect_if_needed();
  UNPROTECT(3);
  return out;
}

/* A copy of nd with elements of the box replaced by the R vector `value`, repeated as needed. */
SEXP ffi_nd_assign(SEXP nd, SEXP index, SEXP value) {
  mx_array *a = mxr_ndarray(nd, "x");
  box b;
  mx_shape shape;
  mx_error err;
  int64_t n = box_make(a, index, &b, &shape), m = XLENGTH(value);
  if (n > 0 && m == 0) mxr_stop(MX_ERR_VALUE, "Replacement has length zero.");
  if (n > 0 && (m > n || n % m != 0))
    mxr_stop(MX_ERR_VALUE, "The number of items to replace, %lld, is not a multiple of the replacement's length, %lld.",
             (long long)n, (long long)m);
  SEXP out = PROTECT(copy_as(a, &a->shape, mx_array_device(a)));
  SEXP keeper = PROTECT(host_keeper(a)), scratch = PROTECT(mxr_keeper(mx_free_aligned));
  mx_array *copy = mxr_ndarray(out, "x");
  size_t size = mx_dtype_size(a->dtype);
  void *part = mx_malloc_aligned((size_t)m * size + 1);
  if (!part) MXR_CHECK(mx_fail_memory(&err, (size_t)m * size), err);
  R_SetExternalPtrAddr(scratch, part);
  MXR_CHECK(convert_from_r(value, a->dtype, part, &err), err);
  char *host = (char *)host_data(copy, keeper);
  box_move(&b, host, part, m, size, false);
  if (mx_array_device(copy)->kind != MX_CPU) MXR_CHECK(mx_array_write(copy, host, mx_array_bytes(copy), &err), err);
  host_release(keeper);
  mxr_release(scratch);
  UNPROTECT(3);
  return out;
}

/* ---- files ---- */

SEXP ffi_nd_save(SEXP list, SEXP path) {
  const char *file = mxr_path(path);
  int n = (int)XLENGTH(list);
  SEXP names = PROTECT(Rf_getAttrib(list, R_NamesSymbol));
  mx_array **array = (mx_array **)R_alloc((size_t)n + 1, sizeof(*array));
  const char **name = (const char **)R_alloc((size_t)n + 1, sizeof(*name));
  for (int i = 0; i < n; i++) {
    array[i] = mxr_ndarray(VECTOR_ELT(list, i), "ndarray");
    if (names != R_NilValue) name[i] = mxr_text(STRING_ELT(names, i), "names");
  }
  mx_error err;
  MXR_CHECK(mx_params_save(file, array, names == R_NilValue ? NULL : name, n, &err), err);
  UNPROTECT(1);
  return R_NilValue;
}

static void release_list(void *list) {
  mx_array_list_free(list);
  mx_free(list);
}

SEXP ffi_nd_load(SEXP path, SEXP ctx) {
  const char *file = mxr_path(path);
  mx_device *device;
  mx_error err;
  mx_status status;
  MXR_CHECK(mxr_device(ctx, &device, &err), err);
  SEXP keeper = PROTECT(mxr_keeper(release_list));
  mx_array_list *list = mx_calloc(1, sizeof(*list));
  if (!list) MXR_CHECK(mx_fail_memory(&err, sizeof(*list)), err);
  R_SetExternalPtrAddr(keeper, list);
  MXR_RETRY(status, mx_params_load(file, device, list, &err));
  MXR_CHECK(status, err);
  SEXP out = PROTECT(Rf_allocVector(VECSXP, list->n)), names = PROTECT(Rf_allocVector(STRSXP, list->n));
  for (int i = 0; i < list->n; i++) {
    SEXP nd = mxr_pointer_new(MXR_NDARRAY);
    SET_VECTOR_ELT(out, i, nd);
    mxr_pointer_set(nd, MXR_NDARRAY, mx_array_retain(list->array[i]));
    if (list->name) SET_STRING_ELT(names, i, Rf_mkCharCE(list->name[i], CE_UTF8));
  }
  if (list->name) Rf_setAttrib(out, R_NamesSymbol, names);
  mxr_release(keeper);
  mxr_collect_if_needed();
  UNPROTECT(3);
  return out;
}

/* ---- what a saved array consists of: the device, then a parameter file ---- */

enum { HEADER = 8 };
static const char MAGIC[4] = {'M', 'X', 'N', 'D'};

mx_status mxr_ndarray_encode(const void *object, void **bytes, size_t *size, mx_error *err) {
  mx_array *a = (mx_array *)object;
  void *body = NULL;
  size_t n = 0;
  MX_TRY(mx_params_encode(&a, NULL, 1, &body, &n, err));
  char *all = mx_malloc(n + HEADER);
  if (!all) {
    mx_free(body);
    return mx_fail_memory(err, n + HEADER);
  }
  mx_device *d = mx_array_device(a);
  memcpy(all, MAGIC, 4);
  all[4] = 1;
  all[5] = (char)d->kind;
  all[6] = (char)(d->id & 255);
  all[7] = (char)(d->id >> 8 & 255);
  memcpy(all + HEADER, body, n);
  mx_free(body);
  *bytes = all;
  *size = n + HEADER;
  return MX_OK;
}

/* The device that was saved if this machine has it, else the CPU. */
mx_status mxr_saved_device(const unsigned char header[8], mx_device **out, mx_error *err) {
  if (mx_device_get((mx_device_kind)header[5], header[6] | header[7] << 8, out, err) == MX_OK) return MX_OK;
  return mx_device_get(MX_CPU, 0, out, err);
}

mx_status mxr_ndarray_decode(const void *bytes, size_t size, void **object, mx_error *err) {
  mx_device *device;
  mx_array_list list;
  if (size < HEADER || memcmp(bytes, MAGIC, 4) || ((const char *)bytes)[4] != 1)
    return mx_fail(err, MX_ERR_FORMAT, "These are not the bytes of a saved array.");
  MX_TRY(mxr_saved_device(bytes, &device, err));
  MX_TRY(mx_params_decode((const char *)bytes + HEADER, size - HEADER, device, &list, err));
  bool one = list.n == 1;
  if (one) *object = mx_array_retain(list.array[0]);
  mx_array_list_free(&list);
  return one ? MX_OK : mx_fail(err, MX_ERR_FORMAT, "These are not the bytes of one saved array.");
}
