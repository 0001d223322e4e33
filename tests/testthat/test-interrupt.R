# A child process works without end; SIGINT comes at random moments. MXNET_TEST_INTERRUPTS says how often.

interrupt.child <- function() {
  set.seed(3)
  x <- matrix(rnorm(20 * 2000), 20)
  y <- as.numeric(x[1, ] * x[2, ] > 0)
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 64)
  net <- mx.symbol.FullyConnected(mx.symbol.Activation(net, act_type = "relu"), num_hidden = 2)
  net <- mx.symbol.SoftmaxOutput(net)
  train <- function(rounds) {
    mx.set.seed(1)
    mx.model.FeedForward.create(net, X = x, y = y, num.round = rounds, learning.rate = 0.2, array.batch.size = 50,
                                array.layout = "colmajor", verbose = FALSE)
  }
  numbers <- function(model) lapply(model$arg.params, as.array)
  model <- train(2)
  before <- numbers(model)
  answer <- predict(model, x, array.layout = "colmajor")
  csv <- tempfile()
  write.table(t(x), csv, sep = ",", row.names = FALSE, col.names = FALSE)
  iter <- mx.io.CSVIter(data.csv = csv, data.shape = 20, batch.size = 100)
  deep <- mx.symbol.Variable("data")
  for (i in 1:20) deep <- mx.symbol.FullyConnected(deep, num_hidden = 600, no_bias = TRUE)
  executor <- mx.simple.bind(deep, mx.cpu(), data = c(600, 600))
  file <- tempfile()
  work <- list(
    forward = function() mx.exec.forward(executor, FALSE),
    train = function() train(1),
    predict = function() predict(model, x, array.layout = "colmajor"),
    load = function() {
      iter$reset()
      while (iter$iter.next()) iter$value()
    },
    arrays = function() as.array(mx.nd.dot(mx.nd.array(x), mx.nd.array(t(x)))),
    files = function() mx.nd.load({mx.nd.save(model$arg.params, file); file})
  )
  say <- function(...) cat(..., "\n", file = out, append = TRUE)
  for (i in seq_len(times)) {
    what <- names(work)[(i - 1) %% length(work) + 1]
    tryCatch({
      say("ready", what)
      repeat work[[what]]()
    }, interrupt = function(c) say("interrupted"))
  }
  say("usable", identical(numbers(train(2)), before) &&
        identical(predict(model, x, array.layout = "colmajor"), answer) && {
          mx.exec.update.arg.arrays(executor, list(data = mx.nd.ones(c(600, 600))), match.name = TRUE)
          all(as.array(executor$ref.arg.arrays$data) == 1)
        })
}

test_that("Ctrl-C at any moment brings the prompt back within a second and leaves all objects usable", {
  skip_on_os("windows")
  skip_on_cran()
  times <- as.integer(Sys.getenv("MXNET_TEST_INTERRUPTS", "12"))
  script <- tempfile(fileext = ".R")
  out <- tempfile()
  writeLines(c(
    sprintf(".libPaths(%s)", paste(deparse(.libPaths()), collapse = "")),
    "suppressMessages(library(mxnet))",
    sprintf("out <- %s; times <- %d", encodeString(out, quote = "'"), times),
    "cat(Sys.getpid(), '\\n', file = out)",
    paste("child <-", paste(deparse(interrupt.child), collapse = "\n")),
    "child()"
  ), script)
  system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(script)), wait = FALSE, stdout = FALSE,
          stderr = FALSE)
  said <- character()
  wait.for <- function(n, seconds) {
    deadline <- Sys.time() + seconds
    while (length(said) < n && Sys.time() < deadline) {
      Sys.sleep(0.02)
      if (file.exists(out)) said <<- trimws(readLines(out))
    }
    length(said) >= n
  }
  expect_true(wait.for(1, 60))
  pid <- as.integer(said[1])
  on.exit(tools::pskill(pid, tools::SIGKILL))
  slowest <- 0
  for (i in seq_len(times)) {
    if (!wait.for(2 * i, 60)) break
    Sys.sleep(runif(1, 0, 0.5))
    start <- Sys.time()
    tools::pskill(pid, tools::SIGINT)
    if (!wait.for(2 * i + 1, 30)) break
    slowest <- max(slowest, as.numeric(Sys.time() - start, units = "secs"))
  }
  expect_true(wait.for(2 * times + 2, 60))
  expect_identical(sum(said == "interrupted"), times)
  expect_identical(said[length(said)], "usable TRUE")
  expect_lt(slowest, 1)
})
