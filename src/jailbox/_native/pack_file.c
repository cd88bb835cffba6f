/* pack_file.c - bytes to the pipe.
 *
 * Small files are gathered in a buffer of a megabyte, read right where they
 * are written from.  Large ones go by splice(2) from the page cache into the
 * pipe without being copied; where that is not possible (the target is no
 * pipe, the file system cannot), they are read.
 *
 * A file that is read by one call, which asked for a byte more and did not get
 * it, was whole at that moment.  Of one that took several, the time is
 * compared before and after. */
#include "pack_internal.h"

#define SPLICE_LEAST ((uint64_t)256 * 1024)
#define SPLICE_F_MORE 4u

static long wait_for(int fd)
{
  struct jb_pollfd poll = {.fd = fd, .events = JB_POLLOUT};
  long error = sys_ppoll(&poll, 1, NULL);
  return error == -JB_EINTR || error > 0 ? 0 : error;
}

static int write_all(struct pack *pack, const uint8_t *bytes, size_t size)
{
  size_t at = 0;
  while (at < size) {
    long done = sys_write(pack->job->out, bytes + at, size - at);
    if (done == -JB_EAGAIN)
      done = wait_for(pack->job->out);
    if (done == -JB_EINTR)
      continue;
    if (done < 0)
      return pack_fail(pack, JB_TREE_OP_WRITE, done);
    at += (size_t)done;
  }
  return 0;
}

int pack_flush(struct pack *pack)
{
  if (write_all(pack, pack_space(pack)->out, pack->out_used) < 0)
    return -1;
  pack->out_used = 0;
  return 0;
}

uint8_t *pack_room(struct pack *pack, size_t size)
{
  if (PACK_OUT - pack->out_used < size && pack_flush(pack) < 0)
    return NULL;
  return pack_space(pack)->out + pack->out_used;
}

int pack_bytes(struct pack *pack, const void *bytes, size_t size)
{
  const uint8_t *from = bytes;
  while (size > 0) {
    size_t part = size < PACK_BLOCK ? size : PACK_BLOCK;
    uint8_t *room = pack_room(pack, part);
    if (room == NULL)
      return -1;
    memcpy(room, from, part);
    pack->out_used += part;
    from += part;
    size -= part;
  }
  return 0;
}

int pack_zeros(struct pack *pack, uint64_t size)
{
  const uint8_t *zeros = pack_space(pack)->zeros;
  if (size >= PACK_PART && pack_flush(pack) < 0)
    return -1;
  for (; size >= PACK_PART; size -= PACK_PART)
    if (write_all(pack, zeros, PACK_PART) < 0)
      return -1;
  while (size > 0) {
    size_t part = size < PACK_BLOCK ? (size_t)size : PACK_BLOCK;
    if (pack_bytes(pack, zeros, part) < 0)
      return -1;
    size -= part;
  }
  return 0;
}

int pack_padding(struct pack *pack, uint64_t size)
{
  size_t over = (size_t)(size % PACK_BLOCK);
  return over == 0 ? 0 : pack_zeros(pack, PACK_BLOCK - over);
}

static int changed(struct pack *pack)
{
  return pack_fail(pack, JB_TREE_OP_CHANGED, JB_ESTALE);
}

/* Is the file still what it was when it was opened? */
static int check_same(struct pack *pack, int fd, const struct statx *before)
{
  struct statx after;
  long error = tree_stat(fd, "", &after);
  if (error < 0)
    return pack_fail(pack, JB_TREE_OP_STAT, error);
  bool same = after.stx_size == before->stx_size &&
              after.stx_mtime.tv_sec == before->stx_mtime.tv_sec &&
              after.stx_mtime.tv_nsec == before->stx_mtime.tv_nsec &&
              after.stx_ctime.tv_sec == before->stx_ctime.tv_sec &&
              after.stx_ctime.tv_nsec == before->stx_ctime.tv_nsec;
  return same ? 0 : changed(pack);
}

/* Move up to *size* bytes at *offset* without copying; how many were moved, or
 * -1.  Fewer than asked for: not this way. */
static int64_t splice_part(struct pack *pack, int fd, uint64_t offset,
                           uint64_t size)
{
  uint64_t done = 0;
  if (pack->no_splice || size < SPLICE_LEAST)
    return 0;
  if (pack_flush(pack) < 0)
    return -1;
  while (done < size) {
    int64_t at = (int64_t)(offset + done);
    uint64_t most = size - done < PACK_OUT ? size - done : PACK_OUT;
    long moved =
      JB_CALL6(__NR_splice, fd, &at, pack->job->out, 0, most, SPLICE_F_MORE);
    if (moved == -JB_EAGAIN)
      moved = wait_for(pack->job->out) < 0 ? -JB_EIO : -JB_EINTR;
    if (moved == -JB_EINTR)
      continue;
    if (moved == -JB_EPIPE)
      return pack_fail(pack, JB_TREE_OP_WRITE, moved);
    if (moved <= 0) {
      /* No pipe, no such file system; or shorter, which reading will find. */
      pack->no_splice |= moved == -JB_EINVAL;
      break;
    }
    done += (uint64_t)moved;
  }
  return (int64_t)done;
}

/* Copy *size* bytes at *offset*; *last*: there must not be more. */
static int read_part(struct pack *pack, int fd, uint64_t offset, uint64_t size,
                     bool last)
{
  int64_t spliced = splice_part(pack, fd, offset, size);
  if (spliced < 0)
    return -1;
  offset += (uint64_t)spliced;
  size -= (uint64_t)spliced;
  while (size > 0) {
    size_t least = size < PACK_PART ? (size_t)size + 1 : PACK_PART;
    uint8_t *room = pack_room(pack, least);
    if (room == NULL)
      return -1;
    size_t most = PACK_OUT - pack->out_used;
    if (most > size)
      most = (size_t)size + last;
    long got = sys_pread64(fd, room, most, (int64_t)offset);
    if (got == -JB_EINTR)
      continue;
    if (got < 0)
      return pack_fail(pack, JB_TREE_OP_READ, got);
    if (got == 0 || (uint64_t)got > size)
      return changed(pack);
    pack->out_used += (size_t)got;
    offset += (uint64_t)got;
    size -= (uint64_t)got;
  }
  return 0;
}

/* Copy what is there and write zeros for what is not. */
static int sparse_parts(struct pack *pack, int fd, uint64_t size)
{
  uint64_t offset = 0;
  while (offset < size) {
    long data = sys_lseek(fd, (int64_t)offset, TREE_SEEK_DATA);
    if (data == -JB_ENXIO)
      data = (long)size;
    long end = data < 0 ? data : sys_lseek(fd, data, TREE_SEEK_HOLE);
    if (data < 0 || (end < 0 && end != -JB_ENXIO))
      /* The file system cannot tell: all is data. */
      return read_part(pack, fd, offset, size - offset, true);
    uint64_t from = (uint64_t)data < size ? (uint64_t)data : size;
    uint64_t to = end < 0 || (uint64_t)end > size ? size : (uint64_t)end;
    if (pack_zeros(pack, from - offset) < 0)
      return -1;
    if (from < to && read_part(pack, fd, from, to - from, false) < 0)
      return -1;
    offset = from < to ? to : size;
  }
  return 0;
}

int pack_content(struct pack *pack, int fd, const struct statx *stat)
{
  uint64_t size = stat->stx_size;
  const struct jb_tree_limits *limits = &pack->job->limits;
  if (size == 0)
    return 0;
  if (limits->bytes != 0 && size > limits->bytes - pack->report->bytes)
    return tree_fail_bound(pack->report, JB_TREE_BOUND_BYTES, &pack->path);
  bool sparse = stat->stx_blocks * 512 < size && size >= PACK_PART;
  int failed =
    sparse ? sparse_parts(pack, fd, size) : read_part(pack, fd, 0, size, true);
  if (failed == 0 && size >= PACK_PART)
    failed = check_same(pack, fd, stat);
  pack->report->bytes += size;
  return failed < 0 ? -1 : pack_padding(pack, size);
}
