/* Optimizer updates: what the golden vectors do not reach. Updates written over the weight, updates of several weights
 * against one at a time, half weights with a float copy, AdamW and LAMB against their formulas, bad parameters. */
#include "call.h"

enum { N = 20011 }; /* several blocks, more than one thread's share */

static mx_array *weights(mx_dtype t, uint64_t seed) { return call_random(t, mx_shape_of(N), -1, 1, seed); }
static mx_array *positive(mx_dtype t, uint64_t seed) { return call_random(t, mx_shape_of(N), 0.1, 1, seed); }
static mx_array *copy_of(const mx_array *a) {
  mx_array *c = call_array(a->dtype, a->shape, NULL);
  memcpy(mx_array_data(c), mx_array_data(a), mx_array_bytes(a));
  return c;
}
static double distance(const mx_array *a, const mx_array *b) {
  double d = 0;
  for (int64_t i = 0; i < mx_array_size(a); i++) d = fmax(d, fabs(call_value(a, i) - call_value(b, i)));
  return d;
}

static const struct update {
  const char *name;
  const char *attrs[12];
  int states;
} updates[] = {{"sgd_update", {"lr", "0.1", "wd", "0.01"}, 0},
               {"sgd_mom_update", {"lr", "0.1", "momentum", "0.9", "clip_gradient", "0.5"}, 1},
               {"nag_mom_update", {"lr", "0.1", "momentum", "0.9"}, 1}, /* with wd it matters: test_graphs, training */
               {"_nag_update", {"lr", "0.1", "momentum", "0.9", "wd", "0.1"}, 1},
               {"_adagrad_update", {"lr", "0.1", "wd", "0.1", "clip_gradient", "0.5"}, 1},
               {"_adadelta_update", {"rho", "0.8", "wd", "0.1"}, 2},
               {"signsgd_update", {"lr", "0.1"}, 0},
               {"signum_update", {"lr", "0.1", "momentum", "0.9", "wd_lh", "0.1"}, 1},
               {"adam_update", {"lr", "0.1", "wd", "0.01"}, 2},
               {"rmsprop_update", {"lr", "0.1", "clip_weights", "0.8"}, 1},
               {"rmspropalex_update", {"lr", "0.01"}, 3},
               {"ftml_update", {"lr", "0.1", "t", "3", "clip_grad", "0.5"}, 3},
               {"ftrl_update", {"lr", "0.1", "lamda1", "0.2"}, 2},
               {"lamb_update_phase1", {"t", "2", "wd", "0.1"}, 2}};
enum { UPDATES = sizeof(updates) / sizeof(updates[0]) };

/* Written over the weight, or by two threads, the new weight and the states are the same to the bit. */
TEST(in_place_and_threads_change_nothing) {
  static const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  for (int u = 0; u < UPDATES; u++)
    for (int t = 0; t < 3; t++) {
      mx_array *first[5], *second[5], *out[1] = {NULL}, *over[1];
      int n = 2 + updates[u].states;
      for (int i = 0; i < n; i++) {
        first[i] = i < 2 ? weights(types[t], 1 + (uint64_t)i) : positive(types[t], 1 + (uint64_t)i);
        second[i] = copy_of(first[i]);
      }
      mx_threads_set(1);
      REQUIRE_OK(call_op(updates[u].name, updates[u].attrs, first, n, out, 1), call_error);
      mx_threads_set(2);
      over[0] = second[0];
      REQUIRE_OK(call_op(updates[u].name, updates[u].attrs, second, n, over, 1), call_error);
      mx_threads_set(0);
      if (memcmp(mx_array_data(out[0]), mx_array_data(second[0]), mx_array_bytes(out[0])))
        check_report(__FILE__, __LINE__, "%s: in place differs by %g", updates[u].name, distance(out[0], second[0]));
      CHECK(distance(first[0], out[0]) > 1e-3); /* the weight itself stayed */
      for (int i = 2; i < n; i++)
        CHECK(!memcmp(mx_array_data(first[i]), mx_array_data(second[i]), mx_array_bytes(first[i])));
      call_release(first, n), call_release(second, n), call_release(out, 1);
    }
}

TEST(empty_weights) {
  for (int u = 0; u < UPDATES; u++) {
    mx_array *in[5], *out[1] = {NULL};
    int n = 2 + updates[u].states;
    for (int i = 0; i < n; i++) in[i] = call_array(MX_FLOAT32, mx_shape_of(3, 0), NULL);
    CHECK_OK(call_op(updates[u].name, updates[u].attrs, in, n, out, 1), call_error);
    call_release(in, n), call_release(out, 1);
  }
}

/* A state or a gradient of another shape or type is refused. */
TEST(arrays_that_do_not_fit) {
  mx_array *in[3] = {call_array(MX_FLOAT32, mx_shape_of(2, 3), NULL), call_array(MX_FLOAT32, mx_shape_of(3, 2), NULL)};
  mx_array *out[1] = {NULL};
  CHECK_FAILS(call_op("sgd_update", ATTRS("lr", "1"), in, 2, out, 1), MX_ERR_SHAPE, call_error, "(2,3)");
  mx_array_release(in[1]);
  in[1] = call_array(MX_FLOAT64, mx_shape_of(2, 3), NULL);
  CHECK_FAILS(call_op("sgd_update", ATTRS("lr", "1"), in, 2, out, 1), MX_ERR_TYPE, call_error, "float64");
  call_release(in, 2);
  for (int i = 0; i < 2; i++) in[i] = call_array(MX_INT32, mx_shape_of(2), NULL);
  CHECK_FAILS(call_op("sgd_update", ATTRS("lr", "1"), in, 2, out, 1), MX_ERR_TYPE, call_error, "int32");
  CHECK_FAILS(call_op("sgd_update", NULL, in, 2, out, 1), MX_ERR_VALUE, call_error, "lr");
  CHECK_FAILS(call_op("sgd_update", ATTRS("lr", "1", "nonsense", "1"), in, 2, out, 1), MX_ERR_VALUE, call_error,
              "nonsense");
  CHECK_FAILS(call_op("ftml_update", ATTRS("lr", "1", "t", "-1"), in, 2, out, 1), MX_ERR_VALUE, call_error, "t");
  CHECK_FAILS(
      call_op("multi_sgd_update", ATTRS("lrs", "(1, 2, 3)", "wds", "(0, 0)", "num_weights", "2"), in, 2, out, 1),
      MX_ERR_VALUE, call_error, "lrs must have one number a weight");
  CHECK_FAILS(call_op("multi_sgd_update", ATTRS("lrs", "()", "wds", "()", "num_weights", "0"), in, 2, out, 1),
              MX_ERR_VALUE, call_error, "num_weights");
  CHECK_FAILS(call_op("_multi_lamb_update", ATTRS("learning_rates", "(1,)", "wds", "(0,)", "step_count", "(1, 2)"), in,
                      2, out, 1),
              MX_ERR_VALUE, call_error, "step_count");
  call_release(in, 2);
}

/* mp_*: half weights; the arithmetic is that of the float update on the copy. */
TEST(half_weights_follow_their_float_copy) {
  static const struct {
    const char *mp, *plain;
    int states;
  } pairs[] = {{"mp_sgd_update", "sgd_update", 0}, {"mp_sgd_mom_update", "sgd_mom_update", 1}};
  for (int k = 0; k < 2; k++)
    for (int type = 0; type < 2; type++) { /* float weights with a float copy are allowed too */
      mx_dtype t = type ? MX_FLOAT32 : MX_FLOAT16;
      mx_array *w32 = weights(MX_FLOAT32, 1), *w = call_array(t, w32->shape, NULL), *g = weights(t, 2);
      mx_array *m = weights(MX_FLOAT32, 3), *g32 = call_array(MX_FLOAT32, g->shape, NULL);
      mx_convert(mx_array_data(w32), MX_FLOAT32, mx_array_data(w), t, N);
      mx_convert(mx_array_data(g), t, mx_array_data(g32), MX_FLOAT32, N);
      mx_array *plain[3] = {copy_of(w32), g32, copy_of(m)}, *mp[4] = {w, g, m, w32}, *want[1] = {NULL}, *got[1] = {w};
      if (!pairs[k].states) mp[2] = w32;
      REQUIRE_OK(call_op(pairs[k].plain, ATTRS("lr", "0.1", "wd", "0.01"), plain, 2 + pairs[k].states, want, 1),
                 call_error);
      REQUIRE_OK(call_op(pairs[k].mp, ATTRS("lr", "0.1", "wd", "0.01"), mp, 3 + pairs[k].states, got, 1), call_error);
      CHECK(distance(w32, want[0]) == 0);
      CHECK(distance(w, want[0]) < (type ? 1e-12 : 1e-3));
      if (pairs[k].states) CHECK(distance(m, plain[2]) == 0);
      mx_array *all[] = {w32, w, g, m};
      call_release(all, 4), call_release(plain, 3), call_release(want, 1);
    }
}

/* Several weights at once are the same as one after the other. */
TEST(several_weights) {
  mx_array *one[2][3], *in[8], *out[2] = {NULL}, *each[1];
  const char *rates[2] = {"0.1", "0.2"};
  for (int j = 0; j < 2; j++)
    for (int i = 0; i < 3; i++) {
      one[j][i] = weights(MX_FLOAT32, (uint64_t)(10 + 3 * j + i));
      in[3 * j + i] = copy_of(one[j][i]);
    }
  double lrs[2] = {0.1, 0.2}, wds[2] = {0, 0};
  in[6] = call_array(MX_FLOAT32, mx_shape_of(2), lrs), in[7] = call_array(MX_FLOAT32, mx_shape_of(2), wds);
  REQUIRE_OK(call_op("preloaded_multi_sgd_mom_update", ATTRS("momentum", "0.5", "num_weights", "2"), in, 8, out, 2),
             call_error);
  for (int j = 0; j < 2; j++) {
    each[0] = NULL;
    REQUIRE_OK(call_op("sgd_mom_update", ATTRS("momentum", "0.5", "lr", rates[j]), one[j], 3, each, 1), call_error);
    CHECK(distance(each[0], out[j]) < 1e-6);
    CHECK(distance(one[j][2], in[3 * j + 2]) < 1e-6);
    call_release(each, 1);
  }
  call_release(in, 8), call_release(out, 2), call_release(one[0], 3), call_release(one[1], 3);
}

static void adamw_formula(const double *w, const double *g, double *m, double *v, double *out, double factor, double lr,
                          double eta, double wd) {
  for (int i = 0; i < N; i++) {
    double d = factor * g[i];
    m[i] = 0.9 * m[i] + 0.1 * d;
    v[i] = 0.999 * v[i] + 0.001 * d * d;
    out[i] = w[i] - eta * (lr * m[i] / (sqrt(v[i]) + 1e-8) + wd * w[i]);
  }
}
TEST(adamw) {
  const char *const multi[] = {"lrs",   "(0.1,)", "wds",   "(0.05,)", "etas", "(0.5,)",
                               "beta1", "0.9",    "beta2", "0.999",   NULL};
  const char *const plain[] = {"lr", "0.1", "wd", "0.05", "eta", "0.5", "beta1", "0.9", "beta2", "0.999", NULL};
  static double want[N];
  for (int k = 0; k < 2; k++) {
    double factor = 0.25;
    mx_array *in[5] = {weights(MX_FLOAT64, 1), weights(MX_FLOAT64, 2), weights(MX_FLOAT64, 3), positive(MX_FLOAT64, 4),
                       call_array(MX_FLOAT32, mx_shape_of(1), &factor)};
    mx_array *m = copy_of(in[2]), *v = copy_of(in[3]), *out[1] = {NULL};
    adamw_formula(mx_array_data(in[0]), mx_array_data(in[1]), mx_array_data(m), mx_array_data(v), want, factor, 0.1,
                  0.5, 0.05);
    REQUIRE_OK(call_op(k ? "_multi_adamw_update" : "_adamw_update", k ? multi : plain, in, 5, out, 1), call_error);
    double worst = distance(in[2], m) + distance(in[3], v);
    for (int i = 0; i < N; i++) worst = fmax(worst, fabs(call_value(out[0], i) - want[i]));
    CHECK(worst < 1e-8);
    /* an overflow in the scaled loss leaves everything as it was */
    ((float *)mx_array_data(in[4]))[0] = INFINITY;
    mx_array *again[1] = {NULL};
    REQUIRE_OK(call_op(k ? "_multi_adamw_update" : "_adamw_update", k ? multi : plain, in, 5, again, 1), call_error);
    CHECK(distance(again[0], in[0]) == 0 && distance(in[2], m) < 1e-8);
    call_release(in, 5), call_release(out, 1), call_release(again, 1);
    mx_array_release(m), mx_array_release(v);
  }
}
TEST(adamw_with_half_weights) {
  double factor = 1;
  mx_array *in[6] = {call_random(MX_FLOAT16, mx_shape_of(N), -1, 1, 1),
                     weights(MX_FLOAT16, 2),
                     weights(MX_FLOAT32, 3),
                     positive(MX_FLOAT32, 4),
                     weights(MX_FLOAT32, 5),
                     call_array(MX_FLOAT32, mx_shape_of(1), &factor)};
  mx_array *single[6], *out[2] = {NULL, NULL};
  for (int i = 0; i < 6; i++) single[i] = copy_of(in[i]);
  REQUIRE_OK(call_op("_mp_adamw_update", ATTRS("lr", "0.1", "eta", "1"), single, 6, &out[0], 1), call_error);
  REQUIRE_OK(
      call_op("_multi_mp_adamw_update", ATTRS("lrs", "(0.1,)", "etas", "(1,)", "wds", "(0,)"), in, 6, &out[1], 1),
      call_error);
  CHECK(distance(out[0], out[1]) == 0 && distance(in[4], single[4]) == 0);
  CHECK(distance(out[0], single[4]) < 1e-3);
  call_release(in, 6), call_release(single, 6), call_release(out, 2);
}

/* The whole of LAMB is its two phases with the norms between them. */
TEST(lamb) {
  for (int bias = 0; bias < 2; bias++) {
    const char *flag = bias ? "True" : "False";
    mx_array *in[4] = {weights(MX_FLOAT64, 1), weights(MX_FLOAT64, 2), weights(MX_FLOAT64, 3), positive(MX_FLOAT64, 4)};
    mx_array *two[4], *step[4] = {NULL}, *whole[1] = {NULL}, *last[1] = {NULL};
    for (int i = 0; i < 4; i++) two[i] = copy_of(in[i]);
    REQUIRE_OK(
        call_op("lamb_update_phase1", ATTRS("t", "3", "wd", "0.1", "bias_correction", flag), two, 4, &step[1], 1),
        call_error);
    double r1 = 0, r2 = 0;
    for (int i = 0; i < N; i++) {
      r1 += call_value(in[0], i) * call_value(in[0], i);
      r2 += call_value(step[1], i) * call_value(step[1], i);
    }
    r1 = sqrt(r1), r2 = sqrt(r2);
    step[0] = two[0];
    step[2] = call_array(MX_FLOAT64, mx_shape_of(1), &r1), step[3] = call_array(MX_FLOAT64, mx_shape_of(1), &r2);
    REQUIRE_OK(call_op("lamb_update_phase2", ATTRS("lr", "0.01", "upper_bound", "50"), step, 4, last, 1), call_error);
    mx_threads_set(2);
    REQUIRE_OK(call_op("_multi_lamb_update",
                       ATTRS("learning_rates", "(0.01,)", "wds", "(0.1,)", "step_count", "(3,)", "upper_bound", "50",
                             "bias_correction", flag),
                       in, 4, whole, 1),
               call_error);
    mx_threads_set(0);
    CHECK(distance(last[0], whole[0]) < 1e-12);
    CHECK(distance(in[2], two[2]) < 1e-15 && distance(in[3], two[3]) < 1e-15);
    call_release(in, 4), call_release(two, 4), call_release(whole, 1), call_release(last, 1), call_release(step + 1, 3);
  }
  mx_array *mp[5] = {call_random(MX_FLOAT16, mx_shape_of(N), -1, 1, 1), weights(MX_FLOAT16, 2), weights(MX_FLOAT32, 3),
                     positive(MX_FLOAT32, 4), weights(MX_FLOAT32, 5)};
  mx_array *before = copy_of(mp[4]), *over[1] = {mp[0]};
  REQUIRE_OK(call_op("_multi_mp_lamb_update", ATTRS("learning_rates", "(0.01,)", "wds", "(0.1,)", "step_count", "(3,)"),
                     mp, 5, over, 1),
             call_error);
  CHECK(distance(mp[4], before) > 1e-3);
  CHECK(distance(mp[4], mp[0]) < 1e-3);
  mx_array_release(before);
  call_release(mp, 5);
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(in_place_and_threads_change_nothing);
  RUN(empty_weights);
  RUN(arrays_that_do_not_fit);
  RUN(half_weights_follow_their_float_copy);
  RUN(several_weights);
  RUN(adamw);
  RUN(adamw_with_half_weights);
  RUN(lamb);
  return check_finish();
}
