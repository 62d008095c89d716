//! Digests: what is taken is lower-case hex of the right length, and is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::digest::{Algorithm, Digest};

fuzz_target!(|data: &[u8]| {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, data);
        assert!(digest.matches(data));
        assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest.clone()));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
        assert!(digest.hex().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
});
