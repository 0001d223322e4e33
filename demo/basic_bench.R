# What one operation costs: a fixed price for the call from R, and the price of the numbers. Sums of many small steps
# show the end of single precision.
library(mxnet)

step <- mx.nd.ones(c(1, 1)) * 0.01
total <- mx.nd.zeros(c(1, 1))
time <- system.time(for (i in 1:1000) total <- total + step)[["elapsed"]]
cat(sprintf("%.1f microseconds for an addition\n", time * 1000))
format(as.array(total), digits = 10) # not quite 10
stopifnot(abs(as.array(total) - 10) < 1e-3)

# Larger arrays; and the same expression as a symbol, which goes over the numbers once.
a <- mx.symbol.Variable("a")
b <- mx.symbol.Variable("b")
cost <- function(n, run, times = 50) {
  run()
  system.time(for (i in seq_len(times)) run())[["elapsed"]] / times * 1e6
}
costs <- t(sapply(c(10, 1000, 1e5, 1e6), function(n) {
  x <- mx.runif(n)
  y <- mx.runif(n)
  exec <- mx.simple.bind(mx.symbol.sqrt(a * a + b * b), mx.cpu(), a = n, b = n)
  mx.exec.update.arg.arrays(exec, list(a = x, b = y), match.name = TRUE)
  arrays <- function() sqrt(x * x + y * y)
  symbol <- function() mx.exec.forward(exec, is.train = FALSE)
  times <- c(arrays = cost(n, arrays), symbol = cost(n, symbol))
  stopifnot(all.equal(as.array(arrays()), as.array(exec$outputs[[1]]), tolerance = 1e-6))
  c(numbers = n, round(times, 1))
}))
costs # microseconds for sqrt(a^2 + b^2)
