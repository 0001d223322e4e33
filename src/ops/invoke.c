/* Imperative application: infers, allocates outputs, finds or makes the prepared state, runs the kernel. */
#include <string.h>

#include "core/memory.h"
#include "ops/explain.h"
#include "ops/op.h"

/* Everything one call needs, sized once. */
typedef struct frame {
  int n_in, n_out, n_visible;
  mx_shape *shape; /* inputs, then outputs */
  mx_dtype *dtype;
  mx_tensor *tensor;
  mx_req *req;
  mx_array **out; /* all outputs; hidden ones and temporaries are owned by the frame */
  bool *owned;
} frame;

enum { SMALL = 12 };
typedef struct small_frame {
  mx_shape shape[SMALL];
  mx_dtype dtype[SMALL];
  mx_tensor tensor[SMALL];
  mx_req req[SMALL];
  mx_array *out[SMALL];
  bool owned[SMALL];
} small_frame;

static mx_status frame_init(frame *f, small_frame *small, void **block, mx_error *err) {
  size_t n = (size_t)(f->n_in + f->n_out);
  if (n <= SMALL) {
    f->shape = small->shape, f->dtype = small->dtype, f->tensor = small->tensor;
    f->req = small->req, f->out = small->out, f->owned = small->owned;
    *block = NULL;
  } else {
    size_t each =
        sizeof(mx_tensor) + sizeof(mx_shape) + sizeof(void *) + sizeof(mx_dtype) + sizeof(mx_req) + sizeof(bool);
    char *p = *block = mx_malloc(n * each);
    if (!p) return mx_fail_memory(err, n * each);
    f->tensor = (mx_tensor *)p, p += n * sizeof(mx_tensor);
    f->shape = (mx_shape *)p, p += n * sizeof(mx_shape);
    f->out = (mx_array **)p, p += n * sizeof(void *);
    f->dtype = (mx_dtype *)p, p += n * sizeof(mx_dtype);
    f->req = (mx_req *)p, p += n * sizeof(mx_req);
    f->owned = (bool *)p;
  }
  for (int i = 0; i < f->n_out; i++) f->out[i] = NULL, f->owned[i] = false, f->req[i] = MX_WRITE;
  return MX_OK;
}

static mx_tensor tensor_of(const mx_array *a) {
  return (mx_tensor){.data = mx_array_data(a), .shape = a->shape, .dtype = a->dtype};
}

static mx_status explained(const mx_call *c, mx_status st, mx_error *err) {
  if (st != MX_OK) mx_explain_call(c, err);
  return st;
}

/* ---- prepared states, kept for repeated calls with the same parameters and shapes ---- */

enum { CACHE = 64 };
typedef struct cached {
  const mx_op *op;
  mx_dict attrs;
  uint64_t hash, used;
  int n; /* inputs and outputs */
  mx_shape *shape;
  mx_dtype *dtype;
  bool is_train;
  mx_device *device;
  void *state, *params; /* params live as long as the state, which may point into them */
  size_t workspace_bytes;
} cached;
static cached cache[CACHE];
static uint64_t cache_clock;

static uint64_t mix(uint64_t h, const void *data, size_t n) {
  const unsigned char *p = data;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
  return h;
}

static uint64_t call_hash(const mx_call *c, const mx_dict *attrs, const frame *f) {
  uint64_t h = mix(14695981039346656037u, &c->op, sizeof(c->op));
  for (int i = 0; i < attrs->n; i++) {
    h = mix(h, attrs->key[i], strlen(attrs->key[i]) + 1);
    h = mix(h, attrs->value[i], strlen(attrs->value[i]) + 1);
  }
  for (int i = 0; i < f->n_in + f->n_out; i++) {
    h = mix(h, f->shape[i].dim, (size_t)f->shape[i].ndim * sizeof(int64_t));
    h = mix(h, &f->dtype[i], sizeof(f->dtype[i]));
  }
  return h;
}

static bool same_call(const cached *e, const mx_call *c, const mx_dict *attrs, const frame *f, uint64_t hash) {
  if (e->op != c->op || e->hash != hash || e->is_train != c->is_train || e->device != c->device) return false;
  if (e->n != f->n_in + f->n_out || e->attrs.n != attrs->n) return false;
  for (int i = 0; i < attrs->n; i++)
    if (strcmp(e->attrs.key[i], attrs->key[i]) || strcmp(e->attrs.value[i], attrs->value[i])) return false;
  for (int i = 0; i < e->n; i++)
    if (!mx_shape_equal(&e->shape[i], &f->shape[i]) || e->dtype[i] != f->dtype[i]) return false;
  return true;
}

static void cached_free(cached *e) {
  if (e->op && e->op->release && e->state) e->op->release(e->state);
  if (e->op) mx_op_params_free(e->op, e->params);
  mx_dict_free(&e->attrs);
  mx_free(e->shape);
  mx_free(e->dtype);
  memset(e, 0, sizeof(*e));
}

void mx_invoke_clear_cache(void) {
  for (int i = 0; i < CACHE; i++) cached_free(&cache[i]);
}

/* Takes over *params on success (sets it to the entry's). */
static mx_status cached_make(mx_call *c, void **params, const mx_dict *attrs, const frame *f, uint64_t hash,
                             cached **out, mx_error *err) {
  cached *e = &cache[0];
  for (int i = 1; i < CACHE; i++)
    if (cache[i].used < e->used) e = &cache[i];
  cached_free(e);
  size_t n = (size_t)(f->n_in + f->n_out);
  e->shape = mx_malloc(n * sizeof(mx_shape));
  e->dtype = mx_malloc(n * sizeof(mx_dtype));
  if (!e->shape || !e->dtype) {
    cached_free(e);
    return mx_fail_memory(err, n * sizeof(mx_shape));
  }
  memcpy(e->shape, f->shape, n * sizeof(mx_shape));
  memcpy(e->dtype, f->dtype, n * sizeof(mx_dtype));
  mx_status st = mx_dict_copy(&e->attrs, attrs, err);
  if (st == MX_OK) st = explained(c, c->op->prepare(c, err), err);
  if (st != MX_OK) {
    cached_free(e);
    return st;
  }
  e->op = c->op, e->hash = hash, e->n = (int)n, e->is_train = c->is_train, e->device = c->device;
  e->state = c->state, e->workspace_bytes = c->workspace_bytes;
  e->params = *params;
  *params = NULL;
  *out = e;
  return MX_OK;
}

/* ---- the call ---- */

static mx_status check_inputs(const mx_op *op, const void *params, mx_array **in, int n_in, mx_device *device,
                              mx_error *err) {
  int want = mx_op_count_in(op, params);
  if (want != n_in) {
    mx_fail(err, MX_ERR_VALUE, "%s takes %d input%s, but %d %s given.", op->name, want, want == 1 ? "" : "s", n_in,
            n_in == 1 ? "was" : "were");
    mx_error_set(err, op, "%s", op->name);
    mx_error_set(err, expected, "%d", want);
    mx_error_set(err, actual, "%d", n_in);
    return MX_ERR_VALUE;
  }
  for (int i = 0; i < n_in; i++)
    if (mx_array_device(in[i]) != device) {
      mx_device *d = mx_array_device(in[i]);
      if (d->kind == MX_CPU && device->kind == MX_CPU) continue;
      char name[MX_INPUT_NAME];
      mx_op_in_name(op, params, i, name, sizeof(name));
      return mx_fail(err, MX_ERR_DEVICE, "%s: %s is on %s(%d), but the other inputs are on %s(%d).", op->name, name,
                     mx_device_kind_name(d->kind), d->id, mx_device_kind_name(device->kind), device->id);
    }
  return MX_OK;
}

static mx_status infer(const mx_op *op, const void *params, mx_array **in, mx_array **out, frame *f, mx_error *err) {
  for (int i = 0; i < f->n_in; i++) f->shape[i] = in[i]->shape, f->dtype[i] = in[i]->dtype;
  for (int i = 0; i < f->n_out; i++) {
    mx_array *o = i < f->n_visible ? out[i] : NULL;
    f->shape[f->n_in + i] = o ? o->shape : MX_SHAPE_UNKNOWN;
    f->dtype[f->n_in + i] = o ? o->dtype : MX_DTYPE_UNKNOWN;
  }
  MX_TRY(mx_op_infer_dtype(op, params, f->dtype, f->n_in, f->dtype + f->n_in, f->n_out, err));
  MX_TRY(mx_op_infer_shape(op, params, f->shape, f->n_in, f->shape + f->n_in, f->n_out, err));
  for (int i = 0; i < f->n_out; i++) {
    if (f->dtype[f->n_in + i] == MX_DTYPE_UNKNOWN) f->dtype[f->n_in + i] = MX_FLOAT32;
    if (!mx_shape_known(&f->shape[f->n_in + i]))
      return mx_fail(err, MX_ERR_SHAPE, "%s: the shape of output %d does not follow from the inputs; give it.",
                     op->name, i);
  }
  return MX_OK;
}

/* Whether an output that was given shares memory with an input in a way that the kernel does not allow. */
static bool must_not_overwrite(const mx_op *op, mx_array *o, int index, mx_array **in, int n_in) {
  for (int i = 0; i < n_in; i++) {
    if (in[i]->storage != o->storage) continue;
    size_t a = in[i]->offset, b = o->offset;
    if (a + mx_array_bytes(in[i]) <= b || b + mx_array_bytes(o) <= a) continue;
    bool allowed = false;
    for (const mx_alias *p = op->aliases_mem; p && p->out >= 0; p++)
      if (p->out == index && p->in == i) allowed = a == b && mx_array_bytes(in[i]) == mx_array_bytes(o);
    if (!allowed) return true;
  }
  return false;
}

static mx_status make_outputs(const mx_op *op, mx_array **in, mx_array **out, frame *f, mx_device *device,
                              mx_error *err) {
  for (int i = 0; i < f->n_out; i++) {
    mx_array *given = i < f->n_visible ? out[i] : NULL;
    if (given && !must_not_overwrite(op, given, i, in, f->n_in)) {
      f->out[i] = given;
    } else {
      MX_TRY(mx_array_new(device, &f->shape[f->n_in + i], f->dtype[f->n_in + i], &f->out[i], err));
      f->owned[i] = true;
    }
  }
  return MX_OK;
}

static mx_status run(mx_call *c, mx_kernel kernel, mx_error *err) {
  if (c->workspace_bytes) MX_TRY(mx_pool_alloc(c->device, c->workspace_bytes, &c->workspace, err));
  mx_status st = kernel(c, err);
  if (c->workspace_bytes) mx_pool_free(c->device, c->workspace, c->workspace_bytes);
  return explained(c, st, err);
}

static mx_status prepare_and_run(mx_call *c, void **params, const mx_dict *attrs, const frame *f, mx_error *err) {
  mx_kernel kernel = mx_op_kernel(c->op, c->device->kind);
  if (!kernel)
    return mx_fail(err, MX_ERR_DEVICE, "%s cannot run on %s(%d): it has no kernel there.", c->op->name,
                   mx_device_kind_name(c->device->kind), c->device->id);
  if (!c->op->prepare) return run(c, kernel, err);
  uint64_t hash = call_hash(c, attrs, f);
  cached *e = NULL;
  for (int i = 0; i < CACHE && !e; i++)
    if (same_call(&cache[i], c, attrs, f, hash)) e = &cache[i];
  if (!e) MX_TRY(cached_make(c, params, attrs, f, hash, &e, err));
  e->used = ++cache_clock;
  c->params = e->params;
  c->state = e->state;
  c->workspace_bytes = e->workspace_bytes;
  return run(c, kernel, err);
}

/* Hands outputs to the caller: new ones as they are, temporaries copied into the arrays that were given. */
static mx_status deliver(frame *f, mx_array **out, mx_error *err) {
  for (int i = 0; i < f->n_visible; i++) {
    if (out[i] && f->owned[i]) MX_TRY(mx_array_copy(out[i], f->out[i], err));
  }
  for (int i = 0; i < f->n_visible; i++)
    if (!out[i]) {
      out[i] = f->out[i];
      f->owned[i] = false;
    }
  return MX_OK;
}

mx_status mx_invoke(const mx_op *op, const mx_dict *attrs, mx_array **in, int n_in, mx_array **out, int n_out,
                    mx_device *device, bool is_train, mx_error *err) {
  void *params, *block = NULL;
  MX_TRY(mx_op_params_new(op, attrs, &params, err));
  frame f = {.n_in = n_in, .n_out = mx_op_count_out(op, params), .n_visible = mx_op_count_visible(op, params)};
  small_frame small;
  if (n_in) device = mx_array_device(in[0]);
  mx_status st = check_inputs(op, params, in, n_in, device, err);
  if (st == MX_OK && n_out != f.n_visible)
    st = mx_fail(err, MX_ERR_VALUE, "%s has %d outputs, but room for %d was given.", op->name, f.n_visible, n_out);
  if (st != MX_OK) {
    mx_op_params_free(op, params);
    return st;
  }
  MX_TRY_GOTO(st, frame_init(&f, &small, &block, err), done);
  MX_TRY_GOTO(st, infer(op, params, in, out, &f, err), done);
  MX_TRY_GOTO(st, make_outputs(op, in, out, &f, device, err), done);
  for (int i = 0; i < n_in; i++) f.tensor[i] = tensor_of(in[i]);
  for (int i = 0; i < f.n_out; i++) f.tensor[n_in + i] = tensor_of(f.out[i]);
  mx_call call = {.op = op,
                  .params = params,
                  .device = device,
                  .n_in = n_in,
                  .n_out = f.n_out,
                  .in = f.tensor,
                  .out = f.tensor + n_in,
                  .req = f.req,
                  .is_train = is_train};
  MX_TRY_GOTO(st, prepare_and_run(&call, &params, attrs, &f, err), done);
  st = deliver(&f, out, err);
done:
  for (int i = 0; f.owned && i < f.n_out; i++)
    if (f.owned[i]) mx_array_release(f.out[i]);
  mx_op_params_free(op, params);
  mx_free(block);
  return st;
}
