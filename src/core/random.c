/* The process's sequence of random blocks: a key from the seed and a running counter. */
#include "core/random.h"

#include <stdatomic.h>

static uint64_t key;
static atomic_ullong next_block;

void mx_random_seed(uint64_t seed) {
  /* splitmix64: neighbouring seeds give unrelated keys */
  uint64_t z = seed + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  key = z ^ (z >> 31);
  atomic_store(&next_block, 0);
}

mx_random_span mx_random_take(uint64_t blocks) {
  return (mx_random_span){.key = key, .base = atomic_fetch_add(&next_block, blocks)};
}
