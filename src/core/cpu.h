/* The CPU's device table. */
#ifndef MX_CORE_CPU_H
#define MX_CORE_CPU_H

#include "core/device.h"

extern const mx_device_ops mx_cpu_ops;

#endif
