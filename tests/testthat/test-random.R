draws <- function(...) as.array(mx.runif(5, ...))
dropped <- function() value.of(mx.symbol.Dropout(mx.symbol.Variable("x"), p = 0.5), list(x = rep(1, 100)),
  is.train = TRUE)

test_that("mx.set.seed repeats, whatever R's generator does", {
  on.exit(mx.set.seed(NULL))
  expect_null(mx.set.seed(10))
  a <- draws()
  b <- draws()
  expect_false(identical(a, b))
  mx.set.seed(10)
  set.seed(1)
  expect_identical(draws(), a)
  mx.set.seed(3)
  d <- dropped()
  mx.set.seed(3)
  expect_identical(dropped(), d)
  expect_error(mx.set.seed("a"), class = "mxnet_value_error")
  expect_error(mx.set.seed(NA), class = "mxnet_value_error")
})

test_that("without it, set.seed repeats", {
  mx.set.seed(NULL)
  run <- function() {
    set.seed(7)
    list(draws(), as.array(mx.rnorm(c(2, 3))), dropped(), runif(1))
  }
  expect_identical(run(), run())
  expect_false(identical(draws(), draws()))
  expect_identical(in.fresh.session("set.seed(1); as.array(mx.runif(3))"),
    in.fresh.session("set.seed(1); as.array(mx.runif(3))"))
})

test_that("distributions", {
  on.exit(mx.set.seed(NULL))
  mx.set.seed(1)
  u <- as.array(mx.runif(c(50, 60), -2, 3))
  expect_equal(dim(u), c(50, 60))
  expect_true(all(u >= -2 & u < 3))
  expect_lt(abs(mean(u) - 0.5), 0.1)
  n <- as.array(mx.rnorm(c(100, 50), mean = 5, sd = 0.1))
  expect_equal(mean(n), 5, tolerance = 0.01)
  expect_equal(sd(n), 0.1, tolerance = 0.1)
  expect_error(mx.runif(3, min = "a"), class = "mxnet_value_error")
  expect_error(mx.rnorm(3, sd = NULL), class = "mxnet_value_error")
  expect_error(mx.rnorm(3, ctx = "cpu"), class = "mxnet_value_error")
  expect_error(mx.runif("a"), class = "mxnet_value_error")
})

test_that("numbers do not depend on the threads", {
  on.exit({
    mx.set.seed(NULL)
    mx.threads(0)
  })
  draw <- function(n) {
    mx.threads(n)
    mx.set.seed(5)
    as.array(mx.rnorm(200000))
  }
  expect_identical(draw(1), draw(4))
})
