/* Softmax along one axis, for the operators that contain one. */
#ifndef MX_OPS_SOFTMAX_ROWS_H
#define MX_OPS_SOFTMAX_ROWS_H

#include "core/dtype.h"

/* An array of native shape (outer, classes, inner): for every outer and inner index, over the classes. */
typedef struct mx_softmax_view {
  int64_t outer, classes, inner;
  double scale; /* x is multiplied with it first; 0 means 1 */
} mx_softmax_view;

enum { MX_SOFTMAX_LANES = 256 }; /* inner positions that are worked on side by side */

/* y = exp(x) / sum of exp(x), shifted by the maximum. y may be x. */
void mx_softmax_forward(const void *x, void *y, mx_softmax_view v, mx_dtype dtype);
/* y = x - log(sum of exp(x)). y may be x. */
void mx_log_softmax_forward(const void *x, void *y, mx_softmax_view v, mx_dtype dtype);

#endif
