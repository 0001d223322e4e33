/* R values to core values and back: shapes, parameters, contexts, names. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"

/* ---- shapes: reversed here and nowhere else ---- */

static mx_status integer_at(SEXP x, R_xlen_t i, int64_t *out) {
  double d;
  if (TYPEOF(x) == INTSXP) {
    if (INTEGER(x)[i] == NA_INTEGER) return MX_ERR_VALUE;
    *out = INTEGER(x)[i];
    return MX_OK;
  }
  d = REAL(x)[i];
  if (!(fabs(d) < 9e15)) return MX_ERR_VALUE;
  *out = (int64_t)d;
  return MX_OK;
}

static bool is_plain_number(SEXP x) { return (TYPEOF(x) == INTSXP || TYPEOF(x) == REALSXP) && !Rf_isFactor(x); }

mx_status mxr_shape_from_r(SEXP dim, const char *argument, mx_shape *out, mx_error *err) {
  if (!is_plain_number(dim) || XLENGTH(dim) == 0) return mxr_fail_type(err, argument, "a vector of dimensions", dim);
  R_xlen_t n = XLENGTH(dim);
  if (n > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE, "`%s` has %lld dimensions; at most %d are possible.", argument, (long long)n,
                   MX_MAX_NDIM);
  out->ndim = (int)n;
  for (R_xlen_t i = 0; i < n; i++)
    if (integer_at(dim, i, &out->dim[n - 1 - i]) != MX_OK || out->dim[n - 1 - i] < 0) {
      mx_fail(err, MX_ERR_SHAPE, "`%s` must hold non-negative whole numbers; element %lld is not one.", argument,
              (long long)i + 1);
      mx_error_set(err, argument, "%s", argument);
      return MX_ERR_SHAPE;
    }
  return MX_OK;
}

SEXP mxr_shape_to_r(const mx_shape *shape) {
  int n = shape->ndim > 0 ? shape->ndim : 0;
  bool wide = false;
  for (int i = 0; i < n; i++) wide |= shape->dim[i] > INT_MAX;
  SEXP out = Rf_allocVector(wide ? REALSXP : INTSXP, n);
  for (int i = 0; i < n; i++) {
    if (wide)
      REAL(out)[i] = (double)shape->dim[n - 1 - i];
    else
      INTEGER(out)[i] = (int)shape->dim[n - 1 - i];
  }
  return out;
}

mx_shape mxr_shape_reversed(const mx_shape *shape) {
  mx_shape out = *shape;
  for (int i = 0; i < shape->ndim; i++) out.dim[i] = shape->dim[shape->ndim - 1 - i];
  return out;
}

/* ---- parameters as text ---- */

/* The reference prints six digits; a value that needs more keeps them, so that nothing is lost on the way. */
void mxr_number_text(double x, char buf[32]) {
  static const int digits[] = {6, 9, 15, 17};
  for (int i = 0; i < 4; i++) {
    snprintf(buf, 32, "%.*g", digits[i], x);
    if (strtod(buf, NULL) == x) return;
  }
}

__attribute__((noreturn)) static void stop_attr(const char *op, const char *key, const char *expected, SEXP value) {
  char buf[160];
  const char *what = mxr_describe(value, buf, sizeof(buf));
  bool one = Rf_isVectorAtomic(value) && XLENGTH(value) == 1 && TYPEOF(value) != RAWSXP && TYPEOF(value) != CPLXSXP;
  if (one && (TYPEOF(value) == STRSXP ? STRING_ELT(value, 0) == NA_STRING : ISNAN(Rf_asReal(value)))) what = "NA";
  mx_error err;
  mx_fail(&err, MX_ERR_VALUE, "%s: `%s` must be %s, not %s.", op, key, expected, what);
  mx_error_set(&err, op, "%s", op);
  mx_error_set(&err, argument, "%s", key);
  mx_error_set(&err, expected, "%s", expected);
  mx_error_set(&err, actual, "%s", what);
  mxr_raise(&err);
}

static char *text_copy(const char *text) {
  size_t n = strlen(text) + 1;
  return memcpy(R_alloc(n, 1), text, n);
}

static bool ends_in_shape(const char *key) {
  size_t n = strlen(key);
  return n >= 5 && !strcmp(key + n - 5, "shape");
}

/* "(3, 2)" for c(2, 3): reversed like every shape. NA is "None". */
static const char *tuple_text(const char *op, const char *key, bool reals, SEXP value) {
  const char *expected = reals ? "a numeric vector" : "a vector of whole numbers";
  R_xlen_t n = XLENGTH(value);
  if (!is_plain_number(value) || n > 1 << 20) stop_attr(op, key, expected, value);
  char *text = R_alloc((size_t)n * 34 + 8, 1), *at = text;
  *at++ = '(';
  for (R_xlen_t i = 0; i < n; i++) {
    R_xlen_t j = reals ? i : n - 1 - i; /* lists of rates go with lists of arrays, in R's order */
    int64_t x;
    char number[32] = "None";
    if (reals)
      mxr_number_text(TYPEOF(value) == INTSXP ? (double)INTEGER(value)[j] : REAL(value)[j], number);
    else if (integer_at(value, j, &x) == MX_OK)
      snprintf(number, sizeof(number), "%lld", (long long)x);
    else if (TYPEOF(value) == REALSXP && !ISNA(REAL(value)[j]))
      stop_attr(op, key, expected, value);
    at += snprintf(at, sizeof(number) + 2, "%s%s", i ? ", " : "", number);
  }
  snprintf(at, 3, n == 1 ? ",)" : ")");
  return text;
}

static void refuse_bytes(SEXP element, const char *argument) {
  if (Rf_getCharCE(element) == CE_BYTES) mxr_stop(MX_ERR_VALUE, "`%s` has bytes that are no text.", argument);
}

const char *mxr_text(SEXP element, const char *argument) {
  refuse_bytes(element, argument);
  return Rf_translateCharUTF8(element);
}

const char *mxr_attr_text(const char *op, const char *key, const mx_param *p, SEXP value) {
  char buf[64];
  bool list = p && (p->kind == MX_PARAM_TUPLE || p->kind == MX_PARAM_INTS || p->kind == MX_PARAM_FLOATS);
  if (!strcmp(key, "ctx") && Rf_inherits(value, "MXContext")) {
    mx_device *device;
    mx_error err;
    MXR_CHECK(mxr_device(value, &device, &err), err);
    snprintf(buf, sizeof(buf), "%s(%d)", mx_device_kind_name(device->kind), device->id);
    return text_copy(buf);
  }
  const char *expected = list                            ? "a vector of numbers"
                         : !p                            ? "a number, a string or a vector of numbers"
                         : p->kind <= MX_PARAM_OPT_BOOL  ? "TRUE or FALSE"
                         : p->kind <= MX_PARAM_OPT_FLOAT ? "a number"
                                                         : "a string";
  if (!Rf_isVectorAtomic(value) || Rf_isFactor(value)) stop_attr(op, key, expected, value);
  bool one = XLENGTH(value) == 1;
  if (one && TYPEOF(value) == STRSXP && STRING_ELT(value, 0) != NA_STRING)
    return text_copy(mxr_text(STRING_ELT(value, 0), key));
  if (!one || ends_in_shape(key)) {
    if (p && !list) stop_attr(op, key, expected, value);
    return tuple_text(op, key, p && p->kind == MX_PARAM_FLOATS, value);
  }
  if (TYPEOF(value) == LGLSXP && LOGICAL(value)[0] != NA_LOGICAL) return LOGICAL(value)[0] ? "1" : "0";
  if (TYPEOF(value) == INTSXP && INTEGER(value)[0] != NA_INTEGER) {
    snprintf(buf, sizeof(buf), "%d", INTEGER(value)[0]);
    return text_copy(buf);
  }
  if (TYPEOF(value) != REALSXP || ISNAN(REAL(value)[0])) stop_attr(op, key, expected, value);
  double x = REAL(value)[0];
  bool whole = p && (p->kind == MX_PARAM_INT || p->kind == MX_PARAM_OPT_INT || p->kind == MX_PARAM_TUPLE);
  if (whole && fabs(x) < 9e15 && x == floor(x))
    snprintf(buf, sizeof(buf), "%lld", (long long)x);
  else
    mxr_number_text(x, buf);
  return text_copy(buf);
}

void mxr_attrs_set(mxr_attrs *attrs, const char *key, const char *value) {
  mx_dict *d = &attrs->dict;
  int at = 0;
  while (at < d->n && strcmp(d->key[at], key) < 0) at++;
  if (at < d->n && !strcmp(d->key[at], key)) {
    d->value[at] = (char *)value;
    return;
  }
  if (d->n == attrs->capacity) {
    int capacity = attrs->capacity ? 2 * attrs->capacity : 8;
    char **block = (char **)R_alloc(2 * (size_t)capacity, sizeof(char *));
    for (int i = 0; i < d->n; i++) block[i] = d->key[i], block[capacity + i] = d->value[i];
    d->key = block;
    d->value = block + capacity;
    attrs->capacity = capacity;
  }
  for (int i = d->n++; i > at; i--) d->key[i] = d->key[i - 1], d->value[i] = d->value[i - 1];
  d->key[at] = (char *)key;
  d->value[at] = (char *)value;
}

/* ---- small things ---- */

SEXP mxr_names_to_r(const mx_names *names) {
  SEXP out = PROTECT(Rf_allocVector(STRSXP, names->n));
  for (int i = 0; i < names->n; i++) SET_STRING_ELT(out, i, Rf_mkCharCE(names->v[i], CE_UTF8));
  UNPROTECT(1);
  return out;
}

bool mxr_flag(SEXP x, const char *argument) {
  int value = Rf_isVectorAtomic(x) && XLENGTH(x) == 1 && TYPEOF(x) != STRSXP ? Rf_asLogical(x) : NA_LOGICAL;
  if (value == NA_LOGICAL) mxr_stop_type(argument, "TRUE or FALSE", x);
  return value != 0;
}

static SEXP one_string(SEXP x, const char *argument) {
  if (TYPEOF(x) != STRSXP || XLENGTH(x) != 1 || STRING_ELT(x, 0) == NA_STRING) mxr_stop_type(argument, "a string", x);
  refuse_bytes(STRING_ELT(x, 0), argument);
  return STRING_ELT(x, 0);
}

const char *mxr_string(SEXP x, const char *argument) { return Rf_translateCharUTF8(one_string(x, argument)); }

const char *mxr_path(SEXP x) { return Rf_translateChar(one_string(x, "filename")); }

void mxr_check_list(SEXP x, const char *argument, const char *expected) {
  if (TYPEOF(x) != VECSXP) mxr_stop_type(argument, expected, x);
}

/* ---- contexts ---- */

static mx_device_kind default_kind = MX_CPU;
static int default_id;

SEXP ffi_context_default(SEXP kind, SEXP id) {
  default_kind = (mx_device_kind)Rf_asInteger(kind);
  default_id = Rf_asInteger(id);
  return R_NilValue;
}

static SEXP element(SEXP list, const char *name) {
  SEXP names = Rf_getAttrib(list, R_NamesSymbol);
  for (R_xlen_t i = 0; TYPEOF(names) == STRSXP && i < XLENGTH(list); i++)
    if (!strcmp(CHAR(STRING_ELT(names, i)), name)) return VECTOR_ELT(list, i);
  return R_NilValue;
}

mx_status mxr_device(SEXP ctx, mx_device **out, mx_error *err) {
  if (ctx == R_NilValue) return mx_device_get(default_kind, default_id, out, err);
  if (TYPEOF(ctx) != VECSXP || !Rf_inherits(ctx, "MXContext"))
    return mxr_fail_type(err, "ctx", "a context such as mx.cpu()", ctx);
  SEXP kind = element(ctx, "device_typeid"), id = element(ctx, "device_id");
  if (!is_plain_number(kind) || XLENGTH(kind) != 1 || !is_plain_number(id) || XLENGTH(id) != 1)
    return mx_fail(err, MX_ERR_VALUE, "`ctx` is an MXContext without device_typeid and device_id.");
  return mx_device_get((mx_device_kind)Rf_asInteger(kind), Rf_asInteger(id), out, err);
}

mx_status mxr_device_parse(const char *text, mx_device **out, mx_error *err) {
  mx_device_kind kind = !strncmp(text, "gpu", 3) ? MX_GPU : MX_CPU;
  int id = 0, end = 0;
  if ((strncmp(text, "cpu", 3) && strncmp(text, "gpu", 3)) ||
      (text[3] && (sscanf(text + 3, "(%d)%n", &id, &end) != 1 || text[3 + end] || end == 0 || id < 0)))
    return mx_fail(err, MX_ERR_VALUE, "\"%.60s\" is not a context; expected something like \"cpu(0)\".", text);
  return mx_device_get(kind, id, out, err);
}

SEXP mxr_device_to_r(const mx_device *device) {
  const char *names[] = {"device", "device_id", "device_typeid", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(out, 0, Rf_mkString(mx_device_kind_name(device->kind)));
  SET_VECTOR_ELT(out, 1, Rf_ScalarInteger(device->id));
  SET_VECTOR_ELT(out, 2, Rf_ScalarInteger(device->kind));
  SEXP klass = PROTECT(Rf_mkString("MXContext"));
  Rf_setAttrib(out, R_ClassSymbol, klass);
  UNPROTECT(2);
  return out;
}
