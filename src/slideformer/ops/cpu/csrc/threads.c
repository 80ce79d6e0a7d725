/* SPDX-License-Identifier: Apache-2.0 */
#include "threads.h"

#if defined(_WIN32)
#include <windows.h>
typedef HANDLE thread;
#define THREAD_RESULT DWORD WINAPI
#else
#include <pthread.h>
typedef pthread_t thread;
#define THREAD_RESULT void *
#endif

enum { MOST_THREADS = 256 };

struct team {
  const struct plan *plan;
  work *work;
  char *scratch;
  int64_t count, next;
  int joined;
};

static void join_team(void *argument) {
  struct team *team = argument;
  size_t place = (size_t)__atomic_fetch_add(&team->joined, 1, __ATOMIC_RELAXED);
  for (;;) {
    int64_t number = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED);
    if (number >= team->count) return;
    team->work(team->plan, number, team->scratch + place * team->plan->scratch_bytes);
  }
}

static THREAD_RESULT run_member(void *team) {
  join_team(team);
  return 0;
}

static int start(thread *thread, struct team *team) {
#if defined(_WIN32)
  *thread = CreateThread(NULL, 0, run_member, team, 0, NULL);
  return *thread != NULL;
#else
  return pthread_create(thread, NULL, run_member, team) == 0;
#endif
}

static void join(thread thread) {
#if defined(_WIN32)
  WaitForSingleObject(thread, INFINITE);
  CloseHandle(thread);
#else
  pthread_join(thread, NULL);
#endif
}

void run_threads(const struct plan *plan, work *work, int64_t count, int threads, char *scratch) {
  struct team team = {.plan = plan, .work = work, .scratch = scratch, .count = count};
  if (threads > 1 && plan->call->parallel) {
    plan->call->parallel(join_team, &team, (unsigned)threads, 0);
    return;
  }
  thread others[MOST_THREADS];
  int started = 0;
  while (started + 1 < smaller_of(threads, MOST_THREADS) && start(&others[started], &team)) started++;
  join_team(&team);
  for (int i = 0; i < started; i++) join(others[i]);
}
