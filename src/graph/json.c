/* Saved graphs: the JSON text of a symbol.
 *
 * Writing gives the reference's text byte for byte, layout included: lists of more than ten elements, and objects of
 * more than one, have a line for each. Reading takes every layout that was ever written, and trusts nothing: texts come
 * from anywhere. Nodes come in an order in which inputs precede their users, so that there can be no cycles. */
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "core/text.h"
#include "graph/legacy.h"

/* ================ writing ================ */

static void write_string(mx_text *t, const char *s) {
  mx_text_add(t, "\"");
  for (; *s; s++) {
    switch (*s) {
      case '\r':
        mx_text_add(t, "\\r");
        break;
      case '\n':
        mx_text_add(t, "\\n");
        break;
      case '\t':
        mx_text_add(t, "\\t");
        break;
      case '\\':
        mx_text_add(t, "\\\\");
        break;
      case '"':
        mx_text_add(t, "\\\"");
        break;
      default:
        if ((unsigned char)*s < 0x20)
          mx_text_format(t, "\\u%04x", *s);
        else
          mx_text_bytes(t, s, 1);
    }
  }
  mx_text_add(t, "\"");
}

/* What stands before element i: a comma, and where elements have lines of their own, the new line. */
static void write_place(mx_text *t, int64_t i, bool lines, int depth) {
  if (i > 0) mx_text_add(t, ", ");
  if (lines) mx_text_format(t, "\n%*s", 2 * depth, "");
}

/* The end of a list or object that stands at `depth`. */
static void write_end(mx_text *t, bool lines, int depth, const char *bracket) {
  if (lines) mx_text_format(t, "\n%*s", 2 * depth, "");
  mx_text_add(t, bracket);
}

static bool has_lines(int64_t n) { return n > 10; }

static void write_entries(mx_text *t, const mx_entry *e, int n, const mx_node_map *place, int depth) {
  mx_text_add(t, "[");
  for (int i = 0; i < n; i++) {
    write_place(t, i, has_lines(n), depth + 1);
    mx_text_format(t, "[%d, %d, %d]", mx_node_map_get(place, e[i].node), e[i].index, e[i].version);
  }
  write_end(t, has_lines(n), depth, "]");
}

static void write_attributes(mx_text *t, const mx_dict *d, int depth) {
  mx_text_add(t, "{");
  for (int i = 0; i < d->n; i++) {
    write_place(t, i, d->n > 1, depth + 1);
    write_string(t, d->key[i]);
    mx_text_add(t, ": ");
    write_string(t, d->value[i]);
  }
  write_end(t, d->n > 1, depth, "}");
}

static void write_node(mx_text *t, const mx_node *n, const mx_node_map *place) {
  mx_text_add(t, "{\n      \"op\": ");
  write_string(t, n->op ? n->op->name : "null");
  mx_text_add(t, ", \n      \"name\": ");
  write_string(t, n->name);
  if (n->attrs.n) {
    mx_text_add(t, ", \n      \"attrs\": ");
    write_attributes(t, &n->attrs, 3);
  }
  mx_text_add(t, ", \n      \"inputs\": ");
  write_entries(t, n->in, n->n_in, place, 3);
  mx_text_add(t, "\n    }");
}

static void write_symbol(mx_text *t, const mx_symbol *s, mx_node *const *nodes, int n, const mx_node_map *place) {
  mx_text_add(t, "{\n  \"nodes\": [");
  int variables = 0;
  for (int i = 0; i < n; i++) {
    write_place(t, i, true, 2);
    write_node(t, nodes[i], place);
    variables += !nodes[i]->op;
  }
  write_end(t, n > 0, 1, "]");
  mx_text_add(t, ", \n  \"arg_nodes\": [");
  for (int i = 0, k = 0; i < n; i++) {
    if (nodes[i]->op) continue;
    write_place(t, k++, has_lines(variables), 2);
    mx_text_format(t, "%d", i);
  }
  write_end(t, has_lines(variables), 1, "]");
  mx_text_add(t, ", \n  \"node_row_ptr\": [");
  long long entries = 0;
  for (int i = 0; i <= n; i++) {
    write_place(t, i, has_lines(n + 1), 2);
    mx_text_format(t, "%lld", entries);
    if (i < n) entries += mx_legacy_count_out(nodes[i]);
  }
  write_end(t, has_lines(n + 1), 1, "]");
  mx_text_add(t, ", \n  \"heads\": ");
  write_entries(t, s->out, s->n, place, 1);
  mx_text_format(t, ", \n  \"attrs\": {\"mxnet_version\": [\"int\", %d]}\n}", MX_VERSION_NOW);
}

mx_status mx_symbol_to_json(const mx_symbol *s, char **out, mx_error *err) {
  *out = NULL;
  mx_node **nodes;
  int n;
  MX_TRY(mx_nodes_sort(s->out, s->n, &nodes, &n, err));
  mx_node_map *place = mx_node_map_new();
  mx_status status = place ? MX_OK : mx_fail_memory(err, sizeof(mx_node *));
  for (int i = 0; i < n && status == MX_OK; i++) status = mx_node_map_set(place, nodes[i], i, err);
  if (status == MX_OK) {
    mx_text t = MX_TEXT_EMPTY;
    write_symbol(&t, s, nodes, n, place);
    status = mx_text_take(&t, out, err);
  }
  mx_node_map_free(place);
  mx_free(nodes);
  return status;
}

/* ================ reading ================ */

enum { MAX_ATTRS = 4096 }; /* of one node */

typedef struct reader {
  int version; /* of the release that wrote the text */
  int n;
  mx_node **nodes; /* one reference each; NULL where not read yet */
  int at;          /* the node that is being read */
  const char *name;
  mx_error *err;
} reader;

static const char *kind(const json_t *j) {
  static const char *const names[] = {"an object", "a list",         "a string",        "an integer",
                                      "a number",  "the value true", "the value false", "null"};
  return j ? names[json_typeof(j)] : "nothing";
}

/* The message is about the whole text. */
static mx_status wrong_type(mx_error *err, const char *what, const char *expected, const json_t *found) {
  mx_fail(err, MX_ERR_FORMAT, "%s is %s in this symbol file; expected %s.", what, kind(found), expected);
  mx_error_set(err, expected, "%s", expected);
  mx_error_set(err, actual, "%s", kind(found));
  return MX_ERR_FORMAT;
}

/* Completes an error about the node that is being read. */
static mx_status at_node(const reader *r) {
  if (r->err->code == MX_ERR_MEMORY || r->err->code == MX_ERR_INTERRUPTED) return r->err->code;
  if (r->name)
    mx_error_prefix(r->err, "Node %d ('%.100s')", r->at, r->name);
  else
    mx_error_prefix(r->err, "Node %d", r->at);
  if (r->name) mx_error_set(r->err, node, "%s", r->name);
  return r->err->code = MX_ERR_FORMAT;
}

/* A non-negative integer that fits into an int. */
static bool read_index(const json_t *j, int *out) {
  if (!json_is_integer(j) || json_integer_value(j) < 0 || json_integer_value(j) > INT_MAX) return false;
  *out = (int)json_integer_value(j);
  return true;
}

/* "[node, output]" or "[node, output, version]", of a node before `limit`. `what` is "inputs" or "heads". */
static mx_status read_entry(const reader *r, const json_t *j, const char *what, int i, int limit, mx_entry *out) {
  int id, index, version = 0;
  size_t n = json_array_size(j); /* 0 for what is no list */
  if ((n != 2 && n != 3) || !read_index(json_array_get(j, 0), &id) || !read_index(json_array_get(j, 1), &index) ||
      (n == 3 && !read_index(json_array_get(j, 2), &version)))
    return mx_fail(r->err, MX_ERR_FORMAT, "%s[%d] is not a list of two or three non-negative integers.", what, i);
  if (id >= limit) {
    if (id < r->n)
      mx_fail(r->err, MX_ERR_FORMAT, "%s[%d] refers to node %d, which comes later; inputs precede their users.", what,
              i, id);
    else
      mx_fail(r->err, MX_ERR_FORMAT, "%s[%d] refers to node %d, but there are only %d nodes.", what, i, id, r->n);
    mx_error_set(r->err, expected, "less than %d", limit);
    mx_error_set(r->err, actual, "%d", id);
    return MX_ERR_FORMAT;
  }
  mx_node *node = r->nodes[id];
  int visible = mx_node_count_visible(node);
  if (index >= visible) {
    mx_fail(r->err, MX_ERR_FORMAT, "%s[%d] refers to output %d of node %d ('%.100s'), which has %d.", what, i, index,
            id, node->name, visible);
    mx_error_set(r->err, expected, "less than %d", visible);
    mx_error_set(r->err, actual, "%d", index);
    return MX_ERR_FORMAT;
  }
  *out = (mx_entry){node, index, version};
  return MX_OK;
}

/* A list of entries, mx_malloc'ed. */
static mx_status read_entries(const reader *r, const json_t *j, const char *what, int limit, mx_entry **out,
                              int *n_out) {
  *out = NULL;
  if (!json_is_array(j)) return wrong_type(r->err, what, "a list", j);
  size_t n = json_array_size(j);
  if (n > MX_MAX_ENTRIES)
    return mx_fail(r->err, MX_ERR_FORMAT, "%s has %zu elements; at most %d are possible.", what, n, MX_MAX_ENTRIES);
  mx_entry *e = mx_calloc(n + 1, sizeof(*e));
  if (!e) return mx_fail_memory(r->err, n * sizeof(*e));
  for (size_t i = 0; i < n; i++) {
    mx_status status = read_entry(r, json_array_get(j, i), what, (int)i, limit, &e[i]);
    if (status != MX_OK) {
      mx_free(e);
      return status;
    }
  }
  *out = e;
  *n_out = (int)n;
  return MX_OK;
}

/* ---- operators ---- */

/* How many characters must be changed, added or removed, ignoring case; counts up to `limit` only. */
static int distance(const char *a, const char *b, int limit) {
  enum { MAX = 64 };
  int la = (int)strlen(a), lb = (int)strlen(b), row[MAX + 1];
  if (la > MAX || lb > MAX || la - lb > limit || lb - la > limit) return limit + 1;
  for (int k = 0; k <= lb; k++) row[k] = k;
  for (int i = 1; i <= la; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int k = 1; k <= lb; k++) {
      int same = diagonal + (strncasecmp(a + i - 1, b + k - 1, 1) != 0);
      diagonal = row[k];
      row[k] = 1 + (row[k - 1] < row[k] ? row[k - 1] : row[k]);
      if (same < row[k]) row[k] = same;
    }
  }
  return row[lb];
}

static void closer(const char *wanted, const char *candidate, const char **best, int *best_distance) {
  int d = distance(wanted, candidate, *best_distance);
  if (d < *best_distance) {
    *best = candidate;
    *best_distance = d;
  }
}

/* The operator with the name most like `name`, NULL when none is close. */
static const char *nearest_operator(const char *name) {
  const char *best = NULL;
  int limit = (int)strlen(name) / 4 + 1;
  if (limit > 4) limit = 4;
  for (int i = 0; i < mx_op_count(); i++) {
    const mx_op *op = mx_op_at(i);
    if (op->flags & (MX_OP_HIDDEN | MX_OP_IMPERATIVE)) continue;
    closer(name, op->name, &best, &limit);
    for (const char *const *alias = op->aliases; alias && *alias; alias++) closer(name, *alias, &best, &limit);
  }
  return best;
}

static mx_status find_operator(const reader *r, const char *name, const mx_op **out) {
  *out = NULL;
  if (!strcmp(name, "null")) return MX_OK;
  const mx_op *op = mx_op_find(name);
  if (op && !(op->flags & (MX_OP_HIDDEN | MX_OP_IMPERATIVE))) {
    *out = op;
    return MX_OK;
  }
  const char *near = op ? NULL : nearest_operator(name);
  if (op)
    mx_fail(r->err, MX_ERR_FORMAT, "Operator %.100s cannot be part of a symbol.", name);
  else if (near)
    mx_fail(r->err, MX_ERR_FORMAT, "There is no operator %.100s; the nearest name is %s.", name, near);
  else
    mx_fail(r->err, MX_ERR_FORMAT, "There is no operator %.100s.", name);
  mx_error_set(r->err, op, "%s", name);
  return MX_ERR_FORMAT;
}

/* ---- nodes ---- */

/* Adds the attributes that the node has under `key`: "param", "attr" or "attrs". */
static mx_status read_attributes(const reader *r, json_t *node, const char *key, bool separate, const mx_op *op,
                                 mx_dict *attrs, mx_dict *later) {
  json_t *j = json_object_get(node, key), *value;
  if (!j) return MX_OK;
  if (!json_is_object(j)) return wrong_type(r->err, key, "an object", j);
  if (json_object_size(j) > MAX_ATTRS)
    return mx_fail(r->err, MX_ERR_FORMAT, "%s has %zu elements; at most %d are possible.", key, json_object_size(j),
                   MAX_ATTRS);
  const char *name;
  json_object_foreach(j, name, value) {
    if (!json_is_string(value)) {
      mx_fail(r->err, MX_ERR_FORMAT, "The attribute %.100s is %s; expected a string.", name, kind(value));
      mx_error_set(r->err, argument, "%s", name);
      mx_error_set(r->err, expected, "a string");
      mx_error_set(r->err, actual, "%s", kind(value));
      return MX_ERR_FORMAT;
    }
    MX_TRY(mx_legacy_attribute(r->version, op, separate, name, json_string_value(value), attrs, later, r->err));
  }
  return MX_OK;
}

/* Control dependencies and backward nodes of early releases: not empty in graphs of gradients only. */
static mx_status check_forward(const reader *r, json_t *node) {
  const json_t *deps = json_object_get(node, "control_deps"), *source = json_object_get(node, "backward_source_id");
  if ((deps && json_array_size(deps) > 0) || (json_is_integer(source) && json_integer_value(source) >= 0))
    return mx_fail(r->err, MX_ERR_FORMAT, "It belongs to a saved graph of gradients; only forward graphs can be read.");
  return MX_OK;
}

static mx_status check_count(const reader *r, const mx_node *n) {
  int wanted = mx_op_count_in(n->op, n->params);
  if (n->n_in == wanted) return MX_OK;
  mx_fail(r->err, MX_ERR_FORMAT, "Operator %s has %d inputs with these parameters; expected %d, found %d.", n->op->name,
          wanted, wanted, n->n_in);
  mx_error_set(r->err, op, "%s", n->op->name);
  mx_error_set(r->err, expected, "%d", wanted);
  mx_error_set(r->err, actual, "%d", n->n_in);
  return MX_ERR_FORMAT;
}

static mx_status make_node(reader *r, const mx_op *op, const mx_dict *attrs, const mx_dict *later, const mx_entry *in,
                           int n_in) {
  mx_node **n = &r->nodes[r->at];
  MX_TRY(mx_node_new(op, r->name, attrs, in, n_in, n, r->err));
  if (!op) {
    if (n_in > 0) return mx_fail(r->err, MX_ERR_FORMAT, "A variable has no inputs; found %d.", n_in);
    return MX_OK;
  }
  MX_TRY(mx_legacy_inputs(r->version, *n, later, r->err));
  MX_TRY(check_count(r, *n));
  return mx_node_check_states(*n, r->err);
}

static mx_status read_node(reader *r, json_t *j) {
  r->name = NULL;
  if (!json_is_object(j)) return wrong_type(r->err, "The element of 'nodes'", "an object", j);
  const json_t *name = json_object_get(j, "name"), *op_name = json_object_get(j, "op");
  if (!json_is_string(name)) return wrong_type(r->err, "'name'", "a string", name);
  r->name = json_string_value(name);
  if (!json_is_string(op_name)) return wrong_type(r->err, "'op'", "a string", op_name);
  const mx_op *op;
  MX_TRY(find_operator(r, json_string_value(op_name), &op));
  MX_TRY(check_forward(r, j));
  mx_dict attrs = MX_DICT_EMPTY, later = MX_DICT_EMPTY;
  mx_entry *in = NULL;
  int n_in = 0;
  bool apart = json_object_get(j, "param");
  mx_status status = read_attributes(r, j, "attr", apart, op, &attrs, &later);
  if (status == MX_OK) status = read_attributes(r, j, "attrs", apart, op, &attrs, &later);
  if (status == MX_OK) status = read_attributes(r, j, "param", false, op, &attrs, &later);
  if (status == MX_OK) status = read_entries(r, json_object_get(j, "inputs"), "inputs", r->at, &in, &n_in);
  if (status == MX_OK) status = make_node(r, op, &attrs, &later, in, n_in);
  mx_free(in);
  mx_dict_free(&attrs);
  mx_dict_free(&later);
  return status;
}

/* ---- the text ---- */

/* {"mxnet_version": ["int", 10901]}, from release 0.9 on. */
static mx_status read_version(reader *r, json_t *root) {
  json_t *attrs = json_object_get(root, "attrs");
  r->version = MX_VERSION_UNKNOWN;
  if (!attrs) return MX_OK;
  if (!json_is_object(attrs)) return wrong_type(r->err, "'attrs'", "an object", attrs);
  json_t *version = json_object_get(attrs, "mxnet_version");
  if (version && !read_index(json_array_get(version, 1), &r->version))
    return wrong_type(r->err, "'mxnet_version'", "a list of \"int\" and a number", version);
  return MX_OK;
}

/* The list of variables can be derived, and some writers leave it out; a wrong one shows a damaged file. */
static mx_status check_variables(const reader *r, json_t *root) {
  const json_t *list = json_object_get(root, "arg_nodes");
  if (!list) return MX_OK;
  if (!json_is_array(list)) return wrong_type(r->err, "'arg_nodes'", "a list", list);
  for (size_t i = 0; i < json_array_size(list); i++) {
    int id;
    if (!read_index(json_array_get(list, i), &id) || id >= r->n || r->nodes[id]->op)
      return mx_fail(r->err, MX_ERR_FORMAT, "arg_nodes[%zu] is not the number of a variable in this symbol file.", i);
  }
  return MX_OK;
}

static mx_status read_symbol(reader *r, json_t *root, mx_symbol **out) {
  if (!json_is_object(root)) return wrong_type(r->err, "The outermost value", "an object", root);
  json_t *nodes = json_object_get(root, "nodes");
  if (!json_is_array(nodes)) return wrong_type(r->err, "'nodes'", "a list", nodes);
  if (json_array_size(nodes) > INT_MAX / 2) return mx_fail(r->err, MX_ERR_FORMAT, "There are too many nodes.");
  MX_TRY(read_version(r, root));
  r->n = (int)json_array_size(nodes);
  r->nodes = mx_calloc((size_t)r->n + 1, sizeof(*r->nodes));
  if (!r->nodes) return mx_fail_memory(r->err, (size_t)r->n * sizeof(*r->nodes));
  for (r->at = 0; r->at < r->n; r->at++)
    if (read_node(r, json_array_get(nodes, (size_t)r->at)) != MX_OK) return at_node(r);
  MX_TRY(check_variables(r, root));
  mx_entry *heads;
  int n_heads;
  MX_TRY(read_entries(r, json_object_get(root, "heads"), "heads", r->n, &heads, &n_heads));
  mx_status status = mx_symbol_from_entries(heads, n_heads, out, r->err);
  mx_free(heads);
  return status;
}

mx_status mx_symbol_from_json(const char *text, mx_symbol **out, mx_error *err) {
  *out = NULL;
  json_error_t wrong;
  json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &wrong);
  if (!root) {
    if (json_error_code(&wrong) == json_error_out_of_memory) return mx_fail_memory(err, strlen(text));
    return mx_fail(err, MX_ERR_FORMAT, "This is not valid JSON: line %d, column %d: %.200s.", wrong.line, wrong.column,
                   wrong.text);
  }
  reader r = {.err = err};
  mx_status status = read_symbol(&r, root, out);
  for (int i = 0; r.nodes && i < r.n; i++) mx_node_release(r.nodes[i]);
  mx_free(r.nodes);
  json_decref(root);
  return status;
}
