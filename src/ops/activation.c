/* Activation and LeakyReLU: names for rows of scalar.def, chosen by act_type. */
#include <string.h>

#include "core/random.h"
#include "ops/elementwise.h"

#define FAMILY "Neural-network layers"

/* ---- Activation ---- */

typedef struct activation_params {
  int act_type;
} activation_params;

static const mx_param activation_table[] = {
    MX_P_ENUM(activation_params, act_type, NULL, MX_STRINGS("relu", "sigmoid", "softrelu", "softsign", "tanh"),
              "The function."),
    MX_P_END};

static const mx_elementwise *map_activation(const void *params) {
  static const mx_elementwise map[] = {{.row = MX_ROW_relu, .backward = {"_backward_relu"}},
                                       {.row = MX_ROW_sigmoid, .backward = {"_backward_sigmoid"}},
                                       {.row = MX_ROW_softrelu, .backward = {"_backward_softrelu"}},
                                       {.row = MX_ROW_softsign, .backward = {"_backward_softsign"}},
                                       {.row = MX_ROW_tanh, .backward = {"_backward_tanh"}}};
  return &map[((const activation_params *)params)->act_type];
}

/* ---- LeakyReLU ---- */

typedef enum leaky_type { ELU, GELU, LEAKY, PRELU, RRELU, SELU } leaky_type;

typedef struct leaky_params {
  int act_type;
  double slope, lower_bound, upper_bound;
  double mean_slope; /* of rrelu, when it draws none */
} leaky_params;

static const mx_param leaky_table[] = {
    MX_P_ENUM(leaky_params, act_type, "leaky", MX_STRINGS("elu", "gelu", "leaky", "prelu", "rrelu", "selu"),
              "The function."),
    MX_P_FLOAT(leaky_params, slope, "0.25", MX_ANY, "Slope below 0 of leaky; the limit of elu is -slope."),
    MX_P_FLOAT(leaky_params, lower_bound, "0.125", MX_ANY, "Smallest random slope of rrelu."),
    MX_P_FLOAT(leaky_params, upper_bound, "0.334", MX_ANY, "Largest random slope of rrelu."), MX_P_END};

static mx_status leaky_check(void *params, mx_error *err) {
  leaky_params *p = params;
  if (p->act_type == RRELU && !(p->lower_bound <= p->upper_bound)) {
    mx_fail(err, MX_ERR_VALUE, "lower_bound is %g, which is more than upper_bound, %g.", p->lower_bound,
            p->upper_bound);
    mx_error_set(err, argument, "lower_bound");
    mx_error_set(err, expected, "at most %g", p->upper_bound);
    mx_error_set(err, actual, "%g", p->lower_bound);
    return MX_ERR_VALUE;
  }
  p->mean_slope = (p->lower_bound + p->upper_bound) / 2;
  return MX_OK;
}

static int leaky_inputs(const void *params) { return ((const leaky_params *)params)->act_type == PRELU ? 2 : 1; }
static int leaky_outputs(const void *params) { return ((const leaky_params *)params)->act_type == RRELU ? 2 : 1; }
static bool leaky_draws(const void *params) { return ((const leaky_params *)params)->act_type == RRELU; }

static mx_status leaky_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape s = in[0];
  for (int i = 0; i < n_out; i++) MX_TRY(mx_shape_merge(&s, &out[i], i ? "mask" : "output", err));
  in[0] = s;
  for (int i = 0; i < n_out; i++) out[i] = s;
  if (n_in < 2 || s.ndim < 0) return MX_OK;
  int64_t channels = s.ndim > 1 ? s.dim[1] : 1;
  if (in[1].ndim == 1 && in[1].dim[0] == 1) return MX_OK; /* one slope for all */
  mx_shape gamma = mx_shape_of(channels);
  return mx_shape_merge(&in[1], &gamma, "gamma", err);
}

#define SLOPE(name) \
  { .kind = MX_FROM_PARAM, .offset = offsetof(leaky_params, name) }
#define CHANNELS \
  { .kind = MX_FROM_INPUT, .axis = 2 } /* gamma is aligned with dimension 1 */
#define DATA \
  { .kind = MX_FROM_INPUT }

/* NULL for rrelu: in training it is not elementwise. */
static const mx_elementwise *map_leaky(const void *params) {
  static const mx_elementwise map[] = {
      [ELU] = {.row = MX_ROW_elu, .operand = {DATA, SLOPE(slope)}, .backward = {"_backward_elu"}},
      [GELU] = {.row = MX_ROW_gelu, .backward = {"_backward_gelu"}},
      [LEAKY] = {.row = MX_ROW_leaky, .operand = {DATA, SLOPE(slope)}, .backward = {"_backward_leaky"}},
      [PRELU] = {.row = MX_ROW_leaky,
                 .operand = {DATA, CHANNELS},
                 .backward = {"_backward_prelu_data", "_backward_prelu_gamma"}},
      [SELU] = {.row = MX_ROW_selu, .backward = {"_backward_selu"}}};
  int type = ((const leaky_params *)params)->act_type;
  return type == RRELU ? NULL : &map[type];
}
MX_ELEMENTWISE(backward_elu, elu_da, .operand = {DATA, DATA, SLOPE(slope)})
MX_ELEMENTWISE(backward_leaky, leaky_da, .operand = {DATA, DATA, SLOPE(slope)})
MX_ELEMENTWISE(backward_prelu_data, leaky_da, .operand = {DATA, DATA, CHANNELS})
MX_ELEMENTWISE(backward_prelu_gamma, leaky_db)

/* Slopes for a block of elements of data: 1 above 0, random below. */
static void draw_slopes(const leaky_params *p, mx_random_span span, int64_t begin, int64_t n, const double *x,
                        double *slope) {
  for (int64_t i = 0; i < n; i += 4) {
    uint32_t u[4];
    mx_philox(span, (uint64_t)(begin + i) / 4, 0, u);
    for (int64_t k = i; k < n && k < i + 4; k++) {
      double drawn = p->lower_bound + (p->upper_bound - p->lower_bound) * (double)mx_uniform_float(u[k - i]);
      slope[k] = x[k] > 0 ? 1 : drawn;
    }
  }
}

static mx_status rrelu(const mx_call *c) {
  const leaky_params *p = c->params;
  const mx_tensor *x = &c->in[0], *y = &c->out[0], *mask = &c->out[1];
  size_t size = mx_dtype_size(x->dtype);
  int64_t n = mx_shape_size(&x->shape), blocks = (n + MX_ROW_BLOCK - 1) / MX_ROW_BLOCK;
  mx_random_span span = {0};
  if (c->is_train) span = mx_random_take((uint64_t)(n + 3) / 4);
  mx_kind kind = x->dtype == MX_FLOAT64 ? MX_KIND_DOUBLE : MX_KIND_FLOAT;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t b = 0; b < blocks; b++) {
    double value[MX_ROW_BLOCK], slope[MX_ROW_BLOCK];
    _Alignas(64) char block[MX_ROW_BLOCK * 8];
    int64_t begin = b * MX_ROW_BLOCK, m = n - begin < MX_ROW_BLOCK ? n - begin : MX_ROW_BLOCK;
    size_t at = (size_t)begin * size;
    mx_block_load(value, MX_KIND_DOUBLE, (const char *)x->data + at, x->dtype, 1, false, m);
    if (c->is_train)
      draw_slopes(p, span, begin, m, value, slope);
    else
      for (int64_t i = 0; i < m; i++) slope[i] = value[i] > 0 ? 1 : p->mean_slope;
    for (int64_t i = 0; i < m; i++) value[i] *= slope[i];
    if (c->req[0] != MX_NULL) {
      mx_block_load(block, kind, value, MX_FLOAT64, 1, false, m);
      mx_block_store((char *)y->data + at, y->dtype, block, kind, c->req[0] == MX_ADD, m);
    }
    if (c->req[1] != MX_NULL) {
      mx_block_load(block, kind, slope, MX_FLOAT64, 1, false, m);
      mx_block_store((char *)mask->data + at, mask->dtype, block, kind, c->req[1] == MX_ADD, m);
    }
  }
  return MX_OK;
}

static mx_status leaky_kernel(const mx_call *c, mx_error *err) {
  return map_leaky(c->params) ? mx_elementwise_kernel(c, err) : rrelu(c);
}

static mx_status leaky_gradient(mx_grad *g, mx_error *err) {
  if (map_leaky(g->params)) return mx_elementwise_gradient(g, err);
  if (!g->wanted[0] || !g->out_grad[0].node) return MX_OK;
  return mx_grad_call(g, "elemwise_mul", NULL, (const mx_entry[]){g->out_grad[0], g->out[1]}, 2, &g->in_grad[0], err);
}

static void leaky_out_name(const void *params, int i, char *buf, size_t size) {
  const char *name = i ? "mask" : "output";
  strncpy(buf, name, size - 1);
  buf[size - 1] = 0;
}

static mx_status prelu_data_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &in[0], "output", err);
}

/* ---- records ---- */

#define WITH_SLOPES .params = leaky_table, .params_size = sizeof(leaky_params), .check = leaky_check

const mx_op mx_ops_activation[] = {
    {.name = "Activation",
     .family = FAMILY,
     .doc = "An activation function, elementwise: relu, max(data, 0); sigmoid, 1 / (1 + exp(-data)); softrelu, "
            "log(1 + exp(data)); softsign, data / (1 + |data|); tanh.",
     .in_doc = MX_STRINGS("Any shape."),
     .params = activation_table,
     .params_size = sizeof(activation_params),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(activation, 1, 0)},
    {.name = "LeakyReLU",
     .family = FAMILY,
     .doc = "Rectifiers that do not vanish below 0; data itself above it. Below 0, leaky is slope * data; elu is "
            "slope * (exp(data) - 1); prelu is gamma * data, with a learned gamma for each channel; rrelu is s * data, "
            "with "
            "s drawn for each element from [lower_bound, upper_bound] in training and their mean in inference. selu is "
            "elu "
            "with fixed constants that keep mean and variance; gelu is data * Phi(data), with the normal distribution "
            "function Phi.",
     .in_doc = MX_STRINGS("Any shape; channels are dimension 1.", "(channels,) or (1,); prelu only."),
     .in_names = MX_STRINGS("data", "gamma"),
     .in_init = MX_STRINGS("", "[\"Constant\", {\"value\": 0.25}]"),
     .source =
         "He et al., Delving deep into rectifiers, 2015; Clevert et al., Exponential linear units, 2016; Klambauer et "
         "al., Self-normalizing neural networks, 2017; Hendrycks and Gimpel, Gaussian error linear units, 2016",
     WITH_SLOPES,
     .n_in = 1,
     .n_out = 1,
     .count_in = leaky_inputs,
     .count_out = leaky_outputs,
     .out_name = leaky_out_name,
     .infer_shape = leaky_infer,
     .gradient = leaky_gradient,
     .aliases_mem = mx_elementwise_alias[1],
     .flags = MX_OP_ADDS | MX_OP_RANDOM,
     .draws = leaky_draws,
     .kernel = leaky_kernel,
     .elementwise = map_leaky},
    {.name = "_backward_elu", WITH_SLOPES, MX_DERIVATIVE_RECORD(backward_elu, 2, FAMILY)},
    {.name = "_backward_leaky", WITH_SLOPES, MX_DERIVATIVE_RECORD(backward_leaky, 2, FAMILY)},
    {.name = "_backward_prelu_data",
     .family = FAMILY,
     .n_in = 3,
     .n_out = 1,
     .infer_shape = prelu_data_infer,
     .aliases_mem = mx_elementwise_alias[2],
     .flags = MX_OP_ADDS | MX_OP_HIDDEN,
     .kernel = mx_elementwise_kernel,
     .elementwise = map_backward_prelu_data},
    {.name = "_backward_prelu_gamma", MX_DERIVATIVE_RECORD(backward_prelu_gamma, 2, FAMILY)},
    {0}};
