/* Put before the C library with LD_PRELOAD: says in $DISK_LOG that a sync was asked for, and makes
 * it fail with EIO while $DISK_FAULT exists. A failed sync is rare on real disks and has no other
 * stand-in that needs neither root nor a kernel module. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_or_fail(const char *name, int fd)
{
    const char *log = getenv("DISK_LOG");
    const char *fault = getenv("DISK_FAULT");
    int fails = fault != NULL && access(fault, F_OK) == 0;

    if (log != NULL) {
        int out = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
        ssize_t written = write(out, fails ? "fail\n" : "sync\n", 5);
        close(out);
        if (written != 5)
            abort();
    }
    if (fails) {
        errno = EIO;
        return -1;
    }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd)
{
    return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_or_fail("fdatasync", fd);
}
