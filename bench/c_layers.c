/* Times layers in isolation, and whole training steps, without R:
 *   make -C tests/c bench && build/c/c_layers [PART OF A NAME ...]
 * For every layer of LeNet (batch 128), ResNet-18 on 32 x 32 (batch 32), ResNet-50 (batch 8): forward in training, and
 * backward, in milliseconds, with GFLOP/s for products and GB/s (arrays read and written once) for the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/array.h"
#include "core/thread.h"
#include "graph/executor.h"
#include "graph/symbol.h"

static mx_error err;
static mx_device *device;

static void stop(void) {
  fprintf(stderr, "%s\n", err.message);
  exit(1);
}
#define OK(expr) \
  if ((expr) != MX_OK) stop()

/* With one thread the time of the process, which other programs disturb less. */
static double now(void) {
  struct timespec t;
  clock_gettime(mx_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* op(inputs..., key = value, ...): attributes as "key=value key=value". */
static mx_symbol *apply(const char *op, const char *name, const char *attrs, mx_symbol **in, int n) {
  mx_dict d = MX_DICT_EMPTY;
  char text[256], *rest = text;
  mx_symbol *out;
  snprintf(text, sizeof(text), "%s", attrs);
  for (char *pair; (pair = strsep(&rest, " ")) != NULL;) {
    char *value = strchr(pair, '=');
    if (!value) continue;
    *value++ = 0;
    OK(mx_dict_set(&d, pair, value, &err));
  }
  OK(mx_symbol_apply(mx_op_find(op), op, name, &d, NULL, in, n, &out, &err));
  mx_dict_free(&d);
  for (int i = 0; i < n; i++) mx_symbol_release(in[i]);
  return out;
}
static mx_symbol *layer(const char *op, const char *name, const char *attrs, mx_symbol *in) {
  return apply(op, name, attrs, &in, 1);
}

/* ---- running ---- */

typedef struct bound {
  mx_executor *executor;
  mx_array *args[512], *grads[512], *aux[512], *heads[8];
  int n_args, n_aux;
  double bytes, weights; /* of arrays; elements of the largest argument but data */
} bound;

static mx_array *filled(const mx_shape *shape, float scale, float shift) {
  mx_array *a;
  OK(mx_array_new(device, shape, MX_FLOAT32, &a, &err));
  float *x = mx_array_data(a);
  uint32_t u = 1;
  for (int64_t i = 0; i < mx_array_size(a); i++)
    x[i] = shift + scale * ((float)((u = u * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f);
  return a;
}

static void bind(mx_symbol *s, mx_shape data, bool data_gradient, bound *b) {
  mx_symbol_shapes shapes;
  mx_names names;
  const char *key = "data";
  mx_req reqs[512];
  memset(b, 0, sizeof(*b));
  OK(mx_symbol_infer_shape(s, &key, &data, 1, &shapes, &err));
  OK(mx_symbol_arguments(s, &names, &err));
  b->n_args = names.n, b->n_aux = shapes.n_aux;
  for (int i = 0; i < names.n; i++) {
    const char *n = names.v[i];
    const bool is_data = !strcmp(n, "data"), scale = strstr(n, "gamma") != NULL;
    b->args[i] =
        strstr(n, "label") ? filled(&shapes.args[i], 0, 3) : filled(&shapes.args[i], is_data ? 1 : 0.1f, scale);
    const double size = (double)mx_array_size(b->args[i]);
    if (!is_data && size > b->weights) b->weights = size;
    if (is_data) b->bytes += 4 * size;
    reqs[i] = strstr(n, "label") || (is_data && !data_gradient) ? MX_NULL : MX_WRITE;
    if (reqs[i] != MX_NULL) OK(mx_array_zeros(device, &shapes.args[i], MX_FLOAT32, &b->grads[i], &err));
  }
  for (int i = 0; i < shapes.n_aux; i++) b->aux[i] = filled(&shapes.aux[i], 0, 1);
  OK(mx_executor_bind(s, device, b->args, b->grads, reqs, b->aux, &b->executor, &err));
  OK(mx_executor_forward(b->executor, true, &err));
  for (int i = 0; i < mx_executor_count_outputs(b->executor); i++) {
    mx_array *y = mx_executor_output(b->executor, i);
    b->heads[i] = filled(&y->shape, 1, 0);
    if (i == 0) b->bytes += 4 * (double)mx_array_size(y);
  }
  OK(mx_executor_backward(b->executor, b->heads, mx_executor_count_outputs(b->executor), &err));
  mx_symbol_shapes_free(&shapes);
  mx_names_free(&names);
}

static void unbind(bound *b) {
  mx_executor_release(b->executor);
  for (int i = 0; i < b->n_args; i++) mx_array_release(b->args[i]), mx_array_release(b->grads[i]);
  for (int i = 0; i < b->n_aux; i++) mx_array_release(b->aux[i]);
  for (int i = 0; i < 8; i++) mx_array_release(b->heads[i]);
}

enum { FORWARD = 1, BACKWARD = 2, INFERENCE = 4 };

/* Seconds of one run: the least over some repetitions. */
static double measure(bound *b, int what) {
  double best = 1e9;
  for (int r = 0; r < 7; r++) {
    int n = 0;
    double start = now(), t;
    do {
      if (what & (FORWARD | INFERENCE)) OK(mx_executor_forward(b->executor, !(what & INFERENCE), &err));
      if (what & BACKWARD)
        OK(mx_executor_backward(b->executor, b->heads, mx_executor_count_outputs(b->executor), &err));
      n++;
      t = now() - start;
    } while (t < 0.04);
    if (t / n < best) best = t / n;
  }
  return best;
}

/* ---- layers ---- */

typedef struct row {
  const char *net, *name, *op, *attrs;
  mx_shape data;
  bool first; /* needs no gradient of data */
} row;

#define CONV(net, name, k, s, p, f, n, c, h, first)                                                      \
  {                                                                                                      \
    net, name, "Convolution",                                                                            \
        "kernel=(" #k "," #k ") stride=(" #s "," #s ") pad=(" #p "," #p ") no_bias=True num_filter=" #f, \
        {4, {n, c, h, h}}, first                                                                         \
  }
#define BN(net, name, n, c, h) \
  { net, name, "BatchNorm", "fix_gamma=False eps=1e-5", {4, {n, c, h, h}}, false }

static const row rows[] = {
    {"lenet", "conv1", "Convolution", "kernel=(5,5) num_filter=20", {4, {128, 1, 28, 28}}, true},
    {"lenet", "tanh1", "Activation", "act_type=tanh", {4, {128, 20, 24, 24}}, false},
    {"lenet", "pool1", "Pooling", "pool_type=max kernel=(2,2) stride=(2,2)", {4, {128, 20, 24, 24}}, false},
    {"lenet", "conv2", "Convolution", "kernel=(5,5) num_filter=50", {4, {128, 20, 12, 12}}, false},
    {"lenet", "tanh2", "Activation", "act_type=tanh", {4, {128, 50, 8, 8}}, false},
    {"lenet", "pool2", "Pooling", "pool_type=max kernel=(2,2) stride=(2,2)", {4, {128, 50, 8, 8}}, false},
    {"lenet", "fc1", "FullyConnected", "num_hidden=500", {2, {128, 800}}, false},
    {"lenet", "fc2", "FullyConnected", "num_hidden=10", {2, {128, 500}}, false},
    {"mlp", "fc1", "FullyConnected", "num_hidden=128", {2, {100, 784}}, true},
    {"mlp", "fc1, one sample", "FullyConnected", "num_hidden=128", {2, {1, 784}}, true},
    CONV("resnet18", "conv0", 3, 1, 1, 64, 32, 3, 32, true),
    CONV("resnet18", "conv 64", 3, 1, 1, 64, 32, 64, 32, false),
    CONV("resnet18", "conv 64-128/2", 3, 2, 1, 128, 32, 64, 32, false),
    CONV("resnet18", "conv 128", 3, 1, 1, 128, 32, 128, 16, false),
    CONV("resnet18", "conv 256", 3, 1, 1, 256, 32, 256, 8, false),
    CONV("resnet18", "conv 512", 3, 1, 1, 512, 32, 512, 4, false),
    CONV("resnet18", "shortcut 64-128/2", 1, 2, 0, 128, 32, 64, 32, false),
    BN("resnet18", "bn 64", 32, 64, 32),
    BN("resnet18", "bn 512", 32, 512, 4),
    {"resnet18", "relu", "Activation", "act_type=relu", {4, {32, 64, 32, 32}}, false},
    {"resnet18", "global pool", "Pooling", "pool_type=avg global_pool=True", {4, {32, 512, 4, 4}}, false},
    CONV("resnet50", "conv0", 7, 2, 3, 64, 8, 3, 224, true),
    {"resnet50",
     "pool0",
     "Pooling",
     "pool_type=max kernel=(3,3) stride=(2,2) pad=(1,1)",
     {4, {8, 64, 112, 112}},
     false},
    CONV("resnet50", "conv 64-256", 1, 1, 0, 256, 8, 64, 56, false),
    CONV("resnet50", "conv 256-64", 1, 1, 0, 64, 8, 256, 56, false),
    CONV("resnet50", "conv 2048-512", 1, 1, 0, 512, 8, 2048, 7, false),
    CONV("resnet50", "conv 512, one", 3, 1, 1, 512, 1, 512, 7, false),
    CONV("resnet50", "conv 2048-512, one", 1, 1, 0, 512, 1, 2048, 7, false),
    BN("resnet50", "bn 256", 8, 256, 56),
    {"other", "softmax", "softmax", "axis=-1", {2, {4096, 1000}}, false},
    {"other", "layernorm", "LayerNorm", "axis=-1", {2, {4096, 1024}}, false},
    {"other", "dropout", "Dropout", "p=0.5", {2, {1024, 1024}}, false},
    {"other", "lrn", "LRN", "nsize=5", {4, {32, 96, 27, 27}}, false},
    {"other",
     "depthwise",
     "Convolution",
     "kernel=(3,3) pad=(1,1) num_filter=128 num_group=128",
     {4, {32, 128, 28, 28}},
     false},
    {"other",
     "deconvolution",
     "Deconvolution",
     "kernel=(4,4) stride=(2,2) pad=(1,1) num_filter=96",
     {4, {32, 192, 7, 7}},
     false},
};

static bool picked(const char *net, const char *name, int argc, char **argv) {
  char text[128];
  snprintf(text, sizeof(text), "%s/%s", net, name);
  for (int i = 1; i < argc; i++)
    if (strstr(text, argv[i])) return true;
  return argc < 2;
}

static void time_layer(const row *r) {
  mx_symbol *data;
  OK(mx_symbol_variable("data", &data, &err));
  mx_symbol *s = layer(r->op, "x", r->attrs, data);
  bound b;
  bind(s, r->data, !r->first, &b);
  const bool product = strstr(r->op, "onvolution") || !strcmp(r->op, "FullyConnected");
  const mx_array *y = mx_executor_output(b.executor, 0);
  /* Every weight is used once per output place of its channel (input place for Deconvolution). */
  double places = (double)r->data.dim[0];
  const mx_shape *grid = !strcmp(r->op, "Deconvolution") ? &r->data : &y->shape;
  for (int i = 2; i < grid->ndim; i++) places *= (double)grid->dim[i];
  const double work = product ? 2e-9 * places * b.weights : 1e-9 * b.bytes;
  const double forward = measure(&b, FORWARD), backward = measure(&b, BACKWARD);
  const double passes = product ? (r->first ? 1 : 2) : 1.5;
  printf("%-9s %-20s %9.3f ms %7.1f %s   %9.3f ms %7.1f %s\n", r->net, r->name, 1e3 * forward, work / forward,
         product ? "GFLOP/s" : "GB/s   ", 1e3 * backward, passes * work / backward, product ? "GFLOP/s" : "GB/s");
  unbind(&b);
  mx_symbol_release(s);
}

/* ---- networks ---- */

static mx_symbol *variable(void) {
  mx_symbol *s;
  OK(mx_symbol_variable("data", &s, &err));
  return s;
}
static mx_symbol *mlp(void) {
  mx_symbol *s = layer("FullyConnected", NULL, "num_hidden=128", variable());
  s = layer("FullyConnected", NULL, "num_hidden=64", layer("Activation", NULL, "act_type=relu", s));
  s = layer("FullyConnected", NULL, "num_hidden=10", layer("Activation", NULL, "act_type=relu", s));
  return layer("SoftmaxOutput", "sm", "", s);
}
static mx_symbol *lenet(void) {
  mx_symbol *s = variable();
  for (int i = 0; i < 2; i++) {
    s = layer("Convolution", NULL, i == 0 ? "kernel=(5,5) num_filter=20" : "kernel=(5,5) num_filter=50", s);
    s = layer("Pooling", NULL, "pool_type=max kernel=(2,2) stride=(2,2)",
              layer("Activation", NULL, "act_type=tanh", s));
  }
  s = layer("FullyConnected", NULL, "num_hidden=500", layer("Flatten", NULL, "", s));
  s = layer("FullyConnected", NULL, "num_hidden=10", layer("Activation", NULL, "act_type=tanh", s));
  return layer("SoftmaxOutput", "sm", "", s);
}
static mx_symbol *conv_bn(mx_symbol *s, int filters, int kernel, int stride, bool relu) {
  char attrs[128];
  snprintf(attrs, sizeof(attrs), "num_filter=%d kernel=(%d,%d) stride=(%d,%d) pad=(%d,%d) no_bias=True", filters,
           kernel, kernel, stride, stride, kernel / 2, kernel / 2);
  s = layer("BatchNorm", NULL, "fix_gamma=False eps=1e-5", layer("Convolution", NULL, attrs, s));
  return relu ? layer("Activation", NULL, "act_type=relu", s) : s;
}
static mx_symbol *resnet(const int units[4], bool bottleneck, bool imagenet) {
  mx_symbol *s = conv_bn(variable(), 64, imagenet ? 7 : 3, imagenet ? 2 : 1, true);
  if (imagenet) s = layer("Pooling", NULL, "pool_type=max kernel=(3,3) stride=(2,2) pad=(1,1)", s);
  for (int stage = 0; stage < 4; stage++)
    for (int u = 0; u < units[stage]; u++) {
      const int stride = u == 0 && stage > 0 ? 2 : 1, filters = 64 << stage, out = bottleneck ? 4 * filters : filters;
      const bool project = u == 0 && (stage > 0 || bottleneck);
      mx_symbol *b = mx_symbol_retain(s), *pair[2];
      if (bottleneck) b = conv_bn(b, filters, 1, 1, true);
      b = conv_bn(b, filters, 3, stride, true);
      b = conv_bn(b, out, bottleneck ? 1 : 3, 1, false);
      pair[0] = b, pair[1] = project ? conv_bn(s, out, 1, stride, false) : s;
      s = layer("Activation", NULL, "act_type=relu", apply("elemwise_add", NULL, "", pair, 2));
    }
  s = layer("Flatten", NULL, "", layer("Pooling", NULL, "pool_type=avg global_pool=True", s));
  return layer("SoftmaxOutput", "sm", "",
               layer("FullyConnected", NULL, imagenet ? "num_hidden=1000" : "num_hidden=10", s));
}

static void time_net(const char *name, mx_symbol *s, mx_shape data, int what) {
  bound b;
  bind(s, data, false, &b);
  const double t = measure(&b, what);
  printf("%-30s %9.3f ms %9.1f samples/s\n", name, 1e3 * t, (double)data.dim[0] / t);
  unbind(&b);
  mx_symbol_release(s);
}

int main(int argc, char **argv) {
  static const int small[4] = {2, 2, 2, 2}, large[4] = {3, 4, 6, 3};
  OK(mx_device_get(MX_CPU, 0, &device, &err));
  printf("%d threads; forward, then backward\n", mx_threads());
  for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
    if (picked(rows[i].net, rows[i].name, argc, argv)) time_layer(&rows[i]);
  if (picked("net", "mlp one", argc, argv)) time_net("mlp, one sample, forward", mlp(), mx_shape_of(1, 784), INFERENCE);
  if (picked("net", "mlp", argc, argv)) time_net("mlp, batch 100", mlp(), mx_shape_of(100, 784), FORWARD | BACKWARD);
  if (picked("net", "lenet", argc, argv))
    time_net("lenet, batch 128", lenet(), mx_shape_of(128, 1, 28, 28), FORWARD | BACKWARD);
  if (picked("net", "resnet18", argc, argv))
    time_net("resnet18 32x32, batch 32", resnet(small, false, false), mx_shape_of(32, 3, 32, 32), FORWARD | BACKWARD);
  if (picked("net", "resnet50 infer 1", argc, argv))
    time_net("resnet50, one sample, forward", resnet(large, true, true), mx_shape_of(1, 3, 224, 224), INFERENCE);
  if (picked("net", "resnet50 train", argc, argv))
    time_net("resnet50, batch 8", resnet(large, true, true), mx_shape_of(8, 3, 224, 224), FORWARD | BACKWARD);
  return 0;
}
