"""Start twdiag from one file: choose where it unpacks itself, and hand over to shiv.

Takes the place of `__main__` in the file.  shiv unpacks into ~/.shiv, and where it cannot it ends
with a traceback and 1, which monitoring takes for a WARNING.
"""

import contextlib
import os
import stat
import sys


def main():
    """Choose the folder and run."""
    folder = next(filter(fit, candidates()), None)
    if folder is None:
        sys.exit(refuse("there is no folder to unpack into", "set SHIV_ROOT to one of your own"))
    os.environ["SHIV_ROOT"] = folder
    try:
        from _bootstrap import bootstrap

        bootstrap()
    except KeyboardInterrupt:
        os._exit(130)
    except OSError as error:
        sys.exit(
            refuse(f"it cannot unpack itself into {folder}: {error.strerror}", "set SHIV_ROOT")
        )


def candidates():
    """Yield the folders to try, the one asked for alone if there is one."""
    asked = os.environ.get("SHIV_ROOT")
    if asked:
        yield os.path.abspath(asked)
        return
    home = os.environ.get("HOME", "")
    if home.startswith("/"):
        yield os.path.join(home, ".shiv")
    for shared in (f"/run/user/{os.getuid()}", "/var/tmp", "/tmp"):
        yield os.path.join(shared, f"twdiag-{os.getuid()}")


def fit(folder):
    """Return whether a folder is ours alone, and can be written to or has everything already.

    In a shared folder somebody else may have laid it out, with code of theirs in it.
    """
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return False
    if os.environ.get("SHIV_ROOT") or folder.endswith("/.shiv"):
        return os.access(folder, os.W_OK | os.X_OK) or bool(unpacked(folder))
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    return private and found.st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)


def unpacked(folder):
    """Return what this file has been unpacked to before in a folder that may only be read."""
    name = os.path.basename(os.path.realpath(sys.argv[0]))
    try:
        return [found for found in os.listdir(folder) if found.startswith(name + "_")]
    except OSError:
        return []


def refuse(what, step):
    """Say in one sentence why it does not start, where it is looked for; return 3, UNKNOWN."""
    plugin = "check" in sys.argv or os.path.basename(sys.argv[0]) == "check_twdiag"
    head, file = ("TWDIAG UNKNOWN - ", 1) if plugin else ("twdiag: ", 2)
    with contextlib.suppress(OSError):
        os.write(file, f"{head}{what}\n{'' if plugin else '        '}{step}\n".encode())
    return 3


main()
