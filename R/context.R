#' Devices to compute on
#'
#' A context names a device: `mx.cpu()` all cores of this machine, `mx.gpu(i)` the graphics processor with number `i`.
#' Functions that create arrays or bind a symbol take one; where none is given, `mx.ctx.default()` holds.
#'
#' @param dev.id Number of the device, from 0. All CPU contexts share the processor.
#' @param new A context that becomes the default; `NULL` only asks.
#' @param x Any object.
#' @return `mx.cpu` and `mx.gpu`: a list of class `MXContext` with elements `device`, `device_id` and `device_typeid` (1
#'   for a CPU, 2 for a GPU). `mx.ctx.default`: the default context, after the change if there was one.
#'   `is.mx.context`: `TRUE` or `FALSE`.
#' @examples
#' mx.ctx.default()
#' mx.gpu(1)
#' is.mx.context(mx.cpu())
#' @name mx.cpu
NULL

new.context <- function(device, dev.id, typeid) {
  if (!is.numeric(dev.id) || length(dev.id) != 1 || is.na(dev.id) || dev.id < 0)
    mx.stop("value", "`dev.id` must be a non-negative number.", argument = "dev.id", call = sys.call(-1))
  structure(list(device = device, device_id = as.integer(dev.id), device_typeid = typeid), class = "MXContext")
}

#' @rdname mx.cpu
#' @export
mx.cpu <- function(dev.id = 0L) new.context("cpu", dev.id, 1L)

#' @rdname mx.cpu
#' @export
mx.gpu <- function(dev.id = 0L) new.context("gpu", dev.id, 2L)

#' @rdname mx.cpu
#' @export
mx.ctx.default <- function(new = NULL) {
  if (!is.null(new)) {
    if (!is.mx.context(new)) mx.stop("value", "`new` must be a context such as mx.cpu().", argument = "new")
    .mx$context <- new
    .Call(ffi_context_default, new$device_typeid, new$device_id)
  }
  if (is.null(.mx$context)) mx.cpu() else .mx$context
}

#' @rdname mx.cpu
#' @export
is.mx.context <- function(x) inherits(x, "MXContext")

#' @export
format.MXContext <- function(x, ...) paste0(x$device, "(", x$device_id, ")")

#' @export
print.MXContext <- function(x, ...) {
  cat("<MXContext ", format(x), ">\n", sep = "")
  invisible(x)
}
