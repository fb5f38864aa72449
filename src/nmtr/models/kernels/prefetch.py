"""Asking for memory before it is needed, which Numba has no word for.

A pass over rows of tables that no near cache holds waits for each of them, 100 ns and more where
the far cache is shared; rows that were asked for some rows ahead are there in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LINE = 64  # bytes that come at once
READ, KEEP, DATA = 0, 3, 1  # llvm.prefetch: for reading, in the nearest cache, no code
array_of: Any = make_array
code: Any = cgutils
switches: Any = config


def _prefetch(typing: Any, table: Any, row: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for table[row], of a two-dimensional array in C order; nothing else happens."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = array_of(signature.args[0])(context, builder, arguments[0])
        size = builder.extract_value(array.strides, 0)
        first = builder.mul(arguments[1], size)
        start = builder.bitcast(array.data, cgutils.voidptr_t)
        flags = [ir.Constant(cgutils.int32_t, each) for each in (READ, KEEP, DATA)]
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] + [cgutils.int32_t] * 3)
        ask = code.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        step = ir.Constant(first.type, LINE)
        zero = ir.Constant(first.type, 0)
        with code.for_range_slice(builder, zero, size, step) as (offset, _):
            builder.call(ask, [builder.gep(start, [builder.add(first, offset)]), *flags])
        return context.get_dummy_value()

    return types.void(table, types.intp), generate


def _nothing(table: Any, row: Any) -> None:
    """In plain Python (NUMBA_DISABLE_JIT) nothing is asked for."""


prefetch: Any = _nothing if switches.DISABLE_JIT else intrinsic(_prefetch)
