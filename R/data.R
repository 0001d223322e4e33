# Data sets: downloaded once, checked, kept in the user's cache folder.

# Files of the sets: size and MD5 digest of what is downloaded.
mx.data.internal.sets <- list(
  mnist = list(
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/",
    files = data.frame(
      file = c("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
               "t10k-labels-idx1-ubyte.gz"),
      bytes = c(9912422, 28881, 1648877, 4542),
      md5 = c("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
              "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"))),
  fashion = list(
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files = data.frame(
      file = c("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
               "t10k-labels-idx1-ubyte.gz"),
      bytes = c(26421880, 29515, 4422102, 5148),
      md5 = c("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
              "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"))),
  cifar10 = list(
    url = "https://www.cs.toronto.edu/~kriz/",
    files = data.frame(file = "cifar-10-binary.tar.gz", bytes = 170052171, md5 = "c32a1d4ab5d03f1284b67883e8d87530")),
  shakespeare = list(
    url = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
    files = data.frame(file = "input.txt", bytes = 1115394, md5 = "6fb458f1232090904fb40fe944165e91")))

#' Data sets
#'
#' Well-known data sets for examples, in the form that the training functions take. Files are downloaded at the first
#' use into the cache folder `tools::R_user_dir("mxnet", "cache")`, and used only when their size and digest are right.
#' A download that was interrupted goes on where it stopped. Without a network, get the files elsewhere and give their
#' folder as `path`.
#'
#' `mx.data.mnist` has handwritten digits, `mx.data.fashion` pictures of clothes in the same format, `mx.data.cifar10`
#' small colour photos of ten kinds of things, and `mx.data.shakespeare` a text of about a million characters.
#'
#' @param path Folder that has the original files (compressed or not), or `NULL`: download them. For
#'   `mx.data.shakespeare` the file itself is fine too.
#' @param flat Return each picture as a column of a matrix?
#' @return A list of `train` and `test`, each a list of `data` and `label`. `data` has values from 0 to 1 and dim `c(28,
#'   28, 1, n)` (CIFAR: `c(32, 32, 3, n)`), or `c(784, n)` (`c(3072, n)`) when `flat`; labels are 0 to 9.
#'   `mx.data.shakespeare` returns a string.
#' @section Errors: `mxnet_io_error` when a file is missing in `path`, or cannot be downloaded completely and unchanged;
#'   `mxnet_format_error` for a file of another format.
#' @examples
#' # A folder with two tiny files in MNIST's format, in place of the real ones
#' folder <- tempfile()
#' dir.create(folder)
#' for (part in c("train", "t10k")) {
#'   con <- file(file.path(folder, paste0(part, "-images-idx3-ubyte")), "wb")
#'   writeBin(c(2051L, 2L, 28L, 28L), con, size = 4, endian = "big")
#'   writeBin(as.raw(rep(c(0, 255), each = 784)), con)
#'   close(con)
#'   con <- file(file.path(folder, paste0(part, "-labels-idx1-ubyte")), "wb")
#'   writeBin(c(2049L, 2L), con, size = 4, endian = "big")
#'   writeBin(as.raw(c(3, 7)), con)
#'   close(con)
#' }
#' digits <- mx.data.mnist(path = folder)
#' dim(digits$train$data)
#' @name mx.data
NULL

#' @rdname mx.data
#' @export
mx.data.mnist <- function(path = NULL, flat = FALSE) mx.data.internal.idx("mnist", path, flat)

#' @rdname mx.data
#' @export
mx.data.fashion <- function(path = NULL, flat = FALSE) mx.data.internal.idx("fashion", path, flat)

#' @rdname mx.data
#' @export
mx.data.cifar10 <- function(path = NULL, flat = FALSE) {
  flat <- mx.util.flag(flat, "flat")
  if (is.null(path)) {
    archive <- mx.data.internal.fetch("cifar10")
    path <- file.path(dirname(archive), "cifar-10-batches-bin")
    if (!file.exists(file.path(path, "test_batch.bin"))) utils::untar(archive, exdir = dirname(archive))
  }
  read <- function(names) {
    files <- vapply(names, function(n) mx.data.internal.local(path, n), "")
    bytes <- unlist(lapply(files, function(f) readBin(f, "raw", file.size(f))), FALSE, FALSE)
    if (!length(bytes) || length(bytes) %% 3073 != 0)
      mx.stop("format", "The files in ", path, " are no CIFAR-10 files in binary format.")
    dim(bytes) <- c(3073, length(bytes) / 3073)
    data <- array(as.integer(bytes[-1L, ]) / 255, c(3072, ncol(bytes)))
    if (!flat) dim(data) <- c(32, 32, 3, ncol(bytes))
    list(data = data, label = as.integer(bytes[1L, ]))
  }
  list(train = read(paste0("data_batch_", 1:5, ".bin")), test = read("test_batch.bin"))
}

#' @rdname mx.data
#' @export
mx.data.shakespeare <- function(path = NULL) {
  file <- if (is.null(path)) mx.data.internal.fetch("shakespeare")
    else if (dir.exists(path)) mx.data.internal.local(path, "input.txt")
    else mx.io.internal.file(path, "path")
  readChar(file, file.size(file), useBytes = TRUE)
}

mx.data.internal.idx <- function(set, path, flat) {
  flat <- mx.util.flag(flat, "flat")
  wanted <- mx.data.internal.sets[[set]]$files$file
  files <- if (is.null(path)) mx.data.internal.fetch(set) else vapply(wanted, function(f) mx.data.internal.local(path,
      f), "")
  part <- function(image, label) {
    bytes <- mx.io.internal.idx(image, 3L)
    d <- dim(bytes)
    data <- array(as.integer(bytes) / 255, c(if (flat) d[1L] * d[2L] else c(d[1:2], 1L), d[3L]))
    list(data = data, label = as.integer(mx.io.internal.idx(label, 1L)))
  }
  list(train = part(files[[1L]], files[[2L]]), test = part(files[[3L]], files[[4L]]))
}

# A file in a folder of the user's, compressed or not.
mx.data.internal.local <- function(path, file) {
  found <- file.path(path.expand(path), c(file, sub("\\.gz$", "", file)))
  found <- found[file.exists(found)]
  if (!length(found)) mx.stop("io", "There is no file ", file, " in ", path, ".")
  found[1L]
}

# Paths of a set's files in the cache, downloaded if need be.
mx.data.internal.fetch <- function(set, cache = file.path(tools::R_user_dir("mxnet", "cache"), set)) {
  info <- mx.data.internal.sets[[set]]
  files <- file.path(cache, info$files$file)
  for (i in seq_along(files)) {
    row <- info$files[i, ]
    if (mx.data.internal.good(files[i], row)) next
    dir.create(cache, recursive = TRUE, showWarnings = FALSE)
    url <- paste0(info$url, row$file)
    part <- paste0(files[i], ".part")
    resumes <- file.exists(part)
    failure <- mx.data.internal.download(url, part, row$bytes)
    # The rest of another file than the one that was begun, or the whole of it: once more from the start.
    if (is.null(failure) && resumes && !mx.data.internal.good(part, row)) {
      unlink(part)
      failure <- mx.data.internal.download(url, part, row$bytes)
    }
    if (is.null(failure) && !mx.data.internal.good(part, row)) {
      unlink(part)
      failure <- "what came is not the known file (size or digest differ)"
    }
    if (!is.null(failure))
      mx.stop("io", "Cannot download ", url, ": ", failure, ". Get the file elsewhere and give its folder as `path`.")
    file.rename(part, files[i])
  }
  stats::setNames(files, info$files$file)
}

# Downloads what is missing of a file of `bytes` bytes, and says what went wrong: a string, or NULL. What has come stays
# in `part` when the connection breaks or the user interrupts; the next call goes on from there.
mx.data.internal.download <- function(url, part, bytes) {
  begun <- have <- if (file.exists(part)) file.size(part) else 0
  old <- options(timeout = max(60, getOption("timeout")))
  on.exit(options(old))
  warned <- NULL
  failure <- tryCatch(withCallingHandlers({
    remote <- startsWith(url, "http")
    con <- if (!remote) base::url(url, "rb")
      else base::url(url, "rb", method = "libcurl", headers = if (have > 0) c(Range = sprintf("bytes=%.0f-", have)))
    on.exit(close(con), add = TRUE)
    if (!remote && have > 0) readBin(con, "raw", have)
    to <- file(part, "ab")
    on.exit(close(to), add = TRUE)
    progress <- mx.data.internal.progress(url, bytes)
    on.exit(progress(NULL), add = TRUE)
    while (have <= bytes && length(piece <- readBin(con, "raw", 2^16))) {
      writeBin(piece, to)
      have <- have + length(piece)
      progress(have)
    }
    if (have < bytes) "it ended early"
  }, warning = function(w) {
    warned <<- conditionMessage(w)
    tryInvokeRestart("muffleWarning")
  }), error = function(e) conditionMessage(e))
  if (is.null(failure)) return(NULL)
  failure <- paste(c(failure, warned), collapse = ", ")
  if (have > begun)
    failure <- sprintf("%.0f of %.0f bytes came, try again to get the rest (%s)", have, bytes, failure)
  failure
}

# A function that shows how many bytes there are, and with NULL ends the line; silent where nobody looks.
mx.data.internal.progress <- function(url, bytes) {
  if (!interactive()) return(function(have) invisible())
  message("Downloading ", url, sprintf(" (%.1f MB)", bytes / 1e6))
  bar <- utils::txtProgressBar(max = bytes, style = 3)
  function(have) if (is.null(have)) close(bar) else utils::setTxtProgressBar(bar, min(have, bytes))
}

mx.data.internal.good <- function(path, row)
  file.exists(path) && file.size(path) == row$bytes && identical(unname(tools::md5sum(path)), row$md5)
