"""Families: every model as large as the budget allows, and each an ordinary config in the end."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from configs import shipped_configs, shipped_families
from controllers import CONTROLLERS
from ntm.errors import UsageError
from ntm.model import build_model
from ntm.runs.jobs import Job, plan
from ntm.runs.start import continue_run, start_run
from ntm.training.family import merge
from ntm.training.load import dump_config, expand, load_config, parse_config, short_name, to_dict
from ntm.training.schema import Config
from tests.small import Watch, new_run, train
from tests.tasks import grammar
from tests.training.common import CPU

SMALL = """
parameters: 700
task: {kind: copy, width: 3, length: [1, 4]}
models:
  gru: {controller: {kind: gru}}
  fixed: {controller: {kind: lstm, size: 6}}
  ntm-1.5:
    controller: {kind: rnn}
    memory: {slots: 9, width: 5}
    train: {optimizer: {lr: 2e-3}, clip: {weighting_grad: 2}, batch: 3}
  other: {controller: {kind: rnn}, train: {optimizer: {kind: rmsprop}}, validation: {episodes: 7}}
train: {optimizer: {kind: adam, lr: 1e-3, eps: 1e-7}, clip: {norm: 5}, sequences: 40}
validation: {every: 20, episodes: 4}
"""

SHIPPED = [name for family in shipped_families() for name in expand(family)]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    return "small.yaml"


def trained(config: Config, size: int | None = None) -> int:
    """Trained parameters of the model, which is really built, at a size of its own or another."""
    model = config.model
    if size is not None:
        model = dataclasses.replace(
            model, controller=dataclasses.replace(model.controller, size=size)
        )
    inputs, outputs = config.task.input_size, config.task.output_size
    built = build_model(model, inputs, outputs, torch.Generator())
    return sum(p.numel() for p in built.parameters() if p.requires_grad)


def refusal(source: str, *settings: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(source, settings)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert old in SMALL
    Path("changed.yaml").write_text(SMALL.replace(old, new, 1))
    return "changed.yaml"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_the_largest_within_the_budget(name: str) -> None:
    config = load_config(name)
    size = config.model.controller.size
    budget = 150_000 if "autocomplete" in name else 20_000
    assert trained(config) <= budget
    if ":echo-state" in name:  # its readout alone
        assert trained(config) == (size + 1) * config.task.output_size
    else:
        assert trained(config, size + 1) > budget


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_survives_being_written_and_trains_two_steps(
    name: str, tmp_path: Path
) -> None:
    copy = tmp_path / "config.yaml"
    copy.write_text(dump_config(load_config(name)))
    assert load_config(copy) == load_config(name)
    two = 2 * load_config(name).train.batch
    text = [f"task.path={grammar.shared_file()}"] if "autocomplete" in name else []
    settings = [*text, f"train.sequences={two}", "train.report_every=1", "validation.episodes=1"]
    config = load_config(name, [*settings, "engine=reference"])  # it has nothing to compile
    watch = Watch()
    assert train(new_run(tmp_path / "run", config), config, CPU, watch).sequences == two
    assert all(math.isfinite(row["bits"]) for row in watch.reports + watch.validations)


def test_the_family_on_a_text_is_on_the_same_terms_but_for_the_step_size() -> None:
    same = ["train.optimizer.lr=0.5"]
    members = [load_config(name, same) for name in expand("compare/autocomplete")]
    assert len({repr((m.task, m.train, m.validation, m.seed)) for m in members}) == 1


@pytest.mark.parametrize("family", ["compare/copy", "compare/recall"])
def test_a_shipped_family_has_every_unit_alone_and_in_the_machine_on_the_same_terms(
    family: str,
) -> None:
    members = [load_config(name) for name in expand(family) if "ridge" not in name]
    alone = {m.model.controller.kind for m in members if m.model.memory is None}
    inside = {m.model.controller.kind for m in members if m.model.memory is not None}
    assert inside == set(CONTROLLERS)
    assert alone == set(CONTROLLERS) - {"feedforward"}  # which has no memory at all
    assert len({repr((m.task, m.train, m.validation, m.seed)) for m in members}) == 1


@pytest.mark.parametrize("kind", [kind for kind in CONTROLLERS if kind != "echo_state"])
@pytest.mark.parametrize("more", ["layers: 2", "layers: 3, skip: true"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional", "encoder_decoder", "memory"])
def test_every_model_fits_its_budget_in_every_form(
    kind: str, more: str, direction: str, small: str
) -> None:
    memory = "memory: {slots: 9, width: 5, read_heads: 2, write_heads: 3, initial: learned}"
    rest = memory if direction == "memory" else f"direction: {direction}"
    file = changed("{kind: gru}", f"{{kind: {kind}, {more}}}, {rest}")
    config = load_config(f"{file}:gru", ["parameters=3001"])
    size = config.model.controller.size
    assert trained(config) <= 3001 < trained(config, size + 1)


def test_a_budget_that_fits_exactly_is_used_up(small: str) -> None:
    count = trained(load_config("small.yaml:gru"), 13)
    for budget, size in ((count - 1, 12), (count, 13), (count + 1, 13)):
        config = load_config("small.yaml:gru", [f"parameters={budget}"])
        assert config.model.controller.size == size


def test_the_least_model_is_as_small_as_it_gets(small: str) -> None:
    least = trained(load_config("small.yaml:gru"), 1)
    assert load_config("small.yaml:gru", [f"parameters={least}"]).model.controller.size == 1
    message = refusal("small.yaml:gru", f"parameters={least - 1}")
    assert message == (
        f"small.yaml:gru: parameters: {least - 1} are too few: at size 1 the model has {least}"
    )


def test_a_size_of_its_own_is_kept(small: str) -> None:
    assert load_config("small.yaml:fixed").model.controller.size == 6
    assert load_config("small.yaml:gru", ["model.controller.size=3"]).model.controller.size == 3


def test_without_a_budget_a_family_is_configs_in_one_file(small: str) -> None:
    config = load_config(f"{changed('parameters: 700', '')}:gru")
    assert config.model.controller.size == 100


def test_settings_come_before_the_size(small: str) -> None:
    before = load_config("small.yaml:ntm-1.5")
    wider = load_config("small.yaml:ntm-1.5", ["model.memory.width=8", "task.width=5"])
    assert trained(wider) <= 700 < trained(wider, wider.model.controller.size + 1)
    assert wider.model.controller.size < before.model.controller.size


def test_what_is_a_models_own_is_merged_over_the_rest(small: str) -> None:
    plain, own, other = (load_config(f"{small}:{name}") for name in ("gru", "ntm-1.5", "other"))
    raw = to_dict(plain)["train"]
    raw["optimizer"]["lr"], raw["clip"]["weighting_grad"], raw["batch"] = 2e-3, 2.0, 3
    assert to_dict(own)["train"] == raw
    # An optimiser of another kind has settings of its own: those of the first mean nothing to it.
    assert other.train.optimizer.kind == "rmsprop"
    assert (other.train.optimizer.lr, other.train.optimizer.eps) == (1e-4, 1e-8)
    assert (other.validation.every, other.validation.episodes) == (20, 7)
    assert other.train.clip == plain.train.clip


def test_merging_changes_neither_side() -> None:
    below = {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
    above = {"a": {"b": {"c": 4}, "f": 5}, "e": {"g": 6}}
    assert merge(below, above) == {"a": {"b": {"c": 4, "d": 2}, "f": 5}, "e": {"g": 6}}
    assert below == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
    assert above == {"a": {"b": {"c": 4}, "f": 5}, "e": {"g": 6}}


def test_a_family_stands_for_all_its_models(small: str) -> None:
    names = [f"small.yaml:{name}" for name in ("gru", "fixed", "ntm-1.5", "other")]
    assert expand(small) == names
    assert [short_name(name) for name in names] == ["gru", "fixed", "ntm-1.5", "other"]
    assert expand(names[0]) == [names[0]]
    assert expand("copy/ntm-lstm") == ["copy/ntm-lstm"]
    assert short_name("copy/ntm-lstm") == "ntm-lstm"


def test_a_file_whose_name_has_a_colon_is_a_file(small: str) -> None:
    Path("small.yaml:gru").write_text(dump_config(load_config("copy/ntm-lstm")))
    assert load_config("small.yaml:gru") == load_config("copy/ntm-lstm")


def test_families_are_not_among_the_configs() -> None:
    assert shipped_families() == ["compare/autocomplete", "compare/copy", "compare/recall"]
    assert not set(shipped_families()) & set(shipped_configs())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("small.yaml", "small.yaml: is a family of models; train one with small.yaml:MODEL, or all "
         "with ntm sweep small.yaml. Its models are gru, fixed, ntm-1.5, other"),
        ("small.yaml:gro", "small.yaml:gro: the family has no such model; did you mean "
         "small.yaml:gru?"),
        ("small.yaml:", "small.yaml:: the family has no such model; it has gru, fixed, ntm-1.5, "
         "other"),
        ("small.yml:gru", "small.yml:gru: no such file, and no shipped config of that name; "
         "ntm list shows the shipped ones"),
        ("compare/cpy:gru", "compare/cpy:gru: no such file, and no shipped config of that name; "
         "did you mean compare/copy:gru?"),
        ("compare/recal", "compare/recal: no such file, and no shipped config of that name; "
         "did you mean compare/recall?"),
        ("copy/lstm:gru", "copy/lstm:gru: copy/lstm is a single config and has no models"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_there_gets_the_nearest_name(
    source: str, message: str, small: str
) -> None:
    assert refusal(source) == message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("models:", "model: {}\nmodels:", "changed.yaml: model: a family has models instead"),
        (SMALL[SMALL.index("models:") : SMALL.index("\ntrain:")], "models: {}",
         "changed.yaml: models: should be models by name, such as"),
        ("gru: {", "../gru: {", "changed.yaml: models.../gru: a name should begin with a letter"),
        ("fixed: {controller: {kind: lstm, size: 6}}", "fixed:",
         "changed.yaml: models.fixed: should be a model, such as {controller: {kind: lstm}}"),
        ("parameters: 700", "parameters: 0", "parameters: should be greater than or equal to 1"),
        ("parameters: 700", "parameters: 1e-3", "parameters: should be a valid integer"),
        ("parameters:", "parameter:", "parameter: no such key; did you mean parameters?"),
        ("{kind: gru}", "{kind: gur}", "model.controller.kind: 'gur' is not one of"),
        ("{kind: gru}}", "{kind: gru}, memroy: {slots: 4}}",
         "model.memroy: no such key; did you mean memory?"),
        ("{kind: gru}}", "{kind: gru}, seed: 2}", "model.seed: no such key"),
        ("{kind: gru}}", "{kind: gru}, task: {width: 2}}", "model.task: no such key"),
        ("{kind: gru}", "{kind: gru, layers: 101}", "model.controller.layers: should be less than"),
        ("{kind: gru}", "{kind: echo_state}", "model.controller.size: is missing: a reservoir"),
    ],
)  # fmt: skip
def test_a_family_that_is_none_is_refused_by_its_key(
    old: str, new: str, message: str, small: str
) -> None:
    file = changed(old, new)
    assert message in refusal(f"{file}:gru")
    assert refusal(f"{file}:gru").startswith(file)


def test_a_budget_is_for_families(tmp_path: Path) -> None:
    assert "parameters: no such key" in refusal("copy/ntm-lstm", "parameters=700")


def test_a_sweep_runs_every_model_of_a_family(small: str) -> None:
    jobs = plan([small, "copy/ntm-ff"], 3, [], ["train.batch=5"], Path("out"))
    names = ("gru", "fixed", "ntm-1.5", "other", "ntm-ff")
    assert [job.folder for job in jobs] == [
        Path(f"out/copy/{name}/seed-{seed}") for name in names for seed in (1, 2, 3)
    ]
    assert [job.config for job in jobs[::3]] == [*expand(small), "copy/ntm-ff"]
    assert {job.resolved.train.batch for job in jobs} == {5}
    # A budget is a setting like others.
    small_and_large = plan([f"{small}:gru"], 1, ["parameters=700,900"], [], Path("out"))
    assert [job.folder.parent.name for job in small_and_large] == [
        "parameters=700", "parameters=900"
    ]  # fmt: skip
    one, other = (job.resolved.model.controller.size for job in small_and_large)
    assert one < other
    with pytest.raises(UsageError, match="would share this folder"):
        plan([small, f"{small}:gru"], 1, [], [], Path("out"))


def finish(job: Job) -> None:
    job.run.save_config(job.resolved)
    job.run.manifest_file.write_text('{"status": "budget"}')


def test_a_sweep_knows_its_runs_again(small: str) -> None:
    (job,) = plan(["small.yaml:gru"], 1, [], ["parameters=900"], Path("out"))
    assert job.command(1)[:4] == ["train", "small.yaml:gru", "--set", "parameters=900"]
    assert not job.is_trained()
    finish(job)
    (again,) = plan(["small.yaml:gru"], 1, [], ["parameters=900"], Path("out"))
    assert again.resolved == job.run.config()
    assert again.is_trained()
    (more,) = plan(["small.yaml:gru"], 1, [], ["parameters=1200"], Path("out"))
    assert set(more.differs()) == {"model.controller.size"}


def test_a_run_of_a_family_goes_on(small: str) -> None:
    given = ["parameters=900"]
    config = load_config("small.yaml:gru", given)
    run = start_run(Path("run"), config, CPU, "ntm train small.yaml:gru").run
    _, resumed, notes, _ = continue_run(
        run.path, [*given, "train.sequences=50"], config, CPU, "ntm"
    )
    assert resumed == dataclasses.replace(
        config, train=dataclasses.replace(config.train, sequences=50)
    )
    assert notes == ["the run keeps its own settings, in which train.sequences differ"]


def test_a_model_of_a_family_is_an_ordinary_config(small: str) -> None:
    config = load_config("small.yaml:ntm-1.5")
    assert type(config) is Config
    assert parse_config(to_dict(config), "again") == config
    assert "parameters" not in to_dict(config)
