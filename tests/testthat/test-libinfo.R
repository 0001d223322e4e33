test_that("mx.info tells what the package runs on", {
  i <- mx.info()
  expect_s3_class(i, "mx.info")
  expect_equal(i$version, as.character(packageVersion("mxnet")))
  expect_match(i$blas, "OpenBLAS")
  expect_gt(i$operators, 100)
  expect_output(print(i), "threads")
})

test_that("threads can be asked for and set", {
  old <- mx.threads()
  on.exit(mx.threads(0))
  expect_equal(mx.threads(1), old)
  expect_equal(mx.threads(), 1)
  expect_error(mx.threads(-1), class = "mxnet_value_error")
  expect_error(mx.threads("a"), class = "mxnet_value_error")
})

test_that("mxnet.export writes R code", {
  file <- mxnet.export(tempdir())
  code <- parse(file)
  expect_gt(length(code), 300)
  expect_error(mxnet.export(tempfile()), class = "mxnet_io_error")
})

test_that("memory is counted", {
  gc()
  before <- mx.memory()
  x <- mx.nd.zeros(1e6)
  expect_gte(mx.memory()[["used"]] - before[["used"]], 4e6)
  rm(x)
  gc()
  expect_lte(mx.memory()[["used"]], before[["used"]])
  mx.memory.trim()
  expect_equal(mx.memory()[["cached"]], 0)
  expect_error(mx.memory("cpu"), "`ctx` must be", class = "mxnet_value_error")
})
