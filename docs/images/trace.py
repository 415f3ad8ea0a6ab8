#!/usr/bin/env python3
"""Draws trace.svg, the picture in the README, from trace.txt, the output of a real run.

To draw it from a new run, as root:

  whalewatch trace --container 'web*' 2>&1 | tee docs/images/trace.txt
  docker run --rm --name web-1 alpine:3 /bin/sh -c 'echo hi > /dev/null; ls /nowhere; exit 3'

(the second command in another terminal; then stop the first with Ctrl-C). Put the command itself
in the first line of trace.txt, and run docs/images/trace.py.
"""

import pathlib
import re
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).parent
COLUMN, LINE, SIZE, MARGIN = 7.25, 17, 12, 14
COLOURS = {
    "text": "#c9d1d9",
    "command": "#ffffff",
    "dim": "#8b949e",
    "container": "#7ee787",
    "process": "#79c0ff",
}
EVENT = re.compile(r"(\d\d:\d\d:\d\d\.\d+)( +)(\S+)( .* )((?:process|container)\.\w+)(.*)")


def span(text, colour):
    return f'<tspan fill="{COLOURS[colour]}">{escape(text)}</tspan>' if text else ""


def draw(line):
    if line.startswith("# "):
        return span("# ", "dim") + span(line[2:], "command")
    if event := EVENT.match(line):
        time, gap, container, middle, kind, rest = event.groups()
        kind_colour = "process" if kind.startswith("process") else "dim"
        parts = [(time + gap, "dim"), (container, "container"), (middle, "text")]
        parts += [(kind, kind_colour), (rest, "text")]
        return "".join(span(text, colour) for text, colour in parts)
    return span(line, "dim")


def main():
    lines = HERE.joinpath("trace.txt").read_text().splitlines()
    width = round(max(map(len, lines)) * COLUMN + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * (number + 0.75):.0f}">{draw(line)}</text>'
        for number, line in enumerate(lines)
    ]
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}" '
        'xml:space="preserve" role="img">',
        "<!-- Drawn by docs/images/trace.py from the output in docs/images/trace.txt. -->",
        "<title>Output of whalewatch trace while a container runs</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *rows,
        "</svg>",
    ]
    HERE.joinpath("trace.svg").write_text("\n".join(svg) + "\n")


main()
