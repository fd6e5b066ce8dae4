/*
 * Preloaded into a head or a worker: makes one system call fail, or every call that waits for the disk lie.
 *
 *   FAULT_PATH   only files whose path contains this
 *   FAULT_OPS    which calls, as ",write,sync,range,rename,truncate,open,mkdir,"
 *   FAULT_AT     the first of them that is hit, counted from 1
 *   FAULT_COUNT  how many are hit; 0 for all from then on
 *   FAULT_ERR    the errno; 0 answers success and does nothing
 *   FAULT_LOG    a line is appended here for each of the first hits
 *   FAULT_CALLS  a file of numbers: how often each kind of call was made, in the order of `kinds`, and then
 *                how often those of FAULT_OPS, which all processes with this file count together
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOGGED_MAX 4
#define KINDS 7

static const char *const kinds[KINDS] = { "write", "sync", "range", "rename", "truncate", "open", "mkdir" };
static atomic_long unshared[KINDS + 1], *made = unshared;

static const char *path_part, *ops, *log_path;
static long first, count;
static int error;
static atomic_long logged;

/* The counts outlive a killed process. */
static void share_counts(const char *path)
{
	int file = path ? open(path, O_RDWR) : -1;
	void *shared;

	if (file < 0)
		return;
	shared = mmap(0, sizeof unshared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (shared != MAP_FAILED)
		made = shared;
}

__attribute__((constructor)) static void read_settings(void)
{
	path_part = getenv("FAULT_PATH");
	ops = getenv("FAULT_OPS");
	log_path = getenv("FAULT_LOG");
	first = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
	count = getenv("FAULT_COUNT") ? atol(getenv("FAULT_COUNT")) : 1;
	error = getenv("FAULT_ERR") ? atoi(getenv("FAULT_ERR")) : 0;
	share_counts(getenv("FAULT_CALLS"));
}

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static void log_hit(const char *op, const char *path)
{
	int (*real_open)(const char *, int, ...) = real("open");
	ssize_t (*real_write)(int, const void *, size_t) = real("write");
	char line[4200];
	int length, file;

	if (!log_path || atomic_fetch_add(&logged, 1) >= LOGGED_MAX)
		return;
	file = real_open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	length = snprintf(line, sizeof line, "%s %s\n", op, path);
	if (file < 0)
		return;
	if (real_write(file, line, length) < 0) {
	}
	close(file);
}

/*
 * sled has a thread that syncs its file and drops what comes of it. The kernel tells a failed sync to
 * everybody who had the file open, each once; so the next sync of that file by another thread fails.
 */
static atomic_int owed;

static int is_sled_thread(void)
{
	char name[16] = "";

	return prctl(PR_GET_NAME, name) == 0 && strcmp(name, "log flusher") == 0;
}

static int is_owed(const char *op, const char *path)
{
	const char *name = strrchr(path, '/');
	int one = 1;

	if (strcmp(op, "sync") != 0 || !name || strcmp(name, "/db") != 0 || is_sled_thread())
		return 0;
	return atomic_compare_exchange_strong(&owed, &one, 0);
}

static int is_hit(const char *op, const char *path)
{
	char wanted[32];
	long call;

	if (!path_part || !ops || !strstr(path, path_part))
		return 0;
	for (int kind = 0; kind < KINDS; kind++)
		if (strcmp(kinds[kind], op) == 0)
			atomic_fetch_add(&made[kind], 1);
	if (first == 0)
		return 0;
	snprintf(wanted, sizeof wanted, ",%s,", op);
	if (!strstr(ops, wanted))
		return 0;
	call = atomic_fetch_add(&made[KINDS], 1) + 1;
	if (is_owed(op, path)) {
		log_hit(op, path);
		return 1;
	}
	if (call < first || (count > 0 && call >= first + count))
		return 0;
	if (error != 0 && count == 1 && strcmp(op, "sync") == 0 && is_sled_thread())
		atomic_store(&owed, 1);
	else
		log_hit(op, path);
	return 1;
}

static int is_hit_fd(const char *op, int fd)
{
	char link[64], path[4096];
	ssize_t length;
	int before = errno;

	if (!path_part)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	errno = before;
	if (length < 0)
		return 0;
	path[length] = 0;
	return is_hit(op, path);
}

/* Answers a call that was hit; `done` is what success looks like. */
#define ANSWER(done) do { if (error == 0) return (done); errno = error; return -1; } while (0)
#define CALL(type, name, arguments, values, hit, done) \
	type name arguments { \
		static type (*next) arguments; \
		if (!next) next = real(#name); \
		if (hit) ANSWER(done); \
		return next values; \
	}

CALL(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), is_hit_fd("write", fd), (ssize_t)n)
CALL(ssize_t, pwrite, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at), is_hit_fd("write", fd), (ssize_t)n)
CALL(ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t at), (fd, b, n, at), is_hit_fd("write", fd), (ssize_t)n)
CALL(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), is_hit_fd("write", fd), -1)
CALL(int, fsync, (int fd), (fd), is_hit_fd("sync", fd), 0)
CALL(int, fdatasync, (int fd), (fd), is_hit_fd("sync", fd), 0)
CALL(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned int how), (fd, at, n, how), is_hit_fd("range", fd), 0)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), is_hit_fd("truncate", fd), 0)
CALL(int, ftruncate64, (int fd, off64_t n), (fd, n), is_hit_fd("truncate", fd), 0)
CALL(int, fallocate, (int fd, int how, off_t at, off_t n), (fd, how, at, n), is_hit_fd("truncate", fd), 0)
CALL(int, fallocate64, (int fd, int how, off64_t at, off64_t n), (fd, how, at, n), is_hit_fd("truncate", fd), 0)
CALL(int, rename, (const char *from, const char *to), (from, to), is_hit("rename", to), 0)

CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), is_hit("mkdir", path), 0)

/* Only those that make a file or write to one. */
#define OPEN(name) \
	int name(const char *path, int flags, ...) { \
		static int (*next)(const char *, int, ...); \
		va_list more; \
		int mode; \
		va_start(more, flags); \
		mode = va_arg(more, int); \
		va_end(more); \
		if (!next) next = real(#name); \
		if ((flags & O_ACCMODE) != O_RDONLY && is_hit("open", path)) { errno = error; return -1; } \
		return next(path, flags, mode); \
	}

OPEN(open)
OPEN(open64)
