/* oneDNN programs: primitives, the reorders around them, and the memory between.
 *
 * oneDNN fixes the number of threads of a primitive when it is created. A program that meets another number
 * (mx_threads_set, a forked child) is therefore built anew; it then owns its workspace, because the caller's may be too
 * small. */
#include "ops/dnnl.h"

#ifdef MX_HAVE_DNNL

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "core/memory.h"

#if DNNL_VERSION_MAJOR != 2
#error "oneDNN 2.x is needed (build with DNNL=no to do without it)."
#endif

enum { MAX_SLOTS = 32, MAX_STEPS = 16, MAX_ARGS = 8, MAX_DIMS = 6, TEMPORARY = -2, SCRATCHPAD = -3 };

/* Memory of a step: an array of the call (ref >= 0), a temporary, or the scratchpad that all steps share. */
typedef struct slot {
  dnnl_memory_t memory;
  dnnl_memory_desc_t md;
  mx_dnnl_ref ref;
  size_t advance;    /* of an array of the call: bytes from piece to piece; 0 when it is whole in each */
  size_t offset;     /* of a temporary, in the workspace */
  int first, last;   /* of a temporary: the steps that use it */
  const void *bound; /* the address that `memory` has now */
} slot;

typedef struct step {
  dnnl_primitive_t primitive;
  const char *name;
  bool once; /* the same for all pieces: weights are reordered before the first one */
  int n;
  dnnl_exec_arg_t arg[MAX_ARGS];
} step;

struct mx_dnnl_program {
  mx_layer_state base;
  mx_dnnl_build build;
  int threads;
  int n_slots, n_steps;
  int64_t pieces; /* the steps are repeated for each piece of the batch, so that temporaries stay small */
  slot slot[MAX_SLOTS];
  step step[MAX_STEPS];
  size_t temporary_bytes, scratchpad_bytes;
  void *own_workspace; /* of a program that was built again */
};

/* One argument of a primitive: an array of the call in its plain layout, and where the primitive says what it wants
 * (dnnl_query_undef: the plain layout). */
typedef struct link {
  int arg; /* DNNL_ARG_... */
  dnnl_query_t query;
  mx_dnnl_ref ref;
  const dnnl_memory_desc_t *plain;
  bool output;
  bool batch; /* its first dimension is the batch */
} link;

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static dnnl_status_t engine_status;

static void open_engine(void) {
  engine_status = dnnl_engine_create(&engine, dnnl_cpu, 0);
  if (engine_status == dnnl_success) engine_status = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
}

static mx_status check(dnnl_status_t status, const char *what, mx_error *err) {
  if (status == dnnl_success) return MX_OK;
  static const char *const reason[] = {"success",       "out of memory", "invalid arguments", "unimplemented",
                                       "iterator ends", "runtime error", "not required"};
  return mx_fail(err, MX_ERR_DEVICE, "oneDNN failed in %s: %s.", what,
                 (unsigned)status < sizeof(reason) / sizeof(*reason) ? reason[status] : "unknown status");
}

/* ---- building ---- */

static mx_status add_slot(mx_dnnl_program *p, const dnnl_memory_desc_t *md, mx_dnnl_ref ref, slot **out,
                          mx_error *err) {
  for (int i = 0; i < p->n_slots && ref != SCRATCHPAD; i++)
    if (p->slot[i].ref == ref && ref >= 0 && dnnl_memory_desc_equal(&p->slot[i].md, md)) {
      *out = &p->slot[i];
      return MX_OK;
    }
  if (p->n_slots == MAX_SLOTS) return mx_fail(err, MX_ERR_INTERNAL, "A oneDNN program has too many arrays.");
  slot *s = &p->slot[p->n_slots];
  *s = (slot){.md = *md, .ref = ref};
  MX_TRY(check(dnnl_memory_create(&s->memory, md, engine, DNNL_MEMORY_NONE), "memory creation", err));
  p->n_slots++;
  size_t bytes = dnnl_memory_desc_get_size(md);
  if (ref == SCRATCHPAD && bytes > p->scratchpad_bytes) p->scratchpad_bytes = bytes;
  *out = s;
  return MX_OK;
}

static mx_status add_step(mx_dnnl_program *p, dnnl_primitive_desc_t pd, const char *name, step **out, mx_error *err) {
  if (p->n_steps == MAX_STEPS) return mx_fail(err, MX_ERR_INTERNAL, "A oneDNN program has too many steps.");
  step *s = &p->step[p->n_steps];
  *s = (step){.name = name};
  MX_TRY(check(dnnl_primitive_create(&s->primitive, pd), name, err));
  p->n_steps++;
  const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  if (scratchpad && dnnl_memory_desc_get_size(scratchpad) > 0) {
    slot *m;
    MX_TRY(add_slot(p, scratchpad, SCRATCHPAD, &m, err));
    s->arg[s->n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, m->memory};
  }
  *out = s;
  return MX_OK;
}

static mx_status make_attr(dnnl_primitive_attr_t *out, mx_error *err) {
  MX_TRY(check(dnnl_primitive_attr_create(out), "attribute creation", err));
  mx_status st = check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user), "attributes", err);
  if (st != MX_OK) dnnl_primitive_attr_destroy(*out);
  return st;
}

static mx_status add_reorder(mx_dnnl_program *p, const slot *from, const slot *to, mx_error *err) {
  dnnl_primitive_attr_t attr;
  dnnl_primitive_desc_t pd;
  step *s;
  MX_TRY(make_attr(&attr, err));
  mx_status st =
      check(dnnl_reorder_primitive_desc_create(&pd, &from->md, engine, &to->md, engine, attr), "reorder", err);
  dnnl_primitive_attr_destroy(attr);
  if (st != MX_OK) return st;
  st = add_step(p, pd, "reorder", &s, err);
  dnnl_primitive_desc_destroy(pd);
  if (st != MX_OK) return st;
  s->once = from->ref >= 0 && !from->advance;
  s->arg[s->n++] = (dnnl_exec_arg_t){DNNL_ARG_FROM, from->memory};
  s->arg[s->n++] = (dnnl_exec_arg_t){DNNL_ARG_TO, to->memory};
  return MX_OK;
}

/* A temporary with the layout `want` that holds a reordered copy of an input: an earlier one is used again. */
static mx_status reordered_input(mx_dnnl_program *p, const slot *plain, const dnnl_memory_desc_t *want, slot **out,
                                 mx_error *err) {
  for (int i = 0; i < p->n_steps; i++) {
    const step *s = &p->step[i];
    if (strcmp(s->name, "reorder") || s->arg[s->n - 2].memory != plain->memory) continue;
    for (int j = 0; j < p->n_slots; j++)
      if (p->slot[j].memory == s->arg[s->n - 1].memory && dnnl_memory_desc_equal(&p->slot[j].md, want)) {
        *out = &p->slot[j];
        return MX_OK;
      }
  }
  MX_TRY(add_slot(p, want, TEMPORARY, out, err));
  return add_reorder(p, plain, *out, err);
}

/* Adds the primitive of `pd` with the reorders that its links need. */
static mx_status add_primitive(mx_dnnl_program *p, dnnl_primitive_desc_t pd, const char *name, const link *links, int n,
                               mx_error *err) {
  slot *user[MAX_ARGS], *used[MAX_ARGS];
  step *s;
  for (int i = 0; i < n; i++) {
    const dnnl_memory_desc_t *want =
        links[i].query == dnnl_query_undef ? links[i].plain : dnnl_primitive_desc_query_md(pd, links[i].query, 0);
    MX_TRY(add_slot(p, links[i].plain, links[i].ref, &user[i], err));
    if (links[i].batch && p->pieces > 1) user[i]->advance = dnnl_memory_desc_get_size(links[i].plain);
    used[i] = user[i];
    if (dnnl_memory_desc_equal(want, links[i].plain)) continue;
    if (links[i].output)
      MX_TRY(add_slot(p, want, TEMPORARY, &used[i], err));
    else
      MX_TRY(reordered_input(p, user[i], want, &used[i], err));
  }
  MX_TRY(add_step(p, pd, name, &s, err));
  for (int i = 0; i < n; i++) s->arg[s->n++] = (dnnl_exec_arg_t){links[i].arg, used[i]->memory};
  for (int i = 0; i < n; i++)
    if (links[i].output && used[i] != user[i]) MX_TRY(add_reorder(p, used[i], user[i], err));
  return MX_OK;
}

/* A primitive descriptor with a user-managed scratchpad; *declined when there is none that is worth it. */
static mx_status describe(const void *desc, const char *name, dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *out,
                          bool *declined, mx_error *err) {
  dnnl_primitive_attr_t attr;
  MX_TRY(make_attr(&attr, err));
  dnnl_status_t status = dnnl_primitive_desc_create(out, desc, attr, engine, hint);
  dnnl_primitive_attr_destroy(attr);
  if (status == dnnl_unimplemented) {
    *declined = true;
    return MX_OK;
  }
  MX_TRY(check(status, name, err));
  /* Reference code is slow; its matrix products need mx_signals_hold (core/thread.h), which ours know. */
  const char *implementation = "";
  if (dnnl_primitive_desc_query(*out, dnnl_query_impl_info_str, 0, &implementation) == dnnl_success &&
      (!strncmp(implementation, "ref", 3) || strstr(implementation, "gemm:jit"))) {
    dnnl_primitive_desc_destroy(*out);
    *declined = true;
  }
  return MX_OK;
}

/* ---- life ---- */

static void clear(mx_dnnl_program *p) {
  for (int i = 0; i < p->n_steps; i++) dnnl_primitive_destroy(p->step[i].primitive);
  for (int i = 0; i < p->n_slots; i++) dnnl_memory_destroy(p->slot[i].memory);
  p->n_steps = p->n_slots = 0;
  p->temporary_bytes = p->scratchpad_bytes = 0;
  p->pieces = 1;
  p->threads = 0;
}

static size_t workspace_bytes(const mx_dnnl_program *p) { return p->temporary_bytes + p->scratchpad_bytes; }

static void release(void *state) {
  mx_dnnl_program *p = state;
  clear(p);
  mx_free_aligned(p->own_workspace);
  mx_free(p);
}

/* Lets oneDNN's parallel regions have as many threads as ours; returns the number to go back to. */
static int enter(void) {
  int before = omp_get_max_threads(), now = mx_threads();
  if (before != now) omp_set_num_threads(now);
  return before;
}
static void leave(int before) {
  if (before != omp_get_max_threads()) omp_set_num_threads(before);
}

static void find_uses(mx_dnnl_program *p, slot *s) {
  s->first = -1;
  for (int i = 0; i < p->n_steps; i++)
    for (int k = 0; k < p->step[i].n; k++) {
      if (p->step[i].arg[k].memory != s->memory) continue;
      bool kept = p->step[i].once && p->pieces > 1; /* from the first piece to the last */
      if (s->first < 0) s->first = kept ? 0 : i;
      s->last = kept ? p->n_steps : s->last > i ? s->last : i;
    }
}

/* Temporaries share places when no step needs both: each gets the lowest place that is free, in the order of steps. */
static void place_temporaries(mx_dnnl_program *p) {
  for (int i = 0; i < p->n_slots; i++) {
    slot *s = &p->slot[i];
    if (s->ref != TEMPORARY) continue;
    find_uses(p, s);
    size_t bytes = mx_align64(dnnl_memory_desc_get_size(&s->md));
    bool moved = true;
    for (s->offset = 0; moved;) {
      moved = false;
      for (int k = 0; k < i; k++) {
        const slot *o = &p->slot[k];
        if (o->ref != TEMPORARY || o->last < s->first || s->last < o->first) continue;
        size_t end = o->offset + mx_align64(dnnl_memory_desc_get_size(&o->md));
        if (s->offset >= end || o->offset >= s->offset + bytes) continue;
        s->offset = end;
        moved = true;
      }
    }
    if (s->offset + bytes > p->temporary_bytes) p->temporary_bytes = s->offset + bytes;
  }
}

static mx_status build(mx_dnnl_program *p, const mx_call *c, bool *declined, mx_error *err) {
  p->pieces = 1;
  mx_status st = p->build(p, c, declined, err);
  if (st != MX_OK || *declined) {
    clear(p);
    return st;
  }
  place_temporaries(p);
  p->threads = mx_threads();
  return MX_OK;
}

mx_status mx_dnnl_prepare(mx_call *c, mx_dnnl_build builder, mx_error *err) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  for (int i = 0; i < c->n_in + c->n_out; i++) {
    const mx_tensor *t = i < c->n_in ? &c->in[i] : &c->out[i - c->n_in];
    if (t->dtype != MX_FLOAT32 || mx_shape_size(&t->shape) == 0) return MX_OK;
    for (int d = 0; d < t->shape.ndim; d++)
      if (t->shape.dim[d] > INT32_MAX) return MX_OK;
  }
  pthread_once(&once, open_engine);
  MX_TRY(check(engine_status, "engine creation", err));
  mx_dnnl_program *p = mx_calloc(1, sizeof(*p));
  if (!p) return mx_fail_memory(err, sizeof(*p));
  p->base.release = release;
  p->build = builder;
  bool declined = false;
  int before = enter();
  mx_status st = build(p, c, &declined, err);
  leave(before);
  if (st != MX_OK || declined) {
    release(p);
    return st;
  }
  c->state = p;
  c->workspace_bytes = workspace_bytes(p);
  return MX_OK;
}

/* For another number of threads. */
static mx_status rebuild(mx_dnnl_program *p, const mx_call *c, mx_error *err) {
  bool declined = false;
  clear(p);
  MX_TRY(build(p, c, &declined, err));
  if (declined) return mx_fail(err, MX_ERR_DEVICE, "oneDNN has no primitive for %d threads.", mx_threads());
  mx_free_aligned(p->own_workspace);
  p->own_workspace = mx_malloc_aligned(workspace_bytes(p));
  if (!p->own_workspace) {
    clear(p);
    return mx_fail_memory(err, workspace_bytes(p));
  }
  return MX_OK;
}

static mx_status bind_memory(mx_dnnl_program *p, const mx_call *c, int64_t piece, mx_error *err) {
  char *workspace = p->own_workspace ? p->own_workspace : c->workspace;
  for (int i = 0; i < p->n_slots; i++) {
    slot *s = &p->slot[i];
    char *data = s->ref == SCRATCHPAD       ? workspace + p->temporary_bytes
                 : s->ref == TEMPORARY      ? workspace + s->offset
                 : s->ref >= MX_DNNL_OUT(0) ? c->out[s->ref - MX_DNNL_OUT(0)].data
                                            : c->in[s->ref].data;
    if (s->advance) data += (size_t)piece * s->advance;
    if (data == s->bound) continue;
    MX_TRY(check(dnnl_memory_set_data_handle(s->memory, data), "memory binding", err));
    s->bound = data;
  }
  return MX_OK;
}

static mx_status run(mx_dnnl_program *p, const mx_call *c, mx_error *err) {
  if (p->threads != mx_threads()) MX_TRY(rebuild(p, c, err));
  for (int64_t piece = 0; piece < p->pieces; piece++) {
    MX_TRY(bind_memory(p, c, piece, err));
    for (int i = 0; i < p->n_steps; i++) {
      const step *s = &p->step[i];
      if (s->once && piece > 0) continue;
      MX_TRY(check(dnnl_primitive_execute(s->primitive, stream, s->n, s->arg), s->name, err));
    }
  }
  return check(dnnl_stream_wait(stream), "stream", err);
}

mx_status mx_dnnl_run(const mx_call *c, mx_error *err) {
  int before = enter();
  mx_status st = run(c->state, c, err);
  leave(before);
  return st;
}

/* ---- convolution ---- */

/* oneDNN's view of a convolution: logical dimensions (batch, channels, space) and, for weights, (groups, filters,
 * channels, kernel); plain layouts by strides, and layouts that oneDNN chooses. */
typedef struct conv_view {
  dnnl_dims_t stride, dilate, pad, pad_end;
  dnnl_memory_desc_t x, w, y, bias;          /* as the arrays are */
  dnnl_memory_desc_t used_x, used_w, used_y; /* as the primitive shall have them */
} conv_view;

/* Which layout the data of a convolution gets inside. */
enum { CONV_FORWARD, CONV_DATA, CONV_WEIGHT };
enum { LAYOUT_FREE, LAYOUT_PLAIN, LAYOUT_CHANNELS_LAST };

/* Channels that blocked layouts compute per channel that there is: they round up to a vector. */
static double padding_waste(const mx_conv *v, int64_t lanes) {
  const double c = (double)((v->channels + lanes - 1) / lanes * lanes),
               f = (double)((v->filters + lanes - 1) / lanes * lanes);
  return c * f / ((double)v->channels * (double)v->filters);
}

/* Blocked layouts, which oneDNN chooses if free, make the fastest kernels, but cost reorders and padding channels. The
 * limits are from measurements with AVX2 and AVX-512 (bench/c_layers.c). */
static int choose_layout(const mx_conv *v, int kind) {
  if (v->channels_last) return LAYOUT_PLAIN;
  if (v->groups > 1) return LAYOUT_FREE;
  const bool wide = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
  bool pointwise = mx_conv_kernel_size(v) == 1;
  for (int i = 0; i < 3; i++) pointwise = pointwise && v->stride[i] == 1 && v->pad[i] == 0;
  if (kind != CONV_WEIGHT && pointwise && mx_conv_out_size(v) >= 256) return LAYOUT_PLAIN; /* products, no reorders */
  if (kind == CONV_DATA && v->channels <= 4) return LAYOUT_PLAIN;
  if (kind == CONV_WEIGHT && v->channels <= 2 && !wide) return LAYOUT_CHANNELS_LAST;
  if (v->channels <= 4) return LAYOUT_FREE;
  const bool single = mx_conv_kernel_size(v) == 1, few = v->batch * mx_conv_out_size(v) <= 64;
  if (few && (!single || kind == CONV_WEIGHT)) return LAYOUT_PLAIN; /* reordering weights costs more than computing */
  if (single) return LAYOUT_FREE;
  return padding_waste(v, wide ? 16 : 8) >= (kind == CONV_FORWARD ? 1.2 : 1.65) ? LAYOUT_CHANNELS_LAST : LAYOUT_FREE;
}

/* An array in which logical dimension i is at place order[i]. */
static mx_status strided(dnnl_memory_desc_t *md, int n, const dnnl_dims_t dims, const int *order, mx_error *err) {
  dnnl_dims_t strides;
  for (int i = 0; i < n; i++) {
    strides[i] = 1;
    for (int j = 0; j < n; j++)
      if (order[j] > order[i]) strides[i] *= dims[j];
  }
  return check(dnnl_memory_desc_init_by_strides(md, n, dims, dnnl_f32, strides), "memory description", err);
}

/* The places of (batch, channels, space) or, with `first` 1, of (groups, filters, channels, kernel) without channels
 * last or with. */
static void place_dims(int *order, int first, int nd, bool channels_last) {
  for (int i = 0; i <= first; i++) order[i] = i;
  order[first + 1] = channels_last ? first + nd + 1 : first + 1;
  for (int i = 0; i < nd; i++) order[first + 2 + i] = first + (channels_last ? 1 : 2) + i;
}

static mx_status use_layout(dnnl_memory_desc_t *used, const dnnl_memory_desc_t *array, int layout, mx_error *err) {
  int order[MAX_DIMS];
  if (layout == LAYOUT_PLAIN) *used = *array;
  if (layout == LAYOUT_PLAIN) return MX_OK;
  place_dims(order, 0, array->ndims - 2, true);
  if (layout == LAYOUT_CHANNELS_LAST) return strided(used, array->ndims, array->dims, order, err);
  return check(dnnl_memory_desc_init_by_tag(used, array->ndims, array->dims, dnnl_f32, dnnl_format_tag_any),
               "memory description", err);
}

static mx_status view_conv(const mx_conv *v, int layout, conv_view *out, bool *declined, mx_error *err) {
  const int nd = v->nd, first = 3 - nd, g = v->groups > 1;
  dnnl_dims_t x = {v->batch, v->channels}, y = {v->batch, v->filters}, w = {v->groups}, filters = {v->filters};
  int order[MAX_DIMS];
  w[g] = v->filters / v->groups, w[g + 1] = v->channels / v->groups;
  for (int i = 0; i < nd; i++) {
    const int j = first + i;
    x[2 + i] = v->in[j], y[2 + i] = v->out[j], w[g + 2 + i] = v->kernel[j];
    out->stride[i] = v->stride[j];
    out->dilate[i] = v->dilate[j] - 1;
    out->pad[i] = v->pad[j];
    out->pad_end[i] = (v->out[j] - 1) * v->stride[j] + mx_conv_extent(v, j) - v->in[j] - v->pad[j];
    if (out->pad_end[i] + v->stride[j] <= 0) *declined = true; /* oneDNN refuses to leave out so much */
  }
  place_dims(order, 0, nd, v->channels_last);
  MX_TRY(strided(&out->x, nd + 2, x, order, err));
  MX_TRY(strided(&out->y, nd + 2, y, order, err));
  place_dims(order, g, nd, v->channels_last);
  MX_TRY(strided(&out->w, nd + 2 + g, w, order, err));
  MX_TRY(use_layout(&out->used_x, &out->x, layout, err));
  MX_TRY(use_layout(&out->used_y, &out->y, layout, err));
  MX_TRY(use_layout(&out->used_w, &out->w, LAYOUT_FREE, err));
  return check(dnnl_memory_desc_init_by_tag(&out->bias, 1, filters, dnnl_f32, dnnl_a), "memory description", err);
}

static mx_status describe_forward(const conv_view *cv, bool bias, dnnl_primitive_desc_t *out, bool *declined,
                                  mx_error *err) {
  dnnl_convolution_desc_t d;
  MX_TRY(check(dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct,
                                                          &cv->used_x, &cv->used_w, bias ? &cv->bias : NULL,
                                                          &cv->used_y, cv->stride, cv->dilate, cv->pad, cv->pad_end),
               "convolution forward", err));
  return describe(&d, "convolution forward", NULL, out, declined, err);
}

/* Into how many equal pieces a batch is cut, so that the blocked copies of a piece stay in the caches. */
static int64_t pieces_of(const mx_conv *v) {
  const int64_t limit = (int64_t)(mx_threads() > 2 ? mx_threads() : 2) << 20;
  int64_t in = (v->channels + 15) / 16 * 16, out = (v->filters + 15) / 16 * 16, pieces = 1;
  for (int i = 0; i < 3; i++) in *= v->in[i], out *= v->out[i];
  while (pieces < v->batch && (v->batch % pieces || v->batch / pieces * (in + out) * 4 > limit)) pieces++;
  return pieces;
}

mx_status mx_dnnl_conv_forward(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref w, mx_dnnl_ref bias,
                               mx_dnnl_ref y, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_primitive_desc_t pd;
  const int layout = choose_layout(v, CONV_FORWARD);
  mx_conv part = *v;
  p->pieces = layout == LAYOUT_PLAIN || p->n_steps > 0 ? 1 : pieces_of(v);
  part.batch /= p->pieces;
  MX_TRY(view_conv(&part, layout, &cv, declined, err));
  if (*declined) return MX_OK;
  MX_TRY(describe_forward(&cv, bias != MX_DNNL_NONE, &pd, declined, err));
  if (*declined) return MX_OK;
  const link links[] = {{DNNL_ARG_SRC, dnnl_query_src_md, x, &cv.x, .batch = true},
                        {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, w, &cv.w},
                        {DNNL_ARG_DST, dnnl_query_dst_md, y, &cv.y, .output = true, .batch = true},
                        {DNNL_ARG_BIAS, dnnl_query_undef, bias, &cv.bias}};
  mx_status st = add_primitive(p, pd, "convolution forward", links, bias == MX_DNNL_NONE ? 3 : 4, err);
  dnnl_primitive_desc_destroy(pd);
  return st;
}

/* Backward primitives are described with the forward one as a hint. */
static mx_status add_backward(mx_dnnl_program *p, const conv_view *cv, const void *desc, const char *name,
                              const link *links, int n, bool *declined, mx_error *err) {
  dnnl_primitive_desc_t hint, pd;
  MX_TRY(describe_forward(cv, false, &hint, declined, err));
  if (*declined) return MX_OK;
  mx_status st = describe(desc, name, hint, &pd, declined, err);
  if (st == MX_OK && !*declined) {
    st = add_primitive(p, pd, name, links, n, err);
    dnnl_primitive_desc_destroy(pd);
  }
  dnnl_primitive_desc_destroy(hint);
  return st;
}

mx_status mx_dnnl_conv_backward_data(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref dy, mx_dnnl_ref w,
                                     mx_dnnl_ref dx, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_convolution_desc_t d;
  MX_TRY(view_conv(v, choose_layout(v, CONV_DATA), &cv, declined, err));
  if (*declined) return MX_OK;
  const char *name = "convolution backward by data";
  MX_TRY(check(dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &cv.used_x, &cv.used_w,
                                                                &cv.used_y, cv.stride, cv.dilate, cv.pad, cv.pad_end),
               name, err));
  const link links[] = {{DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, dy, &cv.y, false},
                        {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, w, &cv.w, false},
                        {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, dx, &cv.x, true}};
  return add_backward(p, &cv, &d, name, links, 3, declined, err);
}

mx_status mx_dnnl_conv_backward_weight(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref dy,
                                       mx_dnnl_ref dw, mx_dnnl_ref dbias, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_convolution_desc_t d;
  MX_TRY(view_conv(v, choose_layout(v, CONV_WEIGHT), &cv, declined, err));
  if (*declined) return MX_OK;
  const char *name = "convolution backward by weights";
  MX_TRY(check(dnnl_dilated_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &cv.used_x, &cv.used_w,
                                                                   dbias == MX_DNNL_NONE ? NULL : &cv.bias, &cv.used_y,
                                                                   cv.stride, cv.dilate, cv.pad, cv.pad_end),
               name, err));
  const link links[] = {{DNNL_ARG_SRC, dnnl_query_src_md, x, &cv.x, false},
                        {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, dy, &cv.y, false},
                        {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, dw, &cv.w, true},
                        {DNNL_ARG_DIFF_BIAS, dnnl_query_undef, dbias, &cv.bias, true}};
  return add_backward(p, &cv, &d, name, links, dbias == MX_DNNL_NONE ? 3 : 4, declined, err);
}

#else /* without oneDNN every call is declined, so that no program is ever built or run */

mx_status mx_dnnl_prepare(mx_call *c, mx_dnnl_build builder, mx_error *err) { return MX_OK; }

static mx_status absent(mx_error *err) { return mx_fail(err, MX_ERR_INTERNAL, "This build has no oneDNN."); }
mx_status mx_dnnl_run(const mx_call *c, mx_error *err) { return absent(err); }
mx_status mx_dnnl_conv_forward(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref w, mx_dnnl_ref bias,
                               mx_dnnl_ref y, bool *declined, mx_error *err) {
  return absent(err);
}
mx_status mx_dnnl_conv_backward_data(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref dy, mx_dnnl_ref w,
                                     mx_dnnl_ref dx, bool *declined, mx_error *err) {
  return absent(err);
}
mx_status mx_dnnl_conv_backward_weight(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref dy,
                                       mx_dnnl_ref dw, mx_dnnl_ref dbias, bool *declined, mx_error *err) {
  return absent(err);
}

#endif
