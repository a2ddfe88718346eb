/*
 * Measures runtimes side by side: each case of each contestant once per round, the contestants' order moving on by one from
 * round to round, so that whatever disturbs the machine disturbs them alike. To be run by hack/bench.d/inside.
 *
 *   measure ROUNDS CASE[,CASE...] TAG BUNDLES SUBJECT NAME=PATH[=PATH_FOR_RICH]...
 *
 * The first contestant is the floor. SUBJECT names the one that the others are compared with, if it takes part. BUNDLES holds
 * `true`, `sleep` and `rich`. Containers are named TAG-NUMBER, states are kept in /run/TAG-NAME.
 *
 * The wall time of a call goes from before its spawn to after its end; the CPU time is that of the process and of its children
 * that it has waited for (so that of a container's own process counts for `run` and `exec`, not for `create`).
 * Ends with 1 when the subject failed in a case.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONTESTANTS = 12, AT_A_TIME = 8, PARALLEL_RUNS = 16, DEADLINE_SECONDS = 30 };

enum which { RUN, RICH, CREATE, START, STATE, EXEC, DELETE, DELETE_FORCE, PARALLEL, CASES };
static const struct { const char *name, *what; } cases[CASES] = {
    [RUN] = { "run", "run /bin/true" },
    [RICH] = { "rich", "run /bin/true with a seccomp profile and 40 bind mounts more" },
    [CREATE] = { "create", "create" },
    [START] = { "start", "start" },
    [STATE] = { "state", "state of a running container" },
    [EXEC] = { "exec", "exec /bin/true" },
    [DELETE] = { "delete", "delete a stopped container" },
    [DELETE_FORCE] = { "delete-force", "delete --force a live container" },
    [PARALLEL] = { "parallel", "run /bin/true 16 times, 8 at a time: each" },
};

/* Times in ms. */
struct sample { double wall, cpu; long peak_kib, faults; };

struct contestant {
    char *name, *path, *rich, *root, *flag;
    int failed[CASES];
    struct sample *samples[CASES];
    int count[CASES];
};

static struct contestant contestants[MAX_CONTESTANTS];
static int contestant_count, rounds, selected[CASES], serial, messages;
static const char *tag, *bundles;
static pid_t overdue;
static volatile sig_atomic_t killed_overdue;

static void die(const char *what) {
    fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

static double milliseconds(struct timeval time) { return time.tv_sec * 1e3 + time.tv_usec / 1e3; }

static void kill_overdue(int signal) {
    (void)signal;
    killed_overdue = 1;
    if (overdue > 0) kill(overdue, SIGKILL);
}

/* The processes of containers come to this one when the runtime that made them has ended. */
static pid_t ended[64];
static unsigned ended_next;

static void note_end(pid_t pid) { ended[ended_next++ % 64] = pid; }

static int has_ended(pid_t pid) {
    for (int i = 0; i < 64; i++)
        if (ended[i] == pid) return 1;
    return 0;
}

static pid_t spawn(char *const argv[]) {
    extern char **environ;
    posix_spawn_file_actions_t files;
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, messages, 2);
    errno = posix_spawn(&pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    return errno ? -1 : pid;
}

static char *words_of(const char *line, char *words[16]) {
    char *copy = strdup(line), *rest = copy;
    int n = 0;
    while (n < 15 && (words[n] = strsep(&rest, " "))) n++;
    words[n] = NULL;
    return copy;
}

/* `status` as wait tells it, or -1. */
static void fail(struct contestant *c, enum which which, const char *call, int status) {
    char text[8192], end_by[64] = "";
    ssize_t length = pread(messages, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = 0;
    for (char *end = text + strlen(text); end > text && end[-1] == '\n'; ) *--end = 0;
    char *last = strrchr(text, '\n');
    last = last ? last + 1 : text;
    if (killed_overdue) snprintf(end_by, sizeof end_by, " (not done in %d s, killed)", DEADLINE_SECONDS);
    else if (WIFSIGNALED(status)) snprintf(end_by, sizeof end_by, " (ended by SIG%s)", sigabbrev_np(WTERMSIG(status)));
    else if (WIFEXITED(status)) snprintf(end_by, sizeof end_by, " (exit %d)", WEXITSTATUS(status));
    printf("%s fails in the case %s and is left out there: `%s`%s: %s\n", c->name, cases[which].name, call, end_by,
           *last ? last : "no message");
    if (strstr(text, "RLIMIT_MEMLOCK"))
        printf("  (it raises RLIMIT_MEMLOCK for its device program, and CAP_SYS_RESOURCE is missing here)\n");
    fflush(stdout);
    c->failed[which] = 1;
}

/* One call of the runtime: `line` is what follows `PATH --root ROOT`; with CASES it belongs to no case and may fail. Returns
 * whether it ended with 0. */
static int call(struct contestant *c, enum which which, const char *line, struct sample *sample) {
    char *argv[20] = { which == RICH ? c->rich : c->path, "--root", c->root, c->flag };
    char *copy = words_of(line, argv + (c->flag ? 4 : 3));
    struct rusage usage;
    int status = -1;
    pid_t pid, done;
    killed_overdue = 0;
    if (ftruncate(messages, 0) == -1 || lseek(messages, 0, SEEK_SET) == -1) die("the messages");
    double begin = now();
    pid = spawn(argv);
    if (pid == -1) {
        dprintf(messages, "%s: %s", argv[0], strerror(errno));
    } else {
        overdue = pid;
        alarm(DEADLINE_SECONDS);
        while ((done = wait4(-1, &status, 0, &usage)) != pid) {
            if (done == -1 && errno != EINTR) die("wait4");
            if (done > 0) note_end(done);
        }
        double end = now();
        alarm(0);
        overdue = 0;
        if (sample)
            *sample = (struct sample){ end - begin, milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime), usage.ru_maxrss,
                                       usage.ru_minflt };
    }
    int good = pid != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!good && which != CASES) fail(c, which, line, status);
    free(copy);
    return good;
}

static void keep(struct contestant *c, enum which which, struct sample sample, int round) {
    /* The first round warms the caches up. */
    if (round > 0 && selected[which]) c->samples[which][c->count[which]++] = sample;
}

static void wait_for_container(const char *pid_file) {
    FILE *file = fopen(pid_file, "r");
    int pid = 0, status;
    if (!file || fscanf(file, "%d", &pid) != 1) die(pid_file);
    fclose(file);
    for (pid_t done; !has_ended(pid); note_end(done))
        if ((done = waitpid(-1, &status, 0)) == -1) break;
}

static void measure_run(struct contestant *c, enum which which, int round) {
    char line[4096];
    struct sample sample;
    if (c->failed[which]) return;
    snprintf(line, sizeof line, "run --bundle %s/%s %s-%d", bundles, which == RICH ? "rich" : "true", tag, ++serial);
    if (call(c, which, line, &sample)) keep(c, which, sample, round);
    else {
        snprintf(line, sizeof line, "delete --force %s-%d", tag, serial);
        call(c, CASES, line, NULL);
    }
}

/* A life from create to delete --force. Returns the case in which it failed, or CASES. */
static enum which live(struct contestant *c, int round, char *line, size_t size, const char *pid_file) {
    static const struct { enum which which; const char *call; } steps[] = {
        { START, "start %s-%d" }, { STATE, "state %s-%d" }, { EXEC, "exec %s-%d /bin/true" }, { DELETE_FORCE, "delete --force %s-%d" } };
    struct sample sample;
    snprintf(line, size, "create --bundle %s/sleep --pid-file %s %s-%d", bundles, pid_file, tag, ++serial);
    if (!call(c, CREATE, line, &sample)) return CREATE;
    keep(c, CREATE, sample, round);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        enum which which = steps[i].which;
        int needed = which == START || which == DELETE_FORCE;
        if (!needed && (!selected[which] || c->failed[which])) continue;
        snprintf(line, size, steps[i].call, tag, serial);
        if (call(c, which, line, &sample)) keep(c, which, sample, round);
        else if (needed) return which;
    }
    return CASES;
}

static void measure_life(struct contestant *c, int round) {
    char line[4096], pid_file[256];
    if (c->failed[CREATE] || c->failed[START] || c->failed[DELETE_FORCE]) return;
    snprintf(pid_file, sizeof pid_file, "/run/%s.pid", tag);
    enum which failed = live(c, round, line, sizeof line, pid_file);
    if (failed == CASES) return;
    /* What needs a container that is alive fails with it. */
    static const enum which with_it[] = { CREATE, START, STATE, EXEC, DELETE_FORCE };
    for (size_t i = 0; i < sizeof with_it / sizeof with_it[0]; i++) c->failed[with_it[i]] = 1;
    snprintf(line, sizeof line, "delete --force %s-%d", tag, serial);
    call(c, CASES, line, NULL);
}

static void measure_delete(struct contestant *c, int round) {
    char line[4096], pid_file[256];
    struct sample sample;
    if (c->failed[DELETE]) return;
    snprintf(pid_file, sizeof pid_file, "/run/%s.pid", tag);
    snprintf(line, sizeof line, "create --bundle %s/true --pid-file %s %s-%d", bundles, pid_file, tag, ++serial);
    int made = call(c, DELETE, line, NULL);
    snprintf(line, sizeof line, "start %s-%d", tag, serial);
    if (made && call(c, DELETE, line, NULL)) {
        wait_for_container(pid_file);
        snprintf(line, sizeof line, "delete %s-%d", tag, serial);
        if (call(c, DELETE, line, &sample)) keep(c, DELETE, sample, round);
    }
    if (!c->failed[DELETE]) return;
    snprintf(line, sizeof line, "delete --force %s-%d", tag, serial);
    call(c, CASES, line, NULL);
}

static void measure_parallel(struct contestant *c, int round) {
    struct rusage usage;
    struct sample sum = { 0 };
    char lines[PARALLEL_RUNS][4096], *copies[PARALLEL_RUNS];
    pid_t running[PARALLEL_RUNS] = { 0 };
    int begun = 0, finished = 0, status;
    if (c->failed[PARALLEL]) return;
    killed_overdue = 0;
    if (ftruncate(messages, 0) == -1 || lseek(messages, 0, SEEK_SET) == -1) die("the messages");
    double begin = now();
    alarm(DEADLINE_SECONDS);
    while (finished < PARALLEL_RUNS && !c->failed[PARALLEL]) {
        while (begun < PARALLEL_RUNS && begun - finished < AT_A_TIME) {
            char *argv[20] = { c->path, "--root", c->root, c->flag };
            snprintf(lines[begun], sizeof lines[begun], "run --bundle %s/true %s-%d", bundles, tag, ++serial);
            copies[begun] = words_of(lines[begun], argv + (c->flag ? 4 : 3));
            running[begun] = spawn(argv);
            free(copies[begun]);
            if (running[begun++] == -1) die(c->path);
        }
        pid_t done = wait4(-1, &status, 0, &usage);
        if (done == -1 && errno == EINTR) {
            for (int i = 0; i < begun; i++)
                if (running[i]) kill(running[i], SIGKILL);
            fail(c, PARALLEL, "run", -1);
            break;
        }
        for (int i = 0; i < begun; i++) {
            if (running[i] != done) continue;
            running[i] = 0;
            finished++;
            sum.cpu += milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime);
            sum.faults += usage.ru_minflt;
            if (usage.ru_maxrss > sum.peak_kib) sum.peak_kib = usage.ru_maxrss;
            if (!WIFEXITED(status) || WEXITSTATUS(status)) fail(c, PARALLEL, lines[i], status);
        }
    }
    sum.wall = (now() - begin) / PARALLEL_RUNS;
    alarm(0);
    sum.cpu /= PARALLEL_RUNS;
    sum.faults /= PARALLEL_RUNS;
    for (int i = 0; i < begun; i++)
        if (running[i]) waitpid(running[i], &status, 0);
    if (!c->failed[PARALLEL]) keep(c, PARALLEL, sum, round);
}

/* ---- the report ---- */

static int by_wall(const void *a, const void *b) {
    double x = ((const struct sample *)a)->wall, y = ((const struct sample *)b)->wall;
    return (x > y) - (x < y);
}

static int by_cpu(const void *a, const void *b) {
    double x = ((const struct sample *)a)->cpu, y = ((const struct sample *)b)->cpu;
    return (x > y) - (x < y);
}

struct figures { double wall, wall_min, cpu, cpu_min; long peak_kib, faults; };

static struct figures figures_of(struct contestant *c, enum which which) {
    struct sample *samples = c->samples[which];
    int n = c->count[which];
    struct figures f = { 0 };
    if (n == 0) return f;
    qsort(samples, n, sizeof *samples, by_cpu);
    f.cpu = (samples[n / 2].cpu + samples[(n - 1) / 2].cpu) / 2;
    f.cpu_min = samples[0].cpu;
    qsort(samples, n, sizeof *samples, by_wall);
    f.wall = (samples[n / 2].wall + samples[(n - 1) / 2].wall) / 2;
    f.wall_min = samples[0].wall;
    f.peak_kib = samples[n / 2].peak_kib;
    f.faults = samples[n / 2].faults;
    return f;
}

static void print_ratio(double figure, double base) {
    if (figure > 0 && base > 0) printf(" %7.2f", figure / base);
    else printf(" %7s", "-");
}

static void report(enum which which, const struct contestant *subject) {
    struct figures floor = figures_of(&contestants[0], which), its = { 0 };
    if (subject) its = figures_of((struct contestant *)subject, which);
    printf("\n%s (%d rounds, times in ms)\n", cases[which].what, rounds);
    printf("  %-14s %8s %8s %8s %8s %8s %8s | %15s", "", "wall", "min", "CPU", "min", "peak KiB", "faults", "x floor: wall CPU");
    if (subject) printf(" | x %s: wall CPU", subject->name);
    printf("\n");
    for (int i = 0; i < contestant_count; i++) {
        struct figures f = figures_of(&contestants[i], which);
        if (contestants[i].failed[which] || contestants[i].count[which] == 0) {
            printf("  %-14s failed\n", contestants[i].name);
            continue;
        }
        printf("  %-14s %8.2f %8.2f %8.2f %8.2f %8ld %8ld | ", contestants[i].name, f.wall, f.wall_min, f.cpu, f.cpu_min, f.peak_kib,
               f.faults);
        print_ratio(f.wall, floor.wall);
        print_ratio(f.cpu, floor.cpu);
        if (subject) {
            printf("  | ");
            print_ratio(f.wall, its.wall);
            print_ratio(f.cpu, its.cpu);
        }
        printf("\n");
    }
}

/* ---- the arguments ---- */

static void select_cases(char *list) {
    for (char *name; (name = strsep(&list, ",")); ) {
        int which = 0;
        while (which < CASES && strcmp(name, cases[which].name)) which++;
        if (which == CASES) {
            fprintf(stderr, "measure: %s: no such case; there are", name);
            for (which = 0; which < CASES; which++) fprintf(stderr, " %s", cases[which].name);
            fprintf(stderr, "\n");
            exit(2);
        }
        selected[which] = 1;
    }
}

static void add_contestant(char *text) {
    if (contestant_count == MAX_CONTESTANTS) die("too many contestants");
    struct contestant *c = &contestants[contestant_count++];
    c->name = strsep(&text, "=");
    c->path = strsep(&text, "=");
    c->rich = text ? text : c->path;
    /* What the invocation log costs: the same program without it. */
    c->flag = strcmp(c->name, "runb-unlogged") == 0 ? "--no-invocation-log" : NULL;
    if (!c->path || asprintf(&c->root, "/run/%s-%s", tag, c->name) == -1) die("contestants are NAME=PATH");
    for (int which = 0; which < CASES; which++) c->samples[which] = calloc(rounds, sizeof(struct sample));
}

static void measure_round(int round) {
    const int living = selected[CREATE] || selected[START] || selected[STATE] || selected[EXEC] || selected[DELETE_FORCE];
    for (int which = 0; which < CASES; which++) {
        /* CREATE stands for the whole life. */
        if (which == CREATE ? !living : !selected[which]) continue;
        for (int i = 0; i < contestant_count; i++) {
            struct contestant *c = &contestants[(i + round) % contestant_count];
            if (which == RUN || which == RICH) measure_run(c, which, round);
            else if (which == CREATE) measure_life(c, round);
            else if (which == DELETE) measure_delete(c, round);
            else if (which == PARALLEL) measure_parallel(c, round);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 7) return fprintf(stderr, "measure: usage: see hack/bench.d/measure.c\n"), 2;
    rounds = atoi(argv[1]);
    if (rounds < 1) return fprintf(stderr, "measure: %s: not a number of rounds\n", argv[1]), 2;
    select_cases(argv[2]);
    tag = argv[3];
    bundles = argv[4];
    for (int i = 6; i < argc; i++) add_contestant(argv[i]);
    if ((messages = memfd_create("messages", MFD_CLOEXEC)) == -1) die("memfd_create");
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    struct sigaction act = { .sa_handler = kill_overdue };
    sigaction(SIGALRM, &act, NULL);
    for (int round = 0; round <= rounds; round++) measure_round(round);

    const struct contestant *subject = NULL;
    int bad = 0;
    for (int i = 0; i < contestant_count; i++)
        if (!strcmp(contestants[i].name, argv[5])) subject = &contestants[i];
    for (int which = 0; which < CASES; which++) {
        if (!selected[which]) continue;
        report(which, subject);
        if (subject && subject->failed[which]) bad = 1;
    }
    return bad;
}
