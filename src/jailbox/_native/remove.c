/* remove.c - work on trees as they are: taking them away, measuring them.
 *
 * PROBLEM  A tree may be as deep and as wide as its jail had patience for, and
 *          may stand on a file system without a byte or an inode to spare.
 * CHOICE   No recursion and no list: the way down is a few open directories,
 *          and further up it is "..".  Nothing is written but what unlinking
 *          writes.  The root of the worker holds the way up. */
#include "worker.h"

#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define ENTRIES_SIZE ((size_t)32768)
#define LEVELS 64u

/* struct linux_dirent64, as getdents64(2) lays it out. */
struct dirent {
  uint64_t inode;
  int64_t next; /* where the entry after this one begins */
  unsigned short size;
  unsigned char type;
  char name[];
};

#define DT_UNKNOWN 0
#define DT_DIR 4

struct level {
  int fd;
  char name[256]; /* in the level above; "" when it was forgotten */
};

/* The last *LEVELS* directories on the way down, as a ring. */
struct descent {
  struct work *work;
  char *entries;
  size_t size; /* of what is in *entries* ... */
  size_t at;   /* ... and how much of that is done */
  uint64_t depth;
  size_t open;
  struct level levels[LEVELS];
};

static struct level *level(struct descent *descent)
{
  return &descent->levels[descent->depth % LEVELS];
}

static void set_name(struct level *level, const char *name)
{
  struct text text = text_into(level->name, sizeof(level->name));
  text_add(&text, name);
}

static const struct dirent *next_entry(struct descent *descent, long *error)
{
  *error = 0;
  for (;;) {
    if (descent->at >= descent->size) {
      long got =
        sys_getdents64(level(descent)->fd, descent->entries, ENTRIES_SIZE);
      if (got <= 0) {
        *error = got;
        return NULL;
      }
      descent->size = (size_t)got;
      descent->at = 0;
    }
    const struct dirent *entry = (const void *)(descent->entries + descent->at);
    descent->at += entry->size;
    const char *name = entry->name;
    if (name[0] == '.' &&
        (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
      continue;
    return entry;
  }
}

static void forget_entries(struct descent *descent)
{
  descent->size = 0;
  descent->at = 0;
}

/* Go into *name*, which may belong to anybody and allow nothing. */
static long go_down(struct descent *descent, const char *name)
{
  long fd = sys_openat(level(descent)->fd, name, OPEN_DIRECTORY, 0);
  if (fd < 0)
    return fd;
  descent->depth++;
  if (descent->open == LEVELS)
    (void)sys_close(level(descent)->fd);
  else
    descent->open++;
  level(descent)->fd = (int)fd;
  set_name(level(descent), name);
  forget_entries(descent);
  return 0;
}

/* Back to the level above.  One that was closed for want of room is found
 * again, at its beginning. */
static long go_up(struct descent *descent)
{
  int here = level(descent)->fd;
  long above = 0;
  descent->depth--;
  if (descent->open == 1) {
    above = sys_openat(here, "..", OPEN_DIRECTORY, 0);
    level(descent)->fd = (int)above;
    level(descent)->name[0] = '\0';
  } else {
    descent->open--;
  }
  (void)sys_close(here);
  forget_entries(descent);
  return above < 0 ? above : 0;
}

/* ---- remove ------------------------------------------------------------- */

static bool is_directory_error(long rc)
{
  return rc == -JB_EISDIR || rc == -JB_EPERM;
}

/* Remove one entry, or go into it. */
static long remove_entry(struct descent *descent, const struct dirent *entry)
{
  int dir = level(descent)->fd;
  long rc = -JB_EISDIR;
  if (entry->type != DT_DIR)
    rc = sys_unlinkat(dir, entry->name, 0);
  if (is_directory_error(rc)) {
    long first = rc;
    rc = sys_unlinkat(dir, entry->name, AT_REMOVEDIR);
    if (rc == -JB_ENOTDIR)
      rc = first;
  }
  if (rc == -JB_ENOTEMPTY || rc == -JB_EEXIST) {
    int64_t next = entry->next;
    rc = go_down(descent, entry->name);
    if (rc == 0 && descent->open > 1)
      (void)sys_lseek(dir, next, 0);
    return rc;
  }
  if (rc == 0)
    descent->work->worked.entries++;
  return rc == -JB_ENOENT ? 0 : rc;
}

/* Empty the directory that the descent began in. */
static long empty(struct descent *descent)
{
  uint64_t before = 0;
  for (;;) {
    long rc;
    const struct dirent *entry = next_entry(descent, &rc);
    if (entry != NULL)
      rc = remove_entry(descent, entry);
    if (rc < 0)
      return rc;
    if (entry != NULL)
      continue;
    if (descent->depth == 0) {
      /* A file system may skip entries while others are removed. */
      if (before == descent->work->worked.entries)
        return 0;
      before = descent->work->worked.entries;
      (void)sys_lseek(level(descent)->fd, 0, 0);
      continue;
    }
    char name[256];
    struct text text = text_into(name, sizeof(name));
    text_add(&text, level(descent)->name);
    rc = go_up(descent);
    /* Without a name it is met again: the level above was opened anew. */
    if (rc == 0 && name[0] != '\0') {
      rc = sys_unlinkat(level(descent)->fd, name, AT_REMOVEDIR);
      if (rc == 0)
        descent->work->worked.entries++;
      if (rc == -JB_ENOTEMPTY && before != descent->work->worked.entries) {
        before = descent->work->worked.entries;
        rc = go_down(descent, name);
      }
    }
    if (rc < 0)
      return rc;
  }
}

long remove_all(struct work *work, int dir, const char *name)
{
  struct descent descent = {.work = work, .open = 1};
  long rc = sys_unlinkat(dir, name, 0);
  if (is_directory_error(rc)) {
    long first = rc;
    rc = sys_unlinkat(dir, name, AT_REMOVEDIR);
    if (rc == -JB_ENOTDIR)
      rc = first;
    if (rc == -JB_ENOTEMPTY || rc == -JB_EEXIST) {
      descent.entries = work_memory(work, ENTRIES_SIZE);
      rc = descent.entries == NULL ? -JB_ENOMEM
                                   : sys_openat(dir, name, OPEN_DIRECTORY, 0);
      if (rc >= 0) {
        descent.levels[0].fd = (int)rc;
        rc = empty(&descent);
        (void)sys_close(level(&descent)->fd);
      }
      if (descent.entries != NULL)
        (void)sys_munmap(descent.entries, ENTRIES_SIZE);
      if (rc == 0)
        rc = sys_unlinkat(dir, name, AT_REMOVEDIR);
    }
  }
  if (rc == 0)
    work->worked.entries++;
  return rc == -JB_ENOENT ? 0 : rc;
}

int work_remove(struct work *work)
{
  const char *name = record_text(&work->record, work->order->name);
  size_t length = text_length(name);
  bool plain = length != 0 && length < 256;
  for (const char *c = name; *c != '\0'; c++)
    plain = plain && *c != '/';
  if (!plain)
    return work_fail(work, JB_WORK_NAME, 0, name, length);
  long rc = remove_all(work, work->root, name);
  return rc < 0 ? work_refused(work, rc, name) : 0;
}

/* ---- measure ------------------------------------------------------------ */

/* Inodes with several names that were counted, in an open hash table. */
struct counted {
  uint64_t *slots; /* 0: free */
  size_t room;     /* a power of two */
  size_t used;
};

static bool insert(struct counted *counted, uint64_t inode)
{
  size_t at = (inode * 0x9e3779b97f4a7c15u) >> 20 & (counted->room - 1);
  while (counted->slots[at] != 0) {
    if (counted->slots[at] == inode)
      return false;
    at = (at + 1) & (counted->room - 1);
  }
  counted->slots[at] = inode;
  counted->used++;
  return true;
}

/* 1 when *inode* is new, 0 when it was counted, -1 without memory. */
static int count_once(struct work *work, struct counted *counted,
                      uint64_t inode)
{
  if (counted->used * 2 >= counted->room) {
    struct counted larger = {.room =
                               counted->room == 0 ? 4096 : counted->room * 4};
    larger.slots = work_memory(work, larger.room * sizeof(uint64_t));
    if (larger.slots == NULL)
      return -1;
    for (size_t i = 0; i < counted->room; i++)
      if (counted->slots[i] != 0)
        (void)insert(&larger, counted->slots[i]);
    if (counted->slots != NULL)
      (void)sys_munmap(counted->slots, counted->room * sizeof(uint64_t));
    *counted = larger;
  }
  return insert(counted, inode) ? 1 : 0;
}

#define NUMBER_BYTES 0
#define NUMBER_INODES 1

static int measure_one(struct work *work, struct counted *counted, int dir,
                       const char *name, int flags, unsigned *mode)
{
  struct statx stat;
  long rc = sys_statx(
    dir, name, flags | AT_SYMLINK_NOFOLLOW,
    STATX_TYPE | STATX_NLINK | STATX_INO | STATX_BLOCKS | STATX_SIZE, &stat);
  if (rc < 0)
    return work_refused(work, rc, name);
  *mode = stat.stx_mode;
  bool directory = (stat.stx_mode & S_IFMT) == S_IFDIR;
  work->worked.entries++;
  if (!directory && stat.stx_nlink > 1) {
    int fresh = count_once(work, counted, stat.stx_ino);
    if (fresh <= 0)
      return fresh;
  }
  if (!directory)
    work->worked.bytes += stat.stx_size;
  work->worked.numbers[NUMBER_BYTES] += stat.stx_blocks * 512;
  work->worked.numbers[NUMBER_INODES]++;
  return 0;
}

/* Offsets of the levels above, so that one that was closed goes on where it
 * was left. */
#define DEPTH_MAX ((size_t)1 << 20)

int work_measure(struct work *work)
{
  struct descent descent = {.work = work, .open = 1};
  struct counted counted = {0};
  unsigned mode = 0;
  descent.entries = work_memory(work, ENTRIES_SIZE);
  int64_t *offsets = work_memory(work, DEPTH_MAX * sizeof(*offsets));
  if (descent.entries == NULL || offsets == NULL)
    return -1;
  descent.levels[0].fd = work->root;
  if (measure_one(work, &counted, work->root, "", AT_EMPTY_PATH, &mode) < 0)
    return -1;
  for (;;) {
    long rc;
    const struct dirent *entry = next_entry(&descent, &rc);
    if (rc < 0)
      return work_refused(work, rc, level(&descent)->name);
    if (entry == NULL) {
      if (descent.depth == 0)
        return 0;
      rc = go_up(&descent);
      if (rc == 0)
        rc = sys_lseek(level(&descent)->fd, offsets[descent.depth], 0);
      if (rc < 0)
        return work_refused(work, rc, "..");
      continue;
    }
    if (measure_one(work, &counted, level(&descent)->fd, entry->name, 0,
                    &mode) < 0)
      return -1;
    if ((mode & S_IFMT) != S_IFDIR)
      continue;
    if (descent.depth + 1 >= DEPTH_MAX)
      return work_refused(work, JB_ELOOP, entry->name);
    offsets[descent.depth] = entry->next;
    rc = go_down(&descent, entry->name);
    if (rc < 0)
      return work_refused(work, rc, entry->name);
  }
}
