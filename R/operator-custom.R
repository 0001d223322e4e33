#' Operators written in R
#'
#' `mx.operator.register` makes an operator of R functions. It is then used like any other: in symbols by
#' `mx.symbol.Custom`, also in training, and on arrays by `mx.nd.Custom`.
#'
#' The functions say by the names of their arguments what they want to be given, in any order:
#'
#' | | `forward` | `backward` | `infer.shape`, `infer.type` |
#' |---|---|---|---|
#' | inputs, auxiliary states, by name | arrays | arrays | dims, types |
#' | outputs, by name | | arrays | dims, types |
#' | head gradients: `<output>.grad` | | arrays | |
#' | parameters, by name | values | values | values |
#' | `is.train` | `TRUE` or `FALSE` | | |
#'
#' Arrays are `MXNDArray`s on the executor's device; [as.array()] makes R arrays of them. They are copies, which the
#' function may keep. Results may be `MXNDArray`s or R arrays.
#'
#' `forward` returns the output, or a list of outputs, in order or by name; elements with names of auxiliary states
#' replace those. `backward` returns the gradient of the loss with respect to the input, or a list of them; what is left
#' out or `NULL` is zero. An operator whose `backward` takes no head gradient is a loss: it starts the backward pass,
#' as [mx.symbol.SoftmaxOutput()] does.
#'
#' `infer.shape` and `infer.type` are called when all that they take is known. They return what follows: dims, or type
#' names such as `"float32"`, in a list by the names of inputs, states and outputs. A single value stands for the
#' output.
#'
#' A saved symbol has the name of the operator and the parameters, not the functions: register it in a new session
#' before loading. To register a name again replaces the functions, in symbols that exist too; names of inputs and
#' outputs can change only when nothing uses the operator any more.
#'
#' @param name Name of the operator.
#' @param forward,backward Functions that compute the outputs and the gradients of the inputs. Without `backward`
#'   gradients are zero.
#' @param infer.shape Function for dims. `NULL`: outputs have the dim of the first input.
#' @param infer.type Function for types. `NULL`: all have one type.
#' @param arguments Names of the inputs. `NULL`: the arguments of `forward` that are nothing else.
#' @param outputs Names of the outputs.
#' @param auxiliary.states Names of the auxiliary states: arrays that `forward` may change.
#' @param parameters Named list of parameters with defaults: numbers, logical values or strings. Values are turned into
#'   the type of the default.
#' @return `mx.operator.register`: `NULL`, invisibly. `mx.symbol.Custom`: a symbol. `mx.nd.Custom`: an `MXNDArray`, or a
#'   list of them when there are several outputs.
#' @section Errors: What goes wrong in the functions is an `mxnet_callback_error`, whose field `parent` is the original
#'   condition; results of a wrong dim are an `mxnet_shape_error`. Fields `operator` and `node` say where. Unknown names
#'   and parameters are an `mxnet_value_error`, registering anew what is in use an `mxnet_state_error`.
#' @seealso [mx.symbol.MakeLoss()] for losses that are made of existing operators.
#' @examples
#' # x for x > 0, slope * x elsewhere
#' mx.operator.register("leaky",
#'   forward = function(x, slope) x * ((x > 0) + slope * (x <= 0)),
#'   backward = function(x, slope, output.grad) output.grad * ((x > 0) + slope * (x <= 0)),
#'   parameters = list(slope = 0.25)
#' )
#' mx.nd.Custom(mx.nd.array(c(-2, 0, 2)), op_type = "leaky", slope = 0.1)
#'
#' # a loss: softmax and cross-entropy, with R's own functions
#' mx.operator.register("softmax.r",
#'   forward = function(data) {
#'     apply(as.array(data), 2, function(z) exp(z - max(z)) / sum(exp(z - max(z))))
#'   },
#'   backward = function(output, label) {
#'     p <- as.array(output)
#'     at <- cbind(as.array(label) + 1, seq_len(ncol(p)))
#'     p[at] <- p[at] - 1
#'     list(data = p)
#'   },
#'   infer.shape = function(data) list(label = data[2], output = data),
#'   arguments = c("data", "label")
#' )
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 3)
#' net <- mx.symbol.Custom(net, op_type = "softmax.r", name = "softmax")
#' arguments(net)
#' mx.set.seed(1)
#' model <- mx.model.FeedForward.create(net, X = t(scale(as.matrix(iris[1:4]))),
#'   y = as.integer(iris$Species) - 1, array.layout = "colmajor", num.round = 5,
#'   array.batch.size = 30, learning.rate = 0.01, eval.metric = mx.metric.accuracy)
#' @export
mx.operator.register <- function(name, forward, backward = NULL, infer.shape = NULL, infer.type = NULL,
                                 arguments = NULL, outputs = "output", auxiliary.states = character(),
                                 parameters = list()) {
  if (!is.character(name) || length(name) != 1L || is.na(name) || !nzchar(name))
    mx.stop("value", "`name` must be a string.", argument = "name")
  custom.parameters.check(parameters)
  custom.names.check(outputs, "outputs")
  custom.names.check(auxiliary.states, "auxiliary.states")
  values <- c(auxiliary.states, names(parameters))
  if (is.null(arguments)) {
    custom.function.check(forward, "forward", NULL)
    arguments <- setdiff(as.character(names(formals(forward))), c(values, "is.train", "..."))
  }
  custom.names.check(arguments, "arguments")
  if (length(outputs) == 0L || length(arguments) == 0L)
    mx.stop("value", "An operator has at least one input and one output.", argument = "arguments")
  all <- c(arguments, values, outputs)
  if (anyDuplicated(all))
    mx.stop("value", "The name `", all[anyDuplicated(all)], "` stands for two things.", argument = "arguments")
  grads <- paste0(outputs, ".grad")
  custom.function.check(forward, "forward", c(arguments, values, "is.train"))
  if (!is.null(backward)) custom.function.check(backward, "backward", c(all, grads))
  if (!is.null(infer.shape)) custom.function.check(infer.shape, "infer.shape", all)
  if (!is.null(infer.type)) custom.function.check(infer.type, "infer.type", all)
  is.loss <- is.function(backward) && !any(grads %in% names(formals(backward)))
  register <- function() {
    .Call(ffi_operator_register, name, c(arguments, auxiliary.states, outputs),
      c(length(arguments), length(auxiliary.states), length(outputs)), !is.null(backward),
      is.loss)
  }
  # what uses the old one may be garbage
  tryCatch(register(), mxnet_state_error = function(e) {
    gc()
    register()
  })
  .custom[[name]] <- list(
    name = name, forward = forward, backward = backward, infer.shape = infer.shape, infer.type = infer.type,
    is.loss = is.loss, arguments = arguments, outputs = outputs, states = auxiliary.states, parameters = parameters
  )
  invisible(NULL)
}

# What was registered, by name.
.custom <- new.env(parent = emptyenv())

#' @rdname mx.operator.register
#' @param data,... Inputs: symbols (lists of symbols), or arrays, in order or by name; and parameters by name.
#'   `mx.nd.Custom` takes several arrays in a list.
#' @param op_type Name of the operator.
#' @export
mx.symbol.Custom <- function(..., op_type, name = NULL) {
  given <- list(...)
  symbols <- vapply(given, function(x) is.mx.symbol(x) || is.list(x), NA)
  given[!symbols] <- lapply(given[!symbols], custom.text)
  if (!missing(op_type)) given$op_type <- op_type
  .Call(ffi_symbol_operator, "Custom", c(given, list(name = name)), NULL)
}

#' @rdname mx.operator.register
#' @param out `NULL`, or an `MXNDArray` (a list of them for several outputs) to write into.
#' @export
mx.nd.Custom <- function(data = NULL, op_type = NULL, ..., out = NULL) {
  if (!is.null(data) && !is.MXNDArray(data) && !inherits(data, "list"))
    mx.stop("value", "`data` must be an MXNDArray or a list of them, not ", mx.util.say(data), ".", argument = "data")
  given <- c(if (is.MXNDArray(data)) list(data) else data, list(...))
  arrays <- vapply(given, is.MXNDArray, NA)
  definition <- if (is.character(op_type) && length(op_type) == 1L) .custom[[op_type]]
  inputs <- given[arrays]
  if (!is.null(definition)) inputs <- custom.match(inputs, c(definition$arguments, definition$states), "inputs")
  values <- lapply(given[!arrays], custom.text)
  if (length(values) && (is.null(names(values)) || !all(nzchar(names(values)))))
    mx.stop("value", "Custom: only arrays can be given without a name.", argument = "...")
  names(values) <- gsub(".", "_", names(values), fixed = TRUE)
  .Call(ffi_nd_operator, "Custom", list(unname(inputs), op_type, values), out)
}

# ---- registering ----

custom.names.check <- function(names, argument) {
  if (!is.character(names) || anyNA(names) || !all(grepl("^[A-Za-z][A-Za-z0-9_]*$", names)))
    mx.stop("value", "`", argument, "` must be names of letters, digits and underscores.", argument = argument)
}

custom.parameters.check <- function(parameters) {
  fits <- function(p) is.atomic(p) && !is.null(p) && !anyNA(p) && (is.numeric(p) && length(p) || length(p) == 1L)
  if (!is.list(parameters) || length(parameters) != length(names(parameters)) || !all(vapply(parameters, fits, NA)))
    mx.stop("value", "`parameters` must be a named list of numbers, logical values and strings.",
      argument = "parameters")
  if (length(parameters)) custom.names.check(names(parameters), "parameters")
}

# `known`: what may be asked for; NULL: anything. Arguments with defaults are the function's own business.
custom.function.check <- function(f, argument, known) {
  if (typeof(f) != "closure") mx.stop("value", "`", argument, "` must be a function.", argument = argument)
  needs <- formals(f)
  needs <- setdiff(names(needs)[vapply(needs, identical, NA, quote(expr = ))], "...")
  strange <- setdiff(needs, known)
  if (!is.null(known) && length(strange))
    mx.stop("value", "`", argument, "` takes `", strange[1L], "`, but can only be given: ",
      paste(known, collapse = ", "), ".", argument = argument)
}

# ---- parameters: text in the graph, values in the functions ----

custom.text <- function(value) {
  if (!is.numeric(value) || is.object(value)) return(value)
  text <- vapply(value, format, "", digits = 15L)
  exact <- as.numeric(text) == value
  text[!exact %in% TRUE] <- vapply(value[!exact %in% TRUE], format, "", digits = 17L)
  if (length(text) == 1L) text else paste0("(", paste(text, collapse = ", "), ")")
}

custom.value <- function(text, default, key) {
  if (is.character(default)) return(text)
  value <- if (is.logical(default)) switch(text, "1" = TRUE, "0" = FALSE, as.logical(text))
    else suppressWarnings(as.numeric(strsplit(gsub("[][() ]", "", text), ",")[[1L]]))
  if (anyNA(value) || length(value) == 0L)
    mx.stop("value", key, " = ", text, " is not valid; expected ",
      if (is.logical(default)) "TRUE or FALSE" else "numbers", ".", argument = key)
  if (is.integer(default) && all(value == trunc(value))) as.integer(value) else value
}

custom.values <- function(definition, given) {
  strange <- setdiff(names(given), names(definition$parameters))
  if (length(strange))
    mx.stop("value", "'", definition$name, "' has no parameter '", strange[1L], "'; it knows ",
      if (length(definition$parameters)) paste(names(definition$parameters), collapse = ", ") else "none", ".",
      argument = strange[1L])
  values <- definition$parameters
  for (key in names(given)) values[[key]] <- custom.value(given[[key]], values[[key]], key)
  values
}

# ---- what C calls ----

# A list, or for an error the texts c(code, message, argument, expected, actual).
custom.call <- function(what, name, given, rest) {
  .mx$custom.error <- NULL
  tryCatch(
    {
      definition <- .custom[[name]]
      values <- custom.values(definition, given)
      switch(what,
        check = list(),
        infer.shape = , infer.type = custom.infer(what, definition, values, rest),
        custom.run(what, definition, values, rest)
      )
    },
    error = function(e) {
      text <- function(x) if (is.null(x)) "" else as.character(x)
      code <- sub("^mxnet_(.*)_error$", "\\1", class(e)[1L])
      c(code, conditionMessage(e), text(e$argument), text(e$expected), text(e$actual))
    }
  )
}

# Calls one of the user's functions with what it asks for.
custom.ask <- function(f, what, definition, values) {
  tryCatch(do.call(f, values[intersect(names(formals(f)), names(values))], quote = TRUE), error = function(e) {
    .mx$custom.error <- e
    mx.stop("callback", what, " of '", definition$name, "' failed: ", conditionMessage(e))
  })
}

# A list of results by name. A single one needs no list; those without a name are in the order of `unnamed`.
custom.match <- function(results, names, what, unnamed = names) {
  if (!is.list(results) || is.MXNDArray(results)) results <- list(results)
  given <- if (is.null(names(results))) character(length(results)) else names(results)
  strange <- setdiff(given[nzchar(given)], names)
  if (length(strange))
    mx.stop("value", what, ": there is no `", strange[1L], "`, only ", paste(names, collapse = ", "), ".",
      argument = what)
  if (anyDuplicated(given[nzchar(given)]))
    mx.stop("value", what, ": `", given[anyDuplicated(given)], "` is given twice.", argument = what)
  rest <- setdiff(unnamed, given)
  if (sum(!nzchar(given)) > length(rest))
    mx.stop("value", what, ": ", length(results), " values are given, but there is room for ",
      sum(nzchar(given)) + length(rest), " (", paste(unnamed, collapse = ", "), ").", argument = what)
  given[!nzchar(given)] <- rest[seq_len(sum(!nzchar(given)))]
  names(results) <- given
  results[intersect(names, given)]
}

custom.infer <- function(what, definition, values, known) {
  inputs <- c(definition$arguments, definition$states)
  names(known) <- c(inputs, definition$outputs)
  f <- definition[[what]]
  if (is.null(f)) {
    given <- known[!vapply(known, is.null, NA)]
    if (what == "infer.type" && length(given)) known[] <- given[1L]
    if (what == "infer.shape") known[definition$outputs] <- known[definition$arguments[1L]]
    return(unname(known))
  }
  asked <- intersect(names(formals(f)), names(known))
  if (any(vapply(known[asked], is.null, NA))) return(unname(known))
  found <- custom.ask(f, what, definition, c(known[asked], values))
  found <- custom.match(found, names(known), paste0(what, " of '", definition$name, "'"), definition$outputs)
  for (key in names(found)) {
    good <- if (what == "infer.type") is.character(found[[key]]) && length(found[[key]]) == 1L
      else is.numeric(found[[key]]) && length(found[[key]]) && all(found[[key]] >= 0)
    if (!isTRUE(good))
      mx.stop("value", what, " of '", definition$name, "': ", key, " is ", paste(format(found[[key]]), collapse = ", "),
        ", not ", if (what == "infer.type") "the name of a type." else "a dim.", argument = key)
    known[[key]] <- found[[key]]
  }
  unname(known)
}

# forward: outputs, then states (NULL: unchanged); backward: gradients of the arguments (NULL: zero).
custom.run <- function(what, definition, values, rest) {
  names(rest) <- c("inputs", "dims", "types", "wanted", "ctx", "is.train")
  inputs <- rest$inputs
  if (what == "forward") {
    names(inputs) <- c(definition$arguments, definition$states)
    inputs$is.train <- rest$is.train
    targets <- c(definition$outputs, definition$states)
  } else {
    names(inputs) <- c(if (!definition$is.loss) paste0(definition$outputs, ".grad"), definition$arguments,
      definition$states, definition$outputs)
    targets <- definition$arguments
  }
  results <- custom.ask(definition[[what]], what, definition, c(inputs, values))
  results <- custom.match(results, targets, paste0("the result of ", what, " of '", definition$name, "'"))
  missing <- setdiff(definition$outputs, names(results)[!vapply(results, is.null, NA)])
  if (what == "forward" && length(missing))
    mx.stop("value", "forward of '", definition$name, "' returned no `", missing[1L], "`.", argument = missing[1L])
  out <- vector("list", length(targets))
  for (i in which(rest$wanted & targets %in% names(results))) {
    value <- results[[targets[i]]]
    if (!is.null(value))
      out[[i]] <- custom.array(value, rest$dims[[i]], rest$types[[i]], rest$ctx, targets[i],
        paste0(what, " of '", definition$name, "'"))
  }
  out
}

# A result as the executor wants it.
custom.array <- function(value, dim, type, ctx, key, where) {
  if (!is.MXNDArray(value) && !is.numeric(value) && !is.logical(value))
    mx.stop("value", where, ": ", key, " is an object of class ", class(value)[1L], ", not an array.", argument = key)
  actual <- if (is.null(dim(value))) length(value) else dim(value)
  vector <- is.null(dim(value)) && length(value) == prod(dim) && sum(dim != 1) <= 1
  if (!vector && !identical(as.numeric(actual), as.numeric(dim))) {
    show <- function(d) if (length(d) == 1L) paste(d) else paste0("c(", paste(d, collapse = ", "), ")")
    mx.stop("shape", where, ": ", key, " has dim ", show(actual), ", expected ", show(dim), ".", argument = key,
      expected = show(dim), actual = show(actual))
  }
  if (!is.MXNDArray(value)) return(mx.nd.array(array(value, dim), ctx, type))
  value <- if (mx.nd.dtype(value) == type) value else mx.nd.cast(value, dtype = type)
  if (identical(unclass(ctx(value)), unclass(ctx))) value else mx.nd.copyto(value, ctx)
}
