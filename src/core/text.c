/* Texts that grow by doubling. */
#include "core/text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

void mx_text_bytes(mx_text *t, const char *bytes, size_t n) {
  if (t->failed) return;
  if (n >= t->capacity - t->size) {
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity <= t->size + n && capacity <= SIZE_MAX / 2) capacity *= 2;
    char *data = capacity > t->size + n ? mx_realloc(t->data, capacity) : NULL;
    if (!data) {
      t->failed = true;
      return;
    }
    t->data = data;
    t->capacity = capacity;
  }
  memcpy(t->data + t->size, bytes, n);
  t->size += n;
  t->data[t->size] = 0;
}

void mx_text_add(mx_text *t, const char *text) { mx_text_bytes(t, text, strlen(text)); }

void mx_text_format(mx_text *t, const char *fmt, ...) {
  char piece[512];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(piece, sizeof(piece), fmt, ap);
  va_end(ap);
  if (n > 0) mx_text_bytes(t, piece, n < (int)sizeof(piece) ? (size_t)n : sizeof(piece) - 1);
}

void mx_text_free(mx_text *t) {
  mx_free(t->data);
  *t = MX_TEXT_EMPTY;
}

mx_status mx_text_take(mx_text *t, char **out, mx_error *err) {
  mx_text_bytes(t, "", 0); /* an empty text is a block of its own too */
  if (t->failed) {
    size_t bytes = 2 * t->capacity;
    mx_text_free(t);
    return mx_fail_memory(err, bytes);
  }
  *out = t->data;
  *t = MX_TEXT_EMPTY;
  return MX_OK;
}
