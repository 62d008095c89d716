//! What of a node's state somebody should do something about: a pure look at facts. Each alarm says what to do.

use oci::{http::Check, settings::Size};
use serde::Serialize;

use super::cache::Stats;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Pulls go on; something is on its way to get worse.
    Warning,
    /// Pulls fail, or will soon.
    Critical,
}

/// Something to look at.
#[derive(Debug, Serialize)]
pub(super) struct Alarm {
    /// The same word for the same trouble, for programs.
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    /// What is wrong, one sentence.
    pub(super) message: String,
    /// What to do about it, one sentence.
    pub(super) action: &'static str,
}

/// What alarms are seen in.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) checks: &'a [Check],
    pub(super) cache: &'a Stats,
    /// The rest are counts since the start.
    pub(super) quarantined: u64,
    pub(super) reserve_used: u64,
    pub(super) corrupt: u64,
    pub(super) unkept_bytes: u64,
}

/// Of the capacity, in percent: with more than this pinned, what is not pinned hardly stays.
const MUCH_PINNED: u64 = 80;

/// Everything that is wrong, the worst first.
pub(super) fn alarms(facts: &Facts<'_>) -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = facts.checks.iter().filter_map(failing).collect();
    alarms.extend(space(facts.cache, facts.unkept_bytes));
    alarms.extend(metadata_space(facts.reserve_used));
    alarms.extend(pins(facts.cache));
    alarms.extend(bit_rot(facts.quarantined));
    alarms.extend(corrupt(facts.corrupt));
    alarms.sort_by_key(|alarm| alarm.severity != Severity::Critical);
    alarms
}

fn failing(check: &Check) -> Option<Alarm> {
    let why = check.state.as_ref().err()?;
    Some(Alarm {
        name: "check_failed",
        severity: if check.required { Severity::Critical } else { Severity::Warning },
        message: format!("the check {} fails: {why}", check.name),
        action: "look into the node's log and at the disk of its data directory; restart the node when that is right",
    })
}

fn space(cache: &Stats, unkept_bytes: u64) -> Option<Alarm> {
    if let Some(free) = cache.free.filter(|free| *free < cache.keep_free) {
        return Some(Alarm {
            name: "disk_full",
            severity: Severity::Warning,
            message: format!(
                "the file system has {} left, less than cache.keep_free ({})",
                Size(free),
                Size(cache.keep_free)
            ),
            action: "find out what else fills the file system; give the edge more disk, or set cache.capacity lower",
        });
    }
    (unkept_bytes > 0).then(|| Alarm {
        name: "unkept",
        severity: Severity::Warning,
        message: format!("{} were streamed without being kept, for want of room", Size(unkept_bytes)),
        action: "give the edge more disk and raise cache.capacity, or unpin something: a single blob must fit beside what is pinned and read",
    })
}

fn metadata_space(reserve_used: u64) -> Option<Alarm> {
    (reserve_used > 0).then(|| Alarm {
        name: "metadata_disk_full",
        severity: Severity::Warning,
        message: format!("the metadata met a full disk {reserve_used} times since the start"),
        action: "free space on the file system of the data directory; pulls go on, but what is used is not written down",
    })
}

fn pins(cache: &Stats) -> Option<Alarm> {
    let much = cache.pinned_bytes > cache.capacity / 100 * MUCH_PINNED;
    much.then(|| Alarm {
        name: "much_pinned",
        severity: Severity::Warning,
        message: format!(
            "{} of the capacity of {} are pinned",
            Size(cache.pinned_bytes),
            Size(cache.capacity)
        ),
        action: "unpin what is not needed (`roadstead cache ls` shows pins), or raise cache.capacity",
    })
}

fn bit_rot(quarantined: u64) -> Option<Alarm> {
    (quarantined > 0).then(|| Alarm {
        name: "bit_rot",
        severity: Severity::Warning,
        message: format!("{quarantined} stored blobs had wrong bytes since the start; none was served"),
        action: "look at the disk and its log (smartctl, dmesg), then run `roadstead cache verify`",
    })
}

fn corrupt(corrupt: u64) -> Option<Alarm> {
    (corrupt > 0).then(|| Alarm {
        name: "corrupt_downloads",
        severity: Severity::Warning,
        message: format!(
            "{corrupt} downloads since the start brought bytes that do not match their digest; none was kept"
        ),
        action: "the log names upstream and digest: look at that registry, and at proxies on the way to it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Stats {
        Stats { capacity: 1000, keep_free: 100, free: Some(500), ..Stats::default() }
    }

    fn names(checks: &[Check], cache: &Stats, counts: [u64; 4]) -> Vec<&'static str> {
        let [quarantined, reserve_used, corrupt, unkept_bytes] = counts;
        let facts = Facts { checks, cache, quarantined, reserve_used, corrupt, unkept_bytes };
        let found = alarms(&facts);
        assert!(found.iter().all(|alarm| alarm.action.len() > 20 && !alarm.message.is_empty()));
        found.iter().map(|alarm| alarm.name).collect()
    }

    #[test]
    fn a_node_that_is_well_has_no_alarms() {
        let well = Check { name: "metadata", state: Ok(()), required: true };
        assert_eq!(names(&[well], &quiet(), [0; 4]), Vec::<&str>::new());
    }

    #[test]
    fn each_trouble_has_its_alarm_and_the_worst_comes_first() {
        assert_eq!(
            names(&[], &quiet(), [1, 2, 3, 4]),
            ["unkept", "metadata_disk_full", "bit_rot", "corrupt_downloads"]
        );
        let cache = Stats { free: Some(99), pinned_bytes: 801, ..quiet() };
        let broken = Check { name: "metadata", state: Err("gone".to_owned()), required: true };
        let unwell = Check { name: "other", state: Err("slow".to_owned()), required: false };
        assert_eq!(
            names(&[unwell, broken], &cache, [0, 0, 0, 4]),
            ["check_failed", "check_failed", "disk_full", "much_pinned"]
        );
    }
}
