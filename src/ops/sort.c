/* sort, argsort and topk: rows along a dimension are put in order (order.c); what differs is what is written. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/manipulate.h"
#include "ops/order.h"

static const char *const index_dtypes[] = {"float16", "float32", "float64", "int32", "int64", "uint8", NULL};

/* data as (outer, n, inner); the first k along n are asked for. */
typedef struct ranking {
  int64_t outer, n, inner, k;
  int axis; /* -1: data is one row */
  bool ascending;
} ranking;

static mx_status make_ranking(mx_opt_int axis, int64_t k, bool ascending, const mx_shape *data, ranking *r,
                              mx_error *err) {
  *r = (ranking){.outer = 1, .inner = 1, .axis = -1, .ascending = ascending};
  if (axis.given) {
    MX_TRY(mx_axis_param(axis.value, data->ndim, "axis", &r->axis, err));
    r->outer = mx_shape_prod(data, 0, r->axis);
    r->n = data->dim[r->axis];
    r->inner = mx_shape_prod(data, r->axis + 1, data->ndim);
  } else {
    r->n = mx_shape_size(data);
  }
  if (r->n > INT32_MAX)
    return mx_fail(err, MX_ERR_SHAPE, "%" PRId64 " elements cannot be put in order; at most %d can.", r->n, INT32_MAX);
  if (k > r->n) {
    mx_fail(err, MX_ERR_VALUE, "k is %" PRId64 ", but there are %" PRId64 " elements to choose from.", k, r->n);
    mx_error_set(err, argument, "k");
    mx_error_set(err, actual, "%" PRId64, k);
    mx_error_set(err, expected, "at most %" PRId64, r->n);
    return MX_ERR_VALUE;
  }
  r->k = k < 1 ? r->n : k;
  return MX_OK;
}

/* Every index below n must be a number of its type. */
static mx_status check_index_dtype(int64_t n, mx_dtype dtype, mx_error *err) {
  int64_t count = dtype == MX_UINT8     ? 256
                  : dtype == MX_FLOAT16 ? 2049
                  : dtype == MX_FLOAT32 ? ((int64_t)1 << 24) + 1
                                        : (int64_t)1 << 31;
  if (n <= count) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "%s cannot hold the indices of %" PRId64 " elements; choose a larger dtype.",
          mx_dtype_name(dtype), n);
  mx_error_set(err, argument, "dtype");
  mx_error_set(err, actual, "%s", mx_dtype_name(dtype));
  return MX_ERR_VALUE;
}

static mx_shape ranked_shape(const ranking *r, const mx_shape *data) {
  if (r->axis < 0) return mx_shape_of(r->k);
  mx_shape s = *data;
  s.dim[r->axis] = r->k;
  return s;
}

/* ---- the kernel ---- */

enum { GRAIN = 2048 };
static int64_t ranking_work(const ranking *r) { return r->outer * r->n * r->inner; }

static size_t scratch_bytes(const ranking *r, mx_dtype dtype) {
  return mx_order_bytes(r->n, dtype) + (((size_t)r->k * sizeof(int32_t) + 63) & ~(size_t)63);
}
static void ask_workspace(mx_call *c, const ranking *r) {
  int64_t rows = r->outer * r->inner;
  int threads = mx_threads_at_most(ranking_work(r), GRAIN);
  if (threads > rows) threads = rows > 0 ? (int)rows : 1;
  c->workspace_bytes = (size_t)threads * scratch_bytes(r, c->in[0].dtype);
}

/* Where results go; NULL: not wanted. */
typedef struct ranked {
  void *value, *mask;
  mx_dtype dtype; /* of data, value and mask */
  void *index;
  mx_dtype index_dtype;
  int32_t *exact;
} ranked;

/* Row (o, i): element j is at (o * k + j) * inner + i of the results. */
static void write_row(const ranking *r, const void *data, const ranked *to, const int32_t *index, int64_t o,
                      int64_t i) {
  int64_t base = o * r->n * r->inner + i, at = o * r->k * r->inner + i;
  if (to->value)
    MX_SWITCH_SIZE(to->dtype, U,
                   for (int64_t j = 0; j < r->k; j++)((U *)to->value)[at + j * r->inner] =
                       ((const U *)data)[base + (int64_t)index[j] * r->inner];)
  if (to->index)
    MX_SWITCH_ALL(to->index_dtype, (void)0,
                  for (int64_t j = 0; j < r->k; j++)((T *)to->index)[at + j * r->inner] = (T)index[j];)
  if (to->exact)
    for (int64_t j = 0; j < r->k; j++) to->exact[at + j * r->inner] = index[j];
  if (to->mask)
    MX_SWITCH_ALL(to->dtype, (void)0,
                  for (int64_t j = 0; j < r->k; j++)((T *)to->mask)[base + (int64_t)index[j] * r->inner] = (T)1;)
}

static void rank(const mx_call *c, const ranking *r, const ranked *to) {
  int64_t rows = r->outer * r->inner;
  const mx_tensor *data = &c->in[0];
  size_t each = scratch_bytes(r, data->dtype), order = mx_order_bytes(r->n, data->dtype),
         es = mx_dtype_size(data->dtype);
  if (rows == 0 || r->k == 0) return;
  int threads = mx_threads_for(ranking_work(r), GRAIN), sets = (int)(c->workspace_bytes / each);
  int workers = threads < sets ? threads : sets;
  if (workers > rows) workers = (int)rows;
#pragma omp parallel for num_threads(workers) if (workers > 1)
  for (int w = 0; w < workers; w++) {
    char *scratch = (char *)c->workspace + (size_t)w * each;
    int32_t *index = (int32_t *)(scratch + order);
    for (int64_t row = rows * w / workers; row < rows * (w + 1) / workers; row++) {
      int64_t o = row / r->inner, i = row % r->inner;
      const char *x = (const char *)data->data + (size_t)(o * r->n * r->inner + i) * es;
      mx_order_row(x, data->dtype, r->n, r->inner, r->k, r->ascending, workers > 1 ? 1 : threads, scratch, index);
      write_row(r, data->data, to, index, o, i);
    }
  }
}

static void *wanted(const mx_call *c, int i) { return c->req[i] == MX_NULL ? NULL : c->out[i].data; }

/* ---- argsort ---- */

typedef struct argsort_params {
  mx_opt_int axis;
  bool is_ascend;
  mx_dtype dtype;
} argsort_params;

#define AXIS_ROW(S)                   \
  MX_P_OPT_INT(S, axis, "-1", MX_ANY, \
               "Dimension along which; negative numbers count from the end. None: data is seen as a vector.")

static const mx_param argsort_table[] = {
    AXIS_ROW(argsort_params), MX_P_BOOL(argsort_params, is_ascend, "True", "Smallest first; False: largest first."),
    MX_P_DTYPE(argsort_params, dtype, "float32", index_dtypes, "Element type of the output."), MX_P_END};

static mx_status argsort_ranking(const void *params, const mx_shape *data, ranking *r, mx_error *err) {
  const argsort_params *p = params;
  MX_TRY(make_ranking(p->axis, 0, p->is_ascend, data, r, err));
  return check_index_dtype(r->n, p->dtype, err);
}
static mx_status argsort_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  ranking r;
  if (!mx_shape_known(&in[0])) return MX_OK;
  MX_TRY(mx_shape_check_size(&in[0], 16, err));
  MX_TRY(argsort_ranking(params, &in[0], &r, err));
  mx_shape want = ranked_shape(&r, &in[0]);
  return mx_shape_merge(&out[0], &want, "output", err);
}
static mx_status argsort_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const argsort_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status argsort_prepare(mx_call *c, mx_error *err) {
  ranking r;
  MX_TRY(argsort_ranking(c->params, &c->in[0].shape, &r, err));
  ask_workspace(c, &r);
  return MX_OK;
}
static mx_status argsort_kernel(const mx_call *c, mx_error *err) {
  ranking r;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(argsort_ranking(c->params, &c->in[0].shape, &r, err));
  rank(c, &r, &(ranked){.dtype = c->in[0].dtype, .index = c->out[0].data, .index_dtype = c->out[0].dtype});
  return MX_OK;
}

/* ---- sort: a hidden output keeps where the elements came from ---- */

typedef struct sort_params {
  mx_opt_int axis;
  bool is_ascend;
} sort_params;

static const mx_param sort_table[] = {
    AXIS_ROW(sort_params), MX_P_BOOL(sort_params, is_ascend, "True", "Smallest first; False: largest first."),
    MX_P_END};

static mx_status sort_ranking(const void *params, const mx_shape *data, ranking *r, mx_error *err) {
  const sort_params *p = params;
  return make_ranking(p->axis, 0, p->is_ascend, data, r, err);
}
static int one_visible(const void *params) { return 1; }
static mx_status sort_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  ranking r;
  if (!mx_shape_known(&in[0])) return MX_OK;
  MX_TRY(mx_shape_check_size(&in[0], 16, err));
  MX_TRY(sort_ranking(params, &in[0], &r, err));
  mx_shape want = ranked_shape(&r, &in[0]);
  MX_TRY(mx_shape_merge(&out[0], &want, "output", err));
  return mx_shape_merge(&out[1], &want, "index", err);
}
static mx_status sort_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype index = MX_INT32;
  MX_TRY(mx_dtype_unify(&index, &out[1], "index", err));
  return mx_dtype_unify(&in[0], &out[0], "output", err);
}
static mx_status sort_prepare(mx_call *c, mx_error *err) {
  ranking r;
  MX_TRY(sort_ranking(c->params, &c->in[0].shape, &r, err));
  ask_workspace(c, &r);
  return MX_OK;
}
static mx_status sort_kernel(const mx_call *c, mx_error *err) {
  ranking r;
  MX_TRY(sort_ranking(c->params, &c->in[0].shape, &r, err));
  rank(c, &r, &(ranked){.dtype = c->in[0].dtype, .value = wanted(c, 0), .exact = wanted(c, 1)});
  return MX_OK;
}

/* The head gradient goes back to where the values came from; `index` is the output that says it. */
static mx_status values_gradient(mx_grad *g, mx_opt_int axis, int index, mx_error *err) {
  mx_entry in[2] = {MX_NO_ENTRY, g->out[index]};
  char a[MX_INT_TEXT], shape[MX_SHAPE_TEXT];
  if (!g->wanted[0] || !g->out_grad[0].node) return MX_OK;
  in[0] = g->out_grad[0];
  mx_tuple_text(g->in_shape[0].dim, g->in_shape[0].ndim, shape);
  return mx_grad_call(
      g, "_backward_topk",
      (const char *const[]){"axis", axis.given ? mx_int_text(axis.value, a) : "None", "shape", shape, NULL}, in, 2,
      &g->in_grad[0], err);
}
static mx_status sort_gradient(mx_grad *g, mx_error *err) {
  return values_gradient(g, ((const sort_params *)g->params)->axis, 1, err);
}

/* ---- topk ---- */

typedef struct topk_params {
  mx_opt_int axis;
  int64_t k;
  int ret_typ;
  bool is_ascend;
  mx_dtype dtype;
} topk_params;

enum { RETURN_BOTH, RETURN_INDICES, RETURN_MASK, RETURN_VALUE };

static const mx_param topk_table[] = {
    AXIS_ROW(topk_params),
    MX_P_INT(topk_params, k, "1", MX_ANY, "How many elements; less than 1: all, in order."),
    MX_P_ENUM(topk_params, ret_typ, "indices", MX_STRINGS("both", "indices", "mask", "value"),
              "What to return: the values, where they are, both, or an array like data with 1 at their places and 0 "
              "elsewhere."),
    MX_P_BOOL(topk_params, is_ascend, "False", "The smallest elements instead of the largest."),
    MX_P_DTYPE(topk_params, dtype, "float32", index_dtypes, "Element type of the indices."),
    MX_P_END};

/* Outputs: both (value, indices, hidden exact indices), value (value, hidden exact indices), indices, mask. */
static int topk_count(const void *params) {
  int r = ((const topk_params *)params)->ret_typ;
  return r == RETURN_BOTH ? 3 : r == RETURN_VALUE ? 2 : 1;
}
static int topk_visible(const void *params) { return ((const topk_params *)params)->ret_typ == RETURN_BOTH ? 2 : 1; }
static void topk_name(const void *params, int i, char *buf, size_t size) {
  if (topk_count(params) > 1)
    snprintf(buf, size, "output%d", i);
  else
    snprintf(buf, size, "output");
}

static mx_status topk_ranking(const void *params, const mx_shape *data, ranking *r, mx_error *err) {
  const topk_params *p = params;
  MX_TRY(make_ranking(p->axis, p->k, p->is_ascend, data, r, err));
  return p->ret_typ == RETURN_BOTH || p->ret_typ == RETURN_INDICES ? check_index_dtype(r->n, p->dtype, err) : MX_OK;
}
static mx_status topk_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const topk_params *p = params;
  ranking r;
  if (p->ret_typ == RETURN_MASK) MX_TRY(mx_layer_unify(&in[0], &out[0], "data", err));
  if (!mx_shape_known(&in[0])) return MX_OK;
  MX_TRY(mx_shape_check_size(&in[0], 16, err));
  MX_TRY(topk_ranking(params, &in[0], &r, err));
  if (p->ret_typ == RETURN_MASK) return MX_OK;
  mx_shape want = ranked_shape(&r, &in[0]);
  for (int i = 0; i < n_out; i++) MX_TRY(mx_shape_merge(&out[i], &want, "output", err));
  return MX_OK;
}
static mx_status topk_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  const topk_params *p = params;
  mx_dtype index = p->dtype, exact = MX_INT32;
  if (p->ret_typ == RETURN_INDICES) return mx_dtype_unify(&index, &out[0], "output", err);
  if (p->ret_typ == RETURN_BOTH) MX_TRY(mx_dtype_unify(&index, &out[1], "output", err));
  if (n_out > 1) MX_TRY(mx_dtype_unify(&exact, &out[n_out - 1], "index", err));
  return mx_dtype_unify(&in[0], &out[0], "output", err);
}
static mx_status topk_prepare(mx_call *c, mx_error *err) {
  ranking r;
  MX_TRY(topk_ranking(c->params, &c->in[0].shape, &r, err));
  ask_workspace(c, &r);
  return MX_OK;
}
static mx_status topk_kernel(const mx_call *c, mx_error *err) {
  const topk_params *p = c->params;
  ranking r;
  MX_TRY(topk_ranking(p, &c->in[0].shape, &r, err));
  ranked to = {.dtype = c->in[0].dtype, .index_dtype = p->dtype};
  if (p->ret_typ == RETURN_INDICES) to.index = wanted(c, 0);
  if (p->ret_typ == RETURN_MASK) to.mask = wanted(c, 0);
  if (p->ret_typ == RETURN_BOTH) to.index = wanted(c, 1);
  if (c->n_out > 1) {
    to.value = wanted(c, 0);
    to.exact = wanted(c, c->n_out - 1);
  }
  if (to.mask) MX_TRY(mx_zero_output(c, 0, err));
  rank(c, &r, &to);
  return MX_OK;
}
static mx_status topk_gradient(mx_grad *g, mx_error *err) {
  const topk_params *p = g->params;
  return g->n_out > 1 ? values_gradient(g, p->axis, g->n_out - 1, err) : MX_OK;
}

/* ---- backward ---- */

typedef struct back_params {
  mx_opt_int axis;
  mx_shape shape;
} back_params;

static const mx_param back_table[] = {
    AXIS_ROW(back_params), MX_P_TUPLE(back_params, shape, NULL, 0, (double)INT64_MAX, "Shape of the output."),
    MX_P_END};

static mx_status back_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  MX_TRY(mx_layer_unify(&in[0], &in[1], "index", err));
  return mx_shape_merge(&out[0], &((const back_params *)params)->shape, "output", err);
}

enum { STRIP = 4096 }; /* elements that a thread takes at a time */

static mx_status back_kernel(const mx_call *c, mx_error *err) {
  const back_params *p = c->params;
  const mx_shape *s = &c->out[0].shape, *head = &c->in[0].shape;
  int axis = -1;
  if (c->req[0] == MX_NULL) return MX_OK;
  if (p->axis.given) MX_TRY(mx_axis_param(p->axis.value, s->ndim, "axis", &axis, err));
  int64_t outer = axis < 0 ? 1 : mx_shape_prod(s, 0, axis), inner = axis < 0 ? 1 : mx_shape_prod(s, axis + 1, s->ndim);
  int64_t n = axis < 0 ? mx_shape_size(s) : s->dim[axis], k = axis < 0 ? mx_shape_size(head) : head->dim[axis];
  const int32_t *index = c->in[1].data;
  if (k < n) MX_TRY(mx_zero_output(c, 0, err)); /* otherwise every place is written: the indices are a permutation */
  /* Strips, because data may be one row. */
  int64_t row = k * inner, strips = (row + STRIP - 1) / STRIP;
  MX_SWITCH_SIZE(c->out[0].dtype, U, {
    const U *from = c->in[0].data;
    U *out = c->out[0].data;
    _Pragma("omp parallel for num_threads(mx_threads_for(outer *row, MX_GRAIN))") for (int64_t strip = 0;
                                                                                       strip < outer * strips;
                                                                                       strip++) {
      int64_t o = strip / strips, begin = strip % strips * STRIP, end = begin + STRIP < row ? begin + STRIP : row;
      int64_t at = o * row, i = begin % inner;
      U *to = out + o * n * inner;
      if (inner == 1)
        for (int64_t e = at + begin; e < at + end; e++) to[mx_clamp_index(index[e], n)] = from[e];
      else
        for (int64_t e = at + begin; e < at + end; e++) {
          to[mx_clamp_index(index[e], n) * inner + i] = from[e];
          i = i + 1 == inner ? 0 : i + 1;
        }
    }
  })
  return MX_OK;
}

#define FAMILY .family = "Indexing and sorting"

const mx_op mx_ops_sort[] = {
    {.name = "sort",
     FAMILY,
     .doc = "Sorts along a dimension. Equal elements keep their order; NaN counts as the largest number.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = sort_table,
     .params_size = sizeof(sort_params),
     .n_in = 1,
     .n_out = 2,
     .out_names = MX_STRINGS("output0", "index"),
     .count_visible = one_visible,
     .infer_shape = sort_infer,
     .infer_dtype = sort_dtype,
     .gradient = sort_gradient,
     .prepare = sort_prepare,
     .kernel = sort_kernel},
    {.name = "argsort",
     FAMILY,
     .doc = "The indices that sort data along a dimension, from 0. Equal elements keep their order; NaN counts as the "
            "largest "
            "number.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = argsort_table,
     .params_size = sizeof(argsort_params),
     .n_in = 1,
     .n_out = 1,
     .infer_shape = argsort_infer,
     .infer_dtype = argsort_dtype,
     .prepare = argsort_prepare,
     .kernel = argsort_kernel},
    {.name = "topk",
     FAMILY,
     .doc = "The k largest (or smallest) elements along a dimension, in order: their values, their indices from 0, "
            "both, or a "
            "mask. Of equal elements the first comes first; NaN counts as the largest number.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = topk_table,
     .params_size = sizeof(topk_params),
     .n_in = 1,
     .n_out = 1,
     .count_out = topk_count,
     .count_visible = topk_visible,
     .out_name = topk_name,
     .infer_shape = topk_infer,
     .infer_dtype = topk_dtype,
     .gradient = topk_gradient,
     .prepare = topk_prepare,
     .kernel = topk_kernel},
    {.name = "_backward_topk",
     FAMILY,
     .params = back_table,
     .params_size = sizeof(back_params),
     .n_in = 2,
     .n_out = 1,
     .in_names = MX_STRINGS("head", "index"),
     .infer_shape = back_infer,
     .infer_dtype = mx_infer_dtype_first,
     .flags = MX_OP_HIDDEN,
     .kernel = back_kernel},
    {0}};
