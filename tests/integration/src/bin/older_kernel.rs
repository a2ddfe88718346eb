//! `older_kernel VERSION PROGRAM ARGS…`: executes PROGRAM as a kernel of that version would have it, as far as a filter can
//! tell: system calls that came later end in ENOSYS, flags that came later in EINVAL. It sets no_new_privs.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

const ENOSYS: u32 = 38;
const EINVAL: u32 = 22;

/// The calls that came after Linux 5.10 (include/uapi/asm-generic/unistd.h): number and version. They have one number on
/// every architecture.
const CALLS: [(i64, (u32, u32)); 29] = [
    (441, (5, 11)), // epoll_pwait2
    (442, (5, 12)), // mount_setattr
    (443, (5, 14)), // quotactl_fd
    (444, (5, 13)), // landlock_create_ruleset
    (445, (5, 13)), // landlock_add_rule
    (446, (5, 13)), // landlock_restrict_self
    (447, (5, 14)), // memfd_secret
    (448, (5, 15)), // process_mrelease
    (449, (5, 16)), // futex_waitv
    (450, (5, 17)), // set_mempolicy_home_node
    (451, (6, 5)),  // cachestat
    (452, (6, 6)),  // fchmodat2
    (453, (6, 6)),  // map_shadow_stack
    (454, (6, 7)),  // futex_wake
    (455, (6, 7)),  // futex_wait
    (456, (6, 7)),  // futex_requeue
    (457, (6, 8)),  // statmount
    (458, (6, 8)),  // listmount
    (459, (6, 8)),  // lsm_get_self_attr
    (460, (6, 8)),  // lsm_set_self_attr
    (461, (6, 8)),  // lsm_list_modules
    (462, (6, 10)), // mseal
    (463, (6, 13)), // setxattrat
    (464, (6, 13)), // getxattrat
    (465, (6, 13)), // listxattrat
    (466, (6, 13)), // removexattrat
    (467, (6, 15)), // open_tree_attr
    (468, (6, 17)), // file_getattr
    (469, (6, 17)), // file_setattr
];

#[cfg(target_arch = "x86_64")]
const MEMFD_CREATE: i64 = 319;
#[cfg(target_arch = "aarch64")]
const MEMFD_CREATE: i64 = 279;
const FSCONFIG: i64 = 431;
const FSMOUNT: i64 = 432;
const CLOSE_RANGE: i64 = 436;

/// Flags: the call, the argument that has them, the bits, and the version.
const FLAGS: [(i64, u8, u64, (u32, u32)); 5] = [
    (CLOSE_RANGE, 2, 4, (5, 11)),     // CLOSE_RANGE_CLOEXEC
    (FSMOUNT, 2, 0x20_0000, (5, 14)), // MOUNT_ATTR_NOSYMFOLLOW
    (MEMFD_CREATE, 1, 8, (6, 3)),     // MFD_NOEXEC_SEAL
    (MEMFD_CREATE, 1, 0x10, (6, 3)),  // MFD_EXEC
    (FSCONFIG, 1, 5, (6, 17)),        // FSCONFIG_SET_FD, for which there is no other use here than pidns of procfs
];

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> BpfProgram {
    let arch = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch);
    filter.expect("a filter").try_into().expect("a program")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [version, program, rest @ ..] = args.as_slice() else { panic!("older_kernel VERSION PROGRAM ARGS…") };
    let (major, minor) = version.split_once('.').expect("MAJOR.MINOR");
    let version = (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number"));
    let missing = CALLS.iter().filter(|(_, since)| *since > version).map(|(number, _)| (*number, Vec::new()));
    let mut flags: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (number, argument, bits, _) in FLAGS.iter().filter(|(.., since)| *since > version) {
        let is_set = SeccompCmpOp::MaskedEq(*bits);
        let condition = SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, is_set, *bits).expect("a condition");
        flags.entry(*number).or_default().push(SeccompRule::new(vec![condition]).expect("a rule"));
    }
    let filters = [filter(missing.collect(), ENOSYS), filter(flags, EINVAL)];
    filters.iter().for_each(|filter| apply_filter(filter).expect("the kernel takes the filter"));
    panic!("{program}: {}", Command::new(program).args(rest).exec());
}
