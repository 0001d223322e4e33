sigmoid <- function(x) 1 / (1 + exp(-x))

# One step of the documented cells, for one layer; w is a list of R arrays c(input, units).
lstm.step <- function(x, state, w, bias) {
  n <- nrow(state$h)
  z <- t(w$i2h) %*% x + bias$i2h + if (state$first) 0 else t(w$h2h) %*% state$h + bias$h2h
  gate <- function(i) z[(i - 1) * n + seq_len(n), , drop = FALSE]
  c <- sigmoid(gate(3)) * state$c + sigmoid(gate(1)) * tanh(gate(2))
  list(h = sigmoid(gate(4)) * tanh(c), c = c, first = FALSE)
}
gru.step <- function(x, state, w, bias) {
  n <- nrow(state$h)
  z <- t(w$gates.i2h) %*% x + bias$gates.i2h + if (state$first) 0 else t(w$gates.h2h) %*% state$h + bias$gates.h2h
  update <- sigmoid(z[seq_len(n), , drop = FALSE])
  reset <- sigmoid(z[n + seq_len(n), , drop = FALSE])
  new <- tanh(t(w$trans.i2h) %*% x + bias$trans.i2h + t(w$trans.h2h) %*% (reset * state$h) + bias$trans.h2h)
  list(h = state$h + update * (new - state$h), first = FALSE)
}

# Binds with random parameters and runs forward; returns the executor.
run <- function(net, ...) {
  e <- mx.simple.bind(net, mx.cpu(), ...)
  set.seed(1)
  given <- names(list(...))
  for (n in setdiff(names(e$ref.arg.arrays), given)) {
    d <- dim(e$ref.arg.arrays[[n]])
    mx.exec.update.arg.arrays(e, stats::setNames(list(mx.nd.array(array(rnorm(prod(d), sd = 0.7), d))), n),
                              match.name = TRUE)
  }
  e
}

test_that("unrolled cells compute what is documented", {
  x <- array(rnorm(4 * 3 * 2), c(4, 3, 2)) # features, seq, batch
  for (cell in c("lstm", "gru")) {
    net <- rnn.graph.unroll(num_rnn_layer = 2, seq_len = 3, num_hidden = 5, num_decode = 2, config = "one-to-one",
                            cell_type = cell, loss_output = "linear")
    e <- run(net, data = dim(x), label = c(2, 3, 2))
    mx.exec.update.arg.arrays(e, list(data = mx.nd.array(x)), match.name = TRUE)
    mx.exec.forward(e, FALSE)
    p <- values(e$ref.arg.arrays)
    part <- function(layer, kind) {
      found <- p[startsWith(names(p), paste0("l", layer, ".")) & endsWith(names(p), kind)]
      stats::setNames(found, sub(paste0("\\.", kind), "", sub("^l[0-9]\\.", "", names(found))))
    }
    step <- if (cell == "lstm") lstm.step else gru.step
    state <- rep(list(list(h = matrix(0, 5, 2), c = matrix(0, 5, 2), first = TRUE)), 2)
    out <- array(0, c(2, 3, 2))
    for (t in 1:3) {
      input <- x[, t, ]
      for (l in 1:2) {
        state[[l]] <- step(input, state[[l]], part(l, "weight"), part(l, "bias"))
        input <- state[[l]]$h
      }
      out[, t, ] <- t(p$cls.weight) %*% input + p$cls.bias
    }
    expect_equal(as.array(e$ref.outputs[[1]]), matrix(out, 2), tolerance = 1e-4, info = cell)
  }
})

test_that("the fused operator and the unrolled cells agree where they are the same", {
  # LSTM without initial state: the unrolled one has no h2h term in the first step, so its bias has to be zero.
  x <- array(rnorm(3 * 4 * 2), c(3, 4, 2))
  fused <- run(rnn.graph(num_rnn_layer = 1, num_hidden = 5, num_decode = 2, config = "seq-to-one", cell_type = "lstm",
                         loss_output = "linear"),
               data = dim(x), label = c(2, 2))
  unrolled <- run(rnn.graph.unroll(num_rnn_layer = 1, seq_len = 4, num_hidden = 5, num_decode = 2,
                                   config = "seq-to-one", cell_type = "lstm",
                                   loss_output = "linear"), data = dim(x), label = c(2, 2))
  p <- values(unrolled$ref.arg.arrays)
  n <- 5
  # Gates: input, transform, forget, output here; input, forget, transform, output in the operator.
  order <- c(1:n, 2 * n + 1:n, n + 1:n, 3 * n + 1:n)
  zero <- rep(0, 4 * n)
  flat <- c(p$l1.i2h.weight[, order], p$l1.h2h.weight[, order], p$l1.i2h.bias[order], zero)
  set <- function(e, ...) mx.exec.update.arg.arrays(e, lapply(list(...), mx.nd.array), match.name = TRUE)
  set(fused, data = x, rnn.params.weight = flat, rnn.state = array(0, c(n, 2, 1)), rnn.state.cell = array(0,
      c(n, 2, 1)),
      cls.weight = p$cls.weight, cls.bias = p$cls.bias)
  set(unrolled, data = x, l1.h2h.bias = zero)
  for (e in list(fused, unrolled)) mx.exec.forward(e, FALSE)
  expect_equal(as.array(fused$ref.outputs[[1]]), as.array(unrolled$ref.outputs[[1]]), tolerance = 1e-4)
})

test_that("masks cut sequences", {
  for (config in c("seq-to-one", "one-to-one")) {
    net <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 3, input_size = 5, num_embed = 2, num_hidden = 2,
                            num_decode = 2, config = config, cell_type = "gru",
                            loss_output = "linear", masking = TRUE)
    label <- if (config == "seq-to-one") c(2, 2) else c(2, 3, 2)
    e <- run(net, data = c(3, 2), label = label, seq.mask = 2)
    forward <- function(data) {
      mx.exec.update.arg.arrays(e, list(data = mx.nd.array(data), seq.mask = mx.nd.array(c(2, 3))), match.name = TRUE)
      mx.exec.forward(e, FALSE)
      as.array(e$ref.outputs[[1]])
    }
    a <- forward(matrix(c(1, 2, 0, 1, 2, 3), 3))
    b <- forward(matrix(c(1, 2, 4, 1, 2, 3), 3)) # the third step of the first sequence is masked
    expect_equal(a, b)
    expect_false(isTRUE(all.equal(a, forward(matrix(c(1, 3, 0, 1, 2, 3), 3)))))
  }
})

test_that("every loss and configuration builds, and gives gradients", {
  for (build in list(rnn.graph, function(...) rnn.graph.unroll(seq_len = 3, ...)))
    for (cell in c("lstm", "gru")) for (config in c("seq-to-one", "one-to-one")) for (loss in c("softmax", "linear",
        "logistic", "MAE")) {
      net <- build(num_rnn_layer = 2, num_hidden = 3, num_decode = 2, config = config, cell_type = cell,
                   loss_output = loss, dropout = 0.2)
      dense <- config == "seq-to-one"
      label <- c(if (loss != "softmax") 2, if (!dense) 3, 4)
      e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(2, 3, 4), label = label)
      mx.exec.forward(e, TRUE)
      mx.exec.backward(e)
      expect_identical(dim(e$ref.outputs[[1]]), if (dense) c(2L, 4L) else c(2L, 12L))
    }
})

test_that("without a loss the hidden states are returned; states can be grouped", {
  net <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 3, num_hidden = 4, num_decode = 2, config = "one-to-one",
                          cell_type = "lstm")
  expect_identical(mx.symbol.infer.shape(net, data = c(2, 3, 5))$out.shapes[[1]], c(4L, 3L, 5L))
  net <- rnn.graph.unroll(num_rnn_layer = 2, seq_len = 2, num_hidden = 4, num_decode = 2, config = "seq-to-one",
                          cell_type = "lstm", loss_output = "softmax",
                          output_last_state = TRUE)
  expect_identical(grep("^init", arguments(net), value = TRUE), c("init_1_h", "init_1_c", "init_2_h", "init_2_c"))
  expect_length(outputs(net), 5)
  own <- lapply(c("a", "b"), mx.symbol.Variable)
  net <- rnn.graph.unroll(num_rnn_layer = 2, seq_len = 2, num_hidden = 4, num_decode = 2, config = "seq-to-one",
                          cell_type = "gru", loss_output = "softmax", init.state = own)
  expect_true(all(c("a", "b") %in% arguments(net)))
  net <- rnn.graph(num_rnn_layer = 1, num_hidden = 4, num_decode = 2, config = "one-to-one", cell_type = "lstm",
                   loss_output = "softmax", output_last_state = TRUE)
  expect_identical(outputs(net), "loss_output")
  expect_true(all(c("RNN_state_output", "RNN_statecell_output") %in% outputs(internals(net))))
})

test_that("wrong arguments are errors", {
  build <- function(...) rnn.graph(num_rnn_layer = 1, num_hidden = 2, num_decode = 2, ...)
  expect_error(build(config = "many", cell_type = "gru"), "`config`", class = "mxnet_value_error")
  expect_error(build(config = "one-to-one", cell_type = "rnn"), "`cell_type`", class = "mxnet_value_error")
  expect_error(build(config = "one-to-one", cell_type = "gru", loss_output = "hinge"), "`loss_output`",
               class = "mxnet_value_error")
  expect_error(build(config = "one-to-one", cell_type = "gru", num_embed = 3), "needs `input_size`",
               class = "mxnet_value_error")
  expect_error(rnn.graph.unroll(num_rnn_layer = 1, seq_len = 2, num_hidden = 2, num_decode = 2, config = "one-to-one",
                                init.state = list()), "needs 2 symbols",
               class = "mxnet_value_error")
  expect_error(rnn.graph.unroll(num_rnn_layer = 1, num_hidden = 2, num_decode = 2, config = "one-to-one"), "seq_len")
})
