/* Linear algebra: gradients against differences, factorizations multiplied back, singular and badly shaped matrices. */
#include "call.h"

enum { N = 4 };

/* Two well-conditioned matrices: noise with a heavy diagonal; symmetric ones are A + A'. */
static mx_array *matrices(int64_t rows, int64_t cols, bool symmetric, uint64_t seed) {
  mx_array *a = call_random(MX_FLOAT64, mx_shape_of(2, rows, cols), -1, 1, seed);
  double *x = mx_array_data(a);
  for (int64_t b = 0; b < 2; b++)
    for (int64_t i = 0; i < rows; i++) {
      if (i < cols) x[(b * rows + i) * cols + i] += 3 + (double)i;
      for (int64_t j = 0; symmetric && j < i; j++) x[(b * rows + j) * cols + i] = x[(b * rows + i) * cols + j];
    }
  return a;
}

TEST(gradients_of_products) {
  for (int ta = 0; ta < 2; ta++)
    for (int tb = 0; tb < 2; tb++)
      for (int axis = -3; axis < -1; axis++) { /* rows are the first axis, or the second one of three */
        int64_t a[3] = {2, ta ? 5 : 3, ta ? 3 : 5}, b[3] = {2, tb ? 4 : 5, tb ? 5 : 4}, c[3] = {2, 3, 4};
        int64_t *all[3] = {a, b, c};
        mx_array *in[3];
        for (int i = 0; i < 3; i++) {
          int64_t *d = all[i];
          mx_shape s = axis == -2 ? mx_shape_of(d[0], d[1], d[2]) : mx_shape_of(d[1], d[0], d[2]);
          in[i] = call_random(MX_FLOAT64, s, -1, 1, (uint64_t)i);
        }
        const char *attrs[] = {"transpose_a", ta ? "1" : "0",          "transpose_b", tb ? "1" : "0", "alpha", "0.7",
                               "axis",        axis == -2 ? "-2" : "0", "beta",        "-0.3",         NULL};
        call_check_gradient("_linalg_gemm", attrs, in, 3, 7, 0, 1e-3, 1e-9);
        attrs[8] = NULL;
        call_check_gradient("_linalg_gemm2", attrs, in, 2, 3, 0, 1e-3, 1e-9);
        call_release(in, 3);
      }
  for (int t = 0; t < 2; t++) {
    mx_array *in[1] = {call_random(MX_FLOAT64, mx_shape_of(2, 3, 5), -1, 1, 1)};
    call_check_gradient("_linalg_syrk", ATTRS("transpose", t ? "True" : "False", "alpha", "1.3"), in, 1, 1, 0, 1e-4,
                        1e-8);
    call_release(in, 1);
  }
}

TEST(gradients_of_triangular_products) {
  for (int k = 0; k < 16; k++) {
    bool right = k & 2;
    mx_array *in[2] = {matrices(N, N, false, 1),
                       call_random(MX_FLOAT64, right ? mx_shape_of(2, 3, N) : mx_shape_of(2, N, 3), -1, 1, 2)};
    call_check_gradient(k & 8 ? "_linalg_trsm" : "_linalg_trmm",
                        ATTRS("transpose", k & 1 ? "1" : "0", "rightside", right ? "1" : "0", "lower",
                              k & 4 ? "1" : "0", "alpha", "1.7"),
                        in, 2, 3, 0, 1e-5, 1e-8);
    call_release(in, 2);
  }
}

TEST(gradients_of_factorizations) {
  static const char *const ops[] = {"_linalg_inverse", "_linalg_det",        "_linalg_slogdet",
                                    "_linalg_gelqf",   "_linalg_sumlogdiag", "_linalg_potri"};
  for (int i = 0; i < 6; i++) {
    mx_array *in[1] = {matrices(i == 3 ? 3 : N, N, false, 5)};
    call_check_gradient(ops[i], NULL, in, 1, 1, 0, 1e-5, 1e-6);
    call_release(in, 1);
  }
}

/* Operators of symmetric matrices read one triangle: a pair of elements is moved together. */
TEST(gradients_of_symmetric_matrices) {
  static const char *const ops[] = {"_linalg_potrf", "_linalg_syevd"};
  for (int o = 0; o < 2; o++) {
    mx_array *in[1] = {matrices(N, N, true, 3)};
    call_bound b;
    REQUIRE_OK(call_bind(ops[o], NULL, in, 1, 1, &b), call_error);
    REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    for (int k = 0; k < b.n_out; k++)
      b.heads[k] = call_random(MX_FLOAT64, mx_executor_output(b.executor, k)->shape, -1, 1, 20 + (uint64_t)k);
    REQUIRE_OK(mx_executor_backward(b.executor, b.heads, b.n_out, &call_error), call_error);
    double *x = mx_array_data(in[0]), up, down, h = 1e-5;
    for (int m = 0; m < 2; m++)
      for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++) {
          int p = (m * N + i) * N + j, q = (m * N + j) * N + i;
          double keep = x[p];
          x[p] = x[q] = keep + h;
          REQUIRE_OK(call_objective(&b, &up), call_error);
          x[p] = x[q] = keep - h;
          REQUIRE_OK(call_objective(&b, &down), call_error);
          x[p] = x[q] = keep;
          CHECK_NEAR(call_value(b.grads[0], p) + (p == q ? 0 : call_value(b.grads[0], q)), (up - down) / (2 * h), 1e-7);
        }
    call_unbind(&b);
    call_release(in, 1);
  }
}

TEST(gradients_of_parts) {
  static const char *const offsets[] = {"0", "1", "-1", "2", "-3"};
  for (int i = 0; i < 5; i++)
    for (int lower = 0; lower < 2; lower++) {
      const char *flag = lower ? "True" : "False";
      mx_array *in[1] = {matrices(N, N, false, 5)};
      call_check_gradient("_linalg_extracttrian", ATTRS("offset", offsets[i], "lower", flag), in, 1, 1, 0, 1e-3, 1e-9);
      if (lower) call_check_gradient("_linalg_extractdiag", ATTRS("offset", offsets[i]), in, 1, 1, 0, 1e-3, 1e-9);
      call_release(in, 1);
      in[0] = call_random(MX_FLOAT64, mx_shape_of(2, 6), -1, 1, 5);
      call_check_gradient("_linalg_maketrian", ATTRS("offset", offsets[i], "lower", flag), in, 1, 1, 0, 1e-3, 1e-9);
      if (lower) call_check_gradient("_linalg_makediag", ATTRS("offset", offsets[i]), in, 1, 1, 0, 1e-3, 1e-9);
      call_release(in, 1);
    }
}

/* Product of two stacks of matrices, op(a) op(b), element by element. */
static double residual(const mx_array *a, bool ta, const mx_array *b, bool tb, const mx_array *want) {
  int64_t ra = a->shape.dim[1], ca = a->shape.dim[2], rb = b->shape.dim[1], cb = b->shape.dim[2];
  int64_t m = ta ? ca : ra, k = ta ? ra : ca, n = tb ? rb : cb;
  double worst = 0;
  for (int64_t s = 0; s < a->shape.dim[0]; s++)
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t q = 0; q < k; q++)
          sum += call_value(a, s * ra * ca + (ta ? q * ca + i : i * ca + q)) *
                 call_value(b, s * rb * cb + (tb ? j * cb + q : q * cb + j));
        worst = fmax(worst, fabs(sum - (want ? call_value(want, (s * m + i) * n + j) : i == j)));
      }
  return worst;
}

TEST(factors_multiply_back) {
  static const int64_t sizes[] = {1, 2, 7, 70};
  for (int k = 0; k < 4; k++) {
    int64_t n = sizes[k];
    mx_array *a[1] = {matrices(n, n, true, 9)}, *out[2] = {NULL, NULL}, *half[1] = {NULL};
    double *x = mx_array_data(a[0]);
    for (int64_t i = 0; i < 2 * n; i++) x[i * n + i % n] += (double)n;
    REQUIRE_OK(call_op("_linalg_potrf", NULL, a, 1, out, 1), call_error);
    CHECK(residual(out[0], false, out[0], true, a[0]) < 1e-11);
    REQUIRE_OK(call_op("_linalg_potri", NULL, out, 1, half, 1), call_error);
    CHECK(residual(half[0], false, a[0], false, NULL) < 1e-11);
    call_release(out, 1), call_release(half, 1);
    REQUIRE_OK(call_op("_linalg_inverse", NULL, a, 1, out, 1), call_error);
    CHECK(residual(out[0], false, a[0], false, NULL) < 1e-11);
    call_release(out, 1);
    REQUIRE_OK(call_op("_linalg_syevd", NULL, a, 1, out, 2), call_error);
    CHECK(residual(out[0], false, out[0], true, NULL) < 1e-11);
    for (int64_t i = 0; i < 2 * n; i++)
      for (int64_t j = 0; j < n; j++) {
        double sum = 0; /* A u = w u */
        for (int64_t q = 0; q < n; q++)
          sum += call_value(a[0], (i / n * n + j) * n + q) * call_value(out[0], i * n + q);
        CHECK_NEAR(sum, call_value(out[1], i) * call_value(out[0], i * n + j), 1e-10);
      }
    call_release(out, 2), call_release(a, 1);
    a[0] = matrices(n, n + 3, false, 4);
    REQUIRE_OK(call_op("_linalg_gelqf", NULL, a, 1, out, 2), call_error);
    CHECK(residual(out[1], false, out[0], false, a[0]) < 1e-11);
    CHECK(residual(out[0], false, out[0], true, NULL) < 1e-11);
    call_release(out, 2), call_release(a, 1);
  }
}

TEST(determinants) {
  double x[12] = {0, 2, 3, 0, 1, 2, 2, 4, -1, 0, 0, 5}, want[3] = {-6, 0, -5}; /* a row exchange, singular, diagonal */
  mx_array *in[1] = {call_array(MX_FLOAT64, mx_shape_of(3, 2, 2), x)}, *out[2] = {NULL, NULL};
  REQUIRE_OK(call_op("linalg_det", NULL, in, 1, out, 1), call_error);
  for (int i = 0; i < 3; i++) CHECK_NEAR(call_value(out[0], i), want[i], 1e-12);
  call_release(out, 1);
  REQUIRE_OK(call_op("linalg_slogdet", NULL, in, 1, out, 2), call_error);
  for (int i = 0; i < 3; i++) {
    CHECK_NEAR(call_value(out[0], i), (want[i] > 0) - (want[i] < 0), 0);
    CHECK(want[i] == 0 ? call_value(out[1], i) == -INFINITY : fabs(call_value(out[1], i) - log(fabs(want[i]))) < 1e-12);
  }
  call_release(out, 2);
  call_bound b;
  REQUIRE_OK(call_bind("linalg_det", NULL, in, 1, 1, &b), call_error);
  REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  b.heads[0] = call_random(MX_FLOAT64, mx_shape_of(3), 1, 2, 1);
  REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  for (int i = 4; i < 8; i++) CHECK(call_value(b.grads[0], i) == 0);
  call_unbind(&b);
  call_release(in, 1);
}

TEST(matrices_without_a_factorization) {
  double singular[4] = {1, 2, 2, 4}, negative[4] = {1, 2, 2, 1}, odd[4] = {1, NAN, NAN, 1};
  mx_array *in[1] = {call_array(MX_FLOAT64, mx_shape_of(2, 2), singular)}, *out[2] = {NULL, NULL};
  CHECK_FAILS(call_op("linalg_inverse", NULL, in, 1, out, 1), MX_ERR_VALUE, call_error, "singular");
  mx_convert(negative, MX_FLOAT64, mx_array_data(in[0]), MX_FLOAT64, 4);
  CHECK_FAILS(call_op("linalg_potrf", NULL, in, 1, out, 1), MX_ERR_VALUE, call_error, "positive definite");
  CHECK_TEXT(call_error.argument, "A");
  mx_convert(odd, MX_FLOAT64, mx_array_data(in[0]), MX_FLOAT64, 4);
  CHECK_FAILS(call_op("_linalg_syevd", NULL, in, 1, out, 2), MX_ERR_VALUE, call_error, "finite");
  call_release(in, 1);
}

TEST(khatri_rao) {
  double a[4] = {1, 2, 3, 4}, b[6] = {1, 0, 2, 5, -1, 1}, want[12] = {1, 0, 2, 10, -1, 2, 3, 0, 6, 20, -3, 4};
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16, MX_INT32};
  for (int t = 0; t < 4; t++) {
    mx_array *in[2] = {call_array(types[t], mx_shape_of(2, 2), a), call_array(types[t], mx_shape_of(3, 2), b)};
    mx_array *out[1] = {NULL};
    REQUIRE_OK(call_op("khatri_rao", ATTRS("num_args", "2"), in, 2, out, 1), call_error);
    for (int i = 0; i < 12; i++) CHECK(call_value(out[0], i) == want[i]);
    call_release(in, 2), call_release(out, 1);
  }
}

TEST(empty_matrices) {
  static const char *const ops[] = {"_linalg_potrf",       "_linalg_potri",       "_linalg_inverse",
                                    "_linalg_det",         "_linalg_slogdet",     "_linalg_gelqf",
                                    "_linalg_syevd",       "_linalg_sumlogdiag",  "_linalg_syrk",
                                    "_linalg_extractdiag", "_linalg_extracttrian"};
  for (int o = 0; o < 11; o++)
    for (int k = 0; k < 2; k++) {
      mx_array *in[1] = {call_array(MX_FLOAT64, k ? mx_shape_of(2, 0, 0) : mx_shape_of(0, 3, 3), NULL)};
      call_check_gradient(ops[o], NULL, in, 1, 1, 0, 1e-3, 1e-9);
      call_release(in, 1);
    }
  for (int k = 0; k < 2; k++) {
    mx_array *in[2] = {call_array(MX_FLOAT64, mx_shape_of(2, k ? 0 : 3, k ? 0 : 3), NULL),
                       call_array(MX_FLOAT64, mx_shape_of(2, k ? 0 : 3, k ? 4 : 0), NULL)};
    for (int64_t i = 0; i < mx_array_size(in[0]); i++) ((double *)mx_array_data(in[0]))[i] = i % 4 == 0;
    static const char *const pairs[] = {"_linalg_gemm2", "_linalg_trmm", "_linalg_trsm"};
    for (int o = 0; o < 3; o++) call_check_gradient(pairs[o], NULL, in, 2, 3, 0, 1e-3, 1e-9);
    call_release(in, 2);
  }
}

TEST(bad_shapes_and_types) {
  mx_array *in[3] = {call_array(MX_FLOAT64, mx_shape_of(2, 3), NULL), call_array(MX_FLOAT64, mx_shape_of(4, 5), NULL),
                     call_array(MX_FLOAT64, mx_shape_of(3), NULL)};
  mx_array *out[2] = {NULL, NULL};
  CHECK_FAILS(call_op("_linalg_gemm2", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "inner axis");
  CHECK_FAILS(call_op("_linalg_gemm2", ATTRS("axis", "1"), in, 2, out, 1), MX_ERR_VALUE, call_error, "axis");
  CHECK_FAILS(call_op("_linalg_gemm2", ATTRS("axis", "7"), in, 2, out, 1), MX_ERR_VALUE, call_error, "axis");
  CHECK_FAILS(call_op("_linalg_inverse", NULL, in, 1, out, 1), MX_ERR_SHAPE, call_error, "square");
  CHECK_FAILS(call_op("_linalg_potrf", NULL, in + 2, 1, out, 1), MX_ERR_SHAPE, call_error, "2 dimensions");
  CHECK_FAILS(call_op("_linalg_trmm", NULL, in, 2, out, 1), MX_ERR_SHAPE, call_error, "square");
  call_release(in, 3);
  in[0] = call_array(MX_FLOAT64, mx_shape_of(4), NULL);
  CHECK_FAILS(call_op("_linalg_maketrian", NULL, in, 1, out, 1), MX_ERR_SHAPE, call_error, "no triangle");
  call_release(in, 1);
  in[0] = call_array(MX_FLOAT64, mx_shape_of(4, 4), NULL);
  CHECK_FAILS(call_op("_linalg_extractdiag", ATTRS("offset", "4"), in, 1, out, 1), MX_ERR_VALUE, call_error,
              "no diagonal");
  CHECK_FAILS(call_op("_linalg_extractdiag", ATTRS("offset", "-2147483647"), in, 1, out, 1), MX_ERR_VALUE, call_error,
              "no diagonal");
  call_release(in, 1);
  in[0] = call_array(MX_FLOAT64, mx_shape_of(4, 3), NULL);
  CHECK_FAILS(call_op("_linalg_gelqf", NULL, in, 1, out, 2), MX_ERR_SHAPE, call_error, "rows");
  call_release(in, 1);
  in[0] = call_array(MX_FLOAT16, mx_shape_of(4, 4), NULL);
  CHECK_FAILS(call_op("_linalg_potrf", NULL, in, 1, out, 1), MX_ERR_TYPE, call_error, "float16");
  call_release(in, 1);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(gradients_of_products);
  RUN(gradients_of_triangular_products);
  RUN(gradients_of_factorizations);
  RUN(gradients_of_symmetric_matrices);
  RUN(gradients_of_parts);
  RUN(factors_multiply_back);
  RUN(determinants);
  RUN(matrices_without_a_factorization);
  RUN(khatri_rao);
  RUN(empty_matrices);
  RUN(bad_shapes_and_types);
  return check_finish();
}
