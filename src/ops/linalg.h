/* What the linear algebra operators share: shapes of stacks of matrices, types. */
#ifndef MX_OPS_LINALG_H
#define MX_OPS_LINALG_H

#include "ops/op.h"

/* float32 or float64, the same for all arrays. */
MX_NODISCARD mx_status mx_linalg_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                       mx_error *err);

/* `s` has at least `ndim` dimensions when it is known. */
MX_NODISCARD mx_status mx_linalg_min_ndim(const mx_shape *s, int ndim, const char *what, mx_error *err);

/* The last two dimensions of `s` are equal, each filled from the other. At least two dimensions. */
MX_NODISCARD mx_status mx_linalg_square(mx_shape *s, const char *what, mx_error *err);

/* LAPACK counts in int: no dimension of the matrix may exceed `limit`. */
MX_NODISCARD mx_status mx_linalg_limit(const mx_shape *s, int64_t limit, mx_error *err);

/* A stack of matrices: the last two dimensions, and the product of the others. */
typedef struct mx_matrices {
  int64_t count, rows, cols;
} mx_matrices;
static inline mx_matrices mx_matrices_of(const mx_shape *s) {
  return (mx_matrices){mx_shape_prod(s, 0, s->ndim - 2), s->dim[s->ndim - 2], s->dim[s->ndim - 1]};
}

/* What is done with matrix i of a stack; `work` has the bytes that were asked for. */
typedef mx_status (*mx_matrix_step)(const mx_call *c, int64_t i, char *work, mx_error *err);
/* Runs `step` for each matrix of a stack, shared out among threads. A matrix takes `cost` multiplications, and `each`
 * bytes of workspace: c->workspace_bytes is mx_stack_bytes. Of several failures that of the first matrix is reported.
 */
size_t mx_stack_bytes(int64_t count, double cost, size_t each);
MX_NODISCARD mx_status mx_stack_run(const mx_call *c, int64_t count, double cost, size_t each, mx_matrix_step step,
                                    mx_error *err);

/* An operator application in a gradient, with attributes as pairs of key and value. */
#define MX_LINALG_CALL(g, op, out, err, attrs, ...)                                                                  \
  mx_grad_call(g, op, attrs, (mx_entry[]){__VA_ARGS__}, (int)(sizeof((mx_entry[]){__VA_ARGS__}) / sizeof(mx_entry)), \
               out, err)

#endif
