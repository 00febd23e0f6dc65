import pytest
from spf_data.sources.paths import ImageIndex, PathError, check_inside, check_name

from .layouts import write_image


def _reason(root, relative):
    with pytest.raises(PathError) as caught:
        check_inside(root.resolve(), relative)
    return caught.value.reason


def test_an_image_below_the_root_is_found(tmp_path):
    path = write_image(tmp_path / "a" / "1.png")
    assert check_inside(tmp_path.resolve(), "a/1.png") == path.resolve()
    assert check_inside(tmp_path.resolve(), "a/../a/1.png") == path.resolve()


@pytest.mark.parametrize("relative", ["../secret.png", "a/../../secret.png", "{outside}/secret.png"])
def test_paths_that_lead_out_are_refused_though_the_file_is_there(tmp_path, relative):
    write_image(tmp_path / "secret.png")
    (tmp_path / "root" / "a").mkdir(parents=True)
    assert _reason(tmp_path / "root", relative.format(outside=tmp_path)) == "path outside root"


def test_links_that_lead_out_are_refused(tmp_path):
    write_image(tmp_path / "outside" / "secret.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.png").symlink_to(tmp_path / "outside" / "secret.png")
    (root / "folder").symlink_to(tmp_path / "outside")
    assert _reason(root, "file.png") == "path outside root"
    assert _reason(root, "folder/secret.png") == "path outside root"


def test_links_within_the_root_and_to_the_root_are_fine(tmp_path):
    path = write_image(tmp_path / "root" / "1.png")
    (tmp_path / "root" / "link.png").symlink_to(path)
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    assert check_inside((tmp_path / "alias").resolve(), "link.png") == path.resolve()


@pytest.mark.parametrize(
    ("relative", "reason"),
    [
        ("missing.png", "missing image"),
        ("empty.png", "empty image file"),
        ("folder", "not a file"),
        ("loop.png", "unusable path"),
        ("a\0b.png", "unusable path"),
        ("x" * 5000, "unusable path"),
        ("", "path outside root"),
        (".", "path outside root"),
    ],
)
def test_what_is_no_image_file_is_named(tmp_path, relative, reason):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert _reason(tmp_path, relative) == reason


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.png", "../b.png", "a\\b.png", "c:b.png", "b\0.png"])
def test_names_that_are_paths_are_refused(name):
    with pytest.raises(PathError, match="without a folder"):
        check_name(name)


def test_the_index_finds_images_in_any_folder_and_counts_doubles(tmp_path):
    write_image(tmp_path / "images_001" / "images" / "1.png")
    write_image(tmp_path / "images_002" / "images" / "1.png")
    (tmp_path / "notes.txt").touch()
    index = ImageIndex(tmp_path)
    assert index.find("1.png") == "images_001/images/1.png"
    assert index.twice == 1
    for name in ("2.png", "notes.txt"):
        with pytest.raises(PathError, match="does not exist"):
            index.find(name)


def test_the_index_does_not_walk_through_links(tmp_path):
    write_image(tmp_path / "outside" / "1.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(PathError, match="does not exist"):
        ImageIndex(tmp_path / "root").find("1.png")
