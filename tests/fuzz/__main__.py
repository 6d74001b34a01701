"""`python -m tests.fuzz TARGET --runs N`: let atheris look for an input that breaks a promise of the server.

It takes inputs that reach new lines of code and changes them. The first that makes the target raise ends the run with
exit status 77 and is kept in `.cache/fuzz`; `--replay FILE` runs that one alone.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from pathlib import Path

# What leads the way: the server, and the libraries that read the same bytes.
INSTRUMENTED = ["trio_vrchat", "trio_websocket", "wsproto", "h11"]
FOUND = Path(".cache/fuzz")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a part of the server with atheris.")
    parser.add_argument("target", choices=["codec", "frames", "opening"])
    parser.add_argument("--runs", type=int, default=-1, help="inputs to try (left out: until Ctrl+C)")
    parser.add_argument("--seed", type=int, default=1, help="of what is random; the same seed is the same run")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this input only")
    arguments = parser.parse_args()
    if arguments.replay:
        importlib.import_module("tests.fuzz.targets").TARGETS[arguments.target].check(arguments.replay.read_bytes())
        return
    # Not everywhere installed, and without types.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[arguments.target]
    # Made anew, so that a run depends on nothing before it.
    folder = FOUND / arguments.target
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
    for number, seed in enumerate(target.seeds):
        (folder / "corpus" / str(number)).write_bytes(seed)
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
    options = {
        "runs": arguments.runs,
        "seed": arguments.seed,
        "dict": folder / "words",
        "artifact_prefix": f"{FOUND}/{arguments.target}-",
        "max_len": 2048,
    }
    command = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(folder / "corpus")]
    atheris.Setup(command, target.check)
    # Ends the process.
    atheris.Fuzz()


if __name__ == "__main__":
    main()
