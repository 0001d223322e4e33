/* Matrix products: dot contracts one axis of each array, batch_dot multiplies stacks of matrices.
 *
 * Both are one gemm call on two-dimensional views; their gradients are again dot and batch_dot. */
#include <stdio.h>

#include "ops/op.h"

typedef struct dot_params {
  bool transpose_a, transpose_b;
  int forward_stype;
} dot_params;

/* Storage types are part of saved graphs; every array here is dense, so that the choice changes nothing. */
static const char *const stypes[] = {"None", "csr", "default", "row_sparse", NULL};
static const mx_param dot_table[] = {
    MX_P_BOOL(dot_params, transpose_a, "0",
              "Contract the first native axis of lhs instead of the last (dot), or transpose each matrix (batch_dot)."),
    MX_P_BOOL(dot_params, transpose_b, "0",
              "Contract the last native axis of rhs instead of the first (dot), or transpose each matrix (batch_dot)."),
    MX_P_ENUM(dot_params, forward_stype, "None", stypes,
              "Wanted storage of the output; accepted for saved graphs, arrays are always dense."),
    MX_P_END};

static mx_status float_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = MX_DTYPE_UNKNOWN;
  for (int i = 0; i < n_in + n_out; i++) {
    mx_dtype d = i < n_in ? in[i] : out[i - n_in];
    if (d == MX_DTYPE_UNKNOWN) continue;
    if (t != MX_DTYPE_UNKNOWN && d != t)
      return mx_fail(err, MX_ERR_TYPE, "A matrix product needs arrays of one type, but one is %s and another is %s.",
                     mx_dtype_name(t), mx_dtype_name(d));
    if (!mx_dtype_is_float(d))
      return mx_fail(err, MX_ERR_TYPE, "A matrix product needs a floating-point type, but an array is %s.",
                     mx_dtype_name(d));
    t = d;
  }
  for (int i = 0; i < n_in; i++) in[i] = t;
  for (int i = 0; i < n_out; i++) out[i] = t;
  return MX_OK;
}

static mx_status inner_mismatch(const mx_shape *a, const mx_shape *b, int64_t ka, int64_t kb, mx_error *err) {
  char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
  mx_fail(err, MX_ERR_SHAPE,
          "Native shapes %s of lhs and %s of rhs do not fit: the contracted dimensions are %lld and %lld.",
          mx_shape_text(a, ta), mx_shape_text(b, tb), (long long)ka, (long long)kb);
  mx_error_set(err, argument, "rhs");
  mx_error_set(err, expected, "a contracted dimension of %lld", (long long)ka);
  mx_error_set(err, actual, "%lld", (long long)kb);
  return MX_ERR_SHAPE;
}

/* ---- dot ---- */

/* The axis of each input that is summed over, given its number of dimensions. */
static int dot_axis_a(const dot_params *p, int ndim) { return p->transpose_a ? 0 : ndim - 1; }
static int dot_axis_b(const dot_params *p, int ndim) { return p->transpose_b ? ndim - 1 : 0; }

static mx_status dot_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const dot_params *p = params;
  mx_shape *a = &in[0], *b = &in[1];
  if (a->ndim == 0 || b->ndim == 0)
    return mx_fail(err, MX_ERR_SHAPE, "dot needs arrays with at least one dimension, but %s has none.",
                   a->ndim == 0 ? "lhs" : "rhs");
  if (a->ndim < 0 || b->ndim < 0) return MX_OK;
  int xa = dot_axis_a(p, a->ndim), xb = dot_axis_b(p, b->ndim);
  int64_t *ka = &a->dim[xa], *kb = &b->dim[xb];
  if (*ka >= 0 && *kb >= 0 && *ka != *kb) return inner_mismatch(a, b, *ka, *kb, err);
  if (*ka < 0) *ka = *kb;
  if (*kb < 0) *kb = *ka;
  int n = a->ndim + b->ndim - 2;
  if (n > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE,
                   "The product of arrays with %d and %d dimensions would have %d; at most %d are possible.", a->ndim,
                   b->ndim, n, MX_MAX_NDIM);
  mx_shape s = {.ndim = 0};
  for (int i = 0; i < a->ndim; i++)
    if (i != xa) s.dim[s.ndim++] = a->dim[i];
  for (int i = 0; i < b->ndim; i++)
    if (i != xb) s.dim[s.ndim++] = b->dim[i];
  if (s.ndim == 0) s.dim[s.ndim++] = 1; /* two vectors: there are no scalar shapes */
  return mx_shape_merge(&out[0], &s, "output", err);
}

static mx_status dot_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const dot_params *p = c->params;
  const mx_tensor *a = &c->in[0], *b = &c->in[1];
  int64_t k = a->shape.dim[dot_axis_a(p, a->shape.ndim)];
  int64_t m =
      p->transpose_a ? mx_shape_prod(&a->shape, 1, a->shape.ndim) : mx_shape_prod(&a->shape, 0, a->shape.ndim - 1);
  int64_t n =
      p->transpose_b ? mx_shape_prod(&b->shape, 0, b->shape.ndim - 1) : mx_shape_prod(&b->shape, 1, b->shape.ndim);
  mx_gemm g = {.trans_a = p->transpose_a,
               .trans_b = p->transpose_b,
               .m = m,
               .n = n,
               .k = k,
               .alpha = 1,
               .beta = c->req[0] == MX_ADD ? 1 : 0,
               .a = a->data,
               .b = b->data,
               .c = c->out[0].data,
               .lda = p->transpose_a ? m : k,
               .ldb = p->transpose_b ? k : n,
               .ldc = n,
               .dtype = c->out[0].dtype};
  return c->device->ops->gemm(c->device, &g, err);
}

/* A two-dimensional view (rows, cols) of an entry; entries that have that shape already stay as they are. */
static mx_status as_matrix(mx_grad *g, mx_entry e, int64_t rows, int64_t cols, mx_entry *out, mx_error *err) {
  const mx_shape *s = mx_grad_shape(g, e);
  if (s->ndim == 2 && s->dim[0] == rows && s->dim[1] == cols) {
    *out = e;
    return MX_OK;
  }
  char text[MX_SHAPE_TEXT];
  mx_shape want = mx_shape_of(rows, cols);
  return mx_grad_call(g, "Reshape", (const char *const[]){"shape", mx_shape_text(&want, text), NULL}, &e, 1, out, err);
}

static mx_status product(mx_grad *g, const char *op, mx_entry a, mx_entry b, bool ta, bool tb, mx_entry *out,
                         mx_error *err) {
  const char *attrs[5] = {NULL};
  int n = 0;
  if (ta) attrs[n++] = "transpose_a", attrs[n++] = "True";
  if (tb) attrs[n++] = "transpose_b", attrs[n++] = "True";
  return mx_grad_call(g, op, attrs, (mx_entry[]){a, b}, 2, out, err);
}

/* For C = op(A) op(B): dA = dC op(B)' and dB = op(A)' dC, transposed back where the input was. */
static mx_status product_gradient(mx_grad *g, const char *op, const dot_params *p, mx_entry a, mx_entry b,
                                  mx_entry head, mx_entry *da, mx_entry *db, mx_error *err) {
  if (da && !p->transpose_a) MX_TRY(product(g, op, head, b, false, !p->transpose_b, da, err));
  if (da && p->transpose_a) MX_TRY(product(g, op, b, head, p->transpose_b, true, da, err));
  if (db && !p->transpose_b) MX_TRY(product(g, op, a, head, !p->transpose_a, false, db, err));
  if (db && p->transpose_b) MX_TRY(product(g, op, head, a, true, p->transpose_a, db, err));
  return MX_OK;
}

static mx_status back_to_shape(mx_grad *g, const mx_shape *s, mx_entry *e, mx_error *err) {
  if (mx_shape_equal(mx_grad_shape(g, *e), s)) return MX_OK;
  char text[MX_SHAPE_TEXT];
  return mx_grad_call(g, "Reshape", (const char *const[]){"shape", mx_shape_text(s, text), NULL}, e, 1, e, err);
}

static mx_status dot_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node) return MX_OK;
  const dot_params *p = g->params;
  const mx_shape *sa = &g->in_shape[0], *sb = &g->in_shape[1];
  if (mx_shape_size(sa) == 0 || mx_shape_size(sb) == 0) return MX_OK; /* an empty sum depends on nothing */
  int64_t k = sa->dim[dot_axis_a(p, sa->ndim)], m = mx_shape_size(sa) / k, n = mx_shape_size(sb) / k;
  mx_entry a, b, head;
  MX_TRY(as_matrix(g, g->in[0], p->transpose_a ? k : m, p->transpose_a ? m : k, &a, err));
  MX_TRY(as_matrix(g, g->in[1], p->transpose_b ? n : k, p->transpose_b ? k : n, &b, err));
  MX_TRY(as_matrix(g, g->out_grad[0], m, n, &head, err));
  MX_TRY(product_gradient(g, "dot", p, a, b, head, g->wanted[0] ? &g->in_grad[0] : NULL,
                          g->wanted[1] ? &g->in_grad[1] : NULL, err));
  for (int i = 0; i < 2; i++)
    if (g->wanted[i]) MX_TRY(back_to_shape(g, &g->in_shape[i], &g->in_grad[i], err));
  return MX_OK;
}

/* ---- batch_dot ---- */

static mx_status batch_dot_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const dot_params *p = params;
  mx_shape *a = &in[0], *b = &in[1], *o = &out[0];
  int ndim = a->ndim >= 0 ? a->ndim : b->ndim >= 0 ? b->ndim : o->ndim;
  if (ndim < 0) return MX_OK;
  mx_shape blank = {.ndim = ndim};
  for (int i = 0; i < MX_MAX_NDIM; i++) blank.dim[i] = MX_DIM_UNKNOWN;
  MX_TRY(mx_shape_merge(a, &blank, "lhs", err));
  MX_TRY(mx_shape_merge(b, &blank, "rhs", err));
  MX_TRY(mx_shape_merge(o, &blank, "output", err));
  if (ndim < 3)
    return mx_fail(err, MX_ERR_SHAPE,
                   "batch_dot needs arrays with at least three dimensions (batch, rows, columns), but got %d.", ndim);
  /* The same dimension of several arrays, as one shape: filled both ways by merging. */
  for (int i = 0; i < ndim - 2; i++) {
    mx_shape d = mx_shape_of(a->dim[i]), db = mx_shape_of(b->dim[i]), dout = mx_shape_of(o->dim[i]);
    if (mx_shape_merge(&d, &db, "rhs", err) != MX_OK || mx_shape_merge(&d, &dout, "output", err) != MX_OK) {
      char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
      mx_fail(err, MX_ERR_SHAPE, "The batch dimensions of lhs, native shape %s, and rhs, native shape %s, differ.",
              mx_shape_text(a, ta), mx_shape_text(b, tb));
      mx_error_set(err, argument, "rhs");
      mx_error_set(err, expected, "%s", ta);
      mx_error_set(err, actual, "%s", tb);
      return MX_ERR_SHAPE;
    }
    a->dim[i] = b->dim[i] = o->dim[i] = d.dim[0];
  }
  int64_t *am = &a->dim[ndim - (p->transpose_a ? 1 : 2)], *ak = &a->dim[ndim - (p->transpose_a ? 2 : 1)];
  int64_t *bk = &b->dim[ndim - (p->transpose_b ? 1 : 2)], *bn = &b->dim[ndim - (p->transpose_b ? 2 : 1)];
  if (*ak >= 0 && *bk >= 0 && *ak != *bk) return inner_mismatch(a, b, *ak, *bk, err);
  if (*ak < 0) *ak = *bk;
  if (*bk < 0) *bk = *ak;
  mx_shape s = *o;
  s.dim[ndim - 2] = *am;
  s.dim[ndim - 1] = *bn;
  MX_TRY(mx_shape_merge(o, &s, "output", err));
  *am = o->dim[ndim - 2];
  *bn = o->dim[ndim - 1];
  return MX_OK;
}

static mx_status batch_dot_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const dot_params *p = c->params;
  const mx_shape *a = &c->in[0].shape, *o = &c->out[0].shape;
  int d = o->ndim;
  int64_t m = o->dim[d - 2], n = o->dim[d - 1], k = a->dim[d - (p->transpose_a ? 2 : 1)];
  int64_t batch = mx_shape_prod(o, 0, d - 2);
  if (batch == 0) return MX_OK;
  mx_gemm g = {.trans_a = p->transpose_a,
               .trans_b = p->transpose_b,
               .m = m,
               .n = n,
               .k = k,
               .alpha = 1,
               .beta = c->req[0] == MX_ADD ? 1 : 0,
               .a = c->in[0].data,
               .b = c->in[1].data,
               .c = c->out[0].data,
               .lda = p->transpose_a ? m : k,
               .ldb = p->transpose_b ? k : n,
               .ldc = n,
               .dtype = c->out[0].dtype,
               .batch = batch,
               .stride_a = m * k,
               .stride_b = k * n,
               .stride_c = m * n};
  return c->device->ops->gemm(c->device, &g, err);
}

static mx_status batch_dot_gradient(mx_grad *g, mx_error *err) {
  if (!g->out_grad[0].node) return MX_OK;
  return product_gradient(g, "batch_dot", g->params, g->in[0], g->in[1], g->out_grad[0],
                          g->wanted[0] ? &g->in_grad[0] : NULL, g->wanted[1] ? &g->in_grad[1] : NULL, err);
}

const mx_op mx_ops_dot[] = {
    {.name = "dot",
     .aliases = MX_STRINGS("_sparse_dot"),
     .family = "Linear algebra",
     .doc =
         "Sums over the last native axis of lhs and the first native axis of rhs: for matrices the matrix product, for "
         "two "
         "vectors their inner product, in general out[i..., j...] = sum_k lhs[i..., k] rhs[k, j...]. transpose_a takes "
         "the first axis of lhs instead, transpose_b the last axis of rhs.",
     .in_doc = MX_STRINGS("Array with at least one dimension.", "Array with at least one dimension."),
     .params = dot_table,
     .params_size = sizeof(dot_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("lhs", "rhs"),
     .infer_shape = dot_shape,
     .infer_dtype = float_dtype,
     .gradient = dot_gradient,
     .flags = MX_OP_ADDS | MX_OP_PORTABLE,
     .kernel = dot_kernel},
    {.name = "batch_dot",
     .family = "Linear algebra",
     .doc = "Matrix products of two stacks of matrices: out[b] = lhs[b] rhs[b] for every index b of the leading native "
            "dimensions, each matrix transposed first if asked.",
     .in_doc = MX_STRINGS("Matrices, native shape (batch..., m, k), or (batch..., k, m) with transpose_a.",
                          "Matrices, native shape (batch..., k, n), or (batch..., n, k) with transpose_b."),
     .params = dot_table,
     .params_size = sizeof(dot_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("lhs", "rhs"),
     .infer_shape = batch_dot_shape,
     .infer_dtype = float_dtype,
     .gradient = batch_dot_gradient,
     .flags = MX_OP_ADDS | MX_OP_PORTABLE,
     .kernel = batch_dot_kernel},
    {0}};
