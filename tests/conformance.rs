//! The OCI conformance suite, whole, over every database and every store: no check fails, and none is left out.

use std::io::Write;

use crate::harness::{
    node::Plan,
    postgres,
    process::{cached, program},
    s3::{Bucket, Versitygw},
    scratch::Scratch,
};

/// A version of the specification, and how many checks the suite has for it at the least: it ends happily where its
/// configuration leaves checks out.
struct Specification {
    version: &'static str,
    checks: u64,
}

const SPECIFICATIONS: [Specification; 2] =
    [Specification { version: "1.1", checks: 850 }, Specification { version: "dev", checks: 970 }];

#[test]
fn conforms_on_sqlite_with_files() {
    conforms("SQLite with files", &Plan::origin());
}

#[test]
fn conforms_on_postgresql_with_s3() {
    conforms("PostgreSQL with SeaweedFS", &Bucket::seaweedfs().store_of(on_postgresql()));
}

#[test]
fn conforms_on_postgresql_with_files() {
    conforms("PostgreSQL with files", &on_postgresql());
}

#[test]
fn conforms_on_sqlite_with_s3() {
    let store = Versitygw::start();
    conforms("SQLite with versitygw", &store.bucket.store_of(Plan::origin()));
}

fn on_postgresql() -> Plan {
    Plan::origin().set("database.url", &postgres::new_database())
}

fn conforms(what: &str, plan: &Plan) {
    let origin = plan.start();
    for Specification { version, checks } in SPECIFICATIONS {
        let results = Scratch::new("conformance");
        let mut suite = program(cached("conformance"));
        suite
            .env("OCI_REGISTRY", origin.address.to_string())
            .env("OCI_TLS", "disabled")
            .env("OCI_VERSION", version);
        suite.env("OCI_RESULTS_DIR", results.path()).env("OCI_REPO1", format!("conformance/one-{version}"));
        suite.env("OCI_REPO2", format!("conformance/two-{version}")).current_dir(results.path());
        // Its exit code tells of failures as well, and its report says which.
        let output = suite.output().expect("the suite starts");
        let report = std::fs::read_to_string(results.join("junit.xml"));
        let report = report.unwrap_or_else(|error| {
            panic!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr))
        });
        let [tests, failures, errors, skipped, disabled] =
            ["tests", "failures", "errors", "skipped", "disabled"].map(|name| attribute(&report, name));
        let ran = tests - skipped - disabled;
        // Past the capture of test output: the counts belong to every run's record.
        writeln!(std::io::stdout(), "{what}, specification {version}: {ran} checks ran, {failures} failed, {skipped} skipped, {disabled} disabled").expect("standard output is open");
        let failed = failed(&report);
        assert!(failed.is_empty(), "on {what}, specification {version}:\n{}", failed.join("\n"));
        assert_eq!((failures, errors), (0, 0), "and the suite's own sum says so");
        assert!(ran >= checks, "only {ran} checks ran on {what}, specification {version}");
    }
}

/// A count of the first `<testsuite>`, which holds all; one that is absent is none.
fn attribute(report: &str, name: &str) -> u64 {
    let suite = report
        .split("<testsuite ")
        .nth(1)
        .and_then(|rest| rest.split('>').next())
        .expect("the report has a suite");
    let value = suite.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The checks that neither passed nor were left out, with what the suite says of each.
fn failed(report: &str) -> Vec<String> {
    let fine = [" status=\"passed\"", " status=\"skipped\"", " status=\"disabled\""];
    let cases = report.split("<testcase ").skip(1);
    let failed = cases.filter(|case| {
        !fine.iter().any(|status| case.split('>').next().is_some_and(|tag| tag.contains(status)))
    });
    failed
        .map(|case| {
            case.split("<system-err>").next().unwrap_or(case).replace("&#xA;", "; ").replace("&#34;", "\"")
        })
        .collect()
}
