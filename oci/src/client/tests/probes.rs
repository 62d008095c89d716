//! What a person is told who asks why nothing can be pulled.

use super::{
    super::{Probe, StepName},
    redirects::{LOCALHOST, localhost},
    *,
};

fn steps(probe: &Probe) -> Vec<(StepName, bool)> {
    probe.steps.iter().map(|step| (step.name, step.outcome.is_ok())).collect()
}

fn last(probe: &Probe) -> String {
    match &probe.steps.last().expect("a step").outcome {
        Ok(detail) | Err(detail) => detail.clone(),
    }
}

#[tokio::test]
async fn every_step_is_told_and_the_clock_compared() {
    let registry = Registry::with_tls(localhost(), |request| {
        match (request.target.as_str(), request.header("authorization")) {
            ("/v2/", Some(_)) => Reply::ok("{}"),
            _ => Reply::new("401 Unauthorized")
                .header("WWW-Authenticate", "Basic realm=\"x\"")
                .header("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        }
    })
    .await;
    let config = ClientConfig { extra_roots: LOCALHOST.to_vec(), ..config(&registry) };
    let named = Client::new(ClientConfig { credentials: Some(user()), ..config.clone() }).expect("good");
    let probe = named.probe().await;
    let all =
        [StepName::Resolve, StepName::Connect, StepName::Tls, StepName::Version, StepName::Authenticate];
    assert_eq!(steps(&probe), all.map(|name| (name, true)), "{probe:?}");
    assert!(last(&probe).contains("as ship"), "{probe:?}");
    assert!(probe.clock_skew.is_some_and(|skew| skew < -1_000_000_000), "{probe:?}");
    let nobody = Client::new(config).expect("good").probe().await;
    assert_eq!(steps(&nobody).last(), Some(&(StepName::Authenticate, false)));
    let distrusting = client(&registry).probe().await;
    assert_eq!(steps(&distrusting).last(), Some(&(StepName::Tls, false)), "{distrusting:?}");
    assert!(last(&distrusting).to_lowercase().contains("certificate"), "{distrusting:?}");
}

#[tokio::test]
async fn a_token_service_is_asked_and_its_refusal_told() {
    for (answer, expected) in [(r#"{"token":"good"}"#, true), ("{}", false)] {
        let registry = Registry::start(move |request| {
            if request.target.starts_with("/token") {
                return Reply::ok(answer);
            }
            let challenge = format!(r#"Bearer realm="http://{}/token",service="x""#, request.host());
            Reply::new("401 Unauthorized").header("WWW-Authenticate", &challenge)
        })
        .await;
        let probe = client(&registry).probe().await;
        assert_eq!(steps(&probe).last(), Some(&(StepName::Authenticate, expected)), "{probe:?}");
    }
}

#[tokio::test]
async fn what_is_no_registry_is_found_out_at_its_version() {
    let page = || Reply::ok("<html>").header("Content-Type", "text/html");
    for reply in [page(), Reply::new("404 Not Found"), Reply::new("401 Unauthorized"), Reply::nothing()] {
        let registry = Registry::start(move |_| reply.clone()).await;
        let probe = client(&registry).probe().await;
        assert_eq!(steps(&probe).last(), Some(&(StepName::Version, false)), "{probe:?}");
    }
}
