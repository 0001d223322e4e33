/* Graphs as passes see them: nodes in execution order, numbered entries, what is known of each. */
#include "graph/graph.h"

#include <string.h>

#include "core/memory.h"

void mx_graph_free(mx_graph *g) {
  if (!g) return;
  for (int i = 0; g->nodes && i < g->n_nodes; i++) mx_node_release(g->nodes[i]);
  mx_free(g->nodes);
  mx_node_map_free(g->map);
  mx_free(g->first);
  mx_free(g->shape);
  mx_free(g->dtype);
  mx_free(g->layout);
  mx_free(g->outputs);
  mx_free(g);
}

static mx_status number_entries(mx_graph *g, mx_error *err) {
  int n = 0;
  for (int i = 0; i < g->n_nodes; i++) {
    g->first[i] = n;
    n += mx_node_count_out(g->nodes[i]);
    MX_TRY(mx_node_map_set(g->map, g->nodes[i], i, err));
  }
  g->first[g->n_nodes] = n;
  size_t m = (size_t)(n ? n : 1);
  g->shape = mx_malloc(m * sizeof(*g->shape));
  g->dtype = mx_malloc(m * sizeof(*g->dtype));
  g->layout = mx_calloc(m, sizeof(*g->layout));
  if (!g->shape || !g->dtype || !g->layout) return mx_fail_memory(err, m * sizeof(*g->shape));
  for (int i = 0; i < n; i++) g->shape[i] = MX_SHAPE_UNKNOWN, g->dtype[i] = MX_DTYPE_UNKNOWN;
  return MX_OK;
}

/* Takes copies of both lists; the nodes get a reference each. */
static mx_status graph_make(mx_node *const *nodes, int n_nodes, int n_forward, const mx_entry *outputs, int n_outputs,
                            int n_forward_outputs, mx_graph **out, mx_error *err) {
  mx_graph *g = mx_calloc(1, sizeof(*g));
  if (!g) return mx_fail_memory(err, sizeof(*g));
  g->nodes = mx_malloc((size_t)n_nodes * sizeof(*nodes));
  g->outputs = mx_malloc((size_t)n_outputs * sizeof(*outputs));
  g->first = mx_malloc((size_t)(n_nodes + 1) * sizeof(int));
  g->map = mx_node_map_new();
  mx_status st = MX_OK;
  if (!g->nodes || !g->outputs || !g->first || !g->map) {
    st = mx_fail_memory(err, (size_t)n_nodes * sizeof(*nodes));
  } else {
    for (int i = 0; i < n_nodes; i++) g->nodes[i] = mx_node_retain(nodes[i]);
    g->n_nodes = n_nodes;
    g->n_forward = n_forward;
    if (n_outputs) memcpy(g->outputs, outputs, (size_t)n_outputs * sizeof(*outputs));
    g->n_outputs = n_outputs;
    g->n_forward_outputs = n_forward_outputs;
    st = number_entries(g, err);
  }
  if (st != MX_OK) {
    mx_graph_free(g);
    return st;
  }
  *out = g;
  return MX_OK;
}

mx_status mx_graph_new(const mx_entry *outputs, int n, mx_graph **out, mx_error *err) {
  mx_node **nodes;
  int n_nodes;
  MX_TRY(mx_nodes_sort(outputs, n, &nodes, &n_nodes, err));
  mx_status st = graph_make(nodes, n_nodes, n_nodes, outputs, n, n, out, err);
  mx_free(nodes);
  return st;
}

/* Marks the nodes among `sorted` in a map with `value`. */
static mx_status mark(const mx_entry *heads, int n_heads, mx_node_map *map, int value, mx_error *err) {
  mx_node **sorted;
  int n;
  MX_TRY(mx_nodes_sort(heads, n_heads, &sorted, &n, err));
  mx_status st = MX_OK;
  for (int i = 0; st == MX_OK && i < n; i++) st = mx_node_map_set(map, sorted[i], value, err);
  mx_free(sorted);
  return st;
}

mx_status mx_graph_from_nodes(mx_node *const *nodes, int n_nodes, const mx_entry *outputs, int n_outputs,
                              int n_forward_outputs, mx_graph **out, mx_error *err) {
  enum { BACKWARD = 1, FORWARD = 2 };
  mx_node_map *used = mx_node_map_new();
  mx_node **kept = mx_malloc((size_t)n_nodes * sizeof(*kept));
  mx_status st = used && kept ? MX_OK : mx_fail_memory(err, (size_t)n_nodes * sizeof(*kept));
  if (st == MX_OK) st = mark(outputs, n_outputs, used, BACKWARD, err);
  if (st == MX_OK) st = mark(outputs, n_forward_outputs, used, FORWARD, err);
  if (st == MX_OK) {
    int n = 0, n_forward = 0;
    for (int stage = FORWARD; stage >= BACKWARD; stage--) {
      for (int i = 0; i < n_nodes; i++)
        if (mx_node_map_get(used, nodes[i]) == stage) kept[n++] = nodes[i];
      if (stage == FORWARD) n_forward = n;
    }
    st = graph_make(kept, n, n_forward, outputs, n_outputs, n_forward_outputs, out, err);
  }
  mx_node_map_free(used);
  mx_free(kept);
  return st;
}
