# Three steps of an optimizer on w, by the updater.
three <- function(..., w = c(1, -2, 3), grads = list(c(0.1, -0.2, 0.3), c(0.5, 0, -1), c(-0.2, 2, 0.1))) {
  update <- mx.opt.get.updater(mx.opt.create(...), list(mx.nd.array(w)), mx.cpu())
  lapply(grads, function(g) w <<- as.array(update(list(mx.nd.array(w)), list(mx.nd.array(g)))[[1]]))
}
# The same by a formula: rule(w, g, state) returns list(w, state).
formula <- function(rule, w = c(1, -2, 3), grads = list(c(0.1, -0.2, 0.3), c(0.5, 0, -1), c(-0.2, 2, 0.1))) {
  state <- list(0, 0, 0)
  lapply(grads, function(g) {
    new <- rule(w, g, state)
    state <<- new[[2]]
    w <<- new[[1]]
  })
}
clip <- function(x, c) pmax(pmin(x, c), -c)

test_that("every optimizer follows its formula, with decay, clipping and rescaling", {
  common <- list(wd = 0.1, rescale.grad = 2, clip_gradient = 0.6)
  go <- function(name, ...) do.call(three, c(list(name), list(...), common))
  g.of <- function(g) clip(2 * g, 0.6)
  d.of <- function(w, g) clip(2 * g + 0.1 * w, 0.6)
  expect_equal(go("sgd", learning.rate = 0.2), formula(function(w, g, s) list(w - 0.2 * (g.of(g) + 0.1 * w), s)),
               tolerance = 1e-5)
  expect_equal(go("sgd", learning.rate = 0.2, momentum = 0.9), formula(function(w, g, s) {
    m <- 0.9 * s[[1]] - 0.2 * (g.of(g) + 0.1 * w)
    list(w + m, list(m))
  }), tolerance = 1e-5)
  expect_equal(go("nag", learning.rate = 0.2), go("sgd", learning.rate = 0.2))
  expect_equal(go("nag", learning.rate = 0.2, momentum = 0.9), formula(function(w, g, s) {
    m <- 0.9 * s[[1]] + g.of(g) + 0.1 * w
    list(w - 0.2 * (0.9 * m + g.of(g)), list(m))
  }), tolerance = 1e-5)
  expect_equal(go("adam", learning.rate = 0.2, beta1 = 0.8), formula(function(w, g, s) {
    m <- 0.8 * s[[1]] + 0.2 * d.of(w, g)
    v <- 0.999 * s[[2]] + 0.001 * d.of(w, g)^2
    list(w - 0.2 * m / (sqrt(v) + 1e-8), list(m, v))
  }), tolerance = 2e-5)
  expect_equal(go("rmsprop", learning.rate = 0.2), formula(function(w, g, s) {
    n <- 0.95 * s[[1]] + 0.05 * d.of(w, g)^2
    a <- 0.95 * s[[2]] + 0.05 * d.of(w, g)
    d <- 0.9 * s[[3]] - 0.2 * d.of(w, g) / sqrt(n - a^2 + 1e-4)
    list(w + d, list(n, a, d))
  }), tolerance = 1e-5)
  expect_equal(go("rmsprop", learning.rate = 0.2, centered = FALSE), formula(function(w, g, s) {
    n <- 0.95 * s[[1]] + 0.05 * d.of(w, g)^2
    list(w - 0.2 * d.of(w, g) / sqrt(n + 1e-4), list(n))
  }), tolerance = 1e-5)
  expect_equal(go("adagrad", learning.rate = 0.2), formula(function(w, g, s) {
    h <- s[[1]] + g.of(g)^2
    list(w - 0.2 * (g.of(g) / sqrt(h + 1e-8) + 0.1 * w), list(h))
  }), tolerance = 1e-5)
  expect_equal(go("adadelta", rho = 0.8), formula(function(w, g, s) {
    v <- 0.8 * s[[1]] + 0.2 * g.of(g)^2
    d <- sqrt(s[[2]] + 1e-5) / sqrt(v + 1e-5) * g.of(g)
    list(w - (d + 0.1 * w), list(v, 0.8 * s[[2]] + 0.2 * d^2))
  }), tolerance = 1e-5)
})

test_that("without a device an updater works where the weights are", {
  w <- list(mx.nd.ones(2, mx.cpu(1)))
  update <- mx.opt.get.updater(mx.opt.create("sgd", learning.rate = 0.5, momentum = 0.9), w)
  new <- update(w, list(mx.nd.ones(2, mx.cpu(1))))[[1]]
  expect_equal(as.array(new), c(0.5, 0.5))
  expect_identical(ctx(new), mx.cpu(1))
})

test_that("clip_gradient = NULL is no clipping", {
  expect_equal(three("adadelta", clip_gradient = NULL), three("adadelta"))
})

all.optimizers <- list(sgd = list("sgd", momentum = 0.9), plain = list("sgd"), nag = list("nag", momentum = 0.9),
                       adam = list("adam"), rmsprop = list("rmsprop"), uncentered = list("rmsprop", centered = FALSE),
                       adagrad = list("adagrad"), adadelta = list("adadelta"))

test_that("stepping in place gives what the updater gives", {
  set.seed(1)
  start <- list(matrix(rnorm(6), 2), rnorm(4))
  grads <- lapply(1:3, function(i) lapply(start, function(w) w * 0 + rnorm(length(w))))
  for (args in all.optimizers) {
    weights <- lapply(start, mx.nd.array)
    at <- lapply(start, function(w) mx.nd.zeros(if (is.null(dim(w))) length(w) else dim(w)))
    step <- mxnet:::mx.opt.stepper(do.call(mx.opt.create, args), weights, at)
    update <- mx.opt.get.updater(do.call(mx.opt.create, args), weights, mx.cpu())
    other <- lapply(start, mx.nd.array)
    for (g in grads) {
      mapply(function(to, from) mxnet:::mx.util.assign(to, mx.nd.array(from)), at, g)
      step()
      other <- lapply(update(other, lapply(g, mx.nd.array)), mx.nd.copyto, mx.cpu())
    }
    expect_equal(values(weights), values(other), info = args[[1]])
    expect_false(isTRUE(all.equal(values(weights), lapply(start, as.vector))))
  }
})

test_that("optimizers of one's own step through their protocol", {
  own <- list(create_exec = function(index, weight_dim, ctx) new.env(),
              update = function(index, exec_w, weight, grad) {
                exec_w$count <- if (is.null(exec_w$count)) 1 else exec_w$count + 1
                weight - grad * exec_w$count
              })
  d <- data.plane(20)
  start <- list(fc_weight = mx.nd.zeros(c(2, 1)), fc_bias = mx.nd.zeros(1))
  train <- function(optimizer, rounds) {
    mx.set.seed(1)
    values(fit(net.regression(), d$data, d$label, optimizer = optimizer, num.round = rounds,
               arg.params = start)$arg.params)
  }
  expect_equal(train(own, 1), train(mx.opt.create("sgd", learning.rate = 1), 1), tolerance = 1e-6)
  bad <- list(create_exec = function(...) NULL, update = function(...) 1)
  expect_error(train(bad, 1), "must return the new weight as an NDArray", class = "mxnet_value_error")
})

test_that("the updater leaves its input alone and passes NULL through", {
  w <- list(a = mx.nd.ones(2), b = NULL)
  update <- mx.opt.get.updater(mx.opt.create("sgd", learning.rate = 1), w, mx.cpu())
  new <- update(w, list(a = mx.nd.ones(2), b = NULL))
  expect_equal(as.array(w$a), c(1, 1))
  expect_equal(as.array(new$a), c(0, 0))
  expect_null(new$b)
  expect_error(update(list(1), list(1)), "needs 2 weights", class = "mxnet_value_error")
})

test_that("lr stands for learning.rate, and arguments are checked", {
  expect_equal(three("sgd", lr = 0.2), three("sgd", learning.rate = 0.2))
  expect_equal(three("adadelta", eps = 1e-3), three("adadelta", epsilon = 1e-3)) # as in any call
  expect_error(mx.opt.create("magic"), "Unknown optimizer magic", class = "mxnet_value_error")
  expect_error(mx.opt.create(1), "Unknown optimizer", class = "mxnet_value_error")
  expect_error(mx.opt.create("sgd", beta1 = 1), "has no argument `beta1`; it takes learning.rate",
               class = "mxnet_value_error")
  expect_error(mx.opt.create("sgd", learning.rate = "a"), "`learning.rate` of an optimizer must be a number",
               class = "mxnet_value_error")
  expect_error(mx.opt.create("adam", lr_scheduler = 3), "must be a function", class = "mxnet_value_error")
  expect_error(mx.opt.get.updater(list(1), list(), mx.cpu()), "list of two functions", class = "mxnet_value_error")
})

test_that("executors of updates have the documented names", {
  names.of <- function(...) {
    e <- mx.opt.create(...)$create_exec(index = 1, weight_dim = c(2, 3), ctx = mx.cpu())
    list(names(e$ref.arg.arrays), names(e$ref.aux.arrays), names(e$ref.outputs))
  }
  expect_identical(names.of("adam"), list(c("weight", "grad"), c("mean", "var"), "w_output"))
  expect_identical(names.of("rmsprop")[[2]], c("n", "g", "delta"))
  expect_identical(names.of("adadelta")[[2]], c("acc.g", "acc.delta"))
  expect_identical(names.of("adagrad")[[2]], "history")
})
