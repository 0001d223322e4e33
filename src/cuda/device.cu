/* The CUDA device table: memory, copies, one stream a device, matrix products by cuBLAS. */
#include "cuda/device.h"

#include "core/memory.h"

mx_status mx_cuda_check(cudaError_t code, const char *what, mx_error *err) {
  if (code == cudaSuccess) return MX_OK;
  return mx_fail(err, code == cudaErrorMemoryAllocation ? MX_ERR_MEMORY : MX_ERR_DEVICE, "CUDA: %s failed: %s (%s).",
                 what, cudaGetErrorString(code), cudaGetErrorName(code));
}

static mx_status blas_check(cublasStatus_t code, const char *what, mx_error *err) {
  if (code == CUBLAS_STATUS_SUCCESS) return MX_OK;
  return mx_fail(err, MX_ERR_DEVICE, "cuBLAS: %s failed: %s.", what, cublasGetStatusString(code));
}

int mx_cuda_count(void) {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

int mx_cuda_version(void) {
  int v = 0;
  return cudaRuntimeGetVersion(&v) == cudaSuccess ? v : 0;
}

static void *gpu_alloc(mx_device *dev, size_t bytes) {
  void *p = nullptr;
  if (cudaSetDevice(dev->id) != cudaSuccess || cudaMalloc(&p, bytes) != cudaSuccess) {
    cudaGetLastError(); /* a full device is not an error that sticks */
    return nullptr;
  }
  return p;
}

/* Work that still uses the block is on the device's one stream: cudaFree waits for it. */
static void gpu_free(mx_device *dev, void *block) {
  if (cudaSetDevice(dev->id) == cudaSuccess) cudaFree(block);
}

static mx_status transfer(mx_device *dev, void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, bool wait,
                          mx_error *err) {
  if (!bytes) return MX_OK;
  cudaStream_t stream = mx_cuda_stream(dev);
  MX_TRY(mx_cuda_check(cudaSetDevice(dev->id), "choosing the device", err));
  MX_TRY(mx_cuda_check(cudaMemcpyAsync(dst, src, bytes, kind, stream), "a copy", err));
  return wait ? mx_cuda_check(cudaStreamSynchronize(stream), "waiting for a copy", err) : MX_OK;
}

static mx_status gpu_copy_in(mx_device *dev, void *dst, const void *host, size_t bytes, mx_error *err) {
  return transfer(dev, dst, host, bytes, cudaMemcpyHostToDevice, true, err);
}
static mx_status gpu_copy_out(mx_device *dev, void *host, const void *src, size_t bytes, mx_error *err) {
  return transfer(dev, host, src, bytes, cudaMemcpyDeviceToHost, true, err);
}
static mx_status gpu_copy(mx_device *dev, void *dst, const void *src, size_t bytes, mx_error *err) {
  return transfer(dev, dst, src, bytes, cudaMemcpyDeviceToDevice, false, err);
}

static mx_status gpu_zero(mx_device *dev, void *dst, size_t bytes, mx_error *err) {
  MX_TRY(mx_cuda_check(cudaSetDevice(dev->id), "choosing the device", err));
  return mx_cuda_check(cudaMemsetAsync(dst, 0, bytes, mx_cuda_stream(dev)), "clearing memory", err);
}

static mx_status gpu_synchronize(mx_device *dev, mx_error *err) {
  MX_TRY(mx_cuda_check(cudaSetDevice(dev->id), "choosing the device", err));
  return mx_cuda_check(cudaStreamSynchronize(mx_cuda_stream(dev)), "computing", err);
}

/* cuBLAS is column-major: the row-major C = A B is C' = B' A' there, that is, the operands change places. */
static mx_status gpu_gemm(mx_device *dev, const mx_gemm *g, mx_error *err) {
  if (!mx_dtype_is_float(g->dtype))
    return mx_fail(err, MX_ERR_TYPE, "A matrix product needs a floating-point type, but the arrays are %s.",
                   mx_dtype_name(g->dtype));
  if (g->m == 0 || g->n == 0) return MX_OK;
  MX_TRY(mx_cuda_check(cudaSetDevice(dev->id), "choosing the device", err));
  cudaDataType_t type = g->dtype == MX_FLOAT64 ? CUDA_R_64F : g->dtype == MX_FLOAT16 ? CUDA_R_16F : CUDA_R_32F;
  cublasComputeType_t compute = g->dtype == MX_FLOAT64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F;
  float alpha32 = (float)g->alpha, beta32 = (float)g->beta;
  const void *alpha = g->dtype == MX_FLOAT64 ? (const void *)&g->alpha : &alpha32;
  const void *beta = g->dtype == MX_FLOAT64 ? (const void *)&g->beta : &beta32;
  cublasOperation_t ta = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, tb = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  int batch = g->batch > 1 ? (int)g->batch : 1;
  return blas_check(cublasGemmStridedBatchedEx(((mx_cuda *)dev->impl)->blas, tb, ta, (int)g->n, (int)g->m, (int)g->k,
                                               alpha, g->b, type, (int)g->ldb, g->stride_b, g->a, type, (int)g->lda,
                                               g->stride_a, beta, g->c, type, (int)g->ldc, g->stride_c, batch, compute,
                                               CUBLAS_GEMM_DEFAULT),
                    "a matrix product", err);
}

static const mx_device_ops gpu_ops = {gpu_alloc, gpu_free, gpu_copy_in,     gpu_copy_out,
                                      gpu_copy,  gpu_zero, gpu_synchronize, gpu_gemm};

mx_status mx_cuda_open(mx_device *d, mx_error *err) {
  int n = 0;
  cudaError_t code = cudaGetDeviceCount(&n);
  if (code != cudaSuccess || n == 0)
    return mx_fail(err, MX_ERR_DEVICE, "gpu(%d) cannot be used: %s.", d->id,
                   code == cudaSuccess ? "this machine has no NVIDIA GPU" : cudaGetErrorString(code));
  MX_TRY(mx_cuda_check(cudaSetDevice(d->id), "choosing the device", err));
  mx_cuda *impl = (mx_cuda *)mx_calloc(1, sizeof(*impl));
  if (!impl) return mx_fail_memory(err, sizeof(*impl));
  mx_status st = mx_cuda_check(cudaStreamCreateWithFlags(&impl->stream, cudaStreamNonBlocking), "making a stream", err);
  if (st == MX_OK) {
    st = blas_check(cublasCreate(&impl->blas), "its start", err);
    if (st == MX_OK) st = blas_check(cublasSetStream(impl->blas, impl->stream), "choosing a stream", err);
    if (st != MX_OK) {
      if (impl->blas) cublasDestroy(impl->blas);
      cudaStreamDestroy(impl->stream);
    }
  }
  if (st != MX_OK) {
    mx_free(impl);
    return st;
  }
  d->impl = impl;
  d->ops = &gpu_ops;
  return MX_OK;
}
