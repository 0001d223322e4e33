# Feed-forward models: what users call, and the checks of what they pass.

#' Train a feed-forward network
#'
#' Fits the parameters of `symbol` by gradient descent and returns a model that [predict()][predict.MXFeedForwardModel]
#' and [mx.model.save()] take.
#'
#' @section Data: `X` is a numeric array whose **last** dimension counts the examples (a matrix of features has one
#'   column per example), or a matrix or data frame with one row per example and `array.layout = "rowmajor"`, or a named
#'   list of arrays for a network with several inputs, or an iterator. Arrays are put in a random order once (see
#'   [mx.io.arrayiter()]); classes count from 0, a factor `y` is converted so. With `array.layout = "auto"` the layout
#'   of a matrix is guessed from its dims, with a warning.
#'
#'   A last batch that is not full is filled with earlier examples; these are trained on and counted in the metric.
#' @section Output: With `verbose`, progress goes through [message()]: `Start training with 1 devices`, then for each
#'   epoch `[1] Train-accuracy=...` and `[1] Validation-accuracy=...` when there is a metric. In an interactive terminal
#'   a line shows the epoch under way; set `options(mxnet.progress = FALSE)` to hide it. A few common mistakes (unscaled
#'   inputs, labels that do not fit the output, a training that diverges) are pointed out, once each;
#'   `options(mxnet.hints = FALSE)` hides that.
#' @section Interrupting: Ctrl-C stops between batches as any R code, and nothing is returned. The parameters reached so
#'   far are not lost: [mx.model.last()] returns them, also after an error.
#'
#' @param symbol The network, with a loss at its head.
#' @param X Training data, see below.
#' @param y Labels, when `X` is not an iterator: one per example, or an array whose last dimension counts the examples.
#' @param ctx Device, or a list of devices that share each batch; `NULL`: the default device.
#' @param begin.round,num.round Numbers of the first and of the last epoch.
#' @param optimizer Name of an optimizer, which gets the arguments in `...` and `rescale.grad = 1 / batch size`; or an
#'   optimizer object ([mx.opt.create()]), which is used as it is.
#' @param initializer See [mx.init].
#' @param eval.data Validation data: an iterator or `list(data =, label =)`.
#' @param eval.metric A metric, see [mx.metric]. Without one there is no report per epoch.
#' @param epoch.end.callback,batch.end.callback See [mx.callback].
#' @param array.batch.size Examples in a batch, when `X` is not an iterator.
#' @param array.layout `"colmajor"`: examples are columns; `"rowmajor"`: examples are rows of a matrix; `"auto"`: guess.
#' @param kvstore How gradients of several devices are added, see [mx.kv.create()]. The result is that of one device.
#' @param verbose Report progress?
#' @param arg.params,aux.params Parameters to start from, named lists of NDArrays. When given, they replace the
#'   initialization of the whole list: a parameter that is missing starts at zero, with a warning.
#' @param input.names Names of the network's inputs in the batches; `"data"` by default.
#' @param output.names Names of the network's labels; by default all arguments whose names end in `label`. Each gets the
#'   batch's entry of its name, or else `label`.
#' @param fixed.param Names of parameters that keep their values. They are not part of the result's `arg.params`.
#' @param allow.extra.params Ignore parameters that the network does not have? Otherwise they are errors.
#' @param metric_cpu Bring predictions to the CPU before the metric sees them?
#' @param ... Arguments of the optimizer, such as `learning.rate`, `momentum`, `wd`, `clip_gradient`, `lr_scheduler`.
#' @return A list of class `MXFeedForwardModel` with `symbol`, `arg.params` and `aux.params`. Its attribute `history` is
#'   a data frame of the metric by epoch, which `plot()` draws.
#' @section Errors: `mxnet_value_error` for data that does not fit (lengths, missing values, layout), an unknown
#'   optimizer or argument of one, parameters the network does not have; `mxnet_shape_error` for parameters or data of
#'   other dims than the network's.
#' @seealso [mx.mlp()] for networks of dense layers, [mx.model.buckets()] for sequences.
#' @examples
#' # Two classes, told apart by the sign of a linear combination
#' set.seed(1)
#' x <- matrix(rnorm(400), 2)
#' y <- as.numeric(x[1, ] + x[2, ] > 0)
#' net <- mx.symbol.Variable("data")
#' net <- mx.symbol.FullyConnected(net, num_hidden = 2, name = "fc")
#' net <- mx.symbol.SoftmaxOutput(net, name = "softmax")
#' mx.set.seed(1)
#' model <- mx.model.FeedForward.create(net, X = x, y = y, array.layout = "colmajor", num.round = 5,
#'   array.batch.size = 20, learning.rate = 0.5, eval.metric = mx.metric.accuracy)
#' model
#' @export
mx.model.FeedForward.create <- function(symbol, X, y = NULL, ctx = NULL, begin.round = 1, num.round = 10,
                                        optimizer = "sgd",
                                        initializer = mx.init.uniform(0.01), eval.data = NULL, eval.metric = NULL,
                                        epoch.end.callback = NULL, batch.end.callback = NULL, array.batch.size = 128,
                                        array.layout = "auto", kvstore = "local", verbose = TRUE, arg.params = NULL,
                                        aux.params = NULL, input.names = NULL, output.names = NULL, fixed.param = NULL,
                                        allow.extra.params = FALSE, metric_cpu = TRUE, ...) {
  if (!is.mx.symbol(symbol)) mx.stop("value", "symbol needs to be MXSymbol, not ", mx.util.say(symbol), ".")
  input.names <- mx.util.names(input.names, "input.names")
  output.names <- mx.util.names(output.names, "output.names")
  fixed.param <- mx.util.names(fixed.param, "fixed.param")
  allow.extra.params <- mx.util.flag(allow.extra.params, "allow.extra.params")
  verbose <- mx.util.flag(verbose, "verbose")
  devices <- mx.util.devices(ctx)
  train <- mx.model.internal.data(X, y, array.layout, array.batch.size, "X", "y")
  batch <- mx.model.internal.first(train)
  eval <- if (!is.null(eval.data)) mx.model.internal.eval(eval.data, array.layout, array.batch.size)

  feed <- mx.model.internal.feed(symbol, batch, input.names, output.names)
  shapes <- lapply(stats::setNames(feed, names(feed)), function(field) dim(mx.util.as.nd(batch[[field]])))
  inputs <- mx.model.internal.inputs(feed)
  params <- mx.model.internal.start(symbol, shapes[inputs], shapes[!inputs], initializer, arg.params, aux.params,
                                    allow.extra.params)

  batch.size <- utils::tail(shapes[[1L]], 1L)
  if (is.character(optimizer)) optimizer <- mx.opt.create(optimizer,
                                                          rescale.grad = mx.model.internal.rescale(batch.size), ...)
  else if (...length())
    warning("`optimizer` is an object; ignored: ", mx.util.and(names(list(...))), ".", call. = FALSE)
  kvstore <- mx.model.create.kvstore(kvstore, params$arg.params, length(devices), verbose = verbose)
  model <- mx.model.train(symbol, devices, shapes[inputs], shapes[!inputs], params$arg.params, params$aux.params,
                          begin.round, num.round, optimizer, train, eval, eval.metric, epoch.end.callback,
                          batch.end.callback, kvstore, fixed.param, verbose, metric_cpu, feed)
  if (mx.train.internal.private(optimizer, epoch.end.callback, batch.end.callback, initializer, eval.metric$update,
                                mx.metric.internal.feval(eval.metric))) {
    if (is.null(arg.params) && is.null(aux.params)) .Call(ffi_release, params)
    if (!is.mx.dataiter(X)) mx.io.internal.release(train)
    if (!is.mx.dataiter(eval.data)) mx.io.internal.release(eval)
  }
  model
}

# One over the batch size, to six digits: so MXNet passes numbers, and runs can be compared with its own.
mx.model.internal.rescale <- function(batch.size) signif(1 / batch.size, 6)

#' Initial parameters of a network
#'
#' @param symbol The network.
#' @param input.shape,output.shape Named lists of dims of the inputs and of the labels (`NULL`: none).
#' @param initializer See [mx.init].
#' @param ctx Device of the arrays.
#' @return A list of `arg.params` and `aux.params`, named lists of NDArrays. Arguments that the initializer does not
#'   know (data, labels, states) are left out.
#' @section Errors: `mxnet_value_error` when `symbol` is no symbol, the shapes do not determine all others, or an
#'   auxiliary state has a name that the initializer does not know.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc")
#' mx.model.init.params(net, list(data = c(3, 10)), NULL, mx.init.uniform(0.1), mx.cpu())$arg.params
#' @export
mx.model.init.params <- function(symbol, input.shape, output.shape, initializer, ctx) {
  if (!is.mx.symbol(symbol)) mx.stop("value", "symbol needs to be MXSymbol")
  shapes <- mx.model.internal.shapes(symbol, c(input.shape, output.shape))
  fed <- c(names(input.shape), names(output.shape))
  list(arg.params = mx.init.create(initializer, shapes$arg.shapes[!names(shapes$arg.shapes) %in% fed], ctx,
                                   skip.unknown = TRUE),
       aux.params = mx.init.create(initializer, shapes$aux.shapes, ctx, skip.unknown = FALSE))
}

# Shapes of everything, or an error.
mx.model.internal.shapes <- function(symbol, known) {
  shapes <- symbol$infer.shape(as.list(known))
  if (is.null(shapes))
    mx.stop("shape", "Not enough information to get shapes: ", mx.util.and(names(known)),
            " alone do not determine the others.")
  shapes
}

# A named list of NDArrays, or NULL.
mx.model.internal.params <- function(params, name) {
  if (!is.null(params) && (!is.list(params) || (length(params) && is.null(names(params)))))
    mx.stop("value", "`", name, "` must be a named list of NDArrays, not ", mx.util.say(params), ".", argument = name)
  params
}

# Parameters to start from.
mx.model.internal.start <- function(symbol, input.shape, output.shape, initializer, arg.params, aux.params,
                                    allow.extra.params) {
  drop <- function(params, known, what) {
    if (is.null(mx.model.internal.params(params, what))) return(NULL)
    extra <- setdiff(names(params), known)
    if (length(extra) && !allow.extra.params)
      mx.stop("value", "`", what, "` has ", mx.util.and(extra),
              ", which the network has not; allow.extra.params = TRUE ignores that.")
    lapply(params[setdiff(names(params), extra)], mx.util.as.nd)
  }
  inputs <- c(names(input.shape), names(output.shape))
  arg.params <- drop(arg.params, symbol$arguments, "arg.params")
  aux.params <- drop(aux.params, symbol$auxiliary.states, "aux.params")
  if (!is.null(arg.params) && (!is.null(aux.params) || !length(symbol$auxiliary.states))) {
    params <- list(arg.params = NULL, aux.params = list())
  } else {
    params <- mx.model.init.params(symbol, input.shape, output.shape, initializer, mx.cpu())
  }
  if (!is.null(arg.params)) {
    absent <- setdiff(symbol$arguments, c(names(arg.params), inputs))
    absent <- absent[mx.util.ends(absent, c("weight", "bias", "gamma", "beta"))]
    if (length(absent)) warning("arg.params lacks ", mx.util.and(absent), ": starting at zero.", call. = FALSE)
    params$arg.params <- arg.params[setdiff(names(arg.params), inputs)]
  }
  if (!is.null(aux.params)) params$aux.params <- aux.params
  params
}

# ---- data ----

# An iterator from what the user passed as X and y.
mx.model.internal.data <- function(X, y, layout, batch.size, x.name, y.name, is.train = TRUE) {
  layout <- mx.util.choice(layout, "array.layout", c("auto", "rowmajor", "colmajor"))
  batch.size <- mx.util.count(batch.size, "array.batch.size")
  if (is.mx.dataiter(X)) return(X)
  if (is.data.frame(X)) {
    if (!all(vapply(X, is.numeric, NA))) mx.stop("value", "`", x.name,
                                                 "` has columns that are no numbers; see model.matrix().")
    X <- as.matrix(X)
    if (layout == "auto") layout <- "rowmajor"
  }
  arrays <- is.numeric(X) || is.logical(X) || inherits(X, "MXNDArray")
  several <- is.list(X) && length(X) && !is.null(names(X)) && !is.object(X)
  if (!arrays && !several)
    mx.stop("value", "`", x.name,
            "` must be a numeric array, a data frame, a named list of arrays or an iterator, not ", mx.util.say(X), ".")
  if (is.train && is.null(y)) mx.stop("value", "Need to provide parameter ", y.name, " for training with R arrays.")
  y <- mx.model.internal.labels(y, y.name)
  if (arrays && layout == "auto") layout <- mx.model.select.layout.train(X, y)
  if (layout == "rowmajor") {
    turn <- function(x) if (is.matrix(x)) t(x) else x
    X <- if (several) lapply(X, turn) else turn(X)
    y <- if (is.matrix(y) && ncol(y) == 1L) as.vector(y) else turn(y)
  }
  for (x in if (several) X else list(X))
    if (is.numeric(x) && anyNA(x))
      mx.stop("value", "`", x.name, "` has missing values (", sum(is.na(x)),
              "); a network cannot be trained on these. Remove or impute them.")
  mx.model.init.iter(X, y, batch.size, is.train)
}

# Labels as numbers; classes of a factor count from 0.
mx.model.internal.labels <- function(y, name) {
  if (is.data.frame(y) && ncol(y) == 1L) y <- y[[1L]]
  if (is.factor(y)) y <- as.integer(y) - 1L
  if (is.data.frame(y)) y <- as.matrix(y)
  if (!is.null(y) && !is.numeric(y) && !is.logical(y) && !inherits(y, "MXNDArray"))
    mx.stop("value", "`", name, "` must be numbers (classes count from 0) or a factor, not ", mx.util.say(y), ".")
  if (is.numeric(y) && anyNA(y)) mx.stop("value", "`", name, "` has missing values (", sum(is.na(y)), ").")
  y
}

mx.model.internal.examples <- function(x) if (is.null(dim(x))) length(x) else utils::tail(dim(x), 1L)

# The iterator over R arrays. Training shuffles; prediction needs no labels.
mx.model.init.iter <- function(X, y, batch.size, is.train) {
  if (is.mx.dataiter(X)) return(X)
  several <- is.list(X)
  n <- mx.model.internal.examples(if (several) X[[1L]] else X)
  if (is.null(y)) {
    if (is.train) mx.stop("value", "Need to provide parameter y for training with R arrays.")
    y <- numeric(n)
  }
  batch.size <- max(1, min(mx.model.internal.examples(y), batch.size))
  if (!several) return(mx.io.arrayiter(X, y, batch.size = batch.size, shuffle = is.train))
  counts <- vapply(c(X, list(label = y)), mx.model.internal.examples, 0)
  if (any(counts != n))
    mx.stop("value", "The numbers of examples differ: ", paste(names(counts), counts, sep = " ", collapse = ", "), ".")
  order <- if (is.train) mx.io.internal.order(as.numeric(as.array(mx.runif(n))))
  arrays <- mx.io.internal.store(c(X, list(label = y)), order)
  mx.io.internal.iterator(Rcpp_MXArrayDataIter, mx.io.internal.slices(arrays, batch.size))
}

mx.model.internal.eval <- function(eval.data, layout, batch.size) {
  if (is.mx.dataiter(eval.data)) return(eval.data)
  if (!is.list(eval.data)) mx.stop("value", "The validation set should be either a mx.io.DataIter or a R list")
  if (is.null(eval.data$data) || is.null(eval.data$label))
    mx.stop("value", "Please provide the validation set as list(data=R.array, label=R.array)")
  mx.model.internal.data(eval.data$data, eval.data$label, layout, batch.size, "eval.data$data", "eval.data$label")
}

# The first batch.
mx.model.internal.first <- function(iter) {
  if (!iter$iter.next()) {
    iter$reset()
    if (!iter$iter.next()) mx.stop("value", "Empty input")
  }
  iter$value()
}

# The layout of a training matrix from the number of labels.
mx.model.select.layout.train <- function(X, y) {
  d <- dim(X)
  if (length(d) != 2L || inherits(X, "MXNDArray")) return("colmajor")
  if (is.null(y)) mx.stop("value", "Need to provide y for training")
  n <- if (is.matrix(y)) dim(y) else c(length(y), length(y))
  fits <- c(rowmajor = d[1L] == n[1L], colmajor = d[2L] == n[2L])
  if (sum(fits) != 1L)
    mx.stop("value", "Cannot auto select array.layout, please specify this parameter: ",
            if (any(fits)) "rows and columns" else "neither rows nor columns",
                 " of X (dim ", mx.util.dim(d), ") match the ", length(y), " labels.")
  mx.model.internal.guessed(names(fits)[fits])
}

mx.model.internal.guessed <- function(layout) {
  warning("Auto detect layout of input matrix, use ", layout, "..\n", call. = FALSE)
  layout
}

# ---- which part of a batch goes to which argument ----

# Names: arguments of the network; values: entries of a batch. Attribute "labels" marks the labels.
mx.model.internal.feed <- function(symbol, batch, input.names, output.names) {
  args <- symbol$arguments
  inputs <- if (is.null(input.names)) "data" else input.names
  labels <- if (is.null(output.names)) setdiff(args[endsWith(args, "label")], inputs) else output.names
  fields <- ifelse(labels %in% names(batch), labels, "label")
  feed <- stats::setNames(c(inputs, fields), c(inputs, labels))
  mx.model.internal.named(setdiff(names(feed), args), "The network has no argument", args)
  mx.model.internal.named(setdiff(feed, names(batch)), "Batches have no entry", names(batch))
  attr(feed, "labels") <- c(rep(FALSE, length(inputs)), rep(TRUE, length(labels)))
  feed
}

mx.model.internal.named <- function(absent, text, known)
  if (length(absent))
    mx.stop("value", text, " ", mx.util.and(absent), "; ", if (length(known)) "there are ", mx.util.and(known, 12L),
            if (!length(known)) "nothing there has a name", ".")

mx.model.internal.inputs <- function(feed) !attr(feed, "labels")

# Arguments that are data or labels.
mx.model.check.arguments <- function(symbol) {
  args <- symbol$arguments
  args[mx.util.ends(args, c("data", "label"))]
}

# A batch cut into at most `nsplit` blocks of ceiling(n / nsplit) examples: list(begin, end, shape) for each. `shape`
# is a named list of dims.
mx.model.slice.shape <- function(shape, nsplit) {
  n <- utils::tail(shape[[1L]], 1L)
  step <- ceiling(n / nsplit)
  lapply(seq(0, by = step, length.out = ceiling(n / step)), function(begin) {
    end <- min(begin + step, n)
    list(begin = begin, end = end, shape = lapply(shape, function(d) c(d[-length(d)], end - begin)))
  })
}

# ---- files and serialization ----

#' Save and load a model
#'
#' `mx.model.save` writes `prefix-symbol.json` and `prefix-0001.params` (the number is `iteration` with four digits), in
#' the formats of MXNet: parameters are called `arg:<name>` and `aux:<name>`.
#'
#' Models also survive [saveRDS()].
#'
#' @param model A model of class `MXFeedForwardModel`.
#' @param prefix Path and first part of the file names; `~` is expanded.
#' @param iteration Number in the name of the parameter file.
#' @return `mx.model.load` returns the model; `mx.model.save` returns `NULL`, invisibly.
#' @section Errors: `mxnet_io_error` for files that cannot be written or read, `mxnet_format_error` for files of another
#'   format, `mxnet_value_error` when `model` is none.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
#' params <- list(fc_weight = mx.nd.ones(c(2, 1)), fc_bias = mx.nd.zeros(1))
#' model <- structure(list(symbol = net, arg.params = params, aux.params = list()),
#'   class = "MXFeedForwardModel")
#' prefix <- tempfile()
#' mx.model.save(model, prefix, 1)
#' mx.model.load(prefix, 1)
#' @export
mx.model.save <- function(model, prefix, iteration) {
  model <- mx.model.internal.check(model)
  prefix <- mx.util.path(prefix, "prefix")
  named <- function(params, kind) if (length(params)) stats::setNames(params, paste0(kind, names(params)))
  mx.symbol.save(model$symbol, paste0(prefix, "-symbol.json"))
  params <- c(named(model$arg.params, "arg:"), named(model$aux.params, "aux:"))
  mx.nd.save(if (is.null(params)) list() else params, mx.model.internal.params.file(prefix, iteration))
  invisible()
}

mx.model.internal.params.file <- function(prefix, iteration)
  sprintf("%s-%04d.params", prefix, as.integer(mx.util.count(iteration, "iteration", 0)))

#' @rdname mx.model.save
#' @export
mx.model.load <- function(prefix, iteration) {
  prefix <- mx.util.path(prefix, "prefix")
  symbol <- mx.symbol.load(paste0(prefix, "-symbol.json"))
  saved <- mx.nd.load(mx.model.internal.params.file(prefix, iteration))
  pick <- function(kind) {
    part <- saved[startsWith(as.character(names(saved)), kind)]
    if (length(part)) stats::setNames(part, substring(names(part), nchar(kind) + 1L)) else list()
  }
  mx.model.internal.new(symbol, pick("arg:"), pick("aux:"))
}

mx.model.internal.new <- function(symbol, arg.params, aux.params)
  structure(list(symbol = symbol, arg.params = arg.params, aux.params = aux.params), class = "MXFeedForwardModel")

# A model, out of its serialized form if need be.
mx.model.internal.check <- function(model) {
  if (!inherits(model, "MXFeedForwardModel")) mx.stop("value", "`model` must be an MXFeedForwardModel, not ",
                                                      mx.util.say(model), ".")
  if (is.serialized(model)) return(mx.unserialize(model))
  if (!is.mx.symbol(model$symbol))
    mx.stop("value", "`model` has no symbol: its element `symbol` is ", mx.util.say(model$symbol), ".",
            argument = "model")
  model
}

#' A model as plain R objects
#'
#' `mx.serialize` turns a model into a list of text and R arrays that any R session can read, without this package too.
#' For ordinary work there is no need of it: [saveRDS()] keeps models as they are, and `predict` takes both forms.
#'
#' @param model A model of class `MXFeedForwardModel`, serialized or not.
#' @return `mx.serialize`: a list of `symbol_json`, `arg.params`, `aux.params` (R arrays) and `is.serialized = TRUE`, of
#'   the same class; a serialized model is returned as it is. `mx.unserialize` is the inverse. `is.serialized` is `TRUE`
#'   or `FALSE`.
#' @section Errors: `mxnet_value_error` when `model` is none.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
#' params <- list(fc_weight = mx.nd.ones(c(2, 1)), fc_bias = mx.nd.zeros(1))
#' model <- structure(list(symbol = net, arg.params = params, aux.params = list()),
#'   class = "MXFeedForwardModel")
#' plain <- mx.serialize(model)
#' str(plain$arg.params)
#' mx.unserialize(plain)
#' @export
mx.serialize <- function(model) {
  if (inherits(model, "MXFeedForwardModel") && is.serialized(model)) return(model)
  model <- mx.model.internal.check(model)
  plain <- function(params) lapply(params, function(x) array(as.array(x), dim(x)))
  structure(list(symbol_json = model$symbol$as.json(), arg.params = plain(model$arg.params),
                 aux.params = plain(model$aux.params),
                 is.serialized = TRUE), class = "MXFeedForwardModel")
}

#' @rdname mx.serialize
#' @export
mx.unserialize <- function(model) {
  if (!inherits(model, "MXFeedForwardModel")) mx.stop("value", "`model` must be an MXFeedForwardModel, not ",
                                                      mx.util.say(model), ".")
  if (!is.serialized(model)) return(model)
  mx.model.internal.new(mx.symbol.load.json(model$symbol_json), lapply(model$arg.params, mx.nd.array),
                        lapply(model$aux.params, mx.nd.array))
}

#' @rdname mx.serialize
#' @export
is.serialized <- function(model) is.list(model) && isTRUE(model[["is.serialized"]])

# ---- printing ----

#' Print and summarize a model
#'
#' @param x,object A model of class `MXFeedForwardModel`.
#' @param ... Not used.
#' @return `print` returns its argument, invisibly. `summary` returns a data frame of class `summary.MXFeedForwardModel`
#'   with one row per parameter: its `name`, `dim`, `count`, `mean` and `sd`.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
#' params <- list(fc_weight = mx.nd.ones(c(2, 1)), fc_bias = mx.nd.zeros(1))
#' model <- structure(list(symbol = net, arg.params = params, aux.params = list()),
#'   class = "MXFeedForwardModel")
#' model
#' summary(model)
#' @export
print.MXFeedForwardModel <- function(x, ...) {
  model <- mx.model.internal.check(x)
  count <- sum(vapply(c(model$arg.params, model$aux.params), length, 0))
  cat("<MXFeedForwardModel> ", mx.util.thousands(count), " parameters in ", length(model$arg.params), " arrays",
      if (length(model$aux.params)) paste0(" and ", length(model$aux.params), " auxiliary states"), "\n", sep = "")
  inputs <- setdiff(model$symbol$arguments, names(model$arg.params))
  absent <- mx.util.ends(inputs, c("weight", "bias", "gamma", "beta")) # fixed parameters are not part of a model
  cat("  inputs: ", mx.util.and(inputs[!absent], 8L), "; outputs: ", mx.util.and(model$symbol$outputs, 8L), "\n",
      sep = "")
  if (any(absent)) cat("  without the parameters ", mx.util.and(inputs[absent], 8L), "\n", sep = "")
  history <- attr(x, "history")
  if (!is.null(history) && nrow(history)) {
    last <- history[nrow(history), ]
    metric <- function(before, x, after = "") if (!is.na(x)) paste0(before, " ", format(x, digits = 4), after)
    cat("  trained to epoch ", last$epoch, metric(paste(",", attr(history, "metric")), last$train),
        metric(" (validation", last$eval, ")"), "\n", sep = "")
  }
  invisible(x)
}

#' @rdname print.MXFeedForwardModel
#' @export
summary.MXFeedForwardModel <- function(object, ...) {
  model <- mx.model.internal.check(object)
  params <- c(model$arg.params, model$aux.params)
  values <- lapply(params, function(p) as.vector(as.array(p)))
  table <- data.frame(name = as.character(names(params)), dim = vapply(params, function(p) mx.util.dim(dim(p)), ""),
                      count = vapply(values, length, 0L), mean = vapply(values, mean, 0), sd = vapply(values,
                          stats::sd, 0),
                      row.names = NULL, stringsAsFactors = FALSE)
  structure(table, class = c("summary.MXFeedForwardModel", "data.frame"))
}

#' @export
print.summary.MXFeedForwardModel <- function(x, ...) {
  print.data.frame(x, digits = 3, row.names = FALSE)
  cat("total: ", mx.util.thousands(sum(x$count)), "\n", sep = "")
  invisible(x)
}
