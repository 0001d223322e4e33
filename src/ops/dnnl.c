/* oneDNN programs: a convolution as a grid of tasks.
 *
 * The batch is cut into parts and the output channels into blocks, by rules that look at the shape only. A task is one
 * part of one block: inputs are copied into the layout that the primitive likes, the primitive runs, its output is
 * copied back. Copies that several tasks need are made before, sums over parts after, in the order of the parts.
 * Primitives are made for one thread and OpenMP hands the tasks out: so the result does not depend on the number of
 * threads (that of oneDNN's own threads does), what a task copies stays in its core's cache, and a program runs with
 * any number of threads. */
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

enum { MAX_STEPS = 24, MAX_ARGS = 6, MAX_DIMS = 6, MAX_CHUNKS = 16, WORKER = -2, SHARED = -3 };
enum { PART, BLOCK, CHUNK }; /* the three indices of a task */

/* Memory of a step: an array of the call, the worker's own or shared workspace; it moves with the task. */
typedef struct place {
  int base; /* mx_dnnl_ref, WORKER or SHARED */
  size_t offset, by[3];
} place;

/* A primitive, or without one: to = sum of `terms` arrays of n floats (zeros without terms), in chunks. */
typedef struct step {
  dnnl_primitive_t primitive;
  const char *name;
  int phase;       /* steps of one phase run in a row in each of its tasks */
  int64_t grid[3]; /* tasks of the phase */
  int n;
  int name_of[MAX_ARGS]; /* DNNL_ARG_... */
  place at[MAX_ARGS];
  dnnl_memory_t *memory; /* n per worker */
  const void **bound;    /* the addresses that they have now */
  int64_t terms, floats;
} step;

struct mx_dnnl_program {
  mx_layer_state base;
  int workers; /* that the steps are made for */
  int n_steps, n_phases;
  int64_t tasks; /* of the phase that has most */
  double work;   /* multiplications */
  step step[MAX_STEPS];
  size_t shared_bytes, worker_bytes; /* of the workspace */
};

/* One argument of the primitive of a stage: the piece of an array that a task has, and where the primitive says how it
 * wants it (dnnl_query_undef: as it is). */
typedef struct operand {
  mx_dnnl_ref ref;
  int name; /* DNNL_ARG_... */
  dnnl_query_t query;
  bool output, copied; /* copied: even if the primitive would take it as it is */
  dnnl_memory_desc_t view, used;
  bool varies[2];    /* with the part, with the block */
  size_t advance[2]; /* bytes from part to part, from block to block, in the array */
  place at;          /* what the primitive gets */
} operand;

typedef struct stage {
  int64_t parts, blocks;
  int n;
  operand x[4];
} stage;

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

static mx_status make_attr(dnnl_primitive_attr_t *out, mx_error *err) {
  MX_TRY(check(dnnl_primitive_attr_create(out), "attribute creation", err));
  mx_status st = check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user), "attributes", err);
  if (st != MX_OK) dnnl_primitive_attr_destroy(*out);
  return st;
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
  const char *implementation = "";
  if (dnnl_primitive_desc_query(*out, dnnl_query_impl_info_str, 0, &implementation) == dnnl_success &&
      !strncmp(implementation, "ref", 3)) {
    dnnl_primitive_desc_destroy(*out);
    *declined = true;
  }
  return MX_OK;
}

/* A step of the phase that was begun last. */
static mx_status add_step(mx_dnnl_program *p, const char *name, const int64_t *grid, step **out, mx_error *err) {
  if (p->n_steps == MAX_STEPS) return mx_fail(err, MX_ERR_INTERNAL, "A oneDNN program has too many steps.");
  const int64_t tasks = grid[PART] * grid[BLOCK] * grid[CHUNK];
  if (tasks > p->tasks) p->tasks = tasks;
  *out = &p->step[p->n_steps++];
  **out = (step){.name = name, .phase = p->n_phases - 1, .grid = {grid[PART], grid[BLOCK], grid[CHUNK]}};
  return MX_OK;
}

static mx_status add_argument(mx_dnnl_program *p, step *s, int name, const dnnl_memory_desc_t *md, place at,
                              mx_error *err) {
  if (s->n == MAX_ARGS) return mx_fail(err, MX_ERR_INTERNAL, "A oneDNN primitive has too many arguments.");
  s->name_of[s->n] = name;
  s->at[s->n] = at;
  for (int w = 0; w < p->workers; w++)
    MX_TRY(check(dnnl_memory_create(&s->memory[w * MAX_ARGS + s->n], md, engine, DNNL_MEMORY_NONE), "memory creation",
                 err));
  s->n++;
  return MX_OK;
}

static place worker_place(size_t *used, const dnnl_memory_desc_t *md) {
  place at = {.base = WORKER, .offset = *used};
  *used += mx_align64(dnnl_memory_desc_get_size(md));
  return at;
}

/* Appends the primitive of `pd`; its arguments follow. `worker` counts the bytes that a worker needs so far. */
static mx_status add_primitive(mx_dnnl_program *p, dnnl_primitive_desc_t pd, const char *name, const int64_t *grid,
                               size_t *worker, step **out, mx_error *err) {
  MX_TRY(add_step(p, name, grid, out, err));
  step *s = *out;
  const size_t n = (size_t)p->workers * MAX_ARGS;
  s->memory = mx_calloc(n, sizeof(*s->memory));
  s->bound = mx_calloc(n, sizeof(*s->bound));
  if (!s->memory || !s->bound) return mx_fail_memory(err, n * sizeof(*s->memory));
  MX_TRY(check(dnnl_primitive_create(&s->primitive, pd), name, err));
  const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
  if (!scratchpad || dnnl_memory_desc_get_size(scratchpad) == 0) return MX_OK;
  return add_argument(p, s, DNNL_ARG_SCRATCHPAD, scratchpad, worker_place(worker, scratchpad), err);
}

static mx_status add_copy(mx_dnnl_program *p, const dnnl_memory_desc_t *from, place from_at,
                          const dnnl_memory_desc_t *to, place to_at, const int64_t *grid, size_t *worker,
                          mx_error *err) {
  dnnl_primitive_attr_t attr;
  dnnl_primitive_desc_t pd;
  step *s;
  MX_TRY(make_attr(&attr, err));
  mx_status st = check(dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, attr), "reorder", err);
  dnnl_primitive_attr_destroy(attr);
  if (st != MX_OK) return st;
  st = add_primitive(p, pd, "reorder", grid, worker, &s, err);
  dnnl_primitive_desc_destroy(pd);
  if (st == MX_OK) st = add_argument(p, s, DNNL_ARG_FROM, from, from_at, err);
  return st == MX_OK ? add_argument(p, s, DNNL_ARG_TO, to, to_at, err) : st;
}

/* The first of n equal chunks of an array along dimension d, and the bytes from chunk to chunk; false when the layout
 * has no such chunks. */
static bool first_chunk(const dnnl_memory_desc_t *md, int d, int64_t n, dnnl_memory_desc_t *out, size_t *advance) {
  dnnl_dims_t dims, offset = {0};
  dnnl_memory_desc_t second;
  memcpy(dims, md->dims, sizeof(dims));
  dims[d] /= n;
  if (dnnl_memory_desc_init_submemory(out, md, dims, offset) != dnnl_success) return false;
  offset[d] = dims[d];
  if (dnnl_memory_desc_init_submemory(&second, md, dims, offset) != dnnl_success) return false;
  *advance = (size_t)(second.offset0 - out->offset0) * sizeof(float);
  return true;
}

/* A phase that copies what several tasks share, or what they made together: large arrays in chunks, so that all
 * threads take part. */
static mx_status add_copies(mx_dnnl_program *p, dnnl_memory_desc_t from, place from_at, dnnl_memory_desc_t to,
                            place to_at, int64_t parts, int64_t blocks, mx_error *err) {
  const int64_t wanted = (int64_t)(dnnl_memory_desc_get_size(&to) >> 16);
  int64_t grid[3] = {parts, blocks, 1};
  size_t worker = 0;
  for (int d = 0; d < 2 && grid[CHUNK] == 1; d++)
    for (int64_t n = wanted < MAX_CHUNKS ? wanted : MAX_CHUNKS; n > 1 && grid[CHUNK] == 1; n--) {
      dnnl_memory_desc_t a, b;
      size_t step_a, step_b;
      if (from.dims[d] % n || !first_chunk(&from, d, n, &a, &step_a) || !first_chunk(&to, d, n, &b, &step_b)) continue;
      from = a, from_at.by[CHUNK] = step_a, to = b, to_at.by[CHUNK] = step_b, grid[CHUNK] = n;
    }
  p->n_phases++;
  MX_TRY(add_copy(p, &from, from_at, &to, to_at, grid, &worker, err));
  if (worker > p->worker_bytes) p->worker_bytes = worker;
  return MX_OK;
}

enum { SUM_CHUNK = 1 << 14 }; /* floats */

/* A phase that sets n floats at `to` to the sum of `terms` arrays that lie `apart` bytes apart, in their order. */
static mx_status add_sum(mx_dnnl_program *p, place to, place from, int64_t terms, size_t apart, int64_t n,
                         mx_error *err) {
  const int64_t grid[3] = {1, 1, (n + SUM_CHUNK - 1) / SUM_CHUNK};
  step *s = NULL;
  p->n_phases++;
  MX_TRY(add_step(p, "sum", grid, &s, err));
  s->terms = terms, s->floats = n;
  to.by[CHUNK] = from.by[CHUNK] = SUM_CHUNK * sizeof(float);
  from.by[PART] = apart; /* a term, here */
  s->at[0] = to, s->at[1] = from;
  return MX_OK;
}

static place array_place(const operand *x) {
  return (place){.base = x->ref,
                 .by = {x->varies[PART] ? x->advance[PART] : 0, x->varies[BLOCK] ? x->advance[BLOCK] : 0}};
}

/* Adds the phases of one primitive that runs once for each part of each block. */
static mx_status add_stage(mx_dnnl_program *p, dnnl_primitive_desc_t pd, const char *name, stage *g, mx_error *err) {
  const int64_t size[2] = {g->parts, g->blocks}, grid[3] = {g->parts, g->blocks, 1};
  size_t shared = 0, worker = 0;
  bool direct[4], summed[4];
  step *s = NULL;
  for (int i = 0; i < g->n; i++) { /* where everything goes */
    operand *x = &g->x[i];
    x->used = x->query == dnnl_query_undef ? x->view : *dnnl_primitive_desc_query_md(pd, x->query, 0);
    bool common = (g->parts > 1 && !x->varies[PART]) || (g->blocks > 1 && !x->varies[BLOCK]);
    const size_t bytes = mx_align64(dnnl_memory_desc_get_size(&x->used));
    summed[i] = x->output && common;
    direct[i] = dnnl_memory_desc_equal(&x->used, &x->view) && !x->copied;
    x->at = array_place(x);
    if (direct[i] && !summed[i]) continue;
    if (!common) {
      x->at = worker_place(&worker, &x->used);
      continue;
    }
    /* of a sum, blocks lie together and parts apart */
    const int64_t blocks = summed[i] || x->varies[BLOCK] ? size[BLOCK] : 1;
    const size_t tight = summed[i] ? dnnl_memory_desc_get_size(&x->used) : bytes;
    x->at = (place){.base = SHARED, .offset = shared};
    if (blocks > 1) x->at.by[BLOCK] = tight;
    if (summed[i] || x->varies[PART]) x->at.by[PART] = (size_t)blocks * tight;
    shared += mx_align64((size_t)blocks * tight * (size_t)(summed[i] || x->varies[PART] ? size[PART] : 1));
    if (!x->output)
      MX_TRY(add_copies(p, x->view, array_place(x), x->used, x->at, x->varies[PART] ? size[PART] : 1, blocks, err));
  }
  p->n_phases++;
  for (int i = 0; i < g->n; i++)
    if (!g->x[i].output && g->x[i].at.base == WORKER)
      MX_TRY(add_copy(p, &g->x[i].view, array_place(&g->x[i]), &g->x[i].used, g->x[i].at, grid, &worker, err));
  MX_TRY(add_primitive(p, pd, name, grid, &worker, &s, err));
  for (int i = 0; i < g->n; i++) MX_TRY(add_argument(p, s, g->x[i].name, &g->x[i].used, g->x[i].at, err));
  for (int i = 0; i < g->n; i++)
    if (g->x[i].output && g->x[i].at.base == WORKER)
      MX_TRY(add_copy(p, &g->x[i].used, g->x[i].at, &g->x[i].view, array_place(&g->x[i]), grid, &worker, err));
  for (int i = 0; i < g->n; i++) {
    operand *x = &g->x[i];
    if (!summed[i]) continue;
    const int64_t n = (int64_t)dnnl_memory_desc_get_size(&x->used) / (int64_t)sizeof(float) * size[BLOCK];
    place from = {.base = SHARED, .offset = x->at.offset}, to = direct[i] ? (place){.base = x->ref} : from;
    MX_TRY(add_sum(p, to, from, size[PART], x->at.by[PART], n, err));
    from.by[BLOCK] = x->at.by[BLOCK];
    if (!direct[i]) MX_TRY(add_copies(p, x->used, from, x->view, array_place(x), 1, size[BLOCK], err));
  }
  if (shared > p->shared_bytes) p->shared_bytes = shared;
  if (worker > p->worker_bytes) p->worker_bytes = worker;
  return MX_OK;
}

/* ---- life ---- */

static void release(void *state) {
  mx_dnnl_program *p = state;
  for (int i = 0; i < p->n_steps; i++) {
    step *s = &p->step[i];
    for (int k = 0; s->memory && k < p->workers * MAX_ARGS; k++) dnnl_memory_destroy(s->memory[k]);
    dnnl_primitive_destroy(s->primitive);
    mx_free(s->memory);
    mx_free(s->bound);
  }
  mx_free(p);
}

mx_status mx_dnnl_prepare(mx_call *c, mx_dnnl_build build, mx_error *err) {
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
  p->workers = mx_threads();
  bool declined = false;
  int before = omp_get_max_threads();
  omp_set_num_threads(1); /* oneDNN makes primitives for as many threads as OpenMP has */
  mx_status st = build(p, c, &declined, err);
  omp_set_num_threads(before);
  if (st != MX_OK || declined) {
    release(p);
    return st;
  }
  c->state = p;
  c->workspace_bytes = p->shared_bytes + (size_t)(p->tasks < p->workers ? p->tasks : p->workers) * p->worker_bytes;
  return MX_OK;
}

/* ---- running ---- */

MX_CLONES static void add_floats(float *to, const float *from, size_t apart, int64_t terms, int64_t n) {
  if (terms == 0) memset(to, 0, (size_t)n * sizeof(float));
  for (int64_t t = 0; t < terms; t++, from = (const float *)((const char *)from + apart)) {
    if (t == 0) {
      if (to != from) memcpy(to, from, (size_t)n * sizeof(float));
      continue;
    }
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) to[i] += from[i];
  }
}

static void *address(const mx_dnnl_program *p, const mx_call *c, const place *at, const int64_t *index, int worker) {
  char *data = at->base == SHARED           ? c->workspace
               : at->base == WORKER         ? (char *)c->workspace + p->shared_bytes + (size_t)worker * p->worker_bytes
               : at->base >= MX_DNNL_OUT(0) ? c->out[at->base - MX_DNNL_OUT(0)].data
                                            : c->in[at->base].data;
  for (int i = 0; i < 3; i++) data += (size_t)index[i] * at->by[i];
  return data + at->offset;
}

static dnnl_status_t run_step(const mx_dnnl_program *p, step *s, const mx_call *c, const int64_t *index, int worker) {
  dnnl_exec_arg_t arg[MAX_ARGS];
  if (!s->primitive) {
    int64_t left = s->floats - index[CHUNK] * SUM_CHUNK;
    add_floats(address(p, c, &s->at[0], index, worker), address(p, c, &s->at[1], index, worker), s->at[1].by[PART],
               s->terms, left < SUM_CHUNK ? left : SUM_CHUNK);
    return dnnl_success;
  }
  for (int i = 0; i < s->n; i++) {
    void *data = address(p, c, &s->at[i], index, worker);
    const int k = worker * MAX_ARGS + i;
    arg[i] = (dnnl_exec_arg_t){s->name_of[i], s->memory[k]};
    if (data == s->bound[k]) continue;
    dnnl_status_t status = dnnl_memory_set_data_handle(s->memory[k], data);
    if (status != dnnl_success) return status;
    s->bound[k] = data;
  }
  return dnnl_primitive_execute(s->primitive, stream, s->n, arg);
}

/* Task `i` of the phase that begins with step `first`. */
static dnnl_status_t run_task(mx_dnnl_program *p, int first, const mx_call *c, int64_t i, int worker,
                              const char **name) {
  const int64_t *grid = p->step[first].grid;
  const int64_t index[3] = {i / (grid[BLOCK] * grid[CHUNK]), i / grid[CHUNK] % grid[BLOCK], i % grid[CHUNK]};
  for (int k = first; k < p->n_steps && p->step[k].phase == p->step[first].phase; k++) {
    dnnl_status_t status = run_step(p, &p->step[k], c, index, worker);
    if (status == dnnl_success) continue;
    *name = p->step[k].name;
    return status;
  }
  return dnnl_success;
}

mx_status mx_dnnl_run(const mx_call *c, mx_error *err) {
  mx_dnnl_program *p = c->state;
  int threads = mx_threads_for_work(p->work, 1 << 17);
  if (threads > p->workers) threads = p->workers;
  if (threads > p->tasks) threads = (int)p->tasks;
  const int before = omp_get_max_threads();
  dnnl_status_t failed = dnnl_success;
  const char *name = NULL;
  sigset_t signals;
  mx_signals_hold(&signals); /* there are matrix products among the primitives */
  omp_set_num_threads(1);    /* for oneDNN's own regions */
#pragma omp parallel num_threads(threads)
  {
    mx_signals_block_worker();
    for (int k = 0; k < p->n_steps; k++) {
      const int64_t *grid = p->step[k].grid, tasks = grid[PART] * grid[BLOCK] * grid[CHUNK];
      if (k > 0 && p->step[k].phase == p->step[k - 1].phase) continue;
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < tasks; i++) {
        const char *where = NULL;
        dnnl_status_t status = run_task(p, k, c, i, omp_get_thread_num(), &where);
        if (status == dnnl_success) continue;
#pragma omp critical(mx_dnnl_failure)
        {
          failed = status;
          name = where;
        }
      }
    }
  }
  omp_set_num_threads(before);
  mx_signals_release(&signals);
  return check(failed, name, err);
}

/* ---- convolution ---- */

/* oneDNN's view of what a task computes: logical dimensions (batch, channels, space) and, for weights, (groups,
 * filters, channels, kernel). */
typedef struct conv_view {
  stage stage;
  dnnl_dims_t stride, dilate, pad, pad_end;
  dnnl_memory_desc_t x, w, y, bias;          /* the task's piece of the arrays */
  dnnl_memory_desc_t used_x, used_w, used_y; /* as the primitive shall have them */
  size_t advance_x[2], advance_w[2], advance_y[2], advance_bias[2];
  bool sampled; /* a strided product, seen as a product of every stride-th pixel */
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

static bool is_product(const mx_conv *v) {
  return mx_conv_kernel_size(v) == 1 && v->pad[0] == 0 && v->pad[1] == 0 && v->pad[2] == 0;
}

/* Blocked layouts, which oneDNN chooses if free, make the fastest kernels, but cost reorders and padding channels. The
 * limits are from measurements with AVX2 and AVX-512 (bench/c_layers.c). */
static int choose_layout(const mx_conv *v, int kind) {
  if (v->channels_last) return LAYOUT_PLAIN;
  if (v->groups > 1) return LAYOUT_FREE;
  const bool wide = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
  const bool single = mx_conv_kernel_size(v) == 1, few = v->batch * mx_conv_out_size(v) <= 64;
  const int64_t many = v->stride[0] * v->stride[1] * v->stride[2] == 1 ? 256 : 512; /* products without reorders */
  if (kind != CONV_WEIGHT && is_product(v) && mx_conv_out_size(v) >= many) return LAYOUT_PLAIN;
  if (kind == CONV_DATA && v->channels <= 4) return LAYOUT_PLAIN;
  if (kind == CONV_WEIGHT && v->channels <= 2 && !wide) return LAYOUT_CHANNELS_LAST;
  if (kind == CONV_WEIGHT && single && few) return LAYOUT_PLAIN; /* reordering weights costs more than computing */
  if (v->channels <= 4 || single) return LAYOUT_FREE;
  return padding_waste(v, wide ? 16 : 8) >= (kind == CONV_FORWARD ? 1.2 : 1.65) ? LAYOUT_CHANNELS_LAST : LAYOUT_FREE;
}

/* The number of equal parts, at least `wanted` if n has such a divisor. */
static int64_t divide(int64_t n, int64_t wanted, int64_t unit) {
  int64_t parts = 1;
  for (int64_t i = 2; parts < wanted && i * unit <= n; i++)
    if (n % i == 0 && n / i % unit == 0) parts = i;
  return parts;
}

/* Into how many parts of the batch and blocks of the output channels a convolution is cut. Parts have copies that fit
 * into a core's cache; blocks are for small batches and for weights that are larger than the data. */
static void cut(const mx_conv *v, int kind, int layout, int64_t *parts, int64_t *blocks) {
  enum { PARTS = 16, TASKS = 8, PART_FLOATS = 1 << 18 };
  const int64_t kernel = mx_conv_kernel_size(v), w = v->filters * (v->channels / v->groups) * kernel;
  const int64_t data = v->batch * (v->channels * mx_conv_in_size(v) + v->filters * mx_conv_out_size(v));
  int64_t wanted = data / PART_FLOATS;
  if (kind == CONV_WEIGHT && wanted > data / (2 * w)) wanted = data / (2 * w); /* every part has weights to be summed */
  if (kind == CONV_WEIGHT && wanted > PARTS) wanted = PARTS;
  if (kind != CONV_WEIGHT && (wanted < PARTS || w > data)) wanted = w > data ? 1 : PARTS;
  if (kind != CONV_WEIGHT && layout == LAYOUT_PLAIN) wanted = v->batch;
  *parts = divide(v->batch, wanted, 1);
  wanted = (kind == CONV_WEIGHT && layout == LAYOUT_PLAIN ? 2 : 1) * TASKS / *parts;
  if (v->groups > 1)
    *blocks = divide(v->groups, wanted, v->groups == v->channels ? 16 : 1);
  else
    *blocks =
        divide(kind == CONV_DATA ? v->channels : v->filters, wanted, kind == CONV_FORWARD && kernel > 1 ? 16 : 32);
}

/* A piece of an array in which logical dimension i is at place order[i]. Strides of single places are those of a dense
 * array, so that such a piece counts as one. */
static mx_status strided(dnnl_memory_desc_t *md, int n, const dnnl_dims_t dims, const dnnl_dims_t piece,
                         const int *order, mx_error *err) {
  dnnl_dims_t strides;
  for (int i = 0; i < n; i++) {
    strides[i] = 1;
    for (int j = 0; j < n; j++)
      if (order[j] > order[i]) strides[i] *= piece[i] == 1 ? piece[j] : dims[j];
  }
  return check(dnnl_memory_desc_init_by_strides(md, n, piece, dnnl_f32, strides), "memory description", err);
}

/* The places of (batch, channels, space) or, with `first` 1, of (groups, filters, channels, kernel) without channels
 * last or with. */
static void place_dims(int *order, int first, int nd, bool channels_last) {
  for (int i = 0; i <= first; i++) order[i] = i;
  order[first + 1] = channels_last ? first + nd + 1 : first + 1;
  for (int i = 0; i < nd; i++) order[first + 2 + i] = first + (channels_last ? 1 : 2) + i;
}

static mx_status use_layout(dnnl_memory_desc_t *used, const dnnl_memory_desc_t *array, int layout, bool channels_last,
                            mx_error *err) {
  int order[MAX_DIMS];
  place_dims(order, 0, array->ndims - 2, channels_last || layout == LAYOUT_CHANNELS_LAST);
  if (layout != LAYOUT_FREE) return strided(used, array->ndims, array->dims, array->dims, order, err);
  return check(dnnl_memory_desc_init_by_tag(used, array->ndims, array->dims, dnnl_f32, dnnl_format_tag_any),
               "memory description", err);
}

/* Bytes between neighbours along a dimension of an array. */
static size_t distance(int n, const dnnl_dims_t dims, const int *order, int d) {
  size_t bytes = sizeof(float);
  for (int j = 0; j < n; j++)
    if (order[j] > order[d]) bytes *= (size_t)dims[j];
  return bytes;
}

static mx_status view_conv(const mx_conv *v, int kind, conv_view *out, bool *declined, mx_error *err) {
  const int nd = v->nd, first = 3 - nd, g = v->groups > 1, layout = choose_layout(v, kind);
  dnnl_dims_t x = {v->batch, v->channels}, y = {v->batch, v->filters}, w = {v->groups}, b = {v->filters};
  dnnl_dims_t px, py, pw, pb;
  int order[MAX_DIMS];
  *out = (conv_view){.sampled = is_product(v) && !v->channels_last &&
                                (v->stride[0] > 1 || v->stride[1] > 1 || v->stride[2] > 1)};
  cut(v, kind, layout, &out->stage.parts, &out->stage.blocks);
  const int64_t parts = out->stage.parts, blocks = out->stage.blocks;
  w[g] = v->filters / v->groups, w[g + 1] = v->channels / v->groups;
  for (int i = 0; i < nd; i++) {
    const int j = first + i;
    x[2 + i] = v->in[j], y[2 + i] = v->out[j], w[g + 2 + i] = v->kernel[j];
    out->stride[i] = out->sampled ? 1 : v->stride[j];
    out->dilate[i] = v->dilate[j] - 1;
    out->pad[i] = v->pad[j];
    out->pad_end[i] = (v->out[j] - 1) * v->stride[j] + mx_conv_extent(v, j) - v->in[j] - v->pad[j];
    if (out->sampled) out->pad_end[i] = 0;
    if (out->pad_end[i] + out->stride[i] <= 0) *declined = true; /* oneDNN refuses to leave out so much */
  }
  memcpy(px, x, sizeof(px)), memcpy(py, y, sizeof(py)), memcpy(pw, w, sizeof(pw)), memcpy(pb, b, sizeof(pb));
  px[0] /= parts, py[0] /= parts;
  if (g || kind == CONV_DATA) px[1] /= blocks;
  if (g || kind != CONV_DATA) py[1] /= blocks, pb[0] /= blocks;
  pw[g || kind != CONV_DATA ? 0 : 1] /= blocks;
  for (int i = 0; i < nd && out->sampled; i++) px[2 + i] = v->out[first + i];
  place_dims(order, 0, nd, v->channels_last);
  out->advance_x[PART] = distance(nd + 2, x, order, 0) * (size_t)px[0];
  out->advance_x[BLOCK] = distance(nd + 2, x, order, 1) * (size_t)px[1];
  out->advance_y[PART] = distance(nd + 2, y, order, 0) * (size_t)py[0];
  out->advance_y[BLOCK] = distance(nd + 2, y, order, 1) * (size_t)py[1];
  out->advance_bias[BLOCK] = (size_t)pb[0] * sizeof(float);
  MX_TRY(strided(&out->x, nd + 2, x, px, order, err));
  for (int i = 0; i < nd && out->sampled; i++) out->x.format_desc.blocking.strides[2 + i] *= v->stride[first + i];
  MX_TRY(strided(&out->y, nd + 2, y, py, order, err));
  MX_TRY(use_layout(&out->used_x, &out->x, layout, v->channels_last, err));
  MX_TRY(use_layout(&out->used_y, &out->y, layout, v->channels_last, err));
  place_dims(order, g, nd, v->channels_last);
  const int cut_w = g || kind != CONV_DATA ? 0 : 1;
  out->advance_w[BLOCK] = distance(nd + 2 + g, w, order, cut_w) * (size_t)pw[cut_w];
  MX_TRY(strided(&out->w, nd + 2 + g, w, pw, order, err));
  MX_TRY(use_layout(&out->used_w, &out->w, LAYOUT_FREE, false, err));
  return check(dnnl_memory_desc_init_by_tag(&out->bias, 1, pb, dnnl_f32, dnnl_a), "memory description", err);
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

/* The operands of a stage: which pieces they come in follows from what is cut. */
static operand piece(mx_dnnl_ref ref, int name, dnnl_query_t query, const dnnl_memory_desc_t *view,
                     const size_t *advance, bool part, bool block) {
  return (operand){.ref = ref,
                   .name = name,
                   .query = query,
                   .view = *view,
                   .varies = {part, block},
                   .advance = {advance[PART], advance[BLOCK]}};
}
static operand result(operand x) {
  x.output = true;
  return x;
}

static void begin_stage(mx_dnnl_program *p, const mx_conv *v) {
  p->work += (double)v->batch * (double)mx_conv_out_size(v) * (double)v->filters * (double)(v->channels / v->groups) *
             (double)mx_conv_kernel_size(v);
}

mx_status mx_dnnl_conv_forward(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref w, mx_dnnl_ref bias,
                               mx_dnnl_ref y, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_primitive_desc_t pd;
  MX_TRY(view_conv(v, CONV_FORWARD, &cv, declined, err));
  if (*declined) return MX_OK;
  MX_TRY(describe_forward(&cv, bias != MX_DNNL_NONE, &pd, declined, err));
  if (*declined) return MX_OK;
  stage *g = &cv.stage;
  g->x[g->n++] = piece(x, DNNL_ARG_SRC, dnnl_query_src_md, &cv.x, cv.advance_x, true, v->groups > 1);
  g->x[0].copied = v->in_place;
  g->x[g->n++] = piece(w, DNNL_ARG_WEIGHTS, dnnl_query_weights_md, &cv.w, cv.advance_w, false, true);
  g->x[g->n++] = result(piece(y, DNNL_ARG_DST, dnnl_query_dst_md, &cv.y, cv.advance_y, true, true));
  if (bias != MX_DNNL_NONE)
    g->x[g->n++] = piece(bias, DNNL_ARG_BIAS, dnnl_query_undef, &cv.bias, cv.advance_bias, false, true);
  begin_stage(p, v);
  mx_status st = add_stage(p, pd, "convolution forward", g, err);
  dnnl_primitive_desc_destroy(pd);
  return st;
}

/* Backward primitives are described with the forward one as a hint. */
static mx_status add_backward(mx_dnnl_program *p, const mx_conv *v, conv_view *cv, const void *desc, const char *name,
                              bool *declined, mx_error *err) {
  dnnl_primitive_desc_t hint, pd;
  MX_TRY(describe_forward(cv, false, &hint, declined, err));
  if (*declined) return MX_OK;
  mx_status st = describe(desc, name, hint, &pd, declined, err);
  if (st == MX_OK && !*declined) {
    begin_stage(p, v);
    st = add_stage(p, pd, name, &cv->stage, err);
    dnnl_primitive_desc_destroy(pd);
  }
  dnnl_primitive_desc_destroy(hint);
  return st;
}

mx_status mx_dnnl_conv_backward_data(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref dy, mx_dnnl_ref w,
                                     mx_dnnl_ref dx, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_convolution_desc_t d;
  const char *name = "convolution backward by data";
  MX_TRY(view_conv(v, CONV_DATA, &cv, declined, err));
  if (*declined) return MX_OK;
  MX_TRY(check(dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &cv.used_x, &cv.used_w,
                                                                &cv.used_y, cv.stride, cv.dilate, cv.pad, cv.pad_end),
               name, err));
  stage *g = &cv.stage;
  g->x[g->n++] = piece(dy, DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, &cv.y, cv.advance_y, true, v->groups > 1);
  g->x[g->n++] = piece(w, DNNL_ARG_WEIGHTS, dnnl_query_weights_md, &cv.w, cv.advance_w, false, true);
  g->x[g->n++] = result(piece(dx, DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, &cv.x, cv.advance_x, true, true));
  if (cv.sampled) { /* pixels that no window sees */
    const place none = {.base = dx};
    MX_TRY(add_sum(p, none, none, 0, 0, v->batch * v->channels * mx_conv_in_size(v), err));
  }
  return add_backward(p, v, &cv, &d, name, declined, err);
}

mx_status mx_dnnl_conv_backward_weight(mx_dnnl_program *p, const mx_conv *v, mx_dnnl_ref x, mx_dnnl_ref dy,
                                       mx_dnnl_ref dw, mx_dnnl_ref dbias, bool *declined, mx_error *err) {
  conv_view cv;
  dnnl_convolution_desc_t d;
  const char *name = "convolution backward by weights";
  MX_TRY(view_conv(v, CONV_WEIGHT, &cv, declined, err));
  if (*declined) return MX_OK;
  MX_TRY(check(dnnl_dilated_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &cv.used_x, &cv.used_w,
                                                                   dbias == MX_DNNL_NONE ? NULL : &cv.bias, &cv.used_y,
                                                                   cv.stride, cv.dilate, cv.pad, cv.pad_end),
               name, err));
  stage *g = &cv.stage;
  g->x[g->n++] = piece(x, DNNL_ARG_SRC, dnnl_query_src_md, &cv.x, cv.advance_x, true, v->groups > 1);
  g->x[g->n++] = piece(dy, DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, &cv.y, cv.advance_y, true, true);
  g->x[g->n++] = result(piece(dw, DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, &cv.w, cv.advance_w, false, true));
  if (dbias != MX_DNNL_NONE)
    g->x[g->n++] = result(piece(dbias, DNNL_ARG_DIFF_BIAS, dnnl_query_undef, &cv.bias, cv.advance_bias, false, true));
  return add_backward(p, v, &cv, &d, name, declined, err);
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
