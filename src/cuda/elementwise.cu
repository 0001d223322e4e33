/* The CUDA kernel of every elementwise operator: the rows of ops/scalar.def, compiled for the GPU.
 *
 * A row becomes a type with an `eval`; one kernel template applies it. Operands that are broadcast get their index from
 * strides; when none is, the index is that of the output. Types other than the row's own are converted on the way. */
#include <cuda_fp16.h>

#include "cuda/device.h"
#include "cuda/kernels.h"
#include "ops/scalar.h"
#include "ops/scalar_math.h"

typedef struct operand {
  mx_operand at;
  bool flat; /* has the index of the output */
} operand;

typedef struct arguments {
  operand in[MX_MAX_OPERANDS];
  int ndim;
  int64_t dim[MX_MAX_NDIM];
  int64_t n;
  void *out;
  int dtype;
  bool add;
} arguments;

template <typename T>
static __device__ __forceinline__ T load(const void *p, int dtype, int64_t i) {
  switch (dtype) {
    case MX_FLOAT32: return (T)((const float *)p)[i];
    case MX_FLOAT64: return (T)((const double *)p)[i];
    case MX_FLOAT16: return (T)__half2float(((const __half *)p)[i]);
    case MX_INT32: return (T)((const int32_t *)p)[i];
    case MX_INT64: return (T)((const int64_t *)p)[i];
    case MX_INT8: return (T)((const int8_t *)p)[i];
    default: return (T)((const uint8_t *)p)[i];
  }
}

template <typename T>
static __device__ __forceinline__ void store(void *p, int dtype, int64_t i, T x) {
  switch (dtype) {
    case MX_FLOAT32: ((float *)p)[i] = (float)x; break;
    case MX_FLOAT64: ((double *)p)[i] = (double)x; break;
    case MX_FLOAT16: ((__half *)p)[i] = __float2half((float)x); break;
    case MX_INT32: ((int32_t *)p)[i] = (int32_t)(int64_t)x; break;
    case MX_INT64: ((int64_t *)p)[i] = (int64_t)x; break;
    case MX_INT8: ((int8_t *)p)[i] = (int8_t)(int64_t)x; break;
    case MX_BOOL: ((uint8_t *)p)[i] = x != 0; break;
    default: ((uint8_t *)p)[i] = (uint8_t)(int64_t)x;
  }
}

static __device__ __forceinline__ int64_t place(const arguments &a, const operand &o, int64_t i) {
  if (o.flat) return i;
  int64_t at = 0;
  for (int d = a.ndim - 1; d >= 0; d--) {
    at += i % a.dim[d] * o.at.stride[d];
    i /= a.dim[d];
  }
  return at;
}

template <typename Row, typename T>
static __global__ void apply(arguments a) {
  MX_CUDA_LOOP(i, a.n) {
    T x[MX_MAX_OPERANDS];
    for (int k = 0; k < Row::arity; k++) {
      const operand &o = a.in[k];
      x[k] = o.at.data ? load<T>(o.at.data, o.at.dtype, place(a, o, i)) : (T)o.at.value;
      if (o.at.truth) x[k] = x[k] != (T)0;
    }
    T r = Row::eval(x);
    store<T>(a.out, a.dtype, i, a.add ? (T)(load<T>(a.out, a.dtype, i) + r) : r);
  }
}

/* ---- rows as types ---- */

#define K(c) ((T)(c))
#define CAT(a, b) CAT_(a, b)
#define CAT_(a, b) a##b
#define COUNT(...) COUNT_(__VA_ARGS__, 4, 3, 2, 1, 0)
#define COUNT_(a, b, c, d, n, ...) n
#define STRIP(...) __VA_ARGS__
#define NAMES_1(w) T w = x_[0]; (void)w
#define NAMES_2(w, x) NAMES_1(w); T x = x_[1]; (void)x
#define NAMES_3(w, x, y) NAMES_2(w, x); T y = x_[2]; (void)y
#define NAMES_4(w, x, y, z) NAMES_3(w, x, y); T z = x_[3]; (void)z
#define ROW(name, expr, ...)                      \
  template <typename T>                           \
  struct row_##name {                             \
    static const int arity = COUNT(__VA_ARGS__);  \
    static __device__ T eval(const T *x_) {       \
      CAT(NAMES_, COUNT(__VA_ARGS__))(__VA_ARGS__); \
      return (T)(expr);                           \
    }                                             \
  };
#define DERIVE(...) DERIVE_(__VA_ARGS__)
#define DERIVE_(name, kind, names, ...) DERIVE_##kind(name, names, __VA_ARGS__)
#define DERIVE_ZERO(...)
#define DERIVE_PASS(...)
#define DERIVE_NEGATE(...)
#define DERIVE_USES(name, names, expr, text) ROW(name, expr, STRIP names)

#define UNARY(name, ints, e, d, ...) ROW(name, e, a) DERIVE(name##_da, MX_PARSE_##d)
#define UNARY_ROW UNARY
#define BINARY_ROW(name, ints, e, da, db, doc) \
  ROW(name, e, a, b) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db)
#define BINARY(name, ints, order, ...) BINARY_ROW(name, ints, __VA_ARGS__)
#define TERNARY_ROW(name, ints, e, da, db, dc, doc)                                          \
  ROW(name, e, a, b, c) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db) \
      DERIVE(name##_dc, MX_PARSE_##dc)
#define QUATERNARY_ROW(name, ints, e, doc) ROW(name, e, a, b, c, d)
#include "ops/scalar.def"

/* ---- the table ---- */

typedef void (*launcher)(const arguments &a, cudaStream_t stream);

template <typename Row, typename T>
static void launch(const arguments &a, cudaStream_t stream) {
  apply<Row, T><<<mx_cuda_blocks(a.n), MX_CUDA_THREADS, 0, stream>>>(a);
}

#define LAUNCH_REAL(name) {launch<row_##name<float>, float>, launch<row_##name<double>, double>, nullptr},
#define LAUNCH_INT(name) \
  {launch<row_##name<float>, float>, launch<row_##name<double>, double>, launch<row_##name<int64_t>, int64_t>},
#define LAUNCH_OWN LAUNCH_INT
#undef DERIVE_USES
#define DERIVE_USES(name, names, expr, text) LAUNCH_REAL(name)

static const launcher table[MX_ROW_COUNT][MX_KINDS] = {
#define UNARY(name, ints, e, d, ...) LAUNCH_##ints(name) DERIVE(name##_da, MX_PARSE_##d)
#define UNARY_ROW UNARY
#define BINARY_ROW(name, ints, e, da, db, doc) \
  LAUNCH_##ints(name) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db)
#define BINARY(name, ints, order, ...) BINARY_ROW(name, ints, __VA_ARGS__)
#define TERNARY_ROW(name, ints, e, da, db, dc, doc)                                       \
  LAUNCH_##ints(name) DERIVE(name##_da, MX_PARSE_##da) DERIVE(name##_db, MX_PARSE_##db) \
      DERIVE(name##_dc, MX_PARSE_##dc)
#define QUATERNARY_ROW(name, ints, e, doc) LAUNCH_##ints(name)
#include "ops/scalar.def"
};

/* ---- the kernel ---- */

extern "C" mx_status mx_cuda_elementwise(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_elementwise *e = c->op->elementwise(c->params);
  if (!e) return mx_fail(err, MX_ERR_DEVICE, "This form of the operator has no kernel on gpu(%d).", c->device->id);
  const mx_row *row = &mx_rows[e->row];
  const mx_tensor *out = &c->out[0];
  arguments a = {};
  a.ndim = out->shape.ndim;
  a.n = mx_shape_size(&out->shape);
  for (int d = 0; d < a.ndim; d++) a.dim[d] = out->shape.dim[d];
  a.out = out->data;
  a.dtype = out->dtype;
  a.add = c->req[0] == MX_ADD;
  if (a.n == 0) return MX_OK;
  mx_operand given[MX_MAX_OPERANDS];
  mx_elementwise_operands(c, e, given);
  for (int k = 0, next = 0; k < row->arity; k++) {
    a.in[k].at = given[k];
    a.in[k].flat = given[k].data && mx_shape_equal(&c->in[next++].shape, &out->shape);
  }
  MX_TRY(mx_cuda_check(cudaSetDevice(c->device->id), "choosing the device", err));
  table[e->row][mx_row_kind(row, out->dtype)](a, mx_cuda_stream(c->device));
  return mx_cuda_launched(c->op->name, err);
}
