# Learning curves, with base graphics.

#' Plot learning curves
#'
#' @param x A trained model (its metric by epoch is the attribute `history`), or a [mx.metric.logger].
#' @param xlab,ylab,main Labels of the plot.
#' @param ... Further arguments of [graphics::matplot()].
#' @return The data frame of the curves, invisibly.
#' @section Errors: `mxnet_value_error` when there is nothing to plot: a model that was trained without metric, or an
#'   empty logger.
#' @examples
#' log <- mx.metric.logger(train = c(0.5, 0.7, 0.8), eval = c(0.5, 0.65, 0.7))
#' plot(log)
#' @export
plot.MXFeedForwardModel <- function(x, xlab = "epoch", ylab = attr(attr(x, "history"), "metric"), main = "", ...) {
  history <- attr(x, "history")
  if (is.null(history) || all(is.na(history$train)))
    mx.stop("value", "The model has no learning curve: give eval.metric when training.")
  mx.plot.curves(history$epoch, history$train, history$eval, xlab, ylab, main, ...)
}

#' @rdname plot.MXFeedForwardModel
#' @export
plot.mx.metric.logger <- function(x, xlab = "call", ylab = "metric", main = "", ...) {
  n <- max(length(x$train), length(x$eval))
  if (!n) mx.stop("value", "The logger is empty.")
  fill <- function(v) c(v, rep(NA_real_, n - length(v)))
  mx.plot.curves(seq_len(n), fill(x$train), fill(x$eval), xlab, ylab, main, ...)
}

mx.plot.curves <- function(x, train, eval, xlab, ylab, main, ...) {
  curves <- cbind(training = train, validation = eval)
  curves <- curves[, colSums(!is.na(curves)) > 0, drop = FALSE]
  colors <- c(training = "#1f77b4", validation = "#d62728")[colnames(curves)]
  graphics::matplot(x, curves, type = "o", pch = c(16, 1), lty = 1, col = colors, xlab = xlab, ylab = ylab,
                    main = main, ...)
  rising <- train[length(train)] > train[1L]
  if (ncol(curves) > 1L)
    graphics::legend(if (isTRUE(rising)) "bottomright" else "topright", legend = colnames(curves), col = colors,
      lty = 1,
                     pch = c(16, 1), bty = "n", inset = 0.02)
  invisible(data.frame(x = x, curves))
}
