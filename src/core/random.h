/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): counter-based, so that the
 * same seed gives the same numbers on every device with any number of threads. */
#ifndef MX_CORE_RANDOM_H
#define MX_CORE_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define MX_HOST_DEVICE __host__ __device__
#else
#define MX_HOST_DEVICE
#endif

/* A stretch of the random sequence that one kernel call may use: block i has the counter `base + i`. */
typedef struct mx_random_span {
  uint64_t key;
  uint64_t base;
} mx_random_span;

#ifdef __cplusplus
extern "C" {
#endif

/* Starts the sequence anew. */
void mx_random_seed(uint64_t seed);
/* Takes the next `blocks` blocks (four 32-bit numbers each) of the process's sequence. */
mx_random_span mx_random_take(uint64_t blocks);

#ifdef __cplusplus
}
#endif

/* Block `i` of a span: four independent 32-bit numbers. `lane` gives further blocks for the same i (rejection loops).
 */
static inline MX_HOST_DEVICE void mx_philox(mx_random_span s, uint64_t i, uint32_t lane, uint32_t out[4]) {
  uint64_t n = s.base + i;
  uint32_t c0 = (uint32_t)n, c1 = (uint32_t)(n >> 32), c2 = lane, c3 = 0;
  uint32_t k0 = (uint32_t)s.key, k1 = (uint32_t)(s.key >> 32);
  for (int r = 0; r < 10; r++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
/* [0, 1) with 24 bits: exact in float32. */
static inline MX_HOST_DEVICE float mx_uniform_float(uint32_t u) { return (float)(u >> 8) * 0x1p-24f; }
/* (0, 1) with 52 bits, never 0 nor 1: one bit more would round up to 1. */
static inline MX_HOST_DEVICE double mx_uniform_double(uint32_t hi, uint32_t lo) {
  return ((double)(((uint64_t)hi << 20) ^ (lo >> 12)) + 0.5) * 0x1p-52;
}

#endif
