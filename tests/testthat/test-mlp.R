test_that("layers, dropout and outputs are as asked for", {
  x <- matrix(rnorm(40), 10)
  y <- rep(0:1, 5)
  names.of <- function(...) {
    model <- mx.mlp(x, y, num.round = 1, array.layout = "rowmajor", verbose = FALSE, ...)
    sub("[0-9]+", "", grep("_output", outputs(internals(model$symbol)), value = TRUE))
  }
  fc <- "fullyconnected_output"
  act <- "activation_output"
  expect_identical(names.of(hidden_node = c(5, 3), out_node = 2, dropout = 0.5, activation = c("tanh", "relu")),
                   c(fc, act, fc, act, "dropout_output", fc, "softmaxoutput_output"))
  expect_identical(names.of(hidden_node = 3, out_node = 1, out_activation = "rmse"), c(fc, act, fc,
      "linearregressionoutput_output"))
  expect_identical(names.of(hidden_node = 3, out_node = 1, out_activation = "logistic"), c(fc, act, fc,
      "logisticregressionoutput_output"))
  model <- mx.mlp(x, y, hidden_node = 3, out_node = 2, dropout = 2, num.round = 1, array.layout = "rowmajor",
                  verbose = FALSE)
  expect_true(all(is.finite(predict(model, x, array.layout = "rowmajor"))))
})

test_that("a perceptron learns what is not linear", {
  set.seed(1)
  x <- matrix(runif(800, -1, 1), 400)
  y <- as.numeric(x[, 1] * x[, 2] > 0)
  mx.set.seed(1)
  model <- mx.mlp(x, y, hidden_node = 16, out_node = 2, num.round = 60, array.batch.size = 20, learning.rate = 0.2,
                  momentum = 0.9, array.layout = "rowmajor",
                  initializer = mx.init.Xavier(), verbose = FALSE)
  expect_gt(mean(max.col(t(predict(model, x, array.layout = "rowmajor"))) - 1 == y), 0.93)
})

test_that("wrong arguments are errors", {
  x <- matrix(rnorm(20), 10)
  expect_error(mx.mlp(x, 1:10, hidden_node = 3, out_node = 2, activation = c("tanh", "relu")),
               "Length of activation should be 1", class = "mxnet_value_error")
  expect_error(mx.mlp(x, 1:10, out_node = 2, dropout = c(0.1, 0.2)), "only accept dropout ratio of length 1",
               class = "mxnet_value_error")
  expect_error(mx.mlp(x, 1:10, out_node = 2, out_activation = "poisson"), "Not supported yet",
               class = "mxnet_value_error")
})
