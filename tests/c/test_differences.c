/* Every gradient against central differences, in double precision: the inputs are those of the golden vectors, so that
 * every operator is seen with the parameters that the recorded cases have. What is left out is listed with the reason,
 * and every differentiable operator must have been seen or be listed.
 *
 *   test_differences [--verbose] */
#include "call.h"
#include "golden.h"
#include "graph/symbol.h"

#define MAX_ARRAYS 64
enum { ELEMENTS = 24 }; /* looked at in each input */
static const double step = 1e-5, tolerance = 2e-6;
static bool verbose;

/* Operators and cases (OP/number) that differences say nothing of. */
static const struct {
  const char *what, *why;
} left_out[] = {
    {"BatchNorm/10", "the gradients of mean and variance are zero, as in the reference"},
    {"BatchNorm_v1/6", "likewise"},
    {"GroupNorm/3", "likewise"},
    {"LayerNorm/3", "likewise"},
    {"IdentityAttachKLSparseReg", "adds the gradient of a penalty to what passes"},
    {"LeakyReLU/6", "selu: the recorded gradient takes the output for the input"},
    {"LeakyReLU/7", "likewise"},
    {"LeakyReLU/8", "likewise"},
    {"Pooling/4", "the lowest number stands for windows that lie in the padding: nothing can be subtracted"},
    {"SoftmaxActivation/1", "the recorded gradient is along another axis than the softmax"},
    {"_greater", "a step, and some inputs stand on it"},
    {"_greater_equal", "likewise"},
    {"_lesser", "likewise"},
    {"_lesser_equal", "likewise"},
    {"_greater_scalar", "likewise"},
    {"_greater_equal_scalar", "likewise"},
    {"_lesser_scalar", "likewise"},
    {"_lesser_equal_scalar", "likewise"},
    {"broadcast_greater", "likewise"},
    {"broadcast_greater_equal", "likewise"},
    {"broadcast_lesser", "likewise"},
    {"broadcast_lesser_equal", "likewise"},
    {"_linalg_potrf", "half of the gradient is on the triangle that is not read: test_linalg.c moves both"},
    {"_linalg_syevd", "likewise"},
    {"DotProductAttention", "in test_attention.c"},
    {"RotaryEmbedding", "in test_attention.c"},
    {"Custom", "in test_custom.c"},
    {"_sample_multinomial", "draws"},
};
enum { LEFT_OUT = sizeof(left_out) / sizeof(left_out[0]) };
static bool used[LEFT_OUT];

static bool is_left_out(const char *what) {
  for (int i = 0; i < LEFT_OUT; i++)
    if (!strcmp(left_out[i].what, what)) return used[i] = true;
  return false;
}

/* ---- one case ---- */

typedef struct work {
  mx_dict attrs;
  int n, n_out; /* inputs in the operator's order */
  mx_array *in[MAX_ARRAYS], *kept[MAX_ARRAYS], *grad[MAX_ARRAYS], *head[MAX_ARRAYS];
  mx_array *args[MAX_ARRAYS], *grads[MAX_ARRAYS], *aux[MAX_ARRAYS];
  mx_req req[MAX_ARRAYS];
  mx_symbol *input[MAX_ARRAYS], *symbol;
  mx_executor *executor;
} work;

static void work_free(work *w) {
  mx_executor_release(w->executor);
  mx_symbol_release(w->symbol);
  for (int i = 0; i < MAX_ARRAYS; i++) mx_symbol_release(w->input[i]);
  call_release(w->in, MAX_ARRAYS);
  call_release(w->kept, MAX_ARRAYS);
  call_release(w->grad, MAX_ARRAYS);
  call_release(w->head, MAX_ARRAYS);
  mx_dict_free(&w->attrs);
}

/* Numbers become double, indices and flags stay what they are. */
static mx_status load(const tensor *t, mx_array **out) {
  mx_dtype type = mx_dtype_is_float(t->dtype) ? MX_FLOAT64 : t->dtype;
  MX_TRY(mx_array_new(call_device, &t->shape, type, out, &call_error));
  mx_convert(t->data, t->dtype, mx_array_data(*out), type, mx_array_size(*out));
  return MX_OK;
}

static mx_status bind(const golden *g, const mx_op *op, work *w) {
  void *params;
  tensor t;
  int n_args = count_names(g, "arguments"), n_aux = count_names(g, "auxiliary_states"), arg = 0, aux = 0;
  w->n = n_args + n_aux;
  MX_TRY(attributes(g, &w->attrs, &call_error));
  MX_TRY(mx_op_params_new(op, &w->attrs, &params, &call_error));
  mx_status status = MX_OK;
  for (int i = 0; i < w->n && status == MX_OK; i++) {
    bool state = aux < n_aux && mx_op_is_aux(op, params, i);
    const char *name = state ? name_at(g, "auxiliary_states", aux) : name_at(g, "arguments", arg);
    if (!find_tensor(g, state ? "aux" : "arg", name, 0, &t))
      status = mx_fail(&call_error, MX_ERR_FORMAT, "There is no value for '%s'.", name);
    if (status == MX_OK) status = load(&t, &w->in[i]);
    if (status == MX_OK) status = load(&t, &w->kept[i]);
    if (status == MX_OK) status = mx_symbol_variable(name, &w->input[i], &call_error);
    if (status != MX_OK) break;
    if (state) {
      w->aux[aux++] = w->in[i];
      continue;
    }
    const char *asked = text_of(json_object_get(g->json, "grad_req"), name);
    w->req[arg] = w->in[i]->dtype == MX_FLOAT64 && strcmp(asked, "null") ? MX_WRITE : MX_NULL;
    if (w->req[arg] == MX_WRITE) {
      status = mx_array_zeros(call_device, &w->in[i]->shape, MX_FLOAT64, &w->grad[i], &call_error);
      w->grads[arg] = w->grad[i];
    }
    w->args[arg++] = w->in[i];
  }
  mx_op_params_free(op, params);
  MX_TRY(status);
  MX_TRY(mx_symbol_apply(op, "x", "x", &w->attrs, NULL, w->input, w->n, &w->symbol, &call_error));
  MX_TRY(mx_executor_bind(w->symbol, call_device, w->args, w->grads, w->req, w->aux, &w->executor, &call_error));
  w->n_out = mx_executor_count_outputs(w->executor);
  return MX_OK;
}

/* States start as they were, since running may change them. */
static mx_status forward(work *w) {
  for (int i = 0; i < w->n; i++)
    if (!w->grad[i]) MX_TRY(mx_array_copy(w->in[i], w->kept[i], &call_error));
  return mx_executor_forward(w->executor, true, &call_error);
}

static mx_status objective(work *w, double *out) {
  MX_TRY(forward(w));
  *out = 0;
  for (int k = 0; k < w->n_out; k++) {
    const mx_array *y = mx_executor_output(w->executor, k);
    for (int64_t i = 0; y->dtype == MX_FLOAT64 && i < mx_array_size(y); i++)
      *out += call_value(y, i) * call_value(w->head[k], i);
  }
  return MX_OK;
}

static mx_status compare(const golden *g, work *w, char *diff, size_t size) {
  MX_TRY(forward(w));
  for (int k = 0; k < w->n_out; k++) {
    const mx_array *y = mx_executor_output(w->executor, k);
    w->head[k] = y->dtype == MX_FLOAT64 ? call_random(y->dtype, y->shape, 0.5, 1.5, 900 + (uint64_t)k)
                                        : call_random(y->dtype, y->shape, 0, 0, 1);
  }
  MX_TRY(mx_executor_backward(w->executor, w->head, w->n_out, &call_error));
  for (int i = 0; i < w->n; i++) {
    if (!w->grad[i]) continue;
    int64_t n = mx_array_size(w->in[i]), every = n / ELEMENTS + 1;
    double *x = mx_array_data(w->in[i]);
    for (int64_t j = 0; j < n && !diff[0]; j += every) {
      double keep = x[j], h = step * fmax(1, fabs(keep)), up, down;
      x[j] = keep + h;
      MX_TRY(objective(w, &up));
      x[j] = keep - h;
      MX_TRY(objective(w, &down));
      x[j] = keep;
      double want = (up - down) / (2 * h), got = call_value(w->grad[i], j);
      if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        snprintf(diff, size, "%s: gradient of input %d at %lld is %.9g, differences say %.9g", g->id, i, (long long)j,
                 got, want);
    }
  }
  return MX_OK;
}

static bool run_case(const golden *g, const mx_op *op) {
  static work w;
  char diff[512] = "";
  memset(&w, 0, sizeof(w));
  mx_status status = bind(g, op, &w);
  if (status == MX_OK) status = compare(g, &w, diff, sizeof(diff));
  if (status != MX_OK) snprintf(diff, sizeof(diff), "%s: %.400s", g->id, call_error.message);
  work_free(&w);
  if (diff[0]) check_report(__FILE__, __LINE__, "%s", diff), check_now.shown = 0;
  if (verbose) printf("%s %s\n", diff[0] ? "FAIL" : "ok  ", g->id);
  return !diff[0];
}

/* ---- all of them ---- */

static const char *seen[1024];
static int n_seen;

TEST(recorded_cases) {
  int n, cases = 0;
  char **files = files_of(MX_TESTS_DIR "/golden", ".json", &n);
  for (int i = 0; i < n; i++) {
    golden_file f;
    if (!golden_open(MX_TESTS_DIR "/golden", files[i], &f)) continue;
    const mx_op *op = mx_op_find(f.op);
    if (is_left_out(f.op)) op = NULL;
    for (int k = 0; op && op->gradient && f.data && k < f.n; k++) {
      golden g = golden_case(&f, k);
      if (g.imperative || !g.has_gradient || (op->flags & MX_OP_LOSS) || is_left_out(g.id)) continue;
      cases++;
      run_case(&g, op);
      if (!n_seen || strcmp(seen[n_seen - 1], op->name)) seen[n_seen++] = op->name;
    }
    golden_close(&f);
  }
  free_files(files, n);
  if (verbose) printf("%d cases of %d operators\n", cases, n_seen);
  CHECK(cases > 900);
}

/* Operators without recorded cases. */
static void check(const char *op, const char *const *attrs, mx_shape a, mx_shape b, uint32_t wanted) {
  mx_array *in[2] = {call_random(MX_FLOAT64, a, 0.1, 0.9, 1), b.ndim ? call_random(MX_FLOAT64, b, 0.1, 0.9, 2) : NULL};
  call_check_gradient(op, attrs, in, 1 + (b.ndim > 0), wanted, 0, step, tolerance);
  call_release(in, 2);
  seen[n_seen++] = op;
}
TEST(other_operators) {
  const mx_shape none = {.ndim = 0};
  check("gelu_tanh", NULL, mx_shape_of(3, 4), none, 1);
  check("silu", NULL, mx_shape_of(3, 4), none, 1);
  check("_CrossDeviceCopy", NULL, mx_shape_of(3, 4), none, 1);
  check("_grad_add", NULL, mx_shape_of(3, 4), mx_shape_of(3, 4), 3);
  check("batch_take", NULL, mx_shape_of(3, 4), mx_shape_of(3), 1);
  check("RMSNorm", NULL, mx_shape_of(3, 4), mx_shape_of(4), 3);
  check("RMSNorm", ATTRS("axis", "0"), mx_shape_of(3, 4), mx_shape_of(3), 3);
  check("_square_sum", ATTRS("axis", "1"), mx_shape_of(3, 4), none, 1);
  check("_slice_assign", ATTRS("begin", "(1, 0)", "end", "(3, 4)", "step", "(1, 2)"), mx_shape_of(3, 4),
        mx_shape_of(2, 2), 3);
  check("_slice_assign_scalar", ATTRS("scalar", "2", "begin", "(0, 1)", "end", "(2, 3)"), mx_shape_of(3, 4), none, 1);
}

TEST(nothing_forgotten) {
  for (int i = 0; i < mx_op_count(); i++) {
    const mx_op *op = mx_op_at(i);
    if (!op->gradient || op->flags & (MX_OP_HIDDEN | MX_OP_LOSS | MX_OP_IMPERATIVE)) continue; /* losses: test_loss.c */
    bool found = false;
    for (int k = 0; k < n_seen && !found; k++) found = !strcmp(seen[k], op->name);
    if (!found && !is_left_out(op->name))
      check_report(__FILE__, __LINE__, "%s has no case", op->name), check_now.shown = 0;
  }
  for (int i = 0; i < LEFT_OUT; i++)
    if (!used[i]) check_report(__FILE__, __LINE__, "%s need not be left out", left_out[i].what);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--verbose")) verbose = true, argc = 1;
  if (!call_start(argc, argv)) return 1;
  RUN(recorded_cases);
  RUN(other_operators);
  RUN(nothing_forgotten);
  return check_finish();
}
