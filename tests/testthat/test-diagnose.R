hints <- function(symbol, X, y, ..., rounds = 1, learning.rate = 0) {
  mx.set.seed(1)
  seen <- messages(mx.model.FeedForward.create(symbol, X, y, array.layout = "colmajor", num.round = rounds,
                                               learning.rate = learning.rate, ...))
  sub("^Hint: ", "", grep("^Hint", seen, value = TRUE))
}
d <- data.plane(40)

test_that("sound training is not commented", {
  expect_identical(hints(net.classifier(), d$data, d$label, rounds = 5, learning.rate = 0.1), character())
})

test_that("unscaled inputs are pointed out, but not the numbers of tokens", {
  expect_match(hints(net.classifier(), d$data * 200, d$label), "^inputs are as large as [0-9]+. .* scale them.$")
  ids <- matrix(sample(0:999, 40), 1)
  net <- mx.symbol.Flatten(mx.symbol.Embedding(mx.symbol.Variable("data"), input_dim = 1000, output_dim = 2,
                                               name = "e"))
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(net, num_hidden = 2), name = "softmax")
  expect_identical(hints(net, ids, d$label), character())
})

test_that("inputs that the network itself scales are not commented", {
  data <- mx.symbol.Variable("data")
  for (scaled in list((data - 1) / 200, mx.symbol.BatchNorm(data)))
    expect_identical(hints(mx.apply(net.classifier(), data = scaled), d$data * 200, d$label), character())
})

test_that("labels that do not fit the output are pointed out", {
  expect_identical(hints(net.classifier(), d$data, d$label + 1),
                   "label 2 does not fit 2 outputs: classes are numbered 0 to 1.")
  expect_match(hints(net.classifier(), d$data, d$label - 0.5), "label -?0.5 does not fit")
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2),
                                 use_ignore = TRUE, ignore_label = -1, name = "softmax")
  expect_identical(hints(net, d$data, d$label - 1), character())
  expect_identical(hints(net.regression(), d$data, d$label + 5), character())
})

test_that("divergence is pointed out once", {
  for (metric in list(NULL, mx.metric.mse))
    expect_match(hints(net.regression(), d$data * 50, d$label, rounds = 40, learning.rate = 100, eval.metric = metric),
                 "^the result is not finite after epoch [0-9]+(, first in layer .*)?: training has div", all = FALSE)
  expect_match(hints(net.regression(), d$data, d$label, rounds = 60, learning.rate = 1e4),
               "epoch [0-9]+, first in layer fc: training")
})

test_that("constant predictions are pointed out", {
  expect_match(hints(net.classifier(), d$data, d$label, rounds = 4, initializer = mx.init.uniform(1e-12)),
               "predicts the same for every example")
})

test_that("hints can be switched off", {
  old <- options(mxnet.hints = FALSE)
  on.exit(options(old))
  expect_identical(hints(net.classifier(), d$data * 200, d$label + 1), character())
  options(old)
  expect_silent(fit(net.classifier(), d$data * 200, d$label, num.round = 1))
})
