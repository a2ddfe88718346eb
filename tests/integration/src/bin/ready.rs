//! A workload that tells its service manager that it is ready, as sd_notify(3) does.

use std::os::unix::net::UnixDatagram;

fn main() {
    let socket = std::env::var_os("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    let sent = UnixDatagram::unbound().and_then(|from| from.send_to(b"READY=1", &socket));
    sent.unwrap_or_else(|error| panic!("{socket:?}: {error}"));
}
