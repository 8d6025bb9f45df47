/* A disk that can lose power: records what a program does to the files below one folder.
 *
 * LD_PRELOAD library. Every write, truncation, creation, rename, removal and sync below
 * POWERCUT_BASE goes through to the real file system and, in the order in which it happened, into
 * the file POWERCUT_LOG. From that log `image.rs` makes what a disk may hold after the power went
 * at any moment: contents only up to the last fsync or fdatasync of the file that had ended, names
 * only up to the last fsync of their folder, and of everything later any part: nothing, all, a
 * prefix with a torn last write, or any pages.
 *
 * Invariant: a sync is in the log as ended only after the kernel said so, and covers only what was
 * in the log before it began. With POWERCUT_EIO_AFTER=N every sync after the Nth fails with EIO. An operation and its entry are made under one lock, so the log's order
 * is the order of operations. Not recorded, because it makes nothing durable or is not used by the
 * programs under test: sync_file_range, mmap with msync, O_DSYNC, io_uring, links.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPENED = 1, CREATED, WROTE, CUT, SYNC_BEGAN, SYNC_ENDED, RENAMED, REMOVED, FOLDER, FOLDER_REMOVED };

struct entry {
    uint32_t magic; /* 0x70637574 */
    uint32_t kind;
    uint64_t inode; /* of the file, or of the folder that is synced */
    uint64_t number; /* offset of a write, size after a cut, number of a sync */
    uint32_t name_bytes, second_bytes;
    uint64_t data_bytes;
};

#define FDS 65536
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t inodes[FDS]; /* 0: not ours */
static const char *base;
static size_t base_bytes;
static int log_fd = -1;
static uint64_t syncs;
static uint64_t syncs_until_error; /* 0: never */

static void start(void) {
    if (log_fd != -1 || base == (const char *)-1) return;
    const char *place = getenv("POWERCUT_LOG");
    base = getenv("POWERCUT_BASE");
    if (!base || !place) {
        base = (const char *)-1;
        return;
    }
    base_bytes = strlen(base);
    const char *until = getenv("POWERCUT_EIO_AFTER");
    syncs_until_error = until ? strtoull(until, NULL, 10) : 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, place, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_fd = fd >= 0 ? (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 60000) : -1;
    if (log_fd < 0) {
        log_fd = fd;
    } else {
        syscall(SYS_close, fd);
    }
    if (log_fd < 0) abort();
}

/* Only while the lock is held. */
static void note(enum kind kind, uint64_t inode, uint64_t number, const char *name, const char *second,
                 const void *data, uint64_t bytes) {
    struct entry entry = {0x70637574, kind, inode, number, name ? (uint32_t)strlen(name) : 0,
                          second ? (uint32_t)strlen(second) : 0, bytes};
    struct iovec parts[4] = {{&entry, sizeof entry},
                             {(void *)name, entry.name_bytes},
                             {(void *)second, entry.second_bytes},
                             {(void *)data, bytes}};
    size_t whole = sizeof entry + entry.name_bytes + entry.second_bytes + bytes;
    if ((size_t)syscall(SYS_writev, log_fd, parts, 4) != whole) {
        static const char said[] = "powercut: the log could not be written\n";
        syscall(SYS_write, 2, said, sizeof said - 1);
        abort();
    }
}

/* The path below the base, or null. */
static const char *below(int folder, const char *path, char *room) {
    start();
    if (log_fd < 0 || !path) return NULL;
    if (path[0] == '/') {
        snprintf(room, PATH_MAX, "%s", path);
    } else {
        char link[64], at[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (!getcwd(at, sizeof at)) return NULL;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t n = readlink(link, at, sizeof at - 1);
            if (n <= 0) return NULL;
            at[n] = 0;
        }
        if (snprintf(room, PATH_MAX, "%s/%s", at, path) >= PATH_MAX) return NULL;
    }
    if (strncmp(room, base, base_bytes) || (room[base_bytes] && room[base_bytes] != '/')) return NULL;
    const char *rest = room + base_bytes;
    while (*rest == '/') rest++;
    return rest;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    char room[PATH_MAX];
    const char *ours = below(folder, path, room);
    if (!ours) return (int)syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat stat;
    int there = fstatat(folder, path, &stat, 0) == 0;
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < FDS && fstat(fd, &stat) == 0 && !(flags & O_PATH)) {
        inodes[fd] = stat.st_ino;
        note(there ? OPENED : CREATED, stat.st_ino, 0, ours, NULL, NULL, 0);
        if (there && (flags & O_TRUNC) && S_ISREG(stat.st_mode)) note(CUT, stat.st_ino, 0, NULL, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN_MODE(flags, last)                              \
    mode_t mode = 0;                                        \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                  \
        va_list rest;                                       \
        va_start(rest, last);                               \
        mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                       \
    }
int open(const char *path, int flags, ...) { OPEN_MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN_MODE(flags, flags) return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { OPEN_MODE(flags, flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { OPEN_MODE(flags, flags) return opened(at, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS && fd != log_fd) inodes[fd] = 0;
    return fd == log_fd && fd >= 0 ? 0 : (int)syscall(SYS_close, fd);
}

static uint64_t inode_of(int fd) { return fd >= 0 && fd < FDS ? inodes[fd] : 0; }

static ssize_t written(int fd, const void *data, size_t bytes, off64_t at, int positional) {
    uint64_t inode = inode_of(fd);
    if (!inode) return positional ? syscall(SYS_pwrite64, fd, data, bytes, at) : syscall(SYS_write, fd, data, bytes);
    pthread_mutex_lock(&lock);
    ssize_t done = positional ? syscall(SYS_pwrite64, fd, data, bytes, at) : syscall(SYS_write, fd, data, bytes);
    int error = errno;
    if (done > 0) {
        off64_t begin = positional ? at : (off64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) - done;
        note(WROTE, inode, (uint64_t)begin, NULL, NULL, data, (uint64_t)done);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
ssize_t write(int fd, const void *data, size_t bytes) { return written(fd, data, bytes, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return written(fd, data, bytes, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) { return written(fd, data, bytes, at, 1); }

/* Written in parts, so that one path records all: a short write is allowed to every caller. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!inode_of(fd)) return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return written(fd, parts[i].iov_base, parts[i].iov_len, 0, 0);
    return 0;
}
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t bytes, unsigned flags) {
    if (!inode_of(to)) return syscall(SYS_copy_file_range, from, in, to, out, bytes, flags);
    errno = ENOSYS; /* callers fall back to reading and writing */
    return -1;
}
ssize_t sendfile(int to, int from, off_t *at, size_t bytes) {
    if (!inode_of(to)) return syscall(SYS_sendfile, to, from, at, bytes);
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t bytes) { return sendfile(to, from, at, bytes); }

static int resized(int fd, off64_t bytes) {
    uint64_t inode = inode_of(fd);
    if (!inode) return (int)syscall(SYS_ftruncate, fd, bytes);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, bytes);
    int error = errno;
    if (done == 0) note(CUT, inode, (uint64_t)bytes, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int ftruncate(int fd, off_t bytes) { return resized(fd, bytes); }
int ftruncate64(int fd, off64_t bytes) { return resized(fd, bytes); }

static int synced(int fd, long call) {
    uint64_t inode = inode_of(fd);
    if (!inode) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs;
    note(SYNC_BEGAN, inode, number, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    if (syncs_until_error && number > syncs_until_error) {
        errno = EIO; /* and nothing reached the disk */
        return -1;
    }
    int done = (int)syscall(call, fd);
    int error = errno;
    if (done == 0) {
        pthread_mutex_lock(&lock);
        note(SYNC_ENDED, inode, number, NULL, NULL, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char one[PATH_MAX], two[PATH_MAX];
    const char *a = below(from_at, from, one), *b = below(to_at, to, two);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int error = errno;
    if (done == 0 && a && b) note(RENAMED, 0, 0, a, b, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { return renamed(a, from, b, to, f); }

static int removed(int at, const char *path, int flags) {
    char room[PATH_MAX];
    const char *ours = below(at, path, room);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, at, path, flags);
    int error = errno;
    if (done == 0 && ours) note(flags & AT_REMOVEDIR ? FOLDER_REMOVED : REMOVED, 0, 0, ours, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
    char room[PATH_MAX];
    const char *ours = below(at, path, room);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_mkdirat, at, path, mode);
    int error = errno;
    if (done == 0 && ours) note(FOLDER, 0, 0, ours, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
