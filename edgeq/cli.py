"""The command line: the commands together, and with which exit code they leave."""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from typing import NoReturn

import click

from edgeq.commands import bench, data, export, listen, models, train
from edgeq.errors import CheckFailed, InputError

_INTERRUPTED = "interrupted; what was finished is kept"


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code.

    0 done; 1 a check failed; 2 bad usage or input, one line on stderr; 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        code = commands.main(args=arguments, prog_name="edgeq", standalone_mode=False)
    except click.UsageError as error:
        where = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        _leave(2, error.format_message() + where)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _leave(130, _INTERRUPTED)
    except InputError as error:
        _leave_wrong(error, str(error))
    except CheckFailed as error:
        _leave(1, str(error))
    except SystemExit as stop:
        # The reader of our output went away (`edgeq models | head`): click and rich leave with a failed check's 1.
        sys.exit(141 if stop.code == 1 else stop.code)
    except ModuleNotFoundError as error:
        # The core runs models; what builds and counts networks comes with an extra, and is imported by the command.
        _leave(2, f"this needs {error.name}, which is not installed; run: pip install 'edgeq[export]'")
    except ImportError as error:
        _leave_wrong(error, f"{error.name or 'a package'} cannot be loaded ({error}); run: edgeq doctor")
    except OSError as error:
        _leave(2, _describe(error))
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True
)
@click.version_option(package_name="edgeq", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Take an audio classifier from training to a device, and prove that it still works there."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


for _command in (
    models.models_command,
    models.inspect_command,
    train.train_command,
    train.prune_command,
    train.distill_command,
    train.ensemble_command,
    export.export_command,
    export.verify_command,
    bench.bench_command,
    data.data_commands,
    listen.classify_command,
    listen.live_command,
    listen.tune_threshold_command,
    listen.mine_command,
    models.doctor_command,
):
    commands.add_command(_command)


def _describe(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    elsewhere = "choose another place"
    mend = {
        errno.ENOSPC: f"free some space or {elsewhere}",
        errno.EDQUOT: f"free some space or {elsewhere}",
        errno.EACCES: f"{elsewhere}, or change its permissions",
        errno.EROFS: elsewhere,
        errno.EEXIST: f"expected a folder; {elsewhere}",
        errno.ENOTDIR: f"expected a folder; {elsewhere}",
        errno.ENOENT: "check the path",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(error.errno or 0)
    return f"{place}{reason}" + (f"; {mend}" if mend else "")


def _leave_wrong(error: Exception, message: str) -> NoReturn:
    """Leave for a mistake in the input, if it is not a Ctrl-C: native modules make an ImportError of one on loading."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:  # an error may be raised from itself
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(one, KeyboardInterrupt) for one in chain):
        _leave(130, _INTERRUPTED)
    _leave(2, message)


def _leave(code: int, message: str) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody to tell it to; the code still says it
        click.echo(f"edgeq: {' '.join(message.split())}", err=True)
    sys.exit(code)
