#' Arithmetic and mathematical functions for arrays
#'
#' `+ - * / ^ %% %/%`, comparisons and logical operators work element by element on two arrays of one shape, on an array
#' and a number in either order, and on an array and an R vector of as many elements. Comparisons give 1 and 0. `%*%` is
#' the matrix product. Functions such as [sqrt()], [exp()], [round()] and [sum()] work as for R arrays; those that MXNet
#' has no operator for are computed in R.
#'
#' To repeat the smaller of two arrays, use `mx.nd.broadcast.add` and the like.
#'
#' @param e1,e2,x,y `MXNDArray`s, numbers or vectors.
#' @param base As in [log()].
#' @param ... Further arrays or numbers.
#' @param na.rm Whether `NaN` is left out.
#' @return An `MXNDArray`; [sum()], [max()] and the like: an R number.
#' @examples
#' x <- mx.nd.array(c(1, 4, 9))
#' sqrt(x) + 1
#' x > 3
#' 5 %/% x
#' sum(x)
#' range(x)
#' a <- mx.nd.array(matrix(1:6, 2))
#' a %*% t(a)
#' @name Ops.MXNDArray
NULL

#' @rdname Ops.MXNDArray
#' @export
Ops.MXNDArray <- function(e1, e2) {
  if (missing(e2)) .Call(ffi_nd_unary, .Generic, e1) else .Call(ffi_nd_arith, .Generic, e1, e2)
}

# R functions and the operators that compute the same.
.nd.math <- c(
  abs = "abs", sign = "sign", sqrt = "sqrt", floor = "floor", ceiling = "ceil", trunc = "trunc", exp = "exp",
  expm1 = "expm1", log1p = "log1p", log2 = "log2", log10 = "log10", cos = "cos", sin = "sin", tan = "tan",
  acos = "arccos", asin = "arcsin", atan = "arctan", cosh = "cosh", sinh = "sinh", tanh = "tanh", acosh = "arccosh",
  asinh = "arcsinh", atanh = "arctanh", gamma = "gamma", lgamma = "gammaln"
)

#' @rdname Ops.MXNDArray
#' @export
Math.MXNDArray <- function(x, ...) {
  op <- .nd.math[.Generic]
  if (!is.na(op)) return(.Call(ffi_nd_operator, op, list(x), NULL))
  y <- get(.Generic, mode = "function")(as.array.MXNDArray(x), ...)
  mx.nd.array(if (is.null(dim(y)) && length(dim(x)) > 1L) array(y, if (length(y) == length(x)) dim(x)) else y, ctx(x),
    mx.nd.dtype(x))
}

#' @rdname Ops.MXNDArray
#' @export
log.MXNDArray <- function(x, base = exp(1)) {
  y <- .Call(ffi_nd_operator, "log", list(x), NULL)
  if (missing(base)) y else y / log(base)
}

#' @rdname Ops.MXNDArray
#' @export
Summary.MXNDArray <- function(..., na.rm = FALSE) {
  parts <- lapply(list(...), nd.summary, .Generic, na.rm)
  do.call(.Generic, c(parts, na.rm = na.rm))
}

# One number (two for range) that stands for the array in the summary.
nd.summary <- function(x, what, na.rm) {
  if (!inherits(x, "MXNDArray")) return(x)
  reduce <- function(op, x) {
    n <- .Call(ffi_nd_operator, op, c(list(x), rep(list(NULL), 3L)), NULL)
    as.array.MXNDArray(n)
  }
  exact <- mx.nd.dtype(x) %in% c("float32", "float64")
  if (!exact || length(x) == 0L || na.rm) return(do.call(what, list(as.double.MXNDArray(x), na.rm = na.rm)))
  switch(what,
    sum = reduce("sum", x),
    prod = reduce("prod", x),
    max = reduce("max", x),
    min = reduce("min", x),
    range = c(reduce("min", x), reduce("max", x)),
    do.call(what, list(as.logical.MXNDArray(x)))
  )
}

#' @rdname Ops.MXNDArray
#' @export
mean.MXNDArray <- function(x, ...) {
  if (length(x) == 0L || ...length() > 0L) return(mean(as.double.MXNDArray(x), ...))
  sum(x) / length(x)
}

#' @rdname Ops.MXNDArray
#' @rawNamespace
#' # Since R 4.3 the matrix product finds S3 methods; before, the package has its own.
#' if (getRversion() >= "4.3.0") S3method(matrixOps, MXNDArray) else export("%*%")
`%*%` <- function(x, y) {
  arrays <- (is.object(x) || is.object(y)) && (inherits(x, "MXNDArray") || inherits(y, "MXNDArray"))
  if (arrays) matrix.product(x, y) else base::`%*%`(x, y)
}

matrixOps.MXNDArray <- function(x, y) matrix.product(x, y)

matrix.product <- function(x, y) {
  like <- if (inherits(x, "MXNDArray")) x else y
  as.nd <- function(z) if (inherits(z, "MXNDArray")) z else mx.nd.array(z, ctx(like), mx.nd.dtype(like))
  x <- as.nd(x)
  y <- as.nd(y)
  if (length(dim(x)) == 1L) dim(x) <- if (length(x) == dim(y)[1L]) c(1L, length(x)) else c(length(x), 1L)
  if (length(dim(y)) == 1L) dim(y) <- if (length(y) == dim(x)[2L]) c(length(y), 1L) else c(1L, length(y))
  if (length(dim(x)) != 2L || length(dim(y)) != 2L || dim(x)[2L] != dim(y)[1L])
    mx.stop("shape", "Non-conformable arguments: ", paste(dim(x), collapse = " x "), " and ",
      paste(dim(y), collapse = " x "), ".", call = sys.call(-1))
  mx.nd.dot(y, x) # operators see the transposes
}
