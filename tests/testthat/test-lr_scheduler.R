run <- function(schedule, updates, lr = 1) {
  env <- list2env(list(lr = lr, count = 0))
  vapply(updates, function(i) {
    env$num_update <- i
    schedule(env)
    env$lr
  }, 0)
}

test_that("the factor schedule falls step by step, down to its floor", {
  expect_equal(run(mx.lr_scheduler.FactorScheduler(2, 0.5, verbose = FALSE), 0:7), c(1, 1, 1, 0.5, 0.5, 0.25, 0.25,
      0.125))
  expect_equal(run(mx.lr_scheduler.FactorScheduler(1, 0.1, 0.05, verbose = FALSE), 0:4), c(1, 1, 0.1, 0.05, 0.05))
})

test_that("the multi-factor schedule falls at its steps", {
  expect_equal(run(mx.lr_scheduler.MultiFactorScheduler(c(2, 4, 6), 0.1, verbose = FALSE), 0:7), c(1, 1, 1, 0.1, 0.1,
      0.01, 0.01, 0.01))
})

test_that("changes are reported", {
  expect_identical(messages(run(mx.lr_scheduler.FactorScheduler(2, 0.5), 0:3)),
                   "Update[3]: learning rate is changed to 0.5")
  expect_identical(messages(run(mx.lr_scheduler.FactorScheduler(1, 0.1, 0.5), 0:2)),
                   "Update[2]: now learning rate arrived at 0.5will not change in the future")
})

test_that("bad schedules are errors", {
  expect_error(mx.lr_scheduler.FactorScheduler(0, 0.5), "greater or equal than 1", class = "mxnet_value_error")
  expect_error(mx.lr_scheduler.FactorScheduler(1, 1.5), "no more than 1", class = "mxnet_value_error")
  expect_error(mx.lr_scheduler.MultiFactorScheduler(c(4, 2), 0.5), "increasing", class = "mxnet_value_error")
  expect_error(mx.lr_scheduler.MultiFactorScheduler(NA, 0.5), class = "mxnet_value_error")
})

test_that("a schedule changes the rate that training uses", {
  # One parameter, gradient 1 in every step: the weight falls by the learning rates.
  opt <- mx.opt.create("sgd", learning.rate = 1, lr_scheduler = mx.lr_scheduler.FactorScheduler(2, 0.5,
      verbose = FALSE))
  update <- mx.opt.get.updater(opt, list(mx.nd.zeros(1)), mx.cpu())
  w <- list(mx.nd.zeros(1))
  path <- vapply(1:8, function(i) {
    w <<- list(mx.nd.copyto(update(w, list(mx.nd.ones(1)))[[1]], mx.cpu()))
    as.array(w[[1]])
  }, 0)
  expect_equal(-diff(c(0, path)), c(1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125))

  d <- data.plane(60)
  start <- list(fc_weight = mx.nd.array(matrix(c(0.2, -0.1), 2, 1)), fc_bias = mx.nd.zeros(1))
  train <- function(...) values(fit(net.regression(), d$data, d$label, array.batch.size = 10, num.round = 2,
                                    arg.params = start,
                                    learning.rate = 0.2, ...)$arg.params)
  stopped <- mx.lr_scheduler.FactorScheduler(1, 1e-6, stop_factor_lr = 0, verbose = FALSE)
  mx.set.seed(1)
  scheduled <- train(lr_scheduler = stopped)
  mx.set.seed(1)
  constant <- train()
  expect_gt(max(abs(unlist(scheduled) - unlist(constant))), 0.01)
})
