/* program.c - everything between clone and exec of a program in a jail.
 *
 * THE RULES OF THIS FILE
 *
 *   1. The child shares its supervisor's memory until it executes (CLONE_VM,
 *      CLONE_VFORK): it writes only to its own stack and to the report.
 *   2. It looks nothing up but what the record names, inside the jail's root,
 *      where the supervisor already stands.
 *   3. It never returns: it becomes the program, or it reports and exits.
 *
 * A report in shared memory needs no pipe: when clone returns to the
 * supervisor, the child has executed (step 0) or it has said why not. */
#include "keeper.h"

#include <linux/filter.h>
#include <linux/seccomp.h>

#define STACK_SIZE 32768
#define POINTERS_MAX 1024
#define FD_FIRST_PASSED 3

#define TIOCSCTTY_ 0x540eul
#define TIOCSWINSZ_ 0x5414ul
#define TIOCSPTLCK_ 0x40045431ul
#define TIOCGPTPEER_ 0x5441ul

struct passage {
  const struct record *record;
  const struct jb_program *program;
  const int *fds;
  uint64_t bounding; /* what the supervisor still has of it */
  int terminal;      /* the program's side of its terminal, or -1 */
  char **argv;
  char **envp;
  struct jb_report *report;
};

static int deny(struct passage *passage, enum jb_step step, long error,
                const char *detail)
{
  return refuse(passage->report, step, error, -1, detail);
}

/* What the records of test builds ask for (keeper.h, fault). */
static int injected(const struct jb_program *program, enum jb_step step,
                    struct jb_report *report)
{
#ifdef JB_FAULTS
  if (step != JB_STEP_NONE && program->fail_step == (uint32_t)step)
    return refuse(report, step, program->fail_errno, -1, "injected");
#else
  (void)program;
  (void)step;
  (void)report;
#endif
  return 0;
}

/* ---- stdio -------------------------------------------------------------- */

static int own_session(struct passage *passage)
{
  (void)sys_setsid();
  if (passage->terminal < 0)
    return 0;
  long rc = sys_ioctl(passage->terminal, TIOCSCTTY_, NULL);
  return rc < 0 ? deny(passage, JB_STEP_TTY, rc, "controlling terminal") : 0;
}

/* Move *from* above every number that is about to be filled. */
static long lift(int from, int floor)
{
  return sys_fcntl(from, F_DUPFD_CLOEXEC, floor);
}

static int place_descriptors(struct passage *passage)
{
  const struct jb_program *program = passage->program;
  const int32_t wanted[3] = {program->in, program->out, program->err};
  int count = FD_FIRST_PASSED + program->pass_count;
  long lifted[3 + 64];
  if (program->pass_count < 0 || program->pass_count > 64)
    return deny(passage, JB_STEP_STDIO, JB_EINVAL, "pass_fds");
  long null = sys_openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
  if (null < 0)
    return deny(passage, JB_STEP_STDIO, null, "/dev/null");
  for (int i = 0; i < count; i++) {
    int from = i < 3 ? (wanted[i] >= 0           ? passage->fds[wanted[i]]
                        : passage->terminal >= 0 ? passage->terminal
                                                 : (int)null)
                     : passage->fds[program->pass_first + i - FD_FIRST_PASSED];
    lifted[i] = lift(from, count);
    if (lifted[i] < 0)
      return deny(passage, JB_STEP_STDIO, lifted[i], "dup");
  }
  for (int i = 0; i < count; i++) {
    long rc = sys_dup3((int)lifted[i], i, 0);
    if (rc < 0)
      return deny(passage, JB_STEP_STDIO, rc, "dup3");
  }
  (void)sys_close_range((unsigned)count, ~0u, 0);
  return 0;
}

/* ---- limits and place --------------------------------------------------- */

static int bound_resources(struct passage *passage)
{
  size_t count;
  const struct jb_rlimit *limits = record_array(
    passage->record, passage->program->rlimits, sizeof(*limits), &count);
  for (size_t i = 0; i < count; i++) {
    struct jb_rlimit64 limit = {limits[i].soft, limits[i].hard};
    long rc = sys_prlimit64(0, (int)limits[i].resource, &limit, NULL);
    if (rc < 0) {
      (void)deny(passage, JB_STEP_RLIMIT, rc, "prlimit64");
      passage->report->index = (int32_t)limits[i].resource;
      return -1;
    }
  }
  (void)sys_umask(passage->program->umask);
  return 0;
}

static int set_priority(struct passage *passage)
{
  const struct jb_program *program = passage->program;
  long rc = 0;
  if (program->nice != 0)
    rc = sys_setpriority(0, 0, program->nice);
  if (rc == 0 && program->affinity.length != 0)
    rc = sys_sched_setaffinity(0, program->affinity.length,
                               record_at(passage->record, program->affinity));
  if (rc < 0)
    return deny(passage, JB_STEP_PRIORITY, rc, "nice or affinity");
  return 0;
}

static void make_directories(char *path)
{
  for (char *at = path + 1;; at++) {
    if (*at != '/' && *at != '\0')
      continue;
    char kept = *at;
    *at = '\0';
    (void)sys_mkdirat(AT_FDCWD, path, 0755);
    *at = kept;
    if (kept == '\0')
      return;
  }
}

/* No descriptor of ours is open any more, so no path can lead out through
 * /proc/self/fd (CVE-2024-21626); getcwd proves it. */
static int enter_directory(struct passage *passage)
{
  char buffer[4096];
  const char *cwd = record_text(passage->record, passage->program->cwd);
  if (cwd[0] == '\0')
    cwd = "/";
  long rc = sys_chdir(cwd);
  if (rc == -JB_ENOENT &&
      (passage->program->flags & JB_PROGRAM_MAKE_CWD) != 0) {
    struct text text = text_into(buffer, sizeof(buffer));
    text_add(&text, cwd);
    make_directories(buffer);
    rc = sys_chdir(cwd);
  }
  if (rc < 0)
    return deny(passage, JB_STEP_CHDIR, rc, cwd);
  rc = sys_getcwd(buffer, sizeof(buffer));
  if (rc < 0 || buffer[0] != '/')
    return deny(passage, JB_STEP_CHDIR, rc < 0 ? rc : JB_EXDEV, cwd);
  return 0;
}

/* ---- rights ------------------------------------------------------------- */

uint64_t bounding_drop(uint64_t have, uint64_t keep)
{
  for (unsigned cap = 0; cap <= 63; cap++) {
    if (((have & ~keep) >> cap & 1u) == 0)
      continue;
    if (sys_prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == -JB_EINVAL)
      break; /* past the last capability that this kernel knows */
  }
  return have & keep;
}

long set_capabilities(uint64_t permitted, uint64_t inheritable)
{
  struct __user_cap_header_struct header = {.version =
                                              _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  for (int i = 0; i < 2; i++) {
    data[i].permitted = (uint32_t)(permitted >> (32 * i));
    data[i].effective = data[i].permitted;
    data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
  }
  return sys_capset(&header, data);
}

static long raise_ambient(uint64_t ambient)
{
  for (unsigned cap = 0; cap < 64 && ambient >> cap != 0; cap++) {
    if ((ambient >> cap & 1u) == 0)
      continue;
    long rc = sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    if (rc < 0)
      return rc;
  }
  return 0;
}

static int change_ids(const struct record *record,
                      const struct jb_program *program, uint64_t bounding,
                      struct jb_report *report)
{
  size_t count;
  const uint32_t *groups =
    record_array(record, program->groups, sizeof(*groups), &count);
  (void)bounding_drop(bounding, program->cap_bounding);
  long rc = 0;
  if ((program->flags & JB_PROGRAM_KEEP_GROUPS) == 0)
    rc = sys_setgroups(count, groups);
  if (rc < 0)
    return refuse(report, JB_STEP_IDENTITY, rc, -1, "setgroups");
  rc = sys_setresgid(program->gid);
  if (rc < 0)
    return refuse(report, JB_STEP_IDENTITY, rc, -1, "setresgid");
  if (program->uid != 0 && program->cap_ambient != 0)
    (void)sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  rc = sys_setresuid(program->uid);
  return rc < 0 ? refuse(report, JB_STEP_IDENTITY, rc, -1, "setresuid") : 0;
}

static int keep_capabilities(const struct jb_program *program,
                             struct jb_report *report)
{
  uint64_t kept =
    program->uid == 0 ? program->cap_permitted : program->cap_ambient;
  long rc = set_capabilities(kept, program->cap_ambient);
  if (rc == 0)
    rc = raise_ambient(program->cap_ambient);
  return rc < 0 ? refuse(report, JB_STEP_CAPABILITIES, rc, -1, "capset") : 0;
}

int program_identity(const struct record *record,
                     const struct jb_program *program, uint64_t bounding,
                     struct jb_report *report)
{
  int rc = change_ids(record, program, bounding, report);
  return rc < 0 ? rc : keep_capabilities(program, report);
}

static int take_identity(struct passage *passage)
{
  return change_ids(passage->record, passage->program, passage->bounding,
                    passage->report);
}

static int take_capabilities(struct passage *passage)
{
  return keep_capabilities(passage->program, passage->report);
}

static int renounce(struct passage *passage)
{
  if ((passage->program->flags & JB_PROGRAM_NO_NEW_PRIVS) == 0)
    return 0;
  long rc = sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return rc < 0 ? deny(passage, JB_STEP_NO_NEW_PRIVS, rc, "prctl") : 0;
}

static int install_filter(struct passage *passage)
{
  size_t count;
  const struct sock_filter *filter = record_array(
    passage->record, passage->program->seccomp, sizeof(*filter), &count);
  if (injected(passage->program, JB_STEP_SECCOMP, passage->report) < 0)
    return -1;
  if (count == 0)
    return 0;
  struct sock_fprog program = {
    .len = (unsigned short)count,
    .filter = (struct sock_filter *)(uintptr_t)filter,
  };
  long rc = sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
  return rc < 0 ? deny(passage, JB_STEP_SECCOMP, rc, "seccomp") : 0;
}

/* Without no_new_privs a filter needs CAP_SYS_ADMIN, which the identity takes
 * away; so it comes first then, and the identity has to pass it. */
static int install_filter_early(struct passage *passage)
{
  bool early = (passage->program->flags & JB_PROGRAM_NO_NEW_PRIVS) == 0;
  return early ? install_filter(passage) : 0;
}

static int install_filter_late(struct passage *passage)
{
  bool late = (passage->program->flags & JB_PROGRAM_NO_NEW_PRIVS) != 0;
  return late ? install_filter(passage) : 0;
}

/* ---- exec --------------------------------------------------------------- */

/* Remember the refusal that says most: "not permitted" beats "not found".  It
 * must not be in the shared report before the last attempt has failed: one
 * that succeeds never comes back to take it out. */
static void remember(struct jb_report *most, long error, const char *path)
{
  bool exists = error == -JB_ENOENT && sys_faccessat(AT_FDCWD, path, 0) == 0;
  if (most->step == 0 || (most->error == JB_ENOENT && most->index != 1))
    (void)refuse(most, JB_STEP_EXEC, error, exists ? 1 : -1, path);
}

static bool says_more(long error)
{
  return error != -JB_ENOENT && error != -JB_ENOTDIR && error != -JB_EACCES;
}

/* Take the next directory of a search path; false at its end. */
static bool next_candidate(const char **search, const char *name,
                           struct text *text, char *path, size_t size)
{
  char part[2] = "";
  if (**search == '\0')
    return false;
  *text = text_into(path, size);
  while (**search != '\0' && **search != ':') {
    part[0] = *(*search)++;
    text_add(text, part);
  }
  if (**search == ':')
    (*search)++;
  text_add(text, "/");
  text_add(text, name);
  return true;
}

static uint64_t little(const char *at, size_t size)
{
  uint64_t value = 0;
  while (size-- > 0)
    value = value << 8 | (unsigned char)at[size];
  return value;
}

/* What a 64-bit ELF names as its loader, as far as that is in the *got* bytes
 * of *head*: where it begins, and in *length* how long it is. */
static const char *loader_in(const char *head, size_t got, size_t *length)
{
  *length = 0;
  if (got < 64)
    return head;
  uint64_t at = little(head + 32, 8);
  uint64_t size = little(head + 54, 2);
  for (uint64_t left = little(head + 56, 2); left > 0; left--, at += size) {
    if (size < 56 || at > got || got - at < size)
      break;
    uint64_t from = little(head + at + 8, 8);
    uint64_t count = little(head + at + 32, 8);
    if (little(head + at, 4) != 3 /* PT_INTERP */ || from > got ||
        got - from < count)
      continue;
    *length = (size_t)count;
    return head + from;
  }
  return head;
}

/* Say what was refused, for whoever explains it: behind the NUL of the detail
 * stands how the file begins; of an ELF 20 bytes, then its loader's name. */
static void quote_file(struct jb_report *report)
{
  char head[4096];
  size_t at = text_length(report->detail) + 1;
  long fd = sys_openat(AT_FDCWD, report->detail,
                       O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  if (fd < 0)
    return;
  long got = sys_read((int)fd, head, sizeof(head));
  (void)sys_close((int)fd);
  if (got <= 0)
    return;
  bool elf = got > 20 && little(head, 4) == 0x464c457fu;
  size_t length;
  const char *loader = loader_in(head, (size_t)got, &length);
  for (size_t i = 0; i < (elf ? 20 : (size_t)got); i++)
    if (at < sizeof(report->detail))
      report->detail[at++] = head[i];
  for (size_t i = 0; elf && i < length; i++)
    if (at < sizeof(report->detail))
      report->detail[at++] = loader[i];
}

static int become_program(struct passage *passage)
{
  char path[4096];
  struct jb_report most = {.index = -1};
  struct text text;
  const char *name = passage->argv[0];
  const char *search = record_text(passage->record, passage->program->path);
  bool plain = name[0] != '\0';
  for (const char *at = name; *at != '\0'; at++)
    plain = plain && *at != '/';
  if (!plain)
    remember(&most,
             sys_execveat(AT_FDCWD, name, passage->argv, passage->envp, 0),
             name);
  while (plain && next_candidate(&search, name, &text, path, sizeof(path))) {
    /* An empty or relative entry would search the working directory. */
    if (path[0] != '/' || text.overflow)
      continue;
    long rc = sys_execveat(AT_FDCWD, path, passage->argv, passage->envp, 0);
    remember(&most, rc, path);
    if (says_more(rc))
      break;
  }
  /* Where no directory had it, name what was asked for. */
  if (most.step == 0 || (most.error == JB_ENOENT && most.index != 1))
    (void)refuse(&most, JB_STEP_EXEC, JB_ENOENT, -1, name);
  *passage->report = most;
  /* Last, for the filter may kill for it: what counts has been said. */
  if (most.error == JB_ENOEXEC || most.index == 1)
    quote_file(passage->report);
  return -1;
}

/* The order is the design: each line says why it stands where it does. */
static const struct {
  enum jb_step step;
  int (*run)(struct passage *);
} steps[] = {
  {JB_STEP_TTY, own_session}, /* before stdio: the terminal is still at hand */
  {JB_STEP_STDIO, place_descriptors}, /* nothing else is open from here on */
  {JB_STEP_CHDIR, enter_directory},   /* no descriptor can lead out; still root
                                          of the jail */
  {JB_STEP_RLIMIT, bound_resources},  /* rights to raise are gone after the
                                          identity */
  {JB_STEP_PRIORITY, set_priority},
  {JB_STEP_NONE, install_filter_early}, /* only without no_new_privs */
  {JB_STEP_IDENTITY, take_identity},    /* bounding set, groups, gid, uid */
  {JB_STEP_CAPABILITIES, take_capabilities}, /* as that uid */
  {JB_STEP_NO_NEW_PRIVS, renounce},    /* as close to the exec as possible */
  {JB_STEP_NONE, install_filter_late}, /* last: it need not allow anything
                                            above */
  {JB_STEP_EXEC, become_program},      /* does not return on success */
};

__attribute__((noinline)) static void pass(void *argument)
{
  struct passage *passage = argument;
  uint64_t none = 0;
  (void)sys_rt_sigprocmask(JB_SIG_SETMASK, &none, NULL);
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
    if (injected(passage->program, steps[i].step, passage->report) < 0 ||
        steps[i].run(passage) < 0)
      break;
  sys_exit_group(127);
}

/* ---- the supervisor's side ---------------------------------------------- */

static bool unpack_strings(const struct record *record, struct jb_span span,
                           uint32_t count, char **out)
{
  const char *at = record_at(record, span);
  const char *end = at == NULL ? NULL : at + span.length;
  for (uint32_t i = 0; i < count; i++) {
    const char *start = at;
    while (at < end && *at != '\0')
      at++;
    if (at >= end)
      return false;
    at++;
    out[i] = (char *)(uintptr_t)start;
  }
  out[count] = NULL;
  return true;
}

static int open_terminal(const struct jb_program *program, int pair[2],
                         struct jb_report *report)
{
  int unlock = 0;
  struct jb_winsize size = {.rows = program->rows, .columns = program->columns};
  long master =
    sys_openat(AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
  if (master < 0)
    return refuse(report, JB_STEP_TTY, master, -1, "/dev/ptmx");
  long rc = sys_ioctl((int)master, TIOCSPTLCK_, &unlock);
  if (rc == 0)
    rc = sys_ioctl((int)master, TIOCSWINSZ_, &size);
  /* By descriptor: a path below /dev/pts could be somebody else's. */
  if (rc == 0)
    rc =
      JB_CALL3(__NR_ioctl, master, TIOCGPTPEER_, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (rc < 0) {
    (void)sys_close((int)master);
    return refuse(report, JB_STEP_TTY, rc, -1, "TIOCGPTPEER");
  }
  (void)sys_fchownat((int)rc, "", program->uid, ~0u, AT_EMPTY_PATH);
  pair[0] = (int)master;
  pair[1] = (int)rc;
  return 0;
}

int program_spawn(const struct record *record, const struct jb_program *program,
                  const int *fds, uint64_t bounding, struct spawned *out,
                  struct jb_report *report)
{
  char stack[STACK_SIZE] __attribute__((aligned(16)));
  char *few[POINTERS_MAX];
  char **pointers = few;
  int terminal[2] = {-1, -1};
  size_t count = (size_t)program->argc + program->envc + 2;
  size_t mapped = 0;
  if (count > POINTERS_MAX) {
    mapped = count * sizeof(char *);
    long at =
      sys_mmap(NULL, mapped, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096)
      return refuse(report, JB_STEP_FORK, at, -1, "argv");
    pointers = (char **)at;
  }
  struct passage passage = {
    .record = record,
    .program = program,
    .fds = fds,
    .bounding = bounding,
    .terminal = -1,
    .argv = pointers,
    .envp = pointers + program->argc + 1,
    .report = report,
  };
  *report = (struct jb_report){.index = -1};
  int rc = 0;
  if (program->argc == 0 ||
      !unpack_strings(record, program->argv, program->argc, passage.argv) ||
      !unpack_strings(record, program->env, program->envc, passage.envp))
    rc = refuse(report, JB_STEP_RECORD, JB_EINVAL, -1, "argv");
  if (rc == 0 && (program->flags & JB_PROGRAM_TTY) != 0)
    rc = open_terminal(program, terminal, report);
  if (rc == 0) {
    passage.terminal = terminal[1];
    rc = injected(program, JB_STEP_FORK, report);
  }
  if (rc == 0) {
    struct clone_args args = {
      .flags = CLONE_VM | CLONE_VFORK,
      .exit_signal = JB_SIGCHLD,
      .stack = (uint64_t)(uintptr_t)stack,
      .stack_size = sizeof(stack),
    };
    long pid = jb_clone_into(&args, sizeof(args), pass, &passage);
    if (pid < 0)
      rc = refuse(report, JB_STEP_FORK, pid, -1, "clone3");
    else if (report->step != 0) {
      while (sys_wait4((int)pid, NULL, 0, NULL) == -JB_EINTR)
        continue;
      rc = -1;
    } else {
      out->pid = (int)pid;
    }
  }
  if (terminal[1] >= 0)
    (void)sys_close(terminal[1]);
  if (rc < 0 && terminal[0] >= 0)
    (void)sys_close(terminal[0]);
  out->terminal = rc < 0 ? -1 : terminal[0];
  if (mapped != 0)
    (void)sys_munmap(pointers, mapped);
  return rc;
}
