from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs import shipped_configs
from ntm.errors import NTMError, UsageError
from ntm.memory.ntm import NTMConfig
from ntm.training.load import dump_config, load_config, parse_config, to_dict
from ntm.training.messages import RENAMED
from ntm.training.schema import Config
from ntm.training.task_settings import as_tested, task_settings, with_settings
from tasks import Task
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy
from tests.small import small_config_of

SMALL = """
task: {kind: copy, width: 3, length: [1, 4]}
model:
  controller: {kind: lstm, size: 7}
  memory: {slots: 9, width: 5}
train:
  optimizer: {kind: adam, lr: 1e-3}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def refusal(path: Path, *settings: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, settings)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_configs())
def test_a_shipped_config_loads_and_survives_being_written(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert name.split("/")[0] == config.task.kind
    copy = tmp_path / "config.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy) == config


def test_every_row_of_the_papers_tables_is_shipped() -> None:
    rows = {n for n in shipped_configs() if "/paper-" in n}
    tasks = ("associative_recall", "copy", "ngram", "priority_sort", "repeat_copy")
    assert rows == {f"{t}/paper-{m}" for t in tasks for m in ("ntm-ff", "ntm-lstm", "lstm")}


def test_settings_are_applied_in_order_and_reach_new_blocks(small: Path) -> None:
    settings = [
        "task.length=4",
        "task.length=[2, 3]",
        "train.clip.norm=5",
        "train.optimizer.lr=2e-4",
    ]
    config = load_config(small, settings)
    assert isinstance(config.task, Copy)
    assert config.task.length == (2, 3)
    assert config.train.clip is not None
    assert config.train.clip.norm == 5
    assert config.train.optimizer.lr == 2e-4


def test_a_memory_of_null_makes_a_baseline(small: Path) -> None:
    assert load_config(small, ["model.memory=null"]).model.memory is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("task.lenght=3", "task.lenght: no such key; did you mean length?"),
        ("trian.batch=3", "trian: no such key; did you mean train?"),
        ("model.memory.xyzzy=3", "model.memory.xyzzy: no such key; the keys here are slots, width"),
        ("task.kind=cpoy", "task.kind: 'cpoy' is not one of copy"),
        ("task.kind=cpoy", "did you mean copy?"),
        ("train.optimizer={kind: ridge}", "train.optimizer.kind: ridge fits the readout alone"),
        ("task.kind=[]", "task.kind: '[]' is not one of copy"),
        ("model.controller.kind={a: 1}", "is not one of echo_state"),
        ("model.controller.kind=lsmt", "did you mean lstm?"),
        ("train.batch=many", 'train.batch: should be a valid integer, not "many"'),
        ("train.batch=true", "train.batch: should be a valid integer, not true"),
        ("train.batch=0", "train.batch: should be greater than or equal to 1, not 0"),
        ("train.optimizer.lr=.nan", "train.optimizer.lr"),
        ("train.optimizer.kind=null", "train.optimizer.kind"),
        ("train.clip={value: 1, norm: 2}", "train.clip: should be either {value: ...} or"),
        ("task.length=[5, 2]", "task.length: should be [low, high] with 1 <= low <= high"),
        ("train.clip={weighting_grad: 1}", "train.clip: should be either {value: ...} or"),
        ("task.length=[0, 2]", "task.length: should be [low, high] with"),
        (
            "task.length=[a, 2]",
            "task.length: should be a whole number or [low, high], not ['a', 2]",
        ),
        (
            "validation.task.width=4",
            "small.yaml:\n  validation.task: the model has 4 inputs and 3 outputs",
        ),
        ("validation.task.lenght=4", "validation.task.lenght: no such key; did you mean length?"),
        ("task.length=[1, 2, 3]", "task.length: should be a whole number or [low, high]"),
        ("task.length=1.5", "task.length: should be a whole number or [low, high], not 1.5"),
        ("task.length=99999999999999999999999999", "task.length: should be [low, high] with"),
        ("task.length=&a [*a]", "aliases are not allowed in a config"),
        ("train.optimizer.lr=1e38", "train.optimizer.lr: should be less than or equal to"),
        ("task.width.deep=4", "width is a single value"),
        ("task={kind: priority_sort, items: 16, sorted: 17}", "task.sorted: cannot be more than"),
        ("task={kind: associative_recall, items: [1, 3]}", "task.items: should be at least 2"),
        ("task={kind: associative_recall, width: 1, item_length: 2, items: 5}", "do not exist"),
        (
            "task={width: 3}",
            "task.kind: is missing; should be one of associative_recall, auto",
        ),
        ("novalue", "should be key=value"),
        ("task.length=[1,", "is not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(
    small: Path, setting: str, message: str
) -> None:
    assert message in refusal(small, setting)


def test_a_baseline_has_no_weights_to_clip(small: Path) -> None:
    message = refusal(small, "model.memory=null", "train.clip={value: 1, weighting_grad: 1}")
    assert "train.clip.weighting_grad: a baseline has no heads" in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.memory=null"], "train.slots: a baseline has no memory"),
        (
            ["model.memory.initial=learned"],
            "train.slots: the initial memory is learned, a row for each of",
        ),
        (["train.slots=[9, 7]"], "train.slots: should be [fewest, most]"),
        (["train.slots=[0, 7]"], "train.slots[0]: should be greater than or equal to 1"),
    ],
)
def test_slots_to_train_with_need_a_memory_of_any_size(
    small: Path, settings: list[str], message: str
) -> None:
    assert message in refusal(small, "train.slots=[7, 9]", *settings)


def test_all_errors_are_reported_at_once(small: Path) -> None:
    message = refusal(small, "task.lenght=3", "train.batch=no", "model.memory.slots=0", "seed=-1")
    for key in ("task.lenght", "train.batch", "model.memory.slots", "seed"):
        assert f"\n  {key}: " in message
    assert message.startswith(f"{small}:\n")


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("task: {kind: copy}\nmodel: {controller: {kind: gru}}\n")
    assert "train: is missing" in refusal(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "the key a appears twice (line 2"),
        ("- a\n", "should hold the keys task, model and train"),
        ("a: [\n", "is not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "is not valid YAML"),
        ("1: 2\n", "should be a name"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert message in refusal(path)


def test_a_file_of_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not a text file" in refusal(path)


def test_an_unknown_name_gets_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean copy/ntm-lstm"):
        load_config("copy/ntm-lstn")
    with pytest.raises(UsageError, match="ntm list"):
        load_config(tmp_path / "xyzzy.yaml")


def test_only_the_task_can_change_at_test() -> None:
    assert task_settings(["task.length=7", "task.width=3"]) == {"length": 7, "width": 3}
    with pytest.raises(UsageError, match=r"task\.length=120"):
        task_settings(["train.batch=3"])


def test_other_settings_keep_what_was_derived() -> None:
    trained = RepeatCopy(repeats=(1, 10))
    tested = with_settings(trained, {"repeats": 20})
    assert isinstance(tested, RepeatCopy)
    assert tested.repeats == (20, 20)
    assert tested.count_range == (1, 10)


def test_plain_data_parses_to_the_same_config(small: Path) -> None:
    config = load_config(small)
    assert isinstance(config, Config)
    assert parse_config(to_dict(config), "again") == config


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ("charlm/lstm", [], "ridge fits outputs that are bits"),
        ("copy/lstm", ["train.schedule={kind: linear}"], "train.schedule.kind: should be constant"),
    ],
)
def test_ridge_regression_is_refused_where_it_fits_nothing(
    config: str, settings: list[str], message: str
) -> None:
    reservoir = ["model.controller={kind: echo_state}", "train.optimizer={kind: ridge}"]
    with pytest.raises(UsageError, match=message):
        load_config(config, [*reservoir, *settings])


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            Copy(),
            {"hard_fraction": 0.5},
            r"task\.hard_fraction: is for training alone; elsewhere it is 0\.0",
        ),
        (PrioritySort(), {"mixed": False}, r"task\.mixed: is for training alone"),
        (NGram(), {"targets": "optimal"}, r"task\.targets: .* elsewhere it is drawn"),
    ],
)
def test_what_only_training_has_is_refused_elsewhere(
    task: Task, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        as_tested(task, settings)
    key, value = next(iter(settings.items()))
    assert as_tested(task, {key: getattr(task, key)}) == task  # what is as it was is not asked for
    with pytest.raises(NTMError, match=rf"validation\.{message[:10]}"):
        small_config_of({"kind": task.kind}, validation={"task": {key: value}})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_refused_with_the_new_one_named(small: Path, old: str, new: str) -> None:
    assert f"\n  {old}: is now called {new}" in refusal(small, f"{old}=1")


@pytest.mark.parametrize("key", ["task.hard", "validation.task.hard", "train.curriculum.task.hard"])
def test_an_old_key_of_a_task_is_refused_wherever_a_task_has_settings(
    small: Path, key: str
) -> None:
    curriculum = "train.curriculum={task: {length: 2}, advance_bits: 1}"
    assert f"{key}: is now called {key}_fraction" in refusal(small, curriculum, f"{key}=0.5")
    with pytest.raises(UsageError, match=r"task\.hard: is now called task\.hard_fraction"):
        as_tested(Copy(), task_settings(["task.hard=0.5"]))


def test_every_new_name_is_a_key_that_there_is(small: Path) -> None:
    for new in RENAMED.values():
        message = refusal(small, f"{new}=[[1]]", "seed=-1")
        assert "no such key" not in message
        assert f"\n  {new}" in message


def test_a_memory_is_an_ntms_unless_it_says_otherwise(small: Path) -> None:
    config, said = load_config(small), load_config(small, ["model.memory.kind=ntm"])
    assert config == said
    assert config.model.memory == NTMConfig(slots=9, width=5)
    assert to_dict(config)["model"]["memory"]["kind"] == "ntm"
    message = refusal(small, "model.memory.kind=ntn")
    assert "model.memory.kind: 'ntn' is not one of ntm, sparse; did you mean ntm?" in message
    assert "model.memory: " in refusal(small, "model.memory=[9, 5]")
