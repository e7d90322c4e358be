"""Write k8s/base/SERVICE/settings.env: every setting of each process, with what is set kept as it is.

With `--check` nothing is written: it fails if a file is not what the code and the values in it give.
`make docs-settings` writes them.
"""

import sys

from k8s import settings_env

FOLDER = settings_env.ROOT / "k8s" / "base"


def main() -> int:
    """Write the files, or check them; return the exit status."""
    checking = sys.argv[1:] == ["--check"]
    wrong = 0
    for service in settings_env.SERVICES:
        path = FOLDER / service / "settings.env"
        name = path.relative_to(settings_env.ROOT)
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        problems = list(settings_env.problems_of(service, text))
        for problem in problems:
            print(f"{name}: {problem}")
        wrong += len(problems)
        if problems:
            continue
        right = settings_env.write(service, settings_env.read(text))
        if checking and text != right:
            print(f"{name} is not what the code gives. Run `make docs-settings` and commit it.")
            wrong += 1
        elif text != right:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(right, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
