"""Style as a test: what a reviewer should not have to look for.

Files of at most 800 lines, functions of at most 70, `unsafe` only where it is allowed and never without its proof, no module named after
nothing, machines that reach for no driver, and documents that name only paths which exist. `prove_rules` plants a breach of every rule
first, so that a rule that stopped working is seen.
"""

import ast
import pathlib
import re

CRATES = ("core", "broker", "shuffle", "bench", "examples")
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
UNSAFE_ALLOWED = ("core/src/io/",)
DRIVERS = ("core/src/io/", "core/src/sim/", "core/daemon/", "broker/src/main.rs", "shuffle/src/main.rs", "shuffle/build.rs", "bench/", "broker/top/", "examples/")
GENERATED = "// @generated"
BANNED_MODULES = {"common", "util", "utils", "helper", "helpers", "manager", "misc", "types"}
IMPURE = re.compile(r"\bstd::(fs|net|thread|process)\b|\bInstant::now\b|\bSystemTime\b|\bcrate::io\b|\bcrate::server\b|\btokio::")
DOCUMENTS = ("README.md", "ARCHITECTURE.md")
NAMED_PATH = re.compile(r"`((?:core|broker|bench|top|examples|ci|tuning)/[\w./-]*\w/?)`")


def blanked(source):
    """The Rust source with the contents of comments, strings and character literals replaced by blanks, line for line."""
    token = re.compile(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.)|[^\'\\\n])\'', re.DOTALL
    )
    return token.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def closing_brace(code, opening):
    depth = 0
    for index in range(opening, len(code)):
        if code[index] == "{":
            depth += 1
        elif code[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return len(code)


def body_start(code, index):
    """Where the body of a function opens whose signature goes on at `index`, or None for one without a body."""
    depth = 0
    for index in range(index, len(code)):
        if code[index] in "([":
            depth += 1
        elif code[index] in ")]":
            depth -= 1
        elif depth == 0 and code[index] in "{;":
            return index if code[index] == "{" else None
    return None


def rust_functions(code):
    """(name, first line, lines) of every function with a body."""
    for match in re.finditer(r"\bfn\s+(\w+)", code):
        opening = body_start(code, match.end())
        if opening is not None:
            first = code.count("\n", 0, match.start()) + 1
            yield match.group(1), first, code.count("\n", match.start(), closing_brace(code, opening)) + 1


def without_tests(code):
    """The code with its `#[cfg(test)] mod` bodies blanked, line for line."""
    for match in re.finditer(r"#\[cfg\((?:all\()?test[^\n]*\]\s*(?:#\[[^\n]*\]\s*)*mod\s+\w+\s*\{", code):
        end = closing_brace(code, match.end() - 1)
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def unsafe_problems(name, source, code):
    lines = source.splitlines()
    for match in re.finditer(r"\bunsafe\s*(\{|impl\b|fn\b|extern\b)", code):
        line = code.count("\n", 0, match.start()) + 1
        if not name.startswith(UNSAFE_ALLOWED):
            yield f"{name}:{line}: `unsafe` outside {', '.join(UNSAFE_ALLOWED)}"
        above = "\n".join(lines[max(0, line - 12) : line])
        if "SAFETY" not in above and "# Safety" not in above:
            yield f"{name}:{line}: `unsafe` without its SAFETY proof"


def driver_paths(root):
    """What may reach the outside: `DRIVERS`, and every module that a crate's root builds only with its `server` feature."""
    paths = list(DRIVERS)
    for crate in CRATES:
        library = root / crate / "src" / "lib.rs"
        text = library.read_text() if library.exists() else ""
        for module in re.findall(r"#\[cfg\(feature = \"server\"\)\]\s*(?:pub(?:\(crate\))? )?mod (\w+);", text):
            paths += [f"{crate}/src/{module}/", f"{crate}/src/{module}.rs"]
    return tuple(paths)


def rust_problems(name, source, drivers):
    code = blanked(source)
    for function, first, count in rust_functions(code):
        if count > FUNCTION_LINES_MAX:
            yield f"{name}:{first}: function {function} has {count} lines (at most {FUNCTION_LINES_MAX})"
    yield from unsafe_problems(name, source, code)
    if "/src/" in name and not name.endswith("/main.rs") and not source.startswith(("//!", GENERATED)):
        yield f"{name}:1: the file does not open with what it owns (`//!`)"
    if "/src/" in name and not name.startswith(drivers):
        for match in IMPURE.finditer(without_tests(code)):
            yield f"{name}:{code.count(chr(10), 0, match.start()) + 1}: a machine reaches for {match.group()}"


def python_problems(name, source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count = node.end_lineno - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: function {node.name} has {count} lines (at most {FUNCTION_LINES_MAX})"


def source_problems(name, source, drivers=DRIVERS):
    """Everything wrong with one source file, by its name within the repository."""
    path = pathlib.PurePosixPath(name)
    if source.count("\n") > FILE_LINES_MAX:
        yield f"{name}: {source.count(chr(10))} lines (at most {FILE_LINES_MAX})"
    if path.stem in BANNED_MODULES or BANNED_MODULES & set(path.parts[:-1]):
        yield f"{name}: a module must be named after what it hides"
    if path.suffix == ".rs":
        yield from rust_problems(name, source, drivers)
    elif path.suffix == ".py":
        yield from python_problems(name, source)


def document_problems(name, text, exists):
    for match in NAMED_PATH.finditer(text):
        if not exists(match.group(1)):
            yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: `{match.group(1)}` does not exist"


def check(root):
    """All problems of the repository at `root`."""
    problems, drivers = [], driver_paths(root)
    for folder in (*CRATES, "ci"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".rs", ".py", ".go", ".java") and "target" not in path.relative_to(root).parts:
                problems += source_problems(path.relative_to(root).as_posix(), path.read_text(), drivers)
    for name in DOCUMENTS:
        if (root / name).exists():
            problems += document_problems(name, (root / name).read_text(), lambda path: (root / path).exists())
    return problems


def prove_rules():
    """Each planted breach must be found, and clean code must not be."""
    body = "//! Owns nothing.\n"
    breaches = {
        "core/src/long.rs": body + "\n" * 801,
        "core/src/wide.rs": body + "fn wide(bytes: [u8; 4]) {\n" + "    call();\n" * 71 + "}\n",
        "core/src/sharp.rs": body + "fn sharp() { unsafe { call() } }\n",
        "core/src/io/unproven.rs": body + "fn sharp() { unsafe { call() } }\n",
        "core/src/util.rs": body,
        "core/src/helpers/part.rs": body,
        "core/src/bare.rs": "fn bare() {}\n",
        "core/src/reaching.rs": body + "fn reach() { std::fs::read(path); }\n",
        "ci/wide.py": "def wide():\n" + "    call()\n" * 71,
    }
    for name, source in breaches.items():
        assert list(source_problems(name, source)), f"the planted breach in {name} was not found"
    clean = body + "fn f() { let brace = '{'; let text = \"unsafe {\"; } // std::fs\n#[cfg(test)]\nmod tests {\n fn f() { std::fs::read(p); }\n}\n"
    assert not list(source_problems("core/src/clean.rs", clean)), "clean code was found wanting"
    assert list(document_problems("README.md", "see `core/absent.rs`", lambda _: False)), "a path that is not there was not found"
