//! Some of many, always the same ones.

/// The environment variable by which nothing is left out. It takes half an hour.
const ALL: &str = "RUNB_TESTS_ALL";

/// Whether everything is to be tried of which there is a sample otherwise: `RUNB_TESTS_ALL=1`.
pub fn all() -> bool {
    std::env::var_os(ALL).is_some()
}

/// Whether system calls are to be tried, too, by which nothing seems to change: `RUNB_TESTS_ALL=calls`.
pub fn every_call() -> bool {
    std::env::var_os(ALL).is_some_and(|value| value == "calls")
}

/// At most `most` of `from`, one from each of as many equal stretches, by chance but for the `seed`; everything if [`all`].
pub fn of<T: Clone>(from: &[T], most: usize, seed: u64) -> Vec<T> {
    if all() || from.len() <= most {
        return from.to_vec();
    }
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |count: usize| {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % count
    };
    let stretch = |part: usize| part * from.len() / most..(part + 1) * from.len() / most;
    (0..most).map(stretch).map(|part| from[part.start + below(part.len())].clone()).collect()
}
