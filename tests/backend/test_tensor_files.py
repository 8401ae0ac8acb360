# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of tensors: the library reads what was written, and writing makes no copies."""

import tracemalloc

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from backend.tensor_files import write_tensors


def test_the_library_reads_what_was_written(tmp_path):
    tensors = {"mean": torch.randn(5, 4), "none": torch.zeros(0, 3), "opacity": torch.rand(5)}
    write_tensors(tmp_path / "file", tensors, {"clip": "[0.0, 1.5]", "name": 'a "quoted" Gaußian'})
    read = load_file(tmp_path / "file")
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata() == {"clip": "[0.0, 1.5]", "name": 'a "quoted" Gaußian'}


def test_tensors_are_written_without_copies(tmp_path):
    tensors = {"a": torch.zeros(1 << 20), "b": torch.zeros(1 << 20)}  # 4 MiB each
    tracemalloc.start()
    write_tensors(tmp_path / "file", tensors, {})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
