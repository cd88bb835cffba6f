/* tree_source.c - files become frames.
 *
 * PROBLEM  The tree may change while it is read, on purpose.  A name that was
 *          a file can be a link, a pipe or a device by the time it is opened,
 *          and opening those follows, waits, or does something.
 * CHOICE   Below the top nothing is ever looked up but one name in one open
 *          directory, with O_NOFOLLOW and O_NONBLOCK; what was opened is asked
 *          what it is, and believed over the directory.  Whatever is no file,
 *          directory or link is only described.
 * BOUNDS   A file is read up to the size it had when it was opened, so a file
 *          that grows has an end.  A file that claims no size (/proc) is read
 *          until it ends, or the bound of bytes, or would block (/proc/kmsg).
 *
 * It is a machine that does a little at a time, because its socket may be
 * full: tree_source_step is called again until all is sent. */
#include "tree_internal.h"

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

long tree_open(const struct tree_place *place, uint64_t flags)
{
  struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = place->resolve};
  long fd = -JB_EAGAIN;
  /* EAGAIN: ".." could not be proven to stay inside, because something was
   * renamed meanwhile (openat2(2)). */
  for (int i = 0; fd == -JB_EAGAIN && i < TREE_RACES; i++)
    fd = sys_openat2(place->dir, place->path, &how);
  return fd;
}

void tree_entry_fill(struct jb_tree_entry *entry, const struct statx *stat)
{
  *entry = (struct jb_tree_entry){
    .mode = stat->stx_mode,
    .uid = stat->stx_uid,
    .gid = stat->stx_gid,
    .links = stat->stx_nlink,
    .size = stat->stx_size,
    .inode = stat->stx_ino,
    .device = (uint64_t)stat->stx_dev_major << 32 | stat->stx_dev_minor,
    .special = (uint64_t)stat->stx_rdev_major << 32 | stat->stx_rdev_minor,
    .time_s = stat->stx_mtime.tv_sec,
    .time_ns = stat->stx_mtime.tv_nsec,
  };
}

/* ---- what is left out ---- */

/* One character class, *p* behind its '['; *p* is left behind its ']'. */
static bool class_matches(const char **p, const char *end, char c)
{
  const char *at = *p;
  bool inverted = at < end && (*at == '!' || *at == '^');
  bool found = false;
  if (inverted)
    at++;
  const char *first = at;
  while (at < end && (*at != ']' || at == first)) {
    if (end - at > 2 && at[1] == '-' && at[2] != ']') {
      found |= (unsigned char)at[0] <= (unsigned char)c &&
               (unsigned char)c <= (unsigned char)at[2];
      at += 3;
    } else {
      found |= *at++ == c;
    }
  }
  *p = at < end ? at + 1 : at;
  return found != inverted;
}

/* Match as a shell would: '*' and '?' do not cross '/', "**" does.  There are
 * two places to come back to, the last '*' and the last "**"; so the time is
 * bounded by the product of the lengths, squared. */
static bool glob_matches(const char *p, const char *p_end, const char *text,
                         const char *end)
{
  const char *star = NULL, *star_text = NULL;
  const char *deep = NULL, *deep_text = NULL;
  bool whole = false; /* "**" stands for whole components */
  for (;;) {
    if (p < p_end && *p == '*') {
      if (p_end - p > 1 && p[1] == '*') {
        p += 2;
        whole = p < p_end && *p == '/';
        if (whole)
          p++; /* also for no component at all */
        deep = p;
        deep_text = text;
        star = NULL;
      } else {
        star = ++p;
        star_text = text;
      }
      continue;
    }
    if (text == end && p == p_end)
      return true;
    if (text < end && p < p_end) {
      const char *next = p + 1;
      bool same = *p == '?' ? *text != '/'
                  : *p == '['
                    ? class_matches(&next, p_end, *text) && *text != '/'
                    : *p == *text;
      if (same) {
        p = next;
        text++;
        continue;
      }
    }
    if (star != NULL && star_text < end && *star_text != '/') {
      p = star;
      text = ++star_text;
    } else if (deep != NULL && deep_text < end) {
      do
        deep_text++;
      while (whole && deep_text < end && deep_text[-1] != '/');
      p = deep;
      text = deep_text;
      star = NULL;
    } else {
      return false;
    }
  }
}

bool tree_excluded(const char *patterns, size_t patterns_size, const char *path,
                   size_t size)
{
  const char *end = path + size;
  const char *name = end;
  while (name > path && name[-1] != '/')
    name--;
  const char *p = patterns;
  const char *patterns_end = patterns + patterns_size;
  while (p < patterns_end) {
    const char *p_end = p;
    bool anchored = false;
    while (p_end < patterns_end && *p_end != '\0')
      anchored |= *p_end++ == '/';
    const char *behind = p_end + 1;
    if (anchored && *p == '/')
      p++;
    if (glob_matches(p, p_end, anchored ? path : name, end))
      return true;
    p = behind;
  }
  return false;
}

static void note(struct tree_source *source)
{
  struct tree_notes *notes = source->notes;
  const struct tree_path *path = &source->path;
  source->report->skipped++;
  if (notes->room - notes->size <= path->size)
    return;
  memcpy(notes->text + notes->size, path->text, path->size);
  notes->size += path->size;
  notes->text[notes->size++] = '\0';
}

/* ---- one entry ---- */

static int fail(struct tree_source *source, int op, long error)
{
  return tree_fail(source->report, op, error, source->path.text,
                   source->path.size);
}

/* The attributes user.* of *fd* at *out*; their size, or -1. */
static long read_xattrs(struct tree_source *source, int fd, uint8_t *out)
{
  char *names = (char *)source->scratch;
  long names_size = JB_CALL3(__NR_flistxattr, fd, names, (size_t)TREE_SCRATCH);
  if (names_size == -JB_EOPNOTSUPP)
    return 0;
  if (names_size < 0)
    return fail(source, JB_TREE_OP_XATTR, names_size);
  size_t used = 0;
  for (long at = 0; at < names_size;) {
    const char *name = names + at;
    uint32_t sizes[2] = {(uint32_t)tree_length(name), 0};
    at += (long)sizes[0] + 1;
    if (sizes[0] < 6 || memcmp(name, "user.", 5) != 0)
      continue;
    /* Marks of an overlay are not content (security.md, TAR10). */
    if (sizes[0] >= 13 && memcmp(name, "user.overlay.", 13) == 0)
      continue;
    if (used + sizeof(sizes) + sizes[0] > JB_TREE_XATTRS_MAX)
      return fail(source, JB_TREE_OP_XATTR, JB_E2BIG);
    size_t room = JB_TREE_XATTRS_MAX - used - sizeof(sizes) - sizes[0];
    uint8_t *value = out + used + sizeof(sizes) + sizes[0];
    long size = sys_fgetxattr(fd, name, value, room);
    if (size == -JB_ENODATA)
      continue;
    /* No room is asked as "how large?", and answered without a value. */
    if (size > (long)room || size == -JB_ERANGE)
      return fail(source, JB_TREE_OP_XATTR, JB_E2BIG);
    if (size < 0)
      return fail(source, JB_TREE_OP_XATTR, size);
    sizes[1] = (uint32_t)size;
    memcpy(out + used, sizes, sizeof(sizes));
    memcpy(out + used + sizeof(sizes), name, sizes[0]);
    used += sizeof(sizes) + sizes[0] + sizes[1];
  }
  return (long)used;
}

/* Send an entry.  Takes *fd*, which is open for a file or directory whose
 * content shall follow, else -1. */
static int emit(struct tree_source *source, const char *name, size_t size,
                const struct statx *stat, const char *link, size_t link_size,
                int fd)
{
  struct jb_tree_report *report = source->report;
  struct jb_tree_entry entry;
  tree_entry_fill(&entry, stat);
  bool directory = (stat->stx_mode & S_IFMT) == S_IFDIR;
  if (report->entries >= source->limits.entries) {
    tree_shut(&fd);
    return tree_fail_bound(report, JB_TREE_BOUND_ENTRIES, &source->path);
  }
  if (fd >= 0 && !directory &&
      stat->stx_size > source->limits.bytes - report->bytes) {
    /* Said before the first byte, not after the last that fits. */
    tree_shut(&fd);
    return tree_fail_bound(report, JB_TREE_BOUND_BYTES, &source->path);
  }
  if (fd >= 0 && directory && source->depth >= source->limits.depth) {
    tree_shut(&fd);
    return tree_fail_bound(report, JB_TREE_BOUND_DEPTH, &source->path);
  }
  uint8_t *payload = tree_wire_begin(source->wire);
  uint8_t *at = payload + sizeof(entry);
  entry.name_size = (uint32_t)size;
  entry.link_size = (uint32_t)link_size;
  memcpy(at, name, size);
  memcpy(at + size, link, link_size);
  at += size + link_size;
  if (fd >= 0) {
    entry.flags = JB_TREE_OPEN;
    if (source->flags & JB_TREE_XATTRS) {
      long xattrs = read_xattrs(source, fd, at);
      if (xattrs < 0) {
        tree_shut(&fd);
        return -1;
      }
      entry.xattrs_size = (uint32_t)xattrs;
    }
  }
  memcpy(payload, &entry, sizeof(entry));
  tree_wire_end(source->wire, JB_TREE_ENTRY,
                sizeof(entry) + size + link_size + entry.xattrs_size);
  report->entries++;
  if (fd < 0)
    return 0;
  if (directory) {
    source->dirs[source->depth] = (struct tree_source_dir){
      .list = {.fd = fd, .dents = source->dents + source->depth * TREE_DENTS},
      .path_size = source->path.size};
    source->depth++;
    return 0;
  }
  source->file = fd;
  source->offset = 0;
  source->data_end = 0;
  source->size = stat->stx_size;
  source->endless = stat->stx_size == 0;
  source->sparse = stat->stx_blocks * 512 < stat->stx_size;
  return 0;
}

/* Does content of a thing of this mode follow, at this depth? */
static bool wants_open(const struct tree_source *source, unsigned mode)
{
  if ((mode & S_IFMT) == S_IFDIR)
    return source->depth < source->wanted_depth;
  return (mode & S_IFMT) == S_IFREG && (source->flags & JB_TREE_DATA_TOO) != 0;
}

static bool is_special(unsigned mode)
{
  unsigned type = mode & S_IFMT;
  return type != S_IFREG && type != S_IFDIR && type != S_IFLNK;
}

/* Send one child of an open directory.  It may be another kind of thing with
 * each look; it is gone without a word when it was removed. */
static int emit_child(struct tree_source *source, int dir,
                      const struct tree_dirent *child)
{
  unsigned mode = child->type << 12;
  for (int i = 0; i < TREE_RACES; i++) {
    struct statx stat;
    int fd = -1;
    long error;
    if (wants_open(source, mode)) {
      fd = (int)sys_openat(dir, child->name, OPEN_FLAGS, 0);
      if (fd == -JB_ENOENT)
        return 0;
      if (fd == -JB_ELOOP || fd == -JB_ENXIO) {
        mode = 0; /* a link or a socket by now */
        continue;
      }
      if (fd < 0)
        return fail(source, JB_TREE_OP_OPEN, fd);
      error = tree_stat(fd, "", &stat);
    } else {
      error = tree_stat(dir, child->name, &stat);
    }
    if (error < 0) {
      tree_shut(&fd);
      if (error == -JB_ENOENT)
        return 0;
      return fail(source, JB_TREE_OP_STAT, error);
    }
    mode = stat.stx_mode;
    if (wants_open(source, mode)) {
      if (fd >= 0)
        return emit(source, child->name, child->size, &stat, "", 0, fd);
      continue;
    }
    tree_shut(&fd);
    if (is_special(mode) && source->notes != NULL) {
      note(source);
      return 0;
    }
    if ((mode & S_IFMT) != S_IFLNK)
      return emit(source, child->name, child->size, &stat, "", 0, -1);
    char link[JB_TREE_LINK_MAX + 1];
    long size = sys_readlinkat(dir, child->name, link, sizeof(link));
    if (size == -JB_ENOENT)
      return 0;
    if (size == -JB_EINVAL) {
      mode = 0;
      continue;
    }
    if (size < 0)
      return fail(source, JB_TREE_OP_READLINK, size);
    return emit(source, child->name, child->size, &stat, link, (size_t)size,
                -1);
  }
  return fail(source, JB_TREE_OP_OPEN, JB_EAGAIN);
}

/* ---- the machine ---- */

int tree_source_begin(struct tree_source *source,
                      const struct tree_place *place, const char *name,
                      size_t name_size)
{
  uint64_t follow = (source->flags & JB_TREE_FOLLOW) ? 0 : O_NOFOLLOW;
  source->started = true;
  for (int i = 0; i < TREE_RACES; i++) {
    /* O_PATH opens nothing: neither a pipe nor a device notices. */
    int path = (int)tree_open(place, O_PATH | follow);
    if (path < 0)
      return fail(source, JB_TREE_OP_RESOLVE, path);
    struct statx stat;
    long error = tree_stat(path, "", &stat);
    if (error < 0) {
      tree_shut(&path);
      return fail(source, JB_TREE_OP_STAT, error);
    }
    unsigned type = stat.stx_mode & S_IFMT;
    char link[JB_TREE_LINK_MAX + 1];
    long link_size = 0;
    int fd = -1;
    if (type == S_IFLNK)
      link_size = sys_readlinkat(path, "", link, sizeof(link));
    else if (wants_open(source, stat.stx_mode) && type == S_IFDIR)
      fd = (int)sys_openat(path, ".", OPEN_FLAGS | O_DIRECTORY, 0);
    else if (wants_open(source, stat.stx_mode))
      /* A file cannot be opened by its O_PATH descriptor without /proc. */
      fd = (int)tree_open(place, O_RDONLY | O_NONBLOCK | O_NOCTTY | follow);
    tree_shut(&path);
    if (link_size < 0)
      return fail(source, JB_TREE_OP_READLINK, link_size);
    if (wants_open(source, stat.stx_mode)) {
      if (fd == -JB_ELOOP || fd == -JB_ENXIO || fd == -JB_ENOENT)
        continue;
      if (fd < 0)
        return fail(source, JB_TREE_OP_OPEN, fd);
      struct statx opened;
      error = tree_stat(fd, "", &opened);
      if (error < 0 || opened.stx_ino != stat.stx_ino ||
          opened.stx_dev_major != stat.stx_dev_major ||
          opened.stx_dev_minor != stat.stx_dev_minor ||
          ((opened.stx_mode ^ stat.stx_mode) & S_IFMT) != 0) {
        tree_shut(&fd);
        continue;
      }
      stat = opened;
    }
    if (is_special(stat.stx_mode) && source->notes != NULL) {
      /* The one thing that was asked for is not silently left out. */
      return fail(source, JB_TREE_OP_OPEN, JB_EOPNOTSUPP);
    }
    return emit(source, name, name_size, &stat, link, (size_t)link_size, fd);
  }
  return fail(source, JB_TREE_OP_OPEN, JB_EAGAIN);
}

static int close_file(struct tree_source *source)
{
  tree_shut(&source->file);
  (void)tree_wire_begin(source->wire);
  tree_wire_end(source->wire, JB_TREE_END, 0);
  return 1;
}

/* Find the next piece of data of a sparse file and send the hole before it. */
static void skip_hole(struct tree_source *source)
{
  int fd = source->file;
  uint64_t size = source->size;
  long data = sys_lseek(fd, (int64_t)source->offset, TREE_SEEK_DATA);
  if (data == -JB_ENXIO)
    data = (long)size;
  long end = data < 0 ? data : sys_lseek(fd, data, TREE_SEEK_HOLE);
  if (data < 0) {
    /* The file system cannot tell: all is data. */
    data = (long)source->offset;
    end = (long)size;
  }
  uint64_t start = (uint64_t)data < size ? (uint64_t)data : size;
  source->data_end = end < 0 || (uint64_t)end > size ? size : (uint64_t)end;
  if (start > source->offset) {
    uint64_t hole = start - source->offset;
    memcpy(tree_wire_begin(source->wire), &hole, sizeof(hole));
    tree_wire_end(source->wire, JB_TREE_HOLE, sizeof(hole));
    source->report->bytes += hole;
    source->offset = start;
  }
}

static int read_file(struct tree_source *source)
{
  if (source->sparse && source->offset >= source->data_end)
    skip_hole(source);
  uint64_t left = source->size - source->offset;
  if (source->sparse)
    left = source->data_end - source->offset;
  if (source->endless)
    left = JB_TREE_DATA_MAX;
  else if (source->offset >= source->size)
    return close_file(source);
  size_t most = left < JB_TREE_DATA_MAX ? (size_t)left : JB_TREE_DATA_MAX;
  uint8_t *payload = tree_wire_begin(source->wire);
  long got;
  do
    got = source->endless
            ? sys_read(source->file, payload, most)
            : sys_pread64(source->file, payload, most, (int64_t)source->offset);
  while (got == -JB_EINTR);
  if (got < 0)
    return fail(source, JB_TREE_OP_READ, got);
  if (got == 0)
    return close_file(source); /* shorter than it was, or no size at all */
  if ((uint64_t)got > source->limits.bytes - source->report->bytes)
    return tree_fail_bound(source->report, JB_TREE_BOUND_BYTES, &source->path);
  tree_wire_end(source->wire, JB_TREE_DATA, (size_t)got);
  source->offset += (uint64_t)got;
  source->report->bytes += (uint64_t)got;
  if (!source->endless && source->offset >= source->size)
    return close_file(source);
  return 1;
}

int tree_source_step(struct tree_source *source)
{
  struct tree_path *path = &source->path;
  if (source->file >= 0)
    return read_file(source);
  if (source->depth == 0)
    return 0;
  struct tree_source_dir *dir = &source->dirs[source->depth - 1];
  path->size = dir->path_size;
  struct tree_dirent child;
  long more = tree_list_next(&dir->list, &child);
  if (more < 0)
    return fail(source, JB_TREE_OP_LIST, more);
  if (more == 0) {
    tree_shut(&dir->list.fd);
    source->depth--;
    (void)tree_wire_begin(source->wire);
    tree_wire_end(source->wire, JB_TREE_END, 0);
    return 1;
  }
  (void)tree_path_add(path, child.name, child.size);
  if (source->excludes_size != 0 &&
      tree_excluded(source->excludes, source->excludes_size, path->text,
                    path->size))
    return 1;
  return emit_child(source, dir->list.fd, &child) < 0 ? -1 : 1;
}

void tree_source_close(struct tree_source *source)
{
  tree_shut(&source->file);
  while (source->depth > 0)
    tree_shut(&source->dirs[--source->depth].list.fd);
}
