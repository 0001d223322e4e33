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

test_that("the call is that of the operator, not of what it is made of", {
  e <- tryCatch(mx.symbol.Activation(mx.symbol.Variable("x"), act_type = "rel"), error = identity)
  expect_identical(e$call[[1]], quote(mx.symbol.Activation))
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

test_that("what R code checks names the argument", {
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc"))
  buckets <- list("3" = list(data = matrix(1:6, 3), label = 0:1))
  it <- mx.io.arrayiter(matrix(1:6, 3), 0:1, batch.size = 2)
  x <- matrix(1:6, 3)
  rnn <- function(...) {
    args <- list(num_rnn_layer = 1, seq_len = 2, num_hidden = 2, num_decode = 2, config = "one-to-one")
    do.call(rnn.graph.unroll, utils::modifyList(args, list(...)))
  }
  fit <- function(...) mx.model.FeedForward.create(net, x, 0:1, array.layout = "colmajor", verbose = FALSE, ...)
  calls <- alist(
    maximize = mx.callback.early.stop(maximize = NULL), bad.steps = mx.callback.early.stop(bad.steps = "2"),
    eval.metric = mx.callback.early.stop(eval.metric = NA), prefix = mx.callback.save.checkpoint(NULL),
    logger = mx.callback.log.train.metric(1, list()), infer.data = mx.infer.rnn.one(x, net, NULL, NULL),
    initializer = mx.init.create("uniform", list(fc_weight = 2)), skip.unknown = mx.init.create(mean, NULL,
      skip.unknown = NA), scale = mx.init.uniform("a"), sd = mx.init.normal(-1), magnitude = mx.init.Xavier(,, NULL),
    factor_type = mx.init.Xavier(, NULL), seed = mx.io.bucket.iter(buckets, 2, seed = "a"),
    data.mask.element = mx.io.bucket.iter(buckets, 2, NULL), iter = mx.io.extract(x, "data"),
    field = mx.io.extract(it, NULL), stop_factor_lr = mx.lr_scheduler.FactorScheduler(1, 0.5, NULL),
    hidden_node = mx.mlp(x, 0:1, mean, 2), activation = mx.mlp(x, 0:1, 2, 2, activation = mean),
    dropout = mx.mlp(x, 0:1, 2, 2, dropout = "a"), train.data = mx.model.buckets(net, x),
    eval.data = mx.model.buckets(net, it, x), arg.params = mx.model.buckets(net, it, arg.params = mean),
    fixed.params = mx.model.buckets(net, it, fixed.params = 1), input.names = fit(input.names = mean),
    output.names = fit(output.names = 1), fixed.param = fit(fixed.param = 2), metric_cpu = fit(metric_cpu = NA),
    allow.extra.params = fit(allow.extra.params = "a"), initializer = fit(initializer = 1),
    epoch.end.callback = fit(epoch.end.callback = 1), batch.end.callback = fit(batch.end.callback = 1),
    verbose = mx.model.FeedForward.create(net, x, 0:1, verbose = NULL), prefix = mx.model.load(NULL, 1),
    filename = mx.nd.load(1), filename = mx.nd.save(mx.nd.ones(1), NA), file.name = mx.symbol.load(""),
    filename = mx.symbol.save(net, c("a", "b")), path = mxnet.export(1), weights = mx.opt.get.updater(
      mx.opt.create("sgd"), mean, mx.cpu()), grad.req = mx.simple.bind(net, mx.cpu(), mean, data = c(3, 2)),
    fixed.param = mx.simple.bind(net, mx.cpu(), fixed.param = 1, data = c(3, 2)),
    ignore_label = rnn(ignore_label = mean),
    masking = rnn(masking = NA), num_rnn_layer = rnn(num_rnn_layer = NA), num_hidden = rnn(num_hidden = "a"),
    prefix = rnn(prefix = 1), init.state = rnn(init.state = list(1, "a")), graph.width.px = graph.viz(net,
      graph.width.px = "wide")
  )
  for (i in seq_along(calls))
    expect_error(eval(calls[[i]]), paste0("`", names(calls)[i], "`"), fixed = TRUE, class = "mxnet_value_error",
                 info = deparse(calls[[i]])[1])
})
