//! Connections to a registry: names, addresses, TLS.
//!
//! A name is looked up in the time that a connection may take. Where a [`Guard`] stands, only addresses that it admits are
//! connected to.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tower_service::Service;

use super::{ClientConfig, Guard, InvalidClient, guard::Forbidden};

pub(super) type Connector = HttpsConnector<HttpConnector<Resolver>>;

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the root.
    pub certificates: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}

/// The certificates that the system trusts: read once for all who share this, when the first of them needs it.
#[derive(Clone, Debug, Default)]
pub struct SystemRoots(Arc<OnceLock<RootCertStore>>);

impl SystemRoots {
    fn get(&self) -> &RootCertStore {
        self.0.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // A certificate of the system that cannot be read is no registry's fault: the handshake will tell.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        })
    }
}

/// Whom clients trust, made once for many of them.
#[derive(Clone)]
pub struct SharedTls(Arc<rustls::ClientConfig>);

impl fmt::Debug for SharedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTls")
    }
}

impl SharedTls {
    /// Trust in what the system trusts, and in `extra_roots`, as PEM.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(system: &SystemRoots, extra_roots: &[u8]) -> Result<Self, InvalidClient> {
        Ok(Self(Arc::new(tls(Some(system), extra_roots, None)?)))
    }
}

/// The TLS of one client.
pub(super) fn tls_of(config: &ClientConfig) -> Result<Arc<rustls::ClientConfig>, InvalidClient> {
    if let Some(SharedTls(shared)) = &config.tls {
        return Ok(shared.clone());
    }
    let system = (config.url.scheme() == "https").then_some(&config.system_roots);
    tls(system, &config.extra_roots, config.identity.as_ref()).map(Arc::new)
}

fn tls(
    system: Option<&SystemRoots>,
    extra_roots: &[u8],
    identity: Option<&ClientIdentity>,
) -> Result<rustls::ClientConfig, InvalidClient> {
    let mut roots = system.map_or_else(RootCertStore::empty, |system| system.get().clone());
    for certificate in CertificateDer::pem_slice_iter(extra_roots) {
        let certificate = certificate.map_err(|error| InvalidClient::Roots(error.to_string()))?;
        roots.add(certificate).map_err(|error| InvalidClient::Roots(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.expect("the provider supports TLS 1.2 and 1.3").with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let unusable = |why: String| InvalidClient::Identity(why);
    let certificates = CertificateDer::pem_slice_iter(&identity.certificates).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("there is no certificate in the file".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(|error| unusable(error.to_string()))?;
    builder.with_client_auth_cert(certificates, key).map_err(|error| unusable(error.to_string()))
}

/// What makes the connections of a client.
pub(super) fn connector(config: &ClientConfig, tls: Arc<rustls::ClientConfig>) -> Connector {
    let resolver = Resolver { guard: config.guard.clone(), timeout: config.connect_timeout };
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    HttpsConnector::from((tcp, tls))
}

/// Looks up names.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) guard: Option<Guard>,
    pub(super) timeout: Duration,
}

impl Resolver {
    /// The addresses of `host` that may be connected to.
    pub(super) async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::time::timeout(self.timeout, self.ask(host.to_owned(), port)).await;
        let Ok(found) = found else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{host} was not resolved in time")));
        };
        let mut addresses = found?;
        if let Some(guard) = &self.guard {
            addresses.retain(|address| guard.admits(address.ip()));
            if addresses.is_empty() {
                return Err(io::Error::other(Forbidden::Address(host.to_owned())));
            }
        }
        Ok(addresses)
    }

    async fn ask(&self, host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = match &self.guard {
            Some(guard) => guard.lookups().clone().acquire_owned().await.ok(),
            None => None,
        };
        let lookup = tokio::task::spawn_blocking(move || {
            // Held until the system's resolver has come back, which may be long after anybody waits for it.
            let _turn = turn;
            (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
        });
        lookup.await.map_err(io::Error::other)?
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        // The connector puts the port of the URL in place of this one.
        Box::pin(async move { resolver.lookup(name.as_str(), 0).await.map(Vec::into_iter) })
    }
}
