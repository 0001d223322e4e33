/* Conversion between element types: one vectorized loop per pair, in blocks that threads share. */
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

/* The compiler has no vector loop for these, the processor has. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define IN_EIGHTS(name, F, T, STEP)                                                      \
  __attribute__((target("avx,f16c"))) static int64_t name(const F *s, T *d, int64_t n) { \
    int64_t i = 0;                                                                       \
    for (; i + 8 <= n; i += 8) STEP;                                                     \
    return i;                                                                            \
  }
IN_EIGHTS(eights_to_half, float, mx_half,
          _mm_storeu_si128((__m128i *)(d + i), _mm256_cvtps_ph(_mm256_loadu_ps(s + i), _MM_FROUND_TO_NEAREST_INT)))
IN_EIGHTS(eights_from_half, mx_half, float,
          _mm256_storeu_ps(d + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(s + i)))))
#define EIGHTS(name, s, d, n) (__builtin_cpu_supports("f16c") ? name(s, d, n) : 0)
#else
#define EIGHTS(name, s, d, n) 0
#endif
static void halves_from_floats(const void *src, void *dst, int64_t n) {
  const int64_t done = EIGHTS(eights_to_half, src, dst, n);
  f4_to_f2((const float *)src + done, (mx_half *)dst + done, n - done);
}
static void floats_from_halves(const void *src, void *dst, int64_t n) {
  const int64_t done = EIGHTS(eights_from_half, src, dst, n);
  f2_to_f4((const mx_half *)src + done, (float *)dst + done, n - done);
}

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
    else if (from == MX_FLOAT32 && to == MX_FLOAT16)
      halves_from_floats(s, d, len);
    else if (from == MX_FLOAT16 && to == MX_FLOAT32)
      floats_from_halves(s, d, len);
    else
      table[from][to](s, d, len);
  }
}
