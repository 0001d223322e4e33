/* RNN: plain, LSTM and GRU layers over whole sequences.
 *
 * Per layer and direction, forward is one matrix product for the inputs of all time steps, then per step one product
 * for the state and one pass over the gates (rnn_cell.c). Backward goes the other way and leaves the products for the
 * weights to the end, over all steps at once.
 *
 * What backward needs is kept in a hidden output, the reserve: for each layer and direction the activated gates, and
 * the states in T + 1 slots, where step t lies between slots t and t + 1 (backward directions go from slot T to slot
 * 0). In inference the reserve is not there and one layer's worth of workspace takes its place. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/op.h"
#include "ops/rnn_cell.h"

typedef struct rnn_params {
  int64_t state_size, num_layers;
  bool bidirectional;
  int mode;
  double p;
  bool state_outputs;
  mx_opt_int projection_size;
  mx_opt_float lstm_state_clip_min, lstm_state_clip_max;
  bool lstm_state_clip_nan, use_sequence_length;
} rnn_params;

static const char *const modes[] = {"gru", "lstm", "rnn_relu", "rnn_tanh", NULL};
static const mx_param rnn_table[] = {
    MX_P_INT(rnn_params, state_size, NULL, 1, 1 << 24, "Size of the state, per layer and direction."),
    MX_P_INT(rnn_params, num_layers, NULL, 1, 1 << 16, "Number of layers."),
    MX_P_BOOL(rnn_params, bidirectional, "0", "Run a second set of layers from the last time step to the first."),
    MX_P_ENUM(rnn_params, mode, NULL, modes, "Kind of cell."),
    MX_P_FLOAT(rnn_params, p, "0", 0, 1,
               "Probability of dropout on the outputs of all layers but the last, in training."),
    MX_P_BOOL(rnn_params, state_outputs, "0", "Also return the final states."),
    MX_P_OPT_INT(rnn_params, projection_size, "None", 1, 1 << 24, "Size that the state of an LSTM is projected to."),
    MX_P_OPT_FLOAT(rnn_params, lstm_state_clip_min, "None", MX_ANY, "Lower bound of the cell state of an LSTM."),
    MX_P_OPT_FLOAT(rnn_params, lstm_state_clip_max, "None", MX_ANY, "Upper bound of the cell state of an LSTM."),
    MX_P_BOOL(rnn_params, lstm_state_clip_nan, "0",
              "With bounds: a cell state that is not a number becomes the lower one."),
    MX_P_BOOL(
        rnn_params, use_sequence_length, "0",
        "Every sequence has a length of its own, the last input: outputs after its end are 0, states stop there."),
    MX_P_END};

static bool is_lstm(const rnn_params *p) { return p->mode == MX_RNN_LSTM; }

static mx_status rnn_check(void *params, mx_error *err) {
  const rnn_params *p = params;
  if (p->projection_size.given && !is_lstm(p))
    return mx_fail(err, MX_ERR_VALUE, "projection_size is for mode lstm only, not for %s.", modes[p->mode]);
  if (p->lstm_state_clip_min.given != p->lstm_state_clip_max.given)
    return mx_fail(err, MX_ERR_VALUE, "lstm_state_clip_min and lstm_state_clip_max must be given together.");
  if (p->lstm_state_clip_min.given && !is_lstm(p))
    return mx_fail(err, MX_ERR_VALUE, "lstm_state_clip_min and lstm_state_clip_max are for mode lstm only, not for %s.",
                   modes[p->mode]);
  if (p->lstm_state_clip_min.given && p->lstm_state_clip_min.value > p->lstm_state_clip_max.value)
    return mx_fail(err, MX_ERR_VALUE, "lstm_state_clip_min is %g, above lstm_state_clip_max, %g.",
                   p->lstm_state_clip_min.value, p->lstm_state_clip_max.value);
  return MX_OK;
}

/* ---- sizes ---- */

/* T steps, N sequences, I inputs, H cells, P outputs per direction (H without projection), L layers, D directions, G
 * gates. */
typedef struct rnn_dims {
  int64_t T, N, I, H, P, L, D, G;
  bool projection, lengths;
} rnn_dims;

static rnn_dims dims_of(const rnn_params *p, const mx_shape *data) {
  rnn_dims d = {.T = data->dim[0], .N = data->dim[1], .I = data->dim[2], .H = p->state_size, .L = p->num_layers};
  d.projection = p->projection_size.given;
  d.P = d.projection ? p->projection_size.value : d.H;
  d.D = p->bidirectional ? 2 : 1;
  d.G = mx_rnn_gates((mx_rnn_mode)p->mode);
  d.lengths = p->use_sequence_length;
  return d;
}

static int64_t layer_inputs(const rnn_dims *d, int64_t layer) { return layer == 0 ? d->I : d->D * d->P; }

/* Places of the parameters of a layer and direction: input weights (G H, inputs), state weights (G H, P), projection
 * (P, H); the biases (G H) of all layers come after all weights. */
typedef struct rnn_weights {
  int64_t x, h, r, bias_x, bias_h;
} rnn_weights;

static rnn_weights weights_of(const rnn_dims *d, int64_t layer, int64_t direction) {
  int64_t gh = d->G * d->H, rest = gh * d->P + (d->projection ? d->P * d->H : 0);
  int64_t first = gh * d->I + rest, later = gh * d->D * d->P + rest;
  rnn_weights w;
  w.x = layer == 0 ? direction * first : d->D * (first + (layer - 1) * later) + direction * later;
  w.h = w.x + gh * layer_inputs(d, layer);
  w.r = w.h + gh * d->P;
  w.bias_x = d->D * (first + (d->L - 1) * later) + 2 * gh * (layer * d->D + direction);
  w.bias_h = w.bias_x + gh;
  return w;
}
static int64_t parameter_count(const rnn_dims *d) { return weights_of(d, d->L - 1, d->D - 1).bias_h + d->G * d->H; }

/* All counts below are at most this one, which is computed in floating point to see overflows. */
static mx_status check_sizes(const rnn_dims *d, mx_error *err) {
  double weights = (double)d->L * (double)d->D * (double)d->G * (double)d->H *
                   ((double)d->I + (double)(d->D + 2) * (double)d->P + 2);
  double states = (double)d->L * (double)d->D * (double)(d->T + 1) * (double)d->N * (double)(d->G + 4) *
                  ((double)d->H + (double)d->P + (double)d->I);
  if (weights + states < 0x1p56) return MX_OK;
  return mx_fail(err, MX_ERR_SHAPE, "%lld layers of %lld cells for %lld time steps and %lld sequences are too large.",
                 (long long)d->L, (long long)d->H, (long long)d->T, (long long)d->N);
}

/* ---- the reserve ---- */

enum { ALIGN = 64, HEADER = 64 };
static int64_t aligned(int64_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

/* Places in elements, for one layer and direction. */
typedef struct rnn_tape {
  int64_t gates, h, c, candidate, size;
} rnn_tape;
static rnn_tape tape_of(const rnn_params *p, const rnn_dims *d) {
  rnn_tape t = {.gates = 0};
  t.h = aligned(d->T * d->N * d->G * d->H);
  t.c = t.h + aligned((d->T + 1) * d->N * d->P);
  t.candidate = t.c + (is_lstm(p) ? aligned((d->T + 1) * d->N * d->H) : 0);
  t.size = t.candidate + (p->mode == MX_RNN_GRU ? aligned(d->T * d->N * d->H) : 0);
  return t;
}

/* Whether the output of a layer that is not the last needs an array of its own, or is the state slots 1 to T. */
static bool joins(const rnn_params *p, const rnn_dims *d) { return d->D > 1 || d->lengths || p->p > 0; }
static int64_t joined_size(const rnn_dims *d) { return aligned(d->T * d->N * d->D * d->P); }

/* Elements: the header (the random numbers of dropout), tapes, joined outputs. */
static int64_t reserve_size(const rnn_params *p, const rnn_dims *d) {
  return HEADER + d->L * d->D * tape_of(p, d).size + (joins(p, d) ? (d->L - 1) * joined_size(d) : 0);
}

/* ---- inputs, outputs, shapes ---- */

static int rnn_count_in(const void *params) {
  const rnn_params *p = params;
  return 3 + is_lstm(p) + p->use_sequence_length;
}
static int rnn_count_visible(const void *params) {
  const rnn_params *p = params;
  return p->state_outputs ? 2 + is_lstm(p) : 1;
}
static int rnn_count_out(const void *params) { return rnn_count_visible(params) + 1; }
static void rnn_in_name(const void *params, int i, char *buf, size_t size) {
  static const char *const names[] = {"data", "parameters", "state", "state_cell", "sequence_length"};
  const rnn_params *p = params;
  if (i == 3 && !is_lstm(p)) i = 4;
  snprintf(buf, size, "%s", names[i]);
}

static mx_status rnn_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const rnn_params *p = params;
  mx_shape want = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(&in[0], &want, "data", err));
  rnn_dims d = dims_of(p, &in[0]);
  want = mx_shape_of(d.T, d.N, d.D * d.P);
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  int64_t *T = &in[0].dim[0], *N = &in[0].dim[1];
  if (*T < 0) *T = out[0].dim[0];
  if (*N < 0) *N = out[0].dim[1];
  want = mx_shape_of(d.L * d.D, *N, d.P);
  MX_TRY(mx_shape_merge(&in[2], &want, "state", err));
  if (*N < 0) *N = in[2].dim[1];
  want.dim[1] = *N;
  if (p->state_outputs) MX_TRY(mx_shape_merge(&out[1], &want, "state_output", err));
  want.dim[2] = d.H;
  if (is_lstm(p)) MX_TRY(mx_shape_merge(&in[3], &want, "state_cell", err));
  if (is_lstm(p) && p->state_outputs) MX_TRY(mx_shape_merge(&out[2], &want, "statecell_output", err));
  want = mx_shape_of(*N);
  if (d.lengths) MX_TRY(mx_shape_merge(&in[n_in - 1], &want, "sequence_length", err));
  d = dims_of(p, &in[0]);
  if (d.I >= 0) {
    rnn_dims one = d;
    if (one.T < 0) one.T = 1;
    if (one.N < 0) one.N = 1;
    MX_TRY(check_sizes(&one, err));
    want = mx_shape_of(parameter_count(&d));
    MX_TRY(mx_shape_merge(&in[1], &want, "parameters", err));
  }
  if (!mx_shape_known(&in[0])) return MX_OK;
  want = mx_shape_of(reserve_size(p, &d));
  return mx_shape_merge(&out[n_out - 1], &want, "reserve", err);
}

static mx_status rnn_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const rnn_params *p = params;
  int n = n_in - p->use_sequence_length;
  mx_dtype t = MX_DTYPE_UNKNOWN;
  for (int i = 0; i < n + n_out; i++) {
    mx_dtype d = i < n ? in[i] : out[i - n];
    if (d == MX_DTYPE_UNKNOWN) continue;
    if (!mx_dtype_is_float(d) || (t != MX_DTYPE_UNKNOWN && t != d))
      return mx_fail(err, MX_ERR_TYPE, "data, parameters and states must be of one floating-point type, not %s and %s.",
                     mx_dtype_name(t == MX_DTYPE_UNKNOWN ? MX_FLOAT32 : t), mx_dtype_name(d));
    t = d;
  }
  if (t == MX_DTYPE_UNKNOWN) return MX_OK;
  for (int i = 0; i < n; i++) in[i] = t;
  for (int i = 0; i < n_out; i++) out[i] = t;
  if (n < n_in && in[n] == MX_DTYPE_UNKNOWN) in[n] = t;
  return MX_OK;
}

/* ---- one run ---- */

/* Memory of a run: addresses are of `element` bytes each. */
typedef struct rnn_run {
  const mx_call *c;
  const rnn_params *p;
  rnn_dims d;
  rnn_tape tape;
  mx_dtype dtype;
  size_t element;
  const char *parameters;
  char *reserve; /* NULL in inference */
  char *scratch; /* workspace, handed out by take() */
  size_t left;
  uint8_t *valid; /* T x N, with lengths only */
  bool drop;
  mx_random_span span;
} rnn_run;

static char *offset(const rnn_run *r, const void *base, int64_t elements) {
  return (char *)base + (size_t)elements * r->element;
}
/* Copies elements; empty arrays have no address. */
static void move(const rnn_run *r, void *to, const void *from, int64_t elements) {
  if (elements > 0) memcpy(to, from, (size_t)elements * r->element);
}
/* Workspace: sizes are summed when scratch is NULL, addresses handed out otherwise. */
static char *take(rnn_run *r, int64_t elements) {
  size_t bytes = ((size_t)elements * r->element + ALIGN - 1) / ALIGN * ALIGN;
  char *p = r->scratch ? r->scratch + r->left : NULL;
  r->left += bytes;
  return p;
}

static mx_status gemm(const rnn_run *r, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                      const void *b, int64_t ldb, double beta, void *c, int64_t ldc, mx_error *err) {
  mx_gemm g = {.trans_a = ta,
               .trans_b = tb,
               .m = m,
               .n = n,
               .k = k,
               .alpha = 1,
               .beta = beta,
               .a = a,
               .b = b,
               .c = c,
               .lda = lda,
               .ldb = ldb,
               .ldc = ldc,
               .dtype = r->dtype};
  return r->c->device->ops->gemm(r->c->device, &g, err);
}

static void fill_valid(rnn_run *r, const mx_tensor *length) {
  if (!r->d.lengths) return;
  r->valid = (uint8_t *)take(r, (r->d.T * r->d.N + (int64_t)r->element - 1) / (int64_t)r->element);
  if (!r->scratch) return;
  for (int64_t n = 0; n < r->d.N; n++) {
    double len = 0;
    MX_SWITCH_ALL(length->dtype, break, len = (double)((const T *)length->data)[n];)
    for (int64_t t = 0; t < r->d.T; t++) r->valid[t * r->d.N + n] = (double)t < len;
  }
}

/* Inverted dropout in place; the same span gives the same mask in backward. Boundary: after that layer. */
static void dropout(const rnn_run *r, int64_t boundary, void *x) {
  int64_t n = r->d.T * r->d.N * r->d.D * r->d.P;
  uint64_t first = (uint64_t)boundary * (uint64_t)((n + 3) / 4);
  double keep = 1 - r->p->p;
#pragma omp parallel for num_threads(mx_threads_for(n * 4, MX_GRAIN))
  for (int64_t i = 0; i < n; i += 4) {
    uint32_t w[4];
    mx_philox(r->span, first + (uint64_t)(i / 4), 0, w);
    for (int64_t k = 0; k < 4 && i + k < n; k++) {
      double factor = (double)mx_uniform_float(w[k]) < r->p->p ? 0 : 1 / keep;
      MX_SWITCH_FLOAT(r->dtype, break, {
        T *v = (T *)x + i + k;
        *v = factor == 0 ? (T)0 : (T)((double)*v * factor);
      })
    }
  }
}

static mx_rnn_step step_of(const rnn_run *r) {
  mx_rnn_step s = {.mode = (mx_rnn_mode)r->p->mode, .dtype = r->dtype, .rows = r->d.N, .hidden = r->d.H};
  s.clip_min = r->p->lstm_state_clip_min.given ? r->p->lstm_state_clip_min.value : -INFINITY;
  s.clip_max = r->p->lstm_state_clip_max.given ? r->p->lstm_state_clip_max.value : INFINITY;
  s.clip_nan = r->p->lstm_state_clip_min.given && r->p->lstm_state_clip_nan;
  return s;
}

/* Rows of h (N x P, contiguous) to rows of y that are `stride` apart; 0 where the sequence has ended. */
static void write_output(const rnn_run *r, const char *h, char *y, int64_t stride, const uint8_t *valid) {
  size_t bytes = (size_t)r->d.P * r->element;
  for (int64_t n = 0; n < r->d.N; n++) {
    char *to = offset(r, y, n * stride);
    if (valid && !valid[n])
      memset(to, 0, bytes);
    else
      memcpy(to, h + (size_t)n * bytes, bytes);
  }
}

static void sum_biases(const rnn_run *r, const rnn_weights *w, void *out) {
  const void *a = offset(r, r->parameters, w->bias_x), *b = offset(r, r->parameters, w->bias_h);
  MX_SWITCH_FLOAT(r->dtype, break, {
    for (int64_t j = 0; j < r->d.G * r->d.H; j++) ((T *)out)[j] = (T)(((const T *)a)[j] + ((const T *)b)[j]);
  })
}

/* Where a layer and direction keeps its tape. */
static char *tape_at(const rnn_run *r, char *shared, int64_t layer, int64_t direction) {
  return r->reserve ? offset(r, r->reserve, HEADER + (layer * r->d.D + direction) * r->tape.size) : shared;
}
static char *joined_at(const rnn_run *r, char *const shared[2], int64_t layer) {
  if (!r->reserve) return shared[layer % 2];
  return offset(r, r->reserve, HEADER + r->d.L * r->d.D * r->tape.size + layer * joined_size(&r->d));
}

/* ---- forward ---- */

/* Buffers of forward that every layer uses anew. */
typedef struct forward_buffers {
  char *tape, *joined[2], *bias, *recurrent, *candidate, *projected;
} forward_buffers;

static forward_buffers forward_memory(rnn_run *r) {
  const rnn_dims *d = &r->d;
  forward_buffers b = {NULL};
  if (!r->reserve) {
    b.tape = take(r, r->tape.size);
    /* without a reserve the output of a layer leaves the tape before the next layer uses it */
    for (int i = 0; i < 2 && d->L > 1; i++) b.joined[i] = take(r, joined_size(d));
  }
  b.bias = take(r, d->G * d->H);
  if (r->p->mode == MX_RNN_GRU) b.recurrent = take(r, d->N * d->G * d->H);
  if (d->projection) b.projected = take(r, d->N * d->H);
  return b;
}

/* One direction of a layer: x (T N x inputs) to y, whose rows are y_stride apart. y NULL: not wanted. */
static mx_status forward_direction(rnn_run *r, const forward_buffers *b, int64_t layer, int64_t direction,
                                   const char *x, char *y, int64_t y_stride, mx_error *err) {
  const rnn_dims *d = &r->d;
  const int64_t gh = d->G * d->H, k = layer_inputs(d, layer), state = (layer * d->D + direction) * d->N;
  const bool gru = r->p->mode == MX_RNN_GRU;
  rnn_weights w = weights_of(d, layer, direction);
  char *tape = tape_at(r, b->tape, layer, direction);
  char *gates = offset(r, tape, r->tape.gates), *h = offset(r, tape, r->tape.h), *c = offset(r, tape, r->tape.c);
  const char *w_h = offset(r, r->parameters, w.h), *w_r = offset(r, r->parameters, w.r);
  MX_TRY(gemm(r, false, true, d->T * d->N, gh, k, x, k, offset(r, r->parameters, w.x), k, 0, gates, gh, err));
  int64_t start = direction ? d->T : 0;
  move(r, offset(r, h, start * d->N * d->P), offset(r, r->c->in[2].data, state * d->P), d->N * d->P);
  if (is_lstm(r->p)) move(r, offset(r, c, start * d->N * d->H), offset(r, r->c->in[3].data, state * d->H), d->N * d->H);
  mx_rnn_step s = step_of(r);
  if (gru) {
    s.bias = offset(r, r->parameters, w.bias_x);
    s.bias_recurrent = offset(r, r->parameters, w.bias_h);
    s.recurrent = b->recurrent;
  } else {
    sum_biases(r, &w, b->bias);
    s.bias = b->bias;
  }
  for (int64_t i = 0; i < d->T; i++) {
    int64_t t = direction ? d->T - 1 - i : i, before = direction ? t + 1 : t, after = direction ? t : t + 1;
    const char *h_prev = offset(r, h, before * d->N * d->P);
    char *h_next = offset(r, h, after * d->N * d->P);
    s.gates = offset(r, gates, t * d->N * gh);
    s.valid = r->valid ? r->valid + t * d->N : NULL;
    MX_TRY(gemm(r, false, true, d->N, gh, d->P, h_prev, d->P, w_h, d->P, gru ? 0 : 1,
                gru ? b->recurrent : (char *)s.gates, gh, err));
    s.h_prev = d->projection ? NULL : h_prev;
    s.h = d->projection ? b->projected : h_next;
    s.c_prev = offset(r, c, before * d->N * d->H);
    s.c = is_lstm(r->p) ? offset(r, c, after * d->N * d->H) : NULL;
    s.candidate = offset(r, tape, r->tape.candidate + t * d->N * d->H);
    mx_rnn_cell_forward(&s);
    if (d->projection) {
      MX_TRY(gemm(r, false, true, d->N, d->P, d->H, b->projected, d->H, w_r, d->H, 0, h_next, d->P, err));
      for (int64_t n = 0; s.valid && n < d->N; n++)
        if (!s.valid[n]) memcpy(offset(r, h_next, n * d->P), offset(r, h_prev, n * d->P), (size_t)d->P * r->element);
    }
    if (y) write_output(r, h_next, offset(r, y, t * d->N * y_stride), y_stride, s.valid);
  }
  int64_t end = direction ? 0 : d->T;
  if (r->p->state_outputs && r->c->req[1] != MX_NULL)
    move(r, offset(r, r->c->out[1].data, state * d->P), offset(r, h, end * d->N * d->P), d->N * d->P);
  if (r->p->state_outputs && is_lstm(r->p) && r->c->req[2] != MX_NULL)
    move(r, offset(r, r->c->out[2].data, state * d->H), offset(r, c, end * d->N * d->H), d->N * d->H);
  return MX_OK;
}

static rnn_run run_of(const mx_call *c, const mx_tensor *data, const mx_tensor *parameters) {
  rnn_run r = {.c = c, .p = c->params, .dtype = data->dtype, .element = mx_dtype_size(data->dtype)};
  r.d = dims_of(r.p, &data->shape);
  r.tape = tape_of(r.p, &r.d);
  r.parameters = parameters->data;
  return r;
}

/* In inference the tape is shared by the layers, so that their outputs are always joined elsewhere. */
static bool layer_joins(const rnn_run *r) { return !r->reserve || joins(r->p, &r->d); }

static mx_status rnn_prepare(mx_call *c, mx_error *err) {
  rnn_run r = run_of(c, &c->in[0], &c->in[1]);
  MX_TRY(check_sizes(&r.d, err));
  char present;
  r.reserve = c->req[c->n_out - 1] == MX_NULL ? NULL : &present;
  forward_memory(&r);
  fill_valid(&r, NULL);
  c->workspace_bytes = r.left;
  return MX_OK;
}

static mx_status rnn_forward(const mx_call *c, mx_error *err) {
  rnn_run r = run_of(c, &c->in[0], &c->in[1]);
  const rnn_dims *d = &r.d;
  r.reserve = c->req[c->n_out - 1] == MX_NULL ? NULL : c->out[c->n_out - 1].data;
  r.scratch = c->workspace;
  forward_buffers b = forward_memory(&r);
  fill_valid(&r, &c->in[c->n_in - 1]);
  r.drop = c->is_train && r.p->p > 0 && d->L > 1;
  if (r.drop) r.span = mx_random_take((uint64_t)((d->T * d->N * d->D * d->P + 3) / 4) * (uint64_t)(d->L - 1));
  if (r.reserve) {
    memset(r.reserve, 0, HEADER * r.element);
    if (r.drop) memcpy(r.reserve, &r.span, sizeof(r.span));
  }
  const char *x = c->in[0].data;
  for (int64_t layer = 0; layer < d->L; layer++) {
    bool last = layer == d->L - 1;
    char *y = last              ? (c->req[0] == MX_NULL ? NULL : c->out[0].data)
              : layer_joins(&r) ? joined_at(&r, b.joined, layer)
                                : NULL;
    for (int64_t k = 0; k < d->D; k++)
      MX_TRY(forward_direction(&r, &b, layer, k, x, y ? offset(&r, y, k * d->P) : NULL, d->D * d->P, err));
    if (!last && r.drop) dropout(&r, layer, y);
    x = y ? y : offset(&r, tape_at(&r, b.tape, layer, 0), r.tape.h + d->N * d->P);
  }
  return MX_OK;
}

/* ---- backward ---- */

typedef struct backward_buffers {
  char *d_gates, *d_recurrent, *d_h, *d_c, *d_x[2];
  char *d_hidden, *d_outputs, *hidden; /* projection: gradient of o tanh(c), gradients of all outputs, o tanh(c) */
  char *partial;                       /* sums of columns */
} backward_buffers;

static backward_buffers backward_memory(rnn_run *r) {
  const rnn_dims *d = &r->d;
  int64_t all = d->T * d->N * d->G * d->H;
  backward_buffers b = {.d_gates = take(r, all)};
  if (r->p->mode == MX_RNN_GRU) b.d_recurrent = take(r, all);
  b.d_h = take(r, d->N * d->P);
  if (is_lstm(r->p)) b.d_c = take(r, d->N * d->H);
  for (int i = 0; i < 2 && d->L > 1; i++) b.d_x[i] = take(r, d->T * d->N * d->D * d->P);
  if (d->projection) {
    b.d_hidden = take(r, d->N * d->H);
    b.d_outputs = take(r, d->T * d->N * d->P);
    b.hidden = take(r, d->T * d->N * d->H);
  }
  return b;
}

/* out[j] = sum over rows of in[i, j]: by one thread for each group of columns, in the order of the rows. */
enum { COLUMNS = 64 };
MX_CLONES static void sum_columns_group(const void *in_, int64_t rows, int64_t cols, int64_t n, void *out_,
                                        mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef __typeof__((T)0 + 0.0f) A;
    const T *in = in_;
    A sum[COLUMNS] = {0};
    for (int64_t i = 0; i < rows; i++, in += cols) {
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) sum[j] += (A)in[j];
    }
    for (int64_t j = 0; j < n; j++) ((T *)out_)[j] = (T)sum[j];
  })
}
static void sum_columns(const rnn_run *r, const char *in, int64_t rows, int64_t cols, char *out) {
#pragma omp parallel for num_threads(mx_threads_for(rows *cols, MX_GRAIN))
  for (int64_t j = 0; j < cols; j += COLUMNS)
    sum_columns_group(offset(r, in, j), rows, cols, cols - j < COLUMNS ? cols - j : COLUMNS, offset(r, out, j),
                      r->dtype);
}

/* What backward is given: inputs (head gradients, data, parameters, reserve, lengths) and outputs (data, parameters,
 * state, cell state). */
typedef struct backward_io {
  const mx_tensor *d_y, *d_h, *d_c, *data, *parameters, *reserve, *length;
} backward_io;
static backward_io backward_inputs(const mx_call *c) {
  const rnn_params *p = c->params;
  backward_io io = {.d_y = c->in};
  const mx_tensor *t = c->in + 1;
  if (p->state_outputs) io.d_h = t++;
  if (p->state_outputs && is_lstm(p)) io.d_c = t++;
  io.data = t++;
  io.parameters = t++;
  io.reserve = t++;
  io.length = p->use_sequence_length ? t : NULL;
  return io;
}

/* The initial gradient of a state: that of the state output, or 0. */
static void first_gradient(const rnn_run *r, char *to, const mx_tensor *head, int64_t at, int64_t n) {
  if (head)
    move(r, to, offset(r, head->data, at * n), n);
  else if (n > 0)
    memset(to, 0, (size_t)n * r->element);
}

/* One step of the gradient of the states through a projection: b->d_h is N x P, the cell sees N x H. */
static mx_status project_back(const rnn_run *r, const backward_buffers *b, mx_rnn_step *s, int64_t t, const char *w_r,
                              mx_error *err) {
  const rnn_dims *d = &r->d;
  char *d_out = offset(r, b->d_outputs, t * d->N * d->P);
  size_t bytes = (size_t)d->P * r->element;
  for (int64_t n = 0; n < d->N; n++) {
    char *d_h = offset(r, b->d_h, n * d->P), *to = d_out + (size_t)n * bytes;
    if (s->valid && !s->valid[n]) {
      memset(to, 0, bytes);
    } else {
      memcpy(to, d_h, bytes);
      memset(d_h, 0, bytes);
    }
  }
  s->d_h = b->d_hidden;
  return gemm(r, false, false, d->N, d->H, d->P, d_out, d->P, w_r, d->H, 0, b->d_hidden, d->H, err);
}

/* Gradients of one direction's gates for all steps, and of its initial states. d_y: rows d->D * d->P apart. */
static mx_status backward_steps(rnn_run *r, const backward_buffers *b, const backward_io *io, int64_t layer,
                                int64_t direction, const char *d_y, mx_error *err) {
  const rnn_dims *d = &r->d;
  const int64_t gh = d->G * d->H, state = layer * d->D + direction;
  rnn_weights w = weights_of(d, layer, direction);
  char *tape = tape_at(r, NULL, layer, direction), *h = offset(r, tape, r->tape.h), *c = offset(r, tape, r->tape.c);
  const char *w_h = offset(r, r->parameters, w.h), *w_r = offset(r, r->parameters, w.r);
  first_gradient(r, b->d_h, io->d_h, state, d->N * d->P);
  if (is_lstm(r->p)) first_gradient(r, b->d_c, io->d_c, state, d->N * d->H);
  mx_rnn_step s = step_of(r);
  s.d_y_stride = d->D * d->P;
  s.d_c = b->d_c;
  for (int64_t i = 0; i < d->T; i++) {
    int64_t t = direction ? i : d->T - 1 - i, before = direction ? t + 1 : t, after = direction ? t : t + 1;
    s.valid = r->valid ? r->valid + t * d->N : NULL;
    s.gates = offset(r, tape, r->tape.gates + t * d->N * gh);
    s.candidate = offset(r, tape, r->tape.candidate + t * d->N * d->H);
    s.h_prev = offset(r, h, before * d->N * d->P);
    s.c_prev = offset(r, c, before * d->N * d->H);
    s.c = offset(r, c, after * d->N * d->H);
    s.d_gates = offset(r, b->d_gates, t * d->N * gh);
    s.d_gates_recurrent = b->d_recurrent ? offset(r, b->d_recurrent, t * d->N * gh) : NULL;
    s.d_y = offset(r, d_y, t * d->N * d->D * d->P);
    s.d_h = b->d_h;
    s.hidden = d->P;
    mx_rnn_cell_add_output(&s);
    s.hidden = d->H;
    if (d->projection) MX_TRY(project_back(r, b, &s, t, w_r, err));
    mx_rnn_cell_backward(&s);
    MX_TRY(gemm(r, false, false, d->N, d->P, gh, s.d_gates_recurrent ? s.d_gates_recurrent : s.d_gates, gh, w_h, d->P,
                1, b->d_h, d->P, err));
  }
  if (r->c->req[2] != MX_NULL) move(r, offset(r, r->c->out[2].data, state * d->N * d->P), b->d_h, d->N * d->P);
  if (is_lstm(r->p) && r->c->req[3] != MX_NULL)
    move(r, offset(r, r->c->out[3].data, state * d->N * d->H), b->d_c, d->N * d->H);
  return MX_OK;
}

/* Gradients of one direction's parameters, from those of its gates. x is the input of the layer. */
static mx_status backward_weights(rnn_run *r, const backward_buffers *b, int64_t layer, int64_t direction,
                                  const char *x, mx_error *err) {
  const rnn_dims *d = &r->d;
  const int64_t gh = d->G * d->H, rows = d->T * d->N, k = layer_inputs(d, layer);
  rnn_weights w = weights_of(d, layer, direction);
  char *tape = tape_at(r, NULL, layer, direction), *d_w = r->c->out[1].data;
  const char *h_prev = offset(r, tape, r->tape.h + (direction ? d->N * d->P : 0));
  const char *d_rec = b->d_recurrent ? b->d_recurrent : b->d_gates;
  MX_TRY(gemm(r, true, false, gh, k, rows, b->d_gates, gh, x, k, 0, offset(r, d_w, w.x), k, err));
  MX_TRY(gemm(r, true, false, gh, d->P, rows, d_rec, gh, h_prev, d->P, 0, offset(r, d_w, w.h), d->P, err));
  sum_columns(r, b->d_gates, rows, gh, offset(r, d_w, w.bias_x));
  if (b->d_recurrent)
    sum_columns(r, b->d_recurrent, rows, gh, offset(r, d_w, w.bias_h));
  else
    memcpy(offset(r, d_w, w.bias_h), offset(r, d_w, w.bias_x), (size_t)gh * r->element);
  if (!d->projection) return MX_OK;
  for (int64_t t = 0; t < d->T; t++)
    mx_rnn_cell_hidden(offset(r, tape, r->tape.gates + t * d->N * gh),
                       offset(r, tape, r->tape.c + (direction ? t : t + 1) * d->N * d->H),
                       offset(r, b->hidden, t * d->N * d->H), d->N, d->H, r->dtype);
  return gemm(r, true, false, d->P, d->H, rows, b->d_outputs, d->P, b->hidden, d->H, 0, offset(r, d_w, w.r), d->H, err);
}

static mx_status rnn_backward_prepare(mx_call *c, mx_error *err) {
  backward_io io = backward_inputs(c);
  rnn_run r = run_of(c, io.data, io.parameters);
  MX_TRY(check_sizes(&r.d, err));
  backward_memory(&r);
  fill_valid(&r, io.length);
  c->workspace_bytes = r.left;
  return MX_OK;
}

static mx_status rnn_backward(const mx_call *c, mx_error *err) {
  backward_io io = backward_inputs(c);
  rnn_run r = run_of(c, io.data, io.parameters);
  const rnn_dims *d = &r.d;
  r.reserve = io.reserve->data;
  r.scratch = c->workspace;
  backward_buffers b = backward_memory(&r);
  fill_valid(&r, io.length);
  r.drop = r.p->p > 0 && d->L > 1;
  if (r.drop) memcpy(&r.span, r.reserve, sizeof(r.span));
  const int64_t gh = d->G * d->H, rows = d->T * d->N;
  char *d_y = io.d_y->data;
  for (int64_t layer = d->L - 1; layer >= 0; layer--) {
    const int64_t k = layer_inputs(d, layer);
    const char *x = layer == 0      ? (char *)io.data->data
                    : joins(r.p, d) ? joined_at(&r, NULL, layer - 1)
                                    : offset(&r, tape_at(&r, NULL, layer - 1, 0), r.tape.h + d->N * d->P);
    char *d_x = layer > 0 ? b.d_x[layer % 2] : c->req[0] == MX_NULL ? NULL : c->out[0].data;
    for (int64_t direction = 0; direction < d->D; direction++) {
      rnn_weights w = weights_of(d, layer, direction);
      MX_TRY(backward_steps(&r, &b, &io, layer, direction, offset(&r, d_y, direction * d->P), err));
      if (c->req[1] != MX_NULL) MX_TRY(backward_weights(&r, &b, layer, direction, x, err));
      if (d_x)
        MX_TRY(gemm(&r, false, false, rows, k, gh, b.d_gates, gh, offset(&r, r.parameters, w.x), k, direction, d_x, k,
                    err));
    }
    if (layer > 0 && r.drop) dropout(&r, layer - 1, d_x);
    d_y = d_x;
  }
  return MX_OK;
}

static mx_status rnn_gradient(mx_grad *g, mx_error *err) {
  const rnn_params *p = g->params;
  mx_entry in[8], out;
  int n = 0, visible = rnn_count_visible(p);
  for (int i = 0; i < visible; i++) MX_TRY(mx_grad_head(g, i, &in[n++], err));
  in[n++] = g->in[0];
  in[n++] = g->in[1];
  in[n++] = (mx_entry){g->out[0].node, visible};
  if (p->use_sequence_length) in[n++] = g->in[g->n_in - 1];
  MX_TRY(mx_grad_backward(g, "_backward_RNN", in, n, &out, err));
  for (int i = 0; i < 3 + is_lstm(p); i++) g->in_grad[i] = (mx_entry){out.node, i};
  return MX_OK;
}

static int rnn_backward_count_in(const void *params) {
  const rnn_params *p = params;
  return rnn_count_visible(p) + 3 + p->use_sequence_length;
}
static int rnn_backward_count_out(const void *params) { return 3 + is_lstm(params); }
static void rnn_backward_in_name(const void *params, int i, char *buf, size_t size) {
  int visible = rnn_count_visible(params);
  static const char *const names[] = {"data", "parameters", "reserve", "sequence_length"};
  if (i < visible)
    snprintf(buf, size, "out_grad%d", i);
  else
    snprintf(buf, size, "%s", names[i - visible]);
}
static mx_status rnn_backward_shape(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                    mx_error *err) {
  const rnn_params *p = params;
  const mx_shape *data = &in[rnn_count_visible(p)];
  MX_TRY(mx_shape_merge(&out[0], data, "the gradient of data", err));
  MX_TRY(mx_shape_merge(&out[1], data + 1, "the gradient of parameters", err));
  if (!mx_shape_known(data)) return MX_OK;
  rnn_dims d = dims_of(p, data);
  mx_shape state = mx_shape_of(d.L * d.D, d.N, d.P), cell = mx_shape_of(d.L * d.D, d.N, d.H);
  MX_TRY(mx_shape_merge(&out[2], &state, "the gradient of state", err));
  return n_out > 3 ? mx_shape_merge(&out[3], &cell, "the gradient of state_cell", err) : MX_OK;
}

const mx_op mx_ops_rnn[] = {
    {.name = "RNN",
     .family = "Neural-network layers",
     .doc = "Recurrent layers over whole sequences. rnn_relu, rnn_tanh: h' = act(W x + b + R h + c). lstm: i, f, o = "
            "sigmoid, g = "
            "tanh of their own affine maps of x and h; the cell is f c + i g, the state o tanh(cell). gru: r, z = "
            "sigmoid; n = "
            "tanh(W x + b + r (R h + c)); h' = (1 - z) n + z h. The native shape of the output is (time, batch, "
            "directions * "
            "state_size). parameters holds, for each layer and direction, the input weights (gates * state_size, "
            "inputs), the "
            "state weights (gates * state_size, state_size) and the projection, if any; after them, in the same order, "
            "the two "
            "bias vectors. Gates are in the order i, f, g, o and r, z, n.",
     .in_doc = MX_STRINGS("Native shape (time, batch, inputs).", "Weights and biases of all layers in one vector.",
                          "Initial state, native shape (layers * directions, batch, state_size).",
                          "Initial cell state, of the shape of state; mode lstm only.",
                          "Lengths of the sequences, native shape (batch,); with use_sequence_length only."),
     .in_names = MX_STRINGS("data", "parameters", "state", "state_cell", "sequence_length"), /* all that there may be */
     .params = rnn_table,
     .params_size = sizeof(rnn_params),
     .check = rnn_check,
     .n_in = 3,
     .n_out = 2,
     .out_names = MX_STRINGS("output", "state_output", "statecell_output", "reserve"),
     .count_in = rnn_count_in,
     .count_out = rnn_count_out,
     .count_visible = rnn_count_visible,
     .in_name = rnn_in_name,
     .infer_shape = rnn_shape,
     .infer_dtype = rnn_dtype,
     .gradient = rnn_gradient,
     .flags = MX_OP_RANDOM,
     .prepare = rnn_prepare,
     .kernel = rnn_forward},
    {.name = "_backward_RNN",
     .family = "Neural-network layers",
     .doc = "Gradients of RNN.",
     .params = rnn_table,
     .params_size = sizeof(rnn_params),
     .check = rnn_check,
     .n_in = 4,
     .n_out = 3,
     .count_in = rnn_backward_count_in,
     .count_out = rnn_backward_count_out,
     .in_name = rnn_backward_in_name,
     .infer_shape = rnn_backward_shape,
     .infer_dtype = rnn_dtype,
     .flags = MX_OP_HIDDEN,
     .prepare = rnn_backward_prepare,
     .kernel = rnn_backward},
    {0}};
