/* pack.c - the walk over a tree that becomes an archive.
 *
 * No recursion: the directories on the way down are an array that grows.  The
 * upper ones stay open; below PACK_OPEN_LEVELS a directory is closed while
 * its children are walked and found again as their "..", which must be the
 * inode that it was.
 *
 * In a layer that lies on something, a directory is written only if it differs
 * itself or something below it is written: its entry waits until then.  Each
 * of these keeps two descriptors open, so their depth is bounded. */
#include "pack_internal.h"

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

int pack_fail(struct pack *pack, int op, long error)
{
  return tree_fail(pack->report, op, error, pack->path.text, pack->path.size);
}

void pack_note(struct pack *pack)
{
  struct jb_pack_notes *notes = pack->notes;
  pack->report->skipped++;
  if (notes->room - notes->size <= pack->path.size)
    return;
  memcpy(notes->text + notes->size, pack->path.text, pack->path.size);
  notes->size += pack->path.size;
  notes->text[notes->size++] = '\0';
}

static struct pack_dir *dir_at(struct pack *pack, size_t level)
{
  return (struct pack_dir *)(void *)pack->dirs.at + level;
}

static bool is_layer(const struct pack *pack)
{
  return (pack->job->flags & JB_PACK_LAYER) != 0;
}

static uint64_t device_of(const struct statx *stat)
{
  return (uint64_t)stat->stx_dev_major << 32 | stat->stx_dev_minor;
}

/* ---- entries ---- */

static char type_of(unsigned mode)
{
  switch (mode & S_IFMT) {
  case S_IFDIR:
    return '5';
  case S_IFLNK:
    return '2';
  case S_IFCHR:
    return '3';
  case S_IFBLK:
    return '4';
  case S_IFIFO:
    return '6';
  default:
    return '0';
  }
}

static void set_owner(struct pack *pack, struct pack_entry *entry,
                      const struct statx *stat)
{
  struct jb_pack_owner owner;
  entry->uid = tree_layer_id(stat->stx_uid, pack->job->tree_base);
  entry->gid = tree_layer_id(stat->stx_gid, pack->job->tree_base);
  if (!pack_owners_find(&pack->owners, &pack->path, &owner))
    return;
  entry->uid = owner.uid;
  entry->gid = owner.gid;
  entry->mode = owner.mode & 07777;
  unsigned type = owner.mode & S_IFMT;
  if (entry->type != '0' || entry->size != 0)
    return;
  /* An empty file stands for what one user cannot make. */
  if (type == S_IFCHR || type == S_IFBLK || type == S_IFIFO)
    entry->type = type_of(type);
  if (entry->type == '3' || entry->type == '4') {
    entry->major = owner.major;
    entry->minor = owner.minor;
  }
}

static int count(struct pack *pack)
{
  const struct jb_tree_limits *limits = &pack->job->limits;
  if (limits->entries != 0 && pack->report->entries >= limits->entries)
    return tree_fail_bound(pack->report, JB_TREE_BOUND_ENTRIES, &pack->path);
  pack->report->entries++;
  return 0;
}

/* Write the entry of the current path.  *fd* is open for files and
 * directories, else -1. */
static int write_entry(struct pack *pack, const struct statx *stat, int fd,
                       const char *link, size_t link_size)
{
  const struct jb_pack *job = pack->job;
  struct pack_entry entry = {
    .path = pack->path.text,
    .path_size = pack->path.size,
    .link = link,
    .link_size = link_size,
    .time_s = stat->stx_mtime.tv_sec,
    .time_ns = stat->stx_mtime.tv_nsec,
    .mode = stat->stx_mode & 07777,
    .type = type_of(stat->stx_mode),
  };
  if (entry.type == '0')
    entry.size = stat->stx_size;
  if (entry.type == '3' || entry.type == '4') {
    entry.major = stat->stx_rdev_major;
    entry.minor = stat->stx_rdev_minor;
  }
  if ((job->flags & JB_PACK_EPOCH) != 0 && entry.time_s >= job->epoch) {
    entry.time_s = job->epoch;
    entry.time_ns = 0;
  }
  set_owner(pack, &entry, stat);
  if (count(pack) < 0)
    return -1;
  if (entry.type != '5' && stat->stx_nlink > 1) {
    long error = 0;
    const char *first = pack_links_seen(&pack->links, stat, &pack->path,
                                        &entry.link_size, &error);
    if (error < 0)
      return pack_fail(pack, JB_TREE_OP_BOUND, error);
    if (first != NULL) {
      entry.link = first;
      entry.type = '1';
      entry.size = 0;
      return pack_header(pack, &entry);
    }
    entry.link_size = link_size;
  }
  if (fd >= 0 && pack_pax_xattrs(pack, fd, job->tree_base) < 0)
    return -1;
  if (entry.type == '5') {
    /* The path of a directory ends with a slash; there is room for it. */
    size_t size = pack->path.size;
    if (size == 0)
      pack->path.text[size++] = '.';
    pack->path.text[size++] = '/';
    entry.path_size = size;
  }
  if (pack_header(pack, &entry) < 0)
    return -1;
  return entry.type == '0' ? pack_content(pack, fd, stat) : 0;
}

/* Write the entries of the directories that waited. */
static int write_parents(struct pack *pack)
{
  size_t size = pack->path.size;
  size_t level = pack->depth;
  while (level > 0 && !dir_at(pack, level - 1)->written)
    level--;
  for (; level < pack->depth; level++) {
    struct pack_dir *dir = dir_at(pack, level);
    struct statx stat;
    pack->path.size = dir->path_size;
    long error = tree_stat(dir->fd, "", &stat);
    if (error < 0)
      return pack_fail(pack, JB_TREE_OP_STAT, error);
    dir->written = true;
    if (write_entry(pack, &stat, dir->fd, "", 0) < 0)
      return -1;
  }
  pack->path.size = size;
  return 0;
}

/* Write the mark *prefix* + *name* in the directory *path_size* is about. */
static int write_mark(struct pack *pack, size_t path_size, const char *prefix,
                      const char *name)
{
  char *work = pack_space(pack)->work;
  size_t size = path_size;
  memcpy(work, pack->path.text, size);
  if (size != 0)
    work[size++] = '/';
  for (; *prefix != '\0'; prefix++)
    work[size++] = *prefix;
  for (; *name != '\0'; name++)
    work[size++] = *name;
  /* Without time and owner: it stands for nothing. */
  struct pack_entry entry = {
    .path = work, .path_size = size, .link = "", .type = '0'};
  return count(pack) < 0 ? -1 : pack_header(pack, &entry);
}

/* ---- going down ---- */

static long read_names(struct pack *pack, struct pack_dir *dir)
{
  return pack_names_read(&pack->names, dir->fd, pack_space(pack)->dents,
                         &dir->names);
}

/* Go into an open directory; takes both descriptors. */
static int enter(struct pack *pack, int fd, int lower, const struct statx *stat,
                 bool written)
{
  long error = pack_region_need(&pack->dirs, sizeof(struct pack_dir));
  if (error == 0 && lower >= 0 && pack->depth >= PACK_LAYER_DEPTH)
    error = -JB_EOVERFLOW;
  if (error < 0) {
    tree_shut(&fd);
    tree_shut(&lower);
    if (error == -JB_EOVERFLOW)
      return tree_fail_bound(pack->report, JB_TREE_BOUND_DEPTH, &pack->path);
    return pack_fail(pack, JB_TREE_OP_BOUND, error);
  }
  struct pack_dir *dir = dir_at(pack, pack->depth);
  *dir = (struct pack_dir){.fd = fd,
                           .lower = lower,
                           .inode = stat->stx_ino,
                           .device = device_of(stat),
                           .path_size = pack->path.size,
                           .written = written};
  char mark = '\0';
  if (is_layer(pack) && tree_layer_mark(&pack->layer, fd, true, &mark, 1) == 1)
    dir->marks = mark == 'x';
  pack->depth++;
  pack->dirs.used += sizeof(*dir);
  error = read_names(pack, dir);
  if (error == -JB_ENOMEM)
    return pack_fail(pack, JB_TREE_OP_BOUND, error);
  if (error < 0)
    return pack_fail(pack, JB_TREE_OP_LIST, error);
  if (pack->depth > PACK_OPEN_LEVELS) {
    struct pack_dir *parent = dir_at(pack, pack->depth - 2);
    if (parent->lower < 0)
      tree_shut(&parent->fd);
  }
  return 0;
}

/* Leave the deepest directory. */
static int leave(struct pack *pack)
{
  struct pack_dir *dir = dir_at(pack, pack->depth - 1);
  struct pack_dir *parent = pack->depth > 1 ? dir - 1 : NULL;
  int failed = 0;
  pack->path.size = dir->path_size;
  if (parent != NULL && parent->fd < 0) {
    struct statx stat;
    parent->fd = (int)sys_openat(dir->fd, "..", OPEN_DIRECTORY, 0);
    if (parent->fd < 0)
      failed = pack_fail(pack, JB_TREE_OP_OPEN, parent->fd);
    else if (tree_stat(parent->fd, "", &stat) < 0 ||
             stat.stx_ino != parent->inode ||
             device_of(&stat) != parent->device)
      failed = pack_fail(pack, JB_TREE_OP_CHANGED, JB_ESTALE);
  }
  tree_shut(&dir->fd);
  tree_shut(&dir->lower);
  pack->names.used = dir->names.begin;
  pack->dirs.used -= sizeof(*dir);
  pack->depth--;
  return failed;
}

/* ---- children ---- */

/* What is known of a child. */
struct child {
  const char *name;
  struct statx stat;
  int fd; /* of a file or directory, or -1 */
  char *link;
  size_t link_size;
};

/* Look at a child and open it; what it is may have changed since it was
 * listed: 0 or -1. */
static int look_at(struct pack *pack, const struct pack_dir *dir,
                   struct child *child, unsigned type)
{
  unsigned mode = type << 12;
  for (int i = 0; i < TREE_RACES; i++) {
    unsigned kind = mode & S_IFMT;
    long error;
    child->fd = -1;
    if (kind == S_IFREG || kind == S_IFDIR) {
      child->fd = (int)sys_openat(dir->fd, child->name, OPEN_FLAGS, 0);
      if (child->fd == -JB_ELOOP || child->fd == -JB_ENXIO) {
        child->fd = -1;
        mode = 0;
        continue;
      }
      if (child->fd < 0) {
        error = child->fd;
        child->fd = -1;
        return pack_fail(pack, JB_TREE_OP_OPEN, error);
      }
      error = tree_stat(child->fd, "", &child->stat);
    } else {
      error = tree_stat(dir->fd, child->name, &child->stat);
    }
    if (error < 0)
      return pack_fail(pack, JB_TREE_OP_STAT, error);
    mode = child->stat.stx_mode;
    kind = mode & S_IFMT;
    if ((kind == S_IFREG || kind == S_IFDIR) != (child->fd >= 0)) {
      tree_shut(&child->fd);
      continue;
    }
    child->link_size = 0;
    if (kind != S_IFLNK)
      return 0;
    long size =
      sys_readlinkat(dir->fd, child->name, child->link, JB_TREE_LINK_MAX + 1);
    if (size < 0)
      return pack_fail(pack, JB_TREE_OP_READLINK, size);
    child->link_size = (size_t)size;
    return 0;
  }
  return pack_fail(pack, JB_TREE_OP_CHANGED, JB_ESTALE);
}

/* What stands below a child of a layer. */
struct below {
  bool known;     /* there is a lower, whatever is in it */
  bool there;     /* and it has the name */
  bool same_type; /* and the same type of thing is there */
  bool same;      /* and it does not differ */
};

/* Compare a child with what it lies on. */
static int look_below(struct pack *pack, const struct pack_dir *dir,
                      const struct child *child, struct below *below)
{
  *below = (struct below){.known = pack->job->lower >= 0};
  if (dir->lower < 0)
    return 0;
  struct tree_layer *layer = &pack->layer;
  struct tree_layer_dir sides = {.upper = dir->fd, .lower = dir->lower};
  struct statx now = child->stat;
  struct statx old;
  size_t links[2] = {child->link_size, 0};
  layer->path = pack->path;
  int found = tree_layer_look(layer, dir->lower, child->name,
                              pack->job->lower_base, &old, 1, links);
  if (found < 0)
    return -1;
  below->there = found == 1;
  below->same_type =
    found == 1 && ((now.stx_mode ^ old.stx_mode) & S_IFMT) == 0;
  if (!below->same_type)
    return 0;
  now.stx_uid = tree_layer_id(now.stx_uid, pack->job->tree_base);
  now.stx_gid = tree_layer_id(now.stx_gid, pack->job->tree_base);
  memcpy(layer->scratch, child->link, child->link_size);
  int what = tree_layer_compare(layer, &sides, child->name, &now, &old, links);
  if (what < 0)
    return -1;
  below->same = what == 0;
  return 0;
}

static int layer_directory(struct pack *pack, struct child *child)
{
  struct tree_layer *layer = &pack->layer;
  char mark = '\0';
  bool opaque =
    tree_layer_mark(layer, child->fd, true, &mark, 1) == 1 && mark == 'y';
  if (tree_layer_mark(layer, child->fd, false, &mark, 0) > 0)
    /* Renamed: what it shows is somewhere else.  Our overlays do not. */
    return pack_fail(pack, JB_TREE_OP_MARK, JB_EOPNOTSUPP);
  struct pack_dir *dir = dir_at(pack, pack->depth - 1);
  struct below below;
  if (look_below(pack, dir, child, &below) < 0)
    return -1;
  bool through = below.same_type && !opaque;
  bool written = !below.known || !below.same || !through;
  if (written && (write_parents(pack) < 0 ||
                  write_entry(pack, &child->stat, child->fd, "", 0) < 0))
    return -1;
  /* Needed where there is something to hide. */
  if (opaque && (!below.known || below.same_type) &&
      write_mark(pack, pack->path.size, OPAQUE, "") < 0)
    return -1;
  int lower = -1;
  if (through) {
    lower = (int)sys_openat(dir->lower, child->name, OPEN_DIRECTORY, 0);
    if (lower < 0)
      return pack_fail(pack, JB_TREE_OP_OPEN, lower);
  }
  int fd = child->fd;
  child->fd = -1;
  return enter(pack, fd, lower, &child->stat, written);
}

static int layer_whiteout(struct pack *pack, const struct child *child)
{
  struct pack_dir *dir = dir_at(pack, pack->depth - 1);
  bool known = pack->job->lower >= 0;
  if (known) {
    struct statx old;
    size_t links[2];
    pack->layer.path = pack->path;
    int found = tree_layer_look(&pack->layer, dir->lower, child->name,
                                pack->job->lower_base, &old, 1, links);
    if (found <= 0)
      return found; /* nothing to hide */
  }
  if (write_parents(pack) < 0)
    return -1;
  return write_mark(pack, dir->path_size, WHITEOUT, child->name);
}

/* Whoever reads the archive would remove something instead. */
static bool is_mark(const struct child *child)
{
  const char *name = child->name;
  return (name[0] == '.' && name[1] == 'w' && name[2] == 'h' &&
          name[3] == '.') ||
         ((child->stat.stx_mode & S_IFMT) == S_IFCHR &&
          child->stat.stx_rdev_major == 0 && child->stat.stx_rdev_minor == 0);
}

static int pack_child(struct pack *pack, struct child *child)
{
  struct pack_dir *dir = dir_at(pack, pack->depth - 1);
  unsigned kind = child->stat.stx_mode & S_IFMT;
  if (is_layer(pack)) {
    struct tree_layer_dir sides = {.upper = dir->fd, .marks = dir->marks};
    if (tree_layer_whiteout(&pack->layer, &sides, child->name, &child->stat))
      return layer_whiteout(pack, child);
  }
  if ((pack->job->flags & JB_PACK_ANY_NAME) == 0 && is_mark(child))
    return pack_fail(pack, JB_TREE_OP_MARK, JB_EINVAL);
  if (kind == S_IFSOCK) {
    pack_note(pack);
    return 0;
  }
  if (kind == S_IFDIR && is_layer(pack))
    return layer_directory(pack, child);
  if (kind == S_IFDIR) {
    if (write_entry(pack, &child->stat, child->fd, "", 0) < 0)
      return -1;
    int fd = child->fd;
    child->fd = -1;
    return enter(pack, fd, -1, &child->stat, true);
  }
  struct below below;
  if (look_below(pack, dir, child, &below) < 0)
    return -1;
  if (below.same)
    return 0;
  if (write_parents(pack) < 0)
    return -1;
  return write_entry(pack, &child->stat, child->fd, child->link,
                     child->link_size);
}

/* Pack one more thing: 1, 0 at the end, -1. */
static int step(struct pack *pack)
{
  struct pack_space *space = pack_space(pack);
  struct pack_dir *dir = dir_at(pack, pack->depth - 1);
  pack->path.size = dir->path_size;
  if (dir->names.next == dir->names.count) {
    if (leave(pack) < 0)
      return -1;
    return pack->depth > 0;
  }
  char name[JB_TREE_NAME_MAX + 1];
  unsigned type;
  const char *listed =
    pack_name(&pack->names, &dir->names, dir->names.next++, &type);
  size_t size = tree_length(listed);
  /* A copy: the region may move when the child is a directory. */
  memcpy(name, listed, size + 1);
  /* Room for a slash, and for what a mark adds. */
  if (pack->path.size + size + sizeof(OPAQUE) + 2 > PACK_PATH_MAX)
    return tree_fail_bound(pack->report, JB_TREE_BOUND_DEPTH, &pack->path);
  (void)tree_path_add(&pack->path, name, size);
  struct child child = {.name = name, .fd = -1, .link = space->link};
  int failed = look_at(pack, dir, &child, type);
  if (failed == 0)
    failed = pack_child(pack, &child);
  tree_shut(&child.fd);
  return failed < 0 ? -1 : 1;
}

/* ---- all of it ---- */

/* The top has an entry in a tree, and in a layer if it differs. */
static int begin(struct pack *pack)
{
  const struct jb_pack *job = pack->job;
  struct child top = {.name = ".", .link = pack_space(pack)->link};
  int lower = -1;
  top.fd = (int)sys_openat(job->tree, ".", OPEN_DIRECTORY, 0);
  if (top.fd < 0)
    return pack_fail(pack, JB_TREE_OP_OPEN, top.fd);
  long error = tree_stat(top.fd, "", &top.stat);
  if (error == 0 && job->lower >= 0) {
    lower = (int)sys_openat(job->lower, ".", OPEN_DIRECTORY, 0);
    error = lower < 0 ? lower : 0;
  }
  if (error < 0) {
    tree_shut(&top.fd);
    return pack_fail(pack, JB_TREE_OP_OPEN, error);
  }
  struct below below;
  struct pack_dir around = {.fd = top.fd, .lower = lower};
  if (look_below(pack, &around, &top, &below) < 0 ||
      (!below.same && write_entry(pack, &top.stat, top.fd, "", 0) < 0)) {
    tree_shut(&top.fd);
    tree_shut(&lower);
    return -1;
  }
  return enter(pack, top.fd, lower, &top.stat, true);
}

static int walk(struct pack *pack)
{
  if (begin(pack) < 0)
    return -1;
  int more = 1;
  while (more > 0)
    more = step(pack);
  if (more < 0)
    return -1;
  pack->path.size = 0;
  return pack_zeros(pack, 2 * PACK_BLOCK) < 0 ? -1 : pack_flush(pack);
}

int jb_pack(const struct jb_pack *job, struct jb_tree_report *report,
            struct jb_pack_notes *notes)
{
  *report = (struct jb_tree_report){0};
  notes->size = 0;
  int error = 0;
  struct tree_space *memory =
    tree_space_make(sizeof(struct pack_space), &error);
  if (memory == NULL)
    return tree_fail(report, JB_TREE_OP_BOUND, error, "", 0);
  struct pack_space *space = (struct pack_space *)(void *)memory;
  struct pack *pack = &space->pack;
  pack->job = job;
  pack->report = report;
  pack->notes = notes;
  pack->path.text = space->path;
  pack->roots = (struct jb_tree_roots){.root = -1,
                                       .upper = job->tree,
                                       .lower = job->lower,
                                       .flags = JB_TREE_USERXATTR,
                                       .upper_base = job->tree_base,
                                       .lower_base = job->lower_base};
  pack->layer = (struct tree_layer){
    .report = report, .scratch = space->scratch, .roots = &pack->roots};
  pack->owners =
    (struct pack_owners){.at = job->owners, .size = job->owners_size};
  int failed = walk(pack);
  while (pack->depth > 0) {
    struct pack_dir *dir = dir_at(pack, --pack->depth);
    tree_shut(&dir->fd);
    tree_shut(&dir->lower);
  }
  pack_region_free(&pack->dirs);
  pack_region_free(&pack->names);
  pack_region_free(&pack->links.table);
  pack_region_free(&pack->links.paths);
  (void)sys_munmap(space, sizeof(*space));
  return failed;
}
