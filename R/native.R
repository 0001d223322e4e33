# Names under which the reference registers functions of its native side. They are not exported; scripts reach them
# with `mxnet:::`.

mx.nd.internal.empty <- function(shape, ctx = NULL) mx.nd.zeros(shape, ctx)
mx.nd.internal.empty.array <- mx.nd.internal.empty
mx.nd.internal.array <- function(src.array, ctx = NULL) mx.nd.array(src.array, ctx)
mx.nd.internal.load <- function(filename) mx.nd.load(filename)
mx.nd.internal.save <- function(ndarray, filename) mx.nd.save(ndarray, filename)
mx.nd.internal.dim <- function(nd) .Call(ffi_nd_dim, nd)
mx.nd.internal.length <- function(nd) .Call(ffi_nd_length, nd)
mx.nd.internal.as.array <- function(nd) .Call(ffi_nd_as_array, nd)
mx.nd.internal.ctx <- function(nd) .Call(ffi_nd_context, nd)
mx.nd.internal.dispatch.Ops <- function(op, e1, e2) .Call(ffi_nd_arith, op, e1, e2)

mx.internal.set.seed <- function(seed) mx.set.seed(seed)
mx.internal.profiler.config <- function(params) mx.profiler.config(params)
mx.internal.profiler.state <- function(state) mx.profiler.state(state)

# The reference stops its threads here when R ends. Nothing runs between two calls of this library.
mx.internal.notify.shutdown <- function() invisible()
