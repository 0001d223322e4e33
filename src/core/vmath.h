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

/* e^r of x = n ln 2 + r. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: in *n, which has n + 254
 * in its low 9 bits, so that a shift makes 2^n of it. NaN gives NaN and any n. */
MX_INLINE float mx_exp_split(float x, uint32_t *n) {
  const float magic = 0x1.8p23f + 254;
  float t = x * 0x1.715476p0f + magic;
  memcpy(n, &t, sizeof(*n));
  float f = t - magic;
  float r = (x - f * 0.693359375f) + f * 2.12194440e-4f;
  float r2 = r * r, high = 1.9875691500e-4f * r + 1.3981999507e-3f, middle = 8.3334519073e-3f * r + 4.1665795894e-2f;
  float low = 1.6666665459e-1f * r + 5.0000001201e-1f; /* in pairs: each step of a long chain would wait for the last */
  return ((high * r2 + middle) * r2 + low) * r2 + r + 1.0f;
}
MX_INLINE float mx_exp2_bits(uint32_t n) { /* 2^(n - 127), 0 < n < 255 in the low 9 bits */
  float f;
  n <<= 23;
  memcpy(&f, &n, sizeof(f));
  return f;
}
MX_INLINE float mx_vexp_float(float x) {
  x = x > 89.0f ? 89.0f : x; /* comparisons let NaN through */
  x = x < -104.0f ? -104.0f : x;
  uint32_t n;
  float p = mx_exp_split(x, &n);
  return p * mx_exp2_bits(n >> 1) * mx_exp2_bits(n - (n >> 1)); /* two factors reach subnormals and infinity */
}
MX_INLINE float mx_vexp_moderate(float x) { /* for |x| <= 87 */
  uint32_t n;
  float p = mx_exp_split(x, &n);
  return p * mx_exp2_bits(n - 127);
}

/* From exp(-|x|), which cannot overflow: small values keep their digits. */
MX_INLINE float mx_vsigmoid_float(float x) {
  float e = mx_vexp_float(-fabsf(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* e^x - 1: with x = n ln 2 + r, 2^n (e^r - 1) + (2^n - 1). Half of 2^n, so that n = 128 does not overflow too early. */
MX_INLINE float mx_vexpm1_float(float x) {
  float y = x > 89.0f ? 89.0f : x;
  y = y < -20.0f ? -20.0f : y;
  const float magic = 0x1.8p23f;
  float t = y * 0x1.715476p0f + magic;
  int32_t bits;
  memcpy(&bits, &t, sizeof(bits));
  int32_t n = bits - 0x4B400000;
  float f = t - magic;
  float r = (y - f * 0.693359375f) + f * 2.12194440e-4f;
  float p = 1.984588016e-4f;
  p = p * r + 1.394065446e-3f;
  p = p * r + 8.333389647e-3f;
  p = p * r + 4.166636243e-2f;
  p = p * r + 1.666666567e-1f;
  p = p * r + 0.5f;
  float q = p * (r * r) + r;
  n = n < -30 ? -30 : n > 128 ? 128 : n; /* NaN */
  float half = mx_exp2_int(n - 1);
  return copysignf(2.0f * (half * q + (half - 0.5f)), x);
}

/* x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); f as result. For 2^-126 <= x < infinity. */
MX_INLINE float mx_log_split_normal(float x, float *e) {
  int32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  bits = (int32_t)((uint32_t)bits - 0x3f3504f3u); /* sqrt(1/2); wraps below 0 */
  *e = (float)(bits >> 23);
  bits = (bits & 0x7fffff) + 0x3f3504f3;
  float m;
  memcpy(&m, &bits, sizeof(m));
  return m - 1.0f;
}
/* For 0 < x < infinity. */
MX_INLINE float mx_log_split(float x, float *e) {
  int32_t tiny = x < 0x1p-126f;
  float f = mx_log_split_normal(x * (tiny ? 0x1p23f : 1.0f), e);
  *e -= tiny ? 23.0f : 0.0f;
  return f;
}
/* log(1 + f) - f for f in [sqrt(1/2) - 1, sqrt(2) - 1]. */
MX_INLINE float mx_log_tail(float f) {
  float z = f * f, p = -7.634493709e-2f;
  p = p * f + 1.276157498e-1f;
  p = p * f - 1.316018254e-1f;
  p = p * f + 1.420175880e-1f;
  p = p * f - 1.662335694e-1f;
  p = p * f + 2.000122666e-1f;
  p = p * f - 2.500081956e-1f;
  p = p * f + 3.333333135e-1f;
  return p * f * z - 0.5f * z;
}
/* What logarithms are at 0, below it, at infinity and NaN; y elsewhere. */
MX_INLINE float mx_log_limits(float x, float y) {
  y = x == INFINITY ? x : y;
  y = x == 0 ? -INFINITY : y;
  return x >= 0 ? y : NAN;
}
MX_INLINE float mx_log_join(float f, float e) { return (mx_log_tail(f) - e * 2.12194440e-4f + f) + e * 0.693359375f; }
MX_INLINE float mx_vlog_normal(float x) { /* for 2^-126 <= x < infinity: what random numbers need */
  float e, f = mx_log_split_normal(x, &e);
  return mx_log_join(f, e);
}
MX_INLINE float mx_vlog_float(float x) {
  float e, f = mx_log_split(x, &e);
  return mx_log_limits(x, mx_log_join(f, e));
}
MX_INLINE float mx_vlog2_float(float x) {
  float e, f = mx_log_split(x, &e), t = mx_log_tail(f);
  /* log2(e) = 1 + 0.4427: the larger part needs no rounding */
  return mx_log_limits(x, t * 0.44269504f + f * 0.44269504f + t + f + e);
}
MX_INLINE float mx_vlog10_float(float x) {
  float e, f = mx_log_split(x, &e), t = mx_log_tail(f);
  /* log10(2) = 0.30078125 + 2.4874566e-4, log10(e) = 0.4342945 */
  return mx_log_limits(x, (t * 0.4342945f + e * 2.4874566e-4f + f * 0.4342945f) + e * 0.30078125f);
}
/* log(u) with u = 1 + x rounded, and what the rounding took away. */
MX_INLINE float mx_vlog1p_float(float x) {
  float u = 1.0f + x, e, f = mx_log_split_normal(u, &e), lost = (x - (u - 1.0f)) / u;
  float y = (mx_log_tail(f) - e * 2.12194440e-4f + lost + f) + e * 0.693359375f;
  return mx_log_limits(u, copysignf(y, x)); /* -0 keeps its sign */
}

/* log(1 + e^x) = max(x, 0) + log(1 + e), e = exp(-|x|). */
MX_INLINE float mx_vsoftrelu_float(float x) {
  float e = mx_vexp_float(-fabsf(x)), t = e - 0.5f;
  float t2 = t * t, t4 = t2 * t2;
  float low = (1.326094941e-01f - 6.771118662e-02f * t) * t2 + (8.109302162e-01f - 2.885266734e-01f * t);
  float high = (1.163957536e-02f - 8.569656114e-03f * t) * t2 + (3.662560597e-02f - 2.023034057e-02f * t);
  float p = (5.126102142e-03f * t4 + high) * t4 + low;
  return (x > 0 ? x : 0.0f) + p * e;
}

/* erf: x + x P(x^2) up to 0.93, beyond it 1 - exp(-t - t Q(t)) with t = |x|. */
MX_INLINE float mx_verf_float(float x) {
  float z = x * x, t = fabsf(x);
  t = t > 4.0f ? 4.0f : t;
  float p = 8.251005784e-5f;
  p = p * z - 8.114048978e-4f;
  p = p * z + 5.198462866e-3f;
  p = p * z - 2.685834467e-2f;
  p = p * z + 1.128367633e-1f;
  p = p * z - 3.761263192e-1f;
  p = p * z + 1.283791661e-1f;
  float q = 1.123131369e-5f;
  q = q * t - 3.228039423e-4f;
  q = q * t + 3.642459400e-3f;
  q = q * t - 2.376206405e-2f;
  q = q * t + 1.062368825e-1f;
  q = q * t + 6.351513267e-1f;
  q = q * t + 1.286484897e-1f;
  float far = copysignf(1.0f - mx_vexp_float(-(q * t + t)), x);
  return t < 0.93f ? p * x + x : far; /* NaN is not below, and the exponential of NaN is NaN */
}

/* Distribution function of the normal distribution: below 0 2^-(1 + t R(t)) with t = |x|, which is within 4e-7 of it
 * down to -6 and goes to 0 beyond; above 0 one minus that. */
MX_INLINE float mx_vphi_float(float x) {
  float a = fabsf(x), t = a > 6.0f ? 6.0f : a;
  float p = 1.917033446e-8f;
  p = p * t - 6.034861607e-7f;
  p = p * t + 8.135640295e-6f;
  p = p * t - 5.934019457e-5f;
  p = p * t + 2.183385259e-4f;
  p = p * t + 1.327060156e-4f;
  p = p * t - 7.116410162e-3f;
  p = p * t + 5.256078199e-2f;
  p = p * t + 4.591805169e-1f;
  p = p * t + 1.151108771f;
  float y = p * a;
  const float magic = 0x1.8p23f; /* as in mx_vexp_float */
  float whole = y + magic, f = y - (whole - magic);
  uint32_t bits;
  memcpy(&bits, &whole, sizeof(bits));
  float q = 1.534578202e-4f;
  q = q * f - 1.339993098e-3f;
  q = q * f + 9.618489069e-3f;
  q = q * f - 5.550328778e-2f;
  q = q * f + 2.402264689e-1f;
  q = q * f - 6.931472057e-1f;
  q = q * f + 1.0f;
  bits = (126u + 0x4B400000u - bits) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof(scale));
  float below = y > 124.0f ? 0.0f : q * scale;
  return x < 0 ? below : 1.0f - below;
}

/* Cube root: an estimate from the bits, then two of Halley's steps in double. */
MX_INLINE float mx_vcbrt_float(float x) {
  float a = fabsf(x);
  int32_t tiny = a < 0x1p-126f, bits;
  a *= tiny ? 0x1p24f : 1.0f;
  memcpy(&bits, &a, sizeof(bits));
  bits = (int32_t)((float)bits * 0.33333333f) + 0x2a514067;
  float estimate;
  memcpy(&estimate, &bits, sizeof(estimate));
  double y = estimate, b = a;
  y *= (y * y * y + 2 * b) / (2 * y * y * y + b);
  y *= (y * y * y + 2 * b) / (2 * y * y * y + b);
  float r = (float)(y * (tiny ? 0x1p-8 : 1.0));
  r = a > 0 && a < INFINITY ? r : a; /* 0, infinity, NaN */
  return copysignf(r, x);
}

/* Logarithm to base 2 and power of 2 in double, for results in float: within 2e-12. */
MX_INLINE double mx_log2_short(double b) { /* 0 < b < infinity, normal */
  int64_t bits;
  memcpy(&bits, &b, sizeof(bits));
  bits = (int64_t)((uint64_t)bits - 0x3fe6a09e667f3bcdull); /* sqrt(1/2); anything else wraps to some number */
  double e = (double)(int32_t)(bits >> 52);
  bits = (bits & 0xfffffffffffffll) + 0x3fe6a09e667f3bcdll;
  double m;
  memcpy(&m, &bits, sizeof(m));
  double s = (m - 1) / (m + 1), z = s * s; /* log(m) = 2 atanh(s), |s| < 0.172 */
  double p = 2.0 / 13;
  p = p * z + 2.0 / 11;
  p = p * z + 2.0 / 9;
  p = p * z + 2.0 / 7;
  p = p * z + 2.0 / 5;
  p = p * z + 2.0 / 3;
  p = p * z + 2.0;
  return e + s * p * 1.4426950408889634;
}
MX_INLINE double mx_exp2_short(double t) { /* beyond +-300 as at 300 */
  t = t > 300 ? 300 : t;
  t = t < -300 ? -300 : t;
  double n = t + 0x1.8p52; /* rounds to an integer and leaves it in the low bits */
  int64_t shift;
  memcpy(&shift, &n, sizeof(shift));
  double r = t - (n - 0x1.8p52);
  double q = 1.5201922353788307e-05;
  q = q * r + 0.00015469291136749008;
  q = q * r + 0.0013333922560571261;
  q = q * r + 0.0096180272536899591;
  q = q * r + 0.055504103534508908;
  q = q * r + 0.24022651198157413;
  q = q * r + 0.69314718072844661;
  q = q * r + 0.99999999996168198;
  int64_t scale_bits = (int64_t)((uint64_t)(shift + 1023) << 52);
  double scale;
  memcpy(&scale, &scale_bits, sizeof(scale));
  return q * scale;
}

/* x^y = 2^(y log2 |x|) in double, then what the sign of x, and zeros and infinities, make of it. */
MX_INLINE float mx_vpow_float(float x, float y) {
  float a = fabsf(x);
  double log2a = mx_log2_short(a);
  log2a = a == 0 ? -INFINITY : a == INFINITY ? INFINITY : log2a;
  double t = (double)y * log2a;
  t = a == 1 || y == 0 ? 0 : t; /* 1^y and x^0 are 1, even for NaN */
  float value = (float)mx_exp2_short(t);
  value = a != a && y != 0 ? a : y != y && x != 1 ? y : value;
  float half = y * 0.5f;
  int whole = truncf(y) == y, odd = whole && truncf(half) != half && fabsf(y) < 0x1p24f;
  int negative = copysignf(1.0f, x) < 0;
  value = negative && odd ? -value : value;
  return x < 0 && !whole && a < INFINITY ? NAN : value;
}

/* Logarithm of |gamma(x)| in double, within 1e-9. Between 0.8 and 2.2, where it vanishes twice, (x - 1)(x - 2) times a
 * polynomial; elsewhere Stirling's series beyond 8, and the recurrence up to it. Negative numbers by reflection. */
MX_INLINE double mx_lgamma_short(double x) {
  double a = x < 0.5 ? 1 - x : x; /* reflected */
  double u = a - 1.5, p = -3.715884384210322e-4;
  p = p * u + 5.628110184531885e-4;
  p = p * u - 2.6518052921738157e-4;
  p = p * u + 4.855358172411385e-4;
  p = p * u - 1.2340755049584868e-3;
  p = p * u + 2.003896737368075e-3;
  p = p * u - 3.197466508585065e-3;
  p = p * u + 5.431965112658805e-3;
  p = p * u - 9.427172102609243e-3;
  p = p * u + 1.679831680708146e-2;
  p = p * u - 3.1308415623529526e-2;
  p = p * u + 6.29113629818202e-2;
  p = p * u - 0.14595989687363192;
  p = p * u + 0.48312895073448137;
  double near = p * (a - 1) * (a - 2);
  int32_t low = a < 8;
  double product = low ? a * (a + 1) * (a + 2) * (a + 3) * (a + 4) * (a + 5) * (a + 6) * (a + 7) : 1;
  double b = low ? a + 8 : a, z = 1 / b, zz = z * z;
  double series = z * (1.0 / 12 - zz * (1.0 / 360 - zz * (1.0 / 1260 - zz * (1.0 / 1680))));
  const double ln2 = 0.6931471805599453;
  double far = (b - 0.5) * mx_log2_short(b) * ln2 - b + 0.9189385332046727 + series - mx_log2_short(product) * ln2;
  double y = a > 0.8 && a < 2.2 ? near : far;
  /* |gamma(x) gamma(1 - x)| = pi / |sin(pi x)|, by the distance to the nearest integer */
  double f = x - rint(x), ff = f * f, s = -0.007028386357823603;
  s = s * ff + 0.08205040178275233;
  s = s * ff - 0.5992521978192976;
  s = s * ff + 2.55016331894668;
  s = s * ff - 5.167712764624524;
  s = s * ff + 3.1415926535362906;
  s = fabs(s * f);
  double reflected = 1.1447298858494002 - mx_log2_short(s) * ln2 - y;
  y = x < 0.5 ? reflected : y;
  y = x <= 0 && f == 0 ? INFINITY : y; /* the poles; numbers beyond 2^53 are integers, too */
  y = fabs(x) == INFINITY ? INFINITY : y;
  return x == x ? y : x;
}
MX_INLINE float mx_vlgamma_float(float x) { return (float)mx_lgamma_short(x); }
/* Its sign alternates between negative integers. */
MX_INLINE float mx_vgamma_float(float x) {
  float y = (float)mx_exp2_short(mx_lgamma_short(x) * 1.4426950408889634);
  float below = floorf(x), half = below * 0.5f;
  y = x < 0 && truncf(half) != half ? -y : y;
  y = x < 0 && below == x ? NAN : y;
  y = x == 0 ? copysignf(INFINITY, x) : y;
  return x == x ? y : x;
}

/* Inverse error function: x times polynomials of w = -log(1 - x^2), beyond w = 5 of its root. */
MX_INLINE float mx_verfinv_float(float x) {
  double a = fabsf(x), w = -0.6931471805599453 * mx_log2_short((1 - a) * (1 + a));
  int32_t near = w < 5;
  double u = near ? w - 2.5 : sqrt(near ? 5.0 : w) - 3.1680339887498947;
  double p = near ? 4.35114716250068e-10 : -3.248795403210105e-05;
  p = p * u + (near ? -8.739830998220662e-09 : 0.0001102716675932866);
  p = p * u + (near ? 1.6487177034150166e-08 : -6.584684817226592e-05);
  p = p * u + (near ? 4.6542873080867136e-07 : -0.00034535261451971327);
  p = p * u + (near ? -3.42617595260544e-06 : 0.0011688584088561627);
  p = p * u + (near ? -4.9597434965613105e-06 : -0.002210503818484437);
  p = p * u + (near ? 0.00021826392314554672 : 0.0032840607974384916);
  p = p * u + (near ? -0.0012527484164536404 : -0.004692007605782801);
  p = p * u + (near ? -0.004177324921933688 : 0.006403898009152239);
  p = p * u + (near ? 0.24664028938940863 : 1.0042969794286072);
  p = p * u + (near ? 1.5014093517282388 : 3.001526809444553);
  float y = (float)(p * x);
  y = a == 1 ? copysignf(INFINITY, x) : y;
  return a <= 1 ? y : NAN;
}

MX_INLINE float mx_vtanh_float(float x) {
  float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  float small = p * z * x + x;
  float a = fabsf(x), b = a > 10.0f ? 10.0f : a;
  float big = 1.0f - 2.0f / (mx_vexp_moderate(2.0f * b) + 1.0f);
  return copysignf(a < 0.625f ? small : big, x);
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
MX_INLINE double mx_vsoftrelu_double(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

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
#define mx_vlog(x) _Generic((x), float : mx_vlog_float, double : log)(x)
#define mx_vtanh(x) _Generic((x), float : mx_vtanh_float, double : tanh)(x)
#define mx_vsigmoid(x) _Generic((x), float : mx_vsigmoid_float, double : mx_vsigmoid_double)(x)

#endif
