# Examples for the help pages of operators, by the name of the record: read by tools/document. A family's example holds
# for those of its operators that have none of their own; NAME stands for the operator's R name.
own <- list(
  FullyConnected = "
data <- mx.symbol.Variable(\"data\")
net <- mx.symbol.FullyConnected(data, num_hidden = 3, name = \"fc1\")
mx.symbol.infer.shape(net, data = c(4, 10))$arg.shapes
mx.nd.FullyConnected(mx.nd.ones(c(4, 2)), mx.nd.ones(c(4, 3)), mx.nd.array(1:3), num_hidden = 3)",
  Activation = "
mx.nd.Activation(mx.nd.array(c(-1, 0, 2)), act_type = \"relu\")
mx.symbol.Activation(mx.symbol.Variable(\"data\"), act_type = \"tanh\", name = \"tanh1\")",
  LeakyReLU = "mx.nd.LeakyReLU(mx.nd.array(c(-1, 0, 2)), act_type = \"leaky\", slope = 0.1)",
  BatchNorm = "
bn <- mx.symbol.BatchNorm(mx.symbol.Variable(\"data\"), fix_gamma = FALSE, name = \"bn\")
arguments(bn)
bn$auxiliary.states",
  Convolution = "
image <- mx.nd.array(array(1:20, c(5, 4, 1, 1)))
weight <- mx.nd.ones(c(3, 2, 1, 1))
mx.nd.Convolution(image, weight, kernel = c(3, 2), num_filter = 1, no_bias = TRUE)
data <- mx.symbol.Variable(\"data\")
net <- mx.symbol.Convolution(data, kernel = c(5, 5), num_filter = 20, name = \"conv1\")
mx.symbol.infer.shape(net, data = c(28, 28, 1, 100))$out.shapes",
  Deconvolution = "
data <- mx.symbol.Variable(\"data\")
net <- mx.symbol.Deconvolution(data, kernel = c(4, 4), stride = c(2, 2), pad = c(1, 1),
  num_filter = 3)
mx.symbol.infer.shape(net, data = c(8, 8, 16, 1))$out.shapes",
  Pooling = "
image <- mx.nd.array(array(1:16, c(4, 4, 1, 1)))
mx.nd.Pooling(image, kernel = c(2, 2), stride = c(2, 2), pool_type = \"max\")
mx.nd.Pooling(image, global_pool = TRUE, pool_type = \"avg\", kernel = c(2, 2))",
  Dropout = "
net <- mx.symbol.Dropout(mx.symbol.Variable(\"data\"), p = 0.5)
e <- mx.simple.bind(net, mx.cpu(), data = 8)
mx.exec.update.arg.arrays(e, list(data = mx.nd.ones(8)), match.name = TRUE)
mx.exec.forward(e, is.train = TRUE)
e$ref.outputs[[1]]",
  Embedding = "
table <- mx.nd.array(matrix(1:6, 2, 3)) # three vectors of length 2
mx.nd.Embedding(mx.nd.array(c(0, 2)), table, input_dim = 3, output_dim = 2)",
  softmax = "mx.nd.softmax(mx.nd.array(matrix(c(1, 2, 3, 0, 0, 1), 3, 2)))",
  log_softmax = "mx.nd.log.softmax(mx.nd.array(matrix(c(1, 2, 3, 0, 0, 1), 3, 2)))",
  LayerNorm = "mx.nd.LayerNorm(mx.nd.array(matrix(1:6, 3)), mx.nd.ones(3), mx.nd.zeros(3))",
  L2Normalization = "mx.nd.L2Normalization(mx.nd.array(matrix(c(3, 4, 6, 8), 2)))",
  RNN = "
data <- mx.symbol.Variable(\"data\")
net <- mx.symbol.RNN(data, state_size = 5, num_layers = 1, mode = \"lstm\", name = \"lstm\")
arguments(net)
mx.symbol.infer.shape(net, data = c(4, 2, 7))$arg.shapes",
  SoftmaxOutput = "
net <- mx.symbol.SoftmaxOutput(mx.symbol.Variable(\"data\"), name = \"softmax\")
mx.symbol.infer.shape(net, data = c(10, 32))$arg.shapes",
  LinearRegressionOutput = "arguments(mx.symbol.LinearRegressionOutput(mx.symbol.Variable(\"data\"), name = \"out\"))",
  MakeLoss = "
error <- mx.symbol.Variable(\"prediction\") - mx.symbol.Variable(\"target\")
loss <- mx.symbol.MakeLoss(mx.symbol.square(error), name = \"loss\")
arguments(loss)",
  BlockGrad = "
x <- mx.symbol.Variable(\"x\")
mx.symbol.BlockGrad(x) * x # the first factor counts as a constant",
  Concat = "
mx.nd.concat(list(mx.nd.array(1:2), mx.nd.array(3:5)), dim = 0)
mx.symbol.concat(list(mx.symbol.Variable(\"a\"), mx.symbol.Variable(\"b\")), num.args = 2)",
  stack = "mx.nd.stack(list(mx.nd.array(1:2), mx.nd.array(3:4)), axis = 0)",
  add_n = "mx.nd.add.n(list(mx.nd.array(1:2), mx.nd.array(3:4), mx.nd.array(5:6)))",
  SliceChannel = "mx.nd.split(mx.nd.array(matrix(1:8, 4, 2)), num_outputs = 2, axis = 1)",
  Reshape = "
x <- mx.nd.array(array(1:24, c(2, 3, 4)))
dim(mx.nd.reshape(x, shape = c(6, -1)))
dim(mx.nd.reshape(x, shape = c(-1, 0)))",
  Flatten = "dim(mx.nd.flatten(mx.nd.ones(c(2, 3, 4))))",
  transpose = "
mx.nd.transpose(mx.nd.array(matrix(1:6, 2)))
dim(mx.nd.transpose(mx.nd.ones(c(2, 3, 4)), axes = c(2, 0, 1)))",
  SwapAxis = "dim(mx.nd.swapaxes(mx.nd.ones(c(2, 3, 4)), dim1 = 0, dim2 = 1))",
  expand_dims = "dim(mx.nd.expand.dims(mx.nd.ones(c(2, 3)), axis = 0))",
  slice = "mx.nd.crop(mx.nd.array(matrix(1:12, 3)), begin = c(0, 1), end = c(2, 3))",
  slice_axis = "mx.nd.slice.axis(mx.nd.array(matrix(1:12, 3, 4)), axis = 0, begin = 1, end = 3)",
  tile = "mx.nd.tile(mx.nd.array(1:2), reps = 3)",
  `repeat` = "mx.nd.repeat(mx.nd.array(1:2), repeats = 2)",
  reverse = "mx.nd.reverse(mx.nd.array(1:3), axis = 0)",
  Pad = "mx.nd.pad(mx.nd.ones(c(2, 2, 1, 1)), mode = \"constant\", pad_width = c(1, 1, 1, 1, 0, 0, 0, 0))",
  broadcast_to = "mx.nd.broadcast.to(mx.nd.array(matrix(1:2, 1)), shape = c(3, 2))",
  broadcast_axis = "mx.nd.broadcast.axis(mx.nd.array(matrix(1:2, 1)), axis = 1, size = 3)",
  diag = "mx.nd.diag(mx.nd.array(1:2))",
  where = "mx.nd.where(mx.nd.array(c(1, 0, 1)), mx.nd.array(1:3), mx.nd.array(7:9))",
  take = "mx.nd.take(mx.nd.array(matrix(1:6, 2)), mx.nd.array(c(0, 2)))",
  pick = "mx.nd.pick(mx.nd.array(matrix(1:6, 2)), mx.nd.array(c(0, 1, 0)), axis = 1)",
  one_hot = "mx.nd.one.hot(mx.nd.array(c(0, 2, 1)), depth = 3)",
  topk = "mx.nd.topk(mx.nd.array(c(3, 1, 4, 1, 5)), k = 2, ret_typ = \"value\")",
  sort = "mx.nd.sort(mx.nd.array(c(3, 1, 2)))",
  argsort = "mx.nd.argsort(mx.nd.array(c(3, 1, 2)))",
  gather_nd = "mx.nd.gather.nd(mx.nd.array(matrix(1:6, 3)), mx.nd.array(matrix(c(0, 1, 1, 2), 2)))",
  Cast = "mx.nd.cast(mx.nd.array(c(1.7, -1.7)), dtype = \"int32\")",
  clip = "mx.nd.clip(mx.nd.array(c(-5, 0.5, 9)), a_min = -1, a_max = 1)",
  smooth_l1 = "mx.nd.smooth.l1(mx.nd.array(c(-2, 0.2, 3)), scalar = 1)",
  dot = "
a <- mx.nd.array(matrix(1:6, 2))
b <- mx.nd.array(matrix(1:6, 3))
mx.nd.dot(a, b) # as.array(b) %*% as.array(a): operators see the transposes",
  batch_dot = "dim(mx.nd.batch.dot(mx.nd.ones(c(2, 3, 5)), mx.nd.ones(c(4, 2, 5))))",
  norm = "mx.nd.norm(mx.nd.array(c(3, 4)))",
  moments = "mx.nd.moments(mx.nd.array(c(1, 2, 3)), axes = 0)",
  argmax_channel = "mx.nd.argmax.channel(mx.nd.array(matrix(c(3, 1, 2, 6, 5, 4), 2)))",
  `_np_cumsum` = "mx.nd.cumsum(mx.nd.array(1:4))",
  sgd_update = "mx.nd.sgd.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), lr = 0.1)",
  sgd_mom_update = "
weight <- mx.nd.array(c(1, 2))
momentum <- mx.nd.zeros(2)
mx.nd.sgd.mom.update(weight, mx.nd.array(c(0.5, 0.5)), momentum, lr = 0.1, momentum = 0.9)
momentum # changed in place",
  adam_update = "
mean <- mx.nd.zeros(2)
var <- mx.nd.zeros(2)
mx.nd.adam.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), mean, var, lr = 0.1)",
  `_random_uniform` = "mx.nd.random.uniform(low = -1, high = 1, shape = c(2, 3))",
  `_random_normal` = "mx.nd.random.normal(loc = 0, scale = 1, shape = c(2, 3))",
  `_random_randint` = "mx.nd.random.randint(low = 0, high = 10, shape = 5)",
  `_sample_multinomial` = "mx.nd.sample.multinomial(mx.nd.array(c(0.2, 0.8)), shape = 5)",
  `_shuffle` = "mx.nd.shuffle(mx.nd.array(1:5))",
  SequenceLast = "
x <- mx.nd.array(array(1:12, c(2, 2, 3)))
mx.nd.SequenceLast(x, mx.nd.array(c(1, 3)), use_sequence_length = TRUE)",
  SequenceMask = "mx.nd.SequenceMask(mx.nd.ones(c(2, 3)), mx.nd.array(c(1, 3)), use_sequence_length = TRUE)",
  UpSampling = "
image <- mx.nd.array(array(1:4, c(2, 2, 1, 1)))
mx.nd.UpSampling(list(image), scale = 2, sample_type = \"nearest\", num_args = 1)"
)
family <- list(
  "Elementwise unary" = "NAME(mx.nd.array(c(0.25, 0.5, 1)))",
  "Elementwise binary" = "NAME(mx.nd.array(1:3), mx.nd.array(c(2, 2, 2)))",
  "Broadcasting binary" = "NAME(mx.nd.array(matrix(1:6, 2)), mx.nd.array(matrix(1:2, 2)))",
  "Reduction" = "NAME(mx.nd.array(matrix(c(3, 1, 2, 6, 5, 4), 2)), axis = 0)"
)

# Lines for a record that R calls `name`.
function(record, name) {
  text <- own[[record$name]]
  fits <- record$family != "Reduction" || "axis" %in% vapply(record$parameters, `[[`, "", "name")
  if (is.null(text) && fits && length(name)) text <- gsub("NAME", name, family[[record$family]], fixed = TRUE)
  if (length(text) == 0L) NULL else strsplit(sub("^\n", "", text), "\n")[[1L]]
}
