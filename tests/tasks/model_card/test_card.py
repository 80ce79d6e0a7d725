# SPDX-License-Identifier: Apache-2.0
"""The text of a card, read by the Hub's own reader and by a parser of Markdown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from slideformer.errors import printable
from slideformer.tasks.model_card.card import MOST_CLASSES, PIPELINES, Evaluated, body, metadata
from slideformer.tasks.model_card.figures import FIGURES
from tests.tasks.model_card.examples import BLUEPRINTS, example_record, example_run
from tests.tasks.model_card.examples import FIGURES as REACHED

TASKS = tuple(BLUEPRINTS)
EVALUATED = Evaluated(figures={"top1": 0.625}, images=8, data="others", command="slideformer evaluate mine")
HOSTILE = (
    "a|b",
    '"quoted" `code` ```',
    "two\nlines\n---\n# title",
    "<b>*bold* [x](y) ~~z~~ $$q$$ \\(m\\)",
    "_e_",
)


def read(yaml_lines: str, markdown: str = "") -> ModelCard:
    """A card as the Hub reads it."""
    return ModelCard(f"---\n{yaml_lines}\n---\n{markdown}")


def structure(markdown: str) -> list[str]:
    """The kinds of all parts of a text, tables and all."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    tokens = parser.parse(markdown)
    return [part.type for token in tokens for part in [token, *(token.children or [])]]


def shown(markdown: str) -> str:
    """The text that a reader sees, but for code."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    inner = [part for token in parser.parse(markdown) for part in token.children or []]
    return " ".join(part.content for part in inner if part.type in ("text", "text_special"))


@pytest.mark.parametrize("task", TASKS)
def test_the_hub_reads_task_library_and_figures(task: str) -> None:
    data = read(metadata(example_run(task), example_record(task), None)).data
    assert data.pipeline_tag == PIPELINES[task]
    assert data.library_name == ("timm" if task == "classify" else "slideformer")
    assert data.model_name == BLUEPRINTS[task].architecture
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {FIGURES[name].name: x for name, x in REACHED[task].items()}
    assert {result.task_type for result in data.eval_results} == {PIPELINES[task]}


def test_figures_of_an_evaluation_take_the_place_of_those_of_the_training_on_the_hub() -> None:
    data = read(metadata(example_run("classify"), example_record("classify"), EVALUATED)).data
    assert [(x.dataset_name, x.metric_value) for x in data.eval_results] == [("others", 0.625)]


def test_figures_on_images_to_train_on_stay_off_the_hub_and_are_called_so() -> None:
    evaluated = replace(EVALUATED, trained_on=True)
    record = example_record("classify")
    assert metadata(example_run("classify"), record, evaluated) == metadata(
        example_run("classify"), record, None
    )
    text = shown(body(example_run("classify"), record, evaluated))
    assert "on 8 images of others, some of which it may have been trained on:" in text


def test_a_reader_sees_both() -> None:
    text = shown(body(example_run("classify"), example_record("classify"), EVALUATED))
    assert "75.00 %" in text
    assert "Evaluated afterwards, on 8 images of others:" in text
    assert "62.50 %" in text


def test_names_on_the_hub_are_metadata_where_there_are_any() -> None:
    record = example_record("classify", dataset="someone/beans", base_model="timm/swin.in1k")
    data = read(metadata(example_run("classify"), record, None)).data
    assert (data.datasets, data.base_model) == (["someone/beans"], "timm/swin.in1k")
    assert {result.dataset_type for result in data.eval_results} == {"someone/beans"}
    unknown = read(metadata(example_run("classify"), example_record("classify"), None)).data
    assert (unknown.datasets, unknown.base_model) == (None, None)


def test_weights_of_the_last_epoch_have_no_figures() -> None:
    record = example_record("segment", chosen_by="", figures={}, epoch=4)
    assert read(metadata(example_run("segment"), record, None)).data.eval_results is None
    assert "The weights of epoch 4 of 4, the last one: no epoch was evaluated" in body(
        example_run("segment"), record, None
    )


def test_the_only_epoch_that_was_evaluated_is_not_called_chosen() -> None:
    text = body(example_run("classify"), example_record("classify", candidates=1), None)
    assert "the only one that was evaluated on the hold-out, 9 images." in text
    assert "chosen" not in text
    assert "chosen by the top-1" in body(example_run("classify"), example_record("classify"), None)


def test_only_a_classifier_is_loaded_by_timm() -> None:
    texts = {task: body(example_run(task), example_record(task), None) for task in TASKS}
    assert [task for task, text in texts.items() if "timm.create_model" in text] == ["classify"]
    assert all("slideformer.open_run(snapshot_download" in text for text in texts.values())


def test_counts_recipe_and_command_are_in_the_text() -> None:
    text = body(example_run("classify"), example_record("classify", teacher="big"), None)
    assert "24 images to train on, 9 images held out. Classes: ant, bee, cat." in text
    assert "| learning rate | 0.001 |" in text
    assert "| teacher | big |" in text
    assert "```bash\nslideformer train --data photos --output mine\n```" in text
    assert "1.43 M parameters" in text
    assert "slideformer 0.1.0, timm 1.0; 1 x CPU with 2 threads, 123 images a second in training." in text


def test_a_stream_has_an_unknown_number_of_images() -> None:
    record = example_record("classify", train_images=None, images_per_second=None)
    text = body(example_run("classify"), record, None)
    assert "images of unknown number to train on" in text
    assert text.rstrip().endswith("threads.")


def test_of_many_classes_the_first_are_listed() -> None:
    names = [f"class{number}" for number in range(MOST_CLASSES + 20)]
    text = body(example_run("classify", *names), example_record("classify"), None)
    assert f"class{MOST_CLASSES - 1} and 20 more, in `config.json`." in text
    assert f"class{MOST_CLASSES}," not in text


@pytest.mark.parametrize("name", HOSTILE, ids=["cell", "code", "lines", "tags", "emphasis"])
def test_no_name_changes_what_a_text_is_made_of(name: str) -> None:
    def text(word: str) -> str:
        words: dict[str, Any] = dict.fromkeys(("data", "weights", "teacher", "device", "chosen_by"), word)
        record = example_record("classify", **words, recipe={word: word}, command=f"train {word}")
        evaluated = Evaluated(figures={}, images=1, data=word, command=word)
        return body(example_run("classify", word, word, word), record, evaluated)

    plain = [part for part in structure(text("plain")) if part != "text_special"]
    assert [part for part in structure(text(name)) if part not in ("text_special", "text", "linebreak")] == [
        part for part in plain if part not in ("text", "linebreak")
    ]


@pytest.mark.parametrize("name", HOSTILE, ids=["cell", "code", "lines", "tags", "emphasis"])
def test_a_reader_sees_names_as_they_are(name: str) -> None:
    text = shown(body(example_run("classify", name), example_record("classify"), None))
    assert printable(name).replace(" ", "") in text.replace(" ", "")


@pytest.mark.parametrize("name", HOSTILE, ids=["cell", "code", "lines", "tags", "emphasis"])
def test_no_name_breaks_the_metadata(name: str) -> None:
    lines = metadata(example_run("classify"), example_record("classify", data=name, base_model=name), None)
    assert yaml.safe_load(lines)["base_model"] == printable(name)
    assert read(lines, "text").text == "text"
    assert read(lines).data.eval_results[0].dataset_name == f"{printable(name)}, held-out part"
