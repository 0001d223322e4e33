# ---- recorded training runs ----

# The optimizer that a recorded case stands for.
recorded.optimizer <- function(case) {
  p <- case$parameters
  names(p) <- sub("^rescale_grad$", "rescale.grad", sub("^learning_rate$", "learning.rate", names(p)))
  # An update operator that mx.opt.create does not have, by the protocol for optimizers of one's own.
  own <- function(states, call)
    list(create_exec = function(index, weight_dim, ctx) lapply(seq_len(states), function(i) mx.nd.zeros(weight_dim,
        ctx)),
         update = function(index, exec_w, weight, grad) call(weight, grad, exec_w))
  switch(case$optimizer,
    SGD = do.call(mx.opt.create, c("sgd", p)),
    NAG = own(1, function(w, g, s) { # in place there: the decay in the momentum is that of the new weight
      g <- g * p$rescale.grad
      step <- (g + w * p$wd) * p$learning.rate
      new <- w + (s[[1]] * p$momentum - step) * p$momentum - step
      mxnet:::mx.util.assign(s[[1]], s[[1]] * p$momentum - (g + new * p$wd) * p$learning.rate)
      new
    }),
    Adam = { # the Python package corrects the bias through the learning rate
      lr <- p$learning.rate
      correct <- function(env) {
        t <- env$num_update + 1
        env$lr <- lr * sqrt(1 - 0.999^t) / (1 - 0.9^t)
      }
      do.call(mx.opt.create, c("adam", p, lr_scheduler = correct))
    },
    RMSProp = do.call(mx.opt.create, c("rmsprop", p)),
    AdaGrad = do.call(mx.opt.create, c("adagrad", p)), # eps is short for epsilon
    AdaDelta = do.call(mx.opt.create, c("adadelta", p)),
    Signum = own(1, function(w, g, s)
      mx.nd.signum.update(w, g, s[[1]], lr = p$learning.rate, momentum = p$momentum, wd = p$wd,
                          rescale_grad = p$rescale.grad,
                          wd_lh = p$wd_lh)),
    Ftrl = own(2, function(w, g, s)
      mx.nd.ftrl.update(w, g, s[[1]], s[[2]], lr = p$learning.rate, lamda1 = p$lamda1, beta = p$beta, wd = p$wd,
                        rescale_grad = p$rescale.grad)))
}

test_that("training runs agree with those of MXNet 1.9.1", {
  record <- json.read(golden.path("graphs", "training.case.json"))
  net <- mx.symbol.load(golden.path("graphs", "training.symbol.json"))
  expect_gt(length(record$cases), 10)
  for (case in record$cases) {
    t <- golden.tensors(case, golden.path("graphs", record$data))
    start <- t$arg[setdiff(names(t$arg), c("data", "softmax_label"))]
    it <- mx.io.arrayiter(t$arg$data, t$arg$softmax_label, batch.size = 32)
    snapshots <- list()
    loss <- numeric()
    watch <- function(iteration, nbatch, env, verbose) {
      snapshots[[iteration]] <<- values(env$model$arg.params)
      TRUE
    }
    cross <- mx.metric.custom("loss", function(label, pred)
      -mean(log(as.array(pred)[cbind(as.array(label) + 1, seq_along(as.array(label)))])))
    model <- fit(net, it, arg.params = lapply(start, mx.nd.array), num.round = 20, eval.metric = cross,
                 optimizer = recorded.optimizer(case), epoch.end.callback = watch)
    close <- function(a, b) all(abs(unlist(a) - unlist(b)) <= 1e-5 + 1e-3 * abs(unlist(b)))
    for (s in c(5, 10, 15, 20))
      expect_true(close(snapshots[[s]][names(start)], t[[paste0("after_", s)]][names(start)]), info = paste(case$id,
          "step", s))
    expect_true(close(attr(model, "history")$train, t$loss_before_each_step$loss), info = case$id)
    expect_true(close(predict(model, it), t$output_after_20$softmax_output), info = case$id)
  }
})

# ---- the loop ----

test_that("several devices give what one device gives, with any store", {
  d <- data.plane(50)
  train <- function(devices, optimizer, ...) {
    mx.set.seed(3)
    model <- fit(net.classifier(), d$data, d$label, ctx = lapply(seq_len(devices) - 1, mx.cpu), num.round = 3,
                 array.batch.size = 20, learning.rate = 0.1, eval.metric = mx.metric.accuracy, optimizer = optimizer,
                 initializer = mx.init.uniform(0.5),
                 eval.data = list(data = d$data[, 1:7], label = d$label[1:7]), ...)
    list(values(model$arg.params), attr(model, "history"))
  }
  for (optimizer in c("sgd", "adam")) {
    one <- train(1, optimizer)
    for (kv in c("local", "device", "local_update_cpu", "local_allreduce_cpu", "local_allreduce_device"))
      expect_equal(train(3, optimizer, kvstore = kv), one, tolerance = 1e-5, info = paste(optimizer, kv))
  }
  kv <- mx.kv.create("local")
  expect_equal(train(2, "sgd", kvstore = kv), train(1, "sgd"), tolerance = 1e-5)
  expect_equal(train(2, "sgd", kvstore = kv), train(1, "sgd"), tolerance = 1e-5) # a store serves again
  scheduled <- function(n) train(n, "sgd", lr_scheduler = mx.lr_scheduler.FactorScheduler(2, 0.5, verbose = FALSE))
  expect_equal(scheduled(3), scheduled(1), tolerance = 1e-5)
})

test_that("auxiliary states of several devices are averaged", {
  net <- mx.symbol.LinearRegressionOutput(mx.symbol.BatchNorm(mx.symbol.Variable("data"), fix_gamma = FALSE,
                                                              name = "bn"),
                                          mx.symbol.Variable("label"), name = "lro")
  x <- matrix(c(1, 1, 1, 1, 5, 5, 5, 5), 1)
  it <- mx.io.arrayiter(x, x, batch.size = 8)
  model <- fit(net, it, ctx = list(mx.cpu(0), mx.cpu(1)), num.round = 1, learning.rate = 0)
  expect_equal(as.array(model$aux.params$bn_moving_mean), 0.1 * 3, tolerance = 1e-5)
})

test_that("a validation set may be smaller than a batch, or have none of a batch's size", {
  d <- data.plane(64)
  model <- fit(net.classifier(), d$data, d$label, num.round = 2, array.batch.size = 32,
               eval.metric = mx.metric.accuracy,
               eval.data = list(data = d$data[, 1:5], label = d$label[1:5]))
  right <- max.col(t(predict(model, d$data[, 1:5], array.layout = "colmajor"))) - 1 == d$label[1:5]
  expect_equal(attr(model, "history")$eval[2], mean(right), tolerance = 1e-6)
})

test_that("fixed parameters stay, and are left out of the result", {
  d <- data.plane(40)
  start <- list(fc_weight = mx.nd.array(matrix(c(0.5, -0.5), 2)), fc_bias = mx.nd.zeros(1))
  seen <- NULL
  look <- function(iteration, nbatch, env, verbose) {
    seen <<- as.array(env$train.execs[[1]]$ref.arg.arrays$fc_weight)
    TRUE
  }
  model <- fit(net.regression(), d$data, d$label, num.round = 3, learning.rate = 0.1, arg.params = start,
               fixed.param = "fc_weight",
               epoch.end.callback = look)
  expect_named(model$arg.params, "fc_bias")
  expect_equal(seen, as.array(start$fc_weight))
  expect_gt(abs(as.array(model$arg.params$fc_bias)), 0.01)
})

test_that("callbacks see the loop, and the model when they look", {
  d <- data.plane(30)
  seen <- list()
  batches <- 0
  look <- function(iteration, nbatch, env, verbose) {
    seen[[length(seen) + 1]] <<- list(iteration, nbatch, verbose, class(env$model),
                                      env$metric$get(env$train.metric)$name,
                                      length(env$train.execs), is.mx.symbol(env$symbol), is.null(env$eval.metric),
                                      is.list(env$optimizer))
    TRUE
  }
  model <- fit(net.regression(), d$data, d$label, num.round = 2, array.batch.size = 10, eval.metric = mx.metric.rmse,
               epoch.end.callback = look,
               batch.end.callback = function(iteration, nbatch, env, verbose = TRUE) batches <<- batches + 1)
  expect_identical(batches, 6)
  expect_length(seen, 2)
  expect_identical(seen[[2]], list(2, 0, FALSE, "MXFeedForwardModel", "rmse", 1L, TRUE, TRUE, TRUE))
  expect_identical(attr(model, "history")$epoch, 1:2)
  expect_false(anyNA(attr(model, "history")$train))
})

test_that("FALSE from an epoch callback ends training, other values do not", {
  d <- data.plane(20)
  rounds <- function(result) {
    n <- 0
    fit(net.regression(), d$data, d$label, num.round = 4, epoch.end.callback = function(iteration, nbatch, env,
        verbose) {
      n <<- n + 1
      result
    })
    n
  }
  expect_identical(rounds(FALSE), 1)
  expect_identical(rounds(TRUE), 4)
  expect_identical(rounds(NULL), 4)
  n <- 0
  fit(net.regression(), d$data, d$label, num.round = 4, epoch.end.callback = function(iteration, nbatch, env) {
    n <<- n + 1
    iteration < 3
  })
  expect_identical(n, 3)
})

test_that("the model survives an error and an interrupt", {
  d <- data.plane(20)
  expect_null(mx.model.last())
  stopper <- function(how) function(iteration, nbatch, env, verbose) if (iteration < 3) TRUE else how()
  expect_error(fit(net.regression(), d$data, d$label, num.round = 5, learning.rate = 0.1,
                   epoch.end.callback = stopper(function() stop("enough"))), "enough")
  model <- mx.model.last()
  expect_s3_class(model, "MXFeedForwardModel")
  mx.set.seed(1)
  half <- fit(net.regression(), d$data, d$label, num.round = 3, learning.rate = 0.1)
  expect_null(mx.model.last())
  mx.set.seed(1)
  interrupt <- function() {
    tools::pskill(Sys.getpid(), tools::SIGINT)
    Sys.sleep(5)
  }
  caught <- tryCatch(fit(net.regression(), d$data, d$label, num.round = 5, learning.rate = 0.1,
                         epoch.end.callback = stopper(interrupt)),
                     interrupt = function(c) "interrupted")
  expect_identical(caught, "interrupted")
  expect_equal(values(mx.model.last()$arg.params), values(half$arg.params))
})

test_that("no epochs leave the parameters as they are", {
  d <- data.plane(20)
  start <- list(fc_weight = mx.nd.array(matrix(c(0.5, -0.5), 2)), fc_bias = mx.nd.zeros(1))
  model <- fit(net.regression(), d$data, d$label, begin.round = 3, num.round = 2, arg.params = start)
  expect_equal(values(model$arg.params), values(start))
})

test_that("batches of R arrays from a user's iterator are taken", {
  Plain <- setRefClass("Plain", contains = "Rcpp_MXArrayDataIter", fields = c("i"), methods = list(
    initialize = function() {
      .self$i <- 0
      .self
    },
    reset = function() .self$i <- 0,
    iter.next = function() {
      .self$i <- .self$i + 1
      .self$i <= 2
    },
    value = function() list(data = matrix(c(1, 2, 3, 4), 2), label = c(1, 2)),
    num.pad = function() 0, finalize = function() invisible()))
  model <- fit(net.regression(), Plain$new(), num.round = 2)
  expect_named(model$arg.params, c("fc_weight", "fc_bias"))
  expect_identical(dim(predict(model, Plain$new())), c(1L, 4L))
})

test_that("an iterator that is empty, or changes its mind, is an error", {
  Empty <- setRefClass("Empty", contains = "Rcpp_MXArrayDataIter", methods = list(
    reset = function() invisible(), iter.next = function() FALSE, value = function() NULL, num.pad = function() 0))
  expect_error(fit(net.regression(), Empty$new()), "Empty input", class = "mxnet_value_error")
  Odd <- setRefClass("Odd", contains = "Rcpp_MXArrayDataIter", fields = "i", methods = list(
    initialize = function() {
      .self$i <- 0
      .self
    },
    reset = function() .self$i <- 0, num.pad = function() 0,
    iter.next = function() {
      .self$i <- .self$i + 1
      .self$i <= 2
    },
    value = function() list(data = mx.nd.ones(c(2, 4 + .self$i)), label = mx.nd.ones(4 + .self$i))))
  expect_error(fit(net.regression(), Odd$new()), "dim", class = "mxnet_shape_error")
})

test_that("a batch costs little besides its arithmetic", {
  d <- data.plane(20000)
  it <- mx.io.arrayiter(d$data, d$label, batch.size = 10)
  net <- net.classifier(hidden = 4)
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(internals(net)[["fc2_output"]], num_hidden = 2,
                                                          name = "fc3"), name = "softmax")
  fit(net, it, num.round = 1)
  time <- min(vapply(1:3, function(i) sum(system.time(fit(net, it, num.round = 1))[1:2]), 0))
  expect_lt(time / 2000, 0.3e-3)
})

# MB that the process has in memory.
resident <- function() {
  status <- readLines("/proc/self/status")
  as.numeric(gsub("[^0-9]", "", grep("^VmRSS", status, value = TRUE))) / 1024
}

test_that("a loop of trainings or operations uses the same memory again", {
  skip_on_cran()
  skip_if_not(file.exists("/proc/self/status"))
  d <- data.plane(500)
  net <- net.classifier(hidden = 2000)
  training <- function() {
    model <- fit(net, d$data, y = d$label, num.round = 1, array.batch.size = 100, optimizer = "adam",
                 learning.rate = 1e-3, eval.data = list(data = d$data, label = d$label),
                 eval.metric = mx.metric.accuracy)
    predict(model, d$data, array.layout = "colmajor")
  }
  small <- mx.nd.ones(1000)
  large <- mx.nd.ones(1e4)
  loops <- list(training = training, small = function() for (i in 1:500) small + small,
                large = function() for (i in 1:200) exp(large * 2),
                bind = function() {
                  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(2, 100))
                  mx.exec.forward(e)
                  mx.exec.backward(e)
                })
  for (n in names(loops)) {
    for (i in 1:30) loops[[n]]()
    before <- resident()
    for (i in 1:60) loops[[n]]()
    expect_lt(resident(), before * 1.15 + 5, label = n)
  }
})

test_that("what a training or prediction made is given back when it ends", {
  d <- data.plane(200)
  used <- function() mx.memory()[["used"]]
  net <- net.classifier(hidden = 5000)
  run <- function(...) {
    model <- fit(net, d$data, y = d$label, num.round = 1, optimizer = "adam", learning.rate = 1e-3, ...)
    predict(model, d$data, array.layout = "colmajor")
    invisible(model)
  }
  run()
  gc()
  before <- used()
  model <- run(eval.data = list(data = d$data, label = d$label), eval.metric = mx.metric.accuracy)
  size <- sum(vapply(model$arg.params, length, 0)) * 4
  expect_lt(used() - before, 3 * size) # the model, and what small things cost
  expect_true(all(is.finite(as.array(model$arg.params$fc1_weight))))

  # What the user's functions saw is theirs.
  seen <- list()
  look <- function(iteration, nbatch, env, verbose) {
    seen <<- c(seen, env$train.execs[[1L]]$ref.arg.arrays["fc1_weight"])
    TRUE
  }
  run(batch.end.callback = look)
  expect_equal(dim(as.array(seen[[1L]])), dim(model$arg.params$fc1_weight))
  keep <- NULL
  run(eval.metric = mx.metric.custom("m", function(label, pred) {
    keep <<- list(label, pred)
    0
  }))
  for (k in keep) expect_true(all(is.finite(as.array(k))))
  x <- mx.nd.array(d$data)
  y <- mx.nd.array(d$label)
  fit(net, x, y = y, num.round = 1)
  expect_equal(dim(x), dim(d$data))
  expect_equal(as.vector(as.array(y)), as.vector(d$label))
  init <- list()
  fit(net, d$data, y = d$label, num.round = 1, initializer = function(name, shape, ctx, allow.unknown = FALSE) {
    init[[name]] <<- mx.nd.ones(shape, ctx)
  })
  for (k in init) expect_true(all(as.array(k) == 1))
})

test_that("training does not pile up memory", {
  d <- data.plane(2000)
  it <- mx.io.arrayiter(d$data, d$label, batch.size = 10)
  train <- function() fit(net.classifier(), it, num.round = 1, eval.metric = mx.metric.accuracy)
  collect <- function() for (i in 1:3) gc() # what a finalizer held is found by the next one
  train()
  collect()
  before <- .Call(mxnet:::ffi_live_objects)
  train()
  collect()
  expect_equal(.Call(mxnet:::ffi_live_objects), before)
})

test_that("executors give their working memory back when training is over, whatever ended it", {
  d <- data.plane(200)
  seen <- NULL
  during <- 0
  look <- function(fails) function(iteration, nbatch, env, verbose) {
    seen <<- c(seen, env$train.execs) # these live on
    during <<- mx.memory()[["used"]]
    if (fails) stop("over")
  }
  for (fails in c(FALSE, TRUE)) {
    try(fit(net.classifier(hidden = 2000), d$data, d$label, num.round = 1, batch.end.callback = look(fails)),
        silent = TRUE)
    expect_lt(mx.memory()[["used"]], during - 2000 * 128 * 4)
  }
  for (e in seen) {
    mx.exec.forward(e, is.train = FALSE)
    expect_true(all(is.finite(as.array(e$ref.outputs[[1L]]))))
  }
})

test_that("the training loop can be called by itself", {
  d <- data.plane(20)
  net <- net.classifier()
  shapes <- list(list(data = c(2, 10)), list(softmax_label = 10))
  start <- mx.model.init.params(net, shapes[[1]], shapes[[2]], mx.init.uniform(0.1), mx.cpu())
  model <- mxnet:::mx.model.train(net, list(mx.cpu()), shapes[[1]], shapes[[2]], start$arg.params, start$aux.params,
                                  1, 2, mx.opt.create("sgd", learning.rate = 0.1, rescale.grad = 0.1),
                                  mx.io.arrayiter(d$data, d$label, batch.size = 10), NULL, NULL, NULL, NULL, NULL,
                                  verbose = FALSE)
  same <- fit(net, mx.io.arrayiter(d$data, d$label, batch.size = 10), arg.params = start$arg.params, num.round = 2,
              learning.rate = 0.1)
  expect_equal(values(model$arg.params), values(same$arg.params), tolerance = 1e-6)
})
