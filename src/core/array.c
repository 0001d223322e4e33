/* Arrays: reference-counted views of pool storage. */
#include "core/array.h"

#include <string.h>

#include "core/memory.h"
#include "core/thread.h"

/* Counts are plain ints: arrays belong to the thread that runs the host; kernels never touch them. */

static mx_status storage_new(mx_device *dev, size_t bytes, bool bare, mx_storage **out, mx_error *err) {
  mx_storage *s = mx_malloc(sizeof(*s));
  if (!s) return mx_fail_memory(err, sizeof(*s));
  *s = (mx_storage){.refs = 1, .device = dev, .bytes = bytes};
  mx_status st = bare ? MX_OK : mx_pool_alloc(dev, bytes, &s->data, err);
  if (st != MX_OK) {
    mx_free(s);
    return st;
  }
  *out = s;
  return MX_OK;
}

static void storage_release(mx_storage *s) {
  if (--s->refs) return;
  mx_pool_free(s->device, s->data, s->bytes);
  mx_free(s);
}

static mx_status array_new(mx_device *dev, const mx_shape *shape, mx_dtype dtype, bool bare, mx_array **out,
                           mx_error *err) {
  if (!mx_shape_known(shape)) {
    char text[MX_SHAPE_TEXT];
    return mx_fail(err, MX_ERR_SHAPE, "An array needs a complete shape, but it is %s.", mx_shape_text(shape, text));
  }
  if (dtype < 0 || dtype >= MX_DTYPE_COUNT)
    return mx_fail(err, MX_ERR_TYPE, "An array needs a known element type, but type %d was given.", (int)dtype);
  MX_TRY(mx_shape_check_size(shape, mx_dtype_size(dtype), err));
  mx_array *a = mx_malloc(sizeof(*a));
  if (!a) return mx_fail_memory(err, sizeof(*a));
  *a = (mx_array){.refs = 1, .shape = *shape, .dtype = dtype};
  mx_status st = storage_new(dev, mx_array_bytes(a), bare, &a->storage, err);
  if (st != MX_OK) {
    mx_free(a);
    return st;
  }
  *out = a;
  return MX_OK;
}

mx_status mx_array_new(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out, mx_error *err) {
  return array_new(dev, shape, dtype, false, out, err);
}

mx_status mx_array_bare(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out, mx_error *err) {
  return array_new(dev, shape, dtype, true, out, err);
}

mx_status mx_array_zeros(mx_device *dev, const mx_shape *shape, mx_dtype dtype, mx_array **out, mx_error *err) {
  mx_array *a;
  MX_TRY(mx_array_new(dev, shape, dtype, &a, err));
  mx_status st = dev->ops->zero(dev, mx_array_data(a), mx_array_bytes(a), err);
  if (st != MX_OK) {
    mx_array_release(a);
    return st;
  }
  *out = a;
  return MX_OK;
}

mx_status mx_array_view(mx_array *base, int64_t begin, const mx_shape *shape, mx_array **out, mx_error *err) {
  MX_TRY(mx_shape_check_size(shape, mx_dtype_size(base->dtype), err));
  int64_t have = mx_array_size(base), want = mx_shape_size(shape);
  if (begin < 0 || begin > have || want > have - begin) {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "A view of shape %s from element %lld does not fit into an array of shape %s.",
            mx_shape_text(shape, a), (long long)begin, mx_shape_text(&base->shape, b));
    return MX_ERR_SHAPE;
  }
  mx_array *a = mx_malloc(sizeof(*a));
  if (!a) return mx_fail_memory(err, sizeof(*a));
  *a = (mx_array){.refs = 1,
                  .storage = base->storage,
                  .offset = base->offset + (size_t)begin * mx_dtype_size(base->dtype),
                  .shape = *shape,
                  .dtype = base->dtype};
  base->storage->refs++;
  *out = a;
  return MX_OK;
}

mx_array *mx_array_retain(mx_array *a) {
  a->refs++;
  return a;
}

void mx_array_release(mx_array *a) {
  if (!a || --a->refs) return;
  storage_release(a->storage);
  mx_free(a);
}

static mx_status check_bytes(const mx_array *a, size_t bytes, mx_error *err) {
  if (bytes == mx_array_bytes(a)) return MX_OK;
  return mx_fail(err, MX_ERR_SHAPE, "The array has %zu bytes, but %zu were given.", mx_array_bytes(a), bytes);
}

mx_status mx_array_read(const mx_array *a, void *host, size_t bytes, mx_error *err) {
  MX_TRY(check_bytes(a, bytes, err));
  mx_device *dev = mx_array_device(a);
  return dev->ops->copy_out(dev, host, mx_array_data(a), bytes, err);
}

mx_status mx_array_write(mx_array *a, const void *host, size_t bytes, mx_error *err) {
  MX_TRY(check_bytes(a, bytes, err));
  mx_device *dev = mx_array_device(a);
  return dev->ops->copy_in(dev, mx_array_data(a), host, bytes, err);
}

/* Through the host: reads into a temporary, converts, writes. Only for arrays that are not both on CPUs. */
static mx_status copy_through_host(mx_array *dst, const mx_array *src, mx_error *err) {
  size_t from = mx_array_bytes(src), to = mx_array_bytes(dst);
  char *buffer = mx_malloc(from + to);
  if (!buffer) return mx_fail_memory(err, from + to);
  mx_status st = mx_array_read(src, buffer, from, err);
  if (st == MX_OK) {
    mx_convert(buffer, src->dtype, buffer + from, dst->dtype, mx_array_size(src));
    st = mx_array_write(dst, buffer + from, to, err);
  }
  mx_free(buffer);
  return st;
}

mx_status mx_array_copy(mx_array *dst, const mx_array *src, mx_error *err) {
  if (!mx_shape_equal(&dst->shape, &src->shape)) {
    char a[MX_SHAPE_TEXT], b[MX_SHAPE_TEXT];
    mx_shape_text(&src->shape, a);
    mx_shape_text(&dst->shape, b);
    mx_fail(err, MX_ERR_SHAPE, "An array of shape %s cannot be copied into one of shape %s.", a, b);
    mx_error_set(err, actual, "%s", a);
    mx_error_set(err, expected, "%s", b);
    return MX_ERR_SHAPE;
  }
  void *to = mx_array_data(dst);
  const void *from = mx_array_data(src);
  mx_device *d = mx_array_device(dst), *s = mx_array_device(src);
  if (to == from && dst->dtype == src->dtype) return MX_OK;
  if (d->kind == MX_CPU && s->kind == MX_CPU) {
    if (dst->dtype == src->dtype) return d->ops->copy(d, to, from, mx_array_bytes(src), err);
    mx_convert(from, src->dtype, to, dst->dtype, mx_array_size(src));
    return MX_OK;
  }
  if (dst->dtype != src->dtype) return copy_through_host(dst, src, err);
  if (d == s) return d->ops->copy(d, to, from, mx_array_bytes(src), err);
  if (d->kind == MX_CPU) return s->ops->copy_out(s, to, from, mx_array_bytes(src), err);
  if (s->kind == MX_CPU) return d->ops->copy_in(d, to, from, mx_array_bytes(src), err);
  return copy_through_host(dst, src, err);
}
