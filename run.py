#!/usr/bin/env python3
"""Set this clone up, then run one of its jobs.

    python3 run.py setup          make .venv with everything in it (every other verb does so too)
    python3 run.py demo           import the sample, print a summary, write charts and a notebook
    python3 run.py test           what CI runs; further words go to pytest: -k store
                                  --quick leaves out faults, browser, notebooks, proofs, programs
    python3 run.py lab            JupyterLab, with the notebooks; --lang zh for Chinese menus
    python3 run.py bench NAME     one of benchmarks/, against what else could be used
    python3 run.py notebooks      rebuild the notebooks; --check only compares

Needs nothing but Python 3.11 or newer. What is installed stands in requirements.lock, with hashes.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one file that an older Python may meet
    sys.exit(
        f"verifyanalytics needs Python 3.11 or newer; {sys.executable} is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]}. Use a newer one: python3.12 run.py setup"
    )

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "setup.stamp"
UNFINISHED = "unfinished"

LOCALES = {"en": "default", "zh": "zh_CN"}
QUIET = (  # JupyterLab asks nobody for news or newer versions
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)

NO_VENV = """\
This Python ({python}) cannot make virtual environments: its module {missing!r} is missing.
  Debian, Ubuntu:  sudo apt-get install python3-venv
  Alpine:          sudo apk add python3
  elsewhere:       install Python from python.org, or with your system's package manager
Then run the same command again."""


def main(words: Sequence[str]) -> int:
    """Run the verb that `words` begin with; return an exit code."""
    if not words or words[0] in {"-h", "--help", "help"}:
        print(__doc__)
        return 0 if words else 2
    verb, rest = words[0], list(words[1:])
    if verb not in VERBS:
        print(f"no verb {verb!r}; there are: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    os.environ["PYTHONUTF8"] = "1"  # one encoding on every system
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        return 130


# ------------------------------------------------------------------ the verbs


def setup(rest: Sequence[str] = ()) -> int:
    """Make .venv ready, or see at a glance that it is."""
    if rest:
        print(f"setup takes no words, but got: {' '.join(rest)}", file=sys.stderr)
        return 2
    install()
    print(f"ready: {PYTHON}")
    return 0


def demo(rest: Sequence[str]) -> int:
    """Run the demo of the package."""
    install()
    return become("-m", "verifyanalytics", "demo", *rest)


def test(rest: Sequence[str]) -> int:
    """Run what CI runs; stop at the first step that fails. `--quick` runs the first tier only."""
    words = [word for word in rest if word != "--quick"]
    if len(words) < len(rest):
        words += ["-m", "not second_tier"]
    install()
    # three workers on two cores: the browser's and the killed programs' tests mostly wait
    steps = {
        "ruff format": ("-m", "ruff", "format", "--check", "."),
        "ruff check": ("-m", "ruff", "check", "."),
        "codespell": ("-m", "codespell_lib"),
        "mypy": ("-m", "mypy"),
        "pytest": ("-m", "pytest", "-n", "3", "--dist", "loadfile", *words),
    }
    for name, arguments in steps.items():
        print(f"--- {name}", flush=True)
        code = run(*arguments)
        if code:
            return code
    return 0


def lab(rest: Sequence[str]) -> int:
    """Open JupyterLab on the notebooks, with menus in English or, `--lang zh`, in Chinese."""
    words, lang = list(rest), "en"
    if "--lang" in words:
        at = words.index("--lang")
        lang = "".join(words[at + 1 : at + 2])
        del words[at : at + 2]
    if lang not in LOCALES:
        print(f"lab --lang needs one of: {', '.join(LOCALES)}", file=sys.stderr)
        return 2
    install()
    arrange_lab(LOCALES[lang])
    return become("-m", "jupyterlab", "--LabApp.default_url=/lab/tree/notebooks", *QUIET, *words)


def bench(rest: Sequence[str]) -> int:
    """Run one benchmark, or list them."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    if not rest or rest[0] not in names:
        print(f"bench needs a name; there are: {', '.join(names) or 'none yet'}", file=sys.stderr)
        return 2
    install()
    return become("-m", f"benchmarks.{rest[0]}", *rest[1:])


def notebooks(rest: Sequence[str]) -> int:
    """Rebuild the notebooks from the sample, or compare with --check."""
    install()
    return become("-m", "verifyanalytics.notebooks.build", *rest)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "setup": setup,
    "demo": demo,
    "test": test,
    "lab": lab,
    "bench": bench,
    "notebooks": notebooks,
}


# ------------------------------------------------------------------ the environment


def install() -> None:
    """Bring .venv to what requirements.lock says, unless the stamp says that it is so already.

    The stamp is written last, so a set-up that was interrupted is made again from the start.
    """
    wanted = fingerprint()
    if stamp() == wanted and PYTHON.exists():
        return
    if stamp() == UNFINISHED or not usable():
        make_venv()
    STAMP.write_text(UNFINISHED, encoding="utf-8")
    say("installing what requirements.lock lists; the first time this takes some minutes")
    pip("--require-hashes", "-r", str(LOCK))
    # hatchling is in the lock: no build isolation, hence no download without a hash
    pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    STAMP.write_text(wanted, encoding="utf-8")


def fingerprint() -> str:
    """Hash everything that the environment depends on."""
    digest = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    # a moved clone needs new links; an upgraded Python needs new wheels
    digest.update(f"{ROOT}\0{platform.python_version()}\0{platform.platform()}".encode())
    return digest.hexdigest()


def stamp() -> str:
    """Read the stamp; empty when there is none."""
    try:
        return STAMP.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def usable() -> bool:
    """Tell whether .venv has a working pip and the Python that runs us."""
    if not PYTHON.exists():
        return False
    code = "import pip, platform; print(platform.python_version())"
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() == platform.python_version()


def make_venv() -> None:
    """Make an empty .venv, over whatever stands there."""
    for missing in ("venv", "ensurepip"):
        if find_spec(missing) is None:
            sys.exit(NO_VENV.format(python=sys.executable, missing=missing))
    if Path(sys.prefix).resolve() == VENV.resolve():
        sys.exit(f"{VENV} is unfinished and cannot replace itself: run this with another python3")
    say(f"making {VENV}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False)
    if made.returncode:
        sys.exit(f"could not make {VENV}; see above")


def pip(*arguments: str) -> None:
    """Install with pip, quietly; stop when it fails."""
    # a module is compiled when it is first imported: most of what is installed never is
    options = ("--quiet", "--disable-pip-version-check", "--no-input", "--no-compile")
    if run("-m", "pip", "install", *options, *arguments):
        STAMP.unlink()  # pip has tidied up after itself: go on from here next time
        sys.exit("pip could not install everything (see above); run the same command again")


def run(*arguments: str) -> int:
    """Run the Python of .venv; return its exit code, 128 + n for signal n as shells do."""
    code = subprocess.call([str(PYTHON), *arguments])
    return code if code >= 0 else 128 - code


def become(*arguments: str) -> int:
    """Go on as the Python of .venv, so that signals and exit codes are the program's own."""
    if os.name != "nt":  # exec on Windows returns to the prompt at once
        sys.stdout.flush()
        os.execv(PYTHON, [str(PYTHON), *arguments])
    return run(*arguments)


def arrange_lab(locale: str) -> None:
    """Choose defaults for the JupyterLab of .venv; what a person sets in its menus goes before."""
    settings = {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
        "@jupyterlab/translation-extension:plugin": {"locale": locale},
    }
    path = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def say(text: str) -> None:
    """Tell the person what is going on, apart from any output."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
