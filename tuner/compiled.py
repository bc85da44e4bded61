"""Numba as this project uses it: a cache that notices every change, flush-to-zero, and tiles in vector registers."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Everything that reorders sums, and nothing that lets the compiler assume numbers are finite: `fastmath=True` would
# turn every search for NaN into False.
FASTMATH = {"reassoc", "contract", "nsz", "arcp", "afn"}


def _sources_hash() -> str:
    """One hash over all files with compiled code: Numba's cache does not notice that an imported helper changed."""
    here = Path(__file__).parent
    patterns = ("compiled.py", "ppo/*kernels.py", "envs/*.py", "envs/soccer/kernels.py", "envs/soccer/pitch.py")
    files = [file for pattern in patterns for file in sorted(here.glob(pattern))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _cache_folder() -> Path:
    """Where compiled code is kept between processes; a folder of this process alone where that cannot be written.

    Numba's own NUMBA_CACHE_DIR names it where the user's cache folder is only read, as in a container.
    """
    root = Path(numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "rllib-ppo-tuner" / _sources_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="tuner-compiled-"))


_MADV_DONTNEED = 4
_CACHE = str(_cache_folder())


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, once for all processes of this machine; sums may be reordered."""
    return _compiled(function, FASTMATH)


def compiled_exactly(function: Callable[..., Any]) -> Any:
    """Compile `function`, every operation as it stands and rounded as NumPy rounds it."""
    return _compiled(function, False)


def _compiled(function: Callable[..., Any], fastmath: set[str] | bool) -> Any:
    theirs, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _CACHE
    try:
        return numba.njit(cache=True, fastmath=fastmath, error_model="numpy", nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = theirs


def release_compiler() -> None:
    """Give the memory of the compiler's own code back to Linux once everything is compiled or loaded: 60 MB resident.

    What is called of it again comes back from its file, or rather from Linux's cache of that.
    """
    try:
        mappings = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # another system
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for mapping in mappings:
        place, access, *_, name = mapping.split(maxsplit=5)
        if "libllvmlite" in name and access == "r-xp":  # code alone: what can be written to would be lost
            begin, end = (int(address, 16) for address in place.split("-"))
            madvise(begin, end - begin, _MADV_DONTNEED)


def _features() -> str:
    """The processor's features that Numba compiles for, such as `+avx2,+fma`."""
    return str(numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten())


# float32 numbers in a vector register.
LANES = 16 if "+avx512f" in _features() else 8 if "+avx" in _features() else 4
ROWS = 8
IS_X86 = binding.get_default_triple().startswith(("x86", "i686", "amd64"))

_f32 = ir.FloatType()
_i64 = ir.IntType(64)
_vector = ir.VectorType(_f32, LANES)
_flags = tuple(FASTMATH)


def _at(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """The address of `array.flat[index]`."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _vector_at(builder: Any, address: Any, kind: Any = _vector) -> Any:
    return builder.bitcast(address, kind.as_pointer())


def _mask(lanes: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))


def _function(builder: Any, name: str, kinds: list[Any], body: Callable[[Any, list[Any]], None]) -> Any:
    """A function of the module that is being built, emitted once.

    Not inlined: a tile is compiled once, instead of at each of its calls.
    """
    module = builder.module
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        body(inner, list(function.args))
        inner.ret_void()
    return module.globals[name]


def _repeat(
    builder: Any, count: Any, pointers: list[tuple[Any, Any]], starts: list[Any],
    body: Callable[[list[Any], list[Any]], list[Any]],
) -> list[Any]:  # fmt: skip
    """Emit `count` > 0 rounds of a loop; its sums stay in registers.

    Args:
        pointers: (start, step) of the addresses that move on.
        starts: the sums' first values.
        body: from the addresses and the sums of a round to the sums of the next.
    """
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    left = builder.phi(_i64)
    places = [builder.phi(start.type) for start, _ in pointers]
    held = [builder.phi(_vector) for _ in starts]
    sums = body(places, held)
    moved = [builder.gep(place, [step]) for place, (_, step) in zip(places, pointers, strict=True)]
    fewer = builder.sub(left, _i64(1))
    phis = [left, *places, *held]
    for phi, first, following in zip(
        phis, [count, *(p for p, _ in pointers), *starts], [fewer, *moved, *sums], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed(">", fewer, _i64(0)), loop, after)
    builder.position_at_end(after)
    return sums


def _broadcast(builder: Any, address: Any) -> Any:
    one = builder.insert_element(ir.Constant(_vector, ir.Undefined), builder.load(address, align=4), ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, _mask([0] * LANES))


def _broadcast_tile(rows: int, from_start: bool) -> Any:
    def body(builder: Any, args: list[Any]) -> None:
        out, out_row, start, a, a_row, a_step, x, x_step, count = args
        targets = [_vector_at(builder, builder.gep(out, [builder.mul(out_row, _i64(r))])) for r in range(rows)]
        apart = [builder.mul(a_row, _i64(r)) for r in range(rows)]

        def step(places: list[Any], sums: list[Any]) -> list[Any]:
            a, x = places
            lanes = builder.load(_vector_at(builder, x), align=4)
            products = [
                builder.fmul(_broadcast(builder, builder.gep(a, [distance])), lanes, flags=_flags) for distance in apart
            ]
            return [builder.fadd(product, total, flags=_flags) for product, total in zip(products, sums, strict=True)]

        if from_start:
            starts = [_broadcast(builder, builder.gep(start, [_i64(r)])) for r in range(rows)]
        else:
            starts = [builder.load(target, align=4) for target in targets]
        for target, total in zip(
            targets, _repeat(builder, count, [(a, a_step), (x, x_step)], starts, step), strict=True
        ):
            builder.store(total, target, align=4)

    @intrinsic
    def tile(typingctx, out, out_at, out_row, start, start_at, a, a_at, a_row, a_step, x, x_at, x_step, count):
        """`out[r, :LANES] = s[r] + sum(a[r, k] * x[k, :LANES] for k in range(count))` for `rows` rows; count > 0.

        s[r] is `start[start_at + r]`, or what `out` held.
        """
        signature = types.void(out, out_at, out_row, start, start_at, a, a_at, a_row, a_step, x, x_at, x_step, count)

        def codegen(context, builder, signature, args):
            _, _, out_row, _, _, _, _, a_row, a_step, _, _, x_step, count = args
            out, start, a, x = (_at(context, builder, signature.args[i], args[i], args[i + 1]) for i in (0, 3, 5, 9))
            address = _f32.as_pointer()
            kinds = [address, _i64, address, address, _i64, _i64, address, _i64, _i64]
            function = _function(builder, f"broadcast_tile_{rows}_{from_start}", kinds, body)
            builder.call(function, [out, out_row, start, a, a_row, a_step, x, x_step, count])
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _sums_of(builder: Any, vectors: list[Any]) -> Any:
    """One vector whose lane i is the sum of the lanes of `vectors[i]`; there are LANES of them."""
    block = 1
    while len(vectors) > 1:
        # The two halves of each sum lie side by side, in blocks that double.
        low = [lane for b in range(0, LANES, 2 * block) for v in (0, LANES) for lane in range(v + b, v + b + block)]
        halves = (_mask(low), _mask([lane + block for lane in low]))
        vectors = [
            builder.fadd(*(builder.shuffle_vector(p, q, half) for half in halves), flags=_flags)
            for p, q in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        block *= 2
    return vectors[0]


DOT_ROWS = 4
DOT_COLUMNS = LANES // DOT_ROWS


def _dot_tile(builder: Any, args: list[Any]) -> None:
    out, out_row, a, x, row, count = args

    def step(places: list[Any], sums: list[Any]) -> list[Any]:
        lefts, rights = (
            [
                builder.load(_vector_at(builder, builder.gep(place, [builder.mul(row, _i64(r))])), align=4)
                for r in range(n)
            ]
            for place, n in zip(places, (DOT_ROWS, DOT_COLUMNS), strict=True)
        )
        products = [builder.fmul(left, right, flags=_flags) for left in lefts for right in rights]
        return [builder.fadd(product, total, flags=_flags) for product, total in zip(products, sums, strict=True)]

    zero = ir.Constant(_vector, [0.0] * LANES)
    along = _i64(LANES)
    totals = _sums_of(builder, _repeat(builder, count, [(a, along), (x, along)], [zero] * LANES, step))
    for i in range(DOT_ROWS):
        part = ir.VectorType(_f32, DOT_COLUMNS)
        target = _vector_at(builder, builder.gep(out, [builder.mul(out_row, _i64(i))]), part)
        mine = builder.shuffle_vector(totals, totals, _mask(range(i * DOT_COLUMNS, (i + 1) * DOT_COLUMNS)))
        builder.store(builder.fadd(builder.load(target, align=4), mine, flags=_flags), target, align=4)


@intrinsic
def dot_tile(typingctx, out, out_at, out_row, a, a_at, x, x_at, row, count):
    """`out[i, j] += sum(a[i, s] * x[j, s])` for (DOT_ROWS, DOT_COLUMNS) elements, s in `count` > 0 vectors of LANES.

    `row` is the distance between two rows of `a` and of `x`.
    """
    signature = types.void(out, out_at, out_row, a, a_at, x, x_at, row, count)

    def codegen(context, builder, signature, args):
        _, _, out_row, _, _, _, _, row, count = args
        out, a, x = (_at(context, builder, signature.args[i], args[i], args[i + 1]) for i in (0, 3, 5))
        address = _f32.as_pointer()
        function = _function(builder, "dot_tile", [address, _i64, address, address, _i64, _i64], _dot_tile)
        builder.call(function, [out, out_row, a, x, row, count])
        return context.get_dummy_value()

    return signature, codegen


def _sum_tile(builder: Any, args: list[Any]) -> None:
    out, a, row, count = args

    def step(places: list[Any], sums: list[Any]) -> list[Any]:
        starts = [builder.gep(places[0], [builder.mul(row, _i64(r))]) for r in range(LANES)]
        lanes = [builder.load(_vector_at(builder, start), align=4) for start in starts]
        return [builder.fadd(more, total, flags=_flags) for more, total in zip(lanes, sums, strict=True)]

    zero = ir.Constant(_vector, [0.0] * LANES)
    totals = _sums_of(builder, _repeat(builder, count, [(a, _i64(LANES))], [zero] * LANES, step))
    target = _vector_at(builder, out)
    builder.store(builder.fadd(builder.load(target, align=4), totals, flags=_flags), target, align=4)


@intrinsic
def sum_tile(typingctx, out, out_at, a, a_at, row, count):
    """`out[i] += sum(a[i, s])` for LANES rows `row` apart, s in `count` > 0 vectors of LANES."""
    signature = types.void(out, out_at, a, a_at, row, count)

    def codegen(context, builder, signature, args):
        _, _, _, _, row, count = args
        out, a = (_at(context, builder, signature.args[i], args[i], args[i + 1]) for i in (0, 2))
        address = _f32.as_pointer()
        function = _function(builder, "sum_tile", [address, address, _i64, _i64], _sum_tile)
        builder.call(function, [out, a, row, count])
        return context.get_dummy_value()

    return signature, codegen


# The forward pass starts from the bias; the backward pass adds to what other layers brought.
row_from_start, rows_from_start = _broadcast_tile(1, True), _broadcast_tile(ROWS, True)
add_to_row, add_to_rows = _broadcast_tile(1, False), _broadcast_tile(ROWS, False)

_FLUSH = 0x8040  # MXCSR: results flushed to zero, inputs that are denormal taken as zero


def _control_word(name: str) -> Any:
    @intrinsic
    def access(typingctx, word):
        """Read (`stmxcsr`) or write (`ldmxcsr`) this thread's floating-point control word, where there is one."""

        def codegen(context, builder, signature, args):
            if not IS_X86:
                return args[0]
            place = cgutils.alloca_once_value(builder, args[0])
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
            builder.call(function, [builder.bitcast(place, ir.IntType(8).as_pointer())])
            return builder.load(place)

        return types.int32(types.int32), codegen

    return access


_read_control = _control_word("stmxcsr")
_write_control = _control_word("ldmxcsr")


@numba.njit(inline="always")
def flush_denormals():
    """Take denormals as zero in this thread from here on; returns what `restore_denormals` needs.

    A denormal makes an operation many times slower, and Adam's first moments end there: 0.9 times the smallest number
    rounds to itself.
    """
    before = _read_control(numba.int32(0))
    _write_control(numba.int32(before | _FLUSH))
    return before


@numba.njit(inline="always")
def restore_denormals(before):
    """Undo `flush_denormals`."""
    _write_control(numba.int32(before))
