/* pack_agent.c - packing as a plain process, for tests.
 *
 *   pack_agent TREE LOWER OWNERS FLAGS TREE_BASE LOWER_BASE EPOCH ENTRIES BYTES
 *
 * writes the archive to its standard output ("-": no LOWER, no OWNERS), and
 * what was left out or refused to its standard error, as words.  In the
 * helper the same function runs in a worker. */
#include "pack.h"
#include "sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int opened(const char *path, int flags)
{
  if (strcmp(path, "-") == 0)
    return -1;
  int fd = (int)sys_openat(AT_FDCWD, path, flags | O_CLOEXEC, 0);
  if (fd < 0) {
    (void)fprintf(stderr, "%s: errno %d\n", path, -fd);
    exit(2);
  }
  return fd;
}

/* The table of owners, whole, or nothing. */
static uint8_t *table(const char *path, size_t *size)
{
  *size = 0;
  if (strcmp(path, "-") == 0)
    return NULL;
  int fd = opened(path, O_RDONLY);
  struct statx stat;
  if (sys_statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &stat) < 0)
    exit(2);
  /* No byte more, so that the sanitizer sees whoever reads one. */
  uint8_t *bytes = malloc(stat.stx_size);
  if (bytes == NULL || sys_read(fd, bytes, stat.stx_size) < 0)
    exit(2);
  *size = stat.stx_size;
  return bytes;
}

int main(int argc, char **argv)
{
  static char text[65536];
  if (argc != 10)
    return 2;
  struct jb_pack job = {
    .tree = opened(argv[1], O_PATH | O_DIRECTORY),
    .lower = opened(argv[2], O_PATH | O_DIRECTORY),
    .out = 1,
    .flags = (uint32_t)strtoul(argv[4], NULL, 10),
    .tree_base = (uint32_t)strtoul(argv[5], NULL, 10),
    .lower_base = (uint32_t)strtoul(argv[6], NULL, 10),
    .epoch = strtoll(argv[7], NULL, 10),
    .limits = {.entries = strtoull(argv[8], NULL, 10),
               .bytes = strtoull(argv[9], NULL, 10)},
  };
  uint8_t *owners = table(argv[3], &job.owners_size);
  job.owners = owners;
  struct jb_tree_report report;
  struct jb_pack_notes notes = {.text = text, .room = sizeof(text)};
  int failed = jb_pack(&job, &report, &notes);
  free(owners);
  (void)fprintf(stderr, "entries %llu bytes %llu skipped %llu\n",
                (unsigned long long)report.entries,
                (unsigned long long)report.bytes,
                (unsigned long long)report.skipped);
  for (size_t at = 0; at < notes.size; at += strlen(text + at) + 1)
    (void)fprintf(stderr, "skipped %s\n", text + at);
  if (failed != 0)
    (void)fprintf(stderr, "op %d errno %d bound %d at %.*s\n", report.op,
                  report.error, report.bound, (int)report.detail_size,
                  report.detail);
  return failed == 0 ? 0 : 1;
}
