/* Parameter files: named or unnamed lists of arrays, as the reference writes them (little-endian). */
#ifndef MX_IO_PARAMS_H
#define MX_IO_PARAMS_H

#include "core/array.h"

typedef struct mx_array_list {
  int n;
  mx_array **array; /* one reference each */
  char **name;      /* NULL when the file has no names */
} mx_array_list;

/* Writes to a temporary name beside `path`, syncs, renames. names NULL: unnamed. MX_ERR_IO with the system's reason. */
MX_NODISCARD mx_status mx_params_save(const char *path, mx_array *const *arrays, const char *const *names, int n,
                                      mx_error *err);
/* Reads every version (V0, V1, V2, V3 arrays; sparse ones as dense) onto `device`. Each length is checked against the
 * file's size before it is used: MX_ERR_FORMAT says what was found at which offset. */
MX_NODISCARD mx_status mx_params_load(const char *path, mx_device *device, mx_array_list *out, mx_error *err);
/* The same on memory: objects that are serialized hold such bytes. */
MX_NODISCARD mx_status mx_params_encode(mx_array *const *arrays, const char *const *names, int n, void **bytes,
                                        size_t *size, mx_error *err); /* mx_malloc'ed */
MX_NODISCARD mx_status mx_params_decode(const void *bytes, size_t size, mx_device *device, mx_array_list *out,
                                        mx_error *err);
void mx_array_list_free(mx_array_list *l);

#endif
