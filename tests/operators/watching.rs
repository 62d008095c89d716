//! The dashboard and the alert rules in `docs/` are about metrics that exist, and say what to do.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::harness::{
    cache::Store,
    content::Content,
    http::get,
    image::Image,
    node::Plan,
    process::{program, run},
};

const DASHBOARD: &str = "docs/dashboards/edge.json";
const ALERTS: &str = "docs/alerts/roadstead.yml";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all samples that an origin and an edge before it show.
fn real_names() -> BTreeSet<String> {
    let origin = Plan::origin().start();
    Image::make("names_of_metrics", 2, 100_000).push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    for _ in 0..2 {
        Content::read(edge.address, "team/app", "v1");
        edge.finishes_downloads();
    }
    // So that a blob has left the store: nothing is counted that never happened.
    Store(edge.address).post("evict", "team/app:v1").expect(200);
    let pages = [origin.address, edge.address].map(|address| get(address, "/metrics").expect(200).text());
    let lines = pages.iter().flat_map(|page| page.lines()).filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// Every word of ours in a text of expressions.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("roadstead_")).map(str::to_owned).collect()
}

/// Every text under `key`, wherever it is.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match inner {
                    Value::String(text) if name == key => found.push(text),
                    _ => texts(inner, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_metric_of_dashboard_and_alerts_is_one_that_a_node_shows() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let mut expressions = Vec::new();
    texts(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() >= 10, "{expressions:?}");
    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(
            panel["description"].as_str().is_some_and(|text| text.len() > 20),
            "{} has no description",
            panel["title"]
        );
    }
    let wanted = names_in(&format!("{} {}", expressions.join(" "), read(ALERTS)));
    assert!(wanted.len() >= 12, "{wanted:?}");
    let real = real_names();
    let missing: Vec<_> = wanted.difference(&real).collect();
    assert!(missing.is_empty(), "no node shows {missing:?}; what they show: {real:?}");
}

#[test]
fn prometheus_takes_the_alert_rules_and_each_says_what_to_do() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
    let said = run(program("promtool").args(["check", "rules"]).arg(&path));
    assert!(said.contains("SUCCESS"), "{said}");
    // One rule after the other, as the file has them.
    let text = read(ALERTS);
    let rules: Vec<&str> = text.split("- alert: ").skip(1).collect();
    assert!(said.contains(&format!("{} rules found", rules.len())), "{said}");
    for rule in rules {
        let name = rule.lines().next().unwrap_or_default();
        for field in ["summary: ", "description: ", "runbook: ", "severity: "] {
            let line = rule.lines().map(str::trim).find_map(|line| line.strip_prefix(field));
            assert!(
                line.is_some_and(|told| field == "severity: " || told.len() > 20),
                "{name} has no {field}"
            );
        }
    }
}

#[test]
fn the_rules_fire_on_what_they_are_about() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS);
    let scratch = crate::harness::scratch::Scratch::new("promtool");
    let tests = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operators/alerts.yml"));
    let tests = tests.expect("the rules' tests").replace("RULES", &rules.display().to_string());
    let said = run(program("promtool").args(["test", "rules", &scratch.file("alerts.yml", tests)]));
    assert!(said.contains("SUCCESS"), "{said}");
}
