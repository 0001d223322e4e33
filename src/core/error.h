/* Status codes and caller-owned error messages.
 *
 * Every core function that can fail returns an mx_status and fills an mx_error that its caller owns. The core never
 * aborts, never longjmps and never prints. MX_TRY forwards a failure; results must not be ignored. */
#ifndef MX_CORE_ERROR_H
#define MX_CORE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MX_NODISCARD __attribute__((warn_unused_result))
#define MX_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MX_NODISCARD
#define MX_PRINTF(fmt, args)
#endif

typedef enum mx_status {
  MX_OK = 0,
  MX_ERR_VALUE,       /* an argument or parameter is out of its domain */
  MX_ERR_SHAPE,       /* shapes conflict or are missing */
  MX_ERR_TYPE,        /* dtypes conflict or are not supported */
  MX_ERR_MEMORY,      /* an allocation failed */
  MX_ERR_DEVICE,      /* a device is missing or one of its libraries failed */
  MX_ERR_IO,          /* a file cannot be opened, read or written */
  MX_ERR_FORMAT,      /* a file's content is not what it should be */
  MX_ERR_STATE,       /* a call came at the wrong time */
  MX_ERR_INTERRUPTED, /* the user asked to stop */
  MX_ERR_INTERNAL,    /* a broken invariant of ours */
  MX_ERR_CALLBACK     /* a function of the caller's failed, such as an operator written in R */
} mx_status;

/* What went wrong. Empty strings mean "not known"; `message` is a whole sentence that stands alone. */
typedef struct mx_error {
  mx_status code;
  char message[1024];
  char op[64];        /* operator, as in the registry */
  char node[128];     /* node of the graph */
  char argument[128]; /* argument or parameter */
  char expected[256];
  char actual[256];
} mx_error;

/* Fills `err` and returns `code`. Clears the other fields. */
mx_status mx_fail(mx_error *err, mx_status code, const char *fmt, ...) MX_PRINTF(3, 4);

/* Puts "prefix: " before the message of an error that is on its way up. Keeps code and fields. */
void mx_error_prefix(mx_error *err, const char *fmt, ...) MX_PRINTF(2, 3);

/* Sets one of the char-array fields: mx_error_set(err, expected, "(%d)", n). */
#define mx_error_set(err, field, ...) mx_error_set_text((err)->field, sizeof((err)->field), __VA_ARGS__)
void mx_error_set_text(char *field, size_t size, const char *fmt, ...) MX_PRINTF(3, 4);

/* The name of a status for conditions and logs: "value", "shape", ... */
const char *mx_status_name(mx_status status);

#define MX_TRY(expr)                      \
  do {                                    \
    mx_status mx_try_ = (expr);           \
    if (mx_try_ != MX_OK) return mx_try_; \
  } while (0)

/* For functions that clean up: jumps to `label` with `status` set. */
#define MX_TRY_GOTO(status, expr, label) \
  do {                                   \
    (status) = (expr);                   \
    if ((status) != MX_OK) goto label;   \
  } while (0)

#ifdef __cplusplus
}
#endif
#endif
