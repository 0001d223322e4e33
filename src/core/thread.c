/* Thread limits, fork safety, interruption. */
#include "core/thread.h"

#include <omp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

extern void openblas_set_num_threads(int n);

static int limit;  /* 0: not asked yet */
static int forked; /* a forked child has no worker threads: OpenMP would wait for them forever */

static void in_child(void) { forked = 1; }

static int default_limit(void) {
  const char *env = getenv("OMP_NUM_THREADS");
  int n = env ? atoi(env) : 0;
  return n > 0 ? n : omp_get_num_procs();
}

int mx_threads(void) {
  if (!limit) {
    pthread_atfork(NULL, NULL, in_child);
    mx_threads_set(0);
  }
  return forked || omp_in_parallel() ? 1 : limit;
}

void mx_threads_set(int n) {
  limit = n > 0 ? n : default_limit();
  omp_set_num_threads(limit);
  openblas_set_num_threads(limit);
}

static bool (*interrupt_check)(void);
void mx_interrupt_handler(bool (*check)(void)) { interrupt_check = check; }
bool mx_interrupted(void) { return interrupt_check && interrupt_check(); }
