"""The workflow's plan: which file each stage makes, and exactly what each stage reads of the configuration.

Free of torch: Snakemake parses it again in every job.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bico import InputError
from bico.evaluate import BUILT_IN, module_file
from bico.methods import DEFAULT, Method, make
from bico.plan.config import load_config, load_methods, readable
from bico.plan.tables import Composition, Concept, Names, Tables, load_tables
from bico.prompts.writers import WRITERS, Kind
from bico.runtime.files import write_json
from bico.runtime.provenance import OF_VIDEO, ROOT, canonical, code_digest, digest, file_digest, packages_of, versions
from bico.runtime.reading import read_yaml
from bico.settings.model_file import ModelFile, load_model
from bico.text.grammar import link, plain_text
from bico.text.phrases import content_words, read_phrases
from bico.weights.manifests import missing_weights

UNBOUND = "unbound"  # the kind of method whose results are the twins of the others'
# What lies in the results folder besides the methods.
RESERVED = ("concepts", "logs", "benchmarks", "rating")
JUDGES = ("clip", "dino")  # the metrics that ask a model, a component of the same name
OF_VLM = ("dialogue", "qwen", "devices", "runs")  # the modules that only who asks a model needs


def has_accelerator() -> bool:
    """Whether this machine seems to have one, as far as can be told without torch: NVIDIA's, AMD's or Apple's."""
    return sys.platform == "darwin" or shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()


def _template_digest(room: str, page: str) -> str:
    """A digest of the files that a page is made of, which are no code in Python."""
    return digest([file_digest(ROOT / "bico" / room / f"{page}.{part}") for part in ("html", "css", "js")])


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Adds the problems of an InputError to the list, and goes on."""
    try:
        yield
    except InputError as problem:
        problems += problem.problems


def _taken(folder: str, methods: dict[str, dict], before: dict[str, dict]) -> Iterator[str]:
    """Names of methods that stand for something else already."""
    taken = {*RESERVED, *map(str.casefold, before)}
    yield from (f"{folder}: no method can be named {name}" for name in methods if name.casefold() in taken)


@dataclass(frozen=True)
class Plan:
    """A validated configuration with its model file, its tables, and its methods by name: its own first, then those of
    its folder of methods (`others`) and of its folder of ablations."""

    config: dict
    model: ModelFile
    tables: Tables
    methods: dict[str, Method]
    others: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    runs_here: bool = False

    @classmethod
    def load(
        cls, config: dict, thorough: bool = False, runs_here: bool = False, files: Iterable[str | Path] = ()
    ) -> "Plan":
        """If `thorough`, the media and the model's own files are asked too, as the main process does once. runs_here:
        the jobs run on this very machine. files: those that `config` was read from, which are asked for what a reading
        of YAML passes over. Raises InputError with all problems of the configuration, the model file, the tables and
        the methods, as far as what is wrong in one lets the others be found."""
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
        for folder in ("methods", "ablations"):
            if folder in given and folder in config and not Path(config[folder]).exists():
                problems.append(f"{folder}: no such folder: {config[folder]}")
        named = [config.get(name) for name in ("concepts", "compositions", "model", "weights", "method")]
        concepts, compositions, model_file, weights, method = named
        model = read(load_model, model_file, weights)
        tables = read(lambda *paths: load_tables(*paths, model, thorough), concepts, compositions)
        main = {method["kind"]: method} if method else {}
        others, ablations = (read(load_methods, config.get(name), method) or {} for name in ("methods", "ablations"))
        strange = [name for name, settings in ablations.items() if settings["kind"] != DEFAULT]
        problems += [f"{config.get('ablations')}: {name} is of another kind than {DEFAULT}" for name in strange]
        others = {name: settings for name, settings in others.items() if main.get(name) != settings}
        problems += _taken(config.get("methods"), others, main)
        problems += _taken(config.get("ablations"), ablations, main | others)
        for name in config["evaluation"]["metrics"] if "evaluation" in config else ():
            if name not in BUILT_IN:
                read(module_file, name)
        if problems:
            raise InputError(*problems)
        settings = main | others | ablations
        if config["report"]["unbound"] and UNBOUND not in (each["kind"] for each in settings.values()):
            if UNBOUND in map(str.casefold, settings):
                said = f"the twins are the results of a method {UNBOUND}, and another has its name"
                raise InputError(f"report.unbound: {said}")
            settings[UNBOUND] = {"kind": UNBOUND}
        methods = {name: make(name, each) for name, each in settings.items()}
        return cls(config, model, tables, Names("method", methods), tuple(others), tuple(ablations), runs_here)

    @property
    def main(self) -> Method:
        """The configuration's own method, whose results `all` makes."""
        return next(iter(self.methods.values()))

    def warnings(self) -> Iterator[str]:
        """What may be meant otherwise: words that are linked to a concept and were never bound to it."""
        known = {row.id: self._known_phrases(row) for row in self.trained()}
        words = {concept: content_words(*phrases) for concept, phrases in known.items()}
        for row in self.tables.compositions.values():
            for piece in row.pieces:
                phrases = known.get(piece.concept)
                if phrases and not words[piece.concept] & content_words(piece.text):
                    where = f"{self.config['compositions']}, row {row.row}, prompt"
                    linked, bound = link(piece.text, piece.concept), ", ".join(phrases)
                    yield f"{where}: {linked} has no word that '{piece.concept}' is bound to: {bound}"

    def _known_phrases(self, row: Concept) -> tuple[str, ...]:
        """A concept's phrases: those of its table, or those that a model has named."""
        if row.spatial:
            return (*row.spatial, *row.temporal)
        with contextlib.suppress(InputError):
            return read_phrases(self.concept_file(row.id, "{concept}.json")).all
        return ()

    def require_weights(self, *components: str) -> None:
        """Raises InputError when weights that this configuration needs are missing, with the command that gets them.
        components: some that are needed besides."""
        needed = dict.fromkeys((*self.needed_components(), *components))
        if missing := missing_weights(self.model, tuple(needed)):
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
                self.concept(concept)
            case (first, *_) if first in RESERVED:
                pass
            case (method, "binders", concept, *_):
                self.methods[method], self.concept(concept)
            case (method, "compositions", composition, *_):
                self.methods[method], self.composition(composition)
            case (method, "index.html"):
                self.methods[method]

    def needed_components(self) -> tuple[str, ...]:
        """The components of the model that this configuration needs: the language model only where it is asked."""
        return (*self._parts(self.main.components), *self._of_prompts, *self.judges)

    def _parts(self, components: Iterable[str]) -> list[str]:
        """The components with all experts in the place of `transformer`."""
        return [part for name in components for part in (self.model.experts if name == "transformer" else (name,))]

    @cached_property
    def _of_prompts(self) -> tuple[str, ...]:
        """The components that the prompts of the main method need."""
        if not self.main.training_prompts(self):
            return ()
        names = () if all(concept.spatial for concept in self.trained()) else ("vlm",)
        return tuple(dict.fromkeys((*names, *filter(None, [self.writer.component]))))

    @property
    def writer(self) -> Kind:
        """Who writes the training prompts."""
        return WRITERS[self.config["prompts"]["writer"]]

    def compute(self) -> dict:
        """How scripts use the machine; a change of it is no cause to run again."""
        computes = ("dtype", "vae_dtype", "vae_tiling")
        used = {name: value for name, value in self.config["compute"].items() if name not in computes}
        return used | {"embeds": self.shared_embeds}

    @property
    def shared_embeds(self) -> str:
        """The folder in which the jobs of a run leave prompt embeds for each other (see `bico.encode.embeds`)."""
        return f"{self.config['results']}/concepts/.embeds"

    def leave_word(self) -> None:
        """Tells the jobs of a run what its other jobs encode (see `bico.encode.embeds`), once before they start."""
        embeds = (file for method in self.methods.values() for file in method.training_prompts(self))
        prompts = dict.fromkeys(str(Path(file).with_suffix(".csv")) for file in embeds)
        rows = self.tables.compositions.values()
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
        """Main memory in MB for a job that loads one of the components at a time: the largest, and `more_gb`. A
        training job has all experts at once, in each of its processes, one a card."""
        sizes, parts = [0], (name for name in self._parts(components) if name in self.model.components)
        for manifest in map(self.model.manifest, parts):
            if manifest.is_file():
                sizes.append(sum(file["size"] for file in json.loads(manifest.read_text("utf-8"))["files"].values()))
        processes, most = (max(1, self.gpus(training)), sum(sizes)) if training else (1, max(sizes))
        return round((most / 1e6 * 1.2 + 1000 * more_gb) * processes)

    def of_experts(self) -> dict:
        """What a stage that asks the denoiser reads of a model of two experts; nothing of any other."""
        return {"boundary": self.model.boundary} if self.model.boundary is not None else {}

    # -- files

    def concept_file(self, concept: str, name: str) -> str:
        """A file of a concept: `{concept}` in `name` stands for its id."""
        return f"{self.config['results']}/concepts/{concept}/{name.format(concept=concept)}"

    def clip(self, concept: str) -> str | None:
        """The trimmed media: .mp4 of a video, .png of an image; None of a concept that is only a binder file."""
        kind = self.concept(concept).kind
        return kind and self.concept_file(concept, "{concept}." + ("png" if self.is_image(concept) else "mp4"))

    def method_file(self, method: str, name: str) -> str:
        """A file of a method."""
        return f"{self.config['results']}/{method}/{name}"

    def result(self, method: str, composition: str, seed: int) -> str:
        return self.method_file(method, f"compositions/{composition}/seed{seed}.{self.suffix(composition)}")

    def suffix(self, composition: str) -> str:
        return "png" if self.is_still(composition) else "mp4"

    def made(self, method: str) -> list[Composition]:
        """The compositions that a method can make."""
        rows = self.tables.compositions.values()
        return [row for row in rows if self.methods[method].refusal(self, row) is None]

    def results(self, method: str) -> list[str]:
        """Every video or image of a method."""
        return [self.result(method, row.id, seed) for row in self.made(method) for seed in row.seeds]

    def twin(self, method: str, composition: str, seed: int) -> str | None:
        """What the same prompt and seed give where no word is bound, to look at beside a result; None where nothing was
        bound, or it is not wanted (`report.unbound`)."""
        wanted = self.config["report"]["unbound"] and self.methods[method].binds_prompts
        if not wanted or self.methods[method].kind == UNBOUND or not self.composition(composition).concepts:
            return None
        return self.result(self.unbound, composition, seed)

    @property
    def unbound(self) -> str:
        """The method whose results are the twins of the others'."""
        return next(name for name, each in self.methods.items() if each.kind == UNBOUND)

    def twins(self, method: str) -> list[str]:
        """The twins of all results of a method."""
        twins = (self.twin(method, row.id, seed) for row in self.made(method) for seed in row.seeds)
        return [twin for twin in twins if twin]

    # -- evaluation

    @property
    def metrics(self) -> list[str]:
        """What results are measured by: of `evaluation.metrics`, those for which there is a model, where one is
        asked."""
        wanted = self.config["evaluation"]["metrics"]
        return [name for name in wanted if name not in JUDGES or name in self.model.components]

    @property
    def judges(self) -> list[str]:
        """The components that embed what results show."""
        return [name for name in self.metrics if name in JUDGES]

    @property
    def compared(self) -> list[str]:
        """The methods that `compare` sets beside each other: the configuration's own, then the others; not the
        ablations, which have a table of their own."""
        return [name for name in self.methods if name not in self.ablations]

    def judged(self, method: str) -> list[tuple[str, str, int]]:
        """Every result of a method that is measured, as its method, composition and seed."""
        return self._results_of(method) if self.metrics else []

    def _results_of(self, method: str) -> list[tuple[str, str, int]]:
        return [(method, row.id, seed) for row in self.made(method) for seed in row.seeds]

    def measured(self, method: str) -> list[str]:
        return [f"{self.result(*of)}.metrics.json" for of in self.judged(method)]

    def metrics_of(self, method: str) -> list[str]:
        """The tables of metrics that a method's page shows: its own, and its twins'."""
        names = [method] + ([self.unbound] if self.twins(method) else [])
        return [self.method_file(name, "metrics.csv") for name in names] if self.metrics else []

    def features_of(self, method: str, composition: str, seed: int) -> list[str]:
        """The features of a result and of its sources."""
        media = (self.result(method, composition, seed), *map(self.clip, self.sources(composition)))
        return [f"{path}.features.safetensors" for path in media] if self.judges else []

    def tracks_of(self, method: str, composition: str, seed: int) -> list[str]:
        """The tracks of a result, if it moves, and of its sources that do."""
        if "motion" not in self.metrics or self.is_still(composition):
            return []
        media = (self.result(method, composition, seed), *map(self.clip, self.sources(composition)))
        return [f"{path}.tracks.safetensors" for path in media if path.endswith(".mp4")]

    def features_settings(self, media: str) -> dict:
        """media: a file under the results, by its path in them."""
        settings = {"dtype": self.config["compute"]["dtype"]}
        match Path(media).parts:
            case (_, "compositions", composition, _):
                return settings | {"text": plain_text(self.composition(composition).pieces)}
        return settings

    def measure_settings(self, composition: str) -> dict:
        modules = {name: code_digest(module_file(name)) for name in self.metrics if name not in BUILT_IN}
        return {
            "metrics": self.metrics,
            "sources": [[concept, self.concept(concept).kind] for concept in self.sources(composition)],
            "pieces": [[piece.text, piece.concept] for piece in self.composition(composition).pieces],
            **({"modules": modules} if modules else {}),
        }

    def metrics_settings(self, method: str) -> dict:
        return {"results": [list(of) for of in self.judged(method)]}

    def comparison_settings(self) -> dict:
        files = {name: self.methods[name].trained_files(self) for name in self.compared}
        return {"results": self.config["results"], "methods": files}

    def rated(self) -> list[tuple[str, str, int]]:
        """The results that people are to rate: those of compositions of words that are bound."""
        rows = {row.id for row in self.tables.compositions.values() if row.concepts}
        return [of for name in self.compared for of in self._results_of(name) if of[1] in rows]

    def rated_sources(self) -> list[str]:
        """The concepts whose media is shown beside them."""
        return list(dict.fromkeys(name for _, composition, _ in self.rated() for name in self.sources(composition)))

    def rating_settings(self) -> dict:
        rows = {composition: self.composition(composition) for _, composition, _ in self.rated()}
        return {
            "results": [list(of) for of in self.rated()],
            "sources": {name: self.sources(name) for name in rows},
            "prompts": {name: plain_text(row.pieces) for name, row in rows.items()},
            "template": _template_digest("evaluate", "rating"),
        }

    def page(self, method: str) -> str:
        return self.method_file(method, "index.html")

    def trained(self) -> list[Concept]:
        """The concepts that are trained here: those without a finished binder."""
        return [concept for concept in self.tables.concepts.values() if concept.binder is None]

    # -- settings

    def parameters(self, script: str, settings: dict, still: bool = False, asks: bool = True) -> dict[str, str]:
        """What a rule depends on besides its input files, as Snakemake compares it: the stage's settings, a digest of
        the stage's code, the versions of its packages. What only a language model needs does not count where none is
        asked; nor do the packages that read and write video where it is about an image alone."""
        path = ROOT / "scripts" / f"{script}.py"
        code = code_digest(path, () if asks else OF_VLM)
        packages = packages_of(script, path) if asks else ()
        counted = (package for package in packages if not (still and package in OF_VIDEO))
        return {"code": code, "settings": canonical(settings), "versions": canonical(versions(*counted))}

    def is_image(self, concept: str) -> bool:
        return self.concept(concept).kind == "image"

    def is_still(self, composition: str) -> bool:
        return self.composition(composition).frames == 1

    def trim_settings(self, concept: str) -> dict:
        row = self.concept(concept)
        if row.kind == "image":
            return {}
        settings = {"frames": self.model.frames, "start": row.start, "short": row.short}
        return settings | ({"fps": row.fps} if row.fps else {})

    def concepts_settings(self, concept: str) -> dict:
        row = self.concept(concept)
        if not row.spatial:
            return {"dtype": self.config["compute"]["dtype"]}
        by_kind = {"temporal": list(row.temporal)} if row.kind == "video" else {}
        return {"spatial": list(row.spatial), **by_kind}

    def prompts_settings(self, of_frames: bool = False) -> dict:
        """of_frames: of the spatial prompts, one for each frame whatever `count` is."""
        prompts = {name: value for name, value in self.config["prompts"].items() if not (of_frames and name == "count")}
        if not self.writer.asks:
            return {name: prompts[name] for name in ("writer", "count", "seed") if name in prompts}
        return prompts | {"dtype": self.config["compute"]["dtype"], "text_length": self.model.text_length}

    def encode_latents_settings(self) -> dict:
        return {"height": self.model.height, "width": self.model.width, **self._vae_settings()}

    def encode_prompts_settings(self) -> dict:
        return {"text_length": self.model.text_length, "dtype": self.config["compute"]["dtype"]}

    def prompt_settings(self, composition: str) -> dict:
        """What encoding a composition's prompt reads."""
        row = self.composition(composition)
        return {
            "prompt": row.prompt,
            "negative_prompt": row.negative_prompt,
            "text_length": self.model.text_length,
            "dtype": self.config["compute"]["dtype"],
        }

    def render_settings(self, composition: str, seed: int) -> dict:
        row = self.composition(composition)
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
            **self.of_experts(),
        }

    def sheet_settings(self, composition: str, seed: int) -> dict:
        row = self.composition(composition)
        return {
            "title": f"{composition}, seed {seed}",
            "pieces": [[piece.text, piece.concept] for piece in row.pieces],
            "sources": self.sources(composition),
            "height": self.model.height,
            "width": self.model.width,
        }

    def sources(self, composition: str) -> list[str]:
        """The linked concepts of which there is media to show."""
        return [concept for concept in self.composition(composition).concepts if self.clip(concept)]

    def page_settings(self, method: str) -> dict:
        """A digest of what a method's page shows, and the part of the configuration that says so: all of it would be
        too long for a command line."""
        names = ["concepts", "compositions", "model", "report", "evaluation"]
        names += [] if self.main.kind == DEFAULT else ["method"]
        names += ["methods"] if self.others and (method in self.others or self.twins(method)) else []
        names += ["ablations"] if method in self.ablations else []
        config = {name: self.config[name] for name in names}
        shown = digest([self.page_content(method), _template_digest("report", "page")])
        return {"method": method, "shown": shown, "config": config}

    def strength_plot(self, method: str, composition: str) -> str | None:
        """Where it is drawn how strongly each word is bound; None where none is."""
        binds = self.methods[method].binds_prompts and self.methods[method].kind != UNBOUND
        wanted = binds and self.composition(composition).concepts
        return self.method_file(method, f"compositions/{composition}/bound.png") if wanted else None

    def strength_plots(self, method: str) -> list[str]:
        plots = (self.strength_plot(method, row.id) for row in self.made(method))
        return [plot for plot in plots if plot]

    def to_look_at(self) -> list[str]:
        """What a run ends in, as far as it is there, a line each."""
        named = {"page": self.page(self.main.name), "comparison": f"{self.config['results']}/compare.html"}
        named |= {"metrics": self.method_file(self.main.name, "metrics.csv")}
        return [f"{name}: {path}" for name, path in named.items() if Path(path).is_file()]

    def phrase_files(self, method: str) -> list[str]:
        """The concept files of those that a method trains: which words its compositions can link."""
        rows = self.trained() if self.methods[method].training_prompts(self) else []
        return [self.concept_file(row.id, "{concept}.json") for row in rows]

    def page_content(self, method: str) -> dict:
        """What a method's page shows; paths are relative to it."""
        folder = Path(self.page(method)).parent

        def link(path: str) -> str:
            return Path(os.path.relpath(path, folder)).as_posix()

        rows = [(row, self.methods[method].refusal(self, row)) for row in self.tables.compositions.values()]
        return {
            "title": f"{self.model.name}, method {method}",
            "concepts": len(self.tables.concepts),
            "depth": len(Path(self.config["results"]).parts),  # of folders; their names may change
            "compositions": [
                {
                    "id": row.id,
                    "pieces": [[piece.text, piece.concept, piece.scale] for piece in row.pieces],
                    "sources": [[concept, link(self.clip(concept))] for concept in self.sources(row.id)],
                    "results": [
                        [seed, *(path and link(path) for path in self._with_twin(method, row.id, seed))]
                        for seed in row.seeds
                    ],
                    "settings": {
                        "frames": row.frames,
                        "size": f"{self.model.width}x{self.model.height}",
                        "steps": row.steps,
                        "guidance": row.guidance_scale,
                        "shift": self.model.shift,
                    },
                    "targets": [
                        Path(self.result(method, row.id, seed)).relative_to(self.config["results"]).as_posix()
                        for seed in row.seeds
                    ],
                    "strength": (plot := self.strength_plot(method, row.id)) and link(plot),
                    "plots": [
                        [f"{Path(path).parent.name}, {Path(path).stem}", link(path)]
                        for path in self.methods[method].plots(self, row.concepts)
                    ],
                }
                for row, refusal in rows
                if refusal is None
            ],
            "refused": [[row.id, refusal] for row, refusal in rows if refusal is not None],
        }

    def _with_twin(self, method: str, composition: str, seed: int) -> tuple[str, str | None]:
        return self.result(method, composition, seed), self.twin(method, composition, seed)

    def ablations_settings(self) -> dict:
        """The switches of each ablation, and the kinds of the concepts whose logs it has (see `ablation_logs`)."""
        switches = {name: self.methods[name].switches for name in self.ablations}
        return {"methods": switches, "kinds": [row.kind for row in self.trained()]}

    def ablation_logs(self) -> list[str]:
        """The log of the last stage of each ablation's concepts."""
        return [log for name in self.ablations for log in self.methods[name].last_logs(self)]

    def _vae_settings(self) -> dict:
        compute = self.config["compute"]
        return {"vae_dtype": compute["vae_dtype"], **({"vae_tiling": True} if compute["vae_tiling"] else {})}

    def concept(self, concept: str) -> Concept:
        return self.tables.concepts[concept]

    def composition(self, composition: str) -> Composition:
        return self.tables.compositions[composition]
