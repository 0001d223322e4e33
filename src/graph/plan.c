/* Memory planning and execution.
 *
 * Every entry of the graph gets a buffer. Buffers are shared where the records allow it: a view has its input's buffer,
 * an output may take over that of an input which dies at that step, and the terms of a sum whose operators can add are
 * added straight into the sum's buffer. What is left gets offsets in one arena, largest first, each at the lowest place
 * that is free during its life (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
 *
 * Invariants: buffers that are alive at the same step do not overlap; a buffer of an array of the caller is never
 * overwritten by anything but the output that belongs there. */
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/thread.h"
#include "graph/executor.h"
#include "ops/explain.h"

typedef struct buffer {
  int64_t bytes;
  int first, last; /* steps; last is NEVER for what outlives the plan's run */
  mx_array *fixed; /* an array of the caller; NULL: in the arena */
  int head;        /* node position of a head gradient, -1 otherwise */
  bool variable;   /* an input of the graph: read only */
  int64_t offset;
} buffer;

typedef struct step {
  const mx_node *node;
  mx_kernel kernel;
  mx_call call;
  int *buffer;   /* of inputs, then outputs; -1: not computed */
  int workspace; /* buffer of the workspace; -1: none */
  bool skip;     /* a view in the place of its input, or a sum whose terms added themselves */
} step;

struct mx_plan {
  const mx_graph *g;
  int n_steps, n_forward;
  step *steps;
  void *pool; /* one block for the tensors, requests and buffer numbers of all steps */
  int n_buffers, capacity;
  buffer *buffers;
  int64_t arena_bytes, workspace_bytes;
};

enum { NEVER = 1 << 30 };

/* What planning knows of an entry. */
typedef struct use {
  int last;   /* step of the last use; -1: unused */
  int n;      /* number of uses */
  int output; /* the graph output that it is; -1: none */
  int sum;    /* position of the sum node that it adds itself to; -1: none */
  int buffer;
} use;

typedef struct planner {
  mx_plan *p;
  const mx_graph *g;
  mx_array *const *variable;
  mx_array *const *output;
  use *use;        /* per entry */
  int *step_of;    /* per node; -1 for variables */
  int *sum_buffer; /* per node: the buffer of a sum that has begun, or -1 */
} planner;

static int entry_of(const mx_graph *g, const mx_node *n, int i) { return mx_graph_entry(g, n->in[i]); }
static int64_t bytes_of(const mx_graph *g, int e) {
  return mx_shape_size(&g->shape[e]) * (int64_t)mx_dtype_size(g->dtype[e]);
}

static mx_status buffer_new(mx_plan *p, buffer b, int *out, mx_error *err) {
  if (p->n_buffers == p->capacity) {
    int capacity = p->capacity ? 2 * p->capacity : 64;
    buffer *more = mx_realloc(p->buffers, (size_t)capacity * sizeof(*more));
    if (!more) return mx_fail_memory(err, (size_t)capacity * sizeof(*more));
    p->buffers = more;
    p->capacity = capacity;
  }
  p->buffers[p->n_buffers] = b;
  *out = p->n_buffers++;
  return MX_OK;
}

/* ---- uses ---- */

static bool is_sum(const mx_node *n) { return !strcmp(n->op->name, "add_n") || !strcmp(n->op->name, "_grad_add"); }

static void count_uses(planner *s) {
  const mx_graph *g = s->g;
  for (int e = 0; e < g->first[g->n_nodes]; e++) s->use[e] = (use){.last = -1, .output = -1, .sum = -1, .buffer = -1};
  for (int i = 0; i < g->n_nodes; i++)
    for (int k = 0; k < g->nodes[i]->n_in; k++) {
      use *u = &s->use[entry_of(g, g->nodes[i], k)];
      u->n++;
      u->last = s->step_of[i];
    }
  for (int i = 0; i < g->n_outputs; i++) {
    use *u = &s->use[mx_graph_entry(g, g->outputs[i])];
    u->output = i;
    u->last = NEVER;
  }
}

/* A term can add itself to a sum when its operator knows how, nobody else reads it, and it is one of a kind. */
static bool term_adds(const planner *s, const mx_node *sum, int k, int sum_position, bool alone) {
  const mx_node *n = sum->in[k].node;
  const use *u = &s->use[entry_of(s->g, sum, k)];
  int i = mx_node_map_get(s->g->map, n);
  bool same_stage = (i < s->g->n_forward) == (sum_position < s->g->n_forward);
  uint32_t adds = MX_OP_ADDS | (alone ? MX_OP_ADDS_ALONE : 0);
  return n->op && (n->op->flags & adds) && !(n->op->flags & MX_OP_VIEW) && u->n == 1 && u->output < 0 && u->sum < 0 &&
         same_stage && !is_sum(n);
}

/* Finds the sums whose terms can all add themselves. The first input of _grad_add may be the array that is added to. */
static void find_sums(planner *s) {
  const mx_graph *g = s->g;
  for (int i = 0; i < g->n_nodes; i++) {
    const mx_node *n = g->nodes[i];
    if (!n->op || !is_sum(n)) continue;
    bool target = !n->in[0].node->op && s->use[g->first[i]].output >= 0 &&
                  s->variable[mx_node_map_get(g->map, n->in[0].node)] == s->output[s->use[g->first[i]].output];
    bool all = n->n_in > 0;
    for (int k = target; all && k < n->n_in; k++) all = term_adds(s, n, k, i, target && n->n_in == 2);
    for (int k = target; all && k < n->n_in; k++) s->use[entry_of(g, n, k)].sum = i;
  }
}

/* ---- sharing ---- */

static bool allowed_alias(const step *t, int out, int in) {
  const mx_op *op = t->node->op;
  if ((op->flags & MX_OP_VIEW) && out == 0 && in == 0) return true;
  if (op->in_place && out == 0 && in == 0 && op->in_place(&t->call)) return true;
  for (const mx_alias *a = op->aliases_mem; a && a->out >= 0; a++)
    if (a->out == out && a->in == in) return true;
  return false;
}

/* Whether output `out` of the step may be written over the buffer of input `in`. */
static bool may_overwrite(const planner *s, const step *t, int out, int in, int64_t bytes) {
  const mx_node *n = t->node;
  int b = t->buffer[in];
  const buffer *x = &s->p->buffers[b];
  if (!allowed_alias(t, out, in) || x->variable || x->fixed || x->head >= 0) return false;
  if (x->bytes != bytes || x->last != (int)(t - s->p->steps)) return false;
  for (int k = 0; k < n->n_in; k++) /* other inputs in the same place must be allowed too */
    if (t->buffer[k] == b && !allowed_alias(t, out, k)) return false;
  for (int k = 0; k < out; k++)
    if (t->buffer[n->n_in + k] == b) return false;
  return true;
}

static void extend(buffer *b, int last) {
  if (last > b->last) b->last = last;
}

/* The buffer of a term of a sum, or of the sum: one for all of them. *adds tells that it has content already. */
static mx_status sum_buffer(planner *s, int sum, int now, int *out, bool *adds, mx_error *err) {
  const mx_graph *g = s->g;
  const use *u = &s->use[g->first[sum]];
  *adds = s->sum_buffer[sum] >= 0;
  if (!*adds) {
    const mx_node *n = g->nodes[sum];
    mx_array *fixed = u->output >= 0 ? s->output[u->output] : NULL;
    int first = mx_node_map_get(g->map, n->in[0].node);
    *adds = !n->in[0].node->op && s->variable[first] == fixed && fixed; /* _grad_add into its own input */
    buffer b = {.bytes = bytes_of(g, g->first[sum]), .first = now, .last = u->last, .fixed = fixed, .head = -1};
    if (b.last < s->step_of[sum]) b.last = s->step_of[sum];
    MX_TRY(buffer_new(s->p, b, &s->sum_buffer[sum], err));
  }
  *out = s->sum_buffer[sum];
  return MX_OK;
}

/* Whether an array is also read, as a variable: a gradient that is added to. Nothing else may be made in it. */
static bool is_read(const planner *s, const mx_array *fixed) {
  for (int i = 0; fixed && i < s->g->n_nodes; i++)
    if (!s->g->nodes[i]->op && s->variable[i] == fixed) return true;
  return false;
}

/* A gradient array changes in backward only: what forward computed cannot be made in it. */
static bool from_forward(const planner *s, const buffer *b, int node) {
  return node >= s->g->n_forward && b->first < s->p->n_forward;
}

static mx_status place_output(planner *s, step *t, int node, int out, mx_req *req, mx_error *err) {
  const mx_graph *g = s->g;
  const mx_node *n = t->node;
  int e = g->first[node] + out, now = (int)(t - s->p->steps), *slot = &t->buffer[n->n_in + out];
  use *u = &s->use[e];
  int64_t bytes = bytes_of(g, e);
  *req = MX_WRITE;
  *slot = -1;
  if (u->last < 0) { /* nobody looks */
    *req = MX_NULL;
    return MX_OK;
  }
  if (u->sum >= 0) {
    bool adds;
    MX_TRY(sum_buffer(s, u->sum, now, slot, &adds, err));
    if (adds) *req = MX_ADD;
    u->buffer = *slot;
    return MX_OK;
  }
  mx_array *fixed = u->output >= 0 ? s->output[u->output] : NULL;
  bool view = (n->op->flags & MX_OP_VIEW) && out == 0;
  if (view && !fixed) {
    *slot = t->buffer[0];
  } else {
    for (int k = 0; k < n->n_in && *slot < 0 && !is_read(s, fixed); k++)
      if (may_overwrite(s, t, out, k, bytes) && !(fixed && from_forward(s, &s->p->buffers[t->buffer[k]], node)))
        *slot = t->buffer[k];
    if (*slot >= 0 && fixed) s->p->buffers[*slot].fixed = fixed; /* the input is made in the output's array */
  }
  if (*slot < 0)
    MX_TRY(buffer_new(s->p, (buffer){.bytes = bytes, .first = now, .last = u->last, .fixed = fixed, .head = -1}, slot,
                      err));
  extend(&s->p->buffers[*slot], u->last);
  u->buffer = *slot;
  return MX_OK;
}

static mx_status place_variables(planner *s, mx_error *err) {
  const mx_graph *g = s->g;
  for (int i = 0; i < g->n_nodes; i++) {
    if (g->nodes[i]->op) continue;
    buffer b = {.first = 0, .last = NEVER, .fixed = s->variable[i], .head = s->variable[i] ? -1 : i, .variable = true};
    MX_TRY(buffer_new(s->p, b, &s->use[g->first[i]].buffer, err));
  }
  return MX_OK;
}

static mx_status place_step(planner *s, step *t, int node, mx_req *req, mx_error *err) {
  const mx_graph *g = s->g;
  const mx_node *n = t->node;
  for (int k = 0; k < n->n_in; k++) t->buffer[k] = s->use[entry_of(g, n, k)].buffer;
  if (s->sum_buffer[node] >= 0) { /* its terms have added themselves */
    t->skip = true;
    t->buffer[n->n_in] = s->use[g->first[node]].buffer = s->sum_buffer[node];
    return MX_OK;
  }
  for (int k = 0; k < t->call.n_out; k++) MX_TRY(place_output(s, t, node, k, &req[k], err));
  t->skip = (n->op->flags & MX_OP_VIEW) && t->buffer[n->n_in] == t->buffer[0];
  t->call.in_place = n->op->in_place && t->buffer[n->n_in] == t->buffer[0];
  return MX_OK;
}

/* ---- steps ---- */

static mx_status make_steps(planner *s, mx_device *device, bool is_train, mx_error *err) {
  mx_plan *p = s->p;
  const mx_graph *g = s->g;
  size_t n = 0, tensors = 0;
  for (int i = 0; i < g->n_nodes; i++) {
    s->step_of[i] = -1;
    if (!g->nodes[i]->op) continue;
    s->step_of[i] = (int)n++;
    tensors += (size_t)(g->nodes[i]->n_in + g->first[i + 1] - g->first[i]);
    if (i < g->n_forward) p->n_forward = (int)n;
  }
  p->steps = mx_calloc(n, sizeof(step));
  p->pool = mx_malloc(tensors * (sizeof(mx_tensor) + sizeof(int) + sizeof(mx_req)));
  if (!p->steps || !p->pool) return mx_fail_memory(err, tensors * sizeof(mx_tensor));
  mx_tensor *tensor = p->pool;
  int *number = (int *)(tensor + tensors);
  mx_req *req = (mx_req *)(number + tensors);
  for (int i = 0; i < g->n_nodes; i++) {
    mx_node *node = g->nodes[i];
    if (!node->op) continue;
    int n_out = g->first[i + 1] - g->first[i];
    step *t = &p->steps[p->n_steps++];
    *t = (step){.node = node, .kernel = mx_op_kernel(node->op, device->kind), .buffer = number, .workspace = -1};
    if (!t->kernel) {
      mx_fail(err, MX_ERR_DEVICE, "In node '%s': %s cannot run on %s(%d): it has no kernel there.", node->name,
              node->op->name, mx_device_kind_name(device->kind), device->id);
      mx_error_set(err, node, "%s", node->name);
      return MX_ERR_DEVICE;
    }
    t->call = (mx_call){.op = node->op,
                        .params = node->params,
                        .device = device,
                        .n_in = node->n_in,
                        .n_out = n_out,
                        .in = tensor,
                        .out = tensor + node->n_in,
                        .req = req,
                        .is_train = is_train};
    for (int k = 0; k < node->n_in + n_out; k++) {
      int e = k < node->n_in ? entry_of(g, node, k) : g->first[i] + k - node->n_in;
      tensor[k] = (mx_tensor){.shape = g->shape[e], .dtype = g->dtype[e], .layout = g->layout[e]};
    }
    tensor += node->n_in + n_out, number += node->n_in + n_out, req += n_out;
  }
  return MX_OK;
}

static mx_status fail_in_node(const step *t, mx_status st, mx_error *err) {
  mx_explain_call(&t->call, err);
  mx_error_prefix(err, "In node '%s'", t->node->name);
  mx_error_set(err, node, "%s", t->node->name);
  return st;
}

static mx_status prepare_step(mx_plan *p, step *t, mx_error *err) {
  if (t->skip || !t->node->op->prepare) return MX_OK;
  mx_status st = t->node->op->prepare(&t->call, err);
  if (st != MX_OK) return fail_in_node(t, st, err);
  if (!t->call.workspace_bytes) return MX_OK;
  int now = (int)(t - p->steps);
  int64_t bytes = (int64_t)t->call.workspace_bytes;
  if (bytes > p->workspace_bytes) p->workspace_bytes = bytes;
  return buffer_new(p, (buffer){.bytes = bytes, .first = now, .last = now, .head = -1}, &t->workspace, err);
}

static mx_status plan_steps(planner *s, mx_error *err) {
  const mx_graph *g = s->g;
  count_uses(s);
  find_sums(s);
  MX_TRY(place_variables(s, err));
  for (int i = 0; i < g->n_nodes; i++) {
    if (s->step_of[i] < 0) continue;
    step *t = &s->p->steps[s->step_of[i]];
    MX_TRY(place_step(s, t, i, (mx_req *)t->call.req, err));
    MX_TRY(prepare_step(s->p, t, err));
  }
  return MX_OK;
}

/* ---- offsets ---- */

static const buffer *sort_base;
static int by_size(const void *a, const void *b) {
  const buffer *x = sort_base + *(const int *)a, *y = sort_base + *(const int *)b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x->first != y->first ? x->first - y->first : *(const int *)a - *(const int *)b;
}

static int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* The lowest offset at which b fits between those placed that are alive with it; placed[] is sorted by offset. */
static int64_t find_place(const mx_plan *p, const int *placed, int n, const buffer *b, int *position) {
  int64_t offset = 0;
  for (int i = 0; i < n; i++) {
    const buffer *x = &p->buffers[placed[i]];
    if (x->last < b->first || b->last < x->first) continue;
    if (x->offset >= offset + padded(b->bytes)) break;
    if (x->offset + padded(x->bytes) > offset) offset = x->offset + padded(x->bytes);
  }
  int at = 0;
  while (at < n && p->buffers[placed[at]].offset < offset) at++;
  *position = at;
  return offset;
}

#ifndef NDEBUG
/* The invariant: buffers that are alive together do not overlap. Checked in builds without NDEBUG. */
static bool places_are_sound(const mx_plan *p, const int *placed, int n) {
  for (int i = 0; i < n; i++)
    for (int k = 0; k < i; k++) {
      const buffer *a = &p->buffers[placed[i]], *b = &p->buffers[placed[k]];
      bool together = a->first <= b->last && b->first <= a->last;
      if (together && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes) return false;
    }
  return true;
}
#endif

static mx_status assign_offsets(mx_plan *p, mx_error *err) {
  int *order = mx_malloc((size_t)p->n_buffers * 2 * sizeof(int)), *placed = order + p->n_buffers, n = 0, done = 0;
  if (!order) return mx_fail_memory(err, (size_t)p->n_buffers * 2 * sizeof(int));
  for (int i = 0; i < p->n_buffers; i++)
    if (!p->buffers[i].fixed && p->buffers[i].head < 0 && !p->buffers[i].variable) order[n++] = i;
  sort_base = p->buffers;
  qsort(order, (size_t)n, sizeof(int), by_size);
  for (int i = 0; i < n; i++) {
    buffer *b = &p->buffers[order[i]];
    int at;
    b->offset = find_place(p, placed, done, b, &at);
    memmove(placed + at + 1, placed + at, (size_t)(done - at) * sizeof(int));
    placed[at] = order[i];
    done++;
    if (b->offset + padded(b->bytes) > p->arena_bytes) p->arena_bytes = b->offset + padded(b->bytes);
  }
#ifndef NDEBUG
  bool sound = places_are_sound(p, placed, done);
#else
  bool sound = true;
#endif
  mx_free(order);
  return sound ? MX_OK : mx_fail(err, MX_ERR_INTERNAL, "Internal error: arrays of a plan overlap.");
}

mx_status mx_plan_new(const mx_graph *g, mx_device *device, bool is_train, mx_array *const *variable,
                      mx_array *const *output, mx_plan **out, mx_error *err) {
  size_t n_entries = (size_t)g->first[g->n_nodes], n_nodes = (size_t)g->n_nodes;
  mx_plan *p = mx_calloc(1, sizeof(*p));
  planner s = {.p = p,
               .g = g,
               .variable = variable,
               .output = output,
               .use = mx_malloc(n_entries * sizeof(use)),
               .step_of = mx_malloc(n_nodes * sizeof(int)),
               .sum_buffer = mx_malloc(n_nodes * sizeof(int))};
  mx_status st = MX_OK;
  if (!p || !s.use || !s.step_of || !s.sum_buffer) {
    st = mx_fail_memory(err, n_entries * sizeof(use));
  } else {
    p->g = g;
    for (size_t i = 0; i < n_nodes; i++) s.sum_buffer[i] = -1;
    st = make_steps(&s, device, is_train, err);
    if (st == MX_OK) st = plan_steps(&s, err);
    if (st == MX_OK) st = assign_offsets(p, err);
  }
  mx_free(s.use);
  mx_free(s.step_of);
  mx_free(s.sum_buffer);
  if (st != MX_OK) {
    mx_plan_free(p);
    return st;
  }
  *out = p;
  return MX_OK;
}

void mx_plan_free(mx_plan *p) {
  if (!p) return;
  for (int i = 0; i < p->n_steps; i++) {
    step *t = &p->steps[i];
    if (t->node->op->release && t->call.state) t->node->op->release(t->call.state);
  }
  mx_free(p->steps);
  mx_free(p->pool);
  mx_free(p->buffers);
  mx_free(p);
}

int64_t mx_plan_arena_bytes(const mx_plan *p) { return p->arena_bytes; }
int64_t mx_plan_workspace_bytes(const mx_plan *p) { return p->workspace_bytes; }

void mx_plan_place(mx_plan *p, void *arena) {
  for (int i = 0; i < p->n_steps; i++) {
    step *t = &p->steps[i];
    for (int k = 0; k < t->call.n_in + t->call.n_out; k++) {
      const buffer *b = t->buffer[k] < 0 ? NULL : &p->buffers[t->buffer[k]];
      t->call.in[k].data = !b || b->head >= 0 ? NULL : b->fixed ? mx_array_data(b->fixed) : (char *)arena + b->offset;
    }
    if (t->workspace >= 0) t->call.workspace = (char *)arena + p->buffers[t->workspace].offset;
  }
}

void mx_plan_set_head(mx_plan *p, const mx_node *node, const mx_array *array) {
  int position = mx_node_map_get(p->g->map, node);
  for (int i = p->n_forward; i < p->n_steps; i++) {
    step *t = &p->steps[i];
    for (int k = 0; k < t->call.n_in + t->call.n_out; k++)
      if (t->buffer[k] >= 0 && p->buffers[t->buffer[k]].head == position) t->call.in[k].data = mx_array_data(array);
  }
}

/* ---- running ---- */

static mx_step_observer observer;
static void *observer_data;
void mx_executor_observe(mx_step_observer f, void *data) {
  observer = f;
  observer_data = data;
}

static mx_status run_observed(step *t, bool backward, mx_error *err) {
  double start = mx_seconds();
  mx_status st = t->kernel(&t->call, err);
  if (st == MX_OK) st = t->call.device->ops->synchronize(t->call.device, err);
  if (st == MX_OK) observer(observer_data, t->node, backward, start, mx_seconds() - start);
  return st;
}

mx_status mx_plan_run(mx_plan *p, bool backward, mx_error *err) {
  int end = backward ? p->n_steps : p->n_forward;
  for (int i = backward ? p->n_forward : 0; i < end; i++) {
    step *t = &p->steps[i];
    if (t->skip) continue;
    if (mx_interrupted()) return mx_fail(err, MX_ERR_INTERRUPTED, "Interrupted.");
    mx_status st = observer ? run_observed(t, backward, err) : t->kernel(&t->call, err);
    if (st != MX_OK) return fail_in_node(t, st, err);
  }
  return MX_OK;
}
