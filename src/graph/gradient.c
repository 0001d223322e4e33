/* Reverse-mode differentiation on the graph.
 *
 * Nodes are visited from the heads to the arguments. Each gets the sum of what its users sent to its outputs and asks
 * its operator's `gradient` for nodes that compute the gradients of its inputs. Shapes are known, and those of new
 * nodes are inferred as they are made, so that rules can look at them. Invariant: new nodes depend only on forward
 * nodes and on nodes made earlier, so the order of making them is an order of execution - and a good one, since a
 * layer's gradients are computed together and its activations die early. */
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "graph/graph.h"

typedef struct builder {
  const mx_graph *g;      /* forward */
  const mx_node *current; /* being differentiated */
  int n, capacity;
  mx_node **made;   /* one reference each */
  mx_node_map *map; /* made node -> its first entry in shape/dtype */
  int n_entries, entry_capacity;
  mx_shape *shape;
  mx_dtype *dtype;
} builder;

static mx_status reserve(void **array, int *capacity, int need, size_t size, mx_error *err) {
  if (need <= *capacity) return MX_OK;
  int c = *capacity ? *capacity : 64;
  while (c < need) c *= 2;
  void *p = mx_realloc(*array, (size_t)c * size);
  if (!p) return mx_fail_memory(err, (size_t)c * size);
  *array = p;
  *capacity = c;
  return MX_OK;
}

static const mx_shape *shape_of(const builder *b, mx_entry e) {
  int i = mx_node_map_get(b->map, e.node);
  return i >= 0 ? &b->shape[i + e.index] : &b->g->shape[mx_graph_entry(b->g, e)];
}
static mx_dtype dtype_of(const builder *b, mx_entry e) {
  int i = mx_node_map_get(b->map, e.node);
  return i >= 0 ? b->dtype[i + e.index] : b->g->dtype[mx_graph_entry(b->g, e)];
}

/* Keeps a new node (takes its reference) with room for what is known of its outputs. */
static mx_status keep(builder *b, mx_node *node, mx_error *err) {
  int n_out = mx_node_count_out(node), shapes = b->entry_capacity;
  mx_status st = reserve((void **)&b->made, &b->capacity, b->n + 1, sizeof(*b->made), err);
  if (st == MX_OK) st = reserve((void **)&b->shape, &shapes, b->n_entries + n_out, sizeof(mx_shape), err);
  if (st == MX_OK) st = reserve((void **)&b->dtype, &b->entry_capacity, b->n_entries + n_out, sizeof(mx_dtype), err);
  if (st == MX_OK) st = mx_node_map_set(b->map, node, b->n_entries, err);
  if (st != MX_OK) {
    mx_node_release(node);
    return st;
  }
  b->made[b->n++] = node;
  for (int i = 0; i < n_out; i++) {
    b->shape[b->n_entries + i] = MX_SHAPE_UNKNOWN;
    b->dtype[b->n_entries + i] = MX_DTYPE_UNKNOWN;
  }
  b->n_entries += n_out;
  return MX_OK;
}

static mx_status infer_node(builder *b, mx_node *node, mx_error *err) {
  int n_out = mx_node_count_out(node), n = node->n_in + n_out, first = mx_node_map_get(b->map, node);
  mx_shape *shape = mx_malloc((size_t)n * sizeof(mx_shape));
  mx_dtype *dtype = mx_malloc((size_t)n * sizeof(mx_dtype));
  mx_status st = shape && dtype ? MX_OK : mx_fail_memory(err, (size_t)n * sizeof(mx_shape));
  if (st == MX_OK) {
    for (int i = 0; i < node->n_in; i++) shape[i] = *shape_of(b, node->in[i]), dtype[i] = dtype_of(b, node->in[i]);
    for (int i = node->n_in; i < n; i++) shape[i] = MX_SHAPE_UNKNOWN, dtype[i] = MX_DTYPE_UNKNOWN;
    st = mx_op_infer_dtype(node->op, node->params, dtype, node->n_in, dtype + node->n_in, n_out, err);
    if (st == MX_OK) st = mx_op_infer_shape(node->op, node->params, shape, node->n_in, shape + node->n_in, n_out, err);
    if (st != MX_OK) {
      mx_error_prefix(err, "Internal error in the gradient of %s", b->current ? b->current->name : "a sum");
      err->code = st = MX_ERR_INTERNAL;
    }
  }
  for (int i = 0; st == MX_OK && i < n_out; i++) {
    b->shape[first + i] = shape[node->n_in + i];
    b->dtype[first + i] = dtype[node->n_in + i] == MX_DTYPE_UNKNOWN ? MX_FLOAT32 : dtype[node->n_in + i];
    if (!mx_shape_known(&b->shape[first + i]))
      st = mx_fail(err, MX_ERR_INTERNAL, "Internal error: the shape of output %d of %s is not known.", i,
                   node->op->name);
  }
  mx_free(shape);
  mx_free(dtype);
  return st;
}

static mx_status append(builder *b, const char *name, const mx_dict *attrs, const mx_entry *in, int n_in, mx_entry *out,
                        mx_error *err) {
  const mx_op *op = mx_op_find(name);
  if (!op) return mx_fail(err, MX_ERR_INTERNAL, "Internal error: operator %s is not registered.", name);
  for (int i = 0; i < n_in; i++)
    if (!in[i].node)
      return mx_fail(err, MX_ERR_INTERNAL, "Internal error: input %d of %s is missing in the gradient of %s.", i, name,
                     b->current ? b->current->op->name : "a sum");
  char label[160];
  snprintf(label, sizeof(label), "%s_backward", b->current ? b->current->name : "sum");
  mx_node *node;
  MX_TRY(mx_node_new(op, label, attrs, in, n_in, &node, err));
  MX_TRY(keep(b, node, err));
  MX_TRY(infer_node(b, node, err));
  *out = (mx_entry){node, 0};
  return MX_OK;
}

/* ---- what operators' rules call ---- */

mx_status mx_grad_call(mx_grad *g, const char *op, const char *const *attrs, const mx_entry *in, int n_in,
                       mx_entry *out, mx_error *err) {
  mx_dict d = MX_DICT_EMPTY;
  mx_status st = MX_OK;
  for (int i = 0; attrs && attrs[i] && st == MX_OK; i += 2) st = mx_dict_set(&d, attrs[i], attrs[i + 1], err);
  if (st == MX_OK) st = append(g->builder, op, &d, in, n_in, out, err);
  mx_dict_free(&d);
  return st;
}

mx_status mx_grad_backward(mx_grad *g, const char *op, const mx_entry *in, int n_in, mx_entry *out, mx_error *err) {
  builder *b = g->builder;
  return append(b, op, &b->current->attrs, in, n_in, out, err);
}

static mx_status zeros(builder *b, const mx_shape *shape, mx_dtype dtype, mx_entry *out, mx_error *err) {
  char text[MX_SHAPE_TEXT];
  mx_dict d = MX_DICT_EMPTY;
  mx_status st = mx_dict_set(&d, "shape", mx_shape_text(shape, text), err);
  if (st == MX_OK) st = mx_dict_set(&d, "dtype", mx_dtype_name(dtype), err);
  if (st == MX_OK) st = append(b, "_backward_zeros", &d, NULL, 0, out, err);
  mx_dict_free(&d);
  return st;
}

mx_status mx_grad_head(mx_grad *g, int i, mx_entry *out, mx_error *err) {
  if (g->out_grad[i].node) {
    *out = g->out_grad[i];
    return MX_OK;
  }
  return zeros(g->builder, &g->out_shape[i], g->out_dtype[i], out, err);
}

const mx_shape *mx_grad_shape(mx_grad *g, mx_entry e) { return shape_of(g->builder, e); }

/* ---- the pass ---- */

/* What users sent to each forward entry: lists in one array, linked by `next`. */
typedef struct sent {
  mx_entry grad;
  int next;
} sent;
typedef struct mail {
  int *head; /* per forward entry: index into item, -1 when empty */
  int n, capacity;
  sent *item;
} mail;

static mx_status send(mail *m, int entry, mx_entry grad, mx_error *err) {
  MX_TRY(reserve((void **)&m->item, &m->capacity, m->n + 1, sizeof(sent), err));
  m->item[m->n] = (sent){grad, -1};
  int *link = &m->head[entry];
  while (*link >= 0) link = &m->item[*link].next;
  *link = m->n++;
  return MX_OK;
}

/* The sum of what was sent to an entry; MX_NO_ENTRY when nothing was. */
static mx_status receive(builder *b, mail *m, int entry, mx_entry *out, mx_error *err) {
  int n = 0;
  for (int i = m->head[entry]; i >= 0; i = m->item[i].next) n++;
  *out = n ? m->item[m->head[entry]].grad : MX_NO_ENTRY;
  if (n < 2) return MX_OK;
  mx_entry *all = mx_malloc((size_t)n * sizeof(*all));
  if (!all) return mx_fail_memory(err, (size_t)n * sizeof(*all));
  n = 0;
  for (int i = m->head[entry]; i >= 0; i = m->item[i].next) all[n++] = m->item[i].grad;
  char count[16];
  snprintf(count, sizeof(count), "%d", n);
  mx_dict d = MX_DICT_EMPTY;
  mx_status st = mx_dict_set(&d, "num_args", count, err);
  if (st == MX_OK) st = append(b, "add_n", &d, all, n, out, err);
  mx_dict_free(&d);
  mx_free(all);
  return st;
}

/* needed[i]: node i is one of wrt or depends on one. */
static mx_status find_needed(const mx_graph *g, mx_node *const *wrt, int n_wrt, bool *needed, mx_error *err) {
  for (int i = 0; i < n_wrt; i++) {
    int k = mx_node_map_get(g->map, wrt[i]);
    if (k < 0) return mx_fail(err, MX_ERR_INTERNAL, "Internal error: %s is not in the graph.", wrt[i]->name);
    needed[k] = true;
  }
  for (int i = 0; i < g->n_nodes; i++)
    for (int k = 0; !needed[i] && k < g->nodes[i]->n_in; k++)
      needed[i] = needed[mx_node_map_get(g->map, g->nodes[i]->in[k].node)];
  return MX_OK;
}

static mx_status check_gradient(builder *b, const mx_grad *g, int i, mx_error *err) {
  const mx_shape *s = shape_of(b, g->in_grad[i]);
  if (mx_shape_equal(s, &g->in_shape[i])) return MX_OK;
  char a[MX_SHAPE_TEXT], e[MX_SHAPE_TEXT];
  return mx_fail(err, MX_ERR_INTERNAL, "Internal error: the gradient of input %d of %s has shape %s, not %s.", i,
                 g->op->name, mx_shape_text(s, a), mx_shape_text(&g->in_shape[i], e));
}

/* Room for one node's mx_grad, for the largest node. */
typedef struct rule_room {
  mx_entry *in, *out, *out_grad, *in_grad;
  mx_shape *in_shape, *out_shape;
  mx_dtype *in_dtype, *out_dtype;
  bool *wanted;
} rule_room;

static mx_status room_new(const mx_graph *g, rule_room *r, mx_error *err) {
  size_t in = 1, out = 1;
  for (int i = 0; i < g->n_nodes; i++) {
    if ((size_t)g->nodes[i]->n_in > in) in = (size_t)g->nodes[i]->n_in;
    if ((size_t)(g->first[i + 1] - g->first[i]) > out) out = (size_t)(g->first[i + 1] - g->first[i]);
  }
  size_t bytes = (in + out) * (2 * sizeof(mx_entry) + sizeof(mx_shape) + sizeof(mx_dtype)) + in * sizeof(bool);
  char *p = mx_malloc(bytes);
  if (!p) return mx_fail_memory(err, bytes);
  r->in = (mx_entry *)p, r->in_grad = r->in + in, r->out = r->in_grad + in, r->out_grad = r->out + out;
  r->in_shape = (mx_shape *)(r->out_grad + out), r->out_shape = r->in_shape + in;
  r->in_dtype = (mx_dtype *)(r->out_shape + out), r->out_dtype = r->in_dtype + in;
  r->wanted = (bool *)(r->out_dtype + out);
  return MX_OK;
}

static mx_status differentiate(builder *b, mail *m, int i, const bool *needed, rule_room *r, mx_error *err) {
  const mx_graph *g = b->g;
  mx_node *n = g->nodes[i];
  int n_out = g->first[i + 1] - g->first[i];
  bool reached = false;
  b->current = n;
  for (int k = 0; k < n_out; k++) {
    int e = g->first[i] + k;
    MX_TRY(receive(b, m, e, &r->out_grad[k], err));
    r->out[k] = (mx_entry){n, k}, r->out_shape[k] = g->shape[e], r->out_dtype[k] = g->dtype[e];
    reached = reached || r->out_grad[k].node;
  }
  if (!n->op->gradient || (!reached && !(n->op->flags & MX_OP_LOSS))) return MX_OK;
  for (int k = 0; k < n->n_in; k++) {
    int e = mx_graph_entry(g, n->in[k]);
    r->in[k] = n->in[k], r->in_shape[k] = g->shape[e], r->in_dtype[k] = g->dtype[e];
    r->wanted[k] = needed[mx_node_map_get(g->map, n->in[k].node)];
    r->in_grad[k] = MX_NO_ENTRY;
  }
  mx_grad rule = {.builder = b,
                  .op = n->op,
                  .params = n->params,
                  .n_in = n->n_in,
                  .n_out = n_out,
                  .in = r->in,
                  .out = r->out,
                  .in_shape = r->in_shape,
                  .out_shape = r->out_shape,
                  .in_dtype = r->in_dtype,
                  .out_dtype = r->out_dtype,
                  .out_grad = r->out_grad,
                  .wanted = r->wanted,
                  .in_grad = r->in_grad};
  mx_status st = n->op->gradient(&rule, err);
  for (int k = 0; st == MX_OK && k < n->n_in; k++)
    if (r->wanted[k] && r->in_grad[k].node) {
      st = check_gradient(b, &rule, k, err);
      if (st == MX_OK) st = send(m, mx_graph_entry(g, n->in[k]), r->in_grad[k], err);
    }
  if (st != MX_OK) mx_error_set(err, node, "%s", n->name);
  return st;
}

static mx_status make_heads(builder *b, mail *m, mx_node **heads, mx_error *err) {
  const mx_graph *g = b->g;
  for (int i = 0; i < g->n_outputs; i++) {
    char name[32];
    snprintf(name, sizeof(name), "_head_grad%d", i);
    mx_node *head;
    MX_TRY(mx_node_new(NULL, name, NULL, NULL, 0, &head, err));
    MX_TRY(keep(b, head, err));
    int e = mx_graph_entry(g, g->outputs[i]), first = mx_node_map_get(b->map, head);
    b->shape[first] = g->shape[e];
    b->dtype[first] = g->dtype[e];
    heads[i] = head;
    MX_TRY(send(m, e, (mx_entry){head, 0}, err));
  }
  return MX_OK;
}

/* Gradients of the arguments: what they received, zeros when that is nothing. */
static mx_status collect(builder *b, mail *m, mx_node *const *wrt, int n_wrt, mx_entry *out, mx_error *err) {
  for (int i = 0; i < n_wrt; i++) {
    int e = mx_graph_entry(b->g, (mx_entry){wrt[i], 0});
    b->current = wrt[i];
    MX_TRY(receive(b, m, e, &out[i], err));
    if (!out[i].node) MX_TRY(zeros(b, &b->g->shape[e], b->g->dtype[e], &out[i], err));
  }
  return MX_OK;
}

/* The joint graph of forward nodes and made ones, with all that is known. */
static mx_status join(const builder *b, const mx_entry *outputs, int n_outputs, mx_graph **out, mx_error *err) {
  const mx_graph *g = b->g;
  int n = g->n_nodes + b->n;
  mx_node **nodes = mx_malloc((size_t)n * sizeof(*nodes));
  if (!nodes) return mx_fail_memory(err, (size_t)n * sizeof(*nodes));
  memcpy(nodes, g->nodes, (size_t)g->n_nodes * sizeof(*nodes));
  if (b->n) memcpy(nodes + g->n_nodes, b->made, (size_t)b->n * sizeof(*nodes));
  mx_status st = mx_graph_from_nodes(nodes, n, outputs, n_outputs, g->n_outputs, out, err);
  mx_free(nodes);
  if (st != MX_OK) return st;
  for (int i = 0; i < (*out)->n_nodes; i++)
    for (int e = (*out)->first[i]; e < (*out)->first[i + 1]; e++) {
      mx_entry entry = {(*out)->nodes[i], e - (*out)->first[i]};
      (*out)->shape[e] = *shape_of(b, entry);
      (*out)->dtype[e] = dtype_of(b, entry);
    }
  return MX_OK;
}

mx_status mx_graph_gradient(const mx_graph *g, mx_node *const *wrt, int n_wrt, mx_node **heads, mx_graph **out,
                            mx_error *err) {
  int n_entries = g->first[g->n_nodes], n_outputs = g->n_outputs + n_wrt;
  builder b = {.g = g, .map = mx_node_map_new()};
  mail m = {.head = mx_malloc((size_t)n_entries * sizeof(int))};
  bool *needed = mx_calloc((size_t)g->n_nodes, sizeof(bool));
  mx_entry *outputs = mx_malloc((size_t)n_outputs * sizeof(*outputs));
  rule_room room = {0};
  mx_status st = b.map && m.head && needed && outputs ? MX_OK : mx_fail_memory(err, (size_t)n_entries * sizeof(int));
  if (st != MX_OK) goto done;
  for (int i = 0; i < n_entries; i++) m.head[i] = -1;
  MX_TRY_GOTO(st, room_new(g, &room, err), done);
  MX_TRY_GOTO(st, find_needed(g, wrt, n_wrt, needed, err), done);
  MX_TRY_GOTO(st, make_heads(&b, &m, heads, err), done);
  for (int i = g->n_nodes - 1; i >= 0; i--)
    if (needed[i] && g->nodes[i]->op) MX_TRY_GOTO(st, differentiate(&b, &m, i, needed, &room, err), done);
  if (g->n_outputs) memcpy(outputs, g->outputs, (size_t)g->n_outputs * sizeof(*outputs));
  MX_TRY_GOTO(st, collect(&b, &m, wrt, n_wrt, outputs + g->n_outputs, err), done);
  st = join(&b, outputs, n_outputs, out, err);
  /* heads are handed out as borrowed pointers: those that are not reachable from the new graph are gone */
  for (int i = 0; st == MX_OK && i < g->n_outputs; i++)
    if (mx_node_map_get((*out)->map, heads[i]) < 0) heads[i] = NULL;
done:
  for (int i = 0; i < b.n; i++) mx_node_release(b.made[i]);
  mx_free(b.made);
  mx_free(b.shape);
  mx_free(b.dtype);
  mx_node_map_free(b.map);
  mx_free(m.head);
  mx_free(m.item);
  mx_free(needed);
  mx_free(outputs);
  mx_free(room.in);
  return st;
}
