/* Operators written in R: what mx.operator.register makes known, and the functions that the core calls for them. All
 * work on R objects is done in functions that mxr_call runs, so that R may jump from anywhere in them: C memory that
 * they make belongs to R objects at once. */
#include <string.h>

#include "r/ffi.h"
#include "r/glue.h"

#include "ops/custom.h"

/* One call of R's custom.call(what, name, given, ...). */
typedef struct request {
  const char *what;
  const mx_custom_params *p;
  mx_shape *in_shape, *out_shape;
  mx_dtype *in_dtype, *out_dtype;
  const mx_call *call;
  mx_status status;
  mx_error *err;
} request;

/* ---- what R is given ---- */

static SEXP given_to_r(const mx_dict *d) {
  SEXP values = PROTECT(Rf_allocVector(STRSXP, d->n)), names = PROTECT(Rf_allocVector(STRSXP, d->n));
  for (int i = 0; i < d->n; i++) {
    SET_STRING_ELT(values, i, Rf_mkCharCE(d->value[i], CE_UTF8));
    SET_STRING_ELT(names, i, Rf_mkCharCE(d->key[i], CE_UTF8));
  }
  Rf_setAttrib(values, R_NamesSymbol, names);
  UNPROTECT(2);
  return values;
}

/* NULL where a shape is not known completely. */
static SEXP shape_to_r(const mx_shape *s) { return mx_shape_known(s) ? mxr_shape_to_r(s) : R_NilValue; }
static SEXP dtype_to_r(mx_dtype t) { return t == MX_DTYPE_UNKNOWN ? R_NilValue : Rf_mkString(mx_dtype_name(t)); }

/* A copy of its own: R may keep it, and the memory that an executor works in is used again. */
static mx_status tensor_to_r(const mx_tensor *t, mx_device *device, SEXP pointer, mx_error *err) {
  mx_array *a;
  MX_TRY(mx_array_new(device, &t->shape, t->dtype, &a, err));
  mxr_pointer_set(pointer, MXR_NDARRAY, a);
  size_t bytes = mx_array_bytes(a);
  return bytes ? device->ops->copy(device, mx_array_data(a), t->data, bytes, err) : MX_OK;
}

/* list(inputs, dims, dtypes, wanted, context, is.train): the middle ones describe the results, which R makes so. */
static SEXP call_to_r(request *q, const mx_tensor *results, const mx_tensor *more, int n, int n_more) {
  const mx_call *c = q->call;
  SEXP out = PROTECT(Rf_allocVector(VECSXP, 6)), inputs = Rf_allocVector(VECSXP, c->n_in);
  SET_VECTOR_ELT(out, 0, inputs);
  for (int i = 0; i < c->n_in && q->status == MX_OK; i++) {
    SET_VECTOR_ELT(inputs, i, mxr_pointer_new(MXR_NDARRAY));
    MXR_RETRY(q->status, tensor_to_r(&c->in[i], c->device, VECTOR_ELT(inputs, i), q->err));
  }
  mxr_collect_if_needed();
  SEXP dims = Rf_allocVector(VECSXP, n + n_more);
  SET_VECTOR_ELT(out, 1, dims);
  SEXP dtypes = Rf_allocVector(VECSXP, n + n_more);
  SET_VECTOR_ELT(out, 2, dtypes);
  SEXP wanted = Rf_allocVector(LGLSXP, n + n_more);
  SET_VECTOR_ELT(out, 3, wanted);
  for (int i = 0; i < n + n_more; i++) {
    const mx_tensor *t = i < n ? &results[i] : &more[i - n];
    SET_VECTOR_ELT(dims, i, mxr_shape_to_r(&t->shape));
    SET_VECTOR_ELT(dtypes, i, Rf_mkString(mx_dtype_name(t->dtype)));
    LOGICAL(wanted)[i] = i >= n || c->req[i] != MX_NULL;
  }
  SET_VECTOR_ELT(out, 4, mxr_device_to_r(c->device));
  SET_VECTOR_ELT(out, 5, Rf_ScalarLogical(c->is_train));
  UNPROTECT(1);
  return out;
}

/* ---- what R gives back ---- */

/* c(code, message, argument, expected, actual) for an error. */
static mx_status fail_from_r(SEXP text, mx_error *err) {
  const char *part[5];
  for (int i = 0; i < 5; i++) part[i] = mxr_text(STRING_ELT(text, i), "name");
  mx_status code = MX_ERR_CALLBACK;
  for (int i = 1; i < MX_ERR_CALLBACK; i++)
    if (!strcmp(part[0], mx_status_name((mx_status)i))) code = (mx_status)i;
  mx_fail(err, code, "%s", part[1]);
  mx_error_set(err, argument, "%s", part[2]);
  mx_error_set(err, expected, "%s", part[3]);
  mx_error_set(err, actual, "%s", part[4]);
  return code;
}

static SEXP evaluate(request *q, SEXP rest) {
  PROTECT(rest);
  SEXP what = PROTECT(Rf_mkString(q->what)), name = PROTECT(Rf_mkString(q->p->custom->name));
  SEXP given = PROTECT(given_to_r(&q->p->given));
  SEXP call = PROTECT(Rf_lang5(Rf_install("custom.call"), what, name, given, rest));
  SEXP out = Rf_eval(call, mxr_namespace);
  if (TYPEOF(out) == STRSXP) q->status = fail_from_r(out, q->err);
  UNPROTECT(5);
  return out;
}

static mx_status tensor_from_r(SEXP value, const mx_tensor *t, mx_device *device, mx_error *err) {
  void *object;
  size_t bytes = (size_t)mx_shape_size(&t->shape) * mx_dtype_size(t->dtype);
  if (!bytes) return MX_OK;
  if (value == R_NilValue) return device->ops->zero(device, t->data, bytes, err);
  MX_TRY(mxr_pointer_get(value, MXR_NDARRAY, "the result", &object, err));
  if (mx_array_bytes(object) != bytes || mx_array_device(object) != device)
    return mx_fail(err, MX_ERR_INTERNAL, "A result has another size or device than it should.");
  return device->ops->copy(device, t->data, mx_array_data(object), bytes, err);
}

/* ---- the calls ---- */

static SEXP check(void *data) {
  evaluate(data, R_NilValue);
  return R_NilValue;
}

static SEXP infer_shape(void *data) {
  request *q = data;
  const mx_custom *c = q->p->custom;
  int n_in = c->n_args + c->n_aux, n = n_in + c->n_out;
  SEXP dims = PROTECT(Rf_allocVector(VECSXP, n));
  for (int i = 0; i < n; i++) SET_VECTOR_ELT(dims, i, shape_to_r(i < n_in ? &q->in_shape[i] : &q->out_shape[i - n_in]));
  dims = PROTECT(evaluate(q, dims));
  for (int i = 0; i < n && q->status == MX_OK; i++) {
    mx_shape s;
    if (VECTOR_ELT(dims, i) == R_NilValue) continue;
    q->status = mxr_shape_from_r(VECTOR_ELT(dims, i), c->names[i], &s, q->err);
    if (q->status == MX_OK)
      q->status = mx_shape_merge(i < n_in ? &q->in_shape[i] : &q->out_shape[i - n_in], &s, c->names[i], q->err);
  }
  UNPROTECT(2);
  return R_NilValue;
}

static SEXP infer_dtype(void *data) {
  request *q = data;
  const mx_custom *c = q->p->custom;
  int n_in = c->n_args + c->n_aux, n = n_in + c->n_out;
  SEXP types = PROTECT(Rf_allocVector(VECSXP, n));
  for (int i = 0; i < n; i++) SET_VECTOR_ELT(types, i, dtype_to_r(i < n_in ? q->in_dtype[i] : q->out_dtype[i - n_in]));
  types = PROTECT(evaluate(q, types));
  for (int i = 0; i < n && q->status == MX_OK; i++) {
    if (VECTOR_ELT(types, i) == R_NilValue) continue;
    mx_dtype t = mx_dtype_parse(CHAR(STRING_ELT(VECTOR_ELT(types, i), 0)));
    if (t == MX_DTYPE_UNKNOWN) {
      q->status = mxr_fail_type(q->err, c->names[i], "the name of a type", VECTOR_ELT(types, i));
      continue;
    }
    mx_dtype *known = i < n_in ? &q->in_dtype[i] : &q->out_dtype[i - n_in];
    if (*known == MX_DTYPE_UNKNOWN) *known = t;
    if (*known == t) continue;
    q->status = mx_fail(q->err, MX_ERR_TYPE, "%s is %s, but %s was expected.", c->names[i], mx_dtype_name(*known),
                        mx_dtype_name(t));
    mx_error_set(q->err, argument, "%s", c->names[i]);
    mx_error_set(q->err, expected, "%s", mx_dtype_name(t));
    mx_error_set(q->err, actual, "%s", mx_dtype_name(*known));
  }
  UNPROTECT(2);
  return R_NilValue;
}

static SEXP forward(void *data) {
  request *q = data;
  const mx_call *c = q->call;
  const mx_custom *custom = q->p->custom;
  const mx_tensor *states = c->in + custom->n_args;
  SEXP arguments = PROTECT(call_to_r(q, c->out, states, c->n_out, custom->n_aux));
  SEXP results = PROTECT(q->status == MX_OK ? evaluate(q, arguments) : R_NilValue);
  for (int i = 0; i < c->n_out && q->status == MX_OK; i++)
    if (c->req[i] != MX_NULL) q->status = tensor_from_r(VECTOR_ELT(results, i), &c->out[i], c->device, q->err);
  for (int i = 0; i < custom->n_aux && q->status == MX_OK; i++)
    if (VECTOR_ELT(results, c->n_out + i) != R_NilValue)
      q->status = tensor_from_r(VECTOR_ELT(results, c->n_out + i), &states[i], c->device, q->err);
  UNPROTECT(2);
  return R_NilValue;
}

static SEXP backward(void *data) {
  request *q = data;
  const mx_call *c = q->call;
  SEXP arguments = PROTECT(call_to_r(q, c->out, NULL, c->n_out, 0));
  SEXP results = PROTECT(q->status == MX_OK ? evaluate(q, arguments) : R_NilValue);
  for (int i = 0; i < c->n_out && q->status == MX_OK; i++)
    if (c->req[i] != MX_NULL) q->status = tensor_from_r(VECTOR_ELT(results, i), &c->out[i], c->device, q->err);
  UNPROTECT(2);
  return R_NilValue;
}

static mx_status run(SEXP (*function)(void *), request q) {
  if (!mxr_call(function, &q)) return mx_fail(q.err, MX_ERR_INTERRUPTED, "Interrupted.");
  return q.status;
}

static mx_status host_check(const mx_custom_params *p, mx_error *err) {
  return run(check, (request){.what = "check", .p = p, .err = err});
}
static mx_status host_shape(const mx_custom_params *p, mx_shape *in, mx_shape *out, mx_error *err) {
  return run(infer_shape, (request){.what = "infer.shape", .p = p, .in_shape = in, .out_shape = out, .err = err});
}
static mx_status host_dtype(const mx_custom_params *p, mx_dtype *in, mx_dtype *out, mx_error *err) {
  return run(infer_dtype, (request){.what = "infer.type", .p = p, .in_dtype = in, .out_dtype = out, .err = err});
}
static mx_status host_forward(const mx_custom_params *p, const mx_call *c, mx_error *err) {
  return run(forward, (request){.what = "forward", .p = p, .call = c, .err = err});
}
static mx_status host_backward(const mx_custom_params *p, const mx_call *c, mx_error *err) {
  return run(backward, (request){.what = "backward", .p = p, .call = c, .err = err});
}

void mxr_custom_init(void) {
  static const mx_custom_host host = {host_check, host_shape, host_dtype, host_forward, host_backward};
  mx_custom_set_host(&host);
}

/* counts: of arguments, auxiliary states and outputs, whose names follow each other in `names`. */
SEXP ffi_operator_register(SEXP name, SEXP names, SEXP counts, SEXP has_gradient, SEXP is_loss) {
  R_xlen_t n = XLENGTH(names);
  const char **text = (const char **)R_alloc((size_t)n + 1, sizeof(*text));
  for (R_xlen_t i = 0; i < n; i++) text[i] = CHAR(STRING_ELT(names, i));
  mx_custom c = {.name = mxr_string(name, "name"),
                 .n_args = INTEGER(counts)[0],
                 .n_aux = INTEGER(counts)[1],
                 .n_out = INTEGER(counts)[2],
                 .names = text,
                 .has_gradient = mxr_flag(has_gradient, "has_gradient"),
                 .is_loss = mxr_flag(is_loss, "is_loss")};
  mx_error err;
  MXR_CHECK(mx_custom_register(&c, &err), err);
  return R_NilValue;
}
