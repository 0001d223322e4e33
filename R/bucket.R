# Sequences of unequal lengths: the bucket iterator and training on it.

#' Iterate over sequences in buckets
#'
#' Sequences of about equal length share a bucket; every batch comes from one bucket, so that little padding is needed.
#' A last short batch of a bucket is completed by the bucket's first examples.
#'
#' `$reset()` makes the plan of a pass and is needed before use; `$iter.next()`, `$value()` and `$num.pad()` work as in
#' [is.mx.dataiter()]. `$value()` has `data`, `seq.mask` (length of each sequence without mask elements) and `label`.
#' `$bucketID` is a number named by the current bucket: the number of its batch.
#'
#' @param buckets List, named by sequence length, of `list(data =, label =)`: `data` is a matrix `c(seq, n)` or an array
#'   `c(features, seq, n)`, `label` a vector of length n or an array whose last dimension is n.
#' @param batch.size Sequences in a batch.
#' @param data.mask.element The number that stands for "no token" in `data`.
#' @param shuffle Random order of sequences within the buckets, and of batches, other in every pass?
#' @param seed Seed of that order. R's own random numbers are left as they are.
#' @return An object of reference class `BucketIter`.
#' @section Errors: `mxnet_value_error` for buckets without names or of another form; `mxnet_state_error` when used
#'   before `$reset()`.
#' @seealso [mx.model.buckets()]
#' @examples
#' short <- list(data = matrix(c(1, 2, 2, 1, 2, 2), 2), label = c(0, 1, 1))
#' long <- list(data = matrix(c(1, 2, 0, 2, 2, 1), 3), label = c(1, 0))
#' it <- mx.io.bucket.iter(list("2" = short, "3" = long), batch.size = 2)
#' it$reset()
#' while (it$iter.next()) cat("bucket", names(it$bucketID), "pad", it$num.pad(), "\n")
#' @export
mx.io.bucket.iter <- function(buckets, batch.size, data.mask.element = 0, shuffle = FALSE, seed = 123) {
  if (!is.list(buckets) || !length(buckets) || is.null(names(buckets)) || !all(nzchar(names(buckets))))
    mx.stop("value", "`buckets` must be a list named by sequence length.")
  data.mask.element <- mx.util.scalar(data.mask.element, "data.mask.element")
  arrays <- mapply(mx.bucket.internal.arrays, buckets, names(buckets), MoreArgs = list(mask = data.mask.element),
                   SIMPLIFY = FALSE)
  batch.size <- mx.util.count(batch.size, "batch.size")
  shuffle <- mx.util.flag(shuffle, "shuffle")
  seed <- mx.util.scalar(seed, "seed")
  BucketIter$new(buckets = buckets, arrays = arrays, batch.size = batch.size, data.mask.element = data.mask.element,
                 shuffle = shuffle, seed = seed)
}

# One bucket's arrays on the native side: data, seq.mask, label; each with its last dimension for the sequences.
mx.bucket.internal.arrays <- function(bucket, name, mask) {
  if (!is.list(bucket) || is.null(bucket$data) || is.null(bucket$label))
    mx.stop("value", "Bucket ", name, " must be list(data =, label =).")
  x <- bucket$data
  d <- dim(x)
  if (length(d) < 2L) mx.stop("value", "`data` of bucket ", name,
                              " must be a matrix c(seq, n) or an array c(features, seq, n).")
  n <- d[length(d)]
  if (mx.model.internal.examples(bucket$label) != n)
    mx.stop("value", "Bucket ", name, " has ", n, " sequences and ", mx.model.internal.examples(bucket$label),
            " labels.")
  # A step with several features is masked when all of them are.
  masked <- array(x == mask, c(prod(d[seq_len(length(d) - 2L)]), d[length(d) - 1L], n))
  steps <- colSums(masked) == dim(masked)[1L]
  lapply(list(data = x, seq.mask = d[length(d) - 1L] - colSums(steps), label = bucket$label), mx.nd.array, mx.cpu())
}

#' @rdname mx.io.bucket.iter
#' @export BucketIter
#' @exportClass BucketIter
#' @field buckets,bucket.names,batch.size,data.mask.element,shuffle,seed What the iterator was made of.
#' @field bucket.plan The batches of the pass, in order: numbers named by bucket. `bucketID` is the current one.
#' @field epoch,batch Number of the pass and of the batch in it.
#' @field batch.per.bucket,last.batch.pad Batches of each bucket, and what completes its last one.
#' @field batch.per.epoch Batches in a pass.
#' @field bucketID,arrays,order See above; arrays and order are internal.
BucketIter <- setRefClass(
  "BucketIter",
  fields = list(
    buckets = "list", bucket.names = "character", batch.size = "numeric", data.mask.element = "numeric",
    shuffle = "logical", bucket.plan = "numeric", bucketID = "numeric", epoch = "numeric", batch = "numeric",
    batch.per.bucket = "numeric", last.batch.pad = "numeric", batch.per.epoch = "numeric", seed = "numeric",
    arrays = "list", order = "list"
  ),
  methods = list(
    initialize = function(...) {
      initFields(...)
      if (!length(buckets)) return(.self)
      bucket.names <<- names(buckets)
      n <- vapply(arrays, function(a) length(a$seq.mask), 0)
      batch.per.bucket <<- ceiling(n / batch.size)
      last.batch.pad <<- batch.per.bucket * batch.size - n
      batch.per.epoch <<- sum(batch.per.bucket)
      epoch <<- 0
      batch <<- 0
      .self
    },
    reset = function() asNamespace("mxnet")$mx.bucket.internal.reset(.self),
    iter.next = function() asNamespace("mxnet")$mx.bucket.internal.next(.self),
    value = function() asNamespace("mxnet")$mx.bucket.internal.value(.self),
    num.pad = function() {
      b <- names(bucketID)
      if (length(bucketID) && bucketID == batch.per.bucket[[b]]) last.batch.pad[[b]] else 0
    },
    finalize = function() invisible(),
    show = function() {
      cat("<BucketIter> ", length(bucket.names), " buckets (", asNamespace("mxnet")$mx.util.and(bucket.names), "), ",
          batch.per.epoch, " batches of ", batch.size, "\n", sep = "")
    }))

mx.bucket.internal.reset <- function(iter) {
  count <- iter$batch.per.bucket
  plan <- stats::setNames(sequence(count), rep(iter$bucket.names, count))
  n <- count * iter$batch.size - iter$last.batch.pad
  if (iter$shuffle) {
    mx.util.with.seed(iter$seed + iter$epoch, {
      iter$bucket.plan <- plan[sample.int(length(plan))]
      iter$order <- lapply(n, sample.int)
    })
  } else {
    iter$bucket.plan <- plan
    iter$order <- lapply(n, function(i) NULL)
  }
  iter$epoch <- iter$epoch + 1
  iter$batch <- 0
}

mx.bucket.internal.next <- function(iter) {
  if (!length(iter$bucket.plan)) mx.stop("state", "Call $reset() before $iter.next().")
  if (iter$batch >= iter$batch.per.epoch) return(FALSE)
  iter$batch <- iter$batch + 1
  iter$bucketID <- iter$bucket.plan[iter$batch]
  TRUE
}

mx.bucket.internal.value <- function(iter) {
  if (!length(iter$bucketID)) mx.stop("state", "Call $iter.next() before $value().")
  b <- names(iter$bucketID)
  arrays <- iter$arrays[[b]]
  order <- iter$order[[b]]
  n <- length(arrays$seq.mask)
  begin <- (iter$bucketID[[1L]] - 1) * iter$batch.size
  end <- begin + iter$batch.size
  if (end <= n && is.null(order)) return(lapply(arrays, mx.nd.slice, begin, end))
  index <- (seq(begin, end - 1) %% n) + 1
  if (!is.null(order)) index <- order[index]
  lapply(arrays, mx.io.internal.permute, index)
}

#' Train on buckets of sequences
#'
#' Trains a network whose batches come in several lengths, or a recurrent network with fixed ones. All lengths share the
#' parameters; each is bound once, when it is first met.
#'
#' Inputs of the network that are neither in the batches nor known to the initializer, such as initial states, are zero.
#'
#' @param symbol A symbol, or a list of symbols named by bucket.
#' @param train.data,eval.data Iterators: [mx.io.bucket.iter()], or any other when `symbol` is one symbol.
#' @param metric A metric, see [mx.metric], or `NULL`.
#' @param arg.params,aux.params Parameters to start from: named lists of NDArrays that take precedence over the
#'   initializer.
#' @param fixed.params Names of parameters that keep their values. They are not part of the result's `arg.params`.
#' @param optimizer An optimizer object ([mx.opt.create()]), or a name: then `rescale.grad` is one over the batch size.
#' @param begin.round,num.round Numbers of the first and of the last epoch.
#' @inheritParams mx.model.FeedForward.create
#' @return A list of class `MXFeedForwardModel` with `symbol` (of the first bucket), `arg.params` and `aux.params`.
#' @section Errors: As in [mx.model.FeedForward.create()]; `mxnet_value_error` for a bucket without symbol.
#' @seealso [rnn.graph()], [mx.infer.rnn()].
#' @examples
#' # Does the sequence begin with 1?
#' x <- matrix(sample(1:2, 120, TRUE), 3)
#' it <- mx.io.bucket.iter(list("3" = list(data = x, label = x[1, ] == 1)), batch.size = 10)
#' net <- rnn.graph.unroll(num_rnn_layer = 1, seq_len = 3, input_size = 3, num_embed = 4,
#'   num_hidden = 4, num_decode = 2, config = "seq-to-one", cell_type = "gru",
#'   loss_output = "softmax")
#' model <- mx.model.buckets(net, it, num.round = 3, metric = mx.metric.accuracy,
#'   initializer = mx.init.Xavier(),
#'   optimizer = mx.opt.create("adam", learning.rate = 0.05, rescale.grad = 1 / 10))
#' @export
mx.model.buckets <- function(symbol, train.data, eval.data = NULL, metric = NULL, arg.params = NULL, aux.params = NULL,
                             fixed.params = NULL, num.round = 1, begin.round = 1, initializer = mx.init.uniform(0.01),
                             optimizer = "sgd", ctx = NULL, batch.end.callback = NULL, epoch.end.callback = NULL,
                             kvstore = "local", verbose = TRUE, metric_cpu = TRUE) {
  several <- is.list(symbol) && !is.mx.symbol(symbol)
  if (!length(symbol) || !all(vapply(if (several) symbol else list(symbol), is.mx.symbol, NA)))
    mx.stop("value", "symbol must be a symbol or a list of symbols, not ", mx.util.say(symbol), ".")
  train.data <- mx.io.internal.check(train.data, "train.data")
  if (!is.null(eval.data)) eval.data <- mx.io.internal.check(eval.data, "eval.data")
  arg.params <- mx.model.internal.params(arg.params, "arg.params")
  aux.params <- mx.model.internal.params(aux.params, "aux.params")
  fixed.params <- mx.util.names(fixed.params, "fixed.params")
  verbose <- mx.util.flag(verbose, "verbose")
  bucketed <- mx.bucket.internal.is(train.data)
  if (several && !bucketed)
    mx.stop("value", "A list of symbols needs a bucket iterator (mx.io.bucket.iter).")
  devices <- mx.util.devices(ctx)
  if (bucketed) train.data$reset()
  batch <- mx.model.internal.first(train.data)
  # Every bucket has the parameters of the first, which is the one of the result too.
  first <- if (several) symbol[[1L]] else symbol
  begin <- if (several) mx.bucket.internal.batch(train.data, names(symbol)[1L], batch) else batch
  feed <- mx.bucket.internal.feed(first, begin)
  shapes <- mx.train.internal.shapes(begin, feed)
  params <- mx.model.init.params(first, shapes, NULL, initializer, mx.cpu())
  merge <- function(own, given, known)
    utils::modifyList(own, lapply(given[setdiff(intersect(names(given), known), names(feed))], mx.util.as.nd))
  params$arg.params <- merge(params$arg.params, arg.params, first$arguments)
  params$aux.params <- merge(params$aux.params, aux.params, first$auxiliary.states)
  if (is.character(optimizer)) {
    rescale.grad <- mx.model.internal.rescale(utils::tail(shapes[[1L]], 1L))
    optimizer <- mx.opt.create(optimizer, rescale.grad = rescale.grad)
  }
  kvstore <- mx.model.create.kvstore(kvstore, params$arg.params, length(devices), verbose = verbose)
  grad.req <- ifelse(first$arguments %in% c(names(feed), fixed.params), "null", "write")
  mx.model.train.buckets(symbol, devices, train.data, eval.data, begin[feed], params$arg.params, params$aux.params,
                         grad.req, NULL, begin.round, num.round, optimizer, metric, metric_cpu, epoch.end.callback,
                         batch.end.callback, kvstore, verbose)
}

# The package's own iterator, or one that tells as it does which bucket a batch is of.
mx.bucket.internal.is <- function(iter)
  inherits(iter, "BucketIter") || !is.null(tryCatch(iter$bucketID, error = function(e) NULL))

# Which entry of a batch each input of the network gets.
mx.bucket.internal.feed <- function(symbol, batch) {
  inputs <- intersect(symbol$arguments, names(batch))
  if (!length(inputs))
    mx.stop("value", "The network takes none of the entries of a batch: ", mx.util.and(names(batch)), ".")
  stats::setNames(inputs, inputs)
}

# `dlist`: a batch, for its dims; `grad.req`: "write" or "null" for each argument. Arrays are found by their names, so
# the reference's `arg.update.idx`, which orders them, has no use here.
mx.model.train.buckets <- function(symbol, ctx, train.data, eval.data, dlist, arg.params, aux.params, grad.req,
                                   arg.update.idx, begin.round, end.round, optimizer, metric, metric_cpu,
                                   epoch.end.callback, batch.end.callback, kvstore, verbose) {
  several <- !is.mx.symbol(symbol)
  first <- if (several) symbol[[1L]] else symbol
  symbol.of <- function(iter) {
    if (!several) return(symbol)
    found <- symbol[[names(iter$bucketID)]]
    if (is.null(found))
      mx.stop("value", "There is no symbol for bucket ", names(iter$bucketID), "; there are ",
              mx.util.and(names(symbol)), ".")
    found
  }
  shapes <- mx.train.internal.shapes(dlist, stats::setNames(names(dlist), names(dlist)))
  net <- mx.net.new(first, ctx, mx.model.slice.shape(shapes, length(ctx))[[1L]]$shape, arg.params, aux.params,
                    first$arguments[grad.req == "null"], states = TRUE)
  groups <- new.env(parent = emptyenv())
  group.of <- function(iter, batch, is.train) {
    own <- symbol.of(iter)
    feed <- mx.bucket.internal.feed(own, batch)
    shapes <- mx.train.internal.shapes(batch, feed)
    key <- paste(c(if (several) names(iter$bucketID), unlist(shapes)), collapse = " ")
    group <- groups[[key]]
    # A binding for validation has no gradients; training needs one of its own then.
    if (is.null(group) || (is.train && !group$trains)) {
      group <- mx.group.new(net, own, shapes, feed, if ("label" %in% names(batch)) "label", is.train)
      group$trains <- is.train
      groups[[key]] <- group
    }
    group
  }
  mx.train.loop(net, group.of, train.data, eval.data, metric, optimizer, kvstore, begin.round, end.round,
                epoch.end.callback, batch.end.callback, verbose, metric_cpu)
}

# A batch of a certain bucket, for its shapes; `otherwise` when there is none.
mx.bucket.internal.batch <- function(iter, bucket, otherwise) {
  if (identical(names(iter$bucketID), bucket)) return(otherwise)
  while (iter$iter.next()) if (identical(names(iter$bucketID), bucket)) return(iter$value())
  otherwise
}
