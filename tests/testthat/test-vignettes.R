# The lessons' code, and what comes out of it. R CMD check runs the vignettes by itself.

lesson <- function(name) {
  folder <- normalizePath(test_path("..", "..", "vignettes"), mustWork = FALSE)
  skip_if_not(dir.exists(folder), "no vignettes beside the tests: the check of the package runs them")
  skip_if_not_installed("knitr")
  script <- tempfile(fileext = ".R")
  knitr::purl(file.path(folder, paste0(name, ".Rmd")), script, quiet = TRUE, documentation = 0L)
  # One thread: these networks are small, and tests may have to share the machine.
  threads <- mx.threads(1)
  here <- setwd(folder)
  sink <- file(nullfile(), "w")
  grDevices::pdf(NULL)
  old <- options(try.outFile = sink)
  on.exit({
    options(old)
    grDevices::dev.off()
    close(sink)
    setwd(here)
    mx.threads(threads)
  })
  # In the global environment, where methods of reference classes look for functions; it is left as it was found.
  before <- as.list(globalenv(), all.names = TRUE)
  on.exit({
    rm(list = ls(globalenv(), all.names = TRUE), envir = globalenv())
    list2env(before, globalenv())
  }, add = TRUE)
  utils::capture.output(suppressMessages(source(script, local = FALSE, keep.source = FALSE)))
  as.environment(as.list(globalenv()))
}
falls <- function(x) x[length(x)] < 0.8 * x[1]

test_that("NDArray", {
  e <- lesson("ndarray")
  expect_identical(as.array(e$loaded$weight), matrix(1:6 + 0, 2))
  drift <- abs(as.array(e$y) - 10)
  expect_true(drift > 1e-5 && drift < 1e-3)
  expect_lt(abs(as.array(e$y64) - 10), 1e-9)
})

test_that("Symbols and automatic differentiation", {
  e <- lesson("symbol")
  expect_lt(e$error.deriv, 1e-5)
  expect_lt(e$error.differences, 1e-3)
  expect_lt(e$error.bias, 1e-5)
  expect_lt(e$planned, 0.5 * e$every)
})

test_that("Symbols in pictures", {
  e <- lesson("pictures")
  expect_identical(c(e$result, e$gradient), c(11, 4))
  expect_identical(outputs(e$lenet), "softmax_output")
})

test_that("A neural network in five minutes", {
  e <- lesson("five-minutes")
  expect_gt(e$accuracy, 0.9)
  expect_lt(e$accuracy.logistic, 0.7)
  expect_lt(e$errors[["network"]], 0.5 * e$errors[["lm"]])
  expect_gt(e$r2[["depth"]], 0.8)
  expect_true(falls(attr(e$depth.model, "history")$train))
})

test_that("Callbacks", {
  e <- lesson("callbacks")
  expect_lt(e$best$epoch, 100)
  expect_lt(e$epochs, 100)
  expect_lt(e$errors[["best"]], 0.6 * e$errors[["mean"]])
  expect_lt(e$rate$lr, 0.02)
  expect_identical(attr(mx.model.last(), "history")$epoch, 1:3)
})

test_that("Iterators of your own", {
  e <- lesson("custom-iterator")
  expect_gt(e$accuracy, 0.95)
  expect_lt(e$logistic, 0.7)
  expect_identical(dim(e$prediction), c(2L, 2050L))
  expect_gt(e$file.accuracy, 0.95)
  expect_gt(e$pair.accuracy, 0.9)
})

test_that("Loss functions of your own", {
  e <- lesson("custom-loss")
  expect_lt(e$difference, 1e-4)
  expect_lt(e$errors[["huber"]], 0.6 * e$errors[["squared"]])
  expect_lt(e$errors[["huber"]], 0.6 * e$errors[["polynomial"]])
  expect_lt(abs(e$coverage[["network"]] - 0.8), 0.06)
  expect_lt(e$error.weighted, e$errors[["squared"]])
})

test_that("Handwritten digits", {
  e <- lesson("mnist")
  expect_gt(e$accuracy[["lenet"]], 0.93)
  expect_gt(e$accuracy[["mlp"]], 0.7)
  expect_lt(e$accuracy[["frequent"]], 0.15)
})

test_that("Classify images with a pretrained model", {
  e <- lesson("pretrained")
  expect_gte(e$top1, 0.75)
  expect_gt(e$checks[["right"]], 0.9)
  expect_lt(e$checks[["no.mean"]], 0.8)
  expect_identical(dim(e$description), c(1L, 1L, 32L, 4L))
})

test_that("Fine-tuning", {
  e <- lesson("finetune")
  expect_gt(e$results[["fine-tuned"]], 0.75)
  expect_gt(e$results[["fine-tuned"]], e$results[["from scratch"]] + 0.03)
})

test_that("A character language model", {
  e <- lesson("char-rnn")
  expect_lt(e$final, 0.5 * e$baseline[["bigram"]])
  expect_true(falls(e$logger$train) && falls(e$logger$eval))
  expect_identical(nchar(e$samples), c(254L, 254L))
  expect_true(all(strsplit(paste(e$samples, collapse = ""), "")[[1]] %in% e$alphabet))
  expect_gt(e$share[["timid"]], 0.6)
})

test_that("Forecasting several time series with an LSTM", {
  e <- lesson("lstm-series")
  expect_lt(e$errors[["lstm"]], e$errors[["linear"]])
  expect_lt(e$errors[["linear"]], e$errors[["as.now"]])
  expect_lt(e$overall[["lstm"]], e$overall[["as.now"]])
  expect_true(falls(e$logger$train))
})

test_that("Why mxnet? Claims and measurements", {
  e <- lesson("why-mxnet")
  expect_equal(e$by.mxnet, unname(e$by.glm), tolerance = 1e-3)
  expect_lt(max(e$difference), 0.01)
  expect_lt(e$error.step, 1e-5)
  expect_true(all(e$plans["steps", ] < e$plans["operators", ]))
  expect_lt(e$device.difference, 1e-3)
})

test_that("Build the core", {
  e <- lesson("build-the-core")
  expect_lt(max(e$differences), 1e-4)
  expect_gt(e$accuracy[["small.core"]], 0.9)
  expect_true(falls(e$loss))
})
