/* Rows of ops/scalar.def as data: block functions for the CPU, expressions for generated code, derivatives; and the
 * driver that applies a row to whole arrays. */
#ifndef MX_OPS_SCALAR_H
#define MX_OPS_SCALAR_H

#include "ops/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The types that rows compute in. float16 computes in float; integers in int64_t or double, as the row says. */
typedef enum mx_kind { MX_KIND_FLOAT, MX_KIND_DOUBLE, MX_KIND_INT, MX_KINDS } mx_kind;

#define MX_MAX_OPERANDS 4

/* out[i] = row(in[0][i], in[1][i], ...) for i < n, all of one kind. Bit k of `single`: operand k is one value for all
 * i. `out` may be one of the inputs. */
typedef void (*mx_block)(void *out, const void *const *in, unsigned single, int64_t n);

typedef enum mx_derivative_kind { MX_D_ZERO, MX_D_PASS, MX_D_NEGATE, MX_D_ROW } mx_derivative_kind;

typedef struct mx_row {
  const char *name; /* "exp"; derivatives are called "exp_da" */
  int arity;
  bool commutes;            /* two operands that may be exchanged */
  mx_block block[MX_KINDS]; /* MX_KIND_INT may be NULL: integers compute in double */
  const char *operands;     /* the letters of the operands: "(a)", "(a, b)", "(g, r)" */
  const char *expression;   /* in those letters, as in scalar.def */
  struct {
    mx_derivative_kind kind;
    int row;       /* MX_D_ROW: its operands are letters of this row, `r` and `g` */
  } derivative[3]; /* with respect to a, b, c */
} mx_row;

/* MX_ROW_exp, MX_ROW_exp_da, ...: the index of a row. */
#define MX_DERIVED(...) MX_DERIVED_(__VA_ARGS__)
#define MX_DERIVED_(name, kind, ...) MX_DERIVED_##kind(name)
#define MX_PARSE_ZERO ZERO, , 0, ""
#define MX_PARSE_PASS PASS, , 0, ""
#define MX_PARSE_NEGATE NEGATE, , 0, ""
#define MX_PARSE_USES(names, expression) USES, names, expression, #expression
#define MX_DERIVED_ZERO(name)
#define MX_DERIVED_PASS(name)
#define MX_DERIVED_NEGATE(name)
#define MX_DERIVED_USES(name) MX_ROW_##name,
enum {
#define UNARY(name, ints, e, d, ...) MX_ROW_##name, MX_DERIVED(name##_da, MX_PARSE_##d)
#define UNARY_ROW UNARY
#define BINARY_ROW(name, ints, e, da, db, doc) \
  MX_ROW_##name, MX_DERIVED(name##_da, MX_PARSE_##da) MX_DERIVED(name##_db, MX_PARSE_##db)
#define BINARY(name, ints, order, ...) BINARY_ROW(name, ints, __VA_ARGS__)
#define TERNARY_ROW(name, ints, e, da, db, dc, doc) \
  MX_ROW_##name,                                    \
      MX_DERIVED(name##_da, MX_PARSE_##da) MX_DERIVED(name##_db, MX_PARSE_##db) MX_DERIVED(name##_dc, MX_PARSE_##dc)
#define QUATERNARY_ROW(name, ...) MX_ROW_##name,
#include "ops/scalar.def"
  MX_ROW_COUNT
};
extern const mx_row mx_rows[MX_ROW_COUNT];
static inline char mx_row_letter(const mx_row *row, int k) { return row->operands[1 + 3 * k]; }

/* ---- operators that evaluate a row ---- */

typedef enum mx_source_kind {
  MX_FROM_INPUT, /* the next input of the operator, broadcast to the output (NumPy's rule) */
  MX_FROM_PARAM, /* the double at `offset` of the parameters */
  MX_FROM_VALUE  /* `value` */
} mx_source_kind;

typedef struct mx_source {
  mx_source_kind kind;
  bool truth; /* the input counts as 0 or 1 and may have a dtype of its own */
  int axis;   /* 0: the last dimensions are aligned; k > 0: the input's first dimension is dimension k - 1 of the output
               */
  size_t offset;
  double value;
} mx_source;

/* What the row of an elementwise operator is and where its operands come from. The fuser, the CUDA kernel of all of
 * them and the gradient go by it. */
typedef struct mx_elementwise {
  int row;
  mx_source operand[MX_MAX_OPERANDS];
  const char *backward[3]; /* the operator of derivative k, where the row has MX_D_ROW and the operand is an input. Its
                              inputs are the letters of that row which are no parameters here */
} mx_elementwise;

/* ---- the driver ---- */

typedef struct mx_operand {
  const void *data; /* NULL: the number `value` */
  double value;
  mx_dtype dtype;
  bool truth;                  /* load 0 or 1 */
  int64_t stride[MX_MAX_NDIM]; /* in elements, per dimension of the output; 0 where it is broadcast */
} mx_operand;

/* Strides of an operand of shape `s` broadcast to `out`: last dimensions aligned, or from dimension `axis` on. */
void mx_operand_strides(mx_operand *o, const mx_shape *s, const mx_shape *out, int axis);

/* The operands of a call of an elementwise operator. */
void mx_elementwise_operands(const mx_call *c, const mx_elementwise *e, mx_operand operand[MX_MAX_OPERANDS]);

/* out = row(operands), or out += with `add`. The result does not depend on the number of threads. */
void mx_row_apply(const mx_row *row, const mx_operand *in, const mx_shape *shape, void *out, mx_dtype dtype, bool add);

/* The kind that `row` computes in for an output of that dtype. */
mx_kind mx_row_kind(const mx_row *row, mx_dtype out);

/* Blocks of L1 size: n <= MX_ROW_BLOCK elements of a dtype to and from a kind. */
#define MX_ROW_BLOCK 512
void mx_block_load(void *dst, mx_kind kind, const void *src, mx_dtype dtype, int64_t stride, bool truth, int64_t n);
void mx_block_store(void *dst, mx_dtype dtype, const void *src, mx_kind kind, bool add, int64_t n);
void mx_block_fill(void *dst, mx_kind kind, double value, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
