/* Thread limits, fork safety, interruption. */
#include "core/thread.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

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

/* ---- sharing the cores with other processes ----
 *
 * Threads wait for each other by spinning, which is quickest as long as each has a core. When other processes want the
 * cores too, all spin for the one that does not run, and a kernel takes ten times as long as on one thread. A process
 * whose threads the scheduler stops again and again while they compute is in that state: it takes half the threads, and
 * tries more again after a while, a longer one each time that this fails. On a quiet machine the scheduler stops a
 * thread some 30 times in a second of computing, on a busy one 200 times, and now and then for a moment only: two
 * looks in a row have to agree. Results do not depend on the number. */

static const double WINDOW = 0.1, SHORTEST = 0.25, LONGEST = 8; /* seconds */
static const double CROWDED = 80, FEW = 3; /* interruptions in a second of computing; between looks */

static struct {
  int level;         /* threads in use */
  bool crowded;      /* at the last look */
  double next;       /* when to look again */
  double pause, end; /* how long to wait before more threads are tried, and until when */
  double cpu;        /* seconds of computing at the last look */
  long stops;        /* interruptions until then */
} share;

double mx_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void look(double now) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  double cpu =
      (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
  double spent = cpu - share.cpu, stops = (double)(u.ru_nivcsw - share.stops);
  bool before = share.crowded;
  share.crowded = stops > FEW && stops > CROWDED * spent;
  share.next = now + WINDOW;
  share.cpu = cpu;
  share.stops = u.ru_nivcsw;
  if (share.crowded && before) {
    if (share.level > 1) share.pause = share.pause * 2 < LONGEST ? share.pause * 2 : LONGEST;
    share.level = (share.level + 1) / 2;
    share.end = now + share.pause;
  } else if (!share.crowded && now >= share.end) {
    if (share.level == limit) share.pause = SHORTEST / 2; /* more threads went well for as long as the pause was */
    share.level = share.level * 2 < limit ? share.level * 2 : limit;
    share.end = now + share.pause;
  }
}

int mx_threads_now(void) {
  int most = mx_threads();
  if (most == 1) return 1;
  double now = mx_seconds();
  if (now >= share.next) look(now);
  return share.level;
}

void mx_threads_set(int n) {
  limit = n > 0 ? n : default_limit();
  omp_set_num_threads(limit);
  openblas_set_num_threads(limit);
  look(mx_seconds()); /* what was counted so far says nothing of the new number */
  share.level = limit;
  share.pause = SHORTEST / 2;
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
