x <- mx.symbol.Variable("x")
leaky <- function(name = "leaky", ...) {
  mx.operator.register(name,
    forward = function(x, slope) x * ((x > 0) + slope * (x <= 0)),
    backward = function(x, slope, output.grad) output.grad * ((x > 0) + slope * (x <= 0)),
    parameters = list(slope = 0.25), ...
  )
}
numbers <- c(-2, -0.5, 0.5, 2)

test_that("imperatively", {
  expect_null(leaky())
  expect_equal(as.array(mx.nd.Custom(nd(numbers), op_type = "leaky")), c(-0.5, -0.125, 0.5, 2))
  expect_equal(as.array(mx.nd.Custom(nd(numbers), op_type = "leaky", slope = 0.5)), c(-1, -0.25, 0.5, 2))
  into <- mx.nd.zeros(4)
  mx.nd.Custom(nd(numbers), op_type = "leaky", out = into)
  expect_equal(as.array(into), c(-0.5, -0.125, 0.5, 2))
  mx.operator.register("difference", forward = function(left, right) list(d = left - right, n = -as.array(left)),
    outputs = c("d", "n"), infer.shape = function(left) list(right = left, d = left, n = left))
  d <- mx.nd.Custom(list(nd(5:6), nd(1:2)), op_type = "difference")
  expect_equal(lapply(d, as.array), list(c(4, 4), c(-5, -6)))
  d <- mx.nd.Custom(list(right = nd(5:6), left = nd(1:2)), op_type = "difference")
  expect_equal(as.array(d[[1]]), c(-4, -4))
  d <- mx.nd.Custom(right = nd(5:6), op_type = "difference", left = nd(1:2))
  expect_equal(as.array(d[[1]]), c(-4, -4))
})

test_that("forward and backward in an executor, against differences", {
  mx.operator.register("twist",
    forward = function(a, b, power) list(p = as.array(a)^power * as.array(b), s = a + b),
    backward = function(a, b, power, p.grad, s.grad) {
      g <- as.array(p.grad)
      list(b = g * as.array(a)^power + as.array(s.grad),
        a = g * power * as.array(a)^(power - 1) * as.array(b) + as.array(s.grad))
    },
    infer.shape = function(a) list(b = a, p = a, s = a),
    outputs = c("p", "s"), parameters = list(power = 2)
  )
  s <- mx.symbol.Custom(x * 2, mx.symbol.Variable("y"), op_type = "twist", power = 3, name = "t")
  expect_equal(arguments(s), c("x", "y"))
  expect_equal(outputs(s), c("t_p", "t_s"))
  expect_equal(mx.symbol.infer.shape(s, x = c(2, 3))$arg.shapes$y, c(2L, 3L))
  at <- list(x = matrix(seq(0.5, 1, 0.1), 2), y = matrix(seq(1, 2, 0.2), 2))
  e <- bound(s, at, "write")
  heads <- list(matrix(1:6, 2) / 6, matrix(6:1, 2) / 6)
  objective <- function(at) {
    mx.exec.update.arg.arrays(e, lapply(at, nd), match.name = TRUE)
    mx.exec.forward(e, is.train = TRUE)
    sum(mapply(function(o, h) sum(as.array(o) * h), e$ref.outputs, heads))
  }
  objective(at)
  do.call(mx.exec.backward, c(list(e), lapply(heads, nd)))
  got <- lapply(e$ref.grad.arrays, as.array)
  for (key in names(at)) for (i in 1:6) {
    up <- down <- at
    up[[key]][i] <- up[[key]][i] + 0.01
    down[[key]][i] <- down[[key]][i] - 0.01
    expect_equal(got[[key]][i], (objective(up) - objective(down)) / 0.02, tolerance = 1e-3)
  }
})

test_that("gradients: added, not asked for, left out, without backward", {
  mx.operator.register("some", forward = function(a, b) a * b,
    backward = function(b, output.grad) list(a = b * output.grad), infer.shape = function(a) list(b = a, output = a))
  s <- mx.symbol.Custom(x, mx.symbol.Variable("y"), op_type = "some")
  e <- bound(s, list(x = 1:2, y = 3:4), "add")
  for (i in 1:2) {
    mx.exec.forward(e, is.train = TRUE)
    mx.exec.backward(e, nd(c(1, 10)))
  }
  expect_equal(as.array(e$ref.grad.arrays$x), c(6, 80))
  expect_equal(as.array(e$ref.grad.arrays$y), c(0, 0))
  mx.operator.register("none", forward = function(a) a * 2)
  e <- bound(mx.symbol.Custom(x, op_type = "none"), list(x = 1:2), "write")
  mx.exec.forward(e, is.train = TRUE)
  mx.exec.backward(e, nd(c(1, 1)))
  expect_equal(as.array(e$ref.grad.arrays$x), c(0, 0))
})

test_that("auxiliary states, is.train, types", {
  mx.operator.register("average",
    forward = function(data, mean, is.train, rate) {
      m <- if (is.train) rate * as.array(mean) + (1 - rate) * mean(as.array(data)) else as.array(mean)
      list(as.array(data) - m, mean = m)
    },
    infer.shape = function(data) list(mean = 1, output = data),
    infer.type = function(data) list("float32", mean = "float64"),
    auxiliary.states = "mean", parameters = list(rate = 0.5)
  )
  s <- mx.symbol.Custom(x, op_type = "average", name = "avg")
  expect_equal(s$auxiliary.states, "avg_mean")
  e <- bound(s, list(x = c(1, 3)))
  mx.exec.forward(e, is.train = FALSE)
  expect_equal(as.array(e$ref.outputs[[1]]), c(1, 3))
  mx.exec.forward(e, is.train = TRUE)
  expect_equal(as.array(e$ref.aux.arrays$avg_mean), 1)
  expect_equal(as.array(e$ref.outputs[[1]]), c(0, 2))
  expect_equal(mxnet:::mx.nd.dtype(e$ref.aux.arrays$avg_mean), "float64")
  state <- mx.nd.array(4, dtype = "float64")
  expect_equal(as.array(mx.nd.Custom(list(nd(1:2), state), op_type = "average")), c(-3, -2))
  expect_error(mx.nd.Custom(list(nd(1:2), nd(4)), op_type = "average"), "float64", class = "mxnet_type_error")
})

test_that("parameters get the type of their default", {
  seen <- NULL
  mx.operator.register("typed", forward = function(x, n, r, v, flag, mode) {
    seen <<- list(n, r, v, flag, mode)
    x
  }, parameters = list(n = 1L, r = 0.5, v = c(1, 2), flag = FALSE, mode = "a"))
  mx.nd.Custom(nd(1), op_type = "typed")
  expect_identical(seen, list(1L, 0.5, c(1, 2), FALSE, "a"))
  mx.nd.Custom(nd(1), op_type = "typed", n = 7, r = 1 / 3, v = c(1e-9, 5, 2.25), flag = TRUE, mode = "b c")
  expect_identical(seen, list(7L, 1 / 3, c(1e-9, 5, 2.25), TRUE, "b c"))
  s <- mx.symbol.Custom(x, op_type = "typed", n = 3, r = 2, v = -1, flag = TRUE)
  value.of(mx.symbol.load.json(s$as.json()), list(x = 1))
  expect_identical(seen, list(3L, 2, -1, TRUE, "a"))
  expect_error(mx.symbol.Custom(x, op_type = "typed", n = "x"), "expected numbers", class = "mxnet_value_error")
  expect_error(mx.symbol.Custom(x, op_type = "typed", flag = "maybe"), "TRUE or FALSE", class = "mxnet_value_error")
  expect_error(mx.nd.Custom(nd(1), op_type = "typed", size = 1), "no parameter 'size'", class = "mxnet_value_error")
})

test_that("saved symbols; operators that are missing", {
  leaky()
  s <- mx.symbol.Custom(x, op_type = "leaky", slope = 0.5, name = "act") * 2
  file <- tempfile(fileext = ".json")
  mx.symbol.save(s, file)
  expect_equal(value.of(mx.symbol.load(file), list(x = numbers)), c(-2, -0.5, 1, 4))
  expect_equal(value.of(unserialize(serialize(s, NULL)), list(x = numbers)), c(-2, -0.5, 1, 4))
  for (wrong in list(quote(mx.symbol.load(file)), quote(mx.nd.Custom(nd(1), op_type = "leaky")))) {
    e <- in.fresh.session(deparse(bquote({
      file <- .(file)
      nd <- mx.nd.array
      tryCatch(.(wrong), error = conditionMessage)
    })))
    expect_match(e, "no operator 'leaky'; it has to be registered")
  }
  expect_error(mx.symbol.Custom(x), "needs the parameter op_type", class = "mxnet_value_error")
  expect_error(mx.nd.Custom(nd(1)), "needs the parameter op_type", class = "mxnet_value_error")
})

test_that("other things than arrays are refused at once", {
  expect_error(mx.nd.Custom(Sys.Date(), "failing"), "`data` must be", class = "mxnet_value_error")
  expect_error(mx.nd.Custom(numeric(1e6), "failing"), "`data` must be", class = "mxnet_value_error")
})

test_that("errors in the functions name operator and node, and keep the condition", {
  mx.operator.register("failing", forward = function(x) if (as.array(x)[1] > 0) stop("too large") else x,
    backward = function(x, output.grad) base::stop(structure(class = c("mine", "error", "condition"),
      list(message = "no way back", call = NULL))))
  s <- mx.symbol.Custom(x, op_type = "failing", name = "here")
  e <- bound(s, list(x = 1), "write")
  got <- tryCatch(mx.exec.forward(e), error = identity)
  expect_s3_class(got, c("mxnet_callback_error", "mxnet_error", "error", "condition"), exact = TRUE)
  expect_match(conditionMessage(got), "node 'here'.*forward of 'failing' failed: too large")
  expect_equal(got$operator, "Custom")
  expect_equal(got$node, "here")
  expect_equal(conditionMessage(got$parent), "too large")
  mx.exec.update.arg.arrays(e, list(x = nd(-1)), match.name = TRUE)
  mx.exec.forward(e, is.train = TRUE)
  got <- tryCatch(mx.exec.backward(e, nd(1)), error = identity)
  expect_s3_class(got$parent, "mine")
  expect_match(conditionMessage(got), "backward of 'failing' failed: no way back")
  mx.exec.forward(e) # still of use
  expect_equal(as.array(e$ref.outputs[[1]]), -1)
})

test_that("results that do not fit", {
  mx.operator.register("misfit", forward = function(x, kind) switch(kind,
    dim = mx.nd.ones(7), matrix = matrix(1, 1, 3), list = list(1:3, 4), name = list(oops = 1:3), none = list(),
    text = "a", null = NULL, row = 1:3), parameters = list(kind = "row"))
  run <- function(kind) mx.nd.Custom(nd(1:3), op_type = "misfit", kind = kind)
  expect_equal(as.array(run("row")), 1:3)
  e <- tryCatch(run("dim"), error = identity)
  expect_s3_class(e, "mxnet_shape_error")
  expect_equal(e[c("argument", "expected", "actual")], list(argument = "output", expected = "3", actual = "7"))
  expect_error(run("matrix"), "dim c(1, 3), expected 3", fixed = TRUE, class = "mxnet_shape_error")
  expect_error(run("list"), "room for 1", class = "mxnet_value_error")
  expect_error(run("name"), "no `oops`", class = "mxnet_value_error")
  expect_error(run("none"), "returned no `output`", class = "mxnet_value_error")
  expect_error(run("text"), "class character", class = "mxnet_value_error")
  expect_error(run("null"), "returned no `output`", class = "mxnet_value_error")
  mx.operator.register("unknown", forward = function(a) a, infer.shape = function(a) list(b = a))
  expect_error(mx.nd.Custom(nd(1), op_type = "unknown"), "no `b`", class = "mxnet_value_error")
  mx.operator.register("odd", forward = function(a) a, infer.shape = function(a) "wide")
  expect_error(mx.nd.Custom(nd(1), op_type = "odd"), "not a dim", class = "mxnet_value_error")
  mx.operator.register("odd.type", forward = function(a) a, infer.type = function(a) "float31")
  expect_error(mx.nd.Custom(nd(1), op_type = "odd.type"), "name of a type", class = "mxnet_value_error")
  mx.operator.register("typeless", forward = function(a) a, infer.type = function(a) list(a = a))
  expect_equal(value.of(mx.symbol.Custom(x, op_type = "typeless"), list(x = 1)), 1)
  mx.operator.register("conflict", forward = function(a) a, infer.shape = function(a) list(a = 5, output = 5))
  e <- tryCatch(mx.symbol.infer.shape(mx.symbol.Custom(x, op_type = "conflict", name = "n"), x = 3), error = identity)
  expect_s3_class(e, "mxnet_shape_error")
  expect_equal(e[c("node", "argument")], list(node = "n", argument = "a"))
})

test_that("interrupts, restarts and returns leave everything usable", {
  away <- NULL
  mx.operator.register("leaving", forward = function(x) {
    if (is.function(away)) away()
    x + 1
  })
  e <- bound(mx.symbol.Custom(x * 2, op_type = "leaving") * 3, list(x = 1:2), "write")
  run <- function() {
    away <<- function() invokeRestart("out", "restarted")
    withRestarts(mx.exec.forward(e), out = identity)
  }
  expect_equal(run(), "restarted")
  away <- function() signalCondition(structure(class = c("interrupt", "condition"), list(message = "", call = NULL)))
  expect_equal(tryCatch(mx.exec.forward(e), interrupt = function(i) "interrupted"), "interrupted")
  expect_equal(callCC(function(out) {
    away <<- function() out("returned")
    mx.nd.Custom(nd(1), op_type = "leaving")
  }), "returned")
  expect_equal(withRestarts(mx.symbol.infer.shape(e$symbol, x = 2)$out.shapes[[1]], out = identity), 2L)
  away <- NULL
  mx.exec.forward(e)
  expect_equal(as.array(e$ref.outputs[[1]]), c(9, 15))
})

test_that("arrays may be kept; operators may be used inside of others", {
  kept <- NULL
  mx.operator.register("keeping", forward = function(x) {
    kept <<- x
    mx.nd.Custom(x, op_type = "leaky", slope = 2)
  })
  leaky()
  e <- bound(mx.symbol.Custom(x * 2, op_type = "keeping") * 3, list(x = c(-1, 1)))
  mx.exec.forward(e)
  mine <- kept
  mx.exec.update.arg.arrays(e, list(x = nd(c(5, 5))), match.name = TRUE)
  mx.exec.forward(e)
  rm(e)
  gc()
  expect_equal(as.array(mine), c(-2, 2))
  expect_equal(as.array(kept), c(10, 10))
})

test_that("registering again", {
  mx.operator.register("again", forward = function(x) x + 1)
  s <- mx.symbol.Custom(x, op_type = "again")
  e <- bound(s, list(x = 1))
  mx.operator.register("again", forward = function(x) x + 2)
  mx.exec.forward(e)
  expect_equal(as.array(e$ref.outputs[[1]]), 3)
  expect_error(mx.operator.register("again", forward = function(x, y) x), "in use", class = "mxnet_state_error")
  mx.exec.forward(e)
  expect_equal(as.array(e$ref.outputs[[1]]), 3)
  rm(s, e)
  mx.operator.register("again", forward = function(x, y) x)
  expect_equal(arguments(mx.symbol.Custom(x, op_type = "again", name = "a")), c("x", "a_y"))
})

test_that("registering nonsense", {
  f <- function(x) x
  expect_error(mx.operator.register(1, f), "`name`", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", sum), "function", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", function() 1), "at least one input", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, outputs = "x"), "two things", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, backward = function(z) z), "takes `z`", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, arguments = "y"), "takes `x`", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, infer.shape = function(output.grad) 1), "takes `output.grad`",
    class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, outputs = "a b"), "letters", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, parameters = list(1)), "named list", class = "mxnet_value_error")
  expect_error(mx.operator.register("n", f, parameters = list(p = NA)), "named list", class = "mxnet_value_error")
  expect_error(mx.nd.Custom(nd(1), op_type = "n"), "no operator 'n'", class = "mxnet_value_error")
})

test_that("a loss written in R trains like the built-in one", {
  mx.operator.register("softmax.r",
    forward = function(data) apply(as.array(data), 2, function(z) exp(z - max(z)) / sum(exp(z - max(z)))),
    backward = function(output, label) {
      p <- as.array(output)
      at <- cbind(as.array(label) + 1, seq_len(ncol(p)))
      p[at] <- p[at] - 1
      list(data = p)
    },
    infer.shape = function(data) list(label = data[2], output = data), arguments = c("data", "label")
  )
  data <- data.plane()
  train <- function(head) {
    mx.set.seed(1)
    net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc")
    fit(head(net), data$data, data$label, num.round = 3, array.batch.size = 20, learning.rate = 0.1,
      eval.metric = mx.metric.accuracy)
  }
  own <- train(function(net) mx.symbol.Custom(net, op_type = "softmax.r", name = "softmax"))
  built.in <- train(function(net) mx.symbol.SoftmaxOutput(net, name = "softmax"))
  expect_equal(values(own$arg.params), values(built.in$arg.params), tolerance = 1e-5)
  expect_equal(predict(own, data$data, array.layout = "colmajor"),
    predict(built.in, data$data, array.layout = "colmajor"), tolerance = 1e-5)
})

test_that("nothing unprotected", {
  mx.operator.register("small", forward = function(x, state, k) list(x * k, state = 3),
    backward = function(output.grad, k) output.grad * k, infer.shape = function(x) list(state = 1, output = x),
    auxiliary.states = "state", parameters = list(k = 2))
  on.exit(gctorture(FALSE))
  gctorture(TRUE)
  s <- mx.symbol.Custom(x, op_type = "small", k = 3, name = "s")
  e <- mx.simple.bind(s, mx.cpu(), "write", x = 2)
  mx.exec.update.arg.arrays(e, list(x = mx.nd.array(1:2)), match.name = TRUE)
  mx.exec.forward(e, is.train = TRUE)
  mx.exec.backward(e, mx.nd.ones(2))
  failed <- tryCatch(mx.nd.Custom(mx.nd.ones(2), op_type = "small"), mxnet_error = function(e) e$operator)
  gctorture(FALSE)
  expect_equal(as.array(e$ref.outputs[[1]]), c(3, 6))
  expect_equal(as.array(e$ref.grad.arrays$x), c(3, 3))
  expect_equal(as.array(e$ref.aux.arrays$s_state), 3)
  expect_equal(failed, "Custom")
})

test_that("an executor that is at work is not run again from within", {
  e <- NULL
  again <- function() mx.exec.forward(e, FALSE)
  mx.operator.register("inner", forward = function(x) {
    again()
    x
  }, backward = function(x, output.grad) output.grad)
  e <- bound(mx.symbol.Custom(x, op_type = "inner"), list(x = 1:2))
  expect_error(mx.exec.forward(e, FALSE), "at work", class = "mxnet_error")
  again <- function() e$memory
  expect_error(mx.exec.forward(e, FALSE), "at work", class = "mxnet_error")
  again <- function() NULL
  mx.exec.forward(e, FALSE)
  expect_equal(as.array(e$ref.outputs[[1]]), 1:2)
})
