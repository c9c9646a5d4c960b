#!/usr/bin/env python3
"""Runs kindpack and its peers in turn on the same data, and prints who took how long. Python's standard library only.

    cargo build --release
    benches/peers.py                      # 512 MiB, three runs of each, about a quarter of an hour
    benches/peers.py --mib 64 --only pack,verify
    benches/peers.py --growth --emulator  # also what takes long, much disk, or Google's emulator

Kindpack and its peers alternate, so that noise hits all of them, and medians are compared. What a program reads is read once just before (warm
page cache), and what was written is on disk before the next one starts. What each program made is checked. Peers that are missing are installed
where that is allowed (Debian's packages, crates.io), else they are named and left out.
"""

import argparse
import contextlib
import filecmp
import hashlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = ["pack", "fast", "limit", "verify", "extract", "cat", "small", "growth", "emulator"]
MIB = 1 << 20
CORES = len(os.sched_getaffinity(0))
# What takes longer than this is not repeated.
ENOUGH_SECONDS = 60
# program: Debian's package
PACKAGES = {"zip": "zip", "unzip": "unzip", "7zz": "7zip", "bsdtar": "libarchive-tools"}
# Starts a program, and prints what it took: from a process that is small, as Linux counts the memory of who starts a program as the program's.
LAUNCH = """
import json, os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
begun = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - begun
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime, usage.ru_stime, usage.ru_maxrss / 1024]))
"""
UNZIP_BY_PYTHON = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])"


class Wrong(Exception):
    """Something that was made is not as it must be."""


class Run:
    """What one process took."""

    def __init__(self, seconds, user, system, peak_mib):
        self.seconds, self.user, self.cpu, self.peak_mib = seconds, user, user + system, peak_mib


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, cwd=None):
    """Runs a program to its end; its exit code must be 0."""
    argv = [str(part) for part in command]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", LAUNCH, *argv], cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Wrong(f"{argv[0]}: {done.stderr.decode(errors='replace')[-500:]}")
    exit_code, *taken = json.loads(done.stdout)
    if exit_code != 0:
        raise Wrong(f"{' '.join(argv)}: exit code {exit_code}: {done.stderr.decode(errors='replace')[-500:]}")
    return Run(*taken)


def remove(path):
    """Removes a folder, or a file with the digest beside it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
        Path(f"{path}.sha256").unlink(missing_ok=True)


def warm(path):
    for file in files_below(path) if path.is_dir() else [path]:
        with file.open("rb", buffering=0) as opened:
            while opened.read(MIB):
                pass


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def median(values):
    return statistics.median(values)


def seconds_of(runs):
    return median([one.seconds for one in runs])


class Command:
    """A command to be timed, what it reads and makes, and how that is checked the first time."""

    def __init__(self, argv, reads, makes=None, check=None, cwd=None):
        self.argv, self.reads, self.makes, self.check, self.cwd = argv, reads, makes, check, cwd

    def once(self):
        if self.makes:
            remove(self.makes)
        os.sync()
        # Just now and not once for all: systems that reclaim idle memory forget files within minutes.
        warm(self.reads)
        return run(self.argv, self.cwd)


def in_turn(rounds, commands):
    """Runs each command once, then each again. The answer has the runs of each by its name."""
    runs = {name: [] for name in commands}
    for turn in range(rounds):
        for name, command in commands.items():
            if runs[name] and runs[name][-1].seconds > ENOUGH_SECONDS:
                continue
            taken = command.once()
            say(f"    {name}: {taken.seconds:.2f} s, {taken.cpu:.2f} s of a core, {taken.peak_mib:.0f} MiB")
            if turn == 0 and command.check:
                command.check()
            runs[name].append(taken)
    return runs


class Exports:
    """A set of exports in a folder, made by `make_exports.py`."""

    def __init__(self, folder, told):
        self.folder = folder
        self.objects = files_below(folder)
        self.bytes = sum(path.stat().st_size for path in self.objects)
        self.exports, self.entities = told["exports"], told["entities"]
        self._sums = None

    @property
    def megabytes(self):
        return self.bytes / 1e6

    def sums(self):
        """The length and the checksum of each object."""
        if self._sums is None:
            self._sums = {}
            for path in self.objects:
                crc = 0
                with path.open("rb") as file:
                    while chunk := file.read(MIB):
                        crc = zlib.crc32(chunk, crc)
                self._sums[str(path.relative_to(self.folder))] = (path.stat().st_size, crc)
        return self._sums

    def check_archive(self, archive):
        """The archive's own directory must promise all objects as they are."""
        with zipfile.ZipFile(archive) as opened:
            entries = {entry.filename.removeprefix("exports/"): (entry.file_size, entry.CRC) for entry in opened.infolist()}
        missing = [name for name, sums in self.sums().items() if entries.get(name) != sums]
        if missing:
            raise Wrong(f"{archive}: {len(missing)} objects missing or changed, such as {missing[0]}")

    def check_tree(self, folder):
        """The folder must hold all objects, byte by byte."""
        if (folder / "exports").is_dir():
            folder = folder / "exports"
        for path in self.objects:
            name = path.relative_to(self.folder)
            if not (folder / name).is_file() or not filecmp.cmp(path, folder / name, shallow=False):
                raise Wrong(f"{folder / name}: not as it was packed")


class Bench:
    """All that the rows have in common."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.kindpack = args.kindpack.resolve()
        self.rows, self.missing = [], []
        self._tools = {}

    def pack(self, exports, archive, *options):
        archive = self.work / archive
        argv = [self.kindpack, "--quiet", "--no-progress", "pack", *options, exports.folder, archive]
        return Command(argv, exports.folder, archive, lambda: exports.check_archive(archive))

    def ours(self, verb, archive, *argv, makes=None, check=None):
        return Command([self.kindpack, "--quiet", "--no-progress", verb, archive, *argv], archive, makes, check)

    def archive(self, exports, name):
        """An archive of kindpack to read from."""
        command = self.pack(exports, name)
        if not command.makes.exists():
            command.once()
            command.check()
        return command.makes

    def exports(self, name, *options):
        """Makes a set, or takes the one that a kept working folder has."""
        folder, mark = self.work / name, self.work / f"{name}.json"
        made = [sys.executable, str(HERE / "make_exports.py"), "--out", str(folder), "--pool", "400", *options]
        told = json.loads(mark.read_text()) if mark.exists() else {}
        if told.get("options") != list(options):
            remove(folder)
            say(f"making {name}: {' '.join(options)[:100]}")
            told = json.loads(subprocess.run(made, check=True, stdout=subprocess.PIPE).stdout)
            mark.write_text(json.dumps({**told, "options": list(options)}))
        return Exports(folder, told)

    def large(self):
        return self.exports(f"exports-{self.args.mib}", "--bytes", f"{self.args.mib}M", "--kinds", "16")

    def tool(self, program):
        """Where a peer is; None if it is missing, cannot be installed, or is not wanted here."""
        if program not in self._tools:
            self._tools[program] = self._find(program)
            if not self._tools[program]:
                self.missing.append(program)
                say(f"missing: {program}")
        return self._tools[program]

    def _find(self, program):
        own = self.work / "tools"
        look = lambda: shutil.which(program) or shutil.which(program, path=str(own / "bin"))
        if look() or self.args.no_install:
            return look()
        say(f"installing {program}")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if program in PACKAGES and os.geteuid() == 0:
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
                install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGES[program]]
                subprocess.run(install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet)
            elif program == "ripunzip":
                environment = {**os.environ, "CARGO_TARGET_DIR": str(own / "target")}
                subprocess.run(["cargo", "install", "--quiet", "ripunzip", "--root", str(own)], check=True, timeout=1200, env=environment)
                remove(own / "target")
        return look()

    def row(self, what, ours, theirs, ratio, notes=""):
        """One line of the table."""
        self.rows.append((what, ours, theirs, ratio, notes))
        say("  " + " · ".join(part for part in self.rows[-1] if part))

    def against(self, what, ours, theirs, sizes=""):
        """A row of seconds against seconds."""
        mine, other = seconds_of(ours), seconds_of(theirs)
        ratio = other / mine
        best = min(one.seconds for one in theirs) / min(one.seconds for one in ours)
        sizes += ("; " if sizes else "") + f"the best runs {best:.2f} ×"
        self.row(what, f"{mine:.2f} s", f"{other:.2f} s", f"{ratio:.2f} ×", sizes)


def size_of(path):
    return path.stat().st_size


def sizes(mine, other):
    return f"{size_of(mine) / 1e6:.2f} MB, {size_of(other) / 1e6:.2f} MB ({100 * (size_of(mine) / size_of(other) - 1):+.2f} %)"


def pack(bench):
    """The default level against `zip -6`."""
    exports = bench.large()
    commands = {"kindpack pack": bench.pack(exports, "ours.zip")}
    mine, other = bench.work / "ours.zip", bench.work / "zip.zip"
    if zip_ := bench.tool("zip"):
        argv = [zip_, "-6", "-r", "-q", other, "."]
        commands["zip -6"] = Command(argv, exports.folder, other, lambda: exports.check_archive(other), exports.folder)
    runs = in_turn(bench.args.runs, commands)
    if "zip -6" in runs:
        bench.against("pack, default level, against `zip -6`", runs["kindpack pack"], runs["zip -6"], sizes(mine, other))
    remove(other)


def fast(bench):
    """The fastest level whose archive is not larger, against 7-Zip's fastest."""
    if not (seven := bench.tool("7zz")):
        return
    exports = bench.large()
    mine, other = bench.work / "fast.zip", bench.work / "7zz.zip"
    named = f"7zz -tzip -mx=1 -mmt={CORES}"
    argv = [seven, "a", "-bso0", "-bsp0", "-tzip", "-mx=1", f"-mmt={CORES}", other, "."]
    theirs = Command(argv, exports.folder, other, lambda: exports.check_archive(other), exports.folder)
    theirs.once()
    for level in range(1, 10):
        command = bench.pack(exports, mine.name, "--level", str(level))
        command.once()
        if size_of(mine) <= size_of(other):
            break
    runs = in_turn(bench.args.runs, {f"kindpack pack --level {level}": command, named: theirs})
    ours, theirs = runs.values()
    bench.against(f"pack, `--level {level}`, against `{named}`", ours, theirs, sizes(mine, other))
    remove(mine)
    remove(other)


def limit(bench):
    """The default level against what the cores could do if there were nothing but deflating.

    How fast one core deflates these data with kindpack's codec is what `--jobs 1` takes a core for, less what it takes when it stores: scan, digests,
    reading and writing fall out. The same data are cut into shorter objects for that, as long ones are read twice when they are stored. The digest
    of the archive, which is longer then, is put back.
    """
    exports = bench.large()
    cut = bench.exports(f"cut-{bench.args.mib}", "--bytes", f"{bench.args.mib}M", "--kinds", "16", "--shard-bytes", "3M")
    default = bench.pack(exports, "ours.zip")
    one = bench.pack(cut, "one.zip", "--jobs", "1")
    store = bench.pack(cut, "store.zip", "--jobs", "1", "--method", "store")
    runs = in_turn(bench.args.runs, {"kindpack pack": default, "--jobs 1": one, "--jobs 1 --method store": store})
    whole, single, stored = runs.values()
    if bench.args.codec_rate:
        codec = exports.megabytes / bench.args.codec_rate
    else:
        longer = size_of(store.makes) - size_of(one.makes)
        codec = median([a.user - b.user for a, b in zip(single, stored)]) + longer / 1e6 / digest_rate()
        codec *= exports.bytes / cut.bytes
    mine, least = seconds_of(whole), codec / CORES
    share = least / mine
    rate = f"limit: {CORES} × {exports.megabytes / codec:.0f} MB/s"
    bench.row("pack, against the limit", f"{mine:.2f} s", f"{least:.2f} s", f"{share:.2f}", rate)
    busy = median([one.cpu for one in whole]) / CORES
    bench.row("… of which the cores were busy", f"{mine:.2f} s", f"{busy:.2f} s", f"{busy / mine:.2f}")
    rest = median([one.cpu for one in stored])
    bench.row(
        "pack without deflating: read, check and scan the log, CRC-32, CRC-32C, SHA-256, write",
        f"{rest:.2f} s of a core", "", "", f"{cut.megabytes / rest:.0f} MB/s a core"
    )
    remove(one.makes)
    remove(store.makes)


def digest_rate():
    """MB/s of SHA-256 on one core."""
    data = bytes(16 * MIB)
    begun = time.perf_counter()
    for _ in range(8):
        hashlib.sha256(data).digest()
    return 8 * len(data) / 1e6 / (time.perf_counter() - begun)


def verify(bench):
    """Everything of an archive against those who check CRC-32 only."""
    exports = bench.large()
    archive = bench.archive(exports, "ours.zip")
    commands = {"kindpack verify": bench.ours("verify", archive)}
    if seven := bench.tool("7zz"):
        commands["7zz t"] = Command([seven, "t", "-bso0", "-bsp0", archive], archive)
    if unzip := bench.tool("unzip"):
        commands["unzip -t"] = Command([unzip, "-t", "-qq", archive], archive)
    runs = in_turn(bench.args.runs, commands)
    ours = runs.pop("kindpack verify")
    for name, theirs in runs.items():
        bench.against(f"verify, against `{name}`", ours, theirs)
    cpu = median([one.cpu for one in ours])
    bench.row("… a core", f"{cpu:.2f} s of a core", "", "", f"{exports.megabytes / cpu:.0f} MB/s a core")


def extract(bench):
    """To a folder, every byte checked, against those who check CRC-32 only."""
    exports = bench.large()
    archive, folder = bench.archive(exports, "ours.zip"), bench.work / "extracted"
    makes = {"makes": folder, "check": lambda: exports.check_tree(folder)}
    commands = {"kindpack extract": bench.ours("extract", archive, folder, **makes)}
    if ripunzip := bench.tool("ripunzip"):
        commands["ripunzip"] = Command([ripunzip, "--quiet", "unzip-file", "-d", folder, archive], archive, **makes)
    if unzip := bench.tool("unzip"):
        commands["unzip"] = Command([unzip, "-qq", archive, "-d", folder], archive, **makes)
    if seven := bench.tool("7zz"):
        commands["7zz x"] = Command([seven, "x", "-bso0", "-bsp0", archive, f"-o{folder}"], archive, **makes)
    if bsdtar := bench.tool("bsdtar"):
        commands["bsdtar"] = Command(["sh", "-c", 'mkdir "$2" && exec "$0" -xf "$1" -C "$2"', bsdtar, archive, folder], archive, **makes)
    commands["Python's zipfile"] = Command([sys.executable, "-c", UNZIP_BY_PYTHON, archive, folder], archive, **makes)
    runs = in_turn(bench.args.runs, commands)
    remove(folder)
    ours = runs.pop("kindpack extract")
    for name, theirs in runs.items():
        bench.against(f"extract, against `{name}`", ours, theirs)
    cpu = median([one.cpu for one in ours])
    bench.row("… a core", f"{cpu:.2f} s of a core", "", "", f"{exports.megabytes / cpu:.0f} MB/s a core")


def cat(bench):
    """All entities as JSON lines."""
    exports = bench.large()
    archive = bench.archive(exports, "ours.zip")
    command = bench.ours("cat", archive, "*")
    lines = 0
    with subprocess.Popen(command.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        for line in child.stdout:
            if lines % 1000 == 0:
                json.loads(line)["key"]
            lines += 1
    if child.returncode != 0 or lines != exports.entities:
        raise Wrong(f"cat: exit code {child.returncode}, {lines} lines for {exports.entities} entities")
    (runs,) = in_turn(bench.args.runs, {"kindpack cat": command}).values()
    mine, cpu = seconds_of(runs), median([one.cpu for one in runs])
    rate = exports.megabytes / cpu
    spent = f"{mine:.2f} s, {cpu:.2f} s of a core"
    bench.row("`cat` of everything to JSON lines", spent, "", "", f"{rate:.0f} MB/s a core")


def small(bench):
    """Many small files against few large ones, by bytes a second."""
    large = bench.large()
    namespaces = lambda count: ",".join(f"n{index:03}" for index in range(count))
    make = lambda count: bench.exports(
        f"small-{60 * count}", "--bytes", f"{60 * count * 20}K", "--even", "--kinds", "60", "--namespaces", namespaces(count)
    )
    whole, quarter = make(100), make(25)
    folder = bench.work / "extracted"
    sets = {"large": large, "6,000": whole, "1,500": quarter}
    for verb in ["pack", "verify", "extract"]:
        commands = {}
        for name, exports in sets.items():
            archive = bench.work / f"{exports.folder.name}.zip"
            match verb:
                case "pack":
                    commands[name] = bench.pack(exports, archive.name)
                case "verify":
                    commands[name] = bench.ours("verify", archive)
                case "extract":
                    check = lambda exports=exports: exports.check_tree(folder)
                    commands[name] = bench.ours("extract", archive, folder, makes=folder, check=check)
        runs = in_turn(bench.args.runs, commands)
        rate = {name: sets[name].megabytes / seconds_of(taken) for name, taken in runs.items()}
        share = rate["6,000"] / rate["large"]
        rates = [f"{rate['6,000']:.1f} MB/s", f"{rate['large']:.1f} MB/s"]
        bench.row(f"{verb}, 6,000 exports of 20 KiB, against large files", *rates, f"{share:.2f}")
        work = {name: median([one.cpu for one in runs[name]]) for name in ["6,000", "1,500"]}
        grown = work["6,000"] / work["1,500"] / (whole.bytes / quarter.bytes)
        times = [f"{work[name]:.2f} s of a core" for name in ["6,000", "1,500"]]
        bench.row("… 6,000 against 1,500 of them, work a byte", *times, f"{grown:.2f}")
    remove(folder)
    for exports in sets.values():
        remove(bench.work / f"{exports.folder.name}.zip")


def growth(bench):
    """Sixteen times as much: time and memory."""
    little, much = 256, bench.args.growth_mib
    if shutil.disk_usage(bench.work).free < 1.6 * much * MIB:
        raise Wrong(f"growth: less than {1.6 * much / 1024:.1f} GiB free")
    make = lambda mib: bench.exports(f"growth-{mib}", "--bytes", f"{mib}M", "--kinds", "16", "--jobs", str(CORES))
    sets = {mib: make(mib) for mib in [little, much]}
    for verb in ["pack", "verify"]:
        commands = {}
        for mib, exports in sets.items():
            archive = f"growth-{mib}.zip"
            command = bench.pack(exports, archive) if verb == "pack" else bench.ours("verify", bench.work / archive)
            commands[f"{verb} {mib} MiB"] = command
        few, many = in_turn(bench.args.runs, commands).values()
        grown = seconds_of(many) / seconds_of(few) / (sets[much].bytes / sets[little].bytes)
        times = [f"{seconds_of(many):.2f} s", f"{seconds_of(few):.2f} s"]
        peaks = f"peak {max(one.peak_mib for one in many):.0f} MiB, {max(one.peak_mib for one in few):.0f} MiB"
        bench.row(f"{verb}, {much} MiB against {little} MiB, time a byte", *times, f"{grown:.2f}", peaks)
    tight = bench.pack(sets[little], f"growth-{little}.zip", "--memory", "32MiB").once()
    bench.row(f"pack, {little} MiB with `--memory 32MiB`", f"{tight.seconds:.2f} s", "", "", f"peak {tight.peak_mib:.0f} MiB")
    for mib, exports in sets.items():
        remove(bench.work / f"growth-{mib}.zip")
        remove(exports.folder)
        remove(bench.work / f"{exports.folder.name}.json")


class Emulator:
    """Google's Datastore emulator, a private one."""

    def __init__(self):
        self.child, self.serial = None, 0
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @staticmethod
    def find():
        """The jar and Java: the places are those of src/datastore/emulator.rs."""
        name, candidates = "CloudDatastore.jar", []
        if given := os.environ.get("KINDPACK_DATASTORE_EMULATOR"):
            candidates.append(Path(given) if given.endswith(".jar") else Path(given).resolve().parent / name)
        if script := shutil.which("cloud_datastore_emulator"):
            candidates.append(Path(script).resolve().parent / name)
        if gcloud := shutil.which("gcloud"):
            candidates.append(Path(gcloud).resolve().parent.parent / "platform/cloud-datastore-emulator" / name)
        java = shutil.which("java", path=os.path.join(os.environ.get("JAVA_HOME", ""), "bin")) or shutil.which("java")
        jar = next((jar for jar in candidates if jar.is_file()), None)
        return (java, jar) if java and jar else None

    def start(self, java, jar):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.host.split(":")[1]
        argv = [java, "-cp", str(jar), "com.google.cloud.datastore.emulator.CloudDatastore", "start", "--host=127.0.0.1", "--testing"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.child = subprocess.Popen([*argv, f"--port={port}"], **quiet)
        patience = time.monotonic() + 60
        while time.monotonic() < patience and self.child.poll() is None:
            with contextlib.suppress(OSError):
                self.opener.open(f"http://{self.host}/", timeout=2).close()
                return
            time.sleep(0.1)
        raise Wrong("the emulator does not start")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()

    def post(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        request = urllib.request.Request(f"http://{self.host}{path}", data, {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=600) as answer:
            return answer.read()

    def fresh(self):
        """An empty emulator and a project that nobody has used."""
        self.post("/reset")
        self.serial += 1
        return f"peers-{self.serial}"

    def count(self, project, kind):
        found, cursor = 0, None
        while True:
            query = {"kind": [{"name": kind}], "projection": [{"property": {"name": "__key__"}}], "limit": 1000}
            if cursor:
                query["startCursor"] = cursor
            body = {"partitionId": {"projectId": project}, "query": query}
            batch = json.loads(self.post(f"/v1/projects/{project}:runQuery", body))["batch"]
            results = batch.get("entityResults", [])
            found, cursor = found + len(results), batch.get("endCursor")
            if not results:
                return found


def emulator(bench):
    """A restore by commits against the emulator's own import."""
    if not (installed := Emulator.find()):
        bench.missing.append("Google's Datastore emulator")
        return
    exports = bench.exports("restored", "--entities", "12500", "--kinds", "8", "--namespaces", "", "--text", "1")
    archive = bench.archive(exports, "restored.zip")
    overall = sorted(exports.folder.rglob("*.overall_export_metadata"))
    kinds = [path.parent.parent.name for path in overall]
    server = Emulator()
    try:
        server.start(*installed)

        def restore(project, *options):
            target, journal = f"emulator:{project}@{server.host}", bench.work / f"{project}.journal"
            remove(journal)
            argv = [bench.kindpack, "--quiet", "--no-progress", "restore", archive, "--target", target]
            return run([*argv, "--journal", journal, *options]).seconds

        def import_(project):
            begun = time.perf_counter()
            for path in overall:
                server.post(f"/v1/projects/{project}:import", {"inputUrl": str(path)})
            return time.perf_counter() - begun

        ways = {"restore": restore, ":import": import_, "restore --check none": lambda project: restore(project, "--check", "none")}
        seconds = {way: [] for way in ways}
        # The first round warms the emulator's machine up and is checked.
        for turn in range(bench.args.runs + 1):
            for way, work in ways.items():
                project = server.fresh()
                spent = work(project)
                say(f"    {way}: {spent:.2f} s" + (", not counted" if turn == 0 else ""))
                if turn > 0:
                    seconds[way].append(spent)
                elif (found := sum(server.count(project, kind) for kind in kinds)) != exports.entities:
                    raise Wrong(f"{way}: {found} entities of {exports.entities}")
    finally:
        server.stop()
    rate = lambda way: f"{exports.entities / median(seconds[way]):,.0f}"
    for way, what in [
        ("restore", f"restore of {exports.entities:,} entities by commits, against the emulator's `:import`"),
        ("restore --check none", "… without counting afterwards, which `:import` does not do"),
    ]:
        mine, other = median(seconds[way]), median(seconds[":import"])
        rates = f"{rate(way)} and {rate(':import')} entities/s of {exports.bytes / exports.entities:.0f} bytes"
        bench.row(what, f"{mine:.2f} s", f"{other:.2f} s", f"{other / mine:.2f} ×", rates)
    remove(archive)
    for journal in bench.work.glob("peers-*.journal"):
        remove(journal)


def processor():
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor()


class Others:
    """How much of the cores goes to what is not ours, since this was made."""

    def __init__(self):
        self.begun, self.before = time.monotonic(), self._now()

    @staticmethod
    def _now():
        """Seconds that all cores have worked, less those of this process and its children."""
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        own = os.times()
        # user, nice, system, interrupts, steal
        work = sum(ticks[index] for index in [0, 1, 2, 5, 6, 7]) / os.sysconf("SC_CLK_TCK")
        return work - own.user - own.system - own.children_user - own.children_system

    def percent(self):
        return max(0.0, 100 * (self._now() - self.before) / CORES / (time.monotonic() - self.begun))


def print_table(rows):
    rows = [("what", "kindpack", "peer", "ratio", "archives, memory, rates"), *rows]
    for index, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if index == 0:
            print("|" + "---|" * len(row))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindpack", type=Path, default=HERE.parent / "target/release/kindpack", help="the program, a release build")
    parser.add_argument("--mib", type=int, default=512, help="the large set [512]")
    parser.add_argument("--runs", type=int, default=3, help="of each program [3]")
    parser.add_argument("--only", help=f"rows, comma separated: {', '.join(ROWS)}")
    parser.add_argument("--growth", action="store_true", help="also 256 MiB against --growth-mib")
    parser.add_argument("--growth-mib", type=int, default=4096)
    parser.add_argument("--emulator", action="store_true", help="also restores into Google's emulator")
    parser.add_argument("--codec-rate", type=float, metavar="MB/S", help="what one core deflates these data with (default: measured)")
    parser.add_argument("--no-install", action="store_true", help="leave peers out that are missing")
    parser.add_argument("--work", type=Path, help="a folder to work in and keep (default: a temporary one)")
    args = parser.parse_args()
    wanted = args.only.split(",") if args.only else [row for row in ROWS if row not in ("growth", "emulator") or getattr(args, row)]
    if unknown := [row for row in wanted if row not in ROWS]:
        parser.error(f"--only: {unknown[0]} is none of {', '.join(ROWS)}")
    if args.runs < 1:
        parser.error("--runs: at least 1")
    if not args.kindpack.is_file():
        parser.error(f"{args.kindpack}: not there; `cargo build --release` makes it")
    with contextlib.ExitStack() as stack:
        if args.work:
            args.work.mkdir(parents=True, exist_ok=True)
            work = args.work.resolve()
        else:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kindpack-peers-")))
        bench, failures, disturbed = Bench(args, work), [], []
        for row in ROWS:
            if row in wanted:
                say(f"{row}:")
                others = Others()
                try:
                    globals()[row](bench)
                except (Wrong, OSError, subprocess.SubprocessError) as error:
                    failures.append(f"{row}: {error}")
                    say(f"  failed: {error}")
                say(f"  others: {others.percent():.0f} % of the cores")
                if others.percent() >= 5:
                    disturbed.append(f"{row} {others.percent():.0f} %")
        remove(work / "ours.zip")
    print(f"{time.strftime('%Y-%m-%d')}, {CORES} cores of {processor()}; {args.mib} MiB, medians of {args.runs}.")
    if disturbed:
        print(f"Disturbed: what others took of the cores meanwhile: {', '.join(disturbed)}.")
    print()
    print_table(bench.rows)
    for program in bench.missing:
        print(f"\nMissing: {program}.")
    for failure in failures:
        print(f"\nFailed: {failure}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
