/* Branch-free exp, tanh, sigmoid and a few more for loops that the compiler vectorizes: short polynomials in float
 * (about 2 ulp, with the right limits, subnormals, infinities and NaN), the C library in double.
 *
 * mx_vexp(x), mx_vtanh(x), mx_vsigmoid(x) choose by the type of x. */
#ifndef MX_CORE_VMATH_H
#define MX_CORE_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/thread.h"

/* Without these the compiler has to call the library for the sake of errno, and no loop with a root is vectorized. */
extern float sqrtf(float) __attribute__((const));
extern double sqrt(double) __attribute__((const));

/* 2^n for -126 <= n <= 127, from the bits. */
MX_INLINE float mx_exp2_int(int32_t n) {
  int32_t bits = (n + 127) * (1 << 23);
  float f;
  memcpy(&f, &bits, sizeof(f));
  return f;
}

MX_INLINE float mx_vexp_float(float x) {
  x = x > 89.0f ? 89.0f : x; /* comparisons let NaN through */
  x = x < -104.0f ? -104.0f : x;
  /* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: x = n ln 2 + r. */
  const float magic = 0x1.8p23f;
  float t = x * 0x1.715476p0f + magic;
  int32_t bits;
  memcpy(&bits, &t, sizeof(bits));
  int32_t n = bits - 0x4B400000;
  float f = t - magic;
  float r = (x - f * 0.693359375f) + f * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  /* The clamp keeps n in [-150, 128]; two factors reach subnormals and infinity. NaN makes n arbitrary, hence the mask.
   */
  n = n < -150 ? -150 : n > 128 ? 128 : n;
  int32_t half = n >> 1;
  return p * mx_exp2_int(half) * mx_exp2_int(n - half);
}

MX_INLINE float mx_vsigmoid_float(float x) { return 1.0f / (1.0f + mx_vexp_float(-x)); }

MX_INLINE float mx_vtanh_float(float x) {
  float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float a = fabsf(x), big = 1.0f - 2.0f / (mx_vexp_float(2.0f * a) + 1.0f);
  return copysignf(a < 0.625f ? small : big, x);
}

/* Natural logarithm of a positive, normal number: what random numbers need. */
MX_INLINE float mx_vlog_positive(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  /* x = 2^e m with m in [sqrt(1/2), sqrt(2)) */
  int32_t e = (bits - 0x3F3504F3) >> 23;
  bits -= e * (1 << 23);
  float m;
  memcpy(&m, &bits, sizeof(m));
  float f = m - 1.0f, z = f * f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  float y = p * f * z + (float)e * -2.12194440e-4f - 0.5f * z;
  return f + y + (float)e * 0.693359375f;
}

/* Sine and cosine of 2 pi t for t in [0, 1]. */
MX_INLINE void mx_vsincos_turn(float t, float *s, float *c) {
  float q = t * 4.0f + 0x1.8p23f;
  int32_t quadrant;
  memcpy(&quadrant, &q, sizeof(quadrant));
  float x = (t * 4.0f - (q - 0x1.8p23f)) * 1.57079632679f, z = x * x; /* [-pi/4, pi/4] */
  float sn = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  float cs =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  float a = quadrant & 1 ? cs : sn, b = quadrant & 1 ? sn : cs;
  *s = quadrant & 2 ? -a : a;
  *c = (quadrant + 1) & 2 ? -b : b;
}

MX_INLINE double mx_vsigmoid_double(double x) { return 1.0 / (1.0 + exp(-x)); }

/* float16 from and to its bits, rounding to nearest, ties to even: integer arithmetic that vectorizes everywhere. */
MX_INLINE float mx_half_bits_to_float(uint16_t h) {
  uint32_t magnitude = h & 0x7fffu, bits = magnitude << 13;
  float f;
  memcpy(&f, &bits, sizeof(f));
  f *= 0x1p112f; /* moves the exponent's bias and makes normal numbers of subnormal ones */
  memcpy(&bits, &f, sizeof(bits));
  bits |= magnitude >= 0x7c00u ? 0x7f800000u : 0u;
  bits |= (uint32_t)(h & 0x8000u) << 16;
  memcpy(&f, &bits, sizeof(f));
  return f;
}
MX_INLINE uint16_t mx_float_to_half_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  uint32_t sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  float magnitude;
  memcpy(&magnitude, &bits, sizeof(magnitude));
  uint32_t normal = (bits + 0xc8000fffu + (bits >> 13 & 1u)) >> 13; /* 0xc8000fff: -112 << 23, and half a unit less 1 */
  float shifted = magnitude + 0.5f; /* puts the last bit of a subnormal float16 where float rounds */
  uint32_t subnormal;
  memcpy(&subnormal, &shifted, sizeof(subnormal));
  subnormal -= 0x3f000000u;
  uint32_t h = bits < 0x38800000u ? subnormal : normal;
  h = bits >= 0x477ff000u ? 0x7c00u : h; /* 65520 and above */
  h = bits > 0x7f800000u ? 0x7e00u : h;
  return (uint16_t)(h | sign);
}

#define mx_vexp(x) _Generic((x), float : mx_vexp_float, double : exp)(x)
#define mx_vtanh(x) _Generic((x), float : mx_vtanh_float, double : tanh)(x)
#define mx_vsigmoid(x) _Generic((x), float : mx_vsigmoid_float, double : mx_vsigmoid_double)(x)

#endif
