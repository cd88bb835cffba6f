/* ahead.c - jails that are made before they are asked for.
 *
 * PROBLEM  Two thirds of a start do not depend on the program: groups,
 *          namespaces, the root.  Who starts one jail often starts another one
 *          like it soon.
 * CHOICE   When two STARTs of one kind come in a row, the keeper makes the next
 *          jail of that kind while the program of the last one runs.  It is
 *          complete but for its program: its init waits at a socket, the gate,
 *          for the START that it was made for.  Each serves once.
 *
 * WHAT IS ONE KIND  Two STARTs whose records are equal, byte for byte, in all
 *          that does not belong to the program, and whose trees of the host are
 *          the same files in the same mounts.
 * WHAT MAY NOT HAPPEN
 *          A jail that shows an older host than one made now would: when the
 *          mounts of the host change, all that was made ahead is thrown away.
 *          (Which plans touch only what cannot change otherwise, is decided by
 *          run/compile.py, which sets the flag.)
 *          A burden on a host that starts nothing more: a kind that was not
 *          asked for in two seconds is forgotten, with everything of it.
 * ADR      docs/decisions/0005-jails-made-ahead.md */
#include "jails.h"

#define LIFE_NS 2000000000u
#define JB_STATX_MNT_ID_UNIQUE 0x4000u /* Linux 6.8 */
#define JB_PIDFD_GET_MNT_NAMESPACE 0xff03u

/* ---- kinds --------------------------------------------------------------- */

static bool equal(const void *left, const void *right, size_t size)
{
  const unsigned char *a = left;
  const unsigned char *b = right;
  for (size_t i = 0; i < size; i++)
    if (a[i] != b[i])
      return false;
  return true;
}

static bool same_kind(const struct record *left, const struct record *right)
{
  const size_t from = offsetof(struct jb_start, namespaces);
  const size_t to = offsetof(struct jb_start, program);
  const struct jb_start *a = (const void *)left->base;
  const struct jb_start *b = (const void *)right->base;
  const struct jb_program *p = &a->program;
  const struct jb_program *q = &b->program;
  return a->flags == b->flags &&
         equal(left->base + from, right->base + from, to - from) &&
         equal(left->base + sizeof(*a), right->base + sizeof(*b), a->common) &&
         /* The one thing of a program that its init applies to itself. */
         equal(&p->landlock, &q->landlock, sizeof(p->landlock)) &&
         ((p->flags ^ q->flags) & JB_PROGRAM_NO_NEW_PRIVS) == 0;
}

/* Whether a jail like it can be made ahead at all. */
static bool has_kind(const struct record *record)
{
  const struct jb_start *start = (const void *)record->base;
  return (start->flags & JB_START_AHEAD) != 0 && start->common != 0 &&
         record->size <= GATE_SIZE && record->size >= sizeof(*start) &&
         start->common <= record->size - sizeof(*start);
}

/* Which files of the host its trees are.  False when there are too many. */
static bool identify(const struct record *record, const int *fds, size_t count,
                     struct sources *out)
{
  size_t op_count;
  const struct jb_start *start = (const void *)record->base;
  const struct jb_op *ops =
    record_array(record, start->ops, sizeof(*ops), &op_count);
  out->count = 0;
  out->first = count;
  for (size_t i = 0; i < op_count; i++) {
    struct statx stat;
    int32_t index = ops[i].source;
    if (ops[i].kind != JB_OP_TREE || (ops[i].flags & JB_OP_PREPARED) != 0)
      continue;
    if (index < 0 || (size_t)index >= count || out->count == AHEAD_SOURCES ||
        sys_statx(fds[index], "", AT_EMPTY_PATH,
                  STATX_INO | STATX_MODE | STATX_UID | STATX_GID |
                    STATX_MNT_ID | JB_STATX_MNT_ID_UNIQUE,
                  &stat) < 0)
      return false;
    if ((size_t)index < out->first)
      out->first = (size_t)index;
    out->files[out->count++] = (struct source){
      .mount = stat.stx_mnt_id,
      .inode = stat.stx_ino,
      .major = stat.stx_dev_major,
      .minor = stat.stx_dev_minor,
      .uid = stat.stx_uid,
      .gid = stat.stx_gid,
      .mode = stat.stx_mode,
    };
  }
  return out->first + out->count >= count;
}

static bool same_sources(const struct sources *left,
                         const struct sources *right)
{
  return left->first == right->first && left->count == right->count &&
         equal(left->files, right->files, left->count * sizeof(struct source));
}

/* ---- forgetting ---------------------------------------------------------- */

static void close_sources(struct kind *kind)
{
  for (size_t i = 0; i < kind->sources.count; i++)
    if (kind->fds[i] >= 0) {
      (void)sys_close(kind->fds[i]);
      kind->fds[i] = -1;
    }
  kind->wanted = false;
}

/* End what was made; its groups are removed when it has been reaped. */
static void discard(struct kind *kind)
{
  struct jail *jail = kind->jail;
  kind->jail = NULL;
  if (jail == NULL)
    return;
  (void)sys_close(jail->gate);
  jail->gate = -1;
  if (jail->pid > 0)
    (void)sys_pidfd_send_signal(jail->pidfd, JB_SIGKILL);
}

static void forget_kind(struct kind *kind)
{
  discard(kind);
  close_sources(kind);
  if (kind->record.base != NULL)
    (void)sys_munmap((void *)(uintptr_t)kind->record.base, kind->record.size);
  *kind = (struct kind){0};
}

void ahead_forget(struct keeper *keeper)
{
  for (size_t i = 0; i < KINDS_MAX; i++)
    forget_kind(&keeper->kinds[i]);
}

void ahead_ended(struct keeper *keeper, struct jail *jail)
{
  for (size_t i = 0; i < KINDS_MAX; i++)
    if (keeper->kinds[i].jail == jail)
      /* It could not be made; the next START will say why. */
      forget_kind(&keeper->kinds[i]);
}

uint64_t ahead_expire(struct keeper *keeper)
{
  uint64_t now = clock_now();
  uint64_t soonest = 0;
  for (size_t i = 0; i < KINDS_MAX; i++) {
    struct kind *kind = &keeper->kinds[i];
    if (kind->asked == 0)
      continue;
    if (now - kind->asked >= LIFE_NS)
      forget_kind(kind);
    else if (soonest == 0 || kind->asked + LIFE_NS - now < soonest)
      soonest = kind->asked + LIFE_NS - now;
  }
  return soonest;
}

/* The kernel tells once of each change since the last time that we asked. */
static bool mounts_changed(const struct keeper *keeper)
{
  struct jb_pollfd fd = {.fd = keeper->mounts, .events = JB_POLLPRI};
  struct __kernel_timespec now = {0};
  return keeper->mounts < 0 || sys_ppoll(&fd, 1, &now) != 0;
}

/* ---- asking -------------------------------------------------------------- */

static struct kind *kind_of(struct keeper *keeper, const struct record *record)
{
  for (size_t i = 0; i < KINDS_MAX; i++)
    if (keeper->kinds[i].asked != 0 &&
        same_kind(&keeper->kinds[i].record, record))
      return &keeper->kinds[i];
  return NULL;
}

/* Give a jail that waits the START that it was made for. */
static struct jail *admit(struct kind *kind, const struct record *record,
                          const int *fds, size_t count)
{
  const struct jb_start *start = (const void *)record->base;
  struct jail *jail = kind->jail;
  /* The trees of the host are in place already: they stay behind. */
  size_t needed = kind->sources.first < count ? kind->sources.first : count;
  if (jail == NULL || jail->pid <= 0 ||
      channel_try(jail->gate, record->base, record->size, fds, needed) < 0)
    return NULL;
  (void)sys_close(jail->gate);
  jail->gate = -1;
  jail->id = start->id;
  /* Linux 6.11; where it is missing the end of its init takes them down. */
  long mounts =
    JB_CALL3(__NR_ioctl, jail->pidfd, JB_PIDFD_GET_MNT_NAMESPACE, 0);
  if (mounts >= 0)
    jail->mounts = (int)mounts;
  kind->jail = NULL;
  return jail;
}

/* Keep what the next one is to be made of. */
static void wish(struct kind *kind, const int *fds)
{
  if (kind->wanted || kind->jail != NULL)
    return;
  kind->wanted = true;
  for (size_t i = 0; i < kind->sources.count; i++) {
    kind->fds[i] = (int)sys_fcntl(fds[kind->sources.first + i], F_DUPFD_CLOEXEC,
                                  KEEPER_LOCK + 1);
    kind->wanted = kind->wanted && kind->fds[i] >= 0;
  }
  if (!kind->wanted)
    close_sources(kind);
}

static void meet(struct keeper *keeper, const struct record *record,
                 const struct sources *sources)
{
  /* Whoever was asked for only once makes room first, or a row of such would
   * send away those that are asked for all the time. */
  struct kind *kind = &keeper->kinds[0];
  for (size_t i = 1; i < KINDS_MAX; i++) {
    struct kind *other = &keeper->kinds[i];
    if (other->again == kind->again ? other->asked < kind->asked : kind->again)
      kind = other;
  }
  forget_kind(kind);
  long at =
    sys_mmap(NULL, record->size, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096)
    return;
  char *copy = (char *)at;
  for (size_t i = 0; i < record->size; i++)
    copy[i] = record->base[i];
  kind->record = (struct record){.base = copy, .size = record->size};
  kind->sources = *sources;
  for (size_t i = 0; i < AHEAD_SOURCES; i++)
    kind->fds[i] = -1;
  kind->asked = clock_now();
}

struct jail *ahead_take(struct keeper *keeper, const struct record *record,
                        const int *fds, size_t count)
{
  struct sources sources;
  if (!has_kind(record) || keeper->outlive)
    return NULL;
  if (mounts_changed(keeper))
    ahead_forget(keeper);
  if (!identify(record, fds, count, &sources))
    return NULL;
  (void)ahead_expire(keeper);
  struct kind *kind = kind_of(keeper, record);
  if (kind == NULL || !same_sources(&kind->sources, &sources)) {
    if (kind != NULL)
      forget_kind(kind);
    meet(keeper, record, &sources);
    return NULL;
  }
  struct jail *jail = admit(kind, record, fds, count);
  kind->asked = clock_now();
  kind->again = true;
  wish(kind, fds);
  return jail;
}

/* ---- making -------------------------------------------------------------- */

static void make(struct keeper *keeper, struct kind *kind)
{
  int gate[2];
  int fds[JB_FDS_MAX];
  struct jb_report ignored;
  /* Ours: nobody else reads it, and it has no name and number of its own. */
  struct jb_start *start = (void *)(uintptr_t)kind->record.base;
  size_t count = kind->sources.first + kind->sources.count;
  struct text name = text_into(start->name, sizeof(start->name));
  text_add(&name, "ahead-");
  text_add_number(&name, ++keeper->ahead_made);
  start->id = 0;
  for (size_t i = 0; i < count && i < JB_FDS_MAX; i++)
    fds[i] = i < kind->sources.first ? -1 : kind->fds[i - kind->sources.first];
  if (sys_socketpair(JB_AF_UNIX, JB_SOCK_SEQPACKET | JB_SOCK_CLOEXEC, gate) ==
      0) {
    struct jail *jail =
      jail_make(keeper, &kind->record, fds, count, gate[1], &ignored);
    (void)sys_close(gate[1]);
    if (jail == NULL) {
      (void)sys_close(gate[0]);
    } else {
      jail->gate = gate[0];
      kind->jail = jail;
    }
  }
  close_sources(kind);
}

bool ahead_make(struct keeper *keeper)
{
  for (size_t i = 0; i < KINDS_MAX; i++)
    if (keeper->kinds[i].wanted) {
      make(keeper, &keeper->kinds[i]);
      return true;
    }
  return false;
}

bool ahead_waits(const struct keeper *keeper)
{
  for (size_t i = 0; i < KINDS_MAX; i++)
    if (keeper->kinds[i].jail != NULL)
      return true;
  return false;
}
