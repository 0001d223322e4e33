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

# A web server in a child process, for one folder. It understands Range, unless the path begins with /whole, and
# /broken ends after half of what was asked for. Every request's Range goes to the file `log`.
serve <- function(folder, port, log) {
  answer <- function(con) {
    request <- readLines(con, 1)
    header <- character()
    while (nzchar(line <- readLines(con, 1))) header <- c(header, line)
    path <- strsplit(request, " ")[[1]][2]
    file <- file.path(folder, basename(path))
    range <- gsub("[^0-9]", "", grep("^range:", header, value = TRUE, ignore.case = TRUE))
    cat(basename(path), range, "\n", file = log, append = TRUE)
    reply <- function(...) writeLines(c(paste("HTTP/1.1", ...), "Connection: close", ""), con, sep = "\r\n")
    if (!file.exists(file)) return(reply("404 Not Found\r\nContent-Length: 0"))
    bytes <- readBin(file, "raw", file.size(file))
    status <- "200 OK"
    if (length(range) && !startsWith(path, "/whole")) {
      status <- sprintf("206 Partial Content\r\nContent-Range: bytes %s-%d/%d", range, length(bytes) - 1L,
                        length(bytes))
      bytes <- bytes[-seq_len(as.integer(range))]
    }
    reply(paste0(status, "\r\nContent-Length: ", length(bytes)))
    if (!startsWith(path, "/broken")) return(writeBin(bytes, con))
    writeBin(bytes[seq_len(length(bytes) %/% 2)], con)
    Sys.sleep(1) # so that the reader has begun
  }
  server <- serverSocket(port)
  repeat {
    con <- socketAccept(server, blocking = TRUE, open = "r+b", timeout = 30)
    try(answer(con), silent = TRUE)
    close(con)
  }
}

test_that("interrupted downloads go on where they stopped", {
  skip_on_os("windows")
  folder <- tempfile()
  dir.create(folder)
  file <- file.path(folder, "numbers.bin")
  writeBin(as.raw(seq_len(1e6) %/% 7 %% 256), file)
  log <- tempfile()
  port <- 20000L + Sys.getpid() %% 40000L
  child <- parallel::mcparallel(serve(folder, port, log), silent = TRUE)
  on.exit({
    tools::pskill(child$pid)
    suppressWarnings(parallel::mccollect(child, wait = TRUE))
  })
  for (i in 1:100) {
    up <- tryCatch({
      close(suppressWarnings(socketConnection(port = port, timeout = 1)))
      TRUE
    }, error = function(e) FALSE)
    if (up) break
    Sys.sleep(0.05)
  }
  skip_if_not(up, "no loopback connections here")
  fetch <- mxnet:::mx.data.internal.fetch
  from <- function(kind, name = "numbers.bin") {
    set <- list(url = sprintf("http://127.0.0.1:%d/%s/", port, kind),
                files = data.frame(file = name, bytes = 1e6, md5 = unname(tools::md5sum(file))))
    environment(fetch) <<- list2env(list(mx.data.internal.sets = list(own = set)), parent = asNamespace("mxnet"))
  }
  ranges <- function() trimws(sub("^numbers.bin", "", grep("^numbers", readLines(log), value = TRUE)))
  cache <- tempfile()
  from("broken")
  expect_error(fetch("own", cache), "[0-9]+ of 1000000 bytes came, try again", class = "mxnet_io_error")
  half <- file.size(file.path(cache, "numbers.bin.part"))
  expect_true(half > 0 && half < 1e6)
  from("good")
  got <- fetch("own", cache)
  expect_identical(unname(tools::md5sum(got)), unname(tools::md5sum(file)))
  expect_identical(ranges(), c("", format(half, scientific = FALSE)))
  # A server that always sends the whole file
  unlink(got)
  writeBin(as.raw(1:100), paste0(got, ".part"))
  from("whole")
  expect_identical(unname(tools::md5sum(fetch("own", cache))), unname(tools::md5sum(file)))
  expect_identical(ranges()[3:4], c("100", ""))
  from("good", "absent.bin")
  expect_error(fetch("own", cache), "Cannot download .*absent.bin: .*404", class = "mxnet_io_error")
})

test_that("progress is shown to people", {
  progress <- mxnet:::mx.data.internal.progress
  environment(progress) <- list2env(list(interactive = function() TRUE), parent = environment(progress))
  expect_message(expect_output({
    show <- progress("http://example.org/file", 2e6)
    show(1e6)
    show(NULL)
  }, "50%"), "Downloading .*file \\(2.0 MB\\)")
  expect_silent(mxnet:::mx.data.internal.progress("a", 1)(1))
})
