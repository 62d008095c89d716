//! Reads what a node counts at `/metrics`, in Prometheus' text form.

use std::net::SocketAddr;

use super::http::get;

/// All samples of one moment.
#[derive(Debug)]
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    pub(crate) fn read(address: SocketAddr) -> Self {
        let answer = get(address, "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Self { text: String::from_utf8(answer.body).expect("metrics are text") }
    }

    /// The sum over all samples of `name` whose labels contain each of `labels`, such as `source="cache"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let samples = self.text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, set) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| set.contains(label)))
                .then(|| value.parse::<f64>().expect("a number"))
        });
        samples.sum()
    }

    /// As [`Metrics::sum`], for what is counted in whole bytes or requests.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole and not negative"
    )]
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        self.sum(name, labels) as u64
    }
}
