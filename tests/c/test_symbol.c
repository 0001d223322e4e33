/* Symbols: composition, names, parts, attributes, shapes, and what happens when memory runs out. */
#include <jansson.h>

#include "files.h"
#include "graph/graph.h"
#include "symbols.h"

/* ---- composition ---- */

TEST(missing_inputs_become_variables) {
  mx_symbol *x = variable("data");
  mx_symbol *fc = make("FullyConnected", "fc1", TEXTS("num_hidden", "128"), SYMBOLS(x));
  mx_symbol *act = make("Activation", "relu1", TEXTS("act_type", "relu"), SYMBOLS(fc));
  mx_symbol *out = make("SoftmaxOutput", "out", NULL, SYMBOLS(act));
  CHECK_TEXT(ARGUMENTS(out), "data fc1_weight fc1_bias out_label");
  CHECK_TEXT(OUTPUTS(out), "out_output");
  CHECK_TEXT(STATES(out), "");
  mx_symbol *parts, *weight;
  REQUIRE_OK(mx_symbol_children(fc, &parts, &err), err);
  REQUIRE_OK(mx_symbol_output(parts, 1, &weight, &err), err);
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(weight), "num_hidden"), "128"); /* the operator's attributes */
  mx_symbol *none = make("FullyConnected", "fc", TEXTS("num_hidden", "3", "no_bias", "1"), NULL, 0);
  CHECK_TEXT(ARGUMENTS(none), "fc_data fc_weight");
  mx_symbol *all[] = {x, fc, act, out, parts, weight, none};
  for (int i = 0; i < 7; i++) mx_symbol_release(all[i]);
}

TEST(automatic_names) {
  mx_name_reset();
  mx_symbol *x = variable("x");
  struct {
    const char *op, *hint, *output;
  } want[] = {
      {"FullyConnected", "fullyconnected", "fullyconnected0_output"},
      {"FullyConnected", "fullyconnected", "fullyconnected1_output"},
      {"Flatten", "flatten", "flatten0_output"},
      {"Flatten", "Flatten", "flatten1_output"},
      {"elemwise_add", "_plus", "_plus0_output"},
      {"elemwise_add", "_plus", "_plus1_output"},
      {"_plus_scalar", "_plusscalar", "_plusscalar0_output"},
      {"_rminus_scalar", "_rminus_scalar", "_rminus_scalar0_output"},
      {"SliceChannel", "split", "split0_output0 split0_output1"},
  };
  for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
    const mx_op *op = mx_op_find(want[i].op);
    REQUIRE(op);
    mx_dict attrs = MX_DICT_EMPTY;
    if (mx_param_find(op->params, "num_hidden")) REQUIRE_OK(mx_dict_set(&attrs, "num_hidden", "2", &err), err);
    if (mx_param_find(op->params, "num_outputs")) REQUIRE_OK(mx_dict_set(&attrs, "num_outputs", "2", &err), err);
    if (mx_param_find(op->params, "scalar")) REQUIRE_OK(mx_dict_set(&attrs, "scalar", "1", &err), err);
    mx_symbol *s;
    REQUIRE_OK(mx_symbol_apply(op, want[i].hint, NULL, &attrs, NULL, SYMBOLS(x), &s, &err), err);
    CHECK_TEXT(OUTPUTS(s), want[i].output);
    mx_symbol_release(s);
    mx_dict_free(&attrs);
  }
  mx_symbol *named = make("Flatten", "f", NULL, SYMBOLS(x)), *next = make("Flatten", NULL, NULL, SYMBOLS(x));
  CHECK_TEXT(OUTPUTS(next), "flatten2_output"); /* a given name does not count */
  mx_symbol_release(named);
  mx_symbol_release(next);
  mx_symbol_release(x);
}

TEST(inputs_by_name) {
  mx_symbol *w = variable("w"), *x = variable("data"), *a, *b, *s;
  REQUIRE_OK(apply("FullyConnected", "a", TEXTS("num_hidden", "3"), TEXTS("weight", "data"), SYMBOLS(w, x), &a), err);
  REQUIRE_OK(apply("FullyConnected", "b", TEXTS("num_hidden", "3"), TEXTS("data", "weight"), SYMBOLS(a, w), &b), err);
  CHECK_TEXT(ARGUMENTS(b), "data w a_bias b_bias");
  const char *const *fc = TEXTS("num_hidden", "3");
  CHECK_FAILS(apply("FullyConnected", "c", fc, TEXTS("nosuch"), SYMBOLS(x), &s), MX_ERR_VALUE, err,
              "no input 'nosuch'; its inputs are: data, weight, bias");
  CHECK_TEXT(err.op, "FullyConnected");
  CHECK_TEXT(err.argument, "nosuch");
  CHECK_FAILS(apply("FullyConnected", "c", fc, TEXTS("data", "data"), SYMBOLS(x, x), &s), MX_ERR_VALUE, err, "twice");
  CHECK_FAILS(apply("FullyConnected", "c", fc, NULL, SYMBOLS(x, x, x, x), &s), MX_ERR_VALUE, err,
              "takes 3 inputs, but 4 were given");
  mx_symbol *two = make("SliceChannel", "sl", TEXTS("num_outputs", "2"), SYMBOLS(x));
  CHECK_FAILS(apply("FullyConnected", "c", fc, NULL, SYMBOLS(two), &s), MX_ERR_VALUE, err,
              "input data takes a symbol with one output, but got one with 2");
  CHECK_FAILS(apply("FullyConnected", "c", NULL, NULL, SYMBOLS(x), &s), MX_ERR_VALUE, err, "num_hidden");
  mx_symbol *all[] = {w, x, a, b, two};
  for (int i = 0; i < 5; i++) mx_symbol_release(all[i]);
}

TEST(any_number_of_inputs) {
  mx_symbol *x = variable("x"), *y = variable("y"), *s;
  mx_symbol *two = make("SliceChannel", "sl", TEXTS("num_outputs", "2"), SYMBOLS(x));
  mx_symbol *cat = make("Concat", "cat", TEXTS("dim", "1"), SYMBOLS(two, y)); /* the outputs of all, joined */
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(cat), "num_args"), "3");
  CHECK_INT(cat->out[0].node->n_in, 3);
  CHECK_INT(cat->out[0].node->in[1].index, 1);
  mx_symbol *wide = make("Concat", "w", TEXTS("num_args", "4"), SYMBOLS(x, y));
  CHECK_TEXT(ARGUMENTS(wide), "x y w_arg2 w_arg3");
  CHECK_FAILS(apply("Concat", "n", TEXTS("num_args", "1"), NULL, SYMBOLS(x, y), &s), MX_ERR_VALUE, err,
              "takes 1 inputs, but 2 were given");
  CHECK_FAILS(apply("Concat", "n", TEXTS("num_args", "2000000000"), NULL, SYMBOLS(x), &s), MX_ERR_VALUE, err,
              "num_args = 2000000000");
  mx_symbol *all[] = {x, y, two, cat, wide};
  for (int i = 0; i < 5; i++) mx_symbol_release(all[i]);
}

TEST(auxiliary_states) {
  mx_symbol *x = variable("x"), *s, *computed = make("Flatten", "f", NULL, SYMBOLS(x)), *state = variable("m");
  mx_symbol *bn = make("BatchNorm", "bn", TEXTS("fix_gamma", "False"), SYMBOLS(x));
  CHECK_TEXT(ARGUMENTS(bn), "x bn_gamma bn_beta");
  CHECK_TEXT(STATES(bn), "bn_moving_mean bn_moving_var");
  CHECK_TEXT(OUTPUTS(bn), "bn_output");
  const mx_node *n = bn->out[0].node;
  CHECK_TEXT(mx_dict_get(&n->in[3].node->attrs, "__init__"), "[\"zero\", {}]");
  CHECK_TEXT(mx_dict_get(&n->in[4].node->attrs, "__init__"), "[\"one\", {}]");
  CHECK_INT(n->in[3].version, 1);
  CHECK_INT(n->in[1].version, 0);
  mx_symbol *a, *b;
  REQUIRE_OK(apply("BatchNorm", "a", NULL, TEXTS("data", "moving_mean"), SYMBOLS(x, state), &a), err);
  REQUIRE_OK(apply("BatchNorm", "b", NULL, TEXTS("data", "moving_mean"), SYMBOLS(a, state), &b), err);
  CHECK_INT(b->out[0].node->in[3].version, 2);
  CHECK_TEXT(STATES(b), "m a_moving_var b_moving_var");
  CHECK_FAILS(apply("BatchNorm", "c", NULL, TEXTS("moving_var"), SYMBOLS(computed), &s), MX_ERR_VALUE, err,
              "moving_var of node 'c' is a state");
  CHECK_FAILS(mx_symbol_compose(b, NULL, TEXTS("m"), SYMBOLS(computed), &s, &err), MX_ERR_VALUE, err, "is a state");
  mx_symbol *all[] = {x, computed, state, bn, a, b};
  for (int i = 0; i < 6; i++) mx_symbol_release(all[i]);
}

TEST(learned_slopes_have_an_initializer) {
  mx_symbol *x = variable("x"), *p = make("LeakyReLU", "p", TEXTS("act_type", "prelu"), SYMBOLS(x));
  CHECK_TEXT(mx_dict_get(&p->out[0].node->in[1].node->attrs, "__init__"), "[\"Constant\", {\"value\": 0.25}]");
  mx_symbol_release(x);
  mx_symbol_release(p);
}

TEST(mean_and_variance_have_names) {
  mx_symbol *bn = make("BatchNorm", "x", TEXTS("output_mean_var", "True"), NULL, 0);
  CHECK_TEXT(OUTPUTS(bn), "x_output x_mean x_var");
  mx_symbol_release(bn);
}

/* Every operator of the reference's list, composed as "x" without inputs: the names of its
 * arguments, states and outputs. */
TEST(names_of_all_operators) {
  json_t *all = json_load_file(GRAPHS "composed.json", 0, NULL), *cases, *c, *list;
  REQUIRE(all);
  const char *name;
  int known = 0;
  json_object_foreach(all, name, cases) {
    size_t i;
    const mx_op *op = mx_op_find(name);
    if (!op) check_report(__FILE__, __LINE__, "%s is not registered", name);
    if (!op || op->flags & MX_OP_IMPERATIVE) continue;
    json_array_foreach(cases, i, c) {
      mx_dict attrs = MX_DICT_EMPTY;
      const char *key;
      json_t *value;
      json_object_foreach(json_object_get(c, "attrs"), key, value)
          REQUIRE_OK(mx_dict_set(&attrs, key, json_string_value(value), &err), err);
      mx_symbol *s;
      if (mx_symbol_apply(op, name, "x", &attrs, NULL, NULL, 0, &s, &err) != MX_OK) {
        check_report(__FILE__, __LINE__, "%s: %s", name, err.message);
      } else {
        static const char *const lists[] = {"arguments", "auxiliary_states", "outputs"};
        lister listers[] = {mx_symbol_arguments, mx_symbol_auxiliaries, mx_symbol_outputs};
        for (int l = 0; l < 3; l++) {
          char want[4096] = "";
          size_t k;
          json_array_foreach(json_object_get(c, lists[l]), k, list)
              strcat(strcat(want, k ? " " : ""), json_string_value(list));
          const char *got = names_of(listers[l], s);
          if (strcmp(got, want))
            check_report(__FILE__, __LINE__, "%s: %s are %s, expected %s", name, lists[l], got, want);
        }
        mx_symbol_release(s);
      }
      mx_dict_free(&attrs);
      known++;
    }
  }
  CHECK(known > 0);
  json_decref(all);
}

/* ---- replacing variables ---- */

TEST(replaces_variables_by_symbols) {
  mx_symbol *x = variable("data"), *y = variable("data2"), *comp, *again, *s;
  mx_symbol *inner = make("FullyConnected", "fc1", TEXTS("num_hidden", "10"), SYMBOLS(x));
  mx_symbol *outer = make("FullyConnected", "net2", TEXTS("num_hidden", "10"), SYMBOLS(y));
  REQUIRE_OK(mx_symbol_compose(outer, "composed", TEXTS("data2"), SYMBOLS(inner), &comp, &err), err);
  CHECK_TEXT(ARGUMENTS(comp), "data fc1_weight fc1_bias net2_weight net2_bias");
  CHECK_TEXT(OUTPUTS(comp), "composed_output");
  CHECK_TEXT(ARGUMENTS(outer), "data2 net2_weight net2_bias"); /* as before */
  CHECK_TEXT(OUTPUTS(outer), "net2_output");
  REQUIRE_OK(mx_symbol_compose(outer, NULL, TEXTS("data2"), SYMBOLS(inner), &again, &err), err);
  CHECK_TEXT(OUTPUTS(again), "net2_output");
  CHECK(comp->out[0].node->in[0].node == inner->out[0].node); /* what does not change is shared */
  CHECK_FAILS(mx_symbol_compose(outer, NULL, TEXTS("nosuch"), SYMBOLS(inner), &s, &err), MX_ERR_VALUE, err,
              "no argument 'nosuch'");
  CHECK_FAILS(mx_symbol_compose(y, NULL, TEXTS("data2"), SYMBOLS(inner), &s, &err), MX_ERR_VALUE, err,
              "cannot be composed");
  mx_symbol *group, *both;
  REQUIRE_OK(mx_symbol_group(SYMBOLS(outer, inner, y), &group, &err), err);
  REQUIRE_OK(mx_symbol_compose(group, NULL, TEXTS("data2"), SYMBOLS(inner), &both, &err), err);
  CHECK_TEXT(OUTPUTS(both), "net2_output fc1_output fc1_output");
  CHECK_FAILS(mx_symbol_compose(group, "name", NULL, NULL, 0, &s, &err), MX_ERR_VALUE, err, "head nodes");
  CHECK_FAILS(mx_symbol_compose(outer, NULL, TEXTS("data2"), SYMBOLS(group), &s, &err), MX_ERR_VALUE, err,
              "3 outputs; expected one");
  mx_symbol *all[] = {x, y, inner, outer, comp, again, group, both};
  for (int i = 0; i < 8; i++) mx_symbol_release(all[i]);
}

TEST(replaces_through_several_levels) {
  mx_symbol *a = make("FullyConnected", "fc3", TEXTS("num_hidden", "10"), NULL, 0);
  mx_symbol *b = make("Activation", "r", TEXTS("act_type", "relu"), SYMBOLS(a));
  mx_symbol *c = make("FullyConnected", "fc4", TEXTS("num_hidden", "20"), SYMBOLS(b));
  mx_symbol *d = variable("data"), *s;
  REQUIRE_OK(mx_symbol_compose(c, "top", TEXTS("fc3_data"), SYMBOLS(d), &s, &err), err);
  CHECK_TEXT(ARGUMENTS(s), "data fc3_weight fc3_bias fc4_weight fc4_bias");
  CHECK_TEXT(OUTPUTS(s), "top_output");
  mx_symbol *all[] = {a, b, c, d, s};
  for (int i = 0; i < 5; i++) mx_symbol_release(all[i]);
}

/* ---- parts ---- */

TEST(parts) {
  mx_symbol *x = variable("data"), *in, *f, *kids, *grandkids, *nothing, *s;
  mx_symbol *a = make("FullyConnected", "fc1", TEXTS("num_hidden", "2"), SYMBOLS(x));
  mx_symbol *b = make("FullyConnected", "fc2", TEXTS("num_hidden", "3"), SYMBOLS(a));
  REQUIRE_OK(mx_symbol_internals(b, &in, &err), err);
  CHECK_TEXT(OUTPUTS(in), "data fc1_weight fc1_bias fc1_output fc2_weight fc2_bias fc2_output");
  REQUIRE_OK(mx_symbol_output(in, 3, &f, &err), err);
  CHECK_TEXT(ARGUMENTS(f), "data fc1_weight fc1_bias");
  REQUIRE_OK(mx_symbol_children(b, &kids, &err), err);
  CHECK_TEXT(OUTPUTS(kids), "fc1_output fc2_weight fc2_bias");
  REQUIRE_OK(mx_symbol_children(kids, &grandkids, &err), err);
  CHECK_TEXT(OUTPUTS(grandkids), "data fc1_weight fc1_bias");
  REQUIRE_OK(mx_symbol_children(x, &nothing, &err), err);
  CHECK_INT(nothing->n, 0);
  CHECK_TEXT(ARGUMENTS(nothing), "");
  CHECK_FAILS(mx_symbol_output(in, 7, &s, &err), MX_ERR_VALUE, err, "Output 7 does not exist: the symbol has 7");
  CHECK_FAILS(mx_symbol_output(in, -1, &s, &err), MX_ERR_VALUE, err, "does not exist");
  mx_symbol *all[] = {x, a, b, in, f, kids, grandkids, nothing};
  for (int i = 0; i < 8; i++) mx_symbol_release(all[i]);
}

TEST(two_variables_of_one_name) {
  mx_symbol *x = variable("x"), *y = variable("x"), *s = make("elemwise_add", "s", NULL, SYMBOLS(x, y));
  mx_symbol *once = make("elemwise_add", "t", NULL, SYMBOLS(x, x));
  CHECK_TEXT(ARGUMENTS(s), "x x");
  CHECK_TEXT(ARGUMENTS(once), "x");
  mx_symbol *all[] = {x, y, s, once};
  for (int i = 0; i < 4; i++) mx_symbol_release(all[i]);
}

/* ---- attributes ---- */

TEST(attributes) {
  mx_symbol *x = variable("x"), *s;
  REQUIRE_OK(mx_symbol_set_attribute(x, "mood", "happy", &err), err);
  REQUIRE_OK(mx_symbol_set_attribute(x, "lr_mult", "2", &err), err);
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(x), "mood"), "happy");
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(x), "__lr_mult__"), "2");
  mx_symbol *fc = make("FullyConnected", "fc", TEXTS("num_hidden", "3", "ctx_group", "a"), SYMBOLS(x));
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(fc), "__ctx_group__"), "a");
  mx_symbol *user = make("Flatten", "f", NULL, SYMBOLS(fc));
  REQUIRE_OK(mx_symbol_set_attribute(fc, "num_hidden", "5", &err), err);
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(fc), "num_hidden"), "5");
  CHECK_TEXT(mx_dict_get(&user->out[0].node->in[0].node->attrs, "num_hidden"), "3"); /* composed before */
  CHECK_FAILS(mx_symbol_set_attribute(fc, "num_hidden", "many", &err), MX_ERR_VALUE, err, "num_hidden");
  CHECK_FAILS(mx_symbol_set_attribute(fc, "nosuch", "1", &err), MX_ERR_VALUE, err, "nosuch");
  CHECK_FAILS(mx_symbol_set_attribute(fc, "no_bias", "True", &err), MX_ERR_VALUE, err, "how many inputs");
  CHECK_TEXT(mx_dict_get(mx_symbol_attributes(fc), "num_hidden"), "5");
  REQUIRE_OK(mx_symbol_set_attribute(fc, "__note__", "kept", &err), err);
  CHECK_FAILS(apply("FullyConnected", "g", TEXTS("num_hidden", "3", "weight_lr_mult", "2"), NULL, SYMBOLS(x), &s),
              MX_ERR_VALUE, err, "belongs to the input 'weight'");
  mx_symbol *group;
  REQUIRE_OK(mx_symbol_group(SYMBOLS(x, fc), &group, &err), err);
  CHECK(!mx_symbol_attributes(group));
  CHECK_FAILS(mx_symbol_set_attribute(group, "a", "b", &err), MX_ERR_VALUE, err, "2 head nodes");
  mx_symbol *all[] = {x, fc, user, group};
  for (int i = 0; i < 4; i++) mx_symbol_release(all[i]);
}

TEST(listing) {
  mx_symbol *x = variable("data"), *fc = make("FullyConnected", "fc", TEXTS("num_hidden", "4"), SYMBOLS(x));
  char *text;
  REQUIRE_OK(mx_symbol_describe(fc, &text, &err), err);
  CHECK_TEXT(text,
             "Symbol Outputs:\n\toutput[0]=fc(0)\nVariable:data\nVariable:fc_weight\nVariable:fc_bias\n"
             "--------------------\nOp:FullyConnected, Name=fc\nInputs:\n\targ[0]=data(0) version=0\n"
             "\targ[1]=fc_weight(0) version=0\n\targ[2]=fc_bias(0) version=0\nAttrs:\n\tnum_hidden=4\n");
  mx_free(text);
  REQUIRE_OK(mx_symbol_describe(x, &text, &err), err);
  CHECK_TEXT(text, "Variable:data\n");
  mx_free(text);
  mx_symbol_release(x);
  mx_symbol_release(fc);
}

/* ---- shapes ---- */

TEST(shapes) {
  mx_symbol *x = variable("data"), *y = variable("y");
  mx_symbol *fc = make("FullyConnected", "fc", TEXTS("num_hidden", "4"), SYMBOLS(x));
  mx_symbol_shapes r;
  mx_shape given = mx_shape_of(5, 2, 3), two[] = {mx_shape_of(5, 3), mx_shape_of(4, 9)};
  REQUIRE_OK(mx_symbol_infer_shape(fc, TEXTS("data"), &given, 1, &r, &err), err);
  CHECK(r.complete);
  CHECK_TEXT(shapes_text(r.args, r.n_args), "(5,2,3) (4,6) (4,)");
  CHECK_TEXT(shapes_text(r.outs, r.n_outs), "(5,4)");
  mx_symbol_shapes_free(&r);
  CHECK_FAILS(mx_symbol_infer_shape(fc, TEXTS("data", "fc_weight"), two, 2, &r, &err), MX_ERR_SHAPE, err, "(4,9)");
  CHECK_TEXT(err.node, "fc");
  CHECK_FAILS(mx_symbol_infer_shape(fc, TEXTS("nosuch"), two, 1, &r, &err), MX_ERR_VALUE, err, "no argument 'nosuch'");
  mx_symbol *other = make("FullyConnected", "f2", TEXTS("num_hidden", "4"), SYMBOLS(y));
  mx_symbol *sum;
  REQUIRE_OK(mx_symbol_group(SYMBOLS(fc, other), &sum, &err), err);
  REQUIRE_OK(mx_symbol_infer_shape(sum, TEXTS("data"), two, 1, &r, &err), err);
  CHECK(!r.complete);
  CHECK_TEXT(shapes_text(r.args, 3), "(5,3) (4,3) (4,)");
  mx_symbol_shapes_free(&r);
  mx_symbol *all[] = {x, y, fc, other, sum};
  for (int i = 0; i < 5; i++) mx_symbol_release(all[i]);
}

TEST(shapes_in_attributes) {
  mx_symbol *x = variable("x"), *fc = make("FullyConnected", "fc", TEXTS("num_hidden", "4"), SYMBOLS(x));
  mx_symbol_shapes r;
  mx_shape given = mx_shape_of(7, 2);
  REQUIRE_OK(mx_symbol_set_attribute(x, "__shape__", "(5, 3)", &err), err);
  REQUIRE_OK(mx_symbol_infer_shape(fc, NULL, NULL, 0, &r, &err), err);
  CHECK_TEXT(shapes_text(r.args, r.n_args), "(5,3) (4,3) (4,)");
  mx_symbol_shapes_free(&r);
  REQUIRE_OK(mx_symbol_infer_shape(fc, TEXTS("x"), &given, 1, &r, &err), err); /* what is given comes first */
  CHECK_TEXT(shapes_text(r.outs, r.n_outs), "(7,4)");
  mx_symbol_shapes_free(&r);
  REQUIRE_OK(mx_symbol_set_attribute(x, "__shape__", "(0, 3)", &err), err); /* 0: not known */
  REQUIRE_OK(mx_symbol_infer_shape(fc, NULL, NULL, 0, &r, &err), err);
  CHECK(!r.complete);
  CHECK_TEXT(shapes_text(&r.args[1], 1), "(4,3)");
  mx_symbol_shapes_free(&r);
  REQUIRE_OK(mx_symbol_set_attribute(x, "__shape__", "wide", &err), err);
  CHECK_FAILS(mx_symbol_infer_shape(fc, NULL, NULL, 0, &r, &err), MX_ERR_VALUE, err, "In node 'x'");
  mx_symbol_release(x);
  mx_symbol_release(fc);
}

/* ---- size and memory ---- */

TEST(deep_graphs) {
  enum { DEPTH = 200000 };
  mx_symbol *s = variable("x"), *copy, *y = variable("y");
  for (int i = 0; i < DEPTH; i++) {
    mx_symbol *next = make("Flatten", "f", NULL, SYMBOLS(s));
    mx_symbol_release(s);
    s = next;
    REQUIRE(s);
  }
  CHECK_TEXT(ARGUMENTS(s), "x");
  mx_symbol_shapes r;
  mx_shape given = mx_shape_of(2, 3, 4);
  REQUIRE_OK(mx_symbol_infer_shape(s, TEXTS("x"), &given, 1, &r, &err), err);
  CHECK_TEXT(shapes_text(r.outs, 1), "(2,12)");
  mx_symbol_shapes_free(&r);
  REQUIRE_OK(mx_symbol_compose(s, "top", TEXTS("x"), SYMBOLS(y), &copy, &err), err);
  CHECK_TEXT(ARGUMENTS(copy), "y");
  mx_symbol_release(s);
  mx_symbol_release(copy);
  mx_symbol_release(y);
}

/* All that composing does, once; releases what it made. */
static mx_status compose_all(void) {
  mx_symbol *s[10] = {0};
  mx_symbol_shapes r = {0};
  mx_names names = {0};
  char *text = NULL;
  mx_shape given = mx_shape_of(4, 6);
  mx_status status = mx_symbol_variable("data", &s[0], &err);
  if (status == MX_OK) status = apply("FullyConnected", NULL, TEXTS("num_hidden", "4"), NULL, &s[0], 1, &s[1]);
  if (status == MX_OK) status = apply("BatchNorm", "bn", NULL, TEXTS("data"), &s[1], 1, &s[2]);
  if (status == MX_OK) status = apply("SliceChannel", "sl", TEXTS("num_outputs", "2"), NULL, &s[2], 1, &s[3]);
  if (status == MX_OK) status = apply("Concat", NULL, NULL, NULL, &s[2], 2, &s[4]);
  if (status == MX_OK) status = mx_symbol_group(&s[3], 2, &s[5], &err);
  if (status == MX_OK) status = mx_symbol_internals(s[5], &s[6], &err);
  if (status == MX_OK) status = mx_symbol_compose(s[4], "top", TEXTS("data"), &s[0], 1, &s[7], &err);
  if (status == MX_OK) status = mx_symbol_set_attribute(s[1], "num_hidden", "5", &err);
  if (status == MX_OK) status = mx_symbol_children(s[7], &s[8], &err);
  if (status == MX_OK) status = mx_symbol_infer_shape(s[6], TEXTS("data"), &given, 1, &r, &err);
  if (status == MX_OK) status = mx_symbol_describe(s[7], &text, &err);
  if (status == MX_OK) status = mx_symbol_arguments(s[7], &names, &err);
  if (status == MX_OK) mx_names_free(&names);
  if (status == MX_OK) status = mx_symbol_outputs(s[6], &names, &err);
  mx_names_free(&names);
  mx_free(text);
  mx_symbol_shapes_free(&r);
  for (int i = 0; i < 10; i++) mx_symbol_release(s[i]);
  mx_name_reset();
  return status;
}

TEST(every_allocation_may_fail) {
  mx_name_reset();
  int64_t before = mx_memory_live_blocks();
  mx_status status = MX_ERR_MEMORY;
  int64_t n = 1;
  for (; status == MX_ERR_MEMORY && n < 5000; n++) {
    mx_memory_fail_at(n);
    status = compose_all();
    mx_memory_fail_at(0);
    if (mx_memory_live_blocks() != before) {
      check_report(__FILE__, __LINE__, "allocation %lld failed and left %lld blocks", (long long)n,
                   (long long)(mx_memory_live_blocks() - before));
      before = mx_memory_live_blocks();
    }
  }
  CHECK(n > 100);
  if (status != MX_OK) check_report(__FILE__, __LINE__, "%s", err.message);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  RUN(missing_inputs_become_variables);
  RUN(automatic_names);
  RUN(inputs_by_name);
  RUN(any_number_of_inputs);
  RUN(auxiliary_states);
  RUN(learned_slopes_have_an_initializer);
  RUN(mean_and_variance_have_names);
  RUN(names_of_all_operators);
  RUN(replaces_variables_by_symbols);
  RUN(replaces_through_several_levels);
  RUN(parts);
  RUN(two_variables_of_one_name);
  RUN(attributes);
  RUN(listing);
  RUN(shapes);
  RUN(shapes_in_attributes);
  RUN(deep_graphs);
  RUN(every_allocation_may_fail);
  mx_name_reset();
  return check_finish();
}
