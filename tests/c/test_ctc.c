/* CTCLoss against the sum over all paths, gradients against differences, lengths, labels that cannot be spelt. */
#include "call.h"

enum { STEPS = 5, C = 3 };

/* The probability that softmax of the first `steps` rows of sample n spells `label`, by trying all C^steps paths. */
static double all_paths(const mx_array *x, int n, int N, int steps, const int *label, int length, int blank) {
  double total = 0;
  int paths = 1;
  for (int t = 0; t < steps; t++) paths *= C;
  for (int path = 0; path < paths; path++) {
    int spelt[STEPS], m = 0, last = -1, rest = path;
    double p = 1;
    for (int t = 0; t < steps; t++, rest /= C) {
      int k = rest % C;
      double sum = 0;
      for (int j = 0; j < C; j++) sum += exp(call_value(x, (t * N + n) * C + j));
      p *= exp(call_value(x, (t * N + n) * C + k)) / sum;
      if (k != last && k != blank) spelt[m++] = k;
      last = k;
    }
    bool same = m == length;
    for (int i = 0; same && i < m; i++) same = spelt[i] == label[i];
    if (same) total += p;
  }
  return total;
}

static const struct {
  int blank;
  double label[3];
  int spelt[3], length;
} words[] = {{0, {1, 2, 0}, {1, 2}, 2}, {0, {1, 1, 2}, {1, 1, 2}, 3}, {0, {0, 0, 0}, {0}, 0},
             {0, {2, 2, 0}, {2, 2}, 2}, {2, {0, 1, -1}, {0, 1}, 2},   {2, {1, 1, 1}, {1, 1, 1}, 3},
             {2, {-1, -1, -1}, {0}, 0}};
enum { WORDS = sizeof(words) / sizeof(words[0]) };

TEST(loss_is_the_sum_over_paths) {
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  for (int w = 0; w < WORDS; w++)
    for (int steps = 3; steps <= STEPS; steps++)
      for (int t = 0; t < 3; t++) {
        double len = steps, lab = words[w].length;
        mx_array *in[4] = {call_random(types[t], mx_shape_of(STEPS, 1, C), -1, 1, (uint64_t)w),
                           call_array(MX_FLOAT32, mx_shape_of(1, 3), words[w].label),
                           call_array(MX_FLOAT32, mx_shape_of(1), &len), call_array(MX_INT32, mx_shape_of(1), &lab)};
        for (int lengths = 0; lengths < 2; lengths++) {
          mx_array *out[1] = {NULL};
          REQUIRE_OK(call_op("CTCLoss",
                             ATTRS("blank_label", words[w].blank ? "last" : "first", "use_data_lengths", "True",
                                   "use_label_lengths", lengths ? "True" : "False"),
                             in, 3 + lengths, out, 1),
                     call_error);
          double want = -log(all_paths(in[0], 0, 1, steps, words[w].spelt, words[w].length, words[w].blank));
          if (want == INFINITY) want = 0; /* cannot be spelt in so few steps */
          CHECK_NEAR(call_value(out[0], 0), want, t == 0 ? 1e-12 : t == 1 ? 1e-5 : 1e-2);
          call_release(out, 1);
        }
        call_release(in, 4);
      }
}

TEST(gradients) {
  double labels[12] = {1, 2, 0, 3, 3, 0, 0, 0, 0, 2, 1, 3}, lengths[4] = {6, 4, 6, 5};
  mx_array *in[3] = {call_random(MX_FLOAT64, mx_shape_of(6, 4, 4), -1, 1, 8),
                     call_array(MX_FLOAT64, mx_shape_of(4, 3), labels),
                     call_array(MX_FLOAT64, mx_shape_of(4), lengths)};
  for (int threads = 1; threads < 3; threads++) {
    mx_threads_set(threads);
    call_check_gradient("CTCLoss", ATTRS("use_data_lengths", "True"), in, 3, 1, 0, 1e-5, 1e-8);
    call_check_gradient("ctc_loss", ATTRS("blank_label", "first"), in, 2, 1, 0, 1e-5, 1e-8);
  }
  mx_threads_set(0);
  call_release(in, 3);
}

/* Long sequences neither underflow nor depend on the number of threads. */
TEST(long_sequences) {
  mx_array *in[2] = {call_random(MX_FLOAT32, mx_shape_of(600, 6, 20), -4, 4, 1),
                     call_random(MX_FLOAT32, mx_shape_of(6, 40), 1, 19.9, 2)};
  mx_array *out[2] = {NULL, NULL};
  for (int64_t i = 0; i < 240; i++) ((float *)mx_array_data(in[1]))[i] = truncf(((float *)mx_array_data(in[1]))[i]);
  for (int t = 0; t < 2; t++) {
    mx_threads_set(t + 1);
    REQUIRE_OK(call_op("CTCLoss", NULL, in, 2, &out[t], 1), call_error);
  }
  mx_threads_set(0);
  for (int i = 0; i < 6; i++) CHECK(call_value(out[0], i) > 100 && isfinite(call_value(out[0], i)));
  CHECK(!memcmp(mx_array_data(out[0]), mx_array_data(out[1]), mx_array_bytes(out[0])));
  call_release(in, 2), call_release(out, 2);
}

/* A class that cannot occur makes the loss of a label with it infinite, and of no other; NaN stays NaN. */
TEST(scores_that_are_no_numbers) {
  double labels[12] = {1, 2, 2, 3, 1, 0, 3, 3, 1, 0, 0, 0};
  mx_array *in[2] = {call_random(MX_FLOAT32, mx_shape_of(12, 4, 4), -1, 1, 3),
                     call_array(MX_FLOAT32, mx_shape_of(4, 3), labels)};
  mx_array *out[1] = {NULL};
  float *x = mx_array_data(in[0]);
  for (int t = 0; t < 12; t++) x[(t * 4 + 0) * 4 + 2] = x[(t * 4 + 1) * 4 + 2] = -INFINITY;
  x[(5 * 4 + 2) * 4 + 1] = x[(11 * 4 + 3) * 4 + 3] = NAN;
  REQUIRE_OK(call_op("CTCLoss", NULL, in, 2, out, 1), call_error);
  CHECK(call_value(out[0], 0) == INFINITY);
  CHECK(call_value(out[0], 1) > 0 && isfinite(call_value(out[0], 1)));
  CHECK(isnan(call_value(out[0], 2)) && isnan(call_value(out[0], 3)));
  call_release(in, 2), call_release(out, 1);
}

/* Labels that name no class or do not fit, odd lengths: loss 0, gradient 0, and nothing outside of the arrays is read.
 */
TEST(labels_that_cannot_be_spelt) {
  double labels[18] = {7, 0, 0, -3, 1, 0, NAN, 0, 0, 1, 1, 1, 1e300, 0, 0, 2, 1, 0};
  double data_lengths[6] = {4, 4, 4, 4, 4, -1}, label_lengths[6] = {1, 2, 1, 3, 1, 2};
  mx_array *in[4] = {
      call_random(MX_FLOAT64, mx_shape_of(4, 6, 3), -1, 1, 8), call_array(MX_FLOAT64, mx_shape_of(6, 3), labels),
      call_array(MX_FLOAT64, mx_shape_of(6), data_lengths), call_array(MX_FLOAT64, mx_shape_of(6), label_lengths)};
  for (int k = 0; k < 2; k++) {
    call_bound b;
    REQUIRE_OK(call_bind("CTCLoss", ATTRS("use_data_lengths", "True", "use_label_lengths", k ? "True" : "False"), in,
                         3 + k, 1, &b),
               call_error);
    REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    b.heads[0] = call_random(MX_FLOAT64, mx_shape_of(6), 1, 2, 1);
    REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
    for (int i = 0; i < 6; i++) CHECK(call_value(mx_executor_output(b.executor, 0), i) == 0);
    for (int i = 0; i < 72; i++) CHECK(call_value(b.grads[0], i) == 0);
    call_unbind(&b);
  }
  double huge[6] = {1e30, NAN, INFINITY, -INFINITY, 3.7, 0};
  mx_convert(huge, MX_FLOAT64, mx_array_data(in[2]), MX_FLOAT64, 6);
  mx_convert(huge, MX_FLOAT64, mx_array_data(in[3]), MX_FLOAT64, 6);
  mx_array *out[1] = {NULL};
  CHECK_OK(call_op("CTCLoss", ATTRS("use_data_lengths", "True", "use_label_lengths", "True"), in, 4, out, 1),
           call_error);
  call_release(in, 4), call_release(out, 1);
}

TEST(shapes) {
  static const int64_t sizes[][4] = {{0, 2, 3, 1}, {4, 0, 3, 2}, {4, 2, 0, 2}, {4, 2, 3, 0}};
  for (int i = 0; i < 4; i++) {
    const int64_t *d = sizes[i];
    mx_array *in[2] = {call_random(MX_FLOAT64, mx_shape_of(d[0], d[1], d[2]), -1, 1, 1),
                       call_random(MX_FLOAT64, mx_shape_of(d[1], d[3]), 1, 2, 1)};
    call_check_gradient("CTCLoss", NULL, in, 2, 1, 0, 1e-5, 1e-8);
    call_release(in, 2);
  }
  mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(4, 2, 3), NULL),
                     call_array(MX_FLOAT32, mx_shape_of(3, 2), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("CTCLoss", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "label");
  CHECK_FAILS(call_op("CTCLoss", ATTRS("blank_label", "middle"), in, 2, out, 1), MX_ERR_VALUE, call_error,
              "blank_label");
  call_release(in, 2);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(loss_is_the_sum_over_paths);
  RUN(gradients);
  RUN(long_sequences);
  RUN(scores_that_are_no_numbers);
  RUN(labels_that_cannot_be_spelt);
  RUN(shapes);
  return check_finish();
}
