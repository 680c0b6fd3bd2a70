"""Run by the continuous integration with the Python of a clean environment that has nothing but the built wheel."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import kvcalc
from kvcalc.io.presets import preset_names

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = Path(sys.executable).with_name("kvcalc")


def main() -> None:
    package = Path(kvcalc.__file__).parent
    assert CHECKOUT not in package.parents, f"{package} is the checkout, not the wheel"
    assert (package / "py.typed").is_file(), "the wheel has no py.typed"
    shipped = {path.stem for path in (CHECKOUT / "presets").glob("*.yaml")} - {"gpus"}
    assert set(preset_names()) == shipped, "the wheel's presets are not those of the checkout"
    assert find_spec("torch") is None, "sizing pulled torch in"
    assert kvcalc.size(kvcalc.load("r1"), tokens=100_000).total_bytes == 7_027_200_000
    for command in ([SCRIPT], [sys.executable, "-m", "kvcalc"]):
        done = subprocess.run(
            [*command, "size", "--preset", "r1", "--tokens", "100000"], capture_output=True, text=True, check=True
        )
        assert "7,027,200,000 bytes" in done.stdout, done.stdout
    own = f"{SCRIPT} vectors answer"
    assert (
        subprocess.run([SCRIPT, "vectors", "run", own, "-e", "ollama"], capture_output=True, check=False).returncode
        == 0
    )
    plan = CHECKOUT / "examples" / "plans" / "prod.yaml"
    assert subprocess.run([SCRIPT, "check", plan], capture_output=True, check=False).returncode == 0
    assert subprocess.run([SCRIPT, "schema", "plan"], capture_output=True, check=False).returncode == 0
    verify = [SCRIPT, "verify", "--preset", "r1", "--tokens", "10"]
    without_torch = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert without_torch.returncode == 2  # bad input, as everywhere
    assert without_torch.stderr.endswith("pip install 'kvcalc[verify] @ git+https://github.com/kvcalc/kvcalc'\n"), (
        without_torch.stderr
    )
    print(f"the wheel works: {len(shipped)} presets, version {kvcalc.__version__}")


if __name__ == "__main__":
    main()
