test_that("arguments of mx.nd functions are those of the operator", {
  expect_equal(names(formals(mx.nd.dot)), c("lhs", "rhs", "transpose_a", "transpose_b", "forward_stype", "out"))
  expect_equal(names(formals(mx.nd.clip)), c("data", "a_min", "a_max", "out"))
  expect_error(mx.nd.exp(nd(1), foo = 1), "unused argument")
  # by position as in MXNet; what it does not have comes last
  expect_equal(names(formals(mx.nd.sample.normal)), c("mu", "shape", "dtype", "sigma", "out"))
  expect_equal(dim(mx.nd.sample.normal(nd(1:2), 5, "float32", nd(c(1, 1)))), c(5, 2))
  expect_equal(as.array(mx.nd.random.pdf.uniform(nd(matrix(0.5, 1)), nd(0), FALSE, nd(2))), matrix(0.5))
  expect_equal(names(formals(mx.nd.log.softmax)),
    c("data", "axis", "temperature", "dtype", "use_length", "length", "out"))
  expect_equal(names(formals(mx.nd.add.n)), c("args", "out"))
})

test_that("lists of arrays, several outputs, outputs that exist", {
  x <- mx.nd.concat(list(nd(1:2), nd(3:5)), dim = 0)
  expect_equal(as.array(x), 1:5)
  expect_equal(as.array(mx.nd.concat(data = c(nd(1:2), nd(3:5)), num_args = 2, dim = 0)), 1:5)
  parts <- mx.nd.split(nd(matrix(1:8, 4)), num_outputs = 2, axis = 1)
  expect_type(parts, "list")
  expect_null(names(parts))
  expect_equal(as.array(parts[[2]]), matrix(c(3, 4, 7, 8), 2))
  y <- mx.nd.zeros(3)
  z <- mx.nd.exp(mx.nd.zeros(3), out = y)
  expect_equal(as.array(y), c(1, 1, 1))
  expect_equal(as.array(z), c(1, 1, 1))
  expect_error(mx.nd.exp(mx.nd.zeros(3), out = mx.nd.zeros(2)), class = "mxnet_shape_error")
  expect_error(mx.nd.exp(mx.nd.zeros(3), out = 1), class = "mxnet_value_error")
  into <- list(mx.nd.zeros(c(2, 2)), mx.nd.zeros(c(2, 2)))
  mx.nd.split(nd(matrix(1:8, 4)), num_outputs = 2, axis = 1, out = into)
  expect_equal(as.array(into[[1]]), matrix(c(1, 2, 5, 6), 2))
})

test_that("operators that update a state change it in place", {
  w <- nd(c(1, 2))
  m <- mx.nd.zeros(2)
  w2 <- mx.nd.sgd.mom.update(w, nd(c(0.5, 0.5)), m, lr = 0.1, momentum = 0.9)
  expect_equal(as.array(m), c(-0.05, -0.05), tolerance = 1e-6)
  expect_equal(as.array(w2), c(0.95, 1.95), tolerance = 1e-6)
  expect_equal(as.array(w), c(1, 2))
})

test_that("missing and superfluous inputs are named", {
  expect_error(mx.nd.dot(nd(1:3)), "`rhs` is missing", class = "mxnet_value_error")
  expect_error(mx.nd.FullyConnected(nd(matrix(1:4, 2)), num_hidden = 2), "`weight` is missing",
    class = "mxnet_value_error")
  w <- nd(matrix(1, 2, 2))
  expect_error(mx.nd.FullyConnected(nd(matrix(1:4, 2)), w, nd(1:2), num_hidden = 2, no_bias = TRUE), "bias",
    class = "mxnet_value_error")
})

test_that("parameters: tuples are reversed, single values are not, nonsense is an error", {
  x <- nd(array(1:24, c(2, 3, 4)))
  expect_equal(dim(mx.nd.transpose(x, axes = c(2, 0, 1))), c(2, 4, 3))
  expect_equal(dim(mx.nd.reshape(x, shape = c(6, -1))), c(6, 4))
  expect_equal(dim(mx.nd.reshape(x, shape = -1)), 24)
  expect_equal(dim(mx.nd.sum(x, axis = 0, keepdims = TRUE)), c(2, 3, 1))
  expect_equal(dim(mx.nd.sum(x, axis = c(0, 1))), 2)
  expect_error(mx.nd.reshape(x, shape = "abc"), class = "mxnet_value_error")
  expect_error(mx.nd.sum(x, axis = list(1)), class = "mxnet_value_error")
  expect_error(mx.nd.sum(x, keepdims = NA), class = "mxnet_value_error")
  expect_error(mx.nd.sum(x, keepdims = c(TRUE, TRUE)), class = "mxnet_value_error")
  expect_error(mx.nd.clip(x, a_min = NaN, a_max = 1), class = "mxnet_value_error")
  expect_error(mx.nd.sum(x, axis = 7), class = "mxnet_error")
  expect_error(mx.nd.one.hot(nd(1), depth = 2.5), class = "mxnet_value_error")
  expect_error(mx.nd.one.hot(nd(1)), class = "mxnet_value_error")
})

test_that("text of attributes", {
  a <- function(...) {
    s <- mx.symbol.Variable("x")
    s <- mx.symbol.Convolution(s, ..., name = "c")
    s$attributes
  }
  v <- a(kernel = c(5, 3), num_filter = 1e6, no_bias = TRUE)
  expect_equal(v$kernel, "(3, 5)")
  expect_equal(v$num_filter, "1000000")
  expect_equal(v$no_bias, "1")
  expect_setequal(names(v), c("kernel", "num_filter", "no_bias"))
  d <- mx.symbol.Dropout(mx.symbol.Variable("x"), p = 0.123456789)
  expect_equal(as.numeric(d$attributes$p), 0.123456789)
  expect_equal((mx.symbol.Variable("x") * 0.1)$attributes$scalar, "0.1")
  r <- mx.symbol.Reshape(mx.symbol.Variable("x"), shape = 4)
  expect_equal(r$attributes$shape, "(4,)")
  expect_equal(mx.symbol.sum(mx.symbol.Variable("x"), axis = 1)$attributes$axis, "1")
})

test_that("functions of operators are up to date", {
  records <- .Call(mxnet:::ffi_operators)
  names <- unlist(lapply(records, function(r) c(r$name, r$aliases)))
  open <- gsub("_", ".", names[!startsWith(names, "_")], fixed = TRUE)
  there <- ls(asNamespace("mxnet"))
  expect_setequal(setdiff(paste0("mx.nd.", open), there), character())
  for (r in records) {
    name <- if (startsWith(r$name, "_")) paste0("mx.nd.internal.", gsub("_", ".", substring(r$name,
      2))) else paste0("mx.nd.", gsub("_", ".", r$name))
    if (name %in% c("mx.nd.slice", "mx.nd.ones", "mx.nd.zeros")) next
    f <- names(formals(get(name, asNamespace("mxnet"))))
    counted <- if (r$name %in% c("add_n", "khatri_rao")) r$variadic
    expect_setequal(f, setdiff(c(r$inputs, vapply(r$parameters, `[[`, "", "name"), "out"), counted))
  }
})

test_that("each generated function reaches its operator: without inputs the result is a value or a classed error", {
  ns <- asNamespace("mxnet")
  reaches <- function(name) {
    f <- get(name, ns)
    result <- tryCatch(if (startsWith(name, "mx.varg.")) f(list()) else f(), error = identity)
    inherits(result, c("MXNDArray", "Rcpp_MXSymbol", "mxnet_error")) ||
      is.list(result) && all(vapply(result, inherits, NA, "MXNDArray"))
  }
  calls <- c("ffi_nd_operator", "ffi_symbol_operator", "symbol.operator")
  generated <- function(name) any(calls %in% all.names(body(get(name, ns))))
  by.hand <- c("mx.nd.full", "mx.symbol.concat")
  names <- Filter(generated, setdiff(ls(ns, pattern = "^mx[.](nd|symbol|varg[.]symbol)[.]"), by.hand))
  expect_gt(length(names), 1000)
  expect_identical(Filter(Negate(reaches), names), character())
})
