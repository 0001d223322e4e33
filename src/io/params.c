/* Parameter files. All numbers are little-endian:
 *
 *   uint64 0x112, uint64 0, uint64 number of arrays, the arrays,
 *   uint64 number of names (0, or that of the arrays), each a uint64 length and its bytes.
 *
 * An array begins with a uint32 that tells its version (the first one has none, and begins with the number of
 * dimensions):
 *
 *   V0   ndim       uint32 ndim, uint32 dims
 *   V1   F993FAC8   uint32 ndim, int64 dims
 *   V2   F993FAC9   int32 storage type, [sparse: shape of what is stored], int32 ndim, int64 dims
 *   V3   F993FACA   as V2; ndim 0 is a scalar and -1 no array, where before ndim 0 was no array
 *
 * then int32 device type and id, int32 element type, [sparse: type and shape of each index array], the data, [the index
 * arrays]. Nothing follows "no array". V2 is written, and V3 where only it can hold the array. Nothing that a file says
 * is believed before it was compared with the bytes that are there. */
#include "io/params.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "core/thread.h"
#include "io/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are read and written in the machine's byte order");

#define LIST_MAGIC UINT64_C(0x112)
#define V1_MAGIC 0xF993FAC8u
#define V2_MAGIC 0xF993FAC9u
#define V3_MAGIC 0xF993FACAu
enum { DENSE = 0, ROW_SPARSE = 1, CSR = 2 };

/* ================ writing ================ */

/* Where bytes go: a file, or memory that is large enough. */
typedef struct sink {
  mx_file_writer *file;
  char *at;
} sink;

static mx_status put(sink *s, const void *bytes, size_t n, mx_error *err) {
  if (s->file) return mx_file_write(s->file, bytes, n, err);
  memcpy(s->at, bytes, n);
  s->at += n;
  return MX_OK;
}

static size_t header_bytes(const mx_array *a) { return 24 + 8 * (size_t)a->shape.ndim; }

static mx_status put_array(sink *s, const mx_array *a, mx_error *err) {
  size_t n = mx_array_bytes(a);
  char header[24 + 8 * MX_MAX_NDIM];
  int32_t front[] = {0, DENSE, a->shape.ndim}, back[] = {MX_CPU, 0, a->dtype};
  uint32_t magic = n == 0 || a->shape.ndim == 0 ? V3_MAGIC : V2_MAGIC;
  memcpy(front, &magic, sizeof(magic));
  memcpy(header, front, sizeof(front));
  memcpy(header + sizeof(front), a->shape.dim, 8 * (size_t)a->shape.ndim);
  memcpy(header + header_bytes(a) - sizeof(back), back, sizeof(back));
  MX_TRY(put(s, header, header_bytes(a), err));
  if (n == 0) return MX_OK;
  if (mx_array_device(a)->kind == MX_CPU) return put(s, mx_array_data(a), n, err);
  void *host = mx_malloc(n);
  if (!host) return mx_fail_memory(err, n);
  mx_status status = mx_array_read(a, host, n, err);
  if (status == MX_OK) status = put(s, host, n, err);
  mx_free(host);
  return status;
}

static mx_status put_list(sink *s, mx_array *const *arrays, const char *const *names, int n, mx_error *err) {
  uint64_t head[] = {LIST_MAGIC, 0, (uint64_t)n}, n_names = names ? (uint64_t)n : 0;
  MX_TRY(put(s, head, sizeof(head), err));
  for (int i = 0; i < n; i++) {
    if (mx_interrupted()) return mx_fail(err, MX_ERR_INTERRUPTED, "Saving was interrupted; no file was changed.");
    MX_TRY(put_array(s, arrays[i], err));
  }
  MX_TRY(put(s, &n_names, sizeof(n_names), err));
  for (int i = 0; names && i < n; i++) {
    uint64_t length = strlen(names[i]);
    MX_TRY(put(s, &length, sizeof(length), err));
    MX_TRY(put(s, names[i], length, err));
  }
  return MX_OK;
}

mx_status mx_params_save(const char *path, mx_array *const *arrays, const char *const *names, int n, mx_error *err) {
  sink s = {0};
  MX_TRY(mx_file_create(path, &s.file, err));
  mx_status status = put_list(&s, arrays, names, n, err);
  if (status == MX_OK) return mx_file_commit(s.file, err);
  mx_file_abandon(s.file);
  return status;
}

mx_status mx_params_encode(mx_array *const *arrays, const char *const *names, int n, void **bytes, size_t *size,
                           mx_error *err) {
  *bytes = NULL;
  size_t total = 32;
  for (int i = 0; i < n; i++)
    total += header_bytes(arrays[i]) + mx_array_bytes(arrays[i]) + (names ? 8 + strlen(names[i]) : 0);
  char *block = mx_malloc(total);
  if (!block) return mx_fail_memory(err, total);
  sink s = {.at = block};
  mx_status status = put_list(&s, arrays, names, n, err);
  if (status != MX_OK) {
    mx_free(block);
    return status;
  }
  *bytes = block;
  *size = total;
  return MX_OK;
}

/* ================ reading ================ */

/* Where bytes come from: a file or memory, of a known size. */
typedef struct source {
  FILE *file;
  const char *bytes;
  uint64_t size, at;
  const char *path; /* NULL: memory */
  int array;        /* that is being read, for messages; -1 outside of arrays */
  mx_error *err;
} source;

static uint64_t left(const source *s) { return s->size - s->at; }

/* Puts the place before a message; returns the status for it. */
static mx_status damaged(const source *s) {
  if (s->array >= 0) mx_error_prefix(s->err, "Array %d", s->array);
  mx_error_prefix(s->err, "%.300s", s->path ? s->path : "Serialized arrays");
  return s->err->code;
}

#define DAMAGED(s, ...) (mx_fail((s)->err, MX_ERR_FORMAT, __VA_ARGS__), damaged(s))

/* Whether n more bytes are there; `what` is what they should be. */
static mx_status need(const source *s, uint64_t n, const char *what) {
  if (n <= left(s)) return MX_OK;
  mx_fail(s->err, MX_ERR_FORMAT, "%s at byte %llu takes %llu bytes, but only %llu are left.", what,
          (unsigned long long)s->at, (unsigned long long)n, (unsigned long long)left(s));
  mx_error_set(s->err, expected, "%llu bytes", (unsigned long long)n);
  mx_error_set(s->err, actual, "%llu bytes", (unsigned long long)left(s));
  return damaged(s);
}

static mx_status get(source *s, void *to, uint64_t n, const char *what) {
  MX_TRY(need(s, n, what));
  if (!s->file) {
    memcpy(to, s->bytes + s->at, n);
  } else if (fread(to, 1, n, s->file) != n) {
    int reason = errno;
    bool failed = ferror(s->file);
    mx_fail(s->err, MX_ERR_IO, "Reading stopped at byte %llu: %s.", (unsigned long long)s->at,
            failed ? strerror(reason) : "the file became shorter");
    return damaged(s);
  }
  s->at += n;
  return MX_OK;
}

/* What precedes the data of an array. */
typedef struct header {
  bool none; /* the place of an array that does not exist */
  int storage;
  mx_shape stored; /* of the data; sparse: less than `shape` */
  mx_shape shape;
  mx_dtype dtype;
  int n_index;
  mx_dtype index_dtype[2];
  mx_shape index_shape[2];
} header;

/* The dimensions; `none` is the ndim that means "no array", and leaves ndim -1. */
static mx_status get_shape(source *s, bool wide, int none, mx_shape *out) {
  int32_t ndim;
  MX_TRY(get(s, &ndim, sizeof(ndim), "The number of dimensions"));
  out->ndim = -1;
  if (ndim == none) return MX_OK;
  if (ndim < 0 || ndim > MX_MAX_NDIM) {
    mx_fail(s->err, MX_ERR_FORMAT, "There are %d dimensions at byte %llu; expected 0 to %d.", (int)ndim,
            (unsigned long long)s->at - 4, MX_MAX_NDIM);
    return damaged(s);
  }
  out->ndim = ndim;
  for (int i = 0; i < ndim; i++) {
    int64_t dim = 0;
    MX_TRY(get(s, &dim, wide ? 8 : 4, "A dimension"));
    if (dim < 0)
      return DAMAGED(s, "Dimension %d at byte %llu is %lld; expected 0 or more.", i, (unsigned long long)s->at - 8,
                     (long long)dim);
    out->dim[i] = dim;
  }
  if (mx_shape_check_size(out, 1, s->err) != MX_OK) {
    s->err->code = MX_ERR_FORMAT;
    return damaged(s);
  }
  return MX_OK;
}

static mx_status get_dtype(source *s, mx_dtype *out) {
  int32_t type;
  MX_TRY(get(s, &type, sizeof(type), "The element type"));
  if (type < 0 || type >= MX_DTYPE_COUNT)
    return DAMAGED(s, "The element type at byte %llu is %d; expected 0 to %d.", (unsigned long long)s->at - 4,
                   (int)type, MX_DTYPE_COUNT - 1);
  *out = (mx_dtype)type;
  return MX_OK;
}

static mx_status get_header(source *s, header *h) {
  uint32_t magic;
  int32_t storage = DENSE, device[2];
  *h = (header){0};
  MX_TRY(get(s, &magic, sizeof(magic), "An array"));
  bool v0 = magic != V1_MAGIC && magic != V2_MAGIC && magic != V3_MAGIC;
  if (v0) { /* what was read is the number of dimensions */
    s->at -= sizeof(magic);
    if (s->file && fseeko(s->file, (off_t)s->at, SEEK_SET) != 0)
      return DAMAGED(s, "Byte %llu cannot be read again.", (unsigned long long)s->at);
  }
  int none = magic == V3_MAGIC ? -1 : 0;
  if (magic == V2_MAGIC || magic == V3_MAGIC) MX_TRY(get(s, &storage, sizeof(storage), "The storage type"));
  if (storage < DENSE || storage > CSR)
    return DAMAGED(s, "The storage type at byte %llu is %d; expected 0, 1 or 2.", (unsigned long long)s->at - 4,
                   (int)storage);
  h->storage = storage;
  h->n_index = storage;
  if (storage != DENSE) MX_TRY(get_shape(s, true, none, &h->stored));
  MX_TRY(get_shape(s, !v0, none, &h->shape));
  if (h->shape.ndim < 0) {
    h->none = true;
    return MX_OK;
  }
  if (storage == DENSE) h->stored = h->shape;
  MX_TRY(get(s, device, sizeof(device), "The device")); /* where the array was; it goes where the caller wants it */
  MX_TRY(get_dtype(s, &h->dtype));
  for (int i = 0; i < h->n_index; i++) {
    MX_TRY(get_dtype(s, &h->index_dtype[i]));
    MX_TRY(get_shape(s, true, none, &h->index_shape[i]));
  }
  return MX_OK;
}

/* Bytes of an array of the file; they are all there. */
static mx_status data_bytes(const source *s, const mx_shape *shape, mx_dtype dtype, const char *what, size_t *out) {
  if (mx_shape_check_size(shape, mx_dtype_size(dtype), s->err) != MX_OK) {
    s->err->code = MX_ERR_FORMAT;
    return damaged(s);
  }
  *out = (size_t)mx_shape_size(shape) * mx_dtype_size(dtype);
  return need(s, *out, what);
}

static mx_status get_block(source *s, const mx_shape *shape, mx_dtype dtype, const char *what, void **out) {
  size_t n;
  MX_TRY(data_bytes(s, shape, dtype, what, &n));
  *out = mx_malloc(n);
  if (!*out) return mx_fail_memory(s->err, n);
  return get(s, *out, n, what);
}

/* ---- sparse arrays, read as dense ---- */

/* The parts of a sparse array, on the host. */
typedef struct sparse {
  void *data;
  void *raw[2];      /* as in the file */
  int64_t *index[2]; /* row_sparse: rows; csr: where rows begin, columns */
  int64_t n[2];
} sparse;

static void free_sparse(sparse *p) {
  mx_free(p->data);
  for (int i = 0; i < 2; i++) {
    mx_free(p->raw[i]);
    mx_free(p->index[i]);
  }
}

static mx_status get_index(source *s, const header *h, int i, sparse *p) {
  if (h->index_dtype[i] != MX_INT64 && h->index_dtype[i] != MX_INT32)
    return DAMAGED(s, "The indices of a sparse array are %s; expected int64 or int32.",
                   mx_dtype_name(h->index_dtype[i]));
  MX_TRY(get_block(s, &h->index_shape[i], h->index_dtype[i], "An index array", &p->raw[i]));
  p->n[i] = mx_shape_size(&h->index_shape[i]);
  p->index[i] = mx_malloc((size_t)p->n[i] * sizeof(int64_t));
  if (!p->index[i]) return mx_fail_memory(s->err, (size_t)p->n[i] * sizeof(int64_t));
  mx_convert(p->raw[i], h->index_dtype[i], p->index[i], MX_INT64, p->n[i]);
  return MX_OK;
}

static mx_status spread_rows(source *s, const header *h, const sparse *p, char *dense) {
  bool fits = h->shape.ndim >= 1 && h->stored.ndim == h->shape.ndim && p->n[0] == h->stored.dim[0];
  for (int i = 1; fits && i < h->shape.ndim; i++) fits = h->stored.dim[i] == h->shape.dim[i];
  if (!fits) return DAMAGED(s, "The rows of a row-sparse array do not fit its shape.");
  size_t row = (size_t)mx_shape_prod(&h->shape, 1, h->shape.ndim) * mx_dtype_size(h->dtype);
  for (int64_t i = 0; i < p->n[0]; i++) {
    int64_t to = p->index[0][i];
    if (to < 0 || to >= h->shape.dim[0])
      return DAMAGED(s, "A row of a row-sparse array has the number %lld; expected 0 to %lld.", (long long)to,
                     (long long)h->shape.dim[0] - 1);
    memcpy(dense + (size_t)to * row, (const char *)p->data + (size_t)i * row, row);
  }
  return MX_OK;
}

static mx_status spread_csr(source *s, const header *h, const sparse *p, char *dense) {
  const int64_t *begin = p->index[0], *column = p->index[1];
  if (h->shape.ndim != 2 || h->stored.ndim != 1 || p->n[1] != h->stored.dim[0] || p->n[0] != h->shape.dim[0] + 1 ||
      begin[0] != 0 || begin[p->n[0] - 1] != p->n[1])
    return DAMAGED(s, "The parts of a csr array do not fit its shape.");
  size_t size = mx_dtype_size(h->dtype);
  for (int64_t i = 0; i < h->shape.dim[0]; i++) {
    if (begin[i + 1] < begin[i] || begin[i + 1] > p->n[1])
      return DAMAGED(s, "Row %lld of a csr array does not begin where the one before ends.", (long long)i + 1);
    for (int64_t k = begin[i]; k < begin[i + 1]; k++) {
      if (column[k] < 0 || column[k] >= h->shape.dim[1])
        return DAMAGED(s, "A column of a csr array has the number %lld; expected 0 to %lld.", (long long)column[k],
                       (long long)h->shape.dim[1] - 1);
      memcpy(dense + (size_t)(i * h->shape.dim[1] + column[k]) * size, (const char *)p->data + (size_t)k * size, size);
    }
  }
  return MX_OK;
}

/* A dense copy may be much larger than the file; beyond this a damaged shape is more likely than a real array. */
static uint64_t dense_limit(const source *s) { return (UINT64_C(64) << 20) + 1024 * s->size; }

static mx_status get_sparse(source *s, const header *h, sparse *p, char **dense, size_t *bytes) {
  MX_TRY(get_block(s, &h->stored, h->dtype, "The data", &p->data));
  for (int i = 0; i < h->n_index; i++) MX_TRY(get_index(s, h, i, p));
  MX_TRY(mx_shape_check_size(&h->shape, mx_dtype_size(h->dtype), s->err));
  *bytes = (size_t)mx_shape_size(&h->shape) * mx_dtype_size(h->dtype);
  if (*bytes > dense_limit(s))
    return DAMAGED(s, "A sparse array would take %.0f MB when dense, more than a file of this size is trusted with.",
                   (double)*bytes / 1e6);
  *dense = mx_calloc(1, *bytes);
  if (!*dense) return mx_fail_memory(s->err, *bytes);
  return h->storage == ROW_SPARSE ? spread_rows(s, h, p, *dense) : spread_csr(s, h, p, *dense);
}

/* ---- arrays ---- */

static mx_status get_dense_data(source *s, mx_array *a) {
  size_t n = mx_array_bytes(a);
  if (mx_array_device(a)->kind == MX_CPU) return get(s, mx_array_data(a), n, "The data");
  void *host = mx_malloc(n);
  if (!host) return mx_fail_memory(s->err, n);
  mx_status status = get(s, host, n, "The data");
  if (status == MX_OK) status = mx_array_write(a, host, n, s->err);
  mx_free(host);
  return status;
}

static mx_status get_array(source *s, mx_device *device, mx_array **out) {
  header h;
  MX_TRY(get_header(s, &h));
  if (h.none) {
    mx_shape empty = mx_shape_of(0);
    return mx_array_new(device, &empty, MX_FLOAT32, out, s->err);
  }
  size_t n;
  if (h.storage == DENSE) {
    MX_TRY(data_bytes(s, &h.shape, h.dtype, "The data", &n));
    MX_TRY(mx_array_new(device, &h.shape, h.dtype, out, s->err));
    return n ? get_dense_data(s, *out) : MX_OK;
  }
  if (h.stored.ndim < 0 || h.index_shape[0].ndim < 0 || (h.n_index == 2 && h.index_shape[1].ndim < 0))
    return DAMAGED(s, "A part of a sparse array has no shape.");
  sparse parts = {0};
  char *dense = NULL;
  mx_status status = get_sparse(s, &h, &parts, &dense, &n);
  if (status == MX_OK) status = mx_array_new(device, &h.shape, h.dtype, out, s->err);
  if (status == MX_OK && n) status = mx_array_write(*out, dense, n, s->err);
  mx_free(dense);
  free_sparse(&parts);
  return status;
}

/* ---- lists ---- */

static mx_status get_name(source *s, char **out) {
  uint64_t length;
  MX_TRY(get(s, &length, sizeof(length), "The length of a name"));
  MX_TRY(need(s, length, "A name"));
  char *name = mx_malloc(length + 1);
  if (!name) return mx_fail_memory(s->err, length + 1);
  *out = name;
  MX_TRY(get(s, name, length, "A name"));
  name[length] = 0;
  if (strlen(name) != length)
    return DAMAGED(s, "The name at byte %llu contains a zero byte.", (unsigned long long)(s->at - length));
  return MX_OK;
}

static mx_status get_names(source *s, mx_array_list *out) {
  uint64_t n;
  MX_TRY(get(s, &n, sizeof(n), "The number of names"));
  if (n == 0) return MX_OK;
  if (n != (uint64_t)out->n)
    return DAMAGED(s, "There are %d arrays but %llu names; expected as many, or none.", out->n, (unsigned long long)n);
  out->name = mx_calloc(n, sizeof(*out->name));
  if (!out->name) return mx_fail_memory(s->err, n * sizeof(*out->name));
  for (uint64_t i = 0; i < n; i++) MX_TRY(get_name(s, &out->name[i]));
  return MX_OK;
}

static mx_status get_list(source *s, mx_device *device, mx_array_list *out) {
  uint64_t head[3];
  s->array = -1;
  MX_TRY(get(s, head, sizeof(head), "The beginning of a parameter file"));
  if (head[0] != LIST_MAGIC)
    return DAMAGED(s, "This is not a parameter file: it begins with %#llx, not with %#llx.",
                   (unsigned long long)head[0], (unsigned long long)LIST_MAGIC);
  uint64_t n = head[2];
  if (n > left(s) / 4 || n > INT32_MAX) /* the shortest array takes four bytes */
    return DAMAGED(s, "There cannot be %llu arrays in %llu bytes.", (unsigned long long)n, (unsigned long long)left(s));
  out->array = mx_calloc(n, sizeof(*out->array));
  if (!out->array) return mx_fail_memory(s->err, n * sizeof(*out->array));
  out->n = (int)n;
  for (s->array = 0; s->array < out->n; s->array++) {
    if (mx_interrupted()) return mx_fail(s->err, MX_ERR_INTERRUPTED, "Loading was interrupted.");
    MX_TRY(get_array(s, device, &out->array[s->array]));
  }
  s->array = -1;
  MX_TRY(get_names(s, out));
  if (left(s) > 0)
    return DAMAGED(s, "%llu bytes follow the last name, at byte %llu.", (unsigned long long)left(s),
                   (unsigned long long)s->at);
  return MX_OK;
}

static mx_status get_all(source *s, mx_device *device, mx_array_list *out) {
  *out = (mx_array_list){0};
  mx_status status = get_list(s, device, out);
  if (status != MX_OK) mx_array_list_free(out);
  return status;
}

mx_status mx_params_decode(const void *bytes, size_t size, mx_device *device, mx_array_list *out, mx_error *err) {
  source s = {.bytes = bytes, .size = size, .err = err};
  return get_all(&s, device, out);
}

mx_status mx_params_load(const char *path, mx_device *device, mx_array_list *out, mx_error *err) {
  *out = (mx_array_list){0};
  struct stat info;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &info) != 0) {
    int reason = errno;
    if (file) fclose(file);
    mx_fail(err, MX_ERR_IO, "Cannot open '%.400s': %s.", path, strerror(reason));
    mx_error_set(err, argument, "%.127s", path);
    mx_error_set(err, actual, "%s", strerror(reason));
    return MX_ERR_IO;
  }
  if (!S_ISREG(info.st_mode)) {
    fclose(file);
    return mx_fail(err, MX_ERR_IO, "Cannot read '%.400s': it is not a regular file.", path);
  }
  source s = {.file = file, .size = (uint64_t)info.st_size, .path = path, .err = err};
  mx_status status = get_all(&s, device, out);
  fclose(file);
  return status;
}

void mx_array_list_free(mx_array_list *l) {
  for (int i = 0; l->array && i < l->n; i++) mx_array_release(l->array[i]);
  for (int i = 0; l->name && i < l->n; i++) mx_free(l->name[i]);
  mx_free(l->array);
  mx_free(l->name);
  *l = (mx_array_list){0};
}
