# One line that follows training in an interactive terminal. Elsewhere there is nothing but the log lines.

mx.progress.enabled <- function()
  isTRUE(getOption("mxnet.progress", interactive())) && requireNamespace("cli", quietly = TRUE) &&
    cli::is_dynamic_tty(stderr())

# Functions batch(), epoch() and close() of one training run. The line is drawn ten times a second at most.
mx.progress.new <- function(verbose, first, last) {
  quiet <- function(...) invisible()
  if (!verbose || !mx.progress.enabled()) return(list(batch = quiet, epoch = quiet, close = quiet))
  started <- drawn <- as.numeric(Sys.time())
  examples <- 0
  batches <- NA # in an epoch; known after the first
  bar <- NULL
  clear <- function() {
    if (!is.null(bar)) cli::cli_progress_done(id = bar)
    bar <<- NULL
  }
  list(
    batch = function(iteration, nbatch, group, metric, state) {
      examples <<- examples + utils::tail(group$shapes[[1L]], 1L)
      now <- as.numeric(Sys.time())
      if (now - drawn < 0.1) return(invisible())
      drawn <<- now
      text <- mx.progress.text(iteration, first, last, nbatch, batches, examples, now - started,
                               if (!is.null(metric)) metric$get(state))
      if (is.null(bar))
        bar <<- cli::cli_progress_bar(format = "{cli::pb_extra$text}", format_done = "", clear = TRUE,
                                      extra = list(text = text),
                                      .auto_close = FALSE)
      cli::cli_progress_update(id = bar, extra = list(text = text), force = TRUE)
    },
    epoch = function(nbatch) {
      batches <<- nbatch
      clear()
    },
    close = clear)
}

mx.progress.text <- function(iteration, first, last, nbatch, batches, examples, seconds, result) {
  speed <- examples / seconds
  parts <- c(
    sprintf("epoch %g/%g", iteration, last),
    if (is.na(batches)) sprintf("batch %g", nbatch) else sprintf("batch %g/%g", nbatch, batches),
    paste(format(signif(speed, 3), big.mark = ",", scientific = FALSE, trim = TRUE), "examples/s"),
    if (!is.null(result)) paste(result$name, format(result$value, digits = 4)))
  if (!is.na(batches)) {
    done <- (iteration - first) * batches + nbatch
    left <- seconds / done * ((last - first + 1) * batches - done)
    parts <- c(parts, paste("ETA", mx.progress.time(left)))
  }
  paste(parts, collapse = " | ")
}

# Seconds as 45s, 2m 05s or 1h 10m.
mx.progress.time <- function(seconds) {
  s <- round(seconds)
  if (s < 60) sprintf("%ds", s)
  else if (s < 3600) sprintf("%dm %02ds", s %/% 60, s %% 60)
  else sprintf("%dh %02dm", s %/% 3600, s %% 3600 %/% 60)
}
