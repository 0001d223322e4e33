/* Joining and splitting along a dimension: Concat, stack, SliceChannel, _split_v2. Each is the gradient of another. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "ops/manipulate.h"

/* Copies `part` into (or out of) the place along `axis` that begins at `begin` of the larger array `whole`. */
static void copy_part(const mx_shape *whole, const mx_shape *part, int axis, int64_t begin, size_t element, void *large,
                      void *small, bool into) {
  int64_t outer = mx_shape_prod(part, 0, axis), run = mx_shape_prod(part, axis, part->ndim);
  int64_t inner = mx_shape_prod(whole, axis + 1, whole->ndim), row = whole->dim[axis] * inner;
  char *at = (char *)large + (size_t)(begin * inner) * element;
  mx_strided s = {.ndim = 2, .dim = {outer, run}, .src = {into ? run : row, 1}, .dst = {into ? row : run, 1}};
  mx_strided_copy(&s, element, into ? small : at, into ? at : small);
}

/* ---- Concat ---- */

typedef struct concat_params {
  int64_t num_args;
  int64_t dim;
} concat_params;

#define MAX_PARTS 65536

static const mx_param concat_table[] = {
    MX_P_INT(concat_params, num_args, NULL, 1, MAX_PARTS, "Number of arrays."),
    MX_P_INT(concat_params, dim, "1", MX_ANY,
             "Dimension along which they are joined; negative numbers count from the end."),
    MX_P_END};

static int concat_count(const void *params) { return (int)((const concat_params *)params)->num_args; }

static mx_status concat_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const concat_params *p = params;
  mx_shape common = out[0]; /* what all have in common: everything but the length along dim */
  int axis, unknown = 0;
  char name[32];
  for (int i = 0; i < n_in && common.ndim < 0; i++) common = in[i];
  if (common.ndim < 0) return MX_OK;
  MX_TRY(mx_axis_param(p->dim, common.ndim, "dim", &axis, err));
  common.dim[axis] = MX_DIM_UNKNOWN;
  for (int i = 0; i < n_in; i++) {
    mx_shape s = in[i];
    snprintf(name, sizeof(name), "arg%d", i);
    if (s.ndim > axis) s.dim[axis] = MX_DIM_UNKNOWN;
    mx_status st = mx_shape_merge(&common, &s, name, err);
    if (st != MX_OK) { /* the message is to name the array that does not fit */
      s = common;
      return mx_shape_merge(&in[i], &s, name, err);
    }
  }
  int64_t sum = 0, *length = &common.dim[axis];
  for (int i = 0; i < n_in; i++) {
    snprintf(name, sizeof(name), "arg%d", i);
    MX_TRY(mx_shape_merge(&in[i], &common, name, err));
    if (in[i].dim[axis] < 0)
      unknown++;
    else if (sum > INT64_MAX - in[i].dim[axis])
      return mx_fail(err, MX_ERR_SHAPE, "The output would have too many elements.");
    else
      sum += in[i].dim[axis];
  }
  if (unknown == 0) *length = sum;
  MX_TRY(mx_shape_merge(&out[0], &common, "output", err));
  int64_t total = out[0].dim[axis];
  *length = MX_DIM_UNKNOWN;
  for (int i = 0; i < n_in; i++) {
    common = out[0];
    common.dim[axis] = in[i].dim[axis];
    if (unknown == 1 && total >= 0 && in[i].dim[axis] < 0) {
      if (total < sum)
        return mx_fail(err, MX_ERR_SHAPE,
                       "The output has length %" PRId64 " along dimension %d, but the known arrays have %" PRId64 ".",
                       total, axis, sum);
      common.dim[axis] = total - sum;
    }
    MX_TRY(mx_shape_merge(&in[i], &common, "arg", err));
  }
  return MX_OK;
}

static mx_status concat_kernel(const mx_call *c, mx_error *err) {
  int axis;
  int64_t begin = 0;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(mx_axis_param(((const concat_params *)c->params)->dim, c->out[0].shape.ndim, "dim", &axis, err));
  for (int i = 0; i < c->n_in; i++) {
    copy_part(&c->out[0].shape, &c->in[i].shape, axis, begin, mx_dtype_size(c->out[0].dtype), c->out[0].data,
              c->in[i].data, true);
    begin += c->in[i].shape.dim[axis];
  }
  return MX_OK;
}

/* One wanted input: a slice. Several: one split. */
static mx_status concat_gradient(mx_grad *g, mx_error *err) {
  int axis, wanted = 0, one = 0;
  mx_entry head, split;
  char a[MX_INT_TEXT], b[MX_INT_TEXT], e[MX_INT_TEXT];
  MX_TRY(mx_axis_param(((const concat_params *)g->params)->dim, g->in_shape[0].ndim, "dim", &axis, err));
  for (int i = 0; i < g->n_in; i++)
    if (g->wanted[i]) wanted++, one = i;
  if (!wanted) return MX_OK;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  mx_int_text(axis, a);
  if (g->n_in == 1) {
    g->in_grad[0] = head;
    return MX_OK;
  }
  if (wanted == 1) {
    int64_t begin = 0;
    for (int i = 0; i < one; i++) begin += g->in_shape[i].dim[axis];
    mx_int_text(begin, b);
    mx_int_text(begin + g->in_shape[one].dim[axis], e);
    return mx_grad_call(g, "slice_axis", (const char *const[]){"axis", a, "begin", b, "end", e, NULL}, &head, 1,
                        &g->in_grad[one], err);
  }
  size_t size = (size_t)g->n_in * MX_INT_TEXT + 8, at = 1;
  char *text = mx_malloc(size);
  if (!text) return mx_fail_memory(err, size);
  int64_t begin = 0;
  text[0] = '(';
  for (int i = 0; i < g->n_in; i++) {
    at += (size_t)snprintf(text + at, size - at, "%" PRId64 ",", begin);
    begin += g->in_shape[i].dim[axis];
  }
  snprintf(text + at, size - at, ")");
  mx_status st =
      mx_grad_call(g, "_split_v2", (const char *const[]){"axis", a, "indices", text, NULL}, &head, 1, &split, err);
  mx_free(text);
  for (int i = 0; i < g->n_in && st == MX_OK; i++)
    if (g->wanted[i]) g->in_grad[i] = (mx_entry){split.node, i};
  return st;
}

/* ---- stack ---- */

typedef struct stack_params {
  int64_t axis;
  int64_t num_args;
} stack_params;

static const mx_param stack_table[] = {
    MX_P_INT(stack_params, axis, "0", MX_ANY, "Where the new dimension stands; negative numbers count from the end."),
    MX_P_INT(stack_params, num_args, NULL, 1, MAX_PARTS, "Number of arrays."), MX_P_END};

static int stack_count(const void *params) { return (int)((const stack_params *)params)->num_args; }

static mx_status stack_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const stack_params *p = params;
  mx_shape common = MX_SHAPE_UNKNOWN;
  int axis;
  char name[32];
  if (out[0].ndim == 0) return mx_fail(err, MX_ERR_SHAPE, "The output has at least one dimension.");
  if (out[0].ndim > 0) {
    MX_TRY(mx_axis_param(p->axis, out[0].ndim, "axis", &axis, err));
    common.ndim = out[0].ndim - 1;
    for (int i = 0; i < common.ndim; i++) common.dim[i] = out[0].dim[i + (i >= axis)];
  }
  for (int i = 0; i < n_in; i++) {
    snprintf(name, sizeof(name), "arg%d", i);
    MX_TRY(mx_shape_merge(&in[i], &common, name, err));
    MX_TRY(mx_shape_merge(&common, &in[i], name, err));
  }
  if (common.ndim < 0) return MX_OK;
  if (common.ndim >= MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  MX_TRY(mx_axis_param(p->axis, common.ndim + 1, "axis", &axis, err));
  mx_shape want = {.ndim = common.ndim + 1};
  for (int i = 0; i < want.ndim; i++) want.dim[i] = i == axis ? n_in : common.dim[i - (i > axis)];
  for (int i = 0; i < n_in; i++) MX_TRY(mx_shape_merge(&in[i], &common, "arg", err));
  return mx_shape_merge(&out[0], &want, "output", err);
}

/* An array of `like` without its dimension `axis`, with the dimension in it. */
static mx_shape with_unit_axis(const mx_shape *like, int axis) {
  mx_shape s = *like;
  s.dim[axis] = 1;
  return s;
}

static mx_status stack_kernel(const mx_call *c, mx_error *err) {
  int axis;
  if (c->req[0] == MX_NULL) return MX_OK;
  MX_TRY(mx_axis_param(((const stack_params *)c->params)->axis, c->out[0].shape.ndim, "axis", &axis, err));
  mx_shape part = with_unit_axis(&c->out[0].shape, axis);
  for (int i = 0; i < c->n_in; i++)
    copy_part(&c->out[0].shape, &part, axis, i, mx_dtype_size(c->out[0].dtype), c->out[0].data, c->in[i].data, true);
  return MX_OK;
}

static mx_status stack_gradient(mx_grad *g, mx_error *err) {
  char a[MX_INT_TEXT], n[MX_INT_TEXT];
  mx_entry head, split;
  MX_TRY(mx_grad_head(g, 0, &head, err));
  mx_int_text(((const stack_params *)g->params)->axis, a);
  mx_int_text(g->n_in, n);
  MX_TRY(mx_grad_call(g, "SliceChannel",
                      (const char *const[]){"num_outputs", n, "axis", a, "squeeze_axis", "True", NULL}, &head, 1,
                      &split, err));
  for (int i = 0; i < g->n_in; i++)
    if (g->wanted[i]) g->in_grad[i] = (mx_entry){split.node, i};
  return MX_OK;
}

/* ---- SliceChannel and _split_v2 ---- */

typedef struct channel_params {
  int64_t num_outputs;
  int64_t axis;
  bool squeeze_axis;
} channel_params;

static const mx_param channel_table[] = {
    MX_P_INT(channel_params, num_outputs, NULL, 1, MAX_PARTS,
             "Number of parts; the length of the dimension must be a multiple of it."),
    MX_P_INT(channel_params, axis, "1", MX_ANY, "Dimension that is split; negative numbers count from the end."),
    MX_P_BOOL(channel_params, squeeze_axis, "False", "Drop the dimension; its parts must have length 1."), MX_P_END};

typedef struct split_params {
  mx_ints indices;
  int64_t axis;
  bool squeeze_axis;
  int64_t sections;
} split_params;

static const mx_param split_table[] = {
    MX_P_INTS(split_params, indices, NULL, 0, (double)INT64_MAX,
              "Where the parts begin, in ascending order, the first 0."),
    MX_P_INT(split_params, axis, "1", MX_ANY, "Dimension that is split; negative numbers count from the end."),
    MX_P_BOOL(split_params, squeeze_axis, "False", "Drop the dimension; its parts must have length 1."),
    MX_P_INT(
        split_params, sections, "0", 0, MAX_PARTS,
        "Number of parts of equal length (the first ones are longer by one where it does not divide); 0: use indices."),
    MX_P_END};

static mx_status split_check(void *params, mx_error *err) {
  const split_params *p = params;
  if (p->sections > 0) return MX_OK;
  if (p->indices.n < 1 || p->indices.n > MAX_PARTS)
    return mx_fail(err, MX_ERR_VALUE, "indices must have 1 to %d elements when sections is 0.", MAX_PARTS);
  if (p->indices.v[0] != 0) return mx_fail(err, MX_ERR_VALUE, "The first of indices must be 0.");
  for (int i = 1; i < p->indices.n; i++)
    if (p->indices.v[i] < p->indices.v[i - 1]) return mx_fail(err, MX_ERR_VALUE, "indices must be in ascending order.");
  return MX_OK;
}

/* Both operators seen as one. */
typedef struct parts {
  int n;
  int64_t axis;
  bool squeeze;
  const int64_t *begin; /* NULL: equal parts */
} parts;

static parts channel_parts(const void *params) {
  const channel_params *p = params;
  return (parts){(int)p->num_outputs, p->axis, p->squeeze_axis, NULL};
}
static parts split_parts(const void *params) {
  const split_params *p = params;
  return p->sections > 0 ? (parts){(int)p->sections, p->axis, p->squeeze_axis, NULL}
                         : (parts){p->indices.n, p->axis, p->squeeze_axis, p->indices.v};
}
static int channel_count(const void *params) { return channel_parts(params).n; }
static int split_count(const void *params) { return split_parts(params).n; }

/* Part i of a dimension of length n is [*begin, *end). */
static void part_range(const parts *p, int64_t n, int i, int64_t *begin, int64_t *end) {
  if (p->begin) {
    *begin = p->begin[i];
    *end = i + 1 < p->n ? p->begin[i + 1] : n;
    return;
  }
  int64_t each = n / p->n, longer = n % p->n;
  *begin = i * each + (i < longer ? i : longer);
  *end = *begin + each + (i < longer);
}

/* The other dimensions of an output are those of the input. */
static mx_shape part_shape(const mx_shape *in, int axis, int64_t length, bool squeeze) {
  mx_shape s = *in;
  s.dim[axis] = length;
  if (!squeeze) return s;
  s.ndim--;
  for (int i = axis; i < s.ndim; i++) s.dim[i] = in->dim[i + 1];
  return s;
}

static mx_status parts_infer(parts p, mx_shape *in, mx_shape *out, int n_out, mx_error *err) {
  int ndim = in->ndim, axis;
  char name[32];
  for (int i = 0; i < n_out && ndim < 0; i++) ndim = out[i].ndim < 0 ? -1 : out[i].ndim + (p.squeeze ? 1 : 0);
  if (ndim < 0) return MX_OK;
  if (ndim > MX_MAX_NDIM) return mx_fail(err, MX_ERR_SHAPE, "Arrays have at most %d dimensions.", MX_MAX_NDIM);
  MX_TRY(mx_axis_param(p.axis, ndim, "axis", &axis, err));
  if (in->ndim < 0) {
    in->ndim = ndim;
    for (int i = 0; i < ndim; i++) in->dim[i] = MX_DIM_UNKNOWN;
  }
  for (int i = 0; i < n_out; i++) { /* back from the outputs */
    mx_shape back = out[i];
    if (back.ndim < 0) continue;
    if (p.squeeze) {
      back.ndim = ndim;
      for (int k = 0; k < ndim; k++)
        back.dim[k] = k == axis || out[i].ndim <= k - (k > axis) ? -1 : out[i].dim[k - (k > axis)];
    } else if (axis < back.ndim) {
      int64_t each = back.dim[axis];
      back.dim[axis] = MX_DIM_UNKNOWN;
      if (!p.begin && each >= 0 && p.n == 1) back.dim[axis] = each;
    }
    snprintf(name, sizeof(name), "output%d", i);
    MX_TRY(mx_shape_merge(in, &back, name, err));
  }
  int64_t n = in->dim[axis];
  if (n >= 0 && p.begin && p.begin[p.n - 1] > n)
    return mx_fail(err, MX_ERR_VALUE, "indices go up to %" PRId64 ", but dimension %d has length %" PRId64 ".",
                   p.begin[p.n - 1], axis, n);
  for (int i = 0; i < n_out; i++) {
    int64_t begin = 0, end = 0;
    if (n >= 0) part_range(&p, n, i, &begin, &end);
    if (n >= 0 && p.squeeze && end - begin != 1)
      return mx_fail(err, MX_ERR_SHAPE,
                     "squeeze_axis drops dimensions of length 1, but part %d has length %" PRId64 ".", i, end - begin);
    mx_shape want = part_shape(in, axis, n >= 0 ? end - begin : MX_DIM_UNKNOWN, p.squeeze);
    snprintf(name, sizeof(name), "output%d", i);
    MX_TRY(mx_shape_merge(&out[i], &want, name, err));
  }
  return MX_OK;
}

static mx_status channel_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  const channel_params *p = params;
  MX_TRY(parts_infer(channel_parts(params), &in[0], out, n_out, err));
  if (in[0].ndim < 0) return MX_OK;
  int axis;
  MX_TRY(mx_axis_param(p->axis, in[0].ndim, "axis", &axis, err));
  for (int i = 0; i < n_out && in[0].dim[axis] < 0; i++) {
    int64_t each = p->squeeze_axis ? 1 : out[i].dim[axis];
    if (each >= 0 && each <= ((int64_t)1 << 62) / n_out) in[0].dim[axis] = each * n_out;
  }
  if (in[0].dim[axis] >= 0 && in[0].dim[axis] % n_out)
    return mx_fail(err, MX_ERR_SHAPE, "Dimension %d of length %" PRId64 " cannot be split into %d equal parts.", axis,
                   in[0].dim[axis], n_out);
  return MX_OK;
}
static mx_status split_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  return parts_infer(split_parts(params), &in[0], out, n_out, err);
}

static mx_status parts_run(const mx_call *c, parts p, mx_error *err) {
  int axis;
  const mx_shape *in = &c->in[0].shape;
  MX_TRY(mx_axis_param(p.axis, in->ndim, "axis", &axis, err));
  for (int i = 0; i < c->n_out; i++) {
    int64_t begin, end;
    if (c->req[i] == MX_NULL) continue;
    part_range(&p, in->dim[axis], i, &begin, &end);
    mx_shape part = part_shape(in, axis, end - begin, false);
    copy_part(in, &part, axis, begin, mx_dtype_size(c->in[0].dtype), c->in[0].data, c->out[i].data, false);
  }
  return MX_OK;
}
static mx_status channel_kernel(const mx_call *c, mx_error *err) { return parts_run(c, channel_parts(c->params), err); }
static mx_status split_kernel(const mx_call *c, mx_error *err) { return parts_run(c, split_parts(c->params), err); }

static mx_status parts_gradient(mx_grad *g, parts p, mx_error *err) {
  char a[MX_INT_TEXT], n[MX_INT_TEXT];
  int axis;
  if (!g->wanted[0]) return MX_OK;
  MX_TRY(mx_axis_param(p.axis, g->in_shape[0].ndim, "axis", &axis, err));
  mx_entry *heads = mx_malloc((size_t)g->n_out * sizeof(*heads));
  if (!heads) return mx_fail_memory(err, (size_t)g->n_out * sizeof(*heads));
  mx_status st = MX_OK;
  for (int i = 0; i < g->n_out && st == MX_OK; i++) st = mx_grad_head(g, i, &heads[i], err);
  mx_int_text(axis, a);
  mx_int_text(g->n_out, n);
  if (st == MX_OK && g->n_out == 1 && !p.squeeze)
    g->in_grad[0] = heads[0];
  else if (st == MX_OK)
    st = mx_grad_call(g, p.squeeze ? "stack" : "Concat",
                      (const char *const[]){"num_args", n, p.squeeze ? "axis" : "dim", a, NULL}, heads, g->n_out,
                      &g->in_grad[0], err);
  mx_free(heads);
  return st;
}
static mx_status channel_gradient(mx_grad *g, mx_error *err) {
  return parts_gradient(g, channel_parts(g->params), err);
}
static mx_status split_gradient(mx_grad *g, mx_error *err) { return parts_gradient(g, split_parts(g->params), err); }

static void numbered(const void *params, int i, char *buf, size_t size) { snprintf(buf, size, "output%d", i); }

#define FAMILY .family = "Shape manipulation"
#define CONCAT                                                                                                     \
  FAMILY, .in_doc = MX_STRINGS("Arrays with the same lengths in all dimensions but dim."), .params = concat_table, \
          .params_size = sizeof(concat_params), .num_args = "num_args", .count_in = concat_count, .n_out = 1,      \
          .infer_shape = concat_infer, .gradient = concat_gradient, .kernel = concat_kernel

const mx_op mx_ops_concat[] = {
    {.name = "Concat",
     .aliases = MX_STRINGS("concat", "_sparse_concat"),
     .doc = "Joins arrays along a dimension: (2,3) and (2,5) with dim = 1 -> (2,8).",
     CONCAT},
    {.name = "_rnn_param_concat",
     .doc = "Joins arrays along a dimension; used for the parameters of fused recurrent layers, dim = 0.",
     CONCAT},
    {.name = "stack",
     FAMILY,
     .doc = "Joins arrays of one shape along a new dimension: n arrays (d1, d2) with axis = 0 -> (n, d1, d2).",
     .in_doc = MX_STRINGS("Arrays of one shape."),
     .params = stack_table,
     .params_size = sizeof(stack_params),
     .num_args = "num_args",
     .count_in = stack_count,
     .n_out = 1,
     .infer_shape = stack_infer,
     .gradient = stack_gradient,
     .kernel = stack_kernel},
    {.name = "SliceChannel",
     .aliases = MX_STRINGS("split"),
     FAMILY,
     .doc = "Splits an array into num_outputs equal parts along a dimension: (2,6) with num_outputs = 3 -> three times "
            "(2,2). "
            "With squeeze_axis = True parts of length 1 lose the dimension.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = channel_table,
     .params_size = sizeof(channel_params),
     .n_in = 1,
     .n_out = 2,
     .count_out = channel_count,
     .out_name = numbered,
     .infer_shape = channel_infer,
     .gradient = channel_gradient,
     .kernel = channel_kernel},
    {.name = "_split_v2",
     FAMILY,
     .doc =
         "Splits an array along a dimension at given places: length 6 with indices = (0,2,3) -> lengths 2, 1, 3. With "
         "sections = n the parts are as equal as possible and indices is not used.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = split_table,
     .params_size = sizeof(split_params),
     .check = split_check,
     .n_in = 1,
     .n_out = 2,
     .count_out = split_count,
     .infer_shape = split_infer,
     .gradient = split_gradient,
     .kernel = split_kernel},
    {0}};
