a <- matrix(c(1, 2, 3, 4), 2)
b <- matrix(c(2, 2, 5, 8), 2)

test_that("arithmetic of two arrays, arrays and numbers, arrays and vectors", {
  for (op in c("+", "-", "*", "/", "^", "%%", "%/%", "==", "!=", "<", "<=", ">", ">=", "&", "|")) {
    f <- get(op)
    expected <- function(x, y) f(x, y) + 0
    expect_equal(as.array(f(nd(a), nd(b))), expected(a, b), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(nd(a), 2)), expected(a, 2), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(7, nd(a))), expected(7, a), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(nd(a), b)), expected(a, b), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(b, nd(a))), expected(b, a), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(nd(a), 1:4)), matrix(expected(as.vector(a), 1:4), 2), tolerance = 1e-6, info = op)
    expect_equal(as.array(f(nd(a), 3L)), expected(a, 3L), tolerance = 1e-6, info = op)
  }
  expect_equal(as.array(nd(a) + TRUE), a + 1)
})

test_that("unary operators", {
  x <- nd(c(1, -2, 0))
  expect_equal(as.array(-x), c(-1, 2, 0))
  expect_equal(as.array(+x), c(1, -2, 0))
  expect_equal(as.array(!x), c(0, 0, 1))
})

test_that("remainders have the sign of the divisor", {
  expect_equal(as.array(nd(c(-5, 5)) %% 3), c(1, 2))
  expect_equal(as.array(nd(c(-5, 5)) %% -3), c(-2, -1))
  expect_equal(as.array(nd(c(-5, 5)) %/% 3), c(-2, 1))
})

test_that("numbers keep their precision", {
  expect_equal(as.array(nd(1, dtype = "float64") * 0.123456789012345), 0.123456789012345, tolerance = 1e-15)
  expect_equal(as.array(mx.nd.zeros(1) + 1234567L), 1234567)
  x <- nd(c(7, -7), dtype = "int32")
  expect_equal(mxnet:::mx.nd.dtype(x * 2), "int32")
  expect_equal(as.array(x * 2.5), c(17.5, -17.5))
})

test_that("an array of one dimension goes with any of as many elements", {
  m <- matrix(1:6, 2)
  expect_equal(as.array(nd(m) - nd(6:1)), m - 6:1)
  expect_equal(as.array(nd(6:1) / nd(m)), 6:1 / m, tolerance = 1e-6)
  expect_equal(as.array(nd(1:3) + matrix(1:3, 1)), 1:3 + matrix(1:3, 1))
  label <- nd(c(1, 0, 1))
  expect_identical(dim(label == nd(matrix(c(1, 1, 1), 1))), c(1L, 3L))
  expect_identical(dim(label), 3L)
})

test_that("operands that do not fit are errors", {
  x <- nd(1:3)
  expect_error(x + "a", class = "mxnet_value_error")
  expect_error(x + NULL, class = "mxnet_value_error")
  expect_error(x + list(1), class = "mxnet_value_error")
  expect_error(x + 1:2, class = "mxnet_shape_error")
  expect_error(x + matrix(1:2, 1), class = "mxnet_shape_error")
  expect_error(mx.nd.ones(c(3, 1)) + mx.nd.ones(c(1, 3)), class = "mxnet_shape_error")
  expect_error(mx.nd.ones(c(2, 3)) + mx.nd.ones(c(1, 3)), class = "mxnet_shape_error")
  expect_error(suppressWarnings(x + mx.symbol.Variable("s")))
  expect_error(suppressWarnings(x + factor("a")))
})

test_that("mathematical functions agree with R's", {
  v <- c(0.25, 0.5, 1, 1.75)
  for (f in c(
    "abs", "sign", "sqrt", "floor", "ceiling", "trunc", "exp", "expm1", "log1p", "log2", "log10", "cos", "sin", "tan",
    "atan", "cosh", "sinh", "tanh", "asinh", "gamma", "lgamma", "round", "signif", "digamma", "cospi", "cumsum",
    "cumprod", "cummax", "log"
  )) expect_equal(as.array(get(f)(nd(v))), get(f)(v), tolerance = 1e-5, info = f)
  for (f in c("acos", "asin", "atanh")) expect_equal(as.array(get(f)(nd(v[1:2]))), get(f)(v[1:2]), tolerance = 1e-5,
    info = f)
  expect_equal(as.array(acosh(nd(1.5))), acosh(1.5), tolerance = 1e-5)
  expect_equal(as.array(log(nd(8), base = 2)), 3, tolerance = 1e-6)
  expect_equal(as.array(round(nd(c(0.5, 1.5, 2.5, -0.126)), 2)), c(0.5, 1.5, 2.5, -0.13), tolerance = 1e-6)
  expect_equal(as.array(round(nd(c(0.5, 1.5, 2.5)))), c(0, 2, 2))
  expect_equal(dim(round(nd(a))), c(2, 2))
})

test_that("summaries are R numbers", {
  x <- nd(a)
  expect_identical(sum(x), 10)
  expect_identical(prod(x), 24)
  expect_identical(max(x), 4)
  expect_identical(min(x), 1)
  expect_identical(range(x), c(1, 4))
  expect_identical(mean(x), 2.5)
  expect_identical(sum(x, 1, nd(2)), 13)
  expect_identical(max(x, 9), 9)
  expect_true(any(x > 3))
  expect_false(all(x > 3))
  expect_identical(sum(nd(c(1, NA)), na.rm = TRUE), 1)
  expect_identical(sum(nd(c(200, 100), dtype = "uint8")), 300)
  expect_identical(mean(nd(c(1, NA, 3)), na.rm = TRUE), 2)
})

test_that("matrix products", {
  x <- matrix(c(1, 2, 3, 4, 5, 6), 2)
  expect_equal(as.array(nd(x) %*% nd(t(x))), x %*% t(x))
  expect_equal(as.array(nd(x) %*% t(x)), x %*% t(x))
  expect_equal(as.array(t(x) %*% nd(x)), t(x) %*% x)
  expect_equal(as.array(nd(x) %*% nd(1:3)), x %*% 1:3)
  expect_equal(as.array(nd(1:2) %*% nd(x)), 1:2 %*% x)
  expect_equal(x %*% t(x), base::`%*%`(x, t(x)))
  expect_error(nd(x) %*% nd(x), class = "mxnet_shape_error")
})
