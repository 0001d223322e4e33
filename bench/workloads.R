# The work that is measured, in this package; peer_torch.py and peer_mxnet.py do the same. One line a figure:
# workload, value, unit. Higher is better for rates (x/s), lower for times.
#   Rscript bench/workloads.R [--save-graphs DIR | WORKLOAD ...]
suppressMessages(library(mxnet))
ctx <- mx.cpu()

# Seconds of one call: the least of several repetitions, each long enough to be timed.
seconds <- function(f, repetitions = 5, at.least = 0.3) {
  f()
  once <- function() {
    calls <- 0
    start <- proc.time()[["elapsed"]]
    repeat {
      f()
      calls <- calls + 1
      passed <- proc.time()[["elapsed"]] - start
      if (passed >= at.least) return(passed / calls)
    }
  }
  min(replicate(repetitions, once()))
}

perceptron <- function() {
  x <- mx.symbol.Variable("data")
  for (n in c(128, 64)) {
    x <- mx.symbol.Activation(mx.symbol.FullyConnected(x, num_hidden = n), act_type = "relu")
  }
  mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(x, num_hidden = 10), name = "out")
}
lenet <- function() {
  x <- mx.symbol.Variable("data")
  for (n in c(20, 50)) {
    x <- mx.symbol.Activation(mx.symbol.Convolution(x, kernel = c(5, 5), num_filter = n), act_type = "tanh")
    x <- mx.symbol.Pooling(x, kernel = c(2, 2), stride = c(2, 2), pool_type = "max")
  }
  x <- mx.symbol.Activation(mx.symbol.FullyConnected(mx.symbol.Flatten(x), num_hidden = 500), act_type = "tanh")
  mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(x, num_hidden = 10), name = "out")
}
# ResNet-18 for 32x32 images: four stages of two residual units.
resnet18 <- function() {
  normalized <- function(x, filters, kernel, stride) {
    x <- mx.symbol.Convolution(x,
      num_filter = filters, kernel = c(kernel, kernel), stride = c(stride, stride),
      pad = c(kernel %/% 2, kernel %/% 2), no_bias = TRUE
    )
    mx.symbol.BatchNorm(x, fix_gamma = FALSE, eps = 1e-5)
  }
  relu <- function(x) mx.symbol.Activation(x, act_type = "relu")
  x <- relu(normalized(mx.symbol.Variable("data"), 64, 3, 1))
  for (stage in 1:4) {
    for (unit in 1:2) {
      stride <- if (unit == 1 && stage > 1) 2 else 1
      filters <- 32 * 2^stage
      branch <- normalized(relu(normalized(x, filters, 3, stride)), filters, 3, 1)
      x <- relu(branch + if (stride == 2) normalized(x, filters, 1, 2) else x)
    }
  }
  x <- mx.symbol.Flatten(mx.symbol.Pooling(x, global_pool = TRUE, kernel = c(4, 4), pool_type = "avg"))
  mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(x, num_hidden = 10), name = "out")
}
graphs <- list(perceptron = perceptron, lenet = lenet, resnet18 = resnet18)

epoch.rate <- function(net, x, y, batch) {
  marks <- numeric()
  mx.set.seed(1)
  mx.model.FeedForward.create(
    net,
    X = x, y = y, ctx = ctx, num.round = 4, array.batch.size = batch, array.layout = "colmajor",
    learning.rate = 0.05, momentum = 0.9, eval.metric = mx.metric.accuracy, initializer = mx.init.uniform(0.07),
    verbose = FALSE, epoch.end.callback = function(...) {
      marks <<- c(marks, proc.time()[["elapsed"]])
      TRUE
    }
  )
  length(y) / min(diff(marks))
}
bound <- function(net, shape, grad.req) {
  ex <- mx.simple.bind(net, ctx = ctx, data = shape, grad.req = grad.req)
  start <- function(arrays) {
    values <- lapply(names(arrays), function(n) {
      d <- dim(arrays[[n]])
      if (grepl("gamma|var", n)) mx.nd.ones(d)
      else if (grepl("bias|beta|mean|label", n)) mx.nd.zeros(d)
      else mx.runif(d, if (n == "data") 0 else -0.05, if (n == "data") 1 else 0.05)
    })
    stats::setNames(values, names(arrays))
  }
  mx.exec.update.arg.arrays(ex, start(ex$ref.arg.arrays), match.name = TRUE)
  mx.exec.update.aux.arrays(ex, start(ex$ref.aux.arrays), match.name = TRUE)
  ex
}

set.seed(1)
workloads <- list(
  mlp_train = function() {
    x <- matrix(stats::runif(784 * 60000), 784)
    c(epoch.rate(perceptron(), x, sample(0:9, 60000, TRUE), 100), "samples/s")
  },
  lenet_train = function() {
    x <- array(stats::runif(784 * 6400), c(28, 28, 1, 6400))
    c(epoch.rate(lenet(), x, sample(0:9, 6400, TRUE), 128), "samples/s")
  },
  resnet18_train = function() {
    ex <- bound(resnet18(), c(32, 32, 3, 32), "write")
    step <- function() {
      mx.exec.forward(ex, is.train = TRUE)
      mx.exec.backward(ex)
    }
    c(32 / seconds(step, 3), "samples/s")
  },
  nd_dispatch = function() {
    a <- mx.nd.ones(10)
    b <- mx.nd.ones(10)
    c(1e3 * seconds(function() for (i in 1:1000) a + b), "us/op")
  },
  exec_dispatch = function() {
    ex <- bound(perceptron(), c(784, 1), "null")
    c(1e6 * seconds(function() mx.exec.forward(ex, is.train = FALSE)), "us/forward")
  },
  sgemm = function() {
    a <- mx.runif(c(2048, 2048))
    c(2 * 2048^3 / seconds(function() mx.nd.dot(a, a)) / 1e9, "GFLOP/s")
  },
  softmax = function() {
    a <- mx.runif(c(1000, 4096))
    c(1000 * 4096 * 8 / seconds(function() mx.nd.softmax(a)) / 1e9, "GB/s")
  },
  load = function() {
    r <- file.path(R.home("bin"), "Rscript")
    time <- function(code) seconds(function() system2(r, c("-e", shQuote(code))), 3)
    c(time("suppressMessages(library(mxnet))") - time("invisible()"), "s")
  }
)

arguments <- commandArgs(TRUE)
if (length(arguments) && arguments[1] == "--save-graphs") {
  for (n in names(graphs)) mx.symbol.save(graphs[[n]](), file.path(arguments[2], paste0(n, ".json")))
} else {
  for (w in if (length(arguments)) arguments else names(workloads)) cat(w, workloads[[w]](), "\n")
}
