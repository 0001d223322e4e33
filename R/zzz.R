#' Deep learning with symbolic graphs and arrays
#'
#' Networks are composed as symbols ([mx.symbol.Variable()], `mx.symbol.*`), bound to arrays on a device
#' ([mx.simple.bind()]), and run forward and backward. `mx.nd.*` functions compute on arrays at once.
#' [mx.model.FeedForward.create()] trains a network from start to end.
#'
#' @section Shapes and axes:
#' `dim` is R's: the first dimension runs fastest, and the batch is the last dimension. A batch of images has dim
#' `c(width, height, channel, batch)`. Operators see the same memory with the dimensions reversed, as MXNet does in all
#' languages: (batch, channel, height, width). That is their *native* shape; the help pages of operators speak of it.
#'
#' - Dims that are given to an operator or returned by it are R's: `shape = c(28, 28, 1, 100)`, `kernel = c(width,
#'   height)`.
#' - Axes (`axis`, `dim`, `axes`) are native and count from 0. For a matrix with dim `c(features, samples)`, `axis = 0`
#'   is the dimension of the samples and `axis = 1` that of the features; `axis = -1`, the last native one, is R's
#'   first.
#' - Products of matrices are those of the transposes: see [mx.symbol.dot()].
#'
#' @section Errors:
#' Everything that goes wrong below R raises a condition of class `mxnet_error`, and of a more special class such as
#' `mxnet_shape_error`, `mxnet_value_error`, `mxnet_device_error`, `mxnet_memory_error`, `mxnet_io_error` or
#' `mxnet_format_error`; from operators written in R, `mxnet_callback_error`. Its fields `operator`, `node`,
#' `argument`, `expected` and `actual` say where and what.
#'
#' @keywords internal
#' @useDynLib mxnet, .registration = TRUE
#' @import methods
"_PACKAGE"

# State of the package that R code keeps.
.mx <- new.env(parent = emptyenv())

.onLoad <- function(libname, pkgname) {
  ns <- topenv()
  registerS3method("predict", "MXFeedForwardModel", mx.model.predict, asNamespace("stats"))
  assign("predict.MXFeedForwardModel", mx.model.predict, ns) # scripts call it by this name
  .Call(ffi_initialize, ns, new("Rcpp_MXSymbol"), new("Rcpp_MXExecutor"))
}

# library() need not tell that `%*%` is masked before R 4.3: it is base's for everything but arrays.
.onAttach <- function(libname, pkgname) {
  if (getRversion() < "4.3.0") assign(".conflicts.OK", TRUE, paste0("package:", pkgname))
}

# There is no .onUnload: arrays that outlive the namespace still need the library's finalizers, and its threads run
# there.
