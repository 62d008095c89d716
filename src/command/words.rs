//! Numbers and times in the words of people.

use std::time::Duration;

use jiff::Timestamp;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1.4 GiB`; three digits at the most.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut divisor: u64 = 1;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        divisor *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = bytes as f64 / divisor as f64;
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `3 days`, `2 hours`, `40 seconds`: the largest unit alone.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

/// How long ago an RFC 3339 time was, or how far it is ahead; the text itself where it is none.
pub(super) fn ago(time: &str) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return time.to_owned() };
    let seconds = Timestamp::now().as_second() - then.as_second();
    let length = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0 => "just now".to_owned(),
        1.. => format!("{} ago", span(length)),
        _ => format!("in {}", span(length)),
    }
}

/// `12.3 ms`, `1.24 s`.
pub(super) fn ms(ms: f64) -> String {
    if ms >= 1000.0 { format!("{:.2} s", ms / 1000.0) } else { format!("{ms:.1} ms") }
}

/// `43 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let whole = whole.max(1);
    format!("{} %", u128::from(part) * 100 / u128::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_348, "99.9 KiB"),
            (102_400, "100 KiB"),
            (10 << 30, "10.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [told(1), told(59), told(60), told(7200), told(86_400)],
            ["1 second", "59 seconds", "1 minute", "2 hours", "1 day"]
        );
        let past = Timestamp::now() - Duration::from_secs(7300);
        assert_eq!(ago(&past.to_string()), "2 hours ago");
        let future = Timestamp::now() + Duration::from_secs(130);
        assert_eq!(ago(&future.to_string()), "in 2 minutes");
        assert_eq!(ago("nonsense"), "nonsense");
    }

    #[test]
    fn a_share_of_nothing_is_nothing() {
        assert_eq!([percent(0, 0), percent(1, 3), percent(u64::MAX, u64::MAX)], ["0 %", "33 %", "100 %"]);
    }
}
