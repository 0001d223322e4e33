# An executor is a symbol bound to arrays on a device.
library(mxnet)

product <- mx.symbol.Variable("a") * mx.symbol.Variable("b")
exec <- mx.simple.bind(product, mx.cpu(), grad.req = "write", a = 2, b = 2)
mx.exec.update.arg.arrays(exec, list(a = mx.nd.array(c(3, 4)), b = mx.nd.array(c(1, 2))), match.name = TRUE)
mx.exec.forward(exec)
exec$outputs[[1]]
stopifnot(all(exec$outputs[[1]] == c(3, 8)))

# Backward: the gradient of the output is given, those of a and b come out: each is the other factor.
mx.exec.backward(exec, mx.nd.ones(2))
exec$grad.arrays
stopifnot(all(exec$grad.arrays$a == c(1, 2)), all(exec$grad.arrays$b == c(3, 4)))

# $arg.arrays are copies; $ref.arg.arrays are the arrays in use, and follow them.
copy <- exec$arg.arrays$a
used <- exec$ref.arg.arrays$a
mx.exec.update.arg.arrays(exec, list(a = mx.nd.zeros(2)), match.name = TRUE)
stopifnot(all(copy == c(3, 4)), all(used == 0))
exec
