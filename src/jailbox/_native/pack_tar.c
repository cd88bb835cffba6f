/* pack_tar.c - the headers of an archive's entries.
 *
 * A header is ustar (POSIX.1-1988).  What does not fit into it (a long or
 * odd path, a large number, an attribute) stands in a pax header in front of
 * it (POSIX.1-2001), as "length key=value\n" records.
 *
 *   offset  size
 *        0   100  name        257   6  "ustar\0"
 *      100     8  mode        263   2  "00"
 *      108     8  uid         265  32  user's name, left empty
 *      116     8  gid         297  32  group's name, left empty
 *      124    12  size        329   8  device major
 *      136    12  mtime       337   8  device minor
 *      148     8  checksum    345 155  prefix of name
 *      156     1  type
 *      157   100  link
 *
 * Names are bytes.  A pax header holds UTF-8 by definition; a path that is
 * not UTF-8 is announced by hdrcharset=BINARY, as GNU tar, libarchive and
 * Python read it. */
#include "pack_internal.h"

#define NAME_MAX ((size_t)100)
#define PREFIX_MAX ((size_t)155)
#define ID_MAX 07777777u
#define SIZE_MAX_USTAR 077777777777u

/* Revisions of file capabilities (linux/capability.h). */
#define CAP_V2_SIZE 20
#define CAP_V3_SIZE 24
#define ACL_USER 2
#define ACL_GROUP 8

/* ---- pax records ---- */

static size_t digits_of(size_t value)
{
  size_t digits = 1;
  while (value >= 10) {
    value /= 10;
    digits++;
  }
  return digits;
}

static size_t put_number(char *at, uint64_t value)
{
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  for (size_t i = 0; i < count; i++)
    at[i] = digits[count - 1 - i];
  return count;
}

/* Add a record whose key is in two parts. */
static int record(struct pack *pack, const char *prefix, const char *key,
                  const void *value, size_t value_size)
{
  size_t prefix_size = tree_length(prefix);
  size_t key_size = tree_length(key);
  size_t rest = prefix_size + key_size + value_size + 3; /* " ", "=", "\n" */
  size_t whole = rest + digits_of(rest);
  if (digits_of(whole) != digits_of(rest))
    whole = rest + digits_of(whole);
  if (whole > PACK_PAX_MAX - pack->pax_size)
    return pack_fail(pack, JB_TREE_OP_XATTR, JB_E2BIG);
  char *at = (char *)pack_space(pack)->pax + pack->pax_size;
  at += put_number(at, whole);
  *at++ = ' ';
  memcpy(at, prefix, prefix_size);
  at += prefix_size;
  memcpy(at, key, key_size);
  at += key_size;
  *at++ = '=';
  memcpy(at, value, value_size);
  at[value_size] = '\n';
  pack->pax_size += whole;
  return 0;
}

static int record_number(struct pack *pack, const char *key, uint64_t value)
{
  char digits[20];
  return record(pack, "", key, digits, put_number(digits, value));
}

static int record_time(struct pack *pack, int64_t seconds, uint32_t ns)
{
  char text[40];
  size_t size = 0;
  /* The value is a decimal fraction: -1.25 is -2 s and 750,000,000 ns. */
  uint64_t whole = (uint64_t)seconds;
  if (seconds < 0) {
    text[size++] = '-';
    whole = (uint64_t)0 - whole;
    if (ns != 0) {
      whole--;
      ns = 1000000000u - ns;
    }
  }
  size += put_number(text + size, whole);
  if (ns != 0) {
    text[size++] = '.';
    for (uint32_t unit = 100000000; unit != 0 && ns != 0; unit /= 10) {
      text[size++] = (char)('0' + ns / unit);
      ns %= unit;
    }
  }
  return record(pack, "", "mtime", text, size);
}

/* ---- attributes ---- */

static bool starts(const char *text, const char *prefix)
{
  while (*prefix != '\0')
    if (*text++ != *prefix++)
      return false;
  return true;
}

static bool same(const char *left, const char *right)
{
  return starts(left, right) && tree_length(left) == tree_length(right);
}

/* Is this content, and not about the host or an overlay (security.md TAR10)?
 * trusted.* and the rest of security.* speak of the machine. */
static bool is_content(const char *name)
{
  if (starts(name, "user."))
    return !starts(name, "user.overlay.");
  return same(name, "security.capability") ||
         same(name, "system.posix_acl_access") ||
         same(name, "system.posix_acl_default");
}

static uint32_t load(const uint8_t *at)
{
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
         (uint32_t)at[3] << 24;
}

static void store(uint8_t *at, uint32_t value)
{
  for (int i = 0; i < 4; i++)
    at[i] = (uint8_t)(value >> 8 * i);
}

/* Ids inside of a value are of the file system, as the owner's are. */
static size_t translate(const char *name, uint8_t *value, size_t size,
                        uint32_t base)
{
  if (same(name, "security.capability")) {
    /* The jail's root is the one of any container: the record without one. */
    if (size == CAP_V3_SIZE && value[3] == 3 && load(value + 20) == base) {
      value[3] = 2;
      size = CAP_V2_SIZE;
    }
  } else if (starts(name, "system.posix_acl_")) {
    for (size_t at = 4; base != 0 && at + 8 <= size; at += 8)
      if (value[at] == ACL_USER || value[at] == ACL_GROUP)
        store(value + at + 4, tree_layer_id(load(value + at + 4), base));
  }
  return size;
}

/* The smallest name behind *after*, or NULL; names are as they are listed. */
static const char *next_name(const char *names, long size, const char *after)
{
  const char *found = NULL;
  for (long at = 0; at < size; at += (long)tree_length(names + at) + 1) {
    const char *name = names + at;
    if (!is_content(name))
      continue;
    size_t length = tree_length(name) + 1;
    size_t most = after == NULL ? 0 : tree_length(after) + 1;
    if (after != NULL &&
        memcmp(name, after, length < most ? length : most) <= 0)
      continue;
    most = found == NULL ? 0 : tree_length(found) + 1;
    if (found == NULL || memcmp(name, found, length < most ? length : most) < 0)
      found = name;
  }
  return found;
}

int pack_pax_xattrs(struct pack *pack, int fd, uint32_t base)
{
  struct pack_space *space = pack_space(pack);
  char *names = space->xattrs;
  pack->pax_size = 0;
  long size = JB_CALL3(__NR_flistxattr, fd, names, sizeof(space->xattrs));
  if (size == 0 || size == -JB_EOPNOTSUPP)
    return 0;
  if (size < 0)
    return pack_fail(pack, JB_TREE_OP_XATTR, size);
  if ((pack->job->flags & JB_PACK_LAYER) != 0)
    for (long at = 0; at < size; at += (long)tree_length(names + at) + 1)
      if (same(names + at, "user.overlay.metacopy"))
        /* Its content is somewhere else. */
        return pack_fail(pack, JB_TREE_OP_MARK, JB_EOPNOTSUPP);
  const char *name = NULL;
  while ((name = next_name(names, size, name)) != NULL) {
    long got = sys_fgetxattr(fd, name, space->value, sizeof(space->value));
    if (got == -JB_ENODATA)
      continue;
    if (got < 0)
      return pack_fail(pack, JB_TREE_OP_XATTR, got);
    bool odd = false;
    for (const char *at = name; *at != '\0'; at++)
      odd |= *at == '=';
    if (odd) {
      /* A record cannot say it: its key would end there. */
      pack_note(pack);
      continue;
    }
    size_t used = translate(name, space->value, (size_t)got, base);
    if (record(pack, "SCHILY.xattr.", name, space->value, used) < 0)
      return -1;
  }
  return 0;
}

/* ---- headers ---- */

static void octal(uint8_t *at, size_t digits, uint64_t value)
{
  while (digits-- > 0) {
    at[digits] = (uint8_t)('0' + (value & 7));
    value >>= 3;
  }
}

static void seal(uint8_t *header)
{
  uint32_t sum = 0;
  memset(header + 148, ' ', 8);
  for (size_t i = 0; i < PACK_BLOCK; i++)
    sum += header[i];
  octal(header + 148, 6, sum);
  header[154] = '\0';
}

static const char magic[8] = {'u', 's', 't', 'a', 'r', '\0', '0', '0'};

static void fill(uint8_t *header, const struct pack_entry *entry)
{
  octal(header + 100, 7, entry->mode & 07777);
  octal(header + 108, 7, entry->uid <= ID_MAX ? entry->uid : 0);
  octal(header + 116, 7, entry->gid <= ID_MAX ? entry->gid : 0);
  octal(header + 124, 11, entry->size <= SIZE_MAX_USTAR ? entry->size : 0);
  bool plain = entry->time_s >= 0 && entry->time_s <= (int64_t)SIZE_MAX_USTAR;
  octal(header + 136, 11, plain ? (uint64_t)entry->time_s : 0);
  header[156] = (uint8_t)entry->type;
  memcpy(header + 257, magic, sizeof(magic));
  octal(header + 329, 7, entry->major);
  octal(header + 337, 7, entry->minor);
}

/* Where to cut a long path into prefix and name, or 0 if it cannot be. */
static size_t cut_of(const char *path, size_t size)
{
  if (size > PREFIX_MAX + 1 + NAME_MAX)
    return 0;
  size_t cut = size > NAME_MAX ? size - NAME_MAX - 1 : 0;
  while (cut < size && cut <= PREFIX_MAX) {
    if (path[cut] == '/' && cut > 0 && cut + 1 < size)
      return cut;
    cut++;
  }
  return 0;
}

static bool is_utf8(const char *text, size_t size)
{
  const uint8_t *at = (const uint8_t *)text;
  const uint8_t *end = at + size;
  while (at < end) {
    uint8_t first = *at++;
    size_t more = first < 0x80                    ? 0
                  : first >= 0xc2 && first < 0xe0 ? 1
                  : first >= 0xe0 && first < 0xf0 ? 2
                  : first >= 0xf0 && first < 0xf5 ? 3
                                                  : 4;
    if (more == 4 || (size_t)(end - at) < more)
      return false;
    if (more > 1 &&
        ((first == 0xe0 && *at < 0xa0) || (first == 0xed && *at > 0x9f) ||
         (first == 0xf0 && *at < 0x90) || (first == 0xf4 && *at > 0x8f)))
      return false;
    for (; more > 0; more--)
      if ((*at++ & 0xc0) != 0x80)
        return false;
  }
  return true;
}

/* Put a path where it fits; false: it needs a record. */
static bool place(uint8_t *header, const char *path, size_t size)
{
  if (size <= NAME_MAX) {
    memcpy(header, path, size);
    return true;
  }
  size_t cut = cut_of(path, size);
  if (cut == 0)
    return false;
  memcpy(header + 345, path, cut);
  memcpy(header, path + cut + 1, size - cut - 1);
  return true;
}

/* Records of what does not fit. */
static int record_rest(struct pack *pack, const struct pack_entry *entry,
                       bool path, bool link)
{
  bool exact = (pack->job->flags & JB_PACK_EXACT_TIMES) != 0;
  bool binary = (path && !is_utf8(entry->path, entry->path_size)) ||
                (link && !is_utf8(entry->link, entry->link_size));
  if (binary && record(pack, "", "hdrcharset", "BINARY", 6) < 0)
    return -1;
  if (entry->gid > ID_MAX && record_number(pack, "gid", entry->gid) < 0)
    return -1;
  if (link && record(pack, "", "linkpath", entry->link, entry->link_size) < 0)
    return -1;
  if ((entry->time_s < 0 || entry->time_s > (int64_t)SIZE_MAX_USTAR ||
       (exact && entry->time_ns != 0)) &&
      record_time(pack, entry->time_s, exact ? entry->time_ns : 0) < 0)
    return -1;
  if (path && record(pack, "", "path", entry->path, entry->path_size) < 0)
    return -1;
  if (entry->size > SIZE_MAX_USTAR &&
      record_number(pack, "size", entry->size) < 0)
    return -1;
  if (entry->uid > ID_MAX && record_number(pack, "uid", entry->uid) < 0)
    return -1;
  return 0;
}

/* The pax header in front of the header. */
static int write_pax(struct pack *pack)
{
  struct pack_entry extended = {
    .size = pack->pax_size, .mode = 0644, .type = 'x'};
  uint8_t *header = pack_room(pack, PACK_BLOCK);
  if (header == NULL)
    return -1;
  memset(header, 0, PACK_BLOCK);
  fill(header, &extended);
  const char *name = "PaxHeaders.0";
  memcpy(header, name, tree_length(name));
  seal(header);
  pack->out_used += PACK_BLOCK;
  if (pack_bytes(pack, pack_space(pack)->pax, pack->pax_size) < 0)
    return -1;
  return pack_padding(pack, pack->pax_size);
}

int pack_header(struct pack *pack, const struct pack_entry *entry)
{
  uint8_t header[PACK_BLOCK];
  memset(header, 0, sizeof(header));
  bool path = !place(header, entry->path, entry->path_size);
  if (path)
    /* For who knows no pax: something, which the record overrules. */
    memcpy(header, entry->path, NAME_MAX);
  bool link = entry->link_size > NAME_MAX;
  memcpy(header + 157, entry->link, link ? NAME_MAX : entry->link_size);
  fill(header, entry);
  seal(header);
  if (record_rest(pack, entry, path, link) < 0)
    return -1;
  if (pack->pax_size != 0 && write_pax(pack) < 0)
    return -1;
  pack->pax_size = 0;
  return pack_bytes(pack, header, sizeof(header));
}
