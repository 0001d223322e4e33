/* CUDA kernels by operator. */
#ifndef MX_CUDA_KERNELS_H
#define MX_CUDA_KERNELS_H

#include "ops/op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The kernel of an operator, or NULL. */
mx_kernel mx_cuda_kernel(const mx_op *op);

/* Every operator whose record has `elementwise`: elementwise.cu. */
MX_NODISCARD mx_status mx_cuda_elementwise(const mx_call *c, mx_error *err);

#ifdef __cplusplus
}
#endif
#endif
