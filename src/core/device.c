/* The list of devices. They are made when first asked for and stay. */
#include "core/device.h"

#include <stdio.h>

#include "core/cpu.h"
#include "core/memory.h"
#ifdef MX_HAVE_CUDA
#include "cuda/device.h"
#endif

enum { MAX_DEVICES = 64 };
static mx_device *devices[MX_DEVICE_KINDS][MAX_DEVICES];

const char *mx_device_kind_name(mx_device_kind kind) { return kind == MX_GPU ? "gpu" : "cpu"; }

int mx_device_count(mx_device_kind kind) {
  if (kind == MX_CPU) return 1;
#ifdef MX_HAVE_CUDA
  return mx_cuda_count();
#else
  return 0;
#endif
}

static mx_status open_device(mx_device *d, mx_error *err) {
  if (d->kind == MX_CPU) {
    d->ops = &mx_cpu_ops;
    return MX_OK;
  }
#ifdef MX_HAVE_CUDA
  return mx_cuda_open(d, err);
#else
  return mx_fail(
      err, MX_ERR_DEVICE,
      "gpu(%d) cannot be used: this build has no CUDA support. Install the CUDA toolkit (nvcc) and reinstall "
      "the package; configure then finds it (or give --with-cuda=DIR).",
      d->id);
#endif
}

mx_status mx_device_get(mx_device_kind kind, int id, mx_device **out, mx_error *err) {
  if (kind != MX_CPU && kind != MX_GPU)
    return mx_fail(err, MX_ERR_DEVICE, "There is no device type %d: 1 is cpu, 2 is gpu.", (int)kind);
  if (id < 0) return mx_fail(err, MX_ERR_DEVICE, "Device ids start at 0, but %d was given.", id);
  if (kind == MX_GPU && mx_device_count(MX_GPU) > 0 && id >= mx_device_count(MX_GPU))
    return mx_fail(err, MX_ERR_DEVICE, "gpu(%d) does not exist: this machine has %d GPU%s.", id,
                   mx_device_count(MX_GPU), mx_device_count(MX_GPU) == 1 ? "" : "s");
  if (id >= MAX_DEVICES)
    return mx_fail(err, MX_ERR_DEVICE, "Device ids must be below %d, but %d was given.", MAX_DEVICES, id);
  if (!devices[kind][id]) {
    mx_device *d = mx_calloc(1, sizeof(*d));
    if (!d) return mx_fail_memory(err, sizeof(*d));
    d->kind = kind;
    d->id = id;
    mx_status st = open_device(d, err);
    if (st != MX_OK) {
      mx_free(d);
      return st;
    }
    devices[kind][id] = d;
  }
  *out = devices[kind][id];
  return MX_OK;
}
