/* CUDA devices: what core/device.c needs to open one, and what the .cu files share. */
#ifndef MX_CUDA_DEVICE_H
#define MX_CUDA_DEVICE_H

#include "core/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Number of GPUs that can be used: 0 when there is no driver. */
int mx_cuda_count(void);
/* Fills d->ops and d->impl (a stream and a cuBLAS handle on it). MX_ERR_DEVICE with CUDA's reason. */
MX_NODISCARD mx_status mx_cuda_open(mx_device *d, mx_error *err);
/* Version of the runtime that the build uses, as 1000 * major + 10 * minor. */
int mx_cuda_version(void);

#ifdef __cplusplus
}

#include <cublas_v2.h>
#include <cuda_runtime.h>

typedef struct mx_cuda {
  cudaStream_t stream;
  cublasHandle_t blas;
} mx_cuda;

static inline cudaStream_t mx_cuda_stream(const mx_device *d) { return ((const mx_cuda *)d->impl)->stream; }

/* Turns CUDA's answers into ours; `what` says what was tried. */
mx_status mx_cuda_check(cudaError_t code, const char *what, mx_error *err);
/* After a kernel launch: configuration errors surface here, faults of the kernel at the next synchronization. */
static inline mx_status mx_cuda_launched(const char *what, mx_error *err) {
  return mx_cuda_check(cudaGetLastError(), what, err);
}

#define MX_CUDA_THREADS 256
static inline unsigned mx_cuda_blocks(int64_t n) {
  int64_t blocks = (n + MX_CUDA_THREADS - 1) / MX_CUDA_THREADS;
  return (unsigned)(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks);
}
/* Every element once, whatever the grid. */
#define MX_CUDA_LOOP(i, n)                                                                                           \
  for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, step_ = (int64_t)gridDim.x * blockDim.x; i < (n); \
       i += step_)
#endif
#endif
