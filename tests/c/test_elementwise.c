/* Elementwise operators: every row against its derivative, in place, added to, empty, with many dimensions, with one
 * thread and several; and what users may get wrong. */
#include "call.h"
#include "core/memory.h"
#include "ops/scalar.h"

/* ---- gradients ---- */

typedef struct domain {
  const char *op;
  double low, high;
} domain;

/* Where numbers are drawn from: (0.2, 0.9) unless the function wants something else. */
static const domain domains[] = {{"arccosh", 1.2, 3},   {"erf", -2, 2},     {"exp", -2, 2},     {"expm1", -2, 2},
                                 {"gamma", -3.8, -3.2}, {"tanh", -2, 2},    {"sigmoid", -3, 3}, {"silu", -3, 3},
                                 {"gelu_tanh", -3, 3},  {"softsign", 1, 3}, {"cbrt", -2, -1},   {"sinh", -2, 2},
                                 {"cosh", -2, 2},       {"square", -2, 2},  {"sin", -3, 3},     {"cos", -3, 3},
                                 {"negative", -2, 2},   {"_copy", -2, 2},   {"rcbrt", 0.5, 3},  {"gammaln", 0.3, 6}};

static mx_array *drawn(const char *op, mx_shape shape, uint64_t seed) {
  for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++)
    if (!strcmp(domains[i].op, op)) return call_random(MX_FLOAT64, shape, domains[i].low, domains[i].high, seed);
  return call_random(MX_FLOAT64, shape, 0.2, 0.9, seed);
}

static bool is_family(const mx_op *op, const char *family) { return op->family && !strcmp(op->family, family); }

TEST(every_derivative) {
  for (int k = 0; k < mx_op_count(); k++) {
    const mx_op *op = mx_op_at(k);
    if (!op->elementwise || !op->gradient || op->flags & MX_OP_HIDDEN) continue;
    static const char *const number[] = {"scalar", "1.7", NULL}, *const limits[] = {"a_min", "0.4", "a_max", "0.6",
                                                                                    NULL};
    const char *const *attrs = is_family(op, "Scalar") ? number : !strcmp(op->name, "clip") ? limits : NULL;
    if (!strcmp(op->name, "Activation") || !strcmp(op->name, "LeakyReLU") || !strcmp(op->name, "where")) continue;
    if (is_family(op, "Shape manipulation")) continue;
    mx_array *in[2] = {drawn(op->name, mx_shape_of(2, 3, 2), 5), NULL};
    if (op->n_in == 2) in[1] = drawn(op->name, mx_shape_of(2, 3, 2), 6);
    call_check_gradient(op->name, attrs, in, op->n_in, op->n_in == 2 ? 3 : 1, 0, 1e-6, 1e-7);
    if (is_family(op, "Broadcasting binary")) {
      mx_array *some[2] = {drawn(op->name, mx_shape_of(2, 1, 4), 7), drawn(op->name, mx_shape_of(3, 1), 8)};
      call_check_gradient(op->name, attrs, some, 2, 3, 0, 1e-6, 1e-7);
      call_release(some, 2);
    }
    call_release(in, 2);
  }
}

TEST(derivatives_with_choices) {
  static const char *const activations[] = {"relu", "sigmoid", "softrelu", "softsign", "tanh"};
  static const char *const leaky[] = {"elu", "gelu", "leaky"}; /* selu's is not the true one, see scalar.def */
  mx_array *x[2] = {call_random(MX_FLOAT64, mx_shape_of(3, 2, 4), -3, 3, 1),
                    call_random(MX_FLOAT64, mx_shape_of(2), 0.1, 0.4, 2)};
  for (int i = 0; i < 5; i++)
    call_check_gradient("Activation", ATTRS("act_type", activations[i]), x, 1, 1, 0, 1e-6, 1e-7);
  for (int i = 0; i < 3; i++) call_check_gradient("LeakyReLU", ATTRS("act_type", leaky[i]), x, 1, 1, 0, 1e-6, 1e-7);
  call_check_gradient("LeakyReLU", ATTRS("act_type", "prelu"), x, 2, 3, 0, 1e-6, 1e-7);
  mx_array *one[2] = {x[0], call_random(MX_FLOAT64, mx_shape_of(1), 0.1, 0.4, 2)};
  call_check_gradient("LeakyReLU", ATTRS("act_type", "prelu"), one, 2, 3, 0, 1e-6, 1e-7);
  mx_array_release(one[1]);
  call_check_gradient("smooth_l1", ATTRS("scalar", "0.7"), x, 1, 1, 0, 1e-6, 1e-7);
  call_check_gradient("hard_sigmoid", NULL, x, 1, 1, 0, 1e-6, 1e-7);
  call_check_gradient(
      "broadcast_axis", ATTRS("axis", "(0, -1)", "size", "(4, 5)"),
      (mx_array *[]){x[1] = (mx_array_release(x[1]), call_random(MX_FLOAT64, mx_shape_of(1, 2, 1), 0, 1, 3))}, 1, 1, 0,
      1e-6, 1e-7);
  call_check_gradient("broadcast_to", ATTRS("shape", "(3, 0, 2)"), &x[1], 1, 1, 0, 1e-6, 1e-7);
  call_check_gradient("broadcast_to", ATTRS("shape", "(2, 3, 0, 2)"), &x[1], 1, 1, 0, 1e-6, 1e-7);
  call_release(x, 2);
  mx_array *w[3] = {call_array(MX_INT32, mx_shape_of(3), (double[]){0, 2, -1}),
                    call_random(MX_FLOAT64, mx_shape_of(3, 4), 0, 1, 4),
                    call_random(MX_FLOAT64, mx_shape_of(3, 4), 0, 1, 5)};
  call_check_gradient("where", NULL, w, 3, 6, 0, 1e-6, 1e-7);
  call_release(w, 3);
  mx_array *sum[3] = {call_random(MX_FLOAT64, mx_shape_of(5), 0, 1, 1),
                      call_random(MX_FLOAT64, mx_shape_of(5), 0, 1, 2),
                      call_random(MX_FLOAT64, mx_shape_of(5), 0, 1, 3)};
  call_check_gradient("add_n", ATTRS("num_args", "3"), sum, 3, 7, 0, 1e-6, 1e-7);
  call_release(sum, 3);
}

/* d log |gamma| and d erfinv against sums that converge. */
TEST(digamma_and_erfinv) {
  static const double at[] = {0.5, 1, 1.4616321449683623, 2, 7.3, 25, -0.5, -2.3};
  static const double digamma[] = {-1.9635100260214235, -0.5772156649015329, 0,
                                   0.42278433509846714, 1.9178203356379862,  3.198742512851974,
                                   0.03648997397857652, 3.3173231575618227};
  mx_array *x = call_array(MX_FLOAT64, mx_shape_of(8), at), *one = call_array(MX_FLOAT64, mx_shape_of(8), NULL),
           *y = NULL;
  mx_convert((double[]){1, 1, 1, 1, 1, 1, 1, 1}, MX_FLOAT64, mx_array_data(one), MX_FLOAT64, 8);
  REQUIRE_OK(call_op("_backward_gammaln", NULL, (mx_array *[]){one, x}, 2, &y, 1), call_error);
  for (int i = 0; i < 8; i++) CHECK_NEAR(call_value(y, i), digamma[i], 1e-13 * (1 + fabs(digamma[i])));
  call_release((mx_array *[]){x, one, y}, 3);
  double p[400];
  for (int i = 0; i < 400; i++)
    p[i] = i < 200 ? (i - 100) / 100.5 : (i & 1 ? -1 : 1) * (1 - pow(2, -(i - 200) / 4.0 - 1));
  x = call_array(MX_FLOAT64, mx_shape_of(400), p), y = NULL;
  REQUIRE_OK(call_op("erfinv", NULL, &x, 1, &y, 1), call_error);
  for (int i = 0; i < 400; i++) {
    double want = 1 - fabs(p[i]), got = erfc(fabs(call_value(y, i)));
    CHECK_NEAR(got, want, 1e-13 * want + 2e-16);
  }
  call_release((mx_array *[]){x, y}, 2);
}

/* ---- kernels as plans call them ---- */

enum { GUARD = 64 };

/* Bytes between guards that have to stay. */
typedef struct guarded {
  unsigned char *block, *data;
  size_t bytes;
} guarded;

static guarded guarded_new(size_t bytes) {
  guarded g = {.block = malloc(bytes + 2 * GUARD), .bytes = bytes};
  memset(g.block, 0xA5, bytes + 2 * GUARD);
  g.data = g.block + GUARD;
  return g;
}
static void guarded_free(guarded *g, const char *what) {
  for (size_t i = 0; i < GUARD; i++)
    if (g->block[i] != 0xA5 || g->data[g->bytes + i] != 0xA5) {
      check_report(__FILE__, __LINE__, "%s wrote outside its output", what);
      break;
    }
  free(g->block);
}

/* Runs the kernel on in[] with output memory and request of our choice. */
static void run_kernel(const mx_op *op, const void *params, mx_array **in, int n_in, void *out, mx_shape shape,
                       mx_dtype dtype, mx_req req) {
  mx_tensor tensor[5];
  for (int i = 0; i < n_in; i++)
    tensor[i] = (mx_tensor){.data = mx_array_data(in[i]), .shape = in[i]->shape, .dtype = in[i]->dtype};
  tensor[n_in] = (mx_tensor){.data = out, .shape = shape, .dtype = dtype};
  mx_call c = {.op = op,
               .params = params,
               .device = call_device,
               .n_in = n_in,
               .n_out = 1,
               .in = tensor,
               .out = tensor + n_in,
               .req = &req};
  CHECK_OK(op->kernel(&c, &call_error), call_error);
}

/* Written, added, and written over each input that the record allows: the same numbers, and nothing outside. */
static void check_requests(const mx_op *op, mx_dtype dtype) {
  int n_in = op->n_in;
  mx_array *in[4];
  mx_shape shape = mx_shape_of(7, 100, 3);
  int64_t n = mx_shape_size(&shape);
  for (int i = 0; i < n_in; i++) in[i] = call_random(dtype, shape, 1.2, 6, (uint64_t)i + 1);
  mx_dict attrs = MX_DICT_EMPTY;
  if (!strcmp(op->name, "clip") || !strcmp(op->name, "_backward_clip")) {
    CHECK_OK(mx_dict_set(&attrs, "a_min", "2", &call_error), call_error);
    CHECK_OK(mx_dict_set(&attrs, "a_max", "4", &call_error), call_error);
  }
  void *params = NULL;
  if (mx_op_params_new(op, &attrs, &params, &call_error) != MX_OK) goto done; /* a choice without default */
  size_t bytes = (size_t)n * mx_dtype_size(dtype);
  guarded plain = guarded_new(bytes), sum = guarded_new(bytes);
  run_kernel(op, params, in, n_in, plain.data, shape, dtype, MX_NULL);
  for (size_t i = 0; i < bytes; i++) {
    if (plain.data[i] == 0xA5) continue;
    check_report(__FILE__, __LINE__, "%s writes what nobody asked for", op->name);
    break;
  }
  run_kernel(op, params, in, n_in, plain.data, shape, dtype, MX_WRITE);
  double *value = malloc((size_t)n * sizeof(double)), *got = malloc((size_t)n * sizeof(double));
  mx_convert(plain.data, dtype, value, MX_FLOAT64, n);
  CHECK(op->flags & MX_OP_ADDS);
  for (int64_t i = 0; i < n; i++) got[i] = 3;
  mx_convert(got, MX_FLOAT64, sum.data, dtype, n);
  run_kernel(op, params, in, n_in, sum.data, shape, dtype, MX_ADD);
  mx_convert(sum.data, dtype, got, MX_FLOAT64, n);
  for (int64_t i = 0; i < n; i++) {
    double want = value[i] + 3, rough = dtype == MX_FLOAT16 ? 2e-3 : 1e-6;
    if (dtype == MX_UINT8) want = (uint8_t)(int)want; /* wraps */
    if (got[i] == want || !(fabs(want) < 1e9) || fabs(got[i] - want) <= rough * (fabs(value[i]) + 3)) continue;
    check_report(__FILE__, __LINE__, "%s (%s) added %g to 3 and has %g", op->name, mx_dtype_name(dtype), value[i],
                 got[i]);
    break;
  }
  for (const mx_alias *a = op->aliases_mem; a && a->out >= 0; a++) {
    mx_array *keep = in[a->in], *shared = NULL;
    REQUIRE_OK(mx_array_new(call_device, &shape, dtype, &shared, &call_error), call_error);
    memcpy(mx_array_data(shared), mx_array_data(keep), bytes);
    in[a->in] = shared;
    run_kernel(op, params, in, n_in, mx_array_data(shared), shape, dtype, MX_WRITE);
    if (memcmp(mx_array_data(shared), plain.data, bytes))
      check_report(__FILE__, __LINE__, "%s (%s) differs when it overwrites input %d", op->name, mx_dtype_name(dtype),
                   a->in);
    in[a->in] = keep;
    mx_array_release(shared);
  }
  free(value);
  free(got);
  guarded_free(&plain, op->name);
  guarded_free(&sum, op->name);
  mx_op_params_free(op, params);
done:
  mx_dict_free(&attrs);
  call_release(in, n_in);
}

TEST(requests_and_memory) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16, MX_INT32, MX_UINT8, MX_INT64};
  for (int k = 0; k < mx_op_count(); k++) {
    const mx_op *op = mx_op_at(k);
    if (!op->elementwise || op->n_in > 4 || is_family(op, "Shape manipulation") || !strcmp(op->name, "LeakyReLU"))
      continue;
    if (!strcmp(op->name, "_backward_prelu_data")) continue; /* wants a vector; its gradient is tested above */
    bool real = op->flags & MX_OP_HIDDEN;
    for (int t = 0; t < (real ? 3 : 6); t++) check_requests(op, types[t]);
  }
}

/* The record's rule for the shape of `op` applied to in[] of odd shapes, with 1 and with 4 threads. */
static void check_threads(const char *op, const char *const *attrs, mx_array **in, int n_in) {
  mx_array *one = NULL, *many = NULL;
  mx_threads_set(1);
  CHECK_OK(call_op(op, attrs, in, n_in, &one, 1), call_error);
  mx_threads_set(4);
  CHECK_OK(call_op(op, attrs, in, n_in, &many, 1), call_error);
  mx_threads_set(0);
  if (one && many && memcmp(mx_array_data(one), mx_array_data(many), mx_array_bytes(one)))
    check_report(__FILE__, __LINE__, "%s depends on the number of threads", op);
  mx_array_release(one);
  mx_array_release(many);
}

TEST(any_number_of_threads) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  static const char *const unary[] = {"exp", "tanh", "log", "erf", "sigmoid", "sqrt", "gelu_tanh"};
  for (int t = 0; t < 3; t++) {
    mx_array *x = call_random(types[t], mx_shape_of(37, 41, 53), 0.1, 2, 1);
    mx_array *small[] = {call_random(types[t], mx_shape_of(53), 0.1, 2, 2),
                         call_random(types[t], mx_shape_of(41, 1), 0.1, 2, 3),
                         call_random(types[t], mx_shape_of(37, 1, 53), 0.1, 2, 4),
                         call_random(types[t], mx_shape_of(37, 1, 1), 0.1, 2, 5)};
    for (int k = 0; k < 7; k++) check_threads(unary[k], NULL, &x, 1);
    for (int k = 0; k < 4; k++) {
      check_threads("broadcast_div", NULL, (mx_array *[]){x, small[k]}, 2);
      check_threads("broadcast_power", NULL, (mx_array *[]){small[k], x}, 2);
    }
    check_threads("clip", ATTRS("a_min", "0.5", "a_max", "1"), &x, 1);
    call_release(small, 4);
    mx_array_release(x);
  }
}

/* ---- numbers ---- */

TEST(integers) {
  mx_array *a = call_array(MX_INT32, mx_shape_of(6), (double[]){7, -7, 7, -7, 0, -2147483648.0});
  mx_array *b = call_array(MX_INT32, mx_shape_of(6), (double[]){2, 2, 0, -1, 5, -1}), *y = NULL;
  REQUIRE_OK(call_op("elemwise_div", NULL, (mx_array *[]){a, b}, 2, &y, 1), call_error);
  static const double quotient[] = {3, -3, 0, 7, 0, -2147483648.0}; /* wraps */
  for (int i = 0; i < 6; i++) CHECK_NEAR(call_value(y, i), quotient[i], 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("_mod", NULL, (mx_array *[]){a, b}, 2, &y, 1), call_error);
  static const double rest[] = {1, 1, 0, 0, 0, 0};
  for (int i = 0; i < 6; i++) CHECK_NEAR(call_value(y, i), rest[i], 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("_mul_scalar", ATTRS("scalar", "2.5"), &a, 1, &y, 1), call_error);
  CHECK_INT(y->dtype, MX_INT32);
  CHECK_NEAR(call_value(y, 0), 14, 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("_mul_scalar", ATTRS("scalar", "2.5", "is_int", "False"), &a, 1, &y, 1), call_error);
  CHECK_INT(y->dtype, MX_FLOAT64);
  CHECK_NEAR(call_value(y, 0), 17.5, 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("exp", NULL, &a, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), 1096, 0);
  call_release((mx_array *[]){a, b, y}, 3);
  a = call_array(MX_UINT8, mx_shape_of(3), (double[]){200, 3, 0}), y = NULL;
  REQUIRE_OK(call_op("_plus_scalar", ATTRS("scalar", "100"), &a, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 0), 44, 0);
  call_release(&y, 1);
  REQUIRE_OK(call_op("_rminus_scalar", ATTRS("scalar", "1"), &a, 1, &y, 1), call_error);
  CHECK_NEAR(call_value(y, 1), 254, 0);
  call_release((mx_array *[]){a, y}, 2);
  a = call_array(MX_INT64, mx_shape_of(2), (double[]){0x1p53, -0x1p62}), y = NULL;
  ((int64_t *)mx_array_data(a))[0] += 1; /* no double holds it */
  REQUIRE_OK(call_op("_plus_scalar", ATTRS("scalar", "1"), &a, 1, &y, 1), call_error);
  CHECK(((int64_t *)mx_array_data(y))[0] == ((int64_t)1 << 53) + 2);
  call_release((mx_array *[]){a, y}, 2);
}

TEST(half_precision) {
  mx_array *a = call_array(MX_FLOAT16, mx_shape_of(5), (double[]){60000, 6e-8, 0.1, -2, INFINITY}), *y = NULL;
  REQUIRE_OK(call_op("elemwise_add", NULL, (mx_array *[]){a, a}, 2, &y, 1), call_error);
  CHECK(isinf(call_value(y, 0)) && isinf(call_value(y, 4)));
  CHECK_NEAR(call_value(y, 1), 0x1p-23, 0); /* subnormal */
  CHECK_NEAR(call_value(y, 2), 2 * call_value(a, 2), 0);
  call_release((mx_array *[]){a, y}, 2);
}

TEST(special_numbers_of_powers) {
  static const double v[] = {0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, -2.5, INFINITY, -INFINITY, NAN, 1e-40, 3e38};
  enum { N = sizeof(v) / sizeof(v[0]) };
  mx_array *a = call_array(MX_FLOAT32, mx_shape_of(N, 1), v), *b = call_array(MX_FLOAT32, mx_shape_of(N), v), *y = NULL;
  REQUIRE_OK(call_op("broadcast_power", NULL, (mx_array *[]){a, b}, 2, &y, 1), call_error);
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) {
      float x = (float)v[i], e = (float)v[j], want = (float)pow(x, e), got = (float)call_value(y, i * N + j);
      bool same = isnan(want)                ? isnan(got)
                  : isinf(want) || want == 0 ? got == want && !signbit(got) == !signbit(want)
                                             : fabsf(got - want) <= 2e-7f * fabsf(want) + 2e-45f;
      if (!same)
        check_report(__FILE__, __LINE__, "%g^%g is %g, expected %g", (double)x, (double)e, (double)got, (double)want);
    }
  call_release((mx_array *[]){a, b, y}, 3);
}

/* Exponents that are multiplications: every special number, results within the last places, and the gradients. */
TEST(powers_by_multiplication) {
  static const char *const exponents[] = {"2", "3", "4", "-1"};
  static const double v[] = {0, -0.0, 1, -1.5, 3, -7, INFINITY, -INFINITY, NAN, 1e-20, -1e-20, 1e13, -1e13};
  enum { N = sizeof(v) / sizeof(v[0]) };
  mx_array *a = call_array(MX_FLOAT32, mx_shape_of(N), v), *y = NULL;
  mx_array *x = call_random(MX_FLOAT64, mx_shape_of(3, 4), -2, -0.5, 1);
  for (int k = 0; k < 4; k++) {
    REQUIRE_OK(call_op("_power_scalar", ATTRS("scalar", exponents[k]), &a, 1, &y, 1), call_error);
    for (int i = 0; i < N; i++) {
      float want = (float)pow((float)v[i], atof(exponents[k])), got = (float)call_value(y, i);
      bool same = isnan(want)                ? isnan(got)
                  : isinf(want) || want == 0 ? got == want && !signbit(got) == !signbit(want)
                                             : fabsf(got - want) <= 4e-7f * fabsf(want) + 3e-45f;
      if (!same)
        check_report(__FILE__, __LINE__, "%g^%s is %g, expected %g", v[i], exponents[k], (double)got, (double)want);
    }
    call_release(&y, 1);
    call_check_gradient("_power_scalar", ATTRS("scalar", exponents[k]), &x, 1, 1, 0, 1e-6, 1e-7);
  }
  call_release((mx_array *[]){a, x}, 2);
}

/* Exact everywhere: quotients from far below 1 to far beyond 2^28, zeros, infinities, NaN, either sign; each operand a
 * number, and the result in place of an operand. */
TEST(remainders) {
  enum { N = 3001 };
  static const double v[] = {0,    -0.0,  1,     -1,     3,        -3,        0.1, -0.1,     7e9,    -7e9,
                             3e38, -3e38, 1e-45, -1e-40, INFINITY, -INFINITY, NAN, 16777215, 0x1p28, 0x1.fffffep27};
  enum { V = sizeof(v) / sizeof(v[0]) };
  double *l = malloc(N * sizeof(double)), *r = malloc(N * sizeof(double));
  for (int i = 0; i < N; i++) {
    l[i] = i < V * V ? v[i / V] : ((i * 7919) % 4001 - 2000) * pow(2, i % 61 - 30);
    r[i] = i < V * V ? v[i % V] : ((i * 104729) % 997 - 498.5) * pow(2, i % 7);
  }
  mx_array *in[2] = {call_array(MX_FLOAT32, mx_shape_of(N), l), call_array(MX_FLOAT32, mx_shape_of(N), r)}, *y = NULL;
  REQUIRE_OK(call_op("_mod", NULL, in, 2, &y, 1), call_error);
  for (int i = 0; i < N; i++) {
    float a = (float)l[i], b = (float)r[i], want = fmodf(a, b), got = (float)call_value(y, i);
    if (want != 0 && (want < 0) != (b < 0)) want += b;
    if (b == 0) want = 0;
    if (isnan(want) ? !isnan(got) : got != want || !signbit(got) != !signbit(want))
      check_report(__FILE__, __LINE__, "%g mod %g is %g, expected %g", (double)a, (double)b, (double)got, (double)want);
  }
  call_release(&y, 1);
  for (int k = 0; k < 2; k++) {
    mx_array *one = NULL, *both = NULL, *number = call_array(MX_FLOAT32, mx_shape_of(1), (double[]){-2.5});
    REQUIRE_OK(call_op(k ? "_rmod_scalar" : "_mod_scalar", ATTRS("scalar", "-2.5"), &in[0], 1, &one, 1), call_error);
    mx_array *pair[2] = {k ? number : in[0], k ? in[0] : number};
    REQUIRE_OK(call_op("broadcast_mod", NULL, pair, 2, &both, 1), call_error);
    for (int i = 0; i < N; i++) {
      float a = k ? -2.5f : (float)l[i], b = k ? (float)l[i] : -2.5f, want = fmodf(a, b);
      if (want != 0 && (want < 0) != (b < 0)) want += b;
      if (b == 0) want = 0;
      float got = (float)call_value(one, i), same = (float)call_value(both, i);
      CHECK(isnan(want) ? isnan(got) && isnan(same) : got == want && same == want);
    }
    call_release((mx_array *[]){one, both, number}, 3);
  }
  call_release(in, 2);
  free(l), free(r);
}

/* ---- shapes ---- */

TEST(empty_arrays) {
  static const char *const two[] = {"broadcast_add", "broadcast_power", "broadcast_equal"};
  mx_array *empty = call_array(MX_FLOAT32, mx_shape_of(3, 0, 2), NULL), *y = NULL;
  mx_array *other = call_random(MX_FLOAT32, mx_shape_of(1, 1, 2), 0, 1, 1);
  REQUIRE_OK(call_op("exp", NULL, &empty, 1, &y, 1), call_error);
  CHECK_INT(mx_array_size(y), 0);
  call_release(&y, 1);
  for (int k = 0; k < 3; k++) {
    REQUIRE_OK(call_op(two[k], NULL, (mx_array *[]){empty, other}, 2, &y, 1), call_error);
    CHECK_INT(mx_array_size(y), 0);
    call_release(&y, 1);
  }
  call_bound b;
  mx_array *in[2] = {other, empty};
  REQUIRE_OK(call_bind("broadcast_mul", NULL, in, 2, 3, &b), call_error);
  CHECK_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  b.heads[0] = call_array(MX_FLOAT32, mx_shape_of(3, 0, 2), NULL);
  CHECK_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  CHECK_NEAR(call_value(b.grads[0], 0), 0, 0); /* a sum of nothing */
  call_unbind(&b);
  call_release((mx_array *[]){empty, other}, 2);
}

TEST(twelve_dimensions) {
  mx_shape s = {.ndim = MX_MAX_NDIM}, t = {.ndim = MX_MAX_NDIM};
  for (int d = 0; d < MX_MAX_NDIM; d++) s.dim[d] = d % 3 ? 2 : 3, t.dim[d] = d % 2 ? s.dim[d] : 1;
  mx_array *in[2] = {call_random(MX_FLOAT32, s, 0, 1, 1), call_random(MX_FLOAT32, t, 0, 1, 2)}, *y = NULL;
  REQUIRE_OK(call_op("broadcast_sub", NULL, in, 2, &y, 1), call_error);
  int64_t index[MX_MAX_NDIM] = {0}, n = mx_array_size(y), stride[MX_MAX_NDIM];
  mx_shape_strides(&t, stride);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = 0, rest = i;
    for (int d = MX_MAX_NDIM - 1; d >= 0; d--) {
      index[d] = rest % s.dim[d];
      rest /= s.dim[d];
      at += t.dim[d] == 1 ? 0 : index[d] * stride[d];
    }
    float want = (float)call_value(in[0], i) - (float)call_value(in[1], at);
    if ((float)call_value(y, i) != want) {
      check_report(__FILE__, __LINE__, "element %lld is wrong", (long long)i);
      break;
    }
  }
  call_release((mx_array *[]){in[0], in[1], y}, 3);
}

/* Infers and gives the output's shape as text. */
static const char *inferred(const char *name, const char *const *attrs, mx_shape a, mx_shape b, char *text) {
  const mx_op *op = mx_op_find(name);
  mx_dict d;
  void *params = NULL;
  mx_shape in[3] = {a, b, b}, out = MX_SHAPE_UNKNOWN;
  text[0] = 0;
  mx_status st = call_attrs(attrs, &d);
  if (st == MX_OK) st = mx_op_params_new(op, &d, &params, &call_error);
  if (st == MX_OK) st = mx_op_infer_shape(op, params, in, op->n_in, &out, 1, &call_error);
  if (params) mx_op_params_free(op, params);
  mx_dict_free(&d);
  if (st == MX_OK) mx_shape_text(&out, text);
  return text;
}

TEST(shapes_that_are_partly_known) {
  char t[MX_SHAPE_TEXT];
  CHECK_TEXT(inferred("broadcast_add", NULL, mx_shape_of(-1, 3), mx_shape_of(4, 1), t), "(4,3)");
  CHECK_TEXT(inferred("broadcast_add", NULL, mx_shape_of(-1, 3), mx_shape_of(1, 1), t), "(?,3)");
  CHECK_TEXT(inferred("broadcast_add", NULL, mx_shape_of(2, 3), mx_shape_of(3), t), "(2,3)");
  CHECK_TEXT(inferred("broadcast_add", NULL, mx_shape_of(2, 3), MX_SHAPE_UNKNOWN, t), "unknown");
  CHECK_TEXT(inferred("broadcast_axis", ATTRS("axis", "1", "size", "7"), mx_shape_of(-1, 1), MX_SHAPE_UNKNOWN, t),
             "(?,7)");
  CHECK_TEXT(inferred("broadcast_to", ATTRS("shape", "(5, 0)"), mx_shape_of(1, -1), MX_SHAPE_UNKNOWN, t), "(5,?)");
  CHECK_TEXT(inferred("where", NULL, mx_shape_of(4), mx_shape_of(4, 2), t), "(4,2)");
}

TEST(mistakes) {
  mx_array *a = call_random(MX_FLOAT32, mx_shape_of(2, 3), 0, 1, 1),
           *b = call_random(MX_FLOAT32, mx_shape_of(2, 4), 0, 1, 2);
  mx_array *c = call_random(MX_FLOAT64, mx_shape_of(2, 3), 0, 1, 2), *y = NULL;
  mx_array *ab[2] = {a, b}, *ac[2] = {a, c};
  CHECK_FAILS(call_op("broadcast_add", NULL, ab, 2, &y, 1), MX_ERR_SHAPE, call_error,
              "(2,3) and (2,4) cannot be broadcast");
  CHECK_FAILS(call_op("elemwise_add", NULL, ab, 2, &y, 1), MX_ERR_SHAPE, call_error, "rhs has shape (2,4)");
  CHECK_FAILS(call_op("broadcast_add", NULL, ac, 2, &y, 1), MX_ERR_TYPE, call_error, "rhs is float64");
  CHECK_FAILS(call_op("clip", ATTRS("a_min", "0"), &a, 1, &y, 1), MX_ERR_VALUE, call_error, "a_max");
  CHECK_FAILS(call_op("broadcast_axis", ATTRS("axis", "(0, 1)", "size", "3"), &a, 1, &y, 1), MX_ERR_VALUE, call_error,
              "size");
  CHECK_FAILS(call_op("broadcast_axis", ATTRS("axis", "5", "size", "3"), &a, 1, &y, 1), MX_ERR_VALUE, call_error,
              "axis 5");
  CHECK_FAILS(call_op("broadcast_axis", ATTRS("axis", "0", "size", "3"), &a, 1, &y, 1), MX_ERR_SHAPE, call_error,
              "(2,3)");
  CHECK_FAILS(call_op("broadcast_to", ATTRS("shape", "(3,)"), &a, 1, &y, 1), MX_ERR_SHAPE, call_error, "2 dimensions");
  CHECK_FAILS(call_op("broadcast_to", ATTRS("shape", "(2, 9223372036854775807)"), &b, 1, &y, 1), MX_ERR_SHAPE,
              call_error, "(2,4)");
  CHECK_FAILS(call_op("where", NULL, (mx_array *[]){b, a, a}, 3, &y, 1), MX_ERR_SHAPE, call_error, "condition");
  CHECK_FAILS(call_op("LeakyReLU", ATTRS("act_type", "prelu"), ab, 2, &y, 1), MX_ERR_SHAPE, call_error, "gamma");
  mx_array *two[2] = {NULL, NULL};
  CHECK_FAILS(call_op("LeakyReLU", ATTRS("act_type", "rrelu", "lower_bound", "0.9"), &a, 1, two, 2), MX_ERR_VALUE,
              call_error, "lower_bound");
  CHECK(y == NULL);
  call_release((mx_array *[]){a, b, c}, 3);
}

/* ---- LeakyReLU with random slopes ---- */

TEST(random_slopes) {
  const mx_shape shape = mx_shape_of(100, 101);
  mx_array *x = call_random(MX_FLOAT32, shape, -1, 1, 1), *out[2] = {NULL, NULL}, *again[2] = {NULL, NULL};
  const char *const *attrs = ATTRS("act_type", "rrelu", "lower_bound", "0.2", "upper_bound", "0.4");
  mx_random_seed(7);
  REQUIRE_OK(call_op_train("LeakyReLU", attrs, &x, 1, out, 2, true), call_error);
  double sum = 0, low = 1, high = 0;
  int64_t n = 0;
  for (int64_t i = 0; i < mx_array_size(x); i++) {
    double v = call_value(x, i), slope = call_value(out[1], i);
    CHECK_NEAR(call_value(out[0], i), v * slope, 1e-6);
    if (v > 0) {
      CHECK_NEAR(slope, 1, 0);
    } else {
      sum += slope, n++;
      low = fmin(low, slope), high = fmax(high, slope);
    }
  }
  CHECK(low >= 0.2f && low < 0.201 && high <= 0.4 && high > 0.399);
  CHECK_NEAR(sum / (double)n, 0.3, 0.005);
  mx_random_seed(7);
  mx_threads_set(1);
  REQUIRE_OK(call_op_train("LeakyReLU", attrs, &x, 1, again, 2, true), call_error);
  mx_threads_set(0);
  CHECK(!memcmp(mx_array_data(out[0]), mx_array_data(again[0]), mx_array_bytes(x)));
  call_release(out, 2);
  call_release(again, 2);
  mx_array_release(x);
}

/* ---- the table ---- */

TEST(table_is_complete) {
  for (int i = 0; i < MX_ROW_COUNT; i++) {
    const mx_row *row = &mx_rows[i];
    CHECK(row->name && row->expression && row->block[MX_KIND_FLOAT] && row->block[MX_KIND_DOUBLE]);
    CHECK_INT((int)strlen(row->operands), 3 * row->arity);
    for (int k = 0; k < row->arity; k++) {
      char letter = mx_row_letter(row, k);
      CHECK(letter >= 'a' && letter <= 'z');
      CHECK(row->derivative[0].kind != MX_D_ROW || mx_rows[row->derivative[0].row].name != NULL);
    }
  }
  CHECK_TEXT(mx_rows[MX_ROW_exp_da].expression, "g * r");
  CHECK_TEXT(mx_rows[MX_ROW_exp_da].operands, "(g, r)");
  for (int k = 0; k < mx_op_count(); k++) {
    const mx_op *op = mx_op_at(k);
    if (!op->elementwise || op->count_in || op->params) continue;
    const mx_elementwise *e = op->elementwise(NULL);
    for (int i = 0; i < mx_rows[e->row].arity && i < 3; i++)
      if (e->operand[i].kind == MX_FROM_INPUT && mx_rows[e->row].derivative[i].kind == MX_D_ROW && op->gradient)
        CHECK(e->backward[i] && mx_op_find(e->backward[i]));
  }
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 1;
  RUN(table_is_complete);
  RUN(every_derivative);
  RUN(derivatives_with_choices);
  RUN(digamma_and_erfinv);
  RUN(requests_and_memory);
  RUN(any_number_of_threads);
  RUN(integers);
  RUN(half_precision);
  RUN(special_numbers_of_powers);
  RUN(powers_by_multiplication);
  RUN(remainders);
  RUN(empty_arrays);
  RUN(twelve_dimensions);
  RUN(shapes_that_are_partly_known);
  RUN(mistakes);
  RUN(random_slopes);
  return check_finish();
}
