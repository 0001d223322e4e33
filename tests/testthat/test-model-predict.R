by.hand <- function(model, X) {
  p <- values(model$arg.params)
  t(p$fc_weight) %*% X + p$fc_bias
}

test_that("predictions are the network's, in any batch size and layout", {
  X <- matrix(rnorm(22), 2)
  model <- model.plain(data = c(2, 4))
  expected <- by.hand(model, X)
  for (batch in c(1, 4, 11, 128)) expect_equal(predict(model, X, array.layout = "colmajor", array.batch.size = batch),
                                               expected, tolerance = 1e-6)
  expect_equal(predict(model, t(X), array.layout = "rowmajor"), expected, tolerance = 1e-6)
  expect_equal(predict(model, as.data.frame(t(X))), expected, tolerance = 1e-6)
  expect_warning(p <- predict(model, X), "use colmajor")
  expect_equal(p, expected, tolerance = 1e-6)
  expect_warning(p <- predict(model, t(X)), "use rowmajor")
  expect_equal(p, expected, tolerance = 1e-6)
  expect_error(predict(model, matrix(1:4, 2)), "both layouts", class = "mxnet_value_error")
  expect_error(predict(model, matrix(1:15, 3)), "neither layout", class = "mxnet_value_error")
  expect_error(predict(model, matrix(1:15, 3), array.layout = "colmajor"), class = "mxnet_shape_error")
})

test_that("arguments are MXNet's, by position and by name", {
  X <- matrix(rnorm(22), 2)
  model <- model.plain(data = c(2, 4))
  expected <- by.hand(model, X)
  expect_equal(predict(model, X, NULL, 4, "colmajor", FALSE), expected, tolerance = 1e-6)
  expect_equal(predict(model = model, X = X, array.layout = "colmajor"), expected, tolerance = 1e-6)
  expect_equal(getFromNamespace("predict.MXFeedForwardModel", "mxnet")(model, X, array.layout = "colmajor"), expected,
               tolerance = 1e-6)
  expect_named(formals(getS3method("predict", "MXFeedForwardModel")),
               c("model", "X", "ctx", "array.batch.size", "array.layout", "allow.extra.params"))
})

test_that("iterators are read from the start, without padding", {
  X <- matrix(rnorm(22), 2)
  model <- model.plain(data = c(2, 4))
  it <- mx.io.arrayiter(X, 1:11, batch.size = 4)
  it$iter.next()
  expect_equal(predict(model, it), by.hand(model, X), tolerance = 1e-6)
  file <- tempfile()
  write.table(t(X), file, sep = ",", row.names = FALSE, col.names = FALSE)
  csv <- mx.io.CSVIter(data.csv = file, data.shape = 2, batch.size = 4)
  for (i in 1:2) {
    csv$iter.next()
    expect_equal(predict(model, csv), by.hand(model, X), tolerance = 1e-6)
  }
})

test_that("networks with several inputs are fed from lists and iterators", {
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("a") * mx.symbol.Variable("b"), num_hidden = 1, name = "fc")
  model <- model.plain(mx.symbol.LinearRegressionOutput(net, name = "lro"), a = c(2, 4), b = c(2, 4))
  X <- list(a = matrix(rnorm(14), 2), b = matrix(rnorm(14), 2))
  expect_equal(predict(model, X, array.batch.size = 3), by.hand(model, X$a * X$b), tolerance = 1e-6)
  expect_equal(predict(model, lapply(X, t), array.layout = "rowmajor"), by.hand(model, X$a * X$b), tolerance = 1e-6)
  expect_error(predict(model, list(a = X$a, b = X$b[, 1:3])), "numbers of examples differ: a 7, b 3",
               class = "mxnet_value_error")
  expect_error(predict(model, list(z = X$a)), "the network needs a, b", class = "mxnet_value_error")
})

test_that("a loss with a label as input is predicted where the batch has the label", {
  fc <- mx.symbol.Reshape(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc"), shape = 0)
  model <- model.plain(mx.symbol.MakeLoss(mx.symbol.abs(fc - mx.symbol.Variable("label"))), data = c(2, 4), label = 4)
  X <- matrix(rnorm(10), 2)
  expect_equal(predict(model, mx.io.arrayiter(X, 1:5, batch.size = 2)), as.vector(abs(by.hand(model, X) - 1:5)),
               tolerance = 1e-5)
})

test_that("a label of other dims than the data says has to be given", {
  label <- mx.symbol.Reshape(mx.symbol.transpose(mx.symbol.Variable("label")), target_shape = 0)
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 3, name = "fc")
  model <- model.plain(mx.symbol.SoftmaxOutput(mx.symbol.concat(list(net, net), num.args = 2, dim = 0), label),
                       data = c(2, 4), label = c(2, 4))
  X <- matrix(rnorm(10), 2)
  Y <- matrix(0, 2, 5)
  expect_error(predict(model, X, array.layout = "colmajor"), "dims of label", class = "mxnet_shape_error")
  p <- predict(model, list(data = X, label = Y))
  expect_identical(dim(p), c(3L, 10L))
  expect_equal(predict(model, mx.io.arrayiter(X, Y, batch.size = 5)), p, tolerance = 1e-6)
})

test_that("inner outputs of a model are predicted", {
  d <- data.plane(10)
  model <- model.plain(net.classifier(), data = c(2, 4))
  inner <- structure(list(symbol = internals(model$symbol)[["relu1_output"]], arg.params = model$arg.params,
                          aux.params = list()), class = "MXFeedForwardModel")
  expect_error(predict(inner, d$data, array.layout = "colmajor"), "fc2_weight and fc2_bias",
               class = "mxnet_value_error")
  p <- predict(inner, d$data, array.layout = "colmajor", allow.extra.params = TRUE)
  w <- values(model$arg.params)
  expect_equal(p, pmax(t(w$fc1_weight) %*% d$data + w$fc1_bias, 0), tolerance = 1e-5)
})

test_that("images keep their dims", {
  net <- mx.symbol.Convolution(mx.symbol.Variable("data"), kernel = c(3, 3), num_filter = 2, name = "cv")
  model <- model.plain(net, data = c(5, 4, 1, 2))
  expect_identical(dim(predict(model, array(rnorm(60), c(5, 4, 1, 3)))), c(3L, 2L, 2L, 3L))
})

test_that("incomplete models and empty iterators are errors", {
  model <- model.plain(data = c(2, 4))
  model$arg.params$fc_weight <- NULL
  expect_error(predict(model, matrix(1:6, 2), array.layout = "colmajor"), "lacks the parameters fc_weight",
               class = "mxnet_value_error")
  Empty <- setRefClass("Empty2", contains = "Rcpp_MXArrayDataIter", methods = list(reset = function() invisible(),
      iter.next = function() FALSE))
  expect_error(predict(model.plain(data = c(2, 4)), Empty$new()), "empty iterator", class = "mxnet_value_error")
})
