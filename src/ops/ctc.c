/* CTCLoss: connectionist temporal classification (Graves and others, 2006), by the forward-backward recursions in log
 * space, in double. Sequences are shared out among threads; each thread has one table of its own.
 *
 * With gradients wanted, forward also leaves softmax(data) minus the posterior of every class in a hidden output;
 * backward is its product with the gradient of the losses. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/vmath.h"
#include "ops/op.h"

typedef struct ctc_params {
  bool use_data_lengths, use_label_lengths;
  int blank_label;
} ctc_params;

enum { BLANK_FIRST, BLANK_LAST };
static const char *const blanks[] = {"first", "last", NULL};
static const mx_param ctc_table[] = {
    MX_P_BOOL(ctc_params, use_data_lengths, "0", "Sequences have lengths of their own, the input data_lengths."),
    MX_P_BOOL(ctc_params, use_label_lengths, "0",
              "Label sequences have lengths of their own, the input label_lengths; otherwise they end at the padding."),
    MX_P_ENUM(ctc_params, blank_label, "first", blanks,
              "first: class 0 is the blank, labels are padded with 0. last: the last class is the blank, labels are "
              "padded with -1."),
    MX_P_END};

static int ctc_count_in(const void *params) {
  const ctc_params *p = params;
  return 2 + p->use_data_lengths + p->use_label_lengths;
}
static int ctc_count_visible(const void *params) { return 1; }
static void ctc_in_name(const void *params, int i, char *buf, size_t size) {
  static const char *const names[] = {"data", "label", "data_lengths", "label_lengths"};
  if (i == 2 && !((const ctc_params *)params)->use_data_lengths) i = 3;
  snprintf(buf, size, "%s", names[i]);
}

static mx_status ctc_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape data = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  mx_shape label = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN), each = mx_shape_of(MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(&in[0], &data, "data", err));
  MX_TRY(mx_shape_merge(&in[1], &label, "label", err));
  int64_t *n = &in[0].dim[1];
  if (*n < 0) *n = in[1].dim[0];
  each.dim[0] = *n;
  label.dim[0] = *n;
  MX_TRY(mx_shape_merge(&in[1], &label, "label", err));
  for (int i = 2; i < n_in; i++) MX_TRY(mx_shape_merge(&in[i], &each, "lengths", err));
  MX_TRY(mx_shape_merge(&out[0], &each, "output", err));
  return mx_shape_merge(&out[1], &in[0], "gradient", err);
}
static mx_status ctc_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype t = in[0] != MX_DTYPE_UNKNOWN ? in[0] : out[0];
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  if (!mx_dtype_is_float(t) || (out[0] != MX_DTYPE_UNKNOWN && out[0] != t))
    return mx_fail(err, MX_ERR_TYPE, "data and output must be of one floating-point type, not %s and %s.",
                   mx_dtype_name(t), mx_dtype_name(out[0] == MX_DTYPE_UNKNOWN ? t : out[0]));
  in[0] = out[0] = out[1] = t;
  for (int i = 1; i < n_in; i++)
    if (in[i] == MX_DTYPE_UNKNOWN) in[i] = t;
  return MX_OK;
}

static double value_at(const mx_tensor *t, int64_t i) {
  MX_SWITCH_ALL(t->dtype, return NAN, return (double)((const T *)t->data)[i];)
  return NAN;
}

#define ACC(T) __typeof__((T)0 + 0.0f)

/* log(sum of exp) of a row. */
MX_CLONES static double row_log_sum(const void *x_, int64_t n, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    A m = -INFINITY, sum = 0;
    _Pragma("omp simd reduction(max : m)") for (int64_t j = 0; j < n; j++) m = (A)x[j] > m ? (A)x[j] : m;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t j = 0; j < n; j++) sum += mx_vexp((A)x[j] - m);
    return (double)m + log((double)sum);
  })
  return NAN;
}
MX_CLONES static void row_softmax(const void *x_, void *y_, int64_t n, double log_sum, mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    const T *x = x_;
    T *y = y_;
    A shift = (A)log_sum;
    _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] = (T)mx_vexp((A)x[j] - shift);
  })
}

static double log_add(double a, double b) {
  double m = a > b ? a : b, d = a > b ? b - a : a - b;
  return m == -INFINITY ? m : m + log1p(exp(d));
}

/* One sequence: T steps of C classes, `step` elements apart; a path visits 2 L + 1 states, blanks around the labels. */
typedef struct sequence {
  const char *data;
  char *gradient; /* NULL: not wanted */
  int64_t T, C, step, L, blank;
  const int64_t *label;
  mx_dtype dtype;
  double *log_sum, *alpha, *beta, *next; /* T; T x states; states; states */
} sequence;

static int64_t state_class(const sequence *s, int64_t state) { return state % 2 ? s->label[state / 2] : s->blank; }

static const char *row(const sequence *s, int64_t t) {
  return s->data + (size_t)(t * s->step) * mx_dtype_size(s->dtype);
}
static double log_probability(const sequence *s, int64_t t, int64_t k) {
  const void *x = row(s, t);
  MX_SWITCH_FLOAT(s->dtype, return NAN, return (double)((const T *)x)[k] - s->log_sum[t];)
  return NAN;
}

/* A state is entered from itself, the one before, and the one before that unless that would skip a blank between equal
 * labels. */
static bool may_skip(const sequence *s, int64_t state) {
  return state % 2 && state >= 3 && s->label[state / 2] != s->label[state / 2 - 1];
}

/* Log probability of all paths up to step t that end in a state, the emission at t included. Returns that of the label.
 */
static double forward_pass(const sequence *s) {
  const int64_t states = 2 * s->L + 1;
  for (int64_t t = 0; t < s->T; t++) {
    double *now = s->alpha + t * states;
    const double *before = now - states;
    for (int64_t i = 0; i < states; i++) {
      double p = -INFINITY;
      if (t == 0) {
        p = i < 2 ? 0 : p;
      } else {
        p = before[i];
        if (i > 0) p = log_add(p, before[i - 1]);
        if (may_skip(s, i)) p = log_add(p, before[i - 2]);
      }
      now[i] = p == -INFINITY ? p : p + log_probability(s, t, state_class(s, i));
    }
  }
  const double *last = s->alpha + (s->T - 1) * states;
  return states > 1 ? log_add(last[states - 1], last[states - 2]) : last[0];
}

/* From the last step back: beta is the log probability of the steps after t, given the state at t. Takes the posterior
 * of each class from the softmax that the gradient holds. */
static void backward_pass(const sequence *s, double total) {
  const int64_t states = 2 * s->L + 1;
  double *beta = s->beta, *next = s->next;
  for (int64_t i = 0; i < states; i++) beta[i] = i >= states - 2 ? 0 : -INFINITY;
  for (int64_t t = s->T - 1; t >= 0; t--) {
    char *g = s->gradient + (size_t)(t * s->step) * mx_dtype_size(s->dtype);
    const double *alpha = s->alpha + t * states;
    row_softmax(row(s, t), g, s->C, s->log_sum[t], s->dtype);
    MX_SWITCH_FLOAT(s->dtype, break, {
      for (int64_t i = 0; i < states; i++) {
        T *x = (T *)g + state_class(s, i);
        *x = (T)((double)*x - exp(alpha[i] + beta[i] - total));
      }
    })
    for (int64_t i = 0; i < states; i++) next[i] = beta[i] + log_probability(s, t, state_class(s, i));
    for (int64_t i = 0; i < states; i++) {
      double p = next[i];
      if (i + 1 < states) p = log_add(p, next[i + 1]);
      if (i + 2 < states && may_skip(s, i + 2)) p = log_add(p, next[i + 2]);
      beta[i] = p;
    }
  }
}

/* The longest label that is read, and what a thread needs, in doubles: log sums, alpha, beta, next, the label. */
static int64_t table_size(const mx_shape *data, const mx_shape *label) {
  int64_t T = data->dim[0], states = 2 * label->dim[1] + 1;
  return T + T * states + 2 * states + label->dim[1] + 8;
}

static mx_status ctc_prepare(mx_call *c, mx_error *err) {
  const mx_shape *data = &c->in[0].shape, *label = &c->in[1].shape;
  mx_shape table = mx_shape_of(data->dim[0] + 2, label->dim[1] + 2, 2 * (int64_t)sizeof(double));
  MX_TRY(mx_shape_check_size(&table, (size_t)mx_threads(), err));
  c->workspace_bytes = (size_t)table_size(data, label) * sizeof(double) * (size_t)mx_threads();
  return MX_OK;
}

static int64_t length_at(const mx_tensor *t, int64_t i, int64_t most) {
  double x = value_at(t, i);
  return x >= (double)most ? most : x > 0 ? (int64_t)x : 0;
}

/* Reads label sequence n into s->label. False when the steps cannot spell it: too short, or a label that is no class.
 */
static bool read_label(sequence *s, const mx_call *c, int64_t n, int64_t *label) {
  const ctc_params *p = c->params;
  int64_t S = c->in[1].shape.dim[1], repeats = 0;
  s->L = p->use_label_lengths ? length_at(&c->in[c->n_in - 1], n, S) : S;
  s->label = label;
  for (int64_t i = 0; i < s->L; i++) {
    double x = value_at(&c->in[1], n * S + i);
    if (!p->use_label_lengths && (p->blank_label == BLANK_FIRST ? x == 0 : x < 0)) {
      s->L = i;
      break;
    }
    if (!(x >= 0 && x < (double)s->C) || (int64_t)x == s->blank) return false;
    label[i] = (int64_t)x;
    repeats += i > 0 && label[i] == label[i - 1];
  }
  return s->L + repeats <= s->T && s->C > 0;
}

static void run_sequence(const mx_call *c, int64_t n, double *memory) {
  const ctc_params *p = c->params;
  const mx_tensor *data = &c->in[0];
  int64_t steps = data->shape.dim[0], N = data->shape.dim[1], C = data->shape.dim[2], S = c->in[1].shape.dim[1];
  size_t element = mx_dtype_size(data->dtype), first = (size_t)(n * C) * element;
  sequence s = {.data = (const char *)data->data + first, .T = steps, .C = C, .step = N * C, .dtype = data->dtype};
  if (c->req[1] != MX_NULL) s.gradient = (char *)c->out[1].data + first;
  s.blank = p->blank_label == BLANK_FIRST ? 0 : C - 1;
  if (p->use_data_lengths) s.T = length_at(&c->in[2], n, steps);
  s.log_sum = memory;
  s.beta = s.log_sum + steps;
  s.next = s.beta + 2 * S + 1;
  s.alpha = s.next + 2 * S + 1;
  int64_t *label = (int64_t *)(s.alpha + steps * (2 * S + 1));
  bool possible = read_label(&s, c, n, label);
  double total = 0;
  if (possible && s.T > 0) {
    for (int64_t t = 0; t < s.T; t++) s.log_sum[t] = row_log_sum(row(&s, t), C, s.dtype);
    total = forward_pass(&s);
  }
  if (s.gradient && possible && s.T > 0) backward_pass(&s, total);
  for (int64_t t = possible ? s.T : 0; s.gradient && t < steps; t++)
    memset(s.gradient + (size_t)(t * s.step) * element, 0, (size_t)C * element);
  if (c->req[0] != MX_NULL) MX_SWITCH_FLOAT(s.dtype, break, ((T *)c->out[0].data)[n] = (T)-total;)
}

static mx_status ctc_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *data = &c->in[0].shape, *label = &c->in[1].shape;
  int64_t N = data->dim[1], table = table_size(data, label);
  int64_t tables = (int64_t)(c->workspace_bytes / sizeof(double)) / table;
  int64_t threads = mx_threads_for(table * N * 16, MX_GRAIN);
  if (threads > tables) threads = tables;
#pragma omp parallel for num_threads((int)threads) schedule(static)
  for (int64_t k = 0; k < threads; k++)
    for (int64_t n = k; n < N; n += threads) run_sequence(c, n, (double *)c->workspace + k * table);
  return MX_OK;
}

static mx_status ctc_gradient(mx_grad *g, mx_error *err) {
  if (!g->wanted[0] || !g->out_grad[0].node || mx_shape_size(&g->in_shape[0]) == 0) return MX_OK;
  char shape[64];
  snprintf(shape, sizeof(shape), "(1,%lld,1)", (long long)g->in_shape[0].dim[1]);
  mx_entry pair[2] = {{g->out[0].node, 1}, MX_NO_ENTRY};
  MX_TRY(mx_grad_call(g, "Reshape", (const char *const[]){"shape", shape, NULL}, &g->out_grad[0], 1, &pair[1], err));
  return mx_grad_call(g, "broadcast_mul", NULL, pair, 2, &g->in_grad[0], err);
}

const mx_op mx_ops_ctc[] = {
    {.name = "CTCLoss",
     .aliases = MX_STRINGS("_contrib_CTCLoss", "_contrib_ctc_loss", "ctc_loss"),
     .family = "Losses and outputs",
     .doc = "Connectionist temporal classification: for each sequence -log of the probability that softmax(data) "
            "spells the "
            "label, summed over all ways to stretch it and to put blanks between. A label that cannot be spelt - "
            "longer than "
            "the sequence allows, or with a number that is no class - has loss 0 and no gradient.",
     .in_doc =
         MX_STRINGS("Scores, native shape (time, batch, classes).", "Labels, native shape (batch, longest label).",
                    "Lengths of the sequences, native shape (batch,); with use_data_lengths only.",
                    "Lengths of the labels, native shape (batch,); with use_label_lengths only."),
     .source =
         "Graves and others, Connectionist temporal classification: labelling unsegmented sequence data with recurrent "
         "neural networks, 2006",
     .params = ctc_table,
     .params_size = sizeof(ctc_params),
     .n_in = 2,
     .n_out = 2,
     .out_names = MX_STRINGS("output0", "gradient"),
     .count_in = ctc_count_in,
     .count_visible = ctc_count_visible,
     .in_names = MX_STRINGS("data", "label", "data_lengths", "label_lengths"), /* all that there may be */
     .in_name = ctc_in_name,
     .infer_shape = ctc_shape,
     .infer_dtype = ctc_dtype,
     .gradient = ctc_gradient,
     .prepare = ctc_prepare,
     .kernel = ctc_kernel},
    {0}};
