/* ops.c - the operations of a launch plan that make a root.
 *
 * RULES  1. A target is reached through a descriptor of the jail's root with
 *           RESOLVE_IN_ROOT, checked on the descriptor, and then mounted on
 *           through that descriptor.  No string is used twice.
 *        2. Host sources are descriptors that the host opened.
 *        3. An operation is one function; what it worked on is the detail.
 *
 * CONTENTS  ids . new file systems . trees . overlay . enter . root . targets
 *           . small things in the root . masks . the table */
#include "keeper.h"
#include "worker.h"

#define PROC_MAGIC 0x9fa0
#define PATH_FLAGS (O_PATH | O_CLOEXEC)

struct room {
  const struct launch *launch;
  const struct jb_op *op;
  int *slots;
  int root;   /* descriptor of the new root, or -1 before there is one */
  int stage;  /* where layers have names, or -1 */
  int mapped; /* slot of a layer whose ids are mapped, or -1 */
  int host;   /* mount namespace that BACK goes to, or -1 */
  int own;    /* ... and FORTH */
  struct jb_report *report;
};

static int give_up(struct room *room, enum jb_step step, long error,
                   const char *detail)
{
  return refuse(room->report, step, error, -1, detail);
}

static const char *op_path(const struct room *room)
{
  return record_text(&room->launch->record, room->op->path);
}

static int slot_at(const struct room *room, int index)
{
  return index >= 0 && index < JB_SLOTS_MAX ? room->slots[index] : -1;
}

/* Where a DIR, LINK, NODE or FILE works: in a slot, or in the root. */
static int base_of(const struct room *room)
{
  return room->op->slot < 0 ? room->root : slot_at(room, room->op->slot);
}

/* ---- ids ---------------------------------------------------------------- */

static long own(const struct room *room, int dir, const char *path)
{
  uint32_t base = room->launch->userns.base;
  return sys_fchownat(dir, path, base + room->op->uid, base + room->op->gid,
                      AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/* On a layer whose ids are mapped nothing can belong to an id that the jail has
 * not got, ours included: what is made there is made as the jail's root.  The
 * overlay is mounted so as well, for it goes on making things as whoever
 * mounted it.  A change of ids takes rights over files, which are wanted. */
static long act_as(uint32_t id)
{
  struct __user_cap_header_struct header = {.version =
                                              _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct rights[2];
  (void)sys_setfsgid(id);
  (void)sys_setfsuid(id);
  long rc = sys_capget(&header, rights);
  for (int i = 0; i < 2; i++)
    rights[i].effective = rights[i].permitted;
  return rc < 0 ? rc : sys_capset(&header, rights);
}

static void note_mapped(struct room *room)
{
  const uint32_t both = JB_OP_LAYER | JB_OP_IDMAP;
  if ((room->op->flags & both) == both)
    room->mapped = room->op->slot;
}

static bool on_mapped_layer(const struct room *room)
{
  const struct jb_op *op = room->op;
  bool makes =
    op->kind == JB_OP_ATTACH ||
    (op->slot < 0 && (op->kind == JB_OP_DIR || op->kind == JB_OP_LINK ||
                      op->kind == JB_OP_NODE || op->kind == JB_OP_FILE));
  return room->mapped >= 0 &&
         (op->slot == room->mapped || op->source == room->mapped ||
          (room->root >= 0 && makes));
}

/* ---- new file systems --------------------------------------------------- */

static long configure(const struct room *room, int fs, char *option)
{
  char shifted[24];
  char *value = option;
  while (*value != '\0' && *value != '=')
    value++;
  if (*value == '\0')
    return sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
  *value++ = '\0';
  if (text_starts(option, "uid") || text_starts(option, "gid")) {
    struct text text = text_into(shifted, sizeof(shifted));
    text_add_number(&text, text_number(value) + room->launch->userns.base);
    value = shifted;
  }
  return sys_fsconfig(fs, FSCONFIG_SET_STRING, option, value, 0);
}

/* Turn a configured file system into a mount in *slot*. */
static int mount_into_slot(struct room *room, int fs, int slot,
                           enum jb_step step, const char *detail)
{
  long rc = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  if (rc == 0)
    rc = sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)room->op->attr);
  if (rc < 0) {
    char why[JB_DETAIL_SIZE];
    struct text text = text_into(why, sizeof(why));
    text_add(&text, detail);
    text_add(&text, ": ");
    size_t used = text_length(why);
    /* The kernel's own words wait in the descriptor (fsopen(2)). */
    long got = sys_read(fs, why + used, sizeof(why) - used - 1);
    if (got > 0)
      why[used + (size_t)got] = '\0';
    else
      why[used - 2] = '\0';
    (void)sys_close(fs);
    return give_up(room, step, rc, why);
  }
  (void)sys_close(fs);
  room->slots[slot] = (int)rc;
  return 0;
}

static int op_fs(struct room *room)
{
  const char *type = op_path(room);
  const char *options = record_at(&room->launch->record, room->op->data);
  size_t left = options == NULL ? 0 : room->op->data.length;
  if (left != 0 && options[left - 1] != '\0')
    return give_up(room, JB_STEP_RECORD, JB_EINVAL, "options");
  long fs = sys_fsopen(type, FSOPEN_CLOEXEC);
  if (fs < 0)
    return give_up(room, JB_STEP_FS, fs, type);
  while (left != 0) {
    char option[256];
    struct text text = text_into(option, sizeof(option));
    text_add(&text, options);
    size_t used = text_length(options) + 1;
    options += used;
    left = used < left ? left - used : 0;
    long rc = configure(room, (int)fs, option);
    if (rc < 0) {
      (void)sys_close((int)fs);
      return give_up(room, JB_STEP_FS, rc, option);
    }
  }
  return mount_into_slot(room, (int)fs, room->op->slot, JB_STEP_FS, type);
}

/* ---- trees of the host -------------------------------------------------- */

static bool same_file(int left, int right)
{
  struct statx a;
  struct statx b;
  return sys_statx(left, "", AT_EMPTY_PATH, STATX_INO, &a) == 0 &&
         sys_statx(right, "", AT_EMPTY_PATH, STATX_INO, &b) == 0 &&
         a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major &&
         a.stx_dev_minor == b.stx_dev_minor;
}

/* A mount can only be cloned from the namespace that it stands in.  An
 * ordinary user's keeper has its own copy of the host's: find the same file
 * there by name and prove that it is the same. */
long view_of(bool rootless, int source, char *path, size_t size)
{
  if (!rootless)
    return source;
  char link[40];
  struct text text = text_into(link, sizeof(link));
  text_add(&text, "/proc/self/fd/");
  text_add_number(&text, (uint64_t)source);
  long length = sys_readlinkat(AT_FDCWD, link, path, size - 1);
  if (length < 0)
    return length;
  path[length] = '\0';
  long ours = sys_openat(AT_FDCWD, path, PATH_FLAGS | O_NOFOLLOW, 0);
  if (ours < 0)
    return ours;
  if (!same_file(source, (int)ours)) {
    (void)sys_close((int)ours);
    return -JB_ESTALE;
  }
  return ours;
}

static int op_tree(struct room *room)
{
  char path[512] = "";
  unsigned deep =
    (room->op->flags & JB_OP_RECURSIVE) != 0 ? (unsigned)AT_RECURSIVE : 0u;
  int index = room->op->source;
  bool prepared = (room->op->flags & JB_OP_PREPARED) != 0;
  bool own_slot = (room->op->flags & JB_OP_FROM_SLOT) != 0;
  size_t count = own_slot   ? JB_SLOTS_MAX
                 : prepared ? JB_PREPARED_MAX
                            : room->launch->fd_count;
  if (index < 0 || (size_t)index >= count)
    return give_up(room, JB_STEP_RECORD, JB_EINVAL, "tree");
  int source = own_slot   ? room->slots[index]
               : prepared ? room->launch->prepared[index]
                          : room->launch->fds[index];
  bool hosts = !prepared && !own_slot;
  long from =
    view_of(room->launch->rootless && hosts, source, path, sizeof(path));
  if (from < 0)
    return give_up(room, JB_STEP_TREE, from, path);
  long tree = sys_open_tree(
    (int)from, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | deep);
  if (from != source)
    (void)sys_close((int)from);
  if (tree < 0)
    return give_up(room, JB_STEP_TREE, tree, path);
  struct mount_attr attr = {.attr_set = room->op->attr,
                            .propagation = 0x40000 /* MS_PRIVATE */};
  if ((room->op->flags & JB_OP_IDMAP) != 0) {
    attr.attr_set |= MOUNT_ATTR_IDMAP;
    attr.userns_fd = (__u64)room->launch->userns.fd;
  }
  long rc = sys_mount_setattr((int)tree, "", AT_EMPTY_PATH | deep, &attr);
  if (rc < 0) {
    (void)sys_close((int)tree);
    return give_up(room, JB_STEP_TREE, rc, path);
  }
  room->slots[room->op->slot] = (int)tree;
  note_mapped(room);
  return 0;
}

/* ---- overlay ------------------------------------------------------------ */

static long layer_directory(const struct room *room, int layer,
                            const char *name, const char *part, unsigned mode,
                            bool owned)
{
  char path[96];
  struct text text = text_into(path, sizeof(path));
  text_add(&text, name);
  text_add(&text, part);
  bool fresh = true;
  long rc = sys_mkdirat(layer, path, mode);
  if (rc == -JB_EEXIST && (room->op->flags & JB_OP_REUSE) != 0) {
    fresh = false;
    rc = 0;
  }
  if (rc == 0 && fresh && owned)
    rc = own(room, layer, path);
  if (rc < 0)
    return rc;
  return sys_openat(layer, path, PATH_FLAGS | O_NOFOLLOW, 0);
}

/* A layer that was mounted `volatile` says so in its work directory and is
 * refused until that is taken away (overlayfs.rst, "Volatile mount"). */
static void forgive_volatile(int work)
{
  (void)sys_unlinkat(work, "work/incompat/volatile/dirty", 0);
  (void)sys_unlinkat(work, "work/incompat/volatile", AT_REMOVEDIR);
  (void)sys_unlinkat(work, "work/incompat", AT_REMOVEDIR);
}

static long overlay_lower(int fs, int at, const char *path)
{
  /* A mount descriptor is O_PATH on some kernels and not on others. */
  long dir = sys_openat(at, path, PATH_FLAGS | O_NOFOLLOW, 0);
  if (dir < 0)
    return dir;
  long rc = sys_fsconfig(fs, FSCONFIG_SET_FD, "lowerdir+", NULL, (int)dir);
  (void)sys_close((int)dir);
  return rc;
}

static long overlay_lowers(const struct room *room, int fs)
{
  char number[24];
  size_t count;
  const uint32_t *lowers = record_array(&room->launch->record, room->op->data,
                                        sizeof(*lowers), &count);
  long rc = 0;
  bool stacked = (room->op->flags & JB_OP_STACK) != 0 && count >= 2;
  size_t single = stacked ? count - 2 : count;
  for (size_t i = 0; i < single && rc == 0; i++)
    rc = overlay_lower(fs, slot_at(room, (int)lowers[i]), ".");
  if (!stacked)
    return rc;
  int stack = slot_at(room, (int)lowers[single]);
  uint32_t layers = stack < 0 ? 0 : lowers[single + 1];
  for (uint32_t i = 0; i < layers && rc == 0; i++) {
    struct text text = text_into(number, sizeof(number));
    text_add_number(&text, i);
    rc = overlay_lower(fs, stack, number);
  }
  return rc;
}

/* Layers are cloned into an overlay only from trees that stand in our mount
 * namespace: a stack stands on the root of the empty one for as long as its
 * overlays are made.  One clone, one change of attributes and one wait for
 * all of its layers: letting go of 120 that are apart takes 5 ms. */
static long raise_stack(int stack)
{
  return sys_move_mount(stack, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
}

static long fell_stack(int stack)
{
  long rc = sys_fchdir(stack);
  return rc < 0 ? rc : sys_umount2(".", 2 /* MNT_DETACH */);
}

static int stack_of(const struct room *room)
{
  size_t count;
  const uint32_t *data =
    record_array(&room->launch->record, room->op->data, sizeof(*data), &count);
  return count >= 2 ? slot_at(room, (int)data[count - 2]) : -1;
}

static long overlay_options(const struct room *room, int fs)
{
  uint32_t flags = room->op->flags;
  long rc = 0;
  if ((flags & JB_OP_USERXATTR) != 0)
    rc = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0);
  if (rc == 0 && (flags & JB_OP_VOLATILE) != 0)
    rc = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
  if (rc == 0 && (flags & JB_OP_REDIRECT) != 0)
    rc = sys_fsconfig(fs, FSCONFIG_SET_STRING, "redirect_dir", "on", 0);
  return rc;
}

/* The directories that an overlay writes to. */
static long layer_directories(const struct room *room, int layer, long *upper,
                              long *work)
{
  const char *name = op_path(room);
  *upper = layer_directory(room, layer, name, "-upper", room->op->mode, true);
  *work = layer_directory(room, layer, name, "-work", 0700, false);
  if (*upper >= 0 && *work >= 0 && (room->op->flags & JB_OP_REUSE) != 0)
    forgive_volatile((int)*work);
  return *upper < 0 ? *upper : *work < 0 ? *work : 0;
}

static long overlay_upper(const struct room *room, int fs, int layer)
{
  long upper = -1;
  long work = -1;
  long rc = layer_directories(room, layer, &upper, &work);
  if (rc == 0)
    rc = sys_fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, (int)upper);
  if (rc == 0)
    rc = sys_fsconfig(fs, FSCONFIG_SET_FD, "workdir", NULL, (int)work);
  if (upper >= 0)
    (void)sys_close((int)upper);
  if (work >= 0)
    (void)sys_close((int)work);
  return rc;
}

/* An overlay in *slot*; read-only if *layer* is -1. */
static int make_overlay(struct room *room, int slot, int layer)
{
  const char *name = op_path(room);
  long fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
  if (fs < 0)
    return give_up(room, JB_STEP_OVERLAY, fs, "overlay");
  uint32_t over = room->op->over;
  long rc = 0;
  if (over != 0 && layer >= 0)
    rc = overlay_lower((int)fs, slot_at(room, (int)over - 1), ".");
  if (rc == 0)
    rc = overlay_lowers(room, (int)fs);
  if (rc == 0)
    rc = overlay_options(room, (int)fs);
  if (rc == 0 && layer >= 0)
    rc = overlay_upper(room, (int)fs, layer);
  if (rc < 0) {
    (void)sys_close((int)fs);
    return give_up(room, JB_STEP_OVERLAY, rc, name);
  }
  return mount_into_slot(room, (int)fs, slot, JB_STEP_OVERLAY, name);
}

static long layer_by_name(const struct room *room, int *layer)
{
  long upper = -1;
  long work = -1;
  long rc = layer_directories(room, *layer, &upper, &work);
  if (upper >= 0)
    (void)sys_close((int)upper);
  if (work >= 0)
    (void)sys_close((int)work);
  return rc < 0 ? rc : byname_layer(room->stage, layer);
}

static int op_overlay_by_name(struct room *room)
{
  int lowers[JB_SLOTS_MAX];
  struct byname wish = {.lowers = lowers,
                        .name = op_path(room),
                        .flags = room->op->flags,
                        .attr = room->op->attr};
  const uint32_t *slots = record_array(&room->launch->record, room->op->data,
                                       sizeof(*slots), &wish.count);
  if (room->stage < 0 || wish.count > JB_SLOTS_MAX)
    return give_up(room, JB_STEP_RECORD, JB_EINVAL, "overlay");
  for (size_t i = 0; i < wish.count; i++)
    lowers[i] = slot_at(room, (int)slots[i]);
  long rc = 0;
  if (slot_at(room, room->op->source) >= 0) {
    wish.layer = &room->slots[room->op->source];
    rc = layer_by_name(room, &room->slots[room->op->source]);
  }
  if (rc == 0)
    rc = byname_overlay(room->stage, &wish);
  if (rc < 0)
    return give_up(room, JB_STEP_OVERLAY, rc, wish.name);
  room->slots[room->op->slot] = (int)rc;
  return 0;
}

static int op_overlay(struct room *room)
{
  if ((room->op->flags & JB_OP_BY_NAME) != 0)
    return op_overlay_by_name(room);
  bool stacked = (room->op->flags & JB_OP_STACK) != 0;
  uint64_t below = room->op->number;
  int stack = stacked ? stack_of(room) : -1;
  if (below > JB_SLOTS_MAX || (stacked && stack < 0))
    return give_up(room, JB_STEP_RECORD, JB_EINVAL, "overlay");
  long rc = stacked ? raise_stack(stack) : 0;
  if (rc < 0)
    return give_up(room, JB_STEP_OVERLAY, rc, "stack");
  int made =
    make_overlay(room, room->op->slot, slot_at(room, room->op->source));
  if (made == 0 && below != 0)
    made = make_overlay(room, (int)below - 1, -1);
  if (made == 0 && stacked)
    rc = fell_stack(stack);
  return rc < 0 ? give_up(room, JB_STEP_OVERLAY, rc, "stack") : made;
}

/* ---- enter -------------------------------------------------------------- */

/* Before the file systems that belong to a namespace (sysfs, mqueue), and
 * while the mounts that an ordinary user must show to get one are in sight. */
static int op_namespaces(struct room *room)
{
  const struct rooms *rooms = &room->launch->rooms;
  const int fds[] = {rooms->net, rooms->ipc, rooms->uts};
  long rc = 0;
  for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]) && rc == 0; i++)
    if (fds[i] >= 0)
      rc = sys_setns(fds[i], 0);
  if (rc < 0)
    return give_up(room, JB_STEP_ENTER, rc, "setns");
  /* The cgroup namespace begins where the jail is by now. */
  rc = sys_unshare((unsigned long)room->launch->start->namespaces);
  return rc < 0 ? give_up(room, JB_STEP_ENTER, rc, "unshare") : 0;
}

/* In the empty namespace there is no /proc: what shows our own is opened
 * before, and followed when we are there. */
static long own_namespaces(struct room *room)
{
  if ((room->op->flags & JB_OP_RETURN) == 0)
    return -1;
  long here =
    sys_openat(AT_FDCWD, "/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (here >= 0)
    room->host = (int)sys_openat((int)here, "mnt", O_RDONLY | O_CLOEXEC, 0);
  return here;
}

static int op_enter(struct room *room)
{
  long here = own_namespaces(room);
  long rc = sys_setns(room->launch->template, CLONE_NEWNS);
  if (rc < 0)
    return give_up(room, JB_STEP_ENTER, rc, "template");
  rc = sys_unshare(CLONE_NEWNS);
  if (here >= 0) {
    room->own = (int)sys_openat((int)here, "mnt", O_RDONLY | O_CLOEXEC, 0);
    (void)sys_close((int)here);
  }
  return rc < 0 ? give_up(room, JB_STEP_ENTER, rc, "unshare") : 0;
}

/* The kernel lists mounts in the order in which they were made, and programs
 * take the first one for the root.  Where the root can only be made in a
 * namespace of its own, everything that needs the host's is made after it. */
static int op_back(struct room *room)
{
  long rc = sys_setns(room->host, CLONE_NEWNS);
  return rc < 0 ? give_up(room, JB_STEP_ENTER, rc, "back") : 0;
}

static int op_forth(struct room *room)
{
  long rc = sys_setns(room->own, CLONE_NEWNS);
  (void)sys_close(room->host);
  (void)sys_close(room->own);
  return rc < 0 ? give_up(room, JB_STEP_ENTER, rc, "forth") : 0;
}

static int op_stage(struct room *room)
{
  long rc = byname_begin();
  if (rc < 0)
    return give_up(room, JB_STEP_OVERLAY, rc, "stage");
  room->stage = (int)rc;
  return 0;
}

static int op_strike(struct room *room)
{
  long rc = byname_end(room->stage);
  room->stage = -1;
  return rc < 0 ? give_up(room, JB_STEP_OVERLAY, rc, "strike") : 0;
}

/* ---- root --------------------------------------------------------------- */

static int op_root(struct room *room)
{
  int root = slot_at(room, room->op->slot);
  long rc = sys_move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
  if (rc == 0)
    rc = sys_fchdir(root);
  if (rc == 0)
    rc = sys_chroot(".");
  if (rc < 0)
    return give_up(room, JB_STEP_ROOT, rc, "/");
  room->root = root;
  return 0;
}

/* ---- targets ------------------------------------------------------------ */

static long reach(const struct room *room, const char *path, int flags)
{
  struct open_how how = {
    .flags = (uint64_t)(unsigned)flags | PATH_FLAGS,
    .resolve =
      RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS |
      ((room->op->flags & JB_OP_STRICT) != 0 ? RESOLVE_NO_SYMLINKS : 0u),
  };
  return sys_openat2(room->root, path, &how);
}

/* With both flags, the target is made like what is mounted on it. */
static bool wants_file(const struct room *room)
{
  struct statx stat;
  bool file = (room->op->flags & JB_OP_MAKE_FILE) != 0;
  if (!file || (room->op->flags & JB_OP_MAKE_DIR) == 0)
    return file;
  return sys_statx(slot_at(room, room->op->source), "", AT_EMPTY_PATH,
                   STATX_TYPE, &stat) == 0 &&
         (stat.stx_mode & S_IFMT) != S_IFDIR;
}

/* Make *path* part by part below the root.  Every part is made on a
 * descriptor that was itself reached in the root. */
static long make_target(const struct room *room, const char *path)
{
  char part[4096];
  bool file = wants_file(room);
  size_t length = text_length(path);
  size_t start = 0;
  if (length >= sizeof(part))
    return -JB_ENAMETOOLONG;
  while (path[start] == '/')
    start++;
  long parent = reach(room, ".", 0);
  for (size_t at = start; parent >= 0 && start < length; at++) {
    if (path[at] != '/' && path[at] != '\0')
      continue;
    bool last = path[at] == '\0';
    for (size_t i = 0; i < at; i++)
      part[i] = path[i];
    part[at] = '\0';
    long next = reach(room, part, 0);
    if (next == -JB_ENOENT) {
      long made = last && file
                    ? sys_mknodat((int)parent, part + start, S_IFREG | 0644, 0)
                    : sys_mkdirat((int)parent, part + start, 0755);
      if (made == 0)
        (void)own(room, (int)parent, part + start);
      next = made < 0 ? made : reach(room, part, 0);
    }
    (void)sys_close((int)parent);
    parent = next;
    if (last)
      break;
    while (path[at + 1] == '/')
      at++;
    start = at + 1;
    if (path[start] == '\0')
      break;
  }
  return parent;
}

static int op_open(struct room *room)
{
  const char *path = op_path(room);
  long fd;
  if (room->op->source >= 0)
    fd = sys_openat(slot_at(room, room->op->source), path,
                    PATH_FLAGS | O_NOFOLLOW, 0);
  else
    fd = room->root < 0 ? sys_openat(AT_FDCWD, path, PATH_FLAGS, 0)
                        : reach(room, path, O_NOFOLLOW);
  if (fd < 0)
    return give_up(room, JB_STEP_ATTACH, fd, path);
  room->slots[room->op->slot] = (int)fd;
  return 0;
}

static int op_take(struct room *room)
{
  int index = room->op->source;
  if (index < 0 || (size_t)index >= room->launch->fd_count)
    return give_up(room, JB_STEP_RECORD, JB_EINVAL, "take");
  room->slots[room->op->slot] = room->launch->fds[index];
  note_mapped(room);
  return 0;
}

static int op_attach(struct room *room)
{
  const char *path = op_path(room);
  long target = reach(room, path, 0);
  if (target == -JB_ENOENT &&
      (room->op->flags & (JB_OP_MAKE_DIR | JB_OP_MAKE_FILE)) != 0)
    target = make_target(room, path);
  if (target < 0)
    return give_up(room, JB_STEP_ATTACH, target, path);
  long rc = sys_move_mount(slot_at(room, room->op->source), "", (int)target, "",
                           MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  (void)sys_close((int)target);
  return rc < 0 ? give_up(room, JB_STEP_ATTACH, rc, path) : 0;
}

/* Into a tree that is not attached yet, and has nothing in it but what we put
 * there. */
static int op_graft(struct room *room)
{
  const char *path = op_path(room);
  struct open_how how = {.flags = PATH_FLAGS,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
  long target = sys_openat2(slot_at(room, room->op->slot), path, &how);
  if (target < 0)
    return give_up(room, JB_STEP_ATTACH, target, path);
  long rc = sys_move_mount(slot_at(room, room->op->source), "", (int)target, "",
                           MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  (void)sys_close((int)target);
  return rc < 0 ? give_up(room, JB_STEP_ATTACH, rc, path) : 0;
}

/* ---- small things in the root ------------------------------------------- */

static int finish(struct room *room, enum jb_step step, long rc, int base,
                  const char *path)
{
  if (rc == -JB_EEXIST && (room->op->flags & JB_OP_OPTIONAL) != 0)
    return 0;
  if (rc == 0)
    rc = own(room, base, path);
  return rc < 0 ? give_up(room, step, rc, path) : 0;
}

static int op_dir(struct room *room)
{
  const char *path = op_path(room);
  int base = base_of(room);
  long rc = sys_mkdirat(base, path, room->op->mode);
  return finish(room, JB_STEP_DIR, rc, base, path);
}

static int op_link(struct room *room)
{
  const char *path = op_path(room);
  int base = base_of(room);
  const char *target = record_text(&room->launch->record, room->op->data);
  long rc = sys_symlinkat(target, base, path);
  return finish(room, JB_STEP_LINK, rc, base, path);
}

static int op_node(struct room *room)
{
  const char *path = op_path(room);
  int base = base_of(room);
  long rc = sys_mknodat(base, path, room->op->mode, (unsigned)room->op->number);
  return finish(room, JB_STEP_NODE, rc, base, path);
}

static int op_file(struct room *room)
{
  const char *path = op_path(room);
  int base = base_of(room);
  const char *data = record_at(&room->launch->record, room->op->data);
  size_t size = data == NULL ? 0 : room->op->data.length;
  struct open_how how = {
    .flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
    .mode = room->op->mode,
    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
  };
  long fd = sys_openat2(base, path, &how);
  if (fd < 0)
    return finish(room, JB_STEP_FILE, fd, base, path);
  long rc = 0;
  while (size != 0 && rc >= 0) {
    rc = sys_write((int)fd, data, size);
    if (rc > 0) {
      data += rc;
      size -= (size_t)rc;
    }
  }
  if (rc >= 0)
    rc = own(room, (int)fd, "");
  (void)sys_close((int)fd);
  return rc < 0 ? give_up(room, JB_STEP_FILE, rc, path) : 0;
}

static int op_sysctl(struct room *room)
{
  const char *path = op_path(room);
  const char *value = record_text(&room->launch->record, room->op->data);
  struct open_how how = {
    .flags = O_WRONLY | O_CLOEXEC,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
  };
  struct jb_statfs fs;
  long fd = sys_openat2(slot_at(room, room->op->slot), path, &how);
  if (fd == -JB_ENOENT && (room->op->flags & JB_OP_OPTIONAL) != 0)
    return 0;
  if (fd < 0)
    return give_up(room, JB_STEP_SYSCTL, fd, path);
  long rc = sys_fstatfs((int)fd, &fs);
  if (rc == 0 && fs.type != PROC_MAGIC)
    rc = -JB_EXDEV;
  if (rc == 0)
    rc = sys_write((int)fd, value, text_length(value));
  (void)sys_close((int)fd);
  return rc < 0 ? give_up(room, JB_STEP_SYSCTL, rc, path) : 0;
}

/* ---- masks -------------------------------------------------------------- */

/* What a masked path shows: source is a slot with an empty read-only
 * directory; number a slot with the null device of our own making. */
static int op_mask(struct room *room)
{
  const char *path = op_path(room);
  struct statx stat;
  long target = reach(room, path, O_NOFOLLOW);
  if (target == -JB_ENOENT)
    return 0;
  if (target < 0)
    return give_up(room, JB_STEP_MASK, target, path);
  long rc = sys_statx((int)target, "", AT_EMPTY_PATH, STATX_TYPE, &stat);
  if (rc == 0 && (stat.stx_mode & S_IFMT) == S_IFLNK)
    rc = -JB_ELOOP;
  if (rc == 0) {
    bool directory = (stat.stx_mode & S_IFMT) == S_IFDIR;
    int from =
      slot_at(room, directory ? room->op->source : (int)room->op->number);
    long cover = sys_open_tree(
      from, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    rc = cover < 0
           ? cover
           : sys_move_mount((int)cover, "", (int)target, "",
                            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (cover >= 0)
      (void)sys_close((int)cover);
  }
  (void)sys_close((int)target);
  return rc < 0 ? give_up(room, JB_STEP_MASK, rc, path) : 0;
}

static int op_readonly(struct room *room)
{
  const char *path = op_path(room);
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | room->op->attr};
  bool recursive = (room->op->flags & JB_OP_RECURSIVE) != 0;
  unsigned deep = recursive ? (unsigned)AT_RECURSIVE : 0u;
  long target = reach(room, path, O_NOFOLLOW);
  if (target == -JB_ENOENT)
    return 0;
  if (target < 0)
    return give_up(room, JB_STEP_READONLY, target, path);
  long rc;
  if (path[0] == '\0' || (path[0] == '/' && path[1] == '\0')) {
    /* The root is a mount of its own already. */
    rc = sys_mount_setattr((int)target, "", AT_EMPTY_PATH, &attr);
  } else {
    long tree =
      sys_open_tree((int)target, "",
                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | deep);
    rc = tree < 0
           ? tree
           : sys_mount_setattr((int)tree, "", AT_EMPTY_PATH | deep, &attr);
    if (rc == 0)
      rc = sys_move_mount((int)tree, "", (int)target, "",
                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (tree >= 0)
      (void)sys_close((int)tree);
  }
  (void)sys_close((int)target);
  return rc < 0 ? give_up(room, JB_STEP_READONLY, rc, path) : 0;
}

/* ---- the table ---------------------------------------------------------- */

static int (*const operations[])(struct room *) = {
  [JB_OP_FS] = op_fs,           [JB_OP_TREE] = op_tree,
  [JB_OP_OVERLAY] = op_overlay, [JB_OP_ENTER] = op_enter,
  [JB_OP_ROOT] = op_root,       [JB_OP_ATTACH] = op_attach,
  [JB_OP_DIR] = op_dir,         [JB_OP_LINK] = op_link,
  [JB_OP_NODE] = op_node,       [JB_OP_FILE] = op_file,
  [JB_OP_MASK] = op_mask,       [JB_OP_READONLY] = op_readonly,
  [JB_OP_SYSCTL] = op_sysctl,   [JB_OP_NAMESPACES] = op_namespaces,
  [JB_OP_OPEN] = op_open,       [JB_OP_TAKE] = op_take,
  [JB_OP_GRAFT] = op_graft,     [JB_OP_STAGE] = op_stage,
  [JB_OP_STRIKE] = op_strike,   [JB_OP_BACK] = op_back,
  [JB_OP_FORTH] = op_forth,
};

/* Which step a refused operation counts as; only test builds ask ahead. */
static const enum jb_step op_steps[] = {
  [JB_OP_FS] = JB_STEP_FS,           [JB_OP_TREE] = JB_STEP_TREE,
  [JB_OP_OVERLAY] = JB_STEP_OVERLAY, [JB_OP_ENTER] = JB_STEP_ENTER,
  [JB_OP_ROOT] = JB_STEP_ROOT,       [JB_OP_ATTACH] = JB_STEP_ATTACH,
  [JB_OP_DIR] = JB_STEP_DIR,         [JB_OP_LINK] = JB_STEP_LINK,
  [JB_OP_NODE] = JB_STEP_NODE,       [JB_OP_FILE] = JB_STEP_FILE,
  [JB_OP_MASK] = JB_STEP_MASK,       [JB_OP_READONLY] = JB_STEP_READONLY,
  [JB_OP_SYSCTL] = JB_STEP_SYSCTL,   [JB_OP_NAMESPACES] = JB_STEP_NONE,
  [JB_OP_OPEN] = JB_STEP_NONE,       [JB_OP_TAKE] = JB_STEP_NONE,
  [JB_OP_GRAFT] = JB_STEP_ATTACH,    [JB_OP_STAGE] = JB_STEP_NONE,
  [JB_OP_STRIKE] = JB_STEP_NONE,     [JB_OP_BACK] = JB_STEP_NONE,
  [JB_OP_FORTH] = JB_STEP_NONE,
};

_Static_assert(sizeof(op_steps) / sizeof(op_steps[0]) ==
                 sizeof(operations) / sizeof(operations[0]),
               "every operation has its step");

static bool fills_slot(uint32_t kind)
{
  return kind == JB_OP_FS || kind == JB_OP_TREE || kind == JB_OP_OVERLAY ||
         kind == JB_OP_OPEN || kind == JB_OP_TAKE;
}

static int run_op(struct room *room)
{
  if (!on_mapped_layer(room))
    return operations[room->op->kind](room);
  long acting = act_as(room->launch->userns.base);
  int rc = acting < 0
             ? give_up(room, JB_STEP_CAPABILITIES, acting, op_path(room))
             : operations[room->op->kind](room);
  (void)act_as(0);
  return rc;
}

int ops_run(const struct launch *launch, int *slots, struct jb_report *report)
{
  size_t count;
  const struct jb_op *ops =
    record_array(&launch->record, launch->ops, sizeof(*ops), &count);
  struct room room = {.launch = launch,
                      .slots = slots,
                      .root = -1,
                      .stage = -1,
                      .mapped = -1,
                      .host = -1,
                      .own = -1,
                      .report = report};
  for (size_t i = 0; i < count; i++) {
    room.op = &ops[i];
    int rc;
    if (ops[i].kind == 0 ||
        ops[i].kind >= sizeof(operations) / sizeof(operations[0]) ||
        ops[i].slot >= JB_SLOTS_MAX ||
        (ops[i].slot < 0 && fills_slot(ops[i].kind)))
      rc = give_up(&room, JB_STEP_RECORD, JB_EINVAL, "op");
    else if (fault(launch, op_steps[ops[i].kind]))
      rc = give_up(&room, op_steps[ops[i].kind], launch->start->fail_errno,
                   op_path(&room));
    else
      rc = run_op(&room);
    if (rc < 0) {
      report->index = (int)i;
      return rc;
    }
  }
  return 0;
}
