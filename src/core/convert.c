/* Conversion between element types: one vectorized loop per pair, in blocks that threads share. */
#include <string.h>

#include "core/array.h"
#include "core/thread.h"

typedef void (*convert_block)(const void *src, void *dst, int64_t n);

#define DEFINE(from, F, to, T, expr)                                            \
  MX_CLONES static void from##_to_##to(const void *src, void *dst, int64_t n) { \
    const F *restrict s = src;                                                  \
    T *restrict d = dst;                                                        \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                       \
      F x = s[i];                                                               \
      d[i] = (expr);                                                            \
    }                                                                           \
  }
#define PLAIN(from, F, to, T) DEFINE(from, F, to, T, (T)x)
/* C leaves a negative or large floating-point number to a small unsigned integer undefined; going through int64 wraps.
 */
#define WRAP(from, F, to, T) DEFINE(from, F, to, T, (T)(int64_t)x)
#define TRUTH(from, F) DEFINE(from, F, b1, uint8_t, x != 0)

#define FROM_FLOAT(from, F)   \
  PLAIN(from, F, f4, float)   \
  PLAIN(from, F, f8, double)  \
  PLAIN(from, F, f2, mx_half) \
  WRAP(from, F, u1, uint8_t)  \
  WRAP(from, F, i4, int32_t) WRAP(from, F, i1, int8_t) PLAIN(from, F, i8, int64_t) TRUTH(from, F)
#define FROM_INT(from, F)                         \
  PLAIN(from, F, f4, float)                       \
  PLAIN(from, F, f8, double)                      \
  DEFINE(from, F, f2, mx_half, (mx_half)(float)x) \
  PLAIN(from, F, u1, uint8_t)                     \
  PLAIN(from, F, i4, int32_t) PLAIN(from, F, i1, int8_t) PLAIN(from, F, i8, int64_t) TRUTH(from, F)

FROM_FLOAT(f4, float)
FROM_FLOAT(f8, double)
FROM_FLOAT(f2, mx_half)
FROM_INT(u1, uint8_t)
FROM_INT(i4, int32_t)
FROM_INT(i1, int8_t)
FROM_INT(i8, int64_t)

#define ROW(from) \
  { from##_to_f4, from##_to_f8, from##_to_f2, from##_to_u1, from##_to_i4, from##_to_i1, from##_to_i8, from##_to_b1 }
static const convert_block table[MX_DTYPE_COUNT][MX_DTYPE_COUNT] = {ROW(f4), ROW(f8), ROW(f2), ROW(u1),
                                                                    ROW(i4), ROW(i1), ROW(i8), ROW(u1)};

void mx_convert(const void *src, mx_dtype from, void *dst, mx_dtype to, int64_t n) {
  size_t a = mx_dtype_size(from), b = mx_dtype_size(to);
  const int64_t block = 1 << 16, blocks = (n + block - 1) / block;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t i = 0; i < blocks; i++) {
    int64_t begin = i * block, len = n - begin < block ? n - begin : block;
    const char *s = (const char *)src + (size_t)begin * a;
    char *d = (char *)dst + (size_t)begin * b;
    if (from == to)
      memmove(d, s, (size_t)len * a);
    else
      table[from][to](s, d, len);
  }
}
