/* workers.c - the keeper's side of the work on files. */
#include "keeper.h"
#include "worker.h"

static void answer(int channel, enum jb_step step, long error,
                   const char *detail)
{
  struct jb_report report;
  (void)refuse(&report, step, error, -1, detail);
  (void)channel_send(channel, &report, sizeof(report), NULL, 0);
}

void workers_start(struct workers *workers, const struct labor *labor)
{
  const struct jb_work *order = (const void *)labor->record.base;
  if (labor->record.size < sizeof(*order) || order->channel < 0 ||
      (size_t)order->channel >= labor->fd_count)
    return;
  int channel = labor->fds[order->channel];
  if (labor->fd_count < order->fds) {
    /* The kernel drops what finds no free number here, and says nothing. */
    answer(channel, JB_STEP_WORK, JB_EMFILE, "keeper");
    return;
  }
  size_t place = 0;
  while (place < WORKERS_MAX && workers->at[place].pid != 0)
    place++;
  if (place == WORKERS_MAX) {
    answer(channel, JB_STEP_WORK, JB_EAGAIN, "keeper");
    return;
  }
  int pidfd = -1;
  struct clone_args args = {
    .flags = CLONE_PIDFD,
    .pidfd = (uint64_t)(uintptr_t)&pidfd,
    .exit_signal = JB_SIGCHLD,
  };
#ifdef JB_FAULTS
  long pid = order->fail_step == JB_STEP_CLONE ? -(long)order->fail_errno
                                               : sys_clone3(&args);
#else
  long pid = sys_clone3(&args);
#endif
  if (pid == 0)
    worker_main(labor);
  if (pid < 0) {
    answer(channel, JB_STEP_CLONE, pid, "clone3");
    return;
  }
  workers->at[place].pid = (int)pid;
  workers->at[place].pidfd = pidfd;
  workers->at[place].channel =
    (int)sys_fcntl(channel, F_DUPFD_CLOEXEC, KEEPER_LOCK + 1);
}

bool workers_reap(struct workers *workers, int pid, int status,
                  const struct jb_rusage *usage)
{
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    if (workers->at[i].pid != pid)
      continue;
    struct jb_gone gone = {
      .message = JB_MESSAGE_GONE,
      .status = status,
      .user_ns = (uint64_t)usage->user.seconds * 1000000000u +
                 (uint64_t)usage->user.microseconds * 1000u,
      .system_ns = (uint64_t)usage->system.seconds * 1000000000u +
                   (uint64_t)usage->system.microseconds * 1000u,
      .max_rss = (uint64_t)usage->max_rss_kib * 1024u,
    };
    int channel = workers->at[i].channel;
    if (channel >= 0) {
      (void)channel_try(channel, &gone, offsetof(struct jb_gone, texts), NULL,
                        0);
      (void)sys_close(channel);
    }
    (void)sys_close(workers->at[i].pidfd);
    workers->at[i].pid = 0;
    return true;
  }
  return false;
}

size_t workers_watch(const struct workers *workers, struct jb_pollfd *fds)
{
  size_t count = 0;
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    bool busy = workers->at[i].pid != 0;
    fds[i] = (struct jb_pollfd){.fd = busy ? workers->at[i].channel : -1};
    if (busy)
      count = i + 1;
  }
  return count;
}

void workers_look(const struct workers *workers, const struct jb_pollfd *fds,
                  size_t count)
{
  for (size_t i = 0; i < count; i++)
    if (fds[i].revents != 0 && workers->at[i].pid != 0)
      (void)sys_pidfd_send_signal(workers->at[i].pidfd, JB_SIGKILL);
}

void workers_kill(const struct workers *workers)
{
  for (size_t i = 0; i < WORKERS_MAX; i++)
    if (workers->at[i].pid != 0)
      (void)sys_pidfd_send_signal(workers->at[i].pidfd, JB_SIGKILL);
}

bool workers_idle(const struct workers *workers)
{
  for (size_t i = 0; i < WORKERS_MAX; i++)
    if (workers->at[i].pid != 0)
      return false;
  return true;
}
