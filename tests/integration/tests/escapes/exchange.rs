//! The attacker of a race: a thread that exchanges two paths as fast as it can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use runb_tests::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The rounds of a race: up to 150 on version 2 and 40 elsewhere, as what is raced for does not differ
/// between the modes, but for what mounts and joins cgroups. A machine that is busy with other things does fewer, and one
/// that is emulated fewer still.
pub fn rounds(t: &Test) -> impl Iterator<Item = u32> + use<> {
    let few = wait::tries(20);
    let (most, time) = if t.mode() == Mode::V2 { (150, 5) } else { (40, 2) };
    let end = Instant::now() + Duration::from_secs(time);
    (0..most).take_while(move |done| *done < few || Instant::now() < end)
}

pub struct Exchange {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    rounds: AtomicU32,
    /// In how many rounds an exchange was begun and done.
    contested: AtomicU32,
}

impl Exchange {
    /// Exchanges `one` and `other` until [`Exchange::end`].
    pub fn of(one: &Path, other: &Path) -> Self {
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped, one, other) = (count.clone(), stop.clone(), one.to_owned(), other.to_owned());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("exchange");
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Exchange { count, stop, thread, rounds: AtomicU32::new(0), contested: AtomicU32::new(0) }
    }

    /// One round of the race.
    pub fn during<T>(&self, round: impl FnOnce() -> T) -> T {
        let before = self.count.load(Ordering::Relaxed);
        let result = round();
        // The first of two may have been under way before.
        let exchanged = self.count.load(Ordering::Relaxed) - before >= 2;
        self.rounds.fetch_add(1, Ordering::Relaxed);
        self.contested.fetch_add(u32::from(exchanged), Ordering::Relaxed);
        result
    }

    /// Ends it. There was a race at all: the paths were exchanged during a round, on a busy machine not in each. What to say of it.
    #[track_caller]
    pub fn end(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the exchange goes well");
        let (rounds, contested) = (self.rounds.into_inner(), self.contested.into_inner());
        let how = format!("{} exchanges, in {contested} of {rounds} rounds", self.count.load(Ordering::Relaxed));
        assert!(contested > 0, "{how}");
        how
    }
}
