/* What moving and ordering stand on: strided copies against plain loops, the order of rows, with NaN and equal
 * elements. */
#include "call.h"
#include "core/memory.h"
#include "ops/order.h"
#include "ops/strided.h"

/* ---- strided copies ---- */

static void naive_copy(const mx_strided *s, size_t es, const char *src, char *dst) {
  int64_t index[MX_STRIDED_NDIM] = {0};
  for (;;) {
    int64_t from = 0, to = 0;
    for (int i = 0; i < s->ndim; i++) from += index[i] * s->src[i], to += index[i] * s->dst[i];
    memcpy(dst + to * (int64_t)es, src + from * (int64_t)es, es);
    int i = s->ndim - 1;
    for (; i >= 0 && ++index[i] == s->dim[i]; i--) index[i] = 0;
    if (i < 0) return;
  }
}

/* A random block inside two arrays of `room` elements; the rest of the destination must stay as it is. */
static void try_strided(uint64_t seed, size_t es, int64_t limit) {
  uint32_t w[4];
  mx_random_span span = {seed, 77};
  mx_philox(span, 0, 0, w);
  mx_strided s = {.ndim = (int)(w[0] % 6)};
  int order[6] = {0, 1, 2, 3, 4, 5};
  int64_t size = 1, src = 1, dst = 1, src_at = 0, dst_at = 0;
  for (int i = 0; i < s.ndim; i++) {
    mx_philox(span, (uint64_t)i + 1, 0, w);
    int64_t most = limit / size < 70 ? limit / size : 70;
    s.dim[i] = w[0] % 3 == 0 ? 1 + w[1] % 5 % (most > 0 ? most : 1) : 1 + w[1] % (most > 0 ? most : 1);
    size *= s.dim[i];
    int j = (int)(w[2] % (unsigned)(i + 1)), t = order[i];
    order[i] = order[j], order[j] = t;
  }
  for (int i = s.ndim - 1; i >= 0; i--) { /* the destination in order, the source in another one */
    mx_philox(span, (uint64_t)i + 100, 0, w);
    int64_t gap = w[0] % 4 == 0 ? 1 + w[1] % 3 : 1;
    s.dst[i] = dst * gap;
    dst = s.dst[i] * s.dim[i];
    if (w[2] % 8 == 0) dst_at += (s.dim[i] - 1) * s.dst[i], s.dst[i] = -s.dst[i];
    int k = order[i];
    s.src[k] = w[3] % 7 == 0 ? 0 : src * (w[3] % 5 == 0 ? 2 : 1);
    if (s.src[k]) src = s.src[k] * s.dim[k];
    if (w[1] % 8 == 0) src_at += (s.dim[k] - 1) * s.src[k], s.src[k] = -s.src[k];
  }
  char *a = malloc((size_t)src * es), *b = malloc((size_t)dst * es), *c = malloc((size_t)dst * es);
  for (int64_t i = 0; i < src * (int64_t)es; i++) a[i] = (char)(i * 31 + i / 251);
  memset(b, 0x5a, (size_t)dst * es);
  memset(c, 0x5a, (size_t)dst * es);
  naive_copy(&s, es, a + src_at * (int64_t)es, b + dst_at * (int64_t)es);
  mx_strided_copy(&s, es, a + src_at * (int64_t)es, c + dst_at * (int64_t)es);
  if (memcmp(b, c, (size_t)dst * es) != 0)
    check_report(__FILE__, __LINE__, "block %llu of %zu bytes differs", (unsigned long long)seed, es);
  free(a);
  free(b);
  free(c);
}

TEST(strided_copies) {
  for (int threads = 1; threads < 4; threads++) {
    mx_threads_set(threads);
    for (size_t es = 1; es <= 8; es *= 2) {
      for (uint64_t seed = 0; seed < 300; seed++) try_strided(seed, es, 2000);
      for (uint64_t seed = 1000; seed < 1030; seed++) try_strided(seed, es, 100000);
    }
  }
  mx_threads_set(0);
}

/* Large transposes go past the cache; rows that are not aligned must not. */
TEST(large_transposes) {
  static const int64_t sizes[][2] = {{2048, 2064}, {2050, 2051}, {2049, 2080}};
  for (int k = 0; k < 3; k++) {
    int64_t rows = sizes[k][0], cols = sizes[k][1], wrong = 0;
    mx_array *in[1] = {call_array(MX_INT32, mx_shape_of(rows, cols), NULL)}, *out[1] = {NULL};
    int32_t *x = mx_array_data(in[0]);
    for (int64_t i = 0; i < rows * cols; i++) x[i] = (int32_t)i;
    REQUIRE_OK(call_op("transpose", NULL, in, 1, out, 1), call_error);
    const int32_t *y = mx_array_data(out[0]);
    for (int64_t i = 0; i < cols; i++)
      for (int64_t j = 0; j < rows; j++) wrong += y[i * rows + j] != (int32_t)(j * cols + i);
    CHECK_INT(wrong, 0);
    call_release(in, 1);
    call_release(out, 1);
  }
}

/* ---- order ---- */

/* Not after: NaN is the largest, equal elements keep their order. */
static bool in_order(double a, int64_t i, double b, int64_t j, bool ascending) {
  bool na = isnan(a), nb = isnan(b);
  if (na && nb) return i < j;
  if (na || nb) return ascending ? nb : na;
  return a == b ? i < j : ascending ? a < b : a > b;
}

static void try_order(mx_dtype dtype, int64_t n, int64_t stride, int64_t k, bool ascending, uint64_t seed) {
  mx_array *a = call_random(dtype, mx_shape_of(n * stride), seed % 2 ? -4 : -120, seed % 2 ? 4 : 120, seed);
  for (int64_t i = 0; mx_dtype_is_float(dtype) && i < n * stride; i += 7) {
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, -0.0, 1, -NAN};
    mx_convert(&odd[(i / 7) % 7], MX_FLOAT64, (char *)mx_array_data(a) + (size_t)i * mx_dtype_size(dtype), dtype, 1);
  }
  int32_t *index = malloc((size_t)(k + 1) * sizeof(*index));
  char *seen = calloc((size_t)n + 1, 1);
  void *scratch = mx_malloc_aligned(mx_order_bytes(n, dtype) + 64);
  mx_order_row(mx_array_data(a), dtype, n, stride, k, ascending, 2, scratch, index);
  bool ok = true;
  for (int64_t j = 0; ok && j < k; j++) {
    ok = index[j] >= 0 && index[j] < n && !seen[index[j]];
    if (ok) seen[index[j]] = 1;
    if (ok && j > 0)
      ok = in_order(call_value(a, index[j - 1] * stride), index[j - 1], call_value(a, index[j] * stride), index[j],
                    ascending);
  }
  for (int64_t i = 0; ok && k > 0 && k < n && i < n; i++) /* what was left out comes after the last one */
    if (!seen[i])
      ok = in_order(call_value(a, index[k - 1] * stride), index[k - 1], call_value(a, i * stride), i, ascending);
  if (!ok)
    check_report(__FILE__, __LINE__, "%s, %lld of %lld, stride %lld, %s", mx_dtype_name(dtype), (long long)k,
                 (long long)n, (long long)stride, ascending ? "ascending" : "descending");
  mx_free_aligned(scratch);
  free(seen);
  free(index);
  mx_array_release(a);
}

TEST(orders) {
  static const int64_t lengths[] = {0, 1, 2, 3, 15, 16, 17, 33, 100, 1000, 1024, 3000, 70000};
  for (int t = 0; t < MX_DTYPE_COUNT; t++)
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
      for (int ascending = 0; ascending < 2; ascending++) {
        int64_t n = lengths[i];
        try_order((mx_dtype)t, n, 1, n, ascending, 5 + i);
        try_order((mx_dtype)t, n, 3, n / 2, ascending, 50 + i);
        try_order((mx_dtype)t, n, 1, n / 10, ascending, 500 + i);
      }
}

int main(int argc, char **argv) {
  if (!call_start(argc, argv)) return 2;
  RUN(strided_copies);
  RUN(large_transposes);
  RUN(orders);
  return check_finish();
}
