test_that("errors from the core have classes and fields", {
  e <- tryCatch(nd(1:6) + nd(1:3), error = identity)
  expect_s3_class(e, c("mxnet_shape_error", "mxnet_error", "error", "condition"), exact = TRUE)
  expect_equal(e$operator, "elemwise_add")
  expect_equal(e$expected, "(6,)")
  expect_equal(e$actual, "(3,)")
  expect_match(conditionMessage(e), "dim is (6,) on the left and (3,) on the right", fixed = TRUE)

  data <- mx.symbol.Variable("data")
  net <- mx.symbol.FullyConnected(data, num_hidden = 4, name = "fc")
  e <- tryCatch(mx.symbol.infer.shape(net, data = c(3, 5), fc_weight = c(9, 4)), error = identity)
  expect_s3_class(e, "mxnet_shape_error")
  expect_equal(e$node, "fc")
  expect_equal(e$argument, "weight")
  expect_match(conditionMessage(e), "native shapes")
})

test_that("each kind of failure has its class", {
  expect_error(mx.nd.load(tempfile()), class = "mxnet_io_error")
  expect_error(mx.symbol.load.json("{not json"), class = "mxnet_format_error")
  expect_error(mx.nd.zeros(c(1e6, 1e6)), class = "mxnet_memory_error")
  expect_error(mx.nd.clip(nd(1), a_min = "x", a_max = 1), class = "mxnet_value_error")
  expect_error(mx.nd.zeros(-1), class = "mxnet_shape_error")
  if (mx.info()$gpus == 0) expect_error(mx.nd.zeros(2, mx.gpu()), class = "mxnet_device_error")
})

test_that("the call of a condition is the user's", {
  e <- tryCatch(mx.nd.dot(nd(1:3)), error = identity)
  expect_equal(conditionCall(e), quote(mx.nd.dot(nd(1:3))))
  e <- tryCatch(mx.symbol.Activation(act_type = "none"), error = identity)
  expect_equal(conditionCall(e), quote(mx.symbol.Activation(act_type = "none")))
})

test_that("pointers of other kinds are errors, not crashes", {
  x <- nd(1:3)
  s <- mx.symbol.Variable("v")
  e <- bound(s * 2, list(v = 1:2))
  for (bad in list(NULL, 1, "a", list(), x, s, e, new.env(), quote(a), sum, raw(2))) {
    if (!is.mx.symbol(bad)) {
      expect_error(mxnet:::mx.symbol.bind(bad, mx.cpu(), list(), list(), list()), class = "mxnet_error")
      expect_error(mx.symbol.Activation(data = bad, act_type = "relu"), class = "mxnet_value_error")
    }
    if (!inherits(bad, "Rcpp_MXExecutor")) expect_error(mx.exec.forward(bad), class = "mxnet_value_error")
    if (!is.mx.ndarray(bad)) {
      expect_error(ctx(bad), class = "mxnet_value_error")
      if (!is.null(bad)) expect_error(mx.nd.exp(bad), class = "mxnet_value_error")
    }
  }
})

test_that("a pointer that lost its contents says so", {
  empty <- new("Rcpp_MXSymbol")
  expect_error(arguments(empty), class = "mxnet_value_error")
  stale <- nd(1:3)
  bytes <- serialize(stale, NULL)
  at <- which(bytes == as.raw(0x4d) & c(bytes[-1], as.raw(0)) == as.raw(0x58) & c(bytes[-(1:2)], as.raw(c(0,
    0))) == as.raw(0x4e))[1]
  bytes[at] <- as.raw(0)
  expect_error(as.array(unserialize(bytes)), class = "mxnet_format_error")
})
