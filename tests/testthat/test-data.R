idx.file <- function(path, magic, dims, bytes) {
  con <- file(path, "wb")
  writeBin(as.integer(c(magic, dims)), con, size = 4, endian = "big")
  writeBin(as.raw(bytes), con)
  close(con)
}
folder.of <- function(n = 3) {
  folder <- tempfile()
  dir.create(folder)
  for (part in c("train", "t10k")) {
    idx.file(file.path(folder, paste0(part, "-images-idx3-ubyte")), 2051, c(n, 28, 28), rep(seq_len(n), each = 784))
    idx.file(file.path(folder, paste0(part, "-labels-idx1-ubyte")), 2049, n, seq_len(n))
  }
  folder
}

test_that("MNIST is read from a folder", {
  folder <- folder.of()
  d <- mx.data.mnist(folder)
  expect_identical(dim(d$train$data), c(28L, 28L, 1L, 3L))
  expect_equal(d$test$data[5, 7, 1, ], 1:3 / 255)
  expect_identical(d$test$label, 1:3)
  expect_identical(dim(mx.data.fashion(folder, flat = TRUE)$train$data), c(784L, 3L))
  unlink(file.path(folder, "t10k-labels-idx1-ubyte"))
  expect_error(mx.data.mnist(folder), "There is no file t10k-labels-idx1-ubyte.gz", class = "mxnet_io_error")
})

test_that("CIFAR-10 and the text are read from a folder", {
  folder <- tempfile()
  dir.create(folder)
  for (f in c(paste0("data_batch_", 1:5), "test_batch")) writeBin(as.raw(rep(c(7, rep(c(51, 102, 255), each = 1024)),
      2)), file.path(folder, paste0(f, ".bin")))
  d <- mx.data.cifar10(folder)
  expect_identical(dim(d$train$data), c(32L, 32L, 3L, 10L))
  expect_equal(d$test$data[3, 4, , 2], c(0.2, 0.4, 1))
  expect_identical(d$test$label, c(7L, 7L))
  writeBin(as.raw(1:5), file.path(folder, "test_batch.bin"))
  expect_error(mx.data.cifar10(folder), "no CIFAR-10 files", class = "mxnet_format_error")
  writeLines(c("a", "b"), file.path(folder, "input.txt"))
  expect_identical(mx.data.shakespeare(folder), "a\nb\n")
  expect_identical(mx.data.shakespeare(file.path(folder, "input.txt")), "a\nb\n")
})

test_that("downloads are checked, kept, and fail with advice", {
  source <- folder.of()
  cache <- tempfile()
  names <- list.files(source)
  files <- data.frame(file = names, bytes = file.size(file.path(source, names)),
                      md5 = unname(tools::md5sum(file.path(source, names))))
  set <- list(url = paste0("file://", source, "/"), files = files)
  fetch <- mxnet:::mx.data.internal.fetch
  environment(fetch) <- list2env(list(mx.data.internal.sets = list(own = set)), parent = environment(fetch))
  got <- fetch("own", cache)
  expect_identical(names(got), names)
  expect_true(all(file.exists(got)))
  before <- file.mtime(got)
  expect_identical(file.mtime(fetch("own", cache)), before) # not again
  writeLines("spoilt", got[1])
  fetch("own", cache)
  expect_identical(unname(tools::md5sum(got[1])), files$md5[1])
  environment(fetch)$mx.data.internal.sets$own$files$md5[1] <- "other"
  expect_error(fetch("own", cache), "not the known file.*give its folder as `path`", class = "mxnet_io_error")
  environment(fetch)$mx.data.internal.sets$own$url <- "file:///nowhere/"
  expect_error(fetch("own", cache), "Cannot download file:///nowhere/", class = "mxnet_io_error")
  expect_length(list.files(cache, "part$"), 0)
})
