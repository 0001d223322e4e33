/* The CPU as a device: plain memory, matrix products by OpenBLAS. */
#include "core/cpu.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>
#ifdef MX_HAVE_DNNL
#include <dnnl.h>
#endif

#include "core/memory.h"
#include "core/thread.h"

static void *cpu_alloc(mx_device *dev, size_t bytes) {
  void *block = mx_malloc_aligned(bytes);
  if (block) mx_advise_large_pages(block, bytes);
  return block;
}
static void cpu_free(mx_device *dev, void *block) { mx_free_aligned(block); }

enum { COPY_GRAIN = 1 << 20 }; /* bytes a thread should copy at least */

static mx_status cpu_copy(mx_device *dev, void *dst, const void *src, size_t bytes, mx_error *err) {
  int threads = mx_threads_for((int64_t)bytes, COPY_GRAIN);
  if (threads == 1) {
    if (bytes) memmove(dst, src, bytes); /* empty arrays may come with a NULL buffer */
    return MX_OK;
  }
  const int64_t block = COPY_GRAIN, n = ((int64_t)bytes + block - 1) / block;
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < n; i++) {
    size_t from = (size_t)(i * block), len = bytes - from < (size_t)block ? bytes - from : (size_t)block;
    memcpy((char *)dst + from, (const char *)src + from, len);
  }
  return MX_OK;
}

static mx_status cpu_zero(mx_device *dev, void *dst, size_t bytes, mx_error *err) {
  int threads = mx_threads_for((int64_t)bytes, COPY_GRAIN);
  if (threads == 1) {
    if (bytes) memset(dst, 0, bytes);
    return MX_OK;
  }
  const int64_t block = COPY_GRAIN, n = ((int64_t)bytes + block - 1) / block;
#pragma omp parallel for num_threads(threads)
  for (int64_t i = 0; i < n; i++) {
    size_t from = (size_t)(i * block), len = bytes - from < (size_t)block ? bytes - from : (size_t)block;
    memset((char *)dst + from, 0, len);
  }
  return MX_OK;
}

static mx_status cpu_synchronize(mx_device *dev, mx_error *err) { return MX_OK; }

/* ---- matrix products ----
 *
 * A product is cut into tiles whose size depends on the product alone; OpenMP hands the tiles out, and each is computed
 * by a single-threaded call of the library. So the result does not depend on the number of threads (those of the
 * libraries do), and OpenBLAS's own threads never compete with OpenMP's for the cores. Single precision goes to oneDNN
 * where it is there: it knows more processors (measured: 1.5 to 3 times OpenBLAS 0.3.21 on one with AVX-512). */

typedef struct gemm_tiles {
  int64_t rows, cols; /* of a tile */
  int64_t down, across, batch;
} gemm_tiles;

static gemm_tiles cut(const mx_gemm *g, int64_t batch) {
  const double small = g->m == 1 ? 1e5 : 2e6; /* multiplications that repay a tile */
  /* The libraries are slower on tiles narrower than `wide`: only a few tiles are worth that. */
  const int64_t many = 64, few = 8, wide = 128, narrow = 32, unit = 16;
  gemm_tiles t = {.rows = g->m, .cols = g->n, .down = 1, .across = 1, .batch = batch};
  for (;;) {
    const int64_t tiles = t.down * t.across * batch;
    int64_t *side = t.cols >= t.rows ? &t.cols : &t.rows;
    if (tiles >= many || (double)t.rows * (double)t.cols * (double)g->k <= small) return t;
    if (*side <= (tiles < few ? narrow : wide)) return t;
    *side = ((*side + 1) / 2 + unit - 1) / unit * unit;
    t.down = (g->m + t.rows - 1) / t.rows;
    t.across = (g->n + t.cols - 1) / t.cols;
  }
}

/* One column times one row, which lies in one piece: the libraries take as long as for a few more. */
#define OUTER(T)                                                                                          \
  MX_CLONES static void outer_##T(const mx_gemm *g, int64_t m, int64_t n, const T *a, const T *b, T *c) { \
    const T beta = (T)g->beta;                                                                            \
    for (int64_t i = 0; i < m; i++, c += g->ldc) {                                                        \
      const T x = (T)g->alpha * a[g->trans_a ? i : i * g->lda];                                           \
      if (beta == 0) {                                                                                    \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) c[j] = x * b[j];                              \
      } else {                                                                                            \
        _Pragma("omp simd") for (int64_t j = 0; j < n; j++) c[j] = x * b[j] + beta * c[j];                \
      }                                                                                                   \
    }                                                                                                     \
  }
OUTER(float)
OUTER(double)
static bool is_outer(const mx_gemm *g) { return g->k == 1 && (!g->trans_b || g->ldb == 1); }

static void sgemm(const mx_gemm *g, int64_t m, int64_t n, const float *a, const float *b, float *c) {
  CBLAS_TRANSPOSE ta = g->trans_a ? CblasTrans : CblasNoTrans, tb = g->trans_b ? CblasTrans : CblasNoTrans;
  float alpha = (float)g->alpha, beta = (float)g->beta;
  blasint k = (blasint)g->k, lda = (blasint)g->lda, ldb = (blasint)g->ldb, ldc = (blasint)g->ldc;
  if (is_outer(g)) {
    outer_float(g, m, n, a, b, c);
    return;
  }
  if (m == 1) { /* bound by memory: reads each weight once, without packing */
    cblas_sgemv(CblasRowMajor, g->trans_b ? CblasNoTrans : CblasTrans, (blasint)(g->trans_b ? n : k),
                (blasint)(g->trans_b ? k : n), alpha, b, ldb, a, g->trans_a ? lda : 1, beta, c, 1);
    return;
  }
#ifdef MX_HAVE_DNNL
  if (dnnl_sgemm(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) ==
      dnnl_success)
    return;
#endif
  cblas_sgemm(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static void dgemm(const mx_gemm *g, int64_t m, int64_t n, const double *a, const double *b, double *c) {
  CBLAS_TRANSPOSE ta = g->trans_a ? CblasTrans : CblasNoTrans, tb = g->trans_b ? CblasTrans : CblasNoTrans;
  if (is_outer(g)) {
    outer_double(g, m, n, a, b, c);
    return;
  }
  cblas_dgemm(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, (blasint)g->k, g->alpha, a, (blasint)g->lda, b,
              (blasint)g->ldb, g->beta, c, (blasint)g->ldc);
}

/* Small products, whose time would go into the calls: B is packed into panels of a vector's width, and sums of four
 * rows of a panel are kept in registers. */
enum { SMALL_EDGE = 16 };
typedef float small_float8 __attribute__((vector_size(32), aligned(4)));
typedef float small_float16 __attribute__((vector_size(64), aligned(4)));
typedef double small_double8 __attribute__((vector_size(64), aligned(8)));
#define SMALL_GEMM(T, W)                                                                                         \
  MX_CLONES static void small_gemm_##T##W(const mx_gemm *g, const T *a, const T *b, T *c) {                      \
    typedef small_##T##W V;                                                                                      \
    const int64_t m = g->m, n = g->n, k = g->k, down = g->trans_a ? 1 : g->lda, along = g->trans_a ? g->lda : 1; \
    const T alpha = (T)g->alpha, beta = (T)g->beta;                                                              \
    for (int64_t from = 0; from < n; from += W) {                                                                \
      const int64_t width = n - from < W ? n - from : W;                                                         \
      const bool whole = width == W;                                                                             \
      T panel[SMALL_EDGE][W] __attribute__((aligned(64)));                                                       \
      for (int64_t p = 0; p < k; p++) {                                                                          \
        const T *row = b + (g->trans_b ? from * g->ldb + p : p * g->ldb + from);                                 \
        if (whole && !g->trans_b)                                                                                \
          *(V *)panel[p] = *(const V *)row;                                                                      \
        else                                                                                                     \
          _Pragma("GCC unroll 8") for (int j = 0; j < W; j++) panel[p][j] =                                      \
              j < width ? row[g->trans_b ? j * g->ldb : j] : 0;                                                  \
      }                                                                                                          \
      for (int64_t i = 0; i < m; i += 4) {                                                                       \
        const int64_t rows = m - i < 4 ? m - i : 4;                                                              \
        const T *a0 = a + i * down, *a1 = rows > 1 ? a0 + down : a0;                                             \
        const T *a2 = rows > 2 ? a1 + down : a0, *a3 = rows > 3 ? a2 + down : a0;                                \
        V s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};                                                                \
        for (int64_t p = 0; p < k; p++) {                                                                        \
          const V line = *(const V *)panel[p];                                                                   \
          s0 += a0[p * along] * line;                                                                            \
          s1 += a1[p * along] * line;                                                                            \
          s2 += a2[p * along] * line;                                                                            \
          s3 += a3[p * along] * line;                                                                            \
        }                                                                                                        \
        const V sums[4] = {s0, s1, s2, s3};                                                                      \
        for (int64_t r = 0; r < rows; r++) {                                                                     \
          T *to = c + (i + r) * g->ldc + from;                                                                   \
          if (whole)                                                                                             \
            *(V *)to = beta != 0 ? alpha * sums[r] + beta * *(V *)to : alpha * sums[r];                          \
          else                                                                                                   \
            for (int64_t j = 0; j < width; j++) to[j] = alpha * sums[r][j] + (beta != 0 ? beta * to[j] : 0);     \
        }                                                                                                        \
      }                                                                                                          \
    }                                                                                                            \
  }
SMALL_GEMM(float, 8)
SMALL_GEMM(float, 16)
SMALL_GEMM(double, 8)

static bool is_small(const mx_gemm *g) { return g->m <= SMALL_EDGE && g->n <= SMALL_EDGE && g->k <= SMALL_EDGE; }

static void gemm_tile(const mx_gemm *g, const gemm_tiles *t, int64_t index) {
  int64_t batch = index / (t->down * t->across), tile = index % (t->down * t->across);
  int64_t i = tile / t->across * t->rows, j = tile % t->across * t->cols;
  int64_t m = g->m - i < t->rows ? g->m - i : t->rows, n = g->n - j < t->cols ? g->n - j : t->cols;
  int64_t a = batch * g->stride_a + (g->trans_a ? i : i * g->lda);
  int64_t b = batch * g->stride_b + (g->trans_b ? j * g->ldb : j);
  int64_t c = batch * g->stride_c + i * g->ldc + j;
  const bool small = is_small(g);
  if (small && g->dtype == MX_FLOAT64)
    small_gemm_double8(g, (const double *)g->a + a, (const double *)g->b + b, (double *)g->c + c);
  else if (small)
    (g->n > 8 ? small_gemm_float16 : small_gemm_float8)(g, (const float *)g->a + a, (const float *)g->b + b,
                                                        (float *)g->c + c);
  else if (g->dtype == MX_FLOAT64)
    dgemm(g, m, n, (const double *)g->a + a, (const double *)g->b + b, (double *)g->c + c);
  else
    sgemm(g, m, n, (const float *)g->a + a, (const float *)g->b + b, (float *)g->c + c);
}

static void gemm_tiled(const mx_gemm *g, int64_t batch) {
  gemm_tiles t = cut(g, batch);
  int64_t tiles = t.down * t.across * t.batch;
  double work = (double)g->m * (double)g->n * (double)g->k * (double)batch;
  int threads = mx_threads_for_work(work, 1 << 17);
  if (threads > tiles) threads = (int)tiles;
  if (is_small(g) && threads == 1) { /* even a region of one thread would take longer */
    for (int64_t i = 0; i < tiles; i++) gemm_tile(g, &t, i);
    return;
  }
  /* One thread for each call: OpenBLAS counts by itself, oneDNN asks OpenMP. */
  int blas_threads = mx_blas_hold(), omp_threads = omp_get_max_threads();
  sigset_t signals;
  mx_signals_hold(&signals);
  if (threads > 1) {
#pragma omp parallel num_threads(threads)
    {
      mx_signals_block_worker();
#pragma omp for schedule(dynamic, 1 + tiles / 256)
      for (int64_t i = 0; i < tiles; i++) gemm_tile(g, &t, i);
    }
  } else {
    omp_set_num_threads(1);
    for (int64_t i = 0; i < tiles; i++) gemm_tile(g, &t, i);
    omp_set_num_threads(omp_threads);
  }
  mx_blas_release(blas_threads);
  mx_signals_release(&signals);
}

/* Half precision: computed in float, one element at a time. Rare on CPUs, so that clarity comes first. */
static void gemm_half(const mx_gemm *g, const mx_half *a, const mx_half *b, mx_half *c) {
#pragma omp parallel for num_threads(mx_threads_for(g->m * g->n * g->k, MX_GRAIN))
  for (int64_t i = 0; i < g->m; i++)
    for (int64_t j = 0; j < g->n; j++) {
      float sum = 0;
      for (int64_t p = 0; p < g->k; p++)
        sum += (float)a[g->trans_a ? p * g->lda + i : i * g->lda + p] *
               (float)b[g->trans_b ? j * g->ldb + p : p * g->ldb + j];
      mx_half *d = c + i * g->ldc + j;
      *d = (mx_half)((float)g->alpha * sum + (g->beta != 0 ? (float)g->beta * (float)*d : 0.0f));
    }
}

/* beta = 0 must not read C (it may hold NaN), and BLAS refuses empty products. */
static void scale_only(const mx_gemm *g, char *c) {
  size_t size = mx_dtype_size(g->dtype);
  for (int64_t i = 0; i < g->m; i++) {
    char *row = c + (size_t)(i * g->ldc) * size;
    if (g->beta == 0) {
      memset(row, 0, (size_t)g->n * size);
      continue;
    }
    MX_SWITCH_FLOAT(g->dtype, break, {
      T *r = (T *)row;
      for (int64_t j = 0; j < g->n; j++) r[j] = (T)(g->beta * (double)r[j]);
    })
  }
}

static mx_status cpu_gemm(mx_device *dev, const mx_gemm *g, mx_error *err) {
  if (!mx_dtype_is_float(g->dtype))
    return mx_fail(err, MX_ERR_TYPE, "A matrix product needs a floating-point type, but the arrays are %s.",
                   mx_dtype_name(g->dtype));
  const int64_t limit = INT32_MAX;
  if (g->m > limit || g->n > limit || g->k > limit || g->lda > limit || g->ldb > limit || g->ldc > limit)
    return mx_fail(err, MX_ERR_SHAPE, "A matrix product of %lld x %lld x %lld is too large: each must be below 2^31.",
                   (long long)g->m, (long long)g->k, (long long)g->n);
  size_t size = mx_dtype_size(g->dtype);
  int64_t batch = g->batch > 1 ? g->batch : 1;
  if (g->m == 0 || g->n == 0) return MX_OK;
  if (g->k > 0 && g->dtype != MX_FLOAT16) {
    gemm_tiled(g, batch);
    return MX_OK;
  }
  for (int64_t i = 0; i < batch; i++) {
    const char *a = (const char *)g->a + (size_t)(i * g->stride_a) * size;
    const char *b = (const char *)g->b + (size_t)(i * g->stride_b) * size;
    char *c = (char *)g->c + (size_t)(i * g->stride_c) * size;
    if (g->k == 0)
      scale_only(g, c);
    else
      gemm_half(g, (const mx_half *)a, (const mx_half *)b, (mx_half *)c);
  }
  return MX_OK;
}

const mx_device_ops mx_cpu_ops = {.alloc = cpu_alloc,
                                  .free = cpu_free,
                                  .copy_in = cpu_copy,
                                  .copy_out = cpu_copy,
                                  .copy = cpu_copy,
                                  .zero = cpu_zero,
                                  .synchronize = cpu_synchronize,
                                  .gemm = cpu_gemm};
