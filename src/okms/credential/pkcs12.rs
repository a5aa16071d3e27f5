//! PKCS#12 (RFC 7292): the private key and the certificates of a `client.p12`.
//!
//! It reads what OpenSSL, Java's keytool and Windows write: the protections of today (PBES2 with AES) and of old (RC2 and triple DES).
//! Why no library does it: who may create a store chooses this file, so how much work and memory it may cost must be bounded (the
//! libraries take a gigabyte for scrypt if the file asks for it), and everything that was decrypted is overwritten here. The parts are
//! libraries' all the same: the DER parser, and in `cipher` the cryptography.

/// How object identifiers begin, in DER: `1.2.840.113549`, RSA's.
macro_rules! rsa {
    ($($byte:literal),*) => { &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, $($byte),*] };
}

mod cipher;

use aws_lc_rs::hmac;
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use zeroize::Zeroizing;

use super::CredentialError;
use cipher::{Password, Work};

const DATA: &[u8] = rsa!(1, 7, 1);
const ENCRYPTED_DATA: &[u8] = rsa!(1, 7, 6);
const KEY_BAG: &[u8] = rsa!(1, 12, 10, 1, 1);
const SHROUDED_KEY_BAG: &[u8] = rsa!(1, 12, 10, 1, 2);
const CERTIFICATE_BAG: &[u8] = rsa!(1, 12, 10, 1, 3);
const X509_CERTIFICATE: &[u8] = rsa!(1, 9, 22, 1);

/// What a file holds: one key in PKCS#8, and at least one certificate.
pub(super) struct Content {
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Opens a file with its password.
pub(super) fn open(file: &[u8], password: &[u8]) -> Result<Content, CredentialError> {
    let text = std::str::from_utf8(password).map_err(|_| CredentialError::BadPassword)?;
    let opened = Reader::read(file, text);
    if !matches!(opened, Err(CredentialError::WrongPassword)) {
        return opened;
    }
    // What an editor or echo leaves behind is the usual reason.
    match text.trim_end_matches(['\r', '\n']) {
        trimmed if trimmed.len() < text.len() && Reader::read(file, trimmed).is_ok() => {
            Err(CredentialError::PasswordLineBreak)
        }
        _ => opened,
    }
}

/// What was found so far.
struct Reader {
    password: Password,
    work: Work,
    keys: Vec<Zeroizing<Vec<u8>>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Reader {
    fn read(file: &[u8], password: &str) -> Result<Content, CredentialError> {
        let mut reader = Self {
            password: Password::new(password),
            work: Work::default(),
            keys: Vec::new(),
            certificates: Vec::new(),
        };
        reader.file(file)?;
        let Self { mut keys, certificates, .. } = reader;
        let key = keys.pop().ok_or(CredentialError::Pkcs12WithoutKey)?;
        if !keys.is_empty() {
            return Err(CredentialError::Pkcs12WithSeveralKeys);
        }
        if certificates.is_empty() {
            return Err(CredentialError::Pkcs12WithoutCertificate);
        }
        Ok(Content { key, certificates })
    }

    /// `PFX`: the parts, and a code over them by which a wrong password shows.
    fn file(&mut self, file: &[u8]) -> Result<(), CredentialError> {
        let mut pfx = Der(file).sequence()?;
        if pfx.integer()? != 3 {
            return Err(CredentialError::BadPkcs12);
        }
        let mut content = pfx.sequence()?;
        if content.oid()? != DATA {
            // Signed by a key in place of a password.
            return Err(CredentialError::UnsupportedPkcs12);
        }
        let parts = content.explicit()?.octets()?;
        if !pfx.is_empty() {
            self.check(parts, pfx.sequence()?)?;
        }
        let mut parts = Der(parts).sequence()?;
        while !parts.is_empty() {
            let mut part = parts.sequence()?;
            match part.oid()? {
                DATA => self.bags(part.explicit()?.octets()?)?,
                ENCRYPTED_DATA => {
                    let mut encrypted = part.explicit()?.sequence()?;
                    encrypted.integer()?;
                    let mut encrypted = encrypted.sequence()?;
                    encrypted.oid()?;
                    let algorithm = encrypted.sequence()?;
                    let content = encrypted.tagged(Class::ContextSpecific, Tag(0))?;
                    let content = cipher::decrypt(algorithm, content, &self.password, &mut self.work)?;
                    self.bags(&content)?;
                }
                _ => return Err(CredentialError::UnsupportedPkcs12),
            }
        }
        Ok(())
    }

    /// `MacData`.
    fn check(&mut self, parts: &[u8], mut code: Der<'_>) -> Result<(), CredentialError> {
        let mut digest_info = code.sequence()?;
        let digest = cipher::mac(digest_info.sequence()?.oid()?)?;
        let expected = digest_info.octets()?;
        let salt = code.octets()?;
        let iterations = if code.is_empty() { 1 } else { code.integer()? };
        let key = self.password.code_key(digest.digest_algorithm(), salt, iterations, &mut self.work)?;
        hmac::verify(&hmac::Key::new(digest, &key), parts, expected).map_err(|_| CredentialError::WrongPassword)
    }

    /// `SafeContents`: keys, certificates, and what is of no use here.
    fn bags(&mut self, bags: &[u8]) -> Result<(), CredentialError> {
        let mut bags = Der(bags).sequence()?;
        while !bags.is_empty() {
            let mut bag = bags.sequence()?;
            match bag.oid()? {
                KEY_BAG => self.keys.push(Zeroizing::new(bag.explicit()?.0.to_vec())),
                SHROUDED_KEY_BAG => {
                    let mut key = bag.explicit()?.sequence()?;
                    let algorithm = key.sequence()?;
                    let key = cipher::decrypt(algorithm, key.octets()?, &self.password, &mut self.work)?;
                    self.keys.push(key);
                }
                CERTIFICATE_BAG => {
                    let mut certificate = bag.explicit()?.sequence()?;
                    if certificate.oid()? == X509_CERTIFICATE {
                        let certificate = certificate.explicit()?.octets()?;
                        self.certificates.push(CertificateDer::from(certificate.to_vec()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is left to read of a piece of DER.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The content of the next element, which must be of this kind.
    fn tagged(&mut self, class: Class, tag: Tag) -> Result<&'a [u8], CredentialError> {
        let (rest, element) = Any::from_der(self.0).map_err(|_| CredentialError::BadPkcs12)?;
        if element.class() != class || element.tag() != tag {
            return Err(CredentialError::BadPkcs12);
        }
        self.0 = rest;
        Ok(element.data)
    }

    fn sequence(&mut self) -> Result<Self, CredentialError> {
        self.tagged(Class::Universal, Tag::Sequence).map(Self)
    }

    /// What is inside of `[0] EXPLICIT`.
    fn explicit(&mut self) -> Result<Self, CredentialError> {
        self.tagged(Class::ContextSpecific, Tag(0)).map(Self)
    }

    fn octets(&mut self) -> Result<&'a [u8], CredentialError> {
        self.tagged(Class::Universal, Tag::OctetString)
    }

    fn oid(&mut self) -> Result<&'a [u8], CredentialError> {
        self.tagged(Class::Universal, Tag::Oid)
    }

    /// A number that is not negative.
    fn integer(&mut self) -> Result<u32, CredentialError> {
        let bytes = self.tagged(Class::Universal, Tag::Integer)?;
        let negative = bytes.first().is_none_or(|first| *first >= 0x80);
        if negative {
            return Err(CredentialError::BadPkcs12);
        }
        bytes.iter().try_fold(0_u32, |number, byte| number.checked_mul(256)?.checked_add(u32::from(*byte))).ok_or(
            // Only a count of iterations may be as large as that.
            CredentialError::CostlyPkcs12,
        )
    }
}
