//! Who may call the operator API: until a node has users, whoever works on the node itself.
//!
//! That is a client whose address is loopback. Two kinds of strangers have one as well, and are refused: clients of a proxy
//! on this host, which says for whom it asks; and pages in a browser on this host, which names their origin, or was led
//! here by a name that its owner lets point to loopback (DNS rebinding).

use std::net::IpAddr;

use http::{HeaderMap, Request, StatusCode, Version, header};
use oci::http::{Client, RequestBody};

use super::problem::Problem;

/// A proxy adds at least one of these.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Whether the request may be answered.
pub(super) fn admit(request: &Request<RequestBody>) -> Result<(), Problem> {
    let remote = request.extensions().get::<Client>().map(|client| client.remote.ip());
    if request.version() < Version::HTTP_11 {
        // What nginx speaks by default, without a word of whom it asks for.
        let why = "the operator API is not served to HTTP/1.0, which is how proxies ask: call it on this node itself";
        return Err(Problem::new(StatusCode::FORBIDDEN, why));
    }
    refusal(remote, request.headers()).map_or(Ok(()), |why| Err(Problem::new(StatusCode::FORBIDDEN, why)))
}

/// Why a client at `remote` that sends `headers` is refused.
fn refusal(remote: Option<IpAddr>, headers: &HeaderMap) -> Option<&'static str> {
    if !remote.is_some_and(|address| address.to_canonical().is_loopback()) {
        return Some(
            "the operator API is served to clients on this node only: call it from there, at a loopback address",
        );
    }
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Some("the operator API is not served through a proxy: call it on this node itself");
    }
    if headers.contains_key(header::ORIGIN) {
        return Some("the operator API is not served to pages in a browser");
    }
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("."));
    if host.is_some_and(|host| !is_near(host)) {
        return Some("call the operator API by an address, by localhost, or by a host name without a dot");
    }
    None
}

/// An address, or a name that nobody on the Internet can own.
fn is_near(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(remote: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        let remote: Option<IpAddr> = remote.parse().ok();
        refusal(remote, &headers).is_none()
    }

    #[test]
    fn only_clients_on_the_node_itself_are_served() {
        for remote in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(asked(remote, &[("host", "127.0.0.1:5001")]), "{remote}");
        }
        for remote in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "nobody"] {
            assert!(!asked(remote, &[("host", "127.0.0.1:5001")]), "{remote}");
        }
    }

    #[test]
    fn neither_a_proxys_clients_nor_a_browsers_pages_pass_for_them() {
        for header in [
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("via", "1.1 proxy"),
            ("origin", "http://evil.example"),
            ("host", "evil.example"),
            ("host", "evil.example:5001"),
            ("host", "evil.example:"),
        ] {
            assert!(!asked("127.0.0.1", &[header]), "{header:?}");
        }
        for host in ["localhost:5001", "edge-1", "[::1]:5001", "127.0.0.2", "10.0.0.7:5001"] {
            assert!(asked("127.0.0.1", &[("host", host)]), "{host}");
        }
    }
}
