/* Optimizer updates: new weights from weights, gradients and states; the arithmetic is in optimizer_rules.c. States are
 * auxiliary states and are changed in place; the output is the new weight and may be the weight.
 *
 * The roles of the inputs are written as a layout, one letter each: w weight, g gradient, s state, m master copy of the
 * weight in float32, n a norm (one number), l learning rates, d weight decays, r the factor of the gradient. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/optimizer_rules.h"

#define FAMILY "Optimizer updates"

enum { MAX_WEIGHTS = 4096 };

static double number_at(const mx_tensor *t, int64_t i) {
  MX_SWITCH_FLOAT(t->dtype, return NAN, return (double)((const T *)t->data)[i];)
  return NAN;
}

static mx_update_hyper hyper_of(const mx_update_params *p) {
  mx_update_hyper h = {
      .p = p, .lr = p->lr, .wd = p->wd, .eta = p->eta, .rescale = p->rescale_grad, .correct1 = 1, .correct2 = 1};
  h.clip = p->clip_gradient >= 0 ? p->clip_gradient : INFINITY;
  return h;
}
static void correct_bias(mx_update_hyper *h, int64_t t) {
  h->correct1 = 1 - pow(h->p->beta1, (double)t);
  h->correct2 = 1 - pow(h->p->beta2, (double)t);
}

/* The mx_update_operands of weight j. */
static mx_update_operands operands_of(const mx_call *c, const char *layout, int j) {
  mx_update_operands o = {NULL};
  int states = 0;
  const mx_tensor *t = c->in + (size_t)j * strlen(layout);
  for (; *layout; layout++, t++) {
    if (*layout == 'w') o.w = t;
    if (*layout == 'g') o.g = t;
    if (*layout == 's') o.s[states++] = t;
    if (*layout == 'm') o.master = t;
  }
  o.out = c->req[j] == MX_NULL ? NULL : &c->out[j];
  o.keep_master = o.master != NULL;
  return o;
}

static mx_status update(const mx_call *c, const mx_update_rule *r, const char *layout, const mx_update_hyper *h) {
  mx_update_operands o = operands_of(c, layout, 0);
  mx_update_run(r, h, &o);
  return MX_OK;
}

/* ---- inference ---- */

static bool is_scalar(char role) { return role == 'n' || role == 'r'; }

/* One number, as far as is known. */
static bool is_single(const mx_shape *s) {
  for (int i = 0; i < s->ndim; i++)
    if (s->dim[i] >= 0 && s->dim[i] != 1) return false;
  return true;
}

/* n groups of arrays that have one shape each, followed by the tail. Output j has the shape of group j. */
static mx_status layout_shape(const char *layout, const char *tail, int n, mx_shape *in, mx_shape *out, mx_error *err) {
  static const char *const what[] = {"the weight", "the gradient or a state"};
  size_t len = strlen(layout);
  for (int j = 0; j < n; j++) {
    mx_shape *group = in + (size_t)j * len;
    MX_TRY(mx_shape_merge(&group[0], &out[j], what[0], err));
    for (size_t i = 1; i < len; i++)
      if (!is_scalar(layout[i])) MX_TRY(mx_shape_merge(&group[0], &group[i], what[1], err));
    for (size_t i = 1; i < len; i++) {
      mx_shape one = mx_shape_of(1);
      if (!is_scalar(layout[i]))
        MX_TRY(mx_shape_merge(&group[i], &group[0], what[1], err));
      else if (group[i].ndim < 0)
        group[i] = one;
      else if (!is_single(&group[i]))
        return mx_fail(err, MX_ERR_SHAPE, "Input %d must hold a single number.", (int)i + 1);
    }
    MX_TRY(mx_shape_merge(&out[j], &group[0], "the new weight", err));
  }
  for (in += (size_t)n * len; *tail; tail++, in++) {
    mx_shape want = mx_shape_of(*tail == 'r' ? 1 : n);
    MX_TRY(mx_shape_merge(in, &want, *tail == 'l' ? "lrs" : *tail == 'd' ? "wds" : "rescale_grad", err));
  }
  return MX_OK;
}

static mx_status set_type(mx_dtype *t, mx_dtype want, const char *what, mx_error *err) {
  if (*t != MX_DTYPE_UNKNOWN && want != MX_DTYPE_UNKNOWN && *t != want)
    return mx_fail(err, MX_ERR_TYPE, "%s must be %s, but is %s.", what, mx_dtype_name(want), mx_dtype_name(*t));
  if (*t == MX_DTYPE_UNKNOWN) *t = want;
  if (*t != MX_DTYPE_UNKNOWN && !mx_dtype_is_float(*t))
    return mx_fail(err, MX_ERR_TYPE, "%s must have a floating-point type, but is %s.", what, mx_dtype_name(*t));
  return MX_OK;
}

/* Without a master copy all arrays of a group have one type; with one, what is not weight, gradient or new weight is
 * float32. `direction`: the output is a direction of lamb, of the type of the states. `step`: the gradient is one. */
static mx_status layout_dtype(const char *layout, const char *tail, int n, bool direction, bool step, mx_dtype *in,
                              mx_dtype *out, mx_error *err) {
  size_t len = strlen(layout);
  bool master = strchr(layout, 'm') != NULL;
  for (int j = 0; j < n; j++) {
    mx_dtype *group = in + (size_t)j * len, t = group[0];
    if (t == MX_DTYPE_UNKNOWN && !(master && step)) t = group[1];
    if (t == MX_DTYPE_UNKNOWN && !(master && direction)) t = out[j];
    MX_TRY(set_type(&t, MX_DTYPE_UNKNOWN, "The weight", err));
    if (master && t == MX_FLOAT64)
      return mx_fail(err, MX_ERR_TYPE, "A weight of type float64 needs no float32 copy: use the update without mp.");
    mx_dtype state = master ? MX_FLOAT32 : t;
    for (size_t i = 0; i < len; i++) {
      char role = layout[i];
      if (is_scalar(role))
        MX_TRY(set_type(&group[i], group[i] == MX_DTYPE_UNKNOWN ? state : group[i], "A norm", err));
      else if (role == 'w' || (role == 'g' && !step))
        MX_TRY(set_type(&group[i], t, role == 'w' ? "The weight" : "The gradient", err));
      else
        MX_TRY(set_type(&group[i], state, "A state", err));
    }
    MX_TRY(set_type(&out[j], direction ? state : t, "The output", err));
  }
  for (in += (size_t)n * len; *tail; tail++, in++)
    MX_TRY(set_type(in, *in == MX_DTYPE_UNKNOWN ? MX_FLOAT32 : *in, "An array of factors", err));
  return MX_OK;
}

/* ---- operators on one weight ---- */

#define P_LR MX_P_FLOAT(mx_update_params, lr, NULL, MX_ANY, "Learning rate.")
#define P_WD \
  MX_P_FLOAT(mx_update_params, wd, "0", MX_ANY, "Weight decay: wd times the weight is added to the gradient.")
#define P_RESCALE \
  MX_P_FLOAT(mx_update_params, rescale_grad, "1", MX_ANY, "The gradient is multiplied by this number first.")
#define P_CLIP                                              \
  MX_P_FLOAT(mx_update_params, clip_gradient, "-1", MX_ANY, \
             "Gradients are clipped to [-clip_gradient, clip_gradient]; not if negative.")
#define P_MOMENTUM MX_P_FLOAT(mx_update_params, momentum, "0", MX_ANY, "Decay of the moving average of updates.")
#define P_LAZY MX_P_BOOL(mx_update_params, lazy_update, "1", "For sparse gradients; arrays are always dense.")
#define P_BETA1(initial) \
  MX_P_FLOAT(mx_update_params, beta1, initial, MX_ANY, "Decay of the moving average of gradients.")
#define P_BETA2(initial) \
  MX_P_FLOAT(mx_update_params, beta2, initial, MX_ANY, "Decay of the moving average of squared gradients.")
#define P_EPSILON(initial) MX_P_FLOAT(mx_update_params, epsilon, initial, MX_ANY, "Keeps the divisor away from 0.")
#define P_ETA MX_P_FLOAT(mx_update_params, eta, NULL, MX_ANY, "Factor of the whole step, weight decay included.")
#define P_BIAS MX_P_BOOL(mx_update_params, bias_correction, "1", "Correct the averages for their start at 0.")
#define P_T MX_P_INT(mx_update_params, t, NULL, 0, INFINITY, "Number of this update, counted from 1.")
#define P_BOUNDS                                                                \
  MX_P_FLOAT(mx_update_params, lower_bound, "-1", MX_ANY,                       \
             "Least norm of the weight in the trust ratio; none if negative."), \
      MX_P_FLOAT(mx_update_params, upper_bound, "-1", MX_ANY,                   \
                 "Greatest norm of the weight in the trust ratio; none if negative.")
#define P_CLIP_WEIGHTS                                     \
  MX_P_FLOAT(mx_update_params, clip_weights, "-1", MX_ANY, \
             "New weights are clipped to [-clip_weights, clip_weights] if it is positive.")
#define P_GAMMA1 \
  MX_P_FLOAT(mx_update_params, gamma1, "0.949999988", MX_ANY, "Decay of the moving averages of the gradient.")

static const mx_param sgd_table[] = {P_LR, P_WD, P_RESCALE, P_CLIP, P_LAZY, MX_P_END};
static const mx_param momentum_table[] = {P_LR, P_MOMENTUM, P_WD, P_RESCALE, P_CLIP, P_LAZY, MX_P_END};
static const mx_param nag_table[] = {P_LR, P_MOMENTUM, P_WD, P_RESCALE, P_CLIP, MX_P_END};
static const mx_param adagrad_table[] = {P_LR, P_EPSILON("1e-08"), P_WD, P_RESCALE, P_CLIP, MX_P_END};
static const mx_param adadelta_table[] = {{"rho", MX_PARAM_FLOAT, offsetof(mx_update_params, gamma1), "0.9", -INFINITY,
                                           INFINITY, NULL, "Decay of the moving averages."},
                                          P_EPSILON("1e-05"),
                                          P_WD,
                                          P_RESCALE,
                                          P_CLIP,
                                          MX_P_END};
static const mx_param signsgd_table[] = {P_LR, P_WD, P_RESCALE, P_CLIP, MX_P_END};
static const mx_param signum_table[] = {
    P_LR,    P_MOMENTUM,
    P_WD,    P_RESCALE,
    P_CLIP,  MX_P_FLOAT(mx_update_params, wd_lh, "0", MX_ANY, "Weight decay that is applied to the weight itself."),
    MX_P_END};
static const mx_param adam_table[] = {P_LR,
                                      P_BETA1("0.899999976"),
                                      P_BETA2("0.999000013"),
                                      P_EPSILON("9.99999994e-09"),
                                      P_WD,
                                      P_RESCALE,
                                      P_CLIP,
                                      P_LAZY,
                                      MX_P_END};
static const mx_param adamw_table[] = {
    P_LR, P_BETA1("0.899999976"), P_BETA2("0.999000013"), P_EPSILON("9.99999994e-09"), P_WD, P_ETA, P_CLIP, MX_P_END};
static const mx_param rmsprop_table[] = {P_LR,           P_GAMMA1, P_EPSILON("9.99999994e-09"), P_WD, P_RESCALE, P_CLIP,
                                         P_CLIP_WEIGHTS, MX_P_END};
static const mx_param rmspropalex_table[] = {
    P_LR,
    P_GAMMA1,
    MX_P_FLOAT(mx_update_params, gamma2, "0.899999976", MX_ANY, "Decay of the moving average of updates."),
    P_EPSILON("9.99999994e-09"),
    P_WD,
    P_RESCALE,
    P_CLIP,
    P_CLIP_WEIGHTS,
    MX_P_END};
static const mx_param ftml_table[] = {
    P_LR,
    P_BETA1("0.600000024"),
    P_BETA2("0.999000013"),
    P_EPSILON("9.9999999392252903e-09"),
    P_T,
    P_WD,
    P_RESCALE,
    {"clip_grad", MX_PARAM_FLOAT, offsetof(mx_update_params, clip_gradient), "-1", -INFINITY, INFINITY, NULL,
     "Gradients are clipped to [-clip_grad, clip_grad]; not if negative."},
    MX_P_END};
static const mx_param ftrl_table[] = {
    P_LR,
    MX_P_FLOAT(mx_update_params, lamda1, "0.00999999978", MX_ANY, "Weight of the L1 norm."),
    MX_P_FLOAT(mx_update_params, beta, "1", MX_ANY, "Offset of the learning rate's divisor."),
    P_WD,
    P_RESCALE,
    P_CLIP,
    MX_P_END};
static const mx_param lamb1_table[] = {P_BETA1("0.899999976"),
                                       P_BETA2("0.999000013"),
                                       P_EPSILON("9.99999997e-07"),
                                       P_T,
                                       P_BIAS,
                                       MX_P_FLOAT(mx_update_params, wd, NULL, MX_ANY, "Weight decay."),
                                       P_RESCALE,
                                       P_CLIP,
                                       MX_P_END};
static const mx_param lamb2_table[] = {P_LR, P_BOUNDS, MX_P_END};

#define LAYOUT(name, layout, direction, step)                                                                          \
  static mx_status name##_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) { \
    return layout_shape(layout, "", 1, in, out, err);                                                                  \
  }                                                                                                                    \
  static mx_status name##_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) { \
    return layout_dtype(layout, "", 1, direction, step, in, out, err);                                                 \
  }
LAYOUT(wg, "wg", false, false)
LAYOUT(wgs, "wgs", false, false)
LAYOUT(wgss, "wgss", false, false)
LAYOUT(wgsss, "wgsss", false, false)
LAYOUT(wgm, "wgm", false, false)
LAYOUT(wgsm, "wgsm", false, false)
LAYOUT(wgssr, "wgssr", false, false)
LAYOUT(wgssmr, "wgssmr", false, false)
LAYOUT(lamb1_mp, "wgssm", true, false)
LAYOUT(lamb2, "wgnn", false, true)
LAYOUT(lamb2_mp, "wgnnm", false, true)

#define KERNEL(name, rule_, layout)                        \
  static mx_status name(const mx_call *c, mx_error *err) { \
    mx_update_hyper h = hyper_of(c->params);               \
    return update(c, &mx_rule_##rule_, layout, &h);        \
  }
KERNEL(sgd_update, sgd, "wg")
KERNEL(sgd_mom_update, sgd_momentum, "wgs")
KERNEL(mp_sgd_update, sgd, "wgm")
KERNEL(mp_sgd_mom_update, sgd_momentum, "wgsm")
KERNEL(nag_mom_update, nesterov, "wgs")
KERNEL(mp_nag_mom_update, nesterov_master, "wgsm")
KERNEL(nag_update, nesterov_decay, "wgs")
KERNEL(adagrad_update, adagrad, "wgs")
KERNEL(adadelta_update, adadelta, "wgss")
KERNEL(signsgd_update, signsgd, "wg")
KERNEL(signum_update, signum, "wgs")
KERNEL(adam_update, adam, "wgss")
KERNEL(rmsprop_update, rmsprop, "wgs")
KERNEL(rmspropalex_update, rmsprop_centered, "wgsss")
KERNEL(ftrl_update, ftrl, "wgss")

static mx_status ftml_update(const mx_call *c, mx_error *err) {
  mx_update_hyper h = hyper_of(c->params);
  correct_bias(&h, h.p->t);
  return update(c, &mx_rule_ftml, "wgsss", &h);
}

/* A factor of the gradient that is 0 or not finite tells of an overflow in a loss that was scaled up: the step is left
 * out, and the weight stays. */
static mx_status adamw_step(const mx_call *c, const char *layout, const mx_update_hyper *h, int j) {
  mx_update_operands o = operands_of(c, layout, j);
  const mx_tensor *w = o.master ? o.master : o.w;
  if (isfinite(h->rescale) && h->rescale != 0)
    mx_update_run(&mx_rule_adamw, h, &o);
  else if (o.out && o.out->data != w->data)
    mx_convert(w->data, w->dtype, o.out->data, o.out->dtype, mx_shape_size(&o.w->shape));
  return MX_OK;
}
static mx_status adamw_update(const mx_call *c, mx_error *err) {
  mx_update_hyper h = hyper_of(c->params);
  h.rescale = number_at(&c->in[c->n_in - 1], 0);
  return adamw_step(c, c->n_in == 6 ? "wgssmr" : "wgssr", &h, 0);
}

static mx_status lamb_phase1(const mx_call *c, const char *layout) {
  mx_update_hyper h = hyper_of(c->params);
  if (h.p->bias_correction) correct_bias(&h, h.p->t);
  mx_update_operands o = operands_of(c, layout, 0);
  o.keep_master = false; /* the output is a direction */
  mx_update_run(&mx_rule_lamb_direction, &h, &o);
  return MX_OK;
}
static mx_status lamb_update_phase1(const mx_call *c, mx_error *err) { return lamb_phase1(c, "wgss"); }
static mx_status mp_lamb_update_phase1(const mx_call *c, mx_error *err) { return lamb_phase1(c, "wgssm"); }

static double trust_ratio(const mx_update_params *p, double weight_norm, double update_norm) {
  if (p->lower_bound >= 0 && weight_norm < p->lower_bound) weight_norm = p->lower_bound;
  if (p->upper_bound >= 0 && weight_norm > p->upper_bound) weight_norm = p->upper_bound;
  return weight_norm == 0 || update_norm == 0 ? 1 : weight_norm / update_norm;
}
static mx_status lamb_phase2(const mx_call *c, const char *layout) {
  mx_update_hyper h = hyper_of(c->params);
  h.ratio = h.lr * trust_ratio(h.p, number_at(&c->in[2], 0), number_at(&c->in[3], 0));
  mx_update_operands o = operands_of(c, layout, 0);
  o.keep_master = false; /* as recorded: the copy is read only */
  mx_update_run(&mx_rule_lamb_step, &h, &o);
  return MX_OK;
}
static mx_status lamb_update_phase2(const mx_call *c, mx_error *err) { return lamb_phase2(c, "wgnn"); }
static mx_status mp_lamb_update_phase2(const mx_call *c, mx_error *err) { return lamb_phase2(c, "wgnnm"); }

/* ---- operators on several weights ---- */

#define P_LIST(name, field, doc) \
  { name, MX_PARAM_FLOATS, offsetof(mx_update_params, field), NULL, -INFINITY, INFINITY, NULL, doc }
#define P_LRS P_LIST("lrs", lrs, "Learning rates, one a weight.")
#define P_WDS P_LIST("wds", wds, "Weight decays, one a weight.")
#define P_NUM MX_P_INT(mx_update_params, num_weights, "1", 1, MAX_WEIGHTS, "Number of weights.")

static const mx_param multi_sgd_table[] = {P_LRS, P_WDS, P_RESCALE, P_CLIP, P_NUM, MX_P_END};
static const mx_param multi_momentum_table[] = {P_LRS, P_WDS, P_MOMENTUM, P_RESCALE, P_CLIP, P_NUM, MX_P_END};
static const mx_param preloaded_sgd_table[] = {P_RESCALE, P_CLIP, P_NUM, MX_P_END};
static const mx_param preloaded_momentum_table[] = {P_MOMENTUM, P_RESCALE, P_CLIP, P_NUM, MX_P_END};
static const mx_param multi_adamw_table[] = {P_LRS,
                                             P_BETA1("0.899999976"),
                                             P_BETA2("0.999000013"),
                                             P_EPSILON("9.99999994e-09"),
                                             P_WDS,
                                             P_LIST("etas", etas, "Factors of the whole steps, one a weight."),
                                             P_CLIP,
                                             P_NUM,
                                             MX_P_END};
static const mx_param multi_lamb_table[] = {P_LIST("learning_rates", lrs, "Learning rates, one a weight."),
                                            P_BETA1("0.899999976"),
                                            P_BETA2("0.999000013"),
                                            P_EPSILON("9.99999997e-07"),
                                            P_WDS,
                                            P_RESCALE,
                                            P_BOUNDS,
                                            P_CLIP,
                                            P_BIAS,
                                            MX_P_INTS(mx_update_params, step_count, NULL, 0, INFINITY,
                                                      "Numbers of these updates, counted from 1, one a weight."),
                                            {"num_tensors", MX_PARAM_INT, offsetof(mx_update_params, num_weights), "1",
                                             1, MAX_WEIGHTS, NULL, "Number of weights."},
                                            MX_P_END};

static mx_status check_length(const char *name, int n, int64_t want, mx_error *err) {
  if (n == want) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "%s must have one number a weight, %lld, but it has %d.", name, (long long)want, n);
  mx_error_set(err, argument, "%s", name);
  mx_error_set(err, expected, "%lld", (long long)want);
  mx_error_set(err, actual, "%d", n);
  return MX_ERR_VALUE;
}
static mx_status multi_check(void *params, mx_error *err) {
  const mx_update_params *p = params;
  MX_TRY(check_length("lrs", p->lrs.n, p->num_weights, err));
  return check_length("wds", p->wds.n, p->num_weights, err);
}
static mx_status multi_adamw_check(void *params, mx_error *err) {
  MX_TRY(multi_check(params, err));
  return check_length("etas", ((mx_update_params *)params)->etas.n, ((mx_update_params *)params)->num_weights, err);
}
static mx_status multi_lamb_check(void *params, mx_error *err) {
  const mx_update_params *p = params;
  MX_TRY(check_length("learning_rates", p->lrs.n, p->num_weights, err));
  MX_TRY(check_length("wds", p->wds.n, p->num_weights, err));
  return check_length("step_count", p->step_count.n, p->num_weights, err);
}

/* "weight_0", "grad_0", "mom_0", "weight_1", ...; then the tail. */
static void multi_name(const char *layout, const char *tail, const char *const *states, const mx_update_params *p,
                       int i, char *buf, size_t size) {
  int len = (int)strlen(layout), groups = len * (int)p->num_weights;
  if (i >= groups) {
    char role = tail[i - groups];
    snprintf(buf, size, "%s", role == 'l' ? "lrs" : role == 'd' ? "wds" : "rescale_grad");
    return;
  }
  static const char *const plain[] = {"weight", "grad"};
  int k = i % len;
  snprintf(buf, size, "%s_%d", k < 2 ? plain[k] : layout[k] == 'm' ? "weight32" : states[k - 2], i / len);
}

static int multi_count_out(const void *params) { return (int)((const mx_update_params *)params)->num_weights; }

/* Runs the rule on every weight; learning rates and weight decays come from the parameters or from the last inputs. */
static mx_status multi_update(const mx_call *c, const mx_update_rule *r, const char *layout, bool preloaded) {
  mx_update_hyper h = hyper_of(c->params);
  for (int j = 0; j < c->n_out; j++) {
    h.lr = preloaded ? number_at(&c->in[c->n_in - 2], j) : h.p->lrs.v[j];
    h.wd = preloaded ? number_at(&c->in[c->n_in - 1], j) : h.p->wds.v[j];
    mx_update_operands o = operands_of(c, layout, j);
    mx_update_run(r, &h, &o);
  }
  return MX_OK;
}
static mx_status multi_adamw(const mx_call *c, const char *layout) {
  mx_update_hyper h = hyper_of(c->params);
  h.rescale = number_at(&c->in[c->n_in - 1], 0);
  for (int j = 0; j < c->n_out; j++) {
    h.lr = h.p->lrs.v[j], h.wd = h.p->wds.v[j], h.eta = h.p->etas.v[j];
    MX_TRY(adamw_step(c, layout, &h, j));
  }
  return MX_OK;
}
/* Norms are summed block by block, so that they do not depend on the number of threads. */
static mx_status multi_lamb(const mx_call *c, const char *layout) {
  mx_update_hyper h = hyper_of(c->params);
  for (int j = 0; j < c->n_out; j++) {
    h.lr = h.p->lrs.v[j], h.wd = h.p->wds.v[j];
    if (h.p->bias_correction) correct_bias(&h, h.p->step_count.v[j]);
    mx_update_operands o = operands_of(c, layout, j), measure = o;
    measure.sums = c->workspace;
    measure.out = NULL;
    measure.keep_master = false;
    mx_update_run(&mx_rule_lamb_measure, &h, &measure);
    double weight = 0, step = 0;
    int64_t n = mx_shape_size(&o.w->shape);
    for (int64_t b = 0; b * MX_UPDATE_BLOCK < n; b++) weight += measure.sums[2 * b], step += measure.sums[2 * b + 1];
    h.ratio = h.lr * trust_ratio(h.p, sqrt(weight), sqrt(step));
    mx_update_run(&mx_rule_lamb_apply, &h, &o);
  }
  return MX_OK;
}
static mx_status multi_lamb_prepare(mx_call *c, mx_error *err) {
  int64_t largest = 0;
  for (int j = 0; j < c->n_out; j++) {
    int64_t n = mx_shape_size(&c->out[j].shape);
    if (n > largest) largest = n;
  }
  c->workspace_bytes = (size_t)(largest / MX_UPDATE_BLOCK + 1) * 2 * sizeof(double);
  return MX_OK;
}

#define MULTI(name, layout, tail, states, call)                                                                   \
  static int name##_count_in(const void *p) {                                                                     \
    return (int)(sizeof(layout) - 1) * (int)((const mx_update_params *)p)->num_weights + (int)(sizeof(tail) - 1); \
  }                                                                                                               \
  static void name##_in_name(const void *p, int i, char *buf, size_t size) {                                      \
    multi_name(layout, tail, states, p, i, buf, size);                                                            \
  }                                                                                                               \
  static bool name##_is_aux(const void *p, int i) {                                                               \
    int len = (int)(sizeof(layout) - 1);                                                                          \
    return i < len * (int)((const mx_update_params *)p)->num_weights && i % len >= 2;                             \
  }                                                                                                               \
  static mx_status name##_shape(const void *p, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) { \
    return layout_shape(layout, tail, n_out, in, out, err);                                                       \
  }                                                                                                               \
  static mx_status name##_dtype(const void *p, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) { \
    return layout_dtype(layout, tail, n_out, false, false, in, out, err);                                         \
  }                                                                                                               \
  static mx_status name(const mx_call *c, mx_error *err) { return call; }

static const char *const no_states[] = {NULL};
static const char *const mom_state[] = {"mom"};
static const char *const adam_states[] = {"mean", "var"};
MULTI(multi_sgd, "wg", "", no_states, multi_update(c, &mx_rule_sgd, "wg", false))
MULTI(multi_sgd_mom, "wgs", "", mom_state, multi_update(c, &mx_rule_sgd_momentum, "wgs", false))
MULTI(multi_mp_sgd, "wgm", "", no_states, multi_update(c, &mx_rule_sgd, "wgm", false))
MULTI(multi_mp_sgd_mom, "wgsm", "", mom_state, multi_update(c, &mx_rule_sgd_momentum, "wgsm", false))
MULTI(preloaded_sgd, "wg", "ld", no_states, multi_update(c, &mx_rule_sgd, "wg", true))
MULTI(preloaded_sgd_mom, "wgs", "ld", mom_state, multi_update(c, &mx_rule_sgd_momentum, "wgs", true))
MULTI(preloaded_mp_sgd, "wgm", "ld", no_states, multi_update(c, &mx_rule_sgd, "wgm", true))
MULTI(preloaded_mp_sgd_mom, "wgsm", "ld", mom_state, multi_update(c, &mx_rule_sgd_momentum, "wgsm", true))
MULTI(multi_adamw_plain, "wgss", "r", adam_states, multi_adamw(c, "wgss"))
MULTI(multi_adamw_mp, "wgssm", "r", adam_states, multi_adamw(c, "wgssm"))
MULTI(multi_lamb_plain, "wgss", "", adam_states, multi_lamb(c, "wgss"))
MULTI(multi_lamb_mp, "wgssm", "", adam_states, multi_lamb(c, "wgssm"))

/* ---- multi_lars ---- */

static const mx_param lars_table[] = {MX_P_FLOAT(mx_update_params, eta, NULL, MX_ANY, "Trust coefficient."),
                                      MX_P_FLOAT(mx_update_params, eps, NULL, MX_ANY, "Keeps the divisor away from 0."),
                                      P_RESCALE, MX_P_END};

static mx_status lars_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = out[0];
  for (int i = 0; i < n_in && t == MX_DTYPE_UNKNOWN; i++) t = in[i];
  for (int i = 0; i < n_in; i++) MX_TRY(set_type(&in[i], t, "An input", err));
  return set_type(&out[0], t, "The output", err);
}

/* You, Gitman and Ginsburg, "Large batch training of convolutional networks", 2017. */
static mx_status multi_lars(const mx_call *c, mx_error *err) {
  if (c->req[0] == MX_NULL) return MX_OK;
  const mx_update_params *p = c->params;
  int64_t n = mx_shape_size(&c->out[0].shape);
  for (int64_t i = 0; i < n; i++) {
    double lr = number_at(&c->in[0], i), w = sqrt(number_at(&c->in[1], i)), g = sqrt(number_at(&c->in[2], i));
    double wd = number_at(&c->in[3], i);
    if (w > 0 && g > 0) lr *= p->eta * w / (g * p->rescale_grad + wd * w + p->eps);
    MX_SWITCH_FLOAT(c->out[0].dtype, break, ((T *)c->out[0].data)[i] = (T)lr;)
  }
  return MX_OK;
}

/* ---- records ---- */

static const mx_alias in_place[] = {{0, 0}, {-1, -1}};
/* Output j may be weight j; beyond these a copy is made. */
#define PAIRS(step)                                                                                            \
  {0, 0}, {1, step}, {2, 2 * step}, {3, 3 * step}, {4, 4 * step}, {5, 5 * step}, {6, 6 * step}, {7, 7 * step}, \
      {8, 8 * step}, {9, 9 * step}, {10, 10 * step}, {11, 11 * step}, {12, 12 * step}, {13, 13 * step},        \
      {14, 14 * step}, {15, 15 * step}, {16, 16 * step}, {17, 17 * step}, {18, 18 * step}, {19, 19 * step},    \
      {20, 20 * step}, {21, 21 * step}, {22, 22 * step}, {23, 23 * step}, {24, 24 * step}, {                   \
    -1, -1                                                                                                     \
  }
static const mx_alias in_place_2[] = {PAIRS(2)};
static const mx_alias in_place_3[] = {PAIRS(3)};
static const mx_alias in_place_4[] = {PAIRS(4)};
static const mx_alias in_place_5[] = {PAIRS(5)};

#define DOC_WEIGHT "Weight."
#define DOC_GRAD "Gradient, of the shape of the weight."
#define DOC_STATE(text) text ", of the shape of the weight."
#define DOC_MASTER "The weight in float32."
#define STEP_NOTE " With g = clip(rescale_grad grad): "
#define DECAY_NOTE " With g = clip(rescale_grad grad + wd weight): "
#define MP_NOTE " The arithmetic is in float32 on weight32; the output is the rounded new weight."

#define UPDATE(name_, doc_, table, layout, n, names, docs, aux_, kernel_, ...)                                       \
  {                                                                                                                  \
    .name = name_, .family = FAMILY, .doc = doc_, .in_doc = docs, .params = table,                                   \
    .params_size = sizeof(mx_update_params), .n_in = n, .n_out = 1, .in_names = names, .aux = aux_, .mutates = aux_, \
    .infer_shape = layout##_shape, .infer_dtype = layout##_dtype, .aliases_mem = in_place, .kernel = kernel_,        \
    __VA_ARGS__                                                                                                      \
  }
#define MULTI_UPDATE(name_, doc_, table, check_, fn, alias, ...)                                            \
  {                                                                                                         \
    .name = name_, .family = FAMILY, .doc = doc_, .params = table, .params_size = sizeof(mx_update_params), \
    .check = check_, .n_in = 2, .n_out = 1, .count_in = fn##_count_in, .count_out = multi_count_out,        \
    .in_name = fn##_in_name, .is_aux = fn##_is_aux, .infer_shape = fn##_shape, .infer_dtype = fn##_dtype,   \
    .aliases_mem = alias, .kernel = fn, __VA_ARGS__                                                         \
  }

const mx_op mx_ops_optimizer[] = {
    UPDATE("sgd_update", "Stochastic gradient descent." STEP_NOTE "weight (1 - lr wd) - lr g.", sgd_table, wg, 2,
           MX_STRINGS("weight", "grad"), MX_STRINGS(DOC_WEIGHT, DOC_GRAD), 0, sgd_update,
           .aliases = MX_STRINGS("_sparse_sgd_update")),
    UPDATE("sgd_mom_update",
           "Stochastic gradient descent with momentum." STEP_NOTE
           "mom = momentum mom - lr (g + wd weight); the new weight is weight + mom.",
           momentum_table, wgs, 3, MX_STRINGS("weight", "grad", "mom"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum")), 4, sgd_mom_update,
           .aliases = MX_STRINGS("_sparse_sgd_mom_update")),
    UPDATE("mp_sgd_update", "sgd_update for weights in half precision." MP_NOTE, sgd_table, wgm, 3,
           MX_STRINGS("weight", "grad", "weight32"), MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_MASTER), 4, mp_sgd_update, ),
    UPDATE("mp_sgd_mom_update", "sgd_mom_update for weights in half precision." MP_NOTE, momentum_table, wgsm, 4,
           MX_STRINGS("weight", "grad", "mom", "weight32"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum"), DOC_MASTER), 12, mp_sgd_mom_update, ),
    UPDATE("nag_mom_update",
           "Nesterov's accelerated gradient." STEP_NOTE "d = lr (g + wd weight); mom = momentum mom - d; the new "
           "weight is weight + momentum mom - d. In place, the weight "
           "decay in the stored momentum is that of the new weight.",
           nag_table, wgs, 3, MX_STRINGS("weight", "grad", "mom"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum")), 4, nag_mom_update, ),
    UPDATE("mp_nag_mom_update",
           "nag_mom_update for weights in half precision; the weight decay in the stored momentum is that of the new "
           "weight." MP_NOTE,
           nag_table, wgsm, 4, MX_STRINGS("weight", "grad", "mom", "weight32"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum"), DOC_MASTER), 12, mp_nag_mom_update, ),
    UPDATE("_nag_update",
           "Nesterov's accelerated gradient, the weight decay in the momentum only." STEP_NOTE
           "mom = momentum mom + g + wd weight; the new weight is weight - lr (momentum mom + g).",
           nag_table, wgs, 3, MX_STRINGS("weight", "grad", "mom"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum")), 4, nag_update, ),
    UPDATE("_adagrad_update",
           "Adagrad." STEP_NOTE
           "history = history + g^2; the new weight is weight - lr (g / sqrt(history + epsilon) + wd weight).",
           adagrad_table, wgs, 3, MX_STRINGS("weight", "grad", "history"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Sum of squared gradients")), 4, adagrad_update,
           .source = "Duchi, Hazan and Singer, Adaptive subgradient methods, 2011"),
    UPDATE("_adadelta_update",
           "Adadelta." STEP_NOTE
           "acc_g = rho acc_g + (1 - rho) g^2; d = sqrt(acc_delta + epsilon) / sqrt(acc_g + epsilon) g; acc_delta = "
           "rho acc_delta + (1 - rho) d^2; the new weight is weight - d - wd weight.",
           adadelta_table, wgss, 4, MX_STRINGS("weight", "grad", "acc_g", "acc_delta"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of squared gradients"),
                      DOC_STATE("Average of squared steps")),
           12, adadelta_update, .source = "Zeiler, ADADELTA: an adaptive learning rate method, 2012"),
    UPDATE("signsgd_update", "Descent by the sign of the gradient: weight (1 - lr wd) - lr sign(grad).", signsgd_table,
           wg, 2, MX_STRINGS("weight", "grad"), MX_STRINGS(DOC_WEIGHT, DOC_GRAD), 0, signsgd_update, ),
    UPDATE(
        "signum_update",
        "Descent by the sign of the momentum." STEP_NOTE
        "mom = momentum mom - (1 - momentum) (g + wd weight); the new weight is weight (1 - lr wd_lh) + lr sign(mom).",
        signum_table, wgs, 3, MX_STRINGS("weight", "grad", "mom"),
        MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Momentum")), 4, signum_update,
        .source = "Bernstein and others, signSGD: Compressed optimisation for non-convex problems, 2018"),
    UPDATE(
        "adam_update",
        "Adam without the correction of bias, which belongs in lr." DECAY_NOTE
        "mean = beta1 mean + (1 - beta1) g; var = beta2 var + (1 - beta2) g^2; the new weight is weight - lr mean / "
        "(sqrt(var) + epsilon).",
        adam_table, wgss, 4, MX_STRINGS("weight", "grad", "mean", "var"),
        MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of gradients"), DOC_STATE("Average of squared gradients")),
        12, adam_update, .aliases = MX_STRINGS("_sparse_adam_update"),
        .source = "Kingma and Ba, Adam: A method for stochastic optimization, 2015"),
    UPDATE(
        "_adamw_update",
        "Adam with decoupled weight decay." STEP_NOTE
        "mean and var as in adam_update; the new weight is weight - eta (lr mean / (sqrt(var) + epsilon) + wd weight). "
        "Nothing changes when rescale_grad is 0 or not finite.",
        adamw_table, wgssr, 5, MX_STRINGS("weight", "grad", "mean", "var", "rescale_grad"),
        MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of gradients"), DOC_STATE("Average of squared gradients"),
                   "Factor of the gradient, one number."),
        12, adamw_update, .source = "Loshchilov and Hutter, Decoupled weight decay regularization, 2019"),
    UPDATE("_mp_adamw_update", "_adamw_update for weights in half precision." MP_NOTE, adamw_table, wgssmr, 6,
           MX_STRINGS("weight", "grad", "mean", "var", "weight32", "rescale_grad"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of gradients"),
                      DOC_STATE("Average of squared gradients"), DOC_MASTER, "Factor of the gradient, one number."),
           28, adamw_update, ),
    UPDATE("rmsprop_update",
           "RMSProp." DECAY_NOTE
           "n = gamma1 n + (1 - gamma1) g^2; the new weight is weight - lr g / sqrt(n + epsilon).",
           rmsprop_table, wgs, 3, MX_STRINGS("weight", "grad", "n"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of squared gradients")), 4, rmsprop_update, ),
    UPDATE("rmspropalex_update",
           "RMSProp with centred gradients and momentum (names as for the states)." DECAY_NOTE
           "n and g are the moving averages of the squared gradient and of the gradient; delta = gamma2 delta - lr "
           "gradient / sqrt(n - g^2 + epsilon); the new weight is weight + delta.",
           rmspropalex_table, wgsss, 5, MX_STRINGS("weight", "grad", "n", "g", "delta"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of squared gradients"),
                      DOC_STATE("Average of gradients"), DOC_STATE("Average of updates")),
           28, rmspropalex_update, .source = "Graves, Generating sequences with recurrent neural networks, 2013"),
    UPDATE(
        "ftml_update",
        "Follow the moving leader." DECAY_NOTE
        "v = beta2 v + (1 - beta2) g^2; e = (1 - beta1^t) / lr (sqrt(v / (1 - beta2^t)) + epsilon); z = beta1 z + (1 - "
        "beta1) g - (e - beta1 d) weight; d = e; the new weight is -z / d.",
        ftml_table, wgsss, 5, MX_STRINGS("weight", "grad", "d", "v", "z"),
        MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("d"), DOC_STATE("v"), DOC_STATE("z")), 28, ftml_update,
        .source = "Zheng and Kwok, Follow the moving leader in deep learning, 2017"),
    UPDATE("ftrl_update",
           "Follow the regularized leader." STEP_NOTE "z = z + g - (sqrt(n + g^2) - sqrt(n)) weight / lr; n = n + g^2; "
           "the new weight is (sign(z) lamda1 - z) / ((beta "
           "+ sqrt(n)) / lr + wd) where |z| > lamda1, and 0 elsewhere.",
           ftrl_table, wgss, 4, MX_STRINGS("weight", "grad", "z", "n"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("z"), DOC_STATE("Sum of squared gradients")), 12, ftrl_update,
           .aliases = MX_STRINGS("_sparse_ftrl_update"),
           .source = "McMahan and others, Ad click prediction: a view from the trenches, 2013"),
    UPDATE(
        "lamb_update_phase1",
        "The direction of LAMB." STEP_NOTE
        "mean and var as in adam_update, divided by 1 - beta^t with bias_correction; the output is mean / (sqrt(var) + "
        "epsilon) + wd weight.",
        lamb1_table, wgss, 4, MX_STRINGS("weight", "grad", "mean", "var"),
        MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of gradients"), DOC_STATE("Average of squared gradients")),
        12, lamb_update_phase1,
        .source = "You and others, Large batch optimization for deep learning: training BERT in 76 minutes, 2020"),
    UPDATE(
        "lamb_update_phase2",
        "The step of LAMB: weight - lr ratio g, where ratio is r1 / r2, r1 being held between the bounds, or 1 when r1 "
        "or r2 is 0.",
        lamb2_table, lamb2, 4, MX_STRINGS("weight", "g", "r1", "r2"),
        MX_STRINGS(DOC_WEIGHT, "Direction, of the shape of the weight.", "Norm of the weight, one number.",
                   "Norm of the direction, one number."),
        0, lamb_update_phase2, ),
    UPDATE("mp_lamb_update_phase1",
           "lamb_update_phase1 for weights in half precision; the direction is computed and returned in float32.",
           lamb1_table, lamb1_mp, 5, MX_STRINGS("weight", "grad", "mean", "var", "weight32"),
           MX_STRINGS(DOC_WEIGHT, DOC_GRAD, DOC_STATE("Average of gradients"),
                      DOC_STATE("Average of squared gradients"), DOC_MASTER),
           12, mp_lamb_update_phase1, ),
    UPDATE("mp_lamb_update_phase2",
           "lamb_update_phase2 for weights in half precision: the step starts from weight32, which stays as it is, and "
           "the output is rounded.",
           lamb2_table, lamb2_mp, 5, MX_STRINGS("weight", "g", "r1", "r2", "weight32"),
           MX_STRINGS(DOC_WEIGHT, "Direction, of the shape of the weight.", "Norm of the weight, one number.",
                      "Norm of the direction, one number.", DOC_MASTER),
           16, mp_lamb_update_phase2, ),
    MULTI_UPDATE("multi_sgd_update", "sgd_update for several weights: inputs weight_0, grad_0, weight_1, grad_1, ...",
                 multi_sgd_table, multi_check, multi_sgd, in_place_2, ),
    MULTI_UPDATE("multi_sgd_mom_update",
                 "sgd_mom_update for several weights: inputs weight_0, grad_0, mom_0, weight_1, ...",
                 multi_momentum_table, multi_check, multi_sgd_mom, in_place_3, ),
    MULTI_UPDATE("multi_mp_sgd_update",
                 "mp_sgd_update for several weights: inputs weight_0, grad_0, weight32_0, weight_1, ...",
                 multi_sgd_table, multi_check, multi_mp_sgd, in_place_3, ),
    MULTI_UPDATE("multi_mp_sgd_mom_update",
                 "mp_sgd_mom_update for several weights: inputs weight_0, grad_0, mom_0, weight32_0, weight_1, ...",
                 multi_momentum_table, multi_check, multi_mp_sgd_mom, in_place_4, ),
    MULTI_UPDATE("preloaded_multi_sgd_update",
                 "multi_sgd_update with its rates and decays in arrays: the last inputs are lrs and wds.",
                 preloaded_sgd_table, NULL, preloaded_sgd, in_place_2, ),
    MULTI_UPDATE("preloaded_multi_sgd_mom_update",
                 "multi_sgd_mom_update with its rates and decays in arrays: the last inputs are lrs and wds.",
                 preloaded_momentum_table, NULL, preloaded_sgd_mom, in_place_3, ),
    MULTI_UPDATE("preloaded_multi_mp_sgd_update",
                 "multi_mp_sgd_update with its rates and decays in arrays: the last inputs are lrs and wds.",
                 preloaded_sgd_table, NULL, preloaded_mp_sgd, in_place_3, ),
    MULTI_UPDATE("preloaded_multi_mp_sgd_mom_update",
                 "multi_mp_sgd_mom_update with its rates and decays in arrays: the last inputs are lrs and wds.",
                 preloaded_momentum_table, NULL, preloaded_mp_sgd_mom, in_place_4, ),
    MULTI_UPDATE(
        "_multi_adamw_update",
        "_adamw_update for several weights: inputs weight_0, grad_0, mean_0, var_0, weight_1, ..., rescale_grad.",
        multi_adamw_table, multi_adamw_check, multi_adamw_plain, in_place_4, ),
    MULTI_UPDATE(
        "_multi_mp_adamw_update",
        "_mp_adamw_update for several weights: inputs weight_0, grad_0, mean_0, var_0, weight32_0, weight_1, ..., "
        "rescale_grad.",
        multi_adamw_table, multi_adamw_check, multi_adamw_mp, in_place_5, ),
    MULTI_UPDATE("_multi_lamb_update",
                 "Both phases of LAMB for several weights: inputs weight_0, grad_0, mean_0, var_0, weight_1, ...",
                 multi_lamb_table, multi_lamb_check, multi_lamb_plain, in_place_4, .prepare = multi_lamb_prepare),
    MULTI_UPDATE(
        "_multi_mp_lamb_update",
        "_multi_lamb_update for weights in half precision: inputs weight_0, grad_0, mean_0, var_0, weight32_0, "
        "weight_1, ..." MP_NOTE,
        multi_lamb_table, multi_lamb_check, multi_lamb_mp, in_place_5, .prepare = multi_lamb_prepare),
    {.name = "multi_lars",
     .family = FAMILY,
     .doc = "Learning rates of LARS, one a layer: lr eta |w| / (rescale_grad |g| + wd |w| + eps) where both norms are "
            "positive, lr elsewhere.",
     .in_doc = MX_STRINGS("Learning rates.", "Sums of squares of the weights.", "Sums of squares of the gradients.",
                          "Weight decays."),
     .source = "You, Gitman and Ginsburg, Large batch training of convolutional networks, 2017",
     .params = lars_table,
     .params_size = sizeof(mx_update_params),
     .n_in = 4,
     .n_out = 1,
     .in_names = MX_STRINGS("lrs", "weights_sum_sq", "grads_sum_sq", "wds"),
     .infer_dtype = lars_dtype,
     .aliases_mem = in_place,
     .kernel = multi_lars},
    {0}};
