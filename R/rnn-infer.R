# Predictions of recurrent networks.

# run(batch) runs `symbol` on batches like `batch` and returns its executor; close() gives the memory back.
mx.infer.internal.bind <- function(symbol, batch, arg.params, aux.params, on) {
  args <- symbol$arguments
  fed <- setdiff(intersect(args, names(batch)), names(arg.params))
  if (!length(fed)) mx.stop("value", "Batches have ", mx.util.and(names(batch)), "; the network needs ",
                            mx.util.and(setdiff(args, names(arg.params))), ".")
  feed <- stats::setNames(fed, fed)
  shapes <- mx.train.internal.shapes(batch, feed)
  net <- mx.net.new(symbol, list(on), shapes, arg.params[intersect(names(arg.params), args)],
                    aux.params[intersect(names(aux.params), symbol$auxiliary.states)], states = TRUE)
  group <- mx.group.new(net, symbol, shapes, feed, NULL, is.train = FALSE)
  run <- function(batch) {
    group$feed(batch)
    group$forward(FALSE)
    group$execs[[1L]]
  }
  list(run = run, close = function() mx.net.close(net))
}

#' Predict with a recurrent network
#'
#' `mx.infer.rnn` predicts for all sequences of an iterator. `mx.infer.rnn.one` and `mx.infer.rnn.one.unroll` run one
#' step of generation: they return all outputs of the network, states included, so that these can be given to the next
#' call.
#'
#' @param infer.data An iterator ([mx.io.bucket.iter()] or another); for `mx.infer.rnn.one.unroll` the NDArray (or R
#'   array) that goes to `data`.
#' @param model A model of class `MXFeedForwardModel`.
#' @param symbol The network; for generation one with `output_last_state`.
#' @param num_hidden Units of the layers.
#' @param arg.params,aux.params Parameters, named lists of NDArrays. Others than the network's are ignored.
#' @param input.params Named list of further inputs, such as `rnn.state` and `rnn.state.cell`; zeros without it.
#' @param init_states List of NDArrays, named like the arguments `init_*` or in their order (which for several layers of
#'   GRU is not that of the outputs); `NULL`: zeros.
#' @param ctx Device.
#' @return `mx.infer.rnn`: an R array `c(outputs, n)` without padding (`c(outputs, steps * n)` with an output for every
#'   step). The others: a list of NDArrays named by output,
#'   of the last batch or the one given.
#' @section Errors: `mxnet_value_error` when batches lack an input, `mxnet_shape_error` for arrays of other dims than
#'   the network's.
#' @examples
#' net <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 1, input_size = 3, num_embed = 2,
#'   num_hidden = 2, num_decode = 3, config = "one-to-one", cell_type = "gru",
#'   loss_output = "softmax", output_last_state = TRUE)
#' shapes <- mx.symbol.infer.shape(net, data = c(1, 1), label = c(1, 1))$arg.shapes
#' params <- mx.init.create(mx.init.uniform(0.5), shapes[!names(shapes) %in% c("data", "label")])
#' first <- mx.infer.rnn.one.unroll(mx.nd.array(matrix(1)), net, num_hidden = 2,
#'   arg.params = params, aux.params = NULL)
#' names(first)
#' second <- mx.infer.rnn.one.unroll(mx.nd.array(matrix(2)), net, num_hidden = 2,
#'   arg.params = params, aux.params = NULL, init_states = first[-1])
#' @name mx.infer.rnn
#' @export
mx.infer.rnn <- function(infer.data, model, ctx = mx.cpu()) {
  model <- mx.model.internal.check(model)
  infer.data <- mx.io.internal.check(infer.data, "infer.data")
  infer.data$reset()
  packer <- mx.nd.arraypacker()
  runs <- list()
  on.exit(for (r in runs) r$close())
  while (infer.data$iter.next()) {
    batch <- infer.data$value()
    key <- paste(unlist(lapply(batch, dim)), collapse = " ")
    if (is.null(runs[[key]]))
      runs[[key]] <- mx.infer.internal.bind(model$symbol, batch, model$arg.params, model$aux.params, ctx)
    packer$push(runs[[key]]$run(batch)$ref.outputs[[1L]], infer.data$num.pad(), mx.model.internal.examples(batch[[1L]]))
  }
  if (!length(runs)) mx.stop("value", "Cannot predict on empty iterator")
  packer$get()
}

#' @rdname mx.infer.rnn
#' @export
mx.infer.rnn.one <- function(infer.data, symbol, arg.params, aux.params, input.params = NULL, ctx = mx.cpu()) {
  infer.data <- mx.io.internal.check(infer.data, "infer.data")
  arg.params <- c(arg.params[setdiff(names(arg.params), names(input.params))], input.params)
  infer.data$reset()
  run <- NULL
  on.exit(if (!is.null(run)) run$close())
  while (infer.data$iter.next()) {
    batch <- infer.data$value()
    if (is.null(run)) run <- mx.infer.internal.bind(symbol, batch, arg.params, aux.params, ctx)
    exec <- run$run(batch)
  }
  if (is.null(run)) mx.stop("value", "Cannot predict on empty iterator")
  exec$outputs
}

#' @rdname mx.infer.rnn
#' @export
mx.infer.rnn.one.unroll <- function(infer.data, symbol, num_hidden, arg.params, aux.params, init_states = NULL,
                                    ctx = mx.cpu()) {
  check.symbol(symbol)
  args <- symbol$arguments
  data <- mx.util.as.nd(infer.data)
  batch.size <- utils::tail(dim(data), 1L)
  names.init <- args[grepl("init_[0-9]+_[hc]$", args)]
  if (is.null(init_states)) {
    init_states <- lapply(names.init, function(n) mx.nd.zeros(c(num_hidden, batch.size), ctx))
  } else if (length(init_states) != length(names.init)) {
    mx.stop("value", "The network has ", length(names.init), " initial states (", mx.util.and(names.init), "), not ",
            length(init_states), ".")
  } else if (setequal(names(init_states), names.init)) {
    init_states <- init_states[names.init]
  }
  batch <- c(list(data = data), stats::setNames(lapply(init_states, mx.util.as.nd), names.init))
  # A label has no effect on outputs; its dim follows from the others, or is that of the data.
  if ("label" %in% args && is.null(tryCatch(symbol$infer.shape(lapply(batch, dim)), error = function(e) NULL)))
    batch$label <- mx.nd.zeros(utils::tail(dim(data), 2L), ctx)
  run <- mx.infer.internal.bind(symbol, batch, arg.params[setdiff(names(arg.params), names(batch))], aux.params, ctx)
  on.exit(run$close())
  run$run(batch)$outputs
}
