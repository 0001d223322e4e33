test_that("the line has what one wants to know", {
  text <- mxnet:::mx.progress.text
  expect_identical(text(1, 1, 10, 20, NA, 2000, 4, NULL), "epoch 1/10 | batch 20 | 500 examples/s")
  expect_identical(text(3, 1, 10, 20, 50, 123456, 1, list(name = "accuracy", value = 0.91234)),
                   "epoch 3/10 | batch 20/50 | 123,000 examples/s | accuracy 0.9123 | ETA 3s")
})

test_that("a narrow terminal shows what is wanted most", {
  text <- function(width) mxnet:::mx.progress.text(3, 1, 10, 20, 50, 123456, 1, list(name = "mse", value = 0.5), width)
  expect_identical(text(70), "epoch 3/10 | batch 20/50 | 123,000 examples/s | mse 0.5 | ETA 3s")
  expect_identical(text(50), "epoch 3/10 | batch 20/50 | mse 0.5 | ETA 3s")
  expect_identical(text(40), "epoch 3/10 | mse 0.5 | ETA 3s")
  expect_identical(text(20), "epoch 3/10 | mse 0.5")
})

test_that("times are short", {
  time <- mxnet:::mx.progress.time
  expect_identical(vapply(c(0, 59.4, 61, 3599, 3600, 7384), time, ""), c("0s", "59s", "1m 01s", "59m 59s", "1h 00m",
                                                                         "2h 03m"))
})

test_that("there is no line outside terminals, when it is not wanted, or in silence", {
  lines <- function(verbose, ...) {
    old <- options(...)
    on.exit(options(old))
    p <- mxnet:::mx.progress.new(verbose, 1, 2)
    group <- list(shapes = list(data = c(2, 10)))
    capture.output({
      p$batch(1, 1, group, NULL, NULL)
      Sys.sleep(0.15)
      p$batch(1, 2, group, NULL, NULL)
      p$epoch(2)
      p$close()
    }, type = "message")
  }
  expect_identical(lines(TRUE, mxnet.progress = FALSE), character())
  expect_identical(lines(FALSE, mxnet.progress = TRUE, cli.dynamic = TRUE), character())
  expect_identical(lines(TRUE, mxnet.progress = TRUE, cli.dynamic = FALSE), character())
  if (requireNamespace("cli", quietly = TRUE))
    expect_match(paste(lines(TRUE, mxnet.progress = TRUE, cli.dynamic = TRUE), collapse = ""), "epoch 1/2 | batch 2",
                 fixed = TRUE)
})

test_that("messages, warnings and errors do not run into the line", {
  skip_if_not_installed("cli")
  old <- options(mxnet.progress = TRUE, cli.dynamic = TRUE, cli.num_colors = 1L)
  on.exit(options(old))
  # What a terminal shows of a text with carriage returns.
  screen <- function(text) {
    shown <- character()
    for (part in strsplit(strsplit(text, "\r")[[1]], "")) shown[seq_along(part)] <- part
    trimws(paste(shown, collapse = ""))
  }
  d <- data.plane(20)
  written <- function(report) {
    slow <- function(iteration, nbatch, env, verbose) {
      Sys.sleep(0.12)
      if (nbatch == 3) report("told")
    }
    out <- capture.output(
      tryCatch(withCallingHandlers(
        model <- fit(net.classifier(), d$data, d$label, verbose = TRUE, num.round = 1, array.batch.size = 4,
                     batch.end.callback = slow),
        warning = function(w) {
          message(conditionMessage(w))
          invokeRestart("muffleWarning")
        }), error = function(e) message(conditionMessage(e))), type = "message")
    screen(grep("told", out, value = TRUE))
  }
  expect_identical(written(message), "told")
  expect_identical(written(warning), "told")
  expect_identical(written(stop), "told")
})
