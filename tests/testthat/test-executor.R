x <- mx.symbol.Variable("x")
y <- mx.symbol.Variable("y")
data <- mx.symbol.Variable("data")
net <- mx.symbol.LinearRegressionOutput(mx.symbol.FullyConnected(data, num_hidden = 1, name = "fc"), name = "lro")

test_that("binding allocates zeros and asks for gradients of parameters", {
  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(3, 4))
  expect_equal(class(e), structure("Rcpp_MXExecutor", package = "mxnet"))
  expect_equal(sapply(e$ref.grad.arrays, is.null), c(data = TRUE, fc_weight = FALSE, fc_bias = FALSE, lro_label = TRUE))
  expect_equal(as.array(e$arg.arrays$fc_weight), matrix(0, 3, 1))
  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", fixed.param = "fc_bias", data = c(3, 4))
  expect_null(e$ref.grad.arrays$fc_bias)
  expect_error(mx.simple.bind(net, mx.cpu(), grad.req = "sometimes", data = c(3, 4)), class = "mxnet_value_error")
  expect_error(mx.simple.bind(mx.symbol.Group(x, net), mx.cpu(), x = 2), "data", class = "mxnet_shape_error")
  expect_error(mx.simple.bind(net, "cpu", data = c(3, 4)), class = "mxnet_value_error")
  expect_error(mx.simple.bind(net, mx.cpu(), c(3, 4)), class = "mxnet_error")
})

test_that("types follow from the graph", {
  s <- mx.symbol.Cast(mx.symbol.Cast(x, dtype = "float64") * 2, dtype = "int32")
  e <- bound(s, list(x = c(1.6, 2)))
  mx.exec.forward(e, FALSE)
  expect_equal(mxnet:::mx.nd.dtype(e$ref.outputs[[1]]), "int32")
  expect_equal(as.array(e$ref.outputs[[1]]), c(3, 4))
})

test_that("binding to given arrays copies them", {
  a <- nd(c(1, 2))
  e <- mxnet:::mx.symbol.bind(x + y, mx.cpu(), list(a, nd(c(3, 4))), list(), list("write", "null"))
  mx.nd.exp(mx.nd.zeros(2), out = a)
  mx.exec.forward(e)
  expect_equal(as.array(e$outputs[[1]]), c(4, 6))
  bind <- mxnet:::mx.symbol.bind
  expect_error(bind(x + y, mx.cpu(), list(a), list(), list("null")), class = "mxnet_value_error")
  expect_error(bind(x * 2, mx.cpu(), list(c(1, 2)), list(), list("null")), class = "mxnet_value_error")
  expect_error(bind(x * 2, mx.cpu(), list(a), list(), list("sometimes")), class = "mxnet_value_error")
  expect_error(bind(x + y, mx.cpu(), list(a, nd(1:3)), list(), c("null", "null")), class = "mxnet_shape_error")
})

test_that("references follow, copies do not", {
  e <- mx.simple.bind(x * 2, mx.cpu(), x = 2)
  copy <- e$arg.arrays$x
  ref <- e$ref.arg.arrays$x
  out <- e$ref.outputs[[1]]
  mx.exec.update.arg.arrays(e, list(x = nd(c(5, 6))), match.name = TRUE)
  mx.exec.forward(e, FALSE)
  expect_equal(as.array(copy), c(0, 0))
  expect_equal(as.array(ref), c(5, 6))
  expect_equal(as.array(out), c(10, 12))
  mx.exec.forward(e, TRUE)
  expect_equal(as.array(out), c(10, 12))
  changed <- e$ref.arg.arrays
  changed$x <- NULL
  expect_named(e$ref.arg.arrays, "x")
})

test_that("updates by position and by name are checked before anything is written", {
  e <- mx.simple.bind(x - y, mx.cpu(), grad.req = "write", x = 2, y = 2)
  update <- mx.exec.update.arg.arrays
  expect_null(update(e, list(nd(c(5, 6)), nd(c(1, 1)))))
  expect_error(update(e, list(nd(1:2))), class = "mxnet_value_error")
  expect_error(update(e, list(nd(1:2), NULL)), class = "mxnet_value_error")
  update(e, list(nd(c(7, 8)), NULL), skip.null = TRUE)
  expect_error(update(e, list(z = nd(1:2)), match.name = TRUE), "'z'", class = "mxnet_value_error")
  expect_error(update(e, list(nd(1:2)), match.name = TRUE), class = "mxnet_value_error")
  expect_error(update(e, list(x = nd(1:2), y = nd(1:3)), match.name = TRUE), class = "mxnet_shape_error")
  expect_equal(as.array(e$ref.arg.arrays$x), c(7, 8))
  expect_null(update(e, list(), match.name = TRUE))
  expect_error(update(e, list(x = 1:2), match.name = TRUE), class = "mxnet_value_error")
  mx.exec.update.grad.arrays(e, list(x = nd(c(7, 8))), match.name = TRUE)
  expect_equal(as.array(e$grad.arrays$x), c(7, 8))
})

test_that("gradients: written, added, of several heads", {
  e <- bound(x * x * y + 3 * y, list(x = c(1, 2), y = c(3, 4)), "write")
  mx.exec.forward(e)
  mx.exec.backward(e, mx.nd.ones(2))
  expect_equal(lapply(e$ref.grad.arrays, as.array), list(x = c(6, 16), y = c(4, 7)))
  e <- bound(x * 2, list(x = c(1, 2)), "add")
  for (i in 1:3) {
    mx.exec.forward(e)
    mx.exec.backward(e, mx.nd.ones(2))
  }
  expect_equal(as.array(e$ref.grad.arrays$x), c(6, 6))
  e <- bound(mx.symbol.Group(x * 2, x * x), list(x = c(1, 2)), "write")
  mx.exec.forward(e)
  mx.exec.backward(e, mx.nd.ones(2), nd(c(10, 10)))
  expect_equal(as.array(e$ref.grad.arrays$x), c(22, 42))
  expect_error(mx.exec.backward(e, mx.nd.ones(3), nd(1:2)), class = "mxnet_error")
  e <- bound(x * 2, list(x = c(1, 2)), "write")
  mx.exec.forward(e)
  expect_error(mx.exec.backward(e), class = "mxnet_value_error")
  expect_error(mx.exec.backward(e, 1), class = "mxnet_value_error")
})

test_that("members", {
  e <- bound(x * 2, list(x = c(1, 2)))
  e$forward(FALSE, list(x = nd(c(3, 4))))
  expect_equal(as.array(e$ref.outputs[[1]]), c(6, 8))
  e$update.arg.arrays(list(x = nd(c(1, 1))), TRUE, FALSE)
  expect_equal(as.array(e$ref.arg.arrays$x), c(1, 1))
  expect_equal(outputs(e$symbol), names(e$ref.outputs))
  expect_equal(e$ctx, mx.cpu())
  expect_named(e$memory, c("inference", "training", "outputs", "workspace", "parameters", "gradients"))
  expect_output(print(e), "<MXExecutor @cpu\\(0\\)")
  expect_output(print(e), "1 argument: x (2)", fixed = TRUE)
  expect_error(e$nosuch, "no member", class = "mxnet_value_error")
  expect_error(e$backward(NA), "`head.grads` must be", class = "mxnet_value_error")
  expect_true("outputs" %in% .DollarNames(e, "^o"))
})

test_that("arrays in use can change places", {
  e <- bound(x * y, list(x = 1:2, y = 3:4))
  refs <- e$ref.arg.arrays
  mx.exec.update.arg.arrays(e, list(x = refs$y, y = refs$x), match.name = TRUE)
  expect_equal(as.array(refs$x), c(3, 4))
  expect_equal(as.array(refs$y), c(1, 2))
})

test_that("forward and backward use no memory after their first run", {
  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(3, 4))
  mx.exec.forward(e)
  mx.exec.backward(e)
  before <- mx.memory()[["allocations"]]
  for (i in 1:5) {
    mx.exec.forward(e)
    mx.exec.backward(e)
  }
  expect_equal(mx.memory()[["allocations"]], before)
})

test_that("what is computed twice or changes nothing takes no step, in prediction too", {
  a <- mx.symbol.Variable("a")
  steps <- function(symbol, is.train) {
    e <- mx.simple.bind(symbol, mx.cpu(), a = c(2, 3))
    mx.exec.update.arg.arrays(e, list(a = mx.nd.array(matrix(1:6, 2))))
    mx.exec.forward(e, is.train)
    mx.profiler.config(list(filename = tempfile(fileext = ".json")))
    mx.profiler.state(MX.PROF.STATE$RUN)
    mx.exec.forward(e, is.train)
    list(sum(mx.profiler.state(MX.PROF.STATE$STOP)$calls), as.array(e$outputs[[1]]))
  }
  for (is.train in c(FALSE, TRUE)) {
    expect_equal(steps(mx.symbol.exp(a * 2) + mx.symbol.exp(a * 2), is.train), list(3, 2 * exp(2 * matrix(1:6, 2))),
                 tolerance = 1e-6)
    expect_equal(steps(mx.symbol.transpose(mx.symbol.transpose(a)) * 1 - 4, is.train), list(1, matrix(1:6, 2) - 4))
  }
})
