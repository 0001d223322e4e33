# Optimizers: how a parameter moves when its gradient is known.
#
# An optimizer is list(create_exec, update), as users may write it themselves. Those made here also know how to step all
# parameters of a network in place (attribute "stepper" of `update`), which is what training uses.

#' Create an optimizer
#'
#' With `g` the gradient times `rescale.grad`, clipped to `+-clip_gradient` when that is not negative, and `w` the
#' parameter (weight decay `wd` acts on every parameter, biases too):
#'
#' * `"sgd"`: `w -= lr * (g + wd * w)`; with momentum `m = momentum * m - lr * (g + wd * w); w += m`.
#' * `"nag"` (Nesterov): `m = momentum * m + g + wd * w; w -= lr * (momentum * m + g)`; without momentum as sgd.
#' * `"rmsprop"`: `n = gamma1 * n + (1 - gamma1) * g^2; a = gamma1 * a + (1 - gamma1) * g;`
#'   `d = gamma2 * d - lr * g / sqrt(n - a^2 + epsilon); w += d`; with `centered = FALSE`
#'   `w -= lr * g / sqrt(n + epsilon)`.
#' * `"adam"`: `m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2; w -= lr * m / (sqrt(v) + epsilon)`.
#' * `"adagrad"`: `h += g^2; w -= lr * (g / sqrt(h + epsilon) + wd * w)`.
#' * `"adadelta"`: `G = rho * G + (1 - rho) * g^2; d = sqrt(D + epsilon) / sqrt(G + epsilon) * g;`
#'   `D = rho * D + (1 - rho) * d^2; w -= d + wd * w`.
#'
#' In rmsprop and adam the weight decay belongs to the gradient and is clipped with it:
#' `g = clip(rescale.grad * grad + wd * w)`. Adam has no bias correction, so its first steps are larger than elsewhere.
#'
#' All take `wd = 0`, `rescale.grad = 1`, `clip_gradient = -1` and, but for adadelta, `lr_scheduler = NULL`. Besides:
#'
#' * `"sgd"`, `"nag"`: `learning.rate = 0.01, momentum = 0`
#' * `"rmsprop"`: `learning.rate = 0.002, centered = TRUE, gamma1 = 0.95, gamma2 = 0.9, epsilon = 1e-04`
#' * `"adam"`: `learning.rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-08`
#' * `"adagrad"`: `learning.rate = 0.05, epsilon = 1e-08`
#' * `"adadelta"`: `rho = 0.9, epsilon = 1e-05`
#'
#' `lr` is accepted for `learning.rate`. Losses add up over the examples of a batch, so `rescale.grad` should be one
#' over the batch size; the training functions set it so when the optimizer is given by name.
#'
#' @section Optimizers of your own: Any list of two functions serves: `create_exec(index, weight_dim, ctx)` makes
#'   whatever the state of parameter number `index` is (an executor as a rule), and `update(index, exec_w, weight,
#'   grad)` returns the new value of the parameter as an NDArray; training copies it.
#' @param name `"sgd"`, `"nag"`, `"rmsprop"`, `"adam"`, `"adagrad"` or `"adadelta"`.
#' @param ... Arguments of the optimizer, see the table.
#' @return A list of `create_exec` and `update`.
#' @section Errors: `mxnet_value_error` for an unknown name or argument, or a value that is not a single number.
#' @seealso [mx.lr_scheduler], [mx.opt.get.updater()].
#' @examples
#' opt <- mx.opt.create("sgd", learning.rate = 0.1, momentum = 0.9)
#' update <- mx.opt.get.updater(opt, list(w = mx.nd.array(c(1, 2))), mx.cpu())
#' update(list(w = mx.nd.array(c(1, 2))), list(w = mx.nd.array(c(0.5, 0))))$w
#' @export
mx.opt.create <- function(name, ...) {
  make <- if (is.character(name) && length(name) == 1L)
    switch(name, sgd = mx.opt.sgd, rmsprop = mx.opt.rmsprop, adam = mx.opt.adam, adagrad = mx.opt.adagrad,
           adadelta = mx.opt.adadelta, nag = mx.opt.nag)
  if (is.null(make)) mx.stop("value", "Unknown optimizer ", paste(format(name), collapse = " "),
                                  "; there are sgd, rmsprop, adam, adagrad, adadelta and nag.")
  args <- list(...)
  given <- names(args)
  given[given == "lr"] <- "learning.rate" # would match lr_scheduler otherwise
  known <- names(formals(make))
  # Positional arguments are fine; names may be shortened as in any call.
  unknown <- given[nzchar(given) & is.na(pmatch(given, known, duplicates.ok = TRUE))]
  if (length(unknown))
    mx.stop("value", "Optimizer ", name, " has no argument ", mx.util.and(paste0("`", unknown, "`")), "; it takes ",
                 mx.util.and(known, 99L), ".")
  names(args) <- given
  do.call(make, args)
}

#' Updates of a list of parameters
#'
#' @param optimizer An optimizer, see [mx.opt.create()].
#' @param weights List of NDArrays, whose dims the states get. `NULL` entries are skipped.
#' @param ctx Device of the states; when it is left out, that of each weight.
#' @return A `function(weight, grad)` of two lists that returns the list of new weights; a `NULL` gradient gives `NULL`.
#'   The input weights are not changed. The arrays of the result are overwritten by the next call: copy those that you
#'   keep.
#' @section Errors: `mxnet_value_error` when `optimizer` is none or the lists differ in length.
#' @examples
#' w <- list(mx.nd.ones(2))
#' update <- mx.opt.get.updater(mx.opt.create("sgd", learning.rate = 0.5), w, mx.cpu())
#' update(w, list(mx.nd.ones(2)))[[1]]
#' @export
mx.opt.get.updater <- function(optimizer, weights, ctx) {
  mx.opt.internal.check(optimizer)
  if (!is.list(weights)) mx.stop("value", "`weights` must be a list of NDArrays, not ", mx.util.say(weights), ".",
                                 argument = "weights")
  device <- if (missing(ctx)) mx.nd.internal.ctx else function(weight) ctx
  exec <- lapply(seq_along(weights), function(i) {
    w <- weights[[i]]
    if (!is.null(w)) optimizer$create_exec(index = i, weight_dim = dim(w), ctx = device(w))
  })
  function(weight, grad) {
    if (length(weight) != length(exec) || length(grad) != length(exec))
      mx.stop("value", "The updater needs ", length(exec), " weights and gradients, not ", length(weight), " and ",
              length(grad), ".")
    new <- lapply(seq_along(exec), function(i)
      if (!is.null(grad[[i]]) && !is.null(exec[[i]])) optimizer$update(i, exec[[i]], weight[[i]], grad[[i]]))
    names(new) <- names(weight)
    new
  }
}

mx.opt.internal.check <- function(optimizer) {
  if (!is.list(optimizer) || !is.function(optimizer$create_exec) || !is.function(optimizer$update))
    mx.stop("value", "An optimizer must be a list of two functions, create_exec and update (see mx.opt.create), not ",
                 mx.util.say(optimizer), ".")
}

# A function without arguments that moves `weights` in place by `grads` (two lists of NDArrays on one device that are
# the same at every call). Its attribute `states` are arrays of its own.
mx.opt.stepper <- function(optimizer, weights, grads) {
  stepper <- attr(optimizer$update, "stepper")
  if (!is.null(stepper)) return(stepper(weights, grads))
  exec <- lapply(seq_along(weights), function(i)
    optimizer$create_exec(index = i, weight_dim = dim(weights[[i]]), ctx = ctx(weights[[i]])))
  function() {
    for (i in seq_along(weights)) {
      new <- optimizer$update(i, exec[[i]], weights[[i]], grads[[i]])
      if (!inherits(new, "MXNDArray"))
        mx.stop("value", "`update` of the optimizer must return the new weight as an NDArray, not ", mx.util.say(new),
                ".")
      mx.util.assign(weights[[i]], new)
    }
  }
}

# Makes an optimizer of an operator: its inputs are weight, grad and `states`, its parameters `params` and, unless it is
# NULL, lr.
mx.opt.internal.build <- function(op, states, params, lr = NULL, lr_scheduler = NULL) {
  env <- list2env(list(lr = lr, count = 0, num_update = 0), parent = emptyenv())

  # The parameters for the next update of weight number `index`.
  settings <- function(index) {
    if (is.null(lr)) return(params)
    if (is.null(lr_scheduler)) return(c(list(lr = lr), params))
    key <- paste0("ik", index)
    done <- if (is.null(env[[key]])) 0 else env[[key]]
    env$num_update <- max(env$num_update, done)
    lr_scheduler(env)
    env[[key]] <- done + 1
    c(list(lr = env$lr), params)
  }

  create_exec <- function(index, weight_dim, ctx) {
    variables <- lapply(c("weight", "grad", states), mx.symbol.Variable)
    args <- c(variables, if (!is.null(lr)) list(lr = lr), params, list(name = "w"))
    symbol <- .Call(ffi_symbol_operator, op, args, NULL)
    mx.simple.bind(symbol, ctx = ctx, grad.req = "null", weight = weight_dim, grad = weight_dim)
  }

  update <- function(index, exec_w, weight, grad) {
    own <- exec_w$ref.arg.arrays$weight
    mx.util.assign(own, weight)
    inputs <- c(list(own, grad), exec_w$ref.aux.arrays[states])
    .Call(ffi_nd_operator_each, op, list(inputs), settings(index), list(own))
    own
  }

  attr(update, "stepper") <- function(weights, grads) {
    zeros <- lapply(weights, function(w) lapply(states, function(s) mx.nd.zeros(dim(w), ctx(w))))
    inputs <- mapply(function(w, g, s) c(list(w, g), s), weights, grads, zeros, SIMPLIFY = FALSE)
    index <- seq_along(weights)
    all <- if (is.null(lr_scheduler)) settings(1)
    step <- function() {
      if (!is.null(all)) return(.Call(ffi_nd_operator_each, op, inputs, all, weights))
      for (i in index) .Call(ffi_nd_operator_each, op, inputs[i], settings(i), weights[i])
    }
    structure(step, states = zeros)
  }
  say <- function(f) do.call(mx.util.described, c(list(f, "optimizer", sub("_update$", "", sub("^_", "", op)), lr = lr),
                                                  params))
  list(create_exec = say(create_exec), update = say(update))
}

# The parameters of an update operator besides lr, checked.
mx.opt.internal.params <- function(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, ...) {
  own <- list(...)
  if (is.null(clip_gradient)) clip_gradient <- -1 # what old releases called no clipping
  all <- c(list(learning.rate = learning.rate, wd = wd, rescale.grad = rescale.grad, clip_gradient = clip_gradient),
           own)
  for (n in names(all)) {
    v <- all[[n]]
    if (!is.numeric(v) || length(v) != 1L || is.na(v))
      mx.stop("value", "`", n, "` of an optimizer must be a number, not ", mx.util.say(v), ".", argument = n)
  }
  if (!is.null(lr_scheduler) && !is.function(lr_scheduler))
    mx.stop("value", "`lr_scheduler` must be a function (see mx.lr_scheduler), not ", mx.util.say(lr_scheduler), ".")
  c(own, list(wd = wd, rescale_grad = rescale.grad, clip_gradient = clip_gradient))
}

mx.opt.sgd <- function(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1,
                       lr_scheduler = NULL) {
  params <- mx.opt.internal.params(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, momentum = momentum)
  if (momentum != 0) return(mx.opt.internal.build("sgd_mom_update", "mom", params, learning.rate, lr_scheduler))
  params$momentum <- NULL
  mx.opt.internal.build("sgd_update", character(), params, learning.rate, lr_scheduler)
}

mx.opt.nag <- function(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1,
                       lr_scheduler = NULL) {
  params <- mx.opt.internal.params(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, momentum = momentum)
  if (momentum == 0) return(mx.opt.sgd(learning.rate, 0, wd, rescale.grad, clip_gradient, lr_scheduler))
  mx.opt.internal.build("_nag_update", "mom", params, learning.rate, lr_scheduler)
}

mx.opt.rmsprop <- function(learning.rate = 0.002, centered = TRUE, gamma1 = 0.95, gamma2 = 0.9, epsilon = 1e-4, wd = 0,
                           rescale.grad = 1, clip_gradient = -1, lr_scheduler = NULL) {
  params <- mx.opt.internal.params(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, gamma1 = gamma1,
                                   gamma2 = gamma2, epsilon = epsilon)
  if (mx.util.flag(centered, "centered"))
    return(mx.opt.internal.build("rmspropalex_update", c("n", "g", "delta"), params, learning.rate, lr_scheduler))
  params$gamma2 <- NULL
  mx.opt.internal.build("rmsprop_update", "n", params, learning.rate, lr_scheduler)
}

mx.opt.adam <- function(learning.rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, wd = 0, rescale.grad = 1,
                        clip_gradient = -1, lr_scheduler = NULL) {
  params <- mx.opt.internal.params(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, beta1 = beta1,
                                   beta2 = beta2, epsilon = epsilon)
  mx.opt.internal.build("adam_update", c("mean", "var"), params, learning.rate, lr_scheduler)
}

mx.opt.adagrad <- function(learning.rate = 0.05, epsilon = 1e-8, wd = 0, rescale.grad = 1, clip_gradient = -1,
                           lr_scheduler = NULL) {
  params <- mx.opt.internal.params(lr_scheduler, learning.rate, wd, rescale.grad, clip_gradient, epsilon = epsilon)
  mx.opt.internal.build("_adagrad_update", "history", params, learning.rate, lr_scheduler)
}

mx.opt.adadelta <- function(rho = 0.9, epsilon = 1e-5, wd = 0, rescale.grad = 1, clip_gradient = -1) {
  params <- mx.opt.internal.params(NULL, 0, wd, rescale.grad, clip_gradient, rho = rho, epsilon = epsilon)
  mx.opt.internal.build("_adadelta_update", c("acc.g", "acc.delta"), params)
}
