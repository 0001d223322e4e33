# Callbacks that training calls after a batch or after an epoch.

#' Callbacks
#'
#' A callback is a `function(iteration, nbatch, env, verbose)`. Training calls `batch.end.callback` after every batch
#' (without `verbose`) and `epoch.end.callback` after every epoch (with `nbatch = 0`); an epoch callback that returns
#' `FALSE` ends the training. `env` is the environment of the training loop. It has `env$model` (the model so far, made
#' when it is read), `env$metric` with the states `env$train.metric` and `env$eval.metric`
#' (`env$metric$get(env$train.metric)` gives name and value), `env$train.execs`, `env$optimizer` and `env$symbol`.
#'
#' * `mx.callback.log.train.metric` reports the metric every `period` batches, and writes it to a logger when there is
#'   one; as an epoch callback it only writes to the logger.
#' * `mx.callback.log.speedometer` reports examples per second and the metric every `frequency` batches.
#' * `mx.callback.save.checkpoint` saves the model every `period` epochs, see [mx.model.save()].
#' * `mx.callback.early.stop` ends the training when the training or validation metric is better than a threshold, or
#'   when the validation metric has not improved for `bad.steps` epochs.
#'
#' @param period Report or save every `period` batches or epochs.
#' @param logger An object of class [mx.metric.logger], or `NULL`.
#' @param batch.size Examples in a batch.
#' @param frequency Batches between two reports.
#' @param prefix Path and first part of the file names.
#' @param train.metric,eval.metric Thresholds for the training and the validation metric, or `NULL`.
#' @param bad.steps Epochs in a row without improvement of the validation metric that end the training, or `NULL`.
#' @param maximize Is a larger metric better?
#' @param verbose Report why training ended? The `verbose` of the training takes precedence.
#' @return A callback. It returns `TRUE`, or `FALSE` when training should end.
#' @section Errors: `mxnet_value_error` for a logger of another class, and for periods that are no positive whole
#'   numbers.
#' @examples
#' env <- list2env(list(metric = mx.metric.mse, train.metric = c(2, 3)))
#' log <- mx.metric.logger()
#' report <- mx.callback.log.train.metric(2, log)
#' report(1, 4, env)
#' log$train
#' @name mx.callback
NULL

#' @rdname mx.callback
#' @export
mx.callback.log.train.metric <- function(period, logger = NULL) {
  period <- mx.util.count(period, "period")
  if (!is.null(logger) && !inherits(logger, "mx.metric.logger"))
    mx.stop("value", "Invalid mx.metric.logger: `logger` is ", mx.util.say(logger), ".", argument = "logger")
  mx.util.described(function(iteration, nbatch, env, verbose = TRUE) {
    if (nbatch %% period != 0 || is.null(env$metric)) return(TRUE)
    report <- function(label, state) {
      result <- env$metric$get(state)
      if (nbatch != 0 && verbose) message("Batch [", nbatch, "] ", label, "-", result$name, "=", result$value)
      result$value
    }
    train <- report("Train", env$train.metric)
    if (!is.null(logger)) {
      logger$train <- c(logger$train, train)
      if (!is.null(env$eval.metric)) logger$eval <- c(logger$eval, report("Validation", env$eval.metric))
    }
    TRUE
  }, "callback", "log.train.metric", period = period)
}

#' @rdname mx.callback
#' @export
mx.callback.log.speedometer <- function(batch.size, frequency = 50) {
  batch.size <- mx.util.count(batch.size, "batch.size")
  frequency <- mx.util.count(frequency, "frequency")
  since <- 0 # batch at which the clock started
  mx.util.described(function(iteration, nbatch, env, verbose = TRUE) {
    # The clock starts with the first batch of an epoch, which may also pay for preparations.
    fresh <- is.null(env$init) || !env$init || env$count > nbatch
    env$count <- nbatch
    env$init <- TRUE
    if (fresh) {
      env$tic <- Sys.time()
      since <<- nbatch
    } else if (nbatch %% frequency == 0) {
      seconds <- as.numeric(Sys.time() - env$tic, units = "secs")
      result <- if (!is.null(env$metric)) env$metric$get(env$train.metric)
      if (verbose)
        message("Batch [", nbatch, "] Speed: ", (nbatch - since) * batch.size / seconds, " samples/sec",
                if (!is.null(result)) paste0(" Train-", result$name, "=", result$value))
      env$tic <- Sys.time()
      since <<- nbatch
    }
    TRUE
  }, "callback", "log.speedometer", batch.size = batch.size, frequency = frequency)
}

#' @rdname mx.callback
#' @export
mx.callback.save.checkpoint <- function(prefix, period = 1) {
  prefix <- mx.util.path(prefix, "prefix")
  period <- mx.util.count(period, "period")
  mx.util.described(function(iteration, nbatch, env, verbose = TRUE) {
    if (iteration %% period == 0) {
      mx.model.save(env$model, prefix, iteration)
      if (verbose) message(sprintf("Model checkpoint saved to %s-%04d.params\n", prefix, as.integer(iteration)))
    }
    TRUE
  }, "callback", "save.checkpoint", prefix = prefix, period = period)
}

#' @rdname mx.callback
#' @export
mx.callback.early.stop <- function(train.metric = NULL, eval.metric = NULL, bad.steps = NULL, maximize = FALSE,
                                   verbose = FALSE) {
  default.verbose <- mx.util.flag(verbose, "verbose")
  maximize <- mx.util.flag(maximize, "maximize")
  if (!is.null(train.metric)) train.metric <- mx.util.scalar(train.metric, "train.metric")
  if (!is.null(eval.metric)) eval.metric <- mx.util.scalar(eval.metric, "eval.metric")
  if (!is.null(bad.steps)) bad.steps <- mx.util.count(bad.steps, "bad.steps")
  better <- function(value, than) if (maximize) value > than else value < than
  worst <- if (maximize) -Inf else Inf
  best <- worst
  bad <- 1
  previous <- 0
  mx.util.described(function(iteration, nbatch, env, verbose = default.verbose) {
    current <- function(state) if (!is.null(env$metric) && !is.null(state)) env$metric$get(state)$value
    passed <- function(value, threshold)
      !is.null(threshold) && !is.null(value) && !is.na(value) && better(value, threshold)
    if (passed(current(env$train.metric), train.metric)) return(FALSE)
    value <- current(env$eval.metric)
    if (passed(value, eval.metric)) return(FALSE)
    if (is.null(bad.steps) || is.null(value)) return(TRUE)
    if (iteration == 1 || iteration <= previous) { # a new training run
      best <<- worst
      bad <<- 1
    }
    previous <<- iteration
    if (!is.na(value) && !better(best, value)) {
      best <<- value
      bad <<- 1
    } else if (bad == bad.steps) {
      if (verbose) message("Best score=", best, ", iteration [", iteration - bad.steps, "]")
      return(FALSE)
    } else {
      bad <<- bad + 1
    }
    TRUE
  }, "callback", "early.stop", train.metric = train.metric, eval.metric = eval.metric,
    bad.steps = bad.steps, maximize = maximize)
}
