//! The text of a JSON string as bytes that are overwritten when they are dropped: `serde_json` unescapes into memory that is not.
//!
//! For what is secret and ASCII by nature: keys in PEM, access tokens. What is not ASCII has no place there, and is no text here.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The text of a JSON string; `None` for any other value, or for a string that is not ASCII.
pub(super) fn ascii(raw: &RawValue) -> Option<Zeroizing<Vec<u8>>> {
    let quoted = raw.get().trim().strip_prefix('"')?.strip_suffix('"')?;
    // Unescaped it is never longer, so it never grows and leaves no copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(quoted.len()));
    let mut rest = quoted.bytes();
    while let Some(byte) = rest.next() {
        let plain = match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 0x08,
                b'f' => 0x0c,
                b'u' => {
                    let mut code = 0_u32;
                    for _ in 0..4 {
                        code = code * 16 + char::from(rest.next()?).to_digit(16)?;
                    }
                    u8::try_from(code).ok()?
                }
                same => same,
            },
            byte => byte,
        };
        if !plain.is_ascii() {
            return None;
        }
        text.push(plain);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        ascii(&raw).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn it_is_what_serde_would_say() {
        for json in [r#""""#, r#""abc""#, r#""a\nb\r\t\b\f\/\\\"""#, r#""\u003d\u002B=""#, r#" "-----BEGIN\n" "#] {
            assert_eq!(text(json), Some(serde_json::from_str::<String>(json).unwrap()), "{json}");
        }
    }

    #[test]
    fn what_is_not_an_ascii_string_is_none() {
        for json in ["1", "null", "{}", "[\"a\"]", r#""é""#, r#""\u00e9""#, r#""\u20ac""#] {
            assert_eq!(text(json), None, "{json}");
        }
    }
}
