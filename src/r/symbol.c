/* Symbols: composition, lists of names, attributes, shapes, JSON. */
#include <stdio.h>
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"
#include "graph/legacy.h"
#include "io/file.h"

/* A pointer for the result first, then the core call that fills it. */
#define RETURN_SYMBOL(call)                           \
  do {                                                \
    SEXP ptr_ = PROTECT(mxr_pointer_new(MXR_SYMBOL)); \
    mx_symbol *out = NULL;                            \
    mx_error err;                                     \
    MXR_CHECK(call, err);                             \
    mxr_pointer_set(ptr_, MXR_SYMBOL, out);           \
    ptr_ = mxr_wrap(ptr_, MXR_SYMBOL);                \
    UNPROTECT(1);                                     \
    return ptr_;                                      \
  } while (0)

SEXP ffi_symbol_variable(SEXP name) {
  const char *text = mxr_string(name, "name");
  RETURN_SYMBOL(mx_symbol_variable(text, &out, &err));
}

/* ---- applying an operator ---- */

typedef struct call_args {
  int n;
  mx_symbol **symbol;
  const char **key; /* NULL: by position */
  const char *name; /* of the new node */
  mxr_attrs attrs;
} call_args;

/* "num.hidden" is num_hidden, unless the name itself has a dot. */
static const char *key_of(const char *name) {
  size_t n = strlen(name) + 1;
  char *key = memcpy(R_alloc(n, 1), name, n);
  for (char *p = key; *p; p++)
    if (*p == '.') *p = '_';
  return key;
}

static bool is_symbol_list(SEXP x) {
  if (TYPEOF(x) != VECSXP || XLENGTH(x) == 0) return false;
  for (R_xlen_t i = 0; i < XLENGTH(x); i++)
    if (!mxr_is(VECTOR_ELT(x, i), MXR_SYMBOL)) return false;
  return true;
}

static void sort_args(const mx_op *op, SEXP args, call_args *c) {
  SEXP names = PROTECT(Rf_getAttrib(args, R_NamesSymbol));
  R_xlen_t n = XLENGTH(args), room = 0;
  for (R_xlen_t i = 0; i < n; i++) {
    SEXP v = VECTOR_ELT(args, i);
    room += TYPEOF(v) == VECSXP ? XLENGTH(v) : 1;
  }
  c->symbol = (mx_symbol **)R_alloc((size_t)room + 1, sizeof(*c->symbol));
  c->key = (const char **)R_alloc((size_t)room + 1, sizeof(*c->key));
  for (R_xlen_t i = 0; i < n; i++) {
    SEXP v = VECTOR_ELT(args, i);
    const char *name = names == R_NilValue ? "" : mxr_text(STRING_ELT(names, i), "names");
    if (mxr_is(v, MXR_SYMBOL)) {
      c->symbol[c->n] = mxr_symbol(v, *name ? name : "...");
      c->key[c->n++] = *name ? key_of(name) : NULL;
    } else if (is_symbol_list(v)) {
      for (R_xlen_t k = 0; k < XLENGTH(v); k++) {
        c->symbol[c->n] = mxr_symbol(VECTOR_ELT(v, k), *name ? name : "...");
        c->key[c->n++] = NULL;
      }
    } else if (!strcmp(name, "name")) {
      if (v != R_NilValue) c->name = mxr_string(v, "name");
    } else if (!*name) {
      mx_error err;
      char what[160];
      mx_fail(&err, MX_ERR_VALUE,
              "%s: only symbols can be given without a name; argument %d is %s. Write parameter = value.", op->name,
              (int)i + 1, mxr_describe(v, what, sizeof(what)));
      mx_error_set(&err, op, "%s", op->name);
      mxr_raise(&err);
    } else {
      const char *key = key_of(name);
      const mx_param *p = mx_param_find(op->params, key);
      for (int k = 0; k < mxr_input_count(op); k++)
        if (!p && !strcmp(key, mxr_input_name(op, k))) mxr_stop_type(name, "an MXSymbol", v);
      mxr_attrs_set(&c->attrs, key, mxr_attr_text(op->name, key, p, v));
    }
  }
  UNPROTECT(1);
}

/* By position unless an input has a name; that of a variadic operator's list counts as none. */
static void find_names(const mx_op *op, call_args *c) {
  bool any = false;
  for (int i = 0; i < c->n; i++) {
    if (op->num_args && c->key[i] && !strcmp(c->key[i], mxr_input_name(op, 0))) c->key[i] = NULL;
    any |= c->key[i] != NULL;
  }
  if (!any) c->key = NULL;
}

/* `name` is the operator as it was called, which the automatic name comes from; `hint` NULL: from that. */
SEXP ffi_symbol_operator(SEXP name, SEXP args, SEXP hint) {
  const char *called = mxr_string(name, "operator");
  const mx_op *op = mxr_operator(called);
  const char *base = hint == R_NilValue ? called : mxr_string(hint, "hint");
  call_args c = {0};
  if (op->flags & MX_OP_IMPERATIVE) mxr_stop(MX_ERR_VALUE, "%s works on arrays only: use mx.nd.*.", called);
  sort_args(op, args, &c);
  find_names(op, &c);
  RETURN_SYMBOL(mx_symbol_apply(op, base, c.name, &c.attrs.dict, c.key, c.symbol, c.n, &out, &err));
}

SEXP ffi_symbol_compose(SEXP symbol, SEXP name, SEXP args) {
  mx_symbol *s = mxr_symbol(symbol, "x");
  const char *head = name == R_NilValue ? NULL : mxr_string(name, "name");
  int n = (int)XLENGTH(args);
  SEXP names = PROTECT(Rf_getAttrib(args, R_NamesSymbol));
  mx_symbol **arg = (mx_symbol **)R_alloc((size_t)n + 1, sizeof(*arg));
  const char **key = (const char **)R_alloc((size_t)n + 1, sizeof(*key));
  for (int i = 0; i < n; i++) {
    key[i] = names == R_NilValue ? "" : mxr_text(STRING_ELT(names, i), "names");
    if (!*key[i]) mxr_stop(MX_ERR_VALUE, "Arguments are replaced by name: write mx.apply(x, data = symbol).");
    arg[i] = mxr_symbol(VECTOR_ELT(args, i), key[i]);
  }
  UNPROTECT(1);
  RETURN_SYMBOL(mx_symbol_compose(s, head, key, arg, n, &out, &err));
}

SEXP ffi_symbol_group(SEXP list) {
  int n = (int)XLENGTH(list);
  mx_symbol **s = (mx_symbol **)R_alloc((size_t)n + 1, sizeof(*s));
  for (int i = 0; i < n; i++) s[i] = mxr_symbol(VECTOR_ELT(list, i), "...");
  RETURN_SYMBOL(mx_symbol_group(s, n, &out, &err));
}

/* ---- parts ---- */

SEXP ffi_symbol_internals(SEXP x) {
  const mx_symbol *s = mxr_symbol(x, "x");
  RETURN_SYMBOL(mx_symbol_internals(s, &out, &err));
}

SEXP ffi_symbol_children(SEXP x) {
  const mx_symbol *s = mxr_symbol(x, "x");
  RETURN_SYMBOL(mx_symbol_children(s, &out, &err));
}

/* Output `index`, from 1. */
SEXP ffi_symbol_output(SEXP x, SEXP index) {
  const mx_symbol *s = mxr_symbol(x, "x");
  double i = Rf_isNumeric(index) && XLENGTH(index) == 1 ? Rf_asReal(index) : R_NaN;
  /* match() and which() give these for a name that is not there. */
  bool none = XLENGTH(index) == 0 || (Rf_isVectorAtomic(index) && XLENGTH(index) == 1 && ISNAN(Rf_asReal(index)));
  if (!(i >= 1 && i <= s->n))
    mxr_stop(MX_ERR_VALUE, "The index of an output must be a number from 1 to %d%s", s->n,
             none ? ", but it is NA or empty: a name that was looked for is not among the outputs." : ".");
  RETURN_SYMBOL(mx_symbol_output(s, (int)i - 1, &out, &err));
}

static void release_names(void *names) {
  mx_names_free(names);
  mx_free(names);
}

typedef mx_status (*list_names)(const mx_symbol *s, mx_names *out, mx_error *err);

static SEXP names_of(SEXP x, list_names list) {
  const mx_symbol *s = mxr_symbol(x, "x");
  mx_error err;
  SEXP keeper = PROTECT(mxr_keeper(release_names));
  mx_names *names = mx_calloc(1, sizeof(*names));
  if (!names) MXR_CHECK(mx_fail_memory(&err, sizeof(*names)), err);
  R_SetExternalPtrAddr(keeper, names);
  MXR_CHECK(list(s, names, &err), err);
  SEXP out = PROTECT(mxr_names_to_r(names));
  mxr_release(keeper);
  UNPROTECT(2);
  return out;
}

SEXP ffi_symbol_arguments(SEXP x) { return names_of(x, mx_symbol_arguments); }
SEXP ffi_symbol_auxiliaries(SEXP x) { return names_of(x, mx_symbol_auxiliaries); }
SEXP ffi_symbol_outputs(SEXP x) { return names_of(x, mx_symbol_outputs); }

/* ---- attributes ---- */

/* Those with underscores of today that had a name without appear under both, as in the reference. */
static SEXP attributes_of(const mx_dict *d, int aliases) {
  SEXP out = PROTECT(Rf_allocVector(VECSXP, d->n + aliases)), names = PROTECT(Rf_allocVector(STRSXP, d->n + aliases));
  int at = 0;
  for (int i = 0; i < d->n; i++) {
    SEXP value = Rf_ScalarString(Rf_mkCharCE(d->value[i], CE_UTF8));
    SET_VECTOR_ELT(out, at, value);
    SET_STRING_ELT(names, at++, Rf_mkCharCE(d->key[i], CE_UTF8));
    const char *old = mx_legacy_old_key(d->key[i]);
    if (!old) continue;
    SET_VECTOR_ELT(out, at, value);
    SET_STRING_ELT(names, at++, Rf_mkCharCE(old, CE_UTF8));
  }
  if (at) Rf_setAttrib(out, R_NamesSymbol, names);
  UNPROTECT(2);
  return out;
}

SEXP ffi_symbol_attributes(SEXP x) {
  static const mx_dict none;
  const mx_dict *d = mx_symbol_attributes(mxr_symbol(x, "x"));
  int aliases = 0;
  if (!d) d = &none;
  for (int i = 0; i < d->n; i++) aliases += mx_legacy_old_key(d->key[i]) != NULL;
  return attributes_of(d, aliases);
}

SEXP ffi_symbol_set_attributes(SEXP x, SEXP values) {
  mx_symbol *s = mxr_symbol(x, "x");
  SEXP names = PROTECT(Rf_getAttrib(values, R_NamesSymbol));
  mx_error err;
  if (TYPEOF(values) != VECSXP || (XLENGTH(values) > 0 && names == R_NilValue))
    mxr_stop_type("attributes", "a named list of strings", values);
  for (R_xlen_t i = 0; i < XLENGTH(values); i++) {
    const char *key = mxr_text(STRING_ELT(names, i), "names");
    if (!*key) mxr_stop_type("attributes", "a named list of strings", values);
    (void)mxr_string(VECTOR_ELT(values, i), key);
  }
  for (R_xlen_t i = 0; i < XLENGTH(values); i++) {
    const char *key = mxr_text(STRING_ELT(names, i), "names"), *value = mxr_string(VECTOR_ELT(values, i), key);
    MXR_CHECK(mx_symbol_set_attribute(s, key, value, &err), err);
  }
  UNPROTECT(1);
  return R_NilValue;
}

/* ---- shapes ---- */

static void release_shapes(void *shapes) {
  mx_symbol_shapes_free(shapes);
  mx_free(shapes);
}

static SEXP shape_list(const mx_shape *shapes, int n, SEXP names) {
  SEXP out = PROTECT(Rf_allocVector(VECSXP, n));
  for (int i = 0; i < n; i++) SET_VECTOR_ELT(out, i, mxr_shape_to_r(&shapes[i]));
  if (n) Rf_setAttrib(out, R_NamesSymbol, names);
  UNPROTECT(1);
  return out;
}

int mxr_shapes_from_r(SEXP list, const char ***keys, mx_shape **shapes) {
  mxr_check_list(list, "kwargs", "a named list of dims");
  int n = (int)XLENGTH(list);
  SEXP names = PROTECT(Rf_getAttrib(list, R_NamesSymbol));
  mx_error err;
  *keys = (const char **)R_alloc((size_t)n + 1, sizeof(**keys));
  *shapes = (mx_shape *)R_alloc((size_t)n + 1, sizeof(**shapes));
  for (int i = 0; i < n; i++) {
    (*keys)[i] = names == R_NilValue ? "" : mxr_text(STRING_ELT(names, i), "names");
    if (!*(*keys)[i]) mxr_stop(MX_ERR_VALUE, "Shapes are given by name: data = c(28, 28, 1, 100).");
    MXR_CHECK(mxr_shape_from_r(VECTOR_ELT(list, i), (*keys)[i], &(*shapes)[i], &err), err);
  }
  UNPROTECT(1);
  return n;
}

/* list(arg.shapes, out.shapes, aux.shapes); NULL when something stays unknown, unless `partial`. */
SEXP ffi_symbol_infer_shape(SEXP x, SEXP given, SEXP partial) {
  const mx_symbol *s = mxr_symbol(x, "symbol");
  const char **key;
  mx_shape *shape;
  mx_error err;
  bool all = !mxr_flag(partial, "partial");
  int n = mxr_shapes_from_r(given, &key, &shape);
  SEXP names[3] = {PROTECT(ffi_symbol_arguments(x)), PROTECT(ffi_symbol_outputs(x)),
                   PROTECT(ffi_symbol_auxiliaries(x))};
  SEXP keeper = PROTECT(mxr_keeper(release_shapes));
  mx_symbol_shapes *found = mx_calloc(1, sizeof(*found));
  if (!found) MXR_CHECK(mx_fail_memory(&err, sizeof(*found)), err);
  R_SetExternalPtrAddr(keeper, found);
  MXR_CHECK(mx_symbol_infer_shape(s, key, shape, n, found, &err), err);
  const char *parts[] = {"arg.shapes", "out.shapes", "aux.shapes", ""};
  SEXP out = R_NilValue;
  if (found->complete || !all) {
    out = PROTECT(Rf_mkNamed(VECSXP, parts));
    SET_VECTOR_ELT(out, 0, shape_list(found->args, found->n_args, names[0]));
    SET_VECTOR_ELT(out, 1, shape_list(found->outs, found->n_outs, names[1]));
    SET_VECTOR_ELT(out, 2, shape_list(found->aux, found->n_aux, names[2]));
    UNPROTECT(1);
  }
  mxr_release(keeper);
  UNPROTECT(4);
  return out;
}

/* ---- text ---- */

static SEXP text_of(SEXP x, mx_status (*make)(const mx_symbol *s, char **out, mx_error *err)) {
  const mx_symbol *s = mxr_symbol(x, "x");
  char *text = NULL;
  mx_error err;
  SEXP keeper = PROTECT(mxr_keeper(mx_free));
  MXR_CHECK(make(s, &text, &err), err);
  R_SetExternalPtrAddr(keeper, text);
  SEXP out = PROTECT(Rf_ScalarString(Rf_mkCharCE(text, CE_UTF8)));
  mxr_release(keeper);
  UNPROTECT(2);
  return out;
}

SEXP ffi_symbol_json(SEXP x) { return text_of(x, mx_symbol_to_json); }
SEXP ffi_symbol_describe(SEXP x) { return text_of(x, mx_symbol_describe); }

/* Any text to a file, which appears whole or not at all. */
SEXP ffi_text_save(SEXP text, SEXP path) {
  const char *content = mxr_string(text, "text"), *file = mxr_path(path);
  mx_error err;
  MXR_CHECK(mx_file_save_text(file, content, &err), err);
  return R_NilValue;
}

SEXP ffi_symbol_from_json(SEXP json) {
  const char *text = mxr_string(json, "json.str");
  RETURN_SYMBOL(mx_symbol_from_json(text, &out, &err));
}

/* ---- nodes, for tables and drawings ---- */

/* One row per node, inputs first: name, op ("null" for variables), inputs as 1-based rows, attributes. */
SEXP ffi_symbol_nodes(SEXP x) {
  const mx_symbol *s = mxr_symbol(x, "x");
  mx_node **node = NULL;
  mx_error err;
  int n = 0;
  SEXP keeper = PROTECT(mxr_keeper(mx_free));
  MXR_CHECK(mx_nodes_sort(s->out, s->n, &node, &n, &err), err);
  R_SetExternalPtrAddr(keeper, node);
  const char *parts[] = {"name", "op", "inputs", "indices", "attributes", ""};
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, parts));
  SEXP name = Rf_allocVector(STRSXP, n);
  SET_VECTOR_ELT(out, 0, name);
  SEXP op = Rf_allocVector(STRSXP, n);
  SET_VECTOR_ELT(out, 1, op);
  for (int k = 2; k < 5; k++) SET_VECTOR_ELT(out, k, Rf_allocVector(VECSXP, n));
  for (int i = 0; i < n; i++) {
    SET_STRING_ELT(name, i, Rf_mkCharCE(node[i]->name, CE_UTF8));
    SET_STRING_ELT(op, i, Rf_mkChar(node[i]->op ? node[i]->op->name : "null"));
    SEXP inputs = PROTECT(Rf_allocVector(INTSXP, node[i]->n_in)),
         indices = PROTECT(Rf_allocVector(INTSXP, node[i]->n_in));
    for (int k = 0; k < node[i]->n_in; k++) {
      int row = 0;
      while (node[row] != node[i]->in[k].node) row++;
      INTEGER(inputs)[k] = row + 1;
      INTEGER(indices)[k] = node[i]->in[k].index + 1;
    }
    SET_VECTOR_ELT(VECTOR_ELT(out, 2), i, inputs);
    SET_VECTOR_ELT(VECTOR_ELT(out, 3), i, indices);
    const mx_dict *d = &node[i]->attrs;
    SEXP values = PROTECT(Rf_allocVector(STRSXP, d->n)), keys = PROTECT(Rf_allocVector(STRSXP, d->n));
    for (int k = 0; k < d->n; k++) {
      SET_STRING_ELT(values, k, Rf_mkCharCE(d->value[k], CE_UTF8));
      SET_STRING_ELT(keys, k, Rf_mkCharCE(d->key[k], CE_UTF8));
    }
    Rf_setAttrib(values, R_NamesSymbol, keys);
    SET_VECTOR_ELT(VECTOR_ELT(out, 4), i, values);
    UNPROTECT(4);
  }
  mxr_release(keeper);
  UNPROTECT(2);
  return out;
}

/* ---- what a saved symbol consists of: its JSON ---- */

mx_status mxr_symbol_encode(const void *object, void **bytes, size_t *size, mx_error *err) {
  char *text;
  MX_TRY(mx_symbol_to_json(object, &text, err));
  *bytes = text;
  *size = strlen(text) + 1;
  return MX_OK;
}

mx_status mxr_symbol_decode(const void *bytes, size_t size, void **object, mx_error *err) {
  mx_symbol *s;
  if (memchr(bytes, 0, size) != (const char *)bytes + size - 1)
    return mx_fail(err, MX_ERR_FORMAT, "These are not the bytes of a saved symbol.");
  MX_TRY(mx_symbol_from_json(bytes, &s, err));
  *object = s;
  return MX_OK;
}
