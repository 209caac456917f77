"""Binder files, and what else a run reads back of what it wrote: journals, prompts, bound prompts."""

import json
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from bico.methods.bico.binder import BinderSpec
from bico.methods.bico.checkpoint import FORMAT, load_binder, save_binder
from bico.prompts.table import read_prompts
from bico.render.bound_prompt import read_header
from bico.runtime.runs import Journal
from tests import RELEASED
from tests.corpus.project import write
from tests.corpus.verdicts import Input
from tests.methods.test_binder import trained

D, N = 12, 3
NAME = "star.safetensors"
Header, Tensors = dict, dict[str, torch.Tensor]


def native(dual: bool = True) -> tuple[Header, Tensors]:
    binder = trained(BinderSpec(D, N, dual=dual))
    save_binder(NAME, binder, {"concept": "star"})
    return json.loads(_metadata(NAME)[FORMAT]), load_file(NAME)


def _metadata(path: str) -> dict:
    data = Path(path).read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]


def binder(change: Callable[[Header, Tensors], object], dual: bool = True) -> bytes:
    """A native file with its header or tensors changed in place, or with the text that `change` gives as its header."""
    header, tensors = native(dual)
    text = change(header, tensors)
    return save(tensors, {FORMAT: text if isinstance(text, str) else json.dumps(header)})


def whole_file(change: Callable[[bytes], bytes]) -> bytes:
    native()
    return change(Path(NAME).read_bytes())


def _send(folder: Path, make: Callable[[], bytes], **source: int) -> object:
    write(NAME, make())
    return load_binder(NAME, D, N, **source)


def refused(proves: str, make: Callable[[], bytes], **source: int) -> Input:
    return Input("checkpoints", f"a binder {proves} is refused", partial(_send, make=make, **source), names=NAME)


def header_refused(proves: str, change: Callable[[Header, Tensors], object]) -> Input:
    return refused(f"whose header {proves}", partial(binder, change))


def spec_refused(proves: str, **fields: object) -> Input:
    return header_refused(f"asks for {proves}", lambda header, _: header["spec"].update(fields))


def tensors_refused(proves: str, change: Callable[[Tensors], object]) -> Input:
    return refused(proves, partial(binder, lambda _, tensors: change(tensors)))


def safetensors(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of just these parts. length: what it says of its header's."""
    header = header.encode("utf-8") if isinstance(header, str) else header
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def without_metadata(dual: bool) -> bytes:
    return save(native(dual)[1])


def released(change: Callable[[Tensors], object]) -> bytes:
    tensors = load_file(RELEASED / "video_binder.released.safetensors")
    change(tensors)
    return save(tensors)


def released_refused(proves: str, change: Callable[[Tensors], object], **source: int) -> Input:
    def send(folder: Path) -> object:
        write(NAME, released(change))
        return load_binder(NAME, 36, 3, **source)

    return Input("checkpoints", f"a released binder {proves} is refused", send, names=NAME)


def poison(number: float, where: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[where].view(-1)[-1:].fill_(number)


def cast(dtype: torch.dtype, *names: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({n: tensors[n].to(dtype) for n in names or list(tensors)})


GAMMA, LINEAR = "global_binder.gamma", "block_binders.1.spatial.1.weight"
HEADERS = [
    header_refused("is no JSON", lambda h, t: "{"),
    header_refused("is empty", lambda h, t: ""),
    header_refused("is a list", lambda h, t: "[]"),
    header_refused("is a number", lambda h, t: "1"),
    header_refused("is null", lambda h, t: "null"),
    header_refused("is nested 100,000 deep", lambda h, t: "[" * 100_000),
    header_refused("has a key twice", lambda h, t: json.dumps(h)[:-1] + ', "version": 2}'),
    header_refused("has no spec", lambda h, t: h.pop("spec")),
    header_refused("has a spec that is a list", lambda h, t: h.update(spec=[1])),
    header_refused("has a spec that is null", lambda h, t: h.update(spec=None)),
    header_refused("has an empty spec", lambda h, t: h.update(spec={})),
    header_refused("has no version", lambda h, t: h.pop("version")),
    header_refused("is of another version", lambda h, t: h.update(version=2)),
    header_refused("has a version of text", lambda h, t: h.update(version="1")),
    header_refused("is of another format", lambda h, t: h.update(format="lora")),
    spec_refused("an unknown field", colour="red"),
    spec_refused("a field of code", __class__="x"),
    spec_refused("10^8 absorbent tokens", absorbent=10**8),
    spec_refused("10^9 blocks", blocks=10**9),
    spec_refused("a width of 10^7", dim=10**7),
    spec_refused("a width of 10^400", dim=10**400),
    spec_refused("-1 blocks", blocks=-1),
    spec_refused("a width of 0", dim=0),
    spec_refused("a width below 0", dim=-12),
    spec_refused("a width of a fraction", dim=12.5),
    spec_refused("a width of text", dim="12"),
    spec_refused("a width of true", dim=True),
    spec_refused("a width of null", dim=None),
    spec_refused("blocks of infinity", blocks=float("inf")),
    spec_refused("absorbent tokens of NaN", absorbent=float("nan")),
    spec_refused("-1 absorbent tokens", absorbent=-1),
    spec_refused("two absorbent tokens where one is there", absorbent=2),
    spec_refused("a gate that is unknown", gate="open"),
    spec_refused("a gate of a list", gate=["zero"]),
    spec_refused("a branch that is unknown", gate_weighs="both"),
    spec_refused("a branch less than is there", dual=False),
    spec_refused("branches of text", dual="yes"),
    spec_refused("no blocks where they are there", per_block=False),
    spec_refused("blocks more than are there", blocks=N + 1),
]
TENSORS = [
    tensors_refused("with one NaN", poison(float("nan"), LINEAR)),
    tensors_refused("with one infinity", poison(float("inf"), LINEAR)),
    tensors_refused("with a gamma that is no number", poison(float("nan"), GAMMA)),
    tensors_refused("with an absorbent token that is no number", poison(float("-inf"), "absorbent")),
    tensors_refused("of whole numbers", cast(torch.int8)),
    tensors_refused("with one tensor of whole numbers", cast(torch.int64, LINEAR)),
    tensors_refused("of switches", cast(torch.bool)),
    tensors_refused("of complex numbers", cast(torch.complex64, LINEAR)),
    tensors_refused("without a tensor", lambda t: t.pop(GAMMA)),
    tensors_refused("with a tensor too many", lambda t: t.update(extra=torch.zeros(1))),
    tensors_refused("with an empty tensor", lambda t: t.update({GAMMA: torch.zeros(0)})),
    tensors_refused("with a tensor of another shape", lambda t: t.update({GAMMA: torch.zeros(2)})),
    tensors_refused("with a tensor of more dimensions", lambda t: t.update({LINEAR: t[LINEAR][None]})),
    tensors_refused("with a transposed shape", lambda t: t.update({LINEAR: torch.zeros(D, D + 1)})),
    tensors_refused("of another width", lambda t: t.update({k: v.repeat_interleave(2, -1) for k, v in t.items()})),
    tensors_refused("without tensors", lambda t: t.clear()),
    refused("of a video that lost its header", partial(without_metadata, True)),
    refused("of a picture that lost its header", partial(without_metadata, False)),
    refused("of one concept, asked for its second", partial(binder, lambda h, t: None), source=1),
]
FILES = [
    refused("that is empty", lambda: b""),
    refused("of seven bytes", lambda: b"\0" * 7),
    refused("of zeros", lambda: b"\0" * 4096),
    refused("of text", lambda: b"not a binder\n" * 100),
    refused("of HTML", lambda: b"<!doctype html><p>404"),
    refused(
        "that is a pointer of git LFS", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    ),
    refused("that is a pickle", lambda: pickle.dumps({"a": 1})),
    refused("that is a zip", lambda: b"PK\x03\x04" + b"\0" * 200),
    refused("that says its header is 2^63 long", lambda: safetensors("{}", length=2**63)),
    refused("that says its header is 10^9 long", lambda: safetensors("{}", length=10**9)),
    refused("whose outer header is a list", lambda: safetensors("[]")),
    refused("whose outer header is no UTF-8", lambda: safetensors(b'{"\xff": 1}')),
    refused("whose outer header is nested deep", lambda: safetensors('{"a":' * 50_000)),
    refused("whose outer header is empty", lambda: safetensors("{}")),
    refused("whose metadata is a number", lambda: safetensors('{"__metadata__": 1}')),
    refused("whose metadata holds a number", lambda: safetensors('{"__metadata__": {"bico-binder": 1}}')),
    refused(
        "of an unknown kind of number",
        lambda: safetensors('{"a":{"dtype":"F3","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    ),
    refused(
        "whose tensors overlap",
        lambda: safetensors(
            '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b"\0" * 4,
        ),
    ),
    refused(
        "whose tensor ends behind the file",
        lambda: safetensors('{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', b"\0" * 4),
    ),
    refused(
        "whose tensor has 2^62 numbers",
        lambda: safetensors('{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}', b"\0" * 4),
    ),
    refused(
        "whose tensor's offsets run backwards",
        lambda: safetensors('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"\0" * 4),
    ),
    refused("with bytes left over", partial(whole_file, lambda data: data + b"\0" * 100)),
    *(
        refused(f"cut at {share} %", partial(whole_file, lambda data, share=share: data[: len(data) * share // 100]))
        for share in (1, 10, 50, 90, 99)
    ),
]
RELEASES = [
    released_refused("with one NaN", poison(float("nan"), "global_concept_adapter.proj.1.weight")),
    released_refused("of whole numbers", cast(torch.int8)),
    released_refused("with an unknown part", lambda t: t.update(lora_up=torch.zeros(1))),
    released_refused("without its first layer", lambda t: t.pop("global_concept_adapter.proj.0.bias")),
    released_refused("without a block", lambda t: t.pop("per_block_concept_adapters.1.scaling")),
    released_refused(
        "with a block of 10^8", lambda t: t.update({"per_block_concept_adapters.100000000.scaling": torch.zeros(1)})
    ),
    released_refused(
        "with an absorbing token of another width", lambda t: t.update({"absorbing_token.weight": torch.zeros(1, 7)})
    ),
    released_refused(
        "with a source in Arabic digits", lambda t: t.update({"global_concept_adapter_١.scaling": torch.zeros(1)})
    ),
    released_refused("asked for a source that it lacks", lambda t: None, source=3),
]


def _taken(folder: Path) -> object:
    """A native binder in half the precision."""
    write(NAME, binder(lambda _, tensors: cast(torch.bfloat16)(tensors)))
    return load_binder(NAME, D, N)[0]


def _same(found: object) -> bool:
    expected = trained(BinderSpec(D, N, dual=True)).state_dict()
    return all(torch.equal(value, expected[name].bfloat16().float()) for name, value in found.state_dict().items())


GOOD = [Input("checkpoints", "a binder in bfloat16 is read as the numbers that it holds", _taken, _same)]


def _send_prompts(folder: Path, content: str | bytes) -> object:
    write("prompts.csv", content)
    return read_prompts("prompts.csv")


def prompts_refused(proves: str, content: str | bytes) -> Input:
    proves = f"a run's prompts {proves} are refused"
    return Input("checkpoints", proves, partial(_send_prompts, content=content), names="prompts.csv")


PROMPTS = [
    prompts_refused("that are empty", ""),
    prompts_refused("without rows", "video,prompt\n"),
    prompts_refused("with another header", "clip,prompt\na,b\n"),
    prompts_refused("with an empty prompt", "video,prompt\na,\n"),
    prompts_refused("with a field too many", "video,prompt\na,b,c\n"),
    prompts_refused("in UTF-16", "video,prompt\na,b\n".encode("utf-16")),
    prompts_refused("with a NUL", "video,prompt\na,b\0c\n"),
    prompts_refused("cut off in quotation marks", 'video,prompt\na,"b\n'),
]


def _send_journal(folder: Path, content: bytes, counted: bool) -> object:
    """The journal, gone on with and read again."""
    write("journal.jsonl", content)
    Journal(Path("journal.jsonl"), counted=counted).append({"step": 99})
    return Journal(Path("journal.jsonl"), counted=counted).entries


def journal(proves: str, content: bytes, *steps: int, counted: bool = False) -> Input:
    def right(entries: object) -> bool:
        return entries == [{"step": step} for step in (*steps, 99)]

    send = partial(_send_journal, content=content, counted=counted)
    return Input("checkpoints", f"a journal {proves}", send, right)


JOURNALS = [
    journal("that is empty begins anew", b""),
    journal("goes on", b'{"step": 1}\n{"step": 2}\n', 1, 2),
    journal("loses a last line that was cut off", b'{"step": 1}\n{"step"', 1),
    journal("loses a last line that lacks its end alone", b'{"step": 1}\n{"step": 2}', 1),
    journal("goes on from its last good line where one is damaged", b'{"step": 1}\n{"st\n', 1),
    journal("goes on from its last good line where zeros follow", b'{"step": 1}\n' + b"\0" * 4096 + b"\n", 1),
    journal("goes on from its last good line where one is no object", b'{"step": 1}\n5\n', 1),
    journal("goes on from its last good line where one is no UTF-8", b'{"step": 1}\n{"step": "\xff"}\n', 1),
    journal("keeps the good lines around a damaged one", b'{"step": 1}\n?\n{"step": 3}\n', 1, 3),
    journal("that is counted ends before a damaged line", b'{"step": 1}\n?\n{"step": 3}\n', 1, counted=True),
]


def _send_bound(folder: Path, content: bytes) -> object:
    write("bound.safetensors", content)
    return read_header("bound.safetensors")


def bound_refused(proves: str, make: Callable[[], bytes]) -> Input:
    proves = f"a bound prompt {proves} is refused"
    return Input("checkpoints", proves, lambda folder: _send_bound(folder, make()), names="bound.safetensors")


BOUND = [
    bound_refused("that is empty", lambda: b""),
    bound_refused("of text", lambda: b"words " * 100),
    bound_refused("without its header", lambda: save({"prompt": torch.zeros(1)})),
    bound_refused("whose header is no JSON", lambda: save({"prompt": torch.zeros(1)}, {"bico-bound-prompt": "{"})),
    bound_refused("that is a binder", lambda: whole_file(bytes)),
]

INPUTS = HEADERS + TENSORS + FILES + RELEASES + GOOD + PROMPTS + JOURNALS + BOUND
