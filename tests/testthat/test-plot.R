test_that("learning curves are drawn from models and loggers", {
  d <- data.plane(40)
  model <- fit(net.classifier(), d$data, d$label, num.round = 3, eval.metric = mx.metric.accuracy, eval.data = d)
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  curves <- plot(model)
  expect_named(curves, c("x", "training", "validation"))
  expect_identical(curves$x, 1:3)
  expect_equal(curves$training, attr(model, "history")$train)
  log <- mx.metric.logger(train = c(1, 2, 3))
  expect_named(plot(log, main = "log"), c("x", "training"))
  log$eval <- 5
  expect_identical(plot(log)$validation, c(5, NA, NA))
})

test_that("nothing to draw is an error", {
  expect_error(plot(mx.metric.logger()), "empty", class = "mxnet_value_error")
  expect_error(plot(model.plain(data = c(2, 4))), "no learning curve", class = "mxnet_value_error")
  d <- data.plane(10)
  expect_error(plot(fit(net.regression(), d$data, d$label, num.round = 1)), "no learning curve",
               class = "mxnet_value_error")
})
