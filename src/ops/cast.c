/* Conversions of the element type, and plain copies. */
#include <stdio.h>

#include "ops/manipulate.h"

static void convert(const mx_call *c, int i) {
  if (c->req[i] != MX_NULL)
    mx_convert(c->in[i].data, c->in[i].dtype, c->out[i].data, c->out[i].dtype, mx_shape_size(&c->out[i].shape));
}
static mx_status cast_kernel(const mx_call *c, mx_error *err) {
  for (int i = 0; i < c->n_in; i++) convert(c, i);
  return MX_OK;
}

/* The head gradient of output i in the dtype of input i. */
static mx_status cast_back(mx_grad *g, int i, mx_error *err) {
  mx_entry head;
  if (!g->wanted[i]) return MX_OK;
  MX_TRY(mx_grad_head(g, i, &head, err));
  if (g->in_dtype[i] == g->out_dtype[i]) {
    g->in_grad[i] = head;
    return MX_OK;
  }
  return mx_grad_call(g, "Cast", (const char *const[]){"dtype", mx_dtype_name(g->in_dtype[i]), NULL}, &head, 1,
                      &g->in_grad[i], err);
}
static mx_status cast_gradient(mx_grad *g, mx_error *err) {
  for (int i = 0; i < g->n_in; i++) MX_TRY(cast_back(g, i, err));
  return MX_OK;
}

/* ---- Cast, amp_cast ---- */

typedef struct cast_params {
  mx_dtype dtype;
} cast_params;

static const char *const all_dtypes[] = {"bool",  "float16", "float32", "float64", "int32",
                                         "int64", "int8",    "uint8",   NULL};
static const char *const number_dtypes[] = {"float16", "float32", "float64", "int32", "int64", "int8", "uint8", NULL};

static const mx_param cast_table[] = {MX_P_DTYPE(cast_params, dtype, NULL, all_dtypes, "Element type of the output."),
                                      MX_P_END};
static const mx_param amp_table[] = {
    MX_P_DTYPE(cast_params, dtype, NULL, number_dtypes, "Element type of the output when data is floating-point."),
    MX_P_END};

static mx_status cast_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype want = ((const cast_params *)params)->dtype;
  return mx_dtype_unify(&want, &out[0], "output", err);
}
static mx_status amp_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  mx_dtype to = ((const cast_params *)params)->dtype;
  if (in[0] == MX_DTYPE_UNKNOWN) return MX_OK;
  mx_dtype want = mx_dtype_is_float(in[0]) && mx_dtype_is_float(to) ? to : in[0];
  return mx_dtype_unify(&want, &out[0], "output", err);
}

/* ---- amp_multicast ---- */

typedef struct multi_params {
  int64_t num_outputs;
  bool cast_narrow;
} multi_params;

static const mx_param multi_table[] = {
    MX_P_INT(multi_params, num_outputs, NULL, 1, 65536, "Number of arrays."),
    MX_P_BOOL(multi_params, cast_narrow, "False",
              "Use the narrowest floating-point type of the inputs instead of the widest."),
    MX_P_END};

static int multi_count(const void *params) { return (int)((const multi_params *)params)->num_outputs; }
static void multi_name(const void *params, int i, char *buf, size_t size) { snprintf(buf, size, "data_%d", i); }

static mx_status multi_infer(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err) {
  char name[32];
  for (int i = 0; i < n_in; i++) {
    snprintf(name, sizeof(name), "data_%d", i);
    MX_TRY(mx_layer_unify(&in[i], &out[i], name, err));
  }
  return MX_OK;
}
static mx_status multi_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  bool narrow = ((const multi_params *)params)->cast_narrow;
  mx_dtype common = MX_DTYPE_UNKNOWN;
  for (int i = 0; i < n_in; i++) {
    if (in[i] == MX_DTYPE_UNKNOWN) return MX_OK;
    if (!mx_dtype_is_float(in[i])) continue;
    size_t a = mx_dtype_size(in[i]), b = mx_dtype_size(common);
    if (common == MX_DTYPE_UNKNOWN || (narrow ? a < b : a > b)) common = in[i];
  }
  for (int i = 0; i < n_in; i++) {
    mx_dtype want = mx_dtype_is_float(in[i]) ? common : in[i];
    MX_TRY(mx_dtype_unify(&want, &out[i], "output", err));
  }
  return MX_OK;
}
/* ---- cast_storage ---- */

typedef struct storage_params {
  int stype;
} storage_params;

enum { STORAGE_CSR, STORAGE_DEFAULT, STORAGE_ROWS };
static const mx_param storage_table[] = {
    MX_P_ENUM(storage_params, stype, NULL, MX_STRINGS("csr", "default", "row_sparse"),
              "Only default, dense arrays, is supported."),
    MX_P_END};

static mx_status storage_check(void *params, mx_error *err) {
  if (((const storage_params *)params)->stype == STORAGE_DEFAULT) return MX_OK;
  mx_fail(err, MX_ERR_VALUE, "Sparse arrays are not supported; stype must be 'default'.");
  mx_error_set(err, argument, "stype");
  mx_error_set(err, expected, "default");
  return MX_ERR_VALUE;
}

/* ---- _copyto ---- */

static mx_status copyto_dtype(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err) {
  if (out[0] == MX_DTYPE_UNKNOWN) out[0] = in[0]; /* an output that is given keeps its own */
  return MX_OK;
}

#define FAMILY .family = "Casts and creation"

const mx_op mx_ops_cast[] = {
    {.name = "Cast",
     .aliases = MX_STRINGS("cast"),
     FAMILY,
     .doc = "Converts the element type. Fractions are cut when the result is an integer, integers that do not fit wrap "
            "around; "
            "bool is true where data is not 0.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = cast_table,
     .params_size = sizeof(cast_params),
     .n_in = 1,
     .n_out = 1,
     .infer_dtype = cast_dtype,
     .gradient = cast_gradient,
     .kernel = cast_kernel},
    {.name = "amp_cast",
     FAMILY,
     .doc = "Converts between floating-point types for mixed-precision training; other arrays pass unchanged.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = amp_table,
     .params_size = sizeof(cast_params),
     .n_in = 1,
     .n_out = 1,
     .infer_dtype = amp_dtype,
     .gradient = cast_gradient,
     .kernel = cast_kernel},
    {.name = "amp_multicast",
     FAMILY,
     .doc = "Converts floating-point arrays to one type: the widest (or narrowest) among them; other arrays pass "
            "unchanged.",
     .in_doc = MX_STRINGS("Arrays of any shape."),
     .params = multi_table,
     .params_size = sizeof(multi_params),
     .n_out = 2,
     .num_args = "num_outputs",
     .count_in = multi_count,
     .count_out = multi_count,
     .in_name = multi_name,
     .infer_shape = multi_infer,
     .infer_dtype = multi_dtype,
     .gradient = cast_gradient,
     .kernel = cast_kernel},
    {.name = "cast_storage",
     .aliases = MX_STRINGS("_sparse_cast_storage"),
     FAMILY,
     .doc = "Changes how an array is stored. There are dense arrays only, so it is the identity.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .params = storage_table,
     .params_size = sizeof(storage_params),
     .check = storage_check,
     .n_in = 1,
     .n_out = 1,
     .gradient = mx_view_gradient,
     .aliases_mem = mx_alias_first,
     .flags = MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = mx_view_kernel},
    {.name = "_CrossDeviceCopy",
     FAMILY,
     .doc = "Marks in graphs the border between devices; a graph runs on one device, so it is the identity.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .n_in = 1,
     .n_out = 1,
     .gradient = mx_view_gradient,
     .aliases_mem = mx_alias_first,
     .flags = MX_OP_VIEW | MX_OP_PORTABLE,
     .kernel = mx_view_kernel},
    {.name = "_copyto",
     FAMILY,
     .doc = "Copies the values of an array into another one of the same shape and any element type.",
     .in_doc = MX_STRINGS("Array of any shape."),
     .n_in = 1,
     .n_out = 1,
     .infer_dtype = copyto_dtype,
     .gradient = cast_gradient,
     .flags = MX_OP_IMPERATIVE,
     .kernel = cast_kernel},
    {0}};
