/* Fuzzer of parameter files: what can be read must be written and read again, the same.
 *   clang -fsanitize=fuzzer,address -Isrc tests/c/fuzz_params.c ...   (make -C tests/c fuzz_params)
 * test_params.c calls the same function with changed files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "io/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  mx_error err;
  mx_device *cpu;
  mx_array_list list, again;
  void *text;
  size_t length;
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) abort();
  if (mx_params_decode(bytes, size, cpu, &list, &err) != MX_OK) return 0;
  const char *const *names = (const char *const *)list.name;
  if (mx_params_encode(list.array, names, list.n, &text, &length, &err) == MX_OK) {
    if (mx_params_decode(text, length, cpu, &again, &err) != MX_OK || again.n != list.n || !again.name != !list.name)
      abort();
    for (int i = 0; i < list.n; i++) {
      const mx_array *a = list.array[i], *b = again.array[i];
      if (!mx_shape_equal(&a->shape, &b->shape) || a->dtype != b->dtype) abort();
      if (mx_array_bytes(a) && memcmp(mx_array_data(a), mx_array_data(b), mx_array_bytes(a))) abort();
      if (list.name && strcmp(list.name[i], again.name[i])) abort();
    }
    mx_array_list_free(&again);
    mx_free(text);
  }
  mx_array_list_free(&list);
  return 0;
}
