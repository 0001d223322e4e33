/* Whole files: written beside their place and renamed, so that a crash or a full disk leaves the old file as it was. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"

struct mx_file_writer {
  FILE *file;
  char *path;      /* where it shall be */
  char *temporary; /* where it is */
};

static mx_status io_error(const char *what, const char *path, mx_error *err) {
  int reason = errno;
  mx_fail(err, MX_ERR_IO, "Cannot %s '%.400s': %s.", what, path, strerror(reason));
  mx_error_set(err, argument, "%.127s", path);
  mx_error_set(err, actual, "%s", strerror(reason));
  return MX_ERR_IO;
}

static void free_writer(mx_file_writer *w) {
  mx_free(w->path);
  mx_free(w->temporary);
  mx_free(w);
}

/* Opens a new file beside w->path, with the permissions of the file that it replaces, if any. */
static mx_status open_temporary(mx_file_writer *w, mx_error *err) {
  static unsigned serial;
  struct stat old;
  bool exists = stat(w->path, &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
    return io_error("write", w->path, err);
  }
  size_t size = strlen(w->path) + 48;
  w->temporary = mx_malloc(size);
  if (!w->temporary) return mx_fail_memory(err, size);
  int fd = -1;
  for (int attempt = 0; attempt < 100 && fd < 0; attempt++) {
    snprintf(w->temporary, size, "%s.tmp-%ld-%u", w->path, (long)getpid(), serial++);
    fd = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd >= 0 && exists && fchmod(fd, old.st_mode & 07777) != 0) errno = 0; /* a foreign owner's file; not our duty */
  w->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
  if (w->file) return MX_OK;
  mx_status status = io_error("write", w->path, err);
  if (fd >= 0) {
    close(fd);
    unlink(w->temporary);
  }
  return status;
}

mx_status mx_file_create(const char *path, mx_file_writer **out, mx_error *err) {
  *out = NULL;
  char *real = realpath(path, NULL); /* NULL: a new file */
  mx_file_writer *w = mx_calloc(1, sizeof(*w));
  if (w) w->path = mx_strdup(real ? real : path);
  free(real);
  if (!w || !w->path) {
    mx_free(w);
    return mx_fail_memory(err, sizeof(*w) + strlen(path));
  }
  mx_status status = open_temporary(w, err);
  if (status != MX_OK) {
    free_writer(w);
    return status;
  }
  *out = w;
  return MX_OK;
}

mx_status mx_file_write(mx_file_writer *w, const void *bytes, size_t n, mx_error *err) {
  if (n == 0 || fwrite(bytes, 1, n, w->file) == n) return MX_OK;
  return io_error("write", w->path, err);
}

void mx_file_abandon(mx_file_writer *w) {
  if (!w) return;
  fclose(w->file);
  unlink(w->temporary);
  free_writer(w);
}

/* The rename itself is safe only when the folder is on the disk. Not every file system can do it; then nothing is lost
 * but the promise. */
static void sync_folder(const char *path) {
  char folder[PATH_MAX];
  const char *slash = strrchr(path, '/');
  if (slash && (size_t)(slash - path) >= sizeof(folder)) return;
  snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
  int fd = open(folder, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

mx_status mx_file_commit(mx_file_writer *w, mx_error *err) {
  if (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0 || rename(w->temporary, w->path) != 0) {
    mx_status status = io_error("write", w->path, err);
    mx_file_abandon(w);
    return status;
  }
  fclose(w->file);
  sync_folder(w->path);
  free_writer(w);
  return MX_OK;
}

mx_status mx_file_save_text(const char *path, const char *text, mx_error *err) {
  mx_file_writer *w;
  MX_TRY(mx_file_create(path, &w, err));
  mx_status status = mx_file_write(w, text, strlen(text), err);
  if (status == MX_OK) return mx_file_commit(w, err);
  mx_file_abandon(w);
  return status;
}
