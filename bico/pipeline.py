"""The workflow's plan: which file each stage makes, and exactly what each stage reads of the configuration.

Free of torch: Snakemake parses it again in every job.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from bico import InputError
from bico.files import write_json
from bico.manifest import Composition, Concept, Manifest, Names, load_manifest
from bico.page import write_page
from bico.provenance import OF_VIDEO, PACKAGES, ROOT, canonical, code_digest, digest, versions
from bico.reading import read_yaml
from bico.settings import ModelFile, load_ablations, load_config, load_model, readable
from bico.weights import missing_weights

# The configuration's own method, beside which the ablations stand; and what else lies in the results folder.
MAIN = "bico"
RESERVED = ("concepts", "logs", "benchmarks")


def has_accelerator() -> bool:
    """Whether this machine seems to have one, as far as can be told without torch: NVIDIA's, AMD's or Apple's."""
    return sys.platform == "darwin" or shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Adds the problems of an InputError to the list, and goes on."""
    try:
        yield
    except InputError as problem:
        problems += problem.problems


@dataclass(frozen=True)
class Pipeline:
    """A validated configuration with its model file, its manifests, and its methods by name."""

    config: dict
    model: ModelFile
    manifest: Manifest
    methods: dict[str, dict]
    runs_here: bool = False

    @classmethod
    def load(
        cls, config: dict, thorough: bool = False, runs_here: bool = False, files: Iterable[str | Path] = ()
    ) -> "Pipeline":
        """If `thorough`, the media and the model's own files are asked too, as the main process does once. runs_here:
        the jobs run on this very machine. files: those that `config` was read from, which are asked for what a reading
        of YAML passes over. Raises InputError with all problems of the configuration, the model file, the manifests and
        the ablations, as far as what is wrong in one lets the others be found."""
        problems: list[str] = []

        def read(load, *arguments):
            with _noting(problems):
                return None if None in arguments else load(*arguments)

        for file in files:
            read(read_yaml, file)
        given = config
        config = read(load_config, given) or readable(given)
        for name in ("results", "weights"):
            path = Path(config.get(name, "."))
            problems += [f"{name}: {each} is no folder" for each in (path, *path.parents) if each.is_file()]
        if "ablations" in given and "ablations" in config and not Path(config["ablations"]).exists():
            problems.append(f"ablations: no such folder: {config['ablations']}")
        named = [config.get(name) for name in ("concepts", "compositions", "model", "weights", "ablations", "method")]
        concepts, compositions, model_file, weights, overlays, method = named
        model = read(load_model, model_file, weights)
        manifest = read(lambda *tables: load_manifest(*tables, model, thorough), concepts, compositions)
        ablations = read(load_ablations, overlays, method) or {}
        taken = [name for name in ablations if name.casefold() in (MAIN, *RESERVED)]
        problems += [f"{overlays}: no ablation can be named {name}" for name in taken]
        if problems:
            raise InputError(*problems)
        return cls(config, model, manifest, Names("method", {MAIN: method, **ablations}), runs_here)

    def require_weights(self) -> None:
        """Raises InputError when weights that this configuration needs are missing, with the command that gets them."""
        if missing := missing_weights(self.model, self.needed_components()):
            raise InputError(
                f"weights of model '{self.model.name}' ({self.model.path}) are missing:",
                *(f"  {line}" for line in missing),
                f"Get them with: snakemake weights --cores 1 --config model={self.model.path}"
                f" weights={self.model.weights}",
                "and this run's other options for its configuration, which say what is needed",
            )

    def check_target(self, target: str) -> None:
        """Raises InputError, which says what there is, where a file that is asked for belongs to no concept, no method
        or no composition."""
        path, results = Path(target), Path(self.config["results"])
        if not path.is_relative_to(results):
            return
        match path.relative_to(results).parts:
            case ("concepts", concept, _, *_):
                self._concept(concept)
            case (first, *_) if first in RESERVED:
                pass
            case (method, "binders", concept, *_):
                self.methods[method], self._concept(concept)
            case (method, "compositions", composition, *_):
                self.methods[method], self._composition(composition)
            case (method, "index.html"):
                self.methods[method]

    def needed_components(self) -> tuple[str, ...]:
        """The components of the model that this configuration needs: the language model only where it is asked."""
        return ("transformer", "vae", "text_encoder", "tokenizer", *(("vlm",) if self.needs_vlm else ()))

    @cached_property
    def needs_vlm(self) -> bool:
        by_template = self.config["prompts"]["writer"] == "template"
        return any(not by_template or not concept.spatial for concept in self.trained())

    def compute(self) -> dict:
        """How scripts use the machine; a change of it is no cause to run again."""
        computes = ("dtype", "vae_dtype", "vae_tiling")
        used = {name: value for name, value in self.config["compute"].items() if name not in computes}
        return used | {"embeds": self.shared_embeds}

    @property
    def shared_embeds(self) -> str:
        """The folder in which the jobs of a run leave prompt embeds for each other (see `bico.embeds`)."""
        return f"{self.config['results']}/concepts/.embeds"

    def leave_word(self) -> None:
        """Tells the jobs of a run what its other jobs encode (see `bico.embeds`), once before they start."""
        stages = [
            (method, concept.id, stage)
            for method in self.methods
            for concept in self.trained()
            for stage in range(1, self.last_stage(method, concept.id) + 1)
        ]
        prompts = dict.fromkeys(str(Path(self.training_prompts(*stage)).with_suffix(".csv")) for stage in stages)
        rows = self.manifest.compositions.values()
        compositions = dict.fromkeys((row.prompt, row.negative_prompt) for row in rows)
        word = {"prompts": list(prompts), "compositions": [list(row) for row in compositions]}
        with contextlib.suppress(InputError, OSError):  # it is only a help
            write_json(Path(self.shared_embeds) / "wanted.json", word)

    def gpus(self, training: bool = False) -> int:
        """How many cards, Snakemake's resource `gpu`, a job with a model takes: none where `auto` will find none, so
        that such jobs share the cores."""
        compute = self.config["compute"]
        wanted = compute["gpus"] if training else 1
        without = compute["device"] == "auto" and wanted == 1 and self.runs_here and not has_accelerator()
        return 0 if without or compute["device"] == "cpu" else wanted

    def memory(self, *components: str, more_gb: float = 8, training: bool = False) -> int:
        """Main memory in MB for a job that loads one of the components at a time: the largest, and `more_gb`; each of a
        training job's processes, one a card, has its own."""
        sizes = [0]
        for manifest in (self.model.manifest(name) for name in components if name in self.model.components):
            if manifest.is_file():
                sizes.append(sum(file["size"] for file in json.loads(manifest.read_text("utf-8"))["files"].values()))
        processes = max(1, self.gpus(training)) if training else 1
        return round((max(sizes) / 1e6 * 1.2 + 1000 * more_gb) * processes)

    def ablations(self) -> list[str]:
        return [name for name in self.methods if name != MAIN]

    # -- files

    def concept_file(self, concept: str, name: str) -> str:
        """A file of a concept: `{concept}` in `name` stands for its id."""
        return f"{self.config['results']}/concepts/{concept}/{name.format(concept=concept)}"

    def clip(self, concept: str) -> str | None:
        """The trimmed media: .mp4 of a video, .png of an image; None of a concept that is only a binder file."""
        kind = self._concept(concept).kind
        return kind and self.concept_file(concept, "{concept}." + ("png" if self.is_image(concept) else "mp4"))

    def binder_file(self, method: str, concept: str, name: str) -> str:
        return f"{self.config['results']}/{method}/binders/{concept}/{name}"

    def binder(self, method: str, concept: str) -> str:
        """The binder with which a concept is composed: the one that was given, or that of its last stage."""
        return self._concept(concept).binder or self.binder_file(
            method, concept, f"stage{self.last_stage(method, concept)}.safetensors"
        )

    def result(self, method: str, composition: str, seed: int) -> str:
        suffix = "png" if self.is_still(composition) else "mp4"
        return f"{self.config['results']}/{method}/compositions/{composition}/seed{seed}.{suffix}"

    def results(self, method: str) -> list[str]:
        """Every video or image rendered under a method."""
        rows = self.manifest.compositions.values()
        return [self.result(method, composition.id, seed) for composition in rows for seed in composition.seeds]

    def plots(self, method: str) -> list[str]:
        """The plot of every stage of training under a method."""
        return [
            self.binder_file(method, concept.id, f"stage{stage}.png")
            for concept in self.trained()
            for stage in range(1, self.last_stage(method, concept.id) + 1)
        ]

    def last_logs(self, method: str, kind: str | None = None) -> list[str]:
        """The log of each concept's last stage, of all concepts or of one kind."""
        return [
            self.binder_file(method, concept.id, f"stage{self.last_stage(method, concept.id)}.jsonl")
            for concept in self.trained()
            if kind in (None, concept.kind)
        ]

    def page(self, method: str = MAIN) -> str:
        return f"{self.config['results']}/{method}/index.html"

    def write_page(self, method: str, output: str) -> None:
        """Writes the page to `output`, with the links that it has in its place."""
        title, result = f"{self.model.name}, method {method}", partial(self.result, method)
        write_page(output, self.page(method), self.manifest, title, self.clip, result)

    # -- the method's way of a concept

    def trained(self) -> list[Concept]:
        """The concepts that are trained here."""
        return [concept for concept in self.manifest.concepts.values() if concept.binder is None]

    def last_stage(self, method: str, concept: str) -> int:
        """2 for a video under a method with a temporal stage, else 1."""
        return 2 if self.methods[method]["temporal_stage"] and self._concept(concept).kind == "video" else 1

    def trains_on_frames(self, method: str, concept: str, stage: int) -> bool:
        """Stage 1 of a video with a temporal stage sees single frames; everything else the whole clip."""
        return stage < self.last_stage(method, concept)

    def training_prompts(self, method: str, concept: str, stage: int) -> str:
        """The embeds of the prompts that a stage is trained on. InputError if the concept has no such stage."""
        last = 0 if self._concept(concept).binder else self.last_stage(method, concept)
        if stage > last:
            has = ("a finished binder and no stages", "stage 1 alone")[last]
            raise InputError(f"under method '{method}', concept '{concept}' has {has}")
        which = "spatial_prompts" if self.trains_on_frames(method, concept, stage) else "prompts"
        return self.concept_file(concept, f"{{concept}}_{which}.safetensors")

    # -- settings

    def parameters(self, script: str, settings: dict, still: bool = False) -> dict[str, str]:
        """What a rule depends on besides its input files, as Snakemake compares it: the stage's settings, a digest of
        the stage's code, the versions of its packages. What only the language model needs does not count where the
        settings have no dtype for it, since it is not asked; nor do the packages that read and write video where it
        is about an image alone."""
        asks_no_vlm = script in ("concepts", "prompts") and "dtype" not in settings
        code = code_digest(ROOT / "scripts" / f"{script}.py", ("vlm", "devices", "runs") if asks_no_vlm else ())
        packages = () if asks_no_vlm else PACKAGES[script]
        counted = (package for package in packages if not (still and package in OF_VIDEO))
        return {"code": code, "settings": canonical(settings), "versions": canonical(versions(*counted))}

    def is_image(self, concept: str) -> bool:
        return self._concept(concept).kind == "image"

    def is_still(self, composition: str) -> bool:
        return self._composition(composition).frames == 1

    def trim_settings(self, concept: str) -> dict:
        row = self._concept(concept)
        if row.kind == "image":
            return {}
        settings = {"frames": self.model.frames, "start": row.start, "short": row.short}
        return settings | ({"fps": row.fps} if row.fps else {})

    def concepts_settings(self, concept: str) -> dict:
        row = self._concept(concept)
        if not row.spatial:
            return {"dtype": self.config["compute"]["dtype"]}
        by_kind = {"temporal": list(row.temporal)} if row.kind == "video" else {}
        return {"spatial": list(row.spatial), **by_kind}

    def prompts_settings(self, of_frames: bool = False) -> dict:
        """of_frames: of the spatial prompts, one for each frame whatever `count` is."""
        prompts = {name: value for name, value in self.config["prompts"].items() if not (of_frames and name == "count")}
        if prompts["writer"] == "template":
            return {name: prompts[name] for name in ("writer", "count", "seed") if name in prompts}
        return prompts | {"dtype": self.config["compute"]["dtype"], "text_length": self.model.text_length}

    def encode_latents_settings(self) -> dict:
        return {"height": self.model.height, "width": self.model.width, **self._vae_settings()}

    def encode_prompts_settings(self) -> dict:
        return {"text_length": self.model.text_length, "dtype": self.config["compute"]["dtype"]}

    def train_settings(self, method: str, concept: str, stage: int) -> dict:
        """What a stage reads, and nothing that only the other stage does."""
        training, switches = self.config["training"], self.methods[method]
        frames = self.trains_on_frames(method, concept, stage)
        image = self._concept(concept).kind == "image"
        names = ("learning_rate", "weight_decay", "validations", "seed")
        own = "iterations_images" if image else "iterations_frames" if frames else "iterations"
        batch = "batch_size_frames" if image or frames else "batch_size_clips"
        elsewhere = ("temporal_stage", *(("gate", "gate_weighs", "temporal_start") if stage == 1 else ()))
        return {
            "concept": concept,
            "stage": stage,
            "data": "frames" if frames else "clip",
            "training": {name: training[name] for name in names}
            | {"iterations": training[own] or training["iterations"], "batch_size": training[batch]},
            "method": {name: value for name, value in switches.items() if name not in elsewhere},
            "shift": self.model.shift,
            "text_length": self.model.text_length,
            "dtype": self.config["compute"]["dtype"],
        }

    def export_settings(self, concept: str) -> dict:
        return {"sources": [self._concept(concept).binder_source]}

    def compose_settings(self, composition: str) -> dict:
        row = self._composition(composition)
        return {
            "prompt": row.prompt,
            "negative_prompt": row.negative_prompt,
            "sources": [self._concept(concept).binder_source for concept in row.concepts],
            "text_length": self.model.text_length,
            "dtype": self.config["compute"]["dtype"],
        }

    def render_settings(self, composition: str, seed: int) -> dict:
        row = self._composition(composition)
        return {
            "seed": seed,
            "steps": row.steps,
            "shift": self.model.shift,
            "guidance_scale": row.guidance_scale,
            "height": self.model.height,
            "width": self.model.width,
            "frames": row.frames,
            "fps": self.model.fps,
            "dtype": self.config["compute"]["dtype"],
            **self._vae_settings(),
        }

    def sheet_settings(self, composition: str, seed: int) -> dict:
        row = self._composition(composition)
        return {
            "title": f"{composition}, seed {seed}",
            "pieces": [[piece.text, piece.concept] for piece in row.pieces],
            "sources": self.sources(composition),
            "height": self.model.height,
            "width": self.model.width,
        }

    def sources(self, composition: str) -> list[str]:
        """The linked concepts of which there is media to show."""
        return [concept for concept in self._composition(composition).concepts if self.clip(concept)]

    def page_settings(self, method: str) -> dict:
        rows = self.manifest.compositions.values()
        shown = digest([[row.id, row.prompt, row.seeds, row.frames] for row in rows])
        return {"method": method, "shown": shown, "config": self._files(method != MAIN)}

    def ablations_settings(self) -> dict:
        return {"methods": {name: self.methods[name] for name in self.ablations()}, "config": self._files(True)}

    def _vae_settings(self) -> dict:
        compute = self.config["compute"]
        return {"vae_dtype": compute["vae_dtype"], **({"vae_tiling": True} if compute["vae_tiling"] else {})}

    def _files(self, of_ablations: bool) -> dict:
        """The part of the configuration that says which results there are."""
        names = ("concepts", "compositions", "model", "results", *(("ablations",) if of_ablations else ()))
        return {name: self.config[name] for name in names}

    def _concept(self, concept: str) -> Concept:
        return self.manifest.concepts[concept]

    def _composition(self, composition: str) -> Composition:
        return self.manifest.compositions[composition]
