lenet <- function() {
  net <- mx.symbol.Convolution(mx.symbol.Variable("data"), kernel = c(5, 3), num_filter = 4, name = "conv1")
  net <- mx.symbol.Pooling(mx.symbol.Activation(net, act_type = "relu", name = "relu1"), kernel = c(2, 2),
                           stride = c(2, 2), pool_type = "max", name = "pool1")
  mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(mx.symbol.Flatten(net, name = "flat"), num_hidden = 2,
                                                   name = "fc1"), name = "softmax")
}

test_that("operators are boxes with their attributes, connections carry dims", {
  g <- graph.viz(lenet(), shape = c(9, 7, 1, 10))
  expect_s3_class(g, "mx.graph")
  expect_identical(g$nodes$name, c("data", "conv1", "relu1", "pool1", "flat", "fc1", "softmax"))
  expect_identical(g$nodes$label[2], "Convolution\nconv1\nkernel: 5X3\nnum filter: 4")
  expect_identical(g$nodes$label[4], "Pooling\npool1\npool type: max\nkernel: 2X2\nstride: 2X2")
  expect_identical(g$nodes$shape, c("ellipse", "box", "box", "ellipse", "ellipse", "box", "box"))
  expect_identical(g$edges$label, c("9X7X1X10", "5X5X4X10", "5X5X4X10", "2X2X4X10", "16X10", "2X10"))
  expect_identical(as.character(g), g$dot)
  expect_match(g$dot, "rankdir = TB")
  expect_match(g$dot, "n[0-9]+ -> n[0-9]+ \\[label = \"9X7X1X10\"\\]")
  expect_match(graph.viz(lenet(), direction = "LR")$dot, "rankdir = LR")
  expect_identical(unique(graph.viz(lenet())$edges$label), "")
  expect_output(print(g), "digraph network", fixed = TRUE)
})

test_that("variables, states and values are drawn on request", {
  all <- graph.viz(lenet(), variables = TRUE)
  expect_setequal(setdiff(all$nodes$name, graph.viz(lenet())$nodes$name), c("conv1_weight", "conv1_bias", "fc1_weight",
      "fc1_bias", "softmax_label"))
  bn <- graph.viz(mx.symbol.BatchNorm(mx.symbol.Variable("data"), name = "bn"), variables = TRUE)
  expect_identical(unique(bn$nodes$fill[grepl("moving", bn$nodes$name)]), "#7fb77f")
  a <- mx.symbol.Variable("A")
  e <- mx.simple.bind(a * mx.symbol.Variable("B"), mx.cpu(), grad.req = "write", A = 1, B = 1)
  mx.exec.update.arg.arrays(e, list(A = mx.nd.array(10), B = mx.nd.array(3)), match.name = TRUE)
  mx.exec.forward(e, TRUE)
  mx.exec.backward(e, mx.nd.array(2))
  labels <- graph.viz(e)$nodes$label
  expect_true("A\n10\ngradient 6" %in% labels)
  expect_true(any(grepl("= 30$", labels)))
})

test_that("the way back is drawn on request", {
  a <- mx.symbol.Variable("A")
  net <- (a * mx.symbol.Variable("B")) * mx.symbol.Variable("D")
  e <- mxnet:::mx.symbol.bind(net, mx.cpu(), lapply(c(10, 1, 2), mx.nd.array), list(), list("write", "null", "null"))
  mx.exec.forward(e)
  mx.exec.backward(e, mx.nd.array(2))
  g <- graph.viz(e, gradients = TRUE)
  added <- setdiff(g$nodes$label, graph.viz(e)$nodes$label)
  expect_identical(sub("\n.*", "", g$nodes$label[g$nodes$op == "elemwise_mul"]), c("*", "*", "head",
    "backward of", "backward of"))
  expect_true("gradient of A\n4" %in% added)
  expect_false(any(grepl("gradient of [BD]", added)))
  expect_length(grep("^backward of", added), 2)
  expect_length(grep("^head", added), 1)
  expect_identical(sum(g$edges$back), 4L)
  expect_length(grep("style = dashed", strsplit(g$dot, "\n")[[1]]), 4)
  grDevices::pdf(NULL)
  expect_invisible(plot(g))
  grDevices::dev.off()
  one <- mx.simple.bind(lenet(), mx.cpu(), grad.req = "write", data = c(9, 7, 1, 10))
  mx.exec.forward(one)
  mx.exec.backward(one)
  expect_false(any(grepl("^head", graph.viz(one, gradients = TRUE)$nodes$label)))
  expect_identical(graph.viz(mx.simple.bind(a, mx.cpu(), A = 1), gradients = TRUE)$nodes$name, "A")
  expect_error(graph.viz(net, gradients = TRUE), "needs an executor", class = "mxnet_value_error")
})

test_that("dims that do not follow are left out", {
  net <- mx.symbol.Group(lenet(), mx.symbol.Variable("other"))
  g <- graph.viz(net, shape = c(9, 7, 1, 10))
  expect_true("5X5X4X10" %in% g$edges$label)
})

test_that("drawings are plotted, and rendered where Graphviz is", {
  file <- tempfile(fileext = ".png")
  grDevices::png(file)
  for (direction in c("TD", "LR"))
    expect_invisible(plot(graph.viz(lenet(), shape = list(data = c(9, 7, 1, 10)), direction = direction,
                                    variables = TRUE)))
  grDevices::dev.off()
  expect_gt(file.size(file), 1000)
  svg <- mxnet:::mx.viz.internal.svg(graph.viz(lenet(), graph.width.px = 300))
  expect_identical(is.null(svg), !nzchar(Sys.which("dot")))
  if (!is.null(svg)) expect_match(svg, "^<svg width=\"300px\"")
})

test_that("an interactive session draws on the screen, or prints where there is none", {
  skip_on_os("windows")
  skip_if(requireNamespace("DiagrammeR", quietly = TRUE), "DiagrammeR draws")
  session <- function(screen) {
    code <- c(paste0(".libPaths(", paste(deparse(.libPaths()), collapse = ""), ")"), "library(mxnet)",
              "Sys.setenv(PATH = '')", # no Graphviz
              "screen <- function(...) grDevices::pdf(NULL)", "options(device = 'screen')",
              if (screen) "invisible(deviceIsInteractive('screen'))",
              "graph.viz(mx.symbol.relu(mx.symbol.Variable('data')))", "cat(length(dev.list()), 'windows')")
    out <- system2(file.path(R.home("bin"), "R"), c("--vanilla", "--interactive", "--quiet"), input = code,
                   stdout = TRUE, stderr = TRUE)
    paste(out, collapse = "\n")
  }
  with <- session(TRUE)
  expect_match(with, "1 windows", fixed = TRUE)
  expect_false(grepl("digraph", with, fixed = TRUE))
  without <- session(FALSE)
  expect_match(without, "0 windows", fixed = TRUE)
  expect_match(without, "digraph", fixed = TRUE)
})

test_that("notebooks show an SVG", {
  skip_if_not(capabilities("cairo"))
  before <- grDevices::dev.list()
  html <- mxnet:::repr_html.mx.graph(graph.viz(lenet(), graph.width.px = 300))
  expect_match(html, "^<svg")
  expect_match(html, "</svg>")
  expect_identical(grDevices::dev.list(), before)
})

test_that("JSON text is drawn too", {
  expect_identical(graph.viz(lenet()$as.json())$dot, graph.viz(lenet())$dot)
  expect_error(graph.viz("net"), class = "mxnet_format_error")
})

test_that("names are quoted", {
  g <- graph.viz(mx.symbol.relu(mx.symbol.Variable("a \"b\""), name = "r"), variables = TRUE)
  expect_match(g$dot, "label = \"a \\\"b\\\"\"", fixed = TRUE)
})

test_that("wrong arguments are errors", {
  expect_error(graph.viz(1), "must be a symbol or an executor", class = "mxnet_value_error")
  expect_error(graph.viz(lenet(), direction = "up"), "`direction`", class = "mxnet_value_error")
  expect_error(graph.viz(lenet(), type = "art"), "`type`", class = "mxnet_value_error")
  expect_error(graph.viz(lenet(), gradients = NULL), "`gradients`", class = "mxnet_value_error")
  expect_identical(nrow(graph.viz(mx.symbol.Variable("alone"), 3, variables = TRUE)$edges), 0L)
})
