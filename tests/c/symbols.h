/* Short ways to make and look at symbols in tests. */
#ifndef MX_TESTS_SYMBOLS_H
#define MX_TESTS_SYMBOLS_H

#include <stdlib.h>

#include "check.h"
#include "core/memory.h"
#include "core/text.h"
#include "graph/symbol.h"

static mx_error err;

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SYMBOLS(...) \
  (mx_symbol *const[]){__VA_ARGS__}, (int)(sizeof((mx_symbol *[]){__VA_ARGS__}) / sizeof(mx_symbol *))

/* Applies `op` as users do: the hint for automatic names is the name they wrote. attrs: {"num_hidden", "3", NULL}. */
__attribute__((unused)) static mx_status apply(const char *op, const char *name, const char *const *attrs,
                                               const char *const *keys, mx_symbol *const *args, int n,
                                               mx_symbol **out) {
  mx_dict d = MX_DICT_EMPTY;
  mx_status status = MX_OK;
  const mx_op *record = mx_op_find(op);
  *out = NULL;
  if (!record) return mx_fail(&err, MX_ERR_VALUE, "no operator %s", op);
  for (int i = 0; attrs && attrs[i] && status == MX_OK; i += 2) status = mx_dict_set(&d, attrs[i], attrs[i + 1], &err);
  if (status == MX_OK) status = mx_symbol_apply(record, op, name, &d, keys, args, n, out, &err);
  mx_dict_free(&d);
  return status;
}

/* The same for what cannot fail. */
__attribute__((unused)) static mx_symbol *make(const char *op, const char *name, const char *const *attrs,
                                               mx_symbol *const *args, int n) {
  mx_symbol *s;
  if (apply(op, name, attrs, NULL, args, n, &s) == MX_OK) return s;
  check_report(__FILE__, __LINE__, "%s: %s", op, err.message);
  exit(1);
}
__attribute__((unused)) static mx_symbol *variable(const char *name) {
  mx_symbol *s;
  if (mx_symbol_variable(name, &s, &err) == MX_OK) return s;
  check_report(__FILE__, __LINE__, "%s", err.message);
  exit(1);
}

/* Names of a kind, joined by blanks; the next call but three overwrites it. */
typedef mx_status (*lister)(const mx_symbol *s, mx_names *out, mx_error *err);
__attribute__((unused)) static const char *names_of(lister list, const mx_symbol *s) {
  static char text[4][1 << 16];
  static int next;
  char *t = text[next++ % 4];
  mx_names names;
  t[0] = 0;
  if (list(s, &names, &err) != MX_OK) return err.message;
  for (int i = 0; i < names.n; i++) strcat(strcat(t, i ? " " : ""), names.v[i]);
  mx_names_free(&names);
  return t;
}
#define ARGUMENTS(s) names_of(mx_symbol_arguments, s)
#define STATES(s) names_of(mx_symbol_auxiliaries, s)
#define OUTPUTS(s) names_of(mx_symbol_outputs, s)

/* Long texts: says where they begin to differ. */
__attribute__((unused)) static void check_same_text(const char *what, const char *got, const char *want) {
  int i = 0, line = 1, column = 0;
  for (; got[i] && got[i] == want[i]; i++) {
    if (got[i] == '\n') line++;
    column = got[i] == '\n' ? 0 : column + 1;
  }
  if (got[i] || want[i])
    check_report(__FILE__, __LINE__, "%s differs in line %d, column %d: \"%.60s\", expected \"%.60s\"", what, line,
                 column + 1, got + i, want + i);
}

/* Shapes as text, "(2,3) (4,)". */
__attribute__((unused)) static const char *shapes_text(const mx_shape *shapes, int n) {
  static char text[4][1 << 14];
  static int next;
  char *t = text[next++ % 4], one[MX_SHAPE_TEXT];
  t[0] = 0;
  for (int i = 0; i < n; i++) strcat(strcat(t, i ? " " : ""), mx_shape_text(&shapes[i], one));
  return t;
}

#endif
