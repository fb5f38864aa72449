"""Read sparse matrices from pickles and npz files that strangers made, without running their code.

A pickle may name any function of any module and have it called. Here the names of numpy arrays and
scipy sparse matrices are answered with the small classes below, which only note what was stored,
and every other name is an error: nothing that a pickle names is ever imported, let alone called.
"""

import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmtr.errors import DamagedError


class Entries(NamedTuple):
    """The stored entries of an (M, N) sparse matrix, in the order they were stored."""

    rows: NDArray[np.int64]  # (nnz,) in [0, M)
    columns: NDArray[np.int64]  # (nnz,) in [0, N)
    values: NDArray[Any]  # (nnz,) booleans, integers or floats
    shape: tuple[int, int]


def read_pickle(path: Path) -> Entries:
    """Read a pickled scipy CSR, CSC or COO matrix; pickles of Python 2 are read too.

    Raises DamagedError if the file names any other class or function, is no pickle, holds
    something else, or holds arrays that do not make a matrix.
    """
    with path.open("rb") as file:
        try:
            # Python 2 wrote the bytes of an array as a str: latin1 maps each byte to one character.
            stored = _MatrixUnpickler(file, encoding="latin1").load()
        except DamagedError as error:
            raise DamagedError(f"{path}: {error}") from None
        except Exception as error:  # the pickle module documents that any type may come
            raise DamagedError(
                f"{path}: expected a pickled sparse matrix, got {error!r}"
            ) from error
    if not isinstance(stored, _Sparse):
        raise DamagedError(
            f"{path}: expected a pickled sparse matrix, got a {type(stored).__name__}"
        )
    return _entries(path, stored.form, stored.fields)


def read_npz(path: Path) -> Entries:
    """Read a matrix that `scipy.sparse.save_npz` wrote; object arrays in it are refused.

    Raises DamagedError if the file is no such archive or its arrays do not make a matrix.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            fields: dict[str, Any] = {name: archive[name] for name in archive.files}
        form = fields["format"].item()
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{path}: expected a sparse matrix in npz, got {error!r}") from error
    return _entries(
        path, form.decode("ascii", "replace") if isinstance(form, bytes) else form, fields
    )


# Every class below has __setstate__, so that the BUILD opcode of a hostile pickle, aimed at the
# class itself, ends in a TypeError instead of in new attributes on it; and all is set in __new__,
# since a pickle may make an object without __init__ and give it no state.


class _Array:
    """Stands for `numpy.ndarray` and for the `_reconstruct` that makes an empty one."""

    array: NDArray[Any]

    def __new__(cls, *_: object) -> "_Array":
        self = super().__new__(cls)
        self.array = np.empty(0)
        return self

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, raw = state[-4:]  # before them the version, which old files lack
        self.array = _decode(shape, dtype, fortran, raw)


class _Dtype:
    """Stands for `numpy.dtype`: its code, such as i4, and byte order."""

    code: object
    order: object

    def __new__(cls, code: object, *_: object) -> "_Dtype":
        self = super().__new__(cls)
        self.code, self.order = code, "<"
        return self

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> "np.dtype[Any]":
        sizes = {"b": "1", "i": "1248", "u": "1248", "f": "248"}
        code = self.code
        known = isinstance(code, str) and len(code) == 2 and code[1] in sizes.get(code[0], "")
        if not known or self.order not in ("<", ">", "|"):
            raise DamagedError(f"expected numbers, got an array of dtype {self.order}{code}")
        return np.dtype(f"{self.order}{code}")


class _Scalar:
    """Stands for `scalar`: a number wrapped by numpy, as in some shapes."""

    def __new__(cls, dtype: Any, raw: Any) -> Any:
        return _decode((), dtype, False, raw).item()

    def __setstate__(self, state: object) -> None:
        raise DamagedError("a numpy scalar takes no state")


class _Sparse:
    """Stands for a scipy matrix: its format and its attributes."""

    form = ""
    fields: dict[str, Any]

    def __new__(cls) -> "_Sparse":
        self = super().__new__(cls)
        self.fields = {}
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.fields = dict(state)


class _Csr(_Sparse):
    form = "csr"


class _Csc(_Sparse):
    form = "csc"


class _Coo(_Sparse):
    form = "coo"


_ADMITTED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{
        (f"scipy.sparse.{private}{kind.form}", f"{kind.form}_{noun}"): kind
        for kind in (_Csr, _Csc, _Coo)
        for private in ("", "_")
        for noun in ("matrix", "array")
    },
}


class _MatrixUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise DamagedError(
                f"expected numpy arrays and scipy csr, csc or coo matrices only, but the pickle "
                f"asks for {module}.{name}; nothing was run, do not open it by other means"
            ) from None


def _decode(shape: Any, dtype: Any, fortran: Any, raw: Any) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype):
        raise DamagedError(f"expected an array with a dtype, got {type(dtype).__name__}")
    kind = dtype.numpy()
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(raw, bytes):
        raise DamagedError(f"expected the bytes of an array, got {type(raw).__name__}")
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise DamagedError(f"an array of shape {shape} and dtype {kind} has {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


def _entries(path: Path, form: str, fields: dict[str, Any]) -> Entries:
    """Turn stored attributes into entries, checked as a constructor would have checked them."""
    shape = _shape(path, fields.get("_shape", fields.get("shape")))
    values = _vector(path, fields, "data", "biuf")
    if form == "coo":
        coords = fields.get("coords")  # scipy since 1.13; row and col before
        if isinstance(coords, tuple) and len(coords) == 2:
            fields = {**fields, "row": coords[0], "col": coords[1]}
        rows, columns = (_vector(path, fields, name, "iu") for name in ("row", "col"))
    elif form in ("csr", "csc"):
        minor = _vector(path, fields, "indices", "iu")
        starts = _vector(path, fields, "indptr", "iu")
        length = shape[0 if form == "csr" else 1]
        # Compared rather than subtracted: the difference of two hostile numbers can overflow.
        if len(starts) != length + 1 or starts[0] != 0 or (starts[1:] < starts[:-1]).any():
            raise DamagedError(f"{path}: indptr is not {length + 1} ascending numbers from 0")
        if starts[-1] > min(len(minor), len(values)):
            raise DamagedError(
                f"{path}: indptr speaks of {starts[-1]} entries, "
                f"but there are {len(minor)} indices and {len(values)} values"
            )
        stored = slice(starts[-1])  # what lies behind is scipy's spare room
        minor, values = minor[stored], values[stored]
        major = np.repeat(np.arange(length), np.diff(starts))
        rows, columns = (major, minor) if form == "csr" else (minor, major)
    else:
        raise DamagedError(f"{path}: expected a csr, csc or coo matrix, got format {form!r}")
    if not len(rows) == len(columns) == len(values):
        raise DamagedError(
            f"{path}: {len(rows)} rows, {len(columns)} columns and {len(values)} values"
        )
    for name, index, size in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if len(index) and not (index.min() >= 0 and index.max() < size):
            raise DamagedError(
                f"{path}: {name}s run from {index.min()} to {index.max()}, "
                f"expected 0 to {size - 1} in a matrix of shape {shape}"
            )
    return Entries(rows, columns, values, shape)


def _shape(path: Path, stored: Any) -> tuple[int, int]:
    listed = _plain(stored)
    listed = listed.tolist() if isinstance(listed, np.ndarray) else listed
    numbers = tuple(listed) if isinstance(listed, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(n, int) and 0 <= n < 2**31 for n in numbers):
        raise DamagedError(f"{path}: expected a shape of two sizes below 2**31, got {stored!r}")
    return numbers[0], numbers[1]


def _vector(path: Path, fields: dict[str, Any], name: str, kinds: str) -> NDArray[Any]:
    vector = _plain(fields.get(name))
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.dtype.kind not in kinds:
        got = (vector.shape, vector.dtype) if isinstance(vector, np.ndarray) else type(vector)
        raise DamagedError(f"{path}: expected {name!r} to be a vector of numbers, got {got}")
    return vector if "f" in kinds else vector.astype(np.int64)


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value
