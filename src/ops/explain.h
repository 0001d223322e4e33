/* What an error of a record's own rules leaves unsaid: which parameter or input its sentence is about, and what that
 * was. */
#ifndef MX_OPS_EXPLAIN_H
#define MX_OPS_EXPLAIN_H

#include "ops/op.h"

/* Both keep what the error says already. A parameter that was not given has its default. */
void mx_explain_params(const mx_op *op, const mx_dict *attrs, mx_error *err);
/* `dtype` NULL: the shapes are what the sentence is about. */
void mx_explain_inputs(const mx_op *op, const void *params, const mx_shape *shape, const mx_dtype *dtype, int n,
                       mx_error *err);
/* The same of what `prepare` or a kernel refused, with the operator's name before the sentence. */
void mx_explain_call(const mx_call *c, mx_error *err);

#endif
