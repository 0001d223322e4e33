/* Reductions over axes: the driver that the operators of ops/reduce.c and others use. */
#ifndef MX_OPS_REDUCE_H
#define MX_OPS_REDUCE_H

#include "core/thread.h"
#include "ops/op.h"

enum {
#define REDUCTION(name, ...) MX_REDUCE_##name,
#include "ops/reduce.def"
  MX_REDUCE_COUNT
};

/* What is reduced: out[kept] = reduction of in[kept, reduced]. `in` is contiguous, `out` has the kept dimensions. */
typedef struct mx_reduce {
  int row;        /* MX_REDUCE_sum, ... */
  mx_shape shape; /* of the input */
  bool reduced[MX_MAX_NDIM];
  mx_dtype in_dtype, out_dtype; /* both floating-point or both integers */
} mx_reduce;

/* Scratch memory that mx_reduce_run needs. */
size_t mx_reduce_workspace(const mx_reduce *r);
/* Results do not depend on the number of threads. `shift` has one number per result for SHIFTED rows, else NULL. */
void mx_reduce_run(const mx_reduce *r, const void *in, void *out, bool add, const double *shift, void *workspace);

/* reduced[] from an `axis` parameter: none, or an empty tuple, is all axes; `exclude` turns the choice round. */
MX_NODISCARD mx_status mx_reduce_axes(const mx_shape *axis, bool exclude, int ndim, bool reduced[MX_MAX_NDIM],
                                      mx_error *err);
/* The shape that is left: without keepdims reduced axes vanish, and a full reduction has shape (1,). */
mx_shape mx_reduce_shape(const mx_shape *in, const bool reduced[MX_MAX_NDIM], bool keepdims);

/* Rows of `width` bytes, `stride` bytes apart, are fetched into the cache in the order of memory, some at a time, while
 * others are worked on side by side: reading 8 rows at once is slow where they come from memory. */
typedef struct mx_ahead {
  const char *row;
  int64_t at, width, stride;
} mx_ahead;
MX_INLINE mx_ahead mx_ahead_of(const void *row, int64_t width, int64_t stride, size_t size) {
  return (mx_ahead){.row = row, .width = width * (int64_t)size, .stride = stride * (int64_t)size};
}
MX_INLINE void mx_ahead_fetch(mx_ahead *a, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(a->row + a->at, 0, 2);
    a->at += 64;
    if (a->at >= a->width) a->at = 0, a->row += a->stride;
  }
}

#endif
