//! One row of the table: contenders measured in turn, round by round, so that whatever else the machine does hits all
//! of them alike; and what the servers took meanwhile.

use std::fmt;

use anyhow::{Context, Result};

use crate::goals::Goal;
use crate::machine::{processor_of, processor_of_all};
use crate::node::{Memory, Node};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Megabytes (10^6 bytes) a second.
    Speed,
    /// Requests a second.
    Requests,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Times the size of what was asked for.
    Times,
    /// Bytes, shown in MiB.
    Bytes,
    /// How many.
    Count,
}

/// Somebody who takes part in a row.
pub(crate) struct Contender<'a> {
    pub(crate) name: &'static str,
    pub(crate) goals: Vec<Goal>,
    pub(crate) run: Box<dyn FnMut(usize) -> Result<f64> + 'a>,
    /// In how many of the first rounds it takes part: all, or fewer where each takes long and only shows what is known.
    rounds: usize,
}

/// A contender's figures.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) goals: Vec<Goal>,
    /// One for each round it took part in.
    pub(crate) samples: Vec<f64>,
}

/// What a server took during a row.
#[derive(Debug)]
pub(crate) struct Footprint {
    pub(crate) node: &'static str,
    /// None for what is no server.
    pub(crate) memory: Option<Memory>,
    /// Processor seconds a round.
    pub(crate) processor: f64,
}

/// A measured row; ratios without a goal are to the first contender.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) figures: Vec<Figures>,
    pub(crate) footprints: Vec<Footprint>,
    /// What the machine forbids, where a goal of this row is missed.
    pub(crate) limit: Option<String>,
}

impl<'a> Contender<'a> {
    /// A contender without goals.
    pub(crate) fn new(name: &'static str, run: impl FnMut(usize) -> Result<f64> + 'a) -> Self {
        Self { name, goals: Vec::new(), run: Box::new(run), rounds: usize::MAX }
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    pub(crate) fn only(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

impl Row {
    /// Tells what the machine forbids, for the case that a goal is missed.
    pub(crate) fn limited(mut self, limit: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self
    }
}

impl fmt::Debug for Contender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender")
            .field("name", &self.name)
            .field("goals", &self.goals)
            .finish_non_exhaustive()
    }
}

/// Runs `rounds` rounds of all contenders, one after the other, and watches the servers that take part.
pub(crate) fn measure(
    title: &str,
    unit: Unit,
    rounds: usize,
    watched: &[&Node],
    mut contenders: Vec<Contender<'_>>,
) -> Result<Row> {
    eprintln!("{title}");
    let clock = Clock::start(watched)?;
    let mut figures: Vec<Figures> = contenders
        .iter()
        .map(|c| Figures { name: c.name, goals: c.goals.clone(), samples: Vec::new() })
        .collect();
    for round in 0..rounds {
        let taking_part = contenders.iter_mut().zip(&mut figures).filter(|(c, _)| round < c.rounds);
        for (contender, figures) in taking_part {
            let sample = (contender.run)(round).with_context(|| format!("{title}: {}", contender.name))?;
            figures.samples.push(sample);
        }
    }
    for figures in &figures {
        eprintln!("  {:<26} {}", figures.name, unit.show(figures.median()));
    }
    let footprints = clock.stop(rounds)?;
    Ok(Row { title: title.to_owned(), unit, figures, footprints, limit: None })
}

/// Who uses the processors and how much memory, from the start of a row to its end.
struct Clock<'a> {
    watched: &'a [&'a Node],
    before: Vec<f64>,
    load: f64,
    all: f64,
}

impl<'a> Clock<'a> {
    fn start(watched: &'a [&'a Node]) -> Result<Self> {
        for node in watched {
            node.forget_peak()?;
        }
        let before = watched.iter().map(|node| node.processor()).collect::<Result<_>>()?;
        Ok(Self { watched, before, load: processor_of("self")?, all: processor_of_all()? })
    }

    fn stop(self, rounds: usize) -> Result<Vec<Footprint>> {
        if self.watched.is_empty() {
            return Ok(Vec::new());
        }
        let per_round = |seconds: f64| seconds / rounds as f64;
        let load = processor_of("self")? - self.load;
        let mut rest = processor_of_all()? - self.all - load;
        let mut footprints = Vec::new();
        for (node, before) in self.watched.iter().zip(self.before) {
            let taken = node.processor()? - before;
            rest -= taken;
            footprints.push(Footprint {
                node: node.name,
                memory: Some(node.memory()?),
                processor: per_round(taken),
            });
        }
        footprints.push(Footprint { node: "(the load side)", memory: None, processor: per_round(load) });
        footprints.push(Footprint {
            node: "(the rest of the machine)",
            memory: None,
            processor: per_round(rest.max(0.0)),
        });
        Ok(footprints)
    }
}

impl Figures {
    /// The middle of the rounds.
    pub(crate) fn median(&self) -> f64 {
        median(&self.samples)
    }

    pub(crate) fn least(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The middle one; of none, nothing.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Speed => format!("{value:.0} MB/s"),
            Self::Requests => format!("{value:.0} requests/s"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Times => format!("{value:.4}x"),
            Self::Bytes => format!("{:.1} MiB", value / 1_048_576.0),
            Self::Count => format!("{value:.0}"),
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        match self {
            Self::Speed | Self::Requests => true,
            Self::Seconds | Self::Milliseconds | Self::Times | Self::Bytes | Self::Count => false,
        }
    }
}
