"""The benchmark of binding: concepts of held-out scenes, composed anew by the pipeline, judged by the oracle.

`sources` are the scenes and `trials` the prompts that are composed of them; `write_cases` writes both as the tables of
the pipeline; `judge` measures its results.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from bico import InputError
from bico.media.video import read_frames, write_image, write_video
from bico.runtime.command import progress
from toyworld.captions import SCENE_FIELDS, SubjectWords, Words, agreement, parse, phrases_of, words_of
from toyworld.oracle import Seen, SeenSubject, colour_distance, in_pixels, motion_match, read_clip
from toyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    FPS,
    FRAMES,
    MOTIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    render,
    sample_scene,
)

FIRST = 5_000_000  # the seed of the first case; training, evaluation and measurements of the oracle stay below
STILL_FRAME = 40  # of a scene, that an image concept shows
MOVES = tuple(word for word in MOTIONS if word not in ("still", "right"))  # right is left, mirrored
COUNT = 12  # of image concepts, and of video concepts


@dataclass(frozen=True)
class Source:
    """A concept: a scene's clip, or one frame of it."""

    name: str
    scene: Scene
    is_image: bool

    @property
    def words(self) -> Words:
        return words_of(self.scene, STILL_FRAME if self.is_image else None)

    def phrase(self, subject: int = 0) -> str:
        return phrases_of(replace(self.words, subjects=self.words.subjects[subject : subject + 1])).spatial[0]

    @property
    def motion(self) -> str:
        return phrases_of(self.words).temporal[0]

    @property
    def backdrop(self) -> str:
        return phrases_of(self.words).spatial[-1]


@dataclass(frozen=True)
class Trial:
    """A composition. kind: what it combines. subject, motion, ground, second: the sources of its subject, motion,
    background and second subject. bound: whether it has links; its twin without any shares its seed."""

    name: str
    kind: str
    prompt: str
    frames: int
    subject: str | None = None
    motion: str | None = None
    ground: str | None = None
    second: str | None = None
    bound: bool = True

    @property
    def text(self) -> str:
        """The prompt without its links."""
        return _unlinked(self.prompt)


def _unlinked(prompt: str) -> str:
    parts = prompt.split("[")
    return parts[0] + "".join(part.replace("]", "", 1).replace(_target(part), "", 1) for part in parts[1:])


def _target(part: str) -> str:
    return part[part.index("](") + 1 : part.index(")") + 1]


# The cases


def sources() -> dict[str, Source]:
    """COUNT image and COUNT video concepts, whose shapes, textures and sizes (of videos: motions) go round, and half
    as many clips of two subjects."""
    images = [
        _first_fitting(f"i{k:02}", FIRST + k, True, _has(shape=k % 6, texture=(k + k // 6) % 3, size=k // 3 % 2))
        for k in range(COUNT)
    ]
    videos = [_first_fitting(f"v{k:02}", FIRST + 100 + k, False, partial(_moves, MOVES[k])) for k in range(COUNT)]
    pairs = [
        _first_fitting(f"d{k:02}", FIRST + 200 + k, False, lambda scene: True, subjects=2) for k in range(COUNT // 2)
    ]
    return {source.name: source for source in (*images, *videos, *pairs)}


def _has(shape: int, texture: int, size: int) -> Callable[[Scene], bool]:
    wanted = SHAPES[shape], TEXTURES[texture], list(SIZES)[size]

    def has(scene: Scene) -> bool:
        (subject,) = scene.subjects
        size = words_of(scene, STILL_FRAME).subjects[0].size
        return (subject.shape, subject.texture, size) == wanted

    return has


def _moves(word: str, scene: Scene) -> bool:
    return scene.subjects[0].motion.word == word


def _first_fitting(name: str, seed: int, is_image: bool, fits: Callable[[Scene], bool], subjects: int = 1) -> Source:
    """The first of the seed's scenes that fits and has steady light, which a prompt rarely names."""
    rng = np.random.default_rng(seed)
    while True:
        scene = sample_scene(rng, subjects)
        if scene.light.word == "steady" and fits(scene):
            return Source(name, scene, is_image)


def trials(of: Mapping[str, Source], kinds: Sequence[str] = ()) -> list[Trial]:
    """All compositions of the sources; of some kinds: only those that are bound."""
    return [trial for trial in _all_trials(of) if not kinds or (trial.kind in kinds and trial.bound)]


def _all_trials(of: Mapping[str, Source]) -> list[Trial]:
    images, videos, pairs = ([source for name, source in of.items() if name[0] == kind] for kind in "ivd")
    found = []
    for k, image in enumerate(images):
        other = images[(k + 5) % COUNT]
        video = videos[(k + 3) % COUNT]
        ground = f"on a {_other_backdrop(k, image)}"
        found += _twins("image", k, f"A [{image.phrase()}]({image.name}) {ground}.", 1, image)
        both = f"A [{image.phrase()}]({image.name}) [{video.motion}]({video.name})"
        found.append(_trial("both", k, f"{both} {ground}.", FRAMES, image, video))
        found.append(_trial("editing", k, _edited(k, image), 1, image, ground=image))
        if k % 2 == 0:
            three = f"{both} on a [{other.backdrop}]({other.name})."
            found.append(_trial("three", k, three, FRAMES, image, video, ground=other))
    for k, video in enumerate(videos):
        subject = _other_subject(k, video)
        ground = f"on a {_other_backdrop(k, video)}"
        found += _twins("video", k, f"A {subject} [{video.motion}]({video.name}) {ground}.", FRAMES, None, video)
        if k % 2 == 0:
            shape = videos[(k + 4) % COUNT]
            two = f"A [{shape.phrase()}]({shape.name}) [{video.motion}]({video.name}) {ground}."
            found.append(_trial("video+video", k, two, FRAMES, shape, video))
    small = [image for image in images if image.words.subjects[0].size == "small"]
    for k, first in enumerate(small):
        second = next(image for image in small[k + 1 :] + small[:k] if _differ(first, image))
        two = f"A [{first.phrase()}]({first.name}) next to a [{second.phrase()}]({second.name})"
        found.append(_trial("image+image", k, f"{two} on a {_other_backdrop(k, first)}.", 1, first, second=second))
    for k, pair in enumerate(pairs):
        kept = f"A [{pair.phrase(0)}]({pair.name}) on a {_other_backdrop(k, pair)}."
        found.append(_trial("decomposition", k, kept, 1, pair))
    return found


def _trial(
    kind: str, k: int, prompt: str, frames: int, subject: Source | None, motion: Source | None = None,
    ground: Source | None = None, second: Source | None = None,
) -> Trial:  # fmt: skip
    names = (source and source.name for source in (subject, motion, ground, second))
    return Trial(f"{kind.replace('+', '_and_')}_{k:02}", kind, prompt, frames, *names)


def _twins(kind: str, k: int, prompt: str, frames: int, subject, motion=None) -> list[Trial]:
    bound = _trial(kind, k, prompt, frames, subject, motion)
    return [bound, replace(bound, name=f"{bound.name}_unbound", prompt=bound.text, bound=False)]


def _other_backdrop(k: int, source: Source) -> str:
    return f"plain {_other_ground(k, source)} background"


def _other_ground(k: int, source: Source) -> str:
    """The colour of a background that neither the source's background nor a subject of it has."""
    taken = {source.words.background, *(subject.colour for subject in source.words.subjects)}
    free = [word for word in BACKGROUNDS if word not in taken]
    return free[k % len(free)]


def _other_subject(k: int, source: Source) -> str:
    (own,) = source.words.subjects
    shapes = [word for word in SHAPES if word != own.shape]
    colours = [word for word in COLOURS if word not in (own.colour, _other_ground(k, source))]
    return f"{own.size} {colours[k % len(colours)]} {shapes[k % len(shapes)]}"


def _edited(k: int, image: Source) -> str:
    """The source's own words, linked, but for another colour."""
    (own,), words = image.words.subjects, image.words
    colours = [word for word in COLOURS if word not in (own.colour, words.background)]
    before = f"[{own.size}]({image.name}) " if own.size else ""
    linked = f"[{own.texture} {own.shape}]({image.name}) on a [{image.backdrop}]({image.name})"
    return f"A {before}{colours[k % len(colours)]} {linked}."


def _differ(first: Source, second: Source) -> bool:
    (own,), (other,) = first.words.subjects, second.words.subjects
    return own.shape != other.shape and own.colour != other.colour


def write_cases(folder: str | Path, kinds: Sequence[str] = ()) -> None:
    """Writes `media/`, `concepts.csv` and `compositions.csv` for the pipeline; kinds: as `trials` takes them."""
    folder, of = Path(folder), sources()
    chosen = trials(of, kinds)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    concepts, compositions = [("concept", "source", "spatial", "temporal")], [("composition", "prompt", "frames")]
    for source in (source for source in of.values() if any(f"]({source.name})" in trial.prompt for trial in chosen)):
        path = folder / "media" / f"{source.name}{'.png' if source.is_image else '.mp4'}"
        if source.is_image:
            write_image(path, render(source.scene, [STILL_FRAME])[0])
        else:
            write_video(path, render(source.scene), FPS)
        phrases = phrases_of(source.words)
        concepts.append((source.name, path.as_posix(), "; ".join(phrases.spatial), "; ".join(phrases.temporal)))
    compositions += [(trial.name, trial.prompt, trial.frames) for trial in chosen]
    for name, rows in (("concepts.csv", concepts), ("compositions.csv", compositions)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


# The results


def measures(trial: Trial, of: Mapping[str, Source], frames: np.ndarray) -> dict[str, float]:
    """What the oracle measures in a trial's frames, by the name of the measure; shares are 0 or 1.

    colour: CIEDE2000 between the subject's shade and its source's; mean: between their mean colours, with the marks of
    their textures, which does not mind how sharp these are drawn; shape, texture: kept, as ground, the background's
    colour and pattern; of two subjects all are the worse one's. motion: the word for the subject's motion is its
    source's; path: the correlation of the two motions; speed: their ratio; free: of all that the free words say, the
    share that holds; count: there are as many subjects as named; absent: there is a subject of the kept one's shape or
    colour and none of the other's; edited: the subject has its new colour; unedited: shape, texture, size and
    background are the source's.
    """
    seen, found = read_clip(frames), {}
    claimed = parse(trial.text)
    bound = parse("".join(part.split("]")[0] + ". " for part in trial.prompt.split("[")[1:])) if trial.bound else None
    free = agreement(_free(claimed, bound, trial), seen.words)
    free.pop("count")
    if free and trial.bound:
        found["free"] = float(np.mean(list(free.values())))
    found["count"] = float(len(seen.subjects) == len(claimed.subjects))
    subject, *others = _in_order(seen, [of[name] for name in (trial.subject, trial.second) if name]) or [None]
    if trial.ground:
        wanted = of[trial.ground].words
        found["ground"] = float((seen.words.background, seen.words.pattern) == (wanted.background, wanted.pattern))
    if trial.kind == "editing":
        found |= _of_edit(parse(trial.text).subjects[0], of[trial.subject], subject, found.pop("ground"))
    elif trial.subject:
        kept = [_kept(of[trial.subject], subject), *(_kept(of[trial.second], other) for other in others)]
        found |= {name: (max if name in _DISTANCES else min)(each[name] for each in kept) for name in kept[0]}
    if trial.kind == "decomposition":
        found["absent"] = float(_absent(seen, *of[trial.subject].words.subjects))
    if trial.motion:
        own, wanted = subject and in_pixels(subject.pose), _path(of[trial.motion])
        path, speed = motion_match(own, wanted) if own is not None and len(own) == len(wanted) else (0.0, 0.0)
        word = float(_same(subject, of[trial.motion].words.subjects[0], "motion"))
        found |= {"motion": word, "path": float(np.nan_to_num(path)), "speed": float(np.nan_to_num(speed))}
    return found


def _in_order(seen: Seen, wanted: Sequence[Source]) -> list[SeenSubject | None]:
    """Of the subjects, for each source the one most like its own; without sources the first that is seen."""

    def matches(subjects: Sequence[SeenSubject | None]) -> int:
        pairs = zip(subjects, (source.words.subjects[0] for source in wanted), strict=True)
        return sum(_same(subject, kept, name) for subject, kept in pairs for name in _DISTINGUISHING)

    nobody = [None] * len(wanted)
    return list(max(permutations([*seen.subjects, *nobody], len(wanted)), key=matches)) if wanted else seen.subjects[:1]


def _same(subject: SeenSubject | None, wanted: SubjectWords, name: str) -> bool:
    return subject is not None and getattr(subject.words, name) == getattr(wanted, name)


def _absent(seen: Seen, kept: SubjectWords, other: SubjectWords) -> bool:
    """Whether a subject has what distinguishes the kept one from the other, its shape or its colour, and none the
    other's."""
    differ = [name for name in _DISTINGUISHING if getattr(kept, name) != getattr(other, name)]
    of_kept, of_other = (
        any(_same(subject, which, name) for subject in seen.subjects for name in differ) for which in (kept, other)
    )
    return of_kept and not of_other


def _kept(source: Source, subject: SeenSubject | None) -> dict[str, float]:
    kept = {name: float(_same(subject, source.words.subjects[0], name)) for name in ("shape", "texture")}
    if subject is None:
        return {**dict.fromkeys(_DISTANCES, _FAR), **kept}
    shade = source.scene.subjects[0].shade
    reference = min(_reading(source).subjects, key=lambda one: colour_distance(one.shade, shade))
    distances = colour_distance(subject.shade, shade), colour_distance(subject.mean, reference.mean)
    return {**dict(zip(_DISTANCES, distances, strict=True)), **kept}


def _reading(source: Source) -> Seen:
    return read_clip(render(source.scene, [STILL_FRAME] if source.is_image else range(FRAMES)))


def _of_edit(edited: SubjectWords, source: Source, subject: SeenSubject | None, ground: float) -> dict[str, float]:
    wanted = source.words.subjects[0]
    stays = [_same(subject, wanted, name) for name in ("shape", "texture", "size") if getattr(wanted, name)]
    return {"edited": float(_same(subject, edited, "colour")), "unedited": float(all(stays) and ground == 1)}


_DISTINGUISHING = ("shape", "colour")
_DISTANCES = ("colour", "mean")
_FAR = 50.0  # the colour distance where there is no subject: that of quite another colour


def _free(claimed: Words, bound: Words | None, trial: Trial) -> Words:
    """What the free words claim: all that is claimed, less what linked words say."""
    if bound is None:
        return claimed
    rest = replace(claimed, **{field: None for field in SCENE_FIELDS if getattr(bound, field)})
    subjects = [
        replace(subject, **{name: None for name in vars(subject) if _linked(trial, name)}) for subject in rest.subjects
    ]
    return replace(rest, subjects=tuple(subjects))


def _linked(trial: Trial, name: str) -> bool:
    """Whether an attribute of the subject is bound; an edited colour is judged apart."""
    return trial.motion is not None if name == "motion" else trial.subject is not None


def _path(source: Source) -> np.ndarray:
    return in_pixels(_reading(source).subjects[0].pose)


@dataclass(frozen=True)
class Row:
    """A figure of the table: what, its value, its 95 % bootstrap interval, of how many trials, and what it must be."""

    what: str
    value: float
    low: float
    high: float
    trials: int
    goal: str


def judge(cases: str | Path, results: str | Path) -> list[tuple[Trial, dict[str, float]]]:
    """The trials that `write_cases` wrote into a folder, and their measures. results: a method's folder of what the
    pipeline made of them. Raises InputError when something is missing."""
    of, found = sources(), []
    with (Path(cases) / "compositions.csv").open(encoding="utf-8", newline="") as file:
        named = {row["composition"] for row in csv.DictReader(file)}
    chosen = [trial for trial in trials(of) if trial.name in named]
    for trial in progress(chosen, f"judging {Path(results).name}", "result"):
        suffix = ".png" if trial.frames == 1 else ".mp4"
        path = Path(results) / "compositions" / trial.name / f"seed0{suffix}"
        if not path.is_file():
            raise InputError(f"{path}: is not there; run the pipeline on the cases first")
        found.append((trial, measures(trial, of, read_frames(path))))
    return found


def table(found: Sequence[tuple[Trial, dict[str, float]]]) -> list[Row]:
    """The figures of trials and their `measures`."""

    def of(measure: str, *kinds: str, bound: bool = True) -> np.ndarray:
        return np.array([m[measure] for t, m in found if t.kind in kinds and t.bound == bound and measure in m])

    image, plain = of("colour", "image"), of("colour", "image", bound=False)
    mean, plain_mean = of("mean", "image"), of("mean", "image", bound=False)
    moved = np.array([m["path"] >= 0.9 for t, m in found if t.kind == "video" and t.bound], float)
    near = np.array([abs(m["speed"] - 1) <= 0.15 for t, m in found if t.kind == "video" and t.bound], float)
    composed = {
        kind: np.array([_holds(m) for t, m in found if t.kind == kind], float)
        for kind in ("both", "video+video", "three", "image+image")
    }
    everything = tuple({t.kind for t, _ in found})
    return [
        _row("image: colour distance", image, "CIEDE2000"),
        _row("image: colour distance, unbound", plain, "CIEDE2000"),
        _ratio("image: colour distance over the unbound one", image, plain, "<= 0.33"),
        _row("image: distance of mean colours", mean, "CIEDE2000"),
        _row("image: distance of mean colours, unbound", plain_mean, "CIEDE2000"),
        _ratio("image: that of mean colours over the unbound one", mean, plain_mean, ""),
        _row("image: shape kept", of("shape", "image"), ">= 85 %"),
        _row("image: texture kept", of("texture", "image"), ">= 85 %"),
        _row("video: motion's word kept", of("motion", "video"), ""),
        _row("video: correlation of the paths", of("path", "video"), ">= 0.9"),
        _row("video: correlation of the paths, unbound", of("path", "video", bound=False), "near chance"),
        _row("video: share with a correlation of 0.9", moved, ""),
        _row("video: speed within 15 %", near, ">= 85 %"),
        *(_row(f"{kind}: all that is bound holds", holds, ">= 80 %") for kind, holds in composed.items()),
        _row("both: colour distance", of("colour", "both"), "CIEDE2000"),
        _row("both: shape kept", of("shape", "both"), ""),
        _row("both: texture kept", of("texture", "both"), ""),
        _row("both: motion's word kept", of("motion", "both"), ""),
        _row("both: correlation of the paths", of("path", "both"), ""),
        _row("free words hold", of("free", *everything), ">= 85 %"),
        _row("decomposition: the other is absent", of("absent", "decomposition"), ">= 85 %"),
        _row("decomposition: there is one subject", of("count", "decomposition"), ""),
        _row("editing: the edited changes", of("edited", "editing"), ">= 85 %"),
        _row("editing: the others stay", of("unedited", "editing"), ">= 85 %"),
    ]


def _holds(measured: dict[str, float]) -> bool:
    """Whether subjects, motion and background are those of their sources."""
    subject = measured["shape"] == measured["count"] == 1 and measured["colour"] < _SAME_COLOUR
    return subject and measured.get("path", 1) >= 0.9 and measured.get("ground", 1) == 1


_SAME_COLOUR = 10.0  # CIEDE2000: shades of one word lie within it, those of others do not


def _row(what: str, values: np.ndarray, goal: str) -> Row:
    return _bootstrapped(what, [values], lambda sample: sample.mean(), goal)


def _ratio(what: str, above: np.ndarray, below: np.ndarray, goal: str) -> Row:
    return _bootstrapped(what, [above, below], lambda one, other: one.mean() / other.mean(), goal)


def _bootstrapped(what: str, values: list[np.ndarray], figure: Callable[..., float], goal: str, draws: int = 10_000):
    """values: of the same trials, which are drawn together."""
    count = min(map(len, values))
    if not count:
        return Row(what, np.nan, np.nan, np.nan, 0, goal)
    picks = np.random.default_rng(0).integers(0, count, (draws, count))
    drawn = [figure(*(value[pick] for value in values)) for pick in picks]
    return Row(what, float(figure(*values)), *(float(np.quantile(drawn, q)) for q in (0.025, 0.975)), count, goal)


def comparison(tables: Mapping[str, Sequence[Row]]) -> str:
    """Markdown: the same cases by several methods, a row each, with 95 % intervals; figures of no case are left out."""
    known = {name: [row for row in rows if row.trials] for name, rows in tables.items()}
    figures = next(iter(known.values()))
    lines = [["method", *(row.what for row in figures)], ["---"] * (len(figures) + 1)]
    lines += [[name, *(f"{r.value:.3g} ({r.low:.2g} to {r.high:.2g})" for r in rows)] for name, rows in known.items()]
    lines += [["trials", *(str(row.trials) for row in figures)], ["goal", *(row.goal for row in figures)]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| figure | value | 95 % interval | trials | goal |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {r.what} | {r.value:.3g} | {r.low:.3g} to {r.high:.3g} | {r.trials} | {r.goal} |" for r in rows]
    return "\n".join(lines) + "\n"


def by_motion(found: Sequence[tuple[Trial, dict[str, float]]]) -> str:
    """Markdown: how well each motion of a source is followed; a dash where no trial has it."""
    of = sources()

    def mean(measure: str, word: str, bound: bool, alone: bool) -> str:
        values = [
            m[measure]
            for t, m in found
            if t.motion and of[t.motion].scene.subjects[0].motion.word == word
            if t.bound == bound and (t.kind == "video") == alone
        ]
        return f"{np.mean(values):.2f}" if values else "-"

    asked = (("path", True, True), ("path", True, False), ("path", False, True))
    asked += (("speed", True, True), ("speed", False, True))
    lines = ["| motion | correlation: alone | crossed with others | unbound | speed: alone | unbound |"]
    lines.append("| --- " * 6 + "|")
    for word in MOVES:
        lines.append(f"| {word} | {' | '.join(mean(m, word, bound, alone) for m, bound, alone in asked)} |")
    return "\n".join(lines) + "\n"


def to_csv(tables: Mapping[str, Sequence[tuple[Trial, dict[str, float]]]]) -> str:
    """CSV: a row each for every method's trials, with all measures."""
    rows = [{"method": name, "composition": t.name, **m} for name, found in tables.items() for t, m in found]
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.4g", lineterminator="\n")
