test_that("Ctrl-C stops a long forward soon and leaves the executor usable", {
  skip_on_os("windows")
  script <- tempfile(fileext = ".R")
  out <- tempfile()
  writeLines(c(
    sprintf(".libPaths(%s)", paste(deparse(.libPaths()), collapse = "")),
    "suppressMessages(library(mxnet))",
    "net <- mx.symbol.Variable('data')",
    "for (i in 1:150) net <- mx.symbol.FullyConnected(net, num_hidden = 1500, no_bias = TRUE)",
    "e <- mx.simple.bind(net, mx.cpu(), data = c(1500, 1500))",
    "mx.exec.forward(mx.simple.bind(mx.symbol.Variable('x') * 2, mx.cpu(), x = 2), FALSE)",
    sprintf("cat(Sys.getpid(), '\\n', file = %s)", encodeString(out, quote = "'")),
    "took <- NA",
    "start <- Sys.time()",
    "r <- tryCatch(repeat mx.exec.forward(e, FALSE), interrupt = function(c) 'interrupted')",
    "took <- as.numeric(Sys.time() - start, units = 'secs')",
    "mx.exec.update.arg.arrays(e, list(data = mx.nd.ones(c(1500, 1500))), match.name = TRUE)",
    "ok <- identical(as.array(e$ref.arg.arrays$data)[1], 1)",
    sprintf("cat(r, ok, took, '\\n', file = %s, append = TRUE)", encodeString(out, quote = "'"))
  ), script)
  system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(script)), wait = FALSE, stdout = FALSE,
    stderr = FALSE)
  wait.for <- function(n) {
    for (i in 1:600) {
      if (file.exists(out) && length(readLines(out)) >= n) break
      Sys.sleep(0.1)
    }
    readLines(out)
  }
  pid <- as.integer(wait.for(1)[1])
  Sys.sleep(1)
  tools::pskill(pid, tools::SIGINT)
  words <- strsplit(wait.for(2)[2], " ")[[1]]
  expect_equal(words[1:2], c("interrupted", "TRUE"))
  expect_lt(as.numeric(words[3]), 6)
})
