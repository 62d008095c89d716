//! `docs/lessons.md` names tests: each of them exists, and no complaint is without one.

use std::{collections::BTreeSet, fs, path::Path};

/// The table of complaints that tests answer.
const PAGE: &str = "docs/lessons.md";

/// Complaints about a cache or an origin that the page answers at the least.
const LEAST: usize = 35;

/// Where the tests of a first path element are.
const ROOTS: [(&str, &str); 5] = [
    ("system", "tests"),
    ("edge", "edge/src"),
    ("oci", "oci/src"),
    ("origin", "origin/src"),
    ("gossip", "gossip/src"),
];

/// A row of the table.
struct Lesson {
    complaint: String,
    tests: Vec<String>,
}

#[test]
fn every_lesson_names_tests_and_every_test_that_is_named_exists() {
    let lessons = lessons();
    assert!(lessons.len() >= LEAST, "{} lessons", lessons.len());
    let complaints: BTreeSet<&str> = lessons.iter().map(|lesson| lesson.complaint.as_str()).collect();
    assert_eq!(complaints.len(), lessons.len(), "a complaint stands there twice");
    let mut wrong = Vec::new();
    for lesson in &lessons {
        if lesson.tests.is_empty() {
            wrong.push(format!("no test for: {}", lesson.complaint));
        }
        let missing = lesson.tests.iter().filter(|test| !exists(test));
        wrong.extend(missing.map(|test| format!("there is no {test}, named for: {}", lesson.complaint)));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_test_that_is_not_there_is_not_found() {
    assert!(exists("system::lessons::a_test_that_is_not_there_is_not_found"));
    assert!(!exists("system::lessons::a_test_that_is_nowhere"));
    assert!(!exists("system::lessons::lessons"), "it is no test");
    assert!(!exists("nowhere::lessons::a_test_that_is_not_there_is_not_found"));
}

/// The rows whose last cell is about tests.
fn lessons() -> Vec<Lesson> {
    let page = fs::read_to_string(root().join(PAGE)).expect("the page is there");
    let table = page.split("\n## ").find(|part| part.starts_with("Answered")).expect("a heading `Answered`");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let lesson = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [complaint, _answer, tests] = cells[..] else { panic!("three cells are expected: {row}") };
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Lesson { complaint: complaint.to_owned(), tests }
    };
    rows.map(lesson).collect()
}

/// Whether a path such as `system::faults::cuts::name`, or `edge::tests::name`, is that of a test.
fn exists(path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    let [first, modules @ .., name] = parts.as_slice() else { return false };
    let Some((_, directory)) = ROOTS.iter().find(|(root, _)| root == first) else { return false };
    // `tests` may be a file of its own, or stand at the end of the module's file.
    let within = modules.strip_suffix(&["tests"]).filter(|rest| !rest.is_empty());
    let files = [Some(modules), within].into_iter().flatten();
    let mut files = files.map(|modules| root().join(directory).join(modules.join("/")).with_extension("rs"));
    files.any(|file| fs::read_to_string(file).is_ok_and(|source| has_test(&source, name)))
}

fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|rest| rest.split('(').next() == Some(name))
    });
    let above = at.map_or(&[][..], |at| &lines[..at]);
    let attributes = above.iter().rev().take_while(|line| line.starts_with("#["));
    attributes.into_iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
