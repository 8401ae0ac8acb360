// SPDX-License-Identifier: GPL-3.0-or-later
// Principal axes of many Gaussians on an NVIDIA GPU, launched by principal_axes.py. PyTorch's singular values of as many
// small matrices take as long there as a whole refinement.

const int SWEEPS = 15;  // 5 are enough for most
const double ORTHOGONAL = 1e-15;

__device__ double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]; }

__device__ void turn(double& a, double& b, double cosine, double sine) {
  double first = cosine * a - sine * b;
  b = sine * a + cosine * b, a = first;
}

// Turn the factor's rows, and the axes with them, until the rows are orthogonal (one-sided Jacobi rotations, Hestenes).
__device__ void diagonalise(double factor[4][4], double axes[4][4]) {
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    bool done = true;
#pragma unroll
    for (int p = 0; p < 3; p++)
#pragma unroll
      for (int q = p + 1; q < 4; q++) {
        double a = dot(factor[p], factor[p]), b = dot(factor[q], factor[q]), c = dot(factor[p], factor[q]);
        if (!(fabs(c) > ORTHOGONAL * sqrt(a * b))) continue;
        done = false;
        double half = (b - a) / (2 * c), tangent = (half < 0 ? -1 : 1) / (fabs(half) + sqrt(1 + half * half));
        double cosine = 1 / sqrt(1 + tangent * tangent), sine = cosine * tangent;
#pragma unroll
        for (int k = 0; k < 4; k++)
          turn(factor[p][k], factor[q][k], cosine, sine), turn(axes[k][p], axes[k][q], cosine, sine);
      }
    if (done) return;
  }
}

// One thread a factor [rows, columns], of at most 4 x 4: standard deviations in descending order, and axes of
// determinant 1 as columns.
extern "C" __global__ void principal_axes(const double* factors, double* scales, double* directions, int count, int rows,
                                          int columns) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  double factor[4][4], axes[4][4], scale[4];
#pragma unroll
  for (int r = 0; r < 4; r++)
#pragma unroll
    for (int k = 0; k < 4; k++) {
      factor[r][k] = r < rows && k < columns ? factors[((size_t)i * rows + r) * columns + k] : 0;
      axes[r][k] = r == k;
    }
  diagonalise(factor, axes);
#pragma unroll
  for (int k = 0; k < 4; k++) scale[k] = sqrt(dot(factor[k], factor[k]));
#pragma unroll
  for (int last = 3; last > 0; last--)
#pragma unroll
    for (int k = 0; k < last; k++)
      if (scale[k] < scale[k + 1]) {  // a quarter turn changes their places and keeps the determinant
        double larger = scale[k + 1];
        scale[k + 1] = scale[k], scale[k] = larger;
        for (int r = 0; r < 4; r++) turn(axes[r][k], axes[r][k + 1], 0, 1);
      }
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (k < rows) {
      scales[(size_t)i * rows + k] = scale[k];
#pragma unroll
      for (int r = 0; r < 4; r++)
        if (r < rows) directions[((size_t)i * rows + r) * rows + k] = axes[r][k];
    }
}
