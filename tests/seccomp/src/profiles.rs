//! Profiles in the shape of those that engines bring: made from tables, for every architecture of the machine.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// What all three engines allow, and the greater part of what each allows: names are sorted.
const COMMON: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir \
    chmod chown chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup \
    dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 \
    fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync \
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid \
    getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom \
    getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid \
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr \
    link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 \
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
    mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe \
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 \
    read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
    removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 \
    send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid \
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid \
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
    setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";

/// What Docker allows and containerd does not.
const NOT_CONTAINERD: &str = "adjtimex cachestat chroot clock_adjtime clock_adjtime64 fchmodat2 futex_requeue futex_wait futex_wake \
    getxattrat listmount listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack mseal \
    removexattrat setxattrat statmount uretprobe";

/// What Podman allows and Docker does not.
const ALSO_PODMAN: &str = "clone clone3 fsconfig fsmount fsopen fspick keyctl mount move_mount name_to_handle_at open_tree \
    pidfd_getfd pivot_root readdir reboot setns syslog umount umount2 unshare";

/// What Podman denies by name, while its default answers ENOSYS.
const DENIED_PODMAN: &str = "bdflush bpf fanotify_init kexec_file_load kexec_load lookup_dcookie migrate_pages move_pages \
    nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname perf_event_open quotactl setdomainname sethostname \
    sgetmask ssetmask swapoff swapon sysfs uselib userfaultfd ustat vhangup vm86 vm86old";

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn without<'a>(all: &'a str, taken: &str) -> Vec<&'a str> {
    let taken = words(taken);
    words(all).into_iter().filter(|name| !taken.contains(name)).collect()
}

/// `names` allowed where argument `index` compares to `value` by `op`.
fn allowed_if(name: &str, index: u32, op: &str, value: u64) -> Value {
    json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [{ "index": index, "value": value, "op": op }] })
}

fn personalities(values: &[u64]) -> Vec<Value> {
    values.iter().map(|&value| allowed_if("personality", 0, "SCMP_CMP_EQ", value)).collect()
}

/// The namespaces that clone may not make: CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

fn profile(default_errno: Option<u32>, rules: Vec<Value>) -> LinuxSeccomp {
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    });
    if let Some(errno) = default_errno {
        profile["defaultErrnoRet"] = errno.into();
    }
    read(profile)
}

/// A profile from its JSON.
pub fn read(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).expect("a profile of the tests is JSON of the specification")
}

/// As Docker's for a container with its default capabilities.
pub fn docker() -> LinuxSeccomp {
    let mut rules = vec![json!({ "names": words(COMMON), "action": "SCMP_ACT_ALLOW" })];
    rules.push(allowed_if("socket", 0, "SCMP_CMP_LT", 38));
    rules.push(allowed_if("socket", 0, "SCMP_CMP_EQ", 39));
    rules.push(allowed_if("socket", 0, "SCMP_CMP_GT", 40));
    rules.extend(personalities(&[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff]));
    rules.push(allowed_if("clone", 0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES));
    rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    profile(Some(1), rules)
}

/// As containerd's: one list, few conditions, no errno for the default.
pub fn containerd() -> LinuxSeccomp {
    let mut names = without(COMMON, NOT_CONTAINERD);
    names.push("vmsplice");
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": [] })];
    rules.push(allowed_if("socket", 0, "SCMP_CMP_NE", 40));
    rules.extend(personalities(&[0, 8, 0xffff_ffff]));
    rules.push(allowed_if("clone", 0, "SCMP_CMP_MASKED_EQ", NEW_NAMESPACES));
    profile(None, rules)
}

/// As Podman's: ENOSYS for what is not named, EPERM for what is denied by name, netlink's audit protocol apart.
pub fn podman() -> LinuxSeccomp {
    let mut names = without(COMMON, "chroot process_vm_readv process_vm_writev ptrace");
    names.extend(words(ALSO_PODMAN));
    let mut rules = vec![
        json!({ "names": words(DENIED_PODMAN), "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }),
        json!({ "names": names, "action": "SCMP_ACT_ALLOW" }),
    ];
    rules.extend(personalities(&[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff]));
    rules.push(json!({ "names": ["chroot", "ptrace", "kcmp", "setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }));
    rules.push(json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [
        { "index": 0, "value": 16, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 9, "op": "SCMP_CMP_EQ" } ] }));
    rules.push(allowed_if("socket", 2, "SCMP_CMP_NE", 9));
    rules.push(allowed_if("socket", 0, "SCMP_CMP_NE", 16));
    rules.push(allowed_if("socket", 2, "SCMP_CMP_NE", 9));
    profile(Some(38), rules)
}

/// Every name of the tables, once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        [COMMON, ALSO_PODMAN, DENIED_PODMAN].iter().flat_map(|text| text.split_whitespace()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
