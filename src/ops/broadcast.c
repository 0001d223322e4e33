/* Operators that repeat what is small: arithmetic with broadcasting, broadcast_axis, broadcast_to, broadcast_like. Their
 * rows stand in scalar.def. */
#include <string.h>

#include "ops/elementwise.h"

/* ---- two arrays ---- */

/* Dimension of a broadcast of x and y, either of which may be unknown: something larger than 1 decides. */
static int64_t wider(int64_t x, int64_t y) {
  if (x == MX_DIM_UNKNOWN) return y == 1 ? MX_DIM_UNKNOWN : y;
  if (y == MX_DIM_UNKNOWN) return x == 1 ? MX_DIM_UNKNOWN : x;
  return x == 1 ? y : x;
}

static mx_status broadcast_conflict(const mx_shape *a, const mx_shape *b, mx_error *err) {
  char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
  mx_shape_text(a, ta);
  mx_shape_text(b, tb);
  mx_fail(err, MX_ERR_SHAPE, "Shapes %s and %s cannot be broadcast: each dimension must be equal or 1.", ta, tb);
  mx_error_set(err, argument, "rhs");
  mx_error_set(err, expected, "a shape that broadcasts with %s", ta);
  mx_error_set(err, actual, "%s", tb);
  return MX_ERR_SHAPE;
}

mx_status mx_broadcast_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape all = in[0];
  for (int k = 1; k < n_in; k++) {
    const mx_shape *a = &all, *b = &in[k];
    if (a->ndim < 0 || b->ndim < 0) return MX_OK;
    mx_shape r = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
    for (int i = 0; i < r.ndim; i++) {
      int ia = i - (r.ndim - a->ndim), ib = i - (r.ndim - b->ndim);
      int64_t x = ia < 0 ? 1 : a->dim[ia], y = ib < 0 ? 1 : b->dim[ib];
      if (x > 1 && y >= 0 && y != 1 && x != y) return broadcast_conflict(a, b, err);
      if (y > 1 && x >= 0 && x != 1 && x != y) return broadcast_conflict(a, b, err);
      r.dim[i] = wider(x, y);
    }
    all = r;
  }
  MX_TRY(mx_shape_merge(&out[0], &all, "output", err));
  return MX_OK;
}

#define DOC(name, text) static const char doc_##name[] __attribute__((unused)) = text;
#define BINARY(name, ints, order, e, da, db, doc)                                                                \
  DOC(name, doc ". Dimensions of 1 are repeated to match the other array; dimensions that are missing in front " \
                "count as 1.")
#define BROADCAST(name, row, ...) \
  MX_ELEMENTWISE(name, row, .backward = {"_backward_" #row "_lhs", "_backward_" #row "_rhs"})
#include "ops/scalar.def"

#define ALIASES(...) (const char *const[]) { __VA_ARGS__ __VA_OPT__(, ) NULL }

const mx_op mx_ops_broadcast[] = {
#define BROADCAST(name_, row, ...)                                                   \
  {.name = #name_,                                                                   \
   .aliases = ALIASES(__VA_ARGS__),                                                  \
   .family = "Broadcasting, two inputs",                                             \
   .doc = doc_##row,                                                                 \
   .in_doc = MX_STRINGS("Any shape.", "A shape that can be broadcast with lhs."),    \
   .in_names = MX_STRINGS("lhs", "rhs"),                                             \
   .infer_shape = mx_broadcast_infer,                                                \
   .gradient = mx_elementwise_gradient,                                              \
   MX_ELEMENTWISE_RECORD(name_, 2, 0)},
#include "ops/scalar.def"
    {0}};
