//! The verbs: what they do to a container, and what they answer.

use runb_tests::*;

#[test]
fn run_returns_the_exit_code_of_the_workload() {
    in_modes(ALL, |t| assert_eq!(t.bundle().sh("exit 7").run().code, 7));
}
