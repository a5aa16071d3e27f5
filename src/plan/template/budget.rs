//! What all templates of one Secret may cost together, and the buffer that every text they make grows in.
//!
//! Whatever a template can do spends from one [`Budget`] before it is done, so that the worst template ends soon and in little memory.
//! Texts are overwritten when they are dropped, also those that a growing buffer leaves behind.

use zeroize::Zeroizing;

use super::{super::MAX_DATA_SIZE, problem::Problem};

/// What all templates of one Secret may spend: 16 Mi units.
///
/// A unit is a byte that is read or written, at most some nanoseconds, so that bytes alone take about a tenth of a second. That is
/// sixteen passes over the largest Secret there can be; a template makes two or three. As steps it is 262144 expressions, as items
/// 131072 of a list. A byte that is written is at most three in memory, while its buffer moves to one of twice the size; an item, with
/// its text, about a hundred. So the memory is below 64 MiB whatever a template does. Measured in release, the worst templates of
/// the tests take 0.1 s and 16 MiB; only `htpasswd` takes longer, which is why it has a limit of its own.
pub(super) const BUDGET: u64 = 16 * 1024 * 1024;

/// One statement or expression, or one value that a filter looks at.
pub(super) const STEP: u64 = 64;

/// One item of a list or a map: its place there and the buffer of its text.
pub(super) const ITEM: u64 = 128;

/// What is left to spend.
pub(super) struct Budget {
    units: u64,
    /// How many bytes the results may still have.
    output: usize,
}

impl Budget {
    pub fn new() -> Self {
        Self { units: BUDGET, output: MAX_DATA_SIZE }
    }

    pub fn spend(&mut self, units: u64) -> Result<(), Problem> {
        self.units = self.units.checked_sub(units).ok_or_else(|| {
            // What is refused once stays refused, also by templates that come later.
            self.units = 0;
            Problem::new(
                "it does too much: its loops, or the texts that it makes on the way, go beyond what the templates of one Secret may \
                 do. Loop over less, or take the values apart before they are written to OKMS",
            )
        })?;
        Ok(())
    }

    pub fn spend_step(&mut self) -> Result<(), Problem> {
        self.spend(STEP)
    }

    /// For bytes that are read or written.
    pub fn spend_bytes(&mut self, bytes: usize) -> Result<(), Problem> {
        self.spend(units(bytes))
    }

    pub fn spend_items(&mut self, items: usize) -> Result<(), Problem> {
        self.spend(units(items).saturating_mul(ITEM))
    }

    /// For bytes of a result.
    pub fn spend_output(&mut self, bytes: usize) -> Result<(), Problem> {
        self.output = self.output.checked_sub(bytes).ok_or_else(|| {
            self.output = 0;
            Problem::too_large(format!(
                "what it makes, with what the templates before it made, has more than {MAX_DATA_SIZE} bytes, and that is all that \
                 Kubernetes takes: make less of it, or split the secret"
            ))
        })?;
        Ok(())
    }

    pub fn left(&self) -> u64 {
        self.units
    }
}

pub(super) fn units(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A text that is being made.
pub(super) struct Draft(Zeroizing<String>);

impl Draft {
    pub fn new() -> Self {
        Self(Zeroizing::new(String::new()))
    }

    /// A text that will have about as many bytes as this.
    pub fn sized(bytes: usize, budget: &mut Budget) -> Result<Self, Problem> {
        if units(bytes) > budget.left() {
            budget.spend_bytes(bytes)?;
        }
        Ok(Self(Zeroizing::new(String::with_capacity(bytes))))
    }

    pub fn push(&mut self, text: &str, budget: &mut Budget) -> Result<(), Problem> {
        budget.spend_bytes(text.len())?;
        let needed = self.0.len().saturating_add(text.len());
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(String::with_capacity(needed.max(self.0.capacity().saturating_mul(2))));
            larger.push_str(&self.0);
            // The smaller buffer is overwritten here; a String that grows by itself would leave it as it is.
            self.0 = larger;
        }
        self.0.push_str(text);
        Ok(())
    }

    pub fn push_char(&mut self, character: char, budget: &mut Budget) -> Result<(), Problem> {
        self.push(character.encode_utf8(&mut [0; 4]), budget)
    }

    pub fn finish(self) -> Zeroizing<String> {
        self.0
    }
}
