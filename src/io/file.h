/* Files that appear whole or not at all: written under a temporary name in the same folder, synced, renamed. */
#ifndef MX_IO_FILE_H
#define MX_IO_FILE_H

#include <stddef.h>

#include "core/error.h"

typedef struct mx_file_writer mx_file_writer;

/* Failures are MX_ERR_IO with the path and the system's reason. An existing file keeps its permissions; through a
 * symbolic link the file it names is replaced, not the link. */
MX_NODISCARD mx_status mx_file_create(const char *path, mx_file_writer **out, mx_error *err);
MX_NODISCARD mx_status mx_file_write(mx_file_writer *w, const void *bytes, size_t n, mx_error *err);
/* Puts the file in its place. Frees `w` whatever happens; nothing of a failed file stays. */
MX_NODISCARD mx_status mx_file_commit(mx_file_writer *w, mx_error *err);
void mx_file_abandon(mx_file_writer *w); /* removes the temporary file; NULL is fine */

/* A whole text at once. */
MX_NODISCARD mx_status mx_file_save_text(const char *path, const char *text, mx_error *err);

#endif
