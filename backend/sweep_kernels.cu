// SPDX-License-Identifier: GPL-3.0-or-later
// The plane sweep on an NVIDIA GPU, launched by plane_sweep.py, whose operations compute the same step by step.
//
// V views of each of B scenes are seen as width x height cells. A thread has a point: a cell's ray at one of the depths.

struct Eye {
  float camera[12];  // world to camera, rows of [3, 4]
  float fx, fy, cx, cy;
};

struct Constants {
  float radius, agreement, white;  // those of PlaneSweep, in this order
};

__device__ float3 mix(float4 a, float4 b, float t) {
  return make_float3(a.x + t * (b.x - a.x), a.y + t * (b.y - a.y), a.z + t * (b.z - a.z));
}

// Interpolate between the middles of cells, as if those at the borders went on for ever.
__device__ float3 look_up(const float4* picture, float x, float y, int width, int height) {
  x = fminf(fmaxf(x - 0.5f, 0.0f), width - 1.0f), y = fminf(fmaxf(y - 0.5f, 0.0f), height - 1.0f);
  int left = (int)x, top = (int)y, right = min(left + 1, width - 1), below = min(top + 1, height - 1);
  float across = x - left, down = y - top;
  float3 a = mix(picture[top * width + left], picture[top * width + right], across);
  float3 b = mix(picture[below * width + left], picture[below * width + right], across);
  return make_float3(a.x + down * (b.x - a.x), a.y + down * (b.y - a.y), a.z + down * (b.z - a.z));
}

// eyes [B * V]; nearest and direction [B * V, height, width, 3], of the cells' rays; cells [B * V, height, width] of
// colors; weights [B, known, V], of each known picture for each view -> evidence [B * V, height, width, depths].
extern "C" __global__ void sweep(const Eye* eyes, const float* nearest, const float* direction, const float4* cells,
                      const float* weights, float4* evidence, Constants constants, int views, int known, int width,
                      int height, int depths) {
  int place = blockIdx.x * blockDim.x + threadIdx.x, view = blockIdx.y, area = width * height;
  if (place >= area * depths) return;
  int cell = view * area + place / depths, scene = view / views;
  float step = depths > 1 ? 2 * constants.radius / (depths - 1) : 0.0f;
  float depth = step * (place % depths) - constants.radius;
  float point[3];
  for (int k = 0; k < 3; k++) point[k] = nearest[3 * cell + k] + depth * direction[3 * cell + k];
  float4 own = cells[cell];
  float weight_sum = 0, difference_sum = 0, white_sum = 0, count = 0, agreement = 0, whitest = 0;
  for (int other = 0; other < known; other++) {
    float weight = weights[(scene * known + other) * views + view % views];
    const Eye& eye = eyes[scene * views + other];
    const float* rows = eye.camera;
    float z = rows[8] * point[0] + rows[9] * point[1] + rows[10] * point[2] + rows[11];
    if (!(weight > 0 && z > 0.01f)) continue;
    float x = eye.fx * (rows[0] * point[0] + rows[1] * point[1] + rows[2] * point[2] + rows[3]) / z + eye.cx;
    float y = eye.fy * (rows[4] * point[0] + rows[5] * point[1] + rows[6] * point[2] + rows[7]) / z + eye.cy;
    if (!(x > 0 && x < width && y > 0 && y < height)) continue;
    float3 color = look_up(cells + (scene * views + other) * area, x, y, width, height);
    float difference = (fabsf(color.x - own.x) + fabsf(color.y - own.y) + fabsf(color.z - own.z)) / 3;
    float white = expf((fminf(color.x, fminf(color.y, color.z)) - 1) / constants.white);
    weight_sum += weight, difference_sum += weight * difference, white_sum += weight * white;
    count += 1, agreement += expf(-difference / constants.agreement);
    whitest = fmaxf(whitest, white);
  }
  float all = fmaxf(weight_sum, 1e-6f);
  evidence[(long long)view * area * depths + place] =
      make_float4(difference_sum / all, white_sum / all, agreement / fmaxf(count, 1.0f), whitest);
}
