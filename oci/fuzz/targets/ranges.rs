//! `Range`, `Content-Range`, and the chunks of uploads.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use oci::range::{ByteRange, ContentRange, content_range, parse_chunk_range};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    length: u64,
    header: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    if let Some(range) = ByteRange::parse(input.header) {
        match range.resolve(input.length) {
            Ok(range) => {
                assert!(range.start < range.end && range.end <= input.length, "{range:?}");
                let written = content_range(&range, input.length);
                let read = ContentRange::parse(&written);
                // The last byte of all that can be counted has no end behind it.
                assert!(range.end == u64::MAX || read.is_some_and(|read| read.range == range), "{written}");
            }
            Err(outside) => assert_eq!(outside.length, input.length),
        }
    }
    if let Some(told) = ContentRange::parse(input.header) {
        assert!(told.range.start < told.range.end);
        assert!(told.length.is_none_or(|length| told.range.end <= length));
    }
    if let Some(chunk) = parse_chunk_range(input.header) {
        assert!(chunk.start < chunk.end);
    }
});
