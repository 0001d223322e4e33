/* Ordering of rows. Every element becomes an unsigned key in the order asked for, with its index: one 64-bit number for
 * types of up to 32 bits, a pair for wider ones. No two items are equal, so the result does not depend on the method:
 *   few of many   a heap of the k first
 *   short rows    insertion sort of runs, then merging
 *   long rows     counting by bytes of the key (least significant first), pieces in parallel, then merging */
#include "ops/order.h"

#include <string.h>

#include "core/thread.h"

typedef uint64_t item32; /* key << 32 | index */
typedef struct item64 {
  uint64_t key, index;
} item64;

/* ---- keys ---- */

static inline uint64_t key_float(uint64_t bits, int width, bool nan, bool zero) {
  uint64_t sign = (uint64_t)1 << (width - 1), all = sign | (sign - 1);
  if (nan) return all;
  if (zero) return sign;
  return bits & sign ? ~bits & all : bits | sign;
}
static inline uint64_t key_f32(float x) {
  uint32_t b;
  memcpy(&b, &x, 4);
  return key_float(b, 32, x != x, x == 0);
}
static inline uint64_t key_f64(double x) {
  uint64_t b;
  memcpy(&b, &x, 8);
  return key_float(b, 64, x != x, x == 0);
}
static inline uint64_t key_f16(mx_half x) {
  uint16_t b;
  memcpy(&b, &x, 2);
  float f = (float)x;
  return key_float(b, 16, f != f, f == 0);
}
static inline uint64_t key_u8(uint8_t x) { return x; }
static inline uint64_t key_i8(int8_t x) { return (uint8_t)x ^ 0x80u; }
static inline uint64_t key_i32(int32_t x) { return (uint32_t)x ^ 0x80000000u; }
static inline uint64_t key_i64(int64_t x) { return (uint64_t)x ^ ((uint64_t)1 << 63); }

static int key_bytes(mx_dtype dtype) { return (int)mx_dtype_size(dtype); }

#define KEYS32(key, type)                                              \
  for (int64_t i = 0; i < n; i++) {                                    \
    uint64_t k = key(((const type *)x)[(from + i) * stride]);          \
    out[i] = (ascending ? k : ~k & mask) << 32 | (uint64_t)(from + i); \
  }
static void make_keys32(const void *x, mx_dtype dtype, int64_t from, int64_t n, int64_t stride, bool ascending,
                        item32 *out) {
  uint64_t mask = ((uint64_t)1 << (8 * key_bytes(dtype))) - 1;
  switch (dtype) {
    case MX_FLOAT32:
      KEYS32(key_f32, float) break;
    case MX_FLOAT16:
      KEYS32(key_f16, mx_half) break;
    case MX_INT32:
      KEYS32(key_i32, int32_t) break;
    case MX_INT8:
      KEYS32(key_i8, int8_t) break;
    default:
      KEYS32(key_u8, uint8_t) break;
  }
}
static void make_keys64(const void *x, mx_dtype dtype, int64_t from, int64_t n, int64_t stride, bool ascending,
                        item64 *out) {
  for (int64_t i = 0; i < n; i++) {
    int64_t at = (from + i) * stride;
    uint64_t k = dtype == MX_FLOAT64 ? key_f64(((const double *)x)[at]) : key_i64(((const int64_t *)x)[at]);
    out[i] = (item64){ascending ? k : ~k, (uint64_t)(from + i)};
  }
}

/* ---- sorting, for both kinds of items ---- */

static inline bool less32(item32 a, item32 b) { return a < b; }
static inline bool less64(item64 a, item64 b) { return a.key < b.key || (a.key == b.key && a.index < b.index); }
static inline unsigned byte32(item32 a, int b) { return (unsigned)(a >> (32 + 8 * b)) & 255; }
static inline unsigned byte64(item64 a, int b) { return (unsigned)(a.key >> (8 * b)) & 255; }

enum { RUN = 16, RADIX_FROM = 1024, SHARE_FROM = 1 << 16 };

/* merge: [lo, mid) and [mid, hi) of `from` into `to`.
 * sort: result in `a`; `b` is scratch of the same size. Counting keeps the order of equal keys, so indices must ascend
 * before. first: the k smallest of `a` to its front, in order. */
#define DEFINE_SORT(w)                                                                                      \
  static void insert##w(item##w *a, int64_t n) {                                                            \
    for (int64_t i = 1; i < n; i++) {                                                                       \
      item##w x = a[i];                                                                                     \
      int64_t j = i;                                                                                        \
      for (; j > 0 && less##w(x, a[j - 1]); j--) a[j] = a[j - 1];                                           \
      a[j] = x;                                                                                             \
    }                                                                                                       \
  }                                                                                                         \
  static void merge##w(const item##w *from, item##w *to, int64_t lo, int64_t mid, int64_t hi) {             \
    int64_t i = lo, j = mid, k = lo;                                                                        \
    while (i < mid && j < hi) to[k++] = less##w(from[j], from[i]) ? from[j++] : from[i++];                  \
    if (i < mid) memcpy(to + k, from + i, (size_t)(mid - i) * sizeof(*to));                                 \
    if (j < hi) memcpy(to + k, from + j, (size_t)(hi - j) * sizeof(*to));                                   \
  }                                                                                                         \
  static void merge_sort##w(item##w *a, item##w *b, int64_t n) {                                            \
    item##w *from = a, *to = b, *t;                                                                         \
    for (int64_t i = 0; i < n; i += RUN) insert##w(a + i, n - i < RUN ? n - i : RUN);                       \
    for (int64_t len = RUN; len < n; len *= 2, t = from, from = to, to = t)                                 \
      for (int64_t lo = 0; lo < n; lo += 2 * len)                                                           \
        merge##w(from, to, lo, lo + len < n ? lo + len : n, lo + 2 * len < n ? lo + 2 * len : n);           \
    if (from != a) memcpy(a, from, (size_t)n * sizeof(*a));                                                 \
  }                                                                                                         \
  static void radix_sort##w(item##w *a, item##w *b, int64_t n, int bytes) {                                 \
    item##w *from = a, *to = b, *t;                                                                         \
    for (int d = 0; d < bytes; d++) {                                                                       \
      int64_t count[256] = {0}, sum = 0;                                                                    \
      for (int64_t i = 0; i < n; i++) count[byte##w(from[i], d)]++;                                         \
      if (count[byte##w(from[0], d)] == n) continue;                                                        \
      for (int v = 0; v < 256; v++) {                                                                       \
        int64_t c = count[v];                                                                               \
        count[v] = sum;                                                                                     \
        sum += c;                                                                                           \
      }                                                                                                     \
      for (int64_t i = 0; i < n; i++) to[count[byte##w(from[i], d)]++] = from[i];                           \
      t = from, from = to, to = t;                                                                          \
    }                                                                                                       \
    if (from != a) memcpy(a, from, (size_t)n * sizeof(*a));                                                 \
  }                                                                                                         \
  static void sort##w(item##w *a, item##w *b, int64_t n, int bytes) {                                       \
    if (n < RADIX_FROM)                                                                                     \
      merge_sort##w(a, b, n);                                                                               \
    else                                                                                                    \
      radix_sort##w(a, b, n, bytes);                                                                        \
  }                                                                                                         \
  static void sift##w(item##w *heap, int64_t k, int64_t at, item##w x) {                                    \
    for (int64_t child; (child = 2 * at + 1) < k; at = child) {                                             \
      if (child + 1 < k && less##w(heap[child], heap[child + 1])) child++;                                  \
      if (!less##w(x, heap[child])) break;                                                                  \
      heap[at] = heap[child];                                                                               \
    }                                                                                                       \
    heap[at] = x;                                                                                           \
  }                                                                                                         \
  static void first##w(item##w *a, item##w *b, int64_t n, int64_t k) {                                      \
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift##w(a, k, i, a[i]);                                        \
    for (int64_t i = k; i < n; i++)                                                                         \
      if (less##w(a[i], a[0])) sift##w(a, k, 0, a[i]);                                                      \
    merge_sort##w(a, b, k);                                                                                 \
  }                                                                                                         \
  static void order##w(const void *x, mx_dtype dtype, int64_t n, int64_t stride, int64_t k, bool ascending, \
                       int threads, item##w *a) {                                                           \
    item##w *b = a + n;                                                                                     \
    int bytes = key_bytes(dtype), pieces = 1;                                                               \
    while (k == n && n >= SHARE_FROM && 2 * pieces <= threads) pieces *= 2;                                 \
    if (k <= n / 8) {                                                                                       \
      make_keys##w(x, dtype, 0, n, stride, ascending, a);                                                   \
      if (k > 0) first##w(a, b, n, k);                                                                      \
      return;                                                                                               \
    }                                                                                                       \
    _Pragma("omp parallel for num_threads(pieces) if (pieces > 1)") for (int p = 0; p < pieces; p++) {      \
      int64_t lo = n * p / pieces, hi = n * (p + 1) / pieces;                                               \
      make_keys##w(x, dtype, lo, hi - lo, stride, ascending, a + lo);                                       \
      sort##w(a + lo, b + lo, hi - lo, bytes);                                                              \
    }                                                                                                       \
    for (int len = 1; len < pieces; len *= 2) {                                                             \
      _Pragma("omp parallel for num_threads(pieces)") for (int p = 0; p < pieces; p += 2 * len)             \
          merge##w(a, b, n *p / pieces, n * (p + len) / pieces, n * (p + 2 * len) / pieces);                \
      memcpy(a, b, (size_t)n * sizeof(*a));                                                                 \
    }                                                                                                       \
  }
DEFINE_SORT(32)
DEFINE_SORT(64)

size_t mx_order_bytes(int64_t n, mx_dtype dtype) {
  size_t item = mx_dtype_size(dtype) > 4 ? sizeof(item64) : sizeof(item32);
  return (2 * (size_t)n * item + 63) & ~(size_t)63;
}

void mx_order_row(const void *x, mx_dtype dtype, int64_t n, int64_t stride, int64_t k, bool ascending, int threads,
                  void *scratch, int32_t *index) {
  if (mx_dtype_size(dtype) > 4) {
    item64 *a = scratch;
    order64(x, dtype, n, stride, k, ascending, threads, a);
    for (int64_t j = 0; j < k; j++) index[j] = (int32_t)a[j].index;
  } else {
    item32 *a = scratch;
    order32(x, dtype, n, stride, k, ascending, threads, a);
    for (int64_t j = 0; j < k; j++) index[j] = (int32_t)(a[j] & 0xffffffffu);
  }
}
