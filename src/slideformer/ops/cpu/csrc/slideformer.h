/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of libslideformer: slide attention on a CPU, forward and backward.
 *
 * Maps are (B, H, W, G, D) with any strides, in elements, except the channels, which are contiguous.
 * Parameters and their gradients are dense float32: shift_weight (D, T, T), shift_bias (D, T),
 * key_bias (G, T), logit_bias (G, T) or, if relative, (G, 2 K_rows - 1, 2 K_cols - 1). Those that are
 * absent are NULL. Sums and softmax are float32 whatever the dtype of the maps. */
#ifndef SLIDEFORMER_H
#define SLIDEFORMER_H

#include <stdint.h>

/* Raised with every change of the structures below; the caller puts it into the call. */
#define SLIDEFORMER_VERSION 2

#if defined(_WIN32)
#define SLIDEFORMER_PUBLIC __declspec(dllexport)
#else
#define SLIDEFORMER_PUBLIC __attribute__((visibility("default")))
#endif

enum { SLIDEFORMER_FLOAT32, SLIDEFORMER_FLOAT16, SLIDEFORMER_BFLOAT16 };
enum { SLIDEFORMER_ZEROS, SLIDEFORMER_MASK, SLIDEFORMER_CLAMP };
enum { SLIDEFORMER_OK, SLIDEFORMER_WRONG_VERSION, SLIDEFORMER_NO_MEMORY, SLIDEFORMER_UNKNOWN_ISA };

struct slideformer_map {
  void *data;
  int64_t stride[4]; /* of batch, row, column and head */
};

struct slideformer_call {
  int32_t version;
  int32_t dtype;
  int32_t border;
  int32_t relative;
  int32_t threads;
  int32_t poison; /* fill scratch memory with NaN first: what is read before it was written shows */
  int32_t kernel_size[2], dilation[2];
  int64_t batch, height, width, heads, channels, value_channels;
  double scale;
  struct slideformer_map query, key, value, output;
  struct slideformer_map grad_output, grad_query, grad_key, grad_value;
  const float *shift_weight, *shift_bias, *key_bias, *logit_bias;
  float *grad_shift_weight, *grad_shift_bias, *grad_key_bias, *grad_logit_bias;
  /* GOMP_parallel of the caller's OpenMP, whose threads then do the work; NULL: threads of our own. */
  void (*parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);
};

SLIDEFORMER_PUBLIC int32_t slideformer_version(void);
/* The instruction set in use, or NULL where SLIDEFORMER_CPU_ISA names none that this machine has. */
SLIDEFORMER_PUBLIC const char *slideformer_isa(void);
/* Bytes of scratch memory that a call takes, or a negative number where it cannot run. */
SLIDEFORMER_PUBLIC int64_t slideformer_scratch_bytes(const struct slideformer_call *call, int32_t backward);
SLIDEFORMER_PUBLIC int32_t slideformer_forward(const struct slideformer_call *call);
SLIDEFORMER_PUBLIC int32_t slideformer_backward(const struct slideformer_call *call);

#endif
