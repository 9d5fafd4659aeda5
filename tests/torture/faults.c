/* Preloaded into a process: counts its calls that touch files below one folder, and lets one of them fail, or kills the
   process at it. Built and used by harness.py; see there.

   faults_arm(folder, action, target, error, journal): from now on count. action 0: count alone; 1: call number
   `target` fails with `error`; 2: SIGKILL before that call; 3: SIGKILL behind it. The journal, a file descriptor, gets
   the name of each call and its file, a line a call. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static size_t folder_length;
static int action, failure, journal = -1;
static long target;
static atomic_long calls;
static _Thread_local int inside;

void faults_arm(const char *below, int what, long number, int error, int log)
{
    strncpy(folder, below, sizeof folder - 1);
    folder_length = strlen(folder);
    action = what;
    target = number;
    failure = error;
    journal = log;
    atomic_store(&calls, 0);
}

static int watched(const char *path) { return folder_length && strncmp(path, folder, folder_length) == 0; }

static int path_of(int descriptor, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

/* Count a call; 1: it is to fail, 2: the process is to die behind it. */
static int count(const char *name, const char *path)
{
    if (!folder_length || inside || !path || !watched(path))
        return 0;
    inside = 1;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (journal >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%s\t%s\n", name, path + folder_length);
        ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        if (real(journal, line, length) < 0)
            _exit(99);
    }
    inside = 0;
    if (!action || number != target)
        return 0;
    if (action == 2)
        raise(SIGKILL);
    return action == 3 ? 2 : 1;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define RUN(call, path, type, bad, expression)                                                                         \
    int fate = count(call, path);                                                                                      \
    if (fate == 1) {                                                                                                   \
        errno = failure;                                                                                               \
        return bad;                                                                                                    \
    }                                                                                                                  \
    type result = expression;                                                                                          \
    if (fate == 2)                                                                                                     \
        raise(SIGKILL);                                                                                                \
    return result;

#define ABSOLUTE(at, path)                                                                                             \
    char full[2 * PATH_MAX] = "";                                                                                      \
    if (path && path[0] == '/')                                                                                        \
        snprintf(full, sizeof full, "%s", path);                                                                       \
    else if (path && folder_length) {                                                                                  \
        char base[PATH_MAX] = "";                                                                                      \
        if (at == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of(at, base))                                    \
            snprintf(full, sizeof full, "%s/%s", base, path);                                                          \
    }

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

/* Opening a folder, to list or to flush it, counts as another call than opening a file. */
#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        MODE REAL(name);                                                                                               \
        ABSOLUTE(AT_FDCWD, path)                                                                                       \
        RUN(flags & (O_WRONLY | O_RDWR) ? "open to write" : "open to read", full, int, -1, real(path, flags, mode))    \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int at, const char *path, int flags, ...)                                                                 \
    {                                                                                                                  \
        MODE REAL(name);                                                                                               \
        ABSOLUTE(at, path)                                                                                             \
        RUN(flags & (O_WRONLY | O_RDWR) ? "open to write" : "open to read", full, int, -1,                             \
            real(at, path, flags, mode))                                                                               \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode)                                                                     \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        ABSOLUTE(AT_FDCWD, path)                                                                                       \
        RUN(mode[0] == 'r' ? "open to read" : "open to write", full, FILE *, NULL, real(path, mode))                   \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define OF_DESCRIPTOR(call)                                                                                            \
    char path[PATH_MAX] = "";                                                                                          \
    if (folder_length && !inside)                                                                                      \
        path_of(descriptor, path);

ssize_t write(int descriptor, const void *buffer, size_t size)
{
    REAL(write);
    OF_DESCRIPTOR()
    RUN("write", path, ssize_t, -1, real(descriptor, buffer, size))
}
ssize_t pwrite64(int descriptor, const void *buffer, size_t size, off64_t offset)
{
    REAL(pwrite64);
    OF_DESCRIPTOR()
    RUN("write", path, ssize_t, -1, real(descriptor, buffer, size, offset))
}
ssize_t writev(int descriptor, const struct iovec *parts, int number)
{
    REAL(writev);
    OF_DESCRIPTOR()
    RUN("write", path, ssize_t, -1, real(descriptor, parts, number))
}
int fsync(int descriptor)
{
    REAL(fsync);
    OF_DESCRIPTOR()
    RUN("fsync", path, int, -1, real(descriptor))
}
int ftruncate64(int descriptor, off64_t length)
{
    REAL(ftruncate64);
    OF_DESCRIPTOR()
    RUN("truncate", path, int, -1, real(descriptor, length))
}
#define MMAP(name)                                                                                                     \
    void *name(void *address, size_t length, int protection, int flags, int descriptor, off_t offset)                  \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        char path[PATH_MAX] = "";                                                                                      \
        if (folder_length && !inside && descriptor >= 0)                                                               \
            path_of(descriptor, path);                                                                                 \
        RUN("mmap", path, void *, MAP_FAILED, real(address, length, protection, flags, descriptor, offset))            \
    }
MMAP(mmap)
MMAP(mmap64)
int rename(const char *path, const char *to)
{
    REAL(rename);
    ABSOLUTE(AT_FDCWD, to)
    RUN("rename", full, int, -1, real(path, to))
}
int unlink(const char *path)
{
    REAL(unlink);
    ABSOLUTE(AT_FDCWD, path)
    RUN("unlink", full, int, -1, real(path))
}
int unlinkat(int at, const char *path, int flags)
{
    REAL(unlinkat);
    ABSOLUTE(at, path)
    RUN("unlink", full, int, -1, real(at, path, flags))
}
int rmdir(const char *path)
{
    REAL(rmdir);
    ABSOLUTE(AT_FDCWD, path)
    RUN("rmdir", full, int, -1, real(path))
}
int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    ABSOLUTE(AT_FDCWD, path)
    RUN("mkdir", full, int, -1, real(path, mode))
}
