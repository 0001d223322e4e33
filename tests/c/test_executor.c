/* Executors against an interpreter: random graphs are run by an executor (simplified, planned, buffers shared) and node
 * by node with fresh arrays; outputs and gradients must agree. Also requests, head gradients, errors, allocation
 * counts. */
#include <stdlib.h>

#include "check.h"
#include "core/memory.h"
#include "core/thread.h"
#include "graph/executor.h"

static mx_device *cpu;
static mx_error err;
static unsigned rng_state = 1;
static unsigned rnd(unsigned n) {
  rng_state = rng_state * 1664525u + 1013904223u;
  return (rng_state >> 8) % n;
}
static double uniform(void) { return rnd(20001) / 10000.0 - 1.0; }

/* ---- building ---- */

static mx_symbol *var(const char *name) {
  mx_symbol *s = NULL;
  CHECK_OK(mx_symbol_variable(name, &s, &err), err);
  return s;
}

/* Applies an operator to positional arguments and releases them. attrs: "key=value;key=value" or NULL. */
static mx_symbol *apply(const char *op, const char *name, const char *attrs, mx_symbol **args, int n) {
  mx_dict d = MX_DICT_EMPTY;
  char text[256];
  snprintf(text, sizeof(text), "%s", attrs ? attrs : "");
  for (char *p = strtok(text, ";"); p; p = strtok(NULL, ";")) {
    char *eq = strchr(p, '=');
    *eq = 0;
    CHECK_OK(mx_dict_set(&d, p, eq + 1, &err), err);
  }
  mx_symbol *out = NULL;
  const mx_op *record = mx_op_find(op);
  if (!record) check_report(__FILE__, __LINE__, "operator %s is missing", op);
  if (record) CHECK_OK(mx_symbol_apply(record, op, name, &d, NULL, args, n, &out, &err), err);
  mx_dict_free(&d);
  for (int i = 0; i < n; i++) mx_symbol_release(args[i]);
  return out;
}
static mx_symbol *unary(const char *op, const char *attrs, mx_symbol *a) { return apply(op, NULL, attrs, &a, 1); }
static mx_symbol *binary(const char *op, mx_symbol *a, mx_symbol *b) {
  mx_symbol *in[2] = {a, b};
  return apply(op, NULL, NULL, in, 2);
}

/* ---- binding with all arrays ---- */

typedef struct bound {
  mx_symbol *symbol;
  mx_symbol_shapes shapes;
  mx_array **arg, **grad, **aux;
  mx_req *req;
  mx_executor *exec;
} bound;

static mx_array *filled(const mx_shape *shape, mx_dtype dtype) {
  mx_array *a = NULL;
  CHECK_OK(mx_array_zeros(cpu, shape, dtype, &a, &err), err);
  for (int64_t i = 0; i < mx_array_size(a); i++) {
    double x = uniform();
    mx_convert(&x, MX_FLOAT64, (char *)mx_array_data(a) + (size_t)i * mx_dtype_size(dtype), dtype, 1);
  }
  return a;
}

static bool bind_all(bound *b, mx_symbol *s, const char *const *keys, const mx_shape *given, int n, mx_dtype dtype,
                     mx_req req) {
  *b = (bound){.symbol = s};
  if (mx_symbol_infer_shape(s, keys, given, n, &b->shapes, &err) != MX_OK || !b->shapes.complete) {
    check_report(__FILE__, __LINE__, "shapes: %s", err.message);
    return false;
  }
  int na = b->shapes.n_args, nx = b->shapes.n_aux;
  b->arg = calloc((size_t)na + 1, sizeof(mx_array *));
  b->grad = calloc((size_t)na + 1, sizeof(mx_array *));
  b->aux = calloc((size_t)nx + 1, sizeof(mx_array *));
  b->req = calloc((size_t)na + 1, sizeof(mx_req));
  for (int i = 0; i < na; i++) {
    b->arg[i] = filled(&b->shapes.args[i], dtype);
    b->grad[i] = filled(&b->shapes.args[i], dtype);
    b->req[i] = req;
  }
  for (int i = 0; i < nx; i++) b->aux[i] = filled(&b->shapes.aux[i], dtype);
  if (mx_executor_bind(s, cpu, b->arg, b->grad, b->req, b->aux, &b->exec, &err) == MX_OK) return true;
  check_report(__FILE__, __LINE__, "bind: %s", err.message);
  return false;
}

static void unbind(bound *b) {
  for (int i = 0; b->arg && i < b->shapes.n_args; i++) mx_array_release(b->arg[i]), mx_array_release(b->grad[i]);
  for (int i = 0; b->aux && i < b->shapes.n_aux; i++) mx_array_release(b->aux[i]);
  free(b->arg), free(b->grad), free(b->aux), free(b->req);
  mx_executor_release(b->exec);
  mx_symbol_shapes_free(&b->shapes);
  mx_symbol_release(b->symbol);
}

static double at(const mx_array *a, int64_t i) {
  double x;
  mx_convert((char *)mx_array_data(a) + (size_t)i * mx_dtype_size(a->dtype), a->dtype, &x, MX_FLOAT64, 1);
  return x;
}

static void same_array(const char *what, int index, const mx_array *got, const mx_array *want, double tol) {
  if (!mx_shape_equal(&got->shape, &want->shape)) {
    check_report(__FILE__, __LINE__, "%s %d: another shape", what, index);
    return;
  }
  for (int64_t i = 0; i < mx_array_size(got); i++)
    if (!(fabs(at(got, i) - at(want, i)) <= tol * (1 + fabs(at(want, i))))) {
      check_report(__FILE__, __LINE__, "%s %d, element %lld: %.9g, expected %.9g", what, index, (long long)i,
                   at(got, i), at(want, i));
      return;
    }
}

/* ---- the interpreter: every node with fresh arrays ---- */

static mx_array **interpret(const mx_graph *g, const mx_node *const *node, mx_array *const *value, int n) {
  mx_array **entry = calloc((size_t)g->first[g->n_nodes] + 1, sizeof(mx_array *));
  for (int i = 0; i < g->n_nodes; i++) {
    const mx_node *v = g->nodes[i];
    if (!v->op) {
      for (int k = 0; k < n; k++)
        if (node[k] == v) entry[g->first[i]] = mx_array_retain(value[k]);
      continue;
    }
    int n_out = g->first[i + 1] - g->first[i];
    mx_array *in[64], *out[16] = {0};
    for (int k = 0; k < v->n_in; k++) in[k] = entry[mx_graph_entry(g, v->in[k])];
    /* hidden outputs are needed too: run the kernel by hand */
    mx_tensor tensor[80];
    mx_req req[16];
    for (int k = 0; k < v->n_in; k++)
      tensor[k] = (mx_tensor){.data = mx_array_data(in[k]), .shape = in[k]->shape, .dtype = in[k]->dtype};
    for (int k = 0; k < n_out; k++) {
      int e = g->first[i] + k;
      CHECK_OK(mx_array_zeros(cpu, &g->shape[e], g->dtype[e], &out[k], &err), err);
      tensor[v->n_in + k] = (mx_tensor){.data = mx_array_data(out[k]), .shape = out[k]->shape, .dtype = out[k]->dtype};
      req[k] = MX_WRITE;
      entry[e] = out[k];
    }
    mx_call c = {.op = v->op,
                 .params = v->params,
                 .device = cpu,
                 .n_in = v->n_in,
                 .n_out = n_out,
                 .in = tensor,
                 .out = tensor + v->n_in,
                 .req = req,
                 .is_train = true};
    if (v->op->prepare) CHECK_OK(v->op->prepare(&c, &err), err);
    c.workspace = mx_malloc_aligned(c.workspace_bytes);
    CHECK_OK(v->op->kernel(&c, &err), err);
    mx_free_aligned(c.workspace);
    if (v->op->release && c.state) v->op->release(c.state);
  }
  return entry;
}

static mx_node *find_variable(const mx_graph *g, const char *name) {
  for (int i = 0; i < g->n_nodes; i++)
    if (!g->nodes[i]->op && !strcmp(g->nodes[i]->name, name)) return g->nodes[i];
  return NULL;
}

/* Runs the bound symbol both ways and compares outputs and gradients. Head gradients are random. */
static void compare_with_interpreter(bound *b, double tol) {
  mx_graph *g = NULL, *joint = NULL;
  REQUIRE_OK(mx_graph_new(b->symbol->out, b->symbol->n, &g, &err), err);
  mx_names names;
  REQUIRE_OK(mx_symbol_arguments(b->symbol, &names, &err), err);
  int na = names.n, no = b->symbol->n;
  mx_node **wrt = calloc((size_t)na, sizeof(*wrt)), **head = calloc((size_t)no, sizeof(*head));
  const mx_node **node = calloc((size_t)(na + no), sizeof(*node));
  mx_array **value = calloc((size_t)(na + no), sizeof(*value)), **before = calloc((size_t)na, sizeof(*before));
  mx_array **heads = calloc((size_t)no, sizeof(*heads));
  for (int i = 0; i < na; i++) {
    wrt[i] = find_variable(g, names.v[i]);
    int e = g->first[mx_node_map_get(g->map, wrt[i])];
    g->shape[e] = b->arg[i]->shape, g->dtype[e] = b->arg[i]->dtype;
    node[i] = wrt[i];
    CHECK_OK(mx_array_new(cpu, &b->arg[i]->shape, b->arg[i]->dtype, &value[i], &err), err);
    CHECK_OK(mx_array_copy(value[i], b->arg[i], &err), err);
    CHECK_OK(mx_array_new(cpu, &b->grad[i]->shape, b->grad[i]->dtype, &before[i], &err), err);
    CHECK_OK(mx_array_copy(before[i], b->grad[i], &err), err);
  }
  bool complete;
  REQUIRE_OK(mx_graph_infer(g, true, &complete, &err), err);
  REQUIRE(complete);
  REQUIRE_OK(mx_graph_gradient(g, wrt, na, head, &joint, &err), err);
  for (int i = 0; i < no; i++) {
    mx_array *o = mx_executor_output(b->exec, i);
    heads[i] = filled(&o->shape, o->dtype);
    node[na + i] = head[i];
    value[na + i] = heads[i];
  }
  for (int repeat = 0; repeat < 2; repeat++) {
    for (int i = 0; i < na; i++) CHECK_OK(mx_array_copy(b->grad[i], before[i], &err), err);
    mx_array **entry = interpret(joint, node, value, na + no);
    if (repeat) {
      CHECK_OK(mx_executor_forward(b->exec, false, &err), err);
      for (int i = 0; i < no; i++)
        same_array("inferred output", i, mx_executor_output(b->exec, i),
                   entry[mx_graph_entry(joint, joint->outputs[i])], tol);
    }
    CHECK_OK(mx_executor_forward(b->exec, true, &err), err);
    CHECK_OK(mx_executor_backward(b->exec, heads, no, &err), err);
    for (int i = 0; i < no; i++)
      same_array("output", i, mx_executor_output(b->exec, i), entry[mx_graph_entry(joint, joint->outputs[i])], tol);
    for (int i = 0; i < na; i++) {
      mx_array *want = entry[mx_graph_entry(joint, joint->outputs[no + i])], *sum = NULL;
      CHECK_OK(mx_array_new(cpu, &want->shape, want->dtype, &sum, &err), err);
      CHECK_OK(mx_array_copy(sum, want, &err), err);
      for (int64_t k = 0; b->req[i] == MX_ADD && k < mx_array_size(sum); k++) {
        double x = at(want, k) + at(before[i], k);
        mx_convert(&x, MX_FLOAT64, (char *)mx_array_data(sum) + (size_t)k * mx_dtype_size(sum->dtype), sum->dtype, 1);
      }
      same_array("gradient", i, b->grad[i], sum, tol);
      same_array("argument", i, b->arg[i], value[i], 0);
      mx_array_release(sum);
    }
    for (int i = 0; i < joint->first[joint->n_nodes]; i++) mx_array_release(entry[i]);
    free(entry);
  }
  for (int i = 0; i < na; i++) mx_array_release(value[i]), mx_array_release(before[i]);
  for (int i = 0; i < no; i++) mx_array_release(heads[i]);
  free(wrt), free(head), free(node), free(value), free(before), free(heads);
  mx_names_free(&names);
  mx_graph_free(g);
  mx_graph_free(joint);
}

/* ---- random graphs ---- */

/* All values are (4, 6) so that any two combine; some operators leave that shape and come back. */
static mx_symbol *random_graph(int n_ops) {
  mx_symbol *pool[64];
  int n = 0;
  static const char *const names[] = {"a", "b", "c"};
  for (int i = 0; i < 3; i++) pool[n++] = var(names[i]);
  for (int i = 0; i < n_ops && n < 60; i++) {
    mx_symbol *x = mx_symbol_retain(pool[rnd((unsigned)n)]), *y = mx_symbol_retain(pool[rnd((unsigned)n)]), *z = NULL;
    char attrs[64];
    switch (rnd(12)) {
      case 0:
        z = binary("elemwise_add", x, y), y = NULL;
        break;
      case 1:
        z = binary("elemwise_mul", x, y), y = NULL;
        break;
      case 2:
        z = binary("elemwise_sub", x, y), y = NULL;
        break;
      case 3:
        z = unary("tanh", NULL, x);
        break;
      case 4:
        z = unary("sigmoid", NULL, x);
        break;
      case 5:
        z = unary("_mul_scalar", rnd(2) ? "scalar=1" : "scalar=0.5", x);
        break;
      case 6:
        z = unary("Reshape", "shape=(6,4)", x), z = unary("transpose", NULL, z);
        break;
      case 7:
        z = unary("transpose", "axes=(1,0)", x), z = unary("transpose", "axes=(1,0)", z);
        break;
      case 8:
        z = unary("Flatten", NULL, x), z = unary("Reshape", "shape=(-1,6)", z);
        break;
      case 9: {
        static const char *const shared[] = {"w", "v"};
        mx_symbol *in[2] = {x, var(shared[rnd(2)])};
        z = apply("FullyConnected", NULL, "num_hidden=6;no_bias=True", in, 2);
        break;
      }
      case 10:
        z = unary("identity", NULL, x);
        break;
      default: {
        mx_symbol *in[3] = {x, y, mx_symbol_retain(pool[rnd((unsigned)n)])};
        y = NULL;
        snprintf(attrs, sizeof(attrs), "num_args=3");
        z = apply("add_n", NULL, attrs, in, 3);
      }
    }
    mx_symbol_release(y);
    if (!z) break;
    pool[n++] = z;
  }
  mx_symbol *heads[4], *group = NULL;
  int n_heads = 1 + (int)rnd(3);
  for (int i = 0; i < n_heads; i++) heads[i] = pool[i == 0 ? n - 1 : (int)rnd((unsigned)n)];
  CHECK_OK(mx_symbol_group(heads, n_heads, &group, &err), err);
  for (int i = 0; i < n; i++) mx_symbol_release(pool[i]);
  return group;
}

/* Variables of one name must be one node for find_variable. */
static bool names_are_unique(const mx_symbol *s) {
  mx_names names;
  if (mx_symbol_arguments(s, &names, &err) != MX_OK) return false;
  bool unique = true;
  for (int i = 0; i < names.n; i++)
    for (int k = 0; k < i; k++) unique = unique && strcmp(names.v[i], names.v[k]);
  mx_names_free(&names);
  return unique;
}

static void random_graphs(mx_req req) {
  int ran = 0;
  for (int seed = 1; seed <= 400; seed++) {
    rng_state = (unsigned)seed * 7919u + (unsigned)req;
    mx_symbol *s = random_graph(2 + (int)rnd(22));
    if (!names_are_unique(s)) {
      mx_symbol_release(s);
      continue;
    }
    const char *keys[3] = {"a", "b", "c"};
    mx_shape shape[3];
    mx_names names;
    REQUIRE_OK(mx_symbol_arguments(s, &names, &err), err);
    const char *have[3];
    int n = 0;
    for (int i = 0; i < 3; i++)
      for (int k = 0; k < names.n; k++)
        if (!strcmp(names.v[k], keys[i])) have[n] = keys[i], shape[n++] = mx_shape_of(4, 6);
    mx_names_free(&names);
    bound b;
    if (bind_all(&b, s, have, shape, n, MX_FLOAT64, req)) compare_with_interpreter(&b, 1e-12);
    unbind(&b);
    ran++;
    if (check_now.broken) {
      printf("seed %d\n", seed);
      return;
    }
  }
  CHECK(ran > 200);
}

TEST(random_graphs_write) { random_graphs(MX_WRITE); }
TEST(random_graphs_add) { random_graphs(MX_ADD); }

/* ---- convolutions: inference makes the output where the input was ---- */

static mx_symbol *convolution(const char *attrs, mx_symbol *x) {
  static int n;
  char name[16];
  snprintf(name, sizeof(name), "conv%d", n++);
  return apply("Convolution", name, attrs, &x, 1);
}

TEST(convolutions_in_place) {
  const mx_shape shapes[] = {mx_shape_of(3, 8, 9, 9), mx_shape_of(20, 16, 14, 14), mx_shape_of(1, 64, 17, 17)};
  for (int i = 0; i < 6; i++) {
    const mx_shape *shape = &shapes[i / 2];
    char same[4][96];
    const char *const more[] = {"", ";no_bias=True", ";num_group=2", ";dilate=(2,2);pad=(2,2)"};
    for (int k = 0; k < 4; k++)
      snprintf(same[k], sizeof(same[k]), "kernel=(3,3);pad=(1,1);num_filter=%d%s", (int)shape->dim[1], more[k]);
    mx_symbol *x = var("data"), *y;
    for (int k = 0; k < 4; k++) x = convolution(same[k], x);
    y = mx_symbol_retain(x);
    x = unary("relu", NULL, convolution(same[2], unary("relu", NULL, convolution(same[0], x))));
    x = binary("elemwise_add", x, y);
    snprintf(same[0], sizeof(same[0]), "kernel=(1,1);num_filter=%d", (int)shape->dim[1]);
    x = convolution(same[1], convolution(same[0], x)); /* the last one is made in the output's array */
    const char *key = "data";
    bound b;
    rng_state = 77;
    if (bind_all(&b, x, &key, shape, 1, i % 2 ? MX_FLOAT64 : MX_FLOAT32, MX_WRITE))
      compare_with_interpreter(&b, i % 2 ? 1e-10 : 1e-4);
    unbind(&b);
  }
}

/* The networks of bench/, up to where their memory peaks. */
static mx_symbol *normalized(const char *attrs, mx_symbol *x) {
  x = convolution(attrs, x);
  return apply("BatchNorm", NULL, "fix_gamma=False", &x, 1);
}

static mx_executor_memory memory_of(mx_symbol *s, mx_shape shape) {
  const char *key = "data";
  bound b;
  mx_executor_memory m = {0};
  mx_threads_set(2); /* each worker has a workspace */
  if (bind_all(&b, s, &key, &shape, 1, MX_FLOAT32, MX_NULL)) CHECK_OK(mx_executor_memory_use(b.exec, &m, &err), err);
  mx_threads_set(0);
  unbind(&b);
  return m;
}

/* Two activations are alive at any time: that of the shortcut and that of the branch. */
TEST(memory_of_a_residual_network) {
  mx_symbol *x = normalized("kernel=(3,3);pad=(1,1);num_filter=64;no_bias=True", var("data"));
  for (int i = 0; i < 3; i++) {
    mx_symbol *shortcut = mx_symbol_retain(x);
    x = unary("relu", NULL, normalized("kernel=(3,3);pad=(1,1);num_filter=64;no_bias=True", x));
    x = normalized("kernel=(3,3);pad=(1,1);num_filter=64;no_bias=True", x);
    x = unary("relu", NULL, binary("elemwise_add", x, shortcut));
  }
  x = apply("Pooling", NULL, "global_pool=True;kernel=(7,7);pool_type=avg", &x, 1);
  const int64_t activation = 32 * 64 * 32 * 32 * 4;
  mx_executor_memory m = memory_of(x, mx_shape_of(32, 3, 32, 32));
  CHECK(m.inference_bytes <= 2 * activation + 5 * activation / 16);
  CHECK(m.inference_bytes - m.workspace_bytes <= 2 * activation + 16384);
}

/* A projection with stride 2 sees a quarter of its input: its workspace is small. */
TEST(memory_of_a_projection) {
  const char *half = "kernel=(1,1);stride=(2,2);num_filter=512;no_bias=True";
  const int64_t in = 256 * 56 * 56 * 4;
  mx_symbol *x = unary("relu", NULL, var("data"));
  mx_executor_memory m = memory_of(unary("relu", NULL, convolution(half, x)), mx_shape_of(1, 256, 56, 56));
  CHECK(m.inference_bytes <= in + in / 2 + in / 2);
}

/* ---- a small classifier ---- */

static mx_symbol *mlp(void) {
  mx_symbol *x = apply("FullyConnected", "fc1", "num_hidden=8", (mx_symbol *[]){var("data")}, 1);
  x = apply("relu", "relu1", NULL, &x, 1);
  x = apply("FullyConnected", "fc2", "num_hidden=3", &x, 1);
  return apply("SoftmaxOutput", "sm", NULL, &x, 1);
}

TEST(mlp_learns) {
  const char *key = "data";
  mx_shape shape = mx_shape_of(16, 5);
  bound b;
  rng_state = 5;
  if (!bind_all(&b, mlp(), &key, &shape, 1, MX_FLOAT32, MX_WRITE)) return;
  float *label = mx_array_data(b.arg[b.shapes.n_args - 1]);
  const float *data = mx_array_data(b.arg[0]);
  for (int i = 0; i < 16; i++) label[i] = data[5 * i] > 0.3f ? 2 : data[5 * i + 1] > 0 ? 1 : 0;
  double first = 0, last = 0;
  int64_t allocations = 0;
  for (int step = 0; step < 300; step++) {
    REQUIRE_OK(mx_executor_forward(b.exec, true, &err), err);
    REQUIRE_OK(mx_executor_backward(b.exec, NULL, 0, &err), err);
    if (step == 1) allocations = mx_pool_statistics(MX_CPU).allocations;
    double loss = 0;
    const float *p = mx_array_data(mx_executor_output(b.exec, 0));
    for (int i = 0; i < 16; i++) loss -= log(p[3 * i + (int)label[i]]) / 16;
    if (!step) first = loss;
    last = loss;
    for (int i = 1; i < b.shapes.n_args - 1; i++) {
      float *w = mx_array_data(b.arg[i]);
      const float *g = mx_array_data(b.grad[i]);
      for (int64_t k = 0; k < mx_array_size(b.arg[i]); k++) w[k] -= 0.03f * g[k];
    }
  }
  CHECK(first > 0.8);
  CHECK(last < 0.1);
  CHECK_INT(mx_pool_statistics(MX_CPU).allocations, allocations); /* steps allocate nothing */
  unbind(&b);
}

/* ---- requests, order of calls, errors ---- */

TEST(null_requests_leave_arrays_alone) {
  const char *key = "data";
  mx_shape shape = mx_shape_of(4, 5);
  bound b;
  rng_state = 9;
  if (!bind_all(&b, mlp(), &key, &shape, 1, MX_FLOAT32, MX_NULL)) return;
  double before = at(b.grad[1], 0);
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK_OK(mx_executor_backward(b.exec, NULL, 0, &err), err);
  CHECK(at(b.grad[1], 0) == before);
  unbind(&b);
}

TEST(head_gradients_are_asked_for) {
  const char *key = "a";
  mx_shape shape = mx_shape_of(2, 3);
  bound b;
  if (!bind_all(&b, unary("tanh", NULL, var("a")), &key, &shape, 1, MX_FLOAT32, MX_WRITE)) return;
  CHECK_FAILS(mx_executor_backward(b.exec, NULL, 0, &err), MX_ERR_STATE, err, "forward");
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK_FAILS(mx_executor_backward(b.exec, NULL, 0, &err), MX_ERR_VALUE, err, "Output 1");
  mx_array *wrong = filled(&(mx_shape){.ndim = 1, .dim = {6}}, MX_FLOAT32);
  CHECK_FAILS(mx_executor_backward(b.exec, &wrong, 1, &err), MX_ERR_SHAPE, err, "(2,3)");
  mx_array *two[2] = {wrong, wrong};
  CHECK_FAILS(mx_executor_backward(b.exec, two, 2, &err), MX_ERR_VALUE, err, "2 head gradients");
  CHECK_OK(mx_executor_forward(b.exec, false, &err), err);
  mx_array *right = filled(&shape, MX_FLOAT32);
  CHECK_FAILS(mx_executor_backward(b.exec, &right, 1, &err), MX_ERR_STATE, err, "is.train");
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK_OK(mx_executor_backward(b.exec, &right, 1, &err), err);
  mx_array_release(wrong);
  mx_array_release(right);
  unbind(&b);
}

/* What may be bound more than once: outputs that are variables or views of them, one array for two arguments, one
 * gradient array for two arguments. */
TEST(arrays_in_several_places) {
  mx_shape shape = mx_shape_of(2, 3);
  mx_symbol *a = var("a"), *c = var("b"), *group = NULL, *parts[4];
  parts[0] = mx_symbol_retain(a);
  parts[1] = unary("Reshape", "shape=(3,2)", mx_symbol_retain(a));
  parts[2] = binary("elemwise_mul", mx_symbol_retain(a), mx_symbol_retain(c));
  parts[3] = unary("BlockGrad", NULL, mx_symbol_retain(c));
  CHECK_OK(mx_symbol_group(parts, 4, &group, &err), err);
  for (int i = 0; i < 4; i++) mx_symbol_release(parts[i]);
  mx_symbol_release(a), mx_symbol_release(c);
  mx_array *x = filled(&shape, MX_FLOAT32), *gx = filled(&shape, MX_FLOAT32), *head[4] = {NULL};
  mx_array *args[2] = {x, x}, *grads[2] = {gx, gx};
  float before[6];
  memcpy(before, mx_array_data(gx), sizeof(before));
  mx_req reqs[2] = {MX_ADD, MX_ADD};
  mx_executor *e = NULL;
  REQUIRE_OK(mx_executor_bind(group, cpu, args, grads, reqs, NULL, &e, &err), err);
  CHECK_OK(mx_executor_forward(e, true, &err), err);
  const float *v = mx_array_data(x), *g = mx_array_data(gx);
  for (int i = 0; i < 4; i++) {
    const mx_array *o = mx_executor_output(e, i);
    CHECK(o->storage != x->storage); /* writing into an output must not write into an argument */
    for (int k = 0; k < 6; k++) CHECK(fabs(at(o, k) - (i == 2 ? v[k] * v[k] : v[k])) < 1e-6);
    head[i] = filled(&o->shape, MX_FLOAT32);
  }
  CHECK_OK(mx_executor_backward(e, head, 4, &err), err);
  for (int k = 0; k < 6; k++) /* both gradients are added to what was there */
    CHECK(fabs(g[k] - (before[k] + at(head[0], k) + at(head[1], k) + 2 * v[k] * at(head[2], k))) < 1e-5);
  for (int i = 0; i < 4; i++) mx_array_release(head[i]);
  mx_executor_release(e);
  mx_array_release(x), mx_array_release(gx);
  mx_symbol_release(group);
}

TEST(rest_gives_memory_back) {
  const char *key = "a";
  mx_shape shape = mx_shape_of(200, 300);
  bound b;
  mx_symbol *net = unary("tanh", NULL, unary("exp", NULL, unary("sin", NULL, unary("tanh", NULL, var("a")))));
  if (!bind_all(&b, net, &key, &shape, 1, MX_FLOAT32, MX_WRITE)) return;
  mx_array *head = filled(&shape, MX_FLOAT32);
  int64_t before = mx_pool_statistics(MX_CPU).used_bytes;
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK(mx_pool_statistics(MX_CPU).used_bytes > before);
  mx_executor_rest(b.exec);
  CHECK_INT(mx_pool_statistics(MX_CPU).used_bytes, before);
  CHECK_FAILS(mx_executor_backward(b.exec, &head, 1, &err), MX_ERR_STATE, err, "forward");
  double first = at(mx_executor_output(b.exec, 0), 7);
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK_OK(mx_executor_backward(b.exec, &head, 1, &err), err);
  CHECK(at(mx_executor_output(b.exec, 0), 7) == first);
  mx_array_release(head);
  unbind(&b);
}

/* Nothing to compute is no error. */
TEST(arrays_without_elements) {
  const char *key = "data";
  mx_shape shape = mx_shape_of(0, 4);
  mx_symbol *net = unary("FullyConnected", "num_hidden=3", var("data"));
  bound b;
  if (!bind_all(&b, binary("elemwise_add", unary("relu", NULL, net), var("more")), &key, &shape, 1, MX_FLOAT32,
                MX_WRITE))
    return;
  mx_array *head = filled(&mx_executor_output(b.exec, 0)->shape, MX_FLOAT32);
  CHECK_OK(mx_executor_forward(b.exec, true, &err), err);
  CHECK_OK(mx_executor_backward(b.exec, &head, 1, &err), err);
  for (int64_t k = 0; k < mx_array_size(b.grad[1]); k++) CHECK(at(b.grad[1], k) == 0); /* an empty sum */
  mx_array_release(head);
  unbind(&b);
}

TEST(wrong_shapes_name_node_and_argument) {
  mx_symbol *s = mlp();
  mx_array *arg[6];
  const int64_t size[6][2] = {{4, 5}, {8, 7}, {8, 0}, {3, 8}, {3, 0}, {4, 0}}; /* fc1_weight should be (8,5) */
  for (int i = 0; i < 6; i++) {
    mx_shape shape = mx_shape_make(size[i][1] ? 2 : 1, size[i]);
    arg[i] = filled(&shape, MX_FLOAT32);
  }
  mx_executor *e = NULL;
  CHECK_FAILS(mx_executor_bind(s, cpu, arg, NULL, NULL, NULL, &e, &err), MX_ERR_SHAPE, err, "fc1");
  CHECK_TEXT(err.node, "fc1");
  CHECK_TEXT(err.op, "FullyConnected");
  mx_array *keep = arg[1];
  arg[1] = NULL;
  CHECK_FAILS(mx_executor_bind(s, cpu, arg, NULL, NULL, NULL, &e, &err), MX_ERR_VALUE, err, "fc1_weight");
  arg[1] = keep;
  for (int i = 0; i < 6; i++) mx_array_release(arg[i]);
  mx_symbol_release(s);
}

TEST(failing_allocations_leave_nothing_behind) {
  const char *key = "data";
  mx_shape shape = mx_shape_of(4, 5);
  bound b;
  mx_invoke_clear_cache();
  if (!bind_all(&b, mlp(), &key, &shape, 1, MX_FLOAT32, MX_WRITE)) return;
  mx_symbol *s = b.symbol;
  bool done = false;
  for (int n = 1; !done && n < 5000; n++) {
    mx_executor *e = NULL;
    mx_pool_trim();
    int64_t live = mx_memory_live_blocks();
    mx_memory_fail_at(n);
    mx_status st = mx_executor_bind(s, cpu, b.arg, b.grad, b.req, b.aux, &e, &err);
    if (st == MX_OK) st = mx_executor_forward(e, true, &err);
    if (st == MX_OK) st = mx_executor_backward(e, NULL, 0, &err);
    mx_memory_fail_at(0);
    if (st != MX_OK) CHECK_INT(st, MX_ERR_MEMORY);
    done = st == MX_OK;
    mx_executor_release(e);
    mx_pool_trim();
    CHECK_INT(mx_memory_live_blocks(), live);
    if (check_now.broken) {
      printf("allocation %d\n", n);
      break;
    }
  }
  CHECK(done);
  unbind(&b);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return 1;
  RUN(mlp_learns);
  RUN(null_requests_leave_arrays_alone);
  RUN(head_gradients_are_asked_for);
  RUN(arrays_in_several_places);
  RUN(rest_gives_memory_back);
  RUN(arrays_without_elements);
  RUN(wrong_shapes_name_node_and_argument);
  RUN(random_graphs_write);
  RUN(random_graphs_add);
  RUN(failing_allocations_leave_nothing_behind);
  RUN(convolutions_in_place);
  RUN(memory_of_a_residual_network);
  RUN(memory_of_a_projection);
  return check_finish();
}
