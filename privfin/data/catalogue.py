"""What each source holds, which files it needs, and how one gets access to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceCard:
    """A source in a few words, for ``privfin data list``."""

    name: str
    holds: str
    files: tuple[str, ...]
    access: str


#: Every source, in the order of the configuration's list.
SOURCES: tuple[SourceCard, ...] = (
    SourceCard(
        "phantom",
        "made-up patients: images and reports with 14 labels",
        (),
        "built in; needs no files",
    ),
    SourceCard(
        "manifest",
        "your own data: images, text and tables that a CSV file lists",
        ("manifest.csv (data.manifest.file)", "images below the same folder"),
        "yours",
    ),
    SourceCard(
        "covid-cxr",
        "COVID-19 image data collection: X-rays with clinical notes",
        ("metadata.csv", "images/"),
        "free download; licence of each image in its column, mostly CC BY-NC-SA",
    ),
    SourceCard(
        "mimic-cxr",
        "MIMIC-CXR-JPG: X-rays with reports, 14 labels",
        (
            "mimic-cxr-2.0.0-metadata.csv, -chexpert.csv, -split.csv (or .gz)",
            "files/p10/p10000032/s50414267/*.jpg",
            "mimic-cxr-reports.zip, or the reports in files/",
        ),
        "PhysioNet: training, credentials and a data use agreement",
    ),
    SourceCard(
        "openi",
        "NIH Open-I (Indiana): X-rays with reports, labels from MeSH codes",
        (
            "ecgen-radiology/ or NLMCXR_reports.tgz, NLMCXR_png/",
            "or indiana_reports.csv, indiana_projections.csv, images/",
            "or annotation.json, images/",
        ),
        "free download; CC BY-NC-ND 4.0",
    ),
    SourceCard(
        "chexpert",
        "CheXpert v1.0 or v1.0-small: X-rays without reports, 14 labels",
        ("train.csv, valid.csv (or .gz)", "train/, valid/ with patient00001/study1/*.jpg"),
        "Stanford AIMI: registration and a research use agreement",
    ),
    SourceCard(
        "chexpert-plus",
        "CheXpert Plus: the same X-rays with their reports, 14 labels",
        (
            "df_chexpert_plus_240401.csv (or .gz)",
            "chexbert_labels/report_fixed.json",
            "PNG/train/, PNG/valid/",
        ),
        "Stanford AIMI: registration and a research use agreement",
    ),
    SourceCard(
        "padchest",
        "PadChest: 16-bit X-rays with Spanish reports, mapped to 14 labels",
        (
            "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .gz)",
            "*.png beside it, or in folders 0 to 54",
        ),
        "BIMCV: registration and a research use agreement",
    ),
    SourceCard(
        "medmnist",
        "a MedMNIST set such as PneumoniaMNIST: small images, no patients",
        ("one .npz file, such as pneumoniamnist.npz",),
        "free download; CC BY 4.0 (DermaMNIST: CC BY-NC 4.0)",
    ),
)
