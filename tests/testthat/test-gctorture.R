test_that("nothing unprotected: everything works while each allocation collects", {
  skip_on_covr() # its counters allocate, too
  net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc")
  file <- tempfile()
  on.exit(gctorture(FALSE))
  gctorture(TRUE)
  x <- mx.nd.array(matrix(1:6, 2, 3))
  y <- x * 2 + x
  z <- x[1, 2:3]
  parts <- mx.nd.split(x, num_outputs = 3, axis = 0)
  failed <- tryCatch(x + z, mxnet_error = function(e) e$operator)
  s <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc") * 2
  shapes <- mx.symbol.infer.shape(s, data = c(3, 4))
  e <- mx.simple.bind(s, mx.cpu(), "write", data = c(3, 4))
  mx.exec.update.arg.arrays(e, list(fc_bias = mx.nd.array(1:2)), match.name = TRUE)
  mx.exec.forward(e)
  out <- e$outputs[[1]]
  mx.exec.backward(e, mx.nd.ones(c(2, 4)))
  saved <- unserialize(serialize(list(x, s, e), NULL))
  mx.nd.save(list(a = x), file)
  loaded <- mx.nd.load(file)
  gctorture(FALSE)
  expect_equal(as.array(y), matrix(3 * 1:6, 2))
  expect_equal(as.array(z), c(3, 5))
  expect_equal(as.array(parts[[3]]), matrix(5:6 + 0, 2))
  expect_equal(failed, "elemwise_add")
  expect_equal(shapes$out.shapes[[1]], c(2L, 4L))
  expect_equal(as.array(out), matrix(c(2, 4), 2, 4))
  expect_equal(as.array(saved[[1]]), as.array(x))
  expect_equal(arguments(saved[[2]]), arguments(s))
  expect_equal(as.array(loaded$a), as.array(x))
})
