#!/usr/bin/env python3
"""Records docs/demo.svg, the terminal of the README: runs the commands below and draws what they print.

    cargo build && docs/record.py             # records again
    docs/record.py --check                    # fails if the recording is out of date
    docs/record.py --kindpack target/release/kindpack

Times differ from run to run: a recording that differs in nothing else is left as it is. Python's standard library only.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "docs" / "demo.svg"
EXPORTS = ROOT / "fixtures" / "shop" / "exports"
COMMANDS = [
    "kindpack pack exports backup.zip",
    "kindpack plan backup.zip --target ndjson:shop --only 'berlin/*' -o plan.json",
    "kindpack restore plan.json",
]

COLUMNS = 80
CELL_WIDTH, LINE_HEIGHT, MARGIN, TITLE_HEIGHT = 8.4, 19, 16, 30
SECONDS_BEFORE_COMMAND, SECONDS_BEFORE_OUTPUT = 1.2, 0.6

STYLE = """
text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre; }
.prompt { fill: #8fbcbb; }
.command { font-weight: bold; fill: #ffffff; }
.step { animation: appear 0.1s both; }
@keyframes appear { from { opacity: 0; } to { opacity: 1; } }
@media (prefers-reduced-motion: reduce) { .step { animation: none; } }
"""


def run(program, folder, command):
    """What a command prints; it must succeed."""
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(folder), "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(["sh", "-c", f"{command} 2>&1"], cwd=folder, env=environment, stdout=subprocess.PIPE, check=False)
    printed = ran.stdout.decode().rstrip("\n").replace(str(folder), "/home/me")
    if ran.returncode != 0:
        sys.exit(f"{command}: exit {ran.returncode}\n{printed}")
    return printed


def width(text):
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def wrapped(line):
    """A line as a terminal of 80 columns shows it."""
    lines = [""]
    for char in line:
        if width(lines[-1]) + width(char) > COLUMNS:
            lines.append("")
        lines[-1] += char
    return lines


def screen(program):
    """The lines of the terminal, each with its class and when it appears."""
    lines, seconds = [], 0.0
    with tempfile.TemporaryDirectory(prefix="kindpack-record-") as name:
        folder = Path(name).resolve()
        shutil.copytree(EXPORTS, folder / "exports")
        for command in COMMANDS:
            printed = run(program, folder, command)
            seconds += SECONDS_BEFORE_COMMAND
            lines += [("command", part, seconds) for part in wrapped(f"$ {command}")]
            seconds += SECONDS_BEFORE_OUTPUT
            lines += [("output", part, seconds) for line in printed.split("\n") for part in wrapped(line)]
            lines.append(("output", "", seconds))
    return lines[:-1]


def drawn(lines):
    """The recording as SVG."""
    all_width = round(COLUMNS * CELL_WIDTH + 2 * MARGIN)
    all_height = TITLE_HEIGHT + len(lines) * LINE_HEIGHT + MARGIN
    title = "kindpack packs a backup, plans its restore and runs the plan"
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{all_width}" height="{all_height}" viewBox="0 0 {all_width} {all_height}" role="img">',
        f"<title>{title}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{all_width}" height="{all_height}" rx="8" fill="#2e3440"/>',
    ]
    rows += [f'<circle cx="{MARGIN + 4 + 18 * i}" cy="15" r="5" fill="{color}"/>' for i, color in enumerate(["#bf616a", "#ebcb8b", "#a3be8c"])]
    for number, (kind, text, seconds) in enumerate(lines):
        y = TITLE_HEIGHT + (number + 1) * LINE_HEIGHT - 5
        shown = html.escape(text, quote=False)
        if kind == "command" and text.startswith("$ "):
            shown = f'<tspan class="prompt">$</tspan> <tspan class="command">{html.escape(text[2:], quote=False)}</tspan>'
        elif kind == "command":
            shown = f'<tspan class="command">{shown}</tspan>'
        rows.append(f'<text class="step" style="animation-delay: {seconds:.1f}s" x="{MARGIN}" y="{y}" xml:space="preserve">{shown}</text>')
    return "\n".join([*rows, "</svg>"]) + "\n"


def without_times(svg):
    return re.sub(r"\d+\.\d+ s\b", "[time]", svg)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindpack", type=Path, default=ROOT / "target" / "debug" / "kindpack", help="the program")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the recording is out of date")
    args = parser.parse_args()
    svg = drawn(screen(args.kindpack.resolve()))
    old = RECORDING.read_text() if RECORDING.exists() else ""
    if without_times(svg) == without_times(old):
        return
    if args.check:
        sys.exit(f"{RECORDING} is out of date: cargo build && docs/record.py")
    RECORDING.write_text(svg)


if __name__ == "__main__":
    main()
