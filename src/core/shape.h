/* Shapes: dimensions in native order, the last one runs fastest (row-major). R's `dim` is the reverse. */
#ifndef MX_CORE_SHAPE_H
#define MX_CORE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MX_MAX_NDIM 12
#define MX_DIM_UNKNOWN (-1)

/* ndim -1: nothing is known. A dimension of -1: not known yet. A dimension of 0: no elements. */
typedef struct mx_shape {
  int ndim;
  int64_t dim[MX_MAX_NDIM];
} mx_shape;

#define MX_SHAPE_UNKNOWN ((mx_shape){.ndim = -1})

/* mx_shape_of(2, 3, 4): built from its arguments. */
#define mx_shape_of(...) \
  mx_shape_make((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})
mx_shape mx_shape_make(int ndim, const int64_t *dim);

bool mx_shape_known(const mx_shape *s); /* every dimension is known */
bool mx_shape_equal(const mx_shape *a, const mx_shape *b);
int64_t mx_shape_size(const mx_shape *s);                   /* number of elements; 1 for ndim 0. s must be known */
int64_t mx_shape_prod(const mx_shape *s, int from, int to); /* of dim[from..to); INT64_MAX at most */

/* The number of elements times `element` bytes fits into 2^62; otherwise MX_ERR_SHAPE. */
MX_NODISCARD mx_status mx_shape_check_size(const mx_shape *s, size_t element, mx_error *err);

/* Merges `from` into `into`: unknown parts are filled, known ones must agree (else MX_ERR_SHAPE; expected/actual set).
 * `what` names the array in the message: "data", "weight". */
MX_NODISCARD mx_status mx_shape_merge(mx_shape *into, const mx_shape *from, const char *what, mx_error *err);

/* 0 <= result < ndim for axis in [-ndim, ndim); otherwise MX_ERR_VALUE. */
MX_NODISCARD mx_status mx_axis_resolve(int64_t axis, int ndim, int *out, mx_error *err);

/* The shape of a broadcast of a and b (NumPy's rule). Both known. MX_ERR_SHAPE when they do not fit. */
MX_NODISCARD mx_status mx_shape_broadcast(const mx_shape *a, const mx_shape *b, mx_shape *out, mx_error *err);

/* Row-major strides in elements. */
void mx_shape_strides(const mx_shape *s, int64_t strides[MX_MAX_NDIM]);

/* "(2,3)", "(2,)", "()" or "unknown", into buf; returns buf. MX_SHAPE_TEXT bytes are always enough. */
#define MX_SHAPE_TEXT 288
const char *mx_shape_text(const mx_shape *s, char buf[MX_SHAPE_TEXT]);

#ifdef __cplusplus
}
#endif
#endif
