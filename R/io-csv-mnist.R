# Iterators over files: CSV, MNIST's idx format, LibSVM.

# Arguments of an iterator that came as `...`: named, dots or underscores in the names. `known` holds the defaults;
# `required` the names without one. `ignored` are accepted without effect.
mx.io.internal.args <- function(given, iterator, known, required, ignored = character()) {
  if (length(given) && (is.null(names(given)) || !all(nzchar(names(given)))))
    mx.stop("value", iterator, " takes named arguments only.")
  names(given) <- gsub("_", ".", names(given), fixed = TRUE)
  unknown <- setdiff(names(given), c(names(known), required, ignored))
  if (length(unknown))
    mx.stop("value", iterator, " has no argument ", mx.util.and(paste0("`", unknown, "`")), "; it takes ",
                 mx.util.and(c(required, names(known)), 99L), ".")
  absent <- setdiff(required, names(given))
  if (length(absent)) mx.stop("value", "Required parameter ", absent[1L], " of ", iterator, " is not presented.")
  known[names(given)] <- given
  known
}

mx.io.internal.file <- function(path, name) {
  path <- mx.util.path(path, name)
  if (!file.exists(path) || dir.exists(path)) mx.stop("io", "`", name, "`: there is no file ", path, ".")
  path
}

mx.io.internal.shape <- function(shape, name) {
  if (!is.numeric(shape) || !length(shape) || anyNA(shape) || any(shape < 1))
    mx.stop("value", "`", name, "` must be the dims of one example, not ", mx.util.say(shape), ".")
  as.numeric(shape)
}

# Files that iterators have open. They are kept here, where the collector does not come by: it would close them, with a
# warning, before the iterator that forgot them is finalized.
mx.io.internal.open <- list2env(list(last = 0), parent = emptyenv())

# A set of text files: open() starts at their first lines, connection(i), shut(). A copy, such as one that was saved and
# read back, has nothing open; resume() opens its files and skips the lines that were read. Ctrl-C waits while a file is
# open and not yet known, or closed and still known.
mx.io.internal.files <- function(files) {
  owner <- environment()
  key <- NULL
  connections <- function() {
    set <- if (!is.null(key)) mx.io.internal.open[[key]]
    if (identical(set$owner, owner)) set$connections
  }
  shut <- function() suspendInterrupts({
    for (con in connections()) close(con)
    if (!is.null(connections())) rm(list = key, envir = mx.io.internal.open)
    key <<- NULL
  })
  open <- function() {
    shut()
    mx.io.internal.open$last <- mx.io.internal.open$last + 1
    key <<- paste0("set", mx.io.internal.open$last)
    complete <- FALSE
    on.exit(if (!complete) shut())
    mx.io.internal.open[[key]] <- list(owner = owner, connections = list())
    for (i in seq_along(files))
      suspendInterrupts(mx.io.internal.open[[key]]$connections[[i]] <- gzfile(files[[i]], "rt"))
    names(mx.io.internal.open[[key]]$connections) <- names(files)
    complete <- TRUE
  }
  list(
    open = open,
    resume = function(lines) {
      if (is.null(key) || !is.null(connections())) return(invisible())
      open()
      for (con in connections()) for (n in diff(unique(c(seq(0, lines, by = 1e4), lines)))) readLines(con, n)
    },
    connection = function(i) connections()[[i]],
    is.open = function() !is.null(connections()),
    shut = shut)
}

# A source that reads rows of numbers chunk by chunk and hands them out in batches.
#   open()    starts a pass
#   rows(m, before)   the next m rows at most, after `before` ones: a list of matrices, one column per row of the
#             file, NULL at the end
#   close()   gives up what open() opened
#   shapes    dims of one example for each entry
# With round.batch a last short batch is completed from the first rows of the file, otherwise by zeros. Chunks are kept
# as long as they are small together: later passes over such a file read nothing. A reset always goes back to the first
# row, whatever was read before.
mx.io.internal.rows <- function(open, rows, close, shapes, batch.size, round.batch, what,
                                chunk.numbers = 2^22, kept.numbers = 2^26) {
  force(round.batch)
  width <- sum(vapply(shapes, prod, 0))
  chunk.rows <- max(1, floor(chunk.numbers / (width * batch.size))) * batch.size
  kept <- list()     # the first chunks of the file, each list(arrays, count)
  keep <- TRUE       # may more be kept?
  complete <- FALSE  # are all chunks of the file kept?
  chunk <- NULL      # the current one
  number <- 0        # its number
  at <- 0            # the batch in it that is current
  first <- NULL      # rows of the first batch, to complete the last one
  current <- NULL
  pad <- 0
  state <- "start"   # start, open (within a pass), end

  fit <- function(values, shape, n) mx.nd.array(array(values, c(shape, n)), mx.cpu())
  fill <- function(x, first, n) {
    more <- if (round.batch) first[, rep_len(seq_len(ncol(first)), n), drop = FALSE] else matrix(0, nrow(x), n)
    cbind(x, more)
  }
  read <- function() {
    x <- rows(chunk.rows, (number - 1) * chunk.rows)
    if (is.null(x)) return(NULL)
    n <- ncol(x[[1L]])
    if (is.null(first)) first <<- lapply(x, function(m) m[, seq_len(min(batch.size, n)), drop = FALSE])
    filled <- ceiling(n / batch.size) * batch.size
    if (filled > n) x <- mapply(fill, x, first, filled - n, SIMPLIFY = FALSE)
    list(arrays = mapply(fit, x, shapes, filled, SIMPLIFY = FALSE), count = n)
  }
  advance <- function() {
    number <<- number + 1
    at <<- 0
    if (complete) {
      if (number > length(kept)) return(FALSE)
      chunk <<- kept[[number]]
      return(TRUE)
    }
    new <- read()
    if (is.null(new)) {
      complete <<- keep
      return(FALSE)
    }
    chunk <<- new
    if (keep && number > length(kept)) {
      if (number * chunk.rows * width > kept.numbers) {
        keep <<- FALSE
        kept <<- list()
      } else {
        kept[[number]] <<- new
      }
    }
    TRUE
  }
  nxt <- function() {
    if (state == "end") return(FALSE)
    if (state == "start") {
      state <<- "open"
      number <<- 0
      chunk <<- NULL
      if (!complete) open()
    }
    if (is.null(chunk) || at * batch.size >= chunk$count) {
      if (!advance()) {
        state <<- "end"
        return(FALSE)
      }
    }
    at <<- at + 1
    pad <<- max(0, at * batch.size - chunk$count)
    slice <- function(x) mx.nd.slice(x, (at - 1) * batch.size, at * batch.size)
    current <<- lapply(chunk$arrays, slice)
    TRUE
  }
  list(
    reset = function() {
      state <<- "start"
      pad <<- 0
    },
    nxt = nxt,
    value = function() {
      if (is.null(current)) mx.stop("state", "Call $iter.next() before $value().")
      current
    },
    pad = function() pad,
    close = close,
    describe = function() paste0(what, ": ", mx.io.internal.say(lapply(shapes, c, batch.size))))
}

#' Iterate over a CSV file
#'
#' Reads numbers separated by commas, one example per line, without a header. Files are read in chunks (gzip-compressed
#' ones too), so they may be larger than the memory; a file that fits into one chunk is read only once.
#'
#' @param ... Named arguments (`.` and `_` in the names are the same):
#'   * `data.csv`: the file; required.
#'   * `data.shape`: dims of one example in R order (the first index runs fastest within a line); required.
#'   * `batch.size`: examples in a batch; required.
#'   * `label.csv`, `label.shape`: file of the labels and dims of one label, 1 by default. Labels are zeros without a
#'     file.
#'   * `round.batch`: complete a last short batch from the first rows (default), or with zeros? Either way `$num.pad()`
#'     counts the examples that were added, and the next pass starts at the first row.
#'   * `dtype`, `ctx`, `prefetch.buffer` are accepted without effect.
#' @return An iterator of class `Rcpp_MXNativeDataIter`, see [is.mx.dataiter()]. Labels of shape 1 are a 1-d array.
#' @section Errors: `mxnet_io_error` for a missing file; `mxnet_format_error` for a line of another length or with text
#'   that is no number; `mxnet_value_error` for a missing or unknown argument.
#' @examples
#' file <- tempfile(fileext = ".csv")
#' write.table(matrix(1:12, 4, byrow = TRUE), file, sep = ",", row.names = FALSE, col.names = FALSE)
#' it <- mx.io.CSVIter(data.csv = file, data.shape = 3, batch.size = 3)
#' while (it$iter.next()) print(as.array(it$value()$data))
#' it$num.pad()
#' @export
mx.io.CSVIter <- function(...) {
  a <- mx.io.internal.args(list(...), "mx.io.CSVIter", list(label.csv = "NULL", label.shape = 1, round.batch = TRUE),
                           c("data.csv", "data.shape", "batch.size"), c("prefetch.buffer", "ctx", "dtype"))
  shapes <- list(data = mx.io.internal.shape(a$data.shape, "data.shape"),
                 label = mx.io.internal.shape(a$label.shape, "label.shape"))
  files <- list(data = mx.io.internal.file(a$data.csv, "data.csv"))
  if (!identical(a$label.csv, "NULL") && !identical(a$label.csv, ""))
    files$label <- mx.io.internal.file(a$label.csv, "label.csv")
  width <- vapply(shapes, prod, 0)
  text <- mx.io.internal.files(files)

  read <- function(part, rows) {
    # One list entry per column: scan() then checks that every line has all of them.
    x <- tryCatch(scan(text$connection(part), rep(list(double()), width[[part]]), nmax = rows, sep = ",", quiet = TRUE,
                       multi.line = FALSE),
                  error = function(e) mx.stop("format", "File ", files[[part]], " does not consist of lines of ",
                                              width[[part]],
                                                   " numbers: ", conditionMessage(e), "."))
    matrix(unlist(x, FALSE, FALSE), width[[part]], byrow = TRUE)
  }
  rows <- function(m, before) {
    text$resume(before)
    if (!text$is.open()) return(NULL)
    chunk <- lapply(stats::setNames(names(files), names(files)), read, m)
    n <- ncol(chunk$data)
    if (is.null(chunk$label)) chunk$label <- matrix(0, width[["label"]], n)
    if (ncol(chunk$label) != n)
      mx.stop("format", "Files ", files$data, " and ", files$label, " differ in their number of lines.")
    if (n < m) text$shut()
    if (n) chunk[c("data", "label")]
  }
  shapes$label <- if (identical(shapes$label, 1)) numeric() else shapes$label
  what <- paste("CSV file", basename(files$data))
  mx.io.internal.iterator(Rcpp_MXNativeDataIter, mx.io.internal.rows(
    text$open, rows, text$shut, shapes, mx.util.count(a$batch.size, "batch.size"),
    mx.util.flag(a$round.batch, "round.batch"), what))
}

# Reads a file in MNIST's idx format, compressed or not: an array of bytes whose last dimension counts the examples.
mx.io.internal.idx <- function(path, dims) {
  con <- gzfile(path, "rb")
  on.exit(close(con))
  header <- readBin(con, "integer", 1L + dims, size = 4L, endian = "big")
  if (length(header) != 1L + dims || header[1L] != 2048L + dims || any(header[-1L] < 0L))
    mx.stop("format", "File ", path, " is no idx file of ", dims, "-dimensional bytes.")
  d <- rev(header[-1L])
  x <- readBin(con, "raw", prod(d))
  if (length(x) != prod(d)) mx.stop("format", "File ", path, " ends before its ", d[dims], " examples do.")
  array(x, d)
}

#' Iterate over the MNIST files
#'
#' Reads images and labels in MNIST's idx format, compressed with gzip or not. Pixels are bytes times 1/256. A last
#' batch that is not full is dropped.
#'
#' @param image,label Paths of the two files.
#' @param batch.size Images in a batch.
#' @param shuffle Random order? The same `seed` gives the same order.
#' @param flat `TRUE`: data of dim `c(pixels, batch)`; `FALSE`: `c(columns, rows, 1, batch)`.
#' @param seed Seed of the shuffle.
#' @param silent Do not report what was read?
#' @param part.index,num.parts Use part `part.index` (from 0) of `num.parts` equal parts of the file.
#' @param ... Further arguments of the reference (`data.shape`, `prefetch.buffer`, `ctx`, `dtype`, `input.flat`):
#'   accepted without effect.
#' @return An iterator of class `Rcpp_MXNativeDataIter`, see [is.mx.dataiter()].
#' @section Errors: `mxnet_io_error` for a missing file, `mxnet_format_error` for one of another format,
#'   `mxnet_value_error` for an unknown argument, or fewer images than a batch.
#' @seealso [mx.data.mnist()] to get the files.
#' @examples
#' # Two files of four 2 x 3 images
#' files <- file.path(tempdir(), c("images", "labels"))
#' con <- file(files[1], "wb")
#' writeBin(c(2051L, 4L, 2L, 3L), con, size = 4, endian = "big")
#' writeBin(as.raw(0:23), con)
#' close(con)
#' con <- file(files[2], "wb")
#' writeBin(c(2049L, 4L), con, size = 4, endian = "big")
#' writeBin(as.raw(c(3, 1, 4, 1)), con)
#' close(con)
#' it <- mx.io.MNISTIter(image = files[1], label = files[2], batch.size = 2, shuffle = FALSE,
#'   silent = TRUE)
#' it$iter.next()
#' dim(it$value()$data)
#' @export
mx.io.MNISTIter <- function(image, label, batch.size = 128, shuffle = TRUE, flat = FALSE, seed = 0, silent = FALSE,
                            part.index = 0, num.parts = 1, ...) {
  mx.io.internal.args(list(...), "mx.io.MNISTIter", list(), character(),
                      c("data.shape", "input.flat", "prefetch.buffer", "ctx", "dtype"))
  batch.size <- mx.util.count(batch.size, "batch.size")
  num.parts <- mx.util.count(num.parts, "num.parts")
  part.index <- mx.util.count(part.index, "part.index", 0)
  images <- mx.io.internal.idx(mx.io.internal.file(image, "image"), 3L)
  labels <- mx.io.internal.idx(mx.io.internal.file(label, "label"), 1L)
  d <- dim(images)
  n <- d[3L]
  if (length(labels) != n) mx.stop("format", "There are ", n, " images and ", length(labels), " labels.")
  if (part.index >= num.parts) mx.stop("value", "`part.index` must be below `num.parts`.")
  if (!mx.util.flag(silent, "silent")) message("MNISTIter: load ", n, " images")
  order <- if (mx.util.flag(shuffle, "shuffle")) mx.util.with.seed(seed, sample.int(n)) else seq_len(n)
  size <- n %/% num.parts
  order <- order[part.index * size + seq_len(size)]
  order <- order[seq_len(length(order) %/% batch.size * batch.size)]
  if (!length(order)) mx.stop("value", "There are ", size, " images, fewer than a batch of ", batch.size, ".")
  dim(images) <- c(d[1L] * d[2L], n)
  if (!identical(order, seq_len(n))) images <- images[, order, drop = FALSE]
  dim(images) <- c(if (mx.util.flag(flat, "flat")) d[1L] * d[2L] else c(d[1:2], 1L), length(order))
  arrays <- list(data = mx.nd.array(images, mx.cpu()) * (1 / 256), label = mx.nd.array(as.integer(labels)[order],
      mx.cpu()))
  mx.io.internal.iterator(Rcpp_MXNativeDataIter, mx.io.internal.slices(arrays, batch.size))
}

#' Iterate over a LibSVM file
#'
#' Reads lines of a label and pairs `index:value`, with indices counted from 0. Batches are ordinary (dense) arrays.
#'
#' @param ... Named arguments (`.` and `_` in the names are the same):
#'   * `data.libsvm`: the file; required.
#'   * `data.shape`: the number of features; required.
#'   * `batch.size`: examples in a batch; required.
#'   * `label.libsvm`, `label.shape`: a second LibSVM file with labels of several numbers; without it the label is the
#'     first number of each line.
#'   * `round.batch`: see [mx.io.CSVIter()].
#'   * `num.parts`, `part.index`, `prefetch.buffer`, `ctx`, `dtype` are accepted without effect.
#' @return An iterator of class `Rcpp_MXNativeDataIter`, see [is.mx.dataiter()].
#' @section Errors: `mxnet_io_error` for a missing file; `mxnet_format_error` for a line that is none of LibSVM's, or an
#'   index beyond the shape; `mxnet_value_error` for a missing or unknown argument.
#' @examples
#' file <- tempfile()
#' writeLines(c("1 0:1.5 2:2", "0 1:3"), file)
#' it <- mx.io.LibSVMIter(data.libsvm = file, data.shape = 3, batch.size = 2)
#' it$iter.next()
#' as.array(it$value()$data)
#' @export
mx.io.LibSVMIter <- function(...) {
  a <- mx.io.internal.args(list(...), "mx.io.LibSVMIter",
                           list(label.libsvm = "NULL", label.shape = 1, round.batch = TRUE),
                           c("data.libsvm", "data.shape", "batch.size"),
                           c("num.parts", "part.index", "prefetch.buffer", "ctx", "dtype"))
  shapes <- list(data = prod(mx.io.internal.shape(a$data.shape, "data.shape")), label = numeric())
  files <- mx.io.internal.file(a$data.libsvm, "data.libsvm")
  if (!identical(a$label.libsvm, "NULL") && !identical(a$label.libsvm, "")) {
    files[2L] <- mx.io.internal.file(a$label.libsvm, "label.libsvm")
    shapes$label <- prod(mx.io.internal.shape(a$label.shape, "label.shape"))
  }
  text <- mx.io.internal.files(files)
  rows <- function(m, before) {
    text$resume(before)
    if (!text$is.open()) return(NULL)
    data <- mx.io.internal.libsvm(readLines(text$connection(1L), m), shapes$data, files[1L])
    n <- ncol(data$values)
    label <- matrix(data$label, 1L)
    if (length(files) > 1L) {
      label <- mx.io.internal.libsvm(readLines(text$connection(2L), m), shapes$label, files[2L])$values
      if (ncol(label) != n)
        mx.stop("format", "Files ", files[1L], " and ", files[2L], " differ in their number of lines.")
    }
    if (n < m) text$shut()
    if (n) list(data = data$values, label = label)
  }
  what <- paste("LibSVM file", basename(files[1L]))
  mx.io.internal.iterator(Rcpp_MXNativeDataIter, mx.io.internal.rows(
    text$open, rows, text$shut, shapes, mx.util.count(a$batch.size, "batch.size"),
    mx.util.flag(a$round.batch, "round.batch"), what))
}

# Lines of LibSVM text as a matrix with one column per line, and the first number of each line.
mx.io.internal.libsvm <- function(lines, width, path) {
  lines <- lines[grepl("[^ \t]", lines)]
  bad <- function() mx.stop("format", "File ", path, " has a line that is no LibSVM text for ", width, " features.")
  words <- strsplit(trimws(sub("#.*", "", lines)), "[ \t]+")
  pairs <- unlist(lapply(words, `[`, -1L))
  row <- rep(seq_along(words), lengths(words) - 1L)
  label <- suppressWarnings(as.numeric(vapply(words, function(w) sub(",.*", "", w[1L]), "")))
  colon <- regexpr(":", pairs, fixed = TRUE)
  index <- suppressWarnings(as.numeric(substr(pairs, 1L, colon - 1L)))
  value <- suppressWarnings(as.numeric(substring(pairs, colon + 1L)))
  if (anyNA(label) || any(colon < 1L) || anyNA(index) || anyNA(value) || any(index < 0 | index >= width)) bad()
  values <- matrix(0, width, length(lines))
  values[cbind(index + 1, row)] <- value
  list(values = values, label = label)
}
