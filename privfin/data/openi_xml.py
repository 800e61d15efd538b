"""Open-I's reports as XML: a folder ``ecgen-radiology`` or the archive ``NLMCXR_reports.tgz``."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from privfin.data.openi_report import OpeniImage, OpeniReport
from privfin.data.plain_xml import LARGEST_XML, parse_plain_xml
from privfin.errors import DataError

FOLDER = "ecgen-radiology"
ARCHIVE = "NLMCXR_reports.tgz"
#: Where the images lie, if they are there: ``<parentImage id>.png``.
IMAGES = "NLMCXR_png"

_MEMBER = re.compile(rf"(?:\./)?{FOLDER}/([0-9]{{1,9}})\.xml")
_UID = re.compile(r"CXR[0-9]{1,9}")
_IMAGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
#: More members than this are no Open-I archive (it has 3,956).
_MOST_MEMBERS = 100_000


def read_xml_reports(root: Path) -> list[OpeniReport]:
    """All reports below ``root``, in the order of their numbers.

    The folder is read where it is there, else the archive, without unpacking it to disk.

    Raises:
        DataError: naming file or member, for XML that is malformed, hostile or not Open-I's, and
            for an archive that is damaged or has links or paths that lead out of it.
    """
    if (root / FOLDER).is_dir():
        documents = _in_folder(root / FOLDER)
    else:
        documents = _in_archive(root / ARCHIVE)
    images = root / IMAGES
    found = [
        (
            number,
            _report(parse_plain_xml(content, place), place, images if images.is_dir() else None),
        )
        for number, place, content in documents
    ]
    if not found:
        raise DataError(f"{root} has no report {FOLDER}/<number>.xml")
    return [report for _, report in sorted(found, key=lambda pair: pair[0])]


def _in_folder(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    for path in folder.glob("*.xml"):
        if not path.stem.isascii() or not path.stem.isdigit():
            continue
        place = f"{FOLDER}/{path.name}"
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_XML + 1)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from error
        yield int(path.stem), place, content


def _in_archive(path: Path) -> Iterator[tuple[int, str, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for count, member in enumerate(archive):
                if count == _MOST_MEMBERS:
                    raise DataError(f"{path} has more than {_MOST_MEMBERS} members; get it again")
                place = f"{path.name}: {member.name!r}"
                _check_member(member, place)
                match = _MEMBER.fullmatch(member.name)
                if match is None or not member.isfile():
                    continue
                if member.size > LARGEST_XML:
                    raise DataError(f"{place} is larger than {LARGEST_XML} bytes")
                file = archive.extractfile(member)
                if file is not None:
                    yield int(match[1]), place, file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; name the folder that holds it") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path} cannot be read ({reason}); get it again") from error


def _check_member(member: tarfile.TarInfo, place: str) -> None:
    """Nothing is unpacked, but an archive with such members is not what it claims to be."""
    if PurePosixPath(member.name).is_absolute() or ".." in re.split(r"[/\\]", member.name):
        raise DataError(f"{place} leads out of the archive; get it again")
    if not (member.isfile() or member.isdir()):
        raise DataError(f"{place} is neither a file nor a folder; get it again")


def _report(root: Element, place: str, images: Path | None) -> OpeniReport:
    uid = root.find("uId")
    name = "" if uid is None else uid.get("id", "")
    if root.tag != "eCitation" or not _UID.fullmatch(name):
        raise DataError(f"{place} is no Open-I report: it needs <eCitation> and <uId id='CXR...'>")
    sections = {
        part.get("Label", "").strip().lower(): part.text or "" for part in root.iter("AbstractText")
    }
    terms = tuple(t for m in root.iterfind("MeSH/major") if (t := (m.text or "").strip()))
    shown = []
    for image in root.iter("parentImage") if images is not None else ():
        identifier = image.get("id", "")
        if images is None or not _IMAGE_ID.fullmatch(identifier):
            raise DataError(f"{place}: '{identifier}' is no image id")
        shown.append(OpeniImage(identifier, images / f"{identifier}.png"))
    return OpeniReport(name, place, sections, terms, tuple(shown))
