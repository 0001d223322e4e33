/* Linear algebra on stacks of matrices, as far as it takes BLAS and loops: products, triangular products and solutions,
 * diagonals and triangles. What takes LAPACK is in lapack.c. Gradients are made of the operators themselves. */
#include "ops/linalg.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FAMILY "Linear algebra"

/* ---- shared ---- */

mx_status mx_linalg_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = MX_DTYPE_UNKNOWN;
  for (int i = 0; i < n_in + n_out; i++) {
    mx_dtype d = i < n_in ? in[i] : out[i - n_in];
    if (d == MX_DTYPE_UNKNOWN) continue;
    if (d != MX_FLOAT32 && d != MX_FLOAT64)
      return mx_fail(err, MX_ERR_TYPE, "Linear algebra needs float32 or float64, but an array is %s.",
                     mx_dtype_name(d));
    if (t != MX_DTYPE_UNKNOWN && t != d)
      return mx_fail(err, MX_ERR_TYPE, "All arrays must have one type, not %s and %s.", mx_dtype_name(t),
                     mx_dtype_name(d));
    t = d;
  }
  for (int i = 0; i < n_in; i++) in[i] = t;
  for (int i = 0; i < n_out; i++) out[i] = t;
  return MX_OK;
}

mx_status mx_linalg_min_ndim(const mx_shape *s, int ndim, const char *what, mx_error *err) {
  if (s->ndim < 0 || s->ndim >= ndim) return MX_OK;
  char text[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE, "%s has native shape %s, but at least %d dimension%s needed.", what,
          mx_shape_text(s, text), ndim, ndim == 1 ? " is" : "s are");
  mx_error_set(err, argument, "%s", what);
  mx_error_set(err, actual, "%s", text);
  return MX_ERR_SHAPE;
}

mx_status mx_linalg_square(mx_shape *s, const char *what, mx_error *err) {
  MX_TRY(mx_linalg_min_ndim(s, 2, what, err));
  if (s->ndim < 0) return MX_OK;
  int64_t *r = &s->dim[s->ndim - 2], *c = &s->dim[s->ndim - 1];
  if (*r < 0) *r = *c;
  if (*c < 0) *c = *r;
  if (*r == *c) return MX_OK;
  char text[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE, "%s has native shape %s, but its matrices must be square.", what, mx_shape_text(s, text));
  mx_error_set(err, argument, "%s", what);
  mx_error_set(err, actual, "%s", text);
  return MX_ERR_SHAPE;
}

mx_status mx_linalg_limit(const mx_shape *s, int64_t limit, mx_error *err) {
  for (int i = s->ndim - 2; i < s->ndim; i++)
    if (s->dim[i] > limit)
      return mx_fail(err, MX_ERR_SHAPE,
                     "A matrix with a dimension of %lld is too large here: at most %lld is possible.",
                     (long long)s->dim[i], (long long)limit);
  return MX_OK;
}

static mx_shape unknown_shape(int ndim) {
  mx_shape s = {.ndim = ndim};
  for (int i = 0; i < ndim; i++) s.dim[i] = MX_DIM_UNKNOWN;
  return s;
}

/* Dimension i of one shape and dimension j of another are equal, each filled from the other. */
static mx_status tie(mx_shape *a, int i, mx_shape *b, int j, const char *what, mx_error *err) {
  if (a->dim[i] < 0) a->dim[i] = b->dim[j];
  if (b->dim[j] < 0) b->dim[j] = a->dim[i];
  if (a->dim[i] == b->dim[j]) return MX_OK;
  char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE, "Native shapes %s and %s do not fit: dimensions %lld and %lld of %s must be equal.",
          mx_shape_text(a, ta), mx_shape_text(b, tb), (long long)a->dim[i], (long long)b->dim[j], what);
  mx_error_set(err, expected, "%lld", (long long)a->dim[i]);
  mx_error_set(err, actual, "%lld", (long long)b->dim[j]);
  return MX_ERR_SHAPE;
}

/* Gives `s` as many dimensions as `like`, unknown ones; a different number is an error. */
static mx_status same_ndim(mx_shape *s, int ndim, const char *what, mx_error *err) {
  mx_shape blank = unknown_shape(ndim);
  return mx_shape_merge(s, &blank, what, err);
}

static const char *flag(bool x) { return x ? "True" : "False"; }

/* ---- gemm, gemm2 ---- */

typedef struct gemm_params {
  bool transpose_a, transpose_b;
  double alpha, beta;
  int64_t axis;
} gemm_params;

#define GEMM_ROWS                                                                         \
  MX_P_BOOL(gemm_params, transpose_a, "0", "Multiply with the transposed matrix A."),     \
      MX_P_BOOL(gemm_params, transpose_b, "0", "Multiply with the transposed matrix B."), \
      MX_P_FLOAT(gemm_params, alpha, "1", MX_ANY, "Factor of the product.")
#define GEMM_AXIS                                              \
  MX_P_INT(gemm_params, axis, "-2", -MX_MAX_NDIM, MX_MAX_NDIM, \
           "Native axis of the rows; columns are always the last axis.")
static const mx_param gemm_table[] = {GEMM_ROWS, MX_P_FLOAT(gemm_params, beta, "1", MX_ANY, "Factor of C."), GEMM_AXIS,
                                      MX_P_END};
static const mx_param gemm2_table[] = {GEMM_ROWS, GEMM_AXIS, MX_P_END};

/* A, B, perhaps C, and the output: one number of dimensions, of which all but two are equal. */
static mx_status gemm_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const gemm_params *p = params;
  int ndim = -1, row;
  for (int i = 0; i < n_in; i++)
    if (in[i].ndim >= 0) ndim = in[i].ndim;
  if (ndim < 0) return MX_OK;
  static const char *const names[] = {"A", "B", "C"};
  for (int i = 0; i < n_in; i++) {
    MX_TRY(same_ndim(&in[i], ndim, names[i], err));
    MX_TRY(mx_linalg_min_ndim(&in[i], 2, names[i], err));
  }
  MX_TRY(same_ndim(&out[0], ndim, "output", err));
  MX_TRY(mx_axis_resolve(p->axis, ndim, &row, err));
  int col = ndim - 1;
  if (row == col)
    return mx_fail(err, MX_ERR_VALUE, "axis %lld is the last one, which holds the columns; the rows need another.",
                   (long long)p->axis);
  for (int round = 0; round < 2; round++) /* the second one carries back what the last array knows */
    for (int i = 1; i <= n_in; i++)
      for (int d = 0; d < ndim - 1; d++)
        if (d != row) MX_TRY(tie(&in[0], d, i < n_in ? &in[i] : &out[0], d, "the stacks", err));
  mx_shape *a = &in[0], *b = &in[1];
  MX_TRY(tie(a, p->transpose_a ? row : col, b, p->transpose_b ? col : row, "the inner axis", err));
  for (int i = 2; i <= n_in; i++) {
    mx_shape *c = i < n_in ? &in[i] : &out[0];
    MX_TRY(tie(a, p->transpose_a ? col : row, c, row, "the rows", err));
    MX_TRY(tie(b, p->transpose_b ? row : col, c, col, "the columns", err));
  }
  return MX_OK;
}

static mx_status gemm_run(const mx_call *c, double beta, mx_error *err) {
  const gemm_params *p = c->params;
  const mx_shape *a = &c->in[0].shape, *b = &c->in[1].shape, *o = &c->out[0].shape;
  int ndim = o->ndim, row;
  MX_TRY(mx_axis_resolve(p->axis, ndim, &row, err));
  int64_t outer = mx_shape_prod(o, 0, row), inner = mx_shape_prod(o, row + 1, ndim - 1);
  int64_t ra = a->dim[row], ca = a->dim[ndim - 1], rb = b->dim[row], cb = b->dim[ndim - 1], m = o->dim[row],
          n = o->dim[ndim - 1];
  if (outer == 0 || inner == 0) return MX_OK;
  mx_gemm g = {.trans_a = p->transpose_a,
               .trans_b = p->transpose_b,
               .m = m,
               .n = n,
               .k = p->transpose_a ? ra : ca,
               .alpha = p->alpha,
               .beta = beta,
               .lda = inner * ca,
               .ldb = inner * cb,
               .ldc = inner * n,
               .dtype = c->out[0].dtype};
  /* Rows that lie next to each other: the whole stack is one call. Otherwise one call for each outer index. */
  int64_t calls = inner == 1 ? 1 : outer;
  g.batch = inner == 1 ? outer : inner;
  g.stride_a = inner == 1 ? ra * ca : ca;
  g.stride_b = inner == 1 ? rb * cb : cb;
  g.stride_c = inner == 1 ? m * n : n;
  size_t element = mx_dtype_size(g.dtype);
  for (int64_t i = 0; i < calls; i++) {
    g.a = (const char *)c->in[0].data + (size_t)(i * inner * ra * ca) * element;
    g.b = (const char *)c->in[1].data + (size_t)(i * inner * rb * cb) * element;
    g.c = (char *)c->out[0].data + (size_t)(i * inner * m * n) * element;
    MX_TRY(c->device->ops->gemm(c->device, &g, err));
  }
  return MX_OK;
}
static mx_status gemm_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  size_t bytes = (size_t)mx_shape_size(&c->out[0].shape) * mx_dtype_size(c->out[0].dtype);
  if (bytes && c->out[0].data != c->in[2].data)
    MX_TRY(c->device->ops->copy(c->device, c->out[0].data, c->in[2].data, bytes, err));
  return gemm_run(c, ((const gemm_params *)c->params)->beta, err);
}
static mx_status gemm2_kernel(const mx_call *c, mx_error *err) {
  return c->req[0] == MX_NULL ? MX_OK : gemm_run(c, c->req[0] == MX_ADD ? 1 : 0, err);
}

static mx_status gemm2_call(mx_grad *g, bool ta, bool tb, double alpha, int64_t axis, mx_entry a, mx_entry b,
                            mx_entry *out, mx_error *err) {
  char factor[32], row[16];
  snprintf(factor, sizeof(factor), "%.17g", alpha);
  snprintf(row, sizeof(row), "%lld", (long long)axis);
  const char *attrs[] = {"transpose_a", flag(ta), "transpose_b", flag(tb), "alpha", factor, "axis", row, NULL};
  return MX_LINALG_CALL(g, "_linalg_gemm2", out, err, attrs, a, b);
}
static mx_status scaled(mx_grad *g, mx_entry x, double factor, mx_entry *out, mx_error *err) {
  char text[32];
  snprintf(text, sizeof(text), "%.17g", factor);
  return MX_LINALG_CALL(g, "_mul_scalar", out, err, ((const char *const[]){"scalar", text, NULL}), x);
}

static mx_status gemm_gradient(mx_grad *g, mx_error *err) {
  mx_entry head = g->out_grad[0], a = g->in[0], b = g->in[1];
  if (!head.node) return MX_OK;
  const gemm_params *p = g->params;
  bool ta = p->transpose_a, tb = p->transpose_b;
  if (g->wanted[0])
    MX_TRY(ta ? gemm2_call(g, tb, true, p->alpha, p->axis, b, head, &g->in_grad[0], err)
              : gemm2_call(g, false, !tb, p->alpha, p->axis, head, b, &g->in_grad[0], err));
  if (g->wanted[1])
    MX_TRY(tb ? gemm2_call(g, true, ta, p->alpha, p->axis, head, a, &g->in_grad[1], err)
              : gemm2_call(g, !ta, false, p->alpha, p->axis, a, head, &g->in_grad[1], err));
  return g->n_in > 2 && g->wanted[2] ? scaled(g, head, p->beta, &g->in_grad[2], err) : MX_OK;
}

/* ---- syrk ---- */

typedef struct syrk_params {
  bool transpose;
  double alpha;
} syrk_params;
static const mx_param syrk_table[] = {
    MX_P_BOOL(syrk_params, transpose, "0", "Multiply transpose(A) A, not A transpose(A)."),
    MX_P_FLOAT(syrk_params, alpha, "1", MX_ANY, "Factor of the product."), MX_P_END};

static mx_status syrk_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_linalg_min_ndim(&in[0], 2, "A", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = in[0];
  int n = want.ndim;
  want.dim[n - 1] = want.dim[n - 2] = in[0].dim[((const syrk_params *)params)->transpose ? n - 1 : n - 2];
  return mx_shape_merge(&out[0], &want, "output", err);
}
/* One triangle by BLAS, mirrored. */
#define SYRK(T, p)                                                                                               \
  static void syrk_##T(const mx_call *c, int64_t i, int n, int k) {                                              \
    const syrk_params *q = c->params;                                                                            \
    T *y = (T *)c->out[0].data + (int64_t)i * n * n;                                                             \
    const T *x = (const T *)c->in[0].data + (int64_t)i * n * k;                                                  \
    if (k == 0) memset(y, 0, (size_t)n *(size_t)n * sizeof(*y));                                                 \
    if (k > 0)                                                                                                   \
      cblas_##p##syrk(CblasRowMajor, CblasLower, q->transpose ? CblasTrans : CblasNoTrans, n, k, (T)q->alpha, x, \
                      q->transpose ? n : k, 0, y, n);                                                            \
    for (int64_t r = 0; r < n; r++)                                                                              \
      for (int64_t s = 0; s < r; s++) y[s * n + r] = y[r * n + s];                                               \
  }
SYRK(float, s)
SYRK(double, d)

static mx_status syrk_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  mx_matrices a = mx_matrices_of(&c->in[0].shape);
  const bool t = ((const syrk_params *)c->params)->transpose;
  (c->out[0].dtype == MX_FLOAT64 ? syrk_double : syrk_float)(c, i, (int)(t ? a.cols : a.rows),
                                                             (int)(t ? a.rows : a.cols));
  return MX_OK;
}
static mx_status syrk_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL || mx_shape_size(&c->out[0].shape) == 0) return MX_OK;
  mx_matrices a = mx_matrices_of(&c->in[0].shape), y = mx_matrices_of(&c->out[0].shape);
  MX_TRY(mx_linalg_limit(&c->in[0].shape, INT32_MAX, err));
  const int64_t small = 16; /* both triangles are quicker than a call of the library for each matrix */
  if (a.rows <= small && a.cols <= small) {
    const syrk_params *p = c->params;
    mx_gemm g = {.trans_a = p->transpose,
                 .trans_b = !p->transpose,
                 .m = y.rows,
                 .n = y.rows,
                 .k = p->transpose ? a.rows : a.cols,
                 .alpha = p->alpha,
                 .a = c->in[0].data,
                 .b = c->in[0].data,
                 .c = c->out[0].data,
                 .lda = a.cols,
                 .ldb = a.cols,
                 .ldc = y.rows,
                 .dtype = c->out[0].dtype,
                 .batch = a.count,
                 .stride_a = a.rows * a.cols,
                 .stride_b = a.rows * a.cols,
                 .stride_c = y.rows * y.rows};
    return c->device->ops->gemm(c->device, &g, err);
  }
  return mx_stack_run(c, a.count, (double)a.rows * (double)a.cols * (double)y.rows, 0, syrk_step, err);
}
static mx_status syrk_gradient(mx_grad *g, mx_error *err) {
  const syrk_params *p = g->params;
  mx_entry head = g->out_grad[0], sum;
  if (!head.node || !g->wanted[0]) return MX_OK;
  char alpha[32];
  snprintf(alpha, sizeof(alpha), "%.17g", p->alpha);
  mx_entry x = p->transpose ? g->in[0] : head, y = p->transpose ? head : g->in[0];
  MX_TRY(gemm2_call(g, false, false, p->alpha, -2, x, y, &sum, err));
  const char *attrs[] = {"alpha", alpha, p->transpose ? "transpose_b" : "transpose_a", "True", NULL};
  return MX_LINALG_CALL(g, "_linalg_gemm", &g->in_grad[0], err, attrs, x, y, sum);
}

/* ---- trmm, trsm ---- */

typedef struct tri_params {
  bool transpose, rightside, lower;
  double alpha;
} tri_params;
static const mx_param tri_table[] = {
    MX_P_BOOL(tri_params, transpose, "0", "Take the transposed triangular matrix."),
    MX_P_BOOL(tri_params, rightside, "0", "The triangular matrix stands on the right."),
    MX_P_BOOL(tri_params, lower, "1", "The lower triangle of A holds the matrix; otherwise the upper one."),
    MX_P_FLOAT(tri_params, alpha, "1", MX_ANY, "Factor."), MX_P_END};

static mx_status tri_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const tri_params *p = params;
  MX_TRY(mx_shape_merge(&in[1], &out[0], "B", err));
  MX_TRY(mx_shape_merge(&out[0], &in[1], "output", err));
  MX_TRY(mx_linalg_min_ndim(&in[1], 2, "B", err));
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  if (in[1].ndim < 0) return MX_OK;
  int n = in[1].ndim;
  MX_TRY(same_ndim(&in[0], n, "A", err));
  for (int i = 0; i < n - 2; i++) MX_TRY(tie(&in[0], i, &in[1], i, "the stacks", err));
  MX_TRY(tie(&in[1], p->rightside ? n - 1 : n - 2, &in[0], n - 1, "the triangular matrix", err));
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  for (int i = 0; i < n; i++) MX_TRY(tie(&out[0], i, &in[1], i, "the output", err));
  return MX_OK;
}

typedef void (*double_tri)(CBLAS_ORDER, CBLAS_SIDE, CBLAS_UPLO, CBLAS_TRANSPOSE, CBLAS_DIAG, blasint, blasint, double,
                           const double *, blasint, double *, blasint);
typedef void (*float_tri)(CBLAS_ORDER, CBLAS_SIDE, CBLAS_UPLO, CBLAS_TRANSPOSE, CBLAS_DIAG, blasint, blasint, float,
                          const float *, blasint, float *, blasint);

static void tri_step(const mx_call *c, int64_t i, double_tri f64, float_tri f32) {
  const tri_params *p = c->params;
  mx_matrices b = mx_matrices_of(&c->out[0].shape);
  const CBLAS_SIDE side = p->rightside ? CblasRight : CblasLeft;
  const CBLAS_UPLO uplo = p->lower ? CblasLower : CblasUpper;
  const CBLAS_TRANSPOSE t = p->transpose ? CblasTrans : CblasNoTrans;
  const int64_t n = p->rightside ? b.cols : b.rows;
  const blasint rows = (blasint)b.rows, cols = (blasint)b.cols;
  if (c->out[0].dtype == MX_FLOAT64)
    f64(CblasRowMajor, side, uplo, t, CblasNonUnit, rows, cols, p->alpha, (const double *)c->in[0].data + i * n * n,
        (blasint)n, (double *)c->out[0].data + i * b.rows * b.cols, cols);
  else
    f32(CblasRowMajor, side, uplo, t, CblasNonUnit, rows, cols, (float)p->alpha,
        (const float *)c->in[0].data + i * n * n, (blasint)n, (float *)c->out[0].data + i * b.rows * b.cols, cols);
}
static mx_status trmm_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  tri_step(c, i, cblas_dtrmm, cblas_strmm);
  return MX_OK;
}
static mx_status trsm_step(const mx_call *c, int64_t i, char *work, mx_error *err) {
  tri_step(c, i, cblas_dtrsm, cblas_strsm);
  return MX_OK;
}
static mx_status tri_run(const mx_call *c, mx_matrix_step step, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  mx_matrices b = mx_matrices_of(&c->out[0].shape);
  MX_TRY(mx_linalg_limit(&c->out[0].shape, INT32_MAX, err));
  size_t bytes = (size_t)mx_shape_size(&c->out[0].shape) * mx_dtype_size(c->out[0].dtype);
  if (bytes == 0) return MX_OK;
  if (c->out[0].data != c->in[1].data)
    MX_TRY(c->device->ops->copy(c->device, c->out[0].data, c->in[1].data, bytes, err));
  const double n = (double)(((const tri_params *)c->params)->rightside ? b.cols : b.rows);
  return mx_stack_run(c, b.count, (double)b.rows * (double)b.cols * n, 0, step, err);
}
static mx_status trmm_kernel(const mx_call *c, mx_error *err) { return tri_run(c, trmm_step, err); }
static mx_status trsm_kernel(const mx_call *c, mx_error *err) { return tri_run(c, trsm_step, err); }

/* The triangle of x, zeros elsewhere. */
static mx_status triangle_of(mx_grad *g, mx_entry x, bool lower, mx_entry *out, mx_error *err) {
  const char *attrs[] = {"lower", flag(lower), NULL};
  mx_entry packed;
  MX_TRY(MX_LINALG_CALL(g, "_linalg_extracttrian", &packed, err, attrs, x));
  return MX_LINALG_CALL(g, "_linalg_maketrian", out, err, attrs, packed);
}

static mx_status tri_call(mx_grad *g, const char *op, const tri_params *p, bool transpose, double alpha, mx_entry a,
                          mx_entry b, mx_entry *out, mx_error *err) {
  char factor[32];
  snprintf(factor, sizeof(factor), "%.17g", alpha);
  const char *attrs[] = {"transpose", flag(transpose), "rightside", flag(p->rightside), "lower", flag(p->lower),
                         "alpha",     factor,          NULL};
  return MX_LINALG_CALL(g, op, out, err, attrs, a, b);
}

/* For Y = alpha op(A) B: the gradient of op(A) is alpha H B', that of B is alpha op(A)' H. Mirrored for the right. */
static mx_status trmm_gradient(mx_grad *g, mx_error *err) {
  const tri_params *p = g->params;
  mx_entry head = g->out_grad[0], b = g->in[1], full;
  if (!head.node) return MX_OK;
  if (g->wanted[1])
    MX_TRY(tri_call(g, "_linalg_trmm", p, !p->transpose, p->alpha, g->in[0], head, &g->in_grad[1], err));
  if (!g->wanted[0]) return MX_OK;
  mx_entry x = p->rightside != p->transpose ? b : head, y = p->rightside != p->transpose ? head : b;
  MX_TRY(gemm2_call(g, p->rightside, !p->rightside, p->alpha, -2, x, y, &full, err));
  return triangle_of(g, full, p->lower, &g->in_grad[0], err);
}

/* For op(A) X = alpha B with G = op(A)^-T H: the gradient of B is alpha G, that of op(A) is -G X'. Mirrored likewise.
 */
static mx_status trsm_gradient(mx_grad *g, mx_error *err) {
  const tri_params *p = g->params;
  mx_entry head = g->out_grad[0], solution = g->out[0], inner, full;
  if (!head.node) return MX_OK;
  MX_TRY(tri_call(g, "_linalg_trsm", p, !p->transpose, 1, g->in[0], head, &inner, err));
  if (g->wanted[1]) MX_TRY(scaled(g, inner, p->alpha, &g->in_grad[1], err));
  if (!g->wanted[0]) return MX_OK;
  mx_entry x = p->rightside != p->transpose ? solution : inner, y = p->rightside != p->transpose ? inner : solution;
  MX_TRY(gemm2_call(g, p->rightside, !p->rightside, -1, -2, x, y, &full, err));
  return triangle_of(g, full, p->lower, &g->in_grad[0], err);
}

/* ---- diagonals and triangles ---- */

typedef struct part_params {
  int64_t offset;
  bool lower;
} part_params;
#define OFFSET_ROW(doc) MX_P_INT(part_params, offset, "0", -INT32_MAX, INT32_MAX, doc)
#define LOWER_ROW MX_P_BOOL(part_params, lower, "1", "With offset 0: the lower triangle, otherwise the upper one.")
static const mx_param diag_table[] = {OFFSET_ROW("Diagonal: above the main one if positive, below it if negative."),
                                      MX_P_END};
static const mx_param trian_table[] = {
    OFFSET_ROW("The triangle ends at this diagonal: an upper one if positive, a lower one if negative."), LOWER_ROW,
    MX_P_END};

static bool is_lower(const part_params *p) { return p->offset < 0 || (p->offset == 0 && p->lower); }
static int64_t width_of(const part_params *p) { return p->offset < 0 ? -p->offset : p->offset; }

/* Elements that a matrix of order n has in the diagonal or triangle. */
static int64_t part_size(int64_t n, bool triangle, const part_params *p) {
  int64_t k = n - width_of(p);
  return triangle ? k * (k + 1) / 2 : k;
}

/* Matrix (..., n, n) and its part (..., m): either from the other. */
static mx_status part_infer(const part_params *p, bool triangle, mx_shape *matrix, mx_shape *part, mx_error *err) {
  MX_TRY(mx_linalg_square(matrix, "the matrix", err));
  MX_TRY(mx_linalg_min_ndim(part, 1, "the part", err));
  if (matrix->ndim < 0 && part->ndim >= 0) {
    if (part->ndim == MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "The output would have too many dimensions.");
    *matrix = *part;
    matrix->dim[matrix->ndim++] = MX_DIM_UNKNOWN;
    matrix->dim[matrix->ndim - 2] = MX_DIM_UNKNOWN;
  }
  if (matrix->ndim < 0) return MX_OK;
  int n = matrix->ndim;
  MX_TRY(same_ndim(part, n - 1, "the part", err));
  for (int i = 0; i < n - 2; i++) MX_TRY(tie(matrix, i, part, i, "the stacks", err));
  int64_t *order = &matrix->dim[n - 1], *size = &part->dim[n - 2];
  if (*order < 0 && *size >= 0) {
    if (*size > (int64_t)1 << 52)
      return mx_fail(err, MX_ERR_SHAPE, "A part of %lld elements is too long.", (long long)*size);
    int64_t k = triangle ? (int64_t)floor((sqrt(8.0 * (double)*size + 1) - 1) / 2 + 0.5) : *size;
    *order = matrix->dim[n - 2] = k + width_of(p);
  }
  if (*order < 0) return MX_OK;
  if (*order < width_of(p) || (*order == width_of(p) && *order > 0))
    return mx_fail(err, MX_ERR_VALUE, "A matrix of order %lld has no diagonal %lld.", (long long)*order,
                   (long long)p->offset);
  if (*order > INT32_MAX) return mx_fail(err, MX_ERR_SHAPE, "A matrix of order %lld is too large.", (long long)*order);
  mx_shape want = *part;
  want.dim[n - 2] = part_size(*order, triangle, p);
  if (*size >= 0 && *size != want.dim[n - 2] && triangle)
    return mx_fail(err, MX_ERR_SHAPE, "%lld elements are no triangle: a matrix of order %lld has %lld there.",
                   (long long)*size, (long long)*order, (long long)want.dim[n - 2]);
  return mx_shape_merge(part, &want, "the part", err);
}
static mx_status extractdiag_shape(const void *p, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return part_infer(p, false, &in[0], &out[0], err);
}
static mx_status makediag_shape(const void *p, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return part_infer(p, false, &out[0], &in[0], err);
}
static mx_status extracttrian_shape(const void *p, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return part_infer(p, true, &in[0], &out[0], err);
}
static mx_status maketrian_shape(const void *p, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return part_infer(p, true, &out[0], &in[0], err);
}

/* Columns of row r that belong to the triangle: [from, to). */
static void triangle_columns(const part_params *p, int64_t n, int64_t r, int64_t *from, int64_t *to) {
  int64_t d = r + p->offset;
  *from = is_lower(p) ? 0 : d;
  *to = is_lower(p) ? d + 1 : n;
  if (*from < 0) *from = 0;
  if (*to > n) *to = n;
}

/* Place of element (r, c) in the packed triangle: lower ones by rows, upper ones by columns. */
static int64_t triangle_place(const part_params *p, int64_t r, int64_t c) {
  int64_t w = width_of(p), i = is_lower(p) ? r - w : c - w, j = is_lower(p) ? c : r;
  return i * (i + 1) / 2 + j;
}

/* Copies between a stack of matrices and the packed parts. */
static mx_status copy_parts(const mx_call *c, bool triangle, bool make, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const part_params *p = c->params;
  mx_matrices m = mx_matrices_of(make ? &c->out[0].shape : &c->in[0].shape);
  int64_t n = m.rows, size = part_size(n, triangle, p);
  size_t whole = (size_t)(m.count * n * n) * mx_dtype_size(c->out[0].dtype);
  if (whole == 0) return MX_OK;
  if (make) memset(c->out[0].data, 0, whole);
  MX_SWITCH_FLOAT(c->out[0].dtype, break, {
    T *out = c->out[0].data;
    const T *in = c->in[0].data;
    /* Elements of a diagonal have one distance: n + 1. */
    const int64_t first = p->offset < 0 ? -p->offset * n : p->offset, diagonal = triangle ? 0 : size;
    _Pragma("omp parallel for num_threads(mx_threads_for(m.count *size, MX_GRAIN))") for (int64_t i = 0; i < m.count;
                                                                                          i++) {
      for (int64_t k = 0; k < diagonal; k++) {
        int64_t in_matrix = i * n * n + first + k * (n + 1), in_part = i * size + k;
        out[make ? in_matrix : in_part] = in[make ? in_part : in_matrix];
      }
      for (int64_t r = 0; triangle && r < n; r++) {
        int64_t from, to;
        triangle_columns(p, n, r, &from, &to);
        for (int64_t k = from; k < to; k++) {
          int64_t in_matrix = (i * n + r) * n + k, in_part = i * size + triangle_place(p, r, k);
          out[make ? in_matrix : in_part] = in[make ? in_part : in_matrix];
        }
      }
    }
  })
  return MX_OK;
}
static mx_status extractdiag_kernel(const mx_call *c, mx_error *err) { return copy_parts(c, false, false, err); }
static mx_status makediag_kernel(const mx_call *c, mx_error *err) { return copy_parts(c, false, true, err); }
static mx_status extracttrian_kernel(const mx_call *c, mx_error *err) { return copy_parts(c, true, false, err); }
static mx_status maketrian_kernel(const mx_call *c, mx_error *err) { return copy_parts(c, true, true, err); }

/* Taking a part out and putting it in are each other's gradients. */
static mx_status part_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node || !g->wanted[0]) return MX_OK;
  const char *name = g->op->name, *other;
  if (strstr(name, "diag"))
    other = strstr(name, "make") ? "_linalg_extractdiag" : "_linalg_makediag";
  else
    other = strstr(name, "make") ? "_linalg_extracttrian" : "_linalg_maketrian";
  return mx_grad_backward(g, other, &g->out_grad[0], 1, &g->in_grad[0], err);
}

/* ---- sumlogdiag ---- */

/* One number a matrix; (1,) for a single one: there are no scalar shapes. */
static mx_status per_matrix_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_linalg_square(&in[0], "A", err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = in[0];
  want.ndim -= 2;
  if (want.ndim == 0) want = mx_shape_of(1);
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status sumlogdiag_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  mx_matrices m = mx_matrices_of(&c->in[0].shape);
  for (int64_t i = 0; i < m.count; i++) {
    double sum = 0;
    MX_SWITCH_FLOAT(c->out[0].dtype, break, {
      const T *a = (const T *)c->in[0].data + i * m.rows * m.rows;
      for (int64_t r = 0; r < m.rows; r++) sum += log((double)a[r * m.rows + r]);
      ((T *)c->out[0].data)[i] = (T)sum;
    })
  }
  return MX_OK;
}
/* The head over the diagonal, on the diagonal. */
static mx_status sumlogdiag_gradient(mx_grad *g, mx_error *err) {
  mx_entry head = g->out_grad[0], diagonal, ratio;
  if (!head.node || !g->wanted[0] || mx_shape_size(&g->in_shape[0]) == 0) return MX_OK;
  mx_shape column = g->in_shape[0];
  char text[MX_SHAPE_TEXT];
  column.dim[--column.ndim - 1] = 1;
  MX_TRY(MX_LINALG_CALL(g, "_linalg_extractdiag", &diagonal, err, NULL, g->in[0]));
  MX_TRY(MX_LINALG_CALL(g, "Reshape", &head, err, ((const char *const[]){"shape", mx_shape_text(&column, text), NULL}),
                        head));
  MX_TRY(MX_LINALG_CALL(g, "broadcast_div", &ratio, err, NULL, head, diagonal));
  return MX_LINALG_CALL(g, "_linalg_makediag", &g->in_grad[0], err, NULL, ratio);
}

/* ---- records ---- */

static const mx_alias over_b[] = {{0, 1}, {-1, -1}};
static const mx_alias over_c[] = {{0, 2}, {-1, -1}};

const mx_op mx_ops_linalg[] = {
    {.name = "_linalg_gemm",
     .aliases = MX_STRINGS("linalg_gemm"),
     .family = FAMILY,
     .doc = "Product and sum of matrices: alpha op(A) op(B) + beta C, op being the transposition if asked. The rows of "
            "the "
            "matrices "
            "are native axis `axis`, the columns the last axis; the other axes count the matrices.",
     .in_doc = MX_STRINGS("Matrices (m, k), or (k, m) with transpose_a.",
                          "Matrices (k, n), or (n, k) with transpose_b.", "Matrices (m, n)."),
     .params = gemm_table,
     .params_size = sizeof(gemm_params),
     .n_in = 3,
     .n_out = 1,
     .in_names = MX_STRINGS("A", "B", "C"),
     .infer_shape = gemm_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = gemm_gradient,
     .aliases_mem = over_c,
     .flags = MX_OP_PORTABLE,
     .kernel = gemm_kernel},
    {.name = "_linalg_gemm2",
     .aliases = MX_STRINGS("linalg_gemm2"),
     .family = FAMILY,
     .doc = "alpha op(A) op(B) for stacks of matrices, like linalg_gemm.",
     .in_doc =
         MX_STRINGS("Matrices (m, k), or (k, m) with transpose_a.", "Matrices (k, n), or (n, k) with transpose_b."),
     .params = gemm2_table,
     .params_size = sizeof(gemm_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("A", "B"),
     .infer_shape = gemm_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = gemm_gradient,
     .flags = MX_OP_ADDS | MX_OP_PORTABLE,
     .kernel = gemm2_kernel},
    {.name = "_linalg_syrk",
     .aliases = MX_STRINGS("linalg_syrk"),
     .family = FAMILY,
     .doc = "Product of matrices with their own transposes: alpha A transpose(A), or alpha transpose(A) A with "
            "transpose, for stacks of matrices.",
     .in_doc = MX_STRINGS("Matrices, native shape (..., rows, columns)."),
     .params = syrk_table,
     .params_size = sizeof(syrk_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = syrk_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = syrk_gradient,
     .kernel = syrk_kernel},
    {.name = "_linalg_trmm",
     .aliases = MX_STRINGS("linalg_trmm"),
     .family = FAMILY,
     .doc = "Product with a triangular matrix: alpha op(A) B, or alpha B op(A) with rightside, for a triangular matrix "
            "A, of which only the named "
            "triangle is "
            "read.",
     .in_doc =
         MX_STRINGS("Triangular matrices, native shape (..., n, n).", "Matrices, native shape (..., rows, columns)."),
     .params = tri_table,
     .params_size = sizeof(tri_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("A", "B"),
     .infer_shape = tri_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = trmm_gradient,
     .aliases_mem = over_b,
     .kernel = trmm_kernel},
    {.name = "_linalg_trsm",
     .aliases = MX_STRINGS("linalg_trsm"),
     .family = FAMILY,
     .doc = "Solves triangular systems: X of op(A) X = alpha B, or of X op(A) = alpha B with rightside, for a "
            "triangular matrix A, "
            "of which "
            "only the named triangle is read.",
     .in_doc =
         MX_STRINGS("Triangular matrices, native shape (..., n, n).", "Matrices, native shape (..., rows, columns)."),
     .params = tri_table,
     .params_size = sizeof(tri_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("A", "B"),
     .infer_shape = tri_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = trsm_gradient,
     .aliases_mem = over_b,
     .kernel = trsm_kernel},
    {.name = "_linalg_extractdiag",
     .aliases = MX_STRINGS("linalg_extractdiag"),
     .family = FAMILY,
     .doc = "A diagonal of each matrix, as a vector.",
     .in_doc = MX_STRINGS("Square matrices, native shape (..., n, n)."),
     .params = diag_table,
     .params_size = sizeof(part_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = extractdiag_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = part_gradient,
     .kernel = extractdiag_kernel},
    {.name = "_linalg_makediag",
     .aliases = MX_STRINGS("linalg_makediag"),
     .family = FAMILY,
     .doc = "Square matrices from a diagonal: the given vectors, and zeros elsewhere.",
     .in_doc = MX_STRINGS("Diagonals, native shape (..., n)."),
     .params = diag_table,
     .params_size = sizeof(part_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = makediag_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = part_gradient,
     .kernel = makediag_kernel},
    {.name = "_linalg_extracttrian",
     .aliases = MX_STRINGS("linalg_extracttrian"),
     .family = FAMILY,
     .doc = "A triangle of each matrix, packed into a vector: a lower one row by row, an upper one column by column.",
     .in_doc = MX_STRINGS("Square matrices, native shape (..., n, n)."),
     .params = trian_table,
     .params_size = sizeof(part_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = extracttrian_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = part_gradient,
     .kernel = extracttrian_kernel},
    {.name = "_linalg_maketrian",
     .aliases = MX_STRINGS("linalg_maketrian"),
     .family = FAMILY,
     .doc = "Square matrices from a triangle: the given vectors, packed as linalg_extracttrian does, and zeros "
            "elsewhere.",
     .in_doc = MX_STRINGS("Packed triangles, native shape (..., k (k + 1) / 2)."),
     .params = trian_table,
     .params_size = sizeof(part_params),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = maketrian_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = part_gradient,
     .kernel = maketrian_kernel},
    {.name = "_linalg_sumlogdiag",
     .aliases = MX_STRINGS("linalg_sumlogdiag"),
     .family = FAMILY,
     .doc = "Sum of the logarithms of the diagonal of each matrix.",
     .in_doc = MX_STRINGS("Square matrices with a positive diagonal, native shape (..., n, n)."),
     .n_in = 1,
     .n_out = 1,
     .in_names = MX_STRINGS("A"),
     .infer_shape = per_matrix_shape,
     .infer_dtype = mx_linalg_dtype,
     .gradient = sumlogdiag_gradient,
     .kernel = sumlogdiag_kernel},
    {0}};
