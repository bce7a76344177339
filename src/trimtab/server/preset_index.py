"""Index of presets: those that come with trimtab, and TOML files in a folder that may change while it serves."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from threading import RLock
from typing import Any, final

from pydantic import ValidationError

from trimtab.errors import SteeringError, TrimtabError, near_names
from trimtab.server.errors import RequestError
from trimtab.server.presets import Flow, Preset, PresetFields, Stage
from trimtab.server.vectors import NAME, VectorIndex, checked_name
from trimtab.steering import Steering
from trimtab.steering.conditions import comparisons
from trimtab.steering.expression import parse_condition
from trimtab.vectors import write_atomically

logger = logging.getLogger("trimtab.server")
MAX_BYTES = 1024**2  # of a preset's file
MAX_FILES = 1_000


@dataclass(frozen=True)
class PresetFile:
    """Preset as it was last read.

    Attributes:
        fields: What the last good version of the file has; None if there was none.
        shipped: Whether it comes with trimtab.
        problem: Why the file, or what it steers by, is not usable now; None if it is.
    """

    fields: PresetFields | None
    shipped: bool
    problem: str | None = None
    changed: tuple[int, int] | None = None  # when, and its size


@final
class PresetIndex(Mapping[str, Preset]):
    """Presets by name.

    A file that becomes malformed is reported, and its last good version serves on.

    Args:
        vectors: The vectors that presets may name.
        folder: Folder of ``NAME.toml`` files, which come before those of trimtab.
    """

    def __init__(self, vectors: VectorIndex, *, folder: Path) -> None:
        self.folder = folder
        self._vectors = vectors
        self._shipped = dict(_shipped())
        self._lock = RLock()
        self.files: Mapping[str, PresetFile] = {}
        self._presets: Mapping[str, Preset] = {}
        self.refresh()

    def __getitem__(self, name: str) -> Preset:
        return self._presets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __len__(self) -> int:
        return len(self._presets)

    def refresh(self) -> None:
        """Read what is new or has changed, and find the vectors of all presets again."""
        with self._lock:
            files = {name: PresetFile(fields, shipped=True) for name, fields in self._shipped.items()}
            for path in sorted(self.folder.glob("*.toml"))[:MAX_FILES] if self.folder.is_dir() else ():
                if NAME.fullmatch(path.stem) and (file := self._file(path)) is not None:
                    files[path.stem] = file
            presets: dict[str, Preset] = {}
            for flows in (False, True):  # flows name other presets
                for name, file in files.items():
                    if file.fields is None or (file.fields.flow is not None) != flows:
                        continue
                    try:
                        presets[name] = self._preset(file.fields, presets)
                        if file.shipped:
                            _check_safe(presets[name].steering)
                    except TrimtabError as error:
                        presets.pop(name, None)
                        files[name] = PresetFile(file.fields, file.shipped, error.problem, file.changed)
            self._report(files)
            self.files, self._presets = files, dict(sorted(presets.items()))

    def put(self, name: str, fields: PresetFields) -> PresetFile:
        """Write a preset's file; another one of its name is replaced.

        Raises:
            RequestError: It cannot be used: the message has the reason.
            OutputError: The file cannot be written.
        """
        import tomli_w

        try:
            self._preset(fields, self._presets)
        except TrimtabError as error:
            raise RequestError(error.problem, fix=error.fix, param="steering", code=error.code) from None
        given = _without_nulls(fields.model_dump(exclude_unset=True, by_alias=True))
        try:
            content = tomli_w.dumps(given).encode()
        except (UnicodeEncodeError, TypeError, ValueError):
            raise RequestError("the preset has text that is no Unicode", fix="drop lone surrogates") from None
        if len(content) > MAX_BYTES:
            raise RequestError(f"the preset has more than {MAX_BYTES:,} bytes", fix="shorten it", status=413)
        with self._lock:
            write_atomically(self.folder / f"{checked_name(name)}.toml", content)
            self.refresh()
            return self.files[name]

    def delete(self, name: str) -> None:
        """Delete a preset's file; one of trimtab that it has replaced appears again.

        Raises:
            RequestError: There is none, or it comes with trimtab.
        """
        with self._lock:
            file = self.file(name)
            if file.shipped:
                raise RequestError(
                    f"the preset {name!r} comes with trimtab", fix="replace it by one that is unlisted", status=409
                )
            with suppress(FileNotFoundError):
                next(path for path in self.folder.glob("*.toml") if path.stem == name).unlink()
            self.refresh()

    def file(self, name: str) -> PresetFile:
        """Return a preset as its file has it.

        Raises:
            RequestError: There is none of this name.
        """
        if name not in self.files:
            fix = near_names(name[:64], list(self.files)) or "GET /v1/presets has all"
            raise RequestError(f"there is no preset {name[:64]!r}", fix=fix, status=404, code="not_found")
        return self.files[name]

    def _file(self, path: Path) -> PresetFile | None:
        """Return a file, read if it is new or has changed; None if it is gone."""
        known = self.files.get(path.stem)
        good = None if known is None or known.shipped else known.fields  # the last good version
        if known is not None and known.shipped:
            known = None
        try:
            status = path.stat()
            changed = (status.st_mtime_ns, status.st_size)
            if known is not None and known.changed == changed:
                return known if known.fields is None else PresetFile(known.fields, False, _of_file(known), changed)
            text = path.read_text(encoding="utf-8") if status.st_size <= MAX_BYTES else None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            return PresetFile(good, False, f"{BROKEN}{error}", None)
        try:
            if text is None:
                raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
            return PresetFile(PresetFields.model_validate(tomllib.loads(text)), False, None, changed)
        except (ValueError, RecursionError, TrimtabError) as error:
            return PresetFile(good, False, f"{BROKEN}{_first(error)}", changed)

    def _preset(self, fields: PresetFields, others: Mapping[str, Preset]) -> Preset:
        """Return a preset with its vectors found.

        Raises:
            TrimtabError: The steering is none, names a vector that there is not, or a rule has no condition; or a flow
                names a preset that there is not.
        """
        if fields.flow is not None:
            stages = {}
            for name, stage in fields.flow.stages.items():
                if stage.preset not in others or others[stage.preset].flow is not None:
                    fix = near_names(stage.preset, list(others)) or "write it first"
                    raise SteeringError(f"the stage {name!r} names no preset: {stage.preset!r}", fix=fix)
                when = None if stage.when is None else parse_condition(stage.when, find=self._vectors.find)
                if when is not None and any(each.at == "token" for each in comparisons(when)):
                    fix = "read it at prompt, or at last-user-turn"
                    raise SteeringError(f"the stage {name!r} is chosen before any token is written", fix=fix)
                stages[name] = Stage(stage.preset, stage.answer or name, when)
            flow = Flow(stages, fields.flow.question)
            return Preset(flow=flow, unlisted=fields.unlisted, metadata=fields.metadata)
        steering = Steering.of(fields.steering, find=self._vectors.find, paths=False)
        for text in fields.rules:
            rule = Steering.of(text, find=self._vectors.find, paths=False)
            if any(term.condition is None for term in rule.terms):
                raise SteeringError(f"the rule {text!r} has no condition", fix="add one: when VECTOR > 1")
            steering += rule
        steering.compile(self._vectors.model)
        defaults = fields.defaults.model_dump(exclude_unset=True, by_alias=True)
        for vector in defaults.get("readings") or ():
            self._vectors.find(vector)
        return Preset(
            steering=steering,
            system=fields.system,
            defaults=defaults,
            locked=frozenset(fields.locked),
            unlisted=fields.unlisted,
            metadata=fields.metadata,
        )

    def _report(self, files: Mapping[str, PresetFile]) -> None:
        """Log what has become unusable since the last time; shipped presets may be of another model's vectors."""
        for name, file in files.items():
            before = self.files.get(name)
            if file.problem and not file.shipped and (before is None or before.problem != file.problem):
                logger.warning("preset %s: %s", name, file.problem)


BROKEN = "its file is malformed: "


def _check_safe(steering: Steering) -> None:
    """Refuse a steering beyond the safe range of a vector; that of another model may be narrower."""
    for term in steering.terms:
        if term.beyond_safe is not None:
            raise SteeringError(f"{term} is {term.beyond_safe}", fix="write a preset of this name for this model")


def _of_file(file: PresetFile) -> str | None:
    """Return the problem of a file itself; that of its vectors is found again."""
    return file.problem if file.problem is not None and file.problem.startswith(BROKEN) else None


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return error.problem if isinstance(error, TrimtabError) else str(error)


def _shipped() -> Iterator[tuple[str, PresetFields]]:
    for entry in (resources.files("trimtab.server") / "shipped").iterdir():
        if entry.name.endswith(".toml"):
            text = entry.read_text(encoding="utf-8")
            yield entry.name.removesuffix(".toml"), PresetFields.model_validate(tomllib.loads(text))


def _without_nulls(value: Any) -> Any:
    """Return a value without its null fields, which TOML has not."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value if part is not None]
    return value
