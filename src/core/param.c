/* Parameter texts to C fields, by the table. Texts come from users and files: every character is accounted for. */
#include "core/param.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"

static void *field(const mx_param *p, void *params) { return (char *)params + p->offset; }

static mx_status bad_value(const mx_param *p, const char *owner, const char *text, const char *expected,
                           mx_error *err) {
  char quoted[128]; /* what would not be seen */
  if (!*text || isspace((unsigned char)*text) || isspace((unsigned char)text[strlen(text) - 1])) {
    snprintf(quoted, sizeof(quoted), "\"%.120s\"", text);
    text = quoted;
  }
  mx_fail(err, MX_ERR_VALUE, "%s: %s = %.120s is not valid; expected %s.", owner, p->name, text, expected);
  mx_error_set(err, op, "%s", owner);
  mx_error_set(err, argument, "%s", p->name);
  mx_error_set(err, actual, "%s", text);
  mx_error_set(err, expected, "%s", expected);
  return MX_ERR_VALUE;
}

static const char *range_text(const mx_param *p, const char *noun, char *buf, size_t size) {
  const double integers = 0x1p63; /* a limit of the type says nothing */
  bool low = p->min > -integers, high = p->max < integers;
  if (!low && !high)
    snprintf(buf, size, "%s", noun);
  else if (!high)
    snprintf(buf, size, "%s >= %.10g", noun, p->min);
  else if (!low)
    snprintf(buf, size, "%s <= %.10g", noun, p->max);
  else
    snprintf(buf, size, "%s in [%.10g, %.10g]", noun, p->min, p->max);
  return buf;
}

static bool in_range(const mx_param *p, double x) { return x >= p->min && x <= p->max; }

/* ---- scanners: each moves *s behind what it read ---- */

static void skip_space(const char **s) {
  while (isspace((unsigned char)**s)) (*s)++;
}

static bool scan_float(const char **s, double *out) {
  char *end;
  errno = 0;
  double x = strtod(*s, &end);
  if (end == *s) return false;
  if (*end == 'f' || *end == 'F') end++; /* C++ literals in old files */
  *s = end;
  *out = x;
  return true;
}

/* Integers, also those that were printed from a floating-point number ("1e+06", "3.0") or by Python 2 ("3L"). */
static bool scan_int(const char **s, int64_t *out) {
  char *end;
  errno = 0;
  long long i = strtoll(*s, &end, 10);
  if (end != *s && *end != '.' && *end != 'e' && *end != 'E') {
    if (errno) return false;
    if (*end == 'L') end++;
    *s = end;
    *out = i;
    return true;
  }
  double x;
  if (!scan_float(s, &x) || !(fabs(x) < 9e15) || x != floor(x)) return false;
  *out = (int64_t)x;
  return true;
}

static bool scan_none(const char **s) {
  if (strncmp(*s, "None", 4) || isalnum((unsigned char)(*s)[4])) return false;
  *s += 4;
  return true;
}

static bool at_end(const char *s) {
  skip_space(&s);
  return *s == 0;
}

/* Reads "(a, b)", "[a, b]" or a bare "a", handing each element to `take`; false on a syntax error. */
static bool scan_tuple(const char *s, bool (*take)(const char **s, void *data), void *data) {
  skip_space(&s);
  char close = *s == '(' ? ')' : *s == '[' ? ']' : 0;
  if (!close) return take(&s, data) && at_end(s);
  s++;
  for (;;) {
    skip_space(&s);
    if (*s == close) return at_end(s + 1);
    if (!take(&s, data)) return false;
    skip_space(&s);
    if (*s == ',')
      s++;
    else if (*s != close)
      return false;
  }
}

static bool is_none(const char *text) {
  skip_space(&text);
  return scan_none(&text) && at_end(text);
}

/* ---- tuples ---- */

static bool take_dim(const char **s, void *data) {
  mx_shape *t = data;
  if (t->ndim == MX_MAX_NDIM) return false;
  int64_t x = MX_TUPLE_NONE;
  if (!scan_none(s) && !scan_int(s, &x)) return false;
  t->dim[t->ndim++] = x;
  return true;
}

static bool tuple_of(const char *text, mx_shape *out) {
  *out = (mx_shape){.ndim = 0};
  if (is_none(text)) {
    out->ndim = -1;
    return true;
  }
  return scan_tuple(text, take_dim, out);
}

mx_status mx_parse_tuple(const char *text, mx_shape *out, mx_error *err) {
  if (tuple_of(text, out)) return MX_OK;
  return mx_fail(err, MX_ERR_VALUE,
                 "\"%.120s\" is not a shape; expected something like (2,3) with at most %d integers.", text,
                 MX_MAX_NDIM);
}

typedef struct growing { /* an owned array that is being read */
  int n, capacity;
  void *v;
  bool no_memory;
} growing;

static void *grow(growing *g, size_t size) {
  if (g->n == g->capacity) {
    int capacity = g->capacity ? g->capacity * 2 : 8;
    void *v = mx_realloc(g->v, (size_t)capacity * size);
    if (!v) {
      g->no_memory = true;
      return NULL;
    }
    g->v = v;
    g->capacity = capacity;
  }
  return (char *)g->v + (size_t)(g->n++) * size;
}

static bool take_long(const char **s, void *data) {
  int64_t x;
  if (!scan_int(s, &x)) return false;
  int64_t *slot = grow(data, sizeof(x));
  if (slot) *slot = x;
  return slot != NULL;
}

static bool take_double(const char **s, void *data) {
  double x;
  if (!scan_float(s, &x)) return false;
  double *slot = grow(data, sizeof(x));
  if (slot) *slot = x;
  return slot != NULL;
}

static mx_status set_ints(const mx_param *p, const char *owner, const char *text, mx_ints *out, mx_error *err) {
  growing g = {0};
  char buf[160];
  bool ok = is_none(text) || scan_tuple(text, take_long, &g);
  for (int i = 0; ok && i < g.n; i++) ok = in_range(p, (double)((int64_t *)g.v)[i]);
  if (!ok) {
    mx_free(g.v);
    return g.no_memory ? mx_fail_memory(err, 64)
                       : bad_value(p, owner, text, range_text(p, "a tuple of integers", buf, sizeof(buf)), err);
  }
  mx_free(out->v);
  *out = (mx_ints){g.n, g.v};
  return MX_OK;
}

static mx_status set_floats(const mx_param *p, const char *owner, const char *text, mx_floats *out, mx_error *err) {
  growing g = {0};
  char buf[160];
  bool ok = is_none(text) || scan_tuple(text, take_double, &g);
  for (int i = 0; ok && i < g.n; i++) ok = in_range(p, ((double *)g.v)[i]);
  if (!ok) {
    mx_free(g.v);
    return g.no_memory ? mx_fail_memory(err, 64)
                       : bad_value(p, owner, text, range_text(p, "a tuple of numbers", buf, sizeof(buf)), err);
  }
  mx_free(out->v);
  *out = (mx_floats){g.n, g.v};
  return MX_OK;
}

/* ---- scalars ---- */

static bool parse_bool(const char *text, bool *out) {
  static const char *const yes[] = {"True", "true", "TRUE", "1"}, *const no[] = {"False", "false", "FALSE", "0"};
  for (int i = 0; i < 4; i++) {
    if (!strcmp(text, yes[i])) {
      *out = true;
      return true;
    }
    if (!strcmp(text, no[i])) {
      *out = false;
      return true;
    }
  }
  return false;
}

static bool parse_int(const char *text, int64_t *out) {
  skip_space(&text);
  bool truth;
  if (scan_int(&text, out)) return at_end(text);
  if (!parse_bool(text, &truth)) return false;
  *out = truth;
  return true;
}

static bool parse_float(const char *text, double *out) {
  skip_space(&text);
  bool truth;
  if (scan_float(&text, out)) return at_end(text);
  if (!parse_bool(text, &truth)) return false;
  *out = truth;
  return true;
}

static mx_status set_choice(const mx_param *p, const char *owner, const char *text, int *index, mx_error *err) {
  for (int i = 0; p->choices[i]; i++)
    if (!strcmp(text, p->choices[i])) {
      *index = i;
      return MX_OK;
    }
  char list[256] = "one of ";
  for (int i = 0; p->choices[i]; i++) {
    size_t n = strlen(list);
    snprintf(list + n, sizeof(list) - n, "%s'%s'", i ? ", " : "", p->choices[i]);
  }
  return bad_value(p, owner, text, list, err);
}

mx_status mx_param_set(const mx_param *p, const char *owner, const char *text, void *params, mx_error *err) {
  void *f = field(p, params);
  char buf[160];
  switch (p->kind) {
    case MX_PARAM_OPT_BOOL:
      if (is_none(text)) {
        *(int8_t *)f = -1;
        return MX_OK;
      }
      /* fall through */
    case MX_PARAM_BOOL: {
      bool x;
      if (!parse_bool(text, &x)) return bad_value(p, owner, text, "TRUE or FALSE", err);
      if (p->kind == MX_PARAM_BOOL)
        *(bool *)f = x;
      else
        *(int8_t *)f = x;
      return MX_OK;
    }
    case MX_PARAM_INT:
    case MX_PARAM_OPT_INT: {
      int64_t x = 0;
      bool none = p->kind == MX_PARAM_OPT_INT && is_none(text);
      if (!none && (!parse_int(text, &x) || !in_range(p, (double)x)))
        return bad_value(p, owner, text, range_text(p, "an integer", buf, sizeof(buf)), err);
      if (p->kind == MX_PARAM_INT)
        *(int64_t *)f = x;
      else
        *(mx_opt_int *)f = (mx_opt_int){!none, x};
      return MX_OK;
    }
    case MX_PARAM_FLOAT:
    case MX_PARAM_OPT_FLOAT: {
      double x = 0;
      bool none = p->kind == MX_PARAM_OPT_FLOAT && is_none(text);
      bool bounded = !(isinf(p->min) && isinf(p->max));
      if (!none && (!parse_float(text, &x) || (bounded && !in_range(p, x))))
        return bad_value(p, owner, text, range_text(p, "a number", buf, sizeof(buf)), err);
      if (p->kind == MX_PARAM_FLOAT)
        *(double *)f = x;
      else
        *(mx_opt_float *)f = (mx_opt_float){!none, x};
      return MX_OK;
    }
    case MX_PARAM_ENUM:
      return set_choice(p, owner, text, f, err);
    case MX_PARAM_DTYPE: {
      int i;
      MX_TRY(set_choice(p, owner, text, &i, err));
      mx_dtype t = mx_dtype_parse(text);
      if (t == MX_DTYPE_UNKNOWN && strcmp(text, "None"))
        return bad_value(p, owner, text, "a type that is supported", err);
      *(mx_dtype *)f = t;
      return MX_OK;
    }
    case MX_PARAM_STRING: {
      char *copy = mx_strdup(text);
      if (!copy) return mx_fail_memory(err, strlen(text));
      mx_free(*(char **)f);
      *(char **)f = copy;
      return MX_OK;
    }
    case MX_PARAM_TUPLE: {
      mx_shape t;
      bool ok = tuple_of(text, &t);
      for (int i = 0; ok && i < t.ndim; i++)
        ok = t.dim[i] == MX_TUPLE_NONE ? isinf(p->min) : in_range(p, (double)t.dim[i]);
      if (!ok) return bad_value(p, owner, text, range_text(p, "a tuple of integers", buf, sizeof(buf)), err);
      *(mx_shape *)f = t;
      return MX_OK;
    }
    case MX_PARAM_INTS:
      return set_ints(p, owner, text, f, err);
    case MX_PARAM_FLOATS:
      return set_floats(p, owner, text, f, err);
    case MX_PARAM_REST: /* filled by parse_all */
      break;
  }
  return mx_fail(err, MX_ERR_INTERNAL, "%s: parameter %s has an unknown kind.", owner, p->name);
}

const mx_param *mx_param_find(const mx_param *table, const char *name) {
  for (; table && table->name; table++)
    if (!strcmp(table->name, name)) return table;
  return NULL;
}

void mx_params_free(const mx_param *table, void *params) {
  for (; table && table->name; table++) {
    void *f = field(table, params);
    if (table->kind == MX_PARAM_STRING) mx_free(*(char **)f), *(char **)f = NULL;
    if (table->kind == MX_PARAM_INTS) mx_free(((mx_ints *)f)->v), *(mx_ints *)f = (mx_ints){0};
    if (table->kind == MX_PARAM_FLOATS) mx_free(((mx_floats *)f)->v), *(mx_floats *)f = (mx_floats){0};
    if (table->kind == MX_PARAM_REST) mx_dict_free(f), *(mx_dict *)f = MX_DICT_EMPTY;
  }
}

static mx_status unknown_parameter(const mx_param *table, const char *owner, const char *key, mx_error *err) {
  char list[256] = "no parameters";
  size_t n = 0;
  for (const mx_param *p = table; p && p->name && n < sizeof(list); p++)
    n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", p->name);
  mx_fail(err, MX_ERR_VALUE, "%s has no parameter '%.120s'; it knows %s.", owner, key, list);
  mx_error_set(err, op, "%s", owner);
  mx_error_set(err, argument, "%s", key);
  mx_error_set(err, expected, "%s", list);
  return MX_ERR_VALUE;
}

static bool is_decoration(const char *key) {
  size_t n = strlen(key);
  return n > 4 && !strncmp(key, "__", 2) && !strcmp(key + n - 2, "__");
}

static mx_status parse_all(const mx_param *table, const char *owner, const mx_dict *attrs, void *params,
                           mx_error *err) {
  const mx_param *rest = table;
  while (rest && rest->name && rest->kind != MX_PARAM_REST) rest++;
  for (int i = 0; i < attrs->n; i++) {
    const char *key = attrs->key[i];
    if (is_decoration(key) || mx_param_find(table, key)) continue;
    if (!rest || !rest->name) return unknown_parameter(table, owner, key, err);
    MX_TRY(mx_dict_set(field(rest, params), key, attrs->value[i], err));
  }
  for (const mx_param *p = table; p && p->name; p++) {
    if (p == rest) continue;
    const char *text = mx_dict_get(attrs, p->name);
    if (!text) text = p->initial;
    if (!text) {
      mx_fail(err, MX_ERR_VALUE, "%s needs the parameter %s, which was not given.", owner, p->name);
      mx_error_set(err, op, "%s", owner);
      mx_error_set(err, argument, "%s", p->name);
      return MX_ERR_VALUE;
    }
    MX_TRY(mx_param_set(p, owner, text, params, err));
  }
  return MX_OK;
}

mx_status mx_params_parse(const mx_param *table, const char *owner, const mx_dict *attrs, void *params, mx_error *err) {
  mx_status st = parse_all(table, owner, attrs, params, err);
  if (st != MX_OK) mx_params_free(table, params);
  return st;
}
