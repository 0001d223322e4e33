/* Recurrent cells: gates and states of one time step, each row a vector loop.
 *
 * A step is small: threads share it only when each has many states. */
#include "ops/rnn_cell.h"

#include <math.h>
#include <string.h>

#include "core/vmath.h"

#define ACC(T) __typeof__((T)0 + 0.0f) /* computes in float for half and float */
#define EACH _Pragma("omp simd") for (int64_t j = 0; j < n; j++)

/* The rows [from, to) of a step. */
MX_CLONES static void forward_rows(const mx_rnn_step *s, int64_t from, int64_t to) {
  const int64_t n = s->hidden, width = n * mx_rnn_gates(s->mode);
  MX_SWITCH_FLOAT(s->dtype, break, {
    typedef ACC(T) A;
    for (int64_t r = from; r < to; r++) {
      T *gates = (T *)s->gates + r * width;
      T *h = (T *)s->h + r * n;
      const T *h_prev = s->h_prev ? (const T *)s->h_prev + r * n : NULL;
      const T *bias = s->bias;
      if (s->valid && !s->valid[r]) {
        memset(gates, 0, (size_t)width * sizeof(T));
        if (h_prev) memmove(h, h_prev, (size_t)n * sizeof(T));
        if (s->c) memmove((T *)s->c + r * n, (const T *)s->c_prev + r * n, (size_t)n * sizeof(T));
        continue;
      }
      if (s->mode == MX_RNN_LSTM) {
        T *i = gates;
        T *f = gates + n;
        T *g = gates + 2 * n;
        T *o = gates + 3 * n;
        const T *c_prev = (const T *)s->c_prev + r * n;
        T *c = (T *)s->c + r * n;
        A low = (A)s->clip_min;
        A high = (A)s->clip_max;
        bool clip = low > -INFINITY || high < INFINITY;
        EACH {
          A gi = mx_vsigmoid((A)i[j] + (A)bias[j]);
          A gf = mx_vsigmoid((A)f[j] + (A)bias[j + n]);
          A gg = mx_vtanh((A)g[j] + (A)bias[j + 2 * n]);
          i[j] = (T)gi;
          f[j] = (T)gf;
          g[j] = (T)gg;
          o[j] = (T)mx_vsigmoid((A)o[j] + (A)bias[j + 3 * n]);
          c[j] = (T)(gf * (A)c_prev[j] + gi * gg);
        }
        for (int64_t j = 0; clip && j < n; j++) {
          A x = (A)c[j];
          c[j] = (T)(x < low ? low : x > high ? high : x != x && s->clip_nan ? low : x);
        }
        EACH h[j] = (T)((A)o[j] * mx_vtanh((A)c[j]));
      } else if (s->mode == MX_RNN_GRU) {
        T *gr = gates;
        T *gz = gates + n;
        T *gn = gates + 2 * n;
        const T *rec = (const T *)s->recurrent + r * width;
        const T *rec_bias = s->bias_recurrent;
        T *candidate = (T *)s->candidate + r * n;
        EACH {
          A reset = mx_vsigmoid((A)gr[j] + (A)bias[j] + (A)rec[j] + (A)rec_bias[j]);
          A update = mx_vsigmoid((A)gz[j] + (A)bias[j + n] + (A)rec[j + n] + (A)rec_bias[j + n]);
          A inner = (A)rec[j + 2 * n] + (A)rec_bias[j + 2 * n];
          A fresh = mx_vtanh((A)gn[j] + (A)bias[j + 2 * n] + reset * inner);
          gr[j] = (T)reset;
          gz[j] = (T)update;
          gn[j] = (T)fresh;
          candidate[j] = (T)inner;
          h[j] = (T)(fresh + update * ((A)h_prev[j] - fresh));
        }
      } else if (s->mode == MX_RNN_TANH) {
        EACH h[j] = gates[j] = (T)mx_vtanh((A)gates[j] + (A)bias[j]);
      } else {
        EACH {
          A x = (A)gates[j] + (A)bias[j];
          h[j] = gates[j] = (T)(x < 0 ? (A)0 : x);
        }
      }
    }
  })
}

/* Gradients of a row that is past the end of its sequence: the state passes through, the gates get none. */
static void pass_through(const mx_rnn_step *s, int64_t r) {
  size_t bytes = (size_t)(s->hidden * mx_rnn_gates(s->mode)) * mx_dtype_size(s->dtype);
  memset((char *)s->d_gates + (size_t)r * bytes, 0, bytes);
  if (s->d_gates_recurrent) memset((char *)s->d_gates_recurrent + (size_t)r * bytes, 0, bytes);
}

MX_CLONES static void backward_rows(const mx_rnn_step *s, int64_t from, int64_t to) {
  const int64_t n = s->hidden, width = n * mx_rnn_gates(s->mode);
  MX_SWITCH_FLOAT(s->dtype, break, {
    typedef ACC(T) A;
    for (int64_t r = from; r < to; r++) {
      if (s->valid && !s->valid[r]) {
        pass_through(s, r);
        continue;
      }
      const T *gates = (const T *)s->gates + r * width;
      T *d_h = (T *)s->d_h + r * n;
      T *d = (T *)s->d_gates + r * width;
      if (s->mode == MX_RNN_LSTM) {
        const T *i = gates;
        const T *f = gates + n;
        const T *g = gates + 2 * n;
        const T *o = gates + 3 * n;
        const T *c_prev = (const T *)s->c_prev + r * n;
        const T *c = (const T *)s->c + r * n;
        T *d_c = (T *)s->d_c + r * n;
        A low = (A)s->clip_min;
        A high = (A)s->clip_max;
        EACH {
          A t = mx_vtanh((A)c[j]);
          A gi = (A)i[j];
          A gf = (A)f[j];
          A gg = (A)g[j];
          A go = (A)o[j];
          A dh = (A)d_h[j];
          A dc = (A)d_c[j] + dh * go * (1 - t * t);
          dc = (A)c[j] <= low || (A)c[j] >= high ? (A)0 : dc; /* clipped */
          d[j] = (T)(dc * gg * gi * (1 - gi));
          d[j + n] = (T)(dc * (A)c_prev[j] * gf * (1 - gf));
          d[j + 2 * n] = (T)(dc * gi * (1 - gg * gg));
          d[j + 3 * n] = (T)(dh * t * go * (1 - go));
          d_c[j] = (T)(dc * gf);
          d_h[j] = 0;
        }
      } else if (s->mode == MX_RNN_GRU) {
        const T *candidate = (const T *)s->candidate + r * n;
        const T *h_prev = (const T *)s->h_prev + r * n;
        T *rec = (T *)s->d_gates_recurrent + r * width;
        EACH {
          A reset = (A)gates[j];
          A update = (A)gates[j + n];
          A fresh = (A)gates[j + 2 * n];
          A dh = (A)d_h[j];
          A dn = dh * (1 - update) * (1 - fresh * fresh);
          A dr = dn * (A)candidate[j] * reset * (1 - reset);
          A dz = dh * ((A)h_prev[j] - fresh) * update * (1 - update);
          d[j] = rec[j] = (T)dr;
          d[j + n] = rec[j + n] = (T)dz;
          d[j + 2 * n] = (T)dn;
          rec[j + 2 * n] = (T)(dn * reset);
          d_h[j] = (T)(dh * update);
        }
      } else if (s->mode == MX_RNN_TANH) {
        EACH {
          d[j] = (T)((A)d_h[j] * (1 - (A)gates[j] * (A)gates[j]));
          d_h[j] = 0;
        }
      } else {
        EACH {
          d[j] = (A)gates[j] > 0 ? d_h[j] : (T)0;
          d_h[j] = 0;
        }
      }
    }
  })
}

enum { STEP_GRAIN = 16384 }; /* states a thread should have at least: each costs several exponentials */

void mx_rnn_cell_forward(const mx_rnn_step *s) {
  int threads = mx_threads_for(s->rows * s->hidden, STEP_GRAIN);
  if (threads == 1) {
    forward_rows(s, 0, s->rows);
    return;
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < s->rows; r++) forward_rows(s, r, r + 1);
}

void mx_rnn_cell_backward(const mx_rnn_step *s) {
  int threads = mx_threads_for(s->rows * s->hidden, STEP_GRAIN);
  if (threads == 1) {
    backward_rows(s, 0, s->rows);
    return;
  }
#pragma omp parallel for num_threads(threads)
  for (int64_t r = 0; r < s->rows; r++) backward_rows(s, r, r + 1);
}

MX_CLONES void mx_rnn_cell_add_output(const mx_rnn_step *s) {
  const int64_t n = s->hidden;
  if (!s->d_y) return;
  MX_SWITCH_FLOAT(s->dtype, break, {
    typedef ACC(T) A;
    for (int64_t r = 0; r < s->rows; r++) {
      if (s->valid && !s->valid[r]) continue;
      T *d_h = (T *)s->d_h + r * n;
      const T *d_y = (const T *)s->d_y + r * s->d_y_stride;
      EACH d_h[j] = (T)((A)d_h[j] + (A)d_y[j]);
    }
  })
}

MX_CLONES void mx_rnn_cell_hidden(const void *gates, const void *c_, void *out, int64_t rows, int64_t n,
                                  mx_dtype dtype) {
  MX_SWITCH_FLOAT(dtype, break, {
    typedef ACC(T) A;
    for (int64_t r = 0; r < rows; r++) {
      const T *o = (const T *)gates + r * 4 * n + 3 * n;
      const T *c = (const T *)c_ + r * n;
      T *m = (T *)out + r * n;
      EACH m[j] = (T)((A)o[j] * mx_vtanh((A)c[j]));
    }
  })
}
