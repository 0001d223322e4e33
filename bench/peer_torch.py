"""The work of workloads.R in PyTorch on the CPU. Usage: peer_torch.py [WORKLOAD ...]"""
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(1)


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


def perceptron():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def lenet():
    conv = lambda i, o: [nn.Conv2d(i, o, 5), nn.Tanh(), nn.MaxPool2d(2)]
    return nn.Sequential(*conv(1, 20), *conv(20, 50), nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, 10))


class Residual(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        conv = lambda a, b, k, s: [nn.Conv2d(a, b, k, s, k // 2, bias=False), nn.BatchNorm2d(b)]
        self.branch = nn.Sequential(*conv(i, o, 3, stride), nn.ReLU(), *conv(o, o, 3, 1))
        self.short = nn.Sequential(*conv(i, o, 1, 2)) if stride == 2 else nn.Identity()

    def forward(self, x):
        return F.relu(self.branch(x) + self.short(x))


def resnet18():
    layers, width = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for stage in range(4):
        for unit in range(2):
            out = 64 * 2**stage
            layers.append(Residual(width, out, 2 if unit == 0 and stage > 0 else 1))
            width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def epoch_rate(model, x, y, batch):
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def epoch():
        hits = torch.zeros(())
        for i in range(0, len(x), batch):
            out = model(x[i : i + batch])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(out, y[i : i + batch]).backward()
            optimizer.step()
            hits += (out.argmax(1) == y[i : i + batch]).sum()
        return hits.item()

    return len(x) / seconds(epoch, 3, 0)


def training_step(model, x):
    y = torch.zeros(len(x), dtype=torch.long)

    def step():
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()

    return step


def dispatch():
    a, b = torch.ones(10), torch.ones(10)

    def thousand():
        for _ in range(1000):
            a + b

    return 1e3 * seconds(thousand)


def inference():
    model, x = nn.Sequential(perceptron(), nn.Softmax(1)).eval(), torch.rand(1, 784)
    with torch.inference_mode():
        return 1e6 * seconds(lambda: model(x))


def load():
    run = lambda code: seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3)
    return run("import torch") - run("pass")


square, table = torch.rand(2048, 2048), torch.rand(4096, 1000)
workloads = {
    "mlp_train": lambda: (epoch_rate(perceptron(), torch.rand(60000, 784), torch.randint(10, (60000,)), 100),
      "samples/s"),
    "lenet_train": lambda: (epoch_rate(lenet(), torch.rand(6400, 1, 28, 28), torch.randint(10, (6400,)), 128),
      "samples/s"),
    "resnet18_train": lambda: (32 / seconds(training_step(resnet18(), torch.rand(32, 3, 32, 32)), 3), "samples/s"),
    "nd_dispatch": lambda: (dispatch(), "us/op"),
    "exec_dispatch": lambda: (inference(), "us/forward"),
    "sgemm": lambda: (2 * 2048**3 / seconds(lambda: square @ square) / 1e9, "GFLOP/s"),
    "softmax": lambda: (1000 * 4096 * 8 / seconds(lambda: torch.softmax(table, 1)) / 1e9, "GB/s"),
    "load": lambda: (load(), "s"),
}
for name in sys.argv[1:] or workloads:
    print(name, *workloads[name](), flush=True)
