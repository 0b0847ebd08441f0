"""Help texts in plain sections. With rich, `--help` would take twice as long."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

FIRST = ("Arguments", "Options")  # sections; those named by `rich_help_panel` follow in the order of the options


class SectionedCommand(TyperCommand):
    """A command whose help lists the options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in FIRST}
        for parameter in self.get_params(ctx):
            usual = FIRST[parameter.param_type_name == "option"]
            if (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


class SectionedGroup(TyperGroup):
    """A group of commands whose help shows the whole first sentence of each command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(limit=200)) for name, each in self.commands.items()])
