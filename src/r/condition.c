/* Core errors become R conditions here, and nowhere else; and R code that the core asks for runs from here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "r/glue.h"

/* Where R wanted to go when it left mxr_call: a list of one element. */
static SEXP unwinding;

static void leave(void *back, Rboolean jump) {
  if (jump) longjmp(*(jmp_buf *)back, 1);
}

bool mxr_call(SEXP (*function)(void *), void *data) {
  jmp_buf back;
  SEXP token = PROTECT(R_MakeUnwindCont());
  if (setjmp(back)) {
    SET_VECTOR_ELT(unwinding, 0, token);
    UNPROTECT(1);
    return false;
  }
  R_UnwindProtect(function, data, leave, &back, token);
  UNPROTECT(1);
  return true;
}

void mxr_condition_init(void) {
  unwinding = Rf_allocVector(VECSXP, 1);
  R_PreserveObject(unwinding);
}

void mxr_raise(const mx_error *err) {
  SEXP token = VECTOR_ELT(unwinding, 0);
  if (err->code == MX_ERR_INTERRUPTED && token != R_NilValue) {
    PROTECT(token);
    SET_VECTOR_ELT(unwinding, 0, R_NilValue);
    R_ContinueUnwind(token);
  }
  SEXP text[7];
  const char *field[7] = {
      mx_status_name(err->code), err->message, err->op, err->node, err->argument, err->expected, err->actual};
  SEXP call = R_NilValue;
  PROTECT_INDEX at;
  PROTECT_WITH_INDEX(call, &at);
  for (int i = 6; i >= 0; i--) {
    text[i] = PROTECT(Rf_ScalarString(Rf_mkCharCE(field[i], CE_UTF8)));
    REPROTECT(call = Rf_lcons(text[i], call), at);
    UNPROTECT(1);
  }
  REPROTECT(call = Rf_lcons(Rf_install("mx.raise"), call), at);
  Rf_eval(call, mxr_namespace);
  UNPROTECT(1);
  Rf_error("%s", err->message); /* not reached: mx.raise does not return */
}

void mxr_stop(mx_status code, const char *fmt, ...) {
  char text[sizeof(((mx_error *)0)->message)];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof(text), fmt, ap);
  va_end(ap);
  mx_error err;
  mx_fail(&err, code, "%s", text);
  mxr_raise(&err);
}

const char *mxr_describe(SEXP x, char *buf, size_t size) {
  if (Rf_isObject(x)) {
    SEXP klass = Rf_getAttrib(x, R_ClassSymbol);
    if (TYPEOF(klass) == STRSXP && XLENGTH(klass) > 0) {
      snprintf(buf, size, "an object of class %s", CHAR(STRING_ELT(klass, 0)));
      return buf;
    }
  }
  const char *one = NULL, *many = NULL;
  switch (TYPEOF(x)) {
    case NILSXP:
      return "NULL";
    case LGLSXP:
      one = "a logical value", many = "a logical vector";
      break;
    case INTSXP:
    case REALSXP:
      one = "a number", many = "a numeric vector";
      break;
    case CPLXSXP:
      one = "a complex number", many = "a complex vector";
      break;
    case STRSXP:
      one = "a string", many = "a character vector";
      break;
    case RAWSXP:
      one = "a raw byte", many = "a raw vector";
      break;
    case VECSXP:
      return "a list";
    case EXTPTRSXP:
      return "a foreign external pointer";
    case ENVSXP:
      return "an environment";
    case CLOSXP:
    case BUILTINSXP:
    case SPECIALSXP:
      return "a function";
    default:
      snprintf(buf, size, "an object of type %s", Rf_type2char(TYPEOF(x)));
      return buf;
  }
  if (Rf_isMatrix(x)) return "a matrix";
  if (XLENGTH(x) == 1) return one;
  snprintf(buf, size, "%s of length %lld", many, (long long)XLENGTH(x));
  return buf;
}

mx_status mxr_fail_type(mx_error *err, const char *argument, const char *expected, SEXP actual) {
  char buf[160];
  const char *what = mxr_describe(actual, buf, sizeof(buf));
  mx_fail(err, MX_ERR_VALUE, "`%s` must be %s, not %s.", argument, expected, what);
  mx_error_set(err, argument, "%s", argument);
  mx_error_set(err, expected, "%s", expected);
  mx_error_set(err, actual, "%s", what);
  return MX_ERR_VALUE;
}

void mxr_stop_type(const char *argument, const char *expected, SEXP actual) {
  mx_error err;
  (void)mxr_fail_type(&err, argument, expected, actual);
  mxr_raise(&err);
}
