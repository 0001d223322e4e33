/* Picking and placing by index tuples: gather_nd, scatter_nd, _scatter_set_nd, and the numbering of places,
 * ravel_multi_index and unravel_index.
 *
 * indices has shape (m, p1, ..., pk): m rows of as many numbers as there are points. A point names the first m
 * dimensions of an array; what is moved is a run of the remaining ones. Where results add up or overwrite each other,
 * threads share the rows of the result and every thread reads all points in order, so that the result does not depend
 * on their number. */
#include <inttypes.h>
#include <string.h>

#include "ops/manipulate.h"

typedef struct points {
  const mx_tensor *indices;
  int m;
  int64_t n;                   /* points */
  int64_t rows, run;           /* the array as a matrix: rows that points name, elements per row */
  int64_t length[MX_MAX_NDIM]; /* of the m dimensions */
} points;

static mx_status make_points(const mx_shape *array, const mx_tensor *indices, points *p) {
  p->indices = indices;
  p->m = (int)indices->shape.dim[0];
  p->n = mx_shape_prod(&indices->shape, 1, indices->shape.ndim);
  p->rows = mx_shape_prod(array, 0, p->m);
  p->run = mx_shape_prod(array, p->m, array->ndim);
  for (int i = 0; i < p->m; i++) p->length[i] = array->dim[i];
  return MX_OK;
}

/* Rows of points [at, at + n), n <= MX_INDEX_BLOCK; negative numbers count from the end. Returns the first point that
 * is out of range (its row is 0), or INT64_MAX. */
static int64_t point_rows(const points *p, int64_t at, int64_t n, int64_t *row) {
  int64_t block[MX_INDEX_BLOCK], bad = INT64_MAX;
  for (int64_t j = 0; j < n; j++) row[j] = 0;
  for (int i = 0; i < p->m; i++) {
    int64_t length = p->length[i];
    mx_read_indices(p->indices, i * p->n + at, n, block);
    for (int64_t j = 0; j < n; j++) {
      int64_t x = block[j] < 0 && block[j] >= -length ? block[j] + length : block[j];
      if (x < 0 || x >= length) {
        bad = at + j < bad ? at + j : bad;
        x = 0;
      }
      row[j] = row[j] * length + x;
    }
  }
  if (bad < INT64_MAX)
    for (int64_t j = 0; j < n; j++) row[j] = row[j] < p->rows ? row[j] : 0;
  return bad;
}

static mx_status bad_point(const points *p, int64_t point, mx_error *err) {
  for (int i = 0; i < p->m; i++) {
    int64_t x;
    mx_read_indices(p->indices, i * p->n + point, 1, &x);
    if (x >= -p->length[i] && x < p->length[i]) continue;
    mx_fail(err, MX_ERR_VALUE,
            "Index %" PRId64 " in row %d of indices is out of range; the dimension has length %" PRId64 ".", x, i,
            p->length[i]);
    mx_error_set(err, argument, "indices");
    mx_error_set(err, actual, "%" PRId64, x);
    mx_error_set(err, expected, "0 to %" PRId64, p->length[i] - 1);
    break;
  }
  return MX_ERR_VALUE;
}

static int64_t block_of(int64_t at, int64_t n) { return n - at < MX_INDEX_BLOCK ? n - at : MX_INDEX_BLOCK; }

static mx_status gather_points(const points *p, const void *array, void *out, size_t es, mx_error *err) {
  int64_t blocks = (p->n + MX_INDEX_BLOCK - 1) / MX_INDEX_BLOCK, bad = INT64_MAX;
  size_t bytes = (size_t)p->run * es;
  if (p->n == 0 || p->run == 0) return MX_OK;
  if (p->rows == 0) return mx_fail(err, MX_ERR_SHAPE, "Indices were given, but the array has no elements.");
#pragma omp parallel for reduction(min : bad) num_threads(mx_threads_for(p->n *(p->run + p->m), MX_GRAIN))
  for (int64_t b = 0; b < blocks; b++) {
    int64_t row[MX_INDEX_BLOCK], at = b * MX_INDEX_BLOCK, len = block_of(at, p->n), wrong = point_rows(p, at, len, row);
    if (wrong < bad) bad = wrong;
    const char *s = array;
    char *d = (char *)out + (size_t)at * bytes;
    for (int64_t j = 0; j < len; j++) memcpy(d + (size_t)j * bytes, s + (size_t)row[j] * bytes, bytes);
  }
  return bad < INT64_MAX ? bad_point(p, bad, err) : MX_OK;
}

/* Places (or adds) runs of `values` in `array`. */
static mx_status scatter_points(const points *p, void *array, const void *values, mx_dtype dtype, bool add,
                                mx_error *err) {
  size_t bytes = (size_t)p->run * mx_dtype_size(dtype);
  int64_t bad = INT64_MAX;
  if (p->n == 0 || p->run == 0) return MX_OK;
  if (p->rows == 0) return mx_fail(err, MX_ERR_SHAPE, "Indices were given, but the array has no elements.");
  int parts = mx_threads_for(p->n * (p->run + p->m), MX_GRAIN);
  if (parts > p->rows) parts = (int)p->rows;
#pragma omp parallel for reduction(min : bad) num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; part++) {
    int64_t row[MX_INDEX_BLOCK], lo = p->rows / parts * part, hi = part + 1 < parts ? lo + p->rows / parts : p->rows;
    for (int64_t at = 0; at < p->n; at += MX_INDEX_BLOCK) {
      int64_t len = block_of(at, p->n), wrong = point_rows(p, at, len, row);
      if (wrong < bad) bad = wrong;
      if (bad < INT64_MAX) break;
      for (int64_t j = 0; j < len; j++) {
        if (row[j] < lo || row[j] >= hi) continue;
        char *d = (char *)array + (size_t)row[j] * bytes;
        const char *s = (const char *)values + (size_t)(at + j) * bytes;
        if (add)
          mx_add_row(dtype, d, s, p->run);
        else
          memcpy(d, s, bytes);
      }
    }
  }
  return bad < INT64_MAX ? bad_point(p, bad, err) : MX_OK;
}

/* ---- shapes: values = points + array[m:] ---- */

static mx_status values_shape(const mx_shape *array, const mx_shape *indices, mx_shape *out, mx_error *err) {
  *out = MX_SHAPE_UNKNOWN;
  if (array->ndim < 0 || indices->ndim < 0) return MX_OK;
  if (indices->ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "indices must have at least one dimension.");
  int64_t m = indices->dim[0];
  if (m < 0) return MX_OK;
  if (m > array->ndim || m == 0)
    return mx_fail(err, MX_ERR_SHAPE, "indices names %" PRId64 " dimensions, but the array has %d; expected 1 to %d.",
                   m, array->ndim, array->ndim);
  if (indices->ndim - 1 + array->ndim - m > MX_MAX_NDIM)
    return mx_fail(err, MX_ERR_SHAPE, "The output would have more than %d dimensions.", MX_MAX_NDIM);
  out->ndim = 0;
  for (int i = 1; i < indices->ndim; i++) out->dim[out->ndim++] = indices->dim[i];
  for (int i = (int)m; i < array->ndim; i++) out->dim[out->ndim++] = array->dim[i];
  if (out->ndim == 0) *out = mx_shape_of(1); /* there are no arrays without dimensions */
  return MX_OK;
}

typedef struct shape_params {
  mx_shape shape;
} shape_params;

static const mx_param shape_table[] = {
    MX_P_TUPLE(shape_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."), MX_P_END};

/* ---- gather_nd and its gradient ---- */

static mx_status gather_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want;
  MX_TRY(values_shape(&in[0], &in[1], &want, err));
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status gather_kernel(const mx_call *c, mx_error *err) {
  points p;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(make_points(&c->in[0].shape, &c->in[1], &p));
  return gather_points(&p, c->in[0].data, c->out[0].data, mx_dtype_size(c->out[0].dtype), err);
}
static mx_status gather_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->in[1]};
  char shape[MX_SHAPE_TEXT];
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  mx_tuple_text(g->in_shape[0].dim, g->in_shape[0].ndim, shape);
  return mx_grad_call(g, "_backward_gather_nd", (const char *const[]){"shape", shape, NULL}, in, 2, &g->in_grad[0],
                      err);
}
static mx_status gather_back_kernel(const mx_call *c, mx_error *err) {
  points p;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(make_points(&c->out[0].shape, &c->in[1], &p));
  if (c->req[0] != MX_ADD) MX_TRY(mx_zero_output(c, 0, err));
  return scatter_points(&p, c->out[0].data, c->in[0].data, c->out[0].dtype, true, err);
}

/* ---- scatter_nd, _scatter_set_nd ---- */

static mx_status scatter_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want;
  MX_TRY(mx_shape_merge(&out[0], &((const shape_params *)params)->shape, "output", err));
  MX_TRY(values_shape(&out[0], &in[1], &want, err));
  return mx_shape_merge(&in[0], &want, "data", err);
}
static mx_status scatter_kernel(const mx_call *c, mx_error *err) {
  points p;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(make_points(&c->out[0].shape, &c->in[1], &p));
  MX_TRY(mx_zero_output(c, 0, err));
  return scatter_points(&p, c->out[0].data, c->in[0].data, c->out[0].dtype, false, err);
}
static mx_status scatter_gradient(mx_grad *g, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->in[1]};
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  return mx_grad_call(g, "gather_nd", NULL, in, 2, &g->in_grad[0], err);
}

static mx_status set_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  mx_shape want;
  MX_TRY(mx_shape_merge(&in[0], &((const shape_params *)params)->shape, "lhs", err));
  MX_TRY(mx_layer_unify(&in[0], &out[0], "output", err));
  MX_TRY(values_shape(&in[0], &in[2], &want, err));
  return mx_shape_merge(&in[1], &want, "rhs", err);
}
static mx_status set_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  MX_TRY(mx_dtype_unify(&in[0], &out[0], "output", err));
  MX_TRY(mx_dtype_unify(&in[0], &in[1], "rhs", err));
  out[0] = in[0];
  return MX_OK;
}
static mx_status set_kernel(const mx_call *c, mx_error *err) {
  points p;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(make_points(&c->out[0].shape, &c->in[2], &p));
  MX_TRY(mx_copy_first(c, err));
  return scatter_points(&p, c->out[0].data, c->in[1].data, c->out[0].dtype, false, err);
}
/* The head, with zeros where values were replaced; and what it has there. */
static mx_status set_gradient(mx_grad *g, mx_error *err) {
  char text[MX_SHAPE_TEXT];
  mx_entry in[3] = {MX_NO_ENTRY, g->in[1], g->in[2]}, there[2] = {MX_NO_ENTRY, g->in[2]};
  MX_TRY(mx_grad_head(g, 0, &in[0], err));
  there[0] = in[0];
  if (g->wanted[0]) {
    MX_TRY(mx_grad_call(g, "zeros_like", NULL, &in[1], 1, &in[1], err));
    MX_TRY(mx_grad_call(g, "_scatter_set_nd",
                        (const char *const[]){"shape", mx_shape_text(&g->in_shape[0], text), NULL}, in, 3,
                        &g->in_grad[0], err));
  }
  return g->wanted[1] ? mx_grad_call(g, "gather_nd", NULL, there, 2, &g->in_grad[1], err) : MX_OK;
}

/* ---- ravel_multi_index, unravel_index ---- */

static const mx_param grid_table[] = {MX_P_TUPLE(shape_params, shape, "None", -1, (double)INT64_MAX,
                                                 "Shape of the array whose places are numbered; the first "
                                                 "length may be -1."),
                                      MX_P_END};

static mx_status grid_check(void *params, mx_error *err) {
  const mx_shape *s = &((const shape_params *)params)->shape;
  for (int i = 0; i < s->ndim; i++)
    if (s->dim[i] == 0 || (s->dim[i] < 0 && i > 0))
      return mx_fail(err, MX_ERR_VALUE, "The lengths in shape must be positive; only the first may be -1.");
  return MX_OK;
}

static mx_status grid_given(const mx_shape *s, mx_error *err) {
  return s->ndim > 0 ? MX_OK : mx_fail(err, MX_ERR_VALUE, "shape must be given.");
}

static mx_status ravel_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const mx_shape *s = &((const shape_params *)params)->shape;
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(grid_given(s, err));
  if (in[0].ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "data must have at least one dimension.");
  mx_shape rows = in[0], want = {.ndim = in[0].ndim - 1};
  rows.dim[0] = s->ndim;
  MX_TRY(mx_shape_merge(&in[0], &rows, "data", err));
  for (int i = 0; i < want.ndim; i++) want.dim[i] = in[0].dim[i + 1];
  if (want.ndim == 0) want = mx_shape_of(1);
  return mx_shape_merge(&out[0], &want, "output", err);
}

static mx_status unravel_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const mx_shape *s = &((const shape_params *)params)->shape;
  if (in[0].ndim < 0) return MX_OK;
  MX_TRY(grid_given(s, err));
  if (in[0].ndim >= MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  mx_shape want = {.ndim = in[0].ndim + 1, .dim = {s->ndim}};
  for (int i = 0; i < in[0].ndim; i++) want.dim[i + 1] = in[0].dim[i];
  return mx_shape_merge(&out[0], &want, "output", err);
}

static void write_indices(const mx_tensor *t, int64_t at, int64_t n, const int64_t *value) {
  mx_convert(value, MX_INT64, (char *)t->data + (size_t)at * mx_dtype_size(t->dtype), t->dtype, n);
}

static mx_status ravel_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &((const shape_params *)c->params)->shape;
  int64_t n = mx_shape_size(&c->out[0].shape), block[MX_INDEX_BLOCK], sum[MX_INDEX_BLOCK];
  if (c->req[0] == MX_NULL) return MX_OK;
  for (int64_t at = 0; at < n; at += MX_INDEX_BLOCK) {
    int64_t len = block_of(at, n);
    memset(sum, 0, sizeof(sum));
    for (int i = 0; i < s->ndim; i++) {
      mx_read_indices(&c->in[0], i * n + at, len, block);
      /* unsigned, so that senseless indices wrap around instead of being undefined */
      for (int64_t j = 0; j < len; j++)
        sum[j] = (int64_t)((uint64_t)sum[j] * (uint64_t)(i ? s->dim[i] : 0) + (uint64_t)block[j]);
    }
    write_indices(&c->out[0], at, len, sum);
  }
  return MX_OK;
}

static mx_status unravel_kernel(const mx_call *c, mx_error *err) {
  const mx_shape *s = &((const shape_params *)c->params)->shape;
  int64_t n = mx_shape_size(&c->in[0].shape), rest[MX_INDEX_BLOCK], block[MX_INDEX_BLOCK];
  if (c->req[0] == MX_NULL) return MX_OK;
  for (int64_t at = 0; at < n; at += MX_INDEX_BLOCK) {
    int64_t len = block_of(at, n);
    mx_read_indices(&c->in[0], at, len, rest);
    for (int i = s->ndim - 1; i >= 0; i--) {
      for (int64_t j = 0; j < len; j++) {
        block[j] = i ? rest[j] % s->dim[i] : rest[j];
        if (i) rest[j] /= s->dim[i];
      }
      write_indices(&c->out[0], i * n + at, len, block);
    }
  }
  return MX_OK;
}

#define FAMILY .family = "Indexing and sorting", .n_out = 1

const mx_op mx_ops_gather[] = {
    {.name = "gather_nd",
     FAMILY,
     .doc = "Elements (or runs of them) at index tuples: output[p, ...] = data[indices[0, p], ..., indices[m - 1, p], "
            "...]. "
            "Negative indices count from the end; indices out of range are an error.",
     .in_doc = MX_STRINGS("Array with at least m dimensions.", "(m, ...): row i has the indices of dimension i."),
     .in_names = MX_STRINGS("data", "indices"),
     .n_in = 2,
     .infer_shape = gather_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = gather_gradient,
     .kernel = gather_kernel},
    {.name = "_backward_gather_nd",
     FAMILY,
     .params = shape_table,
     .params_size = sizeof(shape_params),
     .in_names = MX_STRINGS("head", "indices"),
     .n_in = 2,
     .infer_shape = scatter_infer,
     .infer_dtype = mx_infer_dtype_first,
     .flags = MX_OP_HIDDEN | MX_OP_ADDS,
     .kernel = gather_back_kernel},
    {.name = "scatter_nd",
     FAMILY,
     .doc = "Zeros with values at index tuples: output[indices[0, p], ..., indices[m - 1, p], ...] = data[p, ...]. "
            "Where points "
            "meet, the last one stays.",
     .in_doc = MX_STRINGS("The values.", "(m, ...): row i has the indices of dimension i."),
     .in_names = MX_STRINGS("data", "indices"),
     .params = shape_table,
     .params_size = sizeof(shape_params),
     .n_in = 2,
     .infer_shape = scatter_infer,
     .infer_dtype = mx_infer_dtype_first,
     .gradient = scatter_gradient,
     .kernel = scatter_kernel},
    {.name = "_scatter_set_nd",
     FAMILY,
     .doc =
         "lhs with values replaced at index tuples: output[indices[0, p], ..., indices[m - 1, p], ...] = rhs[p, ...].",
     .in_doc =
         MX_STRINGS("Array of the given shape.", "The values.", "(m, ...): row i has the indices of dimension i."),
     .in_names = MX_STRINGS("lhs", "rhs", "indices"),
     .params = shape_table,
     .params_size = sizeof(shape_params),
     .n_in = 3,
     .infer_shape = set_infer,
     .infer_dtype = set_dtype,
     .gradient = set_gradient,
     .aliases_mem = mx_alias_first,
     .kernel = set_kernel},
    {.name = "_ravel_multi_index",
     .aliases = MX_STRINGS("ravel_multi_index"),
     FAMILY,
     .doc = "Numbers of places in an array, in row-major order: for shape (a, b, c) the place "
            "(i, j, k) has "
            "the number (i * b + j) * c + k.",
     .in_doc = MX_STRINGS("(m, ...): row i has the indices of dimension i, m is the length of shape."),
     .params = grid_table,
     .params_size = sizeof(shape_params),
     .check = grid_check,
     .n_in = 1,
     .infer_shape = ravel_infer,
     .kernel = ravel_kernel},
    {.name = "_unravel_index",
     .aliases = MX_STRINGS("unravel_index"),
     FAMILY,
     .doc = "The places that belong to numbers, the inverse of ravel_multi_index: (...) -> (m, ...).",
     .in_doc = MX_STRINGS("Numbers of places, of any shape."),
     .params = grid_table,
     .params_size = sizeof(shape_params),
     .check = grid_check,
     .n_in = 1,
     .infer_shape = unravel_infer,
     .kernel = unravel_kernel},
    {0}};
