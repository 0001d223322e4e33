/* Graphs that nobody meant: changed files and every operator with changed attributes are bound and run. Errors are
 * fine; crashes, reads and writes outside of arrays, and lost memory are not. The fuzzer goes on from here for hours.
 */
#include "files.h"
#include "fuzz_run.c"
#include "ops/op.h"

static void run_text(const char *text, size_t n) { LLVMFuzzerTestOneInput((const uint8_t *)text, n); }

TEST(changed_files) {
  int n;
  uint64_t state = 1;
  char **list = files_of(GRAPHS, ".symbol.json", &n);
  CHECK(n >= 12);
  for (int i = 0; i < n; i++) {
    size_t size = 0;
    char *text = file_bytes(list[i], &size);
    run_text(text, size);
    for (int k = 0; k < 200; k++) {
      size_t length = size;
      char *changed = mutate(text, &length, &state);
      run_text(changed, length);
      free(changed);
    }
    free(text);
  }
  free_files(list, n);
}

/* A graph of one node with its variables. */
static json_t *graph_of(const char *op, const json_t *c, json_t *attrs) {
  json_t *nodes = json_array(), *inputs = json_array(), *name;
  size_t i;
  static const char *const lists[] = {"arguments", "auxiliary_states"};
  for (int l = 0; l < 2; l++) json_array_foreach(json_object_get(c, lists[l]), i, name) {
      json_array_append_new(inputs, json_pack("[i,i,i]", (int)json_array_size(nodes), 0, 0));
      json_array_append_new(nodes, json_pack("{s:s,s:O,s:[]}", "op", "null", "name", name, "inputs"));
    }
  int head = (int)json_array_size(nodes);
  json_array_append_new(nodes, json_pack("{s:s,s:s,s:O,s:o}", "op", op, "name", "x", "attrs", attrs, "inputs", inputs));
  return json_pack("{s:o,s:[[i,i,i]],s:{s:[s,i]}}", "nodes", nodes, "heads", head, 0, 0, "attrs", "mxnet_version",
                   "int", 10901);
}

/* Each parameter of the operator in turn gets each of some values that are valid here and there. */
static void try_operator(const mx_op *op, const json_t *c) {
  static const char *const values[] = {"0",      "1",      "-1",         "2",         "7",         "(0,)",
                                       "(1, 1)", "(2, 3)", "(-1,)",      "(3, 3, 3)", "()",        "True",
                                       "False",  "None",   "0.5",        "-2.5",      "100000",    "int32",
                                       "full",   "valid",  "(5, -7, 1)", "float64",   "2147483647"};
  json_t *given = json_object_get(c, "attrs");
  for (int p = -1; p < 0 || (op->params && op->params[p].name); p++)
    for (size_t v = 0; v < (p < 0 ? 1 : sizeof(values) / sizeof(values[0])); v++) {
      json_t *attrs = json_copy(given);
      if (p >= 0) json_object_set_new(attrs, op->params[p].name, json_string(values[v]));
      json_t *graph = graph_of(op->name, c, attrs);
      char *text = json_dumps(graph, 0);
      run_text(text, strlen(text));
      free(text);
      json_decref(graph);
      json_decref(attrs);
    }
}

TEST(operators_with_odd_parameters) {
  json_t *all = json_load_file(GRAPHS "composed.json", 0, NULL), *cases, *c;
  const char *name;
  size_t i;
  REQUIRE(all);
  json_object_foreach(all, name, cases) {
    const mx_op *op = mx_op_find(name);
    REQUIRE(op);
    json_array_foreach(cases, i, c) try_operator(op, c);
  }
  json_decref(all);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  RUN(changed_files);
  RUN(operators_with_odd_parameters);
  return check_finish();
}
