// SPDX-License-Identifier: GPL-3.0-or-later
// Splatting on an NVIDIA GPU, launched by splat_cuda.py; splat_loops.py computes the same on a CPU, function by function.
//
// V views see C clouds of N splats: the first V / C views see the first cloud, and so on. A row is a view's splat, number
// view * N + splat. A tile has SIDE x SIDE pixels; the tiles of all views are numbered view by view, row by row. A pair
// is a row and a tile that it touches. Each warp draws a rectangle of WIDE x HIGH pixels of its tile, and passes over the
// rows that do not reach into it: most splats are a few pixels large. Projection is computed in double precision,
// because the covariances of thin splats cancel; its time does not matter beside compositing.

const int SIDE = 16, PIXELS = SIDE * SIDE, SUMS = 9;
const int LANES = 32, WIDE = 8, HIGH = 4;
const unsigned ALL = 0xffffffff;  // lanes of a warp

struct View {
  float camera[12];  // world to camera, rows of [3, 4]
  float fx, fy, cx, cy;
  float low_x, low_y, high_x, high_y;  // limits of directions for the affine approximation
};

// What compositing needs to know of a row besides its color: its centre in pixels, its opacity, its depth, the inverse of
// its covariance in the picture, and how many pixels it reaches to the sides, up or down at most.
struct __align__(16) Record {
  float x, y, opacity, depth, a, b, c, reach;
};

struct Limits {
  float near, low_pass, min_alpha, max_alpha, complete;  // the constants of splats.py, in this order
};

struct Projection {
  double u, v, z;                // direction x / z, y / z, and depth
  double across[3], down[3];     // by how much the pixel's x and y change with the point
  double toward[3], below[3];    // the covariance times these
  double xx, xy, yy;             // the covariance in the picture
};

__device__ double clamp(double value, double low, double high) { return fmin(fmax(value, low), high); }

__device__ double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

__device__ void to_camera(const View& view, const float* mean, Projection& p) {
  double local[3];
  for (int k = 0; k < 3; k++) {
    const float* row = view.camera + 4 * k;
    local[k] = (double)row[0] * mean[0] + (double)row[1] * mean[1] + (double)row[2] * mean[2] + row[3];
  }
  p.u = local[0] / local[2], p.v = local[1] / local[2], p.z = local[2];
}

__device__ void spread(const View& view, const float* covariance, Projection& p) {
  double tx = clamp(p.u, view.low_x, view.high_x), ty = clamp(p.v, view.low_y, view.high_y);
  for (int k = 0; k < 3; k++) {
    p.across[k] = view.fx / p.z * (view.camera[k] - tx * view.camera[8 + k]);
    p.down[k] = view.fy / p.z * (view.camera[4 + k] - ty * view.camera[8 + k]);
  }
  for (int k = 0; k < 3; k++) {
    double row[3] = {covariance[3 * k], covariance[3 * k + 1], covariance[3 * k + 2]};
    p.toward[k] = dot(row, p.across), p.below[k] = dot(row, p.down);
  }
  p.xx = dot(p.across, p.toward), p.xy = dot(p.down, p.toward), p.yy = dot(p.down, p.below);
}

// One thread a row: write its record, the tiles [left, right) x [top, bottom) that it touches, and their number.
extern "C" __global__ void project(const View* views, const float* mean, const float* covariance, const float* opacity,
                                   const float* color, Record* records, int4* boxes, int* counts, Limits limits,
                                   int splats, int views_each, int width, int height) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= splats) return;
  size_t row = (size_t)blockIdx.y * splats + i, shared = (size_t)(blockIdx.y / views_each) * splats + i;
  counts[row] = 0;
  if (!(opacity[row] >= limits.min_alpha)) return;
  const View& view = views[blockIdx.y];
  Projection p;
  to_camera(view, mean + 3 * row, p);
  if (!(p.z > limits.near)) return;
  spread(view, covariance + 9 * shared, p);
  double wide = p.xx + limits.low_pass, high = p.yy + limits.low_pass, determinant = wide * high - p.xy * p.xy;
  double alpha = opacity[row] * sqrt(fmax((p.xx * p.yy - p.xy * p.xy) / determinant, 1e-12));
  double x = view.fx * p.u + view.cx, y = view.fy * p.v + view.cy;
  const float* rgb = color + 3 * shared;
  if (!(determinant > 0 && alpha >= limits.min_alpha && isfinite(x + y + alpha + rgb[0] + rgb[1] + rgb[2]))) return;
  double reach = fmin(sqrt(2 * log(alpha / limits.min_alpha)), 3.33);
  double half_width = reach * sqrt(wide), half_height = reach * sqrt(high);
  double left = fmax(x - half_width, 0.0), right = fmin(x + half_width, (double)width);
  double top = fmax(y - half_height, 0.0), bottom = fmin(y + half_height, (double)height);
  if (!(left < right && top < bottom)) return;
  int4 box = make_int4((int)(left / SIDE), (int)(top / SIDE), (int)ceil(right / SIDE), (int)ceil(bottom / SIDE));
  boxes[row] = box;
  counts[row] = (box.z - box.x) * (box.w - box.y);
  Record record = {(float)x, (float)y, (float)alpha, (float)p.z,
                   (float)(high / determinant), (float)(-p.xy / determinant), (float)(wide / determinant),
                   (float)fmax(half_width, half_height) * 1.0001f + 0.001f};
  records[row] = record;
}

// One thread a row: write its pairs. A key orders by tile, then by depth; positive floats have the order of their bits.
extern "C" __global__ void list_pairs(const Record* records, const int4* boxes, const int* counts, const long long* ends,
                                      long long* keys, int* rows, int splats, int columns, int lines) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  size_t row = (size_t)blockIdx.y * splats + i;
  if (i >= splats || !counts[row]) return;
  int4 box = boxes[row];
  long long pair = ends[row] - counts[row];
  for (int line = box.y; line < box.w; line++)
    for (int column = box.x; column < box.z; column++, pair++) {
      long long tile = ((long long)blockIdx.y * lines + line) * columns + column;
      keys[pair] = tile << 32 | __float_as_uint(records[row].depth);
      rows[pair] = (int)row;
    }
}

struct Batch {  // of a tile's splats, in shared memory
  float4 place[PIXELS], shape[PIXELS];
  float3 color[PIXELS];
  int row[PIXELS];
};

__device__ void load(Batch& batch, const Record* records, const float* color, int row, int splats, int views_each) {
  int slot = threadIdx.x;
  size_t shared = (size_t)(row / splats / views_each) * splats + row % splats;
  const float4* record = (const float4*)(records + row);
  batch.place[slot] = record[0], batch.shape[slot] = record[1];
  batch.color[slot] = make_float3(color[3 * shared], color[3 * shared + 1], color[3 * shared + 2]);
  batch.row[slot] = row;
}

__device__ float alpha_at(float4 place, float4 shape, float dx, float dy, const Limits& limits) {
  float power = -0.5f * (shape.x * dx * dx + shape.z * dy * dy) - shape.y * dx * dy;
  float alpha = place.z * __expf(power);
  return alpha >= limits.min_alpha ? fminf(alpha, limits.max_alpha) : 0.0f;
}

// The pixels of a thread and its warp.
struct Place {
  int lane, column, line;
  float x, y, middle_x, middle_y;  // of the thread's pixel, and of the warp's rectangle
};

__device__ Place find_place() {
  int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
  int left = blockIdx.x * SIDE + warp % (SIDE / WIDE) * WIDE, top = blockIdx.y * SIDE + warp / (SIDE / WIDE) * HIGH;
  int column = left + lane % WIDE, line = top + lane / WIDE;
  return {lane, column, line, column + 0.5f, line + 0.5f, left + WIDE / 2.0f, top + HIGH / 2.0f};
}

// Tell, as bits, which of the batch's LANES rows from the first on reach a pixel of the warp.
__device__ unsigned rows_within_reach(const Batch& batch, int first, int size, const Place& at) {
  int k = first + at.lane;
  bool near = false;
  if (k < size) {
    float4 place = batch.place[k];
    float reach = batch.shape[k].w;  // pixels are half a pixel within the rectangle's border
    near = fabsf(place.x - at.middle_x) < reach + (WIDE - 1) / 2.0f;
    near = near && fabsf(place.y - at.middle_y) < reach + (HIGH - 1) / 2.0f;
  }
  return __ballot_sync(ALL, near);
}

// One block a tile, one thread a pixel: composite the tile's rows front to back into picture [V, H, W], premultiplied.
extern "C" __global__ void composite(const Record* records, const float* color, const long long* bounds,
                                     const int* members, float4* picture, Limits limits, int splats, int views_each,
                                     int width, int height) {
  __shared__ Batch batch;
  Place at = find_place();
  size_t tile = ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  bool inside = at.column < width && at.line < height, done = !inside;
  float4 sum = make_float4(0, 0, 0, 0);
  float transmittance = 1;
  long long end = bounds[tile + 1];
  for (long long start = bounds[tile]; start < end; start += PIXELS) {
    if (__syncthreads_count(done) == PIXELS) break;  // it also waits until the batch before has been read
    if (start + threadIdx.x < end) load(batch, records, color, members[start + threadIdx.x], splats, views_each);
    __syncthreads();
    int size = end - start < PIXELS ? (int)(end - start) : PIXELS;
    for (int first = 0; first < size; first += LANES) {
      unsigned near = rows_within_reach(batch, first, size, at);
      for (; near && !done; near &= near - 1) {
        int k = first + __ffs(near) - 1;
        float4 place = batch.place[k];
        float alpha = alpha_at(place, batch.shape[k], at.x - place.x, at.y - place.y, limits);
        if (alpha == 0) continue;
        float after = transmittance * (1 - alpha), weight = alpha * transmittance;
        done = after <= limits.complete;
        if (done) break;
        float3 rgb = batch.color[k];
        sum.x += weight * rgb.x, sum.y += weight * rgb.y, sum.z += weight * rgb.z, sum.w += weight;
        transmittance = after;
      }
    }
  }
  if (inside) picture[((size_t)blockIdx.z * height + at.line) * width + at.column] = sum;
}

// Return, in each of the first eight lanes, the sum over the warp of the value that belongs to it: values[order[lane]]
// with order 0 4 2 6 1 5 3 7. Every step halves the number of values, which takes 9 exchanges instead of 40.
__device__ float sum_of_eight(float* values, int lane) {
  for (int step = 1, half = 4; half; step *= 2, half /= 2)
    for (int k = 0; k < half; k++) {
      bool upper = lane & step;
      float kept = upper ? values[k + half] : values[k], given = upper ? values[k] : values[k + half];
      values[k] = kept + __shfl_xor_sync(ALL, given, step);
    }
  float sum = values[0];
  sum += __shfl_xor_sync(ALL, sum, 8);
  return sum + __shfl_xor_sync(ALL, sum, 16);
}

// One block a tile, one thread a pixel: composite again, and add what each row's gradient is made of to sums [V, N, SUMS].
// With e the derivative of the loss by the logarithm of alpha at a pixel and (dx, dy) its distance from the centre, they
// are the sums of e dx, e dy, e dx dx, e dx dy, e dy dy, e, and the color's gradient.
extern "C" __global__ void composite_backward(const Record* records, const float* color, const long long* bounds,
                                              const int* members, const float4* picture, const float4* gradient,
                                              float* sums, Limits limits, int splats, int views_each, int width,
                                              int height) {
  __shared__ Batch batch;
  Place at = find_place();
  int lane = at.lane, place_of_lane = (lane & 1) * 4 + (lane & 2) + ((lane & 4) >> 2);
  size_t tile = ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  bool done = !(at.column < width && at.line < height);
  float4 slope = make_float4(0, 0, 0, 0);
  float transmittance = 1, behind = 0;  // what the splats behind add to the loss
  if (!done) {
    size_t pixel = ((size_t)blockIdx.z * height + at.line) * width + at.column;
    float4 drawn = picture[pixel];
    slope = gradient[pixel];
    behind = slope.x * drawn.x + slope.y * drawn.y + slope.z * drawn.z + slope.w * drawn.w;
  }
  long long end = bounds[tile + 1];
  for (long long start = bounds[tile]; start < end; start += PIXELS) {
    if (__syncthreads_count(done) == PIXELS) break;
    if (start + threadIdx.x < end) load(batch, records, color, members[start + threadIdx.x], splats, views_each);
    __syncthreads();
    int size = end - start < PIXELS ? (int)(end - start) : PIXELS;
    for (int first = 0; first < size; first += LANES)
      for (unsigned near = rows_within_reach(batch, first, size, at); near; near &= near - 1) {
        int k = first + __ffs(near) - 1;
        float4 place = batch.place[k];
        float dx = at.x - place.x, dy = at.y - place.y;
        float alpha = done ? 0.0f : alpha_at(place, batch.shape[k], dx, dy, limits);
        float after = transmittance * (1 - alpha);
        if (alpha > 0 && after <= limits.complete) done = true, alpha = 0;
        if (!__any_sync(ALL, alpha > 0)) continue;
        float values[8] = {0, 0, 0, 0, 0, 0, 0, 0}, blue = 0;
        if (alpha > 0) {
          float3 rgb = batch.color[k];
          float weight = alpha * transmittance;
          float added = weight * (slope.x * rgb.x + slope.y * rgb.y + slope.z * rgb.z + slope.w);
          behind -= added;
          transmittance = after;
          float e = alpha < limits.max_alpha ? added - alpha / (1 - alpha) * behind : 0.0f;
          values[0] = e * dx, values[1] = e * dy, values[2] = e * dx * dx, values[3] = e * dx * dy;
          values[4] = e * dy * dy, values[5] = e, values[6] = weight * slope.x, values[7] = weight * slope.y;
          blue = weight * slope.z;
        }
        float sum = sum_of_eight(values, lane);
        for (int step = 16; step; step /= 2) blue += __shfl_xor_sync(ALL, blue, step);
        float* target = sums + (size_t)SUMS * batch.row[k];
        if (lane < 8) atomicAdd(target + place_of_lane, sum);
        if (lane == 8) atomicAdd(target + 8, blue);
      }
  }
}

// Write the gradient by a row's covariance in the picture, before the low-pass filter. The covariance acts through its
// inverse, and through its determinant on the opacity.
__device__ void gradient_of_spread(const Projection& p, double low_pass, const float* total, double* by) {
  double wide = p.xx + low_pass, high = p.yy + low_pass;
  double determinant = wide * high - p.xy * p.xy, sharp = p.xx * p.yy - p.xy * p.xy;
  double a = high / determinant, b = -p.xy / determinant, c = wide / determinant;
  double by_a = -0.5 * total[2], by_b = -0.5 * total[3], by_c = -0.5 * total[4];
  double left_a = a * by_a + b * by_b, left_b = a * by_b + b * by_c;
  double right_a = b * by_a + c * by_b, right_b = b * by_b + c * by_c;
  by[0] = -(left_a * a + left_b * b), by[2] = -(right_a * b + right_b * c), by[1] = -2 * (left_a * b + left_b * c);
  if (sharp > 1e-12 * determinant) {
    by[0] += total[5] / 2 * (p.yy / sharp - high / determinant);
    by[2] += total[5] / 2 * (p.xx / sharp - wide / determinant);
    by[1] += total[5] * p.xy * (1 / determinant - 1 / sharp);
  }
}

// One thread a splat of a cloud: turn its sums in each of the cloud's views into gradients. Those by mean [V, N, 3] and
// opacity [V, N] are of a view, those by covariance [C, N, 3, 3] and color [C, N, 3] are summed over the views.
extern "C" __global__ void project_backward(const View* views, const float* mean, const float* covariance,
                                            const float* opacity, const Record* records, const int* counts,
                                            const float* sums, float* by_mean, float* by_covariance, float* by_opacity,
                                            float* by_color, Limits limits, int splats, int views_each) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= splats) return;
  size_t shared = (size_t)blockIdx.y * splats + i;
  double of_covariance[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0}, of_color[3] = {0, 0, 0};
  for (int number = blockIdx.y * views_each; number < (blockIdx.y + 1) * views_each; number++) {
    size_t row = (size_t)number * splats + i;
    if (!counts[row]) continue;
    const View& view = views[number];
    const float* total = sums + SUMS * row;
    Projection p;
    to_camera(view, mean + 3 * row, p);
    spread(view, covariance + 9 * shared, p);
    by_opacity[row] = total[5] / opacity[row];
    for (int k = 0; k < 3; k++) of_color[k] += total[6 + k];
    double by[3];
    gradient_of_spread(p, limits.low_pass, total, by);
    Record record = records[row];
    double by_u = view.fx * (record.a * total[0] + record.b * total[1]), by_z = 0;
    double by_v = view.fy * (record.b * total[0] + record.c * total[1]);
    for (int j = 0; j < 3; j++) {
      for (int k = 0; k < 3; k++) {
        double mixed = (p.across[j] * p.down[k] + p.down[j] * p.across[k]) / 2;
        of_covariance[3 * j + k] +=
            by[0] * p.across[j] * p.across[k] + by[1] * mixed + by[2] * p.down[j] * p.down[k];
      }
      double by_across = 2 * by[0] * p.toward[j] + by[1] * p.below[j];
      double by_down = 2 * by[2] * p.below[j] + by[1] * p.toward[j];
      by_z -= (by_across * p.across[j] + by_down * p.down[j]) / p.z;
      if (view.low_x < p.u && p.u < view.high_x) by_u -= view.fx / p.z * view.camera[8 + j] * by_across;
      if (view.low_y < p.v && p.v < view.high_y) by_v -= view.fy / p.z * view.camera[8 + j] * by_down;
    }
    by_z -= (by_u * p.u + by_v * p.v) / p.z;
    for (int k = 0; k < 3; k++)
      by_mean[3 * row + k] = (by_u * view.camera[k] + by_v * view.camera[4 + k]) / p.z + by_z * view.camera[8 + k];
  }
  for (int k = 0; k < 9; k++) by_covariance[9 * shared + k] = of_covariance[k];
  for (int k = 0; k < 3; k++) by_color[3 * shared + k] = of_color[k];
}
