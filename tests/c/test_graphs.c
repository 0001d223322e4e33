/* Whole graphs against the reference: forward, backward, moving averages; training with each optimizer; real models. */
#include <math.h>

#include "core/thread.h"
#include "files.h"
#include "graph/executor.h"
#include "io/params.h"
#include "symbols.h"

enum { MAX_ARRAYS = 256 };
static mx_device *cpu;

/* ---- a bound symbol ---- */

typedef struct bound {
  mx_symbol *symbol;
  mx_names args, aux, outs;
  mx_array *arg[MAX_ARRAYS], *grad[MAX_ARRAYS], *state[MAX_ARRAYS];
  mx_req req[MAX_ARRAYS];
  mx_executor *executor;
} bound;

static int index_of(const mx_names *names, const char *name) {
  for (int i = 0; i < names->n; i++)
    if (!strcmp(names->v[i], name)) return i;
  return -1;
}

static void unbind(bound *b) {
  mx_executor_release(b->executor);
  for (int i = 0; i < MAX_ARRAYS; i++) {
    mx_array_release(b->arg[i]);
    mx_array_release(b->grad[i]);
    mx_array_release(b->state[i]);
  }
  mx_names_free(&b->args);
  mx_names_free(&b->aux);
  mx_names_free(&b->outs);
  mx_symbol_release(b->symbol);
  *b = (bound){0};
}

static mx_status fill(mx_array *a, float value) {
  int64_t n = mx_array_size(a);
  float *data = mx_array_data(a);
  for (int64_t i = 0; i < n; i++) data[i] = value;
  return MX_OK;
}

/* Makes arrays for the given input shapes; gradients (with `req`) for all arguments that `wanted` has, or for all. */
static mx_status bind_shapes(bound *b, const char *const *keys, const mx_shape *shapes, int n, mx_req req,
                             const json_t *wanted) {
  mx_symbol_shapes s;
  MX_TRY(mx_symbol_arguments(b->symbol, &b->args, &err));
  MX_TRY(mx_symbol_auxiliaries(b->symbol, &b->aux, &err));
  MX_TRY(mx_symbol_outputs(b->symbol, &b->outs, &err));
  MX_TRY(mx_symbol_infer_shape(b->symbol, keys, shapes, n, &s, &err));
  mx_status status = MX_OK;
  for (int i = 0; i < s.n_args && status == MX_OK; i++) {
    const char *asked = json_string_value(json_object_get(wanted, b->args.v[i]));
    b->req[i] = wanted && (!asked || !strcmp(asked, "null")) ? MX_NULL : req;
    status = mx_array_zeros(cpu, &s.args[i], MX_FLOAT32, &b->arg[i], &err);
    if (status == MX_OK && b->req[i]) status = mx_array_new(cpu, &s.args[i], MX_FLOAT32, &b->grad[i], &err);
    if (status == MX_OK && b->req[i]) status = fill(b->grad[i], 77);
  }
  for (int i = 0; i < s.n_aux && status == MX_OK; i++)
    status = mx_array_zeros(cpu, &s.aux[i], MX_FLOAT32, &b->state[i], &err);
  mx_symbol_shapes_free(&s);
  if (status != MX_OK) return status;
  return mx_executor_bind(b->symbol, cpu, b->arg, b->grad, b->req, b->state, &b->executor, &err);
}

static mx_status read_symbol(const char *path, mx_symbol **out) {
  size_t size;
  char *text = file_bytes(path, &size);
  if (!text) return mx_fail(&err, MX_ERR_IO, "%s cannot be read", path);
  mx_status status = mx_symbol_from_json(text, out, &err);
  free(text);
  return status;
}

/* ---- recorded cases ---- */

typedef struct recorded {
  const json_t *tensors;
  const char *numbers;
  const char *id;
} recorded;

static mx_shape shape_of(const json_t *dims) {
  mx_shape s = {0};
  size_t k;
  json_t *d;
  json_array_foreach(dims, k, d) s.dim[s.ndim++] = json_integer_value(d);
  return s;
}
static const char *text_in(const json_t *object, const char *key) {
  return json_string_value(json_object_get(object, key));
}

static const void *find_numbers(const recorded *r, const char *role, const char *name, int64_t n) {
  size_t i;
  json_t *t;
  json_array_foreach(r->tensors, i, t) {
    if (strcmp(text_in(t, "role"), role) || strcmp(text_in(t, "name"), name)) continue;
    mx_shape s = shape_of(json_object_get(t, "shape"));
    if (mx_shape_size(&s) != n) return NULL;
    return r->numbers + json_integer_value(json_object_get(t, "offset"));
  }
  return NULL;
}

static void put_numbers(const recorded *r, const char *role, const mx_names *names, mx_array **arrays) {
  for (int i = 0; i < names->n; i++) {
    const void *x = find_numbers(r, role, names->v[i], mx_array_size(arrays[i]));
    if (x) memcpy(mx_array_data(arrays[i]), x, mx_array_bytes(arrays[i]));
  }
}

/* Compares what is recorded under that role and name; a gradient of req add has 77 more. */
static void compare(const recorded *r, const char *role, const char *name, const mx_array *got, float more, double rtol,
                    double atol) {
  int64_t n = mx_array_size(got);
  const float *x = mx_array_data(got), *want = find_numbers(r, role, name, n);
  if (!want) {
    check_report(__FILE__, __LINE__, "%s: no %s of %s with that shape", r->id, role, name);
    return;
  }
  for (int64_t i = 0; i < n; i++)
    if (!(fabs((double)x[i] - (want[i] + more)) <= (atol + rtol * fabs(want[i])) * (more != 0 ? 4 : 1))) {
      check_report(__FILE__, __LINE__, "%s: %s of %s[%lld] is %.9g, expected %.9g", r->id, role, name, (long long)i,
                   x[i], want[i] + more);
      return;
    }
}

static void run_and_compare(bound *b, const recorded *r, bool is_train, float more) {
  mx_array *heads[8] = {NULL};
  put_numbers(r, "arg", &b->args, b->arg);
  put_numbers(r, "aux", &b->aux, b->state);
  for (int i = 0; i < b->args.n; i++)
    if (b->grad[i]) REQUIRE_OK(fill(b->grad[i], 77), err);
  REQUIRE_OK(mx_executor_forward(b->executor, is_train, &err), err);
  int n = mx_executor_count_outputs(b->executor);
  for (int i = 0; i < n; i++) {
    mx_array *out = mx_executor_output(b->executor, i);
    compare(r, "output", b->outs.v[i], out, 0, 1e-4, 1e-5);
    const void *head = find_numbers(r, "head_grad", b->outs.v[i], mx_array_size(out));
    if (!head) continue;
    REQUIRE_OK(mx_array_new(cpu, &out->shape, MX_FLOAT32, &heads[i], &err), err);
    memcpy(mx_array_data(heads[i]), head, mx_array_bytes(out));
  }
  if (is_train) REQUIRE_OK(mx_executor_backward(b->executor, heads, n, &err), err);
  for (int i = 0; i < n; i++) mx_array_release(heads[i]);
  for (int i = 0; i < b->args.n; i++)
    if (b->grad[i]) compare(r, "grad", b->args.v[i], b->grad[i], more, 1e-3, 1e-5);
  for (int i = 0; i < b->aux.n; i++) compare(r, "aux_after", b->aux.v[i], b->state[i], 0, 1e-4, 1e-5);
}

/* Forward and backward of a recorded case, twice from the same plan, with written and with added gradients. */
static void check_case(const char *symbol_path, const json_t *graph, const json_t *c, const char *numbers) {
  recorded r = {json_object_get(c, "tensors"), numbers, text_in(c, "id")};
  bool is_train = json_is_true(json_object_get(c, "is_train"));
  const char *keys[16], *name;
  mx_shape shapes[16];
  int n = 0;
  json_t *dims;
  json_object_foreach(json_object_get(json_object_get(graph, "infer_shape"), "given"), name, dims) {
    keys[n] = name;
    shapes[n++] = shape_of(dims);
  }
  for (int pass = 0; pass < (is_train ? 2 : 1); pass++) {
    bound b = {0};
    REQUIRE_OK(read_symbol(symbol_path, &b.symbol), err);
    REQUIRE_OK(bind_shapes(&b, keys, shapes, n, pass ? MX_ADD : MX_WRITE, json_object_get(c, "grad_req")), err);
    run_and_compare(&b, &r, is_train, pass ? 77 : 0);
    run_and_compare(&b, &r, is_train, pass ? 77 : 0);
    unbind(&b);
  }
}

static void check_graph(const char *name) {
  char path[512];
  size_t size, i;
  json_t *c;
  snprintf(path, sizeof(path), GRAPHS "%s.case.json", name);
  json_t *graph = json_load_file(path, 0, NULL);
  snprintf(path, sizeof(path), GRAPHS "%s.case.bin", name);
  char *numbers = file_bytes(path, &size);
  REQUIRE(graph && numbers);
  snprintf(path, sizeof(path), GRAPHS "%s.symbol.json", name);
  json_array_foreach(json_object_get(graph, "cases"), i, c) check_case(path, graph, c, numbers);
  free(numbers);
  json_decref(graph);
}

TEST(mlp) { check_graph("mlp"); }
TEST(lenet) { check_graph("lenet"); }
TEST(resnet_small) { check_graph("resnet_small"); }
TEST(lstm_unrolled) { check_graph("lstm_unrolled"); }
TEST(group) { check_graph("group"); }
TEST(scalar_ops) { check_graph("scalar_ops"); }

/* ---- properties of executors ---- */

/* A bound golden graph with its recorded arguments, trained one step. */
static mx_status train_step(bound *b, const char *name, mx_req req) {
  char path[512];
  size_t size;
  snprintf(path, sizeof(path), GRAPHS "%s.case.json", name);
  json_t *graph = json_load_file(path, 0, NULL), *dims, *c = json_array_get(json_object_get(graph, "cases"), 0);
  snprintf(path, sizeof(path), GRAPHS "%s.case.bin", name);
  char *numbers = file_bytes(path, &size);
  recorded r = {json_object_get(c, "tensors"), numbers, name};
  const char *keys[16], *key;
  mx_shape shapes[16];
  int n = 0;
  json_object_foreach(json_object_get(json_object_get(graph, "infer_shape"), "given"), key, dims) {
    keys[n] = key;
    shapes[n++] = shape_of(dims);
  }
  snprintf(path, sizeof(path), GRAPHS "%s.symbol.json", name);
  mx_status status = read_symbol(path, &b->symbol);
  if (status == MX_OK) status = bind_shapes(b, keys, shapes, n, req, NULL);
  if (status == MX_OK) {
    put_numbers(&r, "arg", &b->args, b->arg);
    put_numbers(&r, "aux", &b->aux, b->state);
    status = mx_executor_forward(b->executor, true, &err);
  }
  if (status == MX_OK) status = mx_executor_backward(b->executor, NULL, 0, &err);
  free(numbers);
  json_decref(graph);
  return status;
}

static void same_bits(const char *graph, const char *name, const mx_array *a, const mx_array *b, int threads) {
  const float *x = mx_array_data(a), *y = mx_array_data(b);
  for (int64_t i = 0; i < mx_array_size(a); i++)
    if (memcmp(&x[i], &y[i], sizeof(float)) != 0) {
      check_report(__FILE__, __LINE__, "%s: %s[%lld] is %.9g with one thread, %.9g with %d", graph, name, (long long)i,
                   x[i], y[i], threads);
      return;
    }
}

TEST(any_number_of_threads_gives_the_same_numbers) {
  static const char *const names[] = {"lenet", "resnet_small", "lstm_unrolled", "mlp"};
  for (int g = 0; g < 4; g++) {
    bound one = {0}, more = {0};
    mx_threads_forced = true;
    mx_threads_set(1);
    REQUIRE_OK(train_step(&one, names[g], MX_WRITE), err);
    for (int threads = 2; threads <= 3; threads++) {
      mx_threads_set(threads);
      REQUIRE_OK(train_step(&more, names[g], MX_WRITE), err);
      same_bits(names[g], "the output", mx_executor_output(one.executor, 0), mx_executor_output(more.executor, 0),
                threads);
      for (int i = 0; i < one.args.n; i++) same_bits(names[g], one.args.v[i], one.grad[i], more.grad[i], threads);
      for (int i = 0; i < one.aux.n; i++) same_bits(names[g], one.aux.v[i], one.state[i], more.state[i], threads);
      unbind(&more);
    }
    mx_threads_forced = false;
    mx_threads_set(0);
    unbind(&one);
  }
}

TEST(a_plan_allocates_nothing) {
  static const char *const names[] = {"lenet", "resnet_small", "lstm_unrolled"};
  for (int g = 0; g < 3; g++) {
    bound b = {0};
    mx_executor_memory m;
    REQUIRE_OK(train_step(&b, names[g], MX_WRITE), err);
    CHECK_OK(mx_executor_forward(b.executor, false, &err), err);
    int64_t before = mx_memory_live_blocks();
    mx_memory_fail_at(1);
    CHECK_OK(mx_executor_forward(b.executor, true, &err), err);
    CHECK_OK(mx_executor_backward(b.executor, NULL, 0, &err), err);
    CHECK_OK(mx_executor_forward(b.executor, false, &err), err);
    mx_memory_fail_at(0);
    CHECK_INT(mx_memory_live_blocks(), before);
    REQUIRE_OK(mx_executor_memory_use(b.executor, &m, &err), err);
    CHECK(m.inference_bytes > 0 && m.inference_bytes < m.training_bytes && m.output_bytes > 0);
    unbind(&b);
  }
}

TEST(every_allocation_may_fail) {
  static const char *const names[] = {"mlp", "resnet_small"};
  for (int g = 0; g < 2; g++) {
    bound b = {0};
    REQUIRE_OK(train_step(&b, names[g], MX_ADD), err); /* what is made once per process is made */
    unbind(&b);
    mx_pool_trim();
    int64_t before = mx_memory_live_blocks(), n = 1;
    mx_status status = MX_ERR_MEMORY;
    for (; status != MX_OK && n < 100000; n += n < 300 ? 1 : 17) {
      mx_memory_fail_at(n);
      status = train_step(&b, names[g], MX_ADD);
      mx_memory_fail_at(0);
      unbind(&b);
      mx_pool_trim();
      if (status != MX_OK && status != MX_ERR_MEMORY)
        check_report(__FILE__, __LINE__, "%s: allocation %lld: %s", names[g], (long long)n, err.message);
      if (mx_memory_live_blocks() != before) {
        check_report(__FILE__, __LINE__, "%s: allocation %lld failed and left %lld blocks", names[g], (long long)n,
                     (long long)(mx_memory_live_blocks() - before));
        before = mx_memory_live_blocks();
      }
    }
    CHECK_INT(status, MX_OK);
  }
}

/* ---- training ---- */

/* One optimizer: an update operator with the names of its states, or a rule of its own. */
typedef struct optimizer {
  const char *id, *op, *params[20];
  int n_states;
  void (*rule)(float *w, const float *g, float *s0, float *s1, int64_t n);
} optimizer;

static const float wd = 0.001f, rescale = 1.0f / 32;

static void adagrad(float *w, const float *g, float *history, float *unused, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float d = g[i] * rescale;
    history[i] += d * d;
    w[i] -= 0.05f * (d / sqrtf(history[i] + 1e-7f) + wd * w[i]);
  }
}
static void adadelta(float *w, const float *g, float *acc_g, float *acc_delta, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float d = g[i] * rescale;
    acc_g[i] = 0.9f * acc_g[i] + 0.1f * d * d;
    float delta = sqrtf(acc_delta[i] + 1e-5f) / sqrtf(acc_g[i] + 1e-5f) * d;
    acc_delta[i] = 0.9f * acc_delta[i] + 0.1f * delta * delta;
    w[i] -= delta + wd * w[i];
  }
}

static const optimizer optimizers[] = {
    {"sgd", "sgd_update", {"lr", "0.1"}, 0, NULL},
    {"sgd_momentum_wd", "sgd_mom_update", {"lr", "0.1", "momentum", "0.9"}, 1, NULL},
    {"sgd_momentum_clip", "sgd_mom_update", {"lr", "0.1", "momentum", "0.9", "clip_gradient", "0.02"}, 1, NULL},
    {"nag", "nag_mom_update", {"lr", "0.1", "momentum", "0.9"}, 1, NULL},
    {"adam", "adam_update", {"beta1", "0.9", "beta2", "0.999", "epsilon", "1e-08"}, 2, NULL},
    {"rmsprop", "rmsprop_update", {"lr", "0.01", "gamma1", "0.95", "epsilon", "0.0001"}, 1, NULL},
    {"rmsprop_centered",
     "rmspropalex_update",
     {"lr", "0.01", "gamma1", "0.95", "gamma2", "0.9", "epsilon", "0.0001"},
     3,
     NULL},
    {"adagrad", NULL, {NULL}, 1, adagrad},
    {"adadelta", NULL, {NULL}, 2, adadelta},
    {"signum", "signum_update", {"lr", "0.01", "momentum", "0.9", "wd_lh", "0.001"}, 1, NULL},
    {"ftrl", "ftrl_update", {"lr", "0.1", "lamda1", "0.001", "beta", "1.0"}, 2, NULL},
};

static mx_status update(const optimizer *o, mx_array *weight, mx_array *grad, mx_array **states, int step) {
  if (o->rule) {
    o->rule(mx_array_data(weight), mx_array_data(grad), mx_array_data(states[0]),
            o->n_states > 1 ? mx_array_data(states[1]) : NULL, mx_array_size(weight));
    return MX_OK;
  }
  mx_dict attrs = MX_DICT_EMPTY;
  char lr[32];
  mx_status status = mx_dict_set(&attrs, "wd", "0.001", &err);
  if (status == MX_OK) status = mx_dict_set(&attrs, "rescale_grad", "0.03125", &err);
  for (int i = 0; o->params[i] && status == MX_OK; i += 2)
    status = mx_dict_set(&attrs, o->params[i], o->params[i + 1], &err);
  if (!strcmp(o->id, "adam") && status == MX_OK) { /* the bias correction is in the rate */
    snprintf(lr, sizeof(lr), "%.9g", 0.01 * sqrt(1 - pow(0.999, step)) / (1 - pow(0.9, step)));
    status = mx_dict_set(&attrs, "lr", lr, &err);
  }
  mx_array *in[] = {weight, grad, states[0], states[1], states[2]}, *out = weight;
  if (status == MX_OK) status = mx_invoke(mx_op_find(o->op), &attrs, in, 2 + o->n_states, &out, 1, cpu, true, &err);
  mx_dict_free(&attrs);
  return status;
}

/* Mean cross entropy of the probabilities. */
static double cross_entropy(const float *p, const float *label, int rows, int classes) {
  double sum = 0;
  for (int i = 0; i < rows; i++) sum -= log(p[i * classes + (int)label[i]]);
  return sum / rows;
}

static void train(const optimizer *o, const recorded *r) {
  bound b = {0};
  mx_array *states[MAX_ARRAYS][3] = {{NULL}};
  mx_shape data = mx_shape_of(32, 6);
  const double rtol = 1e-4, atol = 1e-5;
  const double *losses = find_numbers(r, "loss_before_each_step", "loss", 20);
  REQUIRE(losses);
  REQUIRE_OK(read_symbol(GRAPHS "training.symbol.json", &b.symbol), err);
  REQUIRE_OK(bind_shapes(&b, (const char *[]){"data"}, &data, 1, MX_WRITE, NULL), err);
  put_numbers(r, "arg", &b.args, b.arg);
  int label = index_of(&b.args, "softmax_label");
  for (int i = 0; i < b.args.n; i++)
    for (int k = 0; k < 3; k++) REQUIRE_OK(mx_array_zeros(cpu, &b.arg[i]->shape, MX_FLOAT32, &states[i][k], &err), err);
  for (int step = 1; step <= 20; step++) {
    REQUIRE_OK(mx_executor_forward(b.executor, true, &err), err);
    const float *p = mx_array_data(mx_executor_output(b.executor, 0));
    double loss = cross_entropy(p, mx_array_data(b.arg[label]), 32, 3);
    if (fabs(loss - losses[step - 1]) > rtol * losses[step - 1])
      check_report(__FILE__, __LINE__, "%s: loss before step %d is %.9g, expected %.9g", o->id, step, loss,
                   losses[step - 1]);
    REQUIRE_OK(mx_executor_backward(b.executor, NULL, 0, &err), err);
    char role[32];
    snprintf(role, sizeof(role), "after_%d", step);
    for (int i = 0; i < b.args.n; i++) {
      if (i == label || !strcmp(b.args.v[i], "data")) continue;
      if (step == 1) compare(r, "grad_step1", b.args.v[i], b.grad[i], 0, 1e-4, 1e-6);
      REQUIRE_OK(update(o, b.arg[i], b.grad[i], states[i], step), err);
      if (step % 5 == 0) compare(r, role, b.args.v[i], b.arg[i], 0, rtol, atol);
    }
  }
  REQUIRE_OK(mx_executor_forward(b.executor, false, &err), err);
  compare(r, "output_after_20", b.outs.v[0], mx_executor_output(b.executor, 0), 0, rtol, atol);
  for (int i = 0; i < b.args.n; i++)
    for (int k = 0; k < 3; k++) mx_array_release(states[i][k]);
  unbind(&b);
}

TEST(training) {
  size_t size, i;
  json_t *all = json_load_file(GRAPHS "training.case.json", 0, NULL), *c;
  char *numbers = file_bytes(GRAPHS "training.case.bin", &size);
  REQUIRE(all && numbers);
  int known = (int)(sizeof(optimizers) / sizeof(optimizers[0]));
  CHECK_INT(json_array_size(json_object_get(all, "cases")), known);
  json_array_foreach(json_object_get(all, "cases"), i, c) {
    recorded r = {json_object_get(c, "tensors"), numbers, text_in(c, "id")};
    int k = 0;
    while (k < known && strcmp(optimizers[k].id, r.id)) k++;
    REQUIRE(k < known);
    train(&optimizers[k], &r);
  }
  mx_invoke_clear_cache();
  free(numbers);
  json_decref(all);
}

/* ---- real models ---- */

/* Fills an input by its description: sin(0.05*i), i mod n, or a list. */
static void fill_input(mx_array *a, const json_t *how) {
  float *x = mx_array_data(a);
  int64_t n = mx_array_size(a), modulus = 1;
  const char *formula = json_string_value(how);
  if (formula && !strncmp(formula, "i mod ", 6)) modulus = atoi(formula + 6);
  for (int64_t i = 0; i < n; i++)
    x[i] = !formula            ? (float)json_number_value(json_array_get(how, (size_t)i))
           : formula[0] == 's' ? (float)sin(0.05 * (double)i)
                               : (float)(i % modulus);
}

/* Takes the stored arrays, "arg:" and "aux:", by name. */
static mx_status take_parameters(bound *b, const char *path) {
  mx_array_list l;
  MX_TRY(mx_params_load(path, cpu, &l, &err));
  mx_status status = MX_OK;
  for (int i = 0; i < l.n && status == MX_OK; i++) {
    bool aux = !strncmp(l.name[i], "aux:", 4);
    int at = index_of(aux ? &b->aux : &b->args, l.name[i] + 4);
    if (at >= 0) status = mx_array_copy(aux ? b->state[at] : b->arg[at], l.array[i], &err);
  }
  mx_array_list_free(&l);
  return status;
}

static double norm(const mx_array *a) {
  const float *x = mx_array_data(a);
  double sum = 0;
  for (int64_t i = 0; i < mx_array_size(a); i++) sum += (double)x[i] * x[i];
  return sqrt(sum);
}

static void check_norms(const char *model, const char *what, json_t *want, const mx_names *names, mx_array **arrays) {
  const char *name;
  json_t *w;
  json_object_foreach(want, name, w) {
    int i = index_of(names, name);
    if (i < 0 || !arrays[i]) {
      check_report(__FILE__, __LINE__, "%s: no %s of %s", model, what, name);
      continue;
    }
    double l2 = json_number_value(json_object_get(w, "l2")), got = norm(arrays[i]);
    if (!(fabs(got - l2) <= 5e-3 * l2 + 1e-6)) /* deep: the reference's own float32 noise is 3e-3 of it */
      check_report(__FILE__, __LINE__, "%s: %s of %s has norm %.6g, expected %.6g", model, what, name, got, l2);
  }
}

static void check_outputs(const bound *b, const char *folder, const char *model, const json_t *outputs) {
  size_t i, size;
  json_t *o;
  json_array_foreach(outputs, i, o) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, text_in(o, "file"));
    float *want = (float *)file_bytes(path, &size);
    const mx_array *out = mx_executor_output(b->executor, (int)i);
    REQUIRE(want && size == mx_array_bytes(out));
    const float *got = mx_array_data(out);
    for (size_t k = 0; k < size / 4; k++)
      if (!(fabs((double)got[k] - want[k]) <= 2e-4 * fabs(want[k]) + 2e-5)) {
        check_report(__FILE__, __LINE__, "%s: output %zu[%zu] is %.9g, expected %.9g", model, i, k, got[k], want[k]);
        break;
      }
    free(want);
  }
}

static void check_model(const char *folder, const char *path) {
  char file[4096];
  json_t *want = json_load_file(path, 0, NULL), *input;
  REQUIRE(want);
  if (!json_object_get(want, "params_file")) { /* a symbol alone */
    json_decref(want);
    return;
  }
  bound b = {0};
  const char *keys[8], *name, *model = base_of(path);
  mx_shape shapes[8];
  int n = 0;
  json_object_foreach(json_object_get(want, "inputs"), name, input) {
    keys[n] = name;
    shapes[n++] = shape_of(json_object_get(input, "shape"));
  }
  snprintf(file, sizeof(file), "%s/%s", folder, text_in(want, "symbol_file"));
  REQUIRE_OK(read_symbol(file, &b.symbol), err);
  REQUIRE_OK(bind_shapes(&b, keys, shapes, n, MX_WRITE, NULL), err);
  snprintf(file, sizeof(file), "%s/%s", folder, text_in(want, "params_file"));
  REQUIRE_OK(take_parameters(&b, file), err);
  json_object_foreach(json_object_get(want, "inputs"), name, input)
      fill_input(b.arg[index_of(&b.args, name)], json_object_get(input, "fill"));
  REQUIRE_OK(mx_executor_forward(b.executor, false, &err), err);
  check_outputs(&b, folder, model, json_object_get(want, "outputs"));
  const json_t *step = json_object_get(want, "train_step");
  if (step) {
    mx_array *heads[8] = {NULL};
    int n_out = mx_executor_count_outputs(b.executor);
    REQUIRE_OK(mx_executor_forward(b.executor, true, &err), err);
    for (int i = 0; i < n_out; i++) {
      REQUIRE_OK(mx_array_new(cpu, &mx_executor_output(b.executor, i)->shape, MX_FLOAT32, &heads[i], &err), err);
      REQUIRE_OK(fill(heads[i], 1), err);
    }
    REQUIRE_OK(mx_executor_backward(b.executor, heads, n_out, &err), err);
    check_norms(model, "gradient", json_object_get(step, "grads"), &b.args, b.grad);
    check_norms(model, "state", json_object_get(step, "aux_after"), &b.aux, b.state);
    for (int i = 0; i < n_out; i++) mx_array_release(heads[i]);
  }
  unbind(&b);
  json_decref(want);
}

TEST(real_models) {
  char folder[2048];
  int n;
  snprintf(folder, sizeof(folder), "%s/models", real_data());
  char **list = files_of(folder, ".expected.json", &n);
  CHECK(n > 0);
  for (int i = 0; i < n; i++) check_model(folder, list[i]);
  free_files(list, n);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return 1;
  RUN(mlp);
  RUN(lenet);
  RUN(resnet_small);
  RUN(lstm_unrolled);
  RUN(group);
  RUN(scalar_ops);
  RUN(any_number_of_threads_gives_the_same_numbers);
  RUN(a_plan_allocates_nothing);
  RUN(every_allocation_may_fail);
  RUN(training);
  if (real_data()) RUN(real_models);
  return check_finish();
}
