# Random arrays and initializers follow mx.set.seed().
library(mxnet)

mx.set.seed(10)
a <- mx.runif(c(2, 2), -10, 10)
a
mx.set.seed(10)
stopifnot(identical(as.array(mx.runif(c(2, 2), -10, 10)), as.array(a)))

x <- as.array(mx.rnorm(1e5, mean = 1, sd = 2))
hist(x, breaks = 60, freq = FALSE, main = "100,000 numbers of mx.rnorm(mean = 1, sd = 2)")
curve(dnorm(x, 1, 2), add = TRUE, col = "blue")
stopifnot(abs(mean(x) - 1) < 0.05, abs(sd(x) - 2) < 0.05)

# Initializers draw weights and set what has a fixed start, by the parameter's name.
init <- mx.init.uniform(0.1)
init("fc1_weight", c(3, 4), mx.cpu())
init("bn1_gamma", 3, mx.cpu())
stopifnot(max(abs(init("fc1_weight", c(30, 40), mx.cpu()))) <= 0.1, all(init("bn1_gamma", 3, mx.cpu()) == 1))
