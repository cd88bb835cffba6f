/* template.c - a mount namespace with nothing in it.
 *
 * PROBLEM  A new mount namespace is a copy of the creator's: each mount of the
 *          host costs a microsecond to copy and half of one to drop, and
 *          pivot_root walks every task of the machine to move their roots
 *          (1.4 ms at 4,000 tasks).
 * CHOICE   One namespace, made once, holds a single empty read-only tmpfs.  A
 *          jail enters it, copies that one mount, puts its root on top and
 *          changes its own root there.  Below the jail's root is the empty
 *          tmpfs, so a way out of the root leads back into it. */
#include "keeper.h"

static long empty_root(void)
{
  static const char *const places[] = {"/tmp", "/mnt", "/proc", "/sys"};
  struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
  long rc = sys_mount(NULL, "/", NULL, 0x44000 /* MS_REC | MS_PRIVATE */, NULL);
  if (rc < 0)
    return rc;
  long fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
  if (fs < 0)
    return fs;
  (void)sys_fsconfig((int)fs, FSCONFIG_SET_STRING, "mode", "0755", 0);
  rc = sys_fsconfig((int)fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  if (rc < 0)
    return rc;
  long root =
    sys_fsmount((int)fs, FSMOUNT_CLOEXEC,
                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (root < 0)
    return root;
  for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
    rc = sys_move_mount((int)root, "", AT_FDCWD, places[i],
                        MOVE_MOUNT_F_EMPTY_PATH);
    if (rc == 0)
      break;
  }
  if (rc == 0)
    rc = sys_fchdir((int)root);
  if (rc == 0) /* pivot_root(2): "pivot_root(".", ".")" */
    rc = sys_pivot_root(".", ".");
  if (rc == 0)
    rc = sys_umount2(".", 2 /* MNT_DETACH */);
  if (rc == 0)
    rc = sys_mount_setattr((int)root, "", AT_EMPTY_PATH, &readonly);
  return rc;
}

/* A descriptor of the namespace, or -1 with *report*. */
int template_make(int keeper, struct jb_report *report)
{
  int gate[2];
  int rc = 0;
  char path[48];
  long made = sys_pipe2(gate, O_CLOEXEC);
  if (made < 0)
    return refuse(report, JB_STEP_TEMPLATE, made, -1, "pipe");
  struct clone_args args = {.flags = CLONE_NEWNS, .exit_signal = JB_SIGCHLD};
  long child = sys_clone3(&args);
  if (child == 0) {
    rc = (int)empty_root();
    (void)sys_write(gate[1], &rc, sizeof(rc));
    life_wait(keeper);
  }
  (void)sys_close(gate[1]);
  if (child > 0 && sys_read(gate[0], &rc, sizeof(rc)) != sizeof(rc))
    rc = -JB_EIO;
  (void)sys_close(gate[0]);
  if (child < 0)
    return refuse(report, JB_STEP_TEMPLATE, child, -1, "clone");
  struct text text = text_into(path, sizeof(path));
  text_add(&text, "/proc/");
  text_add_number(&text, (uint64_t)child);
  text_add(&text, "/ns/mnt");
  long ns = rc < 0 ? rc : sys_openat(AT_FDCWD, path, O_CLOEXEC, 0);
  (void)sys_kill((int)child, JB_SIGKILL);
  while (sys_wait4((int)child, NULL, 0, NULL) == -JB_EINTR)
    continue;
  if (ns < 0)
    return refuse(report, JB_STEP_TEMPLATE, ns, -1, rc < 0 ? "mount" : path);
  return (int)ns;
}
