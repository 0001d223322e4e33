/* Linear algebra on stacks of square matrices that takes LAPACK: Cholesky, LQ, eigenvalues, inverse, determinant.
 *
 * LAPACK counts columns first. A row-major matrix is to it the transposed one, so that our lower triangle is its upper
 * one, a factorization A = L Q is its A' = Q' L', and eigenvectors come out as rows. */
#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "ops/linalg.h"

#define FAMILY "Linear algebra"

/* ---- stacks ---- */

enum { STACK_GRAIN = 1 << 16 };
static int at_most(int threads, int64_t count) { return threads < count ? threads : count > 0 ? (int)count : 1; }

size_t mx_stack_bytes(int64_t count, double cost, size_t each) {
  return (size_t)at_most(mx_threads_at_most(mx_work((double)count * cost), STACK_GRAIN), count) * each;
}

mx_status mx_stack_run(const mx_call *c, int64_t count, double cost, size_t each, mx_matrix_step step, mx_error *err) {
  int threads = at_most(mx_threads_for_work((double)count * cost, STACK_GRAIN), count);
  mx_status status = MX_OK;
  int64_t failed = count;
  if (each > 0 && (size_t)threads > c->workspace_bytes / each) threads = (int)(c->workspace_bytes / each);
  const int held = mx_blas_hold();
  /* Steps have regions of their own, which are slow within another, be it of one thread. */
  for (int64_t i = 0; i < count && threads == 1 && status == MX_OK; i++) status = step(c, i, c->workspace, err);
  if (threads > 1) {
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < count; i++) {
      mx_error e;
      const mx_status s = step(c, i, (char *)c->workspace + (size_t)omp_get_thread_num() * each, &e);
      if (s != MX_OK) {
#pragma omp critical
        if (i < failed) failed = i, status = s, *err = e;
      }
    }
  }
  mx_blas_release(held);
  return status;
}

typedef blasint lint;
/* Lengths of character arguments come last, as Fortran compilers pass them. */
#define LAPACK_FUNCTIONS(p, T)                                                                                     \
  extern void p##potrf_(const char *uplo, const lint *n, T *a, const lint *lda, lint *info, size_t);               \
  extern void p##potri_(const char *uplo, const lint *n, T *a, const lint *lda, lint *info, size_t);               \
  extern void p##getrf_(const lint *m, const lint *n, T *a, const lint *lda, lint *pivot, lint *info);             \
  extern void p##getri_(const lint *n, T *a, const lint *lda, const lint *pivot, T *work, const lint *lwork,       \
                        lint *info);                                                                               \
  extern void p##geqrf_(const lint *m, const lint *n, T *a, const lint *lda, T *tau, T *work, const lint *lwork,   \
                        lint *info);                                                                               \
  extern void p##orgqr_(const lint *m, const lint *n, const lint *k, T *a, const lint *lda, const T *tau, T *work, \
                        const lint *lwork, lint *info);                                                            \
  extern void p##syevd_(const char *job, const char *uplo, const lint *n, T *a, const lint *lda, T *w, T *work,    \
                        const lint *lwork, lint *iwork, const lint *liwork, lint *info, size_t, size_t);
LAPACK_FUNCTIONS(s, float)
LAPACK_FUNCTIONS(d, double)

/* Runs FUNC of the array's precision on arguments that may use the type T. */
#define CALL(dtype, FUNC, ...) EITHER_OF(dtype, d##FUNC##_(__VA_ARGS__);, s##FUNC##_(__VA_ARGS__);)
#define BLAS(dtype, func, ...) EITHER_OF(dtype, cblas_d##func(__VA_ARGS__);, cblas_s##func(__VA_ARGS__);)
#define EITHER_OF(dtype, in_double, in_float) \
  do {                                        \
    if ((dtype) == MX_FLOAT64) {              \
      typedef double T;                       \
      in_double                               \
    } else {                                  \
      typedef float T;                        \
      in_float                                \
    }                                         \
  } while (0)
#define EITHER(dtype, ...) EITHER_OF(dtype, __VA_ARGS__, __VA_ARGS__)

enum { BLOCK = 64 /* columns that LAPACK works on at a time, at most */, ALIGN = 64 };

static size_t aligned(int64_t n, size_t element) { return ((size_t)n * element + ALIGN - 1) / ALIGN * ALIGN; }
static char *matrix(const mx_tensor *t, int64_t i, int64_t size) {
  return (char *)t->data + (size_t)(i * size) * mx_dtype_size(t->dtype);
}
static void copy(void *to, const mx_tensor *from, int64_t i, int64_t size) {
  if (to != matrix(from, i, size)) memcpy(to, matrix(from, i, size), (size_t)size * mx_dtype_size(from->dtype));
}

/* Row-major n x n: zeros above the diagonal; or the lower triangle mirrored. */
static void clear_upper(void *a, int64_t n, mx_dtype dtype) {
  EITHER(dtype, {
    T *x = a;
    for (int64_t r = 0; r < n; r++)
      for (int64_t c = r + 1; c < n; c++) x[r * n + c] = 0;
  });
}
static void mirror_lower(void *a, int64_t n, mx_dtype dtype) {
  EITHER(dtype, {
    T *x = a;
    for (int64_t r = 0; r < n; r++)
      for (int64_t c = 0; c < r; c++) x[c * n + r] = x[r * n + c];
  });
}

static mx_status numeric_failure(const mx_call *c, int64_t i, int64_t count, const char *what, mx_error *err) {
  if (count == 1)
    mx_fail(err, MX_ERR_VALUE, "The matrix %s.", what);
  else
    mx_fail(err, MX_ERR_VALUE, "Matrix %lld of the stack %s.", (long long)i, what);
  mx_error_set(err, argument, "A");
  return MX_ERR_VALUE;
}

static mx_status square_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_shape_merge(&in[0], &out[0], "A", err));
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  return mx_shape_merge(&out[0], &in[0], "output", err);
}
static mx_status backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &in[n_in - 1], "the gradient", err);
}

/* ---- Cholesky: potrf, potri ---- */

static double cube(int64_t n) { return (double)n * (double)n * (double)n; }

static mx_status potrf_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  mx_dtype dtype = c->out[0].dtype;
  lint n = (lint)m.rows, info;
  char *a = matrix(&c->out[0], i, m.rows * m.rows);
  copy(a, &c->in[0], i, m.rows * m.rows);
  CALL(dtype, potrf, "U", &n, (T *)a, &n, &info, 1);
  if (info != 0) return numeric_failure(c, i, m.count, "is not positive definite", err);
  clear_upper(a, m.rows, dtype);
  return MX_OK;
}
static mx_status potrf_kernel(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  if (c->req[0] == MX_NULL || m.rows == 0) return MX_OK;
  MX_TRY(mx_linalg_limit(&c->in[0].shape, INT32_MAX, err));
  return mx_stack_run(c, m.count, cube(m.rows), 0, potrf_step, err);
}

/* (head, L) to the gradient of A: L^-T S L^-1 / 2, S being the lower triangle of L' H, mirrored. */
static mx_status potrf_backward_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->out[0].shape);
  mx_dtype dtype = c->out[0].dtype;
  int64_t size = m.rows * m.rows;
  lint n = (lint)m.rows;
  char *h = matrix(&c->in[0], i, size), *l = matrix(&c->in[1], i, size), *s = matrix(&c->out[0], i, size);
  BLAS(dtype, gemm, CblasRowMajor, CblasTrans, CblasNoTrans, n, n, n, 1, (T *)l, n, (T *)h, n, 0, (T *)s, n);
  mirror_lower(s, n, dtype);
  BLAS(dtype, trsm, CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, n, n, (T)0.5, (T *)l, n, (T *)s,
       n);
  BLAS(dtype, trsm, CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, n, n, 1, (T *)l, n, (T *)s, n);
  return MX_OK;
}
static mx_status potrf_backward(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->out[0].shape);
  if (c->req[0] == MX_NULL || m.rows == 0) return MX_OK;
  return mx_stack_run(c, m.count, 3 * cube(m.rows), 0, potrf_backward_step, err);
}
static mx_status potrf_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node || !g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_linalg_potrf", (mx_entry[]){g->out_grad[0], g->out[0]}, 2, &g->in_grad[0], err);
}

static mx_status potri_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  mx_dtype dtype = c->out[0].dtype;
  lint n = (lint)m.rows, info;
  char *a = matrix(&c->out[0], i, m.rows * m.rows);
  copy(a, &c->in[0], i, m.rows * m.rows);
  CALL(dtype, potri, "U", &n, (T *)a, &n, &info, 1);
  if (info != 0) return numeric_failure(c, i, m.count, "has a zero on its diagonal", err);
  mirror_lower(a, m.rows, dtype);
  return MX_OK;
}
static mx_status potri_kernel(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  if (c->req[0] == MX_NULL || m.rows == 0) return MX_OK;
  MX_TRY(mx_linalg_limit(&c->in[0].shape, INT32_MAX, err));
  return mx_stack_run(c, m.count, cube(m.rows), 0, potri_step, err);
}

/* With B = (L L')^-1: minus the lower triangle of B (H + H') L^-T. */
static mx_status potri_gradient(mx_grad *g, mx_error *err) {
  mx_entry head = g->out_grad[0], b = g->out[0], first, sum, full, packed;
  if (!head.node || !g->wanted[0]) return MX_OK;
  MX_TRY(MX_LINALG_CALL(g, "_linalg_gemm2", &first, err, NULL, b, head));
  MX_TRY(MX_LINALG_CALL(g, "_linalg_gemm", &sum, err, ((const char *const[]){"transpose_b", "True", NULL}), b, head,
                        first));
  const char *solve[] = {"rightside", "True", "transpose", "True", "alpha", "-1", NULL};
  MX_TRY(MX_LINALG_CALL(g, "_linalg_trsm", &full, err, solve, g->in[0], sum));
  MX_TRY(MX_LINALG_CALL(g, "_linalg_extracttrian", &packed, err, NULL, full));
  return MX_LINALG_CALL(g, "_linalg_maketrian", &g->in_grad[0], err, NULL, packed);
}

/* ---- inverse, determinant ---- */

/* Workspace of an LU factorization: a matrix, the pivots, work space of getri. */
typedef struct lu_work {
  char *a;
  lint *pivot;
  char *work;
  size_t bytes;
} lu_work;
static lu_work lu_layout(void *base, int64_t n, mx_dtype dtype) {
  lu_work w = {.a = base};
  size_t element = mx_dtype_size(dtype), at = aligned(n * n, element);
  w.pivot = (lint *)(w.a + at);
  at += aligned(n, sizeof(lint));
  w.work = w.a + at;
  w.bytes = at + aligned(n * BLOCK, element);
  return w;
}
static size_t lu_bytes(const mx_tensor *a) {
  return lu_layout((void *)ALIGN, a->shape.dim[a->shape.ndim - 1], a->dtype).bytes;
}
static mx_status lu_prepare(mx_call *c, mx_error *err) {
  const mx_tensor *a = &c->in[c->n_in - 1]; /* A is the last input */
  mx_matrices m = mx_matrices_of(&a->shape);
  MX_TRY(mx_linalg_limit(&a->shape, INT32_MAX / BLOCK, err));
  c->workspace_bytes = mx_stack_bytes(m.count, cube(m.rows), lu_bytes(a));
  return MX_OK;
}
static mx_status lu_run(const mx_call *c, mx_matrix_step step, mx_error *err) {
  const mx_tensor *a = &c->in[c->n_in - 1];
  mx_matrices m = mx_matrices_of(&a->shape);
  return mx_stack_run(c, m.count, cube(m.rows), lu_bytes(a), step, err);
}

/* Inverts the matrix in place; false when it is singular. */
static bool invert(void *a, lint n, const lu_work *w, mx_dtype dtype) {
  lint info, size = n * BLOCK;
  CALL(dtype, getrf, &n, &n, (T *)a, &n, w->pivot, &info);
  if (info != 0) return false;
  CALL(dtype, getri, &n, (T *)a, &n, w->pivot, (T *)w->work, &size, &info);
  return info == 0;
}

static mx_status inverse_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  lu_work w = lu_layout(work, m.rows, c->out[0].dtype);
  char *a = matrix(&c->out[0], i, m.rows * m.rows);
  copy(a, &c->in[0], i, m.rows * m.rows);
  return invert(a, (lint)m.rows, &w, c->out[0].dtype) ? MX_OK : numeric_failure(c, i, m.count, "is singular", err);
}
static mx_status inverse_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL || mx_shape_size(&c->in[0].shape) == 0) return MX_OK;
  return lu_run(c, inverse_step, err);
}
/* -B' H B' for the inverse B. */
static mx_status inverse_gradient(mx_grad *g, mx_error *err) {
  mx_entry b = g->out[0], product;
  if (!g->out_grad[0].node || !g->wanted[0]) return MX_OK;
  const char *left[] = {"transpose_a", "True", "alpha", "-1", NULL}, *right[] = {"transpose_b", "True", NULL};
  MX_TRY(MX_LINALG_CALL(g, "_linalg_gemm2", &product, err, left, b, g->out_grad[0]));
  return MX_LINALG_CALL(g, "_linalg_gemm2", &g->in_grad[0], err, right, product, b);
}

/* Sign and logarithm of the absolute value of a determinant; (0, -inf) for a singular matrix. */
static void determinant(const mx_call *c, int64_t i, const lu_work *w, lint n, double *sign, double *log_abs) {
  mx_dtype dtype = c->in[0].dtype;
  lint info;
  *sign = 1;
  *log_abs = 0;
  if (n == 0) return;
  copy(w->a, &c->in[0], i, (int64_t)n * n);
  CALL(dtype, getrf, &n, &n, (T *)w->a, &n, w->pivot, &info);
  for (int64_t k = 0; k < n; k++) {
    double x = 0;
    EITHER(dtype, x = (double)((T *)w->a)[k * n + k];);
    *log_abs += log(fabs(x));
    *sign *= (x > 0 ? 1 : x < 0 ? -1 : x) * (w->pivot[k] != k + 1 ? -1 : 1);
  }
}
static void store(const mx_tensor *t, int64_t i, double x) { EITHER(t->dtype, ((T *)t->data)[i] = (T)x;); }
static double load(const mx_tensor *t, int64_t i) {
  double x = 0;
  EITHER(t->dtype, x = (double)((const T *)t->data)[i];);
  return x;
}

static mx_status per_matrix_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = in[0];
  want.ndim -= 2;
  if (want.ndim == 0) want = mx_shape_of(1);
  for (int i = 0; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &want, "output", err));
  return MX_OK;
}
static mx_status det_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  const int64_t n = mx_matrices_of(&c->in[0].shape).rows;
  lu_work w = lu_layout(work, n, c->in[0].dtype);
  double sign, log_abs;
  determinant(c, i, &w, (lint)n, &sign, &log_abs);
  store(&c->out[0], i, sign * exp(log_abs));
  return MX_OK;
}
static mx_status det_kernel(const mx_call *c, mx_error *err) {
  return c->req[0] == MX_NULL ? MX_OK : lu_run(c, det_step, err);
}
static mx_status slogdet_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  const int64_t n = mx_matrices_of(&c->in[0].shape).rows;
  lu_work w = lu_layout(work, n, c->in[0].dtype);
  double sign, log_abs;
  determinant(c, i, &w, (lint)n, &sign, &log_abs);
  if (c->req[0] != MX_NULL) store(&c->out[0], i, sign);
  if (c->req[1] != MX_NULL) store(&c->out[1], i, log_abs);
  return MX_OK;
}
static mx_status slogdet_kernel(const mx_call *c, mx_error *err) { return lu_run(c, slogdet_step, err); }
/* (head, det, A) or (head, A) to the gradient of A: head times det times A^-T; 0 where A is singular. */
static mx_status det_backward_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  const mx_tensor *a = &c->in[c->n_in - 1];
  const int64_t n = mx_matrices_of(&a->shape).rows;
  lu_work w = lu_layout(work, n, a->dtype);
  double scale = load(&c->in[0], i) * (c->n_in > 2 ? load(&c->in[1], i) : 1);
  copy(w.a, a, i, n * n);
  bool regular = invert(w.a, (lint)n, &w, a->dtype);
  EITHER(a->dtype, {
    T *x = (T *)matrix(&c->out[0], i, n * n);
    const T *inverse = (const T *)w.a;
    for (int64_t r = 0; r < n; r++)
      for (int64_t s = 0; s < n; s++) x[r * n + s] = regular ? (T)(scale * (double)inverse[s * n + r]) : 0;
  });
  return MX_OK;
}
static mx_status det_backward(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL || mx_shape_size(&c->out[0].shape) == 0) return MX_OK;
  return lu_run(c, det_backward_step, err);
}
static mx_status det_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node || !g->wanted[0]) return MX_OK;
  return mx_grad_backward(g, "_backward_linalg_det", (mx_entry[]){g->out_grad[0], g->out[0], g->in[0]}, 3,
                          &g->in_grad[0], err);
}
static mx_status slogdet_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[1].node || !g->wanted[0]) return MX_OK; /* the sign has no gradient */
  return mx_grad_backward(g, "_backward_linalg_slogdet", (mx_entry[]){g->out_grad[1], g->in[0]}, 2, &g->in_grad[0],
                          err);
}

/* ---- LQ ---- */

static mx_status gelqf_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_shape_merge(&in[0], &out[0], "A", err));
  MX_TRY(mx_linalg_min_ndim(&in[0], 2, "A", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape l = in[0];
  int64_t rows = l.dim[l.ndim - 2], cols = l.dim[l.ndim - 1];
  if (rows >= 0 && cols >= 0 && rows > cols) {
    char text[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "A has native shape %s: the LQ factorization needs at most as many rows as columns.",
            mx_shape_text(&in[0], text));
    mx_error_set(err, argument, "A");
    mx_error_set(err, actual, "%s", text);
    return MX_ERR_SHAPE;
  }
  l.dim[l.ndim - 1] = rows;
  MX_TRY(mx_shape_merge(&out[0], &in[0], "Q", err));
  return mx_shape_merge(&out[1], &l, "L", err);
}
/* Workspace: A (where Q is not wanted), tau, work. */
static size_t gelqf_bytes(const mx_tensor *a) {
  mx_matrices m = mx_matrices_of(&a->shape);
  size_t element = mx_dtype_size(a->dtype);
  return aligned(m.rows * m.cols, element) + aligned(m.rows, element) + aligned(m.rows * BLOCK, element);
}
static double gelqf_cost(const mx_matrices *m) { return 2 * (double)m->rows * (double)m->rows * (double)m->cols; }
static mx_status gelqf_prepare(mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  MX_TRY(mx_linalg_limit(&c->in[0].shape, INT32_MAX / BLOCK, err));
  c->workspace_bytes = mx_stack_bytes(m.count, gelqf_cost(&m), gelqf_bytes(&c->in[0]));
  return MX_OK;
}
static mx_status gelqf_step(const mx_call *c, int64_t i, char *spare, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  mx_dtype dtype = c->in[0].dtype;
  size_t element = mx_dtype_size(dtype);
  char *tau = spare + aligned(m.rows * m.cols, element), *work = tau + aligned(m.rows, element);
  lint rows = (lint)m.rows, cols = (lint)m.cols, size = rows * BLOCK, info;
  char *q = c->req[0] == MX_NULL ? spare : matrix(&c->out[0], i, m.rows * m.cols);
  copy(q, &c->in[0], i, m.rows * m.cols);
  CALL(dtype, geqrf, &cols, &rows, (T *)q, &cols, (T *)tau, (T *)work, &size, &info);
  if (c->req[1] != MX_NULL) {
    char *l = matrix(&c->out[1], i, m.rows * m.rows);
    for (int64_t r = 0; r < m.rows; r++)
      memcpy(l + (size_t)(r * m.rows) * element, q + (size_t)(r * m.cols) * element, (size_t)m.rows * element);
    clear_upper(l, m.rows, dtype);
  }
  CALL(dtype, orgqr, &cols, &rows, &rows, (T *)q, &cols, (T *)tau, (T *)work, &size, &info);
  return MX_OK;
}
static mx_status gelqf_kernel(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  return m.rows == 0 ? MX_OK : mx_stack_run(c, m.count, gelqf_cost(&m), gelqf_bytes(&c->in[0]), gelqf_step, err);
}
static size_t gelqf_backward_bytes(const mx_call *c) {
  mx_matrices m = mx_matrices_of(&c->in[3].shape);
  return aligned(m.rows * m.rows, mx_dtype_size(c->in[3].dtype));
}
static mx_status gelqf_backward_prepare(mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[2].shape);
  c->workspace_bytes = mx_stack_bytes(m.count, gelqf_cost(&m), gelqf_backward_bytes(c));
  return MX_OK;
}
/* (dQ, dL, Q, L) to L^-T (dQ + S Q), S being the lower triangle of L' dL - dQ Q', mirrored. */
static mx_status gelqf_backward_step(const mx_call *c, int64_t i, char *s, mx_error *err) {
  mx_matrices q = mx_matrices_of(&c->in[2].shape);
  mx_dtype dtype = c->out[0].dtype;
  lint m = (lint)q.rows, n = (lint)q.cols;
  char *dq = matrix(&c->in[0], i, q.rows * q.cols), *dl = matrix(&c->in[1], i, q.rows * q.rows);
  char *qi = matrix(&c->in[2], i, q.rows * q.cols), *l = matrix(&c->in[3], i, q.rows * q.rows);
  char *x = matrix(&c->out[0], i, q.rows * q.cols);
  BLAS(dtype, gemm, CblasRowMajor, CblasTrans, CblasNoTrans, m, m, m, 1, (T *)l, m, (T *)dl, m, 0, (T *)s, m);
  BLAS(dtype, gemm, CblasRowMajor, CblasNoTrans, CblasTrans, m, m, n, -1, (T *)dq, n, (T *)qi, n, 1, (T *)s, m);
  mirror_lower(s, m, dtype);
  copy(x, &c->in[0], i, q.rows * q.cols);
  BLAS(dtype, gemm, CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, m, 1, (T *)s, m, (T *)qi, n, 1, (T *)x, n);
  BLAS(dtype, trsm, CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, m, n, 1, (T *)l, m, (T *)x, n);
  return MX_OK;
}
static mx_status gelqf_backward(const mx_call *c, mx_error *err) {
  mx_matrices q = mx_matrices_of(&c->in[2].shape);
  if (c->req[0] == MX_NULL || q.rows == 0) return MX_OK;
  return mx_stack_run(c, q.count, gelqf_cost(&q), gelqf_backward_bytes(c), gelqf_backward_step, err);
}
/* Both head gradients, then both outputs, to a backward operator. */
static mx_status pair_gradient(mx_grad *g, const char *backward, mx_error *err) {
  mx_entry in[4] = {MX_NO_ENTRY, MX_NO_ENTRY, g->out[0], g->out[1]};
  if (!g->wanted[0]) return MX_OK;
  for (int i = 0; i < 2; i++) MX_TRY(mx_grad_head(g, i, &in[i], err));
  return mx_grad_backward(g, backward, in, 4, &g->in_grad[0], err);
}
static mx_status gelqf_gradient(mx_grad *g, mx_error *err) { return pair_gradient(g, "_backward_linalg_gelqf", err); }
static mx_status like_third_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &in[2], "the gradient", err);
}

/* ---- eigenvalues ---- */

enum { EIGEN_LIMIT = 32000 /* LAPACK's work space, 2 n^2, is counted in int */ };

static mx_status syevd_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_shape_merge(&in[0], &out[0], "A", err));
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape values = in[0];
  values.ndim--;
  MX_TRY(mx_shape_merge(&out[0], &in[0], "U", err));
  return mx_shape_merge(&out[1], &values, "the eigenvalues", err);
}
/* Workspace: vectors and values (where they are not wanted), work, integer work. */
typedef struct eigen_work {
  char *vectors, *values, *work;
  lint *integers;
  lint size, integer_size;
  size_t bytes;
} eigen_work;
static eigen_work eigen_layout(char *base, int64_t n, mx_dtype dtype) {
  size_t element = mx_dtype_size(dtype), at = aligned(n * n, element);
  eigen_work w = {.vectors = base, .size = (lint)(1 + 6 * n + 2 * n * n), .integer_size = (lint)(3 + 5 * n)};
  w.values = base + at;
  at += aligned(n, element);
  w.work = base + at;
  at += aligned(w.size, element);
  w.integers = (lint *)(base + at);
  w.bytes = at + aligned(w.integer_size, sizeof(lint));
  return w;
}
static size_t eigen_bytes(const mx_tensor *a) {
  return eigen_layout((char *)ALIGN, a->shape.dim[a->shape.ndim - 1], a->dtype).bytes;
}
static mx_status syevd_prepare(mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  MX_TRY(mx_linalg_limit(&c->in[0].shape, EIGEN_LIMIT, err));
  c->workspace_bytes = mx_stack_bytes(m.count, cube(m.rows), eigen_bytes(&c->in[0]));
  return MX_OK;
}
static bool all_finite(const void *a, int64_t n, mx_dtype dtype) {
  bool finite = true;
  EITHER(dtype, for (int64_t i = 0; i < n; i++) finite = finite && isfinite(((const T *)a)[i]););
  return finite;
}
/* Eigenvectors have a free sign: their largest component becomes positive. */
static void fix_signs(void *a, int64_t n, mx_dtype dtype) {
  EITHER(dtype, {
    for (int64_t r = 0; r < n; r++) {
      T *u = (T *)a + r * n;
      int64_t largest = 0;
      for (int64_t j = 1; j < n; j++)
        if (fabs((double)u[j]) > fabs((double)u[largest])) largest = j;
      bool flip = u[largest] < 0;
      for (int64_t j = 0; flip && j < n; j++) u[j] = -u[j];
    }
  });
}
static mx_status syevd_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  mx_dtype dtype = c->in[0].dtype;
  eigen_work w = eigen_layout(work, m.rows, dtype);
  lint n = (lint)m.rows, info = 0;
  char *u = c->req[0] == MX_NULL ? w.vectors : matrix(&c->out[0], i, m.rows * m.rows);
  char *values = c->req[1] == MX_NULL ? w.values : matrix(&c->out[1], i, m.rows);
  copy(u, &c->in[0], i, m.rows * m.rows);
  if (!all_finite(u, m.rows * m.rows, dtype))
    return numeric_failure(c, i, m.count, "has elements that are not finite", err);
  CALL(dtype, syevd, "V", "U", &n, (T *)u, &n, (T *)values, (T *)w.work, &w.size, w.integers, &w.integer_size, &info, 1,
       1);
  if (info != 0) return numeric_failure(c, i, m.count, "has eigenvalues that were not found", err);
  fix_signs(u, m.rows, dtype);
  return MX_OK;
}
static mx_status syevd_kernel(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  return m.rows == 0 ? MX_OK : mx_stack_run(c, m.count, cube(m.rows), eigen_bytes(&c->in[0]), syevd_step, err);
}
static size_t syevd_backward_bytes(const mx_call *c) {
  mx_matrices m = mx_matrices_of(&c->in[2].shape);
  return 2 * aligned(m.rows * m.rows, mx_dtype_size(c->in[2].dtype));
}
static mx_status syevd_backward_prepare(mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[2].shape);
  c->workspace_bytes = mx_stack_bytes(m.count, 3 * cube(m.rows), syevd_backward_bytes(c));
  return MX_OK;
}
/* K = (P_ij / (w_i - w_j), dw on the diagonal), made symmetric; P = dU U'. Equal eigenvalues do not couple. */
static void couple(void *k_, const void *values_, const void *d_values_, int64_t n, mx_dtype dtype) {
  EITHER(dtype, {
    T *k = k_;
    const T *w = values_;
    const T *dw = d_values_;
    for (int64_t i = 0; i < n; i++) {
      for (int64_t j = 0; j < i; j++) {
        T gap = w[i] - w[j];
        k[i * n + j] = gap != 0 ? (k[i * n + j] - k[j * n + i]) / (2 * gap) : 0;
        k[j * n + i] = k[i * n + j];
      }
      k[i * n + i] = dw[i];
    }
  });
}
/* (dU, dw, U, w) to U' K U. */
static mx_status syevd_backward_step(const mx_call *c, int64_t i, char *k, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[2].shape);
  const mx_dtype dtype = c->out[0].dtype;
  const int64_t n = m.rows;
  char *half = k + syevd_backward_bytes(c) / 2, *u = matrix(&c->in[2], i, n * n);
  mx_gemm g = {.m = n, .n = n, .k = n, .alpha = 1, .lda = n, .ldb = n, .ldc = n, .dtype = dtype};
  g.a = matrix(&c->in[0], i, n * n), g.b = u, g.c = k, g.trans_b = true;
  MX_TRY(c->device->ops->gemm(c->device, &g, err));
  couple(k, matrix(&c->in[3], i, n), matrix(&c->in[1], i, n), n, dtype);
  g.a = u, g.b = k, g.c = half, g.trans_a = true, g.trans_b = false;
  MX_TRY(c->device->ops->gemm(c->device, &g, err));
  g.a = half, g.b = u, g.c = matrix(&c->out[0], i, n * n), g.trans_a = false;
  return c->device->ops->gemm(c->device, &g, err);
}
static mx_status syevd_backward(const mx_call *c, mx_error *err) {
  mx_matrices m = mx_matrices_of(&c->in[2].shape);
  if (c->req[0] == MX_NULL || m.rows == 0) return MX_OK;
  return mx_stack_run(c, m.count, 3 * cube(m.rows), syevd_backward_bytes(c), syevd_backward_step, err);
}
static mx_status syevd_gradient(mx_grad *g, mx_error *err) { return pair_gradient(g, "_backward_linalg_syevd", err); }

/* ---- records ---- */

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};
#define SQUARE_DOC "Square matrices, native shape (..., n, n)."

const mx_op mx_ops_lapack[] = {
    {.name = "_linalg_potrf",
     .aliases = MX_STRINGS("linalg_potrf"),
     .family = FAMILY,
     .doc = "Cholesky factors: the lower triangular L with L transpose(L) = A. A matrix that is not positive definite "
            "is an "
            "error.",
     .in_doc =
         MX_STRINGS("Symmetric positive definite matrices, native shape (..., n, n); the lower triangle is read."),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = square_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = potrf_gradient,
     .aliases_mem = in_place,
     .kernel = potrf_kernel},
    {.name = "_linalg_potri",
     .aliases = MX_STRINGS("linalg_potri"),
     .family = FAMILY,
     .doc = "Inverse matrices from Cholesky factors: of A transpose(A), A being lower triangular as linalg_potrf gives "
            "it.",
     .in_doc = MX_STRINGS("Lower triangular matrices, native shape (..., n, n)."),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = square_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = potri_gradient,
     .kernel = potri_kernel},
    {.name = "_linalg_inverse",
     .aliases = MX_STRINGS("linalg_inverse"),
     .family = FAMILY,
     .doc = "Inverse matrices. A singular matrix is an error.",
     .in_doc = MX_STRINGS(SQUARE_DOC),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = square_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = inverse_gradient,
     .aliases_mem = in_place,
     .prepare = lu_prepare,
     .kernel = inverse_kernel},
    {.name = "_linalg_det",
     .aliases = MX_STRINGS("linalg_det"),
     .family = FAMILY,
     .doc = "Determinants. The gradient of a singular matrix is taken to be 0.",
     .in_doc = MX_STRINGS(SQUARE_DOC),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .out_names = MX_STRINGS("output0"),
     .infer_shape = per_matrix_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = det_gradient,
     .prepare = lu_prepare,
     .kernel = det_kernel},
    {.name = "_linalg_slogdet",
     .aliases = MX_STRINGS("linalg_slogdet"),
     .family = FAMILY,
     .doc =
         "Signs of the determinants and logarithms of their absolute values; 0 and -Inf for a singular matrix, whose "
         "gradient is taken to be 0.",
     .in_doc = MX_STRINGS(SQUARE_DOC),
     .n_in = 1,
     .n_out = 2,
     .in_names = MX_STRINGS("A"),
     .infer_shape = per_matrix_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = slogdet_gradient,
     .prepare = lu_prepare,
     .kernel = slogdet_kernel},
    {.name = "_linalg_gelqf",
     .aliases = MX_STRINGS("linalg_gelqf"),
     .family = FAMILY,
     .doc = "LQ factorization A = L Q: Q with orthonormal rows, L lower triangular. Outputs Q and L.",
     .in_doc = MX_STRINGS("Matrices of full rank with at most as many rows as columns, native shape (..., m, n)."),
     .n_in = 1,
     .n_out = 2,
     .in_names = MX_STRINGS("A"),
     .infer_shape = gelqf_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = gelqf_gradient,
     .prepare = gelqf_prepare,
     .kernel = gelqf_kernel},
    {.name = "_linalg_syevd",
     .family = FAMILY,
     .doc = "Eigenvalues of symmetric matrices, ascending, and eigenvectors as the rows of U: A = transpose(U) diag(w) "
            "U. The "
            "component of a vector that is largest in absolute value is positive. Outputs U and w.",
     .in_doc = MX_STRINGS("Symmetric matrices, native shape (..., n, n); the lower triangle is read."),
     .n_in = 1,
     .n_out = 2,
     .in_names = MX_STRINGS("A"),
     .infer_shape = syevd_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = syevd_gradient,
     .prepare = syevd_prepare,
     .kernel = syevd_kernel},
    {.name = "_backward_linalg_potrf",
     .family = FAMILY,
     .doc = "Gradient of linalg_potrf.",
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "output"),
     .infer_shape = backward_shape,
     .infer_dtype = mx_linalg_dtype,
     .flags = MX_OP_HIDDEN,
     .kernel = potrf_backward},
    {.name = "_backward_linalg_det",
     .family = FAMILY,
     .doc = "Gradient of linalg_det.",
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "output", "A"),
     .infer_shape = backward_shape,
     .infer_dtype = mx_linalg_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = lu_prepare,
     .kernel = det_backward},
    {.name = "_backward_linalg_slogdet",
     .family = FAMILY,
     .doc = "Gradient of linalg_slogdet.",
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("out_grad", "A"),
     .infer_shape = backward_shape,
     .infer_dtype = mx_linalg_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = lu_prepare,
     .kernel = det_backward},
    {.name = "_backward_linalg_gelqf",
     .family = FAMILY,
     .doc = "Gradient of linalg_gelqf.",
     .n_in = 4,
     .n_out = 1,
     .in_names = MX_STRINGS("q_grad", "l_grad", "q", "l"),
     .infer_shape = like_third_shape,
     .infer_dtype = mx_linalg_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = gelqf_backward_prepare,
     .kernel = gelqf_backward},
    {.name = "_backward_linalg_syevd",
     .family = FAMILY,
     .doc = "Gradient of linalg_syevd.",
     .n_in = 4,
     .n_out = 1,
     .in_names = MX_STRINGS("u_grad", "w_grad", "u", "w"),
     .infer_shape = like_third_shape,
     .infer_dtype = mx_linalg_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = syevd_backward_prepare,
     .kernel = syevd_backward},
    {0}};
