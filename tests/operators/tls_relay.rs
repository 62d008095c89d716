//! TLS before a node that speaks plain HTTP, with a certificate made on the spot by an authority that nobody knows.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// An authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// Its own certificate, which clients are given.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `names` that ended long ago or ends far from now.
    pub(super) fn sign(&self, names: &[&str], life: Life) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match life {
            Life::Over => date_time_ymd(2021, 1, 1),
            Life::Long => date_time_ymd(2100, 1, 1),
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Identity { certificate: certificate.der().clone(), key }
    }
}

/// Whether a certificate is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Over,
    Long,
}

/// A certificate with its key.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TlsRelay {
    pub(super) address: SocketAddr,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TlsRelay {
    /// Before the node at `behind`.
    pub(super) fn before(behind: SocketAddr, identity: Identity) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .expect("they belong together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it can be");
        let address = listener.local_addr().expect("it is bound");
        let over = CancellationToken::new();
        let ending = over.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads");
            runtime.block_on(async {
                tokio::select! {
                    () = relay(listener, acceptor, behind) => {}
                    () = ending.cancelled() => {}
                }
            });
        });
        Self { address, over, thread: Some(thread) }
    }
}

async fn relay(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it does not block");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Clients that do not trust it leave within the handshake.
            let Ok(mut client) = acceptor.accept(stream).await else { return };
            let Ok(mut node) = tokio::net::TcpStream::connect(behind).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
        });
    }
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
