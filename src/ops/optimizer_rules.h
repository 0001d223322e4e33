/* The arithmetic of optimizer updates: rules, and the driver that runs one over arrays. */
#ifndef MX_OPS_OPTIMIZER_RULES_H
#define MX_OPS_OPTIMIZER_RULES_H

#include "ops/op.h"

enum { MX_UPDATE_BLOCK = 1024, MX_UPDATE_STATES = 3 };

/* All parameters of all rules; every operator's table names those that it has. */
typedef struct mx_update_params {
  double lr, wd, momentum, rescale_grad, clip_gradient, beta1, beta2, epsilon, gamma1, gamma2, clip_weights, lamda1,
      beta, eta, eps, wd_lh, lower_bound, upper_bound;
  int64_t t, num_weights;
  bool lazy_update, bias_correction;
  mx_floats lrs, wds, etas;
  mx_ints step_count;
} mx_update_params;

/* What a rule computes with: the parameters, resolved for one weight. */
typedef struct mx_update_hyper {
  const mx_update_params *p;
  double lr, wd, eta, rescale;
  double clip;               /* infinite when there is no clipping */
  double correct1, correct2; /* 1 - beta^t, or 1 */
  double ratio;              /* learning rate times trust ratio */
} mx_update_hyper;

typedef struct mx_update_rule mx_update_rule;
extern const mx_update_rule mx_rule_sgd, mx_rule_sgd_momentum, mx_rule_nesterov, mx_rule_nesterov_master,
    mx_rule_nesterov_decay, mx_rule_adagrad, mx_rule_adadelta, mx_rule_signsgd, mx_rule_signum, mx_rule_adam,
    mx_rule_adamw, mx_rule_rmsprop, mx_rule_rmsprop_centered, mx_rule_ftml, mx_rule_ftrl, mx_rule_lamb_direction,
    mx_rule_lamb_step, mx_rule_lamb_measure, mx_rule_lamb_apply;

/* The arrays of one weight; master is weight32 or NULL, out NULL when it is not wanted. */
typedef struct mx_update_operands {
  const mx_tensor *w, *g, *s[MX_UPDATE_STATES], *master, *out;
  bool keep_master; /* the new weight goes to the master copy too */
  double *sums;
} mx_update_operands;

/* Runs the rule over all elements. With a master copy it is what the rule reads as the weight. */
void mx_update_run(const mx_update_rule *r, const mx_update_hyper *h, const mx_update_operands *o);

#endif
