//! A certificate authority of a test's own, and what it signs.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::scratch::Scratch;

/// The year in which every certificate here expires that says nothing else.
const EXPIRES: i32 = 2040;

/// An authority that nobody trusts who was not given its certificate.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    scratch: Scratch,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn make() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        let scratch = Scratch::new("authority");
        // The name under which engines look for it in a directory.
        scratch.file("certs.d/ca.crt", issuer.pem());
        Self { issuer, scratch }
    }

    /// The file with the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory().join("ca.crt")
    }

    /// The directory with `ca.crt`, as container engines want it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.scratch.join("certs.d")
    }

    /// A certificate for the addresses that nodes listen on here, known by `name`.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, EXPIRES)
    }

    /// As [`Authority::issue`], valid until a year begins.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let names = ["127.0.0.1", "127.0.0.2", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}
