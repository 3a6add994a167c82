"""How a model's state dict lies in one row of numbers: which key is a parameter, a buffer or fixed, and where."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError

# PyTorch's names of batch-norm statistics; they are no parameters, and a distance that counts them is no distance.
BATCH_NORM = r"(^|\.)(running_mean|running_var|num_batches_tracked)$"
_VARIANCE = re.compile(r"(^|\.)running_var$")
# What a row of float64 holds without loss; a complex number is two reals.
_LEARNED = tuple(np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128"))
_SHOWN = 60  # characters of a dtype that get into a sentence
_TEXT_OR_TIME = "USMm"  # NumPy's kinds of dtypes that travel and are no numbers


@dataclass(frozen=True)
class Slot:
    """One array of the state dict: how it is on the wire, what becomes of it, and where its numbers lie in its row.

    Attributes:
        key: Its name in the state dict.
        shape: Its shape.
        dtype: Its dtype on the wire.
        kind: "parameter" (in the update), "buffer" (combined by the median) or "fixed" (stays as the server has it).
        where: Where its reals lie in the row of its kind.
        is_variance: Whether it holds variances, which are never below 0.
        is_finite: Whether every value of the model sent out is finite; if not, the array is fixed.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    kind: str
    where: slice
    is_variance: bool = False
    is_finite: bool = True

    @cached_property
    def size(self) -> int:
        """How many numbers the array holds; a complex one counts once."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def real(self) -> np.dtype[np.generic]:
        """The dtype of its reals: that of the array or, where it is complex, of real and imaginary parts."""
        return np.dtype(f"{self.dtype.byteorder}f{self.dtype.itemsize // 2}") if self.is_complex else self.dtype

    @property
    def is_complex(self) -> bool:
        """Whether each of its numbers is two reals, in the order real part, imaginary part."""
        return self.dtype.kind == "c"

    @cached_property
    def header(self) -> bytes:
        """What np.save writes before the numbers of this array, stored by rows."""
        stream = io.BytesIO()
        told = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, told)
        return stream.getvalue()

    def packed(self, reals: NDArray[np.floating]) -> Array:
        """The array on the wire made of its reals, serialised: one copy of its numbers."""
        plain = reals if reals.dtype == self.dtype and not self.is_complex else self.array(reals)
        data = b"".join((self.header, np.ascontiguousarray(plain).reshape(-1).view(np.uint8).data))
        return Array(str(self.dtype), self.shape, "numpy.ndarray", data)

    def reals(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """These values of the array, flat, as reals: twice as many where it is complex; exact, a view if it can be."""
        flat = values if values.ndim == 1 else values.reshape(-1)
        return np.ascontiguousarray(flat).view(self.real) if self.is_complex else flat

    def array(self, reals: NDArray[np.floating]) -> NDArray[np.generic]:
        """The array on the wire made of its reals."""
        return reals.astype(self.real).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Layout:
    """The slots of a model in the order of its state dict, and the dtype of its rows.

    Attributes:
        slots: One slot for each array of the state dict.
        dtype: The dtype of the rows: float64 only where the model is, else float32. Everything smaller travels through
            float32 without loss.
    """

    slots: tuple[Slot, ...]
    dtype: np.dtype[np.floating]

    @classmethod
    def of(cls, arrays: ArrayRecord, buffers: str = BATCH_NORM) -> "Layout":
        """The layout of a state dict, by the dtypes, the names and the values of the model that is sent out.

        Floats and complex numbers are parameters, or buffers where the key matches the pattern `buffers`. Fixed is
        what is no such number, and an array with a value that is not finite, such as a mask with -inf: there is no
        difference and no median of it.

        Args:
            arrays: The state dict, as it is sent to the silos.
            buffers: The pattern of the keys of buffers, a regular expression; "": no array is a buffer. By default it
                matches the buffers of a batch norm.

        Raises:
            ValueError: For a pattern that is no regular expression, a dtype whose numbers a row cannot hold, and a
                model without parameters.
        """
        try:
            pattern = re.compile(buffers) if buffers else None
        except re.error as error:
            raise InputError(f"buffers={buffers!r} is no regular expression: {error}") from error
        found = []
        for key, array in arrays.items():
            dtype = _dtype(key, array)
            kind = "fixed" if dtype.kind not in "fc" else "buffer" if pattern and pattern.search(key) else "parameter"
            size = int(np.prod(array.shape, dtype=np.int64)) * (2 if dtype.kind == "c" else 1)
            found.append((key, array, dtype, kind, size))
        # By every parameter: whether one is finite is known once the row's dtype is.
        wide = any(
            dtype.itemsize > (8 if dtype.kind == "c" else 4) for *_, dtype, kind, _ in found if kind == "parameter"
        )
        row: np.dtype[np.floating] = np.dtype(np.float64) if wide else np.dtype(np.float32)
        slots, ends = [], {"parameter": 0, "buffer": 0, "fixed": 0}
        for key, array, dtype, kind, size in found:
            is_finite = kind == "fixed" or _is_finite(array, row)
            kind = kind if is_finite else "fixed"
            where = slice(ends[kind], ends[kind] + size)
            slots.append(Slot(key, tuple(array.shape), dtype, kind, where, bool(_VARIANCE.search(key)), is_finite))
            ends[kind] += size
        if not ends["parameter"]:
            wild = ", ".join(slot.key for slot in slots if not slot.is_finite)
            why = f" ({wild}: not all values are finite)" if wild else ""
            if slots and all(slot.dtype == np.uint8 for slot in slots):
                why = (
                    ". It holds bytes, as of XGBoost's trees: trees have no parameters that could be averaged, so no "
                    "rule here applies to them; Flower's FedXgbBagging trains them, without protection"
                )
            raise InputError(f"the model has no trainable float array among its {len(slots)}: nothing to learn{why}")
        return cls(tuple(slots), row)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names of the arrays."""
        return frozenset(slot.key for slot in self.slots)

    @property
    def num_parameters(self) -> int:
        """d, the length of an update: how many reals the parameters are."""
        return self._reals("parameter")

    @property
    def num_buffers(self) -> int:
        """p, how many reals the buffers are."""
        return self._reals("buffer")

    def _reals(self, kind: str) -> int:
        return sum(slot.where.stop - slot.where.start for slot in self.slots if slot.kind == kind)

    def gradient(self, arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
        """The reals of every parameter's array in one row, (d,).

        Raises:
            ValueError: Where an array is missing or has another shape.
        """
        row = np.empty(self.num_parameters)
        for slot in self.slots:
            if slot.kind != "parameter":
                continue
            value = arrays.get(slot.key)
            if value is None or np.shape(value) != slot.shape:
                raise InputError(
                    f"the server's own review: array {slot.key!r} of shape {slot.shape} is expected, and it has "
                    f"{'none' if value is None else np.shape(value)}"
                )
            row[slot.where] = slot.reals(np.asarray(value))
        return row

    def parameter_arrays(self, row: NDArray[np.floating]) -> ArrayRecord:
        """A row of parameters, (d,), as arrays on the wire, the parameters' keys alone."""
        return ArrayRecord(
            {slot.key: Array(slot.array(row[slot.where])) for slot in self.slots if slot.kind == "parameter"}
        )

    def split(self, arrays: ArrayRecord) -> "Model":
        """The model's numbers as rows; the arrays must be those the layout was made from, or of its shape."""
        parameters = np.empty(self.num_parameters, self.dtype)
        buffers = np.empty(self.num_buffers, self.dtype)
        fixed = {}
        for slot in self.slots:
            value = arrays[slot.key].numpy()
            if slot.kind == "fixed":
                fixed[slot.key] = value.copy()
            else:
                (parameters if slot.kind == "parameter" else buffers)[slot.where] = slot.reals(value)
        return Model(self, parameters, buffers, fixed)


@dataclass(frozen=True)
class Model:
    """The server's model.

    Attributes:
        layout: Where each array of the state dict lies in the rows.
        parameters: The parameters theta, (d,).
        buffers: The float buffers, (p,).
        fixed: The arrays that stay as they are, by key.
    """

    layout: Layout
    parameters: NDArray[np.floating]
    buffers: NDArray[np.floating]
    fixed: dict[str, NDArray[np.generic]]

    def arrays(self) -> ArrayRecord:
        """The state dict as Flower sends it, in the order, shapes and dtypes it came in.

        It is serialised once, however often it is asked for: each call gives a record of its own with the same arrays.
        """
        return ArrayRecord(self._serialised)

    @cached_property
    def _serialised(self) -> dict[str, Array]:
        found = {}
        for slot in self.layout.slots:
            if slot.kind == "fixed":
                found[slot.key] = Array(self.fixed[slot.key])
            else:
                row = self.parameters if slot.kind == "parameter" else self.buffers
                found[slot.key] = slot.packed(row[slot.where])
        return found

    def stepped(
        self,
        step: NDArray[np.floating],
        buffers: NDArray[np.floating] | None = None,
        out: NDArray[np.floating] | None = None,
    ) -> "Model":
        """The model after a step: theta - step, rounded to what the silos will be sent.

        A float16 array is rounded as such: a silo's update is counted from the model it received.

        Args:
            step: The step, (d,), in float64 or in the dtype of the row.
            buffers: The new buffers, (p,); None: the old ones stay. Default: None.
            out: Where the new parameters are to lie, (d,), such as in `step` itself; None: in a new row. Default: None.
        """
        parameters = np.empty_like(self.parameters) if out is None else out
        np.subtract(self.parameters, step, out=parameters, casting="same_kind")  # in float64, block by block
        for slot in self.layout.slots:
            if slot.kind == "parameter" and slot.real.itemsize < parameters.itemsize:
                parameters[slot.where] = parameters[slot.where].astype(slot.real)
        return Model(self.layout, parameters, self.buffers if buffers is None else buffers, self.fixed)


def combine_buffers(layout: Layout, buffers: NDArray[np.floating]) -> NDArray[np.floating]:
    """The coordinate-wise median over the buffers of the silos with weight.

    Args:
        layout: The layout of the model.
        buffers: The buffers of the c silos with weight, (c, p).

    Returns:
        The median, (p,), with variances kept at or above 0.
    """
    # In float64, where the mean of the two middle values cannot overflow.
    median: NDArray[np.floating] = np.median(buffers.astype(np.float64), axis=0).astype(layout.dtype)
    for slot in layout.slots:
        if slot.kind == "buffer" and slot.is_variance:
            median[slot.where] = np.maximum(median[slot.where], 0)
    return median


def _dtype(key: str, array: Array) -> np.dtype[np.generic]:
    """The dtype of an array of the state dict. Raises ValueError for one that can neither be learned nor be kept."""
    try:
        dtype = np.dtype(array.dtype)
    except TypeError:
        dtype = None
    if dtype is not None and (
        dtype.newbyteorder("=") in _LEARNED or dtype.kind in "biu" or dtype.kind in _TEXT_OR_TIME
    ):
        return dtype
    raise InputError(
        f"array {key!r} is {array.dtype[:_SHOWN]}: float16, float32, float64, complex64 or complex128 is expected of "
        "what is learned; convert the model, for instance with model.float()"
    )


def _is_finite(array: Array, row: np.dtype[np.floating]) -> bool:
    """Whether every value is finite in a row of this dtype."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.numpy()
        narrower = np.result_type(row, np.complex64) if values.dtype.kind == "c" else row
        return bool(np.all(np.isfinite(values.astype(narrower, copy=False))))
