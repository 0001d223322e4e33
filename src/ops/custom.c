/* Custom: operators written in the language that hosts the core (ops/custom.h).
 *
 * Invariant: a definition does not change while parsed parameters refer to it, so that the counts of a node hold for as
 * long as the node lives, however often it is copied. */
#include "ops/custom.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

/* ---- definitions ---- */

typedef struct entry {
  mx_custom custom; /* its texts are owned */
  int uses;         /* parsed parameters that refer to it */
  struct entry *next;
} entry;

static const mx_custom_host *host;
static entry *entries;

void mx_custom_set_host(const mx_custom_host *functions) { host = functions; }

static int count_names(const mx_custom *c) { return c->n_args + c->n_aux + c->n_out; }

static entry *find(const char *name) {
  entry *e = entries;
  while (e && strcmp(e->custom.name, name)) e = e->next;
  return e;
}

static bool same(const mx_custom *a, const mx_custom *b) {
  if (a->n_args != b->n_args || a->n_aux != b->n_aux || a->n_out != b->n_out) return false;
  if (a->has_gradient != b->has_gradient || a->is_loss != b->is_loss) return false;
  for (int i = 0; i < count_names(a); i++)
    if (strcmp(a->names[i], b->names[i])) return false;
  return true;
}

/* A copy in one block: the entry, the pointers to the names, the texts. */
static mx_status entry_new(const mx_custom *c, entry **out, mx_error *err) {
  size_t n = (size_t)count_names(c), bytes = sizeof(entry) + n * sizeof(char *) + strlen(c->name) + 1;
  for (size_t i = 0; i < n; i++) bytes += strlen(c->names[i]) + 1;
  entry *e = mx_malloc(bytes);
  if (!e) return mx_fail_memory(err, bytes);
  const char **names = (const char **)(e + 1);
  char *text = (char *)(names + n);
  *e = (entry){.custom = *c};
  e->custom.name = strcpy(text, c->name);
  for (size_t i = 0; i < n; i++) {
    text += strlen(text) + 1;
    names[i] = strcpy(text, c->names[i]);
  }
  e->custom.names = names;
  *out = e;
  return MX_OK;
}

mx_status mx_custom_register(const mx_custom *definition, mx_error *err) {
  entry **at = &entries, *made = NULL;
  while (*at && strcmp((*at)->custom.name, definition->name)) at = &(*at)->next;
  if (*at && same(&(*at)->custom, definition)) return MX_OK;
  if (*at && (*at)->uses > 0) {
    mx_fail(
        err, MX_ERR_STATE,
        "The operator '%.60s' is in use with other inputs, outputs or another kind of gradient; take a new name, or "
        "remove the symbols and executors that use it.",
        definition->name);
    mx_error_set(err, op, "%s", definition->name);
    return MX_ERR_STATE;
  }
  MX_TRY(entry_new(definition, &made, err));
  entry *old = *at;
  made->next = old ? old->next : NULL;
  *at = made;
  mx_free(old);
  return MX_OK;
}

/* ---- parameters ---- */

static const mx_param custom_table[] = {
    MX_P_STRING(mx_custom_params, op_type, NULL, "Name of the operator, as it was registered."),
    MX_P_REST(mx_custom_params, given, "Parameters of the operator."), MX_P_END};

static mx_status custom_check(void *params, mx_error *err) {
  mx_custom_params *p = params;
  entry *e = find(p->op_type);
  if (!e) {
    mx_fail(err, MX_ERR_VALUE, "there is no operator '%.100s'; it has to be registered in each session.", p->op_type);
    mx_error_set(err, argument, "op_type");
    mx_error_set(err, actual, "%s", p->op_type);
    return MX_ERR_VALUE;
  }
  p->custom = &e->custom;
  MX_TRY(host->check(p, err));
  e->uses++;
  return MX_OK;
}

static void custom_release(void *params) { find(((mx_custom_params *)params)->op_type)->uses--; }

/* ---- the record ---- */

static const mx_custom *custom_of(const void *params) { return ((const mx_custom_params *)params)->custom; }

static int custom_count_in(const void *params) { return custom_of(params)->n_args + custom_of(params)->n_aux; }
static int custom_count_out(const void *params) { return custom_of(params)->n_out; }
static bool custom_is_aux(const void *params, int i) { return i >= custom_of(params)->n_args; }
static void custom_in_name(const void *params, int i, char *buf, size_t size) {
  snprintf(buf, size, "%s", custom_of(params)->names[i]);
}
static void custom_out_name(const void *params, int i, char *buf, size_t size) {
  snprintf(buf, size, "%s", custom_of(params)->names[custom_count_in(params) + i]);
}

static mx_status custom_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return host->infer_shape(params, in, out, err);
}
static mx_status custom_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return host->infer_dtype(params, in, out, err);
}
static mx_status custom_kernel(const mx_call *c, mx_error *err) { return host->forward(c->params, c, err); }

/* ---- gradient ---- */

static int backward_heads(const mx_custom *c) { return c->is_loss ? 0 : c->n_out; }
static int backward_count_in(const void *params) {
  const mx_custom *c = custom_of(params);
  return backward_heads(c) + count_names(c);
}
static int backward_count_out(const void *params) { return custom_of(params)->n_args; }
static void backward_in_name(const void *params, int i, char *buf, size_t size) {
  const mx_custom *c = custom_of(params);
  int heads = backward_heads(c);
  if (i < heads)
    snprintf(buf, size, "%s_grad", c->names[c->n_args + c->n_aux + i]);
  else
    snprintf(buf, size, "%s", c->names[i - heads]);
}

static mx_status backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++)
    MX_TRY(mx_shape_merge(&out[i], &in[backward_heads(custom_of(params)) + i], "gradient", err));
  return MX_OK;
}
static mx_status backward_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++) out[i] = in[backward_heads(custom_of(params)) + i];
  return MX_OK;
}
static mx_status backward_kernel(const mx_call *c, mx_error *err) { return host->backward(c->params, c, err); }

static mx_status custom_gradient(mx_grad *g, mx_error *err) {
  const mx_custom *c = custom_of(g->params);
  if (!c->has_gradient) return MX_OK;
  int n = 0, room = backward_count_in(g->params);
  mx_entry grad, *in = mx_malloc((size_t)room * sizeof(*in));
  if (!in) return mx_fail_memory(err, (size_t)room * sizeof(*in));
  mx_status st = MX_OK;
  for (int i = 0; st == MX_OK && i < backward_heads(c); i++) st = mx_grad_head(g, i, &in[n++], err);
  for (int i = 0; i < g->n_in; i++) in[n++] = g->in[i];
  for (int i = 0; i < g->n_out; i++) in[n++] = g->out[i];
  if (st == MX_OK) st = mx_grad_backward(g, "_backward_Custom", in, n, &grad, err);
  for (int i = 0; st == MX_OK && i < c->n_args; i++) g->in_grad[i] = (mx_entry){grad.node, i, 0};
  mx_free(in);
  return st;
}

const mx_op mx_ops_custom[] = {{.name = "Custom",
                                .family = "Neural-network layers",
                                .doc = "An operator written in R and registered with mx.operator.register.",
                                .in_doc = MX_STRINGS("Inputs of the registered operator."),
                                .params = custom_table,
                                .params_size = sizeof(mx_custom_params),
                                .check = custom_check,
                                .release_params = custom_release,
                                .n_in = 1,
                                .n_out = 1,
                                .count_in = custom_count_in,
                                .count_out = custom_count_out,
                                .in_name = custom_in_name,
                                .out_name = custom_out_name,
                                .is_aux = custom_is_aux,
                                .infer_shape = custom_shape,
                                .infer_dtype = custom_dtype,
                                .gradient = custom_gradient,
                                .flags = MX_OP_PORTABLE,
                                .kernel = custom_kernel},
                               {.name = "_backward_Custom",
                                .family = "Neural-network layers",
                                .params = custom_table,
                                .params_size = sizeof(mx_custom_params),
                                .check = custom_check,
                                .release_params = custom_release,
                                .n_in = 1,
                                .n_out = 1,
                                .count_in = backward_count_in,
                                .count_out = backward_count_out,
                                .in_name = backward_in_name,
                                .infer_shape = backward_shape,
                                .infer_dtype = backward_dtype,
                                .flags = MX_OP_HIDDEN | MX_OP_PORTABLE,
                                .kernel = backward_kernel},
                               {0}};
