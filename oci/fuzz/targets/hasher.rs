//! The saved state of a running digest, as a damaged database row may hold it: refused, or taken without a panic ever
//! after.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oci::digest::{Algorithm, Digest, Hasher};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    wide: bool,
    state: &'a [u8],
    before: &'a [u8],
    after: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let algorithm = if input.wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
    if let Ok(mut hasher) = Hasher::restore(algorithm, input.state) {
        hasher.update(input.after);
        assert_eq!(hasher.finish().algorithm(), algorithm);
    }
    // The true state, and the same with one byte of it changed.
    let mut first = Hasher::new(algorithm);
    first.update(input.before);
    let mut state = first.save();
    let mut second = Hasher::restore(algorithm, &state).expect("just saved");
    second.update(input.after);
    assert_eq!(second.finish(), Digest::of(algorithm, &[input.before, input.after].concat()));
    if let [at, flip, ..] = *input.state {
        let at = usize::from(at) % state.len();
        state[at] ^= flip;
        if let Ok(mut damaged) = Hasher::restore(algorithm, &state) {
            damaged.update(input.after);
            damaged.finish();
        }
    }
});
