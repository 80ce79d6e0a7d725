/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of libslideformer: slide attention on a CPU, forward and backward.
 *
 * Maps are (B, Z, H, W, G, D) with any strides, in elements, except the channels, which are contiguous; a map of
 * fewer axes has the others in front, of one position and one tap. Parameters and their gradients are dense float32:
 * shift_weight (D, T, T), shift_bias (D, T), key_bias (G, T), logit_bias (G, T) or, if relative, (G, 2 K - 1, ...),
 * an entry an axis. Those that are absent are NULL. Sums and softmax are float32 whatever the dtype of the maps. */
#ifndef SLIDEFORMER_H
#define SLIDEFORMER_H

#include <stdint.h>

/* Raised with every change of the structures below; the caller puts it into the call. */
#define SLIDEFORMER_VERSION 3

#if defined(_WIN32)
#define SLIDEFORMER_PUBLIC __declspec(dllexport)
#else
#define SLIDEFORMER_PUBLIC __attribute__((visibility("default")))
#endif

enum { SLIDEFORMER_FLOAT32, SLIDEFORMER_FLOAT16, SLIDEFORMER_BFLOAT16 };
enum { SLIDEFORMER_ZEROS, SLIDEFORMER_MASK, SLIDEFORMER_CLAMP, SLIDEFORMER_WRAP };
/* The whole operator, its logits or weights from queries and keys, or its output from weights and values. */
enum { SLIDEFORMER_WHOLE, SLIDEFORMER_LOGITS, SLIDEFORMER_VALUES, SLIDEFORMER_WEIGHTS };
enum { SLIDEFORMER_OK, SLIDEFORMER_WRONG_VERSION, SLIDEFORMER_NO_MEMORY, SLIDEFORMER_UNKNOWN_ISA };
enum { SLIDEFORMER_AXES = 3 };

struct slideformer_map {
  void *data;
  int64_t stride[5]; /* of batch, the three axes, and head */
};

struct slideformer_call {
  int32_t version;
  int32_t dtype;
  int32_t part;
  int32_t relative;
  int32_t threads;
  int32_t poison; /* fill scratch memory with NaN first: what is read before it was written shows */
  int32_t kernel_size[SLIDEFORMER_AXES], dilation[SLIDEFORMER_AXES], border[SLIDEFORMER_AXES];
  int64_t size[SLIDEFORMER_AXES];
  int64_t batch, heads, channels, value_channels;
  double scale;
  struct slideformer_map query, key, value, output;
  struct slideformer_map grad_output, grad_query, grad_key, grad_value;
  /* (B, Z, H, W), dense, 1 where a key and its value exist, and NULL where all do. Others are zero vectors, whatever
   * the maps hold there, and take part where all borders are zeros. */
  const uint8_t *key_mask;
  float *weights, *grad_weights; /* of a half: (B, Z, H, W, G, T), dense; the logits, or the weights */
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
