test_that("layouts lead to the same model", {
  d <- data.plane(30)
  train <- function(X, ...) {
    mx.set.seed(1)
    values(mx.model.FeedForward.create(net.regression(), X = X, y = d$label, num.round = 2, verbose = FALSE,
                                       learning.rate = 0.1, ...)$arg.params)
  }
  expected <- train(d$data, array.layout = "colmajor")
  expect_equal(train(t(d$data), array.layout = "rowmajor"), expected)
  expect_warning(auto <- train(d$data), "use colmajor")
  expect_equal(auto, expected)
  expect_warning(auto <- train(t(d$data)), "use rowmajor")
  expect_equal(auto, expected)
  expect_equal(train(as.data.frame(t(d$data))), expected)
  expect_error(train(d$data[, 1:20]), "Cannot auto select array.layout.*neither", class = "mxnet_value_error")
  square <- matrix(rnorm(4), 2)
  expect_error(mx.model.FeedForward.create(net.regression(), square, 1:2),
               "Cannot auto select array.layout.*rows and columns", class = "mxnet_value_error")
})

test_that("factors, several outputs and rows of labels are taken", {
  d <- data.plane(30)
  net <- net.classifier()
  train <- function(y, net, ..., X = d$data) {
    mx.set.seed(1)
    values(fit(net, X, y, num.round = 1, learning.rate = 0.1, ...)$arg.params)
  }
  expect_equal(train(factor(ifelse(d$label > 0, "yes", "no")), net), train(d$label, net))
  column <- data.frame(class = factor(ifelse(d$label > 0, "yes", "no")))
  for (y in list(as.matrix(d$label), data.frame(d$label), column))
    expect_equal(train(y, net, X = t(d$data), array.layout = "rowmajor"), train(d$label, net))
  two <- rbind(d$label, 1 - d$label)
  expect_equal(train(t(two), net.regression(2), X = t(d$data), array.layout = "rowmajor"),
               train(two, net.regression(2)))
})

test_that("several inputs come as a named list", {
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("a") * mx.symbol.Variable("b"), num_hidden = 1, name = "fc")
  net <- mx.symbol.LinearRegressionOutput(net, mx.symbol.Variable("y"), name = "lro")
  set.seed(1)
  X <- list(a = matrix(rnorm(60), 2), b = matrix(rnorm(60), 2))
  y <- c(1, -2) %*% (X$a * X$b)
  mx.set.seed(1)
  model <- fit(net, X, as.vector(y), num.round = 60, array.batch.size = 10, learning.rate = 0.2,
               input.names = c("a", "b"), output.names = "y")
  expect_equal(as.vector(as.array(model$arg.params$fc_weight)), c(1, -2), tolerance = 1e-3)
})

test_that("a model without a symbol is refused", {
  empty <- structure(list(), class = "MXFeedForwardModel")
  expect_error(mx.serialize(empty), "no symbol", class = "mxnet_value_error")
  expect_error(predict(empty, 1), "no symbol", class = "mxnet_value_error")
})

test_that("wrong data is refused with a reason", {
  d <- data.plane(20)
  net <- net.regression()
  expect_error(fit(net, d$data), "Need to provide parameter y", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label[1:5]), "data has 20 examples .* label has 5", class = "mxnet_value_error")
  holes <- d
  holes$data[1, 3] <- NA
  expect_error(fit(net, holes$data, d$label), "`X` has missing values (1)", fixed = TRUE, class = "mxnet_value_error")
  expect_error(fit(net, d$data, c(NA, d$label[-1])), "`y` has missing values (1)", fixed = TRUE,
               class = "mxnet_value_error")
  expect_error(fit(net, d$data, as.character(d$label)), "`y` must be numbers", class = "mxnet_value_error")
  expect_error(fit(net, "a", 1), "`X` must be a numeric array", class = "mxnet_value_error")
  expect_error(fit(net, data.frame(a = letters), 1:26), "columns that are no numbers", class = "mxnet_value_error")
  expect_error(fit(1, d$data, d$label), "symbol needs to be MXSymbol", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, array.layout = "both"), "`array.layout`", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, array.batch.size = 0), "`array.batch.size`", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, ctx = "cpu"), "ctx must be", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, eval.data = 5), "validation set", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, eval.data = list(data = 1)), "list\\(data=R.array, label=R.array\\)",
               class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, eval.metric = "accuracy"), "must be an mx.metric", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, epoch.end.callback = 1), "`epoch.end.callback` must be a function",
               class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, num.round = -1), "`num.round`", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, optimizer = "magic"), "Unknown optimizer magic", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, learning.rat = 1, lr.speed = 2), "no argument `lr.speed`",
               class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, input.names = "image"), "has no argument image", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, output.names = "answer"), "has no argument answer",
               class = "mxnet_value_error")
  expect_error(fit(net, list(image = d$data), d$label), "Batches have no entry data", class = "mxnet_value_error")
  expect_error(mxnet:::mx.model.internal.named("data", "Batches have no entry", NULL), "nothing there has a name",
               class = "mxnet_value_error")
  expect_warning(fit(net, d$data, d$label, optimizer = mx.opt.create("sgd"), learning.rate = 1),
                 "ignored: learning.rate")
})

test_that("parameters to start from are checked", {
  d <- data.plane(20)
  net <- net.regression()
  w <- mx.nd.ones(c(2, 1))
  expect_error(fit(net, d$data, d$label, arg.params = list(fc_weight = w, fc_bias = mx.nd.zeros(1), zz = w)),
               "has zz, which the network has not", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, arg.params = list(w)), "named list", class = "mxnet_value_error")
  expect_error(fit(net, d$data, d$label, arg.params = list(fc_weight = mx.nd.ones(c(5, 1)), fc_bias = mx.nd.zeros(1))),
               "fc_weight has dim 5 x 1, the network needs 2 x 1", class = "mxnet_shape_error")
  expect_warning(model <- fit(net, d$data, d$label, arg.params = list(fc_weight = w), num.round = 1,
                              learning.rate = 0), "lacks fc_bias")
  expect_equal(as.array(model$arg.params$fc_bias), 0)
})

test_that("a loss needs no label, or takes several", {
  d <- data.plane(20)
  fc <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
  model <- fit(mx.symbol.MakeLoss(mx.symbol.square(fc)), d$data, d$label, num.round = 30, learning.rate = 0.3,
               initializer = mx.init.uniform(1))
  expect_lt(max(abs(unlist(values(model$arg.params)))), 0.1) # nothing but shrinking
  both <- list(mx.symbol.LinearRegressionOutput(fc, name = "a"), mx.symbol.LogisticRegressionOutput(fc, name = "b"))
  expect_named(fit(mx.symbol.Group(both), d$data, d$label, num.round = 1)$arg.params, c("fc_weight", "fc_bias"))
})

test_that("models are saved and loaded, aux states too", {
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(mx.symbol.BatchNorm(mx.symbol.Variable("data"), name = "bn"),
                                                          num_hidden = 2, name = "fc"), name = "sm")
  d <- data.plane(40)
  model <- fit(net, d$data, d$label, num.round = 2)
  prefix <- tempfile("model")
  expect_null(mx.model.save(model, prefix, 12))
  expect_true(all(file.exists(paste0(prefix, c("-symbol.json", "-0012.params")))))
  expect_setequal(names(mx.nd.load(paste0(prefix, "-0012.params"))),
                  c("arg:bn_gamma", "arg:bn_beta", "arg:fc_weight", "arg:fc_bias", "aux:bn_moving_mean",
                    "aux:bn_moving_var"))
  again <- mx.model.load(prefix, 12)
  expect_identical(predict(again, d$data, array.layout = "colmajor"), predict(model, d$data, array.layout = "colmajor"))
  for (plain in list(mx.serialize(model), unserialize(serialize(model, NULL))))
    expect_identical(predict(plain, d$data, array.layout = "colmajor"),
                     predict(model, d$data, array.layout = "colmajor"))
  file <- tempfile(fileext = ".rds")
  saveRDS(model, file)
  expect_equal(values(readRDS(file)$aux.params), values(model$aux.params))
  expect_error(mx.model.load(tempfile(), 1), class = "mxnet_io_error")
  expect_error(mx.model.save(1, prefix, 1), "must be an MXFeedForwardModel", class = "mxnet_value_error")
  expect_error(mx.model.save(model, prefix, 1.5), "`iteration`", class = "mxnet_value_error")
})

test_that("serialized models are lists of R objects", {
  model <- model.plain(data = c(2, 4))
  plain <- mx.serialize(model)
  expect_identical(names(plain), c("symbol_json", "arg.params", "aux.params", "is.serialized"))
  expect_identical(plain$arg.params$fc_weight, as.array(model$arg.params$fc_weight))
  expect_identical(mx.serialize(plain), plain)
  expect_equal(values(mx.unserialize(plain)$arg.params), values(model$arg.params))
  expect_identical(mx.unserialize(model), model)
  expect_true(is.serialized(plain))
  expect_false(is.serialized(model))
  expect_error(mx.serialize(1), class = "mxnet_value_error")
})

test_that("initial parameters need all shapes and known names", {
  p <- mx.model.init.params(net.regression(), list(data = c(3, 4)), NULL, mx.init.uniform(0.1), mx.cpu())
  expect_named(p, c("arg.params", "aux.params"))
  expect_identical(dim(p$arg.params$fc_weight), c(3L, 1L))
  expect_error(mx.model.init.params(net.regression(), NULL, NULL, mx.init.uniform(0.1), mx.cpu()),
               "Not enough information to get shapes", class = "mxnet_shape_error")
})

test_that("models print and summarize", {
  d <- data.plane(40)
  model <- fit(net.classifier(), d$data, d$label, num.round = 2, eval.metric = mx.metric.accuracy)
  expect_output(print(model), "<MXFeedForwardModel> 42 parameters in 4 arrays")
  expect_output(print(model), "inputs: data and softmax_label; outputs: softmax_output")
  expect_output(print(model), "trained to epoch 2, accuracy")
  s <- summary(model)
  expect_identical(s$count, c(16L, 8L, 16L, 2L))
  expect_output(print(s), "total: 42")
  model$arg.params$fc1_weight <- NULL
  expect_output(print(model), "inputs: data and softmax_label; .*\n  without the parameters fc1_weight\n")
})

test_that("training for a while learns", {
  d <- data.plane(400)
  mx.set.seed(1)
  expect_message(
    model <- fit(net.classifier(), d$data, d$label, verbose = TRUE, num.round = 10, array.batch.size = 20,
                 learning.rate = 0.2, momentum = 0.9, initializer = mx.init.Xavier()),
    "Start training with 1 devices")
  test <- data.plane(400, seed = 2)
  expect_gt(mean(max.col(t(predict(model, test$data, array.layout = "colmajor"))) - 1 == test$label), 0.97)
})
