// SPDX-License-Identifier: GPL-3.0-or-later
// Runs CUDA kernels on a CPU, slowly: the threads of a block are fibers that take turns at every synchronisation. A
// kernel's source is compiled after this header; cuda_on_cpu.py launches what the macro KERNEL names.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __align__(size) alignas(size)

using std::isfinite;
using std::max;
using std::min;

struct alignas(8) float2 { float x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct dim3 { unsigned x, y, z; };
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

static dim3 threadIdx, blockIdx, blockDim, gridDim;

enum State { READY, AT_WARP, AT_BLOCK, ENDED };

struct Fiber {
  ucontext_t start;
  jmp_buf place;
  std::vector<char> stack = std::vector<char>(1 << 16);
  State state;
  bool started;
  unsigned exchanges;
};

static std::vector<Fiber> fibers;
static Fiber* running;
static jmp_buf scheduler;
static void (*body)(void*);
static void* body_argument;
static float exchanged[2][1024];
static int counted, count;
static unsigned voted[32], vote[32];

static void wait(State state) {
  running->state = state;
  if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

static void begin() {
  body(body_argument);
  running->state = ENDED;
  _longjmp(scheduler, 1);
}

inline void __syncthreads() { wait(AT_BLOCK); }
inline int __syncthreads_count(bool predicate) {
  count += predicate;
  wait(AT_BLOCK);
  return counted;
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  int warp = threadIdx.x / 32;
  vote[warp] |= (unsigned)predicate << threadIdx.x % 32;
  wait(AT_WARP);
  return voted[warp];
}
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  float* slots = exchanged[running->exchanges++ % 2];
  slots[threadIdx.x] = value;
  wait(AT_WARP);
  return slots[threadIdx.x ^ mask];
}
template <class T>
T atomicAdd(T* target, T value) { return std::exchange(*target, *target + value); }
template <class T>
T atomicMax(T* target, T value) { return std::exchange(*target, std::max(*target, value)); }
inline int __float2int_rn(float value) { return (int)std::nearbyint(value); }
inline float __expf(float value) { return std::exp(value); }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

// Let a thread run until it waits or ends.
static void resume(unsigned thread) {
  running = &fibers[thread];
  threadIdx = {thread, 0, 0};
  if (_setjmp(scheduler)) return;
  if (running->started) _longjmp(running->place, 1);
  running->started = true;
  setcontext(&running->start);
}

static bool release(size_t first, size_t last, State state) {
  bool waiting = false;
  for (size_t k = first; k < last; k++) {
    if (fibers[k].state == state) waiting = true;
    else if (fibers[k].state != ENDED) return false;
  }
  for (size_t k = first; k < last; k++)
    if (fibers[k].state == state) fibers[k].state = READY;
  return waiting;
}

static void run_block(unsigned threads) {
  for (Fiber& fiber : fibers) {
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = fiber.stack.size();
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, begin, 0);
    fiber.state = READY, fiber.started = false, fiber.exchanges = 0;
  }
  while (true) {
    bool moved = false;
    for (unsigned first = 0; first < threads; first += 32) {
      unsigned last = first + 32 < threads ? first + 32 : threads;
      do {
        for (unsigned k = first; k < last; k++)
          if (fibers[k].state == READY) resume(k), moved = true;
        voted[first / 32] = vote[first / 32], vote[first / 32] = 0;
      } while (release(first, last, AT_WARP));
    }
    counted = count, count = 0;
    if (release(0, threads, AT_BLOCK)) continue;
    for (Fiber& fiber : fibers)
      if (fiber.state != ENDED && !moved) fprintf(stderr, "threads wait for one another\n"), abort();
    if (!moved) return;
  }
}

template <class... A, size_t... I>
static void launch(void (*kernel)(A...), dim3 grid, unsigned threads, void** arguments, std::index_sequence<I...>) {
  struct Call {
    void (*kernel)(A...);
    void** arguments;
    static void run(void* self) {
      Call& call = *(Call*)self;
      call.kernel(*(A*)call.arguments[I]...);
    }
  } call{kernel, arguments};
  body = Call::run, body_argument = &call;
  gridDim = grid, blockDim = {threads, 1, 1};
  fibers.resize(threads);
  for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) run_block(threads);
}

template <class... A>
static void launch(void (*kernel)(A...), dim3 grid, unsigned threads, void** arguments) {
  launch(kernel, grid, threads, arguments, std::index_sequence_for<A...>());
}

#define KERNEL(name)                                                                               \
  extern "C" void launch_##name(unsigned x, unsigned y, unsigned z, unsigned threads, void** arguments) { \
    launch(name, {x, y, z}, threads, arguments);                                                   \
  }
