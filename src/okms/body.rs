//! Reads the body of an answer: never more than a limit of bytes, and into memory that is overwritten when it is dropped.
//!
//! The buffers of the TLS and HTTP layers below hold parts of the body too, for as long as a read takes; they are not ours to
//! overwrite.

use zeroize::Zeroizing;

/// The largest answer of OKMS that is read, in bytes. OKMS takes secrets of up to 64 KB (OVHcloud control panel guide), 384 KB when every
/// character is escaped; metadata takes about 120 bytes for each version that is kept, of which there are 10 unless somebody asked
/// for more.
pub(super) const LIMIT: usize = 1024 * 1024;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLarge,
    Transport(reqwest::Error),
}

/// Reads the whole body, of at most so many bytes.
pub(super) async fn read(mut response: reqwest::Response, limit: usize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    let announced = usize::try_from(announced).map_err(|_| BodyError::TooLarge)?;
    let mut buffer = Buffer::with_capacity(announced, limit)?;
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Transport)? {
        buffer.push(&chunk)?;
    }
    Ok(buffer.bytes)
}

/// Bytes that leave no copy behind when they outgrow their allocation, as a growing `Vec` would.
struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Buffer {
    fn with_capacity(capacity: usize, limit: usize) -> Result<Self, BodyError> {
        if capacity > limit {
            return Err(BodyError::TooLarge);
        }
        Ok(Self { bytes: Zeroizing::new(Vec::with_capacity(capacity)), limit })
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        let needed = self.bytes.len() + chunk.len();
        if needed > self.limit {
            return Err(BodyError::TooLarge);
        }
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.capacity() * 2).min(self.limit);
            let mut larger = Self::with_capacity(capacity, self.limit)?;
            larger.bytes.extend_from_slice(&self.bytes);
            *self = larger;
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_together_whatever_was_announced() {
        for announced in [0, 3, 10_000] {
            let mut buffer = Buffer::with_capacity(announced, LIMIT).unwrap();
            for _ in 0..1000 {
                buffer.push(b"0123456").unwrap();
            }
            assert_eq!(*buffer.bytes, b"0123456".repeat(1000));
        }
    }

    #[test]
    fn the_limit_holds_for_what_is_announced_and_for_what_arrives() {
        assert!(matches!(Buffer::with_capacity(LIMIT + 1, LIMIT), Err(BodyError::TooLarge)));
        let mut buffer = Buffer::with_capacity(0, 100).unwrap();
        buffer.push(&[0; 100]).unwrap();
        assert!(matches!(buffer.push(b"x"), Err(BodyError::TooLarge)));
    }
}
