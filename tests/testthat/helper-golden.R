# The recorded runs in tests/golden: a small JSON reader and the tensors of a case.

# They are in the source tree, not in the built package: there MXNET_GOLDEN says where they are.
golden.path <- function(...) {
  root <- Sys.getenv("MXNET_GOLDEN", file.path(test_path(".."), "golden"))
  skip_if_not(dir.exists(root), "recorded answers are not at hand")
  file.path(normalizePath(root), ...)
}

json.read <- function(path) {
  text <- paste(readLines(path, encoding = "UTF-8", warn = FALSE), collapse = "\n")
  pattern <- "\"(\\\\.|[^\"\\\\])*\"|-?[0-9][-+.eE0-9]*|true|false|null|NaN|-?Infinity|[][{}:,]"
  tokens <- regmatches(text, gregexpr(pattern, text, perl = TRUE))[[1]]
  at <- 0L
  take <- function() tokens[at <<- at + 1L]
  value <- function() {
    t <- take()
    if (t == "{") {
      out <- list()
      while (tokens[at + 1L] != "}") {
        if (tokens[at + 1L] == ",") take()
        key <- value()
        take() # :
        out[key] <- list(value())
      }
      take()
      return(out)
    }
    if (t == "[") {
      out <- list()
      while (tokens[at + 1L] != "]") {
        if (tokens[at + 1L] == ",") take()
        out[length(out) + 1L] <- list(value())
      }
      take()
      return(out)
    }
    if (startsWith(t, "\"")) return(gsub("\\\\(.)", "\\1", substr(t, 2L, nchar(t) - 1L)))
    switch(t, true = TRUE, false = FALSE, null = NULL, Infinity = Inf, "-Infinity" = -Inf, as.numeric(t))
  }
  value()
}

# Float tensors of a case by role: lists of R arrays named by tensor.
golden.tensors <- function(case, bin) {
  con <- file(bin, "rb")
  on.exit(close(con))
  out <- list()
  for (t in case$tensors) {
    d <- rev(unlist(t$shape))
    seek(con, t$offset)
    stopifnot(t$dtype %in% c("float32", "float64"))
    x <- readBin(con, "numeric", prod(d), size = if (t$dtype == "float32") 4L else 8L, endian = "little")
    out[[t$role]][[t$name]] <- if (length(d) > 1L) array(x, d) else x
  }
  out
}
