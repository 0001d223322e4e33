# The demonstrations that tools/demo runs: each trains, saves, loads, predicts, and draws the learning curves.
library(mxnet)

# Shows a progress bar within each epoch, then one line with both accuracies; keeps them for the plot.
progress <- function(epochs, samples, batch) {
  batches <- ceiling(samples / batch)
  started <- proc.time()[["elapsed"]]
  bar <- NULL
  curve <- data.frame(epoch = integer(), train = numeric(), held.out = numeric())
  list(
    batch.end = function(iteration, nbatch, env, verbose) {
      if (is.null(bar)) bar <<- utils::txtProgressBar(max = batches, style = 3, width = 50)
      utils::setTxtProgressBar(bar, nbatch)
      TRUE
    },
    epoch.end = function(iteration, nbatch, env, verbose) {
      close(bar)
      bar <<- NULL
      value <- function(state) env$metric$get(state)$value
      curve[nrow(curve) + 1L, ] <<- list(iteration, value(env$train.metric), value(env$eval.metric))
      now <- curve[nrow(curve), ]
      cat(sprintf(
        "epoch %2d of %d: accuracy %.4f on the training data, %.4f held out (%.1f s)\n",
        iteration, epochs, now$train, now$held.out, proc.time()[["elapsed"]] - started
      ))
      TRUE
    },
    curve = function() curve
  )
}

draw <- function(curve, title, file) {
  grDevices::png(file, 900, 600, res = 120)
  matplot(curve$epoch, curve[, c("train", "held.out")],
    type = "b", pch = 19, lty = 1, col = c("grey50", "firebrick"),
    xlab = "epoch", ylab = "accuracy", main = title, las = 1
  )
  grid()
  legend("bottomright", c("training data", "held out"), col = c("grey50", "firebrick"), pch = 19, lty = 1, bty = "n")
  invisible(grDevices::dev.off())
}

# `train` and `test` are lists of data (samples along the last dimension) and label (from 0).
run <- function(name, title, net, train, test, epochs, batch, ...) {
  cat("\n", title, "\n", sep = "")
  bar <- progress(epochs, length(train$label), batch)
  mx.set.seed(0)
  model <- mx.model.FeedForward.create(
    net,
    X = train$data, y = train$label, eval.data = test, ctx = mx.cpu(), num.round = epochs,
    array.batch.size = batch, array.layout = "colmajor", momentum = 0.9, eval.metric = mx.metric.accuracy,
    batch.end.callback = bar$batch.end, epoch.end.callback = bar$epoch.end, verbose = FALSE, ...
  )
  prefix <- file.path("build", "demo", name)
  mx.model.save(model, prefix, epochs)
  again <- mx.model.load(prefix, epochs)
  probability <- predict(again, test$data, array.layout = "colmajor")
  label <- max.col(t(probability), ties.method = "first") - 1
  draw(bar$curve(), title, paste0(prefix, ".png"))
  cat(sprintf(
    "The model was saved as %s-*, loaded again, and is right about %.2f %% of %d samples held out.\n",
    prefix, 100 * mean(label == test$label), length(label)
  ))
  cat(sprintf("The learning curves are in %s.png.\n", prefix))
  invisible(label)
}

mlp <- function(hidden, activation, out) {
  net <- mx.symbol.Variable("data")
  for (i in seq_along(hidden)) {
    net <- mx.symbol.FullyConnected(data = net, name = paste0("fc", i), num_hidden = hidden[i])
    net <- mx.symbol.Activation(data = net, name = paste0(activation[i], i), act_type = activation[i])
  }
  net <- mx.symbol.FullyConnected(data = net, name = paste0("fc", length(hidden) + 1), num_hidden = out)
  mx.symbol.Softmax(data = net, name = "out")
}

letters.demo <- function() {
  data("LetterRecognition", package = "mlbench", envir = environment())
  x <- data.matrix(LetterRecognition[, -1]) # 16 measurements of a letter, each from 0 to 15
  y <- as.integer(LetterRecognition$lettr) - 1L
  held.out <- seq(5, length(y), by = 5)
  # Scaled by what the training data say; samples become columns.
  x <- t(scale(x, colMeans(x[-held.out, ]), apply(x[-held.out, ], 2, stats::sd)))
  test <- list(data = x[, held.out], label = y[held.out])
  train <- list(data = x[, -held.out], label = y[-held.out])
  label <- run("letters", "20,000 printed letters, 16-128-64-26", mlp(c(128, 64), c("relu", "tanh"), 26), train, test,
    epochs = 20, batch = 32, learning.rate = 0.03, initializer = mx.init.Xavier()
  )
  wrong <- label != test$label
  pairs <- sort(table(paste(LETTERS[test$label[wrong] + 1], "taken for", LETTERS[label[wrong] + 1])), decreasing = TRUE)
  cat("Most frequent mistakes: ", paste(names(pairs)[1:3], collapse = ", "), ".\n", sep = "")
}

read.idx <- function(dir, name) {
  file <- file.path(dir, paste0(name, c("", ".gz")))
  file <- file[file.exists(file)]
  if (!length(file)) stop("There is no ", name, " (or ", name, ".gz) in ", dir, ".", call. = FALSE)
  con <- gzfile(file[1], "rb")
  on.exit(close(con))
  magic <- readBin(con, "integer", 1, endian = "big")
  if (!magic %in% c(2049L, 2051L)) stop(file[1], " is not an idx file of bytes.", call. = FALSE)
  dims <- readBin(con, "integer", magic %% 256L, endian = "big")
  values <- readBin(con, "integer", prod(dims), size = 1, signed = FALSE)
  if (length(values) != prod(dims)) stop(file[1], " is too short.", call. = FALSE)
  array(values, rev(dims))
}

lenet <- function() {
  net <- mx.symbol.Variable("data")
  for (filters in c(20, 50)) {
    net <- mx.symbol.Convolution(data = net, kernel = c(5, 5), num_filter = filters)
    net <- mx.symbol.Activation(data = net, act_type = "tanh")
    net <- mx.symbol.Pooling(data = net, pool_type = "max", kernel = c(2, 2), stride = c(2, 2))
  }
  net <- mx.symbol.FullyConnected(data = mx.symbol.Flatten(data = net), num_hidden = 500)
  net <- mx.symbol.Activation(data = net, act_type = "tanh")
  mx.symbol.Softmax(data = mx.symbol.FullyConnected(data = net, num_hidden = 10), name = "out")
}

mnist.demo <- function(dir) {
  part <- function(prefix) {
    list(
      data = read.idx(dir, paste0(prefix, "-images-idx3-ubyte")) / 255,
      label = as.vector(read.idx(dir, paste0(prefix, "-labels-idx1-ubyte")))
    )
  }
  shaped <- function(set, dims) list(data = array(set$data, c(dims, length(set$label))), label = set$label)
  train <- part("train")
  test <- part("t10k")
  net <- mlp(c(128, 64), c("relu", "relu"), 10)
  run("mnist-mlp", "MNIST, MLP 784-128-64-10", net, shaped(train, 784), shaped(test, 784),
    epochs = 10, batch = 100, learning.rate = 0.1, initializer = mx.init.Xavier(),
    lr_scheduler = mx.lr_scheduler.FactorScheduler(step = 1800, factor_val = 0.3, verbose = FALSE) # each 3 epochs
  )
  run("mnist-lenet", "MNIST, LeNet", lenet(), shaped(train, c(28, 28, 1)), shaped(test, c(28, 28, 1)),
    epochs = 5, batch = 100, learning.rate = 0.05, initializer = mx.init.Xavier()
  )
}

arguments <- commandArgs(TRUE)
if (length(arguments)) mnist.demo(arguments[2]) else letters.demo()
