"""How a model's state dict lies in one row of numbers: which key is a parameter, a buffer or fixed, and where."""

import re
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

# PyTorch's names of batch-norm statistics; they are no parameters, and a distance that counts them is no distance.
BATCH_NORM = r"(^|\.)(running_mean|running_var|num_batches_tracked)$"
_VARIANCE = re.compile(r"(^|\.)running_var$")


@dataclass(frozen=True)
class Slot:
    """One array of the state dict: its key, shape and dtype on the wire, and where its numbers lie in its row."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    kind: str  # "parameter" (in the update), "buffer" (float, combined by the median), "fixed" (the server's)
    where: slice
    is_variance: bool = False

    @property
    def size(self) -> int:
        """How many numbers the array holds."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Layout:
    """The slots of a model in the order of its state dict, and the dtype (float32 or float64) of its rows.

    Rows are float64 only where the model is; everything smaller travels through float32 without loss.
    """

    slots: tuple[Slot, ...]
    dtype: np.dtype[np.floating]

    @classmethod
    def of(cls, arrays: ArrayRecord, buffers: str = BATCH_NORM) -> "Layout":
        """The layout of a state dict; float arrays whose key matches the pattern `buffers` are no parameters.

        Raises ValueError for a pattern that is no regular expression and for a model without parameters.
        """
        try:
            pattern = re.compile(buffers) if buffers else None
        except re.error as error:
            raise ValueError(f"buffers={buffers!r} is no regular expression: {error}") from error
        slots, ends, floats = [], {"parameter": 0, "buffer": 0, "fixed": 0}, []
        for key, array in arrays.items():
            dtype = np.dtype(array.dtype)
            is_float = dtype.kind == "f"
            kind = "fixed" if not is_float else "buffer" if pattern and pattern.search(key) else "parameter"
            size = int(np.prod(array.shape, dtype=np.int64))
            where = slice(ends[kind], ends[kind] + size)
            slots.append(Slot(key, tuple(array.shape), dtype, kind, where, bool(_VARIANCE.search(key))))
            ends[kind] += size
            floats += [dtype] if kind == "parameter" else []
        if not ends["parameter"]:
            raise ValueError(f"the model has no trainable float array among its {len(slots)}: nothing to learn")
        wide = any(dtype.itemsize > 4 for dtype in floats)
        return cls(tuple(slots), np.dtype(np.float64 if wide else np.float32))

    @property
    def num_parameters(self) -> int:
        """d, the length of an update."""
        return sum(slot.size for slot in self.slots if slot.kind == "parameter")

    @property
    def num_buffers(self) -> int:
        """How many numbers the float buffers hold."""
        return sum(slot.size for slot in self.slots if slot.kind == "buffer")

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
                (parameters if slot.kind == "parameter" else buffers)[slot.where] = value.reshape(-1)
        return Model(self, parameters, buffers, fixed)


@dataclass(frozen=True)
class Model:
    """The server's model: parameters (d,), float buffers (p,), and arrays that stay as they are."""

    layout: Layout
    parameters: NDArray[np.floating]
    buffers: NDArray[np.floating]
    fixed: dict[str, NDArray[np.generic]]

    def arrays(self) -> ArrayRecord:
        """The state dict as Flower sends it, in the order, shapes and dtypes it came in."""
        record = ArrayRecord()
        for slot in self.layout.slots:
            if slot.kind == "fixed":
                value = self.fixed[slot.key]
            else:
                row = self.parameters if slot.kind == "parameter" else self.buffers
                value = row[slot.where].astype(slot.dtype).reshape(slot.shape)
            record[slot.key] = Array(value)
        return record

    def stepped(self, step: NDArray[np.float64], buffers: NDArray[np.floating] | None = None) -> "Model":
        """theta - step, rounded to what the silos will be sent, and the buffers given (or the old ones).

        A float16 array is rounded as such: a silo's displacement is counted from the model it received.
        """
        parameters = np.empty_like(self.parameters)
        np.subtract(self.parameters, step, out=parameters, casting="same_kind")  # in float64, block by block
        for slot in self.layout.slots:
            if slot.kind == "parameter" and slot.dtype.itemsize < parameters.itemsize:
                parameters[slot.where] = parameters[slot.where].astype(slot.dtype)
        return Model(self.layout, parameters, self.buffers if buffers is None else buffers, self.fixed)


def combine_buffers(layout: Layout, buffers: NDArray[np.floating]) -> NDArray[np.floating]:
    """Coordinate-wise median (p,) over the weighted silos' buffers (c, p), variances kept at or above 0."""
    # In float64, where the mean of the two middle values cannot overflow.
    median: NDArray[np.floating] = np.median(buffers.astype(np.float64), axis=0).astype(layout.dtype)
    for slot in layout.slots:
        if slot.kind == "buffer" and slot.is_variance:
            median[slot.where] = np.maximum(median[slot.where], 0)
    return median
