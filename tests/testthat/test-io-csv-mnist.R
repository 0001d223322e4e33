pass <- function(it, field = "data") {
  out <- list()
  while (it$iter.next()) out[[length(out) + 1]] <- as.array(it$value()[[field]])
  out
}
csv <- function(x) {
  file <- tempfile(fileext = ".csv")
  write.table(x, file, sep = ",", row.names = FALSE, col.names = FALSE)
  file
}

test_that("CSV files are read line by line, wrapped at the end", {
  x <- matrix(1:15, 5, byrow = TRUE)
  it <- mx.io.CSVIter(data.csv = csv(x), data.shape = 3, label.csv = csv(5:1), batch.size = 2)
  expect_s4_class(it, "Rcpp_MXNativeDataIter")
  for (again in 1:3) { # every pass starts at the first line, whatever was read before
    expect_equal(pass(it), list(t(x[1:2, ]) + 0, t(x[3:4, ]) + 0, t(x[c(5, 1), ]) + 0))
    expect_equal(it$num.pad(), 1)
    expect_false(it$iter.next())
    it$reset()
    it$iter.next()
    expect_equal(it$num.pad(), 0)
    it$reset()
  }
  expect_equal(unlist(pass(it, "label")), c(5, 4, 3, 2, 1, 5))
  expect_equal(mx.io.extract(it, "data"), t(x) + 0)
})

test_that("shapes, missing labels and unrounded batches", {
  x <- matrix(1:18, 3, byrow = TRUE)
  it <- mx.io.CSVIter(data_csv = csv(x), data_shape = c(3, 2), batch_size = 2, round_batch = FALSE)
  got <- pass(it)
  expect_equal(got[[1]][, , 2], matrix(x[2, ], 3) + 0)
  expect_equal(got[[2]][, , 2], matrix(0, 3, 2))
  expect_equal(it$num.pad(), 1)
  it$reset()
  expect_equal(pass(it, "label"), list(c(0, 0), c(0, 0)))
  it <- mx.io.CSVIter(data.csv = csv(x), data.shape = 6, label.csv = csv(x[, 1:2]), label.shape = 2, batch.size = 5)
  expect_equal(pass(it, "label")[[1]], t(x[c(1:3, 1:2), 1:2]) + 0)
})

test_that("files larger than a chunk, and than what is kept, give the same", {
  x <- matrix(seq_len(46), 23, byrow = TRUE)
  for (kept in c(1e6, 20)) {
    opened <- 0
    con <- NULL
    rows <- function(m, before) {
      v <- scan(con, double(), m * 2, sep = ",", quiet = TRUE)
      if (length(v)) list(data = matrix(v, 2))
    }
    path <- csv(x)
    open <- function() {
      opened <<- opened + 1
      if (!is.null(con)) close(con)
      con <<- file(path, "rt")
    }
    src <- mxnet:::mx.io.internal.rows(open, rows, function() NULL, list(data = 2), 4, TRUE, "x", chunk.numbers = 16,
                                       kept.numbers = kept)
    it <- mxnet:::mx.io.internal.iterator(mxnet:::Rcpp_MXNativeDataIter, src)
    it$iter.next()
    for (again in 1:3) {
      it$reset()
      expect_equal(matrix(unlist(pass(it)), 2), t(x[c(1:23, 1), ]) + 0)
      expect_equal(it$num.pad(), 1)
    }
    expect_identical(opened, if (kept == 20) 4 else 2) # the first pass was not finished
    close(con)
    con <- NULL
  }
})

test_that("bad CSV files and arguments are errors", {
  expect_error(mx.io.CSVIter(data.csv = "absent.csv", data.shape = 3, batch.size = 2), "there is no file absent.csv",
               class = "mxnet_io_error")
  expect_error(mx.io.CSVIter(data.shape = 3, batch.size = 2), "Required parameter data.csv",
               class = "mxnet_value_error")
  good <- csv(matrix(1:6, 2))
  expect_error(mx.io.CSVIter(good, 3, 2), "named arguments only", class = "mxnet_value_error")
  expect_error(mx.io.CSVIter(data.csv = good, data.shape = 3, batch.size = 2, foo = 1), "no argument `foo`",
               class = "mxnet_value_error")
  expect_error(mx.io.CSVIter(data.csv = good, data.shape = "a", batch.size = 2), "`data.shape`",
               class = "mxnet_value_error")
  expect_error(mx.io.CSVIter(data.csv = good, data.shape = 2, batch.size = 2)$iter.next(), "lines of 2 numbers",
               class = "mxnet_format_error")
  text <- tempfile()
  writeLines(c("a,b", "1,2"), text)
  expect_error(mx.io.CSVIter(data.csv = text, data.shape = 2, batch.size = 2)$iter.next(), "lines of 2 numbers",
               class = "mxnet_format_error")
  expect_error(mx.io.CSVIter(data.csv = good, data.shape = 3, label.csv = csv(1:3), batch.size = 4)$iter.next(),
               "differ in their number of lines",
               class = "mxnet_format_error")
})

idx <- function(numbers, bytes, gz = FALSE) {
  file <- tempfile()
  con <- if (gz) gzfile(file, "wb") else base::file(file, "wb")
  writeBin(as.integer(numbers), con, size = 4, endian = "big")
  writeBin(as.raw(bytes), con)
  close(con)
  file
}

test_that("MNIST files are read, compressed or not", {
  image <- idx(c(2051, 5, 2, 3), 0:29 * 8)
  label <- idx(c(2049, 5), c(3, 1, 4, 1, 5), gz = TRUE)
  it <- mx.io.MNISTIter(image, label, batch.size = 2, shuffle = FALSE, flat = TRUE, silent = TRUE)
  expect_equal(pass(it), list(matrix(0:11 * 8 / 256, 6), matrix(12:23 * 8 / 256, 6))) # the fifth is dropped
  it$reset()
  expect_equal(unlist(pass(it, "label")), c(3, 1, 4, 1))
  it <- mx.io.MNISTIter(idx(c(2051, 5, 2, 3), 0:29 * 8, gz = TRUE), label, batch.size = 5, shuffle = FALSE, silent = 1)
  expect_equal(pass(it), list(array(0:29 * 8 / 256, c(3, 2, 1, 5))))
  expect_identical(messages(mx.io.MNISTIter(image, label, batch.size = 2)), "MNISTIter: load 5 images")
})

test_that("MNIST's order follows its seed and leaves R's alone", {
  image <- idx(c(2051, 20, 1, 1), 0:19)
  label <- idx(c(2049, 20), 0:19)
  order <- function(seed) {
    it <- mx.io.MNISTIter(image, label, batch.size = 20, flat = TRUE, seed = seed, silent = TRUE)
    it$iter.next()
    expect_equal(as.vector(as.array(it$value()$data)) * 256, as.array(it$value()$label))
    as.array(it$value()$label)
  }
  set.seed(1)
  u <- runif(1)
  set.seed(1)
  expect_identical(order(1), order(1))
  expect_identical(runif(1), u)
  expect_false(identical(order(1), order(2)))
  expect_setequal(order(3), 0:19)
  part <- mx.io.MNISTIter(image, label, batch.size = 5, shuffle = FALSE, flat = TRUE, silent = TRUE, part.index = 1,
                          num.parts = 4)
  expect_equal(unlist(pass(part, "label")), 5:9 + 0)
})

test_that("bad MNIST files are errors", {
  label <- idx(c(2049, 2), 1:2)
  good <- idx(c(2051, 2, 1, 1), 1:2)
  expect_error(mx.io.MNISTIter("absent", label), "no file absent", class = "mxnet_io_error")
  expect_error(mx.io.MNISTIter(label, label), "no idx file of 3", class = "mxnet_format_error")
  expect_error(mx.io.MNISTIter(idx(c(2051, 3, 1, 1), 1:2), label), "ends before", class = "mxnet_format_error")
  expect_error(mx.io.MNISTIter(idx(c(2051, 3, 1, 1), 1:3), label), "3 images and 2 labels",
               class = "mxnet_format_error")
  expect_error(mx.io.MNISTIter(good, label, silent = TRUE), "fewer than a batch", class = "mxnet_value_error")
  expect_error(mx.io.MNISTIter(good, label, foo = 1), "no argument `foo`", class = "mxnet_value_error")
})

test_that("LibSVM files become dense batches", {
  file <- tempfile()
  writeLines(c("1 0:1.5 2:2", "0 1:3 # a note", "", "-1 0:1 1:1 2:1"), file)
  it <- mx.io.LibSVMIter(data.libsvm = file, data.shape = 3, batch.size = 2)
  expect_equal(pass(it), list(matrix(c(1.5, 0, 2, 0, 3, 0), 3), matrix(c(1, 1, 1, 1.5, 0, 2), 3)))
  it$reset()
  expect_equal(unlist(pass(it, "label")), c(1, 0, -1, 1))
  labels <- tempfile()
  writeLines(c("0 0:1", "0 1:2", "0"), labels)
  it <- mx.io.LibSVMIter(data.libsvm = file, data.shape = 3, label.libsvm = labels, label.shape = 2, batch.size = 3)
  expect_equal(pass(it, "label")[[1]], matrix(c(1, 0, 0, 2, 0, 0), 2))
  writeLines("1 3:1", file)
  expect_error(mx.io.LibSVMIter(data.libsvm = file, data.shape = 3, batch.size = 1)$iter.next(), "no LibSVM text",
               class = "mxnet_format_error")
  writeLines("1 a:1", file)
  expect_error(mx.io.LibSVMIter(data.libsvm = file, data.shape = 3, batch.size = 1)$iter.next(),
               class = "mxnet_format_error")
})

test_that("file iterators print what they are", {
  expect_output(print(mx.io.CSVIter(data.csv = csv(matrix(1:6, 2)), data.shape = 3, batch.size = 2)),
                "<MXNativeDataIter> CSV file .*: data 3 x 2, label 2")
})

test_that("an iterator that is dropped half way closes its file", {
  before <- nrow(showConnections())
  src <- mxnet:::mx.io.internal.files(csv(matrix(1:6, 2)))
  it <- mxnet:::mx.io.internal.iterator(mxnet:::Rcpp_MXNativeDataIter, list(close = src$shut))
  src$open()
  expect_identical(readLines(src$connection(1), 1), "1,3,5")
  rm(src, it)
  expect_silent(gc())
  expect_identical(nrow(showConnections()), before)
})

test_that("a file that is gone when a pass starts leaves no other open", {
  data <- tempfile()
  writeLines("1,2", data)
  text <- mxnet:::mx.io.internal.files(list(data = data, label = tempfile()))
  before <- nrow(showConnections())
  expect_error(suppressWarnings(text$open()), "cannot open")
  expect_false(text$is.open())
  expect_equal(nrow(showConnections()), before)
})

test_that("a copy of an iterator leaves the files of the other alone", {
  file <- tempfile()
  writeLines(c("1", "2", "3"), file)
  set <- mxnet:::mx.io.internal.files(list(data = file))
  set$open()
  expect_identical(readLines(set$connection("data"), 1), "1")
  copy <- unserialize(serialize(set, NULL))
  expect_false(copy$is.open())
  copy$resume(2)
  expect_identical(readLines(copy$connection("data"), 1), "3")
  copy$shut()
  expect_identical(readLines(set$connection("data"), 1), "2")
  set$shut()
  expect_false(set$is.open())
})

test_that("an iterator that was saved in the middle of a file goes on there", {
  file <- tempfile()
  writeLines(as.character(1:11), file)
  set <- mxnet:::mx.io.internal.files(list(data = file))
  rows <- function(m, before) {
    set$resume(before)
    if (!set$is.open()) return(NULL)
    x <- as.numeric(readLines(set$connection("data"), m))
    if (length(x) < m) set$shut()
    if (length(x)) list(data = matrix(x, 1))
  }
  source <- mxnet:::mx.io.internal.rows(set$open, rows, set$shut, list(data = numeric()), 2, TRUE, "numbers",
                                        chunk.numbers = 4)
  it <- mxnet:::mx.io.internal.iterator(Rcpp_MXNativeDataIter, source)
  rest <- function(it) {
    seen <- NULL
    while (it$iter.next()) seen <- c(seen, as.array(it$value()$data))
    seen
  }
  for (i in 1:3) it$iter.next()
  copy <- unserialize(serialize(it, NULL))
  expect_equal(rest(copy), c(7:11, 1))
  copy$reset()
  expect_equal(rest(copy), c(1:11, 1))
  expect_equal(rest(it), c(7:11, 1))
})
