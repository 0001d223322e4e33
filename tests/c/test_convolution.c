/* Convolutions are cut into parts of the batch and blocks of channels: every image has the result that it has alone,
 * the gradients are those of one product in double precision, and the number of threads changes no bit. */
#include <stdlib.h>

#include "check.h"
#include "core/thread.h"
#include "ops/op.h"

static mx_device *cpu;
static mx_error err;

static mx_array *array(mx_shape shape, unsigned seed) {
  mx_array *a = NULL;
  CHECK_OK(mx_array_new(cpu, &shape, MX_FLOAT32, &a, &err), err);
  float *x = mx_array_data(a);
  for (int64_t i = 0; i < mx_array_size(a); i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(seed >> 8) / (float)(1 << 24) - 0.5f;
  }
  return a;
}

static mx_array *convolve(mx_array *x, mx_array *w, mx_array *b, const char *const *attrs) {
  mx_dict d = MX_DICT_EMPTY;
  for (int i = 0; attrs[i]; i += 2) CHECK_OK(mx_dict_set(&d, attrs[i], attrs[i + 1], &err), err);
  mx_array *in[3] = {x, w, b}, *out = NULL;
  CHECK_OK(mx_invoke(mx_op_find("Convolution"), &d, in, 3, &out, 1, cpu, false, &err), err);
  mx_dict_free(&d);
  return out;
}

/* The whole batch against one image at a time. */
static void images_do_not_mix(mx_shape data, mx_shape weight, const char *const *attrs) {
  mx_array *x = array(data, 1), *w = array(weight, 2), *b = array(mx_shape_of(weight.dim[0]), 3);
  mx_array *all = convolve(x, w, b, attrs);
  mx_shape one = data, out = all->shape;
  int64_t each = mx_array_size(x) / data.dim[0], each_out = mx_array_size(all) / data.dim[0];
  one.dim[0] = out.dim[0] = 1;
  double worst = 0;
  for (int64_t i = 0; i < data.dim[0]; i++) {
    mx_array *image = NULL;
    REQUIRE_OK(mx_array_view(x, i * each, &one, &image, &err), err);
    mx_array *alone = convolve(image, w, b, attrs);
    REQUIRE(mx_shape_equal(&alone->shape, &out));
    const float *p = (const float *)mx_array_data(all) + i * each_out, *q = mx_array_data(alone);
    for (int64_t k = 0; k < each_out; k++) worst = fmax(worst, fabs(p[k] - q[k]));
    mx_array_release(image);
    mx_array_release(alone);
  }
  CHECK_NEAR(worst, 0, 1e-4);
  mx_array_release(x), mx_array_release(w), mx_array_release(b), mx_array_release(all);
}

TEST(two_dimensions) {
  images_do_not_mix(mx_shape_of(48, 24, 28, 28), mx_shape_of(40, 24, 3, 3),
                    MX_STRINGS("kernel", "(3,3)", "pad", "(1,1)", "num_filter", "40"));
}
TEST(one_channel) {
  images_do_not_mix(mx_shape_of(96, 1, 28, 28), mx_shape_of(20, 1, 5, 5),
                    MX_STRINGS("kernel", "(5,5)", "num_filter", "20"));
}
TEST(groups_and_strides) {
  images_do_not_mix(mx_shape_of(30, 32, 31, 29), mx_shape_of(64, 16, 3, 3),
                    MX_STRINGS("kernel", "(3,3)", "stride", "(2,2)", "num_filter", "64", "num_group", "2"));
}
TEST(a_prime_number_of_images) {
  images_do_not_mix(mx_shape_of(37, 16, 32, 32), mx_shape_of(32, 16, 1, 1),
                    MX_STRINGS("kernel", "(1,1)", "num_filter", "32"));
}
TEST(channels_last) {
  images_do_not_mix(mx_shape_of(24, 33, 31, 16), mx_shape_of(32, 3, 3, 16),
                    MX_STRINGS("kernel", "(3,3)", "num_filter", "32", "layout", "NHWC"));
}

/* ---- forward and backward of every kind of cut ---- */

typedef struct layer {
  int64_t batch, channels, size, filters, kernel, stride, pad, dilate, groups;
} layer;

static const layer layers[] = {
    {16, 20, 12, 24, 5, 1, 0, 1, 1},  /* parts; channels that are no multiple of a vector */
    {37, 3, 16, 32, 3, 1, 1, 1, 1},   /* a prime number of images: each is a part */
    {4, 64, 20, 96, 3, 1, 1, 1, 1},   /* parts and blocks */
    {1, 64, 17, 128, 3, 2, 1, 1, 1},  /* blocks */
    {1, 128, 9, 64, 3, 1, 2, 2, 1},   /* dilated */
    {2, 256, 4, 256, 3, 1, 1, 1, 1},  /* more weights than data */
    {4, 32, 24, 64, 1, 1, 0, 1, 1},   /* products */
    {2, 64, 9, 128, 1, 1, 0, 1, 1},   /* with reorders */
    {2, 64, 47, 64, 1, 2, 0, 1, 1},   /* of every second pixel, without reorders */
    {3, 64, 12, 64, 1, 2, 0, 1, 1},   /* with them: the last row and column are not seen */
    {1, 128, 14, 512, 1, 2, 0, 1, 1}, /* few pixels */
    {6, 16, 20, 32, 3, 1, 1, 1, 4},   /* groups */
    {5, 32, 20, 32, 3, 1, 1, 1, 32},  /* a group a channel */
    {3, 5, 9, 6, 2, 1, 0, 1, 1},
};

/* out: y or dx, dw, db. Call with numbers of `dtype`; returns arrays of that type. */
static void run_layer(const layer *l, const char *op, mx_dtype dtype, mx_array **in, int n_in, mx_array **out,
                      int n_out) {
  mx_dict d = MX_DICT_EMPTY;
  char text[5][32];
  const char *keys[] = {"kernel", "stride", "pad", "dilate", "num_filter"};
  const int64_t value[] = {l->kernel, l->stride, l->pad, l->dilate};
  for (int i = 0; i < 5; i++) {
    if (i < 4) snprintf(text[i], sizeof(text[i]), "(%lld,%lld)", (long long)value[i], (long long)value[i]);
    if (i == 4) snprintf(text[i], sizeof(text[i]), "%lld", (long long)l->filters);
    CHECK_OK(mx_dict_set(&d, keys[i], text[i], &err), err);
  }
  snprintf(text[0], sizeof(text[0]), "%lld", (long long)l->groups);
  CHECK_OK(mx_dict_set(&d, "num_group", text[0], &err), err);
  mx_array *converted[3] = {NULL};
  for (int i = 0; i < n_in; i++) {
    CHECK_OK(mx_array_new(cpu, &in[i]->shape, dtype, &converted[i], &err), err);
    mx_convert(mx_array_data(in[i]), MX_FLOAT32, mx_array_data(converted[i]), dtype, mx_array_size(in[i]));
  }
  for (int i = 0; i < n_out; i++) out[i] = NULL;
  CHECK_OK(mx_invoke(mx_op_find(op), &d, converted, n_in, out, n_out, cpu, true, &err), err);
  for (int i = 0; i < n_in; i++) mx_array_release(converted[i]);
  mx_dict_free(&d);
}

/* One result against double precision, and with 2 and 3 threads against one. */
static void check_result(const layer *l, const char *what, const mx_array *got, const mx_array *exact, bool bits) {
  const float *x = mx_array_data(got);
  const double *y = bits ? NULL : mx_array_data(exact);
  for (int64_t i = 0; i < mx_array_size(got); i++) {
    if (bits ? memcmp(&x[i], (const float *)mx_array_data(exact) + i, sizeof(float)) == 0
             : fabs(x[i] - y[i]) <= 1e-4 * (1 + fabs(y[i])))
      continue;
    check_report(__FILE__, __LINE__, "layer %d: %s[%lld] is %.9g, expected %.9g", (int)(l - layers), what, (long long)i,
                 x[i], bits ? ((const float *)mx_array_data(exact))[i] : y[i]);
    return;
  }
}

TEST(any_cut_gives_the_numbers_of_one_product_with_any_number_of_threads) {
  static const char *const what[] = {"output", "gradient of data", "gradient of weight", "gradient of bias"};
  for (const layer *l = layers; l < layers + sizeof(layers) / sizeof(*layers); l++) {
    const int64_t out = (l->size + 2 * l->pad - l->dilate * (l->kernel - 1) - 1) / l->stride + 1;
    mx_array *x = array(mx_shape_of(l->batch, l->channels, l->size, l->size), 1),
             *w = array(mx_shape_of(l->filters, l->channels / l->groups, l->kernel, l->kernel), 2),
             *b = array(mx_shape_of(l->filters), 3), *dy = array(mx_shape_of(l->batch, l->filters, out, out), 4);
    mx_array *forward[3] = {x, w, b}, *backward[3] = {dy, x, w}, *exact[4], *one[4], *more[4];
    run_layer(l, "Convolution", MX_FLOAT64, forward, 3, exact, 1);
    run_layer(l, "_backward_Convolution", MX_FLOAT64, backward, 3, exact + 1, 3);
    mx_threads_forced = true;
    for (int threads = 1; threads <= 3; threads++) {
      mx_array **result = threads == 1 ? one : more;
      mx_threads_set(threads);
      mx_invoke_clear_cache(); /* prepared again, for this number of threads */
      run_layer(l, "Convolution", MX_FLOAT32, forward, 3, result, 1);
      run_layer(l, "_backward_Convolution", MX_FLOAT32, backward, 3, result + 1, 3);
      for (int i = 0; i < 4; i++) check_result(l, what[i], result[i], threads == 1 ? exact[i] : one[i], threads > 1);
      for (int i = 0; i < 4 && threads > 1; i++) mx_array_release(more[i]);
    }
    mx_threads_forced = false;
    mx_threads_set(0);
    for (int i = 0; i < 4; i++) mx_array_release(exact[i]), mx_array_release(one[i]);
    mx_array_release(x), mx_array_release(w), mx_array_release(b), mx_array_release(dy);
  }
}

/* A layer that was prepared for two threads runs with fewer and with more. */
TEST(threads_may_change_after_preparing) {
  const layer *l = &layers[2];
  mx_array *in[3] = {array(mx_shape_of(l->batch, l->channels, l->size, l->size), 1),
                     array(mx_shape_of(l->filters, l->channels, l->kernel, l->kernel), 2),
                     array(mx_shape_of(l->filters), 3)};
  mx_array *first = NULL, *next = NULL;
  for (int threads = 2; threads <= 6; threads += 2) {
    mx_threads_set(threads % 5);
    run_layer(l, "Convolution", MX_FLOAT32, in, 3, &next, 1);
    if (!first) first = mx_array_retain(next);
    check_result(l, "output", next, first, true);
    mx_array_release(next);
  }
  mx_threads_set(0);
  mx_array_release(first);
  for (int i = 0; i < 3; i++) mx_array_release(in[i]);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return 1;
  RUN(two_dimensions);
  RUN(one_channel);
  RUN(groups_and_strides);
  RUN(a_prime_number_of_images);
  RUN(channels_last);
  RUN(any_cut_gives_the_numbers_of_one_product_with_any_number_of_threads);
  RUN(threads_may_change_after_preparing);
  return check_finish();
}
