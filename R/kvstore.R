# Key-value stores of one process: sums of arrays over devices.

#' Key-value stores
#'
#' A store keeps one array per key and adds up what several devices push under that key. Training on several devices
#' uses it to sum gradients; there is rarely a reason to make one by hand.
#'
#' Methods: `$init(keys, list)` stores first values (each key once). `$push(keys, lists, priority)` takes one list of
#' arrays for each device, adds them up over the devices, and replaces the stored value by the sum, or hands the sum to
#' the optimizer when there is one. `$pull(keys, lists, priority)` copies stored values into the arrays of each device's
#' list. `$set.optimizer(optimizer)` takes `list(create.state = function(index, weight), update = function(index,
#' weight, grad, state))`; `update` returns a list with the new `weight` (and `state`, if it changed). Fields: `$type`,
#' and `$update.on.kvstore`: does training step the parameters once in the store (`TRUE`) or on each device?
#'
#' @param type `"local"`, `"device"`, `"local_update_cpu"`, `"local_allreduce_cpu"` or `"local_allreduce_device"`. The
#'   results are the same; the kinds differ in where parameters are stepped. As in MXNet another name, such as `"nccl"`,
#'   is a local store.
#' @return An object of reference class `Rcpp_MXKVStore`.
#' @section Errors: `mxnet_value_error` for a type that is no string, or `"dist_sync"` and the like; a key that was not
#'   initialized, or twice; lists that are not one list of arrays for each device.
#' @examples
#' kv <- mx.kv.create()
#' kv$init(0, list(mx.nd.zeros(2)))
#' kv$push(0, list(list(mx.nd.array(c(1, 2))), list(mx.nd.array(c(10, 20)))), 0)
#' out <- list(mx.nd.zeros(2))
#' kv$pull(0, list(out), 0)
#' out[[1]]
#' @export
mx.kv.create <- function(type = "local") {
  if (startsWith(mx.util.string(type, "type"), "dist"))
    mx.stop("value", "There is no distributed key-value store; `type` may be local, device, local_update_cpu, ",
            "local_allreduce_cpu or local_allreduce_device.", argument = "type")
  Rcpp_MXKVStore$new(type = type, update.on.kvstore = !grepl("allreduce", type), store = new.env(parent = emptyenv()))
}

is.MXKVStore <- function(x) inherits(x, "Rcpp_MXKVStore")

# One list of arrays for each device, each as long as there are keys.
mx.kv.internal.check <- function(keys, lists) {
  nested <- is.list(lists) && length(lists) && all(vapply(lists, is.list, NA))
  if (!nested) mx.stop("value", "Arrays must come as list(list(ndarray)): one list of arrays for each device.")
  if (any(lengths(lists) != length(keys)))
    mx.stop("value", "Each device's list must have one array for each of the ", length(keys), " keys.")
  if (!all(vapply(unlist(lists, FALSE), inherits, NA, "MXNDArray"))) mx.stop("value",
      "The lists may hold NDArrays only.")
}

# The sum of arrays that may live on different devices, on the device of the first.
mx.kv.internal.sum <- function(arrays) {
  if (length(arrays) == 1L) return(arrays[[1L]])
  on <- ctx(arrays[[1L]])
  arrays <- lapply(arrays, function(a) if (identical(ctx(a), on)) a else mx.nd.copyto(a, on))
  mx.nd.add.n(arrays)
}

#' @rdname mx.kv.create
#' @export Rcpp_MXKVStore
#' @exportClass Rcpp_MXKVStore
#' @field type,update.on.kvstore See above.
#' @field store,optimizer Values and update rule; internal.
Rcpp_MXKVStore <- setRefClass(
  "Rcpp_MXKVStore",
  fields = list(type = "character", update.on.kvstore = "logical", store = "environment", optimizer = "list"),
  methods = list(
    init = function(keys, arrays) {
      mx.kv.internal.check(keys, list(arrays))
      for (i in seq_along(keys)) {
        key <- as.character(keys[i])
        if (exists(key, store, inherits = FALSE)) mx.stop("value", "Key ", key, " is initialized already.")
        assign(key, list(value = mx.nd.copyto(arrays[[i]], ctx(arrays[[i]])), state = NULL), store)
      }
    },
    entry = function(key) {
      e <- get0(as.character(key), store, inherits = FALSE)
      if (is.null(e)) mx.stop("value", "Key ", key, " is not initialized; call $init first.")
      e
    },
    push = function(keys, lists, priority = 0) {
      mx.kv.internal.check(keys, lists)
      for (i in seq_along(keys)) {
        e <- entry(keys[i])
        total <- mx.kv.internal.sum(lapply(lists, `[[`, i))
        if (!length(optimizer)) {
          mx.util.assign(e$value, total)
        } else {
          if (is.null(e$state)) e$state <- optimizer$create.state(keys[i], e$value)
          new <- optimizer$update(keys[i], e$value, total, e$state)
          mx.util.assign(e$value, new$weight)
          if (!is.null(new$state)) e$state <- new$state
          assign(as.character(keys[i]), e, store)
        }
      }
    },
    pull = function(keys, lists, priority = 0) {
      mx.kv.internal.check(keys, lists)
      for (i in seq_along(keys)) {
        value <- entry(keys[i])$value
        for (device in lists) mx.util.assign(device[[i]], value)
      }
    },
    set.optimizer = function(optimizer) {
      ok <- is.list(optimizer) && setequal(names(optimizer), c("create.state", "update")) &&
        all(vapply(optimizer, is.function, NA))
      if (!ok) mx.stop("value", "Invalid optimizer: a store takes list(create.state = function, update = function).")
      .self$optimizer <- optimizer
    },
    show = function() cat("<MXKVStore ", type, "> ", length(ls(store)), " keys\n", sep = "")
  ))
