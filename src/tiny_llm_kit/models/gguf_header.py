"""Is the header of a GGUF file sound? MLX's reader follows the counts, lengths and offsets in it wherever they lead.

So they are checked against the file's size here, before MLX opens the file. What the header says about the model is ignored.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from pathlib import Path

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_LARGEST = 2**31 - 1  # MLX counts in int32

# Metadata: bytes of a value, by the number of its type.
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8}
_UINT32, _STRING, _ARRAY, _FLOAT64 = 4, 8, 9, 12

# Tensors: numbers in a block and bytes of a block, by the number of the type. These are the types that MLX reads.
_BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    12: (256, 144),  # Q4_K
    14: (256, 210),  # Q6_K
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    30: (1, 2),  # BF16
}


def check_gguf_header(file: Path) -> None:
    """Raise ValueError, which names the field at fault, unless everything that the header describes lies within the file."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        try:
            _Header(contents).check()
        except ValueError as error:
            raise ValueError(
                f"{file} cannot be read as GGUF: {error}. Download it again, or choose a file of Q4_0, Q4_1, Q8_0 or F16"
            ) from None


class _Header:
    """Reads the header from front to back; `at` is the place of the next byte."""

    def __init__(self, contents: mmap.mmap) -> None:
        self.contents = contents
        self.size = len(contents)
        self.at = 0
        self.alignment = 32

    def check(self) -> None:
        if self._bytes(4, "the first word") != b"GGUF":
            raise ValueError("it does not begin with 'GGUF'")
        if (version := self._u32("the version")) not in (2, 3):
            raise ValueError(f"version {version} is not known: 2 and 3 are")
        num_tensors, num_keys = self._u64("the number of tensors"), self._u64("the number of metadata keys")
        keys: set[str] = set()
        for _ in range(num_keys):
            self._check_metadata(keys)
        extents: dict[str, tuple[int, int]] = {}
        for _ in range(num_tensors):
            self._check_tensor(extents)
        self._check_data(extents)

    def _check_metadata(self, keys: set[str]) -> None:
        key = self._name("a metadata key")
        if key in keys:
            raise ValueError(f"metadata {key!r} is there twice")
        keys.add(key)
        what = f"metadata {key!r}"
        type_, start = self._u32(what), self.at
        self._skip_value(type_, what)
        if key == "general.alignment":
            self.alignment = _U32.unpack_from(self.contents, start)[0] if type_ == _UINT32 else 0
            if self.alignment == 0 or self.alignment % 8:
                raise ValueError(f"{what} must be a uint32 that is a multiple of 8")

    def _skip_value(self, type_: int, what: str) -> None:
        if type_ == _STRING:
            self._skip_strings(1, what)
        elif type_ == _ARRAY:
            element, count = self._u32(what), self._u64(what)
            if count > _LARGEST:
                raise ValueError(f"{what} has {count} elements, which is more than MLX can count")
            if element == _STRING:
                self._skip_strings(count, what)
            else:
                self._take(count * _scalar_bytes(element, what), what)
        else:
            self._take(_scalar_bytes(type_, what), what)

    def _skip_strings(self, count: int, what: str) -> None:
        for _ in range(count):
            length = self._u64(what)
            if length > _LARGEST:
                raise ValueError(f"{what} has a string of {length} bytes, which is more than MLX can count")
            self._take(length, what)

    def _check_tensor(self, extents: dict[str, tuple[int, int]]) -> None:
        """Add (offset, bytes) of the next tensor, counted from where the data begins."""
        name = self._name("a tensor's name")
        if name in extents:
            raise ValueError(f"tensor {name!r} is there twice")
        what = f"tensor {name!r}"
        ndim = self._u32(what)
        if not 1 <= ndim <= 4:
            raise ValueError(f"{what} has {ndim} dimensions: GGUF allows 1 to 4")
        dims = [self._u64(what) for _ in range(ndim)]
        type_, offset = self._u32(what), self._u64(what)
        if type_ not in _BLOCKS:
            raise ValueError(f"{what} has type {type_}, which MLX does not read")
        numbers, num_bytes = _BLOCKS[type_]
        if dims[0] % numbers:
            raise ValueError(f"{what} of type {type_} has rows of {dims[0]} numbers, but its blocks hold {numbers}")
        count = 1
        for dim in dims:
            if not 1 <= dim <= _LARGEST:
                raise ValueError(f"{what} has a dimension of {dim}")
            count *= dim
        if offset % self.alignment:
            raise ValueError(f"{what} is at offset {offset}, which is not a multiple of {self.alignment}")
        extents[name] = (offset, count // numbers * num_bytes)

    def _check_data(self, extents: dict[str, tuple[int, int]]) -> None:
        """The tensors lie in the file, and no byte belongs to two: a small file cannot ask for much memory."""
        data = self.at + -self.at % self.alignment
        free = data
        for name, (offset, num_bytes) in sorted(extents.items(), key=lambda item: item[1]):
            if data + offset < free:
                raise ValueError(f"tensor {name!r} overlaps the one before it")
            free = data + offset + num_bytes
            if free > self.size:
                raise ValueError(f"tensor {name!r} ends at byte {free}, after the end of the file at {self.size}")

    def _name(self, what: str) -> str:
        start = self.at
        try:
            return self._bytes(self._u64(what), what).decode()
        except UnicodeDecodeError:
            raise ValueError(f"{what} at byte {start} is not UTF-8") from None

    def _bytes(self, count: int, what: str) -> bytes:
        start = self._take(count, what)
        return self.contents[start : self.at]

    def _u32(self, what: str) -> int:
        return _U32.unpack_from(self.contents, self._take(4, what))[0]

    def _u64(self, what: str) -> int:
        return _U64.unpack_from(self.contents, self._take(8, what))[0]

    def _take(self, num_bytes: int, what: str) -> int:
        """Step over `num_bytes` and return where they begin."""
        start = self.at
        self.at += num_bytes
        if self.at > self.size:
            raise ValueError(f"{what} runs to byte {self.at}, after the end of the file at {self.size}")
        return start


def _scalar_bytes(type_: int, what: str) -> int:
    if type_ == _FLOAT64:
        raise ValueError(f"{what} is a float64, which MLX misreads")
    if type_ not in _SCALAR_BYTES:
        raise ValueError(f"{what} has type {type_}, which is not known here")
    return _SCALAR_BYTES[type_]
