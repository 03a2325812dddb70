/* Crash points: counts the calls that change files below a folder, and breaks the n-th.
 *
 * Loaded with LD_PRELOAD. SHIM_ROOT is the folder, SHIM_STATE a file of two 64-bit numbers that all
 * processes share: how many calls there were, and which is to be broken (0: none). SHIM_DO says how:
 * kill-before, kill-after, eio, enospc, short. SHIM_LOG gets a line a call: number, name, path,
 * second path. A name that is about to be replaced or removed is linked into SHIM_TRASH first, so
 * that a power cut can be played back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { GO, BROKEN, SHORT, AFTER };
static const char *root, *how, *trash;
static size_t root_length;
static int log_fd = -1;
static struct { _Atomic unsigned long long count, at; } *state;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_STATE"), *log = getenv("SHIM_LOG");
    root = getenv("SHIM_ROOT");
    how = getenv("SHIM_DO");
    trash = getenv("SHIM_TRASH");
    if (!root || !how || !path || !log) { root = NULL; return; }
    root_length = strlen(root);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR, 0);
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int below(const char *path) {
    return root && !strncmp(path, root, root_length) &&
           (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of a name, or of a descriptor when there is no name. */
static void place(char *out, int folder, const char *name) {
    char link[64];
    out[0] = 0;
    if (name && name[0] == '/') { snprintf(out, PATH_MAX, "%s", name); return; }
    if (folder == AT_FDCWD) {
        if (!getcwd(out, PATH_MAX)) out[0] = 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, out, PATH_MAX - 1);
        out[n > 0 ? n : 0] = 0;
    }
    size_t used = strlen(out);
    if (name) snprintf(out + used, PATH_MAX - used, "/%s", name);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* Count a call and log it; say whether it is to be broken. */
static int point(const char *call, const char *path, const char *other) {
    if (!root || (!below(path) && !(other && below(other)))) return GO;
    static __thread char written[PATH_MAX];
    if (!strcmp(call, "write")) { /* writes to one file in a row are one point */
        if (!strcmp(written, path)) return GO;
        snprintf(written, sizeof written, "%s", path);
    } else written[0] = 0;
    struct stat known; /* what is there already is not made */
    const char *made = !strcmp(call, "mkdir") ? path : !strcmp(call, "link") ? other : NULL;
    if (made && !syscall(SYS_newfstatat, AT_FDCWD, made, &known, AT_SYMLINK_NOFOLLOW)) return GO;
    int saved = errno, answer = GO;
    char line[2 * PATH_MAX + 64];
    unsigned long long number = ++state->count;
    int n = snprintf(line, sizeof line, "%llu\t%s\t%s\t%s\n", number, call, path, other ? other : "");
    if (number == state->at && !strcmp(how, "kill-before")) die();
    const char *victim = !strncmp(call, "rename", 6) ? other : !strcmp(call, "unlink") ? path : NULL;
    if (victim && trash) {
        char kept[PATH_MAX];
        snprintf(kept, sizeof kept, "%s/%llu", trash, number);
        syscall(SYS_linkat, AT_FDCWD, victim, AT_FDCWD, kept, 0);
    }
    if (number == state->at) {
        if (!strcmp(how, "kill-after")) answer = AFTER;
        else if (!strcmp(how, "short") && !strcmp(call, "write")) answer = SHORT;
        else if (strcmp(how, "none")) {
            errno = !strcmp(how, "enospc") ? ENOSPC : EIO;
            return BROKEN;
        }
    }
    if (syscall(SYS_write, log_fd, line, n) < 0) die();
    errno = saved;
    return answer;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define DONE(verdict, result) do { if ((verdict) == AFTER) die(); return result; } while (0)

#define OPENER(name, signature, folder, ...)                                                  \
    int name signature {                                                                          \
        REAL(name);                                                                               \
        mode_t mode = 0;                                                                          \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                      \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest);       \
        }                                                                                         \
        if (!(flags & (O_CREAT | O_TRUNC))) return real(__VA_ARGS__, flags, mode);                \
        char path[PATH_MAX];                                                                      \
        place(path, folder, file);                                                                \
        struct stat known;                                                                        \
        int is_new = syscall(SYS_newfstatat, AT_FDCWD, path, &known, 0) != 0;                     \
        if (!is_new && !(flags & O_TRUNC)) return real(__VA_ARGS__, flags, mode);                 \
        int verdict = point(is_new ? "create" : "truncate", path, NULL);                          \
        if (verdict == BROKEN) return -1;                                                         \
        int result = real(__VA_ARGS__, flags, mode);                                              \
        DONE(verdict, result);                                                                    \
    }
OPENER(open, (const char *file, int flags, ...), AT_FDCWD, file)
OPENER(open64, (const char *file, int flags, ...), AT_FDCWD, file)
OPENER(openat, (int folder, const char *file, int flags, ...), folder, folder, file)
OPENER(openat64, (int folder, const char *file, int flags, ...), folder, folder, file)

#define WRITER(name, signature, shorter, ...)                                                     \
    ssize_t name signature {                                                                      \
        REAL(name);                                                                               \
        char path[PATH_MAX];                                                                      \
        place(path, fd, NULL);                                                                    \
        int verdict = point("write", path, NULL);                                                 \
        if (verdict == BROKEN) return -1;                                                         \
        if (verdict == SHORT) return shorter;                                                     \
        ssize_t result = real(__VA_ARGS__);                                                       \
        DONE(verdict, result);                                                                    \
    }
WRITER(write, (int fd, const void *data, size_t n), real(fd, data, n / 2 ? n / 2 : n), fd, data, n)
WRITER(pwrite, (int fd, const void *data, size_t n, off_t at),
       real(fd, data, n / 2 ? n / 2 : n, at), fd, data, n, at)
WRITER(pwrite64, (int fd, const void *data, size_t n, off64_t at),
       real(fd, data, n / 2 ? n / 2 : n, at), fd, data, n, at)
WRITER(writev, (int fd, const struct iovec *parts, int n), real(fd, parts, 1), fd, parts, n)

#define ONE(name, label, signature, folder, file, ...)                                            \
    int name signature {                                                                          \
        REAL(name);                                                                               \
        char path[PATH_MAX];                                                                      \
        place(path, folder, file);                                                                \
        int verdict = point(label, path, NULL);                                                   \
        if (verdict == BROKEN) return -1;                                                         \
        int result = real(__VA_ARGS__);                                                           \
        DONE(verdict, result);                                                                    \
    }
ONE(unlink, "unlink", (const char *file), AT_FDCWD, file, file)
ONE(unlinkat, "unlink", (int folder, const char *file, int flags), folder, file, folder, file, flags)
ONE(rmdir, "rmdir", (const char *file), AT_FDCWD, file, file)
ONE(mkdir, "mkdir", (const char *file, mode_t mode), AT_FDCWD, file, file, mode)
ONE(mkdirat, "mkdir", (int folder, const char *file, mode_t mode), folder, file, folder, file, mode)
ONE(ftruncate, "write", (int fd, off_t n), fd, NULL, fd, n)
ONE(ftruncate64, "write", (int fd, off64_t n), fd, NULL, fd, n)
ONE(fsync, "sync", (int fd), fd, NULL, fd)
ONE(fdatasync, "sync", (int fd), fd, NULL, fd)
ONE(chmod, "chmod", (const char *file, mode_t mode), AT_FDCWD, file, file, mode)
ONE(fchmod, "chmod", (int fd, mode_t mode), fd, NULL, fd, mode)
ONE(fchmodat, "chmod", (int folder, const char *file, mode_t mode, int flags), folder, file,
    folder, file, mode, flags)

#define TWO(name, label, signature, from, old, to, new, ...)                                      \
    int name signature {                                                                          \
        REAL(name);                                                                               \
        char path[PATH_MAX], other[PATH_MAX];                                                     \
        place(path, from, old);                                                                   \
        place(other, to, new);                                                                    \
        int verdict = point(label, path, other);                                                  \
        if (verdict == BROKEN) return -1;                                                         \
        int result = real(__VA_ARGS__);                                                           \
        DONE(verdict, result);                                                                    \
    }
TWO(rename, "rename", (const char *old, const char *new), AT_FDCWD, old, AT_FDCWD, new, old, new)
TWO(renameat, "rename", (int from, const char *old, int to, const char *new), from, old, to, new,
    from, old, to, new)
TWO(renameat2, "rename", (int from, const char *old, int to, const char *new, unsigned flags), from,
    old, to, new, from, old, to, new, flags)
TWO(link, "link", (const char *old, const char *new), AT_FDCWD, old, AT_FDCWD, new, old, new)
TWO(linkat, "link", (int from, const char *old, int to, const char *new, int flags), from, old, to,
    new, from, old, to, new, flags)
