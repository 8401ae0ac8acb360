// SPDX-License-Identifier: GPL-3.0-or-later
// The network's channels as moving Gaussians on an NVIDIA GPU, launched by decode_cuda.py. It computes what
// LRM4D.gaussians and Gaussians4D.to_moving do one after the other.
//
// One thread a Gaussian. Vectors of space and time are ordered like quaternions here, (t, z, y, x): see rotations.py.

const int CHANNELS = 20, GIVEN = 12;  // numbers of a Gaussian's channels, and of what its pixel gives
const int SHADE = 3, SCALE = 6, LEFT = 9, OPACITY = 13, MOMENT = 14, TIME_SCALE = 15, RIGHT = 16;  // first channels
const float SH_C0 = 0.28209479177387814f;
const float THINNEST = 1e-4f;  // footprint of a pixel

// e_a times e_b is SIGN[a][b] times e_(a xor b).
__device__ const float SIGN[4][4] = {{1, 1, 1, 1}, {1, -1, 1, -1}, {1, -1, -1, 1}, {1, 1, -1, -1}};

struct Constants {  // LRM4DConfig's
  float depth_range, scale_bias, scale_limit, time_scale_bias, time_scale_limit, opacity_bias, quaternion_bias;
  int pixel_bound;
};

struct Gaussian {
  bool from_pixel, bound;           // its depth is on a pixel's ray; its time, color and size are relative to the pixel's
  float share;                      // of the depth range
  float direction[3], growth;       // of the pixel's ray, and of its footprint with the depth
  float footprint, unit;            // before it is kept from becoming too thin, and after
  float moment;                     // its time less the pixel's
  float centre[3], middle, opacity, color[3];
  float left[4], right[4], left_length, right_length;  // unit quaternions, and their lengths before
  float by_left[4][4], by_right[4][4], rotation[4][4];  // products from the left and from the right, and both
  float wanted[4], scale[4];        // before the limits, and after
  float factor[4][4];               // of the covariance
  float deviation, window[4];       // in time: the length of the factor's row, and its direction
  float along[3], velocity[3], shape[3][4];
};

__device__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

__device__ float dot4(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]; }

__device__ float normalise(const float* channels, float bias, float* result) {
  float raw[4] = {channels[0] + bias, channels[1], channels[2], channels[3]};
  float length = fmaxf(sqrtf(dot4(raw, raw)), 1e-12f);
  for (int k = 0; k < 4; k++) result[k] = raw[k] / length;
  return length;
}

// Where the Gaussian is, when, how large a unit of its size is, and its color.
__device__ void place(const float* raw, const float* pixel, const Constants& constants, Gaussian& g) {
  float base[3] = {0.5f, 0.5f, 0.5f}, clock = 0;
  g.unit = g.footprint = 1, g.growth = 0;
  for (int k = 0; k < 3; k++) g.centre[k] = raw[k];
  if (g.from_pixel) {
    g.share = sigmoid((raw[0] + raw[1] + raw[2]) / 3);
    float depth = constants.depth_range * (2 * g.share - 1);
    for (int k = 0; k < 3; k++) g.direction[k] = pixel[3 + k], g.centre[k] = pixel[6 + k] + depth * g.direction[k];
    if (g.bound) {
      for (int k = 0; k < 3; k++) base[k] = (pixel[k] + 1) / 2;
      clock = pixel[9], g.growth = pixel[11];
      g.footprint = pixel[10] + depth * g.growth;
      g.unit = fmaxf(g.footprint, THINNEST);
    }
  }
  g.moment = raw[MOMENT], g.middle = clock + g.moment;
  g.opacity = sigmoid(raw[OPACITY] + constants.opacity_bias);
  for (int k = 0; k < 3; k++) g.color[k] = base[k] + SH_C0 * raw[SHADE + k];
}

// Its axes in space and time: the factor of its covariance.
__device__ void orient(const float* raw, const Constants& constants, Gaussian& g) {
  g.left_length = normalise(raw + LEFT, constants.quaternion_bias, g.left);
  g.right_length = normalise(raw + RIGHT, constants.quaternion_bias, g.right);
  g.wanted[0] = expf(raw[TIME_SCALE] + constants.time_scale_bias);
  g.scale[0] = fminf(g.wanted[0], constants.time_scale_limit);
#pragma unroll
  for (int k = 1; k < 4; k++) {
    g.wanted[k] = g.unit * expf(raw[SCALE + 3 - k] + constants.scale_bias);
    g.scale[k] = fminf(g.wanted[k], constants.scale_limit);
  }
#pragma unroll
  for (int a = 0; a < 4; a++)
#pragma unroll
    for (int b = 0; b < 4; b++) {
      g.by_left[a][b] = SIGN[a ^ b][b] * g.left[a ^ b];
      g.by_right[a][b] = (a == b ? 1 : -1) * SIGN[b][a ^ b] * g.right[a ^ b];  // the conjugate
    }
#pragma unroll
  for (int a = 0; a < 4; a++)
#pragma unroll
    for (int b = 0; b < 4; b++) {
      float sum = 0;
      for (int k = 0; k < 4; k++) sum += g.by_left[a][k] * g.by_right[k][b];
      g.rotation[a][b] = sum, g.factor[a][b] = sum * g.scale[b];
    }
}

// As Gaussians4D.motion.
__device__ void set_in_motion(Gaussian& g) {
  g.deviation = sqrtf(dot4(g.factor[0], g.factor[0]));
  for (int k = 0; k < 4; k++) g.window[k] = g.factor[0][k] / g.deviation;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    g.along[i] = dot4(g.factor[3 - i], g.window);
    g.velocity[i] = g.along[i] / g.deviation;
    for (int k = 0; k < 4; k++) g.shape[i][k] = g.factor[3 - i][k] - g.along[i] * g.window[k];
  }
}

__device__ Gaussian decode_one(const float* channels, const float* pixels, const Constants& constants, int each,
                               int pixels_each, size_t i) {
  Gaussian g;
  size_t scene = i / each, number = i % each;
  g.from_pixel = number < pixels_each, g.bound = g.from_pixel && constants.pixel_bound;
  const float* raw = channels + CHANNELS * i;
  place(raw, pixels + GIVEN * (scene * pixels_each + (g.from_pixel ? number : 0)), constants, g);
  orient(raw, constants, g);
  set_in_motion(g);
  return g;
}

__device__ float to_linear(float encoded) {
  encoded = fmaxf(encoded, 0.0f);
  return encoded <= 0.04045f ? encoded / 12.92f : powf((encoded + 0.055f) / 1.055f, 2.4f);
}

__device__ float slope_of_linear(float encoded) {
  if (encoded < 0) return 0;
  return encoded <= 0.04045f ? 1 / 12.92f : 2.4f / 1.055f * powf((encoded + 0.055f) / 1.055f, 1.4f);
}

// Write the fields of MovingGaussians, of channels [B, N, 20] and pixels [B, P, 12].
extern "C" __global__ void decode(const float* channels, const float* pixels, float* mean, float* middle,
                                  float* velocity, float* variance, float* covariance, float* opacity, float* radiance,
                                  Constants constants, int count, int each, int pixels_each) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Gaussian g = decode_one(channels, pixels, constants, each, pixels_each, i);
  middle[i] = g.middle, variance[i] = g.deviation * g.deviation, opacity[i] = g.opacity;
#pragma unroll
  for (int k = 0; k < 3; k++) {
    mean[3 * i + k] = g.centre[k] + (g.bound ? g.moment * g.velocity[k] : 0);
    velocity[3 * i + k] = g.velocity[k];
    radiance[3 * i + k] = to_linear(g.color[k]);
#pragma unroll
    for (int j = 0; j < 3; j++) covariance[9 * i + 3 * k + j] = dot4(g.shape[k], g.shape[j]);
  }
}

// From the gradients by the factor's rows to those by the channels of quaternions and sizes; returns that by the unit.
__device__ float gradient_of_axes(const Gaussian& g, const Constants& constants, const float by_factor[4][4], float* by) {
  float by_scale[4] = {0, 0, 0, 0}, by_rotation[4][4], of_left[4] = {0, 0, 0, 0}, of_right[4] = {0, 0, 0, 0};
#pragma unroll
  for (int a = 0; a < 4; a++)
#pragma unroll
    for (int b = 0; b < 4; b++) {
      by_scale[b] += by_factor[a][b] * g.rotation[a][b];
      by_rotation[a][b] = by_factor[a][b] * g.scale[b];
    }
#pragma unroll
  for (int a = 0; a < 4; a++)
#pragma unroll
    for (int b = 0; b < 4; b++) {
      float left = 0, right = 0;
      for (int k = 0; k < 4; k++) {
        left += by_rotation[a][k] * g.by_right[b][k];
        right += g.by_left[k][a] * by_rotation[k][b];
      }
      of_left[a ^ b] += SIGN[a ^ b][b] * left;
      of_right[a ^ b] += (a == b ? 1 : -1) * SIGN[b][a ^ b] * right;
    }
  float along_left = dot4(of_left, g.left), along_right = dot4(of_right, g.right), by_unit = 0;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    by[LEFT + k] = (of_left[k] - along_left * g.left[k]) / g.left_length;
    by[RIGHT + k] = (of_right[k] - along_right * g.right[k]) / g.right_length;
  }
  by[TIME_SCALE] = g.wanted[0] <= constants.time_scale_limit ? by_scale[0] * g.wanted[0] : 0;
#pragma unroll
  for (int k = 1; k < 4; k++) {
    float change = g.wanted[k] <= constants.scale_limit ? by_scale[k] * g.wanted[k] : 0;
    by[SCALE + 3 - k] = change;
    by_unit += change / g.unit;
  }
  return by_unit;
}

// The gradient by the channels [B, N, 20], from those by what `decode` writes.
extern "C" __global__ void decode_backward(const float* channels, const float* pixels, const float* by_mean,
                                           const float* by_middle, const float* by_velocity, const float* by_variance,
                                           const float* by_covariance, const float* by_opacity,
                                           const float* by_radiance, float* by_channels, Constants constants, int count,
                                           int each, int pixels_each) {
  size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Gaussian g = decode_one(channels, pixels, constants, each, pixels_each, i);
  float* by = by_channels + CHANNELS * i;
  const float *of_mean = by_mean + 3 * i, *of_velocity = by_velocity + 3 * i, *of_covariance = by_covariance + 9 * i;
  float by_moment = by_middle[i], by_deviation = 2 * g.deviation * by_variance[i], by_depth = 0;
  float by_factor[4][4], by_window[4] = {0, 0, 0, 0};
#pragma unroll
  for (int r = 0; r < 3; r++) {
    float of_shape[4] = {0, 0, 0, 0};
    for (int j = 0; j < 3; j++)
      for (int k = 0; k < 4; k++) of_shape[k] += (of_covariance[3 * r + j] + of_covariance[3 * j + r]) * g.shape[j][k];
    float moved = of_velocity[r];
    if (g.bound) moved += of_mean[r] * g.moment, by_moment += of_mean[r] * g.velocity[r];
    float by_along = moved / g.deviation - dot4(of_shape, g.window);
    by_deviation -= moved * g.velocity[r] / g.deviation;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      by_factor[3 - r][k] = of_shape[k] + by_along * g.window[k];
      by_window[k] += by_along * g.factor[3 - r][k] - g.along[r] * of_shape[k];
    }
    if (g.from_pixel) by_depth += of_mean[r] * g.direction[r];
    else by[r] = of_mean[r];
    by[SHADE + r] = SH_C0 * by_radiance[3 * i + r] * slope_of_linear(g.color[r]);
  }
  float turned = dot4(by_window, g.window);
#pragma unroll
  for (int k = 0; k < 4; k++)
    by_factor[0][k] = (by_window[k] - turned * g.window[k]) / g.deviation + by_deviation * g.window[k];
  float by_unit = gradient_of_axes(g, constants, by_factor, by);
  if (g.footprint >= THINNEST) by_depth += by_unit * g.growth;
  if (g.from_pixel)
    for (int k = 0; k < 3; k++) by[k] = by_depth * constants.depth_range * 2 * g.share * (1 - g.share) / 3;
  by[MOMENT] = by_moment;
  by[OPACITY] = by_opacity[i] * g.opacity * (1 - g.opacity);
}
