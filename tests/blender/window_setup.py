# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the installed add-on find PyTorch, run by gui.py as: blender --background --python window_setup.py -- [FOLDER]

FOLDER becomes the PyTorch location in the add-on's preferences. Without it, and where Blender finds no PyTorch, the
add-on installs its build for the processor, as its own button does: 0.2 GB to download.
"""

import sys
import time
from importlib.util import find_spec

import bpy

FOLDERS = sys.argv[sys.argv.index("--") + 1 :]
SLOW = 15  # billions of operations a second on a single core; PyTorch with a good BLAS makes 25 and more


def measure_pace() -> float:
    """Return how many billions of operations a second PyTorch makes in the products of matrices."""
    import torch

    rows, width = torch.ones(2048, 384), torch.ones(384, 1536)
    seconds = []
    for _ in range(5):  # the first is slower, and other programs may be in the way of some
        start = time.perf_counter()
        rows @ width
        seconds.append(time.perf_counter() - start)
    return 2 * 2048 * 384 * 1536 / min(seconds) / 1e9


try:
    if FOLDERS:
        bpy.ops.facet4d.choose_pytorch(directory=FOLDERS[0])
        bpy.ops.wm.save_userpref()
    elif not find_spec("torch"):
        print("Blender finds no PyTorch: the add-on installs it", flush=True)
        bpy.ops.facet4d.install_pytorch(build="cpu")
    bpy.ops.facet4d.examine_pytorch()
except RuntimeError as error:  # what an operator reports
    print(f"{str(error).strip()}\nSay with --pytorch FOLDER where PyTorch for this Blender is.")
    sys.exit(1)
pace = measure_pace()
print(f"PyTorch makes {pace:.0f} billion operations a second")
if pace < SLOW:
    print("This is slow, and the walk-through may take an hour. On Debian, install libopenblas0-openmp.")
if not find_spec("numba"):
    print("Numba is missing: the cloud is refined once instead of eight times. On Debian, install python3-numba.")
