//! `WWW-Authenticate`, as any registry may write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::challenge::Challenge;

fuzz_target!(|header: &str| {
    let Some(Challenge::Bearer(bearer)) = Challenge::parse(header) else { return };
    assert!(!bearer.realm.is_empty(), "a token service without an address");
    // What was read stood there; a quoted value only loses its quotes and backslashes.
    let parts = [Some(&bearer.realm), bearer.service.as_ref(), bearer.scope.as_ref(), bearer.error.as_ref()];
    for part in parts.into_iter().flatten() {
        assert!(part.len() <= header.len() && part.chars().all(|c| header.contains(c)), "{part:?}");
    }
});
