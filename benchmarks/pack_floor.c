/* pack_floor.c - the least that packing a tree can cost.
 *
 *   pack_floor TREE [threads]
 *
 * Walks TREE in sorted order, makes a ustar header for each entry, reads every
 * file, asks for its attributes, and prints the SHA-256 of the archive.  It
 * has no error paths, no limits, no isolation, no pax, and knows neither
 * layers nor hard links: a straight program, with one thread or (2) with a
 * second one that hashes.  Link with -lcrypto -lpthread. */
#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BUFFER ((size_t)1 << 20)
#define BUFFERS 4

struct buffer {
  char bytes[BUFFER];
  size_t used;
  bool full;
};

static struct buffer buffers[BUFFERS];
static size_t filling;
static bool threaded, ended;
static EVP_MD_CTX *hash;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;

static void *hasher(void *unused)
{
  for (size_t at = 0;; at = (at + 1) % BUFFERS) {
    pthread_mutex_lock(&lock);
    while (!buffers[at].full && !ended)
      pthread_cond_wait(&moved, &lock);
    bool there = buffers[at].full;
    pthread_mutex_unlock(&lock);
    if (!there)
      return unused;
    EVP_DigestUpdate(hash, buffers[at].bytes, buffers[at].used);
    pthread_mutex_lock(&lock);
    buffers[at].full = false;
    buffers[at].used = 0;
    pthread_cond_signal(&moved);
    pthread_mutex_unlock(&lock);
  }
}

static void flush(void)
{
  struct buffer *buffer = &buffers[filling];
  if (!threaded) {
    EVP_DigestUpdate(hash, buffer->bytes, buffer->used);
    buffer->used = 0;
    return;
  }
  pthread_mutex_lock(&lock);
  buffer->full = true;
  pthread_cond_signal(&moved);
  filling = (filling + 1) % BUFFERS;
  while (buffers[filling].full)
    pthread_cond_wait(&moved, &lock);
  pthread_mutex_unlock(&lock);
}

static char *room(size_t size)
{
  if (BUFFER - buffers[filling].used < size)
    flush();
  return buffers[filling].bytes + buffers[filling].used;
}

static void octal(char *at, int digits, unsigned long value)
{
  while (digits-- > 0) {
    at[digits] = (char)('0' + (value & 7));
    value >>= 3;
  }
}

static void header(const char *path, const struct stat *stat, char type,
                   size_t size, const char *link)
{
  char *at = room(512);
  memset(at, 0, 512);
  size_t length = strlen(path);
  if (length <= 100) {
    memcpy(at, path, length);
  } else {
    const char *cut = strchr(path + length - 101, '/');
    if (cut == NULL || cut - path > 155)
      cut = path + 99;
    memcpy(at + 345, path, (size_t)(cut - path));
    memcpy(at, cut + 1, strlen(cut + 1) > 100 ? 100 : strlen(cut + 1));
  }
  octal(at + 100, 7, stat->st_mode & 07777);
  octal(at + 108, 7, stat->st_uid);
  octal(at + 116, 7, stat->st_gid);
  octal(at + 124, 11, size);
  octal(at + 136, 11, (unsigned long)stat->st_mtime);
  at[156] = type;
  memcpy(at + 157, link, strnlen(link, 100));
  memcpy(at + 257, "ustar\00000", 8);
  octal(at + 329, 7, major(stat->st_rdev));
  octal(at + 337, 7, minor(stat->st_rdev));
  memset(at + 148, ' ', 8);
  unsigned sum = 0;
  for (int i = 0; i < 512; i++)
    sum += (unsigned char)at[i];
  octal(at + 148, 6, sum);
  at[154] = '\0';
  buffers[filling].used += 512;
}

static void content(int fd, size_t size)
{
  size_t left = size;
  while (left > 0) {
    char *at = room(left < 65536 ? left : 65536);
    size_t most = BUFFER - buffers[filling].used;
    ssize_t got = read(fd, at, most < left ? most : left);
    if (got <= 0)
      exit(1);
    buffers[filling].used += (size_t)got;
    left -= (size_t)got;
  }
  if (size % 512 != 0) {
    memset(room(512), 0, 512 - size % 512);
    buffers[filling].used += 512 - size % 512;
  }
}

static int by_name(const void *a, const void *b)
{
  const struct dirent *const *left = a, *const *right = b;
  return strcmp((*left)->d_name, (*right)->d_name);
}

static void walk(int dir, char *path, size_t path_size)
{
  DIR *stream = fdopendir(dir);
  struct dirent *entry, **entries = NULL;
  size_t count = 0;
  while ((entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    if (count % 64 == 0)
      entries = realloc(entries, (count + 64) * sizeof(*entries));
    entries[count] = malloc(entry->d_reclen);
    memcpy(entries[count++], entry, entry->d_reclen);
  }
  if (count > 0)
    qsort(entries, count, sizeof(*entries), by_name);
  for (size_t i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    size_t size = path_size + strlen(name);
    struct stat stat;
    char attributes[4096], link[4096] = "";
    memcpy(path + path_size, name, strlen(name) + 1);
    unsigned char kind = entries[i]->d_type;
    if (kind == DT_REG || kind == DT_DIR) {
      int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
      if (fd < 0 || fstat(fd, &stat) < 0)
        exit(1);
      if (flistxattr(fd, attributes, sizeof(attributes)) > 0)
        attributes[0] = '\0';
      if (kind == DT_REG) {
        header(path, &stat, '0', (size_t)stat.st_size, "");
        content(fd, (size_t)stat.st_size);
        close(fd);
      } else {
        memcpy(path + size, "/", 2);
        header(path, &stat, '5', 0, "");
        walk(fd, path, size + 1);
      }
    } else if (fstatat(dir, name, &stat, AT_SYMLINK_NOFOLLOW) == 0) {
      if (kind == DT_LNK &&
          readlinkat(dir, name, link, sizeof(link) - 1) < 0)
        exit(1);
      header(path, &stat,
             kind == DT_LNK   ? '2'
             : kind == DT_CHR ? '3'
             : kind == DT_BLK ? '4'
                              : '6',
             0, link);
    }
    free(entries[i]);
  }
  free(entries);
  closedir(stream);
}

int main(int argc, char **argv)
{
  static char path[65536];
  unsigned char digest[32];
  pthread_t thread;
  if (argc < 2)
    return 2;
  threaded = argc > 2;
  hash = EVP_MD_CTX_new();
  EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
  if (threaded && pthread_create(&thread, NULL, hasher, NULL) != 0)
    return 1;
  int top = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (top < 0)
    return 1;
  walk(top, path, 0);
  for (int i = 0; i < 2; i++) {
    memset(room(512), 0, 512);
    buffers[filling].used += 512;
  }
  flush();
  if (threaded) {
    pthread_mutex_lock(&lock);
    ended = true;
    pthread_cond_signal(&moved);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
  }
  EVP_DigestFinal_ex(hash, digest, NULL);
  for (size_t i = 0; i < sizeof(digest); i++)
    printf("%02x", digest[i]);
  printf("\n");
  return 0;
}
