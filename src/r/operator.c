/* Operators applied to arrays: mx.nd.* functions and R's arithmetic. One .Call each, so little as possible happens
 * here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "core/memory.h"
#include "core/thread.h"

const mx_op *mxr_operator(const char *name) {
  const mx_op *op = mx_op_find(name);
  if (!op) mxr_stop(MX_ERR_VALUE, "There is no operator \"%.60s\".", name);
  return op;
}

int mxr_input_count(const mx_op *op) {
  if (op->num_args) return 1;
  if (!op->in_names) return op->n_in > 0 ? 1 : 0;
  int n = 0; /* where the number varies, in_names has all that there may be */
  while (op->in_names[n] && (op->count_in || n < op->n_in)) n++;
  return n;
}

const char *mxr_input_name(const mx_op *op, int i) {
  if (op->in_names && op->in_names[0]) return op->in_names[i];
  return "data";
}

/* ---- running ---- */

/* How many outputs users see; most records say it without looking at the parameters. */
static int visible_outputs(const mx_op *op, const mx_dict *attrs) {
  if (!op->count_out && !op->count_visible) return op->n_out;
  void *params;
  mx_error err;
  MXR_CHECK(mx_op_params_new(op, attrs, &params, &err), err);
  int n = mx_op_count_visible(op, params);
  mx_op_params_free(op, params);
  return n;
}

SEXP mxr_invoke(const mx_op *op, const mxr_attrs *attrs, mx_array **in, int n_in, SEXP out, mx_device *device) {
  enum { FEW = 8 };
  mx_array *few[FEW], **array = few;
  mx_error err;
  mx_status status;
  int n = visible_outputs(op, &attrs->dict);
  if (n > FEW) array = (mx_array **)R_alloc((size_t)n, sizeof(*array));
  bool list = n != 1, given = out != R_NilValue;
  if (given && TYPEOF(out) != VECSXP) list = false;
  if (given && (list ? XLENGTH(out) : 1) != n)
    mxr_stop(MX_ERR_VALUE, "%s has %d outputs, but `out` has %d.", op->name, n, list ? (int)XLENGTH(out) : 1);
  if (given && TYPEOF(out) == VECSXP && !list) out = VECTOR_ELT(out, 0);
  SEXP result = PROTECT(given ? out : list ? Rf_allocVector(VECSXP, n) : mxr_pointer_new(MXR_NDARRAY));
  for (int i = 0; i < n; i++) {
    array[i] = given ? mxr_ndarray(list ? VECTOR_ELT(out, i) : out, "out") : NULL;
    if (!given && list) SET_VECTOR_ELT(result, i, mxr_pointer_new(MXR_NDARRAY));
  }
  if (op->flags & MX_OP_RANDOM) mxr_random_begin();
  double start = mxr_profiling ? mx_seconds() : 0;
  MXR_RETRY(status, mx_invoke(op, &attrs->dict, in, n_in, array, n, device, false, &err));
  MXR_CHECK(status, err);
  if (mxr_profiling) mxr_profile_call(op, start, mx_seconds() - start);
  if (!given) {
    for (int i = 0; i < n; i++) mxr_pointer_set(list ? VECTOR_ELT(result, i) : result, MXR_NDARRAY, array[i]);
    mxr_collect_if_needed();
  }
  UNPROTECT(1);
  return result;
}

/* ---- mx.nd.<operator> ---- */

/* What an R function's name stands for, looked up once: formals are the inputs, then the parameters. */
typedef struct function_info {
  SEXP name; /* CHARSXP, preserved, so that its address stays its own */
  const mx_op *op;
  int n_in, n_params;
  double *number; /* the defaults of numeric and logical parameters */
} function_info;

enum { SLOTS = 2048 };
static function_info *slots[SLOTS];

static bool is_number_kind(mx_param_kind kind) { return kind <= MX_PARAM_OPT_FLOAT; }

static function_info *find_function(SEXP name) {
  size_t i = ((size_t)name >> 4) % SLOTS;
  while (slots[i] && slots[i]->name != name) i = (i + 1) % SLOTS;
  if (slots[i]) return slots[i];
  const mx_op *op = mxr_operator(CHAR(name));
  int n = 0;
  while (op->params && op->params[n].name) n++;
  function_info *f = mx_calloc(1, sizeof(*f));
  double *number = mx_calloc((size_t)n + 1, sizeof(double));
  if (!f || !number) {
    mx_free(f);
    mx_free(number);
    mxr_stop(MX_ERR_MEMORY, "Out of memory.");
  }
  for (int k = 0; k < n; k++) {
    const mx_param *p = &op->params[k];
    if (!p->initial || !is_number_kind(p->kind))
      number[k] = R_NaN;
    else if (p->kind <= MX_PARAM_OPT_BOOL)
      number[k] =
          !strcmp(p->initial, "None") ? R_NaN : p->initial[0] == '1' || p->initial[0] == 'T' || p->initial[0] == 't';
    else
      number[k] = !strcmp(p->initial, "None") ? R_NaN : atof(p->initial);
  }
  *f = (function_info){name, op, mxr_input_count(op), n, number};
  R_PreserveObject(name);
  slots[i] = f;
  return f;
}

static bool is_default(const function_info *f, int k, SEXP value) {
  const mx_param *p = &f->op->params[k];
  if (value == R_NilValue) return true;
  if (is_number_kind(p->kind)) {
    if (Rf_isObject(value) || ISNAN(f->number[k])) return false;
    if (TYPEOF(value) == LGLSXP && XLENGTH(value) == 1) return (double)LOGICAL(value)[0] == f->number[k];
    if (TYPEOF(value) == REALSXP && XLENGTH(value) == 1) return REAL(value)[0] == f->number[k];
    if (TYPEOF(value) == INTSXP && XLENGTH(value) == 1) return (double)INTEGER(value)[0] == f->number[k];
    return false;
  }
  return p->initial && TYPEOF(value) == STRSXP && XLENGTH(value) == 1 &&
         !strcmp(CHAR(STRING_ELT(value, 0)), p->initial);
}

/* An array, or several in a list, behind those that are there already. */
static void add_inputs(mx_array **in, int *n, SEXP value, const char *argument) {
  if (TYPEOF(value) != VECSXP) {
    in[(*n)++] = mxr_ndarray(value, argument);
    return;
  }
  for (R_xlen_t i = 0; i < XLENGTH(value); i++) in[(*n)++] = mxr_ndarray(VECTOR_ELT(value, i), argument);
}

/* Named values that the operator's table does not list. */
static void add_rest(const mx_op *op, mxr_attrs *attrs, SEXP values) {
  SEXP names = PROTECT(Rf_getAttrib(values, R_NamesSymbol));
  for (R_xlen_t i = 0; i < XLENGTH(values); i++) {
    const char *key = mxr_text(STRING_ELT(names, i), "names");
    mxr_attrs_set(attrs, key, mxr_attr_text(op->name, key, NULL, VECTOR_ELT(values, i)));
  }
  UNPROTECT(1);
}

/* Names the input that is missing, or the one that the parameters leave no room for. */
static void check_names(const function_info *f, SEXP args, const mx_dict *attrs) {
  const mx_op *op = f->op;
  void *params;
  mx_error err;
  MXR_CHECK(mx_op_params_new(op, attrs, &params, &err), err);
  int want = mx_op_count_in(op, params);
  const char *wrong = NULL;
  bool missing = false;
  for (int i = 0; i < f->n_in && !wrong; i++) {
    bool given = VECTOR_ELT(args, i) != R_NilValue, wanted = false;
    for (int k = 0; k < want && !wanted; k++) {
      char name[MX_INPUT_NAME];
      mx_op_in_name(op, params, k, name, sizeof(name));
      wanted = !strcmp(name, op->in_names ? op->in_names[i] : "data");
    }
    if (given != wanted) wrong = mxr_input_name(op, i), missing = wanted;
  }
  mx_op_params_free(op, params);
  if (!wrong) return;
  if (missing)
    mx_fail(&err, MX_ERR_VALUE, "%s: the input `%s` is missing.", op->name, wrong);
  else
    mx_fail(&err, MX_ERR_VALUE, "%s does not take the input `%s` with these parameters.", op->name, wrong);
  mx_error_set(&err, op, "%s", op->name);
  mx_error_set(&err, argument, "%s", wrong);
  mxr_raise(&err);
}

SEXP ffi_nd_operator(SEXP name, SEXP args, SEXP out) {
  enum { FEW = 8 };
  const function_info *f = find_function(STRING_ELT(name, 0));
  const mx_op *op = f->op;
  if (XLENGTH(args) != f->n_in + f->n_params)
    mxr_stop(MX_ERR_INTERNAL, "The R function of %s does not match the operator; run tools/document.", op->name);
  mx_array *few[FEW], **in = few;
  int n = 0, slots_taken = 0;
  R_xlen_t room = 0;
  for (int i = 0; i < f->n_in; i++) {
    SEXP v = VECTOR_ELT(args, i);
    room += TYPEOF(v) == VECSXP ? XLENGTH(v) : v != R_NilValue;
    slots_taken += v != R_NilValue;
  }
  if (room > FEW) in = (mx_array **)R_alloc((size_t)room, sizeof(*in));
  for (int i = 0; i < f->n_in; i++) {
    SEXP v = VECTOR_ELT(args, i);
    if (v != R_NilValue) add_inputs(in, &n, v, mxr_input_name(op, i));
  }
  char count[16];
  mxr_attrs attrs = {0};
  for (int k = 0; k < f->n_params; k++) {
    SEXP v = VECTOR_ELT(args, f->n_in + k);
    if (op->params[k].kind == MX_PARAM_REST)
      add_rest(op, &attrs, v);
    else if (!is_default(f, k, v))
      mxr_attrs_set(&attrs, op->params[k].name, mxr_attr_text(op->name, op->params[k].name, &op->params[k], v));
  }
  if (op->num_args) {
    snprintf(count, sizeof(count), "%d", n);
    if (!mx_dict_get(&attrs.dict, op->num_args)) mxr_attrs_set(&attrs, op->num_args, count);
  } else if (op->in_names ? slots_taken != op->n_in || op->count_in : !op->count_in && slots_taken != op->n_in) {
    check_names(f, args, &attrs.dict);
  }
  mx_device *device = NULL;
  if (n == 0 && mxr_is(out, MXR_NDARRAY)) {
    device = mx_array_device(mxr_ndarray(out, "out"));
  } else if (n == 0) {
    mx_error err;
    const char *ctx = mx_dict_get(&attrs.dict, "ctx");
    MXR_CHECK(ctx && *ctx ? mxr_device_parse(ctx, &device, &err) : mxr_device(R_NilValue, &device, &err), err);
  }
  return mxr_invoke(op, &attrs, in, n, out, device);
}

/* Runs an operator with one set of parameters (a named list) on each list of arrays in `inputs`, writing into
 * outs[[i]]. Training steps all weights of a network so. */
SEXP ffi_nd_operator_each(SEXP name, SEXP inputs, SEXP params, SEXP outs) {
  const mx_op *op = mxr_operator(mxr_string(name, "name"));
  if (TYPEOF(inputs) != VECSXP || TYPEOF(outs) != VECSXP || TYPEOF(params) != VECSXP ||
      XLENGTH(outs) != XLENGTH(inputs))
    mxr_stop(MX_ERR_VALUE, "`inputs`, `outs` and `params` must be lists, the first two of one length.");
  mxr_attrs attrs = {0};
  SEXP keys = PROTECT(Rf_getAttrib(params, R_NamesSymbol));
  for (R_xlen_t k = 0; k < XLENGTH(params); k++) {
    const char *key = CHAR(STRING_ELT(keys, k));
    mxr_attrs_set(&attrs, key, mxr_attr_text(op->name, key, mx_param_find(op->params, key), VECTOR_ELT(params, k)));
  }
  for (R_xlen_t i = 0; i < XLENGTH(inputs); i++) {
    mx_array *in[8];
    int n = 0;
    SEXP list = VECTOR_ELT(inputs, i);
    if (TYPEOF(list) != VECSXP || XLENGTH(list) > 8)
      mxr_stop_type("inputs", "a list of lists of at most 8 MXNDArray", list);
    add_inputs(in, &n, list, "inputs");
    (void)mxr_invoke(op, &attrs, in, n, VECTOR_ELT(outs, i), NULL);
  }
  UNPROTECT(1);
  return R_NilValue;
}

/* ---- arithmetic, comparison, logic ---- */

typedef struct arith {
  const char *generic, *both, *right, *left; /* array with array, with a number on the right, on the left */
  const mx_op *op[3];
} arith;

static arith arithmetic[] = {
    {"+", "elemwise_add", "_plus_scalar", "_plus_scalar", {NULL}},
    {"-", "elemwise_sub", "_minus_scalar", "_rminus_scalar", {NULL}},
    {"*", "elemwise_mul", "_mul_scalar", "_mul_scalar", {NULL}},
    {"/", "elemwise_div", "_div_scalar", "_rdiv_scalar", {NULL}},
    {"^", "_power", "_power_scalar", "_rpower_scalar", {NULL}},
    {"%%", "_mod", "_mod_scalar", "_rmod_scalar", {NULL}},
    {"==", "_equal", "_equal_scalar", "_equal_scalar", {NULL}},
    {"!=", "_not_equal", "_not_equal_scalar", "_not_equal_scalar", {NULL}},
    {">", "_greater", "_greater_scalar", "_lesser_scalar", {NULL}},
    {">=", "_greater_equal", "_greater_equal_scalar", "_lesser_equal_scalar", {NULL}},
    {"<", "_lesser", "_lesser_scalar", "_greater_scalar", {NULL}},
    {"<=", "_lesser_equal", "_lesser_equal_scalar", "_greater_equal_scalar", {NULL}},
    {"&", "_logical_and", "_logical_and_scalar", "_logical_and_scalar", {NULL}},
    {"|", "_logical_or", "_logical_or_scalar", "_logical_or_scalar", {NULL}},
};

static arith *find_arith(const char *generic) {
  for (size_t i = 0; i < sizeof(arithmetic) / sizeof(arithmetic[0]); i++)
    if (!strcmp(arithmetic[i].generic, generic)) return &arithmetic[i];
  mxr_stop(MX_ERR_VALUE, "`%.20s` is not defined for an MXNDArray.", generic);
}

static const mx_op *arith_op(arith *a, int which) {
  if (!a->op[which]) a->op[which] = mxr_operator(which == 0 ? a->both : which == 1 ? a->right : a->left);
  return a->op[which];
}

static SEXP with_scalar(const mx_op *op, mx_array *a, SEXP number) {
  char text[32];
  mxr_attrs attrs = {0};
  double x = Rf_asReal(number);
  mxr_number_text(x, text);
  mxr_attrs_set(&attrs, "scalar", text);
  /* A whole number keeps an integer array's type; any other makes it floating-point, as in R. */
  if (!mx_dtype_is_float(a->dtype) && x != (double)(int64_t)x && mx_param_find(op->params, "is_int"))
    mxr_attrs_set(&attrs, "is_int", "0");
  return mxr_invoke(op, &attrs, &a, 1, R_NilValue, NULL);
}

static SEXP unary(const char *name, mx_array *a) {
  mxr_attrs none = {0};
  return mxr_invoke(mxr_operator(name), &none, &a, 1, R_NilValue, NULL);
}

static bool is_scalar(SEXP x) {
  return (TYPEOF(x) == REALSXP || TYPEOF(x) == INTSXP || TYPEOF(x) == LGLSXP) && XLENGTH(x) == 1 && !Rf_isObject(x);
}

/* An R vector of as many elements as the array `like` has stands for an array of that shape. */
static SEXP operand(SEXP x, const char *argument, const mx_array *like) {
  if (mxr_is(x, MXR_NDARRAY)) return x;
  bool number = (TYPEOF(x) == REALSXP || TYPEOF(x) == INTSXP || TYPEOF(x) == LGLSXP) && !Rf_isObject(x);
  if (!number) mxr_stop_type(argument, "an MXNDArray or a number", x);
  SEXP dim = Rf_getAttrib(x, R_DimSymbol);
  mx_shape shape = {.ndim = 1, .dim = {XLENGTH(x)}};
  mx_error err;
  if (dim != R_NilValue) MXR_CHECK(mxr_shape_from_r(dim, argument, &shape, &err), err);
  if (dim == R_NilValue && XLENGTH(x) == mx_array_size(like)) shape = like->shape;
  return mxr_ndarray_from_r(x, &shape, mx_array_device(like),
                            mx_dtype_is_float(like->dtype) ? like->dtype : MX_FLOAT32);
}

/* Like a vector in R, an array of one dimension goes with any array of as many elements: labels with predictions. */
static SEXP vector_as(SEXP x, const mx_shape *shape) {
  mx_array *a = mxr_ndarray(x, "x"), *view = NULL;
  if (a->shape.ndim != 1 || shape->ndim == 1 || mx_array_size(a) != mx_shape_size(shape)) return x;
  mx_error err;
  SEXP out = PROTECT(mxr_pointer_new(MXR_NDARRAY));
  MXR_CHECK(mx_array_view(a, 0, shape, &view, &err), err);
  mxr_pointer_set(out, MXR_NDARRAY, view);
  UNPROTECT(1);
  return out;
}

__attribute__((noreturn)) static void stop_shapes(const char *generic, const mx_op *op, const mx_shape *a,
                                                  const mx_shape *b) {
  char left[MX_SHAPE_TEXT], right[MX_SHAPE_TEXT];
  mx_shape r[2] = {mxr_shape_reversed(a), mxr_shape_reversed(b)};
  mx_error err;
  mx_shape_text(&r[0], left);
  mx_shape_text(&r[1], right);
  mx_fail(&err, MX_ERR_SHAPE,
          "`%s` needs arrays of one shape, but dim is %s on the left and %s on the right; mx.nd.broadcast.* functions "
          "repeat the smaller one.",
          generic, left, right);
  mx_error_set(&err, op, "%s", op->name);
  mx_error_set(&err, argument, "e2");
  mx_error_set(&err, expected, "%s", left);
  mx_error_set(&err, actual, "%s", right);
  mxr_raise(&err);
}

static SEXP binary(const char *generic, SEXP e1, SEXP e2) {
  arith *a = find_arith(generic);
  bool nd1 = mxr_is(e1, MXR_NDARRAY), nd2 = mxr_is(e2, MXR_NDARRAY);
  if (nd1 && is_scalar(e2)) return with_scalar(arith_op(a, 1), mxr_ndarray(e1, "e1"), e2);
  if (nd2 && is_scalar(e1)) return with_scalar(arith_op(a, 2), mxr_ndarray(e2, "e2"), e1);
  const mx_array *like = nd1 ? mxr_ndarray(e1, "e1") : mxr_ndarray(e2, "e2");
  e1 = PROTECT(operand(e1, "e1", like));
  e2 = PROTECT(operand(e2, "e2", like));
  e1 = PROTECT(vector_as(e1, &mxr_ndarray(e2, "e2")->shape));
  e2 = PROTECT(vector_as(e2, &mxr_ndarray(e1, "e1")->shape));
  mx_array *in[2] = {mxr_ndarray(e1, "e1"), mxr_ndarray(e2, "e2")};
  if (!mx_shape_equal(&in[0]->shape, &in[1]->shape)) stop_shapes(generic, arith_op(a, 0), &in[0]->shape, &in[1]->shape);
  mxr_attrs none = {0};
  SEXP out = mxr_invoke(arith_op(a, 0), &none, in, 2, R_NilValue, NULL);
  UNPROTECT(4);
  return out;
}

SEXP ffi_nd_unary(SEXP generic, SEXP x) {
  const char *g = CHAR(STRING_ELT(generic, 0));
  mx_array *a = mxr_ndarray(x, "x");
  if (!strcmp(g, "-")) return unary("negative", a);
  if (!strcmp(g, "!")) return unary("logical_not", a);
  return x; /* + */
}

SEXP ffi_nd_arith(SEXP generic, SEXP e1, SEXP e2) {
  const char *g = CHAR(STRING_ELT(generic, 0));
  if (strcmp(g, "%/%")) return binary(g, e1, e2);
  SEXP ratio = PROTECT(binary("/", e1, e2));
  SEXP out = unary("floor", mxr_ndarray(ratio, "e1"));
  UNPROTECT(1);
  return out;
}
