"""The public names, and that importing them costs nothing before they are used."""

from __future__ import annotations

import subprocess
import sys

import stt


def test_all_is_the_public_interface() -> None:
    assert len(stt.__all__) <= 10
    assert all(getattr(stt, name) is not None for name in stt.__all__)
    assert stt.__version__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(stt, "transcribed")


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'numpy', 'onnxruntime', 'onnx', 'av', 'soundfile', 'sounddevice', 'pydantic'}"
    code = f"import sys, stt; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
