/* Arrays: shape, dtype and a view of reference-counted storage on a device; contiguous, row-major. */
#ifndef MX_CORE_ARRAY_H
#define MX_CORE_ARRAY_H

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mx_storage {
  int refs;
  mx_device *device;
  size_t bytes;
  void *data;
} mx_storage;

typedef struct mx_array {
  int refs;
  mx_storage *storage;
  size_t offset; /* bytes from the start of the storage */
  mx_shape shape;
  mx_dtype dtype;
} mx_array;

/* New arrays have one reference, owned by the caller. Contents are not initialised by mx_array_new. */
MX_NODISCARD mx_status mx_array_new(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out,
                                    mx_error *err);
MX_NODISCARD mx_status mx_array_zeros(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out,
                                      mx_error *err);
/* An array without memory: plans can be made for it, but not run. */
MX_NODISCARD mx_status mx_array_bare(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out,
                                     mx_error *err);
/* A new array over the same storage: `begin` counts elements from the start of `base`. */
MX_NODISCARD mx_status mx_array_view(mx_array *base, int64_t begin, const mx_shape *shape, mx_array **out,
                                     mx_error *err);
mx_array *mx_array_retain(mx_array *a);
void mx_array_release(mx_array *a); /* NULL is fine */

static inline void *mx_array_data(const mx_array *a) { return (char *)a->storage->data + a->offset; }
static inline int64_t mx_array_size(const mx_array *a) { return mx_shape_size(&a->shape); }
static inline size_t mx_array_bytes(const mx_array *a) { return (size_t)mx_array_size(a) * mx_dtype_size(a->dtype); }
static inline mx_device *mx_array_device(const mx_array *a) { return a->storage->device; }

/* Copies values, converting the dtype; shapes must be equal, devices may differ. */
MX_NODISCARD mx_status mx_array_copy(mx_array *dst, const mx_array *src, mx_error *err);
/* Between host memory of the array's own dtype and the array. `bytes` must be the array's. */
MX_NODISCARD mx_status mx_array_read(const mx_array *a, void *host, size_t bytes, mx_error *err);
MX_NODISCARD mx_status mx_array_write(mx_array *a, const void *host, size_t bytes, mx_error *err);

/* Converts n elements between dtypes on the host: C casts, to bool by != 0. Parallel when n is large. */
void mx_convert(const void *src, mx_dtype from, void *dst, mx_dtype to, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
