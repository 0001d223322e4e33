/* Symbols: lists of node outputs, what they are called, and what is known about their shapes. */
#include "graph/symbol.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "graph/graph.h"
#include "graph/legacy.h"

/* ---- life ---- */

mx_symbol *mx_symbol_retain(mx_symbol *s) {
  if (s) s->refs++;
  return s;
}

void mx_symbol_release(mx_symbol *s) {
  if (!s || --s->refs > 0) return;
  for (int i = 0; i < s->n; i++) mx_node_release(s->out[i].node);
  mx_free(s->out);
  mx_free(s);
}

mx_status mx_symbol_from_entries(const mx_entry *e, int n, mx_symbol **out, mx_error *err) {
  *out = NULL;
  size_t bytes = (size_t)n * sizeof(*e);
  mx_symbol *s = mx_malloc(sizeof(*s));
  mx_entry *entries = s ? mx_malloc(bytes + 1) : NULL;
  if (!entries) {
    mx_free(s);
    return mx_fail_memory(err, sizeof(*s) + bytes);
  }
  for (int i = 0; i < n; i++) {
    entries[i] = e[i];
    mx_node_retain(e[i].node);
  }
  *s = (mx_symbol){.refs = 1, .n = n, .out = entries};
  *out = s;
  return MX_OK;
}

mx_status mx_symbol_of_node(mx_node *n, mx_symbol **out, mx_error *err) {
  int count = mx_node_count_visible(n);
  mx_entry *e = mx_calloc((size_t)count + 1, sizeof(*e));
  if (!e) return mx_fail_memory(err, (size_t)count * sizeof(*e));
  for (int i = 0; i < count; i++) e[i] = (mx_entry){n, i, 0};
  mx_status status = mx_symbol_from_entries(e, count, out, err);
  mx_free(e);
  return status;
}

mx_status mx_symbol_variable(const char *name, mx_symbol **out, mx_error *err) {
  *out = NULL;
  mx_node *n;
  MX_TRY(mx_node_new(NULL, name, NULL, NULL, 0, &n, err));
  mx_status status = mx_symbol_of_node(n, out, err);
  mx_node_release(n);
  return status;
}

/* ---- parts ---- */

/* A list of entries that grows. */
typedef struct entries {
  mx_entry *v;
  int n, capacity;
} entries;

static mx_status add_entry(entries *l, mx_entry e, mx_error *err) {
  if (l->n == l->capacity) {
    int capacity = l->capacity ? 2 * l->capacity : 16;
    mx_entry *v = mx_realloc(l->v, (size_t)capacity * sizeof(*v));
    if (!v) return mx_fail_memory(err, (size_t)capacity * sizeof(*v));
    l->v = v;
    l->capacity = capacity;
  }
  l->v[l->n++] = e;
  return MX_OK;
}

/* The symbol of a list that was collected with `status`; frees the list. */
static mx_status finish(mx_status status, entries *l, mx_symbol **out, mx_error *err) {
  if (status == MX_OK) status = mx_symbol_from_entries(l->v, l->n, out, err);
  mx_free(l->v);
  return status;
}

mx_status mx_symbol_group(mx_symbol *const *s, int n, mx_symbol **out, mx_error *err) {
  *out = NULL;
  entries l = {0};
  mx_status status = MX_OK;
  for (int i = 0; i < n; i++)
    for (int k = 0; k < s[i]->n && status == MX_OK; k++) status = add_entry(&l, s[i]->out[k], err);
  return finish(status, &l, out, err);
}

mx_status mx_symbol_internals(const mx_symbol *s, mx_symbol **out, mx_error *err) {
  *out = NULL;
  mx_node **nodes;
  int n;
  MX_TRY(mx_nodes_sort(s->out, s->n, &nodes, &n, err));
  entries l = {0};
  mx_status status = MX_OK;
  for (int i = 0; i < n; i++) {
    int visible = mx_node_count_visible(nodes[i]);
    for (int k = 0; k < visible && status == MX_OK; k++)
      status = add_entry(&l, (mx_entry){nodes[i], k, nodes[i]->version}, err);
  }
  mx_free(nodes);
  return finish(status, &l, out, err);
}

mx_status mx_symbol_children(const mx_symbol *s, mx_symbol **out, mx_error *err) {
  *out = NULL;
  entries l = {0};
  mx_status status = MX_OK;
  for (int i = 0; i < s->n; i++) {
    const mx_node *n = s->out[i].node;
    bool seen = false;
    for (int k = 0; k < i && !seen; k++) seen = s->out[k].node == n;
    for (int k = 0; !seen && k < n->n_in && status == MX_OK; k++) status = add_entry(&l, n->in[k], err);
  }
  return finish(status, &l, out, err);
}

mx_status mx_symbol_output(const mx_symbol *s, int i, mx_symbol **out, mx_error *err) {
  *out = NULL;
  if (i < 0 || i >= s->n) {
    mx_fail(err, MX_ERR_VALUE, "Output %d does not exist: the symbol has %d.", i, s->n);
    mx_error_set(err, expected, "0 to %d", s->n - 1);
    mx_error_set(err, actual, "%d", i);
    return MX_ERR_VALUE;
  }
  return mx_symbol_from_entries(&s->out[i], 1, out, err);
}

/* ---- names ---- */

/* The variables in graph order; is_aux[i] tells those that are auxiliary states of some operator. */
typedef struct variables {
  mx_node **v;
  bool *is_aux;
  int n;
} variables;

static void free_variables(variables *l) {
  mx_free(l->v);
  mx_free(l->is_aux);
}

/* Keeps the variables of `l->v`, which holds all nodes in order, and marks auxiliary states. */
static mx_status mark_variables(variables *l, int n_nodes, mx_node_map *place, mx_error *err) {
  l->is_aux = mx_calloc((size_t)n_nodes + 1, sizeof(*l->is_aux));
  if (!l->is_aux) return mx_fail_memory(err, (size_t)n_nodes);
  for (int i = 0; i < n_nodes; i++) {
    mx_node *n = l->v[i];
    if (!n->op) {
      MX_TRY(mx_node_map_set(place, n, l->n, err));
      l->v[l->n++] = n;
      continue;
    }
    for (int k = 0; k < n->n_in; k++)
      if (!n->in[k].node->op && mx_op_is_aux(n->op, n->params, k))
        l->is_aux[mx_node_map_get(place, n->in[k].node)] = true;
  }
  return MX_OK;
}

static mx_status find_variables(const mx_symbol *s, variables *l, mx_error *err) {
  *l = (variables){0};
  int n_nodes;
  MX_TRY(mx_nodes_sort(s->out, s->n, &l->v, &n_nodes, err));
  mx_node_map *place = mx_node_map_new();
  mx_status status = place ? mark_variables(l, n_nodes, place, err) : mx_fail_memory(err, sizeof(*l));
  mx_node_map_free(place);
  if (status != MX_OK) free_variables(l);
  return status;
}

static mx_status list_variables(const mx_symbol *s, bool aux, mx_names *out, mx_error *err) {
  *out = (mx_names){0, NULL};
  variables l;
  MX_TRY(find_variables(s, &l, err));
  mx_status status = MX_OK;
  for (int i = 0; i < l.n && status == MX_OK; i++)
    if (l.is_aux[i] == aux) status = mx_names_add(out, l.v[i]->name, err);
  free_variables(&l);
  if (status != MX_OK) mx_names_free(out);
  return status;
}

mx_status mx_symbol_arguments(const mx_symbol *s, mx_names *out, mx_error *err) {
  return list_variables(s, false, out, err);
}
mx_status mx_symbol_auxiliaries(const mx_symbol *s, mx_names *out, mx_error *err) {
  return list_variables(s, true, out, err);
}

/* A variable has its own name; an operator's output is "<node>_<output>". */
static mx_status add_output_name(mx_entry e, mx_names *out, mx_error *err) {
  if (!e.node->op) return mx_names_add(out, e.node->name, err);
  char suffix[128];
  mx_op_out_name(e.node->op, e.node->params, e.index, suffix, sizeof(suffix));
  mx_text t = MX_TEXT_EMPTY;
  mx_text_add(&t, e.node->name);
  if (t.size) mx_text_add(&t, "_");
  mx_text_add(&t, suffix);
  char *name;
  MX_TRY(mx_text_take(&t, &name, err));
  mx_status status = mx_names_add(out, name, err);
  mx_free(name);
  return status;
}

mx_status mx_symbol_outputs(const mx_symbol *s, mx_names *out, mx_error *err) {
  *out = (mx_names){0, NULL};
  for (int i = 0; i < s->n; i++) {
    mx_status status = add_output_name(s->out[i], out, err);
    if (status != MX_OK) {
      mx_names_free(out);
      return status;
    }
  }
  return MX_OK;
}

/* ---- attributes ---- */

static mx_node *head_node(const mx_symbol *s) {
  for (int i = 1; i < s->n; i++)
    if (s->out[i].node != s->out[0].node) return NULL;
  return s->n > 0 ? s->out[0].node : NULL;
}

const mx_dict *mx_symbol_attributes(const mx_symbol *s) {
  const mx_node *n = head_node(s);
  return n ? &n->attrs : NULL;
}

/* Another node takes the place of the head node in `s` alone: executors may hold the parsed parameters of the old one.
 */
static mx_status set_parameter(mx_symbol *s, mx_node *n, const mx_dict *attrs, mx_error *err) {
  mx_node *copy;
  MX_TRY(mx_node_new(n->op, n->name, attrs, n->in, n->n_in, &copy, err));
  mx_status states = mx_op_count_in(n->op, copy->params) == n->n_in ? mx_node_check_states(copy, err) : MX_OK;
  if (states != MX_OK) {
    mx_node_release(copy);
    return states;
  }
  if (mx_op_count_in(n->op, copy->params) != n->n_in || mx_node_count_out(copy) != mx_node_count_out(n) ||
      mx_node_count_visible(copy) != mx_node_count_visible(n)) {
    mx_node_release(copy);
    mx_fail(err, MX_ERR_VALUE, "This would change how many inputs or outputs node '%.100s' has; apply %s anew instead.",
            n->name, n->op->name);
    mx_error_set(err, op, "%s", n->op->name);
    mx_error_set(err, node, "%s", n->name);
    return MX_ERR_VALUE;
  }
  for (int i = 0; i < s->n; i++) {
    mx_node_retain(copy);
    s->out[i].node = copy;
    mx_node_release(n);
  }
  mx_node_release(copy);
  return MX_OK;
}

mx_status mx_symbol_set_attribute(mx_symbol *s, const char *key, const char *value, mx_error *err) {
  mx_node *n = head_node(s);
  if (!n) return mx_fail(err, MX_ERR_VALUE, "A symbol with %d head nodes has no attributes; expected one.", s->n);
  const char *hidden = mx_legacy_key(key);
  if (hidden) key = hidden;
  size_t length = strlen(key);
  bool parameter = n->op && !(length > 4 && !strncmp(key, "__", 2) && !strcmp(key + length - 2, "__"));
  if (!parameter) return mx_dict_set(&n->attrs, key, value, err);
  mx_dict attrs;
  MX_TRY(mx_dict_copy(&attrs, &n->attrs, err));
  mx_status status = mx_dict_set(&attrs, key, value, err);
  if (status == MX_OK) status = set_parameter(s, n, &attrs, err);
  mx_dict_free(&attrs);
  return status;
}

/* ---- a listing for people ---- */

static void describe_node(const mx_node *n, mx_text *t) {
  if (!n->op) {
    mx_text_add(t, "Variable:");
    mx_text_add(t, n->name);
    mx_text_add(t, "\n");
    return;
  }
  mx_text_add(t, "--------------------\nOp:");
  mx_text_add(t, n->op->name);
  mx_text_add(t, ", Name=");
  mx_text_add(t, n->name);
  mx_text_add(t, "\nInputs:\n");
  for (int i = 0; i < n->n_in; i++) {
    mx_text_format(t, "\targ[%d]=", i);
    mx_text_add(t, n->in[i].node->name);
    mx_text_format(t, "(%d)", n->in[i].index);
    if (!n->in[i].node->op) mx_text_format(t, " version=%d", n->in[i].version);
    mx_text_add(t, "\n");
  }
  if (n->attrs.n) mx_text_add(t, "Attrs:\n");
  for (int i = 0; i < n->attrs.n; i++) {
    mx_text_add(t, "\t");
    mx_text_add(t, n->attrs.key[i]);
    mx_text_add(t, "=");
    mx_text_add(t, n->attrs.value[i]);
    mx_text_add(t, "\n");
  }
}

mx_status mx_symbol_describe(const mx_symbol *s, char **out, mx_error *err) {
  mx_node **nodes;
  int n;
  MX_TRY(mx_nodes_sort(s->out, s->n, &nodes, &n, err));
  mx_text t = MX_TEXT_EMPTY;
  if (s->n != 1 || s->out[0].node->op) {
    mx_text_add(&t, "Symbol Outputs:\n");
    for (int i = 0; i < s->n; i++) {
      mx_text_format(&t, "\toutput[%d]=", i);
      mx_text_add(&t, s->out[i].node->name);
      mx_text_format(&t, "(%d)\n", s->out[i].index);
    }
  }
  for (int i = 0; i < n; i++) describe_node(nodes[i], &t);
  mx_free(nodes);
  return mx_text_take(&t, out, err);
}

/* ---- shapes ---- */

static mx_status give_shapes(mx_graph *g, const variables *l, const char *const *keys, const mx_shape *shapes, int n,
                             mx_error *err) {
  for (int k = 0; k < n; k++) {
    bool found = false;
    for (int i = 0; i < l->n; i++) {
      if (strcmp(l->v[i]->name, keys[k])) continue;
      found = true;
      g->shape[mx_graph_entry(g, (mx_entry){l->v[i], 0, 0})] = shapes[k];
    }
    if (!found) {
      mx_fail(err, MX_ERR_VALUE, "The symbol has no argument '%.100s' that a shape could be given for.", keys[k]);
      mx_error_set(err, argument, "%s", keys[k]);
      return MX_ERR_VALUE;
    }
  }
  return MX_OK;
}

static mx_status take_shapes(const mx_symbol *s, const mx_graph *g, const variables *l, mx_symbol_shapes *out,
                             mx_error *err) {
  size_t bytes = ((size_t)l->n + 1) * sizeof(mx_shape);
  out->args = mx_malloc(bytes);
  out->aux = mx_malloc(bytes);
  out->outs = mx_malloc(((size_t)s->n + 1) * sizeof(mx_shape));
  out->arg_dtypes = mx_malloc(((size_t)l->n + 1) * sizeof(mx_dtype));
  out->aux_dtypes = mx_malloc(((size_t)l->n + 1) * sizeof(mx_dtype));
  if (!out->args || !out->aux || !out->outs || !out->arg_dtypes || !out->aux_dtypes) return mx_fail_memory(err, bytes);
  out->complete = true;
  for (int i = 0; i < l->n; i++) {
    int e = mx_graph_entry(g, (mx_entry){l->v[i], 0, 0});
    const mx_shape *known = &g->shape[e];
    if (l->is_aux[i]) {
      out->aux_dtypes[out->n_aux] = g->dtype[e];
      out->aux[out->n_aux++] = *known;
    } else {
      out->arg_dtypes[out->n_args] = g->dtype[e];
      out->args[out->n_args++] = *known;
    }
    if (!mx_shape_known(known)) out->complete = false;
  }
  for (int i = 0; i < s->n; i++) {
    out->outs[out->n_outs] = g->shape[mx_graph_entry(g, s->out[i])];
    if (!mx_shape_known(&out->outs[out->n_outs++])) out->complete = false;
  }
  return MX_OK;
}

mx_status mx_symbol_infer_shape(const mx_symbol *s, const char *const *keys, const mx_shape *shapes, int n,
                                mx_symbol_shapes *out, mx_error *err) {
  *out = (mx_symbol_shapes){0};
  variables l;
  MX_TRY(find_variables(s, &l, err));
  mx_graph *g = NULL;
  bool complete;
  mx_status status = mx_graph_new(s->out, s->n, &g, err);
  if (status == MX_OK) status = give_shapes(g, &l, keys, shapes, n, err);
  if (status == MX_OK) status = mx_graph_infer(g, true, &complete, err);
  if (status == MX_OK) status = take_shapes(s, g, &l, out, err);
  mx_graph_free(g);
  free_variables(&l);
  if (status != MX_OK) mx_symbol_shapes_free(out);
  return status;
}

void mx_symbol_shapes_free(mx_symbol_shapes *s) {
  mx_free(s->args);
  mx_free(s->outs);
  mx_free(s->aux);
  mx_free(s->arg_dtypes);
  mx_free(s->aux_dtypes);
  *s = (mx_symbol_shapes){0};
}
