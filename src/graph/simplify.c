/* Simplification: what is the same is computed once, and what changes nothing is not computed.
 *
 * Nodes are visited in execution order. Each is first given its new inputs, then replaced by one of them (identities),
 * by an equal node that exists already (common subexpressions), or kept. Nodes that draw random numbers or write to
 * their inputs are never merged. Dead nodes vanish because the result is built from its outputs. */
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "graph/graph.h"

typedef struct simplifier {
  const mx_graph *g;
  mx_entry *now; /* per entry of g: what stands for it */
  int n;
  mx_node **nodes;     /* new or kept, in execution order; one reference each */
  mx_node_map *origin; /* node of the result -> position in g of the node whose shapes it has */
  int table_size;      /* a power of two */
  int *table;          /* hash of (operator, attributes, inputs) -> index into nodes, -1 empty */
} simplifier;

/* ---- reading parameters through the table ---- */

static const void *parameter(const mx_node *n, const char *name) {
  const mx_param *p = mx_param_find(n->op->params, name);
  return p ? (const char *)n->params + p->offset : NULL;
}

/* ---- identities ---- */

static int known(const simplifier *s, mx_entry e) { return s->g->first[mx_node_map_get(s->origin, e.node)] + e.index; }
static bool alike(const simplifier *s, mx_entry a, int entry) {
  int k = known(s, a);
  return mx_shape_equal(&s->g->shape[k], &s->g->shape[entry]) && s->g->dtype[k] == s->g->dtype[entry];
}

/* A view that leads back to the shape where a chain of views began. */
static bool view_of(const simplifier *s, const mx_entry *in, int entry, mx_entry *out) {
  mx_entry e = in[0];
  for (;;) {
    if (alike(s, e, entry)) {
      *out = e;
      return true;
    }
    if (!e.node->op || !(e.node->op->flags & MX_OP_VIEW) || e.index != 0) return false;
    e = e.node->in[0];
  }
}

static bool neutral_scalar(const mx_node *n) {
  static const struct {
    const char *op;
    double neutral;
  } rule[] = {{"_plus_scalar", 0}, {"_minus_scalar", 0}, {"_mul_scalar", 1}, {"_div_scalar", 1}, {"_power_scalar", 1}};
  for (size_t i = 0; i < sizeof(rule) / sizeof(rule[0]); i++)
    if (!strcmp(n->op->name, rule[i].op)) {
      const double *scalar = parameter(n, "scalar");
      return scalar && *scalar == rule[i].neutral;
    }
  return false;
}

/* The permutation of a transpose of `ndim` dimensions; empty axes reverse. */
static void permutation(const mx_node *n, int ndim, int axes[MX_MAX_NDIM]) {
  const mx_shape *p = parameter(n, "axes");
  for (int i = 0; i < ndim; i++) {
    int64_t a = p && p->ndim > 0 ? p->dim[i] : ndim - 1 - i;
    axes[i] = (int)(a < 0 ? a + ndim : a);
  }
}

static bool is_transpose(const mx_entry e) { return e.node->op && !strcmp(e.node->op->name, "transpose"); }

/* transpose(transpose(x)): x when they cancel, otherwise one transpose; *axes gets its attribute. */
static bool join_transposes(const simplifier *s, const mx_node *n, mx_entry in, mx_entry *x, char axes[160]) {
  if (!is_transpose((mx_entry){(mx_node *)n, 0}) || !is_transpose(in)) return false;
  int ndim = s->g->shape[known(s, in)].ndim, outer[MX_MAX_NDIM], inner[MX_MAX_NDIM];
  permutation(n, ndim, outer);
  permutation(in.node, ndim, inner);
  bool cancel = true;
  size_t len = 0;
  axes[len++] = '(';
  for (int i = 0; i < ndim; i++) {
    cancel = cancel && inner[outer[i]] == i;
    len += (size_t)snprintf(axes + len, 160 - len, "%d,", inner[outer[i]]);
  }
  snprintf(axes + len, 160 - len, ")");
  *x = in.node->in[0];
  if (cancel) axes[0] = 0;
  return true;
}

/* ---- common subexpressions ---- */

static bool mergeable(const mx_node *n) {
  return !mx_op_draws(n->op, n->params) && !n->op->mutates && !n->op->aux && !n->op->is_aux;
}

static unsigned hash(const mx_op *op, const mx_dict *attrs, const mx_entry *in, int n_in) {
  uint64_t h = (uint64_t)(uintptr_t)op * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < n_in; i++)
    h = (h ^ (uint64_t)(uintptr_t)in[i].node ^ (uint64_t)in[i].index) * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < attrs->n; i++)
    for (const char *p = attrs->value[i]; *p; p++) h = (h ^ (unsigned char)*p) * 1099511628211u;
  return (unsigned)(h >> 32);
}

static bool same(const mx_node *a, const mx_op *op, const mx_dict *attrs, const mx_entry *in, int n_in) {
  if (a->op != op || a->n_in != n_in || a->attrs.n != attrs->n) return false;
  for (int i = 0; i < n_in; i++)
    if (a->in[i].node != in[i].node || a->in[i].index != in[i].index) return false;
  for (int i = 0; i < attrs->n; i++)
    if (strcmp(a->attrs.key[i], attrs->key[i]) || strcmp(a->attrs.value[i], attrs->value[i])) return false;
  return true;
}

/* The slot of an equal node, or the empty slot where it belongs. */
static int *find_slot(simplifier *s, const mx_op *op, const mx_dict *attrs, const mx_entry *in, int n_in) {
  unsigned i = hash(op, attrs, in, n_in) & (unsigned)(s->table_size - 1);
  while (s->table[i] >= 0 && !same(s->nodes[s->table[i]], op, attrs, in, n_in))
    i = (i + 1) & (unsigned)(s->table_size - 1);
  return &s->table[i];
}

/* ---- the pass ---- */

static mx_status keep(simplifier *s, mx_node *n, int position, mx_error *err) {
  MX_TRY(mx_node_map_set(s->origin, n, position, err));
  s->nodes[s->n++] = mx_node_retain(n);
  return MX_OK;
}

static void stands_for(simplifier *s, int position, mx_node *n) {
  for (int e = s->g->first[position]; e < s->g->first[position + 1]; e++)
    s->now[e] = (mx_entry){n, e - s->g->first[position]};
}

/* Keeps node `position` with inputs `in`, or the equal node that exists. */
static mx_status keep_or_merge(simplifier *s, int position, const mx_dict *attrs, const mx_entry *in, int n_in,
                               mx_error *err) {
  mx_node *n = s->g->nodes[position], *made = NULL;
  int *slot = mergeable(n) ? find_slot(s, n->op, attrs, in, n_in) : NULL;
  if (slot && *slot >= 0) {
    stands_for(s, position, s->nodes[*slot]);
    return MX_OK;
  }
  if (!same(n, n->op, attrs, in, n_in)) MX_TRY(mx_node_new(n->op, n->name, attrs, in, n_in, &made, err));
  mx_node *kept = made ? made : n;
  mx_status st = keep(s, kept, position, err);
  if (st == MX_OK) {
    if (slot) *slot = s->n - 1;
    stands_for(s, position, kept);
  }
  mx_node_release(made);
  return st;
}

static mx_status visit(simplifier *s, int position, mx_entry *in, mx_error *err) {
  const mx_graph *g = s->g;
  mx_node *n = g->nodes[position];
  if (!n->op) {
    MX_TRY(keep(s, n, position, err));
    stands_for(s, position, n);
    return MX_OK;
  }
  for (int k = 0; k < n->n_in; k++) in[k] = s->now[mx_graph_entry(g, n->in[k])];
  int entry = g->first[position];
  char axes[160];
  mx_entry x;
  if (n->op->flags & MX_OP_VIEW && view_of(s, in, entry, &s->now[entry])) return MX_OK;
  if (neutral_scalar(n) && alike(s, in[0], entry)) {
    s->now[entry] = in[0];
    return MX_OK;
  }
  if (!n->n_in || !join_transposes(s, n, in[0], &x, axes))
    return keep_or_merge(s, position, &n->attrs, in, n->n_in, err);
  if (!axes[0]) {
    s->now[entry] = x;
    return MX_OK;
  }
  mx_dict attrs = MX_DICT_EMPTY;
  mx_status st = mx_dict_set(&attrs, "axes", axes, err);
  if (st == MX_OK) st = keep_or_merge(s, position, &attrs, &x, 1, err);
  mx_dict_free(&attrs);
  return st;
}

static mx_status build(simplifier *s, mx_graph **out, mx_error *err) {
  const mx_graph *g = s->g;
  mx_entry *outputs = mx_malloc((size_t)g->n_outputs * sizeof(*outputs));
  if (!outputs) return mx_fail_memory(err, (size_t)g->n_outputs * sizeof(*outputs));
  for (int i = 0; i < g->n_outputs; i++) outputs[i] = s->now[mx_graph_entry(g, g->outputs[i])];
  mx_status st = mx_graph_from_nodes(s->nodes, s->n, outputs, g->n_outputs, g->n_forward_outputs, out, err);
  mx_free(outputs);
  if (st != MX_OK) return st;
  mx_graph *r = *out;
  for (int i = 0; i < r->n_nodes; i++) {
    int from = g->first[mx_node_map_get(s->origin, r->nodes[i])] - r->first[i];
    for (int e = r->first[i]; e < r->first[i + 1]; e++)
      r->shape[e] = g->shape[e + from], r->dtype[e] = g->dtype[e + from];
  }
  return MX_OK;
}

mx_status mx_graph_simplify(const mx_graph *g, mx_graph **out, mx_error *err) {
  size_t n_nodes = (size_t)g->n_nodes, most = 1;
  for (int i = 0; i < g->n_nodes; i++)
    if ((size_t)g->nodes[i]->n_in > most) most = (size_t)g->nodes[i]->n_in;
  simplifier s = {.g = g, .table_size = 64};
  while (s.table_size < 2 * g->n_nodes) s.table_size *= 2;
  s.now = mx_calloc((size_t)g->first[g->n_nodes], sizeof(*s.now));
  s.nodes = mx_malloc(n_nodes * sizeof(*s.nodes));
  s.table = mx_malloc((size_t)s.table_size * sizeof(int));
  s.origin = mx_node_map_new();
  mx_entry *in = mx_malloc(most * sizeof(*in));
  mx_status st = MX_OK;
  if (!s.now || !s.nodes || !s.table || !s.origin || !in) st = mx_fail_memory(err, n_nodes * sizeof(*s.nodes));
  for (int i = 0; st == MX_OK && i < s.table_size; i++) s.table[i] = -1;
  for (int i = 0; st == MX_OK && i < g->n_nodes; i++) st = visit(&s, i, in, err);
  if (st == MX_OK) st = build(&s, out, err);
  for (int i = 0; i < s.n; i++) mx_node_release(s.nodes[i]);
  mx_free(s.now);
  mx_free(s.nodes);
  mx_free(s.table);
  mx_free(in);
  mx_node_map_free(s.origin);
  return st;
}
