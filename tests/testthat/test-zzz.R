test_that("attaching the package says nothing and leaves base's matrix product alone", {
  script <- tempfile(fileext = ".R")
  libs <- paste(deparse(.libPaths()), collapse = "")
  writeLines(c(sprintf(".libPaths(%s)", libs), "library(mxnet)", "x <- matrix(1:4, 2)",
               "stopifnot(identical(x %*% x, base::`%*%`(x, x)))"), script)
  said <- system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", shQuote(script)), stdout = TRUE, stderr = TRUE)
  expect_identical(as.character(said), character())
  expect_null(attr(said, "status"))
})
