/* gate.c - where a jail that was made ahead waits for its START (ahead.c).
 *
 * The START arrives as the keeper got it.  It may be on its way while we fail:
 * so a jail that gives up closes the gate first, which sends the keeper to make
 * another, and then looks whether somebody has come through before. */
#include "keeper.h"

long gate_wait(int gate, char *buffer, size_t size, struct message *message)
{
  struct jb_pollfd fd = {.fd = gate, .events = JB_POLLIN};
  for (;;) {
    (void)sys_ppoll(&fd, 1, NULL);
    long got = message_receive(gate, buffer, size, message);
    if (got != -JB_EAGAIN)
      return got;
  }
}

void gate_refuse(int gate, const struct jb_report *report)
{
  char buffer[GATE_SIZE] __attribute__((aligned(8)));
  struct message message;
  (void)sys_shutdown(gate, 2 /* SHUT_RDWR */);
  if (message_receive(gate, buffer, sizeof(buffer), &message) <= 0)
    return;
  const struct jb_start *start = (const void *)message.record.base;
  if (message.record.size >= sizeof(*start) && start->channel >= 0 &&
      (size_t)start->channel < message.count)
    (void)channel_send(message.fds[start->channel], report, sizeof(*report),
                       NULL, 0);
}
