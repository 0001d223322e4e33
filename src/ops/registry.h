/* The families that make up the registry: one array of records per file of ops/, ended by an empty record. */
#ifndef MX_OPS_REGISTRY_H
#define MX_OPS_REGISTRY_H

#include "ops/op.h"

#define MX_FAMILY(name) extern const mx_op mx_ops_##name[];
#include "ops/families.def"
#undef MX_FAMILY

#endif
