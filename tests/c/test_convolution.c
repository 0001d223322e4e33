/* Convolutions of large batches, which run in pieces: every image has the result that it has alone. */
#include "check.h"
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

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return 1;
  RUN(two_dimensions);
  RUN(one_channel);
  RUN(groups_and_strides);
  RUN(a_prime_number_of_images);
  RUN(channels_last);
  return check_finish();
}
