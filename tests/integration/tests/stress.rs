//! Many containers, one after the other and at once: nothing stays, nothing hangs.

use std::time::Instant;

use runb_tests::*;

#[test]
fn five_hundred_containers_in_a_row_leave_nothing() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().args(["true"]);
        for _ in 0..500 {
            bundle.run().ok();
        }
    });
}

#[test]
fn fifty_containers_at_once_leave_nothing() {
    in_modes(LIFECYCLE, |t| {
        let bundles: Vec<_> = (0..50).map(|number| t.bundle().sh(&format!("exit {number}"))).collect();
        let mut children = Vec::new();
        for bundle in &bundles {
            children.push(bundle.write().command("run", &[]).spawn().expect("start the runtime"));
        }
        let deadline = Instant::now() + 2 * wait::patience();
        for (number, child) in children.iter_mut().enumerate() {
            assert!(wait::process_end(child.id() as i32, deadline), "container {number} hangs");
            assert_eq!(child.wait().expect("wait").code(), Some(number as i32));
        }
    });
}

#[test]
fn fifty_containers_are_deleted_by_force_at_once() {
    in_modes(LIFECYCLE, |t| {
        let containers: Vec<_> = (0..50).map(|_| t.bundle().idle().create()).collect();
        let delete = |container: &Container<'_>| {
            t.command(["delete", "--force", container.id()]).spawn().expect("start the runtime")
        };
        let mut children: Vec<_> = containers.iter().map(delete).collect();
        let deadline = Instant::now() + 2 * wait::patience();
        for child in &mut children {
            assert!(wait::process_end(child.id() as i32, deadline), "a delete hangs");
            assert_eq!(child.wait().expect("wait").code(), Some(0));
        }
    });
}
