/* Element types. The numbers are those that parameter files and saved graphs use. */
#ifndef MX_CORE_DTYPE_H
#define MX_CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mx_dtype {
  MX_DTYPE_UNKNOWN = -1,
  MX_FLOAT32 = 0,
  MX_FLOAT64 = 1,
  MX_FLOAT16 = 2,
  MX_UINT8 = 3,
  MX_INT32 = 4,
  MX_INT8 = 5,
  MX_INT64 = 6,
  MX_BOOL = 7,
  MX_DTYPE_COUNT
} mx_dtype;

/* IEEE half precision. In C it is an arithmetic type; CUDA sources see the bits and use __half. */
#if defined(__cplusplus)
typedef struct mx_half {
  uint16_t bits;
} mx_half;
#else
typedef _Float16 mx_half;
#endif

static inline size_t mx_dtype_size(mx_dtype t) {
  static const uint8_t size[MX_DTYPE_COUNT] = {4, 8, 2, 1, 4, 1, 8, 1};
  return t >= 0 && t < MX_DTYPE_COUNT ? size[t] : 0;
}
static inline bool mx_dtype_is_float(mx_dtype t) { return t == MX_FLOAT32 || t == MX_FLOAT64 || t == MX_FLOAT16; }

/* "float32", ...; "unknown" for anything else. */
const char *mx_dtype_name(mx_dtype t);
/* MX_DTYPE_UNKNOWN when the text names no type. */
mx_dtype mx_dtype_parse(const char *name);

/* Runs a block with T defined as the C type of `dt`; the rest of the types run `otherwise`.
 * Float kernels compute in mx_acc: float for half and float, double for double. */
#define MX_CASE_(tag, type, ...) \
  case tag: {                    \
    typedef type T;              \
    __VA_ARGS__                  \
  } break;
#define MX_SWITCH_FLOAT(dt, otherwise, ...)    \
  switch (dt) {                                \
    MX_CASE_(MX_FLOAT32, float, __VA_ARGS__)   \
    MX_CASE_(MX_FLOAT64, double, __VA_ARGS__)  \
    MX_CASE_(MX_FLOAT16, mx_half, __VA_ARGS__) \
    default: {                                 \
      otherwise;                               \
    }                                          \
  }
#define MX_SWITCH_ALL(dt, otherwise, ...)      \
  switch (dt) {                                \
    MX_CASE_(MX_FLOAT32, float, __VA_ARGS__)   \
    MX_CASE_(MX_FLOAT64, double, __VA_ARGS__)  \
    MX_CASE_(MX_FLOAT16, mx_half, __VA_ARGS__) \
    MX_CASE_(MX_UINT8, uint8_t, __VA_ARGS__)   \
    MX_CASE_(MX_INT32, int32_t, __VA_ARGS__)   \
    MX_CASE_(MX_INT8, int8_t, __VA_ARGS__)     \
    MX_CASE_(MX_INT64, int64_t, __VA_ARGS__)   \
    MX_CASE_(MX_BOOL, uint8_t, __VA_ARGS__)    \
    default: {                                 \
      otherwise;                               \
    }                                          \
  }
/* By element size only, for kernels that move bytes: U is an unsigned integer of that size. */
#define MX_SWITCH_SIZE(dt, U_, ...) \
  switch (mx_dtype_size(dt)) {      \
    case 1: {                       \
      typedef uint8_t U_;           \
      __VA_ARGS__                   \
    } break;                        \
    case 2: {                       \
      typedef uint16_t U_;          \
      __VA_ARGS__                   \
    } break;                        \
    case 4: {                       \
      typedef uint32_t U_;          \
      __VA_ARGS__                   \
    } break;                        \
    default: {                      \
      typedef uint64_t U_;          \
      __VA_ARGS__                   \
    } break;                        \
  }

#ifdef __cplusplus
}
#endif
#endif
