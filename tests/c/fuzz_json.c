/* Fuzzer of symbol files: what can be read must be listed, inferred, written and read again, the same.
 *   make -C tests/c fuzz_json && build/fuzz/fuzz_json CORPUS_DIR
 * test_json.c calls the same function with changed files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "graph/symbol.h"

/* Everything that a user may ask of a symbol without binding it. */
static void look_at(const mx_symbol *s) {
  mx_error err;
  mx_names names;
  mx_symbol_shapes shapes;
  mx_symbol *part;
  char *text;
  const char *first = NULL;
  mx_shape given = mx_shape_of(2, 3, 8, 8);
  if (mx_symbol_describe(s, &text, &err) == MX_OK) mx_free(text);
  if (mx_symbol_auxiliaries(s, &names, &err) == MX_OK) mx_names_free(&names);
  if (mx_symbol_outputs(s, &names, &err) == MX_OK) mx_names_free(&names);
  if (mx_symbol_internals(s, &part, &err) == MX_OK) {
    if (mx_symbol_outputs(part, &names, &err) == MX_OK) mx_names_free(&names);
    mx_symbol_release(part);
  }
  if (mx_symbol_infer_shape(s, NULL, NULL, 0, &shapes, &err) == MX_OK) mx_symbol_shapes_free(&shapes);
  if (mx_symbol_arguments(s, &names, &err) != MX_OK) return;
  if (names.n) first = names.v[0];
  for (int ndim = 1; first && ndim <= 4; ndim++) {
    given.ndim = ndim;
    if (mx_symbol_infer_shape(s, &first, &given, 1, &shapes, &err) == MX_OK) mx_symbol_shapes_free(&shapes);
  }
  mx_names_free(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  mx_error err;
  mx_symbol *s, *again;
  char *text = malloc(size + 1), *one, *two;
  memcpy(text, bytes, size);
  text[size] = 0;
  mx_status status = mx_symbol_from_json(text, &s, &err);
  free(text);
  if (status != MX_OK) return 0;
  look_at(s);
  if (mx_symbol_to_json(s, &one, &err) == MX_OK) {
    if (mx_symbol_from_json(one, &again, &err) != MX_OK) abort();
    if (mx_symbol_to_json(again, &two, &err) == MX_OK) {
      if (strcmp(one, two)) abort();
      mx_free(two);
    }
    mx_symbol_release(again);
    mx_free(one);
  }
  mx_symbol_release(s);
  return 0;
}
