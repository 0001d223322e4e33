/* Sequences of different lengths in one array, time along dimension 0 (or 1) and the batch along the other: their last
 * elements, masking and reversing. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

typedef struct sequence_params {
  bool use_sequence_length;
  double value; /* of SequenceMask */
  int64_t axis;
  int64_t steps; /* of the backward operator: number of time steps */
} sequence_params;

#define LENGTH_ROW                                   \
  MX_P_BOOL(                                         \
      sequence_params, use_sequence_length, "False", \
      "Sequences have the lengths in sequence_length; otherwise all have the full length and the input is left out.")
#define AXIS_ROW \
  MX_P_INT(sequence_params, axis, "0", 0, 1, "Dimension of time; the batch is the other one of the first two.")

static const mx_param plain_table[] = {LENGTH_ROW, AXIS_ROW, MX_P_END};
static const mx_param mask_table[] = {
    LENGTH_ROW, MX_P_FLOAT(sequence_params, value, "0", MX_ANY, "Value beyond the end."), AXIS_ROW, MX_P_END};
static const mx_param back_table[] = {
    LENGTH_ROW, AXIS_ROW, MX_P_INT(sequence_params, steps, NULL, 0, (double)INT64_MAX, "Number of time steps."),
    MX_P_END};

static int count_in(const void *params) { return ((const sequence_params *)params)->use_sequence_length ? 2 : 1; }

/* data as (first, second, rest): strides of time and batch in units of `rest` elements. */
typedef struct layout {
  int64_t steps, batch, rest, time_stride, batch_stride;
} layout;

static layout make_layout(const mx_shape *s, int64_t axis) {
  int64_t first = s->dim[0], second = s->dim[1];
  layout l = {axis ? second : first, axis ? first : second, mx_shape_prod(s, 2, s->ndim), axis ? 1 : second,
              axis ? second : 1};
  return l;
}

static mx_status data_infer(const sequence_params *p, mx_shape *in, int n_in, mx_error *err) {
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim < 2) {
    char text[MX_SHAPE_TEXT];
    mx_fail(err, MX_ERR_SHAPE, "data of shape %s must have at least two dimensions, time and batch.",
            mx_shape_text(&in[0], text));
    mx_error_set(err, argument, "data");
    return MX_ERR_SHAPE;
  }
  if (n_in < 2) return MX_OK;
  mx_shape length = mx_shape_of(in[0].dim[p->axis ? 0 : 1]);
  MX_TRY(mx_shape_merge(&in[1], &length, "sequence_length", err));
  if (in[0].dim[p->axis ? 0 : 1] < 0) in[0].dim[p->axis ? 0 : 1] = in[1].dim[0];
  return MX_OK;
}

/* The length of sequence b, at most `steps`; without lengths `steps`. */
static void read_lengths(const mx_call *c, int input, const layout *l, int64_t from, int64_t n, int64_t *out) {
  if (c->n_in <= input) {
    for (int64_t i = 0; i < n; i++) out[i] = l->steps;
    return;
  }
  mx_read_indices(&c->in[input], from, n, out);
  for (int64_t i = 0; i < n; i++) out[i] = out[i] < 0 ? 0 : out[i] > l->steps ? l->steps : out[i];
}

static mx_status same_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  MX_TRY(data_infer(params, in, n_in, err));
  return mx_shape_merge(&out[0], &in[0], "output", err);
}

/* Calls the operator itself with the head gradient in the place of data. */
static mx_status self_gradient(mx_grad *g, const char *op, mx_error *err) {
  const sequence_params *p = g->params;
  char axis[MX_INT_TEXT];
  mx_entry in[2] = {MX_NO_ENTRY, g->n_in > 1 ? g->in[1] : MX_NO_ENTRY};
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_call(g, op,
                      (const char *const[]){"use_sequence_length", p->use_sequence_length ? "True" : "False", "axis",
                                            mx_int_text(p->axis, axis), NULL},
                      in, g->n_in, &g->in_grad[0], err);
}

/* ---- SequenceMask, SequenceReverse: rows of `rest` elements, written in the order of memory ---- */

enum { ROWS = 64 };

/* from[k] = the row that row first + k of the output is, for k < n: -1 for masked ones. */
static void row_sources(const mx_call *c, const layout *l, int64_t axis, bool reverse, int64_t first, int64_t n,
                        int64_t *from) {
  for (int64_t k = 0; k < n;) {
    const int64_t row = first + k, inner = axis ? l->steps : l->batch;
    const int64_t some = inner - row % inner < n - k ? inner - row % inner : n - k;
    int64_t end[ROWS];
    read_lengths(c, 1, l, axis ? row / inner : row % inner, axis ? 1 : some, end);
    for (int64_t q = 0; q < some; q++) {
      const int64_t t = axis ? row % inner + q : row / inner, e = end[axis ? 0 : q];
      from[k + q] = t >= e ? (reverse ? row + q : -1) : reverse ? row + q + (e - 1 - 2 * t) * l->time_stride : row + q;
    }
    k += some;
  }
}

static void fetch_row(const char *row, size_t bytes) {
  for (size_t i = 0; i < bytes && i < 4096; i += 64) __builtin_prefetch(row + i);
}

static void fill_row(void *d, uint64_t value, mx_dtype dtype, int64_t n) {
  if (value == 0)
    memset(d, 0, (size_t)n * mx_dtype_size(dtype));
  else
    MX_SWITCH_SIZE(dtype, U, for (int64_t j = 0; j < n; j++)((U *)d)[j] = (U)value;)
}

static void move_rows(const mx_call *c, bool reverse, uint64_t value) {
  const int64_t axis = ((const sequence_params *)c->params)->axis;
  const layout l = make_layout(&c->in[0].shape, axis);
  const size_t bytes = (size_t)l.rest * mx_dtype_size(c->out[0].dtype);
  const int64_t rows = l.steps * l.batch, blocks = (rows + ROWS - 1) / ROWS;
  const char *in = c->in[0].data;
  char *out = c->out[0].data;
#pragma omp parallel for num_threads(mx_threads_for(rows *l.rest, MX_GRAIN))
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t first = i * ROWS, n = rows - first < ROWS ? rows - first : ROWS;
    int64_t from[ROWS];
    row_sources(c, &l, axis, reverse, first, n, from);
    for (int64_t k = 0; k < n; k++) {
      char *d = out + (size_t)(first + k) * bytes;
      if (k + 2 < n && from[k + 2] >= 0) fetch_row(in + (size_t)from[k + 2] * bytes, bytes);
      if (from[k] < 0)
        fill_row(d, value, c->out[0].dtype, l.rest);
      else if (in + (size_t)from[k] * bytes != d)
        memcpy(d, in + (size_t)from[k] * bytes, bytes);
    }
  }
}

static mx_status mask_kernel(const mx_call *c, mx_error *err) {
  const sequence_params *p = c->params;
  uint64_t value = 0;
  if (c->req[0] == MX_NULL) return MX_OK;
  if (!p->use_sequence_length || mx_shape_size(&c->out[0].shape) == 0) return mx_copy_first(c, err);
  mx_convert(&p->value, MX_FLOAT64, &value, c->out[0].dtype, 1);
  move_rows(c, false, value);
  return MX_OK;
}
static mx_status mask_gradient(mx_grad *g, mx_error *err) { return self_gradient(g, "SequenceMask", err); }

static mx_status reverse_kernel(const mx_call *c, mx_error *err) {
  if (c->req[0] != MX_NULL && mx_shape_size(&c->out[0].shape) > 0) move_rows(c, true, 0);
  return MX_OK;
}
static mx_status reverse_gradient(mx_grad *g, mx_error *err) { return self_gradient(g, "SequenceReverse", err); }

/* ---- SequenceLast ---- */

static mx_status last_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const sequence_params *p = params;
  MX_TRY(data_infer(p, in, n_in, err));
  if (in[0].ndim < 0) return MX_OK;
  mx_shape want = {.ndim = in[0].ndim - 1};
  for (int i = 0; i < want.ndim; i++) want.dim[i] = in[0].dim[i + (i >= p->axis)];
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  for (int i = 0; i < want.ndim; i++)
    if (in[0].dim[i + (i >= p->axis)] < 0) in[0].dim[i + (i >= p->axis)] = out[0].dim[i];
  return MX_OK;
}

/* Copies the last element of every sequence out of `data`, or into it. A length of 0 counts as 1. */
static void move_last(const mx_call *c, int lengths, const layout *l, void *data, void *last, bool out) {
  size_t bytes = (size_t)l->rest * mx_dtype_size(c->out[0].dtype);
  for (int64_t b = 0; b < l->batch; b++) {
    int64_t end;
    read_lengths(c, lengths, l, b, 1, &end);
    if (end < 1) end = 1;
    char *at = (char *)data + (size_t)((end - 1) * l->time_stride + b * l->batch_stride) * bytes;
    char *packed = (char *)last + (size_t)b * bytes;
    memcpy(out ? packed : at, out ? at : packed, bytes);
  }
}

static mx_status last_kernel(const mx_call *c, mx_error *err) {
  layout l = make_layout(&c->in[0].shape, ((const sequence_params *)c->params)->axis);
  if (c->req[0] == MX_NULL || mx_shape_size(&c->out[0].shape) == 0) return MX_OK;
  if (l.steps == 0) return mx_fail(err, MX_ERR_SHAPE, "Sequences without a single step have no last element.");
  move_last(c, 1, &l, c->in[0].data, c->out[0].data, true);
  return MX_OK;
}

static mx_status last_gradient(mx_grad *g, mx_error *err) {
  const sequence_params *p = g->params;
  char axis[MX_INT_TEXT], steps[MX_INT_TEXT];
  mx_entry in[2] = {MX_NO_ENTRY, g->n_in > 1 ? g->in[1] : MX_NO_ENTRY};
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_call(
      g, "_backward_SequenceLast",
      (const char *const[]){"use_sequence_length", p->use_sequence_length ? "True" : "False", "axis",
                            mx_int_text(p->axis, axis), "steps", mx_int_text(g->in_shape[0].dim[p->axis], steps), NULL},
      in, g->n_in, &g->in_grad[0], err);
}

static mx_status last_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const sequence_params *p = params;
  if (in[0].ndim < 1 || in[0].ndim >= MX_MAX_NDIM) return MX_OK;
  mx_shape want = {.ndim = in[0].ndim + 1};
  for (int i = 0; i < want.ndim; i++) want.dim[i] = i == p->axis ? p->steps : in[0].dim[i - (i > p->axis)];
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status last_back_kernel(const mx_call *c, mx_error *err) {
  layout l = make_layout(&c->out[0].shape, ((const sequence_params *)c->params)->axis);
  int64_t size = mx_shape_size(&c->out[0].shape);
  if (c->req[0] == MX_NULL || size == 0) return MX_OK;
  MX_TRY(mx_zero_output(c, 0, err));
  move_last(c, 1, &l, c->out[0].data, c->in[0].data, false);
  return MX_OK;
}

#define SEQUENCE                                                                                                    \
  .family = "Sequence",                                                                                             \
  .in_doc = MX_STRINGS("(time, batch, ...) or, with axis = 1, (batch, time, ...).", "(batch,): the lengths."),      \
  .in_names = MX_STRINGS("data", "sequence_length"), .params_size = sizeof(sequence_params), .n_in = 1, .n_out = 1, \
  .count_in = count_in, .infer_dtype = mx_infer_dtype_first

const mx_op mx_ops_sequence[] = {
    {.name = "SequenceLast",
     SEQUENCE,
     .doc = "The last element of every sequence: (time, batch, ...) -> (batch, ...), at step sequence_length[b] - 1 of "
            "sequence "
            "b, or at the last step of all.",
     .params = plain_table,
     .infer_shape = last_infer,
     .gradient = last_gradient,
     .kernel = last_kernel},
    {.name = "_backward_SequenceLast",
     SEQUENCE,
     .params = back_table,
     .infer_shape = last_back_infer,
     .flags = MX_OP_HIDDEN,
     .kernel = last_back_kernel},
    {.name = "SequenceMask",
     SEQUENCE,
     .doc = "Writes a value to all steps from sequence_length[b] on; without lengths data passes unchanged.",
     .params = mask_table,
     .infer_shape = same_infer,
     .gradient = mask_gradient,
     .aliases_mem = mx_alias_first,
     .kernel = mask_kernel},
    {.name = "SequenceReverse",
     SEQUENCE,
     .doc = "Reverses sequences: the first sequence_length[b] steps of each and leaves the rest; without lengths all "
            "steps.",
     .params = plain_table,
     .infer_shape = same_infer,
     .gradient = reverse_gradient,
     .kernel = reverse_kernel},
    {0}};
