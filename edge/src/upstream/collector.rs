//! The state of the listed upstreams as metrics: read when somebody looks, since a limit ends without anything happening.

use std::{fmt, time::UNIX_EPOCH};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use super::{Condition, Upstreams};

/// See the module.
#[derive(Debug)]
pub(crate) struct UpstreamCollector(pub(crate) Upstreams);

impl Collector for UpstreamCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut states = encoder.encode_descriptor(
            "roadstead_upstream_state",
            "How each upstream is: 1 at the state that it is in",
            None,
            MetricType::Gauge,
        )?;
        for upstream in self.0.listed() {
            let now = upstream.report().condition;
            for condition in Condition::ALL {
                let labels = [("upstream", &*upstream.name), ("state", condition.as_str())];
                let gauge = ConstGauge::new(i64::from(condition == now));
                gauge.encode(states.encode_family(&labels)?)?;
            }
        }
        let mut limited = encoder.encode_descriptor(
            "roadstead_upstream_limited_until_seconds",
            "Until when each upstream is left alone because it answered 429, in seconds since the epoch; 0: it is not",
            None,
            MetricType::Gauge,
        )?;
        for upstream in self.0.listed() {
            let until =
                upstream.report().limited_until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
            let until = until.map_or(0, |until| i64::try_from(until.as_secs()).unwrap_or(i64::MAX));
            ConstGauge::new(until).encode(limited.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        let mut remaining = encoder.encode_descriptor(
            "roadstead_upstream_rate_limit_remaining",
            "Requests that each upstream last said it has left for this node; absent where it says nothing of it",
            None,
            MetricType::Gauge,
        )?;
        for upstream in self.0.listed() {
            let Some(left) = upstream.rate_limit().and_then(|limit| limit.remaining) else { continue };
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            ConstGauge::new(left).encode(remaining.encode_family(&[("upstream", &*upstream.name)])?)?;
        }
        Ok(())
    }
}
