"""Every family of operators here and in PyTorch on the CPU; bench/operators starts it.

usage: bench/operators [--list] [PART OF A NAME ...]

It is given c_operators, which runs this package's operators. That and PyTorch take turns, twice for each case, and the
least time counts. A line a direction: microseconds of both, their ratio, GB/s of this package (inputs and outputs once;
backward: head gradients, gradients, and what `saved` names), percent of the machine's copy bandwidth for arrays beyond
the caches."""
import os
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

torch.manual_seed(1)
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))


class Array:
    """An input: uniform in [low, high), or kind "integer", "spd"; grad: wants a gradient where the case has one."""

    def __init__(self, *shape, low=-1.0, high=1.0, kind="uniform", dtype="float32", grad=True):
        self.shape, self.low, self.high, self.kind, self.dtype = shape, low, high, kind, dtype
        self.grad = grad and kind != "integer"

    def line(self, back):
        dims = ",".join(map(str, self.shape))
        return f"{dims};{self.kind};{self.low};{self.high};{self.dtype};{int(self.grad and back)}"

    def tensor(self, back):
        if self.kind == "integer":
            return torch.randint(int(self.low), int(self.high), self.shape)
        x = torch.rand(self.shape) * (self.high - self.low) + self.low
        if self.kind == "spd":
            x = (x + x.mT) / 2 + self.shape[-1] * torch.eye(self.shape[-1])
        x = x.to(getattr(torch, self.dtype))
        return x.requires_grad_() if self.grad and back else x

    def bytes(self):
        n = torch.Size(self.shape).numel()
        return n * getattr(torch, self.dtype).itemsize if self.kind != "integer" else 4 * n


class Case:
    """`op` with parameters "key=value key=value" on `inputs`, and what PyTorch does for it (None: it has no such
    operator). memory: bound by memory, not by arithmetic, and beyond the caches. saved: bytes that a backward reads
    beside the head gradient."""

    def __init__(self, op, attrs, inputs, peer, back=True, saved=0, memory=False, way="symbol"):
        self.op, self.attrs, self.inputs, self.peer, self.back = op, attrs, inputs, peer, back and way == "symbol"
        self.saved, self.memory, self.way = saved, memory, way
        shapes = " ".join("x".join(map(str, i.shape)) for i in inputs[:2])
        self.name = " ".join(filter(None, [op, shapes, attrs]))

    def line(self):
        return "\t".join([self.way, self.op, self.attrs] + [i.line(self.back) for i in self.inputs])


cases = []


def family(title):
    cases.append(title)


def case(op, attrs, inputs, peer, **more):
    cases.append(Case(op, attrs, inputs, peer, **more))


A = Array
LARGE, TYPICAL = (4096, 4096), (128, 1024)


def index(*shape, high):
    return A(*shape, low=0, high=high, kind="integer")


def each(op, peer, low=-1.0, high=1.0, attrs="", saved=1, n=1, back=True, memory=True):
    """A function of n arrays of one shape, in the caches and beyond them; `saved` arrays are read by the backward."""
    for shape in (TYPICAL, LARGE):
        inputs = [A(*shape, low=low, high=high) for _ in range(n)]
        case(op, attrs, inputs, peer, saved=saved * inputs[0].bytes(), back=back, memory=memory and shape is LARGE)


family("Functions of one number")
each("exp", torch.exp)
each("log", torch.log, 0.1, 2)
each("sqrt", torch.sqrt, 0.1, 2)
each("square", torch.square)
each("abs", torch.abs)
each("negative", torch.neg, saved=0)
each("reciprocal", torch.reciprocal, 0.5, 2)
each("sin", torch.sin)
each("tan", torch.tan, memory=False)
each("arcsin", torch.asin, memory=False)
each("arctan", torch.atan, memory=False)
each("sinh", torch.sinh, memory=False)
each("arctanh", torch.atanh, -0.9, 0.9, memory=False)
each("tanh", torch.tanh)
each("sigmoid", torch.sigmoid)
each("relu", torch.relu)
each("softsign", F.softsign)
each("erf", torch.erf, memory=False)
each("erfinv", torch.erfinv, -0.9, 0.9, memory=False)
each("gammaln", torch.lgamma, 0.5, 5, memory=False)
each("gamma", lambda x: torch.lgamma(x).exp(), 0.5, 5, memory=False)
each("expm1", torch.expm1)
each("log1p", torch.log1p, 0, 2)
each("log2", torch.log2, 0.1, 2)
each("cbrt", lambda x: torch.pow(x, 1 / 3), 0.1, 2, memory=False)
each("rsqrt", torch.rsqrt, 0.1, 2)
each("floor", torch.floor, -9, 9, back=False)
each("round", torch.round, -9, 9, back=False)
each("sign", torch.sign, back=False)
each("logical_not", lambda x: torch.logical_not(x).float(), back=False)
each("smooth_l1", lambda x: F.smooth_l1_loss(x, torch.zeros(()).expand_as(x), reduction="none"), attrs="scalar=1.0")
each("clip", lambda x: torch.clamp(x, -0.5, 0.5), attrs="a_min=-0.5 a_max=0.5")
each("hard_sigmoid", F.hardsigmoid)

family("Functions of two numbers")
each("elemwise_add", torch.add, n=2, saved=0)
each("elemwise_mul", torch.mul, n=2, saved=2)
each("elemwise_div", torch.div, 0.5, 2, n=2, saved=2)
each("broadcast_maximum", torch.maximum, n=2, saved=2)
each("broadcast_power", torch.pow, 0.5, 2, n=2, saved=2, memory=False)
each("broadcast_hypot", torch.hypot, 0.5, 2, n=2, saved=2)
each("broadcast_mod", torch.remainder, 0.5, 2, n=2, back=False, memory=False)
each("broadcast_greater", lambda a, b: (a > b).float(), n=2, back=False)
each("broadcast_logical_and", lambda a, b: torch.logical_and(a, b).float(), n=2, back=False)
each("add_n", lambda a, b, c: a + b + c, n=3, attrs="num_args=3", saved=0)
each("where", lambda c, a, b: torch.where(c > 0, a, b), n=3, back=False)
each("_plus_scalar", lambda x: x + 1.5, attrs="scalar=1.5", saved=0)
each("_rdiv_scalar", lambda x: 1.5 / x, 0.5, 2, attrs="scalar=1.5")
each("_power_scalar", lambda x: x**3, attrs="scalar=3")
each("_power_scalar", lambda x: x**2.5, 0.1, 2, attrs="scalar=2.5", memory=False)
each("_greater_scalar", lambda x: (x > 0.5).float(), attrs="scalar=0.5", back=False)
for op, f in (("broadcast_add", torch.add), ("broadcast_mul", torch.mul)):
    case(op, "", [A(4096, 4096), A(1, 4096)], f, memory=True, saved=0 if f is torch.add else 1 << 26)
    case(op, "", [A(4096, 4096), A(4096, 1)], f, memory=True, saved=0 if f is torch.add else 1 << 26)
    case(op, "", [A(32, 64, 56, 56), A(1, 64, 1, 1)], f)
    case(op, "", [A(128, 256), A(1, 256)], f)
case("broadcast_to", "shape=(4096,4096)", [A(1, 4096)], lambda x: x.expand(4096, 4096).contiguous(), memory=True)
case("broadcast_axis", "axis=1 size=256", [A(128, 1, 256)], lambda x: x.expand(128, 256, 256).contiguous())
case("Cast", "dtype=float64", [A(2048, 4096)], lambda x: x.double(), memory=True)
case("Cast", "dtype=float16", [A(4096, 4096)], lambda x: x.half(), memory=True)
case("Cast", "dtype=int32", [A(4096, 4096, low=-9, high=9)], lambda x: x.int(), back=False, memory=True)
case("Cast", "dtype=float32", [A(4096, 4096, dtype="float16")], lambda x: x.float(), memory=True)
case("Cast", "dtype=uint8", [A(4096, 4096, low=0, high=255)], lambda x: x.byte(), back=False, memory=True)

family("Reductions")
for op, f in (("sum", torch.sum), ("mean", torch.mean), ("max", torch.amax)):
    saved = (1 << 26) if op == "max" else 0
    case(op, "axis=1", [A(4096, 4096)], lambda x, f=f: f(x, 1), memory=True, saved=saved)
    case(op, "axis=0", [A(4096, 4096)], lambda x, f=f: f(x, 0), memory=True, saved=saved)
    case(op, "", [A(4096, 4096)], lambda x, f=f: f(x) if f is not torch.amax else x.max(), memory=True, saved=saved)
    case(op, "axis=(0,2,3)", [A(32, 64, 56, 56)], lambda x, f=f: f(x, (0, 2, 3)), saved=saved / 2.6)
    case(op, "axis=1", [A(128, 1000)], lambda x, f=f: f(x, 1))
    case(op, "axis=1", [A(64, 512, 49)], lambda x, f=f: f(x, 1))
case("prod", "axis=1", [A(4096, 4096, low=0.9, high=1.1)], lambda x: x.prod(1), memory=True, saved=1 << 26)
case("nansum", "axis=1", [A(4096, 4096)], lambda x: x.nansum(1), memory=True, saved=1 << 26)
for op, f in (("argmax", torch.argmax), ("argmin", torch.argmin)):
    case(op, "axis=1", [A(4096, 4096)], lambda x, f=f: f(x, 1), back=False, memory=True)
    case(op, "axis=0", [A(4096, 4096)], lambda x, f=f: f(x, 0), back=False, memory=True)
    case(op, "axis=1", [A(128, 1000)], lambda x, f=f: f(x, 1), back=False)
case("norm", "", [A(4096, 4096)], torch.norm, memory=True, saved=1 << 26)
case("norm", "axis=1", [A(4096, 4096)], lambda x: torch.norm(x, dim=1), memory=True, saved=1 << 26)
case("norm", "ord=1 axis=1", [A(4096, 4096)], lambda x: torch.norm(x, 1, dim=1), memory=True, saved=1 << 26)
case("moments", "axes=(0,)", [A(4096, 1024)], lambda x: torch.var_mean(x, 0, correction=0))
case("moments", "axes=(1,)", [A(4096, 1024)], lambda x: torch.var_mean(x, 1, correction=0))
case("_np_cumsum", "axis=1", [A(4096, 1024)], lambda x: x.cumsum(1))
case("_np_cumsum", "axis=0", [A(4096, 1024)], lambda x: x.cumsum(0))
case("_histogram", "bin_cnt=64 range=(-1,1)", [A(1 << 20)], lambda x: torch.histc(x, 64, -1, 1), way="invoke")

family("Softmax")
for op, f in (("softmax", F.softmax), ("log_softmax", F.log_softmax)):
    case(op, "axis=-1", [A(4096, 1000)], lambda x, f=f: f(x, 1), saved=4096 * 4000)
    case(op, "axis=-1", [A(4096, 4096)], lambda x, f=f: f(x, 1), saved=1 << 26, memory=True)
    case(op, "axis=-1", [A(128, 10)], lambda x, f=f: f(x, 1))
    case(op, "axis=1", [A(32, 21, 64, 64)], lambda x, f=f: f(x, 1), saved=32 * 21 * 64 * 256)
    case(op, "axis=0", [A(1000, 512)], lambda x, f=f: f(x, 0), saved=512 * 4000)
case("softmin", "axis=-1", [A(4096, 1000)], lambda x: F.softmin(x, 1))
case("SoftmaxActivation", "", [A(4096, 1000)], lambda x: F.softmax(x, 1))
case("SoftmaxActivation", "mode=channel", [A(32, 21, 64, 64)], lambda x: F.softmax(x, 1))

family("Layout and slices")
case("transpose", "", [A(4096, 4096)], lambda x: x.t().contiguous(), memory=True)
case("transpose", "", [A(1000, 512)], lambda x: x.t().contiguous())
case("transpose", "axes=(0,2,1)", [A(64, 512, 64)], lambda x: x.transpose(1, 2).contiguous())
case("transpose", "axes=(0,2,1,3)", [A(32, 128, 12, 64)], lambda x: x.transpose(1, 2).contiguous())
case("transpose", "axes=(0,2,3,1)", [A(32, 64, 56, 56)], lambda x: x.permute(0, 2, 3, 1).contiguous())
case("transpose", "axes=(0,3,1,2)", [A(32, 56, 56, 64)], lambda x: x.permute(0, 3, 1, 2).contiguous())
case("transpose", "axes=(2,1,0)", [A(128, 256, 128)], lambda x: x.permute(2, 1, 0).contiguous())
case("SwapAxis", "dim1=0 dim2=1", [A(128, 64, 512)], lambda x: x.transpose(0, 1).contiguous())
case("slice", "begin=(0,0) end=(4096,2048)", [A(4096, 4096)], lambda x: x[:, :2048].contiguous())
case("slice", "begin=(0,0) end=(None,None) step=(2,2)", [A(4096, 4096)], lambda x: x[::2, ::2].contiguous())
case("slice_axis", "axis=1 begin=16 end=48", [A(32, 64, 56, 56)], lambda x: x[:, 16:48].contiguous())
case("SliceChannel", "num_outputs=4 axis=1", [A(1024, 4096)], lambda x: [y.contiguous() for y in x.chunk(4, 1)])
case("Concat", "num_args=2 dim=1", [A(4096, 2048), A(4096, 2048)], lambda a, b: torch.cat([a, b], 1), memory=True)
case("Concat", "num_args=2 dim=1", [A(32, 64, 56, 56), A(32, 64, 56, 56)], lambda a, b: torch.cat([a, b], 1))
case("stack", "num_args=2 axis=1", [A(1024, 1024), A(1024, 1024)], lambda a, b: torch.stack([a, b], 1))
case("stack", "num_args=2 axis=-1", [A(1024, 1024), A(1024, 1024)], lambda a, b: torch.stack([a, b], -1))
case("Pad", "mode=constant pad_width=(0,0,0,0,1,1,1,1)", [A(32, 64, 56, 56)], lambda x: F.pad(x, (1, 1, 1, 1)))
case("Pad", "mode=reflect pad_width=(0,0,0,0,1,1,1,1)", [A(32, 64, 56, 56)], lambda x: F.pad(x, (1,) * 4, "reflect"))
case("Pad", "mode=edge pad_width=(0,0,0,0,1,1,1,1)", [A(32, 64, 56, 56)], lambda x: F.pad(x, (1,) * 4, "replicate"))
case("tile", "reps=(4,4)", [A(1024, 1024)], lambda x: x.tile(4, 4), memory=True)
case("repeat", "repeats=4 axis=1", [A(1024, 1024)], lambda x: x.repeat_interleave(4, 1))
case("repeat", "repeats=4 axis=0", [A(1024, 1024)], lambda x: x.repeat_interleave(4, 0))
case("reverse", "axis=1", [A(4096, 4096)], lambda x: x.flip(1), memory=True)
case("reverse", "axis=0", [A(4096, 4096)], lambda x: x.flip(0), memory=True)
case("depth_to_space", "block_size=2", [A(32, 64, 56, 56)], lambda x: F.pixel_shuffle(x, 2))
case("space_to_depth", "block_size=2", [A(32, 16, 112, 112)], lambda x: F.pixel_unshuffle(x, 2))
case("diag", "", [A(4096)], torch.diag)
case("im2col", "kernel=(3,3) pad=(1,1)", [A(8, 64, 56, 56)], lambda x: F.unfold(x, 3, padding=1))
case("col2im", "output_size=(56,56) kernel=(3,3) pad=(1,1)", [A(8, 576, 3136)],
     lambda x: F.fold(x, (56, 56), 3, padding=1))
case("_copy", "", [A(4096, 4096)], torch.clone, memory=True)
case("khatri_rao", "num_args=2", [A(128, 64), A(256, 64)],
     lambda a, b: torch.einsum("ik,jk->ijk", a, b).reshape(-1, 64), way="invoke")

family("Indexing and sorting")
case("take", "axis=0", [A(50000, 256), index(8192, high=50000)], lambda x, i: x[i])
case("take", "axis=1", [A(1024, 1000), index(500, high=1000)], lambda x, i: x.index_select(1, i))
case("Embedding", "input_dim=50000 output_dim=256", [index(64, 128, high=50000), A(50000, 256)], F.embedding)
case("Embedding", "input_dim=1000 output_dim=16", [index(64, 32, high=1000), A(1000, 16)], F.embedding)
case("one_hot", "depth=1000", [index(4096, high=1000)], lambda i: F.one_hot(i, 1000).float(), back=False)
case("pick", "axis=1", [A(4096, 1000), index(4096, high=1000)], lambda x, i: x.gather(1, i[:, None]))
case("batch_take", "", [A(4096, 1000), index(4096, high=1000)], lambda x, i: x.gather(1, i[:, None]), back=False)
case("gather_nd", "", [A(512, 512, 32), index(2, 65536, high=512)], lambda x, i: x[i[0], i[1]])
case("scatter_nd", "shape=(512,512,32)", [A(65536, 32), index(2, 65536, high=512)],
     lambda x, i: torch.zeros(512, 512, 32).index_put((i[0], i[1]), x))
case("sort", "axis=1", [A(1024, 1024)], lambda x: x.sort(1)[0])
case("sort", "axis=0", [A(1 << 20)], lambda x: x.sort()[0])
case("sort", "axis=0", [A(1024, 1024)], lambda x: x.sort(0)[0])
case("argsort", "axis=1", [A(1024, 1024)], lambda x: x.argsort(1), back=False)
case("topk", "axis=1 k=5 ret_typ=both", [A(1024, 1000)], lambda x: x.topk(5, 1))
case("topk", "axis=1 k=100 ret_typ=value", [A(256, 50000)], lambda x: x.topk(100, 1)[0])
case("_shuffle", "", [A(65536, 16)], lambda x: x[torch.randperm(len(x))], back=False)

family("Products")
for m, k, n in ((512, 512, 512), (1024, 1024, 1024), (64, 64, 64)):
    case("dot", "", [A(m, k), A(k, n)], torch.mm)
case("dot", "transpose_b=True", [A(512, 512), A(512, 512)], lambda a, b: a @ b.t())
case("dot", "transpose_a=True", [A(512, 512), A(512, 512)], lambda a, b: a.t() @ b)
case("dot", "", [A(2048, 2048), A(2048)], torch.mv)
case("batch_dot", "", [A(64, 128, 64), A(64, 64, 128)], torch.bmm)
case("batch_dot", "transpose_b=True", [A(384, 128, 64), A(384, 128, 64)], lambda a, b: a @ b.mT)
case("batch_dot", "", [A(4096, 8, 8), A(4096, 8, 8)], torch.bmm)
for rows, inner, hidden in ((128, 784, 128), (128, 1024, 1024), (1, 1024, 1024), (1, 4096, 4096), (32, 64, 10),
                            (512, 512, 2048)):
    case("FullyConnected", f"num_hidden={hidden}", [A(rows, inner), A(hidden, inner), A(hidden)], F.linear)
case("FullyConnected", "num_hidden=512 flatten=False", [A(32, 128, 512), A(512, 512), A(512)], F.linear)

family("Convolutions")


def convolution(kernel, n, c, f, *size, groups=1, **more):
    d = len(size)
    text = lambda v: "(" + ",".join([str(v)] * d) + ("," if d == 1 else "") + ")"
    attrs = f"kernel={text(kernel)} num_filter={f}" + (f" num_group={groups}" if groups > 1 else "")
    for key, name in (("stride", "stride"), ("padding", "pad"), ("dilation", "dilate")):
        if key in more:
            attrs += f" {name}={text(more[key])}"
    run = getattr(F, f"conv{d}d")
    case("Convolution", attrs, [A(n, c, *size), A(f, c // groups, *[kernel] * d, low=-0.1, high=0.1), A(f)],
         lambda x, w, b: run(x, w, b, groups=groups, **more))


convolution(1, 16, 64, 256, 56, 56)
convolution(3, 16, 64, 64, 56, 56, padding=1)
convolution(3, 16, 256, 256, 14, 14, padding=1)
convolution(3, 1, 256, 256, 14, 14, padding=1)
convolution(5, 64, 1, 20, 28, 28)
convolution(7, 4, 3, 64, 224, 224, stride=2, padding=3)
convolution(3, 16, 64, 128, 56, 56, stride=2, padding=1)
convolution(3, 16, 64, 64, 28, 28, padding=1, groups=8)
convolution(3, 16, 96, 96, 56, 56, padding=1, groups=96)
convolution(3, 16, 64, 64, 28, 28, padding=2, dilation=2)
convolution(5, 32, 64, 64, 512, padding=2)
convolution(3, 2, 16, 32, 16, 32, 32, padding=1)


def deconvolution(kernel, n, c, f, *size, **more):
    d = len(size)
    text = lambda v: "(" + ",".join([str(v)] * d) + ("," if d == 1 else "") + ")"
    attrs = f"kernel={text(kernel)} num_filter={f} no_bias=True"
    for key, name in (("stride", "stride"), ("padding", "pad")):
        if key in more:
            attrs += f" {name}={text(more[key])}"
    run = getattr(F, f"conv_transpose{d}d")
    case("Deconvolution", attrs, [A(n, c, *size), A(c, f, *[kernel] * d)], lambda x, w: run(x, w, **more))


deconvolution(4, 16, 64, 32, 28, 28, stride=2, padding=1)
deconvolution(3, 16, 64, 64, 28, 28, padding=1)
deconvolution(4, 16, 32, 32, 256, stride=2, padding=1)
case("Correlation", "max_displacement=4 pad_size=4", [A(2, 64, 32, 32), A(2, 64, 32, 32)], None)

family("Pooling")
image = A(32, 64, 56, 56)
case("Pooling", "pool_type=max kernel=(2,2) stride=(2,2)", [image], lambda x: F.max_pool2d(x, 2), saved=image.bytes())
case("Pooling", "pool_type=max kernel=(3,3) stride=(2,2) pad=(1,1)", [A(8, 64, 112, 112)],
     lambda x: F.max_pool2d(x, 3, 2, 1), saved=image.bytes())
case("Pooling", "pool_type=avg kernel=(2,2) stride=(2,2)", [image], lambda x: F.avg_pool2d(x, 2))
case("Pooling", "pool_type=avg kernel=(3,3) pad=(1,1)", [image], lambda x: F.avg_pool2d(x, 3, 1, 1))
case("Pooling", "pool_type=max global_pool=True", [image], lambda x: x.amax((2, 3)))
case("Pooling", "pool_type=avg global_pool=True", [image], lambda x: F.adaptive_avg_pool2d(x, 1))
case("Pooling", "pool_type=lp p_value=2 kernel=(2,2) stride=(2,2)", [A(8, 64, 56, 56, low=0.1)],
     lambda x: F.lp_pool2d(x, 2.0, 2))
case("Pooling", "pool_type=max kernel=(3,) stride=(2,)", [A(32, 64, 1024)], lambda x: F.max_pool1d(x, 3, 2))
case("Pooling", "pool_type=max kernel=(2,2,2) stride=(2,2,2)", [A(4, 16, 32, 32, 32)], lambda x: F.max_pool3d(x, 2))
case("Pooling", "pool_type=avg kernel=(2,2,2) stride=(2,2,2)", [A(4, 16, 32, 32, 32)], lambda x: F.avg_pool3d(x, 2))
case("UpSampling", "scale=2 sample_type=nearest num_args=1", [A(8, 64, 56, 56)],
     lambda x: F.interpolate(x, scale_factor=2))
case("ROIPooling", "pooled_size=(7,7) spatial_scale=0.0625", [A(1, 256, 38, 50), A(64, 5, low=0, high=1, grad=False)],
     None)

family("Normalization")
gamma, beta = (lambda n: A(n, low=0.5, high=1.5)), A
moving = lambda n: A(n, low=0.5, high=1.5, grad=False)
for n, c, h in ((32, 64, 56), (32, 512, 4), (128, 256, 1)):
    case("BatchNorm", "fix_gamma=False", [A(n, c, h, h), gamma(c), beta(c), moving(c), moving(c)],
         lambda x, g, b, m, v: F.batch_norm(x, m, v, g, b, True), saved=4 * n * c * h * h)
for n, c in ((4096, 1024), (128, 256)):
    case("LayerNorm", "axis=-1", [A(n, c), gamma(c), beta(c)], lambda x, g, b, c=c: F.layer_norm(x, (c,), g, b),
         saved=4 * n * c)
case("LayerNorm", "axis=1", [A(32, 64, 784), gamma(64), beta(64)],
     lambda x, g, b: F.layer_norm(x.transpose(1, 2), (64,), g, b).transpose(1, 2).contiguous())
case("RMSNorm", "axis=-1", [A(4096, 1024), gamma(1024)], lambda x, g: F.rms_norm(x, (1024,), g))
case("InstanceNorm", "", [image, gamma(64), beta(64)], lambda x, g, b: F.instance_norm(x, weight=g, bias=b))
case("GroupNorm", "num_groups=8", [image, gamma(8), beta(8)],
     lambda x, g, b: F.group_norm(x, 8, g.repeat_interleave(8), b.repeat_interleave(8)))
case("L2Normalization", "mode=instance", [A(4096, 1024)], lambda x: F.normalize(x))
case("L2Normalization", "mode=channel", [image], lambda x: F.normalize(x))
case("LRN", "nsize=5", [A(32, 96, 27, 27)], lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 2))

family("Activations")
for kind, f in (("relu", F.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh), ("softrelu", F.softplus)):
    each("Activation", f, attrs=f"act_type={kind}")
for kind, f in (("leaky", lambda x: F.leaky_relu(x, 0.25)), ("elu", F.elu), ("selu", F.selu), ("gelu", F.gelu)):
    each("LeakyReLU", f, attrs=f"act_type={kind}", memory=kind == "leaky")
case("LeakyReLU", "act_type=prelu", [A(32, 64, 56, 56), A(64, low=0.1, high=0.3)], F.prelu)
for op, f in (("silu", F.silu), ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"))):
    each(op, f, memory=False)
case("Dropout", "p=0.5", [A(1024, 1024)], lambda x: F.dropout(x, 0.5, True))
case("Dropout", "p=0.5", [A(4096, 4096)], lambda x: F.dropout(x, 0.5, True))
case("Dropout", "p=0.1", [A(128, 1024)], lambda x: F.dropout(x, 0.1, True))

family("Random numbers")
x = torch.empty(1 << 20)
small = torch.rand(1024)
for op, attrs, f in (
        ("_random_uniform", "", lambda: x.uniform_()),
        ("_random_normal", "", lambda: x.normal_()),
        ("_random_exponential", "", lambda: x.exponential_()),
        ("_random_gamma", "alpha=2.5 beta=1", lambda: torch._standard_gamma(torch.tensor(2.5).expand(1 << 20))),
        ("_random_poisson", "lam=4", lambda: torch.poisson(torch.tensor(4.0).expand(1 << 20))),
        ("_random_randint", "low=0 high=1000", lambda: torch.randint(0, 1000, (1 << 20,), dtype=torch.int32)),
        ("_random_negative_binomial", "k=4 p=0.5", lambda: torch.poisson(
            torch._standard_gamma(torch.tensor(4.0).expand(1 << 20))))):
    case(op, f"shape=(1048576,) {attrs}".strip(), [], f, way="invoke")
case("_sample_normal", "shape=(1024,)", [A(1024), A(1024, low=0.5)], lambda m, s: torch.normal(
    m[:, None].expand(1024, 1024), s.abs()[:, None].expand(1024, 1024)), way="invoke")
case("_sample_gamma", "shape=(1024,)", [A(1024, low=0.5, high=4), A(1024, low=0.5)],
     lambda a, b: torch._standard_gamma(a[:, None].expand(1024, 1024)) * b[:, None], way="invoke")
case("_sample_multinomial", "shape=(100,)", [A(128, 1000, low=0)], lambda p: torch.multinomial(p, 100, True),
     way="invoke")
case("_random_pdf_normal", "", [A(1024, 1024), A(1024), A(1024, low=0.5)], lambda x, m, s: torch.exp(
    -0.5 * ((x - m[:, None]) / s[:, None])**2) / (s[:, None] * 2.5066283))

family("Losses")
case("SoftmaxOutput", "", [A(4096, 1000), index(4096, high=1000)],
     lambda x, y: (F.softmax(x, 1), F.cross_entropy(x, y, reduction="sum"))[1])
case("SoftmaxOutput", "", [A(128, 10), index(128, high=10)], lambda x, y: F.cross_entropy(x, y, reduction="sum"))
case("SoftmaxOutput", "multi_output=True", [A(16, 21, 64, 64), index(16, 64, 64, high=21)],
     lambda x, y: F.cross_entropy(x, y, reduction="sum"))
case("softmax_cross_entropy", "", [A(4096, 1000), index(4096, high=1000)],
     lambda x, y: F.cross_entropy(x, y, reduction="sum"))
target = A(1024, 1024, grad=False)
case("LinearRegressionOutput", "", [A(1024, 1024), target], lambda x, y: F.mse_loss(x, y, reduction="sum"))
case("LogisticRegressionOutput", "", [A(1024, 1024), target],
     lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum"))
case("MAERegressionOutput", "", [A(1024, 1024), target], lambda x, y: F.l1_loss(x, y, reduction="sum"))
case("SVMOutput", "", [A(4096, 100), index(4096, high=100)], lambda x, y: F.multi_margin_loss(x, y, p=2))
case("CTCLoss", "", [A(100, 32, 80), A(32, 20, kind="integer", low=1, high=80)],
     lambda x, y: F.ctc_loss(F.log_softmax(x, 2), y, [100] * 32, [20] * 32, reduction="none"))

family("Sequences")


def rnn(mode, layer, t, n, c, h, layers=1, bidirectional=False):
    net = layer(c, h, layers, bidirectional=bidirectional)
    weights = sum(p.numel() for p in net.parameters())
    states = layers * (2 if bidirectional else 1)
    inputs = [A(t, n, c), A(weights, low=-0.1, high=0.1)] + [A(states, n, h, grad=False)] * (2 if mode == "lstm" else 1)

    def run(x, w, *state):
        return net(x, state if mode == "lstm" else state[0])[0]

    run.weights = list(net.parameters())
    case("RNN", f"mode={mode} state_size={h} num_layers={layers}" + (" bidirectional=True" if bidirectional else ""),
         inputs, run)


rnn("lstm", torch.nn.LSTM, 35, 32, 200, 200, 2)
rnn("lstm", torch.nn.LSTM, 50, 64, 128, 512)
rnn("lstm", torch.nn.LSTM, 50, 1, 128, 256)
rnn("lstm", torch.nn.LSTM, 35, 32, 128, 128, bidirectional=True)
rnn("gru", torch.nn.GRU, 35, 32, 200, 200)
rnn("rnn_tanh", torch.nn.RNN, 35, 32, 200, 200)
lengths = index(64, high=100)
case("SequenceMask", "use_sequence_length=True", [A(100, 64, 512), lengths],
     lambda x, n: x * (torch.arange(100)[:, None] < n)[:, :, None])
case("SequenceLast", "use_sequence_length=True", [A(100, 64, 512), A(64, low=1, high=100, kind="integer")],
     lambda x, n: x[n - 1, torch.arange(64)])
case("SequenceReverse", "", [A(100, 64, 512)], lambda x: x.flip(0))
heads = [A(8, 12, 128, 64), A(8, 12, 128, 64), A(8, 12, 128, 64)]
case("DotProductAttention", "", heads, F.scaled_dot_product_attention)
case("DotProductAttention", "causal=True", [A(2, 12, 1024, 64)] * 3,
     lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))

family("Linear algebra")
spd = A(512, 512, kind="spd")
batch = A(256, 16, 16, kind="spd")
for a in (spd, batch):
    n = a.shape[-1]
    case("_linalg_potrf", "", [a], torch.linalg.cholesky)
    case("_linalg_potri", "", [a], lambda x: torch.cholesky_inverse(x), back=False)
    case("_linalg_trsm", "", [a, A(*a.shape)], lambda a, b: torch.linalg.solve_triangular(a, b, upper=False))
    case("_linalg_trmm", "", [a, A(*a.shape)], lambda a, b: torch.tril(a) @ b)
    case("_linalg_syrk", "", [A(*a.shape)], lambda a: a @ a.mT)
    case("_linalg_inverse", "", [a], torch.linalg.inv)
    case("_linalg_det", "", [A(256, 16, 16) if n == 16 else A(256, 256)], torch.linalg.det)
    case("_linalg_slogdet", "", [a], lambda a: torch.linalg.slogdet(a)[1], back=False)
    case("_linalg_gelqf", "", [A(*a.shape)], lambda a: torch.linalg.qr(a.mT), back=False)
case("_linalg_syevd", "", [A(256, 256, kind="spd")], torch.linalg.eigh)
case("_linalg_syevd", "", [batch], torch.linalg.eigh)
case("_linalg_gemm", "", [A(512, 512)] * 3, lambda a, b, c: torch.addmm(c, a, b))
case("_linalg_gemm2", "", [A(64, 128, 64), A(64, 64, 128)], torch.bmm)
case("_linalg_sumlogdiag", "", [spd], lambda a: a.diagonal().log().sum())
case("_linalg_extractdiag", "", [A(4096, 64, 64)], lambda a: a.diagonal(dim1=1, dim2=2).contiguous())
case("_linalg_extracttrian", "", [A(256, 64, 64)],
     lambda a, i=torch.tril_indices(64, 64): a[:, i[0], i[1]])

family("Optimizers")
N = 1 << 24
state = A(N, grad=False)
positive = A(N, low=0, high=1, grad=False)


def optimizer(op, attrs, states, make):
    """PyTorch's fused update of one tensor; the others of its implementations go over memory several times."""

    def prepare(w, g, *_):
        w = w.clone().requires_grad_()
        w.grad = g
        return make([w]).step

    prepare.prepares = True
    case(op, attrs, [A(N, grad=False), A(N, grad=False)] + states, prepare, way="update", memory=True)


O = torch.optim
optimizer("sgd_update", "lr=0.01", [], lambda p: O.SGD(p, 0.01, fused=True))
optimizer("sgd_mom_update", "lr=0.01 momentum=0.9 wd=0.0001", [state],
          lambda p: O.SGD(p, 0.01, 0.9, weight_decay=1e-4, fused=True))
optimizer("nag_mom_update", "lr=0.01 momentum=0.9", [state], lambda p: O.SGD(p, 0.01, 0.9, nesterov=True, fused=True))
optimizer("adam_update", "lr=0.001", [state, positive], lambda p: O.Adam(p, 0.001, fused=True))
optimizer("rmsprop_update", "lr=0.001", [positive], lambda p: O.RMSprop(p, 0.001, foreach=False))
optimizer("signsgd_update", "lr=0.001", [], lambda p: O.SGD(p, 0.001, fused=True))
optimizer("signum_update", "lr=0.001 momentum=0.9", [state], lambda p: O.SGD(p, 0.001, 0.9, fused=True))
optimizer("ftrl_update", "lr=0.001", [state, positive], lambda p: O.Adagrad(p, 0.001, fused=True))
case("all_finite", "", [A(4096, 4096)], lambda x: torch.isfinite(x).all(), way="invoke", memory=True)
case("multi_sum_sq", "num_arrays=1", [A(4096, 4096)], lambda x: (x * x).sum(), way="invoke", memory=True)

family("Spatial transformers")
grid = A(8, 2, 64, 64)
case("BilinearSampler", "", [A(8, 32, 64, 64), grid],
     lambda x, g: F.grid_sample(x, g.permute(0, 2, 3, 1), align_corners=True))
case("GridGenerator", "transform_type=affine target_shape=(64,64)", [A(32, 6)],
     lambda x: F.affine_grid(x.view(-1, 2, 3), [32, 1, 64, 64], align_corners=True))
case("SpatialTransformer", "target_shape=(64,64) transform_type=affine sampler_type=bilinear",
     [A(8, 32, 64, 64), A(8, 6)], lambda x, t: F.grid_sample(
         x, F.affine_grid(t.view(-1, 2, 3), [8, 32, 64, 64], align_corners=True), align_corners=True))


class Ours:
    """The program, kept running."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, line):
        """Seconds forward and backward, bytes of outputs and gradients; or an error's text."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer or answer.startswith("error"):
            return answer.strip() or sys.exit(f"The program stopped at {line}")
        return [float(x) for x in answer.split()]


# With one thread the time of the process, as in c_operators.c.
clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def seconds(f):
    """As measure() in c_operators.c."""
    f()
    calls, bursts, total, best = 1, 0, 0.0, 1e9
    while total < 0.04 or bursts < 3:
        start = clock()
        for _ in range(calls):
            f()
        t = clock() - start
        if t < 5e-4:
            calls *= 2
            continue
        best, total, bursts = min(best, t / calls), total + t, bursts + 1
    return best


def measure_peer(c):
    inputs = [i.tensor(c.back) for i in c.inputs]
    if hasattr(c.peer, "prepares"):
        return seconds(c.peer(*inputs)), 0.0
    run = lambda: c.peer(*inputs)
    if not c.back:
        with torch.no_grad():
            return seconds(run), 0.0
    wanted = [i for i in inputs if i.requires_grad]
    if hasattr(c.peer, "weights"):
        wanted = [inputs[0]] + c.peer.weights
    y = run()
    y = [t for t in (y if isinstance(y, (tuple, list)) else [y]) if t.requires_grad]
    heads = [torch.rand_like(t) for t in y]
    if not y or not wanted:
        return seconds(run), 0.0
    used = {h.untyped_storage().data_ptr() for h in heads}

    def backward():
        """Gradients that are views of the head gradients are copied: here they are arrays of their own."""
        for g in torch.autograd.grad(y, wanted, heads, retain_graph=True, allow_unused=True):
            if g is not None and (g.untyped_storage().data_ptr() in used or not g.is_contiguous()):
                g.clone(memory_format=torch.contiguous_format)

    return seconds(run), seconds(backward)


def main():
    program, words = sys.argv[1], [a for a in sys.argv[2:] if not a.startswith("--")]
    chosen = [c for c in cases if isinstance(c, str) or not words or any(w in c.name for w in words)]
    if "--list" in sys.argv:
        return print(*[c if isinstance(c, str) else "  " + c.name for c in chosen], sep="\n")
    ours = Ours(program)
    rate = {}
    for what in ("copy", "triad"):
        t, _, size, _ = ours.measure(f"memory\t{what}\t")
        rate[what] = size / t / 1e9
    print(f"{torch.get_num_threads()} threads; copy {rate['copy']:.1f} GB/s, triad {rate['triad']:.1f} GB/s")
    print(f"{'':78} {'us':>10} {'torch':>10} {'ratio':>6} {'GB/s':>6} {'% copy':>6}")
    slow, bound, count, title = [], [], 0, None
    for c in chosen:
        if isinstance(c, str):
            title = c
            continue
        if title:
            print(f"-- {title}")
            title = None
        mine, theirs = [1e9, 1e9], [1e9, 1e9]
        for _ in range(2):
            answer = ours.measure(c.line())
            if isinstance(answer, str):
                break
            mine = [min(a, b) for a, b in zip(mine, answer)]
            if c.peer:
                theirs = [min(a, b) for a, b in zip(theirs, measure_peer(c))]
        if isinstance(answer, str):
            print(f"{c.name}: {answer}")
            continue
        read = sum(i.bytes() for i in c.inputs)
        for k, direction in enumerate(("", ", backward")):
            if not mine[k]:
                continue
            size = read + answer[2] if k == 0 else answer[2] + answer[3] + c.saved
            ratio = mine[k] / theirs[k] if 0 < theirs[k] < 1e9 else float("nan")
            speed = size / mine[k] / 1e9
            percent = 100 * speed / rate["copy"]
            peer = f"{1e6 * theirs[k]:10.1f} {ratio:6.2f}" if ratio == ratio else f"{'-':>10} {'-':>6}"
            line = (f"{(c.name + direction)[:78]:78} {1e6 * mine[k]:10.1f} {peer} {speed:6.1f} "
                    f"{f'{percent:.0f}' if c.memory else '':>6}")
            print(line, flush=True)
            count += 1
            if ratio > 1.5:
                slow.append(line)
            if c.memory and percent < 70:
                bound.append(line)
    print(f"\n{count} measurements. More than 1.5 times PyTorch's time: {len(slow)}", *slow, sep="\n")
    print(f"\nBound by memory, below 70 % of the copy bandwidth: {len(bound)}", *bound, sep="\n")


main()
