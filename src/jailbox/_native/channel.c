/* channel.c - records and the sockets that carry them. */
#include "channel.h"

/* A control message with room for every descriptor of a record.  It stands in
 * a union because the kernel wants it aligned. */
union control {
  struct jb_cmsghdr header;
  char bytes[sizeof(struct jb_cmsghdr) + (JB_FDS_MAX + 2) * sizeof(int)];
};

int refuse(struct jb_report *report, enum jb_step step, long error, int index,
           const char *detail)
{
  report->message = JB_MESSAGE_REPORT;
  report->step = (int32_t)step;
  report->error = (int32_t)(error < 0 ? -error : error);
  report->index = index;
  struct text text = text_into(report->detail, sizeof(report->detail));
  text_add(&text, detail);
  return -1;
}

static long send_flagged(int socket, const void *message, size_t size,
                         const int *fds, size_t count, int flags)
{
  union control control;
  /* The kernel reads what it sends; the cast drops a const it lacks. */
  struct jb_iovec iov = {.base = (void *)(uintptr_t)message, .length = size};
  struct jb_msghdr header = {.iov = &iov, .iov_count = 1};
  if (count > JB_FDS_MAX + 1)
    return -JB_E2BIG;
  if (count != 0) {
    control.header.length = sizeof(struct jb_cmsghdr) + count * sizeof(int);
    control.header.level = JB_SOL_SOCKET;
    control.header.type = JB_SCM_RIGHTS;
    int *at = (int *)(void *)(control.bytes + sizeof(struct jb_cmsghdr));
    for (size_t i = 0; i < count; i++)
      at[i] = fds[i];
    header.control = &control;
    header.control_length = (control.header.length + 7) & ~(size_t)7;
  }
  for (;;) {
    long sent = sys_sendmsg(socket, &header, JB_MSG_NOSIGNAL | flags);
    if (sent != -JB_EINTR)
      return sent < 0 ? sent : 0;
  }
}

long channel_send(int socket, const void *message, size_t size, const int *fds,
                  size_t count)
{
  return send_flagged(socket, message, size, fds, count, 0);
}

long channel_try(int socket, const void *message, size_t size, const int *fds,
                 size_t count)
{
  return send_flagged(socket, message, size, fds, count, JB_MSG_DONTWAIT);
}

long channel_receive(int socket, void *buffer, size_t size, int *fds,
                     size_t room, size_t *count, int flags)
{
  union control control;
  struct jb_iovec iov = {.base = buffer, .length = size};
  struct jb_msghdr header = {.iov = &iov,
                             .iov_count = 1,
                             .control = &control,
                             .control_length = sizeof(control)};
  long got;
  *count = 0;
  do
    got = sys_recvmsg(socket, &header, flags | JB_MSG_CMSG_CLOEXEC);
  while (got == -JB_EINTR);
  if (got < 0)
    return got;
  if (header.control_length >= sizeof(struct jb_cmsghdr) &&
      control.header.type == JB_SCM_RIGHTS) {
    size_t came =
      (control.header.length - sizeof(struct jb_cmsghdr)) / sizeof(int);
    const int *at =
      (const int *)(const void *)(control.bytes + sizeof(struct jb_cmsghdr));
    for (size_t i = 0; i < came; i++) {
      if (i < room)
        fds[(*count)++] = at[i];
      else
        (void)sys_close(at[i]);
    }
  }
  if ((header.flags & (JB_MSG_TRUNC | JB_MSG_CTRUNC)) != 0) {
    for (size_t i = 0; i < *count; i++)
      (void)sys_close(fds[i]);
    *count = 0;
    return -JB_EMSGSIZE;
  }
  return got;
}

long message_receive(int socket, char *buffer, size_t size,
                     struct message *message)
{
  message->kind = 0;
  message->mapped = 0;
  long got = channel_receive(socket, buffer, size, message->fds, JB_FDS_MAX + 1,
                             &message->count, JB_MSG_DONTWAIT);
  if (got <= 0)
    return got;
  message->record = (struct record){.base = buffer, .size = (size_t)got};
  if (got < (long)sizeof(uint32_t))
    return got;
  const struct jb_large *outer = (const void *)buffer;
  if (outer->message == JB_MESSAGE_LARGE && message->count > 0 &&
      (size_t)got >= sizeof(*outer) && outer->size >= sizeof(*outer)) {
    int memory = message->fds[--message->count];
    long at = sys_mmap(NULL, outer->size, 1 /* PROT_READ */,
                       2 /* MAP_PRIVATE */, memory, 0);
    (void)sys_close(memory);
    if (at >= 0 || at < -4095) {
      message->mapped = outer->size;
      message->record =
        (struct record){.base = (const char *)at, .size = outer->size};
    }
  }
  message->kind = *(const uint32_t *)(const void *)message->record.base;
  return got;
}

void message_release(struct message *message)
{
  for (size_t i = 0; i < message->count; i++)
    (void)sys_close(message->fds[i]);
  message->count = 0;
  if (message->mapped != 0)
    (void)sys_munmap((void *)(uintptr_t)message->record.base, message->mapped);
  message->mapped = 0;
}

uint64_t clock_now(void)
{
  struct __kernel_timespec now = {0};
  (void)sys_clock_gettime(1 /* CLOCK_MONOTONIC */, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
