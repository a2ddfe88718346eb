//! Memory that is handed out when it is used (`--lazy-pages`): CRIU is at work until all of it has been asked for.

use std::net::TcpStream;
use std::process::Child;

use super::*;

/// Nobody else is in the test's network namespace, which is the machine's.
const PORT: &str = "27183";

/// A container that keeps what a script has in memory, and answers with its length.
const KEEPS: &str = "big=$(head -c 3000000 /dev/zero | tr '\\0' x); exec 3<>/share/in; echo ready >/share/said; \
    while read line <&3; do echo $line ${#big} >/share/said; done";

/// A CRIU that hands pages out here; without one the test is skipped before anything is made.
fn with_pages(t: &Test) -> Criu {
    let criu = t.criu();
    if let Err(reason) = criu.hands_out_pages() {
        t.skip(reason);
    }
    criu
}

/// A checkpoint that waits for who asks for pages, and the folder of its images.
fn begun(t: &Test, criu: &Criu, container: &Container<'_>) -> (Child, String) {
    let images = t.dir().join("images").to_str().expect("text").to_owned();
    let mut told = wait::Fifo::new(&t.dir().join("told"));
    let line = format!("exec \"$@\" 7>{0}", told.path().display());
    let server = format!("127.0.0.1:{PORT}");
    let flags = ["--lazy-pages", "--page-server", &server, "--status-fd", "7", "--image-path", &images];
    let mut command = t.wrapped(&["sh", "-c", &line, "sh"], ["checkpoint"]);
    command.args(flags).arg(container.id()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = criu.found_by(command).spawn().expect("start the runtime");
    assert_eq!(told.bytes(1), [0]);
    (child, images)
}

#[test]
fn a_killed_checkpoint_whose_pages_nobody_asks_for_keeps_no_container_from_being_removed() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        t.runb_only("runc's delete waits in vain for what CRIU holds");
        let criu = with_pages(t);
        let container = started(t, t.bundle(), IDLE);
        let (mut checkpoint, images) = begun(t, &criu, &container);
        // As soon as CRIU awaits requests it has no use for who has started it.
        let _asks = TcpStream::connect(format!("127.0.0.1:{PORT}")).expect("CRIU listens");
        let accepted =
            || fs::read_to_string(format!("{images}/dump.log")).is_ok_and(|log| log.contains("Accepted connection"));
        wait::change_in(Path::new(&images), "CRIU takes the connection", accepted);
        checkpoint.kill().expect("kill");
        checkpoint.wait().expect("reap");
        let state = fs::read(t.root().join(container.id()).join("state.json")).expect("a state");
        let state: Value = serde_json::from_slice(&state).expect("a state");
        let by_criu = state["criu"]["pid"].as_i64().expect("a CRIU") as i32;
        let outcome = criu.checkpoint(t, container.id(), &format!("{images}-2"), &[]);
        outcome.fails_with(&["CRIU, process ", "is still at work on a checkpoint or a restore that was killed"]);
        let pid = container.pid();
        container.delete_force().ok();
        container.reap(pid);
        assert!(wait::process_end(by_criu, wait::deadline()));
        assert!(!Path::new(&format!("{images}-2")).exists());
    });
}

#[test]
fn a_container_whose_pages_nobody_asks_for_can_be_killed_and_the_checkpoint_fails() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        t.runb_only("runc's kill waits in vain for what CRIU holds");
        let criu = with_pages(t);
        for verb in ["kill", "delete"] {
            let container = started(t, t.bundle(), IDLE);
            let (mut checkpoint, images) = begun(t, &criu, &container);
            let pid = container.pid();
            match verb {
                "kill" => container.kill(&["KILL"]).ok(),
                _ => container.delete_force().ok(),
            };
            assert_eq!(checkpoint.wait().expect("the runtime's end").code(), Some(1), "{verb}");
            container.reap(pid);
            container.delete_force().ok();
            fs::remove_file(t.dir().join("told")).expect("removed");
            fs::remove_dir_all(images).expect("removed");
        }
    });
}

#[test]
fn a_container_goes_on_elsewhere_before_its_memory_is_there() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = with_pages(t);
        let bundle = t.bundle();
        let share = bundle.share_dir();
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        let container = bundle.sh(&format!("exec </dev/null >/dev/null 2>&1; {KEEPS}")).run_detached();
        assert_eq!(said.line(), "ready");
        let pid = container.pid();
        let (mut checkpoint, images) = begun(t, &criu, &container);
        // Where it goes on it has another name, as the first one is still there.
        let other = t.name("other");
        container.bundle().rewrite(|text| text.replace(&format!("\"/{}\"", container.id()), &format!("\"/{other}\"")));
        let mut pages = criu.lazy_pages(&images, PORT);
        let mut pages = pages.stdin(Stdio::null()).spawn().expect("start criu lazy-pages");
        let bundle = container.bundle().dir().to_str().expect("text");
        let flags = ["--detach", "--lazy-pages", "--bundle", bundle, "--image-path", &images, "--work-path", &images];
        let mut command = t.command(["restore"]);
        command.args(flags).args(["--manage-cgroups-mode", "ignore"]).arg(&other);
        t.finish(criu.found_by(command)).ok();
        assert_eq!(ask(&mut said, &share, "a"), "a 3000000");
        assert!(pages.wait().expect("the end of criu lazy-pages").success());
        assert!(checkpoint.wait().expect("the runtime's end").success());
        container.reap(pid);
        t.call(["state", container.id()]).fails_with(&["does not exist"]);
        assert_eq!(ask(&mut said, &share, "b"), "b 3000000");
        t.call(["delete", "--force", &other]).ok();
    });
}
