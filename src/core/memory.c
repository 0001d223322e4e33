/* Host memory. A counter of live blocks and a switch that makes the n-th allocation fail are all it adds to malloc. */
#include "core/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

static atomic_llong live_blocks;
static atomic_llong fail_at;

static int must_fail(void) {
  long long n = atomic_load_explicit(&fail_at, memory_order_relaxed);
  if (n <= 0) return 0;
  return atomic_fetch_sub(&fail_at, 1) == 1;
}
static void *counted(void *block) {
  if (block) atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
  return block;
}

void *mx_malloc(size_t bytes) { return must_fail() ? NULL : counted(malloc(bytes ? bytes : 1)); }

void *mx_calloc(size_t count, size_t size) {
  return must_fail() ? NULL : counted(calloc(count ? count : 1, size ? size : 1));
}

void *mx_realloc(void *block, size_t bytes) {
  if (!block) return mx_malloc(bytes);
  return must_fail() ? NULL : realloc(block, bytes ? bytes : 1);
}

char *mx_strdup(const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = mx_malloc(n);
  if (copy) memcpy(copy, text, n);
  return copy;
}

void mx_free(void *block) {
  if (!block) return;
  atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
  free(block);
}

void *mx_malloc_aligned(size_t bytes) {
  if (must_fail()) return NULL;
  void *block = NULL;
  if (posix_memalign(&block, 64, bytes ? bytes : 1)) return NULL;
  return counted(block);
}

void mx_free_aligned(void *block) { mx_free(block); }

mx_status mx_fail_memory(mx_error *err, size_t bytes) {
  return mx_fail(err, MX_ERR_MEMORY, "Out of memory: %.1f MB more were needed.", (double)bytes / 1e6);
}

int64_t mx_memory_live_blocks(void) { return atomic_load(&live_blocks); }
void mx_memory_fail_at(int64_t n) { atomic_store(&fail_at, n); }
int64_t mx_memory_fail_pending(void) {
  int64_t n = atomic_load(&fail_at);
  return n > 0 ? n : 0;
}

void mx_advise_large_pages(void *block, size_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t page = (uintptr_t)1 << 21;
  uintptr_t begin = ((uintptr_t)block + page - 1) & ~(page - 1), end = ((uintptr_t)block + bytes) & ~(page - 1);
  if (bytes >= 4 * page && end > begin) (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#endif
}
