/* Nodes of symbol graphs: reference counts, topological order, and the map from node to number that passes use.
 *
 * Graphs can be very deep (an unrolled recurrent network is one chain), so nothing here recurses. */
#include "graph/node.h"

#include <string.h>

#include "core/memory.h"

mx_status mx_node_new(const mx_op *op, const char *name, const mx_dict *attrs, const mx_entry *in, int n_in,
                      mx_node **out, mx_error *err) {
  *out = NULL;
  mx_node *n = mx_calloc(1, sizeof(*n));
  if (!n) return mx_fail_memory(err, sizeof(*n));
  n->refs = 1;
  n->op = op;
  mx_status status = MX_OK;
  n->name = mx_strdup(name ? name : "");
  if (!n->name) {
    status = mx_fail_memory(err, strlen(name ? name : "") + 1);
    goto failed;
  }
  if (attrs) MX_TRY_GOTO(status, mx_dict_copy(&n->attrs, attrs, err), failed);
  if (op) {
    status = mx_op_params_new(op, &n->attrs, &n->params, err);
    if (status == MX_OK && (mx_op_count_in(op, n->params) > MX_MAX_ENTRIES || mx_node_count_out(n) > MX_MAX_ENTRIES)) {
      status = mx_fail(err, MX_ERR_VALUE, "Operator %s would have more than %d inputs or outputs.", op->name,
                       MX_MAX_ENTRIES);
      mx_error_set(err, op, "%s", op->name);
    }
    if (status != MX_OK) {
      mx_error_set(err, node, "%s", n->name);
      goto failed;
    }
  }
  if (n_in > 0) {
    n->in = mx_calloc((size_t)n_in, sizeof(*n->in));
    if (!n->in) {
      status = mx_fail_memory(err, (size_t)n_in * sizeof(*n->in));
      goto failed;
    }
    n->n_in = n_in;
    for (int i = 0; in && i < n_in; i++) {
      n->in[i] = in[i];
      mx_node_retain(in[i].node);
    }
  }
  *out = n;
  return MX_OK;
failed:
  mx_node_release(n);
  return status;
}

mx_node *mx_node_retain(mx_node *n) {
  if (n) n->refs++;
  return n;
}

/* Frees the parsed parameters of a node without references; the field then links the nodes that wait to be freed. */
static void push_dead(mx_node *n, mx_node **dead) {
  if (n->op && n->params) mx_op_params_free(n->op, n->params);
  n->params = *dead;
  *dead = n;
}

void mx_node_release(mx_node *n) {
  if (!n || --n->refs > 0) return;
  mx_node *dead = NULL;
  push_dead(n, &dead);
  while (dead) {
    n = dead;
    dead = n->params;
    for (int i = 0; i < n->n_in; i++) {
      mx_node *input = n->in[i].node;
      if (input && --input->refs == 0) push_dead(input, &dead);
    }
    mx_free(n->in);
    mx_free(n->name);
    mx_dict_free(&n->attrs);
    mx_free(n);
  }
}

int mx_node_count_out(const mx_node *n) { return n->op ? mx_op_count_out(n->op, n->params) : 1; }
int mx_node_count_visible(const mx_node *n) { return n->op ? mx_op_count_visible(n->op, n->params) : 1; }

/* ---- topological order ---- */

/* A node on the path from a head, and its next input to look at. */
typedef struct frame {
  mx_node *node;
  int next;
} frame;

/* Makes room for one more element; capacities double. */
static mx_status grow(void **block, int *capacity, int used, size_t element, mx_error *err) {
  if (used < *capacity) return MX_OK;
  int wanted = *capacity ? *capacity * 2 : 64;
  void *bigger = mx_realloc(*block, (size_t)wanted * element);
  if (!bigger) return mx_fail_memory(err, (size_t)wanted * element);
  *block = bigger;
  *capacity = wanted;
  return MX_OK;
}

mx_status mx_nodes_sort(const mx_entry *heads, int n_heads, mx_node ***out, int *n_out, mx_error *err) {
  *out = NULL;
  *n_out = 0;
  mx_status status = MX_OK;
  frame *path = NULL;
  mx_node **order = NULL;
  int depth = 0, path_capacity = 0, count = 0, order_capacity = 0;
  mx_node_map *seen = mx_node_map_new();
  if (!seen) return mx_fail_memory(err, sizeof(mx_node *));
  for (int h = 0; h < n_heads; h++) {
    mx_node *next = heads[h].node;
    while (next || depth > 0) {
      if (next && mx_node_map_get(seen, next) < 0) {
        MX_TRY_GOTO(status, mx_node_map_set(seen, next, 0, err), done);
        MX_TRY_GOTO(status, grow((void **)&path, &path_capacity, depth, sizeof(*path), err), done);
        path[depth++] = (frame){next, 0};
      }
      next = NULL;
      if (depth == 0) break;
      frame *top = &path[depth - 1];
      if (top->next < top->node->n_in) {
        next = top->node->in[top->next++].node;
      } else {
        MX_TRY_GOTO(status, grow((void **)&order, &order_capacity, count, sizeof(*order), err), done);
        order[count++] = top->node;
        depth--;
      }
    }
  }
  *out = order;
  *n_out = count;
  order = NULL;
done:
  mx_free(order);
  mx_free(path);
  mx_node_map_free(seen);
  return status;
}

/* ---- inputs ---- */

mx_status mx_node_input_error(const mx_node *n, const char *input, mx_error *err) {
  mx_error_set(err, op, "%s", n->op->name);
  mx_error_set(err, node, "%s", n->name);
  mx_error_set(err, argument, "%s", input);
  return err->code;
}

mx_status mx_node_check_states(const mx_node *n, mx_error *err) {
  char input[MX_INPUT_NAME];
  for (int i = 0; i < n->n_in; i++)
    if (n->in[i].node->op && mx_op_is_aux(n->op, n->params, i)) {
      mx_op_in_name(n->op, n->params, i, input, sizeof(input));
      mx_fail(err, MX_ERR_VALUE,
              "%s: input %s of node '%.100s' is a state that it writes to; expected a variable, got %s.", n->op->name,
              input, n->name, n->in[i].node->op->name);
      return mx_node_input_error(n, input, err);
    }
  return MX_OK;
}

mx_status mx_node_set_initializer(const mx_op *op, int i, mx_node *variable, mx_error *err) {
  for (int k = 0; op->in_init && op->in_init[k]; k++)
    if (k == i && op->in_init[k][0] && !mx_dict_get(&variable->attrs, "__init__"))
      return mx_dict_set(&variable->attrs, "__init__", op->in_init[k], err);
  return MX_OK;
}

mx_status mx_node_make_input(mx_node *n, int i, mx_error *err) {
  char input[MX_INPUT_NAME];
  mx_op_in_name(n->op, n->params, i, input, sizeof(input));
  size_t length = strlen(n->name), size = length + strlen(input) + 2;
  char *name = mx_malloc(size);
  if (!name) return mx_fail_memory(err, size);
  memcpy(name, n->name, length);
  if (length) name[length++] = '_';
  strcpy(name + length, input);
  mx_node *variable;
  mx_status status = mx_node_new(NULL, name, &n->attrs, NULL, 0, &variable, err);
  mx_free(name);
  if (status != MX_OK) return status;
  n->in[i] = (mx_entry){variable, 0, 0};
  return mx_node_set_initializer(n->op, i, variable, err);
}

/* ---- map from node to int: open addressing, linear probing, never more than half full ---- */

typedef struct slot {
  const mx_node *node;
  int value;
} slot;

struct mx_node_map {
  size_t capacity; /* a power of two */
  size_t count;
  slot *slots;
};

mx_node_map *mx_node_map_new(void) {
  mx_node_map *m = mx_malloc(sizeof(*m));
  if (!m) return NULL;
  *m = (mx_node_map){.capacity = 64, .slots = mx_calloc(64, sizeof(slot))};
  if (!m->slots) {
    mx_free(m);
    return NULL;
  }
  return m;
}

void mx_node_map_free(mx_node_map *m) {
  if (!m) return;
  mx_free(m->slots);
  mx_free(m);
}

/* The slot of a node: its own, or the free one where it belongs. */
static slot *find_slot(slot *slots, size_t capacity, const mx_node *n) {
  uint64_t hash = (uint64_t)(uintptr_t)n * 0x9E3779B97F4A7C15u;
  size_t i = (size_t)(hash >> 32) & (capacity - 1);
  while (slots[i].node && slots[i].node != n) i = (i + 1) & (capacity - 1);
  return &slots[i];
}

mx_status mx_node_map_set(mx_node_map *m, const mx_node *n, int value, mx_error *err) {
  slot *s = find_slot(m->slots, m->capacity, n);
  if (!s->node && 2 * (m->count + 1) > m->capacity) {
    size_t capacity = 2 * m->capacity;
    slot *slots = mx_calloc(capacity, sizeof(*slots));
    if (!slots) return mx_fail_memory(err, capacity * sizeof(*slots));
    for (size_t i = 0; i < m->capacity; i++)
      if (m->slots[i].node) *find_slot(slots, capacity, m->slots[i].node) = m->slots[i];
    mx_free(m->slots);
    m->slots = slots;
    m->capacity = capacity;
    s = find_slot(slots, capacity, n);
  }
  if (!s->node) m->count++;
  *s = (slot){n, value};
  return MX_OK;
}

int mx_node_map_get(const mx_node_map *m, const mx_node *n) {
  const slot *s = find_slot(m->slots, m->capacity, n);
  return s->node ? s->value : -1;
}
