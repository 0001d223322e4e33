#' Random numbers
#'
#' `mx.set.seed` fixes the sequence that random operators, dropout, initializers and shuffles draw from: the same seed
#' gives
#' the same numbers, whatever the number of threads. As long as it was never called, every draw is seeded from R's own
#' generator, so that [set.seed()] makes a run repeat.
#'
#' @param seed A number; `NULL` goes back to R's generator.
#' @param shape Dimensions of the array.
#' @param min,max Bounds of the uniform distribution; `max` itself is not drawn.
#' @param mean,sd Mean and standard deviation of the normal distribution.
#' @param ctx A context; `NULL`: the default context.
#' @return `mx.set.seed`: `NULL`, invisibly. `mx.runif`, `mx.rnorm`: an `MXNDArray`.
#' @examples
#' mx.set.seed(10)
#' mx.runif(c(2, 2), -10, 10)
#' mean(mx.rnorm(1000, mean = 5, sd = 0.1))
#' mx.set.seed(NULL)
#' @export
mx.set.seed <- function(seed) invisible(.Call(ffi_random_seed, seed))

#' @rdname mx.set.seed
#' @export
mx.runif <- function(shape, min = 0, max = 1, ctx = NULL) {
  mx.util.scalar(min, "min")
  mx.util.scalar(max, "max")
  random.draw("_random_uniform", min, max, shape, ctx)
}

#' @rdname mx.set.seed
#' @export
mx.rnorm <- function(shape, mean = 0, sd = 1, ctx = NULL) {
  mx.util.scalar(mean, "mean")
  mx.util.scalar(sd, "sd")
  random.draw("_random_normal", mean, sd, shape, ctx)
}

# Both distributions have the parameters (first, second, shape, ctx, dtype).
random.draw <- function(op, first, second, shape, ctx) {
  if (!is.null(ctx) && !is.mx.context(ctx)) mx.stop("value", "`ctx` must be a context such as mx.cpu().",
    argument = "ctx", call = sys.call(-1))
  .Call(ffi_nd_operator, op, list(first, second, shape, ctx, NULL), NULL)
}
