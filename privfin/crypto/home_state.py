"""What a site accepted last of a federation, and the file that says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from privfin.crypto.encoding import canonical_json, read_canonical_json
from privfin.crypto.roster_file import SignedRoster
from privfin.errors import ProtocolError, UserInputError
from privfin.files import write_bytes

STATE = "state.json"


@dataclass(frozen=True)
class HomeState:
    """What this site accepted last.

    Args:
        site: its own name.
        version: of the roster; 0 before the first one.
        digest: :attr:`SignedRoster.digest` of that roster, "" before the first one.
        key_id: of the federation key, "" before the first one.
        number: of the last ceremony message: accepted, or at the keeper, sent.
        retired: ids of federation keys that were replaced; they never come back.
        known: fingerprints of all sites that were ever listed, by name; they never change.
    """

    site: str
    version: int = 0
    digest: str = ""
    key_id: str = ""
    number: int = 0
    retired: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)

    def advance(self, roster: SignedRoster, number: int) -> HomeState:
        """The state once ``roster`` is accepted with message ``number``.

        Raises:
            ProtocolError: it brings back a retired key, or a name with other keys than it had.
        """
        if roster.key_id in self.retired:
            raise ProtocolError(f"roster: version {roster.version} brings back a retired key")
        listed = {entry.public.name: entry.public.fingerprint for entry in roster.sites}
        for name, fingerprint in listed.items():
            if self.known.get(name, fingerprint) != fingerprint:
                raise ProtocolError(
                    f"roster: site {name} was listed before with other keys; a site with new keys "
                    "takes a new name"
                )
        retired = self.retired
        if self.key_id and self.key_id != roster.key_id:
            retired = (*retired, self.key_id)
        return replace(
            self,
            version=roster.version,
            digest=roster.digest,
            key_id=roster.key_id,
            number=number,
            retired=retired,
            known={**self.known, **listed},
        )


def write_state(folder: Path, state: HomeState) -> None:
    """Replace ``state.json``: from here on, ``state`` holds."""
    write_bytes(folder / STATE, canonical_json({"format": 1, **asdict(state)}))


def read_state(folder: Path) -> HomeState:
    """What holds in ``folder``; UserInputError if it cannot be read."""
    path = folder / STATE
    try:
        content = read_canonical_json(path.read_bytes(), str(path))
    except (OSError, ProtocolError) as error:
        raise UserInputError(f"{path} cannot be read: put the folder back from a copy") from error
    wanted = {one.name for one in fields(HomeState)}
    known, retired = content.get("known"), content.get("retired")
    numbers = (content.get("version"), content.get("number"))
    if (
        content.pop("format", None) != 1
        or set(content) != wanted
        or not isinstance(known, dict)
        or not isinstance(retired, list)
        or any(type(number) is not int for number in numbers)
    ):
        raise UserInputError(f"{path} is damaged: put the folder back from a copy")
    return HomeState(**{**content, "retired": tuple(retired)})  # type: ignore[arg-type]
