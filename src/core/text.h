/* A growing text. Additions cannot fail one by one: a lack of memory is remembered and reported by mx_text_take. */
#ifndef MX_CORE_TEXT_H
#define MX_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef struct mx_text {
  char *data; /* NUL-terminated once something was added */
  size_t size, capacity;
  bool failed;
} mx_text;

#define MX_TEXT_EMPTY ((mx_text){NULL, 0, 0, false})

void mx_text_bytes(mx_text *t, const char *bytes, size_t n);
void mx_text_add(mx_text *t, const char *text);
void mx_text_format(mx_text *t, const char *fmt, ...) MX_PRINTF(2, 3); /* pieces of less than 512 bytes */
void mx_text_free(mx_text *t);
/* Hands the text over, mx_malloc'ed; `t` is empty afterwards. */
MX_NODISCARD mx_status mx_text_take(mx_text *t, char **out, mx_error *err);

#endif
