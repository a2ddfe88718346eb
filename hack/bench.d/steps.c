/*
 * Runs a program step by step: `steps FILE PROGRAM ARGUMENT...`. Writes the address of each instruction that its first thread executes,
 * once, in the order of the first time; at last how many were executed, where a repeated string instruction counts once, and how many
 * page faults there were. Ends with the program's status. For a static program that is linked to a fixed address.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where such a program may lie, in bytes. */
enum { END = 64 << 20 };
static unsigned char seen[END];

static void fail(const char *what)
{
	fprintf(stderr, "steps: %s: %s\n", what, strerror(errno));
	exit(125);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fputs("usage: steps FILE PROGRAM ARGUMENT...\n", stderr);
		return 125;
	}
	FILE *out = fopen(argv[1], "w");
	if (!out)
		fail(argv[1]);
	/* Both on one CPU: else each step wakes the other one up. */
	cpu_set_t here;
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	sched_setaffinity(0, sizeof here, &here);
	pid_t pid = fork();
	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execv(argv[2], argv + 2);
		fail(argv[2]);
	}
	unsigned long count = 0, last = 0;
	int status, signal = 0;
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		fail("the program does not start");
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) < 0)
		fail("PTRACE_SETOPTIONS");
	while (ptrace(PTRACE_SINGLESTEP, pid, NULL, signal) == 0 && waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		/* A step is a SIGTRAP; every other signal is the program's. */
		signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		errno = 0;
		unsigned long at = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), NULL);
		if (errno != 0)
			continue;
		/* A repetition stays where it is. */
		count += at != last;
		last = at;
		if (at < END && !seen[at]) {
			seen[at] = 1;
			fprintf(out, "%016lx\n", at);
		}
	}
	struct rusage usage;
	getrusage(RUSAGE_CHILDREN, &usage);
	fprintf(out, "instructions %lu\nfaults %ld\n", count, usage.ru_minflt);
	if (fclose(out) != 0)
		fail(argv[1]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
