"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lima_core.storage import Location

ConfigArgument = Annotated[Path | None, typer.Argument(help="An experiment, a YAML file.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="An experiment, a YAML file.")]


def location_of(text: "str | Location") -> "Location":
    """A path or a URL, as it was typed."""
    from lima_core.storage import location

    return location(text)


Work = Annotated[Any, typer.Option(parser=location_of, metavar="PATH|URL", help="Folder of all artifacts, or s3://...")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Sets a config field; may be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")]
Engine = Annotated[str, typer.Option(help="Sparse engine: auto, native, spconv, torchsparse.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes over scenes and loader threads; 0 works in this process. Default: the cores."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Of a Dask scheduler whose workers do the work over scenes: tcp://node1:8786."
    ),
]
Recompute = Annotated[
    bool,
    typer.Option("--checkpoint-activations", help="Training computes activations twice: less memory, the same bits."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another run that builds the same artifact.")]
Seed = Annotated[int | None, typer.Option(help="Sets seeds to this one.")]
Force = Annotated[bool, typer.Option("--force", help="Start even if the disk is too small for what is planned.")]
