/* core/: shapes, arrays, conversion between element types. */
#include <stddef.h>
#include <stdlib.h>

#include "check.h"
#include "core/array.h"
#include "core/thread.h"

static mx_device *cpu;
static mx_error err;

/* ---- shapes ---- */

TEST(shape_text) {
  char buf[MX_SHAPE_TEXT];
  mx_shape s = mx_shape_of(2, 3), one = mx_shape_of(2), none = {.ndim = 0}, unknown = MX_SHAPE_UNKNOWN;
  CHECK_TEXT(mx_shape_text(&s, buf), "(2,3)");
  CHECK_TEXT(mx_shape_text(&one, buf), "(2,)");
  CHECK_TEXT(mx_shape_text(&none, buf), "()");
  CHECK_TEXT(mx_shape_text(&unknown, buf), "unknown");
  mx_shape large = {.ndim = MX_MAX_NDIM};
  for (int i = 0; i < MX_MAX_NDIM; i++) large.dim[i] = INT64_MAX;
  CHECK(strlen(mx_shape_text(&large, buf)) < MX_SHAPE_TEXT);
}
TEST(shape_size) {
  mx_shape s = mx_shape_of(2, 3, 4), none = {.ndim = 0}, empty = mx_shape_of(0, INT64_MAX, 2);
  mx_shape half = mx_shape_of(2, -1), huge = mx_shape_of((int64_t)1 << 32, (int64_t)1 << 32);
  CHECK_INT(mx_shape_size(&s), 24);
  CHECK_INT(mx_shape_size(&none), 1);
  CHECK_INT(mx_shape_prod(&s, 1, 3), 12);
  CHECK(mx_shape_known(&s) && mx_shape_known(&none) && !mx_shape_known(&half));
  CHECK_OK(mx_shape_check_size(&s, 4, &err), err);
  CHECK_FAILS(mx_shape_check_size(&empty, 8, &err), MX_ERR_SHAPE, err, "too many"); /* strides would overflow */
  CHECK_FAILS(mx_shape_check_size(&huge, 1, &err), MX_ERR_SHAPE, err, "too many");
  int64_t strides[MX_MAX_NDIM];
  mx_shape_strides(&s, strides);
  CHECK(strides[0] == 12 && strides[1] == 4 && strides[2] == 1);
}
TEST(shape_merge) {
  mx_shape a = MX_SHAPE_UNKNOWN, b = mx_shape_of(-1, 3), c = mx_shape_of(2, -1), d = mx_shape_of(2, 4),
           e = mx_shape_of(2);
  CHECK_OK(mx_shape_merge(&a, &b, "data", &err), err);
  CHECK_OK(mx_shape_merge(&a, &c, "data", &err), err);
  CHECK(a.ndim == 2 && a.dim[0] == 2 && a.dim[1] == 3);
  CHECK_FAILS(mx_shape_merge(&a, &d, "data", &err), MX_ERR_SHAPE, err, "data");
  CHECK_TEXT(err.actual, "(2,3)");
  CHECK_TEXT(err.expected, "(2,4)");
  CHECK_FAILS(mx_shape_merge(&a, &e, "data", &err), MX_ERR_SHAPE, err, "(2,)");
  mx_shape unknown = MX_SHAPE_UNKNOWN;
  CHECK_OK(mx_shape_merge(&a, &unknown, "data", &err), err);
}
TEST(shape_broadcast) {
  mx_shape a = mx_shape_of(2, 1, 4), b = mx_shape_of(3, 1), c = mx_shape_of(2, 4), none = {.ndim = 0}, out;
  CHECK_OK(mx_shape_broadcast(&a, &b, &out, &err), err);
  CHECK(out.ndim == 3 && out.dim[0] == 2 && out.dim[1] == 3 && out.dim[2] == 4);
  CHECK_OK(mx_shape_broadcast(&none, &a, &out, &err), err);
  CHECK(mx_shape_equal(&out, &a));
  mx_shape zero = mx_shape_of(0, 1);
  CHECK_FAILS(mx_shape_broadcast(&zero, &c, &out, &err), MX_ERR_SHAPE, err, "(0,1)");
  mx_shape row = mx_shape_of(1, 4);
  CHECK_OK(mx_shape_broadcast(&zero, &row, &out, &err), err);
  CHECK(out.dim[0] == 0 && out.dim[1] == 4);
  CHECK_FAILS(mx_shape_broadcast(&b, &c, &out, &err), MX_ERR_SHAPE, err, "broadcast");
}
TEST(axis_resolve) {
  int axis;
  CHECK_OK(mx_axis_resolve(-1, 3, &axis, &err), err);
  CHECK_INT(axis, 2);
  CHECK_OK(mx_axis_resolve(0, 3, &axis, &err), err);
  CHECK_INT(axis, 0);
  CHECK_FAILS(mx_axis_resolve(3, 3, &axis, &err), MX_ERR_VALUE, err, "axis 3");
  CHECK_FAILS(mx_axis_resolve(-4, 3, &axis, &err), MX_ERR_VALUE, err, "axis -4");
  CHECK_FAILS(mx_axis_resolve(0, 0, &axis, &err), MX_ERR_VALUE, err, "axis 0");
  CHECK_FAILS(mx_axis_resolve(INT64_MIN, 3, &axis, &err), MX_ERR_VALUE, err, "axis");
}

/* ---- arrays ---- */

TEST(array_life) {
  mx_shape s = mx_shape_of(3, 4), row = mx_shape_of(4), unknown = mx_shape_of(3, -1), huge = mx_shape_of(INT64_MAX);
  mx_array *a, *v;
  int64_t used = mx_pool_statistics(MX_CPU).live_blocks;
  REQUIRE_OK(mx_array_zeros(cpu, &s, MX_FLOAT32, &a, &err), err);
  CHECK_INT((uintptr_t)mx_array_data(a) % 64, 0);
  CHECK_INT(mx_array_bytes(a), 48);
  float values[12], got[12], four[4];
  for (int i = 0; i < 12; i++) values[i] = (float)i;
  CHECK_OK(mx_array_read(a, got, sizeof(got), &err), err);
  for (int i = 0; i < 12; i++) CHECK_NEAR(got[i], 0, 0);
  CHECK_OK(mx_array_write(a, values, sizeof(values), &err), err);
  CHECK_FAILS(mx_array_write(a, values, 4, &err), MX_ERR_SHAPE, err, "48 bytes");
  REQUIRE_OK(mx_array_view(a, 4, &row, &v, &err), err);
  mx_array_release(a); /* the view keeps the storage */
  CHECK_OK(mx_array_read(v, four, sizeof(four), &err), err);
  CHECK_NEAR(four[0], 4, 0);
  mx_array *w;
  CHECK_FAILS(mx_array_view(v, 1, &row, &w, &err), MX_ERR_SHAPE, err, "does not fit");
  CHECK_FAILS(mx_array_view(v, -1, &row, &w, &err), MX_ERR_SHAPE, err, "does not fit");
  CHECK_FAILS(mx_array_view(v, 0, &huge, &w, &err), MX_ERR_SHAPE, err, "too many");
  CHECK(mx_array_retain(v) == v);
  mx_array_release(v), mx_array_release(v), mx_array_release(NULL);
  CHECK_INT(mx_pool_statistics(MX_CPU).live_blocks, used);
  CHECK_FAILS(mx_array_new(cpu, &unknown, MX_FLOAT32, &a, &err), MX_ERR_SHAPE, err, "complete shape");
  CHECK_FAILS(mx_array_new(cpu, &s, MX_DTYPE_UNKNOWN, &a, &err), MX_ERR_TYPE, err, "type");
  CHECK_FAILS(mx_array_new(cpu, &huge, MX_FLOAT32, &a, &err), MX_ERR_SHAPE, err, "too many");
  mx_shape large = mx_shape_of((int64_t)1 << 45);
  CHECK_FAILS(mx_array_new(cpu, &large, MX_FLOAT64, &a, &err), MX_ERR_MEMORY, err, "cpu(0)");
}
TEST(array_empty) {
  mx_shape s = mx_shape_of(0, 3);
  mx_array *a, *b;
  REQUIRE_OK(mx_array_zeros(cpu, &s, MX_FLOAT32, &a, &err), err);
  REQUIRE_OK(mx_array_zeros(cpu, &s, MX_INT8, &b, &err), err);
  CHECK_INT(mx_array_size(a), 0);
  CHECK_OK(mx_array_copy(b, a, &err), err);
  CHECK_OK(mx_array_read(a, NULL, 0, &err), err);
  mx_array_release(a), mx_array_release(b);
}
TEST(array_copy_converts) {
  mx_shape s = mx_shape_of(4), t = mx_shape_of(2, 2);
  const double values[4] = {0, 1.5, -2, 100};
  mx_array *a, *b, *c;
  REQUIRE_OK(mx_array_new(cpu, &s, MX_FLOAT64, &a, &err), err);
  REQUIRE_OK(mx_array_write(a, values, sizeof(values), &err), err);
  for (int dt = 0; dt < MX_DTYPE_COUNT; dt++) {
    double back[4];
    REQUIRE_OK(mx_array_new(cpu, &s, (mx_dtype)dt, &b, &err), err);
    REQUIRE_OK(mx_array_new(cpu, &s, MX_FLOAT64, &c, &err), err);
    CHECK_OK(mx_array_copy(b, a, &err), err);
    CHECK_OK(mx_array_copy(c, b, &err), err);
    CHECK_OK(mx_array_read(c, back, sizeof(back), &err), err);
    for (int i = 0; i < 4; i++) {
      double want = mx_dtype_is_float((mx_dtype)dt) ? values[i]
                    : dt == MX_BOOL                 ? values[i] != 0
                    : dt == MX_UINT8                ? (uint8_t)(int64_t)values[i]
                                                    : trunc(values[i]);
      CHECK_NEAR(back[i], want, 0);
    }
    mx_array_release(b), mx_array_release(c);
  }
  REQUIRE_OK(mx_array_new(cpu, &t, MX_FLOAT64, &b, &err), err);
  CHECK_FAILS(mx_array_copy(b, a, &err), MX_ERR_SHAPE, err, "(4,)");
  mx_array_release(a), mx_array_release(b);
}

static double value_of(const void *data, mx_dtype t, int64_t i) {
  MX_SWITCH_ALL(t, return NAN, return (double)((const T *)data)[i];)
  return NAN;
}
/* Every pair of types, on a length that takes several blocks and threads, against C's own conversion. */
TEST(convert_every_pair) {
  enum { N = 200001 };
  double *source = malloc(N * sizeof(double));
  void *from = malloc(N * 8), *to = malloc(N * 8), *again = malloc(N * 8);
  for (int i = 0; i < N; i++) source[i] = i % 127;
  for (int f = 0; f < MX_DTYPE_COUNT; f++) {
    mx_convert(source, MX_FLOAT64, from, (mx_dtype)f, N);
    for (int t = 0; t < MX_DTYPE_COUNT; t++) {
      mx_convert(from, (mx_dtype)f, to, (mx_dtype)t, N);
      int64_t bad = 0;
      for (int64_t i = 0; i < N; i++) {
        double want = f == MX_BOOL || t == MX_BOOL ? source[i] != 0 : source[i];
        bad += value_of(to, (mx_dtype)t, i) != want;
      }
      if (bad)
        check_report(__FILE__, __LINE__, "%s to %s: %lld differ", mx_dtype_name((mx_dtype)f),
                     mx_dtype_name((mx_dtype)t), (long long)bad);
      mx_threads_set(1);
      mx_convert(from, (mx_dtype)f, again, (mx_dtype)t, N);
      mx_threads_set(0);
      CHECK(memcmp(to, again, N * mx_dtype_size((mx_dtype)t)) == 0);
    }
  }
  free(source), free(from), free(to), free(again);
}
TEST(convert_half) {
  /* IEEE: ties to even, subnormals, overflow, infinities */
  const float in[] = {1.0f, 65504.0f, 65520.0f, 1e-8f, 5.9604645e-8f, 2049.0f, 2051.0f, -0.0f, INFINITY};
  const uint16_t want[] = {0x3c00, 0x7bff, 0x7c00, 0x0000, 0x0001, 0x6800, 0x6802, 0x8000, 0x7c00};
  uint16_t got[9];
  mx_convert(in, MX_FLOAT32, got, MX_FLOAT16, 9);
  for (int i = 0; i < 9; i++) CHECK_INT(got[i], want[i]);
  float nan_in = NAN, nan_out;
  mx_convert(&nan_in, MX_FLOAT32, got, MX_FLOAT16, 1);
  mx_convert(got, MX_FLOAT16, &nan_out, MX_FLOAT32, 1);
  CHECK(isnan(nan_out));
}
TEST(dtype_names) {
  for (int t = 0; t < MX_DTYPE_COUNT; t++) CHECK_INT(mx_dtype_parse(mx_dtype_name((mx_dtype)t)), t);
  CHECK_INT(mx_dtype_parse("complex"), MX_DTYPE_UNKNOWN);
  CHECK_TEXT(mx_dtype_name(MX_DTYPE_UNKNOWN), "unknown");
  CHECK_INT(mx_dtype_size(MX_DTYPE_UNKNOWN), 0);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return printf("%s\n", err.message), 2;
  RUN(shape_text);
  RUN(shape_size);
  RUN(shape_merge);
  RUN(shape_broadcast);
  RUN(axis_resolve);
  RUN(array_life);
  RUN(array_empty);
  RUN(array_copy_converts);
  RUN(convert_every_pair);
  RUN(convert_half);
  RUN(dtype_names);
  return check_finish();
}
