//! Decodes a field that OKMS holds as Base64, because its JSON can hold text only.

use base64::{
    Engine,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::api::Decode;

/// The bytes that a text stands for; `None` where it is not what was said.
///
/// Padding may be there or not, and white space, which tools put in to break lines, is passed over. What would decode to bytes that
/// encode differently is refused: it was cut or mistyped.
pub(super) fn decode(how: Decode, text: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    match how {
        Decode::Base64 => base64(&STANDARD, &text),
        Decode::Base64Url => base64(&URL_SAFE, &text),
        Decode::Auto => Some(base64(&STANDARD, &text).or_else(|| base64(&URL_SAFE, &text)).unwrap_or(text)),
    }
}

fn base64(alphabet: &Alphabet, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    plain.extend(text.iter().filter(|byte| !byte.is_ascii_whitespace()));
    // Decoded text is never longer, so the buffer never moves and leaves no copy behind.
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let size = GeneralPurpose::new(alphabet, config).decode_slice(&*plain, &mut bytes).ok()?;
    bytes.truncate(size);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(how: Decode, text: &str) -> Option<Vec<u8>> {
        decode(how, Zeroizing::new(text.as_bytes().to_vec())).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn each_alphabet_takes_its_own_text_with_or_without_padding() {
        let bytes = vec![0xfb, 0xff, 0xfe, 0x00];
        for (how, text) in [
            (Decode::Base64, "+//+AA=="),
            (Decode::Base64, "+//+AA"),
            (Decode::Base64, " +//+\nAA==\n"),
            (Decode::Base64Url, "-__-AA"),
            (Decode::Base64Url, "-__-AA=="),
            (Decode::Auto, "+//+AA=="),
            (Decode::Auto, "-__-AA"),
        ] {
            assert_eq!(decoded(how, text), Some(bytes.clone()), "{how:?} {text}");
        }
        assert_eq!(decoded(Decode::Base64, ""), Some(Vec::new()));
    }

    #[test]
    fn what_is_not_base64_is_refused_and_auto_leaves_it() {
        for text in ["p@ss", "abcde", "ab=c", "AB", "-__-AA", "===="] {
            assert_eq!(decoded(Decode::Base64, text), None, "{text}");
        }
        assert_eq!(decoded(Decode::Base64Url, "+//+AA=="), None);
        assert_eq!(decoded(Decode::Auto, "p@ss word"), Some(b"p@ss word".to_vec()));
    }
}
