"""Digests: of code, of files and of settings. What the exactness of re-runs and of resuming stands on."""

import ast
import hashlib
import importlib.metadata
import json
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("bico", "toyworld")  # the packages of which code counts

# The packages whose version can change a number, by the name under which they are imported.
COMPUTING = {
    "PIL": "pillow",
    "av": "av",
    "cv2": "opencv-python-headless",
    "diffusers": "diffusers",
    "ftfy": "ftfy",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "jinja2": "jinja2",
    "json_repair": "json-repair",
    "matplotlib": "matplotlib",
    "scipy": "scipy",
    "tokenizers": "tokenizers",
    "pandas": "pandas",
    "torch": "torch",
    "transformers": "transformers",
}
# What a stage uses of them, where that is less than its code imports.
USED = {
    "trim": ("imageio-ffmpeg", "pillow"),
    "frames": ("av", "pillow"),
    "concepts": ("torch", "transformers", "json-repair", "av", "pillow"),
    "prompts": ("torch", "transformers", "av", "pillow"),
    "encode_latents": ("torch", "diffusers", "av", "pillow"),
    "encode_prompts": ("torch", "transformers", "tokenizers", "ftfy"),
    "bind": ("torch", "diffusers"),
    "compose": ("torch", "transformers", "diffusers", "tokenizers", "ftfy"),
    "render": ("torch", "diffusers", "imageio-ffmpeg"),
    "sheet": ("av", "pillow"),
    "features": ("torch", "transformers", "tokenizers", "av", "pillow"),
    "track": ("opencv-python-headless", "av"),
    "measure": ("av",),
    "metrics": (),
    "compare": ("scipy", "pandas"),
    "rating": ("jinja2",),
    "plot_training": ("matplotlib",),
    "plot_strength": ("matplotlib",),
    "page": ("jinja2",),
    "ablations": (),
    "export": ("safetensors",),
}

# The modules that change no number: how a script is called and speaks, how it uses the machine, how much memory it
# will need.
UNCOUNTED = ("command", "compute", "memory")
OF_VIDEO = ("av", "imageio-ffmpeg")  # those that an image never meets


def digest(value) -> str:
    """A digest of JSON values; the order of keys does not count."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def canonical(value) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_digest(script: str | Path, unused: tuple[str, ...] = ()) -> str:
    """A digest of all code that `script` runs: itself and the modules of this package that it imports, directly or
    not, as syntax trees of what can change a number. Editing a comment, a log line or an error's text does not change
    it.

    unused: modules, by name, that this use of the script never imports; what only they import does not count either.
    """
    script = Path(script)
    return digest({_name(path): _code(path) for path in sorted({script, *_imports(script, unused)})})


def packages_of(stage: str, script: str | Path) -> tuple[str, ...]:
    """The packages whose version changes what a stage computes: those that its code imports, or fewer."""
    return USED[stage] if stage in USED else tuple(sorted(_packages({Path(script), *_imports(Path(script))})))


def made_by(module: str | Path, stage: str, device: str, **dtypes) -> dict:
    """What makes a result, for its provenance and for the fingerprint of a run: the code of `module` (a `__file__`) and
    of all that it imports, the versions of the stage's packages, the type of device, the precision of each model."""
    return {
        "code": code_digest(module),
        "versions": versions(*packages_of(stage, module)),
        "device": device,
        "dtypes": {name: str(dtype).removeprefix("torch.") for name, dtype in dtypes.items()},
    }


@cache
def versions(*packages: str) -> dict[str, str]:
    """The installed versions of `packages`."""
    return {package: importlib.metadata.version(package) for package in packages}


def commit() -> str | None:
    """The checked-out commit of this code, marked when files differ from it; None outside a repository."""
    git = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{found}, with changes" if changed.strip() else found


def _name(path: Path) -> str:
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


@cache
def _tree(path: Path) -> ast.Module:
    """A file's syntax tree, but for what only a type checker sees."""
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    tree.body = [node for node in tree.body if getattr(getattr(node, "test", None), "id", "") != "TYPE_CHECKING"]
    return tree


@cache
def _code(path: Path) -> str:
    return hashlib.sha256(ast.unparse(_Computing().visit(_tree(path))).encode()).hexdigest()


class _Computing(ast.NodeTransformer):
    """Leaves of a syntax tree what can change a number: no docstrings, no log lines, no texts of errors, of help and of
    progress bars, and not the version of this package."""

    LOGGERS = ("log", "logging", "warnings")
    SPEAKING = ("InputError", "Stopped", "print", "progress", "parser")
    TEXTS = ("help", "description", "metavar")

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and (not body or _is_docstring(body[0])):
            body[:] = body[1:] or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if _called(node.value).split(".")[0] in self.LOGGERS else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        is_version = [getattr(target, "id", None) for target in node.targets] == ["__version__"]
        return None if is_version else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _without_texts(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in self.TEXTS]
        return _without_texts(node) if _called(node) in self.SPEAKING else self.generic_visit(node)


def _called(node: ast.AST) -> str:
    """The dotted name that a call calls; nothing of anything else."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def _without_texts(node: ast.AST) -> ast.AST:
    """What an error or a message is made of, less its words: what it calls may compute."""

    class Wordless(ast.NodeTransformer):
        def visit_Constant(self, constant: ast.Constant) -> ast.AST:
            return ast.Constant(None) if isinstance(constant.value, str) else constant

        def visit_JoinedStr(self, text: ast.JoinedStr) -> ast.AST:
            return ast.Constant(None)

    return Wordless().visit(node)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imports(path: Path, unused: tuple[str, ...] = ()) -> frozenset[Path]:
    """The modules of this package that a file imports, directly or through others; lazy imports count."""
    found, waiting = set(), [path]
    while waiting:
        for module in _imported_modules(waiting.pop()):
            if module not in found and module.stem not in (*unused, *UNCOUNTED):
                found.add(module)
                waiting.append(module)
    return frozenset(found)


@cache
def _imported_modules(path: Path) -> tuple[Path, ...]:
    """The modules of this package that a file imports itself."""
    return tuple(module for node in ast.walk(_tree(path)) for module in _package_modules(node))


def _packages(files: set[Path]) -> set[str]:
    """The packages of COMPUTING that files import."""
    names = {name.split(".")[0] for path in files for node in ast.walk(_tree(path)) for name in _imported(node)}
    return {COMPUTING[name] for name in names & COMPUTING.keys()}


def _imported(node: ast.AST) -> list[str]:
    """The dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _package_modules(node: ast.AST) -> list[Path]:
    files = []
    for name in _imported(node):
        if name.split(".")[0] in OURS:
            stem = ROOT.joinpath(*name.split("."))
            files += [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]
    return files
