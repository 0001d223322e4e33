/* Custom: operators of the host, here C functions. Composition, inference, gradients against differences, states,
 * saved graphs, definitions that change, failures of the host and of every allocation. */
#include "call.h"
#include "core/memory.h"
#include "graph/symbol.h"
#include "ops/custom.h"

/* ---- the host: sum = factor * x + y, product = x * y; the state counts forward runs ---- */

static bool fails;

static double factor_of(const mx_custom_params *p) {
  const char *text = mx_dict_get(&p->given, "factor");
  return text ? atof(text) : 1;
}

static mx_status host_check(const mx_custom_params *p, mx_error *err) {
  for (int i = 0; i < p->given.n; i++)
    if (strcmp(p->given.key[i], "factor"))
      return mx_fail(err, MX_ERR_VALUE, "'%s' has no parameter '%s'.", p->custom->name, p->given.key[i]);
  return MX_OK;
}

static mx_status host_shape(const mx_custom_params *p, mx_shape *in, mx_shape *out, mx_error *err) {
  const mx_custom *c = p->custom;
  for (int i = 1; i < c->n_args; i++) MX_TRY(mx_shape_merge(&in[i], &in[0], c->names[i], err));
  for (int i = 0; i < c->n_out; i++) MX_TRY(mx_shape_merge(&out[i], &in[0], "output", err));
  mx_shape one = mx_shape_of(1);
  for (int i = 0; i < c->n_aux; i++) MX_TRY(mx_shape_merge(&in[c->n_args + i], &one, "state", err));
  return MX_OK;
}

static mx_status host_dtype(const mx_custom_params *p, mx_dtype *in, mx_dtype *out, mx_error *err) {
  mx_dtype t = in[0];
  for (int i = 0; i < p->custom->n_args + p->custom->n_aux; i++) in[i] = t;
  for (int i = 0; i < p->custom->n_out; i++) out[i] = t;
  return MX_OK;
}

static mx_status host_forward(const mx_custom_params *p, const mx_call *c, mx_error *err) {
  if (fails) return mx_fail(err, MX_ERR_CALLBACK, "'%s' does not want to.", p->custom->name);
  double *x = c->in[0].data, *y = c->in[1].data, factor = factor_of(p);
  for (int64_t i = 0; i < mx_shape_size(&c->in[0].shape); i++) {
    if (c->req[0] != MX_NULL) ((double *)c->out[0].data)[i] = factor * x[i] + y[i];
    if (c->n_out > 1 && c->req[1] != MX_NULL) ((double *)c->out[1].data)[i] = x[i] * y[i];
  }
  if (p->custom->n_aux) ++*(double *)c->in[2].data;
  return MX_OK;
}

static mx_status host_backward(const mx_custom_params *p, const mx_call *c, mx_error *err) {
  const mx_tensor *in = c->in + 2;
  CHECK(c->n_in == 2 + p->custom->n_args + p->custom->n_aux + 2 && c->n_out == p->custom->n_args);
  double *sum = c->in[0].data, *product = c->in[1].data, *x = in[0].data, *y = in[1].data, factor = factor_of(p);
  for (int64_t i = 0; i < mx_shape_size(&in[0].shape); i++) {
    if (c->req[0] != MX_NULL) ((double *)c->out[0].data)[i] = factor * sum[i] + y[i] * product[i];
    if (c->req[1] != MX_NULL) ((double *)c->out[1].data)[i] = sum[i] + x[i] * product[i];
  }
  return MX_OK;
}

static const mx_custom_host host = {host_check, host_shape, host_dtype, host_forward, host_backward};
static const mx_custom both = {.name = "both",
                               .n_args = 2,
                               .n_out = 2,
                               .names = (const char *const[]){"x", "y", "sum", "product"},
                               .has_gradient = true};
static const mx_custom counting = {
    .name = "counting", .n_args = 2, .n_aux = 1, .n_out = 1, .names = (const char *const[]){"x", "y", "count", "sum"}};

static mx_symbol *compose(const char *op_type, const char *const *keys, int n, mx_status *status) {
  mx_symbol *in[3] = {NULL}, *out = NULL;
  mx_dict d = MX_DICT_EMPTY;
  static const char *const names[] = {"a", "b", "c"};
  *status = mx_dict_set(&d, "op_type", op_type, &call_error);
  for (int i = 0; *status == MX_OK && i < n; i++) *status = mx_symbol_variable(names[i], &in[i], &call_error);
  if (*status == MX_OK)
    *status = mx_symbol_apply(mx_op_find("Custom"), "custom", "node", &d, keys, in, n, &out, &call_error);
  mx_dict_free(&d);
  for (int i = 0; i < 3; i++) mx_symbol_release(in[i]);
  return out;
}

static void check_arguments(const mx_symbol *s, const char *const *names) {
  mx_names got;
  REQUIRE_OK(mx_symbol_arguments(s, &got, &call_error), call_error);
  for (int i = 0; i < got.n; i++) CHECK(names[i] && !strcmp(got.v[i], names[i]));
  CHECK(!names[got.n]);
  mx_names_free(&got);
}

TEST(composition) {
  mx_status status;
  mx_symbol *s = compose("both", NULL, 1, &status);
  REQUIRE_OK(status, call_error);
  CHECK(s->n == 2);
  check_arguments(s, MX_STRINGS("a", "node_y"));
  mx_symbol_release(s);
  s = compose("both", (const char *const[]){"y", NULL}, 2, &status); /* a name, and what is left */
  REQUIRE_OK(status, call_error);
  check_arguments(s, MX_STRINGS("b", "a"));
  mx_symbol_release(s);
  CHECK_FAILS((s = compose("both", NULL, 3, &status), status), MX_ERR_VALUE, call_error, "2 inputs");
  CHECK_FAILS((s = compose("both", (const char *const[]){"y", NULL, NULL}, 3, &status), status), MX_ERR_VALUE,
              call_error, "2 inputs");
  CHECK_FAILS((s = compose("both", (const char *const[]){"z"}, 1, &status), status), MX_ERR_VALUE, call_error,
              "no input 'z'");
  CHECK_FAILS((s = compose("none", NULL, 1, &status), status), MX_ERR_VALUE, call_error, "no operator 'none'");
  CHECK(!strcmp(call_error.argument, "op_type"));
}

TEST(gradients) {
  mx_array *in[2] = {call_random(MX_FLOAT64, mx_shape_of(3, 4), -1, 1, 1),
                     call_random(MX_FLOAT64, mx_shape_of(3, 4), -1, 1, 2)};
  call_check_gradient("Custom", ATTRS("op_type", "both", "factor", "2.5"), in, 2, 3, 0, 1e-6, 1e-8);
  call_check_gradient("Custom", ATTRS("op_type", "both"), in, 2, 2, 1, 1e-6, 1e-8);
  CHECK_FAILS(call_op("Custom", ATTRS("op_type", "both", "faktor", "1"), in, 2, (mx_array *[2]){NULL}, 2), MX_ERR_VALUE,
              call_error, "faktor");
  CHECK_FAILS(call_op("Custom", ATTRS("op_type", "both"), in, 1, (mx_array *[2]){NULL}, 2), MX_ERR_VALUE, call_error,
              "takes 2 inputs");
  call_release(in, 2);
}

TEST(states) {
  double zero = 0;
  mx_array *in[3] = {call_random(MX_FLOAT64, mx_shape_of(4), -1, 1, 1),
                     call_random(MX_FLOAT64, mx_shape_of(4), -1, 1, 2), call_array(MX_FLOAT64, mx_shape_of(1), &zero)};
  for (int run = 1; run <= 3; run++) {
    mx_array *out = NULL;
    REQUIRE_OK(call_op("Custom", ATTRS("op_type", "counting"), in, 3, &out, 1), call_error);
    CHECK(call_value(in[2], 0) == run);
    mx_array_release(out);
  }
  mx_status status;
  mx_symbol *s = compose("counting", NULL, 2, &status);
  REQUIRE_OK(status, call_error);
  mx_executor *e = NULL;
  mx_array *grad[2] = {call_random(MX_FLOAT64, mx_shape_of(4), 1, 2, 3), NULL}, *head = in[0];
  REQUIRE_OK(mx_executor_bind(s, call_device, in, grad, (mx_req[]){MX_WRITE, MX_NULL}, in + 2, &e, &call_error),
             call_error);
  REQUIRE_OK(mx_executor_forward(e, true, &call_error), call_error);
  CHECK(call_value(in[2], 0) == 4);
  REQUIRE_OK(mx_executor_backward(e, &head, 1, &call_error), call_error);
  for (int i = 0; i < 4; i++) CHECK(call_value(grad[0], i) == 0); /* it has no gradient */
  fails = true;
  CHECK_FAILS(mx_executor_forward(e, false, &call_error), MX_ERR_CALLBACK, call_error, "does not want to");
  CHECK(!strcmp(call_error.node, "node") && !strcmp(call_error.op, "Custom"));
  fails = false;
  REQUIRE_OK(mx_executor_forward(e, false, &call_error), call_error);
  mx_executor_release(e);
  mx_symbol_release(s);
  call_release(in, 3);
  call_release(grad, 1);
}

TEST(saved_graphs) {
  mx_status status;
  char *text, *again;
  mx_symbol *s = compose("both", NULL, 2, &status), *read = NULL;
  REQUIRE_OK(status, call_error);
  REQUIRE_OK(mx_symbol_to_json(s, &text, &call_error), call_error);
  REQUIRE_OK(mx_symbol_from_json(text, &read, &call_error), call_error);
  REQUIRE_OK(mx_symbol_to_json(read, &again, &call_error), call_error);
  CHECK(!strcmp(text, again));
  memcpy(strstr(text, "both"), "buth", 4);
  mx_symbol *none = NULL;
  CHECK_FAILS(mx_symbol_from_json(text, &none, &call_error), MX_ERR_FORMAT, call_error, "no operator 'buth'");
  CHECK(!strcmp(call_error.node, "node"));
  mx_free(text);
  mx_free(again);
  mx_symbol_release(read);
  mx_symbol_release(s);
}

TEST(definitions) {
  mx_custom changed = {.name = "changing", .n_args = 1, .n_out = 1, .names = (const char *const[]){"x", "y"}};
  REQUIRE_OK(mx_custom_register(&changed, &call_error), call_error);
  mx_status status;
  mx_symbol *s = compose("changing", NULL, 1, &status);
  REQUIRE_OK(status, call_error);
  REQUIRE_OK(mx_custom_register(&changed, &call_error), call_error); /* the same */
  changed.is_loss = changed.has_gradient = true;
  CHECK_FAILS(mx_custom_register(&changed, &call_error), MX_ERR_STATE, call_error, "in use");
  mx_custom other = {.name = "swapped", .n_aux = 1, .n_out = 1, .names = (const char *const[]){"state", "y"}};
  REQUIRE_OK(mx_custom_register(&other, &call_error), call_error);
  REQUIRE_OK(mx_symbol_set_attribute(s, "op_type", "swapped", &call_error), call_error);
  CHECK_FAILS(mx_symbol_set_attribute(s, "op_type", "both", &call_error), MX_ERR_VALUE, call_error,
              "apply Custom anew");
  mx_symbol_release(s);
  REQUIRE_OK(mx_custom_register(&changed, &call_error), call_error);
  /* a state must be a variable */
  mx_symbol *inner = compose("changing", NULL, 1, &status), *outer = NULL;
  mx_dict d = MX_DICT_EMPTY;
  REQUIRE_OK(mx_dict_set(&d, "op_type", "changing", &call_error), call_error);
  REQUIRE_OK(mx_symbol_apply(mx_op_find("Custom"), "custom", "outer", &d, NULL, &inner, 1, &outer, &call_error),
             call_error);
  CHECK_FAILS(mx_symbol_set_attribute(outer, "op_type", "swapped", &call_error), MX_ERR_VALUE, call_error,
              "is a state");
  mx_dict_free(&d);
  mx_symbol_release(inner);
  mx_symbol_release(outer);
}

/* Composes, binds and runs forward and backward; everything is released again. */
static mx_status whole_life(void) {
  mx_array *in[2] = {NULL}, *grad[2] = {NULL}, *head[2] = {NULL};
  mx_shape shape = mx_shape_of(2, 2);
  mx_executor *e = NULL;
  mx_status st;
  mx_symbol *s = compose("both", NULL, 2, &st);
  for (int i = 0; st == MX_OK && i < 2; i++) {
    st = mx_array_zeros(call_device, &shape, MX_FLOAT64, &in[i], &call_error);
    if (st == MX_OK) st = mx_array_zeros(call_device, &shape, MX_FLOAT64, &grad[i], &call_error);
    if (st == MX_OK) st = mx_array_zeros(call_device, &shape, MX_FLOAT64, &head[i], &call_error);
  }
  if (st == MX_OK) st = mx_executor_bind(s, call_device, in, grad, (mx_req[]){MX_WRITE, MX_ADD}, NULL, &e, &call_error);
  if (st == MX_OK) st = mx_executor_forward(e, true, &call_error);
  if (st == MX_OK) st = mx_executor_backward(e, head, 2, &call_error);
  mx_executor_release(e);
  mx_symbol_release(s);
  call_release(in, 2);
  call_release(grad, 2);
  call_release(head, 2);
  return st;
}

TEST(each_allocation_fails) {
  mx_pool_trim();
  REQUIRE_OK(whole_life(), call_error);
  for (int n = 1; n < 2000; n++) {
    mx_pool_trim();
    int64_t before = mx_memory_live_blocks();
    mx_memory_fail_at(n);
    mx_status status = whole_life();
    bool reached = mx_memory_fail_pending() == 0;
    mx_memory_fail_at(0);
    mx_pool_trim();
    if (!reached) return;                              /* it came to its end */
    CHECK(status == MX_ERR_MEMORY || status == MX_OK); /* the pool tries again */
    CHECK(mx_memory_live_blocks() == before);
  }
  CHECK(false);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 1;
  mx_custom_set_host(&host);
  if (mx_custom_register(&both, &call_error) != MX_OK || mx_custom_register(&counting, &call_error) != MX_OK) return 1;
  RUN(composition);
  RUN(gradients);
  RUN(states);
  RUN(saved_graphs);
  RUN(definitions);
  RUN(each_allocation_fails);
  return check_finish();
}
