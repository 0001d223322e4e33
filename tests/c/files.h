/* What tests of saved files share: reading files and folders, recorded JSON, and a small generator of random numbers.
 */
#ifndef MX_TESTS_FILES_H
#define MX_TESTS_FILES_H

#include <dirent.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "check.h"

#ifndef MX_TESTS_DIR
#define MX_TESTS_DIR "tests"
#endif
#define GRAPHS MX_TESTS_DIR "/golden/graphs/"

/* The whole file, malloc'ed, with a NUL behind it; NULL when it cannot be read. */
__attribute__((unused)) static char *file_bytes(const char *path, size_t *size) {
  FILE *f = fopen(path, "rb");
  if (!f) return NULL;
  fseek(f, 0, SEEK_END);
  long n = ftell(f);
  rewind(f);
  char *bytes = malloc((size_t)n + 1);
  *size = fread(bytes, 1, (size_t)n, f);
  bytes[*size] = 0;
  fclose(f);
  return bytes;
}

/* The files of a folder whose names end in `suffix`, in alphabetical order. Free the result and its elements. */
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
__attribute__((unused)) static char **files_of(const char *folder, const char *suffix, int *n_out) {
  char **list = NULL;
  int n = 0;
  DIR *d = opendir(folder);
  for (struct dirent *e; d && (e = readdir(d));) {
    size_t length = strlen(e->d_name), tail = strlen(suffix);
    if (length < tail || strcmp(e->d_name + length - tail, suffix)) continue;
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
    list = realloc(list, (size_t)(n + 1) * sizeof(*list));
    list[n++] = strdup(path);
  }
  if (d) closedir(d);
  if (n) qsort(list, (size_t)n, sizeof(*list), by_name);
  *n_out = n;
  return list;
}
__attribute__((unused)) static void free_files(char **list, int n) {
  for (int i = 0; i < n; i++) free(list[i]);
  free(list);
}

__attribute__((unused)) static const char *base_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* Where real models lie ("models", "nd"), if the environment names a folder with some; otherwise NULL. */
__attribute__((unused)) static const char *real_data(void) { return getenv("MX_TEST_DATA"); }

/* splitmix64 (Steele, Lea, Flood 2014). */
__attribute__((unused)) static uint64_t random_next(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Changes a copy of `bytes` a little: flipped bits, overwritten, removed, repeated stretches. malloc'ed, exactly *size
 * bytes long so that a sanitizer sees a step beyond. */
__attribute__((unused)) static char *mutate(const char *bytes, size_t *size, uint64_t *state) {
  size_t n = *size;
  char *copy = malloc(2 * n + 16);
  memcpy(copy, bytes, n);
  int changes = 1 + (int)(random_next(state) % 4);
  for (int c = 0; c < changes && n > 0; c++) {
    size_t at = random_next(state) % n, length = 1 + random_next(state) % 8;
    if (length > n - at) length = n - at;
    switch (random_next(state) % 5) {
      case 0:
        copy[at] ^= (char)(1 << random_next(state) % 8);
        break;
      case 1:
        memset(copy + at, (int)(random_next(state) % 256), length);
        break;
      case 2:
        copy[at] = "0-19{}[]\",:\\"[random_next(state) % 12];
        break;
      case 3:
        memmove(copy + at, copy + at + length, n - at - length);
        n -= length;
        break;
      default:
        if (n + length > 2 * *size + 16) break;
        memmove(copy + at + length, copy + at, n - at);
        n += length;
    }
  }
  char *exact = malloc(n ? n : 1);
  memcpy(exact, copy, n);
  free(copy);
  *size = n;
  return exact;
}

#endif
