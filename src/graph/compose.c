/* Composition: applying operators to symbols, and replacing variables of a symbol by other symbols. */
#include <string.h>

#include "core/memory.h"
#include "core/text.h"
#include "graph/legacy.h"
#include "graph/symbol.h"

/* ---- applying an operator ---- */

/* The attributes as they are kept: hidden ones in their form with underscores, and the number of inputs. */
static mx_status prepare_attrs(const mx_op *op, const mx_dict *given, int n_inputs, mx_dict *out, mx_error *err) {
  for (int i = 0; given && i < given->n; i++) {
    int prefix;
    const char *key = given->key[i], *hidden = mx_legacy_key(key);
    if (!hidden && !mx_param_find(op->params, key) && mx_legacy_input_key(key, &prefix)) {
      mx_fail(err, MX_ERR_VALUE, "%s: %.100s belongs to the input '%.*s'; set it on a variable that is passed for it.",
              op->name, key, prefix, key);
      mx_error_set(err, op, "%s", op->name);
      mx_error_set(err, argument, "%s", key);
      return MX_ERR_VALUE;
    }
    MX_TRY(mx_dict_set(out, hidden ? hidden : key, given->value[i], err));
  }
  if (op->num_args && !mx_dict_get(out, op->num_args)) {
    mx_text count = MX_TEXT_EMPTY;
    mx_text_format(&count, "%d", n_inputs);
    char *text;
    MX_TRY(mx_text_take(&count, &text, err));
    mx_status status = mx_dict_set(out, op->num_args, text, err);
    mx_free(text);
    return status;
  }
  return MX_OK;
}

static mx_status one_output(const mx_node *n, const mx_symbol *arg, const char *input, mx_error *err) {
  if (arg->n == 1) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "%s: input %s takes a symbol with one output, but got one with %d.", n->op->name, input,
          arg->n);
  mx_error_set(err, expected, "1 output");
  mx_error_set(err, actual, "%d outputs", arg->n);
  return mx_node_input_error(n, input, err);
}

static mx_status too_many(const mx_node *n, int given, mx_error *err) {
  mx_fail(err, MX_ERR_VALUE, "%s takes %d inputs, but %d were given.", n->op->name, n->n_in, given);
  mx_error_set(err, expected, "%d", n->n_in);
  mx_error_set(err, actual, "%d", given);
  return mx_node_input_error(n, "", err);
}

static mx_status place_by_position(mx_node *n, mx_symbol *const *args, int n_args, mx_error *err) {
  char input[MX_INPUT_NAME];
  int used = 0, total = 0;
  for (int i = 0; i < n_args; i++) total += args[i]->n;
  if (n->op->num_args) {
    if (total > n->n_in) return too_many(n, total, err);
  } else if (n_args > n->n_in) {
    return too_many(n, n_args, err);
  }
  for (int i = 0; i < n_args; i++) {
    if (!n->op->num_args) {
      mx_op_in_name(n->op, n->params, i, input, sizeof(input));
      MX_TRY(one_output(n, args[i], input, err));
    }
    for (int k = 0; k < args[i]->n; k++) {
      n->in[used++] = args[i]->out[k];
      mx_node_retain(args[i]->out[k].node);
    }
  }
  return MX_OK;
}

static mx_status unknown_input(const mx_node *n, const char *key, mx_error *err) {
  char input[MX_INPUT_NAME], known[512] = "";
  for (int i = 0; i < n->n_in && i < 16; i++) {
    mx_op_in_name(n->op, n->params, i, input, sizeof(input));
    if (strlen(known) + strlen(input) + 3 < sizeof(known)) strcat(strcat(known, i ? ", " : ""), input);
  }
  mx_fail(err, MX_ERR_VALUE, "%s has no input '%.100s'; its inputs are: %s.", n->op->name, key, known);
  mx_error_set(err, expected, "%s", known);
  mx_error_set(err, actual, "%s", key);
  return mx_node_input_error(n, key, err);
}

static bool has_key(const char *const *keys, int n, const char *key) {
  for (int i = 0; i < n; i++)
    if (keys[i] && !strcmp(keys[i], key)) return true;
  return false;
}

/* Those without a name take the inputs that none is named for, in order. */
static mx_status place_by_name(mx_node *n, const char *const *keys, mx_symbol *const *args, int n_args, mx_error *err) {
  char input[MX_INPUT_NAME];
  for (int a = 0; a < n_args; a++) {
    int i = 0;
    for (; i < n->n_in; i++) {
      mx_op_in_name(n->op, n->params, i, input, sizeof(input));
      if (keys[a] ? !strcmp(input, keys[a]) : !n->in[i].node && !has_key(keys, n_args, input)) break;
    }
    if (i == n->n_in) return keys[a] ? unknown_input(n, keys[a], err) : too_many(n, n_args, err);
    if (n->in[i].node) {
      mx_fail(err, MX_ERR_VALUE, "%s: input %s was given twice.", n->op->name, input);
      return mx_node_input_error(n, input, err);
    }
    MX_TRY(one_output(n, args[a], input, err));
    n->in[i] = args[a]->out[0];
    mx_node_retain(n->in[i].node);
  }
  return MX_OK;
}

static mx_status build(const mx_op *op, const char *hint, const char *name, const mx_dict *attrs,
                       const char *const *keys, mx_symbol *const *args, int n_args, mx_node **out, mx_error *err) {
  MX_TRY(mx_node_new(op, name, attrs, NULL, 0, out, err));
  mx_node *n = *out; /* the caller releases it on failure */
  int n_in = mx_op_count_in(op, n->params);
  if (n_in > 0) {
    n->in = mx_calloc((size_t)n_in, sizeof(*n->in));
    if (!n->in) return mx_fail_memory(err, (size_t)n_in * sizeof(*n->in));
    n->n_in = n_in;
  }
  if (keys)
    MX_TRY(place_by_name(n, keys, args, n_args, err));
  else
    MX_TRY(place_by_position(n, args, n_args, err));
  if (!n->name[0]) {
    char *automatic;
    MX_TRY(mx_name_next(hint ? hint : op->name, &automatic, err));
    mx_free(n->name);
    n->name = automatic;
  }
  for (int i = 0; i < n->n_in; i++) {
    if (!n->in[i].node)
      MX_TRY(mx_node_make_input(n, i, err));
    else if (!n->in[i].node->op)
      MX_TRY(mx_node_set_initializer(op, i, n->in[i].node, err));
  }
  MX_TRY(mx_node_check_states(n, err));
  for (int i = 0; i < n->n_in; i++) {
    mx_node *input = n->in[i].node;
    if (input->op) continue;
    if (mx_op_is_aux(op, n->params, i)) input->version++;
    n->in[i].version = input->version;
  }
  return MX_OK;
}

mx_status mx_symbol_apply(const mx_op *op, const char *hint, const char *name, const mx_dict *attrs,
                          const char *const *keys, mx_symbol *const *args, int n_args, mx_symbol **out, mx_error *err) {
  *out = NULL;
  if (op->flags & (MX_OP_IMPERATIVE | MX_OP_HIDDEN)) {
    mx_fail(err, MX_ERR_VALUE, "%s works on arrays only: it cannot be part of a symbol.", op->name);
    mx_error_set(err, op, "%s", op->name);
    return MX_ERR_VALUE;
  }
  int64_t total = 0;
  for (int i = 0; i < n_args; i++) total += args[i]->n;
  if (total > MX_MAX_ENTRIES)
    return mx_fail(err, MX_ERR_VALUE, "%s: %lld inputs are more than %d.", op->name, (long long)total, MX_MAX_ENTRIES);
  mx_node *n = NULL;
  mx_dict kept = MX_DICT_EMPTY;
  mx_status status = prepare_attrs(op, attrs, (int)total, &kept, err);
  if (status == MX_OK) status = build(op, hint, name, &kept, keys, args, n_args, &n, err);
  if (status == MX_OK) status = mx_symbol_of_node(n, out, err);
  mx_node_release(n);
  mx_dict_free(&kept);
  return status;
}

/* ---- replacing variables ---- */

/* What became of the nodes of a symbol: entry i stands for node i; its node is NULL where nothing changed. */
typedef struct replacement {
  mx_node **nodes;
  int n;
  mx_node_map *place;
  mx_entry *now;
} replacement;

static mx_entry replaced(const replacement *r, mx_entry e) {
  const mx_entry *now = &r->now[mx_node_map_get(r->place, e.node)];
  if (!now->node) return e;
  return e.node->op ? (mx_entry){now->node, e.index, e.version} : *now;
}

static mx_status copy_node(const replacement *r, const mx_node *n, const char *name, mx_node **out, mx_error *err) {
  MX_TRY(mx_node_new(n->op, name, &n->attrs, n->in, n->n_in, out, err));
  mx_node *copy = *out;
  for (int i = 0; i < n->n_in; i++) {
    mx_entry now = replaced(r, n->in[i]);
    mx_node_retain(now.node);
    mx_node_release(copy->in[i].node);
    copy->in[i] = now;
  }
  return mx_node_check_states(copy, err);
}

/* Finds the variables that are called `key`; *found tells whether there was one. */
static void replace_variables(replacement *r, const char *key, mx_entry by, bool *found) {
  for (int i = 0; i < r->n; i++)
    if (!r->nodes[i]->op && !strcmp(r->nodes[i]->name, key)) {
      *found = true;
      mx_node_release(r->now[i].node);
      mx_node_retain(by.node);
      r->now[i] = by;
    }
}

static mx_status compose(const mx_symbol *s, const char *name, const char *const *keys, mx_symbol *const *args,
                         int n_args, replacement *r, mx_symbol **out, mx_error *err) {
  MX_TRY(mx_nodes_sort(s->out, s->n, &r->nodes, &r->n, err));
  r->place = mx_node_map_new();
  r->now = mx_calloc((size_t)r->n + 1, sizeof(*r->now));
  if (!r->place || !r->now) return mx_fail_memory(err, (size_t)r->n * sizeof(*r->now));
  for (int i = 0; i < r->n; i++) MX_TRY(mx_node_map_set(r->place, r->nodes[i], i, err));
  for (int a = 0; a < n_args; a++) {
    bool found = false;
    if (args[a]->n != 1)
      return mx_fail(err, MX_ERR_VALUE, "The symbol for '%.100s' has %d outputs; expected one.", keys[a], args[a]->n);
    replace_variables(r, keys[a], args[a]->out[0], &found);
    if (!found) {
      mx_fail(err, MX_ERR_VALUE, "The symbol has no argument '%.100s'.", keys[a]);
      mx_error_set(err, argument, "%s", keys[a]);
      return MX_ERR_VALUE;
    }
  }
  for (int i = 0; i < r->n; i++) {
    const mx_node *n = r->nodes[i];
    if (!n->op) continue;
    bool renamed = name && n == s->out[0].node, changed = renamed;
    for (int k = 0; k < n->n_in && !changed; k++) changed = r->now[mx_node_map_get(r->place, n->in[k].node)].node;
    if (changed) MX_TRY(copy_node(r, n, renamed ? name : n->name, &r->now[i].node, err));
  }
  mx_entry *heads = mx_calloc((size_t)s->n + 1, sizeof(*heads));
  if (!heads) return mx_fail_memory(err, (size_t)s->n * sizeof(*heads));
  for (int i = 0; i < s->n; i++) heads[i] = replaced(r, s->out[i]);
  mx_status status = mx_symbol_from_entries(heads, s->n, out, err);
  mx_free(heads);
  return status;
}

mx_status mx_symbol_compose(const mx_symbol *s, const char *name, const char *const *keys, mx_symbol *const *args,
                            int n_args, mx_symbol **out, mx_error *err) {
  *out = NULL;
  if (name && !name[0]) name = NULL;
  for (int i = 0; i < s->n; i++) {
    if (!s->out[i].node->op && (name || s->n == 1))
      return mx_fail(err, MX_ERR_VALUE, "The variable '%.100s' cannot be composed: it has no arguments.",
                     s->out[i].node->name);
    if (name && s->out[i].node != s->out[0].node)
      return mx_fail(err, MX_ERR_VALUE, "A symbol with several head nodes cannot get the name '%.100s'.", name);
  }
  replacement r = {0};
  mx_status status = compose(s, name, keys, args, n_args, &r, out, err);
  for (int i = 0; r.now && i < r.n; i++) mx_node_release(r.now[i].node);
  mx_free(r.now);
  mx_free(r.nodes);
  mx_node_map_free(r.place);
  return status;
}
