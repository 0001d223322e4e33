/* Devices: one table of functions per kind. CPU runs synchronously; CUDA runs its stream and reading synchronizes. */
#ifndef MX_CORE_DEVICE_H
#define MX_CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mx_device_kind { MX_CPU = 1, MX_GPU = 2 } mx_device_kind; /* numbers as in parameter files */
#define MX_DEVICE_KINDS 3

typedef struct mx_device mx_device;

/* Row-major C = alpha * op(A) op(B) + beta * C; op(A) is m x k, op(B) is k x n; ld* are row strides in elements. */
typedef struct mx_gemm {
  bool trans_a, trans_b;
  int64_t m, n, k;
  double alpha, beta;
  const void *a, *b;
  void *c;
  int64_t lda, ldb, ldc;
  mx_dtype dtype;
  int64_t batch, stride_a, stride_b, stride_c; /* batch 0 or 1: a single product */
} mx_gemm;

typedef struct mx_device_ops {
  /* Raw memory. alloc returns NULL when there is none. Blocks are aligned to at least 64 bytes. */
  void *(*alloc)(mx_device *dev, size_t bytes);
  void (*free)(mx_device *dev, void *block);
  MX_NODISCARD mx_status (*copy_in)(mx_device *dev, void *dst, const void *host, size_t bytes, mx_error *err);
  MX_NODISCARD mx_status (*copy_out)(mx_device *dev, void *host, const void *src, size_t bytes, mx_error *err);
  MX_NODISCARD mx_status (*copy)(mx_device *dev, void *dst, const void *src, size_t bytes, mx_error *err);
  MX_NODISCARD mx_status (*zero)(mx_device *dev, void *dst, size_t bytes, mx_error *err);
  MX_NODISCARD mx_status (*synchronize)(mx_device *dev, mx_error *err);
  MX_NODISCARD mx_status (*gemm)(mx_device *dev, const mx_gemm *g, mx_error *err);
} mx_device_ops;

struct mx_device {
  mx_device_kind kind;
  int id;
  const mx_device_ops *ops;
  void *impl; /* what the kind keeps: CUDA stream, library handles */
};

/* Devices live as long as the process; the same (kind, id) gives the same pointer. MX_ERR_DEVICE says what is missing.
 */
MX_NODISCARD mx_status mx_device_get(mx_device_kind kind, int id, mx_device **out, mx_error *err);
/* Number of usable devices of that kind (CPU: 1, though any id is accepted). */
int mx_device_count(mx_device_kind kind);

const char *mx_device_kind_name(mx_device_kind kind); /* "cpu", "gpu" */

/* Caching storage pool, per device: blocks of equal size class are reused. See core/pool.c. */
MX_NODISCARD mx_status mx_pool_alloc(mx_device *dev, size_t bytes, void **out, mx_error *err);
void mx_pool_free(mx_device *dev, void *block, size_t bytes);
void mx_pool_trim(void); /* gives cached blocks back to the system */

typedef struct mx_pool_stats {
  int64_t used_bytes;   /* in arrays that are alive */
  int64_t cached_bytes; /* kept for reuse */
  int64_t peak_bytes;   /* largest used_bytes so far */
  int64_t allocations;  /* calls of mx_pool_alloc so far */
  int64_t live_blocks;
} mx_pool_stats;
mx_pool_stats mx_pool_statistics(mx_device_kind kind);

#ifdef __cplusplus
}
#endif
#endif
