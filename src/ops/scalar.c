/* Block functions of the rows of scalar.def, and the table of rows.
 *
 * Every row is compiled for float and double, and for int64_t where it says INT, each for several instruction sets. The
 * loops of a row differ in which of its operands are single values. */
#pragma GCC optimize("no-trapping-math") /* so that both sides of a choice may be computed */
#include "ops/scalar.h"

#include <string.h>

#include "ops/scalar_math.h"

/* out[0 .. n) = value; doubling copies. */
static void fill(char *out, const void *value, size_t size, int64_t n) {
  size_t all = (size_t)n * size;
  memcpy(out, value, size);
  for (size_t have = size; have < all; have *= 2) memcpy(out + have, out, have < all - have ? have : all - have);
}

/* Combinations of single operands that have no loop: runs `self` on pieces, with those operands repeated. */
static void repeat_singles(mx_block self, size_t size, int arity, void *out, const void *const *in, unsigned single,
                           int64_t n) {
  double repeated[MX_MAX_OPERANDS][MX_ROW_BLOCK];
  int64_t block = n < MX_ROW_BLOCK ? n : MX_ROW_BLOCK;
  for (int k = 0; k < arity; k++)
    if (single >> k & 1) fill((char *)repeated[k], in[k], size, block);
  for (int64_t begin = 0; begin < n; begin += block) {
    const void *piece[MX_MAX_OPERANDS];
    for (int k = 0; k < arity; k++)
      piece[k] = single >> k & 1 ? (const void *)repeated[k] : (const char *)in[k] + (size_t)begin * size;
    self((char *)out + (size_t)begin * size, piece, 0, n - begin < block ? n - begin : block);
  }
}

/* ---- loops ---- */

#define K(c) ((T)(c))
#define CAT(a, b) CAT_(a, b)
#define CAT_(a, b) a##b
#define COUNT(...) COUNT_(__VA_ARGS__, 4, 3, 2, 1, 0)
#define COUNT_(a, b, c, d, n, ...) n
#define STRIP(...) __VA_ARGS__

#define EACH(k, name) T name = p##k[i]
#define ONCE(k, name) const T name = *p##k
#define LOOP(expr, ...)                                 \
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) { \
    __VA_ARGS__;                                        \
    out[i] = (T)(expr);                                 \
  }
#define HEAD(fn, type)                                                                      \
  MX_CLONES static void fn(void *out_, const void *const *in, unsigned single, int64_t n) { \
    typedef type T;                                                                         \
    T *out = out_;                                                                          \
    const T *p0 = in[0];
#define BLOCK_1(fn, type, expr, w)  \
  HEAD(fn, type)                    \
  if (single) {                     \
    ONCE(0, w);                     \
    LOOP(expr, (void)w)             \
  } else {                          \
    LOOP(expr, EACH(0, w); (void)w) \
  }                                 \
  }
#define BLOCK_2(fn, type, expr, w, x)                     \
  HEAD(fn, type)                                          \
  const T *p1 = in[1];                                    \
  if (single == 0) {                                      \
    LOOP(expr, EACH(0, w); EACH(1, x))                    \
  } else if (single == 2) {                               \
    ONCE(1, x);                                           \
    LOOP(expr, EACH(0, w))                                \
  } else if (single == 1) {                               \
    ONCE(0, w);                                           \
    LOOP(expr, EACH(1, x))                                \
  } else {                                                \
    repeat_singles(fn, sizeof(T), 2, out, in, single, n); \
  }                                                       \
  }
#define BLOCK_3(fn, type, expr, w, x, y)                  \
  HEAD(fn, type)                                          \
  const T *p1 = in[1], *p2 = in[2];                       \
  if (single == 0) {                                      \
    LOOP(expr, EACH(0, w); EACH(1, x); EACH(2, y))        \
  } else if (single == 4) {                               \
    ONCE(2, y);                                           \
    LOOP(expr, EACH(0, w); EACH(1, x))                    \
  } else if (single == 6) {                               \
    ONCE(1, x);                                           \
    ONCE(2, y);                                           \
    LOOP(expr, EACH(0, w))                                \
  } else {                                                \
    repeat_singles(fn, sizeof(T), 3, out, in, single, n); \
  }                                                       \
  }
#define BLOCK_4(fn, type, expr, w, x, y, z)                    \
  HEAD(fn, type)                                               \
  const T *p1 = in[1], *p2 = in[2], *p3 = in[3];               \
  if (single == 0) {                                           \
    LOOP(expr, EACH(0, w); EACH(1, x); EACH(2, y); EACH(3, z)) \
  } else {                                                     \
    repeat_singles(fn, sizeof(T), 4, out, in, single, n);      \
  }                                                            \
  }
#define BLOCK(fn, type, expr, ...) CAT(BLOCK_, COUNT(__VA_ARGS__))(fn, type, expr, __VA_ARGS__)

#define BLOCKS_REAL(name, expr, ...)            \
  BLOCK(name##_float, float, expr, __VA_ARGS__) \
  BLOCK(name##_double, double, expr, __VA_ARGS__)
#define BLOCKS_INT(name, expr, ...)    \
  BLOCKS_REAL(name, expr, __VA_ARGS__) \
  BLOCK(name##_int, int64_t, expr, __VA_ARGS__)

#define BLOCKS_OWN(name, expr, ...)               \
  BLOCK(name##_double, double, expr, __VA_ARGS__) \
  BLOCK(name##_int, int64_t, expr, __VA_ARGS__)

/* Remainders in float, by division in double: up to a quotient of 2^28 its whole part is right, and the product with it
 * and the difference are exact. What is beyond (and what is not finite) goes to the library, piece by piece, because a
 * call keeps a loop from becoming vector code. */
MX_CLONES static void mod_float(void *out_, const void *const *in, unsigned single, int64_t n) {
  enum { PIECE = 64 };
  float *out = out_, number[2][PIECE], rest[PIECE];
  for (int k = 0; k < 2; k++)
    for (int64_t i = 0; (single >> k & 1) && i < PIECE; i++) number[k][i] = *(const float *)in[k];
  for (int64_t begin = 0; begin < n; begin += PIECE) {
    const float *a = single & 1 ? number[0] : (const float *)in[0] + begin;
    const float *b = single & 2 ? number[1] : (const float *)in[1] + begin;
    int64_t m = n - begin < PIECE ? n - begin : PIECE;
    int beyond = 0;
    _Pragma("omp simd reduction(| : beyond)") for (int64_t i = 0; i < m; i++) {
      double x = a[i], y = b[i], q = trunc(x / y), exact = x - q * y;
      float r = exact == 0 ? a[i] * 0.0f : (float)exact; /* 0 has the sign of a */
      rest[i] = r != 0 && (r < 0) != (y < 0) ? r + b[i] : r;
      beyond |= !(fabs(q) < 0x1p28 && fabs(y) < INFINITY);
    }
    if (beyond)
      for (int64_t i = 0; i < m; i++) rest[i] = mxs_mod_float(a[i], b[i]);
    memcpy(out + begin, rest, (size_t)m * sizeof(float));
  }
}

/* Derivatives: MX_PARSE_ (scalar.h) splits USES((names), expression). */
#define DERIVE(...) DERIVE_(__VA_ARGS__)
#define DERIVE_(name, kind, names, ...) DERIVE_##kind(name, names, __VA_ARGS__)
#define DERIVE_ZERO(...)
#define DERIVE_PASS(...)
#define DERIVE_NEGATE(...)
#define DERIVE_USES(name, names, expr, text) BLOCKS_REAL(name, expr, STRIP names)

#define UNARY(name, ints, e, d, ...) BLOCKS_##ints(name, e, a) DERIVE(name##_da, MX_PARSE_##d)
#define UNARY_ROW UNARY
#define BINARY_ROW(name, ints, e, da, db, doc) \
  BLOCKS_##ints(name, e, a, b) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db)
#define BINARY(name, ints, order, ...) BINARY_ROW(name, ints, __VA_ARGS__)
#define TERNARY_ROW(name, ints, e, da, db, dc, doc)                                                 \
  BLOCKS_##ints(name, e, a, b, c) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db) \
      DERIVE(name##_dc, MX_PARSE_##dc)
#define QUATERNARY_ROW(name, ints, e, doc) BLOCKS_##ints(name, e, a, b, c, d)
#include "ops/scalar.def"

/* ---- the table ---- */

#undef DERIVE_USES
#define FUNCTIONS_REAL(name) \
  { name##_float, name##_double, NULL }
#define FUNCTIONS_INT(name) \
  { name##_float, name##_double, name##_int }
#define FUNCTIONS_OWN FUNCTIONS_INT
#define DERIVE_USES(name_, names, expr, text) \
  [MX_ROW_##name_] = {                        \
      .name = #name_, .arity = COUNT names, .block = FUNCTIONS_REAL(name_), .operands = #names, .expression = text},
#define HOW(...) HOW_(__VA_ARGS__)
#define HOW_(name, kind, ...) HOW_##kind(name)
#define HOW_ZERO(name) \
  { MX_D_ZERO, -1 }
#define HOW_PASS(name) \
  { MX_D_PASS, -1 }
#define HOW_NEGATE(name) \
  { MX_D_NEGATE, -1 }
#define HOW_USES(name) \
  { MX_D_ROW, MX_ROW_##name }
#define COMMUTES true
#define ORDERED false
#define ENTRY(name_, ints, n, order, names, text, ...)  \
  [MX_ROW_##name_] = {.name = #name_,                   \
                      .arity = n,                       \
                      .commutes = order,                \
                      .block = FUNCTIONS_##ints(name_), \
                      .operands = names,                \
                      .expression = text,               \
                      .derivative = {__VA_ARGS__}},

const mx_row mx_rows[MX_ROW_COUNT] = {
#define UNARY(name, ints, e, d, ...)                                     \
  ENTRY(name, ints, 1, ORDERED, "(a)", #e, HOW(name##_da, MX_PARSE_##d)) \
  DERIVE(name##_da, MX_PARSE_##d)
#define UNARY_ROW UNARY
#define BINARY(name, ints, order, e, da, db, doc)                                                         \
  ENTRY(name, ints, 2, order, "(a, b)", #e, HOW(name##_da, MX_PARSE_##da), HOW(name##_db, MX_PARSE_##db)) \
  DERIVE(name##_da, MX_PARSE_##da)                                                                        \
  DERIVE(name##_db, MX_PARSE_##db)
#define BINARY_ROW(name, ints, e, da, db, doc)                                                              \
  ENTRY(name, ints, 2, ORDERED, "(a, b)", #e, HOW(name##_da, MX_PARSE_##da), HOW(name##_db, MX_PARSE_##db)) \
  DERIVE(name##_da, MX_PARSE_##da)                                                                          \
  DERIVE(name##_db, MX_PARSE_##db)
#define TERNARY_ROW(name, ints, e, da, db, dc, doc)                                                            \
  ENTRY(name, ints, 3, ORDERED, "(a, b, c)", #e, HOW(name##_da, MX_PARSE_##da), HOW(name##_db, MX_PARSE_##db), \
        HOW(name##_dc, MX_PARSE_##dc))                                                                         \
  DERIVE(name##_da, MX_PARSE_##da)                                                                             \
  DERIVE(name##_db, MX_PARSE_##db)                                                                             \
  DERIVE(name##_dc, MX_PARSE_##dc)
#define QUATERNARY_ROW(name, ints, e, doc) ENTRY(name, ints, 4, ORDERED, "(a, b, c, d)", #e)
#include "ops/scalar.def"
};
