#' Symbols
#'
#' A symbol is an expression of operators on variables: a network without its numbers. `mx.symbol.Variable` makes a
#' variable; `mx.symbol.*` functions apply an operator; arithmetic works too. Inputs of an operator that are not given
#' become variables named after it, such as `fc1_weight`. [mx.simple.bind()] gives a symbol arrays to compute with.
#'
#' Members of a symbol `s`: `s$arguments`, `s$outputs`, `s$auxiliary.states` (names), `s$attributes` (a list that can be
#' assigned to), `s$get.internals()`, `s$get.children()`, `s$get.output(i)` and `s[[i]]` (an output, by number from 1 or
#' by name), `s$infer.shape(list(data = dim))`, `s$apply(list(...))`, `s$as.json()`, `s$save(file)`, `s$debug.str()`.
#'
#' @param name Name of the variable.
#' @param x,symbol,object A symbol.
#' @param ... `mx.symbol.Group`: symbols, or lists of them. `mx.apply`: symbols that replace the variables of these
#' names;
#'   `name = ` renames the last node. `mx.symbol.infer.shape`, `summary`: shapes by argument name, such as
#'   `data = c(784, 100)`.
#' @param file.name,filename Path of a JSON file.
#' @param json.str JSON text.
#' @param data A list of symbols.
#' @param num.args Their number.
#' @param dim Native axis along which they are joined, from 0; the default is 1.
#' @param e1,e2 Symbols or numbers.
#' @return A symbol; `arguments` and `outputs`: names; `is.mx.symbol`: `TRUE` or `FALSE`; `mx.symbol.infer.shape`: a
#' list
#'   of `arg.shapes`, `out.shapes` and `aux.shapes`, each a named list of dimensions, or `NULL` when the given shapes
#'   do not determine the others; `summary`: a table of layers with their output's dims and numbers of parameters, and
#'   the bytes that the network needs when it is bound to these shapes (gradients are part of what training needs).
#' @examples
#' data <- mx.symbol.Variable("data")
#' net <- mx.symbol.FullyConnected(data, num_hidden = 16, name = "fc1")
#' net <- mx.symbol.Activation(net, act_type = "relu")
#' net <- mx.symbol.FullyConnected(net, num_hidden = 3, name = "fc2")
#' net <- mx.symbol.SoftmaxOutput(net, name = "sm")
#' net
#' arguments(net)
#' summary(net, data = c(4, 32))
#' mx.symbol.infer.shape(net, data = c(4, 32))$out.shapes
#' internals(net)$outputs
#' @name mx.symbol
#' @aliases Rcpp_MXSymbol Rcpp_MXSymbol-class
NULL

#' @exportClass Rcpp_MXSymbol
setClass("Rcpp_MXSymbol", slots = c(ptr = "externalptr"))

check.symbol <- function(x, call = sys.call(-1)) {
  if (!inherits(x, "Rcpp_MXSymbol")) mx.stop("value", "This works only for MXSymbol type.", argument = "x", call = call)
}

#' @rdname mx.symbol
#' @export
mx.symbol.Variable <- function(name) .Call(ffi_symbol_variable, name)

#' @rdname mx.symbol
#' @export
is.mx.symbol <- function(x) inherits(x, "Rcpp_MXSymbol")
is.MXSymbol <- is.mx.symbol

#' @rdname mx.symbol
#' @export
arguments <- function(x) {
  check.symbol(x)
  .Call(ffi_symbol_arguments, x)
}

#' @rdname mx.symbol
#' @export
outputs <- function(x) {
  check.symbol(x)
  .Call(ffi_symbol_outputs, x)
}

#' @rdname mx.symbol
#' @export
internals <- function(x) {
  check.symbol(x)
  .Call(ffi_symbol_internals, x)
}

#' @rdname mx.symbol
#' @export
children <- function(x) {
  check.symbol(x)
  .Call(ffi_symbol_children, x)
}

#' @rdname mx.symbol
#' @export
mx.symbol.Group <- function(...) {
  list <- unlist(list(...), recursive = TRUE, use.names = FALSE)
  if (!is.list(list)) list <- list(...)
  .Call(ffi_symbol_group, list)
}
mx.varg.symbol.internal.Group <- function(slist) .Call(ffi_symbol_group, slist)

#' @rdname mx.symbol
#' @export
mx.apply <- function(x, ...) {
  check.symbol(x)
  symbol.apply(x, list(...))
}

symbol.apply <- function(x, args) {
  if (!is.list(args) || is.object(args))
    mx.stop("value", "`kwargs` must be a named list of symbols, not ", mx.util.say(args), ".", argument = "kwargs")
  name <- args$name
  args$name <- NULL
  .Call(ffi_symbol_compose, x, name, args)
}

#' @rdname mx.symbol
#' @export
mx.symbol.infer.shape <- function(symbol, ...) {
  check.symbol(symbol)
  .Call(ffi_symbol_infer_shape, symbol, list(...), FALSE)
}

#' @rdname mx.symbol
#' @export
mx.symbol.save <- function(symbol, filename) {
  check.symbol(symbol)
  write.text(.Call(ffi_symbol_json, symbol), mx.util.path(filename, "filename"))
}

# A reader never sees half of the file, nor does a crash leave one.
write.text <- function(text, path) invisible(.Call(ffi_text_save, text, path))

#' @rdname mx.symbol
#' @export
mx.symbol.load <- function(file.name) {
  path <- mx.util.path(file.name, "file.name")
  if (!file.exists(path) || dir.exists(path))
    mx.stop("io", "\"", path, "\" is not a file that can be read.", argument = "file.name")
  text <- readChar(path, file.size(path), useBytes = TRUE)
  Encoding(text) <- "UTF-8"
  mx.symbol.load.json(text)
}

#' @rdname mx.symbol
#' @export
mx.symbol.load.json <- function(json.str) .Call(ffi_symbol_from_json, json.str)

# ---- members ----

.symbol.members <- c(
  "arguments", "outputs", "auxiliary.states", "attributes", "apply", "as.json", "save", "debug.str", "get.internals",
  "get.children", "get.output", "infer.shape"
)

#' @export
`$.Rcpp_MXSymbol` <- function(x, name) {
  switch(name,
    arguments = .Call(ffi_symbol_arguments, x),
    outputs = .Call(ffi_symbol_outputs, x),
    auxiliary.states = .Call(ffi_symbol_auxiliaries, x),
    attributes = .Call(ffi_symbol_attributes, x),
    apply = function(kwargs) symbol.apply(x, kwargs),
    as.json = function() .Call(ffi_symbol_json, x),
    save = function(filename) mx.symbol.save(x, filename),
    debug.str = function() .Call(ffi_symbol_describe, x),
    get.internals = function() .Call(ffi_symbol_internals, x),
    get.children = function() .Call(ffi_symbol_children, x),
    get.output = function(index) .Call(ffi_symbol_output, x, index),
    infer.shape = function(kwargs) .Call(ffi_symbol_infer_shape, x, kwargs, FALSE),
    mx.stop("value", "A symbol has no member '", name, "'. Known: ", paste(.symbol.members, collapse = ", "), ".")
  )
}

#' @export
`$<-.Rcpp_MXSymbol` <- function(x, name, value) {
  if (name != "attributes") mx.stop("value", "Only `attributes` of a symbol can be assigned to, not '", name, "'.")
  # s$attributes$key <- "value" hands back all attributes: what did not change need not be written, and an old value
  # under another name of the key (lr_mult is __lr_mult__) must not be.
  own <- .Call(ffi_symbol_attributes, x)
  same <- vapply(names(value), function(n) identical(value[[n]], own[[n]]), NA)
  .Call(ffi_symbol_set_attributes, x, if (any(same)) value[!same] else value)
  x
}

#' @export
`[[.Rcpp_MXSymbol` <- function(x, i, ...) {
  if (is.character(i)) {
    at <- match(i, .Call(ffi_symbol_outputs, x))
    if (length(i) != 1L || is.na(at)) mx.stop("value", "The symbol has no output '", paste(i, collapse = " "), "'.")
    i <- at
  }
  .Call(ffi_symbol_output, x, i)
}

#' @importFrom utils .DollarNames
#' @export
.DollarNames.Rcpp_MXSymbol <- function(x, pattern = "") grep(pattern, .symbol.members, value = TRUE)

#' @export
format.Rcpp_MXSymbol <- function(x, ...) {
  shown <- function(v, what) {
    if (length(v) > 8L) v <- c(v[1:7], paste0("... (", length(v), " ", what, ")"))
    paste(v, collapse = ", ")
  }
  paste0("<MXSymbol ", shown(outputs(x), "outputs"), " of ", shown(arguments(x), "arguments"), ">")
}

#' @rdname mx.symbol
#' @export
print.Rcpp_MXSymbol <- function(x, ...) {
  cat(format.Rcpp_MXSymbol(x), "\n", sep = "")
  invisible(x)
}

setMethod("show", "Rcpp_MXSymbol", function(object) print.Rcpp_MXSymbol(object))

#' @export
str.Rcpp_MXSymbol <- function(object, ...) cat("", format.Rcpp_MXSymbol(object), "\n")

#' @method all.equal Rcpp_MXSymbol
#' @export
all.equal.Rcpp_MXSymbol <- function(target, current, ...) {
  if (!inherits(current, "Rcpp_MXSymbol")) return("current is not a symbol")
  all.equal(.Call(ffi_symbol_json, target), .Call(ffi_symbol_json, current))
}

# What testthat compares.
#' @exportS3Method waldo::compare_proxy
compare_proxy.Rcpp_MXSymbol <- function(x, path) list(object = .Call(ffi_symbol_json, x), path = path)

#' @rdname mx.symbol
#' @export
summary.Rcpp_MXSymbol <- function(object, ...) {
  given <- list(...)
  symbol.summary(object, given, names(given), symbol.memory(object, given))
}

# The table of layers for the shapes in `given`; `inputs` names arguments that are no parameters, besides those that end
# in data or label.
symbol.summary <- function(object, given, inputs, memory) {
  nodes <- .Call(ffi_symbol_nodes, object)
  layer <- which(nodes$op != "null")
  all <- .Call(ffi_symbol_internals, object)
  shapes <- .Call(ffi_symbol_infer_shape, all, given, TRUE)
  known <- c(shapes$arg.shapes, shapes$aux.shapes)
  first <- match(paste0(nodes$name[layer], "_output"), names(shapes$out.shapes))
  first[is.na(first)] <- match(paste0(nodes$name[layer], "_output0"), names(shapes$out.shapes))[is.na(first)]
  text <- function(s) if (length(s) == 0L || any(s < 0)) "?" else paste(s, collapse = " x ")
  # Parameters belong to the first layer that uses them; what was given a shape, labels and states are data.
  data <- nodes$op == "null" & (nodes$name %in% inputs |
    grepl("(data|label|rnn\\.state|rnn\\.state\\.cell|seq\\.mask|init_[0-9]+_[hc])$", nodes$name))
  owner <- integer(length(nodes$name))
  for (l in layer) for (k in nodes$inputs[[l]]) if (nodes$op[k] == "null" && owner[k] == 0L) owner[k] <- l
  size <- vapply(nodes$name,
    function(n) if (any(known[[n]] < 0) || is.null(known[[n]])) NA_real_ else prod(known[[n]]), 0)
  count <- vapply(layer, function(l) sum(size[owner == l & !data & nodes$op == "null"]), 0)
  structure(
    list(
      table = data.frame(
        layer = nodes$name[layer], operator = nodes$op[layer],
        output = vapply(first, function(i) if (is.na(i)) "?" else text(shapes$out.shapes[[i]]), ""),
        parameters = count, stringsAsFactors = FALSE
      ),
      parameters = sum(count), memory = memory
    ),
    class = "summary.MXSymbol"
  )
}

# Bytes that the symbol needs when bound to these shapes: of its parameters, and of the plans to predict and to train.
# NULL when the shapes do not determine that.
symbol.memory <- function(symbol, shapes) {
  if (is.null(.Call(ffi_symbol_infer_shape, symbol, shapes, FALSE))) return(NULL)
  exec.memory(.Call(ffi_symbol_memory, symbol, mx.cpu(), exec.requests(symbol, "write"), shapes))
}

#' @export
print.summary.MXSymbol <- function(x, ...) {
  table <- x$table
  table$parameters <- format(mx.util.thousands(table$parameters), justify = "right")
  print(table, row.names = FALSE, right = FALSE)
  cat("Parameters in all: ", mx.util.thousands(x$parameters), "\n", sep = "")
  if (!is.null(x$memory)) {
    size <- vapply(x$memory, mx.util.bytes, "")
    cat("Memory: ", size[["parameters"]], " of parameters; besides, ", size[["inference"]], " to predict, ",
        size[["training"]], " to train\n", sep = "")
  }
  invisible(x)
}

# ---- operators ----

# Called by the generated functions: the arguments that their caller supplied, and only those, go to the operator.
symbol.operator <- function(.op, .frame, ...) {
  names <- names(.frame)
  names <- names[names != "..."]
  given <- !vapply(names, function(n) eval(call("missing", as.name(n)), .frame), NA)
  .Call(ffi_symbol_operator, .op, c(mget(names[given], envir = .frame), list(...)), NULL)
}

#' @rdname mx.symbol
#' @export
mx.symbol.concat <- function(data, num.args, dim = NULL, name = NULL) {
  if (!missing(num.args) && is.mx.symbol(num.args) || is.mx.symbol(dim))
    mx.stop("value", "The symbols go into one list: mx.symbol.concat(list(a, b), num.args = 2).", argument = "data")
  args <- list(data = if (is.list(data)) data else list(data), name = name)
  if (!missing(num.args)) args$num_args <- num.args
  if (!is.null(dim)) args$dim <- dim
  .Call(ffi_symbol_operator, "concat", args, NULL)
}

#' @rdname mx.symbol
#' @export
mx.symbol.Concat <- function(data, num.args, dim = NULL, name = NULL) {
  warning("mx.symbol.Concat is deprecated. Use mx.symbol.concat instead.")
  mx.symbol.concat(data, num.args, dim, name)
}

# Operator and hint for automatic names: symbol with symbol, number on the right, number on the left.
.symbol.arith <- list(
  "+" = c("_plus", "_PlusScalar", "_PlusScalar"), "-" = c("_minus", "_MinusScalar", "_rminus_scalar"),
  "*" = c("_mul", "_MulScalar", "_MulScalar"), "/" = c("_div", "_DivScalar", "_rdiv_scalar"),
  "^" = c("_power", "_power_scalar", "_rpower_scalar"), "%%" = c("_mod", "_ModScalar", "_RModScalar"),
  "==" = c("_equal", "_equal_scalar", "_equal_scalar"), "!=" = c("_not_equal", "_not_equal_scalar",
    "_not_equal_scalar"),
  ">" = c("_greater", "_greater_scalar", "_lesser_scalar"), "<" = c("_lesser", "_lesser_scalar", "_greater_scalar"),
  ">=" = c("_greater_equal", "_greater_equal_scalar", "_lesser_equal_scalar"),
  "<=" = c("_lesser_equal", "_lesser_equal_scalar", "_greater_equal_scalar"),
  "&" = c("_logical_and", "_logical_and_scalar", "_logical_and_scalar"),
  "|" = c("_logical_or", "_logical_or_scalar", "_logical_or_scalar"),
  min = c("_minimum", "_minimum_scalar", "_minimum_scalar")
)

symbol.binary <- function(generic, e1, e2, call) {
  ops <- .symbol.arith[[generic]]
  if (is.null(ops)) mx.stop("value", "`", generic, "` is not defined for symbols.", call = call)
  number <- function(x) (is.numeric(x) || is.logical(x)) && length(x) == 1L && !is.na(x) && !is.object(x)
  if (is.mx.symbol(e1) && is.mx.symbol(e2)) return(.Call(ffi_symbol_operator, ops[1L], list(e1, e2), NULL))
  if (is.mx.symbol(e1) && number(e2)) return(.Call(ffi_symbol_operator, ops[2L], list(e1, scalar = as.double(e2)),
    NULL))
  if (is.mx.symbol(e2) && number(e1)) return(.Call(ffi_symbol_operator, ops[3L], list(e2, scalar = as.double(e1)),
    NULL))
  mx.stop("value", "`", generic, "` works on two symbols, or on a symbol and a single number.", call = call)
}

#' @export
Ops.Rcpp_MXSymbol <- function(e1, e2) {
  call <- sys.call()
  if (missing(e2)) {
    return(switch(.Generic,
      "+" = e1,
      "-" = .Call(ffi_symbol_operator, "negative", list(e1), NULL),
      "!" = .Call(ffi_symbol_operator, "logical_not", list(e1), NULL)
    ))
  }
  if (.Generic == "%/%") {
    ratio <- symbol.binary("/", e1, e2, call)
    return(.Call(ffi_symbol_operator, "floor", list(ratio), NULL))
  }
  symbol.binary(.Generic, e1, e2, call)
}

#' @export
Math.Rcpp_MXSymbol <- function(x, ...) {
  op <- .nd.math[.Generic]
  if (is.na(op) || ...length() > 0L) mx.stop("value", "`", .Generic, "` is not defined for symbols.")
  .Call(ffi_symbol_operator, op, list(x), NULL)
}

#' @rdname mx.symbol
#' @export
mx.symbol.min <- function(e1, e2) symbol.binary("min", e1, e2, sys.call())
