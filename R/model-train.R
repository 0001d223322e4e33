# The training loop: one network, bound once for each shape of batch on each device.
#
# A "net" keeps the arrays that all bindings share: per device the parameters, their gradients and auxiliary states. A
# "group" is a binding of the network to the devices for one shape of batch: executors, which part of a batch goes
# where, and what a batch needs done. Per batch nothing is bound and nothing is copied but the batch itself; the
# optimizer moves the shared arrays in place.

# What survives a training that did not end well: the model (mx.model.last); and the next free key of kvstores.
mx.train.internal <- list2env(list(last = NULL, key = 0), parent = emptyenv())

#' The model of a training that was stopped
#'
#' When training ends early, by Ctrl-C or by an error (in a callback, say), the parameters reached so far are kept. This
#' function returns them as a model. To go on, give them as `arg.params` and `aux.params` to another call, with
#' `begin.round`.
#'
#' @return An `MXFeedForwardModel`, or `NULL` when no training has stopped early in this session. The next training that
#'   starts forgets it.
#' @examples
#' x <- matrix(rnorm(40), 2)
#' net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 1, name = "fc")
#' net <- mx.symbol.LinearRegressionOutput(net, name = "out")
#' stopper <- function(iteration, nbatch, env, verbose) stop("no more")
#' try(mx.model.FeedForward.create(net, x, x[1, ], array.layout = "colmajor",
#'   epoch.end.callback = stopper))
#' mx.model.last()
#' @export
mx.model.last <- function() mx.train.internal$last

# ---- net ----

# The arrays of a network on `ctx` (a list of devices). `arg.params` may lack arguments that are no inputs: these become
# parameters that start at zero, unless `states` (then they belong to each group and have no gradient).
# `shapes` are the dims of all inputs for a full batch; `inputs` their names; `fixed` names without gradient.
mx.net.new <- function(symbol, ctx, shapes, arg.params, aux.params, fixed = NULL, states = FALSE) {
  inferred <- mx.model.internal.shapes(symbol, shapes)
  args <- inferred$arg.shapes
  own <- setdiff(names(args), names(shapes))
  if (states) own <- intersect(own, names(arg.params))
  mx.net.internal.fit(arg.params[own], args, "Parameter")
  mx.net.internal.fit(aux.params, inferred$aux.shapes, "Auxiliary state")
  free <- setdiff(own, fixed)
  place <- function(params, dims, on)
    lapply(stats::setNames(names(dims), names(dims)), function(n) {
      if (is.null(params[[n]])) mx.nd.zeros(dims[[n]], on) else mx.nd.copyto(params[[n]], on)
    })
  list(
    symbol = symbol, ctx = ctx, own = own, free = free, bound = new.env(parent = emptyenv()),
    args = lapply(ctx, function(on) place(arg.params, args[own], on)),
    aux = lapply(ctx, function(on) place(aux.params, inferred$aux.shapes, on)),
    grads = lapply(ctx, function(on) place(NULL, args[free], on)))
}

# At the end memory is given back at once; the collector may find it much later. The working memory of executors can
# always be given back. Where nobody else has seen them, so can all arrays of the net but outputs.
mx.net.rest <- function(net) for (e in net$bound$execs) .Call(ffi_exec_rest, e)
mx.net.close <- function(net) {
  .Call(ffi_release, net$bound$execs)
  .Call(ffi_release, c(net$args, net$aux, net$grads, net$bound$inputs))
}

# Given parameters must exist and have the network's dims.
mx.net.internal.fit <- function(params, shapes, what) {
  for (n in names(params)) {
    if (is.null(params[[n]]) || is.null(shapes[[n]])) next
    if (!identical(as.numeric(dim(params[[n]])), as.numeric(shapes[[n]])))
      mx.stop("shape", what, " ", n, " has dim ", mx.util.dim(dim(params[[n]])), ", the network needs ",
              mx.util.dim(shapes[[n]]), ".")
  }
}

# The parameters as a model: those with a gradient, and auxiliary states averaged over the devices.
mx.model.extract.model <- function(symbol, train.execs) {
  first <- train.execs[[1L]]
  trained <- names(mx.util.filter.null(first$ref.grad.arrays))
  arg.params <- lapply(first$ref.arg.arrays[trained], mx.nd.copyto, mx.cpu())
  aux <- lapply(train.execs, function(e) e$ref.aux.arrays)
  mean.of <- function(name) {
    parts <- lapply(aux, function(a) mx.nd.copyto(a[[name]], mx.cpu()))
    if (length(parts) == 1L) parts[[1L]] else mx.nd.add.n(parts) / length(parts)
  }
  names.aux <- names(aux[[1L]])
  aux.params <- if (length(names.aux)) lapply(stats::setNames(names.aux, names.aux), mean.of) else list()
  mx.model.internal.new(symbol, arg.params, aux.params)
}

# ---- group ----

# Binds `symbol` for batches of `shapes` (named list of dims), cut over the devices of `net`. `feed` names the entry
# of a batch for each input argument, `label` the entry that the metric compares with (NULL: none).
mx.group.new <- function(net, symbol, shapes, feed, label, is.train) {
  slices <- mx.model.slice.shape(shapes, length(net$ctx))
  on <- net$ctx[seq_along(slices)]
  execs <- mapply(function(slice, d) mx.group.internal.bind(net, symbol, slice$shape, d, is.train), slices,
                  seq_along(slices),
                  SIMPLIFY = FALSE)
  net$bound$execs <- c(net$bound$execs, execs)
  several <- length(execs) > 1L
  inputs <- names(feed)
  one <- execs[[1L]]
  host <- vapply(on, function(d) identical(d$device, "cpu"), NA)

  feed.batch <- function(batch) {
    arrays <- batch[feed]
    names(arrays) <- inputs
    for (i in seq_along(arrays)) if (!inherits(arrays[[i]], "MXNDArray")) arrays[[i]] <- mx.nd.array(arrays[[i]],
        mx.cpu())
    if (!several) return(mx.exec.update.arg.arrays(one, arrays, match.name = TRUE))
    for (d in seq_along(execs)) {
      part <- lapply(arrays, mx.nd.slice, slices[[d]]$begin, slices[[d]]$end)
      mx.exec.update.arg.arrays(execs[[d]], part, match.name = TRUE)
    }
  }
  # The first output for the whole batch.
  prediction <- function(metric_cpu) {
    if (!several) {
      out <- one$ref.outputs[[1L]]
      return(if (metric_cpu && !host[1L]) mx.nd.copyto(out, mx.cpu()) else out)
    }
    parts <- lapply(execs, function(e) mx.nd.copyto(e$ref.outputs[[1L]], if (metric_cpu) mx.cpu() else on[[1L]]))
    mx.nd.concat(data = parts, num_args = length(parts), dim = 0)
  }
  # Outputs behind the first that are no losses, such as last states, have no part in training.
  heads <- vector("list", length(execs))
  back <- function(d) {
    if (is.null(heads[[d]])) heads[[d]] <<- c(list(NULL), lapply(unname(execs[[d]]$ref.outputs)[-1L], mx.nd.zeros.like))
    .Call(ffi_exec_backward, execs[[d]], heads[[d]])
  }
  metric.label <- function(batch, metric_cpu) {
    out <- if (!is.null(label)) batch[[label]]
    if (is.null(out)) mx.stop("value", "A metric was given, but batches have no label.")
    if (metric_cpu || host[1L]) out else mx.nd.copyto(mx.util.as.nd(out), on[[1L]])
  }
  list(
    execs = execs, devices = length(execs), shapes = shapes,
    feed = feed.batch, prediction = prediction, label = metric.label,
    forward = function(is.train) for (e in execs) mx.exec.forward(e, is.train),
    backward = function() for (d in seq_along(execs)) back(d))
}

mx.group.internal.bind <- function(net, symbol, shapes, d, is.train) {
  inferred <- mx.model.internal.shapes(symbol, shapes)
  on <- net$ctx[[d]]
  dims <- inferred$arg.shapes
  mx.net.internal.fit(net$args[[d]], dims, "Parameter")
  inputs <- lapply(dims[setdiff(names(dims), names(net$args[[d]]))], mx.nd.zeros, on)
  net$bound$inputs <- c(net$bound$inputs, inputs)
  args <- c(net$args[[d]], inputs)[names(dims)]
  grads <- vector("list", length(args))
  if (is.train) {
    at <- match(net$free, names(args), nomatch = 0L)
    grads[at] <- net$grads[[d]][at > 0L]
  }
  mx.exec.bind.shared(symbol, on, args, grads, unname(net$aux[[d]][names(inferred$aux.shapes)]))
}

# ---- loop ----

# Trains `net`. `group.of(iter, batch, is.train)` gives the group that a batch needs.
mx.train.loop <- function(net, group.of, train.data, eval.data, metric, optimizer, kvstore, begin.round, end.round,
                          epoch.end.callback, batch.end.callback, verbose, metric_cpu) {
  if (!is.null(metric) && !inherits(metric, "mx.metric"))
    mx.stop("value", "The metric must be an mx.metric (see mx.metric.custom), not ", mx.util.say(metric), ".")
  if (!is.null(batch.end.callback)) mx.util.function(batch.end.callback, "batch.end.callback", "(see mx.callback)")
  mx.opt.internal.check(optimizer)
  private <- mx.train.internal.private(optimizer, epoch.end.callback, batch.end.callback)
  if (!is.null(epoch.end.callback)) epoch.end.callback <- mx.train.internal.epoch.callback(epoch.end.callback)
  metric_cpu <- mx.util.flag(metric_cpu, "metric_cpu")
  begin.round <- mx.util.count(begin.round, "begin.round", 0)
  end.round <- mx.util.count(end.round, "num.round", 0)
  mx.train.internal$last <- NULL
  env <- environment() # what callbacks see
  on.exit(if (private) mx.net.close(net) else mx.net.rest(net))
  symbol <- net$symbol
  ndevice <- length(net$ctx)
  group <- NULL
  train.execs <- NULL
  train.metric <- eval.metric <- NULL
  history <- data.frame(epoch = integer(), train = numeric(), eval = numeric())
  # The model is made when somebody looks.
  extract <- function() {
    if (is.null(train.execs)) train.execs <<- group.of(train.data, mx.model.internal.first(train.data), TRUE)$execs
    model <- mx.model.extract.model(symbol, train.execs)
    attr(model, "history") <- history
    if (!is.null(metric)) attr(attr(model, "history"), "metric") <- metric$get(c(1, 0))$name
    model
  }
  makeActiveBinding("model", function(value) if (missing(value)) extract() else mx.stop("value",
      "env$model cannot be set."), env)

  if (verbose) message("Start training with ", ndevice, " devices")
  step <- mx.train.internal.stepper(net, optimizer, kvstore)
  on.exit(step$close(), add = TRUE)
  hints <- mx.hints.new(verbose, symbol)
  progress <- mx.progress.new(verbose, begin.round, end.round)
  on.exit(progress$close(), add = TRUE)
  nxt <- train.data$iter.next
  value <- train.data$value

  run <- function() {
    iteration <- begin.round
    batch <- NULL
    while (iteration <= end.round) {
      train.data$reset()
      nbatch <- 0
      if (!is.null(metric)) train.metric <<- metric$init()
      while (nxt()) {
        batch <- value()
        group <<- group.of(train.data, batch, TRUE)
        train.execs <<- group$execs
        group$feed(batch)
        group$forward(TRUE)
        group$backward()
        step$run(group$devices)
        if (!is.null(metric))
          train.metric <<- metric$update(group$label(batch, metric_cpu), group$prediction(metric_cpu), train.metric)
        nbatch <- nbatch + 1
        hints$batch(iteration, nbatch, batch, group)
        progress$batch(iteration, nbatch, group, metric, train.metric)
        if (!is.null(batch.end.callback)) batch.end.callback(iteration, nbatch, env)
      }
      if (nbatch == 0) mx.stop("value", "Empty input")
      progress$epoch(nbatch)
      report <- function(what, state) {
        result <- metric$get(state)
        if (verbose) message("[", iteration, "] ", what, "-", result$name, "=", result$value)
        result$value
      }
      train.value <- if (is.null(metric)) NA_real_ else report("Train", train.metric)
      hints$epoch(iteration, train.value, group)
      eval.value <- NA_real_
      if (!is.null(eval.data) && !is.null(metric)) {
        eval.metric <<- mx.train.internal.evaluate(eval.data, group.of, metric, metric_cpu)
        eval.value <- report("Validation", eval.metric)
      }
      history[nrow(history) + 1L, ] <<- list(as.integer(iteration), train.value, eval.value)
      go.on <- if (!is.null(epoch.end.callback)) epoch.end.callback(iteration, 0, env, verbose = verbose)
      if (identical(as.logical(go.on), FALSE)) break
      iteration <- iteration + 1
    }
    if (!is.null(batch)) hints$end(iteration, batch, group)
  }
  keep <- function(cnd) {
    progress$close()
    mx.train.internal$last <- tryCatch(extract(), error = function(e) NULL)
  }
  # What callbacks report takes the place of the line, which cli draws with messages too.
  clear <- function(cnd) if (!inherits(cnd, "cliMessage")) progress$close()
  withCallingHandlers(run(), interrupt = keep, error = keep, message = clear, warning = clear)
  extract()
}

# Whether only this package's functions see the arrays of a training.
mx.train.internal.private <- function(optimizer, ...) {
  ours <- function(f) is.null(f) || (is.function(f) && identical(topenv(environment(f)), topenv()))
  !is.null(attr(optimizer$update, "stepper")) && all(vapply(list(...), ours, NA))
}

# Callbacks of the oldest releases had no argument `verbose`, which is given by name.
mx.train.internal.epoch.callback <- function(f) {
  mx.util.function(f, "epoch.end.callback", "(see mx.callback)")
  if (any(c("verbose", "...") %in% names(formals(args(f))))) f
  else function(iteration, nbatch, env, verbose) f(iteration, nbatch, env)
}

# The metric's state over a validation set.
mx.train.internal.evaluate <- function(iter, group.of, metric, metric_cpu) {
  state <- metric$init()
  iter$reset()
  while (iter$iter.next()) {
    batch <- iter$value()
    group <- group.of(iter, batch, FALSE)
    group$feed(batch)
    group$forward(FALSE)
    state <- metric$update(group$label(batch, metric_cpu), group$prediction(metric_cpu), state)
  }
  state
}

# run(devices) moves the parameters once the first `devices` devices have computed their gradients: these are added
# through the kvstore, the parameters are stepped on the first device and copied to the others. close() gives back what
# that took.
mx.train.internal.stepper <- function(net, optimizer, kvstore) {
  step <- mx.opt.stepper(optimizer, net$args[[1L]][net$free], net$grads[[1L]])
  close <- function() .Call(ffi_release, attr(step, "states"))
  if (is.null(kvstore) || !length(net$free)) return(list(run = function(devices) step(), close = close))
  keys <- mx.train.internal$key + seq_along(net$free) - 1
  mx.train.internal$key <- mx.train.internal$key + length(net$free)
  kvstore$init(keys, unname(net$grads[[1L]]))
  grads <- lapply(net$grads, unname)
  weights <- lapply(net$args, function(a) unname(a[net$free]))
  others <- seq_along(net$ctx)[-1L]
  run <- function(devices) {
    kvstore$push(keys, grads[seq_len(devices)], -keys)
    kvstore$pull(keys, grads[1L], -keys)
    step()
    for (d in others) mapply(mx.util.assign, weights[[d]], weights[[1L]])
  }
  list(run = run, close = function() {
    close()
    entries <- mget(as.character(keys), kvstore$store)
    rm(list = names(entries), envir = kvstore$store)
    if (!length(kvstore$optimizer)) .Call(ffi_release, lapply(entries, `[[`, "value"))
  })
}

# The kvstore of a training: none for one device.
mx.model.create.kvstore <- function(kvstore, arg.params, ndevice, verbose = TRUE) {
  if (is.MXKVStore(kvstore)) return(kvstore)
  if (!is.character(kvstore)) mx.stop("value", "kvstore must be either MXKVStore or a string")
  if (ndevice == 1L && !any(startsWith(kvstore, "dist"))) return(NULL)
  if (identical(kvstore, "local")) {
    largest <- max(0, vapply(arg.params, length, 0))
    kvstore <- if (largest < 1024 * 1024 * 16) "local_update_cpu" else "local_allreduce_cpu"
    if (verbose) message("Auto-select kvstore type = ", kvstore)
  }
  mx.kv.create(kvstore)
}

# Trains a network whose batches all have one shape (validation may have another).
mx.model.train <- function(symbol, ctx, input.shape, output.shape, arg.params, aux.params, begin.round, end.round,
                           optimizer, train.data, eval.data, metric, epoch.end.callback, batch.end.callback, kvstore,
                           fixed.param = NULL, verbose = TRUE, metric_cpu = TRUE, feed = NULL) {
  shapes <- c(input.shape, output.shape)
  if (is.null(feed)) feed <- stats::setNames(c(names(input.shape), rep("label", length(output.shape))), names(shapes))
  slices <- mx.model.slice.shape(shapes, length(ctx))
  net <- mx.net.new(symbol, ctx, slices[[1L]]$shape, arg.params, aux.params, fixed.param)
  label <- mx.train.internal.label(feed, names(output.shape))
  train <- NULL
  evals <- list()
  group.of <- function(iter, batch, is.train) {
    if (is.train) {
      if (is.null(train)) train <<- mx.group.new(net, symbol, shapes, feed, label, TRUE)
      return(train)
    }
    dims <- mx.train.internal.shapes(batch, feed)
    if (!is.null(train) && identical(dims, train$shapes)) return(train)
    key <- paste(unlist(dims), collapse = " ")
    if (is.null(evals[[key]])) evals[[key]] <<- mx.group.new(net, symbol, dims, feed, label, FALSE)
    evals[[key]]
  }
  mx.train.loop(net, group.of, train.data, eval.data, metric, optimizer, kvstore, begin.round, end.round,
                epoch.end.callback,
                batch.end.callback, verbose, metric_cpu)
}

# The entry of a batch that the metric compares with: what the first label argument gets, or "label".
mx.train.internal.label <- function(feed, labels) if (length(labels)) feed[[labels[1L]]] else "label"

# Dims of the inputs in a batch.
mx.train.internal.shapes <- function(batch, feed)
  lapply(stats::setNames(feed, names(feed)), function(field) {
    x <- batch[[field]]
    if (is.null(dim(x))) length(x) else dim(x)
  })
