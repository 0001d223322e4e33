/* Nodes: reference-counted vertices of symbol graphs. A node without operator is a variable. */
#ifndef MX_GRAPH_NODE_H
#define MX_GRAPH_NODE_H

#include <stdbool.h>

#include "ops/op.h"

struct mx_node {
  int refs;
  const mx_op *op; /* NULL: a variable */
  char *name;
  mx_dict attrs; /* as in JSON: the parameters that were given, and attributes such as __lr_mult__ */
  void *params;  /* parsed; NULL for variables and operators without parameters */
  int n_in;
  mx_entry *in; /* holds one reference to each input node */
  int version;  /* variables: how many composed operators write to it */
};

/* More inputs or outputs than this are an error, not an attempt to allocate them. */
#define MX_MAX_ENTRIES (1 << 20)

/* A new node with one reference. Takes copies of name and attrs; parses attrs. `in` may be NULL (inputs come later). */
MX_NODISCARD mx_status mx_node_new(const mx_op *op, const char *name, const mx_dict *attrs, const mx_entry *in,
                                   int n_in, mx_node **out, mx_error *err);
mx_node *mx_node_retain(mx_node *n);
void mx_node_release(mx_node *n); /* iterative: deep graphs do not overflow the stack */

int mx_node_count_out(const mx_node *n); /* a variable has 1 */
int mx_node_count_visible(const mx_node *n);

/* Names the initializer that a variable wants as input i of an operator ("__init__"), unless it has one. */
MX_NODISCARD mx_status mx_node_set_initializer(const mx_op *op, int i, mx_node *variable, mx_error *err);

/* Makes the variable "<node>_<input>" that stands for input i of an operator that was not given one. */
MX_NODISCARD mx_status mx_node_make_input(mx_node *n, int i, mx_error *err);

/* States that an operator writes to must be variables, since nothing else has memory of its own: MX_ERR_VALUE when one
 * is not. */
MX_NODISCARD mx_status mx_node_check_states(const mx_node *n, mx_error *err);

/* Adds operator, node and input to an error. Returns its status. */
MX_NODISCARD mx_status mx_node_input_error(const mx_node *n, const char *input, mx_error *err);

/* Nodes that the entries depend on, inputs first (post-order, in the order of inputs). *out is mx_malloc'ed; it holds
 * no references. Iterative. */
MX_NODISCARD mx_status mx_nodes_sort(const mx_entry *heads, int n_heads, mx_node ***out, int *n_out, mx_error *err);

/* Hash map from node to int. */
typedef struct mx_node_map mx_node_map;
mx_node_map *mx_node_map_new(void); /* NULL: no memory */
MX_NODISCARD mx_status mx_node_map_set(mx_node_map *m, const mx_node *n, int value, mx_error *err);
int mx_node_map_get(const mx_node_map *m, const mx_node *n); /* -1 when absent */
void mx_node_map_free(mx_node_map *m);

#endif
