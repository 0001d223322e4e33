/* A test harness of one header: tests are functions, checks count nothing until they ran.
 *
 *   TEST(adds) { CHECK(1 + 1 == 2); }
 *   int main(int argc, char **argv) {
 *     check_start(argc, argv);
 *     RUN(adds);
 *     return check_finish();
 *   }
 *
 * A test passes when it ran to its end and none of its checks failed. The last line is 'N passed, N failed'; the exit
 * status is 1 when something failed or nothing ran. Arguments select tests by a part of their name. */
#ifndef MX_TESTS_CHECK_H
#define MX_TESTS_CHECK_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"

#ifdef __SANITIZE_ADDRESS__
/* Tests ask for more memory than there is, and expect NULL. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void) {
  return "allocator_may_return_null=1";
}
#endif

static struct {
  int passed, failed;
  const char *test; /* that runs now */
  bool broken;      /* one of its checks failed */
  int shown;        /* messages of this test */
  char **only;
  int n_only;
} check_now;

__attribute__((unused, format(printf, 3, 4))) static void check_report(const char *file, int line, const char *fmt,
                                                                       ...) {
  check_now.broken = true;
  if (++check_now.shown > 10) return; /* the first ones say it all */
  const char *base = strrchr(file, '/');
  printf("FAIL %s (%s:%d) - ", check_now.test ? check_now.test : "?", base ? base + 1 : file, line);
  va_list ap;
  va_start(ap, fmt);
  vprintf(fmt, ap);
  va_end(ap);
  printf("\n");
}

__attribute__((unused)) static void check_start(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  check_now.only = argv + 1;
  check_now.n_only = argc - 1;
}

/* Bookkeeping around one test; RUN does it for functions, programs with tests from data call the pair themselves. */
__attribute__((unused)) static void check_begin(const char *test) {
  check_now.test = test;
  check_now.broken = false;
  check_now.shown = 0;
}
__attribute__((unused)) static bool check_end(void) {
  bool ok = !check_now.broken;
  if (ok)
    check_now.passed++;
  else
    check_now.failed++;
  check_now.test = NULL;
  return ok;
}
__attribute__((unused)) static bool check_selected(const char *test) {
  for (int i = 0; i < check_now.n_only; i++)
    if (strstr(test, check_now.only[i])) return true;
  return check_now.n_only == 0;
}
__attribute__((unused)) static void check_run(const char *test, void (*body)(void)) {
  if (!check_selected(test)) return;
  check_begin(test);
  body();
  check_end();
}
__attribute__((unused)) static int check_finish(void) {
  printf("%d passed, %d failed\n", check_now.passed, check_now.failed);
  return check_now.failed > 0 || check_now.passed == 0;
}

#define TEST(name) static void name(void)
#define RUN(name) check_run(#name, name)

#define CHECK(cond)                                                       \
  do {                                                                    \
    if (!(cond)) check_report(__FILE__, __LINE__, "not true: %s", #cond); \
  } while (0)
/* Leaves the test: what follows would make no sense. */
#define REQUIRE(cond)                                          \
  do {                                                         \
    if (!(cond)) {                                             \
      check_report(__FILE__, __LINE__, "not true: %s", #cond); \
      return;                                                  \
    }                                                          \
  } while (0)
#define CHECK_INT(got, want)                                                                             \
  do {                                                                                                   \
    long long got_ = (long long)(got), want_ = (long long)(want);                                        \
    if (got_ != want_) check_report(__FILE__, __LINE__, "%s is %lld, expected %lld", #got, got_, want_); \
  } while (0)
#define CHECK_NEAR(got, want, tol)                                                                               \
  do {                                                                                                           \
    double got_ = (double)(got), want_ = (double)(want);                                                         \
    if (!(fabs(got_ - want_) <= (tol)))                                                                          \
      check_report(__FILE__, __LINE__, "%s is %.9g, expected %.9g within %g", #got, got_, want_, (double)(tol)); \
  } while (0)
#define CHECK_TEXT(got, want)                                                                                 \
  do {                                                                                                        \
    const char *got_ = (got), *want_ = (want);                                                                \
    if (!got_ || strcmp(got_, want_) != 0)                                                                    \
      check_report(__FILE__, __LINE__, "%s is \"%s\", expected \"%s\"", #got, got_ ? got_ : "(null)", want_); \
  } while (0)
/* The call succeeds; `err` is the mx_error it was given. REQUIRE_OK leaves the test. */
#define CHECK_OK(call, err)                                                                       \
  do {                                                                                            \
    if ((call) != MX_OK) check_report(__FILE__, __LINE__, "%s failed: %s", #call, (err).message); \
  } while (0)
#define REQUIRE_OK(call, err)                                                  \
  do {                                                                         \
    if ((call) != MX_OK) {                                                     \
      check_report(__FILE__, __LINE__, "%s failed: %s", #call, (err).message); \
      return;                                                                  \
    }                                                                          \
  } while (0)
/* The call fails with that status, and the message contains `text`. */
#define CHECK_FAILS(call, status, err, text)                                                                   \
  do {                                                                                                         \
    mx_status got_ = (call);                                                                                   \
    if (got_ != (status))                                                                                      \
      check_report(__FILE__, __LINE__, "%s gave '%s', expected '%s'", #call, mx_status_name(got_),             \
                   mx_status_name(status));                                                                    \
    else if (!strstr((err).message, (text)))                                                                   \
      check_report(__FILE__, __LINE__, "%s said \"%s\", expected \"%s\" in it", #call, (err).message, (text)); \
  } while (0)

#endif
