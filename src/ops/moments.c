/* Sums for the normalizing layers. Values are added to MX_LANES partial sums at most FLUSH times, then these go to
 * double: as fast as memory delivers, and accurate for any size. */
#include "ops/moments.h"

enum { FLUSH = 64 };

/* Runs BODY for lanes j of a stretch of n: the full width is a loop of known length. */
#define LANE_LOOP(n, ...)                                                      \
  if ((n) == MX_LANES) {                                                       \
    _Pragma("omp simd") for (int64_t j = 0; j < MX_LANES; j++) { __VA_ARGS__ } \
  } else {                                                                     \
    _Pragma("omp simd") for (int64_t j = 0; j < (n); j++) { __VA_ARGS__ }      \
  }

MX_CLONES double mx_group_sum(mx_dtype dtype, const void *x_, mx_group g, double center, bool square) {
  double total = 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    A lane[MX_LANES] = {0}, c = (A)center;
    int adds = 0;
    for (int64_t r = 0; r < g.rows; r++)
      for (int64_t i = 0; i < g.width; i += MX_LANES) {
        const T *x = (const T *)x_ + r * g.stride + i;
        const int64_t n = g.width - i < MX_LANES ? g.width - i : MX_LANES;
        if (square) {
          LANE_LOOP(n, A d = (A)x[j] - c; lane[j] += d * d;)
        } else {
          LANE_LOOP(n, lane[j] += (A)x[j] - c;)
        }
        if (++adds < FLUSH) continue;
        for (int j = 0; j < MX_LANES; j++) total += lane[j], lane[j] = 0;
        adds = 0;
      }
    for (int j = 0; j < MX_LANES; j++) total += lane[j];
  })
  return total;
}

MX_CLONES void mx_group_gradient(mx_dtype dtype, const void *x_, const void *dy_, mx_group g, double center,
                                 double *sum_dy, double *sum_dyx) {
  double total = 0, total_x = 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    A lane[MX_LANES] = {0}, lane_x[MX_LANES] = {0}, c = (A)center;
    int adds = 0;
    for (int64_t r = 0; r < g.rows; r++)
      for (int64_t i = 0; i < g.width; i += MX_LANES) {
        const T *x = (const T *)x_ + r * g.stride + i, *dy = (const T *)dy_ + r * g.stride + i;
        const int64_t n = g.width - i < MX_LANES ? g.width - i : MX_LANES;
        LANE_LOOP(n, lane[j] += (A)dy[j]; lane_x[j] += (A)dy[j] * ((A)x[j] - c);)
        if (++adds < FLUSH) continue;
        for (int j = 0; j < MX_LANES; j++) total += lane[j], total_x += lane_x[j], lane[j] = lane_x[j] = 0;
        adds = 0;
      }
    for (int j = 0; j < MX_LANES; j++) total += lane[j], total_x += lane_x[j];
  })
  *sum_dy = total;
  *sum_dyx = total_x;
}

MX_CLONES void mx_lanes_sum(mx_dtype dtype, const void *x_, int64_t rows, int64_t stride, int64_t lanes,
                            const double *center, bool square, double *sum) {
  for (int64_t j = 0; j < lanes; j++) sum[j] = 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    A c[MX_LANES];
    for (int64_t j = 0; j < lanes; j++) c[j] = center ? (A)center[j] : 0;
    for (int64_t from = 0; from < rows; from += FLUSH) {
      A lane[MX_LANES] = {0};
      const int64_t to = from + FLUSH < rows ? from + FLUSH : rows;
      for (int64_t r = from; r < to; r++) {
        const T *x = (const T *)x_ + r * stride;
        if (square) {
          LANE_LOOP(lanes, A d = (A)x[j] - c[j]; lane[j] += d * d;)
        } else {
          LANE_LOOP(lanes, lane[j] += (A)x[j] - c[j];)
        }
      }
      for (int64_t j = 0; j < lanes; j++) sum[j] += lane[j];
    }
  })
}

MX_CLONES void mx_lanes_gradient(mx_dtype dtype, const void *x_, const void *dy_, int64_t rows, int64_t stride,
                                 int64_t lanes, const double *center, double *sum_dy, double *sum_dyx) {
  for (int64_t j = 0; j < lanes; j++) sum_dy[j] = sum_dyx[j] = 0;
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    A c[MX_LANES];
    for (int64_t j = 0; j < lanes; j++) c[j] = (A)center[j];
    for (int64_t from = 0; from < rows; from += FLUSH) {
      A lane[MX_LANES] = {0}, lane_x[MX_LANES] = {0};
      const int64_t to = from + FLUSH < rows ? from + FLUSH : rows;
      for (int64_t r = from; r < to; r++) {
        const T *x = (const T *)x_ + r * stride, *dy = (const T *)dy_ + r * stride;
        LANE_LOOP(lanes, lane[j] += (A)dy[j]; lane_x[j] += (A)dy[j] * ((A)x[j] - c[j]);)
      }
      for (int64_t j = 0; j < lanes; j++) sum_dy[j] += lane[j], sum_dyx[j] += lane_x[j];
    }
  })
}

MX_CLONES void mx_group_affine(mx_dtype dtype, const void *x_, const void *dy_, void *y_, mx_group g, mx_affine f){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      typedef MX_ACC(T) A;
                      const A a = (A)f.a, b = (A)f.b, c = (A)f.c, center = (A)f.center;
                      for (int64_t r = 0; r < g.rows; r++) {
                        const T *x = (const T *)x_ + r * g.stride, *dy = (const T *)dy_ + r * g.stride;
                        T *y = (T *)y_ + r * g.stride;
                        if (f.a == 0) {
                          _Pragma("omp simd") for (int64_t j = 0; j < g.width; j++) y[j] =
                              (T)(b * ((A)x[j] - center) + c);
                        } else if (f.b == 0) {
                          _Pragma("omp simd") for (int64_t j = 0; j < g.width; j++) y[j] = (T)(a * (A)dy[j] + c);
                        } else {
                          _Pragma("omp simd") for (int64_t j = 0; j < g.width; j++) y[j] =
                              (T)(a * (A)dy[j] + b * ((A)x[j] - center) + c);
                        }
                      }
                    })}

MX_CLONES void mx_lanes_affine(mx_dtype dtype, const void *x_, const void *dy_, void *y_, int64_t rows, int64_t stride,
                               int64_t lanes, const mx_affine *f) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef MX_ACC(T) A;
    A a[MX_LANES], b[MX_LANES], c[MX_LANES], center[MX_LANES];
    bool no_dy = true, no_x = true;
    for (int64_t j = 0; j < lanes; j++) {
      a[j] = (A)f[j].a, b[j] = (A)f[j].b, c[j] = (A)f[j].c, center[j] = (A)f[j].center;
      no_dy = no_dy && f[j].a == 0, no_x = no_x && f[j].b == 0;
    }
    for (int64_t r = 0; r < rows; r++) {
      const T *x = (const T *)x_ + r * stride, *dy = (const T *)dy_ + r * stride;
      T *y = (T *)y_ + r * stride;
      if (no_dy) {
        LANE_LOOP(lanes, y[j] = (T)(b[j] * ((A)x[j] - center[j]) + c[j]);)
      } else if (no_x) {
        LANE_LOOP(lanes, y[j] = (T)(a[j] * (A)dy[j] + c[j]);)
      } else {
        LANE_LOOP(lanes, y[j] = (T)(a[j] * (A)dy[j] + b[j] * ((A)x[j] - center[j]) + c[j]);)
      }
    }
  })
}
