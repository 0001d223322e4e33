/* The reduction driver.
 *
 * Neighbouring dimensions that are both reduced or both kept are merged. When the last dimension is reduced, results
 * are sums of contiguous runs, gathered in LANES accumulators; when it is kept, whole rows are added to a row of
 * accumulators. Either way the work is cut into pieces that depend on the shape only, and the partial results of pieces
 * are joined in their order: the same bits with any number of threads. Accumulators are doubles, or int64_t. */
#pragma GCC optimize("no-trapping-math", "O3") /* O3: accumulators stay in registers */
#include <math.h>
#include <string.h>

#include "ops/reduce.h"
#include "ops/scalar.h"
#include "ops/scalar_math.h"

enum {
  LANES = 64,
  SHORT_RUN = 32, /* up to here neighbouring results are gathered together */
  PIECE = 32768,  /* elements of the input that one piece takes, about */
  ROWS = 128,     /* of a piece, at least */
  COLUMNS = 1024, /* accumulators in a row */
  AHEAD = 1024,   /* elements further on that are fetched while a run is gathered */
  STRIP = 128,    /* columns between which rows that come next are fetched */
  TOGETHER = 8    /* rows that are added to it at a time */
};

/* ---- rows as functions ---- */

typedef union cell { /* an accumulator */
  double d;
  int64_t i;
} cell;

typedef struct functions {
  /* acc[0] joined with n contiguous elements. */
  void (*run)(void *acc, const void *x, int64_t n, const double *shift);
  /* acc[j] stepped with x[i * stride + j], for i < rows, j < n. */
  void (*columns)(void *acc, const void *x, int64_t rows, int64_t stride, int64_t n, const double *shift);
  /* acc[j] stepped with x[j * n + i], for i < n, j < results. */
  void (*short_runs)(void *acc, const void *x, int64_t results, int64_t n, const double *shift);
  void (*start)(void *acc, int64_t n);
  void (*join)(void *acc, const void *other, int64_t n);
  /* In the kind of the output. */
  void (*finish)(void *out, const void *acc, int64_t n, int64_t count);
} functions;

#define LOWEST _Generic((A)0, int64_t : INT64_MIN, default : -INFINITY)
#define HIGHEST _Generic((A)0, int64_t : INT64_MAX, default : INFINITY)

/* Elements of type T, accumulators of type A_ between calls, of type L_ in loops. */
#define RUN(fn, T, A_, L_, start_, step, join_, NEEDS)                                                              \
  MX_INLINE void fn##_lanes(A_ *total, const T *x, int64_t n, const double *shift, const int lanes) {               \
    typedef L_ A;                                                                                                   \
    A acc[LANES];                                                                                                   \
    NEEDS(const double m = *shift;)                                                                                 \
    for (int j = 0; j < LANES; j++) acc[j] = start_;                                                                \
    int64_t i = 0;                                                                                                  \
    for (; i + lanes <= n; i += lanes) {                                                                            \
      for (int j = 0; lanes == LANES && j < lanes; j += 64 / (int)sizeof(T)) __builtin_prefetch(x + i + j + AHEAD); \
      _Pragma("omp simd") for (int j = 0; j < lanes; j++) {                                                         \
        A s = acc[j], a = (A)x[i + j];                                                                              \
        acc[j] = (step);                                                                                            \
      }                                                                                                             \
    }                                                                                                               \
    for (int j = 0; i + j < n; j++) {                                                                               \
      A s = acc[j], a = (A)x[i + j];                                                                                \
      acc[j] = (step);                                                                                              \
    }                                                                                                               \
    for (int half = lanes / 2; half > 0; half /= 2) {                                                               \
      _Pragma("omp simd") for (int j = 0; j < half; j++) {                                                          \
        A s = acc[j], t = acc[j + half];                                                                            \
        acc[j] = (join_);                                                                                           \
      }                                                                                                             \
    }                                                                                                               \
    A s = (A)*total, t = acc[0];                                                                                    \
    *total = (join_);                                                                                               \
  }                                                                                                                 \
  MX_CLONES static void fn##_run(void *total, const void *x, int64_t n, const double *shift) {                      \
    if (n >= 4 * LANES)                                                                                             \
      fn##_lanes(total, x, n, shift, LANES);                                                                        \
    else if (n >= 16)                                                                                               \
      fn##_lanes(total, x, n, shift, 16);                                                                           \
    else                                                                                                            \
      fn##_lanes(total, x, n, shift, 1);                                                                            \
  }                                                                                                                 \
  MX_CLONES static void fn##_columns(void *acc_, const void *x_, int64_t rows, int64_t stride, int64_t n,           \
                                     const double *shift) {                                                         \
    typedef L_ A;                                                                                                   \
    A_ *acc = acc_;                                                                                                 \
    int64_t i = 0;                                                                                                  \
    for (; i + TOGETHER <= rows; i += TOGETHER) {                                                                   \
      mx_ahead ahead = mx_ahead_of((const T *)x_ + (i + TOGETHER) * stride, n, stride, sizeof(T));                  \
      for (int64_t from = 0; from < n; from += STRIP) {                                                             \
        const T *x = (const T *)x_ + i * stride + from;                                                             \
        const int64_t width = n - from < STRIP ? n - from : STRIP;                                                  \
        if (n >= STRIP) mx_ahead_fetch(&ahead, width *TOGETHER *(int64_t)sizeof(T));                                \
        _Pragma("omp simd") for (int64_t j = 0; j < width; j++) {                                                   \
          A s = (A)acc[from + j];                                                                                   \
          NEEDS(const double m = shift[from + j];)                                                                  \
          for (int k = 0; k < TOGETHER; k++) {                                                                      \
            A a = (A)x[j + k * stride];                                                                             \
            s = (step);                                                                                             \
          }                                                                                                         \
          acc[from + j] = s;                                                                                        \
        }                                                                                                           \
      }                                                                                                             \
    }                                                                                                               \
    for (; i < rows; i++) {                                                                                         \
      const T *x = (const T *)x_ + i * stride;                                                                      \
      _Pragma("omp simd") for (int64_t j = 0; j < n; j++) {                                                         \
        A s = (A)acc[j], a = (A)x[j];                                                                               \
        NEEDS(const double m = shift[j];)                                                                           \
        acc[j] = (step);                                                                                            \
      }                                                                                                             \
    }                                                                                                               \
  }
#define SHORT(fn, T, A_, step, NEEDS)                                                                                  \
  MX_CLONES static void fn##_short_runs(void *acc_, const void *x_, int64_t results, int64_t n, const double *shift) { \
    typedef A_ A;                                                                                                      \
    A *acc = acc_;                                                                                                     \
    const T *x = x_;                                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      _Pragma("omp simd") for (int64_t j = 0; j < results; j++) {                                                      \
        A s = acc[j], a = (A)x[j * n + i];                                                                             \
        NEEDS(const double m = shift[j];)                                                                              \
        acc[j] = (step);                                                                                               \
      }                                                                                                                \
    }                                                                                                                  \
  }
#define COMMON(fn, A_, start_, join_)                                \
  static void fn##_start(void *acc, int64_t n) {                     \
    typedef A_ A;                                                    \
    for (int64_t j = 0; j < n; j++) ((A *)acc)[j] = start_;          \
  }                                                                  \
  static void fn##_join(void *acc_, const void *other_, int64_t n) { \
    typedef A_ A;                                                    \
    A *acc = acc_;                                                   \
    const A *other = other_;                                         \
    for (int64_t j = 0; j < n; j++) {                                \
      A s = acc[j], t = other[j];                                    \
      acc[j] = (join_);                                              \
    }                                                                \
  }
#define FINISH(fn, T, A_, finish_)                                                       \
  static void fn##_finish(void *out, const void *acc, int64_t elements, int64_t count) { \
    typedef A_ A;                                                                        \
    const A n = (A)count;                                                                \
    (void)n;                                                                             \
    for (int64_t j = 0; j < elements; j++) {                                             \
      A s = ((const A *)acc)[j];                                                         \
      ((T *)out)[j] = (T)(finish_);                                                      \
    }                                                                                    \
  }
#define NO(...)
#define YES(...) __VA_ARGS__
#define DEFINE(name, start, step, join, finish, NEEDS, L)              \
  RUN(name##_float, float, double, L, start, step, join, NEEDS)        \
  RUN(name##_double, double, double, double, start, step, join, NEEDS) \
  RUN(name##_int, int64_t, int64_t, int64_t, start, step, join, NEEDS) \
  SHORT(name##_float, float, double, step, NEEDS)                      \
  SHORT(name##_double, double, double, step, NEEDS)                    \
  SHORT(name##_int, int64_t, int64_t, step, NEEDS)                     \
  COMMON(name##_real, double, start, join)                             \
  COMMON(name##_whole, int64_t, start, join)                           \
  FINISH(name##_float, float, double, finish)                          \
  FINISH(name##_double, double, double, finish)                        \
  FINISH(name##_int, int64_t, int64_t, finish)
#define REDUCTION(name, start, step, join, finish) DEFINE(name, start, step, join, finish, NO, double)
#define EXACT(name, start, step, join, finish) DEFINE(name, start, step, join, finish, NO, float)
#define SHIFTED(name, start, step, join, finish) DEFINE(name, start, step, join, finish, YES, double)
#include "ops/reduce.def"

#define FUNCTIONS(name, kind, acc)                                                                  \
  {                                                                                                 \
    name##_##kind##_run, name##_##kind##_columns, name##_##kind##_short_runs, name##_##acc##_start, \
        name##_##acc##_join, name##_##kind##_finish                                                 \
  }
static const functions table[MX_REDUCE_COUNT][MX_KINDS] = {
#define REDUCTION(name, ...) {FUNCTIONS(name, float, real), FUNCTIONS(name, double, real), FUNCTIONS(name, int, whole)},
#include "ops/reduce.def"
};

/* ---- geometry ---- */

typedef struct layout {
  int n_kept, n_reduced; /* dimensions after merging, the last one of `in` excluded */
  int64_t kept[MX_MAX_NDIM], kept_stride[MX_MAX_NDIM];
  int64_t reduced[MX_MAX_NDIM], reduced_stride[MX_MAX_NDIM];
  bool last_reduced;
  int64_t last;    /* length of the last dimension, contiguous */
  int64_t outer;   /* product of kept[] */
  int64_t rows;    /* product of reduced[] */
  int64_t pieces;  /* of one result, or of one row of results */
  int64_t piece;   /* elements (last reduced) or rows (last kept) of a piece */
  int64_t outputs; /* results in all */
  int64_t count;   /* elements of one result */
} layout;

static layout layout_of(const mx_reduce *r) {
  int64_t dim[MX_MAX_NDIM], stride[MX_MAX_NDIM];
  bool reduced[MX_MAX_NDIM];
  int n = 0;
  for (int d = 0; d < r->shape.ndim; d++) {
    if (r->shape.dim[d] == 1) continue;
    if (n > 0 && reduced[n - 1] == r->reduced[d]) {
      dim[n - 1] *= r->shape.dim[d];
    } else {
      dim[n] = r->shape.dim[d];
      reduced[n++] = r->reduced[d];
    }
  }
  if (n == 0) dim[n] = 1, reduced[n++] = true;
  layout l = {.last = dim[n - 1], .last_reduced = reduced[n - 1], .outer = 1, .rows = 1};
  for (int64_t d = n - 1, s = 1; d >= 0; d--) {
    stride[d] = s;
    s *= dim[d];
  }
  for (int d = 0; d < n - 1; d++) {
    if (reduced[d]) {
      l.rows *= l.reduced[l.n_reduced] = dim[d];
      l.reduced_stride[l.n_reduced++] = stride[d];
    } else {
      l.outer *= l.kept[l.n_kept] = dim[d];
      l.kept_stride[l.n_kept++] = stride[d];
    }
  }
  l.outputs = l.last_reduced ? l.outer : l.outer * l.last;
  l.count = l.last_reduced ? l.rows * l.last : l.rows;
  if (l.last_reduced) {
    l.piece = PIECE;
    l.pieces = (l.count + PIECE - 1) / PIECE;
  } else {
    int64_t width = l.last < COLUMNS ? l.last : COLUMNS;
    l.piece = width > 0 && width < PIECE / ROWS ? PIECE / width : ROWS;
    l.pieces = (l.rows + l.piece - 1) / l.piece;
  }
  if (l.pieces < 1) l.pieces = 1; /* nothing to gather: results are those of no element */
  return l;
}

size_t mx_reduce_workspace(const mx_reduce *r) {
  layout l = layout_of(r);
  return l.pieces > 1 ? (size_t)(l.pieces * l.outputs) * sizeof(cell) : 0;
}

static int64_t offset_of(int64_t index, int n, const int64_t *dim, const int64_t *stride) {
  int64_t offset = 0;
  for (int d = n - 1; d >= 0; d--) {
    offset += index % dim[d] * stride[d];
    index /= dim[d];
  }
  return offset;
}

/* ---- the work ---- */

typedef struct job {
  const functions *f;
  void (*finish)(void *out, const void *acc, int64_t n, int64_t count);
  layout l;
  mx_kind kind, out_kind;
  bool native;
  size_t in_size, out_size, kind_size;
  mx_dtype in_dtype, out_dtype;
  const char *in;
  char *out;
  bool add;
  const double *shift;
  cell *partial; /* [piece][output] */
} job;

/* Joins acc[0] with a contiguous run that begins at element `at` of the input. */
static void gather_run(const job *j, cell *acc, int64_t at, int64_t n, const double *shift) {
  const char *x = j->in + (size_t)at * j->in_size;
  if (j->native) {
    j->f->run(acc, x, n, shift);
    return;
  }
  _Alignas(64) char block[MX_ROW_BLOCK * 8];
  for (int64_t i = 0; i < n; i += MX_ROW_BLOCK) {
    int64_t m = n - i < MX_ROW_BLOCK ? n - i : MX_ROW_BLOCK;
    mx_block_load(block, j->kind, x + (size_t)i * j->in_size, j->in_dtype, 1, false, m);
    j->f->run(acc, block, m, shift);
  }
}

/* Elements [from, to) of result `output`, the last dimension being reduced. */
static void gather_result(const job *j, cell *acc, int64_t output, int64_t from, int64_t to) {
  const layout *l = &j->l;
  int64_t base = offset_of(output, l->n_kept, l->kept, l->kept_stride);
  const double *shift = j->shift ? j->shift + output : NULL;
  j->f->start(acc, 1);
  while (from < to) {
    int64_t row = from / l->last, col = from % l->last;
    int64_t n = l->last - col < to - from ? l->last - col : to - from;
    gather_run(j, acc, base + offset_of(row, l->n_reduced, l->reduced, l->reduced_stride) + col, n, shift);
    from += n;
  }
}

/* Results [output, output + width) of short runs that follow each other. */
static void gather_short(const job *j, cell *acc, int64_t output, int64_t width) {
  const layout *l = &j->l;
  const double *shift = j->shift ? j->shift + output : NULL;
  const char *x = j->in + (size_t)(output * l->last) * j->in_size;
  j->f->start(acc, width);
  if (j->native) {
    j->f->short_runs(acc, x, width, l->last, shift);
    return;
  }
  _Alignas(64) char block[MX_ROW_BLOCK * 8];
  int64_t some = MX_ROW_BLOCK / l->last;
  for (int64_t i = 0; i < width; i += some) {
    int64_t n = width - i < some ? width - i : some;
    mx_block_load(block, j->kind, x + (size_t)(i * l->last) * j->in_size, j->in_dtype, 1, false, n * l->last);
    j->f->short_runs(acc + i, block, n, l->last, shift ? shift + i : NULL);
  }
}

/* Joins acc[0 .. width) with rows of only `width` elements that follow each other: many at a time, as rows of LANES. */
static void gather_narrow(const job *j, cell *acc, const void *x, int64_t rows, int64_t width, const double *shift) {
  int64_t times = LANES / width, n = rows / times;
  cell wide[LANES];
  double wide_shift[LANES];
  for (int64_t i = 0; shift && i < times * width; i++) wide_shift[i] = shift[i % width];
  j->f->start(wide, times * width);
  j->f->columns(wide, x, n, times * width, times * width, shift ? wide_shift : NULL);
  for (int64_t i = 0; i < times; i++) j->f->join(acc, wide + i * width, width);
  j->f->columns(acc, (const char *)x + (size_t)(n * times * width) * j->kind_size, rows - n * times, width, width,
                shift);
}

/* Rows [from, to) of `width` neighbouring results, the last dimension being kept. */
static void gather_columns(const job *j, cell *acc, int64_t outer, int64_t col, int64_t width, int64_t from,
                           int64_t to) {
  const layout *l = &j->l;
  int64_t base = offset_of(outer, l->n_kept, l->kept, l->kept_stride) + col;
  const double *shift = j->shift ? j->shift + outer * l->last + col : NULL;
  j->f->start(acc, width);
  int64_t inner = l->n_reduced ? l->reduced[l->n_reduced - 1] : 1; /* rows at one distance from each other */
  int64_t stride = l->n_reduced ? l->reduced_stride[l->n_reduced - 1] : 0;
  while (from < to) {
    int64_t n = inner - from % inner < to - from ? inner - from % inner : to - from;
    int64_t at = base + offset_of(from, l->n_reduced, l->reduced, l->reduced_stride);
    _Alignas(64) char block[COLUMNS * 8];
    if (stride == width && width <= LANES / 2 && n >= LANES) {
      int64_t some = j->native ? n : COLUMNS / width;
      for (int64_t i = 0; i < n; i += some) {
        int64_t m = n - i < some ? n - i : some;
        const char *x = j->in + (size_t)(at + i * width) * j->in_size;
        if (!j->native) mx_block_load(block, j->kind, x, j->in_dtype, 1, false, m * width);
        gather_narrow(j, acc, j->native ? x : block, m, width, shift);
      }
    } else if (j->native) {
      j->f->columns(acc, j->in + (size_t)at * j->in_size, n, stride, width, shift);
    } else {
      for (int64_t i = 0; i < n; i++) {
        mx_block_load(block, j->kind, j->in + (size_t)(at + i * stride) * j->in_size, j->in_dtype, 1, false, width);
        j->f->columns(acc, block, 1, 0, width, shift);
      }
    }
    from += n;
  }
}

/* Finishes `width` results and writes them. */
static void deliver(const job *j, const cell *acc, int64_t output, int64_t width) {
  _Alignas(64) char block[COLUMNS * 8];
  j->finish(block, acc, width, j->l.count);
  mx_block_store(j->out + (size_t)output * j->out_size, j->out_dtype, block, j->out_kind, j->add, width);
}

/* A unit of the first round: some neighbouring results and one piece of what they gather. */
static void run_unit(const job *j, int64_t unit, int64_t strips, int64_t strip) {
  const layout *l = &j->l;
  int64_t piece = unit % l->pieces, from = piece * l->piece;
  unit /= l->pieces;
  int64_t total = l->last_reduced ? l->count : l->rows;
  int64_t to = from + l->piece < total ? from + l->piece : total;
  cell acc[COLUMNS];
  int64_t output, width;
  if (l->last_reduced) {
    output = unit * strip;
    width = l->outputs - output < strip ? l->outputs - output : strip;
    if (l->rows == 1 && l->last <= SHORT_RUN && l->last > 0) /* then l->n_kept is at most 1 */
      gather_short(j, acc, output, width);
    else
      for (int64_t i = 0; i < width; i++) gather_result(j, &acc[i], output + i, from, to);
  } else {
    int64_t outer = unit / strips, col = unit % strips * strip;
    output = outer * l->last + col;
    width = l->last - col < strip ? l->last - col : strip;
    gather_columns(j, acc, outer, col, width, from, to);
  }
  if (l->pieces == 1)
    deliver(j, acc, output, width);
  else
    memcpy(j->partial + piece * l->outputs + output, acc, (size_t)width * sizeof(cell));
}

/* The second round: joins the pieces of results [from, from + width). */
static void join_pieces(const job *j, int64_t from, int64_t width) {
  cell acc[COLUMNS];
  memcpy(acc, j->partial + from, (size_t)width * sizeof(cell));
  for (int64_t p = 1; p < j->l.pieces; p++) j->f->join(acc, j->partial + p * j->l.outputs + from, width);
  deliver(j, acc, from, width);
}

static mx_kind kind_of(mx_dtype t) {
  return t == MX_FLOAT64 ? MX_KIND_DOUBLE : mx_dtype_is_float(t) ? MX_KIND_FLOAT : MX_KIND_INT;
}

void mx_reduce_run(const mx_reduce *r, const void *in, void *out, bool add, const double *shift, void *workspace) {
  static const mx_dtype native[MX_KINDS] = {MX_FLOAT32, MX_FLOAT64, MX_INT64};
  mx_kind kind = kind_of(r->in_dtype), out_kind = kind_of(r->out_dtype);
  job j = {.f = &table[r->row][kind],
           .finish = table[r->row][out_kind].finish,
           .l = layout_of(r),
           .kind = kind,
           .out_kind = out_kind,
           .native = native[kind] == r->in_dtype,
           .in_size = mx_dtype_size(r->in_dtype),
           .kind_size = kind == MX_KIND_FLOAT ? sizeof(float) : sizeof(double),
           .out_size = mx_dtype_size(r->out_dtype),
           .in_dtype = r->in_dtype,
           .out_dtype = r->out_dtype,
           .in = in,
           .out = out,
           .add = add,
           .shift = shift,
           .partial = workspace};
  const layout *l = &j.l;
  if (l->outputs == 0) return;
  int64_t strips = 1, strip, units;
  if (l->last_reduced) { /* as many results as make up a piece */
    strip = l->count > 0 ? PIECE / l->count : COLUMNS;
    strip = strip < 1 ? 1 : strip > COLUMNS ? COLUMNS : strip;
    units = (l->outputs + strip - 1) / strip * l->pieces;
  } else {
    strip = COLUMNS;
    strips = (l->last + COLUMNS - 1) / COLUMNS;
    units = l->outer * strips * l->pieces;
  }
  int64_t work = l->outputs * (l->count + 1);
#pragma omp parallel for num_threads(mx_threads_for(work, MX_GRAIN))
  for (int64_t u = 0; u < units; u++) run_unit(&j, u, strips, strip);
  if (l->pieces == 1) return;
  int64_t blocks = (l->outputs + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for num_threads(mx_threads_for(l->outputs * l->pieces, MX_GRAIN))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t from = b * COLUMNS, width = l->outputs - from < COLUMNS ? l->outputs - from : COLUMNS;
    join_pieces(&j, from, width);
  }
}
