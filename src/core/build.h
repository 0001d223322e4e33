/* What this build is made of and what it runs on: for a user's report, and for tests that depend on it. */
#ifndef MX_CORE_BUILD_H
#define MX_CORE_BUILD_H

#ifdef __cplusplus
extern "C" {
#endif

/* Empty strings: not in this build. */
typedef struct mx_build {
  char compiler[64]; /* "gcc 12.2.0" */
  char blas[128];    /* as OpenBLAS describes itself, with the kernels that it chose for this processor */
  char onednn[32];   /* "2.6.3" */
  char cuda[32];     /* "13.0" */
  char simd[32];     /* the version of the package's own loops that runs here: "x86-64-v3" */
  int cores;         /* that the process may use */
  int threads;       /* that kernels use now */
  int gpus;          /* that can be used */
} mx_build;

mx_build mx_build_info(void);

#ifdef __cplusplus
}
#endif
#endif
