/*
 * What a page fault takes here, without a tracer: the least of so many rounds, in microseconds. `faults FILE`, a file of 4 MiB or more that is
 * in the page cache, as a program's is.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

/* The kernel maps 16 pages of a file around the one that is touched (fault_around_bytes). */
enum { ROUNDS = 200, PAGE = 4096, AROUND = 16 * PAGE, TOUCHED = 60 };

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void keep_least(double *least, double took)
{
	if (*least == 0 || took < *least)
		*least = took;
}

/* Touches pages of a mapping, so far apart, and unmaps it. */
static int look(int fd, int write, size_t apart, double *touch, double *unmap)
{
	size_t length = TOUCHED * apart;
	int flags = MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0);
	char *at = mmap(NULL, length, PROT_READ | (write ? PROT_WRITE : 0), flags, fd, 0);
	if (at == MAP_FAILED) {
		perror("faults: mmap");
		return -1;
	}
	double began = now();
	for (size_t offset = 0; offset < length; offset += apart) {
		if (write)
			*(volatile char *)(at + offset) = 1;
		else
			(void)*(volatile char *)(at + offset);
	}
	double touched = now();
	munmap(at, length);
	keep_least(touch, (touched - began) / TOUCHED);
	keep_least(unmap, (now() - touched) / TOUCHED);
	return 0;
}

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		fputs("usage: faults FILE\n", stderr);
		return 2;
	}
	double touch[3] = { 0 }, unmap[3] = { 0 };
	for (int round = 0; round < ROUNDS; round++)
		if (look(fd, 0, AROUND, &touch[0], &unmap[0]) < 0 || look(fd, 1, AROUND, &touch[1], &unmap[1]) < 0 ||
		    look(-1, 1, PAGE, &touch[2], &unmap[2]) < 0)
			return 1;
	printf("\na page fault in us, and what is unmapped of it at the end: of a file %.2f and %.2f, of a file's page that is written to %.2f and %.2f, of memory %.2f and %.2f\n",
	       touch[0], unmap[0], touch[1], unmap[1], touch[2], unmap[2]);
	return 0;
}
