env.of <- function(...) list2env(list(metric = mx.metric.mse, ...))

test_that("the batch logger reports and collects", {
  log <- mx.metric.logger()
  report <- mx.callback.log.train.metric(2, log)
  env <- env.of(train.metric = c(2, 3), eval.metric = c(1, 4))
  expect_identical(messages(expect_true(report(1, 4, env))), c("Batch [4] Train-mse=1.5", "Batch [4] Validation-mse=4"))
  expect_silent(report(1, 3, env))
  expect_silent(report(1, 0, env)) # as an epoch callback
  expect_silent(report(1, 2, env, verbose = FALSE))
  expect_equal(log$train, c(1.5, 1.5, 1.5))
  expect_equal(log$eval, c(4, 4, 4))
  expect_error(mx.callback.log.train.metric(1, 5)(1, 1, env), "Invalid mx.metric.logger", class = "mxnet_value_error")
  expect_error(mx.callback.log.train.metric(0), "`period`", class = "mxnet_value_error")
  expect_true(mx.callback.log.train.metric(1)(1, 1, new.env())) # no metric
})

test_that("the speedometer starts with the first batch of an epoch", {
  meter <- mx.callback.log.speedometer(10, frequency = 2)
  env <- env.of(train.metric = c(2, 3))
  expect_silent(meter(1, 1, env))
  Sys.sleep(0.02)
  text <- messages(meter(1, 2, env))
  expect_match(text, "^Batch \\[2\\] Speed: [0-9.]+ samples/sec Train-mse=1.5$")
  expect_lt(as.numeric(sub(".*Speed: ([0-9.]+).*", "\\1", text)), 10 / 0.02) # one batch since the clock started
  expect_silent(meter(1, 3, env))
  expect_length(messages(meter(1, 4, env)), 1)
  expect_silent(meter(2, 1, env))
  expect_match(messages(mx.callback.log.speedometer(10, 1)(1, 2, list2env(list(init = TRUE, count = 1,
      tic = Sys.time())))), "samples/sec$")
})

test_that("checkpoints are saved every so many epochs", {
  prefix <- tempfile()
  env <- list2env(list(model = model.plain(data = c(2, 4))))
  save <- mx.callback.save.checkpoint(prefix, 2)
  expect_silent(save(1, 0, env))
  expect_identical(messages(save(2, 0, env)), paste0("Model checkpoint saved to ", prefix, "-0002.params\n"))
  expect_silent(save(4, 0, env, verbose = FALSE))
  expect_setequal(basename(Sys.glob(paste0(prefix, "*"))), paste0(basename(prefix), c("-0002.params", "-0004.params",
      "-symbol.json")))
  unlink(Sys.glob(paste0(prefix, "*")))
})

test_that("thresholds stop", {
  env <- env.of(train.metric = c(1, 5), eval.metric = c(1, 0.5))
  expect_false(mx.callback.early.stop(eval.metric = 0.6)(1, 0, env, FALSE))
  expect_true(mx.callback.early.stop(eval.metric = 0.5)(1, 0, env, FALSE)) # strictly
  expect_true(mx.callback.early.stop(train.metric = 4)(1, 0, env, FALSE))
  expect_false(mx.callback.early.stop(train.metric = 4, maximize = TRUE)(1, 0, env, FALSE))
  expect_true(mx.callback.early.stop(train.metric = 4)(1, 0, env.of(train.metric = c(0, 0)), FALSE)) # NaN
  expect_true(mx.callback.early.stop(eval.metric = 1)(1, 0, env.of(train.metric = c(1, 5)), FALSE)) # no validation
})

steps <- function(stopper, v, ...) vapply(seq_along(v), function(i) stopper(i, 0, env.of(eval.metric = c(1, v[i])),
    ...), NA)

test_that("bad steps are counted from the best value", {
  expect_identical(steps(mx.callback.early.stop(bad.steps = 2), c(5, 4, 6, 7, 3, 8, 9), FALSE), c(TRUE, TRUE, TRUE,
      FALSE, TRUE, TRUE, FALSE))
  expect_identical(steps(mx.callback.early.stop(bad.steps = 2, maximize = TRUE), c(1, 2, 1, 1), FALSE), c(TRUE, TRUE,
      TRUE, FALSE))
  stopper <- mx.callback.early.stop(bad.steps = 2, verbose = TRUE)
  expect_identical(messages(steps(stopper, c(5, 4, 6, 7))), "Best score=4, iteration [2]") # verbose may be left out
  expect_identical(steps(stopper, c(9, 9, 10, 11), FALSE), c(TRUE, TRUE, TRUE, FALSE)) # a new run starts over
})

test_that("nothing is left in the global environment", {
  steps(mx.callback.early.stop(bad.steps = 2), c(5, 4), FALSE)
  expect_false(any(c("mx.best.iter", "mx.best.score") %in% ls(globalenv())))
})
