/* RNN: gradients of every kind of cell, direction, layer, projection, clip and length against differences; sequences of
 * different lengths against runs on their own; dropout; inference against training; bad parameters. */
#include "call.h"

static const char *const modes[] = {"gru", "lstm", "rnn_relu", "rnn_tanh"};
static const int gates[] = {3, 4, 1, 1};

typedef struct config {
  int mode, T, N, I, H, P, L, D;
  const char *attrs[24];
  char text[4][16];
} config;

static void configure(config *c, const char *const *more) {
  int n = 0;
  int values[3] = {c->H, c->L, c->P};
  static const char *const keys[] = {"state_size", "num_layers", "projection_size"};
  for (int i = 0; i < (c->P ? 3 : 2); i++) {
    snprintf(c->text[i], sizeof(c->text[i]), "%d", values[i]);
    c->attrs[n++] = keys[i], c->attrs[n++] = c->text[i];
  }
  c->attrs[n++] = "mode", c->attrs[n++] = modes[c->mode];
  c->attrs[n++] = "bidirectional", c->attrs[n++] = c->D == 2 ? "True" : "False";
  for (int i = 0; more && more[i]; i++) c->attrs[n++] = more[i];
  c->attrs[n] = NULL;
}
static int parameters(const config *c) {
  int out = c->P ? c->P : c->H, total = 0;
  for (int l = 0; l < c->L; l++) {
    int in = l ? c->D * out : c->I;
    total += c->D * (gates[c->mode] * c->H * (in + out + 2) + (c->P ? c->P * c->H : 0));
  }
  return total;
}
/* data, parameters, state, cell state, lengths. Returns how many. */
static int inputs(const config *c, mx_dtype t, const double *lengths, mx_array **in) {
  int out = c->P ? c->P : c->H, n = 0;
  in[n++] = call_random(t, mx_shape_of(c->T, c->N, c->I), -1, 1, 1);
  in[n++] = call_random(t, mx_shape_of(parameters(c)), -0.7, 0.7, 2);
  in[n++] = call_random(t, mx_shape_of(c->L * c->D, c->N, out), -0.5, 0.5, 3);
  if (c->mode == 1) in[n++] = call_random(t, mx_shape_of(c->L * c->D, c->N, c->H), -0.5, 0.5, 4);
  if (lengths) in[n++] = call_array(t, mx_shape_of(c->N), lengths);
  return n;
}

TEST(gradients) {
  for (int mode = 0; mode < 4; mode++)
    for (int D = 1; D <= 2; D++)
      for (int L = 1; L <= 2; L++)
        for (int states = 0; states < 2; states++) {
          config c = {.mode = mode, .T = 4, .N = 3, .I = 2, .H = 3, .L = L, .D = D};
          configure(&c, ATTRS("state_outputs", states ? "True" : "False"));
          mx_array *in[5];
          int n = inputs(&c, MX_FLOAT64, NULL, in);
          call_check_gradient("RNN", c.attrs, in, n, (1u << n) - 1, 0, 1e-6, 1e-7);
          call_release(in, n);
        }
}

TEST(gradients_with_projection) {
  for (int D = 1; D <= 2; D++)
    for (int lengths = 0; lengths < 2; lengths++) {
      config c = {.mode = 1, .T = 4, .N = 3, .I = 2, .H = 4, .P = 3, .L = 2, .D = D};
      double len[3] = {2, 4, 0};
      configure(&c, ATTRS("state_outputs", "True", "use_sequence_length", lengths ? "True" : "False"));
      mx_array *in[5];
      int n = inputs(&c, MX_FLOAT64, lengths ? len : NULL, in);
      call_check_gradient("RNN", c.attrs, in, n, 15, 0, 1e-6, 1e-7);
      call_release(in, n);
    }
}

TEST(gradients_with_lengths) {
  for (int mode = 0; mode < 4; mode++)
    for (int D = 1; D <= 2; D++) {
      config c = {.mode = mode, .T = 4, .N = 3, .I = 2, .H = 3, .L = 2, .D = D};
      double len[3] = {3, 1, 4};
      configure(&c, ATTRS("state_outputs", "True", "use_sequence_length", "True"));
      mx_array *in[5];
      int n = inputs(&c, MX_FLOAT64, len, in);
      call_check_gradient("RNN", c.attrs, in, n, (1u << (n - 1)) - 1, 0, 1e-6, 1e-7);
      call_release(in, n);
    }
}

TEST(gradients_with_clip) {
  config c = {.mode = 1, .T = 5, .N = 3, .I = 2, .H = 4, .L = 1, .D = 1};
  configure(&c, ATTRS("state_outputs", "True", "lstm_state_clip_min", "-0.2", "lstm_state_clip_max", "0.3"));
  mx_array *in[5], *out[3] = {NULL};
  int n = inputs(&c, MX_FLOAT64, NULL, in);
  call_check_gradient("RNN", c.attrs, in, n, 15, 0, 1e-6, 1e-7);
  REQUIRE_OK(call_op("RNN", c.attrs, in, n, out, 3), call_error);
  int touched = 0;
  for (int i = 0; i < 12; i++) {
    double x = call_value(out[2], i);
    CHECK(x >= -0.2 && x <= 0.3);
    touched += x == -0.2 || x == 0.3;
  }
  CHECK(touched > 0);
  call_release(in, n), call_release(out, 3);
}

/* With lengths every sequence gives what it gives alone, zeros after its end, and its states stop there. */
TEST(lengths) {
  for (int mode = 0; mode < 4; mode++) {
    config c = {.mode = mode, .T = 5, .N = 3, .I = 2, .H = 3, .L = 2, .D = 2};
    double len[3] = {5, 2, 3};
    int visible = mode == 1 ? 3 : 2;
    configure(&c, ATTRS("state_outputs", "True", "use_sequence_length", "True"));
    mx_array *in[5], *out[3] = {NULL};
    int n = inputs(&c, MX_FLOAT64, len, in);
    REQUIRE_OK(call_op("RNN", c.attrs, in, n, out, visible), call_error);
    for (int s = 0; s < 3; s++) {
      config one = c;
      int T = (int)len[s];
      mx_array *alone[4], *got[3] = {NULL};
      one.N = 1, one.T = T;
      configure(&one, ATTRS("state_outputs", "True"));
      int m = inputs(&one, MX_FLOAT64, NULL, alone);
      for (int t = 0; t < T; t++)
        memcpy((double *)mx_array_data(alone[0]) + 2 * t, (double *)mx_array_data(in[0]) + (t * 3 + s) * 2, 16);
      for (int k = 2; k < m; k++)
        for (int l = 0; l < 4; l++)
          memcpy((double *)mx_array_data(alone[k]) + 3 * l, (double *)mx_array_data(in[k]) + (l * 3 + s) * 3, 24);
      REQUIRE_OK(call_op("RNN", one.attrs, alone, m, got, visible), call_error);
      double worst = 0;
      for (int t = 0; t < 5; t++)
        for (int j = 0; j < 6; j++)
          worst =
              fmax(worst, fabs(call_value(out[0], (t * 3 + s) * 6 + j) - (t < T ? call_value(got[0], t * 6 + j) : 0)));
      for (int k = 1; k < visible; k++)
        for (int l = 0; l < 4; l++)
          for (int j = 0; j < 3; j++)
            worst = fmax(worst, fabs(call_value(out[k], (l * 3 + s) * 3 + j) - call_value(got[k], l * 3 + j)));
      if (!(worst < 1e-12)) check_report(__FILE__, __LINE__, "%s: sequence %d is off by %g", modes[mode], s, worst);
      call_release(alone, m), call_release(got, visible);
    }
    call_release(in, n), call_release(out, visible);
  }
}

/* Inference, with its smaller memory, training, and both numbers of threads agree; float and half are near double. */
TEST(inference_threads_and_types) {
  static const mx_dtype types[] = {MX_FLOAT64, MX_FLOAT32, MX_FLOAT16};
  for (int mode = 0; mode < 4; mode++) {
    config c = {.mode = mode, .T = 7, .N = 5, .I = 6, .H = 9, .L = 3, .D = 2};
    configure(&c, ATTRS("state_outputs", "True"));
    mx_array *reference[3] = {NULL};
    int visible = mode == 1 ? 3 : 2;
    for (int t = 0; t < 3; t++) {
      mx_array *in[5], *out[3] = {NULL};
      int n = inputs(&c, types[t], NULL, in);
      mx_threads_set(2);
      REQUIRE_OK(call_op("RNN", c.attrs, in, n, out, visible), call_error);
      mx_threads_set(1);
      call_bound b;
      REQUIRE_OK(call_bind("RNN", c.attrs, in, n, 0, &b), call_error); /* no gradient: the reserve is not there */
      for (int training = 0; training < 2; training++) {
        REQUIRE_OK(mx_executor_forward(b.executor, training, &call_error), call_error);
        for (int k = 0; k < visible; k++)
          for (int64_t i = 0; i < mx_array_size(out[k]); i++)
            CHECK_NEAR(call_value(mx_executor_output(b.executor, k), i), call_value(out[k], i),
                       t == 0   ? 1e-13
                       : t == 1 ? 1e-5
                                : 1e-2);
      }
      call_unbind(&b);
      for (int k = 0; k < visible && t > 0; k++)
        for (int64_t i = 0; i < mx_array_size(out[k]); i++)
          CHECK_NEAR(call_value(out[k], i), call_value(reference[k], i),
                     (t == 1 ? 1e-4 : 1e-2) * (1 + fabs(call_value(reference[k], i))));
      for (int k = 0; k < visible && t == 0; k++) reference[k] = mx_array_retain(out[k]);
      call_release(in, n), call_release(out, visible);
    }
    call_release(reference, visible);
  }
  mx_threads_set(0);
}

/* Dropout between layers: none in inference or with one layer; the same mask forward and backward. */
TEST(dropout) {
  config c = {.mode = 3, .T = 3, .N = 40, .I = 4, .H = 50, .L = 2, .D = 1};
  configure(&c, ATTRS("p", "0.4"));
  mx_array *in[5], *first[1] = {NULL}, *second[1] = {NULL};
  int n = inputs(&c, MX_FLOAT64, NULL, in);
  mx_random_seed(1);
  REQUIRE_OK(call_op_train("RNN", c.attrs, in, n, first, 1, true), call_error);
  REQUIRE_OK(call_op_train("RNN", c.attrs, in, n, second, 1, true), call_error);
  CHECK(memcmp(mx_array_data(first[0]), mx_array_data(second[0]), mx_array_bytes(first[0])));
  call_release(second, 1);
  REQUIRE_OK(call_op("RNN", c.attrs, in, n, second, 1), call_error);
  configure(&c, NULL);
  mx_array *plain[1] = {NULL};
  REQUIRE_OK(call_op("RNN", c.attrs, in, n, plain, 1), call_error);
  CHECK(!memcmp(mx_array_data(plain[0]), mx_array_data(second[0]), mx_array_bytes(plain[0])));
  call_release(in, n), call_release(first, 1), call_release(second, 1), call_release(plain, 1);
  /* differences with the seed reset before each run see one fixed mask */
  config small = {.mode = 1, .T = 3, .N = 2, .I = 2, .H = 3, .L = 3, .D = 2};
  configure(&small, ATTRS("p", "0.5"));
  n = inputs(&small, MX_FLOAT64, NULL, in);
  call_bound b;
  REQUIRE_OK(call_bind("RNN", small.attrs, in, n, 3, &b), call_error);
  mx_random_seed(9);
  REQUIRE_OK(mx_executor_forward(b.executor, true, &call_error), call_error);
  b.heads[0] = call_random(MX_FLOAT64, mx_executor_output(b.executor, 0)->shape, -1, 1, 5);
  REQUIRE_OK(mx_executor_backward(b.executor, b.heads, 1, &call_error), call_error);
  for (int k = 0; k < 2; k++) {
    double *x = mx_array_data(in[k]), up, down;
    for (int64_t i = 0; i < mx_array_size(in[k]); i += 7) {
      double keep = x[i];
      x[i] = keep + 1e-6;
      mx_random_seed(9);
      REQUIRE_OK(call_objective(&b, &up), call_error);
      x[i] = keep - 1e-6;
      mx_random_seed(9);
      REQUIRE_OK(call_objective(&b, &down), call_error);
      x[i] = keep;
      CHECK_NEAR(call_value(b.grads[k], i), (up - down) / 2e-6, 1e-7);
    }
  }
  call_unbind(&b);
  call_release(in, n);
}

TEST(empty_sequences) {
  for (int mode = 0; mode < 4; mode++)
    for (int k = 0; k < 2; k++) {
      config c = {.mode = mode, .T = k ? 0 : 3, .N = k ? 2 : 0, .I = 2, .H = 3, .L = 2, .D = 2};
      configure(&c, ATTRS("state_outputs", "True"));
      mx_array *in[5], *out[3] = {NULL};
      int n = inputs(&c, MX_FLOAT64, NULL, in), visible = mode == 1 ? 3 : 2;
      REQUIRE_OK(call_op("RNN", c.attrs, in, n, out, visible), call_error);
      for (int64_t i = 0; i < mx_array_size(out[1]); i++) CHECK(call_value(out[1], i) == call_value(in[2], i));
      call_check_gradient("RNN", c.attrs, in, n, (1u << n) - 1, 0, 1e-6, 1e-7);
      call_release(in, n), call_release(out, visible);
    }
}

TEST(bad_parameters) {
  config c = {.mode = 1, .T = 2, .N = 2, .I = 2, .H = 3, .L = 1, .D = 1};
  configure(&c, NULL);
  mx_array *in[5], *out[3] = {NULL};
  int n = inputs(&c, MX_FLOAT32, NULL, in);
  CHECK_FAILS(call_op("RNN", ATTRS("state_size", "0", "num_layers", "1", "mode", "lstm"), in, n, out, 1), MX_ERR_VALUE,
              call_error, "state_size");
  CHECK_FAILS(call_op("RNN", ATTRS("state_size", "3", "num_layers", "1", "mode", "lstn"), in, n, out, 1), MX_ERR_VALUE,
              call_error, "lstm");
  CHECK_FAILS(call_op("RNN", ATTRS("state_size", "4", "num_layers", "1", "mode", "lstm"), in, n, out, 1), MX_ERR_SHAPE,
              call_error, "state");
  CHECK_FAILS(call_op("RNN", ATTRS("state_size", "3", "num_layers", "1", "mode", "gru"), in, n, out, 1), MX_ERR_VALUE,
              call_error, "3 inputs");
  CHECK_FAILS(
      call_op("RNN", ATTRS("state_size", "3", "num_layers", "1", "mode", "gru", "projection_size", "2"), in, 3, out, 1),
      MX_ERR_VALUE, call_error, "projection_size");
  CHECK_FAILS(call_op("RNN", ATTRS("state_size", "3", "num_layers", "1", "mode", "lstm", "lstm_state_clip_min", "1"),
                      in, n, out, 1),
              MX_ERR_VALUE, call_error, "together");
  CHECK_FAILS(call_op("RNN",
                      ATTRS("state_size", "3", "num_layers", "1", "mode", "lstm", "lstm_state_clip_min", "1",
                            "lstm_state_clip_max", "0"),
                      in, n, out, 1),
              MX_ERR_VALUE, call_error, "above");
  mx_array_release(in[1]);
  in[1] = call_array(MX_FLOAT32, mx_shape_of(5), NULL);
  CHECK_FAILS(call_op("RNN", c.attrs, in, n, out, 1), MX_ERR_SHAPE, call_error, "parameters");
  call_release(in, n);
  /* sizes whose product does not fit */
  const mx_op *op = mx_op_find("RNN");
  mx_dict d;
  void *params;
  REQUIRE_OK(call_attrs(ATTRS("state_size", "16777216", "num_layers", "65536", "mode", "lstm"), &d), call_error);
  REQUIRE_OK(mx_op_params_new(op, &d, &params, &call_error), call_error);
  mx_shape shapes[4] = {mx_shape_of((int64_t)1 << 40, (int64_t)1 << 40, (int64_t)1 << 40), MX_SHAPE_UNKNOWN,
                        MX_SHAPE_UNKNOWN, MX_SHAPE_UNKNOWN},
           outs[2] = {MX_SHAPE_UNKNOWN, MX_SHAPE_UNKNOWN};
  CHECK(mx_op_infer_shape(op, params, shapes, 4, outs, 2, &call_error) == MX_ERR_SHAPE);
  mx_op_params_free(op, params);
  mx_dict_free(&d);
}

/* Lengths outside of 0..T, fractions and NaN are harmless. */
TEST(odd_lengths) {
  config c = {.mode = 1, .T = 3, .N = 5, .I = 2, .H = 3, .L = 1, .D = 2};
  double len[5] = {-4, 1e30, NAN, 1.5, 3};
  configure(&c, ATTRS("use_sequence_length", "True"));
  mx_array *in[5], *out[1] = {NULL};
  int n = inputs(&c, MX_FLOAT64, len, in);
  REQUIRE_OK(call_op("RNN", c.attrs, in, n, out, 1), call_error);
  static const int kept[5] = {0, 3, 0, 2, 3};
  for (int t = 0; t < 3; t++)
    for (int s = 0; s < 5; s++)
      for (int j = 0; j < 6; j++) CHECK((call_value(out[0], (t * 5 + s) * 6 + j) != 0) == (t < kept[s]));
  call_release(in, n), call_release(out, 1);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(gradients);
  RUN(gradients_with_projection);
  RUN(gradients_with_lengths);
  RUN(gradients_with_clip);
  RUN(lengths);
  RUN(inference_threads_and_types);
  RUN(dropout);
  RUN(empty_sequences);
  RUN(bad_parameters);
  RUN(odd_lengths);
  return check_finish();
}
