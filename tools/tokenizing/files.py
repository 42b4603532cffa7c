"""Whole files or none, and the folder in which a set is made before it takes its place."""
import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile

from .errors import Failure, InputError


def write_whole(path, content):
    """Replaces a file: flushed, then renamed."""
    content = content.encode() if isinstance(content, str) else content
    handle, unfinished = tempfile.mkstemp(prefix=os.path.basename(path) + ".tmp-", dir=os.path.dirname(path))
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(unfinished, 0o666 & ~umask())
    os.replace(unfinished, path)
    flush_folder(os.path.dirname(path))


def umask():
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def flush_folder(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot
    finally:
        os.close(descriptor)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


@contextlib.contextmanager
def lock(path):
    """Keeps other tokenizers away, depthroute-tokenize too, which uses the same file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(f"{path}: another tokenizer is writing this folder; wait for it, or choose another --output") from None
        if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(descriptor)):
            break
        os.close(descriptor)  # its last holder removed it in between
    try:
        yield
    finally:
        os.unlink(path)
        os.close(descriptor)


class Work:
    """<output>.tmp-partial: `set`, the folder that will be the output, and beside it what continuing needs."""

    def __init__(self, output, manifest_name):
        self.output, self.manifest_name = output, manifest_name
        self.folder = output + ".tmp-partial"
        self.set = os.path.join(self.folder, "set")
        self.run_file, self.state_file = (os.path.join(self.folder, name) for name in ("run.json", "state.json"))

    def begin(self, run, restart, overwrite):
        """Makes the folder or takes up what an earlier run left. True if that run was over but for clearing up. `run`: what decides
        the result; an unfinished run of another is refused."""
        self.restore_replaced()
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        unfinished = os.path.exists(self.run_file)
        if unfinished:
            self.check_same(run)
            if not os.path.isdir(self.set) and os.path.exists(os.path.join(self.output, self.manifest_name)):
                return True
        self.check_output(overwrite)
        os.makedirs(self.set, exist_ok=True)
        if not unfinished:
            write_whole(self.run_file, json.dumps(run, indent=1) + "\n")
        return False

    def restore_replaced(self):
        """Puts back a folder that was moved aside by a run that was killed before it put the new one there."""
        replaced = [path for path in glob.glob(glob.escape(self.output) + ".tmp-*-replaced")
                    if re.fullmatch(r"\.tmp-[0-9]+-replaced", path[len(self.output):])]
        if replaced and not os.path.exists(self.output):
            os.rename(replaced.pop(), self.output)
        for path in replaced:
            shutil.rmtree(path, ignore_errors=True)

    def check_same(self, run):
        earlier = read_json(self.run_file)
        for key in sorted(set(earlier) | set(run)):
            if earlier.get(key) != run.get(key):
                raise InputError(f"{self.folder}: holds an unfinished run with another {key} ({brief(earlier.get(key))}, now "
                                 f"{brief(run.get(key))}); repeat its command to continue it, or pass --restart to begin anew")

    def check_output(self, overwrite):
        """Refuses a folder that holds anything but an earlier set that may be overwritten."""
        if not os.path.lexists(self.output):
            return
        if not os.path.isdir(self.output) or os.path.islink(self.output):
            raise InputError(f"{self.output}: is not a folder; choose another --output")
        names = os.listdir(self.output)
        if not names:
            return
        if not overwrite:
            raise InputError(f"{self.output}: is not empty; choose another --output, or pass --overwrite to replace the set in it")
        manifest = os.path.join(self.output, self.manifest_name)
        if not os.path.exists(manifest):
            raise InputError(f"{self.output}: holds no {self.manifest_name}, so nothing in it may be overwritten; choose another --output")
        try:
            known = {entry["path"] for entry in read_json(manifest)["files"]}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{manifest}: damaged ({error}); move it and its shards away") from None
        from .tokenizer import COMPANIONS, NAME
        strangers = sorted(set(names) - known - {self.manifest_name, NAME, *COMPANIONS})
        if strangers:
            raise InputError(f"{self.output}/{strangers[0]}: is not of the set that {self.manifest_name} lists, and --overwrite replaces "
                             "the folder; move it away or choose another --output")

    def publish(self):
        """Puts the finished set in its place."""
        for name in os.listdir(self.set):
            if ".tmp-" in name:
                os.unlink(os.path.join(self.set, name))  # of a killed run
        flush_folder(self.set)
        aside = f"{self.output}.tmp-{os.getpid()}-replaced"
        if os.path.isdir(self.output):
            os.rename(self.output, aside)
        os.rename(self.set, self.output)
        flush_folder(os.path.dirname(self.output))
        shutil.rmtree(aside, ignore_errors=True)
        self.clear()

    def clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def brief(value):
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


@contextlib.contextmanager
def naming_failures():
    """What the system refuses becomes one line."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise Failure(f"{what}; run again to continue when that is solved") from error
