/* Executors: a symbol bound to arrays on a device, with the plans that run it. */
#ifndef MX_GRAPH_EXECUTOR_H
#define MX_GRAPH_EXECUTOR_H

#include "graph/graph.h"

typedef struct mx_executor mx_executor;

/* Binds. args: one array per argument, in the order of mx_symbol_arguments (arguments of one name are one variable
 * each); grads[i] is where the gradient of args[i] goes, NULL when reqs[i] is MX_NULL; aux: one per auxiliary state.
 * All arrays are shared, not copied (references are taken), and must be on `device`. Shapes must fit: MX_ERR_SHAPE
 * names node and argument. Nothing is allocated by forward or backward after their first run. With arrays that have no
 * memory (mx_array_bare) outputs have none either: the executor can tell what it would use, but not run. */
MX_NODISCARD mx_status mx_executor_bind(const mx_symbol *s, mx_device *device, mx_array *const *args,
                                        mx_array *const *grads, const mx_req *reqs, mx_array *const *aux,
                                        mx_executor **out, mx_error *err);
/* Gives the working memory back until the next forward; backward needs a forward before it again. Arrays stay. */
void mx_executor_rest(mx_executor *e);
mx_executor *mx_executor_retain(mx_executor *e);
void mx_executor_release(mx_executor *e);

MX_NODISCARD mx_status mx_executor_forward(mx_executor *e, bool is_train, mx_error *err);
/* After forward with is_train. head_grads[i] (may be NULL) is the gradient of output i; a missing one that is needed is
 * MX_ERR_VALUE with the output's name. */
MX_NODISCARD mx_status mx_executor_backward(mx_executor *e, mx_array *const *head_grads, int n, mx_error *err);

int mx_executor_count_outputs(const mx_executor *e);
mx_array *mx_executor_output(const mx_executor *e, int i); /* borrowed; the array in use */
const mx_symbol *mx_executor_symbol(const mx_executor *e);
bool mx_executor_draws(const mx_executor *e); /* some operator draws random numbers */

/* Bytes of the arena and the outputs: what bind adds to arguments and gradients; and of these. */
typedef struct mx_executor_memory {
  int64_t inference_bytes; /* 0 until that plan exists */
  int64_t training_bytes;
  int64_t output_bytes;    /* contained in both */
  int64_t workspace_bytes; /* contained in both */
  int64_t parameter_bytes; /* arguments with a gradient, auxiliary states */
  int64_t gradient_bytes;
} mx_executor_memory;
/* Makes the plans that do not exist yet. */
MX_NODISCARD mx_status mx_executor_memory_use(mx_executor *e, mx_executor_memory *out, mx_error *err);

/* Called after every step of forward and backward when set: profiler. start and seconds are wall-clock. */
typedef void (*mx_step_observer)(void *data, const mx_node *node, bool backward, double start, double seconds);
void mx_executor_observe(mx_step_observer observer, void *data);

#endif
