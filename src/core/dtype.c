/* Names of the element types. */
#include "core/dtype.h"

#include <string.h>

static const char *const names[MX_DTYPE_COUNT] = {"float32", "float64", "float16", "uint8",
                                                  "int32",   "int8",    "int64",   "bool"};

const char *mx_dtype_name(mx_dtype t) { return t >= 0 && t < MX_DTYPE_COUNT ? names[t] : "unknown"; }

mx_dtype mx_dtype_parse(const char *name) {
  for (int i = 0; i < MX_DTYPE_COUNT; i++)
    if (!strcmp(name, names[i])) return (mx_dtype)i;
  return MX_DTYPE_UNKNOWN;
}
