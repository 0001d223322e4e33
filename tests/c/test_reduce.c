/* Reductions: gradients against differences, accuracy, threads, empty arrays, memory, and what users may get wrong.
 * test_naive compares random shapes with plain loops. */
#include "call.h"
#include "ops/reduce.h"

static const char *const with_exclude[] = {"sum", "mean", "prod", "nansum", "nanprod", "max", "min", "_square_sum"};
enum { N_OPS = sizeof(with_exclude) / sizeof(with_exclude[0]) };

TEST(gradients) {
  static const char *const axes[] = {"()", "0", "(1, -1)", "(0, 2)", "2"};
  mx_array *x = call_random(MX_FLOAT64, mx_shape_of(2, 3, 4), 0.5, 2, 1);
  for (int k = 0; k < N_OPS; k++)
    for (int a = 0; a < 5; a++) {
      call_check_gradient(with_exclude[k], ATTRS("axis", axes[a]), &x, 1, 1, 0, 1e-6, 1e-7);
      call_check_gradient(with_exclude[k], ATTRS("axis", axes[a], "keepdims", "1"), &x, 1, 1, 0, 1e-6, 1e-7);
      call_check_gradient(with_exclude[k], ATTRS("axis", axes[a], "exclude", "1"), &x, 1, 1, 0, 1e-6, 1e-7);
    }
  for (int a = 0; a < 5; a++) {
    call_check_gradient("norm", ATTRS("axis", axes[a]), &x, 1, 1, 0, 1e-6, 1e-7);
    call_check_gradient("norm", ATTRS("axis", axes[a], "ord", "1", "keepdims", "1"), &x, 1, 1, 0, 1e-6, 1e-7);
    call_check_gradient("moments", ATTRS("axes", axes[a]), &x, 1, 1, 0, 1e-6, 1e-7);
    call_check_gradient("moments", ATTRS("axes", axes[a], "keepdims", "1"), &x, 1, 1, 1, 1e-6, 1e-7);
    call_check_gradient("moments", ATTRS("axes", axes[a]), &x, 1, 1, 2, 1e-6, 1e-7);
  }
  static const char *const lines[] = {"None", "0", "1", "-1"};
  for (int a = 0; a < 4; a++) call_check_gradient("cumsum", ATTRS("axis", lines[a]), &x, 1, 1, 0, 1e-6, 1e-7);
  mx_array_release(x);
}

/* The product of the others is the gradient of prod, whatever is 0. */
TEST(products_with_zeros) {
  mx_array *x = call_array(MX_FLOAT64, mx_shape_of(3, 4), (double[]){1, 2, 0, 4, 0, 2, 0, 3, 1, 2, 3, 4});
  static const double want[] = {0, 0, 8, 0, 0, 0, 0, 0, 24, 12, 8, 6};
  static const char *const ops[] = {"prod", "nanprod"};
  for (int k = 0; k < 2; k++) {
    call_bound b;
    REQUIRE_OK(call_bind(ops[k], ATTRS("axis", "1"), &x, 1, 1, &b), call_error);
    CHECK_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    b.heads[0] = call_array(MX_FLOAT64, mx_shape_of(3), (double[]){1, 1, 1});
    CHECK_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
    for (int i = 0; i < 12; i++) CHECK_NEAR(call_value(b.grads[0], i), want[i], 0);
    call_unbind(&b);
  }
  mx_array_release(x);
}

TEST(norm_of_nothing) {
  mx_array *x = call_array(MX_FLOAT64, mx_shape_of(4), (double[]){0, 0, 0, 0});
  call_bound b;
  REQUIRE_OK(call_bind("norm", NULL, &x, 1, 1, &b), call_error);
  CHECK_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  b.heads[0] = call_array(MX_FLOAT64, mx_shape_of(1), (double[]){1});
  CHECK_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  for (int i = 0; i < 4; i++) CHECK_NEAR(call_value(b.grads[0], i), 0, 0);
  call_unbind(&b);
  mx_array_release(x);
}

/* ---- accuracy ---- */

TEST(long_sums) {
  const int64_t n = 3000000;
  mx_array *x = call_array(MX_FLOAT32, mx_shape_of(n), NULL), *y = NULL;
  for (int64_t i = 0; i < n; i++) ((float *)mx_array_data(x))[i] = 0.1f;
  REQUIRE_OK(call_op("sum", NULL, &x, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), (double)n * 0.1f, 0.02); /* half a unit in the last place */
  call_release(&y, 1);
  REQUIRE_OK(call_op("mean", NULL, &x, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), 0.1f, 0);
  call_release(&y, 1);
  for (int64_t i = 0; i < n; i++) ((float *)mx_array_data(x))[i] = 1e30f;
  REQUIRE_OK(call_op("norm", NULL, &x, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0) / (1e30 * sqrt((double)n)), 1, 1e-6); /* squares would overflow float */
  call_release(&y, 1);
  mx_array *two[2] = {NULL, NULL};
  for (int64_t i = 0; i < n; i++) ((float *)mx_array_data(x))[i] = i & 1 ? 10001 : 9999;
  REQUIRE_OK(call_op("moments", NULL, &x, 1, two, 2), call_error);
  CHECK_NEAR(call_value(two[0], 0), 10000, 0);
  CHECK_NEAR(call_value(two[1], 0), 1, 0);
  call_release(two, 2);
  mx_array_release(x);
}

/* ---- threads ---- */

static void check_threads(const char *op, const char *const *attrs, mx_array *x) {
  mx_array *y[3] = {NULL, NULL, NULL};
  for (int k = 0; k < 3; k++) {
    mx_threads_set(k + 1);
    CHECK_OK(call_op(op, attrs, &x, 1, &y[k], 1), call_error);
  }
  mx_threads_set(0);
  for (int k = 1; k < 3; k++)
    if (y[0] && y[k] && memcmp(mx_array_data(y[0]), mx_array_data(y[k]), mx_array_bytes(y[0])))
      check_report(__FILE__, __LINE__, "%s depends on the number of threads", op);
  call_release(y, 3);
}

TEST(any_number_of_threads) {
  static const char *const axes[] = {"()", "0", "1", "(0, 2)", "2"};
  mx_array *x[] = {call_random(MX_FLOAT32, mx_shape_of(61, 53, 97), -1, 1, 1),
                   call_random(MX_FLOAT32, mx_shape_of(3, 90000, 3), -1, 1, 2),
                   call_random(MX_FLOAT32, mx_shape_of(100, 7, 600), -1, 1, 3)};
  for (int i = 0; i < 3; i++) {
    for (int a = 0; a < 5; a++) {
      for (int k = 0; k < N_OPS; k++) check_threads(with_exclude[k], ATTRS("axis", axes[a]), x[i]);
      check_threads("norm", ATTRS("axis", axes[a]), x[i]);
    }
    check_threads("argmax", ATTRS("axis", "1"), x[i]);
    check_threads("cumsum", ATTRS("axis", "0"), x[i]);
  }
  call_release(x, 3);
}

/* ---- empty arrays, added results ---- */

TEST(empty_arrays) {
  mx_array *x = call_array(MX_FLOAT32, mx_shape_of(2, 0, 3), NULL), *y = NULL;
  REQUIRE_OK(call_op("sum", ATTRS("axis", "1"), &x, 1, &y, 1), call_error);
  CHECK_INT(mx_array_size(y), 6);
  for (int i = 0; i < 6; i++) CHECK_NEAR(call_value(y, i), 0, 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("prod", NULL, &x, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), 1, 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("mean", NULL, &x, 1, &y, 1), call_error);
  CHECK(isnan(call_value(y, 0)));
  call_release(&y, 1);
  REQUIRE_OK(call_op("max", ATTRS("axis", "2"), &x, 1, &y, 1), call_error);
  CHECK_INT(mx_array_size(y), 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("argmax", ATTRS("axis", "1"), &x, 1, &y, 1), call_error);
  CHECK_INT(mx_array_size(y), 6);
  call_release(&y, 1);
  REQUIRE_OK(call_op("cumsum", NULL, &x, 1, &y, 1), call_error);
  CHECK_INT(mx_array_size(y), 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("all_finite", NULL, &x, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), 1, 0);
  call_release((mx_array *[]){x, y}, 2);
  for (int k = 0; k < N_OPS; k++) {
    call_bound b;
    x = call_array(MX_FLOAT32, mx_shape_of(0, 3), NULL);
    REQUIRE_OK(call_bind(with_exclude[k], ATTRS("axis", "0"), &x, 1, 1, &b), call_error);
    CHECK_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    b.heads[0] = call_random(MX_FLOAT32, mx_shape_of(3), 0, 1, 1);
    CHECK_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
    call_unbind(&b);
    mx_array_release(x);
  }
}

/* Kernels between guards, written and then added to what is there. */
TEST(written_and_added) {
  static const char *const ops[] = {"sum", "max", "norm", "argmin", "cumsum", "_square_sum"};
  static const char *const axes[] = {"0", "1", "2"};
  enum { GUARD = 16 };
  for (int k = 0; k < 6; k++)
    for (int a = 0; a < 3; a++) {
      mx_array *x = call_random(MX_FLOAT32, mx_shape_of(40, 600, 3), -2, 2, 3), *y = NULL;
      const char *const *attrs = ATTRS("axis", axes[a]);
      REQUIRE_OK(call_op(ops[k], attrs, &x, 1, &y, 1), call_error);
      const mx_op *op = mx_op_find(ops[k]);
      int64_t n = mx_array_size(y);
      float *out = malloc((size_t)(n + 2 * GUARD) * sizeof(float));
      for (int64_t i = 0; i < n + 2 * GUARD; i++) out[i] = 5;
      mx_dict d;
      void *params = NULL;
      REQUIRE_OK(call_attrs(attrs, &d), call_error);
      REQUIRE_OK(mx_op_params_new(op, &d, &params, &call_error), call_error);
      mx_tensor in = {.data = mx_array_data(x), .shape = x->shape, .dtype = x->dtype};
      mx_tensor to = {.data = out + GUARD, .shape = y->shape, .dtype = y->dtype};
      const mx_req req = MX_ADD;
      mx_call c = {
          .op = op, .params = params, .device = call_device, .n_in = 1, .n_out = 1, .in = &in, .out = &to, .req = &req};
      CHECK(op->flags & MX_OP_ADDS);
      if (op->prepare) CHECK_OK(op->prepare(&c, &call_error), call_error);
      size_t bytes = c.workspace_bytes;
      unsigned char *workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
      memset(workspace, 0xA5, (bytes + 127) / 64 * 64);
      c.workspace = workspace;
      CHECK_OK(op->kernel(&c, &call_error), call_error);
      for (size_t i = bytes; i < (bytes + 127) / 64 * 64; i++) CHECK(workspace[i] == 0xA5);
      for (int i = 0; i < GUARD; i++) CHECK(out[i] == 5 && out[GUARD + n + i] == 5);
      for (int64_t i = 0; i < n; i++)
        if (fabs(out[GUARD + i] - 5 - call_value(y, i)) > 1e-4 * (1 + fabs(call_value(y, i)))) {
          check_report(__FILE__, __LINE__, "%s added %g to 5 and has %g", ops[k], call_value(y, i),
                       (double)out[GUARD + i]);
          break;
        }
      free(out);
      free(workspace);
      mx_op_params_free(op, params);
      mx_dict_free(&d);
      call_release((mx_array *[]){x, y}, 2);
    }
}

/* ---- the others ---- */

/* Axes around the lengths at which lanes, groups of rows and blocks end; ties, infinities and NaN among them. */
static void check_places(mx_dtype dtype, int64_t outer, int64_t length, int64_t inner, bool with_nan, bool largest) {
  const int64_t n = outer * length * inner;
  double *v = malloc((size_t)n * sizeof(double));
  for (int64_t i = 0; i < n; i++) {
    const int64_t r = (i * 7919 + i / 13 * 104729 + length) % 101;
    v[i] = mx_dtype_is_float(dtype) && r == 100 ? (largest ? -INFINITY : INFINITY) : (double)(r % 50 - 20);
    if (with_nan && r == 99 && i % 5 == 0) v[i] = NAN;
  }
  mx_array *x = call_array(dtype, mx_shape_of(outer, length, inner), v), *y = NULL;
  REQUIRE_OK(call_op(largest ? "argmax" : "argmin", ATTRS("axis", "1"), &x, 1, &y, 1), call_error);
  int64_t wrong = 0;
  for (int64_t o = 0; o < outer; o++)
    for (int64_t j = 0; j < inner; j++) {
      const double *a = v + o * length * inner + j;
      int64_t best = 0;
      for (int64_t i = 1; i < length && !isnan(a[best * inner]); i++)
        if (isnan(a[i * inner]) || (largest ? a[i * inner] > a[best * inner] : a[i * inner] < a[best * inner]))
          best = i;
      wrong += call_value(y, o * inner + j) != (double)best && (dtype != MX_INT8 || best < 100);
    }
  if (wrong)
    check_report(__FILE__, __LINE__, "%s of %s (%lld,%lld,%lld): %lld wrong places", largest ? "argmax" : "argmin",
                 mx_dtype_name(dtype), (long long)outer, (long long)length, (long long)inner, (long long)wrong);
  free(v);
  call_release((mx_array *[]){x, y}, 2);
}

TEST(places) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16, MX_INT32, MX_INT64, MX_INT8};
  static const int64_t lengths[] = {1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 577, 2000}, inners[] = {1, 3, 129, 1030};
  for (int t = 0; t < 6; t++)
    for (int l = 0; l < 12; l++)
      for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++)
          if (lengths[l] * inners[i] < 200000)
            check_places(types[t], 2, lengths[l], inners[i], (k & 1) && mx_dtype_is_float(types[t]), k & 2);
}

/* Bins of equal width, whose edges are numbers that rounding moves. */
TEST(equal_bins) {
  enum { N = 3000, BINS = 49 };
  double v[N];
  for (int i = 0; i < N; i++)
    v[i] = i < 2 * BINS ? -0.7 + 2.2 * (i / 2) / BINS * (i % 2 ? 1 : 1 - 1e-16) : i * 0.0007 - 0.7;
  mx_array *x = call_array(MX_FLOAT64, mx_shape_of(N), v), *y[2] = {NULL, NULL};
  REQUIRE_OK(call_op("_histogram", ATTRS("bin_cnt", "49", "range", "(-0.7, 1.5)"), &x, 1, y, 2), call_error);
  for (int b = 0; b < BINS; b++) {
    int count = 0;
    const double low = call_value(y[1], b), high = call_value(y[1], b + 1);
    for (int i = 0; i < N; i++) count += v[i] >= low && (v[i] < high || (b == BINS - 1 && v[i] == high));
    CHECK_NEAR(call_value(y[0], b), count, 0);
  }
  call_release(y, 2);
  mx_array_release(x);
}

TEST(histograms) {
  static const double v[] = {0, 0.5, 1, 1.5, 2, 2.0001, -0.1, NAN, 1.9999, 1};
  mx_array *x = call_array(MX_FLOAT64, mx_shape_of(10), v), *y[2] = {NULL, NULL};
  REQUIRE_OK(call_op("_histogram", ATTRS("bin_cnt", "2", "range", "(0, 2)"), &x, 1, y, 2), call_error);
  CHECK_INT(y[0]->dtype, MX_INT64);
  CHECK_NEAR(call_value(y[0], 0), 2, 0);
  CHECK_NEAR(call_value(y[0], 1), 5, 0); /* the last bin holds its end */
  CHECK_NEAR(call_value(y[1], 1), 1, 0);
  call_release(y, 2);
  mx_array *bins = call_array(MX_FLOAT64, mx_shape_of(4), (double[]){-1, 0, 1.5, 10});
  REQUIRE_OK(call_op("_histogram", NULL, (mx_array *[]){x, bins}, 2, y, 2), call_error);
  CHECK_NEAR(call_value(y[0], 0), 1, 0);
  CHECK_NEAR(call_value(y[0], 1), 4, 0);
  CHECK_NEAR(call_value(y[0], 2), 4, 0);
  call_release(y, 2);
  CHECK_FAILS(call_op("_histogram", ATTRS("bin_cnt", "2"), &x, 1, y, 2), MX_ERR_VALUE, call_error, "range");
  CHECK_FAILS(call_op("_histogram", ATTRS("bin_cnt", "2", "range", "(1, 1)"), &x, 1, y, 2), MX_ERR_VALUE, call_error,
              "smaller one first");
  call_release((mx_array *[]){x, bins}, 2);
}

TEST(finite_or_not) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  static const double bad[] = {INFINITY, -INFINITY, NAN};
  for (int t = 0; t < 3; t++)
    for (int b = 0; b < 4; b++) {
      mx_array *x = call_random(types[t], mx_shape_of(70001), -60000, 60000, 1), *y = NULL;
      size_t size = mx_dtype_size(types[t]);
      if (b < 3) mx_convert(&bad[b], MX_FLOAT64, (char *)mx_array_data(x) + 69999 * size, types[t], 1);
      REQUIRE_OK(call_op("all_finite", NULL, &x, 1, &y, 1), call_error);
      CHECK_INT(y->dtype, MX_FLOAT32);
      CHECK_NEAR(call_value(y, 0), b == 3, 0);
      call_release((mx_array *[]){x, y}, 2);
    }
  mx_array *x = call_random(MX_FLOAT32, mx_shape_of(3), 0, 1, 1),
           *flag = call_array(MX_FLOAT32, mx_shape_of(1), (double[]){0});
  REQUIRE_OK(call_op("all_finite", ATTRS("init_output", "False"), &x, 1, &flag, 1), call_error);
  CHECK_NEAR(call_value(flag, 0), 0, 0); /* stays what it was */
  REQUIRE_OK(call_op("all_finite", NULL, &x, 1, &flag, 1), call_error);
  CHECK_NEAR(call_value(flag, 0), 1, 0);
  call_release((mx_array *[]){x, flag}, 2);
}

static const char *shape_of(const char *op, const char *const *attrs, mx_shape in, char *text) {
  mx_dict d;
  void *params = NULL;
  mx_shape out = MX_SHAPE_UNKNOWN;
  text[0] = 0;
  mx_status st = call_attrs(attrs, &d);
  if (st == MX_OK) st = mx_op_params_new(mx_op_find(op), &d, &params, &call_error);
  if (st == MX_OK) st = mx_op_infer_shape(mx_op_find(op), params, &in, 1, &out, 1, &call_error);
  if (params) mx_op_params_free(mx_op_find(op), params);
  mx_dict_free(&d);
  if (st == MX_OK) mx_shape_text(&out, text);
  return text;
}

/* The output is float32 whatever the arrays are, too coarse for differences. */
TEST(gradient_of_sums_of_squares) {
  mx_array *in[3] = {call_random(MX_FLOAT64, mx_shape_of(2, 3), -1, 1, 1), call_array(MX_FLOAT64, mx_shape_of(0), NULL),
                     call_random(MX_FLOAT64, mx_shape_of(4), -1, 1, 2)};
  static const double head[] = {3, 5, -2};
  call_bound b;
  REQUIRE_OK(call_bind("multi_sum_sq", ATTRS("num_arrays", "3"), in, 3, 7, &b), call_error);
  b.heads[0] = call_array(MX_FLOAT32, mx_shape_of(3), head);
  CHECK_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  CHECK_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  for (int i = 0; i < 3; i++)
    for (int64_t k = 0; k < mx_array_size(in[i]); k++)
      CHECK_NEAR(call_value(b.grads[i], k), 2 * head[i] * call_value(in[i], k), 1e-12);
  call_unbind(&b);
  call_release(in, 3);
}

TEST(shapes) {
  char t[MX_SHAPE_TEXT];
  CHECK_TEXT(shape_of("sum", NULL, mx_shape_of(2, 3, 4), t), "(1,)");
  CHECK_TEXT(shape_of("sum", ATTRS("axis", "()"), mx_shape_of(2, 3, 4), t), "(1,)");
  CHECK_TEXT(shape_of("sum", ATTRS("keepdims", "1"), mx_shape_of(2, 3, 4), t), "(1,1,1)");
  CHECK_TEXT(shape_of("sum", ATTRS("axis", "-2"), mx_shape_of(2, 3, 4), t), "(2,4)");
  CHECK_TEXT(shape_of("sum", ATTRS("axis", "(0,2)", "exclude", "1"), mx_shape_of(2, 3, 4), t), "(2,4)");
  CHECK_TEXT(shape_of("sum", ATTRS("axis", "1"), mx_shape_of(2, -1, -1), t), "(2,?)");
  CHECK_TEXT(shape_of("sum", NULL, MX_SHAPE_UNKNOWN, t), "unknown");
  CHECK_TEXT(shape_of("argmax", NULL, mx_shape_of(2, 3), t), "(1,)");
  CHECK_TEXT(shape_of("argmax", ATTRS("axis", "0", "keepdims", "1"), mx_shape_of(2, 3), t), "(1,3)");
  CHECK_TEXT(shape_of("cumsum", NULL, mx_shape_of(2, 3), t), "(6,)");
}

TEST(mistakes) {
  mx_array *x = call_random(MX_FLOAT32, mx_shape_of(2, 3), 0, 1, 1), *y = NULL;
  CHECK_FAILS(call_op("sum", ATTRS("axis", "2"), &x, 1, &y, 1), MX_ERR_VALUE, call_error, "axis 2 does not exist");
  CHECK_FAILS(call_op("sum", ATTRS("axis", "(0, -2)"), &x, 1, &y, 1), MX_ERR_VALUE, call_error, "twice");
  CHECK_FAILS(call_op("norm", ATTRS("ord", "3"), &x, 1, &y, 1), MX_ERR_VALUE, call_error, "ord");
  CHECK_FAILS(call_op("norm", ATTRS("out_dtype", "int32"), &x, 1, &y, 1), MX_ERR_TYPE, call_error, "int32");
  CHECK_FAILS(call_op("argmax", ATTRS("axis", "-3"), &x, 1, &y, 1), MX_ERR_VALUE, call_error, "axis -3");
  CHECK_FAILS(call_op("cumsum", ATTRS("axis", "7"), &x, 1, &y, 1), MX_ERR_VALUE, call_error, "axis 7");
  REQUIRE_OK(call_op("norm", ATTRS("out_dtype", "float64"), &x, 1, &y, 1), call_error);
  CHECK_INT(y->dtype, MX_FLOAT64);
  call_release((mx_array *[]){x, y}, 2);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 1;
  RUN(gradients);
  RUN(products_with_zeros);
  RUN(norm_of_nothing);
  RUN(long_sums);
  RUN(any_number_of_threads);
  RUN(empty_arrays);
  RUN(written_and_added);
  RUN(places);
  RUN(equal_bins);
  RUN(histograms);
  RUN(finite_or_not);
  RUN(gradient_of_sums_of_squares);
  RUN(shapes);
  RUN(mistakes);
  return check_finish();
}
