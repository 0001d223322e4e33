/* Sums for the normalizing layers, in one pass each: rounded in short stretches and added up in double, in an order
 * that depends on the shape only. Single-threaded: callers share out groups. */
#ifndef MX_OPS_MOMENTS_H
#define MX_OPS_MOMENTS_H

#include "core/dtype.h"
#include "core/thread.h"

/* The type of sums of a T: float for half and float. */
#define MX_ACC(T) __typeof__((T)0 + 0.0f)

enum { MX_LANES = 64 };

/* A group whose elements are `rows` stretches of `width` neighbours, `stride` apart. */
typedef struct mx_group {
  int64_t rows, stride, width;
} mx_group;

/* Sum of (x - center), or of its square. */
double mx_group_sum(mx_dtype dtype, const void *x, mx_group g, double center, bool square);
/* Sums of dy and of dy * (x - center). */
void mx_group_gradient(mx_dtype dtype, const void *x, const void *dy, mx_group g, double center, double *sum_dy,
                       double *sum_dyx);

/* The same for up to MX_LANES groups that lie side by side: group j has the elements x[r * stride + j]. `center` may be
 * NULL (zero). */
void mx_lanes_sum(mx_dtype dtype, const void *x, int64_t rows, int64_t stride, int64_t lanes, const double *center,
                  bool square, double *sum);
void mx_lanes_gradient(mx_dtype dtype, const void *x, const void *dy, int64_t rows, int64_t stride, int64_t lanes,
                       const double *center, double *sum_dy, double *sum_dyx);

/* y = a * dy + b * (x - center) + c. */
typedef struct mx_affine {
  double a, b, c, center;
} mx_affine;
/* For a group, and for lanes (with `f` per lane). Where a or b is 0 the array is not read: give any. y may be x or dy.
 */
void mx_group_affine(mx_dtype dtype, const void *x, const void *dy, void *y, mx_group g, mx_affine f);
void mx_lanes_affine(mx_dtype dtype, const void *x, const void *dy, void *y, int64_t rows, int64_t stride,
                     int64_t lanes, const mx_affine *f);

#endif
