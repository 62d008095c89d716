//! What a figure should reach, and whether it does. Ratios are taken round by round, between samples that follow each
//! other, and their median counts: what else the machine does changes from round to round, and hits both sides alike.

use crate::rounds::{Figures, Row, median};

/// What a figure should reach. `of` names another contender of the row.
#[derive(Debug, Clone)]
pub(crate) enum Goal {
    AtLeast {
        times: f64,
        of: &'static str,
    },
    AtMost {
        times: f64,
        of: &'static str,
    },
    /// So many a second, or so many times another, whichever is more.
    Rate {
        floor: f64,
        times: f64,
        of: &'static str,
    },
    /// No more than this, in the row's unit, whatever others take.
    Within(f64),
    /// 1.00 times, headers aside.
    Once,
    /// Better than another, or the whole bench fails: a cache that slows things down is none.
    MustBeat {
        of: &'static str,
    },
}

/// How a figure stands to a goal.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The ratio's median and, of several rounds, its range.
    pub(crate) ratio: String,
    pub(crate) goal: String,
    pub(crate) met: bool,
    /// Whether a miss fails the bench.
    pub(crate) must: bool,
}

impl Row {
    /// How a contender stands to one of its goals.
    pub(crate) fn judge(&self, figures: &Figures, goal: &Goal) -> Verdict {
        let value = figures.median();
        let verdict = |ratio, goal, met| Verdict { ratio, goal, met, must: false };
        match goal {
            Goal::AtLeast { times, of } => verdict(
                self.show_ratio(figures, of),
                format!(">= {times:.2}x"),
                self.ratio(figures, of) >= *times,
            ),
            Goal::AtMost { times, of } => verdict(
                self.show_ratio(figures, of),
                format!("<= {times:.2}x"),
                self.ratio(figures, of) <= *times,
            ),
            Goal::Rate { floor, times, of } => verdict(
                self.show_ratio(figures, of),
                format!(">= {times:.2}x and {}", self.unit.show(*floor)),
                self.ratio(figures, of) >= *times && value >= *floor,
            ),
            Goal::Within(most) => {
                verdict(String::new(), format!("<= {}", self.unit.show(*most)), value <= *most)
            }
            Goal::Once => verdict(String::new(), "1.00x".to_owned(), (1.0..=1.001).contains(&value)),
            Goal::MustBeat { of } => {
                let ratio = self.ratio(figures, of);
                let met = if self.unit.more_is_better() { ratio > 1.0 } else { ratio < 1.0 };
                Verdict {
                    must: true,
                    ..verdict(self.show_ratio(figures, of), "better, or fail".to_owned(), met)
                }
            }
        }
    }

    /// Whether a contender missed a goal.
    pub(crate) fn misses(&self) -> bool {
        let mut judged =
            self.figures.iter().flat_map(|f| f.goals.iter().map(move |goal| self.judge(f, goal)));
        judged.any(|verdict| !verdict.met)
    }

    /// How a contender stands to the one named `of`, as text.
    pub(crate) fn show_ratio(&self, figures: &Figures, of: &str) -> String {
        let mut ratios = self.ratios(figures, of);
        ratios.sort_by(f64::total_cmp);
        match ratios[..] {
            [] => String::new(),
            [only] => format!("{only:.2}x {of}"),
            [least, .., most] => format!("{:.2}x {of} ({least:.2} - {most:.2})", median(&ratios)),
        }
    }

    /// The median of the contender of that name.
    pub(crate) fn median(&self, name: &str) -> f64 {
        self.named(name).map_or(f64::NAN, Figures::median)
    }

    fn ratio(&self, figures: &Figures, of: &str) -> f64 {
        median(&self.ratios(figures, of))
    }

    /// One ratio for each round that both took part in.
    fn ratios(&self, figures: &Figures, of: &str) -> Vec<f64> {
        let others = self.named(of).map_or(&[][..], |other| &other.samples);
        figures.samples.iter().zip(others).map(|(sample, other)| sample / other).collect()
    }

    fn named(&self, name: &str) -> Option<&Figures> {
        self.figures.iter().find(|figures| figures.name == name)
    }
}
