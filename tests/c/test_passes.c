/* The passes alone: what simplify removes and what it must keep, inference from both ends, outputs of their own. */
#include <stdlib.h>

#include "check.h"
#include "graph/graph.h"

static mx_error err;

static mx_symbol *var(const char *name) {
  mx_symbol *s = NULL;
  CHECK_OK(mx_symbol_variable(name, &s, &err), err);
  return s;
}

/* Applies an operator to positional arguments and releases them; one attribute at most. */
static mx_symbol *apply(const char *op, const char *key, const char *value, mx_symbol *a, mx_symbol *b) {
  mx_dict d = MX_DICT_EMPTY;
  if (key) CHECK_OK(mx_dict_set(&d, key, value, &err), err);
  mx_symbol *in[2] = {a, b}, *out = NULL;
  CHECK_OK(mx_symbol_apply(mx_op_find(op), op, NULL, &d, NULL, in, b ? 2 : 1, &out, &err), err);
  mx_dict_free(&d);
  mx_symbol_release(a);
  mx_symbol_release(b);
  return out;
}

static mx_graph *inferred(mx_symbol *s, mx_shape shape) {
  mx_graph *g = NULL;
  CHECK_OK(mx_graph_new(s->out, s->n, &g, &err), err);
  for (int i = 0; i < g->n_nodes; i++)
    if (!g->nodes[i]->op) g->shape[g->first[i]] = shape;
  bool complete = false;
  CHECK_OK(mx_graph_infer(g, true, &complete, &err), err);
  CHECK(complete);
  mx_symbol_release(s);
  return g;
}

static int count(const mx_graph *g, const char *op) {
  int n = 0;
  for (int i = 0; i < g->n_nodes; i++) n += g->nodes[i]->op && (!op || !strcmp(g->nodes[i]->op->name, op));
  return n;
}

/* Operators left after simplification; `op` NULL counts all. */
static int left(mx_symbol *s, mx_shape shape, const char *op) {
  mx_graph *g = inferred(s, shape), *simple = NULL;
  CHECK_OK(mx_graph_simplify(g, &simple, &err), err);
  int n = count(simple, op);
  for (int i = 0; i < simple->n_outputs; i++) {
    int a = mx_graph_entry(g, g->outputs[i]), b = mx_graph_entry(simple, simple->outputs[i]);
    CHECK(mx_shape_equal(&g->shape[a], &simple->shape[b]) && g->dtype[a] == simple->dtype[b]);
  }
  mx_graph_free(g);
  mx_graph_free(simple);
  return n;
}

TEST(identities_vanish) {
  mx_shape s = mx_shape_of(2, 3);
  CHECK_INT(left(apply("_mul_scalar", "scalar", "1", var("a"), NULL), s, NULL), 0);
  CHECK_INT(left(apply("_plus_scalar", "scalar", "0.0", var("a"), NULL), s, NULL), 0);
  CHECK_INT(left(apply("_mul_scalar", "scalar", "2", var("a"), NULL), s, NULL), 1);
  CHECK_INT(left(apply("_plus_scalar", "scalar", "1", var("a"), NULL), s, NULL), 1);
  CHECK_INT(left(apply("identity", NULL, NULL, apply("tanh", NULL, NULL, var("a"), NULL), NULL), s, NULL), 1);
}

TEST(views_that_lead_back_vanish) {
  mx_shape s = mx_shape_of(2, 3);
  mx_symbol *x = apply("Reshape", "shape", "(6,)", var("a"), NULL);
  CHECK_INT(left(apply("Reshape", "shape", "(2,3)", x, NULL), s, NULL), 0);
  x = apply("Reshape", "shape", "(6,)", var("a"), NULL);
  CHECK_INT(left(apply("Reshape", "shape", "(3,2)", x, NULL), s, NULL), 2);
}

TEST(transposes_in_a_row_join) {
  mx_shape s = mx_shape_of(2, 3, 4);
  mx_symbol *x = apply("transpose", "axes", "(1,2,0)", var("a"), NULL);
  CHECK_INT(left(apply("transpose", "axes", "(2,0,1)", x, NULL), s, NULL), 0);
  x = apply("transpose", "axes", "(1,2,0)", var("a"), NULL);
  CHECK_INT(left(apply("transpose", "axes", "(1,2,0)", x, NULL), s, "transpose"), 1);
  x = apply("transpose", NULL, NULL, var("a"), NULL);
  CHECK_INT(left(apply("transpose", NULL, NULL, x, NULL), s, NULL), 0);
}

TEST(equal_nodes_are_computed_once) {
  mx_shape s = mx_shape_of(2, 3);
  mx_symbol *a = var("a"), *b = mx_symbol_retain(a);
  mx_symbol *x = apply("tanh", NULL, NULL, a, NULL), *y = apply("tanh", NULL, NULL, b, NULL);
  CHECK_INT(left(apply("elemwise_mul", NULL, NULL, x, y), s, NULL), 2);
  a = var("a"), b = mx_symbol_retain(a);
  x = apply("_mul_scalar", "scalar", "2", a, NULL), y = apply("_mul_scalar", "scalar", "3", b, NULL);
  CHECK_INT(left(apply("elemwise_mul", NULL, NULL, x, y), s, NULL), 3);
}

TEST(random_nodes_stay_apart) {
  mx_symbol *a = var("a"), *b = mx_symbol_retain(a);
  mx_symbol *x = apply("Dropout", "p", "0.5", a, NULL), *y = apply("Dropout", "p", "0.5", b, NULL);
  CHECK_INT(left(apply("elemwise_mul", NULL, NULL, x, y), mx_shape_of(2, 3), "Dropout"), 2);
}

TEST(outputs_get_nodes_of_their_own) {
  mx_symbol *a = var("a"), *group = NULL;
  mx_symbol *t = apply("tanh", NULL, NULL, mx_symbol_retain(a), NULL);
  mx_symbol *heads[4] = {a, t, t, a};
  REQUIRE_OK(mx_symbol_group(heads, 4, &group, &err), err);
  mx_graph *g = inferred(group, mx_shape_of(2, 3)), *own = NULL;
  REQUIRE_OK(mx_graph_own_outputs(g, NULL, &own, &err), err);
  for (int i = 0; i < 4; i++) {
    CHECK(own->outputs[i].node->op != NULL);
    for (int k = 0; k < i; k++) CHECK(own->outputs[i].node != own->outputs[k].node);
  }
  CHECK_INT(count(own, "tanh"), 1);
  mx_symbol_release(a);
  mx_symbol_release(t);
  mx_graph_free(g);
  mx_graph_free(own);
}

TEST(inference_goes_both_ways) {
  mx_symbol *x = apply("elemwise_add", NULL, NULL, var("a"), var("b"));
  mx_graph *g = NULL;
  REQUIRE_OK(mx_graph_new(x->out, x->n, &g, &err), err);
  bool complete = true;
  CHECK_OK(mx_graph_infer(g, true, &complete, &err), err);
  CHECK(!complete);
  g->shape[mx_graph_entry(g, g->outputs[0])] = mx_shape_of(4, 5);
  CHECK_OK(mx_graph_infer(g, true, &complete, &err), err);
  CHECK(complete);
  mx_shape want = mx_shape_of(4, 5);
  for (int e = 0; e < g->first[g->n_nodes]; e++) CHECK(mx_shape_equal(&g->shape[e], &want));
  mx_graph_free(g);
  mx_symbol_release(x);
}

TEST(passes_can_be_switched_off) {
  setenv("MXNET_PASSES_OFF", "fold,simplify", 1);
  CHECK(!mx_pass_enabled("simplify"));
  CHECK(!mx_pass_enabled("fold"));
  CHECK(mx_pass_enabled("fuse"));
  CHECK(mx_pass_enabled("sim"));
  unsetenv("MXNET_PASSES_OFF");
  CHECK(mx_pass_enabled("simplify"));
}

/* A chain as deep as an unrolled recurrent network: nothing may recurse. */
TEST(deep_graphs_do_not_overflow_the_stack) {
  mx_symbol *x = var("a");
  for (int i = 0; i < 20000; i++) x = apply("tanh", NULL, NULL, x, NULL);
  mx_graph *g = inferred(x, mx_shape_of(1, 1)), *joint = NULL, *simple = NULL;
  mx_node *wrt = g->nodes[0], *head = NULL;
  REQUIRE_OK(mx_graph_gradient(g, &wrt, 1, &head, &joint, &err), err);
  CHECK(joint->n_nodes > 40000);
  REQUIRE_OK(mx_graph_simplify(joint, &simple, &err), err);
  mx_graph_free(g);
  mx_graph_free(joint);
  mx_graph_free(simple);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  RUN(identities_vanish);
  RUN(views_that_lead_back_vanish);
  RUN(transposes_in_a_row_join);
  RUN(equal_nodes_are_computed_once);
  RUN(random_nodes_stay_apart);
  RUN(outputs_get_nodes_of_their_own);
  RUN(inference_goes_both_ways);
  RUN(passes_can_be_switched_off);
  RUN(deep_graphs_do_not_overflow_the_stack);
  return check_finish();
}
