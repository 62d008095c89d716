//! Pulls through one edge, made of a seed: what a datacenter asks of its registry mirror.

use std::collections::HashSet;

/// Images that services run, each with its releases.
const SERVICES: usize = 500;
/// Sets of base layers.
const BASES: usize = 25;
/// The exponent of the popularity of services and bases.
const ZIPF: f64 = 0.9;
/// Of 1000 pulls, how many are of an image that CI has just made and nobody pulls again.
const CI: u64 = 300;
/// Of 1000 pulls, how many are preceded by a release of the service pulled.
const RELEASES: u64 = 30;
/// Pulls between two scans of all that there is, once each.
const SCAN_EVERY: usize = 15_000;
/// Of 1000 pulls, how many come from a machine that has the base layers already.
const WARM_CLIENTS: u64 = 600;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// For the manifest of an image, by its number.
    Manifest(usize),
    /// For a blob, by its number.
    Blob(usize),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
    /// The size of each blob, in bytes.
    pub(crate) blobs: Vec<u64>,
    /// The blobs of each image, base layers first.
    pub(crate) images: Vec<Vec<usize>>,
    pub(crate) pulls: usize,
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From the cumulated weights `table`, a number.
    fn pick(&mut self, table: &[f64]) -> usize {
        let at = self.unit() * table.last().copied().unwrap_or(1.0);
        table.partition_point(|sum| *sum < at).min(table.len() - 1)
    }

    /// Evenly distributed in the logarithm.
    #[expect(clippy::cast_possible_truncation, reason = "a size between the two")]
    fn size(&mut self, from: f64, to: f64) -> u64 {
        (from * (to / from).powf(self.unit())) as u64
    }
}

fn zipf(count: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let weigh = |rank: usize| {
        sum += 1.0 / (rank as f64 + 1.0).powf(ZIPF);
        sum
    };
    (0..count).map(weigh).collect()
}

/// A service: the image that is its newest release, and how many base layers come first in it.
struct Service {
    image: usize,
    base: usize,
}

impl Trace {
    pub(crate) fn generate(seed: u64, pulls: usize) -> Self {
        let mut random = Random(seed);
        let mut trace = Self { pulls, ..Self::default() };
        let bases: Vec<Vec<usize>> = (0..BASES)
            .map(|_| (0..2 + random.below(3)).map(|_| trace.blob(random.size(2e6, 1.2e8))).collect())
            .collect();
        let (popular_bases, popular) = (zipf(BASES), zipf(SERVICES));
        let mut services: Vec<Service> = (0..SERVICES)
            .map(|_| {
                let base = &bases[random.pick(&popular_bases)];
                Service { image: trace.image(base, &mut random, 8), base: base.len() }
            })
            .collect();
        for pull in 0..pulls {
            if pull % SCAN_EVERY == SCAN_EVERY - 1 {
                (0..services.len()).for_each(|at| trace.pull(services[at].image, 0));
            }
            if random.below(1000) < CI {
                let base = &bases[random.pick(&popular_bases)];
                let image = trace.image(base, &mut random, 3);
                trace.pull(image, base.len());
                continue;
            }
            let service = &mut services[random.pick(&popular)];
            if random.below(1000) < RELEASES {
                // A release changes the upper layers; those below stay.
                let stay = trace.images[service.image].len().saturating_sub(2).max(service.base);
                let below = trace.images[service.image][..stay].to_vec();
                service.image = trace.image(&below, &mut random, 2);
            }
            let held = if random.below(1000) < WARM_CLIENTS { service.base } else { 0 };
            trace.pull(service.image, held);
        }
        trace
    }

    fn blob(&mut self, size: u64) -> usize {
        self.blobs.push(size);
        self.blobs.len() - 1
    }

    /// A new image: a configuration and up to `layers` layers upon `below`.
    fn image(&mut self, below: &[usize], random: &mut Random, layers: u64) -> usize {
        let mut blobs = below.to_vec();
        blobs.push(self.blob(random.size(2e3, 2e4)));
        for _ in 0..1 + random.below(layers) {
            blobs.push(self.blob(random.size(1e4, 3e8)));
        }
        self.images.push(blobs);
        self.images.len() - 1
    }

    /// A client that has the first `held` blobs already.
    fn pull(&mut self, image: usize, held: usize) {
        self.events.push(Event::Manifest(image));
        self.events.extend(self.images[image][held..].iter().map(|blob| Event::Blob(*blob)));
    }

    pub(crate) fn requests(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Blob(_))).count()
    }

    /// Bytes of all blobs that are asked for, each once.
    pub(crate) fn bytes(&self) -> u64 {
        let asked = self.events.iter().filter_map(|event| match event {
            Event::Blob(blob) => Some(*blob),
            Event::Manifest(_) => None,
        });
        asked.collect::<HashSet<_>>().into_iter().map(|blob| self.blobs[blob]).sum()
    }
}
