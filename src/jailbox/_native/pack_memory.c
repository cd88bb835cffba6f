/* pack_memory.c - what must be remembered while a tree is packed.
 *
 *   - the names of the directories on the way down, because a directory can
 *     be sorted only as a whole;
 *   - every inode with several names, and its first path;
 *   - the table of owners, which is only read.
 *
 * Nothing else grows with the tree. */
#include "pack_internal.h"

#define REGION_FIRST ((size_t)64 * 1024)
#define MREMAP_MAYMOVE 1
#define LINKS_FIRST ((size_t)1024)

static bool is_error(long result)
{
  return result < 0 && result > -4096;
}

long pack_region_need(struct pack_region *region, size_t more)
{
  if (region->at != NULL && more <= region->size - region->used)
    return 0;
  size_t size = region->size == 0 ? REGION_FIRST : region->size;
  while (size - region->used < more) {
    size *= 2;
    if (size > PACK_REGION_MAX)
      return -JB_ENOMEM;
  }
  long at =
    region->at == NULL
      ? sys_mmap(NULL, size, JB_PROT_RW, JB_MAP_PRIVATE_ANONYMOUS, -1, 0)
      : JB_CALL4(__NR_mremap, region->at, region->size, size, MREMAP_MAYMOVE);
  if (is_error(at))
    return at;
  region->at = (uint8_t *)at;
  region->size = size;
  return 0;
}

void pack_region_free(struct pack_region *region)
{
  if (region->at != NULL)
    (void)sys_munmap(region->at, region->size);
  *region = (struct pack_region){0};
}

/* ---- names ---- */

static int order_of(const char *left, const char *right)
{
  const unsigned char *l = (const unsigned char *)left;
  const unsigned char *r = (const unsigned char *)right;
  while (*l != '\0' && *l == *r) {
    l++;
    r++;
  }
  return *l - *r;
}

/* Merge sort without recursion, between two arrays; the result is in *one*. */
static void sort(const char *base, uint32_t *one, uint32_t *two, size_t count)
{
  uint32_t *from = one;
  uint32_t *to = two;
  for (size_t width = 1; width < count; width *= 2) {
    for (size_t begin = 0; begin < count; begin += 2 * width) {
      size_t middle = begin + width < count ? begin + width : count;
      size_t end = middle + width < count ? middle + width : count;
      size_t left = begin;
      size_t right = middle;
      for (size_t at = begin; at < end; at++) {
        bool take_left = left < middle &&
                         (right == end ||
                          order_of(base + from[left], base + from[right]) <= 0);
        to[at] = take_left ? from[left++] : from[right++];
      }
    }
    uint32_t *swap = from;
    from = to;
    to = swap;
  }
  if (from != one)
    memcpy(one, from, count * sizeof(*one));
}

long pack_names_read(struct pack_region *region, int fd, char *dents,
                     struct pack_names *names)
{
  struct tree_list list = {.fd = fd, .dents = dents};
  struct tree_dirent entry;
  *names = (struct pack_names){.begin = region->used};
  long more;
  while ((more = tree_list_next(&list, &entry)) == 1) {
    long error = pack_region_need(region, entry.size + 2);
    if (error < 0)
      return error;
    uint8_t *at = region->at + region->used;
    at[0] = (uint8_t)entry.type;
    memcpy(at + 1, entry.name, entry.size + 1);
    region->used += entry.size + 2;
    names->count++;
  }
  if (more < 0)
    return more;
  size_t end = region->used;
  names->order = (end + 3) & ~(size_t)3;
  size_t array = names->count * sizeof(uint32_t);
  /* The second array is needed for sorting only. */
  long error = pack_region_need(region, names->order - end + 2 * array);
  if (error < 0)
    return error;
  region->used = names->order + array;
  uint32_t *offsets = (uint32_t *)(void *)(region->at + names->order);
  const char *base = (const char *)region->at + names->begin;
  uint32_t at = 0;
  for (uint32_t i = 0; i < names->count; i++) {
    offsets[i] = at + 1; /* compared by name, behind the type */
    at += (uint32_t)tree_length(base + at + 1) + 2;
  }
  sort(base, offsets, offsets + names->count, names->count);
  for (uint32_t i = 0; i < names->count; i++)
    offsets[i]--;
  return 0;
}

/* ---- hard links ---- */

struct pack_link {
  uint64_t inode; /* 0: free; no file system numbers a file so */
  uint64_t device;
  size_t path;
  size_t size;
};

static size_t slot_of(const struct pack_links *links, uint64_t inode,
                      uint64_t device)
{
  const struct pack_link *table =
    (const struct pack_link *)(const void *)links->table.at;
  size_t mask = links->table.used / sizeof(*table) - 1;
  /* Fibonacci hashing: neighbors in number are not neighbors in the table. */
  uint64_t hash = (inode ^ device << 32) * 0x9e3779b97f4a7c15u;
  size_t slot = (size_t)(hash >> 20) & mask;
  while (table[slot].inode != 0 &&
         (table[slot].inode != inode || table[slot].device != device))
    slot = (slot + 1) & mask;
  return slot;
}

/* Make the table twice as large, or the first one. */
static long grow(struct pack_links *links)
{
  struct pack_region old = links->table;
  size_t count =
    old.used == 0 ? LINKS_FIRST : 2 * old.used / sizeof(struct pack_link);
  struct pack_region new = {0};
  long error = pack_region_need(&new, count * sizeof(struct pack_link));
  if (error < 0)
    return error;
  new.used = count * sizeof(struct pack_link);
  links->table = new;
  struct pack_link *to = (struct pack_link *)(void *)new.at;
  const struct pack_link *from = (const struct pack_link *)(void *)old.at;
  for (size_t i = 0; i < old.used / sizeof(*from); i++)
    if (from[i].inode != 0)
      to[slot_of(links, from[i].inode, from[i].device)] = from[i];
  pack_region_free(&old);
  return 0;
}

const char *pack_links_seen(struct pack_links *links, const struct statx *stat,
                            const struct tree_path *path, size_t *size,
                            long *error)
{
  uint64_t device = (uint64_t)stat->stx_dev_major << 20 | stat->stx_dev_minor;
  /* A quarter of the table stays free, so that every search ends. */
  if (links->count * 4 >= links->table.used / sizeof(struct pack_link) * 3)
    *error = grow(links);
  if (*error == 0)
    *error = pack_region_need(&links->paths, path->size);
  if (*error < 0)
    return NULL;
  struct pack_link *table = (struct pack_link *)(void *)links->table.at;
  struct pack_link *link = &table[slot_of(links, stat->stx_ino, device)];
  if (link->inode != 0) {
    *size = link->size;
    return (const char *)links->paths.at + link->path;
  }
  *link = (struct pack_link){.inode = stat->stx_ino,
                             .device = device,
                             .path = links->paths.used,
                             .size = path->size};
  memcpy(links->paths.at + links->paths.used, path->text, path->size);
  links->paths.used += path->size;
  links->count++;
  return NULL;
}

/* ---- owners ---- */

/* The order of the walk: what is below a directory comes right behind it. */
static int path_order(const char *left, size_t left_size, const char *right,
                      size_t right_size)
{
  for (size_t i = 0; i < left_size && i < right_size; i++) {
    if (left[i] == right[i])
      continue;
    if (left[i] == '/' || right[i] == '/')
      return left[i] == '/' ? -1 : 1;
    return (unsigned char)left[i] < (unsigned char)right[i] ? -1 : 1;
  }
  return left_size < right_size ? -1 : left_size > right_size;
}

bool pack_owners_find(struct pack_owners *owners, const struct tree_path *path,
                      struct jb_pack_owner *found)
{
  while (owners->size - owners->next >= sizeof(*found)) {
    memcpy(found, owners->at + owners->next, sizeof(*found));
    size_t begin = owners->next + sizeof(*found);
    if (found->path_size > owners->size - begin)
      return false;
    int order = path_order((const char *)owners->at + begin, found->path_size,
                           path->text, path->size);
    if (order > 0)
      return false;
    owners->next = begin + found->path_size;
    if (order == 0)
      return true;
  }
  return false;
}
