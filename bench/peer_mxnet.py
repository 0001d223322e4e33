"""The work of workloads.R in MXNet 1.9.1, on the graphs that workloads.R wrote.

Usage: peer_mxnet.py DIR [WORKLOAD ...]"""
import logging
import os
import subprocess
import sys
import time

import mxnet as mx
import numpy as np

logging.disable(logging.CRITICAL)
folder = sys.argv[1]
rng = np.random.RandomState(1)


def seconds(f, repetitions=5, at_least=0.3):
    f()
    times = []
    for _ in range(repetitions):
        calls, start = 0, time.perf_counter()
        passed = 0
        while not calls or passed < at_least:
            f()
            calls += 1
            passed = time.perf_counter() - start
        times.append(passed / calls)
    return min(times)


def graph(name):
    return mx.sym.load(os.path.join(folder, name + ".json"))


def epoch_rate(net, x, y, batch):
    data = mx.io.NDArrayIter(x.astype("f"), y.astype("f"), batch, label_name="out_label")
    module = mx.mod.Module(net, label_names=["out_label"], context=mx.cpu())
    marks = []
    module.fit(
        data, num_epoch=4, optimizer="sgd", optimizer_params={"learning_rate": 0.05,
          "momentum": 0.9}, eval_metric="acc",
        initializer=mx.init.Uniform(0.07), epoch_end_callback=lambda *_: marks.append(time.perf_counter()),
    )
    return len(x) / min(np.diff(marks))


def bound(net, shape, train):
    req = {n: "write" if train and not n.endswith(("data", "label")) else "null" for n in net.list_arguments()}
    ex = net.simple_bind(mx.cpu(), grad_req=req, data=shape)
    for n, a in list(ex.arg_dict.items()) + list(ex.aux_dict.items()):
        if "gamma" in n or "var" in n:
            a[:] = 1
        elif n == "data":
            a[:] = rng.uniform(0, 1, a.shape)
        elif n.endswith("weight"):
            a[:] = rng.uniform(-0.05, 0.05, a.shape)
        else:
            a[:] = 0
    return ex


def resnet18():
    ex = bound(graph("resnet18"), (32, 3, 32, 32), True)

    def step():
        ex.forward(is_train=True)
        ex.backward()
        mx.nd.waitall()

    return 32 / seconds(step, 3)


def inference():
    ex = bound(graph("perceptron"), (1, 784), False)

    def forward():
        ex.forward(is_train=False)
        mx.nd.waitall()

    return 1e6 * seconds(forward)


def dispatch():
    a, b = mx.nd.ones(10), mx.nd.ones(10)

    def thousand():
        for _ in range(1000):
            c = a + b
        c.wait_to_read()

    return 1e3 * seconds(thousand)


def imperative(f, array):
    return seconds(lambda: f(array).wait_to_read())


def load():
    run = lambda code: seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3)
    return run("import mxnet") - run("pass")


uniform = mx.nd.random.uniform
workloads = {
    "mlp_train": lambda: (epoch_rate(graph("perceptron"), rng.rand(60000, 784), rng.randint(0, 10, 60000), 100),
      "samples/s"),
    "lenet_train": lambda: (epoch_rate(graph("lenet"), rng.rand(6400, 1, 28, 28), rng.randint(0, 10, 6400), 128),
      "samples/s"),
    "resnet18_train": lambda: (resnet18(), "samples/s"),
    "nd_dispatch": lambda: (dispatch(), "us/op"),
    "exec_dispatch": lambda: (inference(), "us/forward"),
    "sgemm": lambda: (2 * 2048**3 / imperative(lambda a: mx.nd.dot(a, a), uniform(shape=(2048, 2048))) / 1e9,
      "GFLOP/s"),
    "softmax": lambda: (1000 * 4096 * 8 / imperative(mx.nd.softmax, uniform(shape=(4096, 1000))) / 1e9, "GB/s"),
    "load": lambda: (load(), "s"),
}
for name in sys.argv[2:] or workloads:
    print(name, *workloads[name](), flush=True)
