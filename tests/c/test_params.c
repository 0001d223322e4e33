/* Parameter files: every form against what the reference read, round trips, damage, and a lack of memory. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "fuzz_params.c"
#include "io/file.h"

static mx_device *cpu;
static char folder[] = "/tmp/mx-params-XXXXXX";

static mx_status load(const char *path, mx_array_list *l, mx_error *err) { return mx_params_load(path, cpu, l, err); }
static mx_status encode(const mx_array_list *l, void **bytes, size_t *size, mx_error *err) {
  return mx_params_encode(l->array, (const char *const *)l->name, l->n, bytes, size, err);
}
static const char *inside(const char *name) {
  static char path[512];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

/* ---- what the files hold ---- */

static void compare_tensor(const mx_array_list *l, int i, const json_t *t, const char *numbers) {
  const mx_array *a = l->array[i];
  mx_shape want = {0};
  size_t k;
  json_t *d;
  json_array_foreach(json_object_get(t, "shape"), k, d) want.dim[want.ndim++] = json_integer_value(d);
  CHECK(mx_shape_equal(&a->shape, &want));
  CHECK_TEXT(mx_dtype_name(a->dtype), json_string_value(json_object_get(t, "dtype")));
  REQUIRE(mx_array_bytes(a) == (size_t)json_integer_value(json_object_get(t, "nbytes")));
  CHECK(!memcmp(mx_array_data(a), numbers + json_integer_value(json_object_get(t, "offset")), mx_array_bytes(a)));
}

static void compare_file(const json_t *c, const char *numbers) {
  mx_error err;
  mx_array_list l;
  char path[512];
  snprintf(path, sizeof(path), GRAPHS "%s", json_string_value(json_object_get(c, "id")));
  REQUIRE_OK(load(path, &l, &err), err);
  bool named = !strcmp(json_string_value(json_object_get(c, "names")), "dict");
  CHECK_INT(l.n, json_integer_value(json_object_get(c, "count")));
  CHECK(!l.name == !named);
  size_t i;
  json_t *t;
  json_array_foreach(json_object_get(c, "tensors"), i, t) {
    REQUIRE((int)i < l.n);
    compare_tensor(&l, (int)i, t, numbers);
    if (named) {
      const char *name = json_string_value(json_object_get(t, "name"));
      bool empty = strstr(path, "names.params") && !strcmp(name, "2"); /* recorded under its number */
      CHECK_TEXT(l.name[i], empty ? "" : name);
    }
  }
  mx_array_list_free(&l);
}

TEST(recorded_files) {
  size_t size;
  json_t *all = json_load_file(GRAPHS "params_files.case.json", 0, NULL);
  char *numbers = file_bytes(GRAPHS "params_files.case.bin", &size);
  REQUIRE(all && numbers);
  size_t i;
  json_t *c;
  CHECK_INT(json_array_size(json_object_get(all, "cases")), 8);
  json_array_foreach(json_object_get(all, "cases"), i, c) compare_file(c, numbers);
  free(numbers);
  json_decref(all);
}

TEST(empty_and_zero_sized) {
  mx_error err;
  mx_array_list l;
  REQUIRE_OK(load(GRAPHS "empty_list.params", &l, &err), err);
  CHECK_INT(l.n, 0);
  CHECK(!l.name);
  mx_array_list_free(&l);
  REQUIRE_OK(load(GRAPHS "zero_size.params", &l, &err), err);
  CHECK_INT(l.n, 2);
  CHECK_TEXT(l.name[1], "scalar");
  mx_shape empty = mx_shape_of(0, 3);
  CHECK(mx_shape_equal(&l.array[0]->shape, &empty));
  CHECK_INT(l.array[1]->shape.ndim, 0);
  CHECK_NEAR(*(float *)mx_array_data(l.array[1]), 0, 0);
  mx_array_list_free(&l);
}

/* ---- writing ---- */

/* Files of today's version come out byte for byte; of older ones, the arrays and names stay. */
static void round_trip(const char *path) {
  mx_error err;
  mx_array_list l, again;
  void *bytes;
  size_t size, old_size;
  char *old = file_bytes(path, &old_size);
  REQUIRE(old);
  REQUIRE_OK(load(path, &l, &err), err);
  REQUIRE_OK(encode(&l, &bytes, &size, &err), err);
  uint32_t magic = 0;
  if (l.n) memcpy(&magic, old + 24, 4);
  bool sparse = l.n && !memcmp(old + 24, "\xC9\xFA\x93\xF9\x01", 5);
  if (l.n == 0 || (magic >= 0xF993FAC9u && !sparse)) {
    if (size != old_size || memcmp(bytes, old, size)) check_report(__FILE__, __LINE__, "%s changed", base_of(path));
  }
  REQUIRE_OK(mx_params_decode(bytes, size, cpu, &again, &err), err);
  CHECK_INT(again.n, l.n);
  for (int i = 0; i < l.n; i++) {
    CHECK(mx_shape_equal(&l.array[i]->shape, &again.array[i]->shape));
    CHECK(!memcmp(mx_array_data(l.array[i]), mx_array_data(again.array[i]), mx_array_bytes(l.array[i])));
    if (l.name) CHECK_TEXT(again.name[i], l.name[i]);
  }
  const char *saved = inside("round.params");
  REQUIRE_OK(mx_params_save(saved, l.array, (const char *const *)l.name, l.n, &err), err);
  size_t saved_size;
  char *text = file_bytes(saved, &saved_size);
  CHECK(text && saved_size == size && !memcmp(text, bytes, size));
  free(text);
  free(old);
  mx_free(bytes);
  mx_array_list_free(&l);
  mx_array_list_free(&again);
}

static void round_trip_folder(const char *path, const char *suffix, int at_least) {
  int n;
  char **list = files_of(path, suffix, &n);
  CHECK(n >= at_least);
  for (int i = 0; i < n; i++) round_trip(list[i]);
  free_files(list, n);
}

TEST(round_trips) { round_trip_folder(GRAPHS, ".params", 16); }

TEST(round_trips_of_real_files) {
  char path[512];
  snprintf(path, sizeof(path), "%s/models", real_data());
  round_trip_folder(path, ".params", 1);
  snprintf(path, sizeof(path), "%s/nd", real_data());
  round_trip_folder(path, ".params", 1);
  round_trip_folder(path, ".nd", 1);
  round_trip_folder(path, ".v0", 1);
}

/* The layout as documented for the R interface: one float32 vector called "a". */
TEST(known_bytes) {
  static const unsigned char want[] = {
      0x12, 1,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,  0, 0,    0,    0, 0, 0, 0, /* list of one */
      0xC9, 0xFA, 0x93, 0xF9, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0,  0, 0,    0,                /* shape (2,) */
      1,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0x80, 0x3F,             /* cpu, float32, 0 1 */
      1,    0,    0,    0,    0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a'};                          /* its name */
  mx_error err;
  mx_array *a;
  mx_shape two = mx_shape_of(2);
  void *bytes;
  size_t size;
  REQUIRE_OK(mx_array_new(cpu, &two, MX_FLOAT32, &a, &err), err);
  memcpy(mx_array_data(a), (float[]){0, 1}, 8);
  REQUIRE_OK(mx_params_encode(&a, (const char *const[]){"a"}, 1, &bytes, &size, &err), err);
  CHECK(size == sizeof(want) && !memcmp(bytes, want, size));
  mx_free(bytes);
  mx_array_release(a);
}

/* ---- files ---- */

TEST(replaces_a_file_as_a_whole) {
  mx_error err;
  struct stat info;
  const char *path = inside("whole.txt");
  char link[512];
  snprintf(link, sizeof(link), "%s/link.txt", folder);
  REQUIRE_OK(mx_file_save_text(path, "old", &err), err);
  CHECK(chmod(path, 0640) == 0 && symlink("whole.txt", link) == 0);
  mx_file_writer *w;
  REQUIRE_OK(mx_file_create(link, &w, &err), err);
  CHECK_OK(mx_file_write(w, "new text", 8, &err), err);
  char *text;
  size_t size;
  REQUIRE((text = file_bytes(path, &size)));
  CHECK_TEXT(text, "old"); /* not committed yet */
  free(text);
  CHECK_OK(mx_file_commit(w, &err), err);
  REQUIRE((text = file_bytes(path, &size)));
  CHECK_TEXT(text, "new text");
  CHECK_INT(size, 8);
  free(text);
  CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0640);
  CHECK(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
  REQUIRE_OK(mx_file_create(path, &w, &err), err);
  mx_file_abandon(w);
  int n;
  char **left = files_of(folder, "", &n);
  for (int i = 0; i < n; i++) CHECK(!strstr(left[i], ".tmp-"));
  free_files(left, n);
}

TEST(reports_what_the_system_says) {
  mx_error err;
  mx_array_list l;
  CHECK_FAILS(load(inside("nowhere.params"), &l, &err), MX_ERR_IO, err, "No such file");
  CHECK_FAILS(load(folder, &l, &err), MX_ERR_IO, err, "not a regular file");
  CHECK_FAILS(mx_params_save(inside("no/such/folder.params"), NULL, NULL, 0, &err), MX_ERR_IO, err, "No such file");
  CHECK_FAILS(mx_params_save(folder, NULL, NULL, 0, &err), MX_ERR_IO, err, "directory");
}

TEST(a_full_disk_leaves_the_old_file) {
  mx_error err;
  mx_array *a;
  mx_shape shape = mx_shape_of(100000);
  const char *path = inside("full.params");
  REQUIRE_OK(mx_file_save_text(path, "old", &err), err);
  REQUIRE_OK(mx_array_zeros(cpu, &shape, MX_FLOAT32, &a, &err), err);
  struct rlimit old, tight;
  getrlimit(RLIMIT_FSIZE, &old);
  tight = (struct rlimit){4096, old.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &tight);
  CHECK_FAILS(mx_params_save(path, &a, NULL, 1, &err), MX_ERR_IO, err, "too large");
  setrlimit(RLIMIT_FSIZE, &old);
  mx_array_release(a);
  char *text;
  size_t size;
  REQUIRE((text = file_bytes(path, &size)));
  CHECK_TEXT(text, "old");
  free(text);
  int n;
  char **left = files_of(folder, "", &n);
  for (int i = 0; i < n; i++) CHECK(!strstr(left[i], ".tmp-"));
  free_files(left, n);
}

/* ---- damage ---- */

/* Decodes exactly `size` bytes in a block of their own. */
static mx_status decode_copy(const char *bytes, size_t size, mx_error *err) {
  char *copy = malloc(size ? size : 1);
  memcpy(copy, bytes, size);
  mx_array_list l;
  mx_status status = mx_params_decode(copy, size, cpu, &l, err);
  if (status == MX_OK) mx_array_list_free(&l);
  free(copy);
  return status;
}

TEST(truncated_at_every_byte) {
  int n;
  mx_error err;
  char **list = files_of(GRAPHS, ".params", &n);
  for (int i = 0; i < n; i++) {
    size_t size;
    char *bytes = file_bytes(list[i], &size);
    for (size_t k = 0; k < size; k++)
      if (decode_copy(bytes, k, &err) != MX_ERR_FORMAT)
        check_report(__FILE__, __LINE__, "%s cut at byte %zu was not refused", base_of(list[i]), k);
    char *longer = malloc(size + 1);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    CHECK_FAILS(decode_copy(longer, size + 1, &err), MX_ERR_FORMAT, err, "1 bytes follow");
    free(longer);
    free(bytes);
  }
  free_files(list, n);
}

TEST(changed_bytes) {
  int n;
  uint64_t state = 1;
  char **list = files_of(GRAPHS, ".params", &n);
  for (int i = 0; i < n; i++) {
    size_t size;
    char *bytes = file_bytes(list[i], &size);
    for (size_t k = 0; k < 8 * size && k < 20000; k++) { /* every bit of the small files */
      bytes[k / 8] ^= (char)(1 << k % 8);
      LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
      bytes[k / 8] ^= (char)(1 << k % 8);
    }
    for (int k = 0; k < 3000; k++) {
      size_t length = size;
      char *changed = mutate(bytes, &length, &state);
      LLVMFuzzerTestOneInput((const uint8_t *)changed, length);
      free(changed);
    }
    free(bytes);
  }
  free_files(list, n);
}

/* A file of the given words of 32 bits behind the head of a list of `count`. */
static mx_status decode_words(uint64_t count, const uint32_t *words, int n, mx_error *err) {
  char bytes[512];
  uint64_t head[] = {0x112, 0, count};
  memcpy(bytes, head, 24);
  memcpy(bytes + 24, words, 4 * (size_t)n);
  return decode_copy(bytes, 24 + 4 * (size_t)n, err);
}
#define WORDS(...) (const uint32_t[]){__VA_ARGS__}, (int)(sizeof((uint32_t[]){__VA_ARGS__}) / 4)

TEST(lengths_that_lie) {
  mx_error err;
  uint32_t v2 = 0xF993FAC9u, all = 0xFFFFFFFFu;
  CHECK_FAILS(decode_copy("", 0, &err), MX_ERR_FORMAT, err, "only 0 are left");
  CHECK_FAILS(decode_copy("this is not such a file.", 24, &err), MX_ERR_FORMAT, err, "not a parameter file");
  CHECK_FAILS(decode_words(UINT64_MAX, WORDS(0, 0), &err), MX_ERR_FORMAT, err, "There cannot be");
  CHECK_FAILS(decode_words(3, WORDS(0, 0), &err), MX_ERR_FORMAT, err, "There cannot be 3 arrays");
  CHECK_FAILS(decode_words(1, WORDS(v2, 3, 1, 1), &err), MX_ERR_FORMAT, err, "storage type");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 13, 1), &err), MX_ERR_FORMAT, err, "13 dimensions");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, all, 1), &err), MX_ERR_FORMAT, err, "-1 dimensions");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, all, all, 1, 0, 0), &err), MX_ERR_FORMAT, err,
              "is -1; expected 0 or more");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 2, 0, 1 << 30, 0, 1 << 30, 1, 0, 0), &err), MX_ERR_FORMAT, err, "Array 0");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, 4, 0, 1, 0, 8, 0), &err), MX_ERR_FORMAT, err, "element type");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, 1 << 30, 0, 1, 0, 0, 0), &err), MX_ERR_FORMAT, err, "takes 4294967296");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, 1, 0, 1, 0, 0, 0, 2, 0), &err), MX_ERR_FORMAT, err, "2 names");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, 1, 0, 1, 0, 0, 0, 1, 0, all, all), &err), MX_ERR_FORMAT, err, "A name");
  CHECK_FAILS(decode_words(1, WORDS(v2, 0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0x610061), &err), MX_ERR_FORMAT, err,
              "zero byte");
  /* no data at all, yet a huge array: row-sparse (2^40, 2) without rows */
  CHECK_FAILS(decode_words(1, WORDS(v2, 1, 2, 0, 0, 2, 0, 2, 0, 256, 2, 0, 1, 0, 0, 6, 1, 0, 0, 0, 0), &err),
              MX_ERR_FORMAT, err, "when dense");
  /* row 7 of 3 */
  CHECK_FAILS(decode_words(1, WORDS(v2, 1, 1, 1, 0, 1, 3, 0, 1, 0, 0, 6, 1, 1, 0, 0, 7, 0, 0, 0), &err), MX_ERR_FORMAT,
              err, "number 7; expected 0 to 2");
  /* csr of (1, 2) whose column is 2 */
  CHECK_FAILS(
      decode_words(1, WORDS(v2, 2, 1, 1, 0, 2, 1, 0, 2, 0, 1, 0, 0, 4, 1, 2, 0, 4, 1, 1, 0, 0, 0, 1, 2, 0, 0), &err),
      MX_ERR_FORMAT, err, "column");
}

/* ---- memory ---- */

TEST(every_allocation_may_fail) {
  mx_error err;
  mx_array_list l;
  const char *files[] = {GRAPHS "sparse.params", GRAPHS "names.params", GRAPHS "version0.params"};
  for (int f = 0; f < 3; f++) {
    mx_pool_trim();
    int64_t before = mx_memory_live_blocks();
    mx_status status = MX_ERR_MEMORY;
    for (int64_t n = 1; status != MX_OK && n < 200; n++) {
      mx_memory_fail_at(n);
      status = load(files[f], &l, &err);
      mx_memory_fail_at(0);
      mx_pool_trim();
      if (status == MX_OK) break;
      CHECK_INT(status, MX_ERR_MEMORY);
      CHECK_INT(mx_memory_live_blocks(), before);
    }
    REQUIRE(status == MX_OK);
    int64_t held = mx_memory_live_blocks();
    status = MX_ERR_MEMORY;
    for (int64_t n = 1; status != MX_OK && n < 200; n++) {
      void *bytes = NULL;
      size_t size;
      mx_memory_fail_at(n);
      status = encode(&l, &bytes, &size, &err);
      if (status == MX_OK) mx_free(bytes);
      if (status == MX_OK) status = mx_params_save(inside("fail.params"), l.array, NULL, l.n, &err);
      mx_memory_fail_at(0);
      CHECK(status == MX_OK || status == MX_ERR_MEMORY);
      CHECK_INT(mx_memory_live_blocks(), held);
    }
    CHECK_INT(status, MX_OK);
    mx_array_list_free(&l);
    mx_pool_trim();
    CHECK_INT(mx_memory_live_blocks(), before);
  }
}

int main(int argc, char **argv) {
  mx_error err;
  check_start(argc, argv);
  if (mx_device_get(MX_CPU, 0, &cpu, &err) != MX_OK || !mkdtemp(folder)) return 1;
  RUN(recorded_files);
  RUN(empty_and_zero_sized);
  RUN(round_trips);
  if (real_data()) RUN(round_trips_of_real_files);
  RUN(known_bytes);
  RUN(replaces_a_file_as_a_whole);
  RUN(reports_what_the_system_says);
  RUN(a_full_disk_leaves_the_old_file);
  RUN(truncated_at_every_byte);
  RUN(changed_bytes);
  RUN(lengths_that_lie);
  RUN(every_allocation_may_fail);
  int n;
  char **left = files_of(folder, "t", &n); /* .txt, and nothing else by now */
  for (int i = 0; i < n; i++) unlink(left[i]);
  free_files(left, n);
  left = files_of(folder, ".params", &n);
  for (int i = 0; i < n; i++) unlink(left[i]);
  free_files(left, n);
  rmdir(folder);
  return check_finish();
}
