"""A group of commands in which ``GROUP RUN`` is short for ``GROUP run RUN``."""

from __future__ import annotations

import click
from typer.core import TyperGroup


class RunFirst(TyperGroup):
    """Takes a word that is no command of the group as an argument of its command ``run``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click; a first word that is no command is an argument of ``run``."""
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        # Options before RUN belong to the run, but for those of the group.
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)
