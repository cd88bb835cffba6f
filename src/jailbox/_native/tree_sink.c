/* tree_sink.c - frames become files; and files are removed.
 *
 * PROBLEM  The frames may come from an enemy, and the directory that they go
 *          to may be rearranged by one.  Neither may lead to a file outside
 *          of it, and nobody may find half a file under its name.
 * CHOICE   A stack of open directories.  Each name is one component, used in
 *          the innermost of them with O_NOFOLLOW or with calls that follow
 *          nothing; a link is made, never passed.  What replaces something is
 *          made beside it and renamed.
 * FRESH    A directory that we made ourselves, and that still has a temporary
 *          name, needs none of that for what is in it: one rename at the end
 *          shows all.  This is also what makes ten thousand files cheap. */
#include "tree_internal.h"

void tree_temporary(char name[TREE_TEMP_NAME])
{
  static const char digits[16] = {'0', '1', '2', '3', '4', '5', '6', '7',
                                  '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};
  uint64_t number = 0;
  (void)JB_CALL3(__NR_getrandom, &number, sizeof(number), 0);
  memcpy(name, ".jb-", 4);
  for (size_t i = 0; i < 16; i++, number >>= 4)
    name[4 + i] = digits[number & 15];
  name[20] = '\0';
}

/* ---- small things ---- */

static int fail(struct tree_sink *sink, int op, long error)
{
  return tree_fail(sink->report, op, error, sink->path.text, sink->path.size);
}

static int parent_of(const struct tree_sink *sink)
{
  return sink->depth == 0 ? sink->top : sink->dirs[sink->depth - 1].fd;
}

static bool in_fresh(const struct tree_sink *sink)
{
  return sink->depth != 0 && sink->dirs[sink->depth - 1].fresh;
}

/* Does what is made in this directory get its group or mode from it?  When
 * that cannot be seen, it may. */
static bool gives_inheritance(int fd)
{
  struct statx stat;
  if (tree_stat(fd, "", &stat) < 0 || (stat.stx_mode & S_ISGID) != 0)
    return true;
  long acl = sys_fgetxattr(fd, "system.posix_acl_default", NULL, 0);
  return acl != -JB_ENODATA && acl != -JB_EOPNOTSUPP;
}

static bool inherits(const struct tree_sink *sink)
{
  return sink->depth == 0 || sink->dirs[sink->depth - 1].inherits;
}

/* Would something new belong to somebody else than it should? */
static bool must_chown(const struct tree_sink *sink, uint32_t uid, uint32_t gid)
{
  return inherits(sink) || uid != sink->self_uid || gid != sink->self_gid;
}

static uint32_t mode_of(const struct tree_sink *sink, uint32_t mode)
{
  return mode & (sink->keep_setid ? 07777u : 0777u);
}

static long write_time(int fd, const char *name, int64_t time_s,
                       uint32_t time_ns)
{
  /* One and the same for both: what was read last is not worth more. */
  struct __kernel_timespec times[2] = {{.tv_sec = time_s, .tv_nsec = time_ns},
                                       {.tv_sec = time_s, .tv_nsec = time_ns}};
  return sys_utimensat(fd, name, times, name == NULL ? 0 : AT_SYMLINK_NOFOLLOW);
}

static int set_time(struct tree_sink *sink, int fd, const char *name,
                    int64_t time_s, uint32_t time_ns)
{
  long error = write_time(fd, name, time_s, time_ns);
  return error < 0 ? fail(sink, JB_TREE_OP_TIME, error) : 0;
}

static int set_xattrs(struct tree_sink *sink, int fd, const uint8_t *at,
                      size_t size)
{
  while (size > 0) {
    uint32_t sizes[2];
    char name[256];
    if (size < sizeof(sizes))
      return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
    memcpy(sizes, at, sizeof(sizes));
    at += sizeof(sizes);
    size -= sizeof(sizes);
    if (sizes[0] >= sizeof(name) || sizes[0] > size ||
        sizes[1] > size - sizes[0])
      return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
    memcpy(name, at, sizes[0]);
    name[sizes[0]] = '\0';
    /* Only what any owner may write, and nothing an overlay believes. */
    if (tree_length(name) != sizes[0] || sizes[0] < 6 ||
        memcmp(name, "user.", 5) != 0 ||
        (sizes[0] >= 13 && memcmp(name, "user.overlay.", 13) == 0))
      return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
    long error = JB_CALL5(__NR_fsetxattr, fd, name, at + sizes[0], sizes[1], 0);
    if (error < 0)
      return fail(sink, JB_TREE_OP_XATTR, error);
    at += (size_t)sizes[0] + sizes[1];
    size -= (size_t)sizes[0] + sizes[1];
  }
  return 0;
}

/* May *name* be replaced by a file or link?  Fills in *stat; its mode is 0
 * when nothing is there. */
static int check_replaced(struct tree_sink *sink, int parent, const char *name,
                          struct statx *stat)
{
  long error = tree_stat(parent, name, stat);
  if (error == -JB_ENOENT) {
    stat->stx_mode = 0;
    return 0;
  }
  if (error < 0)
    return fail(sink, JB_TREE_OP_STAT, error);
  unsigned type = stat->stx_mode & S_IFMT;
  if (type == S_IFDIR)
    return fail(sink, JB_TREE_OP_REPLACE, JB_EISDIR);
  /* A device or pipe is somebody's: writing "to" it must not destroy it. */
  if ((type != S_IFREG && type != S_IFLNK) || !sink->replace ||
      (sink->flags & JB_TREE_NEW_ONLY) != 0)
    return fail(sink, JB_TREE_OP_REPLACE, JB_EEXIST);
  return 0;
}

static long rename_over(int parent, const char *temporary, const char *name,
                        bool new_only)
{
  unsigned flags = new_only ? TREE_RENAME_NOREPLACE : 0;
  long error = sys_renameat2(parent, temporary, parent, name, flags);
  if (error == -JB_EINVAL && new_only)
    /* A file system without it; a directory still replaces nothing but an
     * empty one. */
    error = sys_renameat2(parent, temporary, parent, name, 0);
  return error;
}

/* ---- directories ---- */

static long make_directory(int parent, const char *name,
                           char temporary[TREE_TEMP_NAME], bool fresh)
{
  if (fresh)
    return sys_mkdirat(parent, name, 0700);
  long error = -JB_EEXIST;
  for (int i = 0; error == -JB_EEXIST && i < TREE_RACES; i++) {
    tree_temporary(temporary);
    error = sys_mkdirat(parent, temporary, 0700);
  }
  if (error < 0)
    temporary[0] = '\0';
  return error;
}

static int enter_directory(struct tree_sink *sink,
                           const struct tree_entry *entry, const char *name)
{
  const int flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int parent = parent_of(sink);
  bool fresh = in_fresh(sink);
  if (sink->depth >= sink->limits.depth)
    return tree_fail_bound(sink->report, JB_TREE_BOUND_DEPTH, &sink->path);
  struct tree_sink_dir *dir = &sink->dirs[sink->depth];
  *dir = (struct tree_sink_dir){
    .fd = -JB_ENOENT,
    .inherits = inherits(sink),
    .mode = mode_of(sink, entry->fixed.mode),
    .time_s = entry->fixed.time_s,
    .time_ns = entry->fixed.time_ns,
    .now = (entry->fixed.flags & JB_TREE_TIME_NOW) != 0,
    .path_size = sink->file_path_size,
  };
  if (!fresh) {
    const char *there = name == NULL ? "." : name;
    dir->fd = (int)sys_openat(parent, there, O_RDONLY | flags, 0);
    if (dir->fd == -JB_EACCES)
      dir->fd = (int)sys_openat(parent, there, O_PATH | flags, 0);
    if (dir->fd == -JB_ELOOP)
      dir->fd = -JB_ENOTDIR;
  }
  if (dir->fd >= 0) {
    if (sink->depth == 0 && (sink->flags & JB_TREE_NEW_ONLY) != 0) {
      tree_shut(&dir->fd);
      return fail(sink, JB_TREE_OP_REPLACE, JB_EEXIST);
    }
    dir->existing = true;
    dir->inherits = gives_inheritance(dir->fd);
    sink->depth++;
    return 0;
  }
  if (dir->fd != -JB_ENOENT || name == NULL)
    return fail(sink, JB_TREE_OP_OPEN, dir->fd);
  long error = make_directory(parent, name, dir->temporary, fresh);
  if (error < 0)
    return fail(sink, JB_TREE_OP_CREATE, error);
  const char *made = fresh ? name : dir->temporary;
  dir->fresh = true;
  dir->fd = (int)sys_openat(parent, made, O_RDONLY | flags, 0);
  if (dir->fd < 0) {
    (void)sys_unlinkat(parent, made, AT_REMOVEDIR);
    return fail(sink, JB_TREE_OP_OPEN, dir->fd);
  }
  if (!fresh)
    dir->inherits = gives_inheritance(dir->fd);
  sink->depth++;
  return set_xattrs(sink, dir->fd, entry->xattrs, entry->fixed.xattrs_size);
}

static int leave_directory(struct tree_sink *sink)
{
  struct tree_sink_dir *dir = &sink->dirs[sink->depth - 1];
  char name[JB_TREE_NAME_MAX + 1];
  if (dir->existing) {
    sink->depth--;
    tree_shut(&dir->fd);
    sink->path.size = dir->path_size;
    return 0;
  }
  long error;
  /* In the order in which each leaves the others alone: a change of owner
   * drops set-id bits. */
  sink->depth--;
  bool chown = sink->set_owner && must_chown(sink, sink->uid, sink->gid);
  sink->depth++;
  if (chown && (error = sys_fchownat(dir->fd, "", sink->uid, sink->gid,
                                     AT_EMPTY_PATH)) < 0)
    return fail(sink, JB_TREE_OP_OWNER, error);
  if ((error = sys_fchmod(dir->fd, dir->mode)) < 0)
    return fail(sink, JB_TREE_OP_MODE, error);
  if (!dir->now && set_time(sink, dir->fd, NULL, dir->time_s, dir->time_ns))
    return -1;
  if (dir->temporary[0] != '\0') {
    const char *final = sink->top_name;
    if (sink->depth > 1) {
      size_t from = dir->path_size == 0 ? 0 : dir->path_size + 1;
      size_t size = sink->path.size - from;
      memcpy(name, sink->path.text + from, size);
      name[size] = '\0';
      final = name;
    }
    int parent = sink->depth > 1 ? sink->dirs[sink->depth - 2].fd : sink->top;
    error = rename_over(parent, dir->temporary, final, true);
    if (error < 0)
      return fail(sink, JB_TREE_OP_RENAME, error);
    dir->temporary[0] = '\0';
  }
  sink->depth--;
  tree_shut(&dir->fd);
  sink->path.size = dir->path_size;
  return 0;
}

/* ---- files ---- */

static int open_file(struct tree_sink *sink, const struct tree_entry *entry,
                     const char *name)
{
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int parent = parent_of(sink);
  struct statx old = {.stx_mode = 0};
  sink->file_fresh = in_fresh(sink);
  sink->file_owner = sink->set_owner;
  sink->file_uid = sink->uid;
  sink->file_gid = sink->gid;
  sink->file_mode = mode_of(sink, entry->fixed.mode);
  sink->time_s = entry->fixed.time_s;
  sink->time_ns = entry->fixed.time_ns;
  sink->now = (entry->fixed.flags & JB_TREE_TIME_NOW) != 0;
  sink->offset = 0;
  sink->hole = false;
  sink->temporary[0] = '\0';
  if (!sink->file_fresh && check_replaced(sink, parent, name, &old) < 0)
    return -1;
  if ((sink->flags & JB_TREE_KEEP) && (old.stx_mode & S_IFMT) == S_IFREG) {
    sink->file_owner = true;
    sink->file_uid = old.stx_uid;
    sink->file_gid = old.stx_gid;
    sink->file_mode = old.stx_mode & 07777;
  }
  int mode = sink->exact ? (int)(sink->file_mode & 0777) : 0600;
  int fd = -JB_EEXIST;
  if (sink->file_fresh)
    fd = (int)sys_openat(parent, name, flags, mode);
  else
    for (int i = 0; fd == -JB_EEXIST && i < TREE_RACES; i++) {
      tree_temporary(sink->temporary);
      fd = (int)sys_openat(parent, sink->temporary, flags, mode);
    }
  if (fd < 0)
    return fail(sink, JB_TREE_OP_CREATE, fd);
  sink->file = fd;
  sink->file_open = true;
  return set_xattrs(sink, fd, entry->xattrs, entry->fixed.xattrs_size);
}

static int write_data(struct tree_sink *sink, const uint8_t *data, size_t size)
{
  if (size > sink->limits.bytes - sink->report->bytes)
    return tree_fail_bound(sink->report, JB_TREE_BOUND_BYTES, &sink->path);
  sink->report->bytes += size;
  while (size > 0) {
    long done = sys_pwrite64(sink->file, data, size, (int64_t)sink->offset);
    if (done == -JB_EINTR)
      continue;
    if (done <= 0)
      return fail(sink, JB_TREE_OP_WRITE, done == 0 ? JB_EIO : done);
    sink->offset += (uint64_t)done;
    data += done;
    size -= (size_t)done;
  }
  sink->hole = false;
  return 0;
}

static int skip_hole(struct tree_sink *sink, const uint8_t *payload,
                     size_t size)
{
  uint64_t hole;
  if (size != sizeof(hole))
    return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
  memcpy(&hole, payload, sizeof(hole));
  if (hole > sink->limits.bytes - sink->report->bytes)
    return tree_fail_bound(sink->report, JB_TREE_BOUND_BYTES, &sink->path);
  sink->report->bytes += hole;
  sink->offset += hole;
  sink->hole = true;
  return 0;
}

/* A mount point cannot be replaced, so write what came into what is mounted
 * there: the one case in which somebody may see half of it. */
static long write_into(struct tree_sink *sink, int parent, const char *name)
{
  const int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  uint8_t *piece = sink->space->scratch;
  struct statx stat;
  int from = (int)sys_openat(parent, sink->temporary, O_RDONLY | flags, 0);
  if (from < 0)
    return from;
  int to = (int)sys_openat(parent, name, O_WRONLY | flags, 0);
  long error = to < 0 ? to : tree_stat(to, "", &stat);
  if (error >= 0 && (stat.stx_mode & S_IFMT) != S_IFREG)
    error = -JB_EEXIST;
  if (error >= 0)
    error = sys_ftruncate(to, 0);
  int64_t offset = 0;
  while (error >= 0) {
    long got = sys_pread64(from, piece, TREE_SCRATCH, offset);
    error = got <= 0 ? got : sys_pwrite64(to, piece, (size_t)got, offset);
    if (got == 0)
      break;
    offset += error > 0 ? error : 0;
  }
  if (error >= 0 && !sink->now)
    (void)write_time(to, NULL, sink->time_s, sink->time_ns);
  tree_shut(&from);
  tree_shut(&to);
  if (error >= 0)
    (void)sys_unlinkat(parent, sink->temporary, 0);
  return error;
}

static int close_file(struct tree_sink *sink)
{
  int parent = parent_of(sink);
  int fd = sink->file;
  long error = sink->hole ? sys_ftruncate(fd, (int64_t)sink->offset) : 0;
  if (error < 0)
    return fail(sink, JB_TREE_OP_WRITE, error);
  if (sink->file_owner && must_chown(sink, sink->file_uid, sink->file_gid) &&
      (error = sys_fchownat(fd, "", sink->file_uid, sink->file_gid,
                            AT_EMPTY_PATH)) < 0)
    return fail(sink, JB_TREE_OP_OWNER, error);
  if ((!sink->exact || inherits(sink) || (sink->file_mode & 07000) != 0) &&
      (error = sys_fchmod(fd, sink->file_mode)) < 0)
    return fail(sink, JB_TREE_OP_MODE, error);
  if (!sink->now && set_time(sink, fd, NULL, sink->time_s, sink->time_ns))
    return -1;
  /* The last chance of a network file system to say that it has no room. */
  error = sys_close(fd);
  sink->file = -1;
  if (error < 0 && error != -JB_EINTR)
    return fail(sink, JB_TREE_OP_WRITE, error);
  if (!sink->file_fresh) {
    char name[JB_TREE_NAME_MAX + 1];
    const char *final = sink->top_name;
    if (sink->depth > 0) {
      size_t from = sink->file_path_size == 0 ? 0 : sink->file_path_size + 1;
      size_t size = sink->path.size - from;
      memcpy(name, sink->path.text + from, size);
      name[size] = '\0';
      final = name;
    }
    bool new_only = (sink->flags & JB_TREE_NEW_ONLY) != 0 || !sink->replace;
    error = rename_over(parent, sink->temporary, final, new_only);
    if (error == -JB_EBUSY && !new_only)
      error = write_into(sink, parent, final);
    if (error < 0)
      return fail(sink, JB_TREE_OP_RENAME, error);
  }
  sink->file_open = false;
  sink->path.size = sink->file_path_size;
  return 0;
}

static int make_link(struct tree_sink *sink, const struct tree_entry *entry,
                     const char *name)
{
  int parent = parent_of(sink);
  bool fresh = in_fresh(sink);
  char target[JB_TREE_LINK_MAX + 1];
  char temporary[TREE_TEMP_NAME];
  memcpy(target, entry->link, entry->fixed.link_size);
  target[entry->fixed.link_size] = '\0';
  struct statx old;
  if (!fresh && check_replaced(sink, parent, name, &old) < 0)
    return -1;
  const char *made = name;
  long error = -JB_EEXIST;
  if (fresh)
    error = sys_symlinkat(target, parent, name);
  else
    for (int i = 0; error == -JB_EEXIST && i < TREE_RACES; i++) {
      tree_temporary(temporary);
      made = temporary;
      error = sys_symlinkat(target, parent, temporary);
    }
  if (error < 0)
    return fail(sink, JB_TREE_OP_CREATE, error);
  int failed = 0;
  if (sink->set_owner && must_chown(sink, sink->uid, sink->gid) &&
      (error = sys_fchownat(parent, made, sink->uid, sink->gid,
                            AT_SYMLINK_NOFOLLOW)) < 0)
    failed = fail(sink, JB_TREE_OP_OWNER, error);
  if (failed == 0 && (entry->fixed.flags & JB_TREE_TIME_NOW) == 0)
    failed =
      set_time(sink, parent, made, entry->fixed.time_s, entry->fixed.time_ns);
  bool new_only = (sink->flags & JB_TREE_NEW_ONLY) != 0 || !sink->replace;
  if (failed == 0 && !fresh &&
      (error = rename_over(parent, temporary, name, new_only)) < 0)
    failed = fail(sink, JB_TREE_OP_RENAME, error);
  if (failed != 0 && !fresh)
    (void)sys_unlinkat(parent, temporary, 0);
  return failed;
}

/* ---- the machine ---- */

static void note(struct tree_sink *sink)
{
  struct tree_notes *notes = sink->notes;
  const struct tree_path *path = &sink->path;
  sink->report->skipped++;
  if (notes == NULL || notes->room - notes->size <= path->size)
    return;
  memcpy(notes->text + notes->size, path->text, path->size);
  notes->size += path->size;
  notes->text[notes->size++] = '\0';
}

static int take_entry(struct tree_sink *sink, const uint8_t *payload,
                      size_t size)
{
  struct tree_entry entry;
  char own[JB_TREE_NAME_MAX + 1];
  const char *name = own;
  if (!tree_entry_parse(&entry, payload, size) ||
      (sink->depth == 0 && sink->taken))
    return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
  memcpy(own, entry.name, entry.fixed.name_size);
  own[entry.fixed.name_size] = '\0';
  sink->file_path_size = sink->path.size;
  if (sink->depth == 0) {
    /* What the top is called is decided here, not there. */
    name = sink->top_name;
    sink->taken = true;
  } else {
    (void)tree_path_add(&sink->path, own, entry.fixed.name_size);
  }
  if (sink->report->entries >= sink->limits.entries)
    return tree_fail_bound(sink->report, JB_TREE_BOUND_ENTRIES, &sink->path);
  unsigned type = entry.fixed.mode & S_IFMT;
  int failed;
  if (type == S_IFDIR || type == S_IFREG) {
    if ((entry.fixed.flags & JB_TREE_OPEN) == 0)
      return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
    if (type == S_IFREG && name == NULL)
      return fail(sink, JB_TREE_OP_REPLACE, JB_EISDIR);
    failed = type == S_IFDIR ? enter_directory(sink, &entry, name)
                             : open_file(sink, &entry, name);
    if (failed == 0)
      sink->report->entries++;
    return failed;
  }
  if (name == NULL)
    return fail(sink, JB_TREE_OP_REPLACE, JB_EISDIR);
  if (type == S_IFLNK) {
    failed = make_link(sink, &entry, name);
    if (failed == 0)
      sink->report->entries++;
  } else if (sink->depth == 0) {
    /* The one thing that was asked for is not silently left out. */
    failed = fail(sink, JB_TREE_OP_OPEN, JB_EOPNOTSUPP);
  } else {
    note(sink);
    failed = 0;
  }
  if (failed == 0)
    sink->path.size = sink->file_path_size;
  return failed;
}

int tree_sink_frame(struct tree_sink *sink, uint32_t type,
                    const uint8_t *payload, size_t size)
{
  if (type == JB_TREE_ENTRY && !sink->file_open)
    return take_entry(sink, payload, size);
  if (type == JB_TREE_DATA && sink->file_open)
    return write_data(sink, payload, size);
  if (type == JB_TREE_HOLE && sink->file_open)
    return skip_hole(sink, payload, size);
  if (type == JB_TREE_END && size == 0) {
    if (sink->file_open)
      return close_file(sink);
    if (sink->depth > 0)
      return leave_directory(sink);
  }
  return fail(sink, JB_TREE_OP_PROTOCOL, JB_EPROTO);
}

bool tree_sink_complete(const struct tree_sink *sink)
{
  return sink->taken && sink->depth == 0 && !sink->file_open;
}

void tree_sink_close(struct tree_sink *sink)
{
  if (sink->file_open) {
    tree_shut(&sink->file);
    if (!sink->file_fresh)
      (void)sys_unlinkat(parent_of(sink), sink->temporary, 0);
    sink->file_open = false;
  }
  while (sink->depth > 0) {
    struct tree_sink_dir *dir = &sink->dirs[--sink->depth];
    tree_shut(&dir->fd);
    if (dir->temporary[0] != '\0') {
      struct jb_tree_report ignored = {.error = 0};
      (void)tree_remove(sink->space, &ignored, parent_of(sink), dir->temporary,
                        sink->force);
    }
  }
}

/* ---- removing ---- */

struct removal {
  struct tree_space *space;
  struct jb_tree_report *report;
  struct tree_path path;
  int dir;
  const char *name;
  uint32_t depth;
  bool force;
};

static int removal_parent(const struct removal *removal)
{
  return removal->depth > 1
           ? removal->space->source_dirs[removal->depth - 2].list.fd
           : removal->dir;
}

static int remove_fail(struct removal *removal, int op, long error)
{
  return tree_fail(removal->report, op, error, removal->path.text,
                   removal->path.size);
}

/* Go down into *name*; its parent is the innermost open directory. */
static int remove_enter(struct removal *removal, int parent, const char *name,
                        size_t size)
{
  const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  struct tree_source_dir *dirs = removal->space->source_dirs;
  uint32_t depth = removal->depth;
  int fd = -JB_EMFILE;
  if (depth < JB_TREE_DEPTH_MAX) {
    fd = (int)sys_openat(parent, name, flags, 0);
    if (fd == -JB_EACCES && removal->force) {
      (void)sys_fchmodat(parent, name, 0700);
      fd = (int)sys_openat(parent, name, flags, 0);
    }
  }
  if (fd == -JB_ENOENT || fd == -JB_ENOTDIR || fd == -JB_ELOOP)
    return 0; /* it is something else by now; the next look will tell */
  if (fd == -JB_EMFILE && depth > 1) {
    /* Deeper than we can hold open: bring it up and meet it again there.
     * The top is looked at until it is empty. */
    char temporary[TREE_TEMP_NAME];
    tree_temporary(temporary);
    long error = sys_renameat2(parent, name, dirs[0].list.fd, temporary, 0);
    return error < 0 && error != -JB_ENOENT
             ? remove_fail(removal, JB_TREE_OP_REMOVE, error)
             : 0;
  }
  if (fd < 0)
    return remove_fail(removal, JB_TREE_OP_OPEN, fd);
  if (removal->force)
    (void)sys_fchmod(fd, 0700);
  dirs[depth] = (struct tree_source_dir){
    .list = {.fd = fd, .dents = removal->space->dents + depth * TREE_DENTS},
    .path_size = removal->path.size};
  if (depth > 0)
    (void)tree_path_add(&removal->path, name, size);
  removal->depth++;
  return 0;
}

/* The innermost directory seems empty: remove it, or look again. */
static int remove_leave(struct removal *removal)
{
  struct tree_source_dir *dir =
    &removal->space->source_dirs[removal->depth - 1];
  char name[JB_TREE_NAME_MAX + 1];
  const char *own = removal->name;
  if (removal->depth > 1) {
    size_t from = dir->path_size == 0 ? 0 : dir->path_size + 1;
    size_t size = removal->path.size - from;
    memcpy(name, removal->path.text + from, size);
    name[size] = '\0';
    own = name;
  }
  long error = sys_unlinkat(removal_parent(removal), own, AT_REMOVEDIR);
  if (error == -JB_ENOTEMPTY || error == -JB_EEXIST) {
    /* Something came up from below, or somebody is still writing here. */
    (void)sys_lseek(dir->list.fd, 0, TREE_SEEK_SET);
    dir->list.at = dir->list.end = 0;
    return 1;
  }
  if (error < 0 && error != -JB_ENOENT)
    return remove_fail(removal, JB_TREE_OP_REMOVE, error);
  tree_shut(&dir->list.fd);
  removal->path.size = dir->path_size;
  removal->depth--;
  return 0;
}

static int remove_below(struct removal *removal)
{
  /* Each look at a directory that was thought empty costs one; an adversary
   * who keeps filling it is not waited for for ever. */
  int patience = 1 << 16;
  while (removal->depth > 0) {
    struct tree_list *list =
      &removal->space->source_dirs[removal->depth - 1].list;
    struct tree_dirent child;
    long more = tree_list_next(list, &child);
    if (more < 0)
      return remove_fail(removal, JB_TREE_OP_LIST, more);
    if (more == 0) {
      int again = remove_leave(removal);
      if (again < 0)
        return -1;
      if (again > 0 && patience-- == 0)
        return remove_fail(removal, JB_TREE_OP_REMOVE, JB_ENOTEMPTY);
      continue;
    }
    long error = -JB_EISDIR;
    if (child.type != TREE_DT(S_IFDIR))
      error = sys_unlinkat(list->fd, child.name, 0);
    if (error == 0 || error == -JB_ENOENT)
      continue;
    if (error != -JB_EISDIR)
      return remove_fail(removal, JB_TREE_OP_REMOVE, error);
    if (remove_enter(removal, list->fd, child.name, child.size) < 0)
      return -1;
  }
  return 0;
}

int tree_remove(struct tree_space *space, struct jb_tree_report *report,
                int dir, const char *name, bool force)
{
  struct removal removal = {.space = space,
                            .report = report,
                            .path = {.text = space->path},
                            .dir = dir,
                            .name = name,
                            .force = force};
  long error = sys_unlinkat(dir, name, 0);
  if (error == 0)
    return 0;
  if (error != -JB_EISDIR)
    return remove_fail(&removal, JB_TREE_OP_REMOVE, error);
  int failed = remove_enter(&removal, dir, name, tree_length(name));
  if (failed == 0)
    failed = remove_below(&removal);
  while (removal.depth > 0)
    tree_shut(&space->source_dirs[--removal.depth].list.fd);
  return failed;
}
