/*
 * System calls that Node cannot make, for the tests of the mounted file system.
 *
 * Usage: ops COMMAND ARGS...; prints results on standard output, exits 0, or prints
 * the errno's name as a number and exits 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fail(void)
{
	printf("errno %d\n", errno);
	return 1;
}

#define TRY(expr) do { if ((expr) < 0) return fail(); } while (0)

static void on_alarm(int sig) { (void)sig; }

static int try_mkdir_interrupted(const char *path)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_alarm;
	sigaction(SIGALRM, &sa, NULL);
	ualarm(200000, 0);
	TRY(mkdir(path, 0755));
	return 0;
}

/* stores through one shared mapping, reads through another and through read(2) */
static int mmap_shared(const char *path)
{
	char back[8] = "";
	char *w, *r;
	int fd, rd;

	TRY(fd = open(path, O_RDWR | O_CREAT, 0644));
	TRY(ftruncate(fd, 8192));
	w = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (w == MAP_FAILED)
		return fail();
	TRY(rd = open(path, O_RDONLY));
	r = mmap(NULL, 8192, PROT_READ, MAP_SHARED, rd, 0);
	if (r == MAP_FAILED)
		return fail();
	memcpy(w + 4096, "stored", 7);
	printf("mapping %s\n", r + 4096);
	TRY(pread(fd, back, 7, 4096));
	printf("direct read %s\n", back);
	TRY(pwrite(fd, "wrote", 6, 0));
	printf("after write %s\n", w);
	TRY(msync(w, 8192, MS_SYNC));
	memcpy(w + 4096, "closed", 7);
	munmap(w, 8192);
	close(fd);
	return 0;
}

/* keeps a dirty shared mapping until a line arrives on standard input, then prints it */
static int mmap_hold(const char *path)
{
	char line[16];
	char *w;
	int fd;

	TRY(fd = open(path, O_RDWR | O_CREAT, 0644));
	TRY(ftruncate(fd, 1 << 20));
	w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (w == MAP_FAILED)
		return fail();
	strcpy(w, "dirty");
	printf("ready\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 1;
	printf("%s\n", w);
	return 0;
}

/* one counter in a page that two mounts map: every store must be seen through the other */
static int mmap_pingpong(const char *a, const char *b, long rounds)
{
	const char *path[2] = { a, b };
	volatile long *map[2];
	long i;
	int fd, k;

	for (k = 0; k < 2; k++) {
		TRY(fd = open(path[k], O_RDWR | O_CREAT, 0644));
		if (k == 0)
			TRY(ftruncate(fd, 4096));
		map[k] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map[k] == MAP_FAILED)
			return fail();
	}
	for (i = 0; i < rounds; i++) {
		if (*map[i & 1] != i) {
			printf("round %ld: %ld\n", i, *map[i & 1]);
			return 1;
		}
		*map[i & 1] = i + 1;
	}
	return 0;
}

static int list(const char *path)
{
	struct dirent *de;
	DIR *d = opendir(path);

	if (!d)
		return fail();
	while ((de = readdir(d)))
		printf("%s %ld %d\n", de->d_name, (long)de->d_off, de->d_type);
	closedir(d);
	return 0;
}

int main(int argc, char **argv)
{
	const char *cmd = argc > 1 ? argv[1] : "";
	const char *a = argc > 2 ? argv[2] : "";
	const char *b = argc > 3 ? argv[3] : "";
	long n = argc > 4 ? atol(argv[4]) : 0;
	int fd;

	if (!strcmp(cmd, "mkdir-interrupted"))
		return try_mkdir_interrupted(a);
	if (!strcmp(cmd, "mmap-shared"))
		return mmap_shared(a);
	if (!strcmp(cmd, "mmap-hold"))
		return mmap_hold(a);
	if (!strcmp(cmd, "mmap-pingpong"))
		return mmap_pingpong(a, b, n);
	if (!strcmp(cmd, "list"))
		return list(a);
	if (!strcmp(cmd, "rename2")) {
		TRY(renameat2(AT_FDCWD, a, AT_FDCWD, b, n));
	} else if (!strcmp(cmd, "tmpfile")) {
		char link[64];

		TRY(fd = open(a, O_TMPFILE | O_RDWR, 0600));
		TRY(write(fd, "tmp", 3));
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		TRY(linkat(AT_FDCWD, link, AT_FDCWD, b, AT_SYMLINK_FOLLOW));
	} else if (!strcmp(cmd, "mknod")) {
		TRY(mknod(a, S_IFCHR | 0600, n));
	} else if (!strcmp(cmd, "fallocate")) {
		TRY(fd = open(a, O_RDWR));
		TRY(fallocate(fd, atoi(b), n, argc > 5 ? atol(argv[5]) : 0));
	} else if (!strcmp(cmd, "pwrite")) {
		ssize_t done;

		TRY(fd = open(a, O_WRONLY | O_CREAT, 0644));
		TRY(done = pwrite(fd, b, strlen(b), n));
		printf("%ld\n", (long)done);
	} else if (!strcmp(cmd, "pread")) {
		/* through the page cache, or past it */
		char value[8192];
		ssize_t len = sizeof(value);

		if (n > LONG_MAX - len)
			len = LONG_MAX - n;
		TRY(fd = open(a, strcmp(b, "direct") ? O_RDONLY : O_RDWR));
		TRY(len = pread(fd, value, len, n));
		printf("%.*s\n", (int)len, value);
	} else if (!strcmp(cmd, "truncate")) {
		TRY(truncate(a, n));
	} else if (!strcmp(cmd, "lseek")) {
		off_t at;

		TRY(fd = open(a, O_RDONLY));
		at = lseek(fd, n, !strcmp(b, "hole") ? SEEK_HOLE : SEEK_DATA);
		if (at < 0)
			return fail();
		printf("%ld\n", (long)at);
	} else if (!strcmp(cmd, "ioctl")) {
		TRY(fd = open(a, O_RDONLY));
		TRY(ioctl(fd, strtoul(b, NULL, 0), &n));
	} else if (!strcmp(cmd, "setxattr")) {
		TRY(setxattr(a, b, argv[4], strlen(argv[4]), argc > 5 ? atoi(argv[5]) : 0));
	} else if (!strcmp(cmd, "getxattr")) {
		char value[65536];
		ssize_t len = getxattr(a, b, value, n ? n : (long)sizeof(value));

		if (len < 0)
			return fail();
		printf("%.*s\n", (int)len, value);
	} else if (!strcmp(cmd, "listxattr")) {
		char names[65536];
		ssize_t len = listxattr(a, names, sizeof(names));
		ssize_t i;

		if (len < 0)
			return fail();
		for (i = 0; i < len; i += strlen(names + i) + 1)
			printf("%s\n", names + i);
	} else if (!strcmp(cmd, "removexattr")) {
		TRY(removexattr(a, b));
	} else if (!strcmp(cmd, "copy-range")) {
		int out;

		TRY(fd = open(a, O_RDONLY));
		TRY(out = open(b, O_WRONLY | O_CREAT, 0644));
		TRY(copy_file_range(fd, NULL, out, NULL, 1 << 20, 0));
	} else {
		fprintf(stderr, "unknown command %s\n", cmd);
		return 2;
	}
	return 0;
}
