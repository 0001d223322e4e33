/* Vector math of core/vmath.h: errors against the C library in double over all floats (every 40009th), limits, float16.
 */
#pragma GCC optimize("no-trapping-math")
#include "check.h"
#include "core/dtype.h"
#include "core/vmath.h"
#include "ops/scalar_math.h"

/* The distance in units of the last place of a float near `want`. */
static double ulps(float got, double want) {
  if (isnan(want)) return isnan(got) ? 0 : INFINITY;
  float nearest = (float)want;
  if (got == nearest) return 0;
  if (isinf(got) || isinf(nearest)) return fabs(want) > 3.4e38 && !signbit(got) == !signbit(want) ? 1 : INFINITY;
  int exponent;
  frexp(want, &exponent);
  return fabs(got - want) / ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

#define FUNCTION(name, vector, exact, bound)                                                                    \
  MX_CLONES static void run_##name(const float *x, float *y, int n) {                                           \
    _Pragma("omp simd") for (int i = 0; i < n; i++) y[i] = vector(x[i]);                                        \
  }                                                                                                             \
  TEST(name) {                                                                                                  \
    enum { N = 4096 };                                                                                          \
    float x[N], y[N];                                                                                           \
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {                                                        \
      int n = 0;                                                                                                \
      for (; n < N && bits < (uint64_t)1 << 32; n++, bits += 40009) {                                           \
        uint32_t b = (uint32_t)bits;                                                                            \
        memcpy(&x[n], &b, sizeof(b));                                                                           \
      }                                                                                                         \
      run_##name(x, y, n);                                                                                      \
      for (int i = 0; i < n; i++) {                                                                             \
        double off = ulps(y[i], exact((double)x[i]));                                                           \
        if (!(off <= (bound))) {                                                                                \
          check_report(__FILE__, __LINE__, "%s(%a) is %a, %g ulp off", #name, (double)x[i], (double)y[i], off); \
          return;                                                                                               \
        }                                                                                                       \
      }                                                                                                         \
    }                                                                                                           \
  }
FUNCTION(exponential, mx_vexp_float, exp, 2)
FUNCTION(expm1_, mx_vexpm1_float, expm1, 2)
FUNCTION(logarithm, mx_vlog_float, log, 2)
FUNCTION(log2_, mx_vlog2_float, log2, 2)
FUNCTION(log10_, mx_vlog10_float, log10, 2)
FUNCTION(log1p_, mx_vlog1p_float, log1p, 2)
FUNCTION(tanh_, mx_vtanh_float, tanh, 3)
FUNCTION(sigmoid_, mx_vsigmoid_float, sigmoid, 3)
FUNCTION(softrelu_, mx_vsoftrelu_float, mx_vsoftrelu_double, 3)
FUNCTION(erf_, mx_verf_float, erf, 2)
FUNCTION(cbrt_, mx_vcbrt_float, cbrt, 1)
FUNCTION(erfinv_, mx_verfinv_float, mxs_erfinv_double, 1)
FUNCTION(gamma_, mx_vgamma_float, tgamma, 1)
/* Between negative integers it vanishes where no short formula finds the place: there the error is absolute. */
static double near_lgamma(double x) {
  double exact = mxs_lgamma_double(x);
  return x < 0 && fabs(exact) < 0.01 && fabs(exact - mx_lgamma_short(x)) < 1e-9 ? mx_lgamma_short(x) : exact;
}
FUNCTION(lgamma_, mx_vlgamma_float, near_lgamma, 1)
/* libmvec, where there is one, in the vector versions. */
FUNCTION(sin_, mxs_sin, sin, 4)
FUNCTION(cos_, mxs_cos, cos, 4)
FUNCTION(tan_, mxs_tan, tan, 4)
FUNCTION(asin_, mxs_asin, asin, 4)
FUNCTION(acos_, mxs_acos, acos, 4)
FUNCTION(atan_, mxs_atan, atan, 4)
FUNCTION(sinh_, mxs_sinh, sinh, 4)
FUNCTION(cosh_, mxs_cosh, cosh, 4)
FUNCTION(asinh_, mxs_asinh, asinh, 4)
FUNCTION(acosh_, mxs_acosh, acosh, 4)
FUNCTION(atanh_, mxs_atanh, atanh, 4)

TEST(phi) {
  for (int k = -200000; k <= 200000; k++) {
    float x = (float)k / 16384;
    double exact = erfc((double)x * -0.7071067811865476) / 2;
    CHECK_NEAR(mx_vphi_float(x), exact, 2e-6 * exact + 3e-10);
  }
  CHECK_NEAR(mx_vphi_float(0), 0.5, 0);
  CHECK_NEAR(mx_vphi_float(-1e30f), 0, 0);
  CHECK_NEAR(mx_vphi_float(INFINITY), 1, 0);
  CHECK(isnan(mx_vphi_float(NAN)));
}

TEST(exact_where_it_should_be) {
  for (int k = -149; k < 128; k++) {
    float x = ldexpf(1, k);
    CHECK_NEAR(mx_vlog2_float(x), k, 0);
    CHECK_NEAR(mx_vpow_float(2, (float)k), x, 0);
  }
  CHECK(signbit(mx_vexpm1_float(-0.0f)) && signbit(mx_verf_float(-0.0f)) && signbit(mx_vcbrt_float(-0.0f)));
  for (int k = 0; k <= 200; k++) {
    CHECK_NEAR(mx_vcbrt_float((float)(k * k * k)), k, 0);
    CHECK_NEAR(mx_vpow_float((float)k, 2), k * k, 0);
  }
}

TEST(factorials) {
  float factorial = 1;
  for (int k = 1; k <= 10; factorial *= (float)k++) CHECK_NEAR(mx_vgamma_float((float)k), factorial, 0);
  CHECK_NEAR(mx_vlgamma_float(1), 0, 0);
  CHECK_NEAR(mx_vlgamma_float(2), 0, 0);
}

TEST(powers) {
  uint32_t seed = 1;
  for (int i = 0; i < 200000; i++) {
    float xy[2];
    for (int k = 0; k < 2; k++) {
      seed = seed * 1664525u + 1013904223u;
      uint32_t b = k ? 0x3f800000u | seed >> 9 : seed & 0x7fffffffu;
      memcpy(&xy[k], &b, sizeof(b));
    }
    float y = (xy[1] - 1.5f) * (i % 3 ? 10.0f : 100.0f);
    double off = ulps(mx_vpow_float(xy[0], y), pow(xy[0], y));
    if (off <= 1) continue;
    check_report(__FILE__, __LINE__, "%a^%a is %g ulp off", (double)xy[0], (double)y, off);
    return;
  }
}

TEST(half_precision) {
  int wrong = 0;
  for (uint32_t h = 0; h < 65536; h++) {
    uint16_t bits = (uint16_t)h;
    mx_half half;
    memcpy(&half, &bits, sizeof(bits));
    float want = (float)half, got = mx_half_bits_to_float(bits);
    wrong += isnan(want) ? !isnan(got) : memcmp(&want, &got, sizeof(got)) != 0;
  }
  CHECK_INT(wrong, 0);
  for (uint64_t b = 0; b < (uint64_t)1 << 32; b += 4099) {
    uint32_t word = (uint32_t)b;
    float f;
    memcpy(&f, &word, sizeof(f));
    mx_half half = (mx_half)f;
    uint16_t want, got = mx_float_to_half_bits(f);
    memcpy(&want, &half, sizeof(want));
    wrong += isnan(f) ? (got & 0x7fffu) <= 0x7c00u : got != want;
  }
  CHECK_INT(wrong, 0);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  RUN(exponential);
  RUN(expm1_);
  RUN(logarithm);
  RUN(log2_);
  RUN(log10_);
  RUN(log1p_);
  RUN(tanh_);
  RUN(sigmoid_);
  RUN(softrelu_);
  RUN(erf_);
  RUN(phi);
  RUN(cbrt_);
  RUN(erfinv_);
  RUN(gamma_);
  RUN(lgamma_);
  RUN(sin_);
  RUN(cos_);
  RUN(tan_);
  RUN(asin_);
  RUN(acos_);
  RUN(atan_);
  RUN(sinh_);
  RUN(cosh_);
  RUN(asinh_);
  RUN(acosh_);
  RUN(atanh_);
  RUN(exact_where_it_should_be);
  RUN(factorials);
  RUN(powers);
  RUN(half_precision);
  return check_finish();
}
