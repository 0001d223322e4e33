# What an iterator hands out in one pass: a list of list(value, pad).
pass <- function(it) {
  out <- list()
  while (it$iter.next()) out[[length(out) + 1]] <- list(values(it$value()), it$num.pad())
  out
}

test_that("batches are slices in order, the last one filled up", {
  it <- mx.io.arrayiter(matrix(1:12, 2), 1:6, batch.size = 4)
  first <- list(list(data = matrix(1:8 + 0, 2), label = c(1, 2, 3, 4)), 0)
  last <- list(list(data = matrix(c(9:12, 5:8) + 0, 2), label = c(5, 6, 3, 4)), 2)
  expect_equal(pass(it), list(first, last))
  expect_false(it$iter.next())
  expect_equal(values(it$value()), last[[1]]) # after the end it is the last batch
  it$reset()
  expect_equal(pass(it), list(first, last)) # and again
  it$reset()
  it$iter.next()
  it$reset()
  expect_equal(pass(it), list(first, last)) # wherever it was reset
})

test_that("one short batch is filled with zeros", {
  it <- mx.io.arrayiter(matrix(1:4, 2), 1:2, batch.size = 3)
  expect_equal(pass(it), list(list(list(data = matrix(c(1, 2, 3, 4, 0, 0), 2), label = c(1, 2, 0)), 1)))
})

test_that("a last batch that is not full can be left out", {
  it <- mx.io.arrayiter(1:5, 1:5, batch.size = 2, last.batch = "discard")
  seen <- NULL
  while (it$iter.next()) seen <- c(seen, as.array(it$value()$data), it$num.pad())
  expect_equal(seen, c(1, 2, 0, 3, 4, 0))
  expect_equal(mx.io.extract(it, "label"), 1:4)
  expect_error(mx.io.arrayiter(1:5, 1:5, batch.size = 6, last.batch = "discard"),
               "`last.batch`", class = "mxnet_value_error")
  expect_error(mx.io.arrayiter(1:5, 1:5, batch.size = 2, last.batch = "roll"),
               "`last.batch`", class = "mxnet_value_error")
})

test_that("arrays of any dims iterate over the last one", {
  x <- array(1:48, c(3, 2, 2, 4))
  it <- mx.io.arrayiter(x, matrix(1:8, 2), batch.size = 2)
  got <- pass(it)
  expect_equal(got[[2]][[1]]$data, x[, , , 3:4] + 0)
  expect_equal(got[[2]][[1]]$label, matrix(5:8 + 0, 2))
  nd <- mx.io.arrayiter(mx.nd.array(x), mx.nd.array(1:4), batch.size = 2)
  expect_equal(pass(nd)[[1]][[1]]$data, x[, , , 1:2] + 0)
  expect_equal(pass(mx.io.arrayiter(1:4, 1:4, batch.size = 2))[[1]][[1]]$data, c(1, 2))
})

test_that("batches share the memory of the data", {
  x <- mx.nd.array(matrix(1:8, 2))
  it <- mx.io.arrayiter(x, 1:4, batch.size = 2)
  it$iter.next()
  a <- it$value()$data
  it$reset()
  it$iter.next()
  expect_identical(it$value()$data, a) # the same object in every pass
  mx.nd.square(a, out = a)
  expect_equal(as.array(x), matrix(c(1, 4, 9, 16, 5:8), 2))
})

test_that("shuffling keeps examples together and follows the seed", {
  labels <- function(seed) {
    mx.set.seed(seed)
    it <- mx.io.arrayiter(matrix(1:20, 2), seq(2, 20, 2), batch.size = 5, shuffle = TRUE)
    a <- do.call(rbind, lapply(pass(it), function(b) cbind(b[[1]]$data[2, ], b[[1]]$label)))
    it$reset()
    expect_identical(pass(it)[[1]][[1]]$label, a[1:5, 2]) # the order stays
    expect_identical(a[, 1], a[, 2])
    a[, 2]
  }
  expect_setequal(labels(1), seq(2, 20, 2))
  expect_identical(labels(1), labels(1))
  expect_false(identical(labels(1), labels(2)))
  # The order that the documented rule makes of given numbers
  expect_identical(mxnet:::mx.io.internal.order(c(0.5, 0.1, 0.9, 0.3)), c(4L, 1L, 3L, 2L))
})

test_that("wrong use is an error", {
  it <- mx.io.arrayiter(1:4, 1:4, batch.size = 2)
  expect_error(it$value(), "before iter.next", class = "mxnet_state_error")
  expect_error(mx.io.arrayiter(matrix(1:12, 6), 1:6, batch.size = 2), "Row major", class = "mxnet_value_error")
  expect_error(mx.io.arrayiter(matrix(1:12, 2), 1:5), "data has 6 examples .* label has 5", class = "mxnet_value_error")
  expect_error(mx.io.arrayiter(1:4, 1:4, batch.size = 0), "`batch.size`", class = "mxnet_value_error")
  expect_error(mx.io.arrayiter(1:4, 1:4, shuffle = "a"), "`shuffle`", class = "mxnet_value_error")
  Bare <- setRefClass("Bare", contains = "Rcpp_MXArrayDataIter", where = globalenv())
  expect_error(Bare$new()$iter.next(), "must define the method iter.next", class = "mxnet_state_error")
})

test_that("classes of one's own may have any fields", {
  fields <- c("iter", "data.csv", "data.shape", "batch.size", "data", "label")
  Own <- setRefClass("Own", contains = "Rcpp_MXArrayDataIter", fields = fields, methods = list(
    initialize = function(iter) {
      .self$iter <- iter
      .self$batch.size <- 2
      .self
    },
    value = function() list(data = iter$value()$data * 2, label = iter$value()$label),
    iter.next = function() iter$iter.next(), reset = function() iter$reset(), num.pad = function() iter$num.pad(),
    finalize = function() iter$finalize()))
  it <- Own$new(mx.io.arrayiter(1:4, 1:4, batch.size = 2))
  expect_true(is.mx.dataiter(it))
  expect_equal(pass(it)[[2]][[1]]$data, c(6, 8))
  expect_false(is.mx.dataiter(1))
})

test_that("a pass is collected without padding", {
  x <- array(1:30, c(2, 3, 5))
  it <- mx.io.arrayiter(x, 5:1, batch.size = 2)
  it$iter.next()
  expect_equal(mx.io.extract(it, "data"), x + 0)
  expect_equal(mx.io.extract(it, "label"), 5:1 + 0)
  expect_error(mx.io.extract(it, "names"), "no field", class = "mxnet_value_error")
  expect_error(mx.io.extract(1, "data"), "must be an iterator", class = "mxnet_value_error")
})

test_that("iterators print what they are", {
  expect_output(print(mx.io.arrayiter(matrix(1:12, 2), 1:6, batch.size = 4)),
                "<MXArrayDataIter> 6 examples in 2 batches: data 2 x 4, label 4")
})
