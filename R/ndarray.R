#' Arrays on a device
#'
#' An `MXNDArray` holds numbers on a device, as a rule in single precision. `mx.nd.array` makes one from an R vector,
#' matrix
#' or array; [as.array()] brings it back. Its `dim` is that of the R array. Integers beyond 2^24 are rounded in
#' `float32`;
#' `NA` becomes `NaN`.
#'
#' @param src.array A numeric, logical or raw vector, matrix or array, a data frame of numbers, or an `MXNDArray`
#' (which is
#'   copied).
#' @param shape Dimensions, as in [dim()].
#' @param ctx A context such as [mx.cpu()]; `NULL`: the default context.
#' @param dtype Element type: `"float32"`, `"float64"`, `"float16"`, `"int8"`, `"uint8"`, `"int32"`, `"int64"` or
#'   `"bool"`.
#' @param src,nd An `MXNDArray`.
#' @return An `MXNDArray`; `is.mx.ndarray`: `TRUE` or `FALSE`; `ctx`: the context of an array.
#' @seealso [mx.nd.save()] for files, [Ops.MXNDArray] for arithmetic, [mx.runif()] for random numbers.
#' @examples
#' x <- mx.nd.array(matrix(1:6, 2, 3))
#' dim(x)
#' as.array(x * 2)
#' mx.nd.zeros(c(2, 2))
#' ctx(x)
#' @name mx.nd.array
NULL

#' @rdname mx.nd.array
#' @export
mx.nd.array <- function(src.array, ctx = NULL, dtype = "float32") {
  if (inherits(src.array, "MXNDArray")) {
    src.array <- as.array(src.array)
  } else if (is.data.frame(src.array)) {
    src.array <- data.matrix(src.array)
  } else if (!is.array(src.array) && !is.vector(src.array)) {
    if (is.numeric(src.array) && !is.factor(src.array)) src.array <- as.vector(src.array)
    else mx.stop("value", "mx.nd.array takes an object of class array, vector or matrix only.", argument = "src.array")
  }
  dim <- dim(src.array)
  .Call(ffi_nd_array, src.array, if (is.null(dim)) length(src.array) else dim, ctx, dtype)
}

#' @rdname mx.nd.array
#' @export
mx.nd.zeros <- function(shape, ctx = NULL, dtype = "float32") .Call(ffi_nd_zeros, shape, ctx, dtype)

#' @rdname mx.nd.array
#' @export
mx.nd.ones <- function(shape, ctx = NULL, dtype = "float32") mx.nd.full(shape, 1, ctx, dtype)

# The value everywhere.
mx.nd.full <- function(shape, value, ctx = NULL, dtype = "float32") {
  out <- .Call(ffi_nd_zeros, shape, ctx, dtype)
  if (length(out) > 0) .Call(ffi_nd_operator, "_set_value", list(value), out)
  out
}

#' @rdname mx.nd.array
#' @export
mx.nd.copyto <- function(src, ctx) .Call(ffi_nd_copyto, src, ctx)

#' @rdname mx.nd.array
#' @export
is.mx.ndarray <- function(src.array) inherits(src.array, "MXNDArray")
is.MXNDArray <- function(nd) inherits(nd, "MXNDArray")

#' @rdname mx.nd.array
#' @export
ctx <- function(nd) .Call(ffi_nd_context, nd)

# "float32", ...
mx.nd.dtype <- function(nd) .Call(ffi_nd_dtype, nd)

# Columns begin + 1 to end of the last dimension, without copying: the result shares its numbers with nd.
mx.nd.slice <- function(nd, begin, end)
  .Call(ffi_nd_slice, nd, mx.util.scalar(begin, "begin"), mx.util.scalar(end, "end"))

#' Save and load arrays
#'
#' The file format is that of MXNet's `.params` and `.nd` files.
#'
#' @param ndarray An `MXNDArray` or a list of them; names are saved.
#' @param filename Path of the file; `~` is expanded.
#' @param ctx Where the arrays go; `NULL`: the default context.
#' @return `mx.nd.load`: a list of arrays, with names if there were any. `mx.nd.save`: `NULL`, invisibly.
#' @examples
#' file <- tempfile(fileext = ".nd")
#' mx.nd.save(list(a = mx.nd.ones(2), b = mx.nd.zeros(c(1, 3))), file)
#' mx.nd.load(file)
#' @export
mx.nd.save <- function(ndarray, filename) {
  if (inherits(ndarray, "MXNDArray")) ndarray <- list(ndarray)
  if (!is.list(ndarray)) mx.stop("value", "`ndarray` must be an MXNDArray or a list of them.", argument = "ndarray")
  invisible(.Call(ffi_nd_save, ndarray, mx.util.path(filename, "filename")))
}

#' @rdname mx.nd.save
#' @export
mx.nd.load <- function(filename, ctx = NULL) .Call(ffi_nd_load, mx.util.path(filename, "filename"), ctx)

#' Arrays as R objects
#'
#' @param x,a An `MXNDArray`.
#' @param perm As in [aperm()].
#' @param ... Passed on to the method for R arrays.
#' @param value For `dim<-`: new dimensions of as many elements. For `[<-`: numbers, repeated as needed, or an
#' `MXNDArray`.
#' @param i,j Indices as for R arrays; further dimensions follow in `...`.
#' @param drop Whether dimensions of length 1 go.
#' @param object,target,current Arrays to describe or compare.
#' @param tolerance As in [all.equal()].
#' @return `as.array`: an R array of doubles; without `dim` if the array has one dimension. `as.matrix`: the same for
#' two
#'   dimensions, otherwise an error. `dim`, `length`: as for R arrays. `print`: what it printed, as R numbers. `[`: an
#' `MXNDArray`; `[[`: a number; `cbind`, `rbind`: an `MXNDArray` of matrices and vectors side by side. The
#'   replacement functions return a changed copy; the original stays.
#' @examples
#' x <- mx.nd.array(array(1:24, c(2, 3, 4)))
#' x[1, , 2:3]
#' x[x > 23] <- 0
#' summary(x)
#' t(mx.nd.array(matrix(1:4, 2)))
#' @name as.array.MXNDArray
NULL

#' @rdname as.array.MXNDArray
#' @export
as.array.MXNDArray <- function(x, ...) .Call(ffi_nd_as_array, x)

#' @rdname as.array.MXNDArray
#' @export
as.matrix.MXNDArray <- function(x, ...) {
  if (length(dim(x)) != 2L)
    mx.stop("value", "as.matrix needs an MXNDArray of two dimensions, not ", length(dim(x)), ".", argument = "x")
  as.array.MXNDArray(x)
}

#' @rdname as.array.MXNDArray
#' @export
dim.MXNDArray <- function(x) .Call(ffi_nd_dim, x)

#' @rdname as.array.MXNDArray
#' @export
length.MXNDArray <- function(x) .Call(ffi_nd_length, x)

#' @rdname as.array.MXNDArray
#' @export
`dim<-.MXNDArray` <- function(x, value) .Call(ffi_nd_reshape, x, value)

#' @export
as.vector.MXNDArray <- function(x, mode = "any") as.vector(.Call(ffi_nd_as_array, x), mode)

#' @export
as.double.MXNDArray <- function(x, ...) as.vector(.Call(ffi_nd_as_array, x))

#' @export
as.integer.MXNDArray <- function(x, ...) as.integer(.Call(ffi_nd_as_array, x))

#' @export
as.logical.MXNDArray <- function(x, ...) as.logical(.Call(ffi_nd_as_array, x))

# "<MXNDArray 2 x 3 float32 @cpu(0)>"
nd.header <- function(x) {
  paste0("<MXNDArray ", paste(dim(x), collapse = " x "), " ", mx.nd.dtype(x), " @", format(ctx(x)), ">")
}

#' @rdname as.array.MXNDArray
#' @export
print.MXNDArray <- function(x, ...) {
  most <- getOption("max.print", 99999L)
  if (length(x) <= most) {
    shown <- .Call(ffi_nd_as_array, x)
    print(shown, ...)
  } else {
    cat(nd.header(x), "\n", sep = "")
    shown <- .Call(ffi_nd_head, x, min(most, 100))
    print(shown, ...)
    cat(" [ ", mx.util.thousands(length(x) - length(shown)), " more elements ]\n", sep = "")
  }
  invisible(shown)
}

#' @rdname as.array.MXNDArray
#' @export
format.MXNDArray <- function(x, ...) format(.Call(ffi_nd_as_array, x), ...)

#' @importFrom utils str
#' @export
str.MXNDArray <- function(object, ...) {
  first <- .Call(ffi_nd_head, object, 5)
  more <- if (length(object) > 5) " ..." else ""
  cat(" ", nd.header(object), " ", paste(format(first, digits = 3, trim = TRUE), collapse = " "), more, "\n", sep = "")
  invisible()
}

#' @rdname as.array.MXNDArray
#' @export
summary.MXNDArray <- function(object, ...) {
  structure(
    list(header = nd.header(object), values = summary(as.double.MXNDArray(object), ...)),
    class = "summary.MXNDArray"
  )
}

#' @export
print.summary.MXNDArray <- function(x, ...) {
  cat(x$header, "\n", sep = "")
  print(x$values, ...)
  invisible(x)
}

#' @rdname as.array.MXNDArray
#' @method all.equal MXNDArray
#' @export
all.equal.MXNDArray <- function(target, current, ..., tolerance = 1e-6) {
  as.r <- function(x) if (inherits(x, "MXNDArray")) as.array.MXNDArray(x) else x
  all.equal(as.r(target), as.r(current), ..., tolerance = tolerance)
}

# What testthat compares.
#' @exportS3Method waldo::compare_proxy
compare_proxy.MXNDArray <- function(x, path) list(object = as.array.MXNDArray(x), path = path)

#' @rdname as.array.MXNDArray
#' @export
t.MXNDArray <- function(x) {
  if (length(dim(x)) == 1L) dim(x) <- c(length(x), 1L)
  if (length(dim(x)) != 2L) mx.stop("value", "t() needs an MXNDArray of one or two dimensions.", argument = "x")
  mx.nd.transpose(x)
}

# ---- indexing ----

# One index vector against a dimension of n elements: NULL (all) or whole numbers from 1.
nd.index <- function(i, n, call) {
  if (inherits(i, "MXNDArray")) i <- as.array.MXNDArray(i) != 0
  if (anyNA(i)) mx.stop("value", "Subscripts cannot be NA.", call = call)
  if (is.logical(i)) {
    if (length(i) > n) mx.stop("value", "The logical subscript is too long.", call = call)
    i <- which(rep_len(i, n))
  }
  if (!is.numeric(i)) mx.stop("value", "Subscripts must be whole numbers or TRUE and FALSE.", call = call)
  i <- trunc(as.double(i))
  if (any(i < 0)) {
    if (any(i > 0)) mx.stop("value", "Positive and negative subscripts cannot be mixed.", call = call)
    return(as.double(seq_len(n))[i])
  }
  i <- i[i > 0]
  if (any(i > n)) mx.stop("value", "Subscript out of bounds: ", max(i), " of ", n, ".", call = call)
  i
}

#' @rdname as.array.MXNDArray
#' @export
`[.MXNDArray` <- function(x, i, j, ..., drop = TRUE) {
  n <- nargs() - 1L - !missing(drop)
  if (n <= 1L && missing(i)) return(x)
  d <- nd.index.dims(x, n, sys.call())
  index <- rep(list(NULL), n)
  if (!missing(i)) index[[1L]] <- nd.index(if (n == 1L) nd.matrix.index(x, i) else i, d[1L], sys.call())
  if (n > 1L && !missing(j)) index[[2L]] <- nd.index(j, d[2L], sys.call())
  for (k in nd.dots.given(substitute(list(...)))) index[[k + 2L]] <- nd.index(...elt(k), d[k + 2L], sys.call())
  .Call(ffi_nd_subset, x, index, drop)
}

#' @rdname as.array.MXNDArray
#' @export
`[<-.MXNDArray` <- function(x, i, j, ..., value) {
  n <- nargs() - 2L
  if (inherits(value, "MXNDArray")) value <- as.array.MXNDArray(value)
  if (n <= 1L && missing(i)) return(.Call(ffi_nd_assign, x, rep(list(NULL), length(dim(x))), value))
  d <- nd.index.dims(x, n, sys.call())
  index <- rep(list(NULL), n)
  if (!missing(i)) index[[1L]] <- nd.index(if (n == 1L) nd.matrix.index(x, i) else i, d[1L], sys.call())
  if (n > 1L && !missing(j)) index[[2L]] <- nd.index(j, d[2L], sys.call())
  for (k in nd.dots.given(substitute(list(...)))) index[[k + 2L]] <- nd.index(...elt(k), d[k + 2L], sys.call())
  .Call(ffi_nd_assign, x, index, value)
}

# The sizes that n subscripts run over: the dimensions, or all elements for a single one.
nd.index.dims <- function(x, n, call) {
  d <- dim(x)
  if (n == 1L) return(length(x))
  if (n != length(d)) mx.stop("value", "Incorrect number of dimensions: ", n, " for ", length(d), ".", call = call)
  d
}

# A matrix with a column per dimension selects single elements.
nd.matrix.index <- function(x, i) {
  d <- dim(x)
  if (!is.matrix(i) || !is.numeric(i) || ncol(i) != length(d) || length(d) < 2L) return(i)
  if (anyNA(i) || any(i < 1) || any(t(i) > d)) mx.stop("value", "Subscript out of bounds.", call = sys.call(-1))
  drop((i - 1) %*% c(1, cumprod(d[-length(d)]))) + 1
}

# Which of the dots of a call are there: x[1, 2, , 4] leaves one out.
nd.dots.given <- function(call) {
  which(!vapply(as.list(call)[-1L], function(e) identical(e, quote(expr = )), NA))
}

#' @rdname as.array.MXNDArray
#' @export
`[[.MXNDArray` <- function(x, i, ...) {
  part <- x[i, ..., drop = FALSE]
  if (length(part) != 1L) mx.stop("value", "[[ selects exactly one element.")
  as.double.MXNDArray(part)
}

#' @rdname as.array.MXNDArray
#' @export
`[[<-.MXNDArray` <- function(x, i, ..., value) {
  if (length(value) != 1L) mx.stop("value", "[[ takes one number.")
  x[i, ...] <- value
  x
}

#' @rdname as.array.MXNDArray
#' @export
aperm.MXNDArray <- function(a, perm = NULL, ...) {
  n <- length(dim(a))
  if (is.null(perm)) perm <- n:1
  if (!is.numeric(perm) || !identical(sort(as.integer(perm)), seq_len(n)))
    mx.stop("value", "`perm` must be a permutation of 1 to ", n, ".", argument = "perm")
  mx.nd.transpose(a, axes = n - perm)
}

#' @rdname as.array.MXNDArray
#' @param deparse.level Not used.
#' @export
cbind.MXNDArray <- function(..., deparse.level = 1) nd.bind(list(...), 0)

#' @rdname as.array.MXNDArray
#' @export
rbind.MXNDArray <- function(..., deparse.level = 1) nd.bind(list(...), 1)

# Joins matrices, and vectors as columns (native axis 0) or rows (1).
nd.bind <- function(parts, axis) {
  parts <- lapply(unname(parts), function(x) {
    x <- mx.util.as.nd(x)
    if (length(dim(x)) == 1L) dim(x) <- if (axis == 0) c(length(x), 1L) else c(1L, length(x))
    if (length(dim(x)) != 2L)
      mx.stop("shape", "cbind and rbind join arrays of one or two dimensions, not ", length(dim(x)),
              "; see mx.nd.concat.")
    x
  })
  mx.nd.concat(data = parts, num_args = length(parts), dim = axis)
}

#' @export
unique.MXNDArray <- function(x, ...) unique(as.array.MXNDArray(x), ...)

#' @export
as.data.frame.MXNDArray <- function(x, ...) as.data.frame(as.array.MXNDArray(x), ...)

#' @importFrom stats quantile
#' @export
quantile.MXNDArray <- function(x, ...) quantile(as.double.MXNDArray(x), ...)

#' @export
is.na.MXNDArray <- function(x) is.na(as.array.MXNDArray(x))

#' @export
is.nan.MXNDArray <- function(x) is.nan(as.array.MXNDArray(x))

#' @export
is.finite.MXNDArray <- function(x) is.finite(as.array.MXNDArray(x))

#' @export
is.infinite.MXNDArray <- function(x) is.infinite(as.array.MXNDArray(x))

#' @export
anyNA.MXNDArray <- function(x, recursive = FALSE) anyNA(as.array.MXNDArray(x))

#' @export
diff.MXNDArray <- function(x, ...) diff(as.array.MXNDArray(x), ...)

#' @export
xtfrm.MXNDArray <- function(x) as.double.MXNDArray(x)

#' @importFrom utils head tail
#' @export
head.MXNDArray <- function(x, n = 6L, ...) head(as.array.MXNDArray(x), n, ...)

#' @export
tail.MXNDArray <- function(x, n = 6L, ...) tail(as.array.MXNDArray(x), n, ...)

#' @export
rep.MXNDArray <- function(x, ...) mx.nd.array(rep(as.double.MXNDArray(x), ...), ctx(x), mx.nd.dtype(x))
