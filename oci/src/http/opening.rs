//! What a client speaks, told by its first bytes.

/// The first bytes of a client of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The content type of a TLS record that carries a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// HTTP/1.1, or something that its parser refuses.
    Http1,
    Http2,
    Tls,
}

impl Opening {
    /// `None` while more bytes are needed to tell.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let [byte, ..] = first else { return None };
        if *byte == HANDSHAKE {
            Some(Self::Tls)
        } else if first.starts_with(PREFACE) {
            Some(Self::Http2)
        } else if PREFACE.starts_with(first) {
            None
        } else {
            Some(Self::Http1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bytes_are_waited_for_as_are_needed_to_tell() {
        for (first, opening) in [
            (&b""[..], None),
            (b"G", Some(Opening::Http1)),
            (b"P", None),
            (b"PO", Some(Opening::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\n", None),
            (b"PRI * HTTP/1.1\r\n", Some(Opening::Http1)),
            (PREFACE, Some(Opening::Http2)),
            (b"\x16\x03\x01", Some(Opening::Tls)),
            (b"\0", Some(Opening::Http1)),
        ] {
            assert_eq!(Opening::of(first), opening, "{first:?}");
        }
    }
}
