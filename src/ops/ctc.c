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
#include "ops/scalar_math.h"

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
MX_CLONES static void row_softmax(const void *x_, void *y_, int64_t n, double log_sum, mx_dtype dtype){
    MX_SWITCH_FLOAT(dtype, break,
                    {
                      typedef ACC(T) A;
                      const T *x = x_;
                      T *y = y_;
                      A shift = (A)log_sum;
                      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) y[j] = (T)mx_vexp((A)x[j] - shift);
                    })}

/* p[i] = log(exp(a[i]) + exp(b[i]) + exp(c[i] + skip[i])). The largest counts as 1, and differences end at -700: what
 * is smaller changes no sum, and the vector versions of exp and log only get ordinary numbers. */
MX_CLONES
    static void log_sums(const double *a, const double *b, const double *c, const double *skip, double *p, int64_t n) {
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {
    double x = a[i], y = b[i], z = c[i] + skip[i], all = x + y + z;
    double high = x > y ? x : y, low = x > y ? y : x;
    double most = high > z ? high : z, rest = high > z ? z : high;
    double shift = most == -INFINITY ? 0 : most, u = low - shift, v = rest - shift;
    double sum = 1 + mxs_exp(u < -700 ? -700 : u) + mxs_exp(v < -700 ? -700 : v), r = most + mxs_log(sum);
    p[i] = all == all ? r : all; /* NaN stays */
  }
}
/* Probabilities of the states: exp(alpha + beta - total). */
MX_CLONES static void posteriors(const double *alpha, const double *beta, double total, double *p, int64_t n) {
  _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {
    double x = alpha[i] + beta[i] - total, y = mxs_exp(x < -700 ? -700 : x);
    p[i] = x < -700 ? 0 : y;
  }
}

/* One sequence: T steps of C classes, `step` elements apart; a path visits 2 L + 1 states, blanks around the labels. */
typedef struct sequence {
  const char *data;
  char *gradient; /* NULL: not wanted */
  int64_t T, C, step, L, blank;
  const int64_t *label;
  mx_dtype dtype;
  /* Rows have two places more than states, of probability 0: before the states in alpha, behind them in the others. */
  double *log_sum, *alpha, *beta, *next, *skip, *emission; /* T; T rows; a row each */
} sequence;

static int64_t row_size(int64_t labels) { return 2 * labels + 3; }
static int64_t state_class(const sequence *s, int64_t state) { return state % 2 ? s->label[state / 2] : s->blank; }

static const char *row(const sequence *s, int64_t t) {
  return s->data + (size_t)(t * s->step) * mx_dtype_size(s->dtype);
}

/* Log probabilities at step t of the classes of all states. */
static void read_emissions(const sequence *s, int64_t t) {
  const void *x = row(s, t);
  MX_SWITCH_FLOAT(s->dtype, return, {
    for (int64_t i = 0; i < 2 * s->L + 1; i++)
      s->emission[i] = (double)((const T *)x)[state_class(s, i)] - s->log_sum[t];
  })
}

/* A state is entered from itself, the one before, and the one before that unless that would skip a blank between equal
 * labels: 0 or log(0). */
static void fill_skip(const sequence *s) {
  for (int64_t i = 0; i < row_size(s->L); i++) {
    bool may = i % 2 && i >= 3 && i / 2 < s->L && s->label[i / 2] != s->label[i / 2 - 1];
    s->skip[i] = may ? 0 : -INFINITY;
  }
}

/* Log probability of all paths up to step t that end in a state, the emission at t included. Returns that of the label.
 */
static double forward_pass(const sequence *s) {
  const int64_t states = 2 * s->L + 1, width = row_size(s->L);
  for (int64_t t = 0; t < s->T; t++) {
    double *now = s->alpha + t * width + 2;
    const double *before = now - width;
    now[-2] = now[-1] = -INFINITY;
    if (t == 0)
      for (int64_t i = 0; i < states; i++) now[i] = i < 2 ? 0 : -INFINITY;
    else
      log_sums(before, before - 1, before - 2, s->skip, now, states);
    read_emissions(s, t);
    for (int64_t i = 0; i < states; i++) now[i] = now[i] == -INFINITY ? now[i] : now[i] + s->emission[i];
  }
  const double none = -INFINITY, *last = s->alpha + (s->T - 1) * width + states + 1;
  double total;
  log_sums(last, last - 1, &none, &none, &total, 1); /* before a single state there is the place of probability 0 */
  return total;
}

/* From the last step back: beta is the log probability of the steps after t, given the state at t. Takes the posterior
 * of each class from the softmax that the gradient holds. */
static void backward_pass(const sequence *s, double total) {
  const int64_t states = 2 * s->L + 1, width = row_size(s->L);
  double *beta = s->beta, *next = s->next;
  for (int64_t i = 0; i < states; i++) beta[i] = i >= states - 2 ? 0 : -INFINITY;
  next[states] = next[states + 1] = -INFINITY;
  for (int64_t t = s->T - 1; t >= 0; t--) {
    char *g = s->gradient + (size_t)(t * s->step) * mx_dtype_size(s->dtype);
    row_softmax(row(s, t), g, s->C, s->log_sum[t], s->dtype);
    posteriors(s->alpha + t * width + 2, beta, total, next, states);
    MX_SWITCH_FLOAT(s->dtype, break, {
      for (int64_t i = 0; i < states; i++) {
        T *x = (T *)g + state_class(s, i);
        *x = (T)((double)*x - next[i]);
      }
    })
    read_emissions(s, t);
    for (int64_t i = 0; i < states; i++) next[i] = beta[i] + s->emission[i];
    log_sums(next, next + 1, next + 2, s->skip + 2, beta, states);
  }
}

/* The longest label that is read, and what a thread needs, in doubles: log sums, alpha, four rows, the label. */
static int64_t table_size(const mx_shape *data, const mx_shape *label) {
  int64_t T = data->dim[0];
  return T + (T + 4) * row_size(label->dim[1]) + label->dim[1] + 8;
}

static mx_status ctc_prepare(mx_call *c, mx_error *err) {
  const mx_shape *data = &c->in[0].shape, *label = &c->in[1].shape;
  mx_shape table = mx_shape_of(data->dim[0] + 5, label->dim[1] + 2, 2 * (int64_t)sizeof(double));
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
  s.next = s.beta + row_size(S);
  s.skip = s.next + row_size(S);
  s.emission = s.skip + row_size(S);
  s.alpha = s.emission + row_size(S);
  int64_t *label = (int64_t *)(s.alpha + steps * row_size(S));
  bool possible = read_label(&s, c, n, label);
  double total = 0;
  if (possible && s.T > 0) {
    for (int64_t t = 0; t < s.T; t++) s.log_sum[t] = row_log_sum(row(&s, t), C, s.dtype);
    fill_skip(&s);
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
