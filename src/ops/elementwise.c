/* Elementwise operators: all of them evaluate rows of scalar.def. What is written here is how a record is made of a
 * row, the kernel and the gradient that these records share, and the few operators with parameters of their own. */
#include "ops/elementwise.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the kernel of all of them ---- */

void mx_elementwise_operands(const mx_call *c, const mx_elementwise *e, mx_operand operand[MX_MAX_OPERANDS]) {
  const mx_tensor *out = &c->out[0];
  memset(operand, 0, MX_MAX_OPERANDS * sizeof(*operand));
  for (int k = 0, next = 0; k < mx_rows[e->row].arity; k++) {
    const mx_source *s = &e->operand[k];
    mx_operand *o = &operand[k];
    if (s->kind == MX_FROM_INPUT) {
      const mx_tensor *t = &c->in[next++];
      o->data = t->data;
      o->dtype = t->dtype;
      o->truth = s->truth;
      mx_operand_strides(o, &t->shape, &out->shape, s->axis);
    } else {
      o->value = s->kind == MX_FROM_VALUE ? s->value : *(const double *)((const char *)c->params + s->offset);
      if (!mx_dtype_is_float(out->dtype)) o->value = trunc(o->value); /* integers meet integers */
    }
  }
}

mx_status mx_elementwise_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_elementwise *e = c->op->elementwise(c->params);
  mx_operand operand[MX_MAX_OPERANDS];
  mx_elementwise_operands(c, e, operand);
  const mx_tensor *out = &c->out[0];
  mx_row_apply(&mx_rows[e->row], operand, &out->shape, out->data, out->dtype, c->req[0] == MX_ADD);
  return MX_OK;
}

/* ---- the gradient of all of them ---- */

/* The operator's input that is operand k of its row, or -1 for a parameter. */
static int input_of(const mx_elementwise *e, int k) {
  int next = 0;
  for (int i = 0; i < k; i++) next += e->operand[i].kind == MX_FROM_INPUT;
  return e->operand[k].kind == MX_FROM_INPUT ? next : -1;
}

/* Appends the operator that evaluates the derivative of the row with respect to operand k. */
static mx_status derivative_node(mx_grad *g, const mx_elementwise *e, int k, mx_entry *out, mx_error *err) {
  const mx_row *d = &mx_rows[mx_rows[e->row].derivative[k].row];
  mx_entry in[MX_MAX_OPERANDS];
  int n = 0;
  for (int i = 0; i < d->arity; i++) {
    char letter = mx_row_letter(d, i);
    if (letter == 'g') {
      in[n++] = g->out_grad[0];
    } else if (letter == 'r') {
      in[n++] = g->out[0];
    } else {
      int input = input_of(e, letter - 'a');
      if (input >= 0) in[n++] = g->in[input];
    }
  }
  const mx_op *op = mx_op_find(e->backward[k]);
  if (!op) return mx_fail(err, MX_ERR_INTERNAL, "The operator %s is missing.", e->backward[k]);
  return op->params ? mx_grad_backward(g, op->name, in, n, out, err) : mx_grad_call(g, op->name, NULL, in, n, out, err);
}

mx_status mx_grad_reduce_to(mx_grad *g, mx_entry e, const mx_shape *shape, int axis, mx_entry *out, mx_error *err) {
  if (mx_shape_equal(mx_grad_shape(g, e), shape)) {
    *out = e;
    return MX_OK;
  }
  char text[MX_SHAPE_TEXT], place[16];
  snprintf(place, sizeof(place), "%d", axis);
  return mx_grad_call(g, "_reduce_to", (const char *const[]){"shape", mx_shape_text(shape, text), "axis", place, NULL},
                      &e, 1, out, err);
}

mx_status mx_elementwise_gradient(mx_grad *g, mx_error *err) {
  const mx_elementwise *e = g->op->elementwise(g->params);
  const mx_row *row = &mx_rows[e->row];
  if (!g->out_grad[0].node) return MX_OK;
  for (int k = 0; k < row->arity; k++) {
    int i = input_of(e, k);
    if (i < 0 || !g->wanted[i] || g->in_dtype[i] != g->out_dtype[0]) continue;
    mx_entry d = g->out_grad[0];
    switch (row->derivative[k].kind) {
      case MX_D_ZERO:
        continue;
      case MX_D_PASS:
        break;
      case MX_D_NEGATE:
        MX_TRY(mx_grad_call(g, "negative", NULL, &d, 1, &d, err));
        break;
      case MX_D_ROW:
        MX_TRY(derivative_node(g, e, k, &d, err));
        break;
    }
    MX_TRY(mx_grad_reduce_to(g, d, &g->in_shape[i], e->operand[k].axis, &g->in_grad[i], err));
  }
  return MX_OK;
}

/* ---- operators with a number ---- */

typedef struct scalar_params {
  double scalar;
  bool is_int;
} scalar_params;

static const mx_param scalar_table[] = {
    MX_P_FLOAT(scalar_params, scalar, "1", MX_ANY, "The number."),
    MX_P_BOOL(scalar_params, is_int, "True",
              "Whether an integer array stays one: the number is cut to an integer. Otherwise the result is float64."),
    MX_P_END};

static mx_status scalar_infer_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out,
                                    mx_error *err) {
  bool is_int = ((const scalar_params *)params)->is_int;
  if (in[0] == MX_DTYPE_UNKNOWN) {
    if (is_int || (out[0] != MX_FLOAT64 && out[0] != MX_DTYPE_UNKNOWN)) in[0] = out[0];
    return MX_OK;
  }
  mx_dtype t = is_int || mx_dtype_is_float(in[0]) ? in[0] : MX_FLOAT64;
  if (out[0] == MX_DTYPE_UNKNOWN) out[0] = t;
  if (out[0] == t) return MX_OK;
  mx_fail(err, MX_ERR_TYPE, "The output is %s, but data of %s gives %s.", mx_dtype_name(out[0]), mx_dtype_name(in[0]),
          mx_dtype_name(t));
  mx_error_set(err, argument, "output");
  mx_error_set(err, expected, "%s", mx_dtype_name(t));
  mx_error_set(err, actual, "%s", mx_dtype_name(out[0]));
  return MX_ERR_TYPE;
}

/* ---- clip, smooth_l1, hard_sigmoid ---- */

typedef struct clip_params {
  double a_min, a_max;
} clip_params;
static const mx_param clip_table[] = {MX_P_FLOAT(clip_params, a_min, NULL, MX_ANY, "Smallest value of the result."),
                                      MX_P_FLOAT(clip_params, a_max, NULL, MX_ANY, "Largest value of the result."),
                                      MX_P_END};

typedef struct smooth_l1_params {
  double scalar;
} smooth_l1_params;
static const mx_param smooth_l1_table[] = {
    MX_P_FLOAT(smooth_l1_params, scalar, "1", MX_ANY, "sigma: the parabola ends at 1 / sigma^2."), MX_P_END};

typedef struct hard_sigmoid_params {
  double alpha, beta;
} hard_sigmoid_params;
static const mx_param hard_sigmoid_table[] = {MX_P_FLOAT(hard_sigmoid_params, alpha, "0.2", MX_ANY, "Slope."),
                                              MX_P_FLOAT(hard_sigmoid_params, beta, "0.5", MX_ANY, "Value at 0."),
                                              MX_P_END};

/* ---- sums of any number of arrays ---- */

typedef struct add_n_params {
  int64_t num_args;
} add_n_params;
static const mx_param add_n_table[] = {MX_P_INT(add_n_params, num_args, NULL, 1, INT32_MAX, "Number of arrays."),
                                       MX_P_END};

static int add_n_count(const void *params) { return (int)((const add_n_params *)params)->num_args; }

/* Adds in blocks that stay in the L1 cache: every array is read once and the output written once. */
static mx_status add_n_kernel(const mx_call *c, mx_error *err) {
  const mx_tensor *out = &c->out[0];
  const mx_row *add = &mx_rows[MX_ROW_add];
  mx_kind kind = mx_row_kind(add, out->dtype);
  int64_t n = mx_shape_size(&out->shape), blocks = (n + MX_ROW_BLOCK - 1) / MX_ROW_BLOCK;
  size_t size = mx_dtype_size(out->dtype);
  bool native = out->dtype == MX_FLOAT32 || out->dtype == MX_FLOAT64 || out->dtype == MX_INT64;
  if (c->req[0] == MX_NULL) return MX_OK;
#pragma omp parallel for num_threads(mx_threads_for(n * c->n_in, MX_GRAIN))
  for (int64_t b = 0; b < blocks; b++) {
    _Alignas(64) double sum[MX_ROW_BLOCK], term[MX_ROW_BLOCK];
    int64_t begin = b * MX_ROW_BLOCK, m = n - begin < MX_ROW_BLOCK ? n - begin : MX_ROW_BLOCK;
    char *to = (char *)out->data + (size_t)begin * size;
    void *total = native && c->req[0] != MX_ADD && c->n_in > 1 ? (void *)to : sum;
    const void *so_far = NULL;
    for (int k = 0; k < c->n_in; k++) {
      const void *x = (const char *)c->in[k].data + (size_t)begin * size;
      if (!native) {
        mx_block_load(k ? term : sum, kind, x, out->dtype, 1, false, m);
        x = k ? term : sum;
      }
      if (k) add->block[kind](total, (const void *const[]){so_far, x}, 0, m);
      so_far = k ? total : x;
    }
    if (so_far != to) mx_block_store(to, out->dtype, so_far, kind, c->req[0] == MX_ADD, m);
  }
  return MX_OK;
}

static mx_status add_n_gradient(mx_grad *g, mx_error *err) {
  for (int i = 0; i < g->n_in; i++)
    if (g->wanted[i]) g->in_grad[i] = g->out_grad[0];
  return MX_OK;
}

/* ---- records ---- */

const mx_alias mx_elementwise_alias[MX_MAX_OPERANDS + 1][MX_MAX_OPERANDS + 1] = {
    {{-1, -1}},
    {{0, 0}, {-1, -1}},
    {{0, 0}, {0, 1}, {-1, -1}},
    {{0, 0}, {0, 1}, {0, 2}, {-1, -1}},
    {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {-1, -1}}};

#define ALIASES(...) \
  (const char *const[]) { __VA_ARGS__ __VA_OPT__(, ) NULL }
#define STRIP(...) __VA_ARGS__

/* Derivatives with arrays for all operands are _backward_<row> for one operand, _backward_<row>_lhs and _rhs for two;
 * with the number of an operator with a number they are _backward_<row>_scalar (b is the number) and _rscalar (a is).
 */
#define DERIVED(...) DERIVED_(__VA_ARGS__)
#define DERIVED_(do, id, row, kind, names, ...) DERIVED_##kind(do, id, row, names)
#define DERIVED_ZERO(...)
#define DERIVED_PASS(...)
#define DERIVED_NEGATE(...)
#define DERIVED_USES(do, id, row, names) \
  do (id, row, names)

#define NUMBER \
  { .kind = MX_FROM_PARAM, .offset = offsetof(scalar_params, scalar) }
#define SCALAR_g \
  { MX_FROM_INPUT }
#define SCALAR_a \
  { MX_FROM_INPUT }
#define SCALAR_b NUMBER
#define SCALAR_r \
  { MX_FROM_INPUT }
#define RSCALAR_g \
  { MX_FROM_INPUT }
#define RSCALAR_a NUMBER
#define RSCALAR_b \
  { MX_FROM_INPUT }
#define RSCALAR_r \
  { MX_FROM_INPUT }

#define MAP_ARRAYS(id, row, names) MX_ELEMENTWISE(backward_##id, row)
#define MAP_SCALAR(id, row, names) MX_ELEMENTWISE(backward_##id, row, .operand = {MX_EACH(SCALAR_, STRIP names)})
#define MAP_RSCALAR(id, row, names) MX_ELEMENTWISE(backward_##id, row, .operand = {MX_EACH(RSCALAR_, STRIP names)})
#define MAP_COMMUTES(...)
#define MAP_ORDERED(...) DERIVED(__VA_ARGS__)

#define UNARY(name, ints, e, d, ...)                           \
  MX_ELEMENTWISE(name, name, .backward = {"_backward_" #name}) \
  DERIVED(MAP_ARRAYS, name, name##_da, MX_PARSE_##d)
#define UNARY_ROW(name, ints, e, d, ...) DERIVED(MAP_ARRAYS, name, name##_da, MX_PARSE_##d)
#define DOC(name, text) static const char doc_##name[] __attribute__((unused)) = text;
#define BINARY(name, ints, order, e, da, db, doc)                  \
  DOC(name##_arrays, doc ". Both arrays have one shape.")          \
  DOC(name##_scalar, doc ". Here lhs is data and rhs is scalar.")  \
  DOC(name##_rscalar, doc ". Here lhs is scalar and rhs is data.") \
  DERIVED(MAP_ARRAYS, name##_lhs, name##_da, MX_PARSE_##da)        \
  DERIVED(MAP_ARRAYS, name##_rhs, name##_db, MX_PARSE_##db)        \
  DERIVED(MAP_SCALAR, name##_scalar, name##_da, MX_PARSE_##da)     \
  MAP_##order(MAP_RSCALAR, name##_rscalar, name##_db, MX_PARSE_##db)
#define ELEMWISE(name, row, ...) \
  MX_ELEMENTWISE(name, row, .backward = {"_backward_" #row "_lhs", "_backward_" #row "_rhs"})
#define SCALAR(name, row, ...) \
  MX_ELEMENTWISE(name, row, .operand = {{MX_FROM_INPUT}, NUMBER}, .backward = {"_backward_" #row "_scalar"})
#define WHERE(number, row) \
  if (scalar == (number)) return map_##row(params);
#define SCALAR_SPECIAL(name, row, specials, ...)                                                                     \
  MX_ELEMENTWISE(name##_other, row, .operand = {{MX_FROM_INPUT}, NUMBER}, .backward = {"_backward_" #row "_scalar"}) \
  static const mx_elementwise *map_##name(const void *params) {                                                      \
    double scalar = ((const scalar_params *)params)->scalar;                                                         \
    specials return map_##name##_other(params);                                                                      \
  }
MX_ELEMENTWISE(cube, cube, .backward = {"_backward_cube"})
MX_ELEMENTWISE(fourth, fourth, .backward = {"_backward_fourth"})
#define RSCALAR(name, row, ...) \
  MX_ELEMENTWISE(name, row, .operand = {NUMBER, {MX_FROM_INPUT}}, .backward = {NULL, "_backward_" #row "_rscalar"})
#include "ops/scalar.def"

#define CLIP_PARAM(name) \
  { .kind = MX_FROM_PARAM, .offset = offsetof(clip_params, name) }
#define SMOOTH_PARAM(name) \
  { .kind = MX_FROM_PARAM, .offset = offsetof(smooth_l1_params, name) }
#define HARD_PARAM(name) \
  { .kind = MX_FROM_PARAM, .offset = offsetof(hard_sigmoid_params, name) }
MX_ELEMENTWISE(_copy, copy)
MX_ELEMENTWISE(clip, clip, .operand = {{MX_FROM_INPUT}, CLIP_PARAM(a_min), CLIP_PARAM(a_max)},
               .backward = {"_backward_clip"})
MX_ELEMENTWISE(backward_clip, clip_da,
               .operand = {{MX_FROM_INPUT}, {MX_FROM_INPUT}, CLIP_PARAM(a_min), CLIP_PARAM(a_max)})
MX_ELEMENTWISE(smooth_l1, smooth_l1, .operand = {{MX_FROM_INPUT}, SMOOTH_PARAM(scalar)},
               .backward = {"_backward_smooth_l1"})
MX_ELEMENTWISE(backward_smooth_l1, smooth_l1_da, .operand = {{MX_FROM_INPUT}, {MX_FROM_INPUT}, SMOOTH_PARAM(scalar)})
MX_ELEMENTWISE(hard_sigmoid, hard_sigmoid, .operand = {{MX_FROM_INPUT}, HARD_PARAM(alpha), HARD_PARAM(beta)},
               .backward = {"_backward_hard_sigmoid"})
MX_ELEMENTWISE(backward_hard_sigmoid, hard_sigmoid_da, .operand = {{MX_FROM_INPUT}, HARD_PARAM(alpha), {MX_FROM_INPUT}})

/* ---- records ---- */

#define ONE "Elementwise unary"
#define TWO "Elementwise binary"
#define NUMBERS "Scalar"

#define RECORD_UNARY(id, row, names) \
  {.name = "_backward_" #id, MX_DERIVATIVE_RECORD(backward_##id, (MX_COUNT(STRIP names)), ONE)},
#define RECORD_BINARY(id, row, names) \
  {.name = "_backward_" #id, MX_DERIVATIVE_RECORD(backward_##id, (MX_COUNT(STRIP names)), TWO)},
#define INPUTS_SCALAR_g 1
#define INPUTS_SCALAR_a 1
#define INPUTS_SCALAR_b 0
#define INPUTS_SCALAR_r 1
#define INPUTS_RSCALAR_g 1
#define INPUTS_RSCALAR_a 0
#define INPUTS_RSCALAR_b 1
#define INPUTS_RSCALAR_r 1
#define RECORD_NUMBER(id, n)             \
  {.name = "_backward_" #id,             \
   .params = scalar_table,               \
   .params_size = sizeof(scalar_params), \
   MX_DERIVATIVE_RECORD(backward_##id, (n), NUMBERS)},
#define RECORD_SCALAR(id, row, names) RECORD_NUMBER(id, MX_SUM(INPUTS_SCALAR_, STRIP names))
#define RECORD_RSCALAR(id, row, names) RECORD_NUMBER(id, MX_SUM(INPUTS_RSCALAR_, STRIP names))

const mx_op mx_ops_elementwise[] = {
#define UNARY(name_, ints, e, d, doc_, ...) \
  {.name = #name_,                          \
   .aliases = ALIASES(__VA_ARGS__),         \
   .family = ONE,                           \
   .doc = doc_,                             \
   .in_doc = MX_STRINGS("Any shape."),      \
   .gradient = mx_elementwise_gradient,     \
   MX_ELEMENTWISE_RECORD(name_, 1, 0)},     \
      DERIVED(RECORD_UNARY, name_, name_##_da, MX_PARSE_##d)
#define UNARY_ROW(name, ints, e, d, ...) DERIVED(RECORD_UNARY, name, name##_da, MX_PARSE_##d)
#define BINARY(name, ints, order, e, da, db, ...)                 \
  DERIVED(RECORD_BINARY, name##_lhs, name##_da, MX_PARSE_##da)    \
  DERIVED(RECORD_BINARY, name##_rhs, name##_db, MX_PARSE_##db)    \
  DERIVED(RECORD_SCALAR, name##_scalar, name##_da, MX_PARSE_##da) \
  MAP_##order(RECORD_RSCALAR, name##_rscalar, name##_db, MX_PARSE_##db)
#include "ops/scalar.def"
#define ELEMWISE(name_, row, ...)                           \
  {.name = #name_,                                          \
   .aliases = ALIASES(__VA_ARGS__),                         \
   .family = TWO,                                           \
   .doc = doc_##row##_arrays,                               \
   .in_doc = MX_STRINGS("Any shape.", "The shape of lhs."), \
   .in_names = MX_STRINGS("lhs", "rhs"),                    \
   .gradient = mx_elementwise_gradient,                     \
   MX_ELEMENTWISE_RECORD(name_, 2, 0)},
#define WITH_NUMBER(name_, doc_, ...)    \
  {.name = #name_,                       \
   .aliases = ALIASES(__VA_ARGS__),      \
   .family = NUMBERS,                    \
   .doc = doc_,                          \
   .in_doc = MX_STRINGS("Any shape."),   \
   .params = scalar_table,               \
   .params_size = sizeof(scalar_params), \
   .infer_dtype = scalar_infer_dtype,    \
   .gradient = mx_elementwise_gradient,  \
   MX_ELEMENTWISE_RECORD(name_, 1, 0)},
#define SCALAR(name, row, ...) WITH_NUMBER(name, doc_##row##_scalar, __VA_ARGS__)
#define SCALAR_SPECIAL(name, row, specials, ...) WITH_NUMBER(name, doc_##row##_scalar, __VA_ARGS__)
#define RSCALAR(name, row, ...) WITH_NUMBER(name, doc_##row##_rscalar, __VA_ARGS__)
#include "ops/scalar.def"

    {.name = "_copy",
     .aliases = MX_STRINGS("identity"),
     .family = ONE,
     .doc = "The values of data, unchanged.",
     .in_doc = MX_STRINGS("Any shape."),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(_copy, 1, MX_OP_VIEW)},
    {.name = "BlockGrad",
     .aliases = MX_STRINGS("_sparse_stop_gradient", "stop_gradient"),
     .family = "Losses and outputs",
     .doc = "The values of data, unchanged. No gradient passes: to backward data is a constant.",
     .in_doc = MX_STRINGS("Any shape."),
     MX_ELEMENTWISE_RECORD(_copy, 1, MX_OP_VIEW)},
    {.name = "_identity_with_attr_like_rhs",
     .family = TWO,
     .doc = "The values of lhs. Its shape is known from rhs, whose values are not read.",
     .in_doc = MX_STRINGS("Any shape.", "The shape of lhs."),
     .in_names = MX_STRINGS("lhs", "rhs"),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(_copy, 2, MX_OP_VIEW)},
    {.name = "clip",
     .aliases = MX_STRINGS("_sparse_clip"),
     .family = ONE,
     .doc = "Cuts values to an interval: min(max(data, a_min), a_max). NaN stays. The gradient is that of the output "
            "where a_min <= data <= a_max, and 0 elsewhere.",
     .in_doc = MX_STRINGS("Any shape."),
     .params = clip_table,
     .params_size = sizeof(clip_params),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(clip, 1, 0)},
    {.name = "_backward_clip",
     .params = clip_table,
     .params_size = sizeof(clip_params),
     MX_DERIVATIVE_RECORD(backward_clip, 2, ONE)},
    {.name = "smooth_l1",
     .family = ONE,
     .doc = "Smooth L1 loss: (scalar * data)^2 / 2 where |data| < 1 / scalar^2, and |data| - 1 / (2 * scalar^2) "
            "elsewhere.",
     .in_doc = MX_STRINGS("Any shape."),
     .source = "Girshick, Fast R-CNN, 2015",
     .params = smooth_l1_table,
     .params_size = sizeof(smooth_l1_params),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(smooth_l1, 1, 0)},
    {.name = "_backward_smooth_l1",
     .params = smooth_l1_table,
     .params_size = sizeof(smooth_l1_params),
     MX_DERIVATIVE_RECORD(backward_smooth_l1, 2, ONE)},
    {.name = "hard_sigmoid",
     .family = ONE,
     .doc = "Sigmoid made of straight lines: max(0, min(1, alpha * data + beta)).",
     .in_doc = MX_STRINGS("Any shape."),
     .params = hard_sigmoid_table,
     .params_size = sizeof(hard_sigmoid_params),
     .gradient = mx_elementwise_gradient,
     MX_ELEMENTWISE_RECORD(hard_sigmoid, 1, 0)},
    {.name = "_backward_hard_sigmoid",
     .params = hard_sigmoid_table,
     .params_size = sizeof(hard_sigmoid_params),
     MX_DERIVATIVE_RECORD(backward_hard_sigmoid, 2, ONE)},
    {.name = "add_n",
     .in_names = MX_STRINGS("args"), /* as the R argument is called */
     .aliases = MX_STRINGS("ElementWiseSum", "_sparse_ElementWiseSum", "_sparse_add_n"),
     .family = TWO,
     .doc = "Sum of any number of arrays of one shape.",
     .params = add_n_table,
     .params_size = sizeof(add_n_params),
     .num_args = "num_args",
     .count_in = add_n_count,
     .n_out = 1,
     .gradient = add_n_gradient,
     .aliases_mem = mx_elementwise_alias[1],
     .flags = MX_OP_ADDS,
     .kernel = add_n_kernel},
    {0}};
