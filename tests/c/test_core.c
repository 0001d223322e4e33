/* core/: errors, memory, dictionaries, parameters, shapes, arrays, conversion, pool, devices, random numbers, threads.
 */
#include <omp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/array.h"
#include "core/build.h"
#include "core/dict.h"
#include "core/memory.h"
#include "core/param.h"
#include "core/random.h"
#include "core/thread.h"

static mx_device *cpu;
static mx_error err;

/* ---- error ---- */

TEST(error_messages) {
  CHECK(mx_fail(&err, MX_ERR_SHAPE, "%s has %d", "x", 3) == MX_ERR_SHAPE);
  CHECK_INT(err.code, MX_ERR_SHAPE);
  CHECK_TEXT(err.message, "x has 3");
  mx_error_set(&err, expected, "(%d,)", 4);
  mx_error_prefix(&err, "node '%s'", "fc1");
  CHECK_TEXT(err.message, "node 'fc1': x has 3");
  CHECK_TEXT(err.expected, "(4,)");
  char text[3000];
  memset(text, 'a', sizeof(text) - 1);
  text[sizeof(text) - 1] = 0;
  (void)mx_fail(&err, MX_ERR_VALUE, "%s", text);
  CHECK_INT(strlen(err.message), sizeof(err.message) - 1);
  CHECK_TEXT(err.expected, ""); /* a new failure clears the fields */
  mx_error_prefix(&err, "%s", text);
  CHECK_INT(strlen(err.message), sizeof(err.message) - 1);
  mx_error_set(&err, op, "%s", text);
  CHECK_INT(strlen(err.op), sizeof(err.op) - 1);
  CHECK_TEXT(mx_status_name(MX_ERR_IO), "io");
  CHECK_TEXT(mx_status_name((mx_status)99), "unknown");
}

/* ---- memory ---- */

TEST(memory_counts_blocks) {
  int64_t before = mx_memory_live_blocks();
  void *a = mx_malloc(10), *b = mx_calloc(3, 5), *c = mx_malloc_aligned(100);
  char *d = mx_strdup("text");
  CHECK_INT(mx_memory_live_blocks(), before + 4);
  CHECK_INT((uintptr_t)c % 64, 0);
  CHECK_TEXT(d, "text");
  for (int i = 0; i < 15; i++) CHECK_INT(((char *)b)[i], 0);
  a = mx_realloc(a, 1000);
  CHECK_INT(mx_memory_live_blocks(), before + 4);
  mx_free(a), mx_free(b), mx_free_aligned(c), mx_free(d), mx_free(NULL), mx_free_aligned(NULL);
  CHECK_INT(mx_memory_live_blocks(), before);
  a = mx_malloc(0); /* a block all the same */
  CHECK(a);
  mx_free(a);
}
TEST(memory_fails_when_asked) {
  mx_memory_fail_at(3);
  void *a = mx_malloc(1), *b = mx_calloc(1, 1), *c = mx_malloc_aligned(1), *d = mx_malloc(1);
  CHECK(a && b && !c && d);
  mx_memory_fail_at(1);
  CHECK(!mx_realloc(a, 100)); /* the old block stays */
  mx_memory_fail_at(0);
  CHECK(!mx_malloc(SIZE_MAX / 2));
  mx_free(a), mx_free(b), mx_free(d);
  CHECK_INT(mx_fail_memory(&err, 5000000), MX_ERR_MEMORY);
  CHECK(strstr(err.message, "5.0 MB"));
}

/* ---- dictionaries ---- */

TEST(dict_keeps_keys_sorted) {
  mx_dict d = MX_DICT_EMPTY, copy;
  static const char *const keys[] = {"pad", "kernel", "", "stride", "Kernel", "__lr_mult__"};
  for (int i = 0; i < 6; i++) REQUIRE_OK(mx_dict_set(&d, keys[i], keys[i], &err), err);
  CHECK_OK(mx_dict_set(&d, "pad", "(1,1)", &err), err);
  CHECK_INT(d.n, 6);
  for (int i = 1; i < d.n; i++) CHECK(strcmp(d.key[i - 1], d.key[i]) < 0);
  CHECK_TEXT(mx_dict_get(&d, "pad"), "(1,1)");
  CHECK(!mx_dict_get(&d, "pa"));
  CHECK_OK(mx_dict_copy(&copy, &d, &err), err);
  mx_dict_remove(&d, "pad");
  mx_dict_remove(&d, "absent");
  CHECK(!mx_dict_get(&d, "pad") && d.n == 5);
  CHECK_TEXT(mx_dict_get(&copy, "pad"), "(1,1)");
  mx_dict_free(&d);
  mx_dict_free(&copy);
  CHECK(!mx_dict_get(&d, "kernel"));
}
TEST(dict_survives_lack_of_memory) {
  int64_t before = mx_memory_live_blocks();
  mx_dict d = MX_DICT_EMPTY, copy = MX_DICT_EMPTY;
  REQUIRE_OK(mx_dict_set(&d, "a", "1", &err), err);
  for (int n = 1; n < 20; n++) {
    mx_memory_fail_at(n);
    mx_status st = mx_dict_set(&d, "b", "2", &err);
    if (st == MX_OK) st = mx_dict_copy(&copy, &d, &err);
    mx_memory_fail_at(0);
    CHECK_TEXT(mx_dict_get(&d, "a"), "1");
    if (st == MX_OK) break;
    CHECK_INT(st, MX_ERR_MEMORY);
    CHECK_INT(copy.n, 0);
  }
  CHECK_INT(copy.n, 2);
  mx_dict_free(&d), mx_dict_free(&copy);
  CHECK_INT(mx_memory_live_blocks(), before);
}

/* ---- parameters ---- */

typedef struct sample {
  bool flag;
  int8_t maybe;
  int64_t count;
  mx_opt_int axis;
  double rate;
  mx_opt_float limit;
  int kind;
  mx_dtype dtype;
  char *label;
  mx_shape kernel;
  mx_ints sizes;
  mx_floats scales;
} sample;
static const mx_param sample_table[] = {
    MX_P_BOOL(sample, flag, "False", "a flag"),
    MX_P_OPT_BOOL(sample, maybe, "None", "a flag that may be absent"),
    MX_P_INT(sample, count, NULL, 1, 100, "required"),
    MX_P_OPT_INT(sample, axis, "None", -12, 12, "an axis"),
    MX_P_FLOAT(sample, rate, "0.5", 0, 1, "a rate"),
    MX_P_OPT_FLOAT(sample, limit, "None", MX_ANY, "a limit"),
    MX_P_ENUM(sample, kind, "max", MX_STRINGS("max", "avg", "sum"), "a kind"),
    MX_P_DTYPE(sample, dtype, "float32", MX_STRINGS("float32", "float64", "None"), "a type"),
    MX_P_STRING(sample, label, "", "a text"),
    MX_P_TUPLE(sample, kernel, "()", 0, 1000, "a tuple"),
    MX_P_INTS(sample, sizes, "()", 0, INFINITY, "integers"),
    MX_P_FLOATS(sample, scales, "(1.0,)", MX_ANY, "numbers"),
    MX_P_END};

/* Parses {key: text} and a valid count. */
static mx_status parse_one(const char *key, const char *text, sample *s) {
  mx_dict d = MX_DICT_EMPTY;
  memset(s, 0, sizeof(*s));
  mx_status st = mx_dict_set(&d, "count", "7", &err);
  if (st == MX_OK && key) st = mx_dict_set(&d, key, text, &err);
  if (st == MX_OK) st = mx_params_parse(sample_table, "Sample", &d, s, &err);
  mx_dict_free(&d);
  return st;
}

TEST(params_have_defaults) {
  sample s;
  REQUIRE_OK(parse_one(NULL, NULL, &s), err);
  CHECK(!s.flag && s.maybe == -1 && s.count == 7 && !s.axis.given && s.rate == 0.5 && !s.limit.given);
  CHECK(s.kind == 0 && s.dtype == MX_FLOAT32 && s.kernel.ndim == 0 && s.sizes.n == 0);
  CHECK(s.scales.n == 1 && s.scales.v[0] == 1.0);
  CHECK_TEXT(s.label, "");
  mx_params_free(sample_table, &s);
  mx_dict none = MX_DICT_EMPTY;
  memset(&s, 0, sizeof(s));
  CHECK_FAILS(mx_params_parse(sample_table, "Sample", &none, &s, &err), MX_ERR_VALUE, err, "count");
  CHECK_TEXT(err.op, "Sample");
  CHECK_TEXT(err.argument, "count");
}
TEST(params_are_read) {
  static const struct {
    const char *key, *text;
    double want;
  } good[] = {{"flag", "True", 1},
              {"flag", "1", 1},
              {"flag", "false", 0},
              {"maybe", "None", -1},
              {"maybe", "true", 1},
              {"axis", "-1", -1},
              {"axis", "3.0", 3},
              {"axis", "1e+01", 10},
              {"axis", " 5 ", 5},
              {"axis", "True", 1},
              {"rate", "1e-3", 1e-3},
              {"rate", ".25", .25},
              {"rate", "0", 0},
              {"limit", "-1e30", -1e30},
              {"kind", "sum", 2},
              {"dtype", "float64", MX_FLOAT64},
              {"dtype", "None", MX_DTYPE_UNKNOWN}};
  for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
    sample s;
    const char *k = good[i].key;
    REQUIRE_OK(parse_one(k, good[i].text, &s), err);
    double got = !strcmp(k, "flag")    ? s.flag
                 : !strcmp(k, "maybe") ? s.maybe
                 : !strcmp(k, "axis")  ? (double)s.axis.value
                 : !strcmp(k, "rate")  ? s.rate
                 : !strcmp(k, "limit") ? s.limit.value
                 : !strcmp(k, "kind")  ? s.kind
                                       : (double)s.dtype;
    CHECK_NEAR(got, good[i].want, 0);
    mx_params_free(sample_table, &s);
  }
}
TEST(params_read_tuples) {
  static const char *const same[] = {"(2,3)", "[2, 3]", " ( 2 , 3, ) ", "(2L, 3L)", "(2.0,3)"};
  mx_shape t;
  for (int i = 0; i < 5; i++) {
    REQUIRE_OK(mx_parse_tuple(same[i], &t, &err), err);
    CHECK(t.ndim == 2 && t.dim[0] == 2 && t.dim[1] == 3);
  }
  CHECK_OK(mx_parse_tuple("7", &t, &err), err);
  CHECK(t.ndim == 1 && t.dim[0] == 7);
  CHECK_OK(mx_parse_tuple("()", &t, &err), err);
  CHECK_INT(t.ndim, 0);
  CHECK_OK(mx_parse_tuple("None", &t, &err), err);
  CHECK_INT(t.ndim, -1);
  CHECK_OK(mx_parse_tuple("(1,2,3,4,5,6,7,8,9,10,11,12)", &t, &err), err);
  CHECK_INT(t.ndim, MX_MAX_NDIM);
  static const char *const bad[] = {"",
                                    "(",
                                    "(1",
                                    "1,2",
                                    "(1;2)",
                                    "(1,2",
                                    "(1,2]",
                                    "[1,2)",
                                    "(,)",
                                    "(1,,2)",
                                    "(a)",
                                    "(1 2)",
                                    "((1,2))",
                                    "(1.5,)",
                                    "(1e300,)",
                                    "(99999999999999999999,)",
                                    "(nan,)",
                                    "(1)x",
                                    "(1,2,3,4,5,6,7,8,9,10,11,12,13)"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    if (mx_parse_tuple(bad[i], &t, &err) == MX_OK) check_report(__FILE__, __LINE__, "\"%s\" was taken", bad[i]);
}
TEST(params_say_what_is_wrong) {
  static const struct {
    const char *key, *text, *says;
  } bad[] = {{"flag", "maybe", "TRUE or FALSE"},
             {"flag", "", "flag"},
             {"count", "0", "[1, 100]"},
             {"count", "101", "[1, 100]"},
             {"count", "2.5", "an integer"},
             {"count", "9223372036854775808", "an integer"},
             {"count", "None", "an integer"},
             {"axis", "x", "an integer"},
             {"axis", "1 2", "an integer"},
             {"rate", "1.5", "[0, 1]"},
             {"rate", "nan", "[0, 1]"},
             {"rate", "half", "a number"},
             {"kind", "min", "'max', 'avg', 'sum'"},
             {"kind", "Max", "one of"},
             {"dtype", "float16", "'float32'"},
             {"kernel", "(3,-1)", "integers"},
             {"kernel", "3 by 3", "integers"},
             {"sizes", "(1,x)", "integers"},
             {"sizes", "(-1,)", "integers"},
             {"scales", "(1,two)", "numbers"},
             {"no_such", "1", "has no parameter 'no_such'"}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    sample s;
    CHECK_FAILS(parse_one(bad[i].key, bad[i].text, &s), MX_ERR_VALUE, err, bad[i].says);
    CHECK_TEXT(err.argument, bad[i].key);
    CHECK_TEXT(err.op, "Sample");
    CHECK(!s.label && !s.sizes.v && !s.scales.v); /* nothing is left behind */
  }
  sample s;
  CHECK_OK(parse_one("__ctx_group__", "dev1", &s), err); /* an attribute of the node, not a parameter */
  mx_params_free(sample_table, &s);
}
TEST(params_read_long_lists) {
  char text[40000] = "(";
  size_t n = 1;
  for (int i = 0; i < 5000; i++) n += (size_t)snprintf(text + n, sizeof(text) - n, "%d,", i);
  text[n++] = ')';
  sample s;
  REQUIRE_OK(parse_one("sizes", text, &s), err);
  CHECK_INT(s.sizes.n, 5000);
  for (int i = 0; i < s.sizes.n; i++) CHECK_INT(s.sizes.v[i], i);
  mx_params_free(sample_table, &s);
  CHECK_FAILS(parse_one("kernel", text, &s), MX_ERR_VALUE, err, "kernel");
}
/* Random texts made of the characters that the scanners look for: anything may come out but a crash. */
TEST(params_survive_any_text) {
  static const char alphabet[] = "0123456789()[],.-+eE NonTruFalsxLfinaNX\t\"%";
  uint32_t state = 1;
  int64_t before = mx_memory_live_blocks();
  int taken = 0;
  for (int round = 0; round < 20000; round++) {
    char text[24];
    state = state * 1664525u + 1013904223u;
    int n = (int)(state >> 24) % 23;
    for (int i = 0; i < n; i++) {
      state = state * 1664525u + 1013904223u;
      text[i] = alphabet[(state >> 16) % (sizeof(alphabet) - 1)];
    }
    text[n] = 0;
    sample s;
    if (parse_one(sample_table[round % 12].name, text, &s) == MX_OK) {
      taken++;
      mx_params_free(sample_table, &s);
    }
  }
  CHECK(taken > 0);
  CHECK_INT(mx_memory_live_blocks(), before);
}
TEST(params_survive_lack_of_memory) {
  int64_t before = mx_memory_live_blocks();
  mx_status st = MX_ERR_MEMORY;
  for (int n = 1; n < 100 && st != MX_OK; n++) {
    sample s;
    mx_memory_fail_at(n);
    st = parse_one("sizes", "(1,2,3,4,5,6,7,8,9,10)", &s);
    mx_memory_fail_at(0);
    if (st == MX_OK)
      mx_params_free(sample_table, &s);
    else
      CHECK_INT(st, MX_ERR_MEMORY);
    CHECK_INT(mx_memory_live_blocks(), before);
  }
  CHECK_INT(st, MX_OK);
}

/* ---- pool and devices ---- */

TEST(pool_reuses_blocks) {
  void *a, *b, *c;
  mx_pool_trim();
  mx_pool_stats s0 = mx_pool_statistics(MX_CPU);
  CHECK_INT(s0.cached_bytes, 0);
  REQUIRE_OK(mx_pool_alloc(cpu, 100000, &a, &err), err);
  mx_pool_stats s1 = mx_pool_statistics(MX_CPU);
  CHECK_INT(s1.live_blocks, s0.live_blocks + 1);
  CHECK(s1.used_bytes - s0.used_bytes >= 100000 && s1.used_bytes - s0.used_bytes <= 125000);
  CHECK(s1.peak_bytes >= s1.used_bytes);
  mx_pool_free(cpu, a, 100000);
  CHECK(mx_pool_statistics(MX_CPU).cached_bytes >= 100000);
  mx_memory_fail_at(1); /* the cached block needs no allocation */
  REQUIRE_OK(mx_pool_alloc(cpu, 99999, &b, &err), err);
  mx_memory_fail_at(0);
  CHECK(a == b);
  mx_pool_free(cpu, b, 99999);
  mx_pool_trim();
  CHECK_INT(mx_pool_statistics(MX_CPU).cached_bytes, 0);
  CHECK_INT(mx_pool_statistics(MX_CPU).used_bytes, s0.used_bytes);
  REQUIRE_OK(mx_pool_alloc(cpu, 0, &c, &err), err);
  CHECK(c);
  mx_pool_free(cpu, c, 0);
  mx_pool_free(cpu, NULL, 10);
  CHECK_FAILS(mx_pool_alloc(cpu, SIZE_MAX, &c, &err), MX_ERR_MEMORY, err, "memory");
}
TEST(pool_gives_cached_blocks_back_when_memory_ends) {
  void *a, *b;
  REQUIRE_OK(mx_pool_alloc(cpu, 1 << 20, &a, &err), err);
  mx_pool_free(cpu, a, 1 << 20);
  mx_memory_fail_at(1);
  REQUIRE_OK(mx_pool_alloc(cpu, 1 << 21, &b, &err), err); /* fails, trims, tries again */
  mx_memory_fail_at(0);
  CHECK_INT(mx_pool_statistics(MX_CPU).cached_bytes, 0);
  mx_pool_free(cpu, b, 1 << 21);
  mx_pool_trim();
}
TEST(pool_does_not_grow_with_sizes_that_vary) {
  void *a;
  mx_pool_trim();
  int64_t peak = mx_pool_statistics(MX_CPU).peak_bytes, used = mx_pool_statistics(MX_CPU).used_bytes;
  size_t size = (size_t)(peak - used) + (1 << 20); /* the largest that ever was */
  for (int i = 0; i < 20; i++) {
    REQUIRE_OK(mx_pool_alloc(cpu, size - (size_t)i * size / 25, &a, &err), err);
    mx_pool_free(cpu, a, size - (size_t)i * size / 25);
    mx_pool_stats s = mx_pool_statistics(MX_CPU);
    CHECK(s.used_bytes + s.cached_bytes <= s.peak_bytes);
  }
  REQUIRE_OK(mx_pool_alloc(cpu, 4096, &a, &err), err); /* what is used often stays when others have to go */
  mx_pool_free(cpu, a, 4096);
  for (int i = 0; i < 8; i++) {
    void *b, *again;
    REQUIRE_OK(mx_pool_alloc(cpu, size >> i, &b, &err), err);
    mx_pool_free(cpu, b, size >> i);
    int64_t cached = mx_pool_statistics(MX_CPU).cached_bytes;
    REQUIRE_OK(mx_pool_alloc(cpu, 4096, &again, &err), err);
    if (i > 0) CHECK_INT(mx_pool_statistics(MX_CPU).cached_bytes, cached - 4096);
    mx_pool_free(cpu, again, 4096);
  }
  mx_pool_trim();
}
TEST(pool_size_classes) {
  mx_pool_trim();
  for (size_t bytes = 1; bytes < (size_t)1 << 22; bytes = bytes * 5 / 4 + 1) {
    void *a, *b;
    int64_t before = mx_pool_statistics(MX_CPU).used_bytes;
    REQUIRE_OK(mx_pool_alloc(cpu, bytes, &a, &err), err);
    int64_t size = mx_pool_statistics(MX_CPU).used_bytes - before;
    CHECK(size >= (int64_t)bytes && (size <= 64 || size <= (int64_t)bytes * 5 / 4 + 1));
    memset(a, 1, bytes);
    mx_pool_free(cpu, a, bytes);
    REQUIRE_OK(mx_pool_alloc(cpu, (size_t)size, &b, &err), err); /* the top of the class */
    CHECK(a == b);
    memset(b, 1, (size_t)size);
    mx_pool_free(cpu, b, (size_t)size);
    CHECK_INT(mx_pool_statistics(MX_CPU).used_bytes, before);
  }
  mx_pool_trim();
}
TEST(devices) {
  mx_device *a, *b;
  CHECK_OK(mx_device_get(MX_CPU, 1, &a, &err), err);
  CHECK_OK(mx_device_get(MX_CPU, 1, &b, &err), err);
  CHECK(a == b && a != cpu);
  CHECK_FAILS(mx_device_get(MX_CPU, -1, &a, &err), MX_ERR_DEVICE, err, "-1");
  CHECK_FAILS(mx_device_get(MX_CPU, 100000, &a, &err), MX_ERR_DEVICE, err, "100000");
  CHECK_FAILS(mx_device_get((mx_device_kind)7, 0, &a, &err), MX_ERR_DEVICE, err, "7");
  CHECK_TEXT(mx_device_kind_name(MX_GPU), "gpu");
  if (mx_device_count(MX_GPU) == 0) CHECK_FAILS(mx_device_get(MX_GPU, 0, &a, &err), MX_ERR_DEVICE, err, "gpu(0)");
}
TEST(build_info) {
  mx_build b = mx_build_info();
  CHECK(b.compiler[0] && b.simd[0] && strstr(b.blas, "OpenBLAS"));
  CHECK(b.cores >= 1 && b.threads >= 1 && b.gpus == mx_device_count(MX_GPU));
#ifdef MX_HAVE_DNNL
  CHECK(b.onednn[0]);
#else
  CHECK_TEXT(b.onednn, "");
#endif
}

/* ---- matrix products ---- */

static double value_of(const void *data, mx_dtype t, int64_t i) {
  MX_SWITCH_ALL(t, return NAN, return (double)((const T *)data)[i];)
  return NAN;
}

/* All transpositions, types, alpha, beta and batches against the definition. Strides leave a gap in every row. */
static void check_gemm(mx_dtype t, bool ta, bool tb, int m, int n, int k, int batch, double alpha, double beta) {
  int lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 2, ldc = n + 3;
  int ra = ta ? k : m, rb = tb ? n : k;
  size_t na = (size_t)(ra * lda), nb = (size_t)(rb * ldb), nc = (size_t)(m * ldc), all = na + nb + nc;
  double *v = malloc(all * (size_t)batch * sizeof(double) + 8);
  char *x = malloc(all * (size_t)batch * 8 + 8);
  for (size_t i = 0; i < all * (size_t)batch; i++) v[i] = (double)((i * 7 + 3) % 11) / 4 - 1;
  double *a = v, *b = v + na * (size_t)batch, *c = b + nb * (size_t)batch;
  if (beta == 0)
    for (size_t i = 0; i < nc * (size_t)batch; i++) c[i] = NAN; /* must not be read */
  mx_convert(v, MX_FLOAT64, x, t, (int64_t)(all * (size_t)batch));
  size_t e = mx_dtype_size(t);
  mx_gemm g = {.trans_a = ta,
               .trans_b = tb,
               .m = m,
               .n = n,
               .k = k,
               .alpha = alpha,
               .beta = beta,
               .dtype = t,
               .a = x,
               .b = x + na * (size_t)batch * e,
               .c = x + (na + nb) * (size_t)batch * e,
               .lda = lda,
               .ldb = ldb,
               .ldc = ldc,
               .batch = batch,
               .stride_a = (int64_t)na,
               .stride_b = (int64_t)nb,
               .stride_c = (int64_t)nc};
  REQUIRE_OK(cpu->ops->gemm(cpu, &g, &err), err);
  double tol = t == MX_FLOAT16 ? 0.1 : 1e-4;
  for (int s = 0; s < batch; s++)
    for (int i = 0; i < m; i++)
      for (int j = 0; j < ldc; j++) {
        const double *as = a + (size_t)s * na, *bs = b + (size_t)s * nb;
        double old = c[(size_t)s * nc + (size_t)(i * ldc + j)], sum = 0;
        double got = value_of(g.c, t, (int64_t)((size_t)s * nc) + i * ldc + j);
        for (int p = 0; p < k && j < n; p++)
          sum += as[ta ? p * lda + i : i * lda + p] * bs[tb ? j * ldb + p : p * ldb + j];
        double want = j < n ? alpha * sum + (beta == 0 ? 0 : beta * old) : old;
        if (!(fabs(got - want) <= tol) && !(isnan(got) && isnan(want)))
          check_report(__FILE__, __LINE__, "%s%s%s m %d n %d k %d alpha %g beta %g [%d,%d,%d]: %g, expected %g",
                       mx_dtype_name(t), ta ? " T" : "", tb ? " ,T" : "", m, n, k, alpha, beta, s, i, j, got, want);
      }
  free(v), free(x);
}
TEST(gemm_against_the_definition) {
  const mx_dtype types[] = {MX_FLOAT32, MX_FLOAT64, MX_FLOAT16};
  const int sizes[][3] = {{1, 1, 1}, {1, 5, 7}, {6, 1, 3}, {4, 5, 6}, {17, 9, 33}, {3, 4, 0}};
  const double scale[][2] = {{1, 0}, {1, 1}, {0.5, 2}};
  for (int t = 0; t < 3; t++)
    for (int z = 0; z < 6; z++)
      for (int w = 0; w < 3; w++)
        for (int tr = 0; tr < 4; tr++)
          for (int batch = 1; batch <= 3; batch += 2)
            check_gemm(types[t], tr & 1, tr & 2, sizes[z][0], sizes[z][1], sizes[z][2], batch, scale[w][0],
                       scale[w][1]);
  mx_gemm g = {.m = 1, .n = 1, .k = 1, .dtype = MX_INT32};
  CHECK_FAILS(cpu->ops->gemm(cpu, &g, &err), MX_ERR_TYPE, err, "int32");
}

/* The same bits with any number of threads. */
TEST(gemm_does_not_depend_on_threads) {
  const int sizes[][3] = {{100, 128, 784}, {128, 784, 100}, {1, 1000, 3000},
                          {300, 300, 300}, {64, 64, 5000},  {999, 33, 77}};
  for (int z = 0; z < 6; z++) {
    int m = sizes[z][0], n = sizes[z][1], k = sizes[z][2];
    size_t na = (size_t)(m * k), nb = (size_t)(k * n), nc = (size_t)(m * n);
    float *x = malloc((na + nb + 2 * nc) * sizeof(float)), *c = x + na + nb;
    for (size_t i = 0; i < na + nb; i++) x[i] = (float)(i * 2654435761u % 1000) / 999 - 0.5f;
    for (int tr = 0; tr < 4; tr++) {
      mx_gemm g = {.trans_a = tr & 1,
                   .trans_b = tr & 2,
                   .m = m,
                   .n = n,
                   .k = k,
                   .alpha = 1,
                   .a = x,
                   .b = x + na,
                   .c = c,
                   .lda = tr & 1 ? m : k,
                   .ldb = tr & 2 ? k : n,
                   .ldc = n,
                   .dtype = MX_FLOAT32};
      mx_threads_set(1);
      CHECK_OK(cpu->ops->gemm(cpu, &g, &err), err);
      g.c = c + nc;
      for (int threads = 2; threads <= 4; threads++) {
        mx_threads_set(threads);
        CHECK_OK(cpu->ops->gemm(cpu, &g, &err), err);
        CHECK(memcmp(c, c + nc, nc * sizeof(float)) == 0);
      }
    }
    free(x);
  }
  mx_threads_set(0);
}

/* ---- random numbers ---- */

/* Philox 4x32-10 written from the paper, with all four counter words. */
static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4], k[2] = {key[0], key[1]};
  memcpy(c, counter, sizeof(c));
  for (int round = 0; round < 10; round++) {
    uint64_t p = (uint64_t)0xD2511F53 * c[0], q = (uint64_t)0xCD9E8D57 * c[2];
    uint32_t next[4] = {(uint32_t)(q >> 32) ^ c[1] ^ k[0], (uint32_t)q, (uint32_t)(p >> 32) ^ c[3] ^ k[1], (uint32_t)p};
    memcpy(c, next, sizeof(c));
    k[0] += 0x9E3779B9, k[1] += 0xBB67AE85;
  }
  memcpy(out, c, sizeof(c));
}
TEST(philox_known_answers) {
  static const struct {
    uint32_t counter[4], key[2], want[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  uint32_t out[4], want[4];
  for (int i = 0; i < 3; i++) {
    philox(known[i].counter, known[i].key, out);
    CHECK(memcmp(out, known[i].want, sizeof(out)) == 0);
  }
  mx_philox((mx_random_span){0, 0}, 0, 0, out);
  CHECK(memcmp(out, known[0].want, sizeof(out)) == 0);
  for (uint64_t i = 0; i < 1000; i++) {
    mx_random_span s = {.key = i * 0x9E3779B97F4A7C15u, .base = i << 30};
    uint32_t counter[4] = {(uint32_t)(s.base + i), (uint32_t)((s.base + i) >> 32), (uint32_t)i % 5, 0};
    uint32_t key[2] = {(uint32_t)s.key, (uint32_t)(s.key >> 32)};
    philox(counter, key, want);
    mx_philox(s, i, (uint32_t)i % 5, out);
    CHECK(memcmp(out, want, sizeof(out)) == 0);
  }
}
TEST(random_sequence) {
  mx_random_seed(1);
  mx_random_span a = mx_random_take(10), b = mx_random_take(1);
  CHECK_INT(b.base, a.base + 10);
  CHECK(a.key == b.key);
  mx_random_seed(1);
  mx_random_span again = mx_random_take(10);
  CHECK(again.key == a.key && again.base == a.base);
  mx_random_seed(2);
  CHECK(mx_random_take(1).key != a.key);
  mx_random_seed(0);
  double sum = 0, squares = 0;
  mx_random_span s = mx_random_take(100000);
  for (uint64_t i = 0; i < 100000; i++) {
    uint32_t u[4];
    mx_philox(s, i, 0, u);
    for (int k = 0; k < 4; k++) {
      double x = mx_uniform_float(u[k]);
      CHECK(x >= 0 && x < 1);
      sum += x, squares += x * x;
    }
  }
  CHECK_NEAR(sum / 4e5, 0.5, 0.002);
  CHECK_NEAR(squares / 4e5, 1.0 / 3, 0.002);
  CHECK_NEAR(mx_uniform_float(0xffffffffu), 1 - 0x1p-24, 0);
  CHECK(mx_uniform_double(0, 0) > 0 && mx_uniform_double(~0u, ~0u) < 1);
}

/* ---- threads ---- */

TEST(thread_limits) {
  mx_threads_set(3);
  CHECK_INT(mx_threads(), 3);
  CHECK_INT(mx_threads_for(0, 10), 1);
  CHECK_INT(mx_threads_for(25, 10), 2);
  CHECK_INT(mx_threads_for(1000, 10), 3);
  CHECK_INT(mx_threads_for(1000, 0), 3);
  int inside = 0;
#pragma omp parallel num_threads(2) reduction(max : inside)
  inside = mx_threads();
  CHECK_INT(inside, 1);
  mx_threads_set(0);
  CHECK(mx_threads() >= 1);
}
/* Other processes want every core: fewer threads after a while. */
TEST(threads_make_room_for_other_processes) {
  enum { MOST = 64 };
  pid_t other[2 * MOST];
  mx_threads_set(0);
  int cores = omp_get_num_procs() < MOST ? omp_get_num_procs() : MOST;
  mx_threads_set(cores > 1 ? cores : 2);
  fflush(stdout);
  for (int i = 0; i < 2 * cores; i++)
    if ((other[i] = fork()) == 0) {
      alarm(20);
      for (volatile int busy = 1; busy;) {
      }
    }
  time_t begin = time(NULL);
  while (mx_threads_now() == mx_threads() && time(NULL) < begin + 15)
    for (volatile int i = 0; i < 100000; i++) {
    }
  CHECK(mx_threads_now() < mx_threads());
  CHECK_INT(mx_threads_for(1000, 1), mx_threads_now());
  mx_threads_forced = true;
  CHECK_INT(mx_threads_for(1, 1), mx_threads());
  mx_threads_forced = false;
  for (int i = 0; i < 2 * cores; i++) {
    kill(other[i], SIGKILL);
    waitpid(other[i], NULL, 0);
  }
  mx_threads_set(0);
  CHECK_INT(mx_threads_now(), mx_threads());
}
static bool stop_asked;
static bool stop(void) { return stop_asked; }
TEST(interruption) {
  CHECK(!mx_interrupted());
  mx_interrupt_handler(stop);
  CHECK(!mx_interrupted());
  stop_asked = true;
  CHECK(mx_interrupted());
  mx_interrupt_handler(NULL);
  CHECK(!mx_interrupted());
}
/* What a forked worker does: a large conversion and a large product, after the parent used all its threads. */
static int work_of_child(void) {
  enum { N = 300 };
  static float a[N * N], b[N * N], c[N * N];
  static double d[N * N];
  for (int i = 0; i < N * N; i++) a[i] = 1, b[i] = 2;
  mx_gemm g = {
      .m = N, .n = N, .k = N, .alpha = 1, .a = a, .b = b, .c = c, .lda = N, .ldb = N, .ldc = N, .dtype = MX_FLOAT32};
  if (cpu->ops->gemm(cpu, &g, &err) != MX_OK) return 1;
  mx_convert(c, MX_FLOAT32, d, MX_FLOAT64, N * N);
  for (int i = 0; i < N * N; i++)
    if (d[i] != 2 * N) return 2;
  return 0;
}
TEST(forked_child_computes) {
  mx_threads_set(4);
  CHECK_INT(work_of_child(), 0);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    alarm(20); /* a hang ends the child, not the test */
    _exit(mx_threads() != 1 ? 3 : work_of_child());
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), 0);
  CHECK_INT(mx_threads(), 4);
  mx_threads_set(0);
}

int main(int argc, char **argv) {
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK) return printf("%s\n", err.message), 2;
  RUN(error_messages);
  RUN(memory_counts_blocks);
  RUN(memory_fails_when_asked);
  RUN(dict_keeps_keys_sorted);
  RUN(dict_survives_lack_of_memory);
  RUN(params_have_defaults);
  RUN(params_are_read);
  RUN(params_read_tuples);
  RUN(params_say_what_is_wrong);
  RUN(params_read_long_lists);
  RUN(params_survive_any_text);
  RUN(params_survive_lack_of_memory);
  RUN(pool_reuses_blocks);
  RUN(pool_gives_cached_blocks_back_when_memory_ends);
  RUN(pool_does_not_grow_with_sizes_that_vary);
  RUN(pool_size_classes);
  RUN(devices);
  RUN(build_info);
  RUN(gemm_against_the_definition);
  RUN(gemm_does_not_depend_on_threads);
  RUN(philox_known_answers);
  RUN(random_sequence);
  RUN(thread_limits);
  RUN(threads_make_room_for_other_processes);
  RUN(interruption);
  RUN(forked_child_computes);
  return check_finish();
}
