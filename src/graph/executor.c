/* Executors: bind infers, makes graphs and plans when they are first needed, and runs them in one arena. */
#include "graph/executor.h"

#include <string.h>

#include "core/memory.h"
#include "graph/plan.h"

typedef struct stage { /* inference or training */
  mx_graph *graph;
  mx_plan *plan;
} stage;

struct mx_executor {
  int refs;
  mx_symbol *symbol;
  mx_device *device;
  mx_graph *forward; /* inferred; variables of the symbol */
  int n_args, n_aux, n_outputs;
  mx_node **arg, **aux; /* borrowed from forward */
  mx_array **arg_array, **grad_array, **aux_array, **output;
  mx_req *req;
  mx_node **head;        /* per output: its head gradient variable in the training graph; NULL when not used */
  mx_node **accumulator; /* per argument: the variable of a gradient that is added to */
  stage inference, training;
  void *arena;
  size_t arena_bytes;
  bool ran_training; /* forward with is_train came last: backward may follow */
  bool busy;         /* within a call: an operator written by the user may come here again */
};

/* ---- variables of a symbol ---- */

/* Which variables are auxiliary states: those that some operator has in such a place. */
static mx_status find_variables(mx_executor *e, mx_error *err) {
  const mx_graph *g = e->forward;
  bool *is_aux = mx_calloc((size_t)g->n_nodes, sizeof(bool));
  e->arg = mx_malloc((size_t)g->n_nodes * sizeof(mx_node *));
  e->aux = mx_malloc((size_t)g->n_nodes * sizeof(mx_node *));
  if (!is_aux || !e->arg || !e->aux) {
    mx_free(is_aux);
    return mx_fail_memory(err, (size_t)g->n_nodes * sizeof(mx_node *));
  }
  for (int i = 0; i < g->n_nodes; i++) {
    const mx_node *n = g->nodes[i];
    for (int k = 0; n->op && k < n->n_in; k++)
      if (!n->in[k].node->op && mx_op_is_aux(n->op, n->params, k))
        is_aux[mx_node_map_get(g->map, n->in[k].node)] = true;
  }
  for (int i = 0; i < g->n_nodes; i++) {
    if (g->nodes[i]->op) continue;
    if (is_aux[i])
      e->aux[e->n_aux++] = g->nodes[i];
    else
      e->arg[e->n_args++] = g->nodes[i];
  }
  mx_free(is_aux);
  return MX_OK;
}

/* ---- binding ---- */

static mx_status take_arrays(mx_array *const *given, int n, mx_node **node, const char *what, mx_device *device,
                             bool may_be_null, mx_array ***out, mx_error *err) {
  *out = mx_calloc((size_t)n, sizeof(mx_array *));
  if (!*out) return mx_fail_memory(err, (size_t)n * sizeof(mx_array *));
  for (int i = 0; i < n; i++) {
    if (!given || !given[i]) {
      if (may_be_null) continue;
      mx_fail(err, MX_ERR_VALUE, "The %s '%s' has no array.", what, node[i]->name);
      mx_error_set(err, argument, "%s", node[i]->name);
      return MX_ERR_VALUE;
    }
    mx_device *d = mx_array_device(given[i]);
    if (d != device && (d->kind != MX_CPU || device->kind != MX_CPU)) {
      mx_fail(err, MX_ERR_DEVICE, "The array of %s '%s' is on %s(%d), but the executor is bound to %s(%d).", what,
              node[i]->name, mx_device_kind_name(d->kind), d->id, mx_device_kind_name(device->kind), device->id);
      mx_error_set(err, argument, "%s", node[i]->name);
      return MX_ERR_DEVICE;
    }
    (*out)[i] = mx_array_retain(given[i]);
  }
  return MX_OK;
}

static void know(mx_graph *g, const mx_node *n, const mx_array *a) {
  int e = g->first[mx_node_map_get(g->map, n)];
  g->shape[e] = a->shape;
  g->dtype[e] = a->dtype;
}

static mx_status infer_forward(mx_executor *e, mx_error *err) {
  mx_graph *g = e->forward;
  for (int i = 0; i < e->n_args; i++) know(g, e->arg[i], e->arg_array[i]);
  for (int i = 0; i < e->n_aux; i++) know(g, e->aux[i], e->aux_array[i]);
  bool complete;
  MX_TRY(mx_graph_infer(g, true, &complete, err));
  for (int i = 0; !complete && i < g->first[g->n_nodes]; i++)
    if (!mx_shape_known(&g->shape[i])) {
      int n = 0;
      while (g->first[n + 1] <= i) n++;
      mx_fail(err, MX_ERR_SHAPE, "The shape of an output of node '%s' does not follow from the arguments.",
              g->nodes[n]->name);
      mx_error_set(err, node, "%s", g->nodes[n]->name);
      if (g->nodes[n]->op) mx_error_set(err, op, "%s", g->nodes[n]->op->name);
      return MX_ERR_SHAPE;
    }
  for (int i = 0; i < e->n_args; i++) {
    mx_array *grad = e->grad_array[i];
    if (!grad || (mx_shape_equal(&grad->shape, &e->arg_array[i]->shape) && grad->dtype == e->arg_array[i]->dtype))
      continue;
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "The gradient array of '%s' is %s %s, but the argument is %s %s.", e->arg[i]->name,
            mx_dtype_name(grad->dtype), mx_shape_text(&grad->shape, a), mx_dtype_name(e->arg_array[i]->dtype),
            mx_shape_text(&e->arg_array[i]->shape, b));
    mx_error_set(err, argument, "%s", e->arg[i]->name);
    return MX_ERR_SHAPE;
  }
  return MX_OK;
}

static mx_status make_outputs(mx_executor *e, mx_error *err) {
  const mx_graph *g = e->forward;
  bool bare = e->n_args > 0 && !e->arg_array[0]->storage->data;
  e->output = mx_calloc((size_t)e->n_outputs, sizeof(mx_array *));
  e->head = mx_calloc((size_t)e->n_outputs, sizeof(mx_node *));
  if (!e->output || !e->head) return mx_fail_memory(err, (size_t)e->n_outputs * sizeof(mx_array *));
  for (int i = 0; i < e->n_outputs; i++) {
    int k = mx_graph_entry(g, g->outputs[i]);
    MX_TRY((bare ? mx_array_bare : mx_array_zeros)(e->device, &g->shape[k], g->dtype[k], &e->output[i], err));
  }
  return MX_OK;
}

static mx_status bind(mx_executor *e, mx_array *const *args, mx_array *const *grads, const mx_req *reqs,
                      mx_array *const *aux, mx_error *err) {
  MX_TRY(mx_graph_new(e->symbol->out, e->symbol->n, &e->forward, err));
  e->n_outputs = e->symbol->n;
  MX_TRY(find_variables(e, err));
  MX_TRY(take_arrays(args, e->n_args, e->arg, "argument", e->device, false, &e->arg_array, err));
  MX_TRY(take_arrays(aux, e->n_aux, e->aux, "auxiliary state", e->device, false, &e->aux_array, err));
  MX_TRY(take_arrays(grads, e->n_args, e->arg, "gradient of", e->device, true, &e->grad_array, err));
  e->req = mx_calloc((size_t)e->n_args, sizeof(mx_req));
  e->accumulator = mx_calloc((size_t)e->n_args, sizeof(mx_node *));
  if (!e->req || !e->accumulator) return mx_fail_memory(err, (size_t)e->n_args * sizeof(mx_req));
  for (int i = 0; i < e->n_args; i++) {
    e->req[i] = reqs ? reqs[i] : MX_NULL;
    if (e->req[i] != MX_NULL && !e->grad_array[i]) {
      mx_fail(err, MX_ERR_VALUE, "The gradient of '%s' is requested, but it has no array.", e->arg[i]->name);
      mx_error_set(err, argument, "%s", e->arg[i]->name);
      return MX_ERR_VALUE;
    }
  }
  MX_TRY(infer_forward(e, err));
  return make_outputs(e, err);
}

mx_status mx_executor_bind(const mx_symbol *s, mx_device *device, mx_array *const *args, mx_array *const *grads,
                           const mx_req *reqs, mx_array *const *aux, mx_executor **out, mx_error *err) {
  if (s->n == 0) return mx_fail(err, MX_ERR_VALUE, "An empty symbol cannot be bound: it has no outputs.");
  mx_executor *e = mx_calloc(1, sizeof(*e));
  if (!e) return mx_fail_memory(err, sizeof(*e));
  e->refs = 1;
  e->device = device;
  e->symbol = mx_symbol_retain((mx_symbol *)s);
  mx_status st = bind(e, args, grads, reqs, aux, err);
  if (st != MX_OK) {
    mx_executor_release(e);
    return st;
  }
  *out = e;
  return MX_OK;
}

mx_executor *mx_executor_retain(mx_executor *e) {
  e->refs++;
  return e;
}

static void release_arrays(mx_array **a, int n) {
  for (int i = 0; a && i < n; i++) mx_array_release(a[i]);
  mx_free(a);
}

static void stage_free(stage *s) {
  mx_plan_free(s->plan);
  mx_graph_free(s->graph);
}

void mx_executor_release(mx_executor *e) {
  if (!e || --e->refs) return;
  stage_free(&e->inference);
  stage_free(&e->training);
  mx_pool_free(e->device, e->arena, e->arena_bytes);
  for (int i = 0; e->accumulator && i < e->n_args; i++) mx_node_release(e->accumulator[i]);
  mx_free(e->accumulator);
  release_arrays(e->arg_array, e->n_args);
  release_arrays(e->grad_array, e->n_args);
  release_arrays(e->aux_array, e->n_aux);
  release_arrays(e->output, e->n_outputs);
  mx_free(e->arg);
  mx_free(e->aux);
  mx_free(e->req);
  mx_free(e->head);
  mx_graph_free(e->forward);
  mx_symbol_release(e->symbol);
  mx_free(e);
}

/* ---- plans ---- */

/* Replaces *g by the result of a pass. */
typedef mx_status (*pass)(const mx_graph *g, mx_graph **out, mx_error *err);
static mx_status apply(pass f, const char *name, mx_graph **g, mx_error *err) {
  if (!mx_pass_enabled(name)) return MX_OK;
  mx_graph *next;
  MX_TRY(f(*g, &next, err));
  mx_graph_free(*g);
  *g = next;
  return MX_OK;
}

/* The arrays of the graph's variables, by node. */
static void find_arrays(const mx_executor *e, const mx_graph *g, mx_array **of) {
  for (int i = 0; i < e->n_args; i++) {
    int k = mx_node_map_get(g->map, e->arg[i]);
    if (k >= 0) of[k] = e->arg_array[i];
    k = e->accumulator[i] ? mx_node_map_get(g->map, e->accumulator[i]) : -1;
    if (k >= 0) of[k] = e->grad_array[i];
  }
  for (int i = 0; i < e->n_aux; i++) {
    int k = mx_node_map_get(g->map, e->aux[i]);
    if (k >= 0) of[k] = e->aux_array[i];
  }
}

static mx_status make_plan(mx_executor *e, stage *s, bool is_train, mx_error *err) {
  const mx_graph *g = s->graph;
  mx_array **variable = mx_calloc((size_t)g->n_nodes, sizeof(*variable));
  mx_array **output = mx_calloc((size_t)g->n_outputs, sizeof(*output));
  mx_status st = variable && output ? MX_OK : mx_fail_memory(err, (size_t)g->n_nodes * sizeof(*variable));
  if (st == MX_OK) {
    find_arrays(e, g, variable);
    int n = e->n_outputs;
    memcpy(output, e->output, (size_t)n * sizeof(*output));
    for (int i = 0; g->n_outputs > e->n_outputs && i < e->n_args; i++)
      if (e->req[i] != MX_NULL) output[n++] = e->grad_array[i];
    st = mx_plan_new(g, e->device, is_train, variable, output, &s->plan, err);
  }
  mx_free(variable);
  mx_free(output);
  return st;
}

/* The forward graph, simplified; NULL when that pass is off. */
static mx_status simplify_forward(const mx_executor *e, mx_graph **g, mx_error *err) {
  *g = NULL;
  return mx_pass_enabled("simplify") ? mx_graph_simplify(e->forward, g, err) : MX_OK;
}

static mx_status make_inference(mx_executor *e, mx_error *err) {
  stage *s = &e->inference;
  mx_graph *g;
  MX_TRY(simplify_forward(e, &g, err));
  mx_status st = mx_graph_own_outputs(g ? g : e->forward, NULL, &s->graph, err);
  mx_graph_free(g);
  return st == MX_OK ? make_plan(e, s, false, err) : st;
}

/* The requested arguments, and for each output of the joint graph the variable that it is added to. */
static mx_status list_requests(mx_executor *e, mx_node **wrt, int *n_wrt, mx_node **add_to, mx_error *err) {
  for (int i = 0; i < e->n_args; i++) {
    if (e->req[i] == MX_NULL) continue;
    if (e->req[i] == MX_ADD) {
      if (!e->accumulator[i]) MX_TRY(mx_node_new(NULL, e->arg[i]->name, NULL, NULL, 0, &e->accumulator[i], err));
      add_to[e->n_outputs + *n_wrt] = e->accumulator[i];
    }
    wrt[(*n_wrt)++] = e->arg[i];
  }
  return MX_OK;
}

static mx_status make_training(mx_executor *e, mx_error *err) {
  stage *s = &e->training;
  mx_node **wrt = mx_calloc((size_t)e->n_args, sizeof(*wrt));
  mx_node **add_to = mx_calloc((size_t)(e->n_outputs + e->n_args), sizeof(*add_to));
  mx_graph *g = NULL;
  int n_wrt = 0;
  mx_status st = wrt && add_to ? MX_OK : mx_fail_memory(err, (size_t)e->n_args * sizeof(*wrt));
  if (st == MX_OK) st = list_requests(e, wrt, &n_wrt, add_to, err);
  if (st == MX_OK && n_wrt) st = mx_graph_gradient(e->forward, wrt, n_wrt, e->head, &g, err);
  if (st == MX_OK) st = g ? apply(mx_graph_simplify, "simplify", &g, err) : simplify_forward(e, &g, err);
  if (st == MX_OK) st = mx_graph_own_outputs(g ? g : e->forward, add_to, &s->graph, err);
  mx_graph_free(g);
  mx_free(wrt);
  mx_free(add_to);
  if (st == MX_OK) st = make_plan(e, s, true, err);
  return st;
}

static void free_arena(mx_executor *e) {
  mx_pool_free(e->device, e->arena, e->arena_bytes);
  e->arena = NULL;
  e->arena_bytes = 0;
  e->ran_training = false;
}

void mx_executor_rest(mx_executor *e) {
  if (!e->busy) free_arena(e);
}

/* One arena for both plans: they never run at the same time, and what training keeps for backward is given up when
 * inference runs. */
static mx_status ensure_arena(mx_executor *e, mx_error *err) {
  size_t need = 0;
  stage *const stages[2] = {&e->inference, &e->training};
  for (int i = 0; i < 2; i++)
    if (stages[i]->plan && (size_t)mx_plan_arena_bytes(stages[i]->plan) > need)
      need = (size_t)mx_plan_arena_bytes(stages[i]->plan);
  if (need > e->arena_bytes || !e->arena) {
    free_arena(e);
    MX_TRY(mx_pool_alloc(e->device, need, &e->arena, err));
    e->arena_bytes = need;
  }
  for (int i = 0; i < 2; i++)
    if (stages[i]->plan) mx_plan_place(stages[i]->plan, e->arena);
  return MX_OK;
}

static mx_status ensure_plan(mx_executor *e, bool is_train, mx_error *err) {
  stage *s = is_train ? &e->training : &e->inference;
  if (s->plan) return MX_OK;
  mx_status st = is_train ? make_training(e, err) : make_inference(e, err);
  if (st != MX_OK) {
    stage_free(s);
    *s = (stage){0};
  }
  return st;
}

/* ---- running ---- */

static mx_status begin(mx_executor *e, mx_error *err) {
  if (e->busy)
    return mx_fail(err, MX_ERR_STATE, "This executor is at work: a function that it calls cannot run it again.");
  e->busy = true;
  return MX_OK;
}

static mx_status end(mx_executor *e, mx_status st) {
  e->busy = false;
  return st;
}

static mx_status forward(mx_executor *e, bool is_train, mx_error *err) {
  stage *s = is_train ? &e->training : &e->inference;
  e->ran_training = false;
  if (!s->plan || !e->arena) {
    MX_TRY(ensure_plan(e, is_train, err));
    MX_TRY(ensure_arena(e, err));
  }
  MX_TRY(mx_plan_run(s->plan, false, err));
  e->ran_training = is_train;
  return MX_OK;
}

mx_status mx_executor_forward(mx_executor *e, bool is_train, mx_error *err) {
  MX_TRY(begin(e, err));
  return end(e, forward(e, is_train, err));
}

static mx_status set_heads(mx_executor *e, mx_array *const *head_grads, int n, mx_error *err) {
  for (int i = 0; i < e->n_outputs; i++) {
    mx_array *h = i < n ? head_grads[i] : NULL;
    if (!e->head[i]) continue;
    const mx_array *o = e->output[i];
    if (!h) {
      mx_fail(err, MX_ERR_VALUE,
              "Output %d of the symbol is not a loss: backward needs its head gradient, an array of shape and type of "
              "the output.",
              i + 1);
      mx_error_set(err, argument, "head gradient %d", i + 1);
      return MX_ERR_VALUE;
    }
    if (!mx_shape_equal(&h->shape, &o->shape) || h->dtype != o->dtype) {
      char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
      mx_fail(err, MX_ERR_SHAPE, "Head gradient %d is %s %s, but output %d is %s %s.", i + 1, mx_dtype_name(h->dtype),
              mx_shape_text(&h->shape, a), i + 1, mx_dtype_name(o->dtype), mx_shape_text(&o->shape, b));
      mx_error_set(err, argument, "head gradient %d", i + 1);
      mx_error_set(err, actual, "%s", a);
      mx_error_set(err, expected, "%s", b);
      return MX_ERR_SHAPE;
    }
    mx_plan_set_head(e->training.plan, e->head[i], h);
  }
  return MX_OK;
}

mx_status mx_executor_backward(mx_executor *e, mx_array *const *head_grads, int n, mx_error *err) {
  bool requested = false;
  for (int i = 0; i < e->n_args; i++) requested = requested || e->req[i] != MX_NULL;
  if (!requested) return MX_OK;
  if (n > e->n_outputs)
    return mx_fail(err, MX_ERR_VALUE, "%d head gradients were given, but the symbol has %d output%s.", n, e->n_outputs,
                   e->n_outputs == 1 ? "" : "s");
  if (!e->ran_training)
    return mx_fail(err, MX_ERR_STATE, "backward needs a forward run with is.train = TRUE just before it.");
  MX_TRY(begin(e, err));
  mx_status st = set_heads(e, head_grads, n, err);
  if (st == MX_OK) st = mx_plan_run(e->training.plan, true, err);
  return end(e, st);
}

/* ---- what users see ---- */

int mx_executor_count_outputs(const mx_executor *e) { return e->n_outputs; }
mx_array *mx_executor_output(const mx_executor *e, int i) { return e->output[i]; }
const mx_symbol *mx_executor_symbol(const mx_executor *e) { return e->symbol; }

bool mx_executor_draws(const mx_executor *e) {
  for (int i = 0; i < e->forward->n_nodes; i++) {
    const mx_node *n = e->forward->nodes[i];
    if (n->op && mx_op_draws(n->op, n->params)) return true;
  }
  return false;
}

mx_status mx_executor_memory_use(mx_executor *e, mx_executor_memory *out, mx_error *err) {
  MX_TRY(begin(e, err));
  mx_status st = ensure_plan(e, false, err);
  if (st == MX_OK) st = ensure_plan(e, true, err);
  if (st == MX_OK && e->arena) st = ensure_arena(e, err);
  MX_TRY(end(e, st));
  int64_t outputs = 0, parameters = 0, gradients = 0;
  for (int i = 0; i < e->n_outputs; i++) outputs += (int64_t)mx_array_bytes(e->output[i]);
  for (int i = 0; i < e->n_aux; i++) parameters += (int64_t)mx_array_bytes(e->aux_array[i]);
  for (int i = 0; i < e->n_args; i++) {
    if (!e->grad_array[i]) continue;
    parameters += (int64_t)mx_array_bytes(e->arg_array[i]);
    gradients += (int64_t)mx_array_bytes(e->grad_array[i]);
  }
  int64_t a = mx_plan_workspace_bytes(e->inference.plan), b = mx_plan_workspace_bytes(e->training.plan);
  *out = (mx_executor_memory){.inference_bytes = mx_plan_arena_bytes(e->inference.plan) + outputs,
                              .training_bytes = mx_plan_arena_bytes(e->training.plan) + outputs,
                              .output_bytes = outputs,
                              .workspace_bytes = a > b ? a : b,
                              .parameter_bytes = parameters,
                              .gradient_bytes = gradients};
  return MX_OK;
}
