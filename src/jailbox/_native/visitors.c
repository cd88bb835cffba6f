/* visitors.c - a jail that outlives the program that started it.
 *
 * PROBLEM  The host's end of a jail's channel ends with the host, and with it
 *          the jail.  A detached jail has to be found by name, from any
 *          process of its user, and its end has to be known afterwards.
 * CHOICE   A keeper of its own holds that end, and listens on a socket in a
 *          directory that only the user can enter.  What a visitor asks is
 *          passed on to init as it is, descriptors included; what init says is
 *          told to every visitor, and again to those who come later.  The last
 *          words are written to a file, which remains.
 * REJECTED A socket of init's own: it would lie in the jail's reach. */
#include "keeper.h"

void visitors_none(struct visitors *visitors)
{
  *visitors =
    (struct visitors){.listener = -1, .hold = -1, .home = -1, .lease = -1};
  for (size_t i = 0; i < VISITORS_MAX; i++)
    visitors->clients[i] = -1;
}

static int take(const int *fds, size_t count, int32_t index)
{
  if (index < 0 || (size_t)index >= count)
    return -1;
  return (int)sys_fcntl(fds[index], F_DUPFD_CLOEXEC, KEEPER_LOCK + 1);
}

void visitors_open(struct visitors *visitors, const struct jb_start *start,
                   const int *fds, size_t count)
{
  visitors->listener = take(fds, count, start->listener);
  visitors->hold = take(fds, count, start->hold);
  visitors->home = take(fds, count, start->home);
  visitors->lease = take(fds, count, start->lease);
}

bool visitors_expected(const struct visitors *visitors)
{
  return visitors->hold >= 0;
}

static void drop(int *fd)
{
  if (*fd >= 0)
    (void)sys_close(*fd);
  *fd = -1;
}

/* Where a message is kept: each kind once, the newest. */
static size_t place_of(uint32_t message)
{
  switch (message) {
  case JB_MESSAGE_READY:
    return 0;
  case JB_MESSAGE_STARTED:
    return 1;
  case JB_MESSAGE_REPORT:
    return 2;
  case JB_MESSAGE_EXITED:
    return 3;
  default:
    return 4;
  }
}

static void tell(int client, const char *message, size_t size)
{
  /* A visitor that does not listen must not hold up the others. */
  (void)channel_try(client, message, size, NULL, 0);
}

static void welcome(struct visitors *visitors)
{
  long fd = JB_CALL4(__NR_accept4, visitors->listener, 0, 0, JB_SOCK_CLOEXEC);
  if (fd < 0)
    return;
  for (size_t i = 0; i < VISITORS_MAX; i++) {
    if (visitors->clients[i] >= 0)
      continue;
    visitors->clients[i] = (int)fd;
    for (size_t k = 0; k < 5; k++)
      if (visitors->lengths[k] != 0)
        tell((int)fd, visitors->said[k], visitors->lengths[k]);
    return;
  }
  (void)sys_close((int)fd);
}

/* The jail is gone: leave word, and let everybody go. */
static void farewell(struct visitors *visitors)
{
  long file =
    sys_openat(visitors->home, "exit.new",
               O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file >= 0) {
    for (size_t k = 0; k < 5; k++) {
      uint32_t length = (uint32_t)visitors->lengths[k];
      (void)sys_write((int)file, &length, sizeof(length));
      (void)sys_write((int)file, visitors->said[k], length);
    }
    (void)sys_close((int)file);
    /* Whole or not at all. */
    (void)sys_renameat2(visitors->home, "exit.new", visitors->home, "exit", 0);
  }
  (void)sys_unlinkat(visitors->home, "control", 0);
  drop(&visitors->listener);
  drop(&visitors->hold);
  drop(&visitors->home);
  drop(&visitors->lease);
  for (size_t i = 0; i < VISITORS_MAX; i++)
    drop(&visitors->clients[i]);
}

static void listen_to_init(struct visitors *visitors, char *buffer, size_t size)
{
  int fd = -1;
  size_t came = 0;
  long got = channel_receive(visitors->hold, buffer, size, &fd, 1, &came,
                             JB_MSG_DONTWAIT);
  if (came != 0)
    (void)sys_close(fd); /* the layer lives as long as the jail */
  if (got == 0) {
    farewell(visitors);
    return;
  }
  if (got < (long)sizeof(uint32_t))
    return;
  size_t place = place_of(*(const uint32_t *)(const void *)buffer);
  size_t kept = (size_t)got < sizeof(visitors->said[0])
                  ? (size_t)got
                  : sizeof(visitors->said[0]);
  for (size_t i = 0; i < kept; i++)
    visitors->said[place][i] = buffer[i];
  visitors->lengths[place] = kept;
  for (size_t i = 0; i < VISITORS_MAX; i++)
    if (visitors->clients[i] >= 0)
      tell(visitors->clients[i], buffer, (size_t)got);
}

/* Pass one request on.  Returns true for a wish that the jail ends. */
static bool listen_to_client(struct visitors *visitors, int *client,
                             char *buffer, size_t size)
{
  int fds[JB_FDS_MAX + 1];
  size_t count = 0;
  long got = channel_receive(*client, buffer, size, fds, JB_FDS_MAX + 1, &count,
                             JB_MSG_DONTWAIT);
  bool kill = false;
  if (got == 0) {
    drop(client);
  } else if (got >= (long)sizeof(uint32_t)) {
    kill = *(const uint32_t *)(const void *)buffer == JB_MESSAGE_KILL;
    /* A jail that is paused takes nothing: its visitor is refused, not us
     * held up. */
    if (!kill)
      (void)channel_try(visitors->hold, buffer, (size_t)got, fds, count);
  }
  for (size_t i = 0; i < count; i++)
    (void)sys_close(fds[i]);
  return kill;
}

size_t visitors_watch(const struct visitors *visitors, struct jb_pollfd *fds)
{
  size_t count = 0;
  if (!visitors_expected(visitors))
    return 0;
  fds[count++] = (struct jb_pollfd){visitors->listener, JB_POLLIN, 0};
  fds[count++] = (struct jb_pollfd){visitors->hold, JB_POLLIN, 0};
  for (size_t i = 0; i < VISITORS_MAX; i++)
    fds[count++] = (struct jb_pollfd){visitors->clients[i], JB_POLLIN, 0};
  return count;
}

bool visitors_serve(struct visitors *visitors, const struct jb_pollfd *fds,
                    size_t count, char *buffer, size_t size)
{
  bool kill = false;
  if (count == 0)
    return false;
  for (size_t i = 2; i < count; i++)
    if (fds[i].revents != 0 && visitors->clients[i - 2] >= 0)
      kill |=
        listen_to_client(visitors, &visitors->clients[i - 2], buffer, size);
  if (fds[0].revents != 0)
    welcome(visitors);
  if (fds[1].revents != 0)
    listen_to_init(visitors, buffer, size);
  return kill;
}
