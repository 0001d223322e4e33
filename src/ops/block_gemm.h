/* Matrix products of blocks that lie in the caches, for kernels that work on tiles inside a parallel region, where BLAS
 * cannot be called: C = A B or C += A B. B is packed into panels; A has any strides.
 *
 * A panel is two vectors of 64 bytes wide: all rows of B, MX_PANEL(T) columns of them. Columns that B does not have are
 * zeros. C has rows of ldc elements, a multiple of the panel, aligned to 64 bytes: whole panels are written. */
#ifndef MX_OPS_BLOCK_GEMM_H
#define MX_OPS_BLOCK_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/thread.h"

#define MX_PANEL(T) ((int64_t)(128 / sizeof(T)))
#define MX_PANEL_ROUND(n, T) (((n) + MX_PANEL(T) - 1) / MX_PANEL(T) * MX_PANEL(T))

typedef float mx_vector_float __attribute__((vector_size(64)));
typedef double mx_vector_double __attribute__((vector_size(64)));

/* Rows of C that share the loads of B: 4 rows of 2 vectors keep 8 sums in registers. */
#define MX_BLOCK_GEMM(T, V)                                                                                    \
  /* R rows of a panel. a: element (r, p) is a[r * rs + p * cs]. */                                            \
  MX_INLINE void block_rows4_##T(int64_t k, const T *a, int64_t rs, int64_t cs, const T *b, T *c, int64_t ldc, \
                                 bool add) {                                                                   \
    V s[4][2] = {{{0}}};                                                                                       \
    const V *panel = (const V *)b;                                                                             \
    for (int64_t p = 0; p < k; p++, a += cs, panel += 2) {                                                     \
      V b0 = panel[0], b1 = panel[1];                                                                          \
      s[0][0] += a[0] * b0, s[0][1] += a[0] * b1;                                                              \
      s[1][0] += a[rs] * b0, s[1][1] += a[rs] * b1;                                                            \
      s[2][0] += a[2 * rs] * b0, s[2][1] += a[2 * rs] * b1;                                                    \
      s[3][0] += a[3 * rs] * b0, s[3][1] += a[3 * rs] * b1;                                                    \
    }                                                                                                          \
    for (int r = 0; r < 4; r++) {                                                                              \
      V *out = (V *)(c + r * ldc);                                                                             \
      out[0] = add ? out[0] + s[r][0] : s[r][0];                                                               \
      out[1] = add ? out[1] + s[r][1] : s[r][1];                                                               \
    }                                                                                                          \
  }                                                                                                            \
  MX_INLINE void block_rows1_##T(int64_t k, const T *a, int64_t cs, const T *b, T *c, bool add) {              \
    V s0 = {0}, s1 = {0};                                                                                      \
    const V *panel = (const V *)b;                                                                             \
    for (int64_t p = 0; p < k; p++, a += cs, panel += 2) s0 += a[0] * panel[0], s1 += a[0] * panel[1];         \
    V *out = (V *)c;                                                                                           \
    out[0] = add ? out[0] + s0 : s0;                                                                           \
    out[1] = add ? out[1] + s1 : s1;                                                                           \
  }                                                                                                            \
  MX_CLONES static void block_gemm_##T(int64_t m, int64_t n, int64_t k, const T *a, int64_t rs, int64_t cs,    \
                                       const T *b, T *c, int64_t ldc, bool add) {                              \
    for (int64_t j = 0; j < n; j += MX_PANEL(T), b += k * MX_PANEL(T)) {                                       \
      int64_t i = 0;                                                                                           \
      for (; i + 4 <= m; i += 4) block_rows4_##T(k, a + i * rs, rs, cs, b, c + i * ldc + j, ldc, add);         \
      for (; i < m; i++) block_rows1_##T(k, a + i * rs, cs, b, c + i * ldc + j, add);                          \
    }                                                                                                          \
  }                                                                                                            \
  /* B (k x n): element (p, j) is b[p * rs + j * cs]. `out` holds k * MX_PANEL_ROUND(n, T) elements. */        \
  MX_CLONES static void block_pack_##T(int64_t k, int64_t n, const T *b, int64_t rs, int64_t cs, T *out) {     \
    for (int64_t j = 0; j < n; j += MX_PANEL(T)) {                                                             \
      int64_t width = n - j < MX_PANEL(T) ? n - j : MX_PANEL(T);                                               \
      for (int64_t p = 0; p < k; p++, out += MX_PANEL(T)) {                                                    \
        for (int64_t q = 0; q < width; q++) out[q] = b[p * rs + (j + q) * cs];                                 \
        for (int64_t q = width; q < MX_PANEL(T); q++) out[q] = 0;                                              \
      }                                                                                                        \
    }                                                                                                          \
  }
MX_BLOCK_GEMM(float, mx_vector_float)
MX_BLOCK_GEMM(double, mx_vector_double)

#endif
