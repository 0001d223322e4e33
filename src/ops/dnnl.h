/* oneDNN as the library of the heavy layers on CPUs: programs of primitives, made when a layer is prepared.
 *
 * A program is built for one call: primitives choose the memory layouts they like, and reorders to and from the plain
 * layout of the call's arrays are put between. Everything is created in `prepare`; running a program allocates nothing.
 * Only ops/dnnl.c includes oneDNN's header. Without MX_HAVE_DNNL mx_dnnl_prepare declines every call. */
#ifndef MX_OPS_DNNL_H
#define MX_OPS_DNNL_H

#include "ops/conv.h"

typedef struct mx_dnnl_program mx_dnnl_program;

/* Names an array of the call: input or output i. MX_DNNL_NONE: absent. */
typedef int mx_dnnl_ref;
#define MX_DNNL_NONE (-1)
#define MX_DNNL_IN(i) (i)
#define MX_DNNL_OUT(i) (64 + (i))

/* Adds primitives to a program; *declined is set (and MX_OK returned) when oneDNN has no fast implementation. */
typedef mx_status (*mx_dnnl_build)(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err);

/* For `prepare`: sets c->state and c->workspace_bytes, or leaves c->state NULL when oneDNN declines: then the
 * operator's own kernel computes. float32 only. The record's `release` is mx_layer_release. */
MX_NODISCARD mx_status mx_dnnl_prepare(mx_call *c, mx_dnnl_build build, mx_error *err);
MX_NODISCARD mx_status mx_dnnl_run(const mx_call *c, mx_error *err);

/* Convolution and its gradients; `bias` and `dbias` may be MX_DNNL_NONE. */
MX_NODISCARD mx_status mx_dnnl_conv_forward(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref w,
                                            mx_dnnl_ref bias, mx_dnnl_ref y, bool *declined, mx_error *err);
MX_NODISCARD mx_status mx_dnnl_conv_backward_data(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref dy, mx_dnnl_ref w,
                                                  mx_dnnl_ref dx, bool *declined, mx_error *err);
MX_NODISCARD mx_status mx_dnnl_conv_backward_weight(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref dy,
                                                    mx_dnnl_ref dw, mx_dnnl_ref dbias, bool *declined, mx_error *err);

#endif
