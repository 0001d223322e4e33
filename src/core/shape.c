/* Shapes: merging, broadcasting, printing. */
#include "core/shape.h"

#include <stdio.h>
#include <string.h>

mx_shape mx_shape_make(int ndim, const int64_t *dim) {
  mx_shape s = {.ndim = ndim};
  memcpy(s.dim, dim, (size_t)ndim * sizeof(*dim));
  return s;
}

bool mx_shape_known(const mx_shape *s) {
  if (s->ndim < 0) return false;
  for (int i = 0; i < s->ndim; i++)
    if (s->dim[i] < 0) return false;
  return true;
}

bool mx_shape_equal(const mx_shape *a, const mx_shape *b) {
  if (a->ndim != b->ndim) return false;
  for (int i = 0; i < a->ndim; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

/* Shapes that are only spoken of may have products beyond any number: those stay at the largest one. */
static int64_t times(int64_t a, int64_t b) {
  int64_t c;
  return __builtin_mul_overflow(a, b, &c) ? INT64_MAX : c;
}

int64_t mx_shape_prod(const mx_shape *s, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n = times(n, s->dim[i]);
  return n;
}

int64_t mx_shape_size(const mx_shape *s) { return mx_shape_prod(s, 0, s->ndim); }

mx_status mx_shape_check_size(const mx_shape *s, size_t element, mx_error *err) {
  const int64_t limit = (int64_t)1 << 62;
  int64_t n = (int64_t)element;
  bool too_large = false; /* of the dimensions that are not 0: products of some of them are computed too */
  for (int i = 0; i < s->ndim; i++) {
    if (s->dim[i] == 0) continue;
    if (n > limit / s->dim[i])
      too_large = true;
    else
      n *= s->dim[i];
  }
  if (!too_large) return MX_OK;
  char text[MX_SHAPE_TEXT];
  mx_status st = mx_fail(err, MX_ERR_SHAPE, "An array of shape %s has too many elements.", mx_shape_text(s, text));
  mx_error_set(err, actual, "%s", text);
  return st;
}

mx_status mx_shape_merge(mx_shape *into, const mx_shape *from, const char *what, mx_error *err) {
  if (from->ndim < 0) return MX_OK;
  if (into->ndim < 0) {
    *into = *from;
    return MX_OK;
  }
  bool conflict = into->ndim != from->ndim;
  for (int i = 0; !conflict && i < from->ndim; i++)
    conflict = into->dim[i] >= 0 && from->dim[i] >= 0 && into->dim[i] != from->dim[i];
  if (conflict) {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_shape_text(into, a);
    mx_shape_text(from, b);
    mx_fail(err, MX_ERR_SHAPE, "%s has shape %s, but %s was expected.", what, a, b);
    mx_error_set(err, argument, "%s", what);
    mx_error_set(err, actual, "%s", a);
    mx_error_set(err, expected, "%s", b);
    return MX_ERR_SHAPE;
  }
  for (int i = 0; i < from->ndim; i++)
    if (into->dim[i] < 0) into->dim[i] = from->dim[i];
  return MX_OK;
}

mx_status mx_axis_resolve(int64_t axis, int ndim, int *out, mx_error *err) {
  if (axis < -ndim || axis >= ndim) {
    mx_fail(err, MX_ERR_VALUE,
            "axis %lld does not exist: the array has %d dimension%s, so that axis must be in [%d, %d].",
            (long long)axis, ndim, ndim == 1 ? "" : "s", -ndim, ndim - 1);
    mx_error_set(err, argument, "axis");
    mx_error_set(err, actual, "%lld", (long long)axis);
    mx_error_set(err, expected, "[%d, %d]", -ndim, ndim - 1);
    return MX_ERR_VALUE;
  }
  *out = (int)(axis < 0 ? axis + ndim : axis);
  return MX_OK;
}

mx_status mx_shape_broadcast(const mx_shape *a, const mx_shape *b, mx_shape *out, mx_error *err) {
  mx_shape r = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
  for (int i = 0; i < r.ndim; i++) {
    int ia = i - (r.ndim - a->ndim), ib = i - (r.ndim - b->ndim);
    int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
    if (da != db && da != 1 && db != 1) {
      char ta[MX_SHAPE_TEXT], tb[MX_SHAPE_TEXT];
      mx_shape_text(a, ta);
      mx_shape_text(b, tb);
      mx_fail(err, MX_ERR_SHAPE, "Shapes %s and %s cannot be broadcast: each dimension must be equal or 1.", ta, tb);
      mx_error_set(err, actual, "%s", tb);
      mx_error_set(err, expected, "a shape that broadcasts with %s", ta);
      return MX_ERR_SHAPE;
    }
    r.dim[i] = da == 1 ? db : da;
  }
  *out = r;
  return MX_OK;
}

void mx_shape_strides(const mx_shape *s, int64_t strides[MX_MAX_NDIM]) {
  int64_t n = 1;
  for (int i = s->ndim - 1; i >= 0; i--) {
    strides[i] = n;
    n = times(n, s->dim[i]);
  }
}

const char *mx_shape_text(const mx_shape *s, char buf[MX_SHAPE_TEXT]) {
  if (s->ndim < 0) {
    strcpy(buf, "unknown");
    return buf;
  }
  size_t n = 0;
  buf[n++] = '(';
  for (int i = 0; i < s->ndim; i++) {
    if (i) buf[n++] = ',';
    if (s->dim[i] < 0)
      buf[n++] = '?';
    else
      n += (size_t)snprintf(buf + n, MX_SHAPE_TEXT - n, "%lld", (long long)s->dim[i]);
  }
  if (s->ndim == 1) buf[n++] = ',';
  buf[n++] = ')';
  buf[n] = 0;
  return buf;
}
