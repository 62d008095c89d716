//! What is wrong with a certificate, in words; and which authority's certificate would make it trusted.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use jiff::Timestamp;
use rustls::CertificateError;
use url::Url;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{finding::Findings, tls::Presented};
use crate::command::words;

/// A certificate that ends within this time is one to renew now.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Tells all of it. Whether this machine trusts it.
pub(super) fn judge(url: &Url, host: &str, presented: &Presented, findings: &mut Findings) -> bool {
    let Some(Ok((_, leaf))) = presented.chain.first().map(|der| X509Certificate::from_der(der)) else {
        findings.fail("tls", "the certificate cannot be read", "give the node another one (tls.certificate)");
        return false;
    };
    let names = names(&leaf);
    let issuer = leaf.issuer().to_string();
    tell_validity(&leaf, findings);
    match &presented.verdict {
        Ok(()) => {
            findings.ok(
                "tls",
                format!("the certificate is for {}, signed by {issuer}, trusted here", names.join(", ")),
            );
            true
        }
        Err(rustls::Error::InvalidCertificate(why)) => {
            tell_distrust(url, host, why, presented, &names, findings);
            false
        }
        Err(error) => {
            findings.fail("tls", format!("the certificate is refused: {error}"), "give the node another one");
            false
        }
    }
}

fn tell_validity(leaf: &X509Certificate<'_>, findings: &mut Findings) {
    let date = |seconds: i64| {
        Timestamp::from_second(seconds)
            .map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
    };
    let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    let now = Timestamp::now().as_second();
    let left = Duration::from_secs(u64::try_from(until - now).unwrap_or(0));
    let renew = "renew it: put the new one where tls.certificate and tls.key point to, and the node reads it";
    if now < from {
        let clock = "look at this machine's clock and at the one that signed it";
        findings.fail("tls", format!("the certificate is valid only from {} on", date(from)), clock);
    } else if left.is_zero() {
        let ago = words::span(Duration::from_secs(u64::try_from(now - until).unwrap_or(0)));
        findings.fail("tls", format!("the certificate ended on {}, {ago} ago", date(until)), renew);
    } else if left < SOON {
        findings.warn(
            "tls",
            format!("the certificate ends on {}, in {}", date(until), words::span(left)),
            renew,
        );
    } else {
        findings
            .ok("tls", format!("the certificate is valid until {}, for {}", date(until), words::span(left)));
    }
}

fn tell_distrust(
    url: &Url,
    host: &str,
    why: &CertificateError,
    presented: &Presented,
    names: &[String],
    findings: &mut Findings,
) {
    match why {
        // Told by the dates already.
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {}
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => findings.fail(
            "tls",
            format!("the certificate is for {}, and not for {host}", names.join(", ")),
            format!("reach the node by one of those names, or give it a certificate that names {host}"),
        ),
        CertificateError::UnknownIssuer => tell_unknown_issuer(url, presented, findings),
        other => findings.fail(
            "tls",
            format!("the certificate is refused: {other:?}"),
            "give the node another one",
        ),
    }
}

fn tell_unknown_issuer(url: &Url, presented: &Presented, findings: &mut Findings) {
    // The authority that is missing here is the one that signed the last certificate of the chain.
    let last = presented.chain.last().and_then(|der| X509Certificate::from_der(der).ok());
    let (issuer, own) = last.map_or_else(
        || ("an unknown authority".to_owned(), false),
        |(_, last)| (last.issuer().to_string(), last.issuer() == last.subject()),
    );
    let place = place(url);
    let whose = match (own, presented.chain.len()) {
        (true, 1) => "it is signed by itself".to_owned(),
        (true, _) => format!("its authority is {issuer}, which the node sends along"),
        (false, 1) => {
            format!("it is signed by {issuer}, alone (if that is no root, the node should send it along)")
        }
        (false, _) => format!("its chain ends at {issuer}"),
    };
    findings.fail(
        "tls",
        format!("the certificate is not trusted here: {whose}"),
        format!(
            "get the certificate of {issuer} and give it: here with --ca FILE; to containerd as ca = \"FILE\" in \
             hosts.toml; to dockerd as /etc/docker/certs.d/{place}/ca.crt; to podman, skopeo and CRI-O as \
             /etc/containers/certs.d/{place}/ca.crt; or to all of them with update-ca-certificates"
        ),
    );
}

/// Host and port as clients name the directory of a registry's certificates.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names).filter_map(name);
    let names: Vec<String> = names.collect();
    if names.is_empty() { vec![format!("no name ({})", leaf.subject())] } else { names }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|octets| Ipv4Addr::from(octets).to_string());
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|octets| Ipv6Addr::from(octets).to_string()))
                .ok()
        }
        _ => None,
    }
}
