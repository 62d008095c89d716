//! What operators are served, where, and what a node reads again when they tell it to.

use std::fs;

use crate::harness::{
    http::{get, request},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

const OF_OPERATORS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

fn both(settings: &[(&str, &str)]) -> [Node; 2] {
    let set = |plan: Plan| settings.iter().fold(plan, |plan, (key, value)| plan.set(key, value)).start();
    let origin = set(Plan::origin());
    let edge = set(Plan::edge(origin.address));
    [origin, edge]
}

#[test]
fn operators_have_their_own_address_where_one_is_set_and_clients_do_not_have_theirs() {
    for node in both(&[("admin.listen", "[\"127.0.0.3:0\"]")]) {
        assert_ne!(node.operators, node.address);
        for path in OF_OPERATORS {
            assert_eq!(get(node.operators, path).status, 200, "{path}");
            assert_eq!(get(node.address, path).status, 404, "{path}");
        }
        assert_eq!(get(node.address, "/v2/").status, 200);
        assert_eq!(get(node.operators, "/v2/").status, 404);
        // Whatever answers or refuses there, it is not at the clients' address.
        for path in ["/api/v1/cache", "/api", "/api/v1/node"] {
            assert_eq!(get(node.address, path).status, 404, "{path}");
        }
    }
}

#[test]
fn operators_are_served_at_the_clients_address_by_default() {
    for node in both(&[]) {
        assert_eq!(node.operators, node.address);
        for path in OF_OPERATORS {
            assert_eq!(get(node.address, path).status, 200, "{path}");
        }
    }
}

#[test]
fn the_operator_api_is_at_the_operators_address_and_still_asks_who_calls() {
    let [_origin, edge] = both(&[("admin.listen", "[\"127.0.0.3:0\"]")]);
    let answer = get(edge.operators, "/api/v1/cache").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let forwarded = [("X-Forwarded-For", "10.0.0.1")];
    request(edge.operators, "GET", "/api/v1/cache", &forwarded, &[]).expect(403);
}

#[test]
fn operators_see_a_drain_to_its_end() {
    let origin = Plan::origin().set("admin.listen", "[\"127.0.0.3:0\"]").start();
    // A push that has begun and does not go on holds the drain.
    let mut connection = crate::harness::http::Connection::open(origin.address).expect("it listens");
    let upload = crate::harness::large::start_upload(origin.address, "team/app");
    connection.send_head("PATCH", &upload, &[("Content-Length", "1000")]).expect("sent");
    wait_for("the push has begun", PATIENCE, || {
        (origin.metrics().count("roadstead_http_requests_running", &[]) == 2).then_some(())
    });
    origin.sigterm();
    wait_for("operators are told of the drain", PATIENCE, || {
        let answer = get(origin.operators, "/readyz");
        (answer.status == 503 && answer.text().contains("draining")).then_some(())
    });
    connection.send(&[0; 1000]).expect("sent");
    connection.read_answer().expect("an answer comes").expect(202);
}

#[test]
fn sighup_changes_what_can_be_changed_and_names_what_needs_a_restart() {
    let plan = Plan::origin();
    let before = "drain = \"20s\"\n[log]\nlevel = \"info\"\n";
    let mut origin = plan.config(before).start();
    let file = origin.plan().beside("config.toml");
    get(origin.address, "/v2/").expect(200);
    assert!(!origin.log().contains("path=\"/v2/\""), "requests are not logged yet: {}", origin.log());

    fs::write(&file, "drain = \"10s\"\n[log]\nlevel = \"info,oci=debug\"\n[gc]\ngrace = \"48h\"\n")
        .expect("written");
    origin.sighup();
    let said = wait_for("the change is told of", PATIENCE, || {
        origin.log().lines().find(|line| line.contains("need a restart")).map(str::to_owned)
    });
    assert!(said.contains("drain") && said.contains("gc.grace") && !said.contains("log.level"), "{said}");
    get(origin.address, "/v2/").expect(200);
    wait_for("requests are logged now", PATIENCE, || origin.log().contains("/v2/").then_some(()));

    fs::write(&file, "drain = \"never\"\nunknown = 1\n").expect("written");
    origin.sighup();
    let said = wait_for("the mistakes are told of", PATIENCE, || {
        origin.log().lines().find(|line| line.contains("nothing is changed")).map(str::to_owned)
    });
    assert!(said.contains("drain") && said.contains("unknown"), "{said}");
    get(origin.address, "/v2/").expect(200);
    assert_eq!(origin.leave(), Some(0), "SIGHUP has ended nothing");
}
