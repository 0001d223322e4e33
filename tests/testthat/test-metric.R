of <- function(metric, label, pred) {
  value <- function(l, p) metric$get(metric$update(l, p, metric$init()))$value
  nd <- value(mx.nd.array(label), mx.nd.array(pred))
  expect_equal(value(label, pred), nd) # plain R numbers work as well
  nd
}

test_that("every metric agrees with its formula", {
  set.seed(1)
  p <- matrix(runif(70), 7)
  p <- sweep(p, 2, colSums(p), "/")
  y <- sample(0:6, 10, TRUE)
  at <- p[cbind(y + 1, 1:10)]
  expect_equal(of(mx.metric.accuracy, y, p), mean(max.col(t(p)) - 1 == y), tolerance = 1e-6)
  expect_equal(of(mx.metric.top_k_accuracy, y, p), mean(colSums(sweep(p, 2, at, ">")) < 5), tolerance = 1e-6)
  expect_equal(of(mx.metric.Perplexity, y, p), exp(-mean(log(at))), tolerance = 1e-5)
  a <- runif(10, 0, 3)
  b <- matrix(runif(10, 0, 3), 1)
  expect_equal(of(mx.metric.mse, a, b), mean((a - b)^2), tolerance = 1e-5)
  expect_equal(of(mx.metric.rmse, a, b), sqrt(mean((a - b)^2)), tolerance = 1e-5)
  expect_equal(of(mx.metric.mae, a, b), mean(abs(a - b)), tolerance = 1e-5)
  expect_equal(of(mx.metric.rmsle, a, b), sqrt(mean((log1p(b) - log1p(a))^2)), tolerance = 1e-5)
  q <- runif(10)
  z <- rep(0:1, 5)
  expect_equal(of(mx.metric.logloss, z, q), -mean(ifelse(z == 1, log(q), log(1 - q))), tolerance = 1e-5)
  expect_equal(of(mx.metric.logistic_acc, z, q), mean((q > 0.5) == z), tolerance = 1e-6)
})

test_that("labels of a sequence fit predictions of all steps", {
  p <- matrix(c(0.9, 0.1, 0.2, 0.8, 0.4, 0.6, 0.7, 0.3), 2)
  expect_equal(of(mx.metric.accuracy, matrix(c(0, 1, 0, 0), 2), p), 0.75)
  expect_equal(of(mx.metric.Perplexity, matrix(c(0, 1, -1, -1), 2), p), exp(-mean(log(c(0.9, 0.8)))), tolerance = 1e-5)
})

test_that("extreme predictions have finite losses", {
  expect_equal(of(mx.metric.logloss, c(1, 0), c(1, 0)), 0)
  expect_equal(of(mx.metric.logloss, 1, 0), -log(1e-15), tolerance = 1e-5)
  expect_equal(of(mx.metric.logloss, 0, 1), -log(1e-15), tolerance = 1e-5)
  expect_equal(of(mx.metric.Perplexity, c(0, -1), matrix(c(1, 0, 0, 0), 2)), 1)
})

test_that("top 5 of fewer classes is always right", {
  expect_equal(of(mx.metric.top_k_accuracy, c(0, 2), matrix(c(0.1, 0.2, 0.7, 0.5, 0.3, 0.2), 3)), 1)
})

test_that("the state is a count and a sum", {
  m <- mx.metric.mae
  s <- m$update(mx.nd.array(1), mx.nd.array(3), m$init())
  s <- m$update(mx.nd.array(1), mx.nd.array(2), s)
  expect_equal(s, c(2, 3))
  expect_equal(m$get(s), list(name = "mae", value = 1.5))
  expect_identical(m$get(m$init())$value, NaN)
})

test_that("custom metrics take functions of R numbers or arrays", {
  m <- mx.metric.custom("m", function(label, pred) mx.nd.sum(pred))
  expect_equal(m$update(mx.nd.array(1), mx.nd.array(c(1, 2)), m$init()), c(1, 3))
  expect_error(mx.metric.custom(1, mean), "`name` must be a string", class = "mxnet_value_error")
  expect_error(mx.metric.custom("a", 1), "`feval` must be a function", class = "mxnet_value_error")
  two <- mx.metric.custom("two", function(label, pred) c(1, 2))
  expect_error(two$update(1, 1, two$init()), "must return one number", class = "mxnet_value_error")
})

test_that("custom metrics may use plain arithmetic whatever the two dims are", {
  m <- mx.metric.custom("mae", function(label, pred) mean(abs(label - pred)))
  expect_equal(m$update(mx.nd.array(1:3), mx.nd.array(matrix(c(1, 4, 5), 1)), m$init()), c(1, 4 / 3))
})

test_that("wrong numbers of labels are errors", {
  m <- mx.metric.mse
  expect_error(m$update(mx.nd.array(1:3), mx.nd.array(1:2), m$init()), class = "mxnet_error")
  expect_error(mx.metric.accuracy$update(mx.nd.array(1), mx.nd.array(1), c(0, 0)), "c\\(classes, n\\)",
               class = "mxnet_value_error")
})

test_that("metrics and loggers print", {
  expect_output(print(mx.metric.mse), "<mx.metric mse>")
  log <- mx.metric.logger()
  log$train <- c(1, 2)
  expect_output(print(log), "2 training values \\(last 2\\), 0 validation values")
  expect_error(log$train <- "a")
  expect_identical(mx.metric.logger$new(eval = 3)$eval, 3)
})
