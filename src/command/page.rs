//! Standard output and standard error: where pages go, and whether there is a person to colour them for.

use std::io::{self, IsTerminal as _, Write as _};

/// What a word is painted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Good,
    Warn,
    Bad,
    Strong,
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// It cannot be written.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// One document, for programs.
///
/// # Errors
/// It cannot be written.
pub(super) fn print_json(document: &impl serde::Serialize) -> io::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(document)?))
}

/// A sentence for the person beside what was asked for, on standard error.
pub(super) fn tell(sentence: &str) {
    // Nobody may be listening.
    let _ = writeln!(io::stderr(), "roadstead: {sentence}");
}

/// `text` in a colour, where standard output is a terminal and nobody said otherwise (`NO_COLOR`).
pub(super) fn painted(paint: Paint, text: &str) -> String {
    if !io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()) {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Good => "32",
        Paint::Warn => "33",
        Paint::Bad => "1;31",
        Paint::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
