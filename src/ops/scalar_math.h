/* The functions that ops/scalar.def is written in: mxs_NAME(x) for float, double and int64_t operands, in C (chosen by
 * _Generic) and in CUDA (overloads).
 *
 * Float versions are free of branches where a short polynomial does, so that loops over them become vector code; double
 * versions are those of the C library. Integer arithmetic wraps around and never traps: x / 0 and x mod 0 are 0. */
#ifndef MX_OPS_SCALAR_MATH_H
#define MX_OPS_SCALAR_MATH_H

#if defined(__CUDACC_RTC__) /* compiled at run time: there are no headers */
typedef long long int64_t;
typedef unsigned long long uint64_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#elif defined(__CUDACC__)
#include <math.h>
#include <stdint.h>
#else
#include <math.h>
#include <stdint.h>

#include "core/vmath.h"
/* Without these the compiler has to call the library for the sake of errno, and no loop with a root is vectorized. */
extern float sqrtf(float) __attribute__((const));
extern double sqrt(double) __attribute__((const));
/* The C library of Linux has vector versions (libmvec), within 4 units of the last place, over the whole range. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#if __GLIBC_PREREQ(2, 35)
#define MXS_LIBRARY_VECTOR(name)                                           \
  extern float name##f(float) __attribute__((const, simd("notinbranch"))); \
  extern double name(double) __attribute__((const, simd("notinbranch")));
MXS_LIBRARY_VECTOR(exp)
MXS_LIBRARY_VECTOR(log)
MXS_LIBRARY_VECTOR(sin)
MXS_LIBRARY_VECTOR(cos)
MXS_LIBRARY_VECTOR(tan)
MXS_LIBRARY_VECTOR(asin)
MXS_LIBRARY_VECTOR(acos)
MXS_LIBRARY_VECTOR(atan)
MXS_LIBRARY_VECTOR(sinh)
MXS_LIBRARY_VECTOR(cosh)
MXS_LIBRARY_VECTOR(asinh)
MXS_LIBRARY_VECTOR(acosh)
MXS_LIBRARY_VECTOR(atanh)
#endif
#endif
#endif
#if defined(__CUDACC__)
#define MXS_FN static __device__ __forceinline__
#else
#define MXS_FN MX_INLINE
#endif

/* ---- integers ---- */

MXS_FN int64_t mxs_add_int(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
MXS_FN int64_t mxs_sub_int(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
MXS_FN int64_t mxs_mul_int(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
MXS_FN int64_t mxs_neg_int(int64_t a) { return (int64_t)(0 - (uint64_t)a); }
MXS_FN int64_t mxs_abs_int(int64_t a) { return a < 0 ? mxs_neg_int(a) : a; }
MXS_FN int64_t mxs_sign_int(int64_t a) { return (a > 0) - (a < 0); }
MXS_FN int64_t mxs_same_int(int64_t a) { return a; }
MXS_FN int64_t mxs_div_int(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? mxs_neg_int(a) : a / b; }
MXS_FN int64_t mxs_mod_int(int64_t a, int64_t b) {
  if (b == 0 || b == -1) return 0;
  int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* ---- float and double: what is not in the C library ---- */

/* Digamma: reflection for negative arguments, recurrence up to 10, then the asymptotic series. NaN at the poles. */
MXS_FN double mxs_digamma_double(double x) {
  double shift = 0;
  if (x <= 0) {
    if (x == floor(x)) return NAN;
    shift = -3.14159265358979323846 / tan(3.14159265358979323846 * x);
    x = 1 - x;
  }
  while (x < 10) {
    shift -= 1 / x;
    x += 1;
  }
  double z = 1 / (x * x);
  double series = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132)))));
  return log(x) - 0.5 / x - series + shift;
}

#define MXS_DEFINE(T, tag, FLOOR, TRUNC, FMOD, HALF)                                                 \
  MXS_FN T mxs_add_##tag(T a, T b) { return a + b; }                                                 \
  MXS_FN T mxs_sub_##tag(T a, T b) { return a - b; }                                                 \
  MXS_FN T mxs_mul_##tag(T a, T b) { return a * b; }                                                 \
  MXS_FN T mxs_div_##tag(T a, T b) { return a / b; }                                                 \
  MXS_FN T mxs_neg_##tag(T a) { return -a; }                                                         \
  MXS_FN T mxs_sign_##tag(T a) { return (T)((a > 0) - (a < 0)); }                                    \
  MXS_FN T mxs_mod_##tag(T a, T b) {                                                                 \
    T m = FMOD(a, b);                                                                                \
    m = m != 0 && (m < 0) != (b < 0) ? m + b : m;                                                    \
    return b == 0 ? 0 : m;                                                                           \
  }                                                                                                  \
  /* Ties go down. */                                                                                \
  MXS_FN T mxs_rint_##tag(T a) {                                                                     \
    T f = FLOOR(a);                                                                                  \
    return a - f > (T)0.5 ? f + 1 : f;                                                               \
  }                                                                                                  \
  /* Ties go away from 0. HALF is the number just below 1/2: adding it never carries past a half. */ \
  MXS_FN T mxs_round_##tag(T a) { return TRUNC(a + (a < 0 ? -(T)(HALF) : (T)(HALF))); }

MXS_DEFINE(float, float, floorf, truncf, fmodf, 0x1.fffffep-2f)
MXS_DEFINE(double, double, floor, trunc, fmod, 0x1.fffffffffffffp-2)
MXS_FN float mxs_digamma_float(float a) { return (float)mxs_digamma_double(a); }

#if defined(__CUDACC__)

#define MXS_REALS1(name, f, d)                      \
  MXS_FN float mxs_##name(float a) { return f(a); } \
  MXS_FN double mxs_##name(double a) { return d(a); }
#define MXS_REALS2(name, f, d)                                  \
  MXS_FN float mxs_##name(float a, float b) { return f(a, b); } \
  MXS_FN double mxs_##name(double a, double b) { return d(a, b); }
#define MXS_ALL1(name, f, d, i) \
  MXS_REALS1(name, f, d)        \
  MXS_FN int64_t mxs_##name(int64_t a) { return i(a); }
#define MXS_ALL2(name, f, d, i) \
  MXS_REALS2(name, f, d)        \
  MXS_FN int64_t mxs_##name(int64_t a, int64_t b) { return i(a, b); }

MXS_ALL1(abs, fabsf, fabs, mxs_abs_int)
MXS_ALL1(neg, mxs_neg_float, mxs_neg_double, mxs_neg_int)
MXS_ALL1(sign, mxs_sign_float, mxs_sign_double, mxs_sign_int)
MXS_ALL1(floor, floorf, floor, mxs_same_int)
MXS_ALL1(ceil, ceilf, ceil, mxs_same_int)
MXS_ALL1(trunc, truncf, trunc, mxs_same_int)
MXS_ALL1(rint, mxs_rint_float, mxs_rint_double, mxs_same_int)
MXS_ALL1(round, mxs_round_float, mxs_round_double, mxs_same_int)
MXS_ALL2(add, mxs_add_float, mxs_add_double, mxs_add_int)
MXS_ALL2(sub, mxs_sub_float, mxs_sub_double, mxs_sub_int)
MXS_ALL2(mul, mxs_mul_float, mxs_mul_double, mxs_mul_int)
MXS_ALL2(div, mxs_div_float, mxs_div_double, mxs_div_int)
MXS_ALL2(mod, mxs_mod_float, mxs_mod_double, mxs_mod_int)

/* From exp(-|a|), which cannot overflow. */
MXS_FN float mxs_sigmoid_float(float a) {
  float e = expf(-fabsf(a));
  return (a < 0 ? e : 1) / (1 + e);
}
MXS_FN double mxs_sigmoid_double(double a) {
  double e = exp(-fabs(a));
  return (a < 0 ? e : 1) / (1 + e);
}
MXS_FN float mxs_softrelu_float(float a) { return (a > 0 ? a : 0) + log1pf(expf(-fabsf(a))); }
MXS_FN double mxs_softrelu_double(double a) { return (a > 0 ? a : 0) + log1p(exp(-fabs(a))); }
MXS_REALS1(exp, expf, exp)
MXS_REALS1(expm1, expm1f, expm1)
MXS_REALS1(log, logf, log)
MXS_REALS1(log2, log2f, log2)
MXS_REALS1(log10, log10f, log10)
MXS_REALS1(log1p, log1pf, log1p)
MXS_REALS1(sqrt, sqrtf, sqrt)
MXS_REALS1(cbrt, cbrtf, cbrt)
MXS_REALS1(sigmoid, mxs_sigmoid_float, mxs_sigmoid_double)
MXS_REALS1(softrelu, mxs_softrelu_float, mxs_softrelu_double)
MXS_REALS1(tanh, tanhf, tanh)
MXS_REALS1(sinh, sinhf, sinh)
MXS_REALS1(cosh, coshf, cosh)
MXS_REALS1(sin, sinf, sin)
MXS_REALS1(cos, cosf, cos)
MXS_REALS1(tan, tanf, tan)
MXS_REALS1(asin, asinf, asin)
MXS_REALS1(acos, acosf, acos)
MXS_REALS1(atan, atanf, atan)
MXS_REALS1(asinh, asinhf, asinh)
MXS_REALS1(acosh, acoshf, acosh)
MXS_REALS1(atanh, atanhf, atanh)
MXS_REALS1(erf, erff, erf)
MXS_REALS1(phi, normcdff, normcdf)
MXS_REALS1(erfinv, erfinvf, erfinv)
MXS_REALS1(gamma, tgammaf, tgamma)
MXS_REALS1(lgamma, lgammaf, lgamma)
MXS_REALS1(digamma, mxs_digamma_float, mxs_digamma_double)
MXS_REALS2(pow, powf, pow)
MXS_REALS2(hypot, hypotf, hypot)

#else

MXS_FN double mxs_phi_double(double x) { return erfc(x * -0.7071067811865476) / 2; }

/* Inverse error function: the approximation of Giles ("Approximating the erfinv function", GPU Computing Gems 2, 2011)
 * followed by Newton steps, in the tails on log(erfc), which is nearly a parabola there. */
MXS_FN double mxs_erfinv_double(double x) {
  double ax = fabs(x);
  if (!(ax < 1)) return ax == 1 ? copysign(INFINITY, x) : NAN;
  if (ax < 1e-10) return x * 0.8862269254527580;
  double w = -log((1 - ax) * (1 + ax)), p;
  if (w < 5) {
    w -= 2.5;
    p = 2.81022636e-08;
    p = 3.43273939e-07 + p * w;
    p = -3.5233877e-06 + p * w;
    p = -4.39150654e-06 + p * w;
    p = 0.00021858087 + p * w;
    p = -0.00125372503 + p * w;
    p = -0.00417768164 + p * w;
    p = 0.246640727 + p * w;
    p = 1.50140941 + p * w;
  } else {
    w = sqrt(w) - 3;
    p = -0.000200214257;
    p = 0.000100950558 + p * w;
    p = 0.00134934322 + p * w;
    p = -0.00367342844 + p * w;
    p = 0.00573950773 + p * w;
    p = -0.0076224613 + p * w;
    p = 0.00943887047 + p * w;
    p = 1.00167406 + p * w;
    p = 2.83297682 + p * w;
  }
  double y = p * ax;
  for (int i = 0; i < 4; i++) {
    double slope = 1.1283791670955126 * exp(-y * y), c = erfc(y);
    y += ax < 0.5 ? (ax - erf(y)) / slope : c / slope * log(c / (1 - ax));
  }
  return copysign(y, x);
}

MXS_FN float mxs_hypot_float(float a, float b) {
  double h = sqrt((double)a * a + (double)b * b);
  return fabsf(a) == INFINITY || fabsf(b) == INFINITY ? INFINITY : (float)h;
}
MXS_FN double mxs_lgamma_double(double a) {
  int sign; /* lgamma would write a global variable */
  return lgamma_r(a, &sign);
}
#define MXS_CALL1(f, d, i, a) _Generic((a), float : f, int64_t : i, default : d)(a)
#define MXS_CALL2(f, d, i, a, b) _Generic((a), float : f, int64_t : i, default : d)(a, b)
#define mxs_abs(a) MXS_CALL1(fabsf, fabs, mxs_abs_int, a)
#define mxs_neg(a) MXS_CALL1(mxs_neg_float, mxs_neg_double, mxs_neg_int, a)
#define mxs_sign(a) MXS_CALL1(mxs_sign_float, mxs_sign_double, mxs_sign_int, a)
#define mxs_floor(a) MXS_CALL1(floorf, floor, mxs_same_int, a)
#define mxs_ceil(a) MXS_CALL1(ceilf, ceil, mxs_same_int, a)
#define mxs_trunc(a) MXS_CALL1(truncf, trunc, mxs_same_int, a)
#define mxs_rint(a) MXS_CALL1(mxs_rint_float, mxs_rint_double, mxs_same_int, a)
#define mxs_round(a) MXS_CALL1(mxs_round_float, mxs_round_double, mxs_same_int, a)
#define mxs_add(a, b) MXS_CALL2(mxs_add_float, mxs_add_double, mxs_add_int, a, b)
#define mxs_sub(a, b) MXS_CALL2(mxs_sub_float, mxs_sub_double, mxs_sub_int, a, b)
#define mxs_mul(a, b) MXS_CALL2(mxs_mul_float, mxs_mul_double, mxs_mul_int, a, b)
#define mxs_div(a, b) MXS_CALL2(mxs_div_float, mxs_div_double, mxs_div_int, a, b)
#define mxs_mod(a, b) MXS_CALL2(mxs_mod_float, mxs_mod_double, mxs_mod_int, a, b)

#define MXS_REAL1(f, d, a) _Generic((a), float : f, default : d)(a)
#define MXS_REAL2(f, d, a, b) _Generic((a), float : f, default : d)(a, b)
#define mxs_exp(a) MXS_REAL1(mx_vexp_float, exp, a)
#define mxs_expm1(a) MXS_REAL1(mx_vexpm1_float, expm1, a)
#define mxs_log(a) MXS_REAL1(mx_vlog_float, log, a)
#define mxs_log2(a) MXS_REAL1(mx_vlog2_float, log2, a)
#define mxs_log10(a) MXS_REAL1(mx_vlog10_float, log10, a)
#define mxs_log1p(a) MXS_REAL1(mx_vlog1p_float, log1p, a)
#define mxs_sqrt(a) MXS_REAL1(sqrtf, sqrt, a)
#define mxs_cbrt(a) MXS_REAL1(mx_vcbrt_float, cbrt, a)
#define mxs_sigmoid(a) MXS_REAL1(mx_vsigmoid_float, mx_vsigmoid_double, a)
#define mxs_softrelu(a) MXS_REAL1(mx_vsoftrelu_float, mx_vsoftrelu_double, a)
#define mxs_tanh(a) MXS_REAL1(mx_vtanh_float, tanh, a)
#define mxs_sinh(a) MXS_REAL1(sinhf, sinh, a)
#define mxs_cosh(a) MXS_REAL1(coshf, cosh, a)
#define mxs_sin(a) MXS_REAL1(sinf, sin, a)
#define mxs_cos(a) MXS_REAL1(cosf, cos, a)
#define mxs_tan(a) MXS_REAL1(tanf, tan, a)
#define mxs_asin(a) MXS_REAL1(asinf, asin, a)
#define mxs_acos(a) MXS_REAL1(acosf, acos, a)
#define mxs_atan(a) MXS_REAL1(atanf, atan, a)
#define mxs_asinh(a) MXS_REAL1(asinhf, asinh, a)
#define mxs_acosh(a) MXS_REAL1(acoshf, acosh, a)
#define mxs_atanh(a) MXS_REAL1(atanhf, atanh, a)
#define mxs_erf(a) MXS_REAL1(mx_verf_float, erf, a)
#define mxs_phi(a) MXS_REAL1(mx_vphi_float, mxs_phi_double, a)
#define mxs_erfinv(a) MXS_REAL1(mx_verfinv_float, mxs_erfinv_double, a)
#define mxs_gamma(a) MXS_REAL1(mx_vgamma_float, tgamma, a)
#define mxs_lgamma(a) MXS_REAL1(mx_vlgamma_float, mxs_lgamma_double, a)
#define mxs_digamma(a) MXS_REAL1(mxs_digamma_float, mxs_digamma_double, a)
#define mxs_pow(a, b) MXS_REAL2(mx_vpow_float, pow, a, b)
#define mxs_hypot(a, b) MXS_REAL2(mxs_hypot_float, hypot, a, b)
#endif

/* Derivative of gelu_tanh: a sigmoid(u) with u = a (k + l a^2). */
#define MXS_GELU_TANH(T, tag)                                      \
  MXS_FN T mxs_gelu_tanh_slope_##tag(T a) {                        \
    const T k = (T)1.5957691216057308, l = (T)0.07135481282553826; \
    T s = mxs_sigmoid(a * (k + l * a * a));                        \
    return s + a * s * (1 - s) * (k + 3 * l * a * a);              \
  }
MXS_GELU_TANH(float, float)
MXS_GELU_TANH(double, double)
#if defined(__CUDACC__)
MXS_REALS1(gelu_tanh_slope, mxs_gelu_tanh_slope_float, mxs_gelu_tanh_slope_double)
#else
#define mxs_gelu_tanh_slope(a) MXS_REAL1(mxs_gelu_tanh_slope_float, mxs_gelu_tanh_slope_double, a)
#endif

#endif
