/* Every gradient against central differences, in double precision: the inputs are those of the golden vectors, so that
 * every operator is seen with the parameters that the recorded cases have, and with every other value of its choices,
 * flags and axes, in up to six dimensions. The gradients must be the same when they are added, when only one is asked
 * for, and when the operator stands between others. An operator without gradient must not change smoothly with its
 * inputs. What is left out is listed with the reason, and every operator must have been seen or be listed.
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
    {"BatchNorm/11", "likewise"},
    {"BatchNorm_v1/6", "likewise"},
    {"GroupNorm/3", "likewise"},
    {"LayerNorm/3", "likewise"},
    {"IdentityAttachKLSparseReg", "adds the gradient of a penalty to what passes"},
    {"LeakyReLU/6", "selu: the recorded gradient takes the output for the input"},
    {"LeakyReLU/7", "likewise"},
    {"LeakyReLU/8", "likewise"},
    {"BatchNorm, output_mean_var = True", "likewise"},
    {"BatchNorm_v1, output_mean_var = True", "likewise"},
    {"GroupNorm, output_mean_var = True", "likewise"},
    {"LayerNorm, output_mean_var = True", "likewise"},
    {"LeakyReLU, act_type = selu", "as LeakyReLU/6"},
    {"Pooling/4", "the lowest number stands for windows that lie in the padding: nothing can be subtracted"},
    {"SoftmaxActivation/1", "the recorded gradient is along another axis than the softmax"},
    {"SoftmaxActivation, more dimensions", "likewise"},
    {"SoftmaxActivation, mode = instance", "likewise"},
    {"_random_pdf_generalized_negative_binomial, more dimensions", "digamma has the reference's rounding to float"},
    {"BlockGrad", "made to have none"},
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
  int n, n_args, n_out; /* n inputs in the operator's order */
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

/* What is changed in a recorded case: a parameter, or dimensions before the others (all of the same length). */
typedef struct variant {
  const char *param, *value;
  int more_dims;
  int64_t length;
} variant;

/* Numbers become double, indices and flags stay what they are. Copies along new dimensions differ a little, so that
 * none are equal, and no number leaves the domain of its function. */
static mx_status load(const tensor *t, const variant *v, mx_array **out) {
  mx_dtype type = mx_dtype_is_float(t->dtype) ? MX_FLOAT64 : t->dtype;
  mx_shape shape = {.ndim = t->shape.ndim + v->more_dims};
  if (shape.ndim > MX_MAX_NDIM) return mx_fail(&call_error, MX_ERR_SHAPE, "Too many dimensions.");
  for (int i = 0; i < shape.ndim; i++) shape.dim[i] = i < v->more_dims ? v->length : t->shape.dim[i - v->more_dims];
  MX_TRY(mx_array_new(call_device, &shape, type, out, &call_error));
  int64_t size = mx_shape_size(&t->shape), n = mx_array_size(*out);
  for (int64_t i = 0; i < n; i += size)
    mx_convert(t->data, t->dtype, (char *)mx_array_data(*out) + (size_t)i * mx_dtype_size(type), type, size);
  if (type != MX_FLOAT64 || n == size) return MX_OK;
  double *x = mx_array_data(*out), *u = malloc((size_t)n * sizeof(double));
  call_noise(u, n, 0.95, 1, (uint64_t)n);
  for (int64_t i = size; i < n; i++) x[i] *= u[i];
  free(u);
  return MX_OK;
}

static mx_status bind(const golden *g, const mx_op *op, const variant *v, work *w) {
  void *params;
  tensor t;
  int n_aux = count_names(g, "auxiliary_states"), arg = 0, aux = 0;
  w->n_args = count_names(g, "arguments");
  w->n = w->n_args + n_aux;
  MX_TRY(attributes(g, &w->attrs, &call_error));
  if (v->param) MX_TRY(mx_dict_set(&w->attrs, v->param, v->value, &call_error));
  MX_TRY(mx_op_params_new(op, &w->attrs, &params, &call_error));
  mx_status status = MX_OK;
  for (int i = 0; i < w->n && status == MX_OK; i++) {
    bool state = aux < n_aux && mx_op_is_aux(op, params, i);
    const char *name = state ? name_at(g, "auxiliary_states", aux) : name_at(g, "arguments", arg);
    if (!find_tensor(g, state ? "aux" : "arg", name, 0, &t))
      status = mx_fail(&call_error, MX_ERR_FORMAT, "There is no value for '%s'.", name);
    if (status == MX_OK) status = load(&t, v, &w->in[i]);
    if (status == MX_OK) status = load(&t, v, &w->kept[i]);
    if (status == MX_OK) status = mx_symbol_variable(name, &w->input[i], &call_error);
    if (status != MX_OK) break;
    if (state) {
      w->aux[aux++] = w->in[i];
      continue;
    }
    bool asked = !g->has_gradient || strcmp(text_of(json_object_get(g->json, "grad_req"), name), "null");
    w->req[arg] = w->in[i]->dtype == MX_FLOAT64 && asked ? MX_WRITE : MX_NULL;
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
  mx_random_seed(1);
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

/* The sum of the outputs for x[j] + h, less `base`: 0 at a kink or a step, where the two sides do not agree, in
 * *smooth. */
static mx_status slope(work *w, double *x, double base, double *out, bool *smooth) {
  double keep = *x, h = step * fmax(1, fabs(keep)), up, down;
  *x = keep + h;
  MX_TRY(objective(w, &up));
  *x = keep - h;
  MX_TRY(objective(w, &down));
  *x = keep;
  *out = (up - down) / (2 * h);
  *smooth = fabs((up - base) - (base - down)) <= 1e-3 * h * (1 + fabs(*out)) + 1e-9 * (1 + fabs(base));
  return MX_OK;
}

static mx_status compare(const char *id, work *w, long *compared, char *diff, size_t size) {
  double base, want;
  bool smooth;
  MX_TRY(forward(w));
  for (int k = 0; k < w->n_out; k++) {
    const mx_array *y = mx_executor_output(w->executor, k);
    w->head[k] = y->dtype == MX_FLOAT64 ? call_random(y->dtype, y->shape, 0.5, 1.5, 900 + (uint64_t)k)
                                        : call_random(y->dtype, y->shape, 0, 0, 1);
  }
  MX_TRY(objective(w, &base));
  MX_TRY(mx_executor_backward(w->executor, w->head, w->n_out, &call_error));
  for (int i = 0; i < w->n; i++) {
    if (!w->grad[i]) continue;
    int64_t n = mx_array_size(w->in[i]), every = n / ELEMENTS + 1;
    for (int64_t j = 0; j < n && !diff[0]; j += every) {
      MX_TRY(slope(w, (double *)mx_array_data(w->in[i]) + j, base, &want, &smooth));
      if (!smooth) continue;
      ++*compared;
      double got = call_value(w->grad[i], j);
      if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        snprintf(diff, size, "%s: gradient of input %d at %lld is %.9g, differences say %.9g", id, i, (long long)j, got,
                 want);
    }
  }
  return MX_OK;
}

/* ---- the same gradients in other circumstances ---- */

/* Binds `s` to the same arrays and compares the gradients with `first`: those of argument `only` (-1: all), added to
 * what is there if `req` says so, the others left alone. */
static mx_status run_again(const char *id, work *w, const mx_symbol *s, mx_req req, int only, double scale,
                           double *const *first, char *diff, size_t size) {
  mx_req reqs[MAX_ARRAYS];
  mx_executor *kept = w->executor;
  for (int i = 0; i < w->n_args; i++) {
    bool asked = w->req[i] != MX_NULL && (only < 0 || only == i);
    reqs[i] = asked ? req : MX_NULL;
    for (int64_t k = 0; w->grads[i] && k < mx_array_size(w->grads[i]); k++)
      ((double *)mx_array_data(w->grads[i]))[k] = 3;
  }
  MX_TRY(mx_executor_bind(s, call_device, w->args, w->grads, reqs, w->aux, &w->executor, &call_error));
  mx_status status = forward(w);
  if (status == MX_OK) status = mx_executor_backward(w->executor, w->head, w->n_out, &call_error);
  mx_executor_release(w->executor);
  w->executor = kept;
  for (int i = 0; status == MX_OK && i < w->n_args; i++)
    for (int64_t k = 0; w->grads[i] && k < mx_array_size(w->grads[i]) && !diff[0]; k++) {
      double want = (reqs[i] == MX_WRITE ? 0 : 3) + (reqs[i] == MX_NULL ? 0 : scale * first[i][k]);
      double got = call_value(w->grads[i], k);
      if (got != want && !(fabs(got - want) <= 1e-9 * (1 + fabs(want))) && !(isnan(got) && isnan(want)))
        snprintf(diff, size, "%s: with request %d of argument %d%s, gradient %d at %lld is %.9g, not %.9g", id, req,
                 only, s == w->symbol ? "" : " amid others", i, (long long)k, got, want);
    }
  return status;
}

static mx_status doubled(const mx_symbol *of, int output, mx_symbol **out) {
  mx_dict attrs = MX_DICT_EMPTY;
  mx_symbol *one = NULL;
  MX_TRY(mx_symbol_output(of, output, &one, &call_error));
  mx_status status = mx_dict_set(&attrs, "scalar", "2", &call_error);
  if (status == MX_OK)
    status = mx_symbol_apply(mx_op_find("_mul_scalar"), "twice", NULL, &attrs, NULL, &one, 1, out, &call_error);
  mx_dict_free(&attrs);
  mx_symbol_release(one);
  return status;
}

/* The operator between others that only double: memory is shared, and gradients are added, as in a network. */
static mx_status amid_others(const char *id, const mx_op *op, work *w, double *const *first, char *diff, size_t size) {
  mx_symbol *in[MAX_ARRAYS] = {NULL}, *out[MAX_ARRAYS] = {NULL}, *inner = NULL, *outer = NULL;
  mx_status status = MX_OK;
  for (int i = 0; i < w->n && status == MX_OK; i++) {
    double *x = mx_array_data(w->in[i]);
    if (!w->grad[i])
      in[i] = mx_symbol_retain(w->input[i]);
    else
      status = doubled(w->input[i], 0, &in[i]);
    for (int64_t k = 0; w->grad[i] && k < mx_array_size(w->in[i]); k++) x[k] /= 2;
  }
  if (status == MX_OK) status = mx_symbol_apply(op, "y", "y", &w->attrs, NULL, in, w->n, &inner, &call_error);
  for (int k = 0; k < w->n_out && status == MX_OK; k++) {
    if (w->head[k]->dtype == MX_FLOAT64)
      status = doubled(inner, k, &out[k]);
    else
      status = mx_symbol_output(inner, k, &out[k], &call_error);
  }
  if (status == MX_OK) status = mx_symbol_group(out, w->n_out, &outer, &call_error);
  if (status == MX_OK) status = run_again(id, w, outer, MX_WRITE, -1, 4, first, diff, size);
  mx_symbol_release(inner);
  mx_symbol_release(outer);
  for (int i = 0; i < MAX_ARRAYS; i++) mx_symbol_release(in[i]), mx_symbol_release(out[i]);
  return status;
}

static mx_status circumstances(const char *id, const mx_op *op, work *w, char *diff, size_t size) {
  double *first[MAX_ARRAYS] = {NULL};
  for (int i = 0; i < w->n_args; i++) {
    size_t bytes = w->grads[i] ? mx_array_bytes(w->grads[i]) : 0;
    first[i] = malloc(bytes + 1);
    if (bytes) memcpy(first[i], mx_array_data(w->grads[i]), bytes);
  }
  mx_status status = run_again(id, w, w->symbol, MX_ADD, -1, 1, first, diff, size);
  for (int i = 0; i < w->n_args && status == MX_OK; i++)
    if (w->grads[i]) status = run_again(id, w, w->symbol, MX_WRITE, i, 1, first, diff, size);
  if (status == MX_OK && !diff[0]) status = amid_others(id, op, w, first, diff, size);
  for (int i = 0; i < w->n_args; i++) free(first[i]);
  return status;
}

/* Elements that were compared, or -1 when the case cannot be bound: fine for a variant, a failure otherwise. */
static long run_case(const golden *g, const mx_op *op, const variant *v) {
  static work w;
  char diff[512] = "", id[160];
  long compared = 0;
  bool recorded = !v->param && !v->more_dims;
  char change[80] = "more dimensions";
  memset(&w, 0, sizeof(w));
  if (v->param) snprintf(change, sizeof(change), "%s = %s", v->param, v->value);
  snprintf(id, sizeof(id), "%s, %s", op->name, change);
  if (is_left_out(g->id) || is_left_out(id)) return -1;
  snprintf(id, sizeof(id), recorded ? "%s" : "%s, %s (%d of %d)", g->id, change, v->more_dims, (int)v->length);
  mx_status status = bind(g, op, v, &w);
  if (status == MX_OK) status = forward(&w);
  if (status != MX_OK && !recorded) return work_free(&w), -1;
  if (status == MX_OK) status = compare(id, &w, &compared, diff, sizeof(diff));
  if (status == MX_OK && !diff[0]) status = circumstances(id, op, &w, diff, sizeof(diff));
  if (status != MX_OK) snprintf(diff, sizeof(diff), "%s: %.300s", id, call_error.message);
  work_free(&w);
  if (diff[0]) check_report(__FILE__, __LINE__, "%s", diff), check_now.shown = 0;
  if (verbose) printf("%s %s (%ld)\n", diff[0] ? "FAIL" : "ok  ", id, compared);
  return compared;
}

/* ---- all of them ---- */

static const char *seen[1024];
static int n_seen;

/* Losses have gradients of their own (test_loss.c), updates of weights are what gradients are for. */
static bool is_apart(const mx_op *op) {
  return op->flags & (MX_OP_LOSS | MX_OP_HIDDEN | MX_OP_IMPERATIVE) || !strcmp(op->family, "Optimizer updates");
}

static void each_case(void (*run)(const golden *, const mx_op *)) {
  int n;
  char **files = files_of(MX_TESTS_DIR "/golden", ".json", &n);
  for (int i = 0; i < n; i++) {
    golden_file f;
    if (!golden_open(MX_TESTS_DIR "/golden", files[i], &f)) continue;
    const mx_op *op = mx_op_find(f.op);
    if (is_left_out(f.op)) op = NULL;
    for (int k = 0; op && !is_apart(op) && f.data && k < f.n; k++) {
      golden g = golden_case(&f, k);
      /* infinities, ties of rounding; numbers so large that differences drown */
      if (!g.imperative && strcmp(g.tag, "special") && strcmp(g.tag, "large")) run(&g, op);
    }
    golden_close(&f);
  }
  free_files(files, n);
}

static int cases, variants;
static void run_recorded(const golden *g, const mx_op *op) {
  cases++;
  run_case(g, op, &(variant){NULL});
  if (!n_seen || strcmp(seen[n_seen - 1], op->name)) seen[n_seen++] = op->name;
}
TEST(recorded_cases) {
  each_case(run_recorded);
  if (verbose) printf("%d cases of %d operators\n", cases, n_seen);
  CHECK(cases > 1300);
}

/* Every value of every choice and flag, every axis, and up to six dimensions, as far as the recorded arrays fit. */
static void run_variants(const golden *g, const mx_op *op) {
  static const char *const flags[] = {"True", "False", NULL}, *const opt_flags[] = {"True", "False", "None", NULL};
  static const char *const axes[] = {"-4", "-3", "-2", "-1", "0", "1", "2", "3", NULL};
  static const char *const sets[] = {"()", "(0,)", "(1,)", "(-1,)", "(0, 1)", "(0, -1)", "(2, 0)", "(0, 1, 2)", NULL};
  for (const mx_param *p = op->params; p && p->name; p++) {
    bool axis = strstr(p->name, "axis") || strstr(p->name, "axes") || !strncmp(p->name, "dim", 3);
    const char *const *values = p->kind == MX_PARAM_BOOL       ? flags
                                : p->kind == MX_PARAM_OPT_BOOL ? opt_flags
                                : p->kind == MX_PARAM_ENUM     ? p->choices
                                : !axis                        ? NULL
                                : p->kind == MX_PARAM_TUPLE    ? sets
                                                               : axes;
    for (int k = 0; values && values[k]; k++) variants += run_case(g, op, &(variant){p->name, values[k]}) > 0;
  }
  for (int more = 1; more < 6; more++)
    for (int length = 1; length <= 2; length++)
      variants += run_case(g, op, &(variant){.more_dims = more, .length = length}) > 0;
}
TEST(changed_cases) {
  each_case(run_variants);
  if (verbose) printf("%d variants\n", variants);
  CHECK(variants > 15000);
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

  static const double places[] = {2, 0, 1, 3};
  mx_array *set[3] = {call_random(MX_FLOAT64, mx_shape_of(3, 4), 0.1, 0.9, 1),
                      call_random(MX_FLOAT64, mx_shape_of(2), 0.1, 0.9, 2),
                      call_array(MX_INT64, mx_shape_of(2, 2), places)};
  call_check_gradient("_scatter_set_nd", ATTRS("shape", "(3, 4)"), set, 3, 3, 0, step, tolerance);
  call_release(set, 3);
  seen[n_seen++] = "_scatter_set_nd";
}

TEST(nothing_forgotten) {
  for (int i = 0; i < mx_op_count(); i++) {
    const mx_op *op = mx_op_at(i);
    if (is_apart(op) || (!op->gradient && (op->flags & MX_OP_RANDOM || op->n_in == 0))) continue;
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
  RUN(changed_cases);
  RUN(other_operators);
  RUN(nothing_forgotten);
  return check_finish();
}
