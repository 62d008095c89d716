//! TLS: whether clients will trust what is served, for how long, and which certificate would help if they do not.
//!
//! The handshake is made with whatever certificate comes, so that all that is wrong with it can be told; nothing is sent on
//! such a connection.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::{certificate, finding::Findings};
use crate::command::{
    http::{innermost, roots},
    words,
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What was presented, and what the verifier of this machine says of it.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) verdict: Result<(), rustls::Error>,
}

/// Remembers what was presented, and lets it pass.
#[derive(Debug)]
struct Recorder {
    verifier: Arc<WebPkiServerVerifier>,
    presented: Mutex<Option<Presented>>,
}

/// Makes a handshake and looks at the certificate. Whether clients with the same trust can go on.
pub(super) async fn shake_hands(
    url: &Url,
    address: SocketAddr,
    ca: Option<&Path>,
    findings: &mut Findings,
) -> anyhow::Result<bool> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let roots = roots(ca)?;
    if roots.is_empty() {
        findings.fail(
            "tls",
            "this machine trusts no certificate authority at all",
            "install the package ca-certificates, or give the authority's certificate with --ca FILE",
        );
        return Ok(false);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let recorder = Arc::new(Recorder { verifier, presented: Mutex::default() });
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.clone())?;
    let began = Instant::now();
    let shaken = tokio::time::timeout(HANDSHAKE, async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    });
    let protocol = match shaken.await {
        Ok(Ok(stream)) => stream.get_ref().1.protocol_version().map(|version| format!("{version:?}")),
        Ok(Err(error)) => {
            findings.fail(
                "tls",
                format!("no TLS with {address}: {}", innermost(&error)),
                "see that this port speaks TLS (tls.certificate and tls.key are set); if it is plain HTTP, write http://",
            );
            return Ok(false);
        }
        Err(_elapsed) => {
            findings.fail(
                "tls",
                format!(
                    "{address} takes a connection and does not answer a TLS handshake within {HANDSHAKE:?}"
                ),
                "see that the process behind this port is well; if it is plain HTTP, write http://",
            );
            return Ok(false);
        }
    };
    let ms = words::ms(began.elapsed().as_secs_f64() * 1000.0);
    findings.ok("tls", format!("{} in {ms}", protocol.as_deref().unwrap_or("a handshake")));
    let presented = recorder.presented.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(presented.is_some_and(|presented| certificate::judge(url, &host, &presented, findings)))
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let chain = [end_entity].into_iter().chain(intermediates).map(|one| one.clone().into_owned());
        let presented = Presented { chain: chain.collect(), verdict: verdict.map(drop) };
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
