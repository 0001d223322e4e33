#' Executors
#'
#' An executor is a symbol with arrays, ready to run on a device. `mx.simple.bind` allocates the arrays for the given
#' shapes, filled with zeros; the update functions copy values in; `mx.exec.forward` computes the outputs and
#' `mx.exec.backward` the gradients.
#'
#' Members of an executor `e`: `e$ref.arg.arrays`, `e$ref.grad.arrays`, `e$ref.aux.arrays`, `e$ref.outputs` are lists
#' of the
#' arrays in use; `e$arg.arrays`, `e$grad.arrays`, `e$aux.arrays`, `e$outputs` are copies that do not change any more.
#' Gradients that were not asked for are `NULL`. `e$symbol` is the symbol, `e$memory` the bytes of the plans for
#' inference and training (outputs included), of outputs, workspace, parameters and gradients.
#'
#' @param symbol A symbol.
#' @param ctx A context such as [mx.cpu()].
#' @param grad.req `"null"`, `"write"` or `"add"` (gradients add up over calls of `mx.exec.backward`): for all arguments
#'   except those in `fixed.param` and those whose names end in `data` or `label`.
#' @param fixed.param Names of arguments without gradient.
#' @param ... `mx.simple.bind`: shapes by name of argument, such as `data = c(784, 100)`. `mx.exec.backward`: gradients
#'   with respect to the outputs, for outputs that are not losses.
#' @param exec,object An executor.
#' @param arg.arrays A list of `MXNDArray`s.
#' @param match.name Whether arrays are matched by name instead of by position.
#' @param skip.null Whether `NULL` elements are left out.
#' @param is.train Whether this is a step of training: gradients will be computed, dropout is active, and batch
#'   normalization uses the batch's statistics.
#' @return `mx.simple.bind`: an executor; `summary`: a table of layers as that of a symbol ([mx.symbol]), with the
#'   memory of this binding; the others `NULL`, invisibly.
#' @examples
#' x <- mx.symbol.Variable("x")
#' e <- mx.simple.bind(x * x, mx.cpu(), grad.req = "write", x = 2)
#' mx.exec.update.arg.arrays(e, list(x = mx.nd.array(c(3, 4))), match.name = TRUE)
#' mx.exec.forward(e)
#' e$ref.outputs
#' mx.exec.backward(e, mx.nd.ones(2))
#' e$ref.grad.arrays$x
#' @name mx.simple.bind
#' @aliases Rcpp_MXExecutor Rcpp_MXExecutor-class
NULL

#' @exportClass Rcpp_MXExecutor
setClass("Rcpp_MXExecutor", slots = c(ptr = "externalptr"))

#' @rdname mx.simple.bind
#' @export
mx.simple.bind <- function(symbol, ctx, grad.req = "null", fixed.param = NULL, ...) {
  check.symbol(symbol)
  fixed.param <- mx.util.names(fixed.param, "fixed.param")
  grad.req <- mx.util.choice(grad.req, "grad.req", c("null", "write", "add"))
  .Call(ffi_exec_simple_bind, symbol, ctx, exec.requests(symbol, grad.req, fixed.param), list(...))
}

# The request for each argument.
exec.requests <- function(symbol, grad.req, fixed.param = NULL) {
  names <- .Call(ffi_symbol_arguments, symbol)
  ifelse(names %in% fixed.param | grepl("(data|label)$", names), "null", grad.req)
}

# Binds to copies of arrays, in the order of arguments(symbol).
mx.symbol.bind <- function(symbol, ctx, arg.arrays, aux.arrays, grad.reqs) {
  .Call(ffi_exec_bind, symbol, ctx, arg.arrays, aux.arrays, grad.reqs)
}

# Binds to the given arrays themselves, so that executors can share them. grad.arrays: a list like arg.arrays, NULL
# where no
# gradient is wanted.
mx.exec.bind.shared <- function(symbol, ctx, arg.arrays, grad.arrays, aux.arrays) {
  .Call(ffi_exec_bind_shared, symbol, ctx, arg.arrays, grad.arrays, aux.arrays)
}

#' @rdname mx.simple.bind
#' @export
mx.exec.update.arg.arrays <- function(exec, arg.arrays, match.name = FALSE, skip.null = FALSE) {
  invisible(.Call(ffi_exec_update, exec, 0L, arg.arrays, match.name, skip.null))
}

#' @rdname mx.simple.bind
#' @export
mx.exec.update.grad.arrays <- function(exec, arg.arrays, match.name = FALSE, skip.null = FALSE) {
  invisible(.Call(ffi_exec_update, exec, 1L, arg.arrays, match.name, skip.null))
}

#' @rdname mx.simple.bind
#' @export
mx.exec.update.aux.arrays <- function(exec, arg.arrays, match.name = FALSE, skip.null = FALSE) {
  invisible(.Call(ffi_exec_update, exec, 2L, arg.arrays, match.name, skip.null))
}

#' @rdname mx.simple.bind
#' @export
mx.exec.forward <- function(exec, is.train = TRUE) invisible(.Call(ffi_exec_forward, exec, is.train))

#' @rdname mx.simple.bind
#' @export
mx.exec.backward <- function(exec, ...) invisible(.Call(ffi_exec_backward, exec, list(...)))

# ---- members ----

.executor.members <- c(
  "ref.arg.arrays", "ref.grad.arrays", "ref.aux.arrays", "ref.outputs", "arg.arrays", "grad.arrays", "aux.arrays",
  "outputs", "symbol", "ctx", "memory", "update.arg.arrays", "update.grad.arrays", "update.aux.arrays", "forward",
  "backward"
)

copy.arrays <- function(list) lapply(list, function(x) if (!is.null(x)) mx.nd.copyto(x, ctx(x)))

#' @export
`$.Rcpp_MXExecutor` <- function(x, name) {
  switch(name,
    ref.arg.arrays = .Call(ffi_exec_arrays, x, 0L),
    ref.grad.arrays = .Call(ffi_exec_arrays, x, 1L),
    ref.aux.arrays = .Call(ffi_exec_arrays, x, 2L),
    ref.outputs = .Call(ffi_exec_arrays, x, 3L),
    arg.arrays = copy.arrays(.Call(ffi_exec_arrays, x, 0L)),
    grad.arrays = copy.arrays(.Call(ffi_exec_arrays, x, 1L)),
    aux.arrays = copy.arrays(.Call(ffi_exec_arrays, x, 2L)),
    outputs = copy.arrays(.Call(ffi_exec_arrays, x, 3L)),
    symbol = .Call(ffi_exec_symbol, x),
    ctx = .Call(ffi_exec_context, x),
    memory = .Call(ffi_exec_memory, x),
    update.arg.arrays = function(arrays, match.name = FALSE, skip.null = FALSE)
      mx.exec.update.arg.arrays(x, arrays, match.name, skip.null),
    update.grad.arrays = function(arrays, match.name = FALSE, skip.null = FALSE)
      mx.exec.update.grad.arrays(x, arrays, match.name, skip.null),
    update.aux.arrays = function(arrays, match.name = FALSE, skip.null = FALSE)
      mx.exec.update.aux.arrays(x, arrays, match.name, skip.null),
    forward = function(is.train = TRUE, kwargs = list()) {
      if (length(kwargs)) mx.exec.update.arg.arrays(x, kwargs, match.name = TRUE)
      mx.exec.forward(x, is.train)
    },
    backward = function(head.grads = list()) invisible(.Call(ffi_exec_backward, x, head.grads)),
    mx.stop("value", "An executor has no member '", name, "'. Known: ", paste(.executor.members, collapse = ", "), ".")
  )
}

#' @export
.DollarNames.Rcpp_MXExecutor <- function(x, pattern = "") grep(pattern, .executor.members, value = TRUE)

#' @export
format.Rcpp_MXExecutor <- function(x, ...) {
  paste0("<MXExecutor @", format(x$ctx), " of ", format.Rcpp_MXSymbol(x$symbol), ">")
}

#' @export
print.Rcpp_MXExecutor <- function(x, ...) {
  cat(format.Rcpp_MXExecutor(x), "\n", sep = "")
  for (part in 0:3) {
    list <- .Call(ffi_exec_arrays, x, part)
    what <- c("argument", "gradient", "auxiliary state", "output")[part + 1L]
    list <- list[!vapply(list, is.null, NA)]
    if (length(list) == 0L) next
    shown <- utils::head(list, 8L)
    shapes <- paste0(names(shown), " (", vapply(shown, function(v) paste(dim(v), collapse = " x "), ""), ")")
    if (length(list) > length(shown)) shapes <- c(shapes, "...")
    text <- paste0(length(list), " ", what, if (length(list) > 1L) "s", ": ", paste(shapes, collapse = ", "))
    writeLines(strwrap(text, indent = 2L, exdent = 4L))
  }
  invisible(x)
}

setMethod("show", "Rcpp_MXExecutor", function(object) print.Rcpp_MXExecutor(object))

# Bytes: parameters (arguments with a gradient, auxiliary states), and what is needed besides to predict and to train.
exec.memory <- function(memory)
  c(memory[c("parameters", "inference")], training = sum(memory[c("training", "gradients")]))

#' @rdname mx.simple.bind
#' @export
summary.Rcpp_MXExecutor <- function(object, ...) {
  symbol.summary(object$symbol, lapply(object$ref.arg.arrays, dim), NULL, exec.memory(object$memory))
}

#' @export
str.Rcpp_MXExecutor <- function(object, ...) cat("", format.Rcpp_MXExecutor(object), "\n")
