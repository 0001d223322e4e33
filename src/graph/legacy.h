/* What older releases did differently, and how saved graphs are brought to today's form. Internal to graph/. */
#ifndef MX_GRAPH_LEGACY_H
#define MX_GRAPH_LEGACY_H

#include "graph/symbol.h"

/* Attributes that were once written without underscores ("lr_mult" is "__lr_mult__"): the form in use for such a key,
 * NULL for any other. */
const char *mx_legacy_key(const char *key);

/* Keys such as "weight_lr_mult", which an operator once passed on to its input "weight": the attribute's form in use,
 * with the length of the input's name in *prefix; NULL for any other key. */
const char *mx_legacy_input_key(const char *key, int *prefix);

#endif
