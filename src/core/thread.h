/* How many threads a kernel may use. OpenMP inside kernels only; a forked child computes single-threaded. */
#ifndef MX_CORE_THREAD_H
#define MX_CORE_THREAD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The current limit: OMP_NUM_THREADS, the number of cores, or what mx_threads_set said. 1 in a forked child and inside
 * a parallel region. */
int mx_threads(void);
void mx_threads_set(int n); /* n < 1: back to the default. Tells OpenBLAS too. */

/* How many of them are worth having now: fewer while other processes want the cores. */
int mx_threads_now(void);

double mx_seconds(void); /* of a clock that is never set */

/* For tests: all kernels use all threads, however little there is to do. */
extern bool mx_threads_forced;

/* Threads worth using for `work` units (elements touched, say) when one thread should have at least `grain`: at most,
 * for workspace, and now. */
static inline int mx_threads_at_most(int64_t work, int64_t grain) {
  int64_t n = mx_threads_forced ? INT64_MAX : work / (grain > 0 ? grain : 1);
  if (n <= 1) return 1;
  int t = mx_threads();
  return n < t ? (int)n : t;
}
static inline int mx_threads_for(int64_t work, int64_t grain) {
  int n = mx_threads_at_most(work, grain);
  if (n == 1 || mx_threads_forced) return n;
  int t = mx_threads_now();
  return n < t ? n : t;
}
/* For both: work that may be beyond 2^63, such as the multiplications of a product. */
static inline int64_t mx_work(double work) { return work < 1e15 ? (int64_t)work : (int64_t)1e15; }
static inline int mx_threads_for_work(double work, int64_t grain) { return mx_threads_for(mx_work(work), grain); }
#define MX_GRAIN 16384 /* elements of simple arithmetic that repay waking a thread */

/* Around calls of OpenBLAS: it then has one thread, because its own change the order of sums, and wait for the cores
 * that OpenMP's spin on. */
int mx_blas_hold(void);
void mx_blas_release(int before);

/* Function versions for several instruction sets in one binary, chosen at load. Off under sanitizers, whose start-up
 * does not survive the resolvers. */
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && !defined(MX_NO_CLONES) && \
    !defined(__SANITIZE_ADDRESS__) && defined(__linux__)
#define MX_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MX_CLONES
#endif
#define MX_INLINE static inline __attribute__((always_inline))

/* Interruption: the host (R's glue) installs a check that the core calls between steps of long work, on the thread that
 * called it. Returns true when the user wants to stop; then functions return MX_ERR_INTERRUPTED. */
void mx_interrupt_handler(bool (*check)(void));
bool mx_interrupted(void);

/* oneDNN's matrix products use the stack pointer for their data (2.6, AVX and AVX-512): a signal handler that ran then
 * would write its frame over the heap. The calling thread holds signals back around them; a worker thread for good. */
void mx_signals_hold(sigset_t *before);
void mx_signals_release(const sigset_t *before);
void mx_signals_block_worker(void);

#endif
