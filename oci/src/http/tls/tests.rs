use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// Writes a certificate for `name` and its key into `dir`.
pub(crate) fn write_pair(dir: &Path, name: &str) -> Files {
    let files = Files { certificate: dir.join("node.pem"), key: dir.join("node.key") };
    let (certificate, key) = pair(name, 2040);
    fs::write(&files.certificate, certificate).expect("written");
    fs::write(&files.key, key).expect("written");
    files
}

fn pair(name: &str, expires: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_after = date_time_ymd(expires, 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
}

fn load(files: &Files) -> Result<Tls, PairError> {
    Tls::load(files.certificate.clone(), files.key.clone())
}

#[test]
fn what_cannot_be_served_with_is_refused_with_the_key_of_the_setting() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let files = write_pair(dir.path(), "a.example");
    let (certificate, key) =
        (fs::read(&files.certificate).expect("read"), fs::read(&files.key).expect("read"));
    let said = || load(&files).expect_err("refused").to_string();

    fs::write(&files.certificate, &certificate[..certificate.len() / 2]).expect("written");
    assert!(said().starts_with("tls.certificate: "), "{}", said());
    fs::write(&files.certificate, "").expect("written");
    assert!(said().contains("no certificate in PEM form"), "{}", said());
    fs::remove_file(&files.certificate).expect("removed");
    assert!(said().contains("cannot be read"), "{}", said());
    fs::write(&files.certificate, pair("other.example", 2040).0).expect("written");
    assert!(said().contains("is not the key of the first certificate"), "{}", said());
    fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    assert!(said().contains("is not a certificate"), "{}", said());

    fs::write(&files.certificate, &certificate).expect("written");
    fs::write(&files.key, &certificate).expect("written");
    assert!(said().starts_with("tls.key: ") && said().contains("no private key"), "{}", said());
    fs::write(&files.key, vec![b'x'; 2 << 20]).expect("written");
    assert!(said().contains("too large"), "{}", said());
    fs::write(&files.key, &key).expect("written");
    load(&files).expect("a good pair");
}

#[test]
fn a_pair_is_taken_when_it_is_whole_and_not_before() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let files = write_pair(dir.path(), "a.example");
    let tls = load(&files).expect("a good pair");
    let seen = tls.look(None);
    let first = tls.config();
    assert_eq!(tls.look(Some(seen)), seen, "nothing has changed");
    assert!(Arc::ptr_eq(&first, &tls.config()));

    let (certificate, key) = pair("b.example", 2041);
    fs::write(&files.certificate, certificate).expect("written");
    let half = tls.look(Some(seen));
    assert_ne!(half, seen);
    assert!(Arc::ptr_eq(&first, &tls.config()), "the old pair is in use");
    assert!(tls.check().state.expect_err("told").contains("is not the key"), "{:?}", tls.check());
    assert!(!tls.check().required);

    fs::write(&files.key, key).expect("written");
    tls.look(Some(half));
    assert!(!Arc::ptr_eq(&first, &tls.config()), "the new pair is in use");
    tls.check().state.expect("all is well");
    assert_eq!(tls.expires.get(), 2_240_611_200, "2041-01-01");
}

#[test]
fn a_certificate_that_is_about_to_expire_is_told_of() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let tls = load(&write_pair(dir.path(), "a.example")).expect("a good pair");
    let expires = tls.current().expires;
    assert_eq!(tls.expiry(expires - EXPIRES_SOON), None);
    let soon = tls.expiry(expires - EXPIRES_SOON / 2).expect("told");
    assert!(soon.contains("in 7 days"), "{soon}");
    let late = tls.expiry(expires + EXPIRES_SOON).expect("told");
    assert!(late.contains("expired at 2040-01-01"), "{late}");
}
