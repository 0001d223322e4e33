# Small helpers that several files of R/ share.

# The list without its NULL entries.
mx.util.filter.null <- function(lst) lst[!vapply(lst, is.null, NA)]

# A whole number of at least `min`, as a double; anything else is an error that names the argument.
mx.util.count <- function(x, name, min = 1) {
  ok <- is.numeric(x) && length(x) == 1L && is.finite(x) && x >= min && x == floor(x)
  if (!ok) mx.stop("value", "`", name, "` must be a whole number of at least ", min, ", not ", mx.util.say(x), ".",
                   argument = name, call = sys.call(-1))
  as.double(x)
}

# TRUE or FALSE; numbers count as in the native iterators (0 is FALSE).
mx.util.flag <- function(x, name) {
  if (!(is.logical(x) || is.numeric(x)) || length(x) != 1L || is.na(x))
    mx.stop("value", "`", name, "` must be TRUE or FALSE, not ", mx.util.say(x), ".", argument = name,
            call = sys.call(-1))
  as.logical(x)
}

# A single number.
mx.util.scalar <- function(x, name, min = -Inf) {
  if (!is.numeric(x) || is.object(x) || length(x) != 1L || is.na(x) || x < min)
    mx.stop("value", "`", name, "` must be a number", if (min > -Inf) paste(" of at least", min), ", not ",
            mx.util.say(x), ".", argument = name, call = sys.call(-1))
  as.double(x)
}

# A single string; `empty`: "" will do.
mx.util.string <- function(x, name, empty = FALSE) {
  if (!is.character(x) || length(x) != 1L || is.na(x) || (!empty && !nzchar(x)))
    mx.stop("value", "`", name, "` must be a string, not ", mx.util.say(x), ".", argument = name, call = sys.call(-1))
  x
}

# Names, or NULL.
mx.util.names <- function(x, name) {
  if (!is.null(x) && (!is.character(x) || anyNA(x)))
    mx.stop("value", "`", name, "` must be names (a character vector), not ", mx.util.say(x), ".", argument = name,
            call = sys.call(-1))
  x
}

# A function; `takes` says of what.
mx.util.function <- function(x, name, takes) {
  if (!is.function(x))
    mx.stop("value", "`", name, "` must be a function ", takes, ", not ", mx.util.say(x), ".", argument = name,
            call = sys.call(-1))
  x
}

# The path of a file, ~ expanded.
mx.util.path <- function(x, name) {
  if (!is.character(x) || length(x) != 1L || is.na(x) || Encoding(x) == "bytes" || !validEnc(x) || !nzchar(x))
    mx.stop("value", "`", name, "` must be a file name, not ", mx.util.say(x), ".", argument = name,
            call = sys.call(-1))
  if (grepl("^[a-z0-9]{2,}://|^hdfs///", x))
    mx.stop("io", x, " is no file on this machine: storage services are not supported, copy the file.",
            argument = name, call = sys.call(-1))
  path.expand(x)
}

# A single string out of `choices`.
mx.util.choice <- function(x, name, choices) {
  if (!is.character(x) || length(x) != 1L || is.na(x) || !x %in% choices)
    mx.stop("value", "`", name, "` must be one of ", paste0("\"", choices, "\"", collapse = ", "), ", not ",
             mx.util.say(x), ".", argument = name, call = sys.call(-1))
  x
}

# A string in quotes; of a long one the beginning. Bytes that are no text are shown as such.
mx.util.quote <- function(x) {
  if (!validEnc(x) || Encoding(x) == "bytes") x <- iconv(x, "ASCII", "ASCII", sub = "byte")
  short <- substr(sub("\n.*", "", x), 1L, 60L)
  paste0("\"", short, if (nchar(short) < nchar(x)) "...", "\"")
}

# An object in a few words, for messages.
mx.util.say <- function(x) {
  if (is.null(x)) return("NULL")
  if (is.function(x)) return("a function")
  if (is.atomic(x) && !is.object(x) && is.null(dim(x)) && length(x) == 1L)
    return(if (is.character(x) && !is.na(x)) mx.util.quote(x) else format(x))
  d <- dim(x)
  size <- if (is.null(d)) paste("length", length(x)) else paste("dim", paste(d, collapse = " x "))
  paste0("an object of class ", class(x)[1L], " (", size, ")")
}

# A function that prints in one line what it is, instead of its code: mx.util.described(f, "initializer", "uniform",
# scale = 0.1). Values that are NULL are left out.
mx.util.described <- function(f, kind, name, ...) {
  given <- Filter(Negate(is.null), list(...))
  values <- vapply(given, function(v) if (is.atomic(v)) paste(format(v, trim = TRUE), collapse = " ") else "yes", "")
  text <- paste0("<", kind, " ", name, if (length(given)) ": ", paste(names(given), values, collapse = ", "), ">")
  structure(f, class = c("mx.function", "function"), text = text)
}

#' @export
print.mx.function <- function(x, ...) {
  cat(attr(x, "text"), " function(", paste(names(formals(x)), collapse = ", "), ")\n", sep = "")
  invisible(x)
}

#' @importFrom utils str
#' @export
str.mx.function <- function(object, ...) {
  cat("", attr(object, "text"), "\n")
}

# "a, b and c"; long lists end in "and 7 more".
mx.util.and <- function(names, most = 6L) {
  n <- length(names)
  if (n > most) names <- c(names[seq_len(most)], paste(n - most, "more"))
  if (length(names) < 2L) return(paste(names))
  paste(paste(names[-length(names)], collapse = ", "), "and", names[length(names)])
}

# Bytes in words: 1.5 MB.
mx.util.bytes <- function(n) format(structure(n, class = "object_size"), units = "auto", standard = "SI", digits = 1L)

# Numbers with their thousands set apart: 12,345, or 12.345 where the comma is for decimals.
mx.util.thousands <- function(n)
  format(n, big.mark = if (getOption("OutDec") == ",") "." else ",", scientific = FALSE, trim = TRUE)

# Dimensions as text: 2 x 3.
mx.util.dim <- function(d) paste(d, collapse = " x ")

# Evaluates `expr` with R's random numbers started at `seed`, and leaves the user's stream as it was.
mx.util.with.seed <- function(seed, expr) {
  old <- get0(".Random.seed", globalenv(), inherits = FALSE)
  on.exit(if (is.null(old)) rm(".Random.seed", envir = globalenv()) else assign(".Random.seed", old, globalenv()))
  set.seed(seed)
  expr
}

# An NDArray from whatever a user's iterator or metric hands over.
mx.util.as.nd <- function(x, ctx = NULL) if (inherits(x, "MXNDArray")) x else mx.nd.array(x, ctx)

# R numbers from an NDArray; others as they are.
mx.util.as.array <- function(x) if (inherits(x, "MXNDArray")) as.array(x) else x

# The single number in an NDArray (or an R number).
mx.util.number <- function(x) as.numeric(mx.util.as.array(x))[1L]

# Copies the values of `from` into `to`, which may be on another device.
mx.util.assign <- function(to, from) .Call(ffi_nd_write, to, from)

# Splits names into those that end in one of `endings` and the rest: TRUE where it does.
mx.util.ends <- function(names, endings) {
  hit <- logical(length(names))
  for (e in endings) hit <- hit | endsWith(names, e)
  hit
}

# Checks the devices of a training run; one context becomes a list of one.
mx.util.devices <- function(ctx) {
  if (is.null(ctx)) ctx <- mx.ctx.default()
  if (inherits(ctx, "MXContext")) ctx <- list(ctx)
  if (!is.list(ctx) || !length(ctx) || !all(vapply(ctx, inherits, NA, "MXContext")))
    mx.stop("value", "ctx must be mx.context or list of mx.context, not ", mx.util.say(ctx), ".")
  ctx
}
