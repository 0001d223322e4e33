/* What the layers share: dtype rules, the wiring of backward operators, matrix products and sums over rows. */
#ifndef MX_OPS_LAYER_H
#define MX_OPS_LAYER_H

#include "ops/op.h"

/* infer_dtype of layers: one floating-point dtype for all inputs and outputs. */
MX_NODISCARD mx_status mx_layer_infer_float(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                            mx_error *err);

/* mx_fail that also says which argument or parameter it was about. */
mx_status mx_layer_fail(mx_error *err, mx_status code, const char *argument, const char *fmt, ...) MX_PRINTF(4, 5);

/* Merges `shape` into both: for arrays that must agree. */
MX_NODISCARD mx_status mx_layer_unify(mx_shape *a, mx_shape *b, const char *what, mx_error *err);

/* Sets one dimension of a shape whose ndim is known; a conflict is MX_ERR_SHAPE. -1 changes nothing. */
MX_NODISCARD mx_status mx_layer_set_dim(mx_shape *s, int axis, int64_t dim, const char *what, mx_error *err);

/* Product of dim[from..to), -1 when one of them is unknown; MX_ERR_SHAPE when it does not fit. */
MX_NODISCARD mx_status mx_layer_known_prod(const mx_shape *s, int from, int to, int64_t *out, mx_error *err);

/* Ends a `gradient`: appends the backward operator `op` with inputs `in`; its outputs 0.. are the gradients of the
 * inputs 0.. (as many as the operator has; further inputs get none). */
MX_NODISCARD mx_status mx_layer_backward(mx_grad *g, const char *op, const mx_entry *in, int n_in, int n_out,
                                         mx_error *err);

/* c = op(a) op(b) + beta * c, row-major. */
MX_NODISCARD mx_status mx_layer_gemm(const mx_call *call, mx_dtype dtype, bool trans_a, bool trans_b, int64_t m,
                                     int64_t n, int64_t k, const void *a, int64_t lda, const void *b, int64_t ldb,
                                     double beta, void *c, int64_t ldc, mx_error *err);

/* out[j] (+)= sum over i of in[i, j], for a rows x cols matrix. Summed in blocks of rows that depend on the shape only,
 * so that the result is the same with any number of threads. `workspace` has mx_column_sum_bytes. */
size_t mx_column_sum_bytes(int64_t rows, int64_t cols, mx_dtype dtype);
void mx_column_sum(const void *in, int64_t rows, int64_t cols, void *out, mx_dtype dtype, bool add, void *workspace);

/* What every state of a layer begins with; mx_layer_release is the `release` of their records. */
typedef struct mx_layer_state {
  void (*release)(void *state);
} mx_layer_state;
void mx_layer_release(void *state);

/* Half precision by way of float, for layers without half kernels: the call is prepared and run on float copies of its
 * arrays in the workspace. `prepare` may be NULL. A prepare begins with
 *   if (mx_layer_is_half(c)) return mx_layer_half_prepare(c, this_prepare, err);
 * and its kernel likewise with mx_layer_half_run. */
static inline bool mx_layer_is_half(const mx_call *c) { return c->out[0].dtype == MX_FLOAT16; }
MX_NODISCARD mx_status mx_layer_half_prepare(mx_call *c, mx_status (*prepare)(mx_call *c, mx_error *err),
                                             mx_error *err);
MX_NODISCARD mx_status mx_layer_half_run(const mx_call *c, mx_kernel kernel, mx_error *err);

static inline size_t mx_align64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

#endif
