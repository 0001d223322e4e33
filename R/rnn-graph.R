# Recurrent networks as symbols: one fused operator, or one node per step and layer.

#' Recurrent networks
#'
#' Both functions return the symbol of a recurrent network of LSTM or GRU layers. `rnn.graph` uses the fused operator
#' `RNN`, which takes sequences of any length; `rnn.graph.unroll` builds one cell per step (`seq_len` of them). Train
#' them with [mx.model.buckets()].
#'
#' The input `data` has dim `c(seq, batch)` of token numbers (from 0) when there is an embedding (`num_embed`), else
#' `c(features, seq, batch)`. With `config = "seq-to-one"` the last step (with masking: step `seq.mask`) gives one
#' output per sequence, `c(num_decode, batch)`; with `"one-to-one"` every step gives one: `c(num_decode, seq * batch)`,
#' for a `label` of dim `c(seq, batch)`, or `c(num_decode, seq, batch)` when the loss is about several numbers.
#'
#' Arguments of the networks besides `data` and `label`: `embed.weight`, `cls.weight`, `cls.bias`, `seq.mask` (with
#' masking); in `rnn.graph` `rnn.params.weight`, `rnn.state` and, for LSTM, `rnn.state.cell`; in `rnn.graph.unroll`
#' `l<i>.i2h.weight` and so on for each layer, and `init_<i>_h`, `init_<i>_c` with `output_last_state`. LSTM gates come
#' in the order input, transform, forget, output; GRU gates update, reset.
#'
#' @param num_rnn_layer Number of recurrent layers.
#' @param seq_len Number of steps to unroll.
#' @param input_size Size of the vocabulary, with an embedding.
#' @param num_embed Size of the embedding; `NULL`: `data` has features already.
#' @param num_hidden Units of each layer.
#' @param num_decode Size of the output.
#' @param dropout Share of the values between the layers that is dropped in training.
#' @param ignore_label Label without effect in the softmax loss; -1: there is none.
#' @param bidirectional Read the sequence in both directions?
#' @param loss_output `"softmax"`, `"linear"`, `"logistic"`, `"MAE"`, or `NULL`: no output layer, the hidden states are
#'   returned.
#' @param config `"seq-to-one"` or `"one-to-one"`.
#' @param cell_type `"lstm"` or `"gru"`.
#' @param masking Are sequences padded? Then `seq.mask` holds their lengths.
#' @param output_last_state Give the last states too? `rnn.graph.unroll` then returns a group: output, hidden state and,
#'   for LSTM, cell state of each layer. `rnn.graph` returns the output alone, so that it can be trained as it is; the
#'   states are among its [internals()], as `RNN_state_output` and, for LSTM, `RNN_statecell_output`.
#' @param rnn.state,rnn.state.cell Symbols of the initial states; variables of these names by default.
#' @param init.state List of symbols for the initial states in the order `init_1_h`, `init_1_c`, `init_2_h`, ... (GRU:
#'   only `_h`); `NULL`: none, or variables of these names with `output_last_state`.
#' @param prefix Text in front of the names of nodes and parameters.
#' @param data_name,label_name Names of the inputs.
#' @return A symbol.
#' @section Errors: `mxnet_value_error` for an unknown configuration, cell or loss, or an embedding without
#'   `input_size`.
#' @examples
#' net <- rnn.graph(num_rnn_layer = 1, input_size = 10, num_embed = 4, num_hidden = 5, num_decode = 2,
#'   config = "seq-to-one", cell_type = "lstm", loss_output = "softmax")
#' arguments(net)
#' unrolled <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 3, input_size = 10, num_embed = 4,
#'   num_hidden = 5, num_decode = 2, config = "seq-to-one", cell_type = "lstm",
#'   loss_output = "softmax")
#' mx.symbol.infer.shape(unrolled, data = c(3, 8), label = 8)$out.shapes
#' @name rnn.graph
#' @export
rnn.graph <- function(num_rnn_layer, input_size = NULL, num_embed = NULL, num_hidden, num_decode, dropout = 0,
                      ignore_label = -1, bidirectional = F, loss_output = NULL, config, cell_type, masking = F,
                      output_last_state = F, rnn.state = NULL, rnn.state.cell = NULL, prefix = "") {
  mx.rnn.internal.check(num_rnn_layer, input_size, num_embed, num_hidden, dropout, ignore_label, loss_output, config,
                        cell_type, masking, output_last_state, prefix)
  name <- function(x) paste0(prefix, x)
  variable <- function(x) mx.symbol.Variable(name(x))
  label <- mx.symbol.Variable("label")
  steps <- mx.rnn.internal.input(mx.symbol.Variable("data"), input_size, num_embed, name)
  inputs <- list(data = steps, parameters = variable("rnn.params.weight"),
                 state = if (is.null(rnn.state)) variable("rnn.state") else rnn.state)
  if (cell_type == "lstm")
    inputs$state_cell <- if (is.null(rnn.state.cell)) variable("rnn.state.cell") else rnn.state.cell
  settings <- list(state_size = num_hidden, num_layers = num_rnn_layer, bidirectional = bidirectional, p = dropout,
                   state_outputs = output_last_state, mode = cell_type, name = name("RNN"))
  rnn <- do.call(mx.symbol.RNN, c(inputs, settings))
  hidden <- if (output_last_state) rnn[[1L]] else rnn
  mx.rnn.internal.output(hidden, num_hidden * (1 + bidirectional), num_decode, label, config, masking, loss_output,
                         ignore_label, name)
}

#' @rdname rnn.graph
#' @export
rnn.graph.unroll <- function(num_rnn_layer, seq_len, input_size = NULL, num_embed = NULL, num_hidden, num_decode,
                             dropout = 0, ignore_label = -1, loss_output = NULL, init.state = NULL, config,
                             cell_type = "lstm", masking = F, output_last_state = F, prefix = "", data_name = "data",
                             label_name = "label") {
  mx.rnn.internal.check(num_rnn_layer, input_size, num_embed, num_hidden, dropout, ignore_label, loss_output, config,
                        cell_type, masking, output_last_state, prefix)
  mx.util.count(seq_len, "seq_len")
  name <- function(x) paste0(prefix, x)
  label <- mx.symbol.Variable(label_name)
  steps <- mx.rnn.internal.input(mx.symbol.Variable(data_name), input_size, num_embed, name)
  steps <- mx.symbol.SliceChannel(data = steps, num_outputs = seq_len, axis = 0, squeeze_axis = TRUE,
                                  name = name("steps"))

  cell <- switch(cell_type, lstm = lstm.cell, gru = gru.cell)
  parts <- switch(cell_type, lstm = c("i2h", "h2h"), gru = c("gates.i2h", "gates.h2h", "trans.i2h", "trans.h2h"))
  states <- switch(cell_type, lstm = c("h", "c"), gru = "h")
  params <- lapply(seq_len(num_rnn_layer), function(i) {
    names <- as.vector(outer(c("weight", "bias"), parts, function(kind, part) paste(part, kind, sep = ".")))
    lapply(stats::setNames(names, names), function(n) mx.symbol.Variable(name(paste0("l", i, ".", n))))
  })
  state <- mx.rnn.internal.states(init.state, num_rnn_layer, states, output_last_state, name)

  outputs <- vector("list", seq_len)
  for (t in seq_len(seq_len)) {
    x <- if (seq_len == 1) steps else steps[[t]]
    for (i in seq_len(num_rnn_layer)) {
      state[[i]] <- cell(num_hidden = num_hidden, indata = x, prev.state = state[[i]], param = params[[i]], seqidx = t,
                         layeridx = i,
                         dropout = if (i == 1) 0 else dropout, prefix = prefix)
      x <- state[[i]]$h
    }
    outputs[[t]] <- x
  }
  all <- mx.symbol.concat(data = outputs, num.args = seq_len, dim = 0, name = name("concat"))
  hidden <- mx.symbol.reshape(data = all, shape = c(num_hidden, -1, seq_len), name = name("rnn_reshape"))
  out <- mx.rnn.internal.output(hidden, num_hidden, num_decode, label, config, masking, loss_output, ignore_label, name)
  if (!output_last_state) return(out)
  do.call(mx.symbol.Group, c(list(out), unname(unlist(lapply(state, `[`, states)))))
}

mx.rnn.internal.check <- function(num_rnn_layer, input_size, num_embed, num_hidden, dropout, ignore_label,
                                  loss_output, config, cell_type, masking, output_last_state, prefix) {
  mx.util.count(num_rnn_layer, "num_rnn_layer")
  mx.util.count(num_hidden, "num_hidden")
  mx.util.scalar(dropout, "dropout", 0)
  mx.util.scalar(ignore_label, "ignore_label")
  mx.util.flag(masking, "masking")
  mx.util.flag(output_last_state, "output_last_state")
  mx.util.string(prefix, "prefix", empty = TRUE)
  mx.util.choice(config, "config", c("seq-to-one", "one-to-one"))
  mx.util.choice(cell_type, "cell_type", c("lstm", "gru"))
  if (!is.null(loss_output)) mx.util.choice(loss_output, "loss_output", c("softmax", "linear", "logistic", "MAE"))
  if (!is.null(num_embed) && is.null(input_size))
    mx.stop("value", "An embedding (`num_embed`) needs `input_size`, the size of the vocabulary.")
}

# Steps first: native (seq, batch, ...), embedded if need be.
mx.rnn.internal.input <- function(data, input_size, num_embed, name) {
  data <- mx.symbol.swapaxes(data = data, dim1 = 0, dim2 = 1, name = name("swap_pre"))
  if (is.null(num_embed)) return(data)
  mx.symbol.Embedding(data = data, weight = mx.symbol.Variable(name("embed.weight")), input_dim = input_size,
                      output_dim = num_embed, name = name("embed"))
}

# Initial states: a list per layer, named h (and c), or NULL.
mx.rnn.internal.states <- function(init.state, layers, states, wanted, name) {
  if (is.null(init.state)) {
    if (!wanted) return(vector("list", layers))
    init.state <- lapply(seq_len(layers), function(i)
      lapply(stats::setNames(states, states), function(s) mx.symbol.Variable(name(paste0("init_", i, "_", s)))))
    return(init.state)
  }
  init.state <- unlist(init.state)
  if (length(init.state) != layers * length(states) || !all(vapply(init.state, is.mx.symbol, NA)))
    mx.stop("value", "`init.state` needs ", layers * length(states), " symbols, not ", length(init.state), ".")
  lapply(seq_len(layers), function(i) stats::setNames(init.state[(i - 1) * length(states) + seq_along(states)], states))
}

# From hidden states of all steps, native (seq, batch, hidden), to the loss.
mx.rnn.internal.output <- function(hidden, num_hidden, num_decode, label, config, masking, loss_output, ignore_label,
                                   name) {
  lengths <- if (masking) list(sequence_length = mx.symbol.Variable(name("seq.mask")), use_sequence_length = TRUE)
  if (config == "seq-to-one") {
    out <- do.call(mx.symbol.SequenceLast, c(list(data = hidden), lengths, list(name = name("mask"))))
  } else {
    if (masking) hidden <- do.call(mx.symbol.SequenceMask, c(list(data = hidden), lengths, list(value = 0,
        name = name("mask"))))
    out <- mx.symbol.swapaxes(data = hidden, dim1 = 0, dim2 = 1, name = name("swap_post"))
    if (!is.null(loss_output)) {
      out <- mx.symbol.reshape(data = out, shape = c(num_hidden, -1))
      several <- loss_output != "softmax" && num_decode > 1 # numbers per step in the label
      label <- mx.symbol.reshape(data = label, shape = if (several) c(num_decode, -1) else -1)
    }
  }
  if (is.null(loss_output)) return(out)
  out <- mx.symbol.FullyConnected(data = out, weight = mx.symbol.Variable(name("cls.weight")),
                                  bias = mx.symbol.Variable(name("cls.bias")),
                                  num_hidden = num_decode, name = name("decode"))
  loss <- name("loss")
  switch(loss_output,
         softmax = mx.symbol.SoftmaxOutput(data = out, label = label, use_ignore = ignore_label != -1,
                                           ignore_label = ignore_label,
                                           name = loss),
         linear = mx.symbol.LinearRegressionOutput(data = out, label = label, name = loss),
         logistic = mx.symbol.LogisticRegressionOutput(data = out, label = label, name = loss),
         MAE = mx.symbol.MAERegressionOutput(data = out, label = label, name = loss))
}

# One dense layer of a cell.
mx.rnn.internal.dense <- function(data, param, part, units, name)
  mx.symbol.FullyConnected(data = data, weight = param[[paste0(part, ".weight")]],
                           bias = param[[paste0(part, ".bias")]],
                           num_hidden = units, name = paste0(name, part))

# One step of an LSTM layer: the new list(h, c). prev.state is such a list, or NULL for zeros.
lstm.cell <- function(num_hidden, indata, prev.state, param, seqidx, layeridx, dropout = 0, prefix = "") {
  name <- paste0(prefix, "t", seqidx, ".l", layeridx, ".")
  if (dropout > 0) indata <- mx.symbol.Dropout(data = indata, p = dropout)
  gates <- mx.rnn.internal.dense(indata, param, "i2h", num_hidden * 4, name)
  if (!is.null(prev.state)) gates <- gates + mx.rnn.internal.dense(prev.state$h, param, "h2h", num_hidden * 4, name)
  gate <- mx.symbol.SliceChannel(data = gates, num_outputs = 4, axis = 1, squeeze_axis = FALSE, name = paste0(name,
      "slice"))
  sigmoid <- function(i) mx.symbol.Activation(data = gate[[i]], act_type = "sigmoid")
  tanh <- function(x) mx.symbol.Activation(data = x, act_type = "tanh")
  input <- sigmoid(1L)
  transform <- tanh(gate[[2L]])
  forget <- sigmoid(3L)
  output <- sigmoid(4L)
  c <- if (is.null(prev.state)) input * transform else forget * prev.state$c + input * transform
  list(h = output * tanh(c), c = c)
}

# One step of a GRU layer: the new list(h).
gru.cell <- function(num_hidden, indata, prev.state, param, seqidx, layeridx, dropout = 0, prefix = "") {
  name <- paste0(prefix, "t", seqidx, ".l", layeridx, ".")
  if (dropout > 0) indata <- mx.symbol.Dropout(data = indata, p = dropout)
  gates <- mx.rnn.internal.dense(indata, param, "gates.i2h", num_hidden * 2, name)
  if (!is.null(prev.state)) gates <- gates + mx.rnn.internal.dense(prev.state$h, param, "gates.h2h", num_hidden * 2,
                                                                   name)
  gate <- mx.symbol.split(data = gates, num_outputs = 2, axis = 1, squeeze_axis = FALSE, name = paste0(name, "split"))
  update <- mx.symbol.Activation(data = gate[[1L]], act_type = "sigmoid")
  reset <- mx.symbol.Activation(data = gate[[2L]], act_type = "sigmoid")
  # Without a state the reset gate has nothing to act on, but the bias of trans.h2h still counts.
  recall <- if (is.null(prev.state)) reset * 0 else reset * prev.state$h
  trans <- mx.rnn.internal.dense(indata, param, "trans.i2h", num_hidden, name) +
    mx.rnn.internal.dense(recall, param, "trans.h2h", num_hidden, name)
  trans <- mx.symbol.Activation(data = trans, act_type = "tanh")
  list(h = if (is.null(prev.state)) update * trans else prev.state$h + update * (trans - prev.state$h))
}
