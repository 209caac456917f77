"""Prompts through the text encoder, which is loaded once for all prompts of a run that are ready, not once a job.

The job that has to load it (11 GB for Wan2.1) encodes its own prompts, then those that other jobs of the run will ask
for: the compositions', and those of the prompt CSVs that lie there. Their embeds wait in a folder beside the concepts,
each in a file named after a digest of all that it depends on, and are taken from there. Each prompt is encoded alone,
so its embeds have the same bits whoever did it. Nothing hangs on that folder: what is missing there is encoded again.
"""

import contextlib
import fcntl
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from bico import InputError
from bico.models.components import component_folder, component_id
from bico.models.devices import Placement, place
from bico.models.wan import encode_tokens, free_memory, load_embeds, load_text_encoder, save_embeds
from bico.prompts.table import numbered_prompts
from bico.runtime.command import progress
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import write_text
from bico.runtime.provenance import digest, file_digest, made_by
from bico.text.grammar import parse
from bico.text.tokens import PromptTokenizer

log = logging.getLogger(__name__)
WANTED = "wanted.json"  # as Plan.leave_word writes it
# The jobs' own time limits on a cluster are an hour; what is left then is encoded when it is asked for.
MINUTES_FOR_OTHERS = 20

Ids = tuple[int, ...]


@dataclass(frozen=True)
class EmbedSettings:
    """text_length: tokens that a prompt may have, end-of-text included; dtype: auto, float32 or bfloat16."""

    text_length: int
    dtype: str = COMPUTE_DEFAULTS["dtype"]


def encode_prompts(
    settings: EmbedSettings, prompts: str | Path, tokenizer: str | Path, text_encoder: str | Path, output: str | Path,
    compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Encodes the prompts of a CSV. tokenizer, text_encoder: their folders, or the manifests of their weights. Raises
    InputError."""
    placed = place(compute, settings.dtype)
    TextEncoder(tokenizer, text_encoder, settings.text_length, placed, compute.embeds).encode_csv(prompts, output)


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder that is loaded only where it must be.

    tokenizer, component: folder or manifest of each. waiting: the folder in which the jobs of a run leave embeds for
    each other, or None. Without manifest nothing tells whose embeds they are, and every job encodes its own.
    """

    tokenizer: str | Path
    component: str | Path
    text_length: int
    placed: Placement
    waiting: str | Path | None = None

    @cached_property
    def words(self) -> PromptTokenizer:
        return PromptTokenizer(component_folder(self.tokenizer))

    @cached_property
    def made_by(self) -> str:
        """A digest of all that embeds depend on besides the prompt."""
        device, dtype = self.placed.device, self.placed.dtype
        card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return digest([component_id(self.component), made_by(__file__, "encode_prompts", card, text_encoder=dtype)])

    def encode_csv(self, prompts: str | Path, output: str | Path) -> None:
        """Encodes the prompts of a CSV; see `save_embeds`. Raises InputError that names the file and the rows of
        prompts that are longer than `text_length` tokens."""
        ids = self._csv_ids(prompts)
        (embeds,) = self.encode([ids])
        save_embeds(output, embeds, file_digest(prompts))
        if self._folder:
            self._file(ids).unlink(missing_ok=True)
            with contextlib.suppress(InputError):
                write_text(self._mark(prompts), self.made_by)

    def encode(self, batches: Sequence[Sequence[Ids]]) -> list[list[torch.Tensor]]:
        """The embeds of batches of prompts as token ids, [tokens, E] each, on the CPU: those that wait, else computed.
        Waits where another job is at it."""
        if not self._folder:
            return self._load_and_encode(batches)
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / "lock", "w") as lock:
            for mine in _tries(lock):
                found = [_read(self._file(batch)) for batch in batches]
                if None not in found:
                    log.info("the text encoder need not be loaded: the embeds wait in %s", self._folder)
                    return found
                if mine:
                    return self._load_and_encode(batches)
        raise AssertionError("unreachable")

    def _load_and_encode(self, batches: Sequence[Sequence[Ids]]) -> list[list[torch.Tensor]]:
        log.info("loading the text encoder for %d prompts", sum(map(len, batches)))
        model = load_text_encoder(component_folder(self.component), self.placed)
        embeds = [self._encode(model, batch) for batch in batches]
        if self._folder:
            done = {self._file(batch): found for batch, found in zip(batches, embeds, strict=True)}
            with contextlib.suppress(InputError, OSError):  # no room for what is only a help
                self._encode_for_others(model, done)
        del model
        free_memory()
        return embeds

    def _encode(self, model: nn.Module, batch: Sequence[Ids]) -> list[torch.Tensor]:
        ids = progress(batch, "prompts", "prompt") if len(batch) > 1 else batch
        return encode_tokens(model, ids, self.text_length, self.placed.device)

    def _encode_for_others(self, model: nn.Module, done: dict[Path, list[torch.Tensor]]) -> None:
        """Leaves what jobs of this run will ask for, where it does not wait yet, and removes what none will."""
        wanted = {self._file(batch): batch for batch in self._wanted()}
        for path in self._folder.glob("*.safetensors"):
            if path not in wanted:
                path.unlink(missing_ok=True)
        missing = {path: batch for path, batch in wanted.items() if path in done or not path.exists()}
        others = sum(len(batch) for path, batch in missing.items() if path not in done)
        log.info("and for %d prompts that other jobs of this run will ask for", others)
        until = time.monotonic() + 60 * MINUTES_FOR_OTHERS
        for path, batch in missing.items():
            if time.monotonic() > until:
                break
            save_embeds(path, done[path] if path in done else self._encode(model, batch), "")

    def _wanted(self) -> Iterator[Sequence[Ids]]:
        word = self._folder / WANTED
        if not word.is_file():
            return
        content = json.loads(word.read_text("utf-8"))
        for prompt, negative in content["compositions"]:
            with contextlib.suppress(InputError):  # which its own job will say
                yield [self.words.tokenise(parse(prompt)).ids]
                yield [self.words.tokenise_text(negative).ids]
        for prompts in map(Path, content["prompts"]):
            with contextlib.suppress(InputError, OSError):
                if prompts.is_file() and not self._is_encoded(prompts):
                    yield self._csv_ids(prompts)

    def _is_encoded(self, prompts: Path) -> bool:
        """By this very encoder. Where nothing tells by which, it was by this one, since few change it."""
        mark = self._mark(prompts)
        if mark.is_file() and mark.read_text("utf-8") != self.made_by:
            return False
        try:
            with safe_open(prompts.with_suffix(".safetensors"), "pt") as file:
                return (file.metadata() or {}).get("prompts_sha256") == file_digest(prompts)
        except (OSError, SafetensorError):
            return False

    def _mark(self, prompts: str | Path) -> Path:
        return self._folder / f"{Path(prompts).parent.name}.{Path(prompts).stem}.txt"

    def _csv_ids(self, prompts: str | Path) -> list[Ids]:
        rows = numbered_prompts(prompts)
        ids = [self.words.tokenise_text(prompt).ids for _, _, prompt in rows]
        problems = [
            f"{prompts}, row {row}, prompt: {len(prompt)} tokens with end-of-text, allowed: at most {self.text_length}"
            for (row, _, _), prompt in zip(rows, ids, strict=True)
            if len(prompt) > self.text_length
        ]
        if problems:
            raise InputError(*problems, "Shorten them, in this file or by fewer and shorter phrases in concepts.csv")
        return ids

    @cached_property
    def _folder(self) -> Path | None:
        return Path(self.waiting) if self.waiting and Path(self.component).suffix == ".json" else None

    def _file(self, batch: Sequence[Ids]) -> Path:
        return self._folder / f"{digest([self.made_by, [list(ids) for ids in batch]])}.safetensors"


def _tries(lock) -> Iterator[bool]:
    """Tries to lock the file, again and again: whether it is ours by now. The lock dies with the process."""
    announced = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        if not announced:
            log.info("another job has the text encoder; waiting for it")
        announced = True
        time.sleep(0.5)


def _read(path: Path) -> list[torch.Tensor] | None:
    """The embeds in a file; None if it is not there, or is damaged."""
    try:
        return load_embeds(path)
    except (InputError, OSError):
        return None
