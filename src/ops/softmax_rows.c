/* Softmax along one axis. Classes that lie together (inner = 1) are reduced row by row; otherwise neighbouring inner
 * positions are vector lanes. Every row is summed by one thread in a fixed order. */
#include "ops/softmax_rows.h"

#include <math.h>

#include "core/thread.h"
#include "core/vmath.h"

enum { LANES = MX_SOFTMAX_LANES, EXP_COST = 8 /* one exponential counts as so many simple operations */ };

/* exp in the type of the sums: float for half and float. */
#define ACC(T) __typeof__((T)0 + 0.0f)

/* The exponentials are written and then scaled in place; half, which would be rounded twice, computes them again. */
MX_CLONES static void rows_contiguous(const void *x_, void *y_, int64_t rows, int64_t k, double factor, bool log_,
                                      mx_dtype dtype){MX_SWITCH_FLOAT(
    dtype, break,
    {
      typedef ACC(T) A;
      const T *x = x_;
      T *y = y_;
      const A f = (A)factor;
      for (int64_t i = 0; i < rows; i++, x += k, y += k) {
        A m = -INFINITY, sum = 0;
        _Pragma("omp simd reduction(max : m)") for (int64_t j = 0; j < k; j++) m = (A)x[j] * f > m ? (A)x[j] * f : m;
        if (log_) {
          _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) sum += mx_vexp((A)x[j] * f - m);
          A shift = m + (A)log((double)sum);
          _Pragma("omp simd") for (int64_t j = 0; j < k; j++) y[j] = (T)((A)x[j] * f - shift);
        } else if (sizeof(T) == sizeof(A)) {
          _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) {
            A e = mx_vexp((A)x[j] * f - m);
            y[j] = (T)e;
            sum += e;
          }
          A scale = (A)1 / sum;
          _Pragma("omp simd") for (int64_t j = 0; j < k; j++) y[j] *= (T)scale;
        } else {
          _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < k; j++) sum += mx_vexp((A)x[j] * f - m);
          A scale = (A)1 / sum;
          _Pragma("omp simd") for (int64_t j = 0; j < k; j++) y[j] = (T)(mx_vexp((A)x[j] * f - m) * scale);
        }
      }
    })}

/* `lanes` neighbouring inner positions; classes are `inner` elements apart. */
MX_CLONES static void rows_strided(const void *x_, void *y_, int64_t lanes, int64_t k, int64_t inner, double factor,
                                   bool log_, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    T *y = y_;
    const A f = (A)factor;
    A m[LANES];
    A sum[LANES];
    for (int64_t j = 0; j < lanes; j++) m[j] = -INFINITY, sum[j] = 0;
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) m[j] = (A)row[j] * f > m[j] ? (A)row[j] * f : m[j];
    }
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] += mx_vexp((A)row[j] * f - m[j]);
    }
    for (int64_t j = 0; j < lanes; j++) sum[j] = log_ ? m[j] + (A)log((double)sum[j]) : (A)1 / sum[j];
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      T *out = y + c * inner;
      if (log_) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) out[j] = (T)((A)row[j] * f - sum[j]);
      } else {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) out[j] = (T)(mx_vexp((A)row[j] * f - m[j]) * sum[j]);
      }
    }
  })
}

static void softmax(const void *x, void *y, mx_softmax_view v, bool log_, mx_dtype dtype) {
  int64_t size = v.outer * v.classes * v.inner;
  if (size == 0) return;
  size_t element = mx_dtype_size(dtype);
  const double factor = v.scale != 0 ? v.scale : 1;
  int threads = mx_threads_for(size * EXP_COST, MX_GRAIN);
  if (v.inner == 1) {
    const int64_t block = v.classes < 512 ? 512 / v.classes : 1, blocks = (v.outer + block - 1) / block;
#pragma omp parallel for num_threads(threads)
    for (int64_t b = 0; b < blocks; b++) {
      int64_t from = b * block, rows = v.outer - from < block ? v.outer - from : block;
      size_t at = (size_t)(from * v.classes) * element;
      rows_contiguous((const char *)x + at, (char *)y + at, rows, v.classes, factor, log_, dtype);
    }
    return;
  }
  const int64_t chunks = (v.inner + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads)
  for (int64_t b = 0; b < v.outer * chunks; b++) {
    int64_t from = b % chunks * LANES, lanes = v.inner - from < LANES ? v.inner - from : LANES;
    size_t at = (size_t)(b / chunks * v.classes * v.inner + from) * element;
    rows_strided((const char *)x + at, (char *)y + at, lanes, v.classes, v.inner, factor, log_, dtype);
  }
}

void mx_softmax_forward(const void *x, void *y, mx_softmax_view v, mx_dtype dtype) { softmax(x, y, v, false, dtype); }
void mx_log_softmax_forward(const void *x, void *y, mx_softmax_view v, mx_dtype dtype) {
  softmax(x, y, v, true, dtype);
}
