# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud object: moving Gaussians as a mesh of bare vertices, animated by a keyed Geometry Nodes modifier.

Vertex attributes, in object space, lengths in metres and times in seconds: position at time_mean, velocity,
time_mean, time_sigma, scale (standard deviations), rotation (quaternion wxyz, stored as the four values of a color,
because Eevee reads no quaternions of points), opacity, radiance (scene-linear Rec. 709), crowding (the share of the
Gaussians that have no more neighbours than this one). `nodes.py` turns them into points at the modifier's Time.

Positions are relative to an origin that the object stores, the centre of its first cloud. A later cloud is stored
relative to the same origin. So it takes the place of the first one, also if the object was moved since. Where the
artist has set the object's own origin elsewhere, anchors.py tells by how much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.types import Context, Mesh, NodesModifier, Object, Scene
from mathutils import Matrix, Vector

from .. import _backend as backend
from .. import compat
from .._backend import errors, logs, splats, wording
from ..selection import active_object, selected_objects
from .anchors import find_shift, set_anchors
from .attributes import read_attribute, vertex_positions, write_attributes
from .crowding import compute_crowding
from .keys import key_time, set_clip
from .material import prepare_scene_for_cycles, splat_material
from .metadata import METADATA_KEY, read_metadata, read_numbers, remember
from .nodes import (
    BRIGHTEST,
    CLIP_END,
    NATIVE_SPLATS,
    REACH,
    UNBOUNDED,
    evaluation_group,
    find_stamped,
    is_evaluation_group,
)
from .order import order_by_time, tell_order

if TYPE_CHECKING:
    from backend.splats import MovingSplats

DATA_VERSION = 3

# attribute: its type, and the property that holds a value of it
_ATTRIBUTES = {
    "velocity": ("FLOAT_VECTOR", "vector"),
    "time_mean": ("FLOAT", "value"),
    "time_sigma": ("FLOAT", "value"),
    "scale": ("FLOAT_VECTOR", "vector"),
    "rotation": ("FLOAT_COLOR", "color"),
    "opacity": ("FLOAT", "value"),
    "radiance": ("FLOAT_COLOR", "color"),
    "crowding": ("FLOAT", "value"),
}


def build_cloud(
    scene: Scene,
    gaussians: MovingSplats,
    name: str,
    frame_start: float,
    frame_end: float,
    existing: Object | None = None,
) -> Object:
    """Make a cloud object in the scene, or give an existing one new data.

    Two linear keys take the modifier's Time from `gaussians.time_range[0]` at frame_start to `time_range[1]` at
    frame_end (one frame apart if the range is empty); the clip's ends are held before and after. An existing cloud
    keeps its object, with name, transform, parent, modifiers and their values. It keeps its keys, too, unless they are
    still the two that this function set, which then follow the new range. An object of another file, or one whose mesh
    is being edited, stays, and a new one is added.
    Gaussians with a value that is not finite are left out.
    """
    data = _finite_attributes(gaussians)
    order = order_by_time(data["time_mean"], data["time_sigma"], data["opacity"])
    if order:
        data = {name: values[order.numbers] for name, values in data.items()}
    group, material = evaluation_group(), splat_material()
    _upgrade_meshes()  # also appended meshes must have the attributes that the groups read
    if existing is None or existing.library or existing.data.is_editmode:
        origin = _centre(data)
        cloud = bpy.data.objects.new(name, _new_mesh(name, data, origin, gaussians))
        cloud.location = Vector(origin)
        remember(cloud, origin=list(cloud.location))
        scene.collection.objects.link(cloud)
        modifier = cloud.modifiers.new("Facet4D", "NODES")
        modifier.node_group = group
        compat.set_input(modifier, "Material", material)
        compat.set_input(modifier, NATIVE_SPLATS, compat.has_native_splats())
    else:
        cloud, old, old_name = existing, existing.data, existing.data.name
        origin = _current_origin(cloud)
        if origin is None:
            origin = np.array(cloud.matrix_world.translation)
        cloud.data = _new_mesh(old_name, data, origin, gaussians)
        remember(cloud, origin=origin.tolist())
        if old.users == 0:
            bpy.data.meshes.remove(old)
            cloud.data.name = old_name
    _bound(cloud)
    tell_order(cloud_modifier(cloud), order)
    set_clip(cloud_modifier(cloud), gaussians.time_range)
    path = compat.input_path(cloud_modifier(cloud), "Time")
    key_time(cloud, path, (frame_start, frame_end), gaussians.time_range)
    return cloud


def clip_frames(scene: Scene, time_range: tuple[float, float]) -> tuple[float, float]:
    """Return the scene's frames at which a clip from one second to another begins and ends."""
    fps = scene.render.fps / scene.render.fps_base
    first, last = (scene.frame_start + seconds * fps for seconds in time_range)
    return first, last


def is_cloud(obj: Any) -> bool:
    """Tell whether the object is a Facet4D cloud."""
    return obj is not None and obj.type == "MESH" and METADATA_KEY in obj and find_cloud_modifier(obj) is not None


def active_cloud(context: Context) -> Object | None:
    """Return the cloud that the user works on, None if there is none.

    It is the active object, its parent, or an object of the collection that it is an instance of. Otherwise it is the
    cloud that the scene's settings name, unless that was deleted.
    """
    named = context.scene.facet4d.cloud
    candidates = [named] if named and context.scene in named.users_scene else []
    if active := active_object(context):
        instanced = active.instance_collection.all_objects if active.instance_collection else ()
        candidates = [active, active.parent, *instanced, *candidates]
    return next((ob for ob in candidates if is_cloud(ob)), None)


def make_active(context: Context, cloud: Object) -> None:
    """Make a new cloud the active object and the only selected one, if it is in the view layer.

    While the artist edits, sculpts or poses another object, that one stays active.
    """
    view_layer = context.view_layer
    view_layer.update()  # makes the new object known
    active = view_layer.objects.active
    if cloud.name in view_layer.objects and (active is None or active.mode == "OBJECT"):
        for other in selected_objects(context):
            other.select_set(False)
        cloud.select_set(True)
        view_layer.objects.active = cloud


def upgrade_clouds() -> None:
    """Update the clouds of this file that an older version of the add-on made."""
    if find_stamped(group for group in bpy.data.node_groups if is_evaluation_group(group)):
        evaluation_group()
        splat_material()
        _upgrade_meshes()
        for cloud in filter(is_cloud, bpy.data.objects):
            modifier = cloud_modifier(cloud)
            time_range = read_numbers(read_metadata(cloud.data).get("time_range"), 2)
            if cloud.library is None and time_range and compat.get_input(modifier, CLIP_END) == UNBOUNDED:
                set_clip(modifier, (time_range[0], time_range[1]))


def _upgrade_meshes() -> None:
    """Store rotations as colors; before version 3 of the data they were quaternions."""
    for mesh in bpy.data.meshes:
        rotation = mesh.attributes.get("rotation") if METADATA_KEY in mesh and mesh.library is None else None
        if rotation and rotation.data_type == "QUATERNION":
            values = read_attribute(rotation)
            mesh.attributes.remove(rotation)
            mesh.attributes.new("rotation", "FLOAT_COLOR", "POINT").data.foreach_set("color", values.ravel())
            remember(mesh, version=DATA_VERSION)


def cloud_objects(scene: Scene) -> list[Object]:
    """Return the Facet4D clouds of a scene."""
    return [obj for obj in scene.objects if is_cloud(obj)]


def find_cloud_modifier(obj: Object) -> NodesModifier | None:
    """Return the modifier that evaluates a cloud at its Time; None for an object that has none."""
    return next((m for m in obj.modifiers if m.type == "NODES" and is_evaluation_group(m.node_group)), None)


def cloud_modifier(cloud: Object) -> NodesModifier:
    """Return the modifier that evaluates the cloud at its Time.

    Raises:
        UserError: the object has none, and is no cloud.
    """
    modifier = find_cloud_modifier(cloud)
    if modifier is None:
        raise errors.UserError(f"'{cloud.name}' has lost the modifier of a cloud; reconstruct or import it again.")
    return modifier


def wants_native(cloud: Object) -> bool:
    """Tell whether Blender shall draw a cloud as splats of its own, where it can; clouds of older versions ask not."""
    modifier = find_cloud_modifier(cloud)
    return bool(
        modifier and NATIVE_SPLATS in compat.input_names(modifier) and compat.get_input(modifier, NATIVE_SPLATS)
    )


def draws_natively(cloud: Object) -> bool:
    """Tell whether Blender draws a cloud as splats of its own, which it can from 5.3 on."""
    if not compat.has_native_splats() or not wants_native(cloud):
        return False
    return compat.get_input(cloud_modifier(cloud), "Display") == "Splats"


def prepare_scene(scene: Scene, cloud: Object) -> str | None:
    """Set up a scene to render a cloud; return what was changed, None if nothing. Blender's own splats need nothing."""
    return None if draws_natively(cloud) else prepare_scene_for_cycles(scene)


def cloud_fault(cloud: Object) -> str | None:
    """Return why a cloud's Gaussians cannot be read, and what to do, in one sentence; None if they can."""
    mesh, name = cloud.data, cloud.name
    metadata = read_metadata(mesh)
    version, time_range = metadata.get("version"), read_numbers(metadata.get("time_range"), 2)
    if isinstance(version, int) and version > DATA_VERSION:
        return f"'{name}' was made by a newer version of Facet4D; update the add-on to work on it."
    if mesh.is_editmode:
        return f"'{name}' is being edited; leave Edit Mode."
    valid = {
        "version": isinstance(version, int),
        "compositing": metadata.get("compositing") in ("linear", "srgb"),
        "time_range": time_range is not None and splats.is_clip((time_range[0], time_range[1])),
        "origin": _stored_origin(cloud) is not None,
    }
    changed = [key for key, is_valid in valid.items() if not is_valid]
    for attribute, (data_type, _) in _ATTRIBUTES.items():
        stored = mesh.attributes.get(attribute)
        is_unchanged = stored and (stored.data_type, stored.domain) == (data_type, "POINT")
        if not is_unchanged and attribute != "crowding":  # clouds of version 1 have no crowding
            changed.append(attribute)
    if changed:
        return f"'{name}' has lost or changed its {', '.join(changed)}; undo that, or reconstruct or import it again."
    if find_shift(mesh)[1]:
        return f"'{name}' was turned or scaled by Apply, but the shapes of its Gaussians were not; undo that."
    return None


def joined_note(cloud: Object) -> str | None:
    """Return what is odd about a cloud to which another was joined; None if none was."""
    count, now = read_metadata(cloud.data).get("count"), len(cloud.data.vertices)
    if not isinstance(count, int) or now <= count:
        return None
    return (
        f"{wording.counted(now - count, 'Gaussian of another was', 'Gaussians of others were')} joined to "
        f"'{cloud.name}'. If their objects were turned or scaled, their shapes and motions are not; undo that, and use "
        "Join Clouds instead."
    )


def _stored_origin(cloud: Object) -> np.ndarray | None:
    origin = read_numbers(read_metadata(cloud).get("origin"), 3)
    return None if origin is None else np.array(origin)


def _current_origin(cloud: Object) -> np.ndarray | None:
    """Return the point [3] of the world as it was built that the vertices are now relative to; None if it is lost."""
    origin = _stored_origin(cloud)
    return None if origin is None else origin - find_shift(cloud.data)[0]


def read_cloud(cloud: Object) -> MovingSplats:
    """Return the Gaussians of a cloud object as they were built, in world space, without the object's later motion.

    Vertices that editing has made invalid as Gaussians are left out. Warns of a cloud that was joined with others.

    Raises:
        UserError: its data were changed, or made by a newer version.
    """
    check_cloud(cloud)
    if note := joined_note(cloud):
        logs.log.warning("%s", note)
    mesh, metadata = cloud.data, read_metadata(cloud.data)
    first, last = metadata["time_range"]
    data = {name: read_attribute(mesh.attributes[name]) for name in _ATTRIBUTES if name != "crowding"}
    return splats.MovingSplats(
        position=(vertex_positions(mesh) + _current_origin(cloud)).astype(np.float32),
        color=backend.color.linear_to_srgb(data.pop("radiance")[:, :3]).astype(np.float32),
        compositing=metadata["compositing"],
        time_range=(first, last),
        **data,
    ).drop_invalid()


def motion_matrix(cloud: Object, world: Matrix) -> np.ndarray:
    """Return the matrix [4, 4] that moves a cloud from where it was made to where its matrix is `world`."""
    origin = _current_origin(cloud)
    return np.array(world @ Matrix.Translation(-Vector((0, 0, 0) if origin is None else origin)))


def check_cloud(cloud: Object) -> None:
    """Check that a cloud's Gaussians can be read.

    Raises:
        UserError: its data were changed, or made by a newer version.
    """
    if reason := cloud_fault(cloud):
        raise errors.UserError(reason)


def inner_box(cloud: Object) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners [3], in object space, of the box around a cloud's Gaussians without the outermost percent."""
    return splats.inner_box(vertex_positions(cloud.data))


def require_cloud(context: Context) -> Object:
    """Return the active cloud.

    Raises:
        UserError: there is none.
    """
    active = active_cloud(context)
    if active is None:
        raise errors.UserError("Select a cloud.")
    return active


def _finite_attributes(gaussians: MovingSplats) -> dict[str, np.ndarray]:
    """Return the vertex attributes in world space, without Gaussians that have a value which is not finite."""
    scale = np.asarray(gaussians.scale, np.float32)
    radiance = backend.color.srgb_to_linear(np.asarray(gaussians.color))
    data = {
        "position": gaussians.position,
        "velocity": gaussians.velocity,
        "time_mean": gaussians.time_mean,
        # A Gaussian that is always visible may have an infinite window.
        "time_sigma": np.clip(gaussians.time_sigma, 1e-6, 1e6),
        # The material divides by the scale. Thinner Gaussians would look the same (Blender 5.3 clamps alike).
        "scale": np.maximum(scale, np.maximum(1e-3 * scale.max(axis=1, keepdims=True), 1e-9)),
        "rotation": gaussians.rotation,
        "opacity": gaussians.opacity,
        "radiance": np.pad(radiance, ((0, 0), (0, 1)), constant_values=1),
    }
    data = {name: np.asarray(values, np.float32) for name, values in data.items()}
    finite = np.all([np.isfinite(v).all(axis=tuple(range(1, v.ndim))) for v in data.values()], axis=0)
    data = {name: values[finite] for name, values in data.items()}
    data |= {name: _round(data[name]) for name in ("velocity", "scale", "rotation")}
    return data | {"crowding": compute_crowding(data["position"])}


def _bound(cloud: Object) -> None:
    """Set how far and how bright Blender's own splats of the cloud may be; see native_nodes.py.

    Hidden is what is a thousand times as far away as the cloud is large. Cut are only the highlights of one Gaussian in
    two thousand, and nothing below white.
    """
    modifier, mesh = cloud_modifier(cloud), cloud.data
    low, high = inner_box(cloud)
    compat.set_input(modifier, REACH, max(1000 * float(np.linalg.norm(high - low)), 1.0))
    radiance = read_attribute(mesh.attributes["radiance"])[:, :3].max(1) if len(mesh.vertices) else np.zeros(1)
    compat.set_input(modifier, BRIGHTEST, max(1.0, float(np.percentile(radiance, 99.95))))


def _round(values: np.ndarray) -> np.ndarray:
    """Round float32 values to 16 significant bits: too little to see, but files become a tenth smaller."""
    return ((values.view(np.uint32) + 0x80) & 0xFFFFFF00).view(np.float32)


def _centre(data: dict[str, np.ndarray]) -> np.ndarray:
    """Return the median of the positions, which a few Gaussians far away do not move; the origin if there are none."""
    position = data["position"]
    return np.median(position.astype(np.float64), axis=0) if len(position) else np.zeros(3)


def _new_mesh(name: str, data: dict[str, np.ndarray], origin: np.ndarray, gaussians: MovingSplats) -> Mesh:
    mesh = bpy.data.meshes.new(name)
    count = len(data["position"])
    mesh.vertices.add(count)
    types = {"position": ("FLOAT_VECTOR", "vector"), **_ATTRIBUTES}  # Blender copies attributes faster than vertices
    write_attributes(mesh, types, data | {"position": data["position"] - origin})
    mesh.attributes.active_color_name = "radiance"  # Solid mode colors the ellipsoids by it
    remember(
        mesh,
        version=DATA_VERSION,
        count=count,
        compositing=gaussians.compositing,
        time_range=[float(t) for t in gaussians.time_range],
    )
    set_anchors(mesh)
    return mesh
