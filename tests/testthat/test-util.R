test_that("counts, flags and choices say what was wrong", {
  expect_identical(mxnet:::mx.util.count(3L, "n"), 3)
  for (bad in list(0, 1.5, NA, "a", c(1, 2), Inf, NULL))
    expect_error(mxnet:::mx.util.count(bad, "n"), "`n` must be a whole number", class = "mxnet_value_error")
  expect_true(mxnet:::mx.util.flag(1, "f"))
  expect_error(mxnet:::mx.util.flag(NA, "f"), "`f` must be TRUE or FALSE", class = "mxnet_value_error")
  expect_error(mxnet:::mx.util.choice("c", "x", c("a", "b")), "one of \"a\", \"b\", not \"c\"",
               class = "mxnet_value_error")
})

test_that("numbers, strings, names, functions and paths are checked", {
  expect_identical(mxnet:::mx.util.scalar(3L, "x"), 3)
  for (bad in list(NULL, NA_real_, "1", 1:2, factor(1), -1, TRUE))
    expect_error(mxnet:::mx.util.scalar(bad, "x", 0), "`x` must be a number of at least 0, not",
                 class = "mxnet_value_error")
  expect_identical(mxnet:::mx.util.string("", "x", empty = TRUE), "")
  for (bad in list(NULL, NA_character_, c("a", "b"), 1, ""))
    expect_error(mxnet:::mx.util.string(bad, "x"), "`x` must be a string, not", class = "mxnet_value_error")
  expect_null(mxnet:::mx.util.names(NULL, "x"))
  expect_error(mxnet:::mx.util.names(1, "x"), "`x` must be names", class = "mxnet_value_error")
  expect_error(mxnet:::mx.util.function("f", "x", "of a number"), "`x` must be a function of a number, not \"f\"",
               class = "mxnet_value_error")
  expect_identical(mxnet:::mx.util.path("~", "x"), path.expand("~"))
  expect_error(mxnet:::mx.util.path(NULL, "x"), "`x` must be a file name, not NULL", class = "mxnet_value_error")
})

test_that("functions that are made print what they are", {
  expect_output(print(mx.init.uniform(0.1)), "<initializer uniform: scale 0.1> function(name, shape", fixed = TRUE)
  expect_output(print(mx.opt.create("sgd", learning.rate = 0.5)), "<optimizer sgd: lr 0.5, wd 0", fixed = TRUE)
  expect_output(print(mx.lr_scheduler.MultiFactorScheduler(c(2, 4), 0.5)), "step 2 4, factor_val 0.5", fixed = TRUE)
  expect_output(print(mx.callback.early.stop(bad.steps = 2)), "<callback early.stop: bad.steps 2, max", fixed = TRUE)
  expect_output(str(mx.init.normal(1)), "<initializer normal: sd 1>", fixed = TRUE)
  expect_true(is.function(mx.init.normal(1)))
  expect_true(is(mx.init.normal(1), "function"))
})

test_that("objects and lists are put in words", {
  say <- mxnet:::mx.util.say
  expect_identical(say(NULL), "NULL")
  expect_identical(say("a"), "\"a\"")
  expect_identical(say(1.5), "1.5")
  expect_identical(say(mean), "a function")
  expect_identical(say(matrix(1, 2, 3)), "an object of class matrix (dim 2 x 3)")
  expect_identical(say(list(1)), "an object of class list (length 1)")
  and <- mxnet:::mx.util.and
  expect_identical(and("a"), "a")
  expect_identical(and(c("a", "b", "c")), "a, b and c")
  expect_identical(and(letters, 2), "a, b and 24 more")
})

test_that("thousands are set apart, whatever the decimal mark", {
  thousands <- mxnet:::mx.util.thousands
  expect_identical(thousands(c(7, 1234567, 100000)), c("7", "1,234,567", "100,000"))
  old <- options(OutDec = ",", scipen = -9)
  on.exit(options(old))
  expect_silent(text <- thousands(1234567))
  expect_identical(text, "1.234.567")
})

test_that("NULL entries are filtered", {
  expect_identical(mxnet:::mx.util.filter.null(list(a = 1, b = NULL, c = 2)), list(a = 1, c = 2))
  expect_identical(mxnet:::mx.util.filter.null(list()), list())
})

test_that("a local seed leaves R's random numbers alone", {
  set.seed(5)
  first <- runif(2)
  set.seed(5)
  a <- runif(1)
  x <- mxnet:::mx.util.with.seed(1, runif(3))
  b <- runif(1)
  expect_identical(c(a, b), first)
  expect_identical(x, mxnet:::mx.util.with.seed(1, runif(3)))
})

test_that("devices are checked", {
  expect_identical(mxnet:::mx.util.devices(mx.cpu()), list(mx.cpu()))
  expect_identical(mxnet:::mx.util.devices(NULL), list(mx.ctx.default()))
  expect_error(mxnet:::mx.util.devices("cpu"), "ctx must be mx.context or list of mx.context",
               class = "mxnet_value_error")
  expect_error(mxnet:::mx.util.devices(list()), class = "mxnet_value_error")
})
