/* Attention and rotary embedding: against the plain formulas, gradients against differences, masks, shared heads,
 * blocks that do not divide the lengths, threads. */
#include "call.h"

typedef struct config {
  int B, H, G, nq, nk, D, W; /* batch, heads, heads of keys, queries, keys, depth, width */
  bool causal, length, bias;
  int bias_b, bias_h; /* leading dimensions of the bias: 1 or all */
} config;

static const char *flag(bool x) { return x ? "True" : "False"; }
#define CONFIG_ATTRS(c) ATTRS("causal", flag((c)->causal), "use_length", flag((c)->length), "use_bias", flag((c)->bias))

static const double lengths[] = {3, 70, 0, 1e9};
static int inputs(const config *c, mx_dtype t, mx_array **in) {
  int n = 0;
  in[n++] = call_random(t, mx_shape_of(c->B, c->H, c->nq, c->D), -1, 1, 1);
  in[n++] = call_random(t, mx_shape_of(c->B, c->G, c->nk, c->D), -1, 1, 2);
  in[n++] = call_random(t, mx_shape_of(c->B, c->G, c->nk, c->W), -1, 1, 3);
  if (c->length) in[n++] = call_array(MX_INT32, mx_shape_of(c->B), (double[]){3, 70, 0, 100});
  if (c->bias) in[n++] = call_random(t, mx_shape_of(c->bias_b, c->bias_h, c->nq, c->nk), -1, 1, 4);
  return n;
}

/* The formula, for one query. */
static void plain(const config *c, mx_array **in, int b, int h, int i, double *y) {
  int g = h / (c->H / c->G), keys = c->length && lengths[b] < c->nk ? (int)lengths[b] : c->nk;
  double *p = malloc((size_t)(c->nk + 1) * sizeof(double)), max = -INFINITY, sum = 0;
  for (int j = 0; j < c->nk; j++) {
    p[j] = 0;
    for (int d = 0; d < c->D; d++)
      p[j] += call_value(in[0], ((b * c->H + h) * c->nq + i) * c->D + d) *
              call_value(in[1], ((b * c->G + g) * c->nk + j) * c->D + d);
    p[j] /= sqrt(c->D);
    if (c->bias)
      p[j] += call_value(
          in[3 + c->length],
          ((int64_t)((c->bias_b > 1 ? b : 0) * c->bias_h + (c->bias_h > 1 ? h : 0)) * c->nq + i) * c->nk + j);
    if (j >= keys || (c->causal && j > i + c->nk - c->nq)) p[j] = -INFINITY;
    max = fmax(max, p[j]);
  }
  for (int w = 0; w < c->W; w++) y[w] = 0;
  for (int j = 0; j < c->nk; j++) sum += p[j] = p[j] == -INFINITY ? 0 : exp(p[j] - max);
  for (int j = 0; j < c->nk && sum > 0; j++)
    for (int w = 0; w < c->W; w++) y[w] += p[j] / sum * call_value(in[2], ((b * c->G + g) * c->nk + j) * c->W + w);
  free(p);
}

static const config configs[] = {
    {1, 1, 1, 1, 1, 1, 1, false, false, false, 1, 1},      {2, 3, 3, 5, 7, 4, 6, false, false, false, 1, 1},
    {2, 4, 2, 70, 130, 33, 20, false, false, false, 1, 1}, {1, 2, 1, 130, 130, 16, 16, true, false, false, 1, 1},
    {1, 2, 2, 3, 100, 8, 8, true, false, false, 1, 1},     {1, 2, 2, 9, 5, 8, 8, true, false, false, 1, 1},
    {4, 2, 1, 66, 90, 8, 40, false, true, false, 1, 1},    {3, 2, 2, 20, 20, 8, 8, true, true, true, 1, 2},
    {2, 2, 2, 67, 65, 8, 8, false, false, true, 2, 1}};
enum { CONFIGS = sizeof(configs) / sizeof(configs[0]) };

TEST(values) {
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  for (int k = 0; k < CONFIGS; k++)
    for (int t = 0; t < 3; t++)
      for (int threads = 1; threads < 3; threads++) {
        const config *c = &configs[k];
        mx_array *in[5], *out[1] = {NULL};
        int n = inputs(c, types[t], in);
        mx_threads_set(threads);
        REQUIRE_OK(call_op("DotProductAttention", CONFIG_ATTRS(c), in, n, out, 1), call_error);
        double worst = 0, y[64];
        for (int b = 0; b < c->B; b++)
          for (int h = 0; h < c->H; h++)
            for (int i = 0; i < c->nq; i++) {
              plain(c, in, b, h, i, y);
              for (int w = 0; w < c->W; w++)
                worst = fmax(worst, fabs(y[w] - call_value(out[0], ((b * c->H + h) * c->nq + i) * c->W + w)));
            }
        if (!(worst < (t == 0 ? 1e-13 : t == 1 ? 1e-5 : 2e-3)))
          check_report(__FILE__, __LINE__, "configuration %d, %s: off by %g", k, mx_dtype_name(types[t]), worst);
        call_release(in, n), call_release(out, 1);
      }
  mx_threads_set(0);
}

TEST(gradients) {
  for (int k = 0; k < CONFIGS; k++)
    for (int threads = 1; threads < 3; threads++) {
      config c = configs[k];
      if (c.nq > 70 && c.nk > 100) continue; /* differences over large arrays take long */
      mx_array *in[5];
      int n = inputs(&c, MX_FLOAT64, in);
      mx_threads_set(threads);
      call_check_gradient("DotProductAttention", CONFIG_ATTRS(&c), in, n, c.bias ? 7 | 1u << (n - 1) : 7, 0, 1e-5,
                          1e-7);
      call_release(in, n);
    }
  mx_threads_set(0);
}

/* The gradients of float and half agree with those of double over several blocks. */
TEST(gradients_in_other_types) {
  config c = {1, 4, 2, 130, 140, 20, 24, true, false, true, 1, 1};
  mx_array *reference[5] = {NULL};
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  for (int t = 0; t < 3; t++) {
    mx_array *in[5];
    int n = inputs(&c, types[t], in);
    call_bound b;
    REQUIRE_OK(call_bind("DotProductAttention", CONFIG_ATTRS(&c), in, n, 15, &b), call_error);
    REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
    b.heads[0] = call_random(types[t], mx_executor_output(b.executor, 0)->shape, -1, 1, 7);
    REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
    for (int i = 0; i < n; i++) {
      double worst = 0, largest = 0;
      for (int64_t j = 0; t > 0 && j < mx_array_size(in[i]); j++) {
        worst = fmax(worst, fabs(call_value(b.grads[i], j) - call_value(reference[i], j)));
        largest = fmax(largest, fabs(call_value(reference[i], j)));
      }
      CHECK(worst <= (t == 1 ? 1e-5 : 1e-2) * largest);
      if (t == 0) reference[i] = mx_array_retain(b.grads[i]);
    }
    call_unbind(&b);
    call_release(in, n);
  }
  call_release(reference, 5);
}

/* A bias of -Inf hides keys; all of them: the result is 0, and so are the gradients. Large scores do not overflow. */
TEST(infinite_bias_and_large_scores) {
  mx_array *in[4] = {
      call_random(MX_FLOAT64, mx_shape_of(2, 3, 4), -1, 1, 1), call_random(MX_FLOAT64, mx_shape_of(2, 5, 4), -1, 1, 2),
      call_random(MX_FLOAT64, mx_shape_of(2, 5, 4), -1, 1, 3), call_random(MX_FLOAT64, mx_shape_of(1, 3, 5), -1, 1, 4)};
  for (int j = 0; j < 5; j++) ((double *)mx_array_data(in[3]))[5 + j] = -INFINITY;
  call_bound b;
  REQUIRE_OK(call_bind("DotProductAttention", ATTRS("use_bias", "True", "scale", "300"), in, 4, 7, &b), call_error);
  REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  b.heads[0] = call_random(MX_FLOAT64, mx_shape_of(2, 3, 4), -1, 1, 7);
  REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  for (int h = 0; h < 2; h++)
    for (int d = 0; d < 4; d++) {
      CHECK(call_value(mx_executor_output(b.executor, 0), (h * 3 + 1) * 4 + d) == 0);
      CHECK(call_value(b.grads[0], (h * 3 + 1) * 4 + d) == 0);
    }
  for (int k = 0; k < 3; k++)
    for (int64_t i = 0; i < mx_array_size(in[k]); i++) CHECK(isfinite(call_value(b.grads[k], i)));
  call_unbind(&b);
  call_release(in, 4);
}

TEST(empty_and_bad_shapes) {
  static const int64_t sizes[][4] = {{0, 5, 4, 3}, {5, 0, 4, 3}, {5, 4, 0, 3}, {5, 4, 3, 0}}; /* nq, nk, depth, width */
  for (int k = 0; k < 4; k++) {
    const int64_t *d = sizes[k];
    mx_array *in[3] = {call_random(MX_FLOAT64, mx_shape_of(2, d[0], d[2]), -1, 1, 1),
                       call_random(MX_FLOAT64, mx_shape_of(2, d[1], d[2]), -1, 1, 2),
                       call_random(MX_FLOAT64, mx_shape_of(2, d[1], d[3]), -1, 1, 3)};
    call_check_gradient("DotProductAttention", NULL, in, 3, 7, 0, 1e-5, 1e-7);
    call_release(in, 3);
  }
  mx_array *in[3] = {call_array(MX_FLOAT32, mx_shape_of(3, 5, 4), NULL),
                     call_array(MX_FLOAT32, mx_shape_of(2, 5, 4), NULL),
                     call_array(MX_FLOAT32, mx_shape_of(2, 5, 4), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("DotProductAttention", NULL, in, 3, out, 1), MX_ERR_SHAPE, call_error, "evenly");
  mx_array_release(in[0]);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(2, 5, 3), NULL);
  CHECK_FAILS(call_op("DotProductAttention", NULL, in, 3, out, 1), MX_ERR_SHAPE, call_error, "depth");
  mx_array_release(in[0]);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(5, 4), NULL);
  CHECK_FAILS(call_op("DotProductAttention", NULL, in, 3, out, 1), MX_ERR_SHAPE, call_error, "three dimensions");
  call_release(in, 3);
}

TEST(rotary) {
  mx_array *in[2] = {call_random(MX_FLOAT64, mx_shape_of(2, 3, 5, 8), -1, 1, 1),
                     call_array(MX_INT32, mx_shape_of(2, 5), (double[]){3, 4, 5, 6, 7, 0, 1, 2, 3, 4})};
  for (int interleaved = 0; interleaved < 2; interleaved++)
    for (int position = 0; position < 2; position++)
      for (int dim = 4; dim <= 8; dim += 4) {
        char text[16];
        snprintf(text, sizeof(text), "%d", dim);
        const char *const *attrs = ATTRS("interleaved", flag(interleaved), "use_position", flag(position), "dim", text,
                                         "offset", position ? "0" : "3", "base", "100");
        mx_array *out[1] = {NULL};
        REQUIRE_OK(call_op("RotaryEmbedding", attrs, in, 1 + position, out, 1), call_error);
        double worst = 0;
        for (int v = 0; v < 30; v++)
          for (int i = 0; i < dim / 2; i++) {
            int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + dim / 2;
            double t = position && v >= 15 ? v % 5 : v % 5 + 3, angle = t * pow(100, -2.0 * i / dim);
            double xa = call_value(in[0], v * 8 + a), xb = call_value(in[0], v * 8 + b);
            worst = fmax(worst, fabs(call_value(out[0], v * 8 + a) - (xa * cos(angle) - xb * sin(angle))));
            worst = fmax(worst, fabs(call_value(out[0], v * 8 + b) - (xb * cos(angle) + xa * sin(angle))));
            for (int j = dim; j < 8; j++) CHECK(call_value(out[0], v * 8 + j) == call_value(in[0], v * 8 + j));
          }
        CHECK(worst < 1e-13);
        call_check_gradient("RotaryEmbedding", attrs, in, 1 + position, 1, 0, 1e-3, 1e-9);
        call_release(out, 1);
      }
  mx_array *over[1] = {in[0]}, *keep[1] = {NULL}; /* in place */
  REQUIRE_OK(call_op("RotaryEmbedding", NULL, in, 1, keep, 1), call_error);
  REQUIRE_OK(call_op("RotaryEmbedding", NULL, in, 1, over, 1), call_error);
  CHECK(!memcmp(mx_array_data(in[0]), mx_array_data(keep[0]), mx_array_bytes(in[0])));
  call_release(in, 2), call_release(keep, 1);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(2, 5, 7), NULL);
  CHECK_FAILS(call_op("RotaryEmbedding", NULL, in, 1, keep, 1), MX_ERR_VALUE, call_error, "7 features");
  CHECK_FAILS(call_op("RotaryEmbedding", ATTRS("dim", "8"), in, 1, keep, 1), MX_ERR_VALUE, call_error, "8 features");
  CHECK_FAILS(call_op("RotaryEmbedding", ATTRS("base", "0"), in, 1, keep, 1), MX_ERR_VALUE, call_error, "base");
  call_release(in, 1);
  in[0] = call_array(MX_FLOAT32, mx_shape_of(0, 5, 6), NULL);
  CHECK_OK(call_op("RotaryEmbedding", NULL, in, 1, keep, 1), call_error);
  call_release(in, 1), call_release(keep, 1);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(values);
  RUN(gradients);
  RUN(gradients_in_other_types);
  RUN(infinite_bias_and_large_scores);
  RUN(empty_and_bad_shapes);
  RUN(rotary);
  return check_finish();
}
