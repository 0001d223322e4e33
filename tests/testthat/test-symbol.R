data <- mx.symbol.Variable("data")
net <- mx.symbol.FullyConnected(data, num_hidden = 4, name = "fc1")
net <- mx.symbol.Activation(net, act_type = "relu", name = "relu1")
net <- mx.symbol.FullyConnected(net, num_hidden = 2, name = "fc2")

test_that("class and members", {
  expect_equal(class(net), structure("Rcpp_MXSymbol", package = "mxnet"))
  expect_true(is(net, "Rcpp_MXSymbol"))
  expect_true(is.mx.symbol(net))
  expect_false(is.mx.symbol("net"))
  expect_equal(net$arguments, c("data", "fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"))
  expect_equal(arguments(net), net$arguments)
  expect_equal(outputs(net), "fc2_output")
  expect_equal(net$auxiliary.states, character())
  expect_true("arguments" %in% .DollarNames(net, "^a"))
  expect_error(net$nosuch, "no member", class = "mxnet_value_error")
  expect_error(net$arguments <- "a", class = "mxnet_value_error")
  expect_error(outputs("a"), "MXSymbol", class = "mxnet_value_error")
  expect_error(internals(NULL), class = "mxnet_value_error")
  expect_error(mx.symbol.Variable())
  expect_error(mx.symbol.Variable(1), class = "mxnet_value_error")
})

test_that("print names outputs and arguments", {
  expect_output(print(net), "<MXSymbol fc2_output of data, fc1_weight", fixed = TRUE)
  expect_output(show(net), "MXSymbol")
  expect_output(str(net), "MXSymbol")
  many <- mx.symbol.Group(lapply(1:12, function(i) mx.symbol.Variable(paste0("v", i))))
  expect_output(print(many), "12 outputs")
})

test_that("inputs by position, by name, mixed, left out", {
  w <- mx.symbol.Variable("w")
  expect_equal(arguments(mx.symbol.FullyConnected(data, w, num_hidden = 1, name = "f")), c("data", "w", "f_bias"))
  expect_equal(arguments(mx.symbol.FullyConnected(data, weight = w, num.hidden = 1, name = "f")), c("data", "w",
    "f_bias"))
  expect_equal(arguments(mx.symbol.FullyConnected(weight = w, num_hidden = 1, name = "f")), c("f_data", "w", "f_bias"))
  expect_equal(arguments(mx.symbol.FullyConnected(name = "f", num_hidden = 1)), c("f_data", "f_weight", "f_bias"))
  expect_equal(arguments(mx.symbol.FullyConnected(data, num.hidden = 1, no.bias = TRUE, name = "f")), c("data",
    "f_weight"))
  v <- mxnet:::mx.varg.symbol.FullyConnected(list(data, num_hidden = 2, weight = w, name = "v"))
  expect_equal(arguments(v), c("data", "w", "v_bias"))
  expect_error(mx.symbol.FullyConnected(data, 10), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, data, data, data, num_hidden = 1), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, data, data, 5, num_hidden = 1), "without a name",
    class = "mxnet_value_error")
})

test_that("an argument that the caller lacks is left out", {
  layer <- function(x, bias) mx.symbol.FullyConnected(x, bias = bias, num_hidden = 2, name = "f")
  expect_equal(arguments(layer(data)), c("data", "f_weight", "f_bias"))
})

test_that("bad parameters are errors", {
  expect_error(data$infer.shape(NULL), "`kwargs` must be", class = "mxnet_value_error")
  expect_error(data$apply(sum), "`kwargs` must be", class = "mxnet_value_error")
  bytes <- "\xff"
  Encoding(bytes) <- "bytes"
  expect_error(mx.symbol.Variable(bytes), "no text", class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, name = "f"), "num_hidden", class = "mxnet_value_error")
  expect_error(mx.symbol.Activation(data, act_type = "nope"), "relu", class = "mxnet_value_error")
  expect_error(mx.symbol.Dropout(data, p = 2), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, num_hidden = NULL), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, num_hidden = NA), "not NA", class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, num_hidden = 1, nosuch = 2), "nosuch", class = "mxnet_value_error")
  expect_error(mx.symbol.Activation(data, act_type = c("relu", "tanh")), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, num_hidden = list(1)), class = "mxnet_value_error")
  expect_error(mx.symbol.FullyConnected(data, num_hidden = 1, name = 3), class = "mxnet_value_error")
})

test_that("automatic names count per hint", {
  names <- in.fresh.session(c(
    "x <- mx.symbol.Variable('x'); y <- mx.symbol.Variable('y')",
    "sapply(list(mx.symbol.FullyConnected(x, num_hidden = 1), mx.symbol.Flatten(x), mx.symbol.flatten(x), x + y,",
    "  x + 1, 1 - x, x^y, 2 %% x, -x, x > y, mx.symbol.min(x, 2)), outputs)"
  ))
  expect_equal(names, paste0(c(
    "fullyconnected0", "flatten0", "flatten1", "_plus0", "_plusscalar0", "_rminus_scalar0", "_power0", "_rmodscalar0",
    "negative0", "_greater0", "_minimum_scalar0"
  ), "_output"))
})

test_that("arithmetic, comparison and functions compute", {
  x <- mx.symbol.Variable("x")
  y <- mx.symbol.Variable("y")
  v <- list(x = c(7, -9, 2), y = c(3, 5, 2))
  for (op in c("+", "-", "*", "/", "^", "%%", "%/%", "==", "!=", "<", "<=", ">", ">=", "&", "|")) {
    f <- get(op)
    pick <- function(s) v[arguments(s)]
    expect_equal(value.of(f(x, y), v), f(v$x, v$y) + 0, tolerance = 1e-5, info = op)
    expect_equal(value.of(f(x, 2), v["x"]), f(v$x, 2) + 0, tolerance = 1e-5, info = op)
    expect_equal(value.of(f(2, y), v["y"]), f(2, v$y) + 0, tolerance = 1e-5, info = op)
  }
  expect_equal(value.of(-x, v["x"]), -v$x)
  expect_equal(value.of(!x, v["x"]), c(0, 0, 0))
  expect_equal(value.of(sqrt(abs(x)), v["x"]), sqrt(abs(v$x)), tolerance = 1e-6)
  expect_equal(value.of(mx.symbol.min(x, y), v), pmin(v$x, v$y))
  expect_equal(value.of(mx.symbol.min(3, x), v["x"]), pmin(v$x, 3))
  expect_error(x + c(1, 2), class = "mxnet_value_error")
  expect_error(x + "a", class = "mxnet_value_error")
  expect_error(x + NA, class = "mxnet_value_error")
  expect_error(suppressWarnings(x + mx.nd.ones(2)))
  expect_error(round(x), class = "mxnet_value_error")
})

test_that("groups, outputs, internals, children", {
  a <- mx.symbol.Variable("a")
  b <- mx.symbol.Variable("b")
  expect_equal(outputs(mx.symbol.Group(a, b)), c("a", "b"))
  expect_equal(outputs(mx.symbol.Group(c(a, b))), c("a", "b"))
  expect_equal(outputs(mx.symbol.Group(list(a, list(b)))), c("a", "b"))
  expect_error(mx.symbol.Group(a, 3), class = "mxnet_value_error")
  g <- mx.symbol.Group(a, b)
  expect_equal(outputs(g[[2]]), "b")
  expect_equal(outputs(g[["a"]]), "a")
  expect_error(g[[3]], class = "mxnet_value_error")
  expect_error(g[["c"]], class = "mxnet_value_error")
  i <- internals(net)
  expect_equal(outputs(i[[match("fc1_output", i$outputs)]]), "fc1_output")
  expect_equal(net$get.output(1)$outputs, "fc2_output")
  expect_error(i[[match("fc9_output", i$outputs)]], "name that was looked for", class = "mxnet_value_error")
  expect_error(i$get.output(which(i$outputs == "fc9_output")), "name that was looked", class = "mxnet_value_error")
  expect_equal(outputs(children(net)), c("relu1_output", "fc2_weight", "fc2_bias"))
  expect_equal(outputs(children(a)), character())
})

test_that("expectations compare what symbols say", {
  expect_equal(mx.symbol.Variable("a"), mx.symbol.Variable("a"))
  expect_error(expect_equal(mx.symbol.Variable("a"), mx.symbol.Variable("b")), "not equal")
})

test_that("joining symbols", {
  a <- mx.symbol.Variable("a")
  b <- mx.symbol.Variable("b")
  s <- mx.symbol.concat(c(a, b), num.args = 2, dim = 1, name = "cc")
  expect_equal(mx.symbol.infer.shape(s, a = c(2, 5), b = c(3, 5))$out.shapes, list(cc_output = c(5L, 5L)))
  expect_warning(mx.symbol.Concat(c(a, b), num.args = 2, name = "cc"), "deprecated")
  expect_error(mx.symbol.concat(a, b), "one list", class = "mxnet_value_error")
  expect_error(mx.symbol.concat(a, num.args = 2, b), "one list", class = "mxnet_value_error")
  expect_equal(arguments(mx.symbol.add_n(a, b, name = "s")), c("a", "b"))
  expect_equal(arguments(mx.symbol.stack(list(a, b), axis = 0)), c("a", "b"))
})

test_that("composition replaces variables by name in a copy", {
  n2 <- mx.symbol.FullyConnected(mx.symbol.Variable("data2"), num_hidden = 10, name = "net2")
  both <- mx.apply(n2, data2 = net, name = "composed")
  expect_equal(outputs(both), "composed_output")
  expect_equal(arguments(both), c(arguments(net), "net2_weight", "net2_bias"))
  expect_equal(arguments(n2)[1], "data2")
  expect_equal(outputs(n2$apply(list(data2 = net))), "net2_output")
  expect_error(mx.apply(n2, nosuch = net), class = "mxnet_value_error")
  expect_error(mx.apply(n2, net), class = "mxnet_value_error")
  expect_error(mx.apply(3, a = net), class = "mxnet_value_error")
  expect_error(mx.apply(n2, data2 = 1), class = "mxnet_value_error")
})

test_that("shapes are inferred in R order", {
  s <- mx.symbol.infer.shape(net, data = c(3, 5))
  expect_equal(s$arg.shapes, list(
    data = c(3L, 5L), fc1_weight = c(3L, 4L), fc1_bias = 4L, fc2_weight = c(4L, 2L), fc2_bias = 2L
  ))
  expect_equal(s$out.shapes, list(fc2_output = c(2L, 5L)))
  expect_equal(s$aux.shapes, list())
  expect_null(mx.symbol.infer.shape(net))
  expect_error(mx.symbol.infer.shape(net, c(3, 5)), class = "mxnet_value_error")
  expect_error(mx.symbol.infer.shape(net, nosuch = 3), class = "mxnet_value_error")
  expect_error(mx.symbol.infer.shape(net, data = "a"), class = "mxnet_value_error")
})

test_that("attributes are read and set", {
  x <- mx.symbol.Variable("x")
  expect_equal(x$attributes, list())
  x$attributes <- list(mood = "happy", `__shape__` = "(5, 3)")
  expect_equal(x$attributes[["mood"]], "happy")
  x$attributes$mood <- "angry"
  expect_equal(x$attributes$mood, "angry")
  f <- mx.symbol.FullyConnected(x, num_hidden = 4, name = "fc")
  expect_equal(f$infer.shape(list())$arg.shapes$x, c(3L, 5L))
  expect_error(x$attributes <- list(a = 3), class = "mxnet_value_error")
  expect_error(x$attributes <- "a", class = "mxnet_value_error")
  expect_error(x$attributes <- list("a"), class = "mxnet_value_error")
})

test_that("attributes with underscores are known without them, as in old scripts", {
  x <- mx.symbol.Variable("x")
  x$attributes <- list(wd_mult = "2", mood = "good")
  expect_identical(x$attributes$wd_mult, "2")
  expect_identical(x$attributes$`__wd_mult__`, "2")
  x$attributes$wd_mult <- "3"
  expect_identical(x$attributes$`__wd_mult__`, "3")
  x$attributes$`__wd_mult__` <- "4"
  expect_identical(x$attributes$wd_mult, "4")
  expect_match(x$as.json(), "\"__wd_mult__\": \"4\"", fixed = TRUE)
  expect_false(grepl("\"wd_mult\"", x$as.json(), fixed = TRUE))
})

test_that("JSON goes round and files are whole", {
  again <- mx.symbol.load.json(net$as.json())
  expect_identical(again$as.json(), net$as.json())
  expect_true(all.equal(again, net))
  file <- tempfile(fileext = ".json")
  mx.symbol.save(net, file)
  expect_identical(mx.symbol.load(file)$as.json(), net$as.json())
  net$save(file)
  expect_length(list.files(dirname(file), paste0("^\\.", basename(file))), 0)
  expect_error(mx.symbol.load("no-such-file.json"), class = "mxnet_io_error")
  expect_error(mx.symbol.load(tempdir()), class = "mxnet_io_error")
  expect_error(mx.symbol.save(net, file.path(tempfile(), "x.json")), class = "mxnet_io_error")
  expect_error(mx.symbol.load.json(NULL), class = "mxnet_value_error")
  expect_match(net$debug.str(), "FullyConnected")
})

test_that("summary counts parameters", {
  s <- summary(net, data = c(3, 5))
  expect_equal(s$table$layer, c("fc1", "relu1", "fc2"))
  expect_equal(s$table$parameters, c(16, 0, 10))
  expect_equal(s$table$output, c("4 x 5", "4 x 5", "2 x 5"))
  expect_equal(s$parameters, 26)
  expect_output(print(s), "Parameters in all: 26")
  expect_equal(s$memory[["parameters"]], 26 * 4)
  expect_gt(s$memory[["training"]], s$memory[["inference"]])
  expect_output(print(s), "Memory: 104 B of parameters")
  expect_null(summary(net)$memory)
  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(3, 5))
  expect_equal(summary(e), s)
  before <- mx.memory()[["allocations"]]
  large <- summary(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1e6), data = c(1e6, 10))
  expect_equal(large$memory[["parameters"]], (1e12 + 1e6) * 4) # told without making it
  expect_equal(mx.memory()[["allocations"]], before)
})
