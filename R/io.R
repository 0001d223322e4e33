# Data iterators: objects that hand out batches of examples.
#
# Every iterator has $reset(), $iter.next(), $value() and $num.pad(). Those made here keep their work in a list of
# closures, the source: reset(), nxt(), value(), pad(), describe(), and close() where files are open. The one field of
# the classes has a name that no user class will want for itself.

#' Data iterators
#'
#' An iterator hands out batches: `$iter.next()` moves to the next one and is `FALSE` at the end of the pass, `$value()`
#' is the current batch, a named list of NDArrays (`data` and `label`), `$num.pad()` tells how many examples at its end
#' only fill it up, and `$reset()` starts over. They can be used without a first reset.
#'
#' Iterators of your own are reference classes with `contains = "Rcpp_MXArrayDataIter"` that override these methods;
#' training functions and `predict` accept them.
#'
#' @param x Any object.
#' @return `is.mx.dataiter` returns `TRUE` for iterators and `FALSE` otherwise.
#' @section Errors: The methods of the base class raise an `mxnet_state_error`: a class of one's own has to override
#'   them.
#' @seealso [mx.io.arrayiter()], [mx.io.CSVIter()], [mx.io.MNISTIter()], [mx.io.bucket.iter()].
#' @examples
#' # An iterator that makes its data: n batches of noisy sines
#' Sines <- setRefClass("Sines", contains = "Rcpp_MXArrayDataIter", fields = c("n", "i"),
#'   methods = list(
#'     initialize = function(n) {
#'       .self$n <- n
#'       .self$i <- 0
#'       .self
#'     },
#'     reset = function() .self$i <- 0,
#'     iter.next = function() {
#'       .self$i <- .self$i + 1
#'       .self$i <= .self$n
#'     },
#'     value = function() {
#'       x <- runif(8)
#'       list(data = mx.nd.array(matrix(x, 1)), label = mx.nd.array(sin(x)))
#'     },
#'     num.pad = function() 0,
#'     finalize = function() invisible()
#'   ))
#' it <- Sines$new(2)
#' while (it$iter.next()) print(dim(it$value()$data))
#' is.mx.dataiter(it)
#' @name is.mx.dataiter
#' @export
is.mx.dataiter <- function(x) inherits(x, "Rcpp_MXNativeDataIter") || inherits(x, "Rcpp_MXArrayDataIter")

# An iterator of whatever class: what has the four methods.
mx.io.internal.check <- function(x, name) {
  if (is.mx.dataiter(x) || inherits(x, "BucketIter")) return(x)
  has <- function(method) is.function(tryCatch(x[[method]], error = function(e) NULL))
  if (!(is.list(x) || is.environment(x)) || !all(vapply(c("reset", "iter.next", "value", "num.pad"), has, NA)))
    mx.stop("value", "`", name, "` must be an iterator (see is.mx.dataiter), not ", mx.util.say(x), ".",
            argument = name, call = sys.call(-1))
  x
}

# A method that was not overridden, or an object without a source. In a class that users derive, methods look for names
# where that class was made: they reach the package's functions through its namespace.
mx.io.internal.source <- function(source, method) {
  if (!is.list(source)) mx.stop("state", "An iterator class of one's own must define the method ", method, "().")
  source
}

#' @rdname is.mx.dataiter
#' @field .source Internal.
#' @export Rcpp_MXDataIter
#' @exportClass Rcpp_MXDataIter
Rcpp_MXDataIter <- setRefClass(
  "Rcpp_MXDataIter", fields = list(.source = "ANY"),
  methods = list(
    iter.next = function() asNamespace("mxnet")$mx.io.internal.source(.source, "iter.next")$nxt(),
    value = function() asNamespace("mxnet")$mx.io.internal.source(.source, "value")$value(),
    num.pad = function() asNamespace("mxnet")$mx.io.internal.source(.source, "num.pad")$pad(),
    reset = function() invisible(asNamespace("mxnet")$mx.io.internal.source(.source, "reset")$reset()),
    finalize = function() if (is.list(.source) && is.function(.source$close)) invisible(.source$close()),
    show = function() {
      cat("<", sub("^Rcpp_", "", class(.self)[1L]), ">", sep = "")
      if (is.list(.source)) cat("", .source$describe())
      cat("\n")
    }))

#' @rdname is.mx.dataiter
#' @export Rcpp_MXArrayDataIter
#' @exportClass Rcpp_MXArrayDataIter
Rcpp_MXArrayDataIter <- setRefClass("Rcpp_MXArrayDataIter", contains = "Rcpp_MXDataIter")

#' @rdname is.mx.dataiter
#' @export Rcpp_MXNativeDataIter
#' @exportClass Rcpp_MXNativeDataIter
Rcpp_MXNativeDataIter <- setRefClass("Rcpp_MXNativeDataIter", contains = "Rcpp_MXDataIter")

# An iterator object. The source is made first: an error within $new() would leave half an object to its finalizer.
mx.io.internal.iterator <- function(class, source) {
  force(source)
  class$new(.source = source)
}

# A batch in words: data 784 x 100, label 100.
mx.io.internal.say <- function(dims)
  paste(paste(names(dims), vapply(dims, mx.util.dim, ""), sep = " "), collapse = ", ")

#' Iterate over R arrays
#'
#' The last dimension of `data` and `label` counts the examples. The arrays are converted to 32-bit floats once; batches
#' are slices of them without copying. A last batch that is not full is filled with what the batch before had at these
#' places (zeros if there is none), and `$num.pad()` tells how many examples that are.
#'
#' @param data Numeric vector, matrix or array, or an NDArray, with one example per last index.
#' @param label Labels in the same order: a vector, or an array whose last dimension is as long.
#' @param batch.size Examples in a batch.
#' @param shuffle Put the examples in a random order? It is drawn once, from [mx.runif()] (see [mx.set.seed()]), and
#'   stays.
#' @param last.batch What becomes of a last batch that is not full: `"fill"` completes it, `"discard"` leaves it out.
#' @return An iterator of class `Rcpp_MXArrayDataIter`, see [is.mx.dataiter()].
#' @section Errors: `mxnet_value_error` for unequal numbers of examples, or a batch size that is no positive whole
#'   number.
#' @examples
#' it <- mx.io.arrayiter(matrix(1:10, 2), label = c(0, 1, 0, 1, 0), batch.size = 2)
#' while (it$iter.next()) print(as.array(it$value()$label))
#' it$num.pad()
#' it
#' @export
mx.io.arrayiter <- function(data, label, batch.size = 128, shuffle = FALSE, last.batch = "fill") {
  batch.size <- mx.util.count(batch.size, "batch.size")
  examples <- function(x) if (is.null(dim(x))) length(x) else dim(x)[length(dim(x))]
  n <- examples(data)
  if (n != examples(label)) {
    if (identical(as.numeric(dim(data)[1L]), as.numeric(if (is.null(dim(label))) length(label) else dim(label)[1L])))
      mx.stop("value", "Seems X, y was passed in a Row major way, MXNetR adopts a column major convention.\n",
                   "Please pass in transpose of X instead")
    mx.stop("value", "data has ", n, " examples (its last dimension), label has ", examples(label), ".")
  }
  shuffle <- mx.util.flag(shuffle, "shuffle")
  last.batch <- mx.util.choice(last.batch, "last.batch", c("fill", "discard"))
  if (last.batch == "discard" && n < batch.size)
    mx.stop("value", "`last.batch` = \"discard\" leaves nothing of ", n, " examples in batches of ", batch.size, ".",
            argument = "last.batch")
  mx.io.internal.arrayiter(data, label, if (shuffle) mx.runif(n), batch.size, shuffle, last.batch == "discard")
}

# The iterator's batches, and arrays that it has made of R's, are given back at once. It is no good any more.
mx.io.internal.release <- function(iter) if (!is.null(iter)) iter$.source$release()

# The order that numbers from U(0, 1) stand for: a Fisher-Yates shuffle from the end.
mx.io.internal.order <- function(u) {
  n <- length(u)
  order <- seq_len(n)
  if (n < 2L) return(order)
  j <- floor(u * seq_len(n)) # u[i] * (i + 1) with i from 0
  for (i in n:2) {
    k <- j[i] + 1
    swap <- order[i]
    order[i] <- order[k]
    order[k] <- swap
  }
  order
}

mx.io.internal.arrayiter <- function(data, label, unif.rnds, batch.size, shuffle, discard = FALSE) {
  order <- if (shuffle) mx.io.internal.order(as.numeric(mx.util.as.array(unif.rnds)))
  arrays <- mx.io.internal.store(list(data = data, label = label), order)
  mx.io.internal.iterator(Rcpp_MXArrayDataIter, mx.io.internal.slices(arrays, batch.size, discard))
}

# NDArrays of the examples, in another order unless that is NULL. Attribute "own": none of the caller's.
mx.io.internal.store <- function(data, order = NULL) {
  given <- vapply(data, inherits, NA, "MXNDArray")
  arrays <- data
  arrays[!given] <- lapply(data[!given], mx.nd.array, mx.cpu())
  if (is.null(order)) return(structure(arrays, own = arrays[!given]))
  permuted <- lapply(arrays, mx.io.internal.permute, order)
  .Call(ffi_release, arrays[!given])
  structure(permuted, own = permuted)
}

# Examples in another order; indices are 32-bit floats in `take`, exact below 2^24.
mx.io.internal.permute <- function(x, order) {
  if (length(order) < 2^24) return(mx.nd.take(x, mx.nd.array(order - 1, ctx(x)), axis = 0))
  d <- dim(x)
  mx.nd.array(array(matrix(as.array(x), ncol = length(order))[, order], d), ctx(x))
}

# Batches of NDArrays with a common last dimension: a source for an iterator. Batches are made when first asked for and
# kept, so that later passes cost nothing (beyond `most` batches they are made anew).
mx.io.internal.slices <- function(arrays, batch.size, discard = FALSE, most = 20000) {
  d <- dim(arrays[[1L]])
  n <- d[length(d)]
  batches <- if (discard) n %/% batch.size else ceiling(n / batch.size)
  pad <- max(0, batches * batch.size - n)
  kept <- vector("list", min(batches, most))
  at <- 0

  full <- function(x, i) mx.nd.slice(x, (i - 1) * batch.size, i * batch.size)
  last <- function(x) {
    begin <- (batches - 1) * batch.size
    part <- mx.nd.slice(x, begin, n)
    d <- dim(part)
    fill <- if (batches > 1) mx.nd.slice(x, begin - pad, begin) else mx.nd.zeros(c(d[-length(d)], pad), ctx(x))
    mx.nd.concat(data = list(part, fill), num_args = 2, dim = 0)
  }
  make <- function(i) lapply(arrays, function(x) if (i == batches && pad > 0) last(x) else full(x, i))

  list(
    reset = function() at <<- 0,
    nxt = function() {
      if (at <= batches) at <<- at + 1
      at <= batches
    },
    value = function() {
      if (at == 0) mx.stop("state",
                           "Read Iter at end or before iter.next is called: call $iter.next() before $value().")
      i <- min(at, batches)
      if (i > most) return(make(i))
      if (is.null(kept[[i]])) kept[[i]] <<- make(i)
      kept[[i]]
    },
    pad = function() if (at >= batches) pad else 0,
    describe = function() {
      dims <- lapply(arrays, function(x) { d <- dim(x); d[length(d)] <- batch.size; d })
      paste0(n, " examples in ", batches, " batches: ", mx.io.internal.say(dims))
    },
    release = function() .Call(ffi_release, c(kept, attr(arrays, "own"))))
}

#' Collect a whole pass of an iterator
#'
#' @param iter An iterator. It is reset before and after.
#' @param field Name of the entry of `$value()`: `"data"` or `"label"`.
#' @return An R array of all examples, without padding: its last dimension counts them. Labels come as a vector.
#' @section Errors: `mxnet_value_error` when `iter` is no iterator or has no such field.
#' @examples
#' it <- mx.io.arrayiter(matrix(1:10, 2), label = c(0, 1, 0, 1, 0), batch.size = 2)
#' mx.io.extract(it, "label")
#' @export
mx.io.extract <- function(iter, field) {
  iter <- mx.io.internal.check(iter, "iter")
  field <- mx.util.string(field, "field")
  packer <- mx.nd.arraypacker()
  iter$reset()
  while (iter$iter.next()) {
    value <- iter$value()[[field]]
    if (is.null(value)) mx.stop("value", "The iterator has no field ", mx.util.say(field), ".")
    packer$push(value, iter$num.pad())
  }
  iter$reset()
  packer$get()
}

# Joins arrays on the last R dimension, in R's memory: push(array), get(). What belongs to the last `pad` of an array's
# `examples` is left out; an example has several columns where a network has an output for every step.
mx.nd.arraypacker <- function() {
  parts <- list()
  d <- NULL
  n <- 0
  push <- function(ndarray, pad = 0, examples = own[k]) {
    own <- dim(ndarray)
    if (is.null(own)) own <- length(ndarray)
    k <- length(own)
    if (is.null(d)) d <<- own
    if (!identical(own[-k], d[-length(d)]))
      mx.stop("shape", "Arrays of dim ", mx.util.dim(d), " and ", mx.util.dim(own), " cannot be joined.",
              argument = "ndarray")
    pad <- if (length(pad)) as.numeric(pad)[1L] else 0 # what iterators of users return
    keep <- own[k] - pad * max(1, own[k] %/% examples)
    values <- as.vector(mx.util.as.array(ndarray))
    if (pad > 0) values <- values[seq_len(prod(own[-k]) * keep)]
    parts[[length(parts) + 1L]] <<- values
    n <<- n + keep
  }
  get <- function() {
    values <- unlist(parts, FALSE, FALSE)
    if (length(d) > 1L) dim(values) <- c(d[-length(d)], n)
    values
  }
  structure(list(push = push, get = get), class = "Rcpp_NDArrayPacker")
}

#' @export
print.Rcpp_NDArrayPacker <- function(x, ...) {
  joined <- x$get()
  cat("<NDArrayPacker> ", mx.util.dim(if (is.null(dim(joined))) length(joined) else dim(joined)), "\n", sep = "")
  invisible(x)
}
