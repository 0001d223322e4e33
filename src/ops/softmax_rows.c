/* Softmax along one axis. Classes that lie together (inner = 1) are reduced row by row; otherwise neighbouring inner
 * positions are vector lanes. Every row is summed by one thread in a fixed order. */
/* no-trapping-math: both sides of a choice may be computed. O3: maxima stay in registers. */
#pragma GCC optimize("no-trapping-math", "O3")
#include "ops/softmax_rows.h"

#include <math.h>

#include "core/thread.h"
#include "core/vmath.h"

enum {
  LANES = MX_SOFTMAX_LANES,
  WIDE = 64,   /* maxima of a row, side by side */
  EXP_COST = 8 /* one exponential counts as so many simple operations */
};

/* exp in the type of the sums: float for half and float. */
#define ACC(T) __typeof__((T)0 + 0.0f)

/* The exponentials are written and then scaled in place; half, which would be rounded twice, computes them again. While
 * they are computed the next row is fetched. */
MX_CLONES static void rows_contiguous(const void *x_, void *y_, int64_t rows, int64_t k, double factor, bool log_,
                                      mx_dtype dtype){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      typedef ACC(T) A;
                      const T *x = x_;
                      T *y = y_;
                      const A f = (A)factor;
                      for (int64_t i = 0; i < rows; i++, x += k, y += k) {
                        A m = -INFINITY, sum = 0;
                        int64_t j = 0;
                        if (k >= WIDE) {
                          A part[WIDE];
                          for (int q = 0; q < WIDE; q++) part[q] = -INFINITY;
                          for (; j + WIDE <= k; j += WIDE) {
                            _Pragma("omp simd") for (int q = 0; q < WIDE; q++) {
                              A a = (A)x[j + q] * f;
                              part[q] = a > part[q] ? a : part[q];
                            }
                          }
                          for (int half = WIDE / 2; half > 0; half /= 2) {
                            _Pragma("omp simd") for (int q = 0; q < half; q++) part[q] =
                                part[q + half] > part[q] ? part[q + half] : part[q];
                          }
                          m = part[0];
                        }
                        for (; j < k; j++) m = (A)x[j] * f > m ? (A)x[j] * f : m;
                        for (int64_t from = 0; from < k; from += LANES) {
                          const int64_t to = from + LANES < k ? from + LANES : k;
                          for (int64_t q = from; q < to; q += 64 / (int)sizeof(T)) {
                            __builtin_prefetch(x + k + q, 0, 2);
                            if (log_) __builtin_prefetch(y + q, 1, 2);
                          }
                          if (sizeof(T) == sizeof(A) && !log_) {
                            _Pragma("omp simd reduction(+ : sum)") for (int64_t q = from; q < to; q++) {
                              A e = mx_vexp((A)x[q] * f - m);
                              y[q] = (T)e;
                              sum += e;
                            }
                          } else {
                            _Pragma("omp simd reduction(+ : sum)") for (int64_t q = from; q < to; q++) sum +=
                                mx_vexp((A)x[q] * f - m);
                          }
                        }
                        const A shift = m + (A)log((double)sum), scale = (A)1 / sum;
                        if (log_) {
                          _Pragma("omp simd") for (int64_t q = 0; q < k; q++) y[q] = (T)((A)x[q] * f - shift);
                        } else if (sizeof(T) == sizeof(A)) {
                          _Pragma("omp simd") for (int64_t q = 0; q < k; q++) y[q] *= (T)scale;
                        } else {
                          _Pragma("omp simd") for (int64_t q = 0; q < k; q++) y[q] =
                              (T)(mx_vexp((A)x[q] * f - m) * scale);
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
    const bool kept = sizeof(T) == sizeof(A) && !log_; /* exponentials, in y */
    A m[LANES];
    A sum[LANES];
    for (int64_t j = 0; j < lanes; j++) m[j] = -INFINITY, sum[j] = 0;
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) m[j] = (A)row[j] * f > m[j] ? (A)row[j] * f : m[j];
    }
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      T *out = y + c * inner;
      if (kept) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) {
          A e = mx_vexp((A)row[j] * f - m[j]);
          out[j] = (T)e;
          sum[j] += e;
        }
      } else {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] += mx_vexp((A)row[j] * f - m[j]);
      }
    }
    if (log_) {
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] = m[j] + mx_vlog(sum[j]);
    } else {
      _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) sum[j] = (A)1 / sum[j];
    }
    for (int64_t c = 0; c < k; c++) {
      const T *row = x + c * inner;
      T *out = y + c * inner;
      if (log_) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) out[j] = (T)((A)row[j] * f - sum[j]);
      } else if (kept) {
        _Pragma("omp simd") for (int64_t j = 0; j < lanes; j++) out[j] *= (T)sum[j];
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
