#' Deep learning with symbolic graphs and arrays
#'
#' Networks are composed as symbols ([mx.symbol.Variable()], `mx.symbol.*`), bound to arrays on a device
#' ([mx.simple.bind()]), and run forward and backward. `mx.nd.*` functions compute on arrays at once.
#' [mx.model.FeedForward.create()] trains a network from start to end.
#'
#' Shapes are R shapes: the first dimension runs fastest, and the batch is the last dimension. An image is
#' `c(width, height, channel, batch)`. Axes in operators (`axis`, `dim`) count from 0 in the native, reversed order:
#' for a
#' matrix, `axis = 0` runs over its columns.
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
  .Call(ffi_initialize, ns, new("Rcpp_MXSymbol"), new("Rcpp_MXExecutor"))
}

# library() need not tell that `%*%` is masked before R 4.3: it is base's for everything but arrays.
.onAttach <- function(libname, pkgname) {
  if (getRversion() < "4.3.0") assign(".conflicts.OK", TRUE, paste0("package:", pkgname))
}

# There is no .onUnload: arrays that outlive the namespace still need the library's finalizers, and its threads run
# there.
