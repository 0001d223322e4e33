test_that("arrays come back as they went in", {
  for (v in list(1:3, c(1.5, 2.5), c(TRUE, FALSE, NA), 7, numeric(0))) expect_equal(as.array(nd(v)), as.numeric(v))
  for (d in list(c(2, 3), c(1, 1), c(2, 3, 4), c(4, 1, 2, 3), c(0, 3))) {
    a <- array(seq_len(prod(d)) + 0, d)
    expect_identical(as.array(nd(a)), a)
    expect_equal(dim(nd(a)), d)
  }
  expect_null(dim(as.array(nd(1:3))))
  expect_equal(length(nd(array(0, c(4, 5, 6)))), 120)
  expect_equal(as.array(nd(data.frame(a = 1:2, b = c(0.5, 1)))), cbind(1:2, c(0.5, 1)))
  expect_equal(as.array(nd(as.raw(c(0, 255)))), c(0, 255))
  expect_equal(as.array(nd(nd(1:3))), 1:3)
  expect_equal(as.array(nd(ts(1:4))), 1:4)
})

test_that("NA and infinities survive as far as they can", {
  expect_identical(is.nan(as.array(nd(c(1, NA, Inf, -Inf)))), c(FALSE, TRUE, FALSE, FALSE))
  expect_identical(is.nan(as.array(nd(c(1L, NA)))), c(FALSE, TRUE))
  expect_equal(as.array(nd(c(Inf, -Inf))), c(Inf, -Inf))
  expect_error(nd(c(1L, NA), dtype = "int32"), class = "mxnet_value_error")
  expect_error(nd(c(1, NaN), dtype = "uint8"), class = "mxnet_value_error")
})

test_that("every element type is there", {
  for (type in c("float32", "float64", "float16", "uint8", "int8", "int32", "int64")) {
    x <- nd(c(0, 1, 5), dtype = type)
    expect_equal(mxnet:::mx.nd.dtype(x), type)
    expect_identical(as.array(x), c(0, 1, 5))
    expect_identical(as.array(mx.nd.zeros(2, dtype = type)), c(0, 0))
    expect_identical(as.array(mx.nd.ones(2, dtype = type)), c(1, 1))
  }
  expect_identical(as.array(nd(c(TRUE, FALSE), dtype = "bool")), c(1, 0))
  expect_identical(as.array(nd(16777217)), 16777216)
  expect_identical(as.array(nd(1 / 3, dtype = "float64")), 1 / 3)
  expect_warning(as.array(nd(2^54, dtype = "int64")), "2\\^53")
  expect_error(nd(1, dtype = "float31"), class = "mxnet_value_error")
})

test_that("what makes no array is an error", {
  expect_error(nd("a"), class = "mxnet_value_error")
  expect_error(nd(list(1, 2)), class = "mxnet_value_error")
  expect_error(nd(NULL), class = "mxnet_error")
  expect_error(nd(factor("a")), "array, vector or matrix only", class = "mxnet_value_error")
  expect_error(nd(1i), class = "mxnet_value_error")
  expect_error(nd(1:3, ctx = "cpu"), class = "mxnet_value_error")
  expect_error(mx.nd.zeros(c(2, NA)), class = "mxnet_shape_error")
  expect_error(mx.nd.zeros("a"), class = "mxnet_value_error")
  expect_error(mx.nd.zeros(rep(1, 20)), class = "mxnet_shape_error")
  expect_error(mx.nd.zeros(c(1e9, 1e9, 1e9)), class = "mxnet_shape_error")
  expect_error(mx.nd.zeros(2, ctx = 1), class = "mxnet_value_error")
})

test_that("is.mx.ndarray knows its own", {
  expect_true(is.mx.ndarray(nd(1)))
  expect_false(is.mx.ndarray(matrix(1)))
  expect_false(is.mx.ndarray(NULL))
  expect_equal(class(nd(1)), "MXNDArray")
})

test_that("print, str, summary and format show the numbers", {
  expect_output(expect_equal(print(nd(c(1.5, 2.25, -3))), c(1.5, 2.25, -3)), "[1]  1.50  2.25 -3.00", fixed = TRUE)
  expect_output(str(nd(matrix(1:6, 2))), "<MXNDArray 2 x 3 float32 @cpu(0)> 1 2 3 4 5 ...", fixed = TRUE)
  expect_output(print(summary(nd(1:5))), "Median")
  expect_equal(format(nd(1:2)), c("1", "2"))
  old <- options(max.print = 50)
  on.exit(options(old))
  expect_output(print(mx.nd.zeros(c(10, 10))), "50 more elements")
})

test_that("conversions to R vectors", {
  x <- nd(matrix(c(0, 1, 2.5, -1), 2))
  expect_identical(as.numeric(x), c(0, 1, 2.5, -1))
  expect_identical(as.vector(x), c(0, 1, 2.5, -1))
  expect_identical(as.integer(x), c(0L, 1L, 2L, -1L))
  expect_identical(as.logical(x), c(FALSE, TRUE, TRUE, TRUE))
  expect_identical(as.matrix(x), matrix(c(0, 1, 2.5, -1), 2))
  expect_error(as.matrix(nd(1:3)), class = "mxnet_value_error")
  expect_equal(head(x, 1), matrix(c(0, 2.5), 1))
  expect_equal(as.array(rep(nd(1:2), 2)), c(1, 2, 1, 2))
})

test_that("indexing selects like R", {
  a <- array(as.numeric(1:24), c(2, 3, 4))
  x <- nd(a)
  r <- function(v) as.array(v)
  expect_equal(r(x[1, , ]), a[1, , ])
  expect_equal(r(x[, 2:3, -1]), a[, 2:3, -1])
  expect_equal(r(x[2, 3, 4]), a[2, 3, 4])
  expect_equal(r(x[, , c(TRUE, FALSE)]), a[, , c(TRUE, FALSE)])
  expect_equal(dim(x[1, , , drop = FALSE]), c(1, 3, 4))
  expect_equal(r(x[c(5, 1, 24)]), a[c(5, 1, 24)])
  expect_equal(r(x[-(1:20)]), a[-(1:20)])
  expect_equal(r(x[cbind(1:2, 2:3, 3:4)]), a[cbind(1:2, 2:3, 3:4)])
  expect_equal(r(x[x > 22]), c(23, 24))
  expect_equal(r(x[]), a)
  expect_equal(length(x[integer(0)]), 0)
  expect_identical(x[[2, 3, 4]], 24)
  expect_identical(x[[5]], 5)
  select <- function(x, ...) x[...]
  expect_equal(r(select(x, 1, , 2:3)), a[1, , 2:3])
  for (type in c("float64", "float16", "uint8", "int64")) expect_equal(r(nd(a, dtype = type)[2, , ]), a[2, , ])
})

test_that("what cannot be selected is an error", {
  x <- nd(matrix(1:6, 2))
  expect_error(x[3, 1], "out of bounds", class = "mxnet_value_error")
  expect_error(x[7], "out of bounds", class = "mxnet_value_error")
  expect_error(x[1, 1, 1], "number of dimensions", class = "mxnet_value_error")
  expect_error(x["a"], class = "mxnet_value_error")
  expect_error(x[NA], class = "mxnet_value_error")
  expect_error(x[c(1, -1)], class = "mxnet_value_error")
  expect_error(x[[1:2]], class = "mxnet_value_error")
  expect_error(nd(1:3)[[5]], class = "mxnet_value_error")
})

test_that("assignment makes a changed copy", {
  a <- array(as.numeric(1:24), c(2, 3, 4))
  x <- y <- nd(a)
  x[1, 2:3, 4] <- c(-1, -2)
  a2 <- a
  a2[1, 2:3, 4] <- c(-1, -2)
  expect_equal(as.array(x), a2)
  expect_equal(as.array(y), a)
  x[x < 0] <- 0
  a2[a2 < 0] <- 0
  expect_equal(as.array(x), a2)
  x[] <- 1:2
  expect_equal(as.array(x), array(1:2, c(2, 3, 4)))
  x[[2]] <- 9
  expect_equal(x[[2]], 9)
  x[2, , ] <- nd(matrix(0, 3, 4))
  expect_equal(sum(x[2, , ]), 0)
  expect_error(x[1:2] <- 1:3, class = "mxnet_value_error")
  expect_error(x[1] <- numeric(0), class = "mxnet_value_error")
  expect_error(x[1] <- "a", class = "mxnet_value_error")
  dim(x) <- c(6, 4)
  expect_equal(dim(x), c(6, 4))
  expect_error(dim(x) <- 5, class = "mxnet_shape_error")
  z <- nd(1:3, dtype = "int32")
  expect_error(z[1] <- NA, class = "mxnet_value_error")
})

test_that("more of R works on arrays", {
  a <- array(as.numeric(1:24), c(2, 3, 4))
  x <- nd(a)
  for (p in list(NULL, c(1, 3, 2), c(2, 3, 1), c(3, 1, 2))) expect_equal(as.array(aperm(x, p)), aperm(a, p))
  expect_error(aperm(x, c(1, 1, 2)), class = "mxnet_value_error")
  v <- c(3, NA, 1)
  expect_identical(is.na(nd(v)), is.na(v))
  expect_true(anyNA(nd(v)))
  for (f in list(is.nan, is.finite, is.infinite)) {
    all <- c(1, NaN, Inf, -Inf)
    expect_identical(f(nd(all)), f(all))
  }
  expect_identical(diff(nd(c(1, 4, 9))), c(3, 5))
  expect_equal(as.array(sort(nd(c(3, 1, 2)))), 1:3)
  expect_equal(order(nd(c(3, 1, 2))), order(c(3, 1, 2)))
  expect_equal(as.array(rev(nd(1:3))), 3:1)
  expect_equal(sd(nd(1:5)), sd(1:5))
  expect_equal(apply(x, 1, sum), apply(a, 1, sum))
})

test_that("matrices and vectors are bound, and converted where R has no hook", {
  a <- matrix(1:6, 2)
  x <- mx.nd.array(a)
  expect_equal(as.array(cbind(x, x)), cbind(a, a))
  expect_equal(as.array(rbind(x, 7:9, mx.nd.array(1:3))), rbind(a, 7:9, 1:3))
  expect_equal(as.array(cbind(mx.nd.array(1:2), x)), unname(cbind(1:2, a)))
  expect_error(cbind(x, mx.nd.ones(c(3, 1))), class = "mxnet_shape_error")
  expect_error(rbind(mx.nd.ones(c(1, 1, 1)), x), "one or two dimensions", class = "mxnet_shape_error")
  expect_equal(unique(mx.nd.array(c(2, 1, 2))), c(2, 1))
  expect_equal(as.data.frame(x), as.data.frame(a + 0))
  expect_equal(quantile(x, 0.5), quantile(1:6, 0.5))
})

test_that("t and all.equal", {
  x <- nd(matrix(1:6, 2))
  expect_equal(as.array(t(x)), t(matrix(as.numeric(1:6), 2)))
  expect_equal(dim(t(nd(1:3))), c(1, 3))
  expect_true(all.equal(x, x + 0))
  expect_true(all.equal(x, matrix(1:6 + 0, 2)))
  expect_type(all.equal(x, x + 1), "character")
  expect_error(t(nd(array(1:8, c(2, 2, 2)))), class = "mxnet_value_error")
})

test_that("files keep names, shapes and types", {
  file <- tempfile(fileext = ".nd")
  mx.nd.save(list(a = mx.nd.ones(2), b = nd(matrix(1:6, 2), dtype = "float64")), file)
  l <- mx.nd.load(file)
  expect_named(l, c("a", "b"))
  expect_equal(as.array(l$b), matrix(1:6 + 0, 2))
  expect_equal(mxnet:::mx.nd.dtype(l$b), "float64")
  mx.nd.save(nd(1:3), file)
  expect_null(names(mx.nd.load(file)))
  expect_length(mx.nd.load(file), 1)
  expect_error(mx.nd.save(list(1), file), class = "mxnet_value_error")
  expect_error(mx.nd.save(nd(1), file.path(tempfile(), "no", "such")), class = "mxnet_io_error")
  expect_error(mx.nd.save(nd(1), "s3://bucket/x"), "no file on this machine", class = "mxnet_io_error")
  expect_error(mx.nd.load("hdfs:///user/x"), "no file on this machine", class = "mxnet_io_error")
  expect_error(mx.nd.load(c("a", "b")), class = "mxnet_value_error")
  writeBin(as.raw(1:100), file)
  expect_error(mx.nd.load(file), class = "mxnet_format_error")
})

test_that("copies are copies", {
  x <- nd(1:3)
  y <- mx.nd.copyto(x, mx.cpu(1))
  expect_equal(ctx(y), mx.cpu(1))
  mx.nd.exp(mx.nd.zeros(3), out = x)
  expect_equal(as.array(x), c(1, 1, 1))
  expect_equal(as.array(y), 1:3)
})

test_that("mx.nd.slice takes a range of the last dimension", {
  x <- nd(matrix(1:8, 2))
  expect_equal(as.array(mxnet:::mx.nd.slice(x, 1, 3)), matrix(3:6 + 0, 2))
  expect_error(mxnet:::mx.nd.slice(x, 0, 5), class = "mxnet_value_error")
})

test_that("the collector learns of native memory", {
  used <- function() mx.memory()[["used"]]
  gc()
  before <- used()
  most <- 0
  for (i in 1:60) {
    x <- mx.nd.zeros(c(1024, 1024, 16)) # 64 MB each, 4 GB in all
    most <- max(most, used() - before)
  }
  expect_lt(most, 1.5e9)
  rm(x)
  gc()
  expect_lte(used(), before)
})

test_that("nothing is left when nothing is used", {
  live <- in.fresh.session(c(
    "f <- function() {",
    "  x <- mx.nd.array(matrix(1:6, 2)); y <- x + 1; z <- x[1, ]; l <- mx.nd.split(x, num_outputs = 2, axis = 1)",
    "  s <- mx.symbol.Variable('a') * 2; e <- mx.simple.bind(s, mx.cpu(), 'write', a = 3)",
    "  mx.exec.forward(e); e$ref.outputs; e$arg.arrays; try(x + l[[1]], silent = TRUE)",
    "  readBin(serialize(list(x, s, e), NULL), 'raw', 10)",
    "}",
    "for (i in 1:3) f()", "rm(f)", "invisible(gc())", "invisible(gc())", "mxnet:::mx.internal.live.objects()"
  ))
  expect_equal(live, c(ndarray = 0L, symbol = 0L, executor = 0L))
})

test_that("resident memory is flat after the first tenth of a loop, without gc()", {
  skip_if_not(file.exists("/proc/self/status"))
  skip_on_cran()
  resident <- function()
    as.numeric(gsub("[^0-9]", "", grep("^VmRSS", readLines("/proc/self/status"), value = TRUE)))
  growth <- function(n, step) {
    seen <- numeric()
    for (i in seq_len(n)) {
      step()
      if (i %% (n / 10) == 0) seen <- c(seen, resident())
    }
    max(seen) / seen[1] - 1
  }
  for (d in c(3, 50, 100)) {
    x <- mx.nd.ones(c(d, d))
    expect_lt(growth(1e5, function() x + 1), 0.05)
  }
  data <- matrix(rnorm(2000), 10)
  net <- mx.symbol.SoftmaxOutput(mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2))
  train <- function() mx.model.FeedForward.create(net, data, rep(0:1, 100), array.layout = "colmajor", num.round = 2,
                                                  array.batch.size = 20, verbose = FALSE)
  expect_lt(growth(200, train), 0.05)
})

test_that("files are found in any locale", {
  skip_on_os("windows")
  dir <- tempfile("\u00e9t\u00e9 ")
  skip_if_not(dir.create(dir), "no such names here")
  code <- c(sprintf("setwd(list.files(%s, '^.+t.+ ', full.names = TRUE)[1])", encodeString(dirname(dir), quote = "'")),
            "here <- function(name) file.path(getwd(), name)", "mx.nd.save(mx.nd.ones(2), here('a.nd'))",
            "mx.symbol.save(mx.symbol.Variable('a'), here('s'))",
            "list(as.array(mx.nd.load(here('a.nd'))[[1]]), arguments(mx.symbol.load(here('s'))))")
  expect_identical(in.fresh.session(code, env = "LC_ALL=C"), list(c(1, 1), "a"))
})

test_that("expectations compare what arrays hold", {
  expect_equal(nd(1:3) > 1, nd(c(0, 1, 1)))
  expect_identical(nd(1:3), nd(1:3))
  expect_error(expect_equal(nd(1:3), nd(c(1, 2, 4))), "not equal")
})
