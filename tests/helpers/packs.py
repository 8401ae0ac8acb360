# SPDX-License-Identifier: GPL-3.0-or-later
"""Small stand-ins for the asset packs of training, seeded, of the sizes of people: two heads, their hair, a recording.

A head is a surface of revolution with flattened sides, from the crown to the shoulders, with eyeballs and patches for
the mouth. Lengths are centimetres about the middle between the eyes: +x the subject's left, +y up, +z forward.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from backend.training.scenes import heads

ROWS, COLUMNS = 60, 64
EYES = ((3.1, 0.0, 0.0), (-3.1, 0.0, 0.0))  # left, right
ICT_ORIGIN = (0.0, 3.6, 7.86)  # of the middle between the eyes, in that pack's own axes
ICT_BODY = heads._ICT_BODY  # the pack's vertices that are neither eyes nor lashes, by its format
SIDED = ("browDown", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "mouthSmile")
MIDDLE = ("jawOpen", "mouthFunnel", "mouthPucker", "browInnerUp")


def write_packs(folder: Path) -> Path:
    """Write the packs that people are drawn from into the folder."""
    body, faces = _bust()
    np.savez(folder / "ict_facekit_int8.npz", **_ict(body, faces))
    np.savez(folder / "anny_head.npz", **_anny(body, faces))
    np.savez(folder / "mh_hair.npz", **_hair(body, faces))
    np.savez(folder / "llf_performances.npz", **_performances())
    return folder


def _grid(rows: int, columns: int) -> np.ndarray:
    """Triangles [F, 3] of a grid whose columns close to a ring, counter-clockwise from outside."""
    row, column = np.mgrid[: rows - 1, :columns]
    right = (column + 1) % columns
    a, b, c, d = (
        row * columns + column,
        row * columns + right,
        (row + 1) * columns + right,
        (row + 1) * columns + column,
    )
    return np.stack([np.stack([a, d, c], -1), np.stack([a, c, b], -1)]).reshape(-1, 3).astype(np.int32)


def write_bust_packs(folder: Path) -> Path:
    """Write the packs of a bust, its tops, and further hair and beards into the folder."""
    body, faces = _bust(floor=-60)
    bust = _anny(body, faces)
    poses = ["shouldersUp", "armOutLeft", "armOutRight"]
    side = {"armOutLeft": 1, "armOutRight": -1}
    low = (-20 - bust["mean"][:, 1:2]).clip(0, 10) / 10
    moved = [low * (bust["mean"][:, :1] * side[pose] > 0 if pose in side else 1) * [0, 1, 0] for pose in poses]
    age = np.linspace(0.3, 1, len(bust["pheno_samples"]))
    bust |= {"pose": np.stack(moved).astype(np.float16), "pose_names": np.array(poses)}
    bust |= {"pheno_labels": np.array(["gender", "age"]), "pheno_params": np.stack([age, age], -1).astype(np.float16)}
    x, y, z = bust["mean"].T
    uv = np.stack([np.arctan2(x, z + 7.5) / 7 + 0.5, (y + 60) / 75], -1)  # the head has the upper third
    bust |= {"uv": uv.astype(np.float32), "fuv": bust["tri"]}
    np.savez(folder / "anny_bust.npz", **bust)
    skins = ["young_asian_female", "young_asian_male"]
    pictures = {f"{skin}/{part}": _picture(number) for number, skin in enumerate(skins) for part in ("head", "body")}
    rects = {"head_rect": np.float32([0, 0.6, 1, 1]), "body_rect": np.float32([0, 0, 1, 0.7])}
    np.savez(folder / "mh_skins.npz", names=np.array(skins), **pictures, **rects)
    for file, tops in (("mh_clothes", ["shirt", "male_casualsuit03"]), ("mh_shell_tops", ["sweater", "mock_neck"])):
        hidden = np.pad(body[:, 1] < -18, (0, len(bust["mean"]) - len(body)))
        pack = {"names": np.array(tops)}
        for top in tops:
            pack |= _shell(top, body, faces, body[:, 1] < -16, 1.05) | {f"{top}/delete": hidden}
            if file == "mh_clothes":
                pack[f"{top}/diffuse"] = _picture(len(top))
        np.savez(folder / f"{file}.npz", **pack)
    kept = _regions(body)
    for file, styles, region in (("mh_hair2", heads.MORE_HAIR, "scalp"), ("mh_beards", heads.BEARDS, "beard")):
        packs = [_shell(style, body, faces, kept[region] > 0, 1.04) for style in styles]
        np.savez(folder / f"{file}.npz", **{key: value for pack in packs for key, value in pack.items()})
    return folder


def _picture(seed: int) -> np.ndarray:
    """The bytes of a small PNG of brown patches."""
    patches = np.random.default_rng(seed).uniform(0.3, 1, (8, 6, 1)) * (200, 150, 120)
    buffer = io.BytesIO()
    Image.fromarray(patches.astype(np.uint8)).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _bust(floor: float = -30.0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [N, 3] from the crown, 11 cm above the eyes, to the floor below them, and triangles."""
    y = np.concatenate([0.4 + 10.6 * np.cos(np.linspace(0, 2.6, ROWS - 14)), np.linspace(-10, floor, 14)])
    skull = np.sqrt(np.clip(1 - ((y - 0.4) / 10.6) ** 2, 1e-6, 1))
    neck = (y < -6) * np.minimum(5.5, 1.5 * (-6 - y).clip(0)) + 1.6 * (-14 - y).clip(0, 16)
    angle = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    across = np.maximum(7.8 * skull, neck)[:, None] * np.sin(angle)
    deep = np.maximum(9.8 * skull, np.minimum(neck, 7))[:, None] * np.cos(angle) - 7.5
    return np.stack(np.broadcast_arrays(across, y[:, None], deep), -1).reshape(-1, 3), _grid(ROWS, COLUMNS)


def _eyeball(centre: tuple[float, float, float], radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, and each vertex's degrees off the direction of the gaze."""
    degrees = np.concatenate([np.arange(0.5, 30, 2), np.arange(30, 180, 15), [179.5]])
    tilt, around = np.meshgrid(np.radians(degrees), np.arange(12) * (np.pi / 6), indexing="ij")
    ball = np.stack([np.sin(tilt) * np.sin(around), np.sin(tilt) * np.cos(around), np.cos(tilt)], -1)
    return np.array(centre) + radius * ball.reshape(-1, 3), _grid(len(degrees), 12), np.repeat(degrees, 12)


def _patch(centre: tuple[float, float, float], size: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid([-size, 0, size], [-size, 0, size])
    corners = np.array([[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4], [3, 4, 7], [3, 7, 6], [4, 5, 8], [4, 8, 7]])
    return np.stack([x, y, 0 * x], -1).reshape(-1, 3) + centre, corners.astype(np.int32)


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices and triangles of all parts in one, and the number of each triangle's part."""
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in parts[:-1]])
    faces = [faces + offset for (_, faces), offset in zip(parts, offsets, strict=True)]
    part = np.repeat(np.arange(len(parts)), [len(f) for f in faces])
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces).astype(np.int32), part


def _near(vertices: np.ndarray, centre: tuple[float, float, float], reach: float) -> np.ndarray:
    """1 at the centre, falling smoothly to nothing [N]."""
    return np.exp(-0.5 * (((vertices - centre) / reach) ** 2).sum(-1))


def _shapes(vertices: np.ndarray, count: int, size: float) -> np.ndarray:
    """Smooth random displacements [count, N, 3] of about `size`."""
    random = np.random.default_rng(0)
    waves = np.sin(np.einsum("kij,nj->kni", random.normal(0, 0.15, (count, 3, 3)), vertices))
    return size * waves * random.uniform(0.3, 1, (count, 1, 1))


def _expressions(vertices: np.ndarray, names: list[str]) -> np.ndarray:
    """A bump [E, N, 3] for each: on its side of the face, at brows, eyes or mouth."""
    shapes = []
    for name in names:
        side = 1 if name.endswith(("Left", "_L")) else -1 if name.endswith(("Right", "_R")) else 0
        height = {"brow": 2.5, "eye": 0.8, "chee": -3.0}.get(name[:4], {"eye": 0.8}.get(name[:3], -6.0))
        moved = -0.6 if name.startswith(("jaw", "eyeBlink")) else 0.4
        shapes.append(_near(vertices, (3.0 * side, height, 1.5), 1.5)[:, None] * [0.0, moved, 0.1])
    return np.stack(shapes)


def _regions(vertices: np.ndarray) -> dict[str, np.ndarray]:
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    front = z > -4
    return {
        "lips": _near(vertices, (0, -6.2, 1), 1.2),
        "brow": (front & (y > 1.5) & (y < 3) & (x > 1) & (x < 5)).astype(float),
        "eyelid": np.maximum(*(_near(vertices, centre, 1.5) for centre in EYES)),
        "cheek": _near(np.stack([x, y, z], -1), (4.0, -3.5, 0.0), 2.0),
        "nose": _near(vertices, (0, -2, 2), 1.2),
        "beard": (front & (y < -4.5) & (y > -11)).astype(float),
        "scalp": ((y > 4) | ((z < -9) & (y > -8))).astype(float),
        "ear": ((x > 6.5) & (y > -4) & (y < 1.5) & (z > -11) & (z < -6)).astype(float),
    }


def _ict(body: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    names = [name + side for name in SIDED for side in ("_L", "_R")] + list(MIDDLE)
    kinds = ["face", "mouth_socket", "gums_tongue", "teeth", "eye_socket_L", "eye_socket_R"]
    inside = [_patch((0, -6, z), 1.0) for z in (-3.0, -2.0, -1.0)] + [_patch((x, 0, -2), 0.8) for x in (3.1, -3.1)]
    vertices, triangles, _ = _join([(body, faces), *inside])
    kind = np.repeat(np.arange(len(kinds)), [len(body)] + [9] * 5)
    missing = ICT_BODY - len(vertices)  # the format's vertices before the eyes; no face has these
    vertices = np.concatenate([vertices, np.repeat(vertices[:1], missing, 0)])
    eyes = [_eyeball(centre, 1.5185) for centre in EYES]
    starts = [len(vertices), len(vertices) + len(eyes[0][0])]
    sub = {f"sclera_{side}": [start, start + len(eyes[0][0]) - 1] for side, start in zip("LR", starts, strict=True)}
    vertices, triangles, _ = _join([(vertices, triangles), *((ball, tris) for ball, tris, _ in eyes)])
    centres = {side: {"centre": list(np.add(c, ICT_ORIGIN))} for side, c in zip("LR", EYES, strict=True)}
    identity, expression = _shapes(vertices, 100, 0.05), _expressions(vertices, names)
    expression[:, ICT_BODY:] = 0
    packed = {"neutral": (vertices + ICT_ORIGIN).astype(np.float32), "tri": triangles}
    for key, shapes in (("id", identity), ("ex", expression)):
        scale = np.abs(shapes).max((1, 2)) / 127
        packed[f"{key}_q"] = np.round(shapes / scale[:, None, None]).astype(np.int8).transpose(0, 2, 1)
        packed[f"{key}_scale"] = scale.astype(np.float32)
    angles = np.full(len(vertices), -1, np.float32)
    angles[ICT_BODY:] = np.concatenate([degrees for _, _, degrees in eyes])
    regions = {f"mask_{name}": np.round(255 * mask).astype(np.uint8) for name, mask in _regions(vertices).items()}
    return (
        packed
        | regions
        | {
            "ex_names": np.array(names),
            "part_names": np.array(kinds),
            "vert_part": np.pad(kind, (0, len(vertices) - len(kind))).astype(np.int8),
            "eye_angle_deg": angles,
            "meta_json": np.array(json.dumps({"sub": sub, "eye": centres})),
        }
    )


def _anny(body: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    eyes = [_eyeball(centre, 1.2)[:2] for centre in EYES]
    mouth = [_patch((0, -6, z), 1.0) for z in (-1.0, -1.5, -2.5)]
    vertices, triangles, group = _join([(body, faces), *eyes, *mouth])
    groups = ["body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue"]
    facial = [name + side for name in SIDED for side in ("Left", "Right")] + list(MIDDLE)
    lips = [_near(vertices, (0, y, 1), 1.0)[:, None] * [0, 0, 0.5] for y in (-5.7, -6.7)]
    random = np.random.default_rng(1)
    return {
        "mean": vertices.astype(np.float32),
        "pheno": _shapes(vertices, 40, 0.05).astype(np.float16),
        "pheno_samples": random.normal(0, 1, (50, 40)).astype(np.float16),
        "local": np.concatenate([lips, _shapes(vertices, 4, 0.3)]).astype(np.float16),
        "local_names": np.array(
            ["mouth-upperlip-volume-incr", "mouth-lowerlip-volume-incr", *(f"shape-{n}" for n in range(4))]
        ),
        "facial": _expressions(vertices, facial).astype(np.float16),
        "facial_names": np.array(facial),
        "tri": triangles,
        "tri_group": group.astype(np.int8),
        "group_names": np.array(groups),
        "head_hm08": np.arange(len(vertices), dtype=np.int32),
    }


def _hair(body: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Caps about the skull, thick and thin, and brows, all as wide as the vertices they are bound to."""
    pack = {}
    regions = _regions(body)
    for number, style in enumerate([*heads.HAIR, *heads.BROWS]):
        is_brow = style in heads.BROWS
        kept = regions["brow"] > 0 if is_brow else regions["scalp"] > 0
        swollen = 1.02 if is_brow else 1.35 if style.startswith("afro") else 1.06 + 0.01 * number
        pack |= _shell(style, body, faces, kept, swollen)
    return pack


def _shell(name: str, body: np.ndarray, faces: np.ndarray, kept: np.ndarray, swollen: float) -> dict[str, np.ndarray]:
    """A pack's arrays of a mesh about the kept vertices [N], as much wider than these about the head's middle."""
    middle = np.array([0.0, 0.4, -7.5])
    chosen = faces[kept[faces].all(1)]
    bound, corners = np.unique(chosen, return_inverse=True)
    shell = (middle + swollen * (body[bound] - middle)).astype(np.float32)
    corners = corners.reshape(-1, 3).astype(np.int32)
    uv = np.stack([np.arctan2(shell[:, 0], shell[:, 2]) / 7 + 0.5, (shell[:, 1] + 30) / 50], -1)
    pack = {
        f"{name}/v_anny": shell,
        f"{name}/v_ict": shell + np.float32(ICT_ORIGIN),
        f"{name}/f": corners,
        f"{name}/fuv": corners,
        f"{name}/uv": uv.astype(np.float32),
    }
    for key, width in (("hm", 3), ("ict", 8)):
        pack[f"{name}/{key}_idx"] = np.repeat(bound[:, None], width, 1).astype(np.int32)
        pack[f"{name}/{key}_w"] = np.full((len(bound), width), 1 / width, np.float16)
    return pack


def _performances() -> dict[str, np.ndarray]:
    """Two takes of smooth weights, which overshoot 0 and 1 as recordings do."""
    names = [name[0].upper() + name[1:] + side for name in SIDED for side in ("Left", "Right")]
    names += [name[0].upper() + name[1:] for name in MIDDLE]
    random = np.random.default_rng(2)
    pack = {"names": np.array(names)}
    for key, frames in (("alex_rom_3", 400), ("alex_rom_4", 350)):
        phase, pace = random.uniform(0, 6, len(names)), random.uniform(0.02, 0.2, len(names))
        wave = 0.4 + 0.65 * np.sin(np.arange(frames)[:, None] * pace + phase)
        pack[key] = wave.astype(np.float16)
    return pack
