# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option is a property, stands in its panel, is remembered by a cloud and reaches the job."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backend.import_options import ImportOptions
from backend.options import Folder, Index, Number, PortraitOptions, ReconstructOptions, list_options

bpy = pytest.importorskip("bpy")

import blender_addon
from blender_addon.layouts import draw_options
from blender_addon.option_properties import read_options, recall_settings, remember_options
from blender_addon.panels.portrait import FACET4D_PT_portrait
from blender_addon.panels.run import FACET4D_PT_reconstruct
from tests.helpers.layout import Layout, draw, wide_context

pytestmark = pytest.mark.blender
ROOT = Path(blender_addon.__file__).parents[1]
BOTH = pytest.mark.parametrize("options", [ReconstructOptions, PortraitOptions])


def settings_of(options: type):
    scene = bpy.context.scene.facet4d
    return scene if options is ReconstructOptions else scene.portrait


@BOTH
def test_every_option_is_a_property_with_its_label_and_default(registered, options):
    settings = settings_of(options)
    properties = settings.bl_rna.properties
    for entry in list_options(options):
        assert properties[entry.blender_name].name == entry.label
        assert properties[entry.blender_name].description.startswith(entry.help)
    assert rounded(read_options(options, settings)) == rounded(options())


def rounded(options) -> dict:
    """Return the values, to the seven digits that Blender's numbers have."""
    return {name: round(value, 7) if isinstance(value, float) else value for name, value in vars(options).items()}


@BOTH
def test_every_option_stands_in_the_panel(registered, options):
    portrait = settings_of(PortraitOptions)
    portrait.use_box, portrait.model = True, "facelift"
    shown = draw(FACET4D_PT_reconstruct if options is ReconstructOptions else FACET4D_PT_portrait).splitlines()
    for entry in list_options(options):
        assert entry.label in shown


SPECIAL = {  # values that do not tell what they do, by property
    ReconstructOptions: {"window": "0 reads 24 moments", "plates": "Empty: no plates"},
    PortraitOptions: {
        "face": "0 takes the largest",
        "field_of_view": "0 takes the photo's own, or 35 where it does not say",
        "last": "0 goes on to its end",
        "steps": "0 takes what serves the model: 4, for FaceLift 50",
        "tolerance": "0 keeps every frame's",
        "guidance": "1 does not guide, and takes half the time",
        "weights": "Empty: where Facet4D downloads them to",
    },
    ImportOptions: {
        "pictures": "Empty: the folder 'images' or 'videos' beside the calibration, or the calibration's own",
        "fps": "0 says that they count no frames",
        "times": "Empty: the times that the calibration, the names or the movies tell",
        "start": "0 reads from the beginning",
        "end": "0 reads on to the end",
        "longest_side": "0 keeps their size",
    },
}


@pytest.mark.parametrize("options", SPECIAL)
def test_a_value_that_means_automatic_says_so_beneath_and_no_other_does(registered, options):
    settings = bpy.context.window_manager.operator_properties_last("facet4d.import_capture")
    if options is not ImportOptions:
        settings = settings_of(options)
    known = {entry.blender_name: entry.kind for entry in list_options(options)}
    kinds = {name: known[name] for name in SPECIAL[options]}
    for is_special in (True, False):
        for name, kind in kinds.items():
            assert isinstance(kind, Number | Index | Folder)
            least = kind.minimum if isinstance(kind, Number) else 0
            number = type(getattr(settings, name))(least if is_special else least + 2)
            setattr(settings, name, ("" if is_special else "//plates") if isinstance(kind, Folder) else number)
        layout = Layout()
        draw_options(wide_context(), layout, settings, options)
        shown = set(layout.texts) & set(SPECIAL[options].values())
        assert shown == (set(SPECIAL[options].values()) if is_special else set())


def test_what_a_special_value_does_is_told_in_one_place():
    """The panel shows it beneath the value, and tooltips and --help end in it; so no help tells it by itself."""
    for options in SPECIAL:
        for entry in list_options(options):
            assert not re.search(r"; (0|1|empty)\b", entry.help), entry.name


def test_the_panel_asks_for_a_file_only_where_one_is_meant(registered):
    assert "Weights File" not in draw(FACET4D_PT_reconstruct).splitlines()
    registered.facet4d.model = "FILE"
    assert "Weights File" in draw(FACET4D_PT_reconstruct).splitlines()


@BOTH
def test_paths_may_begin_at_the_blend_file_and_say_so(registered, options, tmp_path):
    settings = settings_of(options)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    paths = [entry for entry in settings.bl_rna.properties if entry.subtype in ("FILE_PATH", "DIR_PATH")]
    assert paths and all(entry.is_path_supports_blend_relative for entry in paths)
    settings.weights = "//mine.safetensors"
    if options is ReconstructOptions:
        settings.model = "FILE"
        assert read_options(options, settings).model == str(tmp_path / "mine.safetensors")
    else:
        assert read_options(options, settings).weights == tmp_path / "mine.safetensors"


@BOTH
def test_what_a_cloud_remembers_brings_the_options_back(registered, options, tmp_path):
    settings = settings_of(options)
    changes = {"model": "FILE", "weights": str(tmp_path), "resolution": "256", "refinements": "2", "device": "cpu"}
    changes |= {"matting": "off", "plates": str(tmp_path)}
    changes |= {"complete": "5", "steps": 3, "seed": 4, "window": 0.5, "fitting": "12", "align": "off"}
    if options is PortraitOptions:
        changes = {"weights": str(tmp_path), "matting": "none", "face": 2, "use_box": True, "box": (1, 2, 3, 4)}
        changes |= {"model": "FILE", "weights_file": str(tmp_path), "field_of_view": 50.0, "complete": "3"}
        changes |= {"first": 3, "last": 8, "every": 2, "frames": "FUSE", "tolerance": 0.5, "seed": 9, "steps": 7}
        changes |= {"guidance": 2.0, "device": "cpu", "offload": True}
    empty = remember_options(options, settings)
    assert empty.keys() == changes.keys()  # nothing is forgotten here, either
    for name, value in changes.items():
        setattr(settings, name, value)
    changed, remembered = read_options(options, settings), remember_options(options, settings)
    assert all(getattr(changed, entry.name) != entry.default for entry in list_options(options))
    recall_settings(settings, empty)
    assert rounded(read_options(options, settings)) == rounded(options())
    bpy.context.scene["kept"] = remembered  # as a cloud keeps it
    recall_settings(settings, bpy.context.scene["kept"])
    assert read_options(options, settings) == changed
    recall_settings(settings, {"device": "auto"})  # as of an older version, which knew one option
    assert read_options(options, settings) == replace(changed, device="auto")


def test_blender_counts_from_one_and_the_backend_from_zero(registered):
    settings = registered.facet4d.portrait
    settings.face, settings.first, settings.last = 1, 1, 5
    read = read_options(PortraitOptions, settings)
    assert (read.face, read.first, read.last) == (0, 0, 4)
    settings.face = settings.last = 0
    read = read_options(PortraitOptions, settings)
    assert (read.face, read.last) == (None, None)


RECIPE = re.search(r"^    edge_width: .*\n", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
SEEN = """
import bpy, blender_addon
from backend.options import ReconstructOptions
from blender_addon.option_properties import read_options, remember_options
from blender_addon.panels.run import FACET4D_PT_reconstruct
from tests.helpers.layout import draw

blender_addon.register()
settings = bpy.context.scene.facet4d
assert settings.edge_width == 1.5 and settings.bl_rna.properties["edge_width"].hard_max == 4
assert "Edge Width" in draw(FACET4D_PT_reconstruct).splitlines()
settings.edge_width = 2
assert remember_options(ReconstructOptions, settings)["edge_width"] == 2
assert read_options(ReconstructOptions, settings).edge_width == 2
blender_addon.unregister()  # or Blender 4.5 hangs at exit
"""


@pytest.mark.slow
def test_a_line_in_one_file_is_an_option_everywhere(tmp_path):
    """In a copy of the product whose backend/options.py has one line more, the one that CONTRIBUTING.md gives."""
    for package in ("backend", "blender_addon"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "training", "demo_capture")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copytree(ROOT / "tests" / "helpers", tmp_path / "tests" / "helpers")
    options = tmp_path / "backend" / "options.py"
    source = options.read_text(encoding="utf-8")
    line = "    refinements: int | None = option("
    assert source.count(line) == 1
    options.write_text(source.replace(line, RECIPE[0] + line), encoding="utf-8")

    python = [sys.executable, "-P"]  # without this checkout
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = {"cwd": tmp_path, "env": environment, "check": True, "timeout": 120, "text": True}
    shown = subprocess.run([*python, "-m", "backend", "reconstruct", "--help"], stdout=subprocess.PIPE, **run).stdout
    assert "--edge-width" in shown and "how wide the edges are, in pixels (1.5)" in shown
    subprocess.run([*python, "-c", SEEN], **run)
