/* Copies between strided views of memory: what transposes, slices, concatenations, tilings and reversals have in
 * common. */
#ifndef MX_OPS_STRIDED_H
#define MX_OPS_STRIDED_H

#include <stddef.h>
#include <stdint.h>

#include "core/shape.h"

#define MX_STRIDED_NDIM (2 * MX_MAX_NDIM) /* some operators split every dimension in two */

/* A block of dim[0] x ... x dim[ndim-1] elements, last dimension first to run. Strides are in elements; those of the
 * source may be zero or negative, those of the destination never let two elements meet. */
typedef struct mx_strided {
  int ndim;
  int64_t dim[MX_STRIDED_NDIM];
  int64_t src[MX_STRIDED_NDIM];
  int64_t dst[MX_STRIDED_NDIM];
} mx_strided;

/* dst[sum of i * s->dst] = src[sum of i * s->src] for every index i of the block; `element` is 1, 2, 4 or 8 bytes. The
 * views must not overlap. Parallel when the block is large. */
void mx_strided_copy(const mx_strided *s, size_t element, const void *src, void *dst);

#endif
