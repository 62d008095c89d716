//! How clients name things at an edge: `/v2/<repository>/…`, the same with `?ns=<registry>`, and
//! `/v2/<registry>/<repository>/…`.

use std::borrow::Cow;

use oci::error::{ApiError, ErrorCode};

/// The longest host name with a port that is looked at, in bytes.
const MAX_REGISTRY: usize = 255;

/// A decoded path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    /// The registry that the client named, if it named one.
    pub registry: Option<Cow<'a, str>>,
    /// The path as the registry itself knows it.
    pub path: Cow<'a, str>,
}

/// Finds the registry in a decoded `path`, or in `ns`.
///
/// # Errors
/// `ns` is not the name of a host, or path and `ns` name different registries.
pub(crate) fn split<'a>(path: &'a str, ns: Option<&'a str>) -> Result<Named<'a>, ApiError> {
    if let Some(ns) = ns
        && !is_registry(ns)
    {
        return Err(
            ErrorCode::NameInvalid.error("ns must be the name of a registry: a host, and a port if need be")
        );
    }
    let inner = path.strip_prefix("/v2/").and_then(|rest| rest.split_once('/'));
    let in_path = inner.filter(|(first, _)| looks_like_registry(first) && is_registry(first));
    match (in_path, ns) {
        (Some((first, _)), Some(ns)) if first != ns => {
            // With `ns` the path is the registry's own, which may have repositories such as `a.b/c`.
            Ok(Named { registry: Some(ns.into()), path: path.into() })
        }
        (Some((first, rest)), _) => {
            Ok(Named { registry: Some(first.into()), path: format!("/v2/{rest}").into() })
        }
        (None, ns) => Ok(Named { registry: ns.map(Into::into), path: path.into() }),
    }
}

/// A first path element that is a host and not the beginning of a repository's name, by the rule that docker's reference
/// grammar made a habit.
fn looks_like_registry(element: &str) -> bool {
    element.contains('.') || element.contains(':') || element == "localhost"
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= MAX_REGISTRY
        && host.split('.').all(label)
        && port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn named(path: &str, ns: Option<&str>, registry: Option<&str>, inner: &str) {
        let named = split(path, ns).expect(path);
        assert_eq!((named.registry.as_deref(), named.path.as_ref()), (registry, inner), "{path} {ns:?}");
    }

    #[test]
    fn the_three_forms_name_the_same() {
        named("/v2/team/app/manifests/v1", None, None, "/v2/team/app/manifests/v1");
        named("/v2/team/app/manifests/v1", Some("r.example"), Some("r.example"), "/v2/team/app/manifests/v1");
        named("/v2/r.example/team/app/manifests/v1", None, Some("r.example"), "/v2/team/app/manifests/v1");
        named("/v2/127.0.0.1:5000/app/manifests/v1", None, Some("127.0.0.1:5000"), "/v2/app/manifests/v1");
        named("/v2/localhost/app/manifests/v1", None, Some("localhost"), "/v2/app/manifests/v1");
        named("/v2/", None, None, "/v2/");
    }

    #[test]
    fn with_ns_a_dotted_repository_stays_one() {
        named("/v2/a.b/c/manifests/v1", Some("r.example"), Some("r.example"), "/v2/a.b/c/manifests/v1");
        named("/v2/r.example/c/manifests/v1", Some("r.example"), Some("r.example"), "/v2/c/manifests/v1");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for ns in [
            "",
            "a/b",
            "http://r.example",
            "r.example:0",
            "r.example:99999",
            "-r.example",
            "r..example",
            "a@b",
            "[::1]:80",
            "r.example:+80",
        ] {
            assert!(split("/v2/a/manifests/v1", Some(ns)).is_err(), "{ns}");
        }
    }
}
