# Arrays hold numbers in single precision on a device; R's arithmetic works on them.
library(mxnet)

x <- mx.nd.array(matrix(1:6, 2))
x
y <- (x * 3 + 5) / 10
as.array(y)
stopifnot(all.equal(as.array(y), (matrix(1:6, 2) * 3 + 5) / 10, tolerance = 1e-6))

# Arithmetic makes new arrays: x is what it was, and z is another name for x.
z <- x
z <- z + 1
stopifnot(x[[1, 1]] == 1, z[[1, 1]] == 2)

# About seven digits: 0.1 is not quite 0.1.
tenth <- mx.nd.array(0.1)
format(as.array(tenth), digits = 12)
stopifnot(abs(as.array(tenth) - 0.1) < 1e-8, as.array(tenth) != 0.1)

# Where arrays are made when nothing is said; what mx.ctx.default() returns is needed to restore it.
old <- mx.ctx.default()
mx.ctx.default(mx.cpu(1))
ctx(mx.nd.ones(3))
stopifnot(identical(ctx(mx.nd.ones(3)), mx.cpu(1)), is.mx.context(mx.cpu()))
mx.ctx.default(old)

# Matrix products are those of R with %*%; mx.nd.dot() multiplies native, that is transposed, matrices.
stopifnot(all.equal(as.array(x %*% t(x)), matrix(1:6, 2) %*% t(matrix(1:6, 2))))
