# Hints for common mistakes: short, once per training, and never more than a look at the first batch, the last
# batch, and one number per epoch.

# A hint: a message that can be told from log lines, and switched off.
mx.hint <- function(...) {
  text <- paste0("Hint: ", ..., "\n")
  message(structure(class = c("mxnet_hint", "message", "condition"), list(message = text, call = NULL)))
}

# The hints of one training run: functions for a batch, an epoch, the end.
mx.hints.new <- function(verbose, symbol) {
  quiet <- function(...) invisible()
  if (!verbose || !isTRUE(getOption("mxnet.hints", TRUE))) return(list(batch = quiet, epoch = quiet, end = quiet))
  json <- symbol$as.json()
  has <- function(op) grepl(paste0("\"op\": *\"", op, "\""), json)
  looked <- FALSE
  diverged <- FALSE

  batch <- function(iteration, nbatch, batch, group) {
    if (looked) return(invisible())
    looked <<- TRUE
    if (!has("Embedding") && !mx.hints.internal.scales(symbol, names(group$shapes)[1L])) mx.hints.internal.scale(batch)
    if (has("Softmax(Output)?") && !grepl("\"use_ignore\"", json, fixed = TRUE)) mx.hints.internal.labels(batch, group)
  }
  epoch <- function(iteration, value, group) {
    if (diverged) return(invisible())
    if (is.na(value)) value <- mx.util.number(mx.nd.sum(group$prediction(TRUE)))
    if (is.finite(value)) return(invisible())
    diverged <<- TRUE
    layer <- mx.hints.internal.first(symbol, group)
    mx.hint("the result is not finite after epoch ", iteration, if (length(layer)) paste0(", first in layer ", layer),
            ": training has diverged. Try a smaller learning.rate, clip_gradient, or scaled inputs.")
  }
  end <- function(iteration, batch, group) {
    if (!diverged && iteration > 2) mx.hints.internal.constant(batch, group)
  }
  list(batch = batch, epoch = epoch, end = end)
}

# The first layer whose output is not finite, with the parameters and the batch of now.
mx.hints.internal.first <- function(symbol, group) {
  exec <- group$execs[[1L]]
  all <- internals(symbol)
  inner <- mx.exec.bind.shared(all, exec$ctx, unname(exec$ref.arg.arrays[all$arguments]),
                               vector("list", length(all$arguments)), unname(exec$ref.aux.arrays[all$auxiliary.states]))
  mx.exec.forward(inner, FALSE)
  outs <- inner$ref.outputs
  for (n in setdiff(names(outs), c(all$arguments, all$auxiliary.states)))
    if (!all(is.finite(as.double(outs[[n]])))) return(sub("_output[0-9]*$", "", n))
}

# Does the network scale its input itself: is there only arithmetic or normalization right behind it?
mx.hints.internal.scales <- function(symbol, input) {
  nodes <- mx.viz.internal.nodes(symbol)
  behind <- nodes$op[vapply(nodes$inputs, function(from) match(input, nodes$name) %in% from, NA)]
  all(grepl("^_|^elemwise_|^broadcast_|Norm", behind))
}

mx.hints.internal.scale <- function(batch) {
  largest <- max(abs(as.vector(mx.util.as.array(batch[[1L]]))))
  if (is.finite(largest) && largest >= 100)
    mx.hint("inputs are as large as ", format(largest, digits = 3),
            ". Networks train better on inputs of about unit size: scale them.")
}

# Class labels have to be 0 .. classes - 1.
mx.hints.internal.labels <- function(batch, group) {
  if (is.null(batch$label)) return(invisible())
  label <- as.vector(mx.util.as.array(batch$label))
  classes <- dim(group$prediction(TRUE))[1L]
  bad <- label[label != floor(label) | label < 0 | label >= classes]
  if (length(bad))
    mx.hint("label ", format(bad[1L]), " does not fit ", classes, " outputs: classes are numbered 0 to ", classes - 1,
            ".")
}

# The same prediction for every example although labels differ.
mx.hints.internal.constant <- function(batch, group) {
  out <- mx.util.as.array(group$prediction(TRUE))
  n <- mx.model.internal.examples(out)
  label <- as.vector(mx.util.as.array(batch$label))
  if (n < 8 || length(unique(label)) < 2L) return(invisible())
  out <- matrix(out, ncol = n)
  if (all(abs(out - out[, 1L]) <= 1e-6 * abs(out[, 1L])))
    mx.hint("the network predicts the same for every example. Try mx.init.Xavier() as initializer, scaled inputs, or ",
            "another learning.rate.")
}
