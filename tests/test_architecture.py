"""The arrows between modules, and the style of the source."""

import ast
import importlib.util
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tfcompress"
SOURCES = sorted(
    path
    for folder in ("tfcompress", "official_resnet")
    for path in (ROOT / folder).rglob("*.py")
)

# Lower ones know nothing of higher ones; those on one line may know each other.
LEVELS = [
    {"linalg", "modes", "einsum", "files", "names", "packing", "convolution"},
    {"decompositions"},
    {"costs", "ranks", "factorization"},
    {"initialization"},
    {"layers"},
    {"graph"},
    # Plans, rewriting, statistics, reports: whatever is not named here.
    {None},
    {"calibration", "stages"},
    {"compression", "frontier"},
    {"musco", "zoo"},
    {"datasets", "distribution", "export", "latency", "training"},
    {"cli"},
]
# Where TensorFlow may be imported: input pipelines, training loops, programs.
TENSORFLOW = LEVELS[-2] | LEVELS[-1]


def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Names of the modules that a file imports, relative ones resolved."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package[: len(package) - node.level + 1]
                base = ".".join([*stem, *filter(None, [node.module])])
            # `from package import module` imports the module too.
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(name):
    """The part of tfcompress that a module belongs to; None for others."""
    parts = name.split(".")
    if parts[0] != "tfcompress" or len(parts) == 1:
        return None
    known = (PACKAGE / f"{parts[1]}.py").exists() or (
        PACKAGE / parts[1]
    ).is_dir()
    return parts[1] if known else None


def level(name):
    levels = {n: i for i, names in enumerate(LEVELS) for n in names}
    return levels.get(name, levels[None])


def rooms_imported(path):
    return {room(name) for name in imports(path)} - {None}


def may_use_tensorflow(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "official_resnet":
        return parts[1] != "resnet_model"
    return parts[1] in TENSORFLOW


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_programs_and_pipelines_import_tensorflow(path):
    roots = {name.split(".")[0] for name in imports(path)}
    if not may_use_tensorflow(path):
        assert not roots & {"tensorflow", "tf_keras", "jax", "torch"}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_arrows_point_downwards(path):
    own = room(module_name(path))
    for other in rooms_imported(path) - {own} if own else ():
        assert level(other) <= level(own), f"it imports tfcompress.{other}"


def test_the_library_does_not_need_the_resnets():
    for path in PACKAGE.rglob("*.py"):
        if room(module_name(path)) != "cli":
            roots = {name.split(".")[0] for name in imports(path)}
            assert "official_resnet" not in roots, path


def test_the_model_knows_nothing_of_compression():
    path = ROOT / "official_resnet" / "resnet_model.py"
    roots = {name.split(".")[0] for name in imports(path)}
    assert "tfcompress" not in roots


@pytest.mark.parametrize("folder", ["decompositions", "ranks", "layers"])
def test_methods_are_told_apart_in_the_registry_alone(folder):
    """No `method == "..."`: a new method is one file and one entry."""
    for path in (PACKAGE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                names = {
                    part.id
                    for part in ast.walk(node)
                    if isinstance(part, ast.Name)
                }
                assert "method" not in names, f"{path}:{node.lineno}"


def test_modules_stay_small():
    lengths = {
        module_name(path): len(path.read_text().splitlines())
        for path in SOURCES
    }
    assert {n: c for n, c in lengths.items() if c > 400} == {}


def test_library_code_has_no_assert_and_no_bare_except():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}"


def test_import_works_without_tensorflow():
    """In a process where importing TensorFlow fails."""
    code = (
        "import sys; sys.modules['tensorflow'] = None; "
        "import tfcompress; print(tfcompress.methods())"
    )
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "tucker" in result.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_lint(command):
    ruff = shutil.which("ruff") or shutil.which(
        "ruff", path=pathlib.Path(sys.executable).parent
    )
    if ruff is None:
        pytest.skip("ruff is not installed; pip install ruff")
    names = ("tfcompress", "official_resnet", "benchmarks", "tests", "setup.py")
    targets = [str(ROOT / name) for name in names]
    result = subprocess.run(
        [ruff, *command, *targets], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
