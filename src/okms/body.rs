//! Reads the body of an answer: never more than [`LIMIT`] bytes, and into memory that is overwritten when it is dropped.
//!
//! The buffers of the TLS and HTTP layers below hold parts of the body too, for as long as a read takes; they are not ours to
//! overwrite.

use zeroize::Zeroizing;

/// The largest answer that is read, in bytes. OKMS takes secrets of up to 64 KB (OVHcloud control panel guide), 384 KB when every
/// character is escaped; metadata takes about 120 bytes for each version that is kept, of which there are 10 unless somebody asked
/// for more.
pub(super) const LIMIT: usize = 1024 * 1024;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLarge,
    Transport(reqwest::Error),
}

/// Reads the whole body.
pub(super) async fn read(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    let announced = usize::try_from(announced).map_err(|_| BodyError::TooLarge)?;
    let mut buffer = Buffer::with_capacity(announced)?;
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Transport)? {
        buffer.push(&chunk)?;
    }
    Ok(buffer.0)
}

/// Bytes that leave no copy behind when they outgrow their allocation, as a growing `Vec` would.
struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    fn with_capacity(bytes: usize) -> Result<Self, BodyError> {
        if bytes > LIMIT {
            return Err(BodyError::TooLarge);
        }
        Ok(Self(Zeroizing::new(Vec::with_capacity(bytes))))
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        let needed = self.0.len() + chunk.len();
        if needed > LIMIT {
            return Err(BodyError::TooLarge);
        }
        if needed > self.0.capacity() {
            let mut larger = Self::with_capacity(needed.max(self.0.capacity() * 2).min(LIMIT))?;
            larger.0.extend_from_slice(&self.0);
            *self = larger;
        }
        self.0.extend_from_slice(chunk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_together_whatever_was_announced() {
        for announced in [0, 3, 10_000] {
            let mut buffer = Buffer::with_capacity(announced).unwrap();
            for _ in 0..1000 {
                buffer.push(b"0123456").unwrap();
            }
            assert_eq!(*buffer.0, b"0123456".repeat(1000));
        }
    }

    #[test]
    fn the_limit_holds_for_what_is_announced_and_for_what_arrives() {
        assert!(matches!(Buffer::with_capacity(LIMIT + 1), Err(BodyError::TooLarge)));
        let mut buffer = Buffer::with_capacity(0).unwrap();
        buffer.push(&vec![0; LIMIT]).unwrap();
        assert!(matches!(buffer.push(b"x"), Err(BodyError::TooLarge)));
    }
}
