"""Folders of images, one folder a class, read by Pillow (the extra ``images``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnc.ir.model import Port
from nnc.runtime.arrays import Array
from nnc.runtime.data.columns import Labels, listed
from nnc.runtime.data.door import split_of
from nnc.runtime.data.extras import need
from nnc.runtime.data.source import Order, PortsOf, Split, is_cut
from nnc.runtime.data.stream import Indexed
from nnc.runtime.errors import UserError
from nnc.runtime.files import check_inside

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Only what decodes pixels: other formats that Pillow knows run programs or read other files."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MOST_PIXELS = 1 << 28


class Images(Indexed):
    """A folder of images by class, as indexed data (see ``stream``).

    Images are scaled until their shorter side fits, and cut to the middle. A ``u8`` input gets
    0..255, a decimal one 0..1; the second dim says whether colours, with alpha, or grey.
    """

    def __init__(
        self,
        folder: Path,
        folders: Sequence[Path],
        model: PortsOf,
        options: Mapping[str, Any],
        labels: Labels,
    ) -> None:
        need("PIL.Image", "Pillow", "images", "a folder of images")
        self._model = model
        self._image, self._class = _image_ports(model)
        self._mode = _mode(self._image)
        self._size = _size(self._image, options.get("size"))
        self._paths: list[Path] = []
        classes: list[str] = []
        for name in sorted(e.name for e in os.scandir(folder) if e.is_dir() and e.name[0] != "."):
            found = sorted(_images_below(folder / name))
            for path in found:
                check_inside(path, folders)
            self._paths += found
            classes += [name] * len(found)
        if not self._paths:
            raise UserError(
                "E0619",
                f"'{folder}' has no images in folders of their class",
                (f"images end in {', '.join(ENDINGS)}",),
                f"for each class a folder: {folder.name}/cat/1.png, {folder.name}/dog/1.png",
            )
        self.rows = len(self._paths)
        self._numbers = None
        if self._class is not None:
            labels.settle(self._class, set(classes), str(folder))
            self._numbers = labels.numbers(
                self._class, np.array(classes), lambda k: f"the folder of '{self._paths[k]}'"
            )

    def take(self, rows: Order) -> Split:
        """Read these images (see ``Indexed``)."""

        def where(name: str, place: tuple[int, ...]) -> str:
            return f"for '{self._paths[int(rows[place[0]])]}'"

        pixels = np.stack([self._pixels(self._paths[int(k)]) for k in rows])
        arrays: dict[str, Array] = {self._image.name: pixels}
        if self._class is not None and self._numbers is not None:
            arrays[self._class.name] = self._numbers[rows]
        return split_of(self._model, arrays, where)

    def _pixels(self, path: Path) -> Array:
        from PIL import Image, ImageOps

        try:
            with Image.open(path, formats=FORMATS) as found:
                if found.width * found.height > MOST_PIXELS:
                    raise UserError("E0619", f"'{path}' has {found.width} x {found.height} pixels")
                upright = ImageOps.exif_transpose(found).convert(self._mode)
                image = upright
                if self._size is not None:
                    image = ImageOps.fit(
                        upright, (self._size[1], self._size[0]), Image.Resampling.BILINEAR
                    )
                array = np.asarray(image)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as fault:
            raise UserError(
                "E0619",
                f"'{path}' cannot be read as an image",
                (str(fault).replace(str(path), "the file"),),
                "mend it or take it away",
            ) from None
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if self._image.type.dtype.is_float:
            return array.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(array)


def _images_below(folder: Path) -> list[Path]:
    return [
        Path(base) / name
        for base, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    ]


def _image_ports(model: PortsOf) -> tuple[Port, Port | None]:
    """Return the ports of images and of class numbers. Raises UserError where others are left."""
    cut = [p for p in model.ports if is_cut(p, model.batch)]
    images = [p for p in cut if p.type.rank == 4]
    classes = [p for p in cut if p.type.rank == 1 and p.type.dtype.is_int]
    if len(images) != 1 or len(classes) > 1 or len(model.ports) != len(images) + len(classes):
        raise UserError(
            "E0619",
            "a folder of images gives one image and one class a row",
            tuple(f"{p.name}: {p.type}, {p.kind} of the model" for p in model.ports),
            "declare input image: u8[batch, 3, 64, 64] and target label: i32[batch] in 0..10",
        )
    return images[0], classes[0] if classes else None


def _mode(port: Port) -> str:
    channels = port.type.shape[1]
    mode = MODES.get(channels) if isinstance(channels, int) else None
    if mode is None:
        raise UserError(
            "E0619",
            f"'{port.name}' has {channels} channels",
            ("images have 3 (colours), 4 (colours and alpha) or 1 (grey)",),
        )
    return mode


def _size(port: Port, given: Any) -> tuple[int, int]:
    """Return height and width of images, as the port or the data key says."""
    wanted = [given, given] if isinstance(given, int) else list(given or (None, None))
    for k, (declared, size) in enumerate(zip(port.type.shape[2:], wanted, strict=True)):
        if isinstance(declared, int):
            if size not in (None, declared):
                raise UserError(
                    "E0619",
                    f"images of {listed([str(w) for w in wanted])} do not fit '{port.name}'",
                    (f"the model declares {port.name}: {port.type}",),
                )
            wanted[k] = declared
    if None in wanted:
        raise UserError(
            "E0619",
            "the size of images is not known",
            (f"the model declares {port.name}: {port.type}",),
            'images("folder", size = 64), or numbers in the declaration',
        )
    return int(wanted[0]), int(wanted[1])
