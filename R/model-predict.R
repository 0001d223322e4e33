# Predictions of a trained model.

#' Predict with a model
#'
#' The method of [stats::predict()] for trained models:
#' ```
#' predict(model, X, ctx = NULL, array.batch.size = 128, array.layout = "auto",
#'         allow.extra.params = FALSE)
#' ```
#'
#' @param model A model of class `MXFeedForwardModel`, serialized or not.
#' @param X New data: an array whose last dimension counts the examples, a matrix or data frame with examples in rows, a
#'   named list of arrays for a network with several inputs, or an iterator (reset first; every example is predicted
#'   once, in order).
#' @param ctx Device; `NULL`: the default one.
#' @param array.batch.size Examples in a batch, when `X` is not an iterator.
#' @param array.layout `"colmajor"`, `"rowmajor"`, or `"auto"`: a matrix is turned so that it fits the parameters, with
#'   a warning.
#' @param allow.extra.params Ignore parameters that the network does not have? Otherwise they are errors.
#' @return An R array of dim `c(outputs, n)` (for regression `c(1, n)`), one column per example whatever the layout:
#'   `t()` gives one row per example. Of a network with several outputs the first is returned.
#' @section Errors: `mxnet_value_error` for data of another kind, an ambiguous layout or extra parameters,
#'   `mxnet_shape_error` for data that does not fit.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
#' params <- list(fc_weight = mx.nd.ones(c(2, 1)), fc_bias = mx.nd.zeros(1))
#' model <- structure(list(symbol = net, arg.params = params, aux.params = list()),
#'   class = "MXFeedForwardModel")
#' predict(model, matrix(1:6, 2), array.layout = "colmajor")
#' @name predict.MXFeedForwardModel
NULL

# The method: .onLoad registers it, because MXNet's arguments, which people's code names, are not those of the generic,
# as R CMD check wants of methods in NAMESPACE.
mx.model.predict <- function(model, X, ctx = NULL, array.batch.size = 128, array.layout = "auto",
                             allow.extra.params = FALSE) {
  model <- mx.model.internal.check(model)
  allow.extra.params <- mx.util.flag(allow.extra.params, "allow.extra.params")
  on <- mx.util.devices(ctx)[[1L]]
  model <- mx.predict.internal.params(model, allow.extra.params)
  iter <- mx.predict.internal.data(X, model, array.layout, array.batch.size)
  iter$reset()
  packer <- mx.nd.arraypacker()
  run <- NULL
  on.exit({
    if (!is.null(run)) run$close()
    if (!is.mx.dataiter(X)) mx.io.internal.release(iter)
  })
  while (iter$iter.next()) {
    batch <- iter$value()
    if (is.null(run)) run <- mx.predict.internal.bind(model, batch, on)
    packer$push(run$predict(batch), iter$num.pad(), mx.model.internal.examples(batch[[1L]]))
  }
  if (is.null(run)) mx.stop("value", "Cannot predict on empty iterator")
  iter$reset()
  packer$get()
}

# Parameters that the network does not have are dropped or errors.
mx.predict.internal.params <- function(model, allow.extra.params) {
  drop <- function(params, known) {
    extra <- setdiff(names(params), known)
    if (length(extra) && !allow.extra.params)
      mx.stop("value", "The model has parameters that its network has not: ", mx.util.and(extra),
              ". allow.extra.params = TRUE ignores that.")
    params[setdiff(names(params), extra)]
  }
  model$arg.params <- drop(model$arg.params, model$symbol$arguments)
  model$aux.params <- drop(model$aux.params, model$symbol$auxiliary.states)
  model
}

mx.predict.internal.data <- function(X, model, layout, batch.size) {
  if (is.matrix(X) && is.numeric(X) && identical(layout, "auto")) layout <- mx.model.select.layout.predict(X, model)
  else if (identical(layout, "auto") && !is.data.frame(X)) layout <- "colmajor"
  mx.model.internal.data(X, NULL, layout, batch.size, "X", "y", is.train = FALSE)
}

# The layout of a matrix from the dims of the parameters.
mx.model.select.layout.predict <- function(X, model) {
  fits <- function(features) {
    shapes <- tryCatch(model$symbol$infer.shape(list(data = c(features, 1))), error = function(e) NULL)
    if (is.null(shapes)) return(FALSE)
    for (n in names(model$arg.params))
      if (!identical(as.numeric(shapes$arg.shapes[[n]]), as.numeric(dim(model$arg.params[[n]])))) return(FALSE)
    TRUE
  }
  fit <- c(rowmajor = fits(ncol(X)), colmajor = fits(nrow(X)))
  if (sum(fit) != 1L)
    mx.stop("value", "Cannot auto select array.layout, please specify this parameter: ",
            if (any(fit)) "both layouts" else "neither layout",
                 " of X (dim ", mx.util.dim(dim(X)), ") fit", if (!any(fit)) "s", " the model.")
  mx.model.internal.guessed(names(fit)[fit])
}

# predict(batch) returns the first output; bound for batches like `batch`. close() gives the memory back. Labels are
# fed only where the network cannot do without them: shapes that follow from nothing else.
mx.predict.internal.bind <- function(model, batch, on) {
  args <- model$symbol$arguments
  fed <- setdiff(intersect(args, names(batch)), names(model$arg.params))
  if (!length(fed)) mx.stop("value", "Batches have ", mx.util.and(names(batch)), "; the network needs ",
                            mx.util.and(setdiff(args, names(model$arg.params))), ".")
  labels <- fed[endsWith(fed, "label")]
  known <- function(names) mx.train.internal.shapes(batch, stats::setNames(names, names))
  shapes <- known(setdiff(fed, labels))
  inferred <- if (length(shapes)) model$symbol$infer.shape(shapes)
  if (is.null(inferred)) {
    shapes <- known(fed)
    if (length(labels)) inferred <- tryCatch(model$symbol$infer.shape(shapes), mxnet_shape_error = function(e) NULL)
    if (length(labels) && is.null(inferred))
      mx.stop("shape", "The network needs to know the dims of ", mx.util.and(labels),
              " to predict: give list(data =, label =) or an iterator as X, with labels like those of training.")
  } else {
    same <- function(n) identical(as.numeric(inferred$arg.shapes[[n]]), as.numeric(known(n)[[1L]]))
    fed <- c(setdiff(fed, labels), Filter(same, labels))
    shapes <- known(fed)
  }
  absent <- setdiff(args, c(names(model$arg.params), fed))
  absent <- absent[mx.util.ends(absent, c("weight", "gamma"))]
  if (length(absent)) mx.stop("value", "The model lacks the parameters ", mx.util.and(absent), ".")
  net <- mx.net.new(model$symbol, list(on), shapes, model$arg.params, model$aux.params, states = TRUE)
  group <- mx.group.new(net, model$symbol, shapes, stats::setNames(fed, fed), NULL, is.train = FALSE)
  predict <- function(batch) {
    group$feed(batch)
    group$forward(FALSE)
    group$prediction(TRUE)
  }
  list(predict = predict, close = function() mx.net.close(net))
}
