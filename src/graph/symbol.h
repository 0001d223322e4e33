/* Symbols: lists of node outputs. Immutable graphs; composing copies only what changes. */
#ifndef MX_GRAPH_SYMBOL_H
#define MX_GRAPH_SYMBOL_H

#include "graph/node.h"

typedef struct mx_symbol {
  int refs;
  int n;
  mx_entry *out; /* holds one reference to each node */
} mx_symbol;

/* Lists of names, freed with mx_names_free. */
typedef struct mx_names {
  int n;
  char **v;
} mx_names;
void mx_names_free(mx_names *names);
MX_NODISCARD mx_status mx_names_add(mx_names *names, const char *name, mx_error *err); /* a copy */

/* The next automatic name, "<hint in lower case><count>"; mx_malloc'ed. Counters belong to the process. */
MX_NODISCARD mx_status mx_name_next(const char *hint, char **out, mx_error *err);
void mx_name_reset(void); /* starts all counters anew, frees them */

mx_symbol *mx_symbol_retain(mx_symbol *s);
void mx_symbol_release(mx_symbol *s);

MX_NODISCARD mx_status mx_symbol_variable(const char *name, mx_symbol **out, mx_error *err);
/* From entries (takes new references to the nodes). */
MX_NODISCARD mx_status mx_symbol_from_entries(const mx_entry *e, int n, mx_symbol **out, mx_error *err);
/* The visible outputs of a node. */
MX_NODISCARD mx_status mx_symbol_of_node(mx_node *n, mx_symbol **out, mx_error *err);

/* Applies an operator. `keys` NULL: args are positional; otherwise each arg has the name of an input. Inputs that are
 * not given become variables "<name>_<input>", which carry a copy of the attributes. `name` NULL: automatic, from
 * `hint` (the lower-case name of the operator as it was called) and a counter per hint. A given arg with several
 * outputs fills one input only if it has exactly one output; for variadic operators the outputs of all args are joined
 * and the counting parameter is set. Errors: unknown key, too many args, missing auxiliary... with operator and
 * argument. */
MX_NODISCARD mx_status mx_symbol_apply(const mx_op *op, const char *hint, const char *name, const mx_dict *attrs,
                                       const char *const *keys, mx_symbol *const *args, int n_args, mx_symbol **out,
                                       mx_error *err);

/* A copy of `s` in which the variables named by `keys` are replaced by args (each with one output). Unknown key:
 * MX_ERR_VALUE. `name` (may be NULL) renames the head node. Nodes that do not depend on a replaced one are shared. */
MX_NODISCARD mx_status mx_symbol_compose(const mx_symbol *s, const char *name, const char *const *keys,
                                         mx_symbol *const *args, int n_args, mx_symbol **out, mx_error *err);

MX_NODISCARD mx_status mx_symbol_group(mx_symbol *const *s, int n, mx_symbol **out, mx_error *err);
MX_NODISCARD mx_status mx_symbol_internals(const mx_symbol *s, mx_symbol **out, mx_error *err);
/* The inputs of the head nodes; an empty symbol when they are variables. */
MX_NODISCARD mx_status mx_symbol_children(const mx_symbol *s, mx_symbol **out, mx_error *err);
/* Output i (from 0). */
MX_NODISCARD mx_status mx_symbol_output(const mx_symbol *s, int i, mx_symbol **out, mx_error *err);

/* Names in graph order. Two variables of one name are listed twice. */
MX_NODISCARD mx_status mx_symbol_arguments(const mx_symbol *s, mx_names *out, mx_error *err);
MX_NODISCARD mx_status mx_symbol_auxiliaries(const mx_symbol *s, mx_names *out, mx_error *err);
MX_NODISCARD mx_status mx_symbol_outputs(const mx_symbol *s, mx_names *out, mx_error *err);

/* Attributes of the node of a symbol with one head node. Variables and attributes such as __lr_mult__ ("lr_mult" is
 * taken for it) change in every symbol that shares the node; a parameter of an operator is parsed anew and changes in
 * `s` alone, and must leave the numbers of inputs and outputs as they are. */
const mx_dict *mx_symbol_attributes(const mx_symbol *s); /* NULL when the heads are several nodes */
MX_NODISCARD mx_status mx_symbol_set_attribute(mx_symbol *s, const char *key, const char *value, mx_error *err);

/* A listing for people: one paragraph a node. mx_malloc'ed text. */
MX_NODISCARD mx_status mx_symbol_describe(const mx_symbol *s, char **out, mx_error *err);

/* Shapes of arguments, outputs, auxiliary states, in the order of the lists above. Given shapes by name (unknown names:
 * MX_ERR_VALUE). *complete says whether everything became known. The arrays are mx_malloc'ed, free with
 * mx_symbol_shapes_free. */
typedef struct mx_symbol_shapes {
  int n_args, n_outs, n_aux;
  mx_shape *args, *outs, *aux;
  mx_dtype *arg_dtypes, *aux_dtypes; /* float32 where nothing says otherwise */
  bool complete;
} mx_symbol_shapes;
MX_NODISCARD mx_status mx_symbol_infer_shape(const mx_symbol *s, const char *const *keys, const mx_shape *shapes, int n,
                                             mx_symbol_shapes *out, mx_error *err);
void mx_symbol_shapes_free(mx_symbol_shapes *s);

/* ---- graph/json.c ---- */

/* The text that the reference writes for the same symbol, byte for byte. mx_malloc'ed. */
MX_NODISCARD mx_status mx_symbol_to_json(const mx_symbol *s, char **out, mx_error *err);
/* Reads every layout that was ever written (0.x "param", "attr", 1.x "attrs"). MX_ERR_FORMAT names the node and the
 * place. Never crashes on hostile text. */
MX_NODISCARD mx_status mx_symbol_from_json(const char *text, mx_symbol **out, mx_error *err);

#endif
