/* byname.c - overlays for kernels that only take their layers by name.
 *
 * PROBLEM  Before Linux 6.13 an overlay looks up its layers by path, and takes
 *          only what is mounted in the namespace of who asks (fs/namespace.c,
 *          clone_private_mount).  The host's paths are none of a jail's
 *          business, and a name can be changed between two looks.
 * CHOICE   In the jail's own mount namespace, over the empty root, stands for
 *          a moment a file system of our own, closed to everybody.  The clones
 *          that descriptors brought are mounted in it under numbers; the
 *          overlay is told these; then everything is taken away again.  What
 *          is left is what the other way leaves: detached mounts.
 * RULES    1. No name but our own numbers, relative to a directory that we hold
 *             and nobody else has seen.
 *          2. The layer leaves as a fresh detached clone: a mount that has been
 *             taken away can never be mounted again. */
#include "keeper.h"

#define LAYER "layer"
#define MERGED "merged"
#define OPTIONS_SIZE 4096 /* mount(2): what is longer is cut off */

/* A descriptor of the place, which is also the working directory. */
long byname_begin(void)
{
  long fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
  if (fs < 0)
    return fs;
  (void)sys_fsconfig((int)fs, FSCONFIG_SET_STRING, "mode", "0700", 0);
  long rc = sys_fsconfig((int)fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  long place =
    rc < 0
      ? rc
      : sys_fsmount((int)fs, FSMOUNT_CLOEXEC,
                    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  (void)sys_close((int)fs);
  if (place < 0)
    return place;
  rc = sys_move_mount((int)place, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
  /* Our own root stays the one below: only who is told comes here. */
  if (rc == 0)
    rc = sys_fchdir((int)place);
  if (rc < 0)
    (void)sys_close((int)place);
  return rc < 0 ? rc : place;
}

static long put(int place, int mount, const char *name)
{
  long rc = sys_mkdirat(place, name, 0700);
  if (rc < 0 && rc != -JB_EEXIST)
    return rc;
  return sys_move_mount(mount, "", place, name, MOVE_MOUNT_F_EMPTY_PATH);
}

static long clone_of(int place, const char *name)
{
  return sys_open_tree(place, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* Mount the layer where overlays find it, and give its slot a clone that can
 * be mounted another time. */
long byname_layer(int place, int *layer)
{
  struct statx stat;
  if (sys_statx(place, LAYER, 0, STATX_TYPE, &stat) == 0)
    return 0;
  long rc = put(place, *layer, LAYER);
  long fresh = rc < 0 ? rc : clone_of(place, LAYER);
  if (fresh < 0)
    return fresh;
  *layer = (int)fresh;
  return 0;
}

static void add_option(struct text *out, const char *name, const char *value)
{
  text_add(out, ",");
  text_add(out, name);
  text_add(out, value);
}

/* A layer's place is its number. */
static void number_name(size_t number, char *name, size_t size)
{
  struct text text = text_into(name, size);
  text_add_number(&text, number);
}

static void write_options(const struct byname *wish, char *options, size_t size)
{
  struct text text = text_into(options, size);
  text_add(&text, "lowerdir=");
  for (size_t i = 0; i < wish->count; i++) {
    if (i != 0)
      text_add(&text, ":");
    text_add_number(&text, i);
  }
  if (wish->layer != NULL) {
    add_option(&text, "upperdir=" LAYER "/", wish->name);
    text_add(&text, "-upper");
    add_option(&text, "workdir=" LAYER "/", wish->name);
    text_add(&text, "-work");
  }
  if ((wish->flags & JB_OP_USERXATTR) != 0)
    add_option(&text, "userxattr", "");
  else /* what a layer says about other layers is not to be believed */
    add_option(&text, "redirect_dir=nofollow,metacopy=off", "");
  if (wish->layer != NULL && (wish->flags & JB_OP_VOLATILE) != 0)
    add_option(&text, "volatile", "");
}

long byname_overlay(int place, const struct byname *wish)
{
  char options[OPTIONS_SIZE];
  char name[24];
  size_t done = 0;
  write_options(wish, options, sizeof(options));
  if (text_length(options) >= sizeof(options) - 1)
    return -JB_E2BIG;
  long rc = sys_mkdirat(place, MERGED, 0700);
  if (rc == -JB_EEXIST)
    rc = 0;
  while (rc == 0 && done < wish->count) {
    number_name(done, name, sizeof(name));
    rc = put(place, wish->lowers[done], name);
    if (rc == 0)
      done++;
  }
  /* MS_* and MOUNT_ATTR_* are the same numbers, as far as we use them. */
  if (rc == 0)
    rc = sys_mount("overlay", MERGED, "overlay", wish->attr, options);
  long overlay = rc < 0 ? rc : clone_of(place, MERGED);
  if (rc == 0)
    (void)sys_umount2(MERGED, 2 /* MNT_DETACH */);
  while (done != 0) {
    number_name(--done, name, sizeof(name));
    (void)sys_umount2(name, 2 /* MNT_DETACH */);
  }
  return overlay;
}

long byname_end(int place)
{
  long rc = sys_fchdir(place);
  if (rc == 0)
    rc = sys_umount2(".", 2 /* MNT_DETACH */);
  if (rc == 0)
    rc = sys_chdir("/");
  (void)sys_close(place);
  return rc;
}
