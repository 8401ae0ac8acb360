# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes cameras as RealityScan exports them, in XMP files and in a CSV file."""

from collections.abc import Sequence

import numpy as np

from backend.camera import Camera

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
  <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description xcr:Version="3" xcr:PosePrior="locked" xcr:Coordinates="absolute"
       xcr:DistortionModel="{model}" xcr:FocalLength35mm="{focal!r}"
       xcr:Skew="0" xcr:AspectRatio="1" xcr:PrincipalPointU="{u!r}"
       xcr:PrincipalPointV="{v!r}" xcr:CalibrationPrior="exact"
       xcr:CalibrationGroup="-1" xcr:DistortionGroup="-1" xcr:InTexturing="1"
       xcr:InMeshing="1" xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">
      <xcr:Rotation>{rotation}</xcr:Rotation>
      <xcr:Position>{position}</xcr:Position>
      <xcr:DistortionCoeficients>{coefficients}</xcr:DistortionCoeficients>
    </rdf:Description>
  </rdf:RDF>
</x:xmpmeta>
"""


def _text(array: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(array))


def _lens(camera: Camera) -> tuple[float, float, float]:
    """Return the focal length of 36 mm wide film, and the principal point from the middle as parts of the width."""
    aside = camera.cx - 0.5 * camera.width, camera.cy - 0.5 * camera.height
    return 36 * camera.fx / camera.width, aside[0] / camera.width, aside[1] / camera.width


def xmp_text(camera: Camera, model: str = "perspective", coefficients: str = "0 0 0 0 0 0") -> str:
    """Return the XMP file of a camera of wide pictures."""
    focal, u, v = _lens(camera)
    turn, place = _text(camera.camera_to_world[:3, :3].T), _text(camera.position)
    return XMP.format(model=model, coefficients=coefficients, focal=focal, u=u, v=v, rotation=turn, position=place)


def csv_line(name: str, camera: Camera, terms: Sequence[float]) -> str:
    """Return the line of a camera of wide pictures; terms: k1 k2 k3 k4 t1 t2.

    The sensor's axes (right, up, back) are turned by the roll about its y, then by the pitch about x, then clockwise by
    the heading: the product's entries give the angles.
    """
    right, up, back = (camera.camera_to_world[:3, :3] * [1, -1, -1]).T
    angles = np.degrees([np.arctan2(up[0], up[1]), np.arcsin(up[2]), np.arctan2(-right[2], back[2])])
    values = (*camera.position, *angles, *_lens(camera), *terms)
    return f"{name},{','.join(repr(float(value)) for value in values)}"
