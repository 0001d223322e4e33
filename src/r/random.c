/* Seeds. mx.set.seed fixes the core's sequence; until it is called, every use takes a fresh key from R's own generator,
 * so that set.seed() alone makes a run repeat. */
#include <math.h>

#include "r/ffi.h"
#include "r/glue.h"

#include <R_ext/Random.h>

#include "core/random.h"

static bool seeded;

void mxr_random_begin(void) {
  if (seeded) return;
  GetRNGstate();
  uint64_t high = (uint64_t)(unif_rand() * 0x1p32), low = (uint64_t)(unif_rand() * 0x1p32);
  PutRNGstate();
  mx_random_seed(high << 32 | low);
}

/* NULL: back to R's generator. */
SEXP ffi_random_seed(SEXP seed) {
  seeded = seed != R_NilValue;
  if (!seeded) return R_NilValue;
  double x = Rf_isNumeric(seed) && XLENGTH(seed) == 1 ? Rf_asReal(seed) : R_NaN;
  if (!(fabs(x) < 0x1p63)) {
    seeded = false;
    mxr_stop_type("seed", "a number", seed);
  }
  mx_random_seed((uint64_t)(int64_t)x);
  return R_NilValue;
}
