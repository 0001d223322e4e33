nd <- function(...) mx.nd.array(c(...))

test_that("pushes add up over devices and replace the value", {
  kv <- mx.kv.create()
  kv$init(c(3, 5), list(nd(1, 2), nd(7)))
  out <- list(mx.nd.zeros(2), mx.nd.zeros(1))
  kv$pull(c(3, 5), list(out), 0)
  expect_equal(values(out), list(c(1, 2), 7))
  kv$push(3, list(list(nd(1, 1)), list(mx.nd.copyto(nd(10, 20), mx.cpu(1)))), 0)
  both <- list(list(mx.nd.zeros(2)), list(mx.nd.zeros(2, mx.cpu(1))))
  kv$pull(3, both, 0)
  expect_equal(values(unlist(both)), list(c(11, 21), c(11, 21)))
})

test_that("an optimizer in the store keeps its state", {
  kv <- mx.kv.create()
  kv$init(0, list(nd(1)))
  kv$set.optimizer(list(create.state = function(index, weight) 0,
                        update = function(index, weight, grad, state) list(weight = weight - grad * (state + 1),
                                                                           state = state + 1)))
  for (i in 1:2) kv$push(0, list(list(nd(1)), list(nd(1))), 0)
  out <- list(nd(0))
  kv$pull(0, list(out), 0)
  expect_equal(as.array(out[[1]]), 1 - 2 - 4)
})

test_that("types are known, and told apart", {
  for (type in c("local", "device", "local_update_cpu")) expect_true(mx.kv.create(type)$update.on.kvstore)
  for (type in c("local_allreduce_cpu", "local_allreduce_device")) expect_false(mx.kv.create(type)$update.on.kvstore)
  expect_identical(mx.kv.create("device")$type, "device")
  expect_identical(mx.kv.create("nccl")$type, "nccl")
  for (bad in list(NULL, 1, NA_character_, "", c("local", "device")))
    expect_error(mx.kv.create(bad), "`type` must be a string", class = "mxnet_value_error")
  expect_error(mx.kv.create("dist_sync"), "distributed", class = "mxnet_value_error")
  expect_output(print(mx.kv.create()), "<MXKVStore local> 0 keys")
})

test_that("wrong use is an error", {
  kv <- mx.kv.create()
  kv$init(0, list(nd(1)))
  expect_error(kv$init(0, list(nd(1))), "initialized already", class = "mxnet_value_error")
  expect_error(kv$push(1, list(list(nd(1))), 0), "Key 1 is not initialized", class = "mxnet_value_error")
  expect_error(kv$push(0, list(nd(1)), 0), "list\\(list\\(ndarray\\)\\)", class = "mxnet_value_error")
  expect_error(kv$pull(c(0, 1), list(list(nd(1))), 0), "each of the 2 keys", class = "mxnet_value_error")
  expect_error(kv$push(0, list(list(1)), 0), "NDArrays only", class = "mxnet_value_error")
  expect_error(kv$set.optimizer(mx.opt.create("sgd")), "Invalid optimizer", class = "mxnet_value_error")
})

test_that("training gets a store only for several devices", {
  make <- mxnet:::mx.model.create.kvstore
  a <- list(a = mx.nd.ones(2))
  expect_null(make("local", a, 1))
  expect_identical(messages(kv <- make("local", a, 2)), "Auto-select kvstore type = local_update_cpu")
  expect_identical(kv$type, "local_update_cpu")
  expect_silent(make("local", a, 2, verbose = FALSE))
  expect_identical(make(kv, a, 1), kv)
  expect_error(make(3, a, 1), "MXKVStore or a string", class = "mxnet_value_error")
})
