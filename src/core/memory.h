/* Host memory of the core: every allocation goes through here, so that tests can count blocks and fail the n-th. */
#ifndef MX_CORE_MEMORY_H
#define MX_CORE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Like malloc, calloc, realloc, strdup, free; NULL when there is no memory (or a test asked for a failure). */
void *mx_malloc(size_t bytes);
void *mx_calloc(size_t count, size_t size);
void *mx_realloc(void *block, size_t bytes);
char *mx_strdup(const char *text);
void mx_free(void *block);

/* Blocks aligned to 64 bytes (a cache line, the widest vector); free with mx_free_aligned. */
void *mx_malloc_aligned(size_t bytes);
void mx_free_aligned(void *block);

/* Tells the system that a large block will be written as a whole: fresh memory then comes in large pages, where a fault
 * per 4 KB would take longer than the writing. Small blocks are left alone. */
void mx_advise_large_pages(void *block, size_t bytes);

/* Fills `err` with the standard out-of-memory message; returns MX_ERR_MEMORY. */
mx_status mx_fail_memory(mx_error *err, size_t bytes);

/* Blocks that are alive: allocated and not freed yet. */
int64_t mx_memory_live_blocks(void);

/* Test hook: the n-th allocation from now fails (1 = the next one); 0 switches it off. */
void mx_memory_fail_at(int64_t n);
/* How many allocations the one that shall fail is still away; 0 when it failed or the hook is off. */
int64_t mx_memory_fail_pending(void);

#ifdef __cplusplus
}
#endif
#endif
