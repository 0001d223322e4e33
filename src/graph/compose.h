/* What composing and reading graphs share. Internal to graph/. */
#ifndef MX_GRAPH_COMPOSE_H
#define MX_GRAPH_COMPOSE_H

#include "core/text.h"
#include "graph/symbol.h"

/* Makes the variable "<node>_<input>" that stands for input i of an operator that was not given one. */
MX_NODISCARD mx_status mx_node_make_input(mx_node *n, int i, mx_error *err);

/* MX_ERR_VALUE when an input that the operator writes to is not a variable. */
MX_NODISCARD mx_status mx_node_check_states(const mx_node *n, mx_error *err);

/* The visible outputs of a node. */
MX_NODISCARD mx_status mx_symbol_of_node(mx_node *n, mx_symbol **out, mx_error *err);

#endif
