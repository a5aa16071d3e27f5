//! Tells whether the content of a Secret changed, without keeping the content.
//!
//! A fingerprint is keyed by its [`Fingerprinter`], made afresh by each operator: it can neither be guessed at from outside nor compared
//! with that of another process, so it is never written anywhere.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use k8s_openapi::ByteString;

use super::Content;

/// What a Secret holds, as 64 bits: equal content has equal fingerprints, and different content has, but for one chance in 2⁶⁴, different ones.
///
/// It has no `Debug`, like everything that is made of values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Makes fingerprints that compare among themselves only.
#[derive(Clone, Default)]
pub struct Fingerprinter(RandomState);

impl Fingerprinter {
    pub fn new() -> Self {
        Self::default()
    }

    /// The fingerprint of a Secret's `type` and of its content.
    pub fn of(&self, type_: &str, content: &Content) -> Fingerprint {
        let mut hasher = self.0.build_hasher();
        type_.hash(&mut hasher);
        content.labels.hash(&mut hasher);
        content.annotations.hash(&mut hasher);
        hasher.write_usize(content.data.len());
        for (key, ByteString(bytes)) in &content.data {
            // Each part ends in a way of its own (a str with a byte that UTF-8 never has, a slice after its length), so that no two maps
            // feed the hasher the same bytes.
            key.hash(&mut hasher);
            bytes.hash(&mut hasher);
        }
        Fingerprint(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data<V: AsRef<[u8]>>(fields: &[(&str, V)]) -> Content {
        let data = fields.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_ref().to_vec())));
        Content { data: data.collect(), ..Content::default() }
    }

    fn labelled(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Content {
        let map = |fields: &[(&str, &str)]| {
            fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Content { labels: map(labels), annotations: map(annotations), ..Content::default() }
    }

    #[test]
    fn equal_content_has_equal_fingerprints() {
        let fingerprinter = Fingerprinter::new();
        let one = fingerprinter.of("Opaque", &data(&[("a", "1"), ("b", "2")]));
        let other = fingerprinter.clone().of("Opaque", &data(&[("b", "2"), ("a", "1")]));
        assert!(one == other);
    }

    #[test]
    fn content_that_differs_only_in_its_structure_has_different_fingerprints() {
        let contents = [
            ("Opaque", data::<&str>(&[])),
            ("Opaque", data(&[("", "")])),
            ("Opaque", data(&[("a", "1"), ("b", "2")])),
            ("Opaque", data(&[("a", "2"), ("b", "1")])),
            ("Opaque", data(&[("a", "1b2")])),
            ("Opaque", data(&[("a1", "b2")])),
            ("Opaque", data(&[("a1b2", "")])),
            ("Opaque", data(&[("a", ""), ("b", "12")])),
            ("Opaque", data(&[("a", "12"), ("b", "")])),
            ("Opaque", data::<&[u8]>(&[("a", b"b\xff"), ("b", b"")])),
            ("Opaque", data::<&[u8]>(&[("a", b""), ("b", b"b\xff")])),
            ("Opaquea", data(&[("", "1"), ("b", "2")])),
            ("Opaque", labelled(&[("a", "1")], &[])),
            ("Opaque", labelled(&[], &[("a", "1")])),
            ("Opaque", labelled(&[("a", "2")], &[])),
            ("kubernetes.io/tls", data(&[("a", "1"), ("b", "2")])),
        ];
        let fingerprinter = Fingerprinter::new();
        for (i, (type_, content)) in contents.iter().enumerate() {
            for (other_type, other) in contents.iter().skip(i + 1) {
                assert!(fingerprinter.of(type_, content) != fingerprinter.of(other_type, other), "{i}");
            }
        }
    }

    #[test]
    fn fingerprints_of_two_operators_do_not_compare() {
        let content = data(&[("a", "1")]);
        assert!(Fingerprinter::new().of("Opaque", &content) != Fingerprinter::new().of("Opaque", &content));
    }
}
