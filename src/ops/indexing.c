/* Picking by index along one dimension: Embedding, take, batch_take, pick, one_hot, and the calls that fill by index.
 *
 * Gradients add up what was picked several times. Threads share the rows of the result, not the indices: each thread
 * reads all indices and adds those of its rows, in their order, so that sums do not depend on the number of threads. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

enum { MODE_CLIP, MODE_RAISE, MODE_WRAP };

/* Indices [from, from + n) brought into [0, length); length is not 0. */
static void read_bounded(const mx_tensor *t, int64_t from, int64_t n, int64_t length, int mode, int64_t *out) {
  mx_read_indices(t, from, n, out);
  for (int64_t i = 0; i < n; i++)
    out[i] = mode == MODE_WRAP ? mx_wrap_index(out[i], length) : mx_clamp_index(out[i], length);
}

static int64_t block_of(int64_t at, int64_t n) { return n - at < MX_INDEX_BLOCK ? n - at : MX_INDEX_BLOCK; }

static mx_status no_rows(mx_error *err) {
  return mx_fail(err, MX_ERR_SHAPE, "Indices were given, but the dimension to pick from has no elements.");
}

/* ---- gathering: out (outer, n, inner) from data (outer, length, inner) ---- */

typedef struct gather {
  int64_t outer, length, inner, n;
  int mode;
} gather;

static mx_status check_raise(const gather *g, const mx_tensor *index, mx_error *err) {
  int64_t block[MX_INDEX_BLOCK];
  for (int64_t at = 0; at < g->n; at += MX_INDEX_BLOCK) {
    int64_t len = block_of(at, g->n);
    mx_read_indices(index, at, len, block);
    for (int64_t i = 0; i < len; i++) {
      if (block[i] >= 0 && block[i] < g->length) continue;
      mx_fail(err, MX_ERR_VALUE, "Index %" PRId64 " is out of range; the dimension has length %" PRId64 ".", block[i],
              g->length);
      mx_error_set(err, argument, "indices");
      mx_error_set(err, actual, "%" PRId64, block[i]);
      mx_error_set(err, expected, "0 to %" PRId64, g->length - 1);
      return MX_ERR_VALUE;
    }
  }
  return MX_OK;
}

#define GATHER_ROWS(bits)                                                                                       \
  static void gather_rows_##bits(const void *data, const int64_t *index, int64_t n, int64_t inner, void *out) { \
    const uint##bits##_t *s = data;                                                                             \
    uint##bits##_t *d = out;                                                                                    \
    if (inner == 1)                                                                                             \
      for (int64_t i = 0; i < n; i++) d[i] = s[index[i]];                                                       \
    else                                                                                                        \
      for (int64_t i = 0; i < n; i++) memcpy(d + i * inner, s + index[i] * inner, (size_t)inner * sizeof(*d));  \
  }
GATHER_ROWS(8)
GATHER_ROWS(16)
GATHER_ROWS(32)
GATHER_ROWS(64)

/* Rows `at` to `at + len` of the output at outer position o. */
static void gather_block(const gather *g, const mx_tensor *data, const int64_t *block, int64_t o, int64_t at,
                         int64_t len, const mx_tensor *out) {
  const size_t es = mx_dtype_size(data->dtype);
  const char *s = (const char *)data->data + (size_t)(o * g->length * g->inner) * es;
  char *d = (char *)out->data + (size_t)((o * g->n + at) * g->inner) * es;
  switch (es) {
    case 1:
      gather_rows_8(s, block, len, g->inner, d);
      break;
    case 2:
      gather_rows_16(s, block, len, g->inner, d);
      break;
    case 4:
      gather_rows_32(s, block, len, g->inner, d);
      break;
    default:
      gather_rows_64(s, block, len, g->inner, d);
      break;
  }
}

static mx_status gather_run(const gather *g, const mx_tensor *data, const mx_tensor *index, const mx_tensor *out,
                            mx_error *err) {
  int64_t size = g->outer * g->n * g->inner, blocks = (g->n + MX_INDEX_BLOCK - 1) / MX_INDEX_BLOCK;
  if (size == 0) return MX_OK;
  if (g->length == 0) return no_rows(err);
  if (g->mode == MODE_RAISE) MX_TRY(check_raise(g, index, err));
  if (g->outer == 1) {
#pragma omp parallel for num_threads(mx_threads_for(size, MX_GRAIN))
    for (int64_t b = 0; b < blocks; b++) {
      int64_t block[MX_INDEX_BLOCK], at = b * MX_INDEX_BLOCK, len = block_of(at, g->n);
      read_bounded(index, at, len, g->length, g->mode, block);
      gather_block(g, data, block, 0, at, len, out);
    }
    return MX_OK;
  }
  for (int64_t at = 0; at < g->n; at += MX_INDEX_BLOCK) { /* indices are read once for all outer positions */
    int64_t block[MX_INDEX_BLOCK], len = block_of(at, g->n);
    read_bounded(index, at, len, g->length, g->mode, block);
#pragma omp parallel for num_threads(mx_threads_for(g->outer *len * g->inner, MX_GRAIN))
    for (int64_t o = 0; o < g->outer; o++) gather_block(g, data, block, o, at, len, out);
  }
  return MX_OK;
}

/* ---- its gradient: data (outer, length, inner) += head (outer, n, inner) ---- */

/* Adds to the rows [lo, hi) of d, columns [c, c + cols), the rows of head at `s` that have the indices `block`. */
static void scatter_rows(const gather *g, mx_dtype dtype, const int64_t *block, int64_t len, const char *s, char *d,
                         int64_t lo, int64_t hi, int64_t c, int64_t cols) {
  const size_t es = mx_dtype_size(dtype);
  if (g->inner == 1) {
    MX_SWITCH_ALL(dtype, break, {
      const T *from = (const T *)s;
      T *to = (T *)d;
      for (int64_t i = 0; i < len; i++)
        if (block[i] >= lo && block[i] < hi) to[block[i]] = (T)(to[block[i]] + from[i]);
    })
    return;
  }
  for (int64_t i = 0; i < len; i++)
    if (block[i] >= lo && block[i] < hi)
      mx_add_row(dtype, d + (size_t)(block[i] * g->inner + c) * es, s + (size_t)(i * g->inner + c) * es, cols);
}

/* Rows (o, r) of the result for r in [lo, hi), columns [c, c + cols). */
static void scatter_part(const gather *g, const mx_tensor *head, const mx_tensor *index, const mx_tensor *out, bool add,
                         int64_t o, int64_t lo, int64_t hi, int64_t c, int64_t cols) {
  const size_t es = mx_dtype_size(out->dtype);
  const char *s = (const char *)head->data + (size_t)(o * g->n * g->inner) * es;
  char *d = (char *)out->data + (size_t)(o * g->length * g->inner) * es;
  int64_t block[MX_INDEX_BLOCK];
  if (!add && cols == g->inner)
    memset(d + (size_t)(lo * g->inner) * es, 0, (size_t)((hi - lo) * g->inner) * es);
  else if (!add)
    for (int64_t r = lo; r < hi; r++) memset(d + (size_t)(r * g->inner + c) * es, 0, (size_t)cols * es);
  for (int64_t at = 0; at < g->n; at += MX_INDEX_BLOCK) {
    int64_t len = block_of(at, g->n);
    read_bounded(index, at, len, g->length, g->mode, block);
    scatter_rows(g, out->dtype, block, len, s + (size_t)(at * g->inner) * es, d, lo, hi, c, cols);
  }
}

/* Shares the result: outer dimensions, else rows, and (when rows are few and long) columns. */
static mx_status scatter_run(const gather *g, const mx_tensor *head, const mx_tensor *index, const mx_tensor *out,
                             bool add, mx_error *err) {
  int64_t size = g->outer * g->length * g->inner, work = size + g->outer * g->n * g->inner;
  if (size == 0) return work > 0 ? no_rows(err) : MX_OK;
  int threads = mx_threads_for(work, MX_GRAIN);
  if (g->outer >= threads && g->outer > 1) { /* indices are read once for all outer positions */
    const size_t es = mx_dtype_size(out->dtype), plane = (size_t)(g->length * g->inner) * es;
    int64_t block[MX_INDEX_BLOCK], at = 0;
    do {
      const int64_t len = block_of(at, g->n);
      read_bounded(index, at, len, g->length, g->mode, block);
#pragma omp parallel for num_threads(threads) if (threads > 1)
      for (int64_t o = 0; o < g->outer; o++) {
        char *d = (char *)out->data + (size_t)o * plane;
        if (at == 0 && !add) memset(d, 0, plane);
        scatter_rows(g, out->dtype, block, len, (const char *)head->data + (size_t)((o * g->n + at) * g->inner) * es, d,
                     0, g->length, 0, g->inner);
      }
      at += len;
    } while (at < g->n);
    return MX_OK;
  }
  int64_t strips = g->inner >= 512 && g->length < 64 ? (g->inner + 255) / 256 : 1;
  int64_t parts = g->outer * strips >= threads ? 1 : (threads + g->outer * strips - 1) / (g->outer * strips);
  if (parts > g->length) parts = g->length;
  int64_t width = (g->inner + strips - 1) / strips;
#pragma omp parallel for collapse(3) num_threads(threads) if (threads > 1)
  for (int64_t o = 0; o < g->outer; o++) {
    for (int64_t p = 0; p < parts; p++) {
      for (int64_t t = 0; t < strips; t++) {
        int64_t c = t * width, cols = g->inner - c < width ? g->inner - c : width;
        if (cols > 0)
          scatter_part(g, head, index, out, add, o, g->length * p / parts, g->length * (p + 1) / parts, c, cols);
      }
    }
  }
  return MX_OK;
}

/* ---- Embedding ---- */

typedef struct embedding_params {
  int64_t input_dim, output_dim;
  mx_dtype dtype;
  bool sparse_grad;
} embedding_params;

static const char *const number_dtypes[] = {"float16", "float32", "float64", "int32", "int64", "int8", "uint8", NULL};

static const mx_param embedding_table[] = {
    MX_P_INT(embedding_params, input_dim, NULL, 1, (double)INT64_MAX,
             "Number of rows of weight: how many different indices there are."),
    MX_P_INT(embedding_params, output_dim, NULL, 1, (double)INT64_MAX, "Length of the rows of weight."),
    MX_P_DTYPE(embedding_params, dtype, "float32", number_dtypes, "Element type of weight when nothing else says it."),
    MX_P_BOOL(embedding_params, sparse_grad, "False", "Accepted and not used: gradients are dense."), MX_P_END};

static mx_status embedding_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const embedding_params *p = params;
  mx_shape weight = mx_shape_of(p->input_dim, p->output_dim);
  MX_TRY(mx_shape_merge(&in[1], &weight, "weight", err));
  if (in[0].ndim >= MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  if (in[0].ndim >= 0) {
    mx_shape want = in[0];
    want.dim[want.ndim++] = p->output_dim;
    MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  }
  if (out[0].ndim <= 0) return MX_OK;
  mx_shape data = out[0];
  data.ndim--;
  return mx_shape_merge(&in[0], &data, "data", err);
}

static mx_status embedding_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  if (in[1] == MX_DTYPE_UNKNOWN) in[1] = out[0];
  if (in[1] == MX_DTYPE_UNKNOWN) in[1] = ((const embedding_params *)params)->dtype;
  return mx_dtype_unify(&in[1], &out[0], "output", err);
}

static mx_status embedding_kernel(const mx_call *c, mx_error *err) {
  const embedding_params *p = c->params;
  gather g = {1, p->input_dim, p->output_dim, mx_shape_size(&c->in[0].shape), MODE_CLIP};
  return c->req[0] == MX_NULL ? MX_OK : gather_run(&g, &c->in[1], &c->in[0], &c->out[0], err);
}

static mx_status embedding_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->in[0]};
  if (!g->wanted[1]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_backward(g, "_backward_Embedding", in, 2, &g->in_grad[1], err);
}

static mx_status embedding_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out,
                                      mx_error *err) {
  const embedding_params *p = params;
  mx_shape weight = mx_shape_of(p->input_dim, p->output_dim);
  return mx_shape_merge(&out[0], &weight, "gradient of weight", err);
}

static mx_status embedding_back_kernel(const mx_call *c, mx_error *err) {
  const embedding_params *p = c->params;
  gather g = {1, p->input_dim, p->output_dim, mx_shape_size(&c->in[1].shape), MODE_CLIP};
  return c->req[0] == MX_NULL ? MX_OK : scatter_run(&g, &c->in[0], &c->in[1], &c->out[0], c->req[0] == MX_ADD, err);
}

/* ---- take ---- */

typedef struct take_params {
  int64_t axis;
  int mode;
  mx_shape shape; /* of the backward operator: the shape of a */
} take_params;

#define TAKE_ROWS                                                                                                 \
  MX_P_INT(take_params, axis, "0", MX_ANY, "Dimension to pick from; negative numbers count from the end."),       \
      MX_P_ENUM(take_params, mode, "clip", MX_STRINGS("clip", "raise", "wrap"),                                   \
                "Indices out of range: clip takes the first or last element, wrap counts on from the other end, " \
                "raise is an "                                                                                    \
                "error.")

static const mx_param take_table[] = {TAKE_ROWS, MX_P_END};
static const mx_param take_back_table[] = {
    TAKE_ROWS, MX_P_TUPLE(take_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

static mx_status take_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  int axis;
  mx_shape want = {.ndim = 0};
  if (in[0].ndim < 0 || in[1].ndim < 0) return MX_OK;
  MX_TRY(mx_axis_param(((const take_params *)params)->axis, in[0].ndim, "axis", &axis, err));
  if (in[0].ndim - 1 + in[1].ndim > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE, "The output would have more than %d dimensions.", MX_MAX_NDIM);
  for (int i = 0; i < axis; i++) want.dim[want.ndim++] = in[0].dim[i];
  for (int i = 0; i < in[1].ndim; i++) want.dim[want.ndim++] = in[1].dim[i];
  for (int i = axis + 1; i < in[0].ndim; i++) want.dim[want.ndim++] = in[0].dim[i];
  return mx_shape_merge(&out[0], &want, "output", err);
}

static mx_status take_geometry(const take_params *p, const mx_shape *a, const mx_shape *index, gather *g,
                               mx_error *err) {
  int axis;
  MX_TRY(mx_axis_param(p->axis, a->ndim, "axis", &axis, err));
  *g = (gather){mx_shape_prod(a, 0, axis), a->dim[axis], mx_shape_prod(a, axis + 1, a->ndim), mx_shape_size(index),
                p->mode};
  return MX_OK;
}

static mx_status take_kernel(const mx_call *c, mx_error *err) {
  gather g;
  MX_TRY(take_geometry(c->params, &c->in[0].shape, &c->in[1].shape, &g, err));
  return c->req[0] == MX_NULL ? MX_OK : gather_run(&g, &c->in[0], &c->in[1], &c->out[0], err);
}

static mx_status take_gradient(mx_grad *g, mx_error *err) {
  const take_params *p = g->params;
  mx_entry in[2] = {MX_NO_ENTRY, g->in[1]};
  char axis[MX_INT_TEXT], shape[MX_SHAPE_TEXT];
  static const char *const mode[] = {"clip", "raise", "wrap"};
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_call(g, "_backward_take",
                      (const char *const[]){"axis", mx_int_text(p->axis, axis), "mode", mode[p->mode], "shape",
                                            mx_tuple_text(g->in_shape[0].dim, g->in_shape[0].ndim, shape), NULL},
                      in, 2, &g->in_grad[0], err);
}

static mx_status take_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const take_params *)params)->shape, "gradient of a", err);
}

static mx_status take_back_kernel(const mx_call *c, mx_error *err) {
  gather g;
  MX_TRY(take_geometry(c->params, &c->out[0].shape, &c->in[1].shape, &g, err));
  return c->req[0] == MX_NULL ? MX_OK : scatter_run(&g, &c->in[0], &c->in[1], &c->out[0], c->req[0] == MX_ADD, err);
}

/* ---- pick: one element per place of the other dimensions ---- */

typedef struct pick_params {
  mx_opt_int axis;
  bool keepdims;
  int mode;
  mx_shape shape; /* of the backward operator: the shape of data */
} pick_params;

enum { PICK_CLIP, PICK_WRAP };

#define PICK_ROWS                                                                                                \
  MX_P_OPT_INT(pick_params, axis, "-1", MX_ANY, "Dimension to pick from; negative numbers count from the end."), \
      MX_P_BOOL(pick_params, keepdims, "False", "Keep the dimension with length 1."),                            \
      MX_P_ENUM(pick_params, mode, "clip", MX_STRINGS("clip", "wrap"),                                           \
                "Indices out of range: clip takes the first or last element, wrap counts on from the other end.")

static const mx_param pick_table[] = {PICK_ROWS, MX_P_END};
static const mx_param pick_back_table[] = {
    PICK_ROWS, MX_P_TUPLE(pick_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

static mx_status pick_check(void *params, mx_error *err) {
  if (((const pick_params *)params)->axis.given) return MX_OK;
  return mx_fail(err, MX_ERR_VALUE, "axis must be given.");
}

static mx_shape without_axis(const mx_shape *s, int axis, bool keep) {
  mx_shape r = *s;
  r.dim[axis] = 1;
  if (keep) return r;
  r.ndim--;
  for (int i = axis; i < r.ndim; i++) r.dim[i] = s->dim[i + 1];
  return r;
}

static mx_status pick_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const pick_params *p = params;
  int axis;
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(mx_axis_param(p->axis.value, in[0].ndim, "axis", &axis, err));
  mx_shape want = without_axis(&in[0], axis, p->keepdims), flat = without_axis(&in[0], axis, false);
  if (want.ndim == 0) want = flat = mx_shape_of(1); /* there are no arrays without dimensions */
  mx_shape index = in[1].ndim == in[0].ndim && in[0].ndim > 1 ? without_axis(&in[0], axis, true)
                   : in[1].ndim < 0                           ? want
                                                              : flat;
  MX_TRY(mx_shape_merge(&in[1], &index, "index", err));
  return mx_shape_merge(&out[0], &want, "output", err);
}

typedef struct picking {
  int64_t outer, length, inner;
  int mode;
} picking;

static mx_status pick_geometry(const pick_params *p, const mx_shape *data, picking *g, mx_error *err) {
  int axis;
  MX_TRY(mx_axis_param(p->axis.value, data->ndim, "axis", &axis, err));
  *g = (picking){mx_shape_prod(data, 0, axis), data->dim[axis], mx_shape_prod(data, axis + 1, data->ndim),
                 p->mode == PICK_WRAP ? MODE_WRAP : MODE_CLIP};
  return g->length == 0 && g->outer * g->inner > 0 ? no_rows(err) : MX_OK;
}

/* Elements [at, at + n) of the picked array: their places in data. */
static void pick_places(const picking *g, const mx_tensor *index, int64_t at, int64_t n, int64_t *place) {
  read_bounded(index, at, n, g->length, g->mode, place);
  int64_t o = at / g->inner, i = at % g->inner;
  for (int64_t k = 0; k < n; k++) {
    place[k] = (o * g->length + place[k]) * g->inner + i;
    if (++i == g->inner) i = 0, o++;
  }
}

/* Copies between places of `large` and the consecutive `small`. */
#define PICK_MOVE(bits)                                                                                           \
  static void pick_move_##bits(void *large, const int64_t *place, void *small, int64_t at, int64_t n, bool out) { \
    uint##bits##_t *l = large, *s = (uint##bits##_t *)small + at;                                                 \
    if (out)                                                                                                      \
      for (int64_t k = 0; k < n; k++) s[k] = l[place[k]];                                                         \
    else                                                                                                          \
      for (int64_t k = 0; k < n; k++) l[place[k]] = s[k];                                                         \
  }
PICK_MOVE(8)
PICK_MOVE(16)
PICK_MOVE(32)
PICK_MOVE(64)

static void pick_run(const picking *g, const mx_tensor *large, const mx_tensor *index, const mx_tensor *small,
                     bool out) {
  int64_t n = g->outer * g->inner, blocks = (n + MX_INDEX_BLOCK - 1) / MX_INDEX_BLOCK;
#pragma omp parallel for num_threads(mx_threads_for(n, MX_GRAIN / 8)) /* each element from another cache line */
  for (int64_t b = 0; b < blocks; b++) {
    int64_t place[MX_INDEX_BLOCK], at = b * MX_INDEX_BLOCK, len = block_of(at, n);
    pick_places(g, index, at, len, place);
    switch (mx_dtype_size(large->dtype)) {
      case 1:
        pick_move_8(large->data, place, small->data, at, len, out);
        break;
      case 2:
        pick_move_16(large->data, place, small->data, at, len, out);
        break;
      case 4:
        pick_move_32(large->data, place, small->data, at, len, out);
        break;
      default:
        pick_move_64(large->data, place, small->data, at, len, out);
        break;
    }
  }
}

static mx_status pick_kernel(const mx_call *c, mx_error *err) {
  picking g;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(pick_geometry(c->params, &c->in[0].shape, &g, err));
  pick_run(&g, &c->in[0], &c->in[1], &c->out[0], true);
  return MX_OK;
}

static mx_status pick_grad_call(mx_grad *g, int64_t axis, bool keepdims, int mode, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->in[1]};
  char a[MX_INT_TEXT], shape[MX_SHAPE_TEXT];
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_call(g, "_backward_pick",
                      (const char *const[]){"axis", mx_int_text(axis, a), "keepdims", keepdims ? "True" : "False",
                                            "mode", mode == PICK_WRAP ? "wrap" : "clip", "shape",
                                            mx_tuple_text(g->in_shape[0].dim, g->in_shape[0].ndim, shape), NULL},
                      in, 2, &g->in_grad[0], err);
}
static mx_status pick_gradient(mx_grad *g, mx_error *err) {
  const pick_params *p = g->params;
  return pick_grad_call(g, p->axis.value, p->keepdims, p->mode, err);
}

static mx_status pick_back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return mx_shape_merge(&out[0], &((const pick_params *)params)->shape, "gradient of data", err);
}
static mx_status pick_back_kernel(const mx_call *c, mx_error *err) {
  picking g;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(pick_geometry(c->params, &c->out[0].shape, &g, err));
  MX_TRY(mx_zero_output(c, 0, err));
  pick_run(&g, &c->out[0], &c->in[1], &c->in[0], false);
  return MX_OK;
}

/* ---- batch_take: pick from the rows of a matrix ---- */

static mx_status batch_take_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape two = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(&in[0], &two, "a", err));
  mx_shape one = mx_shape_of(in[0].dim[0]);
  MX_TRY(mx_shape_merge(&in[1], &one, "indices", err));
  MX_TRY(mx_layer_unify(&in[1], &out[0], "output", err));
  in[0].dim[0] = in[1].dim[0];
  return MX_OK;
}
static mx_status batch_take_kernel(const mx_call *c, mx_error *err) {
  picking g = {c->in[0].shape.dim[0], c->in[0].shape.dim[1], 1, MODE_CLIP};
  if (c->req[0] == MX_NULL || g.outer == 0) return MX_OK;
  if (g.length == 0) return no_rows(err);
  pick_run(&g, &c->in[0], &c->in[1], &c->out[0], true);
  return MX_OK;
}
static mx_status batch_take_gradient(mx_grad *g, mx_error *err) { return pick_grad_call(g, 1, false, PICK_CLIP, err); }

/* ---- one_hot ---- */

typedef struct one_hot_params {
  int64_t depth;
  double on_value, off_value;
  mx_dtype dtype;
} one_hot_params;

static const mx_param one_hot_table[] = {
    MX_P_INT(one_hot_params, depth, NULL, 0, (double)INT64_MAX, "Length of the new last dimension."),
    MX_P_FLOAT(one_hot_params, on_value, "1", MX_ANY, "Value at the index."),
    MX_P_FLOAT(one_hot_params, off_value, "0", MX_ANY, "Value elsewhere."),
    MX_P_DTYPE(one_hot_params, dtype, "float32", number_dtypes, "Element type of the output."), MX_P_END};

static mx_status one_hot_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  if (in[0].ndim < 0) return MX_OK;
  if (in[0].ndim >= MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  mx_shape want = in[0];
  want.dim[want.ndim++] = ((const one_hot_params *)params)->depth;
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status one_hot_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const one_hot_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}

/* Writes `on` at the index of each of n rows of length `depth`; rows whose index is out of range are left. */
static void mark_rows(const mx_tensor *index, const mx_tensor *out, int64_t n, int64_t depth, double on) {
  size_t es = mx_dtype_size(out->dtype);
  int64_t block[MX_INDEX_BLOCK];
  uint64_t value = 0;
  mx_convert(&on, MX_FLOAT64, &value, out->dtype, 1);
  for (int64_t at = 0; at < n; at += MX_INDEX_BLOCK) {
    int64_t len = block_of(at, n);
    mx_read_indices(index, at, len, block);
    for (int64_t i = 0; i < len; i++)
      if (block[i] >= 0 && block[i] < depth)
        memcpy((char *)out->data + (size_t)((at + i) * depth + block[i]) * es, &value, es);
  }
}

static mx_status one_hot_kernel(const mx_call *c, mx_error *err) {
  const one_hot_params *p = c->params;
  if (c->req[0] == MX_NULL) return MX_OK;
  mx_fill(c->out[0].data, c->out[0].dtype, mx_shape_size(&c->out[0].shape), p->off_value);
  mark_rows(&c->in[0], &c->out[0], mx_shape_size(&c->in[0].shape), p->depth, p->on_value);
  return MX_OK;
}

/* ---- calls that fill the rows of a matrix ---- */

/* _onehot_encode: lhs are the indices; rhs is the matrix that is written, of the shape of the output. */
static mx_status encode_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape two = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN), one = mx_shape_of(MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(&in[0], &one, "lhs", err));
  two.dim[0] = in[0].dim[0];
  MX_TRY(mx_shape_merge(&in[1], &two, "rhs", err));
  return mx_layer_unify(&in[1], &out[0], "output", err);
}
static mx_status encode_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  return mx_dtype_unify(&in[1], &out[0], "output", err);
}
static mx_status encode_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->out[0].shape;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(mx_zero_output(c, 0, err));
  mark_rows(&c->in[0], &c->out[0], s->dim[0], s->dim[1], 1);
  return MX_OK;
}

static mx_status fill_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape two = mx_shape_of(MX_DIM_UNKNOWN, MX_DIM_UNKNOWN);
  MX_TRY(mx_shape_merge(&in[0], &two, "lhs", err));
  mx_shape one = mx_shape_of(in[0].dim[0]);
  MX_TRY(mx_shape_merge(&in[1], &one, "mhs", err));
  MX_TRY(mx_shape_merge(&in[2], &one, "rhs", err));
  return mx_layer_unify(&in[0], &out[0], "output", err);
}
static mx_status fill_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  MX_TRY(mx_dtype_unify(&in[0], &in[1], "mhs", err));
  MX_TRY(mx_dtype_unify(&in[0], &out[0], "output", err));
  in[1] = in[0];
  return MX_OK;
}
static mx_status fill_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &c->out[0].shape;
  picking g = {s->dim[0], s->dim[1], 1, MODE_CLIP};
  if (c->req[0] == MX_NULL || s->dim[0] == 0) return MX_OK;
  if (s->dim[1] == 0) return no_rows(err);
  MX_TRY(mx_copy_first(c, err));
  pick_run(&g, &c->out[0], &c->in[2], &c->in[1], false);
  return MX_OK;
}

#define FAMILY .family = "Indexing and sorting", .n_out = 1

const mx_op mx_ops_indexing[] = {
    {.name = "Embedding",
     .aliases = MX_STRINGS("_sparse_Embedding"),
     .family = "Neural-network layers",
     .doc = "Replaces each index by a row of weight: (d1, ..., dk) -> (d1, ..., dk, output_dim) with output[..., :] = "
            "weight[data[...], :]. Indices below 0 take the first row, too large ones the last.",
     .in_doc = MX_STRINGS("Indices from 0, of any shape.", "(input_dim, output_dim)."),
     .in_names = MX_STRINGS("data", "weight"),
     .params = embedding_table,
     .params_size = sizeof(embedding_params),
     .n_in = 2,
     .n_out = 1,
     .infer_shape = embedding_infer,
     .infer_dtype = embedding_dtype,
     .gradient = embedding_gradient,
     .kernel = embedding_kernel},
    {.name = "_backward_Embedding",
     FAMILY,
     .params = embedding_table,
     .params_size = sizeof(embedding_params),
     .n_in = 2,
     .in_names = MX_STRINGS("head", "data"),
     .infer_shape = embedding_back_infer,
     .infer_dtype = mx_infer_dtype_first,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS,
     .kernel = embedding_back_kernel},
    {.name = "take",
     FAMILY,
     .doc = "Elements of a at the given indices of one dimension: the dimension axis of a is replaced by the "
            "dimensions of "
            "indices. With axis = 0: output[i, j, ...] = a[indices[i, j], ...].",
     .in_doc = MX_STRINGS("Array of any shape.", "Indices from 0, of any shape; fractions are cut."),
     .in_names = MX_STRINGS("a", "indices"),
     .params = take_table,
     .params_size = sizeof(take_params),
     .n_in = 2,
     .infer_shape = take_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = take_gradient,
     .kernel = take_kernel},
    {.name = "_backward_take",
     FAMILY,
     .params = take_back_table,
     .params_size = sizeof(take_params),
     .n_in = 2,
     .in_names = MX_STRINGS("head", "indices"),
     .infer_shape = take_back_infer,
     .infer_dtype = mx_infer_dtype_first,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS,
     .kernel = take_back_kernel},
    {.name = "pick",
     .aliases = MX_STRINGS("choose_element_0index"),
     FAMILY,
     .doc = "One element along axis for each place of the other dimensions. For a matrix and axis = 1: output[i] = "
            "data[i, "
            "index[i]].",
     .in_doc =
         MX_STRINGS("Array of any shape.", "Indices from 0: the shape of data without axis, or with length 1 there."),
     .in_names = MX_STRINGS("data", "index"),
     .params = pick_table,
     .params_size = sizeof(pick_params),
     .check = pick_check,
     .n_in = 2,
     .infer_shape = pick_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = pick_gradient,
     .kernel = pick_kernel},
    {.name = "_backward_pick",
     FAMILY,
     .params = pick_back_table,
     .params_size = sizeof(pick_params),
     .check = pick_check,
     .n_in = 2,
     .in_names = MX_STRINGS("head", "index"),
     .infer_shape = pick_back_infer,
     .infer_dtype = mx_infer_dtype_first,
     .flags = MX_OP_HIDDEN,
     .kernel = pick_back_kernel},
    {.name = "batch_take",
     FAMILY,
     .doc =
         "One element of each row: output[i] = a[i, indices[i]]. Indices out of range take the first or last element.",
     .in_doc = MX_STRINGS("(n, m).", "(n,), indices from 0."),
     .in_names = MX_STRINGS("a", "indices"),
     .n_in = 2,
     .infer_shape = batch_take_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = batch_take_gradient,
     .kernel = batch_take_kernel},
    {.name = "one_hot",
     FAMILY,
     .doc = "Rows with on_value at the index and off_value elsewhere: (d1, ..., dk) -> (d1, ..., dk, depth). An index "
            "out of "
            "range gives a row of off_value.",
     .in_doc = MX_STRINGS("Indices from 0, of any shape."),
     .in_names = MX_STRINGS("indices"),
     .params = one_hot_table,
     .params_size = sizeof(one_hot_params),
     .n_in = 1,
     .infer_shape = one_hot_infer,
     .infer_dtype = one_hot_dtype,
     .kernel = one_hot_kernel},
    {.name = "_onehot_encode",
     FAMILY,
     .doc = "Writes a one-hot matrix: output[i, lhs[i]] = 1, zeros elsewhere.",
     .in_doc = MX_STRINGS("(n,), indices from 0.", "(n, depth): the output itself."),
     .in_names = MX_STRINGS("lhs", "rhs"),
     .n_in = 2,
     .infer_shape = encode_infer,
     .infer_dtype = encode_dtype,
     .aliases_mem = (const mx_alias[]){{0, 1}, {-1, -1}},
     .flags = MX_OP_IMPERATIVE,
     .kernel = encode_kernel},
    {.name = "fill_element_0index",
     FAMILY,
     .doc = "lhs with one element of each row replaced: output[i, rhs[i]] = mhs[i].",
     .in_doc = MX_STRINGS("(n, m).", "(n,), the values.", "(n,), indices from 0."),
     .in_names = MX_STRINGS("lhs", "mhs", "rhs"),
     .n_in = 3,
     .infer_shape = fill_infer,
     .infer_dtype = fill_dtype,
     .aliases_mem = mx_alias_first,
     .flags = MX_OP_IMPERATIVE,
     .kernel = fill_kernel},
    {0}};
