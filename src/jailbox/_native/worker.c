/* worker.c - from a fresh child of the keeper to a worker, and its end.
 *
 * THE ORDER  Trees are cloned while the host's mounts are in sight; the
 *            overlay is mounted while we may; then the namespace without
 *            mounts, the root, and away with every right, descriptor and
 *            system call that the work does not need.
 *
 * CONTENTS  answers . trees . root . rights . the table . the work */
#include "worker.h"
#include "keeper.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/* Paths of a million entries; whoever has more to say is no image. */
#define NOTES_MAX ((uint64_t)256 << 20)
#define MEMORY_MAX ((uint64_t)512 << 20)
#define FILES_MAX 256u
/* Beside a lower, every directory on the way down keeps two open (pack.c). */
#define PACK_FILES_MAX 4096u
#define LOWERS_MAX 128u

#define RLIMIT_NOFILE 7

#define CAP(name) ((uint64_t)1 << (name))

struct bench {
  const struct labor *labor;
  struct work *work;
  struct jb_report report;
  int tree;               /* mount of the tree */
  int lowers[LOWERS_MAX]; /* mounts */
  int root;               /* mount that becomes the root */
  int resident;           /* what tells our memory, or -1 */
};

/* ---- answers ------------------------------------------------------------ */

int work_fail(struct work *work, enum jb_work_reason reason, long error,
              const char *detail, size_t size)
{
  struct jb_worked *worked = &work->worked;
  if (size > sizeof(worked->detail))
    size = sizeof(worked->detail);
  for (size_t i = 0; i < size; i++)
    worked->detail[i] = detail[i];
  worked->reason = (int32_t)reason;
  worked->error = (int32_t)(error < 0 ? -error : error);
  worked->detail_size = (uint32_t)size;
  return -1;
}

int work_refused(struct work *work, long error, const char *detail)
{
  return work_fail(work, JB_WORK_SYSTEM, error, detail, text_length(detail));
}

static long write_notes(const struct work *work, const void *from, size_t size)
{
  const char *at = from;
  while (size != 0) {
    long wrote = sys_write(work->notes, at, size);
    if (wrote == -JB_EINTR)
      continue;
    if (wrote <= 0)
      return wrote < 0 ? wrote : -JB_EIO;
    at += wrote;
    size -= (size_t)wrote;
  }
  return 0;
}

int work_note(struct work *work, const struct jb_note *note, const char *path,
              const char *text)
{
  uint64_t size = sizeof(*note) + note->path_size + note->text_size;
  if (work->notes < 0)
    return 0;
  if (work->notes_size + size > NOTES_MAX)
    return work_fail(work, JB_WORK_MAX_NOTES, 0, path, note->path_size);
  work->notes_size += size;
  long rc = write_notes(work, note, sizeof(*note));
  if (rc == 0)
    rc = write_notes(work, path, note->path_size);
  if (rc == 0)
    rc = write_notes(work, text, note->text_size);
  return rc < 0 ? work_refused(work, rc, "notes") : 0;
}

void *work_memory(struct work *work, size_t size)
{
  long at = sys_mmap(NULL, size, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) {
    (void)work_refused(work, at, "memory");
    return NULL;
  }
  return (void *)at;
}

/* ---- trees -------------------------------------------------------------- */

static int tie_to_keeper(struct bench *bench)
{
  long rc = life_tie(bench->labor->keeper);
  if (rc < 0)
    return refuse(&bench->report, JB_STEP_LIFE, rc, -1, "pdeathsig");
  (void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)"jailbox-worker", 0, 0,
                  0);
  (void)sys_prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  (void)sys_umask(0);
  bench->resident = resident_open();
  return 0;
}

/* A mount of one directory of the host, with nothing below it.  Whatever is
 * made in it acts for nobody: no device opens, no program gains rights. */
static int clone_directory(struct bench *bench, int32_t index, bool readonly,
                           int *out)
{
  char path[512] = "";
  const struct labor *labor = bench->labor;
  struct mount_attr attr = {
    .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                (readonly ? MOUNT_ATTR_RDONLY : 0u),
    .propagation = 0x40000 /* MS_PRIVATE */,
  };
  if (index < 0 || (size_t)index >= labor->fd_count)
    return refuse(&bench->report, JB_STEP_RECORD, JB_EINVAL, index, "tree");
  int source = labor->fds[index];
  long from = view_of(labor->rootless, source, path, sizeof(path));
  /* What has no name anywhere is a layer that our own jails made. */
  if (from == -JB_ENOENT || from == -JB_ESTALE)
    from = source;
  if (from < 0)
    return refuse(&bench->report, JB_STEP_TREE, from, index, path);
  long tree = sys_open_tree(
    (int)from, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
  if (from != source)
    (void)sys_close((int)from);
  if (tree >= 0) {
    long rc = sys_mount_setattr((int)tree, "", AT_EMPTY_PATH, &attr);
    if (rc < 0) {
      (void)sys_close((int)tree);
      tree = rc;
    }
  }
  if (tree < 0)
    return refuse(&bench->report, JB_STEP_TREE, tree, index, path);
  *out = (int)tree;
  return 0;
}

static int clone_trees(struct bench *bench)
{
  const struct jb_work *order = bench->work->order;
  bool readonly = (order->flags & JB_WORK_READONLY) != 0;
  if (order->lower_count > LOWERS_MAX)
    return refuse(&bench->report, JB_STEP_WORK, JB_E2BIG, -1, "lowers");
  if (clone_directory(bench, order->tree, readonly, &bench->tree) < 0)
    return -1;
  for (uint32_t i = 0; i < order->lower_count; i++)
    if (clone_directory(bench, order->lowers + (int32_t)i, true,
                        &bench->lowers[i]) < 0)
      return -1;
  bench->root = bench->tree;
  return 0;
}

/* What a mount descriptor shows.  It is O_PATH on some kernels and not on
 * others, and a layer is given to an overlay as O_PATH. */
static long directory_of(int mount, int flags)
{
  return sys_openat(mount, ".", flags | O_DIRECTORY | O_CLOEXEC, 0);
}

static long overlay_layer(int fs, const char *key, int mount, const char *name)
{
  long dir =
    sys_openat(mount, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (dir < 0)
    return dir;
  long rc = sys_fsconfig(fs, FSCONFIG_SET_FD, key, NULL, (int)dir);
  (void)sys_close((int)dir);
  return rc;
}

static long overlay_mount(struct bench *bench, bool merge)
{
  const struct work *work = bench->work;
  const char *upper = record_text(&work->record, work->order->name);
  const char *space = record_text(&work->record, work->order->space);
  long fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
  if (fs < 0)
    return fs;
  long rc = sys_fsconfig((int)fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0);
  for (uint32_t i = 0; i < work->order->lower_count && rc == 0; i++)
    rc = overlay_layer((int)fs, "lowerdir+", bench->lowers[i], ".");
  /* Both halves are reached by one mount, or the kernel refuses them. */
  if (rc == 0 && merge)
    rc = overlay_layer((int)fs, "upperdir", bench->tree, upper);
  if (rc == 0 && merge)
    rc = overlay_layer((int)fs, "workdir", bench->tree, space);
  /* Whoever wants the tree to last syncs it as a whole. */
  if (rc == 0 && merge)
    rc = sys_fsconfig((int)fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
  if (rc == 0)
    rc = sys_fsconfig((int)fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
  if (rc == 0)
    rc = sys_fsmount((int)fs, FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                       (merge ? 0u : MOUNT_ATTR_RDONLY));
  (void)sys_close((int)fs);
  return rc;
}

static int lay_over(struct bench *bench)
{
  struct work *work = bench->work;
  uint32_t lowers = work->order->lower_count;
  bool merge = (work->flags & JB_WORK_MERGE) != 0;
  long mount = -1;
  long rc = 0;
  if (merge) {
    mount = overlay_mount(bench, true);
    rc =
      mount < 0
        ? mount
        : sys_openat(bench->tree, record_text(&work->record, work->order->name),
                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    work->upper = (int)rc;
    bench->root = (int)mount;
  } else if (lowers == 1) {
    rc = directory_of(bench->lowers[0], O_RDONLY);
    work->lower = (int)rc;
  } else if (lowers > 1) {
    mount = overlay_mount(bench, false);
    rc = mount < 0 ? mount : directory_of((int)mount, O_RDONLY);
    work->lower = (int)rc;
  }
  return rc < 0 ? refuse(&bench->report, JB_STEP_OVERLAY, rc, -1, "overlay")
                : 0;
}

/* ---- root --------------------------------------------------------------- */

static int enter(struct bench *bench)
{
  long rc = sys_setns(bench->labor->template, CLONE_NEWNS);
  if (rc == 0)
    rc = sys_unshare(CLONE_NEWNS);
  return rc < 0 ? refuse(&bench->report, JB_STEP_ENTER, rc, -1, "template") : 0;
}

/* Below the root is the empty read-only file system of the template. */
static int take_root(struct bench *bench)
{
  long rc =
    sys_move_mount(bench->root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
  if (rc == 0)
    rc = sys_fchdir(bench->root);
  if (rc == 0)
    rc = sys_chroot(".");
  if (rc == 0) {
    rc = directory_of(AT_FDCWD, O_RDONLY);
    bench->work->root = (int)rc;
  }
  return rc < 0 ? refuse(&bench->report, JB_STEP_ROOT, rc, -1, "/") : 0;
}

/* ---- rights ------------------------------------------------------------- */

static int drop_descriptors(struct bench *bench)
{
  struct work *work = bench->work;
  int keep[] = {work->channel, work->stream, work->notes,    work->root,
                work->upper,   work->lower,  bench->resident};
  close_others(keep, sizeof(keep) / sizeof(keep[0]));
  return 0;
}

static int bound(struct bench *bench)
{
  uint64_t bytes = bench->work->order->max_bytes;
  const struct {
    int resource;
    uint64_t limit;
  } limits[] = {
    {1 /* RLIMIT_FSIZE */, bytes != 0 ? bytes : ~(uint64_t)0},
    {4 /* RLIMIT_CORE */, 0},
    {RLIMIT_NOFILE,
     bench->work->kind == JB_WORK_PACK ? PACK_FILES_MAX : FILES_MAX},
    {9 /* RLIMIT_AS */, MEMORY_MAX},
  };
  for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
    struct jb_rlimit64 have;
    long rc = sys_prlimit64(0, limits[i].resource, NULL, &have);
    if (rc == 0 && limits[i].limit < have.hard)
      have.hard = limits[i].limit;
    if (rc == 0 &&
        (have.soft > have.hard || limits[i].resource == RLIMIT_NOFILE))
      have.soft = have.hard;
    if (rc == 0)
      rc = sys_prlimit64(0, limits[i].resource, &have, NULL);
    if (rc < 0)
      return refuse(&bench->report, JB_STEP_RLIMIT, rc, limits[i].resource,
                    "worker");
  }
  return 0;
}

static int drop_rights(struct bench *bench)
{
  uint64_t kept = CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FOWNER) |
                  CAP(CAP_FSETID) | CAP(CAP_MKNOD) | CAP(CAP_SETFCAP);
  if ((bench->work->flags & JB_WORK_READONLY) != 0)
    kept = CAP(CAP_DAC_READ_SEARCH);
  (void)bounding_drop(~(uint64_t)0, kept);
  (void)sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  long rc = set_capabilities(kept, 0);
  return rc < 0 ? refuse(&bench->report, JB_STEP_CAPABILITIES, rc, -1, "capset")
                : 0;
}

static int renounce(struct bench *bench)
{
  long rc = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return rc < 0 ? refuse(&bench->report, JB_STEP_NO_NEW_PRIVS, rc, -1, "prctl")
                : 0;
}

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#define OUR_ARCH AUDIT_ARCH_RISCV64
#endif

/* What work on files consists of.  Nothing here makes a process, a socket or
 * a mount, or reaches another process. */
static const unsigned short allowed[] = {
  __NR_read,         __NR_write,
  __NR_openat,       __NR_openat2,
  __NR_close,        __NR_utimensat,
  __NR_fchownat,     __NR_fchown,
  __NR_fchmod,       __NR_fchmodat,
  __NR_statx,        __NR_mkdirat,
  __NR_symlinkat,    __NR_linkat,
  __NR_unlinkat,     __NR_mknodat,
  __NR_readlinkat,   __NR_renameat2,
  __NR_fsetxattr,    __NR_fgetxattr,
  __NR_flistxattr,   __NR_fremovexattr,
  __NR_setxattr,     __NR_getxattr,
  __NR_listxattr,    __NR_lsetxattr,
  __NR_lgetxattr,    __NR_llistxattr,
  __NR_lremovexattr, __NR_getdents64,
  __NR_lseek,        __NR_pread64,
  __NR_pwrite64,     __NR_ftruncate,
  __NR_fallocate,    __NR_fchdir,
  __NR_getcwd,       __NR_mmap,
  __NR_munmap,       __NR_ppoll,
  __NR_sendmsg,      __NR_fcntl,
  __NR_exit_group,   __NR_clock_gettime,
  __NR_splice,       __NR_copy_file_range,
  __NR_sendfile,     __NR_writev,
  __NR_dup,          __NR_fadvise64,
  __NR_rt_sigreturn, __NR_futex,
  __NR_mremap,
};

#define ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

static int confine(struct bench *bench)
{
  struct sock_filter code[ALLOWED + 6];
  size_t n = 0;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                           offsetof(struct seccomp_data, arch));
  code[n++] =
    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
  code[n++] =
    (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                           offsetof(struct seccomp_data, nr));
  /* Each hit jumps over the rest and the one that kills. */
  for (size_t i = 0; i < ALLOWED; i++)
    code[n++] = (struct sock_filter)BPF_JUMP(
      BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(ALLOWED - i), 0);
  code[n++] =
    (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
  long rc = sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
  return rc < 0 ? refuse(&bench->report, JB_STEP_SECCOMP, rc, -1, "worker") : 0;
}

/* ---- the table ---------------------------------------------------------- */

/* The order is the design. */
static const struct {
  enum jb_step step;
  int (*run)(struct bench *);
} steps[] = {
  {JB_STEP_LIFE, tie_to_keeper},    /* before anything can be left behind */
  {JB_STEP_TREE, clone_trees},      /* the host's mounts are in sight */
  {JB_STEP_OVERLAY, lay_over},      /* of what was cloned */
  {JB_STEP_ENTER, enter},           /* nothing but the template is in sight */
  {JB_STEP_ROOT, take_root},        /* ... and now the tree */
  {JB_STEP_NONE, drop_descriptors}, /* no way back is open */
  {JB_STEP_RLIMIT, bound},          /* bytes, memory, descriptors */
  {JB_STEP_CAPABILITIES, drop_rights}, /* nothing can be mounted any more */
  {JB_STEP_NO_NEW_PRIVS, renounce},    /* the filter asks for it */
  {JB_STEP_SECCOMP, confine},          /* last: it forbids the steps above */
};

static int (*const kinds[])(struct work *) = {
  [JB_WORK_UNPACK] = work_unpack,   [JB_WORK_REMOVE] = work_remove,
  [JB_WORK_MEASURE] = work_measure, [JB_WORK_PACK] = work_pack,
  [JB_WORK_KINDS] = NULL,
};

/* ---- the work ----------------------------------------------------------- */

static bool injected(const struct jb_work *order, enum jb_step step)
{
#ifdef JB_FAULTS
  return step != JB_STEP_NONE && order->fail_step == (uint32_t)step;
#else
  (void)order;
  (void)step;
  return false;
#endif
}

static int fd_at(const struct labor *labor, int32_t index)
{
  return index >= 0 && (size_t)index < labor->fd_count ? labor->fds[index] : -1;
}

void worker_main(const struct labor *labor)
{
  const struct jb_work *order = (const void *)labor->record.base;
  struct work work = {
    .order = order,
    .record = labor->record,
    .kind = order->kind,
    .flags = order->flags,
    .channel = fd_at(labor, order->channel),
    .stream = fd_at(labor, order->stream),
    .notes = fd_at(labor, order->notes),
    .root = -1,
    .upper = -1,
    .lower = -1,
    .worked = {.message = JB_MESSAGE_WORKED},
  };
  struct bench bench = {
    .labor = labor, .work = &work, .report = {.index = -1}, .resident = -1};
  int rc = 0;
  if (order->kind >= JB_WORK_KINDS || kinds[order->kind] == NULL)
    rc = refuse(&bench.report, JB_STEP_WORK, JB_EOPNOTSUPP, -1, "kind");
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && rc == 0; i++)
    rc = injected(order, steps[i].step)
           ? refuse(&bench.report, steps[i].step, order->fail_errno, -1,
                    "injected")
           : steps[i].run(&bench);
  if (rc < 0) {
    (void)channel_send(work.channel, &bench.report, sizeof(bench.report), NULL,
                       0);
    sys_exit_group(1);
  }
  (void)kinds[work.kind](&work);
  work.worked.resident = resident_read(bench.resident);
  (void)channel_send(
    work.channel, &work.worked,
    offsetof(struct jb_worked, detail) + work.worked.detail_size, NULL, 0);
  sys_exit_group(0);
}
