/* Asks the libraries themselves, so that the answer holds for what was loaded, not for what was there at build time. */
#include "core/build.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#ifdef MX_HAVE_DNNL
#include <dnnl.h>
#endif
#ifdef MX_HAVE_CUDA
#include <cuda_runtime_api.h>
#endif

#include "core/device.h"
#include "core/thread.h"

/* The same choice that the loader makes for functions marked MX_CLONES. */
static const char *simd_level(void) {
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
  return "x86-64";
#else
  return "default of the compiler";
#endif
}

mx_build mx_build_info(void) {
  mx_build b = {.cores = omp_get_num_procs(), .threads = mx_threads(), .gpus = mx_device_count(MX_GPU)};
#if defined(__clang__)
  snprintf(b.compiler, sizeof(b.compiler), "clang %s", __clang_version__);
#else
  snprintf(b.compiler, sizeof(b.compiler), "gcc %s", __VERSION__);
#endif
  snprintf(b.blas, sizeof(b.blas), "%s, %s", openblas_get_config(), openblas_get_corename());
#ifdef MX_HAVE_DNNL
  const dnnl_version_t *v = dnnl_version();
  snprintf(b.onednn, sizeof(b.onednn), "%d.%d.%d", v->major, v->minor, v->patch);
#endif
#ifdef MX_HAVE_CUDA
  int cuda = 0;
  if (cudaRuntimeGetVersion(&cuda) == cudaSuccess)
    snprintf(b.cuda, sizeof(b.cuda), "%d.%d", cuda / 1000, cuda % 1000 / 10);
#endif
  snprintf(b.simd, sizeof(b.simd), "%s", simd_level());
  return b;
}
