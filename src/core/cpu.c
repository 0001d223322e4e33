/* The CPU as a device: plain memory, matrix products by OpenBLAS. */
#include "core/cpu.h"

#include <cblas.h>
#include <string.h>

#include "core/memory.h"
#include "core/thread.h"

static void *cpu_alloc(mx_device *dev, size_t bytes) { return mx_malloc_aligned(bytes); }
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
  memset(dst, 0, bytes);
  return MX_OK;
}

static mx_status cpu_synchronize(mx_device *dev, mx_error *err) { return MX_OK; }

static void gemm_one(const mx_gemm *g, const char *a, const char *b, char *c) {
  CBLAS_TRANSPOSE ta = g->trans_a ? CblasTrans : CblasNoTrans, tb = g->trans_b ? CblasTrans : CblasNoTrans;
  blasint m = (blasint)g->m, n = (blasint)g->n, k = (blasint)g->k;
  blasint lda = (blasint)g->lda, ldb = (blasint)g->ldb, ldc = (blasint)g->ldc;
  if (g->dtype == MX_FLOAT64)
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, g->alpha, (const double *)a, lda, (const double *)b, ldb, g->beta,
                (double *)c, ldc);
  else
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, (float)g->alpha, (const float *)a, lda, (const float *)b, ldb,
                (float)g->beta, (float *)c, ldc);
}

/* A single row times a matrix is bound by memory: gemv reads each weight once, without packing. */
static bool gemv_one(const mx_gemm *g, const char *a, const char *b, char *c) {
  if (g->m != 1 || g->ldb > INT32_MAX) return false;
  blasint rows = (blasint)(g->trans_b ? g->n : g->k), cols = (blasint)(g->trans_b ? g->k : g->n);
  CBLAS_TRANSPOSE t = g->trans_b ? CblasNoTrans : CblasTrans;
  blasint inc = g->trans_a ? (blasint)g->lda : 1;
  if (g->dtype == MX_FLOAT64)
    cblas_dgemv(CblasRowMajor, t, rows, cols, g->alpha, (const double *)b, (blasint)g->ldb, (const double *)a, inc,
                g->beta, (double *)c, 1);
  else
    cblas_sgemv(CblasRowMajor, t, rows, cols, (float)g->alpha, (const float *)b, (blasint)g->ldb, (const float *)a, inc,
                (float)g->beta, (float *)c, 1);
  return true;
}

/* Half precision: computed in float, one element at a time. Rare on CPUs, so that clarity comes first. */
static void gemm_half(const mx_gemm *g, const mx_half *a, const mx_half *b, mx_half *c) {
#pragma omp parallel for num_threads(mx_threads_for(g->m * g->n * g->k, MX_GRAIN))
  for (int64_t i = 0; i < g->m; i++)
    for (int64_t j = 0; j < g->n; j++) {
      float sum = 0;
      for (int64_t p = 0; p < g->k; p++)
        sum += (float)a[g->trans_a ? p * g->lda + i : i * g->lda + p] * (float)b[g->trans_b ? j * g->ldb + p : p * g->ldb + j];
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
  mx_threads(); /* the first call tells OpenBLAS how many */
  for (int64_t i = 0; i < batch; i++) {
    const char *a = (const char *)g->a + (size_t)(i * g->stride_a) * size;
    const char *b = (const char *)g->b + (size_t)(i * g->stride_b) * size;
    char *c = (char *)g->c + (size_t)(i * g->stride_c) * size;
    if (g->k == 0)
      scale_only(g, c);
    else if (g->dtype == MX_FLOAT16)
      gemm_half(g, (const mx_half *)a, (const mx_half *)b, (mx_half *)c);
    else if (!gemv_one(g, a, b, c))
      gemm_one(g, a, b, c);
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
