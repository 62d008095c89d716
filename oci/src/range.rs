//! Byte ranges: `Range` and `Content-Range` of downloads (RFC 9110, section 14), and the distribution specification's own
//! `Content-Range: <start>-<end>` of chunked uploads.
//!
//! Numbers that do not fit, lists and other units never panic; a `Range` that cannot be honoured is ignored, as RFC 9110
//! allows, and one that lies behind the end is unsatisfiable.

use std::ops::Range;

/// One byte range of a request, not yet laid over a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-`
    From(u64),
    /// `bytes=first-last`, `last` included.
    Between(u64, u64),
    /// `bytes=-count`: the last `count` bytes.
    Last(u64),
}

/// A range that lies wholly outside the content: `416`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range lies outside the content, which has {length} bytes")]
pub struct Unsatisfiable {
    /// The content's length in bytes.
    pub length: u64,
}

impl ByteRange {
    /// Reads a `Range` header. `None` where it is to be ignored: another unit, several ranges, or no range at all.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, spec) = header.trim().split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = spec.trim().split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// Lays the range over content of `length` bytes; the result is never empty.
    ///
    /// # Errors
    /// No byte of the range is within the content.
    pub fn resolve(self, length: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self {
            Self::From(first) => first..length,
            Self::Between(first, last) => first..length.min(last.saturating_add(1)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        if range.is_empty() { Err(Unsatisfiable { length }) } else { Ok(range) }
    }
}

/// Digits only: `str::parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // More digits than a u64 has: as far away as can be said.
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Writes `Content-Range` of a `206`.
pub fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
}

/// Writes `Content-Range` of a `416`.
pub fn unsatisfied_content_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// What a `206` says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes in the body.
    pub range: Range<u64>,
    /// The length of the whole, if told.
    pub length: Option<u64>,
}

impl ContentRange {
    /// Reads `Content-Range: bytes <first>-<last>/<length or *>`.
    pub fn parse(header: &str) -> Option<Self> {
        let rest = header.trim().strip_prefix("bytes")?.trim_start();
        let (range, length) = rest.split_once('/')?;
        let range = inclusive(range)?;
        let length = match length.trim() {
            "*" => None,
            length => Some(number(length)?),
        };
        if length.is_some_and(|length| range.end > length) {
            return None;
        }
        Some(Self { range, length })
    }
}

/// Reads the `Content-Range` of an upload's chunk: `<first>-<last>`, both included. Some clients write `bytes ` before
/// it or `/…` behind it; both are passed over.
pub fn parse_chunk_range(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, str::trim_start);
    inclusive(text.split('/').next()?)
}

fn inclusive(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.trim().split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < u64::MAX).then(|| first..last + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_laid_over_the_length() {
        let over = |header: &str, length| ByteRange::parse(header).map(|r| r.resolve(length));
        assert_eq!(over("bytes=0-0", 10), Some(Ok(0..1)));
        assert_eq!(over("bytes=2-", 10), Some(Ok(2..10)));
        assert_eq!(over("bytes=2-99", 10), Some(Ok(2..10)));
        assert_eq!(over("bytes=-3", 10), Some(Ok(7..10)));
        assert_eq!(over("bytes=-99", 10), Some(Ok(0..10)));
        assert_eq!(over("bytes=10-", 10), Some(Err(Unsatisfiable { length: 10 })));
        assert_eq!(over("bytes=-0", 10), Some(Err(Unsatisfiable { length: 10 })));
        assert_eq!(over("bytes=0-", 0), Some(Err(Unsatisfiable { length: 0 })));
        assert_eq!(over("bytes=99999999999999999999-", 10), Some(Err(Unsatisfiable { length: 10 })));
        for ignored in
            ["bytes=3-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=+1-2", "bytes=-", "0-1", ""]
        {
            assert_eq!(ByteRange::parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn content_ranges_are_read() {
        let read = |text| ContentRange::parse(text).map(|c| (c.range, c.length));
        assert_eq!(read("bytes 0-9/10"), Some((0..10, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5..10, None)));
        assert_eq!(read("bytes 5-10/10"), None);
        assert_eq!(read("bytes */10"), None);
        assert_eq!(parse_chunk_range("0-99"), Some(0..100));
        assert_eq!(parse_chunk_range("bytes 0-99/100"), Some(0..100));
        assert_eq!(parse_chunk_range("9-5"), None);
        assert_eq!(parse_chunk_range("0-18446744073709551615"), None);
    }

    proptest! {
        #[test]
        fn what_is_resolved_lies_within_the_content(first: u64, last: u64, length: u64) {
            for range in [ByteRange::From(first), ByteRange::Between(first.min(last), first.max(last)), ByteRange::Last(first)] {
                if let Ok(range) = range.resolve(length) {
                    prop_assert!(range.start < range.end && range.end <= length);
                }
            }
        }

        #[test]
        fn a_written_content_range_is_read_back(start in 0..u64::MAX / 2, count in 1..u64::MAX / 4, more in 0..u64::MAX / 4) {
            let range = start..start + count;
            let length = range.end + more;
            let read = ContentRange::parse(&content_range(&range, length));
            prop_assert_eq!(read, Some(ContentRange { range, length: Some(length) }));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "(bytes)?[ =]?[-0-9/*, ]{0,40}|.{0,60}") {
            let _ = ByteRange::parse(&text).map(|r| r.resolve(7));
            let _ = ContentRange::parse(&text);
            let _ = parse_chunk_range(&text);
        }
    }
}
