# Demos check their own results. Without documentation the package is installed without them.
test_that("demos are listed and run", {
  installed <- system.file("demo", package = "mxnet")
  source <- test_path("..", "..", "demo")
  listed <- if (nzchar(installed)) demo(package = "mxnet")$results[, "Item"]
            else sub(" .*", "", readLines(file.path(source, "00Index")))
  files <- list.files(if (nzchar(installed)) installed else source, "[.]R$", full.names = TRUE)
  expect_gt(length(files), 0)
  expect_setequal(paste0(listed, ".R"), basename(files))
  pdf(NULL)
  on.exit(dev.off())
  for (file in files)
    expect_no_error(capture.output(suppressMessages(sys.source(file, new.env(parent = globalenv())))))
  expect_identical(mx.ctx.default(), mx.cpu())
})
