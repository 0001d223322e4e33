/* Bringing saved graphs of older releases to today's form. The rules, by the first release that did without:
 *
 *   0.9.0  auxiliary states became inputs of their nodes
 *   0.9.5  axis = -1 of argmax and argmin no longer means "none"
 *   1.9.1  attributes such as lr_mult are written with underscores, and those for an input on the variable itself */
#include "graph/legacy.h"

#include <string.h>

#include "core/memory.h"
#include "core/text.h"

static const struct {
  const char *old, *now;
} keys[] = {
    {"ctx_group", "__ctx_group__"},       {"force_mirroring", "__force_mirroring__"}, {"lr_mult", "__lr_mult__"},
    {"mirror_stage", "__mirror_stage__"}, {"profiler_scope", "__profiler_scope__"},   {"wd_mult", "__wd_mult__"},
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

const char *mx_legacy_key(const char *key) {
  for (int i = 0; i < KEYS; i++)
    if (!strcmp(key, keys[i].old)) return keys[i].now;
  return NULL;
}

const char *mx_legacy_old_key(const char *key) {
  for (int i = 0; i < KEYS; i++)
    if (!strcmp(key, keys[i].now)) return keys[i].old;
  return NULL;
}

const char *mx_legacy_input_key(const char *key, int *prefix) {
  size_t length = strlen(key);
  for (int i = 0; i < KEYS; i++) {
    size_t n = strlen(keys[i].old);
    if (length > n + 1 && key[length - n - 1] == '_' && !strcmp(key + length - n, keys[i].old)) {
      *prefix = (int)(length - n - 1);
      return keys[i].now;
    }
  }
  return NULL;
}

static bool has_underscores(const char *key) {
  size_t length = strlen(key);
  return length > 4 && !strncmp(key, "__", 2) && !strcmp(key + length - 2, "__");
}

/* Keeps what is no parameter of an operator as "__key__". */
static mx_status set_hidden(mx_dict *attrs, const char *key, const char *value, mx_error *err) {
  mx_text t = MX_TEXT_EMPTY;
  mx_text_add(&t, "__");
  mx_text_add(&t, key);
  mx_text_add(&t, "__");
  char *hidden;
  MX_TRY(mx_text_take(&t, &hidden, err));
  mx_status status = mx_dict_set(attrs, hidden, value, err);
  mx_free(hidden);
  return status;
}

mx_status mx_legacy_attribute(int version, const mx_op *op, bool separate, const char *key, const char *value,
                              mx_dict *attrs, mx_dict *later, mx_error *err) {
  int prefix;
  if (version < MX_VERSION_NOW && !(op && mx_param_find(op->params, key))) {
    const char *hidden = mx_legacy_key(key);
    if (hidden) return mx_dict_set(attrs, hidden, value, err);
    if (op && mx_legacy_input_key(key, &prefix)) return mx_dict_set(later, key, value, err);
    if (op && separate && !has_underscores(key)) return set_hidden(attrs, key, value, err);
  }
  if (version < 905 && op && (!strcmp(op->name, "argmax") || !strcmp(op->name, "argmin")) && !strcmp(key, "axis") &&
      !strcmp(value, "-1"))
    return MX_OK;
  return mx_dict_set(attrs, key, value, err);
}

static mx_status add_missing_inputs(mx_node *n, int wanted, mx_error *err) {
  mx_entry *in = mx_realloc(n->in, (size_t)wanted * sizeof(*in));
  if (!in) return mx_fail_memory(err, (size_t)wanted * sizeof(*in));
  n->in = in;
  while (n->n_in < wanted) {
    n->in[n->n_in] = MX_NO_ENTRY;
    n->n_in++;
    MX_TRY(mx_node_make_input(n, n->n_in - 1, err));
  }
  return MX_OK;
}

mx_status mx_legacy_inputs(int version, mx_node *n, const mx_dict *later, mx_error *err) {
  int wanted = mx_op_count_in(n->op, n->params);
  if (version < 900 && n->n_in < wanted && !n->op->num_args) MX_TRY(add_missing_inputs(n, wanted, err));
  if (n->n_in != wanted) return MX_OK; /* an error that the caller reports */
  for (int k = 0; k < later->n; k++) {
    int prefix, i = 0;
    char input[MX_INPUT_NAME];
    const char *key = mx_legacy_input_key(later->key[k], &prefix);
    for (; i < n->n_in; i++) {
      mx_op_in_name(n->op, n->params, i, input, sizeof(input));
      if (!strncmp(input, later->key[k], (size_t)prefix) && !input[prefix]) break;
    }
    if (i < n->n_in && !n->in[i].node->op)
      MX_TRY(mx_dict_set(&n->in[i].node->attrs, key, later->value[k], err));
    else
      MX_TRY(set_hidden(&n->attrs, later->key[k], later->value[k], err));
  }
  return MX_OK;
}

/* Its pooling by maximum with a kernel of 1 to 3 dimensions has a second output, which held what oneDNN needed. */
int mx_legacy_count_out(const mx_node *n) {
  int count = mx_node_count_out(n);
  if (count != 1 || !n->op || strcmp(n->op->name, "Pooling")) return count;
  const char *type = mx_dict_get(&n->attrs, "pool_type"), *kernel = mx_dict_get(&n->attrs, "kernel");
  const char *layout = mx_dict_get(&n->attrs, "layout");
  mx_shape k = {0};
  mx_error ignored;
  bool max = !type || !strcmp(type, "max"), channels_first = !layout || !strncmp(layout, "NC", 2);
  bool window = kernel && mx_parse_tuple(kernel, &k, &ignored) == MX_OK && k.ndim >= 1 && k.ndim <= 3;
  return max && channels_first && window ? 2 : 1;
}
