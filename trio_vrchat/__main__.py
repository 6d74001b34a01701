"""The command line: `python -m trio_vrchat`, or `trio-vrchat`.

A thin shell over the library. The options are the fields of `Config`, read off the class, and the log's two. A value
comes from the command line, or else from the environment (`--log-level` is TRIO_VRCHAT_LOG_LEVEL), or else from the
TOML file of `--config` (`log_level = 1`). Wherever it comes from, `Config` itself judges it: text that is no number
is handed on as text, for the one message that says what would be right.

Whatever is wrong with what the user asked for is one line on stderr and exit status 2; that workers end at once, again
and again, is one, and 1.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import attrs
import cyclopts
from cyclopts import UNSET, App, ArgumentCollection, CycloptsError, Group, Parameter, Token

from . import _config
from ._announcement import announce
from ._backplane import LinkLost
from ._blocking import run
from ._config import Config, option_of
from ._errors import AccountError, ConfigError, ListenError, RecordingError, ReplayError, StoreError, WorkerError
from ._logging import check_level, configure, one_line
from ._users_command import app as users
from ._version import __version__

_PROGRAM = "trio-vrchat"
_ENVIRONMENT_PREFIX = "TRIO_VRCHAT_"
_ENVIRONMENT = "environment"
_USAGE_ERROR = 2
_FAILED = 1
_INTERRUPTED = 130  # 128 + SIGINT, as shells count it

# More than the cores of most machines; a mistyped number should not fill one with processes.
_WORKERS_LIMIT = 256

_SERVER = Group.create_ordered("Server")
_LOG = Group.create_ordered("Log")
_GROUPS = {"Server": _SERVER} | {
    name: Group.create_ordered(name) for name in ("Access and storage", "Recording", "Limits", "Timeouts")
}
_COMMANDS = Group.create_ordered("Commands")
_OTHER = Group.create_ordered("Other")

_HELP = "A chat and presence server for VR headsets. Without a command it runs the server."
_USAGE = f"""Usage: {_PROGRAM} [OPTIONS]
       {_PROGRAM} bench [OPTIONS]
       {_PROGRAM} export FILE --to FORMAT [OPTIONS]
       {_PROGRAM} replay FILE [OPTIONS]
       {_PROGRAM} report FILE [OPTIONS]
       {_PROGRAM} users COMMAND [OPTIONS]"""
_EPILOGUE = (
    "Each option of the server can also be an environment variable (TRIO_VRCHAT_LOG_LEVEL=1) or a line in the file of "
    "--config (log_level = 1). The command line comes before the environment, and that before the file."
)


# Options


def help_texts() -> dict[str, str]:
    """What stands under each field of `Config`. Python itself does not keep it, so it is read from the source."""
    tree = ast.parse(inspect.getsource(_config))
    [settings] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Config.__name__]
    texts: dict[str, str] = {}
    for pair in itertools.pairwise(settings.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


# Each option's field of `Config`.
_FIELDS = {option: field for field in attrs.fields(Config) if (option := option_of(field)) is not None}

_METAVARS = {
    "host": "ADDRESS",
    "auth": "POLICY",
    "store": "FILE",
    "tls": "auto",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "allow_origin": "ORIGIN",
    "exempt_networks": "NETWORK",
    "metrics": "NETWORK",
    "record": "FOLDER",
    "recordings": "FOLDER",
    "note": "KEY=VALUE",
    "pseudonyms": "FILE",
    "trust_proxy": "NETWORK",
    "backplane": "URL",
}
_ACCESS_OPTIONS = (
    "auth",
    "store",
    "keep",
    "store_limit_bytes",
    "backplane",
    "allow_origin",
    "metrics",
    "trust_proxy",
    "tls",
    "tls_cert",
    "tls_key",
)

_RECORDING_OPTIONS = ("record", "recordings", "note", "pseudonyms")


def _server_options() -> list[inspect.Parameter]:
    """The parameters that `Config` makes."""
    hints, texts = get_type_hints(Config), help_texts()
    return [
        inspect.Parameter(
            option,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[
                hints[field.name],
                Parameter(
                    group=_GROUPS[group_of(option)],
                    help=texts[field.name],
                    show_default=_show if field.default != () else False,
                    validator=_validator(field),
                    **_form(option, hints[field.name]),
                ),
            ],
        )
        for option, field in _FIELDS.items()
    ]


def _form(option: str, hint: object) -> dict[str, Any]:
    """How the option is written: by itself, or with a value."""
    if hint is bool:
        return {}
    return {
        "metavar": _METAVARS.get(option, "NUMBER"),
        "converter": _converter(hint),
        # One text each time that the option is given, not one after another up to the next option.
        "n_tokens": 1,
        "consume_multiple": False,
        "negative": (),
    }


def _show(default: object) -> str:
    return ", ".join(default) if isinstance(default, tuple) else str(default)


def group_of(option: str) -> str:
    """The heading under which `--help` has this option."""
    if option.endswith("_timeout_s") or option in ("drain", "keepalive_interval_s", "resume_grace_s"):
        return "Timeouts"
    if option in _ACCESS_OPTIONS:
        return "Access and storage"
    if option in _RECORDING_OPTIONS:
        return "Recording"
    return "Limits" if any(part in option for part in ("_limit", "_per_", "_at_once", "exempt")) else "Server"


def _converter(hint: object) -> Callable[[object, Sequence[Token]], object]:
    """Text to what the setting is, where that can be; what cannot is left to `Config` to refuse."""
    number = hint if hint in (int, float) else str

    def convert_one(token: Token) -> object:
        if token.implicit_value is not UNSET:
            return token.implicit_value  # from the file, which has numbers and lists of its own
        try:
            return number(token.value)
        except ValueError:
            return token.value

    def convert(_hint: object, tokens: Sequence[Token]) -> object:
        values = [convert_one(token) for token in tokens]
        return values[0] if len(values) == 1 else ",".join(str(value) for value in values)

    return convert


def _validator(field: attrs.Attribute[Any]) -> Callable[[object, Any], None]:
    def check(_hint: object, value: Any) -> None:
        # By itself: what settings need of each other is found when all are known.
        assert field.validator is not None
        convert = cast("Callable[[object], object] | None", field.converter)
        field.validator(None, field, convert(value) if convert else value)

    return check


def _check_log_level(_hint: object, value: object) -> None:
    check_level(value)


def _check_log_json(_hint: object, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"log_json must be true or false, not {value!r}")


def _check_workers(_hint: object, value: object) -> None:
    if type(value) is not int or not 1 <= value <= _WORKERS_LIMIT:
        raise ConfigError(f"workers must be a whole number from 1 to {_WORKERS_LIMIT}, not {value!r}")


# Where else values come from


def _from_environment(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    if commands:
        return
    for argument in arguments:
        variable = _ENVIRONMENT_PREFIX + argument.field_info.name.upper()
        if variable in os.environ and not argument.tokens:
            argument.append(Token(keyword=variable, value=os.environ[variable], source=_ENVIRONMENT))


def _from_file(_app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    if commands:
        return
    options = {argument.field_info.name: argument for argument in arguments}
    named_by = options.pop("config").tokens
    if not named_by:
        return
    path = named_by[0].value
    for key, value in _read_file(path, named_by[0].keyword).items():
        if key not in options:
            nearest = difflib.get_close_matches(key, options, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise CycloptsError(msg=f"{path}: there is no setting {key!r}{hint}")
        several = key in _FIELDS and isinstance(_FIELDS[key].default, tuple)
        if isinstance(value, dict) or (isinstance(value, list) and not several):
            raise CycloptsError(msg=f"{key} in {path} must be a single value, not {value!r}")
        if not options[key].tokens:
            options[key].append(Token(keyword=f"{key} in {path}", implicit_value=value, source=path))


def _read_file(path: str, named_by: str | None) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CycloptsError(msg=f"cannot read the file {path!r} of {named_by}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CycloptsError(msg=f"{path} is not TOML: {error}") from error


# Commands


def _serve(
    *,
    config: Annotated[Path | None, Parameter(group=_SERVER, help="A TOML file with settings.", metavar="FILE")] = None,
    workers: Annotated[
        int,
        Parameter(
            group=_SERVER,
            help="Processes that serve on the one port, each on a core of its own.",
            metavar="NUMBER",
            converter=_converter(int),
            validator=_check_workers,
        ),
    ] = 1,
    log_level: Annotated[
        int,
        Parameter(
            group=_LOG,
            help="0: start, stop and failures; 1: also connections, logins and error answers; 2: also joins and "
            "leaves; 3: everything.",
            metavar="LEVEL",
            converter=_converter(int),
            validator=_check_log_level,
        ),
    ] = 2,
    log_json: Annotated[bool, Parameter(group=_LOG, help="One JSON object a line.", validator=_check_log_json)] = False,
    **settings: Any,
) -> None:
    # `config` has had its effect: see `_from_file`.
    configure(log_level, as_json=log_json)
    chosen = Config(**{_FIELDS[option].name: value for option, value in settings.items()})
    if workers == 1:
        run(chosen, started=announce)
    else:
        # Needed by nobody else.
        from ._supervisor import check_for_workers, run_workers  # noqa: PLC0415

        check_for_workers(chosen, workers)
        run_workers(chosen, workers, log_level=log_level, log_json=log_json)


# What cyclopts takes the options from: those of the server in place of `settings`.
[*_own_options, _settings] = inspect.signature(_serve, eval_str=True).parameters.values()
_serve.__signature__ = inspect.Signature([*_server_options(), *_own_options])  # type: ignore[attr-defined]


def _app() -> App:
    app = App(
        name=_PROGRAM,
        usage=_USAGE,
        version=f"{_PROGRAM} {__version__}",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        config=[_from_environment, _from_file],
        group_commands=_COMMANDS,
    )
    for flag in ("--help", "--version"):
        app[flag].group = _OTHER
    app.default(_serve)
    app.command(
        "trio_vrchat._bench_command:bench",
        name="bench",
        help="Load a server with users and measure what arrives; without --url, a server of its own.",
        help_epilogue="",
        help_format="markdown",
    )
    app.command(users)
    app.command(
        "trio_vrchat._export_command:export",
        name="export",
        help="Write a recording as CSV, Parquet or JSON lines.",
        help_epilogue="",
        help_format="markdown",
    )
    app.command(
        "trio_vrchat._replay_command:replay",
        name="replay",
        help="Let the people of a recording come back, on a running server or on one of its own.",
        help_epilogue="",
        help_format="markdown",
    )
    app.command(
        "trio_vrchat._report_command:report",
        name="report",
        help="Write a page about a recording: who was where and when, and who met whom.",
        help_epilogue="",
        help_format="markdown",
    )
    return app


# Errors


def _problem(error: CycloptsError) -> str:
    """What is wrong, in the user's words: the option, the variable or the line in the file that they wrote."""
    match error:
        case cyclopts.ValidationError(argument=cyclopts.Argument(tokens=[token, *_]) as argument):
            option = argument.field_info.name
            name = _FIELDS[option].name if option in _FIELDS else option
            return f"{token.keyword} {error.exception_message.removeprefix(name + ' ')}"
        case cyclopts.ValidationError(group=Group()):
            return error.exception_message
        case cyclopts.UnusedCliTokensError(unused_tokens=[token, *_]):
            return f"unexpected argument {token!r}"
        case cyclopts.MissingArgumentError(argument=cyclopts.Argument() as argument, keyword=keyword):
            return f"{argument.name} is missing" if keyword is None else f"{keyword} needs a value"
        case cyclopts.CoercionError(token=Token(keyword=str() as keyword, value=value)) if error.target_type is bool:
            return f"{keyword} must be true or false, not {value!r}"
    return str(error).rstrip(".")


def _main(arguments: Sequence[str]) -> int:
    status = _USAGE_ERROR
    try:
        command, bound, _ = _app().parse_args(arguments, print_error=False, exit_on_error=False, verbose=False)
        return command(*bound.args, **bound.kwargs) or 0
    except CycloptsError as error:
        command_line = " ".join((_PROGRAM, *(error.command_chain or ()), "--help"))
        message = f"{_problem(error)} (see {command_line})"
    except (AccountError, ConfigError, LinkLost, ListenError, RecordingError, ReplayError, StoreError) as error:
        message = str(error)
    except WorkerError as error:
        # Not for what was asked: a service manager may try again.
        message, status = str(error), _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(f"{_PROGRAM}: error: {one_line(message)}", file=sys.stderr)  # noqa: T201  (there may be no log yet)
    return status


def main() -> None:
    """Run the command line, and end the process with its exit status."""
    sys.exit(_main(sys.argv[1:]))


if __name__ == "__main__":
    main()
