/* dot and batch_dot: values against plain loops, gradients against differences, shapes that are empty or do not fit. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>

#include "call.h"

TEST(gradients_of_dot) {
  static const struct {
    mx_shape a, b;
    const char *ta, *tb;
  } cases[] = {{{1, {5}}, {1, {5}}, "0", "0"},
               {{2, {3, 5}}, {1, {5}}, "0", "0"},
               {{1, {5}}, {2, {5, 4}}, "0", "0"},
               {{2, {3, 5}}, {2, {5, 4}}, "0", "0"},
               {{2, {5, 3}}, {2, {5, 4}}, "1", "0"},
               {{2, {3, 5}}, {2, {4, 5}}, "0", "1"},
               {{2, {5, 3}}, {2, {4, 5}}, "1", "1"},
               {{3, {2, 3, 5}}, {3, {5, 4, 2}}, "0", "0"},
               {{3, {5, 2, 3}}, {3, {4, 2, 5}}, "1", "1"},
               {{1, {5}}, {3, {4, 2, 5}}, "1", "1"}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    mx_array *in[2] = {call_random(MX_FLOAT64, cases[i].a, -1, 1, 1), call_random(MX_FLOAT64, cases[i].b, -1, 1, 2)};
    call_check_gradient("dot", ATTRS("transpose_a", cases[i].ta, "transpose_b", cases[i].tb), in, 2, 3, 0, 1e-3, 1e-9);
    call_check_gradient("dot", ATTRS("transpose_a", cases[i].ta, "transpose_b", cases[i].tb), in, 2, 2, 0, 1e-3, 1e-9);
    call_release(in, 2);
  }
}

TEST(gradients_of_batch_dot) {
  for (int ta = 0; ta < 2; ta++)
    for (int tb = 0; tb < 2; tb++) {
      mx_shape a = ta ? mx_shape_of(2, 3, 5, 4) : mx_shape_of(2, 3, 4, 5);
      mx_shape b = tb ? mx_shape_of(2, 3, 2, 5) : mx_shape_of(2, 3, 5, 2);
      mx_array *in[2] = {call_random(MX_FLOAT64, a, -1, 1, 1), call_random(MX_FLOAT64, b, -1, 1, 2)};
      call_check_gradient("batch_dot",
                          ATTRS("transpose_a", ta ? "True" : "False", "transpose_b", tb ? "True" : "False"), in, 2, 3,
                          0, 1e-3, 1e-9);
      call_release(in, 2);
    }
}

/* Sizes beyond one block of the library, all types, any number of threads. */
TEST(values) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  enum { M = 67, K = 129, B = 31 };
  for (int t = 0; t < 3; t++)
    for (int threads = 1; threads < 3; threads++) {
      mx_array *in[2] = {call_random(types[t], mx_shape_of(M, K), -1, 1, 1),
                         call_random(types[t], mx_shape_of(K, B), -1, 1, 2)};
      mx_array *out[1] = {NULL};
      mx_threads_set(threads);
      REQUIRE_OK(call_op("dot", NULL, in, 2, out, 1), call_error);
      double worst = 0;
      for (int i = 0; i < M; i++)
        for (int j = 0; j < B; j++) {
          double sum = 0;
          for (int k = 0; k < K; k++) sum += call_value(in[0], i * K + k) * call_value(in[1], k * B + j);
          worst = fmax(worst, fabs(sum - call_value(out[0], i * B + j)));
        }
      CHECK(worst < (t == 0 ? 1e-4 : t == 1 ? 1e-12 : 2e-2));
      call_release(in, 2), call_release(out, 1);
    }
  mx_threads_set(0);
}

TEST(empty_products) {
  static const struct {
    mx_shape a, b, y;
  } cases[] = {{{2, {3, 0}}, {2, {0, 4}}, {2, {3, 4}}},
               {{2, {0, 3}}, {2, {3, 4}}, {2, {0, 4}}},
               {{1, {0}}, {1, {0}}, {1, {1}}},
               {{2, {3, 2}}, {2, {2, 0}}, {2, {3, 0}}}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    mx_array *in[2] = {call_array(MX_FLOAT64, cases[i].a, NULL), call_array(MX_FLOAT64, cases[i].b, NULL)};
    for (int64_t k = 0; k < mx_array_size(in[0]); k++) ((double *)mx_array_data(in[0]))[k] = 1;
    for (int64_t k = 0; k < mx_array_size(in[1]); k++) ((double *)mx_array_data(in[1]))[k] = 1;
    mx_array *out[1] = {call_random(MX_FLOAT64, cases[i].y, 5, 6, 1)};
    REQUIRE_OK(call_op("dot", NULL, in, 2, out, 1), call_error);
    for (int64_t k = 0; k < mx_array_size(out[0]); k++) CHECK(call_value(out[0], k) == 0);
    call_check_gradient("dot", NULL, in, 2, 3, 0, 1e-3, 1e-9);
    call_release(in, 2), call_release(out, 1);
  }
  mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(0, 3, 4), NULL),
                     call_array(MX_FLOAT32, mx_shape_of(0, 4, 2), NULL)};
  mx_array *out[1] = {NULL};
  REQUIRE_OK(call_op("batch_dot", NULL, in, 2, out, 1), call_error);
  CHECK_INT(mx_array_size(out[0]), 0);
  call_release(in, 2), call_release(out, 1);
}

TEST(arrays_that_do_not_fit) {
  mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(2, 3), NULL), call_array(MX_FLOAT32, mx_shape_of(4, 5), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("dot", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "3 and 4");
  CHECK_TEXT(call_error.argument, "rhs");
  CHECK_FAILS(call_op("batch_dot", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "three dimensions");
  CHECK_FAILS(call_op("dot", ATTRS("transpose_a", "maybe"), in, 2, out, 1), MX_ERR_VALUE, call_error, "transpose_a");
  CHECK_FAILS(call_op("dot", ATTRS("forward_stype", "dense"), in, 2, out, 1), MX_ERR_VALUE, call_error,
              "forward_stype");
  call_release(in, 2);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(2, 3, 4), NULL),
  in[1] = call_array(MX_FLOAT32, mx_shape_of(3, 4, 5), NULL);
  CHECK_FAILS(call_op("batch_dot", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "batch");
  call_release(in, 2);
  in[0] = call_array(MX_INT32, mx_shape_of(2), NULL), in[1] = call_array(MX_INT32, mx_shape_of(2), NULL);
  CHECK_FAILS(call_op("dot", NULL, in, 2, out, 1), MX_ERR_TYPE, call_error, "int32");
  call_release(in, 2);
  mx_shape many = {.ndim = 8};
  for (int i = 0; i < 8; i++) many.dim[i] = 1;
  in[0] = call_array(MX_FLOAT32, many, NULL), in[1] = call_array(MX_FLOAT32, many, NULL);
  CHECK_FAILS(call_op("dot", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "14");
  call_release(in, 2);
}

static pthread_t caller;
static uintptr_t stack_base;
static volatile sig_atomic_t signals_seen, signals_astray;

static void on_alarm(int signal) {
  uintptr_t here = (uintptr_t)__builtin_frame_address(0);
  signals_seen++;
  if (!pthread_equal(pthread_self(), caller)) return;
  if (here > stack_base || stack_base - here > 8 << 20) signals_astray++;
}

/* Handlers must meet a stack: libraries that use its pointer for something else must not be interrupted. */
TEST(signals_meet_a_stack) {
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART}, before;
  struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  mx_array *in[2] = {call_random(MX_FLOAT32, mx_shape_of(700, 900), -1, 1, 1),
                     call_random(MX_FLOAT32, mx_shape_of(900, 800), -1, 1, 2)};
  caller = pthread_self();
  stack_base = (uintptr_t)__builtin_frame_address(0);
  sigaction(SIGALRM, &action, &before);
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 200 && signals_seen < 50; i++) {
    mx_array *out[1] = {NULL};
    CHECK_OK(call_op("dot", NULL, in, 2, out, 1), call_error);
    call_release(out, 1);
  }
  setitimer(ITIMER_REAL, &never, NULL);
  sigaction(SIGALRM, &before, NULL);
  CHECK(signals_seen > 0);
  CHECK(signals_astray == 0);
  call_release(in, 2);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(gradients_of_dot);
  RUN(gradients_of_batch_dot);
  RUN(values);
  RUN(empty_products);
  RUN(arrays_that_do_not_fit);
  RUN(signals_meet_a_stack);
  return check_finish();
}
