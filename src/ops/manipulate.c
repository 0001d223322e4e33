/* What the operators that move, pick and rearrange elements share. */
#include "ops/manipulate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

mx_status mx_dtype_unify(mx_dtype *a, mx_dtype *b, const char *what, mx_error *err) {
  if (*a == MX_DTYPE_UNKNOWN) *a = *b;
  if (*b == MX_DTYPE_UNKNOWN) *b = *a;
  if (*a == *b) return MX_OK;
  mx_fail(err, MX_ERR_TYPE, "%s is %s, but %s was expected.", what, mx_dtype_name(*b), mx_dtype_name(*a));
  mx_error_set(err, argument, "%s", what);
  mx_error_set(err, actual, "%s", mx_dtype_name(*b));
  mx_error_set(err, expected, "%s", mx_dtype_name(*a));
  return MX_ERR_TYPE;
}

mx_status mx_infer_dtype_first(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  for (int i = 0; i < n_out; i++) MX_TRY(mx_dtype_unify(&in[0], &out[i], "output", err));
  if (n_out) out[0] = in[0];
  return MX_OK;
}

mx_status mx_axis_param(int64_t axis, int ndim, const char *name, int *out, mx_error *err) {
  if (axis >= -ndim && axis < ndim) {
    *out = (int)(axis < 0 ? axis + ndim : axis);
    return MX_OK;
  }
  mx_fail(err, MX_ERR_VALUE, "%s is %" PRId64 ", but the array has %d dimension%s; expected a value from %d to %d.",
          name, axis, ndim, ndim == 1 ? "" : "s", -ndim, ndim - 1);
  mx_error_set(err, argument, "%s", name);
  mx_error_set(err, actual, "%" PRId64, axis);
  mx_error_set(err, expected, "%d to %d", -ndim, ndim - 1);
  return MX_ERR_VALUE;
}

const mx_alias mx_alias_first[] = {{0, 0}, {-1, -1}};

static size_t tensor_bytes(const mx_tensor *t) { return (size_t)mx_shape_size(&t->shape) * mx_dtype_size(t->dtype); }

mx_status mx_copy_first(const mx_call *c, mx_error *err) {
  size_t bytes = tensor_bytes(&c->out[0]);
  if (c->out[0].data == c->in[0].data || bytes == 0) return MX_OK;
  return c->device->ops->copy(c->device, c->out[0].data, c->in[0].data, bytes, err);
}

mx_status mx_zero_output(const mx_call *c, int i, mx_error *err) {
  size_t bytes = tensor_bytes(&c->out[i]);
  return bytes == 0 ? MX_OK : c->device->ops->zero(c->device, c->out[i].data, bytes, err);
}

mx_status mx_view_kernel(const mx_call *c, mx_error *err) {
  return c->req[0] == MX_NULL ? MX_OK : mx_copy_first(c, err);
}

mx_status mx_grad_reshape(mx_grad *g, mx_entry in, const mx_shape *to, mx_entry *out, mx_error *err) {
  char text[MX_SHAPE_TEXT];
  if (mx_shape_equal(mx_grad_shape(g, in), to)) {
    *out = in;
    return MX_OK;
  }
  return mx_grad_call(g, "Reshape", (const char *const[]){"shape", mx_tuple_text(to->dim, to->ndim, text), NULL}, &in,
                      1, out, err);
}

mx_status mx_view_gradient(mx_grad *g, mx_error *err) {
  mx_entry head;
  /* No elements, no gradient; and Reshape would take the zeros of such a shape for "as it was". */
  if (!g->wanted[0] || mx_shape_size(&g->in_shape[0]) == 0) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  return mx_grad_reshape(g, head, &g->in_shape[0], &g->in_grad[0], err);
}

const char *mx_tuple_text(const int64_t *v, int n, char buf[MX_SHAPE_TEXT]) {
  size_t at = 1;
  buf[0] = '(';
  for (int i = 0; i < n; i++) {
    const char *comma = i + 1 < n || n == 1 ? "," : "";
    at += v[i] == MX_TUPLE_NONE ? (size_t)snprintf(buf + at, MX_SHAPE_TEXT - at, "None%s", comma)
                                : (size_t)snprintf(buf + at, MX_SHAPE_TEXT - at, "%" PRId64 "%s", v[i], comma);
  }
  snprintf(buf + at, MX_SHAPE_TEXT - at, ")");
  return buf;
}

const char *mx_int_text(int64_t v, char buf[MX_INT_TEXT]) {
  snprintf(buf, MX_INT_TEXT, "%" PRId64, v);
  return buf;
}

static inline int64_t index_of(double x) {
  if (x >= 0x1p63) return INT64_MAX;
  return x >= -0x1p63 ? (int64_t)x : INT64_MIN; /* NaN too */
}

void mx_read_indices(const mx_tensor *t, int64_t from, int64_t n, int64_t *out) {
  switch (t->dtype) {
    case MX_FLOAT32:
      for (int64_t i = 0; i < n; i++) out[i] = index_of(((const float *)t->data)[from + i]);
      break;
    case MX_FLOAT64:
      for (int64_t i = 0; i < n; i++) out[i] = index_of(((const double *)t->data)[from + i]);
      break;
    case MX_FLOAT16:
      for (int64_t i = 0; i < n; i++) out[i] = index_of((float)((const mx_half *)t->data)[from + i]);
      break;
    case MX_INT32:
      for (int64_t i = 0; i < n; i++) out[i] = ((const int32_t *)t->data)[from + i];
      break;
    case MX_INT64:
      memcpy(out, (const int64_t *)t->data + from, (size_t)n * sizeof(*out));
      break;
    case MX_INT8:
      for (int64_t i = 0; i < n; i++) out[i] = ((const int8_t *)t->data)[from + i];
      break;
    default:
      for (int64_t i = 0; i < n; i++) out[i] = ((const uint8_t *)t->data)[from + i];
      break;
  }
}

void mx_fill(void *dst, mx_dtype dtype, int64_t n, double value) {
  uint64_t one = 0;
  if (n == 0) return;
  mx_convert(&value, MX_FLOAT64, &one, dtype, 1);
  mx_strided_copy(&(mx_strided){.ndim = 1, .dim = {n}, .src = {0}, .dst = {1}}, mx_dtype_size(dtype), &one, dst);
}

#define ADD_ROW(T)                                                    \
  MX_CLONES static void add_row_##T(T *d, const T *s, int64_t n) {    \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) d[i] += s[i]; \
  }
ADD_ROW(float)
ADD_ROW(double)
ADD_ROW(mx_half)
ADD_ROW(int32_t)
ADD_ROW(int64_t)
ADD_ROW(int8_t)
ADD_ROW(uint8_t)

void mx_add_row(mx_dtype dtype, void *d, const void *s, int64_t n) {
  switch (dtype) {
    case MX_FLOAT32:
      add_row_float(d, s, n);
      break;
    case MX_FLOAT64:
      add_row_double(d, s, n);
      break;
    case MX_FLOAT16:
      add_row_mx_half(d, s, n);
      break;
    case MX_INT32:
      add_row_int32_t(d, s, n);
      break;
    case MX_INT64:
      add_row_int64_t(d, s, n);
      break;
    case MX_INT8:
      add_row_int8_t(d, s, n);
      break;
    default:
      add_row_uint8_t(d, s, n);
      break;
  }
}
