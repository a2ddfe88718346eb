/*
 * The floor: a runtime that makes only the system calls which the bundle of hack/bench demands. It reads no config.json
 * and knows the bundle by heart; it sets no capabilities and no rlimits, checks nothing, and keeps of a container no more
 * than a pid and a fifo. What a runtime takes beyond it is the runtime's own doing.
 *
 *   floor --root DIR run --bundle DIR ID
 *   floor --root DIR create --bundle DIR --pid-file FILE ID
 *   floor --root DIR start ID
 *   floor --root DIR exec ID COMMAND [ARGUMENT...]
 *   floor --root DIR state ID
 *   floor --root DIR delete [--force] ID
 *
 * Set when it is compiled: RICH for the bundle with a seccomp profile and BINDS bind mounts more; for cgroup v1
 * HIERARCHIES, a list of { "directory", "mount data" }, and CPUS and MEMS, what a new cpuset must be given.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef BINDS
#define BINDS 40
#endif
#define CGROUPS "/sys/fs/cgroup"
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static char *const environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL };

static void die(const char *what) {
    dprintf(2, "floor: %s: %s\n", what, strerror(errno));
    _exit(255);
}

/* Ends the program, naming the call, when the call fails. */
#define MUST(call) ({ __typeof__(call) result = (call); if (result == -1) die(#call); result; })

static char *joined(const char *a, const char *b, const char *c) {
    size_t la = strlen(a), lb = strlen(b), lc = strlen(c);
    char *path = malloc(la + lb + lc + 1);
    memcpy(path, a, la);
    memcpy(path + la, b, lb);
    memcpy(path + la + lb, c, lc + 1);
    return path;
}

/* ---- the cgroup ---- */

#ifdef HIERARCHIES

static const struct { const char *dir, *data; } hierarchies[] = { HIERARCHIES };

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file == -1 || write(file, text, strlen(text)) == -1) die(path);
    close(file);
}

static char *cgroup_path(size_t i, const char *id) {
    return joined(joined(CGROUPS "/", hierarchies[i].dir, "/"), id, "");
}

static void make_cgroup(const char *id) {
    static const char *const allowed[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                           "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm" };
    for (size_t i = 0; i < LENGTH(hierarchies); i++) {
        char *path = cgroup_path(i, id);
        MUST(mkdir(path, 0755));
        if (strstr(hierarchies[i].data, "cpuset")) {
            put(joined(path, "/cpuset.cpus", ""), CPUS);
            put(joined(path, "/cpuset.mems", ""), MEMS);
        }
        if (strstr(hierarchies[i].data, "devices")) {
            put(joined(path, "/devices.deny", ""), "a");
            char *allow = joined(path, "/devices.allow", "");
            for (size_t rule = 0; rule < LENGTH(allowed); rule++) put(allow, allowed[rule]);
        }
    }
}

static int procs[LENGTH(hierarchies)];

/* Opened while the host's files are in sight; the child joins through the descriptors. Not cgroup.procs, whose lock waits. */
static int open_cgroup(const char *id) {
    for (size_t i = 0; i < LENGTH(hierarchies); i++)
        procs[i] = MUST(open(joined(cgroup_path(i, id), "/tasks", ""), O_WRONLY | O_CLOEXEC));
    return -1;
}

static void join_cgroup(void) {
    for (size_t i = 0; i < LENGTH(hierarchies); i++) MUST(write(procs[i], "0", 1));
}

static void remove_cgroup(const char *id) {
    /* A dead process leaves its v1 cgroups a moment after its pidfd tells of its end, and nothing tells of that. */
    for (size_t i = 0; i < LENGTH(hierarchies); i++)
        while (rmdir(cgroup_path(i, id)) == -1) {
            if (errno != EBUSY) die("rmdir of the cgroup");
            sched_yield();
        }
}

static void mount_cgroups(void) {
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME;
    MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"));
    for (size_t i = 0; i < LENGTH(hierarchies); i++) {
        char *path = joined("sys/fs/cgroup/", hierarchies[i].dir, "");
        MUST(mkdir(path, 0755));
        MUST(mount("cgroup", path, "cgroup", flags | MS_RDONLY, hierarchies[i].data));
    }
    MUST(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

#else

static void attach_device_program(int cgroup) {
    enum { TYPE = BPF_REG_2, MAJOR = BPF_REG_3, MINOR = BPF_REG_4, OPS = BPF_REG_5 };
#define LOAD(reg, field) { BPF_LDX | BPF_W | BPF_MEM, reg, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, field), 0 }
#define COPY(to, from) { BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0 }
#define AND(reg, value) { BPF_ALU | BPF_AND | BPF_K, reg, 0, 0, value }
#define SHIFT(reg, value) { BPF_ALU | BPF_RSH | BPF_K, reg, 0, 0, value }
#define UNLESS(reg, value, jump) { BPF_JMP | BPF_JNE | BPF_K, reg, 0, jump, value }
#define ANSWER(value) { BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value }, { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 }
#define ALLOW(major, minor) UNLESS(MAJOR, major, 3), UNLESS(MINOR, minor, 2), ANSWER(1)
    const struct bpf_insn program[] = {
        LOAD(TYPE, access_type), COPY(OPS, TYPE), SHIFT(OPS, 16), AND(TYPE, 0xffff), LOAD(MAJOR, major), LOAD(MINOR, minor),
        UNLESS(OPS, BPF_DEVCG_ACC_MKNOD, 2), ANSWER(1),
        UNLESS(TYPE, BPF_DEVCG_DEV_CHAR, 31),
        ALLOW(1, 3), ALLOW(1, 5), ALLOW(1, 7), ALLOW(1, 8), ALLOW(1, 9), ALLOW(5, 0), ALLOW(5, 2),
        UNLESS(MAJOR, 136, 2), ANSWER(1),
        ANSWER(0),
    };
    union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program,
                            .insn_cnt = LENGTH(program), .license = (uintptr_t)"GPL" };
    int loaded = MUST(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    union bpf_attr attach = { .target_fd = cgroup, .attach_bpf_fd = loaded, .attach_type = BPF_CGROUP_DEVICE,
                              .attach_flags = BPF_F_ALLOW_MULTI };
    MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(loaded);
}

static int open_cgroup(const char *id) {
    return MUST(open(joined(CGROUPS "/", id, ""), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static void make_cgroup(const char *id) {
    char *path = joined(CGROUPS "/", id, "");
    MUST(mkdir(path, 0755));
    int cgroup = MUST(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    attach_device_program(cgroup);
    close(cgroup);
}

static void join_cgroup(void) {}

static void remove_cgroup(const char *id) {
    char *path = joined(CGROUPS "/", id, "");
    if (rmdir(path) == 0) return;
    struct pollfd events = { MUST(open(joined(path, "/cgroup.events", ""), O_RDONLY | O_CLOEXEC)), POLLPRI, 0 };
    for (char text[64]; errno == EBUSY; ) {
        MUST(pread(events.fd, text, sizeof text, 0));
        if (rmdir(path) == 0) return;
        poll(&events, 1, -1);
    }
    die(path);
}

static void mount_cgroups(void) {
    MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME | MS_RDONLY, NULL));
}

#endif

/* As fork, into the cgroup where the kernel can do that. */
static pid_t spawn(int cgroup, uint64_t flags) {
    struct clone_args args = { .flags = flags | (cgroup == -1 ? 0 : CLONE_INTO_CGROUP), .exit_signal = SIGCHLD, .cgroup = cgroup };
    pid_t pid = MUST(syscall(SYS_clone3, &args, sizeof args));
    if (pid == 0) join_cgroup();
    return pid;
}

/* ---- the launch, in the child ---- */

static void mount_all(const char *bundle) {
    MUST(mount("proc", "proc", "proc", 0, NULL));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
    MUST(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL));
    mount_cgroups();
#ifdef RICH
    for (int i = 0; i < BINDS; i++) {
        char from[4096], to[32];
        snprintf(from, sizeof from, "%s/data/%d", bundle, i);
        snprintf(to, sizeof to, "data/%d", i);
        MUST(mount(from, to, NULL, MS_BIND | MS_REC, NULL));
        MUST(mount(NULL, to, NULL, MS_PRIVATE | MS_REC, NULL));
    }
#else
    (void)bundle;
#endif
}

static void make_devices(void) {
    static const struct { const char *path; int major, minor; } devices[] = {
        { "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
        { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 },
    };
    static const struct { const char *to, *path; } links[] = {
        { "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
        { "/proc/self/fd/2", "dev/stderr" }, { "/proc/kcore", "dev/core" }, { "pts/ptmx", "dev/ptmx" },
    };
    umask(0);
    for (size_t i = 0; i < LENGTH(devices); i++)
        MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
    for (size_t i = 0; i < LENGTH(links); i++) MUST(symlink(links[i].to, links[i].path));
    umask(022);
}

/* Inside the new root. A path that this kernel lacks is passed over, as the specification has it. */
static void hide(void) {
    static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };
    static const char *const masked_files[] = { "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                                "/proc/timer_stats", "/proc/sched_debug" };
    static const char *const masked_dirs[] = { "/proc/acpi", "/proc/asound", "/sys/firmware", "/proc/scsi" };
    for (size_t i = 0; i < LENGTH(read_only); i++) {
        if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            MUST(mount(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
        else if (errno != ENOENT) die(read_only[i]);
    }
    for (size_t i = 0; i < LENGTH(masked_files); i++)
        if (mount("/dev/null", masked_files[i], NULL, MS_BIND, NULL) == -1 && errno != ENOENT) die(masked_files[i]);
    for (size_t i = 0; i < LENGTH(masked_dirs); i++)
        if (mount("tmpfs", masked_dirs[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1") == -1 && errno != ENOENT) die(masked_dirs[i]);
}

#ifdef RICH
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif
/* As long as the program that libseccomp makes of the profile in the bundle: a comparison for each call that is allowed. */
static void filter_calls(void) {
    static const uint16_t refused[] = { REFUSED };
    static struct sock_filter program[1024];
    unsigned short n = 0;
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned call = 0; call <= LAST_CALL; call++) {
        size_t i = 0;
        while (i < LENGTH(refused) && refused[i] != call) i++;
        if (i < LENGTH(refused)) continue;
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog filter = { n, program };
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
}
#endif

static void enter_bundle(const char *bundle) {
    MUST(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
    MUST(sethostname("bench", 5));
    MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
    char *root = joined(bundle, "/rootfs", "");
    MUST(mount(root, root, NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(root));
    mount_all(bundle);
    make_devices();
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    hide();
    MUST(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
    MUST(chdir("/"));
    MUST(setsid());
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
#ifdef RICH
    filter_calls();
#endif
}

/* Becomes the bundle's process: `true`, or in the bundle named so, `sleep`. */
static void workload(const char *bundle) {
    char *const none[] = { "true", NULL }, *const sleeper[] = { "sleep", "600", NULL };
    char *const *args = strcmp(strrchr(bundle, '/'), "/sleep") == 0 ? sleeper : none;
    execve(joined("/bin/", args[0], ""), args, environment);
    die("execve");
}

/* ---- the verbs ---- */

static int end_of(pid_t pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int verb_run(const char *bundle, const char *id) {
    make_cgroup(id);
    pid_t pid = spawn(open_cgroup(id), CLONE_NEWPID);
    if (pid == 0) {
        enter_bundle(bundle);
        workload(bundle);
    }
    int status = end_of(pid);
    remove_cgroup(id);
    return status;
}

static int verb_create(const char *root, const char *bundle, const char *id, const char *pid_file) {
    int ready[2];
    char *fifo = joined(root, id, ".fifo"), byte = 0;
    mkdir(root, 0700);
    MUST(mkfifo(fifo, 0600));
    make_cgroup(id);
    MUST(pipe2(ready, O_CLOEXEC));
    pid_t pid = spawn(open_cgroup(id), CLONE_NEWPID);
    if (pid == 0) {
        int begin = MUST(open(fifo, O_RDWR | O_CLOEXEC));
        enter_bundle(bundle);
        MUST(write(ready[1], &byte, 1));
        MUST(read(begin, &byte, 1));
        workload(bundle);
    }
    close(ready[1]);
    if (MUST(read(ready[0], &byte, 1)) == 0) return 255;
    const char *const files[] = { joined(root, id, ".pid"), pid_file };
    for (size_t i = 0; i < LENGTH(files); i++) {
        int file = MUST(open(files[i], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        dprintf(file, "%d", pid);
        close(file);
    }
    return 0;
}

static int verb_start(const char *root, const char *id) {
    int begin = MUST(open(joined(root, id, ".fifo"), O_WRONLY | O_CLOEXEC));
    MUST(write(begin, "", 1));
    return 0;
}

static pid_t pid_of(const char *root, const char *id) {
    char text[16] = "";
    int file = MUST(open(joined(root, id, ".pid"), O_RDONLY | O_CLOEXEC));
    MUST(read(file, text, sizeof text - 1));
    close(file);
    return atoi(text);
}

static int verb_exec(const char *root, const char *id, char *const command[]) {
    int process = MUST(syscall(SYS_pidfd_open, pid_of(root, id), 0));
    int cgroup = open_cgroup(id);
    MUST(setns(process, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
    pid_t pid = spawn(cgroup, 0);
    if (pid == 0) {
        MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        execve(command[0], command, environment);
        die("execve");
    }
    return end_of(pid);
}

static int verb_state(const char *root, const char *id) {
    pid_t pid = pid_of(root, id);
    const char *status = syscall(SYS_pidfd_open, pid, 0) == -1 ? "stopped" : "running";
    dprintf(1, "{\"ociVersion\":\"1.0.2\",\"id\":\"%s\",\"status\":\"%s\",\"pid\":%d}\n", id, status, pid);
    return 0;
}

static int verb_delete(const char *root, const char *id, int force) {
    struct pollfd process = { syscall(SYS_pidfd_open, pid_of(root, id), 0), POLLIN, 0 };
    if (process.fd != -1) {
        if (!force) return 1;
        MUST(syscall(SYS_pidfd_send_signal, process.fd, SIGKILL, NULL, 0));
        poll(&process, 1, -1);
    }
    remove_cgroup(id);
    MUST(unlink(joined(root, id, ".fifo")));
    MUST(unlink(joined(root, id, ".pid")));
    return 0;
}

int main(int argc, char **argv) {
    const char *root = NULL, *bundle = NULL, *pid_file = NULL, *verb = NULL;
    int force = 0, i;
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--root")) root = joined(argv[++i], "/", "");
        else if (!strcmp(argv[i], "--bundle")) bundle = argv[++i];
        else if (!strcmp(argv[i], "--pid-file")) pid_file = argv[++i];
        else if (!strcmp(argv[i], "--force")) force = 1;
        else if (!verb) verb = argv[i];
        else break;
    }
    if (i >= argc || !root) return dprintf(2, "floor: usage: see hack/bench.d/floor.c\n"), 2;
    if (!strcmp(verb, "run") && bundle) return verb_run(bundle, argv[i]);
    if (!strcmp(verb, "create") && bundle && pid_file) return verb_create(root, bundle, argv[i], pid_file);
    if (!strcmp(verb, "start")) return verb_start(root, argv[i]);
    if (!strcmp(verb, "exec") && i + 1 < argc) return verb_exec(root, argv[i], argv + i + 1);
    if (!strcmp(verb, "state")) return verb_state(root, argv[i]);
    if (!strcmp(verb, "delete")) return verb_delete(root, argv[i], force);
    return dprintf(2, "floor: %s: not a verb\n", verb), 2;
}
