# SPDX-License-Identifier: Apache-2.0
"""ssmd-convert: a published checkpoint becomes a model directory (docs/MODELS.md).

checkpoint.py reads whatever file it is, table.py finds the source that knows its tensors, the source (sources/) makes a
`Model` of them, and model.py writes it. What cannot be expressed exactly is refused by name; nothing is guessed.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import table
from .checkpoint import load
from .errors import ConvertError
from .model import Model, write
from .options import Options

__all__ = ["ConvertError", "Model", "convert", "main", "write"]


def convert(path: Path, options: Options, source: str | None = None) -> tuple[str, Model]:
    """The checkpoint's source and the model that it is."""
    checkpoint = load(path)
    found = table.find(source, checkpoint)
    with np.errstate(all="ignore"):  # what is not finite is refused by name when it is written
        model = found.convert(checkpoint, options)
    options.refuse_unused(found.NAME)
    checkpoint.refuse_surplus(found.NAME)
    if assumed := options.assumed():
        model.notes.append(f"not in the checkpoint, and taken as usual: {assumed} (--set KEY=VALUE says otherwise)")
    return found.NAME, model


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 when the checkpoint is refused, in one line that says why."""
    arguments = _parser().parse_args(argv)
    output: Path = arguments.output
    options = Options(arguments.name or output.name, arguments.rate, dict(arguments.set))
    try:
        source, model = convert(arguments.source, options, arguments.source_format)
        write(model, output)
    except ConvertError as error:
        print(f"ssmd-convert: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.source}: {source}, {model.layers} layers, {model.parameters} parameters")
    for note in model.notes:
        print(f"  {note}")
    print(f"{output}: written")
    return 0


def _parser() -> argparse.ArgumentParser:
    sources = "\n".join(
        textwrap.fill(f"{source.NAME:<14}{source.HELP}", 100, initial_indent="  ", subsequent_indent=" " * 16)
        for source in table.SOURCES
    )
    parser = argparse.ArgumentParser(
        prog="ssmd-convert",
        description="Make a model directory for ssmd of a published checkpoint.",
        epilog=f"formats, told by the names of the tensors:\n{sources}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the checkpoint: a file, or its directory")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the model directory to make")
    parser.add_argument(
        "--from", dest="source_format", metavar="FORMAT", help="what the checkpoint is, if not told alone"
    )
    parser.add_argument("--name", help="the model's name (OUTPUT's last part)")
    parser.add_argument("--rate", type=_rate, metavar="HZ", help="samples per second, of a model of signals")
    parser.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="KEY=VALUE", help="see the formats"
    )
    return parser


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < float("inf"):
        raise ValueError
    return int(rate) if rate.is_integer() else rate


def _setting(text: str) -> tuple[str, Any]:
    """VALUE is JSON, or a word."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
