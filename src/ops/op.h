/* One operator, one record.
 *
 * An operator is one const mx_op in one file of ops/ (its family); its CUDA kernel, if any, has the same name in the
 * file of the same name in cuda/. Everything else - R functions, help pages, parsing, JSON, inference, differentiation,
 * memory planning - reads the record. */
#ifndef MX_OPS_OP_H
#define MX_OPS_OP_H

#include "core/array.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/param.h"
#include "core/random.h"
#include "core/shape.h"
#include "core/thread.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mx_op mx_op;
typedef struct mx_node mx_node; /* graph/node.h */

/* What a kernel shall do with an output. In place needs no value of its own: the planner lets out[i].data equal
 * in[j].data where the record allows it, and kernels of such operators read before they write. */
typedef enum mx_req { MX_NULL = 0, MX_WRITE = 1, MX_ADD = 3 } mx_req;

/* Memory as a kernel sees it. layout NULL is plain row-major; otherwise a blocked layout of the library that owns the
 * operator (set by the layout pass, between operators that agreed on it). */
typedef struct mx_tensor {
  void *data;
  mx_shape shape;
  mx_dtype dtype;
  const void *layout;
} mx_tensor;

/* All that prepare and kernels see of one application of an operator: a step of a plan, or one imperative call. */
typedef struct mx_call {
  const mx_op *op;
  const void *params; /* the parsed struct of op->params */
  mx_device *device;
  int n_in, n_out;
  mx_tensor *in;     /* arguments, then auxiliary states where the record says so */
  mx_tensor *out;    /* all outputs, hidden ones too */
  const mx_req *req; /* per output */
  bool is_train;
  bool in_place;   /* out[0] is in the memory of in[0], as the record's in_place allowed; known to prepare */
  void *state;     /* made by prepare, freed by release; NULL without prepare */
  void *workspace; /* workspace_bytes of scratch memory on the device, aligned to 64 */
  size_t workspace_bytes;
} mx_call;

typedef mx_status (*mx_kernel)(const mx_call *c, mx_error *err);

/* A node output. `version` is kept for saved graphs only: how often operators that were composed before had written to
 * the variable. Everything but graph/ compares and fills node and index alone. */
typedef struct mx_entry {
  mx_node *node;
  int index;
  int version;
} mx_entry;
#define MX_NO_ENTRY ((mx_entry){NULL, 0, 0})

/* What `gradient` is given. Shapes and dtypes are known. It fills in_grad[i] for every input with wanted[i]; leaving
 * MX_NO_ENTRY there means a zero gradient. The functions below are implemented by graph/gradient.c. */
typedef struct mx_grad {
  void *builder;
  const mx_op *op;
  const void *params;
  int n_in, n_out;
  const mx_entry *in, *out;
  const mx_shape *in_shape, *out_shape;
  const mx_dtype *in_dtype, *out_dtype;
  const mx_entry *out_grad; /* node NULL: zero (the output does not reach the head) */
  const bool *wanted;
  mx_entry *in_grad;
} mx_grad;

/* Appends a node `op` with the given attributes ({"axis", "1", NULL}; NULL: none) and inputs; entry 0 in *out, the
 * other outputs are {out->node, i}. Shapes are inferred at once; a failure is MX_ERR_INTERNAL. */
MX_NODISCARD mx_status mx_grad_call(mx_grad *g, const char *op, const char *const *attrs, const mx_entry *in, int n_in,
                                    mx_entry *out, mx_error *err);
/* Appends the backward operator `op` with the attributes of the node that is being differentiated. */
MX_NODISCARD mx_status mx_grad_backward(mx_grad *g, const char *op, const mx_entry *in, int n_in, mx_entry *out,
                                        mx_error *err);
/* out_grad[i], or zeros of that output's shape when it is missing. */
MX_NODISCARD mx_status mx_grad_head(mx_grad *g, int i, mx_entry *out, mx_error *err);
/* Shape of an entry that exists in the graph being built. */
const mx_shape *mx_grad_shape(mx_grad *g, mx_entry e);

enum {
  MX_OP_LOSS = 1 << 0,       /* ignores the head gradient */
  MX_OP_RANDOM = 1 << 1,     /* draws random numbers when it runs: not merged, not folded */
  MX_OP_VIEW = 1 << 2,       /* output 0 has the bytes of input 0: no work when they share memory */
  MX_OP_ADDS = 1 << 3,       /* the kernel handles MX_ADD itself; otherwise a temporary is added by the caller */
  MX_OP_HIDDEN = 1 << 4,     /* backward helper: no R function, not listed */
  MX_OP_PORTABLE = 1 << 6,   /* the kernel goes through the device's table only: it runs on every kind of device */
  MX_OP_ADDS_ALONE = 1 << 7, /* the kernel has its own rule for MX_ADD, used when nothing else is added to the gradient
                              * array of an argument */
  MX_OP_IMPERATIVE = 1 << 5  /* no symbol: changes its arguments, or its output shape depends on values */
};

/* Outputs that may overwrite an input of the same size: pairs (output, input), ended by {-1, -1}. */
typedef struct mx_alias {
  int8_t out, in;
} mx_alias;

struct mx_op {
  const char *name;
  const char *const *aliases; /* NULL-terminated, or NULL */
  const char *family;         /* heading in the documentation, as in reference/operators.md */
  const char *doc;            /* what it computes; plain text, may have several sentences */
  const char *const *in_doc;  /* one line an input, with its native shape; NULL-terminated, or NULL */
  const char *source;         /* paper or definition, or NULL */

  /* parameters */
  const mx_param *params; /* NULL: none */
  size_t params_size;
  mx_status (*check)(void *params, mx_error *err); /* conditions between parameters; may be NULL */
  void (*release_params)(void *params);            /* undoes what a successful check did; may be NULL */

  /* inputs and outputs. Auxiliary states are inputs too: bit i of aux says that input i is one. */
  int n_in, n_out;
  const char *const *in_names;  /* NULL-terminated; NULL: {"data"} */
  const char *const *out_names; /* NULL-terminated; NULL: {"output"}, or "output0", ... for several */
  uint32_t aux;
  uint32_t mutates;     /* inputs that the kernel writes to (auxiliary states as a rule) */
  const char *num_args; /* variadic: the parameter that counts the inputs ("num_args"); names are arg0, arg1, ... */
  int (*count_in)(const void *params);      /* NULL: n_in */
  int (*count_out)(const void *params);     /* NULL: n_out */
  int (*count_visible)(const void *params); /* outputs that users see, the first ones; NULL: all */
  void (*in_name)(const void *params, int i, char *buf, size_t size);  /* NULL: in_names[i] */
  void (*out_name)(const void *params, int i, char *buf, size_t size); /* NULL: out_names[i] */
  const char *const *in_init; /* attribute "__init__" of a variable that becomes input i, "" for none, as other
                                 languages read it from saved graphs; NULL-terminated, or NULL */
  bool (*is_aux)(const void *params, int i); /* NULL: the mask */

  /* Inference fills what is unknown from what is known, in both directions, and may be called again and again. NULL
   * shape rule: all inputs and outputs have one shape. NULL dtype rule: one dtype. Use mx_shape_merge. */
  mx_status (*infer_shape)(const void *params, mx_shape *in, int n_in, mx_shape *out, int n_out, mx_error *err);
  mx_status (*infer_dtype)(const void *params, mx_dtype *in, int n_in, mx_dtype *out, int n_out, mx_error *err);

  mx_status (*gradient)(mx_grad *g, mx_error *err); /* NULL: not differentiable, every gradient is zero */

  const mx_alias *aliases_mem; /* NULL: none */
  /* Whether output 0 may also overwrite input 0 in this call (shapes are known, pointers are not): asked by plans,
   * which then set c->in_place before prepare. NULL: no. */
  bool (*in_place)(const mx_call *c);
  uint32_t flags;
  bool (*draws)(const void *params); /* MX_OP_RANDOM: whether with these parameters; NULL: always */

  /* Called once when shapes, dtypes and requests are known (data pointers are not): may set c->state and
   * c->workspace_bytes. It may run again for other shapes; `release` frees a state. */
  mx_status (*prepare)(mx_call *c, mx_error *err);
  void (*release)(void *state);
  mx_kernel kernel; /* CPU */

  /* Elementwise operators: the row of ops/scalar.def that they evaluate with these parameters, and where its operands
   * come from (ops/scalar.h). NULL, or a NULL result: not elementwise. */
  const struct mx_elementwise *(*elementwise)(const void *params);
};

/* ---- registry ---- */

const mx_op *mx_op_find(const char *name); /* by name or alias; NULL when unknown */
int mx_op_count(void);
const mx_op *mx_op_at(int i); /* in the order of families and records */
/* The kernel for a device kind, or NULL when the operator has none there. */
mx_kernel mx_op_kernel(const mx_op *op, mx_device_kind kind);

/* ---- what a record says, evaluated for parsed parameters ---- */

int mx_op_count_in(const mx_op *op, const void *params);
int mx_op_count_out(const mx_op *op, const void *params);
int mx_op_count_visible(const mx_op *op, const void *params);
bool mx_op_is_aux(const mx_op *op, const void *params, int i);
bool mx_op_draws(const mx_op *op, const void *params); /* random numbers */
enum { MX_INPUT_NAME = 128 }; /* enough for the name of an input */
void mx_op_in_name(const mx_op *op, const void *params, int i, char *buf, size_t size);
void mx_op_out_name(const mx_op *op, const void *params, int i, char *buf, size_t size);
/* Parses attributes into a new params block (NULL stays NULL when op has no parameters). Free with mx_op_params_free.
 */
MX_NODISCARD mx_status mx_op_params_new(const mx_op *op, const mx_dict *attrs, void **out, mx_error *err);
void mx_op_params_free(const mx_op *op, void *params);
/* The record's rules or the defaults; errors carry the operator's name. */
MX_NODISCARD mx_status mx_op_infer_shape(const mx_op *op, const void *params, mx_shape *in, int n_in, mx_shape *out,
                                         int n_out, mx_error *err);
MX_NODISCARD mx_status mx_op_infer_dtype(const mx_op *op, const void *params, mx_dtype *in, int n_in, mx_dtype *out,
                                         int n_out, mx_error *err);

/* ---- imperative application (ops/invoke.c) ---- */

/* Runs `op` on arrays. out[0..n_out) with n_out = mx_op_count_visible: NULL entries are allocated (one reference for
 * the caller), others are written into and must have the right shape (a conflict is MX_ERR_SHAPE). `attrs` are
 * parameters as text. All arrays live on one device; `device` is used when there are no inputs. */
MX_NODISCARD mx_status mx_invoke(const mx_op *op, const mx_dict *attrs, mx_array **in, int n_in, mx_array **out,
                                 int n_out, mx_device *device, bool is_train, mx_error *err);
/* Frees the prepared states kept for repeated imperative calls. */
void mx_invoke_clear_cache(void);

#ifdef __cplusplus
}
#endif
#endif
