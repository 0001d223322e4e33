# Examples for the help pages of operators, by the name of the record: read by tools/document.
list(
  FullyConnected = c(
    "data <- mx.symbol.Variable(\"data\")",
    "net <- mx.symbol.FullyConnected(data, num_hidden = 3, name = \"fc1\")",
    "mx.symbol.infer.shape(net, data = c(4, 10))$arg.shapes"
  )
)
