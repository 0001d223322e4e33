/* How records are made of rows: for the files that define elementwise operators. */
#ifndef MX_OPS_ELEMENTWISE_H
#define MX_OPS_ELEMENTWISE_H

#include "ops/scalar.h"

/* Kernel and gradient of every operator whose record has `elementwise`. */
MX_NODISCARD mx_status mx_elementwise_kernel(const mx_call *c, mx_error *err);
MX_NODISCARD mx_status mx_elementwise_gradient(mx_grad *g, mx_error *err);

/* infer_shape: the output is the broadcast of the inputs (NumPy's rule). */
MX_NODISCARD mx_status mx_broadcast_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                          mx_error *err);

/* Sums the entry over what was broadcast from `shape`; the entry itself when nothing was. `axis` as in mx_source. */
MX_NODISCARD mx_status mx_grad_reduce_to(mx_grad *g, mx_entry e, const mx_shape *shape, int axis, mx_entry *out,
                                         mx_error *err);

/* mx_elementwise_alias[n]: the output may overwrite any of n inputs. */
extern const mx_alias mx_elementwise_alias[MX_MAX_OPERANDS + 1][MX_MAX_OPERANDS + 1];

/* map_<id>(params) gives {.row = row, ...}. Operands are inputs unless it says something else. */
#define MX_ELEMENTWISE(id, row_, ...)                                                    \
  static const mx_elementwise *map_##id(const void *params) {                            \
    static const mx_elementwise map = {.row = MX_ROW_##row_ __VA_OPT__(, ) __VA_ARGS__}; \
    return &map;                                                                         \
  }

/* The fields of a record that every elementwise operator has. */
#define MX_ELEMENTWISE_RECORD(id, inputs, more_flags)                                                          \
  .n_in = inputs, .n_out = 1, .aliases_mem = mx_elementwise_alias[inputs], .flags = MX_OP_ADDS | (more_flags), \
  .kernel = mx_elementwise_kernel, .elementwise = map_##id
/* The same for one that backward uses. */
#define MX_DERIVATIVE_RECORD(id, inputs, family_)                                                                   \
  .family = family_, .doc = "Factor of a gradient.", .n_in = inputs, .n_out = 1, .infer_shape = mx_broadcast_infer, \
  .aliases_mem = mx_elementwise_alias[inputs], .flags = MX_OP_ADDS | MX_OP_HIDDEN, .kernel = mx_elementwise_kernel, \
  .elementwise = map_##id

/* "g, a" to F##g OP F##a. */
#define MX_COUNT(...) MX_COUNT_(__VA_ARGS__, 4, 3, 2, 1, 0)
#define MX_COUNT_(a, b, c, d, n, ...) n
#define MX_CAT(a, b) MX_CAT_(a, b)
#define MX_CAT_(a, b) a##b
#define MX_EACH(F, ...) MX_CAT(MX_EACH_, MX_COUNT(__VA_ARGS__))(F, __VA_ARGS__)
#define MX_EACH_1(F, w) F##w
#define MX_EACH_2(F, w, x) F##w, F##x
#define MX_EACH_3(F, w, x, y) F##w, F##x, F##y
#define MX_EACH_4(F, w, x, y, z) F##w, F##x, F##y, F##z
/* "g, a" to F##g + F##a. */
#define MX_SUM(F, ...) MX_CAT(MX_SUM_, MX_COUNT(__VA_ARGS__))(F, __VA_ARGS__)
#define MX_SUM_1(F, w) F##w
#define MX_SUM_2(F, w, x) F##w + F##x
#define MX_SUM_3(F, w, x, y) F##w + F##x + F##y
#define MX_SUM_4(F, w, x, y, z) F##w + F##x + F##y + F##z

#endif
