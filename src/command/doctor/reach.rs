//! The name and the connection: every address of the name is tried, since clients try them too.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;
use url::{Host, Url};

use super::finding::Findings;
use crate::command::words;

/// How long a name may take to be resolved.
const RESOLVE: Duration = Duration::from_secs(3);
/// How long a connection may take: long enough to tell a slow one from a dead one.
const CONNECT: Duration = Duration::from_secs(2);
/// From here on it is called slow.
const SLOW_MS: f64 = 300.0;

/// Where a connection can be made; `None` if nowhere.
pub(super) async fn reach(url: &Url, findings: &mut Findings) -> Option<SocketAddr> {
    let addresses = resolve(url, findings).await?;
    let mut attempts = Vec::new();
    for address in addresses {
        // Beside each other: many dead ones would add up to minutes.
        attempts.push((address, tokio::spawn(connect(address))));
    }
    let (mut open, mut dead) = (Vec::new(), Vec::new());
    for (address, attempt) in attempts {
        match attempt.await.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(ms) => open.push((address, ms)),
            Err(why) => dead.push((address, why)),
        }
    }
    tell(url, &open, &dead, findings);
    open.first().map(|(address, _)| *address)
}

async fn resolve(url: &Url, findings: &mut Findings) -> Option<Vec<SocketAddr>> {
    let port = url.port_or_known_default()?;
    let name = match url.host()? {
        Host::Ipv4(address) => return Some(vec![SocketAddr::from((address, port))]),
        Host::Ipv6(address) => return Some(vec![SocketAddr::from((address, port))]),
        Host::Domain(name) => name.to_owned(),
    };
    let dns = format!(
        "look at the name with `getent ahosts {name}` and at /etc/resolv.conf and /etc/hosts; clients use the same"
    );
    let began = Instant::now();
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((name.as_str(), port))).await;
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let mut addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            findings.fail("name", format!("{name} cannot be resolved: {error}"), dns);
            return None;
        }
        Err(_elapsed) => {
            findings.fail("name", format!("no name server told within {RESOLVE:?} where {name} is"), dns);
            return None;
        }
    };
    addresses.dedup();
    if addresses.is_empty() {
        findings.fail("name", format!("{name} has no address"), dns);
        return None;
    }
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let message = format!("{name} is {} ({})", list.join(", "), words::ms(ms));
    if ms > SLOW_MS {
        findings.warn(
            "name",
            format!("{message}, which is slow, and clients resolve it anew for each pull"),
            dns,
        );
    } else {
        findings.ok("name", message);
    }
    Some(addresses)
}

async fn connect(address: SocketAddr) -> Result<f64, String> {
    let began = Instant::now();
    match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => Ok(began.elapsed().as_secs_f64() * 1000.0),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {CONNECT:?}: packets are dropped on the way")),
    }
}

fn tell(url: &Url, open: &[(SocketAddr, f64)], dead: &[(SocketAddr, String)], findings: &mut Findings) {
    for (address, ms) in open {
        if *ms > SLOW_MS {
            findings.warn(
                "connect",
                format!("{address} took {} to take a connection", words::ms(*ms)),
                "the way there is long or lossy: look at it with ping and mtr; an edge belongs into its clients' datacenter",
            );
        } else {
            findings.ok("connect", format!("{address} takes connections ({})", words::ms(*ms)));
        }
    }
    for (address, why) in dead {
        let message = format!("{address} cannot be reached: {why}");
        if open.is_empty() {
            findings.fail(
                "connect",
                message,
                "see that the node runs (systemctl status roadstead-edge), that it listens at this address (--listen), \
                 and that no firewall is between",
            );
        } else {
            let host = url.host_str().unwrap_or_default();
            let family = if address.is_ipv6() { "AAAA" } else { "A" };
            findings.warn(
                "connect",
                format!(
                    "{message}, while other addresses of {host} work: clients that try it first are slow"
                ),
                format!(
                    "remove the {family} record of {} from {host}, or have the node listen there",
                    address.ip()
                ),
            );
        }
    }
}
