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
#' @param ctx Device of the states.
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
  exec <- lapply(seq_along(weights), function(i)
    if (!is.null(weights[[i]])) optimizer$create_exec(index = i, weight_dim = dim(weights[[i]]), ctx = ctx))
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
# the same at every call).
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

# Makes an optimizer.
#   states  names of the state arrays
#   symbol  function(): the update as a symbol of `weight`, `grad` and the states, whose head is called "w"
#   step    function(w, g, s, lr): moves w by gradient g in place; s is the list of states
#   many    function(weights, grads, states): function(lrs) that steps all of them; NULL: one after the other
mx.opt.internal.build <- function(states, symbol, step, many = NULL, lr = 0, lr_scheduler = NULL) {
  env <- list2env(list(lr = lr, count = 0, num_update = 0), parent = emptyenv())

  # The learning rate for the next update of parameter `index`.
  rate <- function(index) {
    if (is.null(lr_scheduler)) return(env$lr)
    lr_scheduler(env)
    key <- paste0("ik", index)
    done <- env[[key]]
    env[[key]] <- done <- if (is.null(done)) 0 else done + 1
    env$num_update <- max(env$num_update, done)
    env$lr
  }

  create_exec <- function(index, weight_dim, ctx)
    mx.simple.bind(symbol(), ctx = ctx, grad.req = "null", weight = weight_dim, grad = weight_dim)

  update <- function(index, exec_w, weight, grad) {
    arrays <- c(exec_w$ref.arg.arrays, exec_w$ref.aux.arrays)
    mx.util.assign(arrays$weight, weight)
    step(arrays$weight, grad, arrays[states], rate(index))
    arrays$weight
  }

  attr(update, "stepper") <- function(weights, grads) {
    if (!length(weights)) return(function() NULL)
    state <- lapply(weights, function(w) lapply(stats::setNames(states, states), function(s) mx.nd.zeros(dim(w),
        ctx(w))))
    index <- seq_along(weights)
    if (is.null(many)) return(function() for (i in index) step(weights[[i]], grads[[i]], state[[i]], rate(i)))
    all <- many(weights, grads, state)
    if (is.null(lr_scheduler)) {
      lrs <- rep(lr, length(weights))
      function() all(lrs)
    } else {
      function() all(vapply(index, rate, 0))
    }
  }
  list(create_exec = create_exec, update = update)
}

# Checks that the named arguments are single numbers and the scheduler a function.
mx.opt.internal.numbers <- function(lr_scheduler = NULL, ...) {
  values <- list(...)
  for (n in names(values)) {
    v <- values[[n]]
    if (!is.numeric(v) || length(v) != 1L || is.na(v))
      mx.stop("value", "`", n, "` of an optimizer must be a number, not ", mx.util.say(v), ".")
  }
  if (!is.null(lr_scheduler) && !is.function(lr_scheduler))
    mx.stop("value", "`lr_scheduler` must be a function (see mx.lr_scheduler), not ", mx.util.say(lr_scheduler), ".")
}

# Rescales and clips a gradient: arrays or symbols.
mx.opt.internal.gradient <- function(grad, rescale.grad, clip_gradient, clip) {
  if (rescale.grad != 1) grad <- grad * rescale.grad
  if (clip_gradient >= 0) grad <- clip(grad, a_min = -clip_gradient, a_max = clip_gradient)
  grad
}

# weight, grad, mom, weight, grad, mom, ...: the inputs of the operators that update many parameters at once.
mx.opt.internal.interleave <- function(weights, grads, states)
  unlist(mapply(function(w, g, s) c(list(w, g), s), weights, grads, states, SIMPLIFY = FALSE, USE.NAMES = FALSE),
         FALSE, FALSE)

mx.opt.sgd <- function(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1,
                       lr_scheduler = NULL) {
  mx.opt.internal.numbers(lr_scheduler, learning.rate = learning.rate, momentum = momentum, wd = wd,
                          rescale.grad = rescale.grad, clip_gradient = clip_gradient)
  plain <- momentum == 0
  symbol <- function() {
    v <- lapply(c("weight", "grad", if (!plain) "mom"), mx.symbol.Variable)
    if (plain) mx.symbol.sgd_update(v[[1L]], v[[2L]], lr = learning.rate, wd = wd, rescale_grad = rescale.grad,
                                    clip_gradient = clip_gradient, name = "w")
    else mx.symbol.sgd_mom_update(v[[1L]], v[[2L]], v[[3L]], lr = learning.rate, momentum = momentum, wd = wd,
                                  rescale_grad = rescale.grad, clip_gradient = clip_gradient, name = "w")
  }
  step <- function(w, g, s, lr) {
    if (plain) mx.nd.sgd.update(w, g, lr = lr, wd = wd, rescale_grad = rescale.grad, clip_gradient = clip_gradient,
                                out = w)
    else mx.nd.sgd.mom.update(w, g, s$mom, lr = lr, momentum = momentum, wd = wd, rescale_grad = rescale.grad,
                              clip_gradient = clip_gradient, out = w)
  }
  many <- function(weights, grads, states) {
    data <- mx.opt.internal.interleave(weights, grads, states)
    n <- length(weights)
    wds <- rep(wd, n)
    weights <- unname(weights)
    if (plain) function(lrs) mx.nd.multi.sgd.update(data, lrs = lrs, wds = wds, rescale_grad = rescale.grad,
                                                    clip_gradient = clip_gradient, num_weights = n, out = weights)
    else function(lrs) mx.nd.multi.sgd.mom.update(data, lrs = lrs, wds = wds, momentum = momentum,
                                                  rescale_grad = rescale.grad,
                                                  clip_gradient = clip_gradient, num_weights = n, out = weights)
  }
  mx.opt.internal.build(if (!plain) "mom", symbol, step, many, learning.rate, lr_scheduler)
}

mx.opt.nag <- function(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1,
                       lr_scheduler = NULL) {
  if (identical(as.numeric(momentum), 0))
    return(mx.opt.sgd(learning.rate, 0, wd, rescale.grad, clip_gradient, lr_scheduler))
  mx.opt.internal.numbers(lr_scheduler, learning.rate = learning.rate, momentum = momentum, wd = wd,
                          rescale.grad = rescale.grad, clip_gradient = clip_gradient)
  symbol <- function() {
    w <- mx.symbol.Variable("weight")
    g <- mx.opt.internal.gradient(mx.symbol.Variable("grad"), rescale.grad, clip_gradient, mx.symbol.clip)
    m <- mx.symbol.Variable("mom") * momentum + g + w * wd
    mx.symbol.elemwise_sub(w, (m * momentum + g) * learning.rate, name = "w")
  }
  # nag_mom_update has the weight decay in both terms; here it is in the momentum only.
  step <- function(w, g, s, lr) {
    g <- mx.opt.internal.gradient(g, rescale.grad, clip_gradient, mx.nd.clip)
    m <- s$mom * momentum + g
    mx.util.assign(s$mom, if (wd != 0) m + w * wd else m)
    mx.nd.elemwise.sub(w, (s$mom * momentum + g) * lr, out = w)
  }
  mx.opt.internal.build("mom", symbol, step, lr = learning.rate, lr_scheduler = lr_scheduler)
}

mx.opt.rmsprop <- function(learning.rate = 0.002, centered = TRUE, gamma1 = 0.95, gamma2 = 0.9, epsilon = 1e-4, wd = 0,
                           rescale.grad = 1, clip_gradient = -1, lr_scheduler = NULL) {
  mx.opt.internal.numbers(lr_scheduler, learning.rate = learning.rate, gamma1 = gamma1, gamma2 = gamma2,
                          epsilon = epsilon, wd = wd, rescale.grad = rescale.grad, clip_gradient = clip_gradient)
  centered <- mx.util.flag(centered, "centered")
  states <- if (centered) c("n", "g", "delta") else "n"
  symbol <- function() {
    v <- lapply(c("weight", "grad", states), mx.symbol.Variable)
    if (centered) mx.symbol.rmspropalex_update(v[[1L]], v[[2L]], v[[3L]], v[[4L]], v[[5L]], lr = learning.rate,
                                               gamma1 = gamma1,
                                               gamma2 = gamma2, epsilon = epsilon, wd = wd, rescale_grad = rescale.grad,
                                               clip_gradient = clip_gradient, name = "w")
    else mx.symbol.rmsprop_update(v[[1L]], v[[2L]], v[[3L]], lr = learning.rate, gamma1 = gamma1, epsilon = epsilon,
                                  wd = wd,
                                  rescale_grad = rescale.grad, clip_gradient = clip_gradient, name = "w")
  }
  step <- function(w, g, s, lr) {
    if (centered) mx.nd.rmspropalex.update(w, g, s$n, s$g, s$delta, lr = lr, gamma1 = gamma1, gamma2 = gamma2,
                                           epsilon = epsilon,
                                           wd = wd, rescale_grad = rescale.grad, clip_gradient = clip_gradient, out = w)
    else mx.nd.rmsprop.update(w, g, s$n, lr = lr, gamma1 = gamma1, epsilon = epsilon, wd = wd,
                              rescale_grad = rescale.grad,
                              clip_gradient = clip_gradient, out = w)
  }
  mx.opt.internal.build(states, symbol, step, lr = learning.rate, lr_scheduler = lr_scheduler)
}

mx.opt.adam <- function(learning.rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, wd = 0, rescale.grad = 1,
                        clip_gradient = -1, lr_scheduler = NULL) {
  mx.opt.internal.numbers(lr_scheduler, learning.rate = learning.rate, beta1 = beta1, beta2 = beta2, epsilon = epsilon,
                          wd = wd, rescale.grad = rescale.grad, clip_gradient = clip_gradient)
  symbol <- function() {
    v <- lapply(c("weight", "grad", "mean", "var"), mx.symbol.Variable)
    mx.symbol.adam_update(v[[1L]], v[[2L]], v[[3L]], v[[4L]], lr = learning.rate, beta1 = beta1, beta2 = beta2,
                          epsilon = epsilon,
                          wd = wd, rescale_grad = rescale.grad, clip_gradient = clip_gradient, name = "w")
  }
  step <- function(w, g, s, lr)
    mx.nd.adam.update(w, g, s$mean, s$var, lr = lr, beta1 = beta1, beta2 = beta2, epsilon = epsilon, wd = wd,
                      rescale_grad = rescale.grad, clip_gradient = clip_gradient, out = w)
  mx.opt.internal.build(c("mean", "var"), symbol, step, lr = learning.rate, lr_scheduler = lr_scheduler)
}

mx.opt.adagrad <- function(learning.rate = 0.05, epsilon = 1e-8, wd = 0, rescale.grad = 1, clip_gradient = -1,
                           lr_scheduler = NULL) {
  mx.opt.internal.numbers(lr_scheduler, learning.rate = learning.rate, epsilon = epsilon, wd = wd,
                          rescale.grad = rescale.grad, clip_gradient = clip_gradient)
  symbol <- function() {
    w <- mx.symbol.Variable("weight")
    g <- mx.opt.internal.gradient(mx.symbol.Variable("grad"), rescale.grad, clip_gradient, mx.symbol.clip)
    h <- mx.symbol.Variable("history") + mx.symbol.square(g)
    mx.symbol.elemwise_sub(w, (g / mx.symbol.sqrt(h + epsilon) + w * wd) * learning.rate, name = "w")
  }
  step <- function(w, g, s, lr) {
    g <- mx.opt.internal.gradient(g, rescale.grad, clip_gradient, mx.nd.clip)
    mx.nd.elemwise.add(s$history, mx.nd.square(g), out = s$history)
    d <- g / mx.nd.sqrt(s$history + epsilon)
    if (wd != 0) d <- d + w * wd
    mx.nd.elemwise.sub(w, d * lr, out = w)
  }
  mx.opt.internal.build("history", symbol, step, lr = learning.rate, lr_scheduler = lr_scheduler)
}

mx.opt.adadelta <- function(rho = 0.9, epsilon = 1e-5, wd = 0, rescale.grad = 1, clip_gradient = -1) {
  mx.opt.internal.numbers(NULL, rho = rho, epsilon = epsilon, wd = wd, rescale.grad = rescale.grad,
                          clip_gradient = clip_gradient)
  symbol <- function() {
    w <- mx.symbol.Variable("weight")
    g <- mx.opt.internal.gradient(mx.symbol.Variable("grad"), rescale.grad, clip_gradient, mx.symbol.clip)
    acc.g <- mx.symbol.Variable("acc.g") * rho + mx.symbol.square(g) * (1 - rho)
    d <- mx.symbol.sqrt((mx.symbol.Variable("acc.delta") + epsilon) / (acc.g + epsilon)) * g
    mx.symbol.elemwise_sub(w, d + w * wd, name = "w")
  }
  step <- function(w, g, s, lr) {
    g <- mx.opt.internal.gradient(g, rescale.grad, clip_gradient, mx.nd.clip)
    mx.nd.elemwise.add(s$acc.g * rho, mx.nd.square(g) * (1 - rho), out = s$acc.g)
    d <- mx.nd.sqrt((s$acc.delta + epsilon) / (s$acc.g + epsilon)) * g
    mx.nd.elemwise.add(s$acc.delta * rho, mx.nd.square(d) * (1 - rho), out = s$acc.delta)
    if (wd != 0) d <- d + w * wd
    mx.nd.elemwise.sub(w, d, out = w)
  }
  mx.opt.internal.build(c("acc.g", "acc.delta"), symbol, step)
}
