unrolled <- function(cell = "lstm", ...)
  rnn.graph.unroll(num_rnn_layer = 1, input_size = 3, num_embed = 2, num_hidden = 2, num_decode = 3,
                   config = "one-to-one", cell_type = cell,
                   loss_output = "softmax", output_last_state = TRUE, ...)
params.of <- function(net, ...) {
  shapes <- mx.symbol.infer.shape(net, ...)$arg.shapes
  mx.set.seed(1)
  mx.init.create(mx.init.uniform(1), shapes)
}

test_that("stepping one by one gives what the whole sequence gives", {
  for (cell in c("lstm", "gru")) {
    states <- if (cell == "lstm") c("init_1_h", "init_1_c") else "init_1_h"
    init <- stats::setNames(lapply(states, function(s) c(2, 2)), states)
    whole <- unrolled(cell, seq_len = 3)
    params <- do.call(params.of, c(list(whole, data = c(3, 2), label = c(3, 2)), init))
    x <- matrix(c(0, 1, 2, 2, 2, 0), 3)
    all <- mx.infer.rnn.one.unroll(x, whole, num_hidden = 2, arg.params = params, aux.params = NULL)
    expect_named(all, outputs(whole))
    step <- unrolled(cell, seq_len = 1)
    state <- NULL
    for (t in 1:3) {
      out <- mx.infer.rnn.one.unroll(x[t, , drop = FALSE], step, num_hidden = 2, arg.params = params,
                                     aux.params = NULL, init_states = state)
      expect_equal(as.array(out[[1]]), array(as.array(all[[1]]), c(3, 3, 2))[, t, ], tolerance = 1e-5, info = cell)
      state <- out[-1]
    }
    expect_equal(values(unname(state)), values(unname(all[-1])), tolerance = 1e-5)
    expect_error(mx.infer.rnn.one.unroll(x, whole, 2, params, NULL, init_states = list()), "initial states",
                 class = "mxnet_value_error")
  }
})

test_that("initial states may be given by their names", {
  net <- rnn.graph.unroll(num_rnn_layer = 2, seq_len = 1, input_size = 3, num_embed = 2, num_hidden = 2, num_decode = 3,
                          config = "one-to-one", cell_type = "gru", loss_output = "softmax", output_last_state = TRUE)
  states <- list(init_1_h = nd(matrix(0.5, 2, 1)), init_2_h = nd(matrix(-0.9, 2, 1)))
  params <- do.call(params.of, c(list(net, data = c(1, 1), label = c(1, 1)), lapply(states, dim)))
  run <- function(states) as.array(mx.infer.rnn.one.unroll(matrix(1), net, 2, params, NULL, init_states = states)[[1]])
  expect_equal(run(states), run(rev(states)))
  expect_equal(run(states), run(unname(states[grep("init", arguments(net), value = TRUE)])))
  expect_false(isTRUE(all.equal(run(states), run(stats::setNames(states, rev(names(states)))))))
})

test_that("the fused operator carries its state through input.params", {
  net <- rnn.graph(num_rnn_layer = 2, input_size = 4, num_embed = 3, num_hidden = 5, num_decode = 4,
                   config = "one-to-one", cell_type = "lstm",
                   loss_output = "softmax", output_last_state = TRUE)
  params <- params.of(net, data = c(6, 1), label = c(6, 1))
  inner <- internals(net)
  net <- mx.symbol.Group(inner[["loss_output"]], inner[["RNN_state_output"]], inner[["RNN_statecell_output"]])
  x <- matrix(c(0, 3, 1, 2, 2, 0), 6)
  it <- function(rows) mx.io.arrayiter(x[rows, , drop = FALSE], x[rows, , drop = FALSE], batch.size = 1)
  all <- mx.infer.rnn.one(it(1:6), net, params, NULL)
  expect_identical(dim(all$RNN_state_output), c(5L, 1L, 2L))
  first <- mx.infer.rnn.one(it(1:2), net, params, NULL)
  second <- mx.infer.rnn.one(it(3:6), net, params, NULL, input.params = list(rnn.state = first$RNN_state_output,
      rnn.state.cell = first$RNN_statecell_output))
  expect_equal(cbind(as.array(first[[1]]), as.array(second[[1]])), as.array(all[[1]]), tolerance = 1e-5)
  expect_equal(as.array(second$RNN_state_output), as.array(all$RNN_state_output), tolerance = 1e-5)
  expect_error(mx.infer.rnn.one(it(1:2), net, params, NULL, input.params = list(rnn.state = mx.nd.zeros(3))),
               class = "mxnet_shape_error")
})

test_that("all sequences of an iterator are predicted, without padding", {
  net <- rnn.graph(num_rnn_layer = 1, input_size = 4, num_embed = 3, num_hidden = 5, num_decode = 2,
                   config = "seq-to-one", cell_type = "gru",
                   loss_output = "softmax", masking = TRUE)
  params <- params.of(net, data = c(3, 2), label = 2, seq.mask = 2)
  model <- structure(list(symbol = net, arg.params = params, aux.params = list()), class = "MXFeedForwardModel")
  set.seed(1)
  buckets <- list("3" = list(data = matrix(sample(1:3, 15, TRUE), 3), label = 1:5),
                  "2" = list(data = matrix(sample(1:3, 6, TRUE), 2), label = 1:3))
  p <- mx.infer.rnn(mx.io.bucket.iter(buckets, batch.size = 2), model)
  expect_identical(dim(p), c(2L, 8L))
  expect_equal(colSums(p), rep(1, 8), tolerance = 1e-5)
  one <- mx.infer.rnn(mx.io.bucket.iter(buckets["3"], batch.size = 5), model)
  expect_equal(p[, 1:5], one, tolerance = 1e-5)
  padded <- list("3" = list(data = rbind(buckets[["2"]]$data, 0), label = 1:3))
  expect_equal(p[, 6:8], mx.infer.rnn(mx.io.bucket.iter(padded, batch.size = 3), model), tolerance = 1e-5)
})

test_that("padding is left out of outputs for every step", {
  net <- rnn.graph(num_rnn_layer = 1, input_size = 4, num_embed = 3, num_hidden = 5, num_decode = 4,
                   config = "one-to-one", cell_type = "gru", loss_output = "softmax")
  params <- params.of(net, data = c(6, 1), label = c(6, 1))
  model <- structure(list(symbol = net, arg.params = params[!names(params) %in% c("data", "label", "rnn.state")],
                          aux.params = list()), class = "MXFeedForwardModel")
  x <- matrix(rep_len(0:3, 30), 6)
  it <- function(batch.size) mx.io.arrayiter(x, x, batch.size = batch.size)
  whole <- mx.infer.rnn(it(5), model)
  expect_identical(dim(whole), c(4L, 30L))
  expect_equal(mx.infer.rnn(it(2), model), whole, tolerance = 1e-6)
  expect_equal(predict(model, it(2)), whole, tolerance = 1e-6)
})
