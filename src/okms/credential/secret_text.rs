//! Secrets that are one word of visible ASCII, as people store them: tokens, the id and secret of a service account.
//!
//! What is a likely mistake in storing them is refused with a word of advice, not mended: a secret that was mended here would still be
//! wrong everywhere else.

use bytes::Bytes;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::CredentialError;

/// The bytes, if they are one word. `what` is how a message calls them.
pub(super) fn word<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], CredentialError> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let lines = bytes.iter().rposition(|byte| !is_break(byte)).map_or(&[][..], |last| bytes.split_at(last + 1).0);
    if bytes.trim_ascii().is_empty() {
        return Err(CredentialError::EmptyText(what));
    }
    if lines.iter().any(is_break) {
        return Err(CredentialError::LineBreak(what));
    }
    if lines.len() < bytes.len() {
        return Err(CredentialError::FinalLineBreak(what));
    }
    if bytes.iter().any(u8::is_ascii_whitespace) {
        return Err(CredentialError::Whitespace(what));
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(CredentialError::Characters(what));
    }
    Ok(bytes)
}

/// `Bearer <token>` as the value of a header that is not shown by `Debug` and is overwritten when the last copy is dropped; `None` if it
/// has characters that no token has.
pub(in crate::okms) fn bearer(token: &[u8]) -> Option<HeaderValue> {
    word(token, "").ok()?;
    let mut text = Zeroizing::new(Vec::with_capacity("Bearer ".len() + token.len()));
    text.extend_from_slice(b"Bearer ");
    text.extend_from_slice(token);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_own_advice() {
        use CredentialError::{Characters, EmptyText, FinalLineBreak, LineBreak, Whitespace};
        for (bytes, why) in [
            (&b""[..], EmptyText("it")),
            (b" \n", EmptyText("it")),
            (b"token\n", FinalLineBreak("it")),
            (b"token\r\n", FinalLineBreak("it")),
            (b"token\n\n", FinalLineBreak("it")),
            (b"to\nken", LineBreak("it")),
            (b"to\nken\n", LineBreak("it")),
            (b"\ntoken", LineBreak("it")),
            (b"Bearer token", Whitespace("it")),
            (b"token ", Whitespace("it")),
            (b"to\tken", Whitespace("it")),
            (b"to\0ken", Characters("it")),
            ("tökén".as_bytes(), Characters("it")),
            (b"\xff", Characters("it")),
        ] {
            assert_eq!(word(bytes, "it"), Err(why), "{bytes:?}");
        }
        assert_eq!(word(b"eyJ.a-b_c~d+e/f==", "it"), Ok(&b"eyJ.a-b_c~d+e/f=="[..]));
    }

    #[test]
    fn a_bearer_is_not_shown() {
        let value = bearer(b"canary").unwrap();
        assert_eq!(value.as_bytes(), b"Bearer canary");
        assert!(!format!("{value:?}").contains("canary"));
        assert!(bearer(b"a b").is_none() && bearer(b"").is_none());
    }
}
