test_that("names decide what is drawn", {
  mx.set.seed(1)
  init <- mx.init.uniform(0.1)
  w <- as.array(init("fc_weight", c(50, 40), mx.cpu()))
  expect_identical(dim(w), c(50L, 40L))
  expect_true(all(abs(w) <= 0.1) && max(w) > 0.099 && abs(mean(w)) < 0.005)
  expect_identical(as.array(init("fc_bias", 3, mx.cpu())), c(0, 0, 0))
  expect_identical(as.array(init("bn_gamma", 2, mx.cpu())), c(1, 1))
  expect_identical(as.array(init("bn_moving_var", 2, mx.cpu())), c(1, 1))
  expect_identical(as.array(init("bn_moving_mean", 2, mx.cpu())), c(0, 0))
  expect_identical(as.array(init("bn_beta", 2)), c(0, 0)) # the device may be left out
  expect_null(init("rnn.state", 2, mx.cpu(), allow.unknown = TRUE))
  expect_error(init("rnn.state", 2, mx.cpu()), "Unkown initialization pattern for  rnn.state",
               class = "mxnet_value_error")
})

test_that("normal and Xavier have the right width", {
  mx.set.seed(2)
  expect_equal(sd(as.array(mx.init.normal(0.3)("w_weight", c(100, 100), mx.cpu()))), 0.3, tolerance = 0.03)
  width <- function(shape, ...) max(abs(as.array(mx.init.Xavier(...)("w_weight", shape, mx.cpu()))))
  expect_equal(width(c(5, 5, 20, 50)), sqrt(3 / mean(c(500, 50))), tolerance = 0.01)
  expect_equal(width(c(5, 5, 20, 50), factor_type = "in", magnitude = 2), sqrt(2 / 500), tolerance = 0.01)
  expect_equal(width(c(200, 50), factor_type = "out"), sqrt(3 / 50), tolerance = 0.01)
  expect_equal(width(5000), sqrt(3 / 5000), tolerance = 0.01) # a flat vector of parameters
  g <- as.array(mx.init.Xavier("gaussian", "in", 2)("w_weight", c(100, 100), mx.cpu()))
  expect_equal(sd(g), sqrt(2 / 100), tolerance = 0.03)
})

test_that("the seed decides the numbers", {
  draw <- function(seed) {
    mx.set.seed(seed)
    as.array(mx.init.Xavier()("w_weight", c(3, 3), mx.cpu()))
  }
  expect_identical(draw(3), draw(3))
  expect_false(identical(draw(3), draw(4)))
})

test_that("bad words are errors", {
  expect_error(mx.init.Xavier(factor_type = "both"), "`factor_type` must be one of",
               class = "mxnet_value_error")
  expect_error(mx.init.Xavier(rnd_type = "cauchy"), "`rnd_type` must be one of",
               class = "mxnet_value_error")
})

test_that("mx.init.create skips or refuses unknown names", {
  shapes <- list(data = c(2, 3), fc_weight = c(2, 2), fc_bias = 2)
  expect_named(mx.init.create(mx.init.uniform(0.1), shapes), c("fc_weight", "fc_bias"))
  expect_error(mx.init.create(mx.init.uniform(0.1), shapes, skip.unknown = FALSE), class = "mxnet_value_error")
  expect_identical(mx.init.create(mx.init.uniform(0.1), list(data = 2)), list())
  expect_identical(mx.init.create(mx.init.uniform(0.1), list()), list())
  expect_error(mx.init.create(mx.init.uniform(0.1), list(2)), "named list", class = "mxnet_value_error")
  expect_error(mx.init.create(mx.init.uniform(0.1), mx.kv.create()), "named list", class = "mxnet_value_error")
})
