//! The JSON of a secret, taken apart without losing how its numbers were written.
//!
//! `serde_json::Value` would make a float of `1.0` or `12345678901234567890123`; here a number stays the text that OKMS sent. Copies of
//! values are overwritten when they are dropped, and no error here, nor any type, can show one. Used by [`render`](super::render())
//! and by templates.

use std::{borrow::Cow, collections::BTreeMap, io};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// How many objects and arrays may be nested in each other, the outermost counted.
///
/// Taking one level apart reads its text once more, so that this also bounds the work: 128 times the length of the text. It is as deep
/// as `serde_json` itself goes by default.
pub(super) const MAX_DEPTH: usize = 128;

/// Why a text is not the JSON of a secret. It says nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Not a JSON object, or one with a string that is not Unicode (half of a surrogate pair).
    NotAnObject,
    TooDeep,
}

/// A JSON object; of fields of the same name the last one counts.
#[derive(Serialize)]
pub(super) struct Object<'a>(BTreeMap<String, Json<'a>>);

/// Any JSON value. Serialized, it is compact, and its objects are sorted by the bytes of their names.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Json<'a> {
    Object(Object<'a>),
    Array(Vec<Json<'a>>),
    Text(#[serde(serialize_with = "as_str")] Zeroizing<String>),
    /// A number, `true`, `false` or `null`, as it was written.
    Plain(&'a RawValue),
}

impl<'a> Object<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        let raw = serde_json::from_slice(text).map_err(|_| Malformed::NotAnObject)?;
        match Json::parse(raw, MAX_DEPTH)? {
            Json::Object(object) => Ok(object),
            Json::Array(_) | Json::Text(_) | Json::Plain(_) => Err(Malformed::NotAnObject),
        }
    }

    /// The fields, sorted by name, to keep.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, Json<'a>)> {
        self.0.into_iter()
    }

    /// The fields, sorted by name.
    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The field of this name, else what it points at as a JSON pointer.
    pub(super) fn find(&self, from: &str) -> Option<&Json<'a>> {
        self.0.get(from).or_else(|| self.pointed_at(from))
    }

    /// Evaluates a JSON pointer (RFC 6901) that has at least one token.
    fn pointed_at(&self, pointer: &str) -> Option<&Json<'a>> {
        let mut tokens = pointer.strip_prefix('/')?.split('/').map(decode_token);
        let first = self.0.get(&*tokens.next()??)?;
        tokens.try_fold(first, |value, token| value.child(&token?))
    }

    pub(super) fn to_compact(&self) -> Zeroizing<Vec<u8>> {
        compact(self)
    }
}

impl<'a> Json<'a> {
    /// Any value, where [`Object::parse`] takes only an object.
    pub(super) fn parse_any(text: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(serde_json::from_slice(text).map_err(|_| Malformed::NotAnObject)?, MAX_DEPTH)
    }

    /// Takes apart a text whose grammar `serde_json` has checked.
    fn parse(raw: &'a RawValue, depth: usize) -> Result<Self, Malformed> {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'{' | b'[') if depth == 0 => Err(Malformed::TooDeep),
            Some(b'{') => {
                let fields: BTreeMap<String, &RawValue> =
                    serde_json::from_str(text).map_err(|_| Malformed::NotAnObject)?;
                let fields = fields.into_iter().map(|(name, raw)| Ok((name, Self::parse(raw, depth - 1)?)));
                Ok(Self::Object(Object(fields.collect::<Result<_, _>>()?)))
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Malformed::NotAnObject)?;
                let items = items.into_iter().map(|raw| Self::parse(raw, depth - 1));
                Ok(Self::Array(items.collect::<Result<_, _>>()?))
            }
            Some(b'"') => unescape(text).map(Self::Text).ok_or(Malformed::NotAnObject),
            _ => Ok(Self::Plain(raw)),
        }
    }

    /// What a key of a Secret gets: a string as it is, anything else as compact JSON.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Text(text) => Zeroizing::new(text.as_bytes().to_vec()),
            Self::Object(_) | Self::Array(_) | Self::Plain(_) => compact(self),
        }
    }

    fn child(&self, token: &str) -> Option<&Json<'a>> {
        match self {
            Self::Object(object) => object.0.get(token),
            Self::Array(items) => items.get(array_index(token)?),
            Self::Text(_) | Self::Plain(_) => None,
        }
    }
}

/// One token of a JSON pointer: `~1` is `/`, `~0` is `~`, and a `~` before anything else is an error of RFC 6901 that matches nothing.
fn decode_token(token: &str) -> Option<Cow<'_, str>> {
    if !token.contains('~') {
        return Some(token.into());
    }
    let well_formed = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    well_formed.then(|| token.replace("~1", "/").replace("~0", "~").into())
}

/// RFC 6901 allows digits without a leading zero; `-`, the item after the last, never exists.
fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with('0');
    let digits = token.bytes().all(|b| b.is_ascii_digit());
    (plain && digits).then(|| token.parse().ok())?
}

/// Decodes a JSON string, quotes included, whose grammar has been checked; `None` for half of a surrogate pair.
///
/// Our own, because `serde_json` leaves a copy of each string that has an escape (every PEM, for its `\n`) in memory that nobody overwrites.
fn unescape(quoted: &str) -> Option<Zeroizing<String>> {
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?;
    // No escape is shorter than what it means, so the buffer never moves and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        let kind = chars.next()?;
        rest = chars.as_str();
        text.push(match kind {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => take_utf16(&mut rest)?,
            itself => itself,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Takes the digits after `\u`, and a second such escape where the first is the upper half of a surrogate pair.
fn take_utf16(rest: &mut &str) -> Option<char> {
    let first = take_hex(rest)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first.into());
    }
    *rest = rest.strip_prefix("\\u")?;
    char::decode_utf16([first, take_hex(rest)?]).next()?.ok()
}

fn take_hex(rest: &mut &str) -> Option<u16> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u16::from_str_radix(digits, 16).ok()
}

/// Serializes twice, the first time only to know the size: a buffer that grows would leave copies of its content behind.
fn compact(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    const INFALLIBLE: &str = "a tree with text for names is written to memory, where neither step can fail";
    let mut size = Count(0);
    serde_json::to_writer(&mut size, value).expect(INFALLIBLE);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *bytes, value).expect(INFALLIBLE);
    bytes
}

/// Counts what is written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_str<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compacted(text: &str) -> String {
        let object = Object::parse(text.as_bytes()).ok().unwrap();
        String::from_utf8(object.to_compact().to_vec()).unwrap()
    }

    fn found(text: &str, from: &str) -> Option<String> {
        let object = Object::parse(text.as_bytes()).ok().unwrap();
        object.find(from).map(|value| String::from_utf8(value.to_bytes().to_vec()).unwrap())
    }

    fn malformed(text: &[u8]) -> Option<Malformed> {
        Object::parse(text).err()
    }

    #[test]
    fn compact_json_is_sorted_at_every_depth_and_keeps_its_numbers() {
        let text = r#" { "b" : [ 1.0, 1e5, -0, 12345678901234567890123, 1E+400 ],
                         "a" : { "z" : null, "y" : true } } "#;
        assert_eq!(compacted(text), r#"{"a":{"y":true,"z":null},"b":[1.0,1e5,-0,12345678901234567890123,1E+400]}"#);
    }

    #[test]
    fn strings_are_escaped_no_more_than_json_asks_for() {
        let text = "{\"a\":\"\\u003cb\\u003e\\/\\u00e9\\ud83d\\ude00\\n\\u0001\\\"\\\\\"}";
        assert_eq!(compacted(text), "{\"a\":\"<b>/é😀\\n\\u0001\\\"\\\\\"}");
    }

    #[test]
    fn of_fields_of_the_same_name_the_last_one_counts() {
        assert_eq!(compacted(r#"{"a":1,"b":{"x":1,"x":2},"a":3,"\u0061":4}"#), r#"{"a":4,"b":{"x":2}}"#);
    }

    #[test]
    fn the_pointers_of_rfc_6901_find_what_it_says() {
        let text = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", "bar"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(found(text, pointer).as_deref(), Some(value), "{pointer}");
        }
        for pointer in ["/foo/2", "/foo/-", "/foo/01", "/foo/+1", "/foo/", "/foo/0/x", "/m~n", "/m~2n", "/a/b", "//"] {
            assert_eq!(found(text, pointer), None, "{pointer}");
        }
        assert_eq!(found(r#"{"~1":{"/":1}}"#, "/~01/~1").as_deref(), Some("1"));
    }

    #[test]
    fn a_literal_name_wins_over_a_pointer() {
        let text = r#"{"/tls/ca":"literal","tls":{"ca":"nested"}}"#;
        assert_eq!(found(text, "/tls/ca").as_deref(), Some("literal"));
        assert_eq!(found(&text.replace("/tls/ca", "other"), "/tls/ca").as_deref(), Some("nested"));
        assert_eq!(found(text, "tls/ca"), None, "without a leading slash it is a name only");
    }

    #[test]
    fn what_is_not_an_object_of_unicode_text_is_refused() {
        for text in ["", "[]", "1", "\"a\"", "null", "{", "{} x", "{\"a\":01}", "{\"a\":\"\n\"}"] {
            assert_eq!(malformed(text.as_bytes()), Some(Malformed::NotAnObject), "{text:?}");
        }
        for half in [r"\ud83d", r"\ude00", r"\ud83d\u0041", r"\ud83dx", r"\ude00\ud83d"] {
            assert_eq!(malformed(format!(r#"{{"a":"{half}"}}"#).as_bytes()), Some(Malformed::NotAnObject), "{half}");
            assert_eq!(malformed(format!(r#"{{"{half}":1}}"#).as_bytes()), Some(Malformed::NotAnObject), "{half}");
        }
        assert_eq!(malformed(b"{\"a\":\"\xff\"}"), Some(Malformed::NotAnObject));
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(malformed(nested(MAX_DEPTH).as_bytes()), None);
        assert_eq!(malformed(nested(MAX_DEPTH + 1).as_bytes()), Some(Malformed::TooDeep));
        assert_eq!(malformed(nested(100_000).as_bytes()), Some(Malformed::TooDeep), "without using up the stack");
    }

    proptest! {
        #[test]
        fn strings_decode_as_serde_json_decodes_them(pieces in proptest::collection::vec(string_piece(), 0..12)) {
            let quoted = format!("\"{}\"", pieces.concat());
            let ours = unescape(&quoted).map(|text| text.to_string());
            prop_assert_eq!(ours, serde_json::from_str::<String>(&quoted).ok());
        }
    }

    /// A legal piece of a JSON string; joined at random, surrogates pair or fail to.
    fn string_piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC".prop_filter("needs an escape", |c| !c.contains(['"', '\\'])),
            "\\\\[\"\\\\/bfnrt]",
            "\\\\u[0-9a-fA-F]{4}",
            "\\\\u[dD][89abAB][0-9a-f]{2}",
            "\\\\u[dD][c-fC-F][0-9a-f]{2}",
        ]
    }
}
