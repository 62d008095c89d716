//! Sizes and durations, as people write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::settings::{Size, Span};

fuzz_target!(|text: &str| {
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse(), Ok(span));
    }
});
