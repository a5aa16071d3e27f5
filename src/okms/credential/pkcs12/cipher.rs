//! The protections of PKCS#12 files: how a key is made from the password, and what it then opens.
//!
//! All work is paid for from one budget ([`Work`]) before it is done, and scrypt, which takes memory, is not there. What is decrypted is
//! overwritten when it is dropped.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey},
    digest, hmac,
    iv::FixedLength,
    pbkdf2,
};
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit, block_padding::Pkcs7};
use zeroize::Zeroizing;

use super::{CredentialError, Der};

const PBES2: &[u8] = rsa!(1, 5, 13);
const PBKDF2: &[u8] = rsa!(1, 5, 12);
const HMAC_SHA1: &[u8] = rsa!(2, 7);
const HMAC_SHA256: &[u8] = rsa!(2, 9);
const HMAC_SHA384: &[u8] = rsa!(2, 10);
const HMAC_SHA512: &[u8] = rsa!(2, 11);
const TRIPLE_DES: &[u8] = rsa!(3, 7);
const AES_128_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 2];
const AES_192_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 22];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 42];

// Of PKCS#12 itself, with SHA-1.
const OLD_TRIPLE_DES: &[u8] = rsa!(1, 12, 1, 3);
const OLD_RC2_128: &[u8] = rsa!(1, 12, 1, 5);
const OLD_RC2_40: &[u8] = rsa!(1, 12, 1, 6);

const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 2];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 3];

/// What is left of the hashing that one file may cost.
pub(super) struct Work(u64);

impl Default for Work {
    /// The most careful files that people make: 600,000 iterations (OWASP's advice) each for the code, the certificates and the key, some of
    /// them with two blocks. OpenSSL takes 2,048 by itself, keytool 10,000. About a second.
    fn default() -> Self {
        Self(3_600_000)
    }
}

impl Work {
    /// Pays for `blocks` of hashing, for each of which so many bytes of salt and password are gone through first.
    fn pay(&mut self, iterations: u32, blocks: usize, bytes: usize) -> Result<(), CredentialError> {
        let blocks = u64::try_from(blocks.max(1)).unwrap_or(u64::MAX);
        let input = u64::try_from(bytes / BYTES).unwrap_or(u64::MAX);
        let cost = input.saturating_add(u64::from(iterations)).saturating_mul(blocks);
        self.0 = self.0.checked_sub(cost).ok_or(CredentialError::CostlyPkcs12)?;
        Ok(())
    }
}

/// How many bytes of a salt or a password cost as much as an iteration.
const BYTES: usize = 16;

/// A password in the two ways in which it is used.
pub(super) struct Password {
    utf8: Zeroizing<Vec<u8>>,
    /// UTF-16, big-endian, with a zero at its end (RFC 7292, B.1).
    utf16: Zeroizing<Vec<u8>>,
}

impl Password {
    pub(super) fn new(password: &str) -> Self {
        // At most two bytes for each of UTF-8, and the zero: it never grows.
        let mut utf16 = Zeroizing::new(Vec::with_capacity(2 * password.len() + 2));
        for unit in password.encode_utf16().chain([0]) {
            utf16.extend_from_slice(&unit.to_be_bytes());
        }
        Self { utf8: Zeroizing::new(password.as_bytes().to_vec()), utf16 }
    }

    /// The key of the code over the whole file.
    pub(super) fn code_key(
        &self,
        digest: &'static digest::Algorithm,
        salt: &[u8],
        iterations: u32,
        work: &mut Work,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        self.derived(digest, Purpose::Code, salt, iterations, digest.output_len(), work)
    }

    /// The derivation of PKCS#12 (RFC 7292, B.2).
    fn derived(
        &self,
        digest: &'static digest::Algorithm,
        purpose: Purpose,
        salt: &[u8],
        iterations: u32,
        length: usize,
        work: &mut Work,
    ) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
        work.pay(iterations, length.div_ceil(digest.output_len()), salt.len() + self.utf16.len())?;
        let block = digest.block_len();
        let filled = |bytes: &[u8]| -> Zeroizing<Vec<u8>> {
            let length = block * bytes.len().div_ceil(block);
            Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
        };
        let diversifier = vec![purpose as u8; block];
        let (salt, password) = (filled(salt), filled(&self.utf16));
        let mut input = Zeroizing::new([salt.as_slice(), password.as_slice()].concat());
        let mut output = Zeroizing::new(vec![0; length]);
        for piece in output.chunks_mut(digest.output_len()) {
            let mut context = digest::Context::new(digest);
            context.update(&diversifier);
            context.update(&input);
            let mut hash = context.finish();
            for _ in 1..iterations {
                hash = digest::digest(digest, hash.as_ref());
            }
            piece.iter_mut().zip(hash.as_ref()).for_each(|(byte, hash)| *byte = *hash);
            for piece in input.chunks_mut(block) {
                add_and_one(piece, hash.as_ref());
            }
        }
        Ok(output)
    }
}

/// What a key is derived for (RFC 7292, B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Start = 2,
    Code = 3,
}

/// Adds `repeated`, as often as it fits, and one to a number.
fn add_and_one(number: &mut [u8], repeated: &[u8]) {
    let length = number.len();
    let addend: Zeroizing<Vec<u8>> = Zeroizing::new(repeated.iter().copied().cycle().take(length).collect());
    let mut carry = 1_u16;
    for (byte, addend) in number.iter_mut().zip(addend.iter()).rev() {
        carry += u16::from(*byte) + u16::from(*addend);
        [_, *byte] = carry.to_be_bytes();
        carry >>= 8;
    }
}

/// The code over a whole file, by the name of its hash.
pub(super) fn mac(oid: &[u8]) -> Result<hmac::Algorithm, CredentialError> {
    match oid {
        SHA1 => Ok(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => Ok(hmac::HMAC_SHA256),
        SHA384 => Ok(hmac::HMAC_SHA384),
        SHA512 => Ok(hmac::HMAC_SHA512),
        _ => Err(CredentialError::UnsupportedPkcs12),
    }
}

/// Decrypts what an `AlgorithmIdentifier` describes.
pub(super) fn decrypt(
    mut algorithm: Der<'_>,
    content: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let oid = algorithm.oid()?;
    let mut parameters = algorithm.sequence()?;
    if oid == PBES2 {
        return modern(parameters, content, password, work);
    }
    let length = match oid {
        OLD_TRIPLE_DES => 24,
        OLD_RC2_128 => 16,
        OLD_RC2_40 => 5,
        _ => return Err(CredentialError::UnsupportedPkcs12),
    };
    let (salt, iterations) = (parameters.octets()?, parameters.integer()?);
    let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
    let key = password.derived(sha1, Purpose::Key, salt, iterations, length, work)?;
    let start = password.derived(sha1, Purpose::Start, salt, iterations, 8, work)?;
    match oid {
        OLD_TRIPLE_DES => block_chained::<des::TdesEde3>(&key, &start, content),
        _ => block_chained::<rc2::Rc2>(&key, &start, content),
    }
}

/// PBES2 (RFC 8018, A.4) with PBKDF2.
fn modern(
    mut parameters: Der<'_>,
    content: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let mut derivation = parameters.sequence()?;
    let mut scheme = parameters.sequence()?;
    if derivation.oid()? != PBKDF2 {
        return Err(CredentialError::UnsupportedPkcs12);
    }
    let mut derivation = derivation.sequence()?;
    let (salt, iterations) = (derivation.octets()?, derivation.integer()?);
    let function = pseudorandom_function(derivation)?;
    let cipher = scheme.oid()?;
    let start = scheme.octets()?;
    let length = match cipher {
        AES_128_CBC => 16,
        AES_192_CBC | TRIPLE_DES => 24,
        AES_256_CBC => 32,
        _ => return Err(CredentialError::UnsupportedPkcs12),
    };
    // SHA-1, the shortest of them, gives 20 bytes in a block.
    work.pay(iterations, if length > 20 { 2 } else { 1 }, salt.len() + password.utf8.len())?;
    let iterations = NonZeroU32::new(iterations).ok_or(CredentialError::BadPkcs12)?;
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(function, iterations, salt, &password.utf8, &mut key);
    match cipher {
        AES_128_CBC => aes(&AES_128, &key, start, content),
        AES_192_CBC => aes(&AES_192, &key, start, content),
        AES_256_CBC => aes(&AES_256, &key, start, content),
        _ => block_chained::<des::TdesEde3>(&key, start, content),
    }
}

/// The function of PBKDF2 from what follows the count of iterations: a length of the key, and the function, either of which may be
/// left out.
fn pseudorandom_function(mut rest: Der<'_>) -> Result<pbkdf2::Algorithm, CredentialError> {
    let mut length = rest;
    if length.integer().is_ok() {
        rest = length;
    }
    if rest.is_empty() {
        return Ok(pbkdf2::PBKDF2_HMAC_SHA1);
    }
    match rest.sequence()?.oid()? {
        HMAC_SHA1 => Ok(pbkdf2::PBKDF2_HMAC_SHA1),
        HMAC_SHA256 => Ok(pbkdf2::PBKDF2_HMAC_SHA256),
        HMAC_SHA384 => Ok(pbkdf2::PBKDF2_HMAC_SHA384),
        HMAC_SHA512 => Ok(pbkdf2::PBKDF2_HMAC_SHA512),
        _ => Err(CredentialError::UnsupportedPkcs12),
    }
}

fn aes(
    algorithm: &'static Algorithm,
    key: &[u8],
    start: &[u8],
    content: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let start: FixedLength<16> = start.try_into().map_err(|_| CredentialError::BadPkcs12)?;
    let key = UnboundCipherKey::new(algorithm, key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let key = key.map_err(|_| CredentialError::BadPkcs12)?;
    let mut text = Zeroizing::new(content.to_vec());
    let length = key.decrypt(&mut text, DecryptionContext::Iv128(start)).map(|text| text.len());
    // A wrong key shows by what should be padding.
    text.truncate(length.map_err(|_| CredentialError::WrongPassword)?);
    Ok(text)
}

fn block_chained<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    start: &[u8],
    content: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CredentialError>
where
    cbc::Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, start).map_err(|_| CredentialError::BadPkcs12)?;
    let mut text = Zeroizing::new(content.to_vec());
    let length = cipher.decrypt_padded::<Pkcs7>(&mut text).map(<[u8]>::len);
    text.truncate(length.map_err(|_| CredentialError::WrongPassword)?);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_carries_over() {
        let mut number = [0x00, 0xff, 0xff];
        add_and_one(&mut number, &[0x00]);
        assert_eq!(number, [0x01, 0x00, 0x00]);
        let mut number = [0xff, 0xff];
        add_and_one(&mut number, &[0x00, 0x01]);
        assert_eq!(number, [0x00, 0x01], "what is too large is cut off");
    }

    #[test]
    fn long_passwords_and_salts_are_paid_for_too() {
        // A Secret has a mebibyte, and a file in it thousands of keys, each of which may ask for a derivation of its own.
        let (long, salt) = ("x".repeat(200 << 10), vec![0; 200 << 10]);
        for (password, salt) in [(long.as_str(), &b"salt"[..]), ("short", &salt)] {
            let (password, mut work) = (Password::new(password), Work::default());
            let derive = |_: &usize| {
                let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
                password.derived(sha1, Purpose::Key, salt, 1, 24, &mut work).is_ok()
            };
            let derived = (0..1000).take_while(derive).count();
            assert!((1..200).contains(&derived), "{derived} times");
        }
    }

    #[test]
    fn work_is_paid_before_it_is_done() {
        let mut work = Work(10);
        assert_eq!(work.pay(4, 2, 0), Ok(()));
        assert_eq!(work.pay(3, 1, 0), Err(CredentialError::CostlyPkcs12));
        assert_eq!(work.pay(2, 1, 0), Ok(()));
        assert_eq!(Work::default().pay(u32::MAX, 1, 0), Err(CredentialError::CostlyPkcs12));
    }
}
