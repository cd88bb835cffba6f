/* tree_layer.c - what the writable layer of an overlay changed.
 *
 * PROBLEM  An upper directory says what was copied up, not what is different:
 *          opening a file for writing copies it, renaming there and back
 *          does, changing one name of a hard link does.
 * CHOICE   Walk the upper and the lower side by side and compare.  A file with
 *          the same mode, owner, time and bytes is no change.  The lower is
 *          *one* directory: whoever has several layers mounts an overlay of
 *          them, and the kernel resolves what they do to each other.
 * MARKS    (kernel, Documentation/filesystems/overlayfs.rst)
 *            character device 0:0            nothing is here
 *            overlay.opaque = "y"            a directory hides the lower's
 *            overlay.opaque = "x"            empty files with overlay.whiteout
 *                                            in it are such devices (6.7)
 *            overlay.redirect = path         a renamed directory, whose lower
 *                                            part stands there
 *          in trusted.* or user.*, as the overlay was mounted; the other kind
 *          is ordinary data of the jail, so only one is believed.
 * REPORTS  A removed directory is one change; an added one is a change for
 *          everything in it; a renamed one is both.  The time of a directory
 *          is no change: it follows from what happened in it. */
#include "tree_internal.h"

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int fail(struct tree_layer *layer, int op, long error)
{
  return tree_fail(layer->report, op, error, layer->path.text,
                   layer->path.size);
}

/* ---- marks ---- */

long tree_layer_mark(const struct tree_layer *layer, int fd, bool opaque,
                     char *value, size_t size)
{
  bool user = (layer->roots->flags & JB_TREE_USERXATTR) != 0;
  const char *name =
    opaque ? (user ? "user.overlay.opaque" : "trusted.overlay.opaque")
           : (user ? "user.overlay.redirect" : "trusted.overlay.redirect");
  return sys_fgetxattr(fd, name, value, size);
}

bool tree_layer_whiteout(const struct tree_layer *layer,
                         const struct tree_layer_dir *dir, const char *name,
                         const struct statx *stat)
{
  if ((stat->stx_mode & S_IFMT) == S_IFCHR)
    return stat->stx_rdev_major == 0 && stat->stx_rdev_minor == 0;
  if (!dir->marks || (stat->stx_mode & S_IFMT) != S_IFREG ||
      stat->stx_size != 0)
    return false;
  int fd = (int)sys_openat(dir->upper, name, OPEN_FLAGS, 0);
  bool user = (layer->roots->flags & JB_TREE_USERXATTR) != 0;
  bool marked = fd >= 0 && sys_fgetxattr(fd,
                                         user ? "user.overlay.whiteout"
                                              : "trusted.overlay.whiteout",
                                         NULL, 0) >= 0;
  tree_shut(&fd);
  return marked;
}

/* ---- comparing ---- */

uint32_t tree_layer_id(uint32_t id, uint32_t base)
{
  /* What is outside of the jail's range is nobody's in it. */
  return id >= base ? id - base : 65534;
}

static void as_inside(struct statx *stat, uint32_t base)
{
  stat->stx_uid = tree_layer_id(stat->stx_uid, base);
  stat->stx_gid = tree_layer_id(stat->stx_gid, base);
}

/* Read exactly *size* bytes, or what there is. */
static long read_fully(int fd, uint8_t *buffer, size_t size, uint64_t offset)
{
  size_t got = 0;
  while (got < size) {
    long more =
      sys_pread64(fd, buffer + got, size - got, (int64_t)(offset + got));
    if (more == -JB_EINTR)
      continue;
    if (more < 0)
      return more;
    if (more == 0)
      break;
    got += (size_t)more;
  }
  return (long)got;
}

/* 1 when two open files of the same size have different bytes, else 0. */
static int content_differs(struct tree_layer *layer, int now, int old)
{
  uint8_t *left = layer->scratch;
  uint8_t *right = layer->scratch + TREE_SCRATCH;
  for (uint64_t offset = 0;;) {
    long n = read_fully(now, left, TREE_SCRATCH, offset);
    long m = read_fully(old, right, TREE_SCRATCH, offset);
    if (n < 0 || m < 0)
      return fail(layer, JB_TREE_OP_READ, n < 0 ? n : m);
    if (n != m || memcmp(left, right, (size_t)n) != 0)
      return 1;
    if (n < (long)TREE_SCRATCH)
      return 0;
    offset += (uint64_t)n;
  }
}

/* 1 when the file capabilities differ, else 0.  The version of the record and
 * the owner in it are translated on every way through a user namespace. */
static int capability_differs(int now, int old)
{
  uint8_t left[24] = {0};
  uint8_t right[24] = {0};
  long n = sys_fgetxattr(now, "security.capability", left, sizeof(left));
  long m = sys_fgetxattr(old, "security.capability", right, sizeof(right));
  if (n < 20 || m < 20)
    return (n >= 20) != (m >= 20);
  return (left[0] & 1) != (right[0] & 1) ||
         memcmp(left + 4, right + 4, 16) != 0;
}

/* Is every attribute user.* of *one* also *other*'s?  1: no. */
static int misses_xattr(struct tree_layer *layer, int one, int other)
{
  char *names = (char *)layer->scratch;
  uint8_t *value = layer->scratch + TREE_SCRATCH;
  const size_t half = TREE_SCRATCH / 2;
  long size = JB_CALL3(__NR_flistxattr, one, names, (size_t)TREE_SCRATCH);
  for (long at = 0; at < size;) {
    const char *name = names + at;
    size_t length = tree_length(name);
    at += (long)length + 1;
    if (length < 6 || memcmp(name, "user.", 5) != 0 ||
        (length >= 13 && memcmp(name, "user.overlay.", 13) == 0))
      continue;
    long n = sys_fgetxattr(one, name, value, half);
    long m = sys_fgetxattr(other, name, value + half, half);
    if (n != m || (n > 0 && memcmp(value, value + half, (size_t)n) != 0))
      return 1;
  }
  return 0;
}

/* What differs inside of two files or directories; -1 when they could not be
 * read. */
static int compare_opened(struct tree_layer *layer,
                          const struct tree_layer_dir *dir, const char *name,
                          const struct statx *now_stat,
                          const struct statx *old_stat)
{
  int what = 0;
  int now = (int)sys_openat(dir->upper, name, OPEN_FLAGS, 0);
  if (now < 0)
    return fail(layer, JB_TREE_OP_OPEN, now);
  int old = (int)sys_openat(dir->lower, name, OPEN_FLAGS, 0);
  if (old < 0) {
    tree_shut(&now);
    return fail(layer, JB_TREE_OP_OPEN, old);
  }
  int differs = now_stat->stx_size != old_stat->stx_size;
  if ((now_stat->stx_mode & S_IFMT) == S_IFDIR)
    differs = 0;
  else if (!differs)
    differs = content_differs(layer, now, old);
  if (differs > 0)
    what |= (int)JB_TREE_CONTENT;
  if (capability_differs(now, old) || misses_xattr(layer, now, old) ||
      misses_xattr(layer, old, now))
    what |= (int)JB_TREE_ATTRIBUTES;
  tree_shut(&now);
  tree_shut(&old);
  return differs < 0 ? -1 : what;
}

int tree_layer_compare(struct tree_layer *layer,
                       const struct tree_layer_dir *dir, const char *name,
                       const struct statx *now, const struct statx *old,
                       size_t link_sizes[2])
{
  unsigned what = 0;
  unsigned type = now->stx_mode & S_IFMT;
  if (now->stx_mode != old->stx_mode)
    what |= JB_TREE_MODE_BITS;
  if (now->stx_uid != old->stx_uid || now->stx_gid != old->stx_gid)
    what |= JB_TREE_OWNERSHIP;
  if (type != S_IFDIR && (now->stx_mtime.tv_sec != old->stx_mtime.tv_sec ||
                          now->stx_mtime.tv_nsec != old->stx_mtime.tv_nsec))
    what |= JB_TREE_MTIME;
  if (type == S_IFREG || type == S_IFDIR) {
    int inside = compare_opened(layer, dir, name, now, old);
    return inside < 0 ? -1 : (int)what | inside;
  }
  if (type == S_IFLNK) {
    if (link_sizes[0] != link_sizes[1] ||
        memcmp(layer->scratch, layer->scratch + TREE_SCRATCH, link_sizes[0]) !=
          0)
      what |= JB_TREE_CONTENT;
  } else if (now->stx_rdev_major != old->stx_rdev_major ||
             now->stx_rdev_minor != old->stx_rdev_minor) {
    what |= JB_TREE_CONTENT;
  }
  return (int)what;
}

/* ---- reporting ---- */

/* Links are in the two halves of the scratch memory. */
static int emit(struct tree_layer *layer, enum jb_tree_kind kind, int what,
                const struct statx *now, const struct statx *old,
                const size_t link_sizes[2])
{
  struct jb_tree_change change = {.kind = kind,
                                  .what = (uint32_t)what,
                                  .path_size = (uint32_t)layer->path.size};
  if (layer->report->entries >= layer->limits.entries)
    return tree_fail_bound(layer->report, JB_TREE_BOUND_ENTRIES, &layer->path);
  if (now != NULL) {
    tree_entry_fill(&change.now, now);
    change.now.link_size = (uint32_t)link_sizes[0];
  }
  if (old != NULL) {
    tree_entry_fill(&change.old, old);
    change.old.link_size = (uint32_t)link_sizes[1];
  }
  uint8_t *payload = tree_wire_begin(layer->wire);
  uint8_t *at = payload;
  memcpy(at, &change, sizeof(change));
  at += sizeof(change);
  memcpy(at, layer->path.text, layer->path.size);
  at += layer->path.size;
  memcpy(at, layer->scratch, change.now.link_size);
  at += change.now.link_size;
  memcpy(at, layer->scratch + TREE_SCRATCH, change.old.link_size);
  at += change.old.link_size;
  tree_wire_end(layer->wire, JB_TREE_CHANGE, (size_t)(at - payload));
  layer->report->entries++;
  return 0;
}

int tree_layer_look(struct tree_layer *layer, int dir, const char *name,
                    uint32_t base, struct statx *stat, size_t half,
                    size_t link_sizes[2])
{
  link_sizes[half] = 0;
  if (dir < 0)
    return 0;
  long error = tree_stat(dir, name, stat);
  if (error == -JB_ENOENT || error == -JB_ENOTDIR)
    return 0;
  if (error < 0)
    return fail(layer, JB_TREE_OP_STAT, error);
  as_inside(stat, base);
  if ((stat->stx_mode & S_IFMT) == S_IFLNK) {
    long size =
      sys_readlinkat(dir, name, (char *)layer->scratch + half * TREE_SCRATCH,
                     JB_TREE_LINK_MAX);
    if (size == -JB_ENOENT || size == -JB_EINVAL)
      return 0;
    if (size < 0)
      return fail(layer, JB_TREE_OP_READLINK, size);
    link_sizes[half] = (size_t)size;
  }
  return 1;
}

/* ---- going down ---- */

/* Whether the directory at the path is the upper's alone.  For a directory
 * that both halves have, the overlay counts one link, and for others those of
 * the file system (fs/overlayfs/inode.c, ovl_getattr): that is how who may
 * not read trusted.overlay.opaque sees it. */
static bool hides_lower(const struct tree_layer *layer)
{
  struct statx stat;
  char path[TREE_LAYER_PATH_MAX + 1];
  if (layer->roots->merged < 0 || layer->path.size >= sizeof(path))
    return false;
  memcpy(path, layer->path.text, layer->path.size);
  path[layer->path.size] = '\0';
  struct tree_place place = {.dir = layer->roots->merged,
                             .path = layer->path.size == 0 ? "." : path,
                             .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                        RESOLVE_NO_XDEV};
  int fd = (int)tree_open(&place, O_PATH);
  bool hides = fd >= 0 &&
               sys_statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &stat) == 0 &&
               stat.stx_nlink != 1;
  tree_shut(&fd);
  return hides;
}

/* Go into a directory whose parts are open; takes both.  *opaque*: even
 * without a mark, because it stands in a directory that has one. */
static int enter(struct tree_layer *layer, int upper, int lower, bool all_new,
                 bool opaque)
{
  if (layer->depth >= layer->limits.depth ||
      layer->path.size > TREE_LAYER_PATH_MAX - JB_TREE_NAME_MAX - 1) {
    tree_shut(&upper);
    tree_shut(&lower);
    return tree_fail_bound(layer->report, JB_TREE_BOUND_DEPTH, &layer->path);
  }
  struct tree_layer_dir *dir = &layer->dirs[layer->depth];
  *dir = (struct tree_layer_dir){
    .list = {.fd = upper >= 0 ? upper : lower,
             .dents = layer->dents + layer->depth * TREE_DENTS},
    .upper = upper,
    .lower = lower,
    .all_new = all_new,
    .opaque = opaque,
    .second = upper < 0,
    .path_size = layer->path.size};
  char mark = '\0';
  if (upper >= 0 && tree_layer_mark(layer, upper, true, &mark, 1) == 1) {
    dir->opaque |= mark == 'y';
    dir->marks = mark == 'x';
  }
  if (upper >= 0 && lower >= 0 && !all_new)
    dir->opaque |= hides_lower(layer);
  layer->depth++;
  return 0;
}

/* The lower part of a directory that was renamed, or -errno; -ENODATA when it
 * was not. */
static long open_redirect(struct tree_layer *layer,
                          const struct tree_layer_dir *dir, int upper)
{
  char target[JB_TREE_PATH_MAX + 1];
  long size = tree_layer_mark(layer, upper, false, target, JB_TREE_PATH_MAX);
  if (size <= 0)
    return -JB_ENODATA;
  target[size] = '\0';
  bool absolute = target[0] == '/';
  struct tree_place place = {.dir = absolute ? layer->roots->lower : dir->lower,
                             .path = absolute ? target + 1 : target,
                             .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                        RESOLVE_NO_XDEV};
  long fd =
    place.dir < 0 ? -JB_ENOENT : tree_open(&place, O_RDONLY | O_DIRECTORY);
  return fd == -JB_ENODATA ? -JB_ENOENT : fd;
}

/* A directory of the upper, which is *dir*'s child. */
static int enter_child(struct tree_layer *layer,
                       const struct tree_layer_dir *dir, const char *name,
                       bool added)
{
  int upper = (int)sys_openat(dir->upper, name, OPEN_DIRECTORY, 0);
  if (upper == -JB_ENOENT || upper == -JB_ENOTDIR || upper == -JB_ELOOP)
    return 0; /* removed while we looked */
  if (upper < 0)
    return fail(layer, JB_TREE_OP_OPEN, upper);
  long lower = open_redirect(layer, dir, upper);
  if (lower >= 0)
    return enter(layer, upper, (int)lower, true, false);
  bool all_new = added || dir->all_new;
  char mark = '\0';
  bool hides =
    tree_layer_mark(layer, upper, true, &mark, 1) == 1 && mark == 'y';
  lower = -1;
  /* What stands below an added directory shows through, unless it was new in
   * every respect. */
  if (dir->lower >= 0 && !(all_new && (hides || added)))
    lower = sys_openat(dir->lower, name, OPEN_DIRECTORY, 0);
  return enter(layer, upper, lower < 0 ? -1 : (int)lower, all_new, dir->opaque);
}

/* ---- the machine ---- */

static int upper_child(struct tree_layer *layer,
                       const struct tree_layer_dir *dir, const char *name)
{
  struct statx now, old;
  size_t links[2];
  int found = tree_layer_look(layer, dir->upper, name, layer->roots->upper_base,
                              &now, 0, links);
  if (found <= 0)
    return found;
  int before = tree_layer_look(layer, dir->lower, name,
                               layer->roots->lower_base, &old, 1, links);
  if (before < 0)
    return -1;
  if (tree_layer_whiteout(layer, dir, name, &now)) {
    /* In an opaque or a new directory the second pass says so. */
    if (before == 0 || dir->opaque || dir->all_new)
      return 0;
    links[0] = 0;
    return emit(layer, JB_TREE_REMOVED, 0, NULL, &old, links);
  }
  bool directory = (now.stx_mode & S_IFMT) == S_IFDIR;
  bool same_type = before && ((now.stx_mode ^ old.stx_mode) & S_IFMT) == 0;
  if (dir->all_new) {
    if (emit(layer, JB_TREE_ADDED, 0, &now, NULL, links) < 0)
      return -1;
    return directory ? enter_child(layer, dir, name, !same_type) : 0;
  }
  if (same_type && directory) {
    int fd = (int)sys_openat(dir->upper, name, OPEN_DIRECTORY, 0);
    long redirect = fd < 0 ? -JB_ENODATA : open_redirect(layer, dir, fd);
    tree_shut(&fd);
    if (redirect != -JB_ENODATA) {
      /* Another directory came to stand here. */
      fd = (int)redirect;
      tree_shut(&fd);
      same_type = false;
    }
  }
  if (!same_type) {
    if (before && emit(layer, JB_TREE_REMOVED, 0, NULL, &old, links) < 0)
      return -1;
    if (emit(layer, JB_TREE_ADDED, 0, &now, NULL, links) < 0)
      return -1;
    return directory ? enter_child(layer, dir, name, true) : 0;
  }
  int what = tree_layer_compare(layer, dir, name, &now, &old, links);
  if (what < 0)
    return -1;
  /* compare() may have used the memory where links were; files have none. */
  if (what != 0 && emit(layer, JB_TREE_MODIFIED, what, &now, &old, links) < 0)
    return -1;
  return directory ? enter_child(layer, dir, name, false) : 0;
}

static int lower_child(struct tree_layer *layer,
                       const struct tree_layer_dir *dir, const char *name)
{
  struct statx now, old;
  size_t links[2];
  int shown = tree_layer_look(layer, dir->upper, name, layer->roots->upper_base,
                              &now, 0, links);
  if (shown < 0)
    return -1;
  bool removed = shown && tree_layer_whiteout(layer, dir, name, &now);
  if (shown && !removed)
    return 0; /* met in the first pass */
  int before = tree_layer_look(layer, dir->lower, name,
                               layer->roots->lower_base, &old, 1, links);
  if (before <= 0)
    return before;
  if (!dir->all_new) {
    links[0] = 0;
    return emit(layer, JB_TREE_REMOVED, 0, NULL, &old, links);
  }
  if (removed)
    return 0;
  /* Came along with a renamed directory, as it was. */
  memcpy(layer->scratch, layer->scratch + TREE_SCRATCH, links[1]);
  links[0] = links[1];
  if (emit(layer, JB_TREE_ADDED, 0, &old, NULL, links) < 0)
    return -1;
  if ((old.stx_mode & S_IFMT) != S_IFDIR)
    return 0;
  int fd = (int)sys_openat(dir->lower, name, OPEN_DIRECTORY, 0);
  if (fd < 0)
    return fail(layer, JB_TREE_OP_OPEN, fd);
  return enter(layer, -1, fd, true, false);
}

int tree_layer_begin(struct tree_layer *layer)
{
  const struct jb_tree_roots *roots = layer->roots;
  int upper = (int)sys_openat(roots->upper, ".", OPEN_DIRECTORY, 0);
  if (upper < 0)
    return fail(layer, JB_TREE_OP_OPEN, upper);
  int lower = -1;
  if (roots->lower >= 0) {
    lower = (int)sys_openat(roots->lower, ".", OPEN_DIRECTORY, 0);
    if (lower < 0) {
      tree_shut(&upper);
      return fail(layer, JB_TREE_OP_OPEN, lower);
    }
  }
  return enter(layer, upper, lower, false, false);
}

int tree_layer_step(struct tree_layer *layer)
{
  if (layer->depth == 0)
    return 0;
  struct tree_layer_dir *dir = &layer->dirs[layer->depth - 1];
  struct tree_dirent child;
  layer->path.size = dir->path_size;
  long more = tree_list_next(&dir->list, &child);
  if (more < 0)
    return fail(layer, JB_TREE_OP_LIST, more);
  if (more == 0) {
    if (!dir->second && dir->lower >= 0 && (dir->opaque || dir->all_new)) {
      dir->second = true;
      dir->list.fd = dir->lower;
      dir->list.at = dir->list.end = 0;
      return 1;
    }
    tree_shut(&dir->upper);
    tree_shut(&dir->lower);
    layer->depth--;
    return 1;
  }
  (void)tree_path_add(&layer->path, child.name, child.size);
  int failed = dir->second ? lower_child(layer, dir, child.name)
                           : upper_child(layer, dir, child.name);
  return failed < 0 ? -1 : 1;
}

void tree_layer_close(struct tree_layer *layer)
{
  while (layer->depth > 0) {
    struct tree_layer_dir *dir = &layer->dirs[--layer->depth];
    tree_shut(&dir->upper);
    tree_shut(&dir->lower);
  }
}
