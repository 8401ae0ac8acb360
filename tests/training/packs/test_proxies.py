# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from backend.errors import UserError
from backend.training.packs.makehuman import inside_out, trim
from backend.training.packs.proxies import Wearer, cut, fit, nearest_of, outward_share, read_proxy, strands, turned_over

MHCLO = """# a comment
name cap
obj_file cap.obj
x_scale 0 1 2.0
y_scale 0 2 1.0
z_scale 0 3 4.0

verts 0
1
0 1 2 0.5 0.25 0.25 0.1 0.2 0.4
0 1 2 1 0 0 0 0 0
3
delete_verts
0 2 - 3
"""
OBJ = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\nf 1/1 2/2 3/2 4/1\n"
BODY = np.array([[0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, 40.0]])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cap.mhclo").write_text(MHCLO)
    (tmp_path / "cap.obj").write_text(OBJ)
    return tmp_path


def wearer(vertices=BODY):
    return Wearer(vertices, np.tile(np.eye(3), (4, 1, 1)), np.eye(4, 3), BODY)


def test_a_proxy_hangs_on_its_vertices_and_its_offsets_grow_with_the_body(folder):
    proxy = read_proxy(folder, "cap", "MakeHuman")
    assert proxy.deleted.tolist() == [0, 2, 3]
    assert proxy.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert proxy.face_uv.tolist() == [[0, 1, 1], [0, 1, 0]]
    middle = 0.5 * BODY[0] + 0.25 * BODY[1] + 0.25 * BODY[2]
    # a unit of offsets is 10 / 2, 20 / 1 and 40 / 4 centimetres
    expected = [BODY[1], middle + np.array([0.5, 4, 4]), BODY[0], BODY[3]]
    assert fit(proxy, wearer()) == pytest.approx(np.array(expected))


def test_offsets_turn_with_the_skin(folder):
    proxy = read_proxy(folder, "cap", "MakeHuman")
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    body = wearer()
    body.turn = np.tile(quarter, (4, 1, 1))
    still = fit(proxy, wearer())[1] - [0.5, 4, 4]
    assert fit(proxy, body)[1] == pytest.approx(still + np.array([-4, 0.5, 4]))


def test_what_the_body_lacks_is_cut_off(folder):
    proxy = read_proxy(folder, "cap", "MakeHuman")
    lacking = BODY.copy()
    lacking[3] = np.nan
    vertices = fit(proxy, wearer(lacking))
    smaller, kept = cut(proxy, vertices, np.isfinite(vertices[proxy.faces]).all((1, 2)))
    assert smaller.faces.tolist() == [[0, 1, 2]]
    assert kept == pytest.approx(vertices[:3])
    assert smaller.uv.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("cap.mhclo", MHCLO.replace("0.5 0.25", "0.5 x"), r"Line 10 of .*cap\.mhclo"),
        ("cap.mhclo", MHCLO.replace("\n3\ndelete", "\ndelete"), r"cap\.mhclo does not bind the vertices of cap\.obj"),
        ("cap.obj", OBJ.replace("4/1", "9/1"), r"Line 7 of .*cap\.obj is not of the OBJ format"),
    ],
)
def test_a_damaged_proxy_names_file_and_line(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        read_proxy(folder, "cap", "MakeHuman")


def test_a_mesh_of_another_name_than_the_author_s_is_found(folder):
    (folder / "cap.mhclo").write_text(MHCLO.replace("cap.obj", "hat.obj"))
    assert len(read_proxy(folder, "cap", "MakeHuman").faces) == 2
    (folder / "cap.obj").unlink()
    with pytest.raises(UserError, match=r"hat\.obj is missing; give the folder of MakeHuman"):
        read_proxy(folder, "cap", "MakeHuman")


def box(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A tetrahedron with its faces counter-clockwise from outside."""
    return np.eye(4, 3, k=-1) + shift, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def test_only_closed_strands_that_face_inward_are_turned():
    (a, outward), (b, _), (c, _) = box(0), box(5), box(9)
    vertices = np.concatenate([a, b, c])
    faces = np.concatenate([outward, outward[:, ::-1] + 4, outward[:3, ::-1] + 8])  # the third one is open
    assert strands(faces).tolist() == [0] * 4 + [1] * 4 + [2] * 3
    assert inside_out(vertices, faces).tolist() == [False] * 4 + [True] * 4 + [False] * 3


def test_outward_faces_are_told_from_inward_ones(folder):
    vertices, faces = box(0)
    bigger = 1.2 * (vertices - vertices.mean(0)) + vertices.mean(0)
    assert outward_share(bigger, faces, vertices, faces) == 1
    assert outward_share(bigger, faces[:, ::-1], vertices, faces) == 0
    proxy = read_proxy(folder, "cap", "MakeHuman")
    assert turned_over(proxy).faces.tolist() == [[2, 1, 0], [3, 2, 0]]


def test_what_hangs_down_is_trimmed():
    vertices, faces = (np.concatenate(part) for part in zip(box(0), box(-30), strict=True))
    faces[4:] += 4
    flat = np.zeros((8, 3), np.int32)
    style = {"v_anny": vertices, "v_ict": vertices + 1, "f": faces, "fuv": faces, "uv": vertices[:, :2]}
    style |= {key: flat for key in ("hm_idx", "hm_w", "ict_idx", "ict_w")}
    short = trim({f"long/{key}": value for key, value in style.items()}, "long", floor=-15, reach=99)
    assert short["v_anny"] == pytest.approx(vertices[:4])
    assert short["f"].tolist() == faces[:4].tolist()


def test_the_nearest_points_are_found():
    points = np.random.default_rng(0).normal(0, 1, (3000, 3))
    distance, number = nearest_of(points, points[::-1], 2)
    assert number[:, 0].tolist() == list(range(2999, -1, -1))
    assert distance[:, 0] == pytest.approx(0, abs=1e-6)
    assert (distance[:, 1] > 0).all()
