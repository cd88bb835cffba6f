/* unpack.c - a layer becomes a tree.
 *
 * PROBLEM  Names in a layer lead through links that the layer made, entries
 *          take the place of others, and marks take away what is below.
 * CHOICE   The worker's root is the tree, so nothing can lead out of it; yet
 *          every parent is found with RESOLVE_IN_ROOT, what is made is made
 *          anew in a directory that is held open, and rights are given to the
 *          descriptor of what was just made.
 *
 * TWO WAYS standalone: the tree holds this layer only.  A mark becomes what
 *          overlayfs reads: a character device 0:0, or the attribute
 *          user.overlay.opaque.  What an entry needs from below (a parent, the
 *          target of a hard link) is not there: the result says so, and the
 *          work is to be done once more, merged.
 *          merged: the root is an overlay, and a mark takes away what lies
 *          below.  What this very layer brought stays, wherever the mark
 *          stands in it (image-spec, layer.md: a mark is about lower layers).
 *
 * TIMES    A directory gets its time when its entry is met, and gets it back
 *          when we leave it: entering notes the time, leaving restores it if
 *          we changed something.  No list of directories is kept.
 *
 * CONTENTS  answers . names . parents . notes . metadata . in the way . marks .
 *           files . other entries . hard links . entries . the work */
#include "untar.h"
#include "worker.h"

#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define PIPE_SIZE ((long)1 << 20)
#define STACK_MAX 48u
#define LINKS_FOLLOWED 40u
#define LINKS_SIZE ((size_t)16 << 20)
#define LINK_PASSES 8
#define HIDE_DEPTH 200u
#define PATH_SIZE (UNTAR_NAME_MAX + 1)
#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

#define OPAQUE "user.overlay.opaque"

#define NUMBER_READ 0
#define NUMBER_WHITEOUTS 1
#define NUMBER_OPAQUE 2

/* A directory on the way to the entry at hand. */
struct parent {
  int fd;
  bool changed;
  bool setgid; /* what is made in it inherits its group */
  size_t path_size;
  struct __kernel_timespec mtime;
};

/* A hard link whose target has not come yet; path and target follow. */
struct later {
  uint64_t index;
  uint32_t path_size;
  uint32_t link_size;
};

struct unpack {
  struct work *work;
  struct untar *untar;
  bool merged;
  bool bottom;
  bool one_id;
  bool idle; /* it is known that this was in vain */
  size_t depth;
  struct parent parents[STACK_MAX];
  const struct untar_entry *entry;
  int file; /* being written, or -1 */
  uint64_t position;
  bool inherits;    /* of the file: its directory passes on its group */
  size_t path_size; /* of the entry, cleaned: no "", "." or ".." in it */
  char *later;
  size_t later_size;
  char path[PATH_SIZE];
  char link[PATH_SIZE];
  char open_path[PATH_SIZE]; /* of the uppermost parent on the stack */
  char walk[PATH_SIZE];
  char real[PATH_SIZE];
};

/* ---- answers ------------------------------------------------------------ */

static int give_up(struct unpack *up, enum jb_work_reason reason, long error)
{
  const struct untar_entry *entry = up->entry;
  return work_fail(up->work, reason, error, entry->path, entry->path_size);
}

static int refused(struct unpack *up, long error)
{
  if (error == -JB_EFBIG)
    return give_up(up, JB_WORK_MAX_BYTES, 0);
  if (error == -JB_ENOTDIR || error == -JB_ELOOP)
    return give_up(up, JB_WORK_PARENT, error);
  return give_up(up, JB_WORK_SYSTEM, error);
}

/* An entry is about what lies below. */
static int needs_lowers(struct unpack *up)
{
  up->work->worked.flags |= JB_WORKED_NEEDS_LOWERS;
  up->idle = true;
  return 0;
}

/* ---- names -------------------------------------------------------------- */

/* Clean *from* as filepath.Clean does with "/" before it: what leads above the
 * root stays at the root.  The length, or -1 when a part is too long. */
static long clean(const char *from, char *to)
{
  size_t length = 0;
  while (*from != '\0') {
    while (*from == '/')
      from++;
    size_t part = 0;
    while (from[part] != '/' && from[part] != '\0')
      part++;
    if (part > 255)
      return -1;
    if (part == 2 && from[0] == '.' && from[1] == '.') {
      while (length != 0 && to[length - 1] != '/')
        length--;
      if (length != 0)
        length--;
    } else if (part != 0 && !(part == 1 && from[0] == '.')) {
      if (length != 0)
        to[length++] = '/';
      for (size_t i = 0; i < part; i++)
        to[length++] = from[i];
    }
    from += part;
  }
  to[length] = '\0';
  return (long)length;
}

/* Where the last part of a clean path begins. */
static size_t base_of(const char *path, size_t size)
{
  while (size != 0 && path[size - 1] != '/')
    size--;
  return size;
}

static uint32_t depth_of(const char *path)
{
  uint32_t depth = *path == '\0' ? 0 : 1;
  for (; *path != '\0'; path++)
    depth += *path == '/';
  return depth;
}

static void text_copy(char *to, const char *from, size_t size)
{
  for (size_t i = 0; i < size; i++)
    to[i] = from[i];
  to[size] = '\0';
}

/* ---- parents ------------------------------------------------------------ */

static long open_in_root(const struct unpack *up, const char *path, int flags)
{
  struct open_how how = {
    .flags = (uint64_t)(unsigned)(flags | O_DIRECTORY | O_CLOEXEC),
    .resolve = IN_ROOT,
  };
  return sys_openat2(up->work->root, *path == '\0' ? "." : path, &how);
}

static long restore_time(int fd, const struct __kernel_timespec *mtime)
{
  const struct __kernel_timespec times[2] = {*mtime, *mtime};
  return sys_utimensat(fd, NULL, times, 0);
}

static void leave(struct unpack *up)
{
  struct parent *parent = &up->parents[--up->depth];
  if (parent->changed)
    (void)restore_time(parent->fd, &parent->mtime);
  (void)sys_close(parent->fd);
}

static void leave_all(struct unpack *up)
{
  while (up->depth != 0)
    leave(up);
}

static long enter(struct unpack *up, size_t size, int fd)
{
  struct statx stat;
  long rc = sys_statx(fd, "", AT_EMPTY_PATH, STATX_MODE | STATX_MTIME, &stat);
  if (rc < 0) {
    (void)sys_close(fd);
    return rc;
  }
  if (up->depth == STACK_MAX)
    leave_all(up);
  struct parent *parent = &up->parents[up->depth++];
  *parent = (struct parent){
    .fd = fd,
    .setgid = (stat.stx_mode & S_ISGID) != 0,
    .path_size = size,
    .mtime = {stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec},
  };
  text_copy(up->open_path, up->path, size);
  return 0;
}

static bool is_whiteout(const struct statx *stat)
{
  return (stat->stx_mode & S_IFMT) == S_IFCHR && stat->stx_rdev_major == 0 &&
         stat->stx_rdev_minor == 0;
}

/* A directory that no entry describes.  What it changes above keeps its time,
 * and its own is that of whoever asked for it. */
static long make_implied(struct unpack *up, int above, const char *name)
{
  struct statx stat;
  const struct untar_entry *entry = up->entry;
  long rc = sys_statx(above, "", AT_EMPTY_PATH, STATX_MTIME, &stat);
  if (rc < 0)
    return rc;
  struct __kernel_timespec before = {stat.stx_mtime.tv_sec,
                                     stat.stx_mtime.tv_nsec};
  rc = sys_mkdirat(above, name, 0755);
  if (rc == -JB_EEXIST &&
      sys_statx(above, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat) == 0) {
    if (!is_whiteout(&stat) || up->merged)
      return -JB_ENOTDIR;
    /* Not marked opaque: all of it is going to be done again, merged. */
    rc = sys_unlinkat(above, name, 0);
    if (rc == 0)
      rc = sys_mkdirat(above, name, 0755);
  }
  if (rc < 0)
    return rc;
  struct __kernel_timespec mtime = {entry->mtime_s, entry->mtime_ns};
  const struct __kernel_timespec made[2] = {mtime, mtime};
  (void)sys_utimensat(above, name, made, AT_SYMLINK_NOFOLLOW);
  const struct __kernel_timespec old[2] = {before, before};
  (void)sys_utimensat(above, "", old, AT_EMPTY_PATH);
  return up->merged || up->bottom ? 0 : needs_lowers(up);
}

/* A part of up->walk cannot be entered.  Where it is a link that leads
 * nowhere yet, up->walk becomes the way that the link says. */
static long follow(struct unpack *up, int above, size_t part, size_t rest)
{
  char target[PATH_SIZE];
  char after[PATH_SIZE];
  char name[256];
  text_copy(name, up->walk + part, rest - part);
  long got = sys_readlinkat(above, name, target, sizeof(target) - 1);
  if (got < 0)
    return got;
  size_t length = (size_t)got;
  size_t tail = text_length(up->walk + rest);
  size_t kept = target[0] == '/' ? 0 : part;
  if (kept + length + tail >= PATH_SIZE)
    return -JB_ENAMETOOLONG;
  text_copy(after, up->walk + rest, tail);
  text_copy(up->walk + kept, target, length);
  text_copy(up->walk + kept + length, after, tail);
  return 0;
}

/* Go along up->walk and make what is missing.  1: it is to be gone along
 * again, it has changed. */
static long walk(struct unpack *up)
{
  long above = open_in_root(up, "", O_PATH);
  size_t at = 0;
  if (above < 0)
    return above;
  for (;;) {
    while (up->walk[at] == '/')
      at++;
    if (up->walk[at] == '\0')
      break;
    size_t part = at;
    while (up->walk[at] != '/' && up->walk[at] != '\0')
      at++;
    if (at - part > 255) {
      (void)sys_close((int)above);
      return -JB_ENAMETOOLONG;
    }
    char after = up->walk[at];
    up->walk[at] = '\0';
    long next = open_in_root(up, up->walk, O_PATH);
    if (next == -JB_ENOENT || next == -JB_ENOTDIR) {
      long made = make_implied(up, (int)above, up->walk + part);
      if (made == 0) {
        next = open_in_root(up, up->walk, O_PATH);
      } else if (made == -JB_ENOTDIR) {
        up->walk[at] = after;
        made = follow(up, (int)above, part, at);
        (void)sys_close((int)above);
        return made == 0 ? 1 : made == -JB_EINVAL ? -JB_ENOTDIR : made;
      } else {
        next = made;
      }
    }
    up->walk[at] = after;
    (void)sys_close((int)above);
    if (next < 0)
      return next;
    above = next;
  }
  (void)sys_close((int)above);
  return 0;
}

static long make_parents(struct unpack *up, size_t size)
{
  text_copy(up->walk, up->path, size);
  for (unsigned i = 0; i < LINKS_FOLLOWED; i++) {
    long rc = walk(up);
    if (rc <= 0)
      return rc;
  }
  return -JB_ELOOP;
}

/* The directory that up->path stands in, on the top of the stack. */
static struct parent *parent_of_entry(struct unpack *up, bool make, long *error)
{
  size_t size = base_of(up->path, up->path_size);
  if (size != 0)
    size--;
  while (up->depth != 0) {
    struct parent *top = &up->parents[up->depth - 1];
    size_t have = top->path_size;
    bool same =
      have <= size && (have == 0 || have == size || up->path[have] == '/');
    for (size_t i = 0; same && i < have; i++)
      same = up->open_path[i] == up->path[i];
    if (same && have == size)
      return top;
    if (same)
      break;
    leave(up);
  }
  char after = up->path[size];
  up->path[size] = '\0';
  long fd = open_in_root(up, up->path, O_RDONLY);
  if ((fd == -JB_ENOENT || fd == -JB_ENOTDIR) && make) {
    /* What it changes is to get its time back before anybody notes another. */
    leave_all(up);
    fd = make_parents(up, size);
    if (fd == 0)
      fd = open_in_root(up, up->path, O_RDONLY);
  }
  up->path[size] = after;
  if (fd >= 0)
    fd = enter(up, size, (int)fd);
  *error = fd;
  return fd < 0 ? NULL : &up->parents[up->depth - 1];
}

/* ---- notes -------------------------------------------------------------- */

/* Where the entry really is: its parent's name without links. */
static const char *real_path(struct unpack *up, size_t *size)
{
  const char *base = up->path + base_of(up->path, up->path_size);
  size_t length = text_length(base);
  long got = -1;
  if (up->depth != 0 && sys_fchdir(up->parents[up->depth - 1].fd) == 0)
    got = sys_getcwd(up->real, sizeof(up->real));
  if (got <= 0 || (size_t)got + length >= PATH_SIZE) {
    *size = up->path_size;
    return up->path;
  }
  size_t used = (size_t)got - 1; /* the NUL is counted */
  if (used != 1)
    up->real[used++] = '/';
  text_copy(up->real + used, base, length);
  *size = used + length - 1;
  return up->real + 1;
}

static uint32_t type_bits(const struct untar_entry *entry)
{
  switch (entry->type) {
  case UNTAR_LINK:
    return S_IFLNK;
  case UNTAR_CHARACTER:
    return S_IFCHR;
  case UNTAR_BLOCK_DEVICE:
    return S_IFBLK;
  case UNTAR_DIRECTORY:
    return S_IFDIR;
  case UNTAR_FIFO:
    return S_IFIFO;
  default:
    return S_IFREG;
  }
}

static int note(struct unpack *up, enum jb_note_kind kind, const char *text)
{
  const struct untar_entry *entry = up->entry;
  size_t size = entry->path_size;
  const char *path = entry->path;
  if (kind != JB_NOTE_IGNORED)
    path = real_path(up, &size);
  struct jb_note said = {
    .kind = (uint32_t)kind,
    .mode = type_bits(entry) | entry->mode,
    .uid = entry->uid,
    .gid = entry->gid,
    .major = entry->major,
    .minor = entry->minor,
    .path_size = (uint32_t)size,
    .text_size = (uint32_t)text_length(text),
  };
  return work_note(up->work, &said, path, text);
}

/* ---- metadata ----------------------------------------------------------- */

/* What metadata is given to: a descriptor, or a name in a directory (of a
 * link or a node, which is not opened). */
struct subject {
  int fd;
  const char *name; /* NULL: fd itself */
  uint32_t uid;     /* what it has */
  uint32_t gid;
  uint32_t mode;
  bool link;
};

static long give_owner(const struct subject *subject, uint32_t uid,
                       uint32_t gid)
{
  if (subject->name == NULL)
    return sys_fchownat(subject->fd, "", uid, gid, AT_EMPTY_PATH);
  return sys_fchownat(subject->fd, subject->name, uid, gid,
                      AT_SYMLINK_NOFOLLOW);
}

static long give_mode(const struct subject *subject, uint32_t mode)
{
  if (subject->name == NULL)
    return sys_fchmod(subject->fd, mode);
  /* Never a link: a node that was just made, in a directory of ours. */
  return sys_fchmodat(subject->fd, subject->name, mode);
}

static long give_time(const struct unpack *up, const struct subject *subject)
{
  const struct __kernel_timespec mtime = {up->entry->mtime_s,
                                          up->entry->mtime_ns};
  const struct __kernel_timespec times[2] = {mtime, mtime};
  return sys_utimensat(subject->fd, subject->name, times,
                       subject->name == NULL ? 0 : AT_SYMLINK_NOFOLLOW);
}

#define CAPABILITY_2 0x02000000u
#define CAPABILITY_3 0x03000000u
#define CAPABILITY_2_SIZE 20u
#define CAPABILITY_3_SIZE 24u

/* File capabilities are said for the root of a user namespace: the one that
 * the layer is unpacked in, or nobody's we know.  The kernel adds who that is
 * where it is not the first one. */
static bool good_capability(struct untar_xattr *attribute, char *as_2)
{
  const unsigned char *value = (const unsigned char *)attribute->value;
  uint32_t version = 0;
  uint32_t root = 0;
  if (attribute->size != CAPABILITY_2_SIZE &&
      attribute->size != CAPABILITY_3_SIZE)
    return false;
  for (unsigned i = 0; i < 4; i++)
    version |= (uint32_t)value[i] << (8 * i);
  if (attribute->size == CAPABILITY_2_SIZE)
    return (version & 0xff000000u) == CAPABILITY_2;
  for (unsigned i = 0; i < 4; i++)
    root |= (uint32_t)value[CAPABILITY_2_SIZE + i] << (8 * i);
  if ((version & 0xff000000u) != CAPABILITY_3 || root != 0)
    return false;
  for (size_t i = 0; i < CAPABILITY_2_SIZE; i++)
    as_2[i] = attribute->value[i];
  as_2[3] = (char)(CAPABILITY_2 >> 24);
  attribute->value = as_2;
  attribute->size = CAPABILITY_2_SIZE;
  return true;
}

static int give_attributes(struct unpack *up, const struct subject *subject)
{
  struct untar_xattr attribute;
  char capability[CAPABILITY_2_SIZE];
  size_t at = 0;
  while (untar_xattr(up->entry, &at, &attribute)) {
    const char *name = attribute.name;
    bool user =
      text_starts(name, "user.") && !text_starts(name, "user.overlay.");
    bool known = text_starts(name, "security.capability") &&
                 name[sizeof("security.capability") - 1] == '\0' &&
                 good_capability(&attribute, capability);
    long rc = -JB_EPERM;
    /* Marks of an overlay, labels of the host it came from, and what only
     * the host's root may say: none of it is for a layer to say. */
    if ((user || known) && subject->name == NULL)
      rc = sys_fsetxattr(subject->fd, name, attribute.value, attribute.size);
    if (rc == -JB_EPERM || rc == -JB_EOPNOTSUPP || rc == -JB_EINVAL) {
      if (note(up, JB_NOTE_XATTR, name) < 0)
        return -1;
    } else if (rc < 0) {
      return refused(up, rc);
    }
  }
  return 0;
}

/* Owner, then mode (a change of owner takes set-id bits away, and whoever
 * cannot have its owner does not get them), then attributes (likewise), then
 * time. */
static int give_all(struct unpack *up, const struct subject *subject)
{
  const struct untar_entry *entry = up->entry;
  uint32_t mode = entry->mode;
  bool foreign = entry->uid != subject->uid || entry->gid != subject->gid;
  long rc = 0;
  if (foreign && !up->one_id)
    rc = give_owner(subject, entry->uid, entry->gid);
  if (rc < 0 && rc != -JB_EINVAL)
    return refused(up, rc);
  bool kept = rc == 0 && foreign && !up->one_id;
  if (foreign && !kept) { /* an id that nobody here has */
    if ((entry->uid != 0 || entry->gid != 0) && note(up, JB_NOTE_OWNER, "") < 0)
      return -1;
    mode &= ~((entry->uid != 0 ? (uint32_t)S_ISUID : 0u) |
              (entry->gid != 0 ? (uint32_t)S_ISGID : 0u));
  }
  rc = 0;
  if (!subject->link && (mode != subject->mode || (kept && mode > 0777)))
    rc = give_mode(subject, mode);
  if (rc < 0)
    return refused(up, rc);
  if (entry->records_size != 0 && give_attributes(up, subject) < 0)
    return -1;
  rc = give_time(up, subject);
  return rc < 0 ? refused(up, rc) : 0;
}

/* ---- in the way --------------------------------------------------------- */

/* Take away what stands where the entry is to be.  The parent is new then:
 * a way that led through it may lead elsewhere now. */
static struct parent *clear(struct unpack *up, const char *base, long *error)
{
  struct parent *parent = parent_of_entry(up, true, error);
  if (parent == NULL)
    return NULL;
  uint64_t entries = up->work->worked.entries;
  parent->changed = true;
  *error = remove_all(up->work, parent->fd, base);
  up->work->worked.entries = entries;
  leave_all(up);
  return *error < 0 ? NULL : parent_of_entry(up, true, error);
}

/* ---- marks -------------------------------------------------------------- */

/* struct linux_dirent64 (getdents64(2)). */
struct dirent {
  uint64_t inode;
  int64_t next;
  unsigned short size;
  unsigned char type;
  char name[];
};

#define ENTRIES_SIZE ((size_t)32768)

static long hide(struct unpack *up, int merged, int upper, const char *name,
                 unsigned depth);

/* Take away what of a directory is not this layer's. */
static long hide_below(struct unpack *up, int merged, int upper, unsigned depth)
{
  char *entries = work_memory(up->work, ENTRIES_SIZE);
  long rc = 0;
  if (entries == NULL)
    return -JB_ENOMEM;
  if (depth > HIDE_DEPTH)
    rc = -JB_ELOOP;
  while (rc >= 0) {
    long got = sys_getdents64(merged, entries, ENTRIES_SIZE);
    if (got <= 0) {
      rc = got;
      break;
    }
    for (long at = 0; at < got && rc >= 0;) {
      const struct dirent *entry = (const void *)(entries + at);
      const char *name = entry->name;
      at += entry->size;
      if (name[0] != '.' ||
          (name[1] != '\0' && (name[1] != '.' || name[2] != '\0')))
        rc = hide(up, merged, upper, name, depth + 1);
    }
  }
  (void)sys_munmap(entries, ENTRIES_SIZE);
  return rc;
}

/* Take away what is called *name*, as far as it is not this layer's: what the
 * upper directory has, this layer brought, for nobody else wrote there. */
static long hide(struct unpack *up, int merged, int upper, const char *name,
                 unsigned depth)
{
  struct statx stat;
  uint64_t entries = up->work->worked.entries;
  long rc = upper < 0 ? -JB_ENOENT
                      : sys_statx(upper, name, AT_SYMLINK_NOFOLLOW,
                                  STATX_TYPE | STATX_MODE, &stat);
  if (rc == -JB_ENOENT || (rc == 0 && is_whiteout(&stat))) {
    rc = remove_all(up->work, merged, name);
    up->work->worked.entries = entries;
    return rc;
  }
  if (rc < 0 || (stat.stx_mode & S_IFMT) != S_IFDIR)
    return rc;
  long below = sys_openat(merged, name, OPEN_DIRECTORY | O_NOFOLLOW, 0);
  if (below < 0)
    return below;
  long ours = sys_openat(upper, name, OPEN_DIRECTORY | O_NOFOLLOW, 0);
  rc = ours < 0 ? ours : hide_below(up, (int)below, (int)ours, depth);
  if (ours >= 0)
    (void)sys_close((int)ours);
  (void)sys_close((int)below);
  return rc;
}

/* The directory of the upper that is *fd* in the overlay; -1: none. */
static long upper_of(struct unpack *up, int fd)
{
  struct open_how how = {
    .flags = OPEN_DIRECTORY,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
  };
  long got = sys_fchdir(fd);
  if (got == 0)
    got = sys_getcwd(up->real, sizeof(up->real));
  if (got < 0)
    return got;
  long dir = sys_openat2(up->work->upper, got <= 2 ? "." : up->real + 1, &how);
  return dir == -JB_ENOENT || dir == -JB_ENOTDIR ? -1 : dir;
}

static int mark_merged(struct unpack *up, const char *name)
{
  long error = 0;
  struct parent *parent = parent_of_entry(up, false, &error);
  if (parent == NULL)
    return error == -JB_ENOENT || error == -JB_ENOTDIR ? 0 : refused(up, error);
  long upper = upper_of(up, parent->fd);
  if (upper < -1)
    return refused(up, upper);
  long rc;
  parent->changed = true;
  if (name != NULL) {
    rc = hide(up, parent->fd, (int)upper, name, 0);
  } else {
    long listing = sys_openat(parent->fd, ".", OPEN_DIRECTORY, 0);
    rc = listing < 0 ? listing : hide_below(up, (int)listing, (int)upper, 0);
    if (listing >= 0)
      (void)sys_close((int)listing);
  }
  if (upper >= 0)
    (void)sys_close((int)upper);
  leave_all(up);
  return rc < 0 ? refused(up, rc) : 0;
}

static int mark_opaque(struct unpack *up, int fd)
{
  long rc = sys_fsetxattr(fd, OPAQUE, "y", 1);
  if (rc < 0)
    return work_refused(up->work, rc, OPAQUE);
  up->work->worked.numbers[NUMBER_OPAQUE]++;
  return 0;
}

static int mark_standalone(struct unpack *up, const char *name)
{
  struct statx stat;
  long rc = 0;
  struct parent *parent = parent_of_entry(up, false, &rc);
  if (parent == NULL)
    return rc == -JB_ENOENT || rc == -JB_ENOTDIR ? needs_lowers(up)
                                                 : refused(up, rc);
  if (name == NULL) /* an overlay does not ask the root of a layer */
    return parent->path_size == 0 ? needs_lowers(up)
                                  : mark_opaque(up, parent->fd);
  rc = sys_statx(parent->fd, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat);
  if (rc == -JB_ENOENT) {
    parent->changed = true;
    rc = sys_mknodat(parent->fd, name, S_IFCHR, 0);
    up->work->worked.numbers[NUMBER_WHITEOUTS]++;
  } else if (rc == 0 && (stat.stx_mode & S_IFMT) == S_IFDIR) {
    /* This layer's own, which stays; what it covers goes. */
    long dir = sys_openat(parent->fd, name, OPEN_DIRECTORY | O_NOFOLLOW, 0);
    if (dir < 0)
      return refused(up, dir);
    int marked = mark_opaque(up, (int)dir);
    (void)sys_close((int)dir);
    return marked;
  }
  return rc < 0 ? refused(up, rc) : 0;
}

/* An entry whose name says that something is not there. */
static int mark(struct unpack *up, const char *name)
{
  static const char opaque[] = ".wh..opq";
  bool all = text_starts(name, opaque) && name[sizeof(opaque) - 1] == '\0';
  if (!all && text_starts(name, ".wh.")) /* of aufs, for itself */
    return note(up, JB_NOTE_IGNORED, "");
  if (name[0] == '\0' ||
      (name[0] == '.' &&
       (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))))
    return give_up(up, JB_WORK_WHITEOUT, 0);
  if (up->bottom)
    return 0;
  return up->merged ? mark_merged(up, all ? NULL : name)
                    : mark_standalone(up, all ? NULL : name);
}

/* ---- files -------------------------------------------------------------- */

static int begin_file(struct unpack *up, const char *base)
{
  const int flags =
    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  unsigned mode = up->entry->mode & 0777u;
  long fd = 0;
  struct parent *parent = parent_of_entry(up, true, &fd);
  if (up->idle)
    return 0;
  if (parent != NULL) {
    parent->changed = true;
    fd = sys_openat(parent->fd, base, flags, (int)mode);
    if (fd == -JB_EEXIST) {
      parent = clear(up, base, &fd);
      if (parent != NULL) {
        parent->changed = true;
        fd = sys_openat(parent->fd, base, flags, (int)mode);
      }
    }
  }
  if (fd < 0)
    return refused(up, fd);
  up->file = (int)fd;
  up->position = 0;
  up->inherits = parent != NULL && parent->setgid;
  return 0;
}

static int on_data(void *context, uint64_t offset, const char *bytes,
                   size_t size)
{
  struct unpack *up = context;
  if (up->file < 0)
    return 0;
  if (offset != up->position) {
    long rc = sys_lseek(up->file, (int64_t)offset, 0);
    if (rc < 0)
      return refused(up, rc);
    up->position = offset;
  }
  while (size != 0) {
    long wrote = sys_write(up->file, bytes, size);
    if (wrote == -JB_EINTR)
      continue;
    if (wrote <= 0)
      return refused(up, wrote < 0 ? wrote : -JB_EIO);
    bytes += wrote;
    size -= (size_t)wrote;
    up->position += (uint64_t)wrote;
  }
  return 0;
}

static int on_end(void *context, const struct untar_entry *entry)
{
  struct unpack *up = context;
  if (up->file < 0)
    return 0;
  struct subject subject = {.fd = up->file, .mode = entry->mode & 0777u};
  int rc = 0;
  up->entry = entry;
  if (up->inherits) {
    struct statx stat;
    if (sys_statx(up->file, "", AT_EMPTY_PATH, STATX_GID, &stat) == 0)
      subject.gid = stat.stx_gid;
  }
  if (up->position < entry->size) {
    long cut = sys_ftruncate(up->file, (int64_t)entry->size);
    if (cut < 0)
      rc = refused(up, cut);
  }
  if (rc == 0)
    rc = give_all(up, &subject);
  (void)sys_close(up->file);
  up->file = -1;
  return rc;
}

/* ---- other entries ------------------------------------------------------ */

/* A directory that is there already takes on what the entry says, and nothing
 * else: attributes that it had are gone. */
static int forget_attributes(struct unpack *up, int fd)
{
  char names[4096];
  long got = JB_CALL3(__NR_flistxattr, fd, names, sizeof(names));
  if (got == -JB_EOPNOTSUPP)
    return 0;
  if (got < 0)
    return refused(up, got);
  for (long at = 0; at < got; at += (long)text_length(names + at) + 1) {
    const char *name = names + at;
    if (text_starts(name, "user.") && !text_starts(name, "user.overlay."))
      (void)JB_CALL2(__NR_fremovexattr, fd, name);
  }
  return 0;
}

static int give_directory(struct unpack *up, int fd)
{
  struct statx stat;
  long rc =
    sys_statx(fd, "", AT_EMPTY_PATH, STATX_MODE | STATX_UID | STATX_GID, &stat);
  if (rc < 0)
    return refused(up, rc);
  struct subject subject = {
    .fd = fd,
    .uid = stat.stx_uid,
    .gid = stat.stx_gid,
    .mode = stat.stx_mode & 07777u,
  };
  return give_all(up, &subject);
}

static int directory(struct unpack *up, const char *base)
{
  unsigned mode = up->entry->mode & 0777u;
  bool hides = false;
  bool fresh = true;
  long rc = 0;
  struct parent *parent = parent_of_entry(up, true, &rc);
  if (up->idle)
    return 0;
  if (parent == NULL)
    return refused(up, rc);
  parent->changed = true;
  rc = sys_mkdirat(parent->fd, base, mode);
  if (rc == -JB_EEXIST) {
    struct statx stat;
    rc = sys_statx(parent->fd, base, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat);
    fresh = rc < 0 || (stat.stx_mode & S_IFMT) != S_IFDIR;
    if (rc == 0 && fresh) {
      /* What stood here hid everything below, and so does what comes. */
      hides = !up->merged && !up->bottom;
      parent = clear(up, base, &rc);
      if (parent != NULL) {
        parent->changed = true;
        rc = sys_mkdirat(parent->fd, base, mode);
      }
    }
  }
  if (rc < 0 || parent == NULL)
    return refused(up, rc);
  bool plain = fresh && !hides && !parent->setgid && up->entry->uid == 0 &&
               up->entry->gid == 0 && up->entry->mode == mode &&
               up->entry->records_size == 0;
  if (plain) {
    struct subject subject = {.fd = parent->fd, .name = base};
    rc = give_time(up, &subject);
    return rc < 0 ? refused(up, rc) : 0;
  }
  long fd = sys_openat(parent->fd, base, OPEN_DIRECTORY | O_NOFOLLOW, 0);
  if (fd < 0)
    return refused(up, fd);
  int done = hides ? mark_opaque(up, (int)fd) : 0;
  if (done == 0 && !fresh)
    done = forget_attributes(up, (int)fd);
  if (done == 0)
    done = give_directory(up, (int)fd);
  (void)sys_close((int)fd);
  return done;
}

static bool is_device(const struct untar_entry *entry)
{
  return entry->type == UNTAR_CHARACTER || entry->type == UNTAR_BLOCK_DEVICE;
}

static long make_other(const struct unpack *up, int dir, const char *base)
{
  const struct untar_entry *entry = up->entry;
  unsigned device =
    (entry->minor & 0xffu) | entry->major << 8 | (entry->minor & ~0xffu) << 12;
  if (entry->type == UNTAR_LINK)
    return sys_symlinkat(entry->link, dir, base);
  return sys_mknodat(dir, base, type_bits(entry) | (entry->mode & 0777u),
                     is_device(entry) ? device : 0);
}

/* A link, a pipe, a device. */
static int other(struct unpack *up, const char *base)
{
  const struct untar_entry *entry = up->entry;
  bool device = is_device(entry);
  long rc = 0;
  if (entry->type == UNTAR_LINK && entry->link_size == 0)
    return give_up(up, JB_WORK_NAME, 0);
  struct parent *parent = parent_of_entry(up, true, &rc);
  if (up->idle)
    return 0;
  if (parent == NULL)
    return refused(up, rc);
  bool skipped =
    device && (up->one_id || (up->work->flags & JB_WORK_DEVICES) == 0 ||
               (entry->major == 0 && entry->minor == 0));
  rc = -JB_EPERM;
  if (!skipped) {
    parent->changed = true;
    rc = make_other(up, parent->fd, base);
    if (rc == -JB_EEXIST) {
      parent = clear(up, base, &rc);
      if (parent != NULL) {
        parent->changed = true;
        rc = make_other(up, parent->fd, base);
      }
    }
  }
  /* In a user namespace nobody makes devices. */
  if (rc == -JB_EPERM && device)
    return note(up, JB_NOTE_DEVICE, "");
  if (rc < 0 || parent == NULL)
    return refused(up, rc);
  struct subject subject = {
    .fd = parent->fd,
    .name = base,
    .mode = entry->mode & 0777u,
    .link = entry->type == UNTAR_LINK,
  };
  if (parent->setgid) {
    struct statx stat;
    if (sys_statx(parent->fd, base, AT_SYMLINK_NOFOLLOW, STATX_GID, &stat) == 0)
      subject.gid = stat.stx_gid;
  }
  return give_all(up, &subject);
}

/* ---- hard links --------------------------------------------------------- */

static bool same_file(int left, const char *left_name, int right,
                      const char *right_name)
{
  struct statx a;
  struct statx b;
  return sys_statx(left, left_name, AT_SYMLINK_NOFOLLOW, STATX_INO, &a) == 0 &&
         sys_statx(right, right_name, AT_SYMLINK_NOFOLLOW, STATX_INO, &b) ==
           0 &&
         a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major &&
         a.stx_dev_minor == b.stx_dev_minor;
}

/* Link to up->link: 0, or -ENOENT where the target is not there. */
static long make_link(struct unpack *up, const char *base)
{
  long rc = 0;
  size_t size = text_length(up->link);
  size_t at = base_of(up->link, size);
  const char *target = up->link + at;
  struct parent *parent = parent_of_entry(up, true, &rc);
  if (parent == NULL || up->idle)
    return rc;
  if (at != 0)
    up->link[at - 1] = '\0';
  long dir = open_in_root(up, at == 0 ? "" : up->link, O_PATH);
  if (at != 0)
    up->link[at - 1] = '/';
  if (dir < 0)
    return dir == -JB_ENOTDIR ? -JB_ENOENT : dir;
  parent->changed = true;
  rc = sys_linkat((int)dir, target, parent->fd, base, 0);
  if (rc == -JB_EEXIST) {
    if (same_file((int)dir, target, parent->fd, base)) {
      rc = 0;
    } else {
      struct statx stat;
      rc = sys_statx((int)dir, target, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat);
      if (rc == 0 && (stat.stx_mode & S_IFMT) == S_IFDIR)
        rc = -JB_EPERM;
      parent = rc == 0 ? clear(up, base, &rc) : NULL;
      if (parent != NULL) {
        parent->changed = true;
        rc = sys_linkat((int)dir, target, parent->fd, base, 0);
      }
    }
  }
  (void)sys_close((int)dir);
  return rc;
}

/* What the entry says is said of the file, which has several names. */
static int give_linked(struct unpack *up, const char *base)
{
  struct statx stat;
  const struct untar_entry *entry = up->entry;
  int dir = up->parents[up->depth - 1].fd;
  long rc = sys_statx(
    dir, base, AT_SYMLINK_NOFOLLOW,
    STATX_MODE | STATX_TYPE | STATX_UID | STATX_GID | STATX_MTIME, &stat);
  if (rc < 0)
    return refused(up, rc);
  struct subject subject = {
    .fd = dir,
    .name = base,
    .uid = stat.stx_uid,
    .gid = stat.stx_gid,
    .mode = stat.stx_mode & 07777u,
    .link = (stat.stx_mode & S_IFMT) == S_IFLNK,
  };
  if (is_whiteout(&stat))
    return give_up(up, JB_WORK_LINK, 0);
  bool same = entry->uid == stat.stx_uid && entry->gid == stat.stx_gid &&
              (subject.link || entry->mode == subject.mode) &&
              entry->mtime_s == stat.stx_mtime.tv_sec &&
              entry->mtime_ns == stat.stx_mtime.tv_nsec;
  if (same && entry->records_size == 0)
    return 0;
  if ((stat.stx_mode & S_IFMT) != S_IFREG)
    return give_all(up, &subject);
  long fd =
    sys_openat(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0)
    return refused(up, fd);
  subject.fd = (int)fd;
  subject.name = NULL;
  int done = give_all(up, &subject);
  (void)sys_close((int)fd);
  return done;
}

static int try_later(struct unpack *up)
{
  struct later later = {
    .index = up->entry->index,
    .path_size = (uint32_t)up->path_size,
    .link_size = (uint32_t)text_length(up->link),
  };
  size_t size =
    (sizeof(later) + later.path_size + later.link_size + 7) & ~(size_t)7;
  if (up->later == NULL) {
    up->later = work_memory(up->work, LINKS_SIZE + PATH_SIZE);
    if (up->later == NULL)
      return -1;
  }
  if (up->later_size + size > LINKS_SIZE)
    return up->merged || up->bottom ? give_up(up, JB_WORK_MAX_LINKS, 0)
                                    : needs_lowers(up);
  char *at = up->later + up->later_size;
  __builtin_memcpy(at, &later, sizeof(later));
  text_copy(at + sizeof(later), up->path, up->path_size);
  text_copy(at + sizeof(later) + up->path_size, up->link, later.link_size);
  up->later_size += size;
  return 0;
}

static int hard_link(struct unpack *up, const char *base)
{
  long length = clean(up->entry->link, up->link);
  if (length < 0)
    return give_up(up, JB_WORK_NAME, 0);
  if (length == 0)
    return give_up(up, JB_WORK_LINK, 0);
  long rc = make_link(up, base);
  if (up->idle)
    return 0;
  if (rc == -JB_ENOENT)
    return try_later(up);
  if (rc == -JB_EPERM) /* a directory */
    return give_up(up, JB_WORK_LINK, rc);
  return rc < 0 ? refused(up, rc) : give_linked(up, base);
}

static bool target_exists(struct unpack *up)
{
  struct statx stat;
  size_t at = base_of(up->link, text_length(up->link));
  if (at != 0)
    up->link[at - 1] = '\0';
  long dir = open_in_root(up, at == 0 ? "" : up->link, O_PATH);
  if (at != 0)
    up->link[at - 1] = '/';
  if (dir < 0)
    return false;
  long rc =
    sys_statx((int)dir, up->link + at, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat);
  (void)sys_close((int)dir);
  return rc == 0;
}

/* One of those, now that everything is there: 0, -ENOENT, or -1. */
static long try_again(struct unpack *up, const struct later *later,
                      const char *path)
{
  struct untar_entry entry = {
    .type = UNTAR_HARD_LINK,
    .index = later->index,
    .path = up->path,
    .path_size = later->path_size,
  };
  struct statx stat;
  long rc = 0;
  text_copy(up->path, path, later->path_size);
  text_copy(up->link, path + later->path_size, later->link_size);
  up->path_size = later->path_size;
  up->entry = &entry;
  up->untar->entry = later->index;
  const char *base = up->path + base_of(up->path, up->path_size);
  const struct parent *parent = parent_of_entry(up, true, &rc);
  if (parent == NULL)
    return refused(up, rc);
  /* Another entry of that name came later, too: it stays. */
  if (sys_statx(parent->fd, base, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stat) == 0)
    return target_exists(up) ? 0 : -JB_ENOENT;
  rc = make_link(up, base);
  if (rc == -JB_EPERM)
    return give_up(up, JB_WORK_LINK, rc);
  if (rc < 0 && rc != -JB_ENOENT)
    return refused(up, rc);
  return rc;
}

/* Hard links to what came later, in any order: until nothing is left, or a
 * pass over them finds none. */
static int late_links(struct unpack *up)
{
  uint64_t entries = up->untar->entry;
  bool left = up->later_size != 0;
  bool found = true;
  for (int pass = 0; left && found && pass < LINK_PASSES; pass++) {
    left = false;
    found = false;
    for (size_t at = 0; at < up->later_size;) {
      struct later later;
      char *record = up->later + at;
      __builtin_memcpy(&later, record, sizeof(later));
      at +=
        (sizeof(later) + later.path_size + later.link_size + 7) & ~(size_t)7;
      if (later.index == ~(uint64_t)0)
        continue;
      long rc = try_again(up, &later, record + sizeof(later));
      if (rc == -1)
        return -1;
      if (rc == -JB_ENOENT) {
        left = true;
        continue;
      }
      found = true;
      later.index = ~(uint64_t)0;
      __builtin_memcpy(record, &later, sizeof(later));
    }
  }
  if (left && !up->merged && !up->bottom)
    return needs_lowers(up);
  if (left)
    return give_up(up, JB_WORK_LINK, 0);
  up->untar->entry = entries;
  return 0;
}

/* ---- entries ------------------------------------------------------------ */

/* "a/." is not a name of a link, and ".." is not one of a file. */
static bool ends_in_dots(const struct untar_entry *entry)
{
  const char *end = entry->path + entry->path_size;
  size_t dots = 0;
  while (dots < entry->path_size && end[-1 - (long)dots] == '.')
    dots++;
  return (dots == 1 || dots == 2) &&
         (dots == entry->path_size || end[-1 - (long)dots] == '/');
}

/* Nothing takes the place of the root.  What has no name at all is passed over,
 * as others do; what leads there by ".." means no good. */
static int root_entry(struct unpack *up)
{
  const struct untar_entry *entry = up->entry;
  if (entry->type != UNTAR_DIRECTORY) {
    for (size_t i = 0; i + 1 < entry->path_size; i++)
      if (entry->path[i] == '.' && entry->path[i + 1] == '.')
        return give_up(up, JB_WORK_ROOT, 0);
    return note(up, JB_NOTE_IGNORED, "");
  }
  leave_all(up);
  int rc = up->merged ? forget_attributes(up, up->work->root) : 0;
  return rc < 0 ? rc : give_directory(up, up->work->root);
}

static int on_entry(void *context, const struct untar_entry *entry)
{
  static const char aufs[] = ".wh..wh.plnk";
  struct unpack *up = context;
  uint32_t max_depth = up->work->order->max_depth;
  up->entry = entry;
  if (up->idle)
    return 0;
  long size = clean(entry->path, up->path);
  if (size < 0)
    return give_up(up, JB_WORK_NAME, JB_ENAMETOOLONG);
  up->path_size = (size_t)size;
  if (max_depth != 0 && depth_of(up->path) > max_depth)
    return give_up(up, JB_WORK_MAX_DEPTH, 0);
  if (size == 0)
    return root_entry(up);
  if (entry->type != UNTAR_DIRECTORY && ends_in_dots(entry))
    return give_up(up, JB_WORK_ROOT, 0);
  const char *base = up->path + base_of(up->path, up->path_size);
  /* Where aufs kept files with several names; hard links lead there. */
  bool aufs_links =
    text_starts(up->path, aufs) &&
    (up->path[sizeof(aufs) - 1] == '/' || up->path[sizeof(aufs) - 1] == '\0');
  if (!aufs_links && text_starts(base, ".wh."))
    return mark(up, base + sizeof(".wh.") - 1);
  switch (entry->type) {
  case UNTAR_FILE:
    return begin_file(up, base);
  case UNTAR_DIRECTORY:
    return directory(up, base);
  case UNTAR_HARD_LINK:
    return hard_link(up, base);
  default:
    return other(up, base);
  }
}

/* ---- the work ----------------------------------------------------------- */

static long on_read(void *context, char *buffer, size_t size)
{
  struct unpack *up = context;
  long got;
  do
    got = sys_read(up->work->stream, buffer, size);
  while (got == -JB_EINTR);
  return got;
}

int work_unpack(struct work *work)
{
  struct unpack *up = work_memory(work, sizeof(*up));
  struct untar *tar = work_memory(work, sizeof(*tar));
  char *buffer = work_memory(work, UNTAR_BUFFER);
  if (up == NULL || tar == NULL || buffer == NULL)
    return -1;
  const struct untar_calls calls = {
    .context = up,
    .read = on_read,
    .entry = on_entry,
    .data = on_data,
    .end = on_end,
  };
  up->work = work;
  up->untar = tar;
  up->file = -1;
  up->merged = (work->flags & JB_WORK_MERGE) != 0;
  up->bottom = (work->flags & JB_WORK_BOTTOM) != 0;
  up->one_id = (work->flags & JB_WORK_ONE_ID) != 0;
  tar->calls = &calls;
  tar->buffer = buffer;
  tar->max_bytes = work->order->max_bytes;
  tar->max_entries = work->order->max_entries;
  (void)sys_fcntl(work->stream, F_SETPIPE_SZ, PIPE_SIZE);
  int rc = untar(tar);
  if (rc < 0 && work->worked.reason == JB_WORK_DONE)
    (void)work_fail(work, tar->reason, tar->error, tar->path, 0);
  if (rc == 0 && !tar->ended && (work->flags & JB_WORK_UNENDED) == 0)
    rc = work_fail(work, JB_WORK_TRUNCATED, 0, "", 0);
  if (rc == 0 && !up->idle)
    rc = late_links(up);
  leave_all(up);
  if (tar->ended)
    work->worked.flags |= JB_WORKED_ENDED;
  work->worked.entry = tar->entry;
  work->worked.entries = tar->entry;
  work->worked.bytes = tar->bytes;
  work->worked.numbers[NUMBER_READ] = tar->read;
  return rc;
}
