# Multi-layer perceptrons in one call.

#' Train a multi-layer perceptron
#'
#' Dense layers with an activation after each, dropout before the output if asked for, and an output layer with its
#' loss.
#'
#' @param data,label Training data and labels, as `X` and `y` of [mx.model.FeedForward.create()].
#' @param hidden_node Units of the hidden layers, one number per layer.
#' @param out_node Units of the output: the number of classes, or 1 for one number.
#' @param dropout Share of the last hidden layer's units that is dropped in training, or `NULL`.
#' @param activation Activation of the hidden layers: one name, or one per layer (`"tanh"`, `"relu"`, `"sigmoid"`,
#'   `"softrelu"`, `"softsign"`).
#' @param out_activation Output and loss: `"softmax"` for classes, `"rmse"` for numbers, `"logistic"` for probabilities
#'   of 0/1 labels.
#' @param ctx Device, or a list of devices.
#' @param ... Further arguments of [mx.model.FeedForward.create()], such as `num.round`, `learning.rate`,
#'   `array.layout`, `eval.metric`.
#' @return A model of class `MXFeedForwardModel`.
#' @section Errors: `mxnet_value_error` when the numbers of layers and activations differ, or for an unknown output;
#'   those of `mx.model.FeedForward.create` besides.
#' @examples
#' x <- rbind(matrix(rnorm(40, 2), 20), matrix(rnorm(40, -2), 20))
#' y <- rep(0:1, each = 20)
#' mx.set.seed(0)
#' model <- mx.mlp(x, y, hidden_node = 8, out_node = 2, num.round = 10, array.batch.size = 10,
#'   learning.rate = 0.2, array.layout = "rowmajor", verbose = FALSE)
#' p <- predict(model, x, array.layout = "rowmajor")
#' table(predicted = max.col(t(p)) - 1, truth = y)
#' @export
mx.mlp <- function(data, label, hidden_node = 1, out_node, dropout = NULL, activation = "tanh",
                   out_activation = "softmax",
                   ctx = mx.ctx.default(), ...) {
  if (!is.numeric(hidden_node) || !length(hidden_node))
    mx.stop("value", "`hidden_node` must be the units of each hidden layer, not ", mx.util.say(hidden_node), ".",
            argument = "hidden_node")
  if (!is.character(activation))
    mx.stop("value", "`activation` must be names of activations, not ", mx.util.say(activation), ".",
            argument = "activation")
  layers <- length(hidden_node)
  if (!length(activation) %in% c(1L, layers)) mx.stop("value", "Length of activation should be ", layers)
  if (length(dropout) > 1L) mx.stop("value", "only accept dropout ratio of length 1.", argument = "dropout")
  if (!is.null(dropout)) dropout <- mx.util.scalar(dropout, "dropout")
  loss <- switch(if (is.character(out_activation) && length(out_activation) == 1L) out_activation else "",
                 softmax = mx.symbol.SoftmaxOutput, rmse = mx.symbol.LinearRegressionOutput,
                 logistic = mx.symbol.LogisticRegressionOutput, mx.stop("value", "Not supported yet."))
  activation <- rep_len(activation, layers)
  net <- mx.symbol.Variable("data")
  for (i in seq_len(layers)) {
    net <- mx.symbol.FullyConnected(net, num_hidden = hidden_node[i])
    net <- mx.symbol.Activation(net, act_type = activation[i])
    if (i == layers && !is.null(dropout)) net <- mx.symbol.Dropout(net, p = min(max(dropout, 0), 1 - 1e-7))
  }
  net <- loss(mx.symbol.FullyConnected(net, num_hidden = out_node))
  mx.model.FeedForward.create(net, X = data, y = label, ctx = ctx, ...)
}
