"""Small configs of any family: its own fields, made small by what their names mean.

A config is made once with its defaults, to see what fields and nested configs it has, and then a second time with every
known size replaced. What the config derives from its sizes, it derives itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from architectures.sizes import (
    AT_LEAST,
    AT_MOST,
    DEPTHS,
    DERIVED,
    FIRST_FREE_TOKEN,
    HEAD_WIDTH,
    HEADS,
    INNER,
    LAYER_INDICES,
    LAYERS,
    NEEDED,
    SIZES,
    TOKEN,
    TOWER,
    TOWER_DEPTHS,
    TOWER_LAYERS,
    VOCABULARY,
)


class TokenNames:
    """Assigns one separate id to each token that a config names."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        meaning = re.sub(r"_(id|ids|index|idx)$", "", name)
        meaning = meaning.removesuffix("_token")
        return self._ids.setdefault(meaning, FIRST_FREE_TOKEN + len(self._ids))


@dataclass(frozen=True)
class Part:
    """Nested config of a non-default type, with separate fixes.

    ``forced`` puts it in even where the outer config checks the type and would not have it.
    """

    model_type: str
    fixes: Mapping[str, Any] = field(default_factory=dict)
    forced: bool = False


Fixes = Mapping[str, Mapping[str, Any]]


def shrink(model_type: str, *, fixes: Fixes) -> PreTrainedConfig:
    """Return the small config of a type, with ``fixes`` by model type for fields whose names say too little."""
    tokens = TokenNames()
    for name in ("bos", "eos", "pad"):
        tokens(name)
    default = _default(model_type, fixes)
    causal = {"is_decoder": True} if "is_decoder" in _field_names(default) and not default.is_encoder_decoder else {}
    return _shrunk(default, fixes, tokens, tower=False, own=causal)


def _default(model_type: str, fixes: Fixes) -> PreTrainedConfig:
    """Return the default config with only the required fields set."""
    parts = {name: part for name, part in fixes.get(model_type, {}).items() if isinstance(part, Part)}
    made = {name: CONFIG_MAPPING[part.model_type](**part.fixes) for name, part in parts.items()}
    return _made(CONFIG_MAPPING[model_type], made, {name for name, part in parts.items() if part.forced})


def _made(config_class: type[PreTrainedConfig], settings: Mapping[str, Any], forced: Set[str]) -> PreTrainedConfig:
    asked = {name: value for name, value in settings.items() if name not in forced}
    if config_class.has_no_defaults_at_init:  # these take nested configs as plain dicts only
        asked = {
            name: value.to_dict() if isinstance(value, PreTrainedConfig) else value for name, value in asked.items()
        }
    config = config_class(**asked)
    vars(config).update({name: settings[name] for name in forced})
    return config


def _shrunk(
    default: PreTrainedConfig, fixes: Fixes, tokens: TokenNames, *, tower: bool, own: Mapping[str, Any]
) -> PreTrainedConfig:
    """``own`` are fixes that come from the config around this one."""
    fixed: dict[str, Any] = {**fixes.get(default.model_type, {}), **own}
    if "kv_lora_rank" in _field_names(default):  # every head has separate keys, regardless of the field
        fixed.setdefault("num_key_value_heads", HEADS)
    depth = _fixed_depth(fixed) or _small_depth(default, tower)
    settings: dict[str, Any] = dict(_asked_by_parent(default))
    forced = {name for name, value in fixed.items() if isinstance(value, Part) and value.forced}
    for name in _field_names(default):
        value = _value(default, name)
        if isinstance(value, PreTrainedConfig):
            inner = fixed.pop(name, {})
            if isinstance(inner, Part):
                inner = inner.fixes
            inside = tower or ("text" not in name and TOWER.search(f"{name} {value.model_type}") is not None)
            settings[name] = _shrunk(value, fixes, tokens, tower=inside, own=inner)
        elif name not in DERIVED:
            small = _small(default, name, value, tokens, tower=tower, depth=depth)
            if small is not None and small != value:
                settings[name] = small
    return _made(type(default), {**settings, **fixed}, forced)


def _asked_by_parent(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the non-default values that the enclosing config sets."""
    if config.has_no_defaults_at_init:
        return {}
    plain = type(config)()
    settings = {}
    for name in _field_names(config):
        value = _value(config, name)
        if isinstance(value, bool | str | int | float) and value != _value(plain, name):
            settings[name] = value
    return settings


def _field_names(config: PreTrainedConfig) -> list[str]:
    declared = [entry.name for entry in dataclasses.fields(config) if entry.init]
    nested = [name for name, value in vars(config).items() if isinstance(value, PreTrainedConfig)]
    return [name for name in dict.fromkeys(declared + nested) if name not in DERIVED]


def _value(config: PreTrainedConfig, name: str) -> Any:
    """Return a field as stored, without values that a config derives on reading."""
    return vars(config)[name] if name in vars(config) else getattr(config, name, None)


def _fixed_depth(fixed: Mapping[str, Any]) -> int | None:
    return next((fixed[name] for name in fixed if name in DEPTHS), None)


def _default_depths(config: PreTrainedConfig) -> set[int]:
    depths = (_value(config, name) for name in DEPTHS | TOWER_DEPTHS)
    return {depth for depth in depths if isinstance(depth, int)}


def _per_layer(config: PreTrainedConfig, name: str, value: Any) -> bool:
    if not isinstance(value, list | tuple) or LAYER_INDICES.search(name) or not value:
        return False
    return len(value) in _default_depths(config) and not isinstance(value[0], list | tuple | dict)


def _small_depth(config: PreTrainedConfig, tower: bool) -> int:
    """Enough layers that every kind of layer is among them."""
    least = TOWER_LAYERS if tower else LAYERS
    lists = [value for name in _field_names(config) if _per_layer(config, name, value := _value(config, name))]
    return max([least, *(len(set(map(str, value))) for value in lists if isinstance(value[0], str))])


def _small(config: PreTrainedConfig, name: str, value: Any, tokens: TokenNames, *, tower: bool, depth: int) -> Any:
    """Return the small value of a field, or None to leave it."""
    if TOKEN.search(name) or (name.endswith("_id") and "token" in name):
        return _small_token(name, value, tokens)
    if value is None and name in NEEDED:
        return NEEDED[name]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return None
    if name in ("rope_parameters", "rope_scaling") and isinstance(value, Mapping):
        return _small_rope(value, config)
    if LAYER_INDICES.search(name) and isinstance(value, list | tuple) and value and isinstance(value[0], int):
        return _small_indices(value, depth)
    if _per_layer(config, name, value):
        return _resampled(name, value, depth)
    aliases = [name, *(alias for alias, real in config.attribute_map.items() if real == name)]
    for alias in aliases:
        small = _small_number(alias, value, tower=tower, depth=depth)
        if small is not None:
            return small
    return None


def _small_token(name: str, value: Any, tokens: TokenNames) -> Any:
    if isinstance(value, list | tuple):
        if name.startswith("eos"):
            return tokens(name)
        return type(value)(tokens(f"{name}{n}") for n in range(len(value)))
    if value is None and not name.startswith(("bos_", "eos_", "pad_")):
        return None
    return tokens(name)


def _small_number(name: str, value: Any, *, tower: bool, depth: int) -> Any:
    if isinstance(value, list | tuple):
        numbers = [_small_number(name, entry, tower=tower, depth=depth) for entry in value]
        return None if None in numbers else type(value)(numbers)
    if not isinstance(value, int | float):
        return None
    if name in DEPTHS:
        return depth
    if name in TOWER_DEPTHS:
        return TOWER_LAYERS
    if name in SIZES:
        return SIZES[name]
    if "vocab_size" in name and value > VOCABULARY:
        return VOCABULARY
    if name in AT_MOST:
        return min(value, AT_MOST[name])
    if name in AT_LEAST:
        return max(value, AT_LEAST[name])
    return None


def _resampled(name: str, value: Sequence[Any], depth: int) -> list[Any]:
    """Return a per-layer list of the new depth: its kinds in turn; those of inner networks in two runs."""
    kinds = list(dict.fromkeys(value))
    if isinstance(value[0], int) and not isinstance(value[0], bool) and value[0] > 1:
        return [SIZES.get(name, INNER)] * depth
    if name.startswith(("mlp", "moe", "indexer")):
        return [kinds[n * len(kinds) // depth] for n in range(depth)]
    return [kinds[n % len(kinds)] for n in range(depth)]


def _small_indices(value: list[int] | tuple[int, ...], depth: int) -> list[int] | tuple[int, ...]:
    """Return the layer numbers of the small model."""
    if all(-depth <= n < depth for n in value):
        return value
    chosen = range(1, 1 + min(len(value), max(1, depth - 2)))
    return list(chosen) if isinstance(value, list) else tuple(chosen)


def _small_rope(value: Mapping[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """Rope parameters for heads of the small width; they may be nested by kind of layer."""
    small: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, Mapping):
            small[name] = _small_rope(entry, config)
        elif name == "mrope_section":
            factor = value.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
            half = int(HEAD_WIDTH * max(factor, 0.5)) // 2
            small[name] = [half // 2, half // 4, half // 4] if half >= 4 else [1, half - 1, 0]
        elif name in ("short_factor", "long_factor") and isinstance(entry, list):
            small[name] = entry[: HEAD_WIDTH // 2]
        elif name in AT_LEAST and entry is not None:
            small[name] = max(entry, AT_LEAST[name])
        elif name == "rope_theta" and entry is None:
            small[name] = 10000.0
        else:
            small[name] = entry
    return small
