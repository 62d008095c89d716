//! A certificate and its key, as files and as what rustls serves with.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest as _, Sha256};

/// The largest file that is read, in bytes: a chain of some dozen certificates has a tenth of it.
const MAX_FILE: u64 = 1 << 20;

/// The protocols that are offered, the first one preferred.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM: the node's own certificate, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// Why a certificate and a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The certificate's file cannot be read.
    #[error("tls.certificate: {0}")]
    Certificate(FileError),
    /// The key's file cannot be read.
    #[error("tls.key: {0}")]
    Key(FileError),
    /// The first certificate is that of another key.
    #[error(
        "tls.key: {} is not the key of the first certificate in {}", key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Both are there, and TLS cannot use them.
    #[error("tls.certificate: {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What rustls says.
        reason: String,
    },
}

/// What is wrong with one of the two files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It has more than a megabyte.
    #[error("{} is too large", .0.display())]
    TooLarge(PathBuf),
    /// It has none of what it should have.
    #[error("{} has no {wanted} in PEM form in it", path.display())]
    Lacking {
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// It has something that looks right and is not.
    #[error("{} cannot be read as PEM: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Files {
    /// Reads both files.
    pub(super) fn read(&self) -> Result<Contents, PairError> {
        let certificate = read(&self.certificate).map_err(PairError::Certificate)?;
        let key = read(&self.key).map_err(PairError::Key)?;
        Ok(Contents { files: self.clone(), certificate, key })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable =
        |error: io::Error| FileError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// What both files held at one time.
pub(super) struct Contents {
    files: Files,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Tells contents apart without keeping the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(read: &Result<Contents, PairError>) -> Self {
        let mut hash = Sha256::new();
        match read {
            Ok(contents) => {
                hash.update(contents.certificate.len().to_le_bytes());
                hash.update(&contents.certificate);
                hash.update(&contents.key);
            }
            Err(error) => hash.update(error.to_string()),
        }
        Self(hash.finalize().into())
    }
}

/// A certificate with its key, ready to serve with.
pub(super) struct Pair {
    pub(super) config: ServerConfig,
    pub(super) expires: SystemTime,
}

impl Contents {
    pub(super) fn pair(&self) -> Result<Pair, PairError> {
        let Files { certificate: path, key: key_path } = &self.files;
        let chain = chain(path, &self.certificate).map_err(PairError::Certificate)?;
        let key = key(key_path, &self.key).map_err(PairError::Key)?;
        let unusable = |reason: String| PairError::Unusable { path: path.clone(), reason };
        let expires = expiry(&chain[0]).map_err(unusable)?;
        let provider = provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                PairError::Mismatch { certificate: path.clone(), key: key_path.clone() }
            }
            error => unusable(error.to_string()),
        })?;
        let config = config(certified, provider).map_err(|error| unusable(error.to_string()))?;
        Ok(Pair { config, expires })
    }
}

/// The certificates of a file, at least one.
fn chain(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(FileError::Lacking { path: path.to_owned(), wanted: "certificate" })
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(FileError::Malformed { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => FileError::Lacking { path: path.to_owned(), wanted: "private key" },
        error => FileError::Malformed { path: path.to_owned(), reason: error.to_string() },
    })
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<SystemTime, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("it is not a certificate: {error}"))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| "it expires at no time that there is".to_owned())
}

/// AES with 128 bits before AES with 256: as safe for as long as a connection lasts, and a quarter faster, which is what
/// a client pays for most of what it does here. A client that offers only the longer key gets it.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn config(certified: CertifiedKey, provider: CryptoProvider) -> Result<ServerConfig, rustls::Error> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions)?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.ignore_client_order = true;
    Ok(config)
}
