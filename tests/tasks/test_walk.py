# SPDX-License-Identifier: Apache-2.0
"""Links to other places are followed; links that lead back or into another class are reported and are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.classify.folders import class_names, open_split
from slideformer.tasks.images import image_paths


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)


def write_links(folder: Path) -> None:
    """Two classes and a place elsewhere, and links up, to itself and elsewhere in the first."""
    for name in ("root/a/1.png", "root/b/2.png", "elsewhere/3.png"):
        image(folder / name)
    for name, target in (("up", ".."), ("itself", "."), ("far", "../../elsewhere")):
        (folder / "root" / "a" / name).symlink_to(target)


# A link in class a, where it leads, and whether an image is found through it.
LINKS = {
    "its own folder": ("x", ".", False),
    "the folder above": ("x", "..", False),
    "two folders above": ("x", "../..", False),
    "the root": ("x", "/", False),
    "another class": ("x", "../b", False),
    "a folder in another class": ("x", "../b/deep", False),
    "an image of another class": ("x.png", "../b/2.png", False),
    "a folder above, from deep inside": ("deep/x", "../..", False),
    "the folder that holds it": ("deep/x", ".", False),
    "a folder in its own class": ("x", "deep", False),
    "nothing": ("x", "nowhere", False),
    "elsewhere": ("x", "../../elsewhere", True),
    "an image elsewhere": ("x.png", "../../elsewhere/3.png", True),
    "a link elsewhere": ("x", "../../away", True),
    "up, by way of elsewhere": ("x", "../../loop", False),
}


@pytest.mark.parametrize("case", LINKS)
def test_a_link_is_followed_only_to_another_place(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, target, followed = LINKS[case]
    for name in ("root/a/1.png", "root/a/deep/1.png", "root/b/2.png", "root/b/deep/2.png", "elsewhere/3.png"):
        image(tmp_path / name)
    (tmp_path / "away").symlink_to("elsewhere")
    (tmp_path / "loop").symlink_to("root")
    (tmp_path / "root" / "a" / link).symlink_to(target)
    names = class_names(tmp_path / "root")
    assert names == ["a", "b"]
    reader = open_split(tmp_path / "root", names, "val")
    found = [(Path(reader.name(n)).relative_to(tmp_path / "root"), reader[n][1]) for n in range(len(reader))]
    own = {
        ("a", Path("a/1.png")),
        ("a", Path("a/deep/1.png")),
        ("b", Path("b/2.png")),
        ("b", Path("b/deep/2.png")),
    }
    linked = {("a", path) for path, number in found if number == 0} - own
    assert {(names[number], path) for path, number in found} - linked == own
    assert bool(linked) == followed
    reported = capsys.readouterr().err.splitlines()
    assert len(reported) == (0 if followed or case == "nothing" else 1)
    assert all(str(tmp_path / "root" / "a" / link) in line for line in reported)


def test_links_that_lead_to_each_other_are_followed_to_an_end(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "b" / "2.png")
    (tmp_path / "a" / "x").symlink_to("../b")
    (tmp_path / "b" / "y").symlink_to("../a")
    assert [Path(path).name for path in image_paths(tmp_path)] == ["1.png", "2.png"]
    assert sorted(Path(path).name for path in image_paths(tmp_path / "a")) == ["1.png", "2.png"]


def test_a_class_is_not_a_link_back_nor_to_another_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("root/a/1.png", "root/b/2.png", "elsewhere/3.png"):
        image(tmp_path / name)
    for name, target in (
        ("all", "."),
        ("again", "a"),
        ("up", ".."),
        ("c", "../elsewhere"),
        ("d", "../elsewhere"),
    ):
        (tmp_path / "root" / name).symlink_to(target)
    assert class_names(tmp_path / "root") == ["a", "b", "c"]
    reported = capsys.readouterr().err.splitlines()
    assert [Path(line.split()[3]).name for line in reported] == ["again", "all", "d", "up"]


# Where each class lies, and the images of each: those of a class within another one are its own alone.
NESTED = {
    "links to a folder and into it": {"cat": "../all", "dog": "../all/dogs"},
    "a link into a real class": {"cat": None, "dog": "cat/dogs"},
}


@pytest.mark.parametrize("case", NESTED)
def test_a_class_inside_another_one_keeps_its_images(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name, target in NESTED[case].items():
        if target is not None:
            (root / name).symlink_to(target)
    (tmp_path / "all").mkdir()
    for name in ("c.png", "dogs/d.png", "dogs/small/e.png", "other/f.png"):
        image(root / "cat" / name)
    (root / "dog" / "link.png").symlink_to("d.png")
    names = class_names(root)
    reader = open_split(root, names, "val")
    found = {(names[reader[n][1]], Path(reader.name(n)).name) for n in range(len(reader))}
    cats, dogs = ("c.png", "f.png"), ("d.png", "e.png", "link.png")
    assert found == {*(("cat", name) for name in cats), *(("dog", name) for name in dogs)}
    assert len(reader) == len(found)
    real = (root / "dog").resolve()
    assert capsys.readouterr().err.splitlines() == [
        f"warning: the folder {root / 'cat' / 'dogs'} leads into another class, to {real}; it is left out"
    ]


def test_a_class_of_which_all_belongs_to_another_one_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "cat" / "dogs" / "d.png")
    (tmp_path / "dog").symlink_to("cat/dogs")
    with pytest.raises(UserError, match=r"every class folder must hold an image .*, got none in .*cat;"):
        class_names(tmp_path)


def test_a_folder_that_may_not_be_read_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(image_paths(tmp_path / "nowhere")) == []
    assert "nowhere cannot be read (No such file or directory); it is left out" in capsys.readouterr().err
