/* Bringing saved graphs of older releases to today's form. */
#include "graph/legacy.h"

#include <string.h>

static const struct {
  const char *old, *now;
} keys[] = {
    {"ctx_group", "__ctx_group__"},       {"force_mirroring", "__force_mirroring__"}, {"lr_mult", "__lr_mult__"},
    {"mirror_stage", "__mirror_stage__"}, {"profiler_scope", "__profiler_scope__"},   {"wd_mult", "__wd_mult__"},
};
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

const char *mx_legacy_key(const char *key) {
  for (int i = 0; i < KEYS; i++)
    if (!strcmp(key, keys[i].old)) return keys[i].now;
  return NULL;
}

const char *mx_legacy_input_key(const char *key, int *prefix) {
  size_t length = strlen(key);
  for (int i = 0; i < KEYS; i++) {
    size_t n = strlen(keys[i].old);
    if (length > n + 1 && key[length - n - 1] == '_' && !strcmp(key + length - n, keys[i].old)) {
      *prefix = (int)(length - n - 1);
      return keys[i].now;
    }
  }
  return NULL;
}
