#' What the package runs on
#'
#' `mx.info` tells versions, libraries and devices: send it along with a report. `mx.threads` tells or sets how many
#' threads computations on the CPU use. `mx.memory` tells how many bytes arrays occupy; `mx.memory.trim` gives back to
#' the system what freed arrays left for reuse.
#'
#' That number is a limit. Threads wait for each other by spinning, so that one that has to share its core with another
#' process holds up all: while other processes want the cores, fewer threads are used. Results do not depend on it.
#'
#' @param n Number of threads; 0: as many as there are cores (or `OMP_NUM_THREADS`); `NULL` only asks.
#' @param ctx A context.
#' @param x An object to print.
#' @param ... Not used.
#' @return `mx.info`: a list of class `mx.info`. `mx.threads`: the number in force before. `mx.memory`: a named vector
#'   of `used`, `cached` and `peak` bytes, the count of `allocations`, and `blocks` alive. `mx.memory.trim`: `NULL`,
#'   invisibly.
#' @examples
#' mx.info()
#' mx.threads()
#' mx.memory()["used"]
#' @export
mx.info <- function() {
  build <- .Call(ffi_build)
  structure(
    c(list(version = format(utils::packageVersion("mxnet")), operators = length(.Call(ffi_operators))), build),
    class = "mx.info"
  )
}

#' @rdname mx.info
#' @export
print.mx.info <- function(x, ...) {
  or.none <- function(v, why) if (is.na(v)) why else v
  line <- function(name, ...) cat(formatC(name, width = -14), ..., "\n", sep = "")
  line("mxnet", x$version, ", ", x$operators, " operators")
  line("R", R.version$major, ".", R.version$minor, ", ", R.version$platform)
  line("compiler", x$compiler)
  line("BLAS", x$blas)
  line("oneDNN", or.none(x$onednn, "no: layers run on BLAS; install libdnnl-dev and reinstall the package"))
  line("CUDA", or.none(x$cuda, "no: mx.gpu() needs an NVIDIA GPU and nvcc when the package is installed"))
  line("instructions", x$simd)
  line("threads", x$threads, " of ", x$cores, " cores")
  line("GPUs", x$gpus)
  invisible(x)
}

#' @rdname mx.info
#' @export
mx.threads <- function(n = NULL) {
  before <- .Call(ffi_threads, n)
  if (is.null(n)) before else invisible(before)
}

#' @rdname mx.info
#' @export
mx.memory <- function(ctx = mx.ctx.default()) {
  if (!is.mx.context(ctx))
    mx.stop("value", "`ctx` must be a context such as mx.cpu(), not ", mx.util.say(ctx), ".", argument = "ctx")
  .Call(ffi_memory, ctx$device_typeid)
}

#' @rdname mx.info
#' @export
mx.memory.trim <- function() invisible(.Call(ffi_memory_trim))

#' Write the functions of the operators to a file
#'
#' For reading, or for editors that want sources: the file defines the `mx.nd.*` and `mx.symbol.*` functions as the
#' package
#' does.
#'
#' @param path A folder.
#' @return The path of the file, `mxnet_generated.R` in that folder, invisibly.
#' @examples
#' file <- mxnet.export(tempdir())
#' length(readLines(file))
#' @export
mxnet.export <- function(path) {
  file <- file.path(mx.util.path(path, "path"), "mxnet_generated.R")
  ns <- topenv()
  text <- unlist(lapply(ls(ns, pattern = "^mx[.](nd|symbol)[.]"), function(name) c(paste(name, "<-"), deparse(get(name,
    ns)))))
  write.text(paste0(paste(text, collapse = "\n"), "\n"), file)
  invisible(file)
}

# How many native objects R holds, by type: back to what it was after gc().
mx.internal.live.objects <- function() .Call(ffi_live_objects)
