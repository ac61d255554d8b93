/* Put before the C library with LD_PRELOAD: a disk that does to the audit log (audit.db and its -wal)
 * what real disks do rarely and what has no other stand-in that needs neither root nor a kernel module.
 *
 *   DISK_LOG    a file that gets a line for each sync of the log: "sync", or "fail"
 *   DISK_FAULT  while this file exists, by its content:
 *                 nothing      a sync fails with EIO
 *                 hang         a sync does not come back
 *                 read-only    nothing is written, and no file opened to be written: EROFS
 *   DISK_DIR    the folder that is read-only then
 *   DISK_UNDO   a file that gets what each write since the last sync has overwritten, so that a power
 *               cut can be played after the process is gone: lines "W NAME OFFSET LEN SIZE OLD" and OLD
 *               bytes, where OLD of the LEN bytes were within a file of SIZE; "T NAME SIZE FROM OLD" and
 *               the bytes cut off; "S NAME" for a sync that succeeded
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef int (*sync_fn)(int);
typedef int (*truncate_fn)(int, off64_t);
typedef int (*open_fn)(const char *, int, ...);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The name of the log's file behind a descriptor, or NULL. */
static const char *log_of(int fd)
{
    static __thread char path[4096];
    char link[64];
    const char *name;
    ssize_t len;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof path - 1);
    if (len < 0)
        return NULL;
    path[len] = 0;
    name = strrchr(path, '/');
    name = name ? name + 1 : path;
    if (strcmp(name, "audit.db") && strcmp(name, "audit.db-wal"))
        return NULL;
    return name;
}

/* What the disk does now: 0 nothing wrong, 'e' EIO, 'h' hang, 'r' read-only. */
static int fault(void)
{
    const char *path = getenv("DISK_FAULT");
    char first = 'e';
    int fd = path ? REAL(open_fn, "open64")(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0)
        return 0;
    if (read(fd, &first, 1) < 0)
        abort();
    close(fd);
    return first;
}

static void say(const char *variable, const void *bytes, size_t len)
{
    const char *path = getenv(variable);
    int out;

    if (!path)
        return;
    out = REAL(open_fn, "open64")(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (REAL(write_fn, "write")(out, bytes, len) != (ssize_t)len)
        abort();
    close(out);
}

/* Says what `len` bytes at `at` are now, under this head. */
static void remember(int fd, const char *head, off64_t at, off64_t len)
{
    size_t head_len = strlen(head);
    char *text = malloc(head_len + len);

    if (!text || pread64(fd, memcpy(text, head, head_len) + head_len, len, at) != len)
        abort();
    say("DISK_UNDO", text, head_len + len);
    free(text);
}

static int remembers(void)
{
    return getenv("DISK_UNDO") != NULL;
}

static void before_write(int fd, const char *name, off64_t at, size_t len)
{
    char head[256];
    struct stat64 found;
    off64_t old;

    if (!remembers())
        return;
    if (fstat64(fd, &found))
        abort();
    old = found.st_size - at;
    old = old < 0 ? 0 : old > (off64_t)len ? (off64_t)len : old;
    snprintf(head, sizeof head, "W %s %lld %zu %lld %lld\n", name, (long long)at, len,
             (long long)found.st_size, (long long)old);
    remember(fd, head, at, old);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    const char *name = log_of(fd);
    ssize_t written;

    if (name && fault() == 'r') {
        errno = EROFS;
        return -1;
    }
    if (!name)
        return REAL(pwrite_fn, "pwrite64")(fd, bytes, len, at);
    pthread_mutex_lock(&lock);
    before_write(fd, name, at, len);
    written = REAL(pwrite_fn, "pwrite64")(fd, bytes, len, at);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return pwrite64(fd, bytes, len, at);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    const char *name = log_of(fd);
    ssize_t written;

    if (!name)
        return REAL(write_fn, "write")(fd, bytes, len);
    if (fault() == 'r') {
        errno = EROFS;
        return -1;
    }
    pthread_mutex_lock(&lock);
    before_write(fd, name, lseek64(fd, 0, SEEK_CUR), len);
    written = REAL(write_fn, "write")(fd, bytes, len);
    pthread_mutex_unlock(&lock);
    return written;
}

int ftruncate64(int fd, off64_t len)
{
    const char *name = log_of(fd);
    int answer;

    if (name && fault() == 'r') {
        errno = EROFS;
        return -1;
    }
    pthread_mutex_lock(&lock);
    if (name && remembers()) {
        char head[256];
        struct stat64 found;

        if (fstat64(fd, &found))
            abort();
        off64_t old = found.st_size > len ? found.st_size - len : 0;
        snprintf(head, sizeof head, "T %s %lld %lld %lld\n", name, (long long)found.st_size,
                 (long long)len, (long long)old);
        remember(fd, head, len, old);
    }
    answer = REAL(truncate_fn, "ftruncate64")(fd, len);
    pthread_mutex_unlock(&lock);
    return answer;
}

int ftruncate(int fd, off_t len)
{
    return ftruncate64(fd, len);
}

static int sync_or_fail(const char *real, int fd)
{
    const char *name = log_of(fd);
    char line[128];
    int answer;

    if (!name)
        return REAL(sync_fn, real)(fd);
    while (fault() == 'h')
        usleep(5000);
    if (fault() == 'e') {
        say("DISK_LOG", "fail\n", 5);
        errno = EIO;
        return -1;
    }
    say("DISK_LOG", "sync\n", 5);
    pthread_mutex_lock(&lock);
    answer = REAL(sync_fn, real)(fd);
    if (answer == 0 && remembers())
        say("DISK_UNDO", line, snprintf(line, sizeof line, "S %s\n", name));
    pthread_mutex_unlock(&lock);
    return answer;
}

int fsync(int fd)
{
    return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_or_fail("fdatasync", fd);
}

int open64(const char *path, int flags, ...)
{
    const char *dir = getenv("DISK_DIR");
    mode_t mode = 0;
    va_list more;

    va_start(more, flags);
    if (flags & (O_CREAT | O_TMPFILE))
        mode = va_arg(more, mode_t);
    va_end(more);
    if ((flags & O_ACCMODE) != O_RDONLY && dir && !strncmp(path, dir, strlen(dir)) && fault() == 'r') {
        errno = EROFS;
        return -1;
    }
    return REAL(open_fn, "open64")(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list more;

    va_start(more, flags);
    if (flags & (O_CREAT | O_TMPFILE))
        mode = va_arg(more, mode_t);
    va_end(more);
    return open64(path, flags, mode);
}
