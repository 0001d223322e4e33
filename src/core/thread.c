/* Thread limits, fork safety, interruption. */
#include "core/thread.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

extern void openblas_set_num_threads(int n);
extern int openblas_get_num_threads(void);

static int limit;  /* 0: not asked yet */
static int forked; /* a forked child has no worker threads: OpenMP would wait for them forever */

static void in_child(void) { forked = 1; }

static int default_limit(void) {
  const char *env = getenv("OMP_NUM_THREADS");
  int n = env ? atoi(env) : 0;
  return n > 0 ? n : omp_get_num_procs();
}

bool mx_threads_forced;

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

int mx_blas_hold(void) {
  int before = openblas_get_num_threads();
  if (before != 1) openblas_set_num_threads(1);
  return before;
}

void mx_blas_release(int before) {
  if (before != 1) openblas_set_num_threads(before);
}

static bool (*interrupt_check)(void);
void mx_interrupt_handler(bool (*check)(void)) { interrupt_check = check; }
bool mx_interrupted(void) { return interrupt_check && interrupt_check(); }

/* All but those that a fault of the thread itself raises: blocking these would end the process. */
void mx_signals_hold(sigset_t *before) {
  static const int fault[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
  sigset_t set;
  sigfillset(&set);
  for (size_t i = 0; i < sizeof(fault) / sizeof(*fault); i++) sigdelset(&set, fault[i]);
  pthread_sigmask(SIG_BLOCK, &set, before);
}

void mx_signals_release(const sigset_t *before) { pthread_sigmask(SIG_SETMASK, before, NULL); }

void mx_signals_block_worker(void) {
  static _Thread_local bool blocked;
  sigset_t before;
  if (blocked || omp_get_thread_num() == 0) return;
  mx_signals_hold(&before);
  blocked = true;
}
