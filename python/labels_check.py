"""Compare the report labeller with the human codes of Open-i: `python python/labels_check.py --help`."""

import argparse
import hashlib
import importlib.util
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from spf_data.findings import Finding
from spf_data.openi import MeshMap, OpeniReport, load_mesh_map, read_archive
from spf_data.reports import label_report
from spf_data.vocabulary import Vocabulary, load_vocabulary

Combination = tuple[str, str]
MINIMUM = 20
HALVES = ("tuning", "held-out")
GOALS = {"side": 0.90, "region": 0.80}
DESCRIPTION = """\
Precision, recall and F1 of the report labeller against the MeSH codes that people gave the 3,955 Open-i reports.
Downloads nothing: the reports are part of the installed package torchxrayvision. Prints no report text.

A report is a set of (finding, side) pairs, and a set of (finding, region) pairs. Side is left, right or "": bilateral
counts as left and right. A finding that has a side somewhere in the report drops its pair without one, the same for
regions; both sets are treated alike. A finding that is nowhere in particular is the pair (finding, ""). What the
labeller calls "no" or "uncertain" is not in the set: coders rarely code what is hedged (--with-uncertain counts it).
Compared are the pairs that the codes give to at least 20 of the 3,955 reports. F1 is micro: over all reports and pairs.
"Bilateral kept" is the finding + side measure with bilateral as a side of its own and nothing dropped.

The vocabulary was written while looking at one half of the reports (by a hash of the identifier); the other half is the
measurement. docs/labels.md says which codes stand for which finding and what codes cannot say.
"""


@dataclass
class Score:
    """Reports, by how a pair was found in them."""

    both: list[str] = field(default_factory=list)
    only_labeller: list[str] = field(default_factory=list)
    only_codes: list[str] = field(default_factory=list)

    def add(self, other: "Score") -> None:
        """Add the counts of another score."""
        self.both += other.both
        self.only_labeller += other.only_labeller
        self.only_codes += other.only_codes

    def row(self) -> str:
        """Support, precision, recall and F1 as columns of a table."""
        found, wrong, missed = len(self.both), len(self.only_labeller), len(self.only_codes)
        precision = found / max(found + wrong, 1)
        recall = found / max(found + missed, 1)
        return f"{found + missed:7d} {precision:9.3f} {recall:6.3f} {self.f1:5.3f}"

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing was found and nothing is there."""
        found = len(self.both)
        return 2 * found / max(2 * found + len(self.only_labeller) + len(self.only_codes), 1)


@dataclass(frozen=True)
class Labelled:
    """One report.

    Attributes:
        identifier: Such as "CXR1".
        coded: What its codes say.
        read: What the labeller says is there.
        said: All that the labeller says, absent and uncertain findings included.
    """

    identifier: str
    coded: list[Finding]
    read: list[Finding]
    said: list[Finding]


def is_held_out(identifier: str) -> bool:
    """Whether a report belongs to the half that is measured."""
    return hashlib.sha256(identifier.encode()).digest()[-1] % 2 == 1


Pairs = Callable[[Iterable[Finding]], set[Combination]]
_BOTH = {"bilateral": ("left", "right")}


def side_pairs(findings: Iterable[Finding]) -> set[Combination]:
    """(finding, side) pairs of one report, bilateral as left and right."""
    return _without_vague(
        {(one.core, side) for one in findings for side in _BOTH.get(one.laterality, (one.laterality,))}
    )


def strict_side_pairs(findings: Iterable[Finding]) -> set[Combination]:
    """(finding, side) pairs of one report exactly as written."""
    return {(one.core, one.laterality) for one in findings}


def region_pairs(findings: Iterable[Finding], vocabulary: Vocabulary) -> set[Combination]:
    """(finding, region) pairs of one report; the lung as a whole is no region."""
    pairs = set()
    for one in findings:
        regions = {vocabulary.places[place].region for place in one.anatomy} - {"lung"}
        pairs |= {(one.core, region) for region in regions or {""}}
    return _without_vague(pairs)


def _without_vague(pairs: set[Combination]) -> set[Combination]:
    placed = {core for core, where in pairs if where}
    return {(core, where) for core, where in pairs if where or core not in placed}


def frequent(reports: list[Labelled], pairs_of: Pairs) -> set[Combination]:
    """The pairs that the codes give to at least `MINIMUM` reports."""
    counts = Counter(pair for report in reports for pair in pairs_of(report.coded))
    return {pair for pair, count in counts.items() if count >= MINIMUM}


def compare(reports: list[Labelled], pairs_of: Pairs, wanted: set[Combination]) -> dict[Combination, Score]:
    """The score of each wanted pair."""
    scores = {pair: Score() for pair in sorted(wanted)}
    for report in reports:
        coded, read = pairs_of(report.coded), pairs_of(report.read)
        for pair in wanted & (coded | read):
            score = scores[pair]
            chosen = score.both if pair in coded & read else score.only_codes if pair in coded else score.only_labeller
            chosen.append(report.identifier)
    return scores


def error_kinds(reports: list[Labelled], scores: dict[Combination, Score]) -> dict[str, list[str]]:
    """Why pairs differ: kind -> "report: finding"."""
    by_name = {report.identifier: report for report in reports}
    kinds: dict[str, list[str]] = defaultdict(list)
    for (core, _), score in scores.items():
        for name in score.only_codes:
            kinds[f"missed: {_why_missed(core, by_name[name])}"].append(f"{name}: {core}")
        for name in score.only_labeller:
            coded = any(one.core == core for one in by_name[name].coded)
            kinds[f"extra: {'coded with another place' if coded else 'not coded'}"].append(f"{name}: {core}")
    return kinds


def _why_missed(core: str, report: Labelled) -> str:
    if any(one.core == core for one in report.read):
        return "read with another place"
    polarities = {one.polarity for one in report.said if one.core == core}
    if "uncertain" in polarities:
        return "read as uncertain"
    return "read as absent" if polarities else "not found in the text"


def label_all(
    reports: Iterable[OpeniReport], mesh: MeshMap, vocabulary: Vocabulary, with_uncertain: bool
) -> list[Labelled]:
    """Both sets of findings of every report."""
    wanted = {"yes", "uncertain"} if with_uncertain else {"yes"}
    labelled = []
    for report in reports:
        said = label_report(report.text, vocabulary)
        read = [finding for finding in said if finding.polarity in wanted]
        labelled.append(Labelled(report.identifier, mesh.findings(report.codes, vocabulary), read, said))
    return labelled


def archive_path() -> Path:
    """Where torchxrayvision keeps the reports; it is not imported, which would take seconds."""
    package = importlib.util.find_spec("torchxrayvision")
    if package is None or package.origin is None:
        raise SystemExit("the package torchxrayvision is needed: pip install torchxrayvision")
    return Path(package.origin).parent / "data" / "NLMCXR_reports.tgz"


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=HALVES, default="held-out", help="the half that is printed pair by pair")
    parser.add_argument("--with-uncertain", action="store_true", help='count "uncertain" as there')
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="print N reports of each kind of error")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Label, compare, print."""
    options = parse_options(arguments)
    vocabulary = load_vocabulary()
    mesh = load_mesh_map(vocabulary)
    archive = read_archive(archive_path())
    started = time.process_time()
    labelled = label_all(archive.reports, mesh, vocabulary, options.with_uncertain)
    speed = len(labelled) / (time.process_time() - started)
    print(f"{len(labelled)} reports ({archive.dropped or 'none'} dropped), {speed:.0f} reports/s on one core")
    unmapped = Counter(code for report in archive.reports for code in report.codes if not mesh.is_mapped(code))
    print(f"codes not mapped: {unmapped.total()} of {sum(len(report.codes) for report in archive.reports)}\n")
    measures: dict[str, Pairs] = {
        "side": side_pairs,
        "side, bilateral kept": strict_side_pairs,
        "region": partial(region_pairs, vocabulary=vocabulary),
    }
    for name, pairs_of in measures.items():
        wanted = frequent(labelled, pairs_of)
        for half in HALVES:
            part = [report for report in labelled if is_held_out(report.identifier) == (half == "held-out")]
            scores = compare(part, pairs_of, wanted)
            in_full = half == options.half and name in GOALS
            print_scores(f"finding + {name}, {half} half", GOALS.get(name), scores, in_full)
            if in_full:
                print_errors(error_kinds(part, scores), options.errors)


def print_scores(title: str, goal: float | None, scores: dict[Combination, Score], in_full: bool) -> None:
    """Print the table of one comparison."""
    total = Score()
    placed = Score()
    for (_, where), score in scores.items():
        total.add(score)
        if where:
            placed.add(score)
    wanted = "" if goal is None else f" (goal {goal:.2f})"
    print(f"{title}: micro F1 {total.f1:.3f}{wanted}, {len(scores)} pairs")
    print(f"{'':52s} reports precision recall    F1")
    print(f"  {'all pairs':50s} {total.row()}\n  {'pairs with a side or region':50s} {placed.row()}")
    if in_full:
        for (core, where), score in scores.items():
            print(f"    {core + (', ' + where if where else ''):48s} {score.row()}")
    print()


def print_errors(kinds: dict[str, list[str]], examples: int) -> None:
    """Print how often each kind of error occurs, with the reports if asked to."""
    for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1])):
        print(f"  {len(names):5d} {kind}")
        for name in names[:examples]:
            print(f"          {name}")
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
