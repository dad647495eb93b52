/*
 * Load for mounted file systems.
 *
 * Usage: generator DIR PROCS FILES SEQ_MIB
 *
 * PROCS processes, a directory each, run the phases in step (a process-shared barrier
 * before and after each). Every phase prints one JSON line on standard output:
 *
 *   {"phase":"create","ops":4000,"sec":0.21,"p50us":48.2,"p99us":101.0}
 *
 * Phases over FILES names per process: create (exclusive, close), coldstat (in order, after
 * the kernel was made to drop names and attributes), stat (random order),
 * list (readdir and a stat of each), rename, unlink, write (create, 4 KiB, close),
 * read (open, 4 KiB, close), then one file of SEQ_MIB per process: seqwrite with fsync and
 * seqread in blocks of 1 MiB; an op is a block. Latencies go to a histogram
 * of 64 buckets per octave in shared memory.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCS_MAX 64
#define OCTAVES 40
#define PER_OCTAVE 64
#define SMALL_BYTES 4096
#define SEQ_BYTES (1 << 20)

struct worker {
	uint64_t start_ns, end_ns, ops;
	uint32_t hist[OCTAVES * PER_OCTAVE];
};

static struct shared {
	pthread_barrier_t barrier;
	struct worker workers[PROCS_MAX];
} *sh;

static struct worker *me;
static pid_t pids[PROCS_MAX];
static int files, seq_mib;
static const char *phase = "";
static char *buf;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "generator: %s: %s: %s\n", phase, what, strerror(errno));
	exit(1);
}

static int bucket(uint64_t ns)
{
	int octave;

	if (ns < PER_OCTAVE)
		return ns;
	octave = 63 - __builtin_clzll(ns) - 6;
	if (octave >= OCTAVES - 1)
		return OCTAVES * PER_OCTAVE - 1;
	return (octave + 1) * PER_OCTAVE + ((ns >> octave) & (PER_OCTAVE - 1));
}

static double bucket_us(int b)
{
	int octave = b / PER_OCTAVE - 1;

	if (octave < 0)
		return b / 1000.0;
	return (double)((uint64_t)(PER_OCTAVE + b % PER_OCTAVE) << octave) / 1000.0;
}

static void done_op(uint64_t since)
{
	me->hist[bucket(now_ns() - since)]++;
	me->ops++;
}

#define NAME(c, i) (snprintf(name, sizeof(name), "%c%d", c, i), name)

static void make(const char *name, int bytes)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);

	if (fd < 0 || (bytes && write(fd, buf, bytes) != bytes) || close(fd))
		die(name);
}

/* number of this process */
static int my_nr;

static void p_create(void)
{
	char name[32];
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		make(NAME('f', i), 0);
		done_op(t);
	}
}

static void p_stat(void)
{
	char name[32];
	struct stat st;
	unsigned seed = 1;
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		if (stat(NAME('f', rand_r(&seed) % files), &st))
			die(name);
		done_op(t);
	}
}

/* Makes the kernel forget names and attributes; the other processes wait at the barrier. */
static void p_drop(void)
{
	int fd;

	if (my_nr != 0)
		return;
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd < 0 || write(fd, "2", 1) != 1)
		die("drop_caches");
	close(fd);
}

static void p_coldstat(void)
{
	char name[32];
	struct stat st;
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		if (stat(NAME('f', i), &st))
			die(name);
		done_op(t);
	}
}

static void p_list(void)
{
	uint64_t t = now_ns();
	struct dirent *de;
	struct stat st;
	DIR *d = opendir(".");

	if (!d)
		die("opendir");
	while ((de = readdir(d))) {
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW))
			die(de->d_name);
		done_op(t);
		t = now_ns();
	}
	closedir(d);
}

static void p_rename(void)
{
	char name[32], to[32];
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t;

		snprintf(to, sizeof(to), "r%d", i);
		t = now_ns();
		if (rename(NAME('f', i), to))
			die(name);
		done_op(t);
	}
}

static void remove_all(char c)
{
	char name[32];
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		if (unlink(NAME(c, i)))
			die(name);
		done_op(t);
	}
}

static void p_unlink(void) { remove_all('r'); }

static void p_write(void)
{
	char name[32];
	int i;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		make(NAME('w', i), SMALL_BYTES);
		done_op(t);
	}
}

static void p_read(void)
{
	char name[32];
	int i, fd;

	for (i = 0; i < files; i++) {
		uint64_t t = now_ns();

		fd = open(NAME('w', i), O_RDONLY);
		if (fd < 0 || read(fd, buf, SMALL_BYTES) != SMALL_BYTES || close(fd))
			die(name);
		done_op(t);
	}
}

static void p_seqwrite(void)
{
	int i, fd = open("seq", O_CREAT | O_WRONLY | O_TRUNC, 0644);

	for (i = 0; i < seq_mib; i++) {
		uint64_t t = now_ns();

		if (fd < 0 || write(fd, buf, SEQ_BYTES) != SEQ_BYTES)
			die("seq");
		done_op(t);
	}
	if (fsync(fd) || close(fd))
		die("seq");
}

static void p_seqread(void)
{
	int i, fd = open("seq", O_RDONLY);

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (i = 0; i < seq_mib; i++) {
		uint64_t t = now_ns();

		if (fd < 0 || read(fd, buf, SEQ_BYTES) != SEQ_BYTES)
			die("seq");
		done_op(t);
	}
	close(fd);
}

static void p_clean(void)
{
	remove_all('w');
	unlink("seq");
}

static const struct {
	const char *name;
	void (*run)(void);
} phases[] = {
	{ "create", p_create }, { NULL, p_drop }, { "coldstat", p_coldstat }, { "stat", p_stat },
	{ "list", p_list }, { "rename", p_rename },
	{ "unlink", p_unlink }, { "write", p_write }, { "read", p_read },
	{ "seqwrite", p_seqwrite }, { "seqread", p_seqread }, { NULL, p_clean },
};
#define PHASES (sizeof(phases) / sizeof(phases[0]))

static double percentile(const uint64_t *hist, uint64_t total, double part)
{
	uint64_t sum = 0;
	int b;

	for (b = 0; b < OCTAVES * PER_OCTAVE; b++) {
		sum += hist[b];
		if (sum >= total * part)
			return bucket_us(b);
	}
	return 0;
}

static void report(const char *name, int procs)
{
	static uint64_t hist[OCTAVES * PER_OCTAVE];
	uint64_t start = UINT64_MAX, end = 0, ops = 0;
	int i, b;

	memset(hist, 0, sizeof(hist));
	for (i = 0; i < procs; i++) {
		struct worker *w = &sh->workers[i];

		if (w->start_ns < start)
			start = w->start_ns;
		if (w->end_ns > end)
			end = w->end_ns;
		ops += w->ops;
		for (b = 0; b < OCTAVES * PER_OCTAVE; b++)
			hist[b] += w->hist[b];
	}
	printf("{\"phase\":\"%s\",\"ops\":%llu,\"sec\":%.6f,\"p50us\":%.2f,\"p99us\":%.2f}\n", name,
	       (unsigned long long)ops, (end - start) / 1e9, percentile(hist, ops, 0.5),
	       percentile(hist, ops, 0.99));
}

static void work(const char *dir, int nr)
{
	char path[4096];
	size_t p;

	my_nr = nr;

	snprintf(path, sizeof(path), "%s/p%d", dir, nr);
	if (mkdir(path, 0755) || chdir(path))
		die(path);
	for (p = 0; p < PHASES; p++) {
		memset(me, 0, sizeof(*me));
		pthread_barrier_wait(&sh->barrier);
		me->start_ns = now_ns();
		phase = phases[p].name ? phases[p].name : "clean";
		phases[p].run();
		me->end_ns = now_ns();
		pthread_barrier_wait(&sh->barrier);
		/* the parent reads the results before the next phase clears them */
		pthread_barrier_wait(&sh->barrier);
	}
	if (chdir("/") || rmdir(path))
		die(path);
	exit(0);
}

/* a process that failed would leave the others at the barrier for ever */
static void on_child(int sig)
{
	int i, status;

	(void)sig;
	while (waitpid(-1, &status, WNOHANG) > 0) {
		if (status == 0)
			continue;
		for (i = 0; i < PROCS_MAX; i++)
			if (pids[i] > 0)
				kill(pids[i], SIGKILL);
		_exit(1);
	}
}

int main(int argc, char **argv)
{
	int procs, i;
	pthread_barrierattr_t attr;
	size_t p;

	if (argc != 5) {
		fprintf(stderr, "usage: generator DIR PROCS FILES SEQ_MIB\n");
		return 2;
	}
	procs = atoi(argv[2]);
	files = atoi(argv[3]);
	seq_mib = atoi(argv[4]);
	if (procs < 1 || procs > PROCS_MAX || files < 1 || seq_mib < 1)
		return 2;
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	buf = aligned_alloc(4096, SEQ_BYTES);
	if (sh == MAP_FAILED || !buf)
		die("memory");
	memset(buf, 'x', SEQ_BYTES);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&sh->barrier, &attr, procs + 1);
	for (i = 0; i < procs; i++) {
		me = &sh->workers[i];
		pids[i] = fork();
		if (pids[i] == 0)
			work(argv[1], i);
	}
	signal(SIGCHLD, on_child);
	on_child(0);
	for (p = 0; p < PHASES; p++) {
		pthread_barrier_wait(&sh->barrier);
		pthread_barrier_wait(&sh->barrier);
		if (phases[p].name)
			report(phases[p].name, procs);
		fflush(stdout);
		pthread_barrier_wait(&sh->barrier);
	}
	/* ended by the handler or because no child is left */
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return 0;
}
