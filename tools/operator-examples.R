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
  BatchNorm_v1 = "arguments(mx.symbol.BatchNorm_v1(mx.symbol.Variable(\"data\"), name = \"bn\"))",
  GroupNorm = "
image <- mx.nd.array(array(1:16, c(2, 2, 4, 1)))
mx.nd.GroupNorm(image, mx.nd.ones(2), mx.nd.zeros(2), num_groups = 2)",
  InstanceNorm = "mx.nd.InstanceNorm(mx.nd.array(array(1:8, c(4, 2, 1))), mx.nd.ones(2), mx.nd.zeros(2))",
  RMSNorm = "mx.nd.RMSNorm(mx.nd.array(matrix(1:6, 3)), mx.nd.ones(3))",
  LRN = "mx.nd.LRN(mx.nd.array(array(1:4, c(1, 1, 4, 1))), nsize = 3)",
  IdentityAttachKLSparseReg = "
net <- mx.symbol.IdentityAttachKLSparseReg(mx.symbol.Variable(\"data\"), name = \"sparse\")
net$auxiliary.states",
  Convolution_v1 = "
net <- mx.symbol.Convolution_v1(mx.symbol.Variable(\"data\"), kernel = c(5, 5), num_filter = 20,
  name = \"conv1\")
mx.symbol.infer.shape(net, data = c(28, 28, 1, 100))$out.shapes",
  Pooling_v1 = "
image <- mx.nd.array(array(1:16, c(4, 4, 1, 1)))
mx.nd.Pooling.v1(image, kernel = c(2, 2), stride = c(2, 2), pool_type = \"max\")",
  im2col = "
image <- mx.nd.array(array(1:9, c(3, 3, 1, 1)))
mx.nd.im2col(image, kernel = c(2, 2)) # a column for each window",
  col2im = "
image <- mx.nd.array(array(1:9, c(3, 3, 1, 1)))
columns <- mx.nd.im2col(image, kernel = c(2, 2))
# how often each place was copied, times its value
mx.nd.col2im(columns, output_size = c(3, 3), kernel = c(2, 2))",
  softmin = "mx.nd.softmin(mx.nd.array(matrix(c(1, 2, 3, 0, 0, 1), 3, 2)))",
  SoftmaxActivation = "mx.nd.SoftmaxActivation(mx.nd.array(matrix(c(1, 2, 3, 0, 0, 1), 3, 2)))",
  softmax_cross_entropy = "
scores <- mx.nd.array(matrix(c(2, 0, 0, 0, 0, 3), 3, 2)) # two samples, three classes
mx.nd.softmax.cross.entropy(scores, mx.nd.array(c(0, 2)))",
  LogisticRegressionOutput =
    "arguments(mx.symbol.LogisticRegressionOutput(mx.symbol.Variable(\"data\"), name = \"out\"))",
  MAERegressionOutput = "arguments(mx.symbol.MAERegressionOutput(mx.symbol.Variable(\"data\"), name = \"out\"))",
  SVMOutput = "
net <- mx.symbol.SVMOutput(mx.symbol.Variable(\"data\"), name = \"svm\")
mx.symbol.infer.shape(net, data = c(10, 32))$arg.shapes",
  make_loss = "
error <- mx.symbol.Variable(\"prediction\") - mx.symbol.Variable(\"target\")
arguments(mx.symbol.make_loss(mx.symbol.square(error)))",
  CTCLoss = "
# three classes, the first of them blank; one sample; four steps
scores <- mx.nd.array(array(0, c(3, 1, 4)))
mx.nd.ctc.loss(scores, mx.nd.array(matrix(c(1, 2), 2)))",
  DotProductAttention = "
query <- mx.nd.array(array(rnorm(6), c(2, 3, 1))) # three queries of depth 2, one head
mx.nd.DotProductAttention(query, query, query, causal = TRUE)",
  RotaryEmbedding = "mx.nd.RotaryEmbedding(mx.nd.ones(c(4, 3))) # four features at three places",
  SequenceReverse = "
x <- mx.nd.array(matrix(1:6, 2)) # two sequences of three steps
mx.nd.SequenceReverse(x)",
  Correlation = "
image <- mx.nd.array(array(1:16, c(4, 4, 1, 1)))
dim(mx.nd.Correlation(image, image, max_displacement = 1, pad_size = 1))",
  ROIPooling = "
image <- mx.nd.array(array(1:36, c(6, 6, 1, 1)))
region <- mx.nd.array(matrix(c(0, 0, 0, 3, 3), 5)) # of image 0, from (0, 0) to (3, 3)
mx.nd.ROIPooling(image, region, pooled_size = c(2, 2), spatial_scale = 1)",
  BilinearSampler = "
image <- mx.nd.array(array(1:9, c(3, 3, 1, 1)))
grid <- mx.nd.array(array(c(-1, 1, 0, 0), c(2, 1, 2, 1))) # two places: x -1 and 1, y 0 and 0
mx.nd.BilinearSampler(image, grid)",
  GridGenerator = "
identity <- mx.nd.array(matrix(c(1, 0, 0, 0, 1, 0), 6))
mx.nd.GridGenerator(identity, transform_type = \"affine\", target_shape = c(2, 2))",
  SpatialTransformer = "
image <- mx.nd.array(array(1:9, c(3, 3, 1, 1)))
mirror <- mx.nd.array(matrix(c(-1, 0, 0, 0, 1, 0), 6))
mx.nd.SpatialTransformer(image, mirror, target_shape = c(3, 3), transform_type = \"affine\",
  sampler_type = \"bilinear\")",
  Crop = "
image <- mx.nd.array(array(1:16, c(4, 4, 1, 1)))
mx.nd.Crop(list(image), num_args = 1, h_w = c(2, 2), center_crop = TRUE)",
  all_finite = "mx.nd.all.finite(mx.nd.array(c(1, Inf)))",
  multi_all_finite = "mx.nd.multi.all.finite(list(mx.nd.ones(2), mx.nd.array(c(1, NaN))), num_arrays = 2)",
  multi_sum_sq = "mx.nd.multi.sum.sq(list(mx.nd.ones(2), mx.nd.array(c(3, 4))), num_arrays = 2)",
  reset_arrays = "
x <- mx.nd.ones(2)
invisible(mx.nd.reset.arrays(list(x), num_arrays = 1))
x",
  amp_cast = "mx.nd.amp.cast(mx.nd.array(1 / 3), dtype = \"float16\")",
  amp_multicast = "mx.nd.amp.multicast(list(mx.nd.ones(2), mx.nd.array(1:2, dtype = \"float16\")), num_outputs = 2)",
  cast_storage = "mx.nd.cast.storage(mx.nd.ones(2), stype = \"default\")",
  batch_take = "mx.nd.batch.take(mx.nd.array(matrix(1:6, 2)), mx.nd.array(c(0, 1, 0)))",
  fill_element_0index = "
mx.nd.fill.element.0index(mx.nd.zeros(c(2, 3)), mx.nd.array(7:9), mx.nd.array(c(0, 1, 0)))",
  broadcast_like = "mx.nd.broadcast.like(mx.nd.array(matrix(1:2, 1)), mx.nd.zeros(c(3, 2)))",
  depth_to_space = "mx.nd.depth.to.space(mx.nd.array(array(1:4, c(1, 1, 4, 1))), block_size = 2)",
  space_to_depth = "mx.nd.space.to.depth(mx.nd.array(array(1:4, c(2, 2, 1, 1))), block_size = 2)",
  reshape_like = "dim(mx.nd.reshape.like(mx.nd.array(1:6), mx.nd.zeros(c(2, 3))))",
  slice_like = "mx.nd.slice.like(mx.nd.array(matrix(1:12, 3)), mx.nd.zeros(c(2, 2)))",
  squeeze = "dim(mx.nd.squeeze(mx.nd.ones(c(2, 1, 3))))",
  shape_array = "mx.nd.shape.array(mx.nd.ones(c(2, 3))) # the native shape",
  size_array = "mx.nd.size.array(mx.nd.ones(c(2, 3)))",
  scatter_nd = "
places <- mx.nd.array(matrix(c(0, 2), 2)) # one index for each value
mx.nd.scatter.nd(mx.nd.array(c(5, 6)), places, shape = 4)",
  `_ravel_multi_index` = "mx.nd.ravel.multi.index(mx.nd.array(matrix(c(1, 0, 2, 1), 2)), shape = c(3, 2))",
  `_unravel_index` = "mx.nd.unravel.index(mx.nd.array(c(3, 5)), shape = c(3, 2))",
  khatri_rao = "mx.nd.khatri.rao(list(mx.nd.array(matrix(1:4, 2)), mx.nd.array(matrix(1:4, 2))))",
  `_linalg_det` = "mx.nd.linalg.det(mx.nd.array(matrix(c(2, 1, 1, 3), 2)))",
  `_linalg_slogdet` = "mx.nd.linalg.slogdet(mx.nd.array(matrix(c(2, 1, 1, 3), 2))) # sign and logarithm",
  `_linalg_inverse` = "mx.nd.linalg.inverse(mx.nd.array(matrix(c(2, 1, 1, 3), 2)))",
  `_linalg_potrf` = "mx.nd.linalg.potrf(mx.nd.array(matrix(c(4, 2, 2, 3), 2))) # t(chol(x)) of the transpose",
  `_linalg_potri` = "
factor <- mx.nd.linalg.potrf(mx.nd.array(matrix(c(4, 2, 2, 3), 2)))
mx.nd.linalg.potri(factor) # the inverse of the matrix that was factored",
  `_linalg_gelqf` = "mx.nd.linalg.gelqf(mx.nd.array(matrix(c(1, 2, 3, 4, 5, 7), 3)))",
  `_linalg_gemm` = "
a <- mx.nd.array(matrix(1:4, 2))
mx.nd.linalg.gemm(a, a, mx.nd.ones(c(2, 2)), alpha = 1, beta = 10)",
  `_linalg_gemm2` = "
a <- mx.nd.array(matrix(1:4, 2))
mx.nd.linalg.gemm2(a, a, transpose_b = TRUE)",
  `_linalg_syrk` = "mx.nd.linalg.syrk(mx.nd.array(matrix(1:4, 2)))",
  `_linalg_trmm` = "mx.nd.linalg.trmm(mx.nd.array(matrix(c(1, 0, 2, 3), 2)), mx.nd.array(matrix(1:4, 2)))",
  `_linalg_trsm` = "mx.nd.linalg.trsm(mx.nd.array(matrix(c(1, 0, 2, 3), 2)), mx.nd.array(matrix(1:4, 2)))",
  `_linalg_sumlogdiag` = "mx.nd.linalg.sumlogdiag(mx.nd.array(diag(c(1, exp(1)))))",
  `_linalg_extractdiag` = "mx.nd.linalg.extractdiag(mx.nd.array(matrix(1:4, 2)))",
  `_linalg_makediag` = "mx.nd.linalg.makediag(mx.nd.array(1:2))",
  `_linalg_extracttrian` = "mx.nd.linalg.extracttrian(mx.nd.array(matrix(1:4, 2)))",
  `_linalg_maketrian` = "mx.nd.linalg.maketrian(mx.nd.array(1:3))",
  mp_sgd_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
single <- mx.nd.array(c(1, 2))
mx.nd.mp.sgd.update(half, mx.nd.array(c(0.5, 0.5), dtype = \"float16\"), single, lr = 0.1)
single # changed in place",
  mp_sgd_mom_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
gradient <- mx.nd.array(c(0.5, 0.5), dtype = \"float16\")
mx.nd.mp.sgd.mom.update(half, gradient, mx.nd.zeros(2), mx.nd.array(c(1, 2)), lr = 0.1,
  momentum = 0.9)",
  nag_mom_update = "
mx.nd.nag.mom.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), mx.nd.zeros(2), lr = 0.1,
  momentum = 0.9)",
  mp_nag_mom_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
gradient <- mx.nd.array(c(0.5, 0.5), dtype = \"float16\")
mx.nd.mp.nag.mom.update(half, gradient, mx.nd.zeros(2), mx.nd.array(c(1, 2)), lr = 0.1,
  momentum = 0.9)",
  signsgd_update = "mx.nd.signsgd.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, -0.1)), lr = 0.1)",
  signum_update = "
mx.nd.signum.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, -0.1)), mx.nd.zeros(2), lr = 0.1,
  momentum = 0.9)",
  rmsprop_update = "mx.nd.rmsprop.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), mx.nd.zeros(2), lr = 0.1)",
  rmspropalex_update = "
zeros <- function() mx.nd.zeros(2)
mx.nd.rmspropalex.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), zeros(), zeros(),
  zeros(), lr = 0.1)",
  ftml_update = "
zeros <- function() mx.nd.zeros(2)
mx.nd.ftml.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), zeros(), zeros(), zeros(),
  lr = 0.1, t = 1)",
  ftrl_update = "
mx.nd.ftrl.update(mx.nd.array(c(1, 2)), mx.nd.array(c(0.5, 0.5)), mx.nd.zeros(2),
  mx.nd.zeros(2), lr = 0.1)",
  lamb_update_phase1 = "
weight <- mx.nd.array(c(1, 2))
mx.nd.lamb.update.phase1(weight, mx.nd.array(c(0.5, 0.5)), mx.nd.zeros(2), mx.nd.zeros(2),
  t = 1, wd = 0.01)",
  lamb_update_phase2 = "
weight <- mx.nd.array(c(1, 2))
direction <- mx.nd.array(c(1, 1))
mx.nd.lamb.update.phase2(weight, direction, mx.nd.norm(weight), mx.nd.norm(direction), lr = 0.1)",
  mp_lamb_update_phase1 = "
half <- function(x) mx.nd.array(x, dtype = \"float16\")
mx.nd.mp.lamb.update.phase1(half(c(1, 2)), half(c(0.5, 0.5)), mx.nd.zeros(2), mx.nd.zeros(2),
  mx.nd.array(c(1, 2)),
  t = 1, wd = 0.01)",
  mp_lamb_update_phase2 = "
weight <- mx.nd.array(c(1, 2))
direction <- mx.nd.array(c(1, 1))
mx.nd.mp.lamb.update.phase2(mx.nd.array(c(1, 2), dtype = \"float16\"), direction, mx.nd.norm(weight),
  mx.nd.norm(direction), weight, lr = 0.1)",
  multi_lars = "
mx.nd.multi.lars(mx.nd.array(c(0.1, 0.1)), mx.nd.array(c(4, 9)), mx.nd.array(c(1, 1)),
  mx.nd.zeros(2), eta = 0.01,
  eps = 1e-8)",
  multi_sgd_update = "
weights <- list(mx.nd.ones(2), mx.nd.ones(3))
gradients <- list(mx.nd.ones(2), mx.nd.ones(3))
mx.nd.multi.sgd.update(list(weights[[1]], gradients[[1]], weights[[2]], gradients[[2]]),
  lrs = c(0.1, 0.2),
  wds = c(0, 0), num_weights = 2)",
  multi_sgd_mom_update = "
mx.nd.multi.sgd.mom.update(list(mx.nd.ones(2), mx.nd.ones(2), mx.nd.zeros(2)), lrs = 0.1,
  wds = 0, momentum = 0.9,
  num_weights = 1)",
  multi_mp_sgd_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
mx.nd.multi.mp.sgd.update(list(half, half, mx.nd.array(c(1, 2))), lrs = 0.1, wds = 0,
  num_weights = 1)",
  multi_mp_sgd_mom_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
mx.nd.multi.mp.sgd.mom.update(list(half, half, mx.nd.zeros(2), mx.nd.array(c(1, 2))), lrs = 0.1,
  wds = 0,
  momentum = 0.9, num_weights = 1)",
  preloaded_multi_sgd_update = "
mx.nd.preloaded.multi.sgd.update(list(mx.nd.ones(2), mx.nd.ones(2), mx.nd.array(0.1),
  mx.nd.array(0)),
  num_weights = 1) # the last two are learning rates and weight decays",
  preloaded_multi_sgd_mom_update = "
mx.nd.preloaded.multi.sgd.mom.update(list(mx.nd.ones(2), mx.nd.ones(2), mx.nd.zeros(2),
  mx.nd.array(0.1),
  mx.nd.array(0)), momentum = 0.9, num_weights = 1)",
  preloaded_multi_mp_sgd_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
mx.nd.preloaded.multi.mp.sgd.update(list(half, half, mx.nd.array(c(1, 2)), mx.nd.array(0.1),
  mx.nd.array(0)),
  num_weights = 1)",
  preloaded_multi_mp_sgd_mom_update = "
half <- mx.nd.array(c(1, 2), dtype = \"float16\")
mx.nd.preloaded.multi.mp.sgd.mom.update(list(half, half, mx.nd.zeros(2), mx.nd.array(c(1, 2)),
  mx.nd.array(0.1),
  mx.nd.array(0)), momentum = 0.9, num_weights = 1)",
  `_random_exponential` = "mx.nd.random.exponential(lam = 2, shape = c(2, 3))",
  `_random_gamma` = "mx.nd.random.gamma(alpha = 2, beta = 0.5, shape = c(2, 3))",
  `_random_poisson` = "mx.nd.random.poisson(lam = 4, shape = c(2, 3))",
  `_random_negative_binomial` = "mx.nd.random.negative.binomial(k = 3, p = 0.4, shape = c(2, 3))",
  `_random_generalized_negative_binomial` =
    "mx.nd.random.generalized.negative.binomial(mu = 2, alpha = 0.3, shape = c(2, 3))",
  `_sample_uniform` = "mx.nd.sample.uniform(low = mx.nd.array(c(0, 10)), high = mx.nd.array(c(1, 20)), shape = 3)",
  `_sample_normal` = "mx.nd.sample.normal(mu = mx.nd.array(c(0, 10)), sigma = mx.nd.array(c(1, 2)), shape = 3)",
  `_sample_gamma` = "mx.nd.sample.gamma(alpha = mx.nd.array(c(1, 5)), beta = mx.nd.array(c(1, 2)), shape = 3)",
  `_sample_exponential` = "mx.nd.sample.exponential(mx.nd.array(c(1, 10)), shape = 3)",
  `_sample_poisson` = "mx.nd.sample.poisson(mx.nd.array(c(1, 10)), shape = 3)",
  `_sample_negative_binomial` =
    "mx.nd.sample.negative.binomial(k = mx.nd.array(c(1, 5)), p = mx.nd.array(c(0.5, 0.2)), shape = 3)",
  `_sample_generalized_negative_binomial` = "
mx.nd.sample.generalized.negative.binomial(mu = mx.nd.array(c(1, 5)),
  alpha = mx.nd.array(c(0.5, 0.2)), shape = 3)",
  `_random_pdf_uniform` = "
mx.nd.random.pdf.uniform(mx.nd.array(matrix(c(1, 3), 2)), low = mx.nd.array(0),
  high = mx.nd.array(2))",
  `_random_pdf_normal` = "
mx.nd.random.pdf.normal(mx.nd.array(matrix(c(0, 1), 2)), mu = mx.nd.array(0),
  sigma = mx.nd.array(1))",
  `_random_pdf_gamma` = "
mx.nd.random.pdf.gamma(mx.nd.array(matrix(c(1, 2), 2)), alpha = mx.nd.array(2),
  beta = mx.nd.array(1))",
  `_random_pdf_exponential` = "mx.nd.random.pdf.exponential(mx.nd.array(matrix(c(0, 1), 2)), mx.nd.array(2))",
  `_random_pdf_poisson` = "mx.nd.random.pdf.poisson(mx.nd.array(matrix(c(0, 1, 2), 3)), mx.nd.array(1), is_log = TRUE)",
  `_random_pdf_negative_binomial` = "
mx.nd.random.pdf.negative.binomial(mx.nd.array(matrix(c(0, 1), 2)), k = mx.nd.array(2),
  p = mx.nd.array(0.5))",
  `_random_pdf_generalized_negative_binomial` = "
mx.nd.random.pdf.generalized.negative.binomial(mx.nd.array(matrix(c(0, 1), 2)), mu = mx.nd.array(2),
  alpha = mx.nd.array(0.5))",
  `_random_pdf_dirichlet` = "
mx.nd.random.pdf.dirichlet(mx.nd.array(matrix(c(0.2, 0.3, 0.5), 3)), mx.nd.array(c(1, 2, 3)))",
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
