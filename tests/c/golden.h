/* The cases of tests/golden (README.md there): their attributes and tensors, as the files have them. */
#ifndef MX_TESTS_GOLDEN_H
#define MX_TESTS_GOLDEN_H

#include "core/dict.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "files.h"

typedef struct golden {
  const char *op, *id, *tag;
  json_t *json;
  const char *data; /* the file of numbers */
  size_t data_bytes;
  bool imperative, is_train, has_gradient;
} golden;

typedef struct tensor {
  const char *name, *role;
  mx_dtype dtype;
  mx_shape shape;
  const void *data;
} tensor;

static const char *text_of(json_t *object, const char *key) {
  const char *s = json_string_value(json_object_get(object, key));
  return s ? s : "";
}

/* The n-th tensor of a role, or the one of that name when `name` is given. False when there is none. */
static bool find_tensor(const golden *g, const char *role, const char *name, int nth, tensor *out) {
  size_t i;
  json_t *t, *d;
  json_array_foreach(json_object_get(g->json, "tensors"), i, t) {
    if (strcmp(text_of(t, "role"), role) != 0) continue;
    if (name ? strcmp(text_of(t, "name"), name) != 0 : nth-- > 0) continue;
    *out =
        (tensor){.name = text_of(t, "name"), .role = text_of(t, "role"), .dtype = mx_dtype_parse(text_of(t, "dtype"))};
    size_t k;
    json_array_foreach(json_object_get(t, "shape"), k, d) out->shape.dim[out->shape.ndim++] = json_integer_value(d);
    json_int_t offset = json_integer_value(json_object_get(t, "offset"));
    size_t bytes = (size_t)mx_shape_size(&out->shape) * mx_dtype_size(out->dtype);
    if (offset < 0 || (size_t)offset + bytes > g->data_bytes) return false;
    out->data = g->data + offset;
    return true;
  }
  return false;
}
static int count_names(const golden *g, const char *list) {
  return (int)json_array_size(json_object_get(g->json, list));
}
static const char *name_at(const golden *g, const char *list, int i) {
  return json_string_value(json_array_get(json_object_get(g->json, list), (size_t)i));
}

static mx_status attributes(const golden *g, mx_dict *out, mx_error *err) {
  const char *key;
  json_t *value;
  json_object_foreach(json_object_get(g->json, "attrs"), key, value)
      MX_TRY(mx_dict_set(out, key, json_string_value(value), err));
  return MX_OK;
}

/* A file of cases, open: those of one operator. */
typedef struct golden_file {
  json_t *doc, *cases;
  const char *op;
  char *data;
  size_t bytes;
  int n;
} golden_file;

/* False for files that have no cases (index.json, samplers.json). Without its numbers, `data` is NULL. */
static bool golden_open(const char *folder, const char *path, golden_file *f) {
  char data[4096];
  *f = (golden_file){.doc = json_load_file(path, 0, NULL)};
  f->op = f->doc ? text_of(f->doc, "op") : "";
  f->cases = json_object_get(f->doc, "cases");
  if (!f->op[0] || !json_is_array(f->cases)) {
    json_decref(f->doc);
    return false;
  }
  snprintf(data, sizeof(data), "%s/%s", folder, text_of(f->doc, "data"));
  f->data = file_bytes(data, &f->bytes);
  f->n = (int)json_array_size(f->cases);
  return true;
}
static void golden_close(golden_file *f) {
  free(f->data);
  json_decref(f->doc);
}
static golden golden_case(const golden_file *f, int i) {
  json_t *c = json_array_get(f->cases, (size_t)i);
  return (golden){.op = f->op,
                  .id = text_of(c, "id"),
                  .tag = text_of(c, "tag"),
                  .json = c,
                  .data = f->data,
                  .data_bytes = f->bytes,
                  .imperative = strcmp(text_of(c, "mode"), "imperative") == 0,
                  .is_train = json_is_true(json_object_get(c, "is_train")),
                  .has_gradient = strcmp(text_of(c, "gradient"), "yes") == 0};
}

#endif
