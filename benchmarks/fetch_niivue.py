"""Fetch the viewer's NiiVue again: npm's package, checked against a hash, and the licences of what is built into it.

Needs npm. With another --version give --sha512 too, as `npm view @niivue/niivue@VERSION dist.integrity` prints it, and
run the viewer's tests. NiiVue's own licence is not in its package: LICENSE of github.com/niivue/niivue is committed.

    python benchmarks/fetch_niivue.py
"""

import argparse
import base64
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

STATIC = Path(__file__).resolve().parents[1] / "unetr_nnunet" / "viewer" / "static"
VERSION = "0.69.0"
SHA512 = "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
BUILD = "dist/niivue.umd.js"


def npm(folder: Path, *words: str) -> None:
    """Run npm in a folder; no script of a package is run."""
    subprocess.run(["npm", *words, "--ignore-scripts", "--silent"], cwd=folder, check=True)


def licences(modules: Path) -> list[str]:
    """Return name, version line and licence text of every package that npm installed beside NiiVue."""
    texts = []
    for manifest in sorted(modules.glob("**/package.json")):
        folder = manifest.parent
        if folder.parent.name != "node_modules" and not folder.parent.name.startswith("@"):
            continue  # a part of a package
        name = folder.relative_to(modules).as_posix()
        found = sorted(folder.glob("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*"))
        text = found[0].read_text(encoding="utf-8").strip() if found else "(no licence file in the package)"
        if name != "@niivue/niivue":
            texts.append(f"## {name}\n\n{manifest_line(manifest)}\n\n{text}\n")
    return texts


def manifest_line(manifest: Path) -> str:
    """Return a package's version and the licence that it declares."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    return f"Version {content.get('version')}, licence {content.get('license')}"


def main() -> None:
    """Fetch, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--sha512", default=SHA512, help="as npm writes it, sha512-...")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = f"@niivue/niivue@{arguments.version}"
        npm(folder, "pack", package)
        archive = next(folder.glob("*.tgz"))
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != arguments.sha512:
            raise SystemExit(f"{package} has {found}, not {arguments.sha512}: do not use it")
        npm(folder, "install", "--omit=dev", "--omit=optional", "--no-save", str(archive))
        modules = folder / "node_modules"
        build = (modules / "@niivue" / "niivue" / BUILD).read_bytes()
        (STATIC / "niivue.umd.js").write_bytes(build)
        lines = [
            "# NiiVue",
            "",
            f"`niivue.umd.js` is {BUILD} of the npm package @niivue/niivue {arguments.version} (BSD-2-Clause, text in",
            "`NIIVUE_LICENSE.txt`), unchanged. `benchmarks/fetch_niivue.py` fetches and checks it again.",
            "",
            f"- package: {arguments.sha512}",
            f"- niivue.umd.js: sha256 {hashlib.sha256(build).hexdigest()}",
            "",
            "The packages below are built into it, some in part.",
            "",
        ]
        (STATIC / "NIIVUE.md").write_text("\n".join([*lines, *licences(modules)]), encoding="utf-8")


if __name__ == "__main__":
    main()
