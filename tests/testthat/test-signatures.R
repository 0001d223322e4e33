# The interface that scripts for MXNet 1.9.1 call: names, arguments, their order and defaults. Arguments of this
# package's own come after those, and have defaults.

exported <- "
arguments(x)
children(x)
ctx(nd)
graph.viz(symbol, shape = NULL, direction = 'TD', type = 'graph', graph.width.px = NULL, graph.height.px = NULL)
internals(x)
is.mx.context(x)
is.mx.dataiter(x)
is.mx.ndarray(src.array)
is.mx.symbol(x)
is.serialized(model)
mx.apply(x, ...)
mx.callback.early.stop(train.metric = NULL, eval.metric = NULL, bad.steps = NULL, maximize = FALSE, verbose =
  FALSE)
mx.callback.log.speedometer(batch.size, frequency = 50)
mx.callback.log.train.metric(period, logger = NULL)
mx.callback.save.checkpoint(prefix, period = 1)
mx.cpu(dev.id = 0L)
mx.ctx.default(new = NULL)
mx.exec.backward(exec, ...)
mx.exec.forward(exec, is.train = TRUE)
mx.exec.update.arg.arrays(exec, arg.arrays, match.name = FALSE, skip.null = FALSE)
mx.exec.update.aux.arrays(exec, arg.arrays, match.name = FALSE, skip.null = FALSE)
mx.exec.update.grad.arrays(exec, arg.arrays, match.name = FALSE, skip.null = FALSE)
mx.gpu(dev.id = 0L)
mx.infer.rnn(infer.data, model, ctx = mx.cpu())
mx.infer.rnn.one(infer.data, symbol, arg.params, aux.params, input.params = NULL, ctx = mx.cpu())
mx.infer.rnn.one.unroll(infer.data, symbol, num_hidden, arg.params, aux.params, init_states = NULL, ctx =
  mx.cpu())
mx.init.create(initializer, shape.array, ctx = NULL, skip.unknown = TRUE)
mx.init.normal(sd)
mx.init.uniform(scale)
mx.init.Xavier(rnd_type = 'uniform', factor_type = 'avg', magnitude = 3)
mx.io.arrayiter(data, label, batch.size = 128, shuffle = FALSE)
mx.io.bucket.iter(buckets, batch.size, data.mask.element = 0, shuffle = FALSE, seed = 123)
mx.io.extract(iter, field)
mx.kv.create(type = 'local')
mx.lr_scheduler.FactorScheduler(step, factor_val, stop_factor_lr = 1e-08, verbose = TRUE)
mx.lr_scheduler.MultiFactorScheduler(step, factor_val, stop_factor_lr = 1e-08, verbose = TRUE)
mx.metric.custom(name, feval)
mx.metric.logger(...)
mx.mlp(data, label, hidden_node = 1, out_node, dropout = NULL, activation = 'tanh', out_activation = 'softmax',
  ctx = mx.ctx.default(), ...)
mx.model.buckets(symbol, train.data, eval.data = NULL, metric = NULL, arg.params = NULL, aux.params = NULL,
  fixed.params = NULL, num.round = 1, begin.round = 1, initializer = mx.init.uniform(0.01), optimizer = 'sgd', ctx
  = NULL, batch.end.callback = NULL, epoch.end.callback = NULL, kvstore = 'local', verbose = TRUE, metric_cpu =
  TRUE)
mx.model.FeedForward.create(symbol, X, y = NULL, ctx = NULL, begin.round = 1, num.round = 10, optimizer = 'sgd',
  initializer = mx.init.uniform(0.01), eval.data = NULL, eval.metric = NULL, epoch.end.callback = NULL,
  batch.end.callback = NULL, array.batch.size = 128, array.layout = 'auto', kvstore = 'local', verbose = TRUE,
  arg.params = NULL, aux.params = NULL, input.names = NULL, output.names = NULL, fixed.param = NULL,
  allow.extra.params = FALSE, metric_cpu = TRUE, ...)
mx.model.init.params(symbol, input.shape, output.shape, initializer, ctx)
mx.model.load(prefix, iteration)
mx.model.save(model, prefix, iteration)
mx.nd.array(src.array, ctx = NULL)
mx.nd.copyto(src, ctx)
mx.nd.load(filename)
mx.nd.ones(shape, ctx = NULL)
mx.nd.save(ndarray, filename)
mx.nd.zeros(shape, ctx = NULL)
mx.opt.create(name, ...)
mx.opt.get.updater(optimizer, weights, ctx)
mx.profiler.config(params)
mx.profiler.state(state = MX.PROF.STATE$STOP)
mx.rnorm(shape, mean = 0, sd = 1, ctx = NULL)
mx.runif(shape, min = 0, max = 1, ctx = NULL)
mx.serialize(model)
mx.set.seed(seed)
mx.simple.bind(symbol, ctx, grad.req = 'null', fixed.param = NULL, ...)
mx.symbol.concat(data, num.args, dim = NULL, name = NULL)
mx.symbol.Concat(data, num.args, dim = NULL, name = NULL)
mx.symbol.Group(...)
mx.symbol.infer.shape(symbol, ...)
mx.symbol.load(file.name)
mx.symbol.load.json(json.str)
mx.symbol.min(e1, e2)
mx.symbol.save(symbol, filename)
mx.symbol.Variable(name)
mx.unserialize(model)
mxnet.export(path)
outputs(x)
rnn.graph(num_rnn_layer, input_size = NULL, num_embed = NULL, num_hidden, num_decode, dropout = 0, ignore_label =
  -1, bidirectional = F, loss_output = NULL, config, cell_type, masking = F, output_last_state = F, rnn.state =
  NULL, rnn.state.cell = NULL, prefix = '')
rnn.graph.unroll(num_rnn_layer, seq_len, input_size = NULL, num_embed = NULL, num_hidden, num_decode, dropout =
  0, ignore_label = -1, loss_output = NULL, init.state = NULL, config, cell_type = 'lstm', masking = F,
  output_last_state = F, prefix = '', data_name = 'data', label_name = 'label')
"

unexported <- "
mx.init.internal.default(name, shape, ctx, allow.unknown = FALSE)
mx.nd.internal.empty(shape, ctx = NULL)
mx.model.train(symbol, ctx, input.shape, output.shape, arg.params, aux.params, begin.round, end.round, optimizer,
  train.data, eval.data, metric, epoch.end.callback, batch.end.callback, kvstore, fixed.param, verbose, metric_cpu)
mx.model.train.buckets(symbol, ctx, train.data, eval.data, dlist, arg.params, aux.params, grad.req,
  arg.update.idx, begin.round, end.round, optimizer, metric, metric_cpu, epoch.end.callback, batch.end.callback,
  kvstore, verbose)
mx.model.extract.model(symbol, train.execs)
mx.model.create.kvstore(kvstore, arg.params, ndevice, verbose = TRUE)
mx.model.slice.shape(shape, nsplit)
mx.model.check.arguments(symbol)
mx.model.init.iter(X, y, batch.size, is.train)
mx.model.select.layout.train(X, y)
mx.model.select.layout.predict(X, model)
mx.opt.sgd(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1, lr_scheduler = NULL)
mx.opt.rmsprop(learning.rate = 0.002, centered = TRUE, gamma1 = 0.95, gamma2 = 0.9, epsilon = 1e-04, wd = 0,
  rescale.grad = 1, clip_gradient = -1, lr_scheduler = NULL)
mx.opt.adam(learning.rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-08, wd = 0, rescale.grad = 1,
  clip_gradient = -1, lr_scheduler = NULL)
mx.opt.adagrad(learning.rate = 0.05, epsilon = 1e-08, wd = 0, rescale.grad = 1, clip_gradient = -1, lr_scheduler
  = NULL)
mx.opt.adadelta(rho = 0.9, epsilon = 1e-05, wd = 0, rescale.grad = 1, clip_gradient = -1)
mx.opt.nag(learning.rate = 0.01, momentum = 0, wd = 0, rescale.grad = 1, clip_gradient = -1, lr_scheduler = NULL)
mx.util.filter.null(lst)
lstm.cell(num_hidden, indata, prev.state, param, seqidx, layeridx, dropout = 0, prefix = '')
gru.cell(num_hidden, indata, prev.state, param, seqidx, layeridx, dropout = 0, prefix)
is.MXSymbol(x)
is.MXNDArray(nd)
is.MXKVStore(x)
"

# "f(a, b = 1)" on one or more lines, further ones indented.
signatures <- function(text) {
  lines <- strsplit(gsub("\n +", " ", trimws(text)), "\n", fixed = TRUE)[[1]]
  name <- sub("\\(.*", "", lines)
  formals <- lapply(lines, function(l) formals(eval(parse(text = sub("^[^(]*", "function", paste(l, "NULL"))))))
  stats::setNames(formals, name)
}

expect_signature <- function(name, wanted) {
  own <- formals(getFromNamespace(name, "mxnet"))
  expect_identical(names(own)[seq_along(wanted)], names(wanted), info = name)
  for (n in names(wanted)) {
    if (identical(wanted[[n]], quote(expr = ))) next
    expect_identical(deparse(own[[n]]), deparse(wanted[[n]]), info = paste(name, n))
  }
  for (n in setdiff(names(own), names(wanted))) expect_false(identical(own[[n]], quote(expr = )), info = name)
}

test_that("everything exported is there, with its arguments", {
  wanted <- signatures(exported)
  expect_gt(length(wanted), 70)
  expect_identical(setdiff(names(wanted), getNamespaceExports("mxnet")), character())
  for (n in names(wanted)) expect_signature(n, wanted[[n]])
})

test_that("so is what scripts reach with three colons", {
  wanted <- signatures(unexported)
  for (n in names(wanted)) expect_signature(n, wanted[[n]])
  for (n in c("mx.nd.slice", "mx.io.internal.arrayiter", "mx.nd.internal.crop.assign", "mx.varg.symbol.Concat"))
    expect_true(is.function(getFromNamespace(n, "mxnet")), info = n)
})

test_that("objects that are no functions", {
  for (n in paste0("mx.metric.", c("accuracy", "logistic_acc", "logloss", "mae", "mse", "Perplexity", "rmse", "rmsle",
                                   "top_k_accuracy")))
    expect_identical(names(getExportedValue("mxnet", n)), c("init", "update", "get"), info = n)
  expect_identical(MX.PROF.STATE, list(STOP = 0L, RUN = 1L))
  expect_identical(mx.metric.logger$fields(), c(train = "numeric", eval = "numeric"))
})

test_that("members of the classes", {
  s <- mx.symbol.SoftmaxOutput(mx.symbol.Variable("data"), name = "sm")
  expect_no_error(for (m in c("arguments", "outputs", "auxiliary.states", "attributes", "apply", "as.json", "save",
                              "debug.str", "get.internals", "get.children", "get.output", "infer.shape"))
    eval(call("$", s, as.name(m))))
  e <- mx.simple.bind(s, mx.cpu(), data = c(2, 3))
  expect_no_error(for (m in c("ref.arg.arrays", "ref.grad.arrays", "ref.aux.arrays", "ref.outputs", "arg.arrays",
                              "grad.arrays", "aux.arrays", "outputs", "update.arg.arrays", "update.aux.arrays",
                              "update.grad.arrays", "forward", "backward"))
    eval(call("$", e, as.name(m))))
  for (n in c("init", "push", "pull", "set.optimizer", "type", "update.on.kvstore"))
    expect_no_error(do.call("$", list(mx.kv.create(), n)))
  it <- mx.io.bucket.iter(list("2" = list(data = matrix(1:4, 2), label = 1:2)), batch.size = 1)
  for (n in c("buckets", "bucket.names", "batch.size", "data.mask.element", "shuffle", "bucket.plan", "bucketID",
              "epoch", "batch", "batch.per.bucket", "last.batch.pad", "batch.per.epoch", "seed", "reset", "iter.next",
              "value", "num.pad", "finalize"))
    expect_no_error(do.call("$", list(it, n)))
})
