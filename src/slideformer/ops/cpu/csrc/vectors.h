/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of LANES float32 numbers in the language's own terms: no intrinsics, one source for all. */
#ifndef SLIDEFORMER_VECTORS_H
#define SLIDEFORMER_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* As many as the registers hold: positions in a row that share one weight in a contraction (PIXELS) and when they
 * spread (SPREAD_PIXELS), and input taps whose weights' gradients are summed at a time (SUMS). */
#if defined(__AVX512F__)
#define LANES 16
#define PIXELS 2
#define SPREAD_PIXELS 4
#define SUMS 3
#elif defined(__AVX2__)
#define LANES 8
#define PIXELS 1
#define SPREAD_PIXELS 2
#define SUMS 1
#elif defined(__aarch64__)
#define LANES 4
#define PIXELS 2
#define SPREAD_PIXELS 4
#define SUMS 2
#else
#define LANES 4
#define PIXELS 1
#define SPREAD_PIXELS 2
#define SUMS 1
#endif

/* Input taps that spread at a time: two times five sums do not wait for each other, and windows of 9, 25 and 49 taps
 * are fives and at most one four. */
enum { TOGETHER = 5 };

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")
#define KEEP_LOOP _Pragma("GCC unroll 1")

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const loose *)p; }

/* A load that several multiplications share: the compiler is not to repeat it for each of them. */
INLINE vec load_once(const float *p) {
  vec x = load(p);
#if defined(__AVX2__)
  __asm__("" : "+v"(x));
#endif
  return x;
}

INLINE void store(float *p, vec x) { *(loose *)p = x; }
INLINE vec splat(float x) { return x - (vec){0}; }

/* One number from memory in every lane. On x86 a load does that for nothing, where a number that is in a
 * register already would take a place among the multiplications: the compiler is not to load it first. */
INLINE vec broadcast(const float *p) {
#if defined(__AVX2__)
  vec x;
  __asm__("vbroadcastss %1, %0" : "=v"(x) : "m"(*p));
  return x;
#else
  return splat(*p);
#endif
}

#if LANES == 4
#define EACH(F, h) F(0, h), F(1, h), F(2, h), F(3, h)
#define HALVINGS(F) F(2) F(1)
#elif LANES == 8
#define EACH(F, h) F(0, h), F(1, h), F(2, h), F(3, h), F(4, h), F(5, h), F(6, h), F(7, h)
#define HALVINGS(F) F(4) F(2) F(1)
#else
#define EACH(F, h)                                                                                  \
  F(0, h), F(1, h), F(2, h), F(3, h), F(4, h), F(5, h), F(6, h), F(7, h), F(8, h), F(9, h),         \
      F(10, h), F(11, h), F(12, h), F(13, h), F(14, h), F(15, h)
#define HALVINGS(F) F(8) F(4) F(2) F(1)
#endif

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* Lane l of two vectors, each in halves of h lanes: of its own vector, and the one that this leaves out. */
#define OWN(l, h) ((l) & (h) ? LANES + (l) : (l))
#define OTHER(l, h) ((l) & (h) ? LANES + (l) - (h) : (l) + (h))

/* Half of the way to the sums of the lanes of two vectors: those of a in the lanes without h, of b in the others. */
#define FOLD(a, b, h) (SHUFFLE(a, b, EACH(OWN, h)) + SHUFFLE(a, b, EACH(OTHER, h)))

/* Vectors that share a weight in a contraction are folded while they are in registers: one is left of `pixels`. */
INLINE vec fold(int pixels, const vec x[PIXELS]) {
#if PIXELS == 2
  return FOLD(x[0], pixels == 2 ? x[1] : (vec){0}, 1);
#else
  (void)pixels;
  return x[0];
#endif
}

/* Lane l of the result is the sum of the lanes of vector l, of LANES vectors; or of LANES / PIXELS folded ones. */
INLINE vec sums(int pixels, vec *x) {
#define STAGE(h)                                                                                    \
  if (h >= pixels) {                                                                                \
    UNROLL for (int i = 0; i < h; i += pixels)                                                      \
        x[i / pixels] = FOLD(x[i / pixels], x[(i + h) / pixels], h);                                \
  }
  HALVINGS(STAGE)
#undef STAGE
  return x[0];
}

INLINE vec larger(vec a, vec b) {
  ivec take = a > b;
  return (vec)(((ivec)a & take) | ((ivec)b & ~take));
}

/* The sum, and the largest, of all lanes, in every lane. */
INLINE vec sum_lanes(vec x) {
#define STAGE(h) x += SHUFFLE(x, x, EACH(OTHER, h));
  HALVINGS(STAGE)
#undef STAGE
  return x;
}

INLINE vec largest_lane(vec x) {
#define STAGE(h) x = larger(x, SHUFFLE(x, x, EACH(OTHER, h)));
  HALVINGS(STAGE)
#undef STAGE
  return x;
}

/* exp(x) for x <= 0, to one unit in the last place or two; 0 below the smallest normal number, NaN of
 * NaN: the power of two is multiplied by, and not added to the bits, so that no NaN is lost. */
INLINE vec exp_negative(vec x) {
  const float log2_e = 1.44269504088896341f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  const float round = 12582912.f; /* 1.5 * 2^23 */
  ivec vanishes = x < splat(-87.3f);
  x = (vec)(((ivec)x & ~vanishes) | ((ivec)splat(-87.3f) & vanishes));
  vec shifted = x * log2_e + round;
  vec whole = shifted - round;
  vec r = x - whole * ln2_high;
  r = r - whole * ln2_low;
  vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  ivec power = ((ivec)shifted - (ivec)splat(round) + 127) << 23;
  return (vec)((ivec)(p * (vec)power) & ~vanishes);
}

#endif
