# Small networks and data that several test files use.

# Linear regression on two features.
net.regression <- function(hidden = 1)
  mx.symbol.LinearRegressionOutput(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = hidden,
                                                            name = "fc"),
                                   name = "lro")

# Two dense layers and a softmax.
net.classifier <- function(classes = 2, hidden = 8) {
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = hidden, name = "fc1")
  net <- mx.symbol.Activation(net, act_type = "relu", name = "relu1")
  mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(net, num_hidden = classes, name = "fc2"), name = "softmax")
}

# Points in the plane; the class is the sign of the sum.
data.plane <- function(n = 200, seed = 1) {
  set.seed(seed)
  x <- matrix(rnorm(2 * n), 2)
  list(data = x, label = as.numeric(colSums(x) > 0))
}

values <- function(params) lapply(params, as.array)

# Training as the tests want it: silent, examples in columns.
fit <- function(symbol, X, y = NULL, ..., verbose = FALSE, array.layout = "colmajor")
  mx.model.FeedForward.create(symbol, X = X, y = y, verbose = verbose, array.layout = array.layout, ...)

# A model without training.
model.plain <- function(symbol = net.regression(), ...) {
  params <- mx.model.init.params(symbol, list(...), NULL, mx.init.uniform(0.5), mx.cpu())
  structure(list(symbol = symbol, arg.params = params$arg.params, aux.params = params$aux.params),
            class = "MXFeedForwardModel")
}

messages <- function(expr) {
  seen <- character()
  withCallingHandlers(expr, message = function(m) {
    seen <<- c(seen, sub("\n$", "", conditionMessage(m)))
    invokeRestart("muffleMessage")
  })
  seen
}
