# Called from C when a core function has failed: the only place that signals its conditions.
mx.raise <- function(code, message, operator, node, argument, expected, actual) {
  call <- sys.call(-1)
  if (identical(call[[1L]], quote(symbol.operator))) call <- sys.call(-2) # the user called mx.symbol.<operator>
  given <- function(x) if (nzchar(x)) x
  if (code == "shape" && grepl("[Ss]hapes? \\([^()]*,[^()]", message))
    message <- paste(message, "(These are native shapes: the reverse of dim.)")
  stop(structure(
    class = c(paste0("mxnet_", code, "_error"), "mxnet_error", "error", "condition"),
    list(
      message = message, call = call, operator = given(operator), node = given(node), argument = given(argument),
      expected = given(expected), actual = given(actual), parent = if (code == "callback") .mx$custom.error
    )
  ))
}

# For checks in R code: an error of the same classes as those from C.
mx.stop <- function(code, ..., argument = NULL, expected = NULL, actual = NULL, call = sys.call(-1)) {
  stop(structure(
    class = c(paste0("mxnet_", code, "_error"), "mxnet_error", "error", "condition"),
    list(
      message = paste0(...), call = call, operator = NULL, node = NULL, argument = argument, expected = expected,
      actual = actual
    )
  ))
}
