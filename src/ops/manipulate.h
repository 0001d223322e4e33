/* What the operators that move, pick and rearrange elements share: views, dtype rules, reading of indices, attribute
 * texts. */
#ifndef MX_OPS_MANIPULATE_H
#define MX_OPS_MANIPULATE_H

#include "ops/layer.h"
#include "ops/op.h"
#include "ops/strided.h"

/* Makes two dtypes equal: an unknown one takes the other. A conflict is MX_ERR_TYPE and names `what`. */
MX_NODISCARD mx_status mx_dtype_unify(mx_dtype *a, mx_dtype *b, const char *what, mx_error *err);

/* infer_dtype: input 0 and every output have one dtype; further inputs are indices or lengths of any dtype. */
MX_NODISCARD mx_status mx_infer_dtype_first(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                            mx_error *err);

/* mx_axis_resolve with the name of the parameter in the message. */
MX_NODISCARD mx_status mx_axis_param(int64_t axis, int ndim, const char *name, int *out, mx_error *err);

/* Writes the bytes of input 0 (nothing when they are there already), or zeros, to output i, on every kind of device. */
MX_NODISCARD mx_status mx_copy_first(const mx_call *c, mx_error *err);
MX_NODISCARD mx_status mx_zero_output(const mx_call *c, int i, mx_error *err);

/* Kernel of operators whose output has the bytes of input 0, on every kind of device. */
MX_NODISCARD mx_status mx_view_kernel(const mx_call *c, mx_error *err);
/* Gradient of such operators: the head gradient in the shape of input 0. */
MX_NODISCARD mx_status mx_view_gradient(mx_grad *g, mx_error *err);
/* Appends a Reshape of `in`, or passes it on when it has that shape already. */
MX_NODISCARD mx_status mx_grad_reshape(mx_grad *g, mx_entry in, const mx_shape *to, mx_entry *out, mx_error *err);

extern const mx_alias mx_alias_first[]; /* output 0 may overwrite input 0 */

/* "(1,-2,3)" into buf; returns buf. Integers of any sign; MX_TUPLE_NONE becomes None. */
const char *mx_tuple_text(const int64_t *v, int n, char buf[MX_SHAPE_TEXT]);
#define MX_INT_TEXT 24
const char *mx_int_text(int64_t v, char buf[MX_INT_TEXT]);

/* Elements [from, from + n) of an array of any dtype as integers: fractions are cut, what does not fit is clamped, NaN
 * becomes INT64_MIN. */
void mx_read_indices(const mx_tensor *t, int64_t from, int64_t n, int64_t *out);
#define MX_INDEX_BLOCK 256 /* indices read at a time */

/* n copies of a number in the element type of `dtype`. */
void mx_fill(void *dst, mx_dtype dtype, int64_t n, double value);

/* d[i] += s[i] */
void mx_add_row(mx_dtype dtype, void *d, const void *s, int64_t n);

static inline int64_t mx_clamp_index(int64_t i, int64_t n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }
static inline int64_t mx_wrap_index(int64_t i, int64_t n) {
  int64_t r = i % n;
  return r < 0 ? r + n : r;
}

#endif
