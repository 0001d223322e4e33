# A classifier of ten kinds of noisy pictures, trained on two devices, saved, and trained on.
library(mxnet)

set.seed(1)
pattern <- matrix(rbinom(100 * 10, 1, 0.5), 100)
draw <- function(n) {
  label <- sample(0:9, n, TRUE)
  list(data = pattern[, label + 1] + matrix(rnorm(100 * n, 0, 1.5), 100), label = label)
}
train <- draw(3000)
test <- draw(1000)

net <- mx.symbol.Variable("data")
for (hidden in c(64, 32)) {
  net <- mx.symbol.FullyConnected(net, num_hidden = hidden, name = paste0("fc", hidden))
  net <- mx.symbol.Activation(net, act_type = "relu", name = paste0("relu", hidden))
}
net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(net, num_hidden = 10, name = "fc"), name = "softmax")

prefix <- file.path(tempdir(), "demo")
devices <- list(mx.cpu(0), mx.cpu(1))
mx.set.seed(1)
first <- mx.model.FeedForward.create(net, X = train$data, y = train$label, ctx = devices, array.layout = "colmajor",
                                     eval.data = test, eval.metric = mx.metric.accuracy, num.round = 3,
                                     array.batch.size = 100, learning.rate = 0.1, momentum = 0.9,
                                     initializer = mx.init.Xavier(),
                                     epoch.end.callback = mx.callback.save.checkpoint(prefix))

# Training goes on from the files.
saved <- mx.model.load(prefix, 3)
model <- mx.model.FeedForward.create(saved$symbol, X = train$data, y = train$label, ctx = devices,
                                     array.layout = "colmajor", eval.data = test, eval.metric = mx.metric.accuracy,
                                     arg.params = saved$arg.params, aux.params = saved$aux.params, begin.round = 4,
                                     num.round = 6, array.batch.size = 100, learning.rate = 0.02)

# An iterator and its arrays give the same predictions.
iterator <- mx.io.arrayiter(test$data, test$label, batch.size = 128)
by.iterator <- predict(model, iterator)
by.array <- predict(model, mx.io.extract(iterator, "data"), array.layout = "colmajor")
stopifnot(all.equal(by.iterator, by.array, tolerance = 1e-5))

found <- max.col(t(by.array), ties.method = "first") - 1
table(truth = test$label, found)
mean(found == test$label)
stopifnot(mean(found == test$label) > 0.8)
