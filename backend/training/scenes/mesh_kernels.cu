// SPDX-License-Identifier: GPL-3.0-or-later
// Visibility of triangles in batches of small images; see rasterize in mesh.py, whose torch twin computes the same.
//
// screen [B][N] = (x, y, inverse depth), pixels; a vertex behind the camera has inverse depth <= 0.
// keys [B][H*W], zero at first: inverse depth as float bits << 32 | triangle. Positive floats order like their bits,
// so the largest key is the nearest triangle, and inverse depth is linear in the picture.

typedef long long i64;
typedef unsigned long long u64;

const int SUBPIXELS = 256;     // vertices snap to this grid, which makes coverage exact integer arithmetic
const int SMALL = 256;         // pixels of a bounding box that one thread walks alone
const int FARTHEST = 30000;     // pixels; a triangle that reaches beyond is not drawn

struct Triangle {
  int x[3], y[3];
  float inverse_depth[3];
  i64 area;
  int left, right, top, bottom;  // covered pixel centres lie in this box, ends included
};

// False if the triangle covers nothing.
__device__ bool load(const float3* screen, const int* faces, int t, int width, int height, Triangle& r) {
  for (int k = 0; k < 3; k++) {
    float3 p = screen[faces[3 * t + k]];
    if (!(p.z > 0) || !(fabsf(p.x) < FARTHEST) || !(fabsf(p.y) < FARTHEST)) return false;
    r.x[k] = __float2int_rn(p.x * SUBPIXELS);
    r.y[k] = __float2int_rn(p.y * SUBPIXELS);
    r.inverse_depth[k] = p.z;
  }
  r.area = (i64)(r.x[1] - r.x[0]) * (r.y[2] - r.y[0]) - (i64)(r.y[1] - r.y[0]) * (r.x[2] - r.x[0]);
  // centre of pixel i is at (i + 1/2) * SUBPIXELS; >> rounds down
  r.left = max(0, (min(r.x[0], min(r.x[1], r.x[2])) + SUBPIXELS / 2 - 1) >> 8);
  r.top = max(0, (min(r.y[0], min(r.y[1], r.y[2])) + SUBPIXELS / 2 - 1) >> 8);
  r.right = min(width - 1, (max(r.x[0], max(r.x[1], r.x[2])) - SUBPIXELS / 2) >> 8);
  r.bottom = min(height - 1, (max(r.y[0], max(r.y[1], r.y[2])) - SUBPIXELS / 2) >> 8);
  return r.area != 0 && r.left <= r.right && r.top <= r.bottom;
}

__device__ void draw(const Triangle& r, int column, int row, int t, int width, u64* keys) {
  i64 x = (i64)column * SUBPIXELS + SUBPIXELS / 2, y = (i64)row * SUBPIXELS + SUBPIXELS / 2;
  float inverse_depth = 0;
  for (int k = 0; k < 3; k++) {
    int a = (k + 1) % 3, b = (k + 2) % 3;
    i64 edge = (i64)(r.x[b] - r.x[a]) * (y - r.y[a]) - (i64)(r.y[b] - r.y[a]) * (x - r.x[a]);
    if (r.area < 0) edge = -edge;
    if (edge < 0) return;
    inverse_depth += (float)edge * r.inverse_depth[k];
  }
  inverse_depth /= (float)(r.area < 0 ? -r.area : r.area);
  atomicMax(&keys[(size_t)row * width + column], (u64)__float_as_uint(inverse_depth) << 32 | (unsigned)t);
}

// One thread a triangle and image; a triangle with a large bounding box is queued for draw_large.
extern "C" __global__ void draw_small(const float3* screen, const int* faces, u64* keys, int2* queue, int* queued,
                                      int vertices, int triangles, int width, int height) {
  int t = blockIdx.x * blockDim.x + threadIdx.x, image = blockIdx.y;
  Triangle r;
  if (t >= triangles || !load(screen + (size_t)image * vertices, faces, t, width, height, r)) return;
  if ((r.right - r.left + 1) * (r.bottom - r.top + 1) > SMALL) {
    queue[atomicAdd(queued, 1)] = make_int2(image, t);
    return;
  }
  u64* picture = keys + (size_t)image * width * height;
  for (int row = r.top; row <= r.bottom; row++)
    for (int column = r.left; column <= r.right; column++) draw(r, column, row, t, width, picture);
}

// One block a queued triangle.
extern "C" __global__ void draw_large(const float3* screen, const int* faces, u64* keys, const int2* queue,
                                      const int* queued, int vertices, int width, int height) {
  for (int q = blockIdx.x; q < *queued; q += gridDim.x) {
    int image = queue[q].x, t = queue[q].y;
    Triangle r;
    load(screen + (size_t)image * vertices, faces, t, width, height, r);
    int columns = r.right - r.left + 1, pixels = columns * (r.bottom - r.top + 1);
    u64* picture = keys + (size_t)image * width * height;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x)
      draw(r, r.left + i % columns, r.top + i / columns, t, width, picture);
  }
}
