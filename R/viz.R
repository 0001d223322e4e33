# Drawings of networks: Graphviz text, SVG where Graphviz is installed, and base graphics everywhere.

#' Draw a network
#'
#' Returns a drawing of a symbol, or of an executor with the values it holds. Printing it in an interactive session
#' shows it through Graphviz (package DiagrammeR or the program `dot`), or else with base graphics as `plot()` does;
#' without a screen it prints the Graphviz text. `as.character()` gives that text. Documents made with knitr and Jupyter
#' notebooks show the drawing.
#'
#' @param symbol A symbol, its JSON text, or an executor.
#' @param shape Dims of the inputs, a named list or, for the input `data`, a vector: connections then carry the dims of
#'   what flows.
#' @param direction `"TD"`: from top to bottom, `"LR"`: from left to right.
#' @param type `"graph"`, or `"vis"` for an interactive widget (needs package visNetwork).
#' @param graph.width.px,graph.height.px Size of the drawing in pixels, or `NULL`.
#' @param variables Draw parameters and inputs too? For an executor they are, with their values.
#' @param gradients For an executor: draw the way back too? From the head gradients (blue) of outputs that are no losses
#'   through the operators to the gradients of the arguments (green).
#' @return An object of class `mx.graph`: a list of `dot` (Graphviz text), `nodes` and `edges` (data frames), and the
#'   size.
#' @section Errors: `mxnet_value_error` when `symbol` is neither symbol nor executor, `direction` or `type` is another
#'   word, or `gradients` are wanted of a symbol.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 8, name = "fc1")
#' net <- mx.symbol.Activation(net, act_type = "relu", name = "relu1")
#' net <- mx.symbol.SoftmaxOutput(net, name = "softmax")
#' drawing <- graph.viz(net, shape = c(4, 10))
#' cat(as.character(drawing))
#' plot(drawing)
#' @export
graph.viz <- function(symbol, shape = NULL, direction = "TD", type = "graph", graph.width.px = NULL,
                      graph.height.px = NULL,
                      variables = FALSE, gradients = FALSE) {
  mx.util.choice(direction, "direction", c("TD", "LR"))
  mx.util.choice(type, "type", c("graph", "vis"))
  if (!is.null(graph.width.px)) mx.util.scalar(graph.width.px, "graph.width.px", 1)
  if (!is.null(graph.height.px)) mx.util.scalar(graph.height.px, "graph.height.px", 1)
  variables <- mx.util.flag(variables, "variables")
  gradients <- mx.util.flag(gradients, "gradients")
  exec <- NULL
  if (is.character(symbol)) symbol <- mx.symbol.load.json(symbol)
  if (inherits(symbol, "Rcpp_MXExecutor")) {
    exec <- symbol
    symbol <- exec$symbol
    variables <- TRUE
  }
  if (!is.mx.symbol(symbol)) mx.stop("value", "`symbol` must be a symbol or an executor, not ", mx.util.say(symbol),
                                     ".")
  if (!is.null(shape) && !is.list(shape)) shape <- list(data = shape)
  drawing <- mx.viz.internal.graph(symbol, shape, exec, variables)
  if (gradients) {
    if (is.null(exec)) mx.stop("value", "`gradients` needs an executor: a symbol has none.")
    drawing <- mx.viz.internal.gradients(drawing, exec)
  }
  drawing <- structure(c(list(dot = mx.viz.internal.dot(drawing, direction)), drawing,
                         list(direction = direction, width = graph.width.px,
                              height = graph.height.px)), class = "mx.graph")
  if (type == "graph") return(drawing)
  if (!requireNamespace("visNetwork", quietly = TRUE)) {
    message("type = \"vis\" needs the package visNetwork; this is the plain drawing.")
    return(drawing)
  }
  nodes <- with(drawing$nodes, data.frame(id = id, label = label, shape = shape, color = fill))
  edges <- with(drawing$edges, data.frame(from = from, to = to, label = label, dashes = back, arrows = "to"))
  net <- visNetwork::visNetwork(nodes, edges, width = graph.width.px, height = graph.height.px)
  visNetwork::visHierarchicalLayout(net, direction = if (direction == "TD") "UD" else "LR", sortMethod = "directed")
}

# The table of a symbol's nodes: name, op, inputs (rows), indices (which output), attributes.
mx.viz.internal.nodes <- function(symbol) .Call(ffi_symbol_nodes, symbol)

mx.viz.internal.fill <- local({
  kinds <- list(
    "#fb8072" = c("FullyConnected", "Convolution", "Deconvolution", "RNN", "Embedding"),
    "#ffffb3" = c("Activation", "LeakyReLU", "relu", "sigmoid", "tanh"),
    "#80b1d3" = "Pooling",
    "#bebada" = c("BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm"),
    "#fdb462" = c("Flatten", "Reshape", "Concat", "transpose", "SwapAxis", "SliceChannel"),
    "#b3de69" = c("SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput",
                  "SVMOutput", "MakeLoss", "make_loss"))
  stats::setNames(rep(names(kinds), lengths(kinds)), unlist(kinds))
})

# What a node is called: operator, name, and the attributes that say most.
mx.viz.internal.label <- function(op, name, attributes) {
  told <- c("num_hidden", "act_type", "pool_type", "kernel", "stride", "num_filter", "state_size", "mode", "input_dim",
            "output_dim", "p", "scalar")
  given <- attributes[intersect(told, names(attributes))]
  tuple <- names(given) %in% c("kernel", "stride") # native order: R's reversed
  given[tuple] <- vapply(strsplit(gsub("[][() ]", "", given[tuple]), ","), function(x) paste(rev(x), collapse = "X"),
                         "")
  sign <- c(elemwise_add = "+", elemwise_sub = "-", elemwise_mul = "*", elemwise_div = "/")[op]
  lines <- if (length(given)) paste0(sub("_", " ", names(given)), ": ", given)
  paste(c(if (is.na(sign)) sub("^_", "", op) else sign, name, lines), collapse = "\n")
}

mx.viz.internal.value <- function(x) {
  v <- as.vector(as.array(x))
  if (length(v) <= 4L) paste(format(v, digits = 4, trim = TRUE), collapse = " ") else mx.util.dim(dim(x))
}

# Nodes and edges to draw.
mx.viz.internal.graph <- function(symbol, shape, exec, variables) {
  t <- mx.viz.internal.nodes(symbol)
  variable <- t$op == "null"
  aux <- t$name %in% symbol$auxiliary.states
  shown <- if (variables) rep(TRUE, length(t$name)) else !variable | t$name == "data" | lengths(t$inputs) > 0
  label <- ifelse(variable, t$name, mapply(mx.viz.internal.label, t$op, t$name, t$attributes))
  if (!is.null(exec)) {
    values <- c(exec$ref.arg.arrays, exec$ref.aux.arrays)
    grads <- exec$ref.grad.arrays
    for (i in which(variable & t$name %in% names(values))) {
      n <- t$name[i]
      label[i] <- paste0(n, "\n", mx.viz.internal.value(values[[n]]), if (!is.null(grads[[n]])) paste0("\ngradient ",
          mx.viz.internal.value(grads[[n]])))
    }
    result <- logical(length(t$name))
    outs <- exec$ref.outputs
    for (n in names(outs)) {
      i <- match(sub("_output[0-9]*$", "", n), t$name)
      if (is.na(i)) next
      label[i] <- paste0(label[i], "\n= ", mx.viz.internal.value(outs[[n]]))
      result[i] <- TRUE
    }
  }
  fill <- mx.viz.internal.fill[t$op]
  fill[is.na(fill)] <- "#fccde5"
  fill[variable] <- "#ffd9b0"
  fill[aux] <- "#7fb77f"
  if (!is.null(exec)) fill[result] <- "#f4a6a0"
  plain <- t$op %in% c("Pooling", "Flatten", "Reshape", "Concat") | variable
  nodes <- data.frame(id = seq_along(t$name), name = t$name, op = t$op, label = unname(label), fill = unname(fill),
                      shape = ifelse(plain, "ellipse", "box"), stringsAsFactors = FALSE)[shown, ]

  # What follows from the dims given, be it not everything.
  dims <- if (!is.null(shape))
    .Call(ffi_symbol_infer_shape, internals(symbol), shape[names(shape) %in% symbol$arguments], TRUE)$out.shapes
  text <- function(i, k) {
    candidates <- c(t$name[i], paste0(t$name[i], c("_output", paste0("_output", k - 1L))))
    d <- dims[[intersect(candidates, names(dims))[1L]]]
    if (!length(d) || any(d < 0)) "" else paste(d, collapse = "X")
  }
  from <- unlist(t$inputs)
  to <- rep(seq_along(t$inputs), lengths(t$inputs))
  edges <- data.frame(from = as.integer(from), to = as.integer(to),
                      label = if (length(dims)) as.character(mapply(text, from, unlist(t$indices))) else rep("",
                          length(from)), back = logical(length(from)), stringsAsFactors = FALSE)
  list(nodes = nodes, edges = edges[edges$from %in% nodes$id & edges$to %in% nodes$id, ])
}

mx.viz.internal.losses <- c("SoftmaxOutput", "LinearRegressionOutput", "LogisticRegressionOutput",
  "MAERegressionOutput", "SVMOutput", "MakeLoss", "make_loss")

# Adds the way back: a node for each operator that gradients pass, one for each gradient, and the head gradients.
mx.viz.internal.gradients <- function(drawing, exec) {
  nodes <- drawing$nodes
  edges <- drawing$edges
  grads <- mx.util.filter.null(exec$ref.grad.arrays)
  if (!length(grads)) return(drawing)
  nodes$label[nodes$op == "null"] <- sub("\ngradient .*", "", nodes$label[nodes$op == "null"])
  wanted <- nodes$name %in% names(grads) & nodes$op == "null"
  passed <- wanted
  for (i in seq_along(passed))
    passed[i] <- passed[i] || any(passed[match(edges$from[edges$to == nodes$id[i]], nodes$id)])
  back <- nodes[passed, ]
  offset <- max(nodes$id)
  back <- back[rev(seq_len(nrow(back))), ]
  leaf <- back$op == "null"
  back$label[leaf] <- paste0("gradient of ", back$name[leaf], "\n",
    vapply(grads[back$name[leaf]], mx.viz.internal.value, ""))
  back$label[!leaf] <- paste0("backward of\n", back$name[!leaf])
  back$fill <- ifelse(leaf, "#b3de69", "#eeeeee")
  through <- edges[edges$from %in% back$id & edges$to %in% back$id, ]
  reversed <- data.frame(from = through$to + offset, to = through$from + offset, label = through$label,
                         back = rep(TRUE, nrow(through)), stringsAsFactors = FALSE)
  out <- unique(match(sub("_output[0-9]*$", "", names(exec$ref.outputs)), nodes$name))
  out <- nodes[out[passed[out]], ]
  loss <- out$op %in% mx.viz.internal.losses
  head <- out[!loss, ]
  turn <- function(from, to) data.frame(from = from, to = to, label = rep("", length(to)), back = rep(TRUE, length(to)),
                                        stringsAsFactors = FALSE)
  edges <- rbind(edges, turn(out$id[loss], out$id[loss] + offset), turn(head$id, head$id + 2L * offset),
                 turn(head$id + 2L * offset, head$id + offset), reversed)
  back$id <- back$id + offset
  head$id <- head$id + 2L * offset
  head$label <- rep("head\ngradient", nrow(head))
  head$fill <- rep("#80b1d3", nrow(head))
  back$shape <- rep("box", nrow(back))
  head$shape <- rep("ellipse", nrow(head))
  list(nodes = rbind(nodes, head, back), edges = edges)
}

mx.viz.internal.dot <- function(graph, direction) {
  quoted <- function(x) paste0("\"", gsub("\n", "\\n", gsub("\"", "\\\"", x, fixed = TRUE), fixed = TRUE), "\"")
  paste(c(
    "digraph network {",
    sprintf("  graph [rankdir = %s]", if (direction == "TD") "TB" else "LR"),
    "  node [style = filled, fontname = Helvetica, fontsize = 11]",
    "  edge [fontname = Helvetica, fontsize = 10]",
    with(graph$nodes, sprintf("  n%d [label = %s, shape = %s, fillcolor = %s]", id, quoted(label), shape,
                              quoted(fill))),
    with(graph$edges, sprintf("  n%d -> n%d%s%s", from, to,
      ifelse(nzchar(label), paste0(" [label = ", quoted(label), "]"), ""), ifelse(back, " [style = dashed]", ""))),
    "}\n"), collapse = "\n")
}

#' Show a drawing of a network
#'
#' @param x A drawing made by [graph.viz()].
#' @param ... For `plot`: not used. For the others: passed on.
#' @param cex Size of the text.
#' @return `as.character` returns the Graphviz text; `print` and `plot` return their argument, invisibly.
#' @examples
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 8, name = "fc1")
#' plot(graph.viz(net, variables = TRUE))
#' @export
print.mx.graph <- function(x, ...) {
  if (!interactive()) {
    cat(x$dot)
  } else if (requireNamespace("DiagrammeR", quietly = TRUE)) {
    print(DiagrammeR::grViz(x$dot, width = x$width, height = x$height))
  } else if (!is.null(svg <- mx.viz.internal.svg(x))) {
    file <- tempfile(fileext = ".html")
    writeLines(c("<meta charset='utf-8'>", svg), file)
    getOption("viewer", utils::browseURL)(file)
  } else if (grDevices::dev.interactive(orNone = TRUE)) {
    plot(x)
  } else {
    cat(x$dot)
  }
  invisible(x)
}

#' @rdname print.mx.graph
#' @export
as.character.mx.graph <- function(x, ...) x$dot

# SVG text by Graphviz, or NULL without it.
mx.viz.internal.svg <- function(x) {
  dot <- Sys.which("dot")
  if (!nzchar(dot)) return(NULL)
  svg <- suppressWarnings(system2(dot, "-Tsvg", input = x$dot, stdout = TRUE, stderr = FALSE))
  if (!is.null(attr(svg, "status"))) return(NULL)
  svg <- svg[seq(grep("<svg", svg)[1L], length(svg))]
  size <- c(if (!is.null(x$width)) sprintf("width=\"%gpx\"", x$width),
            if (!is.null(x$height)) sprintf("height=\"%gpx\"", x$height))
  if (length(size)) svg[1L] <- sub("<svg[^>]*", paste(c("<svg", size), collapse = " "), svg[1L])
  paste(svg, collapse = "\n")
}

#' @exportS3Method knitr::knit_print
knit_print.mx.graph <- function(x, ...) {
  svg <- mx.viz.internal.svg(x)
  if (is.null(svg)) {
    plot(x)
    return(invisible(x))
  }
  knitr::asis_output(paste0("\n<div>\n", svg, "\n</div>\n"))
}

# Jupyter notebooks: the SVG of Graphviz, or that of plot().
#' @exportS3Method repr::repr_html
repr_html.mx.graph <- function(obj, ...) {
  svg <- mx.viz.internal.svg(obj)
  if (!is.null(svg) || !capabilities("cairo")) return(svg)
  file <- tempfile(fileext = ".svg")
  on.exit(unlink(file))
  size <- function(px) if (is.null(px)) 7 else px / 72
  grDevices::svg(file, size(obj$width), size(obj$height))
  tryCatch(plot(obj), finally = grDevices::dev.off())
  paste(readLines(file)[-1L], collapse = "\n") # without the XML declaration
}

#' @rdname print.mx.graph
#' @export
plot.mx.graph <- function(x, cex = 0.8, ...) {
  old <- graphics::par(mar = c(0, 0, 0, 0))
  on.exit(graphics::par(old))
  graphics::plot.new()
  at <- mx.viz.internal.layout(x, cex)
  room <- graphics::par("pin")
  scale <- min(1, room / at$size)
  cex <- cex * scale
  graphics::plot.window((c(-1, 1) * room[1L] / scale + at$size[1L]) / 2,
                        (c(-1, 1) * room[2L] / scale + at$size[2L]) / 2,
                        xaxs = "i", yaxs = "i")
  row <- match(seq_len(max(x$nodes$id)), x$nodes$id)
  for (i in seq_len(nrow(x$edges))) {
    a <- row[x$edges$from[i]]
    b <- row[x$edges$to[i]]
    ends <- mx.viz.internal.arrow(at, a, b, x$nodes$shape == "ellipse")
    graphics::arrows(ends[1L], ends[2L], ends[3L], ends[4L], length = 0.08 * scale, col = "grey40",
                     lty = if (x$edges$back[i]) 2 else 1)
    if (nzchar(x$edges$label[i]))
      graphics::text(mean(ends[c(1L, 3L)]), mean(ends[c(2L, 4L)]), x$edges$label[i], cex = cex * 0.9, offset = 0.3,
                     pos = if (x$direction == "TD") 4 else 3)
  }
  angle <- seq(0, 2 * pi, length.out = 60)
  for (i in seq_along(at$x)) {
    if (x$nodes$shape[i] == "box")
      graphics::rect(at$x[i] - at$w[i], at$y[i] - at$h[i], at$x[i] + at$w[i], at$y[i] + at$h[i], col = x$nodes$fill[i])
    else graphics::polygon(at$x[i] + at$w[i] * cos(angle), at$y[i] + at$h[i] * sin(angle), col = x$nodes$fill[i])
    graphics::text(at$x[i], at$y[i], x$nodes$label[i], cex = cex)
  }
  invisible(x)
}

# Start and end of an arrow between the borders of nodes a and b.
mx.viz.internal.arrow <- function(at, a, b, ellipse) {
  dx <- at$x[b] - at$x[a]
  dy <- at$y[b] - at$y[a]
  border <- function(i) {
    u <- abs(c(dx / at$w[i], dy / at$h[i]))
    min(0.5, 1 / if (ellipse[i]) sqrt(sum(u^2)) else max(u))
  }
  s <- border(a)
  e <- border(b)
  c(at$x[a] + s * dx, at$y[a] + s * dy, at$x[b] - e * dx, at$y[b] - e * dy)
}

# Centres (x, y) and half sizes (w, h) of the nodes in inches, and the size of the whole. Layers are by the longest path
# from the inputs; within a layer nodes are near what comes before them.
mx.viz.internal.layout <- function(x, cex) {
  inches <- function(text, measure) measure(text, units = "inches", cex = cex)
  plain <- x$nodes$shape == "box"
  w <- inches(x$nodes$label, graphics::strwidth) / 2 * ifelse(plain, 1, 1.3) + 0.08
  h <- inches(x$nodes$label, graphics::strheight) / 2 * ifelse(plain, 1, 1.3) + 0.08
  from <- match(x$edges$from, x$nodes$id)
  to <- match(x$edges$to, x$nodes$id)
  n <- length(w)
  layer <- integer(n)
  for (i in seq_len(n)) { # rows are in topological order
    before <- from[to == i]
    if (length(before)) layer[i] <- max(layer[before]) + 1L
  }
  for (i in rev(seq_len(n))) { # inputs go next to their first user
    after <- to[from == i]
    if (!any(to == i) && length(after)) layer[i] <- min(layer[after]) - 1L
  }
  down <- x$direction == "TD"
  along <- if (down) h else w   # half sizes in the direction of the arrows
  across <- if (down) w else h
  gap <- 0.3 + if (down) 0 else max(0, inches(x$edges$label, graphics::strwidth))
  main <- cross <- numeric(n)
  end <- 0.1
  for (l in sort(unique(layer))) {
    rows <- which(layer == l)
    want <- vapply(rows, function(i) mean(c(cross[from[to == i]], if (!any(to == i)) 0)), 0)
    rows <- rows[order(want)]
    width <- 2 * across[rows] + 0.2
    cross[rows] <- cumsum(width) - width / 2 - sum(width) / 2
    thick <- max(along[rows])
    main[rows] <- end + thick
    end <- end + 2 * thick + gap
  }
  end <- end - gap + 0.1
  span <- range(cross - across, cross + across) + c(-0.1, 0.1)
  size <- c(diff(span), end)
  if (down) list(x = cross - span[1L], y = end - main, w = w, h = h, size = size)
  else list(x = main, y = span[2L] - cross, w = w, h = h, size = rev(size))
}
