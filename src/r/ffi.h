/* The functions that R calls; init.c registers them. */
#ifndef MXR_FFI_H
#define MXR_FFI_H

#define R_NO_REMAP
#define STRICT_R_HEADERS
#include <Rinternals.h>

/* convert.c */
SEXP ffi_context_default(SEXP kind, SEXP id);

/* custom.c */
SEXP ffi_operator_register(SEXP name, SEXP names, SEXP counts, SEXP has_gradient, SEXP is_loss);

/* executor.c */
SEXP ffi_exec_rest(SEXP exec);
SEXP ffi_exec_simple_bind(SEXP symbol, SEXP ctx, SEXP reqs, SEXP shapes);
SEXP ffi_exec_bind(SEXP symbol, SEXP ctx, SEXP args, SEXP aux, SEXP reqs);
SEXP ffi_exec_bind_shared(SEXP symbol, SEXP ctx, SEXP args, SEXP grads, SEXP aux);
SEXP ffi_exec_arrays(SEXP exec, SEXP which);
SEXP ffi_exec_update(SEXP exec, SEXP which, SEXP arrays, SEXP match_name, SEXP skip_null);
SEXP ffi_exec_forward(SEXP exec, SEXP is_train);
SEXP ffi_exec_backward(SEXP exec, SEXP heads);
SEXP ffi_exec_symbol(SEXP exec);
SEXP ffi_exec_context(SEXP exec);
SEXP ffi_exec_memory(SEXP exec);
SEXP ffi_symbol_memory(SEXP symbol, SEXP ctx, SEXP reqs, SEXP shapes);

/* info.c */
SEXP ffi_build(void);
SEXP ffi_threads(SEXP n);
SEXP ffi_memory(SEXP kind);
SEXP ffi_memory_trim(void);
SEXP ffi_operators(void);

/* ndarray.c */
SEXP ffi_nd_array(SEXP x, SEXP dim, SEXP ctx, SEXP dtype);
SEXP ffi_nd_zeros(SEXP dim, SEXP ctx, SEXP dtype);
SEXP ffi_nd_dim(SEXP nd);
SEXP ffi_nd_length(SEXP nd);
SEXP ffi_nd_context(SEXP nd);
SEXP ffi_nd_dtype(SEXP nd);
SEXP ffi_nd_as_array(SEXP nd);
SEXP ffi_nd_head(SEXP nd, SEXP count);
SEXP ffi_nd_copyto(SEXP nd, SEXP ctx);
SEXP ffi_nd_write(SEXP to, SEXP from);
SEXP ffi_nd_reshape(SEXP nd, SEXP dim);
SEXP ffi_nd_slice(SEXP nd, SEXP begin, SEXP end);
SEXP ffi_nd_subset(SEXP nd, SEXP index, SEXP drop);
SEXP ffi_nd_assign(SEXP nd, SEXP index, SEXP value);
SEXP ffi_nd_save(SEXP list, SEXP path);
SEXP ffi_nd_load(SEXP path, SEXP ctx);

/* operator.c */
SEXP ffi_nd_operator(SEXP name, SEXP args, SEXP out);
SEXP ffi_nd_operator_each(SEXP name, SEXP inputs, SEXP params, SEXP outs);
SEXP ffi_nd_unary(SEXP generic, SEXP x);
SEXP ffi_nd_arith(SEXP generic, SEXP e1, SEXP e2);

/* pointer.c */
SEXP ffi_live_objects(void);
SEXP ffi_release(SEXP x);

/* profiler.c */
SEXP ffi_profiler_start(SEXP symbolic, SEXP imperative);
SEXP ffi_profiler_stop(void);

/* random.c */
SEXP ffi_random_seed(SEXP seed);

/* symbol.c */
SEXP ffi_symbol_variable(SEXP name);
SEXP ffi_symbol_operator(SEXP name, SEXP args, SEXP hint);
SEXP ffi_symbol_compose(SEXP symbol, SEXP name, SEXP args);
SEXP ffi_symbol_group(SEXP list);
SEXP ffi_symbol_internals(SEXP x);
SEXP ffi_symbol_children(SEXP x);
SEXP ffi_symbol_output(SEXP x, SEXP index);
SEXP ffi_symbol_arguments(SEXP x);
SEXP ffi_symbol_auxiliaries(SEXP x);
SEXP ffi_symbol_outputs(SEXP x);
SEXP ffi_symbol_attributes(SEXP x);
SEXP ffi_symbol_set_attributes(SEXP x, SEXP values);
SEXP ffi_symbol_infer_shape(SEXP x, SEXP given, SEXP partial);
SEXP ffi_symbol_json(SEXP x);
SEXP ffi_symbol_describe(SEXP x);
SEXP ffi_symbol_from_json(SEXP json);
SEXP ffi_text_save(SEXP text, SEXP path);
SEXP ffi_symbol_nodes(SEXP x);

#endif
