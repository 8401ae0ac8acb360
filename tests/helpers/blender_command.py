# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Blender's command line where there is bpy alone: it takes the arguments that the farm's tasks give."""

import runpy
import sys

import bpy


def main(arguments: list[str]) -> None:
    """Open a file, run a script or render frames, each argument in its turn, as Blender does."""
    scene = None
    while arguments:
        match arguments.pop(0):
            case "--background" | "--factory-startup":
                pass
            case "--python-exit-code":
                arguments.pop(0)
            case "--python":
                script, sys.argv[1:] = arguments.pop(0), arguments
                runpy.run_path(script, run_name="__main__")
                return
            case "--engine":
                scene.render.engine = arguments.pop(0)
                scene.cycles.samples = 1
                scene.render.resolution_percentage = 5
            case "--render-output":
                scene.render.filepath = arguments.pop(0)
            case "--frame-start":
                scene.frame_start = int(arguments.pop(0))
            case "--frame-end":
                scene.frame_end = int(arguments.pop(0))
            case "--render-anim":
                bpy.ops.render.render(animation=True)
            case blend:
                bpy.ops.wm.open_mainfile(filepath=blend)
                scene = bpy.context.scene


if __name__ == "__main__":
    main(sys.argv[1:])
