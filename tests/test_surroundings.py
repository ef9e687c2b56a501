"""Other people's surroundings: matplotlib's settings, encodings, torch's defaults, containers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
import yaml

from configs import shipped_configs
from controllers import CONTROLLERS, configure
from ntm import api
from ntm.analysis.trace import record
from ntm.errors import UsageError
from ntm.files import legible, write_file
from ntm.memory.ntm import NTMConfig
from ntm.model import ModelConfig, build_model
from ntm.runs.folder import RunDir
from ntm.runs.models import new_model
from ntm.runs.start import commit
from ntm.training import limits
from ntm.training.load import load_config
from ntm.training.settings import as_settings
from ntm.views.plots import learning_curve, memory_figure
from tasks.copy import Copy
from tests.terminal import SMALL

#: Settings of matplotlib that change or break pictures, each otherwise than we draw.
RC: dict[Any, Any] = {
    "text.usetex": True, "text.parse_math": True, "savefig.format": "pdf", "savefig.bbox": "tight",
    "savefig.transparent": True, "savefig.dpi": 31, "figure.dpi": 37, "figure.autolayout": True,
    "font.size": 31, "font.family": ["no such font"], "axes.grid": True, "axes.facecolor": "red",
    "image.origin": "lower", "image.cmap": "jet", "lines.linewidth": 9, "legend.loc": "lower left",
    "svg.fonttype": "none", "axes.unicode_minus": False, "xtick.minor.visible": True,
}  # fmt: skip
ROWS = [{"sequences": 1000.0 * n, "bits": 10.0**-n, "floor": 0.0} for n in range(3)]


def drawn() -> list[bytes]:
    task = Copy(width=3, length=(4, 4))
    config = ModelConfig(
        controller=configure(kind="gru", size=6), memory=NTMConfig(slots=7, width=5)
    )
    model = build_model(config, 4, 3, torch.Generator().manual_seed(3))
    trace = record(model, task.sample(np.random.default_rng(1), 1), task.loss)
    figures = memory_figure(trace, "a $title"), learning_curve(ROWS, ROWS, r"$\frac{1}{x}$", 0.1)
    return [figure.image(kind) for figure in figures for kind in ("png", "svg")]


def without_date(images: list[bytes]) -> list[bytes]:
    return [b"\n".join(x for x in i.split(b"\n") if b"<dc:date>" not in x) for i in images]


def test_pictures_are_the_same_whatever_the_settings_of_matplotlib() -> None:
    usual = without_date(drawn())
    with matplotlib.rc_context(RC):
        assert without_date(drawn()) == usual
        assert matplotlib.rcParams["font.size"] == 31  # the user's own pictures stay theirs


def test_two_dollars_are_no_formula() -> None:
    (_, _, _, one), (*_, other) = (
        without_date(
            [learning_curve(ROWS, ROWS, title, 0.1).image(kind) for kind in ("png", "svg") * 2]
        )
        for title in (r"runs/$\frac{1$/a", r"runs/\$\frac{1\$/a")
    )
    assert one != other  # drawn as they stand, each its own way
    for title in ("$x$", "runs/$a/$b", r"$\no_such$", "a$", "$$"):
        figure = learning_curve(ROWS, ROWS, title, 0.1)
        figure.image()
        (axes,) = figure.axes
        text = axes.title if axes.title.get_text() else axes._left_title  # type: ignore[attr-defined]
        assert text.get_text() == title
        assert not text.get_parse_math()


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = learning_curve(ROWS, ROWS, "title", 0.1)
    assert figure._repr_png_().startswith(b"\x89PNG\r\n")


def test_labels_of_decades_are_powers_of_ten() -> None:
    figure = learning_curve(ROWS, ROWS, "title", 0.1)
    figure.image()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"10\u207b\u00b2", "10\u207b\u00b9", "10\u2070"} <= set(labels)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


IMPORT = "import ntm.views, matplotlib, os; print(matplotlib.get_backend(auto_select=False))"


@pytest.mark.parametrize(
    ("name", "backend"),
    [("no_such", "None"), ("module://no.such", "module://no.such"), ("", "None"), ("agg", "agg")],
)
def test_a_backend_of_the_user_stays_where_it_is_one(name: str, backend: str) -> None:
    done = python(f"{IMPORT}\nprint(os.environ['MPLBACKEND'])", MPLBACKEND=name)
    assert done.stdout.split("\n")[:2] == [backend, name], done.stderr


def test_a_matplotlibrc_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "rc").write_bytes(b"font.size: \xff\xfe\n")
    code = "from ntm import cli; import sys; sys.argv = ['ntm', 'plot', 'x']; cli.main()"
    done = python(code, MATPLOTLIBRC=str(tmp_path / "rc"))
    assert done.returncode == 2
    assert "MATPLOTLIBRC" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


#: A name with a byte that is not UTF-8, a letter beyond ASCII and two dollars.
NAME = os.fsdecode(b"caf\xe9 \xc3\xa9 $x$")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_no_encoding_has_stops_no_command(tmp_path: Path, encoding: str) -> None:
    config = yaml.safe_load(SMALL) | {"engine": "reference"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    code = f"""
import sys
from ntm import cli
run, out = {os.fsencode(NAME)!r}, {os.fsencode(NAME)!r} + b' out'
import os
run, out = os.fsdecode(run), os.fsdecode(out)
for words in (['train', 'small.yaml', '--run', run], ['evaluate', run, '--episodes', '3'],
              ['plot', run, '--explore'], ['report', run, '--out', out], ['evaluate', out]):
    sys.argv = ['ntm', *words]
    try:
        cli.main()
    except SystemExit as end:
        print('code', end.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path, capture_output=True, timeout=120,
    )  # fmt: skip
    said = done.stdout.decode(encoding, "replace")
    assert [line for line in said.splitlines() if line.startswith("code ")] == [
        "code 0", "code 0", "code 0", "code 0", "code 2",
    ], done.stderr  # fmt: skip
    assert b"Traceback" not in done.stderr
    page = (tmp_path / f"{NAME} out" / "report.html").read_text(encoding="utf-8")
    assert "\N{LATIN SMALL LETTER E WITH ACUTE} $x$" in page
    if encoding != "ascii":  # which typer takes for a terminal without settings, and replaces
        assert b"caf\xe9" in done.stdout  # as it is: another command can take it


def test_files_are_utf_8(tmp_path: Path) -> None:
    write_file(tmp_path / "file", "\N{LATIN SMALL LETTER E WITH ACUTE}\udce9")
    assert (tmp_path / "file").read_bytes() == b"\xc3\xa9\\udce9"
    assert legible("plain") == "plain"


def test_a_setting_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    settings: tuple[Any, ...] = (["task.path=t\udce9"], {"task.path": "t\udce9"})
    for given in settings:
        with pytest.raises(UsageError, match="is not UTF-8 text"):
            api.train("charlm/gru", settings=given, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def other_defaults() -> Any:
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


MODELS: list[dict[str, Any]] = [
    *({"model.controller": {"kind": kind, "size": 6}} for kind in CONTROLLERS),
    {"model.memory.initial": "learned"},
    {"model.memory": None, "model.direction": "bidirectional"},
    {"model.memory": None, "model.direction": "encoder_decoder"},
]


@pytest.mark.parametrize("settings", MODELS, ids=str)
def test_first_weights_do_not_depend_on_defaults_of_torch(
    tmp_path: Path, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    config = load_config(tmp_path / "small.yaml", as_settings(settings))
    usual = new_model(config).state_dict()
    request.getfixturevalue("other_defaults")
    other = new_model(config).state_dict()
    assert usual.keys() == other.keys()
    for name, tensor in usual.items():
        assert other[name].dtype == torch.float32
        assert torch.equal(other[name], tensor)


def test_nothing_depends_on_defaults_of_torch(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)

    def train(name: str) -> tuple[api.Run, float]:
        run = api.train(
            tmp_path / "small.yaml", run=tmp_path / name, engine="reference", progress=False
        )
        found = api.evaluate(run, episodes=3, length=4)
        api.plot(run)
        return run, found.bits

    one, bits = train("one")
    request.getfixturevalue("other_defaults")
    other, same = train("other")
    assert same == bits
    a, b = (RunDir.open(run).load_best().weights for run in (one, other))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.get_default_dtype() == torch.float64  # as it was
    assert torch.get_default_device().type == "meta"


def test_every_task_draws_whatever_the_defaults_of_torch(other_defaults: None) -> None:
    for name in shipped_configs():
        task = load_config(name).task
        if not task.symbols:  # a text needs its file
            episode = task.sample(np.random.default_rng(1), 2)
            assert {x.device.type for x in episode[:3]} == {"cpu"}
            assert task.floor(episode).device.type == "cpu"


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *words]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("below", ["", "venv/lib"])
def test_the_commit_is_that_of_the_suite_alone(tmp_path: Path, below: str, tracked: bool) -> None:
    package = tmp_path / below / "ntm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "pyproject.toml").touch()
    git(tmp_path, "init", "--quiet")
    if tracked:
        git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "thesis")
    own = tracked and not below
    assert commit(package) == (git(tmp_path, "rev-parse", "HEAD") if own else None)


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000"}, [1000]),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "700"}, [700]),
        ("0::/host/path\n", {"memory.max": "500"}, [500]),
        (
            "9:cpu:/x\n4:foo,memory:/d/1\n",
            {"memory/d/1/memory.limit_in_bytes": "300", "memory/memory.limit_in_bytes": "9000"},
            [300, 9000],
        ),
        ("", {}, []),
        ("0::/a\n", {"a/memory.max": "nonsense"}, []),
    ],
)
def test_limits_of_a_container(
    tmp_path: Path, group: str, files: dict[str, str], expected: list[int]
) -> None:
    (tmp_path / "cgroup").write_text(group)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert list(limits._group_limits(tmp_path / "cgroup", tmp_path)) == expected


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_group_limits", lambda: iter([2**63 - 4096, 12345, 2**40]))
    assert limits.physical_memory() == 12345
    monkeypatch.setattr(limits, "_group_limits", lambda: iter(()))
    assert 12345 < limits.physical_memory() <= 2**40
