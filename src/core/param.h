/* Parameter tables: a C struct described field by field. Parsing, checking, printing and documentation use the table.
 */
#ifndef MX_CORE_PARAM_H
#define MX_CORE_PARAM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dict.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

typedef enum mx_param_kind {
  MX_PARAM_BOOL,      /* bool */
  MX_PARAM_OPT_BOOL,  /* int8_t: -1 when None */
  MX_PARAM_INT,       /* int64_t */
  MX_PARAM_OPT_INT,   /* mx_opt_int */
  MX_PARAM_FLOAT,     /* double */
  MX_PARAM_OPT_FLOAT, /* mx_opt_float */
  MX_PARAM_ENUM,      /* int: index into choices */
  MX_PARAM_DTYPE,     /* mx_dtype: one of choices, or MX_DTYPE_UNKNOWN for "None" */
  MX_PARAM_STRING,    /* char *, owned by the struct, never NULL ("" or the default) */
  MX_PARAM_TUPLE,     /* mx_shape: ndim 0 when empty, ndim -1 when None */
  MX_PARAM_INTS,      /* mx_ints, owned: tuples without a bound on their length */
  MX_PARAM_FLOATS,    /* mx_floats, owned */
  MX_PARAM_REST       /* mx_dict, owned: whatever no other row of the table names */
} mx_param_kind;

typedef struct mx_opt_int {
  bool given;
  int64_t value;
} mx_opt_int;
typedef struct mx_opt_float {
  bool given;
  double value;
} mx_opt_float;
typedef struct mx_ints {
  int n;
  int64_t *v;
} mx_ints;
typedef struct mx_floats {
  int n;
  double *v;
} mx_floats;

typedef struct mx_param {
  const char *name;
  mx_param_kind kind;
  size_t offset;
  const char *initial;        /* the default as text; NULL: required */
  double min, max;            /* inclusive; checked for each element of a tuple too */
  const char *const *choices; /* ENUM and DTYPE: NULL-terminated */
  const char *doc;            /* one line */
} mx_param;

/* Rows of a table; S is the struct, the field has the parameter's name. `initial` NULL means required. */
#define MX_P_(S, f, kind_, initial_, lo, hi, choices_, doc_) \
  { #f, kind_, offsetof(S, f), initial_, lo, hi, choices_, doc_ }
/* Through a second macro, so that MX_ANY can stand for lo and hi: (S, f, initial, lo, hi, doc). */
#define MX_P_RANGE_(kind, ...) MX_P_RANGED_(kind, __VA_ARGS__)
#define MX_P_RANGED_(kind, S, f, initial, lo, hi, doc) MX_P_(S, f, kind, initial, lo, hi, NULL, doc)
#define MX_P_BOOL(S, f, initial, doc) MX_P_(S, f, MX_PARAM_BOOL, initial, 0, 1, NULL, doc)
#define MX_P_OPT_BOOL(S, f, initial, doc) MX_P_(S, f, MX_PARAM_OPT_BOOL, initial, -1, 1, NULL, doc)
#define MX_P_INT(...) MX_P_RANGE_(MX_PARAM_INT, __VA_ARGS__)
#define MX_P_OPT_INT(...) MX_P_RANGE_(MX_PARAM_OPT_INT, __VA_ARGS__)
#define MX_P_FLOAT(...) MX_P_RANGE_(MX_PARAM_FLOAT, __VA_ARGS__)
#define MX_P_OPT_FLOAT(...) MX_P_RANGE_(MX_PARAM_OPT_FLOAT, __VA_ARGS__)
#define MX_P_ENUM(S, f, initial, choices, doc) MX_P_(S, f, MX_PARAM_ENUM, initial, 0, 0, choices, doc)
#define MX_P_DTYPE(S, f, initial, choices, doc) MX_P_(S, f, MX_PARAM_DTYPE, initial, 0, 0, choices, doc)
#define MX_P_STRING(S, f, initial, doc) MX_P_(S, f, MX_PARAM_STRING, initial, 0, 0, NULL, doc)
#define MX_P_TUPLE(...) MX_P_RANGE_(MX_PARAM_TUPLE, __VA_ARGS__)
#define MX_P_INTS(...) MX_P_RANGE_(MX_PARAM_INTS, __VA_ARGS__)
#define MX_P_FLOATS(...) MX_P_RANGE_(MX_PARAM_FLOATS, __VA_ARGS__)
/* Without it, attributes that the table does not name are an error. The name is none that an attribute can have. */
#define MX_P_REST(S, f, doc) \
  { "...", MX_PARAM_REST, offsetof(S, f), "", 0, 0, NULL, doc }
#define MX_P_END \
  { NULL, MX_PARAM_BOOL, 0, NULL, 0, 0, NULL, NULL }
#define MX_STRINGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define MX_ANY (-INFINITY), INFINITY /* a range without bounds */

/* Fills `params` (table's struct, zeroed by the caller) with defaults, then with `attrs`. Keys that begin and end with
 * "__" are not parameters and are skipped; other unknown keys are an error that lists the known ones. On failure
 * everything owned is freed. `owner` names the operator or iterator in messages. */
MX_NODISCARD mx_status mx_params_parse(const mx_param *table, const char *owner, const mx_dict *attrs, void *params,
                                       mx_error *err);
/* Sets one field from its text; checks kind, range and choices. */
MX_NODISCARD mx_status mx_param_set(const mx_param *p, const char *owner, const char *text, void *params,
                                    mx_error *err);
const mx_param *mx_param_find(const mx_param *table, const char *name); /* NULL when absent; table may be NULL */
void mx_params_free(const mx_param *table, void *params);               /* frees what the fields own, not the struct */

/* An element "None" of a tuple (slice's begin and end know it). */
#define MX_TUPLE_NONE INT64_MIN

/* "(2, 3)", "[2,3]", "(2,)", "2", "None" to a shape. */
MX_NODISCARD mx_status mx_parse_tuple(const char *text, mx_shape *out, mx_error *err);

#endif
