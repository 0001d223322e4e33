/* Names: automatic ones, from a counter per hint that lasts as long as the process, and lists of names. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "graph/symbol.h"

/* Few hints are in use at a time (one per kind of operator): a list, the latest first. */
typedef struct counter {
  struct counter *next;
  long count;
  char hint[];
} counter;
static counter *counters;

mx_status mx_name_next(const char *hint, char **out, mx_error *err) {
  size_t length = strlen(hint), size = length + 24;
  char *name = mx_malloc(size);
  if (!name) return mx_fail_memory(err, size);
  for (size_t i = 0; i <= length; i++) name[i] = (char)tolower((unsigned char)hint[i]);
  counter *c = counters;
  while (c && strcmp(c->hint, name)) c = c->next;
  if (!c) {
    c = mx_malloc(sizeof(*c) + length + 1);
    if (!c) {
      mx_free(name);
      return mx_fail_memory(err, sizeof(*c) + length + 1);
    }
    memcpy(c->hint, name, length + 1);
    c->count = 0;
    c->next = counters;
    counters = c;
  }
  snprintf(name + length, size - length, "%ld", c->count++);
  *out = name;
  return MX_OK;
}

void mx_name_reset(void) {
  while (counters) {
    counter *c = counters;
    counters = c->next;
    mx_free(c);
  }
}

mx_status mx_names_add(mx_names *names, const char *name, mx_error *err) {
  char *copy = mx_strdup(name);
  char **v = copy ? mx_realloc(names->v, (size_t)(names->n + 1) * sizeof(*v)) : NULL;
  if (!v) {
    mx_free(copy);
    return mx_fail_memory(err, strlen(name) + 1);
  }
  names->v = v;
  names->v[names->n++] = copy;
  return MX_OK;
}

void mx_names_free(mx_names *names) {
  for (int i = 0; i < names->n; i++) mx_free(names->v[i]);
  mx_free(names->v);
  *names = (mx_names){0, NULL};
}
