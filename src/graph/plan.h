/* Plans: what bind makes of a graph. Every array has its place, every operator its prepared call; running a plan is a
 * loop over steps that looks nothing up, allocates nothing and takes no lock. */
#ifndef MX_GRAPH_PLAN_H
#define MX_GRAPH_PLAN_H

#include "graph/graph.h"

typedef struct mx_plan mx_plan;

/* variable[i] is the array of g->nodes[i] when that is a variable; NULL for head gradients, whose arrays change from
 * run to run (see mx_plan_set_head). output[i] is the array that output i is written to. g must live as long as the
 * plan. */
MX_NODISCARD mx_status mx_plan_new(const mx_graph *g, mx_device *device, bool is_train, mx_array *const *variable,
                                   mx_array *const *output, mx_plan **out, mx_error *err);
void mx_plan_free(mx_plan *p);

int64_t mx_plan_arena_bytes(const mx_plan *p);     /* intermediate results and workspace, sharing places */
int64_t mx_plan_workspace_bytes(const mx_plan *p); /* the largest workspace of a step */

/* Sets all addresses for an arena of at least mx_plan_arena_bytes. */
void mx_plan_place(mx_plan *p, void *arena);
/* The array of the head gradient variable `node` for the runs to come. */
void mx_plan_set_head(mx_plan *p, const mx_node *node, const mx_array *array);

/* Runs the forward or the backward steps. Placed before. MX_ERR_INTERRUPTED between steps when the user wants to stop.
 */
MX_NODISCARD mx_status mx_plan_run(mx_plan *p, bool backward, mx_error *err);

#endif
