"""JSON documents with declared types: one `Document` for each kind of file that Eckart reads.

A document's types are a frozen dataclass, checked by msgspec. An entry of another type is refused by its
place in the document::

    `adapter_config.json: rank_pattern`: expected an object of whole numbers or null, found a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from eckart.errors import CheckpointError, EckartError, InputError
from eckart.schemas import explain, undeclared
from eckart.strictjson import DOWNLOAD_AGAIN, MAX_BYTES, parse_json, read_bytes
from eckart.text import clip

T = TypeVar("T")


@dataclass(frozen=True)
class Document(Generic[T]):
    """A kind of JSON document: its types, and the error for a file that is not one.

    Parameters
    ----------
    schema : type
        A dataclass, or another type that ``msgspec.convert`` supports. An error in its ``__post_init__``
        (ValueError or TypeError) becomes the message.
    name : str
        What the document is, e.g. ``"the configuration"``.
    error : type
        Class of the exception for a document that is not valid.
    fix : str
        Third part of the error messages.
    is_ours : bool
        Whether only Eckart writes such documents. Keys that the types do not declare are then refused;
        otherwise they are ignored.
    limit : int
        Largest size of a file, in bytes.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     y: float = 0.0
    >>> points = Document(dict[str, Point], "the points")
    >>> points.parse(b'{"a": {"x": 3}}', "points.json")
    {'a': Point(x=3.0, y=0.0)}
    >>> points.parse(b'{"a": {"x": "3"}}', "points.json")
    Traceback (most recent call last):
    eckart.errors.CheckpointError: `points.json: a.x`: expected a number, found "3". Download ...
    """

    schema: type[T]
    name: str
    error: type[InputError] = CheckpointError
    fix: str = DOWNLOAD_AGAIN
    is_ours: bool = False
    limit: int = MAX_BYTES

    def read(self, path: Path) -> T:
        """Read a file.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        T
            Its contents.

        Raises
        ------
        InputError
            As the class `error`, if the file cannot be read or is not such a document.
        """
        return self.convert(self.load(path), str(path))

    def load(self, path: Path) -> Any:
        """Read and parse a file without checking its types. See `read`.

        Parameters
        ----------
        path : Path
            The file.
        """
        return parse_json(
            read_bytes(path, self.error, self.limit), str(path), self.name, self.error, self.fix
        )

    def parse(self, raw: bytes, where: str) -> T:
        """Parse the bytes of a document and check its types.

        Parameters
        ----------
        raw : bytes
            The document in UTF-8.
        where : str
            The file, for the error message.

        Returns
        -------
        T
            Its contents.

        Raises
        ------
        InputError
            As the class `error`, if the bytes are not such a document.
        """
        return self.convert(parse_json(raw, where, self.name, self.error, self.fix), where)

    def convert(self, value: object, where: str) -> T:
        """Check the types of a parsed document.

        Parameters
        ----------
        value : object
            The parsed document.
        where : str
            The file, for the error message.

        Returns
        -------
        T
            Its contents.

        Raises
        ------
        InputError
            As the class `error`, if an entry is missing or has another type. The message names its place.
        """
        import msgspec  # 45 ms

        try:
            result: T = msgspec.convert(value, self.schema)
        except msgspec.ValidationError as reason:
            place, what = explain(str(reason), value, self.schema, self.name)
            raise self.error(f"{where}: {clip(place)}" if place else where, what, self.fix) from None
        except EckartError as reason:  # from the check of a dataclass
            raise self.error(where, clip(f"{reason.where}: {reason.what}"), self.fix) from None
        except UnicodeEncodeError:  # half a surrogate pair, in a value that parse_json has not seen
            raise self.error(where, f"{self.name} is not valid Unicode", self.fix) from None
        if self.is_ours:
            for place in undeclared(value, self.schema, ""):
                raise self.error(f"{where}: {clip(place)}", "this entry is unknown", self.fix)
        return result
