# SPDX-License-Identifier: GPL-3.0-or-later
"""Loops over splats and pixels, which Numba compiles for this machine's processor; `splat_cpu` calls them.

A splat's record is x, y (its centre in the picture, in pixels), a, b, c (the inverse of its covariance there), opacity,
three colors, and how many pixels it reaches up and down. Its box is the tiles [left, right) x [top, bottom) that it
touches. A tile has SIDE x SIDE pixels. The loop over a row of a tile has SIDE steps without branches, of which the
compiler makes vector instructions; mixing in a float64 or an integer would prevent that.
"""

from __future__ import annotations

import math

import numba
import numpy as np

SIDE = 16
RECORD, SUMS = 10, 9

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
_inlined = numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
# The sums over a row's pixels may be reordered. Elsewhere that would take away the test for infinity, which is x - x.
_reordered = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOWEST, _SIXTEENTH = np.float32(-10), np.float32(1 / 16)
_C2, _C3, _C4, _C5 = (np.float32(1 / math.factorial(power)) for power in range(2, 6))


@_inlined
def _exp(power):
    """Return exp(power), float32, to a relative 2e-6 for powers from -10 to 0, and exp(-10) below.

    It is the 16th power of the Taylor series of exp(power / 16), which the compiler can compute for a whole row.
    """
    x = max(power, _LOWEST) * _SIXTEENTH
    root = _ONE + x * (_ONE + x * (_C2 + x * (_C3 + x * (_C4 + x * _C5))))
    root = root * root
    root = root * root
    root = root * root
    return root * root


@_compiled
def _to_camera(mean, camera):
    """Return a point in the camera's axes."""
    x, y, z = mean[0], mean[1], mean[2]
    return (
        camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3],
        camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3],
        camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3],
    )


@_compiled
def _gradients_of_pixel(camera, lens, limits, u, v, z):
    """Return by how much a pixel's x and y change with a point [3], at the direction (u, v) cut to the limits."""
    tx, ty = min(max(u, limits[0]), limits[2]), min(max(v, limits[1]), limits[3])
    by_x, by_y = lens[0] / z, lens[1] / z
    return (
        (
            by_x * (camera[0, 0] - tx * camera[2, 0]),
            by_x * (camera[0, 1] - tx * camera[2, 1]),
            by_x * (camera[0, 2] - tx * camera[2, 2]),
        ),
        (
            by_y * (camera[1, 0] - ty * camera[2, 0]),
            by_y * (camera[1, 1] - ty * camera[2, 1]),
            by_y * (camera[1, 2] - ty * camera[2, 2]),
        ),
    )


@_compiled
def _multiply(matrix, vector):
    return (
        matrix[0, 0] * vector[0] + matrix[0, 1] * vector[1] + matrix[0, 2] * vector[2],
        matrix[1, 0] * vector[0] + matrix[1, 1] * vector[1] + matrix[1, 2] * vector[2],
        matrix[2, 0] * vector[0] + matrix[2, 1] * vector[1] + matrix[2, 2] * vector[2],
    )


@_compiled
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@_compiled
def project(first, last, mean, covariance, opacity, color, view, record, depth, box):
    """Project the splats from `first` to `last`; the others' rows stay as they are. An empty box hides a splat.

    mean [N, 3], covariance [N, 3, 3], opacity [N] and color [N, 3] are float32. view: a tuple of the camera [3, 4] and
    the lens (fx, fy, cx, cy), float64, the limits of directions, the picture's size, and the constants (near plane,
    variance of the low-pass filter, least opacity). Written are record [N, RECORD], depth [N] and box [N, 4].
    """
    camera, lens, limits, size, (near, low_pass, min_alpha) = view
    for i in range(first, last):
        box[i] = 0
        local_x, local_y, z = _to_camera(mean[i], camera)
        if not (opacity[i] >= min_alpha and z > near):
            continue
        u, v = local_x / z, local_y / z
        across, down = _gradients_of_pixel(camera, lens, limits, u, v, z)
        toward = _multiply(covariance[i], across)
        xx, xy = _dot(across, toward), _dot(down, toward)
        yy = _dot(down, _multiply(covariance[i], down))
        wide, high = xx + low_pass, yy + low_pass
        determinant = wide * high - xy * xy
        alpha = opacity[i] * math.sqrt(max((xx * yy - xy * xy) / determinant, 1e-12))
        x, y = lens[0] * u + lens[2], lens[1] * v + lens[3]
        finite = math.isfinite(x + y + alpha + color[i, 0] + color[i, 1] + color[i, 2])
        if not (determinant > 0 and alpha >= min_alpha and finite):
            continue
        reach = min(math.sqrt(2 * math.log(alpha / min_alpha)), 3.33)
        half_width, half_height = reach * math.sqrt(wide), reach * math.sqrt(high)
        left, right = max(x - half_width, 0.0), min(x + half_width, size[0])
        top, bottom = max(y - half_height, 0.0), min(y + half_height, size[1])
        if not (left < right and top < bottom):
            continue
        box[i, 0], box[i, 1] = left // SIDE, top // SIDE
        box[i, 2], box[i, 3] = math.ceil(right / SIDE), math.ceil(bottom / SIDE)
        depth[i] = z
        record[i, 0], record[i, 1] = x, y
        record[i, 2], record[i, 3], record[i, 4] = high / determinant, -xy / determinant, wide / determinant
        record[i, 5] = alpha
        record[i, 6:9] = color[i]
        record[i, 9] = half_height


@_compiled
def sort_by_depth(depth, box):
    """Return the indices of the splats that touch a tile, nearest first; equally near ones keep their order.

    It is a radix sort of three rounds over the bits of the depths, which are positive and so have the order of their
    bits.
    """
    order = np.empty(len(box), np.int32)
    count = 0
    for i in range(len(box)):
        if box[i, 2] > 0:
            order[count] = i
            count += 1
    order = order[:count]
    other = np.empty(count, np.int32)
    bits = depth.view(np.uint32)
    for shift in (np.uint32(0), np.uint32(11), np.uint32(22)):
        starts = np.zeros(2049, np.int64)
        for i in order:
            starts[((bits[i] >> shift) & np.uint32(2047)) + 1] += 1
        for digit in range(2048):
            starts[digit + 1] += starts[digit]
        for i in order:
            digit = (bits[i] >> shift) & np.uint32(2047)
            other[starts[digit]] = i
            starts[digit] += 1
        order, other = other, order
    return order


@_compiled
def bin_by_tile(order, box, columns, rows):
    """List every tile's splats, in `order`. A pair is a splat and a tile; pairs count splat by splat, in `order`.

    Return bounds [tiles + 1] of the tiles in the lists, the lists' splats and pairs [P], and the first pair [K + 1] of
    each splat.
    """
    first_pair = np.zeros(len(order) + 1, np.int64)
    bounds = np.zeros(columns * rows + 1, np.int64)
    for rank, i in enumerate(order):
        left, top, right, bottom = box[i, 0], box[i, 1], box[i, 2], box[i, 3]
        first_pair[rank + 1] = first_pair[rank] + (right - left) * (bottom - top)
        for row in range(top, bottom):
            for column in range(left, right):
                bounds[row * columns + column + 1] += 1
    for tile in range(columns * rows):
        bounds[tile + 1] += bounds[tile]
    following = bounds.copy()
    splats, pairs = np.empty(bounds[-1], np.int32), np.empty(bounds[-1], np.int64)
    for rank, i in enumerate(order):
        left, top, right, bottom = box[i, 0], box[i, 1], box[i, 2], box[i, 3]
        pair = first_pair[rank]
        for row in range(top, bottom):
            for column in range(left, right):
                tile = row * columns + column
                splats[following[tile]], pairs[following[tile]] = i, pair
                following[tile] += 1
                pair += 1
    return bounds, splats, pairs, first_pair


@_inlined
def _rows(y, half_height):
    """Return the first row of a tile's pixels that a splat at height y reaches, and the one behind the last."""
    low = math.ceil(max(y - half_height - _HALF, _ZERO))
    return low, int(min(y + half_height + _HALF, np.float32(SIDE)))


@_reordered
def _is_opaque(transmittance, complete):
    """Return whether nothing behind a tile's pixels [SIDE, SIDE] can be seen."""
    largest = _ZERO
    for row in range(SIDE):
        for lane in range(SIDE):
            largest = max(largest, transmittance[row, lane])
    return largest <= complete


@_reordered
def composite(first, last, record, tiles, columns, limits, picture):
    """Composite the tiles from `first` to `last` into the picture [H, W, 4], premultiplied.

    tiles: bounds and splats of bin_by_tile. limits: least and largest alpha, and the transmittance of a complete pixel.
    """
    bounds, splats = tiles
    min_alpha, max_alpha, complete = limits
    axis = np.arange(SIDE).astype(np.float32) + _HALF
    state = np.empty((SIDE, 5, SIDE), np.float32)  # of each pixel: the color so far, alpha, and transmittance
    for tile in range(first, last):
        state[:, :4], state[:, 4] = 0, 1
        left, top = (tile % columns) * SIDE, (tile // columns) * SIDE
        for k in range(bounds[tile], bounds[tile + 1]):
            splat = record[splats[k]]
            x, y, half_height = splat[0] - np.float32(left), splat[1] - np.float32(top), splat[9]
            a, b, c, opacity = splat[2], splat[3], splat[4], splat[5]
            red, green, blue = splat[6], splat[7], splat[8]
            low, high = _rows(y, half_height)
            for row in range(low, high):
                dy = axis[row] - y
                square, linear, constant = -_HALF * a, -b * dy, -_HALF * c * dy * dy
                line = state[row]
                for lane in range(SIDE):
                    dx = axis[lane] - x
                    alpha = opacity * _exp((square * dx + linear) * dx + constant)
                    alpha = min(alpha if alpha >= min_alpha else _ZERO, max_alpha)
                    before = line[4, lane]
                    after = before * (_ONE - alpha)
                    weight = alpha * before if after > complete else _ZERO
                    line[0, lane] += weight * red
                    line[1, lane] += weight * green
                    line[2, lane] += weight * blue
                    line[3, lane] += weight
                    line[4, lane] = after
            if k % 32 == 31 and _is_opaque(state[:, 4], complete):
                break
        part = picture[top : top + SIDE, left : left + SIDE]
        for row in range(part.shape[0]):
            for lane in range(part.shape[1]):
                for channel in range(4):
                    part[row, lane, channel] = state[row, channel, lane]


@_reordered
def composite_backward(first, last, record, tiles, columns, limits, picture, gradient, sums):
    """Add up, over the pixels of each pair of a splat and a tile, what the splat's gradient is made of.

    tiles: bounds, splats and pairs of bin_by_tile. picture, gradient: [H, W, 4], the latter of the loss by the former.
    Written is sums [P, SUMS]: with e the derivative of the loss by the logarithm of alpha at a pixel and (dx, dy) its
    distance from the splat's centre, the sums of e dx, e dy, e dx dx, e dx dy, e dy dy, e, and the color's gradient.
    """
    bounds, splats, pairs = tiles
    complete = limits[2]
    axis = np.arange(SIDE).astype(np.float32) + _HALF
    # of each pixel: the gradient of its four channels, transmittance, and what the splats behind add to the loss
    state = np.empty((SIDE, 6, SIDE), np.float32)
    for tile in range(first, last):
        left, top = (tile % columns) * SIDE, (tile // columns) * SIDE
        _load_tile(picture[top : top + SIDE, left : left + SIDE], gradient[top : top + SIDE, left : left + SIDE], state)
        for k in range(bounds[tile], bounds[tile + 1]):
            _add_up(record[splats[k]], np.float32(left), np.float32(top), axis, limits, state, sums[pairs[k]])
            if k % 32 == 31 and _is_opaque(state[:, 4], complete):
                for hidden in range(k + 1, bounds[tile + 1]):
                    sums[pairs[hidden]] = 0
                break


@_reordered
def _add_up(splat, left, top, axis, limits, state, into):
    """Composite a splat's record over a tile's state, and write the sums of composite_backward into an array."""
    min_alpha, max_alpha, complete = limits
    x, y, half_height = splat[0] - left, splat[1] - top, splat[9]
    a, b, c, opacity = splat[2], splat[3], splat[4], splat[5]
    red, green, blue = splat[6], splat[7], splat[8]
    by_x = by_y = by_xx = by_xy = by_yy = by_1 = by_red = by_green = by_blue = _ZERO
    low, high = _rows(y, half_height)
    for row in range(low, high):
        dy = axis[row] - y
        square, linear, constant = -_HALF * a, -b * dy, -_HALF * c * dy * dy
        line = state[row]
        row_1 = row_x = row_xx = _ZERO
        for lane in range(SIDE):
            dx = axis[lane] - x
            alpha = opacity * _exp((square * dx + linear) * dx + constant)
            alpha = min(alpha if alpha >= min_alpha else _ZERO, max_alpha)
            before = line[4, lane]
            after = before * (_ONE - alpha)
            weight = alpha * before if after > complete else _ZERO
            added = weight * (line[0, lane] * red + line[1, lane] * green + line[2, lane] * blue + line[3, lane])
            behind = line[5, lane] - added
            slope = added - alpha / (_ONE - alpha) * behind
            slope = slope if alpha < max_alpha else _ZERO
            row_1 += slope
            row_x += slope * dx
            row_xx += slope * dx * dx
            by_red += weight * line[0, lane]
            by_green += weight * line[1, lane]
            by_blue += weight * line[2, lane]
            line[4, lane] = after
            line[5, lane] = behind
        by_1 += row_1
        by_x += row_x
        by_y += row_1 * dy
        by_xx += row_xx
        by_xy += row_x * dy
        by_yy += row_1 * dy * dy
    into[0], into[1], into[2], into[3], into[4], into[5] = by_x, by_y, by_xx, by_xy, by_yy, by_1
    into[6], into[7], into[8] = by_red, by_green, by_blue


@_compiled
def _load_tile(picture, gradient, state):
    """Start the state of composite_backward, for a part of the picture that may be smaller than a tile."""
    state[:, :4], state[:, 4], state[:, 5] = 0, 1, 0
    for row in range(picture.shape[0]):
        for lane in range(picture.shape[1]):
            for channel in range(4):
                slope = gradient[row, lane, channel]
                state[row, channel, lane] = slope
                state[row, 5, lane] += slope * picture[row, lane, channel]


@_compiled
def project_backward(first, last, order, first_pair, sums, record, mean, covariance, opacity, view, gradients):
    """Turn the sums of composite_backward into gradients, of the splats whose places in `order` are first to last.

    view: that of `project`. gradients: arrays like mean, covariance, opacity and color, to which they are added.
    """
    by_mean, by_covariance, by_opacity, by_color = gradients
    camera, lens, limits, _, constants = view
    total = np.empty(SUMS)
    for rank in range(first, last):
        i = order[rank]
        total[:] = 0
        for pair in range(first_pair[rank], first_pair[rank + 1]):
            for k in range(SUMS):
                total[k] += sums[pair, k]
        by_opacity[i] += total[5] / opacity[i]
        for k in range(3):
            by_color[i, k] += total[6 + k]
        local_x, local_y, z = _to_camera(mean[i], camera)
        u, v = local_x / z, local_y / z
        across, down = _gradients_of_pixel(camera, lens, limits, u, v, z)
        toward, below = _multiply(covariance[i], across), _multiply(covariance[i], down)
        xx, xy, yy = _dot(across, toward), _dot(down, toward), _dot(down, below)
        by_xx, by_xy, by_yy = _gradient_of_spread(xx, xy, yy, constants[1], total)
        by_u = by_v = by_z = 0.0
        a, b, c = record[i, 2], record[i, 3], record[i, 4]
        by_u += lens[0] * (a * total[0] + b * total[1])
        by_v += lens[1] * (b * total[0] + c * total[1])
        for j in range(3):
            for k in range(3):
                mixed = (across[j] * down[k] + down[j] * across[k]) / 2
                by_covariance[i, j, k] += by_xx * across[j] * across[k] + by_xy * mixed + by_yy * down[j] * down[k]
            by_across = 2 * by_xx * toward[j] + by_xy * below[j]
            by_down = 2 * by_yy * below[j] + by_xy * toward[j]
            by_z -= (by_across * across[j] + by_down * down[j]) / z
            if limits[0] < u < limits[2]:
                by_u -= lens[0] / z * camera[2, j] * by_across
            if limits[1] < v < limits[3]:
                by_v -= lens[1] / z * camera[2, j] * by_down
        by_z -= (by_u * u + by_v * v) / z
        for k in range(3):
            by_mean[i, k] += (by_u * camera[0, k] + by_v * camera[1, k]) / z + by_z * camera[2, k]


@_compiled
def _gradient_of_spread(xx, xy, yy, low_pass, total):
    """Return the gradient by a splat's covariance in the picture (xx, xy, yy), before the low-pass filter.

    total: its sums over all tiles. The covariance acts through its inverse, and through its determinant on the opacity.
    """
    wide, high = xx + low_pass, yy + low_pass
    determinant, sharp = wide * high - xy * xy, xx * yy - xy * xy
    a, b, c = high / determinant, -xy / determinant, wide / determinant
    by_a, by_b, by_c = -0.5 * total[2], -0.5 * total[3], -0.5 * total[4]  # by_b: of each of the two equal entries
    left_a, left_b = a * by_a + b * by_b, a * by_b + b * by_c
    right_a, right_b = b * by_a + c * by_b, b * by_b + c * by_c
    by_xx, by_yy = -(left_a * a + left_b * b), -(right_a * b + right_b * c)
    by_xy = -2 * (left_a * b + left_b * c)
    if sharp > 1e-12 * determinant:
        by_xx += total[5] / 2 * (yy / sharp - high / determinant)
        by_yy += total[5] / 2 * (xx / sharp - wide / determinant)
        by_xy += total[5] * xy * (1 / determinant - 1 / sharp)
    return by_xx, by_xy, by_yy
