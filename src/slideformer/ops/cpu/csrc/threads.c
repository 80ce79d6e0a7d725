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
  int64_t count, next;
};

struct member {
  struct team *team;
  char *scratch;
};

static THREAD_RESULT run_member(void *argument) {
  const struct member *member = argument;
  struct team *team = member->team;
  for (;;) {
    int64_t number = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED);
    if (number >= team->count) return 0;
    team->work(team->plan, number, member->scratch);
  }
}

static int start(thread *thread, struct member *member) {
#if defined(_WIN32)
  *thread = CreateThread(NULL, 0, run_member, member, 0, NULL);
  return *thread != NULL;
#else
  return pthread_create(thread, NULL, run_member, member) == 0;
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
  struct team team = {plan, work, count, 0};
  struct member members[MOST_THREADS];
  thread others[MOST_THREADS];
  int started = 0;
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  for (int i = 0; i < threads; i++) {
    members[i] = (struct member){&team, scratch + (size_t)i * plan->scratch_bytes};
  }
  while (started + 1 < threads && start(&others[started], &members[started + 1])) started++;
  run_member(&members[0]);
  for (int i = 0; i < started; i++) join(others[i]);
}
