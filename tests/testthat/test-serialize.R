net <- mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc")

again <- function(x, version = 3) unserialize(serialize(x, NULL, version = version))

test_that("objects survive in every format", {
  x <- nd(matrix(1:6, 2), dtype = "float64")
  e <- mx.simple.bind(net, mx.cpu(), grad.req = "write", data = c(3, 4))
  mx.exec.update.arg.arrays(e, list(fc_bias = nd(c(1, 2))), match.name = TRUE)
  for (version in 2:3) {
    y <- again(x, version)
    expect_equal(class(y), "MXNDArray")
    expect_equal(as.array(y), as.array(x))
    expect_equal(mxnet:::mx.nd.dtype(y), "float64")
    expect_equal(as.array(again(y, version) * 2), as.array(x) * 2)
    expect_identical(again(net, version)$as.json(), net$as.json())
    mx.exec.forward(e)
    f <- again(e, version)
    expect_equal(as.array(f$outputs[[1]]), matrix(c(1, 2), 2, 4))
    mx.exec.update.arg.arrays(f, list(fc_bias = nd(c(3, 4))), match.name = TRUE)
    mx.exec.forward(f)
    expect_equal(as.array(f$ref.outputs[[1]]), matrix(c(3, 4), 2, 4))
    expect_equal(sapply(f$ref.grad.arrays, is.null), sapply(e$ref.grad.arrays, is.null))
  }
})

test_that("what was read back and never used is saved again", {
  y <- again(again(again(nd(1:3))))
  expect_equal(as.array(y), 1:3)
})

test_that("contents are those at the time of saving", {
  x <- nd(1:3)
  bytes <- serialize(x, NULL)
  mx.nd.exp(mx.nd.zeros(3), out = x)
  expect_equal(as.array(unserialize(bytes)), 1:3)
  expect_equal(as.array(again(x)), c(1, 1, 1))
  expect_equal(as.array(again(x, 2)), c(1, 1, 1))
})

test_that("files and other processes", {
  file <- tempfile(fileext = ".rds")
  saveRDS(list(x = nd(1:3), net = net), file)
  code <- sprintf("l <- readRDS(%s); list(as.array(l$x + 1), arguments(l$net))", encodeString(file, quote = "\""))
  expect_equal(in.fresh.session(code), list(c(2, 3, 4), arguments(net)))
  image <- tempfile(fileext = ".RData")
  x <- nd(4:6)
  save(x, net, file = image)
  rm(x)
  load(image)
  expect_equal(as.array(x), 4:6)
  expect_true(all.equal(mx.symbol.load.json(net$as.json()), net))
})

test_that("forked and parallel workers", {
  skip_on_os("windows")
  x <- nd(matrix(runif(10000), 100))
  y <- x %*% x
  r <- parallel::mclapply(1:3, function(i) list(sum(x) * i, x + i, mx.nd.dot(x, x)), mc.cores = 2)
  expect_equal(r[[2]][[1]], 2 * sum(x))
  expect_equal(as.array(r[[3]][[2]]), as.array(x) + 3, tolerance = 1e-6)
  expect_equal(as.array(r[[1]][[3]]), as.array(y), tolerance = 1e-5)
})

test_that("a damaged object is an error", {
  bytes <- serialize(nd(1:1000), NULL)
  cut <- bytes
  at <- length(cut) %/% 2
  for (i in seq(100, length(cut) - 200, by = 97)) {
    cut <- bytes
    cut[i] <- xor(cut[i], as.raw(0x5a))
    expect_error(tryCatch({
      as.array(unserialize(cut))
      stop("fine")
    }, error = function(e) stop("fine")), "fine")
  }
})

test_that("sizes count the contents", {
  expect_gt(as.numeric(object.size(mx.nd.zeros(1e5))), 4e5)
})

# Where the contents of an object stand in its serialized form: behind their length in four bytes.
contents <- function(bytes, first) {
  first <- charToRaw(first)
  at <- which(bytes == first[1])
  start <- at[vapply(at, function(i) identical(bytes[i + seq_along(first) - 1], first), TRUE)][1]
  seq(start, length.out = readBin(bytes[start - 4:1], "integer", endian = "big"))
}

test_that("damaged contents are errors or other numbers, never a crash", {
  e <- mx.simple.bind(mx.symbol.BatchNorm(net), mx.cpu(), grad.req = "write", data = c(3, 4))
  use <- function(bytes) {
    tryCatch({
      y <- unserialize(bytes)
      if (is.mx.symbol(y)) arguments(y) else if (is.mx.ndarray(y)) as.array(y) else mx.exec.forward(y)
      "used"
    }, mxnet_error = function(e) "refused")
  }
  for (case in list(list(nd(1:6), "MXND"), list(net, "{"), list(e, "MXEX"))) {
    bytes <- serialize(case[[1]], NULL)
    where <- contents(bytes, case[[2]])
    expect_identical(use(bytes), "used")
    fate <- vapply(where, function(i) {
      damaged <- bytes
      damaged[i] <- xor(damaged[i], as.raw(2^(i %% 8)))
      use(damaged)
    }, "")
    expect_setequal(fate, c("used", "refused"))
  }
  # Counts of arguments, of auxiliary states and of bytes of JSON.
  for (offset in c(8, 16, 24)) for (count in 0:9) {
    damaged <- bytes
    damaged[where[1] + offset] <- as.raw(count)
    expect_identical(use(damaged), if (identical(damaged, bytes)) "used" else "refused")
  }
})
