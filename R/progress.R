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
                               if (!is.null(metric)) metric$get(state), cli::console_width())
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

# The line. What a narrow terminal has no room for goes, the least wanted first.
mx.progress.text <- function(iteration, first, last, nbatch, batches, examples, seconds, result, width = Inf) {
  speed <- examples / seconds
  parts <- c(
    epoch = sprintf("epoch %g/%g", iteration, last),
    batch = if (is.na(batches)) sprintf("batch %g", nbatch) else sprintf("batch %g/%g", nbatch, batches),
    speed = paste(mx.util.thousands(signif(speed, 3)), "examples/s"),
    metric = if (!is.null(result)) paste(result$name, format(result$value, digits = 4)))
  if (!is.na(batches)) {
    done <- (iteration - first) * batches + nbatch
    left <- seconds / done * ((last - first + 1) * batches - done)
    parts <- c(parts, left = paste("ETA", mx.progress.time(left)))
  }
  line <- function() paste(parts, collapse = " | ")
  for (spare in c("speed", "batch", "left")) if (nchar(line()) >= width) parts <- parts[names(parts) != spare]
  line()
}

# Seconds as 45s, 2m 05s or 1h 10m.
mx.progress.time <- function(seconds) {
  s <- round(seconds)
  if (s < 60) sprintf("%ds", s)
  else if (s < 3600) sprintf("%dm %02ds", s %/% 60, s %% 60)
  else sprintf("%dh %02dm", s %/% 3600, s %% 3600 %/% 60)
}
