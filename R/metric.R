# Metrics: a running mean of one number per batch.

#' Evaluation metrics
#'
#' A metric is a list of class `mx.metric` with three functions: `init()` gives an empty state, `update(label, pred,
#' state)` adds one batch to it, and `get(state)` returns `list(name, value)`. The value is the **mean of the batch
#' values** (also for `rmse`), and `NaN` before the first batch.
#'
#' `label` and `pred` are NDArrays (plain R numbers work as well). Predictions of classes have dim `c(classes, n)`;
#' class labels count from 0. The metrics of numbers compare element by element, whatever the two dims are.
#'
#' | object | value of a batch |
#' |---|---|
#' | `mx.metric.accuracy` | share of examples whose largest prediction is at the label |
#' | `mx.metric.top_k_accuracy` | share of examples whose label is among the 5 largest predictions |
#' | `mx.metric.mse`, `mx.metric.rmse`, `mx.metric.mae` | mean squared error, its root, mean absolute error |
#' | `mx.metric.rmsle` | root of the mean squared difference of `log(1 + x)` |
#' | `mx.metric.Perplexity` | exponential of the mean negative log probability of the labels (not those of -1) |
#' | `mx.metric.logloss` | negative mean log likelihood of 0/1 labels, predictions clipped to `[1e-15, 1 - 1e-15]` |
#' | `mx.metric.logistic_acc` | share of examples with `(pred > 0.5) == label` (its name is `accuracy`) |
#'
#' @format An object of class `mx.metric`.
#' @return `get(state)` returns a list of `name` and `value`.
#' @section Errors: A number of labels that differs from the number of predictions is an `mxnet_error`.
#' @seealso [mx.metric.custom()] for a metric of your own, [mx.metric.logger] to collect the values.
#' @examples
#' m <- mx.metric.accuracy
#' state <- m$update(c(0, 1, 1), matrix(c(0.9, 0.1, 0.2, 0.8, 0.6, 0.4), 2), m$init())
#' m$get(state)
#' m
#' @name mx.metric
NULL

#' Make a metric from a function
#'
#' @param name Name of the metric in log lines.
#' @param feval `function(label, pred)` that returns one number for a batch; a result that is an NDArray of one element
#'   is converted. Both arguments are NDArrays on the CPU; use `as.array()` for R numbers.
#' @return A metric as described in [mx.metric]: a list `init`, `update`, `get` of class `mx.metric`.
#' @section Errors: `mxnet_value_error` when `name` is not a string, `feval` no function, or when `feval` does not
#'   return a single number.
#' @examples
#' m <- mx.metric.custom("max error", function(label, pred) max(abs(as.array(label) - as.array(pred))))
#' state <- m$update(mx.nd.array(c(1, 2)), mx.nd.array(c(1.5, 4)), m$init())
#' m$get(state)
#' @export
mx.metric.custom <- function(name, feval) {
  if (!is.character(name) || length(name) != 1L)
    mx.stop("value", "`name` must be a string, not ", mx.util.say(name), ".")
  if (!is.function(feval))
    mx.stop("value", "`feval` must be a function of label and pred, not ", mx.util.say(feval), ".")
  init <- function() c(0, 0)
  update <- function(label, pred, state) {
    value <- feval(label, pred)
    if (inherits(value, "MXNDArray")) value <- as.array(value)
    if (length(value) != 1L || !(is.numeric(value) || is.logical(value)))
      mx.stop("value", "Metric `", name, "` must return one number, not ", mx.util.say(value), ".")
    c(state[1L] + 1, state[2L] + as.vector(value))
  }
  get <- function(state) list(name = name, value = state[2L] / state[1L])
  structure(list(init = init, update = update, get = get), class = "mx.metric")
}

# The function that a custom metric calls.
mx.metric.internal.feval <- function(metric) if (is.function(metric$update)) environment(metric$update)$feval

#' @export
print.mx.metric <- function(x, ...) {
  cat("<mx.metric ", x$get(c(1, 0))$name,
      "> the mean of one number per batch: $init(), $update(label, pred, state), $get(state)\n",
      sep = "")
  invisible(x)
}

# Labels and predictions as 1-d NDArrays.
mx.metric.flat <- function(x) {
  if (!inherits(x, "MXNDArray")) return(mx.nd.array(as.numeric(x)))
  if (length(dim(x)) == 1L) x else mx.nd.reshape(x, shape = -1)
}

# Predictions of classes as an NDArray c(classes, n).
mx.metric.classes <- function(pred) {
  pred <- mx.util.as.nd(pred)
  d <- dim(pred)
  if (length(d) < 2L) mx.stop("value", "Predictions of classes must have dim c(classes, n), not ", mx.util.dim(d), ".")
  pred
}

mx.metric.difference <- function(label, pred) mx.metric.flat(label) - mx.metric.flat(pred)

#' @rdname mx.metric
#' @export
mx.metric.accuracy <- mx.metric.custom("accuracy", function(label, pred) {
  hit <- mx.metric.flat(mx.nd.argmax.channel(mx.metric.classes(pred))) == mx.metric.flat(label)
  as.array(mx.nd.mean(hit))
})

#' @rdname mx.metric
#' @export
mx.metric.top_k_accuracy <- mx.metric.custom("top_k_accuracy", function(label, pred) {
  pred <- mx.metric.classes(pred)
  k <- min(5L, dim(pred)[1L])
  best <- mx.nd.topk(pred, axis = -1, k = k)
  label <- mx.nd.reshape(mx.metric.flat(label), shape = c(1, -1))
  as.array(mx.nd.mean(mx.nd.sum(mx.nd.broadcast.equal(best, label), axis = 1)))
})

#' @rdname mx.metric
#' @export
mx.metric.mse <- mx.metric.custom("mse", function(label, pred)
  as.array(mx.nd.mean(mx.nd.square(mx.metric.difference(label, pred)))))

#' @rdname mx.metric
#' @export
mx.metric.rmse <- mx.metric.custom("rmse", function(label, pred)
  sqrt(as.array(mx.nd.mean(mx.nd.square(mx.metric.difference(label, pred))))))

#' @rdname mx.metric
#' @export
mx.metric.mae <- mx.metric.custom("mae", function(label, pred)
  as.array(mx.nd.mean(mx.nd.abs(mx.metric.difference(label, pred)))))

#' @rdname mx.metric
#' @export
mx.metric.rmsle <- mx.metric.custom("rmsle", function(label, pred) {
  d <- mx.nd.log1p(mx.metric.flat(pred)) - mx.nd.log1p(mx.metric.flat(label))
  sqrt(as.array(mx.nd.mean(mx.nd.square(d))))
})

#' @rdname mx.metric
#' @export
mx.metric.Perplexity <- mx.metric.custom("Perplexity", function(label, pred) {
  label <- mx.metric.flat(label)
  mask <- label != -1
  p <- mx.nd.pick(mx.metric.classes(pred), label, axis = -1)
  # A probability of zero would make 0 * log(0) of a masked example: the smallest float stands in for it.
  nll <- mx.nd.sum(mx.nd.log(mx.nd.clip(p, a_min = 1e-37, a_max = 1)) * mask)
  exp(-as.array(nll) / as.array(mx.nd.sum(mask)))
})

#' @rdname mx.metric
#' @export
mx.metric.logloss <- mx.metric.custom("logloss", function(label, pred) {
  label <- mx.metric.flat(label)
  pred <- mx.metric.flat(pred)
  # 1 - 1e-15 is 1 in float32: clipping both logarithms' arguments from below is the same bound without 0 * log(0).
  least <- function(x) mx.nd.clip(x, a_min = 1e-15, a_max = 1)
  loss <- label * mx.nd.log(least(pred)) + (1 - label) * mx.nd.log(least(1 - pred))
  -as.array(mx.nd.mean(loss))
})

#' @rdname mx.metric
#' @export
mx.metric.logistic_acc <- mx.metric.custom("accuracy", function(label, pred)
  as.array(mx.nd.mean((mx.metric.flat(pred) > 0.5) == mx.metric.flat(label))))

#' Collect metric values during training
#'
#' A reference class with two numeric fields: `train` and `eval`. Give an object of it to
#' [mx.callback.log.train.metric()] and read or plot the fields afterwards.
#'
#' @param ... Initial values of the fields.
#' @field train Training values, one for each call of the callback.
#' @field eval Validation values.
#' @return `mx.metric.logger()` and `mx.metric.logger$new()` make a logger.
#' @section Errors: Fields take numbers only; other values are errors of the assignment.
#' @examples
#' log <- mx.metric.logger()
#' log$train <- c(log$train, 0.7, 0.8)
#' log
#' @export mx.metric.logger
#' @exportClass mx.metric.logger
mx.metric.logger <- setRefClass(
  "mx.metric.logger", fields = list(train = "numeric", eval = "numeric"),
  methods = list(show = function() {
    last <- function(x) if (length(x)) paste0(" (last ", format(x[length(x)]), ")")
    cat("<mx.metric.logger> ", length(train), " training values", last(train), ", ", length(eval), " validation values",
        last(eval), "\n", sep = "")
  }))
