# Demos check their own results.
test_that("demos are listed and run", {
  listed <- demo(package = "mxnet")$results[, "Item"]
  files <- list.files(system.file("demo", package = "mxnet"), "[.]R$", full.names = TRUE)
  expect_setequal(paste0(listed, ".R"), basename(files))
  pdf(NULL)
  on.exit(dev.off())
  for (file in files)
    expect_no_error(capture.output(suppressMessages(sys.source(file, new.env(parent = globalenv())))))
  expect_identical(mx.ctx.default(), mx.cpu())
})
