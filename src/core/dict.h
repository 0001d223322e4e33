/* Small ordered dictionaries from string to string: the attributes of a node. Keys are kept sorted, as files have them.
 */
#ifndef MX_CORE_DICT_H
#define MX_CORE_DICT_H

#include "core/error.h"

typedef struct mx_dict {
  int n;
  char **key;
  char **value;
} mx_dict;

#define MX_DICT_EMPTY ((mx_dict){0, NULL, NULL})

const char *mx_dict_get(const mx_dict *d, const char *key); /* NULL when absent */
MX_NODISCARD mx_status mx_dict_set(mx_dict *d, const char *key, const char *value, mx_error *err);
void mx_dict_remove(mx_dict *d, const char *key);
MX_NODISCARD mx_status mx_dict_copy(mx_dict *to, const mx_dict *from, mx_error *err);
void mx_dict_free(mx_dict *d);

#endif
