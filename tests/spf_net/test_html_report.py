"""The page is complete, safe, loads nothing, and opens in a browser without complaint."""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from spf_net.examples import make_examples
from spf_net.heads import HeadConfig
from spf_net.html_report import render_report
from spf_net.tables import METRIC_NOTES

from .report_case import HOSTILE, LABELS, dataset, evaluated

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements with their attributes, texts, and whether tags are closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def source() -> str:
    data = dataset()
    sigmoid = HeadConfig(code_size=2, activation="sigmoid", reconstruction_weight=0)
    runs = [evaluated("spf", data), evaluated(HOSTILE, data, sigmoid, seed=1)]
    return render_report("Evaluation", ["Data: made up.", HOSTILE], runs, data, make_examples(runs, data, 3))


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_name_is_escaped(source: str, page: Page) -> None:
    assert not page.open
    assert not page.all("script")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert sum(HOSTILE in text for text in page.texts) > 10
    assert HOSTILE not in source


def test_nothing_is_loaded(source: str, page: Page) -> None:
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "ping", "style"}
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name in loading]
    assert len(addresses) > 10
    assert all(address.startswith(("data:", "#")) for address in addresses)
    style = source[source.index("<style>") : source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_readers_of_all_kinds_can_use_it(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert all(head["scope"] in ("row", "col") for head in page.all("th"))
    named = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert all(svg["aria-label"] for svg in named)
    assert all("aria-hidden" in svg for svg in page.all("svg") if svg not in named)
    identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"] for link in page.all("a")} == {f"#{identifier}" for identifier in identifiers}


def test_everything_is_there(page: Page) -> None:
    # All images, two sources, subgroups, labels compared and of two networks, settings.
    assert len(page.all("table")) == 3 + 1 + 3 + 1
    # Pooled and four labels, twice, and reliability.
    assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 2 * 5 + 1
    # Three examples, each with the picture of one network and the reason of the other.
    assert len(page.all("img")) == 3 * 2
    texts = " ".join(page.texts)
    assert texts.count("No evidence:") == 3
    for text in ("nobody knows", "fewer than 20 images", "training.seed (differs)", *METRIC_NOTES, LABELS.names[0]):
        assert text in texts
    assert all(len(line["points"].split()) <= 200 for line in page.all("polyline"))


def test_without_examples_it_says_so() -> None:
    data = dataset()
    text = render_report("Evaluation", [], [evaluated("spf", data)], data, [])
    assert "No image with a finding" in text
    assert "AUROC by label" not in text


def open_in_browser(file: Path, profile: Path) -> "subprocess.CompletedProcess[str]":
    assert CHROMIUM is not None
    switches = ["headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"]
    switches += ["disable-sync", "no-first-run", "enable-logging=stderr", "v=0", f"user-data-dir={profile}", "dump-dom"]
    command = [CHROMIUM, *(f"--{switch}" for switch in switches), file.as_uri()]
    environment = os.environ | {"HOME": str(profile)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_it_without_complaint(source: str, tmp_path: Path) -> None:
    report, broken = tmp_path / "report.html", tmp_path / "broken.html"
    report.write_text(source, encoding="utf-8")
    opened = open_in_browser(report, tmp_path / "profile")
    assert "CONSOLE" not in opened.stderr
    assert opened.stdout.count("<table>") == 8
    assert Page(opened.stdout).all("img") == Page(source).all("img")
    # What the page would say if it ran a script, which its policy forbids.
    broken.write_text(source.replace("</body>", "<script>alert(1)</script></body>"), encoding="utf-8")
    assert "CONSOLE" in open_in_browser(broken, tmp_path / "profile").stderr
