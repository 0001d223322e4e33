/* Optimizer updates: the arithmetic.
 *
 * A rule is a loop over one block of elements in float or double. The driver cuts arrays into blocks, gives each thread
 * some, and converts what is stored in another type (half, or half weights with a float master copy) while it is in the
 * cache, so that every array passes through memory once. */
#include "ops/optimizer_rules.h"

#include <math.h>

#include "core/array.h"
#include "core/vmath.h"

/* One block. The arrays have the type of the rule; out may be w or g. */
typedef struct slice {
  int64_t n;
  const void *w, *g;
  void *s[MX_UPDATE_STATES];
  void *out;
  double *sums; /* squares of w and of the update: two numbers a block, for lamb */
} slice;

struct mx_update_rule {
  void (*run_float)(const mx_update_hyper *h, const slice *s);
  void (*run_double)(const mx_update_hyper *h, const slice *s);
};

/* ---- rules ---- */

#define EACH _Pragma("omp simd") for (int64_t i = 0; i < n; i++)
#define SQRT(x) _Generic((x), float : sqrtf, double : sqrt)(x)
#define UNPACK                                                                      \
  const int64_t n = s->n;                                                           \
  const A *w = s->w, *g = s->g;                                                     \
  A *s0 = s->s[0], *s1 = s->s[1], *s2 = s->s[2], *out = s->out;                     \
  const A lr = (A)h->lr, wd = (A)h->wd, rescale = (A)h->rescale, clip = (A)h->clip; \
  (void)s0, (void)s1, (void)s2, (void)w, (void)g, (void)lr, (void)wd, (void)rescale, (void)clip;

#define RULE(name, ...)                                                           \
  MX_CLONES static void name##_float(const mx_update_hyper *h, const slice *s) {  \
    typedef float A;                                                              \
    UNPACK __VA_ARGS__                                                            \
  }                                                                               \
  MX_CLONES static void name##_double(const mx_update_hyper *h, const slice *s) { \
    typedef double A;                                                             \
    UNPACK __VA_ARGS__                                                            \
  }                                                                               \
  const mx_update_rule mx_rule_##name = {name##_float, name##_double};

/* NaN passes. */
#define BOUND(x, limit) ((x) > (limit) ? (limit) : (x) < -(limit) ? -(limit) : (x))
#define GRADIENT BOUND(rescale *g[i], clip)
#define SIGN(x) ((A)((x) > 0) - (A)((x) < 0))

RULE(sgd, {
  const A keep = (A)(1 - h->lr * h->wd);
  EACH out[i] = keep * w[i] - lr * GRADIENT;
})
RULE(sgd_momentum, {
  const A momentum = (A)h->p->momentum, decay = (A)(h->lr * h->wd);
  EACH {
    A m = momentum * s0[i] - decay * w[i] - lr * GRADIENT;
    s0[i] = m;
    out[i] = w[i] + m;
  }
})
/* As recorded: w is read again after out was written, so that in place (out is w) the weight decay in the stored
 * momentum is that of the new weight; and so it always is for half weights. */
RULE(nesterov, {
  const A momentum = (A)h->p->momentum;
  EACH {
    A d = GRADIENT, m = momentum * s0[i], step = lr * (d + wd * w[i]);
    out[i] = w[i] + momentum * (m - step) - step;
    s0[i] = m - lr * (d + wd * w[i]);
  }
})
RULE(nesterov_master, {
  const A momentum = (A)h->p->momentum;
  EACH {
    A d = GRADIENT, m = momentum * s0[i], step = lr * (d + wd * w[i]);
    A x = w[i] + momentum * (m - step) - step;
    s0[i] = m - lr * (d + wd * x);
    out[i] = x;
  }
})
/* As MXNet's R package defines it: the weight decay acts through the momentum only. */
RULE(nesterov_decay, {
  const A momentum = (A)h->p->momentum;
  EACH {
    A d = GRADIENT, m = momentum * s0[i] + d + wd * w[i];
    s0[i] = m;
    out[i] = w[i] - lr * (momentum * m + d);
  }
})
/* Duchi, Hazan and Singer, "Adaptive subgradient methods", 2011. */
RULE(adagrad, {
  const A epsilon = (A)h->p->epsilon;
  EACH {
    A d = GRADIENT, v = s0[i] + d * d;
    s0[i] = v;
    out[i] = w[i] - lr * (d / SQRT(v + epsilon) + wd * w[i]);
  }
})
/* Zeiler, "ADADELTA: an adaptive learning rate method", 2012. States: averages of squared gradients and steps. */
RULE(adadelta, {
  const A keep = (A)h->p->gamma1, rest = 1 - keep, epsilon = (A)h->p->epsilon;
  EACH {
    A d = GRADIENT, v = keep * s0[i] + rest * d * d;
    A step = SQRT(s1[i] + epsilon) / SQRT(v + epsilon) * d;
    s0[i] = v;
    s1[i] = keep * s1[i] + rest * step * step;
    out[i] = w[i] - (step + wd * w[i]);
  }
})
RULE(signsgd, {
  const A keep = (A)(1 - h->lr * h->wd);
  EACH out[i] = keep * w[i] - lr * SIGN(g[i]);
})
RULE(signum, {
  const A momentum = (A)h->p->momentum, rest = (A)(1 - h->p->momentum), keep = (A)(1 - h->lr * h->p->wd_lh);
  EACH {
    A m = momentum * s0[i] - rest * (wd * w[i] + GRADIENT);
    s0[i] = m;
    out[i] = keep * w[i] + lr * SIGN(m);
  }
})
RULE(adam, {
  const A b1 = (A)h->p->beta1, b2 = (A)h->p->beta2, c1 = 1 - b1, c2 = 1 - b2;
  const A epsilon = (A)h->p->epsilon;
  EACH {
    A d = rescale * g[i] + wd * w[i];
    d = BOUND(d, clip);
    A m = b1 * s0[i] + c1 * d, v = b2 * s1[i] + c2 * d * d;
    s0[i] = m;
    s1[i] = v;
    out[i] = w[i] - lr * m / (SQRT(v) + epsilon);
  }
})
/* Decoupled weight decay: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. */
RULE(adamw, {
  const A b1 = (A)h->p->beta1, b2 = (A)h->p->beta2, c1 = 1 - b1, c2 = 1 - b2;
  const A epsilon = (A)h->p->epsilon, eta = (A)h->eta;
  EACH {
    A d = GRADIENT, m = b1 * s0[i] + c1 * d, v = b2 * s1[i] + c2 * d * d;
    s0[i] = m;
    s1[i] = v;
    out[i] = w[i] - eta * (lr * m / (SQRT(v) + epsilon) + wd * w[i]);
  }
})
RULE(rmsprop, {
  const A keep = (A)h->p->gamma1, rest = (A)(1 - h->p->gamma1), epsilon = (A)h->p->epsilon;
  const A bound = h->p->clip_weights > 0 ? (A)h->p->clip_weights : (A)INFINITY;
  EACH {
    A d = rescale * g[i] + wd * w[i];
    d = BOUND(d, clip);
    A v = keep * s0[i] + rest * d * d;
    s0[i] = v;
    A x = w[i] - lr * d / SQRT(v + epsilon);
    out[i] = BOUND(x, bound);
  }
})
/* Graves, "Generating sequences with recurrent neural networks", 2013, equations 38 to 45. */
RULE(rmsprop_centered, {
  const A keep = (A)h->p->gamma1, rest = (A)(1 - h->p->gamma1), momentum = (A)h->p->gamma2;
  const A epsilon = (A)h->p->epsilon, bound = h->p->clip_weights > 0 ? (A)h->p->clip_weights : (A)INFINITY;
  EACH {
    A d = rescale * g[i] + wd * w[i];
    d = BOUND(d, clip);
    A v = keep * s0[i] + rest * d * d, mean = keep * s1[i] + rest * d;
    A step = momentum * s2[i] - lr * d / SQRT(v - mean * mean + epsilon);
    s0[i] = v;
    s1[i] = mean;
    s2[i] = step;
    A x = w[i] + step;
    out[i] = BOUND(x, bound);
  }
})
/* Zheng and Kwok, "Follow the moving leader in deep learning", 2017. States: d, v, z. */
RULE(ftml, {
  const A b1 = (A)h->p->beta1, b2 = (A)h->p->beta2, c1 = 1 - b1, c2 = 1 - b2;
  const A epsilon = (A)h->p->epsilon, scale = (A)(h->correct1 / h->lr), inverse2 = (A)(1 / h->correct2);
  EACH {
    A d = rescale * g[i] + wd * w[i];
    d = BOUND(d, clip);
    A v = b2 * s1[i] + c2 * d * d, next = scale * (SQRT(v * inverse2) + epsilon);
    A z = b1 * s2[i] + c1 * d - (next - b1 * s0[i]) * w[i];
    s0[i] = next;
    s1[i] = v;
    s2[i] = z;
    out[i] = -z / next;
  }
})
/* McMahan and others, "Ad click prediction: a view from the trenches", 2013. States: z, n. */
RULE(ftrl, {
  const A l1 = (A)h->p->lamda1, beta = (A)h->p->beta, inverse = (A)(1 / h->lr);
  EACH {
    A d = GRADIENT, n0 = s1[i], n1 = n0 + d * d;
    A z = s0[i] + d - (SQRT(n1) - SQRT(n0)) * inverse * w[i];
    s0[i] = z;
    s1[i] = n1;
    A x = (SIGN(z) * l1 - z) / ((beta + SQRT(n1)) * inverse + wd);
    out[i] = (z < 0 ? -z : z) > l1 ? x : (A)0;
  }
})
/* You and others, "Large batch optimization for deep learning: training BERT in 76 minutes", 2020. The update of lamb
 * before the trust ratio; out is the update. */
RULE(lamb_direction, {
  const A b1 = (A)h->p->beta1, b2 = (A)h->p->beta2, c1 = 1 - b1, c2 = 1 - b2;
  const A epsilon = (A)h->p->epsilon, i1 = (A)(1 / h->correct1), i2 = (A)(1 / h->correct2);
  EACH {
    A d = GRADIENT, m = b1 * s0[i] + c1 * d, v = b2 * s1[i] + c2 * d * d;
    s0[i] = m;
    s1[i] = v;
    out[i] = m * i1 / (SQRT(v * i2) + epsilon) + wd * w[i];
  }
})
RULE(lamb_step, {
  const A ratio = (A)h->ratio;
  EACH out[i] = w[i] - ratio * g[i];
})
/* The whole of lamb takes two passes: states and norms, then the step, for which the direction is computed again. */
RULE(lamb_measure, {
  const A b1 = (A)h->p->beta1, b2 = (A)h->p->beta2, c1 = 1 - b1, c2 = 1 - b2;
  const A epsilon = (A)h->p->epsilon, i1 = (A)(1 / h->correct1), i2 = (A)(1 / h->correct2);
  double weight = 0, update = 0;
  _Pragma("omp simd reduction(+ : weight, update)") for (int64_t i = 0; i < n; i++) {
    A d = GRADIENT, m = b1 * s0[i] + c1 * d, v = b2 * s1[i] + c2 * d * d;
    s0[i] = m;
    s1[i] = v;
    A u = m * i1 / (SQRT(v * i2) + epsilon) + wd * w[i];
    weight += (double)(w[i] * w[i]);
    update += (double)(u * u);
  }
  s->sums[0] = weight;
  s->sums[1] = update;
  (void)out;
})
RULE(lamb_apply, {
  const A epsilon = (A)h->p->epsilon, i1 = (A)(1 / h->correct1), i2 = (A)(1 / h->correct2), ratio = (A)h->ratio;
  EACH out[i] = w[i] - ratio * (s0[i] * i1 / (SQRT(s1[i] * i2) + epsilon) + wd * w[i]);
})

/* ---- driver ---- */

static char *at(const mx_tensor *t, int64_t i) { return (char *)t->data + (size_t)i * mx_dtype_size(t->dtype); }

static void run_block(const mx_update_rule *r, const mx_update_hyper *h, const mx_update_operands *o, int64_t from,
                      int64_t n, mx_dtype type) {
  float buffer[MX_UPDATE_STATES + 3][MX_UPDATE_BLOCK]; /* only for arrays that are not of the rule's type: halves */
  double unwanted[MX_UPDATE_BLOCK];
  const mx_tensor *w = o->master ? o->master : o->w,
                  *tensor[MX_UPDATE_STATES + 2] = {w, o->g, o->s[0], o->s[1], o->s[2]};
  void *p[MX_UPDATE_STATES + 2] = {NULL};
  for (int k = 0; k < MX_UPDATE_STATES + 2; k++) {
    if (!tensor[k]) continue;
    p[k] = tensor[k]->dtype == type ? (void *)at(tensor[k], from) : buffer[k];
    if (p[k] == buffer[k]) mx_convert(at(tensor[k], from), tensor[k]->dtype, buffer[k], type, n);
  }
  slice s = {.n = n, .w = p[0], .g = p[1], .s = {p[2], p[3], p[4]}};
  bool direct = o->out && o->out->dtype == type;
  if (o->keep_master)
    s.out = at(o->master, from);
  else
    s.out = direct ? (void *)at(o->out, from) : o->out ? (void *)buffer[MX_UPDATE_STATES + 2] : (void *)unwanted;
  if (o->sums) s.sums = o->sums + 2 * (from / MX_UPDATE_BLOCK);
  (type == MX_FLOAT64 ? r->run_double : r->run_float)(h, &s);
  for (int k = 2; k < MX_UPDATE_STATES + 2; k++)
    if (tensor[k] && p[k] == buffer[k]) mx_convert(buffer[k], type, at(tensor[k], from), tensor[k]->dtype, n);
  if (o->out && (o->keep_master || !direct)) mx_convert(s.out, type, at(o->out, from), o->out->dtype, n);
}

void mx_update_run(const mx_update_rule *r, const mx_update_hyper *h, const mx_update_operands *o) {
  int64_t n = mx_shape_size(&o->w->shape);
  mx_dtype type = !o->master && o->w->dtype == MX_FLOAT64 ? MX_FLOAT64 : MX_FLOAT32;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN))
  for (int64_t i = 0; i < n; i += MX_UPDATE_BLOCK)
    run_block(r, h, o, i, n - i < MX_UPDATE_BLOCK ? n - i : MX_UPDATE_BLOCK, type);
}
