"""The files of an image folder: which are pictures of which class, and what else lies there and is not read."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.matching import alike, resemblances, shown
from fedlaw_flwr.records.spelling import clean

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files are taken for pictures by these endings, in capitals as well."""

# What file managers, servers, archives and notebooks leave in a folder; beside everything that begins with a point.
_TOOLS = {
    "@eadir",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "__macosx",
    "__pycache__",
    "icon\r",
}
_TOOLS |= {"system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "thumbnails", "thumbs"}
_TOOLS |= {"network trash folder", "temporary items"}
_TOOLS_OWN = "are hidden or a tool's own"


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        pictures: Each picture's path and the position of its class, in the order of paths.
        skipped: Why something was not read, with the paths of it.
        deeper: How many pictures lie in folders within a class' folder.
    """

    pictures: list[tuple[Path, int]] = field(default_factory=list)
    skipped: dict[str, list[Path]] = field(default_factory=dict)
    deeper: int = 0

    def skip(self, why: str, path: Path) -> None:
        """Notes what is not read."""
        self.skipped.setdefault(why, []).append(path)


def find(root: Path, classes: Sequence[str]) -> Found:
    """The pictures in root/CLASS/, at any depth, for every agreed class that has a folder.

    Not read are hidden things and those of tools, files of other endings, files beside the classes' folders, and links
    that lead nowhere, to a folder above or to what is read anyway.

    Args:
        root: The folder that holds the classes' folders.
        classes: The agreed classes; a picture's label is the position of its class in this order.

    Raises:
        ValueError: For a folder of another name, one that cannot be listed, and a picture or folder that is there for
            two classes.
    """
    found, folders, strange = Found(), dict[Path, int](), list[str]()
    for path in _listing(root):
        name = clean(path.name)
        if path.is_dir() and name in classes:
            folders[path] = list(classes).index(name)
        elif _tool(path):
            found.skip(_TOOLS_OWN, path)
        elif path.is_dir():
            strange.append(name)
        else:
            found.skip("lie beside the classes' folders", path)
    if strange:
        like = [f"{alike(name, other)}: rename it" for name, other in resemblances(strange, classes).items()]
        named = ", ".join(map(shown, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
        hint = f"; {'; '.join(like)}" if like else ""
        raise InputError(f"{root} has the folder {named}; agreed classes are {', '.join(classes)}{hint}")
    # Real paths: a folder read under two names would count its pictures twice, or for two classes.
    walk = _Walk(found, {path.resolve(): path for path in folders})
    for path, label in folders.items():
        if walk.classes[path.resolve()] != path:
            raise InputError(f"{path} and {walk.classes[path.resolve()]} are one folder: one of them is wrong")
        walk.take(path, label, nested=False)
    found.pictures.sort()
    return found


@dataclass
class _Walk:
    """A walk through the classes' folders. classes: their real paths; read, files: the real paths taken so far."""

    found: Found
    classes: dict[Path, Path]
    read: set[Path] = field(default_factory=set)
    files: dict[Path, tuple[Path, int]] = field(default_factory=dict)

    def take(self, folder: Path, label: int, nested: bool = True) -> None:
        """Takes what is in this folder and those within it."""
        here = folder.resolve()
        self.read.add(here)
        for path in _listing(folder):
            if _tool(path):
                self.found.skip(_TOOLS_OWN, path)
            elif path.is_symlink() and not path.exists():
                self.found.skip("are links that lead nowhere", path)
            elif path.is_dir():
                if path.is_symlink() and self._astray(path.resolve()):
                    self.found.skip("are links to a folder above or to one that is read anyway", path)
                else:
                    self.take(path, label)
            elif path.suffix.lower() in SUFFIXES:
                self._picture(path, path.resolve() if path.is_symlink() else here / path.name, label, nested)
            else:
                ending = f"end in {path.suffix.lower()}" if path.suffix else "have no ending"
                self.found.skip(f"{ending} (pictures end in {', '.join(SUFFIXES)})", path)

    def _astray(self, real: Path) -> bool:
        """Whether a link to this folder leads to one above, to one that is read, or to a class' own."""
        known = {*self.classes, *self.read}
        return any(real == other or real in other.parents for other in known) or any(
            other in real.parents for other in self.classes
        )

    def _picture(self, path: Path, real: Path, label: int, nested: bool) -> None:
        other, its_label = self.files.setdefault(real, (path, label))
        if its_label != label:
            raise InputError(f"{path} and {other} are one file in two classes: remove the link from one of them")
        if other != path:
            self.found.skip("are links to a picture that is read anyway", path)
            return
        self.found.pictures.append((path, label))
        self.found.deeper += nested


def summary(found: Found, root: Path, classes: Sequence[str]) -> list[str]:
    """Sentences about what was not read and why, with what was; none where all was."""
    counts = Counter(label for _, label in found.pictures)
    taken = ", ".join(f"{counts[label]} of {name}" for label, name in enumerate(classes))
    said = [
        f"{root}: not read because they {why}: {len(paths)}, as {_named(paths, root)}"
        for why, paths in found.skipped.items()
    ]
    if found.deeper:
        said.append(f"{root}: {found.deeper} pictures lie in folders within a class' folder, and are read")
    return [*said, f"{root}: read are {taken}"] if said else []


def _named(paths: Collection[Path], root: Path) -> str:
    names = [str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in sorted(paths)[:3]]
    return ", ".join(map(shown, names)) + (", ..." if len(paths) > 3 else "")


def _tool(path: Path) -> bool:
    return path.name.startswith((".", "~$")) or path.name.lower() in _TOOLS


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: it cannot be listed: {error.strerror}") from None
