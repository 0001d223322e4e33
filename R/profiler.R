#' Profiler
#'
#' Records when each operator ran and for how long, writes the record as a trace that `chrome://tracing` and
#' <https://ui.perfetto.dev> show, and summarises it as a table.
#'
#' @param params A named list: `filename` of the trace (default `"profile.json"`), `profile_symbolic` and
#'   `profile_imperative` (whether executors and operators on arrays are recorded, both `TRUE`). `profile_all`,
#'   `profile_memory`, `profile_api`, `profile_process`, `continuous_dump`, `dump_period` and `aggregate_stats` are
#'   accepted and change nothing else.
#' @param state `MX.PROF.STATE$RUN` starts a recording, `MX.PROF.STATE$STOP` ends it and writes the file.
#' @return `mx.profiler.config`: `NULL`, invisibly. `mx.profiler.state`: on stop, invisibly, a data frame with one row
#' an
#'   operator and pass: `operator`, `pass`, `calls`, `total.ms`, `mean.ms`, `share`.
#' @examples
#' mx.profiler.config(list(filename = tempfile(fileext = ".json")))
#' mx.profiler.state(MX.PROF.STATE$RUN)
#' x <- mx.nd.ones(c(100, 100))
#' for (i in 1:3) x <- x * 2 + 1
#' print(mx.profiler.state(MX.PROF.STATE$STOP))
#' @export
mx.profiler.config <- function(params) {
  known <- c(
    "filename", "profile_symbolic", "profile_imperative", "profile_all", "profile_memory", "profile_api",
    "profile_process", "continuous_dump", "dump_period", "aggregate_stats"
  )
  if (!is.list(params) || length(params) == 0L || is.null(names(params)) || !all(nzchar(names(params))))
    mx.stop("value", "`params` must be a named list.", argument = "params")
  names(params) <- gsub(".", "_", names(params), fixed = TRUE)
  if (!is.null(params$filename)) params$filename <- mx.util.path(params$filename, "filename")
  unknown <- setdiff(names(params), known)
  if (length(unknown))
    mx.stop("value", "The profiler has no parameter '", unknown[1L], "'. Known: ", paste(known, collapse = ", "), ".",
      argument = unknown[1L])
  .mx$profiler <- utils::modifyList(as.list(.mx$profiler), params)
  invisible()
}

#' @rdname mx.profiler.config
#' @export
mx.profiler.state <- function(state = MX.PROF.STATE$STOP) {
  if (!is.numeric(state) || length(state) != 1L || !state %in% 0:1)
    mx.stop("value", "`state` must be MX.PROF.STATE$RUN or MX.PROF.STATE$STOP.", argument = "state")
  flag <- function(x) is.null(x) || isTRUE(as.logical(x))
  config <- .mx$profiler
  if (state == 1) {
    .mx$profiling <- TRUE
    .Call(ffi_profiler_start, flag(config$profile_symbolic), flag(config$profile_imperative))
    return(invisible())
  }
  if (!isTRUE(.mx$profiling)) return(invisible())
  .mx$profiling <- FALSE
  events <- as.data.frame(.Call(ffi_profiler_stop), stringsAsFactors = FALSE)
  profiler.write(events, if (is.null(config$filename)) "profile.json" else config$filename)
  invisible(profiler.table(events))
}

#' @rdname mx.profiler.config
#' @export
MX.PROF.STATE <- list(STOP = 0L, RUN = 1L)

# Trace events: complete events ("X") with times in microseconds.
profiler.write <- function(events, path) {
  quoted <- function(x) paste0('"', gsub('(["\\\\])', "\\\\\\1", x), '"')
  start <- if (nrow(events)) min(events$start) else 0
  name <- ifelse(nzchar(events$node), events$node, events$operator)
  lines <- sprintf(
    '{"name": %s, "cat": %s, "ph": "X", "ts": %.3f, "dur": %.3f, "pid": 0, "tid": 0, "args": {"operator": %s}}',
    quoted(name), quoted(events$pass), (events$start - start) * 1e6, events$seconds * 1e6, quoted(events$operator)
  )
  write.text(paste0("{\"traceEvents\": [\n", paste(lines, collapse = ",\n"), "\n], \"displayTimeUnit\": \"ms\"}\n"),
    path)
}

profiler.table <- function(events) {
  kind <- unique(events[c("operator", "pass")])
  which <- match(paste(events$operator, events$pass), paste(kind$operator, kind$pass))
  calls <- tabulate(which, nrow(kind))
  total <- vapply(seq_len(nrow(kind)), function(i) sum(events$seconds[which == i]), 0)
  table <- data.frame(kind, calls = calls, total.ms = total * 1e3, mean.ms = total / calls * 1e3,
    share = total / sum(total))
  table <- table[order(-table$total.ms), ]
  rownames(table) <- NULL
  table
}
