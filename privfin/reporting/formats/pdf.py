"""A page as PDF, with WeasyPrint (extra ``pdf``), which needs the system library Pango."""

from __future__ import annotations

import importlib
from typing import NoReturn

from PIL import ImageFile

from privfin.errors import UserInputError


def to_pdf(html: str) -> bytes:
    """The page as it prints, with tags for screen readers.

    Nothing is fetched, neither from a network nor from the disk: a page that asks for anything is
    refused, since its print would not be the page. The same page gives the same bytes as long as
    WeasyPrint, Pango and the fonts stay the same; the date in the file is that of the page's
    ``dcterms.created``.

    Args:
        html: a whole page that needs no other file.

    Raises:
        UserInputError: WeasyPrint or Pango is missing.
        ValueError: the page asks for another file.
    """
    accepted = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        weasyprint = importlib.import_module("weasyprint")
    except (ImportError, OSError) as error:  # OSError: Pango cannot be loaded
        raise UserInputError(
            "a PDF needs WeasyPrint and the system library Pango "
            f"({str(error).splitlines()[0]}): "
            'pip install "privfin[pdf]" and your system\'s Pango (libpango), then try again'
        ) from error
    finally:
        # WeasyPrint makes Pillow take half images for whole ones, in the whole process: patients'
        # images that are cut short must still be refused.
        ImageFile.LOAD_TRUNCATED_IMAGES = accepted
    asked: list[str] = []

    def refuse(url: str, headers: object = None) -> NoReturn:
        asked.append(url)
        raise ValueError("nothing is fetched")

    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=())
    fetcher.fetch = refuse  # to know of every address; by itself it would refuse as well
    printed: bytes = weasyprint.HTML(string=html, url_fetcher=fetcher).write_pdf(pdf_tags=True)
    if asked:
        raise ValueError(f"the page asks for {asked[0][:80]}: a report needs no other file")
    return printed
