/* Losses and output layers: gradients against formulas and differences in every mode, labels of other types and out of
 * range, empty batches. */
#include "call.h"

/* Forward and backward; the gradient of data and the output, both owned by the binding. */
static bool run(call_bound *b, const char *op, const char *const *attrs, mx_array **in, int n_in) {
  mx_status status = call_bind(op, attrs, in, n_in, 1, b);
  if (status == MX_OK) status = mx_executor_forward(b->executor, true, &call_error);
  if (status == MX_OK) {
    const mx_array *y = mx_executor_output(b->executor, 0);
    b->heads[0] = call_random(y->dtype, y->shape, 0.5, 1, 77);
    status = mx_executor_backward(b->executor, b->heads, 1, &call_error);
  }
  if (status != MX_OK) check_report(__FILE__, __LINE__, "%s: %s", op, call_error.message);
  return status == MX_OK;
}

static double softmax_at(const mx_array *x, int64_t outer, int64_t k, int64_t classes, int64_t inner, int64_t at) {
  double max = -INFINITY, sum = 0;
  for (int64_t c = 0; c < classes; c++) max = fmax(max, call_value(x, (outer * classes + c) * inner + at));
  for (int64_t c = 0; c < classes; c++) sum += exp(call_value(x, (outer * classes + c) * inner + at) - max);
  return exp(call_value(x, (outer * classes + k) * inner + at) - max) / sum;
}

/* Labels of every kind: classes, ignored, out of range, not a number. */
static const double labels[] = {0, 2, 1, 3, -1, 4, 1e30, NAN, -7, 2.9, -0.5, 2};

static void check_softmax(mx_dtype dtype, mx_dtype label_type, bool multi, const char *normalization, bool ignore,
                          const char *alpha) {
  enum { OUTER = 3, K = 4, INNER = 300 }; /* more places than one strip of the kernel has */
  int64_t outer = multi ? OUTER : OUTER * INNER, inner = multi ? INNER : 1;
  mx_shape shape = multi ? mx_shape_of(OUTER, K, INNER) : mx_shape_of(OUTER * INNER, K);
  mx_shape rows = multi ? mx_shape_of(OUTER, INNER) : mx_shape_of(OUTER * INNER);
  double label[OUTER * INNER];
  for (int i = 0; i < OUTER * INNER; i++) label[i] = labels[i % (int)(sizeof(labels) / sizeof(*labels))];
  mx_array *in[2] = {call_random(dtype, shape, -3, 3, 5), call_array(label_type, rows, label)};
  call_bound b;
  if (run(&b, "SoftmaxOutput",
          ATTRS("multi_output", multi ? "True" : "False", "normalization", normalization, "use_ignore",
                ignore ? "True" : "False", "ignore_label", "2", "smooth_alpha", alpha, "grad_scale", "3"),
          in, 2)) {
    const mx_array *y = mx_executor_output(b.executor, 0);
    double scale = 3, smooth = multi ? 0 : atof(alpha), worst = 0;
    int valid = 0;
    for (int i = 0; i < OUTER * INNER; i++) valid += trunc(call_value(in[1], i)) != 2;
    if (!strcmp(normalization, "valid")) scale /= valid;
    if (!strcmp(normalization, "batch")) scale /= OUTER * INNER;
    if (!strcmp(normalization, "null") && multi) scale /= INNER;
    for (int64_t o = 0; o < outer; o++)
      for (int64_t at = 0; at < inner; at++) {
        double l = call_value(in[1], o * inner + at);
        bool names_class = l > -1 && l < K;
        for (int k = 0; k < K; k++) {
          int64_t i = (o * K + k) * inner + at;
          double p = softmax_at(in[0], o, k, K, inner, at), want = names_class ? smooth / (K - 1) : 0;
          if (names_class && k == (int)l) want = 1 - smooth;
          double gradient = ignore && trunc(l) == 2 ? 0 : scale * (p - want);
          worst = fmax(worst, fmax(fabs(call_value(y, i) - p), fabs(call_value(b.grads[0], i) - gradient)));
        }
      }
    if (!(worst < (dtype == MX_FLOAT64 ? 1e-12 : dtype == MX_FLOAT32 ? 1e-5 : 1e-2)))
      check_report(__FILE__, __LINE__, "%s labels %s, %s, multi %d, ignore %d: off by %g", mx_dtype_name(dtype),
                   mx_dtype_name(label_type), normalization, multi, ignore, worst);
  }
  call_unbind(&b);
  call_release(in, 2);
}

TEST(softmax_output_in_every_mode) {
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  static const mx_dtype label_types[] = {MX_FLOAT32, MX_FLOAT64};
  static const char *const normalizations[] = {"null", "batch", "valid"};
  for (int t = 0; t < 3; t++)
    for (int l = 0; l < 2; l++)
      for (int m = 0; m < 2; m++)
        for (int n = 0; n < 3; n++)
          for (int i = 0; i < 2; i++) check_softmax(types[t], label_types[l], m, normalizations[n], i, i ? "0" : "0.3");
}

TEST(integer_labels) {
  double classes[3] = {2, 0, 1};
  static const mx_dtype label_types[] = {MX_INT32, MX_UINT8, MX_INT64, MX_FLOAT16};
  for (int t = 0; t < 4; t++) {
    mx_array *in[2] = {call_random(MX_FLOAT32, mx_shape_of(3, 3), -1, 1, 1),
                       call_array(label_types[t], mx_shape_of(3), classes)};
    call_bound b;
    if (run(&b, "SoftmaxOutput", NULL, in, 2))
      for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
          CHECK_NEAR(call_value(b.grads[0], 3 * i + k),
                     call_value(mx_executor_output(b.executor, 0), 3 * i + k) - (k == (int)classes[i]), 1e-6);
    call_unbind(&b);
    call_release(in, 2);
  }
}

/* Rows longer than a vector, inner extents beyond one group of lanes; infinities give zeros, not NaN. */
TEST(softmax_of_many_shapes) {
  static const int64_t shapes[][3] = {{1, 1, 1}, {2, 1000, 1}, {3, 7, 200}, {1, 33, 65}, {700, 3, 1}};
  for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
    for (int threads = 1; threads < 3; threads++) {
      const int64_t *d = shapes[s];
      mx_array *in[2] = {call_random(MX_FLOAT32, mx_shape_of(d[0], d[1], d[2]), -90, 90, 3),
                         call_random(MX_FLOAT32, mx_shape_of(d[0], d[2]), 0, 1, 4)};
      ((float *)mx_array_data(in[0]))[0] = d[1] > 1 ? -INFINITY : 0;
      mx_array *out[1] = {NULL};
      mx_threads_set(threads);
      REQUIRE_OK(call_op("SoftmaxOutput", ATTRS("multi_output", "True"), in, 2, out, 1), call_error);
      double worst = 0;
      for (int64_t o = 0; o < d[0]; o++)
        for (int64_t k = 0; k < d[1]; k++)
          for (int64_t i = 0; i < d[2]; i++)
            worst = fmax(worst,
                         fabs(call_value(out[0], (o * d[1] + k) * d[2] + i) - softmax_at(in[0], o, k, d[1], d[2], i)));
      CHECK(worst < 1e-5);
      call_release(in, 2), call_release(out, 1);
    }
  mx_threads_set(0);
}

TEST(cross_entropy_gradient) {
  double l[4] = {0, 3, 7, -1}; /* the last two name no class: no loss, no gradient */
  mx_array *in[2] = {call_random(MX_FLOAT64, mx_shape_of(4, 5), -2, 2, 9), call_array(MX_FLOAT64, mx_shape_of(4), l)};
  call_check_gradient("softmax_cross_entropy", NULL, in, 2, 1, 0, 1e-4, 1e-7);
  call_release(in, 2);
}

TEST(regressions) {
  static const char *const ops[] = {"LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput"};
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  for (int o = 0; o < 3; o++)
    for (int t = 0; t < 3; t++) {
      mx_array *in[2] = {call_random(types[t], mx_shape_of(100, 7), -2, 2, 1),
                         call_random(MX_FLOAT32, mx_shape_of(100, 7), 0, 1, 2)};
      call_bound b;
      double worst = 0;
      if (run(&b, ops[o], ATTRS("grad_scale", "2"), in, 2))
        for (int i = 0; i < 700; i++) {
          double x = call_value(in[0], i), l = call_value(in[1], i), y = o == 1 ? 1 / (1 + exp(-x)) : x;
          double g = 2.0 / 7 * (o == 2 ? (y > l) - (y < l) : y - l);
          worst = fmax(worst, fabs(call_value(mx_executor_output(b.executor, 0), i) - y));
          worst = fmax(worst, fabs(call_value(b.grads[0], i) - g));
        }
      CHECK(worst < (t == 0 ? 1e-6 : t == 1 ? 1e-5 : 2e-3));
      call_unbind(&b);
      call_release(in, 2);
    }
}

TEST(svm_with_labels_out_of_range) {
  double l[3] = {1, 9, NAN}, x[6] = {0.5, -0.5, 2, -3, 0.1, 0.2};
  mx_array *in[2] = {call_array(MX_FLOAT64, mx_shape_of(3, 2), x), call_array(MX_FLOAT64, mx_shape_of(3), l)};
  call_bound b;
  double want[6] = {1, -1, 1, 0, 1, 1};
  if (run(&b, "SVMOutput", ATTRS("use_linear", "True"), in, 2))
    for (int i = 0; i < 6; i++) CHECK_NEAR(call_value(b.grads[0], i), want[i], 1e-12);
  call_unbind(&b);
  call_release(in, 2);
}

TEST(empty_batches) {
  static const char *const ops[] = {"SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput",
                                    "SVMOutput",     "MAERegressionOutput",    "softmax_cross_entropy"};
  for (int o = 0; o < 6; o++) {
    mx_shape label = o == 1 || o == 2 || o == 4 ? mx_shape_of(0, 3) : mx_shape_of(0);
    mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(0, 3), NULL), call_array(MX_FLOAT32, label, NULL)};
    call_bound b;
    run(&b, ops[o], NULL, in, 2);
    call_unbind(&b);
    call_release(in, 2);
  }
  mx_array *in[1] = {call_array(MX_FLOAT32, mx_shape_of(0, 3), NULL)};
  static const char *const modes[] = {"null", "batch", "valid"};
  for (int m = 0; m < 3; m++) {
    call_bound b;
    run(&b, "MakeLoss", ATTRS("normalization", modes[m]), in, 1);
    call_unbind(&b);
  }
  call_release(in, 1);
}

/* What a label may be, and what is inferred when nothing is given. */
TEST(label_shapes) {
  static const struct {
    const char *op;
    const char *attrs[4];
    mx_shape data, label;
  } cases[] = {{"SoftmaxOutput", {NULL}, {2, {4, 3}}, {1, {4}}},
               {"SoftmaxOutput", {"multi_output", "True"}, {4, {2, 3, 4, 5}}, {2, {2, 20}}},
               {"SoftmaxOutput", {"preserve_shape", "True"}, {3, {2, 3, 4}}, {2, {2, 3}}},
               {"LinearRegressionOutput", {NULL}, {2, {4, 3}}, {2, {4, 3}}},
               {"LinearRegressionOutput", {NULL}, {2, {4, 1}}, {1, {4}}},
               {"SVMOutput", {NULL}, {2, {4, 3}}, {1, {4}}},
               {"softmax_cross_entropy", {NULL}, {2, {4, 3}}, {1, {4}}}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    const mx_op *op = mx_op_find(cases[i].op);
    mx_dict d;
    void *params;
    REQUIRE_OK(call_attrs(cases[i].attrs, &d), call_error);
    REQUIRE_OK(mx_op_params_new(op, &d, &params, &call_error), call_error);
    mx_shape in[2] = {cases[i].data, MX_SHAPE_UNKNOWN}, out[1] = {MX_SHAPE_UNKNOWN};
    CHECK_OK(mx_op_infer_shape(op, params, in, 2, out, 1, &call_error), call_error);
    CHECK(mx_shape_equal(&in[1], &cases[i].label));
    in[1] = mx_shape_of(7, 7, 7);
    CHECK(mx_op_infer_shape(op, params, in, 2, out, 1, &call_error) == MX_ERR_SHAPE);
    mx_shape unknown[2] = {MX_SHAPE_UNKNOWN, MX_SHAPE_UNKNOWN}, half[2] = {cases[i].data, MX_SHAPE_UNKNOWN};
    half[0].dim[0] = MX_DIM_UNKNOWN;
    out[0] = MX_SHAPE_UNKNOWN;
    CHECK_OK(mx_op_infer_shape(op, params, half, 2, out, 1, &call_error), call_error);
    out[0] = MX_SHAPE_UNKNOWN;
    CHECK_OK(mx_op_infer_shape(op, params, unknown, 2, out, 1, &call_error), call_error);
    mx_op_params_free(op, params);
    mx_dict_free(&d);
  }
}

/* Dimensions whose product does not fit are refused before anything is multiplied. */
TEST(huge_shapes) {
  static const char *const ops[] = {"SoftmaxOutput", "LinearRegressionOutput", "SVMOutput"};
  int64_t big = (int64_t)1 << 40;
  for (int o = 0; o < 3; o++)
    for (int k = 0; k < 4; k++) {
      const mx_op *op = mx_op_find(ops[o]);
      mx_dict d;
      void *params;
      REQUIRE_OK(call_attrs(o == 0 && k > 1 ? ATTRS("multi_output", "True") : NULL, &d), call_error);
      REQUIRE_OK(mx_op_params_new(op, &d, &params, &call_error), call_error);
      mx_shape in[2] = {mx_shape_of(k % 2 ? MX_DIM_UNKNOWN : big, big, big, big), MX_SHAPE_UNKNOWN},
               out[1] = {MX_SHAPE_UNKNOWN};
      CHECK(mx_op_infer_shape(op, params, in, 2, out, 1, &call_error) == MX_ERR_SHAPE);
      mx_shape label[2] = {mx_shape_of(4, 3), mx_shape_of(big, big, big)};
      out[0] = MX_SHAPE_UNKNOWN;
      CHECK(mx_op_infer_shape(op, params, label, 2, out, 1, &call_error) == MX_ERR_SHAPE);
      mx_op_params_free(op, params);
      mx_dict_free(&d);
    }
}

TEST(bad_parameters) {
  mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(4, 3), NULL), call_array(MX_FLOAT32, mx_shape_of(5), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("SoftmaxOutput", ATTRS("normalization", "most"), in, 2, out, 1), MX_ERR_VALUE, call_error,
              "normalization");
  CHECK_FAILS(call_op("SoftmaxOutput", ATTRS("smooth_alpha", "1.5"), in, 2, out, 1), MX_ERR_VALUE, call_error,
              "smooth_alpha");
  CHECK_FAILS(call_op("SoftmaxOutput", ATTRS("multi_output", "True"), in, 2, out, 1), MX_ERR_SHAPE, call_error,
              "label");
  CHECK_TEXT(call_error.argument, "label");
  CHECK_FAILS(call_op("LinearRegressionOutput", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "label");
  call_release(in, 2);
  in[0] = call_array(MX_INT32, mx_shape_of(4, 3), NULL), in[1] = call_array(MX_INT32, mx_shape_of(4), NULL);
  CHECK_FAILS(call_op("SoftmaxOutput", NULL, in, 2, out, 1), MX_ERR_TYPE, call_error, "int32");
  call_release(in, 2);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(softmax_output_in_every_mode);
  RUN(integer_labels);
  RUN(softmax_of_many_shapes);
  RUN(cross_entropy_gradient);
  RUN(regressions);
  RUN(svm_with_labels_out_of_range);
  RUN(empty_batches);
  RUN(label_shapes);
  RUN(huge_shapes);
  RUN(bad_parameters);
  return check_finish();
}
