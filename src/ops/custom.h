/* Operators written in the language that hosts the core.
 *
 * The operator Custom stands for all of them; its parameter op_type says which. The host registers what the graph must
 * know of each (names and counts), and installs one table of functions that the core calls. They run on the thread that
 * called the core, may call the core in turn, and must return: what the host throws is kept by the host until the core
 * has come to its end. */
#ifndef MX_OPS_CUSTOM_H
#define MX_OPS_CUSTOM_H

#include "ops/op.h"

typedef struct mx_custom {
  const char *name;
  int n_args, n_aux, n_out;
  const char *const *names; /* of arguments, auxiliary states, outputs: n_args + n_aux + n_out */
  bool has_gradient;        /* false: gradients are zero */
  bool is_loss;             /* the gradient does not depend on head gradients */
} mx_custom;

/* The parameters of Custom, as the host's functions see them. */
typedef struct mx_custom_params {
  char *op_type;
  mx_dict given; /* what else was given: parameters of the host's operator */
  const mx_custom *custom;
} mx_custom_params;

typedef struct mx_custom_host {
  /* Whether `given` are parameters of the operator. */
  mx_status (*check)(const mx_custom_params *p, mx_error *err);
  /* As those of a record; `in` has arguments, then states. */
  mx_status (*infer_shape)(const mx_custom_params *p, mx_shape *in, mx_shape *out, mx_error *err);
  mx_status (*infer_dtype)(const mx_custom_params *p, mx_dtype *in, mx_dtype *out, mx_error *err);
  /* Computes outputs from inputs; may change the states, which are the last inputs. */
  mx_status (*forward)(const mx_custom_params *p, const mx_call *c, mx_error *err);
  /* Computes the gradients of the arguments. Inputs: head gradients (unless is_loss), arguments, states, outputs. */
  mx_status (*backward)(const mx_custom_params *p, const mx_call *c, mx_error *err);
} mx_custom_host;

/* Installs the host's functions; the table is the caller's and stays. */
void mx_custom_set_host(const mx_custom_host *host);

/* Makes the operator known; what the definition points to is copied. An operator of that name is replaced, unless nodes
 * use it and the definition differs: then it is MX_ERR_STATE. */
MX_NODISCARD mx_status mx_custom_register(const mx_custom *definition, mx_error *err);

#endif
