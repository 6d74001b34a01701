"""The layers: imports point one way, and the plain half never meets trio."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_vrchat

PACKAGE = Path(trio_vrchat.__file__).parent

# Each module imports only from those above it.
PLAIN = (
    "_version",
    "_errors",
    "_config",
    "_clock",
    "_rate",
    "_statistics",
    "_names",
    "_origin",
    "_descriptors",
    "_admission",
    "_proxies",
    "_login_failures",
    "_frames",
    "_messages",
    "_codec",
    "_outbox",
    "_history",
    "_members",
    "_observer",
    "_presence",
    "_file_lock",
    "_database",
    "_backplane",
    "_account_rules",
    "_account_file",
    "_engine_state",
    "_follower",
    "_mirror",
    "_movements",
)
ON_TRIO = (
    "_frame_clock",
    "_keepalive",
    "_room",
    "_directory",
    "_session",
    "_login",
    "_admin_requests",
    "_requests",
    "_timer",
    "_pump",
    "_socket_stream",
    "_tls_stream",
    "_stream",
    "_connection",
    "_addresses",
    "_accept",
    "_tls",
    "_threads",
    "_store",
    "_accounts",
    "_questions",
    "_node",
    "_shared_names",
    "_shared_room",
    "_sharing",
    "_server",
)
CORE = PLAIN + ON_TRIO
# What grows on the core: `_server` alone puts it in its place. Each imports from the core, and from those above it.
BESIDE_PLAIN = (
    "_http",
    "_web_files",
    "_metrics",
    "_site",
    "_certificate",
    "_recording_file",
    "_recording_index",
    "_recording_folder",
    "_replay",
    "_restarts",
    "_redis_place",
)
BESIDE_ON_TRIO = ("_front", "_recorder", "_recording_desk", "_background", "_redis_engine")
BESIDE = BESIDE_PLAIN + BESIDE_ON_TRIO
# What uses the core, and what the core never imports. Not all need exist.
OUTSIDE = {
    "__init__",
    "__main__",
    "_announcement",
    "_bench_command",
    "_blocking",
    "_client",
    "_client_rooms",
    "_clock_report",
    "_conversation",
    "_event_queue",
    "_export_command",
    "_events",
    "_link",
    "_logging",
    "_memory_engine",
    "_memory_stream",
    "_open_client",
    "_reconnecting",
    "_replay_command",
    "_replaying",
    "_report_command",
    "_terminal",
    "_supervisor",
    "_users_command",
    "_worker",
    "_worker_process",
    "bench",
    "recording",
    "report",
    "testing",
}
# Of the package `report`: what reduces a recording, each importing only from those above it; and what draws.
REPORT_PLAIN = ("_text", "_track", "_meetings", "_lines", "_data")
KNOW_MATPLOTLIB = {"_canvas", "_figures", "_maps"}
KNOW_THE_WEBSOCKET_LIBRARY = {"_connection", "_stream", "_link"}


def file_of(module: str) -> Path:
    return PACKAGE / f"{module}.py"


def imports_of(file: Path) -> Iterator[str]:
    """What a file imports anywhere in it: modules of this package by their bare names, others by their first names."""
    depth = len(file.relative_to(PACKAGE).parts)  # this many dots are the package itself
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and node.level < depth:
                continue  # a neighbour in the same subpackage
            base = ".".join(filter(None, (PACKAGE.name if node.level else "", node.module)))
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first != PACKAGE.name:
                yield first
            elif not rest or not (file_of(rest[0]).exists() or (PACKAGE / rest[0]).is_dir()):
                yield "__init__"  # the package itself, or a name that it exports
            else:
                yield rest[0]


def test_every_module_has_its_place() -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py")}
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert modules | packages <= {*CORE, *BESIDE, *OUTSIDE}
    assert modules >= {*CORE, *BESIDE}
    assert not OUTSIDE & {*CORE, *BESIDE}
    assert len({*CORE, *BESIDE}) == len(CORE + BESIDE)


@pytest.mark.parametrize("module", CORE)
def test_a_module_imports_only_from_above_it(module: str) -> None:
    ours = {name for name in imports_of(file_of(module)) if name in CORE or name in BESIDE or name in OUTSIDE}
    allowed = set(CORE[: CORE.index(module)])
    assert ours <= (allowed | set(BESIDE) if module == "_server" else allowed)


@pytest.mark.parametrize("module", BESIDE)
def test_what_is_beside_the_core_imports_from_it_and_from_above(module: str) -> None:
    ours = {name for name in imports_of(file_of(module)) if name in CORE or name in BESIDE or name in OUTSIDE}
    core = {*CORE} - {"_server", "_connection", "_stream", "_accept"}
    assert ours <= core | set(BESIDE[: BESIDE.index(module)])


@pytest.mark.parametrize("module", PLAIN + BESIDE_PLAIN)
def test_the_plain_half_never_imports_trio_not_even_through_others(module: str) -> None:
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imports_of(file_of(waiting.pop())):
            if name not in reached:
                reached.add(name)
                if file_of(name).exists():
                    waiting.append(name)
    assert not {name for name in reached if name.startswith("trio")}
    # What loads the whole package loads trio.
    assert "__init__" not in reached


def test_only_the_connection_and_the_client_know_the_websocket_library() -> None:
    knowing = set()
    for file in PACKAGE.rglob("*.py"):
        if {"trio_websocket", "wsproto"} & set(imports_of(file)):
            knowing.add(file.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    assert knowing <= KNOW_THE_WEBSOCKET_LIBRARY
    assert "_connection" in knowing


def test_a_report_is_reduced_without_what_draws_it() -> None:
    files = {file.stem: file for file in (PACKAGE / "report").glob("*.py")}
    drawing = {"matplotlib", "mpl_toolkits", "numpy"}
    knowing = {name for name in files if drawing & set(imports_of(files[name]))}
    assert knowing == KNOW_MATPLOTLIB
    for number, name in enumerate(REPORT_PLAIN):
        neighbours = {
            node.module
            for node in ast.walk(ast.parse(files[name].read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and node.level == 1
        }
        assert neighbours <= set(REPORT_PLAIN[:number])
        assert "trio" not in set(imports_of(files[name]))
