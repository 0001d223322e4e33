# What the tests of the R layer share.

nd <- function(...) mx.nd.array(...)

# An executor with values: bound(x * y, list(x = 1:2, y = 3:4)).
bound <- function(symbol, values, grad.req = "null") {
  shapes <- lapply(values, function(v) if (is.null(dim(v))) length(v) else dim(v))
  e <- do.call(mx.simple.bind, c(list(symbol, mx.cpu(), grad.req), shapes))
  mx.exec.update.arg.arrays(e, lapply(values, nd), match.name = TRUE)
  e
}

# The value of a symbol for arguments given as R arrays.
value.of <- function(symbol, values, is.train = FALSE) {
  e <- bound(symbol, values)
  mx.exec.forward(e, is.train)
  as.array(e$ref.outputs[[1]])
}

# Runs code in a fresh R process that has the package attached; its value.
in.fresh.session <- function(code, ...) {
  script <- tempfile(fileext = ".R")
  result <- tempfile(fileext = ".rds")
  libs <- paste(deparse(.libPaths()), collapse = "")
  writeLines(c(
    sprintf(".libPaths(%s)", libs), "suppressMessages(library(mxnet))", "value <- {", code, "}",
    sprintf("saveRDS(value, %s)", encodeString(result, quote = "\""))
  ), script)
  status <- system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(script)), stdout = FALSE,
    stderr = FALSE, ...)
  if (status != 0) stop("The fresh session ended with status ", status, ".")
  readRDS(result)
}
