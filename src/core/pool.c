/* Caching storage pool: freed blocks wait in lists by size class, so that a loop over equal shapes allocates once.
 *
 * Size classes: powers of two with four steps in between (at most 25 % waste), from 64 bytes. Up to CACHE_LIMIT is
 * cached; above that, blocks go back to the system. So do blocks of other sizes when new memory would bring what is
 * used and cached on a CPU beyond what was once used: sizes that vary do not make a process grow. */
#include <pthread.h>
#include <string.h>

#include "core/device.h"
#include "core/memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define POISON
#endif
#ifdef POISON
#include <sanitizer/asan_interface.h>
#endif

/* Sanitizers are told what belongs to an array: the first `bytes` of a block of `size`. */
static void mark(const mx_device *dev, void *block, size_t bytes, size_t size) {
#ifdef POISON
  if (dev->kind != MX_CPU) return;
  ASAN_UNPOISON_MEMORY_REGION(block, bytes);
  ASAN_POISON_MEMORY_REGION((char *)block + bytes, size - bytes);
#endif
}

enum { CLASSES = 256 };
static const int64_t CACHE_LIMIT = (int64_t)1 << 30;

typedef struct free_block {
  struct free_block *next;
  void *data;
} free_block;

typedef struct device_pool {
  free_block *list[CLASSES];
  int64_t touched[CLASSES]; /* when a block of the class came or went last */
  mx_device *device;
} device_pool;

enum { MAX_POOLS = 128 };
static device_pool *pools[MAX_POOLS];
static int n_pools;
static free_block *spare; /* list cells without data */
static int64_t ticks;     /* counts blocks that come and go */
static mx_pool_stats stats[MX_DEVICE_KINDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Rounds up to the class's size and tells its number. */
static size_t size_class(size_t bytes, int *number) {
  if (bytes < 64) bytes = 64;
  int shift = 63 - __builtin_clzll((unsigned long long)bytes);
  size_t step = (size_t)1 << (shift - 2), base = (size_t)1 << shift;
  size_t k = (bytes - base + step - 1) / step;
  *number = (shift - 6) * 4 + (int)k;
  return base + k * step;
}

static device_pool *pool_of(mx_device *dev) {
  for (int i = 0; i < n_pools; i++)
    if (pools[i]->device == dev) return pools[i];
  if (n_pools == MAX_POOLS) return NULL;
  device_pool *p = mx_calloc(1, sizeof(*p));
  if (!p) return NULL;
  p->device = dev;
  pools[n_pools++] = p;
  return p;
}

static void *take_cached(device_pool *p, int number, size_t size) {
  free_block *cell = p ? p->list[number] : NULL;
  if (!cell) return NULL;
  p->list[number] = cell->next;
  void *data = cell->data;
  cell->next = spare;
  spare = cell;
  stats[p->device->kind].cached_bytes -= (int64_t)size;
  return data;
}

static size_t class_size(int number) {
  size_t base = (size_t)64 << number / 4;
  return base + base / 4 * (size_t)(number % 4);
}

/* Makes room for `size` more: blocks whose size was not asked for longest go first. */
static void evict(device_pool *p, size_t size) {
  mx_pool_stats *s = &stats[p->device->kind];
  while (s->cached_bytes > 0 && s->used_bytes + s->cached_bytes + (int64_t)size > s->peak_bytes) {
    int oldest = -1;
    for (int c = 0; c < CLASSES; c++)
      if (p->list[c] && (oldest < 0 || p->touched[c] < p->touched[oldest])) oldest = c;
    if (oldest < 0) return;
    p->device->ops->free(p->device, take_cached(p, oldest, class_size(oldest)));
  }
}

static void trim_locked(void) {
  for (int i = 0; i < n_pools; i++)
    for (int c = 0; c < CLASSES; c++)
      while (pools[i]->list[c]) {
        free_block *cell = pools[i]->list[c];
        pools[i]->list[c] = cell->next;
        pools[i]->device->ops->free(pools[i]->device, cell->data);
        mx_free(cell);
      }
  while (spare) {
    free_block *cell = spare;
    spare = cell->next;
    mx_free(cell);
  }
  for (int k = 0; k < MX_DEVICE_KINDS; k++) stats[k].cached_bytes = 0;
}

void mx_pool_trim(void) {
  pthread_mutex_lock(&lock);
  trim_locked();
  pthread_mutex_unlock(&lock);
}

mx_status mx_pool_alloc(mx_device *dev, size_t bytes, void **out, mx_error *err) {
  if (bytes > (size_t)1 << 62) return mx_fail_memory(err, bytes);
  int number;
  size_t size = size_class(bytes, &number);
  pthread_mutex_lock(&lock);
  device_pool *p = pool_of(dev);
  if (p) p->touched[number] = ++ticks;
  void *data = take_cached(p, number, size);
  if (!data && p && dev->kind == MX_CPU) evict(p, size);
  if (!data) data = dev->ops->alloc(dev, size);
  if (!data) {
    trim_locked();
    data = dev->ops->alloc(dev, size);
  }
  if (data) {
    mx_pool_stats *s = &stats[dev->kind];
    s->used_bytes += (int64_t)size;
    s->allocations++;
    s->live_blocks++;
    if (s->used_bytes > s->peak_bytes) s->peak_bytes = s->used_bytes;
  }
  pthread_mutex_unlock(&lock);
  if (!data) {
    mx_fail_memory(err, bytes);
    mx_error_prefix(err, "%s(%d)", mx_device_kind_name(dev->kind), dev->id);
    return MX_ERR_MEMORY;
  }
  mark(dev, data, bytes, size);
  *out = data;
  return MX_OK;
}

void mx_pool_free(mx_device *dev, void *block, size_t bytes) {
  if (!block) return;
  int number;
  size_t size = size_class(bytes, &number);
  pthread_mutex_lock(&lock);
  mx_pool_stats *s = &stats[dev->kind];
  s->used_bytes -= (int64_t)size;
  s->live_blocks--;
  device_pool *p = s->cached_bytes + (int64_t)size <= CACHE_LIMIT ? pool_of(dev) : NULL;
  free_block *cell = NULL;
  if (p) {
    cell = spare;
    if (cell)
      spare = cell->next;
    else
      cell = mx_malloc(sizeof(*cell));
  }
  mark(dev, block, cell ? 0 : size, size);
  if (cell) {
    cell->data = block;
    cell->next = p->list[number];
    p->list[number] = cell;
    p->touched[number] = ++ticks;
    s->cached_bytes += (int64_t)size;
  } else {
    dev->ops->free(dev, block);
  }
  pthread_mutex_unlock(&lock);
}

mx_pool_stats mx_pool_statistics(mx_device_kind kind) {
  pthread_mutex_lock(&lock);
  mx_pool_stats s = stats[kind];
  pthread_mutex_unlock(&lock);
  return s;
}
