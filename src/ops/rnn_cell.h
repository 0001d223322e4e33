/* The elementwise part of recurrent cells: one time step of a batch, forward and backward. */
#ifndef MX_OPS_RNN_CELL_H
#define MX_OPS_RNN_CELL_H

#include "ops/op.h"

typedef enum mx_rnn_mode { MX_RNN_GRU, MX_RNN_LSTM, MX_RNN_RELU, MX_RNN_TANH } mx_rnn_mode;

static inline int mx_rnn_gates(mx_rnn_mode mode) { return mode == MX_RNN_LSTM ? 4 : mode == MX_RNN_GRU ? 3 : 1; }

/* One step. All arrays are rows x hidden, but for gates and their gradients: rows x (gates * hidden), in the order of
 * the parameters (LSTM: i, f, g, o; GRU: r, z, n). Rows whose `valid` is 0 are past the end of their sequence: they
 * keep their state. */
typedef struct mx_rnn_step {
  mx_rnn_mode mode;
  mx_dtype dtype;
  int64_t rows, hidden;
  const uint8_t *valid;      /* NULL: all */
  double clip_min, clip_max; /* of the cell state; infinite: none */
  bool clip_nan;

  /* forward: gates hold W_x x, for LSTM and plain cells + W_h h; they become the activated gates */
  void *gates;
  const void *recurrent;             /* GRU: W_h h */
  const void *bias, *bias_recurrent; /* for LSTM and plain cells `bias` is the sum of both */
  const void *h_prev, *c_prev;
  void *h, *c;
  void *candidate; /* GRU: W_h h + b_h of the candidate gate, kept for backward */

  /* backward: gates, candidate, h_prev, c_prev and c as forward left them. d_h is the gradient of h on entry and, on
   * return, the part of the gradient of h_prev that does not pass through W_h; d_c likewise. */
  void *d_h, *d_c;
  const void *d_y; /* gradient of the output, rows d_y_stride apart; NULL: none */
  int64_t d_y_stride;
  void *d_gates;           /* of W_x x + b_x */
  void *d_gates_recurrent; /* GRU: of W_h h + b_h */
} mx_rnn_step;

void mx_rnn_cell_forward(const mx_rnn_step *s);
/* Projected LSTMs call mx_rnn_cell_add_output before the projection's gradient; others leave it to the cell. */
void mx_rnn_cell_backward(const mx_rnn_step *s);

/* d_h += d_y where the row is valid; columns of d_h: `hidden`. */
void mx_rnn_cell_add_output(const mx_rnn_step *s);

/* o * tanh(c), the hidden state before a projection, for n elements of rows of `hidden`. */
void mx_rnn_cell_hidden(const void *gates, const void *c, void *out, int64_t rows, int64_t hidden, mx_dtype dtype);

#endif
