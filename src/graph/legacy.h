/* What older releases did differently, and how saved graphs are brought to today's form. */
#ifndef MX_GRAPH_LEGACY_H
#define MX_GRAPH_LEGACY_H

#include "graph/symbol.h"

/* Versions are written as 10901 for 1.9.1. Files of 0.8 and before do not say theirs. */
enum { MX_VERSION_NOW = 10901, MX_VERSION_UNKNOWN = 800 };

/* Attributes that were once written without underscores ("lr_mult" is "__lr_mult__"): the form in use for such a key,
 * NULL for any other. */
const char *mx_legacy_key(const char *key);

/* The other way round: "__lr_mult__" was "lr_mult". */
const char *mx_legacy_old_key(const char *key);

/* Keys such as "weight_lr_mult", which an operator once passed on to its input "weight": the attribute's form in use,
 * with the length of the input's name in *prefix; NULL for any other key. */
const char *mx_legacy_input_key(const char *key, int *prefix);

/* Adds one attribute of a saved node in the form in use. Keys for inputs go to `later`. `separate` says that the file
 * kept parameters apart, and that this is not one of them. op NULL: a variable. */
MX_NODISCARD mx_status mx_legacy_attribute(int version, const mx_op *op, bool separate, const char *key,
                                           const char *value, mx_dict *attrs, mx_dict *later, mx_error *err);

/* Adds the inputs that a node of an old file lacks (auxiliary states were none), and hands `later` to the variables. */
MX_NODISCARD mx_status mx_legacy_inputs(int version, mx_node *n, const mx_dict *later, mx_error *err);

/* How many outputs the reference counts for a node when it writes a graph; no reader uses the number. */
int mx_legacy_count_out(const mx_node *n);

#endif
