# A store keeps an array for each key. What several devices push is added up; everyone pulls the sum. Training on
# several devices does this with gradients.
library(mxnet)

store <- mx.kv.create()
devices <- lapply(1:3, function(i) list(mx.nd.array(c(i, i + 1), mx.cpu(i))))
store$init(0, devices[[1]])
store$push(0, devices, 0)
store$pull(0, devices, 0)
devices[[3]][[1]]
stopifnot(all(vapply(devices, function(d) all(d[[1]] == c(6, 9)), NA)), identical(ctx(devices[[3]][[1]]), mx.cpu(3)))
store
