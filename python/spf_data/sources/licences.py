"""Under which terms each data set may be used, and what to cite. A summary: the terms you signed are what counts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """The terms of a data set.

    Attributes:
        terms: In one sentence.
        citation: What its authors ask to be cited.
        url: Where it is to be had.
    """

    terms: str
    citation: str
    url: str

    def __str__(self) -> str:
        return f"Licence: {self.terms}\nCite: {self.citation}\nFrom: {self.url}"


_MIMIC = (
    "Johnson et al., MIMIC-CXR-JPG, arXiv 1901.07042 (2019); Johnson et al., MIMIC-CXR, Scientific Data 6:317 (2019); "
    "Goldberger et al., PhysioNet, Circulation 101(23) (2000)"
)
_CREDENTIALED = (
    "PhysioNet Credentialed Health Data License 1.5.0: no sharing, no attempt to identify anybody, and that holds for "
    "the manifest too"
)
_PADCHEST_TERMS = "BIMCV's data use agreement: research only, no redistribution; registration is asked of every user"

LICENCES = {
    "mimic-cxr": Licence(_CREDENTIALED, _MIMIC, "https://physionet.org/content/mimic-cxr-jpg/"),
    "chest-imagenome": Licence(
        _CREDENTIALED,
        f"Wu et al., Chest ImaGenome, NeurIPS Datasets and Benchmarks (2021); {_MIMIC}",
        "https://physionet.org/content/chest-imagenome/",
    ),
    "nih": Licence(
        "no restriction on use; name the NIH Clinical Center as the source",
        "Wang et al., ChestX-ray8, CVPR (2017)",
        "https://nihcc.app.box.com/v/ChestXray-NIHCC",
    ),
    "padchest": Licence(
        _PADCHEST_TERMS,
        "Bustos et al., PadChest, Medical Image Analysis 66:101797 (2020)",
        "https://bimcv.cipf.es/bimcv-projects/padchest/",
    ),
    "open-i": Licence(
        "CC BY-NC-ND 4.0: not for commerce, no redistribution of what is derived from it",
        "Demner-Fushman et al., JAMIA 23(2):304-310 (2016)",
        "https://openi.nlm.nih.gov/faq",
    ),
    "padchest-gr": Licence(
        _PADCHEST_TERMS,
        "de Castro et al., PadChest-GR, NEJM AI 2(7) (2025), arXiv 2411.05085",
        "https://bimcv.cipf.es/bimcv-projects/padchest-gr/",
    ),
    "ms-cxr": Licence(
        _CREDENTIALED,
        f"Boecking et al., Making the most of text semantics (MS-CXR), ECCV (2022); {_MIMIC}",
        "https://physionet.org/content/ms-cxr/",
    ),
    "cxr-zones": Licence(
        "differs by image (column `licence` of labels.csv); RSNA boxes, Brixia scores: non-commercial research",
        "Wang et al., CVPR (2017); Shih et al., Radiology AI 1(1) (2019); Cohen et al., arXiv 2006.11988 (2020); "
        "Signoroni et al., Medical Image Analysis 71:102046 (2021)",
        "see column `url` of labels.csv",
    ),
    "own": Licence("yours: nothing is known of it", "nothing is known of it", "your own files"),
}
