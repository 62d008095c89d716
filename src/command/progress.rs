//! How far long work is: a bar on a terminal, a line now and then otherwise. On standard error, so that what is asked for stays
//! alone on standard output.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::words;

/// How often a line is written where no bar is drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often a node is asked how far it is.
pub(super) const ASKED_EVERY: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    /// When a line was written, or it began.
    told: Instant,
}

impl Progress {
    /// Of `what`, in bytes.
    pub(super) fn begin(what: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_why| ProgressStyle::default_bar()),
            );
            bar.set_message(what.to_owned());
            bar
        });
        Self { what: what.to_owned(), bar, told: Instant::now() }
    }

    /// So many bytes of so many are done; `more` is said beside it.
    pub(super) fn at(&mut self, bytes: u64, total: u64, more: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(bytes);
                bar.set_message(format!("{} {more}", self.what));
            }
            None if self.told.elapsed() >= LINE_EVERY => {
                self.told = Instant::now();
                self.line(bytes, total, more);
            }
            None => {}
        }
    }

    /// It is over, and the page says the rest.
    pub(super) fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// It is over.
    pub(super) fn end(self, bytes: u64, total: u64, more: &str) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => self.line(bytes, total, more),
        }
    }

    fn line(&self, bytes: u64, total: u64, more: &str) {
        let (done, all) = (words::size(bytes), words::size(total));
        let share = words::percent(bytes, total);
        // Nobody may be listening.
        let _ = writeln!(io::stderr(), "{}: {done} of {all} ({share}) {more}", self.what);
    }
}
