# Symbols are networks without numbers. Parameters that are not named become variables.
library(mxnet)

data <- mx.symbol.Variable("data")
lower <- mx.symbol.FullyConnected(data, num_hidden = 10, name = "fc1")
lower <- mx.symbol.FullyConnected(lower, num_hidden = 100, name = "fc2")
arguments(lower)

# A part without input gets a variable for it, which another network can replace.
upper <- mx.symbol.FullyConnected(num_hidden = 10, name = "fc3")
upper <- mx.symbol.FullyConnected(mx.symbol.Activation(upper, act_type = "relu", name = "relu3"), num_hidden = 20,
                                  name = "fc4")
arguments(upper)
net <- mx.apply(upper, fc3_data = lower, name = "composed")
arguments(net)
stopifnot("fc3_data" %in% arguments(upper), !"fc3_data" %in% arguments(net), outputs(net) == "composed_output")

# All shapes follow from that of the data.
summary(net, data = c(50, 32))
stopifnot(identical(mx.symbol.infer.shape(net, data = c(50, 32))$out.shapes$composed_output, c(20L, 32L)))

plot(graph.viz(net, shape = c(50, 32)))

outputs(mx.symbol.Group(net, lower))
