"""The layout of binder files, native and released: what they are made of, and which tensors they hold.

Free of torch, and only headers are read: files are checked while planning, before anything is allocated for them.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bico import InputError

FORMAT = "bico-binder"
FORMAT_VERSION = 1
DTYPES = ("F32", "F16", "BF16", "F64")
_MOST_PROBLEMS = 5

_TO_RELEASED = {
    "global_binder": "global_concept_adapter",
    "block_binders": "per_block_concept_adapters",
    "spatial": "proj",
    "temporal": "proj_motion",
    "gamma": "scaling",
    "gate": "gate",
}
_FROM_RELEASED = {theirs: ours for ours, theirs in _TO_RELEASED.items()}
_RELEASED_ABSORBENT = "absorbing_token"
_NATIVE = ("global_binder", "block_binders", "absorbent", "second")
_ALLOWED = {
    "dim": "a whole number of at least 1",
    "blocks": "a whole number of at least 1",
    "dual": "true or false",
    "absorbent": "a whole number of at least 0",
    "per_block": "true or false",
    "gate": "zero, softmax",
    "gate_weighs": "temporal, spatial",
    "inner": "a whole number of at least 0",
    "experts": "1 or 2",
}

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class BinderSpec:
    """What a concept's binders are made of.

    dim: D. blocks: N. dual: has the temporal branch and gate of Eq. 3. absorbent: number of absorbent tokens, A.
    per_block: has a binder for each block besides the global one.
    gate: `zero`, tanh of a zero-initialised linear, 0 at the start (paper); `softmax`, over its one logit, so
    always 1 (release). gate_weighs: the branch that g multiplies, `temporal` (paper, Eq. 3) or `spatial` (release).
    inner: the width between the two linear layers of an MLP; 0 is D (paper, release).
    experts: of the model; the binders of a second one, whose text projection is another, are a set of their own.
    """

    dim: int
    blocks: int
    dual: bool = False
    absorbent: int = 1
    per_block: bool = True
    gate: str = "zero"
    gate_weighs: str = "temporal"
    inner: int = 0
    experts: int = 1

    @property
    def inner_width(self) -> int:
        return self.inner or self.dim

    @property
    def block_binders(self) -> int:
        """How many binders there are besides the global one."""
        return self.blocks if self.per_block else 0


def shapes(spec: BinderSpec) -> Shapes:
    """The shape of every tensor of a concept's binders, by its native name."""
    of_binder = _binder_shapes(spec)
    prefixes = ["global_binder.", *(f"block_binders.{i}." for i in range(spec.block_binders))]
    found = {prefix + name: shape for prefix in prefixes for name, shape in of_binder.items()}
    found |= {"absorbent": (spec.absorbent, spec.dim)}
    return found | ({f"second.{name}": shape for name, shape in found.items()} if spec.experts == 2 else {})


@dataclass(frozen=True)
class BinderLayout:
    """One concept's binder in a file. header: the file's own, or one that says that it is a released file; stored: the
    name under which the file holds each native tensor."""

    spec: BinderSpec
    header: dict
    stored: dict[str, str]


def read_layout(
    path: str | Path, dim: int | None = None, blocks: int | None = None, source: int | None = None, experts: int = 1
) -> BinderLayout:
    """What a binder file holds, from its header alone, checked against the model's D, N and number of experts where D
    is given.

    source: which one of a released file that holds several (its suffix `_{k}`, from 0). Raises InputError, naming the
    file, the tensor or field, what was found and what was expected.
    """
    header, found = _read(path)
    if header is None:
        spec, stored = _released_layout(path, found, source)
        if blocks is not None and not spec.per_block:  # the file does not say how many there are
            spec = dataclasses.replace(spec, blocks=blocks)
        header = {"format": "released", "spec": dataclasses.asdict(spec)}
    elif source is not None:
        raise InputError(f"{path}: holds one concept, but source {source} of it was asked for")
    else:
        spec, stored = _spec(path, header), {name: name for name in found}
    if dim is not None and (spec.dim, spec.blocks) != (dim, blocks):
        raise InputError(
            f"{path}: made for a transformer of width {spec.dim} with {spec.blocks} blocks; "
            f"this model has width {dim} and {blocks} blocks"
        )
    if dim is not None and spec.experts != experts:
        raise InputError(f"{path}: made for a model of {spec.experts} experts; this model has {experts}")
    _check_shapes(path, spec, {native: found[name] for native, name in stored.items()})
    return BinderLayout(spec, header, stored)


def released_name(name: str, suffix: str) -> str:
    """The released code's name of a native tensor, of the source with this suffix (`_{k}`, or empty)."""
    if name == "absorbent":
        return f"{_RELEASED_ABSORBENT}{suffix}.weight"
    first, *rest = name.split(".")
    return ".".join([_TO_RELEASED[first] + suffix, *(_TO_RELEASED.get(part, part) for part in rest)])


def _binder_shapes(spec: BinderSpec) -> Shapes:
    d, inner = spec.dim, spec.inner_width
    mlp = {"0.weight": (d,), "0.bias": (d,), "1.weight": (inner, d), "1.bias": (inner,)}
    mlp |= {"3.weight": (d, inner), "3.bias": (d,), "4.weight": (d,), "4.bias": (d,)}
    found = {"gamma": (1,), **{f"spatial.{name}": shape for name, shape in mlp.items()}}
    if spec.dual:
        found |= {f"temporal.{name}": shape for name, shape in mlp.items()}
        found |= {"gate.0.weight": (d,), "gate.0.bias": (d,), "gate.1.weight": (1, d), "gate.1.bias": (1,)}
    return found


def _read(path: str | Path) -> tuple[dict | None, Shapes]:
    """The header of a native file, None of a released one; and the shape of each tensor under its stored name."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such binder file")
    try:
        with safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(FORMAT)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
            dtypes = {name: tensor.get_dtype() for name, tensor in slices.items()}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path}: not a safetensors file ({problem}); pickled checkpoints are never loaded") from None
    problems = [
        f"{path}: '{name}' holds {dtype}, allowed: {', '.join(DTYPES)}"
        for name, dtype in dtypes.items()
        if dtype not in DTYPES
    ]
    if problems:
        raise InputError(*problems[:_MOST_PROBLEMS])
    if text is not None:
        return _header(path, text), found
    if native := sorted(name for name in found if name.split(".")[0] in _NATIVE):
        raise InputError(
            f"{path}: '{native[0]}' is a tensor of a native binder file, but the file has lost its header '{FORMAT}',"
            " which says how they are mixed (saved again without its metadata?); allowed: the file as it was trained"
        )
    return None, found


def _header(path: str | Path, text: str) -> dict:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{path}: its header '{FORMAT}' is not JSON: {problem}") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: its header '{FORMAT}' is {_short(header)}, allowed: a JSON object")
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path}: its header '{FORMAT}' is of format {_short(header.get('format'))}, allowed: {FORMAT}"
        )
    if type(header.get("version")) is not int or header["version"] != FORMAT_VERSION:
        found = _short(header.get("version"))
        raise InputError(f"{path}: binder format {found}; this version reads {FORMAT_VERSION}")
    return header


def _spec(path: str | Path, header: dict) -> BinderSpec:
    given = header.get("spec")
    if not isinstance(given, dict):
        said = f"is {_short(given)}" if "spec" in header else "is missing"
        raise InputError(f"{path}: 'spec' {said} in its header, allowed: an object of {', '.join(_ALLOWED)}")
    if problems := list(_spec_problems(given)):
        raise InputError(*(f"{path}, header, {problem}" for problem in problems))
    return BinderSpec(**given)


def _spec_problems(given: dict) -> Iterator[str]:
    fields = {field.name: field for field in dataclasses.fields(BinderSpec)}
    for name in given.keys() - fields.keys():
        yield f"spec.{_short(name)}: unknown, allowed: {', '.join(fields)}"
    for name, field in fields.items():
        if name not in given:
            if field.default is dataclasses.MISSING:
                yield f"spec.{name}: missing, allowed: {_ALLOWED[name]}"
        elif not _is_allowed(name, field.type, given[name]):
            yield f"spec.{name}: found {_short(given[name])}, allowed: {_ALLOWED[name]}"


def _is_allowed(name: str, kind: type, value) -> bool:
    """Whether a field has its very type (true is no number) and one of its values."""
    if type(value) is not kind:
        return False
    if kind is str:
        return value in _ALLOWED[name].split(", ")
    if name == "experts":
        return value in (1, 2)
    return kind is bool or value >= (name in ("dim", "blocks"))


def _short(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:40]}..." if len(text) > 40 else text


def _check_shapes(path: str | Path, spec: BinderSpec, found: Shapes) -> None:
    """By name. Whatever sizes a header asks for, no more names are made than the file holds tensors."""
    if spec.per_block and spec.blocks > len(found):
        raise InputError(
            f"{path}: its header says {spec.blocks} blocks, but the file holds {len(found)} tensors in all"
        )
    expected = shapes(spec)
    if not spec.absorbent:
        expected = {name: shape for name, shape in expected.items() if "absorbent" not in name or name in found}
    problems = [f"{path}: '{key}' is missing" for key in sorted(expected.keys() - found.keys())]
    problems += [f"{path}: '{key}' is not expected" for key in sorted(found.keys() - expected.keys())]
    problems += [
        f"{path}: '{key}' has shape {list(found[key])}, expected {list(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if expected[key] != found[key]
    ]
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        rest = [f"{path}: and {more} more of this kind"] if more > 0 else []
        raise InputError(*problems[:_MOST_PROBLEMS], *rest)


def _native_name(name: str) -> tuple[int | None, str]:
    """A released key to its source (None without a suffix) and the native key; unknown keys stay as they are."""
    first, *rest = name.split(".")
    source = None
    for stem in (*_FROM_RELEASED, _RELEASED_ABSORBENT):
        suffix = first.removeprefix(f"{stem}_")
        if suffix != first and suffix.isdecimal() and suffix.isascii() and len(suffix) < 10:
            first, source = stem, int(suffix)
            break
    if first == _RELEASED_ABSORBENT:
        return source, "absorbent" if rest == ["weight"] else name
    return source, ".".join(_FROM_RELEASED.get(part, part) for part in [first, *rest])


def _released_layout(path, found: Mapping[str, tuple], source: int | None) -> tuple[BinderSpec, dict[str, str]]:
    """What one source's keys and shapes say of its make, and the stored name of each of its tensors."""
    by_source: dict[int | None, dict[str, str]] = defaultdict(dict)
    for name in sorted(found):
        of, native = _native_name(name)
        if by_source[of].setdefault(native, name) != name:
            raise InputError(f"{path}: '{name}' and '{by_source[of][native]}' are one and the same tensor")
    sources = "no source" if not by_source else ", ".join(str(s) for s in sorted(by_source, key=str))
    if source is None and len(by_source) == 1:
        (source,) = by_source
    if source not in by_source:
        asked = "none was named" if source is None else f"source {source} was asked for"
        raise InputError(f"{path}: a released file with sources {sources}, and {asked}")
    stored = by_source[source]
    bias = found.get(stored.get("global_binder.spatial.0.bias"), ())
    if len(bias) != 1 or not bias[0]:
        raise InputError(f"{path}: no 'global_concept_adapter.proj.0.bias' of shape [D]; not a BiCo binder file")
    blocks = sum(key.startswith("block_binders.") and key.endswith(".gamma") for key in stored)
    absorbent = found.get(stored.get("absorbent"), (0,))
    spec = BinderSpec(
        dim=bias[0],
        blocks=blocks,
        per_block=bool(blocks),
        dual=any(".temporal." in key for key in stored),
        absorbent=absorbent[0] if len(absorbent) == 2 else 1,
        gate="softmax",
        gate_weighs="spatial",
    )
    return spec, stored
