/* groups.c - control groups: made and written before a jail, removed after it.
 *
 * By path, for a group of version 2 and one of version 1 differ in nothing
 * here; what differs (who joins how) stands in the flags of a group. */
#include "keeper.h"

const char *group_path(const struct record *record,
                       const struct jb_group *group, const char *name,
                       char *buffer, size_t size)
{
  struct text path = text_into(buffer, size);
  text_add(&path, record_text(record, group->path));
  if ((group->flags & JB_GROUP_SHARED) == 0) {
    text_add(&path, "/");
    text_add(&path, name);
  }
  return buffer;
}

/* Write one file of a group; where another's limit stands in the way the
 * kernel says so here, before anything of the jail exists. */
static long write_setting(int dir, const char *file, const char *value)
{
  long fd = sys_openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0)
    return fd;
  long rc = sys_write((int)fd, value, text_length(value));
  (void)sys_close((int)fd);
  return rc < 0 ? rc : 0;
}

int group_make(const struct record *record, const struct jb_group *group,
               const char *name, struct jb_report *report)
{
  char path[JB_DETAIL_SIZE];
  size_t count;
  (void)group_path(record, group, name, path, sizeof(path));
  long rc = sys_mkdirat(AT_FDCWD, path, 0755);
  if (rc < 0 && !(rc == -JB_EEXIST && (group->flags & JB_GROUP_SHARED) != 0))
    return refuse(report, JB_STEP_CGROUP, rc, -1, path);
  long dir = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir < 0)
    return refuse(report, JB_STEP_CGROUP, dir, -1, path);
  const struct jb_setting *settings =
    record_array(record, group->settings, sizeof(*settings), &count);
  for (size_t i = 0; i < count; i++) {
    const char *file = record_text(record, settings[i].file);
    rc = write_setting((int)dir, file, record_text(record, settings[i].value));
    if (rc < 0) {
      size_t length = text_length(path);
      struct text text = text_into(path + length, sizeof(path) - length);
      text_add(&text, "/");
      text_add(&text, file);
      (void)sys_close((int)dir);
      return refuse(report, JB_STEP_CGROUP, rc, (int)i, path);
    }
  }
  return (int)dir;
}

int groups_remove(const struct record *record, struct jb_span span,
                  const char *name, bool shared)
{
  char path[JB_DETAIL_SIZE];
  size_t count;
  int first = 0;
  const struct jb_group *groups =
    record_array(record, span, sizeof(*groups), &count);
  for (size_t i = count; i-- > 0;) {
    if (!shared && (groups[i].flags & JB_GROUP_SHARED) != 0)
      continue;
    (void)group_path(record, &groups[i], name, path, sizeof(path));
    long rc = sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
    if (rc < 0 && rc != -JB_ENOENT && first == 0)
      first = (int)-rc;
  }
  return first;
}
