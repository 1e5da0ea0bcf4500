"""What the documentation says that can be tried: commands, settings, metrics, links, paths."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
# The written pages; fixtures' notes quote the world as it was.
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("attestation/**/*.md")]
    + [*ROOT.glob("deploy/**/*.md"), *ROOT.glob("models/**/*.md")]
    + [*ROOT.glob("sdk/*/README.md"), ROOT / "tests/vectors/README.md", ROOT / "bench/flight/README.md"]
)
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
COMMANDS = [line for text in TEXTS.values() for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]
CURL = [command for command in COMMANDS if command.startswith("curl ")]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("example", CURL)
def test_curl(node, example):
    assert "http://127.0.0.1:8080" in example
    command = example.replace("http://127.0.0.1:8080", node).replace("curl ", "curl --fail ", 1)
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if '"stream": true' in example:
        assert done.stdout.count("event: image_generation.progress") == 5
        assert done.stdout.count("event: image_generation.completed") == 1
    elif '"url"' in example:
        assert "/v1/images/files/" in done.stdout


def test_there_are_examples():
    assert len(CURL) >= 10


def obscura(*words):
    command = [os.environ["OBSCURA_BIN"], *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_commands_and_their_flags_exist():
    asked = 0
    for command in COMMANDS:
        words = [word for word in command.split("#")[0].split() if not re.match(r"[A-Z_]+=", word)]
        if not words or words[0].rsplit("/")[-1] != "obscura":
            continue
        verbs = words[1:3] if words[1] in ("config", "models", "tlog") else words[1:2]
        help_text = obscura(*verbs, "--help")
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", help_text), f"{command}: {flag}"
        asked += 1
    assert asked >= 10


def test_the_first_command_names_no_package_and_needs_none():
    """`cargo run` refuses where the default members have several programs."""
    assert any(command.startswith("cargo run --release -- demo") for command in COMMANDS)
    told = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    told = json.loads(told.stdout)
    default = [package for package in told["packages"] if package["id"] in told["workspace_default_members"]]
    kinds = [(target["name"], kind) for package in default for target in package["targets"] for kind in target["kind"]]
    assert [name for name, kind in kinds if kind == "bin"] == ["obscura"]


def test_configuration_lists_every_setting_with_its_default():
    block = re.search(r"```toml\n(.*?)```", TEXTS[ROOT / "docs/configuration.md"], re.DOTALL)
    documented = tomllib.loads(block[1])
    printed = obscura("config", "print")
    unset = {key: "" for key in re.findall(r"^# (\w+): not set$", printed, re.MULTILINE)}
    hidden = {key: [] for key in re.findall(r"^# (\w+): 0 hidden", printed, re.MULTILINE)}
    assert documented == tomllib.loads(printed) | unset | hidden


def test_operating_lists_every_metric(node):
    request = {"model": "obscura/demo", "prompt": "a red fox", "size": "64x64", "steps": 1}
    httpx.post(f"{node}/v1/images/generations", json=request, timeout=120).raise_for_status()
    told = httpx.get(f"{node}/metrics").text
    counters = re.findall(r"^# TYPE (\w+) counter$", told, re.MULTILINE)
    others = re.findall(r"^# TYPE (\w+) (?:gauge|histogram)$", told, re.MULTILINE)
    assert counters and others
    documented = set(re.findall(r"`(obscura_\w+)`", TEXTS[ROOT / "docs/operating.md"]))
    assert {f"{name}_total" for name in counters} | set(others) <= documented


def test_commands_of_cargo_name_what_is_there():
    asked = 0
    for command in COMMANDS:
        words = command.split("#")[0].split()
        if "cargo" not in words or "-p" not in words:
            continue
        package = words[words.index("-p") + 1]
        folder = ROOT / ("tests" if package == "tests" else f"crates/{package.removeprefix('obscura-')}")
        assert f'name = "{package}"' in (folder / "Cargo.toml").read_text(), command
        for kind, below in [("--example", "examples"), ("--bench", "benches")]:
            if kind in words:
                assert (folder / below / f"{words[words.index(kind) + 1]}.rs").is_file(), command
        asked += 1
    assert asked >= 10


# Every file of the repository, by its path from the root.
LIST = ["git", "ls-files"] if shutil.which("git") else ["true"]
FILES = subprocess.run(LIST, cwd=ROOT, capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(not FILES, reason="needs the repository of git")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page):
    folders = {file.split("/")[0] for file in FILES if "/" in file}
    commands = re.findall(r"^\$ (.*)$", TEXTS[page], re.MULTILINE)
    for text in [*re.findall(r"`([^`\n]+)`", TEXTS[page]), *commands]:
        for word in text.split("#")[0].split():
            word = word.rstrip("/,;:")
            # What has a placeholder or a pattern names no file, and a release's own is not there yet.
            if word.split("/")[0] not in folders or "/" not in word or re.search(r"[A-Z]{3}|[*…<{]|/0\.1\.0", word):
                continue
            assert any(f"{file}/".startswith(f"{word}/") for file in FILES), f"{text}: there is no {word}"


def example(*words, cwd):
    program = Path(os.environ["OBSCURA_BIN"]).parent / "examples" / words[0]
    return subprocess.run([program, *words[1:]], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_examples_in_rust(node, tmp_path):
    assert example("verify", node, cwd=tmp_path).returncode == 10, "production refuses a simulated node"
    assert example("verify", node, "--simulated", cwd=tmp_path).returncode == 0
    for words, images in [(("seal", node), ["sealed.png"]), (("pipeline",), ["pipeline-0.png", "pipeline-1.png"])]:
        done = example(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        for image in images:
            assert (tmp_path / image).read_bytes().startswith(b"\x89PNG")


def headings(page):
    """The anchors of a page, as hosts of repositories make them."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            assert anchor in headings(target), f"{target.name} has no #{anchor}"
