# Learning-rate schedulers: functions that change env$lr as updates are counted.

#' Learning rate schedules
#'
#' A scheduler is a `function(env)`. Optimizers call it before each parameter's update with an environment that holds
#' `lr` (the rate to use, changed in place), `count` (free for the scheduler; 0 at the start) and `num_update` (updates
#' done so far, the maximum over the parameters). Give it as `lr_scheduler` to [mx.opt.create()] or to a training
#' function.
#'
#' `mx.lr_scheduler.FactorScheduler` multiplies the rate by `factor_val` each time another `step` updates are done.
#' `mx.lr_scheduler.MultiFactorScheduler` multiplies it when the number of updates passes each of `step`, except the
#' last one (as in MXNet 1.x: the last number only ends the list). An update is one batch.
#'
#' @param step Updates between two changes, at least 1; for the multi-factor schedule an increasing vector.
#' @param factor_val Factor, at most 1.
#' @param stop_factor_lr The rate never falls below this value.
#' @param verbose Report changes with [message()]?
#' @return A function of an environment.
#' @section Errors: `mxnet_value_error` for a step below 1, steps that do not increase, or a factor above 1.
#' @examples
#' env <- list2env(list(lr = 1, count = 0))
#' schedule <- mx.lr_scheduler.FactorScheduler(step = 2, factor_val = 0.5)
#' for (i in 0:6) {
#'   env$num_update <- i
#'   schedule(env)
#' }
#' env$lr
#' @name mx.lr_scheduler
NULL

# Multiplies the rate of env, keeps it above the floor and reports.
mx.lr_scheduler.internal.reduce <- function(env, factor_val, stop_factor_lr, verbose) {
  env$lr <- env$lr * factor_val
  floor <- env$lr < stop_factor_lr
  if (floor) env$lr <- stop_factor_lr
  if (!verbose) return(invisible())
  if (floor) message("Update[", env$num_update, "]: now learning rate arrived at ", env$lr,
                     "will not change in the future")
  else message("Update[", env$num_update, "]: learning rate is changed to ", env$lr)
}

mx.lr_scheduler.internal.check <- function(step, factor_val, stop_factor_lr, verbose) {
  if (!is.numeric(step) || !length(step) || anyNA(step) || any(step < 1))
    mx.stop("value", "Schedule step must be greater or equal than 1 round")
  if (!is.numeric(factor_val) || length(factor_val) != 1L || is.na(factor_val) || factor_val > 1)
    mx.stop("value", "Factor must be no more than 1 to make lr reduce")
  mx.util.scalar(stop_factor_lr, "stop_factor_lr")
  mx.util.flag(verbose, "verbose")
}

#' @rdname mx.lr_scheduler
#' @export
mx.lr_scheduler.FactorScheduler <- function(step, factor_val, stop_factor_lr = 1e-08, verbose = TRUE) {
  mx.lr_scheduler.internal.check(step, factor_val, stop_factor_lr, verbose)
  mx.util.described(function(env) {
    if (env$num_update > env$count + step) {
      env$count <- env$count + step
      mx.lr_scheduler.internal.reduce(env, factor_val, stop_factor_lr, verbose)
    }
    invisible(env$lr)
  }, "scheduler", "FactorScheduler", step = step, factor_val = factor_val, stop_factor_lr = stop_factor_lr)
}

#' @rdname mx.lr_scheduler
#' @export
mx.lr_scheduler.MultiFactorScheduler <- function(step, factor_val, stop_factor_lr = 1e-08, verbose = TRUE) {
  mx.lr_scheduler.internal.check(step, factor_val, stop_factor_lr, verbose)
  if (is.unsorted(step, strictly = TRUE)) mx.stop("value", "Schedule step must be an increasing integer list")
  mx.util.described(function(env) {
    if (is.null(env$cur_step_ind)) env$cur_step_ind <- 1
    i <- env$cur_step_ind
    if (i < length(step) && env$num_update > step[i]) {
      env$count <- step[i]
      env$cur_step_ind <- i + 1
      mx.lr_scheduler.internal.reduce(env, factor_val, stop_factor_lr, verbose)
    }
    invisible(env$lr)
  }, "scheduler", "MultiFactorScheduler", step = step, factor_val = factor_val, stop_factor_lr = stop_factor_lr)
}
