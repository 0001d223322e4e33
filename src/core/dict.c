/* Sorted string dictionaries; a handful of entries, so that arrays with binary search are enough. */
#include "core/dict.h"

#include <string.h>

#include "core/memory.h"

/* Position of key, or where it would be inserted; *found tells which. */
static int locate(const mx_dict *d, const char *key, int *found) {
  int lo = 0, hi = d->n;
  while (lo < hi) {
    int mid = (lo + hi) / 2, c = strcmp(d->key[mid], key);
    if (c == 0) {
      *found = 1;
      return mid;
    }
    if (c < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  *found = 0;
  return lo;
}

const char *mx_dict_get(const mx_dict *d, const char *key) {
  int found, i = locate(d, key, &found);
  return found ? d->value[i] : NULL;
}

mx_status mx_dict_set(mx_dict *d, const char *key, const char *value, mx_error *err) {
  int found, i = locate(d, key, &found);
  char *v = mx_strdup(value);
  if (!v) return mx_fail_memory(err, strlen(value));
  if (found) {
    mx_free(d->value[i]);
    d->value[i] = v;
    return MX_OK;
  }
  char *k = mx_strdup(key);
  size_t bytes = (size_t)(d->n + 1) * sizeof(char *);
  char **keys = k ? mx_realloc(d->key, bytes) : NULL;
  if (keys) d->key = keys;
  char **values = keys ? mx_realloc(d->value, bytes) : NULL;
  if (!values) {
    mx_free(k);
    mx_free(v);
    return mx_fail_memory(err, bytes);
  }
  d->value = values;
  size_t tail = (size_t)(d->n - i) * sizeof(char *);
  memmove(d->key + i + 1, d->key + i, tail);
  memmove(d->value + i + 1, d->value + i, tail);
  d->key[i] = k;
  d->value[i] = v;
  d->n++;
  return MX_OK;
}

void mx_dict_remove(mx_dict *d, const char *key) {
  int found, i = locate(d, key, &found);
  if (!found) return;
  mx_free(d->key[i]);
  mx_free(d->value[i]);
  d->n--;
  size_t tail = (size_t)(d->n - i) * sizeof(char *);
  memmove(d->key + i, d->key + i + 1, tail);
  memmove(d->value + i, d->value + i + 1, tail);
}

mx_status mx_dict_copy(mx_dict *to, const mx_dict *from, mx_error *err) {
  mx_dict copy = MX_DICT_EMPTY;
  for (int i = 0; i < from->n; i++) {
    mx_status st = mx_dict_set(&copy, from->key[i], from->value[i], err);
    if (st != MX_OK) {
      mx_dict_free(&copy);
      return st;
    }
  }
  *to = copy;
  return MX_OK;
}

void mx_dict_free(mx_dict *d) {
  for (int i = 0; i < d->n; i++) {
    mx_free(d->key[i]);
    mx_free(d->value[i]);
  }
  mx_free(d->key);
  mx_free(d->value);
  *d = MX_DICT_EMPTY;
}
