test_that("steps and calls are recorded, written and summarised", {
  file <- tempfile(fileext = ".json")
  expect_null(mx.profiler.config(list(filename = file, profile_all = TRUE)))
  e <- bound(mx.symbol.FullyConnected(mx.symbol.Variable("x"), num_hidden = 2, name = "fc"),
    list(x = matrix(1:6, 3), fc_weight = matrix(1, 3, 2), fc_bias = 1:2), "write")
  mx.profiler.state(MX.PROF.STATE$RUN)
  mx.exec.forward(e)
  mx.exec.backward(e, mx.nd.ones(c(2, 2)))
  nd(1:3) + 1
  table <- mx.profiler.state(MX.PROF.STATE$STOP)
  expect_true(all(c("forward", "imperative") %in% table$pass))
  expect_true("_plus_scalar" %in% table$operator)
  expect_equal(sum(table$share), 1)
  text <- paste(readLines(file), collapse = "")
  expect_match(text, "\"traceEvents\"", fixed = TRUE)
  expect_match(text, "\"name\": \"fc\"", fixed = TRUE)
  if (requireNamespace("jsonlite", quietly = TRUE)) expect_true(jsonlite::validate(text))
  expect_null(mx.profiler.state(MX.PROF.STATE$STOP))
})

test_that("an empty recording is written too", {
  file <- tempfile(fileext = ".json")
  mx.profiler.config(list(filename = file))
  mx.profiler.state(1)
  expect_equal(nrow(mx.profiler.state(0)), 0)
  expect_true(file.exists(file))
})

test_that("bad configurations are errors", {
  expect_error(mx.profiler.config(list("prof.json")), class = "mxnet_value_error")
  expect_error(mx.profiler.config(list(nonsense = 1)), "nonsense", class = "mxnet_value_error")
  expect_error(mx.profiler.state("on"), class = "mxnet_value_error")
  expect_equal(MX.PROF.STATE, list(STOP = 0L, RUN = 1L))
})
