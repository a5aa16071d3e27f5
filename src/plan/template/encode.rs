//! Base64, percent-encoding and SHA-256.
//!
//! Every one knows the size of its result beforehand and pays for it before it allocates. What is decoded must be text: a template has
//! no other values.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    budget::{Budget, Draft},
    functions::{Args, Session},
    problem::Problem,
    value::Value,
};

const FORGIVING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, FORGIVING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, FORGIVING);

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn b64encode<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    encode(args, session, &STANDARD)
}

pub(super) fn b64urlencode<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    encode(args, session, &URL_SAFE)
}

pub(super) fn b64decode<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    decode(args, session, &STANDARD)
}

pub(super) fn b64urldecode<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    decode(args, session, &URL_SAFE)
}

fn encode<'a>(args: &Args<'a>, session: &mut Session, engine: &GeneralPurpose) -> Result<Value<'a>, Problem> {
    let text = args.subject_text(&mut session.budget)?;
    Ok(Value::text(base64(&text, engine, &mut session.budget)?))
}

/// Standard Base64 of a text.
pub(super) fn standard(text: &str, budget: &mut Budget) -> Result<Zeroizing<String>, Problem> {
    base64(text, &STANDARD, budget)
}

fn base64(text: &str, engine: &GeneralPurpose, budget: &mut Budget) -> Result<Zeroizing<String>, Problem> {
    let size = text.len().div_ceil(3).saturating_mul(4);
    budget.spend_bytes(size)?;
    let mut encoded = Zeroizing::new(String::with_capacity(size));
    engine.encode_string(text, &mut encoded);
    Ok(encoded)
}

fn decode<'a>(args: &Args<'a>, session: &mut Session, engine: &GeneralPurpose) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    budget.spend_bytes(text.len().saturating_mul(2))?;
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(text.chars().filter(|character| !character.is_ascii_whitespace()));
    // As large as it can get, so that it does not move.
    let mut bytes = Zeroizing::new(Vec::with_capacity(plain.len()));
    engine
        .decode_vec(&*plain, &mut bytes)
        .map_err(|_| Problem::new("this is not Base64: look at how the value was stored"))?;
    let decoded = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Problem::new("what this Base64 stands for is no text, and templates take only text: leave it encoded")
    })?;
    Ok(Value::text(Zeroizing::new(decoded)))
}

pub(super) fn urlencode<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let mut draft = Draft::sized(text.len(), budget)?;
    for piece in utf8_percent_encode(&text, RESERVED) {
        draft.push(piece, budget)?;
    }
    Ok(Value::text(draft))
}

pub(super) fn sha256<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    // Without instructions for it, a processor takes some nanoseconds per byte, and one block at least.
    budget.spend_bytes(text.len().saturating_mul(2).saturating_add(64))?;
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    Ok(Value::text(Zeroizing::new(hex)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{failure, rendered};

    #[test]
    fn base64_comes_back_with_and_without_padding_and_spaces() {
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("é😀", "w6nwn5iA")] {
            assert_eq!(rendered("{{ x | b64encode }}", &[("x", text)]), encoded);
            for form in [encoded.to_owned(), encoded.replace('=', ""), format!(" {encoded}\n")] {
                assert_eq!(rendered("{{ x | b64decode }}", &[("x", &form)]), text, "{form:?}");
                assert_eq!(rendered("{{ x | b64urldecode }}", &[("x", &form)]), text, "{form:?}");
            }
        }
    }

    #[test]
    fn what_is_no_base64_or_no_text_is_refused() {
        assert!(failure("{{ x | b64decode }}", &[("x", "canary!")]).contains("this is not Base64"));
        assert!(failure("{{ x | b64decode }}", &[("x", "fn5-fj8_")]).contains("this is not Base64"));
        assert!(failure("{{ x | b64decode }}", &[("x", "/w==")]).contains("is no text"));
    }

    #[test]
    fn urls_keep_only_the_unreserved() {
        assert_eq!(
            rendered("{{ x | urlencode }}", &[("x", "aZ09-._~/:@?#[]!$&'()*+,;=% é")]),
            "aZ09-._~%2F%3A%40%3F%23%5B%5D%21%24%26%27%28%29%2A%2B%2C%3B%3D%25%20%C3%A9"
        );
    }
}
