import numpy as np
import pyarrow as pa
import pytest
from spf_data.catalogue.source_map import reader_of
from spf_data.catalogue.statements import read_statements

from .helpers import findings_table, manifest_of, said, vocabulary


def _read(manifest, table, origin="all"):
    return read_statements(manifest, table, reader_of("padchest", vocabulary()), vocabulary(), origin)


def _of(statements, row):
    return {str(statements.findings[index]) for index in statements.said[statements.images == row]}


def test_findings_of_images_and_of_studies():
    manifest = manifest_of(3, study=["a", "a", ""])
    table = findings_table((0, "nodule", "", "left"), ("a", "infiltrates", "basal", "right"), (2, "hydropneumothorax"))
    statements = _read(manifest, table)
    opacity, nodule = str(said("right base|opacity")), str(said("left|nodule"))
    assert _of(statements, 0) == {nodule, opacity}
    assert _of(statements, 1) == {opacity}
    assert _of(statements, 2) == {str(said("|pleural effusion")), str(said("|pneumothorax"))}
    assert statements.level == "image and study"
    assert statements.levels == {"image": 2, "study": 1}
    assert (np.diff(statements.images) >= 0).all()


def test_equal_findings_of_an_image_are_one():
    table = findings_table((0, "infiltrates", "", "left"), (0, "alveolar pattern", "", "left"), (0, "goiter"))
    statements = _read(manifest_of(1), table)
    assert (statements.images.tolist(), statements.said.tolist()) == ([0], [0])
    assert statements.unread.findings == {"goiter": 1}
    assert "opacity" in statements.cores
    assert "arthritis" not in statements.cores


def test_findings_of_other_images_are_left_out():
    table = findings_table((0, "nodule"), (7, "nodule"), ("other", "goiter"))
    statements = _read(manifest_of(2), table)
    assert statements.images.tolist() == [0]
    assert not statements.unread.findings


def test_reports_are_in_the_vocabulary_s_words_already():
    own = findings_table((0, "infiltrates", "", "left"))
    read = findings_table(
        (0, "opacity", "base|nowhere", "right", "uncertain"), (0, "unicorn"), rule="report: stated; no place"
    )
    table = pa.concat_tables([own, read])
    right = str(said("uncertain right base|opacity"))
    assert _of(_read(manifest_of(1), table), 0) == {str(said("left|opacity")), right}
    assert _of(_read(manifest_of(1), table, "source"), 0) == {str(said("left|opacity"))}
    statements = _read(manifest_of(1), table, "reports")
    assert _of(statements, 0) == {right}
    assert (statements.unread.findings, statements.unread.places) == ({"unicorn": 1}, {"nowhere": 1})
    assert "arthritis" in statements.cores


def test_errors():
    with pytest.raises(ValueError, match="origin must be one of"):
        _read(manifest_of(1), findings_table((0, "nodule")), "codes")
    with pytest.raises(ValueError, match="no finding of the manifest's images is in the vocabulary"):
        _read(manifest_of(1), findings_table((0, "goiter")))
    with pytest.raises(ValueError, match="no finding of the manifest's images is in the vocabulary"):
        _read(manifest_of(1), findings_table((0, "nodule")), "reports")
    with pytest.raises(ValueError, match="polarity must be one of"):
        _read(manifest_of(1), findings_table((0, "nodule", "", "", "perhaps")))
