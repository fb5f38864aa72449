"""Matrices come out of a pickle as they went in; nothing else in a pickle ever gets to run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from nmtr.data import unpickle
from nmtr.data.unpickle import Entries, read_npz, read_pickle
from nmtr.errors import DamagedError

DENSE = np.array([[0, 5, 0, 1], [0, 0, 0, 0], [7, 0, 0, 2]])


def save(folder: Path, content: object) -> Path:
    path = folder / "matrix.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def dense(entries: Entries) -> "np.ndarray[Any, Any]":
    matrix = np.zeros(entries.shape, entries.values.dtype)
    matrix[entries.rows, entries.columns] = entries.values
    return matrix


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float32", "float64"])
@pytest.mark.parametrize(
    "kind",
    [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.csc_array, sp.coo_array],
)
def test_a_pickled_matrix_comes_back(
    tmp_path: Path, kind: Callable[[Any], Any], dtype: str, protocol: int
) -> None:
    matrix = kind(DENSE.astype(dtype))
    entries = read_pickle(save(tmp_path, pickle.dumps(matrix, protocol)))
    assert entries.shape == (3, 4)
    assert entries.values.dtype == matrix.dtype
    np.testing.assert_array_equal(dense(entries), DENSE.astype(dtype))


def test_a_pickle_of_python_2_comes_back(tmp_path: Path) -> None:
    """There, text and bytes are one type, and numpy and scipy have the module names of old."""
    base: Any = vars(pickle)["_Pickler"]

    def save_str(pickler: Any, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        pickler.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)

    class Python2Pickler(base):  # type: ignore[misc]
        dispatch = base.dispatch | {str: save_str, bytes: save_str}

    path = tmp_path / "old.pkl"
    with path.open("wb") as file:
        Python2Pickler(file, 2).dump(sp.csr_matrix(DENSE * 200.0))
    old = path.read_bytes().replace(b"numpy._core.", b"numpy.core.").replace(b"._csr\n", b".csr\n")
    assert b"scipy.sparse.csr\ncsr_matrix" in old
    assert b"numpy.core.multiarray\n_reconstruct" in old
    path.write_bytes(old)
    np.testing.assert_array_equal(dense(read_pickle(path)), DENSE * 200.0)


def test_a_coo_matrix_of_older_scipy_comes_back(tmp_path: Path) -> None:
    matrix = sp.coo_matrix(DENSE)
    fields = vars(matrix)
    fields["row"], fields["col"] = fields.pop("coords")
    np.testing.assert_array_equal(dense(read_pickle(save(tmp_path, matrix))), DENSE)


def test_a_big_endian_pickle_has_the_same_numbers(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(DENSE)
    vars(matrix)["data"] = matrix.data.astype(">i4")
    np.testing.assert_array_equal(dense(read_pickle(save(tmp_path, matrix))), DENSE)


def test_a_shape_of_numpy_integers_is_a_shape(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(DENSE)
    vars(matrix)["_shape"] = (np.int64(3), np.int64(4))
    assert read_pickle(save(tmp_path, matrix)).shape == (3, 4)


class Evil:
    """On unpickling, writes a file named canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("nested", ["alone", "as an attribute", "in an array", "as a shape"])
def test_a_command_is_never_run(tmp_path: Path, nested: str) -> None:
    canary = tmp_path / "canary"
    matrix = sp.csr_matrix(DENSE)
    content: object = matrix
    if nested == "alone":
        content = Evil(canary)
    elif nested == "as an attribute":
        vars(matrix)["maxprint"] = Evil(canary)
    elif nested == "in an array":
        vars(matrix)["data"] = np.array([Evil(canary)] * 4, dtype=object)
    else:
        vars(matrix)["_shape"] = (Evil(canary), 4)
    with pytest.raises(
        DamagedError, match=rf"matrix\.pkl: .*asks for {os.system.__module__}\.system"
    ):
        read_pickle(save(tmp_path, content))
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins getattr",
        "__builtin__ object",
        "copyreg _reconstructor",
        "_codecs encode",
        "numpy load",
        "numpy fromfile",
        "numpy memmap",
        "numpy dtype.__class__",
        "numpy._core.multiarray fromfile",
        "numpy.core.multiarray frombuffer",
        "numpy.testing._private.utils runstring",
        "scipy.sparse load_npz",
        "scipy.sparse._csr np",
        "scipy.sparse._csr csr_matrix.__init__",
        "scipy.sparse._lil lil_matrix",
        "nmtr.data.unpickle Path",
    ],
)
@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST"])
def test_every_other_name_is_refused_and_said(tmp_path: Path, name: str, opcode: str) -> None:
    module, attribute = (part.encode() for part in name.split())
    text = {
        "GLOBAL": b"c%b\n%b\n(S'1'\ntR." % (module, attribute),
        "STACK_GLOBAL": b"\x80\x04\x8c%c%b\x8c%c%b\x93(\x8c\x011tR."
        % (len(module), module, len(attribute), attribute),
        "INST": b"(S'1'\ni%b\n%b\n." % (module, attribute),
    }[opcode]
    with pytest.raises(DamagedError, match=name.replace(" ", r"\.")):
        read_pickle(save(tmp_path, text))


@pytest.mark.parametrize("admitted", sorted(" ".join(key) for key in unpickle._ADMITTED))
def test_an_admitted_class_cannot_be_altered(tmp_path: Path, admitted: str) -> None:
    """BUILD with a pair sets attributes on any object that has no __setstate__ of its own."""
    module, name = (part.encode() for part in admitted.split())
    with pytest.raises(DamagedError):
        read_pickle(save(tmp_path, b"c%b\n%b\n(N(dS'hacked'\nI1\nstb." % (module, name)))
    assert not hasattr(unpickle._ADMITTED[module.decode(), name.decode()], "hacked")


HOSTILE = {
    "an index past the shape": {"indices": np.array([1, 4, 0, 3])},
    "a negative index": {"indices": np.array([1, -1, 0, 3])},
    "too few row starts": {"indptr": np.array([0, 2, 4])},
    "row starts that fall": {"indptr": np.array([0, 3, 2, 4])},
    "row starts that fall so far that their difference wraps": {
        "indptr": np.array([0, 2**62, -(2**62) - 2**61 - 1, 4])
    },
    "row starts past the entries": {"indptr": np.array([0, 2, 2, 5])},
    "a first row start other than 0": {"indptr": np.array([1, 2, 2, 4])},
    "too few values": {"data": np.array([5, 1, 7])},
    "values in two dimensions": {"data": np.array([[5, 1, 7, 2]])},
    "values that are objects": {"data": np.array([5, 1, 7, None])},
    "values that are text": {"data": np.array(list("abcd"))},
    "fractional indices": {"indices": np.array([1.5, 3.0, 0.0, 3.0])},
    "no indices": {"indices": None},
    "a shape of one size": {"_shape": (3,)},
    "a shape of text": {"_shape": "34"},
    "a negative shape": {"_shape": (3, -4)},
    "a shape beyond int32": {"_shape": (3, 2**31)},
    "no shape": {"_shape": None},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_arrays_that_make_no_matrix_are_refused(tmp_path: Path, what: str) -> None:
    matrix = sp.csr_matrix(DENSE)
    vars(matrix).update(HOSTILE[what])
    with pytest.raises(DamagedError, match=r"matrix\.pkl: "):
        read_pickle(save(tmp_path, matrix))


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_matrix_without_attributes_is_refused(tmp_path: Path, protocol: int) -> None:
    made = {1: b"cscipy.sparse.csr\ncsr_matrix\n)R.", 2: b"cscipy.sparse.csr\ncsr_matrix\n)\x81."}
    with pytest.raises(DamagedError, match=r"matrix\.pkl: expected a shape"):
        read_pickle(save(tmp_path, made[protocol]))


def test_coordinates_that_make_no_matrix_are_refused(tmp_path: Path) -> None:
    for coords in ((np.arange(4), np.arange(3)), (np.arange(4),), None, (np.arange(4),) * 2):
        matrix = sp.coo_matrix(DENSE)  # the last has row 3 of 3
        vars(matrix)["coords"] = coords
        with pytest.raises(DamagedError, match=r"matrix\.pkl: "):
            read_pickle(save(tmp_path, matrix))


def test_the_spare_room_behind_a_matrix_is_no_entry(tmp_path: Path) -> None:
    matrix = sp.csr_matrix(DENSE)
    vars(matrix).update(indices=np.array([1, 3, 0, 3, 99]), data=np.array([5, 1, 7, 2, 99]))
    np.testing.assert_array_equal(dense(read_pickle(save(tmp_path, matrix))), DENSE)


def test_a_cut_pickle_is_damaged_wherever_the_cut_is(tmp_path: Path) -> None:
    whole = pickle.dumps(sp.csr_matrix(DENSE))
    for length in range(len(whole)):
        with pytest.raises(DamagedError, match="expected"):
            read_pickle(save(tmp_path, whole[:length]))


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", [1, 2], DENSE, {"_shape": (3, 4)}])
def test_what_is_no_matrix_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(DamagedError, match="expected a pickled sparse matrix"):
        read_pickle(save(tmp_path, content))


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array])
def test_a_saved_npz_comes_back(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    sp.save_npz(tmp_path / "adjacency.npz", kind(DENSE))
    np.testing.assert_array_equal(dense(read_npz(tmp_path / "adjacency.npz")), DENSE)


def test_an_npz_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    path, canary = tmp_path / "adjacency.npz", tmp_path / "canary"
    np.savez(path, format=np.array(b"csr"), data=np.array([Evil(canary)], dtype=object))
    with pytest.raises(DamagedError, match=r"adjacency\.npz: .*allow_pickle"):
        read_npz(path)
    assert not canary.exists()


def test_an_npz_that_is_no_matrix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adjacency.npz"
    for fields in (
        {"data": DENSE},
        {"format": np.array(b"bsr"), "data": DENSE[0], "shape": [3, 4]},
    ):
        np.savez(path, **fields)
        with pytest.raises(DamagedError, match=r"adjacency\.npz: "):
            read_npz(path)
    for content in (b"", b"PK\x03\x04 cut short", b"404: Not Found"):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"adjacency\.npz: "):
            read_npz(path)
