/* Ordering the elements of one row: the indices that sort it, or its first k in order. */
#ifndef MX_OPS_ORDER_H
#define MX_OPS_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/dtype.h"

/* Bytes of scratch memory for rows of n elements. */
size_t mx_order_bytes(int64_t n, mx_dtype dtype);

/* index[j] for j < k: where the j-th element of the sorted row x[0], x[stride], ... of n < 2^31 elements lies. Equal
 * elements keep their order in both directions; zeros are equal whatever their sign; NaNs are equal and larger than all
 * else. `threads` may share a large row. `scratch` has mx_order_bytes, aligned to 16. */
void mx_order_row(const void *x, mx_dtype dtype, int64_t n, int64_t stride, int64_t k, bool ascending, int threads,
                  void *scratch, int32_t *index);

#endif
