/* The pass that gives every output of a graph a node of its own. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "graph/graph.h"

bool mx_pass_enabled(const char *name) {
  const char *off = getenv("MXNET_PASSES_OFF");
  size_t n = strlen(name);
  for (const char *p = off; p && (p = strstr(p, name)); p += n)
    if ((p == off || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return false;
  return true;
}

static bool must_copy(const mx_graph *g, int i) {
  if (!g->outputs[i].node->op) return true;
  for (int k = 0; k < i; k++)
    if (g->outputs[k].node == g->outputs[i].node && g->outputs[k].index == g->outputs[i].index) return true;
  return false;
}

static mx_status wrap(const char *op, const mx_entry *in, int n_in, mx_node **out, mx_error *err) {
  const mx_op *record = mx_op_find(op);
  if (!record) return mx_fail(err, MX_ERR_INTERNAL, "Internal error: operator %s is not registered.", op);
  return mx_node_new(record, in[n_in - 1].node->name, NULL, in, n_in, out, err);
}

mx_status mx_graph_own_outputs(const mx_graph *g, mx_node *const *add_to, mx_graph **out, mx_error *err) {
  size_t most = (size_t)g->n_nodes + 2 * (size_t)g->n_outputs;
  mx_node **nodes = mx_malloc(most * sizeof(*nodes));
  mx_entry *outputs = mx_malloc((size_t)g->n_outputs * sizeof(*outputs));
  int n = g->n_nodes;
  mx_status st = nodes && outputs ? MX_OK : mx_fail_memory(err, most * sizeof(*nodes));
  if (st == MX_OK) memcpy(nodes, g->nodes, (size_t)g->n_nodes * sizeof(*nodes));
  for (int i = 0; st == MX_OK && i < g->n_outputs; i++) {
    outputs[i] = g->outputs[i];
    mx_node *target = add_to ? add_to[i] : NULL, *made = NULL;
    if (target) {
      mx_entry in[2] = {{target, 0}, g->outputs[i]};
      st = wrap("_grad_add", in, 2, &made, err);
      nodes[n++] = mx_node_retain(target);
    } else if (must_copy(g, i)) {
      st = wrap("_copy", &g->outputs[i], 1, &made, err);
    }
    if (st == MX_OK && made) {
      nodes[n++] = made;
      outputs[i] = (mx_entry){made, 0};
    }
  }
  mx_graph *r = NULL;
  if (st == MX_OK) st = mx_graph_from_nodes(nodes, n, outputs, g->n_outputs, g->n_forward_outputs, &r, err);
  for (int i = g->n_nodes; nodes && i < n; i++) mx_node_release(nodes[i]);
  mx_free(nodes);
  mx_free(outputs);
  if (st != MX_OK) return st;
  for (int i = 0; i < r->n_nodes; i++) {
    int old = mx_node_map_get(g->map, r->nodes[i]);
    for (int e = r->first[i]; e < r->first[i + 1]; e++) {
      const mx_node *from = r->nodes[i];
      int known = old >= 0 ? g->first[old] + e - r->first[i]
                           : mx_graph_entry(g, from->op ? from->in[from->n_in - 1] : g->outputs[0]);
      r->shape[e] = g->shape[known];
      r->dtype[e] = g->dtype[known];
    }
  }
  /* the variables that gradients are added to have the shape of what is added */
  for (int i = 0; add_to && i < g->n_outputs; i++)
    if (add_to[i]) {
      int to = r->first[mx_node_map_get(r->map, add_to[i])], from = mx_graph_entry(g, g->outputs[i]);
      r->shape[to] = g->shape[from];
      r->dtype[to] = g->dtype[from];
    }
  *out = r;
  return MX_OK;
}
