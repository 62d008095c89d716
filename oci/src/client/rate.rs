//! What a registry tells of its rate limit, in Docker Hub's headers (`ratelimit-limit: 100;w=21600`) and in `Retry-After`.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header};

/// How much a registry lets a client have, as its last answer told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in all, within `window`.
    pub limit: Option<u64>,
    /// Requests that are left.
    pub remaining: Option<u64>,
    /// What the limit is counted over.
    pub window: Option<Duration>,
    /// When it was told.
    pub seen: SystemTime,
}

/// The last [`RateLimit`] that was told.
#[derive(Debug, Default)]
pub(super) struct Rate(Mutex<Option<RateLimit>>);

impl Rate {
    pub(super) fn note(&self, headers: &HeaderMap) {
        if let Some(told) = told(headers, SystemTime::now()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        }
    }

    pub(super) fn last(&self) -> Option<RateLimit> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(headers: &HeaderMap, seen: SystemTime) -> Option<RateLimit> {
    let value = |name: &str| headers.get(name).and_then(|value| Quota::parse(value.to_str().ok()?));
    let (limit, remaining) = (value("ratelimit-limit"), value("ratelimit-remaining"));
    if limit.is_none() && remaining.is_none() {
        return None;
    }
    let window = limit.as_ref().or(remaining.as_ref()).and_then(|quota| quota.window);
    Some(RateLimit {
        limit: limit.map(|quota| quota.requests),
        remaining: remaining.map(|quota| quota.requests),
        window,
        seen,
    })
}

/// `100;w=21600`: so many requests within so many seconds.
struct Quota {
    requests: u64,
    window: Option<Duration>,
}

impl Quota {
    fn parse(text: &str) -> Option<Self> {
        // Some registries give a list, of which the first is the limit that counts.
        let mut parts = text.split(',').next()?.split(';').map(str::trim);
        let requests = parts.next()?.parse().ok()?;
        let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
        Some(Self { requests, window: window.map(Duration::from_secs) })
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3); a date that has passed is no time at all.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| text.parse().expect("a header's text");
        pairs.iter().map(|(name, text)| (name.parse().expect("a name"), value(text))).collect()
    }

    #[test]
    fn docker_hubs_headers_are_read() {
        let seen = SystemTime::UNIX_EPOCH;
        let hub = headers(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")]);
        let window = Some(Duration::from_secs(21_600));
        let expected = RateLimit { limit: Some(100), remaining: Some(76), window, seen };
        assert_eq!(told(&hub, seen), Some(expected));
        let list = headers(&[("ratelimit-limit", "10, 10;w=1, 50;w=60"), ("ratelimit-remaining", "9")]);
        let expected = RateLimit { limit: Some(10), remaining: Some(9), window: None, seen };
        assert_eq!(told(&list, seen), Some(expected));
        for nothing in [&[][..], &[("ratelimit-limit", "many")], &[("ratelimit-remaining", "-1")]] {
            assert_eq!(told(&headers(nothing), seen), None, "{nothing:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (text, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers(&[("retry-after", text)]), now), expected, "{text:?}");
        }
    }
}
