/* Max pooling in one, two and three dimensions against plain loops: rows longer than a block of windows, ties, windows
 * that reach beyond the border, and the gradient, which goes to the first maximum. */
#include "call.h"

typedef struct window {
  int64_t batch, channels, in[3], kernel[3], stride[3], pad[3];
} window;

static int64_t places(const window *w, int i) { return (w->in[i] + 2 * w->pad[i] - w->kernel[i]) / w->stride[i] + 1; }

/* The element of the plane at `from` that the window at (d, h, v) takes: the first of the largest; -1 without any. */
static int64_t first_largest(const window *w, const mx_array *x, int64_t from, int64_t d, int64_t h, int64_t v) {
  int64_t best = -1;
  for (int64_t a = 0; a < w->kernel[0]; a++)
    for (int64_t b = 0; b < w->kernel[1]; b++)
      for (int64_t c = 0; c < w->kernel[2]; c++) {
        const int64_t i = d * w->stride[0] - w->pad[0] + a, j = h * w->stride[1] - w->pad[1] + b;
        const int64_t k = v * w->stride[2] - w->pad[2] + c, at = (i * w->in[1] + j) * w->in[2] + k;
        if (i < 0 || i >= w->in[0] || j < 0 || j >= w->in[1] || k < 0 || k >= w->in[2]) continue;
        if (best < 0 || call_value(x, from + at) > call_value(x, from + best)) best = at;
      }
  return best;
}

static void compare(const window *w, int nd, const mx_array *x, const mx_array *y, const mx_array *dy,
                    const mx_array *dx) {
  const int64_t plane = w->in[0] * w->in[1] * w->in[2];
  double *want = calloc((size_t)mx_array_size(x), sizeof(double));
  int64_t at = 0, wrong = 0;
  for (int64_t p = 0; p < w->batch * w->channels; p++)
    for (int64_t d = 0; d < places(w, 0); d++)
      for (int64_t h = 0; h < places(w, 1); h++)
        for (int64_t v = 0; v < places(w, 2); v++, at++) {
          const int64_t best = first_largest(w, x, p * plane, d, h, v);
          wrong += call_value(x, p * plane + best) != call_value(y, at);
          want[p * plane + best] += call_value(dy, at);
        }
  for (int64_t i = 0; i < mx_array_size(x); i++) wrong += !(fabs(want[i] - call_value(dx, i)) <= 1e-6);
  if (wrong) check_report(__FILE__, __LINE__, "%lld wrong values in %d dimensions", (long long)wrong, nd);
  free(want);
}

static void check_window_of(const window *w, int nd, mx_dtype dtype) {
  char kernel[64], stride[64], pad[64];
  mx_shape shape = {2 + nd, {w->batch, w->channels}};
  for (int i = 0; i < nd; i++) shape.dim[2 + i] = w->in[3 - nd + i];
#define TUPLE(text, v)                     \
  snprintf(text, sizeof(text),             \
           nd == 1   ? "(%lld,)"           \
           : nd == 2 ? "(%lld,%lld)"       \
                     : "(%lld,%lld,%lld)", \
           (long long)(v)[3 - nd], (long long)(v)[nd == 3 ? 1 : 2], (long long)(v)[2])
  TUPLE(kernel, w->kernel);
  TUPLE(stride, w->stride);
  TUPLE(pad, w->pad);
  mx_array *x = call_random(dtype, shape, -4, 2, 3);
  MX_SWITCH_FLOAT(dtype, return, {
    for (int64_t i = 0; i < mx_array_size(x); i++) ((T *)mx_array_data(x))[i] = (T)floor(call_value(x, i)); /* ties */
  })
  for (int threads = 1; threads < 3; threads++) {
    call_bound b;
    mx_threads_set(threads);
    REQUIRE_OK(
        call_bind("Pooling", ATTRS("pool_type", "max", "kernel", kernel, "stride", stride, "pad", pad), &x, 1, 1, &b),
        call_error);
    REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    mx_array *y = mx_executor_output(b.executor, 0);
    b.heads[0] = call_random(dtype, y->shape, -8, 8, 4);
    MX_SWITCH_FLOAT(dtype, break, { /* whose sums are exact */
                                    for (int64_t i = 0; i < mx_array_size(y); i++)
                                      ((T *)mx_array_data(b.heads[0]))[i] = (T)floor(call_value(b.heads[0], i));
    })
    REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
    compare(w, nd, x, y, b.heads[0], b.grads[0]);
    call_unbind(&b);
  }
  mx_threads_set(0);
  mx_array_release(x);
}

static void check_window(const window *w, int nd) {
  check_window_of(w, nd, MX_FLOAT32);
  check_window_of(w, nd, MX_FLOAT64);
  check_window_of(w, nd, MX_FLOAT16);
}

TEST(lines) {
  for (int64_t n = 3; n < 620; n += 41) {
    check_window(&(window){2, 3, {1, 1, n}, {1, 1, 2}, {1, 1, 2}, {0, 0, 0}}, 1);
    check_window(&(window){2, 3, {1, 1, n}, {1, 1, 3}, {1, 1, 2}, {0, 0, 1}}, 1);
    check_window(&(window){1, 2, {1, 1, n}, {1, 1, 3}, {1, 1, 3}, {0, 0, 0}}, 1);
    check_window(&(window){2, 3, {1, 1, n}, {1, 1, n}, {1, 1, 1}, {0, 0, 0}}, 1);
  }
}
TEST(images) {
  for (int64_t n = 4; n < 70; n += 7) {
    check_window(&(window){2, 2, {1, 9, n}, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}}, 2);
    check_window(&(window){2, 2, {1, 9, n}, {1, 2, 2}, {1, 1, 2}, {0, 1, 1}}, 2);
    check_window(&(window){2, 2, {1, 9, n}, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}}, 2);
    check_window(&(window){2, 2, {1, 9, n}, {1, 3, 3}, {1, 2, 2}, {0, 0, 0}}, 2);
    check_window(&(window){2, 2, {1, 8, n}, {1, 3, 3}, {1, 2, 2}, {0, 2, 2}}, 2);
    check_window(&(window){2, 2, {1, 8, n}, {1, 1, 2}, {1, 1, 2}, {0, 0, 0}}, 2);
    check_window(&(window){2, 2, {1, 9, n}, {1, 4, 2}, {1, 3, 2}, {0, 0, 0}}, 2);
    check_window(&(window){2, 2, {1, 9, n}, {1, 9, n}, {1, 1, 1}, {0, 0, 0}}, 2);
  }
  check_window(&(window){1, 2, {1, 6, 600}, {1, 2, 2}, {1, 2, 2}, {0, 0, 0}}, 2);
  check_window(&(window){1, 2, {1, 6, 601}, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}}, 2);
}
TEST(volumes) {
  for (int64_t n = 4; n < 40; n += 5) {
    check_window(&(window){1, 2, {6, 7, n}, {2, 2, 2}, {2, 2, 2}, {0, 0, 0}}, 3);
    check_window(&(window){1, 2, {6, 7, n}, {1, 2, 2}, {1, 2, 2}, {0, 0, 1}}, 3);
    check_window(&(window){1, 2, {5, 7, n}, {2, 1, 2}, {2, 1, 2}, {0, 0, 0}}, 3);
    check_window(&(window){1, 2, {3, 7, n}, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}}, 3);
    check_window(&(window){1, 2, {6, 7, n}, {3, 3, 3}, {2, 2, 2}, {1, 1, 1}}, 3);
  }
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 1;
  RUN(lines);
  RUN(images);
  RUN(volumes);
  return check_finish();
}
