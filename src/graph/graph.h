/* The graph that passes work on: nodes in topological order with what is known of every entry.
 *
 * A pass takes a graph and changes it or makes another; each is in a file of its own and can be switched off (simplify,
 * and later fold, layout, fuse, recompute) without changing results. */
#ifndef MX_GRAPH_GRAPH_H
#define MX_GRAPH_GRAPH_H

#include "graph/symbol.h"

typedef struct mx_graph {
  int n_nodes;
  int n_forward;       /* nodes[0 .. n_forward) compute the forward outputs; the rest is the backward graph */
  mx_node **nodes;     /* inputs before users; one reference each. The order is the order of execution */
  mx_node_map *map;    /* node -> position */
  int *first;          /* n_nodes + 1: entries of node i are first[i] .. first[i+1]-1, hidden outputs too */
  mx_shape *shape;     /* per entry */
  mx_dtype *dtype;     /* per entry */
  const void **layout; /* per entry; NULL: row-major */
  int n_outputs;       /* the symbol's own outputs come first */
  int n_forward_outputs;
  mx_entry *outputs; /* forward outputs, then one gradient per requested argument */
} mx_graph;

/* The nodes that `outputs` depend on, in post-order; all of them forward. */
MX_NODISCARD mx_status mx_graph_new(const mx_entry *outputs, int n, mx_graph **out, mx_error *err);
/* From a list of nodes in execution order, of which those that no output depends on are left out. n_forward_outputs of
 * the outputs are forward ones and determine which nodes are. */
MX_NODISCARD mx_status mx_graph_from_nodes(mx_node *const *nodes, int n_nodes, const mx_entry *outputs, int n_outputs,
                                           int n_forward_outputs, mx_graph **out, mx_error *err);
void mx_graph_free(mx_graph *g);
static inline int mx_graph_entry(const mx_graph *g, mx_entry e) {
  return g->first[mx_node_map_get(g->map, e.node)] + e.index;
}

/* infer.c: shapes and dtypes to a fixed point. Known ones are set in g->shape / g->dtype before. An unknown rest is no
 * error here; *complete tells. Unknown dtypes become float32 when `default_float32`. */
MX_NODISCARD mx_status mx_graph_infer(mx_graph *g, bool default_float32, bool *complete, mx_error *err);

/* gradient.c: appends the backward graph. wrt[i] are variables of g; heads[i] gets a variable "_head_grad<i>" per
 * forward output (they are inputs of the new graph; those that no gradient uses are not reachable). The result's
 * outputs are those of g, then the n_wrt gradients (zeros where nothing flows). heads[i] becomes NULL when no gradient
 * uses it; the pointers are borrowed from the new graph. */
MX_NODISCARD mx_status mx_graph_gradient(const mx_graph *g, mx_node *const *wrt, int n_wrt, mx_node **heads,
                                         mx_graph **out, mx_error *err);

/* simplify.c: common subexpressions, identities (x*1, x+0, transposes and reshapes in a row). Dead nodes vanish because
 * graphs are rebuilt from their outputs. */
MX_NODISCARD mx_status mx_graph_simplify(const mx_graph *g, mx_graph **out, mx_error *err);

/* outputs.c: gives every output a node of its own, so that it can be written straight into an array: variables and
 * repeated entries get a copy. add_to[i] (add_to may be NULL) is a variable whose array the output is added to: it and
 * the output then share that array. */
MX_NODISCARD mx_status mx_graph_own_outputs(const mx_graph *g, mx_node *const *add_to, mx_graph **out, mx_error *err);

/* Whether a pass is on. MXNET_PASSES_OFF=simplify,recompute in the environment switches passes off. */
bool mx_pass_enabled(const char *name);

#endif
