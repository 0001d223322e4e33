/* Densities: they integrate (or sum) to one, gradients agree with differences, points and parameters outside of the
 * domain, shapes that do not fit. */
#include "call.h"

static const struct law {
  const char *name;
  int n; /* parameters */
  double p[2], from, to;
  bool discrete;
} laws[] = {{"uniform", 2, {-1, 3}, -2, 4, false},
            {"normal", 2, {0.5, 2}, -20, 20, false},
            {"gamma", 2, {2.5, 0.7}, 0, 60, false},
            {"exponential", 1, {1.5}, 0, 40, false},
            {"poisson", 1, {3.5}, 0, 100, true},
            {"negative_binomial", 2, {2.5, 0.4}, 0, 200, true},
            {"generalized_negative_binomial", 2, {3, 0.6}, 0, 300, true}};
enum { LAWS = sizeof(laws) / sizeof(laws[0]), POINTS = 20000 };

TEST(densities_have_mass_one) {
  for (int l = 0; l < LAWS; l++)
    for (int is_log = 0; is_log < 2; is_log++) {
      const struct law *w = &laws[l];
      int n = w->discrete ? (int)w->to : POINTS;
      double *x = malloc(POINTS * sizeof(double)), step = w->discrete ? 1 : (w->to - w->from) / n, sum = 0;
      for (int i = 0; i < n; i++) x[i] = w->from + (i + (w->discrete ? 0 : 0.5)) * step;
      mx_array *in[3] = {call_array(MX_FLOAT64, mx_shape_of(1, n), x), call_array(MX_FLOAT64, mx_shape_of(1), &w->p[0]),
                         call_array(MX_FLOAT64, mx_shape_of(1), &w->p[1])};
      mx_array *out[1] = {NULL};
      char name[64];
      snprintf(name, sizeof(name), "_random_pdf_%s", w->name);
      REQUIRE_OK(call_op(name, ATTRS("is_log", is_log ? "True" : "False"), in, 1 + w->n, out, 1), call_error);
      for (int i = 0; i < n; i++) sum += step * (is_log ? exp(call_value(out[0], i)) : call_value(out[0], i));
      if (!(fabs(sum - 1) < 1e-3)) check_report(__FILE__, __LINE__, "%s has mass %g", w->name, sum);
      free(x);
      call_release(in, 3), call_release(out, 1);
    }
}

TEST(gradients) {
  for (int l = 0; l < LAWS; l++)
    for (int is_log = 0; is_log < 2; is_log++) {
      const struct law *w = &laws[l];
      double x[8] = {0.3, 1, 2, 2.7, 0.6, 1.1, 2.4, 1.9}, p[2][2];
      for (int i = 0; i < 8 && w->discrete; i++) x[i] = i;
      for (int k = 0; k < 2; k++) p[0][k] = w->p[0] * (1 + 0.1 * k), p[1][k] = w->p[1] * (1 + 0.1 * k);
      mx_array *in[3] = {call_array(MX_FLOAT64, mx_shape_of(2, 4), x), call_array(MX_FLOAT64, mx_shape_of(2), p[0]),
                         call_array(MX_FLOAT64, mx_shape_of(2), p[1])};
      char name[64];
      snprintf(name, sizeof(name), "_random_pdf_%s", w->name);
      call_check_gradient(name, ATTRS("is_log", is_log ? "True" : "False"), in, 1 + w->n, w->discrete ? 6 : 7, 0, 1e-5,
                          2e-6);
      call_release(in, 3);
    }
}

TEST(dirichlet) {
  double x[12] = {0.2, 0.3, 0.5, 0.6, 0.3, 0.1, 0.25, 0.25, 0.5, 0.1, 0.8, 0.1}, alpha[6] = {1, 2, 3, 0.5, 1.5, 4};
  mx_array *in[2] = {call_array(MX_FLOAT64, mx_shape_of(2, 2, 3), x), call_array(MX_FLOAT64, mx_shape_of(2, 3), alpha)};
  for (int is_log = 0; is_log < 2; is_log++)
    call_check_gradient("_random_pdf_dirichlet", ATTRS("is_log", is_log ? "True" : "False"), in, 2, 3, 0, 1e-5, 2e-6);
  mx_array *out[1] = {NULL};
  REQUIRE_OK(call_op("random_pdf_dirichlet", NULL, in, 2, out, 1), call_error);
  CHECK_NEAR(call_value(out[0], 0), 60 * 0.3 * 0.25, 1e-12); /* Gamma(6) / (Gamma(1) Gamma(2) Gamma(3)) x2 x3^2 */
  call_release(in, 2), call_release(out, 1);
}

/* Nothing hangs or traps; what has no density is NaN, 0 or infinite. */
TEST(outside_of_the_domain) {
  double x[6] = {-5, NAN, 1e300, INFINITY, 0, -INFINITY}, p[6] = {-2, NAN, 0, 1e300, INFINITY, -1e300};
  for (int l = 0; l < LAWS; l++) {
    mx_array *in[3] = {call_array(MX_FLOAT64, mx_shape_of(6), x), call_array(MX_FLOAT64, mx_shape_of(6), p),
                       call_array(MX_FLOAT64, mx_shape_of(6), p)};
    char name[64];
    snprintf(name, sizeof(name), "_random_pdf_%s", laws[l].name);
    call_bound b;
    mx_status status = call_bind(name, NULL, in, 1 + laws[l].n, 7, &b);
    if (status == MX_OK) status = mx_executor_forward(b.executor, true, &call_error);
    if (status == MX_OK) {
      b.heads[0] = call_random(MX_FLOAT64, mx_shape_of(6), 0, 1, 1);
      status = mx_executor_backward(b.executor, b.heads, 1, &call_error);
    }
    CHECK_OK(status, call_error);
    call_unbind(&b);
    call_release(in, 3);
  }
}

TEST(shapes) {
  mx_array *in[3] = {call_array(MX_FLOAT32, mx_shape_of(2, 3), NULL), call_array(MX_FLOAT32, mx_shape_of(3), NULL),
                     call_array(MX_FLOAT32, mx_shape_of(3), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("_random_pdf_normal", NULL, in, 3, out, 1), MX_ERR_SHAPE, call_error, "(2,3)");
  call_release(in, 3);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(3, 0), NULL);
  in[1] = call_array(MX_FLOAT32, mx_shape_of(3), NULL), in[2] = call_array(MX_FLOAT32, mx_shape_of(3), NULL);
  CHECK_OK(call_op("_random_pdf_normal", NULL, in, 3, out, 1), call_error);
  call_release(in, 3), call_release(out, 1);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(densities_have_mass_one);
  RUN(gradients);
  RUN(dirichlet);
  RUN(outside_of_the_domain);
  RUN(shapes);
  return check_finish();
}
