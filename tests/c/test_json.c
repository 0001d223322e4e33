/* Symbol files: recorded graphs and old layouts against the reference, byte for byte; damage; a lack of memory. */
#include "files.h"
#include "fuzz_json.c"
#include "symbols.h"

/* ---- comparison with recorded lists ---- */

static const char *joined(const json_t *list) {
  static char text[1 << 16];
  size_t i;
  json_t *name;
  text[0] = 0;
  json_array_foreach(list, i, name) strcat(strcat(text, i ? " " : ""), json_string_value(name));
  return text;
}

/* Recorded shapes: an unknown one is [], an unknown dimension 0. */
static const char *recorded_shapes(const json_t *list) {
  static char text[1 << 14];
  char one[MX_SHAPE_TEXT];
  size_t i, k;
  json_t *j, *d;
  text[0] = 0;
  json_array_foreach(list, i, j) {
    mx_shape s = {.ndim = json_array_size(j) ? (int)json_array_size(j) : -1};
    json_array_foreach(j, k, d) s.dim[k] = json_integer_value(d) ? json_integer_value(d) : MX_DIM_UNKNOWN;
    strcat(strcat(text, i ? " " : ""), mx_shape_text(&s, one));
  }
  return text;
}

static void compare_shapes(const mx_symbol *s, const json_t *want, bool outputs_only) {
  const char *keys[16], *name;
  mx_shape shapes[16];
  int n = 0;
  json_t *dims, *d;
  json_object_foreach(json_object_get(want, "given"), name, dims) {
    size_t k;
    keys[n] = name;
    shapes[n] = (mx_shape){0};
    json_array_foreach(dims, k, d) shapes[n].dim[shapes[n].ndim++] = json_integer_value(d);
    n++;
  }
  mx_symbol_shapes r;
  REQUIRE_OK(mx_symbol_infer_shape(s, keys, shapes, n, &r, &err), err);
  CHECK_TEXT(shapes_text(r.outs, r.n_outs), recorded_shapes(json_object_get(want, "outputs")));
  if (!outputs_only) {
    CHECK_TEXT(shapes_text(r.args, r.n_args), recorded_shapes(json_object_get(want, "arguments")));
    CHECK_TEXT(shapes_text(r.aux, r.n_aux), recorded_shapes(json_object_get(want, "auxiliary_states")));
  }
  mx_symbol_shapes_free(&r);
}

/* The reference lists attributes such as __lr_mult__ a second time without underscores. */
static bool is_repetition(const json_t *attrs, const char *key) {
  char hidden[128];
  snprintf(hidden, sizeof(hidden), "__%s__", key);
  return json_object_get(attrs, hidden);
}

static void compare_attributes(const mx_symbol *s, const json_t *want) {
  mx_node **nodes;
  int n, with_attributes = 0;
  REQUIRE_OK(mx_nodes_sort(s->out, s->n, &nodes, &n, &err), err);
  for (int i = 0; i < n; i++) {
    json_t *attrs = json_object_get(want, nodes[i]->name), *value;
    const char *key;
    size_t wanted = 0;
    if (nodes[i]->attrs.n) with_attributes++;
    json_object_foreach(attrs, key, value) {
      if (is_repetition(attrs, key)) continue;
      wanted++;
      CHECK_TEXT(mx_dict_get(&nodes[i]->attrs, key), json_string_value(value));
    }
    if ((int)wanted != nodes[i]->attrs.n)
      check_report(__FILE__, __LINE__, "%s has %d attributes, expected %zu", nodes[i]->name, nodes[i]->attrs.n, wanted);
  }
  CHECK_INT(with_attributes, json_object_size(want));
  mx_free(nodes);
}

static mx_symbol *read_file(const char *path, char **text) {
  size_t size;
  mx_symbol *s = NULL;
  *text = file_bytes(path, &size);
  if (!*text || mx_symbol_from_json(*text, &s, &err) != MX_OK)
    check_report(__FILE__, __LINE__, "%s: %s", base_of(path), *text ? err.message : "cannot be read");
  return s;
}

static void compare_lists(const mx_symbol *s, const json_t *want) {
  CHECK_TEXT(ARGUMENTS(s), joined(json_object_get(want, "arguments")));
  CHECK_TEXT(STATES(s), joined(json_object_get(want, "auxiliary_states")));
  CHECK_TEXT(OUTPUTS(s), joined(json_object_get(want, "outputs")));
  mx_symbol *internals;
  REQUIRE_OK(mx_symbol_internals(s, &internals, &err), err);
  CHECK_TEXT(OUTPUTS(internals), joined(json_object_get(want, "internals")));
  if (json_object_get(want, "internal_shapes")) {
    json_t *given = json_pack("{s:O, s:O}", "given", json_object_get(json_object_get(want, "infer_shape"), "given"),
                              "outputs", json_object_get(want, "internal_shapes"));
    compare_shapes(internals, given, true);
    json_decref(given);
  }
  mx_symbol_release(internals);
  compare_shapes(s, json_object_get(want, "infer_shape"), false);
  const json_t *partial = json_object_get(want, "infer_shape_partial");
  if (json_is_object(partial)) compare_shapes(s, partial, false);
  compare_attributes(s, json_object_get(want, "attr_dict"));
}

/* ---- recorded graphs ---- */

TEST(recorded_graphs) {
  static const char *const names[] = {"group", "lenet", "lstm_unrolled", "mlp", "resnet_small", "scalar_ops"};
  for (int i = 0; i < 6; i++) {
    char path[512], *text, *written;
    snprintf(path, sizeof(path), GRAPHS "%s.case.json", names[i]);
    json_t *want = json_load_file(path, 0, NULL);
    snprintf(path, sizeof(path), GRAPHS "%s.symbol.json", names[i]);
    mx_symbol *s = read_file(path, &text);
    REQUIRE(s && want);
    compare_lists(s, want);
    REQUIRE_OK(mx_symbol_to_json(s, &written, &err), err);
    check_same_text(names[i], written, text);
    mx_free(written);
    free(text);
    json_decref(want);
    mx_symbol_release(s);
  }
}

TEST(old_layouts) {
  json_t *all = json_load_file(GRAPHS "legacy.json", 0, NULL), *want;
  REQUIRE(all);
  const char *name;
  CHECK_INT(json_object_size(json_object_get(all, "files")), 5);
  json_object_foreach(json_object_get(all, "files"), name, want) {
    char path[512], *text, *written;
    snprintf(path, sizeof(path), GRAPHS "%s.symbol.json", name);
    mx_symbol *s = read_file(path, &text);
    REQUIRE(s);
    compare_lists(s, want);
    REQUIRE_OK(mx_symbol_to_json(s, &written, &err), err);
    json_t *again = json_loads(written, 0, NULL);
    if (!json_equal(again, json_object_get(want, "upgraded")))
      check_report(__FILE__, __LINE__, "%s became\n%s", name, written);
    json_decref(again);
    mx_free(written);
    free(text);
    mx_symbol_release(s);
  }
  json_decref(all);
}

/* The graph is the same one when it is composed instead of read. */
TEST(composed_as_recorded) {
  static const struct {
    const char *op, *name, *attrs[16];
  } layers[] = {
      {"BatchNorm", "bn_data", {"fix_gamma", "True", "eps", "2e-05", "momentum", "0.9"}},
      {"Convolution", "conv0", {"num_filter", "4", "kernel", "(3, 3)", "pad", "(1, 1)", "no_bias", "True"}},
      {"BatchNorm", "stage1_unit1_bn1", {"fix_gamma", "False", "eps", "2e-05", "momentum", "0.9"}},
      {"Activation", "stage1_unit1_relu1", {"act_type", "relu"}},
  };
  mx_symbol *s = variable("data"), *whole, *internals, *part;
  for (int i = 0; i < 4; i++) {
    mx_symbol *next = make(layers[i].op, layers[i].name, layers[i].attrs, SYMBOLS(s));
    mx_symbol_release(s);
    s = next;
  }
  char *text, *a, *b;
  whole = read_file(GRAPHS "resnet_small.symbol.json", &text);
  REQUIRE(whole);
  REQUIRE_OK(mx_symbol_internals(whole, &internals, &err), err);
  for (int i = 0; i < internals->n; i++) {
    if (strcmp(internals->out[i].node->name, "stage1_unit1_relu1")) continue;
    REQUIRE_OK(mx_symbol_output(internals, i, &part, &err), err);
  }
  REQUIRE_OK(mx_symbol_to_json(part, &a, &err), err);
  REQUIRE_OK(mx_symbol_to_json(s, &b, &err), err);
  check_same_text("the composed graph", b, a);
  mx_free(a);
  mx_free(b);
  free(text);
  mx_symbol *all[] = {s, whole, internals, part};
  for (int i = 0; i < 4; i++) mx_symbol_release(all[i]);
}

TEST(a_small_text) {
  mx_symbol *x = variable("data"), *fc = make("FullyConnected", "fc", TEXTS("num_hidden", "4"), SYMBOLS(x));
  mx_symbol *act = make("Activation", "r", TEXTS("act_type", "relu"), SYMBOLS(fc)), *again;
  char *text;
  REQUIRE_OK(mx_symbol_to_json(act, &text, &err), err);
  CHECK_TEXT(
      text,
      "{\n  \"nodes\": [\n    {\n      \"op\": \"null\", \n      \"name\": \"data\", \n      \"inputs\": []\n    "
      "}, \n    {\n      \"op\": \"null\", \n      \"name\": \"fc_weight\", \n      \"attrs\": {\"num_hidden\": "
      "\"4\"}, \n      \"inputs\": []\n    }, \n    {\n      \"op\": \"null\", \n      \"name\": \"fc_bias\", \n  "
      "    \"attrs\": {\"num_hidden\": \"4\"}, \n      \"inputs\": []\n    }, \n    {\n      \"op\": "
      "\"FullyConnected\", \n      \"name\": \"fc\", \n      \"attrs\": {\"num_hidden\": \"4\"}, \n      "
      "\"inputs\": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]\n    }, \n    {\n      \"op\": \"Activation\", \n      "
      "\"name\": \"r\", \n      \"attrs\": {\"act_type\": \"relu\"}, \n      \"inputs\": [[3, 0, 0]]\n    }\n  ], "
      "\n  \"arg_nodes\": [0, 1, 2], \n  \"node_row_ptr\": [0, 1, 2, 3, 4, 5], \n  \"heads\": [[4, 0, 0]], \n  "
      "\"attrs\": {\"mxnet_version\": [\"int\", 10901]}\n}");
  mx_free(text);
  mx_symbol *empty, *all[] = {x, fc, act};
  REQUIRE_OK(mx_symbol_children(x, &empty, &err), err); /* a symbol without outputs */
  REQUIRE_OK(mx_symbol_to_json(empty, &text, &err), err);
  REQUIRE_OK(mx_symbol_from_json(text, &again, &err), err);
  CHECK_INT(again->n, 0);
  mx_free(text);
  mx_symbol_release(empty);
  mx_symbol_release(again);
  for (int i = 0; i < 3; i++) mx_symbol_release(all[i]);
}

TEST(odd_names_and_long_lists) {
  const char *odd = "a\"b\\c\nd\te\rf\x01 \xCE\xB2";
  mx_symbol *s[12], *sum, *again;
  char *text, *twice;
  for (int i = 0; i < 12; i++) s[i] = variable(i ? "v" : odd);
  sum = make("add_n", "sum", NULL, s, 12);
  REQUIRE_OK(mx_symbol_set_attribute(s[1], odd, odd, &err), err);
  REQUIRE_OK(mx_symbol_to_json(sum, &text, &err), err);
  CHECK(strstr(text, "\"inputs\": [\n        [0, 0, 0], \n        [1, 0, 0], \n"));
  CHECK(strstr(text, "        [11, 0, 0]\n      ]\n    }\n  ], \n  \"arg_nodes\": [\n    0, \n"));
  CHECK(strstr(text, "a\\\"b\\\\c\\nd\\te\\rf\\u0001 \xCE\xB2"));
  REQUIRE_OK(mx_symbol_from_json(text, &again, &err), err);
  CHECK_TEXT(again->out[0].node->in[0].node->name, odd);
  CHECK_TEXT(mx_dict_get(&again->out[0].node->in[1].node->attrs, odd), odd);
  REQUIRE_OK(mx_symbol_to_json(again, &twice, &err), err);
  check_same_text("the second text", twice, text);
  mx_free(text);
  mx_free(twice);
  mx_symbol_release(sum);
  mx_symbol_release(again);
  for (int i = 0; i < 12; i++) mx_symbol_release(s[i]);
}

/* ---- real models ---- */

static void compare_model(const char *path) {
  char expected[4096], *text, *written;
  mx_symbol *s = read_file(path, &text);
  REQUIRE(s);
  snprintf(expected, sizeof(expected), "%.*s.expected.json", (int)(strlen(path) - strlen("-symbol.json")), path);
  json_t *want = json_load_file(expected, 0, NULL), *attrs;
  REQUIRE(want);
  CHECK_TEXT(ARGUMENTS(s), joined(json_object_get(want, "list_arguments")));
  CHECK_TEXT(OUTPUTS(s), joined(json_object_get(want, "list_outputs")));
  if (json_object_get(want, "list_auxiliary_states"))
    CHECK_TEXT(STATES(s), joined(json_object_get(want, "list_auxiliary_states")));
  if ((attrs = json_object_get(want, "attr_dict_after_load_in_1.9.1"))) compare_attributes(s, attrs);
  REQUIRE_OK(mx_symbol_to_json(s, &written, &err), err);
  json_int_t version = json_integer_value(json_object_get(want, "mxnet_version_in_json"));
  if (version == 10901) check_same_text(path, written, text);
  LLVMFuzzerTestOneInput((const uint8_t *)text, strlen(text));
  mx_free(written);
  free(text);
  json_decref(want);
  mx_symbol_release(s);
}

TEST(real_models) {
  char path[512];
  snprintf(path, sizeof(path), "%s/models", real_data());
  int n;
  char **list = files_of(path, "-symbol.json", &n);
  CHECK(n > 0);
  for (int i = 0; i < n; i++) compare_model(list[i]);
  free_files(list, n);
}

/* ---- damage ---- */

#define NODES(...) "{\"nodes\": [" __VA_ARGS__ "], \"heads\": [[0, 0]]}"
#define VARIABLE "{\"op\": \"null\", \"name\": \"x\", \"inputs\": []}"
#define FLATTEN(inputs) "{\"op\": \"Flatten\", \"name\": \"f\", \"inputs\": [" inputs "]}"

TEST(what_is_refused) {
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"", "not valid JSON"},
      {"{not json", "line 1, column"},
      {"[]", "outermost value is a list"},
      {"{}", "'nodes' is nothing"},
      {"{\"nodes\": {}}", "'nodes' is an object"},
      {"{\"nodes\": []}", "heads is nothing"},
      {"{\"nodes\": [], \"nodes\": []}", "duplicate"},
      {"{\"nodes\": [], \"heads\": [[0, 0]]}", "there are only 0 nodes"},
      {"{\"nodes\": [], \"heads\": [], \"attrs\": 3}", "'attrs' is an integer"},
      {"{\"nodes\": [], \"heads\": [], \"attrs\": {\"mxnet_version\": [\"int\", -3]}}", "'mxnet_version'"},
      {"{\"nodes\": [], \"heads\": [], \"arg_nodes\": 1}", "'arg_nodes' is an integer"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [], \"arg_nodes\": [1]}", "arg_nodes[0] is not"},
      {"{\"nodes\": [" VARIABLE ", " FLATTEN("[0, 0]") "], \"heads\": [], \"arg_nodes\": [0, 1]}",
       "arg_nodes[1] is not"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[0, 1]]}", "output 1 of node 0 ('x'), which has 1"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[0]]}", "heads[0] is not a list of two or three"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[0, 0, 0, 0]]}", "heads[0] is not a list of two or three"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[0.5, 0]]}", "heads[0] is not"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[4294967296, 0]]}", "heads[0] is not"},
      {"{\"nodes\": [" VARIABLE "], \"heads\": [[99999999999999999999, 0]]}", "not valid JSON"},
      {NODES("3"), "Node 0: The element of 'nodes' is an integer"},
      {NODES("{\"op\": \"null\", \"inputs\": []}"), "Node 0: 'name' is nothing"},
      {NODES("{\"op\": 1, \"name\": \"x\", \"inputs\": []}"), "Node 0 ('x'): 'op' is an integer"},
      {NODES("{\"op\": \"null\", \"name\": \"x\"}"), "Node 0 ('x'): inputs is nothing"},
      {NODES("{\"op\": \"null\", \"name\": \"x\", \"inputs\": [[0, 0]]}"), "inputs[0] refers to node 0"},
      {NODES(VARIABLE ", {\"op\": \"null\", \"name\": \"y\", \"inputs\": [[0, 0]]}"),
       "variable has no inputs; found 1"},
      {NODES(VARIABLE ", " FLATTEN("[1, 0]")), "Node 1 ('f'): inputs[0] refers to node 1"},
      {NODES(VARIABLE ", " FLATTEN("[2, 0]") ", " VARIABLE), "node 2, which comes later"},
      {NODES(VARIABLE ", " FLATTEN("[0, 0], [0, 0]")),
       "Flatten has 1 inputs with these parameters; expected 1, found 2"},
      {"{\"nodes\": [" VARIABLE ", " FLATTEN("") "], \"heads\": [], \"attrs\": {\"mxnet_version\": [\"int\", 10901]}}",
       "expected 1, found 0"},
      {NODES("{\"op\": \"null\", \"name\": \"x\", \"attrs\": [], \"inputs\": []}"), "attrs is a list"},
      {NODES("{\"op\": \"null\", \"name\": \"x\", \"attrs\": {\"a\": 1}, \"inputs\": []}"),
       "attribute a is an integer"},
      {NODES("{\"op\": \"null\", \"name\": \"x\", \"attrs\": {\"a\": null}, \"inputs\": []}"), "attribute a is null"},
      {NODES("{\"op\": \"null\", \"name\": \"a\\u0000b\", \"inputs\": []}"), "not valid JSON"},
      {NODES("{\"op\": \"null\", \"name\": \"\xFF\", \"inputs\": []}"), "not valid JSON"},
      {NODES("{\"op\": \"FullyConected\", \"name\": \"f\", \"inputs\": []}"), "nearest name is FullyConnected"},
      {NODES("{\"op\": \"flaten\", \"name\": \"f\", \"inputs\": []}"), "Node 0 ('f'): There is no operator flaten"},
      {NODES("{\"op\": \"quite different\", \"name\": \"f\", \"inputs\": []}"),
       "There is no operator quite different."},
      {NODES("{\"op\": \"_backward_FullyConnected\", \"name\": \"f\", \"inputs\": []}"), "cannot be part of a symbol"},
      {NODES("{\"op\": \"FullyConnected\", \"name\": \"f\", \"inputs\": []}"), "num_hidden"},
      {NODES(VARIABLE ", {\"op\": \"Flatten\", \"name\": \"f\", \"attrs\": {\"nosuch\": \"1\"}, \"inputs\": [[0, 0]]}"),
       "nosuch"},
      {NODES(VARIABLE ", {\"op\": \"Flatten\", \"name\": \"f\", \"backward_source_id\": 0, \"inputs\": [[0, 0]]}"),
       "graph of gradients"},
      {NODES(VARIABLE ", {\"op\": \"Flatten\", \"name\": \"f\", \"control_deps\": [0], \"inputs\": [[0, 0]]}"),
       "graph of gradients"},
      {NODES(VARIABLE
             ", " FLATTEN("[0, 0]") ", {\"op\": \"BatchNorm\", \"name\": \"b\", \"inputs\": [[0, 0], [0, 0], [0, "
                                    "0], [1, 0], [0, 0]]}"),
       "Node 2 ('b'): BatchNorm: input moving_mean"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    mx_symbol *s;
    int64_t before = mx_memory_live_blocks();
    CHECK_FAILS(mx_symbol_from_json(cases[i].text, &s, &err), MX_ERR_FORMAT, err, cases[i].says);
    CHECK(!s);
    CHECK_INT(mx_memory_live_blocks(), before);
  }
}

TEST(nested_deeply) {
  enum { DEPTH = 100000 };
  char *text = malloc(2 * DEPTH + 64);
  mx_symbol *s;
  strcpy(text, "{\"nodes\": ");
  size_t n = strlen(text);
  memset(text + n, '[', DEPTH);
  memset(text + n + DEPTH, ']', DEPTH);
  strcpy(text + n + 2 * DEPTH, "}");
  CHECK_FAILS(mx_symbol_from_json(text, &s, &err), MX_ERR_FORMAT, err, "not valid JSON");
  free(text);
}

TEST(old_attributes_that_fit_nowhere) {
  mx_symbol *s;
  REQUIRE_OK(mx_symbol_from_json("{\"nodes\": [" VARIABLE ", {\"op\": \"Flatten\", \"param\": {}, \"name\": \"f\", "
                                 "\"inputs\": [[0, 0]], \"attr\": {\"mood\": \"calm\", \"lr_mult\": \"2\", "
                                 "\"bias_lr_mult\": \"3\", \"data_wd_mult\": \"4\"}}], \"heads\": [[1, 0]]}",
                                 &s, &err),
             err);
  const mx_node *f = s->out[0].node;
  CHECK_INT(f->attrs.n, 3);
  CHECK_TEXT(mx_dict_get(&f->attrs, "__mood__"), "calm");
  CHECK_TEXT(mx_dict_get(&f->attrs, "__lr_mult__"), "2");
  CHECK_TEXT(mx_dict_get(&f->attrs, "__bias_lr_mult__"), "3");
  CHECK_TEXT(mx_dict_get(&f->in[0].node->attrs, "__wd_mult__"), "4");
  mx_symbol_release(s);
}

/* A text that is cut off must be an error; only closing brackets and blanks may be missing to what says the same. */
TEST(truncated_at_every_byte) {
  int n;
  char **list = files_of(GRAPHS, ".symbol.json", &n);
  CHECK(n >= 12);
  for (int i = 0; i < n; i++) {
    size_t size;
    char *text = file_bytes(list[i], &size);
    while (size > 0 && text[size - 1] == '\n') size--;
    for (size_t k = 0; k < size; k++) {
      char *cut = strndup(text, k);
      mx_symbol *s;
      if (mx_symbol_from_json(cut, &s, &err) != MX_ERR_FORMAT)
        check_report(__FILE__, __LINE__, "%s cut at byte %zu was not refused", base_of(list[i]), k);
      free(cut);
    }
    free(text);
  }
  free_files(list, n);
}

TEST(changed_bytes) {
  int n;
  uint64_t state = 1;
  char **list = files_of(GRAPHS, ".symbol.json", &n);
  int64_t before = mx_memory_live_blocks();
  for (int i = 0; i < n; i++) {
    size_t size;
    char *text = file_bytes(list[i], &size);
    for (int k = 0; k < 1000; k++) {
      size_t length = size;
      char *changed = mutate(text, &length, &state);
      LLVMFuzzerTestOneInput((const uint8_t *)changed, length);
      free(changed);
    }
    free(text);
  }
  CHECK_INT(mx_memory_live_blocks(), before);
  free_files(list, n);
}

/* ---- memory ---- */

/* Ours, that is: jansson's lexer (2.14) does not look at its own failures, so it gets all that it asks for. */
TEST(every_allocation_may_fail) {
  static const char *const files[] = {GRAPHS "mlp.symbol.json", GRAPHS "legacy_batchnorm_no_aux.symbol.json",
                                      GRAPHS "legacy_attr_0903.symbol.json"};
  for (int f = 0; f < 3; f++) {
    size_t size;
    char *text = file_bytes(files[f], &size), *written = NULL;
    mx_symbol *s = NULL;
    int64_t before = mx_memory_live_blocks(), n = 1;
    mx_status status = MX_ERR_MEMORY;
    for (; status != MX_OK && n < 10000; n++) {
      mx_memory_fail_at(n);
      status = mx_symbol_from_json(text, &s, &err);
      if (status == MX_OK) status = mx_symbol_to_json(s, &written, &err);
      mx_memory_fail_at(0);
      mx_symbol_release(s);
      if (status == MX_OK) mx_free(written);
      if (status != MX_OK && status != MX_ERR_MEMORY) check_report(__FILE__, __LINE__, "%s", err.message);
      if (mx_memory_live_blocks() != before) {
        check_report(__FILE__, __LINE__, "%s: allocation %lld failed and left blocks", base_of(files[f]), (long long)n);
        before = mx_memory_live_blocks();
      }
    }
    CHECK_INT(status, MX_OK);
    CHECK(n > 30);
    free(text);
  }
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  RUN(recorded_graphs);
  RUN(old_layouts);
  RUN(composed_as_recorded);
  RUN(a_small_text);
  RUN(odd_names_and_long_lists);
  if (real_data()) RUN(real_models);
  RUN(what_is_refused);
  RUN(nested_deeply);
  RUN(old_attributes_that_fit_nowhere);
  RUN(truncated_at_every_byte);
  RUN(changed_bytes);
  RUN(every_allocation_may_fail);
  return check_finish();
}
