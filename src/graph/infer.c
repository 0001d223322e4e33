/* Inference of shapes and dtypes: sweeps over the graph, forwards and backwards in turn, until nothing changes.
 *
 * Invariant: what is known is never forgotten, so that the number of sweeps is bounded by what there is to learn. */
#include <string.h>

#include "core/memory.h"
#include "graph/graph.h"

/* Room for the inputs and outputs of the largest node. */
typedef struct scratch {
  mx_shape *shape;
  mx_dtype *dtype;
} scratch;

static mx_status named(const mx_node *n, mx_status st, mx_error *err) {
  if (st != MX_OK) {
    mx_error_prefix(err, "In node '%s'", n->name);
    mx_error_set(err, node, "%s", n->name);
  }
  return st;
}

static int input_entry(const mx_graph *g, const mx_node *n, int i) { return mx_graph_entry(g, n->in[i]); }

static mx_status sweep_shape(mx_graph *g, int i, scratch *s, bool *changed, mx_error *err) {
  mx_node *n = g->nodes[i];
  int n_out = g->first[i + 1] - g->first[i], total = n->n_in + n_out;
  bool complete = true;
  for (int k = 0; k < total; k++) {
    s->shape[k] = g->shape[k < n->n_in ? input_entry(g, n, k) : g->first[i] + k - n->n_in];
    complete = complete && mx_shape_known(&s->shape[k]);
  }
  MX_TRY(named(n, mx_op_infer_shape(n->op, n->params, s->shape, n->n_in, s->shape + n->n_in, n_out, err), err));
  for (int k = 0; !complete && k < total; k++) {
    mx_shape *known = &g->shape[k < n->n_in ? input_entry(g, n, k) : g->first[i] + k - n->n_in];
    if (!mx_shape_equal(known, &s->shape[k])) {
      MX_TRY(named(n, mx_shape_merge(known, &s->shape[k], k < n->n_in ? n->in[k].node->name : n->name, err), err));
      *changed = true;
    }
  }
  return MX_OK;
}

static mx_status sweep_dtype(mx_graph *g, int i, scratch *s, bool *changed, mx_error *err) {
  mx_node *n = g->nodes[i];
  int n_out = g->first[i + 1] - g->first[i], total = n->n_in + n_out;
  for (int k = 0; k < total; k++)
    s->dtype[k] = g->dtype[k < n->n_in ? input_entry(g, n, k) : g->first[i] + k - n->n_in];
  MX_TRY(named(n, mx_op_infer_dtype(n->op, n->params, s->dtype, n->n_in, s->dtype + n->n_in, n_out, err), err));
  for (int k = 0; k < total; k++) {
    mx_dtype *known = &g->dtype[k < n->n_in ? input_entry(g, n, k) : g->first[i] + k - n->n_in];
    if (*known == s->dtype[k]) continue;
    if (*known != MX_DTYPE_UNKNOWN) {
      mx_fail(err, MX_ERR_TYPE, "%s: an array is %s, but %s was expected.", n->op->name, mx_dtype_name(*known),
              mx_dtype_name(s->dtype[k]));
      return named(n, MX_ERR_TYPE, err);
    }
    *known = s->dtype[k];
    *changed = true;
  }
  return MX_OK;
}

typedef mx_status (*sweep)(mx_graph *g, int i, scratch *s, bool *changed, mx_error *err);

static mx_status to_fixed_point(mx_graph *g, sweep visit, scratch *s, mx_error *err) {
  bool changed = true;
  for (bool forwards = true; changed; forwards = !forwards) {
    changed = false;
    for (int k = 0; k < g->n_nodes; k++) {
      int i = forwards ? k : g->n_nodes - 1 - k;
      if (g->nodes[i]->op) MX_TRY(visit(g, i, s, &changed, err));
    }
  }
  return MX_OK;
}

/* Variables may carry what is known of them as attributes; what the caller gave comes first. */
static mx_status read_attributes(mx_graph *g, mx_error *err) {
  for (int i = 0; i < g->n_nodes; i++) {
    const mx_node *n = g->nodes[i];
    if (n->op) continue;
    const char *shape = mx_dict_get(&n->attrs, "__shape__"), *dtype = mx_dict_get(&n->attrs, "__dtype__");
    if (shape && g->shape[g->first[i]].ndim < 0) {
      mx_shape s;
      MX_TRY(named(n, mx_parse_tuple(shape, &s, err), err));
      if (s.ndim == 0) s.ndim = -1;
      for (int k = 0; k < s.ndim; k++)
        if (s.dim[k] <= 0) s.dim[k] = MX_DIM_UNKNOWN; /* 0 meant unknown in old files */
      g->shape[g->first[i]] = s;
    }
    if (dtype && g->dtype[g->first[i]] == MX_DTYPE_UNKNOWN && dtype[0] >= '0' && dtype[0] <= '7' && !dtype[1])
      g->dtype[g->first[i]] = (mx_dtype)(dtype[0] - '0');
  }
  return MX_OK;
}

/* What nothing says a type of is float32: input by input, since operators know the types of some from others. */
static mx_status default_dtypes(mx_graph *g, scratch *s, mx_error *err) {
  bool changed = false;
  for (int i = 0; i < g->n_nodes; i++) {
    const mx_node *n = g->nodes[i];
    if (!n->op) continue;
    MX_TRY(sweep_dtype(g, i, s, &changed, err));
    for (int k = 0; k < n->n_in; k++) {
      mx_dtype *t = &g->dtype[input_entry(g, n, k)];
      if (n->in[k].node->op || *t != MX_DTYPE_UNKNOWN) continue;
      *t = MX_FLOAT32;
      MX_TRY(sweep_dtype(g, i, s, &changed, err));
    }
  }
  if (changed) MX_TRY(to_fixed_point(g, sweep_dtype, s, err));
  bool left = false;
  for (int i = 0; i < g->first[g->n_nodes]; i++)
    if (g->dtype[i] == MX_DTYPE_UNKNOWN) g->dtype[i] = MX_FLOAT32, left = true;
  return left ? to_fixed_point(g, sweep_dtype, s, err) : MX_OK;
}

mx_status mx_graph_infer(mx_graph *g, bool default_float32, bool *complete, mx_error *err) {
  int most = 1;
  for (int i = 0; i < g->n_nodes; i++) {
    int n = g->nodes[i]->n_in + g->first[i + 1] - g->first[i];
    if (n > most) most = n;
  }
  scratch s = {mx_malloc((size_t)most * sizeof(mx_shape)), mx_malloc((size_t)most * sizeof(mx_dtype))};
  mx_status st = s.shape && s.dtype ? MX_OK : mx_fail_memory(err, (size_t)most * sizeof(mx_shape));
  if (st == MX_OK) st = read_attributes(g, err);
  if (st == MX_OK) st = to_fixed_point(g, sweep_dtype, &s, err);
  if (st == MX_OK && default_float32) st = default_dtypes(g, &s, err);
  if (st == MX_OK) st = to_fixed_point(g, sweep_shape, &s, err);
  *complete = st == MX_OK;
  for (int i = 0; *complete && i < g->first[g->n_nodes]; i++)
    *complete = mx_shape_known(&g->shape[i]) && (!default_float32 || g->dtype[i] != MX_DTYPE_UNKNOWN);
  mx_free(s.shape);
  mx_free(s.dtype);
  return st;
}
