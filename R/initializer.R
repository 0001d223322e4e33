# Initializers: functions that make the first values of a parameter from its name and shape.

#' Initializers
#'
#' An initializer is a `function(name, shape, ctx, allow.unknown = FALSE)` that returns an NDArray. Those made here draw
#' the parameters whose name ends in `weight` and set the others by their names: `bias`, `beta` and `moving_mean` to 0,
#' `gamma` and `moving_var` to 1. Random numbers follow [mx.set.seed()].
#'
#' `mx.init.uniform` draws from U(-scale, scale), `mx.init.normal` from N(0, sd^2). `mx.init.Xavier` adapts the width to
#' the layer: with `fan_out` the last dimension and `fan_in` the product of the others, `factor` is their mean
#' (`"avg"`), `fan_in` (`"in"`) or `fan_out` (`"out"`), and `scale = sqrt(magnitude / factor)`; `"uniform"` draws from
#' U(-scale, scale), `"gaussian"` from N(0, scale^2). It keeps signals alive in deep networks, where the default of the
#' training functions, `mx.init.uniform(0.01)`, is too small.
#'
#' @param scale Half the width of the uniform distribution.
#' @param sd Standard deviation.
#' @param rnd_type `"uniform"` or `"gaussian"`.
#' @param factor_type `"avg"`, `"in"` or `"out"`.
#' @param magnitude Variance factor; 3 by default, 2 suits relu networks with `factor_type = "in"`.
#' @return A function of `name`, `shape`, `ctx` and `allow.unknown`. It returns an NDArray, or `NULL` for a name that it
#'   does not know when `allow.unknown` is `TRUE`.
#' @section Errors: A name that ends in none of the words above is an `mxnet_value_error`, unless `allow.unknown`; so
#'   are other words for `rnd_type` and `factor_type`.
#' @examples
#' mx.set.seed(1)
#' init <- mx.init.Xavier(factor_type = "in", magnitude = 2)
#' init("fc1_weight", c(4, 3), mx.cpu())
#' init("fc1_bias", 3, mx.cpu())
#' @name mx.init
NULL

mx.init.internal.default <- function(name, shape, ctx, allow.unknown = FALSE) {
  if (missing(ctx)) ctx <- NULL
  if (mx.util.ends(name, c("bias", "beta", "moving_mean"))) return(mx.nd.zeros(shape, ctx))
  if (mx.util.ends(name, c("gamma", "moving_var"))) return(mx.nd.ones(shape, ctx))
  if (allow.unknown) return(NULL)
  mx.stop("value", "Unkown initialization pattern for  ", name)
}

# An initializer that calls draw(shape, ctx) for weights.
mx.init.internal.drawn <- function(draw, ...) {
  mx.util.described(function(name, shape, ctx, allow.unknown = FALSE) {
    if (missing(ctx)) ctx <- NULL
    if (!endsWith(name, "weight")) return(mx.init.internal.default(name, shape, ctx, allow.unknown))
    draw(shape, ctx)
  }, "initializer", ...)
}

#' @rdname mx.init
#' @export
mx.init.uniform <- function(scale) {
  scale <- mx.util.scalar(scale, "scale")
  mx.init.internal.drawn(function(shape, ctx) mx.runif(shape, -scale, scale, ctx), "uniform", scale = scale)
}

#' @rdname mx.init
#' @export
mx.init.normal <- function(sd) {
  sd <- mx.util.scalar(sd, "sd", 0)
  mx.init.internal.drawn(function(shape, ctx) mx.rnorm(shape, 0, sd, ctx), "normal", sd = sd)
}

#' @rdname mx.init
#' @export
mx.init.Xavier <- function(rnd_type = "uniform", factor_type = "avg", magnitude = 3) {
  magnitude <- mx.util.scalar(magnitude, "magnitude", 0)
  rnd_type <- mx.util.choice(rnd_type, "rnd_type", c("uniform", "gaussian"))
  factor_type <- mx.util.choice(factor_type, "factor_type", c("avg", "in", "out"))
  mx.init.internal.drawn(function(shape, ctx) {
    n <- length(shape)
    fan.out <- shape[n]
    fan.in <- if (n > 1L) prod(shape[-n]) else fan.out
    factor <- switch(factor_type, avg = (fan.in + fan.out) / 2, "in" = fan.in, out = fan.out)
    scale <- sqrt(magnitude / factor)
    switch(rnd_type, uniform = mx.runif(shape, -scale, scale, ctx), gaussian = mx.rnorm(shape, 0, scale, ctx))
  }, "Xavier", rnd_type = rnd_type, factor_type = factor_type, magnitude = magnitude)
}

#' Initialize parameters from their shapes
#'
#' @param initializer An initializer, see [mx.init].
#' @param shape.array Named list of dims (R order).
#' @param ctx Device of the arrays; `NULL` for the default one.
#' @param skip.unknown Leave out names that the initializer does not know? Otherwise they are errors.
#' @return A named list of NDArrays; `list()` when there are none.
#' @section Errors: `mxnet_value_error` for an unknown name when `skip.unknown` is `FALSE`, or for shapes without names.
#' @examples
#' mx.init.create(mx.init.uniform(0.1), list(data = c(2, 3), fc_weight = c(2, 2), fc_bias = 2))
#' @export
mx.init.create <- function(initializer, shape.array, ctx = NULL, skip.unknown = TRUE) {
  mx.util.function(initializer, "initializer", "of a name and a shape (see mx.init)")
  skip.unknown <- mx.util.flag(skip.unknown, "skip.unknown")
  if (!is.vector(shape.array) && !is.null(shape.array))
    mx.stop("value", "`shape.array` must be a named list of dims, not ", mx.util.say(shape.array), ".",
            argument = "shape.array")
  if (!length(shape.array)) return(list())
  if (is.null(names(shape.array))) mx.stop("value", "`shape.array` must be a named list of dims.")
  arrays <- mapply(function(name, shape) initializer(name, shape, ctx, allow.unknown = skip.unknown),
                   names(shape.array), shape.array, SIMPLIFY = FALSE)
  arrays <- mx.util.filter.null(arrays)
  if (length(arrays)) arrays else list()
}
