# Calls that nobody meant: every function with arguments of every kind. An error of the package, one of R's own about
# arguments that are missing or too many, or a value: never a crash, a hang, or an error from within.
# MX_HOSTILE_CALLS=60 tries more.

code <- quote({
  net <- function() mx.symbol.FullyConnected(mx.symbol.Variable("data"), num_hidden = 2, name = "fc")
  setClass("thing", representation(a = "numeric"))
  good <- list(
    symbol = net, array = function() mx.nd.array(matrix(1:6, 2)), context = mx.cpu,
    executor = function() mx.simple.bind(net(), mx.cpu(), "write", data = c(3, 4)),
    iterator = function() mx.io.arrayiter(matrix(1:12, 3), 1:4, batch.size = 2),
    number = function() 1, numbers = function() 1:3, string = function() "bogus"
  )
  odd <- c(good, list(
    null = function() NULL, na = function() NA, na.string = function() NA_character_, nan = function() NaN,
    inf = function() -Inf, nothing = function() character(0), no.number = function() numeric(0),
    negative = function() -1, huge = function() 1e308, large = function() 2^53, half = function() 0.5,
    empty = function() "", latin = function() iconv("\u00e9", "UTF-8", "latin1"),
    bytes = function() rawToChar(as.raw(c(0xff, 0xfe, 0x41))),
    no.text = function() local({ x <- "\xff"; Encoding(x) <- "bytes"; x }), format = function() "%s%n%999999d",
    list = function() list(), nested = function() list(list(1), NULL, "a"), named = function() list(a = 1, b = "x"),
    fun = function() function(...) stop("from the argument"), primitive = function() sum,
    environment = function() globalenv(), s4 = function() methods::new("thing", a = 1),
    factor = function() factor("a"), date = function() as.Date("1970-01-04"), frame = function() data.frame(a = 1:2),
    complex = function() 1i, raw = function() as.raw(1), formula = function() y ~ x, name = function() as.name("x"),
    many.dims = function() array(1, rep(1, 12)), dim.na = function() c(2, NA), dim.negative = function() c(2, -1),
    dim.huge = function() rep(65536, 3), dim.zero = function() c(0, 3), long = function() numeric(1e4),
    pointer = function() methods::new("externalptr"),
    no.array = function() structure(methods::new("externalptr"), class = "MXNDArray"),
    no.symbol = function() structure(list(), class = "Rcpp_MXSymbol"),
    no.executor = function() structure(list(1), class = "Rcpp_MXExecutor"),
    no.context = function() structure(list(device_typeid = 99, device_id = -5), class = "MXContext"),
    no.model = function() structure(list(), class = "MXFeedForwardModel"),
    empty.array = function() mx.nd.array(array(0, c(0, 3))), arrays = function() list(mx.nd.ones(2), mx.nd.zeros(3))
  ))
  trace <- file(TRACE, "w")
  setwd(tempdir())
  bad <- character()
  calls <- 0L
  try.call <- function(name, f, args) {
    calls <<- calls + 1L
    mx.ctx.default(mx.cpu())
    label <- paste0(name, "(", paste(names(args), collapse = ", "), ")")
    writeLines(label, trace)
    flush(trace)
    call <- as.call(c(list(f), unname(args)))
    message <- tryCatch({
      setTimeLimit(elapsed = 20, transient = TRUE)
      utils::capture.output(suppressWarnings(suppressMessages(print(eval(call)))))
      ""
    }, mxnet_error = function(e) "", error = conditionMessage)
    setTimeLimit()
    own <- "is missing, with no default|unused argument|matched by multiple"
    if (nzchar(message) && !grepl(own, message)) bad <<- c(bad, paste(label, "-", message))
  }
  functions <- grep("^mx[.]|^(arguments|children|ctx|graph.viz|internals|outputs|rnn.graph.*|mxnet.export)$",
                    getNamespaceExports("mxnet"), value = TRUE)
  # downloads; what changes how the session runs
  functions <- functions[!grepl("^mx[.](data|profiler|threads|set.seed)", functions)]
  callable <- function(f) is.function(f) && !methods::is(f, "refObjectGenerator")
  functions <- Filter(function(n) callable(getExportedValue("mxnet", n)), functions)
  at <- 0L
  quoted <- function(v) if (is.language(v)) call("quote", v) else v
  for (n in sort(functions)) {
    f <- getExportedValue("mxnet", n)
    for (k in seq_len(FEW)) {
      at <- at + 1L
      first <- odd[(at * 7L) %% length(odd) + 1L]
      try.call(n, f, lapply(first, function(v) quoted(v())))
      second <- c(good[at %% length(good) + 1L], odd[(at * 5L) %% length(odd) + 1L])
      try.call(n, f, lapply(second, function(v) quoted(v())))
    }
  }
  list(bad = bad, calls = calls)
})

test_that("every function takes anything: an error of the package, or a value", {
  skip_on_covr() # one long call in another process
  trace <- tempfile()
  few <- if (nzchar(Sys.getenv("MX_HOSTILE_CALLS"))) as.integer(Sys.getenv("MX_HOSTILE_CALLS")) else 4L
  text <- deparse(do.call(substitute, list(code, list(TRACE = trace, FEW = few))))
  result <- tryCatch(in.fresh.session(text), error = function(e) paste(conditionMessage(e), "It was at",
    utils::tail(readLines(trace), 1)))
  expect_type(result, "list")
  if (!is.list(result)) fail(result)
  expect_gt(result$calls, 4000)
  expect_identical(result$bad, character())
})
