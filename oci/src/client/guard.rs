//! Where a client may go whose registry was named by a stranger: over TLS, to the port that the name says, and to addresses
//! of the public Internet only, unless configured otherwise.
//!
//! Addresses are looked at when the connection is made, so a name that resolves to something else the second time does not
//! pass. Redirects and token services are held to the same.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
};

use ipnet::IpNet;
use tokio::sync::Semaphore;
use url::{Host, Url};

/// How many names that strangers gave are looked up at once. Each takes a thread for as long as the resolver likes.
const LOOKUPS: usize = 32;

/// Where a client may go; see the module.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    opened: Vec<IpNet>,
    lookups: Arc<Semaphore>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?})", self.0.opened)
    }
}

/// Why a client did not go somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Neither `https` nor a port that the registry's name says.
    #[error("{0} is not https at the registry's own port or 443")]
    Url(Url),
    /// An address that is not one of the public Internet, or this node's own.
    #[error("{0} is at no address that this client may go to")]
    Address(String),
}

impl Guard {
    /// To public addresses, and to those of `opened`.
    pub fn new(opened: Vec<IpNet>) -> Self {
        Self(Arc::new(Rules { opened, lookups: Arc::new(Semaphore::new(LOOKUPS)) }))
    }

    /// Whether a connection to `address` may be made.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.opened.iter().any(|network| network.contains(&address))
            || (is_public(address) && !is_own(address))
    }

    /// Whether `url` may be asked on behalf of `registry`. A name in it is looked at again when it has an address.
    pub(super) fn check(&self, registry: &Url, url: &Url) -> Result<(), Forbidden> {
        let port = url.port_or_known_default();
        if url.scheme() != "https" || !(port == Some(443) || port == registry.port_or_known_default()) {
            return Err(Forbidden::Url(without_secrets(url)));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Forbidden::Url(without_secrets(url))),
        };
        if self.admits(address) { Ok(()) } else { Err(Forbidden::Address(address.to_string())) }
    }

    /// A turn to look up a name.
    pub(super) fn lookups(&self) -> &Arc<Semaphore> {
        &self.0.lookups
    }
}

/// A redirect's query is its signature.
fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    url
}

/// Whether an address is one of the public Internet: none of the special-purpose blocks of RFC 6890 and its successors, and
/// none that hides an IPv4 address in it (NAT64, 6to4, Teredo), which may be any.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // This network, loopback, and all of class E with the broadcast address.
        [0 | 127 | 240..=255, ..] => true,
        // Private (RFC 1918) and link-local.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [169, 254, ..] => true,
        // Shared by carriers (RFC 6598), benchmarks (RFC 2544).
        [100, 64..=127, ..] | [198, 18..=19, ..] => true,
        // IETF protocols, documentation, 6to4's relay.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => true,
        [224..=239, ..] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let special = match address.segments() {
        // IETF protocols with Teredo and ORCHID, documentation, 6to4, documentation again (RFC 9637).
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => true,
        _ => false,
    };
    // Only 2000::/3 is given out. Everything else is loopback, link-local, unique local, multicast, NAT64, or nothing yet.
    address.segments()[0] >> 13 == 1 && !special
}

/// Whether this node itself has the address: only then can a socket be bound to it.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_not_the_public_internet_is_out_of_reach() {
        let guard = Guard::new(Vec::new());
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!guard.admits(address(special)), "{special}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860::8888",
        ] {
            assert!(guard.admits(address(public)), "{public}");
        }
    }

    #[test]
    fn configured_networks_are_within_reach() {
        let opened =
            vec!["10.1.0.0/16".parse().expect("a network"), "127.0.0.0/8".parse().expect("a network")];
        let guard = Guard::new(opened);
        for within in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1"] {
            assert!(guard.admits(address(within)), "{within}");
        }
        for without in ["10.2.0.1", "169.254.169.254", "::1"] {
            assert!(!guard.admits(address(without)), "{without}");
        }
    }

    #[test]
    fn only_https_at_the_registrys_port_or_443_is_asked() {
        let guard = Guard::new(Vec::new());
        let url = |text: &str| text.parse::<Url>().expect("a URL");
        let registry = url("https://r.example:5000");
        for good in ["https://r.example:5000/v2/", "https://cdn.example/x", "https://8.8.8.8/x"] {
            assert_eq!(guard.check(&registry, &url(good)), Ok(()), "{good}");
        }
        for bad in [
            "http://r.example:5000/v2/",
            "https://r.example:22/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/",
        ] {
            assert!(guard.check(&registry, &url(bad)).is_err(), "{bad}");
        }
        let shown = guard.check(&registry, &url("http://a.example/x?secret=1")).expect_err("forbidden");
        assert!(!shown.to_string().contains("secret"), "{shown}");
    }

    #[test]
    fn an_address_of_this_node_is_its_own() {
        assert!(is_own(address("127.0.0.1")));
        assert!(!is_own(address("8.8.8.8")));
    }
}
