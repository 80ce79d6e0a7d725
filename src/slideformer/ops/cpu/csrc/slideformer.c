/* SPDX-License-Identifier: Apache-2.0 */
#include "slideformer.h"

#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "pages.h"
#include "threads.h"

struct isa {
  const char *name;
  const struct kernels *kernels;
  int here;
};

/* The first that this machine has and that SLIDEFORMER_CPU_ISA, where it is set, names. */
static struct isa find_isa(void) {
  const char *wanted = getenv("SLIDEFORMER_CPU_ISA");
#if defined(SLIDEFORMER_X86)
  __builtin_cpu_init();
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  const struct isa all[] = {
#if defined(SLIDEFORMER_X86)
      {"avx512", &slideformer_avx512, avx512},
      {"avx2", &slideformer_avx2, avx2},
#endif
      {"baseline", &slideformer_baseline, 1},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (all[i].here && (!wanted || !*wanted || !strcmp(wanted, all[i].name))) return all[i];
  }
  return (struct isa){0};
}

int32_t slideformer_version(void) { return SLIDEFORMER_VERSION; }

const char *slideformer_isa(void) { return find_isa().name; }

/* Scratch memory of a whole call; with no memory in the arena it is only added up. */
static char *lay_out(struct plan *plan, struct arena *arena, int threads) {
  const struct slideformer_call *call = plan->call;
  if (plan->deformed) {
    float *packed = take_floats(arena, plan_weights(plan));
    if (packed) plan_pack_weight(plan, packed);
    plan->weight = packed;
  }
  if (plan->backward) {
    plan->partials = take_floats(arena, plan->units * plan->partial.size);
    int64_t cells = call->batch * call->heads * plan->side_cells;
    plan->side = take_floats(arena, cells * (call->channels + call->value_channels));
  }
  return take(arena, threads, plan->scratch_bytes);
}

static void prepare_memory(const struct slideformer_call *call, int backward, void *scratch, size_t bytes) {
  use_huge_pages(scratch, bytes);
  int64_t weights = call->part == SLIDEFORMER_WHOLE ? 0 : call->batch * call->heads * (int64_t)sizeof(float);
  for (int a = 0; a < SLIDEFORMER_AXES; a++) weights *= call->size[a] * call->kernel_size[a];
  if (!backward) {
    use_huge_pages_for_map(&call->output, call, call->value_channels);
    if (call->part != SLIDEFORMER_VALUES) use_huge_pages(call->weights, (size_t)weights);
    return;
  }
  if (call->part == SLIDEFORMER_VALUES) use_huge_pages(call->grad_weights, (size_t)weights);
  use_huge_pages_for_map(&call->grad_query, call, call->channels);
  use_huge_pages_for_map(&call->grad_key, call, call->channels);
  use_huge_pages_for_map(&call->grad_value, call, call->value_channels);
}

static int32_t run(const struct slideformer_call *call, int backward, int64_t *bytes) {
  if (call->version != SLIDEFORMER_VERSION) return SLIDEFORMER_WRONG_VERSION;
  const struct kernels *kernels = find_isa().kernels;
  if (!kernels) return SLIDEFORMER_UNKNOWN_ISA;
  struct plan plan;
  int32_t status = plan_open(&plan, call, backward, kernels->lanes);
  char *memory = NULL;
  if (status == SLIDEFORMER_OK) {
    plan.scratch_bytes = kernels->scratch_bytes(&plan);
    int threads = plan_threads(&plan);
    struct arena arena = {0};
    lay_out(&plan, &arena, threads);
    if (bytes) {
      *bytes = (int64_t)arena.used;
    } else if (!(memory = malloc(arena.used + 64))) {
      status = SLIDEFORMER_NO_MEMORY;
    } else {
      prepare_memory(call, backward, memory, arena.used + 64);
      if (call->poison) memset(memory, 0xff, arena.used + 64);
      arena = (struct arena){memory + (64 - (uintptr_t)memory % 64), 0};
      char *scratch = lay_out(&plan, &arena, threads);
      if (plan.partial.size) {
        memset(plan.partials, 0, (size_t)(plan.units * plan.partial.size) * sizeof(float));
      }
      run_threads(&plan, kernels->unit, plan.units, threads, scratch);
      if (backward && plan.side_cells) {
        run_threads(&plan, kernels->join, call->batch * call->heads, threads, scratch);
      }
      if (backward) plan_add_partials(&plan);
    }
  }
  free(memory);
  plan_close(&plan);
  return status;
}

int64_t slideformer_scratch_bytes(const struct slideformer_call *call, int32_t backward) {
  int64_t bytes = 0;
  int32_t status = run(call, backward, &bytes);
  return status == SLIDEFORMER_OK ? bytes : -status;
}

int32_t slideformer_forward(const struct slideformer_call *call) { return run(call, 0, NULL); }

int32_t slideformer_backward(const struct slideformer_call *call) { return run(call, 1, NULL); }
