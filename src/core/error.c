/* Error messages: formatted into the caller's mx_error, always terminated. */
#include "core/error.h"

#include <stdio.h>
#include <string.h>

mx_status mx_fail(mx_error *err, mx_status code, const char *fmt, ...) {
  memset(err, 0, sizeof(*err));
  err->code = code;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(err->message, sizeof(err->message), fmt, ap);
  va_end(ap);
  return code;
}

void mx_error_prefix(mx_error *err, const char *fmt, ...) {
  char text[sizeof(err->message)], old[sizeof(err->message)];
  memcpy(old, err->message, sizeof(old));
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof(text), fmt, ap);
  va_end(ap);
  size_t n = strlen(text);
  memcpy(err->message, text, n);
  snprintf(err->message + n, sizeof(err->message) - n, ": %.*s", (int)(sizeof(old) - n), old);
}

void mx_error_set_text(char *field, size_t size, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(field, size, fmt, ap);
  va_end(ap);
}

const char *mx_status_name(mx_status status) {
  static const char *const name[] = {"ok", "value",  "shape", "type",        "memory",   "device",
                                     "io", "format", "state", "interrupted", "internal", "callback"};
  return (unsigned)status < sizeof(name) / sizeof(name[0]) ? name[status] : "unknown";
}
