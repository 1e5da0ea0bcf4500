"""What scripts/release.sh packs, tried with the program at hand instead of a static one."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts/release.sh"


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


@pytest.mark.skipif(not shutil.which("dpkg-deb") or not (ROOT / ".git").exists(), reason="needs dpkg-deb and git")
def test_release(tmp_path):
    out = tmp_path / "dist"
    assert "NOT A RELEASE" in run(SCRIPT, "--program", os.environ["OBSCURA_BIN"], out)
    [package], [tarball] = out.glob("*.deb"), out.glob("*.tar.gz")
    digests = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert digests.keys() == {package.name, tarball.name, "obscura.html", "obscura.cdx.json"}
    assert (out / "obscura.html").read_bytes() == (ROOT / "sdk/page/obscura.html").read_bytes()
    assert hashlib.sha256(package.read_bytes()).hexdigest() == digests[package.name]

    with tarfile.open(tarball) as files:
        files.extractall(tmp_path / "tar", filter="data")
    [program] = (tmp_path / "tar").glob("*/obscura")
    version = run(program, "--version").split()[1]
    assert tarball.name == f"obscura-{version}-x86_64-linux.tar.gz"

    root = tmp_path / "root"
    run("dpkg-deb", "--extract", package, root)
    assert run("dpkg-deb", "--field", package, "Version").strip() == version
    assert run(root / "usr/bin/obscura", "--version").split()[1] == version
    completions = [path for path in (root / "usr/share").rglob("*obscura*") if path.is_file() and "doc" not in path.parts]
    assert len(completions) == 3 and all(b"obscura" in path.read_bytes() for path in completions)
    assert len([path for path in root.rglob("*") if path.name in ("obscura", "obscura.fish", "_obscura") and path.is_file()]) == 4
    units = [*(root / "usr/lib/systemd/system").iterdir()]
    assert {unit.suffix for unit in units} == {".service", ".timer"}
    for unit in units:
        text = unit.read_text()
        assert "Persistent=" not in text or "OnCalendar=" in text, "systemd.timer(5): it has no effect on other timers"
        named = re.findall(r"(?:ExecStart=|Documentation=file:)(/\S+)", text)
        assert all((root / path[1:]).exists() for path in named), f"{unit.name} names what is not there"
    if shutil.which("systemd-analyze"):
        names = [unit.name for unit in units]
        verify = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "--recursive-errors=no"]
        said = subprocess.run([*verify, *names], capture_output=True, text=True)
        assert (said.returncode, said.stderr) == (0, "")
    # Each start of the proxy keeps the evidence that was refused.
    assert "RestartSec=10min\n" in (root / "usr/lib/systemd/system/obscura-proxy.service").read_text()
    doc = root / "usr/share/doc/obscura"
    for page in [*doc.glob("*.md"), *(doc / "docs").glob("*.md")]:
        for path in re.findall(r"\]\(([^)#:\s]+)[^):]*\)", page.read_text()):
            led = (page.parent / path).resolve()
            # Sources and measurements are in the repository alone.
            is_source = led.relative_to(doc.resolve()).parts[0] in ("bench", "crates", "fuzz", "tests")
            assert is_source or led.exists(), f"{page.name} links to {path}"
    run("dpkg-deb", "--control", package, tmp_path / "control")
    assert "systemctl disable --now obscura.service" in (tmp_path / "control/prerm").read_text()
    listed = run("dpkg-deb", "--contents", package)
    assert all("root/root" in line for line in listed.splitlines()), "nobody's user owns a file"


def test_what_is_there_is_not_replaced(tmp_path):
    done = subprocess.run([SCRIPT, "--program", "/bin/true", tmp_path], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "is there already" in done.stderr
