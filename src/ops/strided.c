/* Strided copies. The block is simplified first (dimensions of one element go, neighbours that run on in both views
 * become one); then the two innermost loops are one of three kernels, and threads share the rest: rows    both views
 * run contiguously: memcpy tiles   the views run along different dimensions: 16 x 16 tiles, transposed in vector
 * registers general anything else */
#include "ops/strided.h"

#include <stdbool.h>
#include <string.h>

#include "core/thread.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* Innermost work: dst[r * dr + c * dc] = src[r * sr + c * sc] for r < rows, c < cols; strides in elements. */
typedef struct job {
  int64_t rows, cols;
  int64_t sr, sc, dr, dc;
  bool stream; /* stores may pass by the cache */
} job;

typedef void (*kernel)(const job *j, const void *src, void *dst);

/* ---- general ---- */

#define DEFINE_GENERAL(bits)                                                                \
  MX_CLONES static void general_##bits(const job *j, const void *src, void *dst) {          \
    const uint##bits##_t *s = src;                                                          \
    uint##bits##_t *d = dst;                                                                \
    int64_t rows = j->rows, cols = j->cols, sr = j->sr, sc = j->sc, dr = j->dr, dc = j->dc; \
    if (cols < 8 && rows > cols) { /* the longer loop goes inside */                        \
      int64_t t = rows;                                                                     \
      rows = cols, cols = t;                                                                \
      t = sr, sr = sc, sc = t;                                                              \
      t = dr, dr = dc, dc = t;                                                              \
    }                                                                                       \
    for (int64_t r = 0; r < rows; r++, s += sr, d += dr) {                                  \
      if (dc != 1) {                                                                        \
        for (int64_t c = 0; c < cols; c++) d[c * dc] = s[c * sc];                           \
      } else if (sc == 0) {                                                                 \
        uint##bits##_t v = *s;                                                              \
        _Pragma("omp simd") for (int64_t c = 0; c < cols; c++) d[c] = v;                    \
      } else if (sc == -1) {                                                                \
        _Pragma("omp simd") for (int64_t c = 0; c < cols; c++) d[c] = s[-c];                \
      } else if (sc == 2) {                                                                 \
        _Pragma("omp simd") for (int64_t c = 0; c < cols; c++) d[c] = s[2 * c];             \
      } else {                                                                              \
        for (int64_t c = 0; c < cols; c++) d[c] = s[c * sc];                                \
      }                                                                                     \
    }                                                                                       \
  }
DEFINE_GENERAL(8)
DEFINE_GENERAL(16)
DEFINE_GENERAL(32)
DEFINE_GENERAL(64)

/* ---- rows ---- */

#define DEFINE_ROWS(bits)                                                                                      \
  static void rows_##bits(const job *j, const void *src, void *dst) {                                          \
    const uint##bits##_t *s = src;                                                                             \
    uint##bits##_t *d = dst;                                                                                   \
    if (j->cols >= 16) {                                                                                       \
      for (int64_t r = 0; r < j->rows; r++, s += j->sr, d += j->dr) memcpy(d, s, (size_t)j->cols * sizeof *d); \
    } else {                                                                                                   \
      for (int64_t r = 0; r < j->rows; r++, s += j->sr, d += j->dr)                                            \
        for (int64_t c = 0; c < j->cols; c++) d[c] = s[c];                                                     \
    }                                                                                                          \
  }
DEFINE_ROWS(8)
DEFINE_ROWS(16)
DEFINE_ROWS(32)
DEFINE_ROWS(64)

/* ---- tiles: sr == 1 and dc == 1 ---- */

#define TILE 16
#define TILE_BYTES 128 /* of a tile's rows in the destination */

/* Writes `bytes` (a multiple of 16) from an aligned buffer past the cache where the machine can. */
MX_INLINE void stream_line(void *dst, const void *src, size_t bytes) {
#if defined(__SSE2__)
  for (size_t i = 0; i < bytes; i += 16)
    _mm_stream_si128((__m128i *)((char *)dst + i), _mm_load_si128((const __m128i *)((const char *)src + i)));
#else
  memcpy(dst, src, bytes);
#endif
}

/* Eight vectors of eight lanes are transposed by three rounds of interleaving the first four with the last four. */
#define ZIP_ROUND(a, b)                                                                       \
  _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) {                                       \
    (b)[2 * i] = __builtin_shufflevector((a)[i], (a)[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);       \
    (b)[2 * i + 1] = __builtin_shufflevector((a)[i], (a)[i + 4], 4, 12, 5, 13, 6, 14, 7, 15); \
  }

/* A tile goes through a buffer, so that cache lines of source and destination are each touched once, as a whole: with
 * strides that are large powers of two the lines of a tile compete for one cache set. */
#define DEFINE_TILES(bits)                                                                                          \
  typedef uint##bits##_t lanes##bits __attribute__((vector_size(bits), aligned(bits / 8), may_alias));              \
  /* TILE x width elements, width a multiple of 8, by way of the buffer; what is `ahead` is fetched. */             \
  MX_INLINE void tile_##bits(const uint##bits##_t *from, int64_t sc, uint##bits##_t *to, int64_t dr, int64_t width, \
                             uint##bits##_t *buffer, bool stream, int64_t ahead) {                                  \
    enum { WIDE = TILE_BYTES / sizeof(uint##bits##_t) };                                                            \
    for (int64_t y = 0; y < width; y += 8) {                                                                        \
      for (int i = 0; stream && i < 8; i++) __builtin_prefetch(from + ahead + (y + i) * sc, 0, 2);                  \
      for (int x = 0; x < TILE; x += 8) {                                                                           \
        lanes##bits a[8], b[8];                                                                                     \
        for (int i = 0; i < 8; i++) a[i] = *(const lanes##bits *)(from + x + (y + i) * sc);                         \
        ZIP_ROUND(a, b)                                                                                             \
        ZIP_ROUND(b, a)                                                                                             \
        ZIP_ROUND(a, b)                                                                                             \
        for (int i = 0; i < 8; i++) *(lanes##bits *)(buffer + (x + i) * WIDE + y) = b[i];                           \
      }                                                                                                             \
    }                                                                                                               \
    for (int x = 0; x < TILE; x++) {                                                                                \
      if (stream)                                                                                                   \
        stream_line(to + x * dr, buffer + x * WIDE, sizeof *buffer * (size_t)width);                                \
      else                                                                                                          \
        memcpy(to + x * dr, buffer + x * WIDE, sizeof *buffer * (size_t)width);                                     \
    }                                                                                                               \
  }                                                                                                                 \
  MX_CLONES static void tiles_##bits(const job *j, const void *src, void *dst) {                                    \
    enum { WIDE = TILE_BYTES / sizeof(uint##bits##_t) };                                                            \
    uint##bits##_t buffer[TILE * WIDE] __attribute__((aligned(64)));                                                \
    const int64_t rows = j->rows, cols = j->cols, sc = j->sc, dr = j->dr;                                           \
    const bool stream = j->stream;                                                                                  \
    for (int64_t r = 0; r < rows; r += TILE) {                                                                      \
      /* Two tiles further on, where the next block of columns follows the last rows. */                            \
      const int64_t ahead = 2 * TILE - (r + 2 * TILE < rows ? 0 : rows - cols * sc);                                \
      for (int64_t c = 0; c < cols; c += WIDE) {                                                                    \
        const int64_t nr = rows - r < TILE ? rows - r : TILE, nc = cols - c < WIDE ? cols - c : WIDE;               \
        const int64_t width = nr < TILE ? 0 : nc - nc % 8;                                                          \
        const uint##bits##_t *from = (const uint##bits##_t *)src + r + c * sc;                                      \
        uint##bits##_t *to = (uint##bits##_t *)dst + r * dr + c;                                                    \
        if (width == WIDE && stream)                                                                                \
          tile_##bits(from, sc, to, dr, WIDE, buffer, true, ahead);                                                 \
        else if (width == WIDE)                                                                                     \
          tile_##bits(from, sc, to, dr, WIDE, buffer, false, 0);                                                    \
        else                                                                                                        \
          for (int64_t y = 0; y < width; y += 8) tile_##bits(from + y * sc, sc, to + y, dr, 8, buffer, false, 0);   \
        for (int64_t x = 0; x < nr; x++)                                                                            \
          for (int64_t y = width; y < nc; y++) to[x * dr + y] = from[x + y * sc];                                   \
      }                                                                                                             \
    }                                                                                                               \
  }
DEFINE_TILES(8)
DEFINE_TILES(16)
DEFINE_TILES(32)
DEFINE_TILES(64)

/* ---- choosing and sharing the work ---- */

typedef struct plan {
  kernel run;
  size_t element;
  int n_outer;
  int64_t dim[MX_STRIDED_NDIM], src[MX_STRIDED_NDIM], dst[MX_STRIDED_NDIM]; /* outer dimensions */
  job inner;                                                                /* the whole of the two inner dimensions */
  int64_t row_block, col_block, row_blocks, col_blocks;
} plan;

/* Drops dimensions of one element and joins neighbours that run on in both views. */
static mx_strided simplified(const mx_strided *s) {
  mx_strided t = {.ndim = 0};
  for (int i = 0; i < s->ndim; i++) {
    if (s->dim[i] == 1) continue;
    int l = t.ndim - 1;
    if (l >= 0 && t.src[l] == s->src[i] * s->dim[i] && t.dst[l] == s->dst[i] * s->dim[i]) {
      t.dim[l] *= s->dim[i];
      t.src[l] = s->src[i];
      t.dst[l] = s->dst[i];
      continue;
    }
    t.dim[t.ndim] = s->dim[i];
    t.src[t.ndim] = s->src[i];
    t.dst[t.ndim] = s->dst[i];
    t.ndim++;
  }
  return t;
}

#define STREAM_BYTES ((int64_t)16 << 20) /* larger results would not stay in the cache anyway */
#define BLOCK_BYTES 65536

static int kernel_row(size_t element) { return element == 1 ? 0 : element == 2 ? 1 : element == 4 ? 2 : 3; }

static void make_plan(const mx_strided *s, size_t element, const void *dst, int64_t size, plan *p) {
  static const kernel general[] = {general_8, general_16, general_32, general_64};
  static const kernel rows[] = {rows_8, rows_16, rows_32, rows_64};
  static const kernel tiles[] = {tiles_8, tiles_16, tiles_32, tiles_64};
  int last = s->ndim - 1, row = s->ndim - 2, which = kernel_row(element);
  p->element = element;
  p->inner = (job){.rows = 1, .cols = 1, .sc = 1, .dc = 1};
  if (last >= 0) p->inner.cols = s->dim[last], p->inner.sc = s->src[last], p->inner.dc = s->dst[last];
  p->run = general[which];
  bool tiled = false;
  if (p->inner.sc == 1 && p->inner.dc == 1) {
    p->run = rows[which];
  } else if (p->inner.dc == 1 && p->inner.cols >= 8) {
    for (int i = 0; i < last; i++)
      if (s->src[i] == 1 && s->dim[i] >= 8) tiled = true, row = i;
    if (tiled) p->run = tiles[which];
  }
  if (row >= 0) p->inner.rows = s->dim[row], p->inner.sr = s->src[row], p->inner.dr = s->dst[row];
  p->n_outer = 0;
  for (int i = 0; i < last; i++) {
    if (i == row) continue;
    p->dim[p->n_outer] = s->dim[i];
    p->src[p->n_outer] = s->src[i];
    p->dst[p->n_outer++] = s->dst[i];
  }
  int64_t block = BLOCK_BYTES / (int64_t)element;
  if (tiled) {
    /* Tall blocks, a few lines of the destination wide: not many streams are read at a time. */
    p->inner.stream = element * TILE >= 64 && size * (int64_t)element >= STREAM_BYTES && (uintptr_t)dst % 16 == 0;
    for (int i = 0; i < s->ndim && p->inner.stream; i++)
      p->inner.stream = i == last || s->dst[i] * (int64_t)element % 16 == 0;
    p->row_block = p->inner.stream ? 1024 : 256;
    p->col_block = TILE_BYTES / (int64_t)element;
  } else {
    p->col_block = p->inner.cols < block ? p->inner.cols : block;
    p->row_block = p->col_block < block ? block / p->col_block : 1;
  }
  if (p->row_block > p->inner.rows) p->row_block = p->inner.rows;
  p->row_blocks = (p->inner.rows + p->row_block - 1) / p->row_block;
  p->col_blocks = (p->inner.cols + p->col_block - 1) / p->col_block;
}

/* Blocks lo .. hi-1 in the order of the outer dimensions, then rows, then columns. */
static void run_blocks(const plan *p, int64_t lo, int64_t hi, const char *src, char *dst) {
  int64_t index[MX_STRIDED_NDIM], at = lo, es = (int64_t)p->element;
  int64_t cb = at % p->col_blocks;
  at /= p->col_blocks;
  int64_t rb = at % p->row_blocks;
  at /= p->row_blocks;
  for (int i = p->n_outer - 1; i >= 0; i--) {
    index[i] = at % p->dim[i];
    at /= p->dim[i];
    src += index[i] * p->src[i] * es;
    dst += index[i] * p->dst[i] * es;
  }
  for (int64_t b = lo; b < hi; b++) {
    job j = p->inner;
    int64_t r = rb * p->row_block, c = cb * p->col_block;
    j.rows = j.rows - r < p->row_block ? j.rows - r : p->row_block;
    j.cols = j.cols - c < p->col_block ? j.cols - c : p->col_block;
    p->run(&j, src + (r * j.sr + c * j.sc) * es, dst + (r * j.dr + c * j.dc) * es);
    if (++cb < p->col_blocks) continue;
    cb = 0;
    if (++rb < p->row_blocks) continue;
    rb = 0;
    for (int i = p->n_outer - 1; i >= 0; i--) {
      src += p->src[i] * es;
      dst += p->dst[i] * es;
      if (++index[i] < p->dim[i]) break;
      src -= p->src[i] * p->dim[i] * es;
      dst -= p->dst[i] * p->dim[i] * es;
      index[i] = 0;
    }
  }
#if defined(__SSE2__)
  if (p->inner.stream) _mm_sfence();
#endif
}

void mx_strided_copy(const mx_strided *s, size_t element, const void *src, void *dst) {
  int64_t size = 1, blocks;
  for (int i = 0; i < s->ndim; i++) size *= s->dim[i];
  if (size == 0) return;
  mx_strided t = simplified(s);
  plan p;
  make_plan(&t, element, dst, size, &p);
  blocks = p.row_blocks * p.col_blocks;
  for (int i = 0; i < p.n_outer; i++) blocks *= p.dim[i];
  int threads = mx_threads_for(size, MX_GRAIN);
  if (threads > blocks) threads = (int)blocks;
  if (threads <= 1) {
    run_blocks(&p, 0, blocks, src, dst);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int t_ = 0; t_ < threads; t_++) run_blocks(&p, blocks * t_ / threads, blocks * (t_ + 1) / threads, src, dst);
}
