two <- function() list("2" = list(data = matrix(1:6, 2), label = c(0, 1, 0)), "3" = list(data = matrix(c(1, 2, 0, 4, 5,
    6), 3), label = c(1, 0)))
pass <- function(it) {
  out <- list()
  while (it$iter.next()) out[[length(out) + 1]] <- c(list(bucket = names(it$bucketID), id = it$bucketID[[1]],
                                                          pad = it$num.pad()), values(it$value()))
  out
}

test_that("buckets are handed out batch by batch, short ones completed", {
  it <- mx.io.bucket.iter(two(), batch.size = 2)
  expect_error(it$iter.next(), "Call \\$reset", class = "mxnet_state_error")
  it$reset()
  expect_error(it$value(), "Call \\$iter.next", class = "mxnet_state_error")
  got <- pass(it)
  expect_equal(got[[1]], list(bucket = "2", id = 1, pad = 0, data = matrix(1:4 + 0, 2), seq.mask = c(2, 2),
                              label = c(0, 1)))
  expect_equal(got[[2]], list(bucket = "2", id = 2, pad = 1, data = matrix(c(5, 6, 1, 2), 2), seq.mask = c(2, 2),
                              label = c(0, 0)))
  expect_equal(got[[3]], list(bucket = "3", id = 1, pad = 0, data = matrix(c(1, 2, 0, 4, 5, 6), 3), seq.mask = c(2, 3),
                              label = c(1, 0)))
  expect_false(it$iter.next())
  expect_equal(it$batch.per.epoch, 3)
  expect_false(is.mx.dataiter(it))
  it$reset()
  expect_identical(pass(it), got)
})

test_that("a bucket smaller than a batch is repeated", {
  it <- mx.io.bucket.iter(two()["3"], batch.size = 5)
  it$reset()
  expect_equal(pass(it)[[1]]$label, c(1, 0, 1, 0, 1))
  expect_equal(it$num.pad(), 3)
})

test_that("shuffling keeps sequences whole, varies by pass, and leaves R's seed alone", {
  make <- function() mx.io.bucket.iter(list("2" = list(data = rbind(1:20, 1:20), label = 1:20),
                                            "3" = list(data = matrix(1:30, 3), label = 1:10)), batch.size = 5,
                                       shuffle = TRUE, seed = 3)
  set.seed(9)
  u <- runif(1)
  set.seed(9)
  it <- make()
  it$reset()
  a <- pass(it)
  expect_identical(runif(1), u)
  for (b in a) if (b$bucket == "2") expect_equal(b$data, rbind(b$label, b$label))
  labels <- function(x) unlist(lapply(x, `[[`, "label"))
  expect_setequal(labels(Filter(function(b) b$bucket == "2", a)), 1:20)
  it$reset()
  expect_false(identical(pass(it), a))
  other <- make()
  other$reset()
  expect_identical(pass(other), a)
})

test_that("sequences may have features, labels a length", {
  x <- array(1:24, c(2, 3, 4))
  x[, 3, 2] <- 0
  x[1, 2, 3] <- 0
  it <- mx.io.bucket.iter(list("3" = list(data = x, label = matrix(1:12, 3))), batch.size = 4)
  it$reset()
  got <- pass(it)[[1]]
  expect_equal(got$data, x + 0)
  expect_equal(got$seq.mask, c(3, 2, 3, 3))
  expect_equal(got$label, matrix(1:12, 3) + 0)
})

test_that("bad buckets are errors", {
  expect_error(mx.io.bucket.iter(list(1), 2), "named by sequence length", class = "mxnet_value_error")
  expect_error(mx.io.bucket.iter(list("2" = list(data = matrix(1:4, 2))), 2), "Bucket 2 must be list",
               class = "mxnet_value_error")
  expect_error(mx.io.bucket.iter(list("2" = list(data = 1:4, label = 1:4)), 2), "must be a matrix",
               class = "mxnet_value_error")
  expect_error(mx.io.bucket.iter(list("2" = list(data = matrix(1:4, 2), label = 1:3)), 2), "2 sequences and 3 labels",
               class = "mxnet_value_error")
  expect_output(print(mx.io.bucket.iter(two(), 2)), "<BucketIter> 2 buckets \\(2 and 3\\), 3 batches of 2")
})

# ---- training ----

# Is there more 1 than 2 in the sequence? 0 is padding.
counts <- function(n, len, seed) {
  set.seed(seed)
  x <- matrix(sample(1:2, n * len, TRUE), len)
  short <- sample(c(TRUE, FALSE), n, TRUE)
  x[len, short] <- 0
  list(data = x, label = as.numeric(colSums(x == 1) > colSums(x == 2)))
}
net.of <- function(len = NULL) {
  build <- if (is.null(len)) rnn.graph else function(...) rnn.graph.unroll(seq_len = len, ...)
  build(num_rnn_layer = 1, input_size = 3, num_embed = 3, num_hidden = 6, num_decode = 2, config = "seq-to-one",
        cell_type = "lstm", loss_output = "softmax",
        masking = TRUE)
}

test_that("networks of several lengths share what they learn", {
  train <- mx.io.bucket.iter(list("3" = counts(200, 3, 1), "5" = counts(200, 5, 2)), batch.size = 20, shuffle = TRUE)
  test <- mx.io.bucket.iter(list("5" = counts(50, 5, 3), "3" = counts(45, 3, 4)), batch.size = 10)
  for (symbol in list(net.of(), list("5" = net.of(5), "3" = net.of(3)))) {
    mx.set.seed(2)
    log <- mx.metric.logger()
    model <- mx.model.buckets(symbol, train, test, num.round = 25, metric = mx.metric.accuracy,
                              initializer = mx.init.Xavier(), verbose = FALSE,
                              optimizer = mx.opt.create("adam", learning.rate = 0.02, rescale.grad = 1 / 20),
                              epoch.end.callback = mx.callback.log.train.metric(1, log))
    expect_gt(utils::tail(log$eval, 1), 0.9)
    expect_false(any(c("seq.mask", "rnn.state", "data") %in% names(model$arg.params)))
    if (is.list(symbol)) expect_identical(arguments(model$symbol), arguments(symbol[[1]]))
    else expect_gt(mean(max.col(t(mx.infer.rnn(test, model))) - 1 == c(counts(50, 5, 3)$label, counts(45, 3,
        4)$label)), 0.9)
  }
})

test_that("an optimizer may be named, one symbol may train on any iterator, devices share batches", {
  d <- counts(60, 3, 1)
  net <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 3, input_size = 3, num_embed = 3, num_hidden = 4,
                          num_decode = 2, config = "seq-to-one", cell_type = "gru",
                          loss_output = "softmax")
  train <- function(iter, ...) {
    mx.set.seed(2)
    values(mx.model.buckets(net, iter, num.round = 2, verbose = FALSE, ...)$arg.params)
  }
  bucket <- train(mx.io.bucket.iter(list("3" = d), batch.size = 20))
  expect_equal(train(mx.io.arrayiter(d$data, d$label, batch.size = 20)), bucket)
  expect_equal(train(mx.io.bucket.iter(list("3" = d), batch.size = 20), ctx = list(mx.cpu(0), mx.cpu(1))), bucket,
               tolerance = 1e-5)
  expect_equal(train(mx.io.bucket.iter(list("3" = d), batch.size = 20), optimizer = mx.opt.create("sgd",
      rescale.grad = 1 / 20)), bucket, tolerance = 1e-5)
})

test_that("outputs behind the loss have no part in training", {
  x <- matrix(c(1, 2, 0, 2, 1, 1, 0, 2), 2)
  train <- function(last, ...) {
    net <- rnn.graph(num_rnn_layer = 1, input_size = 3, num_embed = 2, num_hidden = 4, num_decode = 3,
                     config = "one-to-one", cell_type = "lstm", loss_output = "softmax", output_last_state = last)
    all <- internals(net)
    state <- all[[match("RNN_state_output", outputs(all), nomatch = 1L)]]
    if (last) net <- mx.symbol.Group(net, state)
    mx.set.seed(1)
    mx.model.buckets(net, mx.io.bucket.iter(list("2" = list(data = x, label = x)), 4), num.round = 3, verbose = FALSE,
                     optimizer = mx.opt.create("sgd", learning.rate = 0.5), initializer = mx.init.Xavier(), ...)
  }
  plain <- train(FALSE)
  expect_equal(values(train(TRUE)$arg.params), values(plain$arg.params), tolerance = 1e-6)
  expect_equal(values(train(TRUE, ctx = list(mx.cpu(0), mx.cpu(1)))$arg.params), values(plain$arg.params),
               tolerance = 1e-5)
})

test_that("given parameters are merged, fixed ones stay out", {
  it <- mx.io.bucket.iter(list("3" = counts(40, 3, 1)), batch.size = 20)
  own <- list(embed.weight = mx.nd.array(matrix(1:9 / 9, 3)))
  model <- mx.model.buckets(net.of(), it, num.round = 0, verbose = FALSE, arg.params = own)
  expect_equal(as.array(model$arg.params$embed.weight), matrix(1:9 / 9, 3), tolerance = 1e-6)
  model <- mx.model.buckets(net.of(), it, num.round = 1, verbose = FALSE, fixed.params = "embed.weight")
  expect_false("embed.weight" %in% names(model$arg.params))
})

test_that("training on buckets says what is wrong", {
  it <- mx.io.bucket.iter(two(), batch.size = 2)
  expect_error(mx.model.buckets(1, it), "must be a symbol or a list of symbols", class = "mxnet_value_error")
  expect_error(mx.model.buckets(list("2" = net.of(2)), mx.io.arrayiter(1:4, 1:4, 2)), "needs a bucket iterator",
               class = "mxnet_value_error")
  expect_error(mx.model.buckets(list("2" = net.of(2)), it, verbose = FALSE), "no symbol for bucket 3",
               class = "mxnet_value_error")
  expect_error(mx.model.buckets(mx.symbol.Variable("x") * 2, it, verbose = FALSE), "takes none of the entries",
               class = "mxnet_value_error")
})

test_that("bucket iterators of users train and predict as the package's own", {
  Wrapped <- setRefClass("WrappedBuckets", contains = "Rcpp_MXArrayDataIter", fields = c("inner", "bucketID"),
    methods = list(
      initialize = function(inner = NULL) {
        .self$inner <- inner
        .self
      },
      reset = function() inner$reset(),
      iter.next = function() {
        more <- inner$iter.next()
        .self$bucketID <- inner$bucketID
        more
      },
      value = function() inner$value(),
      num.pad = function() c(pad = inner$num.pad())))
  set.seed(1)
  bucket <- function(length, n) list(data = matrix(sample(0:3, length * n, TRUE), length), label = rep_len(0:1, n))
  buckets <- list("5" = bucket(5, 7), "3" = bucket(3, 6))
  own <- mx.io.bucket.iter(buckets, batch.size = 4)
  # The first symbol is not that of the first batch.
  nets <- lapply(c("3" = 3, "5" = 5), function(length)
    rnn.graph.unroll(num_rnn_layer = 1, seq_len = length, input_size = 4, num_embed = 2, num_hidden = 3, num_decode = 2,
                     config = "seq-to-one", cell_type = "gru", loss_output = "softmax"))
  train <- function(iter) {
    mx.set.seed(1)
    mx.model.buckets(nets, iter, num.round = 2, verbose = FALSE,
                     optimizer = mx.opt.create("sgd", learning.rate = 0.1))
  }
  model <- train(Wrapped$new(own))
  expect_equal(values(model$arg.params), values(train(own)$arg.params))
  expect_error(train(mx.io.arrayiter(matrix(1, 3, 4), 1:4)), "needs a bucket iterator", class = "mxnet_value_error")
  whole <- rnn.graph(num_rnn_layer = 1, input_size = 4, num_embed = 2, num_hidden = 3, num_decode = 2,
                     config = "seq-to-one", cell_type = "gru", loss_output = "softmax")
  model <- mx.model.buckets(whole, own, verbose = FALSE)
  expect_identical(mx.infer.rnn(Wrapped$new(own), model), mx.infer.rnn(own, model))
})

test_that("classes of users can be derived from bucket iterators", {
  Doubled <- setRefClass("Doubled", contains = "BucketIter", where = globalenv(), methods = list(
    value = function() lapply(callSuper(), function(a) a * 2)))
  own <- mx.io.bucket.iter(list("2" = list(data = matrix(1:8, 2), label = 1:4)), batch.size = 3, shuffle = TRUE)
  derived <- Doubled$new(buckets = own$buckets, arrays = own$arrays, batch.size = 3, data.mask.element = 0,
                         shuffle = TRUE, seed = own$seed)
  expect_error(derived$iter.next(), "Call", class = "mxnet_state_error")
  for (it in list(own, derived)) {
    it$reset()
    it$iter.next()
  }
  expect_equal(as.array(derived$value()$data), as.array(own$value()$data) * 2)
  expect_output(print(derived), "1 buckets (2), 2 batches of 3", fixed = TRUE)
})
